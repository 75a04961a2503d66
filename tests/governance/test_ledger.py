"""Budgets: what is charged, refused and remembered."""

import hashlib
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sqlalchemy import text

from discreet.errors import (
    AccountMissing,
    BudgetExceeded,
    DiscreetError,
    LedgerCorrupted,
    LedgerError,
    NotAllowed,
    ReleaseConflict,
    SettingError,
)
from discreet.governance import ledger as module
from discreet.governance.ledger import Account, Ledger
from discreet.privacy import accounting

DELTA = 1e-6
TRAIN = Account("movies", "train")
TRENDS = Account("movies", "trends")
CAP = accounting.cap(2.0, DELTA)
PERSON_CAP = accounting.cap(1.0, DELTA)
SPEC = hashlib.sha256(b"plan").hexdigest()
OTHER = hashlib.sha256(b"another").hexdigest()
TELLING = "zaphod.beeblebrox@example.org"


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


@pytest.mark.parametrize(
    ("first", "second", "beside"),
    [
        ("movies/rent", "movies/rent/2024", False),
        ("movies/rent/2024", "movies/rent/2024-05", False),
        ("movies/rent/2024-05", "movies/rent/2024-06", True),
        ("movies/rent/2024-05", "movies/rent/interaction", False),
        ("movies/rent/interaction", "movies/rent", False),
        ("movies/rent/2024-05", "movies/sell/2024", True),
        ("movies/rent/2024-05", "films/rent/2024", True),
    ],
)
def test_one_act_is_within_one_budget_of_a_purpose(ledger: Ledger, first: str, second: str, beside: bool) -> None:
    ledger.open_budget(Account.named(first), epsilon=1.0, delta=DELTA)
    if beside:
        ledger.open_budget(Account.named(second), epsilon=1.0, delta=DELTA)
    else:
        with pytest.raises(LedgerError, match="one act would fall within both"):
            ledger.open_budget(Account.named(second), epsilon=1.0, delta=DELTA)
    assert len(ledger.accounts()) == 2 + beside
    assert ledger.verify().ok


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
        with pytest.raises(LedgerError, match=r"already open with epsilon 2 .*raised by two people"):
            ledger.open_budget(TRAIN, epsilon=epsilon, delta=delta, person_epsilon=person, until=until)
    assert ledger.journal.head().seq == rows


# --- Caps that two people raise


TWO = ("ann", "bob")


def test_two_people_raise_a_cap(capped: Ledger) -> None:
    higher = accounting.cap(3.0, DELTA)
    capped.reserve(TRAIN, cost=PERSON_CAP, release="r", spec=SPEC, people=["ann"])
    state = capped.raise_cap(TRAIN, epsilon=3, by=TWO)
    assert (state.epsilon, state.delta, state.cap, state.spent) == (3.0, DELTA, higher, PERSON_CAP)
    last = [*capped.journal.rows()][-1]
    assert (last.kind, last.facts) == (
        "raise",
        {
            "name": "movies/train",
            "epsilon": 3.0,
            "was": str(CAP),
            "cap": str(higher),
            "asked_by": "ann",
            "agreed_by": "bob",
        },
    )
    rows = capped.journal.head().seq
    assert capped.raise_cap(TRAIN, epsilon=3.0, by=("cid", "dan")) == state  # it is that already
    assert capped.open_budget(TRAIN, epsilon=3.0, delta=DELTA) == state
    assert capped.journal.head().seq == rows
    with pytest.raises(BudgetExceeded, match="none of the people given"):  # their own caps are what they were
        capped.reserve(TRAIN, cost=1, release="s", spec=SPEC, people=["ann"])
    capped.reserve(TRAIN, cost=PERSON_CAP, release="t", spec=SPEC, people=["bob"])
    capped.raise_cap(TRAIN, epsilon=4.0, by=TWO)
    capped.reserve(TRAIN, cost=PERSON_CAP, release="u", spec=SPEC, people=["cid"])
    assert capped.verify().ok


def test_what_was_refused_is_granted_once_the_cap_is_raised(ledger: Ledger) -> None:
    with pytest.raises(BudgetExceeded):
        ledger.reserve(TRAIN, cost=CAP + 1, release="r", spec=SPEC)
    ledger.raise_cap(TRAIN, epsilon=2.5, by=TWO)
    assert ledger.reserve(TRAIN, cost=CAP + 1, release="r", spec=SPEC).state == "reserved"
    assert ledger.verify().ok


@pytest.mark.parametrize("by", [(), ("ann",), ("ann", "ann"), ("ann", "bob", "cid")])
def test_one_person_raises_nothing(ledger: Ledger, by: tuple[str, ...]) -> None:
    rows = ledger.journal.head().seq
    with pytest.raises(NotAllowed, match="two people"):
        ledger.raise_cap(TRAIN, epsilon=3.0, by=by)
    assert (ledger.account(TRAIN).cap, ledger.journal.head().seq) == (CAP, rows)


@pytest.mark.parametrize(
    ("account", "epsilon", "by", "error"),
    [
        (TRAIN, 1.0, TWO, LedgerError),
        (TRAIN, 31.0, TWO, SettingError),
        (TRAIN, float("nan"), TWO, SettingError),
        (TRAIN, 3.0, ("ann", ""), SettingError),
        (TRAIN, 3.0, ("ann", "b\x00b"), SettingError),
        (TRENDS, 3.0, TWO, AccountMissing),
    ],
)
def test_what_is_not_raised(
    ledger: Ledger, account: Account, epsilon: float, by: tuple[str, str], error: type[DiscreetError]
) -> None:
    rows = ledger.journal.head().seq
    with pytest.raises(error):
        ledger.raise_cap(account, epsilon=epsilon, by=by)
    assert (ledger.account(TRAIN).cap, ledger.journal.head().seq) == (CAP, rows)


def test_what_has_ended_is_not_revived(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    ledger.open_budget(TRENDS, epsilon=2.0, delta=DELTA, until="2999-01-01")
    ledger.raise_cap(TRENDS, epsilon=3.0, by=TWO)
    monkeypatch.setattr(module, "now", lambda: "2999-01-01T00:00:00Z")
    with pytest.raises(LedgerError, match="has ended, on 2999-01-01T00:00:00Z: more would not revive it"):
        ledger.raise_cap(TRENDS, epsilon=4.0, by=TWO)
    assert ledger.raise_cap(TRENDS, epsilon=3.0, by=TWO).left == 0
    with ledger._db.transaction():  # somebody did, past the ledger
        facts: dict[str, Any] = {
            "epsilon": 4.0,
            "was": str(accounting.cap(3.0, DELTA)),
            "cap": str(accounting.cap(4.0, DELTA)),
        }
        people = {"asked_by": "ann", "agreed_by": "bob"}
        row = ledger.journal.append("raise", at="2999-01-01T00:00:00Z", name=str(TRENDS), **facts, **people)
    assert (row, "raises the cap of budget movies/trends, which had ended") in {
        (problem.row, problem.what) for problem in ledger.verify().problems
    }


@pytest.mark.parametrize("statement", ["UPDATE account SET cap = cap + 1", "UPDATE account SET epsilon = 9"])
def test_a_cap_that_no_row_raises(ledger: Ledger, statement: str) -> None:
    """The file itself lets a cap rise; what charges, and what raises, holds it against the journal."""
    for rises in (False, True):
        if rises:
            ledger.raise_cap(TRAIN, epsilon=3.0, by=TWO)
        with suppress(ZeroDivisionError), ledger._db.transaction():
            ledger._db.execute(text(statement))
            with pytest.raises(LedgerCorrupted, match="is not what was agreed on"):
                ledger.reserve(TRAIN, cost=1, release="r", spec=SPEC)
            with pytest.raises(LedgerCorrupted, match="is not what was agreed on"):
                ledger.raise_cap(TRAIN, epsilon=4.0, by=TWO)
            assert not ledger.verify().ok
            raise ZeroDivisionError
        assert ledger.verify().ok


def test_a_part_of_what_somebody_else_does(ledger: Ledger) -> None:
    """A ledger on a database that is open: all of it lasts, or nothing."""
    other = Ledger(ledger._db)
    with suppress(ZeroDivisionError), ledger._db.transaction():
        other.raise_cap(TRAIN, epsilon=3.0, by=TWO)
        assert other.account(TRAIN).epsilon == 3.0
        raise ZeroDivisionError
    assert ledger.account(TRAIN).epsilon == 2.0
    with ledger._db.transaction():
        with pytest.raises(LedgerError):  # its own part alone is undone
            other.raise_cap(TRAIN, epsilon=1.0, by=TWO)
        other.raise_cap(TRAIN, epsilon=4.0, by=TWO)
    assert ledger.account(TRAIN).epsilon == 4.0
    assert ledger.verify().ok


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
    with pytest.raises(BudgetExceeded, match=f"above {accounting.MAX_EPSILON:,.0f}"):
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


def test_people_must_be_named_where_they_have_caps(capped: Ledger) -> None:
    with pytest.raises(SettingError, match="cannot keep: name them"):
        capped.reserve(TRAIN, cost=1, release="r", spec=SPEC)


def test_caps_leave_people_out_across_purposes(capped: Ledger) -> None:
    half = PERSON_CAP // 2 + 1
    assert capped.reserve(TRAIN, cost=half, release="1", spec=SPEC, people=["a", "b", 1]).cost == half
    mixed = capped.reserve(TRENDS, cost=half, release="2", spec=SPEC, people=["c", "a", "1", "c", 1])
    assert mixed.admitted is not None
    assert mixed.admitted.tolist() == [True, False, False, True, False]
    again = capped.reserve(TRENDS, cost=half, release="2", spec=SPEC, people=["c", "a", "1", "c", 1])
    assert again.admitted is not None
    assert again.admitted.tolist() == [True, False, False, True, False]
    spent = {person: capped.person("movies", person).spent for person in ("a", "b", "c", 1, "1", "nobody")}
    assert spent == {"a": half, "b": half, "c": half, 1: half, "1": half, "nobody": 0}
    with pytest.raises(BudgetExceeded, match="none of the people") as refused:
        capped.reserve(TRENDS, cost=half, release="3", spec=SPEC, people=["a", "c"])
    assert refused.value.left == 0
    assert capped.account(TRENDS).spent == half
    exact = capped.reserve(TRENDS, cost=PERSON_CAP - half, release="4", spec=SPEC, people=["a"])
    assert exact.admitted is not None
    assert capped.person("movies", "a").spent == PERSON_CAP
    assert capped.verify().ok


def test_releases_without_names_count_for_everybody(ledger: Ledger) -> None:
    ledger.reserve(TRAIN, cost=9, release="r", spec=SPEC)
    assert ledger.person("movies", "anybody") == (9, 9, None)
    assert ledger.person("other data", "anybody").spent == 0


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
    assert capped.person("movies", TELLING).spent == cost
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
    assert [capped.person(dataset, "a").spent for dataset in ("movies", "music")] == [5, 7]
    assert capped._db.one(text("SELECT COUNT(DISTINCT members) FROM cohort")) == (2,)


def test_arrays_of_ids_are_their_values(capped: Ledger) -> None:
    capped.reserve(TRAIN, cost=PERSON_CAP, release="1", spec=SPEC, people=np.array([3, 4]))
    mixed: Any = [3, np.int64(4), 5, "3"]
    again = capped.reserve(TRENDS, cost=1, release="2", spec=SPEC, people=mixed)
    assert again.admitted is not None
    assert again.admitted.tolist() == [False, False, True, False]


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


# --- At the edges


@pytest.mark.parametrize(
    ("spent", "cost", "granted"), [(0, CAP, True), (0, CAP + 1, False), (1, CAP - 1, True), (1, CAP, False)]
)
def test_the_cap_exactly_and_one_unit_over(ledger: Ledger, spent: int, cost: int, granted: bool) -> None:
    if spent:
        ledger.reserve(TRAIN, cost=spent, release="before", spec=SPEC)
    if granted:
        ledger.reserve(TRAIN, cost=cost, release="r", spec=SPEC)
        assert ledger.account(TRAIN).left == 0
        with pytest.raises(BudgetExceeded, match="1 asked, 0 left"):
            ledger.reserve(TRAIN, cost=1, release="one more", spec=SPEC)
    else:
        with pytest.raises(BudgetExceeded):
            ledger.reserve(TRAIN, cost=cost, release="r", spec=SPEC)
        assert ledger.account(TRAIN).spent == spent
    assert ledger.verify().ok


@pytest.mark.parametrize(
    ("time", "granted"),
    [("2998-12-31T23:59:59Z", True), ("2999-01-01T00:00:00Z", False), ("2999-01-01T00:00:01Z", False)],
)
def test_the_last_second(ledger: Ledger, monkeypatch: pytest.MonkeyPatch, time: str, granted: bool) -> None:
    ledger.open_budget(TRENDS, epsilon=2, delta=DELTA, until="2999-01-01")
    monkeypatch.setattr(module, "now", lambda: time)
    if granted:
        ledger.reserve(TRENDS, cost=CAP, release="r", spec=SPEC)
    else:
        with pytest.raises(BudgetExceeded, match="has ended"):
            ledger.reserve(TRENDS, cost=1, release="r", spec=SPEC)
    assert ledger.verify().ok


@pytest.mark.parametrize("until", ["0999-01-01", "0001-01-01", "1999-12-31T23:59:59"])
def test_ends_long_past(ledger: Ledger, until: str) -> None:
    with pytest.raises(SettingError, match="would end before it begins"):
        ledger.open_budget(TRENDS, epsilon=2, delta=DELTA, until=until)


def test_numbers_of_numpy_are_numbers(ledger: Ledger) -> None:
    terms: Any = {"epsilon": np.float32(2), "delta": np.float64(DELTA)}
    state = ledger.open_budget(TRENDS, **terms)
    assert (state.epsilon, state.delta, state.cap) == (2.0, DELTA, CAP)
    assert ledger.open_budget(TRENDS, epsilon=2, delta=DELTA) == state
    assert ledger.verify().ok


@pytest.mark.parametrize("name", ["", "x" * 201, "a\nb", "\udc00"])
def test_names_of_releases_are_checked_everywhere(ledger: Ledger, name: str) -> None:
    for act in (
        lambda: ledger.reserve(TRAIN, cost=1, release=name, spec=SPEC),
        lambda: ledger.commit(name, SPEC),
        lambda: ledger.abandon(name),
        lambda: ledger.artefact(name),
    ):
        with pytest.raises(SettingError, match="name of a release"):
            act()


@pytest.mark.parametrize("artefact", ["", "0" * 63, SPEC.upper()])
def test_artefacts_are_hashes(ledger: Ledger, artefact: str) -> None:
    ledger.reserve(TRAIN, cost=1, release="r", spec=SPEC)
    with pytest.raises(SettingError, match="artefact must be a SHA-256"):
        ledger.commit("r", artefact)
    assert ledger.artefact("r") is None


def repeated(ledger: Ledger, end: str) -> None:
    ledger.reserve(TRAIN, cost=7, release="r", spec=SPEC, people=["a", "b"])
    if end == "committed":
        ledger.commit("r", SPEC)
    if end == "abandoned":
        with suppress(ReleaseConflict):
            ledger.abandon("r")


@pytest.mark.parametrize("end", ["reserved", "committed", "abandoned"])
def test_repeating_changes_nothing(ledger: Ledger, end: str) -> None:
    repeated(ledger, end)
    before = ledger.journal.head(), ledger.account(TRAIN), ledger.releases()
    for _ in range(2):
        with suppress(ReleaseConflict):
            repeated(ledger, end)
    assert (ledger.journal.head(), ledger.account(TRAIN), ledger.releases()) == before
    assert ledger.releases()[0].state == end
    assert ledger.releases()[0].people == 2
    assert ledger.verify().ok


def test_a_retry_admits_whom_the_first_admitted(capped: Ledger) -> None:
    first = capped.reserve(TRAIN, cost=PERSON_CAP, release="1", spec=SPEC, people=["a", "b"])
    capped.limit_person("movies", "a", epsilon=0.1, delta=DELTA)
    again = capped.reserve(TRAIN, cost=PERSON_CAP, release="1", spec=SPEC, people=["a", "b"])
    assert first.admitted is not None
    assert again.admitted is not None
    assert first.admitted.tolist() == again.admitted.tolist() == [True, True]
    assert capped.person("movies", "a").spent == PERSON_CAP
    assert capped.verify().ok


@pytest.mark.parametrize("over", [0, 1])
def test_a_persons_cap_exactly_and_one_unit_over(capped: Ledger, over: int) -> None:
    capped.limit_person("movies", "own", epsilon=0.5, delta=DELTA)
    cost = accounting.cap(0.5, DELTA) + over
    made = capped.reserve(TRAIN, cost=cost, release="r", spec=SPEC, people=["own", "general"])
    assert made.admitted is not None
    assert made.admitted.tolist() == [over == 0, True]


def test_releases_in_order_and_by_account(capped: Ledger) -> None:
    for number, account in enumerate((TRAIN, TRENDS, TRAIN)):
        capped.reserve(account, cost=1, release=f"{9 - number}", spec=SPEC, people=[str(number)])
    assert [state.release for state in capped.releases()] == ["9", "8", "7"]
    assert [state.release for state in capped.releases(TRAIN)] == ["9", "7"]
    assert capped.releases(Account("no", "such")) == []
    assert [state.releases for state in capped.accounts()] == [2, 1]
    assert capped.releases()[0].to_dict() == {
        "release": "9",
        "account": "movies/train",
        "cost": 1,
        "spec": SPEC,
        "state": "reserved",
        "artefact": None,
        "people": 1,
    }


def test_a_made_release_gives_no_draws(ledger: Ledger) -> None:
    made = ledger.reserve(TRAIN, cost=7, release="r", spec=SPEC)
    made.draw(7)
    with pytest.raises(BudgetExceeded, match=r"1 units asked by a round, 0 of its reservation left \(reserved\)"):
        made.draw(1)
    assert made.drawn == 7
    ledger.commit("r", SPEC)
    again = ledger.reserve(TRAIN, cost=7, release="r", spec=SPEC)
    again.draw(0)
    with pytest.raises(BudgetExceeded, match=r"1 units asked by a round, 0 of its .* left \(committed\)") as refused:
        again.draw(1)
    assert (refused.value.asked, refused.value.left, again.drawn) == (1, 0, 0)


def test_the_journal_tells_every_change(capped: Ledger) -> None:
    capped.limit_person("movies", TELLING, epsilon=0.5, delta=DELTA)
    capped.reserve(TRAIN, cost=7, release="r", spec=SPEC, people=[TELLING])
    capped.commit("r", SPEC)
    rows = list(capped.journal.rows())
    assert [row.kind for row in rows] == ["create", "open", "open", "limit", "reserve", "commit"]
    assert rows[2].facts["person_cap"] == str(PERSON_CAP)
    assert rows[3].facts.keys() == {"dataset", "pseudonym", "cap"}
    assert rows[4].facts.keys() == {"release", "account", "cost", "spec", "asked", "cohort", "prices"}
    assert rows[5].facts == {"release": "r", "artefact": SPEC, "used": None}
    assert all(row.at.endswith("Z") for row in rows)
