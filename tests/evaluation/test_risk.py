"""Attackers by level: as right as the odds allow, no more, and more where noise is missing."""

import numpy as np
import pytest
from numpy.typing import NDArray
from tests.conftest import MEASURE, TRAIN

from discreet.data.intake import read_interactions
from discreet.data.interactions import Histories, Interactions
from discreet.errors import PurposeNotAllowed, SettingError
from discreet.evaluation import risk
from discreet.evaluation.risk import Attacked, risk_by_level
from discreet.privacy import disclosure
from discreet.privacy.accounting import cap, odds_of
from discreet.privacy.levels import OFFERED, Level, Levels
from discreet.privacy.mechanisms.gaussian import add_noise
from discreet.privacy.plan import Plan
from discreet.randomness import NoiseSource
from discreet.training.participants import Participants

RUNS = 30


@pytest.fixture(scope="module")
def measured(data: Interactions) -> Histories:
    return data.opened_for(MEASURE)


def thirds(histories: Histories) -> Levels:
    return Levels({person: OFFERED[number % 3] for number, person in enumerate(histories.people_ids)})


def test_is_told_by_level_beside_the_promise(measured: Histories) -> None:
    done: list[tuple[int, int]] = []
    found = risk_by_level(
        measured, thirds(measured), epsilon=4.0, seeds=2, progress=lambda now, all_: done.append((now, all_))
    )
    assert [each.level for each in found] == ["strong", "balanced", "light"]
    assert [each.people for each in found] == [100, 100, 100]
    assert done == [(1, 2), (2, 2)]
    assert found[-1].epsilon == pytest.approx(4.0, rel=0.01)
    assert [each.odds for each in found] == sorted(each.odds for each in found)
    for each in found:
        document = each.to_dict()
        assert 0 < document["informed"]["mean"] < 1
        assert document["quality"]["interval_95"][0] <= document["quality"]["mean"]


@pytest.fixture(scope="module")
def strangers() -> Histories:
    """300 people of whom each knows one item of their own, so that what is found of one tells nothing of another."""
    own = [*range(300)]
    return read_interactions({"user_id": own, "item_id": own}, purposes=[TRAIN]).opened_for(TRAIN)


def informed(histories: Histories, level: Level) -> float:
    """How often the informed attacker is right, over runs in which every other person is in, at epsilon 8."""
    inside, outside = histories.take(np.arange(0, 300, 2)), histories.matrix[np.arange(1, 300, 2)]
    right = []
    for _ in range(RUNS):
        run = Attacked.trained_on(Participants(inside, np.full(150, level.value)), 8.0, "popularity", 1e-5)
        right.append(run.attack(inside.matrix[np.flatnonzero(run.known)], outside, level)[0])
    return float(np.mean(right))


@pytest.mark.parametrize("level", OFFERED)
def test_the_informed_attacker_is_as_right_as_the_odds_allow(strangers: Histories, level: Level) -> None:
    """Of 30 runs with 75 people in and 150 out the rate has a deviation of at most .0056; false alarm below 1e-6."""
    plan = Plan.sharing(cap(8.0, 1e-5), (1.0,), delta=1e-5)
    assert informed(strangers, level) == pytest.approx(odds_of(plan.cost_at(level)), abs=5 * 0.0056)


def test_too_little_noise_and_too_much_show(strangers: Histories, monkeypatch: pytest.MonkeyPatch) -> None:
    """Half of the noise, and twice as much: .88 and .66 instead of .80, more than ten deviations away."""
    odds = odds_of(cap(8.0, 1e-5))
    for factor in (0.5, 2.0):

        def wrong(total: NDArray[np.int64], source: NoiseSource, factor: float = factor) -> NDArray[np.int64]:
            return total + (factor * (add_noise(total, source) - total)).astype(np.int64)

        monkeypatch.setattr(disclosure, "add_noise", wrong)
        assert (informed(strangers, Level.LIGHT) - odds) * (1 - factor) > 0
        assert abs(informed(strangers, Level.LIGHT) - odds) > 5 * 0.0056


def test_a_person_without_a_row_is_a_guess(histories: Histories) -> None:
    run = Attacked.trained_on(Participants(histories, np.full(300, 4)), 4.0, "popularity", 1e-5)
    nothing = histories.matrix[:5] * np.int8(0)
    nothing.eliminate_zeros()
    assert run.attack(nothing, nothing, Level.LIGHT) == (0.5, 0.5)


def test_refusals(measured: Histories, histories: Histories, monkeypatch: pytest.MonkeyPatch) -> None:
    assert histories.purpose == TRAIN
    with pytest.raises(PurposeNotAllowed):
        risk_by_level(histories, Levels({}), epsilon=1.0)
    with pytest.raises(SettingError, match="at least one run"):
        risk_by_level(measured, Levels({}), epsilon=1.0, seeds=0)
    with pytest.raises(SettingError, match="not in the data"):
        risk_by_level(measured, Levels({"nobody": Level.LIGHT}), epsilon=1.0)
    monkeypatch.setattr(risk, "LEAST_ASKED", 1_000)
    with pytest.raises(SettingError, match="too few people of any level"):
        risk_by_level(measured, Levels({}), epsilon=1.0, seeds=1)
