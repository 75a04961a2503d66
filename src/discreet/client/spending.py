"""What a device has spent: its own ledger, which no server can talk out of."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from discreet.errors import BudgetExceeded, LedgerError, TermsRefused

_TABLE = """CREATE TABLE IF NOT EXISTS spent (
    session BLOB PRIMARY KEY, run BLOB NOT NULL, units INTEGER NOT NULL CHECK (units >= 0)
) STRICT"""


class Spending:
    """A file in which a session is booked before anything of it is said, once, and for good.

    WAL with ``synchronous=FULL``: what was booked survives a power cut.

    Args:
        path: of the file; made if it is not there.
        cap: units of mu^2 that may be spent, all in all.

    Raises:
        LedgerError: the file cannot be used.
    """

    def __init__(self, path: Path, cap: int) -> None:
        self.path, self.cap = path, cap
        with self._open() as book:
            book.execute(_TABLE)

    def __repr__(self) -> str:
        return "Spending()"  # what somebody spent is theirs

    @property
    def spent(self) -> int:
        """Units booked so far."""
        with self._open() as book:
            return _sum(book, "SELECT sum(units) FROM spent")

    def book(self, session: bytes, run: bytes, units: int, whole: int) -> None:
        """Book a session of a run.

        Args:
            session: of this sum alone.
            run: that the sum is a part of.
            units: price of the sum.
            whole: price of the run, all rounds: what is left of it has to fit in, too.

        Raises:
            TermsRefused: the session was booked before; this device may have said something in it already.
            BudgetExceeded: the run asks for more than is left; nothing was booked.
            LedgerError: the file cannot be used; nothing was booked.
        """
        with self._open() as book:
            book.execute("BEGIN IMMEDIATE")
            if book.execute("SELECT 1 FROM spent WHERE session = ?", (session,)).fetchone():
                raise TermsRefused("this device took part in this session before; it does not do so twice")
            asked = max(units, whole - _sum(book, "SELECT sum(units) FROM spent WHERE run = ?", run))
            left = self.cap - _sum(book, "SELECT sum(units) FROM spent")
            if asked > left:
                raise BudgetExceeded(
                    f"{asked:,} units are asked of this device, {left:,} are left of what its person allows",
                    account="this device",
                    asked=asked,
                    left=left,
                    until=None,
                )
            book.execute("INSERT INTO spent VALUES (?, ?, ?)", (session, run, units))
            book.execute("COMMIT")

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        try:
            with closing(sqlite3.connect(self.path, timeout=10, isolation_level=None)) as book:
                book.execute("PRAGMA journal_mode = WAL")
                book.execute("PRAGMA synchronous = FULL")
                yield book
        except sqlite3.Error as error:
            raise LedgerError(f"{self.path}: what was spent cannot be read or booked ({error})") from None


def _sum(book: sqlite3.Connection, query: str, *values: bytes) -> int:
    return int(book.execute(query, values).fetchone()[0] or 0)
