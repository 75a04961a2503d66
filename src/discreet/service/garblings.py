"""The two servers of ``garbled``: each answers people, and they talk to each other, over HTTP.

==================================================  ================================================================
``POST /lists/v1/garbled``                          a person's half of a question, to each of both; its half of the list
``POST /lists/v1/garbled/point``                    evaluator to garbler, steps 1 and 2 of ``protocols/oblivious``
``POST /lists/v1/garbled/columns``                  steps 3 and 4: the circuit
``POST /lists/v1/garbled/difference``               steps 6 and 7, once the person's half is here, too
==================================================  ================================================================

What the evaluator asks is signed by it; its key is pinned. It keeps garblings ready, so that a question costs its
evaluation alone; where none is left, one is made. Whoever waits for the other, waits for a while. A garbling whose
question failed is thrown away: none is used twice.
"""

from __future__ import annotations

import asyncio
import threading
from collections import OrderedDict, deque
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from typing import Any, TypeVar

from discreet.client.wire import Wire
from discreet.errors import DiscreetError, ProtocolError
from discreet.inference.garbled import Server
from discreet.protocols.oblivious import Evaluator, Garbler, Passed, Share, Step
from discreet.service.http import Refused

PATIENCE = 15.0
"""Seconds for which a half of a question waits for the other."""
MOST_WAITING = 16
"""Questions that wait for the other server at a time; further ones wait for these."""
MOST_OPEN = 64
"""Garblings, and questions, that are open at a time; the oldest go first."""
STEPS = {"point": Step.POINT, "columns": Step.COLUMNS, "difference": Step.DIFFERENCE}

Made = TypeVar("Made")


class GarblerHouse:
    """What the first server keeps between messages.

    Args:
        server: of the model, with seat 0.
    """

    def __init__(self, server: Server) -> None:
        self.server = server
        self._open: OrderedDict[bytes, Garbler] = OrderedDict()
        self._asked: OrderedDict[bytes, asyncio.Future[tuple[Share, asyncio.Future[bytes]]]] = OrderedDict()

    async def ask(self, content: bytes) -> bytes:
        """Take a person's half, and return this server's half of the list, once the evaluator has come for it.

        Raises:
            ProtocolError: it is no question, or was asked before.
            Refused: the evaluator did not come.
        """
        share = await asyncio.to_thread(self.server.share, content)
        waited = self._session(share.question.session)
        if waited.done():
            raise ProtocolError("a question is asked once")
        told: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        waited.set_result((share, told))
        try:
            return await _awaited(told, "the other server did not come for this question; ask again")
        finally:
            self._asked.pop(share.question.session, None)

    async def point(self, content: bytes) -> bytes:
        """Begin a garbling. Raises ProtocolError as ``Garbler.points``."""
        terms = self.server.terms
        begun = Passed.from_bytes(content)
        garbler = Garbler(terms, begun.garbling)
        points = await asyncio.to_thread(garbler.points, content)
        if begun.garbling in self._open:
            raise ProtocolError("a garbling is begun once")
        _kept(self._open, begun.garbling, garbler)
        return points

    async def columns(self, content: bytes) -> bytes:
        """Garble. Raises ProtocolError as ``Garbler.circuit``."""
        garbler = self._open.get(_garbling_of(content))
        if garbler is None:
            raise ProtocolError("there is no such garbling here; begin another")
        return await asyncio.to_thread(garbler.circuit, content)

    async def difference(self, content: bytes) -> bytes:
        """Return the labels for a question, once the person's half of it is here.

        Raises:
            ProtocolError: as ``Garbler.labels``.
            Refused: the person's half did not come.
        """
        garbler = self._open.pop(_garbling_of(content), None)
        if garbler is None:
            raise ProtocolError("there is no such garbling here; begin another")
        session = Passed.from_bytes(content, len(content)).session
        share, told = await _awaited(self._session(session), "the question's other half did not come")
        labels, masks = await asyncio.to_thread(garbler.labels, share, content)
        if not told.done():
            told.set_result(masks)
        return labels

    def _session(self, session: bytes) -> asyncio.Future[tuple[Share, asyncio.Future[bytes]]]:
        """Return where a question's half is, or will be."""
        found = self._asked.get(session)
        if found is None:
            found = asyncio.get_running_loop().create_future()
            _kept(self._asked, session, found)
        return found


class EvaluatorHouse:
    """What the second server keeps: garblings that are ready.

    Args:
        server: of the model, with seat 1.
        wire: to the first, signed with this server's key.
        ready: how many garblings are made ahead.
    """

    def __init__(self, server: Server, wire: Wire, ready: int = 2) -> None:
        self.server, self._wanted = server, ready
        self._wire = replace(wire, most=server.terms.passed_size(Step.CIRCUIT))
        self._ready: deque[Evaluator] = deque()
        self._making = threading.Lock()
        self._threads = ThreadPoolExecutor(MOST_WAITING)

    async def answer(self, content: bytes) -> bytes:
        """Take a person's half, and return this server's half of the list.

        Raises:
            ProtocolError: it is no question, or the other server refuses; the garbling is lost.
            EngineLost: the other server cannot be reached.
        """
        share = await asyncio.to_thread(self.server.share, content)
        return await asyncio.get_running_loop().run_in_executor(self._threads, self._answered, share)

    def _answered(self, share: Share) -> bytes:
        try:
            evaluator = self._ready.popleft()
        except IndexError:
            evaluator = self._made()
        self._threads.submit(self.prepare)
        return evaluator.answer(self._passed("difference", evaluator.difference(share)))

    def prepare(self) -> None:
        """Make garblings until there are as many as wanted; where the other server cannot be reached, none."""
        with self._making, suppress(DiscreetError):
            while len(self._ready) < self._wanted:
                self._ready.append(self._made())

    def _made(self) -> Evaluator:
        evaluator = Evaluator(self.server.terms)
        columns = evaluator.columns(self._passed("point", evaluator.point()))
        evaluator.keep(self._passed("columns", columns))
        return evaluator

    def _passed(self, step: str, message: bytes) -> bytes:
        return self._wire.post(f"/lists/v1/garbled/{step}", message)


async def _awaited(future: asyncio.Future[Made], otherwise: str) -> Made:
    try:
        async with asyncio.timeout(PATIENCE):
            return await asyncio.shield(future)
    except TimeoutError:
        raise Refused(503, "not-now", otherwise) from None


def _garbling_of(content: bytes) -> bytes:
    return Passed.from_bytes(content, len(content)).garbling


def _kept(held: OrderedDict[bytes, Any], name: bytes, what: Any) -> None:
    held[name] = what
    if len(held) > MOST_OPEN:
        held.popitem(last=False)
