"""Importing in batches and parts makes what importing at once makes, and refuses what that refuses."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from discreet.data import importing, tables
from discreet.data.catalogue import Catalogue
from discreet.data.importing import import_interactions
from discreet.data.intake import read_interactions
from discreet.data.interactions import Interactions
from discreet.data.store import write_interactions
from discreet.errors import DataError, FileNotWritten, PurposeNotAllowed, SettingError

TRAIN = "train-recommender"


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importing, "BATCH", 50)
    monkeypatch.setattr(importing, "PART", 80)


def rows(many: int = 1_000, seed: int = 0) -> dict[str, list[Any]]:
    """Rows in no order, with doubles, weights of 0, and a column that nobody wants."""
    rng = np.random.default_rng(seed)
    return {
        "user_id": [f"p{person}" for person in rng.integers(0, 90, many)],
        "item_id": rng.integers(0, 40, many).tolist(),
        "weight": rng.integers(0, 4, many).tolist(),
        "timestamp": rng.integers(0, 10**9, many).tolist(),
        "note": ["x"] * many,
    }


def written(folder: Path, kind: str, table: dict[str, list[Any]]) -> Any:
    path = folder / f"source.{kind}"
    if kind == "parquet":
        pl.DataFrame(table).write_parquet(path, row_group_size=70)
    elif kind == "frame":
        return table
    else:
        pl.DataFrame(table).write_csv(path, separator="\t" if kind == "tsv" else ",")
    return path


def same(one: Interactions, other: Interactions) -> bool:
    here, there = one.opened_for(TRAIN), other.opened_for(TRAIN)
    assert one.describe() == other.describe()
    assert (one.name, one.catalogue, one.purposes) == (other.name, other.catalogue, other.purposes)
    assert here.people_ids == there.people_ids
    assert np.array_equal(np.array(here.last), np.array(there.last))
    return np.array_equal(here.matrix.toarray(), there.matrix.toarray())


class TestTheSame:
    @pytest.mark.parametrize("kind", ["csv", "tsv", "parquet", "frame"])
    @pytest.mark.parametrize("users", ["text", "numbers", "zeros"])
    def test_as_at_once(self, kind: str, users: str, tmp_path: Path) -> None:
        table = rows()
        if users != "text":
            table["user_id"] = [user[1:] for user in table["user_id"]]
            if users == "zeros":
                table["user_id"][-1] = "007"  # the last row makes all of them text
            elif kind in {"parquet", "frame"}:
                table["user_id"] = [int(user) for user in table["user_id"]]
        source = written(tmp_path, kind, table)
        found = import_interactions(source, tmp_path / "out.parquet", name="x")
        assert same(found, read_interactions(source, name="x"))
        assert {path.name for path in tmp_path.iterdir()} <= {f"source.{kind}", "out.parquet"}

    def test_bytes_where_one_part_is_enough(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(importing, "PART", 10_000)
        import_interactions(rows(), tmp_path / "one.parquet", name="x")
        write_interactions(read_interactions(rows(), name="x"), tmp_path / "two.parquet")
        assert (tmp_path / "one.parquet").read_bytes() == (tmp_path / "two.parquet").read_bytes()

    def test_dates(self, tmp_path: Path) -> None:
        table = rows() | {"timestamp": [f"2024-01-{1 + number % 28:02} 10:00:00" for number in range(1_000)]}
        source = written(tmp_path, "csv", table)
        assert same(
            import_interactions(source, tmp_path / "out.parquet", name="x"), read_interactions(source, name="x")
        )

    def test_a_declared_catalogue(self, tmp_path: Path) -> None:
        catalogue = Catalogue(tuple(range(50)))
        found = import_interactions(rows(), tmp_path / "out.parquet", name="x", catalogue=catalogue, purposes=[TRAIN])
        assert same(found, read_interactions(rows(), name="x", catalogue=catalogue))
        assert found.catalogue_is_declared

    def test_an_imported_one_is_copied(self, tmp_path: Path) -> None:
        one = import_interactions(rows(), tmp_path / "one.parquet", name="x", purposes=[TRAIN, "research"])
        two = import_interactions(tmp_path / "one.parquet", tmp_path / "two.parquet", purposes=[TRAIN])
        assert same(read_interactions(tmp_path / "one.parquet", purposes=[TRAIN]), two)
        assert one.purposes > two.purposes == {TRAIN}
        with pytest.raises(PurposeNotAllowed):
            import_interactions(tmp_path / "two.parquet", tmp_path / "three.parquet", purposes=["research"])

    def test_progress(self, tmp_path: Path) -> None:
        told: list[tuple[str, int, int | None]] = []
        import_interactions(rows(), tmp_path / "x.parquet", progress=lambda *what: told.append(what))
        assert told[0] == ("reading", 50, None)
        assert [what for what in told if what[0] == "reading"][-1] == ("reading", 1_000, None)
        assert told[-1][0] == "writing"
        assert told[-1][1] == told[-1][2]


class TestRefusals:
    @pytest.mark.parametrize(
        ("column", "value", "says"),
        [
            ("user_id", "", "column 'user_id', row 778: has an empty id"),
            ("item_id", "", "column 'item_id', row 778: has an empty id"),
            ("weight", "-1", "column 'weight', row 778: is negative"),
            ("weight", "zz-planted", "column 'weight', row 778: is not a number"),
            ("timestamp", "nan", "column 'timestamp', row 778: is NaN"),
            ("timestamp", "2024-01-01", "column 'timestamp'"),
        ],
    )
    def test_name_the_row_of_the_whole_file(self, column: str, value: str, says: str, tmp_path: Path) -> None:
        table = {name: list(map(str, values)) for name, values in rows().items()}
        table[column][777] = value
        source = written(tmp_path, "csv", table)
        with pytest.raises(DataError) as refused:
            import_interactions(source, tmp_path / "out.parquet")
        assert says in str(refused.value)
        assert "planted" not in str(refused.value)
        with pytest.raises(DataError):
            read_interactions(source)
        assert [path.name for path in tmp_path.iterdir()] == ["source.csv"]

    def test_times_of_two_kinds(self, tmp_path: Path) -> None:
        table: dict[str, list[Any]] = {"user_id": ["a"] * 100, "item_id": [1] * 100}
        table["timestamp"] = ["5"] * 50 + ["2024-01-01"] * 50
        with pytest.raises(DataError, match="numbers in some rows and dates in others"):
            import_interactions(written(tmp_path, "csv", table), tmp_path / "out.parquet")

    def test_a_row_with_too_many_fields(self, tmp_path: Path) -> None:
        source = written(tmp_path, "csv", rows())
        with source.open("a") as file:
            file.write("p1,2,3,4,5,6,7,8\n")
        with pytest.raises(DataError, match="row 1001: has more fields"):
            import_interactions(source, tmp_path / "out.parquet")
        assert not (tmp_path / "out.parquet").exists()

    def test_in_a_large_file_without_its_number(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(tables, "_LARGEST_SEARCHED", 100)
        source = written(tmp_path, "csv", rows())
        with source.open("a") as file:
            file.write("p1,2,3,4,5,6,7,8\n")
        with pytest.raises(DataError, match="has a row that is not UTF-8, or has more fields"):
            import_interactions(source, tmp_path / "out.parquet")

    def test_a_broken_row_group(self, tmp_path: Path) -> None:
        source = written(tmp_path, "parquet", rows())
        content = bytearray(source.read_bytes())
        middle = len(content) // 3
        content[middle : middle + 400] = bytes(400)
        source.write_bytes(content)
        with pytest.raises(DataError):
            import_interactions(source, tmp_path / "out.parquet")
        assert [path.name for path in tmp_path.iterdir()] == ["source.parquet"]

    def test_items_that_are_not_in_the_catalogue(self, tmp_path: Path) -> None:
        table = rows() | {"weight": [1] * 1_000}
        many = sum(item >= 20 for item in table["item_id"])
        with pytest.raises(DataError, match=f"{many} rows name items"):
            import_interactions(table, tmp_path / "out.parquet", catalogue=Catalogue(tuple(range(20))))

    def test_nothing(self, tmp_path: Path) -> None:
        with pytest.raises(DataError, match="holds no rows"):
            import_interactions({"user_id": [], "item_id": []}, tmp_path / "out.parquet")
        with pytest.raises(DataError, match="nothing is left"):
            import_interactions({"user_id": ["a"], "item_id": [1], "weight": [0]}, tmp_path / "out.parquet")

    def test_places_and_arguments(self, tmp_path: Path) -> None:
        with pytest.raises(DataError, match=r"\.parquet"):
            import_interactions(rows(), tmp_path / "out.csv")
        with pytest.raises(FileNotWritten, match="nothing was changed"):
            import_interactions(rows(), tmp_path / "missing" / "out.parquet")
        with pytest.raises(SettingError, match="same column"):
            import_interactions(rows(), tmp_path / "out.parquet", user="item_id")
        assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("most", "said"), [(20_000, "has no room for what is set aside"), (150_000, "cannot be written")]
)
def test_a_full_disk_leaves_the_older_file_and_nothing_else(tmp_path: Path, most: int, said: str) -> None:
    """While rows are set aside, and while they are put together."""
    script = f"""
import resource, sys
from pathlib import Path
from discreet.data.importing import import_interactions
from discreet.errors import FileNotWritten
folder = Path(sys.argv[1])
rows = "".join(f"p{{i * 7919 % 10007}},{{i * 31 % 5003}},{{i}}\\n" for i in range(20_000))
(folder / "events.csv").write_text("user_id,item_id,timestamp\\n" + rows)
import_interactions({{"user_id": ["old"], "item_id": [1]}}, folder / "data.parquet", name="older")
resource.setrlimit(resource.RLIMIT_FSIZE, ({most}, {most}))
try:
    import_interactions(folder / "events.csv", folder / "data.parquet")
except FileNotWritten as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", script, str(tmp_path)], capture_output=True, text=True, check=True)
    assert said in done.stdout
    assert done.stdout.count("\n") == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data.parquet", "events.csv"]
    assert read_interactions(tmp_path / "data.parquet").name == "older"


def test_memory_does_not_grow_with_rows(tmp_path: Path) -> None:
    script = """
import resource, sys
from pathlib import Path
import numpy as np, polars as pl
from discreet.data import importing
importing.BATCH, importing.PART = 100_000, 200_000
folder, many = Path(sys.argv[1]), int(sys.argv[2])
with (folder / f"{many}.csv").open("wb") as file:
    for part in range(many // 500_000):
        rng = np.random.default_rng(part)
        table = pl.DataFrame({"user_id": rng.integers(0, 20_000, 500_000), "item_id": rng.integers(0, 2_000, 500_000)})
        table.write_csv(file, include_header=part == 0)
importing.import_interactions(folder / f"{many}.csv", folder / f"{many}.parquet")
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""
    peaks = []
    for many in ("1000000", "5000000"):
        done = subprocess.run([sys.executable, "-c", script, str(tmp_path), many], capture_output=True, check=True)
        peaks.append(int(done.stdout))
    assert peaks[1] < peaks[0] + 120_000, peaks  # kB; at once it is 250 MB more
