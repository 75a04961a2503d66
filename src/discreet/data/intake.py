"""Reading people's interactions, and refusing what is not clear.

Every row that says who chose what counts once; how much they liked it is not kept, because no model here uses
it. Columns that are not needed are not read. What was dropped on the way is counted and can be seen
(:meth:`Interactions.describe`); what cannot be used is refused in one line that names the file, the column and
the row, and never a person or a value.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from discreet.data import columns
from discreet.data.catalogue import SENSITIVE, Catalogue
from discreet.data.columns import Where
from discreet.data.interactions import Held, Intake, Interactions, checked_name, rows_of
from discreet.data.store import Passport, passport_of
from discreet.data.stored import InFile
from discreet.data.tables import Frame, ParquetTable, Table, table_of
from discreet.errors import DataError, PurposeNotAllowed, SettingError
from discreet.privacy.adjacency import Window
from discreet.privacy.levels import Level, Levels

IdCheck = Callable[[pl.Series, Where], pl.Series]

TRAINING = "train-recommender"
_WEIGHTS = ("weight", "rating")
_TAGS = ("tags", "genres", "category")


def read_interactions(
    source: str | Path | Frame,
    *,
    name: str | None = None,
    user: str = "user_id",
    item: str = "item_id",
    purposes: Iterable[str] | None = None,
    catalogue: Catalogue | str | Path | None = None,
    window: str | None = None,
) -> Interactions:
    """Read and check who chose what.

    A row counts when its ``weight`` (or ``rating``) is above zero, or when there is no such column. A column
    ``timestamp`` (numbers, or dates) is used to find each person's latest item. Other columns are not read.

    Args:
        source: a .csv, .tsv, .txt or .parquet file, or a frame (polars, pandas, Arrow, mapping of columns).
        name: name of the data set and of its budget; by default the file's name, or "interactions".
        user: the column that says who.
        item: the column that says what.
        purposes: what the data was collected for; by default ``train-recommender``.
        catalogue: the public list of items, or a file of them (:func:`read_catalogue`). Without it, the items in the
            data are the catalogue, and the guarantee treats that list as public.
        window: a year, month or day (UTC), such as ``2024-05``: rows of other times are left out, before anything else
            is done with them. Numbers in ``timestamp`` are then seconds since 1970. An imported file has to hold that
            window alone.

    A file made by :func:`~discreet.data.store.write_interactions` brings its own name, purposes and catalogue. Its
    purposes can be narrowed here, never widened.

    Raises:
        DataError: the source cannot be used; one line says where and what to do.
        SettingError: a name is empty, too long, holds "/" or control characters, or contradicts the file's own; an
            argument is of another type.
        PurposeNotAllowed: the file does not carry one of ``purposes``.
    """
    table = table_of(source)
    passport = passport_for(source, table, name=name, purposes=purposes, catalogue=catalogue)
    within = None if window is None else Window(window)
    if passport.blocks:
        check_columns(user, item)
        stored = _in_file(Path(table.label), passport)
        if within:
            stored.check_window(within)
        return stored
    layout = layout_of(table, user, item, within)
    return _assembled(_events(table, layout), layout, passport, table.label)


def check_columns(user: str, item: str) -> None:
    """Refuse other columns than those of an imported file.

    Raises:
        SettingError: one of them was named.
    """
    if (user, item) != ("user_id", "item_id"):
        raise SettingError("user and item: the file is an imported data set, whose columns have their names already")


def passport_for(
    source: object,
    table: Table,
    *,
    name: str | None,
    purposes: Iterable[str] | None,
    catalogue: Catalogue | str | Path | None,
) -> Passport:
    """Return the passport that an imported file carries, narrowed to what is asked for; or a new one, without blocks.

    Raises:
        DataError, SettingError, PurposeNotAllowed: as :func:`read_interactions`.
    """
    carried = passport_of(table) if isinstance(table, ParquetTable) else None
    declared = _declared(catalogue)
    if carried is None:
        return _issued(source, name, purposes, declared)
    return _narrowed(carried, name, purposes, declared)


def _in_file(path: Path, passport: Passport) -> Interactions:
    """The rows stay where they are: an imported file says by itself what is in it."""
    catalogue, intake = passport.catalogue, passport.intake
    if catalogue is None or intake is None:
        raise DataError(f"{path}: was damaged after import; import it again")
    rows = InFile(path, catalogue, passport.blocks)
    of = (passport.name, catalogue, passport.purposes, passport.declared, intake)
    return Interactions(*of, rows, passport.synthetic)


def _declared(catalogue: object) -> Catalogue | None:
    if isinstance(catalogue, str | Path):
        return read_catalogue(catalogue)
    if catalogue is None or isinstance(catalogue, Catalogue):
        return catalogue
    raise SettingError(f"catalogue: give a Catalogue, or the path of a file, not {type(catalogue).__name__}")


def read_catalogue(path: str | Path) -> Catalogue:
    """Read a public list of items from a file with the column ``item_id`` and, where they are there, others.

    These are ``title``; ``sensitive``, one of :data:`~discreet.data.catalogue.SENSITIVE` or nothing; and ``tags``
    (without them ``genres``, or ``category``), separated by ``|``.

    Raises:
        DataError: the file cannot be used, names an item twice, or calls one sensitive in another way.
    """
    table = table_of(path)
    _require(table, "item_id", ("item_id",))
    title, category, tags = (_spare(table, names) for names in (("title",), ("sensitive",), _TAGS))
    frame = table.columns([name for name in ("item_id", title, category, tags) if name is not None])
    if frame.is_empty():
        raise nothing_in(table.label)
    if tags not in (None, _TAGS[0]) and frame[tags].dtype not in (pl.String, pl.List(pl.String)):
        tags = None  # numbers that are called genres or category describe nothing
    check = columns.ids_from_text if table.from_text else columns.ids
    where = Where(table.label)
    frame = frame.with_columns(
        check(frame["item_id"], where),
        *([] if title is None else [columns.texts(frame[title], where)]),
        *([] if category is None else [columns.among(frame[category], ("", *SENSITIVE), where)]),
        *([] if tags is None else [columns.tags(frame[tags], where)]),
    ).sort("item_id")
    if frame["item_id"].is_duplicated().any():
        raise DataError(f"{table.label}: column 'item_id' names an item twice; keep one row an item")
    return Catalogue(
        ids=tuple(frame["item_id"].to_list()),
        titles=None if title is None else tuple(frame[title].to_list()),
        categories=None if category is None else tuple(frame[category].to_list()),
        tags=None if tags is None else tuple(map(tuple, frame[tags].to_list())),
    )


def read_levels(source: str | Path | Frame, *, others: str = str(Level.BALANCED)) -> Levels:
    """Read which level of protection each person chose: the columns ``user_id`` and ``level``.

    Args:
        source: a .csv, .tsv, .txt or .parquet file, or a frame, as for :func:`read_interactions`.
        others: level of whoever is not in it: off, strong, balanced or light.

    Raises:
        DataError: the source cannot be used; or a row names no level, or a person who was named before.
        SettingError: ``others`` is no level.
    """
    table = table_of(source)
    for column in ("user_id", "level"):
        _require(table, column, ("user_id", "level"))
    frame, where = table.columns(["user_id", "level"]), Where(table.label)
    if frame.is_empty():
        return Levels({}, Level.named(others))
    people = (columns.ids_from_text if table.from_text else columns.ids)(frame["user_id"], where)
    if people.is_duplicated().any():
        raise DataError(f"{table.label}: column 'user_id' names a person twice; keep one row a person")
    names = columns.among(frame["level"], [str(level) for level in Level], where)
    chosen = dict(zip(people.to_list(), map(Level.named, names.to_list()), strict=True))
    return Levels(chosen, Level.named(others))


def read_attribute(source: str | Path | Frame, column: str) -> dict[str | int, str]:
    """Read what is known of people: ``user_id`` and one further column, as text; where that is empty, nothing is.

    Args:
        source: a .csv, .tsv, .txt or .parquet file, or a frame, as for :func:`read_interactions`.
        column: which one.

    Raises:
        DataError: the source cannot be used, lacks a column, or names a person twice.
    """
    table, wanted = table_of(source), ("user_id", column)
    for name in wanted:
        _require(table, name, wanted)
    frame, where = table.columns([*wanted]), Where(table.label)
    people = (columns.ids_from_text if table.from_text else columns.ids)(frame["user_id"], where)
    if people.is_duplicated().any():
        raise DataError(f"{table.label}: column 'user_id' names a person twice; keep one row a person")
    values = frame[column].cast(pl.String).fill_null("").to_list()
    return {person: value for person, value in zip(people.to_list(), values, strict=True) if value}


def _issued(source: object, name: str | None, purposes: Iterable[str] | None, declared: Catalogue | None) -> Passport:
    if name is None:
        name = Path(source).stem if isinstance(source, str | Path) else "interactions"
    allowed = _purposes(TRAINING if purposes is None else purposes)
    return Passport(checked_name(name), allowed, declared, declared is not None)


def _narrowed(
    passport: Passport, name: str | None, purposes: Iterable[str] | None, declared: Catalogue | None
) -> Passport:
    if name not in (None, passport.name):
        raise SettingError(f"name: the file is the data set {passport.name!r} and cannot be read as another")
    if declared not in (None, passport.catalogue):
        raise SettingError("catalogue: the file carries its own catalogue, which is another one")
    wanted = _purposes(passport.purposes if purposes is None else purposes)
    if not wanted <= passport.purposes:
        extra, allowed = ", ".join(sorted(wanted - passport.purposes)), ", ".join(sorted(passport.purposes))
        raise PurposeNotAllowed(f"{passport.name} may not be used for {extra}; it was collected for: {allowed}")
    return replace(passport, purposes=wanted)


def _purposes(purposes: object) -> frozenset[str]:
    one = [purposes] if isinstance(purposes, str) else purposes
    if not isinstance(one, Iterable):
        raise SettingError(f"purposes: give a list of texts, not {type(one).__name__}")
    checked = frozenset(checked_name(purpose, "purposes") for purpose in one)
    if not checked:
        raise SettingError("purposes: name at least one; data without a purpose cannot be used")
    return checked


@dataclass(frozen=True)
class Layout:
    """Which columns of a table say what; ``unread`` are the others. Rows outside the window, if any, do not count."""

    user: str
    item: str
    weight: str | None
    time: str | None
    unread: tuple[str, ...]
    window: Window | None = None

    @property
    def wanted(self) -> list[str]:
        """The columns to read."""
        return [name for name in (self.user, self.item, self.weight, self.time) if name is not None]


@dataclass(frozen=True)
class Events:
    """Checked rows, aligned: ids of people and items, seconds or None; and how many rows were dropped to get them."""

    people: pl.Series
    items: pl.Series
    times: pl.Series | None
    dropped: int


def layout_of(table: Table, user: str, item: str, window: Window | None = None) -> Layout:
    """Find the columns; with a window there has to be one of times.

    Raises:
        DataError: one that is needed is not there.
        SettingError: ``user`` and ``item`` are the same.
    """
    if user == item:
        raise SettingError("user and item name the same column")
    for argument, column in (("user", user), ("item", item)):
        _require(
            table, column, (user, item), f" (if it has another name, say {argument}=, on the command line --{argument})"
        )
    if window:
        _require(table, "timestamp", (user, item, "timestamp"))
    weight, time = _spare(table, _WEIGHTS, user, item), _spare(table, ("timestamp",), user, item)
    return Layout(
        user, item, weight, time, tuple(name for name in table.names if name not in {user, item, weight, time}), window
    )


def events_of(frame: pl.DataFrame, layout: Layout, where: Where, ids: IdCheck) -> Events:
    """Check rows, and drop those of weight 0.

    Raises:
        DataError: a row cannot be used.
    """
    people, items = ids(frame[layout.user], where), ids(frame[layout.item], where)
    counts = pl.repeat(True, len(frame), eager=True)
    if layout.weight is not None:
        counts = columns.positive(frame[layout.weight], where)
    times = None if layout.time is None else columns.seconds(frame[layout.time], where)
    if layout.window and times is not None:
        first, end = layout.window.seconds
        within = ((times >= first) & (times < end)).to_numpy()
        people, items, times, counts = (each.filter(within) for each in (people, items, times, counts))
    dropped = len(counts) - int(counts.sum())
    return Events(people.filter(counts), items.filter(counts), None if times is None else times.filter(counts), dropped)


def _events(table: Table, layout: Layout) -> Events:
    frame = table.columns(layout.wanted)
    if frame.is_empty():
        raise nothing_in(table.label)
    events = events_of(frame, layout, Where(table.label), columns.ids_from_text if table.from_text else columns.ids)
    if events.people.is_empty():
        raise nothing_left(table.label, layout)
    return events


def nothing_in(label: str) -> DataError:
    """Return what to raise of a table without rows."""
    return DataError(f"{label}: holds no rows")


def nothing_left(label: str, layout: Layout) -> DataError:
    """Return what to raise of a table in which no row counts."""
    if layout.window:
        return DataError(f"{label}: holds nothing of {layout.window}")
    return DataError(f"{label}: column {layout.weight!r}: every row has weight 0, so nothing is left")


def _require(table: Table, column: str, wanted: tuple[str, ...], hint: str = "") -> None:
    if column not in table.names:
        raise DataError(f"{table.label}: no column {column!r}{hint}; {table.listing(wanted)}")


def _spare(table: Table, names: tuple[str, ...], *taken: str) -> str | None:
    """The first of ``names`` that is a column and does not serve as an id already."""
    return next((name for name in names if name in table.names and name not in taken), None)


def _assembled(events: Events, layout: Layout, passport: Passport, label: str) -> Interactions:
    catalogue = passport.catalogue or Catalogue(tuple(events.items.unique().sort().to_list()))
    held = held_of(events, catalogue, label)
    intake = Intake(len(events.people) - held.count, events.dropped, layout.unread)
    return Interactions(passport.name, catalogue, passport.purposes, passport.declared, intake, held)


def held_of(events: Events, catalogue: Catalogue, label: str) -> Held:
    """Group rows by person, people and items ascending; of rows that say the same the latest stays.

    Raises:
        DataError: an item is not in the catalogue.
    """
    people = events.people.unique().sort()
    rows = _positions(events.people, people)
    cols = _positions(events.items, pl.Series(catalogue.ids), label)
    times = None if events.times is None else events.times.to_numpy()
    latest = _latest_of_each_pair(rows * len(catalogue) + cols, times)
    lengths = np.bincount(rows[latest], minlength=len(people))
    matrix = rows_of(lengths, cols[latest].astype(np.int32), len(catalogue))
    return Held(matrix, tuple(people.to_list()), None if times is None else times[latest])


def _positions(ids: pl.Series, known: pl.Series, label: str = "") -> NDArray[np.int64]:
    """Where each id stands in ``known``. A number and its decimal string are one id, as in a catalogue."""
    if ids.dtype != known.dtype:
        ids, known = ids.cast(pl.String), known.cast(pl.String)
    places = pl.DataFrame({"id": known, "place": pl.int_range(len(known), eager=True)})
    found = pl.DataFrame({"id": ids}).join(places, on="id", how="left", maintain_order="left")["place"]
    if found.null_count():
        raise unknown_items(label, found.null_count())
    return np.array(found.to_numpy(), dtype=np.int64)


def unknown_items(label: str, rows: int) -> DataError:
    """Return what to raise of so many rows."""
    return DataError(f"{label}: {rows} rows name items that are not in the catalogue; add them to it")


def _latest_of_each_pair(pairs: NDArray[np.int64], times: NDArray[np.float64] | None) -> NDArray[np.int64]:
    """One row number a distinct pair, pairs ascending: the latest, when there are times."""
    order = np.lexsort((pairs,) if times is None else (times, pairs))
    latest: NDArray[np.int64] = order[np.append(np.diff(pairs[order]) != 0, True)]
    return latest
