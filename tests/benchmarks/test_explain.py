"""The benchmark of ranges counts what it says."""

from __future__ import annotations

import explain
import numpy as np
from scipy.sparse import csr_array

from discreet.data.interactions import Histories
from discreet.evaluation.tradeoff import fit_unbilled


def test_a_repetition_is_inside_or_on_one_side(histories: Histories) -> None:
    found = explain.repeated(histories, histories.matrix[:20], "subspace", 6.0, 3)
    assert found.personal
    assert abs(found.within + found.better + found.worse - 1) < 1e-9
    assert found.within > 0.5
    assert explain.cells([found, found])[0] == f"{found.within:.1%}"


def test_counts_are_said_to_be_counts(histories: Histories) -> None:
    found = explain.repeated(histories, histories.matrix[:20], "popularity", 1.0, 2)
    assert explain.cells([found])[0].endswith("(counts)")


def test_the_same_training_ranks_as_it_did(histories: Histories) -> None:
    run = fit_unbilled(histories, 6.0, "subspace")
    known = csr_array(histories.matrix[:5])
    again = explain.held_against(run, [run], known)
    assert again["stayed"] == 1
    assert explain.best_of(run, known).shape == (5, 10)
    assert not np.isin(explain.best_of(run, known)[0], known[[0]].indices).any()
