"""The checked data set: what it shows, what it hands out, and to whom."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.sparse import csr_array

from discreet.data.catalogue import Catalogue
from discreet.data.intake import read_interactions
from discreet.data.interactions import Histories, Interactions
from discreet.errors import DataError, PurposeNotAllowed, SettingError

PAIRS = [("ann", "x"), ("bob", "y"), ("ann", "y"), ("cas", "z")]


def data(times: list[float] | None = None) -> Interactions:
    columns: dict[str, list[object]] = {"user_id": [u for u, _ in PAIRS], "item_id": [i for _, i in PAIRS]}
    return read_interactions(columns | ({} if times is None else {"timestamp": times}), name="shop")


def opened(times: list[float] | None = None) -> Histories:
    return data(times).opened_for("train-recommender")


class TestCatalogue:
    def test_finds_a_history_whatever_the_type_of_its_ids(self) -> None:
        catalogue = Catalogue((7, 50, 300))
        histories: list[list[Any]] = [["50", "7"], [50, 7], [np.int64(50), "7", 7]]
        for history in histories:
            positions, unknown = catalogue.positions(history)
            assert positions.tolist() == [0, 1]
            assert positions.dtype == np.int64
            assert unknown == 0
        assert Catalogue(("07", "50")).positions([50, "07"])[0].tolist() == [0, 1]

    def test_counts_unknown_items_once_each(self) -> None:
        positions, unknown = Catalogue((7, 50)).positions(["007", 8, 8, "8", 50])
        assert (positions.tolist(), unknown) == ([1], 2)

    def test_an_empty_history_has_no_positions(self) -> None:
        positions, unknown = Catalogue((7,)).positions([])
        assert (positions.size, unknown) == (0, 0)
        assert positions.dtype == np.int64

    @pytest.mark.parametrize("bad", [True, None, 1.0, b"x", ["x"]])
    def test_refuses_what_is_no_id(self, bad: Any) -> None:
        with pytest.raises(SettingError, match=f"whole numbers, not {type(bad).__name__}"):
            Catalogue((7,)).positions([bad])

    def test_refuses_a_history_that_is_one_string(self) -> None:
        with pytest.raises(SettingError, match="not one string"):
            Catalogue((5, 50)).positions("50")

    def test_a_title_falls_back_to_the_id(self) -> None:
        assert Catalogue((7,)).title(0) == "7"
        assert Catalogue((7, 8), ("", "Alien")).title(0) == "7"
        assert Catalogue((7, 8), ("", "Alien")).title(1) == "Alien"

    def test_says_what_it_holds(self) -> None:
        full = Catalogue((7, 8), ("", "Alien"), ("", "health"), ((), ("Horror", "Sci-Fi")))
        assert repr(full) == "Catalogue(2 items, with titles, with categories, with tags)"
        assert repr(Catalogue((7,))) == "Catalogue(1 items)"

    def test_tags_are_a_matrix(self) -> None:
        matrix = Catalogue((1, 2, 3), tags=(("b",), (), ("a", "b"))).tag_matrix
        assert matrix is not None
        assert matrix.toarray().tolist() == [[0, 1], [0, 0], [1, 1]]
        for empty in (None, ((), (), ())):
            assert Catalogue((1, 2, 3), tags=empty).tag_matrix is None
            assert not Catalogue((1, 2, 3), tags=empty).tagged

    @pytest.mark.parametrize(
        ("columns", "says"),
        [
            ({"titles": ("a", "b")}, "1 ids but 2 titles"),
            ({"categories": ("", "")}, "1 ids but 2 categories"),
            ({"tags": ()}, "1 ids but 0 tags"),
            ({"categories": ("money",)}, "health, religion, sexuality, politics, minors"),
            ({"tags": (("b", "a"),)}, "ascending and unique"),
            ({"tags": (("a", "a"),)}, "ascending and unique"),
            ({"tags": (("",),)}, "none of them empty"),
            ({"tags": (("a\n",),)}, "control character"),
        ],
    )
    def test_refuses_what_does_not_describe_its_items(self, columns: dict[str, Any], says: str) -> None:
        with pytest.raises(DataError, match=says):
            Catalogue((7,), **columns)

    @pytest.mark.parametrize(
        "catalogue",
        [
            Catalogue((1, 2), ("a", "b")),
            Catalogue(("a", "b")),
            Catalogue((1, 2), None, ("", "minors"), (("x", "y"), ())),
        ],
    )
    def test_survives_json(self, catalogue: Catalogue) -> None:
        assert Catalogue.from_dict(json.loads(json.dumps(catalogue.to_dict()))) == catalogue

    @pytest.mark.parametrize(
        "change",
        [
            {"ids": []},
            {"ids": [1, "2"]},
            {"ids": [True]},
            {"ids": [2, 1]},
            {"ids": [1, 1]},
            {"ids": "ab"},
            {"titles": ["a", "b"]},
            {"titles": [2]},
            {"titles": "a"},
            {"titles": ["a\x1b[2J"]},
            {"ids": ["a\n"]},
            {"ids": ["a\u202eb"]},
            {"categories": ["money"]},
            {"categories": [None]},
            {"tags": ["a"]},
            {"tags": [None]},
            {"tags": "a"},
            {"tags": [["b", "a"]]},
            {"other": None},
        ],
    )
    def test_refuses_a_stored_form_that_is_not_one(self, change: dict[str, object]) -> None:
        with pytest.raises(DataError):
            Catalogue.from_dict(Catalogue((1,)).to_dict() | change)

    @pytest.mark.parametrize("stored", [None, [], {"ids": [1]}, {"ids": [1], "titles": None}])
    def test_refuses_a_stored_form_that_lacks_columns(self, stored: object) -> None:
        with pytest.raises(DataError, match="exactly"):
            Catalogue.from_dict(stored)

    @given(
        st.sets(st.integers(-(2**63), 2**63 - 1), min_size=1)
        | st.sets(st.text(st.characters(categories=["L", "N", "Zs"]), max_size=9), min_size=1)
    )
    def test_every_item_is_found_where_it_stands(self, ids: set[Any]) -> None:
        ordered = sorted(ids)
        positions, unknown = Catalogue(tuple(ordered)).positions(ordered)
        assert (positions.tolist(), unknown) == (list(range(len(ids))), 0)


class TestPurposes:
    def test_opens_for_what_the_data_was_collected_for(self) -> None:
        histories = opened()
        assert (histories.purpose, histories.dataset) == ("train-recommender", "shop")
        assert not histories.catalogue_is_declared

    def test_refuses_another_purpose_and_says_which_there_are(self) -> None:
        with pytest.raises(PurposeNotAllowed, match=r"'advertising'; it was collected for: train-recommender"):
            data().opened_for("advertising")


class TestHistories:
    def test_rows_and_columns_stand_in_the_order_of_ids(self) -> None:
        histories = opened()
        assert histories.people_ids == ("ann", "bob", "cas")
        assert histories.catalogue.ids == ("x", "y", "z")
        assert histories.matrix.toarray().tolist() == [[1, 1, 0], [0, 1, 0], [0, 0, 1]]
        assert histories.matrix.dtype == np.int8
        assert histories.matrix.has_canonical_format

    def test_integer_ids_are_ordered_as_numbers(self) -> None:
        frame = pl.DataFrame({"user_id": [10, 9, 10], "item_id": [100, 20, 3]})
        histories = read_interactions(frame).opened_for("train-recommender")
        assert histories.people_ids == (9, 10)
        assert histories.catalogue.ids == (3, 20, 100)

    def test_last_is_the_latest_item_and_of_several_the_highest(self) -> None:
        assert opened().last is None
        for times, last in (([2.0, 0.0, 1.0, 0.0], [0, 1, 2]), ([1.0, 0.0, 1.0, 0.0], [1, 1, 2])):
            found = opened(times).last
            assert found is not None
            assert found.tolist() == last
            assert found.dtype == np.int32

    @pytest.mark.parametrize("size", [1, 2, 3, 99])
    def test_blocks_are_the_rows_in_order(self, size: int) -> None:
        histories = opened()
        blocks = list(histories.blocks(size))
        assert all(block.shape[0] <= size for block in blocks)
        assert np.array_equal(np.vstack([block.toarray() for block in blocks]), histories.matrix.toarray())

    def test_blocks_hold_somebody(self) -> None:
        with pytest.raises(SettingError, match="at least 1 person"):
            opened().blocks(0)

    def test_take_keeps_everything_aligned(self) -> None:
        some = opened([2.0, 0.0, 1.0, 0.0]).take(np.array([2, 0]))
        assert len(some) == 2
        assert some.people_ids == ("cas", "ann")
        assert some.matrix.toarray().tolist() == [[0, 0, 1], [1, 1, 0]]
        assert some.last is not None
        assert some.last.tolist() == [2, 0]


def test_nothing_personal_is_in_a_repr() -> None:
    for shown in (repr(data()), repr(opened()), repr(data().catalogue), repr(data().describe())):
        assert "ann" not in shown
    assert repr(data()) == "Interactions('shop', 3 people, 3 items, 4 interactions)"


def test_describe_counts() -> None:
    described = data().describe()
    assert json.loads(json.dumps(described)) == described
    assert (described["people"], described["items"], described["interactions"]) == (3, 3, 4)
    assert described["density"] == 4 / 9


def test_ids_that_look_alike_are_counted() -> None:
    ids = ["ann", " Ann", "caf\u00e9", "cafe\u0301", "bob"]
    assert read_interactions({"user_id": ids, "item_id": [1] * 5}).describe()["ids_that_look_alike"] == 4
    assert read_interactions({"user_id": [1, 2], "item_id": [1, 1]}).describe()["ids_that_look_alike"] == 0


@pytest.mark.parametrize("history", [None, 5, 1.5])
def test_a_history_that_is_no_list(history: Any) -> None:
    with pytest.raises(SettingError, match="list of item ids"):
        Catalogue((7,)).positions(history)


def histories_of(indices: list[int], people: tuple[Any, ...] = ("ann", "bob"), **parts: Any) -> Histories:
    data, starts = parts.get("data", np.ones(len(indices), np.int8)), parts.get("starts", [0, 2, 3])
    matrix = csr_array(np.zeros((2, 3), np.int8))
    matrix.data, matrix.indices, matrix.indptr = data, np.array(indices, np.int32), np.array(starts, np.int32)
    matrix.has_canonical_format = True  # a lie in most cases below
    return Histories(matrix, people, parts.get("last"), Catalogue((1, 2, 3)), "shop", "train-recommender")


class TestSoundHistories:
    def test_sound_ones(self) -> None:
        assert len(histories_of([0, 2, 1])) == 2

    @pytest.mark.parametrize("people", [("ann", "ann"), (1, "1"), (7, 7)])
    def test_nobody_is_there_twice(self, people: tuple[Any, ...]) -> None:
        with pytest.raises(SettingError, match="the same person more than once"):
            histories_of([0, 2, 1], people)
        with pytest.raises(SettingError, match="the same person more than once"):
            histories_of([0, 2, 1]).take(np.array([0, 0]))

    @pytest.mark.parametrize(
        ("indices", "parts"),
        [
            ([0, 0, 1], {}),
            ([2, 0, 1], {}),
            ([0, 3, 1], {}),
            ([0, -1, 1], {}),
            ([0, 2, 1], {"data": np.array([1, 2, 1], np.int8)}),
            ([0, 2, 1], {"data": np.ones(3)}),
            ([0, 2, 1], {"data": np.ones(2, np.int8)}),
            ([0, 2, 1], {"starts": [0, 2]}),
            ([0, 2, 1], {"starts": [0, 3, 2]}),
            ([0, 2, 1], {"starts": [0, 1, 2]}),
            ([0, 2, 1], {"starts": [1, 2, 3]}),
        ],
    )
    def test_a_matrix_of_anything_but_ones_once_each(self, indices: list[int], parts: dict[str, Any]) -> None:
        with pytest.raises(SettingError, match="matrix"):
            histories_of(indices, **parts)

    def test_parts_that_do_not_fit(self) -> None:
        with pytest.raises(SettingError, match="one row a person"):
            histories_of([0, 2, 1], ("ann",))
        with pytest.raises(SettingError, match="one latest item"):
            histories_of([0, 2, 1], last=np.array([0], np.int32))
