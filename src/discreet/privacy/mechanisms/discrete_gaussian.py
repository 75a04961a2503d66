"""Shares of noise: each of many parties adds a discrete Gaussian, and together they are a Gaussian mechanism.

Mechanism
--------- A discrete Gaussian of variance parameter v has P(z = k) proportional to exp(-k^2 / 2v) on the integers. Of h
parties each adds one of ``v = share_of(h)``, the least whole number with ``h v >= 2^24 + 8``, to each coordinate of its
integer vector before anybody else sees it. What comes out is the sum of the vectors plus z, the sum of the shares.

Formal guarantee
---------------- If adding or removing one person changes the sum of vectors by q with ``sum(q * q) <= S^2``, then
whoever sees the sum, and knows the shares of all but h parties, sees a mechanism that is mu-GDP with ``mu = S / 2^12``
for that person: what the rounded Gaussian of central training gives, at no further price. Up to factors of 1 +- 2^-190
(shares) and a total variation of 2^-113 a draw (the sampler). Sums of discrete Gaussians are discrete Gaussians but for
2^-190, and a discrete Gaussian of variance r^2 + 8 is a continuous one of variance r^2 that was rounded at random,
which is post-processing. Proof: ``discrete_gaussian.md``.

===========================  =======================================================================
edge case                    behaviour
===========================  =======================================================================
more than h honest parties   more noise than is needed, never less
fewer                        no guarantee: whoever adds up must refuse (``Plan.honest``)
one party                    v = 2^24 + 8: noise enough alone, local differential privacy
h above 2^20                 SettingError: a share would be too coarse for the proof
===========================  =======================================================================
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from discreet.errors import SettingError
from discreet.privacy.accounting import UNITS_PER_MU2
from discreet.randomness import NoiseSource

ROUNDING = 8
"""Variance that is given away for rounding at random: 2 exp(-2 pi^2 8) is below 2^-226."""

LEAST_VARIANCE = 16
"""Below it sums of shares would not be discrete Gaussians to the accuracy that is claimed."""

MOST_PARTIES = UNITS_PER_MU2 // LEAST_VARIANCE

PRECISION = 384
"""Bits behind the point while a table is built."""

TAIL = 150
"""A table ends where a value is less likely than the likeliest by 2^-150."""


class Table(NamedTuple):
    """floor(2^128 P(abs(z) <= k)) for k = 0, 1, ...; the last is 2^128 - 1."""

    high: NDArray[np.uint64]
    low: NDArray[np.uint64]


def share_of(honest: int) -> int:
    """Return the variance of one share, in grid units squared, where ``honest`` of them are enough.

    Raises:
        SettingError: there are none, or more than 2^20.
    """
    if not 1 <= honest <= MOST_PARTIES:
        raise SettingError(f"noise is shared among 1 to {MOST_PARTIES:,} parties, not {honest}")
    return -(-(UNITS_PER_MU2 + ROUNDING) // honest)


def draw(count: int, variance: int, source: NoiseSource) -> NDArray[np.int64]:
    """Return ``count`` independent discrete Gaussians, int64 [count].

    Args:
        count: how many.
        variance: v, from 16 to 2^24 + 8, in grid units squared.
        source: this party's own, fresh for each release.
    """
    table, noise, done = table_of(variance), np.empty(count, np.int64), 0
    for words in source.blocks(count):
        noise[done : done + words.size] = _look_up(words, table, source)
        done += words.size
    return noise


@lru_cache(maxsize=8)
def table_of(variance: int) -> Table:
    """Return the table of a variance, computed in integers: the same on every machine.

    Raises:
        SettingError: the variance is out of its range.
    """
    if not LEAST_VARIANCE <= variance <= UNITS_PER_MU2 + ROUNDING:
        raise SettingError(f"a share's variance is {LEAST_VARIANCE} to {UNITS_PER_MU2 + ROUNDING}, not {variance}")
    one = 1 << PRECISION
    step = exp_of_minus(2 * variance)  # exp(-1 / 2v): what z = 1 is less likely than z = 0
    falling, ratio, likelihood, likelihoods = (step * step) >> PRECISION, step, one, [one]
    while likelihood >> (PRECISION - TAIL):
        likelihood = (likelihood * ratio) >> PRECISION
        ratio = (ratio * falling) >> PRECISION  # exp(-(2k + 1) / 2v)
        likelihoods.append(likelihood)
    whole = one + 2 * sum(likelihoods[1:])
    inside, rows = -one, []
    for likelihood in likelihoods[:-1]:
        inside += 2 * likelihood
        rows.append((inside << 128) // whole)
    rows.append((1 << 128) - 1)
    word = (1 << 64) - 1
    return Table(np.array([row >> 64 for row in rows], np.uint64), np.array([row & word for row in rows], np.uint64))


def exp_of_minus(inverse: int) -> int:
    """Return exp(-1 / inverse) in ``PRECISION`` bits behind the point: Taylor's series, until a term is nothing."""
    term, total, number = 1 << PRECISION, 0, 0
    while term:
        total += term if number % 2 == 0 else -term
        number += 1
        term //= inverse * number
    return total


def _look_up(words: NDArray[np.uint64], table: Table, source: NoiseSource) -> NDArray[np.int64]:
    """Turn words into draws: a sign bit, the lowest, and the top 63 bits of a 128-bit U; the first k with U < T[k].

    Where these bits do not decide, another word's lowest bit and one more word are the rest of U.
    """
    one = np.uint64(1)
    sign = words & one
    top = words - sign
    last = table.high.size - 1
    found = np.minimum(np.searchsorted(table.high, top, side="left"), last)
    unsure = (found < last) & (table.high[found] <= top + one)  # a threshold is among what the unknown bits can make
    for each in np.flatnonzero(unsure):
        bit, rest = (int(word) for word in source.words(2))
        uniform = ((int(top[each]) | (bit & 1)) << 64) | rest
        k = int(found[each])
        while k < last and (int(table.high[k]) << 64 | int(table.low[k])) <= uniform:
            k += 1
        found[each] = k
    return np.where(sign.astype(bool), -found, found).astype(np.int64)
