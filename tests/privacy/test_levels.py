"""Levels: parts of one bound, who chose what, and what each is held for."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.sparse import csr_array

from discreet.errors import BoundExceeded, SettingError
from discreet.privacy.clipping import MAX_BOUND, Summed, add_rows
from discreet.privacy.disclosure import disclose
from discreet.privacy.guarantee import Guarantee
from discreet.privacy.levels import OFFERED, Level, Levels
from discreet.privacy.plan import Plan

PLAN = Plan(bounds=(41, 1_000), delta=1e-6, levels=OFFERED)


def free(units: int) -> None:
    """Book nothing."""


def block(row: list[int], level: Level) -> Summed:
    made = add_rows(csr_array(np.array([row], np.int64)), MAX_BOUND)
    return Summed(made.total, made.squared_norms, level=level)


@given(bound=st.integers(1, MAX_BOUND))
def test_parts_of_a_bound_ascend_and_never_pass_it(bound: int) -> None:
    parts = [level.of(bound) for level in Level]
    assert parts == sorted(parts)
    assert (parts[0], parts[-1]) == (0, bound)
    assert all(4 * part <= level.value * bound for part, level in zip(parts, Level, strict=True))


@pytest.mark.parametrize("level", Level)
def test_the_door_holds_a_block_to_its_level(level: Level) -> None:
    most = level.of(41)
    disclose([block([most, 0], level)], PLAN, 0, spend=free)
    with pytest.raises(BoundExceeded):
        disclose([block([most, 1], level)], PLAN, 0, spend=free)


def test_prices_are_those_of_the_parts() -> None:
    assert [PLAN.price(0, level) for level in Level] == [0, 10**2, 20**2, 41**2]
    assert [PLAN.cost_at(level) for level in OFFERED] == [10**2 + 250**2, 20**2 + 500**2, PLAN.cost]


def test_what_each_used_is_the_square_of_their_row() -> None:
    told: list[list[int]] = []

    def tell(used: NDArray[np.int64]) -> None:
        told.append(used.tolist())

    rows: Iterator[csr_array | Summed] = iter(
        [csr_array(np.array([[3, 4], [0, 0]], np.int64)), block([6, -8], Level.STRONG)]
    )
    disclose(rows, PLAN, 0, spend=free, used=tell)
    assert told == [[25, 0], [100]]


def test_of_a_person_who_is_replaced_the_whole_price_is_used() -> None:
    from discreet.privacy.adjacency import Adjacency

    plan = Plan(bounds=(8,), delta=1e-6, adjacency=Adjacency.REPLACE_PERSON, levels=OFFERED)
    told: list[int] = []
    disclose([block([1, 0], Level.BALANCED)], plan, 0, spend=free, used=lambda used: told.extend(used.tolist()))
    assert told == [8**2]


def test_a_bound_that_leaves_a_level_nothing() -> None:
    Plan(bounds=(3, 50), delta=1e-6)
    with pytest.raises(SettingError, match="too small to be divided among levels"):
        Plan(bounds=(3, 50), delta=1e-6, levels=OFFERED)


def test_a_plan_with_levels_survives_storage() -> None:
    assert Plan.from_dict(PLAN.to_dict()) == PLAN


class TestLevels:
    def test_names(self) -> None:
        assert [Level.named(str(level)) for level in Level] == list(Level)
        with pytest.raises(SettingError, match="no level is called 'medium': choose off, strong, balanced, light"):
            Level.named("medium")

    def test_of_people_in_their_order(self) -> None:
        chosen = Levels({"ann": Level.STRONG, 7: Level.OFF}, Level.LIGHT)
        assert chosen.of(("bob", "7", "ann")).tolist() == [4, 0, 1]

    def test_of_strangers_are_refused_without_naming_them(self) -> None:
        with pytest.raises(SettingError, match="2 of those who chose one are not in the data") as refused:
            Levels({"anne": Level.STRONG, "bobby": Level.OFF, "cyd": Level.OFF}).of(("ann", "bob", "cyd"))
        assert "anne" not in str(refused.value)

    def test_two_of_one_person(self) -> None:
        Levels({"7": Level.OFF, 7: Level.OFF})
        with pytest.raises(SettingError, match="the same person has two"):
            Levels({"7": Level.OFF, 7: Level.STRONG})

    def test_of_another_type_are_refused(self) -> None:
        names: Any = {"ann": "strong"}
        with pytest.raises(SettingError, match="give a Level for each person"):
            Levels(names)
        with pytest.raises(SettingError, match="give a Level for each person"):
            Levels({}, names["ann"])

    def test_the_text_shows_nobody(self) -> None:
        assert repr(Levels({"ann": Level.STRONG})) == "Levels(1 people chose, others balanced)"


class TestGuarantee:
    guarantee = Guarantee.of(Plan(bounds=(4_000,), delta=1e-6, levels=OFFERED))

    def test_says_what_each_level_promises(self) -> None:
        mu = self.guarantee.mu
        finer = self.guarantee.to_dict()["levels"]
        assert [round(finer[name]["mu"] / mu, 9) for name in ("strong", "balanced", "light")] == [0.25, 0.5, 1.0]
        assert finer["light"]["epsilon"] == self.guarantee.epsilon
        assert "at most 69 times out of 100 (55 for strong; 60 for balanced)" in self.guarantee.sentence
        assert "Level strong: (" in str(self.guarantee)
        assert "how many people chose each level" in str(self.guarantee)

    def test_survives_storage(self) -> None:
        assert Guarantee.from_dict(self.guarantee.to_dict()) == self.guarantee
