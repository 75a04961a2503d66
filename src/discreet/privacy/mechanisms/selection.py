"""Selection: which few of many counts are the largest, not the counts.

Mechanism
---------
Of integer scores x_1 ... x_n pick one, i with probability proportional to ``exp(r x_i)``, r = rate 2^-16; take it out;
go on until ``picks`` are picked. That is the exponential mechanism, peeled, which adds no noise to a number: it is also
what comes out if Gumbel noise of scale 1/r is added to each score and the largest are taken, in order (*one-shot
Gumbel*, Durfee and Rogers 2019). Weights are integers of 384 bits behind the point: no float decides.

Formal guarantee
----------------
If adding or removing one person moves each score by 0 or 1, all in the same direction, the whole list is mu-GDP with
``mu^2 = picks r^2 pi / 8`` for that person, up to a total variation of n 2^-180 a pick: however many scores they move.
So it costs ``price_of(rate, picks)`` units, for a long history as for a short one, where noise on every count costs as
many times more as the history is long. Proof, and why permute-and-flip would not be cheaper: ``selection.md``.

===========================  =======================================================================
edge case                    behaviour
===========================  =======================================================================
scores not int64, no vector  TypeError
fewer scores than picks      SettingError
ties                         each of them is as likely
all scores equal             a random list
rate or picks out of range   SettingError
===========================  =======================================================================
"""

from __future__ import annotations

from bisect import bisect_right
from functools import lru_cache
from itertools import accumulate
from math import isqrt

import numpy as np
from numpy.typing import NDArray

from discreet.errors import SettingError
from discreet.privacy.mechanisms.discrete_gaussian import PRECISION, exp_of_minus
from discreet.randomness import NoiseSource

RATE_BITS = 16
MOST_RATE = 1 << 20
"""r = 16: a lead of one is as good as certain. More would say nothing else."""
MOST_PICKS = 1 << 16
ABOVE_PI = 355, 113
"""355 / 113, which is above pi by less than 3e-7."""
NOTHING = 1 << (RATE_BITS + 7)
"""Where r times a lag behind the best is 128, a weight is below 2^-184, and counts as none."""
WORDS = 8
"""Of randomness, for each pick."""


def price_of(rate: int, picks: int) -> int:
    """Return the units of mu^2 that a list costs: ``picks r^2 pi / 8`` in units of 2^-24, rounded up.

    Raises:
        SettingError: ``rate`` is not 1 to 2^20, or ``picks`` not 1 to 2^16.
    """
    if not 1 <= rate <= MOST_RATE or not 1 <= picks <= MOST_PICKS:
        raise SettingError(f"a selection has a rate of 1 to {MOST_RATE:,} and 1 to {MOST_PICKS:,} picks")
    above, below = ABOVE_PI
    return -(-picks * rate * rate * above // (below << 11))


def rate_of(units: int, picks: int) -> int:
    """Return the largest rate of a list that costs no more than ``units``.

    Raises:
        SettingError: so few units pay for no rate; or ``picks`` is out of its range.
    """
    above, below = ABOVE_PI
    rate = min(MOST_RATE, isqrt(max(units, 0) * (below << 11) // (above * max(picks, 1))))
    if rate < 1:
        raise SettingError(f"the budget is too small for a list of {picks:,}; ask for more, or for a shorter list")
    price_of(rate, picks)
    return rate


def pick(scores: NDArray[np.int64], rate: int, picks: int, source: NoiseSource) -> NDArray[np.int64]:
    """Return the positions that were picked, in order, int64 [picks]. The guarantee is the module's.

    Args:
        scores: int64 [n], from -2^62 to 2^62.
        rate: r 2^16.
        picks: at most n.
        source: a fresh one for each attempt at a release.

    Raises:
        TypeError: the scores are not an int64 vector.
        SettingError: see the table of edge cases.
    """
    if scores.dtype != np.int64 or scores.ndim != 1:
        raise TypeError(f"one picks among int64 vectors alone, got {scores.dtype} with {scores.ndim} dimensions")
    price_of(rate, picks)
    if picks > scores.size:
        raise SettingError(f"{picks:,} cannot be picked of {scores.size:,}; ask for a shorter list")
    order = np.argsort(-scores, kind="stable")
    values, starts = np.unique(-scores[order], return_index=True)
    levels = {-int(value): part.tolist() for value, part in zip(values, np.split(order, starts[1:]), strict=True)}
    return np.array([_picked(levels, rate, source) for _ in range(picks)], np.int64)


def _picked(levels: dict[int, list[int]], rate: int, source: NoiseSource) -> int:
    """Pick one, and take it out. Levels are positions by their score, highest first."""
    best, scores, weights = next(iter(levels)), [], []
    for score in levels:
        weight = _weight((best - score) * rate)
        if not weight:
            break
        scores.append(score)
        weights.append(weight)
    ends = list(accumulate(weight * len(levels[score]) for score, weight in zip(scores, weights, strict=True)))
    uniform = int.from_bytes(source.words(WORDS).astype("<u8").tobytes(), "little")
    place = uniform * ends[-1] >> (64 * WORDS)
    at = bisect_right(ends, place)
    level = levels[scores[at]]
    found = level.pop((place - (ends[at - 1] if at else 0)) // weights[at])
    if not level:
        del levels[scores[at]]
    return found


@lru_cache(maxsize=1 << 12)
def _weight(lag: int) -> int:
    """Return exp(-lag 2^-16) in ``PRECISION`` bits behind the point, a little too small; 0 from 2^-184 on."""
    if lag >= NOTHING:
        return 0
    weight, power = 1 << PRECISION, exp_of_minus(1 << RATE_BITS)
    while lag:
        if lag & 1:
            weight = weight * power >> PRECISION
        power = power * power >> PRECISION
        lag >>= 1
    return weight
