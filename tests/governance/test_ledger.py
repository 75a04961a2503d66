"""Budgets: what is charged, refused, remembered and noticed."""

import hashlib
import shutil
import sqlite3
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from discreet.errors import (
    AccountMissing,
    BudgetExceeded,
    DiscreetError,
    LedgerCorrupted,
    LedgerError,
    ReleaseConflict,
    SettingError,
)
from discreet.governance import ledger as module
from discreet.governance.journal import Head
from discreet.governance.ledger import Account, Ledger, publish, resume
from discreet.privacy import accounting

DELTA = 1e-6
TRAIN = Account("movies", "train")
TRENDS = Account("movies", "trends")
CAP = accounting.cap(2.0, DELTA)
PERSON_CAP = accounting.cap(1.0, DELTA)
SPEC = hashlib.sha256(b"plan").hexdigest()
OTHER = hashlib.sha256(b"another").hexdigest()
TELLING = "zaphod.beeblebrox@example.org"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ledger.db"


@pytest.fixture
def ledger(path: Path) -> Iterator[Ledger]:
    with Ledger(path, deadline=5) as opened:
        opened.open_budget(TRAIN, epsilon=2.0, delta=DELTA)
        yield opened


@pytest.fixture
def capped(ledger: Ledger) -> Ledger:
    ledger.open_budget(TRENDS, epsilon=8.0, delta=DELTA, person_epsilon=1.0)
    return ledger


def forge(path: Path, *statements: str) -> None:
    """Edit the file as an administrator could who leaves the rules as they were."""
    with closing(sqlite3.connect(path)) as shell, shell:
        rules = shell.execute("SELECT name, sql FROM sqlite_schema WHERE type = 'trigger'").fetchall()
        for name, _ in rules:
            shell.execute(f"DROP TRIGGER {name}")
        for statement in statements:
            shell.execute(statement)
        for _, sql in rules:
            shell.execute(sql)


# --- Budgets


def test_names_are_checked() -> None:
    for wrong in ("", "a/b", "a\nb", "a\x00", "x" * 201):
        with pytest.raises(SettingError):
            Account(wrong, "train")
        with pytest.raises(SettingError):
            Account("movies", wrong)
    assert str(Account("m" * 200, "ü p")) == "m" * 200 + "/ü p"


def test_open_budget(ledger: Ledger) -> None:
    state = ledger.account(TRAIN)
    assert (state.cap, state.spent, state.left, state.epsilon_spent, state.releases) == (CAP, 0, CAP, 0, 0)
    assert ledger.accounts() == [state]
    assert state.to_dict()["account"] == "movies/train"


def test_open_budget_twice(ledger: Ledger) -> None:
    rows = ledger.journal.head().seq
    assert ledger.open_budget(TRAIN, epsilon=2, delta=DELTA) == ledger.account(TRAIN)
    for epsilon, delta, person, until in (
        (3.0, DELTA, None, None),
        (1.0, DELTA, None, None),
        (2.0, 1e-7, None, None),
        (2.0, DELTA, 1.0, None),
        (2.0, DELTA, None, "2999-01-01"),
    ):
        with pytest.raises(LedgerError, match=r"already open with epsilon 2 .*new grant by two people"):
            ledger.open_budget(TRAIN, epsilon=epsilon, delta=delta, person_epsilon=person, until=until)
    assert ledger.journal.head().seq == rows


@pytest.mark.parametrize(("epsilon", "delta"), [(0.0, DELTA), (float("nan"), DELTA), (float("inf"), DELTA), (1.0, 0.0)])
def test_impossible_terms(ledger: Ledger, epsilon: float, delta: float) -> None:
    with pytest.raises(SettingError):
        ledger.open_budget(TRENDS, epsilon=epsilon, delta=delta)
    with pytest.raises(AccountMissing, match="discreet budget open"):
        ledger.account(TRENDS)


@pytest.mark.parametrize("until", ["tomorrow", "", "2001-01-01", "2027-13-01", "9999-12-31T23:59:59-12:00"])
def test_impossible_ends(ledger: Ledger, until: str) -> None:
    with pytest.raises(SettingError):
        ledger.open_budget(TRENDS, epsilon=1, delta=DELTA, until=until)


def test_budget_ends(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    ledger.open_budget(TRENDS, epsilon=2, delta=DELTA, until="2999-01-01T02:00:00+02:00")
    assert ledger.account(TRENDS).until == "2999-01-01T00:00:00Z"
    ledger.reserve(TRENDS, cost=5, release="before", spec=SPEC)
    monkeypatch.setattr(module, "now", lambda: "2999-01-01T00:00:00Z")
    assert ledger.account(TRENDS).left == 0
    with pytest.raises(BudgetExceeded, match=r"0 left until 2999-01-01 .*has ended") as refused:
        ledger.reserve(TRENDS, cost=5, release="after", spec=SPEC)
    assert (refused.value.left, refused.value.until) == (0, "2999-01-01T00:00:00Z")
    assert ledger.reserve(TRENDS, cost=5, release="before", spec=SPEC).state == "reserved"
    assert ledger.verify().ok


# --- Reserving


def test_reserve_charges_at_once(ledger: Ledger) -> None:
    cost: Any = np.int64(7)  # as numpy's sums give it
    reservation = ledger.reserve(TRAIN, cost=cost, release="r", spec=SPEC)
    assert (reservation.state, reservation.cost, reservation.artefact, reservation.admitted) == (
        "reserved",
        7,
        None,
        None,
    )
    assert ledger.account(TRAIN).spent == 7
    assert [state.to_dict()["release"] for state in ledger.releases(TRAIN)] == ["r"]


def test_refusal_says_all_and_charges_nothing(ledger: Ledger) -> None:
    ledger.reserve(TRAIN, cost=CAP - 10, release="r", spec=SPEC)
    with pytest.raises(
        BudgetExceeded, match=r"movies/train: epsilon .* asked, .* left \(units: 11 asked, 10 left\)"
    ) as no:
        ledger.reserve(TRAIN, cost=11, release="s", spec=SPEC)
    assert (no.value.account, no.value.asked, no.value.left, no.value.until) == ("movies/train", 11, 10, None)
    assert ledger.account(TRAIN).left == 10
    assert [state.release for state in ledger.releases()] == ["r"]
    last = list(ledger.journal.rows())[-1]
    assert (last.kind, last.facts["cost"], last.facts["left"]) == ("refuse", "11", "10")
    assert ledger.reserve(TRAIN, cost=10, release="s", spec=SPEC).state == "reserved"
    assert ledger.account(TRAIN).left == 0
    assert ledger.verify().ok


@pytest.mark.parametrize("cost", [2**53 + 1, 2**63, 10**40])
def test_absurd_costs_are_refused_typed(ledger: Ledger, cost: int) -> None:
    with pytest.raises(BudgetExceeded, match="above 1,000"):
        ledger.reserve(TRAIN, cost=cost, release="r", spec=SPEC)
    assert ledger.verify().ok


@pytest.mark.parametrize("cost", [0, -1, 1.0, "7", None])
def test_costs_that_are_none(ledger: Ledger, cost: int) -> None:
    with pytest.raises(SettingError):
        ledger.reserve(TRAIN, cost=cost, release="r", spec=SPEC)
    assert ledger.releases() == []


@pytest.mark.parametrize(("release", "spec"), [("", SPEC), ("a\nb", SPEC), ("r", "short"), ("r", SPEC.upper())])
def test_malformed_names(ledger: Ledger, release: str, spec: str) -> None:
    with pytest.raises(SettingError):
        ledger.reserve(TRAIN, cost=1, release=release, spec=spec)


def test_retry_is_charged_once(ledger: Ledger) -> None:
    first = ledger.reserve(TRAIN, cost=7, release="r", spec=SPEC, people=["a", "b"])
    again = ledger.reserve(TRAIN, cost=7, release="r", spec=SPEC, people=["b", "a", "a"])
    assert (again.state, again.cost) == (first.state, first.cost)
    assert again.admitted is not None
    assert again.admitted.tolist() == [True, True, True]
    assert ledger.account(TRAIN).spent == 7


def test_other_terms_conflict(ledger: Ledger) -> None:
    ledger.open_budget(TRENDS, epsilon=2, delta=DELTA)
    ledger.reserve(TRAIN, cost=7, release="r", spec=SPEC, people=["a", "b"])
    for account, cost, spec, people in (
        (TRENDS, 7, SPEC, ["a", "b"]),
        (TRAIN, 8, SPEC, ["a", "b"]),
        (TRAIN, 7, OTHER, ["a", "b"]),
        (TRAIN, 7, SPEC, ["a"]),
        (TRAIN, 7, SPEC, None),
    ):
        with pytest.raises(ReleaseConflict):
            ledger.reserve(account, cost=cost, release="r", spec=spec, people=people)
    assert (ledger.account(TRAIN).spent, ledger.account(TRENDS).spent) == (7, 0)


def test_first_commit_wins(ledger: Ledger) -> None:
    ledger.reserve(TRAIN, cost=7, release="r", spec=SPEC)
    assert ledger.artefact("r") is None
    assert ledger.commit("r", SPEC) == SPEC
    assert ledger.commit("r", OTHER) == SPEC
    again = ledger.reserve(TRAIN, cost=7, release="r", spec=SPEC)
    assert (again.state, again.artefact) == ("committed", SPEC)
    with pytest.raises(BudgetExceeded, match="committed"):
        again.draw(1)
    with pytest.raises(ReleaseConflict):
        ledger.abandon("r")
    with pytest.raises(ReleaseConflict):
        ledger.commit("unknown", SPEC)


def test_abandoned_stays_charged(ledger: Ledger) -> None:
    ledger.reserve(TRAIN, cost=7, release="r", spec=SPEC)
    ledger.abandon("r")
    assert ledger.account(TRAIN).spent == 7
    with pytest.raises(ReleaseConflict, match="abandoned"):
        ledger.reserve(TRAIN, cost=7, release="r", spec=SPEC)
    for end in (lambda: ledger.commit("r", SPEC), lambda: ledger.abandon("r"), lambda: ledger.abandon("unknown")):
        with pytest.raises(ReleaseConflict):
            end()
    assert ledger.verify().ok


def test_draws_stop_at_what_was_reserved(ledger: Ledger) -> None:
    reservation = ledger.reserve(TRAIN, cost=7, release="r", spec=SPEC)
    reservation.draw(3)
    with pytest.raises(BudgetExceeded) as refused:
        reservation.draw(5)
    assert (refused.value.asked, refused.value.left) == (5, 4)
    reservation.draw(4)
    reservation.draw(0)
    half: Any = 0.5
    for wrong in (-1, half):
        with pytest.raises(SettingError):
            reservation.draw(wrong)


# --- People


def test_people_must_be_named_where_they_have_caps(capped: Ledger) -> None:
    with pytest.raises(SettingError, match="people="):
        capped.reserve(TRAIN, cost=1, release="r", spec=SPEC)


def test_caps_leave_people_out_across_purposes(capped: Ledger) -> None:
    half = PERSON_CAP // 2 + 1
    assert capped.reserve(TRAIN, cost=half, release="1", spec=SPEC, people=["a", "b", 1]).cost == half
    mixed = capped.reserve(TRENDS, cost=half, release="2", spec=SPEC, people=["c", "a", "1", "c", 1])
    assert mixed.admitted is not None
    assert mixed.admitted.tolist() == [True, False, True, True, False]
    again = capped.reserve(TRENDS, cost=half, release="2", spec=SPEC, people=["c", "a", "1", "c", 1])
    assert again.admitted is not None
    assert again.admitted.tolist() == [True, False, True, True, False]
    spent = {person: capped.person_spent("movies", person) for person in ("a", "b", "c", 1, "1", "nobody")}
    assert spent == {"a": half, "b": half, "c": half, 1: half, "1": half, "nobody": 0}
    with pytest.raises(BudgetExceeded, match="none of the people") as refused:
        capped.reserve(TRENDS, cost=half, release="3", spec=SPEC, people=["a", "c"])
    assert refused.value.left == 0
    assert capped.account(TRENDS).spent == half
    exact = capped.reserve(TRENDS, cost=PERSON_CAP - half, release="4", spec=SPEC, people=["a"])
    assert exact.admitted is not None
    assert capped.person_spent("movies", "a") == PERSON_CAP
    assert capped.verify().ok


def test_releases_without_names_count_for_everybody(ledger: Ledger) -> None:
    ledger.reserve(TRAIN, cost=9, release="r", spec=SPEC)
    assert ledger.person_spent("movies", "anybody") == 9
    assert ledger.person_spent("other data", "anybody") == 0


def test_own_caps_only_fall(capped: Ledger) -> None:
    capped.limit_person("movies", TELLING, epsilon=0.5, delta=DELTA)
    rows = capped.journal.head().seq
    capped.limit_person("movies", TELLING, epsilon=0.5, delta=DELTA)
    assert capped.journal.head().seq == rows
    for person, epsilon in ((TELLING, 0.6), ("other", 1.1)):
        with pytest.raises(LedgerError, match="lowered"):
            capped.limit_person("movies", person, epsilon=epsilon, delta=DELTA)
    with pytest.raises(AccountMissing):
        capped.limit_person("music", TELLING, epsilon=0.5, delta=DELTA)
    cost = accounting.cap(0.5, DELTA)
    people = ["x", TELLING, "y"]
    whole = capped.reserve(TRENDS, cost=cost, release="1", spec=SPEC, people=people)
    part = capped.reserve(TRENDS, cost=1, release="2", spec=SPEC, people=people)
    assert whole.admitted is not None
    assert part.admitted is not None
    assert (whole.admitted.tolist(), part.admitted.tolist()) == ([True] * 3, [True, False, True])
    capped.limit_person("movies", TELLING, epsilon=0.01, delta=DELTA)
    assert capped.person_spent("movies", TELLING) == cost
    assert capped.verify().ok


def test_lowest_cap_of_a_data_set_holds(capped: Ledger) -> None:
    capped.limit_person("movies", "own", epsilon=0.9, delta=DELTA)
    lowest = accounting.cap(0.5, DELTA)
    for purpose, epsilon in (("lowest", 0.5), ("highest", 4.0)):
        capped.open_budget(Account("movies", purpose), epsilon=8.0, delta=DELTA, person_epsilon=epsilon)
    with pytest.raises(BudgetExceeded, match="none of the people"):
        capped.reserve(TRENDS, cost=lowest + 1, release="1", spec=SPEC, people=["own", "general"])
    exact = capped.reserve(TRENDS, cost=lowest, release="1", spec=SPEC, people=["own", "general"])
    assert exact.admitted is not None
    assert exact.admitted.tolist() == [True, True]


def test_data_sets_do_not_join(capped: Ledger) -> None:
    capped.open_budget(Account("music", "train"), epsilon=2, delta=DELTA)
    capped.reserve(TRAIN, cost=5, release="1", spec=SPEC, people=["a"])
    capped.reserve(Account("music", "train"), cost=7, release="2", spec=SPEC, people=["a"])
    assert [capped.person_spent(dataset, "a") for dataset in ("movies", "music")] == [5, 7]
    assert capped._db.one("SELECT COUNT(DISTINCT members) FROM cohort") == (2,)


def test_arrays_of_ids_are_their_values(capped: Ledger) -> None:
    capped.reserve(TRAIN, cost=PERSON_CAP, release="1", spec=SPEC, people=np.array([3, 4]))
    mixed: Any = [3, np.int64(4), 5, "3"]
    again = capped.reserve(TRENDS, cost=1, release="2", spec=SPEC, people=mixed)
    assert again.admitted is not None
    assert again.admitted.tolist() == [False, False, True, True]


@pytest.mark.parametrize("people", [[], [1.5], [None], [True], ["a", b"a"]])
def test_impossible_people(ledger: Ledger, people: list[str]) -> None:
    with pytest.raises(SettingError):
        ledger.reserve(TRAIN, cost=1, release="r", spec=SPEC, people=people)


def refusals(ledger: Ledger, person: str) -> Iterator[Callable[[], object]]:
    stray: Any = [person, 0.5]
    yield lambda: ledger.reserve(TRAIN, cost=CAP - 10, release="s", spec=SPEC, people=[person])
    yield lambda: ledger.reserve(TRAIN, cost=10 * CAP, release="s", spec=SPEC, people=[person])
    yield lambda: ledger.reserve(TRAIN, cost=6, release="r", spec=SPEC, people=[person])
    yield lambda: ledger.limit_person("movies", person, epsilon=0.9, delta=DELTA)
    yield lambda: ledger.reserve(TRAIN, cost=6, release="s", spec=SPEC, people=stray)


@pytest.mark.parametrize("person", [TELLING, TELLING + "\udcff"])
def test_nobody_can_be_read_from_file_or_errors(capped: Ledger, path: Path, person: str) -> None:
    capped.limit_person("movies", person, epsilon=0.5, delta=DELTA)
    capped.reserve(TRAIN, cost=5, release="r", spec=SPEC, people=[person])
    for refused in refusals(capped, person):
        with pytest.raises(DiscreetError) as error:
            refused()
        assert "zaphod" not in str(error.value)
        assert "\n" not in str(error.value)
    assert capped.verify().ok
    for file in path.parent.iterdir():
        assert b"zaphod" not in file.read_bytes().lower()


# --- Publishing


def test_publish_once(ledger: Ledger, tmp_path: Path) -> None:
    ledger.reserve(TRAIN, cost=7, release="r", spec=SPEC)
    with pytest.raises(LedgerError, match="no artefact yet"):
        resume(ledger, "r", tmp_path, "model")
    assert publish(ledger, "r", b"first", tmp_path, "model").read_bytes() == b"first"
    assert publish(ledger, "r", b"second", tmp_path, "model").read_bytes() == b"first"
    assert resume(ledger, "r", tmp_path, "model").read_bytes() == b"first"
    assert not list(tmp_path.glob(".candidate*"))
    assert ledger.verify(artefacts=tmp_path).ok


def test_loser_publishes_the_winner(ledger: Ledger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ledger.reserve(TRAIN, cost=7, release="r", spec=SPEC)
    commit = ledger.commit

    def overtaken(release: str, artefact: str) -> str:
        monkeypatch.setattr(ledger, "commit", commit)
        publish(ledger, "r", b"winner", tmp_path, "model")
        return commit(release, artefact)

    monkeypatch.setattr(ledger, "commit", overtaken)
    assert publish(ledger, "r", b"loser", tmp_path, "model").read_bytes() == b"winner"
    assert sorted(path.name for path in tmp_path.iterdir() if "ledger" not in path.name) == ["model"]


def test_other_files_are_never_overwritten(ledger: Ledger, tmp_path: Path) -> None:
    ledger.reserve(TRAIN, cost=7, release="r", spec=SPEC)
    (tmp_path / "model").write_bytes(b"a stranger")
    with pytest.raises(LedgerError, match="taken by another file"):
        publish(ledger, "r", b"mine", tmp_path, "model")
    assert ledger.artefact("r") is None
    assert (tmp_path / "model").read_bytes() == b"a stranger"
    for name in ("", ".hidden", "a/b", "..", "a\\b"):
        with pytest.raises(SettingError):
            publish(ledger, "r", b"mine", tmp_path, name)
    with pytest.raises(LedgerError, match="could not be written"):
        publish(ledger, "r", b"mine", tmp_path / "missing", "model")
    assert publish(ledger, "r", b"mine", tmp_path, "mine").read_bytes() == b"mine"


def test_lost_or_changed_artefacts_are_noticed(ledger: Ledger, tmp_path: Path) -> None:
    ledger.reserve(TRAIN, cost=7, release="r", spec=SPEC)
    target = publish(ledger, "r", b"mine", tmp_path, "model")
    target.write_bytes(b"yours")
    assert [problem.row for problem in ledger.verify(artefacts=tmp_path).problems] == [3]
    with pytest.raises(LedgerError, match="not the artefact"):
        resume(ledger, "r", tmp_path, "model")
    target.unlink()
    with pytest.raises(LedgerError, match="is gone"):
        resume(ledger, "r", tmp_path, "model")
    with pytest.raises(LedgerError, match="folder of artefacts"):
        ledger.verify(artefacts=tmp_path / "missing")


# --- The file


def test_durability_and_mode(ledger: Ledger, path: Path) -> None:
    assert path.stat().st_mode & 0o777 == 0o600
    database = ledger._db
    assert [database.setting(name) for name in ("journal_mode", "synchronous", "foreign_keys")] == ["wal", 2, 1]


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(LedgerError, match="discreet budget open"):
        Ledger(tmp_path / "none.db", create=False)
    with pytest.raises(LedgerError, match="cannot be created"):
        Ledger(tmp_path / "no folder" / "none.db")
    with pytest.raises(LedgerError, match="cannot be opened"):
        Ledger(tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("content", [b"", b"user_id,item_id\n" * 100, b"\x00" * 5000])
def test_other_files_stay_untouched(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    with pytest.raises(LedgerError):
        Ledger(path)
    assert path.read_bytes() == content
    assert list(path.parent.iterdir()) == [path]


def test_other_version(ledger: Ledger, path: Path) -> None:
    ledger._db.execute("PRAGMA user_version = 2")
    with pytest.raises(LedgerError, match=r"version 1 \(found version 2\)"):
        Ledger(path)


def test_closed_ledger(path: Path) -> None:
    with Ledger(path) as closed:
        pass
    with pytest.raises(LedgerError):
        closed.accounts()


def test_busy_deadline(ledger: Ledger, path: Path) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as other, Ledger(path, deadline=0.05) as waiting:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(LedgerError, match=r"busy by another process for 0.05 s"):
            waiting.reserve(TRAIN, cost=1, release="r", spec=SPEC)
        other.execute("ROLLBACK")
        assert waiting.reserve(TRAIN, cost=1, release="r", spec=SPEC).state == "reserved"


def test_database_full(ledger: Ledger) -> None:
    database = ledger._db
    database.setting(f"max_page_count = {database.setting('page_count')}")
    with pytest.raises(LedgerError, match="free space"):
        any(ledger.reserve(TRAIN, cost=1, release=f"r{number}", spec=SPEC).drawn for number in range(10_000))
    granted = len(ledger.releases())
    assert ledger.account(TRAIN).spent == granted > 0
    assert ledger.verify().ok
    database.setting("max_page_count = 1000000")
    ledger.reserve(TRAIN, cost=1, release=f"r{granted}", spec=SPEC)
    assert ledger.account(TRAIN).spent == granted + 1


# --- Verification

# Rows: 0 create, 1 open train, 2 open trends, 3 limit, 4 reserve a, 5 commit a, 6 reserve b, 7 refuse, 8 abandon b
HISTORY = 9


@pytest.fixture
def history(capped: Ledger) -> Ledger:
    capped.limit_person("movies", "p", epsilon=0.5, delta=DELTA)
    capped.reserve(TRAIN, cost=7, release="a", spec=SPEC, people=["p", "q"])
    capped.commit("a", OTHER)
    capped.reserve(TRENDS, cost=8, release="b", spec=SPEC, people=["q"])
    with pytest.raises(BudgetExceeded):
        capped.reserve(TRAIN, cost=10 * CAP, release="c", spec=SPEC, people=["p"])
    capped.abandon("b")
    return capped


def test_clean_history(history: Ledger) -> None:
    found = history.verify(expected_head=history.journal.head())
    assert (found.ok, found.rows, found.head.seq) == (True, HISTORY, HISTORY - 1)
    found.require()


@pytest.mark.parametrize(
    ("statement", "row"),
    [
        ("UPDATE account SET spent = 0 WHERE name = 'movies/train'", 4),
        ("UPDATE account SET cap = cap * 2 WHERE name = 'movies/trends'", 6),
        ("UPDATE account SET person_cap = NULL", 6),
        ("UPDATE account SET dataset = 'x' WHERE name = 'movies/train'", 4),
        ("UPDATE account SET until = '2000-01-01T00:00:00Z' WHERE name = 'movies/train'", 4),
        ("UPDATE release SET cost = 1 WHERE name = 'a'", 5),
        ("UPDATE release SET artefact = spec WHERE name = 'a'", 5),
        ("UPDATE release SET state = 'reserved' WHERE name = 'b'", 8),
        ("UPDATE release SET cohort = (SELECT cohort FROM release WHERE name = 'b') WHERE name = 'a'", 5),
        ("DELETE FROM release WHERE name = 'b'", 8),
        ("UPDATE person SET cap = cap + 1", 3),
        ("DELETE FROM person", 3),
        ("UPDATE cohort SET members = zeroblob(32) WHERE length(members) = 32", 4),
        ("DELETE FROM cohort WHERE length(members) = 16", 6),
        ("UPDATE secret SET value = randomblob(32)", 0),
        ("DROP INDEX release_of_account", 0),
        ("UPDATE journal SET body = replace(body, '\"7\"', '\"1\"') WHERE seq = 4", 4),
        ("DELETE FROM journal WHERE seq = 5", 5),
        ("DELETE FROM journal WHERE seq = 8", 6),
        (
            "INSERT INTO release SELECT 'z', account, cost, spec, asked, cohort, state, artefact FROM release LIMIT 1",
            None,
        ),
        ("INSERT INTO account SELECT 'x/y', dataset, 1, delta, 1, 1, until, 0 FROM account LIMIT 1", None),
    ],
)
def test_tampering_is_named(history: Ledger, path: Path, statement: str, row: int | None) -> None:
    forge(path, statement)
    found = history.verify()
    assert found.problems
    assert found.problems[0].row == row
    with pytest.raises(LedgerCorrupted) as damaged:
        found.require()
    assert damaged.value.row == row


def test_dropped_trigger_is_named(history: Ledger) -> None:
    history._db.execute("DROP TRIGGER spending_only_grows")
    assert [problem.row for problem in history.verify().problems] == [0]


def test_schema_keeps_spending(history: Ledger) -> None:
    for statement in (
        "UPDATE account SET spent = spent - 1",
        "UPDATE account SET spent = cap + 1",
        "UPDATE account SET cap = cap + 1",
        "DELETE FROM account",
        "DELETE FROM release",
        "UPDATE release SET cost = 1",
        "UPDATE person SET cap = cap + 1",
        "UPDATE cohort SET members = x''",
        "UPDATE secret SET value = x''",
    ):
        with pytest.raises(LedgerCorrupted, match="rules forbid"):
            history._db.execute(statement)
    assert history.verify().ok


def test_edited_cohort_admits_nobody(history: Ledger, path: Path) -> None:
    forge(path, "UPDATE cohort SET members = zeroblob(32)")
    with pytest.raises(LedgerCorrupted, match="cohort"):
        history.reserve(TRENDS, cost=1, release="d", spec=SPEC, people=["q"])


@pytest.mark.parametrize(
    ("kind", "facts", "wrong"),
    [
        ("reserve", {"release": "a", "account": "movies/train", "cost": "1"}, "second time"),
        ("reserve", {"release": "n", "account": "movies/none", "cost": "1"}, "not open"),
        ("reserve", {"release": "n", "account": "movies/train", "cost": str(CAP)}, "than is left"),
        ("reserve", {"release": "n", "account": "movies/train", "cost": "-5"}, "than is left"),
        ("commit", {"release": "b", "artefact": SPEC}, "not reserved"),
        ("abandon", {"release": "zz"}, "not reserved"),
        ("refund", {}, "not an event"),
        ("limit", {}, "not an event"),
        ("create", {"rules": "", "secrets": ""}, "second time"),
        ("refuse", {"account": "movies/train", "cost": "1", "left": "2"}, "refuses"),
    ],
)
def test_rows_against_the_protocol_are_named(history: Ledger, kind: str, facts: dict[str, str], wrong: str) -> None:
    with history._db.transaction():
        history.journal.append(kind, **({"spec": SPEC, "asked": None, "cohort": None} | facts))
    found = history.verify()
    assert HISTORY in {problem.row for problem in found.problems if wrong in problem.what}


def test_restored_backup_is_noticed(history: Ledger, path: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy.db"
    with closing(sqlite3.connect(path)) as source, closing(sqlite3.connect(copy)) as backup:
        source.backup(backup)
    history.reserve(TRENDS, cost=1, release="later", spec=SPEC, people=["q"])
    head = history.journal.head()
    with Ledger(copy, create=False) as restored:
        assert restored.verify().ok
        found = restored.verify(expected_head=head)
        assert [problem.row for problem in found.problems] == [HISTORY]
        restored.reserve(TRENDS, cost=2, release="other", spec=SPEC, people=["q"])
        assert [problem.row for problem in restored.verify(expected_head=head).problems] == [HISTORY]
        assert restored.verify(expected_head=Head(0, restored.journal.hash_of(0) or "")).ok


def test_damaged_pages_are_typed(history: Ledger, path: Path) -> None:
    history.close()
    content = bytearray(path.read_bytes())
    content[4096:] = b"\xff" * (len(content) - 4096)
    path.write_bytes(content)
    with Ledger(path) as damaged, pytest.raises(LedgerCorrupted):
        damaged.verify().require()


# --- Against a plain model


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
        self.caps: dict[str | int, int] = dict.fromkeys(("ann", "bob", 1, "1"), PERSON_CAP)
        self.people: dict[str | int, int] = dict.fromkeys(self.caps, 0)
        self.releases: dict[str, tuple[Account, int, str, set[str | int]]] = {}
        self.admitted: dict[str, set[str | int]] = {}
        self.states: dict[str, str] = {}

    def teardown(self) -> None:
        assert self.ledgers[0].verify().ok
        for ledger in self.ledgers:
            ledger.close()
        shutil.rmtree(self.folder)

    def expected(self, name: str, asked: tuple[Account, int, str, set[str | int]]) -> type[DiscreetError] | None:
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
        error = self.expected(name, (account, cost, spec, set(crowd)))
        if error is not None:
            with pytest.raises(error):
                self.ledgers[through].reserve(account, cost=cost, release=name, spec=spec, people=crowd)
            return
        made = self.ledgers[through].reserve(account, cost=cost, release=name, spec=spec, people=crowd)
        assert made.admitted is not None
        assert made.admitted.tolist() == [person in self.admitted[name] for person in crowd]
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
        if cap > self.caps[person]:
            with pytest.raises(LedgerError):
                self.ledgers[0].limit_person("movies", person, epsilon=epsilon, delta=DELTA)
            return
        self.ledgers[0].limit_person("movies", person, epsilon=epsilon, delta=DELTA)
        self.caps[person] = cap

    @rule(through=st.integers(0, 1))
    def reopen(self, through: int) -> None:
        self.ledgers[through].close()
        self.ledgers[through] = Ledger(self.folder / "ledger.db", create=False)

    @invariant()
    def agrees(self) -> None:
        assert {state.account: state.spent for state in self.ledgers[1].accounts()} == self.spent
        assert {person: self.ledgers[0].person_spent("movies", person) for person in self.people} == self.people


TestAgainstModel = LedgerAgainstModel.TestCase
TestAgainstModel.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
