"""What the arrays of a model file must be before anything is computed with them.

Who wrote a file is not known. Kernels do not look at bounds, so an array that is shorter than another one says, or a
position beyond the catalogue, would have them read memory that is not theirs.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from discreet.errors import ArtefactError
from discreet.models.base import EVIDENCE, State

LARGEST = 1e15
"""Of any number: no count comes near it, and sums of products of two such are finite in single precision."""

_MOST = {"precision": LARGEST**2, "direction": 2.0**21}
"""The same of some arrays: the precision of counts without noise is far above any other; of v, see ``subspace.md``."""

LARGEST_RANK = 1_024
"""Columns of a basis that a device is told of: its time grows with them, and with what it knows."""

_Dimensions = tuple[str, ...]
_ONE: _Dimensions = ()
_COUNTS: dict[str, _Dimensions] = {"round": _ONE, "counts": ("items",)}
_FACTORS: dict[str, _Dimensions] = {"kept": ("kept",), "typical": _ONE, "factors": ("kept", "rank")}
_CODER: dict[str, _Dimensions] = {"kept": ("kept",), "encoder": ("kept", "rank"), "decoder": ("kept", "rank")}

NEEDED: Mapping[str, Mapping[str, _Dimensions]] = {
    "popularity": _COUNTS,
    "subspace": _COUNTS | {"precision": _ONE},
    "gram": _COUNTS | {"kept": ("kept",), "weights": ("kept", "kept")},
    "ials": _COUNTS | _FACTORS,
    "als": _COUNTS | _FACTORS,
    "sgd": _COUNTS | _FACTORS,
}
"""Kinds of model: the arrays of each, and what their dimensions count."""

TOGETHER: Mapping[str, tuple[Mapping[str, _Dimensions], ...]] = {
    "popularity": (),
    "subspace": (
        _CODER,
        {EVIDENCE: ("kept", "sums"), "last": _ONE},
        {"last": _ONE},
        {f"{EVIDENCE}.tags": ("kept", "tags")},
    ),
    "gram": ({EVIDENCE: ("pairs",), "plain": _ONE}, {"plain": _ONE}),
    "ials": (),
    "als": ({"emphasis": ("kept",)},),
    "sgd": (),
}
"""Arrays that there may be beside: where the first of a group is, all of it has to be."""


_PASS: Mapping[str, _Dimensions] = {
    "basis": ("kept", "rank"),
    "kept": ("kept",),
    "weights": ("kept",),
    "direction": ("kept",),
}
"""What a device is told before a pass of a subspace."""

_KINDS = {"plain": "b", f"{EVIDENCE}.tags": "b", "direction": "i"}
"""Of NumPy's kinds of type, where that is not a number."""


def check_state(kind: str, state: State, items: int) -> None:
    """Return if a model of this kind can make lists with the arrays.

    Raises:
        ArtefactError: one is missing, unknown, of the wrong shape, or holds what no such array does.
    """
    _check(_expected(NEEDED[kind], TOGETHER[kind], state), state, items)


def check_asked(kind: str, state: State, items: int) -> None:
    """Return if a model of this kind, of those that devices compute, can make somebody's row with the arrays.

    Raises:
        ArtefactError: as ``check_state``.
    """
    needed: dict[str, _Dimensions] = {"round": _ONE}
    if kind == "gram" and "round" in state and state["round"].any():
        needed |= {"kept": ("kept",)}
    _check(_expected(needed, (_PASS,) if kind == "subspace" else (), state), state, items)
    if "basis" in state and state["basis"].shape[1] > LARGEST_RANK:
        raise _refusal("basis", "has more columns than a device computes with")
    if "direction" in state and sum(value * value for value in state["direction"].tolist()) > _MOST["direction"] ** 2:
        raise _refusal("direction", "is longer than the kernels' integers have room for")


def _check(expected: Mapping[str, _Dimensions], state: State, items: int) -> None:
    for name in state:
        if name not in expected:
            raise _refusal(name, "has no place in it")
    for name in expected:
        if name not in state:
            raise _refusal(name, "is missing")
    sizes = {"items": items}
    if "kept" in state:
        _check_kept(state["kept"], items)
        kept = len(state["kept"])
        sizes |= {"kept": kept, "pairs": kept * (kept + 1) // 2}
    for name, array in state.items():
        _check_shape(name, array, expected[name], sizes)
        if array.dtype.kind not in _KINDS.get(name, "fiu") or not _are_small(name, array):
            raise _refusal(name, "holds what is no number, or none that could be there")


def _expected(
    needed: Mapping[str, _Dimensions], together: tuple[Mapping[str, _Dimensions], ...], state: State
) -> dict[str, _Dimensions]:
    expected = dict(needed)
    for group in together:
        if next(iter(group)) in state:
            expected |= group
    return expected


def _are_small(name: str, array: NDArray[Any]) -> bool:
    most = _MOST.get(name, LARGEST)
    return array.size == 0 or bool(-most <= array.min() and array.max() <= most)  # of which a NaN is neither; no copies


def _check_kept(kept: NDArray[np.generic], items: int) -> None:
    if kept.ndim != 1 or kept.dtype.kind != "i" or len(kept) == 0:
        raise _refusal("kept", "holds no positions")
    places = kept.astype(np.int64)
    if places[0] < 0 or places[-1] >= items or (np.diff(places) <= 0).any():
        raise _refusal("kept", "holds positions that are not of its catalogue, ascending")


def _check_shape(name: str, array: NDArray[np.generic], dimensions: _Dimensions, sizes: dict[str, int]) -> None:
    if not dimensions:
        fits = array.size == 1
    else:
        fits = array.ndim == len(dimensions)
        fits = fits and all(sizes.setdefault(*each) == each[1] for each in zip(dimensions, array.shape, strict=True))
    if not fits:
        raise _refusal(name, "is of a shape that does not fit the others")


def _refusal(name: str, why: str) -> ArtefactError:
    shown = name if name.isprintable() and len(name) <= 40 else "of another name"
    return ArtefactError(f"not a model: its array {shown} {why}; retrain it")
