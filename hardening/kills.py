"""Kill what takes in events, erases people and spends budgets, at any moment, and look whether a promise was broken.

    python hardening/kills.py --kills 10000
    python hardening/kills.py --kills 1000 --place postgresql+psycopg://...

Two processes at a time work on one database until they are killed (SIGKILL). Each says what it begins, and what was
acknowledged, and is killed some moment after it said a number of things: what is done at least does not depend on how
fast the machine is. Promised is, whatever is killed when:

- an event that was acknowledged is there, unless its person was erased since;
- whoever was erased, and that was acknowledged, is not there: no key, no event, no consent;
- a release is charged once, however often it was begun again; budgets add up; the journal verifies, with each
  person's consents opened;
- work goes on, whoever was killed before.

What was begun and not acknowledged may have happened or not.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import select
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from discreet.data.catalogue import Catalogue
from discreet.data.records import Records
from discreet.governance.inventory import Inventory, example
from discreet.governance.keys import Master, Wrapping, new_key
from discreet.governance.ledger import Account, Ledger

ITEMS = [f"item-{number}" for number in range(200)]
ACCOUNT = Account("shop", "train-recommender")
PURPOSE = "recommend"
STEPS = 10
"""What one of two processes says from when it is ready is less than so many things, before their last moment."""
MOMENT = 0.01
"""Seconds that it lasts at most: about a step or two."""
PATIENCE = 60.0
"""Seconds that they have for that."""
LOOKED = 100
"""Kills between two looks at everything."""
TURNS = 10_000


@dataclass
class World:
    """What the processes said.

    Attributes:
        kept: acknowledged events, by person.
        begun: people whose erasure was begun.
        erased: people whose erasure was acknowledged.
        spent: releases that were acknowledged, with their price.
        counts: of what was acknowledged, by kind.
    """

    kept: dict[str, set[str]] = field(default_factory=dict)
    begun: set[str] = field(default_factory=set)
    erased: set[str] = field(default_factory=set)
    spent: dict[str, int] = field(default_factory=dict)
    counts: Counter[str] = field(default_factory=Counter)

    def hear(self, line: str) -> None:
        """Take note of what a process said."""
        kind, *words = line.split(" ")
        self.counts[kind] += 1
        match kind:
            case "kept":
                self.kept.setdefault(words[0], set()).update(words[1:])
            case "erasing":
                self.begun.add(words[0])
            case "erased":
                self.erased.add(words[0])
            case "spent":
                self.spent[words[0]] = int(words[1])


def work(place: str | Path, master: Wrapping, inventory: Inventory, out: int, name: str) -> None:
    """Do one thing after another, and say so, until killed."""

    def say(*words: str) -> None:
        os.write(out, (" ".join(words) + "\n").encode())

    chance = random.Random(name)
    with Records(place, master, inventory) as records, Ledger(place) as book:
        say("ready")
        people: list[str] = []
        for turn in range(TURNS):
            match chance.random():
                case part if part < 0.25 or not people:
                    person = f"{name}-{turn}"
                    records.consents.give(person, PURPOSE)
                    people.append(person)
                    say("agreed", person)
                case part if part < 0.75:
                    person, items = chance.choice(people), chance.sample(ITEMS, 3)
                    batch = records.vault.prepared(
                        f"{name}-{turn}", f"{turn:064x}", [(person, item, None) for item in items]
                    )
                    records.vault.collect([batch])
                    say("kept", person, *items)
                case part if part < 0.85:
                    person = people.pop(chance.randrange(len(people)))
                    say("erasing", person)
                    records.vault.erase(records.holders.pseudonym(person))
                    say("erased", person)
                case _:
                    release, cost = f"release-{chance.randrange(40)}-{name[:1]}", 7
                    book.reserve(ACCOUNT, cost=cost, release=release, spec="0" * 64)
                    say("spent", release, str(cost))


def look(place: str | Path, master: Wrapping, inventory: Inventory, world: World) -> list[str]:
    """Return which promises were broken."""
    broken = []
    with Records(place, master, inventory) as records, Ledger(place) as book:
        names = {code: ident for ident, code in records.vault.items.codes.items()}
        for person in world.erased:
            pseudonym = records.holders.pseudonym(person)
            if (
                records.holders.holds(pseudonym)
                or records.vault.own(pseudonym).size
                or records.consents.records(person)
            ):
                broken.append("somebody who was erased is there")
        for person, items in world.kept.items():
            if person not in world.begun:
                held = {names[code] for code in np.unique(records.vault.own(records.holders.pseudonym(person))["code"])}
                if not items <= held:
                    broken.append("an event that was acknowledged is gone")
        releases = {each.release: each.cost for each in book.releases(ACCOUNT)}
        if any(releases.get(release) != cost for release, cost in world.spent.items()):
            broken.append("a release that was acknowledged is not charged, or is charged another price")
        if book.account(ACCOUNT).spent != sum(releases.values()):
            broken.append("a budget does not add up: a release is charged twice")
        broken += [problem.what for problem in book.verify(wrapping=master).problems]
    return broken


def campaign(place: str | Path, kills: int, *, tell: bool = False) -> tuple[World, list[str]]:
    """Kill processes so many times; return what they said, and which promises were broken."""
    master, inventory, world = Master([new_key()]), Inventory.from_toml(example("shop").encode()), World()
    with Records(place, master, inventory) as records:
        records.vault.set_items(Catalogue(tuple(sorted(ITEMS))))
        list(records.vault.retain())
    with Ledger(place) as book:
        book.open_budget(ACCOUNT, epsilon=20.0, delta=1e-6)
    broken: list[str] = []
    done = 0
    while done < kills and not broken:
        for _ in range(min(LOOKED, kills - done) // 2 + 1):
            if not _both(place, master, inventory, world, done):
                return world, ["work does not go on: a process did not do its steps in time, or ended itself"]
            done += 2
        broken = look(place, master, inventory, world)
        if tell:
            print(f"{done:,} kills, {sum(world.counts.values()):,} lines, {len(world.erased):,} erased", flush=True)
    return world, broken


def _heard(reads: Sequence[int], lines: int) -> dict[int, bytes]:
    """Return what processes said until they did what they were to do, or it takes too long, or they have ended."""
    heard, until, talking = dict.fromkeys(reads, b""), time.monotonic() + PATIENCE, [*reads]
    while talking and not _is_done(heard, lines):
        telling = select.select(talking, [], [], max(0.0, until - time.monotonic()))[0]
        if not telling:
            break
        for read in telling:
            said = os.read(read, 1 << 16)
            heard[read] += said
            if not said:
                talking.remove(read)
    return heard


def _is_done(heard: Mapping[int, bytes], lines: int) -> bool:
    """Whether all are ready, and the quickest said so much: of two that write at once one waits for long."""
    said = sorted(each.count(b"\n") for each in heard.values())
    return said[0] > 0 and said[-1] >= lines


def _both(place: str | Path, master: Wrapping, inventory: Inventory, world: World, number: int) -> bool:
    """Let two processes work, and kill them; return whether they did what they were to do before."""
    children, lines = [], 1 + random.Random(number).randrange(STEPS)
    for side in "ab":
        read, write = os.pipe()
        pid = os.fork()
        if pid == 0:
            os.close(read)
            try:
                work(place, master, inventory, write, f"{side}{number}")
            finally:
                os._exit(1)  # only a defect ends here
        os.close(write)
        children.append((pid, read))
    heard = _heard([read for _, read in children], lines)
    time.sleep(random.uniform(0, MOMENT))
    for pid, _ in children:
        os.kill(pid, signal.SIGKILL)
    for pid, read in children:
        os.waitpid(pid, 0)
        with os.fdopen(read, "rb") as file:
            for line in (heard[read] + file.read()).decode().splitlines(keepends=True):
                if line.endswith("\n"):
                    world.hear(line.strip())
    return _is_done(heard, lines)


def main() -> None:
    """Run, print, and end with 3 if a promise was broken."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=10_000)
    parser.add_argument("--json", action="store_true", help="one JSON object, in the end")
    parser.add_argument("--place", help="URL of an empty PostgreSQL database; else a file in a temporary folder")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        begun = time.monotonic()
        place = arguments.place or Path(folder) / "discreet.db"
        world, broken = campaign(place, arguments.kills, tell=not arguments.json)
        seconds = time.monotonic() - begun
    acknowledged = dict(sorted(world.counts.items()))
    if arguments.json:
        told = {"kills": arguments.kills, "broken": len(broken), "seconds": round(seconds)}
        print(json.dumps(told | {"acknowledged": acknowledged}))
    else:
        print(f"{seconds:,.0f} s; acknowledged: {acknowledged}")
    for what in sorted({*broken}):
        print(f"BROKEN: {what} ({broken.count(what)} times)", file=sys.stderr)
    sys.exit(3 if broken else 0)


if __name__ == "__main__":
    main()
