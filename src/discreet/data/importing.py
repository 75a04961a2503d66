"""Importing more than memory holds: checked in batches, set aside, and put together some people at a time.

1. The source is read once, batch by batch. Each batch is checked as :func:`~discreet.data.intake.read_interactions`
   would, and its rows are set aside in a folder beside the target that only its owner can read.
2. How many rows each person has is counted: memory is that of the people and items, not of the rows.
3. Some people at a time, so many that their rows are a few million, are fetched from what was set aside, grouped,
   ordered, and written. The folder is removed, whatever happened, unless the process is killed.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import polars as pl

from discreet.data import columns
from discreet.data.catalogue import Catalogue
from discreet.data.columns import Where
from discreet.data.intake import (
    Events,
    Layout,
    events_of,
    held_of,
    layout_of,
    nothing_in,
    nothing_left,
    passport_for,
    read_interactions,
    unknown_items,
)
from discreet.data.interactions import Held, Intake, Interactions
from discreet.data.store import Passport, checked_path, write_interactions, write_pieces
from discreet.data.tables import Frame, Table, table_of
from discreet.errors import DataError, FileNotWritten
from discreet.files import writing
from discreet.privacy.adjacency import Window

BATCH = 1 << 20
"""Rows that are checked at a time."""
PART = 1 << 22
"""Rows, about, that are put together at a time."""

Progress = Callable[[str, int, int | None], None]
"""Told what is being done, the rows done, and the rows in all if that is known."""


def import_interactions(
    source: str | Path | Frame,
    out: str | Path,
    *,
    name: str | None = None,
    user: str = "user_id",
    item: str = "item_id",
    purposes: Iterable[str] | None = None,
    catalogue: Catalogue | str | Path | None = None,
    window: str | None = None,
    progress: Progress | None = None,
) -> Interactions:
    """Read, check and write an imported data set, of any size, and return it as read back from ``out``.

    The same rows make the same data set as with :func:`~discreet.data.intake.read_interactions` and
    :func:`~discreet.data.store.write_interactions`, but what has to be in memory are its people and items.

    Args:
        source: as for :func:`~discreet.data.intake.read_interactions`, as are the arguments that are not named here.
        out: where to write; ends in .parquet. While this runs its folder also holds the checked rows.
        name: see there.
        user: see there.
        item: see there.
        purposes: see there.
        catalogue: see there.
        window: see there; what was done at other times is not written.
        progress: called after each batch and each part.

    Raises:
        DataError, SettingError, PurposeNotAllowed: as :func:`~discreet.data.intake.read_interactions`.
        FileNotWritten: as :func:`~discreet.data.store.write_interactions`.
    """
    target, table, say = checked_path(out), table_of(source), progress or _silently
    passport = passport_for(source, table, name=name, purposes=purposes, catalogue=catalogue)
    if passport.blocks:
        write_interactions(read_interactions(source, user=user, item=item, purposes=purposes, window=window), target)
        return read_interactions(target)
    layout = layout_of(table, user, item, None if window is None else Window(window))
    with writing(target), tempfile.TemporaryDirectory(prefix=f".{target.name[:100]}.", dir=target.parent) as folder:
        aside = _set_aside(table, layout, Path(folder), say)
        _put_together(aside, passport, target, say)
    return read_interactions(target)


def _silently(what: str, done: int, total: int | None) -> None:
    """Report progress to nobody."""


@dataclass(frozen=True)
class _Aside:
    """Checked rows in a folder, columns ``user``, ``item`` and perhaps ``time``.

    Attributes:
        rows: lazily, in the order of the source; ids in their final form.
        count: how many there are.
        timed: whether they have times.
        intake: what was dropped so far.
        label: of the source, for messages.
    """

    rows: pl.LazyFrame
    count: int
    timed: bool
    intake: Intake
    label: str


class _Kinds:
    """What the texts of a source turn out to be, once all of it was seen."""

    def __init__(self, layout: Layout, label: str) -> None:
        self.whole = {"user": True, "item": True}
        self._columns, self._time, self._label = {"user": layout.user, "item": layout.item}, layout.time, label
        self._numbered: bool | None = None

    def see(self, frame: pl.DataFrame) -> None:
        """Take note of a batch as it was read.

        Raises:
            DataError: times are numbers here and dates there.
        """
        for role, column in self._columns.items():
            self.whole[role] = (
                self.whole[role] and frame[column].dtype == pl.String and columns.are_whole(frame[column])
            )
        if self._time is not None and not frame.is_empty():
            numbered = columns.are_numbers(frame[self._time])
            if self._numbered not in {None, numbered}:
                raise DataError(f"{self._label}: column {self._time!r} holds numbers in some rows and dates in others")
            self._numbered = numbered


def _set_aside(table: Table, layout: Layout, folder: Path, say: Progress) -> _Aside:
    kinds, read, kept, dropped = _Kinds(layout, table.label), 0, 0, 0
    for number, frame in enumerate(table.batches(layout.wanted, BATCH)):
        if table.from_text:
            kinds.see(frame)
        events = events_of(frame, layout, Where(table.label, read), columns.ids)
        _write_aside(_frame_of(events), folder / f"{number:09}.parquet")
        read, kept, dropped = read + len(frame), kept + len(events.people), dropped + events.dropped
        say("reading", read, None)
    if not read:
        raise nothing_in(table.label)
    if not kept:
        raise nothing_left(table.label, layout)
    rows = pl.scan_parquet(folder / "*.parquet")
    if table.from_text:
        rows = rows.with_columns(pl.col(role).cast(pl.Int64) for role, whole in kinds.whole.items() if whole)
    intake = Intake(zero_weight_rows_dropped=dropped, columns_not_read=layout.unread)
    return _Aside(rows, kept, layout.time is not None, intake, table.label)


def _write_aside(frame: pl.DataFrame, path: Path) -> None:
    try:
        frame.write_parquet(path)
    except pl.exceptions.PolarsError:  # how polars reports a full disk
        where = path.parent.parent
        raise FileNotWritten(
            f"{where}: has no room for what is set aside while importing; nothing was changed"
        ) from None


def _frame_of(events: Events) -> pl.DataFrame:
    rows = {"user": events.people, "item": events.items}
    return pl.DataFrame(rows if events.times is None else rows | {"time": events.times})


def _put_together(aside: _Aside, passport: Passport, target: Path, say: Progress) -> None:
    items = _counted(aside, "item")
    catalogue = passport.catalogue or Catalogue(tuple(items["item"].to_list()))
    known = set(map(str, catalogue.ids))
    unknown = sum(rows for item, rows in items.iter_rows() if str(item) not in known)
    if unknown:
        raise unknown_items(aside.label, unknown)
    written = 0

    def pieces() -> Iterator[Held]:
        nonlocal written
        for part, done in _parts(aside):
            held = held_of(part, catalogue, aside.label)
            written += held.count
            yield held
            say("writing", done, aside.count)

    def finished() -> Passport:
        intake = replace(aside.intake, duplicates_collapsed=aside.count - written)
        return replace(passport, catalogue=catalogue, intake=intake)

    write_pieces(target, pieces(), catalogue, finished)


def _counted(aside: _Aside, role: str) -> pl.DataFrame:
    """Return each id, ascending, and how many rows it has."""
    return aside.rows.group_by(role).len().sort(role).collect(engine="streaming")


def _parts(aside: _Aside) -> Iterator[tuple[Events, int]]:
    """Yield the rows of some people at a time, people ascending, and how many rows are done with them."""
    people = _counted(aside, "user")
    ends = people["len"].cum_sum().to_numpy()
    first = 0
    while first < len(people):
        before = int(ends[first - 1]) if first else 0
        last = max(first, int(np.searchsorted(ends, before + PART, side="right")) - 1)
        within = pl.col("user").is_between(pl.lit(people["user"][first]), pl.lit(people["user"][last]))
        rows = aside.rows.filter(within).collect(engine="streaming")
        yield Events(rows["user"], rows["item"], rows["time"] if aside.timed else None, 0), int(ends[last])
        first = last + 1
