"""Run the campaign: ``python tests/torture``; see ``campaign``."""

import sys
from pathlib import Path

sys.path[0] = str(Path(__file__).resolve().parents[1])  # this package, and what tests share

if __name__ == "__main__":
    from torture.campaign import main

    sys.exit(main())
