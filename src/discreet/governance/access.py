"""Who is at the door: keys of the staff, of applications and of persons, and sessions of those who sign in.

A key is 32 random bytes, shown once; what is stored is its SHA-256, which is enough for what cannot be guessed. A
password can be guessed, so of it an Argon2id hash is stored (RFC 9106; the library's parameters), and a wrong one costs
whoever tries as much as a right one. To sign in is to be given a key that ends within hours: a session.

A person's key is theirs alone; it goes when they are erased, or when the key goes or ends that made it. Every key has
an owner, who answers for it, and an end; and may be narrowed to some of what its role allows.

What is stored is bound by a MAC under a key that the master key opens: whoever writes into the database without it adds
no key, and makes none of another role. A key that was taken away and is put back is bound, and named by verification.

The journal tells of each key, when it is made, a digest of all that is stored of it, and when it ends before its time.
Nobody who has not the stored verifier learns from the digest whose key it is; the verifier goes with the key.
"""

from __future__ import annotations

import hmac
import secrets
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from functools import cache
from hashlib import sha256
from typing import TYPE_CHECKING, NamedTuple

from sqlalchemy import bindparam, delete, func, insert, select

from discreet.errors import NotAllowed, SettingError
from discreet.governance import schema
from discreet.governance.checks import check_name, now, stamp
from discreet.governance.database import Database
from discreet.governance.holders import Holders
from discreet.governance.journal import Journal
from discreet.governance.roles import DECIDING, MATRIX, Permission, Role, allowed
from discreet.governance.tables import digest_of

if TYPE_CHECKING:
    from argon2 import PasswordHasher

PREFIX = "discreet"
LONGEST_DAYS = 366
SESSION_HOURS = 8
SHORTEST_PASSWORD, LONGEST_PASSWORD = 12, 1_000
MOST_OF_A_PERSON = 100
"""Keys that a person has at once."""

_a = schema.access.c
_ROWS = select(schema.access)
_ONE = _ROWS.where(_a.name == bindparam("name"))
_ALL = _ROWS.order_by(_a.made, _a.name)
_OF = _ALL.where(_a.pseudonym == bindparam("pseudonym"))
_MAKE = insert(schema.access)
_TAKE = delete(schema.access).where(_a.name == bindparam("which"))
_OVER = delete(schema.access).where(_a.until <= bindparam("time"))
_ANY_OVER = select(_a.name).where(_a.until <= bindparam("time")).limit(1)
_SESSIONS = select(_a.name).where(
    _a.owner == bindparam("whose"), _a.pseudonym.is_(None), _a.until <= bindparam("time"), _a.name != bindparam("whose")
)
_MADE_BY = select(_a.name).where(_a.owner == bindparam("whose"), _a.pseudonym.is_not(None))
_COUNT = select(func.count()).select_from(schema.access)
_NAMED = {str(permission): permission for permission in Permission}


class Visitor(NamedTuple):
    """Who asks.

    Attributes:
        name: of their key; public.
        role: of theirs.
        owner: who answers for the key.
        pseudonym: of a person, 16 bytes.
        only: what the key is narrowed to; None: it allows for all that its role does.
    """

    name: str
    role: Role
    owner: str
    pseudonym: bytes | None = None
    only: frozenset[Permission] | None = None

    def may(self, permission: Permission) -> bool:
        """Whether this key allows for something."""
        return allowed(self.role, permission) and (self.only is None or permission in self.only)


class Key(NamedTuple):
    """What is told of a key to the staff."""

    name: str
    role: str
    owner: str
    made: str
    until: str | None
    only: str | None


class Stored(NamedTuple):
    """A row of the table, in the order of its columns."""

    name: str
    verifier: str
    role: str
    pseudonym: bytes | None
    owner: str
    made: str
    until: str | None
    narrowed: str | None
    mac: bytes

    def told(self) -> Key:
        """Return what is told of it."""
        return Key(self.name, self.role, self.owner, self.made, self.until, self.narrowed)


class Access:
    """The keys there are."""

    def __init__(self, database: Database, journal: Journal, holders: Holders) -> None:
        self._db, self._journal, self._holders = database, journal, holders

    def __len__(self) -> int:
        row = self._db.one(_COUNT)
        return 0 if row is None else int(row[0])

    def make(
        self,
        role: Role,
        owner: str,
        *,
        pseudonym: bytes | None = None,
        days: float = 90,
        only: Iterable[Permission] | None = None,
    ) -> str:
        """Make a key and return it: it is shown this once.

        A person's key ends no later than the one that made it, its owner. Of too many, the first goes.

        Args:
            role: of whoever holds it.
            owner: who answers for it.
            pseudonym: of a person, whose key it is; only and always of a person.
            days: until it ends, up to 366.
            only: what it is narrowed to, of what the role allows; by default all of that.

        Raises:
            SettingError: it would be of a person without one, or the other way round; or it would not end in time; or
                be narrowed to nothing, or to what the role does not allow.
        """
        check_name("owner", owner)
        if (role is Role.PERSON) != (pseudonym is not None):
            raise SettingError("a person's key is of a person, and no other is")
        if not 0 < days <= LONGEST_DAYS:
            raise SettingError(f"a key ends within {LONGEST_DAYS} days")
        narrowed = None if only is None else frozenset(only)
        if narrowed is not None and not (narrowed and narrowed <= MATRIX[role]):
            raise SettingError(f"a key is narrowed to some of what its role, {role}, allows")
        name, secret = secrets.token_hex(6), secrets.token_urlsafe(32)
        until = stamp(datetime.now(UTC) + timedelta(days=days))
        with self._db.transaction():
            if pseudonym is not None:
                maker = self._found(owner)
                until = until if maker is None or maker.until is None else min(until, maker.until)
                self._take([key.name for key in self.of(pseudonym)[: 1 - MOST_OF_A_PERSON]])
            self._keep(name, _digest(secret), role, pseudonym, owner, until, narrowed)
        return f"{PREFIX}_{name}_{secret}"

    def sign_up(self, name: str, role: Role, password: str) -> None:
        """Let somebody of the staff sign in with a password.

        Raises:
            SettingError: the name is taken, or the password is too short or too long; or the role is a person's, whom
                an application signs in.
        """
        check_name("account", name, forbidden="_ ")
        if role is Role.PERSON:
            raise SettingError("persons are signed in by the application that knows them")
        if not SHORTEST_PASSWORD <= len(password) <= LONGEST_PASSWORD:
            raise SettingError(f"a password has {SHORTEST_PASSWORD} to {LONGEST_PASSWORD:,} characters")
        verifier = _hasher().hash(_bytes(password))
        with self._db.transaction():
            if self._db.one(_ONE, name=name) is not None:
                raise SettingError("an account of this name is there already")
            until = stamp(datetime.now(UTC) + timedelta(days=LONGEST_DAYS))
            self._keep(name, verifier, role, None, name, until, None)

    def verifier(self, name: str) -> str:
        """Return what `check_password` takes: of an account or, if there is none of this name, of nobody."""
        row = self._open(name)
        return row.verifier if row is not None and row.verifier.startswith("$argon2") else nobody()

    def sign_in(self, name: str, verifier: str) -> str:
        """Return a key of a session of whoever gave the password that a verifier of this account is of.

        Raises:
            NotAllowed: there is no such account any more, or its password is another.
        """
        row = self._open(name)
        if row is None or row.verifier != verifier:
            raise _wrong()
        return self.make(Role(row.role), name, days=SESSION_HOURS / 24)

    def visitor(self, key: str) -> Visitor | None:
        """Return whose key this is, or None: it is none, or has ended."""
        prefix, _, rest = key.partition("_")
        name, _, secret = rest.partition("_")
        row = self._open(name) if prefix == PREFIX else None
        if row is None or not hmac.compare_digest(row.verifier, _digest(secret)):
            return None
        only = None if row.narrowed is None else frozenset(_NAMED[each] for each in row.narrowed.split())
        return Visitor(name, Role(row.role), row.owner, row.pseudonym, only)

    def all(self) -> list[Key]:
        """Return what there is, without what opens anything."""
        return [Stored(*row).told() for row in self._db.each(_ALL)]

    def stands(self, name: str) -> bool:
        """Tell whether a key of this name is there, and has not ended."""
        return self._open(name) is not None

    def of(self, pseudonym: bytes) -> list[Key]:
        """Return the keys of a person, as they have a right to know of: who made them, and when."""
        return [Stored(*row).told() for row in self._db.each(_OF, pseudonym=pseudonym)]

    def deciders(self) -> set[str]:
        """Return who has a key, or an account, with which things are decided that take two."""
        deciding = {str(role) for role in DECIDING}
        rows = [Stored(*row) for row in self._db.each(_ALL)]
        return {row.owner for row in rows if row.role in deciding and row.narrowed is None and self._opens(row)}

    def take(self, name: str) -> None:
        """Take a key away, and those that it made for people; or an account and its sessions; if there is one."""
        with self._db.transaction():
            if self._found(name) is not None:
                within = stamp(datetime.now(UTC) + timedelta(hours=SESSION_HOURS))
                gone = [name, *(row[0] for row in self._db.each(_SESSIONS, whose=name, time=within))]
                self._take([*gone, *(row[0] for each in gone for row in self._db.each(_MADE_BY, whose=each))])

    def end(self, pseudonym: bytes) -> None:
        """Take all keys of a person away, within the open transaction."""
        self._take([key.name for key in self.of(pseudonym)])

    def tidy(self) -> None:
        """Take away what has ended."""
        time = now()
        with self._db.transaction():
            if self._db.one(_ANY_OVER, time=time) is not None:
                self._db.execute(_OVER, time=time)
                self._journal.append("access", key=None, role=None, until=time)

    def _take(self, names: Sequence[str]) -> None:
        for name in names:
            self._db.execute(_TAKE, which=name)
            self._journal.append("access", key=name, role=None)

    def _found(self, name: str) -> Stored | None:
        row = self._db.one(_ONE, name=name) if name.isprintable() else None  # what a database can be asked
        return None if row is None else Stored(*row)

    def _open(self, name: str) -> Stored | None:
        """Return what is stored of a key that opens: it has not ended, and was not changed."""
        row = self._found(name)
        return row if row is not None and self._opens(row) else None

    def _opens(self, row: Stored) -> bool:
        return not _is_over(row.until) and hmac.compare_digest(row.mac, self._mac(row))

    def _mac(self, row: Stored) -> bytes:
        return self._holders.mac_of_access(digest_of(row[:-1]).encode())

    def _keep(
        self,
        name: str,
        verifier: str,
        role: Role,
        pseudonym: bytes | None,
        owner: str,
        until: str,
        only: frozenset[Permission] | None,
    ) -> None:
        time = now()
        narrowed = None if only is None else " ".join(sorted(map(str, only)))
        row = Stored(name, verifier, str(role), pseudonym, owner, time, until, narrowed, b"")
        row = row._replace(mac=self._mac(row))
        with self._db.transaction():
            self._db.execute(_MAKE, **row._asdict())
            facts = {"key": name, "role": str(role), "owner": owner, "until": until, "stored": digest_of(row)}
            self._journal.append("access", at=time, **facts)


def check_password(verifier: str, password: str) -> None:
    """Return if this is the password. Takes a tenth of a second of a core, so do it where nobody waits for the thread.

    Raises:
        NotAllowed: it is not, or there is no such account; which of them is not told, nor shown by how long it takes.
    """
    from argon2.exceptions import InvalidHashError, VerificationError

    try:
        _hasher().verify(verifier, _bytes(password[: LONGEST_PASSWORD + 1]))
    except (VerificationError, InvalidHashError):
        raise _wrong() from None


def _wrong() -> NotAllowed:
    return NotAllowed("this name and this password do not go together")


def _digest(secret: str) -> str:
    return f"sha256:{sha256(secret.encode(errors='replace')).hexdigest()}"


def _bytes(password: str) -> bytes:
    return password.encode(errors="surrogatepass")  # whatever a keyboard or a program makes


def _is_over(until: str | None) -> bool:
    return until is not None and until <= now()


@cache
def _hasher() -> PasswordHasher:
    from argon2 import PasswordHasher

    return PasswordHasher()


@cache
def nobody() -> str:
    """Return a hash that no password fits, so that an unknown name takes as long as a known one. Made once."""
    return _hasher().hash(secrets.token_hex(32))
