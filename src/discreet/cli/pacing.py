"""``discreet budget pace``: from what somebody writes to a rule in whole units."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from discreet.cli.search import share_of

if TYPE_CHECKING:
    from discreet.governance.ledger import AccountState
    from discreet.governance.pacing import Rule

Given = TypeVar("Given", str, float)

OPTIONS = {
    "fixed": {"until"},
    "quality": {"epsilon", "gains", "keep"},
    "decaying": {"epsilon", "share"},
    "off": set[str](),
}


class Asked(NamedTuple):
    """What stands on the command line; None is not given."""

    rule: str
    per_year: int
    until: str | None
    epsilon: float | None
    gains: Path | None
    keep: str | None
    share: str | None


def chosen_rule(asked: Asked, state: AccountState) -> Rule | None:
    """Return the rule that is asked for, at the budget's own delta; None for ``off``.

    Raises:
        SettingError: it is unknown, lacks an option, or has one of another rule.
    """
    from discreet.governance.pacing import Decaying, Fixed, Quality
    from discreet.privacy.accounting import cap

    _check_options(asked)
    if asked.rule == "off":
        return None
    if asked.rule == "fixed":
        return Fixed(_slots(asked, state))
    if asked.rule == "quality":
        return Quality(cap(_wanted(asked), state.delta))
    epsilon = _needed(asked.epsilon, "--epsilon, of the smallest release that is worth having")
    per_mille = round(1_000 * share_of(_needed(asked.share, "--share, such as 20%"), "--share"))
    return Decaying(per_mille, cap(epsilon, state.delta))


def _check_options(asked: Asked) -> None:
    from discreet.errors import SettingError

    if asked.rule not in OPTIONS:
        raise SettingError(f"unknown rule {asked.rule!r} of a pace: choose {', '.join(OPTIONS)}")
    given = {name for name in ("until", "epsilon", "gains", "keep", "share") if getattr(asked, name) is not None}
    for name in sorted(given - OPTIONS[asked.rule]):
        raise SettingError(f"--{name} is no option of the rule {asked.rule}: leave it out")


def _slots(asked: Asked, state: AccountState) -> int:
    from discreet.governance.checks import now
    from discreet.governance.pacing import slots_until

    until = asked.until or state.until
    return slots_until(now(), _needed(until, "--until, since the budget has no end"), asked.per_year)


def _wanted(asked: Asked) -> float:
    """Return the epsilon that is asked for, or that a published search found."""
    from discreet.errors import SettingError
    from discreet.evaluation.gains import Gains

    if asked.gains is None:
        if asked.keep is not None:
            raise SettingError("--keep is read off what a search published: give --gains too")
        return _needed(asked.epsilon, "--epsilon, or --gains and --keep")
    if asked.epsilon is not None:
        raise SettingError("--epsilon and --gains are two answers to one question: leave one out")
    share = share_of(_needed(asked.keep, "--keep, such as 75%"))
    epsilon = Gains.load(asked.gains).smallest(share).epsilon
    if epsilon is None:
        raise SettingError(f"{asked.gains} shows no gain to keep: give --epsilon")
    return epsilon


def _needed(value: Given | None, what: str) -> Given:
    from discreet.errors import SettingError

    if value is None:
        raise SettingError(f"this pace needs {what}")
    return value
