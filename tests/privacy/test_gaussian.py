"""The sampler: the table is the pinned one and right, the few-bits path is the 128-bit path, the noise has its law."""

from __future__ import annotations

import bisect
import importlib.util
import math
import subprocess
import sys
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from types import ModuleType
from typing import Any

import mpmath
import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import norm

from discreet.errors import ArtefactError
from discreet.privacy.accounting import GRID_BITS, MAX_EPSILON, cap
from discreet.privacy.mechanisms import gaussian
from discreet.privacy.mechanisms.gaussian import STANDARD_DEVIATION, add_noise, draw, load_table
from discreet.randomness import NoiseSource
from discreet.testing import ContractBroken, check_mechanism

ROOT = Path(__file__).parents[2]


def cap_root(epsilon: float) -> int:
    """Return the longest shift that the largest epsilon allows at delta 1e-6, in grid units."""
    return math.isqrt(cap(epsilon, 1e-6))


def builder() -> ModuleType:
    path = ROOT / "scripts/build_noise_table.py"
    spec = importlib.util.spec_from_file_location("build_noise_table", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def whole(high: NDArray[np.uint64], low: NDArray[np.uint64]) -> list[int]:
    return [(int(h) << 64) + int(w) for h, w in zip(high, low, strict=True)]


class TestTable:
    def test_it_can_be_rebuilt_to_the_bit(self) -> None:
        rebuilt = builder().build(GRID_BITS)
        assert builder().digest(rebuilt) == gaussian.TABLE_SHA256
        assert np.array_equal(rebuilt, np.stack([load_table().high, load_table().low]))

    def test_it_agrees_with_another_way_to_compute_it(self) -> None:
        table = whole(load_table().high, load_table().low)
        with mpmath.workprec(300):
            for k in (0, 1, 2, 500, 4_095, 4_096, 20_000, 40_000, 53_000, len(table) - 2):
                edge = (k + mpmath.mpf(1) / 2) / 2**GRID_BITS
                inside = mpmath.ncdf(edge) - mpmath.ncdf(-edge)
                assert abs(int(mpmath.floor(inside * 2**128)) - table[k]) <= 1

    def test_it_rises(self) -> None:
        table = whole(load_table().high, load_table().low)
        assert all(low <= high for low, high in pairwise(table))
        assert table[-1] == 2**128 - 1

    def test_the_guide_leads_to_where_each_draw_is(self) -> None:
        """Of each 2^-18 of the range the first row that may be looked for: the kernel reads no further and no less."""
        high, guide = load_table().high, load_table().guide
        assert guide.shape == (2**18,)
        starts = [bucket << 46 for bucket in range(2**18)]
        rows = high.tolist()
        assert guide.tolist() == [bisect.bisect_left(rows, start) for start in starts]

    def test_another_table_is_refused(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(gaussian, "TABLE_SHA256", "0" * 64)
        load_table.cache_clear()
        with pytest.raises(ArtefactError, match="reinstall"):
            load_table()
        monkeypatch.undo()
        assert load_table().high.size > 50_000


class TestFewBits:
    """The kernel sees 63 bits first; where those do not decide it must give what all 128 would."""

    def replay(self, words: NDArray[np.uint64], spare: NDArray[np.uint64]) -> tuple[list[int], int]:
        """Return the draws from all 128 bits, and how many spare words an undecided draw took."""
        table = whole(load_table().high, load_table().low)
        draws, used = [], 0
        for word in words.tolist():
            top = word & ~1
            first = bisect.bisect_right(table, top << 64)
            last = bisect.bisect_right(table, ((top + 1) << 64) | ((1 << 64) - 1))
            if first != last:
                uniform = ((top | (int(spare[used]) & 1)) << 64) | int(spare[used + 1])
                first = bisect.bisect_right(table, uniform)
                used += 2
            draws.append(-first if word & 1 else first)
        return draws, used

    def test_planted_ambiguous_words_are_decided_by_all_bits(self) -> None:
        table = load_table()
        rng = np.random.default_rng(0)
        planted = table.high[rng.integers(0, table.high.size - 2, 500)]
        words = np.concatenate([planted, planted ^ np.uint64(1), planted - np.uint64(2), planted + np.uint64(1)])
        spare = NoiseSource(insecure_test_seed=1).words(8 * words.size)
        noise = np.empty(words.size, np.int64)
        assert gaussian._look_up(words, 0, spare, *table, noise) == words.size
        expected, used = self.replay(words, spare)
        assert noise.tolist() == expected
        assert used > 500

    def test_no_draw_is_beyond_the_last_row(self) -> None:
        """Whatever the bits say: here all of them are ones."""
        table = load_table()
        words, noise = np.array([2**64 - 1, 2**64 - 2], np.uint64), np.zeros(2, np.int64)
        assert gaussian._look_up(words, 0, np.full(4, 2**64 - 1, np.uint64), *table, noise) == 2
        assert noise.tolist() == [1 - table.high.size, table.high.size - 1]

    def test_it_stops_where_the_spare_words_end_and_goes_on_from_there(self) -> None:
        table = load_table()
        words = np.repeat(table.high[:50], 2)
        noise = np.full(words.size, 99_999, np.int64)
        spare = NoiseSource(insecure_test_seed=2).words(20)
        stopped = gaussian._look_up(words, 0, spare, *table, noise)
        assert 10 <= stopped < words.size
        assert (noise[stopped:] == 99_999).all()
        fresh = NoiseSource(insecure_test_seed=3).words(400)
        assert gaussian._look_up(words, stopped, fresh, *table, noise) == words.size
        assert (noise != 99_999).all()


def as_python() -> Callable[..., int]:
    """The kernel without its compiler, whose lines can be followed."""
    kernel: Any = gaussian._look_up
    followed: Callable[..., int] = kernel.py_func
    return followed


class TestCompiler:
    """The machine code does what the source says: few words, since Python takes its time."""

    @pytest.mark.parametrize("spare_words", [0, 20, 1_000])
    def test_the_kernel_and_its_source_agree(self, spare_words: int) -> None:
        table = load_table()
        source = NoiseSource(insecure_test_seed=4)
        undecided = np.concatenate([table.high[:40], table.high[-40:], [np.uint64(0), np.uint64(2**64 - 1)]])
        words, spare = np.concatenate([source.words(200), undecided]), source.words(spare_words)
        made, followed = (np.full(words.size, 99_999, np.int64) for _ in range(2))
        stopped = gaussian._look_up(words, 3, spare, *table, made)
        assert stopped == as_python()(words, 3, spare, *table, followed)
        assert (stopped == words.size) == (spare_words == 1_000)
        assert np.array_equal(made, followed)
        assert (made[:3] == 99_999).all()


Noisy = Callable[[NDArray[np.int64]], NDArray[np.int64]]


def fresh(count: int) -> NDArray[np.int64]:
    return draw(count, NoiseSource())


def some_kept(keep: Callable[[NDArray[np.int64]], NDArray[np.bool_]]) -> Noisy:
    """Noise only where ``keep`` says so."""
    return lambda total: total + fresh(total.size) * keep(total)


def reshaped(change: Callable[[NDArray[np.int64]], NDArray[np.int64]]) -> Noisy:
    """Noise that was changed before it is added."""
    return lambda total: total + change(fresh(total.size))


def cut(noise: NDArray[np.int64], at: float) -> NDArray[np.int64]:
    edge = int(at * STANDARD_DEVIATION)
    return np.clip(noise, -edge, edge)


def once_more(noise: NDArray[np.int64], share: float) -> NDArray[np.int64]:
    """The first part of the noise again at the end."""
    part = max(1, int(share * noise.size))
    noise[-part:] = noise[:part]
    return noise


def always_the_same() -> Noisy:
    kept = fresh(1 << 17)
    return lambda total: total + kept[: total.size]


FAULTS: dict[str, Callable[[], Noisy]] = {
    "only where there is nothing": lambda: some_kept(lambda total: total == 0),
    "only on even numbers": lambda: some_kept(lambda total: total % 2 == 0),
    "not on short vectors": lambda: some_kept(lambda total: np.full(total.size, total.size > 1_000)),
    "not on the first coordinate": lambda: some_kept(lambda total: np.arange(total.size) > 0),
    "not on the last ones": lambda: some_kept(lambda total: np.arange(total.size) < total.size - 10),
    "one in a hundred missing": lambda: some_kept(lambda total: np.arange(total.size) % 100 > 0),
    "none at all": lambda: lambda total: total.copy(),
    "instead of the value": lambda: lambda total: fresh(total.size),
    "the second half is the first": lambda: reshaped(lambda noise: once_more(noise, 0.5)),
    "a twentieth is used again": lambda: reshaped(lambda noise: once_more(noise, 0.05)),
    "one draw for two neighbours": lambda: reshaped(lambda noise: np.repeat(noise[::2], 2)),
    "mirrored": lambda: reshaped(
        lambda noise: np.concatenate([noise[: noise.size // 2], -noise[: noise.size // 2][::-1]])
    ),
    "tails cut": lambda: reshaped(lambda noise: cut(noise, 3.5)),
    "low bits dropped": lambda: reshaped(lambda noise: noise & ~7),
    "not centred": lambda: reshaped(lambda noise: noise + 100),
    "the same in each release": always_the_same,
    "Laplace": lambda: lambda total: total + np.random.default_rng().laplace(0, 2_896.3, total.size).astype(np.int64),
}


class TestLaw:
    def test_the_mechanism_keeps_its_contract(self) -> None:
        check_mechanism(lambda total: add_noise(total, NoiseSource()), STANDARD_DEVIATION)

    @pytest.mark.parametrize("factor", [0.5, 0.95, 1.05, 2.0])
    def test_too_little_noise_and_too_much_are_both_found(self, factor: float) -> None:
        def wrong(total: NDArray[np.int64]) -> NDArray[np.int64]:
            noise: NDArray[np.int64] = np.rint(factor * draw(total.size, NoiseSource())).astype(np.int64)
            return total + noise

        with pytest.raises(ContractBroken, match="variance"):
            check_mechanism(wrong, STANDARD_DEVIATION)

    @pytest.mark.parametrize("fault", FAULTS)
    def test_a_planted_fault_is_found(self, fault: str) -> None:
        with pytest.raises(ContractBroken):
            check_mechanism(FAULTS[fault](), STANDARD_DEVIATION)

    def test_noise_differs_between_processes(self) -> None:
        """What no test within one process can see: a constant seed."""
        script = """
import numpy as np
from discreet.privacy.mechanisms.gaussian import draw
from discreet.randomness import NoiseSource
print(draw(8, NoiseSource()).tolist())
"""
        seen = {
            subprocess.run([sys.executable, "-c", script], capture_output=True, check=True).stdout for _ in range(2)
        }
        assert len(seen) == 2

    def test_the_exact_law_is_not_less_private_than_the_ideal(self) -> None:
        """Hockey-stick divergence of the table's law, shifted by whole steps, against the Gaussian formula."""
        table = whole(load_table().high, load_table().low)
        half = np.diff(np.array([0, *table], dtype=object)).astype(float) / 2**128
        mass = np.concatenate([half[:0:-1] / 2, half[:1], half[1:] / 2])
        for shift in (64, 1_024, 4_096, 16_384, cap_root(MAX_EPSILON)):
            mu = shift / STANDARD_DEVIATION
            here, there = np.pad(mass, (0, shift)), np.pad(mass, (shift, 0))
            for epsilon in (0.1, 1.0, 4.0, MAX_EPSILON):
                delta = np.maximum(here - math.exp(epsilon) * there, 0).sum()
                ideal = norm.cdf(mu / 2 - epsilon / mu) - math.exp(epsilon) * norm.cdf(-mu / 2 - epsilon / mu)
                assert delta <= ideal * (1 + 1e-9) + 1e-15

    def test_integers_in_integers_out(self) -> None:
        floats: Any = np.zeros(3)
        with pytest.raises(TypeError, match="int64"):
            add_noise(floats, NoiseSource())
        assert add_noise(np.zeros(0, np.int64), NoiseSource()).size == 0
        with pytest.raises(TypeError, match="vectors"):
            add_noise(np.zeros((3, 1), np.int64), NoiseSource())
        big = np.array([2**62 - 1, -(2**62) + 1])
        assert np.abs(add_noise(big, NoiseSource()) - big).max() < 2**16
