"""The weighted sum of several organisations' scores, and no organisation's own.

Each organisation has scores for a question, integers over a common catalogue. For each pair of organisations a mask is
derived that both know and nobody else (X25519 between pinned keys, HKDF bound to the sitting); the one with the lower
seat adds it to its weighted scores, the other subtracts it. In the sum all masks cancel; short of any organisation's
answer, what is left is as good as uniform.

A mask must hide one vector alone, or the difference of two answers would be the difference of scores. So each
organisation draws a nonce for each sitting, answers one sitting that holds it, and forgets it. All nonces are part of
the sitting that keys are bound to: an organisation that still knows its nonce never answered in this sitting before,
whoever replays what; one that lost its memory answers in none of the old ones.

====  =====================  ======================================================================
step  from, to               what it holds
====  =====================  ======================================================================
1     organisation to asker  a nonce, 32 uniform bytes; may be drawn and sent long before
2     asker to all           the sitting: the agreement's digest, and the nonces in order of seats
3     organisation to asker  weighted scores under masks
====  =====================  ======================================================================

What the question is, and how it reaches the organisations, is not for this protocol. Fewer than three organisations are
refused. With two, whoever asks on behalf of one of them subtracts its scores and has the other's, and nobody can check
on whose behalf somebody asks; with three, one of them that asks learns the sum of the two others. In general: whoever
asks, together with all organisations but two, learns the sum of those two.

Formal guarantee: ``ensemble.md``.

Source: pairwise masks that cancel, of Ács and Castelluccia 2011 and Bonawitz et al. 2017, section 4.

=====================================  =================================================================
edge case                              behaviour
=====================================  =================================================================
an organisation does not answer        TooFewLeft: no sum; ask anew, or agree anew without it
weights that could make a sum wrap     ProtocolError, by the agreement
scores beyond what was agreed          SettingError; nothing was told, what is open stays open
of another agreement, nonce or length   ProtocolError; nothing was told, what is open stays open
a sitting that was answered, or is old ProtocolError: its nonce is forgotten
an answer twice, or of another sitting ProtocolError by the asker; names the seat
=====================================  =================================================================
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from numpy.typing import NDArray

from discreet.errors import ProtocolError, SettingError, TooFewLeft
from discreet.protocols.keys import KEY_BYTES, agreed, public_bytes
from discreet.protocols.messages import LEAST, Message
from discreet.protocols.ring import Ring, announced

NONCE_BYTES = DIGEST_BYTES = 32
MOST_ORGANISATIONS = 1 << 10
HEAD_BYTES = 50
"""Of an answer: kind and version, digest, seat, and a length."""
PURPOSE = b"ensemble mask"
MOST_OPEN = 1 << 12
"""Nonces that an organisation remembers; the oldest is forgotten first."""


@dataclass(frozen=True, repr=False)
class Agreement(Message):
    """What the organisations agreed on, once for many questions. Public; pinned by each of them.

    Attributes:
        context: SHA-256 of all that decides what scores mean: the catalogue, the scale.
        organisations: their X25519 public keys; the place of each is its seat.
        weights: of each, at least 1.
        most: largest absolute value of a score, at least 1.
        dims: how many scores there are.
        bits: of the ring; the sum fits it.
    """

    KIND = 32

    context: bytes
    organisations: tuple[bytes, ...]
    weights: tuple[int, ...]
    most: int
    dims: int
    bits: int

    def __post_init__(self) -> None:
        if any(len(each) != KEY_BYTES for each in (self.context, *self.organisations)):
            raise ProtocolError("an agreement holds a digest and keys of 32 bytes")
        if not LEAST <= len(self.organisations) <= MOST_ORGANISATIONS or len(set(self.organisations)) < len(
            self.organisations
        ):
            raise ProtocolError(f"{LEAST} to {MOST_ORGANISATIONS} organisations with a key each: two hide nothing")
        if len(self.weights) != len(self.organisations) or min(self.weights) < 1 or self.most < 1:
            raise ProtocolError("each organisation has a weight of at least 1, and scores reach at least 1")
        if self.most * sum(self.weights) > self.ring.capacity:
            raise ProtocolError(f"the sum may not fit into {self.bits} bits; agree on lower weights or scores")

    @property
    def ring(self) -> Ring:
        """What scores are summed in."""
        return announced(self.bits, self.dims)


@dataclass(frozen=True, repr=False)
class Sitting(Message):
    """One question of the asker's, to all organisations alike.

    Attributes:
        agreement: SHA-256 of the agreement.
        nonces: of the organisations, 32 bytes each, in order of seats.
    """

    KIND = 33

    agreement: bytes
    nonces: tuple[bytes, ...]


@dataclass(frozen=True, repr=False)
class MaskedScores(Message):
    """One organisation's answer.

    Attributes:
        sitting: SHA-256 of the sitting.
        seat: of the organisation.
        content: its weighted scores plus masks, packed.
    """

    KIND = 34

    sitting: bytes
    seat: int
    content: bytes


class Organisation:
    """One organisation's side. Keeps nonces that were not answered yet, in memory, and nothing else between questions.

    Args:
        agreement: as this organisation agreed to it.
        key: its own.

    Raises:
        SettingError: its key is of none that agreed.
    """

    def __init__(self, agreement: Agreement, key: X25519PrivateKey) -> None:
        if public_bytes(key) not in agreement.organisations:
            raise SettingError("this key is of none of the organisations that agreed")
        self.agreement, self._key = agreement, key
        self.seat = agreement.organisations.index(public_bytes(key))
        self._open: dict[bytes, bool] = {}

    def __repr__(self) -> str:
        return f"Organisation({self.seat})"

    def open(self) -> bytes:
        """Return a nonce, for one sitting."""
        while len(self._open) >= MOST_OPEN:
            self._open.pop(next(iter(self._open)))
        nonce = secrets.token_bytes(NONCE_BYTES)
        self._open[nonce] = True
        return nonce

    def forget(self, nonce: bytes) -> None:
        """Answer in no sitting that holds this nonce, if it is still open."""
        self._open.pop(nonce, None)

    def answer(self, content: bytes, scores: NDArray[np.int64]) -> bytes:
        """Return this organisation's answer in a sitting, once.

        Args:
            content: the sitting, from the asker.
            scores: int64 [dims], each at most ``most`` from zero.

        Raises:
            ProtocolError: the sitting is of another agreement, or holds no nonce that is open.
            SettingError: scores are not as agreed.
        """
        agreement, ring = self.agreement, self.agreement.ring
        if scores.dtype != np.int64 or scores.shape != (ring.dims,):
            raise SettingError(f"expected {ring.dims} int64 scores, got {scores.shape} of {scores.dtype}")
        if scores.max() > agreement.most or scores.min() < -agreement.most:
            raise SettingError(f"a score is more than the {agreement.most} from zero that was agreed")
        sitting = Sitting.from_bytes(content, longest(agreement))
        if sitting.agreement != agreement.digest:
            raise ProtocolError("a sitting is under another agreement than this organisation's")
        _check(agreement, sitting.nonces)
        if not self._open.pop(sitting.nonces[self.seat], False):  # one step: of two threads, one gets it
            raise ProtocolError("a sitting holds no open nonce of this organisation; it was answered, or is too old")
        transcript = sitting.digest
        keys = [self._shared(seat, transcript) for seat in range(len(agreement.organisations)) if seat != self.seat]
        masked = ring.lower(scores * agreement.weights[self.seat])
        ring.mask(masked, keys[self.seat :], keys[: self.seat])
        return MaskedScores(transcript, self.seat, ring.pack(masked)).to_bytes()

    def _shared(self, seat: int, transcript: bytes) -> bytes:
        key = agreed(self._key, self.agreement.organisations[seat], transcript, PURPOSE)
        if key is None:
            raise ProtocolError("the agreement holds a key that is none", blame=seat)
        return key


class Summing:
    """The asker's side of one question.

    Args:
        agreement: as announced.
        nonces: of the organisations, in order of seats.

    Raises:
        ProtocolError: they are too few, too many, or not of 32 bytes.
    """

    def __init__(self, agreement: Agreement, nonces: Sequence[bytes]) -> None:
        _check(agreement, nonces)
        sitting = Sitting(agreement.digest, tuple(nonces))
        self._agreement, self._digest, self._over = agreement, sitting.digest, False
        self.sitting = sitting.to_bytes()

    def __repr__(self) -> str:
        return "Summing()"

    def read(self, answers: Mapping[int, bytes]) -> NDArray[np.int64]:
        """Return the weighted sum of all scores, int64 [dims], once.

        Args:
            answers: of the organisations, by seat.

        Raises:
            ProtocolError: it was read before, or an answer cannot be one in this sitting; names the seat.
            TooFewLeft: not all have answered.
        """
        if self._over:
            raise ProtocolError("a sum is read once")
        seats = range(len(self._agreement.organisations))
        missing = [seat for seat in seats if seat not in answers]
        if missing:
            raise TooFewLeft(f"no sum without an answer of each organisation; missing are those at seats {missing}")
        ring = self._agreement.ring
        total = np.zeros(ring.dims, np.uint32)
        for seat in seats:
            total += ring.unpack(self._masked(seat, answers[seat]))
        self._over = True
        return ring.lift(total)

    def _masked(self, seat: int, content: bytes) -> bytes:
        try:
            size = self._agreement.ring.size
            answer = MaskedScores.from_bytes(content, HEAD_BYTES + size)
            if (answer.sitting, answer.seat) != (self._digest, seat):
                raise ProtocolError("an answer is of another sitting, or of another organisation")
            if len(answer.content) != size:
                raise ProtocolError(f"an answer of {size} bytes was expected")
        except ProtocolError as error:
            raise ProtocolError(str(error), blame=seat) from None
        return answer.content


def longest(agreement: Agreement) -> int:
    """Return how many bytes a sitting has."""
    return 2 + (4 + DIGEST_BYTES) + 4 + len(agreement.organisations) * (4 + NONCE_BYTES)


def _check(agreement: Agreement, nonces: Sequence[bytes]) -> None:
    if len(nonces) != len(agreement.organisations) or any(len(nonce) != NONCE_BYTES for nonce in nonces):
        raise ProtocolError(f"a sitting holds {len(agreement.organisations)} nonces of {NONCE_BYTES} bytes")
