"""The journal, told again: what the tables should hold, and what in the journal breaks the protocol."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from discreet.errors import LedgerCorrupted
from discreet.governance.accounts import Account, AccountRow
from discreet.governance.charges import Units
from discreet.governance.checks import sha256
from discreet.governance.journal import Entry
from discreet.governance.pacing import Pace
from discreet.governance.persons import Crowd, Tally
from discreet.governance.releases import ReleaseRow
from discreet.governance.schema import VERSION
from discreet.governance.tables import ACCESS, CATALOGUE, MATTER, PERSON, RULES, SECRETS, Key, digest_of

FIRST = "2"
"""The version of ledgers whose row 0 does not tell theirs."""


@dataclass(frozen=True, slots=True)
class Problem:
    """Something that does not fit, and the journal row it shows at (None: no row tells of it)."""

    row: int | None
    what: str


NOTED = frozenset({"collect", "correct", "desk-key", "doubt", "forget-report", "hand-out", "head", "retain", "rotate"})
"""What the journal tells beside what the tables hold: nothing of it is added up again."""
MATTERS = ("duty", "erasure", "grant", "incident", "job", "motion", "policy")
"""Kinds of matters: each step of one is a row of its kind."""

ENDED = {
    "erasure": ("completed",),
    "grant": ("open", "closed"),  # open: when its time is over
    "incident": ("IncidentConcluded",),
    "job": ("cancelled", "failed", "retired"),
    "motion": ("agreed", "lapsed", "refused"),
}
"""Kinds of matters that are forgotten, and the states in which they may be."""

Event: TypeAlias = "Callable[[Entry], str | None]"
"""What takes a row, and returns what is wrong with it."""


class Replay:
    """An account of everything, by the journal alone.

    Args:
        cohort: looks up people by their digest.
        charge: looks up units of each of them by theirs.
        others: take the rows of other kinds.
    """

    def __init__(
        self, cohort: Callable[[str], Crowd], charge: Callable[[str], Units], others: Mapping[str, Event]
    ) -> None:
        self.rows, self._version = 0, 0
        self.problems: list[Problem] = []
        self._cohort, self._charge = cohort, charge
        self._budgets: dict[str, AccountRow] = {}
        self._paces: dict[str, Pace | None] = {}
        self._releases: dict[str, ReleaseRow] = {}
        self._tallies: defaultdict[str, Tally] = defaultdict(Tally)
        self._told: dict[Key, tuple[object, int]] = {}  # what it should be, and the row that last changed it
        self._keys: dict[str, str] = {}  # until when each is
        self._retired: set[str] = set()  # releases whose artefacts were deleted
        self._kinds: dict[str, Event] = {
            "create": self._create,
            "upgrade": self._upgrade,
            "open": self._open,
            "raise": self._raise,
            "pace": self._set_pace,
            "limit": self._limit,
            "reserve": self._reserve,
            "refuse": self._refuse,
            "commit": self._commit,
            "abandon": self._abandon,
            "access": self._access,
            "items": self._list,
            "forget": self._forget,
            **dict.fromkeys(MATTERS, self._step),
            **others,
        }

    def apply(self, entry: Entry) -> None:
        """Take the next row."""
        self.rows += 1
        try:
            wrong = None if entry.kind in NOTED else self._kinds[entry.kind](entry)
        except (KeyError, TypeError, ValueError, OverflowError, AttributeError, LedgerCorrupted):
            wrong = "is not an event of this version"
        if wrong:
            self.problems.append(Problem(entry.seq, wrong))

    def _create(self, entry: Entry) -> str | None:
        self._told[RULES] = entry.facts["rules"], entry.seq
        self._told[SECRETS] = entry.facts["secrets"], entry.seq
        self._version = int(entry.facts.get("version", FIRST))
        return None if entry.seq == 0 else "creates the ledger a second time"

    def _upgrade(self, entry: Entry) -> str | None:
        """Take the rules of another version, once for each; the key of the pseudonyms stays."""
        before, after = int(entry.facts["from"]), int(entry.facts["version"])
        if before != self._version or not before < after <= VERSION:
            return f"upgrades the ledger to version {after}, which had version {self._version}"
        self._told[RULES], self._version = (entry.facts["rules"], entry.seq), after
        same = self._told[SECRETS][0] == entry.facts["secrets"]
        return None if same else "changes the key of the pseudonyms"

    def _open(self, entry: Entry) -> str | None:
        opened = AccountRow.opened(entry.facts)
        if opened.name in self._budgets or opened.spent:
            return f"opens budget {opened.name} a second time"
        self._tallies[opened.dataset].cap_everybody(opened.person_cap)
        contradicted = any(opened.contradicts(other) for other in self._budgets.values())
        self._put_budget(opened, entry)
        return f"opens budget {opened.name} beside others of another unit" if contradicted else None

    def _raise(self, entry: Entry) -> str | None:
        facts, budget = entry.facts, self._budgets.get(entry.facts["name"])
        if budget is None:
            return f"raises the cap of budget {facts['name']}, which is not open"
        raised, people = budget.raised(facts), {facts["asked_by"], facts["agreed_by"]}
        if int(facts["was"]) != budget.cap or raised.cap <= budget.cap or raised.epsilon < budget.epsilon:
            return f"sets a cap of budget {budget.name} that is not above the one it had"
        self._put_budget(raised, entry)
        if len(people) < 2 or not all(isinstance(name, str) and name for name in people):
            return f"raises the cap of budget {budget.name} without two people"
        return f"raises the cap of budget {budget.name}, which had ended" if budget.ended_at(entry.at) else None

    def _set_pace(self, entry: Entry) -> str | None:
        budget, pace = self._budgets.get(entry.facts["name"]), Pace.told(entry.facts)
        if budget is None:
            return f"sets a pace for budget {entry.facts['name']}, which is not open"
        self._paces[budget.name] = pace
        return "sets a pace from a sum that was not what was spent" if pace and pace.base != budget.spent else None

    def _limit(self, entry: Entry) -> str | None:
        dataset, pseudonym, cap = entry.facts["dataset"], entry.facts["pseudonym"], int(entry.facts["cap"])
        self._told[PERSON, dataset, pseudonym] = cap, entry.seq
        fell = self._tallies[dataset].cap_one(bytes.fromhex(pseudonym), cap)
        return None if fell else "raises a person's cap"

    def _reserve(self, entry: Entry) -> str | None:
        facts = entry.facts
        release = ReleaseRow(facts["release"], facts["account"], int(facts["cost"]), *_pick(facts))
        budget = self._budgets.get(release.account)
        if budget is None:
            return f"spends from budget {release.account}, which is not open"
        if release.name in self._releases:
            return f"reserves {release.name} a second time"
        if not 0 < release.cost <= budget.left_at(entry.at):
            return f"spends more from budget {release.account} than is left"
        for kind, digest in (("cohort", release.cohort), ("charge", release.prices)):
            if digest is not None:
                self._told.setdefault((kind, digest), (digest, entry.seq))
        self._put_budget(budget._replace(spent=budget.spent + release.cost), entry)
        self._put_release(release, entry)
        return self._keeps_personal_caps(budget.dataset, release) or self._keeps_pace(budget, release.cost, entry.at)

    def _keeps_pace(self, before: AccountRow, cost: int, time: str) -> str | None:
        pace = self._paces.get(before.name)
        fits = pace is None or cost <= pace.next_cost(time, before.cap, before.spent)
        return None if fits else f"spends from budget {before.name} faster than its pace allowed then"

    def _keeps_personal_caps(self, dataset: str, release: ReleaseRow) -> str | None:
        tally = self._tallies[dataset]
        if release.cohort is None:
            cost = 0 if Account.named(release.account).by_interaction else release.cost
            return None if tally.spend(cost, None) else f"names nobody of {dataset}, where people have caps"
        try:
            members = self._cohort(release.cohort)
            costs = self._held(release)
        except LedgerCorrupted:
            return None  # the comparison with the tables names it
        if np.shape(costs) not in {(), members.shape} or np.max(costs) > release.cost:
            return f"holds somebody of {release.name} for more than it costs, or names prices of other people"
        return None if tally.spend(costs, members) else f"admits somebody to {release.name} above their own cap"

    def _held(self, release: ReleaseRow) -> int | Units:
        return release.cost if release.prices is None else self._charge(release.prices)

    def _refuse(self, entry: Entry) -> str | None:
        asked, left, account = int(entry.facts["cost"]), int(entry.facts["left"]), entry.facts["account"]
        return None if account in self._budgets and asked > left else f"refuses what budget {account} had left"

    def _commit(self, entry: Entry) -> str | None:
        used = entry.facts["used"]
        if used is not None:
            self._told.setdefault(("charge", used), (used, entry.seq))
        return self._end(entry, "committed", entry.facts["artefact"], used) or self._keeps_prices(entry, used)

    def _keeps_prices(self, entry: Entry, used: str | None) -> str | None:
        release = self._releases[entry.facts["release"]]
        try:
            fits = used is None or self._fits(self._charge(used), release)
        except LedgerCorrupted:
            return None  # the comparison with the tables names it
        return None if fits else f"settles {release.name} above what somebody is held for, or for other people"

    def _fits(self, used: Units, release: ReleaseRow) -> bool:
        held = self._held(release)
        people = 0 if release.cohort is None else len(self._cohort(release.cohort))
        return used.shape == (people,) and np.shape(held) in {(), used.shape} and bool(np.all(used <= held))

    def _abandon(self, entry: Entry) -> str | None:
        return self._end(entry, "abandoned", None, None)

    def _end(self, entry: Entry, state: str, artefact: str | None, used: str | None) -> str | None:
        release = self._releases.get(entry.facts["release"])
        if release is None or release.state != "reserved":
            return f"ends release {entry.facts['release']}, which is not reserved"
        self._put_release(release._replace(state=state, artefact=artefact, used=used), entry)
        return None

    def _step(self, entry: Entry) -> str | None:
        """Take a step of a matter, which goes on from what was told of it last."""
        facts, key = entry.facts, (MATTER, entry.kind, entry.facts["name"])
        if entry.kind == "job" and facts["state"] in {"retired", "failed"}:
            self._retired.add(facts["name"])
        stood: Any = self._told.get(key)
        was = facts["was"]
        self._told[key] = (facts["state"], facts["due"], facts["body"]), entry.seq
        if was == (None if stood is None else digest_of(stood[0])):
            return None
        return f"{'begins' if was is None else 'goes on with'} a {entry.kind} that was not as the rows before tell"

    def _forget(self, entry: Entry) -> str | None:
        """Take a matter that has ended out of what should be there."""
        kind, what = entry.facts["of"], f"forgets a matter of kind {shown(entry.facts['of'])} that"
        stood: Any = self._told.pop((MATTER, kind, entry.facts["name"]), None)
        if stood is None or entry.facts["was"] != digest_of(stood[0]):
            return f"{what} was not as the rows before tell"
        state, due, _ = stood[0]
        over = state in ENDED.get(kind, ()) and (state != "open" or due <= entry.at)
        return None if over else f"{what} has not ended"

    def _list(self, entry: Entry) -> str | None:
        self._told[CATALOGUE] = entry.facts["items"], entry.seq
        self._told[MATTER, "setting", "items"] = (str(entry.seq), None, sha256(b"{}")), entry.seq
        return None

    def _access(self, entry: Entry) -> str | None:
        """Take a key that is made; or one that is taken away; or, where none is named, all that have ended."""
        name, known = entry.facts["key"], entry.facts["key"] in self._keys
        if entry.facts["role"] is not None:
            self._keys[name] = str(entry.facts["until"])
            self._told[ACCESS, name] = entry.facts["stored"], entry.seq
            return f"makes the key {name} a second time" if known else None
        if name is not None and not known:
            return f"takes away the key {name}, which was not there"
        for gone in [name] if known else [key for key, until in self._keys.items() if until <= entry.facts["until"]]:
            del self._keys[gone], self._told[ACCESS, gone]
        return None

    def _put_budget(self, budget: AccountRow, entry: Entry) -> None:
        self._budgets[budget.name] = budget
        self._told["budget", budget.name] = budget, entry.seq

    def _put_release(self, release: ReleaseRow, entry: Entry) -> None:
        self._releases[release.name] = release
        self._told["release", release.name] = release, entry.seq

    def differences(self, held: Iterable[tuple[Key, object]]) -> Iterator[Problem]:
        """Yield what the tables hold otherwise than the journal tells, each at the row that last told of it."""
        missing = dict(self._told)
        for key, value in held:
            told, row = missing.pop(key, (None, None))
            if told is None:
                yield Problem(None, f"{_label(key)} is in the tables, no row tells of it")
            elif told != value:
                yield Problem(row, f"{_label(key)} is not what the journal tells{_details(told, value)}")
        for key, (_, row) in missing.items():
            yield Problem(row, f"{_label(key)} is gone from the tables")

    def without_artefact(self, hashes: set[str]) -> Iterator[Problem]:
        """Yield the committed releases whose artefact is not among those hashes, and was not deleted on record."""
        for release in self._releases.values():
            if release.artefact is not None and release.artefact not in hashes and release.name not in self._retired:
                row = self._told["release", release.name][1]
                yield Problem(row, f"the artefact of release {release.name} is gone or was changed")


def _pick(facts: dict[str, Any]) -> tuple[str, str | None, str | None, str | None]:
    return facts["spec"], facts["asked"], facts["cohort"], facts["prices"]


def _label(key: Key) -> str:
    return shown(" ".join(map(str, key[:2])))  # a pseudonym or a name, third, stays out


def shown(value: object) -> str:
    """Return what the tables hold, as it is told: a forged name need not be text, and is still told on one line."""
    text = str(value)
    return text if text.isprintable() else ascii(text)


def _details(told: object, held: object) -> str:
    if not isinstance(told, AccountRow | ReleaseRow) or not isinstance(held, AccountRow | ReleaseRow):
        return ""
    pairs = zip(told._fields, told, held, strict=True)
    return "".join(f"; {name} is {is_!r}, not {was!r}" for name, was, is_ in pairs if was != is_)
