"""Pseudonyms and keys of persons: what opens, what does not, and two who make a key at once."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from systems import RECOMMEND, TRAIN, System, system

from discreet.errors import KeyMissing, SealBroken, SettingError
from discreet.governance.holders import Holders
from discreet.governance.keys import Master, new_key
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
            found.append(Meeting(database, master, ["new"])._hmac("purpose:new", b"x"))
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

    Holders(shop.database, shop.holders._wrapping, ["new"])
    expected = Holders(shop.database, shop.holders._wrapping, ["new"]).id_for("new", b"x")
    again = Holders.__new__(Holders)
    again._db, again._wrapping = shop.database, shop.holders._wrapping
    monkeypatch.setattr(shop.database, "one", late)
    again._keys = {"purpose:new": again._key("purpose:new")}
    assert again.id_for("new", b"x") == expected
