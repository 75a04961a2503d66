"""Gate D: a tiny model, trained thousands of times from end to end, with a person in and without.

The event is chosen on runs of its own: what is published (the model's parameters, not what passed through the door)
is at least a threshold halfway between the two worlds. Then new runs are counted. The limits are those of Clopper and
Pearson, which assume nothing but that runs are independent; they bound epsilon at the claim's delta, and mu.
"""

from __future__ import annotations

from functools import partial

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm

from discreet.evaluation.audit.findings import Check, Claim, Finding
from discreet.evaluation.audit.people import crowd, opened, planned, rows, stacked
from discreet.evaluation.audit.statistics import PUBLISHED_ALPHA, Rates
from discreet.models.recipe import Kind
from discreet.training.populations import Here
from discreet.training.rounds import train

KIND: Kind = "popularity"
PEOPLE, ITEMS = 6, 8
PILOT = 200
"""Runs of each world on which the event is chosen."""

LEAST, MOST = 500, 10_000
"""Runs of each world: below some epsilon power falls rather than time grows."""

POWER = 0.99


def check(claim: Claim, alpha: float) -> Check:
    """Return the check at one claim."""
    return Check("D", KIND, claim, alpha, partial(_measure, claim))


def runs_for(mu: float, alpha: float) -> int:
    """Return how many runs of each world show twice the claimed mu with a chance of ``POWER``."""
    chance = norm.cdf(-mu)
    width = mu / (2 * norm.isf(alpha / 2) + norm.isf(1 - POWER) * 2**0.5)
    return min(MOST, max(LEAST, int(chance * (1 - chance) / (norm.pdf(mu) * width) ** 2)))


def judged(rates: Rates, claim: Claim, alpha: float) -> Finding:
    """Hold both bounds against the claim; alpha is not divided, since they rest on the same two limits."""
    mu, epsilon = rates.mu(alpha), rates.epsilon(alpha, claim.delta)
    figures = {"mu_bound": mu, "mu_claim": claim.mu, "epsilon_bound": epsilon}
    figures |= {"epsilon_95": rates.epsilon(PUBLISHED_ALPHA, claim.delta), "mu_95": rates.mu(PUBLISHED_ALPHA)}
    figures |= {"advantage_95": rates.advantage(PUBLISHED_ALPHA)}
    detail = f"mu >= {mu:.3f}, claimed {claim.mu:.3f}"
    return Finding(mu <= claim.mu and epsilon <= claim.epsilon, rates.inside + rates.outside, alpha, detail, figures)


def _measure(claim: Claim, alpha: float, scale: int) -> Finding:
    others = crowd(PEOPLE - 1, ITEMS, ITEMS // 2, np.random.default_rng())
    worlds = [Here(opened(stacked(others, rows([history], ITEMS))), threads=1) for history in ([0], [])]
    pilot = [_scores(world, claim, PILOT) for world in worlds]
    threshold = float(np.median(pilot[0]) + np.median(pilot[1])) / 2
    count = scale * runs_for(claim.mu, alpha)
    inside, outside = [_scores(world, claim, count) for world in worlds]
    return judged(Rates.of(inside, outside, threshold), claim, alpha)


def _scores(world: Here, claim: Claim, count: int) -> NDArray[np.float64]:
    """Train ``count`` times, and read off what each model says about the one item of the person in question."""
    model, plan = planned(KIND, PEOPLE, ITEMS, claim.epsilon, claim.delta)
    trained = (train(model, world, plan, spend=lambda _: None) for _ in range(count))
    return np.array([float(each.state["counts"][0]) for each in trained])
