"""Questions that are no recommender: one sum each, asked of people as a model's sums are.

They are here so that a device can answer them by the same lines: how long histories are, and how often a released model
finds what somebody has. Proof: ``queries.md``.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from math import isqrt
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from discreet.documents import fields_of
from discreet.errors import SettingError
from discreet.models.base import Model, State, after_round, beginning, check_setting
from discreet.models.gram import Gram
from discreet.models.popularity import Popularity
from discreet.models.subspace import Subspace
from discreet.privacy.clipping import Summed
from discreet.privacy.disclosure import Disclosed

if TYPE_CHECKING:  # a device computes its sums with NumPy alone
    from scipy.sparse import csr_array

RANKERS: Mapping[str, type[Popularity | Subspace | Gram]] = {
    "popularity": Popularity,
    "subspace": Subspace,
    "gram": Gram,
}
"""Models that devices help to learn, and make lists with."""


class Question:
    """What is the same of all: one round, nothing known before, no lists."""

    rounds = 1

    def start(self, tags: csr_array | None = None) -> State:
        """Nothing is known."""
        del tags
        return beginning()

    def step(self, state: State, released: Disclosed) -> State:
        """Keep the answer, in people."""
        return after_round(state, answer=released.values)

    def scores(self, histories: csr_array, state: State) -> NDArray[np.float32]:
        """Refuse.

        Raises:
            SettingError: a question is no model.
        """
        del histories, state
        raise SettingError("a question makes no lists; ask a model")


@dataclass(frozen=True, kw_only=True)
class LengthCounts(Question):
    """How long histories are: everybody adds the bound to the one bin that holds the length of theirs.

    Whoever has none adds nothing: that is what being left out means.

    Attributes:
        items: size of the catalogue.
    """

    items: int

    def __post_init__(self) -> None:
        check_setting("items", self.items, 1)

    @property
    def name(self) -> str:
        """Name of the question."""
        return "lengths"

    @property
    def edges(self) -> tuple[int, ...]:
        """The longest history of each bin, two an octave: 1, 2, 3, 4, 6, 8, 12, ... up to the catalogue's size."""
        bits = range(self.items.bit_length())
        edges = sorted({1 << bit for bit in bits} | {3 << bit for bit in bits})
        return (*(edge for edge in edges if edge < self.items), self.items)

    def summed(self, histories: csr_array, state: State, bound: int) -> Summed:
        """Return the histogram, int64 [bins], in grid units."""
        del state
        lengths = np.diff(histories.indptr)
        bins = np.searchsorted(np.array(self.edges), lengths[lengths > 0])
        total = bound * np.bincount(bins, minlength=len(self.edges)).astype(np.int64)
        return Summed(total, bound * bound * (lengths > 0).astype(np.int64))


@dataclass(frozen=True, kw_only=True)
class Hits(Question):
    """How often a released model lists, among the first n, an item that is hidden from somebody's history.

    Which one is hidden is decided by the history and a seed. Whoever has fewer than two items adds nothing.

    Attributes:
        items: size of the catalogue.
        of: kind of the model, whose parameters are the state.
        settings: of the model, JSON.
        n: length of a list.
        seed: public.
    """

    items: int
    of: str
    settings: str
    n: int = 20
    seed: int = 0

    def __post_init__(self) -> None:
        check_setting("items", self.items, 1)
        check_setting("n", self.n, 1)
        check_setting("seed", self.seed, 0, 1 << 31)
        self.model()

    @property
    def name(self) -> str:
        """Name of the question."""
        return "evaluation"

    def model(self) -> Model:
        """Return the model that is measured.

        Raises:
            SettingError: its kind or settings are none, or it is of another catalogue.
        """
        try:
            model = RANKERS[self.of](**fields_of(RANKERS[self.of], json.loads(self.settings)))
        except (KeyError, RecursionError, TypeError, ValueError):
            raise SettingError("only a model that devices make lists with can be measured by them") from None
        if model.items != self.items:
            raise SettingError("the model is of another catalogue")
        return model

    def summed(self, histories: csr_array, state: State, bound: int) -> Summed:
        """Return how many were found, and how many there were to find, int64 [2], each floor(bound / sqrt(2))."""
        model, each, number = self.model(), isqrt(bound * bound // 2), len(histories.indptr) - 1
        found = np.zeros(number, np.int64)
        able = np.diff(histories.indptr) >= 2
        for person in np.flatnonzero(able):
            known = histories.indices[histories.indptr[person] : histories.indptr[person + 1]]
            found[person] = self._is_found(model, known, state)
        total = each * np.array([found.sum(), able.sum()], np.int64)
        return Summed(total, each * each * (found + able))

    def _is_found(self, model: Model, known: NDArray[np.int32], state: State) -> bool:
        hidden = known[(self.seed + int(known.sum(dtype=np.int64))) % len(known)]
        history = np.zeros((1, self.items), np.float32)
        history[0, known] = 1
        history[0, hidden] = 0
        scores = model.scores(history, state)[0]  # type: ignore[arg-type]  # a dense row is read alike
        scores[history[0] > 0] = -np.inf
        before = (scores > scores[hidden]).sum() + (scores[:hidden] == scores[hidden]).sum()
        return bool(before < self.n)
