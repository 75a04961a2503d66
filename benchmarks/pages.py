"""Pages of figures: blocks that each begin with a line that no other has, and are replaced one by one."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable
from pathlib import Path


def blocks_of(page: Path, mark: str) -> dict[str, str]:
    """Return the blocks of a page as it is, by their first lines, which begin with ``mark``."""
    if not page.exists():
        return {}
    found = [mark + block.rstrip() + "\n" for block in ("\n" + page.read_text()).split("\n" + mark)[1:]]
    return {block.splitlines()[0]: block for block in found}


def write(page: Path, head: str, blocks: Iterable[str], place: Callable[[str], int]) -> None:
    """Write a page anew: its head, and its blocks in the order of their places."""
    page.write_text("\n".join([head, *sorted(blocks, key=place)]))


def fenced(lines: Iterable[str]) -> str:
    """Return what was printed, as it stands on a page."""
    whole = "\n".join(line.rstrip() for line in lines)
    return f"```\n{whole}\n```\n"


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
        (arguments.out / name).write_text(f"{head}\n{fenced(found)}")
