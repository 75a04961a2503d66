"""Training on one window of time: what enters, who is protected, who pays."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from discreet.data.importing import import_interactions
from discreet.data.intake import read_interactions
from discreet.data.interactions import Interactions
from discreet.data.store import write_interactions
from discreet.errors import AccountMissing, BudgetExceeded, DataError, LedgerError, SettingError
from discreet.governance.ledger import Account, Ledger
from discreet.models.card import card, card_markdown
from discreet.models.trained import Trained
from discreet.privacy.adjacency import Window
from discreet.privacy.guarantee import Guarantee
from discreet.training.fitting import fit

MAY, JUNE = (
    Account("tastes", "train-recommender", Window("2024-05")),
    Account("tastes", "train-recommender", Window("2024-06")),
)


def months(twice: bool = False) -> pl.DataFrame:
    """Two hundred people, half of what each did in May and half in June; with ``twice``, all of May again in June."""
    rng = np.random.default_rng(2)
    people, items = np.repeat(np.arange(200), 10), np.concatenate([rng.permutation(40)[:10] for _ in range(200)])
    month = np.tile([5, 6], 1_000)
    times = [datetime(2024, int(each), 15, tzinfo=UTC).timestamp() for each in month]
    frame = pl.DataFrame({"user_id": people, "item_id": items, "timestamp": times})
    again = frame.filter(pl.col("timestamp") < datetime(2024, 6, 1, tzinfo=UTC).timestamp())
    return pl.concat([frame, again.with_columns(pl.col("timestamp") + 40 * 86_400)]) if twice else frame


def read(window: str | None, twice: bool = False) -> Interactions:
    catalogue = read_interactions(months()).catalogue
    return read_interactions(months(twice), name="tastes", catalogue=catalogue, window=window)


def matrix(data: Interactions) -> np.ndarray:
    return data.opened_for("train-recommender").matrix.toarray()


class TestReading:
    def test_only_the_window_enters(self) -> None:
        assert [read(window).count for window in ("2024-05", "2024-06", "2024", None)] == [1_000, 1_000, 2_000, 2_000]
        assert read("2024-05").intake.zero_weight_rows_dropped == 0

    def test_what_is_done_later_changes_nothing_in_it(self) -> None:
        """The claim of the unit: of what was chosen twice the latest time is kept, but within the window."""
        assert np.array_equal(matrix(read("2024-05")), matrix(read("2024-05", twice=True)))
        assert read("2024-06", twice=True).count == 2_000

    def test_the_last_second_is_in_and_the_next_is_not(self) -> None:
        end = Window("2024-05").seconds[1]
        frame = {"user_id": [1, 2], "item_id": [1, 2], "timestamp": [end - 1, end]}
        assert read_interactions(frame, window="2024-05").people == 1

    def test_refused(self) -> None:
        with pytest.raises(DataError, match="holds nothing of 2023"):
            read("2023")
        with pytest.raises(DataError, match="timestamp"):
            read_interactions({"user_id": [1], "item_id": [1]}, window="2024-05")
        with pytest.raises(SettingError, match="2024-05"):
            read("05/2024")

    def test_is_imported_alone(self, tmp_path: Path) -> None:
        whole = import_interactions(months(), tmp_path / "may.parquet", name="tastes", window="2024-05")
        assert whole.opened_for("train-recommender").matrix.nnz == read("2024-05").count == whole.count
        assert whole.intake.zero_weight_rows_dropped == 0
        whole.check_window(Window("2024-05"))
        again = import_interactions(tmp_path / "may.parquet", tmp_path / "again.parquet", window="2024-05")
        assert again.count == whole.count
        with pytest.raises(DataError, match="holds more than 2024-06"):
            import_interactions(tmp_path / "may.parquet", tmp_path / "june.parquet", window="2024-06")
        with pytest.raises(DataError, match="holds nothing of 2023"):
            import_interactions(months(), tmp_path / "none.parquet", window="2023")
        assert sorted(path.name for path in tmp_path.iterdir()) == ["again.parquet", "may.parquet"]

    def test_a_file_holds_one_window_alone(self, tmp_path: Path) -> None:
        write_interactions(read("2024-05"), tmp_path / "may.parquet")
        write_interactions(read(None), tmp_path / "all.parquet")
        assert read_interactions(tmp_path / "may.parquet", window="2024-05").count == 1_000
        for name, window in (("may", "2024-06"), ("all", "2024-05")):
            with pytest.raises(DataError, match="holds more than"):
                read_interactions(tmp_path / f"{name}.parquet", window=window)


@pytest.fixture
def monthly(tmp_path: Path) -> Any:
    with Ledger(tmp_path / "ledger.db") as ledger:
        for account in (MAY, JUNE):
            ledger.open_budget(account, epsilon=1.0, delta=1e-5)
        yield ledger


class TestFit:
    def test_each_window_has_its_budget_and_its_promise(self, monthly: Ledger, tmp_path: Path) -> None:
        trained = fit(read("2024-05"), epsilon=1.0, ledger=monthly, window="2024-05", out=tmp_path / "may.npz")
        assert [monthly.account(account).releases for account in (MAY, JUNE)] == [1, 0]
        assert monthly.account(MAY).unit == "person-month"
        with pytest.raises(BudgetExceeded, match="tastes/train-recommender/2024-05"):
            fit(read("2024-05"), epsilon=0.5, ledger=monthly, window="2024-05")
        fit(read("2024-06"), epsilon=1.0, ledger=monthly, window="2024-06")
        assert monthly.verify().ok
        assert Trained.load(tmp_path / "may.npz").guarantee == trained.guarantee
        assert trained.guarantee.window == "2024-05"
        assert "a person-month: between one person's history of 2024-05" in card_markdown(card(trained))

    def test_people_pay_for_every_window_under_their_own_cap(self, monthly: Ledger) -> None:
        monthly.limit_person("tastes", 7, epsilon=1.2, delta=1e-5)
        fit(read("2024-05"), epsilon=1.0, ledger=monthly, window="2024-05")
        second = fit(read("2024-06"), epsilon=1.0, ledger=monthly, window="2024-06")
        assert second.people == 199
        assert monthly.person("tastes", 8).spent == 2 * monthly.person("tastes", 7).spent

    def test_more_than_the_window_is_refused_at_no_charge(self, monthly: Ledger) -> None:
        for data in (read(None), read("2024-06"), read("2024-05").opened_for("train-recommender")):
            with pytest.raises((DataError, SettingError), match="window"):
                fit(data, epsilon=0.5, ledger=monthly, window="2024-05")
        with pytest.raises(AccountMissing):
            fit(read("2024-05"), epsilon=0.5, ledger=monthly)
        assert monthly.account(MAY).spent == 0

    def test_a_first_ledger_is_of_the_window(self, tmp_path: Path) -> None:
        fit(read("2024-05"), epsilon=0.5, ledger=tmp_path / "new.db", window="2024-05")
        with Ledger(tmp_path / "new.db", create=False) as ledger:
            assert [state.account for state in ledger.accounts()] == [MAY]


class TestContradictions:
    @pytest.mark.parametrize("window", [None, Window("2024"), Window("2024-05-01"), Window("2031")])
    def test_two_units_for_one_purpose(self, window: Window | None, monthly: Ledger) -> None:
        with pytest.raises(LedgerError, match="one act would fall within both"):
            monthly.open_budget(Account("tastes", "train-recommender", window), epsilon=1.0, delta=1e-5)
        assert len(monthly.accounts()) == 2

    def test_another_purpose_or_data_set_is_another_matter(self, monthly: Ledger) -> None:
        monthly.open_budget(Account("tastes", "measure-quality"), epsilon=1.0, delta=1e-5)
        monthly.open_budget(Account("films", "train-recommender"), epsilon=1.0, delta=1e-5)
        assert monthly.verify().ok

    def test_verify_sees_them(self, monthly: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
        with monkeypatch.context() as patched:
            patched.setattr(Ledger, "_check_unit", lambda *_: None)
            monthly.open_budget(Account("tastes", "train-recommender"), epsilon=1.0, delta=1e-5)
        (problem,) = monthly.verify().problems
        assert "beside others of another unit" in problem.what


class TestAccount:
    @pytest.mark.parametrize("account", [MAY, Account("a", "b"), Account("a", "a", Window("2024-01-01"))])
    def test_is_read_back_from_its_name(self, account: Account) -> None:
        assert Account.named(str(account)) == account

    @pytest.mark.parametrize("name", ["", "a", "a/", "/b", "a/b/c", "a/b/2024-05/d"])
    def test_names_of_none(self, name: str) -> None:
        with pytest.raises(SettingError):
            Account.named(name)


class TestGuarantee:
    def test_says_what_it_covers_and_what_not(self) -> None:
        promise = Guarantee(units=10**6, delta=1e-6, window="2024-05")
        assert "whether anything you did in 2024-05 was in it" in promise.sentence
        assert "between one person's history of 2024-05 and an empty one" in str(promise)
        assert "outside 2024-05: each window is paid for by itself, twelve of them twelve times" in str(promise)
        assert promise.unit == promise.to_dict()["unit"] == "person-month"
        assert Guarantee.from_dict(promise.to_dict()) == promise

    def test_without_a_window_nothing_is_new(self) -> None:
        promise = Guarantee(units=10**6, delta=1e-6)
        assert (promise.unit, promise.neighbours) == ("person", promise.adjacency)
        stored = promise.to_dict()
        del stored["window"]  # as it was written before there were windows
        assert Guarantee.from_dict(stored) == promise

    def test_of_no_window(self) -> None:
        with pytest.raises(SettingError):
            Guarantee(units=1, delta=1e-6, window="soon")
