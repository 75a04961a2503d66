"""Budgets, and what was spent from them: in integers, durable, never given back.

The protocol of a release::

    RESERVE   charge the whole price, in one durable transaction
    compute   with a fresh noise key; each round draws on the reservation
    write     the candidate under its hash; fsync file and folder
    COMMIT    the first hash wins; whoever comes later is told the winner
    publish   link the winner's candidate to its name

A process may die between any two of these lines. Before COMMIT nothing was visible, so the same release id is reserved
again, at no further charge, and computed anew. After COMMIT only the winner can be published: `resume` does it.

Formal guarantees
-----------------
* The costs of an account's releases, in whatever state, never sum to more than its cap: spending is charged before
  anything is computed, and no call lowers it.
* Where persons have caps, the costs of the releases of a data set that a person was admitted to never sum to more than
  that person's cap at the time of admission, across all purposes. Whoever has too little left is not admitted; the
  others are. Source: Feldman and Zrnic 2021, individual privacy filters; for Gaussian releases Koskela, Tobaben and
  Honkela 2023. Each admitted person is charged the plan's full bound, which no data enters.
* Each of these changes is a row of the journal, written in the same transaction.

Persons are held only as pseudonyms: HMAC-SHA256, 16 bytes, under a random key of this ledger.
"""

from __future__ import annotations

import hashlib
import hmac
import math
import operator
import os
import secrets
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, NamedTuple, Self, cast

import numpy as np
from numpy.typing import NDArray

from discreet.errors import (
    AccountMissing,
    BudgetExceeded,
    LedgerCorrupted,
    LedgerError,
    ReleaseConflict,
    SettingError,
)
from discreet.governance.journal import Database, Entry, Head, Journal, create, now, sync_folder
from discreet.privacy import accounting

VERSION = 1
LONGEST_NAME = 200

# The triggers and checks are the last line of defence: this module never comes near them.
SCHEMA = """
CREATE TABLE secret (name TEXT PRIMARY KEY, value BLOB NOT NULL);
CREATE TABLE account (
    name TEXT PRIMARY KEY, dataset TEXT NOT NULL, epsilon REAL NOT NULL, delta REAL NOT NULL,
    cap INTEGER NOT NULL, person_cap INTEGER CHECK (person_cap > 0), until TEXT,
    spent INTEGER NOT NULL DEFAULT 0, CHECK (spent >= 0 AND spent <= cap)
);
CREATE TABLE cohort (digest TEXT PRIMARY KEY, members BLOB NOT NULL);
CREATE TABLE release (
    name TEXT PRIMARY KEY, account TEXT NOT NULL REFERENCES account, cost INTEGER NOT NULL CHECK (cost > 0),
    spec TEXT NOT NULL, asked TEXT, cohort TEXT REFERENCES cohort,
    state TEXT NOT NULL CHECK (state IN ('reserved', 'committed', 'abandoned')), artefact TEXT,
    CHECK ((asked IS NULL) = (cohort IS NULL)), CHECK ((state = 'committed') = (artefact IS NOT NULL))
);
CREATE INDEX release_of_account ON release (account);
CREATE TABLE person (
    dataset TEXT NOT NULL, pseudonym BLOB NOT NULL, cap INTEGER NOT NULL, PRIMARY KEY (dataset, pseudonym)
);
CREATE TRIGGER spending_only_grows BEFORE UPDATE ON account
    WHEN NEW.spent < OLD.spent OR NEW.name IS NOT OLD.name OR NEW.dataset IS NOT OLD.dataset
    OR NEW.epsilon IS NOT OLD.epsilon OR NEW.delta IS NOT OLD.delta OR NEW.cap IS NOT OLD.cap
    OR NEW.person_cap IS NOT OLD.person_cap OR NEW.until IS NOT OLD.until
    BEGIN SELECT RAISE(ABORT, 'no refund'); END;
CREATE TRIGGER release_ends_once BEFORE UPDATE ON release
    WHEN OLD.state <> 'reserved' OR NEW.name IS NOT OLD.name OR NEW.account IS NOT OLD.account
    OR NEW.cost IS NOT OLD.cost OR NEW.spec IS NOT OLD.spec OR NEW.asked IS NOT OLD.asked
    OR NEW.cohort IS NOT OLD.cohort
    BEGIN SELECT RAISE(ABORT, 'final'); END;
CREATE TRIGGER person_cap_only_falls BEFORE UPDATE ON person
    WHEN NEW.cap > OLD.cap OR NEW.dataset IS NOT OLD.dataset OR NEW.pseudonym IS NOT OLD.pseudonym
    BEGIN SELECT RAISE(ABORT, 'no raise'); END;
CREATE TRIGGER cohort_is_fixed BEFORE UPDATE ON cohort BEGIN SELECT RAISE(ABORT, 'fixed'); END;
CREATE TRIGGER secret_is_fixed BEFORE UPDATE ON secret BEGIN SELECT RAISE(ABORT, 'fixed'); END;
CREATE TRIGGER account_stays BEFORE DELETE ON account BEGIN SELECT RAISE(ABORT, 'stays'); END;
CREATE TRIGGER release_stays BEFORE DELETE ON release BEGIN SELECT RAISE(ABORT, 'stays'); END;
CREATE TRIGGER person_stays BEFORE DELETE ON person BEGIN SELECT RAISE(ABORT, 'stays'); END;
CREATE TRIGGER cohort_stays BEFORE DELETE ON cohort BEGIN SELECT RAISE(ABORT, 'stays'); END;
"""

UNCAPPED = np.iinfo(np.int64).max
SIDES: tuple[Literal["left", "right"], ...] = ("left", "right")

Crowd = NDArray[np.void]
"""Pseudonyms, 16 bytes each (dtype V16: the S types would drop trailing zero bytes)."""

People = Sequence[str | int] | NDArray[Any]


# --- What callers see --------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Account:
    """Whose budget: one data set, used for one purpose. Prints as ``dataset/purpose``.

    Raises:
        SettingError: a name is empty, longer than 200 characters, or holds ``/`` or a control character.
    """

    dataset: str
    purpose: str

    def __post_init__(self) -> None:
        _check_name("dataset", self.dataset, forbidden="/")
        _check_name("purpose", self.purpose, forbidden="/")

    def __str__(self) -> str:
        return f"{self.dataset}/{self.purpose}"


@dataclass(frozen=True, slots=True)
class AccountState:
    """A budget as it stands. ``cap``, ``spent``, ``left`` and ``person_cap`` are units; epsilons are at ``delta``.

    ``left`` is 0 once ``until`` (ISO 8601, UTC; None: no end) has come. ``releases`` counts them in every state.
    """

    account: Account
    epsilon: float
    delta: float
    cap: int
    spent: int
    left: int
    epsilon_spent: float
    person_cap: int | None
    until: str | None
    releases: int

    def to_dict(self) -> dict[str, Any]:
        """Return the same as plain values for JSON, the account as text."""
        return {name: getattr(self, name) for name in self.__slots__} | {"account": str(self.account)}


@dataclass(frozen=True, slots=True)
class ReleaseState:
    """A release: ``cost`` in units; ``state`` reserved, committed or abandoned; ``spec``, ``artefact`` SHA-256 (hex).

    ``people`` is how many were admitted, or None if the release was reserved without naming people.
    """

    release: str
    account: str
    cost: int
    spec: str
    state: str
    artefact: str | None
    people: int | None

    def to_dict(self) -> dict[str, Any]:
        """Return the same as plain values for JSON."""
        return asdict(self)


@dataclass(eq=False)
class Reservation:
    """The right to compute one release, already paid for in full.

    ``state`` is ``reserved`` (compute, with fresh noise) or ``committed`` (load the artefact of this SHA-256 instead).
    ``admitted`` tells of each of the people given whether to count them in: bool [people], or None if none were given.
    """

    release: str
    account: Account
    cost: int
    spec: str
    state: str
    artefact: str | None
    admitted: NDArray[np.bool_] | None
    drawn: int = field(default=0, init=False)

    def draw(self, units: int) -> None:
        """Take ``units`` of what was reserved, before a round. Nothing is written: the whole was charged at once.

        Raises:
            SettingError: ``units`` is negative or not an integer.
            BudgetExceeded: the rounds together would cost more than was reserved, or the release is already made.
        """
        units = _whole("cost of a round", units, least=0)
        left = self.cost - self.drawn if self.state == "reserved" else 0
        if units > left:
            raise BudgetExceeded(
                f"release {self.release} of {self.account}: {units:,} units asked by a round, {left:,} of its "
                f"reservation left ({self.state}); reserve the price of the whole plan under a new release id",
                account=str(self.account),
                asked=units,
                left=left,
                until=None,
            )
        self.drawn += units


@dataclass(frozen=True, slots=True)
class Problem:
    """Something that does not fit, and the journal row it shows at (None: no row tells of it)."""

    row: int | None
    what: str


@dataclass(frozen=True, slots=True)
class Verification:
    """What `Ledger.verify` found: the number of journal rows read, the problems in the order of rows, the head."""

    rows: int
    problems: list[Problem]
    head: Head

    @property
    def ok(self) -> bool:
        """Whether everything fits."""
        return not self.problems

    def require(self) -> None:
        """Return if everything fits.

        Raises:
            LedgerCorrupted: names the first row that does not fit.
        """
        if self.problems:
            first = self.problems[0]
            where = "the tables" if first.row is None else f"journal row {first.row}"
            raise LedgerCorrupted(f"{where}: {first.what}; do not spend from this ledger, find out why", row=first.row)


# --- Rows, as the tables hold them -------------------------------------------------------------------------------


class _Account(NamedTuple):
    name: str
    dataset: str
    epsilon: float
    delta: float
    cap: int
    person_cap: int | None
    until: str | None
    spent: int

    @property
    def terms(self) -> tuple[object, ...]:
        return self[:-1]

    def left_at(self, time: str) -> int:
        return 0 if self.until is not None and time >= self.until else self.cap - self.spent


class _Release(NamedTuple):
    name: str
    account: str
    cost: int
    spec: str
    asked: str | None
    cohort: str | None
    state: str = "reserved"
    artefact: str | None = None


# --- Persons, as pseudonyms -------------------------------------------------------------------------------------


class _Persons:
    """What the ledger knows of persons: which cohorts they were in, and their caps."""

    def __init__(self, database: Database) -> None:
        self._db = database

    def crowd(self, dataset: str, people: People) -> Crowd:
        """The pseudonyms, V16 [people], in the order given."""
        if len(people) == 0:
            raise SettingError(f"nobody was named of data set {dataset}; give at least one person")
        key = self._db.one("SELECT value FROM secret WHERE name = 'pseudonyms'")
        if key is None:
            raise LedgerCorrupted("the key of the pseudonyms is gone; restore the ledger", row=0)
        # A numpy array is of one type, so tolist keeps what each id is; a list may mix "1" and 1, which are two people.
        ids = people.tolist() if isinstance(people, np.ndarray) else people
        prefix = dataset.encode() + b"\0"
        return _as_crowd(b"".join(hmac.digest(key[0], prefix + each, "sha256")[:16] for each in _tagged(ids)))

    def cohort(self, digest: str) -> Crowd:
        row = self._db.one("SELECT members FROM cohort WHERE digest = ?", digest)
        if row is None or hashlib.sha256(row[0]).hexdigest() != digest:
            raise LedgerCorrupted("a cohort is not what was reserved; run `discreet ledger verify`")
        return _as_crowd(row[0])

    def spent(self, dataset: str, crowd: Crowd) -> NDArray[np.int64]:
        """Units spent on each of the crowd, int64 [people]."""
        spent = np.zeros(len(crowd), np.int64)
        costs = self._db.each(
            "SELECT cohort, SUM(cost) FROM release JOIN account ON account.name = account WHERE dataset = ? "
            "GROUP BY cohort",
            dataset,
        )
        for digest, cost in costs:
            spent += cost if digest is None else cost * _within(self.cohort(digest), crowd)
        return spent

    def general_cap(self, dataset: str) -> int | None:
        row = self._db.one("SELECT MIN(person_cap) FROM account WHERE dataset = ?", dataset)
        return None if row is None else row[0]

    def capped(self, dataset: str) -> bool:
        own = self._db.one("SELECT 1 FROM person WHERE dataset = ? LIMIT 1", dataset)
        return own is not None or self.general_cap(dataset) is not None

    def caps(self, dataset: str, crowd: Crowd) -> NDArray[np.int64]:
        """The cap of each of a sorted crowd in units, int64 [people]; the largest int64 where there is none."""
        general = self.general_cap(dataset)
        caps = np.full(len(crowd), UNCAPPED if general is None else general, np.int64)
        for pseudonym, cap in self._db.each("SELECT pseudonym, cap FROM person WHERE dataset = ?", dataset):
            start, stop = (int(np.searchsorted(crowd, _as_crowd(pseudonym), side)[0]) for side in SIDES)
            caps[start:stop] = np.minimum(caps[start:stop], cap)
        return caps

    def admit(self, dataset: str, cost: int, members: Crowd) -> Crowd:
        """Those of the sorted members who can afford the cost."""
        if not self.capped(dataset):
            return members
        return members[self.spent(dataset, members) <= self.caps(dataset, members) - cost]


def _as_crowd(pseudonyms: bytes) -> Crowd:
    return np.frombuffer(pseudonyms, dtype="V16")


def _within(members: Crowd, crowd: Crowd) -> NDArray[np.bool_]:
    """Tell of each of the crowd whether the sorted members hold them."""
    at = np.minimum(np.searchsorted(members, crowd), len(members) - 1)
    found: NDArray[np.bool_] = members[at] == crowd
    return found


def _tagged(ids: Sequence[str | int]) -> Iterator[bytes]:
    for position, person in enumerate(ids):
        if isinstance(person, str):
            yield b"s" + person.encode("utf-8", "surrogatepass")  # an error of the encoder would quote the id
        elif isinstance(person, int | np.integer) and not isinstance(person, bool):
            yield b"i%d" % int(person)
        else:
            kind = type(person).__name__
            raise SettingError(f"a person's id is text or an integer; number {position} (from 0) is of type {kind}")


def _digest(crowd: Crowd | None) -> str | None:
    return None if crowd is None else hashlib.sha256(crowd.tobytes()).hexdigest()


# --- The ledger --------------------------------------------------------------------------------------------------


class Ledger:
    """Budgets in one SQLite file. Use one object per thread and process; any number of them may share the file.

    Args:
        path: the file. It is made, with mode 0600, if missing and ``create``.
        create: give False to read: then a missing file is an error.
        deadline: seconds to wait for other processes that are writing.

    Raises:
        LedgerError: the file is missing, busy, unwritable, or of another version; it is left untouched.
        LedgerCorrupted: the file is damaged or is not an SQLite file; it is left untouched.
    """

    def __init__(self, path: str | Path, *, create: bool = True, deadline: float = 30.0) -> None:
        self.path = Path(path)
        if not self.path.exists():
            _found(self.path, allowed=create)
        self._db = Database(self.path, deadline, VERSION)
        self.journal = Journal(self._db)
        self._persons = _Persons(self._db)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    # Budgets

    def open_budget(
        self,
        account: Account,
        *,
        epsilon: float,
        delta: float,
        person_epsilon: float | None = None,
        until: str | None = None,
    ) -> AccountState:
        """Open a budget of ``epsilon`` at ``delta``. With the terms it has already, nothing happens.

        Args:
            account: data set and purpose.
            epsilon: nats, above 0 and at most 1,000; becomes the cap in units.
            delta: in (0, 1).
            person_epsilon: the cap of each person, at the same delta, over all purposes of the data set. If the
                budgets of a data set differ in it, the lowest holds.
            until: the end, ISO 8601 (UTC unless it says otherwise; a date is its first instant). None: no end.

        Raises:
            SettingError: a number is out of its range; ``until`` is not a time, or is past.
            LedgerError: the budget is open on other terms. There is no raising, resetting or reopening.
        """
        cap = accounting.cap(epsilon, delta)
        person_cap = None if person_epsilon is None else accounting.cap(person_epsilon, delta)
        end = None if until is None else _instant(until)
        asked = _Account(str(account), account.dataset, epsilon, delta, cap, person_cap, end, 0)
        with self._db.transaction():
            found = self._account(asked.name)
            if found is None:
                self._open(asked)
            elif found.terms != asked.terms:
                raise LedgerError(
                    f"budget of {account} is already open with {_terms(found)}; {_terms(asked)} was asked; "
                    "raising a cap is a new grant by two people, not supported yet"
                )
        return self.account(account)

    def _open(self, asked: _Account) -> None:
        if asked.left_at(now()) == 0:
            raise SettingError(f"budget of {asked.name} would end before it begins, on {asked.until}; give a later end")
        self._db.execute("INSERT INTO account VALUES (?, ?, ?, ?, ?, ?, ?, ?)", *asked)
        facts = asked._asdict() | {"cap": str(asked.cap), "person_cap": _text(asked.person_cap), "spent": "0"}
        self.journal.append("open", **facts)

    def account(self, account: Account) -> AccountState:
        """Return one budget as it stands.

        Raises:
            AccountMissing: it was never opened.
        """
        with self._db.snapshot():
            return self._state(self._open_account(account))

    def accounts(self) -> list[AccountState]:
        """Return every budget as it stands, by name."""
        with self._db.snapshot():
            rows = list(self._db.each("SELECT * FROM account ORDER BY name"))
            return [self._state(_Account(*row)) for row in rows]

    def _state(self, row: _Account) -> AccountState:
        spent = accounting.epsilon_of(row.spent, row.delta)
        releases = self._number("SELECT COUNT(*) FROM release WHERE account = ?", row.name)
        account = Account(*row.name.split("/"))
        left = row.left_at(now())
        return AccountState(
            account, row.epsilon, row.delta, row.cap, row.spent, left, spent, row.person_cap, row.until, releases
        )

    def releases(self, account: Account | None = None) -> list[ReleaseState]:
        """Return the releases of one account, or of all, in the order of reservation."""
        rows = self._db.each(
            "SELECT r.name, account, cost, spec, state, artefact, length(members) / 16 FROM release AS r "
            "LEFT JOIN cohort ON cohort.digest = r.cohort WHERE ?1 IS NULL OR account = ?1 ORDER BY r.rowid",
            None if account is None else str(account),
        )
        return [ReleaseState(*row) for row in rows]

    # People

    def limit_person(self, dataset: str, person: str | int, *, epsilon: float, delta: float) -> None:
        """Give one person a smaller cap of their own in a data set, over all purposes. It can only be lowered.

        A cap below what was spent is allowed: that person takes part in nothing further.

        Raises:
            SettingError: a number is out of its range, or the person is neither text nor an integer.
            AccountMissing: the data set has no budget.
            LedgerError: the cap would be higher than it is.
        """
        cap = accounting.cap(epsilon, delta)
        pseudonym = self._persons.crowd(dataset, [person]).tobytes()
        with self._db.transaction():
            if self._db.one("SELECT 1 FROM account WHERE dataset = ?", dataset) is None:
                raise AccountMissing(f"no budget is open for data set {dataset}; open one with `discreet budget open`")
            held = self._caps_of(dataset, pseudonym)
            if held and cap > min(held):
                raise LedgerError(f"a person's cap in {dataset} can only be lowered; ask for a smaller epsilon")
            if cap not in held:
                self._limit(dataset, pseudonym, cap)

    def _caps_of(self, dataset: str, pseudonym: bytes) -> list[int]:
        own = self._db.one("SELECT cap FROM person WHERE dataset = ? AND pseudonym = ?", dataset, pseudonym)
        general = self._persons.general_cap(dataset)
        return ([] if own is None else [own[0]]) + ([] if general is None else [general])

    def _limit(self, dataset: str, pseudonym: bytes, cap: int) -> None:
        self._db.execute(
            "INSERT INTO person VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET cap = excluded.cap", dataset, pseudonym, cap
        )
        self.journal.append("limit", dataset=dataset, pseudonym=pseudonym.hex(), cap=str(cap))

    def person_spent(self, dataset: str, person: str | int) -> int:
        """Return the units spent on one person in a data set. This is that person's own data: show it to nobody else.

        Releases that were reserved without naming people count for everybody.
        """
        crowd = self._persons.crowd(dataset, [person])
        with self._db.snapshot():
            return int(self._persons.spent(dataset, crowd)[0])

    # Releases

    def reserve(
        self, account: Account, *, cost: int, release: str, spec: str, people: People | None = None
    ) -> Reservation:
        """Charge the whole price of a release, durably, or refuse and charge nothing.

        Repeating a reservation with the same terms returns it and charges nothing more: after a crash, compute again
        with fresh noise (state ``reserved``) or load what was made (state ``committed``).

        Args:
            account: the budget to charge.
            cost: the plan's full bound, in units, above 0: what a person who contributes most would lose.
            release: the caller's id of this release; names nobody.
            spec: SHA-256 (hex) of the canonical plan.
            people: whose data is used, in the caller's order. May be left out if no person of the data set has a cap.

        Raises:
            SettingError: an argument is out of its range; or people have caps and were not given.
            AccountMissing: the budget was never opened.
            ReleaseConflict: the id names a release with other terms, or one that was abandoned.
            BudgetExceeded: the account has less left, or has ended; or nobody has that much left. ``left`` is then
                the account's, or 0 where persons' caps decided, which tells nothing of anybody's. The refusal is
                journalled.
        """
        _check_name("release", release)
        _check_sha256("spec", spec)
        cost = _whole("cost of a release", cost, least=1)
        crowd = None if people is None else self._persons.crowd(account.dataset, people)
        members = None if crowd is None else np.unique(crowd)
        asked = _Release(release, str(account), cost, spec, _digest(members), None)
        try:
            with self._db.transaction():
                row = self._reserved(asked) or self._charge(account, asked, members)
                admitted = (
                    None if crowd is None or row.cohort is None else _within(self._persons.cohort(row.cohort), crowd)
                )
        except BudgetExceeded as refusal:
            self._journal_refusal(asked, refusal)
            raise
        return Reservation(release, account, cost, spec, row.state, row.artefact, admitted)

    def _reserved(self, asked: _Release) -> _Release | None:
        """The reservation that is asked for again, or None if it is new."""
        found = self._release(asked.name)
        if found is None:
            return None
        if found.state == "abandoned":
            raise ReleaseConflict(f"release {asked.name} was abandoned; reserve under a new release id")
        if found[:5] != asked[:5]:
            raise ReleaseConflict(
                f"release {asked.name} is already reserved with another account, cost, plan or group of people; "
                "reserve under a new release id"
            )
        return found

    def _charge(self, account: Account, asked: _Release, members: Crowd | None) -> _Release:
        row, time = self._open_account(account), now()
        left = row.left_at(time)
        if asked.cost > left:
            raise _refusal(row, asked.cost, left)
        admitted = self._admit(row, asked.cost, members)
        paid = asked._replace(cohort=_digest(admitted))
        if admitted is not None:
            self._db.execute("INSERT INTO cohort VALUES (?, ?) ON CONFLICT DO NOTHING", paid.cohort, admitted.tobytes())
        self._db.execute("UPDATE account SET spent = spent + ? WHERE name = ?", paid.cost, row.name)
        self._db.execute("INSERT INTO release VALUES (?, ?, ?, ?, ?, ?, ?, ?)", *paid)
        facts = {"account": paid.account, "cost": str(paid.cost), "spec": paid.spec}
        self.journal.append("reserve", at=time, release=paid.name, **facts, asked=paid.asked, cohort=paid.cohort)
        return paid

    def _admit(self, row: _Account, cost: int, members: Crowd | None) -> Crowd | None:
        if members is None:
            if self._persons.capped(row.dataset):
                raise SettingError(f"people of {row.dataset} have caps; say whose data is used, with people=")
            return None
        admitted = self._persons.admit(row.dataset, cost, members)
        if len(admitted) == 0:
            raise BudgetExceeded(
                f"budget of {row.name}: epsilon {_epsilon(cost, row.delta, math.ceil)} asked ({cost:,} units), none of "
                "the people given has that much left under their own cap; ask for less",
                account=row.name,
                asked=cost,
                left=0,
                until=row.until,
            )
        return admitted

    def _journal_refusal(self, asked: _Release, refusal: BudgetExceeded) -> None:
        with self._db.transaction():
            self.journal.append(
                "refuse", release=asked.name, account=asked.account, cost=str(asked.cost), left=str(refusal.left)
            )

    def commit(self, release: str, artefact: str) -> str:
        """Bind a reserved release to one artefact, SHA-256 (hex); return the hash that it is bound to.

        The first commit wins: a later one changes nothing and is given the winner's hash.

        Raises:
            SettingError: ``artefact`` is not a SHA-256 in hex.
            ReleaseConflict: the release was never reserved, or was abandoned.
        """
        _check_sha256("artefact", artefact)
        with self._db.transaction():
            row = self._known(release)
            if row.artefact is not None:
                return row.artefact
            self._end(row, "committed", artefact)
            self.journal.append("commit", release=release, artefact=artefact)
        return artefact

    def abandon(self, release: str) -> None:
        """End a reserved release without an artefact. What it cost stays charged: noise may have been drawn.

        Raises:
            ReleaseConflict: the release was never reserved, or has ended.
        """
        with self._db.transaction():
            self._end(self._known(release), "abandoned", None)
            self.journal.append("abandon", release=release)

    def artefact(self, release: str) -> str | None:
        """Return the hash that a release is bound to, or None while it is only reserved.

        Raises:
            ReleaseConflict: the release was never reserved.
        """
        return self._known(release).artefact

    def _end(self, row: _Release, state: str, artefact: str | None) -> None:
        if row.state != "reserved":
            raise ReleaseConflict(
                f"release {row.name} is {state} too late: it is {row.state}; reserve a new release id"
            )
        self._db.execute("UPDATE release SET state = ?, artefact = ? WHERE name = ?", state, artefact, row.name)

    def _known(self, release: str) -> _Release:
        found = self._release(release)
        if found is None:
            raise ReleaseConflict(f"release {release} was never reserved; reserve it before it is made")
        return found

    def _release(self, name: str) -> _Release | None:
        row = self._db.one("SELECT * FROM release WHERE name = ?", name)
        return None if row is None else _Release(*row)

    def _account(self, name: str) -> _Account | None:
        row = self._db.one("SELECT * FROM account WHERE name = ?", name)
        return None if row is None else _Account(*row)

    def _open_account(self, account: Account) -> _Account:
        found = self._account(str(account))
        if found is None:
            raise AccountMissing(f"no budget is open for {account}; open one with `discreet budget open`")
        return found

    def _number(self, sql: str, *values: object) -> int:
        row = self._db.one(sql, *values)
        return 0 if row is None else row[0]

    # Verification

    def verify(self, expected_head: Head | None = None, artefacts: Path | None = None) -> Verification:
        """Replay the journal from row 0 and compare it with everything the file holds.

        Args:
            expected_head: a head that was kept elsewhere; the journal must still contain it.
            artefacts: a folder that must hold the artefact of every committed release.

        Raises:
            LedgerCorrupted: the file is too damaged to be read at all.
            LedgerError: the folder of artefacts cannot be read.
        """
        replay = _Replay()
        with self._db.snapshot():
            problems = self._history(replay) + self._beheaded(expected_head) + self._damage()
            head = self.journal.head()
        if artefacts is not None:
            problems += replay.without_artefact(_hashes(artefacts))
        problems.sort(key=lambda problem: math.inf if problem.row is None else problem.row)
        return Verification(replay.rows, problems, head)

    def _history(self, replay: _Replay) -> list[Problem]:
        try:
            for entry in self.journal.rows():
                replay.apply(entry)
        except LedgerCorrupted as misfit:  # from that row on the journal is no witness, so nothing is compared with it
            return [*replay.problems, Problem(misfit.row, str(misfit))]
        return replay.problems + list(replay.differences(self._held()))

    def _held(self) -> Iterator[tuple[Key, object]]:
        """Everything the tables hold, in the shape in which a replay tells it."""
        for row in self._db.each("SELECT * FROM account"):
            yield ("budget", row[0]), _Account(*row)
        for row in self._db.each("SELECT * FROM release"):
            yield ("release", row[0]), _Release(*row)
        for dataset, pseudonym, cap in self._db.each("SELECT dataset, hex(pseudonym), cap FROM person"):
            yield ("a person's cap in", dataset, pseudonym.lower()), cap
        for digest, members in self._db.each("SELECT digest, CAST(members AS BLOB) FROM cohort"):
            yield ("cohort", digest), hashlib.sha256(members).hexdigest()
        yield RULES, _rules(self._db)
        yield SECRETS, _secrets(self._db)

    def _beheaded(self, expected: Head | None) -> list[Problem]:
        found = None if expected is None else self.journal.hash_of(expected.seq)
        if expected is None or found == expected.hash:
            return []
        if found is None:
            last = self.journal.head().seq
            return [
                Problem(last + 1, f"the journal ends at row {last}, its head of row {expected.seq} was kept elsewhere")
            ]
        return [Problem(expected.seq, f"row {expected.seq} is not the one whose hash was kept elsewhere")]

    def _damage(self) -> list[Problem]:
        findings = [row[0] for row in self._db.each("PRAGMA integrity_check")]
        strays = list(self._db.each("PRAGMA foreign_key_check"))
        damaged = [] if findings == ["ok"] else [Problem(None, "the file fails SQLite's integrity check")]
        return damaged + ([Problem(None, f"{len(strays)} table rows refer to rows that are gone")] if strays else [])


def _found(path: Path, *, allowed: bool) -> None:
    if not allowed:
        raise LedgerError(f"there is no ledger at {path}; open a budget first, with `discreet budget open`")
    create(path, VERSION, SCHEMA, _first_row)


def _first_row(database: Database) -> None:
    with database.transaction():
        database.execute("INSERT INTO secret VALUES ('pseudonyms', ?)", secrets.token_bytes(32))
        Journal(database).append("create", rules=_rules(database), secrets=_secrets(database))


def _rules(database: Database) -> str:
    """A hash of the tables' definitions and triggers: dropping one does not go unnoticed."""
    rules = [row[0] for row in database.each("SELECT sql FROM sqlite_schema WHERE sql IS NOT NULL ORDER BY type, name")]
    return _sha256("\n".join(rules).encode())


def _secrets(database: Database) -> str:
    return _sha256(repr(list(database.each("SELECT name, value FROM secret ORDER BY name"))).encode())


# --- What the journal says ---------------------------------------------------------------------------------------

Key = tuple[str, ...]
RULES: Key = ("the rules of the file",)
SECRETS: Key = ("the key of the pseudonyms",)


class _Replay:
    """What the tables should hold, told by the journal alone, and what in the journal breaks the protocol."""

    def __init__(self) -> None:
        self.rows = 0
        self.problems: list[Problem] = []
        self._budgets: dict[str, _Account] = {}
        self._releases: dict[str, _Release] = {}
        self._told: dict[Key, tuple[object, int]] = {}  # what it should be, and the row that last changed it
        self._kinds = {
            "create": self._create,
            "open": self._open,
            "limit": self._limit,
            "reserve": self._reserve,
            "refuse": self._refuse,
            "commit": self._commit,
            "abandon": self._abandon,
        }

    def apply(self, entry: Entry) -> None:
        self.rows += 1
        try:
            wrong = self._kinds[entry.kind](entry)
        except (KeyError, TypeError, ValueError):
            wrong = "is not an event of this version"
        if wrong:
            self.problems.append(Problem(entry.seq, wrong))

    def _create(self, entry: Entry) -> str | None:
        self._told[RULES] = entry.facts["rules"], entry.seq
        self._told[SECRETS] = entry.facts["secrets"], entry.seq
        return None if entry.seq == 0 else "creates the ledger a second time"

    def _open(self, entry: Entry) -> str | None:
        facts = entry.facts | {"cap": int(entry.facts["cap"]), "spent": int(entry.facts["spent"])}
        facts["person_cap"] = None if facts["person_cap"] is None else int(facts["person_cap"])
        opened = _Account(**facts)
        if opened.name in self._budgets or opened.spent:
            return f"opens budget {opened.name} a second time"
        self._put_budget(opened, entry)
        return None

    def _limit(self, entry: Entry) -> str | None:
        key, cap = ("a person's cap in", entry.facts["dataset"], entry.facts["pseudonym"]), int(entry.facts["cap"])
        before = self._told.get(key)
        self._told[key] = cap, entry.seq
        return "raises a person's cap" if before is not None and cap > cast("int", before[0]) else None

    def _reserve(self, entry: Entry) -> str | None:
        facts = entry.facts
        release = _Release(facts["release"], facts["account"], int(facts["cost"]), *_pick(facts))
        budget = self._budgets.get(release.account)
        if budget is None:
            return f"spends from budget {release.account}, which is not open"
        if release.name in self._releases:
            return f"reserves {release.name} a second time"
        if not 0 < release.cost <= budget.left_at(entry.at):
            return f"spends more from budget {release.account} than is left"
        if release.cohort is not None:
            self._told.setdefault(("cohort", release.cohort), (release.cohort, entry.seq))
        self._put_budget(budget._replace(spent=budget.spent + release.cost), entry)
        self._put_release(release, entry)
        return None

    def _refuse(self, entry: Entry) -> str | None:
        asked, left, account = int(entry.facts["cost"]), int(entry.facts["left"]), entry.facts["account"]
        return None if account in self._budgets and asked > left else f"refuses what budget {account} had left"

    def _commit(self, entry: Entry) -> str | None:
        return self._end(entry, "committed", entry.facts["artefact"])

    def _abandon(self, entry: Entry) -> str | None:
        return self._end(entry, "abandoned", None)

    def _end(self, entry: Entry, state: str, artefact: str | None) -> str | None:
        release = self._releases.get(entry.facts["release"])
        if release is None or release.state != "reserved":
            return f"ends release {entry.facts['release']}, which is not reserved"
        self._put_release(release._replace(state=state, artefact=artefact), entry)
        return None

    def _put_budget(self, budget: _Account, entry: Entry) -> None:
        self._budgets[budget.name] = budget
        self._told["budget", budget.name] = budget, entry.seq

    def _put_release(self, release: _Release, entry: Entry) -> None:
        self._releases[release.name] = release
        self._told["release", release.name] = release, entry.seq

    def differences(self, held: Iterator[tuple[Key, object]]) -> Iterator[Problem]:
        """What the tables hold otherwise than the journal tells, each at the row that last told of it."""
        missing = dict(self._told)
        for key, value in held:
            told, row = missing.pop(key, (None, None))
            if told is None:
                yield Problem(None, f"{_label(key)} is in the tables, no row tells of it")
            elif told != value:
                yield Problem(row, f"{_label(key)} is not what the journal tells{_details(told, value)}")
        for key, (_, row) in missing.items():
            yield Problem(row, f"{_label(key)} is gone from the tables")

    def without_artefact(self, hashes: set[str]) -> Iterator[Problem]:
        """The committed releases whose artefact is not among those hashes."""
        for release in self._releases.values():
            if release.artefact is not None and release.artefact not in hashes:
                row = self._told["release", release.name][1]
                yield Problem(row, f"the artefact of release {release.name} is gone or was changed")


def _pick(facts: dict[str, Any]) -> tuple[str, str | None, str | None]:
    return facts["spec"], facts["asked"], facts["cohort"]


def _label(key: Key) -> str:
    return " ".join(key[:2])  # a pseudonym, third, stays out


def _details(told: object, held: object) -> str:
    if not isinstance(told, _Account | _Release) or not isinstance(held, _Account | _Release):
        return ""
    pairs = zip(told._fields, told, held, strict=True)
    return "".join(f"; {name} is {is_!r}, not {was!r}" for name, was, is_ in pairs if was != is_)


# --- Publication -------------------------------------------------------------------------------------------------


def publish(ledger: Ledger, release: str, payload: bytes, folder: Path, name: str) -> Path:
    """Bind ``payload`` to a reserved release and put it at ``folder / name``, once. Return that path.

    May be repeated after a crash at any point, also by several processes at once: the first payload that was committed
    is what is published, whatever the later ones bring. No other file is overwritten.

    Raises:
        SettingError: ``name`` is not a plain file name.
        ReleaseConflict: the release was never reserved, or was abandoned.
        LedgerError: another file stands at that path (nothing was committed); or the disk is full or fails (the
            release stays as it was: try again, at no further charge).
    """
    target = _target(folder, name)
    artefact = _sha256(payload)
    before = _content(target)  # looked at before the ledger, or the winner's own file could be taken for a stranger
    if ledger.artefact(release) is None:
        if before not in {None, artefact}:
            raise LedgerError(f"{name} is taken by another file; publish {release} under another name")
        if _write(_candidate(folder, release, artefact), payload):
            ledger.commit(release, artefact)
    return resume(ledger, release, folder, name)


def resume(ledger: Ledger, release: str, folder: Path, name: str) -> Path:
    """Finish the publication of a committed release. Does nothing if it is finished. Return the path.

    Raises:
        SettingError: ``name`` is not a plain file name.
        ReleaseConflict: the release was never reserved.
        LedgerError: it is not committed; its candidate is gone; another file stands at that path; the disk fails.
    """
    target, winner = _target(folder, name), ledger.artefact(release)
    if winner is None:
        raise LedgerError(f"release {release} has no artefact yet; compute it again and publish that")
    candidate = _candidate(folder, release, winner)
    try:
        with suppress(FileExistsError, FileNotFoundError):  # done already, here or by another process: see below
            os.link(candidate, target)  # atomic, and never overwrites
        _check_published(target, winner, release)
        sync_folder(folder)
        # Candidates that lost are releases nobody paid for. They go too.
        for leftover in folder.glob(_candidate(folder, release, "*").name):
            leftover.unlink(missing_ok=True)
        sync_folder(folder)
    except OSError as error:
        raise LedgerError(f"{name} could not be published; check its folder and disk, then try again") from error
    return target


def _check_published(target: Path, winner: str, release: str) -> None:
    content = _content(target)
    if content is None:
        raise LedgerError(f"the artefact of release {release} is gone from {target.parent}; restore it from a copy")
    if content != winner:
        raise LedgerError(f"{target.name} is not the artefact of release {release}; publish under another name")


def _target(folder: Path, name: str) -> Path:
    _check_name("file", name, forbidden="/\\")
    if name.startswith("."):
        raise SettingError(f"file name {name} would be hidden; give one that does not begin with a dot")
    return folder / name


def _candidate(folder: Path, release: str, artefact: str) -> Path:
    # Two releases may have the same content, and each sweeps up only its own candidates.
    return folder / f".candidate-{_sha256(release.encode())[:16]}-{artefact}"


def _write(candidate: Path, payload: bytes) -> bool:
    """Write a candidate durably, whole or not at all. False: another attempt has committed and swept this one up."""
    draft = candidate.with_name(f"{candidate.name}-{secrets.token_hex(8)}")
    try:
        with draft.open("xb") as file:
            file.write(payload)
            file.flush()
            os.fsync(file.fileno())
        with suppress(FileNotFoundError):
            draft.replace(candidate)
        sync_folder(candidate.parent)
        return candidate.exists()
    except OSError as error:
        raise LedgerError(
            f"an artefact could not be written to {candidate.parent}; check the folder, free space and try again: "
            "the release stays reserved"
        ) from error
    finally:
        draft.unlink(missing_ok=True)


def _content(path: Path) -> str | None:
    """SHA-256 (hex) of a file, or None if there is none."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise LedgerError(f"{path.name} cannot be read; check the folder and its permissions") from error


def _hashes(folder: Path) -> set[str]:
    try:
        files = [path for path in folder.iterdir() if path.is_file()]
    except OSError as error:
        raise LedgerError(f"the folder of artefacts {folder} cannot be read; check the path") from error
    return {content for path in files if (content := _content(path)) is not None}


# --- Words and checks --------------------------------------------------------------------------------------------


def _refusal(row: _Account, asked: int, left: int) -> BudgetExceeded:
    end = "" if row.until is None else f" until {_day(row.until)}"
    price = f"epsilon {_epsilon(asked, row.delta, math.ceil)} asked, {_epsilon(left, row.delta, math.floor)} left{end}"
    ended = row.until is not None and left < row.cap - row.spent
    advice = "it has ended: a new period is a new grant" if ended else "ask for less"
    return BudgetExceeded(
        f"budget of {row.name}: {price} (units: {asked:,} asked, {left:,} left); {advice}",
        account=row.name,
        asked=asked,
        left=left,
        until=row.until,
    )


def _epsilon(units: int, delta: float, rounded: Callable[[float], int]) -> str:
    """Two decimals, rounded against the spender: up what is asked, down what is left."""
    if units > accounting.cap(accounting.MAX_EPSILON, delta):
        return f"above {accounting.MAX_EPSILON:,.0f}"
    return f"{rounded(100 * accounting.epsilon_of(units, delta)) / 100:g}"


def _terms(row: _Account) -> str:
    person = "no cap a person" if row.person_cap is None else f"{row.person_cap:,} units a person"
    end = "no end" if row.until is None else f"until {_day(row.until)}"
    return f"epsilon {row.epsilon:g} at delta {row.delta:g}, {person}, {end}"


def _day(time: str) -> str:
    return time.removesuffix("T00:00:00Z")


def _instant(text: str) -> str:
    try:
        time = datetime.fromisoformat(text)
        return (time.replace(tzinfo=time.tzinfo or UTC)).astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    except (ValueError, OverflowError) as error:
        raise SettingError(f"until must be a date or time such as 2027-01-01 (ISO 8601), got {text!r}") from error


def _text(units: int | None) -> str | None:
    return None if units is None else str(units)


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _whole(what: str, units: int, least: int) -> int:
    try:
        whole = operator.index(units)  # also takes numpy's integers; a float is refused, however round
    except TypeError as error:
        raise SettingError(f"{what} is an integer number of units, got a {type(units).__name__}") from error
    if whole < least:
        raise SettingError(f"{what} is at least {least} units, got {whole}")
    return whole


def _check_sha256(what: str, text: str) -> None:
    if len(text) != 64 or not set(text) <= set("0123456789abcdef"):
        raise SettingError(f"{what} must be a SHA-256 in 64 lower-case hex digits, got {len(text)} characters")


def _check_name(what: str, text: str, forbidden: str = "") -> None:
    if not 0 < len(text) <= LONGEST_NAME:
        raise SettingError(f"name of a {what} has 1 to {LONGEST_NAME} characters, got {len(text)}")
    if not text.isprintable() or any(sign in text for sign in forbidden):
        raise SettingError(f"name of a {what} holds a control character or one of {forbidden!r}; leave it out")
