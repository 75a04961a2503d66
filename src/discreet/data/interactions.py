"""What is known about people's choices, in the one shape that leaves this room.

An :class:`Interactions` is a checked data set. It shows counts; the histories inside it are reached only by
saying what for (:meth:`Interactions.opened_for`), and come out as :class:`Histories`, which carry that purpose; or,
where they need not all be in memory at once (:meth:`Interactions.streamed_for`), as something that is
:class:`Opened`. The public side, the items there are, is the :class:`~discreet.data.catalogue.Catalogue`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import NamedTuple, Protocol, TypeAlias

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy.sparse import csr_array

from discreet.data.catalogue import Catalogue
from discreet.errors import DataError, PurposeNotAllowed, SettingError
from discreet.privacy.adjacency import Window

Rows: TypeAlias = "csr_array[np.int8, tuple[int, int]]"  # as text: scipy's array is generic in its stubs alone

_LONGEST_NAME = 200  # characters; a data set's name and a purpose together name an account


def checked_name(name: object, what: str = "name") -> str:
    """Return ``name`` if it can be half of an account's name; raise SettingError otherwise."""
    if not isinstance(name, str):
        raise SettingError(f"{what}: must be text, not {type(name).__name__}")
    if not name or len(name) > _LONGEST_NAME or "/" in name or not name.isprintable():
        raise SettingError(f"{what}: must have 1 to {_LONGEST_NAME} printable characters and no '/'")
    return name


class Opened(Protocol):
    """People's histories, opened for one purpose: in memory, or in the file that holds them."""

    @property
    def people_ids(self) -> tuple[str | int, ...]:
        """External ids, in the order of the rows. Nobody is there twice."""

    @property
    def catalogue(self) -> Catalogue:
        """The items, in column order."""

    @property
    def dataset(self) -> str:
        """Name of the data set: half of the account that pays."""

    @property
    def purpose(self) -> str:
        """What the histories were opened for: the other half."""

    @property
    def catalogue_is_declared(self) -> bool:
        """Whether the catalogue was given, rather than read off the data."""

    def __len__(self) -> int:
        """How many people there are."""

    def blocks(self, most: int) -> Iterator[Rows]:
        """Yield each person's row once, in order, at most ``most`` people at a time."""

    def take(self, rows: NDArray[np.int64]) -> Opened:
        """The same data for some people only: ``rows`` are their positions."""


@dataclass(frozen=True, eq=False, repr=False)
class Histories:
    """People's histories, opened for one purpose, in memory. Personal data: nothing here may be printed or logged.

    Attributes:
        matrix: int8 ones, CSR [people, items], indices sorted, no duplicates.
        people_ids: external ids of the rows, ascending as read.
        last: int32 [people], position of each person's latest item (of several at once, the highest); None
            when the data has no timestamps.
        catalogue: the items, in column order.
        dataset: name of the data set: half of the account that pays.
        purpose: what the histories were opened for: the other half.
        catalogue_is_declared: as in :class:`Interactions`.

    Raises:
        SettingError: somebody is there more than once; or the matrix is not as said above. Every bound on what one
            person adds rests on both.
    """

    matrix: Rows
    people_ids: tuple[str | int, ...]
    last: NDArray[np.int32] | None
    catalogue: Catalogue
    dataset: str
    purpose: str
    catalogue_is_declared: bool = False

    def __post_init__(self) -> None:
        """Refuse what would let one person count twice."""
        if self.matrix.shape != (len(self.people_ids), len(self.catalogue)):
            raise SettingError("histories: the matrix must have one row a person and one column an item")
        if not is_canonical(self.matrix):
            raise SettingError("histories: the matrix must be int8 ones in CSR, indices ascending and within range")
        if self.last is not None and self.last.shape != (len(self),):
            raise SettingError("histories: there must be one latest item a person")
        if not _distinct(self.people_ids):
            raise SettingError("histories: hold the same person more than once; give each person one row")

    def __len__(self) -> int:
        """How many people there are."""
        return self.matrix.shape[0]

    def __repr__(self) -> str:
        """Counts only: this text ends up in logs."""
        counts = f"{len(self)} people, {len(self.catalogue)} items"
        return f"Histories({self.dataset!r} for {self.purpose!r}, {counts})"

    def blocks(self, most: int) -> Iterator[Rows]:
        """Yield consecutive rows, ``most`` people at a time (the last block may be smaller).

        Raises:
            SettingError: ``most`` is below 1.
        """
        if most < 1:
            raise SettingError(f"a block holds at least 1 person, not {most}")
        return (self.matrix[at : at + most] for at in range(0, len(self), most))

    def take(self, rows: NDArray[np.int64]) -> Histories:
        """The same data for some people only: ``rows`` are positions, in the order wanted.

        Raises:
            SettingError: a row is there more than once.
        """
        people = tuple(self.people_ids[row] for row in rows.tolist())
        last = None if self.last is None else self.last[rows]
        return replace(self, matrix=self.matrix[rows], people_ids=people, last=last)


def is_canonical(matrix: Rows) -> bool:
    """Whether this is canonical CSR of int8 ones, whatever its flags say: they are set by hand here and there."""
    if matrix.format != "csr" or matrix.dtype != np.int8 or len(matrix.data) != len(matrix.indices):
        return False
    try:
        fresh = csr_array((matrix.data, matrix.indices, matrix.indptr), shape=matrix.shape)
        fresh.check_format(full_check=True)
    except ValueError:  # indices out of range, pointers that fall
        return False
    return len(matrix.data) == matrix.indptr[-1] and fresh.has_canonical_format and bool((matrix.data == 1).all())


def _distinct(people: tuple[str | int, ...]) -> bool:
    """Whether nobody is there twice: a number and its decimal text are one person, as in the ledger."""
    one_kind = len(set(map(type, people))) < 2
    return len(set(people if one_kind else map(str, people))) == len(people)


@dataclass(frozen=True)
class Intake:
    """What reading the data dropped: public counts, kept with the data."""

    duplicates_collapsed: int = 0
    zero_weight_rows_dropped: int = 0
    columns_not_read: tuple[str, ...] = ()


class Opening(NamedTuple):
    """What histories carry with them once they are opened: of what, for what."""

    catalogue: Catalogue
    dataset: str
    purpose: str
    catalogue_is_declared: bool


class Source(Protocol):
    """Where the rows of a checked data set are: in memory, or in its file."""

    @property
    def people(self) -> int:
        """How many people there are; each has at least one interaction."""

    @property
    def count(self) -> int:
        """How many interactions there are."""

    def pieces(self) -> Iterator[Held]:
        """Yield the rows, some people at a time, in order."""

    def opened(self, opening: Opening) -> Opened:
        """Hand out the histories without holding more of them in memory than is held already."""


@dataclass(frozen=True, eq=False, repr=False)
class Held:
    """Rows in memory.

    Attributes:
        matrix: int8 ones, CSR [people, items], canonical.
        people_ids: ids of the rows, ascending.
        times: seconds, float64, aligned with ``matrix.indices``; or None.
    """

    matrix: Rows
    people_ids: tuple[str | int, ...]
    times: NDArray[np.float64] | None = None

    @property
    def people(self) -> int:
        """How many people there are."""
        return self.matrix.shape[0]

    @property
    def count(self) -> int:
        """How many interactions there are."""
        return int(self.matrix.nnz)

    def pieces(self) -> Iterator[Held]:
        """Yield the rows, all at once."""
        yield self

    def opened(self, opening: Opening) -> Histories:
        """Hand out the histories."""
        return Histories(self.matrix, self.people_ids, self._last(), *opening)

    def _last(self) -> NDArray[np.int32] | None:
        if self.times is None:
            return None
        rows = np.repeat(np.arange(self.people), np.diff(self.matrix.indptr))
        by_time = np.lexsort((self.matrix.indices, self.times, rows))
        ends = by_time[self.matrix.indptr[1:] - 1]  # each person's latest, since nobody here has an empty row
        return self.matrix.indices[ends].astype(np.int32)

    @classmethod
    def joined(cls, pieces: Iterable[Held]) -> Held:
        """Put pieces, at least one, together again."""
        several = tuple(pieces)
        if len(several) == 1:
            return several[0]
        items = several[0].matrix.shape[1]
        lengths = np.concatenate([np.diff(piece.matrix.indptr) for piece in several])
        indices = np.concatenate([piece.matrix.indices for piece in several])
        people = tuple(person for piece in several for person in piece.people_ids)
        times = [piece.times for piece in several if piece.times is not None]
        return cls(rows_of(lengths, indices, items), people, np.concatenate(times) if times else None)


def rows_of(lengths: NDArray[np.integer], indices: NDArray[np.int32], items: int) -> Rows:
    """Return ones at ``indices``, ascending within each row, ``lengths`` of them in each: CSR [people, items]."""
    ends = np.cumsum(lengths)
    starts = np.append(0, ends).astype(np.int32) if len(indices) < 2**31 else np.append(0, ends).astype(np.int64)
    matrix: Rows = csr_array((np.ones(len(indices), np.int8), indices, starts), shape=(len(lengths), items))
    matrix.has_canonical_format = True
    return matrix


@dataclass(frozen=True, eq=False, repr=False)
class Interactions:
    """A checked data set: who chose what, at most once each, and what that may be used for.

    Made by :func:`discreet.data.intake.read_interactions`. Shows counts; see :meth:`opened_for`.

    Attributes:
        name: name of the data set, and of its account in the ledger.
        catalogue: the items, in column order.
        purposes: what the data was collected for.
        catalogue_is_declared: False when the catalogue was read off the data, in which case the guarantee has
            to say that the list of items is treated as public.
        intake: what reading dropped.
        synthetic: whether the people do not exist; see :mod:`discreet.data.synthetic`.
    """

    name: str
    catalogue: Catalogue
    purposes: frozenset[str]
    catalogue_is_declared: bool
    intake: Intake
    _source: Source
    synthetic: bool = False

    @property
    def people(self) -> int:
        """How many people have at least one interaction."""
        return self._source.people

    @property
    def items(self) -> int:
        """How many items the catalogue has."""
        return len(self.catalogue)

    @property
    def count(self) -> int:
        """How many interactions there are: distinct pairs of a person and an item."""
        return self._source.count

    def __repr__(self) -> str:
        """The name and counts only: this text ends up in logs."""
        counts = f"{self.people} people, {self.items} items, {self.count} interactions"
        return f"Interactions({self.name!r}, {counts})"

    def check_purpose(self, purpose: str) -> None:
        """Refuse a purpose that the data was not collected for.

        Raises:
            PurposeNotAllowed: ``purpose`` is not among :attr:`purposes`.
        """
        if purpose not in self.purposes:
            allowed = ", ".join(sorted(self.purposes))
            raise PurposeNotAllowed(f"{self.name} may not be used for {purpose!r}; it was collected for: {allowed}")

    def check_window(self, window: Window) -> None:
        """Refuse unless everything here was done within a window. Reads all rows.

        Taking out here what was done outside would not do: of an item that somebody chose twice only the latest time is
        kept, so that what is left in one window would depend on what was done in another.

        Raises:
            DataError: something was done outside it, or there are no times; or the file was changed or damaged.
        """
        first, end = window.seconds
        for piece in self._source.pieces():
            if piece.times is None:
                raise DataError(f"{self.name} has no column 'timestamp', so nothing is known to be of {window}")
            if piece.times.size and not (piece.times.min() >= first and piece.times.max() < end):
                raise DataError(f"{self.name} holds more than {window}: read that alone, with window={window.text!r}")

    def opened_for(self, purpose: str) -> Histories:
        """Hand out the histories, for one of the purposes they were collected for, all of them in memory.

        Raises:
            PurposeNotAllowed: ``purpose`` is not among :attr:`purposes`.
            DataError: the file that holds them was changed or damaged.
        """
        opening = self._opening(purpose)
        return Held.joined(self._source.pieces()).opened(opening)

    def streamed_for(self, purpose: str) -> Opened:
        """As :meth:`opened_for`; histories in a file stay there, and come block by block.

        Raises:
            PurposeNotAllowed: ``purpose`` is not among :attr:`purposes`.
            DataError: the file that holds them was changed or damaged.
        """
        return self._source.opened(self._opening(purpose))

    def _opening(self, purpose: str) -> Opening:
        self.check_purpose(purpose)
        return Opening(self.catalogue, self.name, purpose, self.catalogue_is_declared)

    def describe(self) -> dict[str, object]:
        """Counts for a person who checks the import, ready for JSON. Reads all rows.

        Raises:
            DataError: the file that holds them was changed or damaged.
        """
        return {
            "people": self.people,
            "items": self.items,
            "interactions": self.count,
            "density": self.count / (self.people * self.items),
            "duplicates_collapsed": self.intake.duplicates_collapsed,
            "zero_weight_rows_dropped": self.intake.zero_weight_rows_dropped,
            "ids_that_look_alike": self._alike(),
            "columns_not_read": list(self.intake.columns_not_read),
            "synthetic": self.synthetic,
        }

    def _alike(self) -> int:
        """How many people have an id that is another's but for case, spaces around it, or the encoding of accents."""
        ids = pl.Series([person for piece in self._source.pieces() for person in piece.people_ids])
        if ids.dtype != pl.String:
            return 0
        return int(ids.str.strip_chars().str.to_lowercase().str.normalize("NFC").is_duplicated().sum())
