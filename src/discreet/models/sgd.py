"""Gradient descent on item factors with user-level noise: DP-SGD, the anchor that deep recommenders train with.

Abadi et al.: Deep Learning with Differential Privacy (2016), with the person as the unit, as in DP-FedAvg (McMahan et
al. 2018). In each round everybody solves for their own factor u from the released item factors V, and sends the
gradient of their own loss with respect to V:

    |1 - V_K u|^2 + unobserved |V u|^2,        K being the items that they know.

The gradient has two parts: ``(V_j u - 1) u`` for each j in K, and ``V u u'``, of which only ``u u'`` has to be sent.
Both are scaled together to length 1 if they are longer than ``clip``, packed in one row, and added up. Everybody takes
part in every round, so nothing is claimed for sampling. What the server does with the noisy gradient is
post-processing: momentum, and for each item a step that is the shorter the more its gradient can turn, by released
counts.

Proof: ``sgd.md``.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from discreet.compiled import compiled
from discreet.models.als import (
    INWARD,
    SCORING_REG,
    first_factors,
    folded_in,
    known_positions,
    person_system,
    positive,
    solve_person,
    typical_root,
    unpacked,
)
from discreet.models.base import State, after_round, beginning, check_setting, round_number
from discreet.models.popularity import counted, most_popular
from discreet.models.slate import positions_of
from discreet.privacy.clipping import Summed
from discreet.privacy.disclosure import Disclosed


@dataclass(frozen=True, kw_only=True)
class Sgd:
    """Settings, all public.

    Attributes:
        people: how many take part.
        items: size of the catalogue.
        kept: how many items, the most popular by noisy count, have a factor; the rest rank by count.
        embedding_size: length of a factor.
        steps: of descent; each is a round.
        unobserved: weight of what a person does not know, per root of a typical history, as in ``als``.
        reg: ridge of a person's factor.
        clip: length above which a gradient is scaled down to it.
        curvature: weight in the row of ``u u'``.
        rate: length of a step, 1 being where the steepest direction just does not swing.
        momentum: share of a step that the next one repeats.
        noise_reg: standard deviations of the noise that are added to an item's count before its step is divided by it.
        decay: ridge of an item's factor, per step.
        seed: of the first item factors, which are public and random.
    """

    people: int
    items: int
    kept: int
    embedding_size: int = 16
    steps: int = 12
    unobserved: float = 0.04
    reg: float = 3.0
    clip: float = 0.2
    curvature: float = 1.0
    rate: float = 1.0
    momentum: float = 0.0
    noise_reg: float = 2.0
    decay: float = 0.0
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("people", "items", "kept", "embedding_size", "steps"):
            check_setting(name, getattr(self, name), 1)
        for name in ("reg", "clip", "curvature"):
            check_setting(name, getattr(self, name), 1e-9)
        for name in ("unobserved", "rate", "noise_reg"):
            check_setting(name, getattr(self, name), 0)
        for name in ("momentum", "decay"):
            check_setting(name, getattr(self, name), 0, 1)

    @property
    def name(self) -> str:
        """Name of the kind of model."""
        return "sgd"

    @property
    def rounds(self) -> int:
        """Counts, then the steps."""
        return 1 + self.steps

    def start(self, tags: csr_array | None = None) -> State:
        """Nothing is known; tags are not used."""
        del tags
        return beginning()

    def summed(self, histories: csr_array, state: State, bound: int) -> Summed:
        """Return the counts, or the clipped gradients: ``[kept, d]``, then the packed triangle ``[d (d + 1) / 2]``."""
        if round_number(state) == 0:
            return counted(histories, bound)
        kept, d = state["factors"].shape
        right, shared = np.zeros((kept, d), np.int64), np.zeros(d * (d + 1) // 2, np.int64)
        squared_norms = np.zeros(histories.shape[0], np.int64)
        people = (histories.indptr, histories.indices, positions_of(state["kept"], self.items))
        _add_gradients(
            *people,
            *person_system(state, self.unobserved),
            self.reg,
            self.clip,
            self.curvature,
            bound * INWARD,
            right,
            shared,
            squared_norms,
        )
        return Summed(np.concatenate([right.ravel(), shared]), squared_norms)

    def step(self, state: State, released: Disclosed) -> State:
        """Choose the items; then take a step against the gradient."""
        if round_number(state) == 0:
            kept = most_popular(released.values, self.kept)
            factors = first_factors(len(kept), self.embedding_size, self.seed)
            counts, velocity = released.values.astype(np.float32), np.zeros_like(factors)
            learnt = {"typical": typical_root(released, self.people), "factors": factors, "velocity": velocity}
            return after_round(state, counts=counts, kept=kept, **learnt)
        factors = state["factors"]
        kept, d = factors.shape
        right, shared = np.split(released.values, [kept * d])
        outer = positive(unpacked(shared[None] / self.curvature, d))[0]
        outer *= self.unobserved * float(state["typical"].item())
        gradient = right.reshape(kept, d) + factors @ outer
        # Steps stay below one over how strongly the gradient can turn, or rare items would swing out.
        steady = np.maximum(state["counts"][state["kept"]], 1.0) + np.linalg.norm(outer, 2)
        steady = steady + self.noise_reg * released.sigma
        velocity = self.momentum * state["velocity"] + gradient / steady[:, None] + self.decay * factors
        last = round_number(state) == self.steps
        kept_up = {name: array for name, array in state.items() if name != "velocity"}
        return after_round(kept_up, factors=factors - self.rate * velocity, **({} if last else {"velocity": velocity}))

    def scores(self, histories: csr_array, state: State) -> NDArray[np.float32]:
        """Solve for each person's factor; items that were not kept come last."""
        return folded_in(histories, state, self.items, *self.solving(state))

    def solving(self, state: State) -> tuple[float, float]:
        """Return what an item that is not known weighs in a person's system, and its ridge."""
        return self.unobserved * float(state["typical"].item()), self.reg * SCORING_REG


@compiled
def _add_gradients(
    indptr: NDArray[np.int32],
    indices: NDArray[np.int32],
    positions: NDArray[np.int64],
    factors: NDArray[np.float64],
    common: NDArray[np.float64],
    reg: float,
    clip: float,
    curvature: float,
    scale: float,
    right: NDArray[np.int64],
    shared: NDArray[np.int64],
    squared_norms: NDArray[np.int64],
) -> None:
    """Add each person's clipped gradient, rounded toward zero, and its exact squared length."""
    d = factors.shape[1]
    for i in range(indptr.size - 1):
        known = known_positions(indices[indptr[i] : indptr[i + 1]], positions)
        if known.size == 0:
            continue
        u = solve_person(known, factors, common, reg)
        residuals = np.empty(known.size)
        for index, j in enumerate(known):
            residuals[index] = (factors[j] * u).sum() - 1.0
        size2 = (u * u).sum()
        length = np.sqrt(size2 * (residuals * residuals).sum() + (curvature * size2) ** 2)
        if not 0.0 < length < np.inf:
            continue
        share = scale / max(length, clip)
        square = np.int64(0)
        for index, j in enumerate(known):
            for p in range(d):
                q = np.int64(share * residuals[index] * u[p])
                right[j, p] += q
                square += q * q
        cell = 0
        for p in range(d):
            for r in range(p, d):
                q = np.int64(share * curvature * u[p] * u[r] * (1.0 if p == r else np.sqrt(2.0)))
                shared[cell] += q
                square += q * q
                cell += 1
        squared_norms[i] = square
