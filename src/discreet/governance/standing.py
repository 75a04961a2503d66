"""Before a charge: do the ledger's own numbers agree?

A few look-ups, in the transaction that charges. Whether everything fits is for `discreet journal verify` to say;
whoever edits one number, cuts the journal or swaps the key is stopped here, before anything is spent on the strength
of it.
"""

from __future__ import annotations

import rfc8785
from sqlalchemy import Text, bindparam, select

from discreet.errors import LedgerCorrupted
from discreet.governance.accounts import AccountRow
from discreet.governance.database import Database
from discreet.governance.journal import Journal
from discreet.governance.schema import journal as rows
from discreet.governance.schema import release, total, within_text
from discreet.governance.tables import pins

_PAID = select(total(release.c.cost)).where(release.c.account == bindparam("account"))
_LAST = (
    select(rows.c.seq)
    .where(within_text(rows.c.body, bindparam("told", type_=Text)) > 0)
    .order_by(rows.c.seq.desc())
    .limit(1)
)


def check_standing(database: Database, journal: Journal, account: AccountRow) -> None:
    """Return if a budget, its releases, the journal's ends, the rules and the key of the pseudonyms agree.

    Raises:
        LedgerCorrupted: they do not; names the journal row that tells otherwise.
    """
    check_pins(database, journal)
    journal.linked(journal.head().seq)
    row = journal.opening(account.name)
    if row is None or not _is_agreed(database, journal, row, account):
        raise _misfit(f"budget {account.name} is not what was agreed on", row)
    paid = database.one(_PAID, account=account.name)
    if paid is None or (paid[0] or 0) != account.spent:
        raise _misfit(f"what is spent of budget {account.name} is not the sum of its releases", None)


def check_pins(database: Database, journal: Journal) -> None:
    """Return if the rules and the key of the pseudonyms are those of row 0 of the journal, or of the last upgrade.

    Raises:
        LedgerCorrupted: they are not.
    """
    held = pins(database).items()
    first = journal.linked(0)
    if first.kind == "create" and first.facts.items() >= held:
        return
    row = _last(database, '"kind":"upgrade",')  # looked for only then: it is far to go
    if first.kind != "create" or row is None or not journal.linked(row).facts.items() >= held:
        raise _misfit("the rules of the file, or the key of the pseudonyms, are not those it was made with", row or 0)


def _is_agreed(database: Database, journal: Journal, row: int, account: AccountRow) -> bool:
    """Whether a budget is as it was opened, or as it was last raised."""
    try:
        opened = AccountRow.opened(journal.linked(row).facts)
        if opened.terms == account.terms:
            return True
        raised = _last(database, f'"kind":"raise","name":{rfc8785.dumps(account.name).decode()},')
        return raised is not None and opened.raised(journal.linked(raised).facts).terms == account.terms
    except (KeyError, TypeError, ValueError):
        return False


def _last(database: Database, told: str) -> int | None:
    """Return the number of the last row that says so: canonical JSON sorts its keys, and escapes quotes in values."""
    row = database.one(_LAST, told=told)
    return None if row is None else row[0]


def _misfit(what: str, row: int | None) -> LedgerCorrupted:
    return LedgerCorrupted(f"{what}; nothing was charged: run `discreet journal verify` and find out why", row=row)
