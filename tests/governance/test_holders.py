"""Pseudonyms and keys of persons: what opens, what does not, and two who make a key at once."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import delete, insert, select, update
from systems import RECOMMEND, TRAIN, System, system

from discreet.errors import KeyMissing, LedgerCorrupted, SealBroken, SettingError
from discreet.governance import schema
from discreet.governance.holders import ACCESS, ACCOUNTS, BATCHES, PEOPLE, Holders
from discreet.governance.journal import Journal
from discreet.governance.keys import Master, new_key
from discreet.governance.ledger import Ledger
from discreet.governance.replay import Problem
from discreet.governance.tables import opened


@pytest.fixture
def shop(place: str | Path) -> Iterator[System]:
    with system(place) as made:
        yield made


def test_a_person_has_a_key_until_they_are_erased(shop: System) -> None:
    who = shop.who("ann")
    assert shop.holders.seal(who) is None
    with shop.database.transaction():
        first = shop.holders.hold(who)
        again = shop.holders.hold(who)
    assert again.open(first.seal(b"x", b"y"), b"y") == b"x"
    assert shop.holders.holds(who)
    assert len(shop.holders) == 1
    token = shop.holders.token(who)
    with shop.database.transaction():
        shop.holders.erase(who)
    assert not shop.holders.holds(who)
    with pytest.raises(SealBroken):
        shop.holders.token(who)
    with shop.database.transaction():
        other = shop.holders.hold(who)
    assert shop.holders.token(who) != token
    with pytest.raises(SealBroken):
        other.open(first.seal(b"x", b"y"), b"y")


def test_ids_are_checked_and_differ_by_purpose(shop: System) -> None:
    for person in ("", "a" * 201, "a\nb"):
        with pytest.raises(SettingError, match="characters that print"):
            shop.holders.pseudonym(person)
    assert shop.holders.pseudonym(7) == shop.holders.pseudonym("7")
    who = shop.who("ann")
    told = {shop.holders.id_for(RECOMMEND, who), shop.holders.id_for(TRAIN, who), shop.holders.id_of_account(who)}
    assert len(told) == 3


def test_keys_are_wrapped_anew_and_what_is_new_already_stays(place: str | Path) -> None:
    first = Master([new_key()])
    with system(place, first) as shop:
        shop.agree("ann", "bob")
    both = first.rotated()
    with system(place, both) as shop:
        assert list(shop.holders.rotate()) == [2]
        with shop.database.transaction():
            shop.holders.hold(shop.who("cleo"))
        assert list(shop.holders.rotate()) == [3]
        assert shop.consents.permits("ann", TRAIN)
    with system(place, both.forgotten()) as shop:
        assert shop.consents.permits("bob", TRAIN)
    with pytest.raises(KeyMissing), system(place, first):
        pass


def test_two_who_begin_at_once_agree_on_the_keys(place: str | Path) -> None:
    master, found = Master([new_key()]), list[bytes]()
    with system(place, master, items=0):
        pass
    both = threading.Barrier(2, timeout=30)

    class Meeting(Holders):
        def _key(self, name: str) -> bytes:
            if name == "purpose:new":
                both.wait()
            return super()._key(name)

    def begin() -> None:
        database = opened(place, 30.0, may_create=False)
        try:
            found.append(Meeting(database, Journal(database), master, ["new"])._hmac("purpose:new", b"x"))
        finally:
            database.close()

    threads = [threading.Thread(target=begin) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(found) == 2
    assert found[0] == found[1]


def test_whoever_comes_second_takes_the_key_that_is_there(shop: System, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between the look and the transaction another process made it."""
    seen: list[Any] = []
    one = shop.database.one

    def late(statement: Any, **values: Any) -> Any:
        row = one(statement, **values)
        seen.append(values)
        return None if values.get("name") == "purpose:new" and len(seen) == 1 else row

    expected = Holders(shop.database, shop.journal, shop.holders._wrapping, ["new"]).id_for("new", b"x")
    again = Holders.__new__(Holders)
    again._db, again._journal, again._wrapping = shop.database, shop.journal, shop.holders._wrapping
    monkeypatch.setattr(shop.database, "one", late)
    again._keys = {"purpose:new": again._key("purpose:new")}
    assert again.id_for("new", b"x") == expected


k = schema.keyring.c


def told(shop: System) -> dict[Any, int]:
    return {entry.facts["name"]: entry.seq for entry in shop.journal.rows() if entry.kind == "key"}


def test_each_key_of_the_ring_is_told_once_whatever_is_opened_or_rotated(place: str | Path) -> None:
    first = Master([new_key()])
    with system(place, first) as shop:
        rows = told(shop)
        purposes = [f"purpose:{each.name}" for each in shop.inventory.purposes]
        assert list(rows) == [PEOPLE, ACCOUNTS, ACCESS, BATCHES, *purposes]
    both = first.rotated()
    with system(place, both) as shop:
        assert list(shop.holders.rotate()) == []
    with system(place, both.forgotten()) as shop:
        before = shop.journal.head().seq
        Holders(shop.database, shop.journal, shop.holders._wrapping, ["new"])
        assert told(shop) == {**rows, "purpose:new": before + 1}
        assert Ledger(shop.database).verify(wrapping=shop.holders._wrapping).ok


@pytest.mark.parametrize("name", [PEOPLE, ACCOUNTS, ACCESS, BATCHES, f"purpose:{TRAIN}"])
def test_a_key_that_is_gone_is_not_made_anew(place: str | Path, name: str) -> None:
    master = Master([new_key()])
    with system(place, master) as shop:
        row, before = told(shop)[name], shop.journal.head()
        shop.database.execute(delete(schema.keyring).where(k.name == name))
    with (
        pytest.raises(LedgerCorrupted, match=f"the key {name} of the keyring is gone; restore") as error,
        system(place, master),
    ):
        pass
    assert error.value.row == row
    with closing(opened(place, 5, may_create=False)) as database:
        assert Journal(database).head() == before
        for wrapping in (master, None):
            gone = Problem(row, f"the key {name} of the keyring is gone from the tables")
            assert Ledger(database).verify(wrapping=wrapping).problems == [gone]


@pytest.mark.parametrize("what", ["another", "another's row", "a row of something else", "no row", "no number"])
def test_a_key_that_is_another_opens_nothing(place: str | Path, tmp_path: Path, what: str) -> None:
    master = Master([new_key()])
    with system(tmp_path / "another.db", master) as other:
        wrapped = other.database.one(select(k.wrapped).where(k.name == PEOPLE))
    with system(place, master) as shop:
        rows = told(shop)
        wrong: dict[str, object] = {"another's row": rows[ACCOUNTS], "a row of something else": 0, "no row": 10**6}
        if what == "no number":
            if not isinstance(place, Path):
                pytest.skip("this database holds a column to its type")
            wrong[what] = "x"
        values: dict[str, object] = {"wrapped": wrapped and wrapped[0]} if what == "another" else {"told": wrong[what]}
        shop.database.execute(update(schema.keyring).where(k.name == PEOPLE).values(**values))
    with pytest.raises(LedgerCorrupted, match="people of the keyring is not the one"), system(place, master):
        pass
    with closing(opened(place, 5, may_create=False)) as database:
        other_one = Problem(rows[PEOPLE], "the key people of the keyring is not the one that was made")
        assert Ledger(database).verify(wrapping=master).problems == [other_one]
        assert Ledger(database).verify().ok is (what == "another")


def test_a_key_that_was_added_or_told_again_is_named(shop: System) -> None:
    shop.database.execute(insert(schema.keyring).values(name="purpose:sell\n", wrapped=b"x", told=1))
    with shop.database.transaction():
        row = shop.journal.append("key", name=PEOPLE, check="0" * 64)
        nonsense = shop.journal.append("key", name=PEOPLE, check=None)
    assert Ledger(shop.database).verify().problems == [
        Problem(row, "makes the key people of the keyring a second time"),
        Problem(nonsense, "is not an event of this version"),
        Problem(None, "the key 'purpose:sell\\n' of the keyring is in the tables, no row tells of it"),
    ]
