"""What an item adds is exact; ranges hold where the truth is known; nothing is drawn that is not public."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from scipy.sparse import csr_array

from discreet.data.interactions import Histories
from discreet.errors import SettingError
from discreet.evaluation.tradeoff import fit_unbilled
from discreet.inference.on_device import sheet_of
from discreet.models.base import EVIDENCE, Explainable
from discreet.models.explanation import noise_of, other_ranks, ranges_of, ranks_of
from discreet.models.popularity import other_counts
from discreet.models.recipe import Kind
from discreet.models.subspace import TAGS, Subspace
from discreet.models.trained import Trained
from discreet.randomness import public_generator

SUMS: tuple[Kind, ...] = ("popularity", "subspace", "gram")
SOLVED: tuple[Kind, ...] = ("ials", "als", "als-adaptive", "sgd")
MINE = [100, 101, 105, 110]


@pytest.mark.parametrize("epsilon", [6.0, math.inf])
@pytest.mark.parametrize("kind", SUMS)
def test_what_the_items_add_is_the_score(kind: Kind, epsilon: float, histories: Histories) -> None:
    trained = fit_unbilled(histories, epsilon, kind)
    slate, found = trained.recommend(MINE, 20), trained.explain(MINE, 20, draws=0)
    assert tuple(rank.item for rank in found) == slate.items
    for rank, score in zip(found, slate.scores, strict=True):
        assert rank.score == score
        assert rank.rule == ("count" if kind == "popularity" else "sum")
        if rank.rule == "sum":
            assert sum(reason.adds for reason in rank.reasons) == pytest.approx(score, rel=1e-4, abs=1e-6)
            assert sum(abs(reason.share) for reason in rank.reasons) == pytest.approx(1)
            assert {reason.item for reason in rank.reasons} <= set(MINE)
        else:
            assert rank.reasons == ()


@pytest.mark.parametrize("kind", SOLVED)
def test_what_a_solved_score_loses_without_an_item(kind: Kind, histories: Histories) -> None:
    trained = fit_unbilled(histories, 6.0, kind)
    found = trained.explain(MINE, 5)
    assert (found.draws, found.to_dict()["level"]) == (0, None)
    for rank in found:
        assert (rank.rule, rank.between, rank.stays) == ("leave-one-out", None, None)
        place = trained.catalogue.positions([rank.item])[0][0]
        for reason in rank.reasons:
            rest = trained.catalogue.positions([item for item in MINE if item != reason.item])[0]
            row = np.zeros((1, len(trained.catalogue)), np.int8)
            row[0, rest] = 1
            assert rank.score - trained.scores(csr_array(row))[0, place] == pytest.approx(reason.adds, abs=1e-6)


def test_items_that_were_not_kept_explain_nothing(histories: Histories) -> None:
    trained = fit_unbilled(histories, 6.0, "subspace")
    assert isinstance(trained.model, Subspace)
    few = replace(trained.model, kept=20, scouted=10)
    kept = np.arange(0, 40, 2)
    state = {name: array[:20] if name in {"encoder", "decoder"} else array for name, array in trained.state.items()}
    small = replace(trained, model=few, state=state | {"kept": kept})
    ids = small.catalogue.ids
    found = small.explain([ids[0], ids[1], ids[2]], 59, draws=0)
    assert found.silent == 1
    for rank in found:
        assert rank.rule == ("sum" if ids.index(rank.item) in kept else "count")
    alone = small.explain([ids[1]], 5, draws=0)
    assert {rank.rule for rank in alone if ids.index(rank.item) not in kept} <= {"count"}


def test_odd_histories(histories: Histories) -> None:
    trained = fit_unbilled(histories, 6.0, "subspace")
    nobody = trained.explain([], 5)
    assert [(rank.rule, rank.reasons) for rank in nobody] == [("count", ())] * 5
    assert trained.explain(["nothing"], 5).unknown == 1
    assert len(trained.explain(trained.catalogue.ids, 5)) == 0
    for wrong in ({"n": 0}, {"draws": -1}):
        with pytest.raises(SettingError, match=r"at least [01]"):
            trained.explain(MINE, **wrong)
    odd: list[Any] = [7, "100"]
    for history in odd:
        with pytest.raises(SettingError, match="a history is a list of item ids"):
            trained.explain(history)


@pytest.mark.parametrize("kind", SUMS)
def test_other_noise_is_public_and_leaves_the_model_alone(kind: Kind, histories: Histories) -> None:
    trained = fit_unbilled(histories, 2.0, kind)
    before = trained.to_bytes()
    once, again = trained.explain(MINE, 5), trained.explain(MINE, 5)
    assert once == again
    assert trained.to_bytes() == before
    assert all(rank.between and rank.between[0] <= rank.between[1] for rank in once)
    assert all(rank.stays is not None and 0 <= rank.stays <= 1 for rank in once)
    stored = Trained.from_bytes(before)
    assert stored.explain(MINE, 5) == once


@pytest.mark.parametrize("kind", SUMS)
def test_without_noise_there_is_no_other(kind: Kind, histories: Histories) -> None:
    trained = fit_unbilled(histories, math.inf, kind)
    assert EVIDENCE not in trained.state
    assert trained.explain(MINE, 5).draws == 0


@pytest.mark.parametrize("tagged", [False, True])
def test_a_device_makes_lists_without_the_evidence(tagged: bool, histories: Histories, described: Histories) -> None:
    trained = fit_unbilled(described if tagged else histories, 6.0, "subspace")
    assert EVIDENCE in trained.state
    assert (TAGS in trained.state) == tagged
    small = sheet_of(trained)
    assert not {EVIDENCE, TAGS} & small.arrays.keys()
    assert small.catalogue.tags is None
    assert len(small.recommend(MINE, 5)) == 5


@pytest.mark.parametrize(("kind", "tagged"), [("subspace", False), ("subspace", True), ("gram", False)])
def test_the_same_sums_are_read_as_they_were(
    kind: Kind, tagged: bool, histories: Histories, described: Histories
) -> None:
    """With little noise to add, what is read again is what was read from the denoised sums: much the same weights."""
    trained = fit_unbilled(described if tagged else histories, 20.0, kind)
    assert isinstance(trained.model, Explainable)
    other = trained.model.redrawn(trained.state, noise_of(trained.plan), public_generator(1))
    assert other is not None
    assert other.keys() == trained.state.keys()
    ours, theirs = (trained.model.scores(histories.matrix, state) for state in (trained.state, other))
    assert not np.array_equal(ours, theirs)
    assert np.corrcoef(ours.ravel(), theirs.ravel())[0, 1] > 0.9


@pytest.mark.parametrize(("kind", "epsilon"), [("popularity", 1.0), ("subspace", 6.0), ("gram", 6.0)])
def test_ranges_hold_under_real_noise(kind: Kind, epsilon: float, histories: Histories) -> None:
    """The same people, trained again with fresh noise; of 80 % meant, between 60 and 99 % have to hold."""
    runs = [fit_unbilled(histories, epsilon, kind) for _ in range(6)]
    known = csr_array(histories.matrix[:100].multiply(np.arange(len(histories.catalogue)) % 2).astype(np.int8))
    known.eliminate_zeros()
    held = []
    for run in runs[:2]:
        scores = run.scores(known)
        scores[known.nonzero()] = -np.inf
        listed = np.argsort(-scores, axis=1, kind="stable")[:, :10]
        ranks = other_ranks(run, known, listed)
        assert ranks is not None
        low, high = ranges_of(ranks)
        for other in runs:
            if other is not run:
                real = ranks_of(other.scores(known), known, listed)
                held.append(((real >= low) & (real <= high)).mean())
    assert 0.6 < np.mean(held) < 0.99


def test_other_counts_are_as_spread_as_a_repetition_would_be() -> None:
    rng = np.random.default_rng(2)
    truth = np.concatenate([np.zeros(4_000), rng.uniform(20, 500, 1_000)])
    counts = (3.0 * (truth + rng.standard_normal(5_000))).astype(np.float32)
    drawn = other_counts(counts, 3.0, rng) / 3.0
    assert np.std(drawn[:4_000]) == pytest.approx(1.0, abs=0.1)
    assert np.std(drawn[4_000:] - counts[4_000:] / 3.0) == pytest.approx(np.sqrt(2), abs=0.1)
    assert drawn[:4_000].max() < 6
    assert other_counts(np.full(3, 1e6, np.float32), 1.0, rng).min() > 9e5
    assert np.isfinite(other_counts(np.full(3, -1e6, np.float32), 1.0, rng)).all()


def test_ranks_are_among_what_is_new_ties_in_catalogue_order() -> None:
    scores = np.array([[5.0, 3.0, 3.0, 9.0, 1.0]], np.float32)
    known = csr_array(np.array([[0, 0, 0, 1, 0]], np.int8))
    assert ranks_of(scores, known, np.array([[4, 2, 1, 0]])).tolist() == [[4, 3, 2, 1]]


def test_a_range_leaves_out_what_its_level_says() -> None:
    assert ranges_of(np.arange(1, 40)).tolist() == [4, 36]
    assert ranges_of(np.arange(1, 4)).tolist() == [1, 3]


@pytest.mark.parametrize("kind", ["subspace", "gram"])
def test_directions_are_those_that_noise_would_not_reach(kind: Kind, histories: Histories) -> None:
    trained = fit_unbilled(histories, 8.0, kind)
    assert isinstance(trained.model, Explainable)
    found = trained.model.directions(trained.state, noise_of(trained.plan))
    assert found is not None
    assert found.weights.shape == (len(trained.state["kept"]), len(found.strengths))
    assert (found.strengths > 1).all()
    assert (np.diff(found.strengths) <= 0).all()
    noise = np.random.default_rng(0).standard_normal(trained.state[EVIDENCE].shape)
    sigmas = noise_of(trained.plan)
    if kind == "gram":
        noise *= sigmas[1] / np.sqrt(2)
    nothing = trained.model.directions(trained.state | {EVIDENCE: noise.astype(np.float32)}, sigmas)
    assert nothing is not None
    assert len(nothing.strengths) <= 1
