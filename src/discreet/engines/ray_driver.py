"""The process that speaks to Ray: started by :mod:`discreet.engines.ray`, never by hand.

It is told what to add up through a socket, and answers with sums, one a span of blocks, in their order. It
holds no ledger and no noise, so it may be killed at any moment, by its parent or by Ray.
"""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

import numpy as np

import discreet
from discreet.data.stored import InFile, Wanted
from discreet.errors import DiscreetError, EngineLost
from discreet.privacy.clipping import Summed
from discreet.training.populations import Summing

RETRIES = 5
"""How often a span is given to another worker when one dies."""
AHEAD = 3
"""Spans under way or waiting, for each worker: sums go back in order, so some are done before they are sent."""

Span = tuple[Wanted, ...]


@dataclass(frozen=True)
class Settings:
    """How to reach Ray: ``address`` of a cluster, or None to start one with ``folder`` for its files."""

    workers: int
    address: str | None
    folder: str


@dataclass(frozen=True, eq=False)
class Order:
    """What to add up in a round: ``work`` of each of the spans of ``file``."""

    file: InFile
    work: Summing
    spans: tuple[Span, ...]


def add_span(version: str, file: InFile, work: Summing, span: Span) -> Summed:
    """Add up a span of blocks: what a worker does.

    Raises:
        EngineLost: this machine has another version of this package, whose rows may be others.
        DataError: the file is not there, was changed, or is damaged.
    """
    if discreet.__version__ != version:
        raise EngineLost("a machine of the cluster has another version of discreet; install the same on all")
    first, *others = [work(wanted.rows(file)) for wanted in span]
    total = first.total.copy()  # a span has at most 2^15 people, a bound 2^28 units: far within 64 bits
    for other in others:
        total += other.total
    norms = np.concatenate([first.squared_norms, *[other.squared_norms for other in others]])
    return Summed(total, norms, level=first.level)


def main() -> None:
    """Start or reach Ray, then do what is asked until the other side hangs up."""
    connection = Connection(int(sys.argv[1]))
    settings: Settings = connection.recv()
    with suppress(EOFError, BrokenPipeError, ConnectionResetError):
        ray = _reached(settings)
        connection.send(None)
        while True:
            for answer in _answers(ray, connection.recv(), settings.workers):
                connection.send(answer)


def _reached(settings: Settings) -> Any:
    import ray

    own: dict[str, Any] = {
        "address": "local",
        "num_cpus": settings.workers,
        "include_dashboard": False,
        "_temp_dir": settings.folder,
    }
    ray.init(**(own if settings.address is None else {"address": settings.address}), log_to_driver=False)
    return ray


def _answers(ray: Any, order: Order, workers: int) -> Iterator[Summed | DiscreetError]:
    """Yield a sum for each span, or why there is none; then nothing more comes."""
    try:
        yield from _sums(ray, order, workers)
    except ray.exceptions.RayTaskError as error:
        cause = error.cause
        yield (
            cause
            if isinstance(cause, DiscreetError)
            else EngineLost(f"a worker failed with {type(cause).__name__}; nothing was released")
        )
    except ray.exceptions.RayError as error:
        yield EngineLost(f"the Ray cluster failed with {type(error).__name__}; nothing was released")


def _sums(ray: Any, order: Order, workers: int) -> Iterator[Summed]:
    task = ray.remote(num_cpus=1, max_retries=RETRIES, scheduling_strategy="SPREAD")(add_span)
    file, work = ray.put(order.file), ray.put(order.work)  # once, not with each task
    waiting: deque[Any] = deque()
    for span in order.spans:
        waiting.append(task.remote(discreet.__version__, file, work, span))
        if len(waiting) >= AHEAD * workers:
            yield ray.get(waiting.popleft())
    while waiting:
        yield ray.get(waiting.popleft())


if __name__ == "__main__":
    main()
