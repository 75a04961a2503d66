"""Contract suites: what every model and every mechanism has to keep, for ours and for anybody's.

    from discreet.testing import check_mechanism, check_model

    def test_my_model():
        check_model(MyModel(items=40), histories)

A suite raises ``ContractBroken`` (an ``AssertionError``) that says which promise was broken. Deterministic checks have
no false alarms. Statistical checks state their false-alarm rate, reject too little noise and too much, and draw from
the real generator, never from a seeded one.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import asdict

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array, vstack
from scipy.stats import binom, chi2, kstest, norm

from discreet.data.interactions import Rows
from discreet.models.base import Explainable, Model, State, round_number, rows
from discreet.privacy.clipping import MAX_BOUND, Summed
from discreet.privacy.disclosure import disclose
from discreet.privacy.plan import Plan

BOUNDS = (1, 37, 1_000, 1 << 20, MAX_BOUND)
MANY = 4_500
"""People in a large block: more than the block that training uses."""

FALSE_ALARMS = 1e-6
DRAWS = 100_000
RELEASES = 8
SHORT = 64

Add = Callable[[NDArray[np.int64]], NDArray[np.int64]]


class ContractBroken(AssertionError):
    """A model or mechanism does not keep a promise; the message says which."""


def check_model(model: Model, histories: Rows, *, tags: Rows | None = None, bounds: tuple[int, ...] = BOUNDS) -> None:
    """Check that ``model`` keeps what the proofs of the door assume. No false alarms.

    In every round, for every bound: rows are int64 and keep the bound exactly; the lengths that are reported are the
    lengths of the rows; a block is the sum of its rows however it is cut, and however large it is; leaving a person out
    changes the sum by that person's row alone; the same input gives the same output. ``summed`` leaves no trace in the
    state or in the model: another one with the same settings, which never saw a history, learns the same from the same
    release. Settings are plain values. Scores are finite float32 [people, items], and do not depend on who else is in
    the block. What an ``Explainable`` says that a history's items add to a score adds up to it.

    Args:
        model: with settings for this catalogue.
        histories: [people, items], ones, sorted indices; include an empty history, a full one, and a single item.
        tags: of the items, ones [items, tags].
        bounds: S, in grid units.

    Raises:
        ContractBroken: names the promise.
    """
    _require(json.dumps(asdict(model)) != "", "settings are plain values")
    plan = Plan(bounds=(1 << 14,) * model.rounds, delta=1e-6)
    blind = type(model)(**asdict(model))
    state = model.start(tags)
    _require(_equal(state, blind.start(tags)), "start knows nothing but the tags")
    for number in range(model.rounds):
        _require(round_number(state) == number, f"after {number} rounds the state says so")
        before = _copied(state)
        for bound in bounds:
            _check_sum(model, histories, state, bound)
        _check_many(model, histories, state)
        block = model.summed(histories, state, plan.bounds[number])
        _require(_equal(state, before), "summed leaves no trace in the state")
        released = disclose([block], plan, number, spend=_free)
        state = model.step(state, released)
        _require(_equal(state, blind.step(before, released)), "step knows nothing but what was released")
    _check_scores(model, histories, state)
    _check_adds(model, histories, state)
    _require(
        np.array_equal(model.scores(histories, state), blind.scores(histories, state)), "scores know the state alone"
    )


def check_mechanism(add_noise: Add, deviation: float, *, false_alarms: float = FALSE_ALARMS) -> None:
    """Check that ``add_noise`` adds independent, rounded Gaussian noise of ``deviation``, fresh each time.

    The noise is what comes out less what went in, for random vectors, a quarter of them zeros, in several releases, and
    for many short vectors. Tested, by Bonferroni: mean, variance, shape, the lowest six bits, how often the noise is
    exactly zero, the tails, repetition at any distance within and between releases, mirrored repetition, and each
    coordinate of a short vector. A deviation off by 5 % either way is found with near certainty.

    Not seen from within one process: a constant seed. Run it in two processes and compare.

    Args:
        add_noise: from int64 [n] to int64 [n].
        deviation: in grid units, at least 64, so that rounding does not show.
        false_alarms: chance that a correct mechanism is refused.

    Raises:
        ContractBroken: names the property.
    """
    noise = np.concatenate([_noise(add_noise, _input(DRAWS)) for _ in range(RELEASES)])
    short = np.stack([_noise(add_noise, np.full(SHORT, 12_345)) for _ in range(4 * SHORT)]) / deviation
    scaled = noise / deviation
    tests = {  # the variance first: where it is wrong, the mean is tested on a wrong scale
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
    for what, p in tests.items():
        _require(p > false_alarms / len(tests), f"{what} (p = {p:.1e})")


def _check_sum(model: Model, histories: Rows, state: State, bound: int) -> None:
    where = f"round {round_number(state)}, bound {bound}: "
    whole = model.summed(histories, state, bound)
    each = rows(model, histories, state, bound).toarray()
    _require(whole.total.dtype == np.int64 and whole.squared_norms.dtype == np.int64, where + "sums are int64")
    lengths = [sum(int(q) ** 2 for q in row[row != 0]) for row in each]
    _require(max(lengths, default=0) <= bound**2, where + "no row is longer than the bound")
    _require(whole.squared_norms.tolist() == lengths, where + "reported lengths are the rows' lengths")
    _require(np.array_equal(whole.total, each.sum(axis=0)), where + "a block is the sum of its rows")
    _require(_same(whole, model.summed(histories, state, bound)), where + "the same input gives the same sum")
    half = len(each) // 2
    parts = model.summed(histories[:half], state, bound).total + model.summed(histories[half:], state, bound).total
    _require(np.array_equal(whole.total, parts), where + "cutting a block changes nothing")
    others = np.delete(np.arange(len(each)), half)
    without = model.summed(histories[others], state, bound).total
    _require(np.array_equal(whole.total - without, each[half]), where + "a person changes the sum by their row alone")


def _check_scores(model: Model, histories: Rows, state: State) -> None:
    scores = model.scores(histories, state)
    _require(scores.dtype == np.float32 and scores.shape == histories.shape, "scores are float32 [people, items]")
    _require(bool(np.isfinite(scores).all()), "scores are finite")
    alone = np.vstack([model.scores(histories[[person]], state) for person in range(histories.shape[0])])
    _require(bool(np.allclose(scores, alone, rtol=1e-3, atol=1e-4)), "a person's scores depend on nobody else")


def _check_adds(model: Model, histories: Rows, state: State) -> None:
    if not isinstance(model, Explainable):
        return
    scores, everything = model.scores(histories, state), np.arange(model.items)
    for person in range(histories.shape[0]):
        adds = model.adds(state, histories[[person]].indices.astype(np.int64), everything)
        personal = adds.any(axis=0)
        same = np.allclose(adds.sum(axis=0)[personal], scores[person, personal], rtol=1e-3, atol=1e-4)
        _require(bool(same), "what the items of a history add is the score")


def _check_many(model: Model, histories: Rows, state: State) -> None:
    copies = -(-MANY // histories.shape[0])
    crowd = csr_array(vstack([histories] * copies, format="csr", dtype=np.int8))
    many = model.summed(crowd, state, 1_000).total
    _require(np.array_equal(many, copies * model.summed(histories, state, 1_000).total), "a large block is no other")


def _same(one: Summed, other: Summed) -> bool:
    return np.array_equal(one.total, other.total) and np.array_equal(one.squared_norms, other.squared_norms)


def _copied(state: State) -> State:
    return {name: np.array(array) for name, array in state.items()}


def _equal(one: State, other: State) -> bool:
    return one.keys() == other.keys() and all(np.array_equal(one[name], other[name]) for name in one)


def _free(units: int) -> None:
    """Book nothing: contract suites publish nothing."""


def _input(size: int) -> NDArray[np.int64]:
    values = np.random.default_rng().integers(-(1 << 40), 1 << 40, size)
    values[: size // 4] = 0
    return values


def _noise(add_noise: Add, values: NDArray[np.int64]) -> NDArray[np.int64]:
    noisy = add_noise(values.copy())
    _require(noisy.dtype == np.int64 and noisy.shape == values.shape, "integers in, integers of the same shape out")
    return noisy - values


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


def _require(kept: bool, promise: str) -> None:
    if not kept:
        raise ContractBroken(f"not kept: {promise}")
