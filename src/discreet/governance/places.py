"""Where a ledger lies, in a file or on a server, which this one place tells apart; and what names its witness."""

from __future__ import annotations

import re
from pathlib import Path

from discreet.errors import SettingError

NAMED = "DISCREET_WITNESS"
"""Names, in the environment, the file of signed heads (`witness`) of whatever is opened."""

_URL = re.compile(r"([a-z][a-z0-9]*)(\+[a-z0-9]+)?:/", re.IGNORECASE)
_DRIVERS = {None, "+psycopg"}


def file_of(place: str | Path) -> Path | None:
    """Return the file in which a ledger lies, or None if ``place`` is the URL of a PostgreSQL database.

    Raises:
        SettingError: it is a URL of something else, or one that was made a path; what it says may be a password, and is
            not repeated.
    """
    address = _URL.match(str(place))
    if address is None:
        return Path(place)
    if not str(place)[address.end() - 1 :].startswith("//"):
        raise SettingError("the URL of a ledger was made a path, which loses a slash; give it as text")
    if address[1].lower() != "postgresql" or address[2] not in _DRIVERS:
        raise SettingError("a ledger lies in a file, or in a database postgresql+psycopg://...; give one of these")
    return None
