"""The two servers of ``garbled``: each answers people, and they talk to each other, over HTTP.

==================================  ================================================================================
``PUT  /lists/v1/garbled/half``     to the first: a person's half of a question, held until the second asks for it
``POST /lists/v1/garbled``          to the second: the other half; its half of the list
``POST /lists/v1/garbled``          to the first: the same half again; its half of the list, once
``POST /lists/v1/garbled/here``     second to first: whether a session's half is here
``POST /lists/v1/garbled/point``    second to first, steps 1 and 2 of ``protocols/oblivious``
``.../columns``, ``/difference``    steps 3 and 4, 6 and 7
==================================  ================================================================================

Nobody waits for anybody: the second asks the first for nothing that is not there yet. What it asks is signed; its key
is pinned. It keeps garblings ready, so that a question costs its evaluation alone; where none is left, one is made.
Each session is computed once, by both: two garblings of one would be two answers whose halves do not fit each other.
The first gives its half of a list to whoever shows the half of the question that it is of, which the second has not
seen.
"""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict, deque
from contextlib import suppress
from dataclasses import replace
from typing import TypeVar

from discreet.client.wire import Denied, Wire
from discreet.errors import DiscreetError, ProtocolError
from discreet.inference.garbled import Server
from discreet.protocols.oblivious import Evaluator, Garbler, Passed, Share, Step

MOST_OPEN, MOST_HELD = 64, 1 << 14
"""Garblings, and sessions, that a server remembers; the oldest go first."""
STEPS = {"point": Step.POINT, "columns": Step.COLUMNS, "difference": Step.DIFFERENCE}
HERE, NOT_HERE = b"1", b"0"

What = TypeVar("What")


class GarblerHouse:
    """What the first server keeps between messages.

    Args:
        server: of the model, with seat 0.
    """

    def __init__(self, server: Server) -> None:
        self.server = server
        self._open: OrderedDict[bytes, Garbler] = OrderedDict()
        self._halves: OrderedDict[bytes, bytes] = OrderedDict()
        self._masks: OrderedDict[bytes, tuple[bytes, bytes]] = OrderedDict()
        self._lock = threading.Lock()

    def hold(self, content: bytes) -> None:
        """Take a person's half; the same again is the same.

        Raises:
            ProtocolError: it is no question, or its session is another's, or was computed already.
        """
        session = self.server.question(content).session
        with self._lock:
            if self._halves.get(session, content) != content or session in self._masks:
                raise ProtocolError("a question is asked once; ask anew")
            _kept(self._halves, session, content, MOST_HELD)

    def answer(self, content: bytes) -> bytes:
        """Return this server's half of the list, to whoever shows the half of the question, once.

        Raises:
            ProtocolError: it is no question, or was not computed, or was told already.
        """
        session = self.server.question(content).session
        with self._lock:
            of, masks = self._masks.get(session, (b"", b""))
            if of != hashlib.sha256(content).digest() or not masks:
                raise ProtocolError("this question was not computed, or was told already; ask anew")
            self._masks[session] = of, b""  # the session stays known
            return masks

    def here(self, content: bytes) -> bytes:
        """Tell whether a session's half is held."""
        with self._lock:
            return HERE if content in self._halves else NOT_HERE

    def point(self, content: bytes) -> bytes:
        """Begin a garbling. Raises ProtocolError as ``Garbler.points``."""
        begun = Passed.from_bytes(content)
        garbler = Garbler(self.server.terms, begun.garbling)
        points = garbler.points(content)
        with self._lock:
            if begun.garbling in self._open:
                raise ProtocolError("a garbling is begun once")
            _kept(self._open, begun.garbling, garbler, MOST_OPEN)
        return points

    def columns(self, content: bytes) -> bytes:
        """Garble. Raises ProtocolError as ``Garbler.circuit``."""
        with self._lock:
            garbler = self._open.get(_passed(content).garbling)
        if garbler is None:
            raise ProtocolError("there is no such garbling here; begin another")
        return garbler.circuit(content)

    def difference(self, content: bytes) -> bytes:
        """Return the labels for a question whose half is held.

        Raises:
            ProtocolError: as ``Garbler.labels``; or there is no such garbling, and the half stays held; or no half.
        """
        passed = _passed(content)
        with self._lock:
            garbler = self._open.pop(passed.garbling, None)
            if garbler is None:
                raise ProtocolError("there is no such garbling here; begin another")
            half = self._halves.pop(passed.session, None)
            if half is None:
                raise ProtocolError("the question's other half is not here")
            _kept(self._masks, passed.session, (b"", b""), MOST_HELD)
        labels, masks = garbler.labels(self.server.share(half), content)
        with self._lock:
            self._masks[passed.session] = hashlib.sha256(half).digest(), masks
        return labels


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
        self._asked: OrderedDict[bytes, None] = OrderedDict()
        self._lock, self._making = threading.Lock(), threading.Lock()

    def answer(self, content: bytes) -> bytes:
        """Take a person's half, and return this server's half of the list.

        Raises:
            ProtocolError: it is no question, or was asked before, or its other half is not with the first server.
            EngineLost: the first server cannot be reached.
        """
        session = self.server.question(content).session
        if self._said("here", session) != HERE:
            raise ProtocolError("the first server has no half of this question; send it that first")
        with self._lock:
            if session in self._asked:
                raise ProtocolError("a question is asked once; ask anew")
            _kept(self._asked, session, None, MOST_HELD)
        share = self.server.share(content)
        try:
            evaluator = self._ready.popleft()
            return self._answered(evaluator, share)
        except (IndexError, Denied):  # none is ready; or the first server began anew, and knows none of them
            self._ready.clear()
            return self._answered(self._made(), share)
        finally:
            threading.Thread(target=self.prepare, daemon=True).start()

    def prepare(self) -> None:
        """Make garblings until there are as many as wanted; where the other server cannot be reached, none."""
        if self._making.acquire(blocking=False):
            try:
                with suppress(DiscreetError):
                    while len(self._ready) < self._wanted:
                        self._ready.append(self._made())
            finally:
                self._making.release()

    def _answered(self, evaluator: Evaluator, share: Share) -> bytes:
        return evaluator.answer(self._said("difference", evaluator.difference(share)))

    def _made(self) -> Evaluator:
        evaluator = Evaluator(self.server.terms)
        columns = evaluator.columns(self._said("point", evaluator.point()))
        evaluator.keep(self._said("columns", columns))
        return evaluator

    def _said(self, step: str, message: bytes) -> bytes:
        return self._wire.post(f"/lists/v1/garbled/{step}", message)


def _passed(content: bytes) -> Passed:
    return Passed.from_bytes(content, len(content))


def _kept(held: OrderedDict[bytes, What], name: bytes, what: What, most: int) -> None:
    held[name] = what
    if len(held) > most:
        held.popitem(last=False)
