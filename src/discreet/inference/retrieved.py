"""Servers send an item's page, and do not learn of which item.

Private information retrieval behind ask, answer, read. Every server learns that somebody asked, how many pages at most
(``at_once``, whatever is wanted), and nothing of which.

- ``Retrieved``: two servers, which must not tell each other (``protocols/retrieval``).
- ``Hinted``: one server, under an assumption on lattices (``protocols/simple_pir``). The device downloads a hint before
  its first question, anew when the pages change: 4 KiB for each row of the table, which is about square.

A page is public, so if all pages together are small, downloading them once tells less and costs less: a table of less
than ``LEAST_TABLE`` bytes gets no hint, unless whoever serves says so.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from discreet.compiled import compiled
from discreet.data.interactions import Catalogue
from discreet.errors import ProtocolError, SettingError
from discreet.inference.base import History
from discreet.protocols.retrieval import MOST_AT_ONCE, Retrieval, RetrievalTerms, Retriever, folded
from discreet.protocols.simple_pir import Fetcher, Fetching, Hint, multiplied

LENGTH_BYTES = 4
"""Before a page in its record: how long it is."""
LEAST_TABLE = 256 << 20
"""Bytes of all records below which a device had better download them."""
SLAB = 1 << 12
"""Rows that are multiplied at a time while a hint is made: 64 megabytes of them."""


@compiled
def _folded(words: NDArray[np.uint64], chosen: NDArray[np.uint8]) -> NDArray[np.uint64]:
    """See ``retrieval.folded``. Four records at a time: the memory is the limit, and so the sum is touched less."""
    total, within, count = np.zeros(words.shape[1], np.uint64), np.empty(words.shape[0], np.int64), 0
    for i in range(words.shape[0]):
        within[count] = i  # stays if the record is in the set
        count += (chosen[i >> 3] >> (i & 7)) & 1
    fours = count - count % 4
    for k in range(0, fours, 4):
        a, b, c, d = within[k], within[k + 1], within[k + 2], within[k + 3]
        for j in range(words.shape[1]):
            total[j] ^= words[a, j] ^ words[b, j] ^ words[c, j] ^ words[d, j]
    for k in range(fours, count):
        for j in range(words.shape[1]):
            total[j] ^= words[within[k], j]
    return total


FOLD = _folded if hasattr(_folded, "py_func") else folded
"""The fastest there is: interpreted, loops over records would take seconds."""


@dataclass(frozen=True)
class Kept:
    """What a device keeps until the reply.

    Attributes:
        retrieval: its side of the protocol.
        wanted: how many pages it wants; the rest is padding.
    """

    retrieval: Retrieval
    wanted: int


@dataclass(frozen=True)
class Reader:
    """The person's side.

    Attributes:
        terms: of the table of pages.
        catalogue: whose positions the pages have.
        at_once: how many pages every question asks for; fewer are padded.
    """

    terms: RetrievalTerms
    catalogue: Catalogue = field(repr=False)
    at_once: int = 1

    def ask(self, history: History) -> tuple[tuple[bytes, bytes], Kept]:
        """Ask for the pages of items.

        Raises:
            SettingError: they are more than ``at_once``, or one is not in the catalogue.
        """
        positions, wanted = _positions(self.catalogue, history, self.at_once)
        retrieval = Retrieval(self.terms, positions)
        return retrieval.questions, Kept(retrieval, wanted)

    def read(self, reply: tuple[bytes, bytes], kept: Kept) -> tuple[bytes, ...]:
        """Return the pages, in the order in which they were asked for.

        Raises:
            ProtocolError: a server's answer cannot be one to this question; names its seat.
        """
        return tuple(map(unpadded, kept.retrieval.read(reply)[: kept.wanted]))


class Library:
    """One of the two servers; both are alike.

    Args:
        pages: of each item of the catalogue, in its order.
    """

    def __init__(self, pages: Sequence[bytes]) -> None:
        size = LENGTH_BYTES + max(map(len, pages), default=0)
        self._retriever = Retriever([padded(page, size) for page in pages], FOLD)
        self.terms = self._retriever.terms

    def answer(self, request: bytes) -> bytes:
        """See ``Retriever.answer``."""
        return self._retriever.answer(request)


class Retrieved:
    """All three sides in one process.

    Args:
        catalogue: of the items.
        pages: of each item, in its order.
        at_once: how many pages every question asks for, 1 to 64.
    """

    def __init__(self, catalogue: Catalogue, pages: Sequence[bytes], at_once: int = 1) -> None:
        self.library = Library(pages)
        self.reader = Reader(self.library.terms, catalogue, at_once)

    def ask(self, history: History) -> tuple[tuple[bytes, bytes], Kept]:
        """See ``Reader.ask``."""
        return self.reader.ask(history)

    def answer(self, request: tuple[bytes, bytes]) -> tuple[bytes, bytes]:
        """Answer as both servers."""
        first, second = request
        return self.library.answer(first), self.library.answer(second)

    def read(self, reply: tuple[bytes, bytes], kept: Kept) -> tuple[bytes, ...]:
        """See ``Reader.read``."""
        return self.reader.read(reply, kept)


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

    def ask(self, history: History) -> tuple[tuple[bytes, ...], HintedKept]:
        """Ask for the pages of items.

        Raises:
            SettingError: they are more than ``at_once``, or one is not in the catalogue.
        """
        positions, wanted = _positions(self.catalogue, history, self.at_once)
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

    def answer(self, request: tuple[bytes, ...]) -> tuple[bytes, ...]:
        """See ``Fetcher.answer``.

        Raises:
            ProtocolError: there are none, or more than 64, or one is no question about these pages.
        """
        if not 1 <= len(request) <= MOST_AT_ONCE:
            raise ProtocolError(f"1 to {MOST_AT_ONCE} pages are asked for at once, not {len(request)}")
        return tuple(map(self._fetcher.answer, request))


class Hinted:
    """Both sides in one process.

    Args:
        catalogue: of the items.
        pages: of each item, in its order.
        at_once: how many pages every question asks for, 1 to 64.
        least: as of ``HintedLibrary``.
    """

    def __init__(
        self, catalogue: Catalogue, pages: Sequence[bytes], at_once: int = 1, least: int = LEAST_TABLE
    ) -> None:
        self.library = HintedLibrary(pages, least)
        self.reader = HintedReader(Hint(self.library.terms, self.library.hint), catalogue, at_once)

    def ask(self, history: History) -> tuple[tuple[bytes, ...], HintedKept]:
        """See ``HintedReader.ask``."""
        return self.reader.ask(history)

    def answer(self, request: tuple[bytes, ...]) -> tuple[bytes, ...]:
        """See ``HintedLibrary.answer``."""
        return self.library.answer(request)

    def read(self, reply: tuple[bytes, ...], kept: HintedKept) -> tuple[bytes, ...]:
        """See ``HintedReader.read``."""
        return self.reader.read(reply, kept)


def _positions(catalogue: Catalogue, history: History, at_once: int) -> tuple[list[int], int]:
    """Return positions of the items that are wanted, padded to ``at_once``, and how many are wanted.

    Raises:
        SettingError: they are more, or that is not 1 to 64, or one is not in the catalogue.
    """
    if not 1 <= at_once <= MOST_AT_ONCE:
        raise SettingError(f"1 to {MOST_AT_ONCE} pages are asked for at once, not {at_once}")
    found = [catalogue.positions([item])[0].tolist() for item in history]
    positions = [position for each in found for position in each]
    if len(positions) < len(found):
        raise SettingError("an item that is not in the catalogue has no page")
    if len(positions) > at_once:
        raise SettingError(f"{at_once} pages are asked for at once, not {len(positions)}")
    return positions + [0] * (at_once - len(positions)), len(positions)


def padded(page: bytes, size: int) -> bytes:
    """Return a record of ``size`` bytes: the page after its length, then zeros."""
    return (len(page).to_bytes(LENGTH_BYTES, "big") + page).ljust(size, b"\0")


def unpadded(record: bytes) -> bytes:
    """Return the page in a record. Never fails: a server that spoils records must not see which ones are read."""
    length = int.from_bytes(record[:LENGTH_BYTES], "big")
    return record[LENGTH_BYTES:][:length]
