"""Everything that is held of people, opened: keys, consents, events, budgets and the journal, in one database."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType
from typing import Self

from discreet.data.vault import Vault
from discreet.governance.access import Access
from discreet.governance.consent import Consents
from discreet.governance.duties import Duties
from discreet.governance.grants import Grants
from discreet.governance.holders import Holders
from discreet.governance.incidents import Incidents
from discreet.governance.inventory import Inventory
from discreet.governance.journal import Head
from discreet.governance.keys import Wrapping
from discreet.governance.ledger import Ledger
from discreet.governance.matters import Matters, Once
from discreet.governance.motions import Motions
from discreet.governance.verification import Verification, verify
from discreet.governance.witness import check_unwitnessed, configured, opened_with


class Records:
    """An open database of people. One object per thread and process.

    Args:
        place: a file, or the URL of a PostgreSQL database: the one that budgets are in.
        wrapping: the master key, or what has it.
        inventory: what is declared.
        deadline: seconds to wait for others that write.
        witness: file of signed heads outside the database (`witness`), by default what ``DISCREET_WITNESS`` names.

    Attributes:
        witness: which `keep`s the journal when something was written; None without one.

    Raises:
        LedgerError: it cannot be opened; or its journal tells of a witness, and there is none here.
        LedgerCorrupted: it lacks what its witness has seen, or the witness is gone; or a key of it is gone, or another.
        SealBroken: its keys are wrapped by another master key, or were changed.
    """

    def __init__(
        self,
        place: str | Path,
        wrapping: Wrapping,
        inventory: Inventory,
        *,
        deadline: float = 30.0,
        witness: str | Path | None = None,
    ) -> None:
        self.place, self.inventory, self.witness = place, inventory, configured(witness, deadline)
        self._wrapping = wrapping
        self._seen: Head | None = None
        self.database, self.journal = opened_with(self.witness, place, deadline, may_create=True)
        try:
            if self.witness is None:
                check_unwitnessed(self.journal)
            purposes = [purpose.name for purpose in inventory.purposes]
            self.holders = Holders(self.database, self.journal, wrapping, purposes)
            self.consents = Consents(self.database, self.journal, self.holders, inventory)
            self.matters, self.access = (
                Matters(self.database, self.journal),
                Access(self.database, self.journal, self.holders),
            )
            self.motions, self.incidents = Motions(self.matters), Incidents(self.matters)
            self.duties = Duties(self.matters)
            documents = self.consents.documents
            self.grants = Grants(self.database, self.journal, self.matters, self.holders, documents)
            self.vault = Vault(self.database, self.journal, self.holders, self.consents, inventory)
        except BaseException:
            self.database.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def book(self) -> Ledger:
        """Open the budgets of this database, with its witness."""
        return Ledger(self.place, create=False, witness=self.witness.path if self.witness else None)

    def once(self, visitor: str, key: str | None, asked: bytes) -> Once | None:
        """Return by what a request is known again: who asks, what they call it, and what it says; None: it has no name.

        A key of the ring makes it, since what was asked for may tell of somebody, and could be guessed.
        """
        if key is None:
            return None
        name = f"once\0{visitor}\0{key}"
        return Once(self.holders.id_of_batch(name)[:16], self.holders.id_of_batch(f"{name}\0{asked.hex()}"))

    def verified(self, artefacts: Path | None = None) -> Verification:
        """Replay the journal, and compare it with everything else; each consent is opened. As `Ledger.verify`."""
        return verify(self.journal, None, artefacts, self.witness, self._wrapping)

    def keep(self) -> None:
        """Have the witness see what was written since it last did, if there is one.

        Raises:
            FileNotWritten, LedgerError, DataError: it cannot be written, its key cannot be read, or it is another.
        """
        if self.witness is not None and (head := self.journal.head()) != self._seen:
            self.witness.keep(self.journal)
            self._seen = head

    def close(self) -> None:
        """Close the database. May be repeated."""
        self.database.close()
