"""At the door of the service: who asks, whether they may, and how often.

What they may not do is refused before it is done.

Keys come as ``Authorization: Bearer``. A key that is none, has ended, or is of somebody who was erased is one answer:
401. A role that does not allow for it is 403, whatever is asked about. Errors are problem documents (RFC 9457).
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import Annotated, Any

from fastapi import Depends, Header, Path, Request
from pydantic import BaseModel

from discreet.errors import SettingError
from discreet.governance.access import Visitor
from discreet.governance.roles import Permission
from discreet.service.api.house import House
from discreet.service.http import Refused, sender

ReceiptId = Annotated[str, Path(pattern=r"^[0-9a-f-]{36}$")]

MOST_PACED = 1 << 16
"""Keys that are counted at once."""


class Problem(BaseModel):
    """What went wrong (RFC 9457)."""

    type: str
    title: str
    status: int


PROBLEMS: dict[int | str, dict[str, Any]] = {
    status: {"model": Problem, "description": said, "content": {"application/problem+json": {}}}
    for status, said in (
        (400, "the request cannot be read"),
        (401, "no key, or one that is not valid"),
        (403, "the role, or the inventory, does not allow for this"),
        (404, "there is nothing of this kind"),
        (405, "this is not done here"),
        (409, "it contradicts what is there, or a budget does not allow for it"),
        (411, "the body has no length"),
        (413, "the body is too long"),
        (422, "something in the request cannot be used"),
        (429, "too many requests with this key, or from this address without one; Retry-After says when"),
        (503, "not now: ask again"),
    )
}


class Bucket:
    """How often somebody may ask: so many times a minute, and as many at once.

    Args:
        per_minute: times.
        whose: how a refusal tells whose requests are counted.
    """

    def __init__(self, per_minute: int, whose: str = "with a key") -> None:
        if per_minute < 1:
            raise SettingError(f"at least 1 request a minute is allowed, not {per_minute}")
        self._most, self._whose, self._left = per_minute, whose, dict[str, tuple[float, float]]()

    def take(self, key: str) -> None:
        """Count once more.

        Raises:
            Refused: it was too often; says after how many seconds it may be again.
        """
        now = time.monotonic()
        left, at = self._left.get(key, (float(self._most), now))
        left = min(self._most, left + (now - at) * self._most / 60)
        if left < 1:
            said = f"{self._most:,} requests a minute are allowed {self._whose}"
            raise Refused(HTTPStatus.TOO_MANY_REQUESTS, "too-often", said, (1 - left) * 60 / self._most)
        if key not in self._left and len(self._left) >= MOST_PACED:
            self._left = {name: told for name, told in self._left.items() if now - told[1] < 60}
        self._left[key] = left - 1, now


Guard = Callable[[Request], Awaitable[Visitor]]


def may(permission: Permission) -> Guard:
    """Return what lets in whoever has a permission, and tells who that is."""

    async def guard(request: Request) -> Visitor:
        visitor = await visitor_of(request)
        if visitor is None:
            await stranger(request)
            raise not_known()
        request.app.state.bucket.take(visitor.name)
        if not visitor.may(permission):
            whose = visitor.role if visitor.only is None else f"{visitor.role}, with a key that is narrowed,"
            raise Refused(HTTPStatus.FORBIDDEN, "not-allowed", f"{whose} may not {permission.value}")
        return visitor

    return guard


async def visitor_of(request: Request) -> Visitor | None:
    """Return whose key a request comes with, or None: with none that is valid."""
    kind, _, key = request.headers.get("authorization", "").partition(" ")
    return await (await here(request)).known.visitor(key.strip()) if kind.lower() == "bearer" else None


async def stranger(request: Request) -> None:
    """Let in whoever has no key, so often a minute from an address; a request counts once, wherever it is refused.

    Raises:
        Refused: it was too often.
    """
    if not getattr(request.state, "counted", False):
        request.app.state.strangers.take(sender(request).hex())
        request.state.counted = True


async def here(request: Request) -> House:
    """Return the service that is asked. (What is not a coroutine would be called in another thread.)"""
    house: House = request.app.state.house
    return house


Here = Annotated[House, Depends(here)]
Named = Annotated[str | None, Header(alias="Idempotency-Key", pattern=r"^[\x21-\x7e]{1,100}$")]
"""What a request is called by whoever may send it again: it is done once."""


def unknown() -> Refused:
    """Return what is said where there is nothing."""
    return Refused(HTTPStatus.NOT_FOUND, "no-such-resource", "there is nothing of this kind at this address")


def not_known() -> Refused:
    """Return what is said to whoever has no valid key."""
    refused = Refused(HTTPStatus.UNAUTHORIZED, "not-known", "give a valid key: Authorization: Bearer ...")
    refused.headers["WWW-Authenticate"] = "Bearer"
    return refused
