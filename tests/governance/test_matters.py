"""Matters: a state each, every step on record, and of two who take a step one does."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import delete
from systems import System, system

from discreet.errors import Conflict, SettingError
from discreet.governance import schema
from discreet.governance.checks import now, sha256
from discreet.governance.consent import later
from discreet.governance.ledger import Ledger
from discreet.governance.matters import MOST_BODY
from discreet.governance.motions import DAYS, Member
from discreet.governance.roles import Permission, Role


@pytest.fixture
def shop(place: str | Path) -> Iterator[System]:
    with system(place) as made:
        yield made
        assert Ledger(made.database).verify().ok


def test_each_step_is_told_with_the_hash_of_what_was_said(shop: System) -> None:
    made = shop.matters.open("job", "waits", {"what": "train", "n": 1}, by="ann", due="2030-01-01T00:00:00Z")
    assert made == shop.matters.one("job", made.name) == shop.matters.find("job", made.name)
    moved = shop.matters.move("job", made.name, ["waits", "fails"], "runs", by="bob", body={"n": 2})
    assert moved.to_dict() == {
        "name": made.name,
        "state": "runs",
        "due": "2030-01-01T00:00:00Z",
        "what": "train",
        "n": 2,
    }
    again = shop.matters.move("job", made.name, ["runs"], "runs", by="bob", due="2031-01-01T00:00:00Z")
    assert again.due == "2031-01-01T00:00:00Z"
    told = [entry.facts for entry in shop.journal.rows() if entry.kind == "job"]
    assert [(each["state"], each["by"]) for each in told] == [("waits", "ann"), ("runs", "bob"), ("runs", "bob")]
    assert told[-1]["body"] == sha256(b'{"n":2,"what":"train"}')
    with pytest.raises(Conflict, match="this job is runs; what was asked can be done while it is waits or fails"):
        shop.matters.move("job", made.name, ["waits", "fails"], "runs", by="bob")


def test_they_are_found_by_when_they_are_due(shop: System) -> None:
    for name, due in (("a", "2030-01-02T00:00:00Z"), ("b", "2020-01-01T00:00:00Z"), ("c", None)):
        shop.matters.open("duty", "open", {}, by="ann", due=due, name=name)
    shop.matters.open("duty", "over", {}, by="ann", due="2010-01-01T00:00:00Z", name="d")
    assert {each.name for each in shop.matters.all("duty")} == {*"abcd"}
    assert [each.name for each in shop.matters.due("duty", "open")] == ["b"]
    assert [each.name for each in shop.matters.due("duty", "open", "2040-01-01T00:00:00Z")] == ["b", "a"]
    first = shop.matters.next("duty", "open")
    assert first is not None
    assert first.due == "2020-01-01T00:00:00Z"
    assert shop.matters.next("duty", "none") is None
    assert shop.matters.all("job") == []


def test_a_name_is_taken_once(shop: System) -> None:
    shop.matters.open("incident", "open", {}, by="ann", name="a")
    shop.matters.open("job", "open", {}, by="ann", name="a")  # of another kind
    with pytest.raises(Conflict, match="there is an incident of this name already"):
        shop.matters.open("incident", "open", {}, by="ann", name="a")


@pytest.mark.parametrize("name", ["none", "", "a\x00b", "\ud800", "a\nb", "x" * 10_000])
def test_what_is_not_there(shop: System, name: str) -> None:
    rows = shop.journal.head()
    assert shop.matters.find("job", name) is None
    with pytest.raises(SettingError, match="there is no job of this name"):
        shop.matters.move("job", name, ["waits"], "runs", by="ann")
    assert shop.journal.head() == rows


@pytest.mark.parametrize("name", ["", "a\x00b", "\ud800", "x" * 201])
def test_a_name_that_is_none(shop: System, name: str) -> None:
    with pytest.raises(SettingError):
        shop.matters.open("job", "waits", {}, by="ann", name=name)


def nested(depth: int) -> list[Any]:
    found: list[Any] = []
    for _ in range(depth):
        found = [found]
    return found


@pytest.mark.parametrize(
    "value",
    [
        *(float("nan"), float("inf"), 2**53, -(2**60), {1, 2}, b"bytes", object(), {1: "a"}, "\ud800"),
        *([{"a": [float("nan")]}], nested(100_000)),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_body_that_is_no_json(shop: System, value: object) -> None:
    made, rows = shop.matters.open("job", "waits", {}, by="ann"), shop.journal.head()
    with pytest.raises(SettingError, match="what is said of a job holds what cannot be written down"):
        shop.matters.open("job", "waits", {"what": value}, by="ann")
    with pytest.raises(SettingError, match="what is said of a job holds what cannot be written down"):
        shop.matters.move("job", made.name, ["waits"], "runs", by="ann", body={"what": value})
    assert shop.matters.all("job") == [made]
    assert shop.journal.head().seq == rows.seq


@pytest.mark.parametrize("text", ["\x00", "\u2028", "é𝄞", '"\\'])
def test_whatever_text_is_read_as_it_was_said(shop: System, text: str) -> None:
    made = shop.matters.open("job", "waits", {"what": text}, by="ann")
    assert shop.matters.one("job", made.name).body == {"what": text}


def test_a_body_has_its_length(shop: System) -> None:
    least = len('{"a":""}')
    made = shop.matters.open("job", "waits", {"a": "x" * (MOST_BODY - least)}, by="ann")
    with pytest.raises(SettingError, match="what is said of a job has at most 65,536 bytes"):
        shop.matters.open("job", "waits", {"a": "x" * (MOST_BODY - least + 1)}, by="ann")
    with pytest.raises(SettingError, match="65,536 bytes"):
        shop.matters.move("job", made.name, ["waits"], "runs", by="ann", body={"b": ""})
    assert shop.matters.all("job") == [made]


def test_steps_together_are_taken_or_none_is(shop: System) -> None:
    def twice() -> None:
        with shop.matters.together():
            for _ in range(2):
                shop.matters.open("job", "waits", {}, by="ann", name="a")

    with pytest.raises(Conflict):
        twice()
    assert shop.matters.all("job") == []


def test_what_is_asked_for_again_is_begun_once(shop: System) -> None:
    once, other = shop.once("ann", "it", b"{}"), shop.once("ann", "it", b"{1}")
    assert once is not None
    assert shop.once("ann", None, b"{}") is None
    assert shop.once("bob", "it", b"{}") not in {once, None}
    made = shop.matters.open("job", "scheduled", {}, by="ann", once=once)
    shop.matters.move("job", made.name, ["scheduled"], "running", by="ann")
    again = shop.matters.open("job", "scheduled", {}, by="ann", once=once)
    assert (again.name, again.state) == (made.name, "running")
    with pytest.raises(Conflict, match="give another Idempotency-Key"):
        shop.matters.open("job", "scheduled", {}, by="ann", once=other)
    assert "asked" not in made.to_dict()  # two who compare what they asked would learn of each other
    assert len(shop.matters.all("job")) == 1


def test_what_has_ended_is_forgotten_on_record(shop: System) -> None:
    made = shop.matters.open("job", "scheduled", {}, by="ann")
    failed = shop.matters.move("job", made.name, ["scheduled"], "failed", by="ann")
    assert not shop.matters.forget(made, by="discreet")  # it went on meanwhile
    assert shop.matters.forget(failed, by="discreet")
    assert shop.matters.all("job") == []
    assert not shop.matters.forget(failed, by="discreet")


@pytest.mark.parametrize("how", ["it had not ended", "it was another", "it was never there"])
def test_what_is_forgotten_wrongly_is_named(place: str | Path, how: str) -> None:
    with system(place) as shop:
        made = shop.matters.open("job", "scheduled", {}, by="ann")
        if how == "it had not ended":
            shop.matters.forget(made, by="eve")
        elif how == "it was another":
            failed = shop.matters.move("job", made.name, ["scheduled"], "failed", by="ann")
            with shop.matters.together():
                shop.journal.append("forget", of="job", name=made.name, by="eve", was="0" * 64)
            shop.database.execute(delete(schema.matter).where(schema.matter.c.name == failed.name))
        else:
            with shop.matters.together():
                shop.journal.append("forget", of="job", name="none", by="eve", was="0" * 64)
        (problem, *_) = Ledger(shop.database).verify().problems
        assert "forgets a matter of kind job that" in problem.what


def test_a_motion_that_nobody_agreed_to_has_lapsed(shop: System, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = shop.motions.ask(Permission.RAISE_CAP, {}, Member("ann", Role.OWNER))
    shop.motions.lapse()
    assert shop.matters.one("motion", asked.name).state == "asked"
    monkeypatch.setattr("discreet.governance.motions.now", lambda: later(now(), DAYS + 1))
    shop.motions.lapse()
    assert shop.matters.one("motion", asked.name).state == "lapsed"
