"""Where people's histories are."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from discreet.data.catalogue import Catalogue
from discreet.data.interactions import Opened, Rows, rows_of
from discreet.models.base import Model, State
from discreet.privacy.clipping import Summed, layered
from discreet.privacy.levels import Level
from discreet.privacy.records import Layer

Summing = Callable[[Rows], Summed]
"""Adds up a block of people."""

Layers = tuple[tuple[Layer, NDArray[np.bool_]], ...]
"""Layers of a row, each with the items that it does not see, bool [items]."""


@dataclass(frozen=True, eq=False)
class Work:
    """What is asked of people in a round: rows within their level's part of the bound, in layers if there are any.

    Attributes:
        model: whose sum it is.
        state: what is known so far.
        bound: S, in grid units, of whoever gives the most.
        layers: of a row; none where no category is declared.
        level: of the people who are asked.
    """

    model: Model
    state: State
    bound: int
    layers: Layers = ()
    level: Level = Level.LIGHT

    def __call__(self, histories: Rows) -> Summed:
        """Return what a block of people, all of this level, adds to the sum."""
        bound = self.level.of(self.bound)
        if not self.layers:
            return replace(self.model.summed(histories, self.state, bound), level=self.level)
        parts = [(layer.of(bound), without(histories, unseen)) for layer, unseen in self.layers if layer.of(bound)]
        summed = [(self.model.summed(seen, self.state, share), share) for share, seen in parts]
        return replace(layered(summed), level=self.level)


def without(histories: Rows, unseen: NDArray[np.bool_]) -> Rows:
    """Return the same people as if they had none of the items ``unseen``, bool [items]."""
    kept = ~unseen[histories.indices]
    ends = np.concatenate([[0], np.cumsum(kept)])[histories.indptr]
    return rows_of(np.diff(ends), histories.indices[kept], histories.shape[1])


class Population(Protocol):
    """People who take part. Each is in exactly one block of each round."""

    def __len__(self) -> int:
        """How many there are; public."""

    @property
    def catalogue(self) -> Catalogue:
        """What the columns of the histories mean; public."""

    @property
    def catalogue_declared(self) -> bool:
        """Whether the catalogue was declared, rather than gathered from the histories."""

    @property
    def dataset(self) -> str:
        """Name of the data set."""

    @property
    def purpose(self) -> str:
        """What the histories were opened for."""

    def map(self, work: Work) -> Iterator[Summed]:
        """Yield ``work`` of each block, in the order of people, lazily: nothing is computed before it is asked for."""


class OfHistories:
    """What a population says of itself by the histories that it reads."""

    histories: Opened

    def __len__(self) -> int:
        return len(self.histories)

    @property
    def catalogue(self) -> Catalogue:
        """What the columns of the histories mean; public."""
        return self.histories.catalogue

    @property
    def catalogue_declared(self) -> bool:
        """Whether the catalogue was declared, rather than gathered from the histories."""
        return self.histories.catalogue_is_declared

    @property
    def dataset(self) -> str:
        """Name of the data set."""
        return self.histories.dataset

    @property
    def purpose(self) -> str:
        """What the histories were opened for."""
        return self.histories.purpose


@dataclass(frozen=True, eq=False)
class Here(OfHistories):
    """Histories in this process or in a file, in blocks, by threads.

    Attributes:
        histories: opened for a purpose.
        block: most people in a block; what a round needs beside the histories is bounded by it.
        threads: kernels run without the GIL.
    """

    histories: Opened
    block: int = 4_096
    threads: int = 2

    def map(self, work: Summing) -> Iterator[Summed]:
        """Yield ``work`` of each block, in order; at most one block a thread, and one more, is in memory."""
        with ThreadPoolExecutor(self.threads) as pool:
            waiting: deque[Future[Summed]] = deque()
            for block in self.histories.blocks(self.block):
                waiting.append(pool.submit(work, block))
                if len(waiting) > self.threads:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()


@dataclass(frozen=True, eq=False)
class Asked:
    """What is asked of people who are elsewhere: the same as of anybody."""

    work: Work
    people: int

    def __len__(self) -> int:
        return self.people


@dataclass(frozen=True, eq=False)
class Devices:
    """People whose histories are with them. What they are asked for, ``add`` gathers.

    Attributes:
        catalogue: declared; nothing is gathered.
        people: how many may take part.
        dataset: name of it all.
        purpose: what people take part for.
    """

    catalogue: Catalogue
    people: int
    dataset: str
    purpose: str
    catalogue_declared: bool = True

    def __len__(self) -> int:
        return self.people

    def map(self, work: Work) -> Asked:
        """Return what is asked."""
        return Asked(work, self.people)


@dataclass(frozen=True, eq=False)
class Levelled:
    """People who chose levels: one after the other, groups of those who chose the same.

    Attributes:
        groups: at least one; of one data set, each person in one of them. What is said of all is said of each. A level
            may come more than once, and a group that is levelled itself keeps its own.
    """

    groups: Sequence[tuple[Level, Population]]

    def __len__(self) -> int:
        return sum(len(group) for _, group in self.groups)

    @property
    def catalogue(self) -> Catalogue:
        """What the columns of the histories mean; public."""
        return self._any.catalogue

    @property
    def catalogue_declared(self) -> bool:
        """Whether the catalogue was declared, rather than gathered from the histories."""
        return self._any.catalogue_declared

    @property
    def dataset(self) -> str:
        """Name of the data set."""
        return self._any.dataset

    @property
    def purpose(self) -> str:
        """What the histories were opened for."""
        return self._any.purpose

    def map(self, work: Work) -> Iterator[Summed]:
        """Yield ``work`` of each group's blocks, held to the group's level."""
        for level, group in self.groups:
            yield from group.map(replace(work, level=level))

    @property
    def _any(self) -> Population:
        return self.groups[0][1]
