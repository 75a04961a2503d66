"""Noise is secret, fresh for each source, and never crosses a fork; what is public can be repeated."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms

from discreet.randomness import NoiseSource, public_generator


def test_two_sources_never_agree() -> None:
    assert not np.array_equal(NoiseSource().words(4), NoiseSource().words(4))


def test_a_source_goes_on_and_does_not_repeat_itself() -> None:
    source = NoiseSource()
    words = np.concatenate([source.words(1_000), source.words(1_000)])
    assert len(set(words.tolist())) == 2_000


def test_a_test_seed_repeats_and_says_so() -> None:
    one, other = NoiseSource(insecure_test_seed=3), NoiseSource(insecure_test_seed=3)
    assert np.array_equal(one.words(9), other.words(9))
    assert not one.secure
    assert NoiseSource().secure
    seeds = [-2, -1, 0, 1, 3, 4, 12, 2**70]
    assert len({NoiseSource(insecure_test_seed=seed).words(1).item() for seed in seeds}) == len(seeds)


def test_the_key_is_whole_and_from_the_system(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first words are those of ChaCha20 under exactly the 32 bytes that the system gave."""
    monkeypatch.setattr(os, "urandom", lambda count: bytes(range(count)))
    words = NoiseSource().words(2)
    cipher = Cipher(algorithms.ChaCha20(bytes(range(32)), bytes(16)), mode=None).encryptor()
    assert words.tobytes() == cipher.update(bytes(16))


def test_the_key_is_shown_nowhere() -> None:
    assert repr(NoiseSource()) == "NoiseSource(secure=True)"
    shown = [value for value in vars(NoiseSource()).values() if isinstance(value, bytes)]
    assert shown == []


def test_blocks_are_bounded_and_complete() -> None:
    sizes = [block.size for block in NoiseSource().blocks(2 * 2**16 + 5)]
    assert sizes == [2**16, 2**16, 5]


def test_bits_are_fair() -> None:
    """z over 6.4 million bits; false alarm 1e-9 by Chebyshev's cousin, the normal tail at 6 deviations."""
    bits = np.unpackbits(NoiseSource().words(100_000).view(np.uint8))
    assert abs(bits.mean() - 0.5) * 2 * np.sqrt(bits.size) < 6


def test_a_source_refuses_to_draw_in_a_fork() -> None:
    script = """
import os
from discreet.randomness import NoiseSource
source = NoiseSource()
if os.fork() == 0:
    try:
        source.words(1)
    except RuntimeError:
        os._exit(7)
    os._exit(0)
print(os.waitstatus_to_exitcode(os.wait()[1]))
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "7"


def test_a_source_made_in_another_process_does_not_draw(monkeypatch: pytest.MonkeyPatch) -> None:
    source, here = NoiseSource(), os.getpid()
    monkeypatch.setattr(os, "getpid", lambda: here + 1)
    with pytest.raises(RuntimeError, match="must not cross a fork"):
        source.words(1)
    monkeypatch.undo()
    assert source.words(1).size == 1


def test_public_randomness_repeats() -> None:
    assert public_generator(5).integers(1 << 30) == public_generator(5).integers(1 << 30)
