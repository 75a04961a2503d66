"""What the journal tells of people, keys and matters: whatever is changed otherwise is named, with or without a key."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from unittest import mock

import pytest
from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test
from sqlalchemy import delete, insert, select, text, update
from systems import RECOMMEND, TRAIN, System, inventory, system

from discreet.data import vault
from discreet.data.catalogue import Catalogue
from discreet.errors import Conflict, ConsentMissing, DataError, KeyMissing, NotAllowed, SettingError
from discreet.governance import access, consent, duties, grants, motions, policy, schema
from discreet.governance.access import Access
from discreet.governance.checks import stamp
from discreet.governance.consent import PERMITTING, SERVICE
from discreet.governance.inventory import example
from discreet.governance.journal import Journal
from discreet.governance.keys import Master, new_key
from discreet.governance.ledger import Account, Ledger
from discreet.governance.matters import Matters
from discreet.governance.motions import Member
from discreet.governance.replay import Problem
from discreet.governance.roles import Permission, Role
from discreet.governance.verification import Verification
from discreet.privacy.levels import Level

s, d, h, a, m = (table.c for table in (schema.standing, schema.document, schema.holder, schema.access, schema.matter))
GONE = "is gone from the tables"
OTHER = "is not what the journal tells"


@dataclass
class Used:
    """A service that was used: ann, bob and cleo agreed, bob withdrew, cleo was erased."""

    shop: System
    master: Master

    def verified(self, *, opened: bool = True) -> Verification:
        return Ledger(self.shop.database).verify(wrapping=self.master if opened else None)

    def problems(self, *, opened: bool = True) -> list[Problem]:
        return self.verified(opened=opened).problems

    def row_of(self, kind: str, **facts: Any) -> int:
        """Return the last row of a kind, with these facts."""
        rows = [
            entry.seq
            for entry in self.shop.journal.rows()
            if entry.kind == kind and facts.items() <= entry.facts.items()
        ]
        return rows[-1]

    def token(self, person: str) -> str:
        return self.shop.holders.token(self.shop.who(person))

    def of(self, person: str, purpose: str = TRAIN) -> Any:
        return (s.pseudonym == self.shop.who(person)) & (s.purpose == purpose)

    def do(self, statement: Any, **values: object) -> None:
        self.shop.database.execute(statement, **values)


@pytest.fixture
def used(place: str | Path) -> Iterator[Used]:
    master = Master([new_key()])
    with system(place, master) as shop:
        shop.agree("ann", "bob", "cleo", level=Level.STRONG)
        shop.send(("ann", "a"), ("bob", "b"), ("cleo", "c"))
        shop.consents.withdraw("bob", TRAIN)
        shop.access.make(Role.OPERATOR, "app")
        for person in ("ann", "cleo"):
            shop.access.make(Role.PERSON, "app", pseudonym=shop.who(person), days=1)
        shop.vault.erase(shop.who("cleo"))
        policy.put(shop.matters, example("shop"), by="first start")
        shop.duties.begin("ann")
        shop.motions.ask(Permission.RAISE_CAP, {"name": "x"}, Member("ann", Role.OWNER))
        shop.incidents.record({}, by="ann")
        grant = shop.grants.open(shop.grants.subject("ann"), "safety", ["events"], 1, by=["ann", "bob"])
        shop.grants.use(grant.name, "ann", by="bob")
        shop.matters.open("job", "scheduled", {}, by="ann")
        shop.matters.open("erasure", "pending", {}, by="person")
        yield Used(shop, master)


def test_nothing_is_found_where_nothing_was_done(used: Used) -> None:
    assert (used.problems(), used.problems(opened=False)) == ([], [])
    assert [used.verified(opened=opened).consents for opened in (True, False)] == ["opened", "counted"]


def test_without_people_nothing_is_said_of_consents(place: str | Path) -> None:
    with system(place) as shop:
        assert Ledger(shop.database).verify().consents is None


@pytest.mark.parametrize("kind", ["duty", "erasure", "grant", "incident", "job", "motion", "policy", "setting"])
@pytest.mark.parametrize("column", ["state", "due", "body", "name", None])
def test_a_matter_that_was_changed_is_named_with_its_row(used: Used, kind: str, column: str | None) -> None:
    name = used.shop.database.one(select(m.name).where(m.kind == kind))
    assert name is not None
    one = (m.kind == kind) & (m.name == name[0])
    row = used.row_of("items") if kind == "setting" else used.row_of(kind, name=name[0])
    wrong = {"state": "other", "due": "2020-01-01T00:00:00Z", "body": '{"hidden":"words"}', "name": "another"}
    if column is None:
        used.do(delete(schema.matter).where(one))
    else:
        used.do(update(schema.matter).where(one).values({column: wrong[column]}))
    problems = used.problems(opened=False)
    assert problems[0].row == row
    assert problems[0].what == f"a matter of kind {kind} {OTHER if column in {'state', 'due', 'body'} else GONE}"
    assert "hidden" not in str(problems)
    assert [problem.row for problem in problems[1:]] == ([None] if column == "name" else [])


def test_a_matter_that_no_row_tells_of_is_named(used: Used) -> None:
    used.do(insert(schema.matter).values(kind="grant", name="x", state="open", body="{}"))
    assert used.problems() == [Problem(None, "a matter of kind grant is in the tables, no row tells of it")]


@pytest.mark.parametrize(
    ("role", "change"),
    [
        ("operator", {"role": "owner"}),
        ("operator", {"verifier": "sha256:0"}),
        ("operator", {"owner": "another"}),
        ("operator", {"until": "2999-01-01T00:00:00Z"}),
        ("operator", {"until": None}),
        ("operator", {"made": "2020-01-01T00:00:00Z"}),
        ("person", {"pseudonym": b"-" * 16}),
        ("person", None),
    ],
)
def test_a_key_that_was_changed_is_named_with_its_row(used: Used, role: str, change: dict[str, Any] | None) -> None:
    name = used.shop.database.one(select(a.name).where(a.role == role))
    assert name is not None
    one = a.name == name[0]
    used.do(delete(schema.access).where(one) if change is None else update(schema.access).where(one).values(**change))
    (problem,) = used.problems(opened=False)
    assert problem.row == used.row_of("access", key=name[0])
    assert problem.what == f"the key or account {name[0]} {GONE if change is None else OTHER}"


def test_a_key_that_was_added_is_named(used: Used) -> None:
    row: dict[str, Any] = {
        "name": "x",
        "verifier": "sha256:0",
        "role": "owner",
        "owner": "eve",
        "made": "2026-01-01T00:00:00Z",
    }
    row["mac"] = b""
    used.do(insert(schema.access).values(**row))
    assert used.problems(opened=False) == [Problem(None, "the key or account x is in the tables, no row tells of it")]
    used.shop.access.take("x")
    assert [problem.what for problem in used.problems()] == ["takes away the key x, which was not there"]


def test_a_key_that_is_made_again_is_named(used: Used) -> None:
    (name,) = (key.name for key in used.shop.access.all() if key.role == "operator")
    facts = used.shop.journal.linked(used.row_of("access", key=name)).facts
    with used.shop.database.transaction():
        row = used.shop.journal.append("access", **facts)
    assert used.problems() == [Problem(row, f"makes the key {name} a second time")]


def test_nothing_of_a_key_joins_with_whose_it_was(used: Used) -> None:
    """A row tells of somebody's key by a digest of what only the key's own row holds."""
    rows = [entry for entry in used.shop.journal.rows() if entry.kind == "access"]
    made = [entry.facts for entry in rows if entry.facts["role"] == "person"]
    told = str([entry.facts for entry in rows])
    assert len({facts["stored"] for facts in made}) == 2
    assert used.shop.who("ann").hex() not in told
    assert used.token("ann") not in told
    assert [entry.facts["role"] for entry in rows] == ["operator", "person", "person", None]  # cleo's ended with her


def test_keys_that_were_over_are_tidied_on_record(used: Used, monkeypatch: pytest.MonkeyPatch) -> None:
    before = used.shop.journal.head()
    used.shop.access.tidy()
    assert used.shop.journal.head() == before
    monkeypatch.setattr(access, "now", lambda: "2999-01-01T00:00:00Z")
    used.shop.access.tidy()
    assert len(used.shop.access) == 0
    assert used.problems() == []


def test_whoever_was_never_held_loses_their_keys_on_record(used: Used) -> None:
    used.shop.access.make(Role.PERSON, "app", pseudonym=used.shop.who("dan"), days=1)
    assert used.shop.vault.erase(used.shop.who("dan")) is None
    assert used.shop.access.of(used.shop.who("dan")) == []
    assert used.problems() == []


def test_a_model_may_be_gone_once_it_was_retired_on_record(used: Used, tmp_path: Path) -> None:
    account, book = Account("shop", TRAIN), Ledger(used.shop.database)
    book.open_budget(account, epsilon=1.0, delta=1e-6)
    for release in ("first", "second"):
        book.reserve(account, cost=1, release=release, spec="0" * 64)
        book.commit(release, "0" * 64)
        used.shop.matters.open("job", "done", {}, by="discreet", name=release)
    used.shop.matters.move("job", "first", ["done"], "retired", by="discreet")
    (problem,) = book.verify(artefacts=tmp_path).problems
    assert problem.what == "the artefact of release second is gone or was changed"


def test_an_item_that_was_changed_is_named(used: Used) -> None:
    used.do(update(schema.item).where(schema.item.c.id == "b").values(id="z"))
    assert used.problems() == [Problem(used.row_of("items"), f"the catalogue {OTHER}")]
    used.shop.vault.set_items(Catalogue(("a", "c", "z")), hide_others=True)
    assert used.problems() == []


@pytest.mark.parametrize(
    "change",
    [
        {"state": "ConsentGiven"},
        {"quarters": 4},
        {"until": "2999-01-01T00:00:00Z"},
        {"seq": 0},
        {"mac": bytes(32)},
        {"state": "ConsentGiven", "until": "2999-01-01T00:00:00Z", "quarters": 4},
    ],
)
def test_a_consent_that_was_switched_is_named_with_its_row(used: Used, change: dict[str, Any]) -> None:
    used.do(update(schema.standing).where(used.of("bob")).values(**change))
    row = used.row_of("consent", who=used.token("bob"), purpose=TRAIN)
    assert used.problems() == [Problem(row, f"a consent to {TRAIN} {OTHER}")]
    counted = used.problems(opened=False)
    assert bool(counted) is bool({"state", "quarters"} & {*change})
    assert all(problem.row is None and problem.what.startswith(f"consents to {TRAIN} that are") for problem in counted)


def test_an_old_row_put_back_is_named_also_if_the_journal_tells_of_it_again(used: Used) -> None:
    shop, columns = used.shop, [column.name for column in schema.standing.columns]
    shop.agree("dan", purposes=[TRAIN])
    row = shop.database.one(select(schema.standing).where(used.of("dan")))
    assert row is not None
    first = shop.journal.linked(used.row_of("consent", who=used.token("dan")))
    shop.consents.withdraw("dan", TRAIN)
    used.do(update(schema.standing).where(used.of("dan")).values(**dict(zip(columns, row, strict=True))))
    last = used.row_of("consent", who=used.token("dan"))
    assert used.problems() == [Problem(last, f"a consent to {TRAIN} {OTHER}")]
    with shop.database.transaction():
        again = shop.journal.append("consent", at=first.at, **first.facts)
    assert used.problems() == [Problem(again, f"a consent to {TRAIN} {OTHER}")]
    assert used.problems(opened=False) == []  # whoever compares with the key finds it


def test_two_peoples_rows_that_were_swapped_are_named(used: Used) -> None:
    for person, to in (("ann", b"-" * 16), ("bob", used.shop.who("ann")), (b"-" * 16, used.shop.who("bob"))):
        whose = used.shop.who(person) if isinstance(person, str) else person
        if to == b"-" * 16:
            used.do(insert(schema.holder).values(pseudonym=to, wrapped=b""))
        used.do(update(schema.standing).where((s.pseudonym == whose) & (s.purpose == TRAIN)).values(pseudonym=to))
    used.do(delete(schema.holder).where(h.pseudonym == b"-" * 16))
    rows = sorted(used.row_of("consent", who=used.token(person), purpose=TRAIN) for person in ("ann", "bob"))
    assert used.problems() == [Problem(row, f"a consent to {TRAIN} {OTHER}") for row in rows]


def test_a_consent_that_is_gone_or_added_is_named(used: Used) -> None:
    row = used.row_of("consent", who=used.token("bob"), purpose=RECOMMEND)
    used.do(delete(schema.standing).where(used.of("bob", RECOMMEND)))
    assert used.problems() == [Problem(row, f"a consent to {RECOMMEND} {GONE}")]
    used.do(delete(schema.standing).where(used.of("bob", TRAIN)))
    assert len(used.problems()) == 2
    values = {
        "pseudonym": used.shop.who("bob"),
        "state": "ConsentGiven",
        "quarters": 4,
        "seq": 0,
        "mac": b"",
        "terms": "",
    }
    used.do(insert(schema.standing).values(purpose="sell\n", **values))
    assert used.problems()[-1] == Problem(None, "a consent to 'sell\\n' is in the tables, no row tells of it")
    assert Problem(
        None, "consents to 'sell\\n' that are ConsentGiven at level light: 1 in the tables, 0 by the journal"
    ) in used.problems(opened=False)


@pytest.mark.parametrize(
    "statement",
    [
        delete(schema.document).where(d.seq == 0),
        update(schema.document).where(d.seq == 0).values(content=b"other"),
        update(schema.document).where(d.seq == 0).values(kind="opened"),
        update(schema.document).where(d.seq == 0).values(seq=9),
    ],
)
def test_a_record_that_was_changed_is_named(used: Used, statement: Any) -> None:
    used.do(statement.where(d.pseudonym == used.shop.who("ann")))
    row = used.row_of("consent", who=used.token("ann"), purpose=RECOMMEND)
    assert used.problems() == [Problem(row, f"the record of a consent to {RECOMMEND} is gone or was changed")]


RECORD_GONE, LOOK_GONE = (
    f"the record of a consent to {TRAIN} is gone or was changed",
    "the note that staff looked is gone",
)


@pytest.mark.parametrize("content", [None, b"other"])
def test_a_record_of_before_or_a_look_that_is_gone_or_changed_is_named(used: Used, content: bytes | None) -> None:
    bob, ann, first = used.shop.who("bob"), used.shop.who("ann"), used.row_of("consent", state="ConsentGiven")
    look = used.row_of("look", who=used.token("ann"))
    used.shop.grants.desk(bob, ["consents"])
    desk = used.row_of("desk", who=used.token("bob"))
    before = [entry.seq for entry in used.shop.journal.rows() if entry.facts.get("who") == used.token("bob")][1]
    assert before < first
    for one in (
        (d.pseudonym == bob) & (d.seq == 1),
        (d.pseudonym == ann) & (d.seq == 2),
        (d.pseudonym == bob) & (d.seq == 3),
    ):
        document = schema.document
        used.do(delete(document).where(one) if content is None else update(document).where(one).values(content=content))
    assert used.problems() == [
        Problem(before, RECORD_GONE),
        *(Problem(row, f"{LOOK_GONE} or was changed") for row in (look, desk)),
    ]
    assert used.problems(opened=False) == []  # which shows with the master key


def test_a_document_that_no_row_tells_of_is_named(used: Used) -> None:
    ann = used.shop.who("ann")
    with used.shop.database.transaction():
        used.shop.consents.documents.keep(ann, "opened", {}, used.shop.holders.hold(ann))
    added = [Problem(None, "a document of somebody is in the tables, no row tells of it")]
    assert used.problems() == added
    used.do(update(schema.document).where((d.pseudonym == ann) & (d.seq == 3)).values(content=b"does not open"))
    assert used.problems() == added


def test_a_document_of_nobody_hides_nobody_elses(used: Used, place: str | Path) -> None:
    database = used.shop.database
    if isinstance(place, Path):
        database.execute(text("PRAGMA foreign_keys = OFF"))
    else:
        database.execute(text("ALTER TABLE document DROP CONSTRAINT document_pseudonym_fkey"))
    for pseudonym in (bytes(16), b"\xff" * 16):
        used.do(insert(schema.document).values(pseudonym=pseudonym, seq=0, kind="opened", content=b""))
    of_the_database = "2 table rows refer to rows that are gone"
    assert [each for each in used.problems() if each.row != 0 and each.what != of_the_database] == []


def test_a_look_at_nobody_is_named(used: Used) -> None:
    with used.shop.database.transaction():
        row = used.shop.journal.append("look", name="x", by="eve", who="0" * 32, record="0" * 64)
        nonsense = used.shop.journal.append("desk", who=used.token("ann"), record=None)
    assert used.problems() == [
        Problem(row, "tells of a look at somebody of whom no row tells"),
        Problem(nonsense, "is not an event of this version"),
    ]


def test_a_step_of_what_was_changed_is_named(used: Used) -> None:
    """Also if the row fits again since."""
    shop, duty = used.shop, (m.kind == "duty") & (m.name == "review-inventory")
    used.do(update(schema.matter).where(duty).values(due="2999-01-01T00:00:00Z"))
    shop.duties.done("review-inventory", by="ann", found="nothing")
    goes_on = Problem(
        used.row_of("duty", name="review-inventory"), "goes on with a duty that was not as the rows before tell"
    )
    assert used.problems(opened=False) == [goes_on]
    used.do(delete(schema.matter).where(duty))
    shop.duties.begin("ann")
    begins = Problem(used.row_of("duty", name="review-inventory"), "begins a duty that was not as the rows before tell")
    assert used.problems(opened=False) == [goes_on, begins]


def forget(used: Used, person: str) -> None:
    for table in (schema.event, schema.history, schema.standing, schema.document, schema.holder):
        used.do(delete(table).where(table.c.pseudonym == used.shop.who(person)))


def test_somebody_who_is_gone_or_came_from_nowhere_is_named(used: Used) -> None:
    last = used.row_of("consent", who=used.token("bob"))
    forget(used, "bob")
    assert used.problems() == [Problem(last, "whoever this row tells of is not held any more")]
    assert len(used.problems(opened=False)) == 2
    with used.shop.database.transaction():
        used.shop.holders.hold(used.shop.who("dan"))
    assert used.problems()[1:] == [Problem(None, "somebody is held of whom no row tells")]


def test_a_key_that_was_changed_is_named_until_its_person_is_erased(used: Used) -> None:
    row = used.row_of("consent", who=used.token("bob"))
    used.do(update(schema.holder).where(h.pseudonym == used.shop.who("bob")).values(wrapped=b"other"))
    assert used.problems() == [
        Problem(row, "whoever this row tells of is not held any more"),
        Problem(None, "the key of somebody who is held was changed"),
    ]
    used.shop.vault.erase(used.shop.who("bob"))
    assert (used.problems(), used.problems(opened=False)) == ([], [])
    forget(used, "ann")  # one such erasure explains one who is missing, not two
    assert used.problems()
    assert used.problems(opened=False)


def test_an_erasure_of_somebody_who_was_never_there_is_named(used: Used) -> None:
    with used.shop.database.transaction():
        row = used.shop.journal.append("erase", who="0" * 32, events="0")
    assert used.problems() == [Problem(row, "erases somebody of whom no row tells")]


def test_a_consent_of_nobody_is_named(used: Used, place: str | Path) -> None:
    database = used.shop.database
    if isinstance(place, Path):
        database.execute(text("PRAGMA foreign_keys = OFF"))
    else:
        database.execute(text("ALTER TABLE standing DROP CONSTRAINT standing_pseudonym_fkey"))
    values = {
        "pseudonym": b"-" * 16,
        "purpose": TRAIN,
        "state": "ConsentGiven",
        "quarters": 4,
        "seq": 0,
        "mac": b"",
        "terms": "",
    }
    used.do(insert(schema.standing).values(**values))
    assert Problem(None, f"a consent to {TRAIN} is in the tables, of nobody who is held") in used.problems()


def test_another_master_key_and_a_changed_keyring(used: Used) -> None:
    with pytest.raises(KeyMissing, match="give the file"):
        Ledger(used.shop.database).verify(wrapping=Master([new_key()]))
    wrapped = used.master.current + bytes(60)
    used.do(update(schema.keyring).where(schema.keyring.c.name == "people").values(wrapped=wrapped))
    (row,) = [entry.seq for entry in used.shop.journal.rows() if entry.facts.get("name") == "people"]
    assert used.problems() == [Problem(row, "the key people of the keyring is not the one that was made")]
    assert used.problems(opened=False) == []  # whether it opens shows with the master key


def test_nothing_is_compared_with_a_broken_journal(used: Used, path: Path) -> None:
    assert path.exists()
    for (name,) in list(used.shop.database.each(text("SELECT name FROM sqlite_schema WHERE type = 'trigger'"))):
        used.do(text(f"DROP TRIGGER {name}"))
    used.do(text("UPDATE journal SET body = replace(body, 'consent', 'dissent') WHERE seq = 8"))
    assert [problem.row for problem in used.problems()] == [8]


def test_neither_mac_of_a_consent_joins_the_journal_with_a_person(used: Used) -> None:
    told = {entry.facts["stands"] for entry in used.shop.journal.rows() if entry.kind == "consent"}
    held = {bytes(row[0]).hex() for row in used.shop.database.each(select(s.mac))}
    assert len(told) == 7
    assert len(held) == 4
    assert not told & held
    assert all(re.fullmatch("[0-9a-f]{64}", each) for each in told | held)


def test_a_key_of_the_master_key_can_be_another_meanwhile(used: Used, place: str | Path) -> None:
    both = used.master.rotated()
    with System(place, both, inventory(), deadline=5) as shop:
        list(shop.holders.rotate())
        shop.agree("dan")
    used.master = both.forgotten()
    assert used.problems() == []


PEOPLE, PURPOSES, DAYS = st.sampled_from(["ann", "bob", "cleo"]), st.sampled_from([RECOMMEND, TRAIN]), [0.1, 1, 300]
STAFF = st.sampled_from(["eve", "fay"])


class Service(RuleBasedStateMachine):
    """Whatever is asked of the records, in whatever order: the journal tells of it, and verification finds nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.stack = ExitStack()
        folder = self.stack.enter_context(TemporaryDirectory())
        self.master, self.place, self.later = Master([new_key()]), Path(folder) / "discreet.db", timedelta(0)
        self.looked = dict[int, str]()
        self.shop = self.stack.enter_context(system(self.place, self.master))
        clock = self.stack.enter_context(pytest.MonkeyPatch.context())
        for module in (access, consent, vault, motions, duties, grants):
            clock.setattr(module, "now", self.now)
        clock.setattr(grants, "stamp", lambda time: stamp(time + self.later))

    def now(self, days: float = 0) -> str:
        return stamp(datetime.now(UTC) + self.later + timedelta(days=days))

    def teardown(self) -> None:
        self.stack.close()

    @rule(person=PEOPLE, purpose=PURPOSES, level=st.sampled_from(Level), gpc=st.booleans())
    def agree(self, person: str, purpose: str, level: Level, gpc: bool) -> None:
        self.shop.consents.give(person, purpose, level=level, gpc=gpc)

    @rule(person=PEOPLE, purpose=PURPOSES, withdraws=st.booleans())
    def disagree(self, person: str, purpose: str, withdraws: bool) -> None:
        (self.shop.consents.withdraw if withdraws else self.shop.consents.refuse)(person, purpose)

    @rule(person=PEOPLE, items=st.lists(st.sampled_from("abcdef"), min_size=1, max_size=4))
    def choose(self, person: str, items: list[str]) -> None:
        self.shop.send(*((person, item) for item in items))

    @rule(person=PEOPLE, purpose=PURPOSES, level=st.sampled_from(Level), gpc=st.booleans())
    def change(self, person: str, purpose: str, level: Level, gpc: bool) -> None:
        with suppress(Conflict, ConsentMissing):
            self.shop.consents.change_as(self.shop.who(person), purpose, level=level, gpc=gpc)

    @rule(person=PEOPLE, purpose=PURPOSES, asked=st.booleans())
    def wait(self, person: str, purpose: str, asked: bool) -> None:
        with suppress(Conflict, ConsentMissing):
            self.shop.consents.wait_as(self.shop.who(person), purpose, asked=asked)

    @rule(person=PEOPLE, removed=st.sampled_from("abc"), added=st.sampled_from("def"))
    def correct(self, person: str, removed: str, added: str) -> None:
        with suppress(ConsentMissing, DataError):
            self.shop.vault.correct(self.shop.who(person), remove=[removed], add=[(added, None)])

    @rule(person=PEOPLE, damaged=st.booleans())
    def erase(self, person: str, damaged: bool) -> None:
        who = self.shop.who(person)
        if damaged:
            self.shop.database.execute(update(schema.holder).where(h.pseudonym == who).values(wrapped=b"damaged"))
        self.shop.vault.erase(who)

    @rule(person=st.none() | PEOPLE, owner=STAFF, days=st.sampled_from(DAYS))
    def make_a_key(self, person: str | None, owner: str, days: float) -> None:
        whose = None if person is None else self.shop.who(person)
        self.shop.access.make(Role.PERSON if person else Role.OPERATOR, owner, pseudonym=whose, days=days)

    @rule(name=STAFF)
    def sign_up_and_in(self, name: str) -> None:
        with mock.patch.object(access, "_hasher") as hasher, suppress(SettingError, NotAllowed):
            hasher.return_value.hash.return_value = "$argon2"
            self.shop.access.sign_up(name, Role.OWNER, "x" * 12)
            self.shop.access.sign_in(name, "x" * 12)

    @rule(number=st.integers(0, 3), account=st.none() | STAFF)
    def take_a_key(self, number: int, account: str | None) -> None:
        names = [key.name for key in self.shop.access.all()]
        self.shop.access.take(account or [*names, *"none"][number % (len(names) + 1)])

    @rule(days=st.sampled_from(DAYS))
    def time_goes_by(self, days: float) -> None:
        self.later += timedelta(days=days)
        self.shop.access.tidy()
        list(self.shop.vault.retain())
        self.whoever_is_held_has_not_left()

    @rule(items=st.sets(st.sampled_from("abcdefgh"), min_size=1), hide=st.booleans())
    def list_items(self, items: set[str], hide: bool) -> None:
        self.shop.vault.set_items(Catalogue(tuple(sorted({*items, *"abcdef"}))), hide_others=hide)

    @rule(person=PEOPLE, by=STAFF, looks=st.booleans())
    def grant(self, person: str, by: str, looks: bool) -> None:
        grant = self.shop.grants.open(self.shop.grants.subject(person), "safety", ["events"], 1, by=["eve", "fay"])
        with suppress(NotAllowed):
            if looks:
                self.shop.grants.use(grant.name, person, by=by)
                self.looked[self.shop.journal.head().seq] = self.now()
            self.shop.grants.close(grant.name, "nothing", by=by)

    @rule(person=PEOPLE)
    def look_at_the_desk(self, person: str) -> None:
        with suppress(SettingError):
            self.shop.grants.desk(self.shop.who(person), ["consents"])
            self.looked[self.shop.journal.head().seq] = self.now()

    @rule(agrees=st.booleans())
    def move(self, agrees: bool) -> None:
        motion = self.shop.motions.ask(Permission.RAISE_CAP, {}, Member("eve", Role.OWNER))
        if agrees:
            self.shop.motions.agree(motion.name, Member("fay", Role.OWNER), lambda _: {})
        else:
            self.shop.motions.refuse(motion.name, Member("fay", Role.OWNER))

    @rule(words=st.text(max_size=20))
    def put_a_policy_in_force(self, words: str) -> None:
        policy.put(self.shop.matters, example("shop") + f"# {words!r}", by="eve")

    @rule(name=st.sampled_from(sorted(duties.FIRST)))
    def do_a_duty(self, name: str) -> None:
        self.shop.duties.begin("eve")
        self.shop.duties.done(name, by="discreet", found="nothing")

    @rule()
    def rotate(self) -> None:
        both = self.master.rotated()
        with System(self.place, both, inventory(), deadline=5) as other:
            list(other.holders.rotate())
        self.master = both.forgotten()
        self.shop.close()
        self.shop, sent = self.stack.enter_context(system(self.place, self.master)), self.shop.sent
        self.shop.sent = sent

    @rule(purpose=PURPOSES)
    def read(self, purpose: str) -> None:
        with suppress(DataError):
            self.shop.vault.opened_for(purpose)
        list(self.shop.vault.handed_out(purpose))

    def whoever_is_held_has_not_left(self) -> None:
        """By the journal: whom retention erased had left, and of whom nothing was noted for ``logs_days`` is erased."""
        before, held = self.now(-self.shop.inventory.minimisation.logs_days), len(self.shop.holders)
        noted, permit = dict[str, str](), dict[str, dict[str, bool]]()
        for entry in self.shop.journal.rows():
            who: Any = entry.facts.get("who")
            if entry.kind == "consent":
                permit.setdefault(who, {})[entry.facts["purpose"]] = entry.facts["state"] in map(str, PERMITTING)
            if entry.kind in {"consent", "look", "desk"}:
                noted[who] = self.looked.get(entry.seq, entry.at)
            if entry.kind == "erase" and who is not None:
                assert entry.facts["by"] != SERVICE or not (any(permit[who].values()) or noted[who] > before)
                del noted[who], permit[who]
        damaged = sum(entry.kind == "erase" and entry.facts["who"] is None for entry in self.shop.journal.rows())
        assert len(noted) == held + damaged
        left = [who for who, time in noted.items() if time < before and not any(permit[who].values())]
        assert len(left) <= damaged

    @invariant()
    def nothing_is_found(self) -> None:
        for wrapping in (self.master, None):
            found = Ledger(self.shop.database).verify(wrapping=wrapping)
            assert not found.problems
        assert not [entry for entry in self.shop.journal.rows() if entry.kind == "doubt"]


TestService = Service.TestCase
TestService.settings = settings(max_examples=15, stateful_step_count=25, deadline=None)


@pytest.mark.parametrize(
    ("where", "what"),
    [
        (Access, "_take"),
        (Access, "tidy"),
        (Matters, "_put"),
        (consent, "bound"),
        (consent.Documents, "latest"),
    ],
)
def test_a_fault_is_found(where: object, what: str) -> None:
    """The machine can fail: a step that the tables have and the journal has not, and the like."""
    good = getattr(where, what)

    def faulty(*told: Any, **named: Any) -> Any:
        if what == "bound":  # a MAC that covers nothing of what stands
            return good(told[0], [], *told[2:])
        if what == "latest":  # nobody ever leaves
            return {"at": "9"}
        with mock.patch.object(Journal, "append", return_value=0):
            return good(*told, **named)

    class Faulty(Service):
        pass

    with mock.patch.object(where, what, faulty), pytest.raises((AssertionError, ExceptionGroup)):
        run_state_machine_as_test(
            Faulty,
            settings=settings(max_examples=200, stateful_step_count=20, deadline=None, database=None,
                              phases=[Phase.generate], derandomize=True),
        )  # fmt: skip
