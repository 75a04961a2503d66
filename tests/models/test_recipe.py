"""The recipe: public numbers in, a model and a plan that fit each other out."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from discreet.errors import SettingError
from discreet.models.als import Als
from discreet.models.gram import Gram
from discreet.models.ials import Ials
from discreet.models.popularity import Popularity
from discreet.models.recipe import GRAM_KEPT, GRAM_STRAINED, LEAST_KEPT, Kind, recipe
from discreet.models.sgd import Sgd
from discreet.models.subspace import Subspace
from discreet.privacy.accounting import cap, default_delta

kinds = st.sampled_from(["auto", "popularity", "subspace", "gram", "ials", "als", "als-adaptive", "sgd"])


@given(st.integers(1, 10**7), st.integers(1, 10**5), st.floats(0.01, 30), kinds, st.booleans())
@settings(max_examples=200, deadline=None)
def test_a_plan_is_for_its_model_and_within_the_budget(
    people: int, items: int, epsilon: float, kind: Kind, tagged: bool
) -> None:
    delta = default_delta(people)
    units = cap(epsilon, delta)
    model, plan = recipe(people, items, units, delta=delta, kind=kind, tagged=tagged)
    assert plan.rounds == model.rounds
    assert units * 0.9 - 100 * plan.rounds * max(plan.bounds) <= plan.cost <= units
    assert (model.items, plan.delta, plan.private) == (items, delta, True)
    if not isinstance(model, Popularity):
        assert isinstance(model, Subspace | Gram | Ials | Als | Sgd)
        assert 1 <= model.kept <= items


@pytest.mark.parametrize(
    ("people", "items", "epsilon", "chosen"),
    [
        (803, 1_682, 0.5, Popularity),
        (803, 1_682, 1.0, Subspace),
        (5_040, 3_706, 0.5, Subspace),
        (29_710, 285, 1.0, Gram),
        (10**7, 20_000, 1.0, Subspace),
        (20, 50, 1.0, Popularity),
    ],
)
def test_the_choice_at_known_places(people: int, items: int, epsilon: float, chosen: type) -> None:
    delta = default_delta(people)
    model, _ = recipe(people, items, cap(epsilon, delta), delta=delta)
    assert isinstance(model, chosen)


def test_more_budget_keeps_more_items_and_more_directions() -> None:
    found = [recipe(50_000, 40_000, cap(epsilon, 1e-6), delta=1e-6)[0] for epsilon in (0.1, 0.5, 1.0, 5.0)]
    models = [model for model in found if isinstance(model, Subspace)]
    assert len(models) == 4
    assert [model.kept for model in models] == sorted(model.kept for model in models)
    assert [model.rank for model in models] == sorted(model.rank for model in models)
    assert models[0].kept >= LEAST_KEPT


def test_with_tags_more_items_are_kept_and_fewer_passes_are_needed() -> None:
    for people, epsilon, passes in ((5_040, 1.0, 2), (5_040, 5.0, 3)):
        units = cap(epsilon, 1e-5)
        (plain, _), (told, plan) = (recipe(people, 3_706, units, delta=1e-5, tagged=tagged) for tagged in (False, True))
        assert isinstance(plain, Subspace)
        assert isinstance(told, Subspace)
        assert (plain.passes, told.passes, told.rounds, plan.rounds) == (3, passes, 2 + passes, 2 + passes)
        assert told.kept > plain.kept


def test_a_gram_matrix_with_noise_stays_small() -> None:
    for people, kept in ((10**6, GRAM_KEPT), (10**5, GRAM_STRAINED)):
        model, _ = recipe(people, 50_000, cap(5.0, 1e-7), delta=1e-7, kind="gram")
        assert isinstance(model, Gram)
        assert model.kept == kept


@pytest.mark.parametrize("kind", ["auto", "popularity", "subspace", "gram", "ials", "als", "als-adaptive", "sgd"])
@pytest.mark.parametrize("tagged", [False, True])
def test_without_noise_nothing_is_left_out(kind: Kind, tagged: bool) -> None:
    model, plan = recipe(100, 40, None, delta=1e-6, kind=kind, tagged=tagged)
    assert not plan.private
    assert plan.rounds == model.rounds
    assert getattr(model, "kept", 40) == 40


def test_what_is_refused() -> None:
    unknown: Any = "svd++"
    with pytest.raises(SettingError, match="unknown model 'svd\\+\\+': choose auto"):
        recipe(10, 10, 1_000, delta=1e-6, kind=unknown)
    for people, items in ((0, 5), (5, 0)):
        with pytest.raises(SettingError, match="at least one"):
            recipe(people, items, 1_000, delta=1e-6)
    with pytest.raises(SettingError, match="too small"):
        recipe(10**9, 10, 2, delta=1e-6, kind="subspace")
