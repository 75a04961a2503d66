"""Duties: late until they are done, and due again after that."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from systems import System, inventory, system

from discreet.data.records import Records
from discreet.errors import Conflict, SettingError
from discreet.governance import consent, matters
from discreet.governance import duties as module
from discreet.governance.duties import AUDIT, FIRST, JOURNAL, KIND, RETENTION, Duties
from discreet.governance.keys import Master, new_key
from discreet.governance.ledger import Ledger

NOW = "2031-05-10T12:00:00Z"
MASTER = Master([new_key()])


@pytest.fixture
def shop(place: str | Path) -> Iterator[System]:
    with system(place, MASTER) as made:
        yield made
        assert Ledger(made.database).verify().ok


@pytest.fixture
def duties(shop: System, monkeypatch: pytest.MonkeyPatch) -> Duties:
    for each in (module, matters):
        monkeypatch.setattr(each, "now", lambda: NOW)
    found = Duties(shop.matters)
    found.begin("ann")
    return found


def test_they_begin_once(shop: System, duties: Duties) -> None:
    began = {each.name: each for each in shop.matters.all(KIND)}
    assert {*began} == {*FIRST}
    assert {each.body["owner"] for each in began.values()} == {"ann"}
    assert began[RETENTION].due == NOW
    for name in {*FIRST} - {RETENTION}:
        assert began[name].due == consent.later(NOW, FIRST[name][0])
    rows = shop.journal.head()
    duties.begin("bob")
    assert shop.journal.head() == rows


def test_what_is_due_is_late_until_it_is_done(duties: Duties, monkeypatch: pytest.MonkeyPatch) -> None:
    assert [each.name for each in duties.late()] == [RETENTION]
    done = duties.done(RETENTION, by="discreet", found="nothing was too old")
    assert (done.due, done.body["done"], done.body["done_by"]) == ("2031-05-11T12:00:00Z", NOW, "discreet")
    assert done.body["found"] == "nothing was too old"
    assert duties.late() == []
    week = consent.later(NOW, 7)
    for each in (module, matters):
        monkeypatch.setattr(each, "now", lambda: week)
    assert {each.name for each in duties.late()} == {RETENTION, "verify-journal"}
    assert duties.done("verify-journal", by="discreet", found="it fits", evidence="0" * 64).due == consent.later(
        week, 7
    )


def test_what_is_none_and_what_is_too_long(shop: System, duties: Duties) -> None:
    rows = shop.journal.head()
    for name, found in (("none", "x"), (RETENTION, ""), (RETENTION, "x" * 1_001)):
        with pytest.raises(SettingError):
            duties.done(name, by="discreet", found=found)
    assert shop.journal.head() == rows
    assert duties.done(RETENTION, by="discreet", found="x" * 1_000).body["found"] == "x" * 1_000


@pytest.mark.parametrize("name", [RETENTION, AUDIT, JOURNAL])
def test_what_the_service_does_is_done_by_nobody_else(shop: System, duties: Duties, name: str) -> None:
    before, rows = shop.matters.all(KIND), shop.journal.head()
    with pytest.raises(Conflict, match="is done by the service itself"):
        duties.done(name, by="ann", found="all fine")
    assert (shop.matters.all(KIND), shop.journal.head()) == (before, rows)
    assert duties.done("review-inventory", by="ann", found="it is what we collect").body["done_by"] == "ann"


def test_two_services_begin_at_once(shop: System, place: str | Path) -> None:
    ready, failed = threading.Barrier(2), []

    def begin() -> None:
        try:
            with Records(place, MASTER, inventory(), deadline=20) as records:
                ready.wait(20)
                Duties(records.matters).begin("ann")
        except Exception as error:  # noqa: BLE001 - whatever it is
            failed.append(error)

    threads = [threading.Thread(target=begin) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not failed
    assert len(shop.matters.all(KIND)) == len(FIRST)
