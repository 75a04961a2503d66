"""Shares of noise: exact tables, draws of that law, sums that are Gaussian mechanisms; and tests that fail both ways.

Each statistical test says how often it fails by chance.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import mpmath
import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import chi2, norm

from discreet.errors import SettingError
from discreet.privacy.accounting import UNITS_PER_MU2
from discreet.privacy.mechanisms.discrete_gaussian import (
    LEAST_VARIANCE,
    MOST_PARTIES,
    ROUNDING,
    _look_up,
    draw,
    share_of,
    table_of,
)
from discreet.randomness import NoiseSource

CHANCE = 1e-6


def exact(variance: int, reach: int) -> list[mpmath.mpf]:
    """P(z = k), k = 0 to reach, with 60 digits."""
    with mpmath.workdps(60):
        likelihoods = [mpmath.exp(-(mpmath.mpf(k) ** 2) / (2 * variance)) for k in range(reach + 1)]
        whole = likelihoods[0] + 2 * mpmath.fsum(likelihoods[1:])
        return [each / whole for each in likelihoods]


@pytest.mark.parametrize("variance", [16, 17, 100, 1_000])
def test_tables_are_exact_to_the_last_bit_but_one(variance: int) -> None:
    table = table_of(variance)
    rows = [int(high) << 64 | int(low) for high, low in zip(table.high, table.low, strict=True)]
    with mpmath.workdps(60):
        likelihoods = exact(variance, len(rows) + 50)
        inside = -likelihoods[0]
        for k, row in enumerate(rows[:-1]):
            inside += 2 * likelihoods[k]
            assert abs(row - inside * 2**128) < 2, k
    assert rows[-1] == (1 << 128) - 1
    assert rows == sorted(rows)


def test_the_largest_table_ends_where_almost_nothing_is_left() -> None:
    table = table_of(UNITS_PER_MU2 + ROUNDING)
    assert table.high.size == 59_067  # of which the proof speaks
    outside = math.erfc(table.high.size / math.sqrt(2 * (UNITS_PER_MU2 + ROUNDING)))
    assert outside < 2.0**-148


@pytest.mark.parametrize("honest", [1, 2, 3, 999, 1_000, MOST_PARTIES])
def test_shares_are_enough_and_hardly_more(honest: int) -> None:
    share = share_of(honest)
    assert share >= LEAST_VARIANCE
    assert honest * share >= UNITS_PER_MU2 + ROUNDING
    assert honest * (share - 1) < UNITS_PER_MU2 + ROUNDING


@pytest.mark.parametrize("honest", [0, -1, MOST_PARTIES + 1])
def test_parties_that_there_are_not(honest: int) -> None:
    with pytest.raises(SettingError):
        share_of(honest)


@pytest.mark.parametrize("variance", [0, 15, UNITS_PER_MU2 + ROUNDING + 1])
def test_variances_that_no_share_has(variance: int) -> None:
    with pytest.raises(SettingError):
        draw(1, variance, NoiseSource())


def statistic(noise: NDArray[np.int64], variance: int) -> float:
    """Chi-squared over the values within three deviations, and what is beyond on either side."""
    reach = int(3 * math.sqrt(variance))
    likelihoods = np.array([float(each) for each in exact(variance, 40 * reach // 3)])
    inner = np.concatenate([likelihoods[reach:0:-1], likelihoods[: reach + 1]])
    beyond = likelihoods[reach + 1 :].sum()
    expected = np.concatenate([[beyond], inner, [beyond]]) * noise.size
    counts = np.bincount(np.clip(noise, -reach - 1, reach + 1) + reach + 1, minlength=expected.size)
    return float(((counts - expected) ** 2 / expected).sum() / chi2.isf(CHANCE, expected.size - 1))


@pytest.mark.parametrize("variance", [16, 100])
def test_draws_have_the_law_and_neither_a_wider_nor_a_narrower_one(variance: int) -> None:
    """Fails by chance in one run of a million; variances 4 % off are seen with a chance above 1 - 1e-9."""
    noise = draw(400_000, variance, NoiseSource())
    assert statistic(noise, variance) < 1
    assert statistic(noise, round(variance * 1.04 + 1)) > 1
    assert statistic(noise, round(variance / 1.04 - 1)) > 1


def test_large_shares_have_mean_and_variance_and_independent_coordinates() -> None:
    """Five normal statistics: any beyond 5.4 deviations in one run of three million."""
    variance, many = share_of(20), 400_000
    noise = draw(many, variance, NoiseSource()) / math.sqrt(variance)
    limit = norm.isf(CHANCE / 30)
    assert abs(noise.mean()) * math.sqrt(many) < limit
    assert abs((noise**2).mean() - 1) * math.sqrt(many / 2) < limit
    assert abs((noise**4).mean() - 3) * math.sqrt(many / 96) < limit
    for lag in (1, 7):
        assert abs((noise[lag:] * noise[:-lag]).mean()) * math.sqrt(many - lag) < limit


def test_no_source_gives_the_same_noise_twice() -> None:
    one, other = (draw(100, 1_000, NoiseSource()) for _ in range(2))
    assert (one != other).any()
    known = [draw(100, 1_000, NoiseSource(insecure_test_seed=4)) for _ in range(2)]
    assert (known[0] == known[1]).all()


class Spare(NoiseSource):
    """Hands out words that a test chose."""

    def __init__(self, words: list[int]) -> None:
        super().__init__(insecure_test_seed=0)
        self._given: Iterator[int] = iter(words)

    def words(self, count: int) -> NDArray[np.uint64]:
        return np.array([next(self._given) for _ in range(count)], np.uint64)


def test_where_63_bits_do_not_decide_the_others_do() -> None:
    """U just below a threshold, at it, and just above, for words whose top bits are those of the threshold."""
    table = table_of(16)
    for k in range(5):
        threshold = int(table.high[k]) << 64 | int(table.low[k])
        for uniform, found in ((threshold - 1, k), (threshold, k + 1), (threshold + 1, k + 1)):
            high, low = uniform >> 64, uniform & ((1 << 64) - 1)
            for sign in (0, 1):
                word = np.array([high & ~1 | sign], np.uint64)
                (drawn,) = _look_up(word, table, Spare([high & 1, low]))
                assert drawn == (-found if sign else found)


def test_the_extremes_of_a_word() -> None:
    table = table_of(16)
    words = np.array([0, 1, (1 << 64) - 2, (1 << 64) - 1], np.uint64)
    ends = _look_up(words, table, Spare([1, (1 << 64) - 1] * 4))
    last = table.high.size - 1
    assert ends.tolist() == [0, 0, last, -last]


def convolved(variance: int, parties: int, reach: int) -> NDArray[np.float64]:
    law = np.array([float(each) for each in exact(variance, reach)])
    one = np.concatenate([law[:0:-1], law])
    total = one
    for _ in range(parties - 1):
        total = np.convolve(total, one)
    return total


@pytest.mark.parametrize("parties", [2, 5])
def test_sums_of_shares_are_discrete_gaussians(parties: int) -> None:
    """Exact laws, not draws, in floats."""
    variance, reach = 16, 60
    summed = convolved(variance, parties, reach)
    middle = summed.size // 2
    whole = np.array([float(each) for each in exact(variance * parties, middle)])
    found = summed[middle:]
    assert np.abs(found - whole).max() < 1e-13


def hockey_stick(p: NDArray[np.float64], q: NDArray[np.float64], epsilon: float) -> float:
    return float(np.maximum(p - math.exp(epsilon) * q, 0).sum())


@pytest.mark.parametrize("shift", [1, 3, 20, 64])
@pytest.mark.parametrize("epsilon", [0.0, 0.05, 0.3, 1.0, 3.0])
def test_a_discrete_gaussian_is_no_less_private_than_the_gaussian_that_is_claimed(shift: int, epsilon: float) -> None:
    """Exact delta in one dimension, against the closed form for variance less eight; and it would not hold for more."""
    variance, reach = 512, 1_200
    law = np.array([float(each) for each in exact(variance, reach)])
    p = np.concatenate([law[:0:-1], law])
    moved = np.concatenate([np.zeros(shift), p])
    still = np.concatenate([p, np.zeros(shift)])
    delta = hockey_stick(moved, still, epsilon)

    def claimed(of: float) -> float:
        mu = shift / math.sqrt(of)
        return float(norm.cdf(mu / 2 - epsilon / mu) - math.exp(epsilon) * norm.cdf(-mu / 2 - epsilon / mu))

    assert delta <= claimed(variance - ROUNDING) + 1e-14
    if claimed(variance) > 1e-6:
        assert delta > claimed(variance * 1.1), "the bound is tight: a tenth more noise than there is would be refuted"
