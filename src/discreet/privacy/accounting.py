"""Prices, in integers, and what they mean in (epsilon, delta) and in odds.

The currency is mu^2 of Gaussian differential privacy (Dong, Roth, Su 2022), counted in **units** of 2^-24. A release
whose noise is ``round(2^12 N(0, 1))`` on each coordinate costs a person with contribution ``q`` exactly ``sum(q * q)``
units, so no float ever enters a ledger. Units of different releases add up, also when later releases are chosen in
the light of earlier ones (Smith and Thakurta 2022; per person: Koskela, Tobaben, Honkela 2023). Epsilons do not.

The conversions to epsilon are those of ``dp_accounting`` (Balle and Wang 2018), rounded against the spender: a cap is
never too high, an epsilon never too low. Proof: ``accounting.md``.

Formal guarantees
-----------------
* ``cap(epsilon, delta)`` is a number of units u with: a mu-GDP mechanism, mu^2 = u * 2^-24, is (epsilon, delta)-DP.
* ``epsilon_of(u, delta)`` is an epsilon for which the same holds.
* ``odds_of(u)`` bounds the chance of guessing right, with even prior odds, whether a person was in the data.

======================  =======================================
edge case               behaviour
======================  =======================================
epsilon = inf           SettingError: such a release is not private and has no price
epsilon <= 0, NaN       SettingError
epsilon > 30            SettingError: no guarantee worth the name, and beyond the sampler's proof
delta outside (0, 1)    SettingError
delta near the sampler  SettingError: (1 + e^epsilon) 2^-83 must be below a thousandth of delta
cap below one unit      SettingError: the epsilon is too small for the grid
u = 0                   epsilon 0, odds 1/2
======================  =======================================
"""

from __future__ import annotations

import math
from numbers import Real

from discreet.errors import SettingError

GRID_BITS = 12
"""p: central noise is ``round(2^p N(0, 1))``. Chosen by measurement, see ``docs/how-it-works.md``."""

UNITS_PER_MU2 = 1 << (2 * GRID_BITS)
"""Ledger units in mu^2 = 1."""

MAX_EPSILON = 30.0
"""Above it the sampler's finite table, not the formula, would decide what is lost; and nobody would call it private."""

SAMPLER_GAP = 2.0**-83
"""Total variation between the sampled noise and the ideal, for up to 2^30 coordinates (``gaussian.md``)."""

SOLVER_SLACK = 1e-11
"""What is added to an epsilon: the solver stops within 1e-12 of the root, on either side of it."""


def cap(epsilon: float, delta: float) -> int:
    """Return the largest budget, in units, that keeps within ``(epsilon, delta)``; at most one unit too low.

    Raises:
        SettingError: see the table of edge cases.
    """
    from dp_accounting import get_sigma_gaussian

    check_epsilon(epsilon)
    check_delta(delta)
    if (1 + math.exp(epsilon)) * SAMPLER_GAP > delta / 1_000:
        raise SettingError(f"delta {delta:g} is too small for epsilon {epsilon:g}; use a larger delta")
    deviation: float = get_sigma_gaussian(epsilon, delta)
    units = math.floor(UNITS_PER_MU2 / deviation**2)
    if epsilon <= 2 * SOLVER_SLACK:
        raise SettingError(f"epsilon {epsilon:g} is too small to be told from the solver's error; ask for more")
    while units > 0 and epsilon_of(units, delta) > epsilon:  # the solver may have stopped above the root
        units -= 1
    if units < 1:
        raise SettingError(f"epsilon {epsilon:g} at delta {delta:g} is too small to be spent; ask for more")
    return units


def epsilon_of(units: int, delta: float) -> float:
    """Return the epsilon, in nats, that ``units`` amount to at ``delta``."""
    from dp_accounting import get_epsilon_gaussian

    check_delta(delta)
    if units < 0:
        raise SettingError("a price is not negative")
    if units == 0:
        return 0.0
    return float(get_epsilon_gaussian(1 / mu_of(units), delta)) + SOLVER_SLACK


def mu_of(units: int) -> float:
    """Return mu, the distance in standard deviations between the two normals that are to be told apart."""
    return math.sqrt(units / UNITS_PER_MU2)


def odds_of(units: int) -> float:
    """Return the best chance, 1/2 to 1, of guessing right whether a person was in the data: Phi(mu / 2).

    Source: Dong, Roth, Su 2022, section 2: the total-variation distance of the two normals is 2 Phi(mu/2) - 1.
    """
    return 0.5 * math.erfc(-mu_of(units) / 2 / math.sqrt(2))


def default_delta(people: int) -> float:
    """Return min(1e-5, people^-1.1): below one over the number of people, as any delta has to be."""
    if people < 1:
        raise SettingError("there are no people to protect")
    return min(1e-5, math.pow(people, -1.1))


def check_epsilon(epsilon: float) -> None:
    """Refuse an epsilon that is not a number in (0, 30]."""
    if not _is_number(epsilon) or not 0 < epsilon <= MAX_EPSILON:  # refuses NaN too
        raise SettingError(f"epsilon must be above 0 and at most {MAX_EPSILON:g}, got {epsilon!r}")


def check_delta(delta: float, people: int | None = None) -> None:
    """Refuse a delta outside (0, 1), or not below one over the number of people."""
    if not _is_number(delta) or not 0 < delta < 1:
        raise SettingError(f"delta must lie between 0 and 1, got {delta!r}")
    if people is not None and delta * people >= 1 and people > 1:
        raise SettingError(
            f"delta {delta:g} is not below 1/{people}: it would allow publishing one person whole; use a smaller delta"
        )


def _is_number(value: object) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool)
