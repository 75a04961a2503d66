"""The coordinator's rounds: one session at a time, open to devices, ended by whoever came or by the clock.

It lives on one event loop; ``train`` runs beside it, in a thread, and waits for each sum. Nothing is kept of a device
but what the protocol needs, and nothing is ever sent to one that is not on the list: terms, broadcasts, and what the
protocol's server sends. See ``protocols/secagg`` and ``protocols/sharing`` for what the messages hide.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from discreet.errors import DiscreetError
from discreet.models.broadcast import Announcement
from discreet.privacy.disclosure import Kept
from discreet.protocols.keys import Roster
from discreet.protocols.secagg.server import Server
from discreet.protocols.secagg.terms import Stage, Terms
from discreet.protocols.sharing import Half, SharedTerms, joined
from discreet.service.halves import Second, seats_of
from discreet.training.spool import CLOSED, NotKnown, NotNow, Spool, TooLate

Vector = NDArray[np.int64]
Noise = Callable[[int], Vector]


@dataclass
class Open:
    """The session that is going on.

    Attributes:
        number: of the round.
        name: hex of the session, its place in addresses.
        announcement: its terms and what is asked.
        server: of the protocol: `Server` takes all stages, `Half` one message.
        sent: what each seat is sent after a stage.
        said: digest of what each seat said in a stage: the same twice counts once.
        chosen: with two servers, the seats that are summed, once that is settled: the first adds up one list alone.
        failed: what ends the session: a message that was taken, and could not be kept.
    """

    number: int
    name: str
    announcement: bytes
    server: Server | Half
    sent: dict[Stage, dict[int, bytes]] = field(default_factory=dict)
    said: dict[tuple[Stage, int], bytes] = field(default_factory=dict)
    chosen: frozenset[int] | None = None
    failed: DiscreetError | None = None

    @property
    def stage(self) -> Stage:
        """What is being said now."""
        return self.server.stage if isinstance(self.server, Server) else Stage.MASK


class Rounds:
    """What devices talk to.

    Args:
        roster: who may take part.
        spool: of this run.
        patience: seconds that a stage stays open for those who have not spoken; whoever was silent in the session
            before is not waited for.
    """

    def __init__(self, roster: Roster, spool: Spool, patience: float = 30.0) -> None:
        self.roster, self.patience = roster, patience
        self.result: bytes | None = None
        self._spool, self._ended = spool, False
        self._open: Open | None = None
        self._silent: frozenset[int] = frozenset()
        self._changed = asyncio.Event()

    def __repr__(self) -> str:
        return f"Rounds({self._open.stage.name if self._open else 'none'})"

    async def secure(self, number: int, terms: Terms, broadcast: bytes) -> Vector | Kept:
        """Return the sum of a round by secure aggregation; what was known before a restart is kept.

        Args:
            number: of the round.
            terms: of a new session; those of one that was begun before are taken instead.
            broadcast: what is asked.

        Raises:
            TooFewLeft: too many were lost; nothing was released.
            LedgerError: the spool fails, or is of another run.
        """
        session = self._spool.begin(number, terms.to_bytes(), broadcast)
        if session.total is not None:
            return Kept(session.total)
        terms = Terms.from_bytes(session.terms)
        server = Server(self.roster, terms)
        opened = self._opened(number, terms.session, session.terms, session.broadcast, server)
        try:
            self._resume(opened)
            while server.stage is not Stage.REVEAL:
                await self._until_said(opened)
                self._close(opened, server)
            await self._until_said(opened)
            spoke = {seat for stage, seat in opened.said if stage is Stage.REVEAL}
            self._silent = frozenset(range(len(self.roster))) - spoke
            total = await asyncio.to_thread(server.unmask)
            self._spool.end(number, total)
            return total
        finally:
            self._shut(opened)

    async def apart(
        self, number: int, terms: SharedTerms, broadcast: bytes, second: Second, noise: Noise
    ) -> Vector | Kept:
        """Return the sum of a round by two servers, of which this is the second; what was known before is kept.

        Args:
            number: of the round.
            terms: of a new session; those of one that was begun before are taken instead.
            broadcast: what is asked.
            second: this server, and its way to the first.
            noise: draws this server's own.

        Raises:
            TooFewLeft: fewer are left than the terms ask for; nothing was released.
            ProtocolError, EngineLost: the first refuses, or is gone.
            LedgerError: the spool fails, or is of another run.
        """
        session = self._spool.begin(number, terms.to_bytes(), broadcast)
        if session.total is not None:
            return Kept(session.total)
        terms = SharedTerms.from_bytes(session.terms)
        mine = Half(terms, second.key, self.roster)
        await asyncio.to_thread(second.begin, terms)  # first, or devices would find nothing there
        opened = self._opened(number, terms.session, session.terms, session.broadcast, mine)
        try:
            self._resume(opened)
            if opened.chosen is None:
                await self._until_said(opened)
                opened.chosen = mine.held & await asyncio.to_thread(second.held, terms)
                self._spool.keep(number, Stage.MASK, CLOSED, json.dumps(sorted(opened.chosen)).encode())
            both = opened.chosen
            self._silent = frozenset(range(len(self.roster))) - both
            mine.add(both)
            own = await asyncio.to_thread(mine.total, noise)
            other = await asyncio.to_thread(second.total, terms, both)
            total = joined(terms, own, other)
            self._spool.end(number, total)
            return total
        finally:
            self._shut(opened)

    def finish(self, result: bytes | None) -> None:
        """End the run: devices are told so, and sent the released model if there is one."""
        self.result, self._ended = result, True
        self._tell()

    async def next(self, after: str, wait: float) -> bytes | None:
        """Return the announcement of the session that is open, unless it is ``after``; None if none opens in time.

        Raises:
            TooLate: the run is over.
        """
        found = await self._wait(lambda: self._open is not None and self._open.name != after, wait)
        if self._ended:
            raise TooLate("the run is over")
        return self._open.announcement if found and self._open else None

    def most(self, name: str) -> int:
        """Return how many bytes a message of the session may have now.

        Raises:
            NotKnown, NotNow: there is no such session.
        """
        return self._session(name).server.most

    def take(self, name: str, stage: Stage, seat: int, content: bytes) -> None:
        """Take a message, and make it durable. The same message twice counts once.

        Raises:
            NotKnown, NotNow: there is no such session.
            TooLate: its stage is over.
            ProtocolError: it cannot be right, or is another than the seat's first.
        """
        opened, digest = self._session(name), hashlib.sha256(content).digest()
        if opened.said.get((stage, seat)) == digest:
            return
        if stage is not opened.stage:
            raise TooLate(f"{stage.name} is not what is said now")
        opened.server.take(seat, content)
        try:
            self._spool.keep(opened.number, stage, seat, content)
        except DiscreetError as error:  # what the server has seen and a restart would not: the session is over
            opened.failed = error
            self._tell()
            raise
        opened.said[stage, seat] = digest
        self._tell()

    async def reply(self, name: str, stage: Stage, seat: int, wait: float) -> bytes | None:
        """Return what a seat is sent after a stage; None if the stage does not end in time.

        Raises:
            NotKnown, NotNow: there is no such session, any more.
            TooLate: the stage ended without this seat.
        """
        opened = self._session(name)
        await self._wait(lambda: stage in opened.sent or self._open is not opened, wait)
        if stage in opened.sent:
            content = opened.sent[stage].get(seat)
            if content is None:
                raise TooLate("the stage ended without this seat")
            return content
        self._session(name)
        return None

    def _session(self, name: str) -> Open:
        if self._open is None and not self._ended:  # after a restart, say: it may be opened again
            raise NotNow("no session is open now; ask again")
        if self._open is None or self._open.name != name:
            raise NotKnown("there is no such session, or it is over")
        return self._open

    def _opened(self, number: int, session: bytes, terms: bytes, broadcast: bytes, server: Server | Half) -> Open:
        announcement = Announcement(terms, broadcast).to_bytes()
        self._open = Open(number, session.hex(), announcement, server)
        return self._open

    def _resume(self, opened: Open) -> None:
        """Take what was kept of this session, as it was taken then; then let devices in."""
        server = opened.server
        for number, seat, content in list(self._spool.kept(opened.number)):
            stage = Stage(number)
            if seat != CLOSED:
                server.take(seat, content)
                opened.said[stage, seat] = hashlib.sha256(content).digest()
            elif isinstance(server, Half):
                opened.chosen = frozenset(seats_of(content))
            else:
                opened.sent[stage] = {each: message.to_bytes() for each, message in server.close().items()}
        self._tell()

    def _close(self, opened: Open, server: Server) -> None:
        stage = server.stage
        sent = server.close()
        self._spool.keep(opened.number, stage, CLOSED, b"")
        opened.sent[stage] = {seat: message.to_bytes() for seat, message in sent.items()}
        self._tell()

    def _shut(self, opened: Open) -> None:
        if self._open is opened:
            self._open = None
        self._tell()

    async def _until_said(self, opened: Open) -> None:
        """Wait until all have spoken who may be waited for, or the clock has run out."""
        await self._wait(lambda: bool(opened.failed or not opened.server.expected - self._silent), self.patience)
        if opened.failed:
            raise opened.failed

    async def _wait(self, ready: Callable[[], bool], seconds: float) -> bool:
        deadline = time.monotonic() + seconds
        while not ready() and not self._ended:
            left = deadline - time.monotonic()
            if left <= 0:
                return False
            changed = self._changed
            try:
                await asyncio.wait_for(changed.wait(), left)
            except TimeoutError:
                return ready()
        return ready()

    def _tell(self) -> None:
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()
