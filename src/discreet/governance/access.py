"""Who is at the door: keys of the staff, of applications and of persons, and sessions of those who sign in.

A key is 32 random bytes, shown once; what is stored is its SHA-256, which is enough for what cannot be guessed. A
password can be guessed, so of it an Argon2id hash is stored (RFC 9106; the library's parameters), and a wrong one costs
whoever tries as much as a right one. To sign in is to be given a key that ends within hours: a session.

A person's key is theirs alone; it goes when they are erased. Every key has an owner, who answers for it, and an end.

The journal tells of each key, when it is made, a digest of all that is stored of it, and when it ends before its time.
Nobody who has not the stored verifier learns from the digest whose key it is; the verifier goes with the key.
"""

from __future__ import annotations

import hmac
import secrets
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from functools import cache
from hashlib import sha256
from typing import TYPE_CHECKING, NamedTuple

from sqlalchemy import bindparam, delete, func, insert, select

from discreet.errors import NotAllowed, SettingError
from discreet.governance import schema
from discreet.governance.checks import check_name, now, stamp
from discreet.governance.database import Database, Row
from discreet.governance.journal import Journal
from discreet.governance.roles import DECIDING, Role
from discreet.governance.tables import digest_of

if TYPE_CHECKING:
    from argon2 import PasswordHasher

PREFIX = "discreet"
LONGEST_DAYS = 366
SESSION_HOURS = 8
SHORTEST_PASSWORD, LONGEST_PASSWORD = 12, 1_000

_a = schema.access.c
_ONE = select(_a.verifier, _a.role, _a.pseudonym, _a.until, _a.owner).where(_a.name == bindparam("name"))
_ALL = select(_a.name, _a.role, _a.owner, _a.made, _a.until).order_by(_a.made, _a.name)
_OF = (
    select(_a.name, _a.role, _a.owner, _a.made, _a.until)
    .where(_a.pseudonym == bindparam("pseudonym"))
    .order_by(_a.made, _a.name)
)
_MAKE = insert(schema.access)
_TAKE = delete(schema.access).where(_a.name == bindparam("which"))
_OVER = delete(schema.access).where(_a.until <= bindparam("time"))
_ANY_OVER = select(_a.name).where(_a.until <= bindparam("time")).limit(1)
_SESSIONS = select(_a.name).where(
    _a.owner == bindparam("whose"), _a.pseudonym.is_(None), _a.until <= bindparam("time"), _a.name != bindparam("whose")
)
_COUNT = select(func.count()).select_from(schema.access)


class Visitor(NamedTuple):
    """Who asks.

    Attributes:
        name: of their key; public.
        role: of theirs.
        owner: who answers for the key.
        pseudonym: of a person, 16 bytes.
    """

    name: str
    role: Role
    owner: str
    pseudonym: bytes | None = None


class Key(NamedTuple):
    """What is told of a key to the staff."""

    name: str
    role: str
    owner: str
    made: str
    until: str | None


class Access:
    """The keys there are."""

    def __init__(self, database: Database, journal: Journal) -> None:
        self._db, self._journal = database, journal

    def __len__(self) -> int:
        row = self._db.one(_COUNT)
        return 0 if row is None else int(row[0])

    def make(self, role: Role, owner: str, *, pseudonym: bytes | None = None, days: float = 90) -> str:
        """Make a key and return it: it is shown this once.

        Args:
            role: of whoever holds it.
            owner: who answers for it.
            pseudonym: of a person, whose key it is; only and always of a person.
            days: until it ends, up to 366.

        Raises:
            SettingError: it would be of a person without one, or the other way round; or it would not end in time.
        """
        check_name("owner", owner)
        if (role is Role.PERSON) != (pseudonym is not None):
            raise SettingError("a person's key is of a person, and no other is")
        if not 0 < days <= LONGEST_DAYS:
            raise SettingError(f"a key ends within {LONGEST_DAYS} days")
        name, secret = secrets.token_hex(6), secrets.token_urlsafe(32)
        self._keep(name, _digest(secret), role, pseudonym, owner, days)
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
            self._keep(name, verifier, role, None, name, LONGEST_DAYS)

    def sign_in(self, name: str, password: str) -> str:
        """Return a key of a session.

        Raises:
            NotAllowed: the name or the password is wrong; which of them is not told, nor shown by how long it takes.
        """
        from argon2.exceptions import InvalidHashError, VerificationError

        row = self._found(name)
        verifier = row[0] if row is not None and str(row[0]).startswith("$argon2") else _of_nobody()
        try:
            _hasher().verify(verifier, _bytes(password[: LONGEST_PASSWORD + 1]))
        except (VerificationError, InvalidHashError):
            raise NotAllowed("this name and this password do not go together") from None
        if row is None or _is_over(row[3]):
            raise NotAllowed("this name and this password do not go together")
        return self.make(Role(row[1]), name, days=SESSION_HOURS / 24)

    def visitor(self, key: str) -> Visitor | None:
        """Return whose key this is, or None: it is none, or has ended."""
        prefix, _, rest = key.partition("_")
        name, _, secret = rest.partition("_")
        row = self._found(name) if prefix == PREFIX else None
        if row is None or not hmac.compare_digest(str(row[0]), _digest(secret)) or _is_over(row[3]):
            return None
        return Visitor(name, Role(row[1]), row[4], None if row[2] is None else bytes(row[2]))

    def all(self) -> list[Key]:
        """Return what there is, without what opens anything."""
        return [Key(*row) for row in self._db.each(_ALL)]

    def stands(self, name: str) -> bool:
        """Tell whether a key of this name is there, and has not ended."""
        row = self._db.one(_ONE, name=name)
        return row is not None and not _is_over(row[3])

    def of(self, pseudonym: bytes) -> list[Key]:
        """Return the keys of a person, as they have a right to know of: who made them, and when."""
        return [Key(*row) for row in self._db.each(_OF, pseudonym=pseudonym)]

    def deciders(self) -> set[str]:
        """Return who has a key, or an account, with which things are decided that take two."""
        deciding = {str(role) for role in DECIDING}
        return {key.owner for key in self.all() if key.role in deciding and not _is_over(key.until)}

    def take(self, name: str) -> None:
        """Take a key away, or an account and its sessions. Nothing happens if there is none."""
        with self._db.transaction():
            if self._found(name) is not None:
                within = stamp(datetime.now(UTC) + timedelta(hours=SESSION_HOURS))
                self._take([name, *(row[0] for row in self._db.each(_SESSIONS, whose=name, time=within))])

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

    def _found(self, name: str) -> Row | None:
        return self._db.one(_ONE, name=name) if name.isprintable() else None  # what a database can be asked

    def _keep(self, name: str, verifier: str, role: Role, pseudonym: bytes | None, owner: str, days: float) -> None:
        time = now()
        until = stamp(datetime.now(UTC) + timedelta(days=days))
        row = (name, verifier, str(role), pseudonym, owner, time, until)
        with self._db.transaction():
            self._db.execute(_MAKE, **dict(zip(schema.access.columns.keys(), row, strict=True)))
            facts = {"key": name, "role": str(role), "owner": owner, "until": until, "stored": digest_of(row)}
            self._journal.append("access", at=time, **facts)


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
def _of_nobody() -> str:
    """Return a hash that no password fits, so that an unknown name takes as long as a known one."""
    return _hasher().hash(secrets.token_hex(32))
