"""Federated training over HTTP: sessions as resources, for a coordinator and for the first of two servers.

========================================================  =========================================================
``GET  /federated/v1/items``                              the list of items (JSON)
``GET  /federated/v1/rounds/next?after=SESSION``          terms and what is asked, of the session that is open
``PUT  /federated/v1/rounds/SESSION/STAGE/SEAT``          a seat's message of a stage; the same twice counts once
``GET  /federated/v1/rounds/SESSION/STAGE/SEAT``          what the seat is sent when the stage is over
``GET  /federated/v1/model``                              the released model
``PUT  /federated/v1/halves/SESSION``                     two servers: the second opens a session with the first
``PUT  /federated/v1/halves/SESSION/seats/SEAT``          a seat's message to the first
``GET  /federated/v1/halves/SESSION/held``                to the second: whose messages there are (JSON)
``PUT  /federated/v1/halves/SESSION/total``               the second: whose to add up (JSON)
``GET  /federated/v1/halves/SESSION/total``               to the second: this half of the sum
========================================================  =========================================================

Questions that have no answer yet are kept waiting, and then answered with 204. Every request but for what is public is
signed by its seat (Ed25519, over method, path and the body's digest), which is known before any of the body is read.
Bodies are bounded before they are read, messages before they are parsed. Errors are problem documents (RFC 9457)
without anything about anybody.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Awaitable, Callable
from http import HTTPStatus

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from discreet.client.wire import LONG_POLL, LONGEST_BODY
from discreet.errors import DiscreetError, ProtocolError, TermsRefused, TooFewLeft
from discreet.protocols.keys import Roster, is_signed, request_text
from discreet.protocols.messages import SHORT
from discreet.protocols.secagg.terms import Stage
from discreet.service.halves import First
from discreet.service.rounds import Rounds
from discreet.training.spool import NotKnown, NotNow, TooLate

ROOT = "/federated/v1"
BINARY = "application/octet-stream"
WAIT = LONG_POLL - 5
"""Seconds that a question is kept waiting."""


class _Refused(ProtocolError):
    """A request that is answered with a problem document before anything is done."""

    def __init__(self, status: int, kind: str, title: str) -> None:
        super().__init__(title)
        self.status, self.kind = status, kind


def coordinator(rounds: Rounds, items: bytes) -> FastAPI:
    """Return the application of a coordinator.

    Args:
        rounds: what is going on.
        items: the list of items, JSON.
    """
    app = _app("discreet coordinator")

    @app.get(f"{ROOT}/items")
    async def listed() -> Response:
        return Response(items, media_type="application/json")

    @app.get(f"{ROOT}/rounds/next")
    async def following(after: str = "") -> Response:
        return _answer(await rounds.next(after, WAIT))

    @app.put(ROOT + "/rounds/{session}/{stage}/{seat}")
    async def say(session: str, stage: str, seat: int, request: Request) -> Response:
        content = await _signed_body(request, rounds.most(session), _key_of(rounds.roster, seat))
        rounds.take(session, _stage(stage), seat, content)
        return _answer(None)

    @app.get(ROOT + "/rounds/{session}/{stage}/{seat}")
    async def hear(session: str, stage: str, seat: int, request: Request) -> Response:
        await _signed_body(request, 0, _key_of(rounds.roster, seat))
        return _answer(await rounds.reply(session, _stage(stage), seat, WAIT))

    @app.get(f"{ROOT}/model")
    async def released() -> Response:
        if rounds.result is None:
            raise NotKnown("no model is released yet")
        return _answer(rounds.result)

    return app


def first_server(first: First) -> FastAPI:
    """Return the application of the first of two servers."""
    app = _app("discreet first server")

    @app.put(ROOT + "/halves/{session}")
    async def begin(session: str, request: Request) -> Response:
        first.begin(session, await _signed_body(request, SHORT, first.second))
        return _answer(None)

    @app.put(ROOT + "/halves/{session}/seats/{seat}")
    async def say(session: str, seat: int, request: Request) -> Response:
        content = await _signed_body(request, first.most(session), _key_of(first.roster, seat))
        first.take(session, seat, content)
        return _answer(None)

    @app.get(ROOT + "/halves/{session}/held")
    async def held(session: str, request: Request) -> Response:
        await _signed_body(request, 0, first.second)
        return _answer(first.held(session))

    @app.put(ROOT + "/halves/{session}/total")
    async def add(session: str, request: Request) -> Response:
        first.add(session, await _signed_body(request, SHORT, first.second))
        return _answer(None)

    @app.get(ROOT + "/halves/{session}/total")
    async def total(session: str, request: Request) -> Response:
        await _signed_body(request, 0, first.second)
        return _answer(first.total(session))

    return app


def _app(title: str) -> FastAPI:
    app = FastAPI(
        title=title,
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
        # Whatever the environment says: addresses hold seats.
        telemetry={"auto_configure": False, "tracing": False, "metrics": False, "logs": False},
    )
    statuses: dict[type[Exception], tuple[int, str]] = {
        NotKnown: (404, "no-such-session"),
        NotNow: (503, "not-now"),
        TooLate: (410, "too-late"),
        TooFewLeft: (409, "too-few-left"),
        TermsRefused: (403, "terms-refused"),
        ProtocolError: (400, "message-refused"),
        DiscreetError: (500, "failed"),
    }

    async def told(request: Request, error: Exception) -> Response:
        del request
        if isinstance(error, _Refused):
            return _problem(error.status, error.kind, str(error))
        status, kind = next(statuses[each] for each in type(error).__mro__ if each in statuses)
        return _problem(status, kind, str(error))

    async def unknown(request: Request, error: Exception) -> Response:
        del request
        status = error.status_code if isinstance(error, HTTPException) else HTTPStatus.NOT_FOUND
        return _problem(status, "no-such-resource", "there is nothing of this kind at this address")

    handlers: dict[type[Exception], Callable[[Request, Exception], Awaitable[Response]]] = {
        DiscreetError: told,
        HTTPException: unknown,
        RequestValidationError: unknown,
    }
    for kind, handler in handlers.items():
        app.add_exception_handler(kind, handler)

    @app.middleware("http")
    async def once(request: Request, following: Callable[[Request], Awaitable[Response]]) -> Response:
        """Answer one request a connection: none stays open without a question."""
        answer = await following(request)
        answer.headers["Connection"] = "close"
        return answer

    return app


def _problem(status: int, kind: str, title: str) -> Response:
    content = json.dumps({"type": f"urn:discreet:{kind}", "title": title, "status": status})
    return Response(content, status, media_type="application/problem+json")


def _answer(content: bytes | None) -> Response:
    if content is None:
        return Response(status_code=HTTPStatus.NO_CONTENT)
    return Response(content, media_type=BINARY)


async def _body(request: Request, most: int) -> bytes:
    """Return a request's body, of which no more than ``most`` bytes are read, for no longer than a while."""
    told = request.headers.get("content-length", "0")
    parts, size = [], 0
    too_large = _Refused(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "too-large", f"at most {most} bytes are read here")
    if told.isdecimal() and int(told) > most:
        raise too_large
    try:
        async with asyncio.timeout(LONGEST_BODY):
            async for part in request.stream():
                size += len(part)
                if size > most:
                    raise _Refused(
                        HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "too-large", f"at most {most} bytes are read here"
                    )
                parts.append(part)
    except ClientDisconnect:
        raise _Refused(HTTPStatus.BAD_REQUEST, "cut-off", "the request ended before its body did") from None
    except TimeoutError:
        raise _Refused(HTTPStatus.REQUEST_TIMEOUT, "too-slow", "the request did not arrive in time") from None
    return b"".join(parts)


async def _signed_body(request: Request, most: int, by: bytes) -> bytes:
    """Return a request's body, if it is signed by whom it has to be: that is known before any of it is read."""
    kind, _, rest = request.headers.get("authorization", "").partition(" ")
    digest, _, signature = rest.partition(" ")
    try:
        text = request_text(request.method, request.url.path, bytes.fromhex(digest))
        signed = kind == "Discreet" and is_signed(by, bytes.fromhex(signature), text)
    except ValueError:
        signed = False
    if not signed:
        raise _Refused(HTTPStatus.UNAUTHORIZED, "not-signed", "the request is not signed by its seat")
    content = await _body(request, most)
    if hashlib.sha256(content).hexdigest() != digest:
        raise _Refused(HTTPStatus.UNAUTHORIZED, "not-signed", "another body was signed")
    return content


def _key_of(roster: Roster, seat: int) -> bytes:
    if not 0 <= seat < len(roster):
        raise _Refused(401, "not-signed", "there is no such seat")
    return roster[seat]


def _stage(name: str) -> Stage:
    try:
        return Stage[name.upper()]
    except KeyError:
        raise NotKnown("there is no such stage") from None
