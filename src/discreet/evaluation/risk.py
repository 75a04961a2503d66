"""What each level of protection is worth against somebody who tries: measured, beside what is promised.

People are held out, the others are trained on, each within their level. Then two attackers are asked of people of each
level whether they were in, from everything that was released in every round (`transcripts`). Both know the person's own
history, so the row that it would add, and look along it at what is left when all they know is taken away:

- The *informed* one knows everybody else, the adversary of the guarantee. What is left is the noise, and the row if it
  is in. It is right as often as the promise's odds allow, if noise and bounds are what they are said to be.
- The *half-informed* one knows half of the others, and takes the other half to be like them. To it their differences
  are more noise: the weaker their levels, the less. So what it achieves against one person depends on what others
  chose; a guarantee never does (Kaiser et al. 2026 show the same for mechanisms that sample people).

Nothing is billed or published: models are thrown away, and the figures are exact, for whoever may see the data.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from discreet.data.interactions import Histories, Rows
from discreet.data.splitting import hold_out_people
from discreet.errors import PurposeNotAllowed, SettingError
from discreet.evaluation.ranking import Estimate, measure
from discreet.evaluation.tradeoff import MOST_HELD_OUT, PURPOSE
from discreet.evaluation.transcripts import Watched
from discreet.models.recipe import Kind, recipe
from discreet.models.trained import Trained
from discreet.privacy.accounting import cap, default_delta, epsilon_of, odds_of
from discreet.privacy.disclosure import add_up
from discreet.privacy.levels import OFFERED, Level, Levels
from discreet.privacy.mechanisms.gaussian import STANDARD_DEVIATION
from discreet.privacy.plan import Plan
from discreet.privacy.records import weights_of
from discreet.training.participants import Participants
from discreet.training.populations import Here, Layers, Work
from discreet.training.rounds import Progress, layers_for, train

HELD_OUT_SHARE = 0.3
"""More than for quality: half of those who are asked about have to be out."""
LEAST_ASKED, MOST_ASKED = 10, 500
"""People of a level, in and out each, of whom attackers are asked in a run."""

LEAST_TRAINED = 2
METRIC = "recall@20"
Scores = NDArray[np.float64]
Measured = tuple[float, float, float]
"""Of the informed attacker, of the half-informed one, and quality."""


@dataclass(frozen=True)
class Risk:
    """One level, as promised and as measured.

    Attributes:
        level: its name.
        people: of the data set, who chose it.
        epsilon: promised, at ``delta``.
        delta: of the promise.
        odds: promised: the best chance of guessing right whether somebody was in.
        informed: measured chance of the informed attacker, over runs.
        half_informed: measured chance of the half-informed attacker, over runs: it depends on what others chose.
        quality: recall@20 of people of this level who were held out, over runs.
    """

    level: str
    people: int
    epsilon: float
    delta: float
    odds: float
    informed: Estimate
    half_informed: Estimate
    quality: Estimate

    def to_dict(self) -> dict[str, Any]:
        """Return JSON values; an interval is at 95 %, and null of one run."""
        measured = {name: getattr(self, name) for name in ("informed", "half_informed", "quality")}
        return {
            "level": self.level,
            "people": self.people,
            "epsilon": self.epsilon,
            "delta": self.delta,
            "odds": self.odds,
        } | {
            name: {"mean": each.mean, "interval_95": list(each.interval()) if each.seeds > 1 else None}
            for name, each in measured.items()
        }


@dataclass(frozen=True, eq=False)
class Attacked:
    """One run, and what attackers on it may look at.

    Attributes:
        trained: the model that came out.
        watched: what it was told, round by round.
        layers: of people's rows, where the catalogue declares sensitive categories.
        noise: each round's noise, float64 [dims], in its deviations: all that is left to whoever knows every row.
        others: what is left besides to whoever does not know the hidden half: their sum, less what it would be if they
            were like the half that is known.
        known: bool [people], who is in the half that is known.
    """

    trained: Trained
    watched: Watched
    layers: Layers
    noise: tuple[Scores, ...]
    others: tuple[Scores, ...]
    known: NDArray[np.bool_]

    @classmethod
    def trained_on(
        cls, taking: Participants[Histories], epsilon: float, kind: Kind, delta: float, seed: int = 0
    ) -> Attacked:
        """Train as ``fit`` does, billed to nobody; hide a random half of the people.

        With an epsilon of ``math.inf`` there is no noise, and remainders are in grid units.
        """
        if len(taking.histories) < LEAST_TRAINED:
            raise SettingError("there are too few people to know half of them and to guess at the others")
        catalogue, units = taking.histories.catalogue, None if epsilon == math.inf else cap(epsilon, delta)
        weights = weights_of(catalogue.sensitive, None)
        model, plan = recipe(
            *(taking.whole, len(catalogue), units), delta=delta, kind=kind, tagged=catalogue.tagged, weights=weights
        )
        layers = layers_for(catalogue, plan.weights)
        watched = Watched(model)
        trained = train(watched, taking.population(Here), replace(plan, levels=OFFERED if units else ()), spend=_nobody)
        known = np.random.default_rng(seed).permutation(len(taking.histories)) % 2 == 0
        shown, hidden = taking.only(known), taking.only(~known)
        ratio, noise, others = hidden.each.sum() / shown.each.sum(), [], []
        for state, released, bound in zip(watched.states, watched.released, plan.bounds, strict=True):
            sums = [
                add_up(each.total for each in half.population(Here).map(Work(model, state, bound, layers)))
                for half in (shown, hidden)
            ]
            deviation = released.deviation or 1.0
            noise.append((released.total - sums[0] - sums[1]) / deviation)
            others.append((sums[1] - sums[0] * ratio) / deviation)
        return cls(trained, watched, layers, tuple(noise), tuple(others), known)

    def attack(self, inside: Rows, outside: Rows, level: Level) -> tuple[float, float]:
        """Return how often the informed attacker is right about people of a level, and how often the half-informed.

        Args:
            inside: histories of people who were in, and are in the half that is known.
            outside: of people who were not in.
            level: of all of them.
        """
        (noise_in, others_in, mu_in), (noise_out, others_out, mu_out) = (
            self._looked_for(people, level) for people in (inside, outside)
        )
        informed = _right(noise_in + mu_in, mu_in, noise_out, mu_out)
        return informed, _right(noise_in + others_in + mu_in, mu_in, noise_out + others_out, mu_out)

    def _looked_for(self, people: Rows, level: Level) -> tuple[Scores, Scores, Scores]:
        """Return of each person the product of their row, taken to length 1, with both remainders; and its length.

        A row is that of all rounds, in deviations of the noise, so that its length is mu; of a row of zeros all are 0.
        """
        noise, others, squares = (np.zeros(people.shape[0]) for _ in range(3))
        rounds = zip(self.watched.states, self.trained.plan.bounds, self.noise, self.others, strict=True)
        for state, bound, left, unknown in rounds:
            work = Work(self.watched.model, state, bound, self.layers, level)
            for person in range(people.shape[0]):
                row = work(people[[person]]).total / STANDARD_DEVIATION
                noise[person] += row @ left
                others[person] += row @ unknown
                squares[person] += row @ row
        lengths = np.sqrt(squares)
        unit = np.where(lengths > 0, lengths, 1.0)
        return noise / unit, others / unit, lengths


def _right(score_in: Scores, mu_in: Scores, score_out: Scores, mu_out: Scores) -> float:
    """Return how often it is right to say of a score above half of mu that the person was in; half of each kind."""
    return float(((score_in > mu_in / 2).mean() + (score_out <= mu_out / 2).mean()) / 2)


def risk_by_level(
    histories: Histories,
    levels: Levels,
    *,
    epsilon: float,
    kind: Kind = "auto",
    seeds: int = 3,
    held_out: int | None = None,
    progress: Progress | None = None,
) -> list[Risk]:
    """Return, for each level that enough people chose, what is promised and what was measured.

    Args:
        histories: opened for measuring quality.
        levels: what people chose; of whoever is at ``off`` nothing was learnt, and nothing is measured.
        epsilon: of whoever is at ``light``, in nats; delta is min(1e-5, people^-1.1).
        kind: of model.
        seeds: how many runs, each with other people held out.
        held_out: people to hold out of each; by default 30 %, at most 1,000.
        progress: told the runs done and planned.

    Raises:
        SettingError: a setting is out of range, there are too few people, or somebody who chose is not among them.
        PurposeNotAllowed: the histories were opened for something else.
    """
    if histories.purpose != PURPOSE:
        raise PurposeNotAllowed(f"these histories were opened for {histories.purpose!r}, not for {PURPOSE!r}")
    if seeds < 1:
        raise SettingError(f"at least one run is needed, not {seeds}")
    taking, runs = Participants.of(histories, levels), []
    count = held_out or min(MOST_HELD_OUT, max(1, round(HELD_OUT_SHARE * len(taking.histories))))
    for seed in range(seeds):
        runs.append(dict(_run(taking, epsilon, kind, count, seed)))
        if progress:
            progress(seed + 1, seeds)
    found = [level for level in OFFERED if all(level in run for run in runs)]
    if not found:
        raise SettingError("there are too few people of any level to be asked about; hold out more")
    return [_risk(level, taking, epsilon, [run[level] for run in runs]) for level in found]


def _risk(level: Level, taking: Participants[Histories], epsilon: float, runs: list[Measured]) -> Risk:
    delta = default_delta(len(taking.histories))
    units = Plan.sharing(cap(epsilon, delta), (1.0,), delta=delta).cost_at(level)
    informed, half, quality = (Estimate.over(each) for each in zip(*runs, strict=True))
    people = int((taking.each == level.value).sum())
    return Risk(str(level), people, epsilon_of(units, delta), delta, odds_of(units), informed, half, quality)


def _run(
    taking: Participants[Histories], epsilon: float, kind: Kind, count: int, seed: int
) -> Iterator[tuple[Level, Measured]]:
    split = hold_out_people(taking.histories, count, seed)
    outside = taking.each[split.measured]
    inside = np.delete(taking.each, split.measured)  # those who are left, in their order
    delta = default_delta(len(taking.histories))
    run = Attacked.trained_on(Participants(split.train, inside), epsilon, kind, delta, seed)
    for level in OFFERED:
        out, members = np.flatnonzero(outside == level.value), np.flatnonzero((inside == level.value) & run.known)
        if min(out.size, members.size) >= LEAST_ASKED:
            asked = members[np.random.default_rng(seed).permutation(members.size)[:MOST_ASKED]]
            others = taking.histories.matrix[split.measured[out[:MOST_ASKED]]]
            of_level = replace(split, fold_in=split.fold_in[out], held=split.held[out], measured=split.measured[out])
            quality = measure(run.trained.scores, of_level)[METRIC]
            yield level, (*run.attack(split.train.matrix[asked], others, level), quality)


def _nobody(units: int) -> None:
    """Bill nobody: the model is thrown away."""
