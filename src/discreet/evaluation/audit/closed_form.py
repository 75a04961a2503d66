"""Gaussian differential privacy in decimals: what the accountant is held against.

Nothing here is shared with ``privacy.accounting``: no library of distributions, no solver, no floats. The normal
distribution is summed from its series, with far more digits than a float has, so that rounding decides nothing.

Source: Balle and Wang 2018, theorem 8: a mu-GDP mechanism is (epsilon, delta)-DP exactly for

    delta >= Phi(mu / 2 - epsilon / mu) - e^epsilon Phi(-mu / 2 - epsilon / mu).
"""

from __future__ import annotations

from decimal import Decimal, localcontext
from functools import cache

DIGITS = 60
"""That are right in every result."""

FARTHEST = 100
"""Standard deviations beyond which nothing is computed."""

HALVINGS = 80
"""Of an interval of mu: what is left of it is far below a unit of the ledger."""


def delta_of(epsilon: float, mu: Decimal) -> Decimal:
    """Return the least delta at which a mu-GDP mechanism, mu > 0, is (epsilon, delta)-DP."""
    price = Decimal(epsilon)
    with localcontext() as context:
        context.prec = _digits(mu / 2 + price / mu)
        return _normal(mu / 2 - price / mu) - price.exp() * _normal(-mu / 2 - price / mu)


def mu_of_claim(epsilon: float, delta: float) -> float:
    """Return the largest mu for which a mu-GDP mechanism is (epsilon, delta)-DP, to 15 digits.

    Delta grows with mu, so halving finds it.
    """
    low, high = Decimal(0), Decimal(FARTHEST) / 2
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        low, high = (middle, high) if delta_of(epsilon, middle) <= Decimal(delta) else (low, middle)
    return float(low)


def mu_of_square(units: int, units_per_mu2: int) -> Decimal:
    """Return mu, of mu^2 in units of a ledger."""
    with localcontext() as context:
        context.prec = DIGITS
        return (Decimal(units) / units_per_mu2).sqrt()


def _digits(farthest: Decimal) -> int:
    """Return the digits to compute with: tails cancel x^2 / (2 ln 10) of them."""
    return DIGITS + int(min(farthest, Decimal(FARTHEST)) ** 2 / 4)


def _normal(x: Decimal) -> Decimal:
    """Return Phi(x) by its series: 1/2 + phi(x) (x + x^3 / 3 + x^5 / (3 5) + ...). All of its terms have one sign."""
    if abs(x) > FARTHEST:
        return Decimal(int(x > 0))
    term, total, odd = x, x, 1
    while term and abs(term) > abs(total).scaleb(-_precision()):
        odd += 2
        term = term * x * x / odd
        total += term
    return Decimal(1) / 2 + total * (-x * x / 2).exp() / (2 * _pi(_precision())).sqrt()


def _precision() -> int:
    with localcontext() as context:
        return context.prec


@cache
def _pi(digits: int) -> Decimal:
    """Return pi by the formula of Machin: 16 arctan(1/5) - 4 arctan(1/239)."""
    with localcontext() as context:
        context.prec = digits + 5
        return 16 * _arctan_of_inverse(5, digits) - 4 * _arctan_of_inverse(239, digits)


def _arctan_of_inverse(n: int, digits: int) -> Decimal:
    power, total, odd = Decimal(1) / n, Decimal(1) / n, 1
    while abs(power) > Decimal(10) ** -(digits + 5):
        odd += 2
        power = -power / (n * n)
        total += power / odd
    return total
