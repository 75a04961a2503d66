"""A file of events, taken in as if it had been sent: checked, made small, kept under consent.

CSV, TSV, Parquet, and JSON lines. Each batch is named for the file's content and its place in it, so that an intake
that was cut off is begun again where it stood, and a file that is taken in twice counts once.
"""

from __future__ import annotations

from collections.abc import Iterator
from hashlib import file_digest
from pathlib import Path

import polars as pl

from discreet.data.columns import Where, ids, ids_from_text
from discreet.data.intake import events_of, layout_of
from discreet.data.records import Records
from discreet.data.tables import FrameTable, Table, readable, table_of
from discreet.data.vault import MOST_EVENTS, Collected
from discreet.errors import Conflict, DataError

JSON_LINES = (".jsonl", ".ndjson")


def collected(records: Records, path: Path) -> Iterator[Collected]:
    """Take a file in; yield what became of each batch, once that is durable.

    Args:
        records: where to.
        path: of a file with ``user_id``, ``item_id`` and perhaps ``timestamp``; rows of weight 0 do not count.

    Raises:
        DataError: the file cannot be used, holds a field that is not declared while the inventory says to refuse such,
            or names an item that is not in the catalogue. What was kept before stays; take the file in again when it
            is mended.
    """
    if path.exists() and not (path.is_file() or path.is_dir()):
        raise DataError(f"{path}: is not a file, and is read more than once; write it to one first")
    with readable(str(path)), path.open("rb") as file:
        digest = file_digest(file, "sha256").hexdigest()
    table = _table(path)
    layout = layout_of(table, "user_id", "item_id")
    unread = [*layout.unread, *([layout.time] if layout.time and records.inventory.step is None else [])]
    if unread and records.inventory.minimisation.undeclared == "refuse":
        raise DataError(f"{path}: columns {', '.join(unread[:5])} are not declared in the inventory; leave them out")
    check, where = ids_from_text if table.from_text else ids, Where(table.label)
    frames = (part for frame in table.batches(layout.wanted, MOST_EVENTS) for part in frame.iter_slices(MOST_EVENTS))
    for number, frame in enumerate(frames):
        events = events_of(frame, layout, where, check)
        if events.people.is_empty():
            continue
        times = [None] * len(events.people) if events.times is None else events.times.to_list()
        rows = zip(events.people.cast(pl.String).to_list(), events.items.cast(pl.String).to_list(), times, strict=True)
        batch = records.vault.prepared(f"{digest}/{number}", digest, rows, tuple(unread))
        (told,) = records.vault.collect([batch])
        if isinstance(told, Conflict):
            raise told
        yield told


def _table(path: Path) -> Table:
    if path.suffix not in JSON_LINES:
        return table_of(path)
    try:
        return FrameTable(pl.read_ndjson(path, infer_schema_length=None))
    except (OSError, pl.exceptions.PolarsError) as error:
        raise DataError(f"{path}: is not JSON lines ({type(error).__name__}): one object a line") from None
