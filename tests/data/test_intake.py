"""What is read, and what is refused: each bad input with its own line, and never a word of anybody's data."""

from __future__ import annotations

import json
import stat
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import polars as pl
import pyarrow as pa
import pytest
from pyarrow.parquet import write_table

from discreet.data.catalogue import Catalogue
from discreet.data.intake import read_catalogue, read_interactions
from discreet.data.store import write_interactions
from discreet.errors import DataError, DiscreetError, FileNotWritten, PurposeNotAllowed, SettingError

PERSON = "zz-planted-person-7731"  # planted in every bad input; must never be in a message
VALUE = "-77.3125"

Columns = dict[str, Any]


def csv(folder: Path, text: str | bytes, name: str = "ratings.csv") -> Path:
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def parquet(folder: Path, columns: Columns) -> Path:
    path = folder / "ratings.parquet"
    pl.DataFrame(columns).write_parquet(path)
    return path


def refusal(source: Any, **options: Any) -> str:
    """The message with which ``source`` is refused, after checking that it tells nothing and fits on a line."""
    with pytest.raises(DataError) as caught:
        read_interactions(source, **options)
    message = str(caught.value)
    assert PERSON not in message
    assert VALUE not in message
    assert "\n" not in message
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__ or caught.value.__context__ is None
    return message


def rows(data: Any) -> list[tuple[object, object]]:
    histories = data.opened_for("train-recommender")
    entries = histories.matrix.tocoo()
    return [
        (histories.people_ids[row], histories.catalogue.ids[column])
        for row, column in zip(entries.row, entries.col, strict=True)
    ]


class TestBadText:
    """Text files that cannot be used. Each message names the file."""

    CASES: ClassVar[dict[str, tuple[str, list[str]]]] = {
        "no column": (f"user_id,movie\n{PERSON},1\n", ["'item_id'", "item=", "--item", "'movie'"]),
        "no user column": (f"person,item_id\n{PERSON},1\n", ["'user_id'", "user=", "--user", "'person'"]),
        "no header, numbers": (f"{PERSON},242,3\nb,1,2\n", ["header"]),
        "no header, text": (f"{PERSON},film\nbob,film\n", ["header"]),
        "open quote in the header": (f'user_id,"item_id\n{PERSON},1\n', ["header", "quote"]),
        "open quote, then another": (f'user_id,"tem_id,x\n{PERSON},1,"\n', ["header"]),
        "column twice": (f"user_id,item_id,user_id\n{PERSON},1,2\n", ["'user_id'", "twice"]),
        "no user": (f"user_id,item_id\n{PERSON},1\n,2\n", ["'user_id'", "row 2", "no id"]),
        "no item": (f"user_id,item_id\nb,1\n{PERSON}\n", ["'item_id'", "row 2", "no id"]),
        "empty id": (f'user_id,item_id\n{PERSON},1\n"",2\n', ["'user_id'", "row 2", "empty"]),
        "blank line": (f"user_id,item_id\n{PERSON},1\n\nb,2\n", ["'user_id'", "row 2"]),
        "negative weight": (f"user_id,item_id,weight\na,1,2\n{PERSON},1,{VALUE}\n", ["'weight'", "row 2", "negative"]),
        "negative rating": (f"user_id,item_id,rating\n{PERSON},1,{VALUE}\n", ["'rating'", "row 1", "negative"]),
        "NaN weight": (f"user_id,item_id,weight\na,1,2\na,2,2\n{PERSON},1,nan\n", ["'weight'", "row 3", "NaN"]),
        "infinite weight": (f"user_id,item_id,weight\n{PERSON},1,inf\n", ["'weight'", "row 1", "infinite"]),
        "text weight": (f"user_id,item_id,weight\n{PERSON},1,{PERSON}\n", ["'weight'", "row 1", "not a number"]),
        "no weight": (f"user_id,item_id,weight\n{PERSON},1,\n", ["'weight'", "row 1", "not a number"]),
        "text time": (f"user_id,item_id,timestamp\n{PERSON},1,{PERSON}\n", ["'timestamp'", "row 1", "not a number"]),
        "one bad time": (
            f"user_id,item_id,timestamp\na,1,2024-01-01\n{PERSON},1,{PERSON}\n",
            ["'timestamp'", "row 1", "not a number"],
        ),
        "infinite time": (f"user_id,item_id,timestamp\n{PERSON},1,-inf\n", ["'timestamp'", "row 1", "infinite"]),
        "nothing left": (f"user_id,item_id,weight\n{PERSON},1,0\n", ["'weight'", "weight 0"]),
        "row too long": (f"user_id,item_id\na,1\n{PERSON},2,3\nb,1\n", ["row 2", "more fields"]),
        "row too long, other columns": (f"user_id,item_id,x\na,1,1\nb,1,1\n{PERSON},2,3,4\n", ["row 3", "more fields"]),
        "open quote": (f'user_id,item_id\na,1\nb,2\n"{PERSON},2\n', ["row 3", "quote"]),
        "no rows": ("user_id,item_id\n", ["no rows"]),
        "no bytes": ("", ["is empty"]),
        "one newline": ("\n", ["is empty"]),
    }

    @pytest.mark.parametrize("case", CASES)
    def test_is_refused(self, case: str, tmp_path: Path) -> None:
        text, names = self.CASES[case]
        message = refusal(csv(tmp_path, text))
        for word in ("ratings.csv", *names):
            assert word in message

    @pytest.mark.parametrize(
        ("content", "where"),
        [
            (f"user_id,item_id\na,1\n{PERSON}é,2\n".encode("latin-1"), "row 2"),
            (f"usér_id,item_id\n{PERSON},2\n".encode("latin-1"), "header"),
            (f"user_id,item_id\n{PERSON},2\n".encode("utf-16"), "header"),
        ],
    )
    def test_other_encodings_are_refused_with_the_way_out(self, content: bytes, where: str, tmp_path: Path) -> None:
        message = refusal(csv(tmp_path, content))
        assert where in message
        assert "not UTF-8; convert" in message
        assert "iconv" in message


class TestBadFiles:
    def test_a_missing_file(self, tmp_path: Path) -> None:
        for name in ("no.csv", "no.tsv", "no.parquet"):
            assert f"{name}: there is no such file" in refusal(tmp_path / name)

    def test_a_folder(self, tmp_path: Path) -> None:
        for name in ("folder.csv", "folder.parquet"):
            (tmp_path / name).mkdir()
            assert "is a folder" in refusal(tmp_path / name)

    def test_an_unreadable_file(self, tmp_path: Path) -> None:
        loop = tmp_path / "loop.csv"
        loop.symlink_to(loop)
        assert "cannot be read" in refusal(loop)

    def test_an_unknown_ending(self, tmp_path: Path) -> None:
        assert "must end in .csv" in refusal(csv(tmp_path, PERSON, "ratings.xlsx"))

    def test_an_empty_parquet(self, tmp_path: Path) -> None:
        assert "is empty" in refusal(csv(tmp_path, b"", "ratings.parquet"))

    @pytest.mark.parametrize("length", [4, 12, 200, -1, -9])
    def test_a_truncated_parquet(self, length: int, tmp_path: Path) -> None:
        path = parquet(tmp_path, {"user_id": [PERSON] * 50, "item_id": range(50)})
        path.write_bytes(path.read_bytes()[:length])
        assert "damaged or not a Parquet file" in refusal(path)

    def test_a_parquet_damaged_inside(self, tmp_path: Path) -> None:
        path = parquet(tmp_path, {"user_id": [PERSON] * 50, "item_id": range(50)})
        content = bytearray(path.read_bytes())
        content[4:60] = b"\xff" * 56
        path.write_bytes(content)
        assert "damaged or not a Parquet file" in refusal(path)

    def test_no_damage_to_a_parquet_file_is_met_with_anything_but_a_refusal(self, tmp_path: Path) -> None:
        """Flipped bytes, at fixed places: polars errs at some, panics at some, and is content with some."""
        path = parquet(tmp_path, {"user_id": [PERSON] * 50, "item_id": range(50)})
        whole, rng = path.read_bytes(), np.random.default_rng(5)
        for _ in range(150):
            content = bytearray(whole)
            content[rng.integers(len(whole))] = rng.integers(256)
            path.write_bytes(content)
            with suppress(DataError):
                read_interactions(path)

    def test_a_text_file_called_parquet(self, tmp_path: Path) -> None:
        assert "damaged or not" in refusal(csv(tmp_path, f"user_id,item_id\n{PERSON},1\n", "ratings.parquet"))


class TestBadTypes:
    """Columns of the wrong type, in a Parquet file and in a frame."""

    CASES: ClassVar[dict[str, tuple[Columns, list[str]]]] = {
        "decimal ids": ({"user_id": [1.0, 2.0], "item_id": [1, 2]}, ["'user_id'", "Float64", "whole numbers"]),
        "list ids": ({"user_id": ["a"], "item_id": [[1]]}, ["'item_id'", "List"]),
        "date ids": ({"user_id": [date(2024, 1, 1)], "item_id": [1]}, ["'user_id'", "Date"]),
        "boolean ids": ({"user_id": [True], "item_id": [1]}, ["'user_id'", "Boolean"]),
        "binary ids": ({"user_id": [b"a"], "item_id": [1]}, ["'user_id'", "Binary"]),
        "Decimal ids": ({"user_id": [Decimal(1)], "item_id": [1]}, ["'user_id'", "Decimal"]),
        "no ids at all": ({"user_id": [None, None], "item_id": [1, 2]}, ["'user_id'", "row 1"]),
        "a missing id": ({"user_id": [PERSON, None], "item_id": [1, 2]}, ["'user_id'", "row 2"]),
        "huge ids": (
            {"user_id": pl.Series([1, 2**63 + 5], dtype=pl.UInt64), "item_id": [1, 2]},
            ["'user_id'", "row 2", "64 bits"],
        ),
        "boolean weights": ({"user_id": [PERSON], "item_id": [1], "weight": [True]}, ["'weight'", "Boolean"]),
        "NaN weights": ({"user_id": [PERSON], "item_id": [1], "weight": [float("nan")]}, ["'weight'", "row 1", "NaN"]),
        "list times": ({"user_id": [PERSON], "item_id": [1], "timestamp": [[1]]}, ["'timestamp'", "List"]),
        "a missing time": (
            {"user_id": [PERSON, "b"], "item_id": [1, 2], "timestamp": [datetime(2024, 1, 1, tzinfo=UTC), None]},
            ["'timestamp'", "row 2"],
        ),
        "a missing number as time": (
            {"user_id": [PERSON, "b"], "item_id": [1, 2], "timestamp": [1, None]},
            ["'timestamp'", "row 2"],
        ),
        "no rows": ({"user_id": [], "item_id": []}, ["no rows"]),
        "no column": ({"user_id": [PERSON], "film": [1]}, ["'item_id'", "item=", "'film'"]),
    }

    @pytest.mark.parametrize("case", CASES)
    @pytest.mark.parametrize("stored", [True, False])
    def test_is_refused(self, case: str, stored: bool, tmp_path: Path) -> None:
        columns, names = self.CASES[case]
        message = refusal(parquet(tmp_path, columns) if stored else pl.DataFrame(columns))
        for word in ("ratings.parquet" if stored else "the data frame", *names):
            assert word in message

    @pytest.mark.parametrize(
        "frame",
        [
            {"user_id": [PERSON, 2], "item_id": [1, 2]},
            {"user_id": [2, PERSON], "item_id": [1, 2]},
            {"user_id": {PERSON}, "item_id": [1]},
            {"user_id": np.array([PERSON, 2], dtype=object), "item_id": [1, 2]},
        ],
    )
    def test_ids_of_mixed_or_unknown_type(self, frame: object) -> None:
        assert "'user_id' holds values of mixed or unknown types" in refusal(frame)

    @pytest.mark.parametrize("ids", [[1, 2.5], [True, 2], [[1], [2]], np.ones((2, 2))])
    def test_ids_of_one_type_that_is_not_for_ids(self, ids: object) -> None:
        assert "'user_id' is of type" in refusal({"user_id": ids, "item_id": [1, 2]})

    def test_columns_of_different_length(self) -> None:
        assert "differ in length" in refusal({"user_id": [PERSON], "item_id": [1, 2]})

    @pytest.mark.parametrize("frame", [5, None, [(PERSON, 1)], pl.LazyFrame({"user_id": [PERSON], "item_id": [1]})])
    def test_no_table_at_all(self, frame: object) -> None:
        assert "give a path or a data frame" in refusal(frame)


class TestReading:
    TABLE: ClassVar[Columns] = {"user_id": ["ann", "bob"], "item_id": [10, 9], "comment": ["x", "y"]}

    def test_frames(self) -> None:
        for frame in (self.TABLE, pl.DataFrame(self.TABLE), pl.DataFrame(self.TABLE).cast({"user_id": pl.Categorical})):
            data = read_interactions(frame)
            assert rows(data) == [("ann", 10), ("bob", 9)]
            assert data.name == "interactions"
            assert data.describe()["columns_not_read"] == ["comment"]

    def test_columns_nobody_wants_are_not_touched(self) -> None:
        frame: dict[Any, Any] = {"user_id": [1], "item_id": [2], "note": {object()}, 5: [6]}
        assert rows(read_interactions(frame)) == [(1, 2)]

    @pytest.mark.parametrize(
        ("name", "text"),
        [
            ("a.csv", "user_id,item_id\nann,10\nbob,9\n"),
            ("a.tsv", "user_id\titem_id\r\nann\t10\r\nbob\t9\r\n"),
            ("a.txt", "user_id\titem_id\nann\t10\nbob\t9"),
            ("a.txt", "item_id,user_id\n10,ann\n9,bob\n"),
            ("a[1]*.csv", '\ufeffuser_id,item_id\n"ann",10\nbob,9\n'),
        ],
    )
    def test_text_files_of_every_kind(self, name: str, text: str, tmp_path: Path) -> None:
        data = read_interactions(csv(tmp_path, text, name))
        assert rows(data) == [("ann", 10), ("bob", 9)]
        assert data.name == Path(name).stem

    def test_a_parquet_file_with_wildcards_in_its_name(self, tmp_path: Path) -> None:
        path = parquet(tmp_path, self.TABLE).rename(tmp_path / "a[1]*.parquet")
        assert read_interactions(str(path)).count == 2

    def test_other_column_names(self, tmp_path: Path) -> None:
        path = csv(tmp_path, "userId,movieId\nann,10\n")
        assert rows(read_interactions(path, user="userId", item="movieId")) == [("ann", 10)]
        with pytest.raises(SettingError, match="same column"):
            read_interactions(path, user="userId", item="userId")

    def test_ids_that_turn_out_to_be_text_after_ten_thousand_rows(self, tmp_path: Path) -> None:
        text = "user_id,item_id\n" + "".join(f"{user},1\n" for user in range(10_000)) + "x1,1\n"
        data = read_interactions(csv(tmp_path, text))
        assert data.opened_for("train-recommender").people_ids[:3] == ("0", "1", "10")
        assert data.catalogue.ids == (1,)

    @pytest.mark.parametrize("odd", ["007", "+7", " 7", "7.0", "9223372036854775808", "1_000"])
    def test_numbers_in_an_unusual_form_stay_text(self, odd: str, tmp_path: Path) -> None:
        assert read_interactions(csv(tmp_path, f"user_id,item_id\na,{odd}\na,8\n")).catalogue.ids == tuple(
            sorted([odd, "8"])
        )

    def test_zero_weights_and_duplicates_are_dropped_and_counted(self) -> None:
        frame = {
            "user_id": [1, 1, 1, 2, 2],
            "item_id": [5, 5, 6, 5, 7],
            "weight": [1, 0.5, 0, 0, 3],
            "rating": [-1] * 5,
        }
        data = read_interactions(frame)
        assert rows(data) == [(1, 5), (2, 7)]
        assert data.catalogue.ids == (5, 7)
        described = data.describe()
        assert described["duplicates_collapsed"] == 1
        assert described["zero_weight_rows_dropped"] == 2
        assert described["columns_not_read"] == ["rating"]

    @pytest.mark.parametrize(
        "times",
        [
            [3, 1, 2],
            [3.5, 1.0, 2.0],
            [date(2024, 1, 3), date(2024, 1, 1), date(2024, 1, 2)],
            [datetime(2024, 1, 1, hour, tzinfo=UTC) for hour in (3, 1, 2)],
            ["2024-01-03", "2024-01-01", "2024-01-02"],
            ["2024-01-01 03:00:00", "2024-01-01 01:00:00", "2024-01-01 02:00:00"],
        ],
    )
    def test_of_duplicates_the_latest_time_counts(self, times: list[Any], tmp_path: Path) -> None:
        frame = pl.DataFrame({"user_id": [1, 1, 1], "item_id": [5, 5, 6], "timestamp": times})
        path = tmp_path / "timed.csv"
        frame.write_csv(path)
        sources: list[Any] = [path] if isinstance(times[0], str) else [path, frame]
        for source in sources:
            last = read_interactions(source).opened_for("train-recommender").last
            assert last is not None
            assert last.tolist() == [0]

    def test_one_person_one_item_and_a_person_with_ten_thousand(self) -> None:
        assert rows(read_interactions({"user_id": ["a"], "item_id": ["x"]})) == [("a", "x")]
        many = read_interactions({"user_id": [1] * 10_000, "item_id": range(10_000)})
        assert (many.people, many.items, many.count) == (1, 10_000, 10_000)


class TestNames:
    @pytest.mark.parametrize("bad", ["", "a/b", "a\nb", "\x1b[31m", "x" * 201])
    def test_a_name_must_fit_an_account(self, bad: str) -> None:
        with pytest.raises(SettingError, match="name"):
            read_interactions({"user_id": [1], "item_id": [1]}, name=bad)
        with pytest.raises(SettingError, match="purposes"):
            read_interactions({"user_id": [1], "item_id": [1]}, purposes=[bad])

    def test_data_has_a_purpose(self) -> None:
        with pytest.raises(SettingError, match="at least one"):
            read_interactions({"user_id": [1], "item_id": [1]}, purposes=[])
        assert read_interactions({"user_id": [1], "item_id": [1]}).purposes == {"train-recommender"}
        assert read_interactions({"user_id": [1], "item_id": [1]}, purposes="research").purposes == {"research"}


class TestCatalogues:
    def test_a_declared_catalogue_fixes_the_columns(self, tmp_path: Path) -> None:
        path = csv(tmp_path, "item_id,title,genre\n3,Heat,x\n1,Alien,y\n2,,z\n", "items.csv")
        catalogue = read_catalogue(path)
        assert catalogue == Catalogue((1, 2, 3), ("Alien", "", "Heat"))
        for declared in (path, str(path), catalogue):
            data = read_interactions({"user_id": ["a"], "item_id": ["3"]}, catalogue=declared)
            assert rows(data) == [("a", 3)]
            assert (data.items, data.catalogue_is_declared) == (3, True)
        assert not read_interactions({"user_id": ["a"], "item_id": ["3"]}).catalogue_is_declared

    def test_items_outside_it_are_counted_not_named(self) -> None:
        frame = {"user_id": ["a", "b", "c"], "item_id": ["1", PERSON, "01"]}
        assert "2 rows name items that are not in the catalogue" in refusal(frame, catalogue=Catalogue((1, 2)))

    @pytest.mark.parametrize(
        ("text", "says"),
        [
            ("title\nHeat\n", "'item_id'"),
            ("item_id,title\n1,a\n1,b\n", "twice"),
            ("item_id\n", "no rows"),
            ("item_id,title\n,a\n", "row 1"),
            ("item_id,sensitive\n1,\n2,money\n", "'sensitive', row 2: .* health, religion"),
            ("item_id,tags\n1,a\x1b\n", "'tags', row 1: holds a control"),
        ],
    )
    def test_a_bad_file_of_items(self, text: str, says: str, tmp_path: Path) -> None:
        with pytest.raises(DataError, match=says) as caught:
            read_catalogue(csv(tmp_path, text, "items.csv"))
        assert "items.csv" in str(caught.value)

    @pytest.mark.parametrize("column", ["tags", "genres", "category"])
    def test_items_are_described(self, column: str, tmp_path: Path) -> None:
        text = f"item_id,sensitive,{column}\n3,,b|a| b||\n1,health,\n"
        catalogue = read_catalogue(csv(tmp_path, text, "items.csv"))
        assert catalogue == Catalogue((1, 3), None, ("health", ""), ((), ("a", "b")))

    @pytest.mark.parametrize(
        ("column", "values", "tags"),
        [
            ("tags", [["b", None, "a"], None], (("a", "b"), ())),
            ("genres", [["b|c"], []], (("b", "c"), ())),
            ("category", [3, 4], None),
        ],
    )
    def test_items_are_described_by_lists_and_not_by_numbers(
        self, column: str, values: list[Any], tags: object, tmp_path: Path
    ) -> None:
        assert read_catalogue(parquet(tmp_path, {"item_id": [1, 2], column: values})).tags == tags

    def test_genres_are_not_read_beside_tags(self, tmp_path: Path) -> None:
        assert read_catalogue(csv(tmp_path, "item_id,tags,genres\n1,a,b\n", "items.csv")).tags == (("a",),)

    def test_titles_are_text(self, tmp_path: Path) -> None:
        with pytest.raises(DataError, match="'title'"):
            read_catalogue(parquet(tmp_path, {"item_id": [1], "title": [[1]]}))


class TestStoredForm:
    FRAME: ClassVar[Columns] = {
        "user_id": ["bob", "ann", "ann", "ann"],
        "item_id": [2, 1, 2, 2],
        "weight": [5, 4, 3, 1],
        "timestamp": [10, 20, 30, 25],
        "note": ["w", "x", "y", "z"],
    }

    def stored(self, folder: Path, **options: Any) -> Path:
        path = folder / "shop.parquet"
        options = {"name": "shop", "purposes": ["train-recommender", "research"]} | options
        write_interactions(read_interactions(self.FRAME, **options), path)
        return path

    def test_comes_back_whole(self, tmp_path: Path) -> None:
        catalogue = Catalogue((1, 2, 3), ("a", "b", "c"), ("", "health", ""), (("x", "y"), (), ("y",)))
        before = read_interactions(self.FRAME, name="shop", purposes=["train-recommender", "x"], catalogue=catalogue)
        write_interactions(before, tmp_path / "other.parquet")
        after = read_interactions(tmp_path / "other.parquet")
        assert after.describe() == before.describe()
        assert (after.name, after.purposes, after.catalogue) == (before.name, before.purposes, before.catalogue)
        assert after.catalogue_is_declared
        assert rows(after) == rows(before)
        one, two = (data.opened_for("train-recommender").last for data in (before, after))
        assert one is not None
        assert two is not None
        assert one.tolist() == two.tolist()

    def test_keeps_no_weights_and_is_for_its_owner(self, tmp_path: Path) -> None:
        path = self.stored(tmp_path)
        assert pl.read_parquet(path).columns == ["user_id", "item_id", "timestamp"]
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert [entry.name for entry in tmp_path.iterdir()] == ["shop.parquet"]

    def test_purposes_are_narrowed_and_never_widened(self, tmp_path: Path) -> None:
        path = self.stored(tmp_path)
        assert read_interactions(path, purposes=["research"]).purposes == {"research"}
        with pytest.raises(PurposeNotAllowed, match="may not be used for advertising"):
            read_interactions(path, purposes=["research", "advertising"])

    def test_does_not_change_its_name_or_catalogue(self, tmp_path: Path) -> None:
        path = self.stored(tmp_path)
        assert read_interactions(path, name="shop", catalogue=Catalogue((1, 2))).name == "shop"
        with pytest.raises(SettingError, match="'shop'"):
            read_interactions(path, name="other")
        with pytest.raises(SettingError, match="catalogue"):
            read_interactions(path, catalogue=Catalogue((1, 2, 3)))

    @pytest.mark.parametrize(
        "damage",
        [
            lambda _: "{",
            lambda _: "[]",
            lambda passport: json.dumps(passport | {"format": 1}),
            lambda passport: json.dumps(passport | {"name": "a/b"}),
            lambda passport: json.dumps(passport | {"name": 5}),
            lambda passport: json.dumps(passport | {"purposes": "research"}),
            lambda passport: json.dumps(passport | {"catalogue": {"ids": []}}),
            lambda passport: json.dumps(passport | {"intake": []}),
            lambda passport: json.dumps(passport | {"intake": passport["intake"] | {"duplicates_collapsed": "1"}}),
            lambda passport: json.dumps({key: value for key, value in passport.items() if key != "purposes"}),
        ],
    )
    def test_a_damaged_passport_is_refused(self, damage: Callable[[Columns], str], tmp_path: Path) -> None:
        path = self.stored(tmp_path)
        passport = json.loads(pl.read_parquet_metadata(path)["discreet"])
        pl.read_parquet(path).write_parquet(path, metadata={"discreet": damage(passport)})
        assert "import it again" in refusal(path)

    def test_is_written_only_where_it_can_be(self, tmp_path: Path) -> None:
        data = read_interactions(self.FRAME)
        with pytest.raises(DataError, match=r"\.parquet"):
            write_interactions(data, tmp_path / "shop.csv")
        with pytest.raises(FileNotWritten, match="cannot be written"):
            write_interactions(data, tmp_path / "missing" / "shop.parquet")
        (tmp_path / "folder.parquet").mkdir()
        with pytest.raises(FileNotWritten, match="nothing was changed"):
            write_interactions(data, tmp_path / "folder.parquet")
        assert [entry.name for entry in tmp_path.iterdir()] == ["folder.parquet"]

    def test_a_full_disk_leaves_the_old_file_and_nothing_else(self, tmp_path: Path) -> None:
        path = self.stored(tmp_path)
        before = path.read_bytes()
        script = f"""
import resource
from discreet.data.intake import read_interactions
from discreet.data.store import write_interactions
from discreet.errors import FileNotWritten
data = read_interactions({{"user_id": range(90_000), "item_id": range(90_000)}})
resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))
try:
    write_interactions(data, {str(path)!r})
except FileNotWritten as error:
    print(error)
"""
        done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
        assert "shop.parquet: cannot be written" in done.stdout
        assert done.stdout.count("\n") == 1
        assert path.read_bytes() == before
        assert [entry.name for entry in tmp_path.iterdir()] == ["shop.parquet"]


def test_every_refusal_can_be_caught_by_one_name() -> None:
    with pytest.raises(DiscreetError):
        read_interactions({"user_id": [], "item_id": []})


class TestHeaders:
    @pytest.mark.parametrize(
        ("text", "says"),
        [
            (f"{PERSON},tt0001\nbob,tt0002\n", "its first row has 2 columns and may lack a header; add one"),
            ("alice_smith,tt0001\n", "its first row has 2 columns and may lack a header; add one"),
            ("alice_smith\n", "its first row has 1 column and may lack a header; add one"),
            ("alice_smith,title\n", "may lack a header"),
            ("userId,movieId,Rating\n1,2,3\n", "the columns there are: 'userId', 'movieId', 'Rating'"),
            ("user_id,thing\na,1\n", "the columns there are: 'user_id', 'thing'"),
            ("user_id;item_id;x\na;1;1\n", "separated by ';': save it with commas or tabs"),
            ('"userId";"movieId"\na;1\n', "separated by ';': save it with commas or tabs"),
            ("user_id\titem_id\na\t1\n", "separated by tabs: save it with commas, or as .tsv"),
            (" user_id , item_id\na,1\n", "column names have spaces around them"),
            ("user_id, item_id\na,1\n", "column names have spaces around them"),
            ("\n \nuser_id,item_id\na,1\n", "begins with a blank line"),
        ],
    )
    def test_says_what_is_wrong_and_no_data(self, text: str, says: str, tmp_path: Path) -> None:
        message = refusal(csv(tmp_path, text))
        assert says in message
        assert "alice_smith" not in message
        assert "tt0001" not in message

    def test_blank_lines_alone_are_an_empty_file(self, tmp_path: Path) -> None:
        assert "is empty" in refusal(csv(tmp_path, "\n\n  \n"))

    def test_commas_in_a_tsv(self, tmp_path: Path) -> None:
        assert "separated by ','" in refusal(csv(tmp_path, "user_id,item_id\na,1\n", "ratings.tsv"))

    def test_endings_in_capitals(self, tmp_path: Path) -> None:
        data = read_interactions(csv(tmp_path, "user_id,item_id\na,1\n", "R.CSV"))
        write_interactions(data, tmp_path / "R.PARQUET")
        assert rows(read_interactions(tmp_path / "R.PARQUET")) == rows(data)
        assert read_interactions(csv(tmp_path, "user_id\titem_id\na\t1\n", "R.TSV")).count == 1


class TestArguments:
    @pytest.mark.parametrize(
        "options",
        [{"name": 5}, {"purposes": 5}, {"purposes": [1]}, {"purposes": b"a"}, {"catalogue": [1, 2]}, {"catalogue": 5}],
    )
    def test_of_another_type(self, options: dict[str, Any]) -> None:
        with pytest.raises(SettingError, match=next(iter(options))):
            read_interactions({"user_id": ["a"], "item_id": [1]}, **options)

    def test_a_doubled_column(self) -> None:
        pandas = pytest.importorskip("pandas")
        frame = pandas.DataFrame([["a", 1, 2]], columns=["user_id", "item_id", "item_id"])
        assert "column 'item_id' is there twice; keep one" in refusal(frame)


@pytest.mark.parametrize("sign", ["\x00", "\n", "\x1b", "\x85", "\u2028", "\u202e"])
def test_control_characters_are_refused(sign: str, tmp_path: Path) -> None:
    for column in ("user_id", "item_id"):
        message = refusal({"user_id": ["a", "b"], "item_id": ["x", "y"]} | {column: ["a", f"{PERSON}{sign}"]})
        assert f"column '{column}', row 2: holds a control character" in message
    titled = parquet(tmp_path, {"item_id": [1, 2], "title": ["a", f"b{sign}"]})
    with pytest.raises(DataError, match="column 'title', row 2: holds a control character"):
        read_catalogue(titled)


def test_a_wide_table_is_told_in_one_short_line(tmp_path: Path) -> None:
    path = tmp_path / "wide.csv"
    path.write_text(",".join(["item_id", "a" * 500, *(f"c{number}" for number in range(1_000))]) + "\n")
    with pytest.raises(DataError, match=r"'item_id', 'a{60}\.\.\.', 'c0', .*'c17' and 982 more") as refused:
        read_interactions(path)
    assert len(str(refused.value)) < 1_000


def test_parquet_is_not_read_by_polars(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its reader ends the process at a damaged page that asks for more memory than there is."""
    path = tmp_path / "events.parquet"
    pl.DataFrame({"user_id": ["a", "b"], "item_id": [1, 2], "timestamp": [1.5, 2.5]}).write_parquet(path)
    for name in ("read_parquet", "scan_parquet", "read_parquet_schema", "read_parquet_metadata"):
        monkeypatch.delattr(pl, name)
    assert read_interactions(path).people == 2


def test_a_parquet_column_that_is_there_twice(tmp_path: Path) -> None:
    table = pa.table([pa.array(["a"]), pa.array([1]), pa.array([2])], names=["user_id", "item_id", "item_id"])
    write_table(table, tmp_path / "twice.parquet")
    with pytest.raises(DataError, match="column 'item_id' is there twice; keep one"):
        read_interactions(tmp_path / "twice.parquet")


def test_half_a_character_is_no_title() -> None:
    with pytest.raises(DataError, match="titles hold a control character, or half a one"):
        Catalogue(ids=(1,), titles=("\ud800",))
