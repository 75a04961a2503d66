"""How good lists are, on people who were held out, over the whole catalogue.

*Strong generalisation* (Liang, Krishnan, Hoffman, Jebara 2018): people who took no part in training fold most of their
history in; what they held back is to be found. *Leave one out*: each person's last item is held back.

Recall@k divides by min(k, held); NDCG has binary gains. Metrics on sampled negatives are not offered: they reorder
models (Krichene and Rendle 2020).

The figures are exact means over held-out people: they are *not* covered by a guarantee. They are for whoever may see
the data, and need data that was collected for measuring quality.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from discreet.data.splitting import Split

Score = Callable[[csr_array], NDArray[np.float32]]
"""float32 [people, items] for histories [people, items]."""

Protocol = Literal["strong", "leave-one-out"]
METRICS: dict[Protocol, tuple[str, ...]] = {
    "strong": ("recall@20", "recall@50", "ndcg@100"),
    "leave-one-out": ("hr@10", "ndcg@10"),
}
BLOCK = 500
DEPTH = 100


@dataclass(frozen=True)
class Estimate:
    """A mean over seeds.

    Attributes:
        values: one a seed, at least one.
    """

    values: tuple[float, ...]

    @property
    def mean(self) -> float:
        """Mean of the seeds' values."""
        return float(np.mean(self.values))

    @property
    def error(self) -> float:
        """Standard error of the mean; 0 with one seed, which tells nothing of it."""
        return float(np.std(self.values, ddof=1) / np.sqrt(self.seeds)) if self.seeds > 1 else 0.0

    @property
    def seeds(self) -> int:
        """How many there are."""
        return len(self.values)

    @classmethod
    def over(cls, values: Iterable[float]) -> Estimate:
        """Sum up one value a seed."""
        return cls(tuple(values))

    def interval(self, confidence: float = 0.95) -> tuple[float, float]:
        """Return Student's interval for the mean; infinite with one seed."""
        from scipy.stats import t

        if self.seeds < 2:
            return -np.inf, np.inf
        reach = float(t.ppf((1 + confidence) / 2, self.seeds - 1)) * self.error
        return self.mean - reach, self.mean + reach


def gain_kept(model: Estimate, floor: Estimate, ceiling: Estimate) -> Estimate:
    """Return the share of the way from ``floor`` to ``ceiling`` that ``model`` goes, seed by seed.

    Args:
        model: measured on the same seeds as the other two.
        floor: what needs no personal data, as a rule popularity; its share is 0.
        ceiling: the best without privacy; its share is 1. NaN where it is not above the floor.
    """
    triples = zip(model.values, floor.values, ceiling.values, strict=True)
    return Estimate.over((own - low) / (high - low) if high > low else np.nan for own, low, high in triples)


def measure(score: Score, split: Split, protocol: Protocol = "strong") -> dict[str, float]:
    """Return each metric's mean over the held-out people of ``split``."""
    sums = dict.fromkeys(METRICS[protocol], 0.0)
    people = split.fold_in.shape[0]
    for start in range(0, people, BLOCK):
        known, held = split.fold_in[start : start + BLOCK], split.held[start : start + BLOCK]
        for name, values in _block(score(known), known, held, protocol).items():
            sums[name] += float(values.sum())
    return {name: total / people for name, total in sums.items()}


def _block(
    scores: NDArray[np.float32], known: csr_array, held: csr_array, protocol: Protocol
) -> dict[str, NDArray[np.float64]]:
    hits = hits_of(scores, known, held, DEPTH)
    sizes = np.diff(held.indptr).astype(np.int64)
    if protocol == "strong":
        return {
            "recall@20": recall(hits[:, :20], sizes),
            "recall@50": recall(hits[:, :50], sizes),
            "ndcg@100": ndcg(hits, sizes),
        }
    return {"hr@10": recall(hits[:, :10], sizes), "ndcg@10": ndcg(hits[:, :10], sizes)}


def hits_of(scores: NDArray[np.float32], known: csr_array, held: csr_array, depth: int) -> NDArray[np.bool_]:
    """Return whether each of a person's best ``depth`` items is among those held back, bool [people, depth].

    What is ``known`` already is no discovery and comes last; ties are in catalogue order.
    """
    ranked = scores.copy()
    ranked[known.nonzero()] = -np.inf
    return np.take_along_axis(held.toarray() > 0, top(ranked, depth), axis=1)


def recall(hits: NDArray[np.bool_], sizes: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the hits of each row [people, k] over the most that there could be, min(k, size)."""
    found: NDArray[np.float64] = hits.sum(axis=1) / np.minimum(hits.shape[1], sizes)
    return found


def ndcg(hits: NDArray[np.bool_], sizes: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the discounted gain of each row of hits [people, k] over the best that ``sizes`` hits could have."""
    discount = 1.0 / np.log2(np.arange(hits.shape[1]) + 2.0)
    ideal = np.concatenate([[0.0], np.cumsum(discount)])[np.minimum(sizes, hits.shape[1])]
    gain: NDArray[np.float64] = (hits * discount).sum(axis=1) / ideal
    return gain


def top(ranked: NDArray[np.float32], depth: int) -> NDArray[np.int64]:
    """Return the positions of the best ``depth`` of each row, best first, ties in catalogue order.

    Only what is as good as the last of them is sorted: a whole catalogue takes much longer.
    """
    people, items = ranked.shape
    if depth >= items:
        return np.argsort(-ranked, axis=1, kind="stable")
    top = np.empty((people, depth), np.int64)
    least = np.partition(ranked, items - depth, axis=1)[:, items - depth]
    for row, (values, limit) in enumerate(zip(ranked, least, strict=True)):
        able = np.flatnonzero(values >= limit)
        top[row] = able[np.argsort(-values[able], kind="stable")[:depth]]
    return top
