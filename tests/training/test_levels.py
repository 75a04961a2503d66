"""Levels and categories from end to end: one release, each held for their own price, each told what was used."""

import math
from dataclasses import replace
from itertools import compress
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from tests.conftest import MEASURE, TRAIN

from discreet.data.catalogue import Catalogue
from discreet.data.intake import read_interactions, read_levels
from discreet.data.interactions import Histories, Interactions
from discreet.data.store import write_interactions
from discreet.errors import ArtefactError, BudgetExceeded, DataError, ReleaseConflict, SettingError
from discreet.evaluation import risk, tradeoff
from discreet.evaluation.risk import risk_by_level
from discreet.evaluation.search import Search
from discreet.evaluation.tradeoff import fit_unbilled
from discreet.governance.ledger import Account, Ledger
from discreet.models.card import card, card_markdown
from discreet.models.recipe import Kind
from discreet.models.trained import Trained
from discreet.privacy.levels import Level, Levels
from discreet.privacy.plan import Plan
from discreet.training.fitting import fit
from discreet.training.participants import Participants, Usage
from discreet.training.rounds import train

CHOICES = ("off", "strong", "balanced", "light")


@pytest.fixture
def levels(histories: Histories) -> Levels:
    """A quarter of the people at each level."""
    people = histories.people_ids
    return Levels({person: Level.named(CHOICES[number % 4]) for number, person in enumerate(people)})


def of_level(histories: Histories, number: int) -> list[str | int]:
    return [person for place, person in enumerate(histories.people_ids) if place % 4 == number]


@pytest.mark.parametrize("kind", ["popularity", "subspace", "gram", "ials", "als"])
def test_each_pays_what_their_level_gives(
    data: Interactions, histories: Histories, levels: Levels, book: Ledger, account: Account, kind: Kind
) -> None:
    trained = fit(data, epsilon=4.0, ledger=book, kind=kind, levels=levels)
    assert trained.people == 225
    assert book.account(account).spent == trained.plan.cost
    costs = [trained.plan.cost_at(level) for level in Level]
    for number, cost in enumerate(costs):
        used = [book.person("tastes", person).spent for person in of_level(histories, number)]
        assert max(used) <= cost
        assert np.mean(used) >= 0.5 * cost
    assert book.releases()[0].people == 225
    assert book.verify().ok
    read = Trained.from_bytes(trained.to_bytes())
    assert read.guarantee == trained.guarantee
    assert [name for name, _ in read.guarantee.levels] == ["strong", "balanced", "light"]
    assert "| level strong | epsilon " in card_markdown(card(read))


def test_what_each_used_is_their_rows_squared_length(
    data: Interactions, histories: Histories, levels: Levels, book: Ledger
) -> None:
    trained = fit(data, epsilon=4.0, ledger=book, kind="popularity", levels=levels)
    (bound,) = trained.plan.bounds
    lengths = np.diff(histories.matrix.indptr)
    for place, person in enumerate(histories.people_ids):
        part, k = Level.named(CHOICES[place % 4]).of(bound), int(lengths[place])
        assert book.person("tastes", person).spent == k * (part * part // k and math.isqrt(part * part // k)) ** 2


def test_from_memory_and_from_a_file_it_is_the_same(data: Interactions, levels: Levels, tmp_path: Path) -> None:
    path = tmp_path / "tastes.parquet"
    write_interactions(data, path)
    made = [
        fit(source, epsilon=4.0, ledger=tmp_path / f"{number}.db", kind="subspace", levels=levels, insecure_test_seed=3)
        for number, source in enumerate((data, read_interactions(path)))
    ]
    assert all(np.array_equal(made[0].state[name], made[1].state[name]) for name in made[0].state)


def test_off_has_no_influence(data: Interactions, histories: Histories, tmp_path: Path) -> None:
    out = dict.fromkeys(histories.people_ids[:100], Level.OFF)
    states = []
    for number, people in enumerate((histories, histories.take(np.arange(100, 300)))):
        chosen = Levels(out if number == 0 else {}, Level.LIGHT)
        ledger = tmp_path / f"{number}.db"
        states.append(fit(people, epsilon=4.0, delta=1e-5, ledger=ledger, levels=chosen, insecure_test_seed=3).state)
    assert all(np.array_equal(states[0][name], states[1][name]) for name in states[0])


def test_everybody_light_is_no_levels_at_all(data: Interactions, tmp_path: Path) -> None:
    states = [
        fit(data, epsilon=4.0, ledger=tmp_path / f"{number}.db", levels=chosen, insecure_test_seed=3).state
        for number, chosen in enumerate((None, Levels({}, Level.LIGHT)))
    ]
    assert all(np.array_equal(states[0][name], states[1][name]) for name in states[0])


def test_nobody_takes_part(data: Interactions, tmp_path: Path) -> None:
    with pytest.raises(SettingError, match="everybody is at level off"):
        fit(data, epsilon=1.0, ledger=tmp_path / "l.db", levels=Levels({}, Level.OFF))
    assert not (tmp_path / "l.db").exists()


def test_strangers_and_what_is_no_levels_charge_nothing(data: Interactions, tmp_path: Path) -> None:
    with pytest.raises(SettingError, match="1 of those who chose one are not in the data"):
        fit(data, epsilon=1.0, ledger=tmp_path / "l.db", levels=Levels({"nobody": Level.LIGHT}))
    plain: Any = {"person-001": "strong"}
    with pytest.raises(SettingError, match="levels must be Levels, not dict"):
        fit(data, epsilon=1.0, ledger=tmp_path / "l.db", levels=plain)
    with pytest.raises(SettingError, match="without noise no level"):
        fit(data, epsilon=math.inf, levels=Levels({}))
    assert not (tmp_path / "l.db").exists()


def test_a_release_is_repeated_at_its_levels_alone(
    data: Interactions, book: Ledger, account: Account, levels: Levels
) -> None:
    trained = fit(data, epsilon=1.0, ledger=book, levels=levels, release="spring")
    other = Levels({**levels.chosen, "person-003": Level.STRONG})
    with pytest.raises(ReleaseConflict):
        fit(data, epsilon=1.0, ledger=book, levels=other, release="spring")
    assert book.account(account).spent == trained.plan.cost


def test_personal_caps_admit_by_level(
    data: Interactions, histories: Histories, tmp_path: Path, account: Account, levels: Levels
) -> None:
    with Ledger(tmp_path / "caps.db") as ledger:
        ledger.open_budget(account, epsilon=8.0, delta=1e-5, person_epsilon=1.0)
        once = fit(data, epsilon=1.0, ledger=ledger, kind="popularity", levels=levels)
        again = fit(data, epsilon=1.0, ledger=ledger, kind="popularity", levels=levels)
        assert (once.people, again.people) == (225, 150)  # for light that was all
        fit(data, epsilon=1.0, ledger=ledger, kind="popularity", levels=levels)
        fit(data, epsilon=1.0, ledger=ledger, kind="popularity", levels=levels)
        last = fit(data, epsilon=1.0, ledger=ledger, kind="popularity", levels=levels)
        assert last.people == 75  # a balanced person paid a quarter each time
        with pytest.raises(BudgetExceeded):
            fit(data, epsilon=1.1, ledger=ledger, kind="popularity", levels=Levels({}, Level.LIGHT))
        assert ledger.verify().ok


def test_a_first_budget_is_for_those_who_take_part(tmp_path: Path) -> None:
    """delta is judged by how many they are, in the ledger that is made as in the run."""
    many = [*range(120_000)]
    data = read_interactions({"user_id": many, "item_id": [number % 7 for number in many]}, name="many")
    levels = Levels(dict.fromkeys(many[:300], Level.LIGHT), Level.OFF)
    trained = fit(data, epsilon=4.0, ledger=tmp_path / "l.db", levels=levels)
    assert trained.people == 300
    assert trained.plan.delta == 1e-5


class TestParticipants:
    def test_weigh_as_many_whole_ones(self, histories: Histories, levels: Levels) -> None:
        assert Participants.of(histories, None).whole == 300
        assert Participants.of(histories, levels).whole == round(75 * (1 + 2 + 4) / 4)
        assert Participants.of(histories.take(np.arange(1)), Levels({}, Level.STRONG)).whole == 1

    def test_usage_adds_up_over_rounds(self) -> None:
        usage = Usage(3)
        for block in ([1, 2], [3], [10, 20], [30]):
            usage(np.array(block))
        assert usage.units.tolist() == [11, 22, 33]


@pytest.mark.parametrize("wrong", [{"health": "0.1"}, {"health": None}, {"health": True}, 0.1, "health"])
def test_weights_of_other_types(data: Interactions, tmp_path: Path, wrong: Any) -> None:
    with pytest.raises(SettingError):
        fit(data, epsilon=1.0, ledger=tmp_path / "l.db", sensitive=wrong)
    assert not (tmp_path / "l.db").exists()


def test_levels_of_other_types() -> None:
    wrong: Any = "light"
    with pytest.raises(SettingError, match="give a Level"):
        Levels({1: wrong})
    with pytest.raises(SettingError, match="give a Level"):
        Levels({}, wrong)


class TestReading:
    def test_a_file(self, tmp_path: Path) -> None:
        path = tmp_path / "levels.csv"
        path.write_text("user_id,level\n7,strong\n8,off\n")
        assert read_levels(path) == Levels({7: Level.STRONG, 8: Level.OFF})
        assert read_levels(path, others="off").others is Level.OFF

    def test_a_frame_without_rows(self) -> None:
        empty = pl.DataFrame({"user_id": [], "level": []}, schema={"user_id": pl.String, "level": pl.String})
        assert read_levels(empty) == Levels({})

    @pytest.mark.parametrize(
        ("rows", "why"),
        [
            ("user_id,level\n7,medium\n", "column 'level', row 1: is not one of: off, strong, balanced, light"),
            ("user_id,level\n7,\n", "row 1: is not one of"),
            ("user_id,level\n7,off\n7,off\n", "names a person twice"),
            ("user_id\n7\n", "no column 'level'"),
            ("user_id,level\n,off\n", "row 1: has no id"),
        ],
    )
    def test_what_is_no_such_file(self, tmp_path: Path, rows: str, why: str) -> None:
        path = tmp_path / "levels.csv"
        path.write_text(rows)
        with pytest.raises(DataError, match=why):
            read_levels(path)

    def test_a_level_that_is_none(self) -> None:
        with pytest.raises(SettingError, match="no level is called 'medium'"):
            read_levels({"user_id": [1], "level": ["off"]}, others="medium")


class TestCategories:
    @pytest.fixture
    def declared(self, columns: dict[str, list[int] | list[str]]) -> Interactions:
        """The items 130 to 134 are of health, 135 of minors."""
        ids = tuple(range(100, 160))
        categories = tuple("health" if 130 <= item < 135 else "minors" if item == 135 else "" for item in ids)
        catalogue = Catalogue(ids, categories=categories)
        return read_interactions(columns, name="tastes", purposes=[TRAIN], catalogue=catalogue)

    def test_weigh_less_by_themselves(self, declared: Interactions, book: Ledger) -> None:
        trained = fit(declared, epsilon=4.0, ledger=book, kind="gram")
        assert trained.plan.weights == (("health", 2), ("minors", 2))
        assert [name for name, _ in trained.guarantee.records] == ["health", "minors"]
        assert dict(trained.guarantee.records)["health"] <= trained.plan.cost / 16 * 1.05
        page = card_markdown(card(trained))
        assert "| all that somebody did of health | epsilon " in page
        assert "| level " not in page
        assert Trained.from_bytes(trained.to_bytes()).guarantee == trained.guarantee

    def test_at_weight_0_nothing_that_is_released_depends_on_them(
        self, declared: Interactions, columns: dict[str, list[int] | list[str]], tmp_path: Path
    ) -> None:
        kept = [not 130 <= int(item) < 135 for item in columns["item_id"]]
        fewer = {name: list(compress(column, kept)) for name, column in columns.items()}
        others = read_interactions(fewer, name="tastes", purposes=[TRAIN], catalogue=declared.catalogue)
        asked: dict[str, Any] = {"epsilon": 4.0, "delta": 1e-5, "sensitive": {"health": 0.0}, "insecure_test_seed": 3}
        made = [fit(each, ledger=tmp_path / f"{n}.db", **asked) for n, each in enumerate((declared, others))]
        assert all(np.array_equal(made[0].state[name], made[1].state[name]) for name in made[0].state)
        assert dict(made[0].guarantee.records) == {"health": 0, "minors": dict(made[0].guarantee.records)["minors"]}

    def test_that_do_not_exist_charge_nothing(self, declared: Interactions, data: Interactions, tmp_path: Path) -> None:
        with pytest.raises(SettingError, match="'religion'; the catalogue declares health, minors"):
            fit(declared, epsilon=1.0, ledger=tmp_path / "l.db", sensitive={"religion": 0.125})
        with pytest.raises(SettingError, match="give it a column 'sensitive'"):
            fit(data, epsilon=1.0, ledger=tmp_path / "l.db", sensitive={"health": 0.125})
        assert not (tmp_path / "l.db").exists()

    def test_are_weighed_wherever_quality_and_risk_are_measured(
        self, columns: dict[str, list[int] | list[str]], declared: Interactions, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        measured = read_interactions(columns, name="tastes", purposes=[MEASURE], catalogue=declared.catalogue)
        histories, plans = measured.opened_for(MEASURE), list[Plan]()

        def noting(model: Any, population: Any, plan: Plan, **named: Any) -> Trained:
            plans.append(plan)
            return train(model, population, plan, **named)

        for room in (tradeoff, risk):
            monkeypatch.setattr(room, "train", noting)
        fit_unbilled(histories, 4.0, "gram")
        risk_by_level(histories, Levels({}, Level.LIGHT), epsilon=4.0, kind="gram", seeds=1)
        assert [plan.weights for plan in plans] == [(("health", 2), ("minors", 2))] * 2
        search = Search(300, 60, 1e-5, weights=plans[0].weights)
        assert {plan.weights for _, plan in search.trainings} == {plans[0].weights}

    def test_of_no_item_are_not_believed_in_a_file(self, data: Interactions, book: Ledger) -> None:
        trained = fit(data, epsilon=1.0, ledger=book, kind="popularity")
        plan = replace(trained.plan, weights=(("politics", 0),))
        forged = replace(trained, plan=plan, guarantee=replace(trained.guarantee, records=(("politics", 0),)))
        with pytest.raises(ArtefactError, match="a category that no item is of"):
            Trained.from_bytes(forged.to_bytes())

    def test_with_levels(self, declared: Interactions, levels: Levels, book: Ledger, histories: Histories) -> None:
        trained = fit(declared, epsilon=4.0, ledger=book, kind="subspace", levels=levels)
        for number, level in enumerate(Level):
            used = [book.person("tastes", person).spent for person in of_level(histories, number)]
            assert max(used) <= trained.plan.cost_at(level)
