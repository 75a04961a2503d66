"""From a data set and a budget to a published model: what is charged, what is written, and when neither is."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from servers import Server

from discreet.data.interactions import Histories, Interactions
from discreet.errors import (
    AccountMissing,
    BoundExceeded,
    BudgetExceeded,
    LedgerError,
    PurposeNotAllowed,
    ReleaseConflict,
    SettingError,
)
from discreet.governance.charges import Units
from discreet.governance.ledger import Account, Ledger
from discreet.models.card import card, card_markdown
from discreet.models.popularity import Popularity
from discreet.models.recipe import Kind
from discreet.models.trained import Trained
from discreet.privacy.accounting import cap, default_delta
from discreet.privacy.clipping import Summed
from discreet.training import billing, fitting
from discreet.training.fitting import fit

PURPOSE = "train-recommender"


def spent(ledger: Ledger, account: Account) -> int:
    return ledger.account(account).spent


@contextmanager
def untouched(ledger: Ledger, account: Account, folder: Path) -> Iterator[None]:
    """Check that nothing is charged and no file appears."""
    before, files = spent(ledger, account), sorted(folder.iterdir())
    yield
    assert spent(ledger, account) == before
    assert sorted(folder.iterdir()) == files
    assert ledger.verify().ok


class TestBill:
    @pytest.mark.parametrize("kind", ["auto", "popularity", "subspace", "gram", "ials", "als", "als-adaptive", "sgd"])
    def test_is_exactly_the_cost_of_the_plan(
        self, kind: Kind, data: Interactions, book: Ledger, account: Account
    ) -> None:
        trained = fit(data, epsilon=2.0, ledger=book, kind=kind)
        assert spent(book, account) == trained.plan.cost == trained.guarantee.units
        assert trained.plan.cost <= cap(2.0, 1e-5)
        assert trained.guarantee.epsilon <= 2.0
        assert trained.guarantee.epsilon > 1.99
        assert trained.guarantee.private
        assert book.verify().ok
        (release,) = book.releases()
        assert (release.release, release.state, release.people) == (trained.release, "committed", 300)

    def test_a_first_ledger_holds_one_run(self, data: Interactions, tmp_path: Path, account: Account) -> None:
        path = tmp_path / "new.db"
        trained = fit(data, epsilon=1.0, ledger=path)
        assert len(trained.recommend(history=[100, 101], n=10)) == 10
        with pytest.raises(BudgetExceeded):
            fit(data, epsilon=0.1, ledger=str(path))
        with Ledger(path, create=False) as ledger:
            state = ledger.account(account)
            assert (state.epsilon, state.delta, state.releases) == (1.0, default_delta(300), 1)
            assert ledger.verify().ok

    def test_on_a_server_the_budget_must_be_open(self, data: Interactions, server: Server, account: Account) -> None:
        place = server.new()
        with pytest.raises(AccountMissing):
            fit(data, epsilon=1.0, ledger=place)
        with Ledger(place) as ledger:
            ledger.open_budget(account, epsilon=1.0, delta=1e-5)
            trained = fit(data, epsilon=1.0, ledger=place)
            assert [state.release for state in ledger.releases()] == [trained.release]
            assert ledger.verify().ok

    def test_taste_is_learnt(self, data: Interactions, book: Ledger) -> None:
        trained = fit(data, epsilon=4.0, ledger=book, kind="subspace")
        lower, upper = trained.recommend([100, 101, 102, 103], 10), trained.recommend([130, 131, 132, 133], 10)
        assert sum(int(item) < 130 for item in lower) >= 7
        assert sum(int(item) >= 130 for item in upper) >= 7

    def test_progress_tells_the_rounds(self, data: Interactions, book: Ledger) -> None:
        told: list[tuple[int, int]] = []
        fit(data, epsilon=2.0, ledger=book, kind="subspace", progress=lambda done, total: told.append((done, total)))
        assert told == [(done, 5) for done in range(1, 6)]

    def test_published_file_is_the_model(self, data: Interactions, book: Ledger, tmp_path: Path) -> None:
        trained = fit(data, epsilon=2.0, ledger=book, out=tmp_path / "model.npz")
        assert Trained.load(tmp_path / "model.npz").to_bytes() == trained.to_bytes()
        assert book.verify(artefacts=tmp_path).ok


class TestRefusal:
    def test_overspending(self, data: Interactions, book: Ledger, account: Account, tmp_path: Path) -> None:
        fit(data, epsilon=7.0, ledger=book)
        with untouched(book, account, tmp_path), pytest.raises(BudgetExceeded, match="asked") as refusal:
            fit(data, epsilon=7.0, ledger=book, out=tmp_path / "model.npz")
        assert refusal.value.left == cap(8.0, 1e-5) - spent(book, account)
        assert refusal.value.asked <= cap(7.0, 1e-5)
        assert "person-" not in str(refusal.value)

    def test_nothing_is_computed_for_a_refused_run(
        self, data: Interactions, tmp_path: Path, account: Account, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(fitting, "train", None)
        with Ledger(tmp_path / "small.db") as ledger:
            ledger.open_budget(account, epsilon=0.5, delta=1e-5)
            with pytest.raises(BudgetExceeded):
                fit(data, epsilon=1.0, ledger=ledger)

    @pytest.mark.parametrize("epsilon", [0.0, -1.0, math.nan, -math.inf, 1001.0])
    def test_epsilon_out_of_range(
        self, epsilon: float, data: Interactions, book: Ledger, account: Account, tmp_path: Path
    ) -> None:
        for ledger in (book, tmp_path / "new.db", None):
            with untouched(book, account, tmp_path), pytest.raises(SettingError, match="epsilon"):
                fit(data, epsilon=epsilon, ledger=ledger)

    @pytest.mark.parametrize("delta", [0.0, -1e-6, 1.0, math.nan, 1 / 300, 0.5])
    def test_delta_out_of_range(
        self, delta: float, data: Interactions, book: Ledger, account: Account, tmp_path: Path
    ) -> None:
        for ledger in (book, tmp_path / "new.db"):
            with untouched(book, account, tmp_path), pytest.raises(SettingError, match="delta"):
                fit(data, epsilon=1.0, ledger=ledger, delta=delta)

    def test_budget_whose_delta_protects_too_few(self, data: Interactions, tmp_path: Path, account: Account) -> None:
        with Ledger(tmp_path / "careless.db") as ledger:
            ledger.open_budget(account, epsilon=1.0, delta=0.01)
            with pytest.raises(SettingError, match="publishing one person whole"):
                fit(data, epsilon=1.0, ledger=ledger)

    def test_another_delta_than_the_budgets(self, data: Interactions, book: Ledger) -> None:
        with pytest.raises(SettingError, match="1e-06 was asked"):
            fit(data, epsilon=1.0, ledger=book, delta=1e-6)
        assert fit(data, epsilon=1.0, ledger=book, delta=1e-5).guarantee.delta == 1e-5

    def test_unknown_kind_leaves_no_ledger(self, data: Interactions, tmp_path: Path) -> None:
        options: dict[str, Any] = {"kind": "astrology"}
        with pytest.raises(SettingError, match="unknown model"):
            fit(data, epsilon=1.0, ledger=tmp_path / "new.db", **options)
        assert list(tmp_path.iterdir()) == []

    def test_ledger_without_the_account(self, data: Interactions, tmp_path: Path) -> None:
        with Ledger(tmp_path / "other.db") as ledger:
            ledger.open_budget(Account("others", PURPOSE), epsilon=1.0, delta=1e-6)
        with pytest.raises(AccountMissing, match="tastes/train-recommender"):
            fit(data, epsilon=1.0, ledger=tmp_path / "other.db")

    def test_no_ledger(self, data: Interactions) -> None:
        with pytest.raises(SettingError, match="give ledger="):
            fit(data, epsilon=1.0)

    @pytest.mark.parametrize("name", ["taken", ".hidden", "missing/model", "a\nb", "n" * 201])
    def test_no_place_for_the_model(
        self, name: str, data: Interactions, book: Ledger, account: Account, tmp_path: Path
    ) -> None:
        (tmp_path / "taken").write_bytes(b"mine")
        for ledger in (book, tmp_path / "new.db"):
            with untouched(book, account, tmp_path), pytest.raises(SettingError):
                fit(data, epsilon=1.0, ledger=ledger, out=tmp_path / name)
        assert (tmp_path / "taken").read_bytes() == b"mine"

    def test_purpose_that_the_data_was_not_collected_for(
        self, data: Interactions, book: Ledger, account: Account, tmp_path: Path
    ) -> None:
        for ledger in (book, tmp_path / "new.db"):
            with untouched(book, account, tmp_path), pytest.raises(PurposeNotAllowed, match="advertising"):
                fit(data, epsilon=1.0, ledger=ledger, purpose="advertising")

    def test_histories_that_were_opened_for_another_purpose(
        self, data: Interactions, book: Ledger, account: Account, tmp_path: Path
    ) -> None:
        with untouched(book, account, tmp_path), pytest.raises(PurposeNotAllowed, match="measure-quality"):
            fit(data.opened_for("measure-quality"), epsilon=1.0, ledger=book)
        assert fit(data.opened_for(PURPOSE), epsilon=1.0, ledger=book).purpose == PURPOSE

    def test_model_that_breaks_its_bound(
        self, data: Interactions, book: Ledger, account: Account, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        honest = Popularity.summed

        def too_long(self: Popularity, *histories: Any, **arguments: Any) -> Summed:
            summed = honest(self, *histories, **arguments)
            return Summed(summed.total, summed.squared_norms * 2)

        monkeypatch.setattr(Popularity, "summed", too_long)
        with pytest.raises(BoundExceeded, match="nothing was released"):
            fit(data, epsilon=1.0, ledger=book, kind="popularity", out=tmp_path / "model.npz")
        assert not (tmp_path / "model.npz").exists()
        assert spent(book, account) > 0
        assert [release.state for release in book.releases()] == ["reserved"]


WRONG: list[dict[str, Any]] = [
    *[{"epsilon": value} for value in ("1", None, True, 1j, 10**400)],
    *[{"delta": value} for value in ("x", True, [1e-6])],
    *[{"epsilon": math.inf, "delta": value} for value in ("x", 0.0, 0.5, math.nan)],
    *[{"ledger": value} for value in (5, True, b"ledger.db", "n" * 300)],
    *[{"out": value} for value in (5, True, b"model.npz", "", "é" * 200, "n" * 300 + "/m.npz")],
    *[{"release": value} for value in (5, "", True)],
    *[{"data": value} for value in (None, "ratings.parquet", [[1, 2]])],
    *[{name: 5} for name in ("purpose", "kind")],
    *[{name: ["auto"]} for name in ("purpose", "kind")],
]


class TestWrongTypes:
    @pytest.mark.parametrize("wrong", WRONG, ids=lambda wrong: "-".join(map(repr, wrong.items()))[:60])
    def test_are_refused_before_anything_is_charged(
        self, wrong: dict[str, Any], data: Interactions, book: Ledger, account: Account, tmp_path: Path
    ) -> None:
        options: dict[str, Any] = {"data": data, "epsilon": 1.0, "ledger": book} | wrong
        with untouched(book, account, tmp_path), pytest.raises(SettingError) as refused:
            fit(options.pop("data"), **options)
        assert "\n" not in str(refused.value)

    @pytest.mark.parametrize("epsilon", [np.float32(1.0), np.int64(1), 1])
    def test_numbers_of_other_kinds_are_numbers(self, epsilon: Any, data: Interactions, book: Ledger) -> None:
        assert fit(data, epsilon=epsilon, ledger=book).guarantee.private

    @pytest.mark.parametrize("n", [2.5, "3", True, None])
    def test_length_of_a_list(self, n: Any, data: Interactions) -> None:
        with pytest.raises(SettingError, match="n must be a whole number"):
            fit(data, epsilon=math.inf, kind="popularity").recommend([100], n)

    @pytest.mark.parametrize("history", [50, None, 2.5, "100"])
    def test_history(self, history: Any, data: Interactions) -> None:
        with pytest.raises(SettingError, match="a history is a list of item ids"):
            fit(data, epsilon=math.inf, kind="popularity").recommend(history)


class TestReserved:
    def test_is_told_once_it_is_charged_and_before_anything_is_computed(
        self, data: Interactions, book: Ledger, account: Account, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        told: list[tuple[str, int]] = []
        monkeypatch.setattr(fitting, "train", None)
        with pytest.raises(TypeError):
            fit(data, epsilon=1.0, ledger=book, reserved=lambda release: told.append((release, spent(book, account))))
        assert told == [(book.releases()[0].release, spent(book, account))]
        assert spent(book, account) > 0

    def test_is_not_told_of_a_refusal(self, data: Interactions, book: Ledger) -> None:
        told: list[str] = []
        with pytest.raises(BudgetExceeded):
            fit(data, epsilon=20.0, ledger=book, reserved=told.append)
        fit(data, epsilon=math.inf, reserved=told.append)
        assert told == []

    def test_a_name_that_is_taken_meanwhile(
        self, data: Interactions, book: Ledger, account: Account, tmp_path: Path
    ) -> None:
        out = tmp_path / "model.npz"
        with pytest.raises(LedgerError, match="--release spring --out OTHER"):
            fit(data, epsilon=1.0, ledger=book, release="spring", out=out, reserved=lambda _: _take(out))
        once = spent(book, account)
        fit(data, epsilon=1.0, ledger=book, release="spring", out=tmp_path / "other.npz")
        assert spent(book, account) == once
        assert out.read_bytes() == b"mine"


def _take(out: Path) -> None:
    out.write_bytes(b"mine")


class TestPersonsOwnCaps:
    def test_leave_people_out(self, data: Interactions, histories: Histories, tmp_path: Path, account: Account) -> None:
        out = histories.people_ids[:50]
        with Ledger(tmp_path / "caps.db") as ledger:
            ledger.open_budget(account, epsilon=8.0, delta=1e-5)
            for person in out:
                ledger.limit_person("tastes", person, epsilon=0.1, delta=1e-5)
            trained = fit(data, epsilon=1.0, ledger=ledger)
            assert trained.people == 250
            assert {ledger.person("tastes", person).spent for person in out} == {0}
            assert (
                0.98 * trained.plan.cost < ledger.person("tastes", histories.people_ids[50]).spent < trained.plan.cost
            )
            assert ledger.releases()[0].people == 250
            assert ledger.verify().ok

    def test_what_is_left_out_has_no_influence(self, histories: Histories, tmp_path: Path, account: Account) -> None:
        others = histories.take(np.arange(50, 300))
        states = []
        for number, people in enumerate((histories, others)):
            with Ledger(tmp_path / f"{number}.db") as ledger:
                ledger.open_budget(account, epsilon=8.0, delta=1e-5)
                for person in histories.people_ids[:50]:
                    ledger.limit_person("tastes", person, epsilon=0.1, delta=1e-5)
                made = fit(people, epsilon=1.0, ledger=ledger, kind="popularity", insecure_test_seed=1)
                states.append(made.state["counts"])
        # the plan is made for 300 or 250 people, but the noise and what is added to it are the same
        assert np.array_equal(states[0], states[1])

    def test_nobody_left(self, data: Interactions, tmp_path: Path, account: Account) -> None:
        with Ledger(tmp_path / "caps.db") as ledger:
            ledger.open_budget(account, epsilon=8.0, delta=1e-5, person_epsilon=0.5)
            with pytest.raises(BudgetExceeded, match="none of the people"):
                fit(data, epsilon=1.0, ledger=ledger)
            assert spent(ledger, account) == 0


class TestWithoutPrivacy:
    def test_needs_no_ledger_and_says_so_everywhere(self, data: Interactions, tmp_path: Path) -> None:
        trained = fit(data, epsilon=math.inf, out=tmp_path / "model.npz")
        assert "not private" in repr(trained)
        assert trained.guarantee.sentence.startswith("NOT PRIVATE")
        assert str(trained.guarantee).startswith("NOT PRIVATE")
        assert trained.guarantee.epsilon == trained.guarantee.mu == math.inf
        document = card(Trained.load(tmp_path / "model.npz"))
        assert document["guarantee"]["private"] is False
        assert document["guarantee"]["epsilon"] is None
        assert "> NOT PRIVATE" in card_markdown(document)
        assert [path.name for path in tmp_path.iterdir()] == ["model.npz"]

    def test_bills_nothing(self, data: Interactions, book: Ledger, account: Account) -> None:
        trained = fit(data, epsilon=math.inf, ledger=book)
        assert trained.release is None
        assert (spent(book, account), book.releases()) == (0, [])

    def test_never_overwrites(self, data: Interactions, tmp_path: Path) -> None:
        (tmp_path / "model.npz").write_bytes(b"mine")
        with pytest.raises(SettingError, match="never overwritten"):
            fit(data, epsilon=math.inf, out=tmp_path / "model.npz")
        assert (tmp_path / "model.npz").read_bytes() == b"mine"

    def test_purpose_counts_all_the_same(self, data: Interactions) -> None:
        with pytest.raises(PurposeNotAllowed):
            fit(data, epsilon=math.inf, purpose="advertising")


class TestNoise:
    def test_two_runs_differ(self, data: Interactions, book: Ledger) -> None:
        first, second = (fit(data, epsilon=1.0, ledger=book, kind="popularity") for _ in range(2))
        assert not np.array_equal(first.state["counts"], second.state["counts"])
        assert first.release != second.release
        assert not first.unsafe_noise

    def test_a_test_seed_is_repeatable_and_is_marked(self, data: Interactions, book: Ledger) -> None:
        first, second = (fit(data, epsilon=1.0, ledger=book, insecure_test_seed=5) for _ in range(2))
        assert all(np.array_equal(first.state[name], second.state[name]) for name in first.state)
        again = Trained.from_bytes(first.to_bytes())
        for trained in (first, again):
            assert trained.unsafe_noise
            assert "not private" in repr(trained)
            assert "unsafe_noise" in trained.guarantee.sentence
            assert trained.guarantee.epsilon == math.inf
            document = card(trained)
            assert document["unsafe_noise"] is True
            assert document["guarantee"]["private"] is False
            assert "unsafe_noise" in card_markdown(document)


class TestInterrupted:
    def test_dies_before_publishing_and_is_repeated_at_no_charge(
        self, data: Interactions, book: Ledger, account: Account, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def die(*_: object) -> None:
            raise KeyboardInterrupt

        with monkeypatch.context() as patched:
            patched.setattr(billing, "publish", die)
            with pytest.raises(KeyboardInterrupt):
                fit(data, epsilon=1.0, ledger=book, release="spring", out=tmp_path / "model.npz")
        once = spent(book, account)
        assert not (tmp_path / "model.npz").exists()
        trained = fit(data, epsilon=1.0, ledger=book, release="spring", out=tmp_path / "model.npz")
        assert spent(book, account) == once == trained.plan.cost
        assert book.verify(artefacts=tmp_path).ok
        again = fit(data, epsilon=1.0, ledger=book, release="spring", out=tmp_path / "model.npz")
        assert again.to_bytes() == trained.to_bytes()
        assert spent(book, account) == once

    def test_dies_between_commit_and_publication(
        self, data: Interactions, book: Ledger, account: Account, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        commit = Ledger.commit

        def die(self: Ledger, release: str, artefact: str, used: Units) -> str:
            commit(self, release, artefact, used)
            raise KeyboardInterrupt

        with monkeypatch.context() as patched:
            patched.setattr(Ledger, "commit", die)
            with pytest.raises(KeyboardInterrupt):
                fit(data, epsilon=1.0, ledger=book, release="spring", out=tmp_path / "model.npz")
        assert not (tmp_path / "model.npz").exists()
        with monkeypatch.context() as patched:
            patched.setattr(fitting, "train", None)  # what was committed is published; nothing is computed again
            trained = fit(data, epsilon=1.0, ledger=book, release="spring", out=tmp_path / "model.npz")
        assert spent(book, account) == trained.plan.cost
        assert book.verify(artefacts=tmp_path).ok

    def test_release_id_cannot_be_used_for_another_run(self, data: Interactions, book: Ledger, tmp_path: Path) -> None:
        fit(data, epsilon=1.0, ledger=book, release="spring", out=tmp_path / "model.npz")
        with pytest.raises(ReleaseConflict):
            fit(data, epsilon=2.0, ledger=book, release="spring", out=tmp_path / "other.npz")
        with pytest.raises(ReleaseConflict, match="made already"):
            fit(data, epsilon=1.0, ledger=book, release="spring")
        assert not (tmp_path / "other.npz").exists()
