"""Splits are exact partitions, and nothing measured leaks into training."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.sparse import csr_array

from discreet.data.intake import read_interactions
from discreet.data.interactions import Histories
from discreet.data.splitting import Split, hold_out_apart, hold_out_people, leave_one_out
from discreet.errors import SettingError

PEOPLE = st.lists(st.sets(st.integers(0, 30), min_size=1, max_size=20), min_size=3, max_size=25)


def histories(people: list[set[int]], *, timed: bool = False) -> Histories:
    pairs = [(user, item) for user, items in enumerate(people) for item in sorted(items)]
    columns = {"user_id": [user for user, _ in pairs], "item_id": [item for _, item in pairs]}
    if timed:
        columns["timestamp"] = [-item for _, item in pairs]  # the lowest item is the last
    return read_interactions(columns).opened_for("train-recommender")


def assert_parts(split: Split, whole: np.ndarray) -> None:
    kept, held = split.fold_in.toarray(), split.held.toarray()
    assert np.array_equal(kept + held, whole)
    assert not (kept & held).any()
    assert split.fold_in.dtype == split.held.dtype == np.int8
    assert split.fold_in.has_sorted_indices
    assert split.held.has_sorted_indices


class TestHoldOutPeople:
    @given(people=PEOPLE, seed=st.integers(0, 2**32), fold_in=st.sampled_from([0.5, 0.8, 0.95]))
    def test_partitions_exactly(self, people: list[set[int]], seed: int, fold_in: float) -> None:
        everybody = histories([*people, {1, 2, 3, 4, 5}])
        split = hold_out_people(everybody, 1, seed, fold_in=fold_in)
        others = set(split.train.people_ids)
        (measured,) = set(everybody.people_ids) - others
        row = everybody.people_ids.index(measured)
        assert len(split.train) == len(everybody) - 1
        assert_parts(split, everybody.matrix[[row]].toarray())
        length = everybody.matrix[[row]].nnz
        assert length >= 5
        assert split.held.nnz == max(1, round((1 - fold_in) * length))

    def test_is_the_protocol_that_the_figures_were_measured_with(self) -> None:
        """The arithmetic of the prototype, written out row by row."""
        rng = np.random.default_rng(0)
        everybody = histories([set(rng.choice(60, size, replace=False).tolist()) for size in rng.integers(1, 30, 50)])
        split = hold_out_people(everybody, 10, seed=3)
        able = np.flatnonzero(np.diff(everybody.matrix.indptr) >= 5)
        measured = everybody.matrix[np.random.default_rng(1003).choice(able, 10, replace=False)]
        draws = np.random.default_rng(3).random(measured.nnz)
        for row in range(10):
            start, end = measured.indptr[row : row + 2]
            many = max(1, int(np.round(0.2 * (end - start))))
            held = measured.indices[start:end][np.argsort(draws[start:end])[:many]]
            assert set(split.held[[row]].indices.tolist()) == set(held.tolist())

    def test_is_repeatable_and_depends_on_the_seed(self) -> None:
        everybody = histories([set(range(at, at + 8)) for at in range(20)])
        first, again, other = (hold_out_people(everybody, 5, seed) for seed in (1, 1, 2))
        assert np.array_equal(first.held.toarray(), again.held.toarray())
        assert first.train.people_ids == again.train.people_ids != other.train.people_ids

    @pytest.mark.parametrize(
        ("count", "options", "names"),
        [
            (0, {}, "count"),
            (4, {}, "count"),
            (3, {}, "count"),
            (1, {"fold_in": 0.0}, "fold_in"),
            (1, {"fold_in": 1.0}, "fold_in"),
            (1, {"fold_in": float("nan")}, "fold_in"),
            (1, {"least": 1}, "least"),
            (1, {"least": 9}, "least"),
        ],
    )
    def test_refuses_what_cannot_be_split(self, count: int, options: dict[str, Any], names: str) -> None:
        everybody = histories([set(range(8))] * 3)
        with pytest.raises(SettingError, match=names):
            hold_out_people(everybody, count, 0, **options)

    def test_refuses_a_negative_seed(self) -> None:
        with pytest.raises(SettingError, match="seed"):
            hold_out_people(histories([set(range(8))] * 3), 1, -1)


class TestLeaveOneOut:
    @given(people=PEOPLE, seed=st.integers(0, 2**32), timed=st.booleans())
    def test_partitions_exactly(self, people: list[set[int]], seed: int, timed: bool) -> None:
        everybody = histories([*people, {1, 2}], timed=timed)
        split = leave_one_out(everybody, seed)
        whole = everybody.matrix.toarray()
        measured = np.flatnonzero(whole.sum(axis=1) >= 2)
        assert_parts(split, whole[measured])
        assert (split.held.toarray().sum(axis=1) == 1).all()
        expected = whole.copy()
        expected[measured] -= split.held.toarray()
        assert np.array_equal(split.train.matrix.toarray(), expected)
        assert split.train.people_ids == everybody.people_ids
        assert split.train.last is None

    def test_holds_back_the_last_item_by_time(self) -> None:
        split = leave_one_out(histories([{3, 5, 9}, {5, 7}, {4}], timed=True), 0)
        catalogue = split.train.catalogue
        assert [catalogue.ids[at] for at in split.held.indices] == [3, 5]

    def test_without_times_the_seed_decides(self) -> None:
        everybody = histories([set(range(20))] * 9)
        first, again, other = (leave_one_out(everybody, seed) for seed in (1, 1, 2))
        assert np.array_equal(first.held.toarray(), again.held.toarray())
        assert not np.array_equal(first.held.toarray(), other.held.toarray())

    def test_needs_somebody_with_two_items(self) -> None:
        with pytest.raises(SettingError, match="two items"):
            leave_one_out(histories([{1}, {2}]), 0)

    def test_refuses_a_negative_seed(self) -> None:
        with pytest.raises(SettingError, match="seed"):
            leave_one_out(histories([{1, 2}]), -1)


class TestApart:
    def test_another_history_changes_one_row_of_one_part(self, histories: Histories) -> None:
        split = hold_out_apart(histories, 60, seed=3)
        trained = set(split.train.people_ids)
        for place in range(0, 300, 23):
            other = histories.matrix.toarray()
            other[place] = 0
            other[place, :7] = 1
            matrix = csr_array(other)
            again = hold_out_apart(replace(histories, matrix=matrix, last=None), 60, seed=3)
            assert set(again.train.people_ids) == trained
            differing = sum(
                int((first != second).max(axis=1).sum())
                for first, second in (
                    (split.train.matrix.toarray(), again.train.matrix.toarray()),
                    (
                        np.hstack([split.fold_in.toarray(), split.held.toarray()]),
                        np.hstack([again.fold_in.toarray(), again.held.toarray()]),
                    ),
                )
            )
            assert differing <= 1

    def test_parts_a_fifth_of_those_who_have_enough(self, histories: Histories) -> None:
        split = hold_out_apart(histories, 60, seed=0, least=8)
        lengths = np.diff((split.fold_in + split.held).indptr)
        held = np.diff(split.held.indptr)
        assert (held[lengths < 8] == 0).all()
        assert (held[lengths >= 8] == np.round(0.2 * lengths[lengths >= 8])).all()
        assert (split.fold_in * split.held).nnz == 0
        assert len(split.train) == 240

    @pytest.mark.parametrize("count", [0, 300, 301])
    def test_nobody_to_measure_or_to_train_on(self, count: int, histories: Histories) -> None:
        with pytest.raises(SettingError, match="count"):
            hold_out_apart(histories, count, seed=0)
