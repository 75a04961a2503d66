"""Records of people in a database of their own."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from discreet.data.catalogue import Catalogue
from discreet.data.records import Records
from discreet.data.vault import Collected
from discreet.governance.inventory import Inventory, example
from discreet.governance.keys import Master, new_key

TRAIN, RECOMMEND = "train-recommender", "recommend"


class System(Records):
    """Records, and what tests do with them."""

    sent = 0

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
    with System(place, master or Master([new_key()]), declared or inventory(), deadline=5) as made:
        if items and made.vault.items.catalogue is None:
            made.vault.set_items(Catalogue(tuple("abcdefghijklmnopqrstuvwxyz"[:items])))
        yield made
