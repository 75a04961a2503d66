"""Training on Ray: blocks of an imported data set are added up by workers, here or on other machines.

    with Cluster(workers=4) as cluster:
        discreet.fit(data, epsilon=1.0, ledger="ledger.db", population=cluster.population)

Workers read their blocks from the file themselves, check them as ever, and return int64 sums with each person's exact
length. Integers add up to the same in any order and however often a worker had to start over, so what reaches the door
is what one machine would have computed, bit by bit. Noise is drawn once, behind the door, in this process, which never
loads Ray: a driver process does (:mod:`discreet.engines.ray_driver`). If the cluster goes away it takes that process
with it at most, and the run ends in one line; what was charged stays charged, and the same release id repeats it.

Ray's usage reports are switched off. A cluster that is started here listens on the loopback address alone, and to
nobody without a secret made for it. One that is named by its address is as safe as whoever runs it has made it; all its
machines must see the data set's file under the same path, and have this version of this package.
"""

from __future__ import annotations

import math
import os
import secrets
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from importlib.util import find_spec
from multiprocessing.connection import Connection
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from discreet.data.interactions import Opened
from discreet.data.stored import InFile, StoredHistories
from discreet.engines.ray_driver import Order, Settings, Span
from discreet.errors import DiscreetError, EngineLost, SettingError
from discreet.privacy.clipping import Summed
from discreet.training.populations import OfHistories, Population, Summing

SPANS = 4
"""Spans of blocks that each worker gets in a round, so that all finish at about the same time."""
LONGEST_SPAN = 8
"""Blocks that a worker adds up before it answers."""
GOODBYE = 15.0
"""Seconds for a driver to stop by itself."""


class Cluster:
    """Workers, for as long as this is open: a context. One training run at a time.

    Args:
        workers: how many, of one core each, by default one a core; for a cluster that is there already: how many spans
            of blocks to keep it busy with.
        address: HOST:PORT of a cluster that is there already; by default one is started here, and stopped at the end.
        deadline: seconds without an answer after which the cluster is given up.

    Raises:
        SettingError: an argument is out of its range, or Ray is not installed.
        EngineLost: the cluster did not start.
    """

    def __init__(self, *, workers: int | None = None, address: str | None = None, deadline: float = 300.0) -> None:
        self.workers = (os.cpu_count() or 1) if workers is None else workers
        self._deadline = deadline
        if self.workers < 1 or not 0 < deadline < math.inf:
            raise SettingError("a cluster needs at least one worker, and a deadline in seconds above 0")
        if find_spec("ray") is None:
            raise SettingError("Ray is not installed: pip install 'discreet[ray]'")
        self._folder = tempfile.TemporaryDirectory(prefix="ray-", ignore_cleanup_errors=True)
        self._connection, theirs = _pipe(deadline)
        self._driver = _started(theirs, own=address is None)
        try:
            inner = str(Path(self._folder.name) / "ray")  # Ray opens its own folder to everybody, but not this one
            self._connection.send(Settings(self.workers, address, inner))
            self._heard("did not start; look whether its address is right, or start it anew")
        except BaseException:
            self.close(patience=0.0)
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self, patience: float = GOODBYE) -> None:
        """Let the driver go, with the cluster if it was started here; kill it after ``patience`` seconds."""
        if self._driver.returncode is not None:
            return
        self._connection.close()
        try:
            given_up = time.monotonic() + patience
            while time.monotonic() < given_up and not self._has_ended():
                time.sleep(0.05)
        finally:  # the driver was not waited for yet, so its number cannot be anybody else's
            with suppress(ProcessLookupError):
                os.killpg(self._driver.pid, signal.SIGKILL)
            self._driver.wait()
            self._folder.cleanup()

    def _has_ended(self) -> bool:
        return os.waitid(os.P_PID, self._driver.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None

    def population(self, histories: Opened) -> Population:
        """Return people whose sums are made by this cluster.

        Raises:
            SettingError: their histories are not in a file, where workers could read them.
        """
        if not isinstance(histories, StoredHistories):
            raise SettingError("Ray's workers read an imported data set: write it with `discreet data import` first")
        return OnRay(self, histories)

    def sums(self, file: InFile, work: Summing, spans: tuple[Span, ...]) -> Iterator[Summed]:
        """Yield what each span adds, in their order.

        Raises:
            EngineLost: the cluster went away or did not answer; it is closed.
            DiscreetError: whatever a worker refused; the cluster is closed.
        """
        finished = False
        try:
            self._connection.send(Order(file, work, spans))
            for _ in spans:
                yield self._heard("went away")
            finished = True
        except OSError:
            raise self._lost("went away") from None
        finally:
            if not finished:  # its answers to this round may still be on their way
                self.close(patience=0.0)

    def _heard(self, otherwise: str) -> Any:
        try:
            if not self._connection.poll(self._deadline):
                raise self._lost(f"has not answered for {self._deadline:g} seconds")
            answer = self._connection.recv()
        except (EOFError, OSError):  # the latter also when a deadline passes in the middle
            raise self._lost(otherwise) from None
        if isinstance(answer, DiscreetError):
            raise answer
        return answer

    def _lost(self, how: str) -> EngineLost:
        return EngineLost(f"the Ray cluster {how}; nothing was released, repeat a charged run under its release id")


@dataclass(frozen=True, eq=False)
class OnRay(OfHistories):
    """People whose histories are in a file that the workers of a cluster read."""

    cluster: Cluster
    histories: StoredHistories

    def map(self, work: Summing) -> Iterator[Summed]:
        """Yield ``work`` of each span of blocks, in order."""
        wanted = tuple(self.histories.wanted())
        each = min(LONGEST_SPAN, max(1, len(wanted) // (SPANS * self.cluster.workers)))
        spans = tuple(wanted[at : at + each] for at in range(0, len(wanted), each))
        yield from self.cluster.sums(self.histories.file.resolved(), work, spans)


def _pipe(deadline: float) -> tuple[Connection, Connection]:
    """Return two ends, of which ours waits for no reading or writing longer than the deadline."""
    ours, theirs = socket.socketpair()
    whole, rest = divmod(deadline, 1)
    for waiting in (socket.SO_RCVTIMEO, socket.SO_SNDTIMEO):
        ours.setsockopt(socket.SOL_SOCKET, waiting, struct.pack("ll", int(whole), max(1, int(rest * 1e6))))
    return Connection(ours.detach()), Connection(theirs.detach())


def _started(theirs: Connection, *, own: bool) -> subprocess.Popen[bytes]:
    """Start a driver in a session of its own; what Ray prints is not for people."""
    quiet = {"RAY_USAGE_STATS_ENABLED": "0", "OPENBLAS_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
    # Ray's name for it speaks of other systems, but it is what makes a cluster stay on the loopback address.
    alone = {
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": secrets.token_hex(32),
    }
    with theirs:
        return subprocess.Popen(
            [sys.executable, "-m", "discreet.engines.ray_driver", str(theirs.fileno())],
            env=os.environ | quiet | (alone if own else {}),
            pass_fds=[theirs.fileno()],
            start_new_session=True,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
