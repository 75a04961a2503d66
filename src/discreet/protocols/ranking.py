"""The best items for somebody, of whom none of three servers learns anything, nor of the model, nor of the list.

=========  =====================  ==============================================  ==============================
sender     receiver               message                                         when
=========  =====================  ==============================================  ==============================
owner      each server            ``ModelShare``: its share of the model          once
client     each server            ``RankingQuestion``: its share of what is known  each time
servers    one another            by the engine (``Compute``)                     then
server     client                 ``RankingAnswer``: its share of the list        then; a client reads all once
=========  =====================  ==============================================  ==============================

A number x is shared as x = s0 + s1 + s2 modulo 2^64 (replicated sharing); server i holds s_i and s_(i+1 mod 3). s0 and
s1 are AES-256 in counter mode under keys of 32 bytes drawn for this sharing alone, s2 is the rest: so one server is
sent two keys, the others a key and the rest. Two servers together have everything; one alone has noise
(``ranking.md``).

What the servers compute, all on shares, for the known items x (0 or 1 [rows]), an encoder E and a decoder D (int64
[rows, width]; without an encoder, D [rows, rows] times x):

    score = D (E^T x)        key_j = 2^tie score_j + (rows - 1 - j) - 2^61 x_j        tie = bits of rows - 1

The ``listed`` largest keys are found, and 256 times each position, plus how many of them are larger, is times a shared
one, so that its shares are fresh. Keys are distinct, so that an order found by comparing shuffled keys is one of
``rows``! equally likely ones; what is known comes last. No key wraps: the owner may only deal a model no score of which
could reach 2^(60 - tie), whatever is known.

The client learns the order of the ``listed`` best, not their scores. Servers learn that somebody asked, when, and that
it was the same for all three.

Source: Araki, Furukawa, Lindell, Nof and Ohara 2016; Mohassel and Rindal 2018 (ABY3), semi-honest, honest majority.
Shuffled before it is compared: Chida and others 2019 (eprint 2019/695), algorithm 9.

========================================  ==================================================================
edge case                                 behaviour
========================================  ==================================================================
nothing is known                          a question like every other; ties are in the order of the rows
everything is known                       likewise; the client leaves out what it knows
a model whose scores might wrap           SettingError, nothing is dealt
servers hold shares of other dealings     ProtocolError by whoever's is not that of the terms
another seat's question or answer         ProtocolError
answers that do not fit each other        ProtocolError: of each third there are two copies
answers that fit, but are no list         ProtocolError
an answer after the answers               ProtocolError: a ranking is read once
one server lies to the others             the list may be wrong, and what is known may leak: not claimed
========================================  ==================================================================
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from numpy.typing import NDArray

from discreet.errors import ProtocolError, SettingError
from discreet.protocols.messages import Message

SEATS = 3
KEY_BYTES = DIGEST_BYTES = SESSION_BYTES = 32
LARGEST = 1 << 60
"""What a key of an unknown item stays below."""
KNOWN = 1 << 61
"""What a known item's key is put behind by."""
RANKS = 256
"""A word is so many times a position, plus its rank."""
MOST_LISTED = 100
MOST_ROWS, MOST_CELLS = 1 << 18, 1 << 25
CELL_LIMIT = 1 << 40
"""What a cell's absolute value stays below, so that sums of a column do not wrap."""
HEAD_BYTES = 2 + 3 * (4 + 32) + 8
"""At most, before the two thirds of a message."""

Thirds = tuple[bytes, bytes]
Share = NDArray[np.uint64]
"""[numbers, 2]: of each the server's own third, and the next one's."""

Compute = Callable[[bytes, Share], Share]
"""Takes the session, and a server's share of what is known [rows, 2]; returns its share of the list [listed, 2]."""


@dataclass(frozen=True, repr=False)
class RankingTerms(Message):
    """What is asked. Public.

    Attributes:
        dealing: 32 bytes, drawn when the model was dealt: a digest would let guesses of the model be checked.
        rows: items.
        width: of the encoder and decoder; 0 without an encoder.
        listed: how many of the best are found.
    """

    KIND = 41

    dealing: bytes
    rows: int
    width: int
    listed: int

    def __post_init__(self) -> None:
        if len(self.dealing) != DIGEST_BYTES or not 1 <= self.rows <= MOST_ROWS:
            raise ProtocolError(f"a dealing has 32 bytes and 1 to {MOST_ROWS} rows")
        if not 1 <= self.listed <= min(self.rows, MOST_LISTED):
            raise ProtocolError(f"1 to {MOST_LISTED} of the rows are listed, not {self.listed} of {self.rows}")
        if self.width > MOST_CELLS or self.rows * (self.width or self.rows) > MOST_CELLS:
            raise ProtocolError(f"a matrix has at most {MOST_CELLS} cells")

    @property
    def tie(self) -> int:
        """Bits that tell items of one score apart."""
        return (self.rows - 1).bit_length()

    @property
    def limit(self) -> int:
        """What the absolute value of a score has to stay below."""
        return LARGEST >> self.tie

    @property
    def numbers(self) -> int:
        """How many numbers of a model are shared: its matrices, row by row, and a one."""
        return 1 + (2 * self.rows * self.width if self.width else self.rows * self.rows)


@dataclass(frozen=True, repr=False)
class ModelShare(Message):
    """From the owner, for one of the servers. Secret.

    Attributes:
        terms: of the dealing, as bytes.
        seat: 0 to 2.
        first: the server's own third, or its key.
        second: the next server's third, or its key.
    """

    KIND = 42

    terms: bytes
    seat: int
    first: bytes
    second: bytes


@dataclass(frozen=True, repr=False)
class Asked(Message):
    """What questions and answers are made of.

    Attributes:
        terms: SHA-256 of the terms.
        session: 32 bytes, new for each question.
        seat: 0 to 2.
        first: the server's own third, or its key.
        second: the next server's third, or its key.
    """

    terms: bytes
    session: bytes
    seat: int
    first: bytes
    second: bytes


@dataclass(frozen=True, repr=False)
class RankingQuestion(Asked):
    """From the client, for one of the servers."""

    KIND = 43


@dataclass(frozen=True, repr=False)
class RankingAnswer(Asked):
    """From one of the servers; both thirds are written out."""

    KIND = 44


class Held:
    """A server's share of the model.

    Args:
        content: ``ModelShare``, as the owner sent it.

    Raises:
        ProtocolError: it is something else.
    """

    def __init__(self, content: bytes) -> None:
        share = ModelShare.from_bytes(content, HEAD_BYTES + 32 + 2 * 8 * (2 * MOST_CELLS + 1))
        self.terms, self.seat, self._share = RankingTerms.from_bytes(share.terms), share.seat, share
        self.share()

    def __repr__(self) -> str:
        return "Held()"

    def share(self) -> Share:
        """Return the share, uint64 [numbers, 2]: made anew each time, as it may be large."""
        return joined(self._share, self.terms.numbers)


class Ranking:
    """The client's side of one question.

    Args:
        terms: as announced.
        known: bool [rows].

    Raises:
        SettingError: it is of another type or length; nothing may be sent.
    """

    def __init__(self, terms: RankingTerms, known: NDArray[np.bool_]) -> None:
        if known.dtype != np.bool_ or known.shape != (terms.rows,):
            raise SettingError(f"what is known is {terms.rows} truth values, not {known.shape} of {known.dtype}")
        self._terms, self._session, self._over = terms, secrets.token_bytes(SESSION_BYTES), False
        first, second, third = (
            RankingQuestion(terms.digest, self._session, seat, *thirds).to_bytes()
            for seat, thirds in enumerate(shared(known.astype(np.uint64)))
        )
        self.questions: tuple[bytes, bytes, bytes] = (first, second, third)

    def __repr__(self) -> str:
        return "Ranking()"

    def read(self, answers: tuple[bytes, bytes, bytes]) -> NDArray[np.int64]:
        """Return the positions that are listed, best first, int64 [listed], once.

        Raises:
            ProtocolError: it was read before; or an answer cannot be one to this question, and its seat is named; or
                the answers cannot all be right.
        """
        if self._over:
            raise ProtocolError("a ranking is read once")
        thirds = [self._thirds(seat, content) for seat, content in enumerate(answers)]
        self._over = True
        if any((thirds[seat][1] != thirds[(seat + 1) % SEATS][0]).any() for seat in range(SEATS)):
            raise ProtocolError("the servers' answers do not fit each other; one of them is wrong")
        words = thirds[0][0] + thirds[1][0] + thirds[2][0]
        positions, ranks = words // np.uint64(RANKS), words % np.uint64(RANKS)
        order, listed = np.argsort(ranks), self._terms.listed
        distinct = len(set(positions.tolist())) == listed and (ranks[order] == np.arange(listed)).all()
        if not distinct or positions.max() >= self._terms.rows:
            raise ProtocolError("the servers' answers are no list; one of them is wrong")
        return positions[order].astype(np.int64)

    def _thirds(self, seat: int, content: bytes) -> tuple[NDArray[np.uint64], NDArray[np.uint64]]:
        size = 8 * self._terms.listed
        try:
            answer = RankingAnswer.from_bytes(content, HEAD_BYTES + 2 * (4 + size))
        except ProtocolError as error:
            raise ProtocolError(str(error), blame=seat) from None
        if (answer.terms, answer.session, answer.seat) != (self._terms.digest, self._session, seat):
            raise ProtocolError("an answer is to another question, or of another server", blame=seat)
        if (len(answer.first), len(answer.second)) != (size, size):
            raise ProtocolError(f"two thirds of {size} bytes were expected", blame=seat)
        return np.frombuffer(answer.first, "<u8"), np.frombuffer(answer.second, "<u8")


class Ranker:
    """One of the three servers.

    Args:
        held: its share of the model.
        compute: what works with the other two.
    """

    def __init__(self, held: Held, compute: Compute) -> None:
        self.terms, self.seat, self._compute = held.terms, held.seat, compute

    def __repr__(self) -> str:
        return f"Ranker({self.terms.rows} rows)"

    @property
    def most(self) -> int:
        """How many bytes a question may have."""
        return HEAD_BYTES + 2 * 4 + KEY_BYTES + 8 * self.terms.rows

    def answer(self, content: bytes) -> bytes:
        """Return the answer to a share of a question.

        Raises:
            ProtocolError: it is none, or of another dealing or server.
        """
        question = RankingQuestion.from_bytes(content, self.most)
        if question.terms != self.terms.digest:
            raise ProtocolError("what is asked is of another model than the one shared here; ask for the terms anew")
        if len(question.session) != SESSION_BYTES or question.seat != self.seat:
            raise ProtocolError("a session has 32 bytes, and each server a question of its own")
        first, second = self._compute(question.session, joined(question, self.terms.rows)).astype("<u8").T
        return RankingAnswer(question.terms, question.session, self.seat, first.tobytes(), second.tobytes()).to_bytes()


def dealt(
    encoder: NDArray[np.int64] | None, decoder: NDArray[np.int64], listed: int
) -> tuple[RankingTerms, tuple[bytes, bytes, bytes]]:
    """Share a model out: what its owner does, once. Whoever has two of the shares has the model.

    Args:
        encoder: [rows, width], or None if the decoder is [rows, rows].
        decoder: [rows, width].
        listed: how many of the best are found, fewer if there are not as many.

    Returns:
        The terms, and a ``ModelShare`` for each server.

    Raises:
        SettingError: the matrices do not fit each other, or some score might wrap.
        ProtocolError: they are larger than a model may be, or empty.
    """
    matrices = [decoder] if encoder is None else [encoder, decoder]
    if any(each.dtype != np.int64 or each.ndim != 2 or each.shape != decoder.shape for each in matrices):
        raise SettingError("a model is one or two int64 matrices of the same shape")
    rows, width = decoder.shape
    if encoder is None and width != rows:
        raise SettingError(f"a decoder without an encoder is square, not {decoder.shape}")
    width = 0 if encoder is None else width
    terms = RankingTerms(secrets.token_bytes(DIGEST_BYTES), rows, width, min(listed, rows))
    if reach(encoder, decoder) >= terms.limit:
        raise SettingError("scores of this model might wrap; scale it down")
    numbers = np.concatenate([*[each.ravel() for each in matrices], np.ones(1, np.int64)]).astype(np.uint64)
    first, second, third = (
        ModelShare(terms.to_bytes(), seat, *thirds).to_bytes() for seat, thirds in enumerate(shared(numbers))
    )
    return terms, (first, second, third)


def reach(encoder: NDArray[np.int64] | None, decoder: NDArray[np.int64]) -> int:
    """Return what no score's absolute value is above, whatever is known, of matrices as ``dealt`` takes them.

    Raises:
        SettingError: a cell is 2^40 or more.
    """
    for each in (decoder,) if encoder is None else (encoder, decoder):
        if max(int(each.max(initial=0)), -int(each.min(initial=0))) >= CELL_LIMIT:
            raise SettingError("scores of this model might wrap; scale it down")
    largest = np.abs(decoder).max(axis=0, initial=0).tolist()
    sums = [1] * len(largest) if encoder is None else np.abs(encoder).sum(axis=0).tolist()
    return sum(total * most for total, most in zip(sums, largest, strict=True))


def shared(numbers: NDArray[np.uint64]) -> tuple[Thirds, Thirds, Thirds]:
    """Return what each server is sent of numbers [numbers]: its own third and the next, of which s0 and s1 are keys."""
    first, second = secrets.token_bytes(KEY_BYTES), secrets.token_bytes(KEY_BYTES)
    rest = numbers - expanded(first, len(numbers)) - expanded(second, len(numbers))
    third = rest.astype("<u8").tobytes()
    return (first, second), (second, third), (third, first)


def joined(message: ModelShare | Asked, count: int) -> Share:
    """Return the share of ``count`` numbers that a message to a server holds, uint64 [count, 2].

    Raises:
        ProtocolError: its thirds are not a key or numbers as the seat has it.
    """
    if message.seat >= SEATS:
        raise ProtocolError(f"there are {SEATS} servers")
    share = np.empty((count, 2), "<u8")
    for column, third in enumerate((message.first, message.second)):
        is_key = (message.seat + column) % SEATS < SEATS - 1
        if len(third) != (KEY_BYTES if is_key else 8 * count):
            raise ProtocolError(f"a key of {KEY_BYTES} bytes, or {count} numbers, were expected")
        share[:, column] = expanded(third, count) if is_key else np.frombuffer(third, "<u8")
    return share


def expanded(key: bytes, count: int) -> NDArray[np.uint64]:
    """Return the ``count`` numbers of a key, which must be used for one sharing alone."""
    stream = Cipher(algorithms.AES256(key), modes.CTR(bytes(16))).encryptor()
    return np.frombuffer(stream.update(bytes(8 * count)), "<u8")
