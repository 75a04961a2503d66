"""Lower bounds on what a mechanism gives away, from what an attacker saw of it.

All are lower bounds at a confidence 1 - alpha: if the claim is true, they exceed it with a chance of at most alpha.

===========================  ==================================================================  ==================
bound                        assumes                                                             trials
===========================  ==================================================================  ==================
``Rates`` (Clopper-Pearson)  nothing: independent runs, an event chosen beforehand               many runs
``gap_bound`` (z-GDP)        noise that is Gaussian along the canaries' directions; many canaries  one run
``steinke``                  nothing: canaries in by fair coins                                  one run
``mahloujifar``              that the claim is one of mu-GDP; canaries in by fair coins          one run
===========================  ==================================================================  ==================

Sources: Clopper and Pearson 1934. Steinke, Nasr, Jagielski: Privacy auditing with one (1) training run (2023), theorem
5.2. Mahloujifar, Melis, Chaudhuri: Auditing f-differential privacy in one run (2024), algorithm 3, for Gaussian
trade-off functions. The z-GDP bound is the t statistic of canary-aligned scores; see ``canaries.py``.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr, ndtri
from scipy.stats import beta, binom, norm, rankdata

PUBLISHED_ALPHA = 0.05
"""Of the bounds that are published beside those that gates decide on."""

BISECTIONS = 40
MOST = 64.0
"""Largest bound that is looked for, in nats or in mu: whatever is above is as good as no privacy."""


def upper_limit(events: int, trials: int, alpha: float) -> float:
    """Return the Clopper-Pearson upper limit on a chance, at confidence 1 - alpha."""
    return float(beta.ppf(1 - alpha, events + 1, trials - events)) if events < trials else 1.0


def auc(inside: NDArray[np.float64], outside: NDArray[np.float64]) -> float:
    """Return the chance that a score of the first kind is above one of the second, ties counting half."""
    ranks = rankdata(np.concatenate([inside, outside]))[: len(inside)]
    return float((ranks.sum() - len(inside) * (len(inside) + 1) / 2) / (len(inside) * len(outside)))


@dataclass(frozen=True)
class Rates:
    """How often an attacker was wrong who says "in" on an event that was chosen before these runs.

    Attributes:
        missed: runs with the person in which the event did not come.
        inside: runs with the person.
        false: runs without the person in which it came.
        outside: runs without the person.
    """

    missed: int
    inside: int
    false: int
    outside: int

    @classmethod
    def of(cls, inside: NDArray[np.float64], outside: NDArray[np.float64], threshold: float) -> Rates:
        """Count the event that a score is at least the threshold."""
        return cls(int((inside < threshold).sum()), len(inside), int((outside >= threshold).sum()), len(outside))

    def _limits(self, alpha: float) -> tuple[float, float]:
        return upper_limit(self.missed, self.inside, alpha / 2), upper_limit(self.false, self.outside, alpha / 2)

    def mu(self, alpha: float) -> float:
        """Return a lower bound on mu: a mu-GDP mechanism has Phi^-1(1 - false) - Phi^-1(missed) <= mu."""
        missed, false = self._limits(alpha)
        return max(0.0, -float(ndtri(missed)) - float(ndtri(false)))

    def epsilon(self, alpha: float, delta: float) -> float:
        """Return a lower bound on epsilon: P(right inside) <= e^epsilon P(wrong outside) + delta, and vice versa."""
        missed, false = self._limits(alpha)
        ways = [(1 - missed - delta, false), (1 - false - delta, missed)]
        return max(0.0, *[math.log(right / wrong) for right, wrong in ways if right > 0])

    def advantage(self, alpha: float) -> float:
        """Return a lower bound on the share of right guesses above that of wrong ones, true minus false positives."""
        missed, false = self._limits(alpha)
        return max(0.0, 1 - missed - false)


@dataclass(frozen=True)
class Overlap:
    """Sums over the correlations of canaries' scores, which are the cosines of their rows: known, not estimated.

    Attributes:
        inside: over all pairs of canaries that are in, each with itself too.
        outside: over all pairs of canaries that are out.
        across: over all pairs of one that is in and one that is out.
        squares: over the squares of all correlations.
    """

    inside: float
    outside: float
    across: float
    squares: float

    def __add__(self, other: Overlap) -> Overlap:
        """Return the sums over the canaries of two runs; scores of different runs are independent."""
        return Overlap(
            self.inside + other.inside,
            self.outside + other.outside,
            self.across + other.across,
            self.squares + other.squares,
        )

    @classmethod
    def none(cls, inside: NDArray[np.bool_]) -> Overlap:
        """Return that of independent scores."""
        return cls(float(inside.sum()), float((~inside).sum()), 0.0, float(inside.size))


def gap_bound(
    scores: NDArray[np.float64], inside: NDArray[np.bool_], overlap: Overlap, alpha: float
) -> tuple[float, float]:
    """Return mu as estimated, and a lower bound on it: the gap between who is in and who is out, in deviations.

    A score is noise of one, unknown, variance, plus the canary's length if it is in. Where canaries' rows are not
    orthogonal their noise is correlated, by ``overlap``; that moves the variance of the gap, what is expected of the
    spread within the two groups, and how sure the spread is.

    Args:
        scores: float64 [canaries], on any scale.
        inside: which canaries are in; at least two are, and at least two are not.
        overlap: of their rows.
        alpha: chance that the bound is above mu; by a normal approximation, so take hundreds of canaries.
    """
    members, others = scores[inside], scores[~inside]
    squares = ((members - members.mean()) ** 2).sum() + ((others - others.mean()) ** 2).sum()
    expected = len(scores) - overlap.inside / len(members) - overlap.outside / len(others)
    gap, spread = float(members.mean() - others.mean()), math.sqrt(squares / expected)
    if spread == 0:
        return (math.inf, math.inf) if gap > 0 else (0.0, 0.0)
    ratio = gap / spread
    of_gap = overlap.inside / len(members) ** 2 + overlap.outside / len(others) ** 2
    of_gap -= 2 * overlap.across / (len(members) * len(others))
    of_spread = ratio**2 * overlap.squares / (2 * len(scores) ** 2)
    return ratio, max(0.0, ratio - float(norm.isf(alpha)) * math.sqrt(of_gap + of_spread))


@dataclass(frozen=True)
class Guesses:
    """What an attacker said of some of the canaries of one run.

    Attributes:
        canaries: how many there were.
        made: how many guesses, a number that was fixed beforehand.
        right: how many of them were right.
    """

    canaries: int
    made: int
    right: int

    @classmethod
    def of(cls, scores: NDArray[np.float64], inside: NDArray[np.bool_], share: float) -> Guesses:
        """Say "in" of the ``share`` of canaries with the highest scores, and "out" of as many with the lowest."""
        order = np.argsort(scores + 1e-12 * np.random.default_rng().random(scores.size), kind="stable")
        each = int(share * scores.size)
        right = inside[order[scores.size - each :]].sum() + (~inside[order[:each]]).sum()
        return cls(scores.size, 2 * each, int(right))


def steinke(guesses: Guesses, delta: float, alpha: float) -> float:
    """Return a lower bound on epsilon that assumes nothing about the mechanism."""
    return _largest_refused(lambda epsilon: _steinke_p(guesses, epsilon, delta) <= alpha)


def _steinke_p(guesses: Guesses, epsilon: float, delta: float) -> float:
    """Return the chance of as many right guesses, if the mechanism is (epsilon, delta)-DP (theorem 5.2)."""
    chance = 1 / (1 + math.exp(-epsilon))
    fewer = np.arange(1, guesses.right + 1)
    tail = float(binom.sf(guesses.right - 1, guesses.made, chance))
    mass = binom.sf(guesses.right - fewer - 1, guesses.made, chance) - tail
    return tail + 2 * guesses.canaries * delta * max(0.0, float((mass / fewer).max(initial=0.0)))


def mahloujifar(guesses: Guesses, alpha: float) -> float:
    """Return a lower bound on mu that assumes nothing about the mechanism but that the claim is one of mu-GDP."""
    return _largest_refused(lambda mu: _is_refused(guesses, mu, alpha))


def _is_refused(guesses: Guesses, mu: float, alpha: float) -> bool:
    """Tell whether a mu-GDP mechanism would allow so many right guesses with a chance below alpha (algorithm 3)."""
    canaries, made, right = guesses.canaries, guesses.made, guesses.right
    wrong_mass, right_mass = alpha * (made - right) / canaries, alpha * right / canaries
    for i in range(right - 1, -1, -1):
        grown = max(wrong_mass, float(ndtr(ndtri(right_mass) - mu)))
        if grown == wrong_mass:
            break
        right_mass = min(1.0, right_mass + i / (made - i) * (grown - wrong_mass))
        wrong_mass = grown
    return right_mass + wrong_mass > made / canaries


def _largest_refused(refused: Callable[[float], bool]) -> float:
    """Return the largest number up to which all are refused, rounded down; 0 if none is."""
    if not refused(0.0):
        return 0.0
    low, high = 0.0, MOST
    for _ in range(BISECTIONS):
        middle = (low + high) / 2
        low, high = (middle, high) if refused(middle) else (low, middle)
    return low
