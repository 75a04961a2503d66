"""EASE on a Gram matrix that was released once.

The item-item matrix behind EASE and item-kNN is a sum of one outer product per person. Round 0 releases the counts,
which choose the items; round 1 the upper triangle of ``sum y y'`` over them, where y is a history scaled to length 1.
Off the diagonal each pair counts sqrt(2) times, so that a row has length |y|^2 = 1 and the noise is that of a Gaussian
orthogonal ensemble, whose edge is known: eigenvalues are shrunk against it before EASE's closed form is taken. The
diagonal, which shrinking would smooth away, is taken as it was released.

Where what the eigenvectors leave over is as Gaussian as noise and chance are, a few factors explain all that people
have in common; where some pairs of items stand far out of it, they do not. That is read off what was released. In the
first case the diagonal is left out while the factors are sought, and chance is shrunk away along with the noise.

It is for data in which there are many people, at their budget, for each item: nothing is summarised, so nothing is
lost, but noise falls on all pairs of items. Without noise there is nothing to bound either: the plain Gram matrix is
taken, and the model is EASE itself.

A person of k items adds to k (k + 1) / 2 numbers, and the matrix is kept x kept. Proof: ``gram.md``.

Sources: EASE: Steck 2019. Shrinkage of a spiked Wigner matrix: Benaych-Georges and Nadakuditi 2011, section 3.1.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from discreet.compiled import compiled
from discreet.models.base import EVIDENCE, Directions, State, after_round, beginning, check_setting, round_number
from discreet.models.popularity import counted, most_popular, other_counts
from discreet.models.slate import behind, linear, positions_of
from discreet.privacy.clipping import Summed
from discreet.privacy.disclosure import Disclosed

if TYPE_CHECKING:  # a device computes its sums with NumPy alone
    from scipy.sparse import csr_array

PLAIN = 3.5
"""Kurtosis of what factors leave over, 3 if it is Gaussian, below which they are taken to explain all there is."""

FACTOR_STEPS = 3
"""How often factors and what is each item's own are told apart anew."""

FACTOR_RIDGE, FACTOR_TILT = 0.3, 0.125
"""Where factors explain all: the share of the ridge, and the power of an item's own by which its scores are lowered."""


@dataclass(frozen=True, kw_only=True)
class Gram:
    """Settings, all public.

    Attributes:
        people: how many take part.
        items: size of the catalogue.
        kept: how many items, the most popular by noisy count, are in the matrix; the rest rank by count.
        private: whether histories are scaled; without noise they are not.
        ridge: of EASE: in noise edges, or absolute without noise.
        sampling: more of it, in square roots of the number of people: what their differences alone would call for.
    """

    people: int
    items: int
    kept: int
    private: bool = True
    ridge: float = 1.0
    sampling: float = 0.25

    def __post_init__(self) -> None:
        for name in ("people", "items", "kept"):
            check_setting(name, getattr(self, name), 1)
        for name in ("ridge", "sampling"):
            check_setting(name, getattr(self, name), 0)

    @property
    def name(self) -> str:
        """Name of the kind of model."""
        return "gram"

    @property
    def rounds(self) -> int:
        """Counts, then the matrix."""
        return 2

    def start(self, tags: csr_array | None = None) -> State:
        """Nothing is known; tags are not used."""
        del tags
        return beginning()

    def summed(self, histories: csr_array, state: State, bound: int) -> Summed:
        """Return the counts, or the packed upper triangle, int64 [kept (kept + 1) / 2]."""
        if round_number(state) == 0:
            return counted(histories, bound)
        kept = len(state["kept"])
        total, squared_norms = np.zeros(kept * (kept + 1) // 2, np.int64), np.zeros(histories.shape[0], np.int64)
        positions = positions_of(state["kept"], self.items)
        scale = bound if self.private else 0
        _add_pairs(histories.indptr, histories.indices, positions, kept, scale, total, squared_norms)
        return Summed(total, squared_norms)

    def step(self, state: State, released: Disclosed) -> State:
        """Choose the items; then denoise the matrix and take EASE's closed form."""
        if round_number(state) == 0:
            chosen = most_popular(released.values, self.kept)
            return after_round(state, counts=released.values.astype(np.float32), kept=chosen)
        kept = len(state["kept"])
        upper = np.triu_indices(kept)
        if not self.private:
            return after_round(state, weights=_ease(_symmetric(released.total, upper, kept), self.ridge))
        packed = released.values / np.where(upper[0] != upper[1], np.sqrt(2), 1.0)
        matrix = _symmetric(packed, upper, kept)
        plain = _is_plain(matrix, released.sigma, self.people)
        denoised, _ = _denoised(matrix, released.sigma, self.people, plain=plain)
        evidence = {EVIDENCE: packed.astype(np.float32), "plain": np.array(plain)} if released.sigma else {}
        return after_round(state, weights=self._weights(denoised, released.sigma, plain=plain), **evidence)

    def scores(self, histories: csr_array, state: State) -> NDArray[np.float32]:
        """Add the weights of the known items; items that were not kept come last."""
        known = histories[:, state["kept"]].astype(np.float32)
        among_kept = known @ state["weights"].astype(np.float32)
        among_kept[known.sum(axis=1) == 0] = state["counts"][state["kept"]]
        return behind(among_kept, state["kept"], state["counts"])

    def adds(self, state: State, known: NDArray[np.int64], listed: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return the weights between the known items and those listed."""
        positions = positions_of(state["kept"], self.items)
        return linear(lambda mine, theirs: state["weights"][np.ix_(mine, theirs)], positions, known, listed)

    def redrawn(self, state: State, sigmas: Sequence[float], random: np.random.Generator) -> State | None:
        """Add other noise to the denoised matrix; more where it touches what stood out, which is not known for sure."""
        if EVIDENCE not in state:
            return None
        plain = bool(state["plain"].item())
        denoised, vectors = _denoised(self._released(state), sigmas[1], self.people, plain=plain)
        noise = random.normal(0.0, sigmas[1] / 2, denoised.shape)
        noise += noise.T  # sigma / sqrt(2) off the diagonal, sigma on it
        noise += (np.sqrt(2) - 1) * (vectors @ (vectors.T @ noise))
        noise += (np.sqrt(2) - 1) * ((noise @ vectors) @ vectors.T)
        other, _ = _denoised(denoised + noise, sigmas[1], self.people, plain=plain)
        counts = other_counts(state["counts"], sigmas[0], random)
        return state | {"weights": self._weights(other, sigmas[1], plain=plain), "counts": counts}

    def directions(self, state: State, sigmas: Sequence[float]) -> Directions | None:
        """Return the eigenvectors that stand out of the noise, the shared one among them."""
        if EVIDENCE not in state:
            return None
        from scipy.linalg import eigh

        kept = len(state["kept"])
        edge = _edge(sigmas[1], kept)
        values, vectors = eigh(self._released(state), subset_by_value=(edge, np.inf))
        return Directions(values[::-1] / edge, vectors[:, ::-1], kept)

    def _released(self, state: State) -> NDArray[np.float64]:
        kept = len(state["kept"])
        return _symmetric(state[EVIDENCE].astype(np.float64), np.triu_indices(kept), kept)

    def _weights(self, denoised: NDArray[np.float64], sigma: float, *, plain: bool) -> NDArray[np.float32]:
        ridge = self.ridge * _edge(sigma, len(denoised)) + self.sampling * np.sqrt(self.people)
        if not plain:
            return _ease(denoised, ridge).astype(np.float32)
        own = denoised.diagonal() / denoised.diagonal().mean()
        weights = _ease(denoised, FACTOR_RIDGE * ridge)
        weights *= np.maximum(own, 1e-3) ** -FACTOR_TILT
        return weights.astype(np.float32)


def _edge(sigma: float, kept: int) -> float:
    """Return the largest eigenvalue that noise alone would have."""
    return sigma * float(np.sqrt(2 * kept))


def _denoised(
    matrix: NDArray[np.float64], sigma: float, people: int, *, plain: bool
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the matrix without its noise, its diagonal at least as released, and the eigenvectors that are left."""
    if plain:
        denoised, vectors = _factors(matrix, sigma, people)
    else:
        values, vectors = shrink_symmetric(matrix, _edge(sigma, len(matrix)))
        denoised = (vectors * values) @ vectors.T
    np.fill_diagonal(denoised, np.maximum(denoised.diagonal(), matrix.diagonal()))
    return denoised, vectors


def _factors(matrix: NDArray[np.float64], sigma: float, people: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the low-rank part of a matrix whose diagonal holds each item's own besides, and its eigenvectors."""
    own = np.maximum(matrix.diagonal(), 0.0)
    # Chance alone gives the pair a, b a variance of own_a own_b / people: a matrix of about this norm.
    edge = float(np.hypot(_edge(sigma, len(matrix)), 2 * np.sqrt((own**2).sum() / people)))
    low_rank, vectors = np.zeros_like(matrix), matrix[:, :0]
    for _ in range(FACTOR_STEPS):
        hollow = matrix.copy()
        np.fill_diagonal(hollow, low_rank.diagonal())
        values, vectors = shrink_symmetric(hollow, edge)
        low_rank = (vectors * values) @ vectors.T
    return low_rank, vectors


def _is_plain(matrix: NDArray[np.float64], sigma: float, people: int) -> bool:
    """Tell whether what factors leave over looks like noise and chance alone: read off what was released."""
    low_rank, _ = _factors(matrix, sigma, people)
    own = np.maximum(matrix.diagonal(), 0.0)
    left = (matrix - low_rank) / np.sqrt(sigma**2 / 2 + np.outer(own, own) / people + 1e-12)
    pairs = left[np.triu_indices(len(left), 1)]
    return bool((pairs**4).mean() < PLAIN * (pairs**2).mean() ** 2) if pairs.size else False


def shrink_symmetric(matrix: NDArray[np.float64], edge: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return eigenvalues [r] with the noise taken out, and eigenvectors [kept, r], of those that stand out of it.

    Args:
        matrix: signal plus a Gaussian orthogonal ensemble [kept, kept].
        edge: the largest eigenvalue that noise alone would have.
    """
    from scipy.linalg import eigh

    values, vectors = eigh(matrix, subset_by_value=(edge, np.inf))
    spikes = (values + np.sqrt(values**2 - edge**2)) / 2
    return spikes * (1.0 - (edge / 2 / spikes) ** 2), vectors


def _ease(gram: NDArray[np.float64], ridge: float) -> NDArray[np.float64]:
    """Return EASE's weights [items, items], -P / diag(P) off the diagonal; P inverts gram + ridge (Steck, eq. 8)."""
    inverse = np.linalg.inv(gram + ridge * np.eye(len(gram)))
    weights = -inverse / np.diag(inverse)
    np.fill_diagonal(weights, 0.0)
    return weights


def _symmetric(
    packed: NDArray[np.float64] | NDArray[np.int64], upper: tuple[NDArray[np.int64], NDArray[np.int64]], size: int
) -> NDArray[np.float64]:
    matrix = np.zeros((size, size))
    matrix[upper] = packed
    matrix.T[upper] = packed
    return matrix


@compiled
def _add_pairs(
    indptr: NDArray[np.int32],
    indices: NDArray[np.int32],
    positions: NDArray[np.int64],
    kept: int,
    scale: int,
    total: NDArray[np.int64],
    squared_norms: NDArray[np.int64],
) -> None:
    """Add, for each pair of items that one person knows, ``scale / k``, sqrt(2) times that off the diagonal.

    Rounded toward zero in integers. With a scale of 0 pairs are counted.
    """
    for i in range(indptr.size - 1):
        k = np.int64(0)
        for entry in range(indptr[i], indptr[i + 1]):
            k += positions[indices[entry]] >= 0
        if k == 0:
            continue
        once = scale // k if scale else np.int64(1)
        twice = np.int64(once * np.sqrt(2.0)) if scale else np.int64(1)
        while twice * twice > 2 * once * once:  # the product above was rounded, perhaps over a whole number
            twice -= 1
        for first in range(indptr[i], indptr[i + 1]):
            a = positions[indices[first]]
            if a < 0:
                continue
            total[a * kept - a * (a - 1) // 2] += once
            for second in range(first + 1, indptr[i + 1]):
                b = positions[indices[second]]
                if b >= 0:
                    total[a * kept - a * (a - 1) // 2 + (b - a)] += twice
        squared_norms[i] = k * once * once + k * (k - 1) // 2 * twice * twice
