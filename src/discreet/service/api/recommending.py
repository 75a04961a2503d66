"""Lists, items and events: ``/api/v1``. The paths are those of Gorse where it has the same.

A personal list is the released model and the person's own history, which they permit to be read for it; never anything
of others as it is now. Whoever does not permit it, has no history, or is not known gets what everybody gets, by the
same path, and the answer says which of the two it is. Ranks are told, not scores. A personal list leaves on a grid of
milliseconds, so that how long it took tells little of how long the history is.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
import uuid
from functools import partial
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from discreet.data.catalogue import Catalogue
from discreet.data.records import Records
from discreet.data.vault import MOST_EVENTS
from discreet.governance.access import Visitor
from discreet.governance.roles import Permission
from discreet.models.slate import Slate
from discreet.models.trained import Trained
from discreet.service.api.door import PROBLEMS, Here, Named, may, unknown
from discreet.service.api.house import House
from discreet.service.api.people import Me, Year, noted
from discreet.service.http import Refused

PURPOSE = "recommend"
MODE, MODEL = "Privacy-Mode", "Model-Id"
Mode = Literal["personalised", "non-personalised"]
MOST_ITEMS = 100_000
Id = Annotated[str, Field(min_length=1, max_length=200, pattern=r"^[^\x00-\x1f\x7f]+$")]
Length = Annotated[int, Query(ge=1, le=100)]

router = APIRouter(prefix="/api/v1", tags=["lists"], responses=PROBLEMS)
Application = Annotated[Visitor, Depends(may(Permission.ASK_FOR_PEOPLE))]
Anybody = Annotated[Visitor, Depends(may(Permission.SEE_ITEMS))]
Sender = Annotated[Visitor, Depends(may(Permission.SEND_EVENTS))]
Editor = Annotated[Visitor, Depends(may(Permission.SET_ITEMS))]


class Event(BaseModel):
    """That somebody chose something."""

    model_config = ConfigDict(extra="allow")
    user_id: Id
    item_id: Id
    timestamp: Year | None = None


class Sent(BaseModel):
    """Events."""

    model_config = ConfigDict(extra="forbid")
    events: Annotated[list[Event], Field(min_length=1, max_length=MOST_EVENTS)]


class Kept(BaseModel):
    """What became of them."""

    batch: str
    kept: int
    people: int
    without_consent: int
    too_old: int
    unread: list[str]


class Session(BaseModel):
    """What somebody chose just now, which is not stored."""

    model_config = ConfigDict(extra="forbid")
    items: Annotated[list[Id], Field(max_length=10_000)]
    n: Annotated[int, Field(ge=1, le=100)] = 10


class Item(BaseModel):
    """Something that can be listed; public."""

    model_config = ConfigDict(extra="forbid")
    item_id: Id
    title: Annotated[str, Field(max_length=1_000)] = ""
    category: Literal["", "health", "religion", "sexuality", "politics", "minors"] = ""
    tags: Annotated[list[Annotated[str, Field(min_length=1, max_length=200)]], Field(max_length=100)] = []


class Items(BaseModel):
    """A catalogue, or what changes in it."""

    model_config = ConfigDict(extra="forbid")
    items: Annotated[list[Item], Field(min_length=1, max_length=MOST_ITEMS)]
    hide_others: bool = False


class Page(BaseModel):
    """A part of the catalogue."""

    items: list[Item]


class Place(BaseModel):
    """A place in a list."""

    rank: int
    item_id: str
    title: str


class Listed(BaseModel):
    """A list, and the release of the model that it was made with."""

    items: list[Place]
    model: str
    mode: Mode


@router.post("/events")
async def send(
    sender: Sender,
    house: Here,
    request: Request,
    sent: Sent,
    key: Named = None,
) -> Kept:
    """Send events. They are durable when this answers; with an ``Idempotency-Key`` they count once."""
    name = f"{sender.name}/{key or uuid.uuid4()}"
    digest = hashlib.sha256(await request.body()).hexdigest()
    aged = house.jobs.clock.steady()
    batch = await house.reading.do(partial(_prepared, name, digest, sent, aged))
    told = await house.intake.collect(batch)
    return Kept(
        batch=key or told.batch.partition("/")[2],
        kept=told.kept,
        people=told.people,
        without_consent=told.without_consent,
        too_old=told.too_old,
        unread=list(told.unread),
    )


@router.get("/recommend/{user_id:path}")
async def recommend(application: Application, house: Here, response: Response, user_id: Id, n: Length = 10) -> Listed:
    """A list for somebody, by the application that they use."""
    del application
    begun = time.monotonic()
    listed = await house.reading.do(lambda records: _listed(records, house, records.holders.pseudonym(user_id), n))
    await _on_the_grid(house, begun)
    return _headed(response, listed)


@router.get("/me/recommendations", dependencies=[Depends(noted)])
async def own(me: Me, house: Here, response: Response, n: Length = 10) -> Listed:
    """A list for you."""
    begun = time.monotonic()
    listed = await house.reading.do(lambda records: _listed(records, house, me.pseudonym or b"", n))
    await _on_the_grid(house, begun)
    return _headed(response, listed)


@router.get("/me/explained", dependencies=[Depends(noted)])
async def explained(
    me: Me, house: Here, response: Response, n: Annotated[int, Query(ge=1, le=20)] = 10
) -> dict[str, Any]:
    """A list for you, with what of your history drove each place, and how sure each is."""

    begun = time.monotonic()

    def explain(records: Records) -> tuple[dict[str, Any], Mode]:
        history, model = records.vault.history(me.pseudonym or b"", PURPOSE), house.model
        return model.explain(history, n).to_dict() | {"model": model.release}, _mode(history)

    told, mode = await house.reading.do(explain)
    await _on_the_grid(house, begun)
    response.headers.update({MODE: mode, MODEL: str(told["model"])})
    return told


@router.get("/non-personalized/popular")
async def popular(anybody: Anybody, house: Here, response: Response, n: Length = 10) -> Listed:
    """The list that is the same for everybody: nothing about anybody is read for it."""
    del anybody
    model = house.model
    return _headed(response, _told(model, await asyncio.to_thread(model.recommend, [], n), "non-personalised"))


@router.post("/session/recommend")
async def session(application: Application, house: Here, response: Response, told: Session) -> Listed:
    """A list for what somebody chose just now; nothing is stored."""
    del application
    model = house.model
    slate = await asyncio.to_thread(model.recommend, told.items, told.n)
    return _headed(response, _told(model, slate, _mode(told.items)))


@router.get("/item-to-item/similar/{item_id:path}")
async def similar(anybody: Anybody, house: Here, response: Response, item_id: Id, n: Length = 10) -> Listed:
    """What goes with an item, by the released model."""
    del anybody
    model = house.model
    if not len(model.catalogue.positions([item_id])[0]):
        raise unknown()
    slate = await asyncio.to_thread(model.recommend, [item_id], n)
    return _headed(response, _told(model, slate, "non-personalised"))


@router.get("/items")
async def items(anybody: Anybody, house: Here, n: Annotated[int, Query(ge=1, le=1_000)] = 100, after: str = "") -> Page:
    """The catalogue, in order of ids."""
    del anybody
    catalogue = await house.reading.do(lambda records: records.vault.items.catalogue)
    if catalogue is None:
        raise unknown()
    first = sum(ident <= after for ident in map(str, catalogue.ids)) if after else 0
    return Page.model_construct(items=[_item(catalogue, at) for at in range(first, min(first + n, len(catalogue)))])


@router.put("/items")
async def set_items(editor: Editor, house: Here, wanted: Items) -> dict[str, int]:
    """List items, or change what is said of them; ``hide_others`` makes this the whole catalogue."""
    del editor
    catalogue = _catalogue(wanted.items)
    listed = await house.writing.do(lambda records: records.vault.set_items(catalogue, hide_others=wanted.hide_others))
    return {"listed": listed}


@router.get("/item/{item_id:path}")
async def item(anybody: Anybody, house: Here, item_id: Id) -> Item:
    """What is said of an item."""
    del anybody
    catalogue = await house.reading.do(lambda records: records.vault.items.catalogue)
    found = [] if catalogue is None else catalogue.positions([item_id])[0].tolist()
    if catalogue is None or not found:
        raise unknown()
    return _item(catalogue, found[0])


def _prepared(name: str, digest: str, sent: Sent, aged: bool, records: Records) -> Any:
    declared = records.inventory
    unread = {column for event in sent.events for column in event.model_extra or {}}
    if declared.step is None:
        unread |= {"timestamp" for event in sent.events if event.timestamp is not None}
    if unread and declared.minimisation.undeclared == "refuse":
        raise Refused(422, "undeclared", "the events hold fields that the inventory does not declare; leave them out")
    if not all(column.isprintable() for column in unread):
        raise Refused(422, "undeclared", "the events hold fields whose names do not print; leave them out")
    rows = ((event.user_id, event.item_id, event.timestamp) for event in sent.events)
    return records.vault.prepared(name, digest, rows, tuple(sorted(column[:100] for column in unread)[:20]), aged=aged)


def _listed(records: Records, house: House, pseudonym: bytes, n: int) -> Listed:
    model, history = house.model, records.vault.history(pseudonym, PURPOSE)
    return _told(model, model.recommend(history, n), _mode(history))


def _mode(history: list[str]) -> Mode:
    return "personalised" if history else "non-personalised"


def _told(model: Trained, slate: Slate, mode: Mode) -> Listed:
    places = [Place.model_construct(**{**row, "item_id": str(row["item_id"])}) for row in slate.to_dicts()]
    return Listed.model_construct(items=places, model=model.release, mode=mode)


def _headed(response: Response, listed: Listed) -> Listed:
    """Say in the headers, too, which of the two kinds of list it is, and of which model."""
    response.headers.update({MODE: listed.mode, MODEL: listed.model})
    return listed


async def _on_the_grid(house: House, begun: float) -> None:
    """Wait for the next point of the grid that begins when somebody asked."""
    if house.settings.grid:
        await asyncio.sleep((begun - time.monotonic()) % house.settings.grid)


def _catalogue(listed: list[Item]) -> Catalogue:
    ordered = {each.item_id: each for each in listed}
    names = sorted(ordered)
    if len(ordered) < len(listed):
        raise Refused(422, "setting", "an item is named twice")
    rows = [ordered[name] for name in names]
    return Catalogue(
        tuple(names),
        titles=tuple(each.title for each in rows),
        categories=tuple(each.category for each in rows),
        tags=tuple(tuple(sorted({*each.tags})) for each in rows),
    )


def _item(catalogue: Catalogue, at: int) -> Item:
    return Item.model_construct(
        item_id=str(catalogue.ids[at]),
        title=catalogue.titles[at] if catalogue.titles else "",
        category=catalogue.categories[at] if catalogue.categories else "",
        tags=list(catalogue.tags[at]) if catalogue.tags else [],
    )
