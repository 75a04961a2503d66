"""Releases: how one stands, and the right to compute one that was paid for."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from discreet.errors import BudgetExceeded, LedgerCorrupted, SettingError
from discreet.governance.accounts import Account
from discreet.governance.checks import check_name, check_sha256, is_units, whole


@dataclass(frozen=True, slots=True)
class ReleaseState:
    """A release: ``cost`` in units; ``state`` reserved, committed or abandoned; ``spec``, ``artefact`` SHA-256 (hex).

    ``people`` is how many were admitted, or None if the release was reserved without naming people.
    """

    release: str
    account: str
    cost: int
    spec: str
    state: str
    artefact: str | None
    people: int | None

    def to_dict(self) -> dict[str, Any]:
        """Return the same as plain values for JSON."""
        return asdict(self)


class ReleaseRow(NamedTuple):
    """A release, as its table holds it. ``asked`` and ``cohort`` are digests of who was named and who was admitted.

    ``prices`` and ``used`` are digests of units, int64 [cohort]: what each was held for, and what each used of it.
    Without the first all are held for ``cost``; without the second what each is held for is what each has spent.
    """

    name: str
    account: str
    cost: int
    spec: str
    asked: str | None
    cohort: str | None
    prices: str | None = None
    state: str = "reserved"
    artefact: str | None = None
    used: str | None = None

    @classmethod
    def stored(cls, row: tuple[Any, ...]) -> Self:
        """Return a row of the table.

        Raises:
            LedgerCorrupted: it holds what no release can.
        """
        found = cls(*row)
        if not found._is_sound():
            raise LedgerCorrupted("a release in the tables holds what no release can; run `discreet journal verify`")
        return found

    def standing(self, people: int | None) -> ReleaseState:
        """Return how it stands, with the number of people admitted."""
        return ReleaseState(self.name, self.account, self.cost, self.spec, self.state, self.artefact, people)

    def _is_sound(self) -> bool:
        digests = (self.asked, self.cohort, self.prices, self.artefact, self.used)
        try:
            check_name("release", self.name)
            for digest in (self.spec, *(each for each in digests if each is not None)):
                check_sha256("digest", digest)
        except (SettingError, TypeError, AttributeError):  # not even text
            return False
        ends = self.state == "committed" if self.artefact else self.state in {"reserved", "abandoned"}
        return isinstance(self.account, str) and is_units(self.cost) and self.cost > 0 and ends

    @property
    def terms(self) -> tuple[object, ...]:
        """What was asked for: whoever asks for the same again is given the same; prices are compared by themselves."""
        return self[:5]


@dataclass(eq=False)
class Reservation:
    """The right to compute one release, already paid for in full. What people used of it is settled at its commitment.

    ``state`` is ``reserved`` (compute, with fresh noise) or ``committed`` (load the artefact of this SHA-256 instead).
    ``admitted`` tells of each of the people given whether to count them in: bool [people], or None if none were given.
    ``order`` is where those who are admitted stand, among themselves, in the order of the cohort. ``used`` is what each
    of the cohort used, in its order, once that is known.
    """

    release: str
    account: Account
    cost: int
    spec: str
    state: str
    artefact: str | None
    admitted: NDArray[np.bool_] | None
    order: NDArray[np.intp] | None = None
    used: NDArray[np.int64] | None = field(default=None, init=False)
    drawn: int = field(default=0, init=False)

    def apart(self) -> Reservation:
        """Return the same reservation with nothing drawn yet, for people of whom none draws on this one.

        What a release costs a person is what was computed on that person. Of groups that share nobody, formed without
        looking at what is released, each may therefore draw the whole: the price is charged to each of them alike.
        """
        return replace(self)

    def use(self, used: NDArray[np.int64]) -> None:
        """Take note of what those who are admitted used, in the order in which they were given: units, int64 [people].

        Raises:
            SettingError: there are not as many, or the release was reserved without naming people.
        """
        if self.order is None or used.shape != self.order.shape:
            raise SettingError("used: one number of units is needed for each of the people who are admitted")
        self.used = used[self.order]

    def draw(self, units: int) -> None:
        """Take ``units`` of what was reserved, before a round. Nothing is written: the whole was charged at once.

        Raises:
            SettingError: ``units`` is negative or not an integer.
            BudgetExceeded: the rounds together would cost more than was reserved, or the release is already made.
        """
        units = whole("cost of a round", units, least=0)
        left = self.cost - self.drawn if self.state == "reserved" else 0
        if units > left:
            raise BudgetExceeded(
                f"release {self.release} of {self.account}: {units:,} units asked by a round, {left:,} of its "
                f"reservation left ({self.state}); reserve the price of the whole plan under a new release id",
                account=str(self.account),
                asked=units,
                left=left,
                until=None,
            )
        self.drawn += units
