"""Build the table from which all central noise is drawn, and print its sha256.

    python scripts/build_noise_table.py --bits 12 --out src/discreet/privacy/mechanisms/rounded_gaussian_p12.npy

Row k holds floor(2^128 * P(|round(2^p Z)| <= k)) for a standard normal Z, as two unsigned 64-bit words (high, low).
P(|round(2^p Z)| <= k) = P(|2^p Z| < k + 1/2) = erf((k + 1/2) / (2^p sqrt 2)), taken from mpmath with 220 bits.
The last row is 2^128 - 1: the mass beyond it is below 2^-128. The result is the same on every machine.
"""

from __future__ import annotations

import argparse
import hashlib
from pathlib import Path

import mpmath
import numpy as np
from numpy.typing import NDArray

WORD = (1 << 64) - 1


def build(bits: int) -> NDArray[np.uint64]:
    """Return the table, uint64 [2, rows]: high words, low words."""
    high: list[int] = []
    low: list[int] = []
    with mpmath.workprec(220):
        two128 = mpmath.mpf(2) ** 128
        scale = mpmath.mpf(2) ** bits * mpmath.sqrt(2)
        while True:
            outside = mpmath.erfc((len(high) + mpmath.mpf(1) / 2) / scale) * two128
            inside = (1 << 128) - int(mpmath.ceil(outside))  # the floor of 2^128 erf
            if inside >= (1 << 128) - 1:
                break
            high.append(inside >> 64)
            low.append(inside & WORD)
    return np.array([[*high, WORD], [*low, WORD]], dtype=np.uint64)


def digest(table: NDArray[np.uint64]) -> str:
    """Return the sha256 of the words, little-endian, high words first."""
    return hashlib.sha256(table.astype("<u8").tobytes()).hexdigest()


def main() -> None:
    """Build, print, and write if asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bits", type=int, default=12, help="p, the noise is round(2^p N(0, 1))")
    parser.add_argument("--out", type=Path, help="where to write the table (.npy)")
    arguments = parser.parse_args()
    table = build(arguments.bits)
    print(f"p = {arguments.bits}: {table.shape[1]:,} rows, sha256 {digest(table)}")
    if arguments.out:
        np.save(arguments.out, table.astype("<u8"), allow_pickle=False)


if __name__ == "__main__":
    main()
