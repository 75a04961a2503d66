"""What the journal tells of consents, held against what stands, by person: with the master key, or in counts without.

In the journal a person is a token of their key, in the tables a pseudonym: they do not join without the person's key,
nor does a MAC of the one stand in the other. With what unwraps the keys each person is opened, and

- whoever is held is told of, and whoever is told of is held, unless they were erased;
- each consent that stands is, to the last column, what its last row tells (`consent.bound`);
- the record that it names is there, opens, and has the hash that was told;
- so are all records before it, and the notes that staff looked; there are no others.

The keys of the keyring are those that were told of, each by a MAC that it alone makes (`holders`): with the master key.
Without it, there is one of each name, which names the row that tells of it.

===============================  ================================================================================
edge case                        behaviour
===============================  ================================================================================
erased when the key was damaged  the row does not say who: as many may be missing as there are such rows
an old row put back              its number of a journal row is another: named
two people's rows swapped        named with the keys; the counts of both are as before
a record of before is gone       named with the keys: the row that told of it
a key of the ring made anew      named: the row that tells of it a second time
===============================  ================================================================================
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import groupby
from operator import itemgetter
from sys import intern
from typing import Any, NamedTuple

from sqlalchemy import func, select

from discreet.errors import SealBroken
from discreet.governance import schema
from discreet.governance.checks import sha256
from discreet.governance.consent import BOUND, bound, is_bound, place_of
from discreet.governance.database import Database
from discreet.governance.holders import RingKey, opened_by, ring_of, token_of
from discreet.governance.journal import Entry
from discreet.governance.keys import Seal, Wrapping
from discreet.governance.replay import Event, Problem, shown
from discreet.privacy.levels import Level

_h, _s, _d = schema.holder.c, schema.standing.c, schema.document.c
_PEOPLE = (
    select(
        schema.bytes_of(_h.pseudonym),
        schema.bytes_of(_h.wrapped),
        schema.bytes_of(_s.mac),
        *BOUND,
    )
    .select_from(schema.holder)
    .join(schema.standing, _s.pseudonym == _h.pseudonym, isouter=True)
    .order_by(_h.pseudonym)
)
_DOCUMENTS = select(schema.bytes_of(_d.pseudonym), _d.kind, _d.seq, schema.bytes_of(_d.content)).order_by(
    _d.pseudonym, _d.seq
)
_NOBODYS = (
    select(_s.purpose)
    .select_from(schema.standing)
    .join(schema.holder, _s.pseudonym == _h.pseudonym, isouter=True)
    .where(_h.pseudonym.is_(None))
)
_COUNTS = select(_s.purpose, _s.state, _s.quarters, func.count()).group_by(_s.purpose, _s.state, _s.quarters)

Document = tuple[str, int, bytes]
"""Kind, number, content."""
_SEQ = [column.name for column in BOUND].index("seq")


class Told(NamedTuple):
    """What the last row about a consent tells: see `consent`."""

    state: str
    level: str
    record: str
    stands: str
    row: int


class Kept(NamedTuple):
    """A document that a row tells of: the hash, the row, and of which purpose it is the record; None: of a look."""

    record: str
    row: int
    purpose: str | None


class Person(NamedTuple):
    """What is told of one person: where each consent stands, and every document."""

    stands: dict[str, Told]
    kept: list[Kept]


class Agreements:
    """The consents of everybody, and the keys of the keyring, by the journal alone."""

    def __init__(self) -> None:
        self._people: dict[str, Person] = {}
        self._unnamed = 0  # erasures that do not say whose
        self._ring: dict[str, RingKey] = {}

    def __len__(self) -> int:
        return len(self._people)

    @property
    def events(self) -> dict[str, Event]:
        """What takes rows, by their kind."""
        return {"consent": self._say, "erase": self._erase, "look": self._look, "desk": self._look, "key": self._key}

    def _say(self, entry: Entry) -> None:
        facts, purpose = _words(entry), intern(entry.facts["purpose"])
        told = Told(facts["state"], facts["level"], facts["record"], facts["stands"], entry.seq)
        person = self._people.setdefault(facts["who"], Person({}, []))
        person.stands[purpose] = told
        person.kept.append(Kept(told.record, entry.seq, purpose))

    def _look(self, entry: Entry) -> str | None:
        facts = _words(entry)
        person = self._people.get(facts["who"])
        if person is None:
            return "tells of a look at somebody of whom no row tells"
        person.kept.append(Kept(facts["record"], entry.seq, None))
        return None

    def _key(self, entry: Entry) -> str | None:
        facts = _words(entry)
        made = RingKey(facts["name"], entry.seq, facts["check"])
        known = self._ring.setdefault(made.name, made) is not made
        return f"makes the key {shown(made.name)} of the keyring a second time" if known else None

    def _erase(self, entry: Entry) -> str | None:
        who = entry.facts["who"]
        if who is None:
            self._unnamed += 1
            return None
        return "erases somebody of whom no row tells" if self._people.pop(who, None) is None else None

    def counted(self, database: Database) -> Iterator[Problem]:
        """Yield of which consents there are not as many as the journal tells."""
        told = Counter(
            (purpose, each.state, each.level)
            for person in self._people.values()
            for purpose, each in person.stands.items()
        )
        levels = {level.value: str(level) for level in Level}
        held = Counter[tuple[Any, ...]]()
        for purpose, state, quarters, count in database.each(_COUNTS):
            held[purpose, state, levels.get(quarters, quarters)] += count
        missing = Counter[str]()
        for (purpose, _, _), count in (told - held).items():
            missing[purpose] += count
        few = [group for group in told - held if missing[group[0]] > self._unnamed]
        for group in sorted({*few, *(held - told)}, key=repr):
            purpose, state, level = map(shown, group)
            counts = f"{held[group]:,} in the tables, {told[group]:,} by the journal"
            yield Problem(None, f"consents to {purpose} that are {state} at level {level}: {counts}")

    def opened(self, database: Database, wrapping: Wrapping) -> Iterator[Problem]:
        """Yield what stands otherwise than the journal tells.

        Raises:
            KeyMissing: the keys are wrapped by another master key.
        """
        missing, documents = dict(self._people), _by_person(database)
        for pseudonym, rows in groupby(database.each(_PEOPLE), key=itemgetter(0)):
            stands = list(rows)
            try:
                seal = opened_by(wrapping, pseudonym, stands[0][1])
            except SealBroken:
                yield Problem(None, "the key of somebody who is held was changed")
                continue
            told = missing.pop(token_of(seal), None)
            if told is None:
                yield Problem(None, "somebody is held of whom no row tells")
            else:
                yield from _compared(seal, stands, told, _opened(seal, pseudonym, documents(pseudonym)))
        if len(missing) > self._unnamed:
            for told in missing.values():
                row = max(each.row for each in told.stands.values())
                yield Problem(row, "whoever this row tells of is not held any more")
        for (purpose,) in database.each(_NOBODYS):
            yield Problem(None, f"a consent to {shown(purpose)} is in the tables, of nobody who is held")

    def ring(self, database: Database, wrapping: Wrapping | None) -> Iterator[Problem]:
        """Yield which keys of the keyring are not those that were told of; without a master key, by their rows alone.

        Raises:
            KeyMissing: they are wrapped by another master key.
        """
        missing = dict(self._ring)
        for held in ring_of(database, wrapping):
            told = missing.pop(held.name, None)
            if told is None:
                yield Problem(None, f"the key {shown(held.name)} of the keyring is in the tables, no row tells of it")
            elif held.row != told.row or (wrapping is not None and held.check != told.check):
                yield Problem(told.row, f"the key {shown(held.name)} of the keyring is not the one that was made")
        for told in missing.values():
            yield Problem(told.row, f"the key {shown(told.name)} of the keyring is gone from the tables")


def _words(entry: Entry) -> dict[str, str]:
    """Return the facts of a row that tells words alone. Raises TypeError if it does not."""
    if not all(isinstance(value, str) for value in entry.facts.values()):
        raise TypeError("not words")
    return entry.facts


def _by_person(database: Database) -> Callable[[bytes], list[Document]]:
    """Return what reads the documents of one person after the other, by pseudonym."""
    waiting = groupby(database.each(_DOCUMENTS), key=itemgetter(0))
    first = next(waiting, None)

    def of(pseudonym: bytes) -> list[Document]:
        nonlocal first
        found = list[Document]()
        while first is not None and first[0] <= pseudonym:  # below it: of nobody who is held
            found = [row[1:] for row in first[1]] if first[0] == pseudonym else []
            first = next(waiting, None)
        return found

    return of


def _opened(seal: Seal, pseudonym: bytes, documents: list[Document]) -> dict[int, str | None]:
    """Return the hash of each document of a person, by its number; None: it does not open."""
    found = dict[int, str | None]()
    for kind, seq, content in documents:
        found[seq] = None
        with suppress(SealBroken):
            found[seq] = sha256(seal.open(content, place_of(pseudonym, kind, seq)))
    return found


def _compared(
    seal: Seal, rows: list[tuple[Any, ...]], told: Person, documents: dict[int, str | None]
) -> Iterator[Problem]:
    """Yield what stands of one person, or is kept for them, otherwise than was told."""
    missing, named = dict(told.stands), set[int]()
    for _, _, mac, *stands in rows:
        purpose, each = stands[0], missing.pop(stands[0], None)
        if purpose is None:  # nothing stands
            continue
        if each is None:
            yield Problem(None, f"a consent to {shown(purpose)} is in the tables, no row tells of it")
        elif not is_bound(seal, mac, stands) or bound(seal, stands, each.row).hex() != each.stands:
            named.add(each.row)
            yield Problem(each.row, f"a consent to {purpose} is not what the journal tells")
        elif documents.get(stands[_SEQ]) != each.record:
            named.add(each.row)
            yield Problem(each.row, f"the record of a consent to {purpose} is gone or was changed")
    for purpose, each in missing.items():
        yield Problem(each.row, f"a consent to {purpose} is gone from the tables")
    held = Counter(documents.values())
    for kept in told.kept:
        held[kept.record] -= 1
        if held[kept.record] < 0 and kept.row not in named:
            what = "note that staff looked" if kept.purpose is None else f"record of a consent to {kept.purpose}"
            yield Problem(kept.row, f"the {what} is gone or was changed")
    if held.total() > 0:
        yield Problem(None, "a document of somebody is in the tables, no row tells of it")
