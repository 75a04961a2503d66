"""Threads with records of their own: one that reads, one that writes, so that a slow disk holds up no list.

What is sent in many small batches is kept in few transactions: while one is made durable the next ones gather, and go
together. Each is acknowledged when its own transaction is on the disk, not before.
"""

from __future__ import annotations

import asyncio
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

Told = TypeVar("Told")


class Desk:
    """A thread that has records open, and does one thing at a time with them.

    Args:
        open_records: opens them, in the thread.
        writes: whether it writes. What it did is then acknowledged when the witness, if there is one, has seen it.
    """

    def __init__(self, open_records: Callable[[], Records], *, writes: bool = False) -> None:
        self._writes, self._open = writes, open_records
        self._thread = ThreadPoolExecutor(1)
        self._records = self._thread.submit(open_records).result()
        self._waiting = 0

    async def do(self, work: Callable[[Records], Told], *, seen: bool = True) -> Told:
        """Return what ``work`` does with the records.

        Args:
            work: to do.
            seen: False: the witness sees it within a second, and it is acknowledged before.

        Raises:
            EngineLost: too much is waiting, or it took too long; what was begun is finished all the same.
            DiscreetError: by the work.
        """
        if self._waiting >= WAITING:
            raise EngineLost("too many ask at once; ask again")
        self._waiting += 1
        done = partial(_seen, work) if self._writes and seen else work
        future = asyncio.get_running_loop().run_in_executor(self._thread, self._work, done)
        future.add_done_callback(self._done)
        try:
            return await asyncio.wait_for(asyncio.shield(future), PATIENCE)
        except TimeoutError:
            raise EngineLost("this took too long; ask later whether it was done") from None

    def _end(self) -> None:
        with suppress(DiscreetError):
            if self._writes:
                self._records.keep()
        self._records.close()  # those that are open now: they may have been opened anew

    def _work(self, work: Callable[[Records], Told]) -> Told:
        try:
            return work(self._records)
        except LedgerError:
            self._revive()
            raise

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
        self._thread.submit(self._end).result()
        self._thread.shutdown()

    def _done(self, future: asyncio.Future[Told]) -> None:
        self._waiting -= 1
        if not future.cancelled():
            future.exception()  # of whom nobody waits any more: it was told, or is no longer asked for


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


def _seen(work: Callable[[Records], Told], records: Records) -> Told:
    try:
        return work(records)
    finally:
        records.keep()


def _kept(batches: Sequence[Batch], records: Records) -> list[Collected | Conflict]:
    return records.vault.collect(batches)
