"""Gate C: people who are planted to be found again, through all rounds of a training run.

Each canary is in by a fair coin; who is out has an empty history, as the adjacency says. ``train`` runs as it does for
anyone. What it released in every round is laid end to end: one long vector, of which the auditor knows everything but
the noise and the coins. A canary's row, over all rounds, is what that person would have added to it, given what the
rounds before had released.

Two scores, both the product of a row and of what was released, over the row's length:

- *knowing* everybody else's contribution, which is the adversary of the guarantee. Under a correct mechanism it is
  noise, plus the canary's length if it is in, so the gap between in and out is mu. The gate holds its lower bound
  against the claim.
- *guessing*: less the crowd's contribution alone. Nobody's coin enters it, which is what the bounds of one run ask for.
  They assume nothing about the mechanism, are weaker, and are published beside the gate's.

The long vector's noise is independent of the rows, round by round, so the knowing score of one canary is exactly as
the guarantee's proof has it. Scores of canaries that share items are correlated; by how much is known from their rows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array, hstack, vstack
from scipy.stats import norm

from discreet.data.interactions import Rows
from discreet.evaluation.audit.findings import Check, Claim, Finding
from discreet.evaluation.audit.people import crowd, only, opened, planned, stacked, transversal
from discreet.evaluation.audit.statistics import PUBLISHED_ALPHA, Guesses, Overlap, gap_bound, mahloujifar, steinke
from discreet.evaluation.transcripts import Watched
from discreet.models.broadcast import bits_for
from discreet.models.recipe import Kind
from discreet.privacy.accounting import UNITS_PER_MU2, epsilon_of
from discreet.privacy.disclosure import Add, AddApart, add_up
from discreet.privacy.levels import OFFERED, QUARTERS, Level
from discreet.privacy.plan import Plan
from discreet.training.aggregation import SecureSum, TwoServers
from discreet.training.populations import Here, Layers, Population, Work
from discreet.training.rounds import train

Noise = Callable[[int], NDArray[np.int64]]

PARTIES = 6
"""Among whom people are divided where each party adds its share of the noise."""


@dataclass(frozen=True)
class Adder:
    """A way of adding people's vectors up, with the noise where it has it.

    Attributes:
        arrange: returns the plan, who adds, and how many people one party has, of a plan and the number of people.
        largest: absolute value that sums keep exactly.
        unknown: share of the noise's deviation that is unknown to whoever is audited against.
    """

    arrange: Callable[[Plan, int], tuple[Plan, Add | AddApart, int]]
    largest: int
    unknown: float = 1.0


def _in_the_clear(plan: Plan, people: int) -> tuple[Plan, Add | AddApart, int]:
    del people
    return plan, add_up, Here.block


def _securely(plan: Plan, people: int) -> tuple[Plan, Add | AddApart, int]:
    block = -(-people // PARTIES)
    parties = -(-people // block)
    shared = replace(plan, noise="shares", parties=parties, honest=parties)
    return shared, SecureSum(parties, bits_for(shared, people)), block


def _by_two(plan: Plan, people: int) -> tuple[Plan, Add | AddApart, int]:
    """Arrange for two servers, and release what the first of them sees: all but the noise that it added itself."""
    apart, block = replace(plan, noise="two-servers"), -(-people // PARTIES)
    servers = TwoServers(-(-people // block), bits_for(apart, people))

    def seen_by_one(vectors: Iterable[NDArray[np.int64]], noise: Noise) -> NDArray[np.int64]:
        drawn: list[NDArray[np.int64]] = []

        def noted(dims: int) -> NDArray[np.int64]:
            drawn.append(noise(dims))
            return drawn[-1]

        total = servers(vectors, noted)
        return total - drawn[0]

    return apart, seen_by_one, block


ADDERS = {
    "add_up": Adder(_in_the_clear, 1 << 60),
    "secagg": Adder(_securely, (1 << 31) - 16),
    "two-servers": Adder(_by_two, (1 << 31) - 16, 0.5**0.5),
}
"""Everything that adds people's vectors up."""

SIZE = 4
"""Items of a canary."""

LEAST = 2_000
"""Canaries, however easy the claim is to refute: the published bounds need them."""

MOST = 6_000
"""Canaries, however hard: below epsilon 0.8 or so power falls rather than time grows."""

CROWD = 4_000
"""People beside the canaries: enough for models to go past their counts."""

LONGEST = 24
POWER = 0.99
TIGHTNESS = 0.95
"""Share of the bound that a canary's row is taken to fill when their number is chosen."""

GUESSED = 0.1
"""Share of the canaries at either end that is guessed, for the bounds of one run."""

MOST_MU = 30.0
"""Above it a bound on mu is called infinite."""

PROBES = 16


@dataclass(frozen=True, eq=False)
class Seen:
    """What one or more training runs showed of their canaries.

    Attributes:
        inside: which are in.
        knowing: float64 [canaries], their scores to whoever knows everybody else.
        guessing: float64 [canaries], to whoever knows the crowd.
        overlap: of their rows.
        longest: the largest mu that any of them was exposed to, by its row.
    """

    inside: NDArray[np.bool_]
    knowing: NDArray[np.float64]
    guessing: NDArray[np.float64]
    overlap: Overlap
    longest: float

    def __add__(self, other: Seen) -> Seen:
        """Return both runs' canaries. Each is in one run only, so what holds of a run holds of both."""
        return Seen(
            np.concatenate([self.inside, other.inside]),
            np.concatenate([self.knowing, other.knowing]),
            np.concatenate([self.guessing, other.guessing]),
            self.overlap + other.overlap,
            max(self.longest, other.longest),
        )


def check(kind: Kind, claim: Claim, alpha: float, adder: str) -> Check:
    """Return the check of one kind of model, at one claim, with one adder."""
    return Check("C", f"{kind}, {adder}", claim, alpha, partial(_measure, kind, claim, adder))


def canaries_for(mu: float, alpha: float) -> int:
    """Return how many canaries show noise of half its size with a chance of ``POWER``."""
    twice = 2 * TIGHTNESS * mu
    deviations = (norm.isf(alpha) + norm.isf(1 - POWER)) * (4 + twice**2 / 2) ** 0.5
    return min(MOST, max(LEAST, int((deviations / (twice - mu)) ** 2)))


def _measure(kind: Kind, claim: Claim, adder: str, alpha: float, scale: int) -> Finding:
    """Play on the canaries of one run, or of several, each with its own."""
    runs = [watch(kind, claim, canaries_for(claim.mu, alpha), ADDERS[adder]) for _ in range(scale)]
    return judged(sum(runs[1:], runs[0]), claim, alpha)


def watch(kind: Kind, claim: Claim, canaries: int, adder: Adder) -> Seen:
    """Train once with canaries in the crowd, and look for them in what was released."""
    random = np.random.default_rng()
    planted, _ = transversal(canaries, SIZE)
    inside = random.random(canaries) < 0.5
    public = crowd(CROWD, planted.shape[1], LONGEST, random)
    model, plan = planned(kind, CROWD + canaries, planted.shape[1], claim.epsilon, claim.delta)
    plan, add, block = adder.arrange(plan, CROWD + canaries)
    watched = Watched(model)
    train(watched, Here(opened(stacked(public, only(planted, inside))), block), plan, spend=_unbilled, add=add)
    return seen(watched, plan, Here(opened(public)), planted, inside, unknown=adder.unknown)[Level.LIGHT]


def judged(seen: Seen, claim: Claim, alpha: float) -> Finding:
    """Hold the bound of the knowing score against the claim; publish the others."""
    estimate, bound = gap_bound(seen.knowing, seen.inside, seen.overlap, alpha)
    _, published = gap_bound(seen.knowing, seen.inside, seen.overlap, PUBLISHED_ALPHA)
    guesses = Guesses.of(seen.guessing, seen.inside, GUESSED)
    figures = {
        "mu_estimate": estimate,
        "mu_bound": bound,
        "mu_claim": claim.mu,
        "epsilon_bound": epsilon_at(bound, claim.delta),
        "epsilon_95_z_gdp": epsilon_at(published, claim.delta),
        "epsilon_95_f_dp": epsilon_at(mahloujifar(guesses, PUBLISHED_ALPHA), claim.delta),
        "epsilon_95_steinke": steinke(guesses, claim.delta, PUBLISHED_ALPHA),
        "mu_of_rows": seen.longest,
    }
    detail = f"mu >= {bound:.3f}, claimed {claim.mu:.3f}"
    return Finding(bound <= claim.mu, len(seen.inside), alpha, detail, figures)


def epsilon_at(mu: float, delta: float) -> float:
    """Return the epsilon, at delta, of a bound on mu; infinite where that is beyond all promises."""
    return epsilon_of(int(mu**2 * UNITS_PER_MU2), delta) if mu < MOST_MU else float("inf")


def seen(
    watched: Watched,
    plan: Plan,
    crowd: Population,
    planted: Rows,
    inside: NDArray[np.bool_],
    layers: Layers = (),
    quarters: NDArray[np.int64] | None = None,
    unknown: float = 1.0,
) -> dict[Level, Seen]:
    """Score canaries on the whole transcript of a run; return them by the level that they gave.

    Args:
        watched: what was told, in every round.
        plan: that ran.
        crowd: everybody else.
        planted: histories of all canaries, whether they are in or not.
        inside: which canaries are in.
        layers: of rows; none where no category is declared.
        quarters: of the bound that each canary gives, int64 [canaries]; None: the whole, level ``light``.
        unknown: share of the noise's deviation that is unknown.
    """
    given = np.full(len(inside), QUARTERS) if quarters is None else quarters
    asked = [Work(watched.model, *told, layers) for told in zip(watched.states, plan.bounds, strict=True)]
    made = csr_array(hstack([_rows(work, planted, given) for work in asked], format="csr"), dtype=np.float64)
    told = zip(asked, watched.released, strict=True)
    left = [each.total - add_up(block.total for block in crowd.map(work)) for work, each in told]
    released, deviation = np.concatenate(left).astype(np.float64), unknown * watched.released[0].deviation
    groups = {level: given == level.value for level in OFFERED}
    return {level: scored(made, released, inside, deviation, of) for level, of in groups.items() if of.any()}


def scored(
    made: csr_array,
    released: NDArray[np.float64],
    inside: NDArray[np.bool_],
    deviation: float,
    of: NDArray[np.bool_] | None = None,
) -> Seen:
    """Score canaries.

    Args:
        made: float64 [canaries, coordinates], their rows over all rounds, in grid units.
        released: float64 [coordinates], less what the crowd added.
        inside: which canaries are in.
        deviation: of the noise.
        of: which canaries are scored; the others are known, as the crowd is. None: all.
    """
    others = released - made.T @ inside.astype(np.float64)
    lengths = np.sqrt(np.asarray(made.multiply(made).sum(axis=1)).ravel())
    heard = lengths > 0  # somebody whose row is zero in every round leaves no trace, and is no trial
    if of is not None:
        released, heard = released - made[~of].T @ inside[~of].astype(np.float64), heard & of
    directions = csr_array(made[heard].multiply(1 / lengths[heard][:, None]))
    inside, lengths = inside[heard], lengths[heard]
    return Seen(
        inside=inside,
        knowing=(directions @ others + inside * lengths) / deviation,
        guessing=directions @ released / deviation,
        overlap=_overlap(directions, inside),
        longest=float(lengths.max(initial=0.0)) / deviation,
    )


def _overlap(directions: csr_array, inside: NDArray[np.bool_]) -> Overlap:
    """Return the sums over the cosines of all pairs of rows [canaries, coordinates] of length 1.

    Those of squares are estimated with random signs: |K g|^2 is on average the sum of K's squares (Hutchinson).
    """
    member, other = inside.astype(np.float64), (~inside).astype(np.float64)
    of_members, of_others = directions.T @ member, directions.T @ other
    signs = np.random.default_rng().choice([-1.0, 1.0], (len(inside), PROBES))
    squares = ((directions @ (directions.T @ signs)) ** 2).sum() / PROBES
    return Overlap(
        float(of_members @ of_members), float(of_others @ of_others), float(of_members @ of_others), float(squares)
    )


def _rows(work: Work, people: Rows, quarters: NDArray[np.int64]) -> csr_array:
    """Return people's rows, made one by one, as their own devices would, within the quarters that each gives."""
    works = [replace(work, level=Level(given)) for given in quarters.tolist()]
    made = [csr_array(each(people[[number]]).total[None]) for number, each in enumerate(works)]
    return csr_array(vstack(made, format="csr"))


def _unbilled(units: int) -> None:
    """Book nothing: nobody exists."""
