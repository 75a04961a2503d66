"""A question to two servers that do not tell each other, and their answers: what keeps both in step.

A client makes two halves of a question, each of which alone is uniform bits, and sends one to each server. Each answers
its half; the client joins the answers. What halves are and how they are answered: ``scoring``, ``retrieval``.

Both halves name the terms, which hold the SHA-256 of the table that is asked: a server that holds another one refuses
them. Servers keep nothing between questions, so a question that is replayed gets the same answer again, and nothing
else. Whether an answer is refused depends on its head and its lengths alone, never on what was asked.

==================================  ====================================================================
edge case                           behaviour
==================================  ====================================================================
a message longer than one can be    ProtocolError, before anything is read
the servers hold different tables   ProtocolError by the one whose table is not that of the terms
an answer to an earlier question    ProtocolError: it names another session
one server's answer, twice          ProtocolError: it names the other's seat
an answer after the answers         ProtocolError: an exchange is read once
an answer of the right size, wrong  read as it is: a lying server can spoil what the client reads
both servers tell each other        they learn what was asked: that is the assumption, not enforced here
==================================  ====================================================================
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

from discreet.errors import ProtocolError
from discreet.protocols.messages import Message

SESSION_BYTES = DIGEST_BYTES = 32
HEAD_BYTES = 86
"""Of a question or an answer: kind and version, digest, session, seat, and how many parts there are."""

Parts = tuple[bytes, ...]


@dataclass(frozen=True, repr=False)
class Half(Message):
    """What questions and answers are made of.

    Attributes:
        terms: SHA-256 of what is asked.
        session: 32 bytes, new for each question.
        seat: of the server, 0 or 1.
        parts: of equal size.
    """

    terms: bytes
    session: bytes
    seat: int
    parts: tuple[bytes, ...]


@dataclass(frozen=True, repr=False)
class Question(Half):
    """From the client, for one of the servers."""

    KIND = 17


@dataclass(frozen=True, repr=False)
class Answer(Half):
    """From one of the servers."""

    KIND = 18


AnyHalf = TypeVar("AnyHalf", bound=Half)


class Exchange:
    """The client's side of one question.

    Args:
        terms: SHA-256 of what is asked.
        halves: parts for the first server, and for the second.
    """

    def __init__(self, terms: bytes, halves: tuple[Parts, Parts]) -> None:
        self._terms, self._session, self._over = terms, secrets.token_bytes(SESSION_BYTES), False
        self._count = len(halves[0])
        first, second = (Question(terms, self._session, seat, half).to_bytes() for seat, half in enumerate(halves))
        self.questions: tuple[bytes, bytes] = (first, second)

    def __repr__(self) -> str:
        return "Exchange()"

    def read(self, answers: tuple[bytes, bytes], size: int) -> tuple[Parts, Parts]:
        """Return the parts of both answers, once.

        Args:
            answers: of the first server, and of the second.
            size: bytes of a part.

        Raises:
            ProtocolError: it was read before, or an answer cannot be one to this question; names the server's seat.
        """
        if self._over:
            raise ProtocolError("an exchange is read once")
        first, second = (self._parts_of(seat, content, size) for seat, content in enumerate(answers))
        self._over = True
        return first, second

    def _parts_of(self, seat: int, content: bytes, size: int) -> Parts:
        try:
            answer = bounded(Answer, content, self._terms, self._count, size)
        except ProtocolError as error:
            raise ProtocolError(str(error), blame=seat) from None
        if (answer.session, answer.seat, len(answer.parts)) != (self._session, seat, self._count):
            raise ProtocolError("an answer is to another question, or of the other server", blame=seat)
        return answer.parts


class Steps:
    """What is to be done next by a party to a protocol of several steps: each once, in order, and none after an error.

    Args:
        steps: their names, in order.
    """

    def __init__(self, *steps: str) -> None:
        self._left = [steps]

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Do a step.

        Raises:
            ProtocolError: it is not its turn, or one before it failed.
        """
        try:
            left = self._left.pop()  # in one go: of two threads one gets it
        except IndexError:
            left = ()
        if left[:1] != (name,):
            raise ProtocolError(
                f"this is not the time for {name}: each step comes once, in order, and none after an error"
            )
        yield
        self._left.append(left[1:])


def longest(count: int, size: int) -> int:
    """Return how many bytes a question or an answer of ``count`` parts has."""
    return HEAD_BYTES + count * (4 + size)


def bounded(kind: type[AnyHalf], content: bytes, terms: bytes, most: int, size: int) -> AnyHalf:
    """Read a question or an answer.

    Args:
        kind: of the two.
        content: as it came.
        terms: SHA-256 of what may be asked.
        most: parts that it may have; it has one at least.
        size: bytes of each part.

    Raises:
        ProtocolError: it is something else.
    """
    half = kind.from_bytes(content, longest(most, size))
    if half.terms != terms:
        raise ProtocolError("what is asked is of another table than the one held here; ask for the terms anew")
    if len(half.session) != SESSION_BYTES or half.seat > 1:
        raise ProtocolError("a session has 32 bytes, and there are two servers")
    if not half.parts or any(len(part) != size for part in half.parts):
        raise ProtocolError(f"one to {most} parts of {size} bytes were expected")
    return half


def answered(question: Question, parts: Parts) -> bytes:
    """Return the answer to a question, as bytes."""
    return Answer(question.terms, question.session, question.seat, parts).to_bytes()
