"""Units, epsilons and odds: never in favour of the spender, and equal to the closed form in fifty digits."""

from __future__ import annotations

import math

import mpmath
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from discreet.errors import SettingError
from discreet.privacy.accounting import (
    MAX_EPSILON,
    UNITS_PER_MU2,
    cap,
    check_delta,
    default_delta,
    epsilon_of,
    mu_of,
    odds_of,
)
from discreet.privacy.mechanisms.gaussian import STANDARD_DEVIATION

epsilons = st.floats(0.01, MAX_EPSILON)
deltas = st.floats(-8, -2).map(lambda exponent: 10.0**exponent)


def exact_delta(units: int, epsilon: float) -> mpmath.mpf:
    """Balle and Wang 2018, theorem 8."""
    with mpmath.workdps(50):
        mu = mpmath.sqrt(mpmath.mpf(units) / UNITS_PER_MU2)
        eps = mpmath.mpf(epsilon)
        return mpmath.ncdf(mu / 2 - eps / mu) - mpmath.exp(eps) * mpmath.ncdf(-mu / 2 - eps / mu)


@given(epsilons, deltas)
@settings(max_examples=60, deadline=None)
def test_a_cap_keeps_its_promise_and_wastes_at_most_a_unit(epsilon: float, delta: float) -> None:
    units = cap(epsilon, delta)
    assert exact_delta(units, epsilon) <= delta
    assert exact_delta(units + 2, epsilon) > delta * (1 - 1e-6)


@given(st.integers(1, 1 << 34), deltas)
@settings(max_examples=60, deadline=None)
def test_an_epsilon_is_never_too_low(units: int, delta: float) -> None:
    assert exact_delta(units, epsilon_of(units, delta)) <= delta


@given(st.integers(0, 1 << 30), st.integers(0, 1 << 30))
@settings(max_examples=40, deadline=None)
def test_more_units_are_a_larger_epsilon(one: int, other: int) -> None:
    low, high = sorted((one, other))
    assert epsilon_of(low, 1e-6) <= epsilon_of(high, 1e-6) + 1e-10


def test_published_figures() -> None:
    """sigma for (1, 1e-6) is 4.224679; mu = 1 gives 69 of 100; epsilon 2 at 1e-5 gives 60 of 100."""
    assert 1 / mu_of(cap(1.0, 1e-6)) == pytest.approx(4.224679, abs=1e-5)
    assert odds_of(UNITS_PER_MU2) == pytest.approx(0.69146, abs=1e-5)
    assert math.ceil(100 * odds_of(cap(2.0, 1e-5))) == 60


def test_the_unit_is_that_of_the_noise_and_the_caps_are_those_of_the_design() -> None:
    """At p = 16 the cap of epsilon 1, delta 1e-6 is 240,642,567; a unit of p = 12 is 256 of those."""
    assert UNITS_PER_MU2 == STANDARD_DEVIATION**2
    assert cap(1.0, 1e-6) == 240_642_567 // 256
    assert cap(8.0, 1e-6) == 10_074_406_058 // 256


def test_a_delta_that_the_sampler_could_not_keep_is_refused() -> None:
    with pytest.raises(SettingError, match="larger delta"):
        cap(MAX_EPSILON, 1e-10)
    assert cap(1.0, 1e-18) > 0


def test_units_add_up_where_epsilons_do_not() -> None:
    """52 weekly runs at epsilon 1 are epsilon 9.1, not 52."""
    assert epsilon_of(52 * cap(1.0, 1e-6), 1e-6) == pytest.approx(9.1, abs=0.05)


def test_nothing_spent_is_nothing_lost() -> None:
    assert epsilon_of(0, 1e-6) == 0
    assert odds_of(0) == 0.5


@pytest.mark.parametrize("epsilon", [0.0, -1.0, math.nan, math.inf, -math.inf, MAX_EPSILON * 1.01, 1e-9, 1e-12])
def test_an_epsilon_out_of_range_is_refused(epsilon: float) -> None:
    with pytest.raises(SettingError, match="epsilon"):
        cap(epsilon, 1e-6)


@pytest.mark.parametrize("delta", [0.0, 1.0, -0.1, math.nan, 2.0])
def test_a_delta_out_of_range_is_refused(delta: float) -> None:
    with pytest.raises(SettingError, match="delta"):
        cap(1.0, delta)


def test_a_delta_must_be_below_one_over_the_people() -> None:
    check_delta(1e-3, 999)
    with pytest.raises(SettingError, match="one person whole"):
        check_delta(1e-3, 1_000)
    for people in (1, 2, 943, 6_040, 10**7):
        check_delta(default_delta(people), people)
    with pytest.raises(SettingError, match="no people"):
        default_delta(0)


def test_a_negative_price_is_refused() -> None:
    with pytest.raises(SettingError, match="negative"):
        epsilon_of(-1, 1e-6)
