"""Federated iALS: the sums are what they say, three of them are iALS in one place, and noise cannot break a step."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.sparse import csr_array

from discreet.data.interactions import Rows
from discreet.errors import SettingError
from discreet.models.als import unpacked
from discreet.models.base import State
from discreet.models.ials import Ials, stein
from discreet.models.recipe import recipe
from discreet.models.subspace import Subspace
from discreet.privacy.accounting import cap
from discreet.privacy.disclosure import Disclosed, disclose
from discreet.privacy.plan import OPEN_BOUND, Plan

PEOPLE, ITEMS, RANK = 600, 60, 8
PLAIN = Ials(people=PEOPLE, items=ITEMS, kept=ITEMS, embedding_size=RANK, private=False, longest=4.0 * ITEMS**0.5)
EVEN = Ials(people=PEOPLE, items=ITEMS, kept=ITEMS, embedding_size=RANK)
SHARED = RANK * (RANK + 1)
"""Numbers of the two triangles."""


def histories(seed: int = 0) -> Rows:
    """Three tastes, long histories and short ones."""
    rng = np.random.default_rng(seed)
    tastes, taste = rng.random((3, ITEMS)) ** 3, rng.integers(0, 3, PEOPLE)
    taken = rng.random((PEOPLE, ITEMS)) < tastes[taste] * rng.uniform(0.2, 1.5, (PEOPLE, 1))
    taken[0] = True
    taken[1] = False
    return csr_array(taken.astype(np.int8))


def free(units: int) -> None:
    """Book nothing."""


def nobody(items: int) -> Rows:
    return csr_array(np.zeros((0, items), np.int8))


def next_state(model: Ials, state: State, taken: Rows) -> State:
    plan = Plan.without_noise(model.rounds, delta=1e-6)
    number = int(state["round"])
    return model.step(state, disclose([model.summed(taken, state, OPEN_BOUND)], plan, number, spend=free))


def factors_of_people(model: Ials, state: State, dense: NDArray[np.float64]) -> NDArray[np.float64]:
    """Solve for each person by the definition."""
    v, share = state["factors"], float(state["typical"])
    common = model.unobserved * share * v.T @ v + model.reg * share * ITEMS * np.eye(RANK)
    return np.stack([np.linalg.solve(common + v.T @ (row[:, None] * v), v.T @ row) for row in dense])


def exact_step(model: Ials, state: State, dense: NDArray[np.float64]) -> NDArray[np.float64]:
    """Solve for each item by the definition: iALS in one place."""
    u, share = factors_of_people(model, state, dense), float(state["typical"])
    common = model.unobserved * share * u.T @ u + model.reg * share * PEOPLE * np.eye(RANK)
    return np.stack([np.linalg.solve(common + u.T @ (who[:, None] * u), u.T @ who) for who in dense.T])


class TestSums:
    def test_without_noise_they_are_those_of_the_definition(self) -> None:
        taken, dense = histories(), histories().toarray().astype(np.float64)
        state = next_state(PLAIN, PLAIN.start(), taken)
        summed = PLAIN.summed(taken, state, OPEN_BOUND)
        per_item, shared = np.split(summed.total / OPEN_BOUND * PLAIN.longest, [ITEMS * (2 * RANK + 1)])
        gradients, sums, tallies = np.split(per_item.reshape(ITEMS, -1), [RANK, 2 * RANK], axis=1)
        u = factors_of_people(PLAIN, state, dense)
        assert gradients == pytest.approx((dense * (u @ state["factors"].T - 1)).T @ u, abs=1e-2)
        assert sums / PLAIN.between == pytest.approx(dense.T @ u, abs=1e-2)
        assert tallies[:, 0] / PLAIN.tally == pytest.approx(dense.sum(axis=0), abs=1e-2)
        alike, spread = unpacked(shared.reshape(2, -1), RANK)
        assert alike / PLAIN.curvature == pytest.approx(u.T @ u, abs=1e-2)
        assert spread / PLAIN.within == pytest.approx((u * dense.sum(axis=1)[:, None]).T @ u, abs=0.1)

    @pytest.mark.parametrize("model", [PLAIN, EVEN])
    def test_they_hold_2_d_and_1_numbers_an_item_and_two_triangles(self, model: Ials) -> None:
        state = next_state(model, model.start(), histories())
        dims = model.summed(histories(), state, 1_000).total.size
        assert dims == ITEMS * (2 * RANK + 1) + SHARED

    @pytest.mark.parametrize(("people", "items", "epsilon"), [(30_000, 41_000, None), (6_040, 3_706, 8.0)])
    def test_the_triangles_are_less_than_a_fifth_more(self, people: int, items: int, epsilon: float | None) -> None:
        units = None if epsilon is None else cap(epsilon, 1e-6)
        model, _ = recipe(people, items, units, delta=1e-6, kind="ials")
        assert isinstance(model, Ials)
        counts = Disclosed(np.arange(items), 1, 0.0, secure=True)
        dims = model.summed(nobody(items), model.step(model.start(), counts), 1_000).total.size
        assert dims <= 1.2 * (2 * model.embedding_size + 1) * model.kept

    def test_no_row_is_scaled_where_no_history_is_longer_than_the_recipe_expects(self) -> None:
        model, state = PLAIN, PLAIN.start()
        for _ in range(model.rounds - 1):
            state = next_state(model, state, histories())
            assert model.summed(histories(), state, OPEN_BOUND).squared_norms.max() < 0.99 * OPEN_BOUND**2

    def test_a_row_that_is_too_long_is_scaled_to_the_bound(self) -> None:
        model = replace(PLAIN, longest=1e-3)
        lengths = np.sqrt(
            model.summed(histories(), next_state(model, model.start(), histories()), 1 << 20).squared_norms
        )
        assert lengths[1] == 0.0
        assert np.delete(lengths, 1).min() > 0.999 * 2**20
        assert lengths.max() <= 2**20

    def test_of_two_people_one_with_few_items_weighs_as_much(self) -> None:
        one, many = np.zeros((1, ITEMS), np.int8), np.ones((1, ITEMS), np.int8)
        one[0, 3] = 1
        state = next_state(EVEN, EVEN.start(), histories())
        lengths = [np.sqrt(EVEN.summed(csr_array(row), state, 1 << 20).squared_norms[0]) for row in (one, many)]
        assert lengths == pytest.approx([2**20, 2**20], rel=1e-3)


class TestSteps:
    def test_three_sweeps_are_nearly_those_of_ials_in_one_place(self) -> None:
        taken, dense = histories(), histories().toarray().astype(np.float64)
        state = next_state(PLAIN, PLAIN.start(), taken)
        exact = dict(state)
        apart = []
        for _ in range(PLAIN.sweeps):
            state, exact["factors"] = next_state(PLAIN, state, taken), exact_step(PLAIN, exact, dense)
            ours, theirs = PLAIN.scores(taken, state), PLAIN.scores(taken, exact)
            apart.append(float(np.linalg.norm(ours - theirs) / np.linalg.norm(theirs)))
        assert apart[0] < 0.15
        assert apart[-1] < 0.02

    def test_a_fixed_point_of_ials_is_one_of_the_steps(self) -> None:
        """The preconditioner is approximate, the gradient is not."""
        taken, dense = histories(), histories().toarray().astype(np.float64)
        state = next_state(PLAIN, PLAIN.start(), taken)
        for _ in range(200):
            state["factors"] = exact_step(PLAIN, state, dense)
        moved = next_state(PLAIN, state, taken)["factors"] - state["factors"]
        assert np.linalg.norm(moved) < 2e-3 * np.linalg.norm(state["factors"])

    @pytest.mark.parametrize("sigma", [0.1, 10.0, 1e4])
    def test_noise_does_not_break_them(self, sigma: float) -> None:
        state, rng = next_state(EVEN, EVEN.start(), histories()), np.random.default_rng(5)
        for _ in range(6):
            total = EVEN.summed(histories(), state, 1 << 20).total + rng.normal(0, sigma * 2**20, ITEMS * 17 + SHARED)
            noisy = Disclosed(total.astype(np.int64), 1 << 20, sigma * 2**20, secure=True)
            state = EVEN.step(state, noisy)
        assert np.linalg.norm(state["factors"], axis=1).max() < 10.0
        assert np.isfinite(EVEN.scores(histories(), state)).all()

    def test_shrinking_takes_the_length_of_the_noise_out(self) -> None:
        rng = np.random.default_rng(6)
        signal = np.tile([3.0, 0.0, 0.0, 4.0], (20_000, 1))
        shrunk = stein(signal + rng.normal(0, 1.5, signal.shape), 1.5)
        assert (shrunk**2).sum(axis=1).mean() == pytest.approx(25.0, rel=0.03)
        assert (stein(rng.normal(0, 1.0, (2_000, 50)), 1.3) == 0).mean() > 0.95
        assert (stein(signal, 0.0) == signal).all()
        assert not stein(np.zeros((2, 3)), 0.0).any()


@pytest.mark.parametrize(
    "settings", [{"people": 0}, {"reg": 0.0}, {"longest": 0.0}, {"within": 0.0}, {"noise_reg": -1.0}, {"sweeps": 0}]
)
def test_settings_that_the_proof_excludes_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(SettingError, match=next(iter(settings))):
        replace(EVEN, **settings)


@pytest.mark.parametrize("epsilon", [1.0, 8.0, None])
def test_a_pass_of_the_subspace_sends_a_rank_for_each_item_and_little_more(epsilon: float | None) -> None:
    units = None if epsilon is None else cap(epsilon, 1e-6)
    model, plan = recipe(6_040, 3_706, units, delta=1e-6, kind="subspace")
    assert isinstance(model, Subspace)
    state, rng = model.start(), np.random.default_rng(7)
    for number in range(model.rounds):
        total = model.summed(nobody(3_706), state, plan.bounds[number]).total
        rank = state["basis"].shape[1] if "basis" in state else 1
        kept = len(state["kept"]) if "basis" in state else 3_706
        assert total.size <= 1.2 * kept * rank
        values = 5_000 / np.arange(1, 3_707) if number == 0 else rng.normal(0, 30, total.size)
        grid = plan.bounds[number]
        state = model.step(state, Disclosed((values * grid).astype(np.int64), grid, plan.deviation, secure=True))
