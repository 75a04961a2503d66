"""What is read off a released search, and the rows that it was made from."""

import json
import math
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from discreet.errors import ArtefactError, SettingError
from discreet.evaluation.gains import Gains, gain_rows, means_of
from discreet.privacy.clipping import add_rows
from discreet.privacy.disclosure import disclose
from discreet.privacy.guarantee import Guarantee
from discreet.privacy.plan import Plan
from discreet.randomness import NoiseSource


def gains(mean: tuple[float, ...], spread: float = 0.01, **changed: Any) -> Gains:
    k = len(mean)
    products = np.outer(mean, mean) + spread * np.eye(k)
    fields: dict[str, Any] = {
        "dataset": "tastes",
        "kind": "auto",
        "epsilons": tuple(2.0**j for j in range(k)),
        "mean": mean,
        "products": tuple(map(tuple, products.tolist())),
        "noise": 0.001,
        "product_noise": 0.001,
        "trained_on": 4_000,
        "measured": 1_000,
        "guarantee": Guarantee(units=1_000_000, delta=1e-6),
        "release": "spring",
    }
    return Gains(**fields | changed)


class TestSmallest:
    def test_lies_between_the_epsilons_that_were_tried(self) -> None:
        answer = gains((0.05, 0.10, 0.15, 0.20)).smallest(0.625)
        assert answer.epsilon == pytest.approx(2 * math.sqrt(2))
        assert answer.low is not None
        assert answer.high is not None
        assert answer.low < 2 * math.sqrt(2) < answer.high

    def test_is_exact_at_a_point_of_the_grid(self) -> None:
        assert gains((0.05, 0.10, 0.15, 0.20)).smallest(0.5).epsilon == pytest.approx(2.0)

    def test_all_of_it_needs_the_largest(self) -> None:
        assert gains((0.05, 0.10, 0.20)).smallest(1.0).epsilon == 4.0

    def test_is_the_smallest_tried_if_that_keeps_enough(self) -> None:
        assert gains((0.15, 0.20)).smallest(0.5).epsilon == 1.0

    def test_neighbours_that_noise_has_in_the_wrong_order_are_averaged(self) -> None:
        answer = gains((0.02, 0.18, 0.14, 0.20)).smallest(0.8)
        assert answer.epsilon is not None
        assert 1.0 < answer.epsilon <= 2.0

    @pytest.mark.parametrize("mean", [(0.0, 0.0), (0.01, -0.1), (0.1, 0.001)])
    def test_without_a_gain_there_is_nothing_to_keep(self, mean: tuple[float, ...]) -> None:
        answer = gains(mean, spread=0.1).smallest(0.5)
        assert (answer.epsilon, answer.low, answer.high) == (None, None, None)

    @given(
        st.lists(st.floats(-1, 1), min_size=2, max_size=6),
        st.floats(0.01, 1.0),
        st.floats(0, 1),
    )
    def test_is_always_within_the_grid_and_its_own_interval(
        self, mean: list[float], keep: float, spread: float
    ) -> None:
        found = gains(tuple(mean), spread)
        answer = found.smallest(keep)
        if answer.epsilon is None:
            assert not found.is_gain
            return
        assert answer.low is not None
        assert answer.high is not None
        ends = (1.0, answer.low, answer.epsilon, answer.high, found.reference)
        assert all(low <= high * (1 + 1e-9) for low, high in pairwise(ends))

    @pytest.mark.parametrize("keep", [0.0, -0.5, 1.01, 75, math.nan, math.inf])
    def test_a_share_that_is_none(self, keep: float) -> None:
        with pytest.raises(SettingError, match="at most 1, or 100%"):
            gains((0.1, 0.2)).smallest(keep)


class TestErrors:
    def test_of_the_reference_is_nothing_and_more_people_make_them_smaller(self) -> None:
        few, many = gains((0.1, 0.2)), gains((0.1, 0.2), measured=100_000)
        assert few.errors[-1] == 0.0
        assert 0 < many.errors[0] < few.errors[0]

    def test_cover_what_they_say(self) -> None:
        """Shares over many samples of people, through the door, lie within 1.96 errors about as often as they say."""
        rng, k, people, plan = np.random.default_rng(3), 3, 400, Plan(bounds=(20_000,), delta=1e-6)
        truth, inside, runs = np.array([0.06, 0.1, 0.12]), np.zeros(k), 200
        for seed in range(runs):
            common = rng.normal(0, 0.1, (people, 1))
            sample = np.clip(truth + common + rng.normal(0, 0.05, (people, k)), -1, 1)
            rows = gain_rows(sample, plan.bounds[0])
            source = NoiseSource(insecure_test_seed=seed)
            released = disclose([rows], plan, 0, spend=lambda _: None, source=source)
            found = replace(gains((0.0,) * k, measured=people), **means_of(released, k, people))
            inside += np.abs(found.shares - truth / truth[-1]) <= 1.96 * found.errors + 1e-12
        assert inside[-1] == runs
        assert all(0.9 * runs <= each for each in inside)


class TestRows:
    @given(arrays(np.float64, (3, 5), elements=st.floats(-1, 1)), st.integers(1, 1 << 28))
    def test_keep_the_bound(self, sample: np.ndarray, bound: int) -> None:
        assert add_rows(gain_rows(sample, bound), bound).squared_norms.max() <= bound * bound

    @pytest.mark.parametrize("k", [2, 5, 12])
    def test_keep_it_at_the_extremes_and_use_nearly_all_of_it(self, k: int) -> None:
        norms = add_rows(gain_rows(np.vstack([np.ones(k), -np.ones(k)]), 1 << 28), 1 << 28).squared_norms
        assert all(0.999 * 2**56 < norm <= 2**56 for norm in norms)

    def test_means_are_read_back(self) -> None:
        sample = np.random.default_rng(1).uniform(-1, 1, (50, 3))
        plan = Plan.without_noise(1, delta=1e-6)
        read = means_of(disclose([gain_rows(sample, plan.bounds[0])], plan, 0, spend=lambda _: None), 3, 50)
        assert np.allclose(read["mean"], sample.mean(axis=0), atol=1e-6)
        assert np.allclose(read["products"], sample.T @ sample / 50, atol=1e-6)
        assert read["noise"] == 0


class TestFile:
    def test_is_read_back(self, tmp_path: Path) -> None:
        found = gains((0.1, 0.2, 0.25))
        (tmp_path / "gains.json").write_bytes(found.to_bytes())
        assert Gains.load(tmp_path / "gains.json") == found

    def test_without_a_gain_is_json_all_the_same(self) -> None:
        document = json.loads(gains((0.1, -0.2)).to_bytes())
        assert document["shares"] == document["standard_errors"] == [None, None]

    @pytest.mark.parametrize("change", ["mean", "products", "format", "epsilons", "guarantee", "measured"])
    def test_something_else(self, change: str, tmp_path: Path) -> None:
        stored = gains((0.1, 0.2)).to_dict() | {change: [1]}
        (tmp_path / "gains.json").write_text(json.dumps(stored))
        with pytest.raises(ArtefactError, match=r"gains\.json"):
            Gains.load(tmp_path / "gains.json")

    @pytest.mark.parametrize("content", ["", "{}", "[" * 100_000, "null", '{"format": 2}'])
    def test_nonsense(self, content: str, tmp_path: Path) -> None:
        (tmp_path / "gains.json").write_text(content)
        with pytest.raises(ArtefactError):
            Gains.load(tmp_path / "gains.json")

    def test_missing(self, tmp_path: Path) -> None:
        with pytest.raises(ArtefactError, match="No such file"):
            Gains.load(tmp_path / "gains.json")


@pytest.mark.parametrize(
    "wrong",
    [
        {"noise": -1.0},
        {"product_noise": -1e-9},
        {"noise": math.nan},
        {"mean": (0.1, 1e10)},
        {"epsilons": (2.0, 1.0)},
        {"epsilons": (1.0, 1.0)},
        {"epsilons": (0.0, 1.0)},
        {"epsilons": (-1.0, 1.0)},
    ],
)
def test_numbers_that_no_search_releases(wrong: dict[str, Any]) -> None:
    with pytest.raises(SettingError):
        replace(gains((0.1, 0.2)), **wrong)
