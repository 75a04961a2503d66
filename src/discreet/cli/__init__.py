"""The command ``discreet``: one command per act. It decides nothing; it calls what the library calls."""

from __future__ import annotations

import sys
from contextlib import suppress


def main() -> None:
    """Run the command line. Nothing is imported before: also an early Ctrl-C ends in one line and exit code 130."""
    try:
        from discreet.cli.commands import run

        run()
    except KeyboardInterrupt:
        with suppress(AttributeError, OSError):  # standard error may be closed
            sys.stderr.write("interrupted\n")
        sys.exit(130)
