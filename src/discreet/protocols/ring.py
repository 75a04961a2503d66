"""Integers modulo 2^k, on the wire and under masks.

A vector of the spine (int64, in grid units, possibly negative) is lowered to its residues, uint32 in [0, 2^k). Residues
are added modulo 2^k, and the sum is lifted to the one integer in [-2^(k-1), 2^(k-1)) that has its residue. Lifting
returns the true sum exactly if that lies in this range: ``capacity`` is what the plan is held against before the first
round.

A mask is uniform over the ring, so a residue plus a mask is uniform, whatever the residue is: it tells nothing
(one-time pad). Masks are AES-256 in counter mode under a key that is used for one mask alone, of which the k lowest
bits of every 32 are taken; they are as good as uniform to whoever cannot tell AES-256 from a random permutation
(``secagg/client.md``).

=========================  ====================================================================
edge case                  behaviour
=========================  ====================================================================
bits not in 16..32         SettingError
a value out of the range   SettingError: it would come back as another
packed bytes of other size ProtocolError, before anything is read
=========================  ====================================================================
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from numpy.typing import NDArray

from discreet.errors import ProtocolError, SettingError

Residues = NDArray[np.uint32]

LEAST_BITS, MOST_BITS = 16, 32
MOST_DIMS = 1 << 28
CHUNK = 1 << 18
"""Values that are masked at a time: a megabyte, which stays in the processor's cache."""


@dataclass(frozen=True)
class Ring:
    """Integers modulo 2^bits.

    Attributes:
        bits: k, 16 to 32.
        dims: length of the vectors, 1 to 2^28.

    Raises:
        SettingError: either is out of its range.
    """

    bits: int
    dims: int

    def __post_init__(self) -> None:
        if not LEAST_BITS <= self.bits <= MOST_BITS:
            raise SettingError(f"a ring has {LEAST_BITS} to {MOST_BITS} bits, not {self.bits}")
        if not 1 <= self.dims <= MOST_DIMS:
            raise SettingError(f"a vector has 1 to {MOST_DIMS} values, not {self.dims}")

    @property
    def capacity(self) -> int:
        """The largest absolute value that comes back as itself."""
        return (1 << (self.bits - 1)) - 1

    @property
    def size(self) -> int:
        """Bytes of a packed vector: bits * dims / 8, and at most one more for each of seven planes."""
        wide, planes = divmod(self.bits - 16, 8)
        return (2 + wide) * self.dims + planes * ((self.dims + 7) // 8)

    def lower(self, vector: NDArray[np.int64]) -> Residues:
        """Return the residues of int64 [dims].

        Raises:
            SettingError: it has another type or length, or a value beyond the capacity.
        """
        if vector.dtype != np.int64 or vector.shape != (self.dims,):
            raise SettingError(f"expected {self.dims} int64 values, got {vector.shape} of {vector.dtype}")
        if vector.max() > self.capacity or vector.min() < -self.capacity:
            raise SettingError(f"a value does not fit into {self.bits} bits; use a wider ring")
        return (vector & self._mask).astype(np.uint32)

    def lift(self, residues: Residues) -> NDArray[np.int64]:
        """Return the int64 values that have these residues."""
        values = (residues & np.uint32(self._mask)).astype(np.int64)
        half = 1 << (self.bits - 1)
        lifted: NDArray[np.int64] = values - ((values & half) << 1)
        return lifted

    def pack(self, residues: Residues) -> bytes:
        """Return residues as bytes: the 16 lowest bits, then the next eight if there are so many, then bit by bit."""
        parts = [residues.astype("<u2").tobytes()]
        wide, planes = divmod(self.bits - 16, 8)
        parts += [(residues >> np.uint32(16 + 8 * number)).astype(np.uint8).tobytes() for number in range(wide)]
        for bit in range(self.bits - planes, self.bits):
            parts.append(np.packbits((residues >> np.uint32(bit)).astype(np.uint8) & np.uint8(1)).tobytes())
        return b"".join(parts)

    def unpack(self, content: bytes) -> Residues:
        """Read what ``pack`` wrote.

        Raises:
            ProtocolError: it has another size.
        """
        if len(content) != self.size:
            raise ProtocolError(f"a vector of {self.size} bytes was expected, {len(content)} came")
        residues = np.frombuffer(content, "<u2", self.dims).astype(np.uint32)
        wide, planes = divmod(self.bits - 16, 8)
        start = 2 * self.dims
        for number in range(wide):
            plane = np.frombuffer(content, np.uint8, self.dims, start)
            residues |= plane.astype(np.uint32) << np.uint32(16 + 8 * number)
            start += self.dims
        for bit in range(self.bits - planes, self.bits):
            plane = np.unpackbits(np.frombuffer(content, np.uint8, (self.dims + 7) // 8, start), count=self.dims)
            residues |= plane.astype(np.uint32) << np.uint32(bit)
            start += (self.dims + 7) // 8
        return residues

    def mask(self, residues: Residues, added: list[bytes], subtracted: list[bytes]) -> None:
        """Add, and subtract, in place, the masks of keys of 32 bytes, each of which must be used for one mask alone."""
        streams = [
            (Cipher(algorithms.AES256(key), modes.CTR(bytes(16))).encryptor(), operation)
            for keys, operation in ((added, np.add), (subtracted, np.subtract))
            for key in keys
        ]
        zeros = bytes(4 * min(CHUNK, self.dims))
        buffer = bytearray(len(zeros) + 15)
        for start in range(0, self.dims, CHUNK):
            part = residues[start : start + CHUNK]
            for stream, operation in streams:
                stream.update_into(memoryview(zeros)[: 4 * part.size], buffer)
                operation(part, np.frombuffer(buffer, "<u4", part.size), out=part)
        residues &= np.uint32(self._mask)

    @property
    def _mask(self) -> int:
        return (1 << self.bits) - 1


def announced(bits: int, dims: int) -> Ring:
    """Return a ring that another party announced.

    Raises:
        ProtocolError: there is none of this kind.
    """
    try:
        return Ring(bits, dims)
    except SettingError as error:
        raise ProtocolError(str(error)) from None
