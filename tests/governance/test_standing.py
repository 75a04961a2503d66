"""A ledger whose own numbers disagree charges nothing, and what is damaged in it is told as damage."""

import hashlib
import sqlite3
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
from sqlalchemy import insert, text

from discreet.errors import LedgerCorrupted, LedgerError
from discreet.governance import schema, tables
from discreet.governance.database import Database
from discreet.governance.journal import chained
from discreet.governance.ledger import Account, Ledger
from discreet.governance.sqlite import SQLite

DELTA = 1e-6
TRAIN = Account("movies", "train")
SPEC = hashlib.sha256(b"plan").hexdigest()


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE account SET spent = 0",
        "UPDATE account SET cap = cap * 10",
        "UPDATE account SET until = '2099-01-01T00:00:00Z'",
        "UPDATE account SET person_cap = 5",
        "DELETE FROM journal",
        "DELETE FROM journal WHERE seq = 1",
        "DELETE FROM journal WHERE seq = 2",
        'UPDATE journal SET body = replace(body, \'"cost":"7"\', \'"cost":"1"\')',
        "DELETE FROM release",
        "UPDATE release SET cost = 1",
        "UPDATE secret SET value = randomblob(32)",
        "UPDATE secret SET value = ''",
        "DELETE FROM secret",
        "CREATE TABLE another (column)",
    ],
)
def test_nothing_is_charged(ledger: Ledger, forge: Callable[..., None], statement: str) -> None:
    for number in range(2):
        ledger.reserve(TRAIN, cost=7, release=f"r{number}", spec=SPEC, people=["ann"])
    forge(statement)
    before = ledger._db.one(text("SELECT COUNT(*), MAX(seq) FROM journal"))
    with pytest.raises(LedgerCorrupted) as refused:
        ledger.reserve(TRAIN, cost=1, release="new", spec=SPEC, people=["ann"])
    assert refused.value.exit_code == 3
    assert ledger._db.one(text("SELECT 1 FROM release WHERE name = 'new'")) is None
    assert ledger._db.one(text("SELECT COUNT(*), MAX(seq) FROM journal")) == before


@pytest.mark.parametrize(
    ("table", "column"), [("journal", "body"), ("journal", "hash"), ("cohort", "members"), ("charge", "units")]
)
def test_nothing_where_something_has_to_be(ledger: Ledger, path: Path, table: str, column: str) -> None:
    """As damage to a page leaves it: no rule of the file lets it be written."""
    made = ledger.reserve(TRAIN, cost=7, release="r", spec=SPEC, people=["ann"])
    made.use(np.array([3]))
    ledger.commit("r", SPEC, made.used)
    ledger.close()
    with closing(sqlite3.connect(path, isolation_level=None)) as shell:
        (rule,) = shell.execute("SELECT sql FROM sqlite_schema WHERE name = ?", (table,)).fetchone()
        triggers = shell.execute("SELECT name, sql FROM sqlite_schema WHERE type = 'trigger'").fetchall()
        for name, _ in triggers:
            shell.execute(f"DROP TRIGGER {name}")
        shell.execute("PRAGMA writable_schema = ON")
        loose = rule.replace(" NOT NULL", "")
        shell.execute("UPDATE sqlite_schema SET sql = ? WHERE name = ?", (loose.split(", \n\tCHECK")[0] + ")", table))
    with closing(sqlite3.connect(path, isolation_level=None)) as shell:
        shell.execute("PRAGMA ignore_check_constraints = ON")
        shell.execute(f"UPDATE {table} SET {column} = NULL")  # noqa: S608 - names from above
        for _, sql in triggers:
            shell.execute(sql)
        shell.execute("PRAGMA writable_schema = ON")
        shell.execute("UPDATE sqlite_schema SET sql = ? WHERE name = ?", (rule, table))
    with Ledger(path, create=False) as damaged:
        try:
            found = damaged.verify()
        except LedgerCorrupted:
            return
        assert not found.ok


@pytest.mark.parametrize("at", [b"yesterday", b"2027-01-01T00:00:00+02:00"])
def test_an_account_of_time_that_is_none(ledger: Ledger, forge: Callable[..., None], at: bytes) -> None:
    body = b'{"at":"%s","kind":"abandon","release":"r"}' % at
    head = ledger.journal.head()
    digest = chained(bytes.fromhex(head.hash), head.seq + 1, body)
    ledger._db.execute(insert(schema.journal), seq=head.seq + 1, body=body.decode(), hash=digest)
    (problem,) = ledger.verify().problems
    assert (problem.row, problem.what) == (head.seq + 1, f"journal row {head.seq + 1} is not an event")


def test_an_unread_query_of_a_closed_file_says_nothing(ledger: Ledger) -> None:
    rows = ledger._db.each(text("SELECT seq FROM journal"))
    next(rows)
    ledger.close()
    with mock.patch.object(sys, "unraisablehook") as unheard:
        del rows  # what goes wrong here nobody could catch
    assert not unheard.called


@pytest.mark.parametrize("facts", [{}, {"cap": "many"}, {"cap": None}])
def test_a_budget_that_no_sound_row_opens(ledger: Ledger, forge: Callable[..., None], facts: dict[str, str]) -> None:
    new = Account("films", "train")
    forge(
        "INSERT INTO account SELECT 'films/train', 'films', epsilon, delta, cap, person_cap, until, 0 FROM account",
    )
    with pytest.raises(LedgerCorrupted, match="no row of the journal opens budget films/train"):
        ledger.outlook(new)
    with pytest.raises(LedgerCorrupted, match="is not what was agreed on") as unheard:
        ledger.reserve(new, cost=1, release="r", spec=SPEC)
    assert unheard.value.row is None
    with ledger._db.transaction():
        row = ledger.journal.append("open", name="films/train", person_cap=None, **facts)
    with pytest.raises(LedgerCorrupted, match="is not what was agreed on") as unsound:
        ledger.reserve(new, cost=1, release="r", spec=SPEC)
    assert unsound.value.row == row


def test_a_dropped_trigger_stops_charging(ledger: Ledger, path: Path) -> None:
    ledger._db.execute(text("DROP TRIGGER spending_only_grows"))
    with pytest.raises(LedgerCorrupted, match="rules of the file") as refused:
        ledger.reserve(TRAIN, cost=1, release="r", spec=SPEC)
    assert refused.value.row == 0


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE account SET spent = 'abc'",
        "UPDATE account SET spent = -5",
        "UPDATE account SET spent = 9223372036854775807",
        "UPDATE account SET delta = 2.0",
        "UPDATE account SET epsilon = 'x'",
        "UPDATE account SET until = 'soon'",
        "UPDATE account SET until = 5",
        "UPDATE account SET dataset = 'a/b', name = 'a/b/train'",
        "UPDATE account SET dataset = x'00ff'",
    ],
)
def test_damaged_budgets_are_told_as_damage(ledger: Ledger, forge: Callable[..., None], statement: str) -> None:
    forge("PRAGMA foreign_keys = OFF", statement)
    with pytest.raises(LedgerCorrupted, match="journal verify"):
        ledger.accounts()
    assert not ledger.verify().ok


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE release SET cost = 'abc'",
        "UPDATE release SET cost = -1",
        "UPDATE release SET state = 'lost'",
        "UPDATE release SET spec = 5",
        "UPDATE release SET artefact = '../elsewhere', state = 'committed'",
    ],
)
def test_damaged_releases_are_told_as_damage(ledger: Ledger, forge: Callable[..., None], statement: str) -> None:
    ledger.reserve(TRAIN, cost=7, release="r", spec=SPEC)
    forge(statement)
    for look in (ledger.releases, lambda: ledger.artefact("r")):
        with pytest.raises(LedgerCorrupted, match="journal verify"):
            look()


def test_damaged_caps_are_told_as_damage(capped: Ledger, forge: Callable[..., None]) -> None:
    capped.limit_person("movies", "ann", epsilon=0.5, delta=DELTA)
    for statement in ("UPDATE person SET cap = 'abc'", "UPDATE person SET cap = 1, pseudonym = x'00'"):
        forge(statement)
        with pytest.raises(LedgerCorrupted, match="journal verify"):
            capped.reserve(TRAIN, cost=1, release="r", spec=SPEC, people=["ann"])


def test_words_that_are_not_text_are_damage(path: Path) -> None:
    with Ledger(path):
        pass
    content = path.read_bytes()
    path.write_bytes(content.replace(b"CREATE TABLE account (", b"CREATE TABLE \xff\xfe\xff\xfe\xff\xfe\xff ?"))
    with pytest.raises(LedgerCorrupted), Ledger(path) as damaged:
        damaged.accounts()


def test_a_ledger_where_nothing_can_be_written(path: Path) -> None:
    with Ledger(path) as ledger:
        ledger.open_budget(TRAIN, epsilon=2.0, delta=DELTA)
    path.with_name("ledger.db-shm").symlink_to("/nowhere/at/all")  # as on read-only media, this file cannot be made
    with pytest.raises(LedgerError, match="cannot be opened for writing"):
        Ledger(path)
    with Ledger(path, create=False) as reader:
        assert reader.verify().ok
        assert len(reader.accounts()) == 1
        with pytest.raises(LedgerError, match="cannot be opened for writing"):
            reader.reserve(TRAIN, cost=1, release="r", spec=SPEC)
    path.with_name("ledger.db-wal").write_bytes(b"rows that are not in the file yet")
    with pytest.raises(LedgerError, match="copy both"):
        Ledger(path, create=False)


def test_a_failed_making_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(database: Database) -> None:
        assert isinstance(database, SQLite)
        for end in ("-wal", "-shm"):  # as a disk that fails leaves them
            database.path.with_name(f"{database.path.name}{end}").touch()
        database._connection = sqlite3.connect(":memory:")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(tables, "_first_row", broken)
    with pytest.raises(LedgerError, match="cannot be created"), closing(Ledger(tmp_path / "ledger.db")):
        pass
    assert list(tmp_path.iterdir()) == []
