"""What a person does with their own: ``/api/v1/me``. Whoever holds their key is them; nobody else gets here.

To withdraw is one request, as to agree is. Each answer that changes something says what happened now and what is still
to come, and when: released models keep what they learnt, within their promise, until the next release.

==============================  ===============================================================================
edge case                       behaviour
==============================  ===============================================================================
the words of a purpose changed  ``asked_anew``, with what changed; nothing is read until they agree again
``Sec-GPC`` on any request      noted on the records of consents that stand, once; the answers about consents and
                                privacy say what it means, and what it does not end
a correction with a mistake     nothing of it is done
==============================  ===============================================================================
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
from discreet.governance.consent import PERSON, RECORD, SERVICE
from discreet.governance.grants import OPENED
from discreet.governance.receipts import kantara, receipt
from discreet.governance.roles import Permission
from discreet.privacy.levels import OFFERED, QUARTERS, Level
from discreet.service import words
from discreet.service.api.door import PROBLEMS, Here, may, not_known, stranger, unknown
from discreet.service.api.telling import due, promised, shown
from discreet.service.http import Refused
from discreet.service.jobs import effective_from
from discreet.service.jobs import erase as erased
from discreet.service.jobs import erasure as progress

LevelName = Literal["off", "strong", "balanced", "light"]
Language = Annotated[str, Header(alias="Content-Language", pattern=r"^[A-Za-z0-9]{2,8}(-[A-Za-z0-9]{1,8})*$")]


async def signal(request: Request) -> bool:
    """Whether the browser says Global Privacy Control: exactly ``1``.

    In one of the headers is enough if there are several, and so it is if a proxy made one list of them: where they do
    not agree, what is safe for the person holds.
    """
    return any(part.strip() == "1" for told in request.headers.getlist("sec-gpc") for part in told.split(","))


Signal = Annotated[bool, Depends(signal)]
Me = Annotated[Visitor, Depends(may(Permission.OWN))]
ItemId = Annotated[str, Field(max_length=200)]
Year = Annotated[float, Field(ge=0, le=253_402_300_799)]
"""Seconds since 1970, up to the year 9999."""


async def noted(me: Me, house: Here, gpc: Signal) -> None:
    """Note a signal on the records of what somebody agreed to, the first time that it is seen after that."""
    if not gpc or not await house.reading.do(lambda records: records.consents.unsignalled(_who(me))):
        return

    def note(records: Records) -> None:
        who = mine(records, me)
        with records.matters.together():
            for purpose, language in records.consents.unsignalled(who).items():
                effective = effective_from(records, purpose)
                records.consents.change_as(who, purpose, language=language, gpc=True, effective=effective, by=SERVICE)

    await house.writing.do(note)


class Chosen(BaseModel):
    """How strongly what somebody did is blurred."""

    model_config = ConfigDict(extra="forbid")
    level: LevelName = "balanced"


class Agreed(Chosen):
    """What somebody answers who was asked."""

    answer: Literal["agree", "refuse", "later"] = "agree"


class Added(BaseModel):
    """Something that is missing."""

    model_config = ConfigDict(extra="forbid")
    item_id: ItemId
    timestamp: Year | None = None


class Changed(Added):
    """When something was in truth."""

    timestamp: Year


class Correction(BaseModel):
    """What is not so."""

    model_config = ConfigDict(extra="forbid")
    remove: Annotated[list[ItemId], Field(max_length=1_000)] = []
    change: Annotated[list[Changed], Field(max_length=1_000)] = []
    add: Annotated[list[Added], Field(max_length=1_000)] = []


class Receipt(BaseModel):
    """What happened, and what is still to come."""

    model_config = ConfigDict(extra="allow")
    receipt_id: str
    at: str
    said: str
    next_release: str | None = None


router = APIRouter(prefix="/api/v1/me", tags=["me"], responses=PROBLEMS, dependencies=[Depends(noted)])
public = APIRouter(prefix="/api/v1", tags=["me"], responses=PROBLEMS, dependencies=[Depends(stranger)])


@router.get("/consents")
async def consents(me: Me, house: Here, gpc: Signal) -> dict[str, Any]:
    """Where each consent stands; beside them, under ``gpc``, what the browser's signal means, if it sends one."""
    return await house.reading.do(lambda records: standings(records, _who(me)) | _signalled(records, _who(me), gpc))


@router.put("/consents/{purpose}")
async def agree(
    me: Me, house: Here, purpose: str, gpc: Signal, agreed: Agreed | None = None, language: Language = "en"
) -> dict[str, Any]:
    """Agree to a purpose, at a level; or refuse, or put it off. The answer says from which release on that shows."""
    answered = agreed or Agreed()
    level = Level.named(answered.level)

    def answer(records: Records) -> dict[str, Any]:
        effective, who = effective_from(records, purpose), mine(records, me)
        if answered.answer == "later":
            return records.consents.wait_as(who, purpose, asked=False, language=language, gpc=gpc)
        told: dict[str, Any] = {"language": language, "gpc": gpc, "effective": effective}
        if answered.answer == "refuse":
            return records.consents.refuse_as(who, purpose, **told) | shown(records, house, who, purpose)
        return records.consents.give_as(who, purpose, level=level, **told) | shown(records, house, who, purpose)

    return await house.writing.do(answer)


@router.post("/consents/{purpose}/asked")
async def asked(me: Me, house: Here, purpose: str, gpc: Signal, language: Language = "en") -> dict[str, Any]:
    """Note that you were shown what a purpose is, and have not answered yet: for the application that asks you."""

    def note(records: Records) -> dict[str, Any]:
        return records.consents.wait_as(mine(records, me), purpose, asked=True, language=language, gpc=gpc)

    return await house.writing.do(note)


@router.delete("/consents/{purpose}")
async def withdraw(me: Me, house: Here, purpose: str, gpc: Signal, language: Language = "en") -> dict[str, Any]:
    """Withdraw a consent: nothing is read for the purpose from now on."""

    def take(records: Records) -> dict[str, Any]:
        effective, who = effective_from(records, purpose), mine(records, me)
        told = records.consents.withdraw_as(who, purpose, language=language, gpc=gpc, effective=effective)
        return told | shown(records, house, who, purpose)

    return await house.writing.do(take)


@router.put("/level")
async def choose(me: Me, house: Here, gpc: Signal, chosen: Chosen, language: Language = "en") -> dict[str, Any]:
    """Choose how strongly what you did is blurred, of all purposes that you agreed to. Until when you agreed stays."""
    level = Level.named(chosen.level)

    def change(records: Records) -> dict[str, Any]:
        time, who = now(), mine(records, me)
        told: dict[str, Any] = {"level": level, "language": language, "gpc": gpc}
        with records.matters.together():
            changed = {
                purpose: records.consents.change_as(who, purpose, effective=effective_from(records, purpose), **told)
                for purpose, standing in records.consents.all_as(who).items()
                if standing.permits(time)
            }
        return {"level": str(level), "changed": changed} | shown(records, house, who, house.settings.calendar.purpose)

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
    writer.writerows({name: _plain(value) for name, value in event.items()} for event in found["events"])
    return Response(lines.getvalue(), media_type="text/csv", headers=_attached("csv"))


@router.post("/correct")
async def correct(me: Me, house: Here, correction: Correction) -> Receipt:
    """Have items taken out of what is held of you, times changed, and what is missing added: all of it, or nothing."""
    timed = [*correction.change, *(each for each in correction.add if each.timestamp is not None)]

    def corrected(records: Records) -> Receipt:
        declared = records.inventory
        if timed and declared.step is None and declared.minimisation.undeclared == "refuse":
            raise Refused(422, "undeclared", "times are not declared in the inventory; leave them out")
        done = records.vault.correct(
            mine(records, me),
            remove=correction.remove,
            change=[(each.item_id, each.timestamp) for each in correction.change],
            add=[(each.item_id, each.timestamp) for each in correction.add],
        )
        said = f"{done.removed} of what was held are taken out, the times of {done.changed} are changed, "
        said += f"{done.added} are added. Released models keep what they learnt."
        return _receipt(said=said, next_release=due(records), **done._asdict())

    return await house.writing.do(corrected)


@router.post("/object")
async def end(me: Me, house: Here, gpc: Signal, language: Language = "en") -> Receipt:
    """Object to everything that is done with your data: all consents end. What is held goes with the next retention,
    and the records of it ``records_days`` (see `access`) after the last."""

    def take(records: Records) -> Receipt:
        who = mine(records, me)
        with records.matters.together():
            for each in records.inventory.purposes:
                effective = effective_from(records, each.name)
                records.consents.withdraw_as(who, each.name, language=language, gpc=gpc, effective=effective)
        return _receipt(**shown(records, house, who, house.settings.calendar.purpose))

    return await house.writing.do(take)


@router.post("/erase")
async def erase(me: Me, house: Here) -> Receipt:
    """Have all that is held of you deleted, and the key that opens it. Your key of access ends with it."""

    def gone(records: Records) -> Receipt:
        done = erased(records, mine(records, me), by=PERSON)
        promise = words.Price.of(house.model.guarantee) if house.ready else None
        odds = promise.odds(Level.LIGHT) if promise else None
        backups = records.inventory.minimisation.backups_days
        said = words.erased(done.events, done.receipt_id, done.due, backups, done.at, odds)
        return Receipt(said=said, next_release=due(records), **done._asdict())

    receipt = await house.writing.do(gone)
    house.known.forget()
    return receipt


@public.get("/erasures/{receipt_id}")
async def erasure(house: Here, receipt_id: Annotated[str, Path(pattern=r"^[0-9a-f-]{36}$")]) -> dict[str, Any]:
    """How far an erasure is. Needs no key.

    It is ``pending``; ``in-progress`` while a model is made that learns nothing from them, and ``pending`` again if
    that fails; ``completed`` by a release that learnt nothing from them, or when it is due at the latest: a model is
    served for so long at most.
    """
    found = await house.reading.do(lambda records: progress(records, receipt_id))
    if found is None:
        raise unknown()
    return found.to_dict()


@router.get("/receipts")
async def receipts(
    me: Me, house: Here, form: Annotated[Literal["iso", "kantara"], Query(alias="format")] = "iso"
) -> dict[str, Any]:
    """The receipts of your consents, the oldest first; ``kantara``: of those that stand, in that form."""

    def told(records: Records) -> dict[str, Any]:
        if form == "iso":
            return {"receipts": [receipt(each) for each in records.consents.documents.of(_who(me), RECORD)]}
        key = records.journal.signer()
        return {"receipts": [kantara(record, key) for record in records.consents.standing_records(_who(me))]}

    return await house.reading.do(told)


@router.get("/privacy")
async def privacy(me: Me, house: Here, gpc: Signal) -> dict[str, Any]:
    """What is promised to you, in words and numbers, and what was used of it; what the browser's signal means, if it
    sends one."""
    who = _who(me)
    return await house.reading.do(lambda records: promised(records, house, who) | _signalled(records, who, gpc))


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
    """Return where each consent of somebody stands, and what they are asked."""
    found, time = records.consents.all_as(pseudonym), now()
    told: dict[str, Any] = {}
    for purpose in records.inventory.purposes:
        stands = found[purpose.name]
        told[purpose.name] = {
            "says": purpose.says,
            "notice": {"link": purpose.notice, "version": purpose.notice_version},
            "recipients": list(purpose.recipients),
            "state": str(stands.state),
            "level": str(stands.level),
            "until": stands.until,
            "permits": stands.permits(time),
            "asked_anew": stands.asked_anew,
        }
        if stands.asked_anew:
            told[purpose.name]["changed"] = records.consents.changed(pseudonym, purpose.name)
    return told


def _signalled(records: Records, pseudonym: bytes, gpc: bool) -> dict[str, Any]:
    """Return what the browser's signal means, if it sends one, and what it does not end."""
    if not gpc:
        return {}
    told: dict[str, Any] = {"signal": True, "means": words.SIGNAL[records.inventory.minimisation.gpc]}
    stand = [name for name, each in records.consents.all_as(pseudonym).items() if each.permits(now())]
    return {"gpc": told | ({"prompt": words.prompt(stand)} if stand else {})}


def all_of(records: Records, pseudonym: bytes) -> dict[str, Any]:
    """Return all that is held of somebody, when staff looked or may, and what else they may know (GDPR 15)."""
    items, events = records.vault.items, records.vault.own(pseudonym)
    names = {code: ident for ident, code in items.codes.items()}
    places = items.places(events["code"]).tolist()
    title = items.catalogue.title if items.catalogue is not None else str
    return {
        "consents": standings(records, pseudonym),
        "records": records.consents.documents.of(pseudonym, RECORD),
        "keys": [key._asdict() for key in records.access.of(pseudonym)],
        "grants_of_staff": records.grants.about(pseudonym),
        "opened_by_staff": records.consents.documents.of(pseudonym, OPENED),
        "events": [
            {
                "item_id": names[code],
                "title": title(place) if place >= 0 else "",
                "timestamp": datetime.fromtimestamp(seconds, UTC).isoformat(),
            }
            for code, seconds, place in zip(events["code"].tolist(), events["time"].tolist(), places, strict=True)
        ],
        **_declared(records),
    }


def _declared(records: Records) -> dict[str, Any]:
    """Return what holds for everybody: who answers, what for, who is given it, for how long, and what one may do."""
    declared = records.inventory
    stored = declared.to_dict()
    return {
        "controller": {name: value for name, value in stored["controller"].items() if value},
        "purposes": [
            {name: purpose[name] for name in ("name", "use", "says", "basis", "notice", "notice_version", "recipients")}
            | {"valid_days": purpose["valid_days"]}
            | {"reads": [field["name"] for field in stored["fields"] if purpose["name"] in field["purposes"]]}
            for purpose in stored["purposes"]
        ],
        "fields": [
            {name: field[name] for name in ("name", "category", "necessity", "sensitivity", "coarsened", "purposes")}
            for field in stored["fields"]
        ],
        "processing": {name: value for name, value in stored["processing"].items() if value},
        "source": words.SOURCE,
        "retention_days": declared.retention_days,
        "records_days": declared.minimisation.logs_days,
        "history": declared.minimisation.history,
        "rights": words.RIGHTS,
        "authority": {name: value for name, value in (stored["authority"] or {}).items() if value},
        "logic": words.LOGIC,
        "levels": {str(Level.OFF): "no model learns from you"}
        | {
            str(
                level
            ): f"you shape a model by at most {level.value}/{QUARTERS} of what somebody can at most, and of its "
            f"budget at most {level.value**2}/{QUARTERS**2} is used of you"
            for level in OFFERED
        },
    }


def _receipt(**told: Any) -> Receipt:
    return Receipt(receipt_id=str(uuid.uuid4()), at=now(), **told)


def _plain(cell: str) -> str:
    """Return a cell that no spreadsheet takes for a formula."""
    return f"'{cell}" if cell.startswith(("=", "+", "-", "@", "\t", "\r")) else cell


def _attached(ending: str) -> dict[str, str]:
    return {"Content-Disposition": f'attachment; filename="what-is-held-of-me.{ending}"'}
