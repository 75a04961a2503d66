"""How the command line speaks: tables for people, JSON for programs, one line for errors."""

from __future__ import annotations

import json
import os
import sys
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.segment import Segment, Segments
from rich.table import Table

from discreet.errors import FileNotWritten

Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]

REPLACED = "\N{REPLACEMENT CHARACTER}"


class Pipe(Console):
    """Standard output: a closed pipe is left to the command's end, any other failure is told in a line."""

    def print(self, *objects: Any, **options: Any) -> None:
        """Print."""
        try:
            super().print(*objects, **options)
        except BrokenPipeError:
            raise
        except OSError as error:
            raise unwritten(error) from None

    def on_broken_pipe(self) -> None:
        """Do not exit here."""
        raise BrokenPipeError


class Aside(Console):
    """Standard error: if it cannot be written, work goes on without it."""

    def print(self, *objects: Any, **options: Any) -> None:
        """Print, if that is possible."""
        with suppress(OSError):
            super().print(*objects, **options)

    def on_broken_pipe(self) -> None:
        """Say nothing more."""
        self.quiet = True


# Titles and names are the caller's: brackets or :words: in them are no markup.
screen = Pipe(highlight=False, markup=False, emoji=False)
errors = Aside(stderr=True, highlight=False, markup=False, emoji=False)


class Cells(Table):
    """A table whose cells are text, and nothing that a terminal would obey."""

    def add_row(self, *cells: Any, **options: Any) -> None:
        """Add a row."""
        super().add_row(*[printable(str(cell)) for cell in cells], **options)


def printable(text: str) -> str:
    """Return ``text`` on one line, without what moves a cursor, colours a terminal or turns the writing round."""
    return "".join(_shown(sign) for sign in text)


def _shown(sign: str) -> str:
    kind = unicodedata.category(sign)
    return " " if kind == "Zs" else REPLACED if kind[0] == "C" or kind in {"Zl", "Zp"} else sign


def _lines(text: str) -> str:
    return "\n".join(printable(line) for line in text.split("\n"))


def complain(message: object) -> None:
    """Print one line on standard error."""
    errors.print(f"error: {printable(' '.join(str(message).split()))}", style="bold red", soft_wrap=True)


def note(text: str) -> None:
    """Print a line on standard error that is no error: standard output may be read by a program."""
    errors.print(printable(text), soft_wrap=True)


def say_charged(release: str) -> None:
    """Tell on standard error under which id something was charged, as soon as it is."""
    note(f"release {release} is charged: if this run fails, repeat it with --release {release}, at no further charge")


def say(text: str, style: str | None = None) -> None:
    """Print a line for a person; never wraps a path in two."""
    screen.print(_lines(text), style=style, soft_wrap=True)


def say_json(document: Any) -> None:
    """Print a JSON document. A number that JSON does not have must be None already."""
    screen.print(json.dumps(document, indent=2, allow_nan=False), soft_wrap=True)


def say_file(text: str) -> None:
    """Print what is in a file as it is there, so that it can be written to another."""
    screen.print(Segments([Segment(text)]), soft_wrap=True, end="")


def table(title: str, *columns: str) -> Table:
    """Return an empty table: first column left, others right."""
    made = Cells(title=printable(title), title_justify="left", title_style="bold", box=SIMPLE_HEAD, pad_edge=False)
    for number, column in enumerate(columns):
        made.add_column(column, justify="right" if number else "left", overflow="fold")
    return made


def unwritten(error: OSError) -> FileNotWritten:
    """Return the error of a standard output that is full or closed."""
    return FileNotWritten(f"standard output cannot be written: {error.strerror}")


def hush() -> None:
    """Drop what the standard streams did not take: at the end the interpreter would try again, and complain."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            with suppress(OSError), Path(os.devnull).open("wb") as nowhere:
                os.dup2(nowhere.fileno(), stream.fileno())
        except (AttributeError, ValueError):  # closed from the beginning, or by now
            continue


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
