"""``discreet tradeoff --keep``: the smallest epsilon that keeps a share of the gain, its price first."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, cast

from discreet.cli.data import there
from discreet.cli.output import note, progress, say, say_charged, say_json, screen, table

if TYPE_CHECKING:
    from collections.abc import Sequence

    from discreet.data.interactions import Histories
    from discreet.evaluation.gains import Answer, Gains
    from discreet.evaluation.search import Search
    from discreet.governance.ledger import AccountState, Ledger
    from discreet.models.recipe import Kind


def share_of(text: str, option: str = "--keep") -> float:
    """Return the share, 0.75, that somebody writes as ``75%`` or ``0.75``.

    Raises:
        SettingError: it is no share above 0 and at most 1.
    """
    from discreet.errors import SettingError

    number, percent = text.removesuffix("%"), text.endswith("%")
    try:
        share = float(number) / (100 if percent else 1)
    except ValueError:
        share = math.nan
    if not 0 < share <= 1:
        raise SettingError(f"{option} is a share above 0 and at most 1, such as 75% or 0.75, got {text!r}")
    return share


def planned(
    histories: Histories, delta: float, epsilons: Sequence[float] | None, kinds: Sequence[str] | None
) -> Search:
    """Return the search that is asked for, with its price.

    Raises:
        SettingError: more than one kind of model was asked for, or the epsilons are no grid.
    """
    from discreet.errors import SettingError
    from discreet.evaluation.search import GRID, Search
    from discreet.privacy.records import weights_of

    if kinds and len(kinds) > 1:
        raise SettingError("--keep searches with one kind of model: give --model once")
    kind = cast("Kind", kinds[0] if kinds else "auto")
    grid = tuple(sorted(epsilons)) if epsilons else GRID
    catalogue, weights = histories.catalogue, weights_of(histories.catalogue.sensitive, None)
    return Search(len(histories), len(catalogue), delta, grid, kind, tagged=catalogue.tagged, weights=weights)


def show_price(
    histories: Histories, ledger: str, epsilons: Sequence[float] | None, kinds: Sequence[str] | None, as_json: bool
) -> None:
    """Say what a search would cost; no budget has to be open, and nothing is charged."""
    from discreet.governance.ledger import Ledger
    from discreet.governance.places import file_of
    from discreet.privacy.accounting import default_delta

    state, file = None, file_of(ledger)
    if file is None or there(file):
        with Ledger(ledger, create=False) as book:
            state = _state(book, histories)
    search = planned(histories, state.delta if state else default_delta(len(histories)), epsilons, kinds)
    if as_json:
        facts = {"account": _account(histories), "units": search.cost, "epsilon": search.guarantee().epsilon}
        say_json(facts | {"delta": search.delta, "left": state.left if state else None})
    else:
        say(_priced(histories, search, state))


def keep_share(histories: Histories, share: float, ledger: str, asked: dict[str, Any], as_json: bool) -> None:
    """Search, and print the answer. ``asked`` holds epsilons, kinds, release and out."""
    from discreet.errors import AccountMissing
    from discreet.evaluation.search import search_gains
    from discreet.governance.ledger import Ledger

    with Ledger(ledger, create=False) as book:
        state = _state(book, histories)
        if state is None:
            raise AccountMissing(
                f"no budget is open for {_account(histories)}: --price says what a search costs, and `discreet budget "
                "open --purpose measure-quality` opens one"
            )
        search = planned(histories, state.delta, asked.pop("epsilons"), asked.pop("kinds"))
        if asked["release"] is None:
            note(_priced(histories, search, state))
        with progress() as bars:
            bar = bars.add_task("searching", total=len(search.epsilons))
            found = search_gains(
                histories,
                ledger=book,
                epsilons=search.epsilons,
                kind=search.kind,
                progress=lambda done, _: bars.update(bar, completed=done),
                reserved=say_charged,
                **asked,
            )
    answer = found.smallest(share)
    if as_json:
        say_json(vars(answer) | {"reference": found.reference, "figures_are_private": True, "gains": found.to_dict()})
        return
    _show(found, answer)


def _show(found: Gains, answer: Answer) -> None:
    shown = table(f"Gain over popularity in recall@20, on {found.measured:,} people", "epsilon", "gain", "share kept")
    rows = zip(found.epsilons, found.mean, found.covariance.diagonal(), found.shares, found.errors, strict=True)
    for epsilon, gain, variance, share, error in rows:
        kept = "" if math.isnan(share) else f"{share:.0%} ±{error:.0%}" if error else f"{share:.0%}"
        shown.add_row(f"{epsilon:g}", f"{gain:.4f} ±{math.sqrt(variance):.4f}", kept)
    screen.print(shown)
    say(_said(found, answer))
    say(
        f"Shares are of the gain at epsilon {found.reference:g}, the largest that was tried: the gain without noise is "
        "not private, so it is not told. ± is a standard error: of who was measured, and of the noise.",
        "dim",
    )
    guarantee = found.guarantee
    say(f"The whole search is {guarantee.claim}" if guarantee.private else guarantee.sentence)


def _said(found: Gains, answer: Answer) -> str:
    if answer.epsilon is None or answer.low is None or answer.high is None:
        return f"No clear gain: even at epsilon {found.reference:g} these lists find about what popularity finds"
    least = "at most " if answer.epsilon == found.epsilons[0] else ""
    return (
        f"Epsilon {least}{answer.epsilon:.2f} keeps {answer.keep:.0%} of the gain; with 95 % confidence, between "
        f"{answer.low:.2f} and {answer.high:.2f}"
    )


def _priced(histories: Histories, search: Search, state: AccountState | None) -> str:
    from discreet.privacy.accounting import epsilon_of

    price = (
        f"this search costs epsilon {search.guarantee().epsilon:.3f} ({search.cost:,} units) of {_account(histories)}"
    )
    if state is None:
        return f"{price}, which has no budget yet"
    return f"{price}, of which epsilon {epsilon_of(state.left, state.delta):.3f} is left"


def _account(histories: Histories) -> str:
    return f"{histories.dataset}/{histories.purpose}"


def _state(book: Ledger, histories: Histories) -> AccountState | None:
    return next((state for state in book.accounts() if str(state.account) == _account(histories)), None)
