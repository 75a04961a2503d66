"""Sums made by Ray's workers are those of one machine, whoever dies on the way; and if all is lost, nothing is out."""

from __future__ import annotations

import importlib
import os
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from discreet.data import store
from discreet.data.intake import read_interactions
from discreet.data.interactions import Histories, Interactions
from discreet.data.store import write_interactions
from discreet.data.stored import StoredHistories
from discreet.engines import ray
from discreet.engines.ray import Cluster, OnRay
from discreet.engines.ray_driver import Order, add_span
from discreet.errors import DataError, EngineLost, SettingError
from discreet.governance.ledger import Account, Ledger
from discreet.models.popularity import Popularity
from discreet.models.trained import Trained
from discreet.privacy.clipping import Summed
from discreet.privacy.levels import OFFERED, Levels
from discreet.training.fitting import fit
from discreet.training.populations import Here, Summing, Work

needs_ray = pytest.mark.skipif(
    importlib.util.find_spec("ray") is None, reason="Ray is not installed: pip install 'discreet[ray]'"
)
TRAIN = "train-recommender"


@pytest.fixture
def stored(tmp_path: Path, data: Interactions, monkeypatch: pytest.MonkeyPatch) -> Interactions:
    """The tastes of 300 people, in a file of 19 blocks."""
    monkeypatch.setattr(store, "BLOCK_PEOPLE", 16)
    write_interactions(data, tmp_path / "tastes.parquet")
    return read_interactions(tmp_path / "tastes.parquet")


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with pytest.MonkeyPatch.context() as patched:
        patched.syspath_prepend(str(Path(__file__).parent))  # where the workers find `dying`
        with Cluster(workers=2, deadline=120) as made:
            yield made


def session(cluster: Cluster) -> dict[int, str]:
    """The processes of a cluster that was started here, and what they are called."""
    found = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                if os.getsid(int(entry.name)) == cluster._driver.pid:
                    found[int(entry.name)] = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode()
            except (ProcessLookupError, FileNotFoundError):
                continue
    return found


def same(one: Trained, other: Trained) -> bool:
    return set(one.state) == set(other.state) and all(np.array_equal(one.state[k], other.state[k]) for k in one.state)


def seeded(data: Any, ledger: Path, account: Account, **options: Any) -> Trained:
    """Train with known noise, so that equal sums make equal models."""
    with Ledger(ledger) as book:
        book.open_budget(account, epsilon=8.0, delta=1e-5)
        return fit(data, epsilon=4.0, ledger=book, insecure_test_seed=5, **options)


@needs_ray
class TestSums:
    def test_are_those_of_one_machine(
        self, stored: Interactions, data: Interactions, cluster: Cluster, tmp_path: Path, account: Account
    ) -> None:
        for kind in ("subspace", "popularity"):
            there = seeded(stored, tmp_path / f"{kind}1.db", account, kind=kind, population=cluster.population)
            here = seeded(stored, tmp_path / f"{kind}2.db", account, kind=kind)
            in_memory = seeded(data, tmp_path / f"{kind}3.db", account, kind=kind)
            assert same(there, here)
            assert same(there, in_memory)

    def test_of_people_at_levels_and_what_each_used(
        self, stored: Interactions, data: Interactions, cluster: Cluster, tmp_path: Path, account: Account
    ) -> None:
        people = data.opened_for(TRAIN).people_ids
        levels = Levels({person: OFFERED[number % 3] for number, person in enumerate(people)})
        made, used = [], []
        for number, population in enumerate((cluster.population, Here)):
            path = tmp_path / f"{number}.db"
            made.append(seeded(stored, path, account, kind="subspace", levels=levels, population=population))
            with Ledger(path) as book:
                used.append([book.person("tastes", person).spent for person in people])
        assert same(*made)
        assert used[0] == used[1]

    def test_and_without_noise_too(self, stored: Interactions, cluster: Cluster) -> None:
        sums: list[list[bytes]] = []
        for population in (cluster.population, Here):
            made = fit(stored, epsilon=np.inf, kind="subspace", population=population)
            sums.append([made.state[name].tobytes() for name in sorted(made.state)])
        assert sums[0] == sums[1]

    def test_of_some_people(self, stored: Interactions, cluster: Cluster) -> None:
        histories = stored.streamed_for(TRAIN).take(np.arange(3, 300, 7))
        blocks = list(cluster.population(histories).map(counted))
        total = sum(block.total for block in blocks)
        assert np.array_equal(total, counted(stored.opened_for(TRAIN).take(np.arange(3, 300, 7)).matrix).total)
        assert sum(len(block.squared_norms) for block in blocks) == len(histories) == 43

    def test_do_not_change_when_a_worker_is_killed(
        self, stored: Interactions, cluster: Cluster, tmp_path: Path, account: Account
    ) -> None:
        flag = tmp_path / "died"

        def population(histories: Any) -> OnRay:
            return Fatal(cluster, histories, flag)

        there = seeded(stored, tmp_path / "1.db", account, kind="subspace", population=population)
        assert flag.exists()
        assert same(there, seeded(stored, tmp_path / "2.db", account, kind="subspace"))


counted = Work(Popularity(items=60), {}, 1_000)


@dataclass(frozen=True, eq=False)
class Fatal(OnRay):
    """People whose first block kills the worker who reads it."""

    flag: Path

    def map(self, work: Summing) -> Iterator[Summed]:
        return super().map(importlib.import_module("dying").Dying(work, self.flag))


@needs_ray
class TestACluster:
    def test_listens_on_the_loopback_address_alone(self, cluster: Cluster) -> None:
        inodes = set()
        for process in session(cluster):
            for handle in Path(f"/proc/{process}/fd").iterdir():
                try:
                    inodes.add(str(handle.readlink()).removeprefix("socket:[").removesuffix("]"))
                except FileNotFoundError:
                    continue
        listening = []
        for table in ("tcp", "tcp6"):
            for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
                fields = line.split()
                if fields[3] == "0A" and fields[9] in inodes:
                    listening.append(fields[1].partition(":")[0])
        assert len(listening) >= 3
        assert set(listening) <= {"0100007F", "0000000000000000FFFF00000100007F", "00000000000000000000000001000000"}

    def test_reports_to_nobody(self, cluster: Cluster) -> None:
        environment = Path(f"/proc/{cluster._driver.pid}/environ").read_bytes().split(b"\0")
        assert b"RAY_USAGE_STATS_ENABLED=0" in environment
        assert b"RAY_AUTH_MODE=token" in environment

    def test_leaves_nothing_behind(self) -> None:
        with Cluster(workers=1) as cluster:
            folder = Path(cluster._folder.name)
            assert len(session(cluster)) > 3
            assert folder.stat().st_mode & 0o777 == 0o700
        for _ in range(50):
            if not session(cluster):
                break
            time.sleep(0.1)
        assert session(cluster) == {}
        assert not folder.exists()

    @pytest.mark.parametrize("victim", ["driver", "raylet", "gcs_server"])
    def test_goes_away(self, victim: str, stored: Interactions, tmp_path: Path, account: Account) -> None:
        out = tmp_path / "model.npz"
        with Ledger(tmp_path / "ledger.db") as book:
            book.open_budget(account, epsilon=8.0, delta=1e-5)
            with Cluster(workers=1, deadline=15) as cluster:

                def kill(done: int, total: int) -> None:
                    if done == 1:
                        found = [number for number, name in session(cluster).items() if f"/{victim} " in name]
                        os.kill(cluster._driver.pid if victim == "driver" else found[0], signal.SIGKILL)

                options: dict[str, Any] = {"epsilon": 4.0, "ledger": book, "release": "spring", "kind": "subspace"}
                with pytest.raises(EngineLost) as lost:
                    fit(stored, **options, out=out, population=cluster.population, progress=kill)
                assert "\n" not in str(lost.value)
                assert "nothing was released" in str(lost.value)
                with pytest.raises(EngineLost):  # and stays away
                    list(cluster.population(stored.streamed_for(TRAIN)).map(counted))
            assert not out.exists()
            (release,) = book.releases()
            assert (release.state, release.cost) == ("reserved", book.account(account).spent)
            trained = fit(stored, **options, out=out)
            assert book.account(account).spent == release.cost == trained.plan.cost
            assert book.verify(artefacts=tmp_path).ok

    def test_that_is_frozen(self, stored: Interactions) -> None:
        with Cluster(workers=1, deadline=8) as cluster:
            os.kill(cluster._driver.pid, signal.SIGSTOP)
            histories = stored.streamed_for(TRAIN)
            assert isinstance(histories, StoredHistories)
            heavy = Work(Popularity(items=60), {"basis": np.zeros(2_000_000)}, 1_000)  # more than a pipe takes in
            with pytest.raises(EngineLost):
                list(OnRay(cluster, histories).map(heavy))

    def test_that_is_not_there(self) -> None:
        with pytest.raises(EngineLost, match=r"did not start|has not answered for 8 seconds"):
            Cluster(workers=1, address="127.0.0.1:1", deadline=8)

    def test_finds_the_file_changed_between_rounds(
        self, stored: Interactions, data: Interactions, tmp_path: Path, account: Account
    ) -> None:
        def change(done: int, total: int) -> None:
            people = data.opened_for(TRAIN).people_ids[:20]
            fewer = read_interactions({"user_id": people, "item_id": [100] * 20}, name="tastes")
            write_interactions(fewer, tmp_path / "tastes.parquet")

        with Ledger(tmp_path / "ledger.db") as book, Cluster(workers=1) as cluster:
            book.open_budget(account, epsilon=8.0, delta=1e-5)
            with pytest.raises(DataError, match="changed or damaged"):
                fit(stored, epsilon=4.0, ledger=book, kind="subspace", population=cluster.population, progress=change)
            assert [release.state for release in book.releases()] == ["reserved"]


class TestWithoutRay:
    def test_says_how_to_get_it(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(ray, "find_spec", lambda _: None)
        with pytest.raises(SettingError, match=r"pip install 'discreet\[ray\]'"):
            Cluster()

    @pytest.mark.parametrize("wrong", [{"workers": 0}, {"deadline": 0.0}, {"deadline": np.inf}, {"deadline": np.nan}])
    def test_settings(self, wrong: dict[str, Any]) -> None:
        with pytest.raises(SettingError):
            Cluster(**wrong)

    def test_histories_in_memory_have_no_file_for_workers(self, histories: Histories) -> None:
        with pytest.raises(SettingError, match="discreet data import"):
            Cluster.population(Cluster.__new__(Cluster), histories)

    def test_what_a_worker_does(self, stored: Interactions) -> None:
        import discreet

        histories = stored.streamed_for(TRAIN)
        assert isinstance(histories, StoredHistories)
        order = Order(histories.file, counted, (tuple(histories.wanted()),))
        summed = add_span(discreet.__version__, order.file, order.work, order.spans[0])
        assert np.array_equal(summed.total, counted(stored.opened_for(TRAIN).matrix).total)
        with pytest.raises(EngineLost, match="another version"):
            add_span("0.0.0", order.file, order.work, order.spans[0])
