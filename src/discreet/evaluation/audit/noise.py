"""Gate A: is what the door adds the noise that was proven?

The residual is what comes out of ``disclose`` less the exact sum, in integers. It is held against its law: mean,
variance, shape, low bits, zeros, tails, repetition within and between releases; and, in processes of their own, against
a constant key or one that crosses a fork.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import combinations

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binom, chi2, kstest, norm

from discreet.evaluation.audit.findings import Check, Finding
from discreet.evaluation.audit.processes import SIZE, in_processes, through_shares, through_the_door
from discreet.privacy.mechanisms.gaussian import STANDARD_DEVIATION

DRAWS = 100_000
RELEASES = 8
SHORT = 64
ALPHA = 1e-6
"""In all, for each of the three checks."""

AddNoise = Callable[[NDArray[np.int64]], NDArray[np.int64]]


def checks() -> list[Check]:
    """Return the checks of the door's noise: of one draw, of shares together, and in other processes."""
    return [
        Check("A", "residual", None, ALPHA, measure_residual),
        Check("A", "shares", None, ALPHA, measure_shares),
        Check("A", "processes", None, ALPHA, measure_processes),
    ]


def measure_residual(alpha: float, scale: int) -> Finding:
    """Hold the noise of the door against its law."""
    found = noise_tests(through_the_door, STANDARD_DEVIATION, releases=scale * RELEASES)
    return _finding(found, alpha, scale * RELEASES * DRAWS)


def measure_shares(alpha: float, scale: int) -> Finding:
    """Hold the noise of parties together against the law of one draw of their variance."""
    found = noise_tests(through_shares, STANDARD_DEVIATION * math.sqrt(4 / 3), releases=scale * RELEASES)
    return _finding(found, alpha, scale * RELEASES * DRAWS)


def measure_processes(alpha: float, scale: int) -> Finding:
    """Compare the noise of processes that were started anew, and of two that were forked from one."""
    noise = {"this process": through_the_door(np.zeros(SIZE, np.int64))}
    for number in range(1 + scale):
        noise |= {f"{name} of start {number}": drawn for name, drawn in in_processes().items()}
    pairs = list(combinations(noise, 2))
    found = {f"{one} and {other} differ": _correlated(noise[one], noise[other]) for one, other in pairs}
    return _finding(found, alpha, len(pairs) * SIZE)


def noise_tests(add_noise: AddNoise, deviation: float, *, releases: int = RELEASES) -> dict[str, float]:
    """Return the p-value of each property that rounded Gaussian noise has, by the property's name.

    The noise is what comes out less what went in, for random vectors, a quarter of them zeros, in several releases, and
    for many short vectors.

    Args:
        add_noise: from int64 [n] to int64 [n].
        deviation: in grid units, at least 64, so that rounding does not show.
        releases: of ``DRAWS`` coordinates each.
    """
    noise = np.concatenate([_noise(add_noise, _input(DRAWS)) for _ in range(releases)])
    short = np.stack([_noise(add_noise, np.full(SHORT, 12_345)) for _ in range(4 * SHORT)]) / deviation
    scaled = noise / deviation
    return {  # the variance first: where it is wrong, the mean is tested on a wrong scale
        "the variance is deviation^2": _variance(scaled.reshape(-1, 1)),
        "the mean is 0": _two_sided(scaled.mean() * math.sqrt(scaled.size)),
        "the shape is Gaussian": float(kstest((noise[:DRAWS] + _jitter()) / deviation, "norm").pvalue),
        "the low bits are uniform": _low_bits(noise),
        "each coordinate of a short vector has its variance": _variance(short),
        "no noise is missing": _count((noise == 0).sum(), noise.size, math.erf(0.5 / deviation / math.sqrt(2))),
        "the tails are there": min(1.0, 3 * min(_tail(noise, deviation, at) for at in (3.5, 4.0, 4.5))),
        "no noise is repeated": _repeated(scaled),
        "no noise is mirrored": _repeated(scaled, mirrored=True),
    }


def _finding(tests: dict[str, float], alpha: float, trials: int) -> Finding:
    """Reject if any of the p-values is below its share of alpha (Bonferroni)."""
    broken = [name for name, p in tests.items() if p <= alpha / len(tests)]
    least = min(tests.values())
    detail = f"not kept: {'; '.join(broken)}" if broken else f"{len(tests)} properties, least p {least:.1e}"
    return Finding(not broken, trials, alpha, detail, {"least_p": least})


def _noise(add_noise: AddNoise, values: NDArray[np.int64]) -> NDArray[np.int64]:
    return add_noise(values.copy()) - values


def _input(size: int) -> NDArray[np.int64]:
    values = np.random.default_rng().integers(-(1 << 40), 1 << 40, size)
    values[: size // 4] = 0
    return values


def _jitter() -> NDArray[np.float64]:
    """Uniform in a grid step: undoes the rounding, or ties would show in a test for a continuous shape."""
    return np.random.default_rng().uniform(-0.5, 0.5, DRAWS)


def _two_sided(z: float) -> float:
    return float(2 * norm.sf(abs(z)))


def _variance(scaled: NDArray[np.float64]) -> float:
    """Return the smallest p over the columns, corrected for their number."""
    draws, columns = scaled.shape
    statistic = (scaled**2).sum(axis=0)
    each = 2 * np.minimum(chi2.sf(statistic, draws), chi2.cdf(statistic, draws))
    return min(1.0, int(columns) * float(each.min()))


def _low_bits(noise: NDArray[np.int64]) -> float:
    counts = np.bincount(noise & 63, minlength=64)
    expected = noise.size / 64
    return float(chi2.sf(((counts - expected) ** 2 / expected).sum(), 63))


def _count(found: int, of: int, chance: float) -> float:
    return min(1.0, float(2 * min(binom.sf(found - 1, of, chance), binom.cdf(found, of, chance))))


def _tail(noise: NDArray[np.int64], deviation: float, at: float) -> float:
    edge = math.floor(at * deviation)
    chance = 2 * float(norm.sf((edge + 0.5) / deviation))
    return _count(int((np.abs(noise) > edge).sum()), noise.size, chance)


def _repeated(scaled: NDArray[np.float64], *, mirrored: bool = False) -> float:
    """Return p of the largest correlation of the noise with itself, moved by any distance, or read backwards.

    By Fourier transform; a sum of n independent products is normal with variance n (2 n where each comes twice).
    """
    size = scaled.size
    spectrum = np.fft.rfft(scaled, 2 * size)
    if mirrored:
        sums = np.fft.irfft(spectrum**2)[SHORT : 2 * size - SHORT - 1]
        places = np.arange(SHORT, 2 * size - SHORT - 1)
        variances = 2.0 * np.minimum(places + 1, 2 * size - 1 - places)
    else:
        sums = np.fft.irfft(np.abs(spectrum) ** 2)[1 : size - SHORT]
        variances = np.arange(size - 1, SHORT, -1).astype(np.float64)
    largest = float(np.abs(sums / np.sqrt(variances)).max())
    return min(1.0, _two_sided(largest) * sums.size)


def _correlated(one: NDArray[np.int64], other: NDArray[np.int64]) -> float:
    """Return p of the correlation of two vectors, under noise of the claimed deviation."""
    product = (one / STANDARD_DEVIATION) @ (other / STANDARD_DEVIATION)
    return _two_sided(float(product) / math.sqrt(one.size))
