"""Parties of a protocol, and somebody who carries their messages."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from numpy.typing import NDArray

from discreet.errors import ProtocolError
from discreet.protocols.keys import Roster, public_bytes, roster_digest
from discreet.protocols.secagg.client import Client
from discreet.protocols.secagg.server import Server
from discreet.protocols.secagg.terms import Policy, Stage, Terms, advised

CONTEXT = bytes(range(32))
LENIENT = Policy(cohort=3, survivors=3, neighbours=2, colluding=0.0, sparse_colluding=0.0)

Tamper = Callable[[Stage, int, bytes], bytes | None]
"""Changes a message on its way, or swallows it (None)."""


def carried(stage: Stage, seat: int, content: bytes) -> bytes | None:
    """Change nothing."""
    return content


@dataclass
class Session:
    """A session whose messages are carried by hand."""

    identities: list[Ed25519PrivateKey]
    vectors: NDArray[np.int64]
    bits: int = 20
    terms: Terms | None = None
    policy: Policy = LENIENT
    up: Tamper = carried
    down: Tamper = carried
    failed: dict[int, ProtocolError] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.roster: Roster = tuple(map(public_bytes, self.identities))
        count, dims = self.vectors.shape
        self.terms = self.terms or terms_of(self.roster, self.bits, dims, *advised(count, lost=0.2, colluding=0.0))
        self.server = Server(self.roster, self.terms)
        self.clients = {
            seat: Client(identity, self.roster, self.policy, self.terms, CONTEXT, self.terms.ring)
            for seat, identity in enumerate(self.identities)
        }

    def run(self, lost: Mapping[int, Stage] | None = None) -> NDArray[np.int64]:
        """Carry all messages; ``lost`` clients say nothing from a stage on."""
        lost = lost or {}
        sent: dict[int, bytes] = dict.fromkeys(self.clients, b"")
        for stage in list(Stage)[:-1]:
            for seat, content in sent.items():
                if lost.get(seat, Stage.DONE) > stage:
                    self._step(stage, seat, content)
            if stage is not Stage.REVEAL:
                sent = {seat: message.to_bytes() for seat, message in self.server.close().items()}
        return self.server.unmask()

    def sum_of(self, seats: Collection[int]) -> NDArray[np.int64]:
        total: NDArray[np.int64] = self.vectors[sorted(seats)].sum(axis=0)
        return total

    def _step(self, stage: Stage, seat: int, content: bytes) -> None:
        try:
            told = self.down(stage, seat, content)
            said = None if told is None else self.say(stage, seat, told)
            answer = None if said is None else self.up(stage, seat, said)
            if answer is not None:
                self.server.take(seat, answer)
        except ProtocolError as error:
            self.failed[seat] = error

    def say(self, stage: Stage, seat: int, content: bytes) -> bytes:
        client = self.clients[seat]
        match stage:
            case Stage.ADVERTISE:
                return client.advertise()
            case Stage.SHARE:
                return client.share(content)
            case Stage.MASK:
                return client.mask(content, self.vectors[seat])
            case Stage.CONFIRM:
                return client.confirm(content)
            case _:
                return client.reveal(content)


def terms_of(roster: Roster, bits: int, dims: int, degree: int, threshold: int, survivors: int) -> Terms:
    return Terms(os.urandom(32), CONTEXT, roster_digest(roster), bits, dims, degree, threshold, survivors)


def identities(count: int) -> list[Ed25519PrivateKey]:
    return sorted((Ed25519PrivateKey.generate() for _ in range(count)), key=public_bytes)


@pytest.fixture(scope="session")
def five() -> list[Ed25519PrivateKey]:
    return identities(5)


@pytest.fixture
def vectors() -> NDArray[np.int64]:
    return np.random.default_rng(5).integers(-1000, 1000, (5, 3))
