"""Checks of one column each: ids, weights, timestamps.

A check returns the column in its one form, or raises a :class:`~discreet.errors.DataError` that names the source,
the column and the row (1 is the first row of data). It never repeats a value: errors are outputs, and values are
people's. For the same reason causes are cut off (``from None``) in this room: polars quotes what it stumbles over.
"""

from __future__ import annotations

from typing import NoReturn

import polars as pl

from discreet.data.interactions import CONTROL
from discreet.errors import DataError


def ids(column: pl.Series, source: str) -> pl.Series:
    """Int64 if the column holds integers, String if it holds text. Raises DataError otherwise."""
    kind = column.dtype
    if kind.is_integer():
        column = _whole(column, source)
    elif isinstance(kind, pl.Categorical | pl.Enum):
        column = column.cast(pl.String)
    elif kind not in (pl.String, pl.Null):
        _refuse_type(column, source, "ids must be strings or whole numbers")
    _refuse(column.is_null(), column.name, source, "has no id; every row needs one")
    if column.dtype == pl.String:
        _refuse(column == "", column.name, source, "has an empty id; every row needs one")
        _refuse_control(column, source)
    return column


def ids_from_text(column: pl.Series, source: str) -> pl.Series:
    """As :func:`ids` for a column of a text file, where the type is still to be found.

    The ids become integers only if each is a whole number in its usual form, so that "007" keeps its zeros.
    """
    numbers = column.cast(pl.Int64, strict=False)
    canonical = (numbers.cast(pl.String) == column).fill_null(value=False).all()
    return ids(numbers if canonical else column, source)


def positive(column: pl.Series, source: str) -> pl.Series:
    """Which rows count: Boolean, weight > 0. Raises DataError for a weight that is negative or not finite."""
    weights = _numbers(column, source)
    _refuse(~weights.is_finite(), column.name, source, "is NaN or infinite; weights are finite and not negative")
    _refuse(weights < 0, column.name, source, "is negative; weights are finite and not negative")
    return weights > 0


def seconds(column: pl.Series, source: str) -> pl.Series:
    """Timestamps as Float64 seconds since 1970: numbers are taken as they are, dates are converted."""
    if column.dtype == pl.String:
        column = _parsed_times(column)
    if column.dtype == pl.Date or isinstance(column.dtype, pl.Datetime):
        _refuse(column.is_null(), column.name, source, "has no timestamp; every row needs one, or none")
        return column.cast(pl.Datetime("us")).dt.epoch("us") / 1e6
    numbers = _numbers(column, source)
    _refuse(~numbers.is_finite(), column.name, source, "is NaN or infinite; timestamps are finite")
    return numbers


def titles(column: pl.Series, source: str) -> pl.Series:
    """Titles as String, empty where there is none. Raises DataError if they are not text."""
    if column.dtype not in (pl.String, pl.Null):
        _refuse_type(column, source, "titles are text")
    column = column.cast(pl.String).fill_null("")
    _refuse_control(column, source)
    return column


def _whole(column: pl.Series, source: str) -> pl.Series:
    converted = column.cast(pl.Int64, strict=False)
    too_big = converted.is_null() & column.is_not_null()
    _refuse(too_big, column.name, source, "is beyond 64 bits; give such ids as strings")
    return converted


def _parsed_times(column: pl.Series) -> pl.Series:
    """Text as times where all of it is; otherwise as it was, for the check of numbers to judge."""
    if column.cast(pl.Float64, strict=False).null_count() == 0:  # the usual case, and the quick one
        return column
    try:
        times = column.str.to_datetime(strict=False)
    except pl.exceptions.PolarsError:  # no format fits any row
        return column
    return times if times.null_count() == column.null_count() else column


def _numbers(column: pl.Series, source: str) -> pl.Series:
    if not (column.dtype.is_numeric() or column.dtype in (pl.String, pl.Null)):
        _refuse_type(column, source, "numbers are needed")
    numbers = column.cast(pl.Float64, strict=False)
    _refuse(numbers.is_null(), column.name, source, "is not a number")
    return numbers


def _refuse(bad: pl.Series, column: str, source: str, why: str) -> None:
    first = bad.arg_max() if bad.any() else None
    if first is not None:
        raise DataError(f"{source}: column {column!r}, row {first + 1}: {why}")


def _refuse_control(column: pl.Series, source: str) -> None:
    _refuse(column.str.contains(CONTROL), column.name, source, "holds a control character; leave it out")


def _refuse_type(column: pl.Series, source: str, why: str) -> NoReturn:
    raise DataError(f"{source}: column {column.name!r} is of type {column.dtype.base_type()}; {why}")
