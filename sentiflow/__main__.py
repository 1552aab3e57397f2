"""``python -m sentiflow``: the console script."""

from sentiflow.cli.app import main

main()
