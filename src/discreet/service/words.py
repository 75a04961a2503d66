"""What people are told about their privacy, in words. Each number in them is computed from what ran.

Studies found that people judge well by what may follow, told as odds, and badly by definitions, by epsilons and by the
process (Cummings, Kaptchuk, Redmiles 2021; Nanayakkara et al. 2023; Smart et al. 2024; Xiong et al. 2020): so each
sentence says who could tell what, how often of a hundred times, against fifty of a coin. Odds are those of the Gaussian
that ran, `odds_of`, rounded up; not the far larger ones that an epsilon alone would bound.

=======================================  ======================================================================
edge case                                what is said
=======================================  ======================================================================
no model yet, or one that is not private  what the model of the calendar would promise; nothing, if there is none
a level beyond epsilon 2                 nothing of an outsider's estimate: it could be raised to almost anything
no cap of a person                       the budgets of the data set are the limit
nothing left, or no budget               that no model is made, or none with them; no date
no calendar                              no date
=======================================  ======================================================================
"""

from __future__ import annotations

import math
from datetime import datetime
from typing import NamedTuple

from discreet.governance.consent import later
from discreet.privacy.accounting import epsilon_of, odds_of
from discreet.privacy.guarantee import Guarantee, hundred
from discreet.privacy.levels import OFFERED, QUARTERS, Level

MOST_EPSILON = 2.0
"""Up to which it is said how far an outsider's estimate can be raised."""
ONE_IN = 100
FURTHEST = 36_525
"""Days that anything is told ahead."""

LOGIC = (
    "A model is trained on what all who agreed chose, with noise that bounds how well anybody can tell by it whether "
    "you took part. Your list is what that model says goes with what you chose, without what you chose already; what "
    "you chose is read for it if you agree to that, and without it you get the list that everybody gets. What drove a "
    "list: GET /api/v1/me/explained. Nothing else is decided by it."
)
SOURCE = (
    "The service that you use sends what you chose there, and you add or change it yourself (POST /api/v1/me/correct)."
)
RIGHTS = {
    "access": "GET /api/v1/me/access",
    "export": "GET /api/v1/me/export",
    "correct": "POST /api/v1/me/correct",
    "object": "POST /api/v1/me/object",
    "erase": "POST /api/v1/me/erase",
    "withdraw": "DELETE /api/v1/me/consents/PURPOSE",
    "restrict": "PUT /api/v1/me/level with off: no model learns from you; withdraw, and nothing is read",
    "complain": "to a supervisory authority, at any time",
}
SIGNAL = {
    "no-sharing": "Nothing of yours is given to others.",
    "strong": "Nothing of yours is given to others, and what you did shapes models at level strong at most.",
    "off": "Nothing of yours is given to others, and what you did shapes no model.",
}
UNTRAINED = "Models are not trained with you, as before: you do not agree to that. What you agreed to goes on."
UNCHANGED = "You agree to nothing that this could change; agree to a purpose first."
LISTED = "Your list is made from what you chose, from now on; without this you get the list that everybody gets."


class Price(NamedTuple):
    """What a model costs whoever takes part in it: units at each level, read at ``delta``."""

    units: dict[Level, int]
    delta: float

    @classmethod
    def of(cls, promise: Guarantee) -> Price | None:
        """Read it off what a model promises, if it promises anything."""
        if promise.units is None or not promise.private:
            return None
        told = dict(promise.levels)
        return cls({level: told.get(str(level), promise.units) for level in OFFERED}, promise.delta)

    @classmethod
    def planned(cls, units: int, delta: float) -> Price:
        """Return that of a model which costs so much at ``light``."""
        return cls({level: -(-units * level.value**2 // QUARTERS**2) for level in OFFERED}, delta)

    def odds(self, level: Level) -> int:
        """Return of how many of a hundred guesses whether somebody was in it can be right; 50 are without it."""
        return hundred(odds_of(self.units[level])) if level in self.units else 50


def dearer(one: Price | None, other: Price | None) -> Price | None:
    """Return what costs more at each level: whoever agrees may be in either model."""
    if one is None or other is None:
        return one or other
    return Price({level: max(one.units[level], other.units[level]) for level in OFFERED}, min(one.delta, other.delta))


class Means(NamedTuple):
    """What there is to spend on one person, in units: of their cap, or of the budgets if they have none.

    Attributes:
        held: what counts against the cap: never less than what was spent on them.
        cap: at most.
        left: of the budget that the next model is paid from.
        until: when that ends; None: when it is spent.
        own: whether the cap is one of persons, and not what the budgets have.
    """

    held: int
    cap: int
    left: int
    until: str | None
    own: bool = False


def card(level: Level, price: Price) -> str:
    """Say what a level means."""
    if level is Level.OFF:
        return "Off. What you choose shapes no model that is made from now on."
    return (
        f"{str(level).capitalize()}. What you chose is blurred before it shapes the shared model. Someone studying the "
        f"model could tell that you were in it at most {price.odds(level)} times out of 100. A coin flip gets 50."
    )


def joining(level: Level, price: Price) -> str | None:
    """Say how far an outsider's estimate could be raised, where that is little.

    Bayes' rule, with a likelihood ratio of e^epsilon: it holds except with probability delta.
    """
    units = price.units.get(level)
    epsilon = math.inf if units is None else epsilon_of(units, price.delta)
    if epsilon > MOST_EPSILON:
        return None
    raised = math.exp(epsilon) / (ONE_IN - 1 + math.exp(epsilon))
    return (
        f"Suppose that 1 in {ONE_IN} people did something, and an outsider guesses whether you did. If you stay out of "
        f"training, their best estimate is 1 in {ONE_IN}. If you join, the model can raise it to at most "
        f"{_up(ONE_IN * raised)} in {ONE_IN}."
    )


def unprotected(controller: str) -> str:
    """Say from whom nothing is hidden."""
    return (
        f"This does not hide what you chose from {controller}, whose service makes your list. Staff can open it only "
        "on record: for a reason that two of them agree to, or for somebody who comes to the desk. You find each time "
        "beside what is held of you."
    )


def theft(odds: int | None) -> str:
    """Say what a theft would reveal, with the odds of the model if there is one."""
    said = " that are told of it" if odds is None else f" of {odds} in 100"
    return (
        "We receive what you chose, keep it sealed, and blur it when we train. A theft of our servers, keys and all, "
        f"could reveal it; a theft of the model would not, beyond the odds{said}."
    )


def budget(means: Means, level: Level, price: Price, every_days: int | None, due: str | None) -> str:
    """Say how much of a limit is used, what that amounts to in all, and how long it lasts.

    Epsilons are never added up: what counts is composed in units, and the odds are of all releases together.
    """
    used = min(100, math.ceil(100 * means.held / means.cap))
    said = (
        f"{used}% of your limit is used. Someone studying all models so far could tell that you were in them at most "
        f"{hundred(odds_of(means.held))} times out of 100 (epsilon {_up(epsilon_of(means.held, price.delta), 2)})."
    )
    if level is Level.OFF:
        return f"{said} At off no more of it is used."
    own, others = (means.cap - means.held) // price.units[level], means.left // price.units[Level.LIGHT]
    out = _OUT + ("" if means.own and own <= others else _DECIDED)  # one's own limit is never raised
    more = min(own, others)
    if more <= 0:
        return f"{said} It is used up: {out}."
    if every_days is not None and due is not None:
        ends = later(due, min(more * every_days, FURTHEST))
        said += f" At the usual pace it lasts until {day(ends if means.until is None else min(ends, means.until))}."
    return f"{said} When it runs out {out}."


_OUT = "we stop training on what you chose"
_DECIDED = ", until two people decide on a new limit, on record"


def prompt(purposes: list[str]) -> str:
    """Say what the browser's signal does not end, and how to end that."""
    return (
        f"Your browser says Global Privacy Control. It does not end what you agreed to here: {', '.join(purposes)}. "
        "To end that too: DELETE /api/v1/me/consents/PURPOSE, or all at once: POST /api/v1/me/object."
    )


def moved(level: Level, due: str | None, *, paid: bool = True) -> str:
    """Say from when on another level shows; ``paid``: whether there is budget for another model."""
    if not paid and level is not Level.OFF:
        return (
            "There is no budget for another model, until two people decide on one, on record. Models already trained "
            "keep what they learned until they are deleted."
        )
    due = due if paid else None
    when = "the next release" if due is None else day(due)
    how = "without you" if level is Level.OFF else f"with you at {level}"
    until = "until they are replaced" + ("" if due is None else " on that date")
    return f"From {when} on the model is trained {how}. Models already trained keep what they learned {until}."


def left(logs_days: int, *, wholly: bool) -> str:
    """Say what becomes of somebody who agrees to a purpose no more: to none (``wholly``), or to another, or may yet."""
    if not wholly:
        return "Nothing of yours is read for this any more. You can come back at any time."
    return (
        "We show what is popular. We do not store what you choose any more. What is held goes within a day, and that "
        f"you said so, with the key of it, after {logs_days} days. You can come back at any time."
    )


def erased(events: int | None, receipt: str, due: str, backups_days: int | None, at: str, within: str | None) -> str:
    """Say what is gone, and until when what is left is left.

    Args:
        events: that were deleted; None: they did not open.
        receipt: of it.
        due: by when the model of before is gone, at the latest.
        backups_days: after which copies of the database end, if it is declared.
        at: when they were erased.
        within: what bounds how much a model tells of them; None: there is none, nor is one being made.
    """
    copies = "when they end" if backups_days is None else f"by {day(later(at, backups_days))}"
    model = (
        "there is none"
        if within is None
        else f"if it learnt from you it still does, within {within}, until another is made without you, with fresh "
        f"noise at a new charge, or it is deleted: on {day(due)} at the latest"
    )
    told = "all" if events is None else f"{events:,}"
    return (
        f"Deleted now: {told} events, consents, documents, keys of access, and the key that opened them; lists are "
        f"kept of nobody. Still to come: copies of the database ({copies}). Model: {model}. Receipt {receipt}."
    )


def refused(why: str, owner: str) -> str:
    """Say of what the budget does not allow for what can be done."""
    return f"{why}. Not run. Options: a smaller epsilon; wait for a new period; ask {owner} for more, which two decide."


def label(
    *,
    level: Level,
    odds: int | None,
    together: int,
    due: str | None,
    pending: bool,
    paid: bool,
    controller: str,
    recipients: list[str],
    retention_days: int,
    looks: int,
    unit: str,
    until: str | None,
    measured: str | None,
) -> dict[str, str]:
    """Return the label: a row for each thing that people ask about.

    Args:
        level: of the person; ``off`` if they do not agree to training.
        odds: of the model that is served, whatever of theirs it learnt from; None: there is none.
        together: odds of all models there were.
        due: when the next model is.
        pending: whether they said what holds since the model was made.
        paid: whether there is budget for another.
        controller: whose service it is.
        recipients: other organisations.
        retention_days: of events.
        looks: of staff, so far.
        unit: of what is protected.
        until: end of the budget.
        measured: what the last audit found.
    """
    used = "no" if level is Level.OFF else f"yes, at {level}"
    if pending:
        used += f", from {'the next release' if due is None or not paid else day(due)} on"
        used += "; the model that is served may know more"
    elif level is not Level.OFF and not paid:
        used += ", once there is budget again"
    reveals = "there is none yet" if odds is None else f"no more than the odds: {odds} in 100; a coin flip gets 50"
    return {
        "used to train the shared model": used,
        "who can see exactly what you chose": f"{controller}; staff on record: if two agree, or at the desk",
        "a leak of the published model reveals you": reveals,
        "a leak of our database reveals you": "not without the master key, which is kept beside it; with it, yes",
        "shared with other companies": ", ".join(recipients) or "no",
        "kept for": f"{retention_days} days",
        "times staff opened your data": str(looks),
        "odds": f"at most {max(odds or 50, together)} in 100",
        "unit and period": f"{unit}; {'all releases' if until is None else f'all releases until {day(until)}'}",
        "last measured attack": measured or "none yet",
    }


def day(time: str) -> str:
    """Return the day of a time, ISO 8601, as people write it."""
    at = datetime.fromisoformat(time)
    return f"{at.day} {at:%B %Y}"


def _up(value: float, digits: int = 1) -> str:
    """Round up, so that nothing is said to be less than it is."""
    return f"{math.ceil(value * 10**digits - 1e-9) / 10**digits:g}"
