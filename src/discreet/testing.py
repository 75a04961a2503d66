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
from scipy.stats import chi2, kstest, norm

from discreet.data.interactions import Rows
from discreet.models.base import Model, State, round_number, rows
from discreet.privacy.clipping import Summed
from discreet.privacy.disclosure import disclose
from discreet.privacy.plan import Plan

BOUNDS = (1, 37, 1_000, 1 << 20)
FALSE_ALARMS = 1e-6
DRAWS = 200_000


class ContractBroken(AssertionError):
    """A model or mechanism does not keep a promise; the message says which."""


def check_model(model: Model, histories: Rows, *, bounds: tuple[int, ...] = BOUNDS) -> None:
    """Check that ``model`` keeps what the proofs of the door assume. No false alarms.

    In every round, for every bound: rows are int64 and keep the bound exactly; the lengths that are reported are the
    lengths of the rows; a block is the sum of its rows however it is cut; leaving a person out changes the sum by that
    person's row alone; the same input gives the same output. Settings are plain values. Scores are finite float32
    [people, items], and a person's scores do not depend on who else is in the block.

    Args:
        model: with settings for this catalogue.
        histories: [people, items], ones, sorted indices; include an empty history, a full one, and a single item.
        bounds: S, in grid units.

    Raises:
        ContractBroken: names the promise.
    """
    _require(json.dumps(asdict(model)) != "", "settings are plain values")
    plan = Plan(bounds=(1 << 14,) * model.rounds, delta=1e-6)
    state = model.start()
    for number in range(model.rounds):
        _require(round_number(state) == number, f"after {number} rounds the state says so")
        for bound in bounds:
            _check_sum(model, histories, state, bound)
        block = model.summed(histories, state, plan.bounds[number])
        state = model.step(state, disclose([block], plan, number, spend=_free))
    _check_scores(model, histories, state)


def check_mechanism(
    add_noise: Callable[[NDArray[np.int64]], NDArray[np.int64]], deviation: float, *, false_alarms: float = FALSE_ALARMS
) -> None:
    """Check that ``add_noise`` adds independent, rounded Gaussian noise of ``deviation``, fresh each time.

    Mean, variance, shape (Kolmogorov and Smirnov), the lowest six bits, correlation along the vector and between two
    releases, by Bonferroni; a deviation off by 5 % either way is found with near certainty.

    Args:
        add_noise: from int64 [n] to int64 [n].
        deviation: in grid units, at least 64, so that rounding does not show.
        false_alarms: chance that a correct mechanism is refused.

    Raises:
        ContractBroken: names the property.
    """
    zero = np.zeros(DRAWS, np.int64)
    first, second = add_noise(zero), add_noise(zero)
    _require(first.dtype == np.int64 and first.shape == zero.shape, "integers in, integers of the same shape out")
    shifted = zero + 5_000
    _require(bool(np.abs(add_noise(shifted).mean() - 5_000) < 12 * deviation / math.sqrt(DRAWS)), "noise is added")
    tests = {
        "the mean is 0": _two_sided(first.mean() / deviation * math.sqrt(DRAWS)),
        "the variance is deviation^2": _variance(first / deviation),
        "the shape is Gaussian": float(kstest((first + _jitter()) / deviation, "norm").pvalue),
        "the low bits are uniform": _low_bits(first),
        "neighbours are independent": _two_sided(_correlation(first[1:], first[:-1])),
        "releases are independent": _two_sided(_correlation(first, second)),
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


def _same(one: Summed, other: Summed) -> bool:
    return np.array_equal(one.total, other.total) and np.array_equal(one.squared_norms, other.squared_norms)


def _free(units: int) -> None:
    """Book nothing: contract suites publish nothing."""


def _jitter() -> NDArray[np.float64]:
    """Uniform in a grid step: undoes the rounding, or ties would show in a test for a continuous shape."""
    return np.random.default_rng().uniform(-0.5, 0.5, DRAWS)


def _two_sided(z: float) -> float:
    return float(2 * norm.sf(abs(z)))


def _variance(standardised: NDArray[np.float64]) -> float:
    statistic = float((standardised**2).sum())
    return float(2 * min(chi2.sf(statistic, DRAWS), chi2.cdf(statistic, DRAWS)))


def _low_bits(noise: NDArray[np.int64]) -> float:
    counts = np.bincount(noise & 63, minlength=64)
    expected = DRAWS / 64
    return float(chi2.sf(((counts - expected) ** 2 / expected).sum(), 63))


def _correlation(one: NDArray[np.int64], other: NDArray[np.int64]) -> float:
    return float(np.corrcoef(one, other)[0, 1]) * math.sqrt(len(one))


def _require(kept: bool, promise: str) -> None:
    if not kept:
        raise ContractBroken(f"not kept: {promise}")
