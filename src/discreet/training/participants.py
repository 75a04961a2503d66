"""Who takes part in a release, how much of the bound each gives, and what each used up in the end."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar, cast

import numpy as np
from numpy.typing import NDArray

from discreet.data.interactions import Opened
from discreet.errors import SettingError
from discreet.privacy.levels import OFFERED, QUARTERS, Level, Levels
from discreet.privacy.plan import Plan
from discreet.training.populations import Levelled, Population

AnyOpened = TypeVar("AnyOpened", bound=Opened)


@dataclass(frozen=True, eq=False)
class Participants(Generic[AnyOpened]):
    """People, and the quarters of the bound that each gives.

    Attributes:
        histories: of those who take part.
        quarters: int64 [people], 1 to 4; None if nobody was asked for a level, and everybody gives the whole.
    """

    histories: AnyOpened
    quarters: NDArray[np.int64] | None = None

    @classmethod
    def of(cls, histories: AnyOpened, levels: Levels | None) -> Participants[AnyOpened]:
        """Return those who take part: all but whoever chose ``off``.

        Raises:
            SettingError: nobody does, or somebody who chose a level is not in the data.
        """
        if levels is None:
            return cls(histories)
        quarters = levels.of(histories.people_ids)
        rows = np.flatnonzero(quarters)
        if not rows.size:
            raise SettingError("nobody takes part: everybody is at level off")
        people = histories if rows.size == quarters.size else cast("AnyOpened", histories.take(rows))
        return cls(people, quarters[rows])

    def admitted(self, people: AnyOpened, admitted: NDArray[np.bool_] | None) -> Participants[AnyOpened]:
        """Return those of whom a ledger said so, bool [people], None: everybody; ``people`` are their histories."""
        quarters = self.quarters if self.quarters is None or admitted is None else self.quarters[admitted]
        return Participants(people, quarters)

    def only(self, chosen: NDArray[np.bool_]) -> Participants[AnyOpened]:
        """Return some of them, bool [people]."""
        return self.admitted(cast("AnyOpened", self.histories.take(np.flatnonzero(chosen))), chosen)

    @property
    def each(self) -> NDArray[np.int64]:
        """What each gives, in quarters of the bound, int64 [people]."""
        return np.full(len(self.histories), QUARTERS) if self.quarters is None else self.quarters

    @property
    def whole(self) -> int:
        """How many people giving the whole bound would weigh as much, at least 1: what a recipe reckons with."""
        return max(1, round(int(self.each.sum()) / QUARTERS))

    def prices(self, plan: Plan) -> NDArray[np.int64] | None:
        """Return what each is held for, units, int64 [people]; None if it is the same for all."""
        if self.quarters is None:
            return None
        by_quarters = np.zeros(QUARTERS + 1, np.int64)
        for level in OFFERED:
            by_quarters[level.value] = plan.cost_at(level)
        return by_quarters[self.quarters]

    def population(self, make: Callable[[Opened], Population]) -> Population:
        """Return them as a population: one, or one a level."""
        groups = [(level, make(self.histories.take(rows))) for level, rows in self._rows().items()]
        return Levelled(groups) if groups else make(self.histories)

    def in_order(self, usage: Usage) -> NDArray[np.int64]:
        """Return what each used, in the order of the histories, as it was told in the order of the population."""
        if self.quarters is None:
            return usage.units
        used = np.empty_like(usage.units)
        used[np.concatenate([*self._rows().values()])] = usage.units
        return used

    def _rows(self) -> dict[Level, NDArray[np.int64]]:
        if self.quarters is None:
            return {}
        rows = {level: np.flatnonzero(self.quarters == level.value) for level in OFFERED}
        return {level: where for level, where in rows.items() if where.size}


class Usage:
    """Adds up, over the rounds, what people used: told block by block, everybody once a round, in one order.

    Attributes:
        units: int64 [people].
    """

    def __init__(self, people: int) -> None:
        self.units = np.zeros(people, np.int64)
        self._next = 0

    def __call__(self, used: NDArray[np.int64]) -> None:
        """Add what the next people used."""
        self.units[self._next : self._next + len(used)] += used
        self._next = (self._next + len(used)) % len(self.units)
