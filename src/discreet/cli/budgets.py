"""``discreet budget``: what may be spent, and what was."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from discreet.cli.data import DEFAULT_LEDGER, LEDGER, LedgerPlace, there
from discreet.cli.output import Json, say, say_json, screen, table

if TYPE_CHECKING:
    from discreet.governance.ledger import Account, AccountState
    from discreet.governance.pacing import Outlook

budget, ledger = typer.Typer(no_args_is_help=True), typer.Typer(no_args_is_help=True)

Window = Annotated[
    str | None,
    typer.Option("--window", help="Year, month or day (2024-05): protects what people did in it, at its own price."),
]
ByInteraction = Annotated[
    bool, typer.Option("--by-interaction", help="A budget of single choices, as for trending lists, not of people.")
]
PURPOSE = "train-recommender"
COLUMNS = ("epsilon", "delta", "spent", "left", "used", "releases", "until")
WIDEST = 10_000
FILES = (".parquet", ".csv", ".tsv", ".txt")


@budget.command("open")
def open_(
    dataset: Annotated[str, typer.Argument(help="Name of the data set, or the file of an imported one.")],
    epsilon: Annotated[float, typer.Option("--epsilon", help="All that may ever be spent, in nats.")],
    delta: Annotated[
        float | None, typer.Option("--delta", help="At which epsilons are read. From a file: min(1e-5, people^-1.1).")
    ] = None,
    purpose: Annotated[str, typer.Option("--purpose", help="What the budget is for.")] = PURPOSE,
    person_epsilon: Annotated[
        float | None, typer.Option("--person-epsilon", help="Cap of each person, over all purposes of the data set.")
    ] = None,
    until: Annotated[str | None, typer.Option("--until", help="Last moment of the budget (ISO 8601, UTC).")] = None,
    window: Window = None,
    by_interaction: ByInteraction = False,
    ledger: LedgerPlace = DEFAULT_LEDGER,
) -> None:
    """Open a budget, once. It is never reset, and what is spent is never given back."""
    from discreet.governance.ledger import Ledger
    from discreet.governance.places import file_of

    name, agreed = _name_and_delta(dataset, delta, purpose, window)
    with Ledger(ledger) as book:
        account = account_of(name, purpose, window, by_interaction)
        state = book.open_budget(account, epsilon=epsilon, delta=agreed, person_epsilon=person_epsilon, until=until)
    where = file_of(ledger) or book.name
    say(f"open: {state.account}, epsilon {state.epsilon:g} at delta {state.delta:.3g}, in {where}")


@budget.command()
def pace(
    dataset: Annotated[str, typer.Argument(help="Name of the data set, or the file of an imported one.")],
    rule: Annotated[str, typer.Argument(help="fixed, quality, decaying, or off.")],
    per_year: Annotated[int, typer.Option("--per-year", help="Releases a year.")] = 12,
    until: Annotated[
        str | None,
        typer.Option("--until", help="fixed: until when it is to last; by default the budget's own end."),
    ] = None,
    epsilon: Annotated[
        float | None, typer.Option("--epsilon", help="quality: of each release. decaying: of the least worth having.")
    ] = None,
    gains: Annotated[
        Path | None, typer.Option("--gains", help="quality: what `tradeoff --keep` published, in place of --epsilon.")
    ] = None,
    keep: Annotated[str | None, typer.Option("--keep", help="quality: with --gains, the share to keep.")] = None,
    share: Annotated[
        str | None, typer.Option("--share", help="decaying: of what is left, what each release may take.")
    ] = None,
    purpose: Annotated[str, typer.Option("--purpose", help="What the budget is for.")] = PURPOSE,
    window: Window = None,
    by_interaction: ByInteraction = False,
    ledger: LedgerPlace = DEFAULT_LEDGER,
    as_json: Json = False,
) -> None:
    """Hold a budget to a pace: no release may cost more than it allows by then. Each change is on record."""
    from discreet.cli.pacing import Asked, chosen_rule
    from discreet.governance.ledger import Ledger

    account = account_of(_name(dataset), purpose, window, by_interaction)
    asked = Asked(rule, per_year, until, epsilon, gains, keep, share)
    with Ledger(ledger, create=False) as book:
        state = book.account(account)
        outlook = book.set_pace(account, chosen_rule(asked, state), per_year=per_year)
    if as_json:
        say_json({"account": str(account)} | outlook.to_dict())
    else:
        say(said(state, outlook))


@budget.command()
def show(
    ledger: LedgerPlace = DEFAULT_LEDGER,
    at: Annotated[
        str | None, typer.Option("--at", help="Look ahead: what may be spent at that time (ISO 8601, UTC).")
    ] = None,
    as_json: Json = False,
) -> None:
    """Show each budget, what is left of it and for how long, and releases that were charged but not finished."""
    from discreet.governance.ledger import Ledger

    with Ledger(ledger, create=False) as book:
        states, releases = book.accounts(), book.releases()
        outlooks = [book.outlook(state.account, at=at) for state in states]
    if as_json:
        accounts = [
            state.to_dict() | {"outlook": outlook.to_dict()} for state, outlook in zip(states, outlooks, strict=True)
        ]
        say_json({"accounts": accounts, "releases": [made.to_dict() for made in releases]})
        return
    show_budgets(states)
    for state, outlook in zip(states, outlooks, strict=True):
        if outlook.pace or outlook.lasts_until != state.until or at:
            say(said(state, outlook))
    for made in releases:
        if made.state == "reserved":
            say(f"charged, not finished: {made.release} of {made.account}; repeat it with --release {made.release}")


@ledger.callback()
def _ledger() -> None:
    """Bring an older ledger to this version."""


@ledger.command()
def upgrade(
    ledger: Annotated[
        str,
        typer.Argument(envvar=LEDGER, help="The ledger: a file, or postgresql+psycopg://USER@HOST/DATABASE."),
    ] = DEFAULT_LEDGER,
) -> None:
    """Bring a ledger of an older version to this one, in one transaction. All in it stays; the journal tells of it."""
    from discreet.governance.schema import VERSION
    from discreet.governance.upgrade import upgrade as bring

    found = bring(ledger)
    if found == str(VERSION):
        say(f"it has version {VERSION} already: nothing was done")
    else:
        say(
            f"upgraded from version {found} to {VERSION}; run `discreet journal verify` and keep the new head elsewhere"
        )


def show_budgets(states: list[AccountState]) -> None:
    """Print a table of budgets. Percentages are of units of mu^2, which add up; epsilons do not."""
    if not states:
        say("no budget is open: open one with `discreet budget open`")
        return
    shown = table("Budgets", "account", *COLUMNS)
    for state in states:
        shown.add_row(str(state.account), *_cells(state))
    if screen.measure(shown, options=screen.options.update(width=WIDEST)).maximum <= screen.width:
        screen.print(shown)
        return
    for state in states:  # too narrow for a table of all: an account's name is never broken in two
        say(str(state.account), "bold")
        alone = table("", *COLUMNS)
        alone.add_row(*_cells(state))
        screen.print(alone)


def said(state: AccountState, outlook: Outlook) -> str:
    """Return what a budget allows, and until when it lasts, in a few short lines."""
    from discreet.privacy.accounting import epsilon_of

    price = f"up to epsilon {epsilon_of(outlook.next_cost, state.delta):.3f} ({outlook.next_cost:,} units)"
    lines = [f"{state.account}: {outlook.pace or 'no pace'}", f"next release, from {_day(outlook.at)}: {price}"]
    if outlook.more_from:
        lines.append(f"more may be spent from {_day(outlook.more_from)}")
    if outlook.lasts_until:
        lines.append(f"at this pace it lasts until {_day(outlook.lasts_until)}")
    return "\n  ".join(lines)


def _day(time: str) -> str:
    return time.partition("T")[0]


def _cells(state: AccountState) -> list[str]:
    from discreet.privacy.accounting import epsilon_of

    return [
        f"{state.epsilon:g}",
        f"{state.delta:.3g}",
        f"{state.epsilon_spent:.3f}",
        f"{epsilon_of(state.left, state.delta):.3f}",
        f"{state.spent / state.cap:.0%}",
        str(state.releases),
        state.until or "no end",
    ]


def account_of(dataset: str, purpose: str, window: str | None, by_interaction: bool = False) -> Account:
    """Return the account of a data set, purpose and, perhaps, window; of people, or of single choices."""
    from discreet.governance.ledger import Account
    from discreet.privacy.adjacency import Window

    return Account(dataset, purpose, None if window is None else Window(window), by_interaction)


def _name_and_delta(dataset: str, delta: float | None, purpose: str, window: str | None) -> tuple[str, float]:
    from discreet.errors import SettingError
    from discreet.privacy.accounting import check_delta, default_delta

    if not _is_file(dataset):
        if delta is None:
            raise SettingError(f"{dataset} is a name, not a file: give --delta, below one over the number of people")
        return dataset, delta
    from discreet.data.intake import read_interactions

    data = read_interactions(Path(dataset), window=window)
    data.check_purpose(purpose)  # a budget for what the data may not be used for could never be spent
    if delta is not None:
        check_delta(delta, data.people)
    return data.name, default_delta(data.people) if delta is None else delta


def _name(dataset: str) -> str:
    from discreet.data.intake import read_interactions

    return read_interactions(Path(dataset)).name if _is_file(dataset) else dataset


def _is_file(dataset: str) -> bool:
    from discreet.errors import SettingError

    if there(Path(dataset)):
        return Path(dataset).is_file()
    if "/" in dataset or dataset.endswith(FILES):
        raise SettingError(f"{dataset}: no such file; give the file of a data set, or a name without '/' or ending")
    return False
