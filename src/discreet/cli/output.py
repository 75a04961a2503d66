"""How the command line speaks: tables for people, JSON for programs, one line for errors."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]

screen = Console(highlight=False)
errors = Console(stderr=True, highlight=False)


def complain(message: object) -> None:
    """Print one line on standard error."""
    errors.print(f"error: {' '.join(str(message).split())}", style="bold red", markup=False, soft_wrap=True)


def say(text: str, style: str | None = None) -> None:
    """Print a line for a person; never wraps a path in two, never reads markup in data."""
    screen.print(text, style=style, markup=False, soft_wrap=True)


def say_json(document: Any) -> None:
    """Print a JSON document; a number that JSON does not have is null."""
    screen.print(json.dumps(document, indent=2, allow_nan=False), markup=False, soft_wrap=True)


def table(title: str, *columns: str) -> Table:
    """Return an empty table: first column left, others right."""
    made = Table(title=title, title_justify="left", title_style="bold", header_style="bold", pad_edge=False)
    for number, column in enumerate(columns):
        made.add_column(column, justify="right" if number else "left")
    return made


@contextmanager
def progress() -> Iterator[Progress]:
    """Show bars on standard error while something takes its time; none where nobody looks."""
    with Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.completed:g}/{task.total:g}"),
        TimeElapsedColumn(),
        console=errors,
        transient=True,
        disable=not errors.is_terminal,
    ) as bars:
        yield bars
