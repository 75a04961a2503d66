"""Federated iALS: sums that are small enough to be sent, and a Newton step for each item on them.

iALS (Hu, Koren, Volinsky 2008) alternates between people, who solve for their own factor u from the item factors V,
and items, each of which solves a system ``sum u u'`` over the people who know it. A person who sends that sends d^2
numbers an item. Here they send, for each item j that they know, ``(V_j u - 1) u``, ``u`` and 1: 2 d + 1 numbers; and
once ``u u'``, and ``u u'`` times the number of their items. The first part is the exact gradient. The others say what
an item's system is nearly: its people's mean ``u``, outer product with itself (*between* items), and around it a
covariance that is taken to be the same for all items (*within*):

    2 n_j C + b_j b_j' / n_j + unobserved G + ridge,     C = (M - sum b_j b_j' / n_j) / sum n_j.

A step against the gradient, preconditioned so, is nearly the exact solution, and what it leaves over the next one sees.
C counts twice because some items' people differ more than others': a step that is too short is mended by the next one,
one that is too long need not be.

Without noise (``private`` off) sums are plain, people with long histories weigh more, and three sweeps lead where three
of iALS in one place do, or near it. With noise people weigh the same: factors have length 1, and a person's k items
weigh 1/sqrt(k), as in ``als``. Noise is on all 2 d + 1 numbers of each item, in each sweep, so that with few people, or
little epsilon, ``subspace`` is better by far.

Round 0 releases counts, which choose the items. A row that is longer than ``longest`` is scaled down to it. Proof:
``ials.md``.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from discreet.compiled import compiled
from discreet.models.als import (
    INWARD,
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

BLOCK = 1_024
"""Items whose systems are held at once."""

CAUTION = 2.0
"""How often the common covariance counts: with 1, a fourth sweep of gowalla is worse than the third."""

LEAST_TALLY = 1e-9
"""Of an item that nobody knows: its sums are 0, whatever they are divided by."""


@dataclass(frozen=True, kw_only=True)
class Ials:
    """Settings, all public.

    Attributes:
        people: how many take part.
        items: size of the catalogue.
        kept: how many items, the most popular by noisy count, have a factor; the rest rank by count.
        embedding_size: length of a factor, d.
        sweeps: Newton steps; each is a round.
        private: whether all people weigh the same; without noise they weigh what they are.
        unobserved: weight of all that a typical history leaves out, over that of all that is in it.
        reg: ridge of a person's factor, over the length of a typical history; of an item's, over a typical count.
        noise_reg: more ridge of an item's factor, in standard deviations of the noise on its gradient.
        longest: length of a row, its parts weighed, that is the whole bound; longer ones are scaled down to it.
        between: weight in the row of each item's ``u``; that of its gradient is 1.
        tally: weight in the row of each item's 1.
        curvature: weight in the row of ``u u'``.
        within: weight in the row of ``u u'`` times the number of items.
        seed: of the first item factors, which are public and random.
    """

    people: int
    items: int
    kept: int
    embedding_size: int = 16
    sweeps: int = 3
    private: bool = True
    unobserved: float = 30.0
    reg: float = 0.1
    noise_reg: float = 10.0
    longest: float = 0.5
    between: float = 0.1
    tally: float = 0.1
    curvature: float = 0.32
    within: float = 0.01
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("people", "items", "kept", "embedding_size", "sweeps"):
            check_setting(name, getattr(self, name), 1)
        for name in ("reg", "longest", "between", "tally", "curvature", "within"):
            check_setting(name, getattr(self, name), 1e-9)
        for name in ("unobserved", "noise_reg"):
            check_setting(name, getattr(self, name), 0)

    @property
    def name(self) -> str:
        """Name of the kind of model."""
        return "ials"

    @property
    def rounds(self) -> int:
        """Counts, then the sweeps."""
        return 1 + self.sweeps

    def start(self, tags: csr_array | None = None) -> State:
        """Nothing is known; tags are not used."""
        del tags
        return beginning()

    def summed(self, histories: csr_array, state: State, bound: int) -> Summed:
        """Return the counts, or the statistics of one sweep: ``[kept, 2 d + 1]``, then ``[2, d (d + 1) / 2]``.

        An item's are its gradient, its sum of factors and its tally; then come the two packed triangles.
        """
        if round_number(state) == 0:
            return counted(histories, bound)
        kept, d = state["factors"].shape
        per_item, shared = np.zeros((kept, 2 * d + 1), np.int64), np.zeros((2, d * (d + 1) // 2), np.int64)
        squared_norms = np.zeros(histories.shape[0], np.int64)
        people = (histories.indptr, histories.indices, positions_of(state["kept"], self.items))
        system = (*person_system(state, self.unobserved), self._ridge(state))
        weights = (self.between, self.tally, self.curvature, self.within)
        lengths = (bound * INWARD, self.longest)
        _add_people(*people, *system, self.private, weights, lengths, per_item, shared, squared_norms)
        return Summed(np.concatenate([per_item.ravel(), shared.ravel()]), squared_norms)

    def step(self, state: State, released: Disclosed) -> State:
        """Choose the items; then take a step with each item's factor."""
        if round_number(state) > 0:
            return after_round(state, factors=self._moved(state, released))
        kept = most_popular(released.values, self.kept)
        factors = first_factors(len(kept), self.embedding_size, self.seed)
        share = np.array(typical_root(released, self.people) ** 2 / len(kept))  # of the kept, in a typical history
        counts = released.values.astype(np.float32)
        return after_round(state, counts=counts, kept=kept, typical=share, factors=factors)

    def scores(self, histories: csr_array, state: State) -> NDArray[np.float32]:
        """Solve for each person's factor; items that were not kept come last."""
        return folded_in(histories, state, self.items, *self.solving(state))

    def solving(self, state: State) -> tuple[float, float]:
        """Return what an item that is not known weighs in a person's system, and its ridge."""
        return self.unobserved * float(state["typical"].item()), self._ridge(state)

    def _ridge(self, state: State) -> float:
        """Return the ridge of a person's factor."""
        return self.reg * float(state["typical"].item()) * len(state["kept"])

    def _moved(self, state: State, released: Disclosed) -> NDArray[np.float64]:
        """Return the item factors after one preconditioned step."""
        factors = np.array(state["factors"], np.float64)
        kept, d = factors.shape
        sigma = released.sigma * self.longest
        per_item, shared = np.split(released.values * self.longest, [kept * (2 * d + 1)])
        gradients, sums, tallies = np.split(per_item.reshape(kept, 2 * d + 1), [d, 2 * d], axis=1)
        alike, spread = unpacked(shared.reshape(2, -1) / np.array([[self.curvature], [self.within]]), d)
        tallies = np.maximum(tallies / self.tally, max(sigma / self.tally, LEAST_TALLY))
        between = stein(sums / self.between, sigma / self.between) / np.sqrt(tallies)
        within = CAUTION * _positive((spread - between.T @ between) / tallies.sum())
        common = self._common(state, _positive(alike), sigma)
        gradients = gradients + factors @ common
        for start in range(0, kept, BLOCK):
            block = slice(start, start + BLOCK)
            outer = between[block, :, None] * between[block, None, :]
            system = tallies[block, :, None] * within + outer + common
            factors[block] -= np.linalg.solve(system, gradients[block, :, None])[..., 0]
        return factors

    def _common(self, state: State, alike: NDArray[np.float64], sigma: float) -> NDArray[np.float64]:
        """Return what is the same in all items' systems: what people do not know, and the ridge."""
        share = float(state["typical"].item())
        weight = share / np.sqrt(share * len(state["kept"])) if self.private else share  # people weigh 1/sqrt(k)
        ridge = self.reg * weight * self.people + self.noise_reg * sigma
        return self.unobserved * weight * alike + ridge * np.eye(len(alike))


def stein(sums: NDArray[np.float64], sigma: float) -> NDArray[np.float64]:
    """Return rows [n, d] without the length that noise of deviation ``sigma`` gave them (James and Stein 1961).

    Squared lengths are lowered by that of the noise, d sigma^2, and not below 0: what is left are unbiased outer
    products where signal is strong, and none where there is nothing but noise.
    """
    squares = (sums**2).sum(axis=1, keepdims=True)
    noise = sums.shape[1] * sigma**2
    return np.asarray(sums * np.sqrt(np.maximum(squares - noise, 0.0) / np.maximum(squares, np.finfo(float).tiny)))


def _positive(matrix: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(positive(matrix[None])[0])


@compiled
def _add_people(
    indptr: NDArray[np.int32],
    indices: NDArray[np.int32],
    positions: NDArray[np.int64],
    factors: NDArray[np.float64],
    common: NDArray[np.float64],
    reg: float,
    even: bool,
    weights: tuple[float, float, float, float],
    lengths: tuple[float, float],
    per_item: NDArray[np.int64],
    shared: NDArray[np.int64],
    squared_norms: NDArray[np.int64],
) -> None:
    """Add each person's statistics, rounded toward zero, and their exact squared length."""
    between, tally, curvature, within = weights
    for i in range(indptr.size - 1):
        known = known_positions(indices[indptr[i] : indptr[i + 1]], positions)
        if known.size == 0:
            continue
        u = solve_person(known, factors, common, reg)
        size = np.sqrt((u * u).sum())
        if not 0.0 < size < np.inf:
            continue
        weight = 1.0
        if even:
            u /= size
            size = 1.0
            weight = 1.0 / np.sqrt(known.size)
        residuals = np.empty(known.size)
        for index, j in enumerate(known):
            residuals[index] = (factors[j] * u).sum() - 1.0
        squares = (residuals * residuals).sum() + between**2 * known.size
        items = weight**2 * (squares * size**2 + tally**2 * known.size)
        both = curvature, within * weight * known.size
        length = np.sqrt(items + (both[0] ** 2 + both[1] ** 2) * size**4)
        if not 0.0 < length < np.inf:
            continue
        share = lengths[0] / max(length, lengths[1])
        each = share * weight
        square = _add_items(known, residuals, u, (each, each * between, each * tally), per_item)
        squared_norms[i] = square + _add_triangles(u, (share * both[0], share * both[1]), shared)


@compiled
def _add_items(
    known: NDArray[np.int64],
    residuals: NDArray[np.float64],
    u: NDArray[np.float64],
    weights: tuple[float, float, float],
    per_item: NDArray[np.int64],
) -> np.int64:
    """Add ``residual u``, ``u`` and 1, weighed, to each known item; return the sum of the integers' squares."""
    d = u.size
    square = np.int64(0)
    for index, j in enumerate(known):
        for p in range(d):
            q = np.int64(weights[0] * residuals[index] * u[p])
            per_item[j, p] += q
            square += q * q
            q = np.int64(weights[1] * u[p])
            per_item[j, d + p] += q
            square += q * q
        q = np.int64(weights[2])
        per_item[j, 2 * d] += q
        square += q * q
    return square


@compiled
def _add_triangles(u: NDArray[np.float64], weights: tuple[float, float], shared: NDArray[np.int64]) -> np.int64:
    """Add ``u u'``, packed, under each of two weights; return the sum of the integers' squares."""
    cell = 0
    square = np.int64(0)
    for p in range(u.size):
        for r in range(p, u.size):
            product = u[p] * u[r] * (1.0 if p == r else np.sqrt(2.0))
            for part in range(2):
                q = np.int64(weights[part] * product)
                shared[part, cell] += q
                square += q * q
            cell += 1
    return square
