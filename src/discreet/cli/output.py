"""How the command line speaks: tables for people, JSON for programs, one line for errors."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Any

import typer
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]

# Titles and names are the caller's: brackets or :words: in them are no markup.
screen = Console(highlight=False, markup=False, emoji=False)
errors = Console(stderr=True, highlight=False, markup=False, emoji=False)


def complain(message: object) -> None:
    """Print one line on standard error."""
    errors.print(f"error: {' '.join(str(message).split())}", style="bold red", soft_wrap=True)


def say(text: str, style: str | None = None) -> None:
    """Print a line for a person; never wraps a path in two."""
    screen.print(text, style=style, soft_wrap=True)


def say_json(document: Any) -> None:
    """Print a JSON document. A number that JSON does not have must be None already."""
    screen.print(json.dumps(document, indent=2, allow_nan=False), soft_wrap=True)


def table(title: str, *columns: str) -> Table:
    """Return an empty table: first column left, others right."""
    made = Table(title=title, title_justify="left", title_style="bold", box=SIMPLE_HEAD, pad_edge=False)
    for number, column in enumerate(columns):
        made.add_column(column, justify="right" if number else "left", overflow="fold")
    return made


@contextmanager
def progress() -> Iterator[Progress]:
    """Show bars on standard error while something takes its time; none where nobody looks."""
    with Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=errors,
        transient=True,
        disable=not errors.is_terminal,
    ) as bars:
        yield bars
