"""The imported form of a data set: a Parquet file that carries what may be done with it.

The rows are grouped by person, people ascending, and cut into blocks of whole people, a row group each, so that
training reads a block at a time (:mod:`discreet.data.stored`). The file's footer holds a passport: the data set's name,
the purposes it was collected for, its catalogue, and how many people and rows each block has, with the SHA-256 of what
it says. A file is written beside its final place and moved there in one step, so a crash or a full disk leaves the old
file, or none.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, TypeVar

import numpy as np

from discreet.data.catalogue import Catalogue
from discreet.data.interactions import Held, Intake, Interactions, checked_name
from discreet.data.tables import ParquetTable
from discreet.errors import DataError
from discreet.files import replace_file

if TYPE_CHECKING:
    import pyarrow as pa

FORMAT = 3
BLOCK_PEOPLE = 4_096
BLOCK_ROWS = 1 << 20
"""A block ends before it passes either, but holds at least one person."""

_KEY = "discreet"
_Kind = TypeVar("_Kind", str, int, dict[str, object], list[object])


@dataclass(frozen=True)
class StoredBlock:
    """A row group: how many people and rows it holds, and the SHA-256 (hex) of what it says; see :func:`digest`."""

    people: int
    rows: int
    digest: str


@dataclass(frozen=True)
class Passport:
    """What a data set is and what it may be used for.

    Attributes:
        name: name of the data set.
        purposes: what it was collected for.
        catalogue: its items, or None while they are still to be read off the data.
        declared: the catalogue was given, not read off the data.
        intake: what the first import dropped, or None before it.
        synthetic: its people do not exist.
        blocks: the row groups of the file, none before it is written.
    """

    name: str
    purposes: frozenset[str]
    catalogue: Catalogue | None
    declared: bool
    intake: Intake | None = None
    synthetic: bool = False
    blocks: tuple[StoredBlock, ...] = ()


def write_interactions(data: Interactions, path: str | Path) -> None:
    """Write the checked form of ``data`` to a Parquet file that only its owner can read (mode 0600).

    Columns: ``user_id``, ``item_id`` and, if known, ``timestamp`` (Float64, seconds). Weights are not kept.

    Raises:
        DataError: the name does not end in .parquet; or ``data`` is in a file that was changed or damaged.
        FileNotWritten: the file cannot be written; an older file is untouched.
    """
    passport = Passport(
        data.name, data.purposes, data.catalogue, data.catalogue_is_declared, data.intake, data.synthetic
    )
    write_pieces(path, data._source.pieces(), data.catalogue, lambda: passport)  # in the same room


def write_pieces(
    path: str | Path, pieces: Iterable[Held], catalogue: Catalogue, passport: Callable[[], Passport]
) -> None:
    """Write rows as they come, never more than a piece in memory.

    Args:
        path: ends in .parquet.
        pieces: at least one; people ascending within and across them; all with times or none.
        catalogue: what the columns of the pieces mean.
        passport: asked for once all pieces are written; its blocks are filled in here.

    Raises:
        DataError: the name does not end in .parquet.
        FileNotWritten: the file cannot be written; an older file is untouched.
    """
    target = checked_path(path)

    def write(file: BinaryIO) -> None:
        _write(file, (cut for piece in pieces for cut in _cut(piece)), catalogue, passport)

    replace_file(target, write)


def checked_path(path: str | Path) -> Path:
    """Return the path of an imported file; raise DataError if its name does not end in .parquet."""
    target = Path(path)
    if target.suffix.lower() != ".parquet":
        raise DataError(f"{target}: the imported form is Parquet; choose a name that ends in .parquet")
    return target


def digest(piece: Held) -> str:
    """Return the SHA-256 (hex) of a block: who, how many items each, which columns. Times are left out."""
    people = piece.people_ids
    named = "\0".join(map(str, people)).encode()  # no id holds a control character
    lengths = np.diff(piece.matrix.indptr).astype("<i8")
    hashed = hashlib.sha256(b"s" if isinstance(people[0], str) else b"i")
    for part in (len(named).to_bytes(8, "little"), named, lengths.data, piece.matrix.indices.astype("<i4").data):
        hashed.update(part)
    return hashed.hexdigest()


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
        raise DataError(f"{table.label}: was damaged after import, or is of another format; import it again") from None


def _cut(piece: Held) -> Iterator[Held]:
    """Cut a piece into blocks of whole people."""
    starts, first = piece.matrix.indptr, 0
    while first < piece.people:
        fitting = int(np.searchsorted(starts, starts[first] + BLOCK_ROWS, side="right")) - 1
        end = max(first + 1, min(first + BLOCK_PEOPLE, fitting))
        times = None if piece.times is None else piece.times[starts[first] : starts[end]]
        yield Held(piece.matrix[first:end], piece.people_ids[first:end], times)
        first = end


def _write(file: BinaryIO, cuts: Iterator[Held], catalogue: Catalogue, passport: Callable[[], Passport]) -> None:
    import pyarrow as pa
    from pyarrow.parquet import ParquetWriter

    items, blocks = pa.array(catalogue.ids), []
    first = next(cuts)
    rows = _rows(first, items)
    # Statistics would repeat people's ids in the footer; checksums tell a flipped bit in whatever is read.
    with ParquetWriter(file, rows.schema, compression="zstd", write_statistics=False, write_page_checksum=True) as out:
        while True:
            out.write_table(rows, row_group_size=max(rows.num_rows, 1))
            blocks.append(StoredBlock(first.people, first.count, digest(first)))
            following = next(cuts, None)
            if following is None:
                break
            first, rows = following, _rows(following, items)
        out.add_key_value_metadata({_KEY: _text_of(replace(passport(), blocks=tuple(blocks)))})


def _rows(piece: Held, items: pa.Array) -> pa.Table:
    import pyarrow as pa

    who = np.repeat(np.arange(piece.people), np.diff(piece.matrix.indptr))
    columns = {"user_id": pa.array(piece.people_ids).take(pa.array(who)), "item_id": items.take(piece.matrix.indices)}
    return pa.table(columns if piece.times is None else columns | {"timestamp": piece.times})


def _text_of(passport: Passport) -> str:
    stored = {
        "format": FORMAT,
        "name": passport.name,
        "purposes": sorted(passport.purposes),
        "catalogue": None if passport.catalogue is None else passport.catalogue.to_dict(),
        "declared": passport.declared,
        "intake": asdict(passport.intake or Intake()),
        "synthetic": passport.synthetic,
        "blocks": [[block.people, block.rows, block.digest] for block in passport.blocks],
    }
    return json.dumps(stored)


def _read(stored: dict[str, object]) -> Passport:
    if stored["format"] != FORMAT:
        raise ValueError("another format")
    return Passport(
        checked_name(_a(str, stored["name"])),
        frozenset(map(checked_name, _texts(stored["purposes"]))),
        Catalogue.from_dict(stored["catalogue"]),
        stored["declared"] is True,
        _intake(_a(dict, stored["intake"])),
        stored["synthetic"] is True,
        tuple(map(_block, _a(list, stored["blocks"]))) or _none(),
    )


def _none() -> tuple[StoredBlock, ...]:
    raise ValueError("no blocks")


def _intake(stored: dict[str, object]) -> Intake:
    collapsed, dropped = stored["duplicates_collapsed"], stored["zero_weight_rows_dropped"]
    return Intake(_a(int, collapsed), _a(int, dropped), _texts(stored["columns_not_read"]))


def _block(stored: object) -> StoredBlock:
    people, rows, hashed = _a(list, stored)
    block = StoredBlock(_a(int, people), _a(int, rows), _a(str, hashed))
    if not 1 <= block.people <= block.rows:
        raise ValueError("a block of nobody")
    return block


def _texts(stored: object) -> tuple[str, ...]:
    return tuple(_a(str, one) for one in _a(list, stored))


def _a(kind: type[_Kind], stored: object) -> _Kind:
    if not isinstance(stored, kind) or isinstance(stored, bool):
        raise TypeError(f"not of type {kind.__name__}")
    return stored
