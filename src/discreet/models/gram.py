"""EASE on a Gram matrix that was released once.

The item-item matrix behind EASE and item-kNN is a sum of one outer product per person. Round 0 releases the counts, as
in ``subspace``; round 1 the upper triangle of ``sum z z'`` over the kept items, where z is a history scaled to length
1, without its popular direction v, scaled again: ``z = (y - (v.y) v) / |...|``, |z| <= 1. Off the diagonal each pair
counts sqrt(2) times, so that a row has length exactly |z|^2 <= 1 and the noise is that of a Gaussian orthogonal
ensemble, whose edge is known: eigenvalues are shrunk against it before EASE's closed form is taken.

Without noise there is nothing to bound: the plain Gram matrix of the histories is taken, and the model is EASE itself.

Rows are dense in the kept items: time and memory grow with kept^2, which the recipe limits. Proof: ``gram.md``.

Sources: EASE: Steck 2019. Shrinkage of a spiked Wigner matrix: Benaych-Georges and Nadakuditi 2011, section 3.1.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from discreet.compiled import compiled
from discreet.models.base import State, after_round, beginning, check_setting, round_number
from discreet.models.popularity import behind, count_rows, most_popular, positions_of
from discreet.privacy.clipping import Summed, add_rows
from discreet.privacy.disclosure import Disclosed

INWARD = 1.0 - 1e-9
"""Rows are scaled by this before rounding toward zero, so that no rounding of a float can reach over the bound."""


@dataclass(frozen=True, kw_only=True)
class Gram:
    """Settings, all public.

    Attributes:
        items: size of the catalogue.
        kept: how many items, the most popular by noisy count, are in the matrix; the rest rank by count.
        private: whether rows are scaled and deflated; without noise they are not.
        ridge: of EASE: in noise edges, or absolute without noise.
        popularity: weight of the shared direction in the scores.
        floor: least share of a history's squared length that counts as personal.
    """

    items: int
    kept: int
    private: bool = True
    ridge: float = 1.0
    popularity: float = 0.85
    floor: float = 0.05

    def __post_init__(self) -> None:
        check_setting("items", self.items, 1)
        check_setting("kept", self.kept, 1)
        check_setting("ridge", self.ridge, 0)
        check_setting("floor", self.floor, 0.05, 1)

    @property
    def name(self) -> str:
        """Name of the kind of model."""
        return "gram"

    @property
    def rounds(self) -> int:
        """Counts, then the matrix."""
        return 2

    def start(self) -> State:
        """Nothing is known."""
        return beginning()

    def summed(self, histories: csr_array, state: State, bound: int) -> Summed:
        """Return the counts, or the packed upper triangle, int64 [kept (kept + 1) / 2]."""
        if round_number(state) == 0:
            return add_rows(count_rows(histories, bound), bound)
        kept = len(state["kept"])
        total, squared_norms = np.zeros(kept * (kept + 1) // 2, np.int64), np.zeros(histories.shape[0], np.int64)
        positions = positions_of(state["kept"], self.items)
        people = (histories.indptr, histories.indices, positions)
        if self.private:
            _add_scaled(*people, np.array(state["popular"]), bound * INWARD, self.floor, total, squared_norms)
        else:
            _add_plain(*people, kept, total, squared_norms)
        return Summed(total, squared_norms)

    def step(self, state: State, released: Disclosed) -> State:
        """Choose the items; then denoise the matrix and take EASE's closed form."""
        if round_number(state) == 0:
            return self._chosen(state, released)
        kept = len(state["kept"])
        upper = np.triu_indices(kept)
        if not self.private:
            return after_round(state, weights=_ease(_symmetric(released.total, upper, kept), self.ridge))
        off_diagonal = upper[0] != upper[1]
        matrix = _symmetric(released.values / np.where(off_diagonal, np.sqrt(2), 1.0), upper, kept)
        popular = state["popular"]
        matrix -= np.outer(popular, popular @ matrix)
        matrix -= np.outer(matrix @ popular, popular)
        edge = released.sigma * np.sqrt(2 * kept)
        values, vectors = shrink_symmetric(matrix, edge)
        denoised = (vectors * values) @ vectors.T
        weights = _ease(denoised, max(self.ridge * edge / 2, 1e-9 * kept))
        weights -= np.outer(popular, popular @ weights)
        weights += self.popularity * np.outer(popular, popular)
        return after_round(state, weights=weights.astype(np.float32))

    def scores(self, histories: csr_array, state: State) -> NDArray[np.float32]:
        """Add the weights of the known items; items that were not kept come last."""
        known = histories[:, state["kept"]].astype(np.float32)
        among_kept = known @ state["weights"].astype(np.float32)
        among_kept[np.diff(known.indptr) == 0] = state["popular"]
        return behind(among_kept, state["kept"], state["counts"])

    def _chosen(self, state: State, released: Disclosed) -> State:
        kept = most_popular(released.values, self.kept)
        popular = np.maximum(released.values[kept], max(released.sigma, 1.0))
        counts = released.values.astype(np.float32)
        return after_round(state, counts=counts, kept=kept, popular=popular / np.linalg.norm(popular))


def shrink_symmetric(matrix: NDArray[np.float64], edge: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return eigenvalues [r] with the noise taken out, and eigenvectors [kept, r], of those that stand out of it.

    Args:
        matrix: signal plus a Gaussian orthogonal ensemble [kept, kept].
        edge: the largest eigenvalue that noise alone would have.
    """
    values, vectors = np.linalg.eigh(matrix)
    alive = values > max(edge, 1e-9 * abs(values[-1]))
    values, vectors = values[alive], vectors[:, alive]
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
def _add_scaled(
    indptr: NDArray[np.int32],
    indices: NDArray[np.int32],
    positions: NDArray[np.int64],
    popular: NDArray[np.float64],
    scale: float,
    floor: float,
    total: NDArray[np.int64],
    squared_norms: NDArray[np.int64],
) -> None:
    """Add the deflated, scaled outer product of each person, rounded toward zero."""
    kept = popular.size
    z = np.empty(kept)
    for i in range(indptr.size - 1):
        k = 0
        shared = 0.0
        for entry in range(indptr[i], indptr[i + 1]):
            j = positions[indices[entry]]
            if j >= 0:
                k += 1
                shared += popular[j]
        if k == 0:
            continue
        shared /= np.sqrt(k)
        length = np.sqrt(max(1.0 - shared * shared, floor))
        for j in range(kept):
            z[j] = -shared * popular[j] / length
        for entry in range(indptr[i], indptr[i + 1]):
            j = positions[indices[entry]]
            if j >= 0:
                z[j] += 1.0 / np.sqrt(k) / length
        cell = 0
        square = np.int64(0)
        for a in range(kept):
            q = np.int64(scale * z[a] * z[a])
            total[cell] += q
            square += q * q
            cell += 1
            left = scale * np.sqrt(2.0) * z[a]
            for b in range(a + 1, kept):
                q = np.int64(left * z[b])
                total[cell] += q
                square += q * q
                cell += 1
        squared_norms[i] = square


@compiled
def _add_plain(
    indptr: NDArray[np.int32],
    indices: NDArray[np.int32],
    positions: NDArray[np.int64],
    kept: int,
    total: NDArray[np.int64],
    squared_norms: NDArray[np.int64],
) -> None:
    """Count each pair of items that one person knows."""
    for i in range(indptr.size - 1):
        k = np.int64(0)
        for first in range(indptr[i], indptr[i + 1]):
            a = positions[indices[first]]
            if a < 0:
                continue
            k += 1
            for second in range(first, indptr[i + 1]):
                b = positions[indices[second]]
                if b >= 0:
                    total[a * kept - a * (a - 1) // 2 + (b - a)] += 1
        squared_norms[i] = k * (k + 1) // 2
