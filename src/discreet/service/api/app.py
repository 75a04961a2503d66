"""The service of people's data and lists over HTTP: ``discreet serve``.

Everything under ``/api/v1`` needs a key; what each role may do is in ``governance/roles``. Bodies are bounded, answers
are JSON, errors are problem documents (RFC 9457), and no log and no metric tells of a person.
"""

from __future__ import annotations

import asyncio
import logging
import time
import traceback
from pathlib import PurePath
from typing import Annotated, Any
from urllib.parse import unquote_to_bytes

from fastapi import APIRouter, Depends, FastAPI, Request, Response
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from discreet.client.wire import LONGEST_BODY
from discreet.data.records import Records
from discreet.errors import (
    AccountMissing,
    ArtefactError,
    BudgetExceeded,
    Conflict,
    ConsentMissing,
    DataError,
    DiscreetError,
    EngineLost,
    LedgerError,
    NotAllowed,
    PurposeNotAllowed,
    SettingError,
)
from discreet.governance.access import Visitor
from discreet.governance.roles import Permission
from discreet.service.api import governing, people, recommending, staff
from discreet.service.api.door import PROBLEMS, Bucket, Here, may, not_known, stranger, visitor_of
from discreet.service.api.house import House, Unready
from discreet.service.http import METHODS, Refused, Statuses, application, problem

MOST_BODY = 8 << 20
"""Bytes of a request."""
USUAL_BODY = 1 << 16
"""Bytes up to which a body is read from whoever asks."""
TRIES = 10
"""Passwords that can be tried for a name in a minute."""
TRIES_FROM = 60
"""Passwords that can be tried from an address in a minute: each takes a core for a tenth of a second."""
STRANGERS = 600
"""Requests without a valid key that an address may make in a minute."""
SIGNAL_SINCE = "2026-11-26"
"""When what Global Privacy Control means here was last changed."""
STATUSES: Statuses = {
    Unready: (503, "not-ready"),
    EngineLost: (503, "not-now"),
    BudgetExceeded: (409, "budget-exhausted"),
    AccountMissing: (409, "no-budget"),
    Conflict: (409, "conflict"),
    ConsentMissing: (403, "consent-missing"),
    PurposeNotAllowed: (403, "purpose-not-allowed"),
    NotAllowed: (403, "not-allowed"),
    ArtefactError: (422, "artefact"),
    SettingError: (422, "setting"),
    DataError: (422, "data"),
    LedgerError: (503, "not-now"),
}


class Meters:
    """What the service counts. Labels are routes and statuses: no person, no item."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        named = ("route", "method", "status")
        self.requests = Counter("discreet_requests", "Requests.", named, registry=self.registry)
        self.seconds = Histogram("discreet_request_seconds", "How long they took.", ("route",), registry=self.registry)
        self.ready = Gauge("discreet_ready", "Whether there is a model to make lists with.", registry=self.registry)


def service(house: House) -> FastAPI:
    """Return the application."""
    app = application("discreet", STATUSES, document="/api/v1/openapi.json")
    app.state.house, app.state.bucket = house, Bucket(house.settings.per_minute)
    app.state.meters, app.state.signing = Meters(), Bucket(TRIES, "to sign in by a name")
    app.state.signing_from = Bucket(TRIES_FROM, "to sign in from an address")
    app.state.strangers = Bucket(STRANGERS, "from an address without a key")
    for router in (people.router, people.public, recommending.router, staff.router, governing.router, governing.public):
        app.include_router(router)
    app.add_middleware(Metered, meters=app.state.meters)
    open_to_all = APIRouter(tags=["health"], dependencies=[Depends(stranger)], responses={429: PROBLEMS[429]})
    open_to_all.get("/api/v1/health/live")(live)
    open_to_all.get("/api/v1/health/ready", responses={503: PROBLEMS[503]})(ready)
    open_to_all.get("/.well-known/gpc.json")(gpc)
    app.include_router(open_to_all)
    app.get("/metrics", tags=["health"], response_class=Response, responses=PROBLEMS)(metrics)
    return app


async def live() -> dict[str, str]:
    """Whether the service answers."""
    return {"status": "live"}


async def ready(house: Here) -> dict[str, str]:
    """Whether it can make lists, its database answers, and what is changed can be put on record."""
    await house.reading.do(_answers)
    await house.writing.do(_answers)
    if not house.jobs.alive:
        raise Unready("what trains and deletes is not at work; restart the service")
    return {"status": "ready", "model": str(house.model.release)}


def _answers(records: Records) -> None:
    with records.database.snapshot():
        len(records.holders)


async def gpc() -> dict[str, Any]:
    """Whether Global Privacy Control is honoured here."""
    return {"gpc": True, "lastUpdate": SIGNAL_SINCE}


async def metrics(
    staff: Annotated[Visitor, Depends(may(Permission.SEE_METRICS))], house: Here, request: Request
) -> Response:
    """What is counted, for Prometheus."""
    del staff
    meters: Meters = request.app.state.meters
    meters.ready.set(house.ready)
    return Response(generate_latest(meters.registry), media_type=CONTENT_TYPE_LATEST)


class Metered:
    """Bounds the body of each request before it is read, and counts it.

    Whoever has no valid key is counted by address before anything they sent is looked at, so that it does not matter
    what is wrong with it. A body that is longer than most are is read from whoever has a key alone, and has to come
    within a while.

    Args:
        app: what answers.
        meters: what counts.
    """

    def __init__(self, app: ASGIApp, meters: Meters) -> None:
        self._app, self._meters = app, meters

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        begun, status = time.monotonic(), 0

        async def sent(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message.get("headers", []), (b"cache-control", b"no-store")]
            await send(message)

        refusal = await _refusal(Request(scope))
        if refusal is not None:
            await refusal(scope, receive, sent)
        else:
            try:
                await self._app(scope, _timely(receive), sent)
            except TimeoutError:
                if not status:
                    await problem(408, "too-slow", "the request did not arrive in time")(scope, receive, sent)
            except Exception as error:  # noqa: BLE001 - a trace, which the server would log, can quote what is a person's
                place = traceback.extract_tb(error.__traceback__)[-1]
                logging.getLogger("discreet").error(
                    "a defect: %s at %s:%s", type(error).__name__, PurePath(place.filename).name, place.lineno
                )
                if not status:
                    title = "this failed by a defect of the service; its log says where"
                    await problem(500, "defect", title)(scope, receive, sent)
        route, method = getattr(scope.get("route"), "path", "none"), scope["method"]
        self._meters.requests.labels(route, method if method in METHODS else "other", str(status)).inc()
        self._meters.seconds.labels(route).observe(time.monotonic() - begun)


async def _refusal(request: Request) -> Response | None:
    told = request.headers.get("content-length", "0")
    try:
        is_known = await visitor_of(request) is not None
        if not is_known:
            await stranger(request)
        _check_readable(request.scope)
        if "transfer-encoding" in request.headers:
            raise Refused(411, "no-length", "a body is sent with its Content-Length, not in pieces")
        if not (told.isascii() and told.isdigit()) or int(told) > MOST_BODY:
            raise Refused(413, "too-large", f"a body has a Content-Length of at most {MOST_BODY:,} bytes")
        if int(told) > USUAL_BODY and not is_known:
            raise not_known()
    except DiscreetError as error:
        refused: Response = await request.app.exception_handlers[DiscreetError](request, error)
        return refused
    return None


def _check_readable(scope: Scope) -> None:
    """Refuse what is not UTF-8: each byte that is none would become the same character, and two people one."""
    for part in (scope["raw_path"], scope["query_string"]):
        try:
            unquote_to_bytes(part).decode()
        except UnicodeDecodeError:
            raise Refused(400, "unreadable", "an address is UTF-8, percent-encoded") from None


def _timely(receive: Receive) -> Receive:
    """Return what receives a body within a while; after it, waits for as long as the answer takes."""
    due, more = time.monotonic() + LONGEST_BODY, True

    async def received() -> Message:
        nonlocal more
        if not more:
            return await receive()
        async with asyncio.timeout(max(0.0, due - time.monotonic())):
            message = await receive()
        more = bool(message.get("more_body", False))
        return message

    return received
