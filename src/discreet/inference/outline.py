"""What a device is told of a model whose scores are computed elsewhere, and what both sides do to its numbers.

For models whose scores are a matrix times something of the history, the *query*:

- ``gram``: the query is the history itself, a number for each kept item.
- ``subspace``: the query is the person's factor, the sum of the encoder's rows of what they know.

The matrix stays with whoever computes. It is rounded to integers with a step for each column, the query to the finest
integers of which no score wraps; of these integers scores are exact.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from discreet.data.catalogue import Catalogue
from discreet.errors import ArtefactError, DiscreetError, SettingError
from discreet.inference.base import History
from discreet.models.archive import packed, unpacked
from discreet.models.base import State
from discreet.models.slate import Slate, behind, best, positions_of
from discreet.models.trained import Trained

Side = TypeVar("Side")

FORMAT = 1
LARGEST_SCALE = 1e100
"""Or a query could overflow, for some histories alone."""


@dataclass(frozen=True, eq=False)
class Outline:
    """What a device has to know of a model. Public, the same for everybody.

    Attributes:
        catalogue: what the positions mean.
        kept: positions of the items that have scores, ascending.
        counts: float32 [items]: what the other items are ranked by, and everything for those who are not known.
        scales: float64 [width]: what one step of a query's source is worth, in steps of the matrix.
        terms: messages with the terms of each protocol that is spoken, by name.
        source: int16 [kept, width]: rows of the encoder, if all are handed out.
    """

    catalogue: Catalogue = field(repr=False)
    kept: NDArray[np.int64] = field(repr=False)
    counts: NDArray[np.float32] = field(repr=False)
    scales: NDArray[np.float64] = field(repr=False)
    terms: Mapping[str, bytes] = field(repr=False)
    source: NDArray[np.int16] | None = field(default=None, repr=False)

    def known(self, history: History) -> tuple[list[int], NDArray[np.int64], int]:
        """Return what is known of a history.

        Returns:
            Places of its items among the kept ones; positions of those that the catalogue has; how many it has not.

        Raises:
            SettingError: the history holds something other than ids.
        """
        known, unknown = self.catalogue.positions(history)
        places = positions_of(self.kept, len(self.catalogue))[known]
        return places[places >= 0].tolist(), known, unknown

    def listed(self, scores: NDArray[np.float32], known: NDArray[np.int64], unknown: int, n: int) -> Slate:
        """Make a list.

        Args:
            scores: of the kept items.
            known: positions that are not to be listed. If no kept one is among them, the list is what everybody likes.
            unknown: passed on.
            n: length of the list.

        Raises:
            SettingError: ``n`` is below 1.
        """
        if not np.isin(known, self.kept).any():
            scores = self.counts[self.kept]
        spread = behind(scores[None], self.kept, self.counts)[0]
        return best(spread, self.catalogue, n, exclude=known, unknown=unknown)

    def to_bytes(self) -> bytes:
        """Return the outline as a file's content; the same bytes for the same outline."""
        arrays: State = {"kept": self.kept, "counts": self.counts, "scales": self.scales}
        arrays |= {} if self.source is None else {"source": self.source}
        terms = {name: each.hex() for name, each in self.terms.items()}
        return packed({"format": FORMAT, "catalogue": self.catalogue.to_dict(), "terms": terms}, arrays)

    @classmethod
    def from_bytes(cls, content: bytes) -> Outline:
        """Read what ``to_bytes`` wrote.

        Raises:
            ArtefactError: it is damaged, or something else.
        """
        header, arrays = unpacked(content, "device's outline", FORMAT, "ask for it again")
        try:
            terms = {str(name): bytes.fromhex(each) for name, each in header["terms"].items()}
            found = cls(Catalogue.from_dict(header["catalogue"]), **arrays, terms=terms)
            sound = _is_sound(found)
        except (AttributeError, KeyError, TypeError, ValueError, DiscreetError):
            sound = False
        if not sound:
            raise ArtefactError("the outline's parts do not fit together; ask for it again")
        return found


def _is_sound(outline: Outline) -> bool:
    items, kept, width = len(outline.catalogue), outline.kept, len(outline.scales)
    types = [kept.dtype == np.int64, outline.counts.dtype == np.float32, outline.scales.dtype == np.float64]
    shapes = [kept.ndim == 1, outline.counts.shape == (items,), outline.scales.ndim == 1]
    if not all(types + shapes):
        return False
    finite = bool(np.isfinite(outline.counts).all()) and bool((np.abs(outline.scales) <= LARGEST_SCALE).all())
    ascending = len(kept) > 0 and kept[0] >= 0 and kept[-1] < items and bool((np.diff(kept) > 0).all())
    source = outline.source
    fits = source is None or (source.dtype == np.int16 and source.shape == (len(kept), width))
    return finite and ascending and fits


@dataclass(frozen=True, eq=False)
class Kept(Generic[Side]):
    """What a device keeps until the reply.

    Attributes:
        side: the device's of the protocol.
        known: positions of the history's items.
        unknown: how many of its items are not in the catalogue.
        step: what a step of a score is worth, where scores are read.
    """

    side: Side
    known: NDArray[np.int64] = field(repr=False)
    unknown: int = field(repr=False)
    step: float = field(default=1.0, repr=False)


def factors(trained: Trained) -> tuple[NDArray[np.floating] | None, NDArray[np.floating]]:
    """Return what a history is encoded with, [kept, width], or None for itself; and what it is scored with.

    Raises:
        SettingError: the model's scores are of another shape, or the same for everybody.
    """
    state = trained.state
    if trained.model.name == "gram":
        return None, state["weights"].T
    if trained.model.name == "subspace" and "encoder" in state:
        return state["encoder"], state["decoder"]
    raise SettingError(f"scores of this {trained.model.name} model are no matrix times a history; score on the device")


def quantised(matrix: NDArray[np.floating], most: int) -> tuple[NDArray[np.int16], NDArray[np.float64]]:
    """Return a matrix [rows, width] in steps, up to ``most`` (below 2^15), and the size of each column's, [width]."""
    steps = np.maximum(np.abs(matrix).max(axis=0, initial=0.0).astype(np.float64), 1e-30) / most
    return np.rint(matrix / steps).astype(np.int16), steps


def finest(query: NDArray[np.float64], longest: int, limit: float) -> tuple[NDArray[np.int64], float]:
    """Return the longest integers along a query of which no score wraps, and what their step is worth.

    Rounding makes a vector longer by half the root of its width at most; twice that is left free.

    Args:
        query: [width].
        longest: largest squared length of a row of the matrix, in steps.
        limit: what scores have to stay below.

    Raises:
        SettingError: the limit leaves no step for a query of this width.
    """
    length = limit / math.sqrt(max(longest, 1)) - math.sqrt(len(query))
    if length < 1.0:  # whatever the query is: that nothing is sent must not tell of it
        raise SettingError("the matrix is too long for the numbers that scores are made of; score on the device")
    largest = float(np.abs(query).max())
    if largest == 0.0:
        return np.zeros(len(query), np.int64), 1.0
    relative = query / largest  # or squares of small numbers might vanish
    step = float(np.linalg.norm(relative)) / length
    return np.rint(relative / step).astype(np.int64), largest * step
