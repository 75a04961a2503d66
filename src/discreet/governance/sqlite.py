"""A ledger in one SQLite file, opened so that what was acknowledged survives a power cut."""

from __future__ import annotations

import os
import secrets
import sqlite3
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from pathlib import Path

from sqlalchemy.dialects import sqlite
from sqlalchemy.exc import SQLAlchemyError

from discreet.errors import LedgerError, LedgerFull
from discreet.files import sync_folder
from discreet.governance.database import Database, Row
from discreet.governance.schema import VERSION

_UNWRITABLE = {sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM}
_RULES = "SELECT sql FROM sqlite_schema WHERE sql IS NOT NULL ORDER BY type, name"


class SQLite(Database):
    """An open file.

    WAL with ``synchronous=FULL``: one fsync a transaction. (With NORMAL, acknowledged transactions are lost in power
    cuts.)

    Args:
        path: the file; it is never made here.
        deadline: seconds to wait for other processes that are writing.
        must_write: give False to read what stands on read-only media too. Writing to that is a `LedgerError`.
        may_be_older: give True to bring it to this version.

    Raises:
        LedgerError: the file is missing, cannot be opened, or is of another version; it is left untouched.
    """

    DIALECT, SHOWS_CAUSE = sqlite.dialect(paramstyle="named"), True

    def __init__(self, path: Path, deadline: float, *, must_write: bool = True, may_be_older: bool = False) -> None:
        super().__init__(path.name, str(path.parent))
        self.path, self.deadline, self._may_be_older = path, deadline, may_be_older
        try:
            self._open("mode=rw")  # a file that has just gone is not made anew, empty
        except LedgerError as error:
            if must_write or _primary_code(error.__cause__) not in _UNWRITABLE:
                raise
            self._check_nothing_waits()
            self._open("mode=ro&immutable=1")

    def _open(self, mode: str) -> None:
        with self._translated():
            address = f"{self.path.absolute().as_uri()}?{mode}"
            self._connection = sqlite3.connect(address, uri=True, timeout=self.deadline, isolation_level=None)
        self._connection.text_factory = _text
        self._file = self._at_its_place()
        try:
            self._prepare()
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

    def _prepare(self) -> None:
        # First, for it does not write: another program's file stays untouched.
        self._check_version(self.version(), may_be_older=self._may_be_older)
        self.setting("synchronous = FULL")
        self.setting("foreign_keys = ON")
        self.setting("secure_delete = ON")  # what is deleted is overwritten, not left in free pages

    def setting(self, pragma: str) -> object:
        """Return the value of a PRAGMA, if it has one; or set it."""
        with self._translated():
            row = self._run(f"PRAGMA {pragma}").fetchone()
        return None if row is None else row[0]

    def settle(self) -> None:
        """Move all that was written into the file itself, or say that this failed: `close` tries too, and says nothing.

        Raises:
            LedgerError: the disk fails, or somebody else is reading.
        """
        if self.setting("wal_checkpoint(TRUNCATE)") != 0:
            raise LedgerError(f"{self.path.name} is in use by another process; try again")

    def scrub(self) -> None:
        """Empty the -wal file, which holds older pages; while somebody else reads, a later call does it."""
        self.setting("busy_timeout = 0")
        try:
            self.setting("wal_checkpoint(TRUNCATE)")
        finally:
            self.setting(f"busy_timeout = {round(1000 * self.deadline)}")

    def claim(self) -> None:
        """Do nothing: see `Database.claim`."""

    def version(self) -> object:
        """Return the number in the header of the file."""
        return self.setting("user_version")

    @contextmanager
    def migrating(self) -> Iterator[Callable[[], None]]:
        """Yield what runs the migrations that are due."""
        from discreet.governance.migrations import migrating

        with migrating(self._connection, "sqlite") as upgrade:

            def migrate() -> None:
                upgrade(self.version())
                self.setting(f"user_version = {VERSION:d}")

            yield migrate

    def rules(self) -> list[str]:
        """Return the definitions of everything in the file."""
        with self._translated():
            return [row[0] for row in self._run(_RULES)]

    def damage(self) -> Iterator[str]:
        """Yield what fails SQLite's own checks."""
        with self._translated():
            if self._run("PRAGMA integrity_check").fetchall() != [("ok",)]:
                yield "the file fails SQLite's integrity check"
            strays = self._run("PRAGMA foreign_key_check").fetchall()
        if strays:
            yield f"{len(strays)} table rows refer to rows that are gone"

    def _run(self, words: str, values: Mapping[str, object] | None = None) -> sqlite3.Cursor:
        return self._connection.execute(words, values or {})

    def _streamed(self, words: str, values: dict[str, object]) -> Iterator[Row]:
        for row in self._run(words, values):  # noqa: UP028 - it would close a cursor of a closed file
            yield row

    def _begin(self) -> None:
        self._check_place()
        self._run("BEGIN IMMEDIATE")

    def _begin_reading(self) -> None:
        self._check_place()
        self._run("BEGIN")

    def _check_place(self) -> None:
        # What is written to a file that was deleted, or that another took the place of, is gone when it is closed.
        if self._at_its_place() != self._file:
            raise LedgerError(
                f"{self.name} was moved, replaced or deleted while it was open; put it back and restart what uses it"
            )

    def _at_its_place(self) -> tuple[int, int] | None:
        try:
            found = self.path.stat()
        except OSError:
            return None
        return found.st_dev, found.st_ino

    def _is_within(self) -> bool:
        return self._connection.in_transaction

    def _close(self) -> None:
        self._connection.close()

    def _failures(self) -> tuple[type[Exception], ...]:
        return sqlite3.Error, UnicodeDecodeError, OverflowError

    def _translation(self, error: Exception) -> LedgerError:
        # SQLite's own words are left out: they may quote what was being stored.
        match _primary_code(error):
            case sqlite3.SQLITE_BUSY | sqlite3.SQLITE_LOCKED:
                return self._busy(self.deadline)
            case sqlite3.SQLITE_FULL | sqlite3.SQLITE_IOERR as code:
                kind = LedgerFull if code == sqlite3.SQLITE_FULL else LedgerError
                return kind(self._full())
            case sqlite3.SQLITE_CORRUPT | sqlite3.SQLITE_NOTADB | None:  # none: of its own words, or of a stored value
                return self._damaged()
            case sqlite3.SQLITE_CONSTRAINT:
                return self._against_the_rules()
            case sqlite3.SQLITE_ERROR:
                return self._incomplete()
            case code if code in _UNWRITABLE:
                return LedgerError(f"{self.name} cannot be opened for writing; check the path and its permissions")
            case _:
                return self._unusable()


def _primary_code(error: BaseException | None) -> int | None:
    """SQLite's primary error code, or None of another error."""
    if not isinstance(error, sqlite3.Error):
        return None
    return getattr(error, "sqlite_errorcode", sqlite3.SQLITE_MISUSE) & 0xFF  # the low byte


def _text(content: bytes) -> str:
    return content.decode(errors="backslashreplace")  # a forged text need not be UTF-8, and is still to be compared


def create(path: Path, populate: Callable[[Database], None]) -> None:
    """Make a new file, mode 0600, and put it at ``path`` whole; leave any file that is there already.

    A process that dies on the way leaves no half-made ledger, and of two that race one file remains.

    Raises:
        LedgerError: the folder is missing or cannot be written.
    """
    fresh = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    try:
        os.close(os.open(fresh, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
        _fill(fresh, populate)
        with suppress(FileExistsError):
            os.link(fresh, path)  # atomic, and never overwrites
        sync_folder(path.parent)
    except (OSError, sqlite3.Error, SQLAlchemyError) as error:
        raise LedgerError(f"{path.name} cannot be created; check its folder, permissions and free space") from error
    finally:
        with suppress(OSError):  # a name too long to be made cannot be taken away either
            for leftover in ("", "-wal", "-shm"):
                fresh.with_name(f"{fresh.name}{leftover}").unlink(missing_ok=True)


def _fill(path: Path, populate: Callable[[Database], None]) -> None:
    from discreet.governance.migrations import migrating

    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode = WAL")  # kept in the file from here on
        with migrating(connection, "sqlite") as upgrade:
            connection.execute("BEGIN")
            upgrade()
            connection.execute(f"PRAGMA user_version = {VERSION:d}")
            connection.execute("COMMIT")
    with closing(SQLite(path, deadline=1)) as database:
        with database.transaction():
            populate(database)
        database.settle()
