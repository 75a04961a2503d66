"""Checks of one column each: ids, weights, timestamps, and what is public of items.

A check returns the column in its one form, or raises a :class:`~discreet.errors.DataError` that names the source,
the column and the row (1 is the first row of data). It never repeats a value: errors are outputs, and values are
people's. For the same reason causes are cut off (``from None``) in this room: polars quotes what it stumbles over.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, NoReturn

import polars as pl

from discreet.data.catalogue import CONTROL
from discreet.errors import DataError


class Where(NamedTuple):
    """Where a column comes from: the source's label, and how many of its rows came before."""

    label: str
    before: int = 0


def ids(column: pl.Series, where: Where) -> pl.Series:
    """Int64 if the column holds integers, String if it holds text. Raises DataError otherwise."""
    kind = column.dtype
    if kind.is_integer():
        column = _whole(column, where)
    elif isinstance(kind, pl.Categorical | pl.Enum):
        column = column.cast(pl.String)
    elif kind not in (pl.String, pl.Null):
        _refuse_type(column, where, "ids must be strings or whole numbers")
    _refuse(column.is_null(), column.name, where, "has no id; every row needs one")
    if column.dtype == pl.String:
        _refuse(column == "", column.name, where, "has an empty id; every row needs one")
        _refuse_control(column, where)
    return column


def ids_from_text(column: pl.Series, where: Where) -> pl.Series:
    """As :func:`ids` for a column of a text file, where the type is still to be found.

    The ids become integers only if each is a whole number in its usual form, so that "007" keeps its zeros.
    """
    return ids(column.cast(pl.Int64) if are_whole(column) else column, where)


def are_whole(column: pl.Series) -> bool:
    """Whether each text is a whole number in its usual form."""
    numbers = column.cast(pl.Int64, strict=False)
    return bool((numbers.cast(pl.String) == column).fill_null(value=False).all())


def positive(column: pl.Series, where: Where) -> pl.Series:
    """Which rows count: Boolean, weight > 0. Raises DataError for a weight that is negative or not finite."""
    weights = _numbers(column, where)
    _refuse(~weights.is_finite(), column.name, where, "is NaN or infinite; weights are finite and not negative")
    _refuse(weights < 0, column.name, where, "is negative; weights are finite and not negative")
    return weights > 0


def seconds(column: pl.Series, where: Where) -> pl.Series:
    """Timestamps as Float64 seconds since 1970: numbers are taken as they are, dates are converted."""
    if column.dtype == pl.String:
        unclear = column.str.contains(r"^\s*\d{1,2}[/.-]\d{1,2}[/.-]").fill_null(False)
        _refuse(unclear, column.name, where, "is a date whose day may be its month; write it as 2026-11-01")
        column = _parsed_times(column)
    if column.dtype == pl.Date or isinstance(column.dtype, pl.Datetime):
        _refuse(column.is_null(), column.name, where, "has no timestamp; every row needs one, or none")
        return column.cast(pl.Datetime("us")).dt.epoch("us") / 1e6
    numbers = _numbers(column, where)
    _refuse(~numbers.is_finite(), column.name, where, "is NaN or infinite; timestamps are finite")
    return numbers


def texts(column: pl.Series, where: Where) -> pl.Series:
    """Titles and the like as String, empty where there is none. Raises DataError if they are not text."""
    if column.dtype not in (pl.String, pl.Null):
        _refuse_type(column, where, "text is needed")
    column = column.cast(pl.String).fill_null("")
    _refuse_control(column, where)
    return column


def among(column: pl.Series, allowed: Sequence[str], where: Where) -> pl.Series:
    """Words as String. Raises DataError for one that is not among those ``allowed``, of which "" stands for none."""
    column = texts(column, where)
    listed = ", ".join(word or "none" for word in allowed)
    _refuse(~column.is_in([*allowed]), column.name, where, f"is not one of: {listed}")
    return column


def tags(column: pl.Series, where: Where) -> pl.Series:
    """Lists of text, ascending and unique, of lists or of texts that ``|`` separates. Raises DataError otherwise."""
    if column.dtype == pl.List(pl.String):
        column = column.list.eval(pl.element().drop_nulls()).list.join("|")
    each = texts(column, where).str.split("|").list.eval(pl.element().str.strip_chars())
    return each.list.eval(pl.element().filter(pl.element() != "").unique().sort())


def _whole(column: pl.Series, where: Where) -> pl.Series:
    converted = column.cast(pl.Int64, strict=False)
    too_big = converted.is_null() & column.is_not_null()
    _refuse(too_big, column.name, where, "is beyond 64 bits; give such ids as strings")
    return converted


def _parsed_times(column: pl.Series) -> pl.Series:
    """Text as times where all of it is; otherwise as it was, for the check of numbers to judge."""
    if are_numbers(column):  # the usual case, and the quick one
        return column
    try:
        times = column.str.to_datetime(strict=False)
    except pl.exceptions.PolarsError:  # no format fits any row
        return column
    return times if times.null_count() == column.null_count() else column


def are_numbers(column: pl.Series) -> bool:
    """Whether each value is a number, or the text of one."""
    return column.dtype.is_numeric() or (
        column.dtype == pl.String and column.cast(pl.Float64, strict=False).null_count() == 0
    )


def _numbers(column: pl.Series, where: Where) -> pl.Series:
    if not (column.dtype.is_numeric() or column.dtype in (pl.String, pl.Null)):
        _refuse_type(column, where, "numbers are needed")
    numbers = column.cast(pl.Float64, strict=False)
    _refuse(numbers.is_null(), column.name, where, "is not a number")
    return numbers


def _refuse(bad: pl.Series, column: str, where: Where, why: str) -> None:
    first = bad.arg_max() if bad.any() else None
    if first is not None:
        raise DataError(f"{where.label}: column {column!r}, row {where.before + first + 1}: {why}")


def _refuse_control(column: pl.Series, where: Where) -> None:
    _refuse(column.str.contains(CONTROL), column.name, where, "holds a control character; leave it out")


def _refuse_type(column: pl.Series, where: Where, why: str) -> NoReturn:
    raise DataError(f"{where.label}: column {column.name!r} is of type {column.dtype.base_type()}; {why}")
