"""What secure aggregation costs each side, in CPU time and in bytes; every sum is compared with the true one.

    python benchmarks/protocols.py --out docs

Clients run one after the other in this process; their times are of the slowest and of the mean. Writes
protocols-measured.md into the folder ``--out``.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from numpy.typing import NDArray
from pages import printed
from quality import machine

from discreet.privacy.mechanisms.discrete_gaussian import draw, share_of
from discreet.protocols.keys import public_bytes, roster_digest
from discreet.protocols.secagg.client import Client
from discreet.protocols.secagg.server import Server
from discreet.protocols.secagg.terms import Policy, Stage, Terms, advised
from discreet.protocols.sharing import Half, SharedTerms, joined, shared
from discreet.randomness import NoiseSource

BITS = 20
CONTEXT = bytes(32)
POLICY = Policy(cohort=3, survivors=3)
CASES = ((20, 1_000_000, 0), (20, 1_000_000, 5), (50, 1_000_000, 0), (50, 1_000_000, 15), (1_000, 100_000, 100))
RUNS = 3
PARTIES = (1, 20, 1_000, 100_000)
DRAWS = 1 << 21

HEAD = """# Protocols, measured

Written by `benchmarks/protocols.py`: what it printed. CPU time, the median of {runs} runs and their range; {bits}-bit
rings. Upload is all that a client sends, over the size of its packed vector.

    python benchmarks/protocols.py
"""


@dataclass
class Clock:
    """CPU seconds of each client, and of the server."""

    clients: dict[int, float] = field(default_factory=dict)
    server: float = 0.0

    @contextmanager
    def of_client(self, seat: int) -> Iterator[None]:
        start = time.process_time()
        yield
        self.clients[seat] = self.clients.get(seat, 0.0) + time.process_time() - start

    @contextmanager
    def of_server(self) -> Iterator[None]:
        start = time.process_time()
        yield
        self.server += time.process_time() - start


def main() -> None:
    printed(__doc__, "protocols-measured.md", HEAD.format(runs=RUNS, bits=BITS), measured())


def measured() -> Iterator[str]:
    """Yield a line a case."""
    yield machine()
    yield ""
    yield f"{'secure aggregation':<44}{'client, mean ms':>24}{'slowest ms':>12}{'server ms':>24}{'upload':>8}"
    for clients, dims, lost in CASES:
        runs = [secure(clients, dims, lost) for _ in range(RUNS)]
        degree = min(advised(clients, lost=lost / clients)[0], clients - 1)
        name = f"{clients:,} clients, {degree} neighbours, {dims:,}, {lost} lost"
        means, slowest, server, upload = zip(*runs, strict=True)
        yield f"{name:<44}{spread(means):>24}{max(slowest):>12.1f}{spread(server):>24}{max(upload):>8.3f}"
    yield ""
    yield f"{'two servers':<44}{'client, mean ms':>24}{'slowest ms':>12}{'both, ms a client':>24}{'upload':>8}"
    runs = [two_servers(20, 1_000_000) for _ in range(RUNS)]
    means, slowest, server, upload = zip(*runs, strict=True)
    name = "20 clients, 1,000,000"
    yield f"{name:<44}{spread(means):>24}{max(slowest):>12.1f}{spread(server):>24}{max(upload):>8.3f}"
    yield ""
    yield f"{'a share of the noise':<44}{'million draws a second':>24}"
    for honest in PARTIES:
        yield f"{f'one of {honest:,}':<44}{spread(tuple(draws(honest) for _ in range(RUNS))):>24}"


def draws(honest: int) -> float:
    """Return millions of draws of one share a second of CPU time, its table made before."""
    variance = share_of(honest)
    draw(1, variance, NoiseSource())
    start = time.process_time()
    draw(DRAWS, variance, NoiseSource())
    return DRAWS / (time.process_time() - start) / 1e6


def secure(clients: int, dims: int, lost: int) -> tuple[float, float, float, float]:
    """Return mean and slowest client, and server, in ms, and the upload; some are lost before their vectors come."""
    people = sorted((Ed25519PrivateKey.generate() for _ in range(clients)), key=public_bytes)
    roster = tuple(map(public_bytes, people))
    terms = Terms(os.urandom(32), CONTEXT, roster_digest(roster), BITS, dims, *advised(clients, lost=lost / clients))
    vector, clock = np.random.default_rng(0).integers(-200, 201, dims), Clock()
    server = Server(roster, terms)
    uploads = dict.fromkeys(range(clients), 0)
    there: dict[int, Client] = {}
    for seat, person in enumerate(people):
        with clock.of_client(seat):
            there[seat] = Client(person, roster, POLICY, terms, CONTEXT, terms.ring)
    sent = dict.fromkeys(there, b"")
    for stage in list(Stage)[:-1]:
        if stage is Stage.MASK:
            for seat in range(lost):
                del there[seat], sent[seat]
        for seat, content in sent.items():
            with clock.of_client(seat):
                said = says(there[seat], stage, content, vector)
            uploads[seat] += len(said)
            with clock.of_server():
                server.take(seat, said)
        if stage is not Stage.REVEAL:
            with clock.of_server():
                sent = {seat: message.to_bytes() for seat, message in server.close().items()}
    with clock.of_server():
        total = server.unmask()
    if not (total == vector * (clients - lost)).all():
        raise RuntimeError("the sum is wrong")
    seconds = [clock.clients[seat] for seat in there]
    upload = max(uploads.values()) / (dims * BITS / 8)
    return 1e3 * sum(seconds) / len(seconds), 1e3 * max(seconds), 1e3 * clock.server, upload


def says(client: Client, stage: Stage, content: bytes, vector: NDArray[np.int64]) -> bytes:
    """Return a client's message of a stage."""
    match stage:
        case Stage.ADVERTISE:
            return client.advertise()
        case Stage.SHARE:
            return client.share(content)
        case Stage.MASK:
            return client.mask(content, vector)
        case Stage.CONFIRM:
            return client.confirm(content)
        case _:
            return client.reveal(content)


def two_servers(clients: int, dims: int) -> tuple[float, float, float, float]:
    """Return mean and slowest client, both servers for each client, in ms, and the upload."""
    first, second = X25519PrivateKey.generate(), X25519PrivateKey.generate()
    people = [Ed25519PrivateKey.generate() for _ in range(clients)]
    roster = tuple(map(public_bytes, people))
    servers = public_bytes(first), public_bytes(second)
    terms = SharedTerms(os.urandom(32), CONTEXT, roster_digest(roster), *servers, BITS, dims, 3)
    vector, clock, upload = np.random.default_rng(0).integers(-200, 201, dims), Clock(), 0
    halves = (Half(terms, first, roster), Half(terms, second, roster))
    for seat in range(clients):
        with clock.of_client(seat):
            said = shared(people[seat], terms, CONTEXT, terms.ring, 3, vector)
        upload = sum(map(len, said))
        with clock.of_server():
            for half, content in zip(halves, said, strict=True):
                half.take(seat, content)
                half.add(half.held)
    with clock.of_server():
        total = joined(terms, *[half.total(without_noise) for half in halves])
    if not (total == vector * clients).all():
        raise RuntimeError("the sum is wrong")
    seconds = list(clock.clients.values())
    return 1e3 * sum(seconds) / clients, 1e3 * max(seconds), 1e3 * clock.server / clients, upload / (dims * BITS / 8)


def without_noise(dims: int) -> NDArray[np.int64]:
    return np.zeros(dims, np.int64)


def spread(values: tuple[float, ...]) -> str:
    """Return the median and the range."""
    return f"{np.median(values):.1f} ({min(values):.1f}-{max(values):.1f})"


if __name__ == "__main__":
    main()
