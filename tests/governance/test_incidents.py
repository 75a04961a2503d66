"""Incidents: the clock runs from detection, and what is told is held to its fields."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from systems import System, system

from discreet.errors import Conflict, SettingError
from discreet.governance import incidents as module
from discreet.governance.incidents import (
    CATEGORIES,
    INVESTIGATIONS,
    KIND,
    LAST,
    STATES,
    SUBJECTS,
    TEXTS,
    TIMES,
    WHY_NOT,
    Incidents,
)
from discreet.governance.ledger import Ledger

NOW = "2031-05-10T12:00:00Z"


@pytest.fixture
def shop(place: str | Path) -> Iterator[System]:
    with system(place) as made:
        yield made
        assert Ledger(made.database).verify().ok


@pytest.fixture
def incidents(shop: System, monkeypatch: pytest.MonkeyPatch) -> Incidents:
    monkeypatch.setattr(module, "now", lambda: NOW)
    return Incidents(shop.matters)


@pytest.mark.parametrize(
    ("detected", "due", "late"),
    [
        (None, "2031-05-13T12:00:00Z", False),
        ("2031-05-09T09:30:00Z", "2031-05-12T09:30:00Z", False),
        ("2031-05-09T09:30:00+02:00", "2031-05-12T07:30:00Z", False),
        ("2031-05-07T12:00:01Z", "2031-05-10T12:00:01Z", False),
        ("2031-05-07T12:00:00Z", "2031-05-10T12:00:00Z", True),
        ("2024-02-28", "2024-03-02T00:00:00Z", True),
    ],
)
def test_the_clock_runs_from_detection(incidents: Incidents, detected: str | None, due: str, late: bool) -> None:
    made = incidents.record({}, by="ann", detected=detected)
    assert (made.due, made.body["notify_authority_by"], made.state) == (due, due, "IncidentSuspected")
    assert incidents.late() == ([made] if late else [])


@pytest.mark.parametrize("detected", ["2031-05-10T12:00:01Z", "someday", "9999-12-31", ""])
def test_the_future_is_not_detected(shop: System, incidents: Incidents, detected: str) -> None:
    with pytest.raises(SettingError):
        incidents.record({}, by="ann", detected=detected)
    assert shop.matters.all(KIND) == []


def test_whoever_was_told_in_time_is_not_late_and_a_conclusion_stops_no_clock(incidents: Incidents) -> None:
    made = [incidents.record({}, by="ann", detected="2031-05-01").name for _ in range(5)]
    assert {each.name for each in incidents.late()} == {*made}
    told, harmless, too_late, concluded_late, silent = made
    incidents.go_on(told, "IncidentOngoing", {"notified_authority_at": "2031-05-04"}, by="bob")
    incidents.go_on(harmless, "IncidentConcluded", {WHY_NOT: "the file was encrypted"}, by="bob")
    for name, state in ((too_late, "IncidentOngoing"), (concluded_late, "IncidentConcluded")):
        incidents.go_on(name, state, {"notified_authority_at": "2031-05-04T00:00:01Z"}, by="bob")
    with pytest.raises(SettingError, match="is concluded with notified_authority_at, or with"):
        incidents.go_on(silent, "IncidentConcluded", {}, by="bob")
    assert {each.name for each in incidents.late()} == {too_late, concluded_late, silent}


def test_each_step_is_shown(incidents: Incidents) -> None:
    name = incidents.record({"subjects_count": "none"}, by="ann").name
    for number in range(LAST):
        made = incidents.go_on(name, "IncidentOngoing", {"measures": f"{number}", "subjects_count": "1-10"}, by="bob")
    step = {"at": NOW, "by": "bob", "state": "IncidentOngoing", "told": ["measures", "subjects_count"]}
    assert made.body["log_entries"] == [step] * LAST


def test_what_is_known_grows_until_it_is_concluded(incidents: Incidents) -> None:
    first = {name: f"{name} of it" for name in TEXTS} | {"subjects_count": "11-100", CATEGORIES: ["user.name"]}
    made = incidents.record(first, by="ann")
    assert {**made.body, **first} == made.body
    assert made.body["investigation_status"] == INVESTIGATIONS[0]
    assert made.body["reported_by"] == "ann"
    for state in STATES:
        times = dict.fromkeys(TIMES, "2031-05-10T01:00:00+01:00")
        made = incidents.go_on(made.name, state, times | {"subjects_count": SUBJECTS[-1]}, by="bob")
        if state == "IncidentConcluded":
            break
    assert {made.body[name] for name in TIMES} == {"2031-05-10T00:00:00Z"}
    assert made.body["detected_at"] == NOW
    for state in STATES:
        with pytest.raises(Conflict, match="this incident is IncidentConcluded"):
            incidents.go_on(made.name, state, {}, by="bob")


@pytest.mark.parametrize("status", INVESTIGATIONS)
def test_an_investigation_has_its_states(incidents: Incidents, status: str) -> None:
    assert incidents.record({"investigation_status": status}, by="a").body["investigation_status"] == status


@pytest.mark.parametrize(
    "told",
    [
        *({"name": "ann"}, {"detected_at": NOW}, {"due": NOW}, {"state": "x"}, {"": ""}, {"reported_by": "eve"}),
        *(
            {"subjects_count": "12"},
            {"subjects_count": ["1-10"]},
            {"subjects_count": None},
            {"investigation_status": "1-10"},
        ),
        *({"investigation_status": {}}, {"description": ""}, {"description": "x" * 4_001}, {"description": 1}),
        *({"owner": None}, {"occurred_from": "someday"}, {"occurred_from": 20240101}, {"occurred_to": None}),
        *({"notified_authority_at": "2031-05-10T12:00:01Z"}, {"measures": "\ud800"}),
    ],
)
def test_what_is_no_field_or_no_value(shop: System, incidents: Incidents, told: dict[str, Any]) -> None:
    made, rows = incidents.record({}, by="ann"), shop.journal.head().seq
    with pytest.raises(SettingError):
        incidents.record(told, by="ann")
    with pytest.raises(SettingError):
        incidents.go_on(made.name, "IncidentOngoing", told, by="ann")
    assert shop.matters.all(KIND) == [made]
    assert shop.journal.head().seq == rows


@pytest.mark.parametrize(
    ("given", "near"),
    [
        (["media consumption"], "user.behavior.media_consumption"),
        (["user.name", "user.contact.emial"], "user.contact.email"),
        ("user.name", "user.behavior"),
        ([], "user.behavior"),
        ([{}], "user.behavior"),
        ([None], "user"),
    ],
)
def test_categories_are_of_the_vocabulary(incidents: Incidents, given: object, near: str) -> None:
    with pytest.raises(SettingError, match=f"are keys of the vocabulary, such as .*{near}"):
        incidents.record({CATEGORIES: given}, by="ann")
    keys = ["user.name", "user.behavior.media_consumption", "user.name"]
    assert incidents.record({CATEGORIES: keys}, by="ann").body[CATEGORIES] == sorted({*keys})


def test_one_of_before_is_gone_on_with(shop: System, incidents: Incidents) -> None:
    first = {"at": NOW, "by": "ann", "state": "IncidentSuspected", "told": ["subjects"]}
    body = {"detected_at": NOW, "subjects": "1-10", "log": [first]}
    old = shop.matters.open(KIND, "IncidentSuspected", body, by="ann", due="2031-05-13T12:00:00Z")
    for number in range(2):
        made = incidents.go_on(old.name, "IncidentOngoing", {"subjects_count": "11-100"}, by="bob")
        assert [each["by"] for each in made.body["log_entries"]] == ["ann", *["bob"] * (number + 1)]


@pytest.mark.parametrize("state", ["", "Concluded", "open"])
def test_a_state_that_is_none(incidents: Incidents, state: str) -> None:
    made = incidents.record({}, by="ann")
    with pytest.raises(SettingError, match="an incident is one of"):
        incidents.go_on(made.name, state, {}, by="ann")
