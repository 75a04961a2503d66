"""The words in which a budget is shown and refused: attributes, numbers rounded against the spender, one line."""

import math
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from discreet.errors import BudgetExceeded, LedgerError, SettingError
from discreet.governance.accounts import Account, AccountRow, nobody_admitted, off_record, refusal
from discreet.governance.ledger import Ledger
from discreet.privacy import accounting

DELTA = 1e-6
CAP = accounting.cap(2.0, DELTA)
ROW = AccountRow("movies/train", "movies", 2.0, DELTA, CAP, None, None, 0)
ENDING = ROW._replace(until="2027-01-01T00:00:00Z", person_cap=1_234_567)


@pytest.mark.parametrize(
    ("time", "left"),
    [
        ("2026-12-31T23:59:59Z", CAP),
        ("2027-01-01T00:00:00Z", 0),
        ("2027-01-01T00:00:01Z", 0),
        ("0999-01-01T00:00:00Z", CAP),
    ],
)
def test_a_budget_ends_on_the_second(time: str, left: int) -> None:
    assert ENDING.left_at(time) == left
    assert ROW.left_at(time) == CAP
    assert ENDING.state(time, 3).left == left


def test_state_is_all_there_is_to_know() -> None:
    state = ENDING._replace(spent=1000).state("2026-01-01T00:00:00Z", 3)
    assert state.account == Account("movies", "train")
    assert (state.cap, state.spent, state.left, state.person_cap) == (CAP, 1000, CAP - 1000, 1_234_567)
    assert (state.epsilon, state.delta, state.until, state.releases) == (2.0, DELTA, "2027-01-01T00:00:00Z", 3)
    assert state.epsilon_spent == accounting.epsilon_of(1000, DELTA)
    assert set(state.to_dict()) == {*state.__slots__, "unit"}


def test_terms_leave_out_what_is_spent() -> None:
    assert ROW.terms == ROW._replace(spent=5).terms
    for changed in (ROW._replace(cap=1), ROW._replace(until="x"), ROW._replace(person_cap=1), ROW._replace(delta=0.1)):
        assert changed.terms != ROW.terms


def test_terms_in_words() -> None:
    assert str(ROW) == "epsilon 2 at delta 1e-06, no cap a person, no end"
    assert str(ENDING) == "epsilon 2 at delta 1e-06, 1,234,567 units a person, until 2027-01-01"
    assert str(ENDING._replace(until="2027-01-01T12:00:00Z")).endswith("until 2027-01-01T12:00:00Z")


@given(asked=st.integers(1, CAP * 2), left=st.integers(0, CAP))
def test_rounding_is_against_the_spender(asked: int, left: int) -> None:
    said = re.search(r"epsilon ([\d.]+) asked, ([\d.]+) left", str(refusal(ROW, asked, left)))
    assert said is not None
    exact = accounting.epsilon_of(asked, DELTA), accounting.epsilon_of(left, DELTA)
    assert exact[0] - 1e-9 <= float(said[1]) <= exact[0] + 0.01 + 1e-9
    assert exact[1] - 0.01 - 1e-9 <= float(said[2]) <= exact[1] + 1e-9


def test_refusals_advise() -> None:
    assert str(refusal(ROW, CAP + 1, CAP)).endswith("ask for less")
    ended = refusal(ENDING, 5, 0)
    assert "0 left until 2027-01-01 (" in str(ended)
    assert str(ended).endswith("it has ended: a new period is a new grant")
    assert str(refusal(ENDING._replace(spent=CAP), 5, 0)).endswith("ask for less")
    assert (ended.account, ended.asked, ended.left, ended.until) == ("movies/train", 5, 0, "2027-01-01T00:00:00Z")


@pytest.mark.parametrize("asked", [accounting.cap(accounting.MAX_EPSILON, DELTA) + 1, 2**64, 2**255])
def test_absurd_prices_have_no_epsilon(asked: int) -> None:
    assert f"epsilon above {accounting.MAX_EPSILON:,.0f} asked" in str(refusal(ROW, asked, 0))


def test_nobody_admitted_tells_nothing_of_anybody() -> None:
    refused = nobody_admitted(ENDING._replace(spent=CAP - 99), 7)
    assert (refused.account, refused.asked, refused.left, refused.until) == ("movies/train", 7, 0, ENDING.until)
    assert "99" not in str(refused)
    assert "(7 units)" in str(refused)


def test_off_record_is_the_same_refusal() -> None:
    refused = refusal(ENDING, 7, 3)
    noted = off_record(refused, LedgerError("ledger.db could not be written"))
    assert str(noted) == f"{refused}; this refusal could not be put on record: ledger.db could not be written"
    assert (noted.account, noted.asked, noted.left, noted.until) == ("movies/train", 7, 3, ENDING.until)


def test_names_may_look_like_one_another() -> None:
    row = ROW._replace(name="movies/movies", dataset="movies")
    assert row.state("2026-01-01T00:00:00Z", 0).account == Account("movies", "movies")
    assert math.isclose(row.state("2026-01-01T00:00:00Z", 0).epsilon, 2.0)


@pytest.mark.parametrize("finer", ["", "/2024", "/2024-05", "/2024-05-17"])
@pytest.mark.parametrize("by_interaction", [True, False])
def test_accounts_are_known_by_their_names(finer: str, by_interaction: bool) -> None:
    unit = "interaction" if by_interaction else "person"
    name = f"movies/interaction{finer}" + ("/interaction" if by_interaction else "")
    account = Account.named(name)
    assert (str(account), account.dataset, account.purpose) == (name, "movies", "interaction")
    assert (account.by_interaction, str(account.window or "")) == (by_interaction, finer.removeprefix("/"))
    assert account.unit == unit + ("", "-year", "-month", "-day")[len(finer.split("-")) if finer else 0]


@pytest.mark.parametrize(
    "name", ["movies", "movies/train/soon", "movies/train/interaction/2024", "movies/train/2024/x"]
)
def test_names_of_no_account(name: str) -> None:
    with pytest.raises(SettingError):
        Account.named(name)


def test_a_refusal_at_a_tiny_delta_is_a_refusal(tmp_path: Path) -> None:
    """At such a delta the largest epsilon has no cap of its own, and must not be asked for one."""
    with Ledger(tmp_path / "ledger.db") as ledger:
        state = ledger.open_budget(Account("tiny", "train"), epsilon=1.0, delta=1e-10)
        for asked in (state.cap + 1, 1 << 50):
            with pytest.raises(BudgetExceeded):
                ledger.reserve(state.account, cost=asked, release=f"r{asked}", spec="0" * 64)
        assert ledger.verify().ok
