"""Write docs/cli.md from the help of every command: run it after changing one, a test compares.

python scripts/write_cli_docs.py
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer
from typer.core import TyperGroup

from discreet.cli.commands import app

PAGE = Path(__file__).parents[1] / "docs/cli.md"
HEAD = """# Commands

Made from the commands' own help by `scripts/write_cli_docs.py`. Exit codes: 0 done, 1 error, 2 usage, 3 a privacy check
failed, 4 refused for lack of budget. `NO_COLOR` is respected.
"""


def page() -> str:
    """Return the page."""
    command = typer.main.get_command(app)
    sections = [f"## {path}\n\n```\n{text}\n```\n" for path, text in helps(command, "discreet", None)]
    return "\n".join([HEAD, *sections])


def helps(command: Any, path: str, parent: typer.Context | None) -> Iterator[tuple[str, str]]:
    """Yield the name and the help of a command and of all below it."""
    name, settings = path.rsplit(maxsplit=1)[-1], command.context_settings
    context = typer.Context(command, info_name=name, parent=parent, terminal_width=100, **settings)
    yield path, command.get_help(context).strip()
    if isinstance(command, TyperGroup):
        for name, child in command.commands.items():
            yield from helps(child, f"{path} {name}", context)


if __name__ == "__main__":
    PAGE.write_text(page())
