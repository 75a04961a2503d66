"""Three servers that compute on shares by SPU (SecretFlow), each a process of SPU's own environment.

    with Parties(python="spu/bin/python") as parties:
        recommender = Mpc.here(trained, parties)

SPU needs NumPy below 2 and Python 3.10 or 3.11, so it is never imported here: ``PARTY`` is a file that its Python runs,
and which is told shares through a socket. The protocol is ABY3 over 64 bits: three parties, an honest majority that
does as it is told. SPU's SEMI2K is not offered: by default its first party can see everything.

A party that ends, or that does not answer in time, takes the others with it; the next question starts all three anew.
They end with this process, however it ends.
"""

from __future__ import annotations

import json
import math
import os
import secrets
import socket
import struct
import subprocess
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from concurrent.futures import TimeoutError as TooLong
from contextlib import ExitStack, suppress
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np

from discreet.errors import EngineLost, ProtocolError, SettingError
from discreet.protocols.ranking import SEATS, SESSION_BYTES, Compute, Held, Share

VERSION = "0.9.5"
PARTY = Path(__file__).with_name("spu_party.py")
PYTHON = "DISCREET_SPU_PYTHON"
"""Names, in the environment, the Python that has SPU."""
HOW = f"python3.11 -m venv spu; spu/bin/pip install spu=={VERSION}; then name spu/bin/python, or set {PYTHON} to it"
STARTING, DEADLINE = 60.0, 30.0
"""Seconds to start, with a model, and for a question."""
MOST_WAITING = 8
"""Questions that a party is asked at once: they are computed one after the other, and all have the same deadline."""
REMEMBERED = 4 * MOST_WAITING
"""Sessions of which it is known who computes them."""
LOST = "a party that computes on shares was lost or too slow; ask again"
MANY = "too many ask at once; ask again"
LATE = "not all three servers were asked in time; ask again"
WORDS = {
    b"missing": f"SPU {VERSION} is not installed there: {HOW}",
    b"compiler": "SPU could not compile what is asked",
    b"link": LOST,
}


@dataclass(frozen=True)
class Place:
    """Where a party is, and where it finds the others.

    Between machines, a tunnel with certificates on both sides ends at each address: SPU's own TLS is not offered, since
    its listeners take unencrypted messages of anybody beside it.

    Attributes:
        addresses: 127.0.0.1:PORT of each, by seat, as this party sees them.
        link: what they call their link, the same for all, another after each loss.

    Raises:
        SettingError: an address is not on the loopback interface.
    """

    addresses: tuple[str, str, str]
    link: str

    def __post_init__(self) -> None:
        if not all(each.startswith("127.0.0.1:") for each in self.addresses):
            raise SettingError("parties speak over 127.0.0.1 alone; between machines, through a tunnel that ends there")


class Party:
    """One of the three, as long as it lives. Its operator starts it; the others are theirs.

    Args:
        python: of SPU's environment.
        held: its share of the model.
        place: where it is.
        starting: seconds that it has to start, with the others.
        deadline: seconds that a question may take.

    Raises:
        EngineLost: it could not be started.
    """

    def __init__(
        self, python: Path, held: Held, place: Place, starting: float = STARTING, deadline: float = DEADLINE
    ) -> None:
        self._deadline, self._listed = deadline, held.terms.listed
        self._until = time.monotonic() + starting
        self._asked: dict[bytes, Future[bytes]] = {}
        self._started: Future[bytes] = Future()
        self._sending, self._lock = threading.Lock(), threading.Lock()
        self._ours, theirs = socket.socketpair()
        self._ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("ll", math.ceil(deadline), 0))
        with theirs:
            try:
                self._process = _started(python, theirs)
            except OSError:
                self._ours.close()
                raise SettingError(f"{python} cannot be run: {HOW}") from None
        terms = held.terms
        told = {"seat": held.seat, "rows": terms.rows, "width": terms.width, "listed": terms.listed}
        told |= {"deadline": deadline} | asdict(place)
        self._following = threading.Thread(target=self._follow, daemon=True)
        self._following.start()
        try:
            self._send(b"S", json.dumps(told).encode())
            self._send(b"M", held.share().tobytes())
        except EngineLost:
            pass  # it ended already, and said why
        except BaseException:
            self.close()
            raise

    def __repr__(self) -> str:
        return "Party()"

    def ready(self) -> None:
        """Wait until it is linked to the others.

        Raises:
            EngineLost: it is not, in time.
            SettingError: SPU is not installed there.
        """
        try:
            said = self._started.result(max(0.0, self._until - time.monotonic()))
        except TooLong:
            raise EngineLost("a party that computes on shares did not start in time") from None
        if said == b"missing":
            raise SettingError(WORDS[said])
        if said:
            raise EngineLost(WORDS.get(said, LOST))

    def compute(self, session: bytes, share: Share) -> Share:
        """Compute with the others. See ``protocols.ranking.Compute``.

        Raises:
            EngineLost: it ended or was too slow, and is useless from now on; or the others were not asked in time.
            ProtocolError: this session is being computed.
        """
        answer: Future[bytes] = Future()
        with self._lock:
            if session in self._asked:
                raise ProtocolError("this question was asked already")
            if len(self._asked) >= MOST_WAITING:
                raise EngineLost(MANY)
            self._asked[session] = answer
        try:
            self._send(b"Q", session, share.astype("<u8").tobytes())
            said = answer.result(self._deadline)
        except TooLong:
            self.close()
            raise EngineLost(LOST) from None
        finally:
            with self._lock:
                self._asked.pop(session, None)
        if not said:
            raise EngineLost(LATE)
        return np.frombuffer(said, "<u8").reshape(self._listed, 2)

    @property
    def lives(self) -> bool:
        """Whether it can be asked."""
        return self._process.poll() is None and self._following.is_alive()

    @property
    def pid(self) -> int:
        """Its process."""
        return self._process.pid

    def close(self) -> None:
        """End it, and whatever waits for it."""
        self._process.kill()
        self._process.wait()
        with suppress(OSError):
            self._ours.shutdown(socket.SHUT_RDWR)
        self._following.join()
        self._ours.close()

    def _send(self, kind: bytes, *parts: bytes) -> None:
        try:
            with self._sending:
                self._ours.sendall(kind + struct.pack(">Q", sum(map(len, parts))))
                for part in parts:
                    self._ours.sendall(part)
        except OSError:
            raise EngineLost(LOST) from None

    def _follow(self) -> None:
        """Take what it says, until it ends."""
        try:
            with suppress(OSError, EOFError), self._ours.makefile("rb") as said:
                while True:
                    self._take(*_frame(said.read, SESSION_BYTES + 16 * self._listed))
        finally:
            with self._lock:
                left = [self._started, *self._asked.values()]
            for each in left:
                if not each.done():
                    each.set_exception(EngineLost(LOST))

    def _take(self, kind: bytes, content: bytes) -> None:
        session, rest = content[:SESSION_BYTES], content[SESSION_BYTES:]
        if kind in {b"R", b"F"}:
            if not self._started.done():
                self._started.set_result(content)
            return
        if kind not in {b"A", b"L"} or len(rest) != (16 * self._listed if kind == b"A" else 0):
            raise EOFError
        with self._lock:
            answer = self._asked.pop(session, None)
        if answer is not None:
            answer.set_result(rest)


class Parties:
    """All three on this machine: a context. Nothing is secret from whoever runs this; it is for trying out and tests.

    Args:
        python: of SPU's environment; by default what DISCREET_SPU_PYTHON names.
        starting: seconds that they have to start.
        deadline: seconds that a question may take.

    Raises:
        SettingError: there is no such Python, or a deadline is not above 0.
    """

    def __init__(
        self, python: str | Path | None = None, *, starting: float = STARTING, deadline: float = DEADLINE
    ) -> None:
        self._python = found(python)
        if not (0 < starting < math.inf and 0 < deadline < math.inf):
            raise SettingError("a deadline is a number of seconds above 0")
        self._starting, self._deadline = starting, deadline
        self._shares: tuple[Held, ...] = ()
        self._parties: list[Party] = []
        self._sessions: dict[bytes, list[Party]] = {}
        self._lock = threading.Lock()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End them."""
        with self._lock:
            self._drop()

    def computes(self, shares: tuple[Held, Held, Held]) -> tuple[Compute, Compute, Compute]:
        """Start the three, each with its share of a model; one model at a time.

        Raises:
            ProtocolError: the shares are not of one dealing, in the order of their seats.
            EngineLost: they did not start.
            SettingError: SPU is not installed.
        """
        if [each.seat for each in shares] != list(range(SEATS)) or len({each.terms.digest for each in shares}) > 1:
            raise ProtocolError("three shares of one dealing are needed, in the order of their seats")
        with self._lock:
            self._drop()
            self._shares = shares
            self._open()
        return partial(self._computed, 0), partial(self._computed, 1), partial(self._computed, 2)

    @property
    def pids(self) -> list[int]:
        """Their processes."""
        return [each.pid for each in self._parties]

    def _computed(self, seat: int, session: bytes, share: Share) -> Share:
        parties = self._asked_of(session)
        try:
            return parties[seat].compute(session, share)
        except EngineLost:
            if not parties[seat].lives:  # the other two would wait for it
                for each in parties:
                    each.close()
            raise

    def _asked_of(self, session: bytes) -> list[Party]:
        """Return the three that compute a session: those that were there when the first of them was asked."""
        with self._lock:
            if session not in self._sessions:
                if not self._parties or not all(each.lives for each in self._parties):
                    self._drop()
                    self._open()
                self._sessions[session] = list(self._parties)
                while len(self._sessions) > REMEMBERED:
                    del self._sessions[next(iter(self._sessions))]
            return self._sessions[session]

    def _open(self) -> None:
        place = Place(_free_addresses(), secrets.token_hex(8))
        try:
            for held in self._shares:
                self._parties.append(Party(self._python, held, place, self._starting, self._deadline))
            for party in self._parties:
                party.ready()
        except BaseException:
            self._drop()
            raise

    def _drop(self) -> None:
        for party in self._parties:
            party.close()
        self._parties = []


def found(python: str | Path | None = None) -> Path:
    """Return the Python that has SPU.

    Args:
        python: where it is; by default what DISCREET_SPU_PYTHON names.

    Raises:
        SettingError: it is not there; says how to get it.
    """
    named = python or os.environ.get(PYTHON)
    if not named or not os.access(named, os.X_OK) or Path(named).is_dir():
        raise SettingError(f"SPU has an environment of its own, and there is none here: {HOW}")
    return Path(named).absolute()


def _started(python: Path, theirs: socket.socket) -> subprocess.Popen[bytes]:
    """Start a party; what SPU prints is not for people."""
    alone = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    return subprocess.Popen(
        [python, "-I", PARTY, str(theirs.fileno())],
        env=alone | {"JAX_PLATFORMS": "cpu", "OPENBLAS_NUM_THREADS": "1"},
        pass_fds=[theirs.fileno()],
        start_new_session=True,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def _frame(read: Callable[[int], bytes], most: int) -> tuple[bytes, bytes]:
    """Return the kind and content of what a party says next.

    Raises:
        EOFError: it ended, or says something longer than it may.
    """
    head = read(9)
    if len(head) < 9:
        raise EOFError
    (size,) = struct.unpack(">Q", head[1:])
    content = read(size) if size <= most else b""
    if len(content) < size:
        raise EOFError
    return head[:1], content


def _free_addresses() -> tuple[str, str, str]:
    """Return three addresses of the loopback interface that nothing listens on."""
    with ExitStack() as stack:
        bound = [stack.enter_context(socket.socket()) for _ in range(SEATS)]
        for each in bound:
            each.bind(("127.0.0.1", 0))
        first, second, third = (f"127.0.0.1:{each.getsockname()[1]}" for each in bound)
    return first, second, third
