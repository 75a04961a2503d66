"""A list for one person, and how scores become one. Read by devices too: NumPy is all that it imports."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from numbers import Integral
from typing import Any

import numpy as np
from numpy.typing import NDArray

from discreet.data.catalogue import Catalogue
from discreet.errors import SettingError

LOWEST = np.finfo(np.float64).min


@dataclass(frozen=True)
class Slate:
    """Recommended items, best first.

    Attributes:
        items: ids, as the caller's data has them.
        titles: what to show for each.
        scores: of the model, for each; comparable within this slate alone.
        unknown: how many items of the history are not in the catalogue and were left out of account.
    """

    items: tuple[str | int, ...]
    titles: tuple[str, ...]
    scores: tuple[float, ...]
    unknown: int = 0

    def __iter__(self) -> Iterator[str | int]:
        return iter(self.items)

    def __len__(self) -> int:
        return len(self.items)

    def to_dicts(self, *, scores: bool = False) -> list[dict[str, Any]]:
        """Return rows of rank, item_id, title; scores only if asked for, since they tell more about the model."""
        rows = enumerate(zip(self.items, self.titles, self.scores, strict=True), start=1)
        return [
            {"rank": rank, "item_id": item, "title": title} | ({"score": score} if scores else {})
            for rank, (item, title, score) in rows
        ]


def best(
    scores: NDArray[np.floating], catalogue: Catalogue, n: int, *, exclude: NDArray[np.int64], unknown: int = 0
) -> Slate:
    """Return the ``n`` best items (fewer if there are not as many), ties in catalogue order.

    Args:
        scores: [items].
        catalogue: what the positions mean.
        n: at least 1.
        exclude: positions that are not to be listed.
        unknown: passed on.

    Raises:
        SettingError: if ``n`` is no whole number, or below 1.
    """
    length = _whole(n)
    if length < 1:
        raise SettingError(f"n must be at least 1, got {length}")
    ranked = scores.astype(np.float64)
    ranked[exclude] = -np.inf
    least = np.partition(ranked, -length)[-length] if length < len(ranked) else -np.inf
    able = np.flatnonzero(ranked >= max(least, LOWEST))
    order = able[np.argsort(-ranked[able], kind="stable")[:length]]
    return Slate(
        tuple(catalogue.ids[position] for position in order),
        tuple(catalogue.title(int(position)) for position in order),
        tuple(float(ranked[position]) for position in order),
        unknown,
    )


def positions_of(kept: NDArray[np.int64], items: int) -> NDArray[np.int64]:
    """Return where each item of the catalogue stands among the kept ones, -1 where it does not."""
    positions = np.full(items, -1, np.int64)
    positions[kept] = np.arange(len(kept))
    return positions


def linear(
    weights: Callable[[NDArray[np.int64], NDArray[np.int64]], NDArray[np.floating]],
    positions: NDArray[np.int64],
    known: NDArray[np.int64],
    listed: NDArray[np.int64],
) -> NDArray[np.float64]:
    """Return ``weights`` between the kept ones of two lists of items, and 0 where an item was not kept.

    Args:
        weights: of positions among the kept items, [known, listed].
        positions: as ``positions_of`` returns them.
        known: positions in the catalogue.
        listed: positions in the catalogue.
    """
    mine, theirs = positions[known], positions[listed]
    found = np.zeros((len(known), len(listed)))
    found[np.ix_(mine >= 0, theirs >= 0)] = weights(mine[mine >= 0], theirs[theirs >= 0])
    return found


def behind(
    among_kept: NDArray[np.float32], kept: NDArray[np.int64], counts: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Spread the scores of the kept items over the catalogue; all others follow behind, in the order of ``counts``.

    Args:
        among_kept: float32 [people, kept].
        kept: positions of the kept items.
        counts: float32 [items].

    Returns:
        float32 [people, items].
    """
    lowest = among_kept.min(axis=1, initial=0.0)[:, None]
    reach = 1.0 + np.abs(among_kept).max(axis=1, initial=0.0)[:, None]
    place = (counts - counts.max()) / (float(np.ptp(counts)) + 1e-12)  # in [-1, 0]
    scores: NDArray[np.float32] = (lowest + reach * (place[None] - 1e-3)).astype(np.float32)
    scores[:, kept] = among_kept
    return scores


def _whole(n: object) -> int:
    if isinstance(n, bool) or not isinstance(n, Integral):
        raise SettingError(f"n must be a whole number, not {type(n).__name__}")
    return int(n)
