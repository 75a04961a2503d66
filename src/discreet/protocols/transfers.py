"""Correlated oblivious transfers: many labels at once, of which one side holds one each, and the other knows both.

The receiver has a bit r for each of ``count`` transfers, and gets one of two labels, q or q + delta: t = q + r delta.
The sender gets all q, and ``delta``, 128 uniform bits of which the lowest is set. The receiver learns nothing of
``delta``, the sender nothing of r. + is XOR.

128 transfers of keys, by a group, are extended to as many labels as are wanted, by AES alone:

====  =========================  =======================================================================
step  from, to                   what
====  =========================  =======================================================================
1     receiver to sender         a point A = a G
2     sender to receiver         for each bit i of ``delta``: B_i = b_i G, plus A if the bit is 1
3     receiver to sender         for each i: the columns U_i = F(k_i0) + F(k_i1) + r
====  =========================  =======================================================================

The receiver's keys k_i0 and k_i1 are of a B_i and a (B_i - A); the sender knows one of both, of b_i A: that of its bit.
Labels are the rows of the matrix whose columns are F(k_i0), for the receiver, and F(k) + bit U_i, for the sender. Their
correlation is what garbled circuits want, so it is not hashed away. The group is that of Ed25519, of prime order; F is
AES-256 in counter mode. Every set of transfers begins with new points. Formal guarantee: ``transfers.md``.

Source: Chou and Orlandi 2015 (steps 1 and 2); Ishai, Kilian, Nissim and Petrank 2003 (step 3); Asharov, Lindell,
Schneider and Zohner 2013 (of the difference).

==================================  ====================================================================
edge case                           behaviour
==================================  ====================================================================
a step twice, or out of order       ProtocolError; so is every step after an error
another number of points or bytes   ProtocolError, before anything is read
a point outside of the group        ProtocolError: points of small order too
no multiple of eight                SettingError: bits travel packed
columns that are wrong              read as they are: labels differ where nobody can see it
==================================  ====================================================================
"""

from __future__ import annotations

import hashlib
import secrets

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from nacl import bindings as group
from numpy.typing import NDArray

from discreet.errors import ProtocolError, SettingError
from discreet.protocols.garbling import LABEL_BYTES, Labels
from discreet.protocols.keys import derived
from discreet.protocols.two_servers import Steps

COLUMNS = 8 * LABEL_BYTES
POINT_BYTES = 32
_WIDE_BYTES = 64
"""Drawn for a scalar: reduced, it is as good as uniform."""

_HALVES = ((7, 0x00AA00AA00AA00AA), (14, 0x0000CCCC0000CCCC), (28, 0x00000000F0F0F0F0))
"""How far bits are apart that change places, and the nearer ones of them, in a square of 8 x 8 bits."""


class Receiver:
    """Who gets one label of each pair.

    Args:
        context: what the transfers are bound to.
        count: of transfers, a multiple of eight.

    Raises:
        SettingError: it is none.
    """

    def __init__(self, context: bytes, count: int) -> None:
        self._context, self._count, self._steps = context, _checked(count), Steps("the point", "the columns")
        self._scalar = _scalar()
        self._point = group.crypto_scalarmult_ed25519_base_noclamp(self._scalar)

    def __repr__(self) -> str:
        return "Receiver()"

    def point(self) -> bytes:
        """Return the point of step 1.

        Raises:
            ProtocolError: it is not its turn.
        """
        with self._steps.step("the point"):
            return self._point

    def columns(self, points: bytes, choices: NDArray[np.uint8]) -> tuple[bytes, Labels]:
        """Return the columns of step 3, and the labels, uint64 [count, 2].

        Args:
            points: of step 2.
            choices: count / 8 bytes: a bit for each transfer, the lowest first.

        Raises:
            ProtocolError: these are no points, or it is not their turn.
            SettingError: there are other than ``count`` bits.
        """
        with self._steps.step("the columns"):
            return self._columns(points, choices)

    def _columns(self, points: bytes, choices: NDArray[np.uint8]) -> tuple[bytes, Labels]:
        if choices.dtype != np.uint8 or choices.shape != (self._count // 8,):
            raise SettingError(f"a bit is chosen for each of {self._count} transfers, packed")
        transcript = _transcript(self._context, self._point, points)
        zeros = np.empty((COLUMNS, self._count // 8), np.uint8)
        told = np.empty_like(zeros)
        between = group.crypto_scalarmult_ed25519_noclamp(self._scalar, self._point)
        for i, point in enumerate(_points(points)):
            mine = group.crypto_scalarmult_ed25519_noclamp(self._scalar, point)
            zeros[i] = _stream(mine, transcript, i, self._count)
            ones = _stream(group.crypto_core_ed25519_sub(mine, between), transcript, i, self._count)
            told[i] = zeros[i] ^ ones ^ choices
        return told.tobytes(), transposed(zeros)


class Sender:
    """Who knows both labels of each pair.

    Args:
        context: what the transfers are bound to.
        count: of transfers, a multiple of eight.

    Raises:
        SettingError: it is none.

    Attributes:
        delta: uint64 [2], by which the two labels of every pair differ. Secret.
    """

    def __init__(self, context: bytes, count: int) -> None:
        self._context, self._count, self._steps = context, _checked(count), Steps("the points", "the labels")
        drawn = np.frombuffer(secrets.token_bytes(LABEL_BYTES), "<u8")
        self.delta: Labels = drawn | np.array([1, 0], "<u8")
        self._bits = np.unpackbits(self.delta.view(np.uint8), bitorder="little")
        self._secrets: list[bytes] = []
        self._transcript = b""

    def __repr__(self) -> str:
        return "Sender()"

    def points(self, point: bytes) -> bytes:
        """Return the points of step 2.

        Args:
            point: of step 1.

        Raises:
            ProtocolError: it is no point, or not its turn.
        """
        with self._steps.step("the points"):
            _check(point)
            made = []
            for bit in self._bits:
                scalar = _scalar()
                own = group.crypto_scalarmult_ed25519_base_noclamp(scalar)
                made.append(group.crypto_core_ed25519_add(own, point) if bit else own)
                self._secrets.append(group.crypto_scalarmult_ed25519_noclamp(scalar, point))
            points = b"".join(made)
            self._transcript = _transcript(self._context, point, points)
            return points

    def labels(self, columns: bytes) -> Labels:
        """Return the labels for 0, uint64 [count, 2].

        Args:
            columns: of step 3.

        Raises:
            ProtocolError: they are of another size, or it is not their turn.
        """
        with self._steps.step("the labels"):
            if len(columns) != column_bytes(self._count):
                raise ProtocolError(f"columns of {column_bytes(self._count)} bytes were expected, {len(columns)} came")
            told = np.frombuffer(columns, np.uint8).reshape(COLUMNS, -1)
            own = np.empty_like(told)
            for i, secret in enumerate(self._secrets):
                own[i] = _stream(secret, self._transcript, i, self._count)
            own ^= told & -self._bits[:, None]
            return transposed(own)


def column_bytes(count: int) -> int:
    """Return how many bytes the columns of ``count`` transfers have."""
    return COLUMNS * count // 8


def transposed(columns: NDArray[np.uint8]) -> Labels:
    """Return the rows of a matrix of bits as labels.

    Args:
        columns: [128, rows / 8], lowest bit first.

    Returns:
        uint64 [rows, 2].
    """
    squares = columns.reshape(LABEL_BYTES, 8, -1).swapaxes(1, 2).copy().view("<u8")[..., 0]
    for distance, nearer in _HALVES:
        moved = (squares ^ (squares >> np.uint64(distance))) & np.uint64(nearer)
        squares ^= moved ^ (moved << np.uint64(distance))
    rows = squares[..., None].view(np.uint8).transpose(1, 2, 0)
    return np.ascontiguousarray(rows).reshape(-1, LABEL_BYTES).view("<u8")


def _checked(count: int) -> int:
    if count < 1 or count % 8:
        raise SettingError(f"transfers are made in multiples of eight, not {count}")
    return count


def _scalar() -> bytes:
    return group.crypto_core_ed25519_scalar_reduce(secrets.token_bytes(_WIDE_BYTES))


def _points(content: bytes) -> list[bytes]:
    if len(content) != COLUMNS * POINT_BYTES:
        raise ProtocolError(f"{COLUMNS} points of {POINT_BYTES} bytes were expected, {len(content)} bytes came")
    points = [content[start : start + POINT_BYTES] for start in range(0, len(content), POINT_BYTES)]
    for point in points:
        _check(point)
    return points


def _check(point: bytes) -> None:
    if len(point) != POINT_BYTES or not group.crypto_core_ed25519_is_valid_point(point):
        raise ProtocolError("what should be a point of the group is none")


def _transcript(context: bytes, point: bytes, points: bytes) -> bytes:
    return hashlib.sha256(b"discreet transfers " + hashlib.sha256(context).digest() + point + points).digest()


def _stream(secret: bytes, transcript: bytes, column: int, count: int) -> NDArray[np.uint8]:
    """Return the column that a point gives: ``count`` bits, packed."""
    key = derived(secret, transcript, b"transfer %d" % column)
    content = Cipher(algorithms.AES256(key), modes.CTR(bytes(16))).encryptor().update(bytes(count // 8))
    return np.frombuffer(content, np.uint8)
