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

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from discreet.compiled import compiled
from discreet.data.catalogue import Catalogue
from discreet.errors import ProtocolError, SettingError
from discreet.inference.base import History
from discreet.inference.outline import Outline
from discreet.protocols.messages import Message
from discreet.protocols.retrieval import MOST_AT_ONCE, Retrieval, RetrievalTerms, Retriever, folded

PAGES = "pages"
"""Terms in an outline."""
LENGTH_BYTES = 4
"""Before a page in its record: how long it is."""


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

    @classmethod
    def of(cls, outline: Outline, at_once: int = 1) -> Reader:
        """Return a reader of what a server told of its pages.

        Raises:
            ProtocolError: it told something else.
        """
        terms = RetrievalTerms.from_bytes(terms_of_pages(outline, PAGES))
        if terms.records != len(outline.catalogue):
            raise ProtocolError("the outline's parts do not fit together; ask for it again")
        return cls(terms, outline.catalogue, at_once)

    def ask(self, history: History) -> tuple[tuple[bytes, bytes], Kept]:
        """Ask for the pages of items.

        Raises:
            SettingError: they are more than ``at_once``, or one is not in the catalogue.
        """
        positions, wanted = positions_wanted(self.catalogue, history, self.at_once)
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

    @property
    def most(self) -> int:
        """How many bytes a question may have."""
        return self._retriever.most

    def answer(self, request: bytes) -> bytes:
        """See ``Retriever.answer``."""
        return self._retriever.answer(request)

    def outline(self, catalogue: Catalogue) -> Outline:
        """Return what a reader has to know of pages of these items."""
        return outline_of_pages(catalogue, PAGES, self.terms)


Answer = Callable[[bytes], bytes]
"""Of one of the two servers, wherever it is."""


class Retrieved:
    """A reader, and two servers that it asks at once.

    Args:
        reader: the person's side.
        servers: how the first answers, and the second.
    """

    def __init__(self, reader: Reader, servers: tuple[Answer, Answer]) -> None:
        self.reader, self.servers = reader, servers

    @classmethod
    def here(cls, catalogue: Catalogue, pages: Sequence[bytes], at_once: int = 1) -> Retrieved:
        """Return all three in one process.

        Args:
            catalogue: of the items.
            pages: of each item, in its order.
            at_once: how many pages every question asks for, 1 to 64.
        """
        library = Library(pages)
        return cls(Reader(library.terms, catalogue, at_once), (library.answer, library.answer))

    def ask(self, history: History) -> tuple[tuple[bytes, bytes], Kept]:
        """See ``Reader.ask``."""
        return self.reader.ask(history)

    def answer(self, request: tuple[bytes, bytes]) -> tuple[bytes, bytes]:
        """Answer as both servers."""
        return of_both(self.servers, request)

    def read(self, reply: tuple[bytes, bytes], kept: Kept) -> tuple[bytes, ...]:
        """See ``Reader.read``."""
        return self.reader.read(reply, kept)


def outline_of_pages(catalogue: Catalogue, name: str, terms: Message) -> Outline:
    """Return an outline of pages alone: there is nothing to score."""
    items = len(catalogue)
    return Outline(catalogue, np.arange(items), np.zeros(items, np.float32), np.zeros(0), {name: terms.to_bytes()})


def terms_of_pages(outline: Outline, name: str) -> bytes:
    """Return the terms in an outline.

    Raises:
        ProtocolError: it is of another way.
    """
    if name not in outline.terms:
        raise ProtocolError("this outline is of another way to fetch pages; ask for the right one")
    return outline.terms[name]


def of_both(servers: Sequence[Answer], questions: tuple[bytes, bytes]) -> tuple[bytes, bytes]:
    """Return the answers of two servers that are asked at once, each one thing."""
    with ThreadPoolExecutor(len(servers)) as threads:
        first, second = threads.map(lambda server, question: server(question), servers, questions)
    return first, second


def positions_wanted(catalogue: Catalogue, history: History, at_once: int) -> tuple[list[int], int]:
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
