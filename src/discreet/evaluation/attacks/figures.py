"""What an attack found, with its interval; and the service that is attacked.

Nothing is billed or published: models are thrown away, and the figures are exact, for whoever may see the data.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from discreet.data.interactions import Histories, Rows
from discreet.errors import PurposeNotAllowed
from discreet.evaluation.audit.statistics import PUBLISHED_ALPHA, upper_limit
from discreet.evaluation.ranking import Estimate
from discreet.evaluation.tradeoff import PURPOSE, fit_unbilled, planned_for
from discreet.evaluation.transcripts import Watched
from discreet.models.recipe import Kind
from discreet.models.trained import Trained
from discreet.randomness import NoiseSource, public_generator
from discreet.training.populations import Here
from discreet.training.rounds import train


@dataclass(frozen=True, kw_only=True)
class Figure:
    """How well one attack did.

    Attributes:
        attack: its name.
        what: was measured.
        epsilon: of the service; ``math.inf`` without noise.
        value: as measured.
        low: of the 95 % interval; minus infinity if one run tells nothing of the spread.
        high: the same, upward.
        chance: what knowing nothing would give; NaN where there is no such thing.
        trials: how much was tried: people, guesses or models.
    """

    attack: str
    what: str
    epsilon: float
    value: float
    low: float
    high: float
    chance: float = math.nan
    trials: int

    def to_dict(self) -> dict[str, Any]:
        """Return JSON values; what is not finite is null."""
        fields = {name: value for name, value in vars(self).items() if name not in {"low", "high"}}
        fields |= {"interval_95": [self.low, self.high] if math.isfinite(self.low) else None}
        return {name: None if isinstance(v, float) and not math.isfinite(v) else v for name, v in fields.items()}


@dataclass(frozen=True, eq=False)
class Service:
    """What is attacked: a way of training, on people whom the attacker may move.

    Attributes:
        histories: opened for measuring quality.
        epsilon: of each release; ``math.inf`` adds no noise.
        kind: of model.
        seed: of the attacker's choices, not of noise: that is fresh.

    Raises:
        PurposeNotAllowed: the histories were opened for something else.
    """

    histories: Histories
    epsilon: float
    kind: Kind = "auto"
    seed: int = 0

    def __post_init__(self) -> None:
        if self.histories.purpose != PURPOSE:
            raise PurposeNotAllowed(f"these histories were opened for {self.histories.purpose!r}, not for {PURPOSE!r}")

    @property
    def random(self) -> np.random.Generator:
        """The attacker's own, from its beginning."""
        return public_generator(self.seed)

    @property
    def lengths(self) -> NDArray[np.int64]:
        """How many items each person has."""
        return np.diff(self.histories.matrix.indptr).astype(np.int64)

    def released(self, matrix: Rows) -> Trained:
        """Return a model of the same people with these rows, from fresh noise."""
        return fit_unbilled(self.with_rows(matrix), self.epsilon, self.kind)

    def transcript(self, matrix: Rows, source: NoiseSource | None = None) -> Watched:
        """Return all that such a run released; ``source`` is a mistake to be shown, never how things are done."""
        histories = self.with_rows(matrix)
        model, plan = planned_for(histories, self.epsilon, self.kind)
        watched = Watched(model)
        train(watched, Here(histories), plan, spend=_nobody, source=source)
        return watched

    def with_rows(self, matrix: Rows) -> Histories:
        """Return the same people with other rows."""
        return replace(self.histories, matrix=matrix, last=None)

    def of_share(self, attack: str, what: str, right: int, trials: int, chance: float = math.nan) -> Figure:
        """Return a share of independent trials, with the limits of Clopper and Pearson (1934)."""
        alpha = PUBLISHED_ALPHA / 2
        low, high = 1 - upper_limit(trials - right, trials, alpha), upper_limit(right, trials, alpha)
        return self._figure(attack, what, right / trials, (low, high), chance, trials)

    def of_values(self, attack: str, what: str, values: Sequence[float], chance: float = math.nan) -> Figure:
        """Return a mean, with Student's interval over the values."""
        estimate = Estimate.over(values)
        return self._figure(attack, what, estimate.mean, estimate.interval(), chance, len(values))

    def of_classes(self, attack: str, what: str, guessed: NDArray[np.int64], truth: NDArray[np.int64]) -> Figure:
        """Return the mean recall of the classes, with a normal interval; chance is one over their number."""
        rates, counts = recalls(guessed, truth)
        reach = 1.96 * float(np.sqrt((rates * (1 - rates) / counts).sum())) / len(rates)
        interval = (float(rates.mean()) - reach, float(rates.mean()) + reach)
        return self._figure(attack, what, float(rates.mean()), interval, 1 / len(rates), len(truth))

    def _figure(
        self, attack: str, what: str, value: float, interval: tuple[float, float], chance: float, trials: int
    ) -> Figure:
        low, high = map(float, interval)
        return Figure(
            attack=attack,
            what=what,
            epsilon=self.epsilon,
            value=value,
            low=low,
            high=high,
            chance=chance,
            trials=trials,
        )


def recalls(guessed: NDArray[np.int64], truth: NDArray[np.int64]) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Return, for each class that there is, how often its people are guessed right, and how many they are."""
    _, of, counts = np.unique(truth, return_inverse=True, return_counts=True)
    return np.bincount(of, guessed == truth) / counts, counts


def _nobody(units: int) -> None:
    """Bill nobody: the model is thrown away."""
