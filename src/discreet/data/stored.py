"""Histories that stay in their file, and come block by block.

Every block is checked whenever it is read, as strictly as histories in memory are: a person's rows are in one place,
people ascend across the file, no item is there twice; and what it says has the SHA-256 that the passport held when the
data set was opened. So each round of a training run sees the same histories, each person once, or the run ends.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np
from numpy.typing import NDArray

from discreet.data.catalogue import Catalogue, ascending
from discreet.data.interactions import Held, Opening, Rows, is_canonical, rows_of
from discreet.data.store import StoredBlock, digest
from discreet.data.tables import readable
from discreet.errors import DataError, SettingError

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass(frozen=True, eq=False, repr=False)
class InFile:
    """The rows of an imported data set, in its file.

    Attributes:
        path: of the file.
        catalogue: its items.
        blocks: what its passport said when it was opened.
    """

    path: Path
    catalogue: Catalogue
    blocks: tuple[StoredBlock, ...]

    @property
    def people(self) -> int:
        """How many people there are."""
        return sum(block.people for block in self.blocks)

    @property
    def count(self) -> int:
        """How many interactions there are."""
        return sum(block.rows for block in self.blocks)

    def resolved(self) -> InFile:
        """The same file by its whole path, for processes that stand elsewhere."""
        return replace(self, path=self.path.resolve())

    def pieces(self) -> Iterator[Held]:
        """Yield the blocks, with times where there are any.

        Raises:
            DataError: the file is gone, was changed, or is damaged; or somebody is in two blocks.
        """
        last: str | int | None = None
        for number in range(len(self.blocks)):
            piece = self.piece(number, timed=True)
            if last is not None and not ascending((last, piece.people_ids[0])):
                raise self._refusal(number, "names people out of order, so that somebody may be there twice")
            last = piece.people_ids[-1]
            yield piece

    def opened(self, opening: Opening) -> StoredHistories:
        """Check the whole file, once, and hand out the histories.

        Raises:
            DataError: as :meth:`pieces`.
        """
        people = tuple(person for piece in self.pieces() for person in piece.people_ids)
        return StoredHistories(self, opening, people)

    def piece(self, number: int, *, timed: bool = False) -> Held:
        """Read one block, and check it.

        Raises:
            DataError: the file is gone, was changed, or is damaged.
        """
        table = self._table(number, timed)
        if table.num_rows != self.blocks[number].rows:
            raise self._changed(number)
        with self._parsing(number):
            return self._checked(number, table)

    def _checked(self, number: int, table: pa.Table) -> Held:
        who = table["user_id"].combine_chunks().dictionary_encode()
        rows, people = who.indices.to_numpy(), tuple(who.dictionary.to_pylist())
        if (np.diff(rows) < 0).any() or not ascending(people):
            raise self._refusal(number, "names a person in two places")
        piece = Held(
            rows_of(np.bincount(rows), self._columns(table["item_id"], number), len(self.catalogue)),
            people,
            table["timestamp"].to_numpy() if "timestamp" in table.column_names else None,
        )
        if len(people) != self.blocks[number].people or digest(piece) != self.blocks[number].digest:
            raise self._changed(number)
        if not is_canonical(piece.matrix):
            raise self._refusal(number, "names an item of a person twice, or out of order")
        return piece

    def _table(self, number: int, timed: bool) -> pa.Table:
        from pyarrow.parquet import ParquetFile

        with readable(str(self.path)), self._parsing(number), self.path.open("rb") as opened:
            file = ParquetFile(opened, page_checksum_verification=True)
            if file.num_row_groups != len(self.blocks):
                raise self._changed(number)
            wanted = [
                "user_id",
                "item_id",
                *(["timestamp"] if timed and "timestamp" in file.schema_arrow.names else []),
            ]
            table = file.read_row_group(number, columns=wanted, use_threads=False)
            if table["user_id"].null_count:
                raise self._changed(number)
            return table

    def _columns(self, items: pa.ChunkedArray, number: int) -> NDArray[np.int32]:
        """Return where each id stands in the catalogue."""
        import pyarrow.compute as pc

        places = pc.index_in(items, value_set=self._ids)
        if places.null_count:
            raise self._changed(number)
        return cast("NDArray[np.int32]", places.to_numpy())

    @cached_property
    def _ids(self) -> pa.Array:
        import pyarrow as pa

        return pa.array(self.catalogue.ids)

    @contextmanager
    def _parsing(self, number: int) -> Iterator[None]:
        import pyarrow as pa

        try:
            yield
        except (pa.ArrowException, KeyError):
            raise self._refusal(number, "is damaged") from None
        except OSError as error:
            if error.errno is not None:
                raise
            raise self._refusal(number, "is damaged") from None  # how Arrow reports a checksum that does not fit

    def _changed(self, number: int) -> DataError:
        return self._refusal(number, "is not what it was when the data set was opened: the file was changed or damaged")

    def _refusal(self, number: int, why: str) -> DataError:
        return DataError(f"{self.path}: block {number + 1} of {len(self.blocks)} {why}; import the data again")


@dataclass(frozen=True, eq=False, repr=False)
class StoredHistories:
    """People's histories, opened for one purpose, in their file. Personal data: nothing here may be printed or logged.

    Attributes:
        file: where they are.
        opening: of what data set, for what purpose.
        people_ids: external ids, ascending.
        taken: bool [people in the file], who takes part; None: everybody.
    """

    file: InFile
    opening: Opening
    people_ids: tuple[str | int, ...]
    taken: NDArray[np.bool_] | None = None

    def __len__(self) -> int:
        """How many people there are."""
        return len(self.people_ids)

    def __repr__(self) -> str:
        """Counts only: this text ends up in logs."""
        counts = f"{len(self)} people, {len(self.catalogue)} items"
        return f"StoredHistories({self.dataset!r} for {self.purpose!r}, {counts})"

    @property
    def catalogue(self) -> Catalogue:
        """The items, in column order."""
        return self.opening.catalogue

    @property
    def dataset(self) -> str:
        """Name of the data set."""
        return self.opening.dataset

    @property
    def purpose(self) -> str:
        """What the histories were opened for."""
        return self.opening.purpose

    @property
    def catalogue_is_declared(self) -> bool:
        """Whether the catalogue was given, rather than read off the data."""
        return self.opening.catalogue_is_declared

    def blocks(self, most: int) -> Iterator[Rows]:
        """Yield the rows of a block of the file, or of ``most`` people of it, at a time.

        Raises:
            SettingError: ``most`` is below 1.
            DataError: the file is gone, was changed since it was opened, or is damaged.
        """
        if most < 1:
            raise SettingError(f"a block holds at least 1 person, not {most}")
        for wanted in self.wanted():
            rows = wanted.rows(self.file)
            yield from (rows[at : at + most] for at in range(0, rows.shape[0], most))

    def wanted(self) -> Iterator[Wanted]:
        """Yield which blocks are read, and who takes part in each."""
        first = 0
        for number, block in enumerate(self.file.blocks):
            taken = None if self.taken is None else self.taken[first : first + block.people]
            first += block.people
            if taken is None or taken.any():
                yield Wanted(number, taken)

    def take(self, rows: NDArray[np.int64]) -> StoredHistories:
        """The same data for some people only: ``rows`` are positions, ascending.

        Raises:
            SettingError: a row is there more than once, or they do not ascend.
        """
        if (np.diff(rows) <= 0).any():
            raise SettingError("histories in a file: name each person once, in ascending order")
        taken = np.zeros(self.file.people, np.bool_)
        taken[rows if self.taken is None else np.flatnonzero(self.taken)[rows]] = True
        return replace(self, people_ids=tuple(self.people_ids[row] for row in rows.tolist()), taken=taken)


@dataclass(frozen=True, eq=False)
class Wanted:
    """A block to read: its number, and bool [people in it], who takes part; None: everybody."""

    number: int
    taken: NDArray[np.bool_] | None = None

    def rows(self, file: InFile) -> Rows:
        """Read it.

        Raises:
            DataError: the file is gone, was changed since it was opened, or is damaged.
        """
        matrix = file.piece(self.number).matrix
        return matrix if self.taken is None else matrix[np.flatnonzero(self.taken)]
