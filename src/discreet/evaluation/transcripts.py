"""All that a training run released, round by round: what an attacker on the guarantee is given."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from discreet.models.base import Model, State
from discreet.privacy.clipping import Summed
from discreet.privacy.disclosure import Disclosed


@dataclass(frozen=True, eq=False)
class Watched:
    """A model that keeps what it is told: the state before each round, and what was released in it."""

    model: Model
    states: list[State] = field(default_factory=list)
    released: list[Disclosed] = field(default_factory=list)

    @property
    def name(self) -> str:
        """As the model says."""
        return self.model.name

    @property
    def items(self) -> int:
        """As the model says."""
        return self.model.items

    @property
    def rounds(self) -> int:
        """As the model says."""
        return self.model.rounds

    def start(self) -> State:
        """As the model does."""
        return self.model.start()

    def summed(self, histories: csr_array, state: State, bound: int) -> Summed:
        """As the model does."""
        return self.model.summed(histories, state, bound)

    def step(self, state: State, released: Disclosed) -> State:
        """As the model does; note what it was given."""
        self.states.append(state)
        self.released.append(released)
        return self.model.step(state, released)

    def scores(self, histories: csr_array, state: State) -> NDArray[np.float32]:
        """As the model does."""
        return self.model.scores(histories, state)
