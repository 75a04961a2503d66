"""The durable file: one SQLite database, opened so that what was acknowledged survives a power cut."""

from __future__ import annotations

import os
import secrets
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from discreet.errors import LedgerCorrupted, LedgerError
from discreet.files import sync_folder

_UNWRITABLE = {sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM}


class Database:
    """An open file. One object per thread and process.

    WAL with ``synchronous=FULL``: one fsync a transaction. (With NORMAL, acknowledged transactions are lost in power
    cuts.) No ``sqlite3.Error`` leaves this class: each becomes a `LedgerError`.

    Args:
        path: the file; it is never made here.
        deadline: seconds to wait for other processes that are writing.
        version: what the file must say it is.
        must_write: give False to read what stands on read-only media too. Writing to that is a `LedgerError`.

    Raises:
        LedgerError: the file is missing, cannot be opened, or is of another version; it is left untouched.
    """

    def __init__(self, path: Path, deadline: float, version: int, *, must_write: bool = True) -> None:
        self.path, self.deadline = path, deadline
        self._process = os.getpid()
        try:
            self._open("mode=rw", version)  # a file that has just gone is not made anew, empty
        except LedgerError as error:
            if must_write or primary_code(error.__cause__) not in _UNWRITABLE:
                raise
            self._check_nothing_waits()
            self._open("mode=ro&immutable=1", version)

    def _open(self, mode: str, version: int) -> None:
        with self._translated():
            address = f"{self.path.absolute().as_uri()}?{mode}"
            self._connection = sqlite3.connect(address, uri=True, timeout=self.deadline, isolation_level=None)
        self._connection.text_factory = _text
        try:
            self._prepare(version)
        except LedgerError:
            self.close()
            raise

    def _check_nothing_waits(self) -> None:
        # What is opened as immutable is read without its -wal, whose rows would be passed over in silence.
        with suppress(OSError):
            if self.path.with_name(f"{self.path.name}-wal").stat().st_size:
                raise LedgerError(
                    f"{self.path.name} has its last rows in a -wal file beside it, which cannot be read where nothing "
                    "can be written; copy both to a folder that can be written"
                )

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
        with self._translated():
            return self._connection.in_transaction

    def close(self) -> None:
        """Close the file; whatever was not committed is undone. May be repeated."""
        with self._translated():
            self._connection.close()

    def settle(self) -> None:
        """Move all that was written into the file itself, or say that this failed: `close` tries too, and says nothing.

        Raises:
            LedgerError: the disk fails, or somebody else is reading.
        """
        row = self.one("PRAGMA wal_checkpoint(TRUNCATE)")
        if row is None or row[0] != 0:
            raise LedgerError(f"{self.path.name} is in use by another process; try again")

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
            for row in self._connection.execute(sql, values):  # noqa: UP028 - it would close a cursor of a closed file
                yield row

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
        try:
            self.execute(begin)
            yield
            self.execute("COMMIT")
        finally:
            if self.in_transaction:
                self.execute("ROLLBACK")

    @contextmanager
    def _translated(self) -> Iterator[None]:
        if os.getpid() != self._process:  # after a fork SQLite's locks protect nothing
            raise LedgerError(f"{self.path.name} was opened by another process; open it anew in this one")
        try:
            yield
        except sqlite3.Error as error:
            raise _translation(error, self.path.name, self.deadline) from error
        except (UnicodeDecodeError, OverflowError) as error:  # of SQLite's own words, or of a stored value
            raise _damaged(self.path.name) from error


def pseudonym_key(database: Database) -> bytes:
    """Return the ledger's key.

    Raises:
        LedgerCorrupted: it is gone.
    """
    row = database.one("SELECT CAST(value AS BLOB) FROM secret WHERE name = 'pseudonyms'")
    if row is None or not row[0]:
        raise LedgerCorrupted("the key of the pseudonyms is gone; restore the ledger", row=0)
    return bytes(row[0])


def primary_code(error: BaseException | None) -> int | None:
    """Return SQLite's primary error code, or None of another error."""
    if not isinstance(error, sqlite3.Error):
        return None
    return getattr(error, "sqlite_errorcode", sqlite3.SQLITE_MISUSE) & 0xFF  # the low byte


def _damaged(name: str) -> LedgerCorrupted:
    return LedgerCorrupted(f"{name} is damaged or is not a ledger; restore it and run `discreet ledger verify`")


def _text(content: bytes) -> str:
    return content.decode(errors="backslashreplace")  # a forged text need not be UTF-8, and is still to be compared


def _translation(error: sqlite3.Error, name: str, deadline: float) -> LedgerError:
    # SQLite's own words are left out: they may quote what was being stored.
    match primary_code(error):
        case sqlite3.SQLITE_BUSY | sqlite3.SQLITE_LOCKED:
            return LedgerError(f"{name} was kept busy by another process for {deadline:g} s; try again")
        case sqlite3.SQLITE_FULL | sqlite3.SQLITE_IOERR:
            return LedgerError(
                f"{name} could not be written; free space on its disk and try again: nothing was changed"
            )
        case sqlite3.SQLITE_CORRUPT | sqlite3.SQLITE_NOTADB:
            return _damaged(name)
        case sqlite3.SQLITE_CONSTRAINT:
            return LedgerCorrupted(f"{name} holds what its own rules forbid; run `discreet ledger verify`")
        case sqlite3.SQLITE_ERROR:
            return LedgerCorrupted(f"{name} lacks a table or column of a ledger; restore it")
        case code if code in _UNWRITABLE:
            return LedgerError(f"{name} cannot be opened for writing; check the path and its permissions")
        case _:
            return LedgerError(f"{name} is closed, or was opened in another thread; open it where it is used")


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
        with suppress(OSError):  # a name too long to be made cannot be taken away either
            for leftover in ("", "-wal", "-shm"):
                fresh.with_name(f"{fresh.name}{leftover}").unlink(missing_ok=True)


def _fill(path: Path, version: int, schema: str, populate: Callable[[Database], None]) -> None:
    connection = sqlite3.connect(path)
    try:
        connection.execute("PRAGMA journal_mode = WAL")  # kept in the file from here on
        connection.executescript(f"{schema}PRAGMA user_version = {version:d};")
    finally:
        connection.close()
    database = Database(path, deadline=1, version=version)
    try:
        populate(database)
        database.settle()
    finally:
        database.close()
