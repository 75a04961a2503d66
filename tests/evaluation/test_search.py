"""The search for an epsilon: what it costs whom, what it reads, what it releases."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
from scipy.sparse import csr_array

from discreet.data.intake import read_interactions
from discreet.data.interactions import Histories, Interactions
from discreet.errors import (
    AccountMissing,
    BudgetExceeded,
    DiscreetError,
    PrivacyError,
    PurposeNotAllowed,
    ReleaseConflict,
    SettingError,
)
from discreet.evaluation import search as searching
from discreet.evaluation.gains import Gains
from discreet.evaluation.search import GRID, Search, measured_of, search_gains
from discreet.governance.ledger import Account, Ledger
from discreet.models.recipe import Kind
from discreet.privacy.accounting import cap
from discreet.training.billing import exists

MEASURING = Account("tastes", "measure-quality")
ASKED: dict[str, Any] = {"epsilons": (1.0, 4.0, 8.0), "kind": "subspace"}


@pytest.fixture(scope="module")
def opened(data: Interactions) -> Histories:
    return data.opened_for("measure-quality")


@pytest.fixture
def quality(tmp_path: Path) -> Iterator[Ledger]:
    with Ledger(tmp_path / "ledger.db") as ledger:
        ledger.open_budget(MEASURING, epsilon=15.0, delta=1e-5)
        yield ledger


@contextmanager
def uncharged(ledger: Ledger) -> Iterator[None]:
    yield
    assert ledger.account(MEASURING).spent == 0
    assert ledger.verify().ok


class TestPrice:
    def test_is_that_of_all_trainings_and_the_measurement_costs_no_more(self) -> None:
        search = Search(people=6_040, items=3_706, delta=1e-5)
        assert search.epsilons == GRID
        assert search.cost <= sum(cap(epsilon, 1e-5) for epsilon in GRID)
        assert 0.999 * search.cost < search.measurement.cost <= search.cost
        assert search.guarantee().units == search.cost
        assert GRID[-1] < search.guarantee().epsilon < 1.4 * GRID[-1]

    def test_depends_on_public_numbers_alone_and_is_known_without_data(self) -> None:
        assert Search(people=500, items=50, delta=1e-5).spec == Search(people=500, items=50, delta=1e-5).spec
        assert Search(people=500, items=50, delta=1e-5).spec != Search(people=500, items=50, delta=1e-5, seed=1).spec
        plain, told = (Search(people=6_040, items=3_706, delta=1e-5, tagged=tagged) for tagged in (False, True))
        assert plain.trainings != told.trainings

    @pytest.mark.parametrize(
        "epsilons", [(), (1.0,), (2.0, 1.0), (1.0, 1.0), tuple(range(1, 14)), (1.0, float("inf")), (0.0, 1.0)]
    )
    def test_epsilons_that_are_no_grid(self, epsilons: tuple[float, ...]) -> None:
        with pytest.raises(SettingError, match="epsilon"):
            _ = Search(people=500, items=50, delta=1e-5, epsilons=epsilons).cost

    def test_too_few_people(self) -> None:
        with pytest.raises(SettingError, match="too few"):
            Search(people=1, items=50, delta=1e-5)

    @pytest.mark.parametrize(("people", "measured"), [(2, 1), (10, 2), (1_000, 200), (10**6, 5_000)])
    def test_a_fifth_is_measured_at_most(self, people: int, measured: int) -> None:
        assert measured_of(people) == measured


class TestBill:
    def test_is_charged_and_journalled_once(self, opened: Histories, quality: Ledger, tmp_path: Path) -> None:
        (tmp_path / "found").mkdir()
        told: list[tuple[int, int]] = []
        found = search_gains(
            opened,
            ledger=quality,
            out=tmp_path / "found" / "gains.json",
            progress=lambda done, total: told.append((done, total)),
            **ASKED,
        )
        search = Search(300, 60, 1e-5, **ASKED)
        assert quality.account(MEASURING).spent == search.cost == found.guarantee.units
        assert told == [(1, 3), (2, 3), (3, 3)]
        (release,) = quality.releases()
        assert (release.state, release.people, release.spec) == ("committed", 300, search.spec)
        assert quality.verify(artefacts=tmp_path / "found").ok
        assert Gains.load(tmp_path / "found" / "gains.json") == found
        assert (found.measured, found.trained_on, found.release) == (60, 240, release.release)
        assert found.guarantee.private

    def test_finds_taste(self, quality: Ledger) -> None:
        rng = np.random.default_rng(5)
        people = [rng.choice(30, 12, replace=False) + 30 * (person % 4) for person in range(2_000)]
        columns = {"user_id": np.repeat(np.arange(2_000), 12).tolist(), "item_id": np.concatenate(people).tolist()}
        opened = read_interactions(columns, name="tastes", purposes=[MEASURING.purpose]).opened_for(MEASURING.purpose)
        found = search_gains(opened, ledger=quality, insecure_test_seed=1, **ASKED)
        assert found.is_gain
        assert not found.guarantee.private
        answer = found.smallest(0.5)
        assert answer.epsilon is not None
        assert 1.0 <= answer.epsilon <= 8.0

    @pytest.mark.parametrize("kind", get_args(Kind))
    def test_every_kind_of_model_tells_how_popular_items_are(
        self, kind: Kind, opened: Histories, quality: Ledger
    ) -> None:
        found = search_gains(opened, ledger=quality, kind=kind, epsilons=(2.0, 4.0))
        assert (found.kind, len(found.mean)) == (kind, 2)
        assert kind != "popularity" or abs(found.mean[-1]) < 6 * found.noise  # it is its own floor

    def test_what_is_published_is_read_again_at_no_charge(
        self, opened: Histories, quality: Ledger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        asked = ASKED | {"ledger": quality, "release": "spring", "out": tmp_path / "gains.json"}
        found = search_gains(opened, **asked)
        spent = quality.account(MEASURING).spent
        monkeypatch.setattr(searching, "train", None)
        assert search_gains(opened, **asked) == found
        assert quality.account(MEASURING).spent == spent
        with pytest.raises(ReleaseConflict, match="made already"):
            search_gains(opened, **asked | {"out": None})
        with pytest.raises(ReleaseConflict, match="another"):
            search_gains(opened, **asked | {"seed": 1})

    def test_interrupted_it_is_repeated_at_no_further_charge(
        self, opened: Histories, quality: Ledger, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def die(*_: object, **__: object) -> None:
            raise KeyboardInterrupt

        charged: list[str] = []
        with monkeypatch.context() as patched:
            patched.setattr(searching, "disclose", die)
            with pytest.raises(KeyboardInterrupt):
                search_gains(opened, ledger=quality, reserved=charged.append, **ASKED)
        spent = quality.account(MEASURING).spent
        assert spent > 0
        search_gains(opened, ledger=quality, release=charged[0], **ASKED)
        assert quality.account(MEASURING).spent == spent
        assert [release.state for release in quality.releases()] == ["committed"]

    def test_a_budget_that_is_too_small_is_refused_before_anything_is_trained(
        self, opened: Histories, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(searching, "train", None)
        with Ledger(tmp_path / "small.db") as ledger:
            ledger.open_budget(MEASURING, epsilon=8.0, delta=1e-5)
            with uncharged(ledger), pytest.raises(BudgetExceeded, match="tastes/measure-quality"):
                search_gains(opened, ledger=ledger, **ASKED)

    def test_a_budget_for_training_does_not_pay(self, opened: Histories, book: Ledger) -> None:
        with pytest.raises(AccountMissing, match="tastes/measure-quality"):
            search_gains(opened, ledger=book, **ASKED)

    def test_whoever_has_nothing_left_is_in_neither_part(self, opened: Histories, quality: Ledger) -> None:
        for person in opened.people_ids[:40]:
            quality.limit_person("tastes", person, epsilon=1.0, delta=1e-5)
        found = search_gains(opened, ledger=quality, **ASKED)
        assert found.trained_on + found.measured == 260
        assert quality.person("tastes", opened.people_ids[0]).spent == 0
        assert quality.person("tastes", opened.people_ids[-1]).spent == found.guarantee.units

    def test_one_person_alone_cannot_be_parted(self, opened: Histories, quality: Ledger) -> None:
        for person in opened.people_ids[1:]:
            quality.limit_person("tastes", person, epsilon=1.0, delta=1e-5)
        with pytest.raises(PrivacyError, match="fewer than two"):
            search_gains(opened, ledger=quality, **ASKED)


class TestBadInput:
    @pytest.mark.parametrize(
        ("change", "error"),
        [
            ({"epsilons": ()}, SettingError),
            ({"epsilons": (1.0, -2.0)}, SettingError),
            ({"kind": "astrology"}, SettingError),
            ({"seed": -1}, SettingError),
            ({"release": ""}, SettingError),
            ({"out": "missing/gains.json"}, SettingError),
        ],
    )
    def test_charges_nothing(
        self, change: dict[str, Any], error: type[DiscreetError], opened: Histories, quality: Ledger
    ) -> None:
        with uncharged(quality), pytest.raises(error):
            search_gains(opened, ledger=quality, **ASKED | change)

    def test_another_purpose(self, histories: Histories, quality: Ledger) -> None:
        with uncharged(quality), pytest.raises(PurposeNotAllowed, match="measure-quality"):
            search_gains(histories, ledger=quality, **ASKED)

    def test_never_overwrites(self, opened: Histories, quality: Ledger, tmp_path: Path) -> None:
        (tmp_path / "gains.json").write_text("mine")
        with uncharged(quality), pytest.raises(SettingError, match="never overwritten"):
            search_gains(opened, ledger=quality, out=tmp_path / "gains.json", **ASKED)
        assert (tmp_path / "gains.json").read_text() == "mine"
        assert exists(tmp_path / "gains.json")


def test_one_person_changes_their_own_row_alone(opened: Histories, quality: Ledger) -> None:
    """The claim that the price of the measurement rests on, on real rows: neighbours differ in one measured person."""
    seen: list[np.ndarray] = []
    honest = searching._rows

    def watched(*arguments: Any) -> Iterator[csr_array]:
        for rows in honest(*arguments):
            seen.append(rows.toarray())
            yield rows

    lengths = np.diff(opened.matrix.indptr)
    measured = np.sort(np.random.default_rng((1000, 0)).choice(300, 60, replace=False))
    emptied = opened.matrix.toarray()
    emptied[measured[7]] = 0
    neighbour = replace(opened, matrix=csr_array(emptied))
    assert lengths[measured[7]] > 0
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(searching, "_rows", watched)
        for histories in (opened, neighbour):
            search_gains(histories, ledger=quality, insecure_test_seed=1, epsilons=(0.5, 1.0), kind="popularity")
    changed = np.flatnonzero((seen[0] != seen[1]).any(axis=1))
    assert set(changed.tolist()) <= {7}
    assert not seen[1][7].any()
