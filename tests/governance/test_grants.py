"""Staff that looks: for a reason, by two, for a day at most, and the person is told."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import rfc8785
from systems import System, system

from discreet.errors import Conflict, NotAllowed, SettingError
from discreet.governance import grants as module
from discreet.governance.checks import sha256
from discreet.governance.grants import KIND, OPENED, Grants
from discreet.governance.ledger import Ledger

TWO = ("dan", "eve")


@pytest.fixture
def shop(place: str | Path) -> Iterator[System]:
    with system(place) as made:
        made.agree("ann", "bob")
        yield made
        assert Ledger(made.database).verify().ok


@pytest.fixture
def grants(shop: System) -> Grants:
    return Grants(shop.database, shop.journal, shop.matters, shop.holders, shop.consents.documents)


def opened(grants: Grants, person: str = "ann", hours: float = 2) -> str:
    return grants.open(grants.subject(person), "safety", ["events", "consents"], hours, by=TWO).name


def looks(shop: System, person: str) -> list[dict[str, Any]]:
    return shop.consents.documents.of(shop.who(person), OPENED)


def test_each_look_is_on_record_and_the_person_is_told(shop: System, grants: Grants) -> None:
    name = opened(grants)
    for by in TWO:
        assert grants.use(name, "ann", by=by) == (shop.who("ann"), ["consents", "events"])
    assert [(look["grant"], look["reason"], look["fields"]) for look in looks(shop, "ann")] == [
        (name, "safety", ["consents", "events"])
    ] * 2
    assert looks(shop, "bob") == []
    told = [entry.facts for entry in shop.journal.rows() if entry.kind in {KIND, "look"}]
    assert [(each.get("state"), each["by"]) for each in told] == [("open", "eve"), (None, "dan"), (None, "eve")]
    assert [each["record"] for each in told[1:]] == [sha256(rfc8785.dumps(look)) for look in looks(shop, "ann")]
    assert told[-1]["who"] == shop.holders.token(shop.who("ann"))
    assert "ann" not in json.dumps([told, shop.matters.one(KIND, name).to_dict()])


def test_the_person_finds_a_grant_before_it_is_used(shop: System, grants: Grants) -> None:
    assert grants.about(shop.who("ann")) == []
    name = opened(grants)
    staff = module.shown(shop.matters.one(KIND, name))
    assert (staff["requester"], staff["approver"]) == TWO
    assert staff["notify_subject_at"] == staff["opens_at"]
    assert not {"who", "by"} & {*staff}
    (told,) = grants.about(shop.who("ann"))
    assert told == {key: value for key, value in staff.items() if key not in module.STAFF}
    assert (told["name"], told["state"], told["reason"]) == (name, "open", "safety")
    assert looks(shop, "ann") == []
    assert grants.about(shop.who("bob")) == grants.about(shop.who("zoe")) == []
    grants.close(name, "it was not needed", by="eve")
    (over,) = grants.about(shop.who("ann"))
    assert (over["state"], "outcome" in over) == ("closed", False)  # what staff write may name staff
    shop.vault.erase(shop.who("ann"))
    shop.agree("ann")  # is another
    assert grants.about(shop.who("ann")) == []


@pytest.mark.parametrize(
    ("reason", "fields", "hours", "by", "error"),
    [
        ("curiosity", ["events"], 1, TWO, SettingError),
        (["safety"], ["events"], 1, TWO, SettingError),
        ("safety", [], 1, TWO, SettingError),
        ("safety", ["events", "name"], 1, TWO, SettingError),
        ("safety", [["events"]], 1, TWO, SettingError),
        ("safety", "events", 1, TWO, SettingError),
        ("safety", ["events"], 0, TWO, SettingError),
        ("safety", ["events"], 24.1, TWO, SettingError),
        ("safety", ["events"], float("nan"), TWO, SettingError),
        ("safety", ["events"], "1", TWO, SettingError),
        ("safety", ["events"], None, TWO, SettingError),
        ("safety", ["events"], 1, ("dan", "dan"), NotAllowed),
        ("safety", ["events"], 1, ("dan",), NotAllowed),
    ],
)
def test_what_is_not_granted(
    shop: System, grants: Grants, reason: Any, fields: Any, hours: Any, by: tuple[str, ...], error: type[Exception]
) -> None:
    subject, rows = grants.subject("ann"), shop.journal.head()
    with pytest.raises(error):
        grants.open(subject, reason, fields, hours, by=by)
    assert (shop.matters.all(KIND), shop.journal.head()) == ([], rows)


def test_whoever_asks_is_not_told_of_whom_nothing_is_held(shop: System, grants: Grants) -> None:
    stranger = grants.subject("zoe")
    assert len(stranger) == len(grants.subject("ann"))
    name = grants.open(stranger, "safety", ["events"], 1, by=TWO).name
    assert refused(shop, grants, name, "zoe", TWO[0]) == "this grant is about somebody else"


def refused(shop: System, grants: Grants, name: str, person: str, by: str) -> str:
    rows = shop.journal.head()
    with pytest.raises(NotAllowed) as told:
        grants.use(name, person, by=by)
    assert shop.journal.head() == rows
    assert looks(shop, person) == []
    return str(told.value)


def test_it_is_of_two_and_of_one_person(shop: System, grants: Grants) -> None:
    name = opened(grants)
    assert refused(shop, grants, name, "bob", "dan") == "this grant is about somebody else"
    assert refused(shop, grants, name, "zoe", "dan") == "this grant is about somebody else"
    # Whoever it is not of cannot find out whom it is about.
    assert {refused(shop, grants, name, who, "mallory") for who in ("ann", "bob")} == {"this grant is of two others"}
    with pytest.raises(SettingError, match="there is no grant"):
        grants.use("none", "ann", by="dan")


def test_it_ends(shop: System, grants: Grants, monkeypatch: pytest.MonkeyPatch) -> None:
    name = opened(grants)
    due = shop.matters.one(KIND, name).due
    monkeypatch.setattr(module, "now", lambda: due)
    assert refused(shop, grants, name, "ann", "dan") == "this grant is over; two people can open another"


def test_it_is_closed_before_its_end(shop: System, grants: Grants) -> None:
    name = opened(grants)
    closed = grants.close(name, "nothing was wrong", by="dan")
    assert (closed.state, closed.body["outcome"]) == ("closed", "nothing was wrong")
    assert "over" in refused(shop, grants, name, "ann", "dan")
    with pytest.raises(Conflict):
        grants.close(name, "or was it", by="dan")


def test_it_ends_with_the_person(shop: System, grants: Grants) -> None:
    name = opened(grants)
    shop.vault.erase(shop.who("ann"))
    assert refused(shop, grants, name, "ann", "dan") == "this grant is about somebody else"
    shop.agree("ann")  # is back, under another key
    assert refused(shop, grants, name, "ann", "dan") == "this grant is about somebody else"


def test_the_desk_looks_on_record_and_makes_nobody_known(shop: System, grants: Grants) -> None:
    grants.desk(shop.who("ann"), ["consents"])
    (look,) = looks(shop, "ann")
    assert (look["by"], look["reason"], look["fields"]) == (
        "controller's desk",
        "the person's own request",
        ["consents"],
    )
    (row,) = [entry.facts for entry in shop.journal.rows() if entry.kind == "desk"]
    record = sha256(rfc8785.dumps(look))
    assert row == {"who": shop.holders.token(shop.who("ann")), "fields": "consents", "record": record}
    with pytest.raises(SettingError, match="nothing is held"):
        grants.desk(shop.who("cleo"), ["consents"])
    assert not shop.holders.holds(shop.who("cleo"))
