"""``discreet train``: a data set and a budget in, a published model out."""

from __future__ import annotations

import math
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from discreet.cli.budgets import DEFAULT_LEDGER, PURPOSE, LedgerFile, Window
from discreet.cli.models import Data, KindOption
from discreet.cli.output import Json, note, progress, say, say_charged, say_json

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from discreet.data.interactions import Interactions, Opened
    from discreet.models.trained import Trained
    from discreet.privacy.levels import Levels
    from discreet.training.populations import Population

LevelsOption = Annotated[
    Path | None, typer.Option("--levels", help="File of user_id and level: off, strong, balanced or light.")
]
OthersOption = Annotated[
    str | None, typer.Option("--others", help="Level of whoever is not in the file; balanced if not given.")
]
SensitiveOption = Annotated[
    list[str] | None,
    typer.Option("--sensitive", help="CATEGORY=WEIGHT, 0 to 0.5 in sixteenths; 0.125 if not given. May be repeated."),
]


def train(
    data: Data,
    epsilon: Annotated[float, typer.Option("--epsilon", help="Price of this run in nats; inf adds no noise.")],
    out: Annotated[Path, typer.Option("--out", help="Where to publish the model (.npz); must not exist.")],
    ledger: LedgerFile = DEFAULT_LEDGER,
    model: KindOption = "auto",
    purpose: Annotated[str, typer.Option("--purpose", help="What the data is opened for.")] = PURPOSE,
    window: Window = None,
    levels: LevelsOption = None,
    others: OthersOption = None,
    sensitive: SensitiveOption = None,
    release: Annotated[
        str | None, typer.Option("--release", help="Id of a run that was cut off: repeats it at no further charge.")
    ] = None,
    ray_workers: Annotated[
        int | None, typer.Option("--ray-workers", help="Add up on so many workers of Ray; needs an imported data set.")
    ] = None,
    ray_address: Annotated[
        str | None, typer.Option("--ray-address", help="HOST:PORT of a Ray cluster; without it one is started here.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Train a model, bill it, publish it once, and print what it promises.

    An imported data set stays in its file, and is read block by block.
    """
    from discreet.data.intake import read_interactions
    from discreet.governance.ledger import Ledger
    from discreet.models.card import card

    interactions = read_interactions(data, window=window)
    with ExitStack() as stack:
        book = None if epsilon == math.inf else stack.enter_context(Ledger(ledger, create=False))
        asked: dict[str, Any] = {"epsilon": epsilon, "ledger": book, "kind": model, "purpose": purpose, "out": out}
        asked |= {"window": window, "levels": chosen_levels(levels, others), "sensitive": asked_weights(sensitive)}
        if ray_workers is not None or ray_address is not None:
            asked["population"] = _on_ray(stack, ray_workers, ray_address)
        trained = _trained(interactions, asked | {"release": release})
    if as_json:
        say_json(card(trained))
        return
    say(f"{trained.model.name} model of {trained.people:,} people and {len(trained.catalogue):,} items: {out}")
    say(str(trained.guarantee), None if trained.guarantee.private else "bold red")


def chosen_levels(file: Path | None, others: str | None) -> Levels | None:
    """Return the levels of a file; of everybody, if only ``others`` is given; None if neither is."""
    from discreet.data.intake import read_levels
    from discreet.privacy.levels import Level, Levels

    if file is None:
        return None if others is None else Levels({}, Level.named(others))
    return read_levels(file) if others is None else read_levels(file, others=others)


def asked_weights(asked: Sequence[str] | None) -> dict[str, float] | None:
    """Return weights by category, of texts such as ``health=0.125``; None of none."""
    from discreet.errors import SettingError

    weights: dict[str, float] = {}
    for text in asked or ():
        name, _, weight = (part.strip() for part in text.partition("="))
        if name in weights:
            raise SettingError(f"--sensitive gives {name} two weights: give one")
        try:
            weights[name] = float(weight)
        except ValueError:
            raise SettingError(f"--sensitive takes CATEGORY=WEIGHT, such as health=0.125, not {text!r}") from None
    return weights or None


def _on_ray(stack: ExitStack, workers: int | None, address: str | None) -> Callable[[Opened], Population]:
    from discreet.engines.ray import Cluster

    with progress() as bars:
        bars.add_task("reaching Ray", total=None)
        return stack.enter_context(Cluster(workers=workers, address=address)).population


def _trained(interactions: Interactions, asked: dict[str, Any]) -> Trained:
    """Train with bars, and say under which id, as soon as something is charged."""
    from discreet.training.fitting import fit

    charged: list[str] = []

    def tell(release: str) -> None:
        charged.append(release)
        say_charged(release)

    try:
        with progress() as bars:
            bar = bars.add_task("training", total=None)

            def step(done: int, total: int) -> None:
                bars.update(bar, completed=done, total=total)

            return fit(interactions, **asked, progress=step, reserved=tell)
    except KeyboardInterrupt:
        for release in charged:
            note(f"release {release} is charged: repeat with --release {release}")
        raise
