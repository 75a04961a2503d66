"""Private information retrieval: records of a table, without either of two servers learning which.

The client draws a uniform set of records as bits. One server gets it, the other gets it with the wanted record's bit
flipped. Each returns the XOR of the records in its set. The sets differ by the wanted record alone, so the XOR of both
answers is that record.

Each server alone sees uniform bits. Several records are asked for by as many sets at once: how many is not hidden, so
the caller pads, with any record. What the client learns: the records, and one XOR more of each pair of sets.
Formal guarantee: ``retrieval.md``.

Source: Chor, Goldreich, Kushilevitz and Sudan 1995, section 3.1 (two servers, sets that differ by one).

==================================  ====================================================================
edge case                           behaviour
==================================  ====================================================================
no record, or more than 64 at once  SettingError
a position that there is none of    SettingError, without the position
the same record twice               two sets like any others
bits beyond the last record         read by nobody
a size that is no multiple of 8     padded within the server alone
longer, truncated, replayed, mixed  ``two_servers``
==================================  ====================================================================
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from discreet.errors import ProtocolError, SettingError
from discreet.protocols.messages import Message
from discreet.protocols.two_servers import DIGEST_BYTES, Exchange, Question, answered, bounded, longest

MOST_RECORDS, MOST_SIZE = 1 << 24, 1 << 16
MOST_AT_ONCE = 64

Fold = Callable[[NDArray[np.uint64], NDArray[np.uint8]], NDArray[np.uint64]]
"""From words [records, words] and a set, packed, lowest bit first: the XOR of the records in the set."""


@dataclass(frozen=True, repr=False)
class RetrievalTerms(Message):
    """What is asked. Public.

    Attributes:
        table: SHA-256 of the records and their size.
        records: how many there are.
        size: bytes of each.
    """

    KIND = 16

    table: bytes
    records: int
    size: int

    def __post_init__(self) -> None:
        if len(self.table) != DIGEST_BYTES or not (1 <= self.records <= MOST_RECORDS and 1 <= self.size <= MOST_SIZE):
            raise ProtocolError(f"a table has a digest, 1 to {MOST_RECORDS} records and 1 to {MOST_SIZE} bytes in each")

    @property
    def set_size(self) -> int:
        """Bytes of a set of records."""
        return (self.records + 7) // 8


class Retrieval:
    """The client's side of one question.

    Args:
        terms: as announced.
        positions: of the records that are wanted, 1 to 64.

    Raises:
        SettingError: there are none, or too many, or one is out of the table.
    """

    def __init__(self, terms: RetrievalTerms, positions: Sequence[int]) -> None:
        if not 1 <= len(positions) <= MOST_AT_ONCE:
            raise SettingError(f"1 to {MOST_AT_ONCE} records are asked for at once, not {len(positions)}")
        if not all(0 <= position < terms.records for position in positions):
            raise SettingError(f"a record is out of the table of {terms.records}")
        self._size = terms.size
        sets = tuple(secrets.token_bytes(terms.set_size) for _ in positions)
        flipped = tuple(_flipped(each, position) for each, position in zip(sets, positions, strict=True))
        self._exchange = Exchange(terms.digest, (sets, flipped))

    def __repr__(self) -> str:
        return "Retrieval()"

    @property
    def questions(self) -> tuple[bytes, bytes]:
        """What to send to the first server, and what to the second."""
        return self._exchange.questions

    def read(self, answers: tuple[bytes, bytes]) -> tuple[bytes, ...]:
        """Return the records, in the order in which they were asked for, once.

        Raises:
            ProtocolError: an answer cannot be one to this question; names the server's seat.
        """
        return tuple(map(_xor, *self._exchange.read(answers, self._size)))


def folded(words: NDArray[np.uint64], chosen: NDArray[np.uint8]) -> NDArray[np.uint64]:
    """Return the XOR of the records in a set, with NumPy alone: see ``Fold``."""
    within = np.unpackbits(chosen, count=len(words), bitorder="little").astype(bool)
    total: NDArray[np.uint64] = np.bitwise_xor.reduce(words[within], axis=0)
    return total


class Retriever:
    """One of the two servers; both are alike.

    Args:
        records: of one size, in the order of their positions.
        fold: what adds the records of a set up.

    Raises:
        ProtocolError: there are none, or too many, or they are empty or too long.
        SettingError: they are of different sizes.
    """

    def __init__(self, records: Sequence[bytes], fold: Fold = folded) -> None:
        size = len(records[0]) if records else 0
        if any(len(record) != size for record in records):
            raise SettingError("records are of one size; pad them")
        digest = hashlib.sha256(f"discreet records of {size} ".encode() + b"".join(records)).digest()
        self.terms, self._fold = RetrievalTerms(digest, len(records), size), fold
        words = (size + 7) // 8
        padded = b"".join(record.ljust(8 * words, b"\0") for record in records)
        self._words = np.frombuffer(padded, np.uint64).reshape(len(records), words)

    def __repr__(self) -> str:
        return f"Retriever({self.terms.records} records)"

    @property
    def most(self) -> int:
        """How many bytes a question may have."""
        return longest(MOST_AT_ONCE, self.terms.set_size)

    def answer(self, content: bytes) -> bytes:
        """Return the answer to one half of a question.

        Raises:
            ProtocolError: it is none, or about another table.
        """
        question = bounded(Question, content, self.terms.digest, MOST_AT_ONCE, self.terms.set_size)
        sums = (self._fold(self._words, np.frombuffer(part, np.uint8)) for part in question.parts)
        return answered(question, tuple(each.tobytes()[: self.terms.size] for each in sums))


def _flipped(chosen: bytes, position: int) -> bytes:
    other = bytearray(chosen)
    other[position >> 3] ^= 1 << (position & 7)
    return bytes(other)


def _xor(one: bytes, other: bytes) -> bytes:
    return (np.frombuffer(one, np.uint8) ^ np.frombuffer(other, np.uint8)).tobytes()
