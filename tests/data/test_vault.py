"""What people did: kept under consent, read for a purpose, erased for good."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sqlalchemy import bindparam, select, update
from systems import RECOMMEND, TRAIN, System, inventory, system

from discreet.data.catalogue import Catalogue
from discreet.data.vault import DAY, FOLDED_AT, MOST_EVENTS, Collected
from discreet.errors import Conflict, ConsentMissing, DataError, KeyMissing, PurposeNotAllowed, SealBroken, SettingError
from discreet.governance import schema
from discreet.governance.checks import now, sha256, stamp
from discreet.governance.consent import ANSWER_DAYS, NEVER, State, later
from discreet.governance.keys import Master, Seal, new_key
from discreet.governance.ledger import Ledger
from discreet.governance.roles import Role
from discreet.privacy.levels import Level

NOW = time.time()


@pytest.fixture
def shop(place: str | Path) -> Iterator[System]:
    with system(place) as made:
        yield made


def test_events_are_kept_of_whoever_agreed_and_read_back(shop: System) -> None:
    shop.agree("ann", "bob")
    told = shop.send(("ann", "a"), ("ann", "b", NOW - 5 * DAY), ("bob", "c"), ("cleo", "a"))
    assert told == Collected("batch-1", 3, 2, 1, 0)
    assert shop.vault.history(shop.who("ann"), RECOMMEND) == ["b", "a"]
    assert shop.vault.history(shop.who("cleo"), RECOMMEND) == []
    assert not shop.holders.holds(shop.who("cleo"))
    assert len(shop.holders) == 2
    with pytest.raises(PurposeNotAllowed):
        shop.vault.history(shop.who("ann"), "sell")


def test_a_batch_counts_once(shop: System) -> None:
    shop.agree("ann")
    batch = shop.vault.prepared("one", "1" * 64, [("ann", "a", None)], unread=("address",))
    first, again = shop.vault.collect([batch, batch])
    assert first == again == Collected("one", 1, 1, 0, 0, ("address",))
    stored = str(shop.database.one(select(schema.batch)))
    assert not any(told in stored for told in ("one", "1" * 64, "address", sha256(b"1" * 64)))
    (conflict,) = shop.vault.collect([replace(batch, digest="2" * 64)])
    assert isinstance(conflict, Conflict)
    assert shop.vault.own(shop.who("ann")).size == 1


def test_batches_that_are_none(shop: System) -> None:
    for rows, said in (
        ([], "holds no events"),
        ([("ann", "z", None)], "event 0: its item is not in the catalogue"),
        ([("ann", "a", None)] * (MOST_EVENTS + 1), "at most 10,000"),
    ):
        with pytest.raises(DataError, match=said):
            shop.vault.prepared("x", "0" * 64, rows)
    for name, person in (("", "ann"), ("x", ""), ("x", "a\nb"), ("x", "a" * 201)):
        with pytest.raises(SettingError):
            shop.vault.prepared(name, "0" * 64, [(person, "a", None)])


def test_times_are_coarse_and_not_of_the_future(shop: System) -> None:
    shop.agree("ann")
    told = shop.send(("ann", "a", NOW + DAY / 2), ("ann", "b", NOW - DAY - 7), ("ann", "c"), ("ann", "d", 5.0))
    assert (told.kept, told.people, told.too_old) == (3, 1, 1)  # what was done in 1970 is too old to be kept
    assert shop.send(("ann", "d", 5.0), ("bob", "d", 5.0)) == Collected("batch-2", 0, 0, 0, 2)
    for wrong in (NOW + 2 * DAY, NOW * 1_000, float("inf"), float("nan"), -5.0):
        with pytest.raises(DataError, match="lies in the future"):
            shop.vault.prepared("wrong", "0" * 64, [("ann", "a", wrong)])
    found = shop.vault.own(shop.who("ann"))
    assert (found["time"] % DAY == 0).all()
    assert (found["time"] <= time.time()).all()
    assert found.size == 3


def test_an_item_is_there_once_with_its_latest_time_and_the_latest_stay(place: str | Path) -> None:
    with system(place, declared=inventory(history=3)) as shop:
        shop.agree("ann")
        for days, item in ((9, "a"), (8, "b"), (7, "a"), (6, "c"), (5, "d")):
            shop.send(("ann", item, NOW - days * DAY))
        assert shop.vault.history(shop.who("ann"), RECOMMEND) == ["a", "c", "d"]


def test_all_that_is_held_is_shown_corrected_and_counted_and_no_more_is_read(place: str | Path) -> None:
    with system(place, declared=inventory(history=3)) as shop:
        shop.agree("ann", "bob")
        who = shop.who("ann")
        for person in ("ann", "bob"):
            for days, item in enumerate("abcde"):
                shop.send((person, item, NOW - (9 - days) * DAY))
        assert shop.vault.own(who)["code"].tolist() == [0, 1, 2, 3, 4]
        assert shop.vault.history(who, RECOMMEND) == ["c", "d", "e"]
        with pytest.raises(DataError, match="is held already"):
            shop.vault.correct(who, add=[("a", None)])
        assert shop.vault.correct(who, remove=["b", "d"], change=[("a", NOW - DAY)]) == (2, 1, 0)
        assert shop.vault.own(who)["code"].tolist() == [2, 4, 0]  # folded by now
        erased = [shop.vault.erase(shop.who(person)) for person in ("ann", "bob")]
        assert [each and each.events for each in erased] == [3, 5]


def test_many_rows_are_folded_into_one(shop: System) -> None:
    shop.agree("ann")
    for number in range(FOLDED_AT):
        shop.send(("ann", "abc"[number % 3]))
    before = sorted(shop.vault.own(shop.who("ann"))["code"].tolist())
    assert before == [0, 1, 2]
    assert not shop.vault._folds(shop.who("ann"))
    assert sorted(shop.vault.own(shop.who("ann"))["code"].tolist()) == before
    shop.send(("ann", "d"))
    assert sorted(shop.vault.history(shop.who("ann"), RECOMMEND)) == ["a", "b", "c", "d"]


def test_opening_reads_whoever_permits_the_purpose_alone(shop: System) -> None:
    shop.agree("ann", level=Level.LIGHT)
    shop.agree("bob", level=Level.STRONG)
    shop.agree("cleo", purposes=[RECOMMEND])
    shop.agree("dan", level=Level.OFF)
    shop.agree("eve")
    shop.send(("ann", "a"), ("ann", "c"), ("bob", "b"), ("cleo", "a"), ("dan", "a"), ("eve", "f"))
    shop.consents.withdraw("eve", TRAIN)
    histories, levels = shop.vault.opened_for(TRAIN)
    rows = dict(zip(histories.people_ids, histories.matrix.toarray().tolist(), strict=True))
    account = {name: shop.holders.id_of_account(shop.who(name)) for name in ("ann", "bob", "cleo", "dan", "eve")}
    assert rows == {account["ann"]: [1, 0, 1, 0, 0, 0], account["bob"]: [0, 1, 0, 0, 0, 0]}
    assert dict(zip(histories.people_ids, levels.of(histories.people_ids).tolist(), strict=True)) == {
        account["ann"]: 4,
        account["bob"]: 1,
    }
    assert histories.last is None  # the inventory does not let training read times
    assert histories.catalogue_is_declared
    recommend, _ = shop.vault.opened_for(RECOMMEND)
    assert len(recommend) == 4
    assert recommend.last is not None
    assert "ann" not in repr(histories)


def test_a_row_of_somebody_who_does_not_permit_it_is_not_fetched(shop: System, monkeypatch: pytest.MonkeyPatch) -> None:
    shop.agree("ann", "bob")
    shop.send(("ann", "a"), ("bob", "b"))
    shop.consents.withdraw("bob", TRAIN)
    seen: list[bytes] = []
    opened = shop.holders.opened

    def noted(who: bytes, key: bytes) -> Seal:
        seen.append(who)
        return opened(who, key)

    monkeypatch.setattr(shop.holders, "opened", noted)
    shop.vault.opened_for(TRAIN)
    assert seen == [shop.who("ann")]


def test_what_is_handed_out_for_two_purposes_does_not_join(shop: System, place: str | Path) -> None:
    shop.agree("ann", "bob")
    shop.send(("ann", "a"), ("ann", "b"), ("bob", "c"))
    one, two = (list(shop.vault.handed_out(purpose)) for purpose in (RECOMMEND, TRAIN))
    assert sorted(item for _, item in one) == sorted(item for _, item in two) == ["a", "b", "c"]
    assert len({person for person, _ in one}) == 2
    known = {shop.who("ann").hex(), shop.holders.id_of_account(shop.who("ann"))}
    assert not {person for person, _ in one} & ({person for person, _ in two} | known)
    shop.consents.withdraw("ann", TRAIN)
    assert [item for _, item in shop.vault.handed_out(TRAIN)] == ["c"]
    with pytest.raises(PurposeNotAllowed):
        list(shop.vault.handed_out("sell"))
    told = [entry.facts["purpose"] for entry in shop.journal.rows() if entry.kind == "hand-out"]
    assert told == [RECOMMEND, TRAIN, TRAIN]
    with Ledger(place) as book:
        assert book.verify().ok


def test_whoever_signalled_is_not_handed_to_recipients(place: str | Path) -> None:
    alone, master = inventory(gpc="no-sharing"), Master([new_key()])
    told = replace(alone, purposes=tuple(replace(each, recipients=("B Ltd",)) for each in alone.purposes))
    for declared, handed in ((alone, ["a", "b"]), (told, ["b"])):
        with system(place, master, declared) as shop:
            shop.agree("ann", gpc=True)
            shop.agree("bob", "cleo")
            if handed == ["a", "b"]:
                shop.send(("ann", "a"), ("bob", "b"))
            assert sorted(item for _, item in shop.vault.handed_out(TRAIN)) == handed
            assert len(shop.vault.opened_for(TRAIN)[0].people_ids) == 2
            if declared is told:
                spoilt = update(schema.document).where(schema.document.c.pseudonym == bindparam("who"))
                shop.database.execute(spoilt.values(content=bindparam("bad")), who=shop.who("bob"), bad=bytes(40))
                assert list(shop.vault.handed_out(TRAIN)) == []  # whether they did is not known


def test_nothing_to_open(shop: System) -> None:
    with pytest.raises(DataError, match="nobody who agreed to train-recommender"):
        shop.vault.opened_for(TRAIN)
    shop.agree("ann")
    with pytest.raises(DataError, match="nobody who agreed"):
        shop.vault.opened_for(TRAIN)


def test_without_a_catalogue_nothing_is_opened(place: str | Path) -> None:
    with system(place) as shop:
        shop.agree("ann")
        shop.send(("ann", "a"))
        shop.vault.set_items(Catalogue(("x",)), hide_others=True)
        assert shop.vault.history(shop.who("ann"), RECOMMEND) == []
        shop.vault.set_items(Catalogue(("a",), titles=("A",), categories=("health",), tags=(("t",),)))
        assert shop.vault.history(shop.who("ann"), RECOMMEND) == ["a"]
        listed = shop.vault.items.catalogue
        assert listed == Catalogue(("a", "x"), ("A", ""), ("health", ""), (("t",), ()))


def test_before_items_are_listed(place: str | Path) -> None:
    with system(place, items=0) as shop:
        shop.agree("ann")
        assert shop.vault.history(shop.who("ann"), RECOMMEND) == []
        with pytest.raises(DataError, match="nothing is in the catalogue"):
            shop.vault.opened_for(TRAIN)


def test_training_and_personal_budgets_run_on_what_is_opened(place: str | Path, tmp_path: Path) -> None:
    from discreet import fit
    from discreet.governance.ledger import Account

    with system(place) as shop:
        people = [f"p{number}" for number in range(60)]
        shop.agree(*people, level=Level.LIGHT)
        shop.send(*[(person, "abcdef"[(at + step) % 6]) for at, person in enumerate(people) for step in range(3)])
        histories, levels = shop.vault.opened_for(TRAIN)
        with Ledger(place) as book:
            book.open_budget(Account("shop", TRAIN), epsilon=2.0, delta=1e-4)
            made = fit(histories, epsilon=1.0, ledger=book, levels=levels, out=tmp_path / "model.npz")
            assert book.person("shop", histories.people_ids[0]).spent > 0
            assert book.verify().ok
        assert len(made.recommend(["a"], 3)) == 3


def test_erasure_leaves_nothing_that_opens(shop: System, place: str | Path, tmp_path: Path) -> None:
    name = "a person whose name is looked for"
    shop.agree(name, "bob")
    shop.send((name, "a"), ("bob", "b"))
    who = shop.who(name)
    wrapped = shop.holders._stored(who)
    assert wrapped is not None
    erased = shop.vault.erase(who)
    assert erased is not None
    assert erased.events == 1
    assert shop.vault.erase(who) is None
    assert shop.vault.own(who).size == 0
    assert shop.consents.records(name) == []
    assert not shop.consents.permits(name, TRAIN)
    assert len(shop.vault.opened_for(TRAIN)[0]) == 1
    assert shop.journal.linked(erased.journal_row).kind == "erase"
    if isinstance(place, Path):
        for path in tmp_path.rglob("*"):
            content = path.read_bytes() if path.is_file() else b""
            assert name.encode() not in content
            assert wrapped not in content, path
    shop.agree(name)
    assert shop.holders._stored(who) != wrapped


def test_what_does_not_open_is_deleted_all_the_same_and_stops_nobody_elses_retention(shop: System) -> None:
    shop.agree("ann", "bob")
    shop.send(("ann", "a"), ("bob", "b"))
    spoilt = update(schema.event).where(schema.event.c.pseudonym == bindparam("who")).values(content=bindparam("bad"))
    shop.database.execute(spoilt, who=shop.who("ann"), bad=bytes(40))
    assert list(shop.vault.retain()) == [2]
    (row,) = [entry.facts for entry in shop.journal.rows() if entry.kind == "retain"]
    assert row["unreadable"] == "1"
    erased = shop.vault.erase(shop.who("ann"))
    assert erased is not None
    assert erased.events is None
    assert not shop.holders.holds(shop.who("ann"))


def test_no_plaintext_is_ever_on_the_disk(place: str | Path, tmp_path: Path) -> None:
    if not isinstance(place, Path):
        pytest.skip("the bytes of a server are not looked through here")
    with system(place, items=6) as shop:
        shop.vault.set_items(Catalogue(("an item that is public",)))
        shop.agree("someone-with-a-name")
        shop.send(("someone-with-a-name", "an item that is public"))
        assert shop.vault.history(shop.who("someone-with-a-name"), RECOMMEND)
        content = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    assert b"an item that is public" in content  # so the search would find what is there
    assert b"someone-with-a-name" not in content
    assert shop.who("someone-with-a-name") in content


def test_corrections(shop: System) -> None:
    shop.agree("ann")
    shop.send(("ann", "a"), ("ann", "b"))
    who = shop.who("ann")
    assert shop.vault.correct(who, remove=["b", "unknown"]) == (1, 0, 0)
    rows = shop.journal.head().seq
    assert shop.vault.correct(who, remove=["b"]) == (0, 0, 0)
    assert shop.vault.history(who, RECOMMEND) == ["a"]
    assert shop.vault.correct(shop.who("nobody"), remove=["a"]) == (0, 0, 0)
    assert shop.journal.head().seq == rows
    assert not shop.holders.holds(shop.who("nobody"))


def test_times_are_corrected_and_what_is_missing_is_added(shop: System) -> None:
    shop.agree("ann")
    shop.send(("ann", "a", NOW - 3 * DAY), ("ann", "b", NOW - 2 * DAY), ("ann", "c"))
    who = shop.who("ann")
    done = shop.vault.correct(who, remove=["b"], change=[("c", NOW - 9 * DAY)], add=[("d", None), ("e", NOW - 5 * DAY)])
    assert done == (1, 1, 2)
    assert shop.vault.history(who, RECOMMEND) == ["c", "e", "a", "d"]
    found = shop.vault.own(who)
    assert (found["time"] % DAY == 0).all()
    assert shop.vault.correct(who, change=[("a", NOW)]) == (0, 1, 0)  # folded by now: of as many items as before
    assert shop.vault.history(who, RECOMMEND)[:2] == ["c", "e"]
    assert sorted(shop.vault.history(who, RECOMMEND)[2:]) == ["a", "d"]
    (first, *_) = [entry.facts for entry in shop.journal.rows() if entry.kind == "correct"]
    assert first == {"who": shop.holders.token(who), "by": "person", "removed": "1", "changed": "1", "added": "2"}


def test_of_a_correction_with_a_mistake_nothing_is_done(shop: System) -> None:
    shop.agree("ann")
    shop.send(("ann", "a"), ("ann", "b"))
    who, rows = shop.who("ann"), shop.journal.head().seq
    wrong: list[tuple[dict[str, Any], str]] = [
        ({"remove": ["a"], "add": [("z", None)]}, "not in the catalogue"),
        ({"remove": ["a"], "change": [("z", NOW)]}, "not in the catalogue"),
        ({"remove": ["a"], "change": [("c", NOW)]}, "is not held"),
        ({"remove": ["a"], "add": [("b", None)]}, "is held already"),
        ({"remove": ["a"], "change": [("b", NOW + 2 * DAY)]}, "lies in the future"),
        ({"remove": ["a"], "change": [("b", float("nan"))]}, "lies in the future"),
        ({"remove": ["a"], "add": [("c", 0.0)]}, "before what is kept"),
        ({"remove": ["a"], "change": [("a", NOW)]}, "named twice"),
        ({"remove": ["a"], "add": [("c", NOW), ("c", None)]}, "named twice"),
    ]
    for told, said in wrong:
        with pytest.raises(DataError, match=said):
            shop.vault.correct(who, **told)
    for purpose in (RECOMMEND, TRAIN):
        shop.consents.withdraw("ann", purpose)
    with pytest.raises(ConsentMissing, match="without a consent"):
        shop.vault.correct(who, remove=["a"], add=[("c", None)])
    assert sorted(shop.vault.own(who)["code"].tolist()) == [0, 1]
    assert shop.journal.head().seq == rows + 2
    assert shop.vault.correct(who, remove=["a"], change=[("b", NOW - DAY)]) == (1, 1, 0)  # that needs no consent


def test_the_latest_stay_of_what_is_added(place: str | Path) -> None:
    with system(place, declared=inventory(history=2)) as shop:
        shop.agree("ann")
        shop.send(("ann", "a"), ("ann", "b"))
        assert shop.vault.correct(shop.who("ann"), add=[("c", NOW - 5 * DAY)]) == (0, 0, 0)
        assert shop.vault.own(shop.who("ann")).size == 2


def test_where_no_times_are_kept_none_are_changed(place: str | Path) -> None:
    declared = inventory()
    with system(place, declared=replace(declared, fields=declared.fields[:1])) as shop:
        shop.agree("ann")
        shop.send(("ann", "a"))
        with pytest.raises(DataError, match="times are not kept"):
            shop.vault.correct(shop.who("ann"), change=[("a", NOW)])


def test_after_the_words_changed_nobody_is_read_until_they_agree_again(
    place: str | Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    master, declared = Master([new_key()]), inventory()
    purposes = tuple(replace(purpose, notice_version="2") for purpose in declared.purposes)
    with system(place, master) as shop:
        shop.agree("ann", "bob")
        shop.send(("ann", "a"), ("bob", "b"))
    with system(place, master, replace(declared, purposes=purposes)) as shop:
        shop.sent = 9
        for _ in range(2):  # before the service wrote that they ended, and after
            assert shop.vault.history(shop.who("ann"), RECOMMEND) == []
            with pytest.raises(DataError, match="nobody who agreed"):
                shop.vault.opened_for(TRAIN)
            assert list(shop.vault.handed_out(TRAIN)) == []
            assert shop.send(("ann", "c")).without_consent == 1
            list(shop.vault.retain())
            assert shop.vault.own(shop.who("ann")).size == 1  # it waits for an answer
        assert shop.consents.standing("bob", TRAIN).state is State.INVALIDATED
        shop.agree("ann")
        assert shop.vault.history(shop.who("ann"), RECOMMEND) == ["a"]
        assert len(shop.vault.opened_for(TRAIN)[0]) == 1
        assert shop.send(("ann", "c"), ("bob", "c")).kept == 1
        late = later(now(), ANSWER_DAYS + 1)
        monkeypatch.setattr("discreet.governance.consent.now", lambda: late)
        monkeypatch.setattr("discreet.data.vault.now", lambda: late)
        list(shop.vault.retain())
        assert shop.vault.own(shop.who("ann")).size == 2
        assert shop.vault.own(shop.who("bob")).size == 0  # who did not answer in time
    with Ledger(place) as book:
        assert book.verify().ok


def test_retention(place: str | Path, monkeypatch: pytest.MonkeyPatch) -> None:
    declared = inventory()
    fields = tuple(replace(field, retention_days=30) for field in declared.fields)
    master = Master([new_key()])
    with system(place, master) as shop:
        shop.agree("ann", "bob", "cleo")
        shop.send(("ann", "a", NOW - 40 * DAY), ("ann", "b"), ("bob", "c"), ("cleo", "d"))
    with system(place, master, replace(declared, fields=fields)) as shop:
        shop.agree("ann", "bob", "cleo")  # to the other words
        for purpose in (RECOMMEND, TRAIN):
            shop.consents.withdraw("bob", purpose)
        assert list(shop.vault.retain()) == [3]
        (row,) = [entry.facts for entry in shop.journal.rows() if entry.kind == "retain"]
        assert row == {"people": "3", "ended": "0", "too_old": "1", "purposeless": "1", "left": "0", "unreadable": "0"}
        assert shop.vault._whole(shop.who("bob")).size == 0
        assert shop.vault.history(shop.who("ann"), RECOMMEND) == ["b"]
        monkeypatch.setattr("discreet.governance.consent.now", lambda: "2099-01-01T00:00:00Z")
        monkeypatch.setattr("discreet.data.vault.now", lambda: "2099-01-01T00:00:00Z")
        list(shop.vault.retain())
        last = [entry.facts for entry in shop.journal.rows() if entry.kind == "retain"][-1]
        assert (last["ended"], last["purposeless"]) == ("4", "2")


def move_on(monkeypatch: pytest.MonkeyPatch, days: float) -> None:
    late = stamp(datetime.now(UTC) + timedelta(days=days))
    for module in ("consent", "grants"):
        monkeypatch.setattr(f"discreet.governance.{module}.now", lambda: late)
    monkeypatch.setattr("discreet.data.vault.now", lambda: late)


@pytest.fixture
def left(place: str | Path) -> Iterator[System]:
    """Ann permits one purpose, bob and cleo permit none any more, and dan's consent was changed."""
    master = Master([new_key()])
    with system(place, master) as shop:
        shop.agree("ann", "bob", "cleo", "dan")
        shop.send(*((person, "a") for person in ("ann", "bob", "cleo", "dan")))
        shop.consents.withdraw("ann", TRAIN)
        for person in ("bob", "cleo", "dan"):
            for purpose in (RECOMMEND, TRAIN):
                shop.consents.withdraw(person, purpose)
            shop.access.make(Role.PERSON, "app", pseudonym=shop.who(person), days=366)
        yield shop
        wrong = [problem.what for problem in shop.verified().problems]
        assert all(what == f"a consent to {TRAIN} is not what the journal tells" for what in wrong)


def removed(shop: System) -> list[dict[str, Any]]:
    return [entry.facts for entry in shop.journal.rows() if entry.kind == "erase"]


def test_whoever_left_is_erased_when_nothing_was_noted_of_them_for_long(
    left: System, monkeypatch: pytest.MonkeyPatch
) -> None:
    days = left.inventory.minimisation.logs_days
    bob = left.holders.token(left.who("bob"))
    list(left.vault.retain())
    assert len(left.holders) == 4
    move_on(monkeypatch, 1)
    left.grants.desk(left.who("cleo"), ["consents"])
    switched = schema.standing.c.pseudonym == left.who("dan"), schema.standing.c.purpose == TRAIN
    left.database.execute(update(schema.standing).where(*switched).values(quarters=4))
    move_on(monkeypatch, days - 0.01)
    list(left.vault.retain())
    assert len(left.holders) == 4
    opened: list[bytes] = []
    latest = left.consents.documents.latest

    def noted(who: bytes) -> dict[str, Any]:
        opened.append(who)
        return latest(who)

    monkeypatch.setattr(left.consents.documents, "latest", noted)
    move_on(monkeypatch, days + 0.01)
    assert list(left.vault.retain()) == [4]
    assert {*opened} == {left.who("bob"), left.who("cleo")}  # of whoever permits something nothing is opened
    assert removed(left) == [{"who": bob, "events": "0", "by": "discreet"}]
    assert not left.holders.holds(left.who("bob"))
    assert left.access.of(left.who("bob")) == []
    assert len(left.access) == 2
    told = [entry.facts for entry in left.journal.rows() if entry.kind == "retain"][-1]
    assert (told["left"], told["unreadable"]) == ("1", "1")
    move_on(monkeypatch, days + 1.01)  # staff looked a day later
    list(left.vault.retain())
    assert sorted(map(left.holders.holds, map(left.who, ("ann", "bob", "cleo", "dan")))) == [False, False, True, True]
    assert left.consents.permits("ann", RECOMMEND)
    assert len(left.consents.records("dan")) == 4


@pytest.mark.parametrize("spoil", ["changed", "gone", "an older one is the last"])
def test_nobody_is_erased_of_whom_what_was_noted_last_was_changed(
    left: System, monkeypatch: pytest.MonkeyPatch, spoil: str
) -> None:
    from sqlalchemy import delete

    columns = schema.document.c
    ours, last = columns.pseudonym == left.who("bob"), columns.seq == 3
    if spoil == "changed":
        left.database.execute(update(schema.document).where(ours, last).values(content=bytes(40)))
    else:
        left.database.execute(delete(schema.document).where(ours, last if spoil != "gone" else ours))
    move_on(monkeypatch, left.inventory.minimisation.logs_days + 1)
    list(left.vault.retain())
    told = [entry.facts for entry in left.journal.rows() if entry.kind == "retain"][-1]
    assert (told["left"], told["unreadable"]) == ("2", "1")
    assert left.holders.holds(left.who("bob"))
    assert "gone or was changed" in str(left.verified().problems)
    left.vault.erase(left.who("bob"))


@pytest.mark.parametrize("answer", ["refused", "nothing", "later"])
@pytest.mark.parametrize("logs_days", [1, 90])
def test_who_was_never_read_or_did_not_answer_leaves_in_time(
    place: str | Path, monkeypatch: pytest.MonkeyPatch, answer: str, logs_days: int
) -> None:
    master, declared = Master([new_key()]), inventory(logs_days=logs_days)
    anew = tuple(replace(purpose, notice_version="2") for purpose in declared.purposes)
    with system(place, master) as shop:
        if answer == "refused":
            shop.consents.refuse("ann", TRAIN)
        else:
            shop.agree("ann", purposes=[RECOMMEND])
            shop.send(("ann", "a"))
    with system(place, master, replace(declared, purposes=anew)) as shop:
        list(shop.vault.retain())
        said, waits = (20, ANSWER_DAYS) if answer == "later" else (0, 0 if answer == "refused" else ANSWER_DAYS)
        if said:
            move_on(monkeypatch, said)
            shop.consents.wait_as(shop.who("ann"), RECOMMEND, asked=False)
        days = max(said + logs_days, waits)
        move_on(monkeypatch, days - 0.01)
        list(shop.vault.retain())
        assert shop.holders.holds(shop.who("ann"))
        move_on(monkeypatch, days + 0.01)
        list(shop.vault.retain())
        assert len(shop.holders) == 0
        assert shop.verified().ok


def test_whoever_agreed_to_what_is_declared_no_more_stays_while_that_could_hold_again(
    place: str | Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    master, declared = Master([new_key()]), inventory(logs_days=1)
    with system(place, master, declared) as shop:
        shop.agree("ann", purposes=[TRAIN])
        shop.send(("ann", "a"))
    fewer = tuple(purpose for purpose in declared.purposes if purpose.name != TRAIN)
    fields = tuple(replace(field, purposes=(RECOMMEND,)) for field in declared.fields)
    with system(place, master, replace(declared, purposes=fewer, fields=fields, risks=())) as shop:
        (until,) = shop.database.one(select(schema.standing.c.until)) or ("",)
        move_on(monkeypatch, 91)
        list(shop.vault.retain())
        assert shop.vault.own(shop.who("ann")).size == 0
        assert shop.holders.holds(shop.who("ann"))
        for name in ("governance.consent", "data.vault"):
            monkeypatch.setattr(f"discreet.{name}.now", lambda: until)
        list(shop.vault.retain())
        assert len(shop.holders) == 0


def test_of_a_key_alone_that_has_ended_nothing_stays(shop: System, monkeypatch: pytest.MonkeyPatch) -> None:
    shop.access.make(Role.PERSON, "app", pseudonym=shop.who("ann"), days=1)
    list(shop.vault.retain())
    shop.access.tidy()
    assert len(shop.access) == 1
    monkeypatch.setattr("discreet.governance.access.now", lambda: later(now(), 2))
    shop.access.tidy()
    assert shop.access.of(shop.who("ann")) == []
    assert shop.verified().ok


def test_what_was_changed_or_moved_is_not_taken(shop: System) -> None:
    shop.agree("ann", "bob")
    shop.send(("ann", "a"))
    moved = update(schema.event).values(pseudonym=bindparam("to"))
    shop.database.execute(moved, to=shop.who("bob"))
    with pytest.raises(SealBroken):
        shop.vault.history(shop.who("bob"), RECOMMEND)
    with pytest.raises(SealBroken):
        shop.vault.opened_for(TRAIN)


def test_rotation_wraps_anew_and_changes_nothing_else(place: str | Path) -> None:
    first = Master([new_key()])
    with system(place, first) as shop:
        shop.agree("ann", "bob")
        shop.send(("ann", "a"))
    both = first.rotated()
    with system(place, both) as shop:
        assert list(shop.holders.rotate()) == [2]
        assert list(shop.holders.rotate()) == [2]
    with system(place, both.forgotten()) as shop:
        assert shop.vault.history(shop.who("ann"), RECOMMEND) == ["a"]
    with pytest.raises(SealBroken, match="not in the file given"), system(place, first):
        pass


def test_two_processes_hold_and_erase(place: str | Path) -> None:
    master = Master([new_key()])
    with system(place, master) as one, system(place, master) as two:
        one.agree("ann")
        two.send(("ann", "a"))
        assert one.vault.history(one.who("ann"), RECOMMEND) == ["a"]
        two.vault.erase(two.who("ann"))
        assert one.vault.history(one.who("ann"), RECOMMEND) == []
        one.agree("ann")
        one.sent = 7
        one.send(("ann", "b"))
        assert one.vault.history(one.who("ann"), RECOMMEND) == ["b"]
        assert two.vault.history(two.who("ann"), RECOMMEND) == ["b"]


def test_journal_and_tables_agree_afterwards(shop: System, place: str | Path) -> None:
    shop.agree("ann")
    shop.send(("ann", "a"))
    shop.vault.erase(shop.who("ann"))
    list(shop.vault.retain())
    with Ledger(place) as book:
        assert book.verify().ok
    text = json.dumps([entry.facts for entry in shop.journal.rows()])
    assert "ann" not in text


def test_codes_are_places_in_whatever_order_items_came(shop: System) -> None:
    shop.vault.set_items(Catalogue(("0-first",)))
    shop.agree("ann")
    shop.send(("ann", "0-first"), ("ann", "f"))
    histories, _ = shop.vault.opened_for(TRAIN)
    assert np.flatnonzero(histories.matrix.toarray()[0]).tolist() == [0, 6]


def switched(shop: System, person: str, purpose: str, **values: object) -> None:
    """Change what stands of a consent, as whoever writes into the database can."""
    column = schema.standing.c
    one = (column.pseudonym == shop.who(person)) & (column.purpose == purpose)
    shop.database.execute(update(schema.standing).where(one).values(**values))


ON = {"state": "ConsentGiven", "quarters": 4, "until": "2999-01-01T00:00:00Z"}


def test_whoever_is_switched_on_is_not_read_and_how_many_is_on_record(shop: System) -> None:
    people = ["ann", "bob", "cleo"]
    shop.agree(*people)
    shop.send(*((person, "a") for person in people), ("bob", "b"))
    for purpose in (TRAIN, RECOMMEND):
        shop.consents.withdraw("bob", purpose)
        switched(shop, "bob", purpose, **ON)
    switched(shop, "cleo", TRAIN, quarters=4)  # less noise than was agreed to
    histories, levels = shop.vault.opened_for(TRAIN)
    assert histories.people_ids == (shop.holders.id_of_account(shop.who("ann")),)
    assert levels.of(histories.people_ids).tolist() == [Level.BALANCED.value]
    assert len({who for who, _ in shop.vault.handed_out(RECOMMEND)}) == 2
    told = [entry.facts for entry in shop.journal.rows() if entry.kind == "doubt"]
    assert told == [{"purpose": TRAIN, "people": "2"}, {"purpose": RECOMMEND, "people": "1"}]
    with pytest.raises(SealBroken, match="what somebody agreed to was changed"):
        shop.vault.history(shop.who("bob"), RECOMMEND)
    assert shop.consents.standing("bob", TRAIN) == shop.consents.all_as(shop.who("bob"))[TRAIN] == NEVER
    assert not shop.consents.permits("bob", TRAIN)
    shop.consents.give("bob", RECOMMEND)
    assert len(shop.vault.history(shop.who("bob"), RECOMMEND)) == 2


def test_where_all_are_switched_on_there_is_nobody(shop: System) -> None:
    shop.agree("ann")
    shop.send(("ann", "a"))
    switched(shop, "ann", TRAIN, quarters=4)
    with pytest.raises(DataError, match="nobody who agreed"):
        shop.vault.opened_for(TRAIN)
    assert [entry.kind for entry in shop.journal.rows()][-1] == "doubt"


def test_of_whoever_is_switched_nothing_is_kept_and_nothing_deleted(shop: System) -> None:
    shop.agree("ann", "bob")
    shop.send(("ann", "a"), ("bob", "b"))
    for purpose in (TRAIN, RECOMMEND):
        switched(shop, "bob", purpose, state="ConsentWithdrawn")
    told = shop.send(("ann", "b"), ("bob", "c"))
    assert (told.kept, told.without_consent) == (1, 1)
    last = [entry.facts for entry in shop.journal.rows() if entry.kind == "collect"][-1]
    assert (last["without_consent"], last["unreadable"]) == ("1", "1")
    assert list(shop.vault.retain()) == [2]
    last = [entry.facts for entry in shop.journal.rows() if entry.kind == "retain"][-1]
    assert (last["purposeless"], last["unreadable"]) == ("0", "1")
    assert len(shop.vault.own(shop.who("bob"))) == 1


def test_a_purpose_that_was_not_switched_still_permits(shop: System) -> None:
    shop.agree("ann")
    switched(shop, "ann", TRAIN, state="ConsentWithdrawn")
    assert shop.send(("ann", "a")).kept == 1


def test_another_persons_standing_is_not_believed(shop: System) -> None:
    """Whoever copies a row, with its MAC, to somebody else switches nothing on."""
    shop.agree("ann")
    shop.agree("bob", purposes=[RECOMMEND])
    shop.send(("ann", "a"), ("bob", "b"))
    shop.consents.withdraw("bob", TRAIN)
    column = schema.standing.c
    row = shop.database.one(select(column.state, column.quarters, column.until, column.seq, column.mac).where(
        column.pseudonym == shop.who("ann"), column.purpose == TRAIN
    ))  # fmt: skip
    assert row is not None
    names = ("state", "quarters", "until", "seq", "mac")
    switched(shop, "bob", TRAIN, **dict(zip(names, row, strict=True)))
    assert len(shop.vault.opened_for(TRAIN)[0]) == 1


def test_events_are_not_lost_under_another_master_key(place: str | Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A key that is missing is no reason to acknowledge events that are not kept."""
    master = Master([new_key()])
    with system(place, master) as shop:
        shop.agree("ann")
        monkeypatch.setattr(shop.holders, "_wrapping", Master([new_key()]))
        with pytest.raises(KeyMissing):
            shop.send(("ann", "a"))
