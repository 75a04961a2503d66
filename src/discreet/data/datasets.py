"""Public data sets, obtained on this machine and checked before use.

MovieLens 100K may be used for research but not redistributed, so none of it is in this repository. It is read
out of the example data of a published Python package, which pip downloads and which is opened as a zip file: never
imported, never installed. The archive and the two files used are pinned by sha256, and the counts must be the
published ones.
"""

from __future__ import annotations

import hashlib
import re
import subprocess
import sys
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import platformdirs
import polars as pl

from discreet.data.catalogue import Catalogue
from discreet.data.intake import TRAINING, read_interactions
from discreet.data.interactions import Interactions
from discreet.data.store import passport_of, write_interactions
from discreet.data.tables import ParquetTable, readable
from discreet.errors import DataError, DatasetUnavailable, SettingError
from discreet.files import write_bytes, writing

TERMS = (
    "MovieLens 100K is data of GroupLens Research, University of Minnesota: for research, with acknowledgement, and "
    "not to be redistributed or used commercially without permission (F. M. Harper and J. A. Konstan, 2015, The "
    "MovieLens Datasets: History and Context, ACM TiiS 5(4):19)."
)
PURPOSES = (TRAINING, "measure-quality")

READING = 2
"""Raised when the same files are read otherwise, so that what was kept before is read anew."""

_REQUIREMENT = "recbole==1.2.1"
_DEADLINE = 120  # seconds; the archive is 2 MB
_LARGEST_MEMBER = 50_000_000  # bytes; ml-100k's largest is 2 MB, anything near this is no ml-100k.zip
# The flags of u.item after the title, in its order; the first says that no genre is known.
# fmt: off
_GENRES = (
    "unknown", "Action", "Adventure", "Animation", "Children's", "Comedy", "Crime", "Documentary", "Drama", "Fantasy",
    "Film-Noir", "Horror", "Musical", "Mystery", "Romance", "Sci-Fi", "Thriller", "War", "Western",
)
# fmt: on
_INTER = "recbole/dataset_example/ml-100k/ml-100k.inter"
_ITEM = "recbole/dataset_example/ml-100k/ml-100k.item"
_WHEEL_PIN = "9c9948202011f37eb0a7c6768129313f00d6403ad221ec940d5e2d5d5f33a407"
_MEMBER_PINS = {
    _INTER: "4edb74e2a81178c2ba9ff381495f754f996c4aea351b1272ca36b43da0935eff",
    _ITEM: "51d7cdf777ce5c0f5b32c1d947a4a81fe07d75e78abbe761e0cd4d0756064532",
}

Progress = Callable[[str], None]


@dataclass(frozen=True)
class _Published:
    """The counts that a data set's publishers state."""

    people: int
    items: int
    interactions: int


_KNOWN = {"movielens-100k": _Published(people=943, items=1_682, interactions=100_000)}


def fetch(
    dataset: str = "movielens-100k",
    *,
    source: Path | None = None,
    cache: Path | None = None,
    progress: Progress | None = None,
) -> Path:
    """Obtain a named data set, check it, and keep its imported form.

    Args:
        dataset: its name; "movielens-100k" is the one there is.
        source: take it from this file instead of the network: the official ml-100k.zip, or any CSV, TSV or
            Parquet file with ``user_id`` and ``item_id``, which is then named after the file and held to no counts.
        cache: folder to keep it in; by default the user's cache folder.
        progress: told in a few words what is being done.

    Returns:
        A Parquet file of :func:`~discreet.data.store.write_interactions`. What was fetched before is returned
        without touching the network, if it still has the sha256 that was recorded then.

    Raises:
        SettingError: no data set of that name is known.
        DatasetUnavailable: it could not be downloaded; the message says what to do.
        DataError: what was obtained is not what it should be; nothing is kept.
    """
    if dataset not in _KNOWN:
        raise SettingError(f"dataset: {dataset!r} is not known; known are: {', '.join(_KNOWN)}")
    folder = cache or platformdirs.user_cache_path("discreet")
    say = progress or _silently
    kept = _kept_path(folder, dataset)
    if source is None and _is_intact(kept):
        return kept
    data = _downloaded(dataset, say) if source is None else _given(dataset, source)
    say(f"checking {data.count:,} interactions of {data.people:,} people")
    _check_counts(data)
    return _keep(data, folder)


def _silently(_: str) -> None:
    """Report progress to nobody."""


def _downloaded(dataset: str, say: Progress) -> Interactions:
    with tempfile.TemporaryDirectory(prefix="discreet-") as folder:
        say(f"downloading {_REQUIREMENT} (2 MB)")
        wheel = _download(dataset, Path(folder))
        _check_pin(wheel.name, wheel.read_bytes(), _WHEEL_PIN)
        members = _members(wheel, _MEMBER_PINS)
    for name, pin in _MEMBER_PINS.items():
        _check_pin(name, members[name], pin)
    return _from_wheel(dataset, members)


def _download(dataset: str, folder: Path) -> Path:
    """Let pip put the archive into ``folder``. Its words are dropped: they may hold somebody's credentials."""
    try:
        subprocess.run(_command(folder), check=True, capture_output=True, timeout=_DEADLINE)
    except subprocess.TimeoutExpired:
        raise _unavailable(dataset, f"pip did not answer within {_DEADLINE} seconds") from None
    except (subprocess.CalledProcessError, OSError):
        raise _unavailable(dataset, f"pip could not download {_REQUIREMENT}") from None
    wheel = next(folder.glob("*.whl"), None)
    if wheel is None:
        raise _unavailable(dataset, f"pip downloaded no wheel of {_REQUIREMENT}")
    return wheel


def _command(folder: Path) -> list[str]:
    pip = [sys.executable, "-m", "pip", "download", "--disable-pip-version-check", "--no-input", "--quiet"]
    return [*pip, "--no-deps", "--only-binary=:all:", "--dest", str(folder), _REQUIREMENT]


def _unavailable(dataset: str, why: str) -> DatasetUnavailable:
    return DatasetUnavailable(
        f"{dataset}: {why}; go online and try again, or get ml-100k.zip from GroupLens (or any CSV, TSV or Parquet "
        f"file with user_id and item_id) and run: discreet data fetch {dataset} --from ml-100k.zip"
    )


def _given(dataset: str, source: Path) -> Interactions:
    if source.suffix.lower() == ".zip":
        return _from_official(dataset, source)
    return read_interactions(source, purposes=PURPOSES)


def _from_wheel(dataset: str, members: Mapping[str, bytes]) -> Interactions:
    events = pl.read_csv(members[_INTER], separator="\t")
    items = pl.read_csv(members[_ITEM], separator="\t", quote_char=None, infer_schema_length=None)
    title, year = pl.col("movie_title:token_seq"), pl.col("release_year:token")
    dated = pl.when(year.str.contains(r"^\d{4}$")).then(pl.format("{} ({})", title, year)).otherwise(title)
    return _movielens(
        dataset,
        events.rename(lambda name: name.partition(":")[0]),  # "user_id:token"
        items.select(item_id="item_id:token", title=dated, genres=pl.col("class:token_seq").str.split(" ")),
    )


def _from_official(dataset: str, path: Path) -> Interactions:
    members = _members(path, ("ml-100k/u.data", "ml-100k/u.item"))
    columns = ["user_id", "item_id", "rating", "timestamp"]
    events = _bare(path, members["ml-100k/u.data"], "\t", columns)
    described = members["ml-100k/u.item"].decode("latin-1").encode()
    items = _bare(path, described, "|", ["item_id", "title", "released", "on_video", "url", *_GENRES])
    named = [pl.when(pl.col(genre).cast(pl.String) == "1").then(pl.lit(genre)) for genre in _GENRES]
    items = items.select("item_id", "title", genres=pl.concat_list(named))
    try:
        return _movielens(dataset, events, items)
    except DataError as error:  # speaks of a data frame, or of a catalogue
        raise DataError(f"{path}: {error}; download ml-100k.zip again") from None


def _bare(path: Path, content: bytes, separator: str, names: list[str]) -> pl.DataFrame:
    """Read the first columns of a table without a header, and name them."""
    try:
        table = pl.read_csv(content, separator=separator, has_header=False, quote_char=None)
        return table.select(pl.nth(range(len(names)))).rename(dict(zip(table.columns, names, strict=False)))
    except pl.exceptions.PolarsError:
        raise DataError(f"{path}: its tables cannot be read; download ml-100k.zip again") from None


def _movielens(dataset: str, events: pl.DataFrame, items: pl.DataFrame) -> Interactions:
    """Put a data set together from people's events, and from items with ``title`` and a list of ``genres``."""
    known = pl.element().filter(pl.element().is_in(_GENRES[1:])).unique().sort()
    ordered = items.sort("item_id").with_columns(pl.col("title").fill_null(""), pl.col("genres").list.eval(known))
    ids, titles, genres = (ordered[column].to_list() for column in ("item_id", "title", "genres"))
    catalogue = with_decades(Catalogue(tuple(ids), tuple(titles), tags=tuple(map(tuple, genres))))
    return read_interactions(events, name=dataset, purposes=PURPOSES, catalogue=catalogue)


def with_decades(catalogue: Catalogue) -> Catalogue:
    """Return the catalogue with a further tag, such as ``1990s``, on each item whose title ends in a year: ``(1995)``.

    The titles of MovieLens do.
    """
    years = [re.search(r"\((\d{3})\d\)\s*$", title) for title in catalogue.titles or ("",) * len(catalogue)]
    decades = [{f"{year[1]}0s"} if year else set() for year in years]
    tags = catalogue.tags or ((),) * len(catalogue)
    both = tuple(tuple(sorted({*own, *decade})) for own, decade in zip(tags, decades, strict=True))
    return replace(catalogue, tags=both)


def _members(path: Path, wanted: Mapping[str, str] | tuple[str, ...]) -> dict[str, bytes]:
    with readable(str(path)), _unzipping(path), zipfile.ZipFile(path) as archive:
        return {name: _member(archive, name, path) for name in wanted}


def _member(archive: zipfile.ZipFile, name: str, path: Path) -> bytes:
    with archive.open(name) as file:
        content = file.read(_LARGEST_MEMBER + 1)  # the size in the archive's directory may be a lie
    if len(content) > _LARGEST_MEMBER:
        raise DataError(f"{path}: {name} unpacks to more than 50 MB, so it is not MovieLens 100K")
    return content


@contextmanager
def _unzipping(path: Path) -> Iterator[None]:
    try:
        yield
    except KeyError:
        raise DataError(f"{path}: lacks a file that MovieLens 100K has; download ml-100k.zip again") from None
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError):
        raise DataError(f"{path}: is damaged or not a zip file; download ml-100k.zip again") from None


def _check_pin(name: str, content: bytes, pin: str) -> None:
    if hashlib.sha256(content).hexdigest() != pin:
        raise DataError(f"{name}: has another sha256 than the file this version knows; nothing was kept")


def _check_counts(data: Interactions) -> None:
    """A data set that bears a published name has the published counts."""
    found = _Published(data.people, data.items, data.count)
    published = _KNOWN.get(data.name, found)
    if found != published:
        raise DataError(
            f"{data.name}: has {found.people} people, {found.items} items and {found.interactions} interactions, "
            f"but {published.people}, {published.items} and {published.interactions} were published; rename the file"
        )


def _keep(data: Interactions, folder: Path) -> Path:
    """Write the data, then its hash: killed in between, the file has no right hash and is never used."""
    with writing(folder):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    kept = _kept_path(folder, data.name)
    write_interactions(data, kept)
    write_bytes(_record_path(kept), _record(kept))
    return kept


def _is_intact(kept: Path) -> bool:
    """Whether what was kept is as it was written, and by a version that writes as this one does."""
    recorded = _record_path(kept)
    if not (kept.is_file() and recorded.is_file() and recorded.read_bytes() == _record(kept)):
        return False
    try:
        return passport_of(ParquetTable(kept)) is not None
    except DataError:
        return False


def _record(kept: Path) -> bytes:
    """Return what tells that a file is as it was kept, and would be kept so again."""
    with kept.open("rb") as file:
        return f"{hashlib.file_digest(file, 'sha256').hexdigest()} {READING}".encode()


def _kept_path(folder: Path, name: str) -> Path:
    return folder / f"{name}.parquet"


def _record_path(kept: Path) -> Path:
    return kept.with_name(f"{kept.name}.sha256")
