"""Run the campaign: ``python tests/torture``; see ``campaign``."""

import sys
from pathlib import Path

TESTS = Path(__file__).resolve().parents[1]
sys.path[:1] = [str(TESTS.parent), str(TESTS)]  # hsifcn, this package, and what tests share

if __name__ == "__main__":
    from torture.campaign import main

    sys.exit(main())
