"""A thousand kills, and that a broken promise would be found."""

from __future__ import annotations

import os
import time
from pathlib import Path

import kills
import pytest
from servers import Server
from sqlalchemy import delete, update

from discreet.data.catalogue import Catalogue
from discreet.data.records import Records
from discreet.governance import schema
from discreet.governance.inventory import Inventory, example
from discreet.governance.keys import Master, new_key
from discreet.governance.ledger import Ledger

KILLS, ON_A_SERVER = 1_000, 60


@pytest.mark.parametrize(("on", "number"), [("sqlite", KILLS), ("postgresql", ON_A_SERVER)])
def test_no_promise_is_broken(on: str, number: int, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    place: str | Path = tmp_path / "discreet.db"
    if on == "postgresql":
        server: Server = request.getfixturevalue("server")
        place = server.new()
    world, broken = kills.campaign(place, number)
    assert not broken
    assert world.counts["ready"] >= number
    assert all(world.counts[kind] > number / 10 for kind in ("kept", "erased", "spent"))  # as it is seeded, at least


@pytest.mark.parametrize("after", ["it is ready", "it agreed"])
@pytest.mark.parametrize("ends", [False, True])
def test_processes_that_do_nothing_are_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, after: str, ends: bool
) -> None:
    def idle(place: object, master: object, inventory: object, out: int, name: str) -> None:
        os.write(out, b"ready\n" if after == "it is ready" else b"ready\nagreed somebody\n")
        if not ends:
            time.sleep(600)

    monkeypatch.setattr(kills, "work", idle)
    monkeypatch.setattr(kills, "PATIENCE", 0.2)
    world, (broken,) = kills.campaign(tmp_path / "discreet.db", 60)
    assert "does not go on" in broken
    assert world.counts["ready"] < 60


@pytest.mark.parametrize(
    "fault", ["an event is lost", "somebody is back", "a release is forgotten", "a consent is other"]
)
def test_a_broken_promise_is_found(fault: str, tmp_path: Path) -> None:
    place, master = tmp_path / "discreet.db", Master([new_key()])
    inventory, world = Inventory.from_toml(example("shop").encode()), kills.World()
    with Records(place, master, inventory) as records, Ledger(place) as book:
        records.vault.set_items(Catalogue(tuple(sorted(kills.ITEMS))))
        book.open_budget(kills.ACCOUNT, epsilon=20.0, delta=1e-6)
        records.consents.give("ann", kills.PURPOSE)
        records.vault.collect([records.vault.prepared("one", "0" * 64, [("ann", "item-1", None)])])
        book.reserve(kills.ACCOUNT, cost=7, release="r", spec="0" * 64)
        for line in ("kept ann item-1", "spent r 7"):
            world.hear(line)
        assert kills.look(place, master, inventory, world) == []
        match fault:
            case "an event is lost":
                records.database.execute(delete(schema.event))
            case "a consent is other":
                records.database.execute(update(schema.standing).values(until=None))
            case "somebody is back":
                world.hear("erasing ann")
                world.hear("erased ann")
            case _:
                world.hear("spent other 7")
    assert kills.look(place, master, inventory, world)
