"""What a person does with their own: ``/api/v1/me``. Whoever holds their key is them; nobody else gets here.

To withdraw is one request, as to agree is. Each answer that changes something says what happened now and what is still
to come, and when: released models keep what they learnt, within their promise, until the next release.
"""

from __future__ import annotations

import csv
import io
import json
import uuid
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Header, Path, Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from discreet.data.records import Records
from discreet.governance.access import Visitor
from discreet.governance.checks import now
from discreet.governance.consent import RECORD, later
from discreet.governance.grants import OPENED
from discreet.governance.roles import Permission
from discreet.privacy.levels import Level
from discreet.service.api.door import PROBLEMS, Here, may, not_known, stranger, unknown
from discreet.service.api.house import told_of
from discreet.service.jobs import COMPLETED, ERASURE, PENDING, next_release

LevelName = Literal["off", "strong", "balanced", "light"]
Language = Annotated[str, Header(alias="Content-Language", pattern=r"^[A-Za-z0-9]{2,8}(-[A-Za-z0-9]{1,8})*$")]


ERASED = (
    "Deleted now: {events} events, consents, documents, keys of access, and the key that opened them. Still to come: "
    "released models are shaped by what you did, within their promise, until the next release; it is made without you, "
    "with fresh noise and at a new charge. Copies of the database hold your sealed data until they end."
)


async def signal(request: Request) -> bool:
    """Whether the browser says Global Privacy Control: exactly ``1``, in one of the headers if there are several."""
    return "1" in request.headers.getlist("sec-gpc")


Signal = Annotated[bool, Depends(signal)]


class Agreed(BaseModel):
    """What somebody agrees to."""

    model_config = ConfigDict(extra="forbid")
    level: LevelName = "balanced"


class Correction(BaseModel):
    """What is not so."""

    model_config = ConfigDict(extra="forbid")
    remove: Annotated[list[Annotated[str, Field(max_length=200)]], Field(min_length=1, max_length=1_000)]


class Receipt(BaseModel):
    """What happened, and what is still to come."""

    model_config = ConfigDict(extra="allow")
    receipt_id: str
    at: str
    said: str
    next_release: str | None = None


router = APIRouter(prefix="/api/v1/me", tags=["me"], responses=PROBLEMS)
public = APIRouter(prefix="/api/v1", tags=["me"], responses=PROBLEMS, dependencies=[Depends(stranger)])
Me = Annotated[Visitor, Depends(may(Permission.OWN))]


@router.get("/consents")
async def consents(me: Me, house: Here) -> dict[str, Any]:
    """Where each consent stands."""
    return await house.reading.do(lambda records: standings(records, _who(me)))


@router.put("/consents/{purpose}")
async def agree(
    me: Me, house: Here, purpose: str, gpc: Signal, agreed: Agreed | None = None, language: Language = "en"
) -> dict[str, Any]:
    """Agree to a purpose, at a level. The receipt says from which release on that shows."""
    level = Level.named((agreed or Agreed()).level)

    def give(records: Records) -> dict[str, Any]:
        effective = next_release(records)
        return records.consents.give_as(
            mine(records, me), purpose, level=level, language=language, gpc=gpc, effective=effective
        )

    return await house.writing.do(give)


@router.delete("/consents/{purpose}")
async def withdraw(me: Me, house: Here, purpose: str, gpc: Signal, language: Language = "en") -> dict[str, Any]:
    """Withdraw a consent: nothing is read for the purpose from now on."""

    def take(records: Records) -> dict[str, Any]:
        effective = next_release(records)
        return records.consents.withdraw_as(mine(records, me), purpose, language=language, gpc=gpc, effective=effective)

    return await house.writing.do(take)


@router.put("/level")
async def choose(me: Me, house: Here, gpc: Signal, agreed: Agreed, language: Language = "en") -> dict[str, Any]:
    """Choose how strongly what you did is blurred, of all purposes that you agreed to."""
    level = Level.named(agreed.level)

    def change(records: Records) -> dict[str, Any]:
        effective, time, who = next_release(records), now(), mine(records, me)
        changed = {
            purpose: records.consents.give_as(
                who, purpose, level=level, language=language, gpc=gpc, effective=effective
            )
            for purpose, standing in records.consents.all_as(who).items()
            if standing.permits(time)
        }
        return {"level": str(level), "changed": changed, "next_release": effective}

    return await house.writing.do(change)


@router.get("/access")
async def access(me: Me, house: Here) -> dict[str, Any]:
    """All that is held of you."""
    return await house.reading.do(lambda records: all_of(records, _who(me)))


@router.get("/export", response_class=Response)
async def export(
    me: Me, house: Here, form: Annotated[Literal["json", "csv"], Query(alias="format")] = "json"
) -> Response:
    """All that is held of you, to take along: JSON, or what you chose as CSV."""
    found = await house.reading.do(lambda records: all_of(records, _who(me)))
    if form == "json":
        return Response(json.dumps(found, indent=1), media_type="application/json", headers=_attached("json"))
    lines = io.StringIO(newline="")
    writer = csv.DictWriter(lines, ["item_id", "title", "timestamp"])
    writer.writeheader()
    writer.writerows(found["events"])
    return Response(lines.getvalue(), media_type="text/csv", headers=_attached("csv"))


@router.post("/correct")
async def correct(me: Me, house: Here, correction: Correction) -> Receipt:
    """Have items taken out of what is held of you."""

    def take_out(records: Records) -> Receipt:
        removed = records.vault.remove(mine(records, me), correction.remove)
        return _receipt(f"{removed} of what was held are taken out. Released models keep what they learnt.", records)

    return await house.writing.do(take_out)


@router.post("/object")
async def end(me: Me, house: Here, gpc: Signal, language: Language = "en") -> Receipt:
    """Object to everything that is done with your data: all consents end. It stays until you have it erased."""

    def take(records: Records) -> Receipt:
        effective = next_release(records)
        for purpose in records.inventory.purposes:
            records.consents.withdraw_as(
                mine(records, me), purpose.name, language=language, gpc=gpc, effective=effective
            )
        return _receipt("Nothing of yours is read any more. What is held goes with the next retention.", records)

    return await house.writing.do(take)


@router.post("/erase")
async def erase(me: Me, house: Here) -> Receipt:
    """Have all that is held of you deleted, and the key that opens it. Your key of access ends with it."""

    def gone(records: Records) -> Receipt:
        with records.database.transaction():  # nobody is erased without a receipt that can be followed
            erased = records.vault.erase(mine(records, me))
            events, row = (0, None) if erased is None else (erased.events, erased.journal_row)
            told = "all" if events is None else str(events)
            receipt = _receipt(ERASED.format(events=told), records, events=events, journal_row=row)
            state, body = (COMPLETED if row is None else PENDING), {"at": receipt.at, "row": row}
            due = later(receipt.at, records.inventory.minimisation.models_days)
            records.matters.open(ERASURE, state, body, by="person", due=due, name=receipt.receipt_id)
        records.database.scrub()
        return receipt

    receipt = await house.writing.do(gone)
    house.known.forget()
    return receipt


@public.get("/erasures/{receipt_id}")
async def erasure(house: Here, receipt_id: Annotated[str, Path(pattern=r"^[0-9a-f-]{36}$")]) -> dict[str, Any]:
    """How far an erasure is: ``pending``, or ``completed`` by a release that learnt nothing from them. Needs no key.

    It is completed when it is due at the latest: a model is served for so long at most.
    """
    found = await house.reading.do(lambda records: records.matters.find(ERASURE, receipt_id))
    if found is None:
        raise unknown()
    return found.to_dict()


@router.get("/receipts")
async def receipts(me: Me, house: Here) -> dict[str, Any]:
    """The records of your consents, the oldest first."""
    found = await house.reading.do(lambda records: records.consents.documents.of(_who(me), RECORD))
    return {"records": found}


@router.get("/privacy")
async def privacy(me: Me, house: Here) -> dict[str, Any]:
    """What is promised to you, and what was used of it."""

    def told(records: Records) -> dict[str, Any]:
        person = records.holders.id_of_account(_who(me))
        with records.book() as book:
            spent = book.person_spent(records.inventory.name, person)
        model = told_of(house.model) if house.ready else None
        return {"spent_units": spent, "model": model, "next_release": next_release(records)}

    return await house.reading.do(told)


def mine(records: Records, visitor: Visitor) -> bytes:
    """Return whose data is to be changed, if their key still opens: who was erased meanwhile is not made anew.

    Raises:
        Refused: the key was taken away, or its person erased, since it was looked up.
    """
    if not records.access.stands(visitor.name):
        raise not_known()
    return _who(visitor)


def _who(visitor: Visitor) -> bytes:
    return visitor.pseudonym or b""


def standings(records: Records, pseudonym: bytes) -> dict[str, Any]:
    """Return where each consent of somebody stands."""
    found = records.consents.all_as(pseudonym)
    return {
        purpose.name: {
            "says": purpose.says,
            "state": str(found[purpose.name].state),
            "level": str(found[purpose.name].level),
            "until": found[purpose.name].until,
            "permits": found[purpose.name].permits(now()),
        }
        for purpose in records.inventory.purposes
    }


def all_of(records: Records, pseudonym: bytes) -> dict[str, Any]:
    """Return all that is held of somebody, and when staff looked at it."""
    items, events = records.vault.items, records.vault.own(pseudonym)
    names = {code: ident for ident, code in items.codes.items()}
    places = items.places(events["code"]).tolist()
    title = items.catalogue.title if items.catalogue is not None else str
    return {
        "controller": records.inventory.to_dict()["controller"],
        "consents": standings(records, pseudonym),
        "records": records.consents.documents.of(pseudonym, RECORD),
        "keys": [key._asdict() for key in records.access.of(pseudonym)],
        "opened_by_staff": records.consents.documents.of(pseudonym, OPENED),
        "events": [
            {
                "item_id": names[code],
                "title": title(place) if place >= 0 else "",
                "timestamp": datetime.fromtimestamp(seconds, UTC).isoformat(),
            }
            for code, seconds, place in zip(events["code"].tolist(), events["time"].tolist(), places, strict=True)
        ],
        "retention_days": records.inventory.retention_days,
    }


def _receipt(said: str, records: Records, **more: Any) -> Receipt:
    return Receipt(receipt_id=str(uuid.uuid4()), at=now(), said=said, next_release=next_release(records), **more)


def _attached(ending: str) -> dict[str, str]:
    return {"Content-Disposition": f'attachment; filename="what-is-held-of-me.{ending}"'}
