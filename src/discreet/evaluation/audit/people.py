"""People who do not exist, drawn anew for each audit: a crowd with tastes, and canaries that have little in common."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast, get_args

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array, vstack

from discreet.data.catalogue import Catalogue
from discreet.data.interactions import Histories, Rows, rows_of
from discreet.models.base import Model
from discreet.models.recipe import Kind, recipe
from discreet.privacy.accounting import cap
from discreet.privacy.plan import Plan

KINDS: tuple[Kind, ...] = tuple(cast("Kind", kind) for kind in get_args(Kind) if kind != "auto")
"""Every kind of model that the recipe knows."""

PURPOSE = "audit"
TASTES = 2


def planned(kind: Kind, people: int, items: int, epsilon: float, delta: float) -> tuple[Model, Plan]:
    """Return what ``fit`` would run for a budget of (epsilon, delta)."""
    return recipe(people, items, cap(epsilon, delta), delta=delta, kind=kind)


def rows(histories: Sequence[Sequence[int] | NDArray[np.int64]], items: int) -> Rows:
    """Return histories, each a list of distinct items, as ones: CSR [people, items]."""
    ascending = [np.sort(np.asarray(history, np.int32)) for history in histories]
    lengths = np.array([len(history) for history in ascending])
    return rows_of(lengths, np.concatenate([*ascending, np.zeros(0, np.int32)]), items)


def opened(matrix: Rows, categories: tuple[str, ...] | None = None) -> Histories:
    """Return rows as the product is given them; items may be of sensitive categories."""
    people, items = matrix.shape
    catalogue = Catalogue(tuple(range(items)), None, categories)
    return Histories(matrix, tuple(range(people)), None, catalogue, PURPOSE, PURPOSE, True)


def stacked(*blocks: Rows) -> Rows:
    """Return the people of all blocks."""
    return csr_array(vstack(blocks, format="csr", dtype=np.int8))


def only(matrix: Rows, inside: NDArray[np.bool_]) -> Rows:
    """Return the same people, those who are not inside with an empty history."""
    lengths = np.diff(matrix.indptr)
    return rows_of(np.where(inside, lengths, 0), matrix.indices[np.repeat(inside, lengths)], matrix.shape[1])


def crowd(people: int, items: int, most: int, random: np.random.Generator) -> Rows:
    """Return people with 1 to ``most`` items of a popularity that falls, more of one half of the catalogue."""
    places = np.arange(items)
    taste = random.integers(0, TASTES, (people, 1))
    weights = np.where(places * TASTES // items == taste, 4.0, 1.0) / (places % (items // TASTES + 1) + 5)
    order = np.argsort(-(np.log(weights) + random.gumbel(size=weights.shape)), axis=1)
    lengths = random.integers(1, most + 1, people)
    return rows([chosen[:length] for chosen, length in zip(order, lengths, strict=True)], items)


def ring(people: int, items: int, length: int) -> Rows:
    """Return people with ``length`` items in a row, each one further on, round and round: no item is more popular."""
    return rows(list((np.arange(people)[:, None] + np.arange(length)) % items), items)


def transversal(canaries: int, size: int) -> tuple[Rows, int]:
    """Return histories of ``size`` items, any two of which share at most one, and the prime that they are built on.

    Group j of the catalogue has p items; person (a, b) takes a + b j mod p of it. Two lines of a field meet at most
    once: a transversal design.
    """
    prime = next(p for p in range(max(2, size), 2 * canaries + size + 3) if p * p >= canaries and _is_prime(p))
    slope, start = np.divmod(np.arange(canaries), prime)
    groups = np.arange(size)
    chosen = groups * prime + (start[:, None] + slope[:, None] * groups) % prime
    return rows(list(chosen), size * prime), prime


def _is_prime(n: int) -> bool:
    return n > 1 and all(n % divisor for divisor in range(2, int(n**0.5) + 1))
