"""A released model as a device holds it: what lists need, in few bytes. NumPy is all that it takes to make one.

Every kind of model makes a list by one of five rules, from what is known of a history:

- ``counts``: the list is the same for everybody.
- ``picks``: the list is the same for everybody of a cohort, and no other items are listed.
- ``weights``: scores are the sum of the known items' rows of a matrix [kept, kept].
- ``factors``: scores are a matrix [kept, width] times the sum of the known items' rows of another. Where the other's
  rows are the first's, turned by one matrix and each at its own length, it is not sent; otherwise the rule is
  ``coded``, and both are.
- ``solved``: scores are factors [kept, width] times what a ridge regression on the known items' factors gives.

A matrix is int8, with a scale a row; of ``solved`` it is int16, since a system of few rows magnifies what rounding does
to them. Two versions of a sheet differ in some arrays: ``patch`` is that difference.
"""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from discreet.data.catalogue import Catalogue
from discreet.errors import ArtefactError, DiscreetError, SettingError
from discreet.models.archive import packed, sorted_json, unpacked
from discreet.models.slate import Slate, behind, best, positions_of

if TYPE_CHECKING:
    from discreet.models.base import State

FORMAT = 1
IDS, SMALL = "ids", 1 << 31
FITS = 1e-4
"""How far off, of its length, an encoder may be that is made of the decoder."""
SWEEPS = 200
SAMPLED = 1024
"""Rows that it is found on."""
CHUNK = 1 << 12
"""Rows that are scored at a time: as floats they stay in the processor's cache."""
MOST_UNPACKED = 1 << 28
"""Bytes of an array that a patch may unpack to."""

_WHAT, _THEN = "device's model", "ask for it again"
_RULES: Mapping[str, frozenset[str]] = {
    "counts": frozenset({"counts"}),
    "picks": frozenset({"picks"}),
    "weights": frozenset({"counts", "matrix", "scale"}),
    "factors": frozenset({"counts", "matrix", "scale", "ratio", "turn"}),
    "coded": frozenset({"counts", "matrix", "scale", "source", "source_scale"}),
    "solved": frozenset({"counts", "matrix", "scale", "unobserved", "ridge"}),
}
"""Which arrays each rule needs."""


@dataclass(frozen=True, eq=False)
class Sheet:
    """What a device holds of a model.

    Attributes:
        catalogue: what the positions mean; categories and tags are left out.
        rule: see above.
        promise: what the model promises whom it was learnt from, in a sentence.
        arrays: what the rule needs: ``counts`` float32 [items] or, of ``picks``, ``picks`` int32 [cohorts, n],
            positions, best first; and ``kept`` int32, unless all items are.
        cohorts: whose lists ``picks`` are, in order.
    """

    catalogue: Catalogue = field(repr=False)
    rule: str
    promise: str
    arrays: State = field(repr=False)
    cohorts: tuple[str, ...] = ()

    def recommend(self, history: Iterable[str | int], n: int = 10, cohort: str | None = None) -> Slate:
        """Return a list for someone with this history, which stays in the call, as does the cohort that they are of.

        Raises:
            SettingError: ``n`` is below 1, or the history holds something other than ids; or there are several
                cohorts, and this is none of them.
        """
        known, unknown = self.catalogue.positions(history)
        if self.rule == "picks":
            return best(self._picked(cohort), self.catalogue, n, exclude=known)
        places = self._places[known]
        places = places[places >= 0]
        kept, counts = self._kept, self.arrays["counts"]
        scores = self._scores(places) if len(places) and self.rule != "counts" else counts[kept]
        spread = behind(scores[None].astype(np.float32), kept, counts)[0]
        return best(spread, self.catalogue, n, exclude=known, unknown=unknown)

    def _picked(self, cohort: str | None) -> NDArray[np.float64]:
        """Return how high each item is on the list of a cohort; -inf where it is not."""
        if cohort not in self.cohorts and len(self.cohorts) > 1:
            raise SettingError(f"there is a list for each of {', '.join(self.cohorts)}; say which of them is yours")
        picks = self.arrays["picks"][self.cohorts.index(cohort) if cohort in self.cohorts else 0]
        scores = np.full(len(self.catalogue), -np.inf)
        scores[picks] = np.arange(len(picks), 0, -1)
        return scores

    @cached_property
    def _places(self) -> NDArray[np.int64]:
        return positions_of(self._kept, len(self.catalogue))

    @cached_property
    def _kept(self) -> NDArray[np.int64]:
        return np.asarray(self.arrays.get("kept", np.arange(len(self.catalogue))), np.int64)

    @cached_property
    def _common(self) -> NDArray[np.float64]:
        """Return the part of a person's system that is the same for all, its ridge included [width, width]."""
        factors, arrays = _rows(self.arrays, slice(None)), self.arrays
        ridge = arrays["ridge"] * np.eye(factors.shape[1])
        return np.asarray(arrays["unobserved"] * factors.T @ factors + ridge, np.float64)

    def _scores(self, places: NDArray[np.int64]) -> NDArray[np.floating]:
        """Return the scores of the kept items."""
        known = _rows(self.arrays, places)
        if self.rule == "weights":
            return np.asarray(known.sum(axis=0))
        if self.rule == "coded":
            query = _rows(self.arrays, places, "source").sum(axis=0)
        elif self.rule == "factors":
            query = (self.arrays["ratio"][places].astype(np.float32) @ known) @ self.arrays["turn"]
        else:
            whole = known.astype(np.float64)
            query = np.linalg.solve(self._common + whole.T @ whole, whole.sum(axis=0))
        matrix, query = self.arrays["matrix"], query.astype(np.float32)
        parts = [matrix[start : start + CHUNK] @ query for start in range(0, len(matrix), CHUNK)]
        return np.asarray(np.concatenate(parts) * self.arrays["scale"])

    def to_bytes(self) -> bytes:
        """Return the sheet as a file's content; the same bytes for the same sheet."""
        ids, catalogue = _narrow(self.catalogue)
        header = {"format": FORMAT, "rule": self.rule, "promise": self.promise, "catalogue": catalogue}
        header["cohorts"] = list(self.cohorts)
        return packed(header, dict(sorted((self.arrays | ids).items())), sorted_json)

    @classmethod
    def from_bytes(cls, content: bytes) -> Sheet:
        """Read what ``to_bytes`` wrote.

        Raises:
            ArtefactError: it is damaged, or something else.
        """
        header, arrays = unpacked(content, _WHAT, FORMAT, _THEN)
        try:
            catalogue = _widened(header["catalogue"], arrays)
            found = cls(catalogue, header["rule"], str(header["promise"]), arrays, tuple(map(str, header["cohorts"])))
            sound = _is_sound(found)
        except (AttributeError, KeyError, TypeError, ValueError, DiscreetError):
            sound = False
        if not sound:
            raise ArtefactError(f"the {_WHAT}'s parts do not fit together; {_THEN}")
        return found


def patch(old: bytes, new: bytes) -> bytes:
    """Return what turns one sheet's bytes into another's, or nothing if that is no shorter.

    Of an array of the same shape and type, the difference, packed; of another, itself; what did not change is left out.
    """
    before, after = Sheet.from_bytes(old), Sheet.from_bytes(new)
    arrays: State = {}
    for name, array in after.arrays.items():
        held = before.arrays.get(name)
        if held is not None and _alike(held, array):
            if held.tobytes() != array.tobytes():
                arrays[f"xor.{name}"] = _packed(_bytes_of(held) ^ _bytes_of(array))
        else:
            arrays[f"new.{name}"] = array
    header: dict[str, Any] = {"format": FORMAT, "rule": after.rule, "promise": after.promise}
    header |= {"cohorts": list(after.cohorts), "names": sorted(after.arrays), "old": hashlib.sha256(old).hexdigest()}
    if before.catalogue != after.catalogue:
        ids, header["catalogue"] = _narrow(after.catalogue)
        arrays |= ids
    made = packed(header, arrays, sorted_json)
    return made if len(made) < len(new) else b""


def patched(old: bytes, change: bytes) -> bytes:
    """Return the newer sheet's bytes.

    Raises:
        ArtefactError: the change is damaged, or to another sheet.
    """
    before = Sheet.from_bytes(old)
    header, arrays = unpacked(change, "change of a model", FORMAT, _THEN)
    try:
        if header["old"] != hashlib.sha256(old).hexdigest():
            raise ArtefactError(f"the change is to another model than the one held; {_THEN}")
        after: State = {}
        for name in header["names"]:
            if f"new.{name}" in arrays:
                after[name] = arrays[f"new.{name}"]
            elif f"xor.{name}" in arrays:
                held = before.arrays[name]
                difference = _unpacked(arrays[f"xor.{name}"], held.nbytes)
                after[name] = (_bytes_of(held) ^ difference).view(held.dtype).reshape(held.shape)
            else:
                after[name] = before.arrays[name]
        catalogue = _widened(header["catalogue"], arrays) if "catalogue" in header else before.catalogue
        cohorts = tuple(map(str, header["cohorts"]))
        return Sheet(catalogue, header["rule"], str(header["promise"]), after, cohorts).to_bytes()
    except (AttributeError, KeyError, TypeError, ValueError, zlib.error, DiscreetError) as error:
        if isinstance(error, ArtefactError):
            raise
        raise ArtefactError(f"the change of a model does not fit what is held; {_THEN}") from None


def quantised(
    matrix: NDArray[np.floating], kind: type[np.int8] | type[np.int16] = np.int8
) -> tuple[NDArray[np.signedinteger], NDArray[np.float32]]:
    """Return a matrix as integers in steps, and the size of a step of each row."""
    most = np.iinfo(kind).max
    scale = (np.maximum(np.abs(matrix).max(axis=1, initial=0.0), 1e-30) / most).astype(np.float32)
    return np.rint(matrix / scale[:, None]).clip(-most, most).astype(kind), scale


def turned(
    encoder: NDArray[np.floating], decoder: NDArray[np.floating]
) -> tuple[NDArray[np.float16], NDArray[np.float32]] | None:
    """Return a ratio for each row and a matrix with which an encoder is that of a decoder; None if there is none.

    Alternating least squares on some of the rows: the matrix given the ratios, each ratio given the matrix. Then the
    ratios of all.
    """
    source, target = decoder.astype(np.float64), encoder.astype(np.float64)
    some = np.linspace(0, len(source) - 1, min(len(source), SAMPLED)).astype(np.int64)
    lengths = np.linalg.norm(source[some], axis=1)
    ratio = np.linalg.norm(target[some], axis=1) / np.where(lengths > 0, lengths, 1.0)
    for _ in range(SWEEPS):
        turn = np.linalg.lstsq(ratio[:, None] * source[some], target[some], rcond=None)[0]
        before, ratio = ratio, _along(target[some], source[some] @ turn)
        if np.allclose(before, ratio, rtol=1e-6, atol=0):
            break
    ratio = _along(target, source @ turn)
    off = np.linalg.norm(target - ratio[:, None] * (source @ turn))
    fits = off <= FITS * np.linalg.norm(target)
    largest = (
        float(np.abs(ratio).max()) or 1.0
    )  # half precision has a small range, and is fine enough for what is summed
    return ((ratio / largest).astype(np.float16), (turn * largest).astype(np.float32)) if fits else None


def _along(target: NDArray[np.float64], source: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return how many times a row of ``source`` is nearest to that of ``target``; 0 of a row of zeros."""
    squared = (source * source).sum(axis=1)
    return np.asarray((target * source).sum(axis=1) / np.where(squared > 0, squared, 1.0))


def _narrow(catalogue: Catalogue) -> tuple[State, dict[str, Any]]:
    """Return a catalogue's ids as an array, if they are small whole numbers, and the rest of it for a header."""
    told: dict[str, Any] = dict(catalogue.to_dict())
    largest = max(abs(item) if isinstance(item, int) else SMALL for item in (catalogue.ids[0], catalogue.ids[-1]))
    if largest >= SMALL:
        return {}, told
    return {IDS: np.array(catalogue.ids, np.int32)}, told | {"ids": None}


def _widened(told: dict[str, Any], arrays: State) -> Catalogue:
    """Return the catalogue, and take its ids out of the arrays."""
    ids = arrays.pop(IDS, None)
    if ids is not None and (ids.dtype != np.int32 or ids.ndim != 1):
        raise SettingError("ids that are an array are whole numbers")
    return Catalogue.from_dict(told if ids is None else {**told, "ids": ids.tolist()})


def _rows(arrays: State, places: Any, name: str = "matrix") -> NDArray[np.float32]:
    scale = arrays["source_scale" if name == "source" else "scale"][places]
    return np.asarray(arrays[name][places].astype(np.float32) * scale[:, None])


def _alike(one: NDArray[Any], other: NDArray[Any]) -> bool:
    return one.dtype == other.dtype and one.shape == other.shape


def _bytes_of(array: NDArray[Any]) -> NDArray[np.uint8]:
    return np.frombuffer(np.ascontiguousarray(array).tobytes(), np.uint8)


def _packed(content: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return np.frombuffer(zlib.compress(content.tobytes(), 6), np.uint8)


def _unpacked(content: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    """Return what was packed, which has to be of a size."""
    reader = zlib.decompressobj()
    found = reader.decompress(content.tobytes(), min(size, MOST_UNPACKED) + 1)
    if len(found) != size:
        raise SettingError("a difference of another size")
    return np.frombuffer(found, np.uint8)


_TYPES: Mapping[str, str] = {
    "kept": "<i4",
    "counts": "<f4",
    "picks": "<i4",
    "matrix": "|i1",
    "scale": "<f4",
    "source": "|i1",
    "source_scale": "<f4",
    "ratio": "<f2",
    "turn": "<f4",
    "unobserved": "<f8",
    "ridge": "<f8",
}


def _is_sound(sheet: Sheet) -> bool:
    """Tell whether the arrays are those of the rule, of fitting shapes, finite, and within the catalogue."""
    arrays, items = sheet.arrays, len(sheet.catalogue)
    if set(arrays) | {"kept"} != {"kept"} | _RULES[sheet.rule] or (sheet.rule == "picks") != bool(sheet.cohorts):
        return False
    types = {**_TYPES, "matrix": "<i2"} if sheet.rule == "solved" else _TYPES
    if any(array.dtype.str != types[name] for name, array in arrays.items()):
        return False
    if sheet.rule == "picks":
        return _are_picks(arrays["picks"], items, sheet.cohorts)
    kept = arrays.get("kept", np.arange(items))
    if kept.ndim != 1 or not len(kept) or kept[0] < 0 or kept[-1] >= items or (np.diff(kept) <= 0).any():
        return False
    width = arrays["matrix"].shape[-1] if "matrix" in arrays else 0
    wide = (len(kept), width)
    shapes = {"kept": kept.shape, "counts": (items,), "matrix": wide, "source": wide, "turn": (width, width)}
    shapes |= dict.fromkeys(("scale", "source_scale", "ratio"), kept.shape)
    shapes |= dict.fromkeys(("unobserved", "ridge"), (1,))
    if any(array.shape != shapes[name] for name, array in arrays.items()):
        return False
    if sheet.rule == "weights" and width != len(kept):
        return False
    positive = sheet.rule != "solved" or (arrays["ridge"][0] > 0 and arrays["unobserved"][0] >= 0)
    return bool(positive) and all(bool(np.isfinite(array).all()) for array in arrays.values())


def _are_picks(picks: NDArray[np.int32], items: int, cohorts: tuple[str, ...]) -> bool:
    """Tell whether these are lists, one a cohort, of items of the catalogue, none of them twice."""
    if picks.ndim != 2 or not len(picks) == len(cohorts) == len({*cohorts}) or not 1 <= picks.shape[1] <= items:
        return False
    within = bool((picks >= 0).all() and (picks < items).all())
    return within and all(len({*row.tolist()}) == picks.shape[1] for row in picks)
