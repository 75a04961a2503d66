"""The server's side: it takes messages in any order within a stage, and closes the stage with whoever came.

It needs no secret of its own. Vectors are added up as they come, so that it holds one sum, not one vector a client.
See ``secagg/__init__.py``.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Iterator

import numpy as np
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from numpy.typing import NDArray

from discreet.errors import ProtocolError, SettingError, TooFewLeft
from discreet.protocols import keys
from discreet.protocols.keys import Roster, roster_digest
from discreet.protocols.messages import SHORT, Message
from discreet.protocols.ring import Residues
from discreet.protocols.secagg.terms import (
    Advertisement,
    Cohort,
    Confirmation,
    Confirmations,
    Delivery,
    Graph,
    Masked,
    Revealed,
    Shares,
    Stage,
    Survivors,
    Terms,
)
from discreet.protocols.shamir import SHARE_BYTES, combine

PAIR_BYTES = 2 * SHARE_BYTES + keys.SEAL_BYTES
TRIES = 64
"""Sets of shares that are tried where one of them is forged."""


class Server:
    """The server in one session.

    Args:
        roster: who may take part.
        terms: as announced.

    Raises:
        SettingError: the terms are of another roster.
    """

    def __init__(self, roster: Roster, terms: Terms) -> None:
        if terms.roster != roster_digest(roster):
            raise SettingError("the terms are of another roster")
        self.stage = Stage.ADVERTISE
        self._roster, self._terms, self._trial = roster, terms, X25519PrivateKey.generate()
        self._advertised: dict[int, Advertisement] = {}
        self._sealed: dict[int, dict[int, bytes]] = {}
        self._alive: set[int] = set()
        self._confirmed: dict[int, bytes] = {}
        self._halves: dict[int, dict[int, bytes]] = {}
        self._sum: Residues = np.zeros(terms.dims, np.uint32)

    def __repr__(self) -> str:
        return f"Server({self.stage.name}, {len(self.expected)} expected)"

    @property
    def expected(self) -> frozenset[int]:
        """Seats that may still send what this stage asks."""
        match self.stage:
            case Stage.ADVERTISE:
                return frozenset(range(len(self._roster))) - self._advertised.keys()
            case Stage.SHARE:
                return frozenset(self._graph.seats) - self._sealed.keys()
            case Stage.MASK:
                return frozenset(self._sealed) - self._alive
            case Stage.CONFIRM:
                return frozenset(self._alive) - self._confirmed.keys()
            case Stage.REVEAL:
                return frozenset(self._confirmed) - self._told
            case _:
                return frozenset()

    @property
    def most(self) -> int:
        """How many bytes a message of this stage may have: for whoever reads it off the wire."""
        return self._terms.ring.size + 16 if self.stage is Stage.MASK else SHORT

    def take(self, seat: int, content: bytes) -> None:
        """Take a client's message of this stage, once.

        Raises:
            ProtocolError: nothing is expected of this seat now, or the message cannot be right; ``blame`` is the seat.
                The session goes on without it.
        """
        if seat not in self.expected:
            raise ProtocolError(f"nothing is expected of seat {seat} at {self.stage.name}", blame=seat)
        takers = {
            Stage.ADVERTISE: self._take_advertisement,
            Stage.SHARE: self._take_shares,
            Stage.MASK: self._take_masked,
            Stage.CONFIRM: self._take_confirmation,
            Stage.REVEAL: self._take_revealed,
        }
        try:
            takers[self.stage](seat, content)
        except ProtocolError as error:
            raise ProtocolError(str(error), blame=seat) from None

    def close(self) -> dict[int, Message]:
        """End the stage with whoever came; return what each of them is sent. After REVEAL there is nothing to send.

        Raises:
            TooFewLeft: fewer are left than the terms ask for. The session is over; nothing was learnt.
        """
        match self.stage:
            case Stage.ADVERTISE:
                sent = self._cohorts()
            case Stage.SHARE:
                sent = self._deliveries()
            case Stage.MASK:
                sent = self._survivors()
            case Stage.CONFIRM:
                sent = self._confirmations()
            case _:
                raise ProtocolError(f"{self.stage.name} is not closed, but unmasked")
        self.stage = Stage(self.stage + 1)
        return sent

    def unmask(self) -> NDArray[np.int64]:
        """End the session: return the sum of the vectors that came, int64 [dims].

        Raises:
            TooFewLeft: too few shares came.
            ProtocolError: shares were forged, and what is left does not suffice.
        """
        if self.stage is not Stage.REVEAL:
            raise ProtocolError(f"a session that is at {self.stage.name} has nothing to unmask")
        self.stage = Stage.DONE
        added: list[bytes] = []
        subtracted = [keys.derived(self._own_of(seat), self._graph.digest, b"own mask") for seat in sorted(self._alive)]
        for seat in sorted(self._dropped):
            key = self._masking_of(seat)
            for other in self._graph.neighbours(seat):
                if other in self._alive:
                    mask = self._mask(key, seat, other)
                    (subtracted if seat > other else added).append(mask)
        self._terms.ring.mask(self._sum, added, subtracted)
        return self._terms.ring.lift(self._sum)

    @property
    def alive(self) -> frozenset[int]:
        """Whose vectors are in the sum."""
        return frozenset(self._alive)

    @property
    def _dropped(self) -> set[int]:
        return set(self._sealed) - self._alive

    @property
    def _told(self) -> frozenset[int]:
        return frozenset(self._halves)

    def _take_advertisement(self, seat: int, content: bytes) -> None:
        told = Advertisement.from_bytes(content)
        if not keys.is_signed(self._roster[seat], told.signature, told.signed(self._terms)):
            raise ProtocolError("an advertisement is not signed by its seat for this session")
        if not all(keys.agreed(self._trial, key, b"", b"trial") for key in (told.channel, told.masking)):
            raise ProtocolError("an advertisement's keys are none")  # its neighbours would all stop at them
        self._advertised[seat] = told

    def _take_shares(self, seat: int, content: bytes) -> None:
        told, neighbours = Shares.from_bytes(content), self._graph.neighbours(seat)
        if len(told.contents) != len(neighbours) or any(len(each) != PAIR_BYTES for each in told.contents):
            raise ProtocolError("shares are one for each neighbour")
        self._sealed[seat] = dict(zip(neighbours, told.contents, strict=True))

    def _take_masked(self, seat: int, content: bytes) -> None:
        self._sum += self._terms.ring.unpack(Masked.from_bytes(content, self.most).content)
        self._alive.add(seat)

    def _take_confirmation(self, seat: int, content: bytes) -> None:
        told = Confirmation.from_bytes(content)
        if not keys.is_signed(self._roster[seat], told.signature, self._list.signed(self._graph)):
            raise ProtocolError("a confirmation is not of these survivors")
        self._confirmed[seat] = told.signature

    def _take_revealed(self, seat: int, content: bytes) -> None:
        told = Revealed.from_bytes(content)
        known = {seat, *self._graph.neighbours(seat)} & set(self._sealed)
        if len(told.seats) != len(told.shares) or not set(told.seats) <= known:
            raise ProtocolError("shares are revealed of neighbours that shared")
        self._halves[seat] = dict(zip(told.seats, told.shares, strict=True))

    def _cohorts(self) -> dict[int, Message]:
        self._need(len(self._advertised))
        contents = {seat: told.to_bytes() for seat, told in sorted(self._advertised.items())}
        digests = {seat: hashlib.sha256(content).digest() for seat, content in contents.items()}
        self._graph = Graph.of(self._terms, digests)
        every = tuple(digests.values())
        return {
            seat: Cohort(self._graph.seats, every, tuple(contents[other] for other in self._graph.neighbours(seat)))
            for seat in self._graph.seats
        }

    def _deliveries(self) -> dict[int, Message]:
        self._need(len(self._sealed))
        sent: dict[int, Message] = {}
        for seat in sorted(self._sealed):
            senders = tuple(other for other in self._graph.neighbours(seat) if other in self._sealed)
            sent[seat] = Delivery(senders, tuple(self._sealed[other][seat] for other in senders))
        return sent

    def _survivors(self) -> dict[int, Message]:
        self._need(len(self._alive))
        self._list = Survivors(tuple(sorted(self._alive)), tuple(sorted(self._dropped)))
        return dict.fromkeys(self._list.alive, self._list)

    def _confirmations(self) -> dict[int, Message]:
        self._need(len(self._confirmed), self._terms.threshold)
        sent: dict[int, Message] = {}
        for seat in sorted(self._confirmed):
            others = tuple(other for other in self._graph.neighbours(seat) if other in self._confirmed)
            sent[seat] = Confirmations(others, tuple(self._confirmed[other] for other in others))
        return sent

    def _need(self, found: int, least: int | None = None) -> None:
        needed = self._terms.survivors if least is None else least
        if found < needed:
            stage, self.stage = self.stage, Stage.DONE
            raise TooFewLeft(f"{found} clients are left at {stage.name}, {needed} are needed; nothing was released")

    def _own_of(self, seat: int) -> bytes:
        commitment = self._advertised[seat].commitment
        for secret in self._candidates(seat):
            if hashlib.sha256(secret).digest() == commitment:
                return secret
        raise ProtocolError("shares of a client's own mask were forged; nothing was released")

    def _masking_of(self, seat: int) -> X25519PrivateKey:
        for secret in self._candidates(seat):
            key = X25519PrivateKey.from_private_bytes(secret)
            if keys.public_bytes(key) == self._advertised[seat].masking:
                return key
        raise ProtocolError("shares of a lost client's key were forged; nothing was released")

    def _candidates(self, seat: int) -> Iterator[bytes]:
        """Yield what sets of shares give: of honest ones the secret, at once."""
        near = (seat, *self._graph.neighbours(seat))
        holders = [other for other in near if seat in self._halves.get(other, {})]
        if len(holders) < self._terms.threshold:
            raise TooFewLeft(f"{len(holders)} shares of a secret came, {self._terms.threshold} are needed")
        random = secrets.SystemRandom()  # whoever forges cannot know in which sets they are
        for _ in range(TRIES):
            shares = {other + 1: self._halves[other][seat] for other in random.sample(holders, self._terms.threshold)}
            try:
                yield combine(shares)
            except ProtocolError:
                continue

    def _mask(self, key: X25519PrivateKey, seat: int, other: int) -> bytes:
        pair = b"%d %d" % (min(seat, other), max(seat, other))
        mask = keys.agreed(key, self._advertised[other].masking, self._graph.digest, b"mask " + pair)
        if mask is None:
            raise ProtocolError("a client's keys are none", blame=other)
        return mask
