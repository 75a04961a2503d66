"""People who do not exist, as many as are wanted: for measuring speed and memory, and nothing else.

Activity and popularity follow power laws, and people have tastes, so that blocks, caches and kernels are used as real
data uses them. That says nothing about quality: the data set is labelled synthetic, and may be used for
``measure-speed`` alone. It is written as it is drawn, a few thousand people at a time; the seed is public.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from discreet.data.catalogue import Catalogue
from discreet.data.intake import read_interactions
from discreet.data.interactions import Held, Interactions, rows_of
from discreet.data.store import BLOCK_PEOPLE, Passport, write_pieces
from discreet.errors import SettingError
from discreet.randomness import public_generator

PURPOSE = "measure-speed"
TAIL = 1.5
"""Exponent of the law of activity: the share of people with more than x items falls as x^-TAIL."""
POPULARITY = 0.9
"""Exponent of the law of popularity: the item of rank r is chosen in proportion to (r + 10)^-POPULARITY."""
TASTES = 32
MIX = (0.35, 0.35, 0.2, 0.1)
"""Of what a person chooses: from all items, and from each of three tastes of their own."""
DENSEST = 0.1
"""Largest share of all pairs that may be asked for."""
LONGEST = 0.25
"""Largest share of the items that one person has."""
DRAWS = 20
"""How often what somebody drew twice is drawn again."""

Progress = Callable[[int, int], None]
"""Told the people written and the people asked for."""


def write_synthetic(
    path: str | Path, *, people: int, items: int, interactions: int, seed: int = 0, progress: Progress | None = None
) -> Interactions:
    """Draw a data set, write its imported form, and return it as read back from there.

    Args:
        path: where to write; ends in .parquet.
        people: how many, from 1; their ids are 1, 2, ...
        items: how many, from 10; their ids are 1, 2, ...
        interactions: how many, at least one a person and at most a tenth of all pairs; one in a thousand or so fewer
            are made, since nobody has an item twice.
        seed: not negative.
        progress: called after each block of people.

    Raises:
        SettingError: an argument is out of its range.
        DataError, FileNotWritten: as :func:`~discreet.data.store.write_interactions`.
    """
    for fits, otherwise in (
        (people >= 1, "people must be at least 1"),
        (items >= 10, "items must be at least 10"),
        (seed >= 0, "seed must not be negative"),
        (people <= interactions <= DENSEST * people * items, "interactions must be from 1 a person to a tenth of all"),
    ):
        if not fits:
            raise SettingError(otherwise)
    catalogue = Catalogue(tuple(range(1, items + 1)))
    passport = Passport(
        f"synthetic-{interactions}-{seed}", frozenset([PURPOSE]), catalogue, declared=True, synthetic=True
    )
    random = public_generator(seed)
    pieces = _drawn(random, _lengths(random, people, items, interactions), _Shelves.drawn(random, items), progress)
    write_pieces(path, pieces, catalogue, lambda: passport)
    return read_interactions(path)


@dataclass(frozen=True, eq=False)
class _Shelves:
    """Items by popularity: all of them on shelf 0, and those of each taste on one of their own.

    Attributes:
        items: int64 [2 x items], shelf after shelf.
        reach: float64 [2 x items], ascending: s + u falls on shelf s, on an item in proportion to its popularity.
        total: how many items there are.
    """

    items: NDArray[np.int64]
    reach: NDArray[np.float64]
    total: int

    @classmethod
    def drawn(cls, random: np.random.Generator, items: int) -> _Shelves:
        weights = random.permutation((np.arange(items) + 11.0) ** -POPULARITY)
        tastes = random.permutation(np.arange(items) % TASTES)
        shelves = [np.arange(items), *[found for t in range(TASTES) if len(found := np.flatnonzero(tastes == t))]]
        reach = [number + np.cumsum(weights[shelf]) / weights[shelf].sum() for number, shelf in enumerate(shelves)]
        return cls(np.concatenate(shelves), np.concatenate(reach), items)

    @property
    def many(self) -> int:
        """How many shelves there are."""
        return round(float(self.reach[-1]))

    def chosen(self, random: np.random.Generator, shelf: NDArray[np.int64]) -> NDArray[np.int64]:
        """Draw an item from each shelf."""
        places = np.searchsorted(self.reach, shelf + random.random(len(shelf)))
        return self.items[np.minimum(places, len(self.items) - 1)]


def _lengths(random: np.random.Generator, people: int, items: int, interactions: int) -> NDArray[np.int64]:
    """Draw how many items each person has: a power law, scaled so that the sum is about what is asked for."""
    raw, most = (1.0 - random.random(people)) ** (-1.0 / TAIL), max(1.0, LONGEST * items)
    low, high = 0.0, most
    for _ in range(50):  # the sum grows with the scale
        scale = (low + high) / 2
        low, high = (scale, high) if np.clip(scale * raw, 1, most).sum() < interactions else (low, scale)
    lengths: NDArray[np.int64] = np.clip(np.rint(high * raw), 1, most).astype(np.int64)
    return lengths


def _drawn(
    random: np.random.Generator, lengths: NDArray[np.int64], shelves: _Shelves, progress: Progress | None
) -> Iterator[Held]:
    for first in range(0, len(lengths), BLOCK_PEOPLE):
        wanted = lengths[first : first + BLOCK_PEOPLE]
        pairs = _pairs(random, wanted, shelves)
        rows, columns = np.divmod(pairs, shelves.total)
        people = tuple(range(first + 1, first + len(wanted) + 1))
        matrix = rows_of(np.bincount(rows, minlength=len(wanted)), columns.astype(np.int32), shelves.total)
        yield Held(matrix, people)
        if progress:
            progress(first + len(wanted), len(lengths))


def _pairs(random: np.random.Generator, wanted: NDArray[np.int64], shelves: _Shelves) -> NDArray[np.int64]:
    """Draw distinct pairs, person x items + item, ascending: for each person as many as wanted, or a few less."""
    own = random.integers(1, shelves.many, (len(wanted), len(MIX)))
    own[:, 0] = 0
    pairs, missing = np.zeros(0, np.int64), wanted
    for _ in range(DRAWS):
        rows = np.repeat(np.arange(len(wanted)), missing)
        which = np.searchsorted(np.cumsum(MIX[:-1]), random.random(len(rows)))
        drawn = rows * shelves.total + shelves.chosen(random, own[rows, which])
        pairs = np.sort(np.concatenate((pairs, drawn)))  # np.unique goes through a hash table: fifty times slower
        pairs = pairs[np.append(True, np.diff(pairs) != 0)]
        missing = wanted - np.bincount(pairs // shelves.total, minlength=len(wanted))
        if not missing.any():
            break
    return pairs
