"""Two servers that do not tell each other: each client sends one message to each, and no loss has to be repaired.

A client draws a key of 32 bytes. To server A goes the key, sealed; to server B the vector plus the mask that the key
expands to (``ring``). A adds masks up, B masked vectors; the difference is the sum. Each alone sees uniform numbers. A
client takes part when both have its message; each server adds its own noise before it tells its half, enough by itself,
so that neither learns an un-noised sum, and one of them may forget its noise.

Formal guarantee, and against whom: ``sharing.md``.

=============================  =========================================================================
edge case                      behaviour
=============================  =========================================================================
one server has a message more  it is not added: ``add`` is told of whom both have one
fewer than the terms allow     `TooFewLeft`, nothing is told
a half is asked for twice      ProtocolError: two sums of different lists would differ by single clients
the halves are of other lists  `joined` refuses them
both servers tell each other   they learn every vector: that is the assumption, not enforced here
=============================  =========================================================================
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from numpy.typing import NDArray

from discreet.errors import ProtocolError, TermsRefused, TooFewLeft
from discreet.protocols import keys
from discreet.protocols.keys import Roster, roster_digest
from discreet.protocols.messages import SHORT, Message, SumTerms
from discreet.protocols.ring import Residues, Ring

Noise = Callable[[int], NDArray[np.int64]]
"""Draws so many values of one server's own noise, int64, in grid units."""


@dataclass(frozen=True, repr=False)
class SharedTerms(SumTerms):
    """What is summed.

    Attributes:
        session: 32 bytes, new for each sum.
        context: SHA-256 of all that decides what each client computes.
        roster: SHA-256 of the signing keys of all who may take part, end to end.
        first: X25519 public key of server A, which is sent keys.
        second: X25519 public key of server B, which is sent masked vectors.
        bits: of the ring.
        dims: of the vectors.
        survivors: fewest vectors that may be summed.
    """

    KIND = 11

    session: bytes
    context: bytes
    roster: bytes
    first: bytes
    second: bytes
    bits: int
    dims: int
    survivors: int

    def __post_init__(self) -> None:
        self._check(self.session, self.context, self.roster, self.first, self.second)
        if self.first == self.second:
            raise ProtocolError("the two servers have one key: they are one server")


@dataclass(frozen=True, repr=False)
class Sealed(Message):
    """A key, sealed for server A.

    Attributes:
        ephemeral: X25519 public key of this message alone.
        content: 32 bytes, sealed.
        signature: the client's, of the terms' digest and both: it counts once, under its own name.
    """

    KIND = 12

    ephemeral: bytes
    content: bytes
    signature: bytes

    def signed(self, terms: SharedTerms) -> bytes:
        """Return what the signature is of."""
        return b"discreet sealed" + terms.digest + self.ephemeral + self.content


@dataclass(frozen=True, repr=False)
class Shifted(Message):
    """A packed vector under one mask, for server B, and the client's signature of the terms' digest and of it."""

    KIND = 13

    content: bytes
    signature: bytes

    def signed(self, terms: SharedTerms) -> bytes:
        """Return what the signature is of."""
        return b"discreet shifted" + terms.digest + hashlib.sha256(self.content).digest()


def shared(
    identity: Ed25519PrivateKey,
    terms: SharedTerms,
    context: bytes,
    ring: Ring,
    survivors: int,
    vector: NDArray[np.int64],
) -> tuple[bytes, bytes]:
    """Return what a client sends to server A, and what it sends to server B.

    Args:
        identity: signing key, whose public half is in the roster.
        terms: as announced.
        context: SHA-256 of what this client computed, by its own reckoning.
        ring: that its vector fits into, by its own reckoning.
        survivors: fewest vectors in a sum that this client insists on.
        vector: int64 [dims], in grid units.

    Raises:
        TermsRefused: the terms are of something else, or allow smaller sums.
        SettingError: the vector does not fit the ring.
        ProtocolError: a server's key is none.
    """
    check_terms(terms, context, ring, survivors)
    residues, key, mine = terms.ring.lower(vector), secrets.token_bytes(keys.KEY_BYTES), X25519PrivateKey.generate()
    seal = keys.agreed(mine, terms.first, terms.digest, b"to the first server")
    if seal is None:
        raise ProtocolError("the first server's key is none")
    terms.ring.mask(residues, [keys.derived(key, terms.digest, b"shift")], [])
    sealed = Sealed(keys.public_bytes(mine), keys.sealed(seal, key, terms.digest), b"")
    shifted = Shifted(terms.ring.pack(residues), b"")
    signed = [replace(each, signature=identity.sign(each.signed(terms))) for each in (sealed, shifted)]
    return signed[0].to_bytes(), signed[1].to_bytes()


def check_terms(terms: SharedTerms, context: bytes, ring: Ring, survivors: int) -> None:
    """Refuse terms that a client does not agree to; arguments as for ``shared``.

    Raises:
        TermsRefused: the terms are of something else, or allow smaller sums.
    """
    if terms.context != context or terms.ring != ring:
        raise TermsRefused("the terms are of another model, plan or round than the one that is known here")
    if terms.survivors < survivors:
        raise TermsRefused(f"sums of at least {survivors} are asked for here, the terms allow {terms.survivors}")


@dataclass(frozen=True, repr=False)
class HalfSum(Message):
    """One server's half of a sum: uniform numbers, its own noise among them.

    Attributes:
        session: of the terms.
        clients: SHA-256 of the seats of all whose vectors are in it, in order.
        content: packed.
    """

    KIND = 14

    session: bytes
    clients: bytes
    content: bytes


class Half:
    """One of the two servers in one session. It holds messages of clients until the other has theirs, too.

    Args:
        terms: as announced.
        key: this server's, whose public half is in the terms.
        roster: signing keys of all who may take part; a client's seat is its place in it.

    Raises:
        TermsRefused: it is neither's, or the roster is another.
    """

    def __init__(self, terms: SharedTerms, key: X25519PrivateKey, roster: Roster) -> None:
        public = keys.public_bytes(key)
        if public not in {terms.first, terms.second} or terms.roster != roster_digest(roster):
            raise TermsRefused("the terms name other servers, or another roster")
        self._roster = roster
        self.first = public == terms.first
        self._terms, self._key, self._over = terms, key, False
        self._held: dict[int, bytes] = {}
        self._added: set[int] = set()
        self._sum: Residues = np.zeros(terms.dims, np.uint32)

    def __repr__(self) -> str:
        return f"Half({'first' if self.first else 'second'}, {len(self._held)} held, {len(self._added)} added)"

    @property
    def most(self) -> int:
        """How many bytes a message may have."""
        return SHORT if self.first else self._terms.ring.size + 128

    @property
    def expected(self) -> frozenset[int]:
        """Seats that may still send something."""
        return frozenset() if self._over else frozenset(range(len(self._roster))) - self._added - self._held.keys()

    @property
    def held(self) -> frozenset[int]:
        """Seats of those of whom there is a message that is not added yet."""
        return frozenset(self._held)

    def take(self, seat: int, content: bytes) -> None:
        """Take a client's message, once.

        Raises:
            ProtocolError: it cannot be right, is not signed by its seat for this session, or is the client's second.
                The session goes on without it.
        """
        if self._over or seat in self._held or seat in self._added or not 0 <= seat < len(self._roster):
            raise ProtocolError("the session is over, or this client's message came before", blame=seat)
        self._held[seat] = self._key_of(seat, content) if self.first else self._vector_of(seat, content)

    def add(self, seats: Iterable[int]) -> None:
        """Add up, and forget, the messages of clients of whom both servers hold one.

        Raises:
            ProtocolError: there is none of somebody; nothing was added.
        """
        chosen = sorted(set(seats))
        if self._over or not set(chosen) <= self.held:
            raise ProtocolError("the session is over, or there is no message of some of these clients")
        ring = self._terms.ring
        if self.first:
            ring.mask(self._sum, [], [keys.derived(self._held[seat], self._terms.digest, b"shift") for seat in chosen])
        else:
            for seat in chosen:
                self._sum += ring.unpack(self._held[seat])
        for seat in chosen:
            del self._held[seat]
        self._added.update(chosen)

    def total(self, noise: Noise) -> HalfSum:
        """Return this server's half of the sum over all who were added, its own noise in it: once.

        Raises:
            TooFewLeft: fewer than the terms ask for.
            ProtocolError: a half was told before.
        """
        if self._over:
            raise ProtocolError("a half is told once")
        self._over = True
        self._held.clear()
        if len(self._added) < self._terms.survivors:
            found, needed = len(self._added), self._terms.survivors
            raise TooFewLeft(f"{found} clients are left, {needed} are needed; nothing was released")
        self._sum += noise(self._terms.dims).astype(np.uint32)  # modulo 2^32, of which 2^bits is a divisor
        digest = hashlib.sha256(b"".join(seat.to_bytes(8, "big") for seat in sorted(self._added))).digest()
        return HalfSum(self._terms.session, digest, self._terms.ring.pack(self._sum))

    def _key_of(self, seat: int, content: bytes) -> bytes:
        told = Sealed.from_bytes(content, self.most)
        self._check(seat, told.signature, told.signed(self._terms))
        seal = keys.agreed(self._key, told.ephemeral, self._terms.digest, b"to the first server")
        key = None if seal is None else keys.opened(seal, told.content, self._terms.digest)
        if key is None or len(key) != keys.KEY_BYTES:
            raise ProtocolError("a key is not sealed for this server and session")
        return key

    def _vector_of(self, seat: int, content: bytes) -> bytes:
        told = Shifted.from_bytes(content, self.most)
        self._check(seat, told.signature, told.signed(self._terms))
        if len(told.content) != self._terms.ring.size:
            raise ProtocolError(f"a vector of {self._terms.ring.size} bytes was expected, {len(told.content)} came")
        return told.content

    def _check(self, seat: int, signature: bytes, text: bytes) -> None:
        if not keys.is_signed(self._roster[seat], signature, text):
            raise ProtocolError("a message is not signed by its seat for this session", blame=seat)


def joined(terms: SharedTerms, one: HalfSum, other: HalfSum) -> NDArray[np.int64]:
    """Return the sum of both halves, both noises in it, int64 [dims].

    Raises:
        ProtocolError: they are not halves of one sum.
    """
    if one.session != terms.session or (one.session, one.clients) != (other.session, other.clients):
        raise ProtocolError("these are not halves of one sum")
    ring = terms.ring
    return ring.lift(ring.unpack(one.content) + ring.unpack(other.content))
