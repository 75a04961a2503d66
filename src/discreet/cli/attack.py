"""``discreet attack``: what known attacks achieve against models of a data set, with and without noise."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from discreet.cli.models import Data, KindOption, opened
from discreet.cli.output import Json, progress, say, say_json, screen, table

if TYPE_CHECKING:
    from collections.abc import Sequence

    from discreet.evaluation.attacks.figures import Figure
    from discreet.models.recipe import Kind


def attack(
    data: Data,
    epsilon: Annotated[float, typer.Option("--epsilon", help="Of each release, in nats.")] = 8.0,
    name: Annotated[
        list[str] | None,
        typer.Option(
            "--attack",
            help="white-box, membership, temporal, differencing, poisoning, repetition, timing, extraction, "
            "linkage, update or attributes; may be repeated. Without it: all.",
        ),
    ] = None,
    people: Annotated[
        Path | None, typer.Option("--people", help="File with user_id and the attribute, for attributes.")
    ] = None,
    attribute: Annotated[str, typer.Option("--attribute", help="The column to infer.")] = "gender",
    model: KindOption = "auto",
    seed: Annotated[int, typer.Option("--seed", min=0, help="Of the attackers' choices; noise has none.")] = 0,
    as_json: Json = False,
) -> None:
    """Make known attacks on models of this data, with and without noise. Exact: for whoever may see the data.

    Trains and throws away; nothing is billed or published. Needs data collected for measure-quality.
    """
    from discreet.data.intake import read_attribute
    from discreet.evaluation.attacks.running import attacked

    of_people = read_attribute(people, attribute) if people else None
    histories = opened(data)
    with progress() as bars:
        bar = bars.add_task("attacking", total=None)
        found = attacked(
            histories,
            epsilon=epsilon,
            names=name,
            kind=cast("Kind", model),
            seed=seed,
            attribute=of_people,
            progress=lambda doing: bars.update(bar, description=doing),
        )
    if as_json:
        say_json([each.to_dict() for each in found])
    else:
        _show(found, histories.dataset)


def _show(found: Sequence[Figure], dataset: str) -> None:
    shown = table(f"Attacks on {dataset}", "attack", "what", "epsilon", "found", "95 %", "chance", "trials")
    for each in found:
        epsilon = f"{each.epsilon:g}" if math.isfinite(each.epsilon) else "none"
        interval = f"{each.low:.3f} to {each.high:.3f}" if math.isfinite(each.low) else ""
        chance = f"{each.chance:.3f}" if math.isfinite(each.chance) else ""
        shown.add_row(each.attack, each.what, epsilon, f"{each.value:.3f}", interval, chance, f"{each.trials:,}")
    screen.print(shown)
    say("epsilon none: without noise. What each attack is, and what privacy does not stop: docs/attacks.md", "dim")
