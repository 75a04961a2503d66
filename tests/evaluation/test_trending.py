"""Counts by interaction: one choice moves one count by one, in a budget of its own."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.sparse import csr_array

from discreet.data.catalogue import Catalogue
from discreet.data.intake import read_interactions
from discreet.data.interactions import Interactions
from discreet.errors import (
    AccountMissing,
    ArtefactError,
    BudgetExceeded,
    DataError,
    LedgerError,
    PurposeNotAllowed,
    SettingError,
)
from discreet.evaluation.trending import Trending, choice_rows, release_trending
from discreet.governance.ledger import Account, Ledger
from discreet.privacy.adjacency import Window
from discreet.privacy.guarantee import Guarantee

TRENDS = Account("tastes", "trending", by_interaction=True)


@pytest.fixture
def choices(columns: dict[str, list[int] | list[str]]) -> Interactions:
    return read_interactions(columns, name="tastes", purposes=["trending"])


@pytest.fixture
def book(tmp_path: Path) -> Any:
    with Ledger(tmp_path / "ledger.db") as ledger:
        ledger.open_budget(TRENDS, epsilon=8.0, delta=1e-5)
        yield ledger


@given(st.lists(st.sets(st.integers(0, 8)), min_size=1, max_size=6), st.integers(1, 2**20), st.data())
def test_one_choice_moves_one_count_by_the_bound(people: list[set[int]], bound: int, data: st.DataObject) -> None:
    def summed(of: list[set[int]]) -> Any:
        dense = np.zeros((len(of), 9), np.int8)
        for row, items in enumerate(of):
            dense[row, sorted(items)] = 1
        return choice_rows(csr_array(dense), bound)

    before = summed(people)
    assert before.total.sum() == bound * sum(map(len, people))
    assert before.squared_norms.tolist() == [bound**2] * sum(map(len, people))
    row, item = data.draw(st.integers(0, len(people) - 1)), data.draw(st.integers(0, 8))
    other = [items ^ {item} if place == row else items for place, items in enumerate(people)]
    moved = np.abs(summed(other).total - before.total)
    assert sorted(moved.tolist()) == [0] * 8 + [bound]


def test_is_billed_by_interaction_and_near_the_truth(choices: Interactions, book: Ledger, tmp_path: Path) -> None:
    found = release_trending(choices, ledger=book, epsilon=4.0, out=tmp_path / "trends.json")
    assert book.account(TRENDS).spent == found.guarantee.units
    truth: NDArray[np.int64] = np.asarray(choices.opened_for("trending").matrix.sum(axis=0)).ravel()
    assert np.abs(np.array(found.counts) - truth).max() < 6 * found.noise  # false alarm of 60 counts below 2e-7
    assert 0.5 < found.noise < 2.5
    assert found.guarantee.unit == "interaction"
    assert "whether a single choice of yours is in it" in found.guarantee.sentence
    assert "k of them are protected k times less" in str(found.guarantee)
    assert Trending.from_bytes((tmp_path / "trends.json").read_bytes()) == found
    top = found.top(3)
    assert [each.about for each in top] == sorted((each.about for each in top), reverse=True)
    assert top[0].about == max(found.counts)
    assert book.verify().ok


def test_is_no_part_of_what_is_added_up_for_people(choices: Interactions, book: Ledger) -> None:
    release_trending(choices, ledger=book, epsilon=1.0)
    assert book.person("tastes", "person-001").spent == 0
    book.open_budget(Account("tastes", "train"), epsilon=4.0, delta=1e-5, person_epsilon=0.1)
    assert book.verify().ok
    with pytest.raises(SettingError, match="people of tastes have caps, which a release that names nobody cannot keep"):
        release_trending(choices, ledger=book, epsilon=1.0)


def test_budgets_of_other_units_are_refused_beside_it(book: Ledger) -> None:
    for other in (Account("tastes", "trending"), Account("tastes", "trending", Window("2024-05"), by_interaction=True)):
        with pytest.raises(LedgerError, match="different units"):
            book.open_budget(other, epsilon=1.0, delta=1e-5)


def test_of_a_window(book: Ledger) -> None:
    may = 1_714_521_600  # 1 May 2024
    columns = {
        "user_id": [1, 2, 2, 3],
        "item_id": [7, 7, 8, 8],
        "timestamp": [may, may + 5, may + 9, may + 32 * 86_400],
    }
    choices = read_interactions(columns, name="shop", purposes=["trending"], window="2024-05")
    with pytest.raises(AccountMissing):
        release_trending(choices, ledger=book, window="2024-05")
    account = Account("shop", "trending", Window("2024-05"), by_interaction=True)
    book.open_budget(account, epsilon=20.0, delta=1e-5)
    found = release_trending(choices, ledger=book, epsilon=20.0, window="2024-05")
    assert found.guarantee.neighbours == "one person's choice of one item, made or not made in 2024-05"
    assert (account.unit, found.guarantee.unit) == ("interaction-month", "interaction-month")
    assert str(account) == "shop/trending/2024-05/interaction"
    assert Account.named(str(account)) == account
    with pytest.raises(DataError, match="holds more than 2024-05"):
        release_trending(read_interactions(columns, name="shop", purposes=["trending"]), ledger=book, window="2024-05")


@pytest.mark.parametrize("by_interaction", [True, False])
@pytest.mark.parametrize("purpose", ["trending", "interaction"])
def test_accounts_are_known_by_their_names(purpose: str, by_interaction: bool) -> None:
    account = Account("tastes", purpose, by_interaction=by_interaction)
    assert Account.named(str(account)) == account


def test_a_person_of_a_purpose_called_interaction_is_still_counted(tmp_path: Path) -> None:
    with Ledger(tmp_path / "l.db") as ledger:
        account = Account("a", "interaction")
        ledger.open_budget(account, epsilon=1.0, delta=1e-5)
        ledger.reserve(account, cost=5, release="r", spec="0" * 64, people=["p"])
        assert ledger.person("a", "p").spent == 5


def test_refusals(choices: Interactions, data: Interactions, book: Ledger) -> None:
    with pytest.raises(PurposeNotAllowed):
        release_trending(data, ledger=book)
    with pytest.raises(BudgetExceeded):
        release_trending(choices, ledger=book, epsilon=20.0)
    with pytest.raises(SettingError):
        release_trending(choices, ledger=book, epsilon=0.0)
    with pytest.raises(SettingError, match="at least 1 item"):
        release_trending(choices, ledger=book, epsilon=0.1).top(0)


@pytest.mark.parametrize("content", [b"", b"[]", b"{}", b'{"format": 2}', b'{"format": 1}', b"[" * 10_000])
def test_what_is_no_such_file(content: bytes) -> None:
    with pytest.raises(ArtefactError):
        Trending.from_bytes(content)


@pytest.mark.parametrize("counts", [(1.0,), (1.0, float("nan"))])
def test_counts_that_are_none(counts: tuple[float, ...]) -> None:
    with pytest.raises(SettingError):
        Trending(
            dataset="a",
            catalogue=Catalogue((1, 2)),
            counts=counts,
            noise=1.0,
            guarantee=Guarantee(units=9, delta=1e-6),
            release="r",
        )


def test_on_the_command_line(
    columns: dict[str, list[int] | list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    import sys

    from discreet.cli.commands import run

    monkeypatch.chdir(tmp_path)
    pl.DataFrame(columns).write_csv("tastes.csv")

    def discreet(*words: str) -> str:
        monkeypatch.setattr(sys, "argv", ["discreet", *words])
        with pytest.raises(SystemExit) as ended:
            run()
        assert not ended.value.code
        return str(capsys.readouterr().out)

    discreet("data", "import", "tastes.csv", "--out", "tastes.parquet", "--purpose", "trending")
    discreet("budget", "open", "tastes.parquet", "--purpose", "trending", "--by-interaction", "--epsilon", "2")
    told = json.loads(discreet("data", "trending", "tastes.parquet", "--n", "3", "--json"))
    assert [*told["top"][0]] == ["item", "title", "about"]
    assert len(told["top"]) == 3
    assert "a single choice of yours" in discreet("data", "trending", "tastes.parquet")
    assert "tastes/trending/interaction" in discreet("budget", "show")
    spent = json.loads(discreet("budget", "show", "--json"))["accounts"][0]["spent"]
    monkeypatch.setattr(sys, "argv", ["discreet", "data", "trending", "tastes.parquet", "--n", "0"])
    with pytest.raises(SystemExit) as refused:
        run()
    assert refused.value.code == 2
    capsys.readouterr()
    assert json.loads(discreet("budget", "show", "--json"))["accounts"][0]["spent"] == spent
