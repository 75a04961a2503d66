"""A list for one person."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from numbers import Integral
from typing import Any

import numpy as np
from numpy.typing import NDArray

from discreet.data.interactions import Catalogue
from discreet.errors import SettingError


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
    order = np.argsort(-ranked, kind="stable")[:length]
    order = order[np.isfinite(ranked[order])]
    return Slate(
        tuple(catalogue.ids[position] for position in order),
        tuple(catalogue.title(int(position)) for position in order),
        tuple(float(ranked[position]) for position in order),
        unknown,
    )


def _whole(n: object) -> int:
    if isinstance(n, bool) or not isinstance(n, Integral):
        raise SettingError(f"n must be a whole number, not {type(n).__name__}")
    return int(n)
