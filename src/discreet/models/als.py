"""DPALS, the published anchor: alternating least squares on private sums.

Chien, Jain, Krichene, Rendle, Song, Thakurta, Zhang: Private Alternating Least Squares (ICML 2021). People solve for
their own factor u from the released item factors V, scale it to length 1, and add, for each item j that they know,
``w_j u`` (and, with ``item_curvature``, ``w_j u u'``), where the w_j of a person have length 1; and once ``u u'`` for
the items that they do not know. The server solves a small ridge regression per item. Round 0 releases counts, which
choose the items.

With ``rarity`` 0 a person's k items weigh the same, w = 1/sqrt(k). Above 0 the weights are adaptive (Krichene, Jain,
Song, Sundararajan, Thakurta, Zhang: Multi-task differential privacy under distribution skew, ICML 2023): a person
gives more of the bound to what few others know, by the released counts, so that rare items stand further out of the
noise, and popular ones less far.

A row has length ``sqrt(1 + curvature^2 + item_curvature^2)`` before it is scaled to the bound: the parts that are
packed as upper triangles count sqrt(2) times off the diagonal. Proof: ``als.md``.

It is here to be beaten: at equal budgets ``subspace`` needs fewer and smaller rounds.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from discreet.compiled import compiled
from discreet.models.base import State, after_round, beginning, check_setting, round_number
from discreet.models.popularity import counted, most_popular
from discreet.models.slate import behind, positions_of
from discreet.privacy.clipping import Summed
from discreet.privacy.disclosure import Disclosed
from discreet.randomness import public_generator

INWARD = 1.0 - 1e-9
"""As in ``gram``: rounding toward zero then never reaches over the bound."""


@dataclass(frozen=True, kw_only=True)
class Als:
    """Settings, all public.

    Attributes:
        people: how many take part.
        items: size of the catalogue.
        kept: how many items, the most popular by noisy count, have a factor; the rest rank by count.
        embedding_size: length of a factor.
        sweeps: alternations; each is a round.
        unobserved: weight of what a person does not know, over that of what they know, per root of a typical history.
        reg: ridge of a person's factor.
        item_reg: ridge of an item's factor, absolute.
        noise_reg: ridge of an item's factor, in standard deviations of the noise.
        curvature: weight in the row of the shared ``u u'``.
        item_curvature: weight in the row of each item's own ``u u'``; 0 leaves them out.
        rarity: p, an item weighs count^-p in a person's row; 0 weighs all the same.
        seed: of the first item factors, which are public and random.
    """

    people: int
    items: int
    kept: int
    embedding_size: int = 16
    sweeps: int = 4
    unobserved: float = 0.04
    reg: float = 3.0
    item_reg: float = 1.0
    noise_reg: float = 0.5
    curvature: float = 0.32
    item_curvature: float = 0.0
    rarity: float = 0.0
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("people", "items", "kept", "embedding_size", "sweeps"):
            check_setting(name, getattr(self, name), 1)
        for name in ("reg", "curvature"):
            check_setting(name, getattr(self, name), 1e-9)
        for name in ("unobserved", "item_reg", "noise_reg", "item_curvature"):
            check_setting(name, getattr(self, name), 0)
        check_setting("rarity", self.rarity, 0, 1)

    @property
    def name(self) -> str:
        """Name of the kind of model."""
        return "als"

    @property
    def rounds(self) -> int:
        """Counts, then the sweeps."""
        return 1 + self.sweeps

    def start(self, tags: csr_array | None = None) -> State:
        """Nothing is known; tags are not used."""
        del tags
        return beginning()

    def summed(self, histories: csr_array, state: State, bound: int) -> Summed:
        """Return the counts, or the statistics of one sweep.

        Their layout: ``[kept, d]``, then the shared triangle ``[d (d + 1) / 2]``, then, with ``item_curvature``, a
        triangle for each kept item.
        """
        if round_number(state) == 0:
            return counted(histories, bound)
        kept, d = state["factors"].shape
        triangle = d * (d + 1) // 2
        per_item = np.zeros((kept, triangle if self.item_curvature else 0), np.int64)
        right, shared = np.zeros((kept, d), np.int64), np.zeros(triangle, np.int64)
        squared_norms = np.zeros(histories.shape[0], np.int64)
        scale = bound * INWARD / np.sqrt(1.0 + self.curvature**2 + self.item_curvature**2)
        weights = (scale, scale * self.curvature, scale * self.item_curvature)
        people = (histories.indptr, histories.indices, positions_of(state["kept"], self.items))
        emphasis, system = np.array(state["emphasis"]), (*person_system(state, self.unobserved), self.reg)
        _add_people(*people, emphasis, *system, weights, right, shared, per_item, squared_norms)
        return Summed(np.concatenate([right.ravel(), shared, per_item.ravel()]), squared_norms)

    def step(self, state: State, released: Disclosed) -> State:
        """Choose the items; then solve for the items' factors."""
        if round_number(state) == 0:
            kept = most_popular(released.values, self.kept)
            factors = first_factors(len(kept), self.embedding_size, self.seed)
            emphasis = emphasised(np.maximum(released.values[kept], max(released.sigma, 1.0)), self.rarity)
            counts = released.values.astype(np.float32)
            learnt = {"emphasis": emphasis, "typical": typical_root(released, self.people), "factors": factors}
            return after_round(state, counts=counts, kept=kept, **learnt)
        kept, d = state["factors"].shape
        scale = np.sqrt(1.0 + self.curvature**2 + self.item_curvature**2)
        right, shared, per_item = np.split(released.values * scale, [kept * d, kept * d + d * (d + 1) // 2])
        sigma = released.sigma * scale
        # In the sum people weigh about 1/sqrt(k) on what they know: so much weighs the rest.
        common = self.unobserved * positive(unpacked(shared[None] / self.curvature, d))
        system = common + (self.item_reg + self.noise_reg * sigma) * np.eye(d)
        if self.item_curvature:
            system = system + positive(unpacked(per_item.reshape(kept, -1) / self.item_curvature, d))
        factors = np.linalg.solve(system, right.reshape(kept, d, 1))[..., 0]
        return after_round(state, factors=factors)

    def scores(self, histories: csr_array, state: State) -> NDArray[np.float32]:
        """Solve for each person's factor; items that were not kept come last."""
        return folded_in(histories, state, self.items, *self.solving(state))

    def solving(self, state: State) -> tuple[float, float]:
        """Return what an item that is not known weighs in a person's system, and its ridge."""
        return self.unobserved * float(state["typical"].item()), self.reg * SCORING_REG


SCORING_REG = 10.0
"""A list is made with a stronger ridge than a sweep: what is folded in is one history, not a sum over many."""


def first_factors(kept: int, embedding_size: int, seed: int) -> NDArray[np.float64]:
    """Return item factors [kept, embedding_size] to begin with: public, random, of a length of about 0.3."""
    factors = public_generator(seed).standard_normal((kept, embedding_size))
    return np.asarray(0.3 / np.sqrt(embedding_size) * factors)


def person_system(state: State, unobserved: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return V and the part of a person's system that is the same for all."""
    factors = np.array(state["factors"], np.float64)  # a copy: one layout, one compilation
    return factors, unobserved * float(state["typical"].item()) * factors.T @ factors


def folded_in(histories: csr_array, state: State, items: int, unobserved: float, reg: float) -> NDArray[np.float32]:
    """Solve for each person's factor, and score; items that were not kept come last. float32 [people, items].

    Whoever is not known gets what everybody likes.
    """
    factors = np.array(state["factors"], np.float64)  # a copy: one layout, one compilation
    common = unobserved * factors.T @ factors
    people = np.zeros((histories.shape[0], factors.shape[1]))
    known = (histories.indptr, histories.indices, positions_of(state["kept"], items))
    solve_people(*known, factors, common, reg, people)
    among_kept = (people @ factors.T).astype(np.float32)
    among_kept[~people.any(axis=1)] = state["counts"][state["kept"]]
    return behind(among_kept, state["kept"], state["counts"])


def typical_root(counts: Disclosed, people: int) -> NDArray[np.float64]:
    """Return the root of a typical history's length, at least 1: the counts have sqrt(k) of everybody."""
    return np.array(max(float(counts.values.sum()) / people, 1.0))


def emphasised(counts: NDArray[np.float64], rarity: float) -> NDArray[np.float64]:
    """Return what items weigh against each other, count^-rarity, 1 in the mean square over histories.

    Args:
        counts: released, above 0.
        rarity: 0 gives ones.
    """
    weights = counts**-rarity
    return np.asarray(weights / np.sqrt((counts * weights**2).sum() / counts.sum()))


def unpacked(triangles: NDArray[np.float64], d: int) -> NDArray[np.float64]:
    """Return [n, d, d] from packed upper triangles [n, d (d + 1) / 2] whose off-diagonal counts sqrt(2) times."""
    rows, columns = np.triu_indices(d)
    full = np.zeros((len(triangles), d, d))
    full[:, rows, columns] = full[:, columns, rows] = triangles / np.where(rows == columns, 1.0, np.sqrt(2))
    return full


def positive(matrices: NDArray[np.float64]) -> NDArray[np.float64]:
    """Project symmetric matrices [n, d, d] on the positive semi-definite ones: noise may have pushed them out."""
    values, vectors = np.linalg.eigh(matrices)
    projected = (vectors * np.maximum(values, 0.0)[:, None, :]) @ vectors.transpose(0, 2, 1)
    return np.asarray(projected, np.float64)


@compiled
def solve_person(
    known: NDArray[np.int64], factors: NDArray[np.float64], common: NDArray[np.float64], reg: float
) -> NDArray[np.float64]:
    """Return the ridge solution u [d] for a person who knows the items ``known`` (Rendle et al. 2021, iALS++ eq. 2)."""
    d = factors.shape[1]
    system = common.copy()
    right = np.zeros(d)
    for j in known:
        for p in range(d):
            right[p] += factors[j, p]
            for q in range(d):
                system[p, q] += factors[j, p] * factors[j, q]
    for p in range(d):
        system[p, p] += reg
    return np.linalg.solve(system, right).astype(np.float64)


@compiled
def known_positions(indices: NDArray[np.int32], positions: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return where a history's items stand among the kept ones; those that were not kept are left out."""
    found = np.empty(indices.size, np.int64)
    k = 0
    for item in indices:
        if positions[item] >= 0:
            found[k] = positions[item]
            k += 1
    return found[:k]


@compiled
def solve_people(
    indptr: NDArray[np.int32],
    indices: NDArray[np.int32],
    positions: NDArray[np.int64],
    factors: NDArray[np.float64],
    common: NDArray[np.float64],
    reg: float,
    people: NDArray[np.float64],
) -> None:
    """Fill in the factor of each person [people, d]; 0 for whoever knows none of the kept items."""
    for i in range(indptr.size - 1):
        known = known_positions(indices[indptr[i] : indptr[i + 1]], positions)
        if known.size:
            people[i] = solve_person(known, factors, common, reg)


@compiled
def _add_people(
    indptr: NDArray[np.int32],
    indices: NDArray[np.int32],
    positions: NDArray[np.int64],
    emphasis: NDArray[np.float64],
    factors: NDArray[np.float64],
    common: NDArray[np.float64],
    reg: float,
    weights: tuple[float, float, float],
    right: NDArray[np.int64],
    shared: NDArray[np.int64],
    per_item: NDArray[np.int64],
    squared_norms: NDArray[np.int64],
) -> None:
    """Add each person's statistics, rounded toward zero, and their exact squared length."""
    d = factors.shape[1]
    for i in range(indptr.size - 1):
        known = known_positions(indices[indptr[i] : indptr[i + 1]], positions)
        if known.size == 0:
            continue
        u = solve_person(known, factors, common, reg)
        size = np.sqrt((u * u).sum())
        if not 0.0 < size < np.inf:
            continue
        u /= size
        own = emphasis[known]
        own /= np.sqrt((own * own).sum())
        square = np.int64(0)
        for index, j in enumerate(known):
            for p in range(d):
                q = np.int64(weights[0] * own[index] * u[p])
                right[j, p] += q
                square += q * q
        cell = 0
        for p in range(d):
            for r in range(p, d):
                product = u[p] * u[r] * (1.0 if p == r else np.sqrt(2.0))
                q = np.int64(weights[1] * product)
                shared[cell] += q
                square += q * q
                if per_item.shape[1]:
                    for index, j in enumerate(known):
                        q = np.int64(weights[2] * own[index] * product)
                        per_item[j, cell] += q
                        square += q * q
                cell += 1
        squared_norms[i] = square
