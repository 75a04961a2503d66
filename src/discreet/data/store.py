"""The imported form of a data set: a Parquet file that carries what may be done with it.

The file's footer holds a passport: the data set's name, the purposes it was collected for and its catalogue. A
file is written beside its final place and moved there in one step, so a crash or a full disk leaves the old file,
or none.
"""

from __future__ import annotations

import errno
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
import polars as pl

from discreet.data.interactions import Catalogue, Intake, Interactions, checked_name
from discreet.data.tables import ParquetTable
from discreet.errors import DataError
from discreet.files import replace_file

_KEY = "discreet"
_FORMAT = 1


@dataclass(frozen=True)
class Passport:
    """What a data set is and what it may be used for.

    Attributes:
        name: name of the data set.
        purposes: what it was collected for.
        catalogue: its items, or None while they are still to be read off the data.
        declared: the catalogue was given, not read off the data.
        intake: what the first import dropped, or None before it.
    """

    name: str
    purposes: frozenset[str]
    catalogue: Catalogue | None
    declared: bool
    intake: Intake | None = None


def write_interactions(data: Interactions, path: str | Path) -> None:
    """Write the checked form of ``data`` to a Parquet file that only its owner can read (mode 0600).

    Columns: ``user_id``, ``item_id`` and, if known, ``timestamp`` (Float64, seconds). Weights are not kept.

    Raises:
        DataError: the name does not end in .parquet.
        FileNotWritten: the file cannot be written; an older file is untouched.
    """
    target = Path(path)
    if target.suffix.lower() != ".parquet":
        raise DataError(f"{target}: the imported form is Parquet; choose a name that ends in .parquet")
    frame, passport = _frame(data), _passport(data)

    def write(file: BinaryIO) -> None:
        try:
            frame.write_parquet(file, metadata={_KEY: passport})
        except pl.exceptions.PolarsError:  # how polars reports a full disk
            raise OSError(errno.ENOSPC, "the disk may be full") from None

    replace_file(target, write)


def passport_of(table: ParquetTable) -> Passport | None:
    """The passport in a Parquet file's footer, or None if the file is not an imported data set.

    Raises:
        DataError: there is a passport, but it cannot be read.
    """
    text = table.metadata(_KEY)
    if text is None:
        return None
    try:
        return _read(json.loads(text))
    except (KeyError, TypeError, ValueError, DataError):
        raise DataError(f"{table.label}: was damaged after import, or is of a later format; import it again") from None


def _frame(data: Interactions) -> pl.DataFrame:
    matrix = data._matrix  # the store is in the same room, and keeps every row it is given
    people, items = pl.Series("user_id", data._people_ids), pl.Series("item_id", data.catalogue.ids)
    columns = [
        people.gather(np.repeat(np.arange(data.people), np.diff(matrix.indptr))),
        items.gather(matrix.indices),
    ]
    return pl.DataFrame(columns if data._times is None else [*columns, pl.Series("timestamp", data._times)])


def _passport(data: Interactions) -> str:
    stored = {
        "format": _FORMAT,
        "name": data.name,
        "purposes": sorted(data.purposes),
        "catalogue": data.catalogue.to_dict(),
        "declared": data.catalogue_is_declared,
        "intake": asdict(data.intake),
    }
    return json.dumps(stored)


def _read(stored: dict[str, object]) -> Passport:
    if stored["format"] != _FORMAT:
        raise ValueError("a later format")
    return Passport(
        checked_name(_text(stored["name"])),
        frozenset(map(checked_name, _texts(stored["purposes"]))),
        Catalogue.from_dict(stored["catalogue"]),
        stored["declared"] is True,
        _intake(stored["intake"]),
    )


def _intake(stored: object) -> Intake:
    if not isinstance(stored, dict):
        raise TypeError("intake")
    collapsed, dropped = stored["duplicates_collapsed"], stored["zero_weight_rows_dropped"]
    return Intake(_count(collapsed), _count(dropped), _texts(stored["columns_not_read"]))


def _count(stored: object) -> int:
    if not isinstance(stored, int):
        raise TypeError("a whole number")
    return stored


def _texts(stored: object) -> tuple[str, ...]:
    if not isinstance(stored, list):
        raise TypeError("a list of strings")
    return tuple(_text(one) for one in stored)


def _text(stored: object) -> str:
    if not isinstance(stored, str):
        raise TypeError("a string")
    return stored
