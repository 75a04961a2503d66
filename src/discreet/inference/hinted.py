"""One server sends an item's page, and learns nothing of which, at the price of a hint that is downloaded before.

SimplePIR (``protocols/simple_pir``) behind ask, answer, read. Where there are two servers that do not tell each other,
``retrieved`` costs less; below 256 MiB, downloading all pages does.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from discreet.compiled import compiled
from discreet.data.catalogue import Catalogue
from discreet.errors import ProtocolError, SettingError
from discreet.inference.base import History
from discreet.inference.outline import Outline
from discreet.inference.retrieved import (
    LENGTH_BYTES,
    Answer,
    outline_of_pages,
    padded,
    positions_wanted,
    terms_of_pages,
    unpadded,
)
from discreet.protocols.simple_pir import Fetcher, Fetching, Hint, TableTerms, multiplied

TABLE = "table"
"""Terms in an outline."""
LEAST_TABLE = 256 << 20
"""Bytes of all records below which a device had better download them."""
SLAB = 1 << 12
"""Rows that are multiplied at a time while a hint is made: 64 megabytes of them."""


@compiled
def _product(matrix: NDArray[np.int8], vector: NDArray[np.uint32]) -> NDArray[np.uint32]:
    """Multiply modulo 2^32. A product is below 2^39, and at most 2^20 are added: int64 holds them."""
    values = np.empty(matrix.shape[0], np.uint32)
    for i in range(matrix.shape[0]):
        total = np.int64(0)
        for j in range(matrix.shape[1]):
            total += np.int64(matrix[i, j]) * np.int64(vector[j])
        values[i] = total & 0xFFFFFFFF
    return values


def _multiplied(matrix: NDArray[np.int8], right: NDArray[np.uint32]) -> NDArray[np.uint32]:
    """See ``simple_pir.Product``. Of halves of 16 bits, sums of products below 2^23 are whole numbers below 2^53."""
    if right.shape[1] == 1:
        return _product(matrix, right.reshape(-1))[:, None]
    halves = [(right & np.uint32(0xFFFF)).astype(np.float64), (right >> np.uint32(16)).astype(np.float64)]
    parts = []
    for at in range(0, len(matrix), SLAB):
        left = matrix[at : at + SLAB].astype(np.float64)
        low, high = ((left @ half).astype(np.int64) for half in halves)
        parts.append(((low + (high << 16)) & 0xFFFFFFFF).astype(np.uint32))
    return np.concatenate(parts)


MULTIPLIED = _multiplied if hasattr(_product, "py_func") else multiplied
"""The fastest there is."""


@dataclass(frozen=True)
class HintedKept:
    """What a device keeps until the reply: its side of each question, the wanted ones first.

    Attributes:
        fetching: ``at_once`` of them.
        wanted: how many pages it wants; the rest is padding.
    """

    fetching: tuple[Fetching, ...]
    wanted: int


@dataclass(frozen=True)
class HintedReader:
    """The person's side, with one server.

    Attributes:
        hint: of the table of pages, and its terms.
        catalogue: whose positions the pages have.
        at_once: how many pages every question asks for, 1 to 64; fewer are padded.
    """

    hint: Hint
    catalogue: Catalogue = field(repr=False)
    at_once: int = 1

    @classmethod
    def of(cls, outline: Outline, hint: bytes, at_once: int = 1) -> HintedReader:
        """Return a reader of what a server told of its pages.

        Raises:
            ProtocolError: it told something else.
        """
        terms = TableTerms.from_bytes(terms_of_pages(outline, TABLE))
        if terms.records != len(outline.catalogue):
            raise ProtocolError("the outline's parts do not fit together; ask for it again")
        return cls(Hint(terms, hint), outline.catalogue, at_once)

    def ask(self, history: History) -> tuple[tuple[bytes, ...], HintedKept]:
        """Ask for the pages of items.

        Raises:
            SettingError: they are more than ``at_once``, or one is not in the catalogue.
        """
        positions, wanted = positions_wanted(self.catalogue, history, self.at_once)
        fetching = tuple(Fetching(self.hint, position) for position in positions)
        return tuple(each.question for each in fetching), HintedKept(fetching, wanted)

    def read(self, reply: tuple[bytes, ...], kept: HintedKept) -> tuple[bytes, ...]:
        """Return the pages, in the order in which they were asked for.

        Raises:
            ProtocolError: an answer cannot be one to this question, or there are not as many.
        """
        if len(reply) != len(kept.fetching):
            raise ProtocolError(f"{len(kept.fetching)} answers were expected, {len(reply)} came")
        records = [each.read(answer) for each, answer in zip(kept.fetching, reply, strict=True)]
        return tuple(map(unpadded, records[: kept.wanted]))


class HintedLibrary:
    """The one server.

    Args:
        pages: of each item of the catalogue, in its order.
        least: bytes of all records below which none is made; 0 makes one of any table.

    Raises:
        SettingError: the table is smaller: let devices download it.
    """

    def __init__(self, pages: Sequence[bytes], least: int = LEAST_TABLE) -> None:
        size = LENGTH_BYTES + max(map(len, pages), default=0)
        if size * len(pages) < least:
            raise SettingError(
                f"a table of {size * len(pages):,} bytes is better downloaded; for a hint, lower `least`"
            )
        self._fetcher = Fetcher([padded(page, size) for page in pages], MULTIPLIED)
        self.terms, self.hint = self._fetcher.terms, self._fetcher.hint

    @property
    def most(self) -> int:
        """How many bytes a question may have."""
        return self._fetcher.most

    def answer(self, request: bytes) -> bytes:
        """See ``Fetcher.answer``."""
        return self._fetcher.answer(request)

    def outline(self, catalogue: Catalogue) -> Outline:
        """Return what a reader has to know of pages of these items, beside the hint."""
        return outline_of_pages(catalogue, TABLE, self.terms)


class Hinted:
    """A reader, and a server.

    Args:
        reader: the person's side.
        server: how it answers one question.
    """

    def __init__(self, reader: HintedReader, server: Answer) -> None:
        self.reader, self._server = reader, server

    @classmethod
    def here(cls, catalogue: Catalogue, pages: Sequence[bytes], at_once: int = 1, least: int = LEAST_TABLE) -> Hinted:
        """Return both in one process.

        Args:
            catalogue: of the items.
            pages: of each item, in its order.
            at_once: how many pages every question asks for, 1 to 64.
            least: as of ``HintedLibrary``.
        """
        library = HintedLibrary(pages, least)
        return cls(HintedReader(Hint(library.terms, library.hint), catalogue, at_once), library.answer)

    def ask(self, history: History) -> tuple[tuple[bytes, ...], HintedKept]:
        """See ``HintedReader.ask``."""
        return self.reader.ask(history)

    def answer(self, request: tuple[bytes, ...]) -> tuple[bytes, ...]:
        """Answer each question."""
        return tuple(map(self._server, request))

    def read(self, reply: tuple[bytes, ...], kept: HintedKept) -> tuple[bytes, ...]:
        """See ``HintedReader.read``."""
        return self.reader.read(reply, kept)
