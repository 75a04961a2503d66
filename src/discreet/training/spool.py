"""What a coordinator was told and has not used up: a session goes on where it stood, whatever ended the process.

Messages are masked, sealed or signed; none of them tells more than it told the coordinator when it came. They are
deleted as soon as the sum is known, which is public: its noise was in it before anybody saw it.
"""

from __future__ import annotations

import secrets
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from discreet.errors import LedgerError, ProtocolError
from discreet.models.broadcast import MOST, Broadcast


class TooLate(ProtocolError):
    """The stage, or the session, or the run is over."""


class NotKnown(ProtocolError):
    """There is no such session."""


class NotNow(ProtocolError):
    """Nothing is going on yet, or between two sessions: to be asked again."""


CLOSED = -1
"""The seat under which the end of a stage stands."""

_TABLES = """
CREATE TABLE IF NOT EXISTS run (
    one INTEGER PRIMARY KEY CHECK (one = 1), release TEXT NOT NULL, id TEXT NOT NULL
) STRICT;
CREATE TABLE IF NOT EXISTS sessions (
    number INTEGER PRIMARY KEY, terms BLOB NOT NULL, broadcast BLOB NOT NULL, total BLOB
) STRICT;
CREATE TABLE IF NOT EXISTS said (
    place INTEGER PRIMARY KEY, number INTEGER NOT NULL, stage INTEGER NOT NULL, seat INTEGER NOT NULL,
    content BLOB NOT NULL, UNIQUE (number, stage, seat)
) STRICT;
"""


@dataclass(frozen=True, eq=False, repr=False)
class Session:
    """One round of a run.

    Attributes:
        number: of the round.
        terms: as announced.
        broadcast: what is asked.
        total: int64 [dims], once it is known.
    """

    number: int
    terms: bytes
    broadcast: bytes
    total: NDArray[np.int64] | None


class Spool:
    """A file for one run, open in one process alone. What was acknowledged survives a power cut (``synchronous=FULL``).

    Args:
        path: of the file; made if it is not there.

    Raises:
        LedgerError: it cannot be used.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        with self._translated():
            self._book = sqlite3.connect(path, timeout=2, isolation_level=None, check_same_thread=False)
            self._book.execute("PRAGMA locking_mode = EXCLUSIVE")  # one run, one process
            self._book.execute("PRAGMA journal_mode = WAL")
            self._book.execute("PRAGMA synchronous = FULL")
            self._book.execute("PRAGMA secure_delete = ON")
            self._book.executescript(_TABLES)

    def close(self) -> None:
        """Close the file."""
        self._book.close()

    def claim(self, release: str) -> str:
        """Return the id of this run, made once: a release is billed for what is in this file, and for nothing else.

        Raises:
            LedgerError: the file is of another release.
        """
        with self._translated():
            self._book.execute("INSERT OR IGNORE INTO run VALUES (1, ?, ?)", (release, secrets.token_hex(16)))
            found, name = self._book.execute("SELECT release, id FROM run").fetchone()
        if found != release:
            raise LedgerError(
                f"{self.path} is of release {found}; give the folder that this run began in, or a new one"
            )
        return str(name)

    def begin(self, number: int, terms: bytes, broadcast: bytes) -> Session:
        """Return the session of a round: that which was begun before, if what is asked is the same; else a new one.

        What was asked stays as it was told: the last bits of floats may differ from one start to the next.

        Raises:
            LedgerError: the file is of another run.
        """
        with self._translated():
            self._book.execute("INSERT OR IGNORE INTO sessions VALUES (?, ?, ?, NULL)", (number, terms, broadcast))
            query = "SELECT terms, broadcast, total FROM sessions WHERE number = ?"
            row = self._book.execute(query, (number,)).fetchone()
        if _about(row[1]) != _about(broadcast):
            raise LedgerError(f"{self.path} is of another run; give the folder that this run began in, or a new one")
        total = None if row[2] is None else np.frombuffer(row[2], "<i8").astype(np.int64)
        return Session(number, row[0], row[1], total)

    def keep(self, number: int, stage: int, seat: int, content: bytes) -> None:
        """Make a message durable, or the end of a stage."""
        with self._translated():
            values = (number, stage, seat, content)
            self._book.execute("INSERT INTO said (number, stage, seat, content) VALUES (?, ?, ?, ?)", values)

    def kept(self, number: int) -> Iterator[tuple[int, int, bytes]]:
        """Yield stage, seat and content, in the order in which they were kept."""
        with self._translated():
            query = "SELECT stage, seat, content FROM said WHERE number = ? ORDER BY place"
            yield from self._book.execute(query, (number,))

    def end(self, number: int, total: NDArray[np.int64]) -> None:
        """Keep the sum, and forget what led to it."""
        with self._translated():
            self._book.execute("BEGIN IMMEDIATE")
            content = total.astype("<i8").tobytes()
            self._book.execute("UPDATE sessions SET total = ? WHERE number = ?", (content, number))
            self._book.execute("DELETE FROM said WHERE number = ?", (number,))
            self._book.execute("COMMIT")

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise LedgerError(f"{self.path}: cannot be read or written ({error}); mend that and start again") from None


def _about(broadcast: bytes) -> tuple[bytes, bytes]:
    """Return all that decides what is asked but the numbers that were learnt so far."""
    message = Broadcast.from_bytes(broadcast, MOST)
    return message.header, message.catalogue
