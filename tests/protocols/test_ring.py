"""Residues come back as what they were, packed to their size, and masks cancel."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from discreet.errors import ProtocolError, SettingError
from discreet.protocols.ring import CHUNK, LEAST_BITS, MOST_BITS, Ring, announced

RANDOM = np.random.default_rng(1)


@given(bits=st.integers(LEAST_BITS, MOST_BITS), dims=st.integers(1, 70), data=st.data())
def test_packing_and_lifting_return_what_went_in(bits: int, dims: int, data: st.DataObject) -> None:
    ring = Ring(bits, dims)
    within = st.integers(-ring.capacity, ring.capacity)
    vector = np.array(data.draw(st.lists(within, min_size=dims, max_size=dims)), np.int64)
    content = ring.pack(ring.lower(vector))
    assert len(content) == ring.size <= (bits * dims + 7) // 8 + 7
    assert (ring.lift(ring.unpack(content)) == vector).all()


@pytest.mark.parametrize("bits", range(LEAST_BITS, MOST_BITS + 1))
def test_sums_are_exact_to_the_capacity_and_turn_over_beyond(bits: int) -> None:
    ring = Ring(bits, 2)
    half = ring.capacity // 2
    top = np.array([half, -half], np.int64)
    rest = np.array([ring.capacity - half, half - ring.capacity], np.int64)
    assert (ring.lift(ring.lower(top) + ring.lower(rest)) == top + rest).all()
    over = ring.lift(ring.lower(np.array([ring.capacity, 0])) + ring.lower(np.array([2, 0])))
    assert over[0] == ring.capacity + 2 - (1 << bits)


@pytest.mark.parametrize("dims", [1, 7, CHUNK, CHUNK + 1, 2 * CHUNK + 3])
def test_masks_cancel_and_hide(dims: int) -> None:
    ring, keys = Ring(21, dims), [bytes([number] * 32) for number in range(4)]
    vector = RANDOM.integers(-ring.capacity, ring.capacity + 1, dims)
    residues = ring.lower(vector)
    ring.mask(residues, keys[:2], keys[2:])
    if dims > CHUNK:
        assert (ring.lift(residues) == vector).mean() < 0.001
        assert residues.max() < 1 << 21
    ring.mask(residues, keys[2:], keys[:2])
    assert (ring.lift(residues) == vector).all()


def test_a_mask_is_aes_256_in_counter_mode() -> None:
    """The cipher of FIPS 197 on a block of zeros under a key of zeros."""
    ring = Ring(32, 4)
    residues = np.zeros(4, np.uint32)
    ring.mask(residues, [bytes(32)], [])
    assert residues.astype("<u4").tobytes().hex() == "dc95c078a2408989ad48a21492842087"


def test_masks_are_even_over_the_ring() -> None:
    """Chi-squared over 64 cells of 2^18 values: fails by chance in one run of a million."""
    from scipy.stats import chi2

    ring, residues = Ring(18, 1 << 18), np.zeros(1 << 18, np.uint32)
    ring.mask(residues, [RANDOM.bytes(32)], [])
    counts = np.bincount(residues >> 12, minlength=64)
    assert ((counts - 4096) ** 2 / 4096).sum() < chi2.isf(1e-6, 63)


@pytest.mark.parametrize(("bits", "dims"), [(15, 1), (33, 1), (20, 0), (20, (1 << 28) + 1), (-1, 1)])
def test_rings_that_there_are_not(bits: int, dims: int) -> None:
    with pytest.raises(SettingError):
        Ring(bits, dims)
    with pytest.raises(ProtocolError):
        announced(bits, dims)


def test_what_does_not_fit_is_refused() -> None:
    ring = Ring(16, 2)
    assert (ring.lift(ring.lower(np.array([32767, -32767]))) == [32767, -32767]).all()
    for vector in ([32768, 0], [0, -32768]):
        with pytest.raises(SettingError, match="wider ring"):
            ring.lower(np.array(vector))
    wrongs: list[Any] = [np.zeros(3, np.int64), np.zeros(2, np.int32), np.zeros((1, 2), np.int64), np.zeros(2)]
    for wrong in wrongs:
        with pytest.raises(SettingError, match="expected 2 int64"):
            ring.lower(wrong)
    for content in (b"", bytes(3), bytes(5)):
        with pytest.raises(ProtocolError, match="4 bytes"):
            ring.unpack(content)
