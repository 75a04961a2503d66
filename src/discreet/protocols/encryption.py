"""Scores of all items for an encrypted query: one server, which sees neither the query nor the scores.

The server holds a matrix V of integers [rows, width]. The client has a query u, integers [width], and keys of a
homomorphic cryptosystem, of which it hands out the one that evaluates. It sends u encrypted; the server multiplies V by
it under encryption; the client decrypts V u, exactly, since no score reaches the cryptosystem's limit: by Cauchy and
Schwarz a score is at most |row| |u|, and a query that could reach further is refused before it is sent.

What encrypts is an argument (``Scheme``): this module knows lengths, digests and the order of messages alone.

==========  ===================  ==================================================================
from        message              holds
==========  ===================  ==================================================================
server      EncryptionTerms      which matrix, and which cryptosystem; public
client      EvaluationKey        once for many questions; the server forgets it when it likes
client      EncryptedQuestion    the digest of that key, and the encrypted query
server      EncryptedAnswer      the encrypted scores, in blocks
==========  ===================  ==================================================================

Guarantee: the server sees ciphertexts and an evaluation key, both of sizes that follow from the terms. It learns
nothing of u that an adversary against the cryptosystem under chosen plaintexts could not: ``encryption.md``. Questions
under one key are seen to be of one client.

==================================  ====================================================================
edge case                           behaviour
==================================  ====================================================================
a query of zeros                    a question like every other; the scores are 0
a query whose scores might wrap     SettingError, nothing is sent
another type, length or dimension   SettingError
the server has forgotten the key    KeyWanted: send it again, then the question again
longer, truncated, of other terms   ProtocolError, before any of it is decrypted or computed with
bytes that are no ciphertext        ProtocolError by the server; the client reads every number as some score
an answer to an earlier question    ProtocolError: it names another session
an answer after the answer          ProtocolError: a question is read once
an answer of the right size, wrong  read as it is: a lying server can spoil what the client reads
==================================  ====================================================================
"""

from __future__ import annotations

import hashlib
import secrets
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from threading import Lock
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from discreet.errors import ProtocolError, SettingError
from discreet.protocols.messages import Message
from discreet.protocols.two_servers import DIGEST_BYTES, SESSION_BYTES

MOST_ROWS, MOST_WIDTH = 1 << 22, 256
LONGEST_NAME = 100
KEYS_HELD = 256
"""Evaluation keys that a server holds; the one that was not used for longest goes first."""

Blocks = tuple[bytes, ...]
Compute = Callable[[bytes, bytes], Blocks]
"""From an evaluation key and an encrypted query to the encrypted scores. Raises ProtocolError if either is none."""


class Secret(Protocol):
    """A client's keys."""

    evaluation_key: bytes

    def encrypt(self, query: NDArray[np.int64]) -> bytes:
        """Encrypt a query [width]."""

    def decrypt(self, block: bytes) -> NDArray[np.int64]:
        """Return the scores of a block [slots]; whatever bytes of the right size it is."""


class Scheme(Protocol):
    """A cryptosystem with its parameters, of at least 128 bits.

    Attributes:
        name: with every parameter.
        slots: scores in a block.
        limit: absolute values of scores are smaller.
        key_size: bytes of an evaluation key.
        query_size: bytes of an encrypted query.
        block_size: bytes of a block of encrypted scores.
    """

    name: str
    slots: int
    limit: int
    key_size: int
    query_size: int
    block_size: int

    def secret(self) -> Secret:
        """Make new keys."""

    def compute(self, matrix: NDArray[np.int16]) -> Compute:
        """Prepare a matrix [rows, width]."""

    def memory(self, rows: int, width: int) -> int:
        """Return how many bytes a matrix takes, once it is prepared."""


class KeyWanted(ProtocolError):
    """The server does not hold the evaluation key of a question. Send it, then the question again."""


@dataclass(frozen=True, repr=False)
class EncryptionTerms(Message):
    """What is asked, and how. Public.

    Attributes:
        table: SHA-256 of the matrix and its shape.
        rows: how many scores there are.
        width: length of a query.
        longest: largest squared length of a row.
        scheme: name of the cryptosystem, ASCII.
    """

    KIND = 37

    table: bytes
    rows: int
    width: int
    longest: int
    scheme: bytes

    def __post_init__(self) -> None:
        if len(self.table) != DIGEST_BYTES or not (1 <= self.rows <= MOST_ROWS and 1 <= self.width <= MOST_WIDTH):
            raise ProtocolError(f"a matrix has a digest, 1 to {MOST_ROWS} rows and 1 to {MOST_WIDTH} columns")
        if not 0 < len(self.scheme) <= LONGEST_NAME or not self.scheme.isascii():
            raise ProtocolError("terms name a cryptosystem")

    def fits(self, query: NDArray[np.int64], limit: int) -> bool:
        """Tell whether every score of a query is below the limit, and comes back as itself."""
        return sum(int(value) ** 2 for value in query) * max(self.longest, 1) < limit**2


@dataclass(frozen=True, repr=False)
class EvaluationKey(Message):
    """From the client: what the server computes with under encryption. Decrypts nothing."""

    KIND = 38

    terms: bytes
    key: bytes


@dataclass(frozen=True, repr=False)
class EncryptedQuestion(Message):
    """From the client.

    Attributes:
        terms: SHA-256 of what is asked.
        session: 32 bytes, new for each question.
        key: SHA-256 of the evaluation key's message.
        query: encrypted.
    """

    KIND = 39

    terms: bytes
    session: bytes
    key: bytes
    query: bytes


@dataclass(frozen=True, repr=False)
class EncryptedAnswer(Message):
    """From the server."""

    KIND = 40

    terms: bytes
    session: bytes
    blocks: tuple[bytes, ...]


QUESTION_BYTES = 2 + 3 * (4 + DIGEST_BYTES) + 4
KEY_HEAD_BYTES = 2 + 4 + DIGEST_BYTES + 4
"""Beside the ciphertext."""


class Keyring:
    """A client's keys for one matrix, for as many questions as the client allows.

    Args:
        terms: as announced.
        scheme: that they name.

    Raises:
        ProtocolError: they name another one.
    """

    def __init__(self, terms: EncryptionTerms, scheme: Scheme) -> None:
        if terms.scheme != scheme.name.encode():
            raise ProtocolError(f"the server encrypts otherwise than here, with {scheme.name}")
        self.terms, self.scheme, self.secret = terms, scheme, scheme.secret()
        self.message = EvaluationKey(terms.digest, self.secret.evaluation_key).to_bytes()
        self.digest = hashlib.sha256(self.message).digest()

    def __repr__(self) -> str:
        return "Keyring()"


class Encryption:
    """The client's side of one question.

    Args:
        keys: of the client.
        query: int64 [width].

    Raises:
        SettingError: it is of another type or length, or its scores might wrap; nothing may be sent.
    """

    def __init__(self, keys: Keyring, query: NDArray[np.int64]) -> None:
        terms = keys.terms
        if query.dtype != np.int64 or query.shape != (terms.width,):
            raise SettingError(f"a query is {terms.width} int64 values, not {query.shape} of {query.dtype}")
        if not terms.fits(query, keys.scheme.limit):
            raise SettingError("scores of this query might wrap; scale it down")
        self._keys, self._session, self._over = keys, secrets.token_bytes(SESSION_BYTES), False
        self.question = EncryptedQuestion(
            terms.digest, self._session, keys.digest, keys.secret.encrypt(query)
        ).to_bytes()

    def __repr__(self) -> str:
        return "Encryption()"

    def read(self, content: bytes) -> NDArray[np.int64]:
        """Return the scores, int64 [rows], once.

        Raises:
            ProtocolError: it cannot be the answer to this question.
        """
        if self._over:
            raise ProtocolError("a question is read once")
        terms, scheme = self._keys.terms, self._keys.scheme
        count = -(-terms.rows // scheme.slots)
        most = 2 + 2 * (4 + DIGEST_BYTES) + 4 + count * (4 + scheme.block_size)
        answer = EncryptedAnswer.from_bytes(content, most)
        if (answer.terms, answer.session) != (terms.digest, self._session):
            raise ProtocolError("the answer is to another question")
        if len(answer.blocks) != count or any(len(block) != scheme.block_size for block in answer.blocks):
            raise ProtocolError(f"{count} blocks of {scheme.block_size} bytes were expected")
        self._over = True
        return np.concatenate([self._keys.secret.decrypt(block) for block in answer.blocks])[: terms.rows]


class Evaluator:
    """The server.

    Args:
        matrix: int16 [rows, width].
        scheme: what queries are encrypted with.

    Raises:
        SettingError: the matrix is something else.
        ProtocolError: it is larger than a matrix may be, or empty.
    """

    def __init__(self, matrix: NDArray[np.int16], scheme: Scheme) -> None:
        if matrix.dtype != np.int16 or matrix.ndim != 2:
            raise SettingError(f"a matrix is int16 of two dimensions, not {matrix.ndim} of {matrix.dtype}")
        digest = hashlib.sha256(f"discreet matrix {matrix.shape} ".encode() + matrix.astype("<i2").tobytes()).digest()
        largest = max((int(row @ row) for row in matrix.astype(np.int64)), default=0)
        self.terms = EncryptionTerms(digest, len(matrix), matrix.shape[1], largest, scheme.name.encode())
        self._scheme, self._compute = scheme, scheme.compute(matrix)
        self._keys: OrderedDict[bytes, bytes] = OrderedDict()
        self._lock = Lock()

    def __repr__(self) -> str:
        return f"Evaluator({self.terms.rows} rows)"

    @property
    def most(self) -> int:
        """How many bytes a question may have."""
        return QUESTION_BYTES + self._scheme.query_size

    @property
    def most_of_key(self) -> int:
        """How many bytes an evaluation key's message may have."""
        return KEY_HEAD_BYTES + self._scheme.key_size

    def take(self, content: bytes) -> None:
        """Hold a client's evaluation key, for a while.

        Raises:
            ProtocolError: it is none, or for another matrix.
        """
        message = EvaluationKey.from_bytes(content, self.most_of_key)
        self._check(message.terms)
        if len(message.key) != self._scheme.key_size:
            raise ProtocolError(f"an evaluation key has {self._scheme.key_size} bytes")
        with self._lock:
            self._keys[hashlib.sha256(content).digest()] = message.key
            if len(self._keys) > KEYS_HELD:
                self._keys.popitem(last=False)

    def answer(self, content: bytes) -> bytes:
        """Return the encrypted scores.

        Raises:
            KeyWanted: the evaluation key is not held.
            ProtocolError: it is no question, or about another matrix.
        """
        question = EncryptedQuestion.from_bytes(content, self.most)
        self._check(question.terms)
        if len(question.session) != SESSION_BYTES or len(question.query) != self._scheme.query_size:
            raise ProtocolError(f"a session has 32 bytes, an encrypted query {self._scheme.query_size}")
        with self._lock:
            key = self._keys.get(question.key)
            if key is None:
                raise KeyWanted("the evaluation key is not held here; send it, then the question again")
            self._keys.move_to_end(question.key)
        blocks = self._compute(key, question.query)
        return EncryptedAnswer(question.terms, question.session, blocks).to_bytes()

    def _check(self, terms: bytes) -> None:
        if terms != self.terms.digest:
            raise ProtocolError("what is asked is of another table than the one held here; ask for the terms anew")
