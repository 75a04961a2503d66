"""Metrics against numbers worked out by hand, and against the plainest code there is."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.sparse import csr_array

from discreet.data.interactions import Histories
from discreet.data.splitting import Split, hold_out_people, leave_one_out
from discreet.evaluation.ranking import METRICS, Estimate, Protocol, gain_kept, hits_of, measure, ndcg, recall

MATRICES = st.integers(1, 9).flatmap(
    lambda people: st.lists(st.lists(st.integers(0, 3), min_size=130, max_size=130), min_size=people, max_size=people)
)


def split_of(histories: Histories, marks: NDArray[np.int64]) -> Split:
    """Marks are 1 where folded in and 2 where held back."""
    fold_in, held = (csr_array((marks == mark).astype(np.int8)) for mark in (1, 2))
    return Split(histories, fold_in, held, np.arange(held.shape[0]))


def plain_figures(scores: NDArray[np.float32], marks: NDArray[np.int64], protocol: Protocol) -> dict[str, float]:
    """Means over people of the definitions, one person and one item at a time."""
    values: dict[str, list[float]] = {name: [] for name in METRICS[protocol]}
    for row, own in zip(scores, marks, strict=True):
        ranking = [int(at) for at in np.argsort(-row.astype(float), kind="stable") if own[at] != 1]
        held = {int(at) for at in np.flatnonzero(own == 2)}
        for name, found in values.items():
            kind, _, depth = name.partition("@")
            hits = [at in held for at in ranking[: int(depth)]]
            best = min(int(depth), len(held))
            if kind == "ndcg":
                gain = sum(1 / math.log2(place + 2) for place, hit in enumerate(hits) if hit)
                found.append(gain / sum(1 / math.log2(place + 2) for place in range(best)))
            else:
                found.append(sum(hits) / best)
    return {name: float(np.mean(each)) for name, each in values.items()}


class TestByHand:
    def test_recall(self) -> None:
        hits = np.array([[True, False, True], [False, False, False], [True, True, True]])
        assert recall(hits, np.array([2, 1, 9])).tolist() == [1.0, 0.0, 1.0]
        assert recall(hits[:1, :1], np.array([2])).tolist() == [1.0]
        assert recall(hits[:1, :2], np.array([4])).tolist() == [0.5]

    def test_ndcg(self) -> None:
        hits = np.array([[False, True, False], [True, True, True]])
        second = (1 / math.log2(3)) / (1 + 1 / math.log2(3))
        assert ndcg(hits, np.array([2, 7])) == pytest.approx([second, 1.0])


class TestMeasure:
    @pytest.mark.parametrize("protocol", METRICS)
    @given(rows=MATRICES, seed=st.integers(0, 9))
    def test_is_the_plain_definition(
        self, protocol: Protocol, rows: list[list[int]], seed: int, histories: Histories
    ) -> None:
        marks = np.array(rows)
        marks[:, seed] = 2  # everybody has something to find
        scores = np.random.default_rng(seed).integers(0, 40, marks.shape).astype(np.float32)
        found = measure(lambda _: scores, split_of(histories, marks), protocol)
        assert found == pytest.approx(plain_figures(scores, marks, protocol))

    def test_items_that_were_folded_in_never_count(self, histories: Histories) -> None:
        marks = np.zeros((1, 60), np.int64)
        marks[0, :30], marks[0, 30:32] = 1, 2
        flattering = np.where(marks == 1, 100.0, np.where(marks == 2, 1.0, 0.0)).astype(np.float32)
        assert set(measure(lambda _: flattering, split_of(histories, marks)).values()) == {1.0}
        everything_known = np.where(marks == 1, 100.0, np.where(marks == 2, -1.0, 0.0)).astype(np.float32)
        assert measure(lambda _: everything_known, split_of(histories, marks))["recall@20"] == 0.0

    def test_blocks_do_not_show(self, histories: Histories, monkeypatch: pytest.MonkeyPatch) -> None:
        split = hold_out_people(histories, 100, 0)
        scores = np.random.default_rng(0).standard_normal((60, 60)).astype(np.float32)
        whole = measure(lambda known: (known @ scores).astype(np.float32), split)
        monkeypatch.setattr("discreet.evaluation.ranking.BLOCK", 7)
        assert measure(lambda known: (known @ scores).astype(np.float32), split) == pytest.approx(whole)

    def test_asks_for_scores_of_the_fold_in_alone(self, histories: Histories) -> None:
        split = leave_one_out(histories, 0)
        seen: list[int] = []

        def score(known: csr_array) -> NDArray[np.float32]:
            seen.append(known.nnz)
            return np.zeros(known.shape, np.float32)

        measure(score, split, "leave-one-out")
        assert sum(seen) == split.fold_in.nnz


class TestEstimate:
    def test_by_hand(self) -> None:
        found = Estimate.over([1.0, 2.0, 3.0])
        assert (found.mean, found.seeds) == (2.0, 3)
        assert found.error == pytest.approx(1 / math.sqrt(3))
        low, high = found.interval(0.95)
        assert (low, high) == pytest.approx((2 - 4.302653 / math.sqrt(3), 2 + 4.302653 / math.sqrt(3)), abs=1e-5)

    def test_one_seed_tells_nothing_of_the_spread(self) -> None:
        found = Estimate.over([0.3])
        assert (found.mean, found.error, found.seeds) == (0.3, 0.0, 1)
        assert Estimate.over([0.3]).interval() == (-math.inf, math.inf)

    def test_more_confidence_is_wider(self) -> None:
        found = Estimate.over([0.1, 0.2, 0.4])
        assert found.interval(0.99)[0] < found.interval(0.5)[0] < found.mean < found.interval(0.5)[1]


class TestGainKept:
    def test_is_reckoned_seed_by_seed(self) -> None:
        floor, ceiling = Estimate.over([0.1, 0.2]), Estimate.over([0.5, 0.4])
        kept = gain_kept(Estimate.over([0.3, 0.4]), floor, ceiling)
        assert kept.values == pytest.approx((0.5, 1.0))
        assert gain_kept(floor, floor, ceiling).mean == 0.0
        assert gain_kept(ceiling, floor, ceiling).mean == 1.0

    def test_nothing_to_gain_is_no_share(self) -> None:
        assert math.isnan(gain_kept(Estimate.over([0.3]), Estimate.over([0.2]), Estimate.over([0.2])).mean)


def test_only_the_best_are_looked_up_ties_in_catalogue_order() -> None:
    scores = np.array([[3.0, 5.0, 5.0, 1.0, 5.0]], np.float32)
    known, held = (csr_array(np.array([row], np.int8)) for row in ([0, 1, 0, 0, 0], [0, 0, 0, 1, 1]))
    assert hits_of(scores, known, held, 3).tolist() == [[False, True, False]]
    assert hits_of(scores, known, held, 5).tolist() == [[False, True, False, True, False]]
    assert scores[0, 1] == 5.0
