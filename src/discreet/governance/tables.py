"""What the file holds beside the journal: its tables, its rules, and a reading of everything in it."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from pathlib import Path

from discreet.errors import LedgerError
from discreet.governance import journal
from discreet.governance.accounts import AccountRow
from discreet.governance.charges import Charges
from discreet.governance.checks import sha256
from discreet.governance.database import Database, create
from discreet.governance.releases import ReleaseRow

VERSION = 2

# The triggers and checks are the last line of defence: the ledger never comes near them. Those before an insert stop
# INSERT OR REPLACE, and those on row numbers UPDATE OR REPLACE: both take rows away past the triggers on deletion.
SCHEMA = """
CREATE TABLE secret (name TEXT PRIMARY KEY, value BLOB NOT NULL);
CREATE TABLE account (
    name TEXT PRIMARY KEY, dataset TEXT NOT NULL, epsilon REAL NOT NULL, delta REAL NOT NULL,
    cap INTEGER NOT NULL CHECK (typeof(cap) = 'integer'),
    person_cap INTEGER CHECK (person_cap > 0 AND typeof(person_cap) IN ('integer', 'null')), until TEXT,
    spent INTEGER NOT NULL DEFAULT 0 CHECK (typeof(spent) = 'integer' AND spent BETWEEN 0 AND cap)
);
CREATE TABLE cohort (
    digest TEXT PRIMARY KEY,
    members BLOB NOT NULL CHECK (typeof(members) = 'blob' AND length(members) > 0 AND length(members) % 16 = 0)
);
CREATE TABLE charge (
    digest TEXT PRIMARY KEY, units BLOB NOT NULL CHECK (typeof(units) = 'blob' AND length(units) % 8 = 0)
);
CREATE TABLE release (
    name TEXT PRIMARY KEY, account TEXT NOT NULL REFERENCES account,
    cost INTEGER NOT NULL CHECK (cost > 0 AND typeof(cost) = 'integer'),
    spec TEXT NOT NULL, asked TEXT, cohort TEXT REFERENCES cohort, prices TEXT REFERENCES charge,
    state TEXT NOT NULL CHECK (state IN ('reserved', 'committed', 'abandoned')), artefact TEXT,
    used TEXT REFERENCES charge,
    CHECK ((asked IS NULL) = (cohort IS NULL)), CHECK ((state = 'committed') = (artefact IS NOT NULL)),
    CHECK (cohort IS NOT NULL OR prices IS NULL AND used IS NULL), CHECK (state = 'committed' OR used IS NULL)
);
CREATE INDEX release_of_account ON release (account, cost);
CREATE TABLE person (
    dataset TEXT NOT NULL, pseudonym BLOB NOT NULL CHECK (typeof(pseudonym) = 'blob' AND length(pseudonym) = 16),
    cap INTEGER NOT NULL CHECK (cap >= 0 AND typeof(cap) = 'integer'), PRIMARY KEY (dataset, pseudonym)
);
CREATE TRIGGER spending_only_grows BEFORE UPDATE ON account
    WHEN NEW.spent < OLD.spent OR NEW.rowid IS NOT OLD.rowid
    OR NEW.name IS NOT OLD.name OR NEW.dataset IS NOT OLD.dataset
    OR NEW.epsilon IS NOT OLD.epsilon OR NEW.delta IS NOT OLD.delta OR NEW.cap IS NOT OLD.cap
    OR NEW.person_cap IS NOT OLD.person_cap OR NEW.until IS NOT OLD.until
    BEGIN SELECT RAISE(ABORT, 'no refund'); END;
CREATE TRIGGER release_ends_once BEFORE UPDATE ON release
    WHEN OLD.state <> 'reserved' OR NEW.rowid IS NOT OLD.rowid
    OR NEW.name IS NOT OLD.name OR NEW.account IS NOT OLD.account
    OR NEW.cost IS NOT OLD.cost OR NEW.spec IS NOT OLD.spec OR NEW.asked IS NOT OLD.asked
    OR NEW.cohort IS NOT OLD.cohort OR NEW.prices IS NOT OLD.prices
    BEGIN SELECT RAISE(ABORT, 'final'); END;
CREATE TRIGGER person_cap_only_falls BEFORE UPDATE ON person
    WHEN NEW.cap > OLD.cap OR NEW.rowid IS NOT OLD.rowid
    OR NEW.dataset IS NOT OLD.dataset OR NEW.pseudonym IS NOT OLD.pseudonym
    BEGIN SELECT RAISE(ABORT, 'no raise'); END;
CREATE TRIGGER cohort_is_fixed BEFORE UPDATE ON cohort BEGIN SELECT RAISE(ABORT, 'fixed'); END;
CREATE TRIGGER charge_is_fixed BEFORE UPDATE ON charge BEGIN SELECT RAISE(ABORT, 'fixed'); END;
CREATE TRIGGER secret_is_fixed BEFORE UPDATE ON secret BEGIN SELECT RAISE(ABORT, 'fixed'); END;
CREATE TRIGGER account_stays BEFORE DELETE ON account BEGIN SELECT RAISE(ABORT, 'stays'); END;
CREATE TRIGGER release_stays BEFORE DELETE ON release BEGIN SELECT RAISE(ABORT, 'stays'); END;
CREATE TRIGGER person_stays BEFORE DELETE ON person BEGIN SELECT RAISE(ABORT, 'stays'); END;
CREATE TRIGGER cohort_stays BEFORE DELETE ON cohort BEGIN SELECT RAISE(ABORT, 'stays'); END;
CREATE TRIGGER charge_stays BEFORE DELETE ON charge BEGIN SELECT RAISE(ABORT, 'stays'); END;
CREATE TRIGGER secret_stays BEFORE DELETE ON secret BEGIN SELECT RAISE(ABORT, 'stays'); END;
CREATE TRIGGER account_opens_once BEFORE INSERT ON account
    WHEN EXISTS (SELECT 1 FROM account WHERE name = NEW.name OR rowid = NEW.rowid)
    BEGIN SELECT RAISE(ABORT, 'once'); END;
CREATE TRIGGER release_is_reserved_once BEFORE INSERT ON release
    WHEN EXISTS (SELECT 1 FROM release WHERE name = NEW.name OR rowid = NEW.rowid)
    BEGIN SELECT RAISE(ABORT, 'once'); END;
CREATE TRIGGER person_is_limited_once BEFORE INSERT ON person
    WHEN EXISTS (
        SELECT 1 FROM person
        WHERE dataset = NEW.dataset AND pseudonym = NEW.pseudonym OR rowid = NEW.rowid
    )
    BEGIN SELECT RAISE(ABORT, 'once'); END;
CREATE TRIGGER cohort_is_kept_once BEFORE INSERT ON cohort
    WHEN EXISTS (SELECT 1 FROM cohort WHERE digest = NEW.digest OR rowid = NEW.rowid)
    BEGIN SELECT RAISE(ABORT, 'once'); END;
CREATE TRIGGER charge_is_kept_once BEFORE INSERT ON charge
    WHEN EXISTS (SELECT 1 FROM charge WHERE digest = NEW.digest OR rowid = NEW.rowid)
    BEGIN SELECT RAISE(ABORT, 'once'); END;
CREATE TRIGGER secret_is_made_once BEFORE INSERT ON secret
    WHEN EXISTS (SELECT 1 FROM secret WHERE name = NEW.name OR rowid = NEW.rowid)
    BEGIN SELECT RAISE(ABORT, 'once'); END;
"""

# Columns are named: an administrator may add some, which is for `verify` to tell.
ACCOUNTS = "SELECT name, dataset, epsilon, delta, cap, person_cap, until, spent FROM account"
RELEASES = "SELECT name, account, cost, spec, asked, cohort, prices, state, artefact, used FROM release"

Key = tuple[str, ...]
RULES: Key = ("the rules of the file",)
SECRETS: Key = ("the key of the pseudonyms",)
PERSON = "a person's cap in"


def find(path: Path, *, may_create: bool) -> None:
    """Make the file if it is missing.

    Raises:
        LedgerError: it is missing and may not be made, or cannot be; or its folder cannot be looked into.
    """
    try:
        found = path.exists()
    except OSError as error:
        raise LedgerError(f"the ledger at {path} cannot be reached; check the path and its permissions") from error
    if not found and not may_create:
        raise LedgerError(f"there is no ledger at {path}; open a budget first, with `discreet budget open`")
    if not found:
        create(path, VERSION, journal.SCHEMA + SCHEMA, _first_row)


def _first_row(database: Database) -> None:
    with database.transaction():
        database.execute("INSERT INTO secret VALUES ('pseudonyms', ?)", secrets.token_bytes(32))
        journal.Journal(database).append("create", **pins(database))


def everything(database: Database) -> Iterator[tuple[Key, object]]:
    """Yield all that the tables hold, in the shape in which a replay of the journal tells it."""
    for row in database.each(ACCOUNTS):
        yield ("budget", row[0]), AccountRow(*row)
    for row in database.each(RELEASES):
        yield ("release", row[0]), ReleaseRow(*row)
    for dataset, pseudonym, cap in database.each("SELECT dataset, hex(pseudonym), cap FROM person"):
        yield (PERSON, dataset, pseudonym.lower()), cap
    for digest, members in database.each("SELECT digest, COALESCE(CAST(members AS BLOB), x'') FROM cohort"):
        yield ("cohort", digest), sha256(members)
    for digest, units in database.each("SELECT digest, COALESCE(CAST(units AS BLOB), x'') FROM charge"):
        yield ("charge", digest), Charges(database).name(units)
    yield RULES, _rules(database)
    yield SECRETS, _secrets(database)


def pins(database: Database) -> dict[str, str]:
    """Return the hashes that row 0 of the journal holds: of the rules, and of the key of the pseudonyms."""
    return {"rules": _rules(database), "secrets": _secrets(database)}


def _rules(database: Database) -> str:
    """A hash of the tables' definitions and triggers: dropping one does not go unnoticed."""
    rules = [row[0] for row in database.each("SELECT sql FROM sqlite_schema WHERE sql IS NOT NULL ORDER BY type, name")]
    return sha256("\n".join(rules).encode())


def _secrets(database: Database) -> str:
    return sha256(repr(list(database.each("SELECT name, value FROM secret ORDER BY name"))).encode())
