"""``discreet train``: a data set and a budget in, a published model out."""

from __future__ import annotations

import math
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from discreet.cli.audit import audited, show_audit
from discreet.cli.budgets import PURPOSE, Window
from discreet.cli.data import DEFAULT_LEDGER, LedgerPlace
from discreet.cli.levels import LevelsOption, OthersOption, SensitiveOption, asked_weights, chosen_levels
from discreet.cli.models import Data, KindOption, audit_of, place_of_audit
from discreet.cli.output import Json, note, progress, say, say_charged, say_json

if TYPE_CHECKING:
    from collections.abc import Callable

    from discreet.data.interactions import Interactions, Opened
    from discreet.evaluation.audit.shadow import ShadowAudit
    from discreet.models.trained import Trained
    from discreet.privacy.levels import Levels
    from discreet.training.populations import Population


def train(
    data: Data,
    epsilon: Annotated[float, typer.Option("--epsilon", help="Price of this run in nats; inf adds no noise.")],
    out: Annotated[Path, typer.Option("--out", help="Where to publish the model (.npz); must not exist.")],
    ledger: LedgerPlace = DEFAULT_LEDGER,
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
    audit: Annotated[
        bool,
        typer.Option(
            help="Attack a shadow of the model, and publish what was found beside it (.audit.json): takes up to three "
            "times as long again, and data that may be used for measure-quality."
        ),
    ] = True,
    as_json: Json = False,
) -> None:
    """Train a model, bill it, publish it once, audit it, and print what it promises and what attacks on it found.

    An imported data set stays in its file, and is read block by block. Exit code 3 if the audit refutes the claim.
    """
    from discreet.data.intake import read_interactions
    from discreet.governance.ledger import Ledger
    from discreet.models.card import card

    interactions, chosen = read_interactions(data, window=window), chosen_levels(levels, others)
    beside = _free_place_of_audit(out) if audit and epsilon != math.inf else None
    with ExitStack() as stack:
        book = None if epsilon == math.inf else stack.enter_context(Ledger(ledger, create=False))
        asked: dict[str, Any] = {"epsilon": epsilon, "ledger": book, "kind": model, "purpose": purpose, "out": out}
        asked |= {"window": window, "levels": chosen, "sensitive": asked_weights(sensitive)}
        if ray_workers is not None or ray_address is not None:
            asked["population"] = _on_ray(stack, ray_workers, ray_address)
        trained = _trained(interactions, asked | {"release": release})
    found = None if beside is None else _accompanied(trained, interactions, chosen, out, beside)
    if as_json:
        say_json(card(trained, audit=found.to_dict() if found else None))
    else:
        say(f"{trained.model.name} model of {trained.people:,} people and {len(trained.catalogue):,} items: {out}")
        say(str(trained.guarantee), None if trained.guarantee.private else "bold red")
        if found:
            show_audit(found)
    if found and not found.passed:
        raise typer.Exit(3)


def _free_place_of_audit(out: Path) -> Path:
    """Return where the audit of a new model goes; that of a model which is there already may be there, too."""
    from discreet.training.billing import check_free, checked_target

    beside = place_of_audit(out)
    if not out.exists():
        check_free(checked_target(beside))
    return beside


def _accompanied(
    trained: Trained, data: Interactions, levels: Levels | None, out: Path, beside: Path
) -> ShadowAudit | None:
    """Audit a model that is published, unless that was done; tell why, if it cannot be: the model stands."""
    from discreet.errors import DiscreetError

    try:
        return audit_of(out, beside) if beside.exists() else audited(trained, data, levels, beside)
    except DiscreetError as error:
        note(f"{out} is published, but was not audited: {error}")
        return None
    except KeyboardInterrupt:
        note(f"{out} is published, but was not audited: discreet audit-model {out} DATA --out {beside}")
        raise


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
