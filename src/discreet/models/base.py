"""The shape of a recommender that can be learnt from private sums."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from discreet.errors import SettingError
from discreet.privacy.clipping import Summed
from discreet.privacy.disclosure import Disclosed

if TYPE_CHECKING:  # a device computes its sums with NumPy alone
    from scipy.sparse import csr_array

State = dict[str, NDArray[Any]]
"""Named arrays, all of them released: what a model knows between rounds, and its parameters after the last."""


EVIDENCE = "evidence"
"""The array of a state that lists do not need, and that says how much of them noise could have changed.

Others that are only needed to read it have names that begin so.
"""


class Model(Protocol):
    """A recommender. Its fields are public settings; people are rows; it never sees a sum that was not disclosed."""

    __dataclass_fields__: ClassVar[dict[str, Any]]

    @property
    def name(self) -> str:
        """Name of the kind of model."""

    @property
    def items(self) -> int:
        """Size of the catalogue."""

    @property
    def rounds(self) -> int:
        """How many sums it asks for."""

    def start(self, tags: csr_array | None = None) -> State:
        """Return what is known before the first round.

        Args:
            tags: what the catalogue says of the items, ones [items, tags]; public. None if it says nothing.
        """

    def summed(self, histories: csr_array, state: State, bound: int) -> Summed:
        """Return what a block of people adds to the next sum, and how long each person's row is.

        Args:
            histories: [people, items], ones, sorted indices.
            state: what is known so far.
            bound: S, in grid units.

        Returns:
            The sum over the block of one int64 row per person, with ``sum(q * q) <= bound * bound`` for each row. A
            row depends on nobody else. A kernel may add without making the rows, but must give their exact lengths.
        """

    def step(self, state: State, released: Disclosed) -> State:
        """Return what is known after a round. Post-processing: costs nothing."""

    def scores(self, histories: csr_array, state: State) -> NDArray[np.float32]:
        """Fold histories in: float32 [people, items], higher is better, seen items not excluded."""


@dataclass(frozen=True, eq=False)
class Directions:
    """What stood out of the noise: each a weight for every kept item.

    Attributes:
        strengths: float64 [n], largest first, in noise edges: what noise alone would reach is 1.
        weights: float64 [kept, n], columns of length 1; their signs mean nothing.
        sought: how many there could have been.
    """

    strengths: NDArray[np.float64]
    weights: NDArray[np.float64]
    sought: int


@runtime_checkable
class Explainable(Protocol):
    """A model whose score is a sum over the history, and whose noise is known. All of it is post-processing."""

    def adds(self, state: State, known: NDArray[np.int64], listed: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return what each item of a history adds to each score, float64 [known, listed].

        Args:
            state: after the last round.
            known: positions of the history's items.
            listed: positions of the items whose scores they are. A column of zeros is an item that is placed by its
                count alone; every other one sums to the score.
        """

    def redrawn(self, state: State, sigmas: Sequence[float], random: np.random.Generator) -> State | None:
        """Return what the same people could have led to under other noise; None if the state cannot tell.

        A draw from what is to be expected given what was released: what is not known of the sums is drawn too.

        Args:
            state: after the last round.
            sigmas: standard deviation of each round's noise, in whole contributions.
            random: public.
        """

    def directions(self, state: State, sigmas: Sequence[float]) -> Directions | None:
        """Return what stood out of the noise; None if the state cannot tell, or has no directions."""


def rows(model: Model, histories: csr_array, state: State, bound: int) -> csr_array:
    """Return each person's row, int64 [people, dims]: what the person's own device would send.

    A row *is* the sum over a block of one, so that the server's fast path and the device cannot drift apart.
    """
    from scipy.sparse import csr_array

    blocks = (histories[[person]] for person in range(histories.shape[0]))
    return csr_array(np.stack([model.summed(block, state, bound).total for block in blocks]))


def beginning() -> State:
    """Return the state of a model that knows nothing."""
    return {"round": np.array(0)}


def after_round(state: State, **learnt: NDArray[Any]) -> State:
    """Return ``state`` with what one more round has taught."""
    return state | {"round": np.array(state["round"] + 1)} | learnt


def round_number(state: State) -> int:
    """Return how many rounds ``state`` has seen."""
    return int(state["round"].item())  # a file gives it a dimension


def check_setting(name: str, value: float, least: float, most: float = math.inf) -> None:
    """Refuse a setting out of its range: the proofs beside the models rest on it.

    Raises:
        SettingError: names the setting.
    """
    if not least <= value <= most:
        raise SettingError(f"{name} must be from {least:g} to {most:g}, got {value:g}")
