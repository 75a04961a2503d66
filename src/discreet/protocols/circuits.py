"""The circuit that ranks shared scores: the positions of the highest ones, in order, out of two vectors that add up.

A circuit is a function of ``Gates``: whoever garbles it, evaluates it, counts its gates or computes it in the clear
runs the same lines with gates of their own. XOR is NumPy's ``^``, and free wherever it matters; AND is what is paid
for. A number is wires [bits, ...], lowest bit first; equal gates stand side by side in one array.

Keys are a score over the bits of a position, complemented, so that no two are equal and of equal scores the lower
position is the higher key: the result is that of a stable sort. Lists are sorted from single keys upwards: two sorted
lists are merged by Batcher's network, of which only what the ``count`` highest need is kept, until one list is left.
Each merge adds one bit to a position: from which of the two lists. With ``count`` 1 this is a tournament.

AND gates: rows x (bits - 1) for the sum; then, for each comparison of two keys of w bits, w to compare and w to
exchange. Depth: about w times the logarithms of ``rows`` and ``count`` multiplied.

Source: Batcher 1968 (odd-even merge); comparison and exchange as in Kolesnikov, Sadeghi and Schneider 2009.

===============================  ====================================================================
edge case                        behaviour
===============================  ====================================================================
equal scores                     the lower position comes first
``count`` equal to the rows      a sort
rows that are no multiple        filled up with the lowest keys, which no score is as low as
one row                          no position needs any bit: wires [0, 1]
a score of -2^(bits - 1)         may be taken for what rows are filled up with: not to be shared
===============================  ====================================================================
"""

from __future__ import annotations

from functools import cache
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

Wires = NDArray[Any]
"""[bits, ...], and whatever axis a kind of gates needs for a wire, last."""

Stage = tuple[list[int], list[int]]
"""Comparisons that are made at once: where the larger key goes, and where the smaller."""


class Gates(Protocol):
    """What a circuit is made of, beside XOR."""

    def both(self, x: Wires, y: Wires) -> Wires:
        """Return x AND y; they are broadcast."""

    def flipped(self, x: Wires) -> Wires:
        """Return NOT x."""

    def public(self, bits: NDArray[np.bool_]) -> Wires:
        """Return wires that carry what everybody knows."""


class Count:
    """Gates that are counted alone; their wires have no width.

    Attributes:
        gates: AND gates so far.
    """

    def __init__(self) -> None:
        self.gates = 0

    def both(self, x: Wires, y: Wires) -> Wires:
        """See ``Gates``."""
        made: Wires = np.broadcast_to(x, np.broadcast_shapes(x.shape, y.shape))
        self.gates += int(np.prod(made.shape[:-1]))
        return made

    def flipped(self, x: Wires) -> Wires:
        """See ``Gates``."""
        return x

    def public(self, bits: NDArray[np.bool_]) -> Wires:
        """See ``Gates``."""
        return np.empty((*bits.shape, 0), bool)


def added(gates: Gates, x: Wires, y: Wires) -> Wires:
    """Return the sum modulo 2^bits of two numbers [bits, ...]."""
    total, carry = x ^ y, gates.both(x[0], y[0])
    for bit in range(1, len(x) - 1):
        total[bit] ^= carry
        carry = carry ^ gates.both(x[bit] ^ carry, y[bit] ^ carry)
    total[-1] ^= carry
    return total


def exceeds(gates: Gates, x: Wires, y: Wires) -> Wires:
    """Return a wire for each pair of unsigned numbers [bits, ...]: whether x > y."""
    found: Wires = x[0] ^ gates.both(x[0], y[0])
    for a, b in zip(x[1:], y[1:], strict=True):
        found = a ^ gates.both(a ^ found, b ^ found)
    return found


def unsigned(gates: Gates, x: Wires) -> Wires:
    """Return signed numbers [bits, ...] as unsigned ones, in the same order."""
    return np.concatenate([x[:-1], gates.flipped(x[-1:])])


def exchanged(gates: Gates, x: Wires, y: Wires) -> tuple[Wires, Wires]:
    """Return the larger, and the smaller, of each pair of unsigned numbers [bits, ...]."""
    change = gates.both(exceeds(gates, y, x)[None], x ^ y)
    return x ^ change, y ^ change


def best(gates: Gates, scores: Wires, count: int) -> Wires:
    """Return the positions of the ``count`` highest of signed scores.

    Args:
        gates: what it is computed with.
        scores: [bits, rows].
        count: 1 to rows.

    Returns:
        [position bits, count], highest score first.
    """
    filling = gates.public(np.zeros((len(scores), -scores.shape[1] % _block(count)), bool))
    keys = np.concatenate([unsigned(gates, scores), filling], axis=1)[:, :, None]
    places = 0
    while keys.shape[1] > 1:
        keys = _halved(gates, keys, places, count)
        places += 1
    return gates.flipped(keys[:places, 0])


def chosen(gates: Gates, first: Wires, second: Wires, count: int) -> Wires:
    """Return the positions of the ``count`` highest sums of two shares [bits, rows]: see ``added``, ``best``."""
    return best(gates, added(gates, first, second), count)


@cache
def gates_of(bits: int, rows: int, count: int) -> int:
    """Return how many AND gates ``chosen`` has."""
    gates, share = Count(), np.empty((bits, rows, 0), bool)
    chosen(gates, share, share, count)
    return gates.gates


def position_bits(rows: int, count: int) -> int:
    """Return how many bits ``chosen`` tells a position in."""
    return (rows + -rows % _block(count) - 1).bit_length()


@cache
def merging(length: int, kept: int) -> tuple[tuple[Stage, ...], list[int]]:
    """Return a network that merges two sorted lists, one behind the other, highest first.

    It is Batcher's for the next power of two, without the comparisons with what is not there, and without those that
    none of the kept ones depends on.

    Args:
        length: of each list.
        kept: how many of the highest are wanted, 1 to 2 * length.

    Returns:
        Stages, and where the kept ones stand after the last of them, highest first.
    """
    full = _block(length)
    at: list[int | None] = [i if i < length else None for i in range(full)]
    at += [None if i is None else i + length for i in at]
    stages: list[list[tuple[int, int]]] = []
    distance = full
    while distance:
        stages.append([])
        for i in range(2 * full - distance):
            if not _compared(i, distance, full):
                continue
            high, low = at[i], at[i + distance]
            if high is not None and low is not None:
                stages[-1].append((high, low))
            elif low is not None:
                at[i], at[i + distance] = low, None
        distance //= 2
    where = [i for i in at if i is not None][:kept]
    needed, pruned = set(where), []
    for stage in reversed(stages):
        left = [pair for pair in stage if not needed.isdisjoint(pair)]
        needed.update(*left)
        pruned.append(([high for high, _ in left], [low for _, low in left]))
    return tuple(pruned[::-1]), where


def _block(count: int) -> int:
    """Return the next power of two."""
    return 1 << (count - 1).bit_length()


def _compared(i: int, distance: int, full: int) -> bool:
    """Tell whether Batcher's merge of two lists of ``full`` compares i with i + distance."""
    return i < full if distance == full else i // distance % 2 == 1


def _halved(gates: Gates, keys: Wires, places: int, count: int) -> Wires:
    """Merge lists [bits, lists, length] by pairs; one that is left over stays. Add a bit above the ``places`` lowest.

    If one is left over, lists are as long as they will be: there are multiples of a block as long as they are shorter.
    """
    lists, length = keys.shape[1:3]
    earlier = gates.public(np.broadcast_to(np.arange(lists)[None, :, None] % 2 == 0, (1, lists, length)))
    keys = np.concatenate([keys[:places], earlier, keys[places:]])
    paired = lists - lists % 2
    pairs = keys[:, :paired].reshape(len(keys), paired // 2, 2 * length, *keys.shape[3:])
    stages, where = merging(length, min(2 * length, count))
    for high, low in stages:
        pairs[:, :, high], pairs[:, :, low] = exchanged(gates, pairs[:, :, high], pairs[:, :, low])
    merged = pairs[:, :, where]
    return merged if paired == lists else np.concatenate([merged, keys[:, paired:]], axis=1)
