"""The only two generators of this package: one for noise, one for everything that may be known.

Noise comes from ChaCha20 (RFC 8439, by ``cryptography``) under a 32-byte key from ``os.urandom``, drawn anew for each
attempt at a release, in the process that uses it. A key is never derived from a release id, never kept, never shown:
the same key under two data sets would reveal their difference exactly.

Public randomness (splits, first projections) is seeded, so that it can be repeated. It hides nothing.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms
from numpy.typing import NDArray

KEY_BYTES = 32
BLOCK_WORDS = 1 << 16


class NoiseSource:
    """A stream of secret, uniform 64-bit words for one attempt at one release.

    Args:
        insecure_test_seed: for tests alone. The words are then known to anyone, ``secure`` is False, and everything
            made with them says ``unsafe_noise``.
    """

    def __init__(self, *, insecure_test_seed: int | None = None) -> None:
        self.secure = insecure_test_seed is None
        key = os.urandom(KEY_BYTES) if insecure_test_seed is None else _known_key(insecure_test_seed)
        # The key is fresh, so nonce and counter may start at zero; 2^32 blocks of 64 bytes are 2^35 words.
        self._cipher = Cipher(algorithms.ChaCha20(key, bytes(16)), mode=None).encryptor()
        self._process = os.getpid()

    def __repr__(self) -> str:
        return f"NoiseSource(secure={self.secure})"

    def words(self, count: int) -> NDArray[np.uint64]:
        """Return the next ``count`` words. After a fork only the process that made the source may draw."""
        if os.getpid() != self._process:
            raise RuntimeError("a noise source must not cross a fork: both sides would draw the same noise")
        return np.frombuffer(self._cipher.update(bytes(8 * count)), dtype="<u8").astype(np.uint64, copy=False)

    def blocks(self, count: int) -> Iterator[NDArray[np.uint64]]:
        """Yield ``count`` words in blocks of at most 2^16, so that memory stays bounded."""
        for start in range(0, count, BLOCK_WORDS):
            yield self.words(min(BLOCK_WORDS, count - start))


def public_generator(seed: int) -> np.random.Generator:
    """Return a generator for choices that may be known to everyone. Never for noise."""
    return np.random.default_rng(seed)


def _known_key(seed: int) -> bytes:
    return hashlib.sha256(b"discreet: not secret, for tests: %d" % seed).digest()
