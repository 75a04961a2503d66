"""Records that must show less than a person does: sensitive categories of items, and how much of a row they may move.

A category has a weight w, in sixteenths. A person's row is made of layers, each within its own share of the bound: the
first, of 16 - w sixteenths, is made as if the person had no item of the category; only the last, of w sixteenths, sees
them. So whatever the person did in the category, one record or all of them, moves the row by at most twice that last
share. Of several weights there are several layers; an item takes part in those of its own weight. A weight of 0 keeps
the category out of the data altogether. Proof: ``records.md``.

The list of items and their categories are public. What a person did is not, nor whether they did anything in one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from numbers import Real

from discreet.errors import SettingError

SIXTEENTHS = 16
MOST_WEIGHT = 8
"""Above it a category would promise less than the person's own guarantee does."""
USUAL_WEIGHT = 2

Weights = tuple[tuple[str, int], ...]
"""Categories, ascending by name, with their weights in sixteenths."""


@dataclass(frozen=True)
class Layer:
    """A part of every row: sixteenths ``start`` to ``end`` of the bound, made without the items of ``unseen``."""

    start: int
    end: int
    unseen: frozenset[str]

    def of(self, bound: int) -> int:
        """Return its share of a bound; those of all layers add up to the bound exactly."""
        return bound * (SIXTEENTHS - self.start) // SIXTEENTHS - bound * (SIXTEENTHS - self.end) // SIXTEENTHS


def layers_of(weights: Weights) -> tuple[Layer, ...]:
    """Return the layers of a row, from the one that sees no sensitive item to the one that sees the most."""
    edges = sorted({0, SIXTEENTHS} | {SIXTEENTHS - weight for _, weight in weights})
    return tuple(
        Layer(start, end, frozenset(name for name, weight in weights if SIXTEENTHS - weight > start))
        for start, end in pairwise(edges)
    )


def reach(weight: int, bound: int) -> int:
    """Return the most, in grid units, that all items of a weight together can move a row of this bound."""
    return 2 * (bound * weight // SIXTEENTHS)


def weights_of(declared: frozenset[str], asked: object) -> Weights:
    """Return the weights of the categories that a catalogue declares: as asked, else two sixteenths.

    Args:
        declared: categories that the catalogue's items have.
        asked: a mapping of weights, 0 to 1/2 in steps of 1/16, by category; or None.

    Raises:
        SettingError: a category is asked for that no item has, or a weight is no such step.
    """
    if not isinstance(asked, Mapping | None):
        raise SettingError(f"sensitive is a mapping of weights by category, not {type(asked).__name__}")
    strangers = sorted(map(str, set(asked or {}) - declared))
    if strangers:
        known = ", ".join(sorted(declared)) or "none: give it a column 'sensitive'"
        raise SettingError(f"no item is of category {strangers[0]!r}; the catalogue declares {known}")
    steps = {name: _step(name, weight) for name, weight in (asked or {}).items()}
    return tuple((name, steps.get(name, USUAL_WEIGHT)) for name in sorted(declared))


def _step(name: str, weight: object) -> int:
    if isinstance(weight, bool) or not isinstance(weight, Real):
        raise SettingError(f"the weight of {name} is a number, not {type(weight).__name__}")
    step = float(weight) * SIXTEENTHS
    if not 0 <= step <= MOST_WEIGHT or step != int(step):
        raise SettingError(f"the weight of {name} is 0 to 1/2 in steps of 1/16, got {float(weight):g}")
    return int(step)
