"""The durable database, whichever it is: a file (`sqlite`) or one on a server (`postgresql`).

Statements are built with SQLAlchemy, at the head of a module, and are compiled once for each of the two; they run on
the driver's own connection, and what comes back is what is stored, of whatever type: an engine in between would convert
values that somebody forged, and costs more than the statements do.
"""

from __future__ import annotations

import os
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from functools import lru_cache
from typing import Any, ClassVar, TypeAlias

from sqlalchemy import ClauseElement, Dialect, select

from discreet.errors import LedgerCorrupted, LedgerError
from discreet.governance import schema

Statement: TypeAlias = ClauseElement
Row: TypeAlias = tuple[Any, ...]

_PSEUDONYMS = select(schema.as_bytes(schema.secret.c.value)).where(schema.secret.c.name == "pseudonyms")


class Database(ABC):
    """An open database. One object per thread and process, which is enforced.

    No exception of SQLite's, SQLAlchemy's or the driver's leaves this class: each becomes a `LedgerError`, and none
    repeats what was being stored.

    Attributes:
        name: as messages tell it: of a file its name, of a database on a server nothing that lets anybody in.
        place: where the disk is that may be full.
    """

    DIALECT: ClassVar[Dialect]
    SHOWS_CAUSE: ClassVar[bool]  # a server's own words, in a trace of the stack, quote whole rows

    def __init__(self, name: str, place: str) -> None:
        self.name, self.place, self._writes = name, place, False
        self._process, self._thread = os.getpid(), threading.get_ident()

    def execute(self, statement: Statement, **values: object) -> None:
        """Run one statement that returns no rows."""
        with self._translated():
            self._run(*self._compiled(statement, values))

    def one(self, statement: Statement, **values: object) -> Row | None:
        """Return the first row, or None."""
        with self._translated():
            row: Row | None = self._run(*self._compiled(statement, values)).fetchone()
        return row

    def each(self, statement: Statement, **values: object) -> Iterator[Row]:
        """Stream the rows; within a block, memory does not grow with their number."""
        with self._translated():
            yield from self._streamed(*self._compiled(statement, values))

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Do all of the block or, if it raises or the process dies, none of it. Writers wait for one another.

        Within another it is a part of that one: if it raises it is undone, and what is done lasts if all of that does.

        Raises:
            LedgerError: another process kept it busy past the deadline; the disk is full; it is damaged.
        """
        if self._writes:
            with self._block(self._begin_part, "RELEASE SAVEPOINT part", "ROLLBACK TO SAVEPOINT part"):
                yield
            return
        with self._block(self._begin):
            self._writes = True
            try:
                yield
            finally:
                self._writes = False

    @contextmanager
    def snapshot(self) -> Iterator[None]:
        """Read within the block as if nobody wrote meanwhile. (Within a transaction nobody does.)"""
        if self._writes:
            yield
            return
        with self._block(self._begin_reading):
            yield

    @contextmanager
    def _block(self, begin: Callable[[], None], end: str = "COMMIT", undo: str = "ROLLBACK") -> Iterator[None]:
        ended = False
        try:
            with self._translated():
                begin()
            yield
            with self._translated():
                self._run(end)
            ended = True
        finally:
            if not ended and self.in_transaction:
                with self._translated():
                    self._run(undo)

    def _begin_part(self) -> None:
        self._run("SAVEPOINT part")

    @property
    def in_transaction(self) -> bool:
        """Whether a transaction is open."""
        with self._translated():
            return self._is_within()

    def close(self) -> None:
        """Close it; whatever was not committed is undone. May be repeated."""
        with self._translated():
            self._close()

    @contextmanager
    def _translated(self) -> Iterator[None]:
        if os.getpid() != self._process:  # after a fork locks protect nothing, and two would talk on one connection
            raise LedgerError(f"{self.name} was opened by another process; open it anew in this one")
        if threading.get_ident() != self._thread:
            raise self._unusable()
        try:
            yield
        except self._failures() as error:
            raise self._translation(error) from (error if self.SHOWS_CAUSE else None)

    def _unusable(self) -> LedgerError:
        return LedgerError(f"{self.name} is closed, or was opened in another thread; open it where it is used")

    def _damaged(self) -> LedgerCorrupted:
        return LedgerCorrupted(
            f"{self.name} is damaged or is not a ledger; restore it and run `discreet journal verify`"
        )

    def _busy(self, deadline: float) -> LedgerError:
        return LedgerError(f"{self.name} was kept busy by another process for {deadline:g} s; try again")

    def _against_the_rules(self) -> LedgerCorrupted:
        return LedgerCorrupted(f"{self.name} holds what its own rules forbid; run `discreet journal verify`")

    def _incomplete(self) -> LedgerCorrupted:
        return LedgerCorrupted(f"{self.name} lacks a table or column of a ledger; restore it")

    def _full(self) -> str:
        return f"{self.name} could not be written; free space on its disk and try again: nothing was changed"

    def _compiled(self, statement: Statement, values: dict[str, object]) -> tuple[str, dict[str, object]]:
        words, constants = _compiled(self.DIALECT, statement)
        return words, constants | values

    def _check_version(self, found: object, *, may_be_older: bool) -> None:
        if str(found) in schema.OLDER and not may_be_older:
            raise LedgerError(
                f"{self.name} is a ledger of version {found}, and this is version {schema.VERSION}; "
                "keep a copy and run `discreet ledger upgrade`"
            )
        if str(found) not in {*schema.OLDER, str(schema.VERSION)}:
            raise LedgerError(
                f"{self.name} is not a ledger of version {schema.VERSION} (found version {found}); "
                "give one that was made by this version"
            )

    @abstractmethod
    def version(self) -> object:
        """Return the number of the last migration that was run, or whatever stands in its place."""

    @abstractmethod
    def migrating(self) -> AbstractContextManager[Callable[[], None]]:
        """Yield what runs the migrations that are due, in a transaction that is opened within the block."""

    @abstractmethod
    def rules(self) -> list[str]:
        """Return the definitions of tables and guards as the database itself tells them, in a fixed order."""

    @abstractmethod
    def scrub(self) -> None:
        """Have what was deleted overwritten where this database itself keeps it, as far as it can."""

    @abstractmethod
    def claim(self) -> None:
        """Be the only one that trains and deletes for this database, until it is closed.

        Of a file nothing is asked: the service locks its folder.

        Raises:
            LedgerError: another has claimed it.
        """

    @abstractmethod
    def damage(self) -> Iterator[str]:
        """Yield what the database finds wrong with itself."""

    @abstractmethod
    def _run(self, words: str, values: Mapping[str, object] | None = None) -> Any: ...

    @abstractmethod
    def _streamed(self, words: str, values: dict[str, object]) -> Iterator[Row]: ...

    @abstractmethod
    def _begin(self) -> None: ...

    @abstractmethod
    def _begin_reading(self) -> None: ...

    @abstractmethod
    def _is_within(self) -> bool: ...

    @abstractmethod
    def _close(self) -> None: ...

    @abstractmethod
    def _failures(self) -> tuple[type[Exception], ...]: ...

    @abstractmethod
    def _translation(self, error: Exception) -> LedgerError: ...


@lru_cache(maxsize=512)
def _compiled(dialect: Dialect, statement: Statement) -> tuple[str, dict[str, object]]:
    """The words of a statement, and those of its values that are constant. (Its other values are the caller's.)"""
    compiled = dialect.statement_compiler(dialect, statement)
    asked = {bind.key for bind in compiled.binds.values() if bind.required}
    return str(compiled), {name: value for name, value in compiled.params.items() if name not in asked}


def pseudonym_key(database: Database) -> bytes:
    """Return the ledger's key.

    Raises:
        LedgerCorrupted: it is gone.
    """
    row = database.one(_PSEUDONYMS)
    if row is None or not row[0]:
        raise LedgerCorrupted("the key of the pseudonyms is gone; restore the ledger", row=0)
    return bytes(row[0])
