"""The small files of a federation: rosters, histories."""

from __future__ import annotations

from pathlib import Path

from discreet.errors import DataError
from discreet.protocols.keys import KEY_BYTES, Roster


def read_roster(path: Path) -> Roster:
    """Return the keys of a roster: hex, one a line.

    Raises:
        DataError: it cannot be read, or holds something else.
    """
    return public_keys(read_lines(path), str(path))


def public_keys(texts: list[str], where: str) -> Roster:
    """Return public keys out of hex.

    Raises:
        DataError: one is none, or there twice; says where.
    """
    try:
        keys = tuple(bytes.fromhex(text) for text in texts)
    except ValueError:
        keys = ()
    if not keys or any(len(key) != KEY_BYTES for key in keys) or len(set(keys)) != len(keys):
        raise DataError(f"{where}: expected different public keys of {KEY_BYTES} bytes in hex")
    return keys


def read_lines(path: Path) -> list[str]:
    """Return the lines of a file that are not empty: keys, or items.

    Raises:
        DataError: it cannot be read.
    """
    try:
        return [line for line in path.read_text(encoding="utf-8").split("\n") if line]
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: cannot be read as text, one entry a line ({type(error).__name__})") from None
