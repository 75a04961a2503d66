"""The record: which edits of it are named, and at which row."""

import hashlib
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sqlalchemy import insert, text

from discreet.errors import (
    BudgetExceeded,
    LedgerCorrupted,
)
from discreet.governance import schema
from discreet.governance.journal import Head, chained
from discreet.governance.ledger import Account, Ledger
from discreet.governance.persons import Persons, digest
from discreet.governance.releases import ReleaseRow
from discreet.privacy import accounting

DELTA = 1e-6
TRAIN = Account("movies", "train")
TRENDS = Account("movies", "trends")
CAP = accounting.cap(2.0, DELTA)
PERSON_CAP = accounting.cap(1.0, DELTA)
SPEC = hashlib.sha256(b"plan").hexdigest()
OTHER = hashlib.sha256(b"another").hexdigest()


# Rows: 0 create, 1 open train, 2 open trends, 3 limit, 4 reserve a, 5 commit a, 6 reserve b, 7 refuse, 8 abandon b
HISTORY = 9


@pytest.fixture
def history(capped: Ledger) -> Ledger:
    capped.limit_person("movies", "p", epsilon=0.5, delta=DELTA)
    made = capped.reserve(TRAIN, cost=9, release="a", spec=SPEC, people=["p", "q"], prices=np.array([7, 7]))
    made.use(np.array([4, 4]))
    capped.commit("a", OTHER, made.used)
    capped.reserve(TRENDS, cost=8, release="b", spec=SPEC, people=["q"])
    with pytest.raises(BudgetExceeded):
        capped.reserve(TRAIN, cost=10 * CAP, release="c", spec=SPEC, people=["p"])
    capped.abandon("b")
    return capped


def test_clean_history(history: Ledger) -> None:
    found = history.verify(expected_head=history.journal.head())
    assert (found.ok, found.rows, found.head.seq) == (True, HISTORY, HISTORY - 1)
    found.require()


@pytest.mark.parametrize(
    ("statement", "row"),
    [
        ("UPDATE account SET spent = 0 WHERE name = 'movies/train'", 4),
        ("UPDATE account SET cap = cap * 2 WHERE name = 'movies/trends'", 6),
        ("UPDATE account SET person_cap = NULL", 6),
        ("UPDATE account SET dataset = 'x' WHERE name = 'movies/train'", 4),
        ("UPDATE account SET until = '2000-01-01T00:00:00Z' WHERE name = 'movies/train'", 4),
        ("UPDATE release SET cost = 1 WHERE name = 'a'", 5),
        ("UPDATE release SET artefact = spec WHERE name = 'a'", 5),
        ("UPDATE release SET state = 'reserved' WHERE name = 'b'", 8),
        ("UPDATE release SET cohort = (SELECT cohort FROM release WHERE name = 'b') WHERE name = 'a'", 5),
        ("DELETE FROM release WHERE name = 'b'", 8),
        ("UPDATE person SET cap = cap + 1", 3),
        ("DELETE FROM person", 3),
        ("UPDATE cohort SET members = zeroblob(32) WHERE length(members) = 32", 4),
        ("DELETE FROM cohort WHERE length(members) = 16", 6),
        ("UPDATE charge SET units = zeroblob(16) WHERE hex(units) LIKE '07%'", 4),
        ("DELETE FROM charge WHERE hex(units) LIKE '04%'", 5),
        ("UPDATE release SET prices = NULL WHERE name = 'a'", 5),
        ("UPDATE release SET used = NULL WHERE name = 'a'", 5),
        ("UPDATE secret SET value = randomblob(32)", 0),
        ("DROP INDEX release_of_account", 0),
        ("UPDATE journal SET body = replace(body, '\"9\"', '\"1\"') WHERE seq = 4", 4),
        ("DELETE FROM journal WHERE seq = 5", 5),
        ("DELETE FROM journal WHERE seq = 8", 6),
        (
            "INSERT INTO release "
            "SELECT 'z', account, cost, spec, asked, cohort, prices, state, artefact, used FROM release LIMIT 1",
            None,
        ),
        ("INSERT INTO account SELECT 'x/y', dataset, 1, delta, 1, 1, until, 0 FROM account LIMIT 1", None),
    ],
)
def test_tampering_is_named(history: Ledger, forge: Callable[..., None], statement: str, row: int | None) -> None:
    forge(statement)
    found = history.verify()
    assert found.problems
    assert found.problems[0].row == row
    with pytest.raises(LedgerCorrupted) as damaged:
        found.require()
    assert damaged.value.row == row


def test_dropped_trigger_is_named(history: Ledger, path: Path) -> None:
    history._db.execute(text("DROP TRIGGER spending_only_grows"))
    assert [problem.row for problem in history.verify().problems] == [0]


def test_schema_keeps_spending(history: Ledger) -> None:
    for statement in (
        "UPDATE account SET spent = spent - 1",
        "UPDATE account SET spent = cap + 1",
        "UPDATE account SET cap = cap - 1",
        "UPDATE account SET epsilon = epsilon / 2",
        "UPDATE account SET delta = delta * 2",
        "UPDATE account SET person_cap = 1",
        "DELETE FROM account",
        "DELETE FROM release",
        "UPDATE release SET cost = 1",
        "UPDATE person SET cap = cap + 1",
        "UPDATE cohort SET members = ''",
        "UPDATE charge SET units = ''",
        "UPDATE release SET prices = NULL",
        "UPDATE release SET used = NULL",
        "UPDATE secret SET value = ''",
    ):
        with pytest.raises(LedgerCorrupted, match="rules forbid"):
            history._db.execute(text(statement))
    assert history.verify().ok


OPENED: dict[str, Any] = {
    "name": str(TRAIN), "dataset": "movies", "epsilon": 1.0, "delta": DELTA,
    "cap": "5", "person_cap": None, "until": None, "spent": "0",
}  # fmt: skip
PACE = {
    "name": str(TRAIN), "rule": "fixed", "slots": "4", "per_year": "12", "begins": "2024-01-01T00:00:00Z", "base": "9",
}  # fmt: skip


RAISE = {
    "name": str(TRAIN), "epsilon": 3.0, "was": str(CAP), "cap": str(CAP + 1), "asked_by": "ann", "agreed_by": "bob",
}  # fmt: skip
UPGRADE = {"from": "3", "version": "4", "rules": "", "secrets": ""}


def test_edited_cohort_admits_nobody(history: Ledger, forge: Callable[..., None]) -> None:
    forge("UPDATE cohort SET members = zeroblob(32)")
    with pytest.raises(LedgerCorrupted, match="cohort"):
        history.reserve(TRENDS, cost=1, release="d", spec=SPEC, people=["q"])


@pytest.mark.parametrize(
    ("kind", "facts", "wrong"),
    [
        ("reserve", {"release": "a", "account": "movies/train", "cost": "1"}, "second time"),
        ("reserve", {"release": "n", "account": "movies/none", "cost": "1"}, "not open"),
        ("reserve", {"release": "n", "account": "movies/train", "cost": str(CAP)}, "than is left"),
        ("reserve", {"release": "n", "account": "movies/train", "cost": "-5"}, "than is left"),
        ("commit", {"release": "b", "artefact": SPEC}, "not reserved"),
        ("abandon", {"release": "zz"}, "not reserved"),
        ("pace", PACE | {"name": "movies/none"}, "sets a pace for budget movies/none, which is not open"),
        ("pace", PACE | {"base": "8"}, "sets a pace from a sum that was not what was spent"),
        ("raise", RAISE | {"name": "movies/none"}, "raises the cap of budget movies/none, which is not open"),
        ("raise", RAISE | {"agreed_by": "ann"}, "raises the cap of budget movies/train without two people"),
        ("raise", RAISE | {"agreed_by": ""}, "raises the cap of budget movies/train without two people"),
        ("raise", RAISE | {"agreed_by": None}, "raises the cap of budget movies/train without two people"),
        ("raise", RAISE | {"was": str(CAP - 1)}, "sets a cap of budget movies/train that is not above the one it had"),
        ("raise", RAISE | {"cap": str(CAP)}, "sets a cap of budget movies/train that is not above the one it had"),
        ("raise", RAISE | {"epsilon": 1.0}, "sets a cap of budget movies/train that is not above the one it had"),
        ("raise", RAISE | {"epsilon": "3"}, "not an event"),
        ("raise", {"name": "movies/train"}, "not an event"),
        ("upgrade", UPGRADE | {"from": "2"}, "upgrades the ledger to version 4, which had version 3"),
        ("upgrade", UPGRADE, "upgrades the ledger to version 4, which had version 3"),
        ("upgrade", UPGRADE | {"version": "3"}, "upgrades the ledger to version 3, which had version 3"),
        ("refund", {}, "not an event"),
        ("limit", {}, "not an event"),
        ("create", {"rules": "", "secrets": ""}, "second time"),
        ("refuse", {"account": "movies/train", "cost": "1", "left": "2"}, "refuses"),
    ],
)
def test_rows_against_the_protocol_are_named(history: Ledger, kind: str, facts: dict[str, Any], wrong: str) -> None:
    nothing = dict.fromkeys(("asked", "cohort", "prices", "used"))
    with history._db.transaction():
        history.journal.append(kind, **({"spec": SPEC} | nothing | facts))
    found = history.verify()
    assert HISTORY in {problem.row for problem in found.problems if wrong in problem.what}


@pytest.mark.parametrize(
    ("facts", "wrong"),
    [
        ({}, "opens budget movies/train a second time"),
        ({"name": "movies/new", "spent": "1"}, "opens budget movies/new a second time"),
        ({"name": "movies/train/2024"}, "opens budget movies/train/2024 beside others of another unit"),
        ({"cap": "many"}, "is not an event of this version"),
    ],
)
def test_budgets_that_cannot_be_opened_are_named(history: Ledger, facts: dict[str, str], wrong: str) -> None:
    with history._db.transaction():
        history.journal.append("open", **(OPENED | facts))
    assert (HISTORY, wrong) in {(problem.row, problem.what) for problem in history.verify().problems}


def test_restored_backup_is_noticed(history: Ledger, path: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy.db"
    with closing(sqlite3.connect(path)) as source, closing(sqlite3.connect(copy)) as backup:
        source.backup(backup)
    history.reserve(TRENDS, cost=1, release="later", spec=SPEC, people=["q"])
    head = history.journal.head()
    with Ledger(copy, create=False) as restored:
        assert restored.verify().ok
        found = restored.verify(expected_head=head)
        assert [problem.row for problem in found.problems] == [HISTORY]
        restored.reserve(TRENDS, cost=2, release="other", spec=SPEC, people=["q"])
        assert [problem.row for problem in restored.verify(expected_head=head).problems] == [HISTORY]
        assert restored.verify(expected_head=Head(0, restored.journal.hash_of(0) or "")).ok


def test_damaged_pages_are_typed(history: Ledger, path: Path) -> None:
    history.close()
    content = bytearray(path.read_bytes())
    content[4096:] = b"\xff" * (len(content) - 4096)
    path.write_bytes(content)
    with pytest.raises(LedgerCorrupted, match="damaged"), Ledger(path) as damaged:
        damaged.verify().require()


# --- Personal caps, replayed


def forged_row(ledger: Ledger, kind: str, **facts: str | None) -> None:
    with ledger._db.transaction():
        ledger.journal.append(kind, **facts)


def charge_past_the_checks(ledger: Ledger, release: str, cost: int, people: list[str] | None) -> int:
    """Write a release as a faulty program would that forgot personal caps, journal and all; return its row."""
    persons = Persons(ledger._db)
    members = None if people is None else np.unique(persons.crowd("movies", people))
    with ledger._db.transaction():
        if members is not None:
            persons.keep(members)
        key = digest(members)
        ledger._db.execute(text("UPDATE account SET spent = spent + :cost WHERE name = 'movies/trends'"), cost=cost)
        row = ReleaseRow(release, str(TRENDS), cost, SPEC, key, key)
        ledger._db.execute(insert(schema.release), **row._asdict())
        facts = {"account": str(TRENDS), "cost": str(cost), "spec": SPEC, "asked": key, "cohort": key, "prices": None}
        return ledger.journal.append("reserve", release=release, **facts)


OWN_CAP = accounting.cap(0.5, DELTA)


@pytest.mark.parametrize(
    ("people", "cost", "fits"),
    [
        (["q"], PERSON_CAP - 15, True),  # q has spent 7 + 8
        (["q"], PERSON_CAP - 14, False),
        (["p"], OWN_CAP - 7, True),
        (["p"], OWN_CAP - 6, False),
        (["new"], PERSON_CAP, True),
        (["new"], PERSON_CAP + 1, False),
        (["new", "p"], OWN_CAP, False),
        (["new", "p", "q"], OWN_CAP - 7, True),
        (None, 1, False),
    ],
)
def test_a_cohort_above_personal_caps_is_named(
    history: Ledger, people: list[str] | None, cost: int, fits: bool
) -> None:
    row = charge_past_the_checks(history, "forced", cost, people)
    found = history.verify()
    said = "names nobody of movies" if people is None else "admits somebody to forced above their own cap"
    assert found.ok is fits
    assert [problem.row for problem in found.problems] == ([] if fits else [row])
    assert all(problem.what.startswith(said) for problem in found.problems)


def test_caps_are_those_of_the_time(history: Ledger) -> None:
    history.reserve(TRENDS, cost=OWN_CAP, release="late", spec=SPEC, people=["new"])
    history.limit_person("movies", "new", epsilon=0.1, delta=DELTA)
    history.open_budget(Account("movies", "strict"), epsilon=1.0, delta=DELTA, person_epsilon=0.05)
    assert history.verify().ok
    row = charge_past_the_checks(history, "forced", 1, ["new"])
    assert [problem.row for problem in history.verify().problems] == [row]


def test_releases_without_names_count_in_the_replay(ledger: Ledger) -> None:
    ledger.reserve(TRAIN, cost=PERSON_CAP, release="all", spec=SPEC)
    ledger.open_budget(TRENDS, epsilon=8.0, delta=DELTA, person_epsilon=1.0)
    assert ledger.verify().ok
    row = charge_past_the_checks(ledger, "forced", 1, ["anybody"])
    assert [problem.row for problem in ledger.verify().problems] == [row]


@pytest.mark.parametrize(("over", "fits"), [(0, True), (1, False)])
def test_releases_of_single_choices_are_no_sum_of_anybodys(ledger: Ledger, over: int, fits: bool) -> None:
    choices = Account("movies", "trending", by_interaction=True)
    ledger.open_budget(choices, epsilon=1.0, delta=DELTA)
    for release in ("monday", "tuesday"):
        ledger.reserve(choices, cost=5, release=release, spec=SPEC)
    ledger.open_budget(TRENDS, epsilon=8.0, delta=DELTA, person_epsilon=1.0)
    assert ledger.person("movies", "anybody").spent == 0
    charge_past_the_checks(ledger, "forced", PERSON_CAP + over, ["anybody"])
    assert ledger.verify().ok is fits


def test_caps_of_one_data_set_bind_no_other(history: Ledger) -> None:
    music = Account("music", "train")
    history.open_budget(music, epsilon=8.0, delta=DELTA)
    history.reserve(music, cost=2 * PERSON_CAP, release="loud", spec=SPEC, people=["p", "q"])
    history.reserve(music, cost=1, release="unnamed", spec=SPEC)
    assert history.verify().ok


def test_a_raised_cap_in_the_journal_is_named(history: Ledger) -> None:
    pseudonym = Persons(history._db).crowd("movies", ["new"]).tobytes().hex()
    row = history.journal.head().seq + 1
    forged_row(history, "limit", dataset="movies", pseudonym=pseudonym, cap=str(PERSON_CAP + 1))
    problems = history.verify().problems
    assert (row, "raises a person's cap") in {(problem.row, problem.what) for problem in problems}
    assert not any(pseudonym in problem.what for problem in problems)


# --- Nonsense, chained anew: whatever it is, it is named and nothing else is raised


@pytest.mark.parametrize(
    "body",
    [
        "[]",
        "{}",
        "null",
        '"text"',
        '{"kind": "open"}',
        '{"kind": ["open"], "at": "x"}',
        '{"kind": "open", "at": "x"}',
        '{"kind": "open", "at": "x", "cap": [], "spent": {}}',
        '{"kind": "open", "at": "x", "cap": "1e5", "spent": "0", "person_cap": null}',
        '{"kind": "open", "at": "x", "cap": "5", "spent": "0", "person_cap": null, "stray": 1}',
        '{"kind": "limit", "at": "x", "dataset": "movies", "pseudonym": "zz", "cap": "1"}',
        '{"kind": "limit", "at": "x", "dataset": "movies", "pseudonym": "00", "cap": "1"}',
        '{"kind": "limit", "at": "x", "dataset": [], "pseudonym": "00", "cap": "1"}',
        '{"kind": "limit", "at": "x", "dataset": "movies", "pseudonym": 7, "cap": "1"}',
        '{"kind": "reserve", "at": null, "release": {}, "account": [], "cost": "1", "asked": 1, "cohort": 1}',
        '{"kind": "commit", "at": "x", "release": {}, "artefact": "y"}',
        '{"kind": "commit", "at": "x", "release": "a"}',
        '{"kind": "refuse", "at": "x", "account": {}, "cost": "1", "left": "0"}',
        '{"kind": "refuse", "at": "x", "account": "movies/train", "cost": "many", "left": "0"}',
        "[" * 100_000,
        '{"kind": "reserve", "at": "x", "cost": ' + "9" * 5000 + "}",
        '{"kind": "create", "at": "\\ud800", "rules": "", "secrets": ""}',
    ],
    ids=range(22),
)
def test_chained_nonsense_is_named(history: Ledger, body: str) -> None:
    head = history.journal.head()
    digest_of = chained(bytes.fromhex(head.hash), head.seq + 1, body.encode())
    history._db.execute(insert(schema.journal), seq=head.seq + 1, body=body, hash=digest_of)
    assert HISTORY in {problem.row for problem in history.verify().problems}


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE account SET spent = 'none'",
        "UPDATE account SET name = CAST(x'ff' AS TEXT) WHERE name = 'movies/trends'",
        "UPDATE account SET until = x'00ff'",
        "UPDATE account SET delta = 'small'",
        "UPDATE release SET name = 'two' || char(10) || 'lines' WHERE name = 'a'",
        "UPDATE release SET cost = 1.5",
        "UPDATE release SET state = NULL, artefact = 7 WHERE 0",
        "UPDATE person SET pseudonym = 'text'",
        "UPDATE person SET cap = 'none'",
        "UPDATE cohort SET members = 'text'",
        "UPDATE cohort SET members = x''",
        "UPDATE charge SET units = 'text'",
        "UPDATE charge SET units = x''",
        "UPDATE release SET prices = 'text'",
        "UPDATE release SET used = 5",
        "UPDATE secret SET value = 'text'",
        "UPDATE journal SET hash = 'thirty-two letters, not a hash..' WHERE seq = 8",
        "UPDATE journal SET body = 5",
    ],
)
def test_forged_values_of_any_type_are_named(history: Ledger, forge: Callable[..., None], statement: str) -> None:
    forge(statement)
    found = history.verify()
    assert found.ok is statement.endswith("WHERE 0")
    assert all(problem.what.isprintable() for problem in found.problems)


@pytest.mark.parametrize("seq", [-2, -1, 10**6, 2**63 - 1, 2**63, 2**70])
def test_heads_of_no_row(history: Ledger, seq: int) -> None:
    found = history.verify(expected_head=Head(seq, SPEC))
    assert [problem.row for problem in found.problems] == [HISTORY]
    assert f"its head of row {seq} was kept elsewhere" in found.problems[0].what


def test_heads_in_capitals(history: Ledger) -> None:
    head = history.journal.head()
    assert history.verify(expected_head=Head(head.seq, head.hash.upper())).ok


def test_a_head_of_another_hash(history: Ledger) -> None:
    found = history.verify(expected_head=Head(3, "00" * 32))
    assert [(problem.row, problem.what) for problem in found.problems] == [
        (3, "row 3 is not the one whose hash was kept elsewhere")
    ]


def test_first_problem_is_the_first_row(history: Ledger, forge: Callable[..., None]) -> None:
    forge(
        "INSERT INTO account SELECT 'x/y', dataset, 1, delta, 1, 1, until, 0 FROM account LIMIT 1",
        "UPDATE person SET cap = cap + 1",
        "UPDATE release SET cost = 1 WHERE name = 'b'",
        "UPDATE account SET spent = 0 WHERE name = 'movies/train'",
    )
    rows = [problem.row for problem in history.verify().problems]
    assert rows == [3, 4, 8, None]


def test_lost_tail_is_seen_by_the_tables(history: Ledger, forge: Callable[..., None]) -> None:
    forge("DELETE FROM journal WHERE seq >= 4")
    assert not history.verify().ok


def test_verification_does_not_write(history: Ledger, path: Path) -> None:
    before = history.journal.head()
    for _ in range(3):
        assert history.verify().ok
    assert history.journal.head() == before


def test_thousands_of_rows(ledger: Ledger, path: Path) -> None:
    ledger._db._run("PRAGMA synchronous = OFF")
    ledger.open_budget(TRENDS, epsilon=8.0, delta=DELTA, person_epsilon=8.0)
    for number in range(1000):
        ledger.reserve(TRENDS, cost=3, release=f"r{number}", spec=SPEC, people=["p", f"q{number % 10}"])
    found = ledger.verify()
    assert (found.ok, found.rows) == (True, 1003)
    assert ledger.person("movies", "p").spent == 3000
    assert ledger.person("movies", "q1").spent == 300
