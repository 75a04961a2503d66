"""What the quality report reckons beside the figures themselves."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import quality

from discreet.data.interactions import Histories
from discreet.evaluation.ranking import Estimate
from discreet.evaluation.tradeoff import Row
from discreet.models.recipe import Kind


def row(kind: Kind, epsilon: float, values: list[float]) -> Row:
    return Row(kind, kind, epsilon, 0.5, {"recall@20": Estimate.over(values)})


def test_the_share_of_the_gain_is_against_the_best_without_privacy() -> None:
    rows = [
        row("popularity", math.inf, [0.1, 0.1]),
        row("gram", math.inf, [0.3, 0.3]),
        row("auto", math.inf, [0.2, 0.2]),
        row("auto", 1.0, [0.15, 0.25]),
    ]
    with quality.console.capture() as printed:
        quality.show_shares(quality.lines_of(rows), "recall@20")
    text = printed.get()
    assert "100 % is gram/EASE without privacy" in text
    assert "50% ±25%" in text
    assert "100% ±0%" in text


def test_a_figure_has_its_interval_below_it() -> None:
    shown = quality.figure("recall@20", {"recall@20": Estimate.over([0.2, 0.22, 0.24])})
    assert shown == "0.2200 ±0.0115\n0.170 to 0.270"
    assert quality.figure("recall@20", {"recall@20": Estimate.over([0.2])}) == "0.2000"


def test_time_is_counted_for_what_was_being_done() -> None:
    clock = quality.Clock()
    for doing in ("als at epsilon 1, split 1 of 3", "auto at epsilon inf, split 1 of 3", "iALS", ""):
        clock(doing)
    assert list(clock.seconds) == ["DPALS", "recipe without noise", "iALS"]


def test_tags_of_a_file_of_items_go_to_the_items_there_are(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("user_id,item_id\n1,10\n2,30\n")
    (tmp_path / "b.csv").write_text("item_id,title,genres\n10,Heat (1995),Crime\n20,Alien (1979),Horror\n")
    histories = quality.opened(f"films={tmp_path / 'a.csv'},{tmp_path / 'b.csv'}")
    assert histories.dataset == "films"
    assert (histories.catalogue.ids, histories.catalogue.tags) == ((10, 30), (("1990s", "Crime"), ()))
    assert not quality.opened(f"films={tmp_path / 'a.csv'}").catalogue.tagged


def test_a_row_tells_what_tags_are_worth(described: Histories) -> None:
    with quality.console.capture() as printed:
        quality.report(replace(described, purpose="measure-quality"), 30, 1, "strong", ["auto"])
    text = printed.get()
    assert text.count("\n recipe, tags ") == 3
    assert text.count("\n recipe  ") == 3
