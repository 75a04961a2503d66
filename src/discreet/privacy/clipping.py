"""What one person can add to a sum: the exact integer length of each row, and the bound it must keep.

Sensitivity comes from here and from nowhere else. A model rounds and shortens its rows as it likes; nothing that it
says about them is believed. Proof: ``clipping.md``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from discreet.errors import BoundExceeded
from discreet.privacy.levels import Level

if TYPE_CHECKING:  # a device computes its sums with NumPy alone
    from scipy.sparse import csr_array

MAX_BOUND = 1 << 28
"""Largest bound S, in grid units (mu = 65,536): S^2 then stays far within int64."""


@dataclass(frozen=True, eq=False)
class Summed:
    """A block of people, added up.

    Attributes:
        total: int64 [dims], the sum of the people's rows.
        squared_norms: int64 [people], ``sum(q * q)`` of each person's row, exact; where a row has layers, no less.
        level: whose part of the bound all these rows keep.
    """

    total: NDArray[np.int64]
    squared_norms: NDArray[np.int64]
    level: Level = field(default=Level.LIGHT, kw_only=True)


def layered(parts: Sequence[tuple[Summed, int]]) -> Summed:
    """Return the sum of rows that are sums of layers, each of which keeps its own bound.

    A row is no longer than its layers' lengths together; each is rounded up to a whole number before they are added, so
    that the square that is returned is at most that of the sum of the bounds.

    Args:
        parts: at least one layer of the same people in the same order, and its bound in grid units.

    Raises:
        BoundExceeded: a layer of somebody is longer than its bound.
    """
    first = parts[0][0]
    if sum(bound for _, bound in parts) > MAX_BOUND:
        raise BoundExceeded(_refusal(MAX_BOUND))
    total, length = np.zeros_like(first.total), np.zeros_like(first.squared_norms)
    for summed, bound in parts:
        check_bound(summed, bound)
        if summed.total.shape != total.shape or summed.squared_norms.shape != length.shape:
            raise TypeError("layers of one row have the same people and coordinates")
        total += summed.total
        length += _root(summed.squared_norms)
    return Summed(total, length * length)


def _root(squares: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the least whole numbers whose squares are at least ``squares``, which are at most 2^56."""
    root: NDArray[np.int64] = np.floor(np.sqrt(squares.astype(np.float64))).astype(np.int64)
    root += root * root < squares
    return root


def add_rows(rows: csr_array, bound: int) -> Summed:
    """Add up the rows of a block, with their exact lengths.

    Args:
        rows: int64 [people, dims], each coordinate at most once in a row.
        bound: S, in grid units.

    Raises:
        TypeError: if the rows are not int64, or a coordinate is out of range or comes twice.
        BoundExceeded: if a row is longer than the bound. Checked with a float that cannot overflow first, then
            exactly, so that no wrap-around of int64 can hide a long row.
    """
    if rows.dtype != np.int64 or rows.format != "csr":  # another format would measure coordinates, not people
        raise TypeError(f"contributions are int64 rows (csr), got {rows.dtype} ({rows.format})")
    _check_form(rows)
    entries = rows.data
    people = np.repeat(np.arange(rows.shape[0]), np.diff(rows.indptr))
    rough = np.bincount(people, weights=entries.astype(np.float64) ** 2, minlength=rows.shape[0])
    if rough.size and rough.max() > 2.0 * bound**2:
        raise BoundExceeded(_refusal(bound))
    squares = np.zeros(rows.shape[0], np.int64)
    np.add.at(squares, people, entries * entries)
    total = np.zeros(rows.shape[1], np.int64)
    np.add.at(total, rows.indices, entries)
    summed = Summed(total, squares)
    check_bound(summed, bound)
    return summed


def add_choices(rows: csr_array, groups: int) -> Summed:
    """Add up rows that move each count by one, or not at all, and the counts of one group alone.

    Args:
        rows: int64 [people, dims], ones, each coordinate at most once in a row.
        groups: that the coordinates fall into, all as many, one after the other.

    Returns:
        The counts, and 1 for each person who moves any, 0 for the others.

    Raises:
        TypeError: if the rows are not int64, or a coordinate is out of range or comes twice, or the groups differ.
        BoundExceeded: if an entry is not 1, or somebody is in two groups. The message does not say who.
    """
    if rows.dtype != np.int64 or rows.format != "csr" or rows.shape[1] % groups:
        raise TypeError(f"choices are int64 rows (csr) of {groups} groups, got {rows.dtype} ({rows.format})")
    _check_form(rows)
    people = np.repeat(np.arange(rows.shape[0]), np.diff(rows.indptr))
    group = rows.indices // (rows.shape[1] // groups)
    same = people[1:] == people[:-1]
    if (rows.data != 1).any() or (group[1:][same] != group[:-1][same]).any():
        raise BoundExceeded("a person moves a count by more than one, or counts of two groups; nothing was released")
    total = np.bincount(rows.indices, minlength=rows.shape[1]).astype(np.int64)
    return Summed(total, (np.diff(rows.indptr) > 0).astype(np.int64))


def _check_form(rows: csr_array) -> None:
    """Refuse a coordinate that is out of range, or comes twice in a row: its square would be counted in parts."""
    if rows.indices.size and not 0 <= rows.indices.min() <= rows.indices.max() < rows.shape[1]:
        raise TypeError("a contribution has a coordinate out of range")
    from scipy.sparse import csr_array

    # Asked of a fresh matrix: the answer is cached, and the cache may have been set by hand.
    if not csr_array((rows.data, rows.indices, rows.indptr), shape=rows.shape).has_canonical_format:
        raise TypeError("contributions must be in canonical form: sorted coordinates, none of them twice")


def check_bound(summed: Summed, bound: int) -> None:
    """Refuse the block unless ``sum(q * q) <= bound * bound`` for each person, in integers.

    Raises:
        BoundExceeded: for the whole block. The message does not say whose row it was.
    """
    norms = summed.squared_norms
    if summed.total.dtype != np.int64 or norms.dtype != np.int64 or summed.total.ndim != 1 or norms.ndim != 1:
        raise TypeError("a sum and its lengths are int64 vectors")  # another shape would reuse noise on broadcasting
    if norms.size and (int(norms.max()) > bound * bound or int(norms.min()) < 0):
        raise BoundExceeded(_refusal(bound))


def _refusal(bound: int) -> str:
    return f"a contribution is longer than the bound of {bound} grid units; nothing was released: mend the model"
