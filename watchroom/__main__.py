"""``python -m watchroom`` is the command ``watchroom``."""

from watchroom.cli import main

main()
