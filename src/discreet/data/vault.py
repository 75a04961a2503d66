"""What people did, kept for the purposes that they agreed to: sealed for each of them, read for a purpose, erased.

An event is an item and a time, rounded down as the inventory says; nothing else of it is kept. Events come in batches
that are durable before they are acknowledged, and count once, however often they are sent; of a batch stay its counts,
and by what it is known again, which tells neither its name nor what it held. Events are sealed under the person's key
as they come, and folded into one sealed history a person now and then, in which an item is there once, with its latest
time, and of which only the latest items stay.

Who is read for a purpose is decided in the query: a row of somebody who does not permit it is not fetched. What was
fetched is read if the person's own key says that they permitted it (`consent`).

==============================  ===============================================================================
edge case                       behaviour
==============================  ===============================================================================
no consent to any purpose       the events are not kept; the answer says of how many
the same batch again            its first answer; with another content, Conflict
an item that is not listed      DataError for the whole batch: the catalogue comes first
a time in the future            now; of more than a day from now: DataError
no time, or none declared       the day of intake, which retention needs
a time before what is kept      the event is not kept; the answer says of how many
an item leaves the catalogue    it stays in histories, and is not read any more
a consent was switched on       nothing is read or kept: SealBroken of one person; of many, how many is on record
the words of a purpose change   nobody who agreed to others is read, nor are events of theirs kept; what is held stays
                                while they may answer
nothing is permitted any more   what is held goes with the next retention; records and key, once nothing was noted of
                                the person for ``logs_days``
more than the latest is held     until the next folding: it is shown, and counted when it is erased; no list reads it
a correction that has a mistake  DataError, and nothing of it is done
==============================  ===============================================================================
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from itertools import groupby
from operator import itemgetter
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import and_, bindparam, delete, func, insert, select, update

from discreet.data.catalogue import Catalogue
from discreet.data.interactions import Histories, rows_of
from discreet.errors import Conflict, ConsentMissing, DataError, KeyMissing, SealBroken
from discreet.governance import schema
from discreet.governance.access import Access
from discreet.governance.checks import check_name, now
from discreet.governance.consent import BOUND, PERMITTED, PERSON, SERVICE, Consents, is_bound, later
from discreet.governance.database import Database
from discreet.governance.holders import Holders
from discreet.governance.inventory import Inventory
from discreet.governance.journal import Journal
from discreet.governance.keys import Seal
from discreet.governance.tables import catalogue_of
from discreet.privacy.levels import Level, Levels

EVENT = np.dtype([("code", "<u4"), ("time", "<u4")])
"""An item, by its code, and seconds since 1970."""
Events = NDArray[np.void]
DAY = 86_400
MOST_EVENTS = 10_000
"""Of one batch: what is longer comes in several."""
FOLDED_AT = 64
"""Rows of events after which a person's are folded when they are read."""
CHUNK = 1_000

_h, _e, _y, _s, _b, _i = (
    table.c for table in (schema.holder, schema.event, schema.history, schema.standing, schema.batch, schema.item)
)
_BATCH = select(_b.digest, _b.told).where(_b.name == bindparam("name"))
_KEEP_BATCH = insert(schema.batch)
_OLD_BATCHES = delete(schema.batch).where(_b.at < bindparam("before"))
_KEEP_EVENT = insert(schema.event).values(pseudonym=bindparam("pseudonym"), content=bindparam("content"))
_EVENTS = select(_e.content).where(_e.pseudonym == bindparam("pseudonym")).order_by(_e.seq)
_HISTORY = select(_y.content).where(_y.pseudonym == bindparam("pseudonym"))
_NO_EVENTS = delete(schema.event).where(_e.pseudonym == bindparam("who"))
_NO_HISTORY = delete(schema.history).where(_y.pseudonym == bindparam("who"))
_KEEP_HISTORY = insert(schema.history)
_NO_STANDING = delete(schema.standing).where(_s.pseudonym == bindparam("who"))
_NO_DOCUMENTS = delete(schema.document).where(schema.document.c.pseudonym == bindparam("who"))
_ITEMS = select(_i.code, _i.id, _i.facts).order_by(_i.code)
_ADD_ITEM = insert(schema.item)
_SET_ITEM = update(schema.item).where(_i.id == bindparam("which")).values(facts=bindparam("anew"))
_m = schema.matter.c
_CATALOGUE = and_(_m.kind == "setting", _m.name == "items")
_ITEMS_STAND = select(_m.state).where(_CATALOGUE)
_ITEMS_STOOD = delete(schema.matter).where(_CATALOGUE)
_ITEMS_STAND_ANEW = insert(schema.matter).values(kind="setting", name="items", state=bindparam("row"), body="{}")
_ANY_EVENT = select(_e.seq).where(_e.pseudonym == bindparam("pseudonym")).limit(1)
_HOW_MANY = select(func.count()).where(_e.pseudonym == bindparam("pseudonym"))
_HELD_AFTER = select(_h.pseudonym).where(_h.pseudonym > bindparam("after")).order_by(_h.pseudonym).limit(CHUNK)
_MAY = and_(PERMITTED, _s.quarters > 0)
_ALL_HELD = (
    select(_h.pseudonym, _h.wrapped, _s.quarters, _y.content, _s.mac, *BOUND)
    .join(schema.standing, _s.pseudonym == _h.pseudonym)
    .join(schema.history, _y.pseudonym == _h.pseudonym, isouter=True)
    .where(_MAY)
    .order_by(_h.pseudonym)
)
_ALL_EVENTS = (
    select(_e.pseudonym, _e.content)
    .join(schema.standing, _s.pseudonym == _e.pseudonym)
    .where(_MAY)
    .order_by(_e.pseudonym, _e.seq)
)


@dataclass(frozen=True)
class Batch:
    """Events that were checked, and wait to be kept.

    Attributes:
        name: of the batch, chosen by whoever sends it: it counts once.
        digest: of its content.
        events: each person's, by pseudonym.
        unread: names of columns that are not declared, and were left out.
        too_old: events that lie before what is kept, and were left out.
    """

    name: str
    digest: str
    events: dict[bytes, Events] = field(repr=False)
    unread: tuple[str, ...] = ()
    too_old: int = 0


@dataclass(frozen=True)
class Collected:
    """What became of a batch.

    Attributes:
        batch: its name.
        kept: events.
        people: whose they are.
        without_consent: people whose events were not kept, since they agreed to no purpose.
        too_old: events that lie before what is kept.
        unread: names of columns that are not declared, and were left out.
    """

    batch: str
    kept: int
    people: int
    without_consent: int
    too_old: int
    unread: tuple[str, ...] = ()


class Corrected(NamedTuple):
    """What was corrected: items taken out, times changed, items added. What the latest leave no room for is neither."""

    removed: int
    changed: int
    added: int


@dataclass(frozen=True)
class Erased:
    """What was deleted: when, how many events (None: they did not open), and which row of the journal tells of it."""

    at: str
    events: int | None
    journal_row: int


class Items:
    """The catalogue as it stands, and the codes that events have for it."""

    def __init__(self, rows: Sequence[tuple[int, str, str]]) -> None:
        listed = {ident: (code, json.loads(facts)) for code, ident, facts in rows}
        shown = sorted(ident for ident, (_, facts) in listed.items() if not facts.get("hidden"))
        self.codes = {ident: code for ident, (code, _) in listed.items()}
        self._place = np.full(len(rows), -1, np.int32)
        self._place[[self.codes[ident] for ident in shown]] = np.arange(len(shown), dtype=np.int32)
        facts = [listed[ident][1] for ident in shown]
        self.catalogue = (
            None
            if not shown
            else Catalogue(
                tuple(shown),
                titles=tuple(each.get("title", "") for each in facts)
                if any("title" in each for each in facts)
                else None,
                categories=(
                    tuple(each.get("category", "") for each in facts)
                    if any("category" in each for each in facts)
                    else None
                ),
                tags=tuple(tuple(each.get("tags", ())) for each in facts)
                if any("tags" in each for each in facts)
                else None,
            )
        )

    def places(self, codes: NDArray[np.integer]) -> NDArray[np.int32]:
        """Return where items stand in the catalogue, int32; -1: nowhere any more."""
        return np.asarray(self._place[codes])


class Vault:
    """The events of everybody."""

    def __init__(
        self, database: Database, journal: Journal, holders: Holders, consents: Consents, inventory: Inventory
    ) -> None:
        self._db, self._journal, self._holders = database, journal, holders
        self._consents, self._inventory = consents, inventory
        self._access = Access(database, journal, holders)
        self._items: tuple[object, Items] | None = None

    # The catalogue

    @property
    def items(self) -> Items:
        """The catalogue as it stands."""
        stands = self._db.one(_ITEMS_STAND)
        if self._items is None or self._items[0] != stands:
            self._items = stands, Items([(row[0], row[1], row[2]) for row in self._db.each(_ITEMS)])
        return self._items[1]

    def set_items(self, catalogue: Catalogue, *, hide_others: bool = False) -> int:
        """List items, or change what is said of them; return how many are listed.

        Args:
            catalogue: public. Ids are kept as text.
            hide_others: whether those that are not in it are listed no more.
        """
        anew = {str(ident): _facts(catalogue, at) for at, ident in enumerate(catalogue.ids)}
        with self._db.transaction():
            known = {row[1]: row[2] for row in self._db.each(_ITEMS)}
            for code, ident in enumerate((each for each in anew if each not in known), start=len(known)):
                self._db.execute(_ADD_ITEM, code=code, id=ident, facts=anew[ident])
            for ident, facts in known.items():
                wanted = anew.get(ident, json.dumps(json.loads(facts) | {"hidden": True}) if hide_others else facts)
                if wanted != facts:
                    self._db.execute(_SET_ITEM, which=ident, anew=wanted)
            facts = {"listed": str(len(anew)), "added": str(len({*anew} - {*known})), "items": catalogue_of(self._db)}
            row = self._journal.append("items", **facts)
            self._db.execute(_ITEMS_STOOD)
            self._db.execute(_ITEMS_STAND_ANEW, row=str(row))
        return len(anew)

    # Intake

    def prepared(
        self,
        name: str,
        digest: str,
        rows: Iterable[tuple[str, str, float | None]],
        unread: tuple[str, ...] = (),
        *,
        aged: bool = True,
    ) -> Batch:
        """Check events and make them small: codes for items, coarse times, pseudonyms for people.

        Args:
            name: of the batch.
            digest: SHA-256 (hex) of what was sent.
            rows: person, item, seconds since 1970 or None.
            unread: columns that were left out.
            aged: whether to leave out what is too old; False: the clock is doubted, and retention sees to it later.

        Raises:
            SettingError: a person's id, or the batch's name, is none.
            DataError: an item is not listed; or there are too many events, or none.
        """
        check_name("batch", name)
        codes, latest = self.items.codes, datetime.now(UTC).timestamp()
        found, oldest, too_old = dict[str, list[tuple[int, int]]](), self._oldest(latest), 0
        for number, (person, item, seconds) in enumerate(rows):
            if number >= MOST_EVENTS:
                raise DataError(f"a batch has at most {MOST_EVENTS:,} events; send several")
            events, event = found.setdefault(person, []), self._minimised(number, codes.get(item), seconds, latest)
            if aged and event[1] < oldest:
                too_old += 1
            else:
                events.append(event)
        if not found:
            raise DataError("the batch holds no events")
        known = {self._holders.pseudonym(person): events for person, events in found.items()}
        kept = {pseudonym: np.array(events, EVENT) for pseudonym, events in known.items() if events}
        return Batch(name, digest, kept, unread, too_old)

    def _oldest(self, latest: float) -> int:
        """Return the first second of what is kept."""
        return int(latest) - self._inventory.retention_days * DAY

    def _minimised(self, number: int, code: int | None, seconds: float | None, latest: float) -> tuple[int, int]:
        """Return an event as it is kept: the code of its item, and its time rounded down."""
        if code is None:
            raise DataError(f"event {number}: its item is not in the catalogue; add it there first")
        if seconds is not None and not 0 <= seconds < latest + DAY:
            raise DataError(f"event {number}: its time is not seconds since 1970, or lies in the future; mend it")
        step = self._inventory.step
        at = latest if seconds is None or step is None else min(seconds, latest)
        coarse = DAY if seconds is None or step is None else step
        return code, int(at // coarse * coarse)

    def collect(self, batches: Sequence[Batch]) -> list[Collected | Conflict]:
        """Keep batches, all in one durable transaction; return what became of each.

        Whoever sends a name again is told what was told before; with another content it is a Conflict, which is
        returned, since the other batches are kept all the same.
        """
        with self._db.transaction():
            return [self._collected(batch) for batch in batches]

    def _collected(self, batch: Batch) -> Collected | Conflict:
        name, digest = (self._holders.id_of_batch(each) for each in (f"name\0{batch.name}", f"digest\0{batch.digest}"))
        row = self._db.one(_BATCH, name=name)
        if row is not None:
            same = row[0] == digest
            return (
                _told(batch, row[1]) if same else Conflict("a batch of this name was sent before with another content")
            )
        time = now()
        answers = {who: self._answer(who, time) for who in batch.events}
        agreed = [who for who, answer in answers.items() if answer]
        for pseudonym in agreed:
            content = self._holders.hold(pseudonym).seal(batch.events[pseudonym].tobytes(), _of_event(pseudonym))
            self._db.execute(_KEEP_EVENT, pseudonym=pseudonym, content=content)
        kept = sum(len(batch.events[pseudonym]) for pseudonym in agreed)
        told = Collected(batch.name, kept, len(agreed), len(batch.events) - len(agreed), batch.too_old, batch.unread)
        counts = {name: count for name, count in vars(told).items() if isinstance(count, int)}  # what names tells
        self._db.execute(_KEEP_BATCH, name=name, digest=digest, at=time, told=json.dumps(counts))
        facts = {"events": str(told.kept), "people": str(told.people), "without_consent": str(told.without_consent)}
        facts["unreadable"] = str(sum(answer is None for answer in answers.values()))
        facts["too_old"] = str(told.too_old)
        facts["unread"] = str(len(batch.unread))  # neither names of columns nor a digest: both can tell of somebody
        self._journal.append("collect", at=time, **facts)
        return told

    def _answer(self, pseudonym: bytes, time: str) -> bool | None:
        """Return whether events of somebody may be kept; None: what stands of their consent was changed."""
        try:
            return self._consents.agrees(pseudonym, self._reading, time)
        except KeyMissing:  # nobody's would be kept
            raise
        except SealBroken:  # of one, which is no reason not to keep those of the others
            return None

    @cached_property
    def _reading(self) -> tuple[str, ...]:
        """The purposes that may read which items there are."""
        return next(field.purposes for field in self._inventory.fields if field.name == "item_id")

    # Reading

    def history(self, pseudonym: bytes, purpose: str) -> list[str]:
        """Return what somebody chose, the latest last, for a purpose; nothing if they do not permit it.

        Raises:
            PurposeNotAllowed: the purpose is not declared, or may not read items.
            SealBroken: something was changed, maybe whether they permit it.
        """
        self._inventory.read_for(purpose)
        if not self._consents.agrees(pseudonym, (purpose,), now()):
            return []
        catalogue, places = self.items.catalogue, self.items.places(self._kept(self.own(pseudonym))["code"])
        return [] if catalogue is None else [str(catalogue.ids[place]) for place in places.tolist() if place >= 0]

    def own(self, pseudonym: bytes) -> Events:
        """Return all events that are held of somebody, as they have a right to see them: by time.

        Folds them, if they are many: what is more than is kept is not held any more then.
        """
        if self._folds(pseudonym):
            with self._db.transaction():
                self._rewrite(pseudonym, self._latest)
        return self._whole(pseudonym)

    def _folds(self, pseudonym: bytes) -> bool:
        row = self._db.one(_HOW_MANY, pseudonym=pseudonym)
        return row is not None and row[0] >= FOLDED_AT

    def opened_for(self, purpose: str) -> tuple[Histories, Levels]:
        """Hand out the histories of all who permit a purpose, and the level of each, all in memory.

        People are known by the id that the ledger of budgets knows them by. Whoever is at level ``off`` is not read.

        Raises:
            PurposeNotAllowed: the purpose is not declared, or may not read items.
            DataError: there is nobody, or nothing is listed.
            SealBroken: something was changed.
        """
        read, items = self._inventory.read_for(purpose), self.items
        if items.catalogue is None:
            raise DataError("nothing is in the catalogue; list items first")
        people: list[str] = []
        quarters: list[int] = []
        parts: list[Events] = []
        with self._all(purpose) as everybody:
            for pseudonym, level, events in everybody:
                people.append(self._holders.id_of_account(pseudonym))
                quarters.append(level)
                parts.append(events)
        if not people:
            raise DataError(f"nobody who agreed to {purpose} has done anything yet; there is nothing to learn from")
        lengths = np.array([len(each) for each in parts])
        joined = np.concatenate(parts)
        owner, places = np.repeat(np.arange(len(people)), lengths), items.places(joined["code"])
        order = np.lexsort((places, owner))
        order = order[places[order] >= 0]
        matrix = rows_of(np.bincount(owner[order], minlength=len(people)), places[order], len(items.catalogue))
        last = None
        if "timestamp" in read and (matrix.indptr[1:] > matrix.indptr[:-1]).all():
            by_time = order[np.lexsort((places[order], joined["time"][order], owner[order]))]
            last = places[by_time[matrix.indptr[1:] - 1]]
        histories = Histories(matrix, tuple(people), last, items.catalogue, self._inventory.name, purpose, True)
        return histories, Levels({who: Level(level) for who, level in zip(people, quarters, strict=True)})

    def handed_out(self, purpose: str) -> Iterator[tuple[str, str]]:
        """Yield person and item of all who permit a purpose, to be given to whoever works for it.

        People carry the pseudonyms of the purpose, under a key of its own: what was handed out for one purpose does not
        join with what was handed out for another, nor with anything that is stored here. Of a purpose with recipients,
        whoever's browser said Global Privacy Control is left out. On record.

        Raises:
            PurposeNotAllowed: the purpose is not declared, or may not read items.
        """
        self._inventory.read_for(purpose)
        items, shared = self.items, bool(self._inventory.purpose(purpose).recipients)
        with self._db.transaction():
            self._journal.append("hand-out", purpose=purpose)
        if items.catalogue is None:
            return
        with self._all(purpose) as everybody:
            for pseudonym, _, events in everybody:
                if shared and self._consents.signalled(pseudonym, purpose):
                    continue
                person = self._holders.id_for(purpose, pseudonym)
                places = items.places(events["code"]).tolist()
                yield from ((person, str(items.catalogue.ids[at])) for at in places if at >= 0)

    @contextmanager
    def _all(self, purpose: str) -> Iterator[Iterator[tuple[bytes, int, Events]]]:
        """Yield pseudonym, quarters and events of each who permits a purpose, is not at ``off``, and has events.

        How many only seem to permit it is on record afterwards.
        """
        doubted: list[bytes] = []
        with self._db.snapshot():
            yield self._each(purpose, doubted)
        if doubted:
            with self._db.transaction():
                self._journal.append("doubt", purpose=purpose, people=str(len(doubted)))

    def _each(self, purpose: str, doubted: list[bytes]) -> Iterator[tuple[bytes, int, Events]]:
        permitted = self._consents.permitted(purpose)
        newer = groupby(self._db.each(_ALL_EVENTS, **permitted), key=itemgetter(0))
        waiting = next(newer, None)
        for stored, wrapped, quarters, content, mac, *stands in self._db.each(_ALL_HELD, **permitted):
            pseudonym, rows = bytes(stored), list[bytes]()
            if waiting is not None and bytes(waiting[0]) == pseudonym:
                rows = [row[1] for row in waiting[1]]
                waiting = next(newer, None)
            seal = self._holders.opened(pseudonym, bytes(wrapped))
            if not is_bound(seal, bytes(mac), stands):
                doubted.append(pseudonym)
                continue
            found = self._kept(_joined(seal, pseudonym, content, rows))
            if len(found):
                yield pseudonym, quarters, found

    # Rights

    def correct(
        self,
        pseudonym: bytes,
        *,
        remove: Iterable[str] = (),
        change: Sequence[tuple[str, float]] = (),
        add: Sequence[tuple[str, float | None]] = (),
        by: str = PERSON,
    ) -> Corrected:
        """Correct somebody's history, all of it or nothing; return what was done.

        What is added is made as small as what is taken in: of the catalogue, a coarse time, the latest up to a number.

        Args:
            pseudonym: of the person.
            remove: items; one that is not held is none the less not held then.
            change: items that are held, each with the seconds since 1970 that are right.
            add: items that are not held, with seconds since 1970 or None.
            by: who does it, for the record.

        Raises:
            DataError: an item is named twice, not held (change), held (add) or not listed; or a time cannot be kept.
            ConsentMissing: the person agrees to no purpose that something could be added for.
        """
        removed, latest = {*remove}, datetime.now(UTC).timestamp()
        codes = self.items.codes
        named = [*removed, *(item for item, _ in (*change, *add))]
        if len({*named}) < len(named):
            raise DataError("an item is named twice in this correction; say one thing of each")
        if change and self._inventory.step is None:
            raise DataError("times are not kept, so there is none to change")
        told = [self._minimised(at, codes.get(item), time, latest) for at, (item, time) in enumerate((*change, *add))]
        if any(time < self._oldest(latest) for _, time in told):
            raise DataError("a time lies before what is kept; leave it out")
        with self._db.transaction():
            if add and not self._consents.agrees(pseudonym, self._reading, now()):
                raise ConsentMissing("nothing is kept without a consent; agree to a purpose first")
            before, anew = self._whole(pseudonym), np.array(told, EVENT)
            gone = np.isin(before["code"], [codes[item] for item in removed if item in codes])
            if not np.isin(anew["code"][: len(change)], before["code"]).all():
                raise DataError("an item whose time is to be changed is not held; add it")
            if np.isin(anew["code"][len(change) :], before["code"]).any():
                raise DataError("an item that is to be added is held already; leave it out, or change its time")
            stay = before[~gone & ~np.isin(before["code"], anew["code"][: len(change)])]
            held = self._latest(_once(np.concatenate([stay, anew])))
            self._rewrite(pseudonym, lambda _: held)
            found = np.isin(anew["code"], held["code"])
            done = Corrected(int(gone.sum()), int(found[: len(change)].sum()), int(found[len(change) :].sum()))
            if any(done):
                facts = {name: str(number) for name, number in done._asdict().items()}
                self._journal.append("correct", who=self._holders.token(pseudonym), by=by, **facts)
        return done

    def erase(self, pseudonym: bytes, *, by: str = PERSON) -> Erased | None:
        """Delete all that is held of somebody, and the key that opens it; return what was, or None if nothing was.

        Who did it is on record. What a released model learnt of them stays in it until the next release, which is made
        without them.
        """
        with self._db.transaction():
            if not self._holders.holds(pseudonym):
                self._access.end(pseudonym)
                return None
            try:
                token, events = self._holders.token(pseudonym), len(self._whole(pseudonym))
            except SealBroken:  # what does not open is deleted all the same
                token, events = None, None
            time = now()
            self._access.end(pseudonym)
            for statement in (_NO_EVENTS, _NO_HISTORY, _NO_STANDING, _NO_DOCUMENTS):
                self._db.execute(statement, who=pseudonym)
            self._holders.erase(pseudonym)
            told = None if events is None else str(events)
            row = self._journal.append("erase", at=time, who=token, events=told, by=by)
        if not self._db.in_transaction:
            self._db.scrub()
        return Erased(time, events, row)

    # Retention

    def retain(self) -> Iterator[int]:
        """Delete what is too old, what nobody may read any more, and batches' names; yield how many people are done.

        Consents that ran out, or whose words changed, are written as such first. What is held of somebody who is asked
        anew waits for their answer. Whoever has left (`Consents.has_left`, ``logs_days``) is erased. What was deleted
        is journalled, in counts; who was erased besides, each as by an erasure.
        """
        ended, kept_days = 0, self._inventory.minimisation.logs_days
        for few in self._consents.ended():
            ended += few
            yield 0
        after, people, old, purposeless, left, unreadable = b"", 0, 0, 0, 0, 0
        while rows := [bytes(row[0]) for row in self._db.each(_HELD_AFTER, after=after)]:
            with self._db.transaction():
                for pseudonym in rows:
                    try:
                        stays = self._consents.keeps(pseudonym, self._reading, now())
                        gone = self._rewrite(pseudonym, self._kept if stays else (lambda events: events[:0]))
                        old, purposeless = old + gone * stays, purposeless + gone * (not stays)
                        if not stays and self._consents.has_left(pseudonym, now(), kept_days):
                            self.erase(pseudonym, by=SERVICE)
                            left += 1
                    except SealBroken:  # of one, which is no reason not to go on with the others
                        unreadable += 1
            people, after = people + len(rows), rows[-1]
            yield people
        with self._db.transaction():
            self._db.execute(_OLD_BATCHES, before=later(now(), -kept_days))
            facts = {"ended": str(ended), "too_old": str(old), "purposeless": str(purposeless)}
            facts |= {"left": str(left), "unreadable": str(unreadable)}
            self._journal.append("retain", people=str(people), **facts)
        self._db.scrub()

    def _whole(self, pseudonym: bytes) -> Events:
        """Return all that is stored of somebody, by time, each item once."""
        seal = self._holders.seal(pseudonym)
        if seal is None:
            return np.empty(0, EVENT)
        history = self._db.one(_HISTORY, pseudonym=pseudonym)
        rows = self._db.each(_EVENTS, pseudonym=pseudonym)
        return _joined(seal, pseudonym, None if history is None else history[0], [row[0] for row in rows])

    def _kept(self, found: Events) -> Events:
        """Return what is neither too old nor more than is kept."""
        oldest = self._oldest(datetime.now(UTC).timestamp())
        if len(found) and found["time"][0] < oldest:
            found = found[found["time"] >= oldest]
        return self._latest(found)

    def _latest(self, found: Events) -> Events:
        """Return the latest events, as many as are kept; by their own times, whatever the clock says."""
        return found[-self._inventory.minimisation.history :]

    def _rewrite(self, pseudonym: bytes, change: Callable[[Events], Events]) -> int:
        """Fold somebody's events, changed, into their history, in the open transaction; return how many are gone."""
        whole = self._whole(pseudonym)
        stay = change(whole)
        if not np.array_equal(stay, whole) or self._db.one(_ANY_EVENT, pseudonym=pseudonym) is not None:
            self._db.execute(_NO_EVENTS, who=pseudonym)
            self._db.execute(_NO_HISTORY, who=pseudonym)
            if len(stay):
                content = self._holders.hold(pseudonym).seal(stay.tobytes(), _of_history(pseudonym))
                self._db.execute(_KEEP_HISTORY, pseudonym=pseudonym, content=content)
        return len(whole) - len(stay)


def _joined(seal: Seal, pseudonym: bytes, history: bytes | None, rows: Sequence[bytes]) -> Events:
    """Return a person's events by time, each item once, with its latest time."""
    parts = [] if history is None else [seal.open(bytes(history), _of_history(pseudonym))]
    parts += [seal.open(bytes(content), _of_event(pseudonym)) for content in rows]
    found = np.frombuffer(b"".join(parts), EVENT)
    return _once(found) if rows else found  # as it was folded


def _once(found: Events) -> Events:
    """Return events by time, each item once, with its latest time."""
    order = np.lexsort((found["code"], found["time"]))[::-1]
    _, first = np.unique(found["code"][order], return_index=True)
    once = found[order[first]]
    return once[np.lexsort((once["code"], once["time"]))]


def _facts(catalogue: Catalogue, at: int) -> str:
    """Return what is said of an item, as JSON."""
    told: dict[str, Any] = {}
    for name, column in (("title", catalogue.titles), ("category", catalogue.categories), ("tags", catalogue.tags)):
        if column is not None:
            told[name] = column[at]
    return json.dumps(told)


def _told(batch: Batch, stored: str) -> Collected:
    return Collected(**json.loads(stored) | {"batch": batch.name, "unread": batch.unread})


def _of_event(pseudonym: bytes) -> bytes:
    return b"event\0" + pseudonym


def _of_history(pseudonym: bytes) -> bytes:
    return b"history\0" + pseudonym
