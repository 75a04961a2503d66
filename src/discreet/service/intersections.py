"""Intersections between two organisations over HTTP: both sides.

==================================================  ================================================================
``PUT  /intersections/v1/SESSION``                  the terms; opens a session
``PUT  /intersections/v1/SESSION/question``         message 1
``GET  /intersections/v1/SESSION/answer``           message 2, as soon as it is computed; kept waiting until then
``PUT  /intersections/v1/SESSION/end``              message 3, or nothing where the terms tell the asker alone
==================================================  ================================================================

Terms hold what both organisations set up by themselves; only the session is the asker's to choose. Every request is
signed by the asker, whose key is pinned. That the answerer is who it says is for TLS. The same message twice counts
once; another one of the same step is refused. A session ends once, is never opened again, and is forgotten after a
while if nobody ends it. Nothing is logged. What is counted is sessions that were opened: each of them lets the asker
test as many guesses as its set has places.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial

from fastapi import FastAPI, Request, Response

from discreet.client.wire import LONG_POLL, Over, Wire
from discreet.errors import EngineLost, ProtocolError, TermsRefused
from discreet.protocols.intersection import (
    HEAD_BYTES,
    POINT_BYTES,
    Answerer,
    Apply,
    Asker,
    Found,
    IntersectionTerms,
)
from discreet.protocols.messages import SHORT
from discreet.service.http import Daily, Refused, Statuses, answer, application, signed_body, signer

ROOT = "/intersections/v1"
WAIT = LONG_POLL - 5
"""Seconds that a question is kept waiting."""
LASTING = 3600.0
"""Seconds after which a session that nobody ended is forgotten, and for which an answer is waited for."""
PER_DAY = 10
STATUSES: Statuses = {TermsRefused: (403, "terms-refused")}

_Step = tuple[bytes, "asyncio.Task[bytes]"]
"""What was said (its SHA-256), and what comes of it."""


class _Session:
    def __init__(self, terms: IntersectionTerms, identifiers: Collection[bytes]) -> None:
        self.answerer = Answerer(terms, identifiers, self._apply)
        self.steps: dict[str, _Step] = {}
        self.over = False

    def _apply(
        self, function: Callable[[Sequence[bytes]], list[bytes]], chunks: Iterable[Sequence[bytes]]
    ) -> Iterator[list[bytes]]:
        """Multiply for as long as somebody may still ask for it."""
        for chunk in chunks:
            if self.over:
                raise ProtocolError("the session is over")
            yield function(chunk)


class _Desk:
    """The sessions of an answerer: those that go on, and what ended each of the others (SHA-256; nothing: time)."""

    def __init__(
        self,
        terms: IntersectionTerms,
        identifiers: Collection[bytes],
        learn: Callable[[Found | None], None],
        lasting: float,
    ) -> None:
        Answerer(terms, identifiers)  # refuses now what no session could go on with
        self._terms, self._identifiers, self._learn, self._lasting = terms, identifiers, learn, lasting
        self._sessions: dict[str, _Session] = {}
        self._over: dict[str, bytes] = {}
        self._turns = asyncio.Semaphore(os.cpu_count() or 1)

    def open(self, name: str, content: bytes, count: Callable[[], None]) -> None:
        """Open a session; the same one again changes nothing."""
        terms = IntersectionTerms.from_bytes(content)
        if terms.session.hex() != name or replace(terms, session=self._terms.session) != self._terms:
            raise TermsRefused("another purpose, other names or sizes, or something else to be told was agreed to here")
        self._check_not_over(name)
        if name not in self._sessions:
            count()
            self._sessions[name] = _Session(terms, self._identifiers)
            asyncio.get_running_loop().call_later(self._lasting, self._end, name, b"")

    def of(self, name: str) -> _Session:
        """Return a session that goes on."""
        self._check_not_over(name)
        if name not in self._sessions:
            raise Refused(404, "no-such-session", "there is no such session")
        return self._sessions[name]

    def question(self, name: str, content: bytes) -> None:
        """Begin to answer."""
        session = self.of(name)
        self._step(session, "question", content, session.answerer.answer)

    async def answer(self, name: str) -> bytes | None:
        """Return the answer, or None if it is still to come."""
        step = self.of(name).steps.get("question")
        if step is None:
            raise ProtocolError("nothing was asked in this session yet")
        await asyncio.wait([step[1]], timeout=WAIT)
        return step[1].result() if step[1].done() else None

    async def end(self, name: str, content: bytes) -> None:
        """Learn what the asker tells, and forget the session."""
        told = hashlib.sha256(content).digest()
        if self._over.get(name) == told:
            return
        session = self.of(name)
        await asyncio.shield(self._step(session, "end", content, partial(self._told, session)))
        self._end(name, told)

    def _check_not_over(self, name: str) -> None:
        if name in self._over:
            raise Refused(410, "over", "the session is over")

    def _told(self, session: _Session, content: bytes) -> bytes:
        self._learn(session.answerer.read(content) if self._terms.both else None)
        return b""

    def _end(self, name: str, told: bytes) -> None:
        session = self._sessions.pop(name, None)
        if session:
            session.over, self._over[name] = True, told

    def _step(
        self, session: _Session, name: str, content: bytes, work: Callable[[bytes], bytes]
    ) -> asyncio.Task[bytes]:
        said = hashlib.sha256(content).digest()
        if name not in session.steps:
            task = asyncio.create_task(self._computed(session, work, content))
            task.add_done_callback(_noticed)
            session.steps[name] = said, task
        if session.steps[name][0] != said:
            raise ProtocolError("a session takes one message of each step; start another")
        return session.steps[name][1]

    async def _computed(self, session: _Session, work: Callable[[bytes], bytes], content: bytes) -> bytes:
        try:
            async with self._turns:
                return await asyncio.to_thread(work, content)
        except asyncio.CancelledError:  # the server ends, and waits for its threads
            session.over = True
            raise


def _noticed(task: asyncio.Task[bytes]) -> None:
    """See an error, which whoever asks for the answer is told: if nobody asks, the loop does not complain of it."""
    if not task.cancelled():
        task.exception()


def intersections(
    terms: IntersectionTerms,
    identifiers: Collection[bytes],
    peer: bytes,
    *,
    per_day: int = PER_DAY,
    lasting: float = LASTING,
    learn: Callable[[Found | None], None] = lambda _: None,
) -> FastAPI:
    """Return the application of an organisation that answers.

    Args:
        terms: as agreed; of any session.
        identifiers: of this organisation.
        peer: signing key of the asker, pinned.
        per_day: sessions that it may open within 24 hours.
        lasting: seconds after which a session is forgotten.
        learn: called at the end of each session, in a thread: with what this organisation learns, None if nothing.

    Raises:
        SettingError: there are more identifiers than announced, or one of them twice.
    """
    app = application("discreet intersections", STATUSES, once=True)
    desk, daily = _Desk(terms, identifiers, learn, lasting), Daily(per_day)
    longest_question, longest_end = (HEAD_BYTES + POINT_BYTES * size for size in terms.sizes)

    @app.put(ROOT + "/{session}")
    async def begin(session: str, request: Request) -> Response:
        desk.open(session, await signed_body(request, SHORT, peer), partial(daily.take, peer))
        return answer(None)

    @app.put(ROOT + "/{session}/question")
    async def question(session: str, request: Request) -> Response:
        signer(request, peer)
        desk.of(session)  # before megabytes are read
        desk.question(session, await signed_body(request, longest_question, peer))
        return answer(None)

    @app.get(ROOT + "/{session}/answer")
    async def answered(session: str, request: Request) -> Response:
        await signed_body(request, 0, peer)
        return answer(await desk.answer(session))

    @app.put(ROOT + "/{session}/end")
    async def end(session: str, request: Request) -> Response:
        await desk.end(session, await signed_body(request, longest_end if terms.both else 0, peer))
        return answer(None)

    return app


def intersect(
    terms: IntersectionTerms,
    identifiers: Collection[bytes],
    wire: Wire,
    *,
    apply: Apply = map,
    longest: float = LASTING,
) -> Found:
    """Ask an organisation elsewhere; return what is shared.

    Args:
        terms: as agreed, of a new session.
        identifiers: of this organisation.
        wire: to the other, signed by this one.
        apply: what runs the multiplications.
        longest: seconds to wait for the answer.

    Raises:
        SettingError: there are more identifiers than announced, or one of them twice.
        EngineLost: the other cannot be reached, or does not answer in time.
        ProtocolError: it refuses, or its answer cannot be right; Over, if it knows the session no more.
    """
    asker = Asker(terms, identifiers, apply)
    place = f"{ROOT}/{terms.session.hex()}"
    wire = replace(wire, most=HEAD_BYTES + POINT_BYTES * sum(terms.sizes))
    try:
        wire.put(place, terms.to_bytes())
        wire.put(f"{place}/question", asker.ask())
        found = asker.read(wire.wait(f"{place}/answer", longest))
        if terms.both:
            wire.put(f"{place}/end", asker.tell())
    except Over:
        raise Over("the other organisation knows this session no more: it was too slow, or they began anew") from None
    if not terms.both:
        with suppress(Over, EngineLost):  # what is shared is known; there it is forgotten either way
            wire.put(f"{place}/end", b"")
    return found
