"""Cut the power under the ledger and what is published beside it, again and again; see what became of each promise.

    python hardening/power_cuts.py --cuts 10000
    python hardening/power_cuts.py --cuts 300 --synchronous NORMAL    # what it finds where promises are not kept

Each time the product works in a folder whose disk (`power.py`) loses power at a random one of its calls. The folder is
put together as it may be found afterwards, and the product goes on in it. Broken is: a ledger that cannot be opened, or
does not verify; something acknowledged that is gone, or is there twice; a price that is counted too low; a published
file that is not what was committed, or that nothing was committed to; and a release that cannot be taken up again.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import random
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
from power import Disk

from discreet.errors import BudgetExceeded, DiscreetError
from discreet.governance.ledger import Account, Ledger
from discreet.governance.publication import publish, resume
from discreet.governance.releases import ReleaseState
from discreet.governance.sqlite import SQLite

FILMS, BOOKS = Account("films", "train"), Account("books", "train")
SPEC = hashlib.sha256(b"plan").hexdigest()
PEOPLE = [f"person {number}" for number in range(60)]
MOST_STEPS = 12
CALLS_A_STEP, CALLS_OF_MAKING = 11, 230
"""About: a cut falls on one of the calls of the work, or shortly after them."""


@dataclass
class Release:
    """A release as it was asked for, and how far its acknowledgements went."""

    account: Account
    terms: dict[str, Any]
    payload: bytes
    acknowledged: str = ""
    artefacts: set[str] = field(default_factory=set)
    used: Any = None
    ends: set[str] = field(default_factory=set)


@dataclass
class Book:
    """What was asked, and what was acknowledged."""

    releases: dict[str, Release] = field(default_factory=dict)
    opened: set[Account] = field(default_factory=set)
    acknowledged: int = 0


def name_of(release: str) -> str:
    """Return the name under which a release is published."""
    return f"model-{release}"


def open_budget(ledger: Ledger, account: Account) -> None:
    """Open a budget; of books, with a cap for each person."""
    ledger.open_budget(account, epsilon=8.0, delta=1e-6, person_epsilon=4.0 if account == BOOKS else None)


class Work:
    """What the product does until the power is cut: steps by chance, through two connections to one file."""

    def __init__(self, folder: Path, draw: random.Random, book: Book) -> None:
        self._folder, self._draw, self._book = folder, draw, book

    def run(self, steps: int) -> None:
        """Do so many steps."""
        kinds = [self._reserve] * 4 + [self._publish] * 3 + [self._commit] * 2 + [self._abandon, self._refused]
        path = self._folder / "ledger.db"
        with Ledger(path) as first:
            for account in (FILMS, BOOKS):
                self._open(first, account)
            second = Ledger(path)
            try:
                for _ in range(steps):
                    if self._draw.random() < 0.1:
                        second.close()
                        second = Ledger(path)
                    self._draw.choice(kinds)(self._draw.choice((first, second)))
            finally:
                second.close()

    def _open(self, ledger: Ledger, account: Account) -> None:
        if account not in self._book.opened:
            open_budget(ledger, account)
            self._book.opened.add(account)
            self._book.acknowledged += 1
        assert isinstance(ledger._db, SQLite)
        ledger._db.setting("wal_autocheckpoint = 12")  # as if much had been written: by default it is 1,000 pages

    def _waiting(self) -> str | None:
        waiting = [name for name, each in self._book.releases.items() if each.acknowledged == "reserved"]
        return self._draw.choice(waiting) if waiting else None

    def _reserve(self, ledger: Ledger) -> None:
        account, name = self._draw.choice((FILMS, BOOKS)), f"r{len(self._book.releases)}"
        terms: dict[str, Any] = {"cost": self._draw.randrange(1, 1_000), "spec": SPEC}
        if account == BOOKS or self._draw.random() < 0.3:
            terms["people"] = self._draw.sample(PEOPLE, self._draw.randrange(1, len(PEOPLE)))
            if self._draw.random() < 0.5:
                prices = [self._draw.randrange(1, terms["cost"] + 1) for _ in terms["people"]]
                terms["prices"] = np.array(prices, np.int64)
        payload = self._draw.randbytes(self._draw.choice((10, 600, 5_000)))
        asked = self._book.releases[name] = Release(account, terms, payload)
        made = ledger.reserve(account, release=name, **terms)
        if made.order is not None and "prices" in terms and self._draw.random() < 0.5:
            made.use(terms["prices"] // 2)
            asked.used = made.used
        asked.acknowledged = "reserved"
        self._book.acknowledged += 1

    def _end(self, name: str, state: str) -> None:
        self._book.releases[name].acknowledged = state
        self._book.acknowledged += 1

    def _commit(self, ledger: Ledger) -> None:
        name = self._waiting()
        if name is not None:
            release = self._book.releases[name]
            artefact = hashlib.sha256(release.payload).hexdigest()
            release.artefacts.add(artefact)
            release.ends.add("committed")
            ledger.commit(name, artefact, release.used)
            self._end(name, "committed")

    def _publish(self, ledger: Ledger) -> None:
        name = self._waiting()
        if name is not None:
            release = self._book.releases[name]
            release.artefacts.add(hashlib.sha256(release.payload).hexdigest())
            release.ends.add("committed")
            publish(ledger, name, release.payload, self._folder, name_of(name), release.used)
            self._end(name, "published")

    def _abandon(self, ledger: Ledger) -> None:
        name = self._waiting()
        if name is not None and self._draw.random() < 0.5:
            self._book.releases[name].ends.add("abandoned")
            ledger.abandon(name)
            self._end(name, "abandoned")

    def _refused(self, ledger: Ledger) -> None:
        try:
            ledger.reserve(FILMS, cost=2**60, release="too much", spec=SPEC)
        except BudgetExceeded:
            self._book.acknowledged += 1


def broken(folder: Path, book: Book) -> str | None:
    """Look at what was left, and go on with it; return the first promise that was not kept, or None."""
    path = folder / "ledger.db"
    if not path.exists():
        return "the ledger is gone" if book.opened else None
    try:
        with Ledger(path, create=False) as ledger:
            return _lost(ledger, folder, book) or _stuck(ledger, folder, book)
    except DiscreetError as error:
        return f"{type(error).__name__}: {error}"


def _lost(ledger: Ledger, folder: Path, book: Book) -> str | None:
    found = ledger.verify()
    if not found.ok:
        return f"does not verify: {found.problems[0].what}"
    states = {state.release: state for state in ledger.releases()}
    accounts = ledger.accounts()
    if not book.opened <= {account.account for account in accounts}:
        return "an opened budget is gone"
    if states.keys() - book.releases.keys():
        return "a release that nobody asked for"
    for name, asked in book.releases.items():
        wrong = _lost_of(asked, states.get(name))
        if wrong:
            return wrong
    for account in accounts:
        if account.spent != sum(each.cost for each in states.values() if each.account == str(account.account)):
            return "what is spent is not the sum of the releases"
    return _lost_files(folder, book, {name: state.artefact for name, state in states.items()})


def _lost_of(asked: Release, state: ReleaseState | None) -> str | None:
    said = asked.acknowledged
    if state is None:
        return "an acknowledged release is gone" if said else None
    ended = said in {"committed", "published", "abandoned"}
    expected = {"committed" if said == "published" else said} if ended else {"reserved", *asked.ends}
    if state.cost != asked.terms["cost"] or state.state not in expected:
        return f"a release that was {said} is {state.state}"
    artefacts = asked.artefacts if state.state == "committed" else {None}
    return None if state.artefact in artefacts else "a release has another artefact"


def _lost_files(folder: Path, book: Book, artefacts: dict[str, str | None]) -> str | None:
    for path in folder.glob("model-*"):
        if hashlib.sha256(path.read_bytes()).hexdigest() != artefacts.get(path.name.removeprefix("model-")):
            return "a published file is not what was committed"
    for name, asked in book.releases.items():
        if asked.acknowledged == "published" and not (folder / name_of(name)).exists():
            return "an acknowledged publication is gone"
    return None


def _stuck(ledger: Ledger, folder: Path, book: Book) -> str | None:
    """Take up what was under way, as the documents say: the same commands once more, at no further charge."""
    for account in {FILMS, BOOKS} - book.opened:
        open_budget(ledger, account)
    states = {state.release: state.state for state in ledger.releases()}
    for name, asked in book.releases.items():
        if states.get(name) == "abandoned":
            continue
        made = ledger.reserve(asked.account, release=name, **asked.terms)
        if made.state == "committed" and asked.acknowledged == "committed":
            continue  # bound without a file, as by somebody who keeps it elsewhere
        try:
            publish(ledger, name, asked.payload, folder, name_of(name), asked.used)
        except DiscreetError as error:
            if made.state == "committed" and not (folder / name_of(name)).exists() and "committed" in asked.ends:
                continue  # the same, and the power was cut before that was acknowledged
            return f"cannot be taken up: {error}"
        resume(ledger, name, folder, name_of(name))
    for account in (FILMS, BOOKS):
        asked_of = sum(each.terms["cost"] for each in book.releases.values() if each.account == account)
        if ledger.account(account).spent != asked_of:
            return "what was taken up was charged twice, or not at all"
    if list(folder.glob(".*candidate*")):
        return "a candidate was left lying about"
    return None if ledger.verify().ok else "does not verify after going on"


def template() -> dict[str, bytes]:
    """A folder with a ledger whose two budgets are open."""
    with tempfile.TemporaryDirectory() as folder:
        Work(Path(folder), random.Random(0), Book()).run(0)
        return {path.name: path.read_bytes() for path in Path(folder).iterdir()}


def one_cut(seed: int, files: dict[str, bytes], scratch: Path) -> tuple[int, str | None]:
    """Cut once; return how many operations were acknowledged before, and what was broken, if anything."""
    draw = random.Random(seed)
    folder, later, book = scratch / "before", scratch / "after", Book()
    anew = draw.random() < 0.1
    _fill(folder, {} if anew else files)
    if not anew:
        book.opened.update({FILMS, BOOKS})
    steps = draw.randrange(1, MOST_STEPS)
    disk = Disk(folder, draw, draw.randrange(1, CALLS_A_STEP * steps + (CALLS_OF_MAKING if anew else 0) + 9))
    with disk.plugged_in():
        try:
            Work(folder, draw, book).run(steps)
        except (DiscreetError, OSError):
            if not disk.dead:
                raise
    disk.cut()
    _fill(later, disk.after or {})
    return book.acknowledged, broken(later, book)


def _fill(folder: Path, files: dict[str, bytes]) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    for name, content in files.items():
        (folder / name).write_bytes(content)


@contextmanager
def synchronous(level: str) -> Iterator[None]:
    """Open ledgers at another level of SQLite's than the product's, to see what that is worth."""
    real = SQLite.setting

    def setting(self: SQLite, pragma: str) -> object:
        return real(self, pragma.replace("synchronous = FULL", f"synchronous = {level}"))

    with mock.patch.object(SQLite, "setting", setting):
        yield


def campaign(cuts: int, seed: int, level: str = "FULL") -> tuple[int, Counter[str]]:
    """Cut so many times; return how many operations were acknowledged, and how often each promise was broken."""
    acknowledged, found = 0, Counter[str]()
    memory = Path("/dev/shm")  # noqa: S108 - a disk would only make this slower
    with (
        synchronous(level),
        tempfile.TemporaryDirectory(prefix="discreet-cuts-", dir=memory if memory.is_dir() else None) as scratch,
    ):
        files = template()
        for number in range(cuts):
            done, wrong = one_cut(seed + number, files, Path(scratch).resolve())
            acknowledged += done
            if wrong is not None:
                found[wrong] += 1
    return acknowledged, found


def main() -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cuts", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--synchronous", choices=["FULL", "NORMAL", "OFF"], default="FULL")
    parser.add_argument("--json", action="store_true", help="one JSON object at the end")
    asked = parser.parse_args()
    began = time.monotonic()
    acknowledged, found = campaign(asked.cuts, asked.seed, asked.synchronous)
    seconds = round(time.monotonic() - began, 1)
    for what, times in found.most_common():
        sys.stderr.write(f"{times:,} times: {what}\n")
    if asked.json:
        figures = {"cuts": asked.cuts, "acknowledged": acknowledged, "broken": found.total(), "seconds": seconds}
        print(json.dumps(figures | {"synchronous": asked.synchronous}))
    else:
        done = f"{asked.cuts:,} cuts, {acknowledged:,} acknowledged operations"
        print(f"power cuts: {done}, {found.total():,} broken promises")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
