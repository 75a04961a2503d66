"""Private keys in files of their own: hex, mode 0600, made once and never replaced."""

from __future__ import annotations

from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from discreet.errors import DataError, SettingError
from discreet.files import write_bytes
from discreet.protocols.keys import KEY_BYTES, public_bytes


def make_key(path: Path, kind: type[Ed25519PrivateKey] | type[X25519PrivateKey]) -> bytes:
    """Make a private key, write it in hex (mode 0600), and return its public half.

    Raises:
        SettingError: there is a file already; a key is not replaced.
        FileNotWritten: it cannot be written.
    """
    if path.exists():
        raise SettingError(f"{path} is there already, and a key is not replaced; give another name")
    key = kind.generate()
    write_bytes(path, key.private_bytes_raw().hex().encode())
    return public_bytes(key)


def signing_key(path: Path) -> Ed25519PrivateKey:
    """Return the signing key (Ed25519) in a file.

    Raises:
        DataError: it cannot be read.
    """
    return Ed25519PrivateKey.from_private_bytes(_bytes_of(path))


def exchange_key(path: Path) -> X25519PrivateKey:
    """Return the key in a file with which keys are agreed on (X25519).

    Raises:
        DataError: it cannot be read.
    """
    return X25519PrivateKey.from_private_bytes(_bytes_of(path))


def _bytes_of(path: Path) -> bytes:
    try:
        key = bytes.fromhex(path.read_text())
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: cannot be read as a key in hex ({type(error).__name__})") from None
    if len(key) != KEY_BYTES:
        raise DataError(f"{path}: a key has {KEY_BYTES} bytes")
    return key
