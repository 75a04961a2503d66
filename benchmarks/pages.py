"""A benchmark's page: what it printed."""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from pathlib import Path


def printed(about: str | None, name: str, head: str, lines: Iterable[str]) -> None:
    """Print lines as they come; with ``--out``, write them into a page, too.

    Args:
        about: the script, for ``--help``.
        name: of the page, in the folder that ``--out`` names.
        head: of the page, Markdown.
        lines: what is measured.
    """
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, help=f"folder for {name}")
    arguments = parser.parse_args()
    found = []
    for line in lines:
        print(line, flush=True)
        found.append(line)
    if arguments.out:
        (arguments.out / name).write_text("\n".join([head, "```", *found, "```\n"]))
