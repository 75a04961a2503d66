"""The people whose data is held: a pseudonym and a key each. Who they are is nowhere.

A person is known by HMAC-SHA256 of their id, 16 bytes, under a key that is itself stored wrapped. What is handed out
for a purpose carries other pseudonyms, under a key of that purpose, so that two exports do not join. What is sealed for
a person opens with their key alone (``keys``); `erase` takes the key away.

In the journal a person is a token of their key: while the key is there the rows that are about them can be found, and
shown to them; when it is gone, nobody can tell whose they were.

===============================  ============================================================================
edge case                        behaviour
===============================  ============================================================================
somebody who is not held         `seal` is None; they read what somebody with nothing reads
erased, and then back again      another key: nothing of before opens. (In the ledger of budgets they are who
                                 they were: what was spent of theirs stays spent.)
a key of the ring is gone, or    LedgerCorrupted, at each open: with another key for people nobody would be known any
another stands in its place      more. The journal tells of each that was made, by a MAC that it alone makes
a rotation that is interrupted   both master keys are held until it is repeated and ends
a database that is older         its wrapped keys open no longer once the master key was rotated and forgotten
===============================  ============================================================================
"""

from __future__ import annotations

import hmac
from collections.abc import Iterable, Iterator
from contextlib import suppress
from typing import NamedTuple

from sqlalchemy import bindparam, delete, func, insert, select, update

from discreet.errors import KeyMissing, LedgerCorrupted, SealBroken, SettingError
from discreet.governance import schema
from discreet.governance.database import Database
from discreet.governance.journal import Journal
from discreet.governance.keys import NAME_BYTES, Seal, Wrapping, new_key

PEOPLE, ACCOUNTS, ACCESS, BATCHES = "people", "accounts", "access", "batches"
LONGEST_ID = 200
CHUNK = 1_000
_RESTORE = "restore the database, or this row of it, from a copy; run `discreet journal verify`"

_k = schema.keyring.c
_WRAPPED = select(_k.wrapped, _k.told).where(_k.name == bindparam("name"))
_KEEP_KEY = insert(schema.keyring)
_HELD = select(schema.holder.c.wrapped).where(schema.holder.c.pseudonym == bindparam("pseudonym"))
_HOLD = insert(schema.holder)
_FORGET = delete(schema.holder).where(schema.holder.c.pseudonym == bindparam("who"))
_COUNT = select(func.count()).select_from(schema.holder)
_AFTER = (
    select(schema.holder.c.pseudonym, schema.holder.c.wrapped)
    .where(schema.holder.c.pseudonym > bindparam("after"))
    .order_by(schema.holder.c.pseudonym)
    .limit(CHUNK)
)
_REWRAP = update(schema.holder).where(schema.holder.c.pseudonym == bindparam("who")).values(wrapped=bindparam("anew"))
_RING = select(_k.name, schema.bytes_of(_k.wrapped), _k.told)
_REWRAP_KEY = update(schema.keyring).where(_k.name == bindparam("which")).values(wrapped=bindparam("anew"))


class RingKey(NamedTuple):
    """A key of the keyring as it is held: its name, the row that tells of it, and its check, None if it opens not."""

    name: str
    row: int
    check: str | None


class Holders:
    """Pseudonyms and keys.

    Args:
        database: where they are.
        journal: of that database, which tells of each key that is made.
        wrapping: the master key, or what has it.
        purposes: that data may be handed out for.

    Raises:
        SealBroken: the database's keys were changed, or are wrapped by another master key (KeyMissing).
        LedgerCorrupted: a key that the journal tells of is gone, or is another.
    """

    def __init__(self, database: Database, journal: Journal, wrapping: Wrapping, purposes: Iterable[str]) -> None:
        self._db, self._journal, self._wrapping = database, journal, wrapping
        names = [PEOPLE, ACCOUNTS, ACCESS, BATCHES, *(f"purpose:{purpose}" for purpose in purposes)]
        self._keys = {name: self._key(name) for name in names}

    def pseudonym(self, person: str | int) -> bytes:
        """Return how a person is known here, 16 bytes. Whoever is not held has one, too.

        Raises:
            SettingError: the id is empty, longer than 200 characters, or holds what does not print.
        """
        text = str(person)
        if not 0 < len(text) <= LONGEST_ID or not text.isprintable():
            raise SettingError(f"a person's id has 1 to {LONGEST_ID} characters that print")
        return self._hmac(PEOPLE, text.encode())

    def id_for(self, purpose: str, pseudonym: bytes) -> str:
        """Return how a person is known in what is handed out for a purpose: 32 hex digits."""
        return self._hmac(f"purpose:{purpose}", pseudonym).hex()

    def id_of_account(self, pseudonym: bytes) -> str:
        """Return how a person is known to the ledger of budgets, for all purposes: 32 hex digits."""
        return self._hmac(ACCOUNTS, pseudonym).hex()

    def mac_of_access(self, content: bytes) -> bytes:
        """Return the MAC, 16 bytes, that binds what is stored of a key of access (`access`)."""
        return self._hmac(ACCESS, content)

    def id_of_batch(self, content: str) -> str:
        """Return how what somebody sends is known again, 32 hex digits: neither its name nor what it holds is told."""
        return self._hmac(BATCHES, content.encode()).hex()

    def __len__(self) -> int:
        row = self._db.one(_COUNT)
        return 0 if row is None else int(row[0])

    def holds(self, pseudonym: bytes) -> bool:
        """Whether anything is held of a person."""
        return self._stored(pseudonym) is not None

    def seal(self, pseudonym: bytes) -> Seal | None:
        """Return what opens what is held of a person, or None if nothing is."""
        wrapped = self._stored(pseudonym)  # no copy is kept: another process may erase it
        return None if wrapped is None else self.opened(pseudonym, wrapped)

    def hold(self, pseudonym: bytes) -> Seal:
        """Return what seals for a person, within the open transaction; of whoever is not held yet, make a key."""
        wrapped = self._stored(pseudonym)
        if wrapped is None:
            wrapped = self._wrapping.wrap(new_key(), _of_holder(pseudonym))
            self._db.execute(_HOLD, pseudonym=pseudonym, wrapped=wrapped)
        return self.opened(pseudonym, wrapped)

    def token(self, pseudonym: bytes) -> str:
        """Return how the journal knows a person who is held: 32 hex digits, which their key alone makes."""
        return token_of(self.opened(pseudonym, self._stored(pseudonym) or b""))

    def erase(self, pseudonym: bytes) -> None:
        """Take a person's key away, within the open transaction: what it sealed does not open any more."""
        self._db.execute(_FORGET, who=pseudonym)

    def opened(self, pseudonym: bytes, wrapped: bytes) -> Seal:
        """Return what a person's wrapped key opens. Raises as `opened_by`."""
        return opened_by(self._wrapping, pseudonym, wrapped)

    def rotate(self) -> Iterator[int]:
        """Wrap all keys by the current master key; yield how many persons' are done, after each transaction.

        What a key sealed stays as it is. May be interrupted, and repeated.
        """
        with self._db.transaction():
            for name, wrapped, _ in list(self._db.each(_RING)):
                anew = self._anew(wrapped, _of_ring(name))
                if anew is not None:
                    self._db.execute(_REWRAP_KEY, which=name, anew=anew)
        done, after = 0, b""
        while rows := list(self._db.each(_AFTER, after=after)):
            with self._db.transaction():
                for pseudonym, wrapped in rows:
                    anew = self._anew(wrapped, _of_holder(pseudonym))
                    if anew is not None:
                        self._db.execute(_REWRAP, who=pseudonym, anew=anew)
            done, after = done + len(rows), rows[-1][0]
            yield done

    def _anew(self, wrapped: bytes, context: bytes) -> bytes | None:
        if wrapped[:NAME_BYTES] == self._wrapping.current:
            return None
        return self._wrapping.wrap(self._wrapping.unwrap(wrapped, context), context)

    def _stored(self, pseudonym: bytes) -> bytes | None:
        row = self._db.one(_HELD, pseudonym=pseudonym)
        return None if row is None else bytes(row[0])

    def _hmac(self, name: str, content: bytes) -> bytes:
        return hmac.new(self._keys[name], content, "sha256").digest()[:16]

    def _key(self, name: str) -> bytes:
        """Return a key of the keyring; make it, if there never was one.

        Raises:
            LedgerCorrupted: the journal tells of one that is gone, or of another.
        """
        row = self._db.one(_WRAPPED, name=name)
        if row is None:
            with self._db.transaction():
                row = self._db.one(_WRAPPED, name=name) or self._made(name)  # or another process was first
        key, told = self._wrapping.unwrap(bytes(row[0]), _of_ring(name)), None
        with suppress(LedgerCorrupted):  # there is no such row
            told = self._journal.linked(row[1]).facts if isinstance(row[1], int) else None
        if told != {"name": name, "check": _check_of(key)}:
            raise LedgerCorrupted(f"the key {name} of the keyring is not the one that the journal tells of; {_RESTORE}")
        return key

    def _made(self, name: str) -> tuple[bytes, int]:
        row, key = self._journal.key(name), new_key()
        if row is not None:
            raise LedgerCorrupted(f"the key {name} of the keyring is gone; {_RESTORE}", row=row)
        wrapped = self._wrapping.wrap(key, _of_ring(name))
        row = self._journal.append("key", name=name, check=_check_of(key))
        self._db.execute(_KEEP_KEY, name=name, wrapped=wrapped, told=row)
        return wrapped, row


def opened_by(wrapping: Wrapping, pseudonym: bytes, wrapped: bytes) -> Seal:
    """Return what a person's wrapped key opens.

    Raises:
        SealBroken: the key is another's, or was changed.
    """
    return Seal(wrapping.unwrap(wrapped, _of_holder(pseudonym)))


def token_of(seal: Seal) -> str:
    """Return how the journal knows whose key this is: 32 hex digits."""
    return seal.mac(b"discreet: in the journal")[:16].hex()


def ring_of(database: Database, wrapping: Wrapping | None) -> Iterator[RingKey]:
    """Yield each key of the keyring; without a master key none opens.

    Raises:
        KeyMissing: it is wrapped by a master key that is not among these.
    """
    for name, wrapped, row in database.each(_RING):
        check = None
        try:
            check = None if wrapping is None else _check_of(wrapping.unwrap(bytes(wrapped), _of_ring(name)))
        except KeyMissing:
            raise
        except SealBroken:
            pass
        yield RingKey(name, row, check)


def _check_of(key: bytes) -> str:
    """Return what the journal tells of a key of the keyring: it alone makes this, and nothing else that it makes is."""
    return hmac.digest(key, b"discreet: a key of the ring\0", "sha256").hex()


def _of_holder(pseudonym: bytes) -> bytes:
    return b"holder\0" + pseudonym


def _of_ring(name: str) -> bytes:
    return b"keyring\0" + name.encode()
