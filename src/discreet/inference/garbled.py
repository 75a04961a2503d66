"""Two servers find a person's list, and learn nothing of the history or of the list; the person learns no scores.

Experimental: garbled circuits (``protocols/oblivious``), for servers that follow the protocol and do not tell each
other (semi-honest), and audited by nobody. Queries are made as in ``shared``, of the same models, a little coarser.

The circuit ranks the ``candidates`` most frequent of the items that have scores, and tells their positions alone. Of
each question servers learn that somebody asked, when, and how often rows were fetched before. What is known is left out
within the circuit. The matrix cannot be read off lists as it can off scores, but a person who asks for something else
than their list can compare scores as they like, one list after the other: quotas bound how fast.

A garbling is for one question. It can be made before there is one (``prepare``), and then a question costs little more
than its evaluation. Slates have no scores: in their place stand whole numbers that fall by one, and below zero what
follows by how frequent it is where fewer are left than the list is long.
"""

from __future__ import annotations

from collections import deque
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from discreet.errors import ProtocolError, SettingError
from discreet.inference.base import History
from discreet.inference.outline import Kept, Outline
from discreet.inference.retrieved import Answer
from discreet.inference.shared import PRODUCT, Asker, Factors, fetch_wanted
from discreet.models.slate import Slate, behind, best, positions_of
from discreet.models.trained import Trained
from discreet.protocols.oblivious import (
    EVALUATOR,
    GARBLER,
    MOST_COUNT,
    MOST_ROWS,
    Evaluator,
    Garbler,
    Selection,
    SelectionTerms,
    Selector,
    Share,
)
from discreet.protocols.two_servers import Question

MOST = 4095
"""Largest absolute value of a quantised matrix: what it has more, the query has less, as no score may reach 2^29."""
CANDIDATES = 4_000
SELECTION = "selection"
"""Terms in an outline."""


class Server(Factors):
    """One of the two servers.

    Args:
        trained: the released model, of kind ``subspace`` or ``gram``.
        seat: 0 garbles, 1 evaluates.
        n: length of every list, 1 to 64.
        candidates: how many items are selected from, the most frequent of those that have scores; 1 to 16,384.

    Raises:
        SettingError: one of these is something else.
    """

    def __init__(self, trained: Trained, seat: int, n: int = 10, candidates: int = CANDIDATES) -> None:
        if not 1 <= n <= MOST_COUNT or not 1 <= candidates <= MOST_ROWS:
            raise SettingError(f"lists have 1 to {MOST_COUNT} items, out of 1 to {MOST_ROWS} candidates")
        super().__init__(trained, MOST)
        places = most_frequent(trained.state["kept"], trained.state["counts"], candidates)
        self._selector = Selector(self.matrix[places], min(n, len(places)), seat, PRODUCT)
        self.terms = self._selector.terms
        self.outline = self.outlined(SELECTION, self.terms)

    @property
    def most(self) -> int:
        """How many bytes a question may have."""
        return self._selector.most

    def question(self, request: bytes) -> Question:
        """Read one half of a question: see ``Selector.question``."""
        return self._selector.question(request)

    def share(self, request: bytes) -> Share:
        """Return what one half of a question gives this server: see ``Selector.share``."""
        return self._selector.share(request)


class Device(Asker):
    """The person's side.

    Args:
        outline: of the model.
        n: length of the list; longer than what servers select, it goes on with what is frequent.

    Raises:
        ProtocolError: the outline is of another way, or damaged.
    """

    terms: SelectionTerms

    def __init__(self, outline: Outline, n: int = 10) -> None:
        super().__init__(outline, SELECTION, SelectionTerms)
        if self.terms.rows > len(outline.kept):
            raise ProtocolError("the outline's parts do not fit together; ask for it again")
        self.n = n
        self._candidates = outline.kept[most_frequent(outline.kept, outline.counts, self.terms.rows)]
        self._rows_of = positions_of(self._candidates, len(outline.catalogue))

    def ask(self, history: History) -> tuple[tuple[bytes, bytes], Kept[Selection]]:
        """Share out the query, and what is known.

        Raises:
            SettingError: the history holds something other than ids.
            ProtocolError: rows of it were not fetched.
        """
        query, _, known, unknown = self.query(history)
        excluded = self._rows_of[known]
        selection = Selection(self.terms, query, excluded[excluded >= 0].tolist())
        return selection.questions, Kept(selection, known, unknown)

    def read(self, reply: tuple[bytes, bytes], kept: Kept[Selection]) -> Slate:
        """Join both answers, and make the list.

        Raises:
            ProtocolError: a server's answer cannot be one to this question; names its seat.
        """
        listed = self._candidates[list(kept.side.read(reply))]
        ranks = np.arange(len(listed), 0, -1, dtype=np.float32)
        if not np.isin(kept.known, self.outline.kept).any():
            listed, ranks = self.outline.kept, self.outline.counts[self.outline.kept]
        scores = behind(ranks[None], listed, self.outline.counts)[0]
        return best(scores, self.outline.catalogue, self.n, exclude=kept.known, unknown=kept.unknown)


class Pair:
    """Both servers in one process, with garblings made ahead.

    Args:
        garbler: the first.
        evaluator: the second.
    """

    def __init__(self, garbler: Server, evaluator: Server) -> None:
        self.servers = (garbler, evaluator)
        self._ready: deque[tuple[Garbler, Evaluator]] = deque()

    def prepare(self, questions: int = 1) -> None:
        """Make a garbling for each of as many questions; those for which there is none are waited for."""
        self._ready.extend(prepared(self.servers[0].terms) for _ in range(questions))

    def answer(self, request: tuple[bytes, bytes]) -> tuple[bytes, bytes]:
        """Answer as both servers. What is no question costs no garbling."""
        first, second = (server.share(half) for server, half in zip(self.servers, request, strict=True))
        try:
            garbler, evaluator = self._ready.popleft()
        except IndexError:
            garbler, evaluator = prepared(self.servers[0].terms)
        labels, masks = garbler.labels(first, evaluator.difference(second))
        return masks, evaluator.answer(labels)

    def rows(self) -> tuple[Answer, Answer]:
        """How each server answers questions for rows."""
        return self.servers[0].row, self.servers[1].row


class Answering(Protocol):
    """The two servers, wherever they are."""

    def answer(self, request: tuple[bytes, bytes]) -> tuple[bytes, bytes]:
        """Answer, after talking to each other."""

    def rows(self) -> tuple[Answer, Answer]:
        """How each server answers questions for rows."""


class Garbled:
    """A device, and two servers.

    Args:
        device: of the person.
        servers: whom it asks.
    """

    def __init__(self, device: Device, servers: Answering) -> None:
        self.device, self.servers = device, servers

    @classmethod
    def here(cls, trained: Trained, n: int = 10, candidates: int = CANDIDATES) -> Garbled:
        """Return all three in one process; see ``Server``."""
        pair = Pair(Server(trained, GARBLER, n, candidates), Server(trained, EVALUATOR, n, candidates))
        return cls(Device(pair.servers[0].outline, n), pair)

    def ask(self, history: History) -> tuple[tuple[bytes, bytes], Kept[Selection]]:
        """Fetch what is wanted; then see ``Device.ask``."""
        fetch_wanted(self.device, self.servers.rows(), history)
        return self.device.ask(history)

    def answer(self, request: tuple[bytes, bytes]) -> tuple[bytes, bytes]:
        """See ``Answering.answer``."""
        return self.servers.answer(request)

    def read(self, reply: tuple[bytes, bytes], kept: Kept[Selection]) -> Slate:
        """See ``Device.read``."""
        return self.device.read(reply, kept)


def most_frequent(kept: NDArray[np.int64], counts: NDArray[np.float32], candidates: int) -> NDArray[np.int64]:
    """Return places of the most frequent of the kept items, ascending. Both sides compute it from what is public."""
    return np.sort(np.argsort(-counts[kept], kind="stable")[:candidates])


def prepared(terms: SelectionTerms) -> tuple[Garbler, Evaluator]:
    """Carry what both servers say before there is a question."""
    evaluator = Evaluator(terms)
    garbler = Garbler(terms, evaluator.garbling)
    evaluator.keep(garbler.circuit(evaluator.columns(garbler.points(evaluator.point()))))
    return garbler, evaluator
