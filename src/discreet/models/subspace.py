"""Private subspace iteration on popularity-deflated, weighted, normalised histories.

With y a person's history, rare items weighing a little more, scaled to length 1:

1. Round 0 releases the counts ``c``. The ``kept`` items with the largest noisy counts stay. An integer vector ``v``,
   near a multiple of their weighted counts, is the direction that everybody shares and that is known from now on.
   If the counts show that there is too little to see, the later rounds refine them instead, at the same prices.
2. Each later round t has a basis Q_t [kept, rank] with Q'v = 0, public. A person removes v from y and rescales (z),
   projects and rescales (u = Q'z / |Q'z|), and adds the outer product z u': length at most 1. The sum R_t is released.
   The first such round is a scout: its basis is random, and few, popular items take part in it, since its noise grows
   with their number and all that it has to do is to point. Where the catalogue has tags, the basis is what they tell
   apart, and only filled up with random directions. From then on the basis is what the rounds so far know.
3. Whatever was released is used to the end: the rounds after the scout see the same items, so their sums, side by side,
   are one matrix [kept, rounds x rank] of few directions plus known noise. Its rows get their posterior mean under a
   Gaussian prior whose covariance is estimated from them: probabilistic principal components, in closed form. The
   prior's mean is what an item's tags say of it: a ridge regression of the rows on the tags.
4. The last round's part of it is decoded: its singular values make, with the shared direction and with the items' own
   variances, a low-rank-plus-diagonal estimate of the histories' second moments, whose EASE weights have a closed form.
   The diagonal keeps an item from predicting itself, and keeps short histories from being taken at their word; both
   come from the counts and the number of people, so they are free.

Why it is good at small budgets: v holds about a fifth of each person's length and is learnt already, so removing it
before scaling gives the whole budget to what is personal; scaling u *after* the projection wins back the factor that
is lost to the many directions of no interest; noise falls on kept x rank numbers rather than on a Gram matrix; and
since no release is thrown away, going round once more costs little and points better.

Integers: z u' is dense, because v is. But a person's row is an integer matrix on the few items that they know, less
``v a'`` on all kept items, a integer too. So its squared length is exact, and the sum over people is as cheap as a
sparse one. Proof: ``subspace.md``.

Sources: subspace iteration with noise: Hardt and Price 2014. Probabilistic principal components: Tipping and Bishop
1999, eq. 7 and 12. Optimal shrinkage: Gavish and Donoho 2017, Frobenius loss. EASE: Steck 2019, eq. 8; inverted by the
Woodbury identity. Regression on public features as a prior's mean: Agarwal and Chen 2009. Leave-one-out errors of a
ridge regression: Allen 1974 (PRESS). Weights against popularity: Shen et al. 2021 (GF-CF), who take the power 1/2.
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
from discreet.randomness import public_generator

if TYPE_CHECKING:  # a device computes its sums with NumPy alone
    from scipy.sparse import csr_array

CLEAR = 3.0
"""Standard deviations of its noise above which a count is counted as seen."""

LEAST_EVIDENCE = 700.0
"""Below this, passes did not beat counts on the data sets tried; see ``docs/how-it-works.md``."""

LONGEST_DIRECTION = 1 << 20
"""With it, and with the least floor, no product of the kernels leaves int64: see the proof."""

MOST_SHARED = 0.95
"""Largest length of the average history that is believed: a full 1 would leave nothing personal."""

SELF = 0.75
"""Share of the items' own second moments that is taken out of the directions': z u' counts each item with itself."""

CLEARLY = 1.1
"""A direction is clearly more than items with themselves if its second moment is this much larger than theirs."""

LEAST_OWN = 0.2
"""Least share of an item's second moment that is its own, whatever the factors explain."""

SHORT, LONG = 2.0, 4.0
"""Typical roots of histories' lengths: up to the first, weights are even; from the second, as uneven as asked."""

WEAKEST = 0.05
"""Least strength of a direction, against the strongest, that is believed when the basis is evened out."""

TAGS = f"{EVIDENCE}.tags"
"""The array of a state that holds the tags of the items: of all, then of the kept ones."""

MOST_TAGS = 128
"""How many tags are read, the most frequent ones: the largest first basis has so many directions."""

RIDGES = (1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1_000.0, 10_000.0)
"""Of the regression on tags, in items: an item's tags count for as much as so many items with the same tag."""

ATTEMPTS = 5
"""How often a row is rescaled and rounded again."""

AIM, CLOSE = 0.995, 0.99
"""Share of the wanted length that a row aims at, and is content with."""

MOST_SCALED = 1.25
"""How far above its first scale a row may go: no product then leaves int64."""


@dataclass(frozen=True, kw_only=True)
class Subspace:
    """Settings, all public.

    Attributes:
        people: how many take part.
        mu: of the whole run; None without noise.
        items: size of the catalogue.
        kept: how many items, the most popular by noisy count, take part in the passes; the rest rank by count.
        scouted: how many of them take part in the first pass, whose basis is made of tags and random directions.
        rank: of the model; of the first basis, twice that.
        passes: how many after the first.
        direction: length of the integer vector v; see ``deflation``.
        rarity: power of the count by which an item weighs less in a long history.
        evenness: power of its strength by which a direction weighs less in the next basis.
        shrinkage: ridge of the decode, in noise edges.
        ridge: more of it, in contributions; without noise what people's differences alone would call for.
        popularity: how much stronger the shared direction is taken to be than it is measured.
        tilt: power of the count by which an item's score is lowered.
        floor: least share of a history's squared length that counts as personal.
        seed: of the first basis, which is public and random.
    """

    people: int
    mu: float | None
    items: int
    kept: int
    scouted: int
    rank: int
    passes: int = 3
    direction: float = 64.0
    rarity: float = 0.25
    evenness: float = 0.25
    shrinkage: float = 0.3
    ridge: float = 0.0
    popularity: float = 10.0
    tilt: float = 0.125
    floor: float = 0.05
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("items", "people", "kept", "rank", "passes"):
            check_setting(name, getattr(self, name), 1)
        check_setting("scouted", self.scouted, 1, self.kept)
        check_setting("direction", self.direction, 1, LONGEST_DIRECTION)
        check_setting("floor", self.floor, 0.05, 1)
        for name in ("rarity", "evenness", "tilt"):
            check_setting(name, getattr(self, name), 0, 1)

    @property
    def name(self) -> str:
        """Name of the kind of model."""
        return "subspace"

    @property
    def rounds(self) -> int:
        """One for the counts, one for the scout, one for each pass."""
        return 2 + self.passes

    def start(self, tags: csr_array | None = None) -> State:
        """Nothing is known but the tags, bool [items, tags], if there are any."""
        if tags is None:
            return beginning()
        frequent = most_popular(tags.sum(axis=0).astype(np.float64), MOST_TAGS)
        return beginning() | {TAGS: tags[:, frequent.tolist()].toarray() > 0}

    def summed(self, histories: csr_array, state: State, bound: int) -> Summed:
        """Return the sum of the rows without making them, in O(interactions x rank)."""
        if "basis" not in state:
            return counted(histories, bound)
        basis, direction, weights = (np.array(state[name]) for name in ("basis", "direction", "weights"))
        total, shared = np.zeros(basis.shape, np.int64), np.zeros(basis.shape[1], np.int64)
        squared_norms = np.zeros(histories.shape[0], np.int64)
        people = (histories.indptr, histories.indices, positions_of(state["kept"], self.items))
        _add_people(*people, weights, basis, direction, bound, self.floor, total, shared, squared_norms)
        total -= np.outer(direction, shared)
        return Summed(total.ravel(), squared_norms)

    def step(self, state: State, released: Disclosed) -> State:
        """Learn counts; then, if they bear it, choose items and a first basis, improve the basis, and decode."""
        number = round_number(state)
        if "basis" not in state:
            counted = self._counted(state, released)
            if number == 0 and self._worth_passes(counted):
                return self._scouting(counted)
            return {name: array for name, array in counted.items() if name != TAGS}  # counts have no use for them
        matrix = released.values.reshape(state["basis"].shape)
        matrix -= _onto(state["direction"], matrix)
        if number == 1:
            return self._widened(state, matrix, released.sigma)
        releases = np.column_stack([state["releases"], matrix / (released.sigma or 1.0)])
        last = int(state["basis"].shape[1])
        if number <= self.passes:
            left, strengths = self._believed(state, releases, last, released.sigma)
            return after_round(state, releases=releases, basis=self._evened(left, strengths, state["basis"]))
        learnt = {name: state[name] for name in ("round", "counts", "precision", "kept")}
        evidence = {EVIDENCE: releases.astype(np.float32), "last": np.array(last)} if released.sigma else {}
        evidence |= {TAGS: state[TAGS]} if released.sigma and TAGS in state else {}
        return after_round(learnt, **self._decoded(state, releases, last, released.sigma), **evidence)

    def scores(self, histories: csr_array, state: State) -> NDArray[np.float32]:
        """Encode, decode; items that were not kept come last. Whoever is not known gets what everybody likes."""
        if "encoder" not in state:
            return np.tile(state["counts"], (histories.shape[0], 1))
        known = histories[:, state["kept"]].astype(np.float32)
        among_kept = (known @ state["encoder"]) @ state["decoder"].T
        among_kept[known.sum(axis=1) == 0] = state["counts"][state["kept"]]
        return behind(among_kept, state["kept"], state["counts"])

    def adds(self, state: State, known: NDArray[np.int64], listed: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return encoder times decoder, between the known items and those listed; zeros if there are counts alone."""
        if "encoder" not in state:
            return np.zeros((len(known), len(listed)))
        encoder, decoder = state["encoder"].astype(np.float64), state["decoder"].astype(np.float64)
        positions = positions_of(state["kept"], self.items)
        return linear(lambda mine, theirs: encoder[mine] @ decoder[theirs].T, positions, known, listed)

    def redrawn(self, state: State, sigmas: Sequence[float], random: np.random.Generator) -> State | None:
        """Draw other counts and, on the same bases, other sums; read them as the real ones were read."""
        if not sigmas[-1] or ("encoder" in state and EVIDENCE not in state):
            return None
        deviation = 1.0 / np.sqrt(state["precision"].item())
        other = state | {"counts": other_counts(state["counts"], deviation, random)}
        if "encoder" not in state:
            return other
        releases = _predicted(state[EVIDENCE].astype(np.float64), _tags(state, len(state["kept"])), random)
        about = other | self._about(other, state["kept"])
        return other | self._decoded(about, releases, int(state["last"].item()), sigmas[-1])

    def directions(self, state: State, sigmas: Sequence[float]) -> Directions | None:
        """Return the singular vectors of the sums, side by side, that noise alone would not have reached."""
        del sigmas  # the sums are kept in units of it
        if EVIDENCE not in state:
            return None
        releases = state[EVIDENCE].astype(np.float64)
        left, strengths = principal(releases)
        relative = strengths / sum(np.sqrt(releases.shape))
        return Directions(relative[relative > 1], left[:, relative > 1], releases.shape[1])

    def _believed(
        self, state: State, releases: NDArray[np.float64], last: int, sigma: float
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return directions and strengths of the last sum, [kept, last] in whole contributions, given all of them."""
        known = releases[:, -last:]
        if sigma:
            known = posterior(releases, last, _tags(state, len(releases))) * sigma
        return principal(known - _onto(state["direction"], known))

    def _decoded(self, state: State, releases: NDArray[np.float64], last: int, sigma: float) -> State:
        left, strengths = self._believed(state, releases, last, sigma)
        ridge = self.ridge + self.shrinkage * sigma * np.sqrt(len(releases))
        encoder, decoder = self._weights(state, left, strengths, ridge)
        return {"encoder": encoder.astype(np.float32), "decoder": decoder.astype(np.float32)}

    def _weights(
        self, state: State, basis: NDArray[np.float64], strengths: NDArray[np.float64], ridge: float
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return encoder and decoder [kept, rank + 1], whose product is EASE's weights but for the diagonal.

        With F the shared direction and the basis, L their second moments, D the rest of each item's own: the inverse of
        F L F' + D is D^-1 - D^-1 F C F' D^-1, C = (L^-1 + F' D^-1 F)^-1, and EASE divides its columns by its diagonal.
        All of weighted histories, so that the weights come in before and go out after.
        """
        popular = state["popular"]
        # Of a mean square of 1 over the interactions: a weighted history is then about as long as a plain one.
        weights = state["weights"] * np.sqrt(popular.sum() / (popular @ state["weights"] ** 2))
        counts = popular * weights
        # People have sqrt(k) in the counts, k being their items; the second moment of an item has 1/k of each.
        own = popular * weights**2 / self._typical(state)
        shared = min(float(np.linalg.norm(counts)) / self.people, MOST_SHARED) ** 2
        # R = sum z u' is the second moment of z times the basis, over the length of a typical projection.
        projected = min(1.0, float(strengths.sum()) / self.people)
        seen, alone = strengths * projected * (1 - shared), (basis**2).T @ own
        if not (seen > CLEARLY * alone).any():  # each item with itself explains all there is: nothing personal
            basis, seen, alone = basis[:, :0], seen[:0], alone[:0]
        factors = np.column_stack([counts / np.linalg.norm(counts), basis])
        personal = seen - SELF * alone
        moments = np.concatenate([[self.popularity * self.people * shared], personal])
        moments = np.maximum(moments, 1e-9 * self.people)
        rest = np.maximum(own - factors**2 @ moments, LEAST_OWN * own) + ridge * projected + 1e-9 * self.people
        scaled = factors / rest[:, None]
        middle = np.linalg.inv(np.diag(1 / moments) + factors.T @ scaled)
        encoder = scaled @ middle
        diagonal = 1 / rest - (encoder * scaled).sum(axis=1)
        outward = (popular / popular.mean()) ** -self.tilt / (weights * diagonal)
        return encoder * weights[:, None], scaled * outward[:, None]

    def _typical(self, state: State) -> float:
        """Return the typical root of a history's length: counts add 1/sqrt(k) for each of k items."""
        return max(float(state["counts"].sum(dtype=np.float64)) / self.people, 1.0)

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

    def _scouting(self, counted: State) -> State:
        """Choose the first pass's items, and a basis on them: what tags tell apart, then random directions."""
        state = counted | self._among(counted, self.scouted)
        kept, size = state["kept"], min(2 * self.rank, len(state["kept"]))
        tags = _tags(state, self.items)[kept]
        told = principal(tags - _onto(state["direction"], tags))[0][:, :size]
        random = public_generator(self.seed).standard_normal((len(kept), size - told.shape[1]))
        random -= _onto(state["direction"], random)
        return state | {"basis": np.column_stack([told, principal(random - told @ (told.T @ random))[0]])}

    def _widened(self, state: State, matrix: NDArray[np.float64], sigma: float) -> State:
        """Take in all kept items; the basis is what the scout found on its few, and 0 elsewhere."""
        left, strengths = principal(matrix)
        evened = self._evened(left, shrink(strengths, sigma, *matrix.shape), state["basis"])
        wide = state | self._among(state, self.kept)
        wide |= {TAGS: state[TAGS][wide["kept"]]} if TAGS in state else {}
        basis = np.zeros((len(wide["kept"]), evened.shape[1]))
        basis[np.searchsorted(wide["kept"], state["kept"])] = evened
        return after_round(wide, basis=basis, releases=np.zeros((len(basis), 0)))

    def _among(self, state: State, number: int) -> State:
        """Return what is known of the ``number`` most popular items: their counts, weights, and shared direction."""
        return self._about(state, most_popular(state["counts"].astype(np.float64), number))

    def _about(self, state: State, kept: NDArray[np.int64]) -> State:
        counts = state["counts"].astype(np.float64)
        deviation = 1.0 / np.sqrt(state["precision"].item())
        popular = np.maximum(counts[kept], max(deviation, 1.0))  # below one deviation a count says nothing
        rarity = self.rarity * min(1.0, max(0.0, (self._typical(state) - SHORT) / (LONG - SHORT)))
        weights = (popular / popular.mean()) ** -rarity
        direction = deflation(popular * weights, self.direction)
        return {"kept": kept, "popular": popular, "weights": weights, "direction": direction}

    def _evened(
        self, left: NDArray[np.float64], strengths: NDArray[np.float64], before: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        """Return the next basis: the strongest directions, the stronger ones held back a little, or what there was."""
        if not strengths.any():
            return before[:, : self.rank]
        relative = np.maximum(strengths[: self.rank] / strengths[0], WEAKEST)
        evened: NDArray[np.float64] = left[:, : self.rank] * relative**-self.evenness
        return evened


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


def posterior(releases: NDArray[np.float64], last: int, tags: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the mean of the ``last`` columns of the rows, [kept, last], given all columns plus noise of variance 1.

    Args:
        releases: [kept, columns].
        last: how many columns are wanted.
        tags: [kept, tags].
    """
    told = told_by(tags, releases)
    axes, share = _prior(releases - told)
    mean: NDArray[np.float64] = told[:, -last:] + (releases - told) @ ((axes * share) @ axes[-last:].T)
    return mean


def told_by(tags: NDArray[np.float64], releases: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return what tags say of the rows, [kept, columns]: a ridge regression of them, which with no tags says 0.

    The ridge is the one with the least leave-one-out error: tags that say nothing of an item cost little.
    """
    squares, axes = np.linalg.eigh(tags.T @ tags)
    along = tags @ axes
    found = along.T @ releases
    best, least = np.zeros_like(releases), float((releases**2).sum())
    for ridge in RIDGES:
        inverse = 1.0 / (np.maximum(squares, 0.0) + ridge)
        told, leverage = along @ (inverse[:, None] * found), along**2 @ inverse
        error = float((((releases - told) / (1.0 - leverage)[:, None]) ** 2).sum())
        if error < least:
            best, least = told, error
    return best


def _tags(state: State, rows: int) -> NDArray[np.float64]:
    """Return the tags that a state holds, [rows, tags]; if it holds none, no columns."""
    tags: NDArray[np.float64] = state.get(TAGS, np.zeros((rows, 0))).astype(np.float64)
    return tags


def _prior(rows: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the axes of rows of mean 0, [columns, columns], and the share in [0, 1) that is believed along each.

    The prior's covariance is the likeliest: that of the rows less that of the noise, where it is positive.
    """
    variances, axes = np.linalg.eigh(rows.T @ rows / len(rows))
    return axes, np.maximum(variances - 1.0, 0.0) / np.maximum(variances, 1.0)


def _predicted(
    releases: NDArray[np.float64], tags: NDArray[np.float64], random: np.random.Generator
) -> NDArray[np.float64]:
    """Draw the rows that other noise of variance 1 would have left, given those that this noise left.

    A row is the truth plus noise. Under the prior of ``posterior`` what is not told by tags has mean ``rows A`` and
    covariance A, A being the share of a row that is believed; other noise adds 1. So drawn rows are as spread as the
    rows are.
    """
    told = told_by(tags, releases)
    axes, share = _prior(releases - told)
    drawn = random.standard_normal(releases.shape) * np.sqrt(1.0 + share)
    predicted: NDArray[np.float64] = told + (((releases - told) @ axes) * share + drawn) @ axes.T
    return predicted


def _onto(direction: NDArray[np.int64], matrix: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.outer(direction, direction @ matrix) / (direction @ direction)


@compiled
def _add_people(
    indptr: NDArray[np.int32],
    indices: NDArray[np.int32],
    positions: NDArray[np.int64],
    weights: NDArray[np.float64],
    basis: NDArray[np.float64],
    direction: NDArray[np.int64],
    bound: int,
    floor: float,
    total: NDArray[np.int64],
    shared: NDArray[np.int64],
    squared_norms: NDArray[np.int64],
) -> None:
    """Add each person's q and a, and note the exact squared length of their row; never longer than the bound."""
    longest = np.int64(0)
    for i in range(indptr.size - 1):
        longest = max(longest, np.int64(indptr[i + 1] - indptr[i]))
    known = np.empty(longest, np.int64)
    rows, multiples = np.empty((longest, basis.shape[1]), np.int64), np.empty(basis.shape[1], np.int64)
    projection = np.empty(basis.shape[1])
    length2 = (direction * direction).sum()
    for i in range(indptr.size - 1):
        k, norm2, overlap = _look_up(
            indices[indptr[i] : indptr[i + 1]], positions, weights, basis, direction, known, projection
        )
        square = 0.0
        for r in range(projection.size):  # one by one: compiled and interpreted, the same float
            square += projection[r] * projection[r]
        size = np.sqrt(square)
        if k == 0 or size == 0.0:
            continue
        own = max(1.0 - overlap * overlap / (norm2 * float(length2)), 0.0)
        wanted = bound * np.sqrt(own / max(own, floor))
        scale = bound / (np.sqrt(norm2 * max(own, floor)) * size)
        length = _fit_in(known[:k], weights, projection, direction, length2, scale, wanted, bound, rows, multiples)
        if length == 0:
            continue
        squared_norms[i] = length
        for r in range(basis.shape[1]):
            shared[r] += multiples[r]
            for entry in range(k):
                total[known[entry], r] += rows[entry, r]


@compiled
def _look_up(
    history: NDArray[np.int32],
    positions: NDArray[np.int64],
    weights: NDArray[np.float64],
    basis: NDArray[np.float64],
    direction: NDArray[np.int64],
    known: NDArray[np.int64],
    projection: NDArray[np.float64],
) -> tuple[np.int64, float, float]:
    """Set ``known`` to the kept items of a history and ``projection`` to their weighted sum of the basis.

    Returns how many they are, their squared weighted length, and its product with v.
    """
    k, norm2, overlap = np.int64(0), 0.0, 0.0
    projection[:] = 0.0
    for item in history:
        j = positions[item]
        if j >= 0:
            known[k] = j
            k += 1
            norm2 += weights[j] * weights[j]
            overlap += weights[j] * float(direction[j])
            for r in range(projection.size):
                projection[r] += weights[j] * basis[j, r]
    return k, norm2, overlap


@compiled
def _fit_in(
    known: NDArray[np.int64],
    weights: NDArray[np.float64],
    projection: NDArray[np.float64],
    direction: NDArray[np.int64],
    length2: np.int64,
    scale: float,
    wanted: float,
    bound: int,
    rows: NDArray[np.int64],
    multiples: NDArray[np.int64],
) -> np.int64:
    """Set q and a to integers whose row is about as long as wanted and within the bound; return its squared length.

    Where rounding left a row too long or too short, it is rescaled and rounded again. If no attempt keeps the bound, 0
    is returned: a row is dropped rather than trusted.
    """
    most, best, best_scale = MOST_SCALED * scale, np.int64(0), 0.0
    scale *= AIM
    for _ in range(ATTEMPTS):
        square = _rounded(known, weights, projection, direction, length2, scale, rows, multiples)
        if square == 0 or (CLOSE * wanted) ** 2 <= float(square) <= float(bound) ** 2:
            return square if square <= bound * bound else np.int64(0)
        if best < square <= bound * bound:
            best, best_scale = square, scale
        scale = min(scale * AIM * wanted / np.sqrt(float(square)), most)
    square = _rounded(known, weights, projection, direction, length2, best_scale, rows, multiples)
    return square if square <= bound * bound else np.int64(0)


@compiled
def _rounded(
    known: NDArray[np.int64],
    weights: NDArray[np.float64],
    projection: NDArray[np.float64],
    direction: NDArray[np.int64],
    length2: np.int64,
    scale: float,
    rows: NDArray[np.int64],
    multiples: NDArray[np.int64],
) -> np.int64:
    """Set ``rows`` to q and ``multiples`` to a; return the exact squared length of q on the known items less v a'."""
    square = np.int64(0)
    for r in range(projection.size):
        overlap = np.int64(0)
        for entry in range(known.size):
            q = np.int64(np.rint(scale * weights[known[entry]] * projection[r]))
            rows[entry, r] = q
            square += q * q
            overlap += q * direction[known[entry]]
        a = (2 * overlap + length2) // (2 * length2)  # the integer nearest to overlap / |v|^2
        multiples[r] = a
        square += length2 * a * a - 2 * overlap * a
    return square
