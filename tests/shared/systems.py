"""A whole system of records in a database of its own: keys, consents, events."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from discreet.data.catalogue import Catalogue
from discreet.data.vault import Collected, Vault
from discreet.governance.consent import Consents
from discreet.governance.database import Database
from discreet.governance.holders import Holders
from discreet.governance.inventory import Inventory, example
from discreet.governance.journal import Journal
from discreet.governance.keys import Master, new_key
from discreet.governance.tables import opened

TRAIN, RECOMMEND = "train-recommender", "recommend"


@dataclass
class System:
    """The parts, on one database."""

    database: Database
    inventory: Inventory
    master: Master
    journal: Journal
    holders: Holders
    consents: Consents
    vault: Vault
    sent: int = 0

    def who(self, person: str) -> bytes:
        return self.holders.pseudonym(person)

    def agree(self, *people: str, purposes: Iterable[str] = (RECOMMEND, TRAIN), **told: Any) -> None:
        for person in people:
            for purpose in purposes:
                self.consents.give(person, purpose, **told)

    def send(self, *rows: tuple[str, str] | tuple[str, str, float]) -> Collected:
        self.sent += 1
        batch = self.vault.prepared(f"batch-{self.sent}", f"{self.sent:064x}", [(*row, None)[:3] for row in rows])
        (told,) = self.vault.collect([batch])
        assert isinstance(told, Collected)
        return told


def inventory(**minimisation: Any) -> Inventory:
    """Return the example, with changes to what is left out."""
    found = Inventory.from_toml(example("shop").encode())
    return replace(found, minimisation=replace(found.minimisation, **minimisation))


@contextmanager
def system(
    place: str | Path, master: Master | None = None, declared: Inventory | None = None, items: int = 6
) -> Iterator[System]:
    """Open a system; list items a to f, if none are listed."""
    master, declared = master or Master([new_key()]), declared or inventory()
    database = opened(place, 5, may_create=True)
    try:
        journal = Journal(database)
        holders = Holders(database, master, [purpose.name for purpose in declared.purposes])
        consents = Consents(database, journal, holders, declared)
        vault = Vault(database, journal, holders, consents, declared)
        if items and vault.items.catalogue is None:
            vault.set_items(Catalogue(tuple("abcdefghijklmnopqrstuvwxyz"[:items])))
        yield System(database, declared, master, journal, holders, consents, vault)
    finally:
        database.close()
