"""Pages by one server and a hint: which come, and when a hint is not worth it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from discreet.data.catalogue import Catalogue
from discreet.errors import ProtocolError, SettingError
from discreet.inference import hinted as module
from discreet.inference.hinted import MULTIPLIED, Hinted, HintedLibrary, HintedReader
from discreet.inference.retrieved import Library
from discreet.protocols.simple_pir import Hint, multiplied

CATALOGUE = Catalogue((100, 101, 102, 107))
PAGES = (b"first", b"", bytes(20), b"\xff" * 9)


def hinted(at_once: int = 1) -> Hinted:
    return Hinted.here(CATALOGUE, PAGES, at_once, least=0)


def test_pages_come_in_the_order_asked_for() -> None:
    library = hinted(5)
    request, kept = library.ask([107, "100", 101, 107])
    assert library.read(library.answer(request), kept) == (PAGES[3], b"first", b"", PAGES[3])


def test_what_is_asked_is_as_long_whatever_is_wanted() -> None:
    library = hinted(3)
    requests = [library.ask(wanted)[0] for wanted in ([], [100], [100, 101, 107])]
    assert {len(request) for request in requests} == {3}
    assert len({len(each) for request in requests for each in request}) == 1
    request, kept = library.ask([])
    assert library.read(library.answer(request), kept) == ()


@pytest.mark.parametrize(
    ("why", "at_once", "wanted"),
    [("no page", 2, [5]), ("2 pages are asked for at once", 2, [100, 101, 102]), ("not 0", 0, []), ("not 65", 65, [])],
)
def test_questions_that_cannot_be_asked(why: str, at_once: int, wanted: list[str | int]) -> None:
    with pytest.raises(SettingError, match=why):
        hinted(at_once).ask(wanted)


def test_a_small_table_is_better_downloaded() -> None:
    """Below the least, to the byte; four records of 24."""
    with pytest.raises(SettingError, match="96 bytes is better downloaded"):
        Hinted.here(CATALOGUE, PAGES)
    with pytest.raises(SettingError, match="96 bytes is better downloaded"):
        HintedLibrary(PAGES, least=97)
    assert HintedLibrary(PAGES, least=96).terms.size == 24


def test_other_numbers_of_answers_are_refused() -> None:
    library = hinted(2)
    request, kept = library.ask([100])
    reply = library.answer(request)
    with pytest.raises(ProtocolError, match="2 answers were expected, 1 came"):
        library.read(reply[:1], kept)
    with pytest.raises(ProtocolError, match="another question"):
        library.read(reply[::-1], kept)
    assert library.read(reply, kept) == (b"first",)


def test_a_hint_of_other_pages_is_refused() -> None:
    other = HintedLibrary((*PAGES[:3], b"news"), least=0)
    with pytest.raises(ProtocolError, match="not that of the terms"):
        Hint(other.terms, HintedLibrary(PAGES, least=0).hint)
    reader = HintedReader(Hint(other.terms, other.hint), CATALOGUE)
    with pytest.raises(ProtocolError, match="another table"):
        hinted().answer(reader.ask([100])[0])


def test_a_reader_of_what_a_server_told() -> None:
    library = HintedLibrary(PAGES, least=0)
    outline = library.outline(CATALOGUE)
    way = Hinted(HintedReader.of(outline, library.hint, 2), library.answer)
    request, kept = way.ask([107])
    assert len(request[0]) == library.most
    assert way.read(way.answer(request), kept) == (PAGES[3],)
    with pytest.raises(ProtocolError, match="do not fit together"):
        HintedReader.of(replace(outline, catalogue=Catalogue((1, 2, 3))), library.hint)
    with pytest.raises(ProtocolError, match="another way"):
        HintedReader.of(Library(PAGES).outline(CATALOGUE), library.hint)


def test_nothing_shows_what_is_wanted() -> None:
    library = hinted()
    assert repr(library.ask([107])[1]) == "HintedKept(fetching=(Fetching(),), wanted=1)"
    assert repr(library.reader) == "HintedReader(hint=Hint(24 rows), at_once=1)"


@given(data=st.data())
def test_all_products_are_one(data: st.DataObject) -> None:
    rows, columns, width = (data.draw(st.integers(1, 6)) for _ in range(3))
    cells = st.lists(st.sampled_from([-128, -1, 0, 1, 127]), min_size=rows * columns, max_size=rows * columns)
    matrix = np.array(data.draw(cells), np.int8).reshape(rows, columns)
    numbers = st.integers(0, 2**32 - 1) | st.sampled_from([2**32 - 1, 0xFFFF, 0x10000])
    right = np.array(data.draw(st.lists(numbers, min_size=columns * width, max_size=columns * width)), np.uint32)
    right = right.reshape(columns, width)
    for product in (MULTIPLIED, module._multiplied):
        assert (product(matrix, right) == multiplied(matrix, right)).all()
    vector = getattr(module._product, "py_func", module._product)
    assert (vector(matrix, right[:, 0]) == multiplied(matrix, right)[:, 0]).all()


def test_slabs_of_rows_are_put_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SLAB", 3)
    matrix = np.random.default_rng(1).integers(-128, 128, (8, 300)).astype(np.int8)
    right = np.random.default_rng(2).integers(0, 2**32, (300, 5), dtype=np.uint32)
    assert (module._multiplied(matrix, right) == multiplied(matrix, right)).all()
