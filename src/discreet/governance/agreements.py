"""What the journal tells of consents, held against what stands, by person: with the master key, or in counts without.

In the journal a person is a token of their key, in the tables a pseudonym: they do not join without the person's key,
nor does a MAC of the one stand in the other. With what unwraps the keys each person is opened, and

- whoever is held is told of, and whoever is told of is held, unless they were erased;
- each consent that stands is, to the last column, what its last row tells (`consent.bound`);
- the record that it names is there, opens, and has the hash that was told.

===============================  ================================================================================
edge case                        behaviour
===============================  ================================================================================
erased when the key was damaged  the row does not say who: as many may be missing as there are such rows
an old row put back              its number of a journal row is another: named
two people's rows swapped        named with the keys; the counts of both are as before
===============================  ================================================================================
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from itertools import groupby
from operator import itemgetter
from typing import Any, NamedTuple

from sqlalchemy import and_, func, select

from discreet.errors import SealBroken
from discreet.governance import schema
from discreet.governance.checks import sha256
from discreet.governance.consent import BOUND, RECORD, bound, is_bound, place_of
from discreet.governance.database import Database
from discreet.governance.holders import opened_by, ring_opened_by, token_of
from discreet.governance.journal import Entry
from discreet.governance.keys import Seal, Wrapping
from discreet.governance.replay import Event, Problem, shown
from discreet.privacy.levels import Level

_h, _s, _d = schema.holder.c, schema.standing.c, schema.document.c
_RECORD = and_(_d.pseudonym == _s.pseudonym, _d.seq == _s.seq, _d.kind == RECORD)
_PEOPLE = (
    select(
        schema.bytes_of(_h.pseudonym),
        schema.bytes_of(_h.wrapped),
        schema.bytes_of(_s.mac),
        schema.bytes_of(_d.content),
        *BOUND,
    )
    .select_from(schema.holder)
    .join(schema.standing, _s.pseudonym == _h.pseudonym, isouter=True)
    .join(schema.document, _RECORD, isouter=True)
    .order_by(_h.pseudonym)
)
_NOBODYS = (
    select(_s.purpose)
    .select_from(schema.standing)
    .join(schema.holder, _s.pseudonym == _h.pseudonym, isouter=True)
    .where(_h.pseudonym.is_(None))
)
_COUNTS = select(_s.purpose, _s.state, _s.quarters, func.count()).group_by(_s.purpose, _s.state, _s.quarters)

_SEQ = [column.name for column in BOUND].index("seq")


class Told(NamedTuple):
    """What the last row about a consent tells: see `consent`."""

    state: str
    level: str
    record: str
    stands: str
    row: int


class Agreements:
    """The consents of everybody, by the journal alone."""

    def __init__(self) -> None:
        self._people: dict[str, dict[str, Told]] = {}
        self._unnamed = 0  # erasures that do not say whose

    def __len__(self) -> int:
        return len(self._people)

    @property
    def events(self) -> dict[str, Event]:
        """What takes rows, by their kind."""
        return {"consent": self._say, "erase": self._erase}

    def _say(self, entry: Entry) -> None:
        facts = entry.facts
        told = Told(facts["state"], facts["level"], facts["record"], facts["stands"], entry.seq)
        self._people.setdefault(facts["who"], {})[facts["purpose"]] = told

    def _erase(self, entry: Entry) -> str | None:
        who = entry.facts["who"]
        if who is None:
            self._unnamed += 1
            return None
        return "erases somebody of whom no row tells" if self._people.pop(who, None) is None else None

    def counted(self, database: Database) -> Iterator[Problem]:
        """Yield of which consents there are not as many as the journal tells."""
        told = Counter(
            (purpose, each.state, each.level) for person in self._people.values() for purpose, each in person.items()
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
        for name, opens in ring_opened_by(database, wrapping):
            if not opens:
                yield Problem(None, f"the key {shown(name)} of the keyring was changed")
        missing = dict(self._people)
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
                yield from _compared(seal, pseudonym, stands, told)
        if len(missing) > self._unnamed:
            for told in missing.values():
                yield Problem(max(each.row for each in told.values()), "whoever this row tells of is not held any more")
        for (purpose,) in database.each(_NOBODYS):
            yield Problem(None, f"a consent to {shown(purpose)} is in the tables, of nobody who is held")


def _compared(seal: Seal, pseudonym: bytes, rows: list[tuple[Any, ...]], told: dict[str, Told]) -> Iterator[Problem]:
    """Yield what stands of one person otherwise than was told."""
    missing = dict(told)
    for _, _, mac, content, *stands in rows:
        purpose, each = stands[0], missing.pop(stands[0], None)
        if purpose is None:  # nothing stands
            continue
        if each is None:
            yield Problem(None, f"a consent to {shown(purpose)} is in the tables, no row tells of it")
        elif not is_bound(seal, mac, stands) or bound(seal, stands, each.row).hex() != each.stands:
            yield Problem(each.row, f"a consent to {purpose} is not what the journal tells")
        elif not _has(seal, content, place_of(pseudonym, RECORD, stands[_SEQ]), each.record):
            yield Problem(each.row, f"the record of a consent to {purpose} is gone or was changed")
    for purpose, each in missing.items():
        yield Problem(each.row, f"a consent to {purpose} is gone from the tables")


def _has(seal: Seal, content: bytes, place: bytes, digest: str) -> bool:
    try:
        return sha256(seal.open(content, place)) == digest
    except SealBroken:
        return False
