"""Two servers compute all scores, and neither learns anything of the history, unless they tell each other.

A device holds an outline (``inference/outline``), not the matrix. If the query is a factor, the device fetches the
encoder's rows of what its person knows, unseen (``protocols/retrieval``), once for each item and model, ``AT_ONCE`` at
a time: servers learn how many times it fetched. It keeps them.

The query goes out as two uniform shares (``protocols/scoring``), also when nothing of the history is known. The matrix
is rounded to 16 bits. Servers learn that somebody asked, and when. The person learns every score: as many questions as
a query is wide give the matrix away, so this protects people, not models.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from discreet.compiled import compiled
from discreet.errors import ProtocolError, SettingError
from discreet.inference.base import History
from discreet.inference.outline import Kept, Outline, factors, finest, quantised
from discreet.inference.retrieved import FOLD, Answer, of_both
from discreet.models.slate import Slate
from discreet.models.trained import Trained
from discreet.protocols.retrieval import Retrieval, RetrievalTerms, Retriever
from discreet.protocols.scoring import Scorer, Scoring, ScoringTerms

MOST = 32767
"""Largest absolute value of a quantised matrix."""
SCORING, ROWS = "scoring", "rows"
"""Terms in an outline."""
AT_ONCE = 16
"""Rows of an encoder that are fetched by one question; fewer are padded."""


@compiled
def _product(matrix: NDArray[np.int16], share: NDArray[np.uint32]) -> NDArray[np.uint32]:
    """See ``scoring.Product``. A product is below 2^47, and at most 2^14 are added: int64 holds them."""
    scores = np.empty(matrix.shape[0], np.uint32)
    for i in range(matrix.shape[0]):
        total = np.int64(0)
        for j in range(matrix.shape[1]):
            total += np.int64(matrix[i, j]) * np.int64(share[j])
        scores[i] = total & 0xFFFFFFFF
    return scores


PRODUCT = _product if hasattr(_product, "py_func") else None
"""The fastest there is: interpreted, loops over a matrix would take minutes."""


class Factors:
    """What a server holds of a model: the matrix that it scores with, and the rows that it lets devices fetch.

    Args:
        trained: the released model, of kind ``subspace`` or ``gram``.
        most: largest absolute value of the matrix, in steps.

    Raises:
        SettingError: its scores are of another shape, or the same for everybody.

    Attributes:
        matrix: int16 [kept, width].
    """

    def __init__(self, trained: Trained, most: int) -> None:
        encoder, decoder = factors(trained)
        self.matrix, self._scales = quantised(decoder, most)
        self._rows: Retriever | None = None
        if encoder is not None:
            source, steps = quantised(encoder, MOST)
            self._rows = Retriever([row.astype("<i2").tobytes() for row in source], FOLD)
            self._scales = self._scales * steps
        self._trained = trained

    @property
    def most_of_rows(self) -> int:
        """How many bytes a question for rows may have."""
        return 0 if self._rows is None else self._rows.most

    def row(self, request: bytes) -> bytes:
        """Return rows of the encoder: see ``Retriever.answer``.

        Raises:
            ProtocolError: this model has none.
        """
        if self._rows is None:
            raise ProtocolError("this model has no rows to fetch; its query is the history")
        return self._rows.answer(request)

    def outlined(self, name: str, terms: ScoringTerms) -> Outline:
        """Return what a device has to know of the model, and of what is asked."""
        rows = {} if self._rows is None else {ROWS: self._rows.terms.to_bytes()}
        state, told = self._trained.state, {name: terms.to_bytes()} | rows
        return Outline(self._trained.catalogue, state["kept"], state["counts"], self._scales, told)


class Server(Factors):
    """One of the two servers; both are alike.

    Args:
        trained: the released model, of kind ``subspace`` or ``gram``.

    Raises:
        SettingError: its scores are of another shape, or the same for everybody.
    """

    def __init__(self, trained: Trained) -> None:
        super().__init__(trained, MOST)
        self._scorer = Scorer(self.matrix, PRODUCT)
        self.outline = self.outlined(SCORING, self._scorer.terms)

    @property
    def most(self) -> int:
        """How many bytes a question may have."""
        return self._scorer.most

    def answer(self, request: bytes) -> bytes:
        """See ``Scorer.answer``."""
        return self._scorer.answer(request)


class Asker:
    """A person's device, as far as it makes queries. Keeps the rows that it fetched; the history stays in the call.

    Args:
        outline: of the model.
        name: of the terms in it.
        kind: of the terms.

    Raises:
        ProtocolError: the outline is of another way, or damaged.
    """

    def __init__(self, outline: Outline, name: str, kind: type[ScoringTerms]) -> None:
        if name not in outline.terms:
            raise ProtocolError("this outline is of another way to make lists; ask for the right one")
        self.outline, self.terms = outline, kind.from_bytes(outline.terms[name])
        self._retrieval = RetrievalTerms.from_bytes(outline.terms[ROWS]) if ROWS in outline.terms else None
        rows = len(outline.kept) if self._retrieval is None else self._retrieval.records
        if self.terms.width != len(outline.scales) or rows != len(outline.kept):
            raise ProtocolError("the outline's parts do not fit together; ask for it again")
        self._rows: dict[int, NDArray[np.int16]] = {}

    def wanted(self, history: History) -> list[tuple[int, ...]]:
        """Return the rows that have to be fetched before this history can be asked with, sixteen at a time, padded."""
        if self._retrieval is None:
            return []
        missing = [place for place in self.outline.known(history)[0] if place not in self._rows]
        full = missing + missing[-1:] * (-len(missing) % AT_ONCE)
        return [tuple(full[start : start + AT_ONCE]) for start in range(0, len(full), AT_ONCE)]

    def fetch(self, places: Sequence[int]) -> Retrieval:
        """Return the question that fetches rows.

        Raises:
            SettingError: this model has none.
        """
        if self._retrieval is None:
            raise SettingError("this model has no rows to fetch; its query is the history")
        return Retrieval(self._retrieval, places)

    def learn(self, places: Sequence[int], retrieval: Retrieval, reply: tuple[bytes, bytes]) -> None:
        """Keep the rows that came.

        Raises:
            ProtocolError: a server's answer cannot be one to this question; names its seat.
        """
        for place, row in zip(places, retrieval.read(reply), strict=True):
            self._rows[place] = np.frombuffer(row, "<i2")

    def query(self, history: History) -> tuple[NDArray[np.int64], float, NDArray[np.int64], int]:
        """Return the query of a history, what a step of its scores is worth, and what is known: see ``Kept``.

        Raises:
            SettingError: the history holds something other than ids.
            ProtocolError: rows of it were not fetched.
        """
        places, known, unknown = self.outline.known(history)
        source = self._source(places) * self.outline.scales
        query, step = finest(source, self.terms.longest, math.sqrt(self.terms.REACH))
        return query, step, known, unknown

    def _source(self, places: list[int]) -> NDArray[np.float64]:
        source = np.zeros(self.terms.width)
        if self._retrieval is None:
            source[places] = 1.0
            return source
        for place in places:
            if place not in self._rows:
                raise ProtocolError("rows of the history are not here; fetch what is wanted first")
            source += self._rows[place]
        return source


class Device(Asker):
    """The person's side.

    Args:
        outline: of the model.
        n: length of the list.

    Raises:
        ProtocolError: the outline is of another way, or damaged.
    """

    def __init__(self, outline: Outline, n: int = 10) -> None:
        super().__init__(outline, SCORING, ScoringTerms)
        if self.terms.rows != len(outline.kept):
            raise ProtocolError("the outline's parts do not fit together; ask for it again")
        self.n = n

    def ask(self, history: History) -> tuple[tuple[bytes, bytes], Kept[Scoring]]:
        """Share the query out.

        Raises:
            SettingError: the history holds something other than ids.
            ProtocolError: rows of it were not fetched.
        """
        query, step, known, unknown = self.query(history)
        scoring = Scoring(self.terms, query)
        return scoring.questions, Kept(scoring, known, unknown, step)

    def read(self, reply: tuple[bytes, bytes], kept: Kept[Scoring]) -> Slate:
        """Join the scores, and make the list.

        Raises:
            ProtocolError: a server's answer cannot be one to this question; names its seat.
            SettingError: the list is to be shorter than one.
        """
        among_kept = (kept.side.read(reply) * kept.step).astype(np.float32)
        return self.outline.listed(among_kept, kept.known, kept.unknown, self.n)


class Answering(Protocol):
    """One of the two servers, wherever it is."""

    def answer(self, request: bytes) -> bytes:
        """Return its half of the scores."""

    def row(self, request: bytes) -> bytes:
        """Return its half of rows of the encoder."""


class Shared:
    """A device, and two servers that it asks at once.

    Args:
        device: of the person.
        servers: the first, and the second.
    """

    def __init__(self, device: Device, servers: tuple[Answering, Answering]) -> None:
        self.device, self.servers = device, servers

    @classmethod
    def here(cls, trained: Trained, n: int = 10) -> Shared:
        """Return all three in one process."""
        server = Server(trained)
        return cls(Device(server.outline, n), (server, server))

    def ask(self, history: History) -> tuple[tuple[bytes, bytes], Kept[Scoring]]:
        """Fetch what is wanted; then see ``Device.ask``."""
        fetch_wanted(self.device, (self.servers[0].row, self.servers[1].row), history)
        return self.device.ask(history)

    def answer(self, request: tuple[bytes, bytes]) -> tuple[bytes, bytes]:
        """Answer as both servers."""
        return of_both([each.answer for each in self.servers], request)

    def read(self, reply: tuple[bytes, bytes], kept: Kept[Scoring]) -> Slate:
        """See ``Device.read``."""
        return self.device.read(reply, kept)


def fetch_wanted(device: Asker, servers: tuple[Answer, Answer], history: History) -> None:
    """Carry what a device has to fetch for a history, and what comes of it."""
    for places in device.wanted(history):
        retrieval = device.fetch(places)
        device.learn(places, retrieval, of_both(servers, retrieval.questions))
