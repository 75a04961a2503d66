"""Before a charge: do the ledger's own numbers agree?

A few look-ups, in the transaction that charges. Whether everything fits is for `discreet journal verify` to say;
whoever edits one number, cuts the journal or swaps the key is stopped here, before anything is spent on the strength
of it.
"""

from __future__ import annotations

from sqlalchemy import bindparam, select

from discreet.errors import LedgerCorrupted
from discreet.governance.accounts import AccountRow
from discreet.governance.database import Database
from discreet.governance.journal import Journal
from discreet.governance.schema import release, total
from discreet.governance.tables import pins

_PAID = select(total(release.c.cost)).where(release.c.account == bindparam("account"))


def check_standing(database: Database, journal: Journal, account: AccountRow) -> None:
    """Return if a budget, its releases, the journal's ends, the rules and the key of the pseudonyms agree.

    Raises:
        LedgerCorrupted: they do not; names the journal row that tells otherwise.
    """
    first = journal.linked(0)
    if first.kind != "create" or first.facts != pins(database):
        raise _misfit("the rules of the file, or the key of the pseudonyms, are not those it was made with", 0)
    journal.linked(journal.head().seq)
    row = journal.opening(account.name)
    if row is None or _terms(journal, row) != account.terms:
        raise _misfit(f"budget {account.name} is not what was agreed on", row)
    paid = database.one(_PAID, account=account.name)
    if paid is None or (paid[0] or 0) != account.spent:
        raise _misfit(f"what is spent of budget {account.name} is not the sum of its releases", None)


def _terms(journal: Journal, row: int) -> tuple[object, ...] | None:
    try:
        return AccountRow.opened(journal.linked(row).facts).terms
    except (KeyError, TypeError, ValueError):
        return None


def _misfit(what: str, row: int | None) -> LedgerCorrupted:
    return LedgerCorrupted(f"{what}; nothing was charged: run `discreet journal verify` and find out why", row=row)
