"""How much of a run's bound one person gives: a level that each may choose, one release for all of them.

The noise is the same for everybody; what differs is how long a person's row may be. Whoever chose ``strong`` adds a row
of at most a quarter of the bound, so mu is a quarter of what it is for ``light``, and a sixteenth of the units is
charged. Source: personalised differential privacy (Jorgensen, Yu, Cormode 2015), by individual sensitivity (Ebadi,
Sands, Schneider 2015; Feldman and Zrnic 2021). Proof: ``levels.md``.

A level must not depend on the history that it protects. How many people chose each is treated as public.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from discreet.errors import SettingError

QUARTERS = 4


class Level(Enum):
    """What a person gives, in quarters of the bound. ``off``: nothing, they take no part."""

    OFF = 0
    STRONG = 1
    BALANCED = 2
    LIGHT = 4

    def __str__(self) -> str:
        return self.name.lower()

    @classmethod
    def named(cls, name: str) -> Level:
        """Return the level of a name such as ``strong``.

        Raises:
            SettingError: there is none.
        """
        found = {str(level): level for level in cls}.get(name)
        if found is None:
            raise SettingError(f"no level is called {name!r}: choose {', '.join(map(str, cls))}")
        return found

    def of(self, bound: int) -> int:
        """Return the part of a bound, rounded down, that a row of this level may have."""
        return bound * self.value // QUARTERS


OFFERED = (Level.STRONG, Level.BALANCED, Level.LIGHT)
"""With which one takes part, the strongest protection first."""


@dataclass(frozen=True, repr=False)
class Levels:
    """What people chose. Personal data: its text shows none of it.

    Attributes:
        chosen: the level of each person who chose one, by id; a number and its decimal text are one person.
        others: of whoever chose none.

    Raises:
        SettingError: somebody is there twice, with two levels.
    """

    chosen: Mapping[str | int, Level]
    others: Level = Level.BALANCED

    def __post_init__(self) -> None:
        if not all(isinstance(level, Level) for level in (self.others, *self.chosen.values())):
            raise SettingError("levels: give a Level for each person, such as Level.named('strong')")
        if any(self._by_text[str(person)] is not level for person, level in self.chosen.items()):
            raise SettingError("levels: the same person has two; a number and its decimal text are one person")

    def __repr__(self) -> str:
        return f"Levels({len(self.chosen)} people chose, others {self.others})"

    def of(self, people: tuple[str | int, ...]) -> NDArray[np.int64]:
        """Return the quarters, int64 [people], that each of ``people`` gives.

        Raises:
            SettingError: somebody who chose is not among them: a misspelt id would else be given another level.
        """
        texts = [str(person) for person in people]
        strangers = len(self._by_text.keys() - set(texts))
        if strangers:
            raise SettingError(
                f"levels: {strangers} of those who chose one are not in the data; leave them out, or mend their ids"
            )
        return np.array([self._by_text.get(text, self.others).value for text in texts], np.int64)

    @cached_property
    def _by_text(self) -> dict[str, Level]:
        return {str(person): level for person, level in self.chosen.items()}
