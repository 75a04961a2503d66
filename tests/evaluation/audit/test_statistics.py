"""The bounds: right against other implementations, and rarely above the truth.

False alarms: each count of exceedances is held against the largest that a binomial with the nominal rate reaches in all
but one in a million tests.
"""

from __future__ import annotations

import math

import audit
import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import binom, binomtest

from discreet.evaluation.audit.canaries import scored
from discreet.evaluation.audit.people import ring, transversal
from discreet.evaluation.audit.statistics import (
    Guesses,
    Overlap,
    Rates,
    auc,
    gap_bound,
    mahloujifar,
    steinke,
    upper_limit,
)
from discreet.models.popularity import steps_of

RANDOM = np.random.default_rng()


def rarely(exceeded: int, runs: int, alpha: float) -> bool:
    return exceeded <= int(binom.isf(1e-6, runs, alpha))


def test_auc_is_the_share_of_pairs_in_order() -> None:
    assert auc(np.array([3.0, 2.0]), np.array([1.0, 2.0])) == (1 + 1 + 1 + 0.5) / 4
    assert auc(np.zeros(2), np.zeros(5)) == 0.5


def played(mu: float, canaries: int) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Scores of independent canaries of length mu, in noise of deviation 1."""
    inside = RANDOM.random(canaries) < 0.5
    return RANDOM.standard_normal(canaries) + mu * inside, inside


class TestClopperPearson:
    @pytest.mark.parametrize(("events", "trials"), [(0, 10), (3, 50), (49, 50), (50, 50)])
    def test_it_is_scipys(self, events: int, trials: int) -> None:
        theirs = binomtest(events, trials, alternative="less").proportion_ci(0.99, "exact").high
        assert upper_limit(events, trials, 0.01) == pytest.approx(theirs)

    def test_bounds_are_rarely_above_the_truth(self) -> None:
        mu, runs, alpha, above = 1.0, 2_000, 0.05, 0
        chance = 0.5 * math.erfc(mu / 2 / math.sqrt(2))
        for missed, false in RANDOM.binomial(400, chance, (runs, 2)):
            rates = Rates(int(missed), 400, int(false), 400)
            above += rates.mu(alpha) > mu
            assert rates.epsilon(alpha, 1e-6) >= 0
        assert rarely(above, runs, alpha)

    def test_randomised_response_does_not_seem_worse_than_it_is(self) -> None:
        runs, above = 1_000, 0
        for missed, false in RANDOM.binomial(1_000, 1 / (1 + math.e), (runs, 2)):
            above += Rates(int(missed), 1_000, int(false), 1_000).epsilon(0.05, 0.0) > 1
        assert rarely(above, runs, 0.05)

    def test_perfect_guesses_are_worth_as_much_as_there_are_runs(self) -> None:
        few, many = Rates(0, 100, 0, 100), Rates(0, 10_000, 0, 10_000)
        assert 2 < few.mu(1e-4) < many.mu(1e-4) < math.inf
        assert 0.8 < few.advantage(1e-4) < many.advantage(1e-4) < 1

    def test_guesses_at_random_are_worth_nothing(self) -> None:
        rates = Rates.of(np.arange(100.0), np.arange(100.0), 50.0)
        assert (rates.mu(0.01), rates.epsilon(0.01, 0.0), rates.advantage(0.01)) == (0, 0, 0)


class TestGap:
    @pytest.mark.parametrize("mu", [0.0, 0.24, 1.5])
    def test_independent_scores_rarely_seem_worse(self, mu: float) -> None:
        runs, above, alpha = 2_000, 0, 0.01
        for _ in range(runs):
            scores, inside = played(mu, 500)
            above += gap_bound(scores, inside, Overlap.none(inside), alpha)[1] > mu
        assert rarely(above, runs, alpha)

    def test_scores_of_canaries_that_share_items_rarely_seem_worse(self) -> None:
        """Counts of few items by many canaries: without the overlap every tenth bound would be wrong."""
        people, _ = transversal(289, 4)
        made = people.astype(np.int64) * int(steps_of(np.array([4]), 6_000)[0])
        runs, alpha, above, naive = 1_500, 0.01, 0, 0
        for _ in range(runs):
            inside = RANDOM.random(289) < 0.5
            released = made.T @ inside.astype(float) + 4_096 * RANDOM.standard_normal(people.shape[1])
            seen = scored(made.astype(np.float64), released, inside, 4_096.0)
            above += gap_bound(seen.knowing, inside, seen.overlap, alpha)[1] > seen.longest
            naive += gap_bound(seen.knowing, inside, Overlap.none(inside), alpha)[1] > seen.longest
        assert rarely(above, runs, alpha)
        assert not rarely(naive, runs, alpha)

    def test_scale_does_not_matter(self) -> None:
        scores, inside = played(1.0, 400)
        overlap = Overlap.none(inside)
        assert gap_bound(7 * scores, inside, overlap, 0.01) == pytest.approx(gap_bound(scores, inside, overlap, 0.01))

    def test_no_noise_is_no_privacy(self) -> None:
        inside = np.arange(10) < 5
        assert gap_bound(inside.astype(float), inside, Overlap.none(inside), 0.01) == (math.inf, math.inf)
        assert gap_bound(np.zeros(10), inside, Overlap.none(inside), 0.01) == (0, 0)


class TestOneRun:
    # By another implementation, which agrees with jax-privacy 2.0 to four decimals: delta 1e-6, alpha 0.05.
    OTHERS = (
        (Guesses(1_000, 200, 150), 0.8213, 0.3395),
        (Guesses(5_000, 1_000, 560), 0.1344, 0.0571),
        (Guesses(10_000, 2_000, 1_990), 4.7592, 1.5541),
        (Guesses(500, 50, 50), 2.7833, 1.0129),
    )

    @pytest.mark.parametrize(("guesses", "epsilon", "mu"), OTHERS)
    def test_they_are_those_of_another_implementation(self, guesses: Guesses, epsilon: float, mu: float) -> None:
        assert steinke(guesses, 1e-6, 0.05) == pytest.approx(epsilon, abs=1e-4)
        assert mahloujifar(guesses, 0.05) == pytest.approx(mu, abs=1e-4)

    def test_randomised_response_does_not_seem_worse_than_it_is(self) -> None:
        runs, above = 150, 0
        for right in RANDOM.binomial(1_000, math.e / (1 + math.e), runs):
            above += steinke(Guesses(1_000, 1_000, int(right)), 0.0, 0.05) > 1
        assert rarely(above, runs, 0.05)

    def test_gaussian_noise_does_not_seem_worse_than_it_is(self) -> None:
        runs, above = 200, 0
        for _ in range(runs):
            above += mahloujifar(Guesses.of(*played(1.0, 400), 0.1), 0.05) > 1
        assert rarely(above, runs, 0.05)

    def test_half_right_is_worth_nothing(self) -> None:
        assert steinke(Guesses(1_000, 200, 100), 1e-6, 0.05) == 0
        assert mahloujifar(Guesses(1_000, 200, 100), 0.05) == 0

    def test_guesses_are_of_both_ends(self) -> None:
        inside = np.arange(100) >= 50
        assert Guesses.of(np.arange(100.0), inside, 0.1) == Guesses(100, 20, 20)
        assert Guesses.of(-np.arange(100.0), inside, 0.1) == Guesses(100, 20, 0)


class TestDecisions:
    def test_a_correct_mechanism_never_fails_and_first_runs_rarely_do(self) -> None:
        """Three hundred audits; ``benchmarks/audit.py`` makes ten thousand."""
        first, confirmed = audit.false_alarms(300)
        assert rarely(first, 300, 1e-3)
        assert confirmed == 0


class TestPeople:
    def test_lines_of_a_transversal_design_meet_at_most_once(self) -> None:
        people, prime = transversal(121, 7)
        dense = people.toarray().astype(int)
        shared = dense @ dense.T
        assert prime == 11
        assert (shared.diagonal() == 7).all()
        assert (shared - np.diag(shared.diagonal())).max() == 1

    def test_nobody_is_more_popular_in_a_ring(self) -> None:
        assert set(ring(32, 16, 3).sum(axis=0).tolist()) == {6}
