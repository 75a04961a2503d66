"""Adding up so that nobody sees a vector: the protocols, with all parties in this process.

For simulating a federation, for measuring and for tests. The messages, their bytes and what each party computes are
those of the protocols; only the wire is missing. An adder is given vectors one at a time, and holds one.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass, field, replace
from itertools import chain

import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from numpy.typing import NDArray

from discreet.errors import SettingError
from discreet.privacy.plan import Plan
from discreet.protocols.keys import public_bytes, roster_digest
from discreet.protocols.messages import LEAST
from discreet.protocols.ring import MOST_BITS
from discreet.protocols.secagg.client import Client
from discreet.protocols.secagg.server import Server
from discreet.protocols.secagg.terms import Policy, Stage, Terms, advised
from discreet.protocols.sharing import Half, SharedTerms, joined, shared

Vector = NDArray[np.int64]

SHARD = 600
"""Most parties of one session: beyond, several sessions are added up, each with noise enough for itself."""

SIMULATED = bytes(32)
"""The digest of what is computed, where everybody computes it here."""


def fitted(plan: Plan, people: int) -> Plan:
    """Return a plan without noise on the finest grid on which every sum of ``people`` fits the widest ring.

    Raises:
        SettingError: there are so many that none does.
    """
    room = ((1 << MOST_BITS - 1) - 2) // people
    return replace(plan, bounds=tuple(min(bound, room) for bound in plan.bounds))


@dataclass
class Traffic:
    """What was sent.

    Attributes:
        vectors: how many vectors were masked.
        up: bytes that clients sent.
        down: bytes that they were sent.
    """

    vectors: int = 0
    up: int = 0
    down: int = 0


@dataclass
class SecureSum:
    """Secure aggregation among parties who are all here, in shards.

    Attributes:
        parties: how many vectors each sum has.
        bits: of the ring.
        lost: share of parties that are lost in each sum, each at a stage drawn at random.
        colluding: share of parties whose noise is not to be counted on.
        shard: most parties of one session.
        random: for who is lost.
        traffic: what was sent so far.

    Raises:
        SettingError: so few parties, or so many lost, that a session could not end.
    """

    parties: int
    bits: int
    lost: float = 0.0
    colluding: float = 0.0
    shard: int = SHARD
    random: np.random.Generator = field(default_factory=np.random.default_rng)
    traffic: Traffic = field(default_factory=Traffic)

    def __post_init__(self) -> None:
        sessions = -(-self.parties // self.shard)
        sizes = [len(part) for part in np.array_split(np.arange(self.parties), sessions)]
        self._shards = [(size, *advised(size, lost=self.lost)) for size in sizes]
        self._people = [Ed25519PrivateKey.generate() for _ in range(max(sizes))]
        self._people.sort(key=public_bytes)

    @property
    def honest(self) -> int:
        """Fewest honest parties in the sum of any session: what a plan's must not exceed."""
        return min(survivors - int(self.colluding * size) for size, *_, survivors in self._shards)

    def __call__(self, vectors: Iterable[Vector]) -> Vector:
        """Return the sum of the vectors of those who were not lost.

        Raises:
            TooFewLeft: more were lost than a session survives; nothing is returned.
        """
        given = iter(vectors)
        first = next(given)
        rest, total = chain([first], given), np.zeros_like(first)
        for shard in self._shards:
            total += self._session(shard, first.size, rest)
        if next(rest, None) is not None:
            raise SettingError(f"there are more vectors than the {self.parties} parties")
        return total

    def _session(self, shard: tuple[int, int, int, int], dims: int, vectors: Iterator[Vector]) -> Vector:
        size, degree, threshold, survivors = shard
        people = self._people[:size]
        roster = tuple(map(public_bytes, people))
        terms = Terms(os.urandom(32), SIMULATED, roster_digest(roster), self.bits, dims, degree, threshold, survivors)
        policy, server = Policy(survivors, survivors, 2), Server(roster, terms)
        clients = {
            seat: Client(person, roster, policy, terms, SIMULATED, terms.ring) for seat, person in enumerate(people)
        }
        sent, leaves = dict.fromkeys(clients, b""), self._leaves(size)
        for stage in list(Stage)[:-1]:
            for seat in range(size):
                vector = next(vectors, None) if stage is Stage.MASK else None  # of the lost, too: it is not sent
                if seat in sent and leaves.get(seat, Stage.DONE) > stage:
                    said = _says(clients[seat], stage, sent[seat], vector)
                    self.traffic.up += len(said)
                    self.traffic.vectors += stage is Stage.MASK
                    server.take(seat, said)
            if stage is not Stage.REVEAL:
                sent = {seat: message.to_bytes() for seat, message in server.close().items()}
                self.traffic.down += sum(map(len, sent.values()))
        return server.unmask()

    def _leaves(self, size: int) -> dict[int, Stage]:
        gone = self.random.permutation(size)[: int(self.lost * size)].tolist()
        return {seat: Stage(int(self.random.integers(0, Stage.DONE))) for seat in gone}


@dataclass
class TwoServers:
    """Two servers, each of which adds its own noise, and clients who are all here.

    Attributes:
        parties: how many vectors each sum has.
        bits: of the ring.
        traffic: what was sent so far.
    """

    parties: int
    bits: int
    traffic: Traffic = field(default_factory=Traffic)

    def __post_init__(self) -> None:
        self._people = [Ed25519PrivateKey.generate() for _ in range(self.parties)]
        self._roster = tuple(map(public_bytes, self._people))

    def __call__(self, vectors: Iterable[Vector], noise: Callable[[int], Vector]) -> Vector:
        """Return the sum of the vectors, and of two draws of ``noise``.

        Raises:
            TooFewLeft: there are fewer vectors than parties.
        """
        servers = (X25519PrivateKey.generate(), X25519PrivateKey.generate())
        halves: list[Half] = []
        for seat, vector in enumerate(vectors):
            if not halves:
                first, second = map(public_bytes, servers)
                fewest = max(LEAST, self.parties)
                roster = roster_digest(self._roster)
                terms = SharedTerms(os.urandom(32), SIMULATED, roster, first, second, self.bits, vector.size, fewest)
                halves = [Half(terms, server, self._roster) for server in servers]
            if seat == self.parties:
                raise SettingError(f"there are more vectors than the {self.parties} parties")
            self._send(halves, terms, seat, vector)
        return joined(terms, *[half.total(noise) for half in halves])

    def _send(self, halves: Collection[Half], terms: SharedTerms, seat: int, vector: Vector) -> None:
        said = shared(self._people[seat], terms, SIMULATED, terms.ring, terms.survivors, vector)
        self.traffic.vectors += 1
        self.traffic.up += sum(map(len, said))
        for half, content in zip(halves, said, strict=True):
            half.take(seat, content)
            half.add([seat])


def _says(client: Client, stage: Stage, content: bytes, vector: Vector | None) -> bytes:
    match stage:
        case Stage.ADVERTISE:
            return client.advertise()
        case Stage.SHARE:
            return client.share(content)
        case Stage.MASK if vector is not None:
            return client.mask(content, vector)
        case Stage.CONFIRM:
            return client.confirm(content)
        case _:
            return client.reveal(content)
