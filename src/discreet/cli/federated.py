"""``discreet federated``: training where the data stays with many parties."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, cast

import typer

from discreet.cli.models import Data, KindOption, opened
from discreet.cli.output import Json, progress, say, say_json, screen, table

if TYPE_CHECKING:
    from collections.abc import Sequence

    from discreet.evaluation.federation import Federated
    from discreet.models.recipe import Kind

app = typer.Typer(no_args_is_help=True)


@app.callback()
def _group() -> None:
    """Train where the data stays with many parties."""


@app.command()
def simulate(
    data: Data,
    clients: Annotated[
        int, typer.Option("--clients", min=1, help="Parties that people are divided among; as many as people: devices.")
    ] = 50,
    epsilon: Annotated[float, typer.Option("--epsilon", help="Of the run, in nats; inf adds no noise.")] = 1.0,
    lost: Annotated[float, typer.Option("--lost", help="Share of parties lost in each sum, 0 to 0.45.")] = 0.1,
    way: Annotated[
        list[str] | None,
        typer.Option("--way", help="central, secagg or two-servers; may be repeated. Without it: all."),
    ] = None,
    model: KindOption = "auto",
    seeds: Annotated[int, typer.Option("--seeds", min=1, help="How many splits.")] = 3,
    held_out: Annotated[int, typer.Option("--held-out", min=1, help="People of each split to measure on.")] = 140,
    as_json: Json = False,
) -> None:
    """Train as a federation would, in this process, and compare with training in one place at the same epsilon.

    Every message of the protocols is made and read. Trains and throws away; nothing is billed or published. The figures
    are exact: for whoever may see the data, which needs to be collected for measure-quality.
    """
    from discreet.evaluation.federation import WAYS, federate

    histories = opened(data)
    with progress() as bars:
        bar = bars.add_task("simulating", total=len(way or WAYS) * seeds)
        found = federate(
            histories,
            epsilon=epsilon,
            parties=clients,
            lost=lost,
            ways=way or WAYS,
            kind=cast("Kind", model),
            seeds=seeds,
            held_out=held_out,
            progress=lambda doing: bars.update(bar, advance=1, description=doing),
        )
    if as_json:
        say_json([each.to_dict() for each in found])
    else:
        promised = f"at epsilon {epsilon:g}" if found[0].private else "without noise: NOT private"
        _show(found, f"{histories.dataset} {promised}")


def _show(found: Sequence[Federated], title: str) -> None:
    columns = ("way", "parties", "recall@20", "noise", "ring", "kB up", "x vectors", "CPU s")
    shown = table(title, *columns)
    shown.columns[0].no_wrap = True
    for each in found:
        masked = each.bits > 0
        shown.add_row(
            each.way,
            f"{each.parties:,}",
            f"{each.quality.mean:.3f} ±{each.quality.error:.3f}",
            f"x {each.noise:.2f}",
            f"{each.bits} bits" if masked else "",
            f"{each.up / 1e3:,.0f}" if masked else "",
            f"{each.up / each.packed:.3f}" if masked else "",
            f"{each.seconds:.1f}",
        )
    screen.print(shown)
    say(
        "noise: over that of central training. kB up: sent by each party, and over its packed vectors. CPU: of all.",
        "dim",
    )
