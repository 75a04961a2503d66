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

import json
import uuid
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Header, Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from discreet.data.records import Records
from discreet.governance.access import Visitor
from discreet.governance.checks import now
from discreet.governance.consent import PERSON, RECORD, SERVICE
from discreet.governance.receipts import kantara, receipt
from discreet.governance.roles import Permission
from discreet.privacy.levels import Level
from discreet.service import rights, words
from discreet.service.api.door import PROBLEMS, Here, ReceiptId, may, not_known, stranger, unknown
from discreet.service.api.telling import promised
from discreet.service.jobs import effective_from
from discreet.service.jobs import erase as erased
from discreet.service.jobs import erasure as progress
from discreet.service.rights import all_of, due, shown, standings

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
            return records.consents.refuse_as(who, purpose, **told) | shown(
                records, house.settings.calendar.purpose, who, purpose
            )
        return records.consents.give_as(who, purpose, level=level, **told) | shown(
            records, house.settings.calendar.purpose, who, purpose
        )

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
        return told | shown(records, house.settings.calendar.purpose, who, purpose)

    return await house.writing.do(take)


@router.put("/level")
async def choose(me: Me, house: Here, gpc: Signal, chosen: Chosen, language: Language = "en") -> dict[str, Any]:
    """Choose how strongly what you did is blurred, of all purposes that you agreed to. Until when you agreed stays."""
    level = Level.named(chosen.level)

    def change(records: Records) -> dict[str, Any]:
        who, trained = mine(records, me), house.settings.calendar.purpose
        changed = rights.choose(records, who, level, language=language, gpc=gpc)
        return {"level": str(level), "changed": changed} | rights.levelled(records, trained, who, changed)

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
    return Response(rights.chosen(found), media_type="text/csv", headers=_attached("csv"))


@router.post("/correct")
async def correct(me: Me, house: Here, correction: Correction) -> Receipt:
    """Have items taken out of what is held of you, times changed, and what is missing added: all of it, or nothing."""

    def corrected(records: Records) -> Receipt:
        done, said = rights.correct(
            records,
            mine(records, me),
            remove=correction.remove,
            change=[(each.item_id, each.timestamp) for each in correction.change],
            add=[(each.item_id, each.timestamp) for each in correction.add],
        )
        return _receipt(said=said, next_release=due(records), **done._asdict())

    return await house.writing.do(corrected)


@router.post("/object")
async def end(me: Me, house: Here, gpc: Signal, language: Language = "en") -> Receipt:
    """Object to everything that is done with your data: all consents end. What is held goes with the next retention,
    and the records of it ``records_days`` (see `access`) after the last."""

    def take(records: Records) -> Receipt:
        who, trained = mine(records, me), house.settings.calendar.purpose
        rights.end(records, who, language=language, gpc=gpc)
        return _receipt(**shown(records, trained, who, trained))

    return await house.writing.do(take)


@router.post("/erase")
async def erase(me: Me, house: Here) -> Receipt:
    """Have all that is held of you deleted, and the key that opens it. Your key of access ends with it."""

    def gone(records: Records) -> Receipt:
        promise, planned = house.promise, due(records)  # before: nothing that fails afterwards may cost the receipt
        done = erased(records, mine(records, me), by=PERSON)
        return Receipt(said=rights.gone(records, done, promise), next_release=planned, **done._asdict())

    receipt = await house.writing.do(gone)
    house.known.forget()
    return receipt


@public.get("/erasures/{receipt_id}")
async def erasure(house: Here, receipt_id: ReceiptId) -> dict[str, Any]:
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


def _signalled(records: Records, pseudonym: bytes, gpc: bool) -> dict[str, Any]:
    """Return what the browser's signal means, if it sends one, and what it does not end."""
    if not gpc:
        return {}
    told: dict[str, Any] = {"signal": True, "means": words.SIGNAL[records.inventory.minimisation.gpc]}
    stand = [name for name, each in records.consents.all_as(pseudonym).items() if each.permits(now())]
    return {"gpc": told | ({"prompt": words.prompt(stand)} if stand else {})}


def _receipt(**told: Any) -> Receipt:
    return Receipt(receipt_id=str(uuid.uuid4()), at=now(), **told)


def _attached(ending: str) -> dict[str, str]:
    return {"Content-Disposition": f'attachment; filename="what-is-held-of-me.{ending}"'}
