"""The client's side: it says no more than its stage allows, and stops at the first broken rule.

See ``secagg/__init__.py``.
"""

from __future__ import annotations

import hashlib
import secrets
from contextlib import contextmanager
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from numpy.typing import NDArray

from discreet.errors import ProtocolError, TermsRefused, TooFewLeft
from discreet.protocols import keys
from discreet.protocols.keys import Roster, roster_digest
from discreet.protocols.messages import SHORT
from discreet.protocols.ring import Ring
from discreet.protocols.secagg.terms import (
    Advertisement,
    Cohort,
    Confirmation,
    Confirmations,
    Delivery,
    Graph,
    Masked,
    Policy,
    Revealed,
    Shares,
    Stage,
    Survivors,
    Terms,
)
from discreet.protocols.shamir import SHARE_BYTES, split

if TYPE_CHECKING:
    from collections.abc import Iterator


class Client:
    """One client in one session. Holds secrets: its text shows its stage alone.

    Args:
        identity: signing key, whose public half is in the roster.
        roster: pinned.
        policy: what this client insists on.
        terms: as the server announced them.
        context: SHA-256 of what this client is about to compute, by its own reckoning.
        ring: that its vector fits into, by its own reckoning: whoever left since theirs did not fit would tell by that.

    Raises:
        TermsRefused: the terms are of another roster, computation or ring, or ask for less protection than the policy.
    """

    def __init__(
        self, identity: Ed25519PrivateKey, roster: Roster, policy: Policy, terms: Terms, context: bytes, ring: Ring
    ) -> None:
        mine = keys.public_bytes(identity)
        if mine not in roster or terms.roster != roster_digest(roster):
            raise TermsRefused("the terms are of another roster than the one that is known here")
        if terms.context != context or terms.ring != ring:
            raise TermsRefused("the terms are of another model, plan or round than the one that is known here")
        policy.check(terms)
        self.seat, self.stage = roster.index(mine), Stage.ADVERTISE
        self._identity, self._roster, self._policy, self._terms = identity, roster, policy, terms
        self._channel, self._masking = X25519PrivateKey.generate(), X25519PrivateKey.generate()
        self._own = secrets.token_bytes(keys.KEY_BYTES)
        self._channels: dict[int, bytes] = {}
        self._masks: dict[int, bytes] = {}
        self._held: dict[int, bytes] = {}
        self._heard: frozenset[int] = frozenset()

    def __repr__(self) -> str:
        return f"Client(seat {self.seat}, {self.stage.name})"

    def advertise(self) -> bytes:
        """Return an `Advertisement`."""
        with self._in(Stage.ADVERTISE):
            channel, masking = keys.public_bytes(self._channel), keys.public_bytes(self._masking)
            unsigned = Advertisement(channel, masking, hashlib.sha256(self._own).digest(), b"")
            signature = self._identity.sign(unsigned.signed(self._terms))
            self._advertisement = Advertisement(channel, masking, unsigned.commitment, signature)
            return self._advertisement.to_bytes()

    def share(self, content: bytes) -> bytes:
        """Take a `Cohort`; return `Shares`.

        Raises:
            TermsRefused: the cohort is smaller than the policy asks for.
            ProtocolError: it is not what the terms and signatures say.
        """
        with self._in(Stage.SHARE):
            cohort = Cohort.from_bytes(content, SHORT * 32)
            self._graph = self._checked(cohort)
            self._policy.check_cohort(self._terms, self._graph)
            neighbours = self._graph.neighbours(self.seat)
            self._need(len(neighbours))
            for seat, advertised in zip(neighbours, cohort.advertisements, strict=True):
                self._agree(seat, Advertisement.from_bytes(advertised))
            return Shares(self._sealed(neighbours)).to_bytes()

    def mask(self, content: bytes, vector: NDArray[np.int64]) -> bytes:
        """Take a `Delivery` and the vector, int64 [dims]; return it `Masked`.

        Raises:
            SettingError: the vector does not fit the ring.
            TooFewLeft: fewer neighbours shared than rebuild a secret.
            ProtocolError: the delivery is not one.
        """
        with self._in(Stage.MASK):
            delivery = Delivery.from_bytes(content, SHORT * 32)
            if len(delivery.seats) != len(delivery.contents) or not _ascends(delivery.seats):
                raise ProtocolError("a delivery names each neighbour once")
            if not set(delivery.seats) <= set(self._channels):
                raise ProtocolError("a delivery is of neighbours alone")
            self._need(len(delivery.seats))
            residues = self._terms.ring.lower(vector)
            for seat, sealed in zip(delivery.seats, delivery.contents, strict=True):
                pair = keys.opened(self._to(self.seat, seat), sealed, self._about(seat, self.seat))
                if pair is not None and len(pair) == 2 * SHARE_BYTES:  # else its sender is the only one to lose by it
                    self._held[seat] = pair
            self._heard = frozenset(delivery.seats)
            own = keys.derived(self._own, self._graph.digest, b"own mask")
            added = [own, *[self._masks[seat] for seat in delivery.seats if seat > self.seat]]
            self._terms.ring.mask(residues, added, [self._masks[seat] for seat in delivery.seats if seat < self.seat])
            return Masked(self._terms.ring.pack(residues)).to_bytes()

    def confirm(self, content: bytes) -> bytes:
        """Take `Survivors`; return a `Confirmation`.

        Raises:
            TooFewLeft: fewer than the terms ask for.
            ProtocolError: somebody is alive and dropped, or the list cannot be right.
        """
        with self._in(Stage.CONFIRM):
            survivors = Survivors.from_bytes(content)
            shared = set(survivors.alive) | set(survivors.dropped)
            if not _ascends(survivors.alive) or not _ascends(survivors.dropped):
                raise ProtocolError("survivors are named once each, in order")
            if len(shared) != len(survivors.alive) + len(survivors.dropped):
                raise ProtocolError("somebody is said to be both alive and dropped")
            if not shared <= set(self._graph.seats) or self._heard != shared & set(self._channels):
                raise ProtocolError("survivors and dropped are not those who shared their secrets")
            if self.seat not in survivors.alive:
                raise ProtocolError("this client's vector is said not to have come")
            if not self._graph.holds_together(set(survivors.alive)):
                raise TooFewLeft("so many are lost in a row that some could be cut off from the others")
            if len(survivors.alive) < self._terms.survivors:
                raise TooFewLeft(f"{len(survivors.alive)} vectors came, the terms ask for {self._terms.survivors}")
            self._survivors = survivors
            return Confirmation(self._identity.sign(survivors.signed(self._graph))).to_bytes()

    def reveal(self, content: bytes) -> bytes:
        """Take `Confirmations`; return `Revealed`: of each neighbour one share of one secret.

        Raises:
            TooFewLeft: fewer neighbours confirmed than rebuild a secret.
            ProtocolError: a signature is not of the same survivors.
        """
        with self._in(Stage.REVEAL):
            told = Confirmations.from_bytes(content)
            if len(told.seats) != len(told.signatures) or not _ascends(told.seats):
                raise ProtocolError("confirmations name each neighbour once")
            alive = set(self._survivors.alive)
            if not set(told.seats) <= alive & set(self._channels):
                raise ProtocolError("confirmations are of neighbours that are alive")
            self._need(len(told.seats))
            text = self._survivors.signed(self._graph)
            for seat, signature in zip(told.seats, told.signatures, strict=True):
                if not keys.is_signed(self._roster[seat], signature, text):
                    raise ProtocolError("a neighbour was told of other survivors")
            seats = tuple(sorted(self._held))
            halves = (
                self._held[seat][:SHARE_BYTES] if seat in alive else self._held[seat][SHARE_BYTES:] for seat in seats
            )
            return Revealed(seats, tuple(halves)).to_bytes()

    def _checked(self, cohort: Cohort) -> Graph:
        seats = cohort.seats
        if len(seats) != len(cohort.digests) or not _ascends(seats) or seats[-1:] >= (len(self._roster),):
            raise ProtocolError("a cohort names each seat of the roster at most once")
        if any(len(digest) != keys.KEY_BYTES for digest in cohort.digests):
            raise ProtocolError("a cohort holds digests of 32 bytes")
        digests = dict(zip(seats, cohort.digests, strict=True))
        if digests.get(self.seat) != self._advertisement.digest:
            raise ProtocolError("this client's keys are not those that it advertised")
        graph = Graph.of(self._terms, digests)
        neighbours = graph.neighbours(self.seat)
        if [digests[seat] for seat in neighbours] != [hashlib.sha256(each).digest() for each in cohort.advertisements]:
            raise ProtocolError("advertisements of neighbours are not those of the cohort")
        return graph

    def _agree(self, seat: int, theirs: Advertisement) -> None:
        if not keys.is_signed(self._roster[seat], theirs.signature, theirs.signed(self._terms)):
            raise ProtocolError("a neighbour's keys are not signed by it for this session", blame=seat)
        pair = b"%d %d" % (min(seat, self.seat), max(seat, self.seat))
        channel = keys.agreed(self._channel, theirs.channel, self._graph.digest, b"channel " + pair)
        masks = keys.agreed(self._masking, theirs.masking, self._graph.digest, b"mask " + pair)
        if channel is None or masks is None:
            raise ProtocolError("a neighbour's keys are none", blame=seat)
        self._channels[seat], self._masks[seat] = channel, masks

    def _need(self, neighbours: int) -> None:
        if neighbours + 1 < self._terms.threshold:  # this client holds a share of its own
            raise TooFewLeft(f"{neighbours} neighbours are left, {self._terms.threshold - 1} are needed")

    def _sealed(self, neighbours: tuple[int, ...]) -> tuple[bytes, ...]:
        places = [seat + 1 for seat in (*neighbours, self.seat)]
        own = split(self._own, self._terms.threshold, places)
        masking = split(self._masking.private_bytes_raw(), self._terms.threshold, places)
        self._held[self.seat] = own[self.seat + 1] + masking[self.seat + 1]
        return tuple(
            keys.sealed(
                self._to(seat, seat),
                own[seat + 1] + masking[seat + 1],
                self._about(self.seat, seat),
            )
            for seat in neighbours
        )

    def _to(self, receiver: int, with_seat: int) -> bytes:
        """Return the key of one direction of a channel: it seals one text alone."""
        return keys.derived(self._channels[with_seat], self._graph.digest, b"to %d" % receiver)

    def _about(self, sender: int, receiver: int) -> bytes:
        return self._graph.digest + b"from %d to %d" % (sender, receiver)

    @contextmanager
    def _in(self, stage: Stage) -> Iterator[None]:
        """Do what a stage asks, once; whatever goes wrong, this client's part is over and its secrets are dropped."""
        if self.stage is not stage:
            raise ProtocolError(f"{stage.name} was asked of a client that is at {self.stage.name}")
        self.stage = Stage.DONE
        try:
            yield
        except BaseException:
            self._forget()
            raise
        self.stage = Stage(stage + 1)
        if self.stage is Stage.DONE:
            self._forget()

    def _forget(self) -> None:
        self._own = b""
        for held in (self._channels, self._masks, self._held):
            held.clear()
        del self._channel, self._masking


def _ascends(seats: tuple[int, ...]) -> bool:
    return all(before < after for before, after in pairwise(seats))
