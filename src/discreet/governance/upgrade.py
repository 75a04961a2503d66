"""An older ledger brought to this version: all that is in it stays, and one row of the journal tells of it.

Everything happens in one transaction: whoever is killed in the middle leaves the ledger as it was. First the rules of
the older version are held against what is pinned, so that nothing that was taken away is passed over; from then on the
pins of the new row count.
"""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

from sqlalchemy.exc import SQLAlchemyError

from discreet.errors import LedgerError
from discreet.governance.checks import check_deadline
from discreet.governance.journal import Journal
from discreet.governance.schema import VERSION
from discreet.governance.standing import check_pins
from discreet.governance.tables import opened, pins
from discreet.governance.witness import check_unwitnessed, configured


def upgrade(place: str | Path, *, deadline: float = 30.0) -> str:
    """Bring a ledger to this version; return the version that it had. One that has it already is left as it is.

    Args:
        place: a file, or the URL of a PostgreSQL database.
        deadline: seconds to wait for other processes that are writing, 0 to 1,000,000.

    Raises:
        SettingError: the deadline is out of its range, or the place is another URL.
        LedgerError: the ledger is missing, busy, or of a version that cannot be upgraded; or the tables cannot be
            changed. Nothing was.
        LedgerCorrupted: its rules, or its key, are not those that it was made with, or it lacks what its witness has
            seen. Nothing was changed.
    """
    witness = configured(None, check_deadline(deadline))
    with closing(opened(place, deadline, may_create=False, may_be_older=True)) as database:
        journal = Journal(database)
        if witness is None:
            check_unwitnessed(journal)
        else:
            witness.check(journal)
        try:
            with database.migrating() as migrate, database.transaction():
                found = str(database.version())  # asked within: another process may have been first
                if found != str(VERSION):
                    check_pins(database, journal)
                    migrate()
                    journal.append("upgrade", version=str(VERSION), **{"from": found}, **pins(database))
        except SQLAlchemyError:
            raise LedgerError(
                f"{database.name} could not be upgraded and is as it was; free space on its disk, "
                "and do it as the user who owns its tables"
            ) from None
        if witness is not None:
            witness.keep(journal)
    return found
