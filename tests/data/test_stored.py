"""Histories that stay in their file: the same as in memory, and refused as soon as the file is not what it was."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable
from contextlib import suppress
from multiprocessing.reduction import ForkingPickler
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from numpy.typing import NDArray

from discreet.data import store
from discreet.data.catalogue import Catalogue
from discreet.data.intake import read_interactions
from discreet.data.interactions import Held, Histories, Interactions, Rows, rows_of
from discreet.data.store import Passport, write_interactions, write_pieces
from discreet.data.stored import StoredHistories
from discreet.errors import DataError, PurposeNotAllowed, SettingError

TRAIN = "train-recommender"


@pytest.fixture
def path(tmp_path: Path, data: Interactions, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The tastes of 300 people in blocks of 32."""
    monkeypatch.setattr(store, "BLOCK_PEOPLE", 32)
    write_interactions(data, tmp_path / "tastes.parquet")
    return tmp_path / "tastes.parquet"


def streamed(path: Path) -> StoredHistories:
    histories = read_interactions(path).streamed_for(TRAIN)
    assert isinstance(histories, StoredHistories)
    return histories


def dense(blocks: Iterable[Rows]) -> NDArray[np.int8]:
    return np.vstack([block.toarray() for block in blocks])


class TestStreamed:
    def test_are_the_histories_in_memory(self, path: Path, data: Interactions) -> None:
        here, there = data.opened_for(TRAIN), streamed(path)
        assert len(there) == len(here)
        assert there.people_ids == here.people_ids
        assert (there.dataset, there.purpose, there.catalogue) == (here.dataset, here.purpose, here.catalogue)
        assert there.catalogue_is_declared == here.catalogue_is_declared
        assert np.array_equal(dense(list(there.blocks(10_000))), here.matrix.toarray())
        assert all(block.dtype == np.int8 for block in there.blocks(10_000))

    @pytest.mark.parametrize("most", [1, 7, 32, 50])
    def test_blocks_hold_at_most_so_many(self, most: int, path: Path, data: Interactions) -> None:
        blocks = list(streamed(path).blocks(most))
        assert max(block.shape[0] for block in blocks) == min(most, 32)
        assert np.array_equal(dense(blocks), data.opened_for(TRAIN).matrix.toarray())

    def test_blocks_hold_somebody(self, path: Path) -> None:
        with pytest.raises(SettingError, match="at least 1 person"):
            list(streamed(path).blocks(0))

    def test_some_people_of_some_of_the_people(self, path: Path, data: Interactions) -> None:
        here, there = data.opened_for(TRAIN), streamed(path)
        for rows in (np.arange(40, 300, 3), np.array([0, 5, 80])):
            here, there = here.take(rows), there.take(rows)
            assert there.people_ids == here.people_ids
            assert np.array_equal(dense(list(there.blocks(9))), here.matrix.toarray())

    @pytest.mark.parametrize("rows", [[3, 3], [4, 3]])
    def test_nobody_is_taken_twice(self, rows: list[int], path: Path) -> None:
        with pytest.raises(SettingError, match="once, in ascending order"):
            streamed(path).take(np.array(rows))

    def test_purpose_is_asked_for(self, path: Path) -> None:
        with pytest.raises(PurposeNotAllowed):
            read_interactions(path).streamed_for("advertising")

    def test_show_counts_only(self, path: Path) -> None:
        assert repr(streamed(path)) == "StoredHistories('tastes' for 'train-recommender', 300 people, 60 items)"

    def test_a_copy_is_the_same_file(self, path: Path, tmp_path: Path) -> None:
        write_interactions(read_interactions(path), tmp_path / "copy.parquet")
        assert (tmp_path / "copy.parquet").read_bytes() == path.read_bytes()

    def test_can_be_sent_to_another_process(self, path: Path) -> None:
        histories = streamed(path)
        sent = ForkingPickler.loads(ForkingPickler.dumps((histories.file, list(histories.wanted()))))
        rows = [wanted.rows(sent[0]) for wanted in sent[1]]
        assert np.array_equal(dense(rows), dense(list(histories.blocks(32))))

    def test_ids_of_both_kinds(self, tmp_path: Path) -> None:
        kinds: list[list[Any]] = [[1, 2, 10], ["1", "10", "2"], ["é", "ü", "漢"]]
        for number, ids in enumerate(kinds):
            data = read_interactions({"user_id": ids, "item_id": ids[::-1]}, name="x")
            write_interactions(data, tmp_path / f"{number}.parquet")
            again = streamed(tmp_path / f"{number}.parquet")
            assert again.people_ids == data.opened_for(TRAIN).people_ids == tuple(ids)
            assert np.array_equal(dense(list(again.blocks(9))), data.opened_for(TRAIN).matrix.toarray())


class TestBlocks:
    def test_hold_whole_people(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(store, "BLOCK_PEOPLE", 3)
        monkeypatch.setattr(store, "BLOCK_ROWS", 5)
        lengths = [1, 1, 1, 1, 4, 2, 9, 1]
        users = [str(person) for person, many in enumerate(lengths) for _ in range(many)]
        items = [item for many in lengths for item in range(many)]
        write_interactions(read_interactions({"user_id": users, "item_id": items}), tmp_path / "x.parquet")
        found = read_interactions(tmp_path / "x.parquet")
        assert [block.shape[0] for block in found.streamed_for(TRAIN).blocks(100)] == [3, 2, 1, 1, 1]
        assert (found.people, found.count) == (8, 20)
        file = pq.ParquetFile(tmp_path / "x.parquet")
        assert [file.metadata.row_group(number).num_rows for number in range(5)] == [3, 5, 2, 9, 1]

    def test_name_nobody_in_the_footer(self, tmp_path: Path) -> None:
        data = read_interactions({"user_id": ["planted-person", "b"], "item_id": ["x", "y"]})
        write_interactions(data, tmp_path / "x.parquet")
        content = (tmp_path / "x.parquet").read_bytes()
        footer = content[-8 - int.from_bytes(content[-8:-4], "little") :]
        assert b"planted" not in footer


def rewritten(path: Path, change: Callable[[list[pa.Table]], list[pa.Table]]) -> None:
    """Write the file anew, row groups changed, passport as it was."""
    file = pq.ParquetFile(path)
    tables = change([file.read_row_group(number) for number in range(file.num_row_groups)])
    with pq.ParquetWriter(path, file.schema_arrow) as out:
        for table in tables:
            out.write_table(table)


def forged(path: Path, pieces: list[Held], data: Interactions) -> Path:
    """Write pieces that no import would make, with a passport that says they are right."""
    passport = Passport(data.name, data.purposes, data.catalogue, declared=True, intake=data.intake)
    write_pieces(path, pieces, data.catalogue, lambda: passport)
    return path


def doubled(tables: list[pa.Table]) -> list[pa.Table]:
    return [pa.concat_tables([tables[0].slice(0, 20), tables[1].slice(0, 20)]), *tables[1:]]


class TestAChangedFile:
    @pytest.mark.parametrize(
        ("change", "says"),
        [
            (lambda tables: tables[:-1], "changed or damaged"),
            (lambda tables: [tables[1], tables[0], *tables[2:]], "changed or damaged"),
            (lambda tables: [tables[0].slice(1), *tables[1:]], "changed or damaged"),
            (lambda tables: [tables[0].take([*range(1, tables[0].num_rows), 0]), *tables[1:]], "in two places"),
            (lambda tables: [tables[0].drop_columns(["item_id"]) for _ in tables], "is damaged"),
        ],
    )
    def test_is_refused_when_it_is_opened(
        self, change: Callable[[list[pa.Table]], list[pa.Table]], says: str, path: Path
    ) -> None:
        data = read_interactions(path)
        try:
            rewritten(path, change)
        except ValueError:  # a missing column does not fit the schema
            pq.write_table(pq.read_table(path, columns=["user_id"]), path, row_group_size=1)
        for opened in (data.streamed_for, data.opened_for):
            with pytest.raises(DataError, match="block") as refused:
                opened(TRAIN)
            assert says in str(refused.value) or "changed or damaged" in str(refused.value)
            assert "person-" not in str(refused.value)
            assert "\n" not in str(refused.value)

    def test_is_refused_between_two_rounds(self, path: Path, data: Interactions) -> None:
        histories = streamed(path)
        assert len(list(histories.blocks(32))) == 10
        fewer = read_interactions(
            {"user_id": ["person-000", "person-001"], "item_id": [100, 101]}, name="tastes", catalogue=data.catalogue
        )
        write_interactions(fewer, path)
        with pytest.raises(DataError, match="block 1 of 10 is not what it was"):
            list(histories.blocks(32))
        path.unlink()
        with pytest.raises(DataError, match="no such file"):
            list(histories.blocks(32))

    def test_one_other_item_is_noticed(self, path: Path) -> None:
        histories = streamed(path)

        def other(tables: list[pa.Table]) -> list[pa.Table]:
            items = tables[3]["item_id"].to_pylist()
            items[0] = next(item for item in range(100, 160) if item not in items[:30])
            return [*tables[:3], tables[3].set_column(1, "item_id", pa.array(items)), *tables[4:]]

        rewritten(path, other)
        blocks = histories.blocks(32)
        for _ in range(3):
            next(blocks)
        with pytest.raises(DataError, match="block 4 of 10"):
            next(blocks)

    def test_a_flipped_bit_anywhere_is_noticed(self, path: Path) -> None:
        data, content = read_interactions(path), path.read_bytes()
        end = len(content) - 8 - int.from_bytes(content[-8:-4], "little")
        before = data.opened_for(TRAIN)
        for place in range(4, end, 97):
            path.write_bytes(content[:place] + bytes([content[place] ^ 4]) + content[place + 1 :])
            after: list[Histories] = []
            with suppress(DataError):
                after.append(data.opened_for(TRAIN))
            for histories in after:  # it was in bytes that nothing depends on
                assert histories.people_ids == before.people_ids
                assert np.array_equal(histories.matrix.toarray(), before.matrix.toarray())
                assert np.array_equal(np.array(histories.last), np.array(before.last))

    def test_a_file_that_ends_early(self, path: Path) -> None:
        data, content = read_interactions(path), path.read_bytes()
        path.write_bytes(content[: len(content) // 2])
        with pytest.raises(DataError, match=r"block 1 of 10 is damaged|changed"):
            data.streamed_for(TRAIN)
        path.write_bytes(b"")
        with pytest.raises(DataError, match="block 1 of 10 is damaged"):
            data.streamed_for(TRAIN)


class TestAForgedFile:
    """Its hashes fit, and it is refused all the same."""

    CATALOGUE = Catalogue((1, 2, 3))

    def piece(self, people: tuple[str, ...], *histories: list[int]) -> Held:
        lengths = np.array([len(history) for history in histories])
        return Held(rows_of(lengths, np.concatenate(histories).astype(np.int32), 3), people)

    @pytest.fixture
    def data(self) -> Interactions:
        return read_interactions({"user_id": ["a"], "item_id": [1]}, name="x", catalogue=self.CATALOGUE)

    def test_one_person_in_two_blocks(self, tmp_path: Path, data: Interactions) -> None:
        pieces = [self.piece(("a", "b"), [0], [1]), self.piece(("b", "c"), [0], [1])]
        with pytest.raises(DataError, match="block 2 of 2 names people out of order"):
            read_interactions(forged(tmp_path / "x.parquet", pieces, data)).streamed_for(TRAIN)

    def test_one_person_in_two_places_of_a_block(self, tmp_path: Path, data: Interactions) -> None:
        with pytest.raises(DataError, match="block 1 of 1 names a person in two places"):
            read_interactions(
                forged(tmp_path / "x.parquet", [self.piece(("a", "b", "a"), [0], [1], [2])], data)
            ).streamed_for(TRAIN)

    @pytest.mark.parametrize("history", [[1, 1], [2, 0]])
    def test_an_item_twice(self, history: list[int], tmp_path: Path, data: Interactions) -> None:
        with pytest.raises(DataError, match="names an item of a person twice"):
            read_interactions(forged(tmp_path / "x.parquet", [self.piece(("a",), history)], data)).streamed_for(TRAIN)

    def test_an_item_that_is_not_in_the_catalogue(self, tmp_path: Path, data: Interactions) -> None:
        path = forged(tmp_path / "x.parquet", [self.piece(("a",), [0, 1])], data)
        smaller = read_interactions({"user_id": ["a"], "item_id": [1]}, name="x", catalogue=Catalogue((1, 3)))
        file = pq.ParquetFile(path)
        table = file.read()
        metadata = table.schema.metadata | {
            b"discreet": file.metadata.metadata[b"discreet"].replace(b'"ids": [1, 2, 3]', b'"ids": [1, 3]')
        }
        pq.write_table(table.replace_schema_metadata(metadata), path)
        assert read_interactions(path).catalogue == smaller.catalogue
        with pytest.raises(DataError, match="changed or damaged"):
            read_interactions(path).streamed_for(TRAIN)


@pytest.mark.parametrize("kind", ["list", "struct", "float", "dictionary", "null"])
def test_columns_of_other_types_are_refused(kind: str, path: Path) -> None:
    file = pq.ParquetFile(path)
    table, metadata = file.read(), file.metadata.metadata
    values: dict[str, Any] = {
        "list": [[1]] * table.num_rows,
        "struct": [{"a": 1}] * table.num_rows,
        "float": [1.5] * table.num_rows,
        "dictionary": pa.array(["b", "a"] * (table.num_rows // 2) + ["a"] * (table.num_rows % 2)).dictionary_encode(),
        "null": pa.nulls(table.num_rows),
    }
    for column in (0, 1):
        other = table.set_column(column, table.column_names[column], pa.array(values[kind]))
        with pq.ParquetWriter(path, other.schema) as out:
            for first in range(10):
                out.write_table(other.slice(first * 32, 32))
            out.add_key_value_metadata({"discreet": metadata[b"discreet"]})
        with pytest.raises(DataError, match="import the data again"):
            streamed(path)


def test_an_imported_file_has_its_columns(path: Path) -> None:
    with pytest.raises(SettingError, match="whose columns have their names already"):
        read_interactions(path, user="who")


def test_reading_leaves_the_rows_where_they_are(path: Path, tmp_path: Path) -> None:
    data = read_interactions(path)
    shutil.move(path, tmp_path / "elsewhere.parquet")
    assert (data.people, data.items) == (300, 60)
    with pytest.raises(DataError, match="no such file"):
        data.describe()
