"""Picking the largest: its price, its distribution, and the bound that its proof rests on."""

from __future__ import annotations

import math
from itertools import permutations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.sparse import csr_array
from scipy.stats import chisquare, norm

from discreet.errors import BoundExceeded, SettingError
from discreet.privacy.accounting import UNITS_PER_MU2, cap, mu_of
from discreet.privacy.adjacency import Adjacency
from discreet.privacy.clipping import Summed, add_choices
from discreet.privacy.disclosure import disclose
from discreet.privacy.guarantee import Guarantee
from discreet.privacy.mechanisms.discrete_gaussian import PRECISION
from discreet.privacy.mechanisms.selection import MOST_PICKS, MOST_RATE, NOTHING, _weight, pick, price_of, rate_of
from discreet.privacy.plan import Plan
from discreet.randomness import NoiseSource

FALSE_ALARMS = 1e-6
PERSON = Adjacency.ADD_OR_REMOVE_PERSON


def likelihoods(scores: list[int], rate: int, picks: int) -> dict[tuple[int, ...], float]:
    """Return how likely each list is, by the definition, in floats."""
    weights = np.exp(rate / 2**16 * (np.array(scores, float) - max(scores)))
    found = {}
    for order in permutations(range(len(scores)), picks):
        left, chance = weights.sum(), 1.0
        for at in order:
            chance, left = chance * weights[at] / left, left - weights[at]
        found[order] = chance
    return found


@pytest.mark.parametrize(("scores", "rate"), [([3, 1, 1, 0], 1 << 16), ([9, 4, 0, -7], 1 << 14), ([0, 0, 0, 0], 1)])
@pytest.mark.parametrize("picks", [1, 2])
def test_lists_are_as_likely_as_the_definition_says(scores: list[int], rate: int, picks: int) -> None:
    """False alarms: 1e-6 a case. A rate off by a tenth either way is found: see the test below."""
    assert chance_of(scores, rate, picks, rate) > FALSE_ALARMS


@pytest.mark.parametrize("off", [0.9, 1.1])
def test_a_wrong_rate_would_be_found(off: float) -> None:
    assert chance_of([3, 1, 1, 0], 1 << 16, 2, int((1 << 16) * off)) < FALSE_ALARMS


def chance_of(scores: list[int], rate: int, picks: int, drawn: int) -> float:
    """Return the p-value of lists drawn at one rate, if they were of another."""
    expected = likelihoods(scores, rate, picks)
    source, runs = NoiseSource(), 30_000
    found = dict.fromkeys(expected, 0)
    for _ in range(runs):
        found[tuple(pick(np.array(scores), drawn, picks, source).tolist())] += 1
    return float(chisquare(list(found.values()), runs * np.array(list(expected.values()))).pvalue)


@given(st.lists(st.integers(-50, 50), min_size=1, max_size=60), st.integers(1, MOST_RATE), st.data())
def test_a_list_is_of_different_places(scores: list[int], rate: int, data: st.DataObject) -> None:
    picks = data.draw(st.integers(1, len(scores)))
    found = pick(np.array(scores, np.int64), rate, picks, NoiseSource()).tolist()
    assert len({*found}) == picks
    assert {*found} <= {*range(len(scores))}


def test_a_lead_that_is_long_enough_is_certain() -> None:
    scores = np.array([0, 2**61, -(2**61), 2**40], np.int64)
    assert pick(scores, 1 << 16, 4, NoiseSource()).tolist() == [1, 3, 0, 2]


@given(st.integers(0, NOTHING + 5))
def test_weights_are_the_exponential(lag: int) -> None:
    weight = _weight(lag)
    if lag >= NOTHING:
        assert weight == 0
    else:
        assert math.isclose(weight / 2**PRECISION, math.exp(-lag / 2**16), rel_tol=1e-12)


@given(st.integers(1, 2**40), st.integers(1, 1_000))
def test_the_rate_is_the_largest_that_a_budget_allows(units: int, picks: int) -> None:
    try:
        rate = rate_of(units, picks)
    except SettingError:
        assert price_of(1, picks) > units
        return
    assert price_of(rate, picks) <= units
    assert rate == MOST_RATE or price_of(rate + 1, picks) > units


@given(st.integers(1, MOST_RATE), st.integers(1, 1_000))
def test_the_price_is_no_less_than_the_proof_says(rate: int, picks: int) -> None:
    exact = picks * (rate / 2**16) ** 2 * math.pi / 8 * UNITS_PER_MU2
    assert exact <= price_of(rate, picks) + 1e-6 * exact
    assert price_of(rate, picks) < exact * (1 + 1e-6) + 1


@given(
    st.lists(st.integers(0, 6), min_size=2, max_size=5),
    st.integers(1 << 12, 1 << 18),
    st.sets(st.integers(0, 4)),
    st.booleans(),
)
def test_no_test_tells_neighbours_apart_better_than_the_price_says(
    scores: list[int], rate: int, moved: set[int], adds: bool
) -> None:
    """The likelihood ratio test, which is the best there is, at each of its thresholds, for lists of two."""
    other = [score + (1 if adds else -1) * (at in moved) for at, score in enumerate(scores)]
    one, two = likelihoods(scores, rate, 2), likelihoods(other, rate, 2)
    mu = mu_of(price_of(rate, 2))
    order = sorted(one, key=lambda found: one[found] / two[found])
    p = np.cumsum([two[found] for found in order])[:-1]
    q = np.cumsum([one[found] for found in order])[:-1]
    assert (norm.ppf(p.clip(1e-15, 1 - 1e-15)) - norm.ppf(q.clip(1e-15, 1 - 1e-15)) <= mu + 1e-6).all()


def test_the_bound_is_nearly_reached() -> None:
    """Two items, one ahead by a half on average: a price of much less would be a lie."""
    for rate in (1 << 12, 1 << 16):
        one, two = (likelihoods(scores, rate, 1) for scores in ([0, 0], [1, 0]))
        reached = norm.ppf(two[(0,)]) - norm.ppf(one[(0,)])
        assert 0.9 < reached / mu_of(price_of(rate, 1)) <= 1


def test_refusals() -> None:
    source = NoiseSource()
    for rate, picks in ((0, 1), (MOST_RATE + 1, 1), (1, 0), (1, MOST_PICKS + 1)):
        with pytest.raises(SettingError, match="a selection has"):
            price_of(rate, picks)
    with pytest.raises(SettingError, match="cannot be picked"):
        pick(np.array([1, 2]), 1, 3, source)
    for scores in (np.array([1.0, 2.0]), np.array([[1, 2]])):
        with pytest.raises(TypeError, match="int64 vectors"):
            pick(scores, 1, 1, source)
    with pytest.raises(SettingError, match="too small for a list"):
        rate_of(0, 10)


# Through the door


def plan(units: int = 10**6, picks: int = 2, groups: int = 1) -> Plan:
    return Plan.selecting(units, picks, groups, delta=1e-6, adjacency=PERSON)


def rows(*people: list[int]) -> csr_array:
    return csr_array(np.array(people, np.int64))


def free(units: int) -> None:
    assert units > 0


def test_is_billed_once_for_all_groups_and_says_what_each_used() -> None:
    made, spent, used = plan(cap(1.0, 1e-6), 3, 4), list[int](), list[int]()
    dense = np.zeros((6, 4 * 10), np.int64)
    dense[0, 10:15], dense[1, 39], dense[2, :2] = 1, 1, 1
    found = disclose(
        [csr_array(dense[:3]), csr_array(dense[3:])],
        made,
        0,
        spend=spent.append,
        used=lambda x: used.extend(x.tolist()),
    )
    assert found.total.shape == (12,)
    assert ((found.total >= 0) & (found.total < 10)).all()
    assert found.secure
    assert found.values.tolist() == found.total.tolist()
    assert spent == [made.cost] == [price_of(made.bounds[0], 3)]
    assert used == [made.cost] * 3 + [0] * 3
    assert made.cost <= cap(1.0, 1e-6)


def test_a_row_that_moves_more_than_it_may_is_refused() -> None:
    for bad in (rows([2, 0, 0, 0]), rows([-1, 0, 0, 0]), rows([1, 0, 0, 1])):
        with pytest.raises(BoundExceeded, match="more than one, or counts of two groups"):
            disclose([bad], plan(groups=2), 0, spend=free)
    with pytest.raises(TypeError, match="made of rows"):
        disclose([Summed(np.ones(4, np.int64), np.ones(2, np.int64))], plan(), 0, spend=free)
    with pytest.raises(TypeError, match="of 3 groups"):
        add_choices(rows([1, 0, 0, 1]), 3)
    with pytest.raises(TypeError, match="int64 rows"):
        add_choices(csr_array(np.ones((2, 2))), 1)


def test_plans_of_selections_are_stored_and_refused() -> None:
    made = plan(groups=3)
    assert Plan.from_dict(made.to_dict()) == made
    assert made.private
    assert made.deviation == 0
    double = Plan.selecting(made.cost, 2, 1, delta=1e-6, adjacency=Adjacency.REPLACE_PERSON)
    assert double.cost <= made.cost
    assert double.bounds[0] == made.bounds[0] // 2
    for wrong in ({"picks": 0}, {"groups": 0}, {"weights": (("health", 2),)}, {"bounds": (MOST_RATE + 1,)}):
        with pytest.raises(SettingError):
            Plan(**{"bounds": (9,), "delta": 1e-6, "noise": "selection", "picks": 2} | wrong)  # type: ignore[arg-type]
    with pytest.raises(SettingError, match="of a selection"):
        Plan(bounds=(9,), delta=1e-6, picks=2)


def test_the_guarantee_speaks_of_a_list() -> None:
    told = Guarantee.of(plan())
    assert told.sentence.startswith("Someone studying this list could tell whether you were in it")
    assert "histories themselves, from whoever runs" in str(told)
    assert Guarantee.from_dict(told.to_dict()) == told
