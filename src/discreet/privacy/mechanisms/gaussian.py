"""The rounded Gaussian: integers in, integers out, mu-GDP with no slack.

Mechanism
---------
For a sum ``x`` of integer vectors, publish ``x + z`` with ``z_j = round(s N_j)``, ``s = 2^12``, ``N_j`` independent
standard normals. Since x is an integer, ``x + round(s N) = round(x + s N)``: rounding is post-processing of the real
Gaussian mechanism.

Formal guarantee
----------------
If adding or removing one person changes x by a vector q with ``sum(q * q) <= S^2`` (integers), the result is mu-GDP
with ``mu = S / s`` for that person, up to a total-variation distance of 2^-113 a coordinate between the sampler and
the ideal. Proof, and what it costs in delta: ``gaussian.md`` beside this file; a test fails when a function here has
changed and the proof was not looked at again.

=======================  ==========================================================================
edge case                behaviour
=======================  ==========================================================================
x is not int64           TypeError: a float would void the proof
x is not a vector        TypeError: broadcasting would use one draw for several coordinates
x + z leaves int64       cannot happen: |x| < 2^62 is checked by the door, |z| < 2^16
empty x                  empty result
test seed                same distribution, not secret; ``Disclosed.secure`` is False
=======================  ==========================================================================
"""

from __future__ import annotations

import hashlib
from functools import cache
from importlib.resources import files
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from discreet.compiled import compiled
from discreet.errors import ArtefactError
from discreet.privacy.accounting import GRID_BITS
from discreet.randomness import NoiseSource

TABLE_SHA256 = "04c238e21433e11027b4dc3e18188f112d30580cc908006eb764b450d16718b2"
"""Of the words of the table, little-endian. Rebuilt and compared by a test (``scripts/build_noise_table.py``)."""

GUIDE_BITS = 18
STANDARD_DEVIATION = float(1 << GRID_BITS)
"""s, in grid units."""


class Table(NamedTuple):
    """Cumulative distribution of |z|, in 128 bits, and where to begin to look."""

    high: NDArray[np.uint64]
    low: NDArray[np.uint64]
    guide: NDArray[np.int64]


def add_noise(total: NDArray[np.int64], source: NoiseSource) -> NDArray[np.int64]:
    """Return ``total + z``. The guarantee is the module's.

    Args:
        total: int64 [dims], |total| < 2^62, in grid units.
        source: a fresh one for each attempt at a release.

    Raises:
        TypeError: if ``total`` is not int64.
    """
    if total.dtype != np.int64 or total.ndim != 1:
        raise TypeError(f"noise is added to int64 vectors alone, got {total.dtype} with {total.ndim} dimensions")
    return total + draw(total.size, source)


def draw(count: int, source: NoiseSource) -> NDArray[np.int64]:
    """Return ``count`` independent draws of ``round(2^12 N(0, 1))``, int64 [count]."""
    table = load_table()
    noise = np.empty(count, np.int64)
    done = 0
    for words in source.blocks(count):
        start = 0
        while start < words.size:  # a second turn only where the spare words ran out: about never
            spare = source.words(64)
            start = _look_up(words, start, spare, table.high, table.low, table.guide, noise[done:])
        done += words.size
    return noise


@cache
def load_table() -> Table:
    """Return the shipped table.

    Raises:
        ArtefactError: if it is not the pinned one.
    """
    with files(__package__).joinpath(f"rounded_gaussian_p{GRID_BITS}.npy").open("rb") as file:
        words = np.load(file, allow_pickle=False)
    if hashlib.sha256(words.astype("<u8").tobytes()).hexdigest() != TABLE_SHA256:
        raise ArtefactError("the noise table is not the one that was proven; reinstall discreet")
    high, low = np.ascontiguousarray(words[0], np.uint64), np.ascontiguousarray(words[1], np.uint64)
    buckets = np.arange(1 << GUIDE_BITS, dtype=np.uint64) << np.uint64(64 - GUIDE_BITS)
    return Table(high, low, np.searchsorted(high, buckets, side="left").astype(np.int64))


@compiled
def _look_up(
    words: NDArray[np.uint64],
    start: int,
    spare: NDArray[np.uint64],
    high: NDArray[np.uint64],
    low: NDArray[np.uint64],
    guide: NDArray[np.int64],
    noise: NDArray[np.int64],
) -> int:
    """Turn ``words[start:]`` into draws; return how far it came before it needed more spare words.

    A draw is a sign bit (the lowest of its word) and a 128-bit uniform magnitude U: |z| is the first k with U < T[k].
    The word gives the top 63 bits of U. Where they do not decide, one bit and one word of ``spare`` give the other 65.
    """
    one = np.uint64(1)
    shift = np.uint64(64 - GUIDE_BITS)
    last = high.size - 1
    used = 0
    for i in range(start, words.size):
        sign = words[i] & one
        top = words[i] - sign
        k = guide[top >> shift]
        while k < last and high[k] < top:
            k += 1
        if k < last and high[k] <= top + one:  # T[k] may lie among the values that the unknown bits can take
            if used + 2 > spare.size:
                return i
            top |= spare[used] & one
            rest = spare[used + 1]
            used += 2
            while k < last and (high[k] < top or (high[k] == top and low[k] <= rest)):
                k += 1
        noise[i] = -k if sign else k
    return words.size
