"""A party that lies: what its own check refuses, what nobody else can see, and what the damage is bounded by."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.sparse import csr_array

from discreet.data.interactions import Rows
from discreet.errors import BoundExceeded
from discreet.models.base import State, rows
from discreet.models.ials import Ials
from discreet.privacy.clipping import Summed
from discreet.privacy.disclosure import disclose
from discreet.privacy.plan import Plan
from discreet.training.aggregation import SecureSum, TwoServers

PARTIES, ITEMS, BOUND, BITS = 12, 20, 1_000, 24
CAPACITY = (1 << (BITS - 1)) - 1
LIARS = 3
MODEL = Ials(people=PARTIES, items=ITEMS, kept=ITEMS, embedding_size=3, sweeps=1)

Add = Callable[[Iterable[NDArray[np.int64]]], NDArray[np.int64]]


def histories(seed: int = 0) -> Rows:
    taken = np.random.default_rng(seed).random((PARTIES, ITEMS)) < 0.4
    taken[:, 0] = True
    return csr_array(taken.astype(np.int8))


def counted() -> State:
    plan = Plan.without_noise(2, delta=1e-6)
    first = [MODEL.summed(histories(), MODEL.start(), BOUND)]
    return MODEL.step(MODEL.start(), disclose(first, plan, 0, spend=lambda _: None))


def vectors(taken: Rows) -> NDArray[np.int64]:
    """One party a person: what honest software makes of a history."""
    return rows(MODEL, taken, counted(), BOUND).toarray()


def secure() -> SecureSum:
    return SecureSum(PARTIES, bits=BITS)


def two_servers() -> tuple[TwoServers, Add]:
    two = TwoServers(PARTIES, bits=BITS)
    return two, lambda given: two(given, lambda dims: np.zeros(dims, np.int64))


def adders() -> list[tuple[SecureSum | TwoServers, Add]]:
    one = secure()
    return [(one, one), two_servers()]


def test_honest_software_refuses_to_send_what_is_too_long() -> None:
    """The check is on the party's own side of the mask: where it runs, nothing leaves."""
    honest = vectors(histories())
    far = honest[0] * 50
    adder = secure()
    plan = Plan(bounds=(BOUND,), delta=1e-6, noise="shares", parties=PARTIES, honest=adder.honest)
    mine = [Summed(far, np.array([(far**2).sum()])), *[Summed(row, np.array([(row**2).sum()])) for row in honest[1:]]]
    with pytest.raises(BoundExceeded, match="longer than the bound"):
        disclose(mine, plan, 0, spend=lambda _: None, add=adder)
    assert adder.traffic.vectors == 0


@pytest.mark.parametrize("which", [0, 1])
def test_without_it_nobody_sees_the_lie_and_the_sum_is_wrong_by_all_of_it(which: int) -> None:
    honest = vectors(histories())
    lying = honest.copy()
    lying[0] = 300 * BOUND
    (fair, add_fairly), (adder, add) = adders()[which], adders()[which]
    truth, found = add_fairly(iter(honest)), add(iter(lying))  # nothing is raised
    assert adder.traffic == fair.traffic  # as many messages, as many bytes
    assert (found - truth == lying[0] - honest[0]).all()
    assert np.linalg.norm(found - truth) > 100 * BOUND


@pytest.mark.parametrize("which", [0, 1])
@pytest.mark.parametrize("forged", [np.ones(ITEMS, np.int8), np.arange(ITEMS) == 7, np.arange(ITEMS) % 2 == 0])
def test_liars_who_keep_the_bound_move_the_sum_by_accounts_times_bound(which: int, forged: NDArray[np.bool_]) -> None:
    """Any history may be invented: each account adds a row, and a row is no longer than the bound."""
    taken = histories().toarray()
    taken[:LIARS] = 0
    without = vectors(csr_array(taken))
    assert not without[:LIARS].any()
    taken[:LIARS] = forged
    _, add = adders()[which]
    shift = add(iter(vectors(csr_array(taken)))) - without.sum(axis=0)
    assert 0.9 * LIARS * BOUND < np.linalg.norm(shift) <= LIARS * BOUND


@pytest.mark.parametrize("which", [0, 1])
def test_liars_who_do_not_are_bounded_by_the_ring_alone(which: int) -> None:
    """One can put every coordinate anywhere; two wrap around, and what comes out is no sum at all."""
    lying = vectors(histories())
    honest = lying[2:].sum(axis=0)
    lying[0], lying[1] = CAPACITY // 2, 0
    assert (adders()[which][1](iter(lying)) == honest + CAPACITY // 2).all()
    lying[:2] = CAPACITY
    wrapped = adders()[which][1](iter(lying))
    assert (wrapped == honest - 2).all()  # 2 (2^(k-1) - 1) is -2 modulo 2^k: as if both had sent next to nothing
