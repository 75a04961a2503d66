"""What the quality report reckons beside the figures themselves."""

from __future__ import annotations

import math

import quality

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
