"""What the ledger accepts: names, whole numbers of units, hashes, moments."""

from __future__ import annotations

import hashlib
import operator
from datetime import UTC, datetime

from discreet.errors import LedgerCorrupted, SettingError

LONGEST_NAME = 200
ABSURD = 1 << 256  # far above any price, and far below where Python refuses to print an integer
MOST_STORED = 1 << 53  # units, far above any sum of prices; a thousand such still fit 64 bits


def check_name(what: str, text: str, forbidden: str = "") -> None:
    """Refuse a name that is empty, longer than 200 characters, or would not print on one line.

    Raises:
        SettingError: it is, or holds one of the ``forbidden`` characters.
    """
    if not 0 < len(text) <= LONGEST_NAME:
        raise SettingError(f"name of a {what} has 1 to {LONGEST_NAME} characters, got {len(text)}")
    if not text.isprintable():
        raise SettingError(f"name of a {what} holds a control character or half a one; leave it out")
    if any(sign in text for sign in forbidden):
        raise SettingError(f"name of a {what} holds one of {forbidden}; leave it out")


def check_sha256(what: str, text: str) -> None:
    """Refuse what is not a SHA-256 in hex.

    Raises:
        SettingError: it is not 64 lower-case hex digits.
    """
    if len(text) != 64 or not set(text) <= set("0123456789abcdef"):
        raise SettingError(f"{what} must be a SHA-256 in 64 lower-case hex digits, got {len(text)} characters")


def check_deadline(seconds: float) -> float:
    """Return ``seconds``; SQLite counts milliseconds in 32 bits, and waits not at all for what does not fit.

    Raises:
        SettingError: negative, not a number, or above a million.
    """
    if not 0 <= seconds <= 1e6:
        raise SettingError(f"deadline is 0 to 1,000,000 seconds, got {seconds:g}")
    return seconds


def whole(what: str, units: int, least: int) -> int:
    """Return ``units`` as an int; numpy's integers are taken too, a float is refused, however round.

    Raises:
        SettingError: it is no integer, is below ``least``, or is absurd.
    """
    try:
        number = operator.index(units)
    except TypeError as error:
        raise SettingError(f"{what} is an integer number of units, got a {type(units).__name__}") from error
    if not -ABSURD < number < ABSURD:
        raise SettingError(f"{what} has {number.bit_length():,} bits; give a number of units")
    if number < least:
        raise SettingError(f"{what} is at least {least} units, got {number}")
    return number


def is_units(stored: object) -> bool:
    """Tell whether a value of the tables can be a number of units."""
    return isinstance(stored, int) and 0 <= stored < MOST_STORED


def stored_units(stored: object) -> int:
    """Return a number of units of the tables.

    Raises:
        LedgerCorrupted: it is none.
    """
    if not isinstance(stored, int) or not is_units(stored):
        raise LedgerCorrupted("a number of units in the tables is damaged; run `discreet journal verify`")
    return stored


def instant(text: str, what: str = "a time") -> str:
    """Return an ISO 8601 time (UTC unless it says otherwise) as ``2027-01-01T00:00:00Z``, rounded down to the second.

    Args:
        text: the time.
        what: whoever asked calls it.

    Raises:
        SettingError: it is no such time.
    """
    try:
        time = datetime.fromisoformat(text)
        utc = time.replace(tzinfo=time.tzinfo or UTC).astimezone(UTC)
    except (ValueError, OverflowError) as error:
        raise SettingError(f"{what} must be a date or time such as 2027-01-01 (ISO 8601), got {text!r}") from error
    return stamp(utc)


def now() -> str:
    """Return the time, UTC, to the second: ``2027-01-01T00:00:00Z``."""
    return stamp(datetime.now(UTC))


def stamp(time: datetime) -> str:
    """Write a time in UTC so that times sort as text: four digits of the year, always (strftime drops zeros)."""
    return time.replace(tzinfo=None).isoformat(timespec="seconds") + "Z"


def sha256(content: bytes) -> str:
    """Return the SHA-256 in hex."""
    return hashlib.sha256(content).hexdigest()
