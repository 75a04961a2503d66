"""Every model keeps the contract, ranks sensibly, and survives the odd history."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.sparse import csr_array

from discreet.data.catalogue import Catalogue
from discreet.data.interactions import Histories, Rows
from discreet.errors import SettingError
from discreet.models.als import Als
from discreet.models.base import Model, State
from discreet.models.gram import Gram
from discreet.models.ials import Ials
from discreet.models.popularity import Popularity, steps_of
from discreet.models.recipe import Kind, recipe
from discreet.models.sgd import Sgd
from discreet.models.slate import behind
from discreet.models.subspace import MOST_TAGS, TAGS, Subspace, deflation, posterior, principal, shrink, told_by
from discreet.privacy.accounting import cap
from discreet.privacy.clipping import Summed
from discreet.privacy.disclosure import Disclosed, disclose
from discreet.privacy.plan import Plan
from discreet.testing import ContractBroken, check_model
from discreet.training.populations import Here
from discreet.training.rounds import train

ITEMS = 40
KINDS: tuple[Kind, ...] = ("popularity", "subspace", "gram", "ials", "als", "als-adaptive", "sgd")


def histories(people: int, items: int = ITEMS, seed: int = 0) -> Rows:
    """Two tastes; then an empty history, a full one, and a single item."""
    rng = np.random.default_rng(seed)
    likes = np.where(np.arange(items) < items // 2, 0.5, 0.1)
    taken = rng.random((people, items)) < np.where(rng.random((people, 1)) < 0.5, likes, likes[::-1])
    odd = np.zeros((3, items), bool)
    odd[1] = True
    odd[2, 7] = True
    return csr_array(np.vstack([taken, odd]).astype(np.int8))


MODELS: dict[str, Model] = {
    "popularity": Popularity(items=ITEMS),
    "subspace": Subspace(people=63, mu=None, items=ITEMS, kept=30, scouted=12, rank=4),
    "subspace that falls back": Subspace(people=63, mu=0.0, items=ITEMS, kept=30, scouted=12, rank=4),
    "subspace of all, rank above kept": Subspace(
        people=63, mu=None, items=ITEMS, kept=400, scouted=300, rank=64, passes=2
    ),
    "subspace, longest direction": Subspace(
        people=63, mu=None, items=ITEMS, kept=30, scouted=12, rank=4, passes=1, direction=2.0**20
    ),
    "subspace, even weights": Subspace(
        people=63, mu=None, items=ITEMS, kept=30, scouted=30, rank=4, passes=1, rarity=0.0, evenness=0.0
    ),
    "gram": Gram(people=63, items=ITEMS, kept=25),
    "ials": Ials(people=63, items=ITEMS, kept=25, embedding_size=4, sweeps=2),
    "ials, plain sums": Ials(
        people=63, items=ITEMS, kept=25, embedding_size=3, sweeps=2, private=False, longest=4.0 * ITEMS**0.5
    ),
    "ials, all rows too long": Ials(people=63, items=ITEMS, kept=25, embedding_size=3, sweeps=2, longest=1e-9),
    "als": Als(people=63, items=ITEMS, kept=25, embedding_size=4, sweeps=2),
    "als with adaptive weights": Als(people=63, items=ITEMS, kept=25, embedding_size=4, sweeps=2, rarity=0.5),
    "sgd": Sgd(people=63, items=ITEMS, kept=25, embedding_size=4, steps=3, momentum=0.5, decay=0.01),
    "als with item curvature": Als(people=63, items=ITEMS, kept=25, embedding_size=3, sweeps=2, item_curvature=0.7),
}


TAGGED = Subspace(people=63, mu=None, items=ITEMS, kept=30, scouted=12, rank=4, passes=2)
TAGS_OF_ITEMS: Rows = csr_array(
    np.stack([np.arange(ITEMS) < ITEMS // 2, np.arange(ITEMS) % 3 == 0], axis=1, dtype=np.int8)
)


@pytest.mark.parametrize("name", MODELS)
def test_every_model_keeps_the_contract(name: str) -> None:
    check_model(MODELS[name], histories(60))


@pytest.mark.parametrize("name", ["popularity", "subspace", "gram", "ials", "als", "sgd"])
def test_every_model_keeps_the_contract_where_items_have_tags(name: str) -> None:
    check_model(MODELS[name], histories(60), tags=TAGS_OF_ITEMS, bounds=(37,))


@pytest.mark.parametrize("tags", [TAGS_OF_ITEMS, None, TAGS_OF_ITEMS[:, :1], csr_array(np.eye(ITEMS, dtype=np.int8))])
@pytest.mark.parametrize(
    "model", [TAGGED, replace(TAGGED, mu=0.0), replace(TAGGED, passes=1, rank=64, kept=400, scouted=300)]
)
def test_a_model_that_reads_tags_keeps_the_contract(model: Model, tags: Rows | None) -> None:
    check_model(model, histories(60), tags=tags)


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("shape", [(1, ITEMS), (60, 1), (1, 1)])
def test_one_person_or_one_item_is_enough_to_run(name: Kind, shape: tuple[int, int]) -> None:
    people, items = shape
    taken: Rows = csr_array(np.ones(shape, np.int8))
    for units in (None, cap(1.0, 1e-6)):
        model, plan = recipe(people, items, units, delta=1e-6, kind=name)
        state = run(model, taken, plan)
        assert np.isfinite(model.scores(taken, state)).all()


def free(units: int) -> None:
    """Book nothing."""


def run(model: Model, taken: Rows, plan: Plan) -> State:
    state = model.start()
    for number, bound in enumerate(plan.bounds):
        released = disclose([model.summed(taken, state, bound)], plan, number, spend=free)
        state = model.step(state, released)
    return state


def released(values: NDArray[np.float64], sigma: float) -> Disclosed:
    bound = 1 << 16
    return Disclosed(np.rint(values * bound).astype(np.int64).ravel(), bound, sigma * bound, secure=True)


@pytest.mark.parametrize("kind", ["subspace", "gram", "ials", "als", "als-adaptive", "sgd"])
def test_a_model_without_noise_finds_the_two_tastes(kind: Kind) -> None:
    taken = histories(400)
    model, plan = recipe(taken.shape[0], ITEMS, None, delta=1e-6, kind=kind)
    state = run(model, taken, plan)
    one = csr_array(np.eye(ITEMS, dtype=np.int8)[[0, 1, 2]].sum(axis=0, dtype=np.int8)[None])
    scores = model.scores(one, state)[0]
    assert scores[3 : ITEMS // 2].mean() > scores[ITEMS // 2 :].mean()


def test_quality_grows_from_small_to_large_budgets() -> None:
    taken, held = histories(2_000), histories(200, seed=1)
    hits = []
    for epsilon in (0.1, 5.0):
        model, plan = recipe(taken.shape[0], ITEMS, cap(epsilon, 1e-6), delta=1e-6, kind="subspace")
        state = run(model, taken, plan)
        known, wanted = held.toarray().copy(), held.toarray().copy()
        known[:, ::2] = 0
        wanted[:, 1::2] = 0
        scores = model.scores(csr_array(known), state)
        scores[:, 1::2] = -np.inf
        top = np.argsort(-scores, axis=1)[:, :5]
        hits.append(float(np.take_along_axis(wanted, top, axis=1).mean()))
    assert hits[1] > hits[0] + 0.1


class TestPopularity:
    def test_a_row_is_as_long_as_the_bound_allows(self) -> None:
        for k in (1, 2, 3, 10, 40):
            (number,) = steps_of(np.array([k]), 1_000).tolist()
            assert k * number**2 <= 1_000**2 < k * (number + 1) ** 2

    def test_items_that_were_not_kept_come_last_in_the_order_of_their_counts(self) -> None:
        counts = np.array([5.0, 1.0, 9.0, 3.0], np.float32)
        scores = behind(np.array([[-7.0, 2.0]], np.float32), np.array([0, 2]), counts)[0]
        assert np.argsort(-scores).tolist() == [2, 0, 3, 1]

    def test_equal_counts_do_not_divide_by_zero(self) -> None:
        assert np.isfinite(behind(np.zeros((2, 1), np.float32), np.array([0]), np.ones(3, np.float32))).all()


class TestSubspace:
    def test_rows_use_nearly_the_whole_bound(self) -> None:
        model = Subspace(people=63, mu=None, items=ITEMS, kept=30, scouted=12, rank=4)
        taken = histories(60)
        state = model.step(model.start(), disclose_counts(model, taken))
        lengths = np.sqrt(model.summed(taken, state, 2_000).squared_norms)
        assert np.median(lengths[:60]) > 0.98 * 2_000
        assert lengths.max() <= 2_000

    def test_later_rounds_refine_the_counts_where_passes_are_not_worth_it(self) -> None:
        taken = histories(60)
        poor = Subspace(people=63, mu=0.0, items=ITEMS, kept=30, scouted=12, rank=4)
        state = poor.step(poor.start(), disclose_counts(poor, taken))
        assert "basis" not in state
        exact = poor.summed(taken, state, 1 << 20).total / (1 << 20)
        noisy = poor.step(state, released(exact + 1.0, sigma=0.5))
        first = state["counts"] * state["precision"]
        expected = (first + (exact + 1.0) * 4.0) / (state["precision"] + 4.0)
        assert noisy["counts"] == pytest.approx(expected, rel=1e-4)
        assert "encoder" not in noisy

    def test_the_scouts_basis_stands_on_its_items_alone(self) -> None:
        model = Subspace(people=63, mu=None, items=ITEMS, kept=30, scouted=12, rank=4)
        taken = histories(60)
        first = model.step(model.start(), disclose_counts(model, taken))
        assert first["basis"].shape == (12, 8)
        total = model.summed(taken, first, 1 << 20).total / (1 << 20)
        second = model.step(first, released(total, sigma=0.0))
        assert second["basis"].shape == (30, 4)
        old = np.isin(second["kept"], first["kept"])
        assert old.sum() == 12
        assert (second["basis"][~old] == 0).all()
        assert np.linalg.norm(second["basis"][old], axis=0).min() > 0.9

    def test_rare_items_weigh_more_in_long_histories_alone(self) -> None:
        model = Subspace(people=63, mu=None, items=ITEMS, kept=30, scouted=12, rank=4)
        long = histories(400)
        short: Rows = csr_array(np.eye(ITEMS, dtype=np.int8)[np.random.default_rng(0).integers(0, ITEMS, 63)])
        weights = model.step(model.start(), disclose_counts(model, long))["weights"]
        assert weights.max() > 1.0 > weights.min()
        assert (model.step(model.start(), disclose_counts(model, short))["weights"] == 1.0).all()

    def test_the_posterior_takes_out_the_noise_that_is_known(self) -> None:
        rng = np.random.default_rng(2)
        signal = rng.normal(size=(2_000, 3)) @ rng.normal(size=(3, 24)) * np.array([2.0, 1.0, 0.5]).repeat(8)
        noise = rng.normal(size=signal.shape)
        none = np.zeros((len(signal), 0))
        best = np.linalg.norm(posterior(signal + noise, 8, none) - signal[:, -8:])
        assert best < 0.5 * np.linalg.norm(noise[:, -8:])
        alone = np.linalg.norm(posterior((signal + noise)[:, -8:], 8, none) - signal[:, -8:])
        assert best < 0.8 * alone  # the columns before say where the last ones lie
        assert np.linalg.norm(posterior(noise, 24, none)) < 0.2 * np.linalg.norm(noise)

    def test_tags_tell_what_noise_hides_and_say_nothing_where_they_know_nothing(self) -> None:
        rng = np.random.default_rng(3)
        tags = (rng.random((1_000, 6)) < 0.3).astype(np.float64)
        signal = tags @ rng.normal(size=(6, 8)) * 0.4
        releases = signal + rng.normal(size=signal.shape)
        errors = [
            float(np.linalg.norm(posterior(releases, 8, each) - signal))
            for each in (tags, rng.permutation(tags), tags[:, :0])
        ]
        assert errors[0] < 0.5 * errors[2]
        assert errors[1] < 1.1 * errors[2]
        noise = rng.normal(size=signal.shape)
        assert np.linalg.norm(told_by(tags, noise)) < 0.2 * np.linalg.norm(noise)
        assert not told_by(tags[:, :0], releases).any()

    def test_the_first_basis_is_what_tags_tell_apart_filled_up_with_random_directions(self) -> None:
        taken = histories(60)
        model = replace(TAGGED, rank=4)
        started = model.step(model.start(TAGS_OF_ITEMS), disclose_counts(model, taken))
        basis, kept, v = started["basis"], started["kept"], started["direction"]
        assert basis.shape == (12, 8)
        assert np.allclose(basis.T @ basis, np.eye(8), atol=1e-9)
        assert np.allclose(v @ basis, 0, atol=1e-9)
        tags = TAGS_OF_ITEMS.toarray()[kept].astype(np.float64)
        tags -= np.outer(v, v @ tags) / (v @ v)
        assert np.allclose(basis @ (basis.T @ tags), tags, atol=1e-9)

    def test_of_many_tags_the_most_frequent_are_read(self) -> None:
        many = np.zeros((ITEMS, MOST_TAGS + 40), np.int8)
        many[:3, 30:] = 1
        many[0] = 1
        assert TAGGED.start(csr_array(many))[TAGS][1].sum() == MOST_TAGS

    def test_a_model_of_counts_alone_holds_no_tags(self) -> None:
        poor = replace(TAGGED, mu=0.0)
        assert TAGS not in poor.step(poor.start(TAGS_OF_ITEMS), disclose_counts(poor, histories(60)))

    def test_tags_of_the_kept_items_stay_for_reading_the_sums_again(self) -> None:
        state, taken = TAGGED.start(TAGS_OF_ITEMS), histories(60)
        plan = Plan(bounds=(1 << 14,) * TAGGED.rounds, delta=1e-6)
        for number, bound in enumerate(plan.bounds):
            state = TAGGED.step(state, disclose([TAGGED.summed(taken, state, bound)], plan, number, spend=free))
        assert np.array_equal(state[TAGS], TAGS_OF_ITEMS.toarray()[state["kept"]] > 0)

    def test_the_direction_points_where_the_counts_do(self) -> None:
        counts = 1_000.0 / np.arange(1, 400)
        direction = deflation(counts, 64.0)
        cosine = direction @ counts / np.linalg.norm(direction) / np.linalg.norm(counts)
        assert cosine > 0.98
        assert deflation(np.full(100_000, 1.0), 2.0).any()

    def test_principal_agrees_with_an_svd(self) -> None:
        matrix = np.random.default_rng(0).normal(size=(50, 6)) * np.array([9, 5, 3, 2, 1, 0.5])
        left, strengths = principal(matrix)
        reference, values, _ = np.linalg.svd(matrix, full_matrices=False)
        assert strengths == pytest.approx(values)
        assert np.abs((left * reference).sum(axis=0)) == pytest.approx(np.ones(6))

    def test_principal_drops_what_is_null(self) -> None:
        left, strengths = principal(np.outer(np.ones(5), [1.0, 2.0, 0.0]))
        assert left.shape == (5, 1)
        assert strengths == pytest.approx([5.0])

    def test_shrinkage_kills_noise_and_keeps_signal(self) -> None:
        rng = np.random.default_rng(1)
        rows, columns, sigma = 600, 20, 0.3
        noise = rng.normal(0, sigma, (rows, columns))
        assert (shrink(values_of(noise), sigma * 1.05, rows, columns) == 0).all()
        signal = 60.0 * np.outer(*(vector / np.linalg.norm(vector) for vector in (np.ones(rows), np.ones(columns))))
        strengths = values_of(signal + noise)
        shrunk = shrink(strengths, sigma, rows, columns)
        assert 50.0 < shrunk[0] < strengths[0]
        assert (shrink(strengths, 0.0, rows, columns) == strengths).all()


def values_of(matrix: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.linalg.svd(matrix, compute_uv=False).astype(np.float64)


def disclose_counts(model: Model, taken: Rows) -> Disclosed:
    plan = Plan.without_noise(model.rounds, delta=1e-6)
    return disclose([model.summed(taken, model.start(), plan.bounds[0])], plan, 0, spend=free)


class TestGram:
    def test_without_noise_it_is_ease(self) -> None:
        taken = histories(200)
        model, plan = recipe(taken.shape[0], ITEMS, None, delta=1e-6, kind="gram")
        state = run(model, taken, plan)
        dense = taken.toarray().astype(float)
        inverse = np.linalg.inv(dense.T @ dense + 400.0 * np.eye(ITEMS))
        weights = -inverse / np.diag(inverse)
        np.fill_diagonal(weights, 0)
        assert state["weights"] == pytest.approx(weights, abs=1e-9)

    @pytest.mark.parametrize("twins", [False, True])
    def test_what_factors_leave_over_tells_whether_they_are_enough(self, twins: bool) -> None:
        """Each item's twin is a pair that no factor explains, as one film's sequel is."""
        rng = np.random.default_rng(5)
        liked = rng.random((8_000, 60)) < np.where(rng.random((8_000, 1)) < 0.5, 0.05, 0.15)
        second = liked if twins else rng.permuted(liked, axis=0)
        taken: Rows = csr_array(np.hstack([liked, second]).astype(np.int8))
        model, plan = recipe(8_000, 120, cap(5.0, 1e-6), delta=1e-6, kind="gram")
        assert bool(run(model, taken, plan)["plain"].item()) is not twins


Mutation = Callable[[Summed, Rows], Summed]

MUTANTS: dict[str, Mutation] = {
    "a large block": lambda summed, taken: Summed(summed.total + (taken.shape[0] > 1_000), summed.squared_norms),
    "no row is longer": lambda summed, _: Summed(summed.total * 3, summed.squared_norms * 9),
    "reported lengths": lambda summed, _: Summed(summed.total, summed.squared_norms // 2),
    "a block is the sum": lambda summed, taken: Summed(summed.total + taken.shape[0] - 1, summed.squared_norms),
    "sums are int64": lambda summed, _: Summed(summed.total, np.asarray(summed.squared_norms, np.dtype(">i8"))),
}


@dataclass(frozen=True, kw_only=True)
class Mutant(Popularity):
    promise: str

    def summed(self, histories: Rows, state: State, bound: int) -> Summed:
        return MUTANTS[self.promise](super().summed(histories, state, bound), histories)


@dataclass(frozen=True, kw_only=True)
class Boaster(Gram):
    """Says that items add more than they do."""

    def adds(self, state: State, known: NDArray[np.int64], listed: NDArray[np.int64]) -> NDArray[np.float64]:
        return 2 * super().adds(state, known, listed)


def test_a_model_whose_explanation_is_not_its_score_is_found() -> None:
    with pytest.raises(ContractBroken, match="add is the score"):
        check_model(Boaster(people=63, items=ITEMS, kept=25), histories(60))


@dataclass(frozen=True, kw_only=True)
class Smuggler(Popularity):
    """Carries the sum of the histories past the door, in the state or in itself."""

    in_state: bool

    def summed(self, histories: Rows, state: State, bound: int) -> Summed:
        if self.in_state:
            state["raw"] = histories.sum(axis=0)
        else:
            SMUGGLED["raw"] = histories.sum(axis=0)
        return super().summed(histories, state, bound)

    def step(self, state: State, released: Disclosed) -> State:
        raw = {} if self.in_state else SMUGGLED
        return super().step(state, released) | raw | {"seen": np.array(len(raw))}


SMUGGLED: State = {}


def test_a_model_that_carries_histories_past_the_door_is_found() -> None:
    with pytest.raises(ContractBroken, match="no trace in the state"):
        check_model(Smuggler(items=ITEMS, in_state=True), histories(12))


def test_a_model_cannot_write_into_the_state_it_is_handed() -> None:
    taken = histories(30)
    data = Histories(taken, tuple(range(33)), None, Catalogue(tuple(range(ITEMS))), "toy", "train")
    _, plan = recipe(33, ITEMS, None, delta=1e-6, kind="popularity")
    trained = train(Smuggler(items=ITEMS, in_state=True), Here(data), plan, spend=free)
    assert "raw" not in trained.state


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"direction": 2.0**31}, "direction"),
        ({"direction": 0.0}, "direction"),
        ({"floor": 0.0}, "floor"),
        ({"kept": 0}, "kept"),
        ({"rank": 0}, "rank"),
        ({"passes": 0}, "passes"),
        ({"scouted": 10}, "scouted"),
        ({"rarity": 2.0}, "rarity"),
        ({"people": 0}, "people"),
    ],
)
def test_settings_that_the_proofs_exclude_are_refused(settings: dict[str, Any], named: str) -> None:
    with pytest.raises(SettingError, match=named):
        replace(Subspace(people=9, mu=None, items=ITEMS, kept=9, scouted=5, rank=2), **settings)


def test_people_without_structure_get_what_is_popular_at_every_budget() -> None:
    """Where no direction is more than items with themselves, more budget must not make lists worse."""
    rng = np.random.default_rng(3)
    taken: Rows = csr_array((rng.random((4_000, 200)) < 3.0 / (4 + np.arange(200))).astype(np.int8))
    for epsilon in (2.0, 20.0):
        model, plan = recipe(4_000, 200, cap(epsilon, 1e-6), delta=1e-6, kind="subspace")
        state = run(model, taken, plan)
        assert state["encoder"].shape[1] == 1
        ranked = np.argsort(-model.scores(taken[:50], state), axis=1)[:, :10]
        assert np.mean(ranked < 20) > 0.95


def test_weak_structure_is_never_worse_than_what_is_popular_and_grows_with_the_budget() -> None:
    """A decode that takes noise and sampling for taste falls below popularity as epsilon grows, on such people."""
    rng = np.random.default_rng(4)
    people, items, tastes = 6_000, 400, rng.normal(size=(6, 400))
    pull = 0.5 * rng.normal(size=(people + 500, 6)) @ tastes - 0.9 * np.log(np.arange(items) + 5)
    order = np.argsort(-(pull + rng.gumbel(size=pull.shape)), axis=1)
    lengths = rng.integers(8, 60, len(order))
    taken: Rows = csr_array(
        np.array([np.isin(np.arange(items), row[:k]) for row, k in zip(order, lengths, strict=True)], np.int8)
    )
    known, wanted = taken[people:].toarray(), taken[people:].toarray()
    held = rng.random(known.shape) < 0.3
    known[held], wanted[~held] = 0, 0

    def found(kind: Kind, epsilon: float) -> float:
        model, plan = recipe(people, items, cap(epsilon, 1e-6), delta=1e-6, kind=kind)
        scores = model.scores(csr_array(known), run(model, taken[:people], plan))
        scores[known > 0] = -np.inf
        top = np.argsort(-scores, axis=1)[:, :20]
        return float(np.take_along_axis(wanted, top, axis=1).sum() / wanted.sum())

    floor = found("popularity", 10.0)
    hits = [found("auto", epsilon) for epsilon in (0.5, 2.0, 10.0)]
    assert floor < hits[0] + 0.01
    assert hits[0] < hits[1] + 0.01
    assert hits[1] < hits[2] + 0.01
    assert hits[2] > 1.1 * floor


@pytest.mark.parametrize("promise", MUTANTS)
def test_the_contract_suite_fires_on_planted_bugs(promise: str) -> None:
    with pytest.raises(ContractBroken, match=promise):
        check_model(Mutant(items=ITEMS, promise=promise), histories(12))
