"""``discreet risk``: what each level promises, and what attackers were measured to achieve against it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, cast

import typer

from discreet.cli.levels import LevelsOption, OthersOption, chosen_levels
from discreet.cli.models import Data, KindOption, opened
from discreet.cli.output import Json, progress, say, say_json, screen, table

if TYPE_CHECKING:
    from discreet.evaluation.ranking import Estimate
    from discreet.evaluation.risk import Risk
    from discreet.models.recipe import Kind


def risk(
    data: Data,
    epsilon: Annotated[float, typer.Option("--epsilon", help="Of whoever is at light, in nats.")] = 1.0,
    levels: LevelsOption = None,
    others: OthersOption = None,
    model: KindOption = "auto",
    seeds: Annotated[int, typer.Option("--seeds", help="How many runs.")] = 3,
    as_json: Json = False,
) -> None:
    """Attack a model by level, and show it beside the promise. The figures are exact: for whoever may see the data.

    Trains and throws away; nothing is billed or published. Without --levels and --others everybody is at light.
    """
    from discreet.evaluation.risk import risk_by_level
    from discreet.privacy.levels import Level, Levels

    chosen = chosen_levels(levels, others) or Levels({}, Level.LIGHT)
    histories = opened(data)
    with progress() as bars:
        bar = bars.add_task("training and attacking", total=seeds)
        found = risk_by_level(
            histories,
            chosen,
            epsilon=epsilon,
            kind=cast("Kind", model),
            seeds=seeds,
            progress=lambda done, total: bars.update(bar, completed=done, total=total),
        )
    if as_json:
        say_json([each.to_dict() for each in found])
    else:
        _show(found, histories.dataset)


def _show(found: list[Risk], dataset: str) -> None:
    shown = table(
        f"Levels of {dataset}",
        *("level", "people", "epsilon", "promised: at most", "informed attacker", "half-informed", "recall@20"),
    )
    for each in found:
        shown.add_row(
            *(each.level, f"{each.people:,}", f"{each.epsilon:.3g}", f"{100 * each.odds:.1f}"),
            *(_spread(each.informed, 100), _spread(each.half_informed, 100), _spread(each.quality, 1)),
        )
    screen.print(shown)
    say("times out of 100 that it is told whether somebody was in; a coin flip gets 50; ± standard error", "dim")
    say("promised whatever others choose; what a half-informed attacker achieves depends on what others chose", "dim")


def _spread(estimate: Estimate, scale: int) -> str:
    digits = 1 if scale > 1 else 3
    return f"{scale * estimate.mean:.{digits}f} ± {scale * estimate.error:.{digits}f}"
