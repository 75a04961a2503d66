"""Training that is killed, races another, or finds the disk full.

Each process is a fresh interpreter that runs this very file with a task's name: all they share is the folder.
"""

import os
import resource
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import discreet.errors
from discreet.data.intake import read_interactions
from discreet.data.interactions import Interactions
from discreet.data.store import write_interactions
from discreet.errors import BudgetExceeded, LedgerError
from discreet.governance.ledger import Account, Ledger
from discreet.training import billing, fitting

LARGEST = 600 * 1024  # bytes; a ledger with one release has about a tenth


def die(*_: object, **__: object) -> None:
    """Die at once, as in a power cut: no handler runs, nothing is flushed."""
    os.kill(os.getpid(), signal.SIGKILL)


def killed(folder: Path) -> None:
    """Reserve, and die before anything is computed."""
    vars(fitting)["train"] = die
    train(folder, "release")


def train(folder: Path, release: str) -> None:
    """Train once, and say how that went."""
    data = read_interactions(folder / "tastes.parquet")
    try:
        fitting.fit(data, epsilon=1.0, ledger=folder / "ledger.db", release=release, out=folder / f"{release}.npz")
    except BudgetExceeded:
        (folder / f"{release}.refused").touch()


def full(folder: Path) -> None:
    """Publish under a limit on the size of any file."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    data = read_interactions(folder / "tastes.parquet")
    honest: Callable[..., Path] = vars(billing)["publish"]

    def limited(ledger: Ledger, release: str, payload: bytes, *where: object) -> Path:
        resource.setrlimit(resource.RLIMIT_FSIZE, (LARGEST, LARGEST))
        return honest(ledger, release, payload + bytes(LARGEST), folder, "release.npz")

    vars(billing)["publish"] = limited
    try:
        fitting.fit(data, epsilon=1.0, ledger=folder / "ledger.db", release="release", out=folder / "release.npz")
    except LedgerError as said:
        (folder / "said").write_text(str(said))


def start(task: str, folder: Path, *arguments: str) -> subprocess.Popen[bytes]:
    roots = os.pathsep.join([str(Path(discreet.errors.__file__).parents[1]), *filter(None, sys.path)])
    return subprocess.Popen(
        [sys.executable, "-W", "error", __file__, task, folder, *arguments], env=os.environ | {"PYTHONPATH": roots}
    )


@pytest.fixture
def folder(tmp_path: Path, data: Interactions, account: Account) -> Path:
    write_interactions(data, tmp_path / "tastes.parquet")
    with Ledger(tmp_path / "ledger.db") as ledger:
        ledger.open_budget(account, epsilon=1.0, delta=1e-5)
    return tmp_path


def test_killed_between_reserve_and_commit(folder: Path, account: Account) -> None:
    assert start("killed", folder).wait() == -signal.SIGKILL
    assert not (folder / "release.npz").exists()
    with Ledger(folder / "ledger.db", create=False) as ledger:
        assert [release.state for release in ledger.releases()] == ["reserved"]
        once = ledger.account(account).spent
        assert once > 0
    assert start("train", folder, "release").wait() == 0
    with Ledger(folder / "ledger.db", create=False) as ledger:
        assert ledger.account(account).spent == once
        assert [release.state for release in ledger.releases()] == ["committed"]
        assert ledger.verify(artefacts=folder).ok
    assert [path.name for path in folder.glob("*.npz")] == ["release.npz"]
    assert list(folder.glob(".candidate*")) == []


def test_two_processes_on_a_budget_for_one(folder: Path, account: Account) -> None:
    racers = [start("train", folder, name) for name in ("one", "two")]
    assert [racer.wait() for racer in racers] == [0, 0]
    assert len(list(folder.glob("*.npz"))) == len(list(folder.glob("*.refused"))) == 1
    with Ledger(folder / "ledger.db", create=False) as ledger:
        assert ledger.account(account).releases == 1
        assert ledger.account(account).left >= 0
        assert ledger.verify(artefacts=folder).ok


def test_two_processes_with_one_release(folder: Path, account: Account) -> None:
    racers = [start("train", folder, "same") for _ in range(2)]
    assert 0 in [racer.wait() for racer in racers]
    with Ledger(folder / "ledger.db", create=False) as ledger:
        (release,) = ledger.releases()
        assert ledger.account(account).spent == release.cost
        assert ledger.verify(artefacts=folder).ok
    assert [path.name for path in folder.glob("*.npz")] == ["same.npz"]


def test_full_disk(folder: Path, account: Account) -> None:
    assert start("full", folder).wait() == 0
    assert "release release is charged and waits" in (folder / "said").read_text()
    assert not (folder / "release.npz").exists()
    with Ledger(folder / "ledger.db", create=False) as ledger:
        assert ledger.verify().ok
        once = ledger.account(account).spent
    assert start("train", folder, "release").wait() == 0
    with Ledger(folder / "ledger.db", create=False) as ledger:
        assert ledger.account(account).spent == once
        assert ledger.verify(artefacts=folder).ok
    assert list(folder.glob(".candidate*")) == []


TASKS: dict[str, Callable[..., None]] = {"killed": killed, "train": train, "full": full}

if __name__ == "__main__":
    TASKS[sys.argv[1]](Path(sys.argv[2]), *sys.argv[3:])
