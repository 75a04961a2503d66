"""Keys: one of each person, wrapped by a master key, so that to delete a key is to delete what it sealed.

What is stored of a person is sealed with AES-256-GCM (NIST SP 800-38D) under a key of their own, 32 random bytes, which
is itself stored sealed under the master key (*wrapped*). The master key is never in the database: it is in a file of
mode 0600, or behind a `Wrapping` of somebody else's, such as a key management service.

Whoever holds the database alone reads nothing in it and cannot change it unseen: each sealed text is bound to the place
that it stands in (its *context*). Whoever holds both reads everything: that is whoever runs the service. When a wrapped
key is gone from every copy, what it sealed is noise, also in copies that were kept: erasure does not have to find them.
Older copies of the database hold older wrapped keys: they have to end when they were promised to.

===========================  =================================================================================
edge case                    behaviour
===========================  =================================================================================
another key or context       `KeyMissing` of a key that is not held; else `SealBroken`
a master key is rotated      `Master.rotated` makes a new first key; old texts open until all are wrapped anew
the file can be read by all  SettingError: its mode must be 0600
nonces                       96 random bits: 2^32 texts a key stay below a collision chance of 2^-32
===========================  =================================================================================
"""

from __future__ import annotations

import hmac
import os
import secrets
import stat
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import Protocol

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from discreet.errors import DataError, KeyMissing, SealBroken, SettingError
from discreet.files import write_bytes

KEY_BYTES, NONCE_BYTES, NAME_BYTES = 32, 12, 4
OVERHEAD = NONCE_BYTES + 16
"""Bytes by which a sealed text is longer."""


class Wrapping(Protocol):
    """What wraps the keys of persons: a master key here, or a service that never shows its own."""

    @property
    def current(self) -> bytes:
        """Name, 4 bytes, of the key that wraps now: what is wrapped by another is to be wrapped anew."""

    def wrap(self, key: bytes, context: bytes) -> bytes:
        """Return a key, 32 bytes, so that it opens in the same context alone; begins with the name of what wrapped."""

    def unwrap(self, wrapped: bytes, context: bytes) -> bytes:
        """Return the key. Raises KeyMissing, SealBroken."""


class Seal:
    """A key of a person, or of a purpose.

    Args:
        key: 32 bytes.
    """

    def __init__(self, key: bytes) -> None:
        self._cipher, self._key = AESGCM(key), key

    def seal(self, content: bytes, context: bytes) -> bytes:
        """Return nonce, ciphertext and tag: ``OVERHEAD`` bytes more. It opens in the same context alone."""
        nonce = os.urandom(NONCE_BYTES)
        return nonce + self._cipher.encrypt(nonce, content, context)

    def open(self, sealed: bytes, context: bytes) -> bytes:
        """Return the content.

        Raises:
            SealBroken: it was sealed under another key or in another context, or was changed.
        """
        try:
            return self._cipher.decrypt(sealed[:NONCE_BYTES], sealed[NONCE_BYTES:], context)
        except (InvalidTag, ValueError) as error:
            raise SealBroken("what is stored of a person was changed, or stands in another's place") from error

    def mac(self, content: bytes) -> bytes:
        """Return HMAC-SHA256 (RFC 2104) of a text under the key, 32 bytes: nobody else makes it."""
        return hmac.digest(self._key, content, "sha256")


@dataclass(frozen=True)
class Master:
    """Master keys, the current one first; the others open what is not wrapped anew yet.

    Attributes:
        keys: 32 bytes each.
    """

    keys: Sequence[bytes] = field(repr=False)

    def __post_init__(self) -> None:
        if not self.keys or any(len(key) != KEY_BYTES for key in self.keys):
            raise SettingError(f"a master key has {KEY_BYTES} bytes")

    @cached_property
    def _seals(self) -> Mapping[bytes, Seal]:
        return {_name(key): Seal(key) for key in self.keys}

    @property
    def current(self) -> bytes:
        """Name of the first key."""
        return _name(self.keys[0])

    def wrap(self, key: bytes, context: bytes) -> bytes:
        """Seal a key under the first master key, behind its name."""
        return self.current + self._named(self.current).seal(key, context)

    def unwrap(self, wrapped: bytes, context: bytes) -> bytes:
        """Return a key that was wrapped.

        Raises:
            KeyMissing: by a master key that is not held here.
            SealBroken: in another context, or it was changed.
        """
        return self._named(wrapped[:NAME_BYTES]).open(wrapped[NAME_BYTES:], context)

    def _named(self, name: bytes) -> Seal:
        if name not in self._seals:
            raise KeyMissing(
                "keys are wrapped by a master key that is not in the file given; give the file that it is in"
            )
        return self._seals[name]

    def rotated(self) -> Master:
        """Return a new key before these."""
        return Master([new_key(), *self.keys])

    def forgotten(self) -> Master:
        """Return the current key alone: once everything is wrapped by it."""
        return Master(self.keys[:1])

    def write(self, path: Path) -> None:
        """Write the keys, hex, one a line, mode 0600.

        Raises:
            FileNotWritten: it cannot be written; what stood there still does.
        """
        write_bytes(path, "".join(f"{key.hex()}\n" for key in self.keys).encode())

    @classmethod
    def read(cls, path: Path) -> Master:
        """Read the keys.

        Raises:
            DataError: the file is missing, or holds something else.
            SettingError: others than its owner may read or write it.
        """
        try:
            with path.open("rb") as file:
                mode, content = stat.S_IMODE(os.fstat(file.fileno()).st_mode), file.read(1 << 16)
        except OSError as error:
            raise DataError(f"{path}: cannot be read: {error.strerror}; it holds the master key") from error
        if mode & 0o077:
            raise SettingError(
                f"{path} can be read by others (mode {mode:04o}); set it to 0600: it holds the master key"
            )
        try:
            return cls([bytes.fromhex(line) for line in content.decode().split()])
        except ValueError as error:  # SettingError is one
            raise DataError(f"{path}: a master key is 64 hex digits, one a line") from error


def new_key() -> bytes:
    """Return 32 random bytes."""
    return secrets.token_bytes(KEY_BYTES)


def _name(key: bytes) -> bytes:
    return sha256(b"discreet: name of a key\0" + key).digest()[:NAME_BYTES]
