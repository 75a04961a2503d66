"""The chain: what it accepts, and which edits of the file it names."""

import hashlib
import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import insert, text

from discreet.errors import LedgerCorrupted, LedgerError
from discreet.governance import schema, tables
from discreet.governance.checks import now
from discreet.governance.database import Database
from discreet.governance.journal import GENESIS, Head, Journal, chained
from discreet.governance.sqlite import SQLite, create
from discreet.governance.tables import opened


def nothing(database: Database) -> None:
    """Leave a new file without rows."""


@pytest.fixture
def database(place: str | Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Database]:
    monkeypatch.setattr(tables, "_first_row", nothing)
    with closing(opened(place, 5, may_create=True)) as made:
        yield made


@pytest.fixture
def journal(database: Database) -> Journal:
    filled = Journal(database)
    with database.transaction():
        for number in range(5):
            assert filled.append("note", number=str(number), text="é\n", none=None, half=0.5) == number
    return filled


def forge(path: Path, *statements: str) -> None:
    """Do what an administrator with the sqlite3 shell can do."""
    with closing(sqlite3.connect(path)) as shell, shell:
        shell.execute("DROP TRIGGER journal_is_not_edited")
        shell.execute("DROP TRIGGER journal_is_not_cut")
        shell.execute("DROP TRIGGER journal_grows_at_its_end")
        for statement in statements:
            shell.execute(statement)


def test_a_row_without_a_hash_is_damage(journal: Journal, path: Path) -> None:
    forge(
        path,
        "CREATE TABLE copy AS SELECT * FROM journal",
        "DROP TABLE journal",
        "ALTER TABLE copy RENAME TO journal",
        "UPDATE journal SET hash = NULL WHERE seq = 4",
    )
    for look in (journal.head, lambda: journal.hash_of(4)):
        with pytest.raises(LedgerCorrupted, match="journal row 4 is damaged") as damaged:
            look()
        assert damaged.value.row == 4
    assert journal.first_misfit() == 4


@pytest.mark.parametrize(("seq", "told"), [(-1, 0), (0, 0), (1, 1), (5, 5), (6, 6)])
def test_a_row_that_is_gone_is_named(journal: Journal, path: Path, seq: int, told: int) -> None:
    forge(path, "DELETE FROM journal WHERE seq IN (0, 1)")
    with pytest.raises(LedgerCorrupted, match=f"journal row {told} or the one before it is gone") as gone:
        journal.linked(seq)
    assert gone.value.row == told


def test_hash_of_first_row_is_pinned() -> None:
    body = b'{"at":"2027-01-01T00:00:00Z","kind":"note"}'
    assert chained(GENESIS, 0, body) == hashlib.sha256(b"\0" * 41 + body).digest()
    assert chained(GENESIS, 1, body) == hashlib.sha256(b"\0" * 40 + b"\1" + body).digest()


def test_rows_come_back(journal: Journal) -> None:
    rows = list(journal.rows())
    assert [row.seq for row in rows] == [0, 1, 2, 3, 4]
    assert rows[3].facts == {"number": "3", "text": "é\n", "none": None, "half": 0.5}
    assert {row.kind for row in rows} == {"note"}
    assert all(row.at <= now() and len(row.at) == 20 for row in rows)
    assert journal.head() == Head(4, rows[4].hash.hex())
    assert journal.hash_of(4) == journal.head().hash
    assert journal.hash_of(5) is None
    assert journal.first_misfit() is None


def test_empty_journal_has_a_head(database: Database) -> None:
    assert Journal(database).head() == Head(-1, "00" * 32)
    assert Journal(database).first_misfit() is None


def test_body_is_canonical_json(journal: Journal, database: Database) -> None:
    row = database.one(text("SELECT body FROM journal WHERE seq = 0"))
    assert row is not None
    assert row[0] == json.dumps(json.loads(row[0]), sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def test_append_needs_a_transaction(journal: Journal) -> None:
    with pytest.raises(LedgerError, match="transaction"):
        journal.append("note")
    assert journal.head().seq == 4


def interrupted(journal: Journal, database: Database) -> None:
    with database.transaction():
        journal.append("note")
        raise KeyboardInterrupt


def test_row_goes_with_its_transaction(journal: Journal, database: Database) -> None:
    with pytest.raises(KeyboardInterrupt):
        interrupted(journal, database)
    assert journal.head().seq == 4


@pytest.mark.parametrize("statement", ["UPDATE journal SET body = '{}'", "DELETE FROM journal"])
def test_triggers_keep_rows(journal: Journal, database: Database, statement: str) -> None:
    with pytest.raises(LedgerCorrupted, match="rules forbid"):
        database.execute(text(statement))
    assert journal.first_misfit() is None


@pytest.mark.parametrize(
    ("statement", "row"),
    [
        ("UPDATE journal SET body = replace(body, '\"2\"', '\"9\"') WHERE seq = 2", 2),
        ("UPDATE journal SET body = body || ' ' WHERE seq = 4", 4),
        ("UPDATE journal SET body = x'ff00' WHERE seq = 1", 1),
        ("UPDATE journal SET hash = zeroblob(32) WHERE seq = 0", 0),
        ("UPDATE journal SET hash = (SELECT hash FROM journal WHERE seq = 1) WHERE seq = 3", 3),
        ("DELETE FROM journal WHERE seq = 0", 0),
        ("DELETE FROM journal WHERE seq = 3", 3),
        ("INSERT INTO journal SELECT 5, body, hash FROM journal WHERE seq = 4", 5),
        ("INSERT INTO journal SELECT -1, body, hash FROM journal WHERE seq = 4", 0),
    ],
)
def test_edits_are_named(journal: Journal, path: Path, statement: str, row: int) -> None:
    forge(path, statement)
    assert journal.first_misfit() == row


def test_a_chain_written_anew_around_nonsense_is_named(journal: Journal, database: Database) -> None:
    for seq, body in enumerate((b"[]", b"{}", b"nonsense", b'{"kind":"note"}'), start=5):
        digest = chained(bytes.fromhex(journal.head().hash), seq, body)
        database.execute(insert(schema.journal), seq=seq, body=body.decode(), hash=digest)
    assert journal.first_misfit() == 5


@given(row=st.integers(0, 4), position=st.integers(0, 10**6), bit=st.integers(0, 7))
def test_any_flipped_bit_breaks_the_chain(row: int, position: int, bit: int) -> None:
    bodies = [b'{"at":"2027-01-01T00:00:00Z","kind":"note","n":"%d"}' % number for number in range(5)]
    flipped = bytearray(bodies[row])
    flipped[position % len(flipped)] ^= 1 << bit
    assert chained(GENESIS, row, bytes(flipped)) != chained(GENESIS, row, bodies[row])


def test_two_processes_may_create_at_once(tmp_path: Path) -> None:
    def overtaken(database: Database) -> None:
        create(tmp_path / "j.db", nothing)  # the other one is done first
        Journal(database).append("loser")

    create(tmp_path / "j.db", overtaken)
    with closing(SQLite(tmp_path / "j.db", 0.1)) as database:
        assert Journal(database).head().seq == -1
    assert [path.name for path in tmp_path.iterdir()] == ["j.db"]
