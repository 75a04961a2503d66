"""Obtaining MovieLens 100K, against a small data set of the same form; nothing here touches the network."""

from __future__ import annotations

import hashlib
import sys
import zipfile
from pathlib import Path

import pytest

from discreet.data import datasets
from discreet.data.catalogue import Catalogue
from discreet.data.datasets import fetch, with_decades
from discreet.data.intake import read_interactions
from discreet.data.store import write_interactions
from discreet.errors import DataError, DatasetUnavailable, FileNotWritten, PurposeNotAllowed, SettingError

RATINGS = [(196, 1, 3, 881250949), (186, 2, 3, 891717742), (186, 1, 4, 891717743)]
INTER = "user_id:token\titem_id:token\trating:float\ttimestamp:float\n" + "".join(
    "\t".join(map(str, row)) + "\n" for row in RATINGS
)
ITEM = (
    "item_id:token\tmovie_title:token_seq\trelease_year:token\tclass:token_seq\n"
    '2\tThe "Real" Thing\t1995\tDrama\n1\tToy Story\t1995\tAnimation Comedy\n3\tunknown\tunknown\tunknown\n'
)


def item(text: str, *flags: int) -> str:
    """A line of u.item: its 19 flags are 1 at the places given."""
    return "|".join([text, "1-Jan-1995", "", "http://x", *("01"[place in flags] for place in range(19))]) + "\n"


OFFICIAL = {
    "ml-100k/u.data": "".join("\t".join(map(str, row)) + "\n" for row in RATINGS).encode(),
    "ml-100k/u.item": "".join(
        [item("1|Toy Story (1995)", 3, 5), item('2|Café "X" (1994)', 8), item("3|unknown", 0)]
    ).encode("latin-1"),
}


def zipped(path: Path, members: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """The published counts of the small data set; and a pip that fails, unless a test brings another."""
    monkeypatch.setattr(datasets, "_KNOWN", {"movielens-100k": datasets._Published(2, 3, 3)})
    monkeypatch.setattr(datasets, "_command", lambda _: [sys.executable, "-c", "raise SystemExit(1)"])


@pytest.fixture
def wheel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A pip that copies a local wheel, and pins that fit it."""
    members = {datasets._INTER: INTER.encode(), datasets._ITEM: ITEM.encode()}
    path = zipped(tmp_path / "recbole-1.2.1-py3-none-any.whl", members)
    pins = {name: hashlib.sha256(content).hexdigest() for name, content in members.items()}
    copy = "import shutil, sys; shutil.copy(*sys.argv[1:])"
    monkeypatch.setattr(datasets, "_MEMBER_PINS", pins)
    monkeypatch.setattr(datasets, "_WHEEL_PIN", hashlib.sha256(path.read_bytes()).hexdigest())
    monkeypatch.setattr(datasets, "_command", lambda folder: [sys.executable, "-c", copy, str(path), str(folder)])
    return path


@pytest.mark.usefixtures("wheel")
class TestDownload:
    def test_is_checked_imported_and_kept(self, tmp_path: Path) -> None:
        said: list[str] = []
        kept = fetch(cache=tmp_path / "cache", progress=said.append)
        data = read_interactions(kept)
        assert kept == tmp_path / "cache" / "movielens-100k.parquet"
        assert (data.name, data.people, data.items, data.count) == ("movielens-100k", 2, 3, 3)
        assert data.purposes == {"train-recommender", "measure-quality"}
        assert data.catalogue.titles == ("Toy Story (1995)", 'The "Real" Thing (1995)', "unknown")
        assert data.catalogue.tags == (("1990s", "Animation", "Comedy"), ("1990s", "Drama"), ())
        assert data.catalogue_is_declared
        assert data.opened_for("measure-quality").last is not None
        assert len(said) == 2

    def test_is_not_repeated(self, wheel: Path, tmp_path: Path) -> None:
        kept = fetch(cache=tmp_path)
        before = kept.stat().st_mtime_ns
        wheel.unlink()
        assert fetch(cache=tmp_path) == kept
        assert kept.stat().st_mtime_ns == before

    def test_uses_the_users_cache_unless_told(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("platformdirs.user_cache_path", lambda name: tmp_path / "home" / name)
        assert fetch() == tmp_path / "home" / "discreet" / "movielens-100k.parquet"

    @pytest.mark.parametrize("harm", ["cut", "no hash", "another hash", "read otherwise"])
    def test_a_cache_that_is_not_what_would_be_kept_is_never_used(self, harm: str, tmp_path: Path) -> None:
        kept = fetch(cache=tmp_path)
        whole, recorded = kept.read_bytes(), kept.with_name(f"{kept.name}.sha256")
        if harm == "cut":
            kept.write_bytes(whole[:-100])
        elif harm == "no hash":
            recorded.unlink()
        elif harm == "another hash":
            recorded.write_text(f"{'0' * 64} {datasets.READING}")
        else:
            kept.write_bytes(whole + b" ")
            recorded.write_text(f"{hashlib.sha256(whole + b' ').hexdigest()} {datasets.READING - 1}")
        assert fetch(cache=tmp_path).read_bytes() == whole
        assert recorded.read_text() == f"{hashlib.sha256(whole).hexdigest()} {datasets.READING}"

    @pytest.mark.parametrize("pin", ["wheel", "member"])
    def test_another_hash_is_refused_and_nothing_kept(
        self, pin: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        if pin == "wheel":
            monkeypatch.setattr(datasets, "_WHEEL_PIN", "0" * 64)
        else:
            monkeypatch.setitem(datasets._MEMBER_PINS, datasets._ITEM, "0" * 64)
        with pytest.raises(DataError, match="another sha256"):
            fetch(cache=tmp_path / "cache")
        assert not (tmp_path / "cache").exists()

    def test_other_counts_are_refused_and_nothing_kept(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(datasets._KNOWN, "movielens-100k", datasets._Published(943, 1_682, 100_000))
        with pytest.raises(DataError, match="were published"):
            fetch(cache=tmp_path / "cache")
        assert not (tmp_path / "cache").exists()

    def test_a_cache_that_cannot_be_written(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("")
        with pytest.raises(FileNotWritten, match="cannot be written"):
            fetch(cache=tmp_path / "file" / "cache")


class TestUnavailable:
    @pytest.mark.parametrize(
        ("program", "says"),
        [
            ("import time; time.sleep(60)", "did not answer"),
            ("raise SystemExit('https://somebody:password@index')", "could not download"),
            ("pass", "no wheel"),
        ],
    )
    def test_says_what_to_do(self, program: str, says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(datasets, "_command", lambda _: [sys.executable, "-c", program])
        monkeypatch.setattr(datasets, "_DEADLINE", 0.5)
        with pytest.raises(DatasetUnavailable, match=says) as caught:
            fetch(cache=tmp_path)
        message = str(caught.value)
        assert "discreet data fetch movielens-100k --from ml-100k.zip" in message
        assert "user_id and item_id" in message
        assert "\n" not in message
        assert "password" not in message

    def test_no_python_to_run_pip_with(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(datasets, "_command", lambda _: [str(tmp_path / "no-python")])
        with pytest.raises(DatasetUnavailable):
            fetch(cache=tmp_path)

    def test_an_unknown_name_lists_the_known(self) -> None:
        with pytest.raises(SettingError, match="known are: movielens-100k"):
            fetch("netflix")


def test_the_command_downloads_one_pinned_wheel_and_runs_none_of_its_code(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    command = datasets._command(Path("/x"))
    assert command[:4] == [sys.executable, "-m", "pip", "download"]
    assert {"--no-deps", "--only-binary=:all:", "recbole==1.2.1"} <= set(command)


class TestGiven:
    def test_the_official_archive(self, tmp_path: Path) -> None:
        kept = fetch(source=zipped(tmp_path / "ml-100k.zip", OFFICIAL), cache=tmp_path)
        data = read_interactions(kept)
        assert (data.name, data.people, data.items, data.count) == ("movielens-100k", 2, 3, 3)
        assert data.catalogue.titles == ("Toy Story (1995)", 'Café "X" (1994)', "unknown")
        assert data.catalogue.tags == (("1990s", "Animation", "Comedy"), ("1990s", "Drama"), ())
        assert fetch(cache=tmp_path) == kept

    @pytest.mark.parametrize(
        ("change", "says"),
        [
            ({"ml-100k/u.data": b"1\t1\t3\t5\n"}, "were published"),
            ({"ml-100k/u.data": b""}, "cannot be read"),
            ({"ml-100k/u.data": b"1\t1\n"}, "cannot be read"),
            ({"ml-100k/u.data": b"1\t9\t3\t5\n"}, "not in the catalogue"),
            ({"ml-100k/u.item": b"1|a\n2|b\n"}, "cannot be read"),
            ({"ml-100k/u.item": (item("1|a") + item("1|b")).encode()}, r"ml-100k\.zip: .*unique"),
            ({"ml-100k/u.data": b"0" * 50_000_001}, "more than 50 MB"),
        ],
    )
    def test_another_archive_is_refused(self, change: dict[str, bytes], says: str, tmp_path: Path) -> None:
        with pytest.raises(DataError, match=says):
            fetch(source=zipped(tmp_path / "ml-100k.zip", OFFICIAL | change), cache=tmp_path / "cache")
        assert not (tmp_path / "cache").exists()

    def test_an_archive_that_lacks_a_file(self, tmp_path: Path) -> None:
        with pytest.raises(DataError, match="lacks a file"):
            fetch(source=zipped(tmp_path / "ml-1m.zip", {"ml-1m/ratings.dat": b""}), cache=tmp_path)

    def test_a_damaged_archive(self, tmp_path: Path) -> None:
        path = zipped(tmp_path / "ml-100k.zip", OFFICIAL)
        content = bytearray(path.read_bytes())
        content[60:70] = b"\xff" * 10
        path.write_bytes(content)
        for size in (len(content), 50, 0):
            path.write_bytes(content[:size])
            with pytest.raises(DataError, match="damaged or not a zip"):
                fetch(source=path, cache=tmp_path)
        with pytest.raises(DataError, match="no such file"):
            fetch(source=tmp_path / "no.zip", cache=tmp_path)

    def test_any_other_table_keeps_its_own_name(self, tmp_path: Path) -> None:
        source = tmp_path / "shop.csv"
        source.write_text("user_id,item_id\na,1\n")
        kept = fetch(source=source, cache=tmp_path)
        assert kept.name == "shop.parquet"
        assert read_interactions(kept).name == "shop"
        with pytest.raises(DatasetUnavailable):
            fetch(cache=tmp_path)

    def test_a_table_that_borrows_the_name_is_held_to_the_counts(self, tmp_path: Path) -> None:
        source = tmp_path / "movielens-100k.csv"
        source.write_text("user_id,item_id\na,1\n")
        with pytest.raises(DataError, match="rename the file"):
            fetch(source=source, cache=tmp_path / "cache")

    @pytest.mark.usefixtures("wheel")
    def test_an_import_does_not_gain_purposes(self, tmp_path: Path) -> None:
        narrow = read_interactions(fetch(cache=tmp_path / "one"), purposes=["train-recommender"])
        write_interactions(narrow, tmp_path / "narrow.parquet")
        with pytest.raises(PurposeNotAllowed):
            fetch(source=tmp_path / "narrow.parquet", cache=tmp_path / "two")


def test_decades_are_read_off_titles() -> None:
    plain = Catalogue(
        (1, 2, 3), ("Alien (1979)", "2001: A Space Odyssey", "M (1931) "), tags=(("Horror",), ("Sci-Fi",), ())
    )
    assert with_decades(plain).tags == (("1970s", "Horror"), ("Sci-Fi",), ("1930s",))
    assert with_decades(Catalogue((1, 2))).tags == ((), ())


def test_the_terms_acknowledge_the_source() -> None:
    assert "GroupLens" in datasets.TERMS
    assert "not to be redistributed" in datasets.TERMS
