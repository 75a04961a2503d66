"""Contract suites: what every model, mechanism and way to recommend has to keep, for ours and for anybody's.

    from discreet.testing import check_mechanism, check_model

    def test_my_model():
        check_model(MyModel(items=40), histories)

A suite raises ``ContractBroken`` (an ``AssertionError``) that says which promise was broken. Deterministic checks have
no false alarms. Statistical checks state their false-alarm rate, reject too little noise and too much, and draw from
the real generator, never from a seeded one.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array, vstack

from discreet.data.interactions import Rows
from discreet.evaluation.audit.noise import AddNoise, noise_tests
from discreet.inference.base import History, Recommender
from discreet.models.base import Explainable, Model, State, round_number, rows
from discreet.models.slate import Slate
from discreet.privacy.clipping import MAX_BOUND, Summed
from discreet.privacy.disclosure import disclose
from discreet.privacy.plan import Plan

BOUNDS = (1, 37, 1_000, 1 << 20, MAX_BOUND)
MANY = 4_500
"""People in a large block: more than the block that training uses."""

FALSE_ALARMS = 1e-6

AGREEMENT = 0.99
"""Mean share of a list that has to be on the plain one: matrices may travel rounded."""


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


def check_mechanism(add_noise: AddNoise, deviation: float, *, false_alarms: float = FALSE_ALARMS) -> None:
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
    tests = noise_tests(_integers(add_noise), deviation)
    for what, p in tests.items():
        _require(p > false_alarms / len(tests), f"{what} (p = {p:.1e})")


def check_recommender(
    recommender: Recommender[Any, Any, Any],
    plain: Recommender[Any, Any, Any],
    histories: Sequence[History],
    *,
    agreement: float = AGREEMENT,
) -> None:
    """Check that ``recommender`` lists what ``plain`` lists, whatever its servers are told. No false alarms.

    Lists are as long, with the same titles, without repetitions or what is known already; scores do not rise; unknown
    items are counted. On average so large a share of a list is on the plain one. Questions may be answered in another
    order than they were asked, and asking again gives the same list.

    Args:
        recommender: of the same model and length of list as ``plain``.
        plain: what is compared with.
        histories: include an empty one, one of unknown items alone, one in another order, and one of everything.
        agreement: from 0 to 1.

    Raises:
        ContractBroken: names the promise.
    """
    asked = [recommender.ask(history) for history in histories]
    made = [recommender.read(recommender.answer(request), kept) for request, kept in reversed(asked)][::-1]
    shares = []
    for history, slate in zip(histories, made, strict=True):
        wanted = _listed(plain, history)
        _check_slate(slate, wanted, history)
        shares.append(len({*slate} & {*wanted}) / len(wanted) if len(wanted) else 1.0)
        _require(_listed(recommender, history).items == slate.items, "asking again gives the same list")
    _require(float(np.mean(shares)) >= agreement, f"{agreement:.0%} of a list are on the plain one")


def _listed(recommender: Recommender[Any, Any, Any], history: History) -> Slate:
    request, kept = recommender.ask(history)
    return recommender.read(recommender.answer(request), kept)


def _check_slate(slate: Slate, wanted: Slate, history: History) -> None:
    titles = dict(zip(wanted.items, wanted.titles, strict=True))
    known = {str(item) for item in history}
    _require(len(slate) == len(wanted), "a list is as long as the plain one")
    _require(len(set(slate)) == len(slate), "an item is listed once")
    _require(not {str(item) for item in slate} & known, "what is known is not listed")
    _require(slate.unknown == wanted.unknown, "unknown items are counted")
    _require(list(slate.scores) == sorted(slate.scores, reverse=True), "scores do not rise")
    named = all(titles.get(item, title) == title for item, title in zip(slate.items, slate.titles, strict=True))
    _require(named, "titles are the catalogue's")


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


def _integers(add_noise: AddNoise) -> AddNoise:
    """Return the same, held to integers of the same shape."""

    def checked(values: NDArray[np.int64]) -> NDArray[np.int64]:
        noisy = add_noise(values)
        _require(noisy.dtype == np.int64 and noisy.shape == values.shape, "integers in, integers of the same shape out")
        return noisy

    return checked


def _require(kept: bool, promise: str) -> None:
    if not kept:
        raise ContractBroken(f"not kept: {promise}")
