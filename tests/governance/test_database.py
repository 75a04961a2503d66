"""The file: durable, private, and typed in how it fails."""

import hashlib
import os
import sqlite3
import threading
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path

import pytest
from sqlalchemy import text

from discreet.errors import (
    BudgetExceeded,
    LedgerCorrupted,
    LedgerError,
    SettingError,
)
from discreet.governance.ledger import Account, Ledger
from discreet.governance.sqlite import SQLite
from discreet.privacy import accounting

DELTA = 1e-6
TRAIN = Account("movies", "train")
TRENDS = Account("movies", "trends")
CAP = accounting.cap(2.0, DELTA)
PERSON_CAP = accounting.cap(1.0, DELTA)
SPEC = hashlib.sha256(b"plan").hexdigest()
OTHER = hashlib.sha256(b"another").hexdigest()


def sqlite_of(ledger: Ledger) -> SQLite:
    assert isinstance(ledger._db, SQLite)
    return ledger._db


def test_durability_and_mode(ledger: Ledger, path: Path) -> None:
    assert path.stat().st_mode & 0o777 == 0o600
    database = sqlite_of(ledger)
    assert [database.setting(name) for name in ("journal_mode", "synchronous", "foreign_keys")] == ["wal", 2, 1]


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(LedgerError, match="discreet budget open"):
        Ledger(tmp_path / "none.db", create=False)
    with pytest.raises(LedgerError, match="cannot be created"):
        Ledger(tmp_path / "no folder" / "none.db")
    with pytest.raises(LedgerError, match="cannot be opened"):
        Ledger(tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("content", [b"", b"user_id,item_id\n" * 100, b"\x00" * 5000])
def test_other_files_stay_untouched(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    with pytest.raises(LedgerError):
        Ledger(path)
    assert path.read_bytes() == content
    assert list(path.parent.iterdir()) == [path]


def test_other_version(ledger: Ledger, path: Path) -> None:
    sqlite_of(ledger).setting("user_version = 4")
    for create in (True, False):
        with pytest.raises(LedgerError, match=r"version 3 \(found version 4\)"):
            Ledger(path, create=create)


def test_closed_ledger(path: Path) -> None:
    with Ledger(path) as closed:
        pass
    with pytest.raises(LedgerError):
        closed.accounts()


@pytest.mark.parametrize("replaced", [False, True])
def test_nothing_is_written_to_a_file_that_is_no_longer_at_its_place(
    ledger: Ledger, path: Path, replaced: bool
) -> None:
    ledger.open_budget(TRAIN, epsilon=2.0, delta=DELTA)
    elsewhere = path.rename(path.with_name("elsewhere.db"))
    if replaced:
        path.write_bytes(elsewhere.read_bytes())
    for attempt in (lambda: ledger.reserve(TRAIN, cost=1, release="r", spec=SPEC), ledger.verify):
        with pytest.raises(LedgerError, match=r"while it was open; put it back"):
            attempt()
    elsewhere.rename(path)
    ledger.reserve(TRAIN, cost=1, release="r", spec=SPEC)
    assert ledger.verify().ok


def test_a_file_is_claimed_by_whoever_locks_its_folder(ledger: Ledger, path: Path) -> None:
    with Ledger(path) as other:
        for each in (ledger, other):
            each._db.claim()
    assert ledger.verify().ok


def test_busy_deadline(ledger: Ledger, path: Path) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as other, Ledger(path, deadline=0.05) as waiting:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(LedgerError, match=r"busy by another process for 0.05 s"):
            waiting.reserve(TRAIN, cost=1, release="r", spec=SPEC)
        other.execute("ROLLBACK")
        assert waiting.reserve(TRAIN, cost=1, release="r", spec=SPEC).state == "reserved"


def test_database_full(ledger: Ledger, path: Path) -> None:
    database = sqlite_of(ledger)
    database.setting(f"max_page_count = {database.setting('page_count')}")
    with pytest.raises(LedgerError, match="free space"):
        any(ledger.reserve(TRAIN, cost=1, release=f"r{number}", spec=SPEC).drawn for number in range(10_000))
    granted = len(ledger.releases())
    assert ledger.account(TRAIN).spent == granted > 0
    assert ledger.verify().ok
    database.setting("max_page_count = 1000000")
    ledger.reserve(TRAIN, cost=1, release=f"r{granted}", spec=SPEC)
    assert ledger.account(TRAIN).spent == granted + 1


def test_a_deadline_that_would_not_wait(path: Path) -> None:
    with pytest.raises(SettingError, match="deadline"):
        Ledger(path, deadline=float("inf"))
    assert not path.exists()


@pytest.mark.parametrize("name", ["x" * 300, "x" * 240])
def test_names_too_long_for_the_disk(tmp_path: Path, name: str) -> None:
    with pytest.raises(LedgerError, match=r"cannot be (reached|created)"):
        Ledger(tmp_path / name)
    assert list(tmp_path.iterdir()) == []


def test_a_link_to_nowhere_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "ledger.db").symlink_to(tmp_path / "elsewhere.db")
    with pytest.raises(LedgerError, match="cannot be opened"):
        Ledger(tmp_path / "ledger.db")
    assert not (tmp_path / "elsewhere.db").exists()


@pytest.mark.parametrize("name", ["a b.db", "a%20b.db", "a?mode=ro.db", "a#b.db", "ü.db", "-a.db", "a;b'.db"])
def test_names_that_mean_something_in_an_address(tmp_path: Path, name: str) -> None:
    with Ledger(tmp_path / name) as ledger:
        ledger.open_budget(TRAIN, epsilon=1.0, delta=DELTA)
    assert [path.name for path in tmp_path.iterdir()] == [name]
    with Ledger(str(tmp_path / name), create=False) as ledger:
        assert len(ledger.accounts()) == 1


@pytest.mark.parametrize("number", [2**63, -(2**63) - 1])
def test_a_number_beyond_what_is_stored_is_typed(path: Path, number: int) -> None:
    with Ledger(path) as ledger:
        assert ledger._db.one(text("SELECT :n"), n=2**63 - 1) == (2**63 - 1,)
        with pytest.raises(LedgerCorrupted, match="is damaged or is not a ledger"):
            ledger._db.one(text("SELECT :n"), n=number)


def test_closing_twice(path: Path) -> None:
    ledger = Ledger(path)
    ledger.close()
    ledger.close()
    with pytest.raises(LedgerError, match="is closed"):
        ledger.verify()
    with pytest.raises(LedgerError, match="is closed"):
        ledger.journal.append("note")


def told_in(run: Callable[[Callable[[], None]], None], act: Callable[[], object]) -> list[str]:
    """The error, if any, that ``act`` raises where ``run`` runs it."""
    told: list[str] = []

    def attempt() -> None:
        try:
            act()
        except LedgerError as error:
            told.append(str(error))

    run(attempt)
    return told


def in_thread(act: Callable[[], None]) -> None:
    thread = threading.Thread(target=act)
    thread.start()
    thread.join()


def test_another_thread_is_refused(ledger: Ledger) -> None:
    for act in (ledger.accounts, ledger.verify, ledger.close, lambda: ledger.commit("r", SPEC)):
        assert "another thread" in told_in(in_thread, act)[0]
    assert ledger.verify().ok


@pytest.mark.parametrize("process", [1, 1 << 40])
def test_a_fork_is_refused(ledger: Ledger, monkeypatch: pytest.MonkeyPatch, process: int) -> None:
    with monkeypatch.context() as forked:
        forked.setattr(os, "getpid", lambda: process)
        for act in (ledger.accounts, lambda: ledger.reserve(TRAIN, cost=1, release="r", spec=SPEC)):
            with pytest.raises(LedgerError, match="opened by another process"):
                act()
    assert ledger.account(TRAIN).spent == 0


def test_reading_goes_on_while_another_writes(ledger: Ledger, path: Path) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as other, Ledger(path, deadline=0.05) as reading:
        other.execute("BEGIN IMMEDIATE")
        other.execute("UPDATE account SET spent = 5")
        assert reading.account(TRAIN).spent == 0
        assert reading.verify().ok
        other.execute("ROLLBACK")


def spend_and_be_interrupted(ledger: Ledger) -> None:
    with ledger._db.transaction():
        ledger._db.execute(text("UPDATE account SET spent = 5"))
        raise KeyboardInterrupt


def test_an_interrupted_block_leaves_nothing_open(ledger: Ledger) -> None:
    with pytest.raises(KeyboardInterrupt):
        spend_and_be_interrupted(ledger)
    assert not ledger._db.in_transaction
    assert ledger.account(TRAIN).spent == 0


def test_a_part_is_undone_alone_and_lasts_with_the_whole(ledger: Ledger) -> None:
    database = ledger._db

    def spend(more: int) -> None:
        database.execute(text("UPDATE account SET spent = spent + :more"), more=more)

    def fail(more: int) -> None:
        with database.transaction():
            spend(more)
            raise ZeroDivisionError

    with database.transaction():
        spend(1)
        with pytest.raises(ZeroDivisionError):
            fail(100)
        with database.transaction(), database.snapshot():
            spend(10)
            with pytest.raises(ZeroDivisionError):
                fail(100)
    assert not database.in_transaction
    assert ledger.account(TRAIN).spent == 11
    with suppress(ZeroDivisionError), database.transaction():
        with database.transaction():
            spend(100)
        raise ZeroDivisionError
    assert ledger.account(TRAIN).spent == 11


def test_a_part_of_what_the_database_gave_up(ledger: Ledger) -> None:
    """Of some errors SQLite undoes everything by itself."""
    database = ledger._db
    with suppress(LedgerError), database.transaction(), database.transaction():
        database.execute(text("ROLLBACK"))
        raise LedgerError
    assert not database.in_transaction
    assert ledger.account(TRAIN).spent == 0


def test_a_refusal_is_told_though_the_disk_is_full(ledger: Ledger, path: Path) -> None:
    database = sqlite_of(ledger)
    database.setting(f"max_page_count = {database.setting('page_count')}")
    said = []
    for number in range(200):
        with pytest.raises(BudgetExceeded) as refused:
            ledger.reserve(TRAIN, cost=CAP + 1, release=f"r{number}", spec=SPEC)
        assert (refused.value.asked, refused.value.left, refused.value.account) == (CAP + 1, CAP, "movies/train")
        said.append(str(refused.value))
    unrecorded = [text for text in said if "could not be put on record: ledger.db could not be written" in text]
    recorded = [entry for entry in ledger.journal.rows() if entry.kind == "refuse"]
    assert len(unrecorded) > 100
    assert len(recorded) + len(unrecorded) == 200
    assert said[0] not in unrecorded
    assert ledger.verify().ok
    assert ledger.account(TRAIN).left == CAP


def test_a_refusal_is_told_though_the_file_is_busy(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    def busy(kind: str, **facts: str | None) -> int:
        raise LedgerError("ledger.db was kept busy by another process for 5 s; try again")

    monkeypatch.setattr(ledger.journal, "append", busy)
    with pytest.raises(BudgetExceeded, match=r"not be put on record: ledger\.db was kept busy") as refused:
        ledger.reserve(TRAIN, cost=CAP + 1, release="r", spec=SPEC)
    assert "\n" not in str(refused.value)
    with pytest.raises(LedgerError, match="busy"):
        ledger.reserve(TRAIN, cost=1, release="r", spec=SPEC)
    assert ledger.account(TRAIN).spent == 0


@pytest.mark.parametrize(
    "statement",
    [
        "INSERT OR REPLACE INTO account SELECT name, dataset, epsilon, delta, cap, person_cap, until, 0 FROM account",
        "INSERT OR REPLACE INTO account (rowid, name, dataset, epsilon, delta, cap) VALUES (1, 'a/b', 'a', 1, 0.1, 9)",
        "UPDATE OR REPLACE account SET rowid = 2 WHERE rowid = 1",
        "UPDATE OR REPLACE account SET name = 'movies/trends' WHERE name = 'movies/train'",
        "INSERT OR REPLACE INTO release "
        "SELECT name, account, 1, spec, asked, cohort, prices, state, artefact, used FROM release",
        "UPDATE OR REPLACE release SET rowid = 2 WHERE rowid = 1",
        "UPDATE release SET state = 'committed', artefact = spec, cost = 1 WHERE name = 'r'",
        "INSERT OR REPLACE INTO person SELECT dataset, pseudonym, cap * 2 FROM person",
        "UPDATE OR REPLACE person SET rowid = 2 WHERE rowid = 1",
        "INSERT OR REPLACE INTO cohort SELECT digest, zeroblob(16) FROM cohort",
        "INSERT OR REPLACE INTO secret SELECT name, zeroblob(32) FROM secret",
        "DELETE FROM secret",
        "DELETE FROM person",
        "DELETE FROM cohort",
        "INSERT OR REPLACE INTO journal SELECT seq, '{}', hash FROM journal",
        "INSERT INTO journal SELECT seq + 100, body, hash FROM journal LIMIT 1",
        "INSERT INTO journal SELECT -1, body, hash FROM journal LIMIT 1",
        "UPDATE account SET spent = 'plenty'",
        "UPDATE account SET spent = 7.5",
        "UPDATE account SET spent = NULL",
        "INSERT INTO release SELECT 'n', account, -1, spec, NULL, NULL, NULL, 'reserved', NULL, NULL FROM release",
        "INSERT INTO release SELECT 'n', account, 1, spec, NULL, cohort, NULL, 'reserved', NULL, NULL FROM release",
        "INSERT INTO release SELECT 'n', account, 1, spec, NULL, NULL, NULL, 'committed', NULL, NULL FROM release",
        "INSERT INTO release SELECT 'n', account, 1, spec, NULL, NULL, NULL, 'refunded', NULL, NULL FROM release",
        "INSERT INTO release SELECT 'n', 'no/account', 1, spec, NULL, NULL, NULL, 'reserved', NULL, NULL FROM release",
        "INSERT INTO charge VALUES ('d', zeroblob(9))",
        "INSERT INTO charge VALUES ('d', 'eightltr')",
        "INSERT INTO release SELECT 'n', account, 1, spec, NULL, NULL, 'd', 'reserved', NULL, NULL FROM release",
        "INSERT INTO cohort VALUES ('d', x'')",
        "INSERT INTO cohort VALUES ('d', zeroblob(17))",
        "INSERT INTO cohort VALUES ('d', 'sixteen letters.')",
        "INSERT INTO person VALUES ('movies', zeroblob(15), 1)",
        "INSERT INTO person VALUES ('movies', zeroblob(16), -1)",
    ],
)
def test_the_file_refuses(capped: Ledger, path: Path, statement: str) -> None:
    capped.limit_person("movies", "ann", epsilon=0.9, delta=DELTA)
    capped.limit_person("movies", "bob", epsilon=0.8, delta=DELTA)
    capped.reserve(TRAIN, cost=7, release="r", spec=SPEC, people=["ann"])
    capped.reserve(TRAIN, cost=7, release="s", spec=SPEC, people=["ann", "bob"])
    with closing(sqlite3.connect(path, isolation_level=None)) as shell:
        shell.execute("PRAGMA foreign_keys = ON")
        with pytest.raises(sqlite3.IntegrityError):
            shell.execute(statement)
    assert capped.verify().ok


@pytest.mark.parametrize("table", ["account", "release", "person", "cohort", "secret", "journal"])
def test_a_lost_table_is_typed(ledger: Ledger, path: Path, table: str) -> None:
    with closing(sqlite3.connect(path)) as shell, shell:
        shell.execute(f"DROP TABLE {table}")
    with pytest.raises(LedgerCorrupted, match="lacks a table"):
        ledger.verify()


def test_an_added_column_is_named(ledger: Ledger, path: Path) -> None:
    with closing(sqlite3.connect(path)) as shell, shell:
        shell.execute("ALTER TABLE account ADD COLUMN note TEXT")
        shell.execute("ALTER TABLE release ADD COLUMN note TEXT")
    assert [problem.row for problem in ledger.verify().problems] == [0]
    assert ledger.account(TRAIN).cap == CAP


def test_what_cannot_be_settled_is_said(tmp_path: Path) -> None:
    """Somebody is reading: SQLite then says that it is busy, rather than fail."""
    with Ledger(tmp_path / "ledger.db") as ledger, Ledger(tmp_path / "ledger.db") as reader:
        database = sqlite_of(ledger)
        with reader._db.snapshot():
            reader._db.one(text("SELECT COUNT(*) FROM journal"))
            ledger.open_budget(Account("movies", "train"), epsilon=1.0, delta=1e-6)
            database.setting("busy_timeout = 1")
            with pytest.raises(LedgerError, match="in use by another process"):
                database.settle()
        database.settle()
