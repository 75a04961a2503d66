"""Threads with records of their own: one that reads, one that writes, so that a slow disk holds up no list.

What is sent in many small batches is kept in few transactions: while one is made durable the next ones gather, and go
together. Each is acknowledged when its own transaction is on the disk, not before.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from typing import TypeVar

from discreet.data.records import Records
from discreet.data.vault import Batch, Collected
from discreet.errors import Conflict, DiscreetError, EngineLost, LedgerError

TOGETHER = 64
"""Batches of one transaction, at most."""
PATIENCE = 30.0
"""Seconds that anything may wait for its turn and be done."""
WAITING = 1_000
"""What may wait for a desk: more is told to come again."""

UNSEEN = 1.0
"""Seconds for which the witness may lack what is acknowledged before it was seen."""

Told = TypeVar("Told")


class Line:
    """A thread that does one thing at a time.

    Args:
        most: that may wait; more is told to come again.
    """

    def __init__(self, most: int = WAITING) -> None:
        self._thread, self._most, self._waiting = ThreadPoolExecutor(1), most, 0

    async def do(self, work: Callable[[], Told]) -> Told:
        """Return what ``work`` returns.

        Raises:
            EngineLost: too much is waiting, or it took too long; what was begun is finished all the same.
            DiscreetError: by the work.
        """
        if self._waiting >= self._most:
            raise EngineLost("too many ask at once; ask again")
        self._waiting += 1
        future = asyncio.get_running_loop().run_in_executor(self._thread, work)
        future.add_done_callback(self._done)
        try:
            return await asyncio.wait_for(asyncio.shield(future), PATIENCE)
        except TimeoutError:
            raise EngineLost("this took too long; ask later whether it was done") from None

    def now(self, work: Callable[[], Told]) -> Told:
        """Return what ``work`` returns, and wait for it."""
        return self._thread.submit(work).result()

    def close(self) -> None:
        """Finish what is begun."""
        self._thread.shutdown()

    def _done(self, future: asyncio.Future[Told]) -> None:
        self._waiting -= 1
        if not future.cancelled():
            future.exception()  # of whom nobody waits any more: it was told, or is no longer asked for


class Desk:
    """A thread that has records open, and does one thing at a time with them.

    Args:
        open_records: opens them, in the thread.
        writes: whether it writes. What it did is then acknowledged when the witness, if there is one, has seen it. If
            that cannot be written, what was done when it was found out is acknowledged, and nothing further is begun
            until it can.
    """

    def __init__(self, open_records: Callable[[], Records], *, writes: bool = False) -> None:
        self._writes, self._open, self._line = writes, open_records, Line()
        self._records, self._kept = self._line.now(open_records), time.monotonic()

    async def do(self, work: Callable[[Records], Told], *, seen: bool = True) -> Told:
        """Return what ``work`` does with the records.

        Args:
            work: to do.
            seen: False: the witness sees it within a second, and it is acknowledged before.

        Raises:
            EngineLost: as `Line.do`; or the witness cannot be written, and nothing was changed.
            DiscreetError: by the work.
        """
        return await self._line.do(partial(self._work, work, seen))

    def _work(self, work: Callable[[Records], Told], seen: bool) -> Told:
        try:
            if self._writes and (seen or time.monotonic() > self._kept + UNSEEN) and not self._keep():
                raise EngineLost("nothing was changed, since it cannot be put on record; ask again")
            try:
                return work(self._records)
            finally:
                if self._writes and seen:
                    self._keep()
        except LedgerError:
            self._revive()
            raise

    def _keep(self) -> bool:
        """Have the witness see what was written; return whether it has."""
        try:
            self._records.keep()
        except DiscreetError as error:  # whatever it is, what was done is answered
            logging.getLogger("discreet").warning("%s", error)
            self._revive()
            return False
        self._kept = time.monotonic()
        return True

    def _revive(self) -> None:
        """Open the records anew if their database is not there any more: a server that was restarted comes back."""
        try:
            len(self._records.holders)
        except LedgerError:
            with suppress(DiscreetError):
                opened = self._open()
                with suppress(DiscreetError):
                    self._records.close()
                self._records = opened

    def close(self) -> None:
        """Finish what is begun, and close the records."""
        self._line.now(self._end)
        self._line.close()

    def _end(self) -> None:
        if self._writes:
            self._keep()
        self._records.close()  # those that are open now: they may have been opened anew


class Intake:
    """Batches of events on their way to the disk.

    Args:
        desk: that writes.
    """

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._queue: list[tuple[Batch, asyncio.Future[Collected]]] = []
        self._task: asyncio.Task[None] | None = None

    async def collect(self, batch: Batch) -> Collected:
        """Return what became of a batch, once that is durable.

        Raises:
            Conflict: a batch of its name has another content.
            EngineLost: too much is waiting.
            LedgerError: it could not be written; nothing was kept.
        """
        if len(self._queue) >= WAITING:
            raise EngineLost("too many send at once; send it again")
        future: asyncio.Future[Collected] = asyncio.get_running_loop().create_future()
        self._queue.append((batch, future))
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._work())
        return await future

    async def _work(self) -> None:
        while self._queue:
            taken, self._queue = self._queue[:TOGETHER], self._queue[TOGETHER:]
            found: Sequence[Collected | Exception]
            try:
                found = await self._desk.do(partial(_kept, [batch for batch, _ in taken]), seen=False)
            except Exception as error:  # noqa: BLE001 - whatever it is, each who waits is told
                found = [error] * len(taken)
            for (_, future), told in zip(taken, found, strict=True):
                if not future.done():
                    if isinstance(told, Exception):
                        future.set_exception(told)
                    else:
                        future.set_result(told)


def _kept(batches: Sequence[Batch], records: Records) -> list[Collected | Conflict]:
    return records.vault.collect(batches)
