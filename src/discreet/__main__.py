"""``python -m discreet``: the command, where the script is not on the path."""

from discreet.cli import main

main()
