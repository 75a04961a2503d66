"""The loop, and where people are: any cut into blocks is the same sum, and a refusal computes nothing."""

from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.sparse import csr_array

from discreet.data.interactions import Histories
from discreet.errors import BoundExceeded, BudgetExceeded, PrivacyError, SettingError
from discreet.models.base import State
from discreet.models.popularity import Popularity
from discreet.models.recipe import Kind, recipe
from discreet.models.trained import Trained
from discreet.privacy.accounting import cap
from discreet.privacy.clipping import Summed
from discreet.privacy.plan import Plan
from discreet.training.populations import Here
from discreet.training.rounds import train

KINDS: tuple[Kind, ...] = ("popularity", "subspace", "gram", "ials", "als", "als-adaptive", "sgd")


def nothing(units: int) -> None:
    """Bill nobody."""


def refuse(units: int) -> None:
    raise BudgetExceeded("too much", account="a/b", asked=units, left=0, until=None)


@dataclass(frozen=True, kw_only=True)
class Watched(Popularity):
    """Popularity that remembers being asked, and may break its bound in a round."""

    calls: list[int]
    breaks: bool = False

    def summed(self, histories: csr_array, state: State, bound: int) -> Summed:
        self.calls.append(histories.shape[0])
        summed = super().summed(histories, state, bound)
        return Summed(summed.total, summed.squared_norms + (2 * bound**2 if self.breaks else 0))


@dataclass(frozen=True, kw_only=True)
class Told(Popularity):
    """Popularity that keeps what it is told of the items."""

    def start(self, tags: csr_array | None = None) -> State:
        return super().start() | ({} if tags is None else {"tags": tags.toarray()})


def without_noise(histories: Histories, kind: Kind, block: int, threads: int) -> Trained:
    model, plan = recipe(len(histories), len(histories.catalogue), None, delta=1e-6, kind=kind)
    return train(model, Here(histories, block=block, threads=threads), plan, spend=nothing)


@pytest.mark.parametrize("kind", KINDS)
def test_blocks_of_any_size_are_bit_identical(kind: Kind, histories: Histories) -> None:
    few = histories.take(np.arange(60))
    whole = without_noise(few, kind, 4096, 1)
    for block, threads in ((1, 2), (7, 2), (59, 1), (60, 3)):
        cut = without_noise(few, kind, block, threads)
        assert all(np.array_equal(whole.state[name], cut.state[name]) for name in whole.state)


@given(block=st.integers(1, 400), threads=st.integers(1, 4))
def test_each_person_is_in_one_block(histories: Histories, block: int, threads: int) -> None:
    sizes: list[int] = []
    population = Here(histories, block=block, threads=threads)
    model = Watched(items=len(population.catalogue), calls=sizes)
    train(model, population, Plan.without_noise(1, delta=1e-6), spend=nothing)
    assert sum(sizes) == len(population) == 300
    assert max(sizes) <= block


def test_refused_round_computes_nothing(histories: Histories) -> None:
    model = Watched(items=60, calls=[])
    plan = Plan.sharing(cap(1.0, 1e-6), (1.0,), delta=1e-6)
    with pytest.raises(BudgetExceeded):
        train(model, Here(histories), plan, spend=refuse)
    assert model.calls == []


def test_each_round_is_billed_before_it_runs(histories: Histories) -> None:
    model, plan = recipe(300, 60, cap(2.0, 1e-6), delta=1e-6, kind="subspace")
    paid: list[int] = []
    done: list[int] = []

    def spend(units: int) -> None:
        assert len(paid) == len(done)
        paid.append(units)

    train(model, Here(histories), plan, spend=spend, progress=lambda number, _: done.append(number))
    assert paid == [plan.price(number) for number in range(5)]
    assert sum(paid) == plan.cost


def test_a_model_is_told_what_the_catalogue_says(histories: Histories, described: Histories) -> None:
    plan = Plan.without_noise(1, delta=1e-6)
    plain, told = (train(Told(items=60), Here(data), plan, spend=nothing) for data in (histories, described))
    assert "tags" not in plain.state
    assert told.state["tags"].sum(axis=0).tolist() == [30, 30]


def test_map_is_lazy(histories: Histories) -> None:
    asked: list[int] = []

    def work(block: csr_array) -> Summed:
        asked.append(block.shape[0])
        return Summed(np.zeros(1, np.int64), np.zeros(block.shape[0], np.int64))

    waiting = Here(histories, block=10, threads=2).map(work)
    assert asked == []
    next(waiting)
    assert len(asked) <= 3
    assert len(list(waiting)) == 29


def test_broken_bound_is_refused_with_and_without_noise(histories: Histories) -> None:
    for plan in (Plan.sharing(cap(1.0, 1e-6), (1.0,), delta=1e-6), Plan.without_noise(1, delta=1e-6)):
        with pytest.raises(BoundExceeded) as refusal:
            train(Watched(items=60, calls=[], breaks=True), Here(histories, block=50), plan, spend=nothing)
        assert "person-" not in str(refusal.value)


def test_plan_for_another_model(histories: Histories) -> None:
    model = Watched(items=60, calls=[])
    with pytest.raises(SettingError, match="2 rounds"):
        train(model, Here(histories), Plan.without_noise(2, delta=1e-6), spend=nothing)
    assert model.calls == []


def test_nobody(histories: Histories) -> None:
    nobody = histories.take(np.zeros(0, np.int64))
    with pytest.raises(PrivacyError, match="nobody"):
        train(Popularity(items=60), Here(nobody), Plan.without_noise(1, delta=1e-6), spend=nothing)


def test_trained_says_whence(histories: Histories) -> None:
    trained = without_noise(histories, "popularity", 100, 2)
    assert (trained.dataset, trained.purpose, trained.people) == ("tastes", "train-recommender", 300)
    assert not trained.guarantee.catalogue_declared
