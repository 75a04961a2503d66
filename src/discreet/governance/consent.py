"""Consent: who agreed to what, when, told how, and at which level. One record for each change, and a receipt.

Records have the fields of ISO/IEC TS 27560:2023, as the W3C Data Privacy Vocabulary (DPV) maps them, and states of that
vocabulary, of which two alone permit anything: ``ConsentGiven`` and ``RenewedConsentGiven``. What the standard does not
have is under ``discreet``: the level, what a run may cost, whether the browser said Global Privacy Control, and from
which release of the model on a change shows.

A record is sealed under the person's key. Beside it stands, in the clear, what decides who is read for a purpose: a
pseudonym, a purpose, a state, a level and an end. The journal has the record's hash, and the token of the person's key.

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
the time runs out              `expired` writes ``ConsentExpired``; before it runs nothing is read, either
what stands was changed        ``ConsentUnknown``: nothing is read; `agrees` raises SealBroken
Global Privacy Control         noted; nothing goes to recipients; and what the inventory says beyond
=============================  ==============================================================================
"""

from __future__ import annotations

import hmac
import json
import uuid
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from enum import Enum
from typing import Any, NamedTuple

import rfc8785
from sqlalchemy import and_, bindparam, delete, func, insert, or_, select

from discreet.documents import document
from discreet.errors import SealBroken, SettingError
from discreet.governance import schema
from discreet.governance.checks import now, sha256, stamp
from discreet.governance.database import Database
from discreet.governance.holders import Holders, token_of
from discreet.governance.inventory import Inventory, Purpose
from discreet.governance.journal import Journal
from discreet.governance.keys import Seal
from discreet.privacy.levels import Level

SCHEMA_VERSION = "ISO/IEC TS 27560:2023, DPV 2.3, discreet 1"
RECORD = "consent"
MOST_SAID = 1_000
"""Records of one person after which they cannot agree any more; nobody changes their mind so often, programs do."""


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

_s, _d = schema.standing.c, schema.document.c
_PERMITTING = or_(*(_s.state == str(state) for state in PERMITTING))
PERMITTED = and_(_s.purpose == bindparam("purpose"), _PERMITTING, or_(_s.until.is_(None), _s.until > bindparam("time")))
"""When a row of `standing` permits reading for a purpose, at a time."""
BOUND = (_s.purpose, _s.state, _s.quarters, _s.until, _s.seq)
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
_OVER = select(_s.pseudonym, _s.purpose).where(_PERMITTING, _s.until <= bindparam("time")).limit(bindparam("most"))

_ENCODED = json.JSONEncoder(default=repr).encode  # what was forged need not be JSON


class Standing(NamedTuple):
    """Where one person's consent to one purpose stands."""

    state: State
    level: Level
    until: str | None

    def permits(self, time: str) -> bool:
        """Whether something may be read at a time."""
        return self.state.permits and (self.until is None or time < self.until)


class Said(NamedTuple):
    """What is noted of how somebody spoke: level, language (BCP 47), the browser's signal, when it shows in a model."""

    level: Level
    language: str = "en"
    gpc: bool = False
    effective: str | None = None


NEVER = Standing(State.UNKNOWN, Level.OFF, None)


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
        said = self._said(pseudonym)
        found = [said.get(purpose, NEVER) for purpose in purposes]
        if any(each is not None and each.permits(time) for each in found):
            return True
        if None in found:
            raise SealBroken("what somebody agreed to was changed in the database; run `discreet journal verify`")
        return False

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
            effective: when the next release of the model is, if it is known.

        Raises:
            PurposeNotAllowed, SettingError: the purpose or the language is none.
        """
        before = self.standing_of(pseudonym, purpose).state
        state = State.RENEWED if before in {*PERMITTING, State.EXPIRED} else State.GIVEN
        return self._say(pseudonym, purpose, state, Said(self._held(level, gpc), language, gpc, effective))

    def withdraw(self, person: str | int, purpose: str, **told: Any) -> dict[str, Any]:
        """As `withdraw_as`, of somebody known by their id."""
        return self.withdraw_as(self._holders.pseudonym(person), purpose, **told)

    def withdraw_as(
        self, pseudonym: bytes, purpose: str, *, language: str = "en", gpc: bool = False, effective: str | None = None
    ) -> dict[str, Any]:
        """Record that a person does not agree any more; return the receipt. Takes what `give_as` takes."""
        return self._say(pseudonym, purpose, State.WITHDRAWN, Said(Level.OFF, language, gpc, effective))

    def refuse(self, person: str | int, purpose: str, *, language: str = "en", gpc: bool = False) -> dict[str, Any]:
        """Record that a person was asked, and did not agree."""
        return self._say(self._holders.pseudonym(person), purpose, State.REFUSED, Said(Level.OFF, language, gpc))

    def expired(self, most: int = 1_000) -> int:
        """Write that consents have run out, of so many at most; return of how many. One that was changed stays."""
        found = [(bytes(stored), purpose) for stored, purpose in self._db.each(_OVER, time=now(), most=most)]
        over = [each for each in found if self._stands(*each)]
        for pseudonym, purpose in over:
            self._write(pseudonym, purpose, State.EXPIRED, Said(Level.OFF), by="discreet")
        return len(over)

    def _stands(self, pseudonym: bytes, purpose: str) -> bool:
        """Whether what stands of a consent is what the person said."""
        try:
            return self._said(pseudonym).get(purpose) is not None
        except SealBroken:  # of one, which is no reason not to go on with the others
            return False

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
        return {row[0]: _standing(row) if is_bound(seal, bytes(mac), row) else None for _, mac, *row in rows}

    def _held(self, level: Level, gpc: bool) -> Level:
        """Return the level that a signal leaves."""
        most = {"no-sharing": level, "strong": Level.STRONG, "off": Level.OFF}[self._inventory.minimisation.gpc]
        return min(level, most, key=lambda each: each.value) if gpc else level

    def _say(self, pseudonym: bytes, purpose: str, state: State, said: Said) -> dict[str, Any]:
        self._inventory.purpose(purpose)
        language = said.language
        if not 2 <= len(language) <= 35 or not language.replace("-", "").isalnum() or not language.isascii():
            raise SettingError("a language is a tag such as en or pt-BR (BCP 47)")
        return self._write(pseudonym, purpose, state, said, by="person")

    def _write(self, pseudonym: bytes, purpose: str, state: State, said: Said, *, by: str) -> dict[str, Any]:
        time, declared = now(), self._inventory.purpose(purpose)
        until = later(time, declared.valid_days) if state.permits else None
        with self._db.transaction():
            seal, before = self._holders.hold(pseudonym), self._db.one(_BEFORE, pseudonym=pseudonym, purpose=purpose)
            told = {"level": str(said.level), "gpc_at_event": said.gpc, "model_effective_from": said.effective}
            told |= {"prev_record": None if before is None else int(before[0])}
            record = self._record(pseudonym, declared, said.language, told)
            record["event"] = {
                "event_time": time,
                "validity_duration": f"P{declared.valid_days}D" if until else None,
                "entity_id": by,
                "event_type": "ExplicitlyExpressedConsent" if by == "person" else "ConsentNotice",
                "event_state": str(state),
            }
            most = MOST_SAID if state.permits else None  # to withdraw is never one too many
            seq = self.documents.keep(pseudonym, RECORD, record, seal, most=most)
            self._db.execute(_UNSET, who=pseudonym, what=purpose)
            values = {"purpose": purpose, "state": str(state), "quarters": said.level.value, "until": until, "seq": seq}
            stands = [values[column.name] for column in BOUND]
            self._db.execute(_SET, pseudonym=pseudonym, mac=bound(seal, stands), **values)
            facts = {"purpose": purpose, "state": str(state), "level": str(said.level)}
            facts |= {"record": sha256(rfc8785.dumps(record))}
            facts |= {"stands": bound(seal, stands, self._journal.head().seq + 1).hex()}
            row = self._journal.append("consent", at=time, who=token_of(seal), **facts)
        return {"receipt_id": str(uuid.uuid4()), "schema_version": SCHEMA_VERSION, "journal_row": row, "record": record}

    def _record(self, pseudonym: bytes, purpose: Purpose, language: str, told: dict[str, Any]) -> dict[str, Any]:
        """Return a record of ISO/IEC TS 27560, but for the event."""
        inventory, controller = self._inventory, self._inventory.controller
        fields = [field for field in inventory.fields if purpose.name in field.purposes]
        party = {"party_id": "controller", "party_name": controller.name, "party_address": controller.address}
        party |= {"party_contact": controller.contact, "party_type": "Controller", "party_officer": controller.officer}
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
            "processing_method": "see purpose_type",
            "storage_locations": [inventory.name],
            "retention_period": f"P{inventory.retention_days}D",
            "recipient_third_parties": [] if told["gpc_at_event"] else list(purpose.recipients),
            "withdrawal_method": "DELETE /api/v1/me/consents/{purpose}, as easily as it was given",
            "privacy_rights": ["access", "export", "correct", "object", "erase", "withdraw"],
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


def _standing(stands: Sequence[Any]) -> Standing:
    _, state, quarters, until, *_ = stands
    return Standing(State(state), Level(quarters), until)


def place_of(pseudonym: bytes, kind: str, seq: int) -> bytes:
    """Return the context in which a document of a person is sealed."""
    return b"document\0" + pseudonym + f"\0{kind}\0{seq}".encode()
