"""Sums without noise tell who chose what together, and sums with noise do not; on people who do not exist.

False alarms of the statistical assertions are stated where they are made; none is above one in ten thousand.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray
from tests.conftest import MEASURE, TRAIN

from discreet.data.intake import read_interactions
from discreet.data.interactions import Histories
from discreet.errors import PurposeNotAllowed, SettingError
from discreet.evaluation.attacks.figures import Figure, Service
from discreet.evaluation.attacks.linkage import Sweep, leak, linkage, linked, one_sum, update
from discreet.evaluation.attacks.running import ATTACKS, attacked
from discreet.evaluation.audit.people import opened, rows
from discreet.privacy.accounting import cap, default_delta

PEOPLE, ITEMS, CHOSEN = 120, 600, 10
WHOLE = float(1 << 26)
"""Length of a row of one item, in grid units, of the tables that are made by hand."""


@pytest.fixture(scope="module")
def sparse() -> Histories:
    """120 people with 10 of 600 items of an even popularity: in twenty of them three items of four are one person's."""
    random = np.random.default_rng(5)
    chosen = [random.permutation(ITEMS)[:CHOSEN] for _ in range(PEOPLE)]
    columns = {"user_id": np.repeat(np.arange(PEOPLE), CHOSEN).tolist(), "item_id": np.concatenate(chosen).tolist()}
    return read_interactions(columns, purposes=[MEASURE]).opened_for(MEASURE)


@pytest.fixture(scope="module")
def sweep(sparse: Histories) -> Sweep:
    return Sweep.last_of(sparse)


def named(figures: list[Figure]) -> dict[str, Figure]:
    return {figure.what: figure for figure in figures}


def factors(people: int) -> NDArray[np.float64]:
    drawn: NDArray[np.float64] = np.random.default_rng(1).standard_normal((people, 16))
    drawn /= np.linalg.norm(drawn, axis=1, keepdims=True)
    return drawn


def row(whole: float, *people: tuple[NDArray[np.float64], int]) -> NDArray[np.int64]:
    """Return what people, each a factor and how many items they have, add to one item."""
    total = np.zeros(16, np.int64)
    for factor, items in people:
        total += np.trunc(whole / math.sqrt(items) * factor).astype(np.int64)
    return total


def test_rows_of_one_person_are_linked_and_no_others() -> None:
    a, b, c = factors(3)
    alone = [row(WHOLE, (a, 5))] * 3 + [row(WHOLE, (b, 7))] * 2
    shared = [row(WHOLE, (a, 5), (b, 7))] * 2  # parallel, but as long as no one person's
    table = np.stack([*alone, *shared, row(WHOLE, (c, 1)), np.zeros(16, np.int64)])
    assert linked(table, WHOLE).tolist() == [0, 0, 0, 1, 1, -1, -1, -1, -1]


@pytest.mark.parametrize("whole", [3e3, 1e5, WHOLE])
def test_rounding_never_hides_a_person(whole: float) -> None:
    """Rows of one factor, each rounded in another way, on coarse grids and on the finest."""
    for factor in factors(200):
        exact = [whole / math.sqrt(6) - 0.1 * number for number in range(6)]
        table = np.stack([np.trunc(length * factor).astype(np.int64) for length in exact])
        assert set(linked(table, whole).tolist()) == {0}


def test_rows_of_two_people_are_told_apart_by_how_rows_are_rounded() -> None:
    """Two long rows that are nearly parallel, but not as nearly as two short ones could be."""
    a, b = factors(2)
    near = a + 1e-3 * b
    table = np.stack([*[row(3e4, (b, 50))] * 2, row(3e4, (a, 2)), row(3e4, (near / np.linalg.norm(near), 2))])
    assert linked(table, 3e4).tolist() == [0, 0, -1, -1]


def test_what_is_linked_wrongly_is_counted() -> None:
    """Twins have 8 items, of which 2 are nobody else's: as two rows of one person with 2 items would be."""
    others = [[number, 10 + 2 * number, 11 + 2 * number] for number in range(6)]
    matrix = rows([list(range(8)), list(range(8)), *others], 320)
    found = named(linkage(Service(replace(opened(matrix), purpose=MEASURE), math.inf), cohorts=(8,), draws=1))
    assert found["sum of 8: of linked rows, right"].value == pytest.approx(12 / 14)
    assert found["sum of 8: choices linked to a person"].value == pytest.approx(12 / 34)
    assert found["sum of 8: most parallel row is the same person's"].value == 1.0
    assert found["sum of 8: most parallel row is the same person's"].chance == pytest.approx(1 / 19)


def test_more_rows_than_items_are_not_one_person_s() -> None:
    (a,) = factors(1)
    assert linked(np.stack([row(WHOLE, (a, 2))] * 3), WHOLE).tolist() == [-1] * 3


def test_rows_too_short_to_tell_their_person_are_left_alone() -> None:
    (a,) = factors(1)
    assert linked(np.stack([row(100.0, (a, 20))] * 4), 100.0).tolist() == [-1] * 4
    assert linked(np.zeros((3, 16), np.int64), WHOLE).tolist() == [-1] * 3


def test_linkage_fails_with_noise_and_works_without(sparse: Histories, sweep: Sweep) -> None:
    """With noise about seven in 599 rows are the same person's. Of more than 400 guesses, right at that rate, 8 % are
    right by a chance below 1e-9."""
    found = named(linkage(Service(sparse, math.inf), cohorts=(20, 60), draws=3, sweep=sweep))
    assert found["sum of 20: choices linked to a person"].value > 0.6
    assert found["sum of 20: of linked rows, right"].value == 1.0
    assert found["sum of 20: most parallel row is the same person's"].value > 0.99
    shares = [found[f"sum of {size}: choices linked to a person"].value for size in (20, 60)]
    assert 0.1 < shares[1] < shares[0]
    for epsilon in (1.0, 8.0):
        found = named(linkage(Service(sparse, epsilon), cohorts=(20,), draws=3, sweep=sweep))
        assert found["sum of 20: choices linked to a person"].value == 0.0
        assert "sum of 20: of linked rows, right" not in found
        nearest = found["sum of 20: most parallel row is the same person's"]
        assert nearest.chance < 0.02
        assert nearest.value < 0.08


def test_an_update_is_read_in_the_clear_and_neither_under_a_mask_nor_in_a_private_sum(
    sparse: Histories, sweep: Sweep
) -> None:
    """Means of 4 AUCs of 40 pairs have a deviation of .033. Whoever knows all else has one of .53 at epsilon 1:
    items of ten weigh a third of the bound. So .65 and .68 are false alarms below 1e-4."""
    open_one, private = (
        named(update(Service(sparse, epsilon), runs=4, trials=40, sweep=sweep)) for epsilon in (math.inf, 1.0)
    )
    assert open_one["vector in the clear: item held, AUC"].value >= 0.9
    assert open_one["sum of 20: item held, AUC"].value > 0.75
    assert open_one["sum of 20, knowing all else: item held, AUC"].value == 1.0
    assert abs(open_one["masked vector: item held, AUC"].value - 0.5) < 0.15
    assert "vector in the clear: item held, AUC" not in private
    assert abs(private["masked vector: item held, AUC"].value - 0.5) < 0.15
    assert private["sum of 20: item held, AUC"].value < 0.65
    assert private["sum of 20, knowing all else: item held, AUC"].value < 0.68


def test_the_whole_epsilon_is_spent_on_one_sum(sparse: Histories) -> None:
    plan = one_sum(Service(sparse, 2.0))
    units = cap(2.0, default_delta(PEOPLE))
    assert plan.rounds == 1
    assert 0.99 * units < plan.cost <= units
    assert not one_sum(Service(sparse, math.inf)).private


def test_leak_is_both_attacks_without_noise_and_with_it(sparse: Histories) -> None:
    found = leak(sparse, cohorts=(10, 10_000), epsilon=2.0, draws=2, trials=10)
    assert {figure.epsilon for figure in found} == {2.0, math.inf}
    assert {figure.attack for figure in found} == {"linkage", "update"}
    assert not any("10000" in figure.what for figure in found)
    assert max(len(figure.what) for figure in found) < 77


def test_both_are_made_by_name(sparse: Histories) -> None:
    found = attacked(sparse.take(np.arange(30)), epsilon=1.0, names=["linkage"])
    assert [figure.epsilon for figure in found if "linked to" in figure.what] == [1.0, math.inf]
    assert ATTACKS["update"] is update


def test_refusals(sparse: Histories, sweep: Sweep) -> None:
    service = Service(sparse, 1.0)
    refused: list[Callable[[], object]] = [
        lambda: linkage(service, cohorts=(PEOPLE + 1,), sweep=sweep),
        lambda: update(service, people=PEOPLE + 1, sweep=sweep),
        lambda: update(service, people=1, sweep=sweep),
        lambda: leak(sparse, cohorts=(10,), epsilon=0.0),
    ]
    for attempt in refused:
        with pytest.raises(SettingError):
            attempt()
    with pytest.raises(PurposeNotAllowed):
        leak(replace(sparse, purpose=TRAIN))
