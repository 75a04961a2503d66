"""The circuit that ranks: what a stable sort says, with as few gates as it claims to have."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from discreet.protocols.circuits import (
    Count,
    added,
    best,
    chosen,
    exceeds,
    exchanged,
    gates_of,
    merging,
    position_bits,
    unsigned,
)

BITS = 8


class Clear:
    """Gates that compute in the clear."""

    def both(self, x: NDArray[Any], y: NDArray[Any]) -> NDArray[Any]:
        found: NDArray[Any] = x & y
        return found

    def flipped(self, x: NDArray[Any]) -> NDArray[Any]:
        return ~x

    def public(self, bits: NDArray[np.bool_]) -> NDArray[Any]:
        return bits


CLEAR = Clear()


def wires(values: NDArray[np.int64], bits: int = BITS) -> NDArray[np.bool_]:
    return (values[None] >> np.arange(bits)[:, None] & 1).astype(bool)


def numbers(found: NDArray[Any]) -> list[int]:
    listed: list[int] = ((1 << np.arange(len(found))) @ found.astype(np.int64)).tolist()
    return listed


def sorted_positions(scores: NDArray[np.int64], count: int) -> list[int]:
    listed: list[int] = np.argsort(-scores, kind="stable")[:count].tolist()
    return listed


EVERY_PAIR = np.array(list(itertools.product(range(16), repeat=2))).T


class TestParts:
    """On all pairs of numbers of four bits."""

    def test_sums(self) -> None:
        x, y = EVERY_PAIR
        assert numbers(added(CLEAR, wires(x, 4), wires(y, 4))) == ((x + y) % 16).tolist()

    def test_comparisons(self) -> None:
        x, y = EVERY_PAIR
        assert exceeds(CLEAR, wires(x, 4), wires(y, 4)).tolist() == (x > y).tolist()
        signed = [unsigned(CLEAR, wires(each - 8, 4)) for each in (x, y)]
        assert exceeds(CLEAR, *signed).tolist() == (x > y).tolist()

    def test_exchanges(self) -> None:
        x, y = EVERY_PAIR
        larger, smaller = exchanged(CLEAR, wires(x, 4), wires(y, 4))
        assert numbers(larger) == np.maximum(x, y).tolist()
        assert numbers(smaller) == np.minimum(x, y).tolist()

    def test_what_they_cost(self) -> None:
        share, costs = np.empty((BITS, 3, 0), bool), []
        for part in (added, exceeds, exchanged):
            gates = Count()
            part(gates, share, share)
            costs.append(gates.gates)
        assert costs == [3 * (BITS - 1), 3 * BITS, 3 * 2 * BITS]


class TestMerging:
    @pytest.mark.parametrize("length", range(1, 65))
    def test_merges_all_lists_of_zeros_and_ones(self, length: int) -> None:
        """By the zero-one principle, all lists (Knuth 1998, section 5.3.4, theorem Z)."""
        ones = np.arange(length + 1)
        lists = (np.arange(length) < ones[:, None]).astype(int)
        first, second = (lists[at.reshape(-1)] for at in np.meshgrid(ones, ones))
        full = np.concatenate([first, second], axis=1)
        for kept in {1, length, 2 * length - 1, 2 * length}:
            values = full.copy()
            stages, where = merging(length, kept)
            for high, low in stages:
                assert len({*high, *low}) == 2 * len(high)
                values[:, high], values[:, low] = (
                    np.maximum(values[:, high], values[:, low]),
                    np.minimum(values[:, high], values[:, low]),
                )
            assert (values[:, where] == -np.sort(-full, axis=1)[:, :kept]).all()

    def test_has_as_many_comparisons_as_batcher_says(self) -> None:
        """A merge of two lists of 2^t has t 2^t + 1 (Knuth 1998, section 5.3.4)."""
        for power in range(7):
            stages, _ = merging(1 << power, 2 << power)
            assert sum(len(high) for high, _ in stages) == power * (1 << power) + 1

    def test_of_which_only_what_is_needed_is_kept(self) -> None:
        assert [sum(len(high) for high, _ in merging(count, count)[0]) for count in (1, 10, 20)] == [1, 27, 64]


@given(data=st.data())
def test_positions_are_those_of_a_stable_sort(data: st.DataObject) -> None:
    """Of few values, so that many are equal, and of many; negative ones, too; as two shares."""
    rows = data.draw(st.integers(1, 70))
    count = data.draw(st.integers(1, min(rows, 20)))
    largest = data.draw(st.sampled_from([1, 127]))
    scores = np.array(data.draw(st.lists(st.integers(-largest, largest), min_size=rows, max_size=rows)))
    first = np.array(data.draw(st.lists(st.integers(0, 255), min_size=rows, max_size=rows)))
    found = chosen(CLEAR, wires(first), wires(scores - first), count)
    assert numbers(found) == sorted_positions(scores, count)
    assert found.shape == (position_bits(rows, count), count)


@pytest.mark.parametrize("rows", [1, 2, 3, 31, 32, 33, 64, 65])
@pytest.mark.parametrize("value", [-127, 0, 127])
def test_equal_scores_keep_their_order(rows: int, value: int) -> None:
    for count in {1, min(rows, 5), rows}:
        assert numbers(best(CLEAR, wires(np.full(rows, value)), count)) == list(range(count))


def test_known_answers() -> None:
    scores = np.array([3, -2, 7, 7, 0, -100, 7, 1])
    assert numbers(best(CLEAR, wires(scores), 1)) == [2]
    assert numbers(best(CLEAR, wires(scores), 5)) == [2, 3, 6, 0, 7]
    assert numbers(best(CLEAR, wires(scores), 8)) == [2, 3, 6, 0, 7, 4, 1, 5]


def test_gates_are_counted_as_they_are_used() -> None:
    class Counting(Clear):
        used = 0

        def both(self, x: NDArray[Any], y: NDArray[Any]) -> NDArray[Any]:
            found = super().both(x, y)
            self.used += found.size
            return found

    for rows, count in ((1, 1), (9, 1), (37, 5), (64, 20)):
        gates, share = Counting(), wires(np.arange(rows))
        chosen(gates, share, share, count)
        assert gates.used == gates_of(BITS, rows, count)
    assert gates_of(32, 1, 1) == 31
    tournament = gates_of(32, 4_000, 1) - 31 * 4_000
    assert 2 * 32 * 3_999 < tournament < 2 * 35 * 3_999
