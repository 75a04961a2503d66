"""Histories in memory or in a file: the same sums; and a file that changes in mid-run ends the run, whole."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from discreet.data import store
from discreet.data.intake import read_interactions
from discreet.data.interactions import Interactions, Opened
from discreet.data.store import write_interactions
from discreet.errors import DataError
from discreet.governance.ledger import Account, Ledger
from discreet.models.popularity import Popularity
from discreet.models.recipe import Kind
from discreet.training.fitting import fit
from discreet.training.populations import Here

TRAIN = "train-recommender"
KINDS: tuple[Kind, ...] = ("popularity", "subspace", "gram", "ials", "als")


@pytest.fixture
def path(tmp_path: Path, data: Interactions, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(store, "BLOCK_PEOPLE", 32)
    write_interactions(data, tmp_path / "tastes.parquet")
    return tmp_path / "tastes.parquet"


class TestHere:
    @pytest.mark.parametrize("kind", KINDS)
    def test_a_file_and_memory_make_the_same_model(self, kind: Kind, data: Interactions, path: Path) -> None:
        """Without noise, and with known noise, bit by bit."""
        stored = read_interactions(path)
        for epsilon in (np.inf, 4.0):
            made = []
            sources: list[Interactions | Opened] = [data, stored, stored.streamed_for(TRAIN)]
            for number, source in enumerate(sources):
                ledger = path.parent / f"{epsilon}-{number}.db"
                made.append(fit(source, epsilon=epsilon, ledger=ledger, kind=kind, insecure_test_seed=3))
            for other in made[1:]:
                assert other.state.keys() == made[0].state.keys()
                assert all(np.array_equal(other.state[name], made[0].state[name]) for name in other.state)

    @pytest.mark.parametrize(("block", "threads"), [(1, 1), (7, 3), (4_096, 2)])
    def test_sums_do_not_depend_on_blocks(self, block: int, threads: int, data: Interactions, path: Path) -> None:
        work = partial(Popularity(items=60).summed, state={}, bound=1_000)
        whole = work(data.opened_for(TRAIN).matrix)
        found = list(Here(read_interactions(path).streamed_for(TRAIN), block, threads).map(work))
        assert np.array_equal(sum(part.total for part in found), whole.total)
        assert np.array_equal(np.concatenate([part.squared_norms for part in found]), whole.squared_norms)
        assert max(len(part.squared_norms) for part in found) == min(block, 32)

    def test_nothing_is_read_before_it_is_asked_for(self, path: Path) -> None:
        sums = Here(read_interactions(path).streamed_for(TRAIN)).map(lambda _: pytest.fail("computed"))
        path.unlink()
        with pytest.raises(DataError, match="no such file"):
            next(sums)

    def test_people_without_budget_are_left_out_of_the_file_too(
        self, data: Interactions, path: Path, tmp_path: Path, account: Account
    ) -> None:
        states = []
        for number, source in enumerate((data, read_interactions(path))):
            with Ledger(tmp_path / f"{number}.db") as ledger:
                ledger.open_budget(account, epsilon=8.0, delta=1e-5)
                for person in data.opened_for(TRAIN).people_ids[10:60]:
                    ledger.limit_person("tastes", person, epsilon=0.1, delta=1e-5)
                made = fit(source, epsilon=1.0, ledger=ledger, kind="popularity", insecure_test_seed=1)
                assert made.people == 250
                states.append(made.state["counts"])
        assert np.array_equal(states[0], states[1])


@pytest.mark.slow
def test_memory_does_not_grow_with_histories(tmp_path: Path) -> None:
    script = """
import math, resource, sys
from discreet.data.synthetic import PURPOSE, write_synthetic
from discreet.training.fitting import fit
people = int(sys.argv[2])
data = write_synthetic(sys.argv[1], people=people, items=2_000, interactions=100 * people)
fit(data, epsilon=math.inf, kind="subspace", purpose=PURPOSE)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""
    peaks = []
    for people in ("8000", "60000"):
        command = [sys.executable, "-c", script, str(tmp_path / "x.parquet"), people]
        peaks.append(int(subprocess.run(command, capture_output=True, check=True).stdout))
    assert peaks[1] < peaks[0] + 60_000, peaks  # kB; five million more interactions in memory


def flipped(path: Path, data: Interactions) -> None:
    content = bytearray(path.read_bytes())
    content[60] ^= 0xFF  # in the ids of the first block
    path.write_bytes(content)


def replaced(path: Path, data: Interactions) -> None:
    """Another file of the same people, whose histories are others."""
    people = data.opened_for(TRAIN).people_ids
    fewer = {"user_id": [*people], "item_id": [100 + number % 60 for number in range(len(people))]}
    write_interactions(read_interactions(fewer, name="tastes", catalogue=data.catalogue), path)


def removed(path: Path, data: Interactions) -> None:
    path.unlink()


def emptied(path: Path, data: Interactions) -> None:
    path.write_bytes(b"")


class TestAFileThatChangesBetweenRounds:
    @pytest.mark.parametrize("change", [flipped, replaced, removed, emptied])
    def test_ends_the_run_and_the_budget_is_exact(
        self,
        change: Callable[[Path, Interactions], None],
        data: Interactions,
        path: Path,
        book: Ledger,
        account: Account,
    ) -> None:
        content, out = path.read_bytes(), path.parent / "model.npz"

        def between(done: int, total: int) -> None:
            if done == 1:
                change(path, data)

        options: dict[str, Any] = {"epsilon": 2.0, "ledger": book, "kind": "subspace", "release": "spring", "out": out}
        with pytest.raises(DataError) as refused:
            fit(read_interactions(path), **options, progress=between)
        assert "\n" not in str(refused.value)
        assert "person-" not in str(refused.value)
        assert not out.exists()
        (release,) = book.releases()
        assert (release.state, release.cost) == ("reserved", book.account(account).spent)
        path.write_bytes(content)
        trained = fit(read_interactions(path), **options)
        assert book.account(account).spent == release.cost == trained.plan.cost
        assert book.verify(artefacts=path.parent).ok

    @pytest.mark.parametrize("change", [flipped, removed, emptied])
    def test_or_before_it_is_charged_charges_nothing(
        self,
        change: Callable[[Path, Interactions], None],
        data: Interactions,
        path: Path,
        book: Ledger,
        account: Account,
    ) -> None:
        stored = read_interactions(path)
        change(path, data)
        with pytest.raises(DataError):
            fit(stored, epsilon=2.0, ledger=book)
        assert (book.account(account).spent, book.releases()) == (0, [])
