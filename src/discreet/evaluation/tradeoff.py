"""Quality against epsilon: the same people held out, the same code that trains for real, several budgets and seeds."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

from discreet.data.interactions import Histories
from discreet.data.splitting import Split, hold_out_people, leave_one_out
from discreet.errors import PurposeNotAllowed, SettingError
from discreet.evaluation.ranking import METRICS, Estimate, Protocol, measure
from discreet.models.base import Model
from discreet.models.recipe import Kind, recipe
from discreet.models.trained import Trained
from discreet.privacy.accounting import cap, default_delta, odds_of
from discreet.privacy.guarantee import Guarantee
from discreet.privacy.plan import Plan
from discreet.privacy.records import weights_of
from discreet.training.populations import Here
from discreet.training.rounds import train

PURPOSE = "measure-quality"
HELD_OUT_SHARE = 0.15
MOST_HELD_OUT = 1_000

Progress = Callable[[str], None]
Run = tuple[Guarantee, dict[str, float]]
Made = dict[tuple[int, Model, Plan], Run]
"""By split, model and plan: what the recipe chose and what was asked for by name is one run, not two noises."""


@dataclass(frozen=True)
class Row:
    """Quality of one kind of model at one budget.

    Attributes:
        kind: as asked for; ``auto`` is the recipe's choice.
        model: what the recipe chose.
        epsilon: ``math.inf`` is not private.
        odds: best chance of telling whether a person was in; 1 if not private.
        quality: each metric's estimate over seeds.
    """

    kind: Kind
    model: str
    epsilon: float
    odds: float
    quality: dict[str, Estimate]

    @property
    def private(self) -> bool:
        """Whether noise was added."""
        return math.isfinite(self.epsilon)

    def to_dict(self) -> dict[str, Any]:
        """Return JSON values; an infinite epsilon is null."""
        return {
            "kind": self.kind,
            "model": self.model,
            "private": self.private,
            "epsilon": self.epsilon if self.private else None,
            "odds": self.odds,
            "quality": {
                name: {
                    "mean": value.mean,
                    "standard_error": value.error,
                    "interval_95": list(value.interval()) if value.seeds > 1 else None,
                    "seeds": value.seeds,
                }
                for name, value in self.quality.items()
            },
        }


def tradeoff(
    histories: Histories,
    *,
    epsilons: Sequence[float],
    kinds: Sequence[Kind] = ("auto",),
    seeds: int = 3,
    protocol: Protocol = "strong",
    held_out: int | None = None,
    progress: Progress | None = None,
) -> list[Row]:
    """Return quality for each kind and epsilon.

    Nothing is billed and nothing is published: the models are thrown away, and the figures are exact, not private.

    Args:
        histories: opened for measuring quality.
        epsilons: budgets; ``math.inf`` adds no noise.
        kinds: of model.
        seeds: how many splits.
        protocol: how people are held out.
        held_out: people to hold out of each split (strong); by default 15 %, at most 1,000.
        progress: told what is done next.

    Raises:
        SettingError: a setting is out of range, or there are too few people.
        PurposeNotAllowed: the histories were opened for something else.
    """
    if histories.purpose != PURPOSE:
        raise PurposeNotAllowed(f"these histories were opened for {histories.purpose!r}, not for {PURPOSE!r}")
    if seeds < 1 or not epsilons or not kinds:
        raise SettingError("a trade-off needs at least one seed, one epsilon and one kind of model")
    if protocol not in METRICS:
        raise SettingError(f"unknown protocol {protocol!r}: choose {' or '.join(METRICS)}")
    splits = splits_of(histories, seeds=seeds, protocol=protocol, held_out=held_out)
    made: Made = {}
    return [_row(kind, epsilon, splits, protocol, progress, made) for kind, epsilon in product(kinds, epsilons)]


def steps(epsilons: Sequence[float], kinds: Sequence[Kind], seeds: int) -> int:
    """Return how often ``tradeoff`` reports progress."""
    return len(epsilons) * len(kinds) * seeds


def fit_unbilled(histories: Histories, epsilon: float, kind: Kind = "auto") -> Trained:
    """Train as ``fit`` does, for measuring alone: billed to nobody, so it must never be published."""
    model, plan = planned_for(histories, epsilon, kind)
    return train(model, Here(histories), plan, spend=_nobody)


def planned_for(histories: Histories, epsilon: float, kind: Kind) -> tuple[Model, Plan]:
    """Return what ``fit`` would run on these histories; an epsilon of ``math.inf`` is without noise."""
    people, catalogue = len(histories), histories.catalogue
    delta = default_delta(people)
    units = None if epsilon == math.inf else cap(epsilon, delta)
    weights = weights_of(catalogue.sensitive, None)
    return recipe(people, len(catalogue), units, delta=delta, kind=kind, tagged=catalogue.tagged, weights=weights)


def _nobody(units: int) -> None:
    """Bill nobody: see ``fit_unbilled``."""


def _row(
    kind: Kind, epsilon: float, splits: list[Split], protocol: Protocol, progress: Progress | None, made: Made
) -> Row:
    guarantees, found = zip(*_runs(kind, epsilon, splits, protocol, progress, made), strict=True)
    quality = {name: Estimate.over([run[name] for run in found]) for name in METRICS[protocol]}
    chosen, _ = planned_for(splits[0].train, epsilon, kind)
    units = guarantees[0].units
    return Row(kind, chosen.name, epsilon, 1.0 if units is None else odds_of(units), quality)


def _runs(
    kind: Kind, epsilon: float, splits: list[Split], protocol: Protocol, progress: Progress | None, made: Made
) -> Iterator[Run]:
    for number, split in enumerate(splits):
        if progress:
            progress(f"{kind} at epsilon {epsilon:g}, split {number + 1} of {len(splits)}")
        run = (number, *planned_for(split.train, epsilon, kind))
        if run not in made:
            trained = fit_unbilled(split.train, epsilon, kind)
            made[run] = trained.guarantee, measure(trained.scores, split, protocol)
        yield made[run]


def splits_of(
    histories: Histories, *, seeds: int, protocol: Protocol = "strong", held_out: int | None = None
) -> list[Split]:
    """Return the splits that ``tradeoff`` measures on, for whoever is to be measured beside it."""
    return [_split(histories, protocol, held_out, seed) for seed in range(seeds)]


def _split(histories: Histories, protocol: Protocol, held_out: int | None, seed: int) -> Split:
    if protocol == "leave-one-out":
        return leave_one_out(histories, seed)
    count = held_out or min(MOST_HELD_OUT, max(1, round(HELD_OUT_SHARE * len(histories))))
    return hold_out_people(histories, count, seed)
