"""A command that ends when its parent does: ``python -P -m hsifcn.cli.attended train cube.mat``.

It is interrupted then as by Ctrl-C, so that training leaves a checkpoint.
"""

from __future__ import annotations

from hsifcn.core.process import end_with_parent

GRACE_S = 60.0  # seconds for the checkpoint

if __name__ == "__main__":
    end_with_parent(GRACE_S)
    from hsifcn.cli import main

    main()
