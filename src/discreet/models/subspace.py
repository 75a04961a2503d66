"""Private subspace iteration on popularity-deflated, normalised histories.

With y a person's history scaled to length 1:

1. Round 0 releases the counts ``c = sum y``. The ``kept`` items with the largest noisy counts stay. An integer vector
   ``v``, near a multiple of their counts, is the direction that everybody shares and that is known from now on.
   If the counts show that there is too little to see, the later rounds refine them instead, at the same prices.
2. Each later round t has an orthonormal basis Q [kept, rank_t] with Q'v = 0, public. A person removes v from y and
   rescales (z), projects and rescales (u = Q'z / |Q'z|), and adds the outer product z u': length at most 1. The sum
   R_t is released; the left singular vectors of R_t make the next basis.
3. The last R is decoded: its singular values are shrunk for the noise that is known to be in it, and make, with the
   shared direction and with the items' own variances, a low-rank-plus-diagonal estimate of the histories' second
   moments, whose EASE weights have a closed form. The diagonal keeps an item from predicting itself, and keeps short
   histories from being taken at their word; both come from the counts and the number of people, so they are free.

Why it is good at small budgets: v holds about a fifth of each person's length and is learnt already, so removing it
before scaling gives the whole budget to what is personal; scaling u *after* the projection wins back the factor that
is lost to the many directions of no interest; and noise falls on kept x rank numbers rather than on a Gram matrix.

Integers: z u' is dense, because v is. But ``(y - c v) u'`` is, for one person, the same vector ``t`` on each item that
they know, minus ``v a'`` on all kept items. With t, a and v integer, the row is integer, its squared length is
``k |t|^2 - 2 (sum of v over known items) t.a + |v|^2 |a|^2`` exactly, and the sum over people is as cheap as a sparse
one. Proof: ``subspace.md``.

Sources: subspace iteration with noise: Hardt and Price 2014. Optimal shrinkage: Gavish and Donoho 2017, Frobenius loss.
EASE: Steck 2019, eq. 8; inverted by the Woodbury identity.
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
from discreet.randomness import public_generator

CLEAR = 3.0
"""Standard deviations of its noise above which a count is counted as seen."""

LEAST_EVIDENCE = 700.0
"""Below this, passes did not beat counts on the data sets tried; see ``docs/how-it-works.md``."""

LONGEST_DIRECTION = 1 << 20
"""With it, and with the least floor, no product of the kernels leaves int64: see the proof."""

MOST_SHARED = 0.95
"""Largest length of the average history that is believed: a full 1 would leave nothing personal."""

SELF = 0.5
"""Share of the items' own second moments that is taken out of the directions': z u' counts each item with itself."""

CLEARLY = 1.1
"""A direction is clearly more than items with themselves if its second moment is this much larger than theirs."""

LEAST_OWN = 0.05
"""Least share of an item's second moment that is its own, whatever the factors explain."""

ATTEMPTS = 5
"""How often a row is rescaled and rounded again."""


@dataclass(frozen=True, kw_only=True)
class Subspace:
    """Settings, all public.

    Attributes:
        people: how many take part.
        mu: of the whole run; None without noise.
        items: size of the catalogue.
        kept: how many items, the most popular by noisy count, take part in the passes; the rest rank by count.
        ranks: rank of the basis in each pass; the last is the rank of the model.
        direction: length of the integer vector v; see ``deflation``.
        shrinkage: ridge of the decode, in noise edges.
        ridge: more of it, in contributions; without noise what people's differences alone would call for.
        popularity: how much stronger the shared direction is taken to be than it is measured.
        floor: least share of a history's squared length that counts as personal.
        seed: of the first basis, which is public and random.
    """

    people: int
    mu: float | None
    items: int
    kept: int
    ranks: tuple[int, ...]
    direction: float = 64.0
    shrinkage: float = 0.15
    ridge: float = 0.0
    popularity: float = 10.0
    floor: float = 0.05
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("items", "people", "kept"):
            check_setting(name, getattr(self, name), 1)
        check_setting("ranks", min(self.ranks, default=0), 1)
        check_setting("direction", self.direction, 1, LONGEST_DIRECTION)
        check_setting("floor", self.floor, 0.05, 1)

    @property
    def name(self) -> str:
        """Name of the kind of model."""
        return "subspace"

    @property
    def rounds(self) -> int:
        """One for the counts, one for each pass."""
        return 1 + len(self.ranks)

    def start(self) -> State:
        """Nothing is known."""
        return beginning()

    def summed(self, histories: csr_array, state: State, bound: int) -> Summed:
        """Return the sum of the rows without making them, in O(interactions x rank)."""
        if "basis" not in state:
            return add_rows(count_rows(histories, bound), bound)
        personal, shared, squared_norms = self._coefficients(histories, state, bound)
        total = np.zeros(state["basis"].shape, np.int64)
        positions = positions_of(state["kept"], self.items)
        _scatter(histories.indptr, histories.indices, positions, personal, total)
        total -= np.outer(state["direction"], shared.sum(axis=0))
        return Summed(total.ravel(), squared_norms)

    def step(self, state: State, released: Disclosed) -> State:
        """Learn counts; then, if they bear it, choose items and a first basis, improve the basis, and decode."""
        number = round_number(state)
        if "basis" not in state:
            counted = self._counted(state, released)
            return self._first_basis(counted) if number == 0 and self._worth_passes(counted) else counted
        kept, rank = state["basis"].shape
        noisy = released.values.reshape(kept, rank)
        left, strengths = principal(noisy - _onto(state["direction"], noisy))
        if number < len(self.ranks):
            return after_round(state, basis=left[:, : self.ranks[number]])
        shrunk = shrink(strengths, released.sigma, kept, rank)
        ridge = self.ridge + self.shrinkage * released.sigma * np.sqrt(kept)
        encoder, decoder = self._weights(state, left[:, shrunk > 0], shrunk[shrunk > 0], ridge)
        learnt = {name: state[name] for name in ("round", "counts", "precision", "kept")}
        return after_round(learnt, encoder=encoder.astype(np.float32), decoder=decoder.astype(np.float32))

    def scores(self, histories: csr_array, state: State) -> NDArray[np.float32]:
        """Encode, decode; items that were not kept come last. Whoever is not known gets what everybody likes."""
        if "encoder" not in state:
            return np.tile(state["counts"], (histories.shape[0], 1))
        known = histories[:, state["kept"]].astype(np.float32)
        among_kept = (known @ state["encoder"]) @ state["decoder"].T
        among_kept[np.diff(known.indptr) == 0] = state["counts"][state["kept"]]
        return behind(among_kept, state["kept"], state["counts"])

    def _weights(
        self, state: State, basis: NDArray[np.float64], strengths: NDArray[np.float64], ridge: float
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return encoder and decoder [kept, rank + 1], whose product is EASE's weights but for the diagonal.

        With F the shared direction and the basis, L their second moments, D the rest of each item's own: the inverse of
        F L F' + D is D^-1 - D^-1 F C F' D^-1, C = (L^-1 + F' D^-1 F)^-1, and EASE divides its columns by its diagonal.
        """
        counts = state["popular"].astype(np.float64)
        # People have sqrt(k) in the counts, k being their items; the second moment of an item has 1/k of each.
        typical = max(float(np.maximum(state["counts"], 0).sum()) / self.people, 1.0)
        shared = min(float(np.linalg.norm(counts)) / self.people, MOST_SHARED) ** 2
        # R = sum z u' is the second moment of z times the basis, over the length of a typical projection.
        projected = min(1.0, float(strengths.sum()) / self.people)
        own = counts / typical
        seen, alone = strengths * projected * (1 - shared), (basis**2).T @ own
        if not (seen > CLEARLY * alone).any():  # each item with itself explains all there is: nothing personal
            basis, seen, alone = basis[:, :0], seen[:0], alone[:0]
        factors = np.column_stack([counts / np.linalg.norm(counts), basis])
        personal = seen - SELF * alone
        popular = self.popularity * self.people * shared
        moments = np.maximum(np.concatenate([[popular], personal]), 1e-9 * self.people)
        rest = np.maximum(own - factors**2 @ moments, LEAST_OWN * own) + ridge * projected + 1e-9 * self.people
        scaled = factors / rest[:, None]
        middle = np.linalg.inv(np.diag(1 / moments) + factors.T @ scaled)
        encoder = scaled @ middle
        diagonal = 1 / rest - (encoder * scaled).sum(axis=1)
        return encoder, scaled / diagonal[:, None]

    def _counted(self, state: State, released: Disclosed) -> State:
        """Add a release of the counts to those that there are, weighted by how precise each is."""
        precision = 1.0 / max(released.sigma, 1e-9) ** 2
        before = float(state["precision"]) if "precision" in state else 0.0
        counts = released.values if before == 0 else state["counts"] * before + released.values * precision
        counts = counts if before == 0 else counts / (before + precision)
        return after_round(state, counts=counts.astype(np.float32), precision=np.array(before + precision))

    def _worth_passes(self, counted: State) -> bool:
        """Tell from the released counts whether passes can stand out of their noise; if not, counts are refined.

        What stands against the noise of a pass is how much there is to see: mu times the counts of the kept items that
        are above their noise. Free, being read off what was released; the prices are the same either way.
        """
        largest = np.sort(counted["counts"].astype(np.float64))[-self.kept :]
        seen = largest[largest * np.sqrt(float(counted["precision"])) > CLEAR].sum()
        return self.mu is None or bool(self.mu * seen >= LEAST_EVIDENCE)

    def _first_basis(self, counted: State) -> State:
        counts = counted["counts"].astype(np.float64)
        kept = most_popular(counts, self.kept)
        deviation = 1.0 / np.sqrt(float(counted["precision"]))
        popular = np.maximum(counts[kept], max(deviation, 1.0))  # below one deviation a count says nothing
        direction = deflation(popular, self.direction)
        random = public_generator(self.seed).standard_normal((len(kept), min(self.ranks[0], len(kept))))
        basis, _ = principal(random - _onto(direction, random))
        return counted | {"kept": kept, "direction": direction, "popular": popular, "basis": basis}

    def _coefficients(
        self, histories: csr_array, state: State, bound: int
    ) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
        people, rank = histories.shape[0], state["basis"].shape[1]
        personal, shared = np.zeros((people, rank), np.int64), np.zeros((people, rank), np.int64)
        squared_norms = np.zeros(people, np.int64)
        released = (np.array(state["basis"]), np.array(state["direction"]))  # copies: one layout, one compilation
        arguments = (positions_of(state["kept"], self.items), *released, bound, self.floor)
        _shorten(histories.indptr, histories.indices, *arguments, personal, shared, squared_norms)
        return personal, shared, squared_norms


def deflation(counts: NDArray[np.float64], length: float) -> NDArray[np.int64]:
    """Return an integer vector [kept] that points nearly where ``counts`` (all above 0) do.

    The longer it is, the better it points: rounding leaves kept / (12 length^2) of the shared direction in place. The
    shorter, the better people can subtract it: they can only take whole multiples, and what is left over takes
    length^2 rank / 12 of their bound^2.

    Args:
        counts: of the kept items, above 0.
        length: at which the two losses are even, (shared share x kept x bound^2 / rank)^(1/4).
    """
    direction: NDArray[np.int64] = np.rint(counts * (length / np.linalg.norm(counts))).astype(np.int64)
    if not direction.any():
        direction[np.argmax(counts)] = 1
    return direction


def principal(matrix: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return left singular vectors [rows, rank] and values [rank] of a tall matrix, largest first, without null ones.

    Through the eigenvectors of ``matrix.T @ matrix`` [rank, rank]: an SVD of the tall matrix costs twenty times more.
    """
    squared, right = np.linalg.eigh(matrix.T @ matrix)
    order = np.flatnonzero(squared > 1e-12 * max(squared.max(initial=0.0), 1e-300))[::-1]
    strengths = np.sqrt(squared[order])
    return (matrix @ right[:, order]) / strengths, strengths


def shrink(strengths: NDArray[np.float64], sigma: float, rows: int, columns: int) -> NDArray[np.float64]:
    """Return singular values with the noise taken out, 0 where nothing stands out of it.

    Source: Gavish and Donoho 2017, eq. 7 (Frobenius loss).

    Args:
        strengths: singular values of signal plus noise.
        sigma: known standard deviation of the noise on each entry.
        rows: of the matrix.
        columns: of the matrix, at most as many as rows.
    """
    if sigma == 0:
        return strengths
    edge, beta = sigma * np.sqrt(rows), columns / rows
    relative = np.maximum(strengths / edge, 1 + np.sqrt(beta))
    shrunk: NDArray[np.float64] = edge * np.sqrt(np.maximum((relative**2 - beta - 1) ** 2 - 4 * beta, 0)) / relative
    return shrunk


def _onto(direction: NDArray[np.int64], matrix: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.outer(direction, direction @ matrix) / (direction @ direction)


@compiled
def _shorten(
    indptr: NDArray[np.int32],
    indices: NDArray[np.int32],
    positions: NDArray[np.int64],
    basis: NDArray[np.float64],
    direction: NDArray[np.int64],
    bound: int,
    floor: float,
    personal: NDArray[np.int64],
    shared: NDArray[np.int64],
    squared_norms: NDArray[np.int64],
) -> None:
    """Fill in t, a and the exact squared length of each person's row; never longer than the bound."""
    length2 = (direction * direction).sum()
    projection = np.empty(basis.shape[1])
    for i in range(indptr.size - 1):
        known, overlap = _project(indices[indptr[i] : indptr[i + 1]], positions, basis, direction, projection)
        size = np.sqrt((projection * projection).sum())
        if known == 0 or size == 0.0:
            continue
        own = max(1.0 - float(overlap) ** 2 / (float(known) * float(length2)), 0.0)
        wanted = bound * np.sqrt(own / max(own, floor))
        scale = bound / (np.sqrt(float(known) * max(own, floor)) * size)
        squared_norms[i] = _round(projection, known, overlap, length2, scale, wanted, bound, personal[i], shared[i])


@compiled
def _project(
    history: NDArray[np.int32],
    positions: NDArray[np.int64],
    basis: NDArray[np.float64],
    direction: NDArray[np.int64],
    projection: NDArray[np.float64],
) -> tuple[np.int64, np.int64]:
    """Set ``projection`` to the sum of the basis over the known items; return their number and their sum of v."""
    known, overlap = np.int64(0), np.int64(0)
    projection[:] = 0.0
    for item in history:
        j = positions[item]
        if j >= 0:
            known += 1
            overlap += direction[j]
            for r in range(projection.size):
                projection[r] += basis[j, r]
    return known, overlap


@compiled
def _round(
    projection: NDArray[np.float64],
    known: np.int64,
    overlap: np.int64,
    length2: np.int64,
    scale: float,
    wanted: float,
    bound: int,
    personal: NDArray[np.int64],
    shared: NDArray[np.int64],
) -> np.int64:
    """Set t and a to the integers whose row is the longest found within the bound; return its squared length.

    Where rounding left a row longer or shorter than wanted, it is rescaled and rounded again, each time a little
    shorter. If none keeps the bound, t and a stay zero: a row is dropped rather than trusted.
    """
    best = np.int64(0)
    for attempt in range(ATTEMPTS):
        square = np.int64(0)
        for r in range(projection.size):
            t = np.int64(np.rint(scale * projection[r]))
            a = (2 * overlap * t + length2) // (2 * length2)  # the integer nearest to overlap t / |v|^2
            square += known * t * t - 2 * overlap * t * a + length2 * a * a
        if best < square <= bound * bound:
            best = square
            for r in range(projection.size):
                personal[r] = np.int64(np.rint(scale * projection[r]))
                shared[r] = (2 * overlap * personal[r] + length2) // (2 * length2)
        if square == 0:
            break
        scale *= (1.0 - 0.002 * attempt) * wanted / np.sqrt(float(square))
    return best


@compiled
def _scatter(
    indptr: NDArray[np.int32],
    indices: NDArray[np.int32],
    positions: NDArray[np.int64],
    personal: NDArray[np.int64],
    total: NDArray[np.int64],
) -> None:
    for i in range(indptr.size - 1):
        for entry in range(indptr[i], indptr[i + 1]):
            j = positions[indices[entry]]
            if j >= 0:
                for r in range(personal.shape[1]):
                    total[j, r] += personal[i, r]
