"""What privacy did to a model as a whole: which directions survived, and how much of the catalogue can be recommended.

Both are read off the released model with public probes, so they cost nothing and touch nobody's data:

- the empty history, every history of one item, and ``PAIRS`` histories of two items, by public randomness. An item is
  *reachable* if it is in the best ``DEPTH`` of at least one probe. People with longer histories can reach more: the
  share is a lower bound.
- a direction *survived* if it is stronger than noise alone would have made the strongest (``Explainable.directions``).

``bias`` is another matter: it makes lists for real people, with this model and with one that has no noise, and says
how much of them is popular. Its figures are exact, not private: they need data that was collected for measuring
quality, and are for whoever may see it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from discreet.data.interactions import Histories
from discreet.errors import PurposeNotAllowed, SettingError
from discreet.evaluation.ranking import BLOCK, Score, top
from discreet.evaluation.tradeoff import PURPOSE, fit_unbilled
from discreet.models.base import Explainable
from discreet.models.explanation import noise_of
from discreet.models.recipe import Kind
from discreet.models.trained import Trained
from discreet.randomness import public_generator

DEPTH = 20
PAIRS = 5_000
SEED = 0
ENDS = 4
"""Items that are named at either end of a direction."""

POPULAR = (0.01, 0.05, 0.2)
MOST_PEOPLE = 2_000
"""Whose lists are made for ``bias``."""

Progress = Callable[[int, int], None]
"""Told how many probes were answered, and of how many."""


@dataclass(frozen=True)
class Direction:
    """A taste that many people share, strong enough to be seen through the noise. It has two ends and no sign.

    Attributes:
        strength: in noise edges: noise alone would reach 1.
        one: titles of the items that are most at one end.
        other: at the other.
    """

    strength: float
    one: tuple[str, ...]
    other: tuple[str, ...]


@dataclass(frozen=True)
class Reach:
    """How much of the catalogue some public probe puts into its best ``depth``.

    Attributes:
        depth: length of the lists.
        by_default: share of the catalogue that the empty history's list has.
        by_one: share that the lists of all histories of up to one item have.
        by_two: the same, and of ``pairs`` histories of two items.
        pairs: how many there were.
        personal: share of the catalogue that has personal scores; the rest is ranked by count, behind them.
    """

    depth: int
    by_default: float
    by_one: float
    by_two: float
    pairs: int
    personal: float


@dataclass(frozen=True)
class Survey:
    """What privacy did to a model. Public, as the model is.

    Attributes:
        directions: that survived the noise, strongest first; None if the model has none, or had no noise.
        sought: how many there could have been.
        reach: how much of the catalogue can be recommended.
    """

    directions: tuple[Direction, ...] | None
    sought: int
    reach: Reach

    def to_dict(self) -> dict[str, Any]:
        """Return JSON values."""
        return asdict(self)


@dataclass(frozen=True)
class Bias:
    """How much of what is recommended is popular. Exact, not private.

    Attributes:
        popular: shares of the catalogue, the most popular items of the data.
        released: for each of them, the share of what the model recommends that falls on it.
        open: the same for the same kind of model without noise, made for this and thrown away.
        people: whose lists were made.
        depth: length of the lists.
    """

    popular: tuple[float, ...]
    released: tuple[float, ...]
    open: tuple[float, ...]
    people: int
    depth: int

    def to_dict(self) -> dict[str, Any]:
        """Return JSON values, and that they are not private."""
        return asdict(self) | {"figures_are_private": False}


def survey(trained: Trained, *, progress: Progress | None = None) -> Survey:
    """Return which directions survived, and how much of the catalogue can be recommended.

    Args:
        trained: the released model.
        progress: told while probes are answered.
    """
    found, sought = _directions(trained)
    return Survey(found, sought, _reach(trained, progress))


def bias(trained: Trained, histories: Histories, *, kind: Kind = "auto") -> Bias:
    """Return how much of what people get is popular, beside the same data's model without noise.

    Args:
        trained: the released model.
        histories: opened for ``measure-quality``, with the model's catalogue; the first ``MOST_PEOPLE`` get lists, and
            all of them train the model without noise, which is thrown away.
        kind: of the model without noise; by default the recipe's.

    Raises:
        PurposeNotAllowed: the histories were opened for something else.
        SettingError: they have another catalogue.
    """
    if histories.purpose != PURPOSE:
        raise PurposeNotAllowed(f"popularity bias is measured on data opened for {PURPOSE!r}; open it for that")
    if histories.catalogue.ids != trained.catalogue.ids:
        raise SettingError("the model knows another catalogue than the data: give both the same with --items")
    order = np.argsort(-np.bincount(histories.matrix.indices, minlength=len(trained.catalogue)), kind="stable")
    some = histories.matrix[:MOST_PEOPLE]
    without_noise = fit_unbilled(histories, math.inf, kind)
    ours, theirs = (_on_popular(score, some, order) for score in (trained.scores, without_noise.scores))
    return Bias(POPULAR, ours, theirs, some.shape[0], DEPTH)


def _directions(trained: Trained) -> tuple[tuple[Direction, ...] | None, int]:
    model = trained.model
    found = model.directions(trained.state, noise_of(trained.plan)) if isinstance(model, Explainable) else None
    if found is None:
        return None, 0
    kept = trained.state["kept"]

    def titles(places: NDArray[np.int64]) -> tuple[str, ...]:
        return tuple(trained.catalogue.title(int(kept[place])) for place in places)

    return tuple(
        Direction(float(strength), titles(order[-ENDS:][::-1]), titles(order[:ENDS]))
        for strength, order in zip(found.strengths, np.argsort(found.weights, axis=0).T, strict=True)
    ), found.sought


def _reach(trained: Trained, progress: Progress | None) -> Reach:
    items = len(trained.catalogue)
    kept = np.array(trained.state.get("kept", np.zeros(0, np.int64)))
    reached, shares = np.zeros(items, bool), []
    empty = _histories(items, np.zeros((1, 0), np.int64))
    # An item without personal scores, alone in a history, is answered as the empty history is, less itself.
    (default,) = _lists(trained.scores, empty)
    probes = [empty, _histories(items, np.union1d(kept, default)[:, None]), _pairs(items, kept)]
    whole, done = sum(each.shape[0] for each in probes), 0
    for probe in probes:
        for listed in _lists(trained.scores, probe):
            reached[listed] = True
            done += len(listed)
            if progress:
                progress(done, whole)
        shares.append(float(reached.mean()))
    return Reach(DEPTH, shares[0], shares[1], shares[2], probes[2].shape[0], len(kept) / items)


def _pairs(items: int, kept: NDArray[np.int64]) -> csr_array:
    """Return histories of two different items that have personal scores, none if there are not two."""
    if len(kept) < 2:
        return _histories(items, np.zeros((0, 2), np.int64))
    random = public_generator(SEED)
    first = random.integers(0, len(kept), PAIRS)
    second = (first + random.integers(1, len(kept), PAIRS)) % len(kept)
    return _histories(items, kept[np.sort(np.column_stack([first, second]), axis=1)])


def _histories(items: int, chosen: NDArray[np.int64]) -> csr_array:
    people, k = chosen.shape
    return csr_array((np.ones(chosen.size, np.int8), chosen.ravel(), k * np.arange(people + 1)), shape=(people, items))


def _lists(score: Score, histories: csr_array) -> Iterator[NDArray[np.int64]]:
    """Yield the best items of a block of people [block, DEPTH], without what they know already."""
    for start in range(0, histories.shape[0], BLOCK):
        block = histories[start : start + BLOCK]
        ranked = score(block).copy()
        ranked[block.nonzero()] = -np.inf
        yield top(ranked, DEPTH)[:, :DEPTH]


def _on_popular(score: Score, histories: csr_array, order: NDArray[np.int64]) -> tuple[float, ...]:
    times = np.zeros(len(order))
    for listed in _lists(score, histories):
        times += np.bincount(listed.ravel(), minlength=len(order))
    running = np.cumsum(times[order]) / times.sum()
    return tuple(float(running[max(1, math.ceil(share * len(order))) - 1]) for share in POPULAR)
