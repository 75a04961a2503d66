"""Noise of other processes: what nothing within one process can tell from fresh noise is a key that they share.

``python -m discreet.evaluation.audit.processes`` discloses once, forks twice, discloses once in each fork, and writes
the noise of all three. Nothing but the door is loaded there.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from discreet.privacy.accounting import GRID_BITS
from discreet.privacy.clipping import Summed
from discreet.privacy.disclosure import disclose
from discreet.privacy.plan import Plan

SIZE = 4_096
"""Coordinates of each release. In the same place in all of them, so that the same words give the same noise."""

NAMES = ("parent", "first fork", "second fork")
FORKS = 2 if hasattr(os, "fork") else 0
SECONDS = 120
PLAN = Plan(bounds=(1 << GRID_BITS,), delta=1e-6)
"""Of the releases that the auditor makes of sums of its own."""

SHARED = replace(PLAN, noise="shares", parties=4, honest=3)
"""The same, with noise in shares, of which three are enough."""


def through_the_door(values: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return ``values`` with the noise of one release, as the sum of two blocks of one person each."""
    part = values // 3
    nobody = np.zeros(1, np.int64)
    blocks = [Summed(part, nobody), Summed(values - part, nobody)]
    return disclose(iter(blocks), PLAN, 0, spend=_unbilled).total


def through_shares(values: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return ``values`` with the noise of four parties, each of which has a part of them."""
    part = values // 5
    vectors = [part, part, values - 3 * part, part]
    return disclose((Summed(each, np.zeros(1, np.int64)) for each in vectors), SHARED, 0, spend=_unbilled).total


def in_processes() -> dict[str, NDArray[np.int64]]:
    """Return the noise of a process that is started for it, and of its forks, where the system has forks."""
    command = [sys.executable, "-m", __name__]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=SECONDS, check=True)
    drawn = np.frombuffer(done.stdout, np.int64).reshape(-1, SIZE)
    return dict(zip(NAMES, drawn, strict=False))


def _unbilled(units: int) -> None:
    """Book nothing: the auditor's sums are of nobody."""


def _here() -> bytes:
    return through_the_door(np.zeros(SIZE, np.int64)).tobytes()


def _forked() -> Iterator[bytes]:
    """Yield the noise of processes forked from this one, one after the other."""
    for _ in range(FORKS):
        reading, writing = os.pipe()
        child = os.fork()
        if child == 0:
            with os.fdopen(writing, "wb") as pipe:
                pipe.write(_here())
            os._exit(0)
        os.close(writing)
        with os.fdopen(reading, "rb") as pipe:
            yield pipe.read()
        os.waitpid(child, 0)


def _main() -> None:
    sys.stdout.buffer.write(b"".join([_here(), *_forked()]))


if __name__ == "__main__":
    _main()
