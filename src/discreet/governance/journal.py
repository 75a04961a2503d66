"""An append-only chain of events.

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
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import rfc8785
from sqlalchemy import Text, bindparam, insert, select

from discreet.errors import LedgerCorrupted, LedgerError
from discreet.governance.checks import instant, now
from discreet.governance.database import Database
from discreet.governance.schema import as_bytes, journal, within_text

GENESIS = bytes(32)
LEAF = b"\x00"
LAST_POSSIBLE = 2**63 - 1  # of a row number, as it is stored

# Read as bytes: what was hashed is bytes, and an edited row need not even be text.
_APPEND = insert(journal)
_HEAD = select(journal.c.seq, as_bytes(journal.c.hash)).order_by(journal.c.seq.desc()).limit(1)
_HASHES = (
    select(journal.c.seq, as_bytes(journal.c.hash))
    .where(journal.c.seq >= bindparam("since"), journal.c.seq < bindparam("until"))
    .order_by(journal.c.seq)
)
_HASH = select(as_bytes(journal.c.hash)).where(journal.c.seq == bindparam("seq"))
_ROW = select(as_bytes(journal.c.body), as_bytes(journal.c.hash)).where(journal.c.seq == bindparam("seq"))
_ROWS = select(journal.c.seq, as_bytes(journal.c.body), as_bytes(journal.c.hash)).order_by(journal.c.seq)
_FIND = (
    select(journal.c.seq)
    .where(journal.c.seq >= bindparam("since"), within_text(journal.c.body, bindparam("told", type_=Text)) > 0)
    .limit(1)
)
_FIRST, _LAST = _FIND.order_by(journal.c.seq), _FIND.order_by(journal.c.seq.desc())


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
        self.database = database
        self._signer: str | None = None
        self._looked = 0  # for whoever signs heads, before this row

    def append(self, kind: str, *, at: str | None = None, **facts: str | float | None) -> int:
        """Add a row within the open transaction and return its number.

        Integers are not accepted: RFC 8785 holds them to 2^53, which sums of units may pass, so they come as text.

        Raises:
            LedgerError: no transaction is open; or the file cannot be written.
        """
        if not self.database.in_transaction:
            raise LedgerError("a journal row was to be written outside a transaction; write it within one")
        last = self.head()
        body = rfc8785.dumps({"kind": kind, "at": at or now(), **facts})
        digest = chained(bytes.fromhex(last.hash), last.seq + 1, body)
        self.database.execute(_APPEND, seq=last.seq + 1, body=body.decode(), hash=digest)
        return last.seq + 1

    def head(self) -> Head:
        """Return the last row's number and hash; ``Head(-1, zeros)`` for an empty journal."""
        row = self.database.one(_HEAD)
        return Head(-1, GENESIS.hex()) if row is None else Head(row[0], _whole(row[1], row[0]).hex())

    def hash_of(self, seq: int) -> str | None:
        """Return the hash (hex) of one row, or None if there is no such row."""
        if not 0 <= seq <= LAST_POSSIBLE:
            return None
        row = self.database.one(_HASH, seq=seq)
        return None if row is None else _whole(row[0], seq).hex()

    def identity(self) -> str:
        """Return the hash (hex) of row 0, which no two journals share: it tells of a random key.

        Raises:
            LedgerCorrupted: there is no row.
        """
        first = self.hash_of(0)
        if first is None:
            raise LedgerCorrupted("the journal has no rows; restore the database", row=0)
        return first

    def hashes(self, since: int = 0, until: int = LAST_POSSIBLE) -> Iterator[bytes]:
        """Stream the rows' hashes as they are stored, from row ``since`` to the one before ``until``, or to the last.

        Raises:
            LedgerCorrupted: a row is missing, or its hash.
        """
        rows = self.database.each(_HASHES, since=since, until=until)
        for expected, (seq, digest) in enumerate(rows, since):
            if seq != expected:
                raise LedgerCorrupted(f"journal row {expected} is missing", row=expected)
            yield _whole(digest, seq)

    def stored(self, seq: int) -> tuple[bytes, bytes]:
        """Return the hash of the row before one, and its body; the row follows in the chain.

        Raises:
            LedgerCorrupted: there is no such row, or it does not follow.
        """
        before, body, _ = self._stored(seq)
        return before, body

    def linked(self, seq: int) -> Entry:
        """Return one row, which follows the one before it in the chain.

        Raises:
            LedgerCorrupted: there is no such row, or it does not follow.
        """
        _, body, digest = self._stored(seq)
        return _entry(seq, body, digest)

    def _stored(self, seq: int) -> tuple[bytes, bytes, bytes]:
        row = self.database.one(_ROW, seq=seq)
        previous = GENESIS.hex() if seq == 0 else self.hash_of(seq - 1)
        if row is None or previous is None:
            raise LedgerCorrupted(f"journal row {max(seq, 0)} or the one before it is gone", row=max(seq, 0))
        before = bytes.fromhex(previous)
        if chained(before, seq, _whole(row[0], seq)) != row[1]:
            raise LedgerCorrupted(f"journal row {seq} does not fit the chain of hashes", row=seq)
        return before, row[0], row[1]

    def signer(self) -> str | None:
        """Return the public key (hex) with which heads are signed, by the last row that tells of one, or None.

        An object looks through each row once.
        """
        beyond = self.head().seq + 1
        row = self._last_told(b'"kind":"head"', self._looked)
        if row is not None:
            self._signer = str(self.linked(row).facts.get("key"))
        self._looked = beyond
        return self._signer

    def opening(self, name: str) -> int | None:
        """Return the number of the row that opens a budget, or None. Rows are looked through from the first."""
        row = self.database.one(_FIRST, since=0, told=_told("open", name).decode())
        return None if row is None else row[0]

    def last_pace(self, name: str) -> int | None:
        """Return the number of the last row that sets a budget's pace, or takes it away; or None."""
        return self._last_told(_told("pace", name), 0)

    def key(self, name: str) -> int | None:
        """Return the number of the row that tells of a key of the keyring, or None. All rows are looked through."""
        return self._last_told(_told("key", name, last=True), 0)

    def _last_told(self, told: bytes, since: int) -> int | None:
        row = self.database.one(_LAST, since=since, told=told.decode())
        return None if row is None else row[0]

    def rows(self) -> Iterator[Entry]:
        """Stream the journal from row 0.

        Raises:
            LedgerCorrupted: at the first row that does not fit the chain or cannot be read.
        """
        previous = GENESIS
        for expected, (seq, body, digest) in enumerate(self.database.each(_ROWS)):
            if seq != expected:
                raise LedgerCorrupted(f"journal row {expected} is missing", row=expected)
            if chained(previous, seq, _whole(body, seq)) != digest:
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


def _told(kind: str, name: str, *, last: bool = False) -> bytes:
    # Canonical JSON sorts its keys and escapes quotes, so these bytes stand in such a row alone.
    return f'"kind":"{kind}","name":'.encode() + rfc8785.dumps(name) + (b"}" if last else b",")


def _whole(stored: bytes | None, seq: int) -> bytes:
    if stored is None:
        raise LedgerCorrupted(f"journal row {seq} is damaged; run `discreet journal verify`", row=seq)
    return stored


def _entry(seq: int, body: bytes, digest: bytes) -> Entry:
    try:
        facts = json.loads(body)
        kind, at = facts.pop("kind"), facts.pop("at")
        if instant(at) != at:
            raise ValueError("not a time as it is written here")
        return Entry(seq, kind, at, facts, digest)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        # a chain written anew around nonsense
        raise LedgerCorrupted(f"journal row {seq} is not an event", row=seq) from error
