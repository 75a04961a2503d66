"""Persons, as pseudonyms: who was in which release, who can afford another, and the same told a second time.

A pseudonym is HMAC-SHA256, 16 bytes, under a random key of this ledger. The journal holds the pseudonym of a person who
was given a cap of their own, for a replay must find that person in the cohorts. These and the key lie in the same file,
so the journal tells nobody anything that the file does not. A digest of the pseudonym would hide no more: it is as
unreadable without the key, and as easily computed with it.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import ColumnElement, bindparam, func, insert, literal_column, select, update

from discreet.errors import LedgerCorrupted, SettingError
from discreet.governance import schema
from discreet.governance.charges import Charges, Units
from discreet.governance.checks import check_name, sha256, stored_units
from discreet.governance.database import Database, Statement, pseudonym_key

UNCAPPED = np.iinfo(np.int64).max
WIDTH = 16
LONGEST_ID = 4096  # bits of an integer; Python refuses to print far longer ones

_THIS_COHORT = schema.cohort.c.digest == bindparam("digest")
_MEMBERS = select(schema.bytes_of(schema.cohort.c.members)).where(_THIS_COHORT)
_IS_KEPT = select(schema.cohort.c.digest).where(_THIS_COHORT)
_KEEP = insert(schema.cohort)

_LOWEST_CAP = select(func.min(schema.account.c.person_cap)).where(schema.account.c.dataset == bindparam("dataset"))
_OWN = schema.person.c.dataset == bindparam("dataset")
_OWN_CAPS = select(schema.bytes_of(schema.person.c.pseudonym), schema.person.c.cap).where(_OWN)
_ANY_OWN_CAP = select(schema.person.c.cap).where(_OWN).limit(1)
_THIS_PERSON = (schema.person.c.dataset == bindparam("of")) & (schema.person.c.pseudonym == bindparam("whom"))
_IS_LIMITED = select(schema.person.c.cap).where(_THIS_PERSON)
_LIMIT = insert(schema.person)
_LIMIT_AGAIN = update(schema.person).where(_THIS_PERSON).values(cap=bindparam("cap"))


def _sums(digest: ColumnElement[str]) -> Statement:
    """What a data set's releases sum to, for each cohort and each list of units."""
    release, account = schema.release.c, schema.account.c
    return (
        select(release.cohort, digest.label("units"), schema.total(release.cost), func.count())
        .join_from(schema.release, schema.account)
        .where(account.dataset == bindparam("dataset"))
        .where(release.account.not_like("%/%/interaction"))  # no sum of anybody's; two slashes: a purpose may be so
        .group_by(release.cohort, literal_column("units"))
    )


_HELD = _sums(schema.release.c.prices)
_SPENT = _sums(func.coalesce(schema.release.c.used, schema.release.c.prices))

Crowd = NDArray[np.void]
"""Pseudonyms, 16 bytes each (dtype V16: the S types would drop trailing zero bytes)."""

People = Sequence[str | int] | NDArray[Any]


class Persons:
    """What the ledger knows of persons: which cohorts they were in, and their caps."""

    def __init__(self, database: Database) -> None:
        self._db = database
        self._charges = Charges(database)

    def crowd(self, dataset: str, people: People) -> Crowd:
        """Return the pseudonyms, V16 [people], in the order given.

        Raises:
            SettingError: nobody was given, or something that is not a person's id.
        """
        check_name("dataset", dataset, forbidden="/")
        ids = _listed(people)
        if len(ids) == 0:
            raise SettingError(f"nobody was named of data set {dataset}; give at least one person")
        key, prefix = pseudonym_key(self._db), dataset.encode() + b"\0"
        return as_crowd(b"".join(hmac.digest(key, prefix + each, "sha256")[:WIDTH] for each in _tagged(ids)))

    def cohort(self, digest: str) -> Crowd:
        """Return the members, sorted, of a cohort.

        Raises:
            LedgerCorrupted: it is gone, or is not what was reserved.
        """
        row = self._db.one(_MEMBERS, digest=digest)
        if row is None or sha256(row[0]) != digest or not _is_sorted(row[0]):
            raise LedgerCorrupted("a cohort is not what was reserved; run `discreet journal verify`")
        return as_crowd(row[0])

    def keep(self, members: Crowd) -> None:
        """Store a sorted cohort under its digest, once."""
        key = digest(members)
        if self._db.one(_IS_KEPT, digest=key) is None:
            self._db.execute(_KEEP, digest=key, members=members.tobytes())

    def held(self, dataset: str, crowd: Crowd) -> Units:
        """Return the units that each of the crowd is held for, int64 [people]: what decides who is admitted."""
        return self._added(_HELD, dataset, crowd)

    def spent(self, dataset: str, crowd: Crowd) -> Units:
        """Return the units spent on each of the crowd, int64 [people]: what was used, where that is settled."""
        return self._added(_SPENT, dataset, crowd)

    def _added(self, query: Statement, dataset: str, crowd: Crowd) -> Units:
        sums = np.zeros(len(crowd), np.int64)
        for cohort, digest, cost, releases in self._db.each(query, dataset=dataset):
            if digest is None:
                sums += stored_units(cost) * (1 if cohort is None else within(self.cohort(cohort), crowd))
            else:
                sums += releases * told(self.cohort(cohort), self._charges.of(digest), crowd)
        return sums

    def general_cap(self, dataset: str) -> int | None:
        """Return the cap of everybody in a data set, in units: the lowest that a budget names."""
        row = self._db.one(_LOWEST_CAP, dataset=dataset)
        return None if row is None or row[0] is None else stored_units(row[0])

    def own_caps(self, dataset: str) -> dict[bytes, int]:
        """Return the caps in units of those who were given one of their own, by pseudonym."""
        rows = self._db.each(_OWN_CAPS, dataset=dataset)
        return {as_crowd(pseudonym, 1).tobytes(): stored_units(cap) for pseudonym, cap in rows}

    def cap_of(self, dataset: str, pseudonym: bytes) -> int | None:
        """Return what one person's cap is in units, or None if there is none."""
        cap = int(_caps(as_crowd(pseudonym), self.general_cap(dataset), self.own_caps(dataset))[0])
        return None if cap == UNCAPPED else cap

    def limit(self, dataset: str, pseudonym: bytes, cap: int) -> None:
        """Give one person a cap of their own, in units."""
        if self._db.one(_IS_LIMITED, of=dataset, whom=pseudonym) is None:
            self._db.execute(_LIMIT, dataset=dataset, pseudonym=pseudonym, cap=cap)
        else:
            self._db.execute(_LIMIT_AGAIN, of=dataset, whom=pseudonym, cap=cap)

    def capped(self, dataset: str) -> bool:
        """Tell whether anybody in a data set has a cap."""
        own = self._db.one(_ANY_OWN_CAP, dataset=dataset)
        return own is not None or self.general_cap(dataset) is not None

    def admit(self, dataset: str, cost: int | Units, members: Crowd) -> NDArray[np.bool_]:
        """Tell of each of the sorted members whether they can afford the cost, or their own one."""
        if not self.capped(dataset):
            return np.ones(len(members), np.bool_)
        caps = _caps(members, self.general_cap(dataset), self.own_caps(dataset))
        able: NDArray[np.bool_] = self.held(dataset, members) <= caps - cost
        return able


class Tally:
    """What one data set's persons have spent and may, release by release, told from outside: for replaying.

    It keeps running sums where `Persons` adds up the tables, so that each is a check on the other.
    """

    def __init__(self) -> None:
        self._general: int | None = None
        self._own: dict[bytes, int] = {}
        self._on_everybody = 0
        self._people = as_crowd(b"")
        self._spent = np.zeros(0, np.int64)

    def cap_everybody(self, cap: int | None) -> None:
        """Take note of a budget that names a cap, in units, or none."""
        caps = [each for each in (cap, self._general) if each is not None]
        self._general = min(caps, default=None)

    def cap_one(self, pseudonym: bytes, cap: int) -> bool:
        """Take note of a person's own cap, in units. Tell whether it raises none."""
        as_crowd(pseudonym, 1)
        before = [each for each in (self._own.get(pseudonym), self._general) if each is not None]
        self._own[pseudonym] = cap
        return cap <= min(before, default=cap)

    def spend(self, cost: int | Units, members: Crowd | None) -> bool:
        """Take note of a release, of sorted members or of unnamed people. Tell whether it kept within all caps."""
        if members is None:
            self._on_everybody += int(cost)
            return self._general is None and not self._own
        self._welcome(members)
        places = np.searchsorted(self._people, members)
        self._spent[places] += cost
        return bool(np.all(self._spent[places] + self._on_everybody <= _caps(members, self._general, self._own)))

    def _welcome(self, members: Crowd) -> None:
        new = members[~within(self._people, members)]
        if len(new):
            places = np.searchsorted(self._people, new)
            self._people = np.insert(self._people, places, new)
            self._spent = np.insert(self._spent, places, 0)


def as_crowd(pseudonyms: bytes, many: int | None = None) -> Crowd:
    """Return pseudonyms, one after the other, as an array.

    Raises:
        LedgerCorrupted: the last one is cut off, or there are not so many.
    """
    if len(pseudonyms) % WIDTH or many not in {None, len(pseudonyms) // WIDTH}:
        raise LedgerCorrupted("a pseudonym in the tables is damaged; run `discreet journal verify`")
    return np.frombuffer(pseudonyms, dtype=f"V{WIDTH}")


def digest(crowd: Crowd | None) -> str | None:
    """Return the SHA-256 (hex) of a sorted crowd, or None of none."""
    return None if crowd is None else hashlib.sha256(crowd.tobytes()).hexdigest()


def within(members: Crowd, crowd: Crowd) -> NDArray[np.bool_]:
    """Tell of each of the crowd whether the sorted members hold them."""
    if len(members) == 0:
        return np.zeros(len(crowd), np.bool_)
    found: NDArray[np.bool_] = members[_nearest(members, crowd)] == crowd
    return found


def told(members: Crowd, units: Units, crowd: Crowd) -> Units:
    """Return the units, of the sorted members, that each of the crowd has; 0 for whoever is not one of them.

    Raises:
        LedgerCorrupted: there are not as many units as members.
    """
    if len(units) != len(members):
        raise LedgerCorrupted("what a release cost each person does not fit its cohort; run `discreet journal verify`")
    found: Units = np.where(within(members, crowd), units[_nearest(members, crowd)], 0)
    return found


def _nearest(members: Crowd, crowd: Crowd) -> NDArray[np.intp]:
    return np.minimum(np.searchsorted(members, crowd), len(members) - 1)


def _caps(crowd: Crowd, general: int | None, own: Mapping[bytes, int]) -> NDArray[np.int64]:
    """The cap of each of the crowd in units, int64 [people]; the largest int64 where there is none."""
    caps = np.full(len(crowd), UNCAPPED if general is None else general, np.int64)
    if own:
        order = sorted(own)
        owners, values = as_crowd(b"".join(order)), np.array([own[each] for each in order], np.int64)
        places = _nearest(owners, crowd)
        caps = np.where(owners[places] == crowd, np.minimum(caps, values[places]), caps)
    return caps


def _is_sorted(pseudonyms: bytes) -> bool:
    """Whether these are whole pseudonyms, at least one, each above the one before: otherwise searching misses some."""
    if not pseudonyms or len(pseudonyms) % WIDTH:
        return False
    high, low = np.frombuffer(pseudonyms, ">u8").reshape(-1, 2).T
    return bool(np.all((high[1:] > high[:-1]) | ((high[1:] == high[:-1]) & (low[1:] > low[:-1]))))


def _listed(people: People) -> Sequence[str | int]:
    if isinstance(people, str | bytes):
        raise SettingError("people is one text, whose letters would be taken for persons; give a list of ids")
    if not isinstance(people, np.ndarray):
        return people
    if people.ndim != 1:
        raise SettingError(f"people is an array of {people.ndim} dimensions; give one id a person")
    ids: list[str | int] = people.tolist()
    return ids


def _tagged(ids: Sequence[str | int]) -> Iterator[bytes]:
    # A number and its decimal text are one person: which of them a file holds is decided by what else is in its column.
    for position, person in enumerate(ids):
        if isinstance(person, str):
            yield b"s" + person.encode("utf-8", "surrogatepass")  # an error of the encoder would quote the id
        elif isinstance(person, int | np.integer) and not isinstance(person, bool):
            yield _numbered(int(person), position)
        else:
            kind = type(person).__name__
            raise SettingError(f"a person's id is text or an integer; number {position} (from 0) is of type {kind}")


def _numbered(person: int, position: int) -> bytes:
    if person.bit_length() > LONGEST_ID:
        raise SettingError(f"a person's id has at most {LONGEST_ID:,} bits; number {position} (from 0) has more")
    return b"s%d" % person
