"""What every application over HTTP does alike: bounded bodies, signatures, problem documents, no telemetry.

Bodies are bounded before they are read, and have to come within a while. Where it matters who asks, requests are signed
(Ed25519, over method, path and the body's digest). Errors are problem documents (RFC 9457) without anything about
anybody.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import time
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from http import HTTPStatus

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from discreet.client.wire import BINARY, LONGEST_BODY
from discreet.errors import DiscreetError, ProtocolError
from discreet.protocols.keys import is_signed, request_text

DAY = 86_400.0

Statuses = Mapping[type[Exception], tuple[int, str]]
"""Of errors: the status, and what comes after ``urn:discreet:``."""


class Refused(ProtocolError):
    """A request that is answered with a problem document before anything is done."""

    def __init__(self, status: int, kind: str, title: str) -> None:
        super().__init__(title)
        self.status, self.kind = status, kind


def application(title: str, statuses: Statuses, *, once: bool = False) -> FastAPI:
    """Return an application without routes.

    Args:
        title: what it is.
        statuses: of errors, beside those that every application has.
        once: answer one request a connection: none stays open without a question.
    """
    app = FastAPI(
        title=title,
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
        # Whatever the environment says: addresses hold seats.
        telemetry={"auto_configure": False, "tracing": False, "metrics": False, "logs": False},
    )
    known: Statuses = {**statuses, ProtocolError: (400, "message-refused"), DiscreetError: (500, "failed")}

    async def told(request: Request, error: Exception) -> Response:
        del request
        if isinstance(error, Refused):
            return problem(error.status, error.kind, str(error))
        status, kind = next(known[each] for each in type(error).__mro__ if each in known)
        return problem(status, kind, str(error))

    async def unknown(request: Request, error: Exception) -> Response:
        del request
        status = error.status_code if isinstance(error, HTTPException) else HTTPStatus.NOT_FOUND
        return problem(status, "no-such-resource", "there is nothing of this kind at this address")

    handlers: dict[type[Exception], Callable[[Request, Exception], Awaitable[Response]]] = {
        DiscreetError: told,
        HTTPException: unknown,
        RequestValidationError: unknown,
    }
    for kind, handler in handlers.items():
        app.add_exception_handler(kind, handler)

    async def closing(request: Request, following: Callable[[Request], Awaitable[Response]]) -> Response:
        answer = await following(request)
        answer.headers["Connection"] = "close"
        return answer

    if once:
        app.middleware("http")(closing)
    return app


def problem(status: int, kind: str, title: str) -> Response:
    """Return a problem document (RFC 9457)."""
    content = json.dumps({"type": f"urn:discreet:{kind}", "title": title, "status": status})
    return Response(content, status, media_type="application/problem+json")


def answer(content: bytes | None) -> Response:
    """Return a message, or that there is none yet."""
    if content is None:
        return Response(status_code=HTTPStatus.NO_CONTENT)
    return Response(content, media_type=BINARY)


async def body(request: Request, most: int) -> bytes:
    """Return a request's body, of which no more than ``most`` bytes are read, for no longer than a while."""
    told = request.headers.get("content-length", "0")
    parts, size = [], 0
    too_large = Refused(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "too-large", f"at most {most} bytes are read here")
    if told.isdecimal() and int(told) > most:
        raise too_large
    try:
        async with asyncio.timeout(LONGEST_BODY):
            async for part in request.stream():
                size += len(part)
                if size > most:
                    raise Refused(
                        HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "too-large", f"at most {most} bytes are read here"
                    )
                parts.append(part)
    except ClientDisconnect:
        raise Refused(HTTPStatus.BAD_REQUEST, "cut-off", "the request ended before its body did") from None
    except TimeoutError:
        raise Refused(HTTPStatus.REQUEST_TIMEOUT, "too-slow", "the request did not arrive in time") from None
    return b"".join(parts)


def signer(request: Request, *keys: bytes) -> bytes:
    """Return by which of some signing keys a request is signed; nothing of its body is read.

    Raises:
        Refused: by none of them.
    """
    kind, _, rest = request.headers.get("authorization", "").partition(" ")
    digest, _, signature = rest.partition(" ")
    try:
        text = request_text(request.method, request.url.path, bytes.fromhex(digest))
        signed = [key for key in keys if kind == "Discreet" and is_signed(key, bytes.fromhex(signature), text)]
    except ValueError:
        signed = []
    if not signed:
        raise Refused(HTTPStatus.UNAUTHORIZED, "not-signed", "the request is not signed by whom it has to be")
    return signed[0]


async def signed_body(request: Request, most: int, *keys: bytes) -> bytes:
    """Return a request's body, if it is signed by one of these keys: that is known before any of it is read."""
    signer(request, *keys)
    content = await body(request, most)
    if hashlib.sha256(content).hexdigest() != request.headers["authorization"].split(" ")[1]:
        raise Refused(HTTPStatus.UNAUTHORIZED, "not-signed", "another body was signed")
    return content


class Daily:
    """How often a party may still do something within 24 hours. Counted in memory, from the start of this process.

    Args:
        most: times.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._done: dict[bytes, deque[float]] = {}

    def take(self, party: bytes) -> None:
        """Count once more.

        Raises:
            Refused: the party had its share.
        """
        now, done = time.monotonic(), self._done.setdefault(party, deque())
        while done and done[0] <= now - DAY:
            done.popleft()
        if len(done) >= self._most:
            title = f"{self._most} a day were agreed to here; come again tomorrow"
            raise Refused(HTTPStatus.TOO_MANY_REQUESTS, "too-often", title)
        done.append(now)
