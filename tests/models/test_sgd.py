"""DP-SGD on factors: the gradient is the loss's own, it is clipped, and descending it makes lists better."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.sparse import csr_array

from discreet.data.interactions import Rows
from discreet.errors import SettingError
from discreet.models.base import State
from discreet.models.sgd import Sgd
from discreet.privacy.disclosure import Disclosed, disclose
from discreet.privacy.plan import Plan

ITEMS = 12
BOUND = 1 << 26
MODEL = Sgd(people=50, items=ITEMS, kept=ITEMS, embedding_size=3, steps=6, clip=1e6)


def histories(people: int = 50) -> Rows:
    """Two tastes, one an end of the catalogue each."""
    rng = np.random.default_rng(0)
    likes = np.where(np.arange(ITEMS) < ITEMS // 2, 0.8, 0.1)
    return csr_array(
        (rng.random((people, ITEMS)) < np.where(np.arange(people)[:, None] % 2, likes, likes[::-1])) * np.int8(1)
    )


def free(units: int) -> None:
    """Book nothing."""


def trained(model: Sgd, taken: Rows, rounds: int) -> State:
    plan, state = Plan.without_noise(model.rounds, delta=1e-6), model.start()
    for number in range(rounds):
        state = model.step(state, disclose([model.summed(taken, state, BOUND)], plan, number, spend=free))
    return state


def loss(person: NDArray[np.bool_], factors: NDArray[np.float64], state: State) -> float:
    """The person's loss with their own factor solved for."""
    rest = MODEL.unobserved * float(state["typical"])
    system = factors[person].T @ factors[person] + rest * factors.T @ factors + MODEL.reg * np.eye(3)
    own = np.linalg.solve(system, factors[person].sum(axis=0))
    return float(((factors[person] @ own - 1) ** 2).sum() + rest * ((factors @ own) ** 2).sum() + MODEL.reg * own @ own)


def test_the_row_is_the_gradient_of_the_persons_own_loss() -> None:
    taken = histories()
    state = trained(MODEL, taken, 1)
    factors, person = state["factors"], taken[[3]].toarray()[0] > 0
    total = MODEL.summed(taken[[3]], state, BOUND).total / BOUND * MODEL.clip
    right, (a, b, c, d, e, f) = total[: 3 * ITEMS].reshape(ITEMS, 3), total[3 * ITEMS :] / MODEL.curvature
    root = np.sqrt(2)
    outer = np.array([[a, b / root, c / root], [b / root, d, e / root], [c / root, e / root, f]])
    gradient = 2 * (right + MODEL.unobserved * float(state["typical"]) * factors @ outer)
    for item, axis in ((0, 0), (5, 2), (11, 1)):
        moved = np.zeros_like(factors)
        moved[item, axis] = 1e-5
        slope = (loss(person, factors + moved, state) - loss(person, factors - moved, state)) / 2e-5
        assert gradient[item, axis] == pytest.approx(slope, rel=0.05, abs=0.05)


def test_a_gradient_is_clipped_and_a_short_one_is_not_lengthened() -> None:
    taken = histories()
    state = trained(MODEL, taken, 1)
    lengths = np.sqrt(replace(MODEL, clip=1e-6).summed(taken, state, BOUND).squared_norms)
    assert lengths.min() > 0.999 * BOUND
    assert lengths.max() <= BOUND
    assert np.sqrt(MODEL.summed(taken, state, BOUND).squared_norms).max() < BOUND / 1e4


def test_steps_find_the_two_tastes_and_leave_nothing_of_the_descent_behind() -> None:
    state = trained(replace(MODEL, clip=0.2, embedding_size=4), histories(400), MODEL.rounds)
    assert "velocity" not in state
    assert "factors" in state
    known: Rows = csr_array(np.isin(np.arange(ITEMS), [0, 1])[None] * np.int8(1))
    scores = replace(MODEL, embedding_size=4).scores(known, state)[0]
    assert scores[2 : ITEMS // 2].min() > scores[ITEMS // 2 :].max()


def test_noise_makes_steps_shorter() -> None:
    taken = histories()
    state = trained(MODEL, taken, 1)
    total = MODEL.summed(taken, state, BOUND).total
    moves = [
        np.abs(
            MODEL.step(state, Disclosed(total, BOUND, sigma * BOUND, secure=True))["factors"] - state["factors"]
        ).sum()
        for sigma in (0.0, 10.0)
    ]
    assert moves[1] < 0.8 * moves[0]


@pytest.mark.parametrize("settings", [{"clip": 0.0}, {"momentum": 1.5}, {"steps": 0}, {"reg": 0.0}, {"people": 0}])
def test_settings_that_the_proof_excludes_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(SettingError, match=next(iter(settings))):
        replace(MODEL, **settings)
