"""Lists of what most people chose: whole people, of all or of each cohort."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from scipy.sparse import csr_array

from discreet.data.catalogue import Catalogue
from discreet.data.intake import read_interactions
from discreet.data.interactions import Interactions
from discreet.errors import ArtefactError, BudgetExceeded, PurposeNotAllowed, SettingError
from discreet.evaluation.favourites import (
    Cohorts,
    Favourites,
    behind_at_most,
    cohort_rows,
    release_favourites,
    sheet_of,
)
from discreet.governance.ledger import Account, Ledger
from discreet.models.sheet import Sheet, patch, patched
from discreet.privacy.adjacency import Adjacency
from discreet.privacy.guarantee import Guarantee
from discreet.privacy.plan import Plan

FAVOURITES = Account("tastes", "favourites")


@pytest.fixture
def tastes() -> dict[str, list[Any]]:
    """300 people: those of the north chose n1 and n2, of the south s1 and s2; everybody chose some of 30 others."""
    draw = np.random.default_rng(5)
    rows: list[tuple[str, str]] = []
    for person in range(300):
        name, letter = f"p{person:03}", "ns"[person % 2]
        rows += [(name, f"{letter}1"), (name, f"{letter}2")]
        rows += [(name, f"x{item:02}") for item in draw.choice(30, 5, replace=False).tolist()]
    people, items = zip(*rows, strict=True)
    return {"user_id": list(people), "item_id": list(items)}


@pytest.fixture
def choices(tastes: dict[str, list[Any]]) -> Interactions:
    return read_interactions(tastes, name="tastes", purposes=["favourites"])


@pytest.fixture
def cohorts() -> Cohorts:
    return Cohorts(("north", "south"), {f"p{person:03}": ("north", "south")[person % 2] for person in range(300)})


@pytest.fixture
def book(tmp_path: Path) -> Any:
    with Ledger(tmp_path / "ledger.db") as ledger:
        ledger.open_budget(FAVOURITES, epsilon=8.0, delta=1e-5)
        yield ledger


def test_a_list_of_all(choices: Interactions, book: Ledger, tmp_path: Path) -> None:
    found = release_favourites(choices, ledger=book, epsilon=4.0, n=4, out=tmp_path / "found.json")
    assert {*found.titles()["everybody"]} == {"n1", "n2", "s1", "s2"}  # 150 people ahead of any other by 80
    assert len(found.catalogue) == 4
    assert book.account(FAVOURITES).spent == found.guarantee.units
    assert book.person("tastes", "p000").spent == found.guarantee.units
    assert found.guarantee.unit == "person"
    assert Favourites.from_bytes((tmp_path / "found.json").read_bytes()) == found
    assert 1 < found.within < 80
    assert book.verify().ok


def test_lists_of_cohorts_cost_what_one_does(choices: Interactions, book: Ledger, cohorts: Cohorts) -> None:
    found = release_favourites(choices, ledger=book, epsilon=4.0, n=2, cohorts=cohorts)
    assert {name: {*items} for name, items in found.titles().items()} == {"north": {"n1", "n2"}, "south": {"s1", "s2"}}
    alone = release_favourites(choices, ledger=book, epsilon=4.0, n=2)
    assert found.guarantee.units == alone.guarantee.units


def test_whoever_is_in_no_declared_cohort_counts_nowhere(choices: Interactions, book: Ledger, cohorts: Cohorts) -> None:
    south = Cohorts(("south",), cohorts.of)
    assert {*release_favourites(choices, ledger=book, epsilon=4.0, n=2, cohorts=south).titles()["south"]} == {
        "s1",
        "s2",
    }
    with pytest.raises(SettingError, match="none of them twice"):
        Cohorts(("south", "south"), {})
    assert "p000" not in repr(cohorts)


def test_rows_lie_among_the_coordinates_of_their_cohort() -> None:
    histories = csr_array(np.array([[1, 0, 1], [0, 1, 0], [1, 1, 1]], np.int8))
    found = cohort_rows(histories, np.array([1, -1, 0]), 2)
    assert found.toarray().tolist() == [[0, 0, 0, 1, 0, 1], [0] * 6, [1, 1, 1, 0, 0, 0]]
    assert found.dtype == np.int64


def test_how_far_behind_a_pick_may_be() -> None:
    """At most 5 % of lists may have a pick that is further behind; of 400, more than 40 are a chance below 1e-4."""
    from discreet.privacy.mechanisms.selection import pick
    from discreet.randomness import NoiseSource

    plan = Plan.selecting(10**6, 5, 1, delta=1e-6, adjacency=Adjacency.ADD_OR_REMOVE_PERSON)
    scores, source, wrong = np.arange(0, 400, 2), NoiseSource(), 0
    most = behind_at_most(plan, scores.size)
    for _ in range(400):
        left, late = {*range(scores.size)}, False
        for at in pick(scores, plan.bounds[0], plan.picks, source).tolist():
            late |= bool(max(scores[each] for each in left) - scores[at] > most)
            left.remove(at)
        wrong += late
    assert wrong <= 40
    assert most < 400


def test_devices_hold_all_lists_and_read_their_own(choices: Interactions, book: Ledger, cohorts: Cohorts) -> None:
    found = release_favourites(choices, ledger=book, epsilon=4.0, n=2, cohorts=cohorts)
    sheet = Sheet.from_bytes(sheet_of(found).to_bytes())
    north, south = (list(sheet.recommend([], 5, cohort).items) for cohort in ("north", "south"))
    assert (north, south) == (found.titles()["north"], found.titles()["south"])
    assert list(sheet.recommend(["n1"], 5, "north").items) == ["n2"]
    for other in (None, "east"):
        with pytest.raises(SettingError, match="a list for each of north, south"):
            sheet.recommend([], 5, other)
    assert sheet.promise == found.guarantee.sentence
    alone = sheet_of(release_favourites(choices, ledger=book, epsilon=1.0, n=2))
    assert len(alone.recommend([], 5, "anywhere")) == 2
    change = patch(sheet.to_bytes(), alone.to_bytes())
    assert not change or patched(sheet.to_bytes(), change) == alone.to_bytes()


@pytest.mark.parametrize("picks", [[[0, 0]], [[0, 2]], [[-1, 0]], [[0], [1]], [0, 1], [[]]])
def test_sheets_that_are_none(picks: Any) -> None:
    content = Sheet(Catalogue(("a", "b")), "picks", "", {"picks": np.array(picks, np.int32)}, ("all",)).to_bytes()
    with pytest.raises(ArtefactError):
        Sheet.from_bytes(content)


def test_refusals(choices: Interactions, data: Interactions, book: Ledger) -> None:
    with pytest.raises(PurposeNotAllowed):
        release_favourites(data, ledger=book)
    for n in (0, 1_000):
        with pytest.raises(SettingError, match="a list has 1 to 34 items"):
            release_favourites(choices, ledger=book, n=n)
    with pytest.raises(BudgetExceeded):
        release_favourites(choices, ledger=book, epsilon=20.0)
    assert book.account(FAVOURITES).spent == 0


def test_people_with_caps_are_left_out(choices: Interactions, book: Ledger) -> None:
    book.limit_person("tastes", "p000", epsilon=0.1, delta=1e-5)
    found = release_favourites(choices, ledger=book, epsilon=1.0, n=2)
    assert book.person("tastes", "p000").spent == 0
    assert book.person("tastes", "p001").spent == found.guarantee.units


def test_of_a_window(book: Ledger) -> None:
    columns = {"user_id": [1, 2, 2], "item_id": [7, 7, 8], "timestamp": [1_714_521_600, 1_714_521_605, 1_714_521_609]}
    from discreet.privacy.adjacency import Window

    choices = read_interactions(columns, name="shop", purposes=["favourites"], window="2024-05")
    book.open_budget(Account("shop", "favourites", Window("2024-05")), epsilon=2.0, delta=1e-5)
    found = release_favourites(choices, ledger=book, epsilon=2.0, n=1, window="2024-05")
    assert found.guarantee.unit == "person-month"


@pytest.mark.parametrize("content", [b"", b"[]", b"{}", b'{"format": 2}', b'{"format": 1}'])
def test_what_is_no_such_file(content: bytes) -> None:
    with pytest.raises(ArtefactError):
        Favourites.from_bytes(content)


@pytest.mark.parametrize(
    "wrong",
    [
        {"lists": ()},
        {"lists": ((0,), (1,))},
        {"lists": ((),)},
        {"cohorts": ("all", "all")},
        {"lists": ((0, 0),)},
        {"lists": ((0, 2),)},
        {"within": float("inf")},
    ],
)
def test_lists_that_are_none(wrong: dict[str, Any]) -> None:
    right: dict[str, Any] = {
        "dataset": "a",
        "catalogue": Catalogue((1, 2)),
        "cohorts": ("all",),
        "lists": ((0, 1),),
        "within": 1.0,
        "guarantee": Guarantee(units=9, delta=1e-6),
        "release": "r",
    }
    Favourites(**right)
    with pytest.raises(SettingError):
        Favourites(**right | wrong)


def test_on_the_command_line(
    tastes: dict[str, list[Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    from discreet.cli.commands import run

    monkeypatch.chdir(tmp_path)
    pl.DataFrame(tastes).write_csv("tastes.csv")
    people = sorted({*tastes["user_id"]})
    pl.DataFrame({"user_id": people, "cohort": [["north", "south"][int(p[1:]) % 2] for p in people]}).write_csv("c.csv")

    def discreet(*words: str, code: int = 0) -> str:
        monkeypatch.setattr(sys, "argv", ["discreet", *words])
        with pytest.raises(SystemExit) as ended:
            run()
        assert (ended.value.code or 0) == code
        told = capsys.readouterr()
        return str(told.err if code else told.out)

    discreet("data", "import", "tastes.csv", "--out", "tastes.parquet", "--purpose", "favourites")
    discreet("budget", "open", "tastes.parquet", "--purpose", "favourites", "--epsilon", "6")
    shown = discreet("data", "favourites", "tastes.parquet", "--epsilon", "2", "--n", "3")
    assert "whether you were in it" in " ".join(shown.split())
    both = ["--cohorts", "c.csv", "--cohort", "north", "--cohort", "south"]
    told = json.loads(discreet("data", "favourites", "tastes.parquet", "--epsilon", "3", "--n", "2", *both, "--json"))
    assert told["cohorts"] == ["north", "south"]
    assert "give both" in discreet("data", "favourites", "tastes.parquet", "--cohort", "north", code=1)
    (tmp_path / "c.csv").write_text("user_id,cohort\np000,north\np000,south\n")
    assert "in two cohorts" in discreet("data", "favourites", "tastes.parquet", *both, code=1)
    (tmp_path / "c.csv").write_text("person,cohort\np000,north\n")
    assert "user_id and cohort" in discreet("data", "favourites", "tastes.parquet", *both, code=1)
