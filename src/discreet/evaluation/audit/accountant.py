"""Gate E: is what the accountant says never below the closed form? No false alarms.

Random compositions are priced and read as an epsilon; budgets are turned into caps. Each answer is put back into the
formula of Balle and Wang, in decimals (``closed_form.py``), and has to keep its delta.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from decimal import Decimal

import numpy as np

from discreet.evaluation.audit.closed_form import delta_of, mu_of_square
from discreet.evaluation.audit.findings import Check, Finding
from discreet.privacy.accounting import MAX_EPSILON, UNITS_PER_MU2, cap, epsilon_of, odds_of
from discreet.privacy.adjacency import Adjacency
from discreet.privacy.guarantee import Guarantee
from discreet.privacy.levels import Level
from discreet.privacy.plan import Plan
from discreet.privacy.records import MOST_WEIGHT

COMPOSITIONS = 300
MOST_ROUNDS = 40
MOVES = {
    Adjacency.ADD_OR_REMOVE_PERSON: 1,
    Adjacency.REPLACE_PERSON: 2,
    Adjacency.ADD_OR_REMOVE_INTERACTION: 1,
}
"""How many bounds neighbours are apart: stated here anew, not read off the product."""

QUARTERS = {Level.STRONG: 1, Level.BALANCED: 2, Level.LIGHT: 4}
"""Of a bound, what each level gives: the same."""

CATEGORY = "health"
FLOATS = 1e-15
"""What a chance may lose to being a float."""


def checks() -> list[Check]:
    """Return the one check of the accountant."""
    return [Check("E", "compositions", None, 0.0, measure)]


def measure(alpha: float, scale: int) -> Finding:
    """Hold random compositions and caps against the closed form."""
    del alpha, scale  # nothing here is left to chance
    random = np.random.default_rng()
    for number in range(COMPOSITIONS):
        fault = next((fault for fault in _faults(random) if fault), None)
        if fault:
            return Finding(False, number + 1, 0.0, fault, {})
    return Finding(True, COMPOSITIONS, 0.0, "all keep their delta", {})


def _faults(random: np.random.Generator) -> Iterator[str | None]:
    delta, epsilon = 10 ** random.uniform(-10, -3), 10 ** random.uniform(-1.5, 1.4)
    yield _of_cap(min(epsilon, MAX_EPSILON), delta)
    rounds = int(random.integers(1, MOST_ROUNDS))
    longest = 1 << int(random.integers(6, 13))
    bounds = tuple(int(bound) for bound in random.integers(1, longest, rounds))
    yield _of_plan(Plan(bounds=bounds, delta=delta, adjacency=tuple(MOVES)[int(random.integers(3))]))
    yield _of_parts(
        Plan(bounds=(4, *bounds), delta=delta, weights=((CATEGORY, int(random.integers(MOST_WEIGHT + 1))),))
    )


def _of_cap(epsilon: float, delta: float) -> str | None:
    units = cap(epsilon, delta)
    kept = delta_of(epsilon, mu_of_square(units, UNITS_PER_MU2)) <= Decimal(delta)
    return None if kept else f"a cap for epsilon {epsilon:g} at delta {delta:g} lets more be spent"


def _of_plan(plan: Plan) -> str | None:
    """Return what is wrong with what a plan says that it costs, and with what that is said to mean."""
    units = sum((MOVES[plan.adjacency] * bound) ** 2 for bound in plan.bounds)
    mu = mu_of_square(units, UNITS_PER_MU2)
    told = Guarantee.of(plan)
    promises = {
        f"a plan costs {units} units and says {plan.cost}": plan.cost >= units,
        f"an epsilon of {told.epsilon:g} is below the closed form": _keeps(told.epsilon, mu, plan.delta),
        "an epsilon of its units is below the closed form": _keeps(epsilon_of(units, plan.delta), mu, plan.delta),
        "the odds are above those that are told": min(told.odds, odds_of(units)) >= _odds(mu) - FLOATS,
    }
    return next((fault for fault, kept in promises.items() if not kept), None)


def _of_parts(plan: Plan) -> str | None:
    """Return what is wrong with the prices of levels, which have a part of each bound, and of a category."""
    for level, quarters in QUARTERS.items():
        if plan.cost_at(level) < sum((bound * quarters // 4) ** 2 for bound in plan.bounds):
            return f"level {level} costs more than is said"
    ((_, weight),) = plan.weights
    least = sum((2 * (bound * weight // 16)) ** 2 for bound in plan.bounds)  # twice what those layers may be long
    return None if plan.record_cost(CATEGORY) >= least else f"records of weight {weight}/16 cost more than is said"


def _keeps(epsilon: float, mu: Decimal, delta: float) -> bool:
    return delta_of(epsilon, mu) <= Decimal(delta)


def _odds(mu: Decimal) -> float:
    """Return Phi(mu / 2): delta at epsilon 0 is the total variation 2 Phi(mu / 2) - 1."""
    return 0.5 + float(delta_of(0.0, mu)) / 2 if math.isfinite(mu) else 1.0
