"""What is left when a process dies, races another, or finds the disk full.

Each process here is a fresh interpreter that runs this very file with a task's name: all they share is the folder.
"""

import hashlib
import os
import resource
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

import discreet.errors
from discreet.errors import BudgetExceeded, LedgerError, ReleaseConflict
from discreet.governance import publication
from discreet.governance.ledger import Account, Ledger
from discreet.governance.publication import publish, resume
from discreet.privacy import accounting

TRAIN = Account("movies", "train")
SPEC = hashlib.sha256(b"plan").hexdigest()
CAP = accounting.cap(2.0, 1e-6)
ROUNDS, WORKERS = 5, 2


# --- What the processes do


def opened(folder: Path, *, create: bool = True) -> Ledger:
    """Open the ledger of which a note lies in the folder: one in there, or on a server."""
    return Ledger((folder / "place").read_text(), create=create)


def die(*_: object, **__: object) -> None:
    """Die at once, as in a power cut: no handler runs, nothing is flushed."""
    os.kill(os.getpid(), signal.SIGKILL)


def make(folder: Path, dying_at: str) -> None:
    """Reserve release r and publish it, dying at the given line of the protocol."""
    with opened(folder) as ledger:
        ledger.reserve(TRAIN, cost=1000, release="r", spec=SPEC)
        POINTS[dying_at](ledger)
        publish(ledger, "r", os.urandom(64), folder, "model")


def dying_in(name: str) -> Callable[[Ledger], None]:
    return lambda _: setattr(publication, name, die)


POINTS: dict[str, Callable[[Ledger], None]] = {
    "reserved": die,
    "draft written": lambda _: setattr(os, "fsync", die),
    "candidate written": lambda ledger: setattr(ledger, "commit", die),
    "commit under way": lambda ledger: setattr(ledger.journal, "append", die),
    "committed": dying_in("resume"),
    "published": dying_in("_check_published"),
    "nowhere": lambda _: None,
}


def contend(folder: Path, cost: str) -> None:
    """Reserve one release at this cost; tell how it went."""
    with opened(folder) as ledger:
        try:
            made = ledger.reserve(TRAIN, cost=int(cost), release="r", spec=SPEC, people=["ann", "bob"])
            said = made.state
        except ReleaseConflict:
            said = "conflict"
    (folder / f"said-{os.getpid()}").write_text(said)


def inherit(folder: Path, _: str) -> None:
    """Use a ledger that was opened before a fork, in the child."""
    with opened(folder) as ledger:
        child = os.fork()
        if child == 0:
            try:
                ledger.reserve(TRAIN, cost=1, release="r", spec=SPEC)
            except LedgerError as refused:
                (folder / "said").write_text(str(refused))
            os._exit(0)
        os.waitpid(child, 0)
        ledger.reserve(TRAIN, cost=1, release="parent", spec=SPEC)


def race(folder: Path, mark: str) -> None:
    """Reserve as often as is granted; tell how often that was."""
    granted = 0
    with opened(folder) as ledger:
        try:
            for granted in range(CAP):
                ledger.reserve(TRAIN, cost=CAP // 200, release=f"{mark}-{granted}", spec=SPEC)
        except BudgetExceeded:
            (folder / f"granted-{mark}").write_text(str(granted))


def work(folder: Path, mark: str) -> None:
    """Reserve and publish until killed; note down what was acknowledged."""
    acknowledged = os.open(folder / "acknowledged", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    with opened(folder) as ledger:
        (folder / f"ready-{mark}").touch()
        for number in range(CAP):
            release = f"{mark}-{number}"
            ledger.reserve(TRAIN, cost=10, release=release, spec=SPEC)
            os.write(acknowledged, f"R {release}\n".encode())
            publish(ledger, release, os.urandom(64), folder, f"model-{release}")
            os.write(acknowledged, f"P {release}\n".encode())


def fill(folder: Path, kibibytes: str) -> None:
    """Reserve and publish under a limit on the size of any file, until that is refused with a typed error."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    granted = 0
    with opened(folder) as ledger:
        resource.setrlimit(resource.RLIMIT_FSIZE, (int(kibibytes) * 1024,) * 2)
        try:
            for granted in range(10_000):
                ledger.reserve(TRAIN, cost=10, release=f"r{granted}", spec=SPEC)
        except LedgerError as full:
            (folder / "said").write_text(f"{type(full).__name__}: {full}")
        try:
            publish(ledger, "r0", bytes(int(kibibytes) * 2048), folder, "model")
        except LedgerError as full:
            (folder / "said of the artefact").write_text(str(full))
    (folder / "granted").write_text(str(granted))


TASKS = {"make": make, "contend": contend, "inherit": inherit, "race": race, "work": work, "fill": fill}


def start(task: str, folder: Path, argument: str) -> subprocess.Popen[bytes]:
    roots = os.pathsep.join([str(Path(discreet.errors.__file__).parents[1]), *filter(None, sys.path)])
    return subprocess.Popen(
        [sys.executable, "-W", "error", __file__, task, folder, argument], env=os.environ | {"PYTHONPATH": roots}
    )


# --- What must be true then


@pytest.fixture
def folder(tmp_path: Path, place: str | Path) -> Path:
    (tmp_path / "place").write_text(str(place))
    with Ledger(place) as ledger:
        ledger.open_budget(TRAIN, epsilon=2.0, delta=1e-6)
    return tmp_path


def published(folder: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.glob("model*")}


@pytest.mark.parametrize("point", [point for point in POINTS if point != "nowhere"])
def test_killed_and_recovered(folder: Path, point: str) -> None:
    assert start("make", folder, point).wait() == -signal.SIGKILL
    done = point in {"committed", "published"}
    assert set(published(folder)) == ({"model"} if point == "published" else set())
    with opened(folder, create=False) as ledger:
        assert ledger.verify().ok
        assert ledger.releases()[0].state == ("committed" if done else "reserved")
        winner = ledger.artefact("r")
        assert ledger.reserve(TRAIN, cost=1000, release="r", spec=SPEC).artefact == winner
        target = resume(ledger, "r", folder, "model") if done else publish(ledger, "r", b"anew", folder, "model")
        assert hashlib.sha256(target.read_bytes()).hexdigest() == (winner or hashlib.sha256(b"anew").hexdigest())
        assert ledger.account(TRAIN).spent == 1000
        assert ledger.verify(artefacts=folder).ok
        before = published(folder)
        assert publish(ledger, "r", b"third", folder, "model") == target
        assert published(folder) == before
    assert list(folder.glob(".candidate-*")) == []  # a noisy answer that nobody paid for is not left lying about


def test_unharmed_process_publishes(folder: Path) -> None:
    assert start("make", folder, "nowhere").wait() == 0
    assert set(published(folder)) == {"model"}


def test_racing_processes_share_one_budget(folder: Path) -> None:
    racers = [start("race", folder, str(number)) for number in range(3)]
    assert [racer.wait() for racer in racers] == [0, 0, 0]
    granted = sum(int(file.read_text()) for file in folder.glob("granted-*"))
    assert granted == CAP // (CAP // 200)
    with opened(folder) as ledger:
        assert ledger.account(TRAIN).spent == granted * (CAP // 200)
        assert ledger.verify().ok


def test_racing_processes_publish_one_artefact(folder: Path) -> None:
    racers = [start("make", folder, "nowhere") for _ in range(4)]
    assert [racer.wait() for racer in racers] == [0] * 4
    with opened(folder) as ledger:
        assert published(folder) == {"model": ledger.artefact("r")}
        assert ledger.account(TRAIN).spent == 1000
        assert ledger.verify().ok


@pytest.mark.parametrize("costs", [("10", "10", "10"), ("10", "20", "30")])
def test_processes_with_one_release_id(folder: Path, costs: tuple[str, ...]) -> None:
    racers = [start("contend", folder, cost) for cost in costs]
    assert [racer.wait() for racer in racers] == [0] * len(costs)
    said = sorted(file.read_text() for file in folder.glob("said-*"))
    assert said == (["reserved"] * 3 if len(set(costs)) == 1 else ["conflict", "conflict", "reserved"])
    with opened(folder) as ledger:
        assert [str(ledger.account(TRAIN).spent) in costs, len(ledger.releases())] == [True, 1]
        assert ledger.verify().ok


def test_a_ledger_does_not_outlive_a_fork(folder: Path) -> None:
    assert start("inherit", folder, "").wait() == 0
    assert "opened by another process" in (folder / "said").read_text()
    with opened(folder) as ledger:
        assert [state.release for state in ledger.releases()] == ["parent"]
        assert ledger.verify().ok


@pytest.mark.slow
def test_campaign_of_kills(folder: Path) -> None:
    for number in range(ROUNDS):
        marks = [f"{number}-{worker}" for worker in range(WORKERS)]
        workers = [start("work", folder, mark) for mark in marks]
        while not all((folder / f"ready-{mark}").exists() for mark in marks):
            time.sleep(0.002)
        time.sleep(secrets.SystemRandom().random() * 0.05)
        for worker in workers:
            worker.kill()
        assert [worker.wait() for worker in workers] == [-signal.SIGKILL] * WORKERS
    lines = (folder / "acknowledged").read_text().splitlines()
    reserved = {line[2:] for line in lines if line[0] == "R"}
    finished = {line[2:] for line in lines if line[0] == "P"}
    assert finished
    with opened(folder, create=False) as ledger:
        assert ledger.verify().ok
        states = {state.release: state for state in ledger.releases()}
        assert reserved <= states.keys()
        assert all(states[release].state == "committed" for release in finished)
        for name, content in published(folder).items():
            assert states[name.removeprefix("model-")].artefact == content
        for release in states:
            ledger.reserve(TRAIN, cost=10, release=release, spec=SPEC)
            publish(ledger, release, b"anew " + release.encode(), folder, f"model-{release}")
        assert ledger.account(TRAIN).spent == 10 * len(states)
        assert set(published(folder)) == {f"model-{release}" for release in states}
        assert ledger.verify(artefacts=folder).ok
    assert list(folder.glob(".candidate-*")) == []


@pytest.mark.parametrize("kibibytes", [128, 500])
def test_full_disk(folder: Path, path: Path, kibibytes: int) -> None:
    assert start("fill", folder, str(kibibytes)).wait() == 0
    assert (folder / "said").read_text().startswith("LedgerError: ledger.db could not be written; free space")
    assert (
        "is charged and waits: free space, then run the same command" in (folder / "said of the artefact").read_text()
    )
    granted = int((folder / "granted").read_text())
    assert granted > 1
    with opened(folder) as ledger:
        assert ledger.account(TRAIN).spent == 10 * granted
        assert ledger.verify().ok
        assert list(folder.glob(".candidate-*")) == []
        assert publish(ledger, "r0", b"smaller", folder, "model").read_bytes() == b"smaller"
        ledger.reserve(TRAIN, cost=10, release=f"r{granted}", spec=SPEC)
        assert ledger.account(TRAIN).spent == 10 * granted + 10


if __name__ == "__main__":
    TASKS[sys.argv[1]](Path(sys.argv[2]), sys.argv[3])
