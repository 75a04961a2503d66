"""What every application over HTTP does alike: bounded bodies, signatures, problem documents, no telemetry.

Bodies are bounded before they are read, and have to come within a while. Where it matters who asks, requests are signed
(Ed25519, over method, path and the body's digest). Errors are problem documents (RFC 9457) without anything about
anybody.
"""

from __future__ import annotations

import asyncio
import hashlib
import ipaddress
import json
import math
import time
from array import array
from bisect import bisect_right
from collections.abc import Awaitable, Callable, Mapping
from http import HTTPStatus

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.routing import Match

from discreet.client.wire import BINARY, LONGEST_BODY
from discreet.errors import DiscreetError, ProtocolError, SettingError
from discreet.protocols.keys import is_signed, request_text

METHODS = {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"}
DAY, HOUR = 86_400.0, 3_600.0
MOST_COUNTED, MOST_TIMES = 1 << 16, 1 << 22
"""Parties, and times of theirs (8 bytes each), that are counted at once: some 60 MB."""

Statuses = Mapping[type[Exception], tuple[int, str]]
"""Of errors: the status, and what comes after ``urn:discreet:``."""


class Refused(ProtocolError):
    """A request that is answered with a problem document before anything is done.

    Args:
        status: of the answer.
        kind: what comes after ``urn:discreet:``.
        title: in a sentence.
        after: seconds after which the same may be asked again, if that is known.
    """

    def __init__(self, status: int, kind: str, title: str, after: float | None = None) -> None:
        super().__init__(title)
        self.status, self.kind = status, kind
        self.headers = {} if after is None else {"Retry-After": str(math.ceil(after))}


def application(title: str, statuses: Statuses, *, once: bool = False, document: str | None = None) -> FastAPI:
    """Return an application without routes.

    Args:
        title: what it is.
        statuses: of errors, beside those that every application has.
        once: answer one request a connection: none stays open without a question.
        document: path of its OpenAPI document; None: it has none.
    """
    app = FastAPI(
        title=title,
        docs_url=None,
        redoc_url=None,
        openapi_url=document,
        # Whatever the environment says: addresses hold seats.
        telemetry={"auto_configure": False, "tracing": False, "metrics": False, "logs": False},
    )
    known: Statuses = {**statuses, ProtocolError: (400, "message-refused"), DiscreetError: (500, "failed")}

    async def told(request: Request, error: Exception) -> Response:
        del request
        if isinstance(error, Refused):
            return problem(error.status, error.kind, str(error), error.headers)
        status, kind = next(known[each] for each in type(error).__mro__ if each in known)
        return problem(status, kind, str(error))

    async def unusable(request: Request, error: Exception) -> Response:
        found = error.errors() if isinstance(error, RequestValidationError) else []
        if found and all(each["loc"][0] == "path" for each in found):
            return await _unknown(request, error)
        named = ", ".join(sorted({".".join(str(part) for part in each["loc"][:3]) for each in found})[:5])
        return problem(HTTPStatus.UNPROCESSABLE_ENTITY, "setting", f"this cannot be used: {named[:300]}")

    handlers: dict[type[Exception], Callable[[Request, Exception], Awaitable[Response]]] = {
        DiscreetError: told,
        HTTPException: _unknown,
        RequestValidationError: unusable,
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


async def _unknown(request: Request, error: Exception) -> Response:
    found = error if isinstance(error, HTTPException) else HTTPException(HTTPStatus.NOT_FOUND)
    headers, title = found.headers, "there is nothing of this kind at this address"
    if found.status_code == HTTPStatus.BAD_REQUEST:
        return problem(found.status_code, "message-refused", "the request cannot be read")
    if found.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
        headers = {"Allow": ", ".join(_methods(request))}
        title = f"this is not done at this address, which takes {headers['Allow']}"
    return problem(found.status_code, "no-such-resource", title, headers)


def _methods(request: Request) -> list[str]:
    """Return the methods that an address takes, by name."""
    asked = [dict(request.scope, method=method) for method in sorted(METHODS)]
    return [
        str(scope["method"])
        for scope in asked
        if any(route.matches(scope)[0] is Match.FULL for route in request.app.routes)
    ]


def problem(status: int, kind: str, title: str, headers: Mapping[str, str] | None = None) -> Response:
    """Return a problem document (RFC 9457)."""
    content = json.dumps({"type": f"urn:discreet:{kind}", "title": title, "status": status})
    return Response(content, status, headers, media_type="application/problem+json")


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


def sender(request: Request) -> bytes:
    """Return whose a request is that nobody signs: its connection's IPv4 address, or the /64 of an IPv6 address.

    A household or a machine has a /64 and can ask from each address in it. What headers say of an address
    (``X-Forwarded-For``) is not read: whoever asks can write them.
    """
    assert request.client  # noqa: S101 - servers listen on TCP alone
    address = ipaddress.ip_address(request.client.host)
    if isinstance(address, ipaddress.IPv6Address):
        mapped = address.ipv4_mapped
        return address.packed[:8] if mapped is None else mapped.packed
    return address.packed


class Daily:
    """How often a party may still do something within 24 hours. Counted in memory, from the start of this process.

    ======================================  ==========================================================================
    edge case                               behaviour
    ======================================  ==========================================================================
    a party did nothing for a day           it is forgotten, within an hour of the next that does something
    more parties than are counted at once   half of those who have not had their share are forgotten: who did least
    all of these have had their share       a party that is not counted is refused, until the first of them may again
    the process ends                        everybody may again
    ======================================  ==========================================================================

    So no flood of new parties makes room for one that has had its share; to have one that did k things forgotten, as
    many as half of the others have to do k each, which is more than is won.

    Args:
        most: times.
        counted: parties at once.

    Raises:
        SettingError: ``most`` is below 1.
    """

    def __init__(self, most: int, counted: int = MOST_COUNTED) -> None:
        if most < 1:
            raise SettingError(f"at least 1 a day is allowed, not {most}")
        self._most, self._counted = most, max(1, min(counted, MOST_TIMES // most))
        self._done: dict[bytes, array[float]] = {}
        self._full, self._swept = -math.inf, -math.inf

    def take(self, party: bytes) -> None:
        """Count once more.

        Raises:
            Refused: the party had its share, or is one too many; says after how many seconds it may again.
        """
        now = time.monotonic()
        if now > self._swept + HOUR:
            self._sweep(now)
        if party not in self._done:
            if len(self._done) >= self._counted:
                self._make_room(now)
            self._done[party] = array("d")
        done = self._done[party]
        del done[: bisect_right(done, now - DAY)]
        if len(done) >= self._most:
            raise self._refused(done[0] + DAY - now)
        done.append(now)

    def _sweep(self, now: float) -> None:
        lately = {party: done[bisect_right(done, now - DAY) :] for party, done in self._done.items()}
        self._done, self._swept = {party: done for party, done in lately.items() if done}, now

    def _make_room(self, now: float) -> None:
        if now >= self._full:
            self._sweep(now)
            able = [party for party, done in self._done.items() if len(done) < self._most]
            able.sort(key=lambda party: len(self._done[party]))
            for party in able[: (len(able) + 1) // 2]:
                del self._done[party]
            if len(self._done) < self._counted:
                return
            self._full = min(done[0] for done in self._done.values()) + DAY
        raise self._refused(self._full - now)

    def _refused(self, after: float) -> Refused:
        title = f"{self._most} within 24 hours are allowed here, and no more; come again when Retry-After says"
        return Refused(HTTPStatus.TOO_MANY_REQUESTS, "too-often", title, after)
