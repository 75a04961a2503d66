"""Each attack succeeds without noise and fails with it, on people who do not exist.

False alarms of the statistical assertions are stated where they are made; none is above one in ten thousand.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from tests.conftest import MEASURE, TRAIN

from discreet.data.intake import read_interactions
from discreet.data.interactions import Histories, Interactions
from discreet.errors import PurposeNotAllowed, SettingError
from discreet.evaluation.attacks import running
from discreet.evaluation.attacks.attributes import attribute_inference
from discreet.evaluation.attacks.differencing import differencing
from discreet.evaluation.attacks.extraction import extraction
from discreet.evaluation.attacks.figures import Figure, Service
from discreet.evaluation.attacks.membership import Shadows, through_lists, white_box
from discreet.evaluation.attacks.poisoning import poisoning
from discreet.evaluation.attacks.repetition import averaged_noise, repeated_questions
from discreet.evaluation.attacks.temporal import cosines, temporal_inference
from discreet.evaluation.attacks.timing import timing

PEOPLE, ITEMS = 200, 150


@pytest.fixture(scope="module")
def sparse() -> Histories:
    """200 people with 30 of 150 items of an even popularity: each has pairs of items that few others have."""
    random = np.random.default_rng(3)
    chosen = [random.permutation(ITEMS)[:30] for _ in range(PEOPLE)]
    columns = {"user_id": np.repeat(np.arange(PEOPLE), 30).tolist(), "item_id": np.concatenate(chosen).tolist()}
    return read_interactions(columns, purposes=[MEASURE]).opened_for(MEASURE)


@pytest.fixture(scope="module")
def tastes(data: Interactions) -> Histories:
    return data.opened_for(MEASURE)


def services(histories: Histories, epsilon: float = 1.0) -> tuple[Service, Service]:
    return Service(histories, math.inf, "gram"), Service(histories, epsilon, "gram")


def named(figures: list[Figure]) -> dict[str, Figure]:
    return {figure.what: figure for figure in figures}


def test_membership(sparse: Histories) -> None:
    """At epsilon 1 no attack has an AUC above Phi(mu / sqrt 2) = .58; of 12 runs with 40 targets a part the mean has
    a deviation of .027, so .70 is a false alarm below 1e-4."""
    open_one, private = (named(through_lists(each, runs=12, targets=80)) for each in services(sparse))
    assert min(figure.value for figure in open_one.values()) > 0.8
    assert max(figure.value for figure in private.values()) < 0.7
    assert len(private) == 4


def test_shadow_models_see_what_differs_between_targets() -> None:
    """Statistics that start at another level for each target: only who knows the levels can tell."""
    random = np.random.default_rng(0)
    inside = random.random((20, 50)) < 0.5
    shadows = Shadows(10 * random.random(50) + inside + 0.1 * random.standard_normal((20, 50)), inside)
    assert np.mean(shadows.aucs(shadows.found)) < 0.7
    assert np.mean(shadows.aucs(shadows.ratios)) > 0.99


def test_white_box(tastes: Histories) -> None:
    """Of 300 guesses, right .55 of the time at most, .8 is 8 deviations above."""
    open_one, private = services(tastes)
    assert white_box(open_one, runs=1, asked=20)[0].value == 1.0
    (figure,) = white_box(private, runs=3, asked=50)
    assert figure.value < 0.8
    assert "promised at most 0.5" in figure.what


def test_temporal_inference(sparse: Histories) -> None:
    """Of 20 guesses at chance 5 / 130 seven or more are right with a chance below 1e-5."""
    open_one, private = services(sparse)
    assert temporal_inference(open_one, trials=8)[0].value > 0.7
    assert temporal_inference(open_one, trials=20, lists=cosines)[0].value > 0.9
    (crowded,) = temporal_inference(open_one, trials=20, lists=cosines, moving=100)
    assert crowded.value < 0.9
    (figure,) = temporal_inference(private, trials=20)
    assert figure.value < 0.35
    assert figure.chance == pytest.approx(5 / 130, abs=0.01)  # its deviation, over 20 guesses of 100 people, is .002


def test_differencing(sparse: Histories) -> None:
    """A guess has 30 items of which a fifth are right by chance; twice that, over 10 people, is 8 deviations away."""
    open_one, private = services(sparse)
    assert {figure.value for figure in differencing(open_one, trials=3)} == {1.0}
    assert all(figure.value < 2 * figure.chance for figure in differencing(private, trials=10))
    reused = named(differencing(private, trials=3, reused=True))
    assert reused["counts, noise used twice: items found"].value == 1.0


def test_attributes_are_told_by_the_own_history_with_and_without_noise(tastes: Histories) -> None:
    """Which of two tastes: the history says it whatever the model; and no less of those who were not in."""
    taste = {person: "odd" if int(str(person)[-1]) % 2 else "even" for person in tastes.people_ids}
    for service in services(tastes, 8.0):
        found = named(attribute_inference(service, taste, name="taste"))
        assert found["taste from the history, who were in"].value > 0.85
        assert found["taste from the history, who were not"].value > 0.85
        assert {figure.chance for figure in found.values()} == {0.5}
    assert found["taste from history and model, who were in"].value > 0.7
    without = named(attribute_inference(Service(tastes, math.inf, "gram"), taste, name="taste"))
    assert without["taste from the list, who were not"].value > 0.7


def test_poisoning_is_bounded_by_accounts_times_the_bound(tastes: Histories) -> None:
    open_one, private = (poisoning(each, shares=(0.0, 0.3), targets=2) for each in services(tastes, 8.0))
    assert open_one[1].value > open_one[0].value + 0.2
    assert open_one[-1].value > 5  # a long history weighs more than a short one
    assert 0.5 < private[-1].value <= 1


def test_asking_again_tells_nothing_but_noise_of_its_own_would_average_out(tastes: Histories) -> None:
    """Right .83 of the time after 1,000 answers: of 400, fewer than 70 % is 6 deviations below, and after one answer,
    where it is .51, more than 62 % is 4 deviations above."""
    for service in services(tastes):
        assert repeated_questions(service, people=5, times=3)[0].value == 1.0
    once, *_, often = averaged_noise(services(tastes)[1])
    assert once.value < 0.62
    assert often.value > 0.7


def test_timing_is_told_as_it_is(tastes: Histories) -> None:
    found = timing(services(tastes)[0], people=20, answers=2, runs=2)
    assert [figure.trials for figure in found] == [2, 2, 2]
    assert all(-1 <= figure.value <= 1 for figure in found)


def test_a_question_an_item_rebuilds_the_model(sparse: Histories) -> None:
    for service in services(sparse, 8.0):
        found = named(extraction(service))
        assert found["150 questions, scores of all items: items of a list of ten named"].value > 0.99
        assert found["2 questions, scores of all items: items of a list of ten named"].value < 0.9


def test_figures_as_json(tastes: Histories) -> None:
    service = services(tastes)[0]
    one = service.of_values("a", "b", [0.5]).to_dict()
    assert json.loads(json.dumps(one, allow_nan=False)) == one
    assert (one["epsilon"], one["chance"], one["interval_95"]) == (None, None, None)
    share = service.of_share("a", "b", 0, 72)
    assert share.low == 0
    assert share.high == pytest.approx(0.05, abs=0.001)


def test_running_by_name(tastes: Histories, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(running, "ATTACKS", {"share": lambda service: [service.of_share("share", "b", 1, 2)]})
    told: list[str] = []
    found = running.attacked(tastes, epsilon=2.0, progress=told.append)
    assert [figure.epsilon for figure in found] == [2.0, math.inf]
    assert told == ["share, epsilon 2", "share, no noise"]
    with pytest.raises(SettingError, match="unknown attack 'none'"):
        running.attacked(tastes, epsilon=2.0, names=["none"])
    with pytest.raises(SettingError, match="attributes have to be given"):
        running.attacked(tastes, epsilon=2.0, names=["attributes"])


def test_refusals(tastes: Histories) -> None:
    with pytest.raises(PurposeNotAllowed):
        Service(replace(tastes, purpose=TRAIN), 1.0)
    service = Service(tastes, 1.0)
    few = Service(tastes.take(np.arange(12)), 1.0)
    refused: list[Callable[[], object]] = [
        lambda: through_lists(service, runs=3),
        lambda: through_lists(few),
        lambda: temporal_inference(few, trials=20),
        lambda: differencing(few),
        lambda: attribute_inference(service, {}),
        lambda: attribute_inference(service, dict.fromkeys(tastes.people_ids, "same")),
        lambda: poisoning(service, shares=(0.6,)),
        lambda: timing(service, people=5),
        lambda: repeated_questions(service, people=0),
    ]
    for attempt in refused:
        with pytest.raises(SettingError):
            attempt()
