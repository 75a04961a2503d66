"""The ledger against a plain model of it."""

import hashlib
import shutil
import tempfile
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from discreet.errors import (
    BudgetExceeded,
    DiscreetError,
    LedgerError,
    ReleaseConflict,
)
from discreet.governance.ledger import Account, Ledger
from discreet.privacy import accounting

DELTA = 1e-6
TRAIN = Account("movies", "train")
TRENDS = Account("movies", "trends")
CAP = accounting.cap(2.0, DELTA)
PERSON_CAP = accounting.cap(1.0, DELTA)
SPEC = hashlib.sha256(b"plan").hexdigest()
OTHER = hashlib.sha256(b"another").hexdigest()


class LedgerAgainstModel(RuleBasedStateMachine):
    """Two connections, retries, overflows, ends in any order: the ledger does what thirty plain lines do."""

    names = st.sampled_from("abcdef")
    accounts = st.sampled_from([TRAIN, TRENDS])
    crowds = st.lists(st.sampled_from(["ann", "bob", 1, "1"]), min_size=1, max_size=4)
    costs = st.sampled_from([1, PERSON_CAP // 2, PERSON_CAP // 2 + 1, PERSON_CAP, CAP // 2, CAP, CAP + 1, 2**64])
    hashes = st.sampled_from([SPEC, OTHER])

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        self.ledgers = [Ledger(self.folder / "ledger.db") for _ in range(2)]
        self.spent = {TRAIN: 0, TRENDS: 0}
        for account in self.spent:
            self.ledgers[0].open_budget(account, epsilon=2.0, delta=DELTA, person_epsilon=1.0)
        self.caps: dict[str, int] = dict.fromkeys(("ann", "bob", "1"), PERSON_CAP)
        self.people: dict[str, int] = dict.fromkeys(self.caps, 0)
        self.releases: dict[str, tuple[Account, int, str, set[str]]] = {}
        self.admitted: dict[str, set[str]] = {}
        self.states: dict[str, str] = {}

    def teardown(self) -> None:
        assert self.ledgers[0].verify().ok
        for ledger in self.ledgers:
            ledger.close()
        shutil.rmtree(self.folder)

    def expected(self, name: str, asked: tuple[Account, int, str, set[str]]) -> type[DiscreetError] | None:
        account, cost, _, people = asked
        if name in self.releases:
            return None if self.releases[name] == asked and self.states[name] != "abandoned" else ReleaseConflict
        able = {person for person in people if self.people[person] + cost <= self.caps[person]}
        if self.spent[account] + cost > CAP or not able:
            return BudgetExceeded
        self.releases[name], self.admitted[name], self.states[name] = asked, able, "reserved"
        self.spent[account] += cost
        for person in able:
            self.people[person] += cost
        return None

    @rule(name=names, account=accounts, cost=costs, spec=hashes, crowd=crowds, through=st.integers(0, 1))
    def reserve(self, name: str, account: Account, cost: int, spec: str, crowd: list[str | int], through: int) -> None:
        error = self.expected(name, (account, cost, spec, set(map(str, crowd))))
        if error is not None:
            with pytest.raises(error):
                self.ledgers[through].reserve(account, cost=cost, release=name, spec=spec, people=crowd)
            return
        made = self.ledgers[through].reserve(account, cost=cost, release=name, spec=spec, people=crowd)
        assert made.admitted is not None
        assert made.admitted.tolist() == [str(person) in self.admitted[name] for person in crowd]
        assert (made.artefact or made.state) == self.states[name]

    @rule(name=names, artefact=hashes, through=st.integers(0, 1))
    def commit(self, name: str, artefact: str, through: int) -> None:
        if self.states.get(name, "abandoned") == "abandoned":
            with pytest.raises(ReleaseConflict):
                self.ledgers[through].commit(name, artefact)
            return
        if self.states[name] == "reserved":
            self.states[name] = artefact
        assert self.ledgers[through].commit(name, artefact) == self.states[name]

    @rule(name=names, through=st.integers(0, 1))
    def abandon(self, name: str, through: int) -> None:
        if self.states.get(name) != "reserved":
            with pytest.raises(ReleaseConflict):
                self.ledgers[through].abandon(name)
            return
        self.ledgers[through].abandon(name)
        self.states[name] = "abandoned"

    @rule(person=st.sampled_from(["ann", 1]), epsilon=st.sampled_from([0.25, 0.5, 1.5]))
    def limit(self, person: str | int, epsilon: float) -> None:
        cap = accounting.cap(epsilon, DELTA)
        if cap > self.caps[str(person)]:
            with pytest.raises(LedgerError):
                self.ledgers[0].limit_person("movies", person, epsilon=epsilon, delta=DELTA)
            return
        self.ledgers[0].limit_person("movies", person, epsilon=epsilon, delta=DELTA)
        self.caps[str(person)] = cap

    @rule(through=st.integers(0, 1))
    def reopen(self, through: int) -> None:
        self.ledgers[through].close()
        self.ledgers[through] = Ledger(self.folder / "ledger.db", create=False)

    @invariant()
    def agrees(self) -> None:
        assert {state.account: state.spent for state in self.ledgers[1].accounts()} == self.spent
        assert {person: self.ledgers[0].person_spent("movies", person) for person in self.people} == self.people


TestAgainstModel = LedgerAgainstModel.TestCase
TestAgainstModel.settings = settings(max_examples=35, stateful_step_count=30, deadline=None)
