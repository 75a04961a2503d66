"""A small federation for tests: keys, people, a model, and what each round asks."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from numpy.typing import NDArray

from discreet.client.device import Allowance, Device, Items, Part
from discreet.client.spending import Spending
from discreet.data.interactions import Rows
from discreet.evaluation.audit.people import crowd, opened, planned
from discreet.models.base import Model, State
from discreet.models.broadcast import MOST, Broadcast, Known
from discreet.models.recipe import Kind
from discreet.privacy.plan import Plan
from discreet.protocols.keys import Roster, public_bytes, roster_digest
from discreet.protocols.secagg.server import Server
from discreet.protocols.secagg.terms import Policy, Stage, Terms, advised
from discreet.training.populations import Here
from discreet.training.rounds import train

PEOPLE, ITEMS = 12, 60
LISTED = json.dumps(list(range(ITEMS))).encode()
PLENTY = 1 << 40


@dataclass(frozen=True)
class Federation:
    """People with devices; ``states`` is what is known before each round of a run, and after the last."""

    people: Rows
    identities: tuple[Ed25519PrivateKey, ...]
    model: Model
    plan: Plan
    states: tuple[State, ...]

    @classmethod
    def of(cls, kind: Kind = "subspace", seed: int = 7) -> Federation:
        people = crowd(PEOPLE, ITEMS, 20, np.random.default_rng(seed))
        model, plan = planned(kind, PEOPLE, ITEMS, 8.0, 1e-5)
        *_, survivors = advised(PEOPLE)
        plan = replace(plan, noise="shares", parties=PEOPLE, honest=survivors)
        return cls(people, tuple(Ed25519PrivateKey.generate() for _ in range(PEOPLE)), model, plan, states(model, plan))

    @property
    def roster(self) -> Roster:
        return tuple(map(public_bytes, self.identities))

    def broadcast(self, number: int = 0) -> bytes:
        digest = hashlib.sha256(LISTED).digest()
        return Broadcast.of(self.model, self.plan, number, PEOPLE, digest, self.states[number]).to_bytes()

    def read_back(self, number: int) -> Known:
        """Return what a device reads in a round."""
        return Broadcast.from_bytes(self.broadcast(number), MOST).read(hashlib.sha256(LISTED).digest(), ITEMS)

    def terms(self, number: int = 0, broadcast: bytes | None = None) -> Terms:
        said = self.broadcast(number) if broadcast is None else broadcast
        asked = Broadcast.from_bytes(said, MOST).read(hashlib.sha256(LISTED).digest(), ITEMS)
        dims = asked.dims
        about = (os.urandom(32), hashlib.sha256(said).digest(), roster_digest(self.roster))
        return Terms(*about, asked.ring(dims).bits, dims, *advised(PEOPLE))

    def device(
        self, seat: int, folder: Path, *, cap: int = PLENTY, allowance: Allowance | None = None, items: bytes = LISTED
    ) -> Device:
        history = self.people[[seat]].indices.tolist()
        spending = Spending(folder / f"{seat}.db", cap)
        allowed = replace(allowance or Allowance(colluding=0.0), slot=0.0)
        return Device(self.identities[seat], self.roster, Items(items), history, allowed, spending)

    def central(self, number: int) -> NDArray[np.int64]:
        """Return what central training adds up in a round, before noise."""
        everybody, bound = opened(self.people).matrix, self.plan.bounds[number]
        return self.model.summed(everybody, self.states[number], bound).total


def states(model: Model, plan: Plan) -> tuple[State, ...]:
    """Return what is known before each round, and after the last, of a run on a larger crowd, so that it gets far."""
    from discreet.evaluation.transcripts import Watched

    many = opened(crowd(3_000, ITEMS, 20, np.random.default_rng(3)))
    watched, quiet = Watched(model), replace(plan, noise="none", parties=0, honest=0)
    trained = train(watched, Here(many), quiet, spend=lambda _: None)
    return (*watched.states, trained.state)


def secure_sum(server: Server, parts: dict[int, Part], quiet: frozenset[int] = frozenset()) -> NDArray[np.int64]:
    """Move the messages of a session, without those of the ``quiet`` from MASK on; return the sum."""
    sent: dict[int, bytes] = dict.fromkeys(parts, b"")
    for stage in list(Stage)[:-1]:
        for seat, content in sent.items():
            if stage < Stage.MASK or seat not in quiet:
                server.take(seat, parts[seat].say(content))
        if stage is not Stage.REVEAL:
            sent = {seat: message.to_bytes() for seat, message in server.close().items()}
    return server.unmask()


LENIENT = Policy(cohort=3, survivors=3, neighbours=2)
