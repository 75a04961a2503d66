"""State machines: the ledger against a plain model of it, and the journal against whoever edits it.

    python hardening/machines.py --runs 4000

A run is a sequence of steps by chance; one that goes wrong is shrunk to a short one and printed.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import shutil
import sqlite3
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import closing, suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, ClassVar
from unittest import mock

import numpy as np
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from discreet.errors import (
    BudgetExceeded,
    DiscreetError,
    LedgerCorrupted,
    LedgerError,
    NotAllowed,
    ReleaseConflict,
    SettingError,
)
from discreet.governance import journal as journal_module
from discreet.governance import ledger as ledger_module
from discreet.governance.checks import stamp
from discreet.governance.journal import GENESIS, Head, chained
from discreet.governance.ledger import Account, Ledger, Reservation
from discreet.governance.sqlite import SQLite
from discreet.privacy import accounting

DELTA = 1e-6
TRAIN, TRENDS = Account("movies", "train"), Account("movies", "trends")
SHOP, CHOICES = Account("shop", "train"), Account("shop", "trending", by_interaction=True)
CAP, PERSON_CAP = accounting.cap(2.0, DELTA), accounting.cap(1.0, DELTA)
LOWER = {epsilon: accounting.cap(epsilon, DELTA) for epsilon in (0.25, 0.5, 1.5)}
CAPS = {epsilon: accounting.cap(epsilon, DELTA) for epsilon in (1.0, 2.0, 2.5, 4.0)}
SPEC, OTHER = hashlib.sha256(b"plan").hexdigest(), hashlib.sha256(b"another").hexdigest()
PEOPLE = ("ann", "bob", "1")
BEGINS = datetime(2024, 1, 1, tzinfo=UTC)
ENDS = BEGINS + timedelta(days=40)

steps = 0
"""How many were done in this process."""


def counted() -> None:
    """Count a step."""
    global steps  # noqa: PLW0603 - hypothesis makes the machines: there is nowhere else to count
    steps += 1


class Crash(BaseException):
    """The process dies within a transaction."""


@dataclass(frozen=True)
class Asked:
    """A release as it is asked for; ``prices`` are in the order of ``crowd``."""

    account: Account
    cost: int
    spec: str
    crowd: tuple[str | int, ...] | None
    prices: tuple[int, ...] | None

    @property
    def people(self) -> set[str] | None:
        """Who is named, a number and its text being one."""
        return None if self.crowd is None else set(map(str, self.crowd))

    def price(self, person: str) -> int:
        """What one of them is held for."""
        if self.prices is None or self.crowd is None:
            return self.cost
        return dict(zip(map(str, self.crowd), self.prices, strict=True))[person]

    def terms(self) -> dict[str, Any]:
        """Arguments of `Ledger.reserve`."""
        prices = None if self.prices is None else np.array(self.prices, np.int64)
        people = None if self.crowd is None else list(self.crowd)
        return {"cost": self.cost, "spec": self.spec, "people": people, "prices": prices}


@dataclass
class Made:
    """A release of the model."""

    asked: Asked
    admitted: set[str] | None
    state: str = "reserved"
    used: Mapping[str, int] | None = None

    def units(self, person: str, *, settled: bool) -> int:
        """What somebody is held for, or has spent."""
        if self.admitted is not None and person not in self.admitted:
            return 0
        if settled and self.used is not None:
            return self.used[person]
        return self.asked.price(person) if self.admitted is not None else self.asked.cost


@dataclass
class Model:
    """What the ledger should do, in plain sums over plain lists."""

    releases: dict[str, Made] = field(default_factory=dict)
    own: dict[tuple[str, str], int] = field(default_factory=dict)
    caps: dict[Account, int] = field(default_factory=dict)
    over: bool = False

    def most(self, account: Account) -> int:
        """The cap of an account."""
        return self.caps.get(account, CAP)

    def spent(self, account: Account) -> int:
        """The costs of an account's releases."""
        return sum(made.asked.cost for made in self.releases.values() if made.asked.account == account)

    def units(self, dataset: str, person: str, *, settled: bool) -> int:
        """What somebody is held for in a data set, or has spent."""
        of = [made for made in self.releases.values() if made.asked.account.dataset == dataset]
        return sum(made.units(person, settled=settled) for made in of if not made.asked.account.by_interaction)

    def cap(self, dataset: str, person: str) -> int | None:
        """What somebody may be held for."""
        caps = [PERSON_CAP] if dataset == "movies" else []
        caps += [self.own[dataset, person]] if (dataset, person) in self.own else []
        return min(caps, default=None)

    def capped(self, dataset: str) -> bool:
        """Whether anybody has a cap."""
        return dataset == "movies" or any(of == dataset for of, _ in self.own)

    def reserve(self, name: str, asked: Asked) -> type[DiscreetError] | None:
        """Reserve, or return the error that is due."""
        if name in self.releases:
            return None if self._is_same(self.releases[name], asked) else ReleaseConflict
        ended = self.over and asked.account == SHOP
        if ended or self.spent(asked.account) + asked.cost > self.most(asked.account):
            return BudgetExceeded
        if asked.people is None:
            if self.capped(asked.account.dataset):
                return SettingError
            self.releases[name] = Made(asked, None)
            return None
        able = {person for person in asked.people if self._is_able(asked, person)}
        if not able:
            return BudgetExceeded
        self.releases[name] = Made(asked, able)
        return None

    def _is_able(self, asked: Asked, person: str) -> bool:
        cap = self.cap(asked.account.dataset, person)
        held = self.units(asked.account.dataset, person, settled=False)
        return cap is None or held + asked.price(person) <= cap

    def _is_same(self, made: Made, asked: Asked) -> bool:
        was = made.asked
        same = (was.account, was.cost, was.spec, was.people) == (asked.account, asked.cost, asked.spec, asked.people)
        if not same or made.state == "abandoned" or (was.prices is None) != (asked.prices is None):
            return False
        return all(was.price(person) == asked.price(person) for person in made.admitted or ())


ACCOUNTS = st.sampled_from([TRAIN, TRENDS, SHOP, CHOICES])
COSTS = st.sampled_from([1, PERSON_CAP // 2, PERSON_CAP // 2 + 1, PERSON_CAP, CAP // 2, CAP, CAP + 1, 2**64])
SHARES = st.sampled_from([1, 2, 3, 1_000])
HASHES = st.sampled_from([SPEC, OTHER])


@st.composite
def requests(draw: st.DrawFn) -> Asked:
    """Draw what may be asked for."""
    account, cost = draw(ACCOUNTS), draw(COSTS)
    if account == CHOICES or draw(st.integers(0, 5)) == 0:
        return Asked(account, cost, draw(HASHES), None, None)
    crowd: tuple[str | int, ...] = tuple(
        draw(st.lists(st.sampled_from(["ann", "bob", 1, "1"]), min_size=1, max_size=4))
    )
    prices = None
    if cost < 2**53 and len(set(map(str, crowd))) == len(crowd) and draw(st.booleans()):
        prices = tuple(max(1, cost // draw(SHARES)) for _ in crowd)
    return Asked(account, cost, draw(HASHES), crowd, prices)


class LedgerAgainstModel(RuleBasedStateMachine):
    """Two connections, retries, overflows, prices, ends in any order, an end of the budget, crashes within a step."""

    names = st.sampled_from("abcdef")
    through = st.integers(0, 1)

    def __init__(self) -> None:
        super().__init__()
        self.folder, self.time, self.model = Path(tempfile.mkdtemp()), BEGINS, Model()
        self.clocks = [mock.patch.object(module, "now", self._now) for module in (ledger_module, journal_module)]
        for clock in self.clocks:
            clock.start()
        self.place = self.new_place()
        self.ledgers = [Ledger(self.place) for _ in range(2)]
        terms: dict[Account, dict[str, Any]] = {TRAIN: {"person_epsilon": 1.0}, SHOP: {"until": stamp(ENDS)}}
        for account in (TRAIN, TRENDS, SHOP, CHOICES):
            self.ledgers[0].open_budget(account, epsilon=2.0, delta=DELTA, **terms.get(account, {}))
        self.heads: list[Head] = []

    def new_place(self) -> str | Path:
        """Return where the next ledger is to lie."""
        return self.folder / "ledger.db"

    def _now(self) -> str:
        return stamp(self.time)

    def teardown(self) -> None:
        """All fits in the end, to every head that was kept on the way."""
        try:
            for head in [None, *self.heads]:
                assert self.ledgers[0].verify(expected_head=head).ok
        finally:
            for ledger in self.ledgers:
                ledger.close()
            for clock in self.clocks:
                clock.stop()
            shutil.rmtree(self.folder)

    def due(self, error: type[DiscreetError] | None, act: Callable[[], Any]) -> Any:
        """Do something; it ends in that error and no other, or in none."""
        counted()
        if error is None:
            return act()
        try:
            act()
        except error:
            return None
        raise AssertionError(f"{error.__name__} was due")

    @rule(name=names, asked=requests(), through=through)
    def reserve(self, name: str, asked: Asked, through: int) -> None:
        """Reserve, anew or again."""
        error = self.model.reserve(name, asked)
        made: Reservation | None = self.due(
            error, lambda: self.ledgers[through].reserve(asked.account, release=name, **asked.terms())
        )
        if made is None:
            return
        admitted = self.model.releases[name].admitted
        told = None if made.admitted is None else made.admitted.tolist()
        assert told == (None if admitted is None else [str(person) in admitted for person in asked.crowd or ()])
        assert (made.artefact or made.state) == self.model.releases[name].state

    @precondition(lambda self: self.model.releases)
    @rule(data=st.data(), change=st.sampled_from(["nothing", "order", "prices", "spec", "cost"]), through=through)
    def ask_again(self, data: st.DataObject, change: str, through: int) -> None:
        """Reserve again, on the same terms or on nearly the same."""
        name = data.draw(st.sampled_from(sorted(self.model.releases)))
        asked = self.model.releases[name].asked
        match change:
            case "order" if asked.crowd is not None and asked.prices is None:
                asked = replace(asked, crowd=asked.crowd[::-1])
            case "prices" if asked.prices is not None:
                asked = replace(asked, prices=tuple(max(1, price // 2) for price in asked.prices))
            case "spec":
                asked = replace(asked, spec=OTHER if asked.spec == SPEC else SPEC)
            case "cost":
                asked = replace(asked, cost=asked.cost + 1)
        self.reserve(name, asked, through)

    @rule(name=names, asked=requests(), through=through)
    def crash_while_reserving(self, name: str, asked: Asked, through: int) -> None:
        """Die before the row is written: whatever it would have come to, nothing has happened."""
        counted()
        ledger = self.ledgers[through]
        with mock.patch.object(ledger.journal, "append", side_effect=Crash), suppress(Crash, DiscreetError):
            ledger.reserve(asked.account, release=name, **asked.terms())
        self.reopen(through)

    @rule(name=names, artefact=HASHES, through=through)
    def commit(self, name: str, artefact: str, through: int) -> None:
        """Commit without telling what was used."""
        made = self.model.releases.get(name)
        error = ReleaseConflict if made is None or made.state == "abandoned" else None
        winner = self.due(error, lambda: self.ledgers[through].commit(name, artefact))
        if made is not None and error is None:
            made.state = artefact if made.state == "reserved" else made.state
            assert winner == made.state

    @precondition(lambda self: any(made.admitted for made in self.model.releases.values()))
    @rule(data=st.data(), artefact=HASHES, through=through, share=st.sampled_from([0, 1, 2, 7]))
    def settle(self, data: st.DataObject, artefact: str, through: int, share: int) -> None:
        """Commit with what each used: a share of the price, or none; or, of share 7, more than they are held for."""
        names = [name for name, made in self.model.releases.items() if made.admitted and made.state != "abandoned"]
        if not names:
            return
        name = data.draw(st.sampled_from(sorted(names)))
        made, ledger = self.model.releases[name], self.ledgers[through]
        again = ledger.reserve(made.asked.account, release=name, **made.asked.terms())
        given = [str(person) for person in made.asked.crowd or () if made.admitted and str(person) in made.admitted]
        if len(set(given)) < len(given):  # somebody is given twice; then what each used has no order to be told in
            return
        used = {
            person: made.asked.price(person) + 1 if share == 7 else made.asked.price(person) // (share or 2**60)
            for person in given
        }
        again.use(np.array([used[person] for person in given], np.int64))
        error = SettingError if share == 7 and made.state == "reserved" else None
        self.due(error, lambda: ledger.commit(name, artefact, again.used))
        if error is None and made.state == "reserved":
            made.state, made.used = artefact, used

    @rule(name=names, through=through)
    def abandon(self, name: str, through: int) -> None:
        """Give up."""
        made = self.model.releases.get(name)
        error = None if made is not None and made.state == "reserved" else ReleaseConflict
        self.due(error, lambda: self.ledgers[through].abandon(name))
        if made is not None and error is None:
            made.state = "abandoned"

    @rule(name=names, through=through)
    def crash_while_ending(self, name: str, through: int) -> None:
        """Die before the row is written."""
        counted()
        with mock.patch.object(self.ledgers[through].journal, "append", side_effect=Crash):
            for end in (lambda: self.ledgers[through].commit(name, OTHER), lambda: self.ledgers[through].abandon(name)):
                with suppress(Crash, DiscreetError):
                    end()
        self.reopen(through)

    @rule(
        dataset=st.sampled_from(["movies", "shop"]),
        person=st.sampled_from(["ann", 1]),
        epsilon=st.sampled_from([*LOWER]),
    )
    def limit(self, dataset: str, person: str | int, epsilon: float) -> None:
        """Lower somebody's own cap."""
        cap, held = LOWER[epsilon], self.model.cap(dataset, str(person))
        error = LedgerError if held is not None and cap > held else None
        self.due(error, lambda: self.ledgers[0].limit_person(dataset, person, epsilon=epsilon, delta=DELTA))
        if error is None and cap != held:
            self.model.own[dataset, str(person)] = cap

    @rule(account=ACCOUNTS, epsilon=st.sampled_from([*CAPS]), other=st.sampled_from(["ann", "bob"]), through=through)
    def raise_cap(self, account: Account, epsilon: float, other: str, through: int) -> None:
        """Have ann and another raise a cap: it never falls, and what has ended is not revived."""
        cap, had = CAPS[epsilon], self.model.most(account)
        error: type[DiscreetError] | None = None
        if other == "ann":
            error = NotAllowed
        elif cap < had or (cap > had and self.model.over and account == SHOP):
            error = LedgerError
        self.due(error, lambda: self.ledgers[through].raise_cap(account, epsilon=epsilon, by=["ann", other]))
        if error is None:
            self.model.caps[account] = cap

    @rule(account=ACCOUNTS, through=through)
    def crash_while_raising(self, account: Account, through: int) -> None:
        """Die before the row is written."""
        counted()
        ledger = self.ledgers[through]
        with mock.patch.object(ledger.journal, "append", side_effect=Crash), suppress(Crash, DiscreetError):
            ledger.raise_cap(account, epsilon=4.0, by=["ann", "bob"])
        self.reopen(through)

    @rule(days=st.sampled_from([1, 30]))
    def wait(self, days: int) -> None:
        """Let time pass, perhaps beyond the end of a budget."""
        counted()
        self.time += timedelta(days=days)
        self.model.over = self.time >= ENDS

    @rule(through=through)
    def reopen(self, through: int) -> None:
        """Close a connection, and open another one."""
        counted()
        self.ledgers[through].close()
        self.ledgers[through] = Ledger(self.place, create=False)

    @rule(through=through)
    def keep_head(self, through: int) -> None:
        """Note down where the journal ends."""
        counted()
        self.heads.append(self.ledgers[through].journal.head())

    @invariant()
    def agrees(self) -> None:
        """Both tell the same of every budget, release and person."""
        told = {state.account: state for state in self.ledgers[1].accounts()}
        for account, state in told.items():
            spent = self.model.spent(account)
            over = self.model.over and account == SHOP
            most = self.model.most(account)
            assert (state.cap, state.spent, state.left) == (most, spent, 0 if over else most - spent)
        for dataset in ("movies", "shop"):
            for person in PEOPLE:
                spent = self.ledgers[0].person(dataset, person).spent
                assert spent == self.model.units(dataset, person, settled=True)


class JournalAgainstEditor(RuleBasedStateMachine):
    """The ledger writes; somebody edits a copy of its file. Untouched it verifies, edited it does not."""

    terms: ClassVar[dict[str, Any]] = {"cost": 1, "spec": SPEC, "people": ["ann", "bob"]}

    def __init__(self) -> None:
        super().__init__()
        self.folder, self.made = Path(tempfile.mkdtemp()), 0
        self.ledger = Ledger(self.folder / "ledger.db")
        self.ledger.open_budget(TRAIN, epsilon=2.0, delta=DELTA, person_epsilon=1.0)

    def teardown(self) -> None:
        """Close."""
        self.ledger.close()
        shutil.rmtree(self.folder)

    @rule(kind=st.sampled_from(["commit", "abandon", "wait"]))
    def release(self, kind: str) -> None:
        """Reserve, and perhaps end it: one row or two."""
        counted()
        name, self.made = f"r{self.made}", self.made + 1
        self.ledger.reserve(TRAIN, release=name, **self.terms)
        if kind == "commit":
            self.ledger.commit(name, OTHER)
        elif kind == "abandon":
            self.ledger.abandon(name)

    @rule()
    def refuse(self) -> None:
        """Ask for too much: a row that no table tells of."""
        counted()
        try:
            self.ledger.reserve(TRAIN, release="too much", **self.terms | {"cost": CAP + 1})
        except BudgetExceeded:
            return
        raise AssertionError("more was granted than there is")

    def edited(self, edit: Callable[[sqlite3.Connection], object]) -> bool:
        """Let somebody edit a copy, and put the rules back; tell whether that is found, given the head."""
        counted()
        path, head = self.folder / "copy.db", self.ledger.journal.head()
        path.unlink(missing_ok=True)
        with closing(sqlite3.connect(path, isolation_level=None)) as copy:
            assert isinstance(self.ledger._db, SQLite)
            self.ledger._db._connection.backup(copy)
            copy.execute("PRAGMA journal_mode = DELETE")
            copy.execute("PRAGMA synchronous = OFF")
            rules = copy.execute("SELECT name, sql FROM sqlite_schema WHERE name LIKE 'journal_%' AND type = 'trigger'")
            for name, sql in rules.fetchall():
                copy.execute(f"DROP TRIGGER {name}")
                self._rules[name] = sql
            edit(copy)
            for sql in self._rules.values():
                copy.execute(sql)
        try:
            with Ledger(path, create=False) as ledger:
                return not ledger.verify(expected_head=head).ok
        except LedgerCorrupted:
            return True

    _rules: ClassVar[dict[str, str]] = {}

    @rule()
    def leave_alone(self) -> None:
        """What nobody touched verifies, also as a copy."""
        assert self.ledger.verify(expected_head=self.ledger.journal.head()).ok
        assert not self.edited(lambda _: None)

    def row(self, data: st.DataObject) -> int:
        """Draw a row."""
        return data.draw(st.integers(0, self.ledger.journal.head().seq))

    @rule(data=st.data(), in_body=st.booleans())
    def flip_a_bit(self, data: st.DataObject, in_body: bool) -> None:
        """Any bit of any row."""
        row = self.row(data)

        def flip(copy: sqlite3.Connection) -> None:
            query = "SELECT CAST(body AS BLOB), CAST(hash AS BLOB) FROM journal WHERE seq = ?"
            body, digest = map(bytearray, copy.execute(query, (row,)).fetchone())
            flipped = body if in_body else digest
            bit = data.draw(st.integers(0, 8 * len(flipped) - 1))
            flipped[bit // 8] ^= 1 << bit % 8
            copy.execute("UPDATE journal SET body = CAST(? AS TEXT), hash = ? WHERE seq = ?", (body, digest, row))

        assert self.edited(flip)

    @rule(data=st.data())
    def cut_off(self, data: st.DataObject) -> None:
        """The last rows, so many."""
        row = self.row(data)
        assert self.edited(lambda copy: copy.execute("DELETE FROM journal WHERE seq >= ?", (row,)))

    @rule(data=st.data())
    def take_out(self, data: st.DataObject) -> None:
        """One row, the later ones moving up."""
        row = self.row(data)

        def take(copy: sqlite3.Connection) -> None:
            copy.execute("DELETE FROM journal WHERE seq = ?", (row,))
            copy.execute("UPDATE journal SET seq = -seq WHERE seq > ?", (row,))
            copy.execute("UPDATE journal SET seq = -seq - 1 WHERE seq < 0")

        assert self.edited(take)

    @rule(data=st.data())
    def swap(self, data: st.DataObject) -> None:
        """Two rows change places, hashes and all."""
        one, other = self.row(data), self.row(data)
        if one != other:
            moves = ((-1, one), (one, other), (other, -1))
            assert self.edited(lambda copy: copy.executemany("UPDATE journal SET seq = ? WHERE seq = ?", moves))

    @rule(data=st.data())
    def write_anew(self, data: st.DataObject) -> None:
        """Leave a row out and chain all later ones anew: found by the head that was kept elsewhere."""
        row = self.row(data)

        def write(copy: sqlite3.Connection) -> None:
            bodies = [body for seq, body in copy.execute("SELECT seq, CAST(body AS BLOB) FROM journal") if seq != row]
            copy.execute("DELETE FROM journal")
            previous = GENESIS
            for seq, body in enumerate(bodies):
                previous = chained(previous, seq, body)
                copy.execute("INSERT INTO journal VALUES (?, CAST(? AS TEXT), ?)", (seq, body, previous))

        assert self.edited(write)


MACHINES: dict[str, type[RuleBasedStateMachine]] = {"ledger": LedgerAgainstModel, "journal": JournalAgainstEditor}


def main() -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=4_000, help="of each machine")
    parser.add_argument("--json", action="store_true", help="one JSON object at the end")
    asked = parser.parse_args()
    began, done = time.monotonic(), {}
    checks = [HealthCheck.too_slow, HealthCheck.filter_too_much]
    budget = settings(
        max_examples=asked.runs, stateful_step_count=50, deadline=None, database=None, suppress_health_check=checks
    )
    for name, machine in MACHINES.items():
        before = steps
        run_state_machine_as_test(machine, settings=budget)
        done[name] = steps - before
        sys.stderr.write(f"{done[name]:,} steps of the {name}\n")
    if asked.json:
        seconds = round(time.monotonic() - began, 1)
        print(json.dumps({"runs": asked.runs, "steps": done, "broken": 0, "seconds": seconds}))
    else:
        told = ", ".join(f"{many:,} steps of the {name}" for name, many in done.items())
        print(f"state machines: {asked.runs:,} runs of each, {told}, 0 broken")
    return 0


if __name__ == "__main__":
    sys.exit(main())
