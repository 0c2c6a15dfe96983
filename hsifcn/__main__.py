"""``python -m hsifcn``: the command line."""

from hsifcn.cli import main

main()
