"""Where people's histories are."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Protocol

from scipy.sparse import csr_array

from discreet.data.interactions import Catalogue, Opened
from discreet.privacy.clipping import Summed

Work = Callable[[csr_array], Summed]


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
        """Yield ``work`` of each block, lazily: nothing is computed before the first is asked for."""


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

    def map(self, work: Work) -> Iterator[Summed]:
        """Yield ``work`` of each block, in order; at most one block a thread, and one more, is in memory."""
        with ThreadPoolExecutor(self.threads) as pool:
            waiting: deque[Future[Summed]] = deque()
            for block in self.histories.blocks(self.block):
                waiting.append(pool.submit(work, block))
                if len(waiting) > self.threads:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
