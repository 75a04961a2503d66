"""Was somebody in? From all that was released; from lists alone; and with shadow models.

*Lists*: the attacker asks with half of a person's history, and looks for the other half in the list: a model finds what
it has seen (Zhang et al., Membership inference attacks against recommender systems, 2021).

*Shadow models*: the likelihood-ratio attack of Carlini et al. (2022) on the same statistic. Each run has each target in
by a fair coin; a target's statistic is Gaussian, around one mean where they are in and another where they are out, as
seen in all other runs. As the authors advise for few shadow models, the two variances are one for all targets.

Half of the targets are people of the data; half are *outliers* planted in other people's stead, with items chosen
evenly from the whole catalogue: few share any pair of theirs, so nobody stands out more.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from discreet.data.interactions import Rows
from discreet.data.splitting import hold_out_people
from discreet.errors import SettingError
from discreet.evaluation.attacks.figures import Figure, Service
from discreet.evaluation.audit.people import only, rows, stacked
from discreet.evaluation.audit.statistics import auc
from discreet.evaluation.ranking import DEPTH, hits_of
from discreet.evaluation.risk import Attacked
from discreet.models.trained import Trained
from discreet.privacy.accounting import default_delta, odds_of
from discreet.privacy.levels import Level
from discreet.training.participants import Participants

LEAST_ITEMS, MOST_OUTLYING = 4, 30
"""Items that somebody needs to be asked about, and items of an outlier at most."""

Statistics = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Shadows:
    """Runs with each target in by a fair coin.

    Attributes:
        found: what lists showed of each target, float64 [runs, targets].
        inside: whether they were in, bool [runs, targets].
    """

    found: Statistics
    inside: NDArray[np.bool_]

    @property
    def ratios(self) -> Statistics:
        """Log-likelihood ratio of in to out, of each run by what all other runs showed, float64 [runs, targets]."""
        runs = np.arange(len(self.found))
        return np.stack([self._ratio(int(run), runs != run) for run in runs])

    def _ratio(self, run: int, others: NDArray[np.bool_]) -> Statistics:
        fits = [_fit(self.found[others], self.inside[others] == side) for side in (True, False)]
        (mean_in, spread_in), (mean_out, spread_out) = fits
        own = self.found[run]
        apart = ((own - mean_out) / spread_out) ** 2 - ((own - mean_in) / spread_in) ** 2
        ratio: Statistics = apart / 2 + np.log(spread_out / spread_in)
        return ratio

    def aucs(self, scores: Statistics) -> list[float]:
        """Return how well scores tell in from out, run by run; runs with all on one side are left out."""
        pairs = zip(scores, self.inside, strict=True)
        return [auc(score[mask], score[~mask]) for score, mask in pairs if 0 < mask.sum() < mask.size]

    def only(self, targets: slice) -> Shadows:
        """Return some of the targets."""
        return Shadows(self.found[:, targets], self.inside[:, targets])


def _fit(found: Statistics, where: NDArray[np.bool_]) -> tuple[Statistics, float]:
    """Return each target's mean over the runs where it counts, and one deviation for all."""
    counts = where.sum(axis=0)
    means = np.where(counts, (found * where).sum(axis=0) / np.maximum(counts, 1), found.mean(axis=0))
    left = (found - means)[where]
    return means, float(np.sqrt((left**2).sum() / max(1, left.size - (counts > 0).sum()))) + 1e-9


def through_lists(service: Service, *, runs: int = 12, targets: int = 200) -> list[Figure]:
    """Return how well membership is told by lists, without shadow models and with them.

    Args:
        service: what is attacked.
        runs: models to train, at least 4; each is attacked with the others as its shadows.
        targets: half of them of the data, half outliers.

    Raises:
        SettingError: too few people have four items.
    """
    shadows = shadowed(service, runs, targets)
    figures = []
    for name, part in (("people", slice(targets // 2)), ("outliers", slice(targets // 2, None))):
        of_part = shadows.only(part)
        told = {"lists": of_part.found, "shadow models": of_part.ratios}
        for how, scores in told.items():
            figures.append(service.of_values("membership", f"{how}, {name}: AUC", of_part.aucs(scores), 0.5))
    return figures


def shadowed(service: Service, runs: int, targets: int) -> Shadows:
    """Train ``runs`` models, each with half of the targets, and look at the targets' lists."""
    if runs < 4 or targets < 8:
        raise SettingError("membership needs at least 4 runs and 8 targets")
    random, (people, asked, sought) = service.random, _planted(service, targets)
    inside = random.random((runs, targets)) < 0.5
    everybody = np.ones(people.shape[0], np.bool_)
    found = []
    for coins in inside:
        everybody[-targets:] = coins
        found.append(seen_in_lists(service.released(only(people, everybody)), asked, sought))
    return Shadows(np.stack(found), inside)


def _planted(service: Service, targets: int) -> tuple[Rows, Rows, Rows]:
    """Return everybody, targets last; what is asked with of each target; and what is looked for."""
    matrix, random = service.histories.matrix, service.random
    able = np.flatnonzero(service.lengths >= LEAST_ITEMS)
    if len(able) < targets:
        raise SettingError(f"membership needs {targets} people with {LEAST_ITEMS} items each, or fewer targets")
    chosen = random.permutation(able)[:targets]
    real, replaced = chosen[: targets // 2], chosen[targets // 2 :]
    items = matrix.shape[1]
    size = int(np.clip(np.median(service.lengths[able]), LEAST_ITEMS, min(MOST_OUTLYING, items // 2)))
    outliers = [random.permutation(items)[:size] for _ in replaced]
    histories = [*(random.permutation(matrix[[person]].indices) for person in real), *outliers]
    others = np.setdiff1d(np.arange(matrix.shape[0]), chosen)
    people = stacked(matrix[others], rows(histories, items))
    asked, sought = ([history[half::2] for history in histories] for half in (0, 1))
    return people, rows(asked, items), rows(sought, items)


def seen_in_lists(trained: Trained, asked: Rows, sought: Rows) -> Statistics:
    """Return how high on a list what is sought stands, from 0, not at all, to 1; float64 [people]."""
    depth = min(DEPTH, asked.shape[1])
    hits = hits_of(trained.scores(asked), asked, sought, depth)
    height: Statistics = hits @ (1 - np.arange(depth) / depth) / np.maximum(np.diff(sought.indptr), 1)
    return height


def white_box(service: Service, *, runs: int = 3, asked: int = 50) -> list[Figure]:
    """Return how often the informed attacker of ``risk`` is right, who knows everybody else and all that was released.

    Args:
        service: what is attacked.
        runs: each with other people held out.
        asked: people who are in, and people who are not, in each.

    Raises:
        SettingError: there are too few people.
    """
    right, chance = [], 0.5
    for seed in range(runs):
        split = hold_out_people(service.histories, asked, seed)
        delta = default_delta(len(split.train))
        run = Attacked.trained_on(Participants(split.train), service.epsilon, service.kind, delta, seed)
        members = known_members(run, asked, seed)
        outside = service.histories.matrix[split.measured]
        right.append(run.attack(split.train.matrix[members], outside, Level.LIGHT)[0])
        plan = run.trained.plan
        promised = f"promised at most {odds_of(plan.cost):.3f}" if plan.private else "nothing is promised"
    return [service.of_values("white-box", f"knowing everybody else: right guesses, {promised}", right, chance)]


def known_members(run: Attacked, count: int, seed: int) -> NDArray[np.int64]:
    """Return positions of some who were in, of the half that the attacker knows."""
    return np.random.default_rng(seed).permutation(np.flatnonzero(run.known))[:count]
