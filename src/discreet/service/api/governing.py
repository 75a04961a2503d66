"""What is decided, what fell due, and what went wrong: motions, grants, incidents, duties. ``/api/v1``."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Path, Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from discreet.data.records import Records
from discreet.errors import Conflict, NotAllowed
from discreet.governance import grants, incidents, motions, policy
from discreet.governance.access import Visitor
from discreet.governance.checks import now
from discreet.governance.consent import RECORD
from discreet.governance.duties import KIND as DUTY
from discreet.governance.heads import Consistency, Inclusion, SignedHead, proof_to_bytes
from discreet.governance.ledger import Account, Ledger
from discreet.governance.matters import Matter
from discreet.governance.motions import Member
from discreet.governance.receipts import receipt
from discreet.governance.roles import Permission, Role
from discreet.service.api.door import PROBLEMS, Here, Named, ReceiptId, may, stranger, unknown
from discreet.service.api.people import Me, mine, noted
from discreet.service.api.recommending import Id
from discreet.service.api.staff import Epsilon, Name
from discreet.service.jobs import ERASURE
from discreet.service.rights import all_of, standings

router = APIRouter(prefix="/api/v1", tags=["governance"], responses=PROBLEMS)
public = APIRouter(prefix="/api/v1", tags=["me"], responses=PROBLEMS, dependencies=[Depends(stranger)])
Seen = Annotated[Visitor, Depends(may(Permission.SEE_GOVERNANCE))]
Reporter = Annotated[Visitor, Depends(may(Permission.RECORD_INCIDENT))]
Officer = Annotated[Visitor, Depends(may(Permission.USE_GRANT))]
Reader = Annotated[Visitor, Depends(may(Permission.SEE_JOURNAL))]
Dutiful = Annotated[Visitor, Depends(may(Permission.DO_DUTY))]
Text = Annotated[str, Field(min_length=1, max_length=4_000)]
Facts = Annotated[dict[str, Text | Annotated[list[Text], Field(max_length=100)]], Field(max_length=20)]
Many = dict[str, list[dict[str, Any]]]


class RaiseCap(BaseModel):
    """A higher cap of a budget."""

    model_config = ConfigDict(extra="forbid")
    permission: Literal["raise-cap"]
    purpose: Annotated[str, Field(min_length=1, max_length=100)]
    epsilon: Epsilon


class OpenGrant(BaseModel):
    """A look at somebody's data."""

    model_config = ConfigDict(extra="forbid")
    permission: Literal["open-grant"]
    user_id: Id
    reason: Literal["court order", "the person's own request", "abuse investigation", "safety"]
    fields: Annotated[list[Literal["consents", "events"]], Field(min_length=1, max_length=2)]
    hours: Annotated[float, Field(gt=0, le=24)] = 24


class SetPolicy(BaseModel):
    """Another inventory."""

    model_config = ConfigDict(extra="forbid")
    permission: Literal["set-policy"]
    inventory: Annotated[str, Field(min_length=1, max_length=50_000)]


class MakeDecider(BaseModel):
    """A key of an owner or a privacy officer."""

    model_config = ConfigDict(extra="forbid")
    permission: Literal["make-decider"]
    role: Literal["owner", "privacy-officer"]
    owner: Annotated[str, Field(min_length=1, max_length=100, pattern=r"^[^\x00-\x1f\x7f]+$")]
    days: Annotated[float, Field(gt=0, le=366)] = 90


class Motion(BaseModel):
    """What is asked for."""

    model_config = ConfigDict(extra="forbid")
    motion: Annotated[RaiseCap | OpenGrant | SetPolicy | MakeDecider, Field(discriminator="permission")]


class Incident(BaseModel):
    """What is known of an incident."""

    model_config = ConfigDict(extra="forbid")
    told: Facts
    detected_at: Annotated[str, Field(max_length=40)] | None = None


class Progress(BaseModel):
    """What is known of it now."""

    model_config = ConfigDict(extra="forbid")
    state: Text
    told: Facts = {}


class Head(BaseModel):
    """A signed head, as `/journal/head` told it."""

    model_config = ConfigDict(extra="forbid")
    size: Annotated[int, Field(ge=1, le=2**53)]
    root: Text
    at: Text
    journal: Text
    key: Text
    signature: Text


class Done(BaseModel):
    """What was found when a duty was done, and the SHA-256 of what shows it."""

    model_config = ConfigDict(extra="forbid")
    found: Annotated[str, Field(min_length=1, max_length=1_000)]
    evidence: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")] | None = None


class Closed(BaseModel):
    """What came of a look."""

    model_config = ConfigDict(extra="forbid")
    outcome: Annotated[str, Field(min_length=1, max_length=1_000)]


async def member(request: Request, house: Here) -> Member:
    """Return who of the staff asks; what a motion needs is checked by its permission.

    Raises:
        NotAllowed: with a key that is narrowed nothing is decided.
    """
    visitor = await may(Permission.SEE_BUDGETS)(request)
    del house
    if visitor.only is not None:
        raise NotAllowed("what takes two people is not decided with a key that is narrowed")
    return Member(visitor.owner, visitor.role)


Staff = Annotated[Member, Depends(member)]


@router.get("/motions")
async def all_motions(staff: Seen, house: Here) -> Many:
    """What was asked for that takes two, and what became of it."""
    del staff
    found = await house.reading.do(lambda records: _all(records, motions.KIND))
    return {"motions": [_shown(motion) for motion in found]}


@router.post("/motions", status_code=201)
async def ask(staff: Staff, house: Here, wanted: Motion, key: Named = None) -> dict[str, Any]:
    """Ask for what takes two people: a higher cap, a grant, another inventory."""
    asked = wanted.model_dump_json().encode()

    def made(records: Records) -> dict[str, Any]:
        permission, what = _WHAT[wanted.motion.permission]
        once = records.once(staff.owner, key, asked)
        return _shown(records.motions.ask(permission, what(records, wanted.motion), staff, once).to_dict())

    return await house.writing.do(made)


@router.post("/motions/{name}/agree")
async def agree(staff: Staff, house: Here, name: Name) -> dict[str, Any]:
    """Agree to what another asked for: it is done. A key that is made so is told this once."""

    def agreed(records: Records) -> dict[str, Any]:
        _found(records, motions.KIND, name)
        told: dict[str, Any] = {}
        made = records.motions.agree(name, staff, lambda motion: _done(records, motion, staff.owner, told)).to_dict()
        return _shown(made) | told

    return await house.writing.do(agreed)


@router.post("/motions/{name}/refuse")
async def refuse(staff: Staff, house: Here, name: Name) -> dict[str, Any]:
    """Refuse it, or take back what one asked for."""

    def refused(records: Records) -> dict[str, Any]:
        _found(records, motions.KIND, name)
        return _shown(records.motions.refuse(name, staff).to_dict())

    return await house.writing.do(refused)


@router.get("/grants")
async def all_grants(staff: Seen, house: Here) -> Many:
    """The grants there were, without whom they are about."""
    del staff
    found = await house.reading.do(lambda records: records.matters.all(grants.KIND))
    return {"grants": [grants.shown(each) for each in found]}


@router.get("/grants/{name}/people/{user_id:path}")
async def look(officer: Officer, house: Here, name: Name, user_id: Id) -> dict[str, Any]:
    """Look at what a grant names. The person finds that somebody did, and why."""

    def looked(records: Records) -> dict[str, Any]:
        _found(records, grants.KIND, name)
        pseudonym, fields = records.grants.use(name, user_id, by=officer.owner)
        told: dict[str, Any] = {}
        if "consents" in fields:
            told["consents"] = standings(records, pseudonym)
        if "events" in fields:
            told["events"] = all_of(records, pseudonym)["events"]
        return told

    return await house.writing.do(looked)


@router.post("/grants/{name}/close")
async def close(officer: Officer, house: Here, name: Name, told: Closed) -> dict[str, Any]:
    """End a grant before its time, or say what came of one that is over."""

    def closed(records: Records) -> dict[str, Any]:
        _found(records, grants.KIND, name)
        return grants.shown(records.grants.close(name, told.outcome, by=officer.owner))

    return await house.writing.do(closed)


@router.get("/incidents")
async def all_incidents(staff: Seen, house: Here) -> Many:
    """The register of incidents, and which of them no authority was told of in time."""
    del staff

    def told(records: Records) -> Many:
        late = [each.name for each in records.incidents.late()]
        return {"incidents": [each | {"late": each["name"] in late} for each in _all(records, incidents.KIND)]}

    return await house.reading.do(told)


@router.post("/incidents", status_code=201)
async def record(reporter: Reporter, house: Here, incident: Incident, key: Named = None) -> dict[str, Any]:
    """Write an incident down: the clock of 72 hours runs from when it was detected."""
    told, at, asked = incident.told, incident.detected_at, incident.model_dump_json().encode()

    def made(records: Records) -> dict[str, Any]:
        once = records.once(reporter.name, key, asked)
        return records.incidents.record(told, by=reporter.owner, detected=at, once=once).to_dict()

    return await house.writing.do(made)


@router.post("/incidents/{name}")
async def go_on(reporter: Reporter, house: Here, name: Name, progress: Progress) -> dict[str, Any]:
    """Note what is known of it now."""

    def noted(records: Records) -> dict[str, Any]:
        _found(records, incidents.KIND, name)
        return records.incidents.go_on(name, progress.state, progress.told, by=reporter.owner).to_dict()

    return await house.writing.do(noted)


@router.get("/duties")
async def all_duties(staff: Seen, house: Here) -> Many:
    """What falls due, when, whose it is, and what is late."""
    del staff

    def told(records: Records) -> Many:
        late = [each.name for each in records.duties.late()]
        return {"duties": [each | {"late": each["name"] in late} for each in _all(records, DUTY)]}

    return await house.reading.do(told)


@router.post("/duties/{name}/done")
async def done(dutiful: Dutiful, house: Here, name: Name, told: Done) -> dict[str, Any]:
    """Note that a duty was done, and what was found."""

    def noted(records: Records) -> dict[str, Any]:
        _found(records, DUTY, name)
        return records.duties.done(name, by=dutiful.owner, found=told.found, evidence=told.evidence).to_dict()

    return await house.writing.do(noted)


@router.get("/inventory")
async def inventory(staff: Seen, house: Here) -> dict[str, Any]:
    """What is declared: what is collected, what for, for how long, and whose it is."""
    del staff
    return house.inventory.to_dict()


@router.get("/risks")
async def risks(staff: Seen, house: Here) -> Many:
    """What may go wrong, what is done about it, what is left, and what nobody accepts any more, or reviewed lately."""
    del staff
    time = now()
    return {"risks": [risk.told(time) for risk in house.inventory.risks]}


@router.get("/journal")
async def journal(
    reader: Reader,
    house: Here,
    after: Annotated[int, Query(ge=-1, le=2**53)] = -1,
    n: Annotated[int, Query(ge=1, le=1_000)] = 100,
) -> Many:
    """Rows of the journal, by their number."""
    del reader

    def told(records: Records) -> list[dict[str, Any]]:
        last = min(records.journal.head().seq, after + n)
        rows = [records.journal.linked(seq) for seq in range(after + 1, last + 1)]
        return [{"row": row.seq, "kind": row.kind, "at": row.at, "facts": row.facts} for row in rows]

    return {"rows": await house.reading.do(told)}


@router.get("/journal/head")
async def head(reader: Reader, house: Here) -> dict[str, Any]:
    """How far the journal has grown, signed; the witness has it, too."""
    del reader
    return await house.writing.do(lambda records: asdict(_signed(records)))


@router.get("/journal/rows/{row}/proof", response_class=Response)
async def proof(reader: Reader, house: Here, row: Annotated[int, Path(ge=0, le=2**53)]) -> Response:
    """A proof that a row is in the journal, which anybody can check: `discreet journal check`."""
    del reader
    return _file(await house.writing.do(lambda records: _proven(records, row)))


@router.post("/journal/consistency", response_class=Response)
async def consistency(reader: Reader, house: Here, old: Head) -> Response:
    """A proof that all that an older head tells of still stands."""
    del reader

    def proven(records: Records) -> bytes:
        signed, before = _signed(records), SignedHead.from_dict(old.model_dump())
        return proof_to_bytes(Consistency.of(records.journal, before, signed))

    return _file(await house.writing.do(proven))


@public.get("/erasures/{receipt_id}/proof", response_class=Response)
async def erasure_proof(house: Here, receipt_id: ReceiptId) -> Response:
    """A proof that an erasure is in the journal. Needs no key: whoever was erased has none."""

    def proven(records: Records) -> bytes:
        found = records.matters.find(ERASURE, receipt_id)
        if found is None or found.body["row"] is None:
            raise unknown()
        return _proven(records, int(found.body["row"]))

    return _file(await house.writing.do(proven))


@router.get("/me/receipts/{receipt_id}/proof", response_class=Response, dependencies=[Depends(noted)])
async def receipt_proof(me: Me, house: Here, receipt_id: ReceiptId) -> Response:
    """A proof that what you said is in the journal: the row has the hash of the receipt's record."""

    def proven(records: Records) -> bytes:
        said = records.consents.documents.of(mine(records, me), RECORD)
        rows = [each["journal_row"] for each in map(receipt, said) if each["receipt_id"] == receipt_id]
        if rows in ([], [None]):
            raise unknown()
        return _proven(records, int(rows[0]))

    return _file(await house.writing.do(proven))


def _signed(records: Records) -> SignedHead:
    if records.witness is None:
        raise Conflict("this service has no witness, so nothing is signed; give it one with --witness")
    return records.witness.keep(records.journal)


def _proven(records: Records, row: int) -> bytes:
    signed = _signed(records)
    if row >= signed.size:
        raise unknown()
    return proof_to_bytes(Inclusion.of(records.journal, row, signed))


def _file(content: bytes) -> Response:
    return Response(content, media_type="application/json")


def _all(records: Records, kind: str) -> list[dict[str, Any]]:
    return [matter.to_dict() for matter in records.matters.all(kind)]


def _shown(motion: dict[str, Any]) -> dict[str, Any]:
    """Return a motion without whom it is about: that is a name in the journal, and tells more than was asked."""
    what = {key: value for key, value in motion["what"].items() if key != "who"}
    return {**motion, "what": what}


def _found(records: Records, kind: str, name: str) -> None:
    if records.matters.find(kind, name) is None:
        raise unknown()


def _cap(records: Records, wanted: RaiseCap) -> Mapping[str, Any]:
    records.inventory.purpose(wanted.purpose)
    return {"purpose": wanted.purpose, "epsilon": wanted.epsilon}


def _grant(records: Records, wanted: OpenGrant) -> Mapping[str, Any]:
    who = records.grants.subject(wanted.user_id)
    return {"who": who, "reason": wanted.reason, "fields": sorted({*wanted.fields}), "hours": wanted.hours}


def _policy(records: Records, wanted: SetPolicy) -> Mapping[str, Any]:
    del records
    policy.usable(wanted.inventory)
    return {"inventory": wanted.inventory}


def _decider(records: Records, wanted: MakeDecider) -> Mapping[str, Any]:
    del records
    return {"role": wanted.role, "owner": wanted.owner, "days": wanted.days}


_WHAT: dict[str, tuple[Permission, Callable[[Records, Any], Mapping[str, Any]]]] = {
    "raise-cap": (Permission.RAISE_CAP, _cap),
    "open-grant": (Permission.OPEN_GRANT, _grant),
    "set-policy": (Permission.SET_POLICY, _policy),
    "make-decider": (Permission.MAKE_DECIDER, _decider),
}


def _done(records: Records, motion: Matter, by: str, told: dict[str, Any]) -> Mapping[str, Any]:
    """Do what two agreed to, and return what is noted of it; ``told`` is what is answered, and not noted."""
    what, both = motion.body["what"], (str(motion.body["asked_by"]), by)
    match motion.body["permission"]:
        case "raise-cap":
            account = Account(records.inventory.name, str(what["purpose"]))
            Ledger(records.database).raise_cap(account, epsilon=float(what["epsilon"]), by=both)
            return {}
        case "open-grant":
            made = records.grants.open(what["who"], what["reason"], what["fields"], float(what["hours"]), by=both)
            return {"grant": made.name}
        case "make-decider":
            told["key"] = records.access.make(Role(what["role"]), str(what["owner"]), days=float(what["days"]))
            return {"key_name": told["key"].split("_")[1]}
        case _:
            policy.put(records.matters, str(what["inventory"]), by=f"{both[0]}, {both[1]}")
            return {"holds_from": "the next start"}
