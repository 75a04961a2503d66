"""What a release cost each of its cohort, where that is not the same for all: int64 units, in the cohort's order.

Twice at most for a release. At its reservation the *prices*: what each is held for, which depends on the level that
they chose and on nothing that they did. At its commitment what each *used*: the exact squared length of their rows,
which is no more. What is used is personal data: it is told to that person alone, and decides nothing, least of all who
is admitted later, since that could be seen from outside. The journal names a list by an HMAC under the ledger's key: a
plain hash would let whoever reads the journal try out what somebody may have used.
"""

from __future__ import annotations

import hmac

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import bindparam, insert, select

from discreet.errors import LedgerCorrupted, SettingError
from discreet.governance import schema
from discreet.governance.checks import MOST_STORED
from discreet.governance.database import Database, pseudonym_key

Units = NDArray[np.int64]

_THIS = schema.charge.c.digest == bindparam("digest")
_IS_KEPT = select(schema.charge.c.digest).where(_THIS)
_UNITS = select(schema.bytes_of(schema.charge.c.units)).where(_THIS)
_KEEP = insert(schema.charge)


def checked_units(what: str, units: Units, people: int, least: int, most: int | Units) -> Units:
    """Return units of each of so many people, as they are stored.

    Raises:
        SettingError: they are not int64 [people], or not all from ``least`` to ``most``.
    """
    if units.dtype != np.int64 or units.shape != (people,):
        raise SettingError(f"{what}: one int64 number of units a person is needed, for {people:,} people")
    if (units < least).any() or (units > most).any():
        raise SettingError(f"{what}: a number of units is out of its range")
    return units


class Charges:
    """The lists that are kept, each under a digest of its content that only the ledger's key makes."""

    def __init__(self, database: Database) -> None:
        self._db = database

    def keep(self, units: Units) -> str:
        """Store a list, once; return its digest."""
        content = units.astype("<i8").tobytes()
        key = self.name(content)
        if self._db.one(_IS_KEPT, digest=key) is None:
            self._db.execute(_KEEP, digest=key, units=content)
        return key

    def name(self, content: bytes) -> str:
        """Return the digest of a list: HMAC-SHA256 (hex) under the key of the pseudonyms."""
        return hmac.new(pseudonym_key(self._db), b"charge\0" + content, "sha256").hexdigest()

    def of(self, digest: str) -> Units:
        """Return a list.

        Raises:
            LedgerCorrupted: it is gone, or is not what was stored.
        """
        row = self._db.one(_UNITS, digest=digest)
        if row is None or self.name(row[0]) != digest or len(row[0]) % 8:
            raise LedgerCorrupted("what a release cost each person is gone or changed; run `discreet journal verify`")
        units = np.frombuffer(row[0], "<i8").astype(np.int64)
        if units.size and not 0 <= units.min() <= units.max() < MOST_STORED:
            raise LedgerCorrupted("what a release cost each person is damaged; run `discreet journal verify`")
        return units
