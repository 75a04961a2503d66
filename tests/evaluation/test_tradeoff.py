"""Quality against epsilon, and its picture."""

import json
import math
from pathlib import Path
from typing import Any
from xml.parsers import expat

import pytest

from discreet.data.interactions import Histories, Interactions
from discreet.errors import FileNotWritten, PurposeNotAllowed, SettingError
from discreet.evaluation.charts import draw_tradeoff
from discreet.evaluation.tradeoff import Row, fit_unbilled, steps, tradeoff

EPSILONS = (0.5, 8.0, math.inf)


@pytest.fixture(scope="module")
def opened(data: Interactions) -> Histories:
    return data.opened_for("measure-quality")


@pytest.fixture(scope="module")
def rows(opened: Histories) -> list[Row]:
    return tradeoff(opened, epsilons=EPSILONS, kinds=("popularity", "subspace"), seeds=2)


class TestTradeoff:
    def test_a_row_for_each_kind_and_epsilon(self, rows: list[Row]) -> None:
        assert [(row.kind, row.epsilon) for row in rows] == [
            (kind, epsilon) for kind in ("popularity", "subspace") for epsilon in EPSILONS
        ]
        for row in rows:
            assert row.private is math.isfinite(row.epsilon)
            assert row.quality.keys() == {"recall@20", "recall@50", "ndcg@100"}
            assert all(0 <= value.mean <= 1 and value.seeds == 2 for value in row.quality.values())
            assert row.model == row.kind

    def test_odds_grow_with_epsilon_and_are_certain_without_privacy(self, rows: list[Row]) -> None:
        odds = [row.odds for row in rows[:3]]
        assert 0.5 < odds[0] < odds[1] < odds[2] == 1.0

    def test_taste_beats_popularity_when_there_is_budget(self, rows: list[Row]) -> None:
        found = {(row.kind, row.epsilon): row.quality["recall@20"].mean for row in rows}
        assert found["subspace", math.inf] > found["popularity", math.inf] + 0.05
        assert found["subspace", math.inf] > found["subspace", 0.5]

    def test_json_has_no_infinity(self, rows: list[Row]) -> None:
        documents = json.loads(json.dumps([row.to_dict() for row in rows], allow_nan=False))
        assert [document["epsilon"] for document in documents[:3]] == [0.5, 8.0, None]
        assert [document["private"] for document in documents[:3]] == [True, True, False]

    def test_without_noise_it_is_repeatable(self, opened: Histories) -> None:
        first, again = (tradeoff(opened, epsilons=[math.inf], kinds=["gram"], seeds=1) for _ in range(2))
        assert first == again

    def test_leave_one_out(self, opened: Histories) -> None:
        (row,) = tradeoff(opened, epsilons=[math.inf], kinds=["gram"], seeds=1, protocol="leave-one-out")
        assert row.quality.keys() == {"hr@10", "ndcg@10"}

    def test_progress_counts_as_announced(self, opened: Histories) -> None:
        told: list[str] = []
        tradeoff(opened, epsilons=[1.0, 2.0], kinds=["popularity"], seeds=2, progress=told.append)
        assert len(told) == steps([1.0, 2.0], ["popularity"], 2) == 4
        assert told[0] == "popularity at epsilon 1, split 1 of 2"

    def test_needs_data_for_measuring(self, histories: Histories) -> None:
        with pytest.raises(PurposeNotAllowed, match="measure-quality"):
            tradeoff(histories, epsilons=[1.0])

    @pytest.mark.parametrize(
        ("options", "names"),
        [
            ({"seeds": 0}, "at least one seed"),
            ({"epsilons": []}, "one epsilon"),
            ({"kinds": []}, "one kind"),
            ({"kinds": ["astrology"]}, "unknown model"),
            ({"protocol": "wishful"}, "unknown protocol"),
            ({"epsilons": [math.nan]}, "epsilon"),
            ({"epsilons": [-math.inf]}, "epsilon"),
            ({"epsilons": [-1.0]}, "epsilon"),
            ({"held_out": 300}, "count"),
        ],
    )
    def test_settings_out_of_range(self, options: dict[str, Any], names: str, opened: Histories) -> None:
        with pytest.raises(SettingError, match=names):
            tradeoff(opened, **{"epsilons": [1.0]} | options)

    def test_what_the_recipe_chooses_is_one_run_with_what_is_asked_for_by_name(self, opened: Histories) -> None:
        told: list[str] = []
        asked: dict[str, Any] = {"epsilons": [0.3], "kinds": ["popularity", "auto"], "seeds": 2}
        named, chosen = tradeoff(opened, **asked, progress=told.append)
        assert (chosen.kind, chosen.model) == ("auto", "popularity")
        assert named.quality == chosen.quality
        assert named.odds == chosen.odds
        assert len(told) == 4

    def test_models_made_for_measuring_are_billed_to_nobody(self, opened: Histories) -> None:
        trained = fit_unbilled(opened, 1.0)
        assert trained.release is None
        assert trained.purpose == "measure-quality"


class TestChart:
    def test_svg(self, rows: list[Row], tmp_path: Path) -> None:
        path = draw_tradeoff(rows, tmp_path / "curve.svg")
        tags: list[str] = []
        parser = expat.ParserCreate()
        parser.StartElementHandler = lambda tag, _: tags.append(tag)
        parser.Parse(path.read_bytes(), True)
        assert tags[0] == "svg"

    def test_png(self, rows: list[Row], tmp_path: Path) -> None:
        assert draw_tradeoff(rows, tmp_path / "curve.PNG").read_bytes().startswith(b"\x89PNG\r\n\x1a\n")

    @pytest.mark.parametrize("which", [slice(0, 1), slice(2, 3)])
    def test_one_point_or_a_ceiling_alone(self, rows: list[Row], tmp_path: Path, which: slice) -> None:
        assert draw_tradeoff(rows[which], tmp_path / "curve.svg", metric="ndcg@100").stat().st_size > 1000

    @pytest.mark.parametrize("name", ["curve", "curve.pdf", "curve.svg.txt"])
    def test_other_endings(self, name: str, rows: list[Row], tmp_path: Path) -> None:
        with pytest.raises(SettingError, match=r"\.svg or a \.png"):
            draw_tradeoff(rows, tmp_path / name)
        assert list(tmp_path.iterdir()) == []

    def test_no_folder(self, rows: list[Row], tmp_path: Path) -> None:
        with pytest.raises(FileNotWritten, match="No such file"):
            draw_tradeoff(rows, tmp_path / "missing" / "curve.svg")
