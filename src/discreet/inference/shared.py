"""Two servers compute all scores, and neither learns anything of the history, unless they tell each other.

For models whose scores are a matrix times something of the history. A device holds an outline: the catalogue, which
items were kept, their counts, the scale of each column. It does not hold the matrix.

- ``gram``: the query is the history itself, a number for each kept item.
- ``subspace``: the query is the person's factor, the sum of the encoder's rows of what they know. The device fetches
  those rows unseen (``protocols/retrieval``), once for each item and model, ``AT_ONCE`` at a time: servers learn how
  many times it fetched. It keeps them.

The query goes out as two uniform shares (``protocols/scoring``), also when nothing of the history is known. Quantised:
the matrix to int16 with a scale for each column, the query to the finest integers of which no score wraps. Of these
integers scores are exact. Servers learn that somebody asked, and when. The person learns every score:
as many questions as a query is wide give the matrix away, so this protects people, not models.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from discreet.compiled import compiled
from discreet.data.interactions import Catalogue
from discreet.errors import ProtocolError, SettingError
from discreet.inference.base import History
from discreet.inference.retrieved import FOLD
from discreet.models.popularity import behind, positions_of
from discreet.models.slate import Slate, best
from discreet.models.trained import Trained
from discreet.protocols.retrieval import Retrieval, RetrievalTerms, Retriever
from discreet.protocols.scoring import Scorer, Scoring, ScoringTerms

MOST = 32767
"""Largest absolute value of a quantised matrix."""
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


@dataclass(frozen=True, eq=False)
class Outline:
    """What a device has to know of a model. Public, the same for everybody.

    Attributes:
        catalogue: what the positions mean.
        kept: positions of the items that have scores.
        counts: float32 [items]: what the other items are ranked by, and everything for those who are not known.
        scoring: what servers score with.
        scales: float64 [width]: what one step of a query's source is worth, in steps of the matrix.
        rows: of the encoder, which are the source; None if it is the history itself.
    """

    catalogue: Catalogue = field(repr=False)
    kept: NDArray[np.int64] = field(repr=False)
    counts: NDArray[np.float32] = field(repr=False)
    scoring: ScoringTerms
    scales: NDArray[np.float64] = field(repr=False)
    rows: RetrievalTerms | None


@dataclass(frozen=True, eq=False)
class Kept:
    """What a device keeps until the reply.

    Attributes:
        scoring: its side of the protocol.
        step: what a step of a score is worth.
        known: positions of the history's items.
        unknown: how many of its items are not in the catalogue.
    """

    scoring: Scoring
    step: float = field(repr=False)
    known: NDArray[np.int64] = field(repr=False)
    unknown: int = field(repr=False)


class Factors:
    """What a server holds of a model: the matrix that it scores with, and the rows that it lets devices fetch.

    Args:
        trained: the released model, of kind ``subspace`` or ``gram``.
        most: largest absolute value of the matrix, quantised.

    Raises:
        SettingError: its scores are of another shape, or the same for everybody.

    Attributes:
        matrix: int16 [kept, width].
        scales: see ``Outline``.
    """

    def __init__(self, trained: Trained, most: int = MOST) -> None:
        encoder, decoder = _factors(trained)
        self.matrix, self.scales = quantised(decoder, most)
        self._rows: Retriever | None = None
        if encoder is not None:
            source, steps = quantised(encoder)
            self._rows = Retriever([row.astype("<i2").tobytes() for row in source], FOLD)
            self.scales = self.scales * steps

    @property
    def rows(self) -> RetrievalTerms | None:
        """What rows are fetched by; None if there are none."""
        return None if self._rows is None else self._rows.terms

    def row(self, request: bytes) -> bytes:
        """Return rows of the encoder: see ``Retriever.answer``.

        Raises:
            ProtocolError: this model has none.
        """
        if self._rows is None:
            raise ProtocolError("this model has no rows to fetch; its query is the history")
        return self._rows.answer(request)


class Server(Factors):
    """One of the two servers; both are alike.

    Args:
        trained: the released model, of kind ``subspace`` or ``gram``.

    Raises:
        SettingError: its scores are of another shape, or the same for everybody.
    """

    def __init__(self, trained: Trained) -> None:
        super().__init__(trained)
        state, catalogue = trained.state, trained.catalogue
        self._scorer = Scorer(self.matrix, PRODUCT)
        terms = self._scorer.terms
        self.outline = Outline(catalogue, state["kept"], state["counts"], terms, self.scales, self.rows)

    def answer(self, request: bytes) -> bytes:
        """See ``Scorer.answer``."""
        return self._scorer.answer(request)


class Asker:
    """A person's device, as far as it makes queries. Keeps the rows that it fetched; the history stays in the call.

    Args:
        outline: of the model.
    """

    def __init__(self, outline: Outline) -> None:
        self.outline = outline
        self._places = positions_of(outline.kept, len(outline.catalogue))
        self._rows: dict[int, NDArray[np.int16]] = {}

    def wanted(self, history: History) -> list[tuple[int, ...]]:
        """Return the rows that have to be fetched before this history can be asked with, sixteen at a time, padded."""
        if self.outline.rows is None:
            return []
        missing = [place for place in self._known(history)[0] if place not in self._rows]
        full = missing + missing[-1:] * (-len(missing) % AT_ONCE)
        return [tuple(full[start : start + AT_ONCE]) for start in range(0, len(full), AT_ONCE)]

    def fetch(self, places: Sequence[int]) -> Retrieval:
        """Return the question that fetches rows.

        Raises:
            SettingError: this model has none.
        """
        if self.outline.rows is None:
            raise SettingError("this model has no rows to fetch; its query is the history")
        return Retrieval(self.outline.rows, places)

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
        places, known, unknown = self._known(history)
        query, step = finest(self._source(places) * self.outline.scales, self.outline.scoring)
        return query, step, known, unknown

    def is_stranger(self, known: NDArray[np.int64]) -> bool:
        """Tell whether none of the items says anything: who has no others gets what everybody likes."""
        return bool((self._places[known] < 0).all())

    def _known(self, history: History) -> tuple[list[int], NDArray[np.int64], int]:
        known, unknown = self.outline.catalogue.positions(history)
        places = self._places[known]
        return places[places >= 0].tolist(), known, unknown

    def _source(self, places: list[int]) -> NDArray[np.float64]:
        source = np.zeros(self.outline.scoring.width)
        if self.outline.rows is None:
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
    """

    def __init__(self, outline: Outline, n: int = 10) -> None:
        super().__init__(outline)
        self.n = n

    def ask(self, history: History) -> tuple[tuple[bytes, bytes], Kept]:
        """Share the query out.

        Raises:
            SettingError: the history holds something other than ids.
            ProtocolError: rows of it were not fetched.
        """
        query, step, known, unknown = self.query(history)
        scoring = Scoring(self.outline.scoring, query)
        return scoring.questions, Kept(scoring, step, known, unknown)

    def read(self, reply: tuple[bytes, bytes], kept: Kept) -> Slate:
        """Join the scores, and make the list.

        Raises:
            ProtocolError: a server's answer cannot be one to this question; names its seat.
            SettingError: the list is to be shorter than one.
        """
        among_kept = (kept.scoring.read(reply) * kept.step).astype(np.float32)
        if self.is_stranger(kept.known):
            among_kept = self.outline.counts[self.outline.kept]
        scores = behind(among_kept[None], self.outline.kept, self.outline.counts)[0]
        return best(scores, self.outline.catalogue, self.n, exclude=kept.known, unknown=kept.unknown)


class Shared:
    """All three sides in one process.

    Args:
        trained: the released model.
        n: length of the list.
    """

    def __init__(self, trained: Trained, n: int = 10) -> None:
        self.server = Server(trained)
        self.device = Device(self.server.outline, n)

    def ask(self, history: History) -> tuple[tuple[bytes, bytes], Kept]:
        """Fetch what is wanted; then see ``Device.ask``."""
        fetch_wanted(self.device, (self.server, self.server), history)
        return self.device.ask(history)

    def answer(self, request: tuple[bytes, bytes]) -> tuple[bytes, bytes]:
        """Answer as both servers."""
        first, second = request
        return self.server.answer(first), self.server.answer(second)

    def read(self, reply: tuple[bytes, bytes], kept: Kept) -> Slate:
        """See ``Device.read``."""
        return self.device.read(reply, kept)


def fetch_wanted(device: Asker, servers: tuple[Factors, Factors], history: History) -> None:
    """Carry what a device has to fetch for a history, and what comes of it."""
    for places in device.wanted(history):
        retrieval = device.fetch(places)
        first, second = (server.row(question) for server, question in zip(servers, retrieval.questions, strict=True))
        device.learn(places, retrieval, (first, second))


def quantised(matrix: NDArray[np.floating], most: int = MOST) -> tuple[NDArray[np.int16], NDArray[np.float64]]:
    """Return a matrix [rows, width] as int16 in steps, and the size of a step of each column, float64 [width].

    Args:
        matrix: what is rounded.
        most: largest absolute value that there may be.
    """
    steps = np.maximum(np.abs(matrix).max(axis=0, initial=0.0).astype(np.float64), 1e-30) / most
    return np.rint(matrix / steps).astype(np.int16), steps


def finest(query: NDArray[np.float64], terms: ScoringTerms) -> tuple[NDArray[np.int64], float]:
    """Return the longest integers along a query whose scores all fit, int64 [width], and what their step is worth.

    Rounding makes a vector longer by half the root of its width at most; twice that is left free.
    """
    largest = float(np.abs(query).max())
    if largest == 0.0:
        return np.zeros(terms.width, np.int64), 1.0
    relative = query / largest  # or squares of small numbers might vanish
    step = float(np.linalg.norm(relative)) / (math.sqrt(terms.REACH / max(terms.longest, 1)) - math.sqrt(terms.width))
    return np.rint(relative / step).astype(np.int64), largest * step


def _factors(trained: Trained) -> tuple[NDArray[np.floating] | None, NDArray[np.floating]]:
    """Return what a history is encoded with, [kept, width], or None for itself; and what it is scored with."""
    state = trained.state
    if trained.model.name == "gram":
        return None, state["weights"].T
    if trained.model.name == "subspace" and "encoder" in state:
        return state["encoder"], state["decoder"]
    raise SettingError(f"scores of this {trained.model.name} model are no matrix times a history; score on the device")
