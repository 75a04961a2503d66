"""How fast a budget may be spent: so much a release, so many releases a year. In whole units, never in epsilons.

A pace parts time into slots, ``per_year`` of them a year, from the moment it begins. By the end of each slot so many
units in all may have been spent; what a slot leaves over stays for the next ones, and nothing is lent from them.

==========  ==============================================================================  =======================
rule        a slot grants                                                                   the budget lasts
==========  ==============================================================================  =======================
fixed       an equal part of what there was when the pace was set                           so many slots
quality     the price of the release that has the quality that is wanted                    while it holds a price
decaying    a share of what is left by then: most for the first, less for each later one    until slots grant less
                                                                                            than is worth having
==========  ==============================================================================  =======================

Everything here is reckoned from arguments; the time is one of them. Formal guarantee: while a pace is set, whatever is
reserved leaves the account's spending at or below ``Pace.allowed`` of the slot of that time, which is never above the
cap.
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import asdict, dataclass, fields
from datetime import datetime, timedelta
from typing import Any, ClassVar, Self, TypeAlias

from discreet.errors import LedgerCorrupted, SettingError
from discreet.governance.checks import instant, stamp, whole

YEAR = 31_556_952
"""Seconds in a year of the calendar, on average."""

MOST_PER_YEAR = 8_766  # one an hour
MOST_SLOTS = 1_000_000
LEAST_WATCHED = 7 * 86_400
"""Seconds that a budget must have been spent from before that tells a pace."""


@dataclass(frozen=True)
class Fixed:
    """The same for each of ``slots`` slots, 1 to 1,000,000."""

    slots: int
    name: ClassVar[str] = "fixed"

    def __post_init__(self) -> None:
        if whole("number of slots", self.slots, least=1) > MOST_SLOTS:
            raise SettingError(f"a fixed pace has at most {MOST_SLOTS:,} slots; give an earlier end, or fewer a year")

    def granted(self, room: int, slots: int) -> int:
        """Return the units of ``room`` that so many slots grant."""
        return room * min(slots, self.slots) // self.slots

    def lasting(self, room: int, used: int, now: int) -> int:
        """Return the first slot that grants nothing any more."""
        del room, used, now  # by construction
        return self.slots


@dataclass(frozen=True)
class Quality:
    """``price`` units for each slot, at least 1: that of the smallest epsilon that keeps what is wanted."""

    price: int
    name: ClassVar[str] = "quality"

    def __post_init__(self) -> None:
        whole("price of a release", self.price, least=1)

    def granted(self, room: int, slots: int) -> int:
        """Return the units of ``room`` that so many slots grant."""
        return min(room, slots * self.price)

    def lasting(self, room: int, used: int, now: int) -> int:
        """Return the slot before which the last release is made, with ``used`` units spent and one a slot to come."""
        return max(now, -(-used // self.price)) + max(0, room - used) // self.price


@dataclass(frozen=True)
class Decaying:
    """For each slot ``per_mille`` (1 to 999) of what is left; below ``price`` units it is not worth having."""

    per_mille: int
    price: int
    name: ClassVar[str] = "decaying"

    def __post_init__(self) -> None:
        whole("price of a release", self.price, least=1)
        if not 1 <= whole("share of a slot", self.per_mille, least=0) <= 999:
            raise SettingError("a slot of a decaying pace grants between 0.1% and 99.9% of what is left")

    def granted(self, room: int, slots: int) -> int:
        """Return the units of ``room`` that so many slots grant."""
        return room - self._left(room, slots, least=1)[0]

    def lasting(self, room: int, used: int, now: int) -> int:
        """Return the first slot that grants less than the price."""
        del used, now  # slots decay by the clock
        return self._left(room, MOST_SLOTS, least=self.price)[1]

    def _left(self, room: int, slots: int, least: int) -> tuple[int, int]:
        """Return what is left after the slots that grant so much, at most ``slots`` of them, and their number."""
        for done in range(slots):
            piece = room * self.per_mille // 1_000
            if piece < least:
                return room, done
            room -= piece
        return room, slots


Rule: TypeAlias = Fixed | Quality | Decaying
RULES: dict[str, type[Fixed] | type[Quality] | type[Decaying]] = {
    rule.name: rule for rule in (Fixed, Quality, Decaying)
}


@dataclass(frozen=True)
class Pace:
    """A rule, and when it holds.

    Attributes:
        rule: what each slot grants.
        per_year: slots a year, 1 to 8,766.
        begins: when the first slot begins, ISO 8601, UTC.
        base: units that were spent when the pace was set.

    Raises:
        SettingError: one of these is out of its range.
    """

    rule: Rule
    per_year: int
    begins: str
    base: int = 0

    def __post_init__(self) -> None:
        _check_per_year(self.per_year)
        whole("what was spent before", self.base, least=0)
        object.__setattr__(self, "begins", instant(self.begins, "begins"))

    @classmethod
    def told(cls, facts: dict[str, Any]) -> Self | None:
        """Return a pace as a row of the journal tells it; None where the row takes it away.

        Raises:
            LedgerCorrupted: the row tells of no pace that could be.
        """
        try:
            if facts["rule"] is None:
                return None
            kind = RULES[facts["rule"]]
            rule = kind(**{each.name: int(facts[each.name]) for each in fields(kind)})
            return cls(rule, int(facts["per_year"]), facts["begins"], int(facts["base"]))
        except (KeyError, TypeError, ValueError) as error:  # SettingError is a ValueError
            raise LedgerCorrupted("a pace in the journal is none; run `discreet journal verify`") from error

    def facts(self) -> dict[str, str]:
        """Return the same for a row of the journal: whole numbers are text there."""
        numbers = {name: str(value) for name, value in asdict(self.rule).items()}
        own = {"per_year": str(self.per_year), "begins": self.begins, "base": str(self.base)}
        return {"rule": self.rule.name} | numbers | own

    def slot(self, time: str) -> int:
        """Return the number of the slot that a time lies in, from 0; negative before the first."""
        return seconds_between(self.begins, time) * self.per_year // YEAR

    def start(self, slot: int) -> str | None:
        """Return when a slot begins, or None if that is beyond the calendar."""
        return later(self.begins, -(-slot * YEAR // self.per_year))

    def allowed(self, slot: int, cap: int) -> int:
        """Return the units that may have been spent in all by the end of a slot, ``base`` to ``cap``."""
        return self.base + self.rule.granted(max(0, cap - self.base), max(0, slot + 1))

    def next_cost(self, time: str, cap: int, spent: int) -> int:
        """Return the units that a release may cost at a time."""
        return max(0, self.allowed(self.slot(time), cap) - spent)

    def more_from(self, time: str, cap: int, spent: int) -> str | None:
        """Return when more than now may be spent, or None if never."""
        now = self.slot(time)
        reached = max(spent, self.allowed(now, cap))
        slots = range(now + 1, now + 1 + MOST_SLOTS)
        ahead = bisect_right(slots, reached, key=lambda slot: self.allowed(slot, cap))
        return self.start(slots[ahead]) if ahead < len(slots) else None

    def lasts_until(self, time: str, cap: int, spent: int) -> str | None:
        """Return when nothing worth having is granted any more, if slots are used; None: beyond the calendar."""
        room, used = max(0, cap - self.base), max(0, spent - self.base)
        return self.start(self.rule.lasting(room, used, self.slot(time)))

    def __str__(self) -> str:
        return f"{self.rule.name} pace, {self.per_year:,} a year"


@dataclass(frozen=True, slots=True)
class Outlook:
    """What a budget allows from a time on. Units; times are ISO 8601, UTC.

    Attributes:
        at: the time.
        pace: that holds, or None.
        next_cost: what the next release may cost.
        more_from: when more than that may be spent; None if never.
        lasts_until: when nothing worth having is left: by the pace if there is one, or else if spending goes on as it
            has since the budget was opened. None if it has no end, or too little is known to tell.
    """

    at: str
    pace: Pace | None
    next_cost: int
    more_from: str | None
    lasts_until: str | None

    @classmethod
    def paced(cls, time: str, pace: Pace, cap: int, spent: int, until: str | None) -> Self:
        """Return the outlook of a budget that has a pace."""
        if until is not None and time >= until:
            return cls(time, pace, 0, None, until)
        more = pace.more_from(time, cap, spent)
        lasts = pace.lasts_until(time, cap, spent) if spent < cap else time
        late = until is not None and more is not None and more >= until
        return cls(time, pace, pace.next_cost(time, cap, spent), None if late else more, earliest(lasts, until))

    def to_dict(self) -> dict[str, Any]:
        """Return the same as plain values for JSON."""
        pace = (
            None
            if self.pace is None
            else {"rule": self.pace.rule.name}
            | asdict(self.pace.rule)
            | {"per_year": self.pace.per_year, "begins": self.pace.begins, "base": self.pace.base}
        )
        return {name: getattr(self, name) for name in self.__slots__} | {"pace": pace}


def slots_until(begins: str, ends: str, per_year: int) -> int:
    """Return how many slots there are between two times, the last one perhaps cut short.

    Raises:
        SettingError: the end is not after the beginning, or ``per_year`` is out of its range.
    """
    _check_per_year(per_year)
    seconds = seconds_between(instant(begins, "begins"), instant(ends, "until"))
    if seconds <= 0:
        raise SettingError(f"the pace would end on {instant(ends)}, before it begins; give a later end")
    return -(-seconds * per_year // YEAR)


def _check_per_year(number: int) -> None:
    if not 1 <= whole("number of releases a year", number, least=0) <= MOST_PER_YEAR:
        raise SettingError(f"a pace has 1 to {MOST_PER_YEAR:,} releases a year, {number:,} were asked")


def at_this_rate(opened: str, now: str, spent: int, left: int) -> str | None:
    """Return until when what is left lasts if spending goes on as it has since a budget was opened.

    None if too little is known to tell, or beyond the calendar.
    """
    watched = seconds_between(opened, now)
    return later(now, left * watched // spent) if spent and watched >= LEAST_WATCHED else None


def earliest(*times: str | None) -> str | None:
    """Return the earliest of those times that there are, or None."""
    return min((time for time in times if time is not None), default=None)


def seconds_between(first: str, second: str) -> int:
    """Return the whole seconds from one time to another, both as ``instant`` writes them."""
    return round((datetime.fromisoformat(second) - datetime.fromisoformat(first)).total_seconds())


def later(time: str, seconds: int) -> str | None:
    """Return the time so many seconds later, or None if that is beyond the calendar."""
    try:
        return stamp(datetime.fromisoformat(time) + timedelta(seconds=seconds))
    except OverflowError:
        return None
