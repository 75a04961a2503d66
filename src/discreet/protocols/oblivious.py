"""The best items for a query, told to whoever asked, in order: no scores to them, and nothing to two servers.

Both servers hold a matrix V, and the client a query u, as in ``scoring``: scores are V u. Each server gets a share of
u, and a share of an exclusion for each row, -2^30 where it is not to be listed, else 0. Their shares of the scores add
up modulo 2^32, and no score is as large as 2^29, so whatever is excluded comes last. A garbled circuit over both shares
(``circuits.chosen``) finds the positions of the ``count`` highest. The first server garbles it, the second evaluates
it; the colours of the output's labels tell the second nothing, and what turns them into bits the first server tells
the client alone.

The first five steps know no query, and are done before there is one. The second server draws its input to the circuit
at random in step 3, and only tells in step 6 by how much its share is larger; the first adds that to its own.

=====  ==============================  =====================================================================
step   from, to                        what
=====  ==============================  =====================================================================
1      evaluator to garbler            a point: begins the transfers (``transfers``)
2      garbler to evaluator            128 points
3      evaluator to garbler            columns: the evaluator's labels, for random bits
4      garbler to evaluator            the circuit, garbled (``garbling``)
5      client to both                  ``Question``: shares of the query and of the exclusions
6      evaluator to garbler            how much its share of the scores is larger than its input
7      garbler to evaluator            labels for the rest: share and difference
8      both to client                  ``Answer``: the output, plus uniform bits; and these bits
=====  ==============================  =====================================================================

Both servers are bound to the terms, to one garbling, and from step 5 on to one session. Whoever is asked for a second
evaluation of a garbling refuses. Trust: servers that follow the protocol, do not tell each other, and want to know
(semi-honest); a server that does not can spoil the list, and the first one can then learn from how it is spoilt what it
should not. Experimental: not audited by anybody. Formal guarantee: ``oblivious.md``.

Source: Yao 1986, as in Bellare, Hoang and Rogaway 2012 (privacy of garbling); Beaver 1995 (inputs before they are
known).

==================================  ====================================================================
edge case                           behaviour
==================================  ====================================================================
fewer than ``count`` rows are left  all that are left, in order
equal scores                        the lower position comes first
a query whose scores reach 2^29     SettingError, nothing is sent
a step twice, or out of order       ProtocolError; so is every step after an error
a message of another garbling       ProtocolError, before its content is read
questions of two sessions           ProtocolError by the first server, before it sends any label
longer, truncated, mixed            ProtocolError, before its content is read
spoilt labels, tables or answers    a list that is wrong, or shorter: the client fails on nothing it reads
==================================  ====================================================================
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from discreet.errors import ProtocolError, SettingError
from discreet.protocols.circuits import chosen, gates_of, position_bits
from discreet.protocols.garbling import LABEL_BYTES, Evaluation, Garbling, Labels, colours, garbled_bytes, times
from discreet.protocols.keys import KEY_BYTES
from discreet.protocols.messages import Message
from discreet.protocols.ring import Residues, Ring
from discreet.protocols.scoring import BITS, Product, Scorer, ScoringTerms, halves
from discreet.protocols.transfers import COLUMNS, POINT_BYTES, Receiver, Sender, column_bytes
from discreet.protocols.two_servers import (
    DIGEST_BYTES,
    SESSION_BYTES,
    Exchange,
    Question,
    Steps,
    answered,
    bounded,
    longest,
)

MOST_ROWS, MOST_COUNT = 1 << 14, 64
EXCLUSION = -(1 << 30)
"""What is added to the score of a row that is not to be listed: no score reaches half of it."""

GARBLER, EVALUATOR = 0, 1
"""Seats of the two servers."""

_HEAD_BYTES = 122
"""Of what servers send each other: kind and version, three digests, a step, and a length."""


class Step(IntEnum):
    """What a server sends the other."""

    POINT = 1
    POINTS = 2
    COLUMNS = 3
    CIRCUIT = 4
    DIFFERENCE = 6
    LABELS = 7


@dataclass(frozen=True, repr=False)
class SelectionTerms(ScoringTerms):
    """What is asked. Public. Of a matrix, and

    Attributes:
        count: how many rows are told, 1 to 64.
    """

    KIND = 24
    REACH: ClassVar[int] = (EXCLUSION // 2) ** 2

    count: int

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.rows > MOST_ROWS or not 1 <= self.count <= min(MOST_COUNT, self.rows):
            raise ProtocolError(f"1 to {MOST_COUNT} rows are told, of {MOST_ROWS} at most, and no more than there are")

    @property
    def gates(self) -> int:
        """How many AND gates the circuit has."""
        return gates_of(BITS, self.rows, self.count)

    @property
    def answer_size(self) -> int:
        """Bytes of an answer's part."""
        return (position_bits(self.rows, self.count) * self.count + 7) // 8

    def passed_size(self, step: Step) -> int:
        """Return the bytes of what a server sends the other in a step."""
        bits = BITS * self.rows
        contents = {
            Step.POINT: POINT_BYTES,
            Step.POINTS: COLUMNS * POINT_BYTES,
            Step.COLUMNS: column_bytes(bits),
            Step.CIRCUIT: garbled_bytes(self.gates),
            Step.DIFFERENCE: 4 * self.rows,
            Step.LABELS: LABEL_BYTES * bits,
        }
        return _HEAD_BYTES + contents[step]

    def question_size(self, seat: int) -> int:
        """Return the bytes of a question's part: a share of the query; and a seed, or a share of the exclusions."""
        return 4 * self.width + (KEY_BYTES if seat == GARBLER else 4 * self.rows)


@dataclass(frozen=True, repr=False)
class Passed(Message):
    """From one server, for the other.

    Attributes:
        terms: SHA-256 of what is asked.
        garbling: 32 bytes, new for each garbling.
        session: of the question, 32 bytes; zeros as long as there is none.
        step: see ``Step``.
        content: of the step.
    """

    KIND = 25

    terms: bytes
    garbling: bytes
    session: bytes
    step: int
    content: bytes


@dataclass(frozen=True, eq=False, repr=False)
class Share:
    """A server's share of the scores of one question.

    Attributes:
        question: as it came.
        scores: uint32 [rows].
    """

    question: Question
    scores: Residues

    def __repr__(self) -> str:
        return "Share()"


class Selection:
    """The client's side of one question.

    Args:
        terms: as announced.
        query: int64 [width].
        excluded: positions of rows that are not to be listed.

    Raises:
        SettingError: the query is of another type or length, or its scores might reach 2^29, or a position is out of
            the table; nothing may be sent.
    """

    def __init__(self, terms: SelectionTerms, query: NDArray[np.int64], excluded: Sequence[int] = ()) -> None:
        if not all(0 <= position < terms.rows for position in excluded):
            raise SettingError(f"a row to be excluded is out of the table of {terms.rows}")
        first, second = halves(terms, query)
        self._terms, self._excluded, seed = terms, frozenset(excluded), secrets.token_bytes(KEY_BYTES)
        exclusions, ring = np.zeros(terms.rows, np.int64), Ring(BITS, terms.rows)
        exclusions[list(self._excluded)] = EXCLUSION
        rest = ring.lower(exclusions)
        ring.mask(rest, [], [seed])
        self._exchange = Exchange(terms.digest, ((first + seed,), (second + rest.astype("<u4").tobytes(),)))

    def __repr__(self) -> str:
        return "Selection()"

    @property
    def questions(self) -> tuple[bytes, bytes]:
        """What to send to the garbler, and what to the evaluator."""
        return self._exchange.questions

    def read(self, answers: tuple[bytes, bytes]) -> tuple[int, ...]:
        """Return the positions of the best rows that were not excluded, best first, once.

        What answers hold is never refused, or a server that spoils it would see what it was: a position that there is
        none of, is excluded or came before is left out.

        Raises:
            ProtocolError: an answer cannot be one to this question; names the server's seat.
        """
        (first,), (second,) = self._exchange.read(answers, self._terms.answer_size)
        shape = position_bits(self._terms.rows, self._terms.count), self._terms.count
        both = np.frombuffer(first, np.uint8) ^ np.frombuffer(second, np.uint8)
        bits = np.unpackbits(both, count=shape[0] * shape[1], bitorder="little").reshape(shape)
        positions = dict.fromkeys((1 << np.arange(shape[0])) @ bits.astype(np.int64))
        return tuple(int(at) for at in positions if at < self._terms.rows and at not in self._excluded)


class Selector:
    """What one of the two servers holds.

    Args:
        matrix: int16 [rows, width].
        count: how many rows are told.
        seat: of this server: 0 garbles, 1 evaluates.
        product: see ``Scorer``.

    Raises:
        SettingError: the matrix is something else, or there are two seats, and this is none.
        ProtocolError: the matrix is larger than one may be, or has fewer rows than are to be told.
    """

    def __init__(self, matrix: NDArray[np.int16], count: int, seat: int, product: Product | None = None) -> None:
        if seat not in {GARBLER, EVALUATOR}:
            raise SettingError(f"there are two servers, 0 and 1, not {seat}")
        self._scorer, self._seat = Scorer(matrix, product), seat
        of = self._scorer.terms
        self.terms = SelectionTerms(of.table, of.rows, of.width, of.longest, count)

    def __repr__(self) -> str:
        return f"Selector({self.terms.rows} rows)"

    @property
    def most(self) -> int:
        """How many bytes a question may have."""
        return longest(1, self.terms.question_size(self._seat))

    def question(self, content: bytes) -> Question:
        """Read a question.

        Raises:
            ProtocolError: it is none, or about another matrix, or for the other server.
        """
        question = bounded(Question, content, self.terms.digest, 1, self.terms.question_size(self._seat))
        if question.seat != self._seat:
            raise ProtocolError("a question is for the other server")
        return question

    def share(self, content: bytes) -> Share:
        """Return the share of the scores that a question gives this server. Raises ProtocolError as ``question``."""
        question = self.question(content)
        query, rest = question.parts[0][: 4 * self.terms.width], question.parts[0][4 * self.terms.width :]
        scores = self._scorer.multiplied(query).astype(np.uint32)
        if self._seat == GARBLER:
            Ring(BITS, self.terms.rows).mask(scores, [rest], [])
        else:
            scores += np.frombuffer(rest, "<u4")
        return Share(question, scores)


class _Party:
    """A server's side of one garbling: what it sends names it, and so must what it gets."""

    def __init__(self, terms: SelectionTerms, garbling: bytes, *steps: str) -> None:
        self._terms, self._steps = terms, Steps(*steps)
        self._head = terms.digest, garbling, bytes(SESSION_BYTES)
        self._count, self._shape = BITS * terms.rows, (BITS, terms.rows, 2)

    def __repr__(self) -> str:
        return f"{type(self).__name__}()"

    @property
    def garbling(self) -> bytes:
        """What both sides know this garbling by."""
        return self._head[1]

    def _passed(self, step: Step, content: bytes) -> bytes:
        return Passed(*self._head, step, content).to_bytes()

    def _content(self, message: bytes, step: Step) -> bytes:
        size = self._terms.passed_size(step) - _HEAD_BYTES
        passed = Passed.from_bytes(message, _HEAD_BYTES + size)
        if (passed.terms, passed.garbling, passed.session, passed.step) != (*self._head, step):
            raise ProtocolError("a message of the other server is of another garbling, question or step")
        if len(passed.content) != size:
            raise ProtocolError(f"{size} bytes were expected of the other server, {len(passed.content)} came")
        return passed.content

    def _asked(self, share: Share, seat: int) -> None:
        """Bind what follows to the session of a question."""
        question = share.question
        if (question.terms, question.seat, share.scores.shape) != (self._terms.digest, seat, (self._terms.rows,)):
            raise ProtocolError("a share is of other terms, or of the other server")
        self._head = *self._head[:2], question.session


class Garbler(_Party):
    """The first server's side of one garbling, for one question.

    Args:
        terms: what will be asked.
        garbling: as the evaluator calls it.

    Raises:
        ProtocolError: that is not 32 bytes.
    """

    def __init__(self, terms: SelectionTerms, garbling: bytes) -> None:
        if len(garbling) != DIGEST_BYTES:
            raise ProtocolError("a garbling is known by 32 bytes")
        super().__init__(terms, garbling, "the points", "the circuit", "the labels")
        self._transfers = Sender(terms.digest + garbling, self._count)

    def points(self, message: bytes) -> bytes:
        """Take step 1, and return step 2.

        Raises:
            ProtocolError: it is something else, or came at the wrong time.
        """
        with self._steps.step("the points"):
            return self._passed(Step.POINTS, self._transfers.points(self._content(message, Step.POINT)))

    def circuit(self, message: bytes) -> bytes:
        """Take step 3, garble, and return step 4.

        Raises:
            ProtocolError: it is something else, or came at the wrong time.
        """
        with self._steps.step("the circuit"):
            columns = self._content(message, Step.COLUMNS)
            theirs = self._transfers.labels(columns).reshape(self._shape)
            drawn = secrets.token_bytes(LABEL_BYTES * self._count)
            self._own: Labels = np.frombuffer(drawn, "<u8").reshape(self._shape)
            gates = Garbling(self._transfers.delta, self._terms.gates)
            self._masks = _packed(chosen(gates, self._own, theirs, self._terms.count))
            return self._passed(Step.CIRCUIT, gates.content)

    def labels(self, share: Share, message: bytes) -> tuple[bytes, bytes]:
        """Take this server's share and step 6, and return step 7, and the answer for the client.

        Raises:
            ProtocolError: the evaluator was asked something else, or a message came at the wrong time.
        """
        with self._steps.step("the labels"):
            self._asked(share, GARBLER)
            content = self._content(message, Step.DIFFERENCE)
            delta = self._transfers.delta
            bits = _bits(share.scores + np.frombuffer(content, "<u4"))
            held = self._own ^ times(bits, np.stack([np.zeros_like(delta), delta]))
            return self._passed(Step.LABELS, held.tobytes()), answered(share.question, (self._masks,))


class Evaluator(_Party):
    """The second server's side of one garbling, for one question.

    Args:
        terms: what will be asked.
    """

    def __init__(self, terms: SelectionTerms) -> None:
        garbling = secrets.token_bytes(DIGEST_BYTES)
        steps = ("the point", "the columns", "the circuit", "the difference", "the answer")
        super().__init__(terms, garbling, *steps)
        self._transfers = Receiver(terms.digest + garbling, self._count)
        self._input = np.frombuffer(secrets.token_bytes(4 * terms.rows), "<u4")

    def point(self) -> bytes:
        """Return step 1.

        Raises:
            ProtocolError: it is not its turn.
        """
        with self._steps.step("the point"):
            return self._passed(Step.POINT, self._transfers.point())

    def columns(self, message: bytes) -> bytes:
        """Take step 2, and return step 3.

        Raises:
            ProtocolError: it is something else, or came at the wrong time.
        """
        with self._steps.step("the columns"):
            points = self._content(message, Step.POINTS)
            choices = np.packbits(_bits(self._input), bitorder="little")
            columns, held = self._transfers.columns(points, choices)
            self._own = held.reshape(self._shape)
            return self._passed(Step.COLUMNS, columns)

    def keep(self, message: bytes) -> None:
        """Take step 4, and keep it until there is a question.

        Raises:
            ProtocolError: it is something else, or came at the wrong time.
        """
        with self._steps.step("the circuit"):
            gates = self._terms.gates
            self._gates = Evaluation(self._content(message, Step.CIRCUIT), gates)

    def difference(self, share: Share) -> bytes:
        """Take this server's share, and return step 6.

        Raises:
            ProtocolError: it is of other terms, or came at the wrong time.
        """
        with self._steps.step("the difference"):
            self._asked(share, EVALUATOR)
            self._question = share.question
            return self._passed(Step.DIFFERENCE, (share.scores - self._input).astype("<u4").tobytes())

    def answer(self, message: bytes) -> bytes:
        """Take step 7, evaluate, and return the answer for the client.

        Raises:
            ProtocolError: it is something else, or came at the wrong time.
        """
        with self._steps.step("the answer"):
            content = self._content(message, Step.LABELS)
            theirs = np.frombuffer(content, "<u8").reshape(self._shape)
            return answered(self._question, (_packed(chosen(self._gates, theirs, self._own, self._terms.count)),))


def _bits(values: Residues) -> NDArray[np.uint8]:
    """Return the bits of numbers, lowest first: [32, values]."""
    return (values[None] >> np.arange(BITS, dtype=np.uint32)[:, None]).astype(np.uint8) & np.uint8(1)


def _packed(labels: Labels) -> bytes:
    """Return the colours of labels as bytes."""
    return np.packbits(colours(labels), bitorder="little").tobytes()
