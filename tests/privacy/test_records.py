"""Sensitive categories: layers that add up, and rows that move by no more than what is promised."""

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy.sparse import csr_array

from discreet.data.interactions import Rows
from discreet.errors import BoundExceeded, SettingError
from discreet.models.base import Model, State
from discreet.models.recipe import Kind, recipe
from discreet.privacy.accounting import cap
from discreet.privacy.clipping import MAX_BOUND, Summed, add_rows, layered
from discreet.privacy.disclosure import disclose
from discreet.privacy.guarantee import Guarantee
from discreet.privacy.levels import Level
from discreet.privacy.plan import Plan
from discreet.privacy.records import SIXTEENTHS, Weights, layers_of, reach, weights_of
from discreet.training.populations import Layers, Work, without

WEIGHTS = st.dictionaries(st.sampled_from(["health", "religion", "politics"]), st.integers(0, 8)).map(
    lambda chosen: tuple(sorted(chosen.items()))
)
ITEMS = 24
CATEGORIES = np.array(["", "health", "", "politics"] * (ITEMS // 4))


def free(units: int) -> None:
    """Book nothing."""


def layers(weights: Weights) -> Layers:
    return tuple((layer, np.isin(CATEGORIES, sorted(layer.unseen))) for layer in layers_of(weights))


def near_a_square(root: int, beside: int) -> int:
    """Where a float root is hardest to round: above 2^53 floats are further apart than this."""
    return min(root**2 + beside, 2**56)


class TestLayers:
    @given(weights=WEIGHTS, bound=st.integers(1, MAX_BOUND))
    def test_add_up_to_the_bound_exactly(self, weights: Weights, bound: int) -> None:
        assert sum(layer.of(bound) for layer in layers_of(weights)) == bound

    @given(weights=WEIGHTS, bound=st.integers(1, MAX_BOUND))
    def test_a_category_is_seen_in_its_weight_of_the_bound(self, weights: Weights, bound: int) -> None:
        for name, weight in weights:
            seen = sum(layer.of(bound) for layer in layers_of(weights) if name not in layer.unseen)
            assert 2 * seen == reach(weight, bound)
            assert seen == weight * bound // SIXTEENTHS
            assert reach(weight, bound) <= bound

    def test_of_no_category_there_is_one(self) -> None:
        assert [(layer.start, layer.end, layer.unseen) for layer in layers_of(())] == [(0, 16, frozenset())]

    @given(data=st.data())
    def test_rows_of_layers_are_no_longer_than_their_bounds_together(self, data: st.DataObject) -> None:
        bounds = data.draw(st.lists(st.integers(1, 5_000), min_size=1, max_size=3))
        rows = [data.draw(st.lists(st.integers(-bound, bound), min_size=3, max_size=3)) for bound in bounds]
        made = [add_rows(csr_array(np.array([row], np.int64)), MAX_BOUND) for row in rows]
        if any(part.squared_norms[0] > bound**2 for part, bound in zip(made, bounds, strict=True)):
            with pytest.raises(BoundExceeded):
                layered([*zip(made, bounds, strict=True)])
            return
        whole = layered([*zip(made, bounds, strict=True)])
        assert whole.total.tolist() == np.sum(rows, axis=0).tolist()
        assert int((whole.total**2).sum()) <= whole.squared_norms[0] <= sum(bounds) ** 2

    @given(square=st.integers(0, 2**56) | st.builds(near_a_square, st.integers(1, 2**28), st.sampled_from([-1, 0, 1])))
    @example(2**56)
    @example(2**56 - 1)
    def test_lengths_are_rounded_up(self, square: int) -> None:
        found = layered([(Summed(np.zeros(1, np.int64), np.array([square])), MAX_BOUND)]).squared_norms[0]
        root = math.isqrt(int(found))
        assert root * root == found
        assert (root - 1) ** 2 < square <= found or square == found == 0

    def test_layers_of_different_people(self) -> None:
        one, two = (Summed(np.zeros(2, np.int64), np.zeros(people, np.int64)) for people in (1, 2))
        wide = Summed(np.zeros(3, np.int64), np.zeros(1, np.int64))
        for parts in ((one, two), (two, one), (one, wide), (wide, one), (one, one, two)):
            with pytest.raises(TypeError, match="the same people"):
                layered([(part, 5) for part in parts])


def test_without_takes_items_out() -> None:
    histories = csr_array(np.array([[1, 1, 0], [0, 0, 0], [0, 1, 1]], np.int8))
    left = without(histories, np.array([False, True, False]))
    assert left.toarray().tolist() == [[1, 0, 0], [0, 0, 0], [0, 0, 1]]
    assert left.has_canonical_format


def person(items: set[int]) -> Rows:
    row = np.zeros((1, ITEMS), np.int8)
    row[0, sorted(items)] = 1
    return csr_array(row)


def state_before_last_round(model: Model, plan: Plan) -> State:
    crowd = csr_array((np.random.default_rng(1).random((400, ITEMS)) < 0.3).astype(np.int8))
    state = model.start()
    for number in range(model.rounds - 1):
        state = model.step(state, disclose([model.summed(crowd, state, plan.bounds[number])], plan, number, spend=free))
    return state


@pytest.mark.parametrize("kind", ["popularity", "subspace", "gram", "ials", "als", "als-adaptive", "sgd"])
def test_what_somebody_did_in_a_category_moves_any_models_row_by_no_more_than_its_reach(kind: Kind) -> None:
    """All records of the category at once, added, removed and exchanged; in integers; at each level."""
    model, plan = recipe(5_000, ITEMS, cap(8.0, 1e-6), delta=1e-6, kind=kind)
    weights = (("health", 1), ("politics", 4))
    state, bound = state_before_last_round(model, plan), plan.bounds[-1]
    moved = {"health": 0.0, "politics": 0.0}

    @settings(max_examples=40)
    @given(
        st.sets(st.integers(0, ITEMS - 1)), st.data(), st.sampled_from(list(moved)), st.sampled_from(list(Level)[1:])
    )
    def check(items: set[int], data: st.DataObject, category: str, level: Level) -> None:
        inside = {int(item) for item in np.flatnonzero(category == CATEGORIES)}
        other = (items - inside) | data.draw(st.sets(st.sampled_from(sorted(inside))))
        work = Work(model, state, bound, layers(weights), level)
        before, after = work(person(items)), work(person(other))
        difference = sum(int(step) ** 2 for step in before.total - after.total)
        most = reach(dict(weights)[category], level.of(bound))
        assert difference <= most**2
        assert int(before.squared_norms[0]) <= level.of(bound) ** 2
        moved[category] = max(moved[category], difference**0.5 / most)

    check()
    assert max(moved.values()) > 0.2  # it can be seen: the bound is not kept by leaving the category out


def test_at_weight_0_a_category_is_not_there() -> None:
    model, plan = recipe(5_000, ITEMS, cap(8.0, 1e-6), delta=1e-6, kind="gram")
    work = Work(model, state_before_last_round(model, plan), plan.bounds[-1], layers((("health", 0),)))
    with_it, without_it = work(person({0, 1, 2, 5})), work(person({0, 2}))
    assert np.array_equal(with_it.total, without_it.total)
    assert reach(0, plan.bounds[-1]) == 0
    assert Plan(bounds=(1, 7), delta=1e-6, weights=(("health", 8),)).record_cost("health") == 36  # of 50 units


class TestWeights:
    declared = frozenset({"health", "minors"})

    def test_by_default_an_eighth(self) -> None:
        assert weights_of(self.declared, None) == (("health", 2), ("minors", 2))
        assert weights_of(frozenset(), None) == ()

    def test_as_asked(self) -> None:
        assert weights_of(self.declared, {"minors": 0, "health": 0.5}) == (("health", 8), ("minors", 0))

    @pytest.mark.parametrize("weight", [-0.125, 0.51, 0.1, 1, float("nan"), float("inf")])
    def test_out_of_range(self, weight: float) -> None:
        with pytest.raises(SettingError, match="0 to 1/2 in steps of 1/16"):
            weights_of(self.declared, {"health": weight})

    @pytest.mark.parametrize("weight", ["0.125", None, True, False, [0.125]])
    def test_of_another_type(self, weight: Any) -> None:
        with pytest.raises(SettingError, match="the weight of health is a number"):
            weights_of(self.declared, {"health": weight})

    @pytest.mark.parametrize("asked", [[("health", 0.125)], "health", 0.125])
    def test_not_by_category(self, asked: object) -> None:
        with pytest.raises(SettingError, match="a mapping of weights by category"):
            weights_of(self.declared, asked)

    def test_a_category_that_does_not_exist(self) -> None:
        with pytest.raises(SettingError, match="no item is of category 'heath'; the catalogue declares health, minors"):
            weights_of(self.declared, {"heath": 0.125})
        with pytest.raises(SettingError, match="give it a column 'sensitive'"):
            weights_of(frozenset(), {"health": 0.125})


class TestGuarantee:
    plan = Plan(bounds=(4_000, 800), delta=1e-6, weights=(("health", 2), ("minors", 0)))
    guarantee = Guarantee.of(plan)

    def test_says_what_each_category_promises(self) -> None:
        finer = self.guarantee.to_dict()["records"]
        assert finer["health"]["units"] == 1_000**2 + 200**2
        assert finer["health"]["mu"] == pytest.approx(self.guarantee.mu / 4)
        assert finer["minors"] == {"units": 0, "epsilon": 0.0, "mu": 0.0, "odds": 0.5}
        assert "Whether you did anything of health: at most 55 times out of 100." in str(self.guarantee)
        assert "Whether you did anything of minors: at most 50 times out of 100." in str(self.guarantee)

    def test_survives_storage(self) -> None:
        assert Guarantee.from_dict(self.guarantee.to_dict()) == self.guarantee
        assert Plan.from_dict(self.plan.to_dict()) == self.plan


def test_layers_whose_bounds_together_are_more_than_any_bound() -> None:
    """Sixteen of the largest would make a square of 2^64, which int64 takes for nothing."""
    layer = Summed(np.zeros(1, np.int64), np.array([MAX_BOUND**2])), MAX_BOUND
    with pytest.raises(BoundExceeded):
        layered([layer] * 16)
