"""Splits that measure a recommender: by people, or by each person's last item.

The randomness here is public and seeded, because a measurement must be repeatable; it protects nobody.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from discreet.data.interactions import Histories
from discreet.errors import SettingError

if TYPE_CHECKING:
    Rows: TypeAlias = csr_array[np.int8, tuple[int, int]]

# People and items are drawn from separate streams: changing one must not reshuffle the other.
_PEOPLE_STREAM = 1000
_ITEM_STREAM = 2000


@dataclass(frozen=True, eq=False)
class Split:
    """A measurement's three parts.

    Attributes:
        train: what the model may learn from.
        fold_in: int8 CSR [measured people, items], what a measured person's recommendations are made from.
        held: int8 CSR, same shape and row order, disjoint from ``fold_in``: what should be recommended.
        measured: positions, among everybody, of the measured people, int64, in the order of those rows.
    """

    train: Histories
    fold_in: Rows
    held: Rows
    measured: NDArray[np.int64]


def hold_out_people(histories: Histories, count: int, seed: int, *, fold_in: float = 0.8, least: int = 5) -> Split:
    """Strong generalisation (Liang et al. 2018): the measured people are not in the training data at all.

    Args:
        histories: everybody.
        count: how many people to measure, at least 1.
        seed: picks the people and their items, not negative.
        fold_in: share of a measured person's items that recommendations are made from, in (0, 1). At least one
            item is held back.
        least: measured people have at least so many items, 2 or more.

    Raises:
        SettingError: an argument is out of its range, or there are too few people.
    """
    _check_hold_out(count, seed, fold_in, least)
    lengths = np.diff(histories.matrix.indptr)
    able = np.flatnonzero(lengths >= least)
    if count > len(able) or count >= len(histories):
        raise SettingError(
            f"count: there are too few people to hold out {count} with at least {least} items each and to train on "
            "others; lower count or least"
        )
    measured = np.random.default_rng(_PEOPLE_STREAM + seed).choice(able, count, replace=False)
    others = np.setdiff1d(np.arange(len(histories)), measured)
    matrix = histories.matrix[measured]
    share = np.round((1 - fold_in) * lengths[measured]).astype(np.int64)
    kept, held = _parted(matrix, _drawn(matrix, np.maximum(share, 1), seed))
    return Split(histories.take(others), kept, held, measured)


def hold_out_apart(histories: Histories, count: int, seed: int, *, fold_in: float = 0.8, least: int = 5) -> Split:
    """Strong generalisation where what becomes of a person depends on nobody else's history: for private measurements.

    Who is measured is drawn from everybody, by place alone; which of their items are held back, by place and by their
    own items. So another history in one person's place changes one row of one part.

    Args:
        histories: everybody.
        count: how many people to measure, at least 1.
        seed: picks the people and their items, not negative.
        fold_in: share of a measured person's items that recommendations are made from, in (0, 1).
        least: of those who have fewer items, 2 or more, nothing is held back.

    Raises:
        SettingError: an argument is out of its range, or nobody would be left to train on.
    """
    _check_hold_out(count, seed, fold_in, least)
    _check(count < len(histories), "count: there are too few people to hold out so many and to train on others")
    measured = np.sort(np.random.default_rng((_PEOPLE_STREAM, seed)).choice(len(histories), count, replace=False))
    matrix = histories.matrix[measured]
    out = np.zeros(matrix.nnz, np.bool_)
    for place, start, end in zip(measured.tolist(), matrix.indptr[:-1], matrix.indptr[1:], strict=True):
        items = int(end - start)
        if items >= least:
            order = np.random.default_rng((_ITEM_STREAM, seed, place)).permutation(items)
            out[start + order[: max(1, round((1 - fold_in) * items))]] = True
    kept, held = _parted(matrix, out)
    return Split(histories.take(np.setdiff1d(np.arange(len(histories)), measured)), kept, held, measured)


def leave_one_out(histories: Histories, seed: int) -> Split:
    """Weak generalisation: all people train, without the one item held back from each who has two or more.

    That item is the last by time where there are timestamps; otherwise it is drawn with ``seed`` (not negative).

    Raises:
        SettingError: ``seed`` is negative, or nobody has two items.
    """
    _check(seed >= 0, "seed must not be negative")
    matrix = histories.matrix
    measured = np.flatnonzero(np.diff(matrix.indptr) >= 2)
    _check(len(measured) > 0, "leave-one-out needs people with at least two items, and there are none")
    if histories.last is None:
        out = _drawn(matrix, np.ones(len(histories), np.int64), seed)
    else:
        out = matrix.indices == np.repeat(histories.last, np.diff(matrix.indptr))
    out &= np.repeat(np.diff(matrix.indptr) >= 2, np.diff(matrix.indptr))
    kept, held = _parted(matrix, out)
    return Split(replace(histories, matrix=kept, last=None), kept[measured], held[measured], measured)


def _check_hold_out(count: int, seed: int, fold_in: float, least: int) -> None:
    _check(count >= 1, "count must be at least 1")
    _check(seed >= 0, "seed must not be negative")
    _check(0 < fold_in < 1, "fold_in must be between 0 and 1")
    _check(least >= 2, "least must be at least 2: one item to recommend from and one to find")


def _check(fits: bool, otherwise: str) -> None:
    if not fits:
        raise SettingError(otherwise)


def _drawn(matrix: Rows, many: NDArray[np.int64], seed: int) -> NDArray[np.bool_]:
    """Mark ``many[row]`` random entries of each row. Bool, aligned with ``matrix.indices``."""
    lengths = np.diff(matrix.indptr)
    rows = np.repeat(np.arange(len(lengths)), lengths)
    order = np.lexsort((np.random.default_rng(seed).random(matrix.nnz), rows))
    places = np.arange(matrix.nnz) - np.repeat(matrix.indptr[:-1], lengths)
    drawn = np.empty(matrix.nnz, np.bool_)
    drawn[order] = places < np.repeat(many, lengths)
    return drawn


def _parted(matrix: Rows, out: NDArray[np.bool_]) -> tuple[Rows, Rows]:
    return _only(matrix, ~out), _only(matrix, out)


def _only(matrix: Rows, keep: NDArray[np.bool_]) -> Rows:
    """The entries of ``matrix`` marked in ``keep``, in a matrix of the same shape."""
    before = np.concatenate(([0], np.cumsum(keep)))
    starts = before[matrix.indptr].astype(matrix.indptr.dtype)
    part = csr_array((matrix.data[keep], matrix.indices[keep], starts), shape=matrix.shape)
    part.has_canonical_format = True
    return part
