"""All commands under one name, and how each of them ends: in one line, whatever happens."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from io import TextIOWrapper
from types import TracebackType
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

import discreet
from discreet.cli import (
    advise,
    attack,
    audit,
    between,
    budgets,
    data,
    demo,
    disclose,
    federated,
    incidents,
    inference,
    journal,
    models,
    people,
    risk,
    serving,
    training,
)
from discreet.cli.output import complain, hush, say, unwritten
from discreet.errors import DiscreetError, FileNotWritten
from discreet.governance.places import NAMED

BROKEN_PIPE = 141
"""What a shell shows of a command that wrote to a pipe nobody reads."""


class Stopped(Exception):
    """Ctrl-C, under a name that typer does not take for its own."""


class Front(TyperGroup):
    """The commands, without typer's own words for an interrupt or a closed pipe."""

    def make_context(self, *args: Any, **kwargs: Any) -> Any:
        """Parse; help is printed here."""
        with _plainly():
            return super().make_context(*args, **kwargs)

    def invoke(self, *args: Any, **kwargs: Any) -> Any:
        """Run the command."""
        with _plainly():
            return super().invoke(*args, **kwargs)


app = typer.Typer(
    name="discreet",
    cls=Front,
    help="Recommendations that keep a secret: train, measure and bill private recommenders.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.add_typer(data.app, name="data", help="Fetch, check and import interactions.")
app.command()(training.train)
app.command()(models.evaluate)
app.command()(models.tradeoff)
app.command()(risk.risk)
app.command()(models.recommend)
app.command()(models.explain)
app.command()(models.card)
app.add_typer(budgets.budget, name="budget", help="Open budgets and see what is left of them.")
app.add_typer(budgets.ledger, name="ledger", help="Bring an older ledger to this version.")
app.add_typer(journal.app, name="journal", help="The record: replay it, sign its head, prove what is in it.")
app.add_typer(federated.app, name="federated", help="Train where the data stays with many parties.")
app.add_typer(inference.app, name="inference", help="Make lists without seeing histories.")
app.add_typer(between.app, name="between", help="Between organisations: intersections and ensembles.")
app.command()(advise.advise)
app.command()(audit.audit)
app.command("audit-model")(audit.audit_model)
app.command()(attack.attack)
app.command()(disclose.disclose)
app.command()(serving.serve)
app.add_typer(incidents.app, name="incident", help="What went wrong, and whether an authority was told in time.")
app.add_typer(
    people.app, name="people", help="Events, one person at the desk, keys, the inventory and the risks of a service."
)
app.command()(demo.demo)


def _tell_version(wanted: bool) -> None:
    if wanted:
        say(f"discreet {discreet.__version__}")
        raise typer.Exit


@app.callback()
def _front(
    version: Annotated[
        bool, typer.Option("--version", callback=_tell_version, is_eager=True, help="Show the version and exit.")
    ] = False,
    witness: Annotated[
        str | None,
        typer.Option(
            "--witness",
            envvar=NAMED,
            help="File of signed heads, outside the database: what was rolled back is refused, what is new is kept.",
        ),
    ] = None,
) -> None:
    del version
    if witness:
        os.environ[NAMED] = witness  # also for the processes that this one starts


def run() -> None:
    """Run the command line. Expected errors are one line and their own exit code; others are one line and 1."""
    sys.excepthook = _one_line
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="replace")  # where letters are ASCII, a title with others is still shown
    try:
        _check_output()
        typer.main.get_command(app)()  # calling the app itself would put typer's own hook in place
    except Stopped:
        raise KeyboardInterrupt from None
    except DiscreetError as error:
        complain(error)
        sys.exit(error.exit_code)
    finally:
        hush()


def _check_output() -> None:
    if vars(sys)["stdout"] is None:  # closed before the program began
        raise FileNotWritten("standard output cannot be written: it is closed")


@contextmanager
def _plainly() -> Iterator[None]:
    try:
        yield
    except KeyboardInterrupt:
        raise Stopped from None
    except BrokenPipeError:
        raise SystemExit(BROKEN_PIPE) from None
    except OSError as error:
        if _innermost(error.__traceback__).partition(".")[0] not in {"typer", "click"}:
            raise
        raise unwritten(error) from None  # typer itself writes nothing but help


def _innermost(trace: TracebackType | None) -> str:
    name = ""
    while trace is not None:
        name, trace = str(trace.tb_frame.f_globals.get("__name__")), trace.tb_next
    return name


def _one_line(kind: type[BaseException], _: BaseException, trace: TracebackType | None) -> None:
    """Report a defect of ours without a stack trace: a trace may quote what people did."""
    place = trace
    while place is not None and place.tb_next is not None:
        place = place.tb_next
    where = f" at {place.tb_frame.f_code.co_filename.rsplit('discreet/', 1)[-1]}:{place.tb_lineno}" if place else ""
    complain(f"this is a defect of discreet, please report it: {kind.__name__}{where}")
