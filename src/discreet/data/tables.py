"""Where a table comes from: a text file, a Parquet file, or a data frame in memory.

The three look alike from outside: a label for messages, the names of the columns, and a way to fetch some
columns and no others. What polars or the operating system raise ends here, as a DataError.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import polars as pl

from discreet.errors import DataError

if TYPE_CHECKING:
    import pyarrow as pa
    from pyarrow.parquet import ParquetFile

_SEPARATORS = {".csv": ",", ".tsv": "\t"}
_OTHER_SEPARATORS = {
    ";": "separated by ';': save it with commas or tabs",
    "|": "separated by '|': save it with commas or tabs",
    "\t": "separated by tabs: save it with commas, or as .tsv",
    ",": "separated by ',': save it with tabs, or as .csv",
}

MOST_SHOWN, LONGEST_SHOWN = 20, 60

LONGEST_HEADER = 1 << 20
"""Bytes."""
_LARGEST_SEARCHED = 1 << 28
"""Bytes of a text file in which a broken row is looked for: that takes several times as much memory."""

# Headers that are nobody's data, in small letters: they may be repeated in a message.
# fmt: off
_USUAL = frozenset([
    "user", "users", "userid", "user_id", "item", "items", "itemid", "item_id", "movie", "movieid", "movie_id",
    "film", "filmid", "film_id", "book", "bookid", "book_id", "track", "trackid", "track_id", "product", "productid",
    "product_id", "customer", "customerid", "customer_id", "weight", "rating", "ratings", "score", "count",
    "timestamp", "time", "date", "title", "titles", "name", "genre", "genres", "tags", "category", "sensitive",
])
# fmt: on


class Frame(Protocol):
    """A data frame: polars, pandas, an Arrow table, or a mapping of names to columns."""

    def __getitem__(self, name: str, /) -> Any:
        """The column called ``name``, as anything that polars makes a series of."""
        ...


class Table(Protocol):
    """A source of columns. ``from_text`` says that every column is text whose type is still to be found."""

    label: str
    names: tuple[str, ...]
    from_text: bool

    def columns(self, wanted: Sequence[str]) -> pl.DataFrame:
        """Fetch the ``wanted`` columns, all of which are among ``names``. Raises DataError."""
        ...

    def batches(self, wanted: Sequence[str], rows: int) -> Iterator[pl.DataFrame]:
        """Fetch the ``wanted`` columns, about ``rows`` rows at a time, in order. Raises DataError."""
        ...

    def listing(self, wanted: Sequence[str], /) -> str:
        """Say which columns there are instead of all ``wanted``, without repeating anything that may be data."""
        ...


def table_of(source: str | Path | Frame) -> Table:
    """Look at ``source``: a path, or a data frame.

    Raises:
        DataError: there is no such file, it is empty or of an unknown kind, or ``source`` is no table at all.
    """
    if not isinstance(source, str | Path):
        return FrameTable(source)
    path = Path(source)
    ending = path.suffix.lower()
    if ending == ".parquet":
        return ParquetTable(path)
    if ending in {".csv", ".tsv", ".txt"}:
        return TextTable(path)
    raise DataError(f"{path}: files must end in .csv, .tsv, .txt or .parquet")


@contextmanager
def readable(label: str) -> Iterator[None]:
    """Turn the operating system's refusals into one line."""
    try:
        yield
    except FileNotFoundError:
        raise DataError(f"{label}: there is no such file") from None
    except IsADirectoryError:
        raise DataError(f"{label}: is a folder; name a file") from None
    except OSError as error:
        raise DataError(f"{label}: cannot be read: {error.strerror}") from None


def listed(names: Sequence[str]) -> str:
    """Column names for a message: the first of many, and the beginning of long ones."""
    shown = ", ".join(
        repr(name if len(name) <= LONGEST_SHOWN else f"{name[:LONGEST_SHOWN]}...") for name in names[:MOST_SHOWN]
    )
    more = f" and {len(names) - MOST_SHOWN:,} more" if len(names) > MOST_SHOWN else ""
    return f"the columns there are: {shown or 'none'}{more}"


class TextTable:
    """A CSV or TSV file with a header, UTF-8. Every column is fetched as text."""

    from_text = True

    def __init__(self, path: Path) -> None:
        """Read the header. Raises DataError if there is none, or it is not UTF-8."""
        self.label = str(path)
        self._path = path
        self._first = header = self._header()
        self._separator = _SEPARATORS.get(path.suffix.lower()) or ("\t" if "\t" in header else ",")
        try:
            self.names = tuple(self._parsed(header.encode()).columns)
        except pl.exceptions.PolarsError:
            raise DataError(f"{self.label}: header: has a quote that is not closed") from None

    def columns(self, wanted: Sequence[str]) -> pl.DataFrame:
        """Fetch columns. All are parsed, because polars overlooks overlong rows when asked for some only."""
        self._check_once(wanted)
        with readable(self.label), self._parsing():
            return self._parsed(self._path).select(wanted)

    def batches(self, wanted: Sequence[str], rows: int) -> Iterator[pl.DataFrame]:
        """Fetch columns, some rows at a time."""
        self._check_once(wanted)
        with readable(self.label), self._parsing():
            for batch in self._scanned().collect_batches(chunk_size=rows, maintain_order=True):
                yield batch.select(wanted)

    def _check_once(self, wanted: Sequence[str]) -> None:
        repeated = [name for name in wanted if f"{name}_duplicated_0" in self.names]
        if repeated:
            raise DataError(f"{self.label}: column {repeated[0]!r} is there twice; keep one")

    def _scanned(self) -> pl.LazyFrame:
        return pl.scan_csv(self._path, separator=self._separator, infer_schema=False, glob=False)

    def listing(self, wanted: Sequence[str], /) -> str:
        """List the columns, unless the first row may be somebody's data instead of a header."""
        if not set(wanted) - {name.strip() for name in self.names}:
            return "column names have spaces around them; take them out"
        public = {name for name in self.names if name in wanted or name.lower() in _USUAL}
        if public < set(self.names) and not public & set(wanted):
            return self._guess(wanted)
        return self._listed()

    def _guess(self, wanted: Sequence[str]) -> str:
        """What may be wrong with a first row in which nothing is known to be a column's name."""
        for separator, advice in _OTHER_SEPARATORS.items():
            names = [name.strip(' "\ufeff\r\n') for name in self._first.split(separator)]
            if len(names) > 1 and (set(wanted) <= set(names) or all(name.lower() in _USUAL for name in names)):
                return advice
        many = f"{len(self.names)} column{'s'[: len(self.names) != 1]}"
        return f"its first row has {many} and may lack a header; add one"

    def _listed(self) -> str:
        with readable(self.label), self._parsing():
            rows = self._parsed(self._path)
        again = rows.select((pl.nth(at) == name).any() for at, name in enumerate(rows.columns)).row(0)
        if any(again) or not all(re.fullmatch(r"[^\W\d][\w .:()-]*", name) for name in rows.columns):
            return "its first row does not look like a header; add one"
        return listed(rows.columns)

    def _header(self) -> str:
        with readable(self.label), self._path.open("rb") as file:
            line = file.readline(LONGEST_HEADER)
            more = line and not line.strip() and any(map(bytes.strip, file))
        if more:
            raise DataError(f"{self.label}: begins with a blank line; take it out, the header comes first")
        if not line.strip():
            raise DataError(f"{self.label}: is empty")
        if len(line) == LONGEST_HEADER and not line.endswith(b"\n"):
            raise DataError(f"{self.label}: its first row has more than {LONGEST_HEADER:,} bytes; a header comes first")
        try:
            return line.decode("utf-8-sig")
        except UnicodeDecodeError:
            raise DataError(f"{self.label}: header: {_NOT_UTF8}") from None

    def _parsed(self, source: Path | bytes) -> pl.DataFrame:
        return pl.read_csv(source, separator=self._separator, infer_schema=False, glob=False)

    @contextmanager
    def _parsing(self) -> Iterator[None]:
        try:
            yield
        except (pl.exceptions.PolarsError, pl.exceptions.PanicException):  # which it ends in where memory does
            raise DataError(f"{self.label}: {self._complaint()}") from None

    def _complaint(self) -> str:
        if self._path.stat().st_size > _LARGEST_SEARCHED:
            return "has a row that is not UTF-8, or has more fields than the header, or a quote that is not closed"
        content = self._path.read_bytes()
        try:
            content.decode()
        except UnicodeDecodeError as error:
            row = content.count(b"\n", 0, error.start)
            return f"row {row}: {_NOT_UTF8}"
        lines = content.splitlines(keepends=True)
        row = bisect_left(range(len(lines)), True, key=lambda row: self._fails(b"".join(lines[: row + 1])))
        return f"row {row}: has more fields than the header, or a quote that is not closed"

    def _fails(self, content: bytes) -> bool:
        try:
            self._parsed(content)
        except pl.exceptions.PolarsError:
            return True
        return False


_NOT_UTF8 = "is not UTF-8; convert the file first, for example: iconv -f LATIN1 -t UTF-8 OLD > NEW"


class ParquetTable:
    """A Parquet file. Columns that are not wanted are not read.

    Arrow reads it: what is damaged is an exception there. (The reader of polars ends the whole process when a damaged
    page asks for more memory than there is.)
    """

    from_text = False

    def __init__(self, path: Path) -> None:
        """Read the footer. Raises DataError if the file is missing, empty or damaged."""
        self.label = str(path)
        self._path = path
        with self._opened() as file:
            self.names = tuple(file.schema_arrow.names)

    def columns(self, wanted: Sequence[str]) -> pl.DataFrame:
        """Fetch columns."""
        self._check_once(wanted)
        with self._opened() as file:
            return _framed(file.read(columns=list(wanted), use_threads=False), wanted)

    def batches(self, wanted: Sequence[str], rows: int) -> Iterator[pl.DataFrame]:
        """Fetch columns, some rows at a time."""
        import pyarrow as pa

        self._check_once(wanted)
        with self._opened() as file:
            for batch in file.iter_batches(rows, columns=list(wanted), use_threads=False):
                yield _framed(pa.Table.from_batches([batch]), wanted)

    def listing(self, _: Sequence[str], /) -> str:
        """List the columns."""
        return listed(self.names)

    def metadata(self, key: str) -> str | None:
        """The text that was stored in the file's footer under ``key``, or None."""
        with self._opened() as file:
            found = (file.metadata.metadata or {}).get(key.encode())
            return None if found is None else found.decode()

    def _check_once(self, wanted: Sequence[str]) -> None:
        repeated = [name for name in wanted if self.names.count(name) > 1]
        if repeated:
            raise DataError(f"{self.label}: column {repeated[0]!r} is there twice; keep one")

    @contextmanager
    def _opened(self) -> Iterator[ParquetFile]:
        from pyarrow.parquet import ParquetFile

        with readable(self.label), self._path.open("rb") as opened:
            if not self._path.stat().st_size:
                raise DataError(f"{self.label}: is empty")
            with self._parsing():
                yield ParquetFile(opened, page_checksum_verification=True)

    @contextmanager
    def _parsing(self) -> Iterator[None]:
        import pyarrow as pa

        try:
            yield
        except (pa.ArrowException, pl.exceptions.PolarsError, pl.exceptions.PanicException, UnicodeDecodeError):
            raise self._damaged() from None
        except OSError as error:
            if error.errno is not None:
                raise
            raise self._damaged() from None  # how Arrow reports much of what is damaged

    def _damaged(self) -> DataError:
        return DataError(f"{self.label}: is damaged or not a Parquet file; write it again")


def _framed(table: pa.Table, wanted: Sequence[str]) -> pl.DataFrame:
    """Return the columns in the order wanted, each checked: of damaged ones polars would read beyond the end."""
    table.validate(full=True)
    return pl.DataFrame({name: pl.from_arrow(table[name]) for name in wanted})


class FrameTable:
    """A data frame in memory. Columns that are not wanted are not touched."""

    from_text = False
    label = "the data frame"

    def __init__(self, frame: Frame) -> None:
        """Look at the columns' names. Raises DataError if there are no named columns."""
        self._frame = frame
        self.names = tuple(name for name in _names(frame) if isinstance(name, str))

    def columns(self, wanted: Sequence[str]) -> pl.DataFrame:
        """Fetch columns. One at a time, so that a column nobody wants cannot be in the way."""
        repeated = [name for name in wanted if self.names.count(name) > 1]
        if repeated:
            raise DataError(f"{self.label}: column {repeated[0]!r} is there twice; keep one")
        fetched = [self._column(name) for name in wanted]
        if len({len(column) for column in fetched}) > 1:
            raise DataError(f"{self.label}: columns {', '.join(wanted)} differ in length")
        return pl.DataFrame(fetched)

    def batches(self, wanted: Sequence[str], rows: int) -> Iterator[pl.DataFrame]:
        """Fetch columns, some rows at a time: they are in memory anyway."""
        yield from self.columns(wanted).iter_slices(rows)

    def listing(self, _: Sequence[str], /) -> str:
        """List the columns."""
        return listed(self.names)

    def _column(self, name: str) -> pl.Series:
        try:
            return _series(name, self._frame[name])
        except ImportError:
            raise DataError(f"{self.label}: column {name!r} cannot be read without pyarrow; install it") from None
        except (TypeError, ValueError, OverflowError, pl.exceptions.PolarsError):
            raise DataError(f"{self.label}: column {name!r} holds values of mixed or unknown types") from None


def _series(name: str, values: Any) -> pl.Series:
    try:
        return pl.Series(name, values)
    except TypeError:  # a list that mixes whole and broken numbers, or else no column at all
        return pl.Series(name, values, dtype=pl.Float64)


def _names(frame: object) -> Iterable[object]:
    if isinstance(frame, Mapping):
        return frame.keys()
    if isinstance(frame, pl.LazyFrame):
        raise DataError("give a path or a data frame that is there, not a LazyFrame; collect() it first")
    for attribute in ("column_names", "columns"):  # Arrow; polars and pandas
        if hasattr(frame, attribute):
            names: Iterable[object] = getattr(frame, attribute)
            return names
    raise DataError(f"give a path or a data frame with named columns, not {type(frame).__name__}")
