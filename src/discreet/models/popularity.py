"""How many people know each item: the floor that every other model has to beat, and the fallback of small budgets."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import isqrt
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from discreet.models.base import State, after_round, beginning, check_setting
from discreet.privacy.clipping import Summed
from discreet.privacy.disclosure import Disclosed

if TYPE_CHECKING:  # a device computes its sums with NumPy alone
    from scipy.sparse import csr_array

FAR, BIN, LOOKS = 8.0, 0.25, 100
"""Where a count is too far above its noise for a prior to matter; steps of counts, both in deviations; steps of EM."""


@dataclass(frozen=True, kw_only=True)
class Popularity:
    """Counts of histories scaled to length 1, so that everybody weighs the same. One round.

    Attributes:
        items: size of the catalogue.
    """

    items: int

    def __post_init__(self) -> None:
        check_setting("items", self.items, 1)

    @property
    def name(self) -> str:
        """Name of the kind of model."""
        return "popularity"

    @property
    def rounds(self) -> int:
        """One."""
        return 1

    def start(self, tags: csr_array | None = None) -> State:
        """Nothing is known; tags are not used."""
        del tags
        return beginning()

    def summed(self, histories: csr_array, state: State, bound: int) -> Summed:
        """Return the counts, whatever the state."""
        del state  # counts are asked for before anything is known
        return counted(histories, bound)

    def step(self, state: State, released: Disclosed) -> State:
        """Keep the counts."""
        return after_round(state, counts=released.values.astype(np.float32))

    def scores(self, histories: csr_array, state: State) -> NDArray[np.float32]:
        """Return the counts for each person."""
        return np.tile(state["counts"], (histories.shape[0], 1))

    def adds(self, state: State, known: NDArray[np.int64], listed: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return zeros: nothing here is personal."""
        del state
        return np.zeros((len(known), len(listed)))

    def redrawn(self, state: State, sigmas: Sequence[float], random: np.random.Generator) -> State | None:
        """Draw other counts; without noise there are no others."""
        return state | {"counts": other_counts(state["counts"], sigmas[0], random)} if sigmas[0] else None

    def directions(self, state: State, sigmas: Sequence[float]) -> None:
        """Return None: counts have no directions."""
        del state, sigmas


def counted(histories: csr_array, bound: int) -> Summed:
    """Return the sum of integer rows of length at most ``bound``, with the same number on each of a person's items."""
    sizes = np.diff(histories.indptr).astype(np.int64)
    steps = steps_of(sizes, bound)
    total = np.zeros(histories.shape[1], np.int64)
    np.add.at(total, histories.indices, np.repeat(steps, sizes))
    return Summed(total, sizes * steps * steps)


def steps_of(sizes: NDArray[np.int64], bound: int) -> NDArray[np.int64]:
    """Return what each item of a history of k items counts, int64 [people]: floor(bound / sqrt(k)); 0 for k = 0.

    That is isqrt(bound^2 // k), so that k times its square is at most bound^2.
    """
    different, place = np.unique(sizes, return_inverse=True)
    steps = [isqrt(bound * bound // k) if k else 0 for k in different.tolist()]
    return np.array(steps, np.int64)[place]


def other_counts(counts: NDArray[np.float32], sigma: float, random: np.random.Generator) -> NDArray[np.float32]:
    """Return counts [items] as other noise could have left them, given how this noise left them.

    A count far above its noise is anywhere near where it was released. One that is not is more likely to be one of the
    many small ones: those are drawn from their posterior under the likeliest prior (Kiefer and Wolfowitz 1956).

    Args:
        counts: as released.
        sigma: standard deviation of the noise, above 0.
        random: public.
    """
    released = counts.astype(np.float64) / sigma
    truth = released + random.standard_normal(len(counts))
    near = released < FAR
    truth[near] = _drawn_truth(released[near], random)
    drawn: NDArray[np.float32] = (sigma * (truth + random.standard_normal(len(counts)))).astype(np.float32)
    return drawn


def _drawn_truth(released: NDArray[np.float64], random: np.random.Generator) -> NDArray[np.float64]:
    """Return what may lie under numbers whose noise has variance 1, from 0 to a little above ``FAR``."""
    values, place, times = np.unique(np.rint(released / BIN), return_inverse=True, return_counts=True)
    support = np.arange(0.0, FAR + 4.0, 2 * BIN)
    squares = (values[:, None] * BIN - support) ** 2
    likelihood = np.exp((squares.min(axis=1, keepdims=True) - squares) / 2)
    prior = np.full(len(support), 1 / len(support))
    for _ in range(LOOKS):
        posterior = likelihood * prior
        posterior /= posterior.sum(axis=1, keepdims=True)
        prior = times @ posterior / max(len(released), 1)
    chosen = (posterior.cumsum(axis=1)[place] < random.random(len(released))[:, None]).sum(axis=1)
    truth: NDArray[np.float64] = support[np.minimum(chosen, len(support) - 1)]
    return truth


def most_popular(counts: NDArray[np.float64], kept: int) -> NDArray[np.int64]:
    """Return the positions of the ``kept`` largest counts, in catalogue order."""
    return np.sort(np.argsort(-counts, kind="stable")[:kept])
