"""The command ``discreet``: one command per act. It decides nothing; it calls what the library calls."""

from __future__ import annotations

import sys
from io import TextIOWrapper
from types import TracebackType

import typer

from discreet.cli import budgets, data, demo, models
from discreet.cli.output import complain
from discreet.errors import DiscreetError

app = typer.Typer(
    name="discreet",
    help="Recommendations that keep a secret: train, measure and bill private recommenders.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
app.add_typer(data.app, name="data", help="Fetch, check and import interactions.")
app.command()(models.train)
app.command()(models.evaluate)
app.command()(models.tradeoff)
app.command()(models.recommend)
app.command()(models.card)
app.add_typer(budgets.budget, name="budget", help="Open budgets and see what is left of them.")
app.add_typer(budgets.ledger, name="ledger", help="Replay the ledger's journal.")
app.command()(demo.demo)


def main() -> None:
    """Run the command line. Expected errors are one line and their own exit code; others are one line and 1."""
    sys.excepthook = _one_line
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="replace")  # where letters are ASCII, a title with others is still shown
    try:
        typer.main.get_command(app)()  # calling the app itself would put typer's own hook in place
    except DiscreetError as error:
        complain(error)
        sys.exit(error.exit_code)


def _one_line(kind: type[BaseException], _: BaseException, trace: TracebackType | None) -> None:
    """Report a defect of ours without a stack trace: a trace may quote what people did."""
    place = trace
    while place is not None and place.tb_next is not None:
        place = place.tb_next
    where = f" at {place.tb_frame.f_code.co_filename.rsplit('discreet/', 1)[-1]}:{place.tb_lineno}" if place else ""
    complain(f"this is a defect of discreet, please report it: {kind.__name__}{where}")
