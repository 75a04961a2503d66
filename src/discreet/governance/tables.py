"""What the database holds beside the journal: its rows, its rules, and a reading of everything in it."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Iterator, Sequence
from pathlib import Path

from sqlalchemy import insert, select

from discreet.errors import LedgerError
from discreet.governance import journal, schema
from discreet.governance.accounts import AccountRow
from discreet.governance.charges import Charges
from discreet.governance.checks import sha256
from discreet.governance.database import Database
from discreet.governance.places import file_of
from discreet.governance.releases import ReleaseRow
from discreet.governance.sqlite import SQLite, create

ACCOUNTS, RELEASES = select(schema.account), select(schema.release)

_m = schema.matter.c
_CAPS = select(schema.person.c.dataset, schema.bytes_of(schema.person.c.pseudonym), schema.person.c.cap)
_COHORTS = select(schema.cohort.c.digest, schema.bytes_of(schema.cohort.c.members))
_CHARGES = select(schema.charge.c.digest, schema.bytes_of(schema.charge.c.units))
_MATTERS = select(_m.kind, _m.name, _m.state, _m.due, schema.bytes_of(_m.body))
_KEYS = select(schema.access)
_ITEMS = select(schema.item).order_by(schema.item.c.code)
_SECRETS = select(schema.secret).order_by(schema.secret.c.name)
_KEEP_SECRET = insert(schema.secret)

Key = tuple[str, ...]
RULES: Key = ("the rules of the file",)
SECRETS: Key = ("the key of the pseudonyms",)
PERSON = "a person's cap in"
MATTER = "a matter of kind"
ACCESS = "the key or account"
CATALOGUE: Key = ("the catalogue",)


def opened(place: str | Path, deadline: float, *, may_create: bool, may_be_older: bool = False) -> Database:
    """Open a ledger where it lies, in a file or on a server; make one if there is none and it may be made.

    One of an older version is opened to be upgraded, and for nothing else (`upgrade`).

    Raises:
        SettingError: ``place`` is neither a path nor the URL of a PostgreSQL database.
        LedgerError: it is missing and may not be made, or cannot be; or it cannot be opened.
    """
    path = file_of(place)
    if path is None:
        from discreet.governance.postgresql import PostgreSQL

        return PostgreSQL(str(place), deadline, _first_row if may_create else None, may_be_older=may_be_older)
    _find(path, may_create=may_create)
    return SQLite(path, deadline, must_write=may_create or may_be_older, may_be_older=may_be_older)


def _find(path: Path, *, may_create: bool) -> None:
    try:
        found = path.exists()
    except OSError as error:
        raise LedgerError(f"the ledger at {path} cannot be reached; check the path and its permissions") from error
    if not found and not may_create:
        raise LedgerError(
            f"there is no ledger at {path}; open a budget first, with `discreet budget open`, or restore what was there"
        )
    if not found:
        create(path, _first_row)


def _first_row(database: Database) -> None:
    database.execute(_KEEP_SECRET, name="pseudonyms", value=secrets.token_bytes(32))
    journal.Journal(database).append("create", version=str(schema.VERSION), **pins(database))


def everything(database: Database) -> Iterator[tuple[Key, object]]:
    """Yield all that the tables hold, in the shape in which a replay of the journal tells it."""
    for row in database.each(ACCOUNTS):
        yield ("budget", row[0]), AccountRow(*row)
    for row in database.each(RELEASES):
        yield ("release", row[0]), ReleaseRow(*row)
    for dataset, pseudonym, cap in database.each(_CAPS):
        yield (PERSON, dataset, pseudonym.hex()), cap
    for digest, members in database.each(_COHORTS):
        yield ("cohort", digest), sha256(members)
    for digest, units in database.each(_CHARGES):
        yield ("charge", digest), Charges(database).name(units)
    for kind, name, state, due, body in database.each(_MATTERS):
        yield (MATTER, kind, name), (state, due, sha256(body))
    for row in database.each(_KEYS):
        yield (ACCESS, row[0]), digest_of(row)
    if database.one(_ITEMS) is not None:
        yield CATALOGUE, catalogue_of(database)
    yield RULES, _rules(database)
    yield SECRETS, _secrets(database)


def digest_of(row: Sequence[object]) -> str:
    """Return a SHA-256 (hex) of what one row holds."""
    return sha256(repr(tuple(row)).encode())


def catalogue_of(database: Database) -> str:
    """Return a SHA-256 (hex) of the items that are listed, their codes, and what is said of them."""
    digest = hashlib.sha256()
    for row in database.each(_ITEMS):
        digest.update(digest_of(row).encode())
    return digest.hexdigest()


def pins(database: Database) -> dict[str, str]:
    """Return the hashes that row 0 of the journal, or that of an upgrade, holds: of the rules, and of the key."""
    return {"rules": _rules(database), "secrets": _secrets(database)}


def _rules(database: Database) -> str:
    """A hash of the tables' definitions and triggers: dropping one does not go unnoticed."""
    return sha256("\n".join(database.rules()).encode())


def _secrets(database: Database) -> str:
    return sha256(repr(list(database.each(_SECRETS))).encode())
