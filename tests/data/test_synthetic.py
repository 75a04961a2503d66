"""People who do not exist: drawn block by block, labelled, and of the shape that was asked for."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from discreet.data.intake import read_interactions
from discreet.data.interactions import Histories
from discreet.data.synthetic import PURPOSE, write_synthetic
from discreet.errors import DataError, PurposeNotAllowed, SettingError


@pytest.fixture(scope="module")
def histories(tmp_path_factory: pytest.TempPathFactory) -> Histories:
    path = tmp_path_factory.mktemp("synthetic") / "x.parquet"
    return write_synthetic(path, people=5_000, items=2_000, interactions=200_000).opened_for(PURPOSE)


def test_has_the_size_that_was_asked_for(histories: Histories) -> None:
    assert histories.matrix.shape == (5_000, 2_000)
    assert histories.people_ids == tuple(range(1, 5_001))
    assert 0.99 * 200_000 <= histories.matrix.nnz <= 1.01 * 200_000
    assert np.diff(histories.matrix.indptr).min() >= 1


def test_activity_and_popularity_have_long_tails(histories: Histories) -> None:
    for sizes, share in ((np.diff(histories.matrix.indptr), 0.3), (np.bincount(histories.matrix.indices), 0.3)):
        top = np.sort(sizes)[-len(sizes) // 10 :].sum() / sizes.sum()
        assert top > share
        assert sizes.max() > 10 * np.median(sizes)


def test_people_have_tastes(histories: Histories) -> None:
    """Some pairs of items of middling popularity are together far more often than most such pairs."""
    counts = np.bincount(histories.matrix.indices, minlength=2_000)
    middle = np.argsort(counts)[-300:-100]
    known = histories.matrix[:, middle].astype(np.float64)
    together = (known.T @ known).toarray()
    chance = np.outer(counts[middle], counts[middle]) / 5_000
    lift = (together / chance)[np.triu_indices(200, 1)]
    assert np.quantile(lift, 0.99) > 2 * np.median(lift)


def test_is_the_same_for_the_same_seed(tmp_path: Path) -> None:
    written = []
    for number, seed in enumerate((3, 3, 4)):
        write_synthetic(tmp_path / f"{number}.parquet", people=50, items=100, interactions=400, seed=seed)
        written.append((tmp_path / f"{number}.parquet").read_bytes())
    assert written[0] == written[1] != written[2]


def test_is_labelled_and_serves_one_purpose(tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    write_synthetic(
        tmp_path / "x.parquet", people=5_000, items=100, interactions=9_000, progress=lambda *n: told.append(n)
    )
    data = read_interactions(tmp_path / "x.parquet")
    assert data.synthetic
    assert data.describe()["synthetic"] is True
    assert data.name == "synthetic-9000-0"
    assert told == [(4_096, 5_000), (5_000, 5_000)]
    for purpose in ("train-recommender", "measure-quality"):
        with pytest.raises(PurposeNotAllowed, match="measure-speed"):
            data.opened_for(purpose)


@pytest.mark.parametrize(
    "wrong", [{"people": 0}, {"items": 9}, {"interactions": 49}, {"interactions": 501}, {"seed": -1}], ids=str
)
def test_arguments_out_of_range(wrong: dict[str, Any], tmp_path: Path) -> None:
    asked: dict[str, Any] = {"people": 50, "items": 100, "interactions": 400} | wrong
    with pytest.raises(SettingError, match=next(iter(wrong))):
        write_synthetic(tmp_path / "x.parquet", **asked)
    assert list(tmp_path.iterdir()) == []


def test_another_ending(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"\.parquet"):
        write_synthetic(tmp_path / "x.csv", people=50, items=100, interactions=400)


def test_memory_does_not_grow_with_people(tmp_path: Path) -> None:
    script = """
import resource, sys
from pathlib import Path
from discreet.data.synthetic import write_synthetic
for people in (5_000, 60_000):
    write_synthetic(Path(sys.argv[1]) / f"{people}.parquet", people=people, items=3_000, interactions=40 * people)
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""
    done = subprocess.run([sys.executable, "-c", script, str(tmp_path)], capture_output=True, text=True, check=True)
    few, many = map(int, done.stdout.split())
    assert many - few < 60_000  # kB; 2.4 million interactions held twice would be that alone
