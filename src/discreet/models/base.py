"""The shape of a recommender that can be learnt from private sums."""

from __future__ import annotations

import math
from typing import Any, ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from discreet.errors import SettingError
from discreet.privacy.clipping import Summed
from discreet.privacy.disclosure import Disclosed

State = dict[str, NDArray[Any]]
"""Named arrays, all of them released: what a model knows between rounds, and its parameters after the last."""


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

    def start(self) -> State:
        """Return what is known before the first round."""

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


def rows(model: Model, histories: csr_array, state: State, bound: int) -> csr_array:
    """Return each person's row, int64 [people, dims]: what the person's own device would send.

    A row *is* the sum over a block of one, so that the server's fast path and the device cannot drift apart.
    """
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
    return int(state["round"])


def check_setting(name: str, value: float, least: float, most: float = math.inf) -> None:
    """Refuse a setting out of its range: the proofs beside the models rest on it.

    Raises:
        SettingError: names the setting.
    """
    if not least <= value <= most:
        raise SettingError(f"{name} must be from {least:g} to {most:g}, got {value:g}")
