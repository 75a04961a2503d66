"""Garbled gates: whoever evaluates a circuit learns none of the bits on its wires.

The garbler draws 128 bits for each input wire, its label for 0; the label for 1 differs by ``delta``, the same for all
wires, 128 bits with the lowest set. Whoever evaluates holds one of both labels of each wire, and cannot tell which: the
lowest bit, its colour, is the bit on the wire plus one that the garbler alone knows (point and permute). XOR of wires
is XOR of labels, and NOT moves the garbler's label by ``delta``; neither costs anything (free XOR). A public bit has
the label of zeros. AND costs 32 bytes, two half gates.

========  ===================================  ====================================
gate      the garbler, of labels for 0         the evaluator, of the labels it holds
========  ===================================  ====================================
XOR       x + y                                x + y
NOT       x + delta                            x
public    bit delta                            0
AND       H(x^0) + H(y^0) + pq delta; sends    H(x) + s T + H(y) + t (E + x)
          T = H(x^0) + H(x^1) + q delta,
          E = H(y^0) + H(y^1) + x
========  ===================================  ====================================

+ is XOR; x^c is the label of x whose colour is c; p and q are the colours of the labels for 0 of x and y; s and t those
of the labels held. H has the tweak 2g for x and 2g + 1 for y at the gate number g: H(x, i) = A(A(x) + i) + A(x), where
A is AES-128 under a key that is drawn for this garbling and told with it. A garbling is for one evaluation alone: two
labels of one wire give ``delta`` away. Formal guarantee: ``garbling.md``.

Source: Zahur, Rosulek and Evans 2015 (half gates); Kolesnikov and Schneider 2008 (free XOR); Guo, Katz, Wang and Yu
2020 (H, there TMMO).

==================================  ====================================================================
edge case                           behaviour
==================================  ====================================================================
a garbled circuit of another size   ProtocolError, before anything is read
a wrong label, or a spoilt table    labels of no meaning come out: nothing fails
==================================  ====================================================================
"""

from __future__ import annotations

import secrets
from abc import ABC, abstractmethod

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from numpy.typing import NDArray

from discreet.errors import ProtocolError

Labels = NDArray[np.uint64]
"""[..., 2]: 128 bits for each wire, the lowest 64 first."""

LABEL_BYTES = KEY_BYTES = 16
TABLE_BYTES = 2 * LABEL_BYTES
"""Of one AND gate."""

CHUNK = 1 << 12
"""Gates that are computed at a time: all that is touched stays in the processor's cache."""

_ONE = np.uint64(1)


class Hash:
    """The hash of one garbling.

    Args:
        key: 16 bytes.
    """

    def __init__(self, key: bytes) -> None:
        # ECB is no mode of encryption here: AES stands for a public permutation of single blocks.
        self._encrypt = Cipher(algorithms.AES(key), modes.ECB()).encryptor()  # noqa: S305  # nosec B305

    def __call__(self, labels: Labels, tweaks: NDArray[np.uint64]) -> Labels:
        """Return the hashes of labels [..., 2], with tweaks that are broadcast to [...]."""
        once = self._permuted(labels)
        tweaked = once.copy()
        tweaked[..., 0] ^= tweaks
        twice = self._permuted(tweaked)
        twice ^= once
        return twice

    def _permuted(self, labels: Labels) -> Labels:
        result = np.empty(labels.nbytes + LABEL_BYTES - 1, np.uint8)
        self._encrypt.update_into(labels.reshape(-1).view(np.uint8).data, result.data)
        permuted: Labels = result[: labels.nbytes].view("<u8").reshape(labels.shape)
        return permuted


class _Halves(ABC):
    """What both sides have in common: AND gates in chunks, numbered as they come."""

    def __init__(self, key: bytes, tables: Labels) -> None:
        self._hash, self._tables, self._gates = Hash(key), tables, 0

    def __repr__(self) -> str:
        return f"{type(self).__name__}()"

    def both(self, x: Labels, y: Labels) -> Labels:
        """See ``circuits.Gates``."""
        x, y = np.broadcast_arrays(x, y)
        shape = x.shape
        x, y = np.reshape(x, (-1, 2)), np.reshape(y, (-1, 2))
        made = np.empty((len(x), 2), "<u8")
        for start in range(0, len(x), CHUNK):
            part = slice(start, start + CHUNK)
            size = len(made[part])
            numbers = np.arange(2 * self._gates, 2 * (self._gates + size), dtype=np.uint64)
            tables = self._tables[:, self._gates : self._gates + size]
            made[part] = self._gate(x[part], y[part], numbers.reshape(size, 2).T, tables)
            self._gates += size
        return made.reshape(shape)

    @abstractmethod
    def _gate(self, x: Labels, y: Labels, tweaks: NDArray[np.uint64], tables: Labels) -> Labels:
        """Return the labels of gates [size, 2]; tweaks are [2, size], of x and y, and tables [2, size, 2]."""


class Garbling(_Halves):
    """The garbler's gates, of one circuit, for one evaluation; wires are labels for 0.

    Args:
        delta: uint64 [2], the lowest bit set: what labels for 1 differ by.
        gates: how many AND gates the circuit has.
    """

    def __init__(self, delta: Labels, gates: int) -> None:
        self._key = secrets.token_bytes(KEY_BYTES)
        super().__init__(self._key, np.empty((2, gates, 2), "<u8"))
        self._delta, self._multiples = delta, np.stack([np.zeros_like(delta), delta])
        self._deltas = np.tile(delta, (min(CHUNK, max(gates, 1)), 1))

    @property
    def content(self) -> bytes:
        """The key, and the tables: what the evaluator gets."""
        return self._key + self._tables.tobytes()

    def flipped(self, x: Labels) -> Labels:
        """See ``circuits.Gates``."""
        return x ^ self._delta

    def public(self, bits: NDArray[np.bool_]) -> Labels:
        """See ``circuits.Gates``."""
        return times(bits, self._multiples)

    def _gate(self, x: Labels, y: Labels, tweaks: NDArray[np.uint64], tables: Labels) -> Labels:
        of_x, of_y, deltas = colours(x), colours(y), self._deltas[: len(x)]
        moved = times(of_y, self._multiples)
        labels = np.empty((2, 2, len(x), 2), "<u8")  # of x and y, of colour 0 and 1
        np.bitwise_xor(x, times(of_x, self._multiples), out=labels[0, 0])
        np.bitwise_xor(y, moved, out=labels[1, 0])
        np.bitwise_xor(labels[:, 0], deltas, out=labels[:, 1])
        hashes = self._hash(labels, tweaks[:, None])
        np.bitwise_xor(hashes[:, 0], hashes[:, 1], out=tables)
        tables[0] ^= moved
        tables[1] ^= x
        made: Labels = hashes[0, 0] ^ hashes[1, 0]
        made ^= times(of_x & of_y, self._multiples)
        return made


class Evaluation(_Halves):
    """The evaluator's gates, of one garbled circuit; wires are the labels it holds.

    Args:
        content: as the garbler made it.
        gates: how many AND gates the circuit has.

    Raises:
        ProtocolError: it is of another size.
    """

    def __init__(self, content: bytes, gates: int) -> None:
        if len(content) != garbled_bytes(gates):
            raise ProtocolError(f"a garbled circuit has {garbled_bytes(gates)} bytes, {len(content)} came")
        tables = np.frombuffer(content, "<u8", 4 * gates, KEY_BYTES).reshape(2, gates, 2)
        super().__init__(content[:KEY_BYTES], tables)

    def flipped(self, x: Labels) -> Labels:
        """See ``circuits.Gates``."""
        return x

    def public(self, bits: NDArray[np.bool_]) -> Labels:
        """See ``circuits.Gates``."""
        return np.zeros((*bits.shape, 2), "<u8")

    def _gate(self, x: Labels, y: Labels, tweaks: NDArray[np.uint64], tables: Labels) -> Labels:
        labels = np.stack([x, y])
        hashes = self._hash(labels, tweaks)
        first, second = tables[0], tables[1] ^ x
        held = -(labels[..., 0] & _ONE)  # all bits, where the colour is 1
        for word in (0, 1):
            hashes[0, :, word] ^= first[:, word] & held[0]
            hashes[1, :, word] ^= second[:, word] & held[1]
        made: Labels = hashes[0] ^ hashes[1]
        return made


def garbled_bytes(gates: int) -> int:
    """Return how many bytes a garbled circuit has."""
    return KEY_BYTES + TABLE_BYTES * gates


def colours(labels: Labels) -> NDArray[np.uint8]:
    """Return the colours of labels [..., 2]: 0 or 1, [...]."""
    return (labels[..., 0] & _ONE).astype(np.uint8)


def times(bits: NDArray[np.bool_] | NDArray[np.uint8], multiples: Labels) -> Labels:
    """Return a label for each bit [...]: the first of two [2, 2] where it is 0, the second where it is 1."""
    return np.take(multiples, bits.astype(np.intp), axis=0, mode="clip")
