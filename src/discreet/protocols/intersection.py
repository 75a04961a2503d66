"""The identifiers that two organisations both hold, without either learning the others.

Each party hashes its identifiers to points of a group of prime order and multiplies them by a secret number that it
draws for the session. Multiplied by both numbers, in whichever order, the same identifier is the same point; multiplied
by one of them, it cannot be told from a random point, nor be tested against a guess, by whoever does not have the
number. So nothing that travels is a hash of an identifier: e-mail addresses and telephone numbers can be guessed.

====  ====================  =====================================================  ===========================
step  from, to              what it holds                                          who learns what then
====  ====================  =====================================================  ===========================
1     asker to answerer     the asker's points, times its number
2     answerer to asker     those, times both; the answerer's, times its number    the asker: the intersection
3     asker to answerer     the answerer's, times both; only if the terms say so   the answerer: the same
====  ====================  =====================================================  ===========================

Points are sent in ascending order of their bytes, which says nothing of whose they are; those that come back stand in
the order in which they were sent, so that a party knows its own. Where the terms ask for the size alone, these are in
ascending order too, and a party learns how many of its identifiers are shared, not which. Each set is padded with
random points to the size that the terms announce: of how large a set is, the other learns that bound.

An identifier is bytes as given: the caller brings both sides to one form (letter case, country code), or they differ.

The group: points of edwards25519 whose order is the prime 2^252 + 27742..., by PyNaCl (libsodium). An identifier is
hashed by SHA-512, after the digest of the terms, to two strings of 32 bytes. Each is mapped by Elligator 2: 255 bits
are a field element, the highest bit is the sign of x, and the point is multiplied by the cofactor, 8. One such map does
not reach every point, nor evenly; the sum of two is as good as a random oracle into the group (Brier et al. 2010), as
``hash_to_curve`` of RFC 9380 is, whose suites PyNaCl does not have. Points of another party are checked by the
multiplication itself: it fails on what is no canonical encoding, not on the curve, or outside of the group. Points that
come back are compared alone: what is none equals none.

Formal guarantee, against parties that follow the protocol: ``intersection.md``. Who carries messages sees to it that
they come from the party that the terms name (TLS with certificates), and limits how often anybody may ask.

Sources: Meadows 1986; Huberman, Franklin and Hogg 1999, section 3.

=====================================  =================================================================
edge case                              behaviour
=====================================  =================================================================
an empty set                           padding alone travels; nothing is shared
an identifier twice in a set           SettingError: which of its rows is meant is for the caller to say
a set larger than was announced        SettingError, nothing is sent
a longer message than there can be     ProtocolError, before anything is read
points in another order, or twice      ProtocolError
a point that is none, or out of group  ProtocolError, whatever the numbers are
of another session, or replayed        ProtocolError: it names other terms, or comes at another step
called in another order, or twice      ProtocolError
after an error                         ProtocolError: the session is over
=====================================  =================================================================
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from enum import Enum
from functools import partial

import nacl.exceptions
from nacl.bindings import (
    crypto_core_ed25519_add,
    crypto_core_ed25519_from_uniform,
    crypto_core_ed25519_scalar_reduce,
    crypto_scalarmult_ed25519_noclamp,
)

from discreet.errors import ProtocolError, SettingError
from discreet.protocols.messages import Message

POINT_BYTES = DIGEST_BYTES = 32
HASH_BYTES = 64
MOST_NAME = 64
MOST_SIZE = 1 << 22
CHUNK = 1 << 10
"""Points that are multiplied by one call."""
HEAD_BYTES = 54
"""Of a message: kind and version, digest, step, and two lengths."""

Apply = Callable[[Callable[[Sequence[bytes]], list[bytes]], Iterable[Sequence[bytes]]], Iterable[list[bytes]]]
"""Calls a function on each of many chunks, results in their order: ``map``, or that of an executor. What it is given
holds the session's secret number, so its workers are this party's own."""


@dataclass(frozen=True, repr=False)
class IntersectionTerms(Message):
    """What both parties agreed to. Public between them.

    Attributes:
        session: 32 bytes, new for each session.
        purpose: SHA-256 of what the intersection is for.
        asker: name of the party that asks, and learns; 1 to 64 bytes.
        answerer: name of the other.
        asker_size: identifiers that the asker has at most, 1 to 2^22; its set is padded to it.
        answerer_size: the same of the answerer.
        both: 1 if the answerer learns, too; else 0.
        counted: 1 if only the size of the intersection is told; else 0.
    """

    KIND = 30

    session: bytes
    purpose: bytes
    asker: bytes
    answerer: bytes
    asker_size: int
    answerer_size: int
    both: int
    counted: int

    def __post_init__(self) -> None:
        if len(self.session) != DIGEST_BYTES or len(self.purpose) != DIGEST_BYTES:
            raise ProtocolError("terms hold a session and a purpose of 32 bytes")
        if not all(1 <= len(name) <= MOST_NAME for name in (self.asker, self.answerer)) or self.asker == self.answerer:
            raise ProtocolError(f"the two parties have two names of 1 to {MOST_NAME} bytes")
        if not all(1 <= size <= MOST_SIZE for size in self.sizes):
            raise ProtocolError(f"a set is announced with 1 to {MOST_SIZE} identifiers")
        if not {self.both, self.counted} <= {0, 1}:
            raise ProtocolError("what is told, and whether to both, is 0 or 1")

    @property
    def sizes(self) -> tuple[int, int]:
        """Of the asker's set, and of the answerer's."""
        return self.asker_size, self.answerer_size


@dataclass(frozen=True, repr=False)
class Points(Message):
    """All that travels.

    Attributes:
        terms: SHA-256 of the terms.
        step: 1, 2 or 3.
        once: points times the sender's number, 32 bytes each, ascending; none in step 3.
        twice: the receiver's points times both numbers; none in step 1.
    """

    KIND = 31

    terms: bytes
    step: int
    once: bytes
    twice: bytes


@dataclass(frozen=True, repr=False)
class Found:
    """What a party learns.

    Attributes:
        count: how many identifiers both hold.
        identifiers: those, ascending, so that both parties have them in one order; None if only their number is told.
    """

    count: int
    identifiers: tuple[bytes, ...] | None

    def __repr__(self) -> str:
        return "Found()"


class _State(Enum):
    NEW, ASKED, READ, OVER = range(4)


class _Side:
    """What both parties do alike: see ``Asker``."""

    SEAT: int

    def __init__(self, terms: IntersectionTerms, identifiers: Collection[bytes], apply: Apply = map) -> None:
        size = terms.sizes[self.SEAT]
        if len(identifiers) > size:
            raise SettingError(f"{len(identifiers)} identifiers are more than the {size} that the terms announce")
        if len(set(identifiers)) < len(identifiers):
            raise SettingError("an identifier is there twice; leave one of them out")
        self._terms, self._apply, self._identifiers, self._state = terms, apply, tuple(identifiers), _State.NEW
        self._scalar = crypto_core_ed25519_scalar_reduce(secrets.token_bytes(HASH_BYTES))

    def __repr__(self) -> str:
        return f"{type(self).__name__}()"

    @contextmanager
    def _turn(self, now: _State, then: _State) -> Iterator[None]:
        """Whatever is raised within a turn ends the session."""
        if self._state is not now:
            raise ProtocolError("a session goes step by step, once, and ends at an error; start another")
        self._state = _State.OVER
        yield
        self._state = then

    def _blinded(self) -> list[bytes]:
        """Return this party's points times its number, and padding, ascending; and remember whose they are."""
        about = self._terms.digest
        points = self._applied(partial(blinded, about, self._scalar), self._identifiers)
        owners: dict[bytes, bytes | None] = dict(zip(points, self._identifiers, strict=True))
        for _ in range(self._terms.sizes[self.SEAT] - len(points)):
            owners[point_of(secrets.token_bytes(HASH_BYTES))] = None
        self._owners = [owners[point] for point in sorted(owners)]
        return sorted(owners)

    def _doubled(self, points: Sequence[bytes]) -> list[bytes]:
        """Return the other party's points times this party's number."""
        try:
            return self._applied(partial(multiplied, self._scalar), points)
        except nacl.exceptions.RuntimeError:
            raise ProtocolError("a point is not in the group", blame=1 - self.SEAT) from None

    def _told(self, points: list[bytes]) -> list[bytes]:
        """Put the other party's points into the order in which they go back."""
        return sorted(points) if self._terms.counted else points

    def _found(self, mine: Sequence[bytes], theirs: Iterable[bytes]) -> Found:
        """Compare points times both numbers: this party's, as they came back, and the other's."""
        shared = set(theirs)
        if self._terms.counted:
            return Found(len(shared.intersection(mine)), None)
        owned = zip(mine, self._owners, strict=True)
        identifiers = tuple(sorted(owner for point, owner in owned if owner is not None and point in shared))
        return Found(len(identifiers), identifiers)

    def _applied(self, function: Callable[[Sequence[bytes]], list[bytes]], values: Sequence[bytes]) -> list[bytes]:
        chunks = [values[start : start + CHUNK] for start in range(0, len(values), CHUNK)]
        return [point for chunk in self._apply(function, chunks) for point in chunk]

    def _message(self, step: int, once: Iterable[bytes], twice: Iterable[bytes]) -> bytes:
        return Points(self._terms.digest, step, b"".join(once), b"".join(twice)).to_bytes()

    def _parts(self, step: int, content: bytes) -> tuple[list[bytes], list[bytes]]:
        """Return the points of the other party's message: times its number, and times both."""
        try:
            once = self._terms.sizes[1 - self.SEAT] if step < 3 else 0
            twice = self._terms.sizes[self.SEAT] if step > 1 else 0
            message = Points.from_bytes(content, HEAD_BYTES + POINT_BYTES * (once + twice))
            if (message.terms, message.step) != (self._terms.digest, step):
                raise ProtocolError("a message is of another session, or of another step")
            ascending = bool(self._terms.counted)
            return _split(message.once, once, ascending=True), _split(message.twice, twice, ascending=ascending)
        except ProtocolError as error:
            raise ProtocolError(str(error), blame=1 - self.SEAT) from None


class Asker(_Side):
    """The party that asks, and learns what is shared.

    Args:
        terms: as agreed.
        identifiers: distinct, of any length; as many as the terms announce, or fewer.
        apply: what runs the multiplications.

    Raises:
        SettingError: there are more identifiers, or one of them twice; nothing may be sent.
    """

    SEAT = 0

    def ask(self) -> bytes:
        """Return message 1.

        Raises:
            ProtocolError: it was asked for before.
        """
        with self._turn(_State.NEW, _State.ASKED):
            return self._message(1, self._blinded(), ())

    def read(self, answer: bytes) -> Found:
        """Return what is shared, from message 2.

        Raises:
            ProtocolError: it came at the wrong time, or cannot be an answer.
        """
        with self._turn(_State.ASKED, _State.READ):
            once, twice = self._parts(2, answer)
            self._theirs = self._doubled(once)
            return self._found(twice, self._theirs)

    def tell(self) -> bytes:
        """Return message 3.

        Raises:
            ProtocolError: nothing was read yet, or the terms do not tell the answerer.
        """
        if not self._terms.both:
            raise ProtocolError("these terms tell the asker alone")
        with self._turn(_State.READ, _State.OVER):
            return self._message(3, (), self._told(self._theirs))


class Answerer(_Side):
    """The party that is asked. Arguments and errors as of ``Asker``."""

    SEAT = 1

    def answer(self, question: bytes) -> bytes:
        """Return message 2 to message 1.

        Raises:
            ProtocolError: it came at the wrong time, or cannot be a question.
        """
        with self._turn(_State.NEW, _State.ASKED):
            once, _ = self._parts(1, question)
            self._theirs = self._doubled(once)
            return self._message(2, self._blinded(), self._told(self._theirs))

    def read(self, told: bytes) -> Found:
        """Return what is shared, from message 3.

        Raises:
            ProtocolError: it came at the wrong time, or the terms do not tell this party, or it cannot be right.
        """
        if not self._terms.both:
            raise ProtocolError("these terms tell the asker alone")
        with self._turn(_State.ASKED, _State.OVER):
            _, twice = self._parts(3, told)
            return self._found(twice, self._theirs)


def point_of(uniform: bytes) -> bytes:
    """Return a point of the group from 64 bytes: the sum of two maps of 32."""
    first, second = uniform[:POINT_BYTES], uniform[POINT_BYTES:]
    return crypto_core_ed25519_add(crypto_core_ed25519_from_uniform(first), crypto_core_ed25519_from_uniform(second))


def blinded(about: bytes, scalar: bytes, identifiers: Sequence[bytes]) -> list[bytes]:
    """Return the points of identifiers under terms of this digest, times a number."""
    head = b"discreet identifier " + about
    return multiplied(scalar, [point_of(hashlib.sha512(head + each).digest()) for each in identifiers])


def multiplied(scalar: bytes, points: Sequence[bytes]) -> list[bytes]:
    """Return points times a number.

    Raises:
        nacl.exceptions.RuntimeError: one of them is not in the group, or its neutral element.
    """
    return [crypto_scalarmult_ed25519_noclamp(scalar, point) for point in points]


def _split(content: bytes, count: int, *, ascending: bool) -> list[bytes]:
    if len(content) != POINT_BYTES * count:
        raise ProtocolError(f"{count} points of {POINT_BYTES} bytes were expected")
    points = [content[start : start + POINT_BYTES] for start in range(0, len(content), POINT_BYTES)]
    if len(set(points)) < count or (ascending and points != sorted(points)):
        raise ProtocolError("points come once each, and in ascending order unless they are sent back")
    return points
