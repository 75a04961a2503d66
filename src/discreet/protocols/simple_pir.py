"""Private information retrieval from one server, at the price of a hint that the client downloads before.

The table is a matrix D of bytes, less 128 each; records stand below one another in columns, as many as make it about
square. A question is a vector as long as D is wide: a one at the wanted record's column, times 2^24, hidden by Regev's
encryption under learning with errors, A s + e + 2^24 u modulo 2^32. The server multiplies D by it. The client takes
D A s off, which it computes from s and from the hint D A, rounds the errors away, and has the whole column.

The public matrix A is expanded from the table's digest; s is new for each question, and so is e, of a discrete Gaussian
with sigma = 6.4. The hint is 4 KiB a row of D, once for each version of the table.

====  =====================  =========================================================================
step  from, to               what it holds
====  =====================  =========================================================================
0     server to everybody    the terms, and the hint
1     client to server       the encrypted choice of a column, 4 bytes for each column
2     server to client       the product, 4 bytes for each row
====  =====================  =========================================================================

Parameters: n = 1024, q = 2^32, sigma = 6.4 for at most 2^20 columns (128 bits of security by the source, table in
section 4.2), and p = 2^8, below what the source's own bound on errors allows for any of these widths. ``TableTerms``
computes a stricter one, and refuses tables where any value of an answer could come out wrong with more than 2^-128,
which are those of more than about half a million columns.

Formal guarantee: ``simple_pir.md``. With two servers that do not tell each other, ``retrieval`` needs no hint and no
assumption on lattices. A table that is small is better downloaded.

Source: SimplePIR (Henzinger, Hong, Corrigan-Gibbs, Meiklejohn and Vaikuntanathan 2023, section 4).

==================================  ====================================================================
edge case                           behaviour
==================================  ====================================================================
a position that there is none of    SettingError, without the position
a table too wide for the errors     ProtocolError, by the terms
another hint than the terms name    ProtocolError, before anything is asked
of another table, or another step   ProtocolError
an answer twice, or of another one  ProtocolError
longer or truncated                 ProtocolError, before anything is read
an answer of the right size, wrong  read as it is: a lying server can spoil what the client reads
records beyond the last one         zeros, within the server alone
==================================  ====================================================================
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import isqrt

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from numpy.typing import NDArray

from discreet.errors import ProtocolError, SettingError
from discreet.protocols.messages import Message
from discreet.randomness import NoiseSource

DIGEST_BYTES = SESSION_BYTES = 32
SECRET = 1024
"""n: numbers of a secret, and columns of the hint."""
SHIFT = 24
"""Bits of a value that are there for the errors: q / p = 2^24."""
CENTRE = 128
VARIANCE = (1024, 25)
"""sigma^2 = 40.96, as a fraction."""
FAILURE = 128
"""Bits of the chance that errors add up to any wrong value of an answer."""
MOST_RECORDS, MOST_SIZE = 1 << 30, 1 << 16
HEAD_BYTES = 86
"""Of a message: kind and version, digest, session, step, and a length."""
PRECISION = 256
"""Bits behind the point while the table of the errors is built."""
TAIL = 160
"""The table ends where a value is less likely than zero by 2^-160."""
CHUNK = 1 << 11
"""Rows of A that are expanded at a time: eight megabytes."""

Product = Callable[[NDArray[np.int8], NDArray[np.uint32]], NDArray[np.uint32]]
"""From int8 [rows, columns] and uint32 [columns, any]: their product modulo 2^32, uint32 [rows, any]."""


@dataclass(frozen=True, repr=False)
class TableTerms(Message):
    """What is asked. Public.

    Attributes:
        table: SHA-256 of the records and their size.
        hint: SHA-256 of the hint.
        records: how many there are.
        size: bytes of each.
    """

    KIND = 35

    table: bytes
    hint: bytes
    records: int
    size: int

    def __post_init__(self) -> None:
        if len(self.table) != DIGEST_BYTES or len(self.hint) != DIGEST_BYTES:
            raise ProtocolError("terms hold digests of 32 bytes")
        if not (1 <= self.records <= MOST_RECORDS and 1 <= self.size <= MOST_SIZE):
            raise ProtocolError(f"a table has 1 to {MOST_RECORDS} records of 1 to {MOST_SIZE} bytes")
        if not rounds_right(self.rows, self.columns):
            raise ProtocolError(f"{self.columns} columns are too many: errors could add up to a wrong value")

    @property
    def stacked(self) -> int:
        """Records of a column."""
        return max(isqrt(self.records // self.size), 1)

    @property
    def rows(self) -> int:
        """Bytes of a column."""
        return self.stacked * self.size

    @property
    def columns(self) -> int:
        """How many columns there are."""
        return -(-self.records // self.stacked)


@dataclass(frozen=True, repr=False)
class Vector(Message):
    """A question, or its answer.

    Attributes:
        terms: SHA-256 of what is asked.
        session: 32 bytes, new for each question.
        step: 1 or 2.
        values: uint32, little-endian.
    """

    KIND = 36

    terms: bytes
    session: bytes
    step: int
    values: bytes


class Hint:
    """What a client keeps for one version of the table, 4 KiB a row.

    Args:
        terms: as announced.
        content: the hint, as it came.

    Raises:
        ProtocolError: it is another one.
    """

    def __init__(self, terms: TableTerms, content: bytes) -> None:
        if len(content) != 4 * SECRET * terms.rows or hashlib.sha256(content).digest() != terms.hint:
            raise ProtocolError("the hint is not that of the terms; fetch both anew")
        self.terms, self.matrix = terms, np.frombuffer(content, "<u4").reshape(terms.rows, SECRET)

    def __repr__(self) -> str:
        return f"Hint({self.terms.rows} rows)"


class Fetching:
    """The client's side of one question.

    Args:
        hint: with its terms.
        position: of the record that is wanted.

    Raises:
        SettingError: it is out of the table; nothing may be sent.
    """

    def __init__(self, hint: Hint, position: int) -> None:
        terms = hint.terms
        if not 0 <= position < terms.records:
            raise SettingError(f"a record is out of the table of {terms.records}")
        column, self._place = divmod(position, terms.stacked)
        self._terms, self._session, self._over = terms, secrets.token_bytes(SESSION_BYTES), False
        secret = np.frombuffer(secrets.token_bytes(4 * SECRET), "<u4")
        values = errors(terms.columns, NoiseSource())
        for start, rows in public_rows(terms.table, terms.columns):
            values[start : start + len(rows)] += rows @ secret
        values += (np.arange(terms.columns) == column).astype(np.uint32) << np.uint32(SHIFT)
        self._taken_off = hint.matrix @ secret
        self.question = Vector(terms.digest, self._session, 1, values.astype("<u4").tobytes()).to_bytes()

    def __repr__(self) -> str:
        return "Fetching()"

    def read(self, content: bytes) -> bytes:
        """Return the record, once.

        Raises:
            ProtocolError: it was read before, or the answer cannot be one to this question.
        """
        if self._over:
            raise ProtocolError("an answer is read once")
        answer = _read(content, self._terms, 2, self._terms.rows)
        if answer.session != self._session:
            raise ProtocolError("an answer is to another question")
        self._over = True
        values = np.frombuffer(answer.values, "<u4") - self._taken_off
        rounded = (values + np.uint32(1 << (SHIFT - 1))) >> np.uint32(SHIFT)
        column = (rounded + np.uint32(CENTRE)).astype(np.uint8)
        record: bytes = column[self._place * self._terms.size :][: self._terms.size].tobytes()
        return record


def multiplied(matrix: NDArray[np.int8], right: NDArray[np.uint32]) -> NDArray[np.uint32]:
    """Return a product with NumPy alone, a slab of rows at a time: see ``Product``."""
    slab = max((1 << 22) // matrix.shape[1], 1)
    parts = [matrix[at : at + slab].astype(np.uint32) @ right for at in range(0, len(matrix), slab)]
    return np.concatenate(parts)


class Fetcher:
    """The server.

    Args:
        records: of one size, in the order of their positions.
        product: what multiplies; the hint takes rows x columns x 1024 products.

    Raises:
        ProtocolError: there are none, or too many, or they are empty or too long.
        SettingError: they are of different sizes.
    """

    def __init__(self, records: Sequence[bytes], product: Product = multiplied) -> None:
        size = len(records[0]) if records else 0
        if any(len(record) != size for record in records):
            raise SettingError("records are of one size; pad them")
        content = b"".join(records)
        table = hashlib.sha256(f"discreet records of {size} ".encode() + content).digest()
        shape = TableTerms(table, bytes(DIGEST_BYTES), len(records), size)
        padded = np.zeros((shape.columns, shape.rows), np.uint8)
        padded.reshape(-1)[: len(content)] = np.frombuffer(content, np.uint8)
        self._matrix = np.ascontiguousarray((padded ^ np.uint8(CENTRE)).view(np.int8).T)
        self._product = product
        total = np.zeros((shape.rows, SECRET), np.uint32)
        for start, rows in public_rows(table, shape.columns):
            total += product(self._matrix[:, start : start + len(rows)], rows)
        self.hint = total.astype("<u4").tobytes()
        self.terms = TableTerms(table, hashlib.sha256(self.hint).digest(), len(records), size)

    def __repr__(self) -> str:
        return f"Fetcher({self.terms.records} records)"

    @property
    def most(self) -> int:
        """How many bytes a question has."""
        return HEAD_BYTES + 4 * self.terms.columns

    def answer(self, content: bytes) -> bytes:
        """Return the answer to a question.

        Raises:
            ProtocolError: it is none, or about another table.
        """
        question = _read(content, self.terms, 1, self.terms.columns)
        values = self._product(self._matrix, np.frombuffer(question.values, "<u4").reshape(-1, 1))
        return Vector(question.terms, question.session, 2, values.astype("<u4").tobytes()).to_bytes()


def rounds_right(rows: int, columns: int) -> bool:
    """Tell whether an answer has a wrong value with 2^-128 at most: 2 rows exp(-(2^23)^2 / 2 sigma^2 columns 128^2).

    In whole numbers: 7 / 10 is more than the natural logarithm of 2.
    """
    over, under = VARIANCE
    bits = FAILURE + 1 + rows.bit_length()
    return under * 10 * (1 << 2 * (SHIFT - 1)) >= 2 * over * columns * CENTRE**2 * 7 * bits


def public_rows(table: bytes, columns: int) -> Iterator[tuple[int, NDArray[np.uint32]]]:
    """Yield the matrix A of a table, uint32 [columns, 1024], in parts with the row at which each starts.

    It is AES-256 in counter mode under a key that follows from the table's digest, so nobody chooses it.
    """
    key = hashlib.sha256(b"discreet public matrix " + table).digest()
    stream = Cipher(algorithms.AES256(key), modes.CTR(bytes(16))).encryptor()
    for start in range(0, columns, CHUNK):
        count = min(CHUNK, columns - start)
        part = np.frombuffer(stream.update(bytes(4 * SECRET * count)), "<u4")
        yield start, part.reshape(count, SECRET).astype(np.uint32, copy=False)


def errors(count: int, source: NoiseSource) -> NDArray[np.uint32]:
    """Return independent discrete Gaussians of sigma = 6.4 modulo 2^32, uint32 [count].

    Every draw is compared with every threshold: what is done does not depend on what is drawn.
    """
    high, low = source.words(2 * count).reshape(2, count)
    sign = low & np.uint64(1)
    low = low - sign
    size = np.zeros(count, np.uint32)
    for above, below in thresholds():
        size += (high > above) | ((high == above) & (low >= below))
    return np.where(sign.astype(bool), -size, size)


@lru_cache(maxsize=1)
def thresholds() -> tuple[tuple[np.uint64, np.uint64], ...]:
    """Return floor(2^128 P(abs(z) <= k)) for k = 0, 1, ... as two words, computed in whole numbers."""
    over, under = VARIANCE
    one = 1 << PRECISION
    step = _exp_of_minus(under, 2 * over)  # exp(-1 / 2 sigma^2): what z = 1 is less likely than z = 0
    falling, ratio, likelihoods = (step * step) >> PRECISION, step, [one]
    while likelihoods[-1] >> (PRECISION - TAIL):
        likelihoods.append((likelihoods[-1] * ratio) >> PRECISION)
        ratio = (ratio * falling) >> PRECISION  # exp(-(2k + 1) / 2 sigma^2)
    whole = one + 2 * sum(likelihoods[1:])
    inside, found = -one, []
    for likelihood in likelihoods[:-1]:
        inside += 2 * likelihood
        high, low = divmod((inside << 128) // whole, 1 << 64)
        found.append((np.uint64(high), np.uint64(low)))
    return tuple(found)


def _exp_of_minus(over: int, under: int) -> int:
    """Return exp(-over / under) in ``PRECISION`` bits behind the point: Taylor's series, until a term is nothing."""
    term, total, number = 1 << PRECISION, 0, 0
    while term:
        total += term if number % 2 == 0 else -term
        number += 1
        term = term * over // (under * number)
    return total


def _read(content: bytes, terms: TableTerms, step: int, count: int) -> Vector:
    vector = Vector.from_bytes(content, HEAD_BYTES + 4 * count)
    if vector.terms != terms.digest:
        raise ProtocolError("what is asked is of another table than the one held here; ask for the terms anew")
    if vector.step != step or len(vector.session) != SESSION_BYTES or len(vector.values) != 4 * count:
        raise ProtocolError(f"a message of step {step} with {count} values was expected")
    return vector
