"""Files of events: every kind, twice, cut off, and those that are none."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest
from systems import RECOMMEND, System, inventory, system

from discreet.data.bulk import collected
from discreet.data.vault import MOST_EVENTS
from discreet.errors import DataError

ROWS = {
    "user_id": ["ann", "ann", "bob", "cleo"],
    "item_id": ["a", "b", "c", "a"],
    "rating": [5, 0, 3, 4],
    "address": ["x", "y", "z", "w"],
}


@pytest.fixture
def shop(place: str | Path) -> Iterator[System]:
    with system(place) as made:
        made.agree("ann", "bob")
        yield made


def written(folder: Path, ending: str) -> Path:
    path, frame = folder / f"events{ending}", pl.DataFrame(ROWS)
    match ending:
        case ".csv":
            frame.write_csv(path)
        case ".tsv":
            frame.write_csv(path, separator="\t")
        case ".parquet":
            frame.write_parquet(path)
        case _:
            frame.write_ndjson(path)
    return path


@pytest.mark.parametrize("ending", [".csv", ".tsv", ".parquet", ".jsonl", ".ndjson"])
def test_each_kind_of_file_is_taken_in_and_counts_once(shop: System, tmp_path: Path, ending: str) -> None:
    path = written(tmp_path, ending)
    (told,) = collected(shop, path)
    assert (told.kept, told.people, told.without_consent, told.unread) == (2, 2, 1, ("address",))
    assert list(collected(shop, path)) == [told]
    assert shop.vault.history(shop.who("ann"), RECOMMEND) == ["a"]
    assert shop.vault.own(shop.who("bob")).size == 1


def test_a_long_file_comes_in_batches_and_goes_on_where_it_was_cut_off(shop: System, tmp_path: Path) -> None:
    path = tmp_path / "long.csv"
    rows = [f"ann,{'abcdef'[number % 6]}" for number in range(2 * MOST_EVENTS + 5)]
    path.write_text("\n".join(["user_id,item_id", *rows, ""]))
    first = next(iter(collected(shop, path)))
    assert first.kept == MOST_EVENTS
    assert sum(told.kept for told in collected(shop, path)) == len(rows)
    assert len([entry for entry in shop.journal.rows() if entry.kind == "collect"]) == 3
    assert shop.vault.own(shop.who("ann")).size == 6


def test_undeclared_columns_can_be_refused(place: str | Path, tmp_path: Path) -> None:
    with system(place, declared=inventory(undeclared="refuse")) as shop:
        shop.agree("ann")
        with pytest.raises(DataError, match="columns address are not declared"):
            list(collected(shop, written(tmp_path, ".csv")))
        assert shop.vault.own(shop.who("ann")).size == 0


def test_times_that_are_not_declared_are_not_read(place: str | Path, tmp_path: Path) -> None:
    declared = inventory()
    declared = replace(declared, fields=tuple(field for field in declared.fields if field.name == "item_id"))
    path = tmp_path / "timed.csv"
    path.write_text("user_id,item_id,timestamp\nann,a,1000000000\n")
    with system(place, declared=declared) as shop:
        shop.agree("ann")
        (told,) = collected(shop, path)
        assert told.unread == ("timestamp",)
        assert shop.vault.own(shop.who("ann"))["time"][0] > 1_600_000_000


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("none.csv", None),
        ("empty.csv", b""),
        ("other.csv", b"person,thing\n1,2\n"),
        ("unknown.csv", b"user_id,item_id\nann,zzz\n"),
        ("bad.jsonl", b"{\n"),
        ("bad.jsonl", b"[1, 2]\n"),
        ("empty.jsonl", b""),
        ("bad.xml", b"<a/>"),
        ("long.csv", b"x" * (1 << 20)),
        ("day.csv", b"user_id,item_id,timestamp\nann,a,01/11/2026\n"),
        ("day.csv", b"user_id,item_id,timestamp\nann,a,1.11.2026\n"),
        ("before.csv", b"user_id,item_id,timestamp\nann,a,-5\n"),
    ],
)
def test_files_that_are_none(shop: System, tmp_path: Path, name: str, content: bytes | None) -> None:
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(DataError):
        list(collected(shop, path))
    assert shop.vault.own(shop.who("ann")).size == 0


def test_what_is_no_file_is_not_waited_for(shop: System, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.csv")
    with pytest.raises(DataError, match="is not a file"):
        list(collected(shop, tmp_path / "pipe.csv"))


@pytest.mark.parametrize(("time", "kept", "too_old"), [("2026", 0, 1), ("20261101", 0, 1), ("2020-01-01", 0, 1)])
def test_what_is_too_old_is_not_said_to_be_kept(
    shop: System, tmp_path: Path, time: str, kept: int, too_old: int
) -> None:
    shop.agree("ann")
    path = tmp_path / "old.csv"
    path.write_text(f"user_id,item_id,timestamp\nann,a,{time}\n")
    (told,) = collected(shop, path)
    assert (told.kept, told.too_old) == (kept, too_old)


def test_rows_that_do_not_count_alone_are_nothing(shop: System, tmp_path: Path) -> None:
    path = tmp_path / "zeros.csv"
    path.write_text("user_id,item_id,rating\nann,a,0\n")
    assert list(collected(shop, path)) == []
