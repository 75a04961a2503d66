"""An append-only chain of events, and the durable file that it lives in.

Each row of the journal holds a body, canonical JSON (RFC 8785), and a hash::

    hash = SHA-256( 0x00 || hash of the row before || row number, 8 bytes, big-endian || body )

The first row follows 32 zero bytes; 0x00 is the leaf prefix of RFC 6962, so that a Merkle tree can be grown over
the same rows later. A row that is edited, inserted or taken out from among others breaks the chain from there on. Two
things do not: taking off the last rows, and writing the whole chain anew. Whoever kept a `Head` notices both.

A body is ``{"kind": ..., "at": ..., facts}``, with ``at`` in UTC to the second (ISO 8601). Rows are written within the
transaction that they tell of: there is no event without its row, and no row without its event.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import rfc8785

from discreet.errors import LedgerCorrupted, LedgerError

GENESIS = bytes(32)
LEAF = b"\x00"

SCHEMA = """
CREATE TABLE journal (seq INTEGER PRIMARY KEY, body TEXT NOT NULL, hash BLOB NOT NULL CHECK (length(hash) = 32));
CREATE TRIGGER journal_is_not_edited BEFORE UPDATE ON journal BEGIN SELECT RAISE(ABORT, 'append only'); END;
CREATE TRIGGER journal_is_not_cut BEFORE DELETE ON journal BEGIN SELECT RAISE(ABORT, 'append only'); END;
"""


def now() -> str:
    """Return the time, UTC, to the second: ``2027-01-01T00:00:00Z``. Such times sort as text."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


@dataclass(frozen=True, slots=True)
class Entry:
    """One row: its number from 0, what happened, when (ISO 8601, UTC), the facts, and its hash."""

    seq: int
    kind: str
    at: str
    facts: dict[str, Any]
    hash: bytes


@dataclass(frozen=True, slots=True)
class Head:
    """The last row's number and hash (hex): all that must be kept elsewhere to notice a rewritten journal."""

    seq: int
    hash: str


class Journal:
    """The chain in one database. It has no way to change or remove a row."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def append(self, kind: str, *, at: str | None = None, **facts: str | float | None) -> int:
        """Add a row within the open transaction and return its number.

        Integers are not accepted: RFC 8785 holds them to 2^53, which sums of units may pass, so they come as text.

        Raises:
            LedgerError: no transaction is open; or the file cannot be written.
        """
        if not self._database.in_transaction:
            raise LedgerError("a journal row was to be written outside a transaction; write it within one")
        last = self.head()
        body = rfc8785.dumps({"kind": kind, "at": at or now(), **facts})
        digest = chained(bytes.fromhex(last.hash), last.seq + 1, body)
        self._database.execute("INSERT INTO journal VALUES (?, ?, ?)", last.seq + 1, body.decode(), digest)
        return last.seq + 1

    def head(self) -> Head:
        """Return the last row's number and hash; ``Head(-1, zeros)`` for an empty journal."""
        row = self._database.one("SELECT seq, hash FROM journal ORDER BY seq DESC LIMIT 1")
        return Head(-1, GENESIS.hex()) if row is None else Head(row[0], bytes(row[1]).hex())

    def hash_of(self, seq: int) -> str | None:
        """Return the hash (hex) of one row, or None if there is no such row."""
        row = self._database.one("SELECT hash FROM journal WHERE seq = ?", seq)
        return None if row is None else bytes(row[0]).hex()

    def rows(self) -> Iterator[Entry]:
        """Stream the journal from row 0.

        Raises:
            LedgerCorrupted: at the first row that does not fit the chain or cannot be read.
        """
        previous = GENESIS
        # Read as bytes: what was hashed is bytes, and an edited row need not even be text.
        rows = self._database.each("SELECT seq, CAST(body AS BLOB), CAST(hash AS BLOB) FROM journal ORDER BY seq")
        for expected, (seq, body, digest) in enumerate(rows):
            if seq != expected:
                raise LedgerCorrupted(f"journal row {expected} is missing", row=expected)
            if chained(previous, seq, body) != digest:
                raise LedgerCorrupted(f"journal row {seq} does not fit the chain of hashes", row=seq)
            yield _entry(seq, body, digest)
            previous = digest

    def first_misfit(self) -> int | None:
        """Return the number of the first row that does not fit the chain, or None. Memory does not grow with rows."""
        try:
            for _ in self.rows():
                pass
        except LedgerCorrupted as misfit:
            return misfit.row
        return None


def chained(previous: bytes, seq: int, body: bytes) -> bytes:
    """Return the hash, 32 bytes, of a row that follows ``previous``."""
    return hashlib.sha256(LEAF + previous + seq.to_bytes(8, "big") + body).digest()


def _entry(seq: int, body: bytes, digest: bytes) -> Entry:
    try:
        facts = json.loads(body)
        return Entry(seq, facts.pop("kind"), facts.pop("at"), facts, digest)
    except (ValueError, KeyError, TypeError, AttributeError) as error:  # a chain written anew around nonsense
        raise LedgerCorrupted(f"journal row {seq} is not an event", row=seq) from error


class Database:
    """One SQLite file, opened so that what was acknowledged survives a power cut. One object per thread and process.

    WAL with ``synchronous=FULL``: one fsync a transaction. (With NORMAL, acknowledged transactions are lost in power
    cuts.) No ``sqlite3.Error`` leaves this class: each becomes a `LedgerError`.
    """

    def __init__(self, path: Path, deadline: float, version: int) -> None:
        self.path, self.deadline = path, deadline
        with self._translated():
            self._connection = sqlite3.connect(path, timeout=deadline, isolation_level=None)
        try:
            self._prepare(version)
        except LedgerError:
            self.close()
            raise

    def _prepare(self, version: int) -> None:
        found = self.setting("user_version")  # first, for it does not write: another program's file stays untouched
        if found != version:
            raise LedgerError(
                f"{self.path.name} is not a ledger of version {version} (found version {found}); "
                "give the path of a ledger made by this version"
            )
        self.execute("PRAGMA synchronous = FULL")
        self.execute("PRAGMA foreign_keys = ON")

    @property
    def in_transaction(self) -> bool:
        """Whether a transaction is open."""
        return self._connection.in_transaction

    def close(self) -> None:
        """Close the file; whatever was not committed is undone."""
        self._connection.close()

    def execute(self, sql: str, *values: object) -> None:
        """Run one statement that returns no rows."""
        with self._translated():
            self._connection.execute(sql, values)

    def one(self, sql: str, *values: object) -> tuple[Any, ...] | None:
        """Return the first row, or None."""
        with self._translated():
            row: tuple[Any, ...] | None = self._connection.execute(sql, values).fetchone()
        return row

    def each(self, sql: str, *values: object) -> Iterator[tuple[Any, ...]]:
        """Stream the rows."""
        with self._translated():
            yield from self._connection.execute(sql, values)

    def setting(self, pragma: str) -> object:
        """Return the value of a PRAGMA."""
        row = self.one(f"PRAGMA {pragma}")
        return None if row is None else row[0]

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Do all of the block or, if it raises or the process dies, none of it. Writers wait for one another.

        Raises:
            LedgerError: another process kept the file busy past the deadline; the disk is full; the file is damaged.
        """
        with self._block("BEGIN IMMEDIATE"):
            yield

    @contextmanager
    def snapshot(self) -> Iterator[None]:
        """Read within the block as if nobody wrote meanwhile."""
        with self._block("BEGIN"):
            yield

    @contextmanager
    def _block(self, begin: str) -> Iterator[None]:
        self.execute(begin)
        try:
            yield
            self.execute("COMMIT")
        finally:
            if self.in_transaction:
                self.execute("ROLLBACK")

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise _translation(error, self.path.name, self.deadline) from error


def _translation(error: sqlite3.Error, name: str, deadline: float) -> LedgerError:
    # SQLite's own words are left out: they may quote what was being stored.
    match getattr(error, "sqlite_errorcode", sqlite3.SQLITE_MISUSE) & 0xFF:  # the low byte is the primary code
        case sqlite3.SQLITE_BUSY | sqlite3.SQLITE_LOCKED:
            return LedgerError(f"{name} was kept busy by another process for {deadline:g} s; try again")
        case sqlite3.SQLITE_FULL | sqlite3.SQLITE_IOERR:
            return LedgerError(
                f"{name} could not be written; free space on its disk and try again: nothing was changed"
            )
        case sqlite3.SQLITE_CORRUPT | sqlite3.SQLITE_NOTADB:
            return LedgerCorrupted(f"{name} is damaged or is not a ledger; restore it and run `discreet ledger verify`")
        case sqlite3.SQLITE_CONSTRAINT:
            return LedgerCorrupted(f"{name} holds what its own rules forbid; run `discreet ledger verify`")
        case sqlite3.SQLITE_CANTOPEN | sqlite3.SQLITE_READONLY | sqlite3.SQLITE_PERM:
            return LedgerError(f"{name} cannot be opened for writing; check the path and its permissions")
        case _:
            return LedgerError(f"{name} cannot be used so: {type(error).__name__}; open it in the thread that uses it")


def create(path: Path, version: int, schema: str, populate: Callable[[Database], None]) -> None:
    """Make a new file, mode 0600, and put it at ``path`` whole; leave any file that is there already.

    A process that dies on the way leaves no half-made ledger, and of two that race one file remains.

    Raises:
        LedgerError: the folder is missing or cannot be written.
    """
    fresh = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    try:
        os.close(os.open(fresh, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
        _fill(fresh, version, schema, populate)
        with suppress(FileExistsError):
            os.link(fresh, path)  # atomic, and never overwrites
        sync_folder(path.parent)
    except (OSError, sqlite3.Error) as error:
        raise LedgerError(f"{path.name} cannot be created; check its folder, permissions and free space") from error
    finally:
        fresh.unlink(missing_ok=True)


def _fill(path: Path, version: int, schema: str, populate: Callable[[Database], None]) -> None:
    connection = sqlite3.connect(path)
    try:
        connection.execute("PRAGMA journal_mode = WAL")  # kept in the file from here on
        connection.executescript(f"{SCHEMA}{schema}PRAGMA user_version = {version:d};")
    finally:
        connection.close()
    database = Database(path, deadline=1, version=version)
    try:
        populate(database)
    finally:
        database.close()


def sync_folder(folder: Path) -> None:
    """Wait until the names in ``folder`` are on the disk; a file's own fsync does not see to that."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
