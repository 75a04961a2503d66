"""What takes two people happens once, or not at all."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from systems import System, inventory, system

from discreet.data.records import Records
from discreet.errors import Conflict, LedgerError, NotAllowed, SettingError
from discreet.governance import motions as module
from discreet.governance.checks import now
from discreet.governance.consent import later
from discreet.governance.keys import Master, new_key
from discreet.governance.ledger import Account, Ledger
from discreet.governance.matters import Matter
from discreet.governance.motions import AGREED, ASKED, DAYS, KIND, LAPSED, REFUSED, Member, Motions
from discreet.governance.roles import BY_TWO, Permission, Role

ANN, BOB = Member("ann", Role.OWNER), Member("bob", Role.PRIVACY_OFFICER)
EVE = Member("eve", Role.ANALYST)
TRAIN = Account("movies", "train")
WHAT = {"dataset": "movies", "purpose": "train", "epsilon": 3.0}
MASTER = Master([new_key()])


@pytest.fixture
def shop(place: str | Path) -> Iterator[System]:
    with system(place, MASTER) as made:
        book = Ledger(made.database)
        book.open_budget(TRAIN, epsilon=2.0, delta=1e-6)
        yield made
        assert book.verify().ok


@pytest.fixture
def motions(shop: System) -> Motions:
    return Motions(shop.matters)


def nothing(_: Matter) -> Mapping[str, Any]:
    return {}


def test_one_asks_another_agrees_and_it_is_done(shop: System, motions: Motions) -> None:
    book = Ledger(shop.database)

    def do(motion: Matter) -> Mapping[str, Any]:
        assert motion.body["what"] == WHAT
        state = book.raise_cap(TRAIN, epsilon=motion.body["what"]["epsilon"], by=[motion.body["asked_by"], "bob"])
        return {"cap": str(state.cap), "what": "something else", "asked_by": "nobody"}

    asked = motions.ask(Permission.RAISE_CAP, WHAT, ANN)
    assert (asked.state, book.account(TRAIN).epsilon) == (ASKED, 2.0)
    agreed = motions.agree(asked.name, BOB, do)
    assert (agreed.state, book.account(TRAIN).epsilon) == (AGREED, 3.0)
    assert agreed.body == {
        "permission": "raise-cap",
        "asked_by": "ann",
        "what": WHAT,
        "agreed_by": "bob",
        "cap": str(book.account(TRAIN).cap),
    }
    assert [entry.kind for entry in shop.journal.rows()][-3:] == ["motion", "raise", "motion"]
    late: list[Callable[[], object]] = [
        lambda: motions.agree(asked.name, BOB, do),
        lambda: motions.refuse(asked.name, BOB),
    ]
    for act in late:
        with pytest.raises(Conflict, match="this motion is agreed; ask anew"):
            act()


def test_two_keys_of_one_owner_are_one_person(shop: System, motions: Motions) -> None:
    asked = motions.ask(Permission.RAISE_CAP, WHAT, ANN)
    again = Member("ann", Role.PRIVACY_OFFICER)  # another key, another role
    with pytest.raises(NotAllowed, match="this takes two people"):
        motions.agree(asked.name, again, lambda _: pytest.fail("it was done"))
    assert shop.matters.one(KIND, asked.name) == asked


@pytest.mark.parametrize("permission", sorted(BY_TWO, key=str))
@pytest.mark.parametrize("role", Role)
def test_both_need_the_permission(motions: Motions, permission: Permission, role: Role) -> None:
    able = role is Role.PRIVACY_OFFICER or (role is Role.OWNER and permission is not Permission.OPEN_GRANT)
    other = Member("cid", role)
    asked = motions.ask(permission, {}, BOB)
    if able:
        assert motions.ask(permission, {}, other).state == ASKED
        assert motions.agree(asked.name, other, nothing).state == AGREED
        return
    acts: list[Callable[[], object]] = [
        lambda: motions.ask(permission, {}, other),
        lambda: motions.agree(asked.name, other, lambda _: pytest.fail("it was done")),
        lambda: motions.refuse(asked.name, other),
    ]
    for act in acts:
        with pytest.raises(NotAllowed, match=f"{role} may not"):
            act()


@pytest.mark.parametrize("permission", [each for each in Permission if each not in BY_TWO])
def test_what_one_does_is_not_asked_for(motions: Motions, permission: Permission) -> None:
    with pytest.raises(SettingError, match="does not take two people"):
        motions.ask(permission, {}, ANN)


def test_it_is_refused_also_by_who_asked(motions: Motions) -> None:
    for by in (ANN, BOB):
        asked = motions.ask(Permission.RAISE_CAP, WHAT, ANN)
        refused = motions.refuse(asked.name, by)
        assert (refused.state, refused.body["refused_by"]) == (REFUSED, by.owner)
        with pytest.raises(Conflict, match="this motion is refused"):
            motions.agree(asked.name, BOB, lambda _: pytest.fail("it was done"))


@pytest.mark.parametrize(
    "act",
    [
        lambda motions, name: motions.agree(name, BOB, lambda _: pytest.fail("it was done")),
        lambda motions, name: motions.refuse(name, BOB),
    ],
)
def test_it_lapses(shop: System, motions: Motions, monkeypatch: pytest.MonkeyPatch, act: Callable[..., object]) -> None:
    before = now()
    asked = motions.ask(Permission.RAISE_CAP, WHAT, ANN)
    assert asked.due is not None
    assert later(before, DAYS) <= asked.due <= later(now(), DAYS)
    monkeypatch.setattr(module, "now", lambda: asked.due)
    for _ in range(2):
        with pytest.raises(Conflict, match="this motion is lapsed; ask anew"):
            act(motions, asked.name)
    assert shop.matters.one(KIND, asked.name).state == LAPSED
    assert [entry.facts["state"] for entry in shop.journal.rows() if entry.kind == KIND] == [ASKED, LAPSED]


def test_it_lapses_between_two_looks(shop: System, motions: Motions, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = motions.ask(Permission.RAISE_CAP, WHAT, ANN)
    assert asked.due is not None
    times = iter([now()])
    monkeypatch.setattr(module, "now", lambda: next(times, asked.due))
    with pytest.raises(Conflict, match="this motion is lapsed"):
        motions.agree(asked.name, BOB, lambda _: pytest.fail("it was done"))


def test_what_fails_was_not_agreed_to(shop: System, motions: Motions) -> None:
    book = Ledger(shop.database)
    asked, rows = motions.ask(Permission.RAISE_CAP, WHAT, ANN), shop.journal.head()

    def fail_at_its_end(_: Matter) -> Mapping[str, Any]:
        book.raise_cap(TRAIN, epsilon=3.0, by=["ann", "bob"])
        raise LedgerError("no")

    def tell_too_much(_: Matter) -> Mapping[str, Any]:
        book.raise_cap(TRAIN, epsilon=3.0, by=["ann", "bob"])
        return {"told": "x" * 70_000}

    for do, error in ((fail_at_its_end, LedgerError), (tell_too_much, SettingError)):
        with pytest.raises(error):
            motions.agree(asked.name, BOB, do)
        assert book.account(TRAIN).epsilon == 2.0
        assert shop.matters.one(KIND, asked.name) == asked
        assert shop.journal.head().seq == rows.seq
    assert motions.agree(asked.name, BOB, nothing).state == AGREED


def test_two_who_agree_at_once_have_it_done_once(shop: System, motions: Motions, place: str | Path) -> None:
    asked = motions.ask(Permission.RAISE_CAP, WHAT, ANN)
    done: list[str] = []
    told: list[str] = []
    ready = threading.Barrier(2)

    def agree(owner: str) -> None:
        with Records(place, MASTER, inventory(), deadline=20) as records:

            def do(motion: Matter) -> Mapping[str, Any]:
                done.append(owner)
                time.sleep(0.2)  # time enough for the other, if it were not waiting
                Ledger(records.database).raise_cap(TRAIN, epsilon=3.0, by=["ann", owner])
                return {}

            ready.wait(20)
            try:
                Motions(records.matters).agree(asked.name, Member(owner, Role.OWNER), do)
            except Conflict as error:
                told.append(str(error))

    threads = [threading.Thread(target=agree, args=(owner,)) for owner in ("bob", "cid")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(done) == 1
    assert told == ["this motion is agreed; ask anew"]
    assert shop.matters.one(KIND, asked.name).body["agreed_by"] == done[0]
    assert [entry.facts["agreed_by"] for entry in shop.journal.rows() if entry.kind == "raise"] == done


@pytest.mark.parametrize("name", ["none", "a\x00b"])
def test_a_motion_that_is_none(motions: Motions, name: str) -> None:
    acts: list[Callable[[], object]] = [
        lambda: motions.agree(name, BOB, nothing),
        lambda: motions.refuse(name, BOB),
    ]
    for act in acts:
        with pytest.raises(SettingError, match="there is no motion of this name"):
            act()
