"""Consent: who agreed to what, when, told how, and at which level. One record for each change, and a receipt.

Records have the fields of ISO/IEC TS 27560:2023, as the W3C Data Privacy Vocabulary (DPV) maps them, and states of that
vocabulary, of which two alone permit anything: ``ConsentGiven`` and ``RenewedConsentGiven``. What the standard does not
have is under ``discreet``: the level, what the budget of the purpose promises a person at that level, whether the
browser said Global Privacy Control, from which release of the model on a change shows, the record before this one, and
the row of the journal that has this one's hash.

A record is sealed under the person's key. Beside it stands, in the clear, what decides who is read for a purpose: a
pseudonym, a purpose, a state, a level, an end, and a digest of what the person was asked (`Inventory.terms`). Whoever
agreed to other words than those in force is not read. The journal has the record's hash, and the token of the person's
key.

What stands is bound by a MAC under the person's key (HMAC-SHA256): whoever writes into the database without it switches
nothing on. The row of the journal has another, bound to its number, so that `agreements` can hold the two against each
other. An older row of the same person, put back, is believed until that is done.

=============================  ==============================================================================
edge case                      behaviour
=============================  ==============================================================================
nothing was ever said          no consent
given again                    a new record, ``RenewedConsentGiven``, that names the one before
given at level ``off``         permits everything but training
withdrawn twice, or never given  a new record all the same: the person said so
the controller ends it         ``ConsentRevoked``, by the desk, with a reason that the person finds in the record; of a
                               consent that is over a Conflict. To agree again is the person's, as ever
another level                  its state and its end stay: it is the same consent
so many records already        SettingError for what permits more; a lower level, a signal, any refusal are written
the time runs out              `ended` writes ``ConsentExpired``; before it runs nothing is read, either
the words change               `ended` writes ``ConsentInvalidated``, likewise; what is held waits for an answer for
                               ``ANSWER_DAYS``, and for no longer than the consent was for
what stands was changed        ``ConsentUnknown``: nothing is read; `agrees` raises SealBroken; `ended` leaves it
a purpose is declared no more  nothing is read for it; its consents stay as they are
nothing is permitted any more  nor may it be: whoever said nothing for a while `has_left`
asked, or answered later       permits nothing; of a consent that stands it is a Conflict
Global Privacy Control         noted, once of each consent; nothing goes to recipients; and what the inventory says
                               beyond. Another level does not undo it; to agree again without the signal does
=============================  ==============================================================================
"""

from __future__ import annotations

import hmac
import json
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from enum import Enum
from functools import lru_cache
from typing import Any, NamedTuple

import rfc8785
from sqlalchemy import and_, bindparam, delete, func, insert, or_, select

from discreet.documents import document
from discreet.errors import Conflict, ConsentMissing, SealBroken, SettingError
from discreet.governance import schema
from discreet.governance.accounts import Account
from discreet.governance.checks import now, sha256, stamp
from discreet.governance.database import Database
from discreet.governance.holders import Holders, token_of
from discreet.governance.inventory import Authority, Controller, Inventory, Purpose
from discreet.governance.journal import Journal
from discreet.governance.keys import Seal
from discreet.governance.receipts import receipt
from discreet.privacy.accounting import epsilon_of
from discreet.privacy.levels import QUARTERS, Level

SCHEMA_VERSION = "ISO/IEC TS 27560:2023, DPV 2.3, discreet 3"
RECORD = "consent"
MOST_SAID = 1_000
"""Records of one person after which they cannot permit more; nobody changes their mind so often, programs do."""
ANSWER_DAYS = 30
"""For which what is held waits for whoever is asked anew."""
LONGEST_REASON = 1_000
PERSON, SERVICE, CONTROLLER, DESK = "person", "discreet", "controller", "controller's desk"
"""Who makes a record."""
ASKED = (
    *("purpose_type", "purpose_description", "privacy_notice", "lawful_basis", "recipient_third_parties"),
    *("pii_information", "pii_controllers", "retention_period"),
)
"""Of a record: what the person was asked."""
RIGHTS = ("A7-3", *(f"A{article}" for article in range(13, 23)), "A77")
"""What a person may do, as DPV names it of the GDPR: withdraw, be informed, have access and the rest, complain."""
METHOD = (
    "By machine: sealed under a key of the person's own, opened for this purpose alone; a model learns from it, if it "
    "does, through noise that bounds what anybody can tell of one person (differential privacy)."
)


class State(Enum):
    """Where a consent stands: DPV 2.3."""

    REQUESTED = "ConsentRequested"
    DEFERRED = "ConsentRequestDeferred"
    REFUSED = "ConsentRefused"
    GIVEN = "ConsentGiven"
    RENEWED = "RenewedConsentGiven"
    EXPIRED = "ConsentExpired"
    WITHDRAWN = "ConsentWithdrawn"
    REVOKED = "ConsentRevoked"
    INVALIDATED = "ConsentInvalidated"
    UNKNOWN = "ConsentUnknown"

    def __str__(self) -> str:
        return self.value

    @property
    def permits(self) -> bool:
        """Whether anything may be read."""
        return self in PERMITTING


PERMITTING = (State.GIVEN, State.RENEWED)
WAITING = (State.INVALIDATED, State.REQUESTED, State.DEFERRED)

_s, _d = schema.standing.c, schema.document.c
_PERMITTING = or_(*(_s.state == str(state) for state in PERMITTING))
PERMITTED = and_(
    _s.purpose == bindparam("purpose"),
    _PERMITTING,
    _s.terms == bindparam("terms"),
    or_(_s.until.is_(None), _s.until > bindparam("time")),
)
"""When a row of `standing` permits reading for a purpose, at a time, on the terms in force: `Consents.permitted`."""
BOUND = (_s.purpose, _s.state, _s.quarters, _s.until, _s.seq, _s.terms)
"""What stands of a consent, in the order in which it is bound to the person's key."""
_BEFORE = select(_s.seq).where(_s.pseudonym == bindparam("pseudonym"), _s.purpose == bindparam("purpose"))
_ALL = (
    select(schema.holder.c.wrapped, _s.mac, *BOUND)
    .join(schema.holder, schema.holder.c.pseudonym == _s.pseudonym)
    .where(_s.pseudonym == bindparam("pseudonym"))
)
_UNSET = delete(schema.standing).where(_s.pseudonym == bindparam("who"), _s.purpose == bindparam("what"))
_SET = insert(schema.standing)
_LAST = select(func.coalesce(func.max(_d.seq) + 1, 0)).where(_d.pseudonym == bindparam("pseudonym"))
_KEEP = insert(schema.document)
_DOCUMENTS = (
    select(_d.seq, _d.content)
    .where(_d.pseudonym == bindparam("pseudonym"), _d.kind == bindparam("kind"))
    .order_by(_d.seq)
)
_DOCUMENT = select(_d.content).where(
    _d.pseudonym == bindparam("pseudonym"), _d.kind == bindparam("kind"), _d.seq == bindparam("seq")
)
_LATEST = (  # no older than what stands names: that is bound to the person's key
    select(_d.kind, _d.seq, _d.content)
    .where(
        _d.pseudonym == bindparam("pseudonym"),
        _d.seq >= select(func.max(_s.seq)).where(_s.pseudonym == bindparam("pseudonym")).scalar_subquery(),
    )
    .order_by(_d.seq.desc())
    .limit(1)
)
_ENDED = (
    select(_s.pseudonym, _s.until)
    .where(
        _s.purpose == bindparam("purpose"),
        _PERMITTING,
        or_(_s.until <= bindparam("time"), _s.terms != bindparam("terms")),
        _s.pseudonym > bindparam("after"),
    )
    .order_by(_s.pseudonym)
    .limit(bindparam("most"))
)
_b = schema.account.c
_BUDGET = select(_b.epsilon, _b.delta, _b.cap, _b.person_cap, _b.until).where(_b.name == bindparam("name"))
_epsilon = lru_cache(epsilon_of)

_ENCODED = json.JSONEncoder(default=repr).encode  # what was forged need not be JSON


class Standing(NamedTuple):
    """Where one person's consent to one purpose stands.

    Attributes:
        state: of it.
        level: of training.
        until: when it ends; of what waits for an answer: until when what is held is kept.
        current: whether what the person was asked is what is in force.
    """

    state: State
    level: Level
    until: str | None
    current: bool

    def permits(self, time: str) -> bool:
        """Whether something may be read at a time."""
        return self.state.permits and self.current and (self.until is None or time < self.until)

    def keeps(self, time: str) -> bool:
        """Whether what is held may be kept at a time: it is permitted, or the person is asked anew and may answer."""
        return self.permits(time) or (self.asked_anew and self.until is not None and time < self.until)

    @property
    def asked_anew(self) -> bool:
        """Whether what the person agreed to is not what is in force, and they did not answer yet."""
        return (self.state in WAITING and self.until is not None) or (self.state.permits and not self.current)


class Said(NamedTuple):
    """What is noted of how somebody spoke: level, language (BCP 47), the browser's signal, from which release on.

    And why, of what is not the person's own word.
    """

    level: Level
    language: str = "en"
    gpc: bool = False
    effective: str | None = None
    because: str | None = None


NEVER = Standing(State.UNKNOWN, Level.OFF, None, current=False)


class Documents:
    """What is kept about a person for themselves: sealed JSON, numbered."""

    def __init__(self, database: Database, holders: Holders) -> None:
        self._db, self._holders = database, holders

    def keep(self, pseudonym: bytes, kind: str, content: dict[str, Any], seal: Seal, *, most: int | None = None) -> int:
        """Add one, within the open transaction; return its number.

        Raises:
            SettingError: there are ``most`` already: something repeats itself.
        """
        row = self._db.one(_LAST, pseudonym=pseudonym)
        seq = int(row[0]) if row else 0
        if most is not None and seq >= most:
            raise SettingError(f"more than {most:,} documents of one person; something repeats itself, stop it")
        sealed = seal.seal(rfc8785.dumps(content), place_of(pseudonym, kind, seq))
        self._db.execute(_KEEP, pseudonym=pseudonym, kind=kind, seq=seq, content=sealed)
        return seq

    def one(self, pseudonym: bytes, kind: str, seq: int, seal: Seal) -> dict[str, Any] | None:
        """Return one, or None if it is gone or does not open: nobody is kept from withdrawing by that."""
        row = self._db.one(_DOCUMENT, pseudonym=pseudonym, kind=kind, seq=seq)
        with suppress(SealBroken):
            return None if row is None else document(seal.open(bytes(row[0]), place_of(pseudonym, kind, seq)))
        return None

    def latest(self, pseudonym: bytes) -> dict[str, Any]:
        """Return the one that was kept last, of any kind, of somebody of whom something stands.

        Raises:
            SealBroken: it was changed, or is gone.
        """
        seal, row = self._holders.seal(pseudonym), self._db.one(_LATEST, pseudonym=pseudonym)
        if seal is None or row is None:
            raise SealBroken("what was noted of somebody is gone from the database; run `discreet journal verify`")
        kind, seq, content = row
        return document(seal.open(bytes(content), place_of(pseudonym, kind, seq)))

    def of(self, pseudonym: bytes, kind: str) -> list[dict[str, Any]]:
        """Return all of a kind, the oldest first."""
        seal = self._holders.seal(pseudonym)
        if seal is None:
            return []
        rows = list(self._db.each(_DOCUMENTS, pseudonym=pseudonym, kind=kind))
        return [document(seal.open(bytes(content), place_of(pseudonym, kind, seq))) for seq, content in rows]


class Consents:
    """The consents of everybody."""

    def __init__(self, database: Database, journal: Journal, holders: Holders, inventory: Inventory) -> None:
        self._db, self._journal, self._holders, self._inventory = database, journal, holders, inventory
        self.documents = Documents(database, holders)

    def standing(self, person: str | int, purpose: str) -> Standing:
        """Return where somebody's consent to a purpose stands. Raises PurposeNotAllowed if it is not declared."""
        return self.standing_of(self._holders.pseudonym(person), purpose)

    def standing_of(self, pseudonym: bytes, purpose: str) -> Standing:
        """Return where the consent of somebody, by pseudonym, stands. Raises PurposeNotAllowed."""
        self._inventory.purpose(purpose)
        return self._said(pseudonym).get(purpose) or NEVER

    def agrees(self, pseudonym: bytes, purposes: Iterable[str], time: str) -> bool:
        """Whether somebody permits any of these purposes at a time.

        Raises:
            SealBroken: their key was changed; or what stands was, and nothing that was not permits it.
        """
        return self._any(pseudonym, purposes, lambda stands: stands.permits(time))

    def keeps(self, pseudonym: bytes, purposes: Iterable[str], time: str) -> bool:
        """Whether what is held of somebody may be kept for any of these purposes at a time. Raises as `agrees`."""
        return self._any(pseudonym, purposes, lambda stands: stands.keeps(time))

    def _any(self, pseudonym: bytes, purposes: Iterable[str], true: Callable[[Standing], bool]) -> bool:
        said = self._said(pseudonym)
        return _is_any([said.get(purpose, NEVER) for purpose in purposes], true)

    def has_left(self, pseudonym: bytes, time: str, days: int) -> bool:
        """Whether somebody who is held permits nothing at a time, may not answer, and nothing was noted for so long.

        Of whoever permits something no record is opened.

        Args:
            pseudonym: of the person.
            time: at which.
            days: before it, in which nothing was noted: neither what they said, nor that staff looked.

        Raises:
            SealBroken: their key, or what stands and decides it, or what was noted last was changed.
        """
        if _is_any([*self._said(pseudonym).values()], lambda stands: stands.keeps(time)):
            return False
        noted = self.documents.latest(pseudonym)
        return str(noted["event"]["event_time"] if "event" in noted else noted["at"]) < later(time, -days)

    def permitted(self, purpose: str) -> dict[str, str]:
        """Return what `PERMITTED` asks for: by whom a purpose is permitted now, on the terms in force."""
        return {"purpose": purpose, "time": now(), "terms": self._inventory.terms[purpose]}

    def permits(self, person: str | int, purpose: str) -> bool:
        """Whether somebody's data may be read for a purpose now."""
        return self.standing(person, purpose).permits(now())

    def give(self, person: str | int, purpose: str, **told: Any) -> dict[str, Any]:
        """As `give_as`, of somebody known by their id."""
        return self.give_as(self._holders.pseudonym(person), purpose, **told)

    def give_as(
        self,
        pseudonym: bytes,
        purpose: str,
        *,
        level: Level = Level.BALANCED,
        language: str = "en",
        gpc: bool = False,
        effective: str | None = None,
    ) -> dict[str, Any]:
        """Record that a person agreed, at a level; return the receipt.

        Args:
            pseudonym: of the person.
            purpose: that the inventory declares.
            level: of training.
            language: in which they were asked.
            gpc: whether their browser said Global Privacy Control.
            effective: id of the next release of the model, if one is planned.

        Raises:
            PurposeNotAllowed, SettingError: the purpose or the language is none.
        """
        with self._db.transaction():
            before = self.standing_of(pseudonym, purpose)
            renewed = before.current and before.state in {*PERMITTING, State.EXPIRED}
            said = Said(self._held(level, gpc), language, gpc, effective)
            return self._say(pseudonym, purpose, State.RENEWED if renewed else State.GIVEN, said)

    def change_as(
        self,
        pseudonym: bytes,
        purpose: str,
        *,
        level: Level | None = None,
        language: str = "en",
        gpc: bool = False,
        effective: str | None = None,
        by: str = PERSON,
    ) -> dict[str, Any]:
        """Record another level of a consent that stands, or the browser's signal: its state and its end stay.

        Takes what `give_as` takes, and by whom; the level is by default the one it has. A signal that was noted stays.

        Raises:
            ConsentMissing: there is no consent to this purpose that stands.
        """
        with self._db.transaction():
            before = self.standing_of(pseudonym, purpose)
            if not before.permits(now()):
                raise ConsentMissing(f"there is no consent to {purpose} that stands; agree to it first")
            noted = self.signalled(pseudonym, purpose)
            said = Said(self._held(level or before.level, gpc or noted), language, gpc or noted, effective)
            less = said.level.value < before.level.value + (gpc and not noted)
            return self._say(pseudonym, purpose, before.state, said, until=before.until, by=by, less=less)

    def unsignalled(self, pseudonym: bytes) -> dict[str, str]:
        """Return the purposes that somebody permits on whose last record no signal is noted, and its language."""
        return {each["purpose"]: each["language"] for each in self.standing_records(pseudonym) if not _noted(each)}

    def signalled(self, pseudonym: bytes, purpose: str) -> bool:
        """Whether the browser's signal is noted on the last record of a consent; of what does not open, it is."""
        last = self.last(pseudonym, purpose)
        return last is None or _noted(last)

    def standing_records(self, pseudonym: bytes) -> list[dict[str, Any]]:
        """Return the last record of each consent that permits something now, the oldest first, if it opens."""
        time = now()
        permitted = [purpose for purpose, stands in self.all_as(pseudonym).items() if stands.permits(time)]
        last = [record for purpose in permitted if (record := self.last(pseudonym, purpose))]
        return sorted(last, key=lambda record: str(record["event"]["event_time"]))

    def withdraw(self, person: str | int, purpose: str, **told: Any) -> dict[str, Any]:
        """As `withdraw_as`, of somebody known by their id."""
        return self.withdraw_as(self._holders.pseudonym(person), purpose, **told)

    def withdraw_as(
        self,
        pseudonym: bytes,
        purpose: str,
        *,
        language: str = "en",
        gpc: bool = False,
        effective: str | None = None,
        by: str = PERSON,
    ) -> dict[str, Any]:
        """Record that a person does not agree any more; return the receipt. Takes what `give_as` takes, and by whom."""
        return self._say(pseudonym, purpose, State.WITHDRAWN, Said(Level.OFF, language, gpc, effective), by=by)

    def revoke_as(
        self, pseudonym: bytes, purpose: str, because: str, *, effective: str | None = None
    ) -> dict[str, Any]:
        """Record that the controller ends a consent; return the receipt, in which the person finds why.

        Args:
            pseudonym: of the person.
            purpose: that the inventory declares.
            because: in a line of up to ``LONGEST_REASON`` characters.
            effective: id of the next release of the model, if it is known.

        Raises:
            Conflict: the person does not agree, nor is asked anew: there is nothing to end.
            PurposeNotAllowed, SettingError: the purpose or the reason is none.
        """
        if not (0 < len(because) <= LONGEST_REASON and because.isprintable()):
            raise SettingError(f"say why in a line of 1 to {LONGEST_REASON:,} characters: the person is told")
        with self._db.transaction():
            if not self.standing_of(pseudonym, purpose).keeps(now()):
                raise Conflict(f"this person does not agree to {purpose}; there is nothing to end")
            said = Said(Level.OFF, effective=effective, because=because)
            return self._say(pseudonym, purpose, State.REVOKED, said, by=DESK)

    def refuse(self, person: str | int, purpose: str, **told: Any) -> dict[str, Any]:
        """As `refuse_as`, of somebody known by their id."""
        return self.refuse_as(self._holders.pseudonym(person), purpose, **told)

    def refuse_as(
        self, pseudonym: bytes, purpose: str, *, language: str = "en", gpc: bool = False, effective: str | None = None
    ) -> dict[str, Any]:
        """Record that a person was asked, and did not agree. Takes what `give_as` takes."""
        return self._say(pseudonym, purpose, State.REFUSED, Said(Level.OFF, language, gpc, effective))

    def wait_as(
        self, pseudonym: bytes, purpose: str, *, asked: bool, language: str = "en", gpc: bool = False
    ) -> dict[str, Any]:
        """Record that a person was asked just now, or that they will answer later.

        Raises:
            Conflict: their consent stands; it is withdrawn, not put off.
        """
        with self._db.transaction():
            time, before = now(), self.standing_of(pseudonym, purpose)
            if before.permits(time):
                raise Conflict(f"the consent to {purpose} stands; withdraw it first")
            state, by = (State.REQUESTED, CONTROLLER) if asked else (State.DEFERRED, PERSON)
            until = _answered_by(before.until, time) if before.asked_anew else None
            return self._say(pseudonym, purpose, state, Said(Level.OFF, language, gpc), until=until, by=by)

    def ended(self, most: int = 200) -> Iterator[int]:
        """Write that consents have run out, or that their words changed; yield of how many, after each transaction.

        So many at most are written at once, and found within the transaction: whoever agrees meanwhile has agreed. Of
        whom the key does not open, or what stands was changed, nothing is written; they are not read, either.
        """
        for purpose, terms in self._inventory.terms.items():
            after, more = b"", True
            while more:
                time, done = now(), 0
                with self._db.transaction():
                    told = {"purpose": purpose, "time": time, "terms": terms}
                    found = list(self._db.each(_ENDED, after=after, most=most, **told))
                    for pseudonym, until in found:
                        over = until is not None and until <= time
                        state, kept = (State.EXPIRED, None) if over else (State.INVALIDATED, _answered_by(until, time))
                        with suppress(SealBroken):
                            if self._said(bytes(pseudonym)).get(purpose) is not None:
                                self._write(bytes(pseudonym), purpose, state, Said(Level.OFF), until=kept, by=SERVICE)
                                done += 1
                if found:
                    after = bytes(found[-1][0])
                    yield done
                more = len(found) == most

    def changed(self, pseudonym: bytes, purpose: str) -> list[str]:
        """Return what of a record is now otherwise than what a person last agreed to, by its names there."""
        agreed = [
            record
            for record in self.documents.of(pseudonym, RECORD)
            if record["purpose"] == purpose and State(record["event"]["event_state"]).permits
        ]
        if not agreed:
            return []
        anew = self._record(pseudonym, self._inventory.purpose(purpose), "en", agreed[-1]["discreet"])
        now_asked, then = _asked(anew), _asked(agreed[-1])
        return [name for name in ASKED if now_asked[name] != then[name]]

    def records(self, person: str | int) -> list[dict[str, Any]]:
        """Return all records of a person, the oldest first."""
        return self.documents.of(self._holders.pseudonym(person), RECORD)

    def all_as(self, pseudonym: bytes) -> dict[str, Standing]:
        """Return where each consent of a person stands, by purpose."""
        said = self._said(pseudonym)
        return {purpose.name: said.get(purpose.name) or NEVER for purpose in self._inventory.purposes}

    def _said(self, pseudonym: bytes) -> dict[str, Standing | None]:
        """Return what somebody said, by purpose; None where what stands is not what they said."""
        rows = list(self._db.each(_ALL, pseudonym=pseudonym))
        if not rows:
            return {}
        seal = self._holders.opened(pseudonym, bytes(rows[0][0]))
        return {row[0]: self._standing(row) if is_bound(seal, bytes(mac), row) else None for _, mac, *row in rows}

    def _standing(self, stands: Sequence[Any]) -> Standing:
        purpose, state, quarters, until, _, terms = stands
        return Standing(State(state), Level(quarters), until, terms == self._inventory.terms.get(purpose))

    def last(self, pseudonym: bytes, purpose: str) -> dict[str, Any] | None:
        """Return the last record of a consent, if it is there and opens."""
        row, seal = self._db.one(_BEFORE, pseudonym=pseudonym, purpose=purpose), self._holders.seal(pseudonym)
        return None if row is None or seal is None else self.documents.one(pseudonym, RECORD, int(row[0]), seal)

    def _held(self, level: Level, gpc: bool) -> Level:
        """Return the level that a signal leaves."""
        most = {"no-sharing": level, "strong": Level.STRONG, "off": Level.OFF}[self._inventory.minimisation.gpc]
        return min(level, most, key=lambda each: each.value) if gpc else level

    def _promised(self, purpose: str, level: Level) -> dict[str, Any]:
        """Return what the budget of a purpose promises a person at a level; nothing while none is open."""
        account = Account(self._inventory.name, purpose)
        row = self._db.one(_BUDGET, name=str(account))
        if row is None:
            return dict.fromkeys(("epsilon_cap", "delta", "unit", "period"))
        epsilon, delta, cap, person_cap, until = row
        units = -(-cap * level.value**2 // QUARTERS**2)  # mu is a quarter of what it is for ``light``: ``levels.md``
        units = units if person_cap is None else min(units, person_cap)
        told = {"epsilon_cap": min(epsilon, _epsilon(units, delta)), "delta": delta, "unit": account.unit}
        return told | {"period": "all releases" if until is None else f"all releases until {until}"}

    def _say(
        self,
        pseudonym: bytes,
        purpose: str,
        state: State,
        said: Said,
        *,
        until: str | None = None,
        by: str = PERSON,
        less: bool = False,
    ) -> dict[str, Any]:
        self._inventory.purpose(purpose)
        language = said.language
        if not 2 <= len(language) <= 35 or not language.replace("-", "").isalnum() or not language.isascii():
            raise SettingError("a language is a tag such as en or pt-BR (BCP 47)")
        most = MOST_SAID if state.permits and by == PERSON and not less else None  # less is never one too many
        return self._write(pseudonym, purpose, state, said, until=until, by=by, most=most)

    def _write(
        self,
        pseudonym: bytes,
        purpose: str,
        state: State,
        said: Said,
        *,
        until: str | None,
        by: str,
        most: int | None = None,
    ) -> dict[str, Any]:
        time, declared = now(), self._inventory.purpose(purpose)
        until = until or (later(time, declared.valid_days) if state.permits else None)
        with self._db.transaction():
            seal, before = self._holders.hold(pseudonym), self.last(pseudonym, purpose)
            told = {"privacy_level": str(said.level), **self._promised(purpose, said.level)}
            told |= {"gpc_at_event": said.gpc, "model_effective_from": said.effective}
            told |= {"prev_record_id": before and before["record_id"], "journal_row": self._journal.head().seq + 1}
            told |= {"because": said.because} if said.because else {}
            record = self._record(pseudonym, declared, said.language, told)
            record["event"] = {
                "event_time": time,
                "validity_duration": _lasting(time, until) if state.permits and until else None,
                "entity_id": by,
                "event_type": "ExplicitlyExpressedConsent" if by == PERSON else "ConsentNotice",
                "event_state": str(state),
            }
            seq = self.documents.keep(pseudonym, RECORD, record, seal, most=most)
            self._db.execute(_UNSET, who=pseudonym, what=purpose)
            values = {"purpose": purpose, "state": str(state), "quarters": said.level.value, "until": until, "seq": seq}
            values |= {"terms": self._inventory.terms[purpose]}
            stands = [values[column.name] for column in BOUND]
            self._db.execute(_SET, pseudonym=pseudonym, mac=bound(seal, stands), **values)
            facts = {"purpose": purpose, "state": str(state), "level": str(said.level), "by": by}
            facts |= {"record": sha256(rfc8785.dumps(record))}
            facts |= {"stands": bound(seal, stands, told["journal_row"]).hex()}
            self._journal.append("consent", at=time, who=token_of(seal), **facts)
        return receipt(record)

    def _record(self, pseudonym: bytes, purpose: Purpose, language: str, told: dict[str, Any]) -> dict[str, Any]:
        """Return a record of ISO/IEC TS 27560, but for the event."""
        inventory, controller = self._inventory, self._inventory.controller
        fields = [field for field in inventory.fields if purpose.name in field.purposes]
        party = _party("controller", "Controller", "DataController", controller) | {"party_officer": controller.officer}
        where = {name: value for name, value in vars(inventory.processing).items() if value}
        stated = {name: list(value) if isinstance(value, tuple) else value for name, value in where.items()}
        if inventory.authority is not None:
            stated["authority_party"] = _party(
                "authority", "SupervisoryAuthority", "DataProtectionAuthority", inventory.authority
            )
        return {
            "schema_version": SCHEMA_VERSION,
            "record_id": str(uuid.uuid4()),
            "pii_principal_id": self._holders.id_for(purpose.name, pseudonym),
            "privacy_notice": {"link": purpose.notice, "version": purpose.notice_version},
            "language": language,
            "purpose": purpose.name,
            "purpose_type": purpose.use,
            "purpose_description": purpose.says,
            "lawful_basis": purpose.basis,
            "pii_information": [
                {
                    "pii_type": field.category,
                    "pii_attribute_id": field.name,
                    "pii_optional": field.necessity == "optional",
                    "sensitive_pii_category": field.sensitivity != "personal",
                    "special_pii_category": field.sensitivity == "special",
                }
                for field in fields
            ],
            "pii_controllers": [party],
            "collection_method": "sent by the service that the person uses",
            "processing_method": METHOD,
            "storage_locations": [inventory.name],
            "retention_period": f"P{inventory.retention_days}D",
            "recipient_third_parties": [] if told["gpc_at_event"] else list(purpose.recipients),
            "withdrawal_method": f"DELETE /api/v1/me/consents/{purpose.name}, as easily as it was given",
            "privacy_rights": list(RIGHTS),
            **stated,
            "discreet": told,
        }


def later(time: str, days: int) -> str:
    """Return the time so many days after another, both as the journal writes them."""
    return stamp(datetime.fromisoformat(time).astimezone(UTC) + timedelta(days=days))


def bound(seal: Seal, stands: Sequence[object], row: int | None = None) -> bytes:
    """Return the MAC, 32 bytes, that binds what stands of a consent to whose it is.

    Args:
        seal: of the person.
        stands: the values of ``BOUND``.
        row: of the journal, whose fact it is; None: it stands beside these values. The two do not join.
    """
    return seal.mac(b"discreet: a consent\0" + _ENCODED([row, *stands]).encode())


def is_bound(seal: Seal, mac: bytes, stands: Sequence[object]) -> bool:
    """Whether what stands of a consent is what the person said, now or once."""
    return hmac.compare_digest(mac, bound(seal, stands))


def _is_any(found: Sequence[Standing | None], true: Callable[[Standing], bool]) -> bool:
    """Whether something is true of any of them. Raises SealBroken: of none that was not changed, and some were."""
    if any(each is not None and true(each) for each in found):
        return True
    if None in found:
        raise SealBroken("what somebody agreed to was changed in the database; run `discreet journal verify`")
    return False


def _answered_by(until: str | None, time: str) -> str:
    """Return until when what is held waits for an answer: for a while, and no longer than the consent was for."""
    last = later(time, ANSWER_DAYS)
    return last if until is None else min(until, last)


def _lasting(time: str, until: str) -> str:
    """Return how long it is from one time to another, as ISO 8601 has it."""
    left = datetime.fromisoformat(until) - datetime.fromisoformat(time)
    return f"P{left.days}D" + (f"T{left.seconds}S" if left.seconds else "")


def _asked(record: dict[str, Any]) -> dict[str, Any]:
    """Return what the person was asked, by a record; of the controller that is, as of the terms, name and contact."""
    parties = [(party["party_name"], party["party_contact"]) for party in record["pii_controllers"]]
    return {name: record.get(name) for name in ASKED} | {"pii_controllers": parties}


def _party(ident: str, kind: str, role: str, party: Controller | Authority) -> dict[str, str]:
    told = {"party_id": ident, "party_name": party.name, "party_address": party.address}
    told |= {"party_contact": party.contact, "party_type": kind, "party_role": role}
    reached = {"party_email": party.email, "party_url": party.url, "party_phone": party.phone}
    return told | {name: value for name, value in reached.items() if value}


def _noted(record: dict[str, Any]) -> bool:
    """Whether the browser's signal is noted in a record."""
    return bool(record["discreet"]["gpc_at_event"])


def place_of(pseudonym: bytes, kind: str, seq: int) -> bytes:
    """Return the context in which a document of a person is sealed."""
    return b"document\0" + pseudonym + f"\0{kind}\0{seq}".encode()
