"""Scores of all items for a query that neither of two servers sees.

Both servers hold a matrix V of int16 [rows, width]: items' factors, or item-to-item weights. The client has a query u,
integers [width]: a person's factor, or their history. It draws r uniform modulo 2^32 and sends r to one server and
u - r to the other. Each multiplies V by what it got, modulo 2^32. The sum of both answers is V u modulo 2^32, and V u
itself, since no score reaches 2^31: by Cauchy and Schwarz a score is at most |row| |u|, and a query that could reach
further is refused before it is sent.

Each server alone sees uniform numbers. The client learns all scores: ``scoring.md``.

Source: additive secret sharing over a ring; a linear function is applied to shares (Cramer, Damgard and Nielsen 2015,
section 3.3).

==================================  ====================================================================
edge case                           behaviour
==================================  ====================================================================
a query of zeros                    a question like every other; the scores are 0
a query whose scores might wrap     SettingError, nothing is sent
another type, length or dimension   SettingError
a matrix of zeros                   every query fits whose values fit the ring
longer, truncated, replayed, mixed  ``two_servers``
==================================  ====================================================================
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from discreet.errors import ProtocolError, SettingError
from discreet.protocols.messages import Message
from discreet.protocols.ring import Ring
from discreet.protocols.two_servers import DIGEST_BYTES, Exchange, Question, answered, bounded, longest

BITS = 32
MOST_ROWS, MOST_WIDTH = 1 << 24, 1 << 14
LIMIT = 1 << (2 * BITS - 2)
"""Squared, what a score must be smaller than."""

Product = Callable[[NDArray[np.int16], NDArray[np.uint32]], NDArray[np.uint32]]
"""From a matrix [rows, width] and a share [width]: their product modulo 2^32 [rows]."""


@dataclass(frozen=True, repr=False)
class ScoringTerms(Message):
    """What is asked. Public.

    Attributes:
        table: SHA-256 of the matrix and its shape.
        rows: how many scores there are.
        width: length of a query.
        longest: largest squared length of a row.
    """

    KIND = 15
    REACH: ClassVar[int] = LIMIT

    table: bytes
    rows: int
    width: int
    longest: int

    def __post_init__(self) -> None:
        if len(self.table) != DIGEST_BYTES or not (1 <= self.rows <= MOST_ROWS and 1 <= self.width <= MOST_WIDTH):
            raise ProtocolError(f"a matrix has a digest, 1 to {MOST_ROWS} rows and 1 to {MOST_WIDTH} columns")

    def fits(self, query: NDArray[np.int64]) -> bool:
        """Tell whether every score of a query, squared, is below ``REACH``; below ``LIMIT`` it comes back as itself."""
        squared = sum(int(value) ** 2 for value in query)
        return squared * max(self.longest, 1) < self.REACH


class Scoring:
    """The client's side of one question.

    Args:
        terms: as announced.
        query: int64 [width].

    Raises:
        SettingError: it is of another type or length, or its scores might wrap; nothing may be sent.
    """

    def __init__(self, terms: ScoringTerms, query: NDArray[np.int64]) -> None:
        first, second = halves(terms, query)
        self._answers = Ring(BITS, terms.rows)
        self._exchange = Exchange(terms.digest, ((first,), (second,)))

    def __repr__(self) -> str:
        return "Scoring()"

    @property
    def questions(self) -> tuple[bytes, bytes]:
        """What to send to the first server, and what to the second."""
        return self._exchange.questions

    def read(self, answers: tuple[bytes, bytes]) -> NDArray[np.int64]:
        """Return the scores, int64 [rows], once.

        Raises:
            ProtocolError: an answer cannot be one to this question; names the server's seat.
        """
        (first,), (second,) = self._exchange.read(answers, 4 * self._answers.dims)
        return self._answers.lift(np.frombuffer(first, "<u4") + np.frombuffer(second, "<u4"))


class Scorer:
    """One of the two servers; both are alike.

    Args:
        matrix: int16 [rows, width].
        product: what multiplies it; None for NumPy, which holds it as uint32.

    Raises:
        SettingError: it is something else.
        ProtocolError: it is larger than a matrix may be, or empty.
    """

    def __init__(self, matrix: NDArray[np.int16], product: Product | None = None) -> None:
        self.terms = terms_of(matrix)
        self._product: Callable[..., NDArray[np.uint32]] = np.matmul if product is None else product
        self._matrix = matrix.astype(np.uint32) if product is None else matrix

    def __repr__(self) -> str:
        return f"Scorer({self.terms.rows} rows)"

    @property
    def most(self) -> int:
        """How many bytes a question may have."""
        return longest(1, 4 * self.terms.width)

    def multiplied(self, share: bytes) -> NDArray[np.uint32]:
        """Return the product of the matrix and a share of a query, modulo 2^32, [rows]."""
        return self._product(self._matrix, np.frombuffer(share, "<u4"))

    def answer(self, content: bytes) -> bytes:
        """Return the answer to one half of a question.

        Raises:
            ProtocolError: it is none, or about another matrix.
        """
        question = bounded(Question, content, self.terms.digest, 1, 4 * self.terms.width)
        return answered(question, (self.multiplied(question.parts[0]).astype("<u4").tobytes(),))


def terms_of(matrix: NDArray[np.int16]) -> ScoringTerms:
    """Return what is announced of a matrix.

    Raises:
        SettingError: it is something else.
        ProtocolError: it is larger than a matrix may be, or empty.
    """
    if matrix.dtype != np.int16 or matrix.ndim != 2:
        raise SettingError(f"a matrix is int16 of two dimensions, not {matrix.ndim} of {matrix.dtype}")
    digest = hashlib.sha256(f"discreet matrix {matrix.shape} ".encode() + matrix.astype("<i2").tobytes()).digest()
    largest = max((int(row @ row) for row in matrix.astype(np.int64)), default=0)
    rows, width = matrix.shape
    return ScoringTerms(digest, rows, width, largest)


def halves(terms: ScoringTerms, query: NDArray[np.int64]) -> tuple[bytes, bytes]:
    """Return the shares of a query, 4 bytes a value, for the first server, and for the second.

    Raises:
        SettingError: see ``Scoring``.
    """
    if query.dtype != np.int64 or query.shape != (terms.width,):
        raise SettingError(f"a query is {terms.width} int64 values, not {query.shape} of {query.dtype}")
    if not terms.fits(query):
        raise SettingError("scores of this query might wrap; scale it down")
    mask = np.frombuffer(secrets.token_bytes(4 * terms.width), "<u4")
    rest = (query & 0xFFFFFFFF).astype(np.uint32) - mask
    return mask.tobytes(), rest.astype("<u4").tobytes()
