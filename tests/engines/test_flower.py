"""Devices behind Flower's nodes: sums are those of our protocol, whoever is lost; a real SuperLink moves them."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from federations import ITEMS, LISTED, PEOPLE
from federations import Federation as Known
from numpy.typing import NDArray

from discreet.cli.processes import Process, free_port, stopping
from discreet.client.answering import Answering, Said, Told
from discreet.data.catalogue import Catalogue
from discreet.engines.flower import QUIET, Exchange, Gathered, check_quiet, main, write_app
from discreet.errors import LedgerError, SettingError, TooFewLeft
from discreet.governance.keyfiles import make_key
from discreet.governance.ledger import Account, Ledger
from discreet.models.broadcast import MOST, Broadcast
from discreet.models.trained import Trained
from discreet.privacy.accounting import cap
from discreet.privacy.levels import Level
from discreet.protocols.secagg.terms import Stage
from discreet.service.certificates import certify_loopback
from discreet.training.federation import Federation
from discreet.training.rounds import train
from discreet.training.spool import Spool

KNOWN = Known.of("subspace")
FEDERATION = Federation(KNOWN.roster, Catalogue(tuple(range(ITEMS))), "tastes", colluding=0.0)
FIRST_NODE = 1_000
"""Nodes have numbers that are not seats."""


class Nodes:
    """Nodes with a device each, in this process.

    Attributes:
        lost: from which stage on a node is silent.
        kept: released models, as devices got them.
    """

    def __init__(self, folder: Path, lost: Mapping[int, Stage] | None = None) -> None:
        self.lost, self.kept = dict(lost or {}), list[bytes]()
        self.stages: list[Stage] = []
        self.spool: Spool | None = None
        self.devices = {
            FIRST_NODE + seat: Answering(KNOWN.device(seat, folder), seat, lambda _: None, self.kept.append)
            for seat in range(PEOPLE)
        }

    def exchange(self, session: bytes, stage: Stage, told: Mapping[int, bytes]) -> dict[int, tuple[int, bytes]]:
        self.stages.append(stage)
        heard = {}
        for node, content in told.items():
            if stage < self.lost.get(node, Stage.DONE + 1):
                answer = self.devices[node].answer(Told(session, stage, content).to_bytes())
                said = Said.from_bytes(answer, MOST)
                heard[node] = said.seat, said.content
        return heard

    def gathered(self, folder: Path, exchange: Exchange | None = None) -> Gathered:
        self.end()
        self.spool = Spool(folder / "spool.db")
        return Gathered(FEDERATION, self.spool, lambda: list(self.devices), exchange or self.exchange)

    def end(self) -> None:
        """End the process that a spool is open in."""
        if self.spool:
            self.spool.close()


@pytest.fixture
def no_noise(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "discreet.privacy.mechanisms.discrete_gaussian.draw", lambda count, *_: np.zeros(count, np.int64)
    )


def totals(folder: Path) -> list[NDArray[np.int64]]:
    return [np.frombuffer(total, "<i8") for (_, total) in rounds(folder)]


def rounds(folder: Path) -> list[tuple[bytes, bytes]]:
    """Return what was asked in each round, and the sum."""
    book = sqlite3.connect(folder / "spool.db")
    try:
        return book.execute("SELECT broadcast, total FROM sessions ORDER BY number").fetchall()
    finally:
        book.close()


def row_of(said: bytes, history: NDArray[np.integer], items: bytes, size: int) -> NDArray[np.int64]:
    """Return what one person adds, exactly."""
    known = Broadcast.from_bytes(said, MOST).read(hashlib.sha256(items).digest(), size)
    return known.row(np.sort(history), Level.LIGHT.of(known.plan.bounds[known.number]))


class TestSums:
    @pytest.mark.usefixtures("no_noise")
    @pytest.mark.parametrize("stage", [Stage.DONE, *list(Stage)[:-1]])
    def test_they_are_of_those_whose_vectors_came(self, stage: Stage, tmp_path: Path) -> None:
        nodes = Nodes(tmp_path, {FIRST_NODE: stage})
        trained = train(KNOWN.model, FEDERATION.devices, KNOWN.plan, spend=lambda _: None, add=nodes.gathered(tmp_path))
        assert trained.plan == KNOWN.plan
        nodes.end()
        for said, total in rounds(tmp_path):
            seats = range(0 if stage > Stage.MASK else 1, PEOPLE)
            each = [row_of(said, KNOWN.people[[seat]].indices, LISTED, ITEMS) for seat in seats]
            assert (np.frombuffer(total, "<i8") == sum(each)).all()

    def test_too_many_lost(self, tmp_path: Path) -> None:
        nodes = Nodes(tmp_path, dict.fromkeys(range(FIRST_NODE, FIRST_NODE + 4), Stage.MASK))
        with pytest.raises(TooFewLeft, match="8 clients are left at MASK"):
            train(KNOWN.model, FEDERATION.devices, KNOWN.plan, spend=lambda _: None, add=nodes.gathered(tmp_path))

    def test_a_node_does_not_speak_for_another(self, tmp_path: Path) -> None:
        """Keys are signed by the seat that it names, or it has none; later it has its own, whatever it names."""
        nodes = Nodes(tmp_path)
        honest = nodes.exchange

        def lying(session: bytes, stage: Stage, told: Mapping[int, bytes]) -> dict[int, tuple[int, bytes]]:
            heard = honest(session, stage, told)
            if stage is Stage.ADVERTISE:
                return heard | {FIRST_NODE: (1, heard[FIRST_NODE][1])}
            return {node: (0, content) for node, (_, content) in heard.items()}

        gathered = nodes.gathered(tmp_path, lying)
        train(KNOWN.model, FEDERATION.devices, KNOWN.plan, spend=lambda _: None, add=gathered)
        nodes.end()
        assert all(total is not None for _, total in rounds(tmp_path))

    def test_a_run_that_is_repeated_asks_for_no_sum_twice(self, tmp_path: Path) -> None:
        nodes, spent = Nodes(tmp_path), list[int]()

        def run() -> None:
            train(KNOWN.model, FEDERATION.devices, KNOWN.plan, spend=spent.append, add=nodes.gathered(tmp_path))
            nodes.end()

        nodes.lost = dict.fromkeys(nodes.devices, Stage.MASK)
        with pytest.raises(TooFewLeft):
            run()
        nodes.lost = {}
        run()
        before, nodes.stages = totals(tmp_path), []
        run()
        assert not nodes.stages
        assert all((one == other).all() for one, other in zip(before, totals(tmp_path), strict=True))
        other = Known.of("popularity")
        with pytest.raises(LedgerError, match="is of another run"):
            train(other.model, FEDERATION.devices, other.plan, spend=spent.append, add=nodes.gathered(tmp_path))

    def test_devices_are_sent_the_released_model(self, tmp_path: Path) -> None:
        nodes = Nodes(tmp_path)
        nodes.gathered(tmp_path).finish(b"model")
        assert nodes.kept == [b"model"] * PEOPLE


class TestQuiet:
    def test_nothing_runs_where_flower_would_report(self, monkeypatch: pytest.MonkeyPatch) -> None:
        for name, value in QUIET.items():
            monkeypatch.setenv(name, value)
        check_quiet()
        for name in QUIET:
            monkeypatch.setenv(name, "")
            with pytest.raises(SettingError, match=f"set {name}={QUIET[name]} for"):
                check_quiet()
            monkeypatch.setenv(name, QUIET[name])

    def test_the_app_holds_names_alone_and_is_not_written_over(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert main([str(tmp_path / "app")]) == 0
        assert [each.name for each in (tmp_path / "app").iterdir()] == ["pyproject.toml"]
        assert main([str(tmp_path / "app")]) == 1
        assert "is there already; name another folder" in capsys.readouterr().err


NODES, VICTIM, CATALOGUE, LENGTH = 5, 4, 400, 12
EPSILON, DELTA = 8.0, 1e-5
PATIENCE, DEADLINE = 40.0, 420.0
"""Seconds for a stage, and for it all."""

WITHOUT_NOISE = """
import sys, numpy as np
from discreet.client.__main__ import main
from discreet.privacy.mechanisms import discrete_gaussian
discrete_gaussian.draw = lambda count, *_: np.zeros(count, np.int64)
sys.exit(main(sys.argv[1:]))
"""
"""A device whose noise is left out, so that it is seen who is in a sum."""


@dataclass(frozen=True)
class Deployment:
    """A SuperLink with SuperNodes on this machine: TLS, and nodes with registered keys alone."""

    folder: Path
    port: int

    @classmethod
    def set_up(cls, folder: Path) -> Deployment:
        random, roster = np.random.default_rng(11), []
        for seat in range(NODES):
            home = folder / str(seat)
            home.mkdir()
            history = random.choice(CATALOGUE, LENGTH, replace=False)
            (home / "history").write_text("\n".join(f"item{item:03d}" for item in history))
            roster.append(make_key(home / "signing.key", Ed25519PrivateKey).hex())
            make_node_key(home / "node")
        (folder / "roster").write_text("\n".join(roster))
        (folder / "items").write_text("\n".join(f"item{item:03d}" for item in range(CATALOGUE)))
        certify_loopback(folder)
        with Ledger(folder / "ledger.db") as book:
            book.open_budget(Account("tastes", "train-recommender"), epsilon=EPSILON, delta=DELTA)
        made = cls(folder, free_port())
        (folder / "flwr").mkdir()
        (folder / "flwr/config.toml").write_text(
            f'[superlink]\ndefault = "here"\n\n[superlink.here]\naddress = "127.0.0.1:{made.port}"\n'
            f'root-certificates = "{folder / "certificate.pem"}"\n'
        )
        write_app(folder / "app")
        return made

    @property
    def environment(self) -> dict[str, str]:
        where = {"FLWR_HOME": str(self.folder / "flwr"), "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
        return os.environ | QUIET | where | {"NUMBA_DISABLE_JIT": "1"}

    @property
    def tls(self) -> list[str]:
        files = {"--ssl-certfile": "pem", "--ssl-keyfile": "key", "--ssl-ca-certfile": "pem"}
        return [word for name, end in files.items() for word in (name, str(self.folder / f"certificate.{end}"))]

    def command(self, name: str, *arguments: str) -> list[str]:
        return [str(Path(sys.executable).parent / name), *arguments]

    def started(self, log: str, command: list[str]) -> subprocess.Popen[bytes]:
        with (self.folder / log).open("wb") as said:
            return subprocess.Popen(
                command, env=self.environment, stdout=said, stderr=said, start_new_session=True, cwd=self.folder
            )

    def superlink(self) -> subprocess.Popen[bytes]:
        own = ["--enable-supernode-auth", "--disable-runtime-dependency-installation", "--port", str(self.port)]
        return self.started("superlink.log", self.command("flower-superlink", *self.tls, "--host", "127.0.0.1", *own))

    def supernode(self, seat: int, key: Path, log: str) -> subprocess.Popen[bytes]:
        link = ["--root-certificates", str(self.folder / "certificate.pem"), "--superlink", f"127.0.0.1:{self.port}"]
        own = ["--host", "127.0.0.1", "--port", str(free_port()), *self.tls]
        who = ["--auth-supernode-private-key", str(key)]
        device = ["--node-config", f'socket="{self.folder / str(seat) / "socket"}"']
        return self.started(log, self.command("flower-supernode", *link, *own, *who, *device))

    def device(self, seat: int) -> Process:
        home = self.folder / str(seat)
        files = {"roster": self.folder / "roster", "items": self.folder / "items", "socket": home / "socket"}
        files |= {"identity": home / "signing.key", "history": home / "history", "book": home / "book"}
        command = [word for name, path in files.items() for word in (f"--{name}", path)]
        sizes = ["--units", str(cap(EPSILON, DELTA)), "--cohort", "5", "--survivors", "4", "-n", "5"]
        (home / "device_without_noise.py").write_text(WITHOUT_NOISE)
        with (home / "device.log").open("wb") as errors:
            running = subprocess.Popen(
                [sys.executable, home / "device_without_noise.py", "answer", *command, *sizes],
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
            )
        process = Process(running)
        process.following.start()
        return process

    def flwr(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        command = self.command("flwr", *arguments)
        return subprocess.run(
            command, env=self.environment, capture_output=True, text=True, check=False, timeout=60, cwd=self.folder
        )

    def run(self) -> subprocess.Popen[bytes]:
        paths = {name: self.folder / name for name in ("roster", "items", "folder")}
        paths |= {"ledger": self.folder / "ledger.db", "out": self.folder / "model.npz"}
        words = [f'{name}="{path}"' for name, path in paths.items()]
        words += ['dataset="tastes"', 'release="first"', 'model="popularity"', "lost=0.2"]
        words += [f"epsilon={EPSILON}", f"patience={PATIENCE}"]
        command = self.command("flwr", "run", str(self.folder / "app"), "here", "--stream", "-c", " ".join(words))
        return self.started("run.log", command)

    def history(self, seat: int) -> NDArray[np.int64]:
        lines = (self.folder / str(seat) / "history").read_text().split()
        return np.array([int(line.removeprefix("item")) for line in lines])


def make_node_key(path: Path) -> None:
    """Write a key of a SuperNode (ECDSA, P-384), and its public half beside it."""
    key = ec.generate_private_key(ec.SECP384R1())
    kinds = serialization.PrivateFormat.OpenSSH, serialization.NoEncryption()
    path.write_bytes(key.private_bytes(serialization.Encoding.PEM, *kinds))
    public = serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH
    path.with_suffix(".pub").write_bytes(key.public_key().public_bytes(*public))


@contextmanager
def groups() -> Iterator[list[subprocess.Popen[bytes]]]:
    """Yield a list of processes, each the first of a session of its own; at the end all of these are killed.

    What a SuperLink starts in yet another session ends by itself when its SuperLink is gone.
    """
    started: list[subprocess.Popen[bytes]] = []
    try:
        yield started
    finally:
        for process in reversed(started):
            kill(process)


def kill(process: subprocess.Popen[bytes]) -> None:
    if process.returncode is None:  # so its number cannot be anybody else's yet
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def until(what: str, log: Path, deadline: float) -> None:
    while what not in log.read_text(errors="replace"):
        assert time.monotonic() < deadline, log.read_text(errors="replace")[-3_000:]
        time.sleep(0.2)


@pytest.mark.slow
@pytest.mark.skipif(find_spec("flwr") is None, reason="Flower is not installed: pip install 'discreet[federated]'")
def test_a_superlink_with_a_node_that_is_killed_in_mid_run(tmp_path: Path) -> None:
    """kill -9 of a SuperNode whose device has shared its secrets: the sum is that of the others, noise in it."""
    deployment, deadline = Deployment.set_up(tmp_path), time.monotonic() + DEADLINE
    with groups() as flower, stopping([]) as devices:
        flower.append(deployment.superlink())
        devices.extend(deployment.device(seat) for seat in range(NODES))
        until("Uvicorn running", tmp_path / "superlink.log", deadline)
        for seat in range(NODES):
            registered = deployment.flwr("supernode", "register", str(tmp_path / str(seat) / "node.pub"), "here")
            assert registered.returncode == 0, registered.stdout + registered.stderr
        make_node_key(tmp_path / "stranger")
        stranger = deployment.supernode(0, tmp_path / "stranger", "stranger.log")
        flower.append(stranger)
        assert stranger.wait(60) != 0, "a key that is not registered"
        nodes = [deployment.supernode(seat, tmp_path / str(seat) / "node", f"node-{seat}.log") for seat in range(NODES)]
        flower.extend(nodes)
        while deployment.flwr("supernode", "list", "here").stdout.count("online") < NODES:
            assert time.monotonic() < deadline, (tmp_path / "node-0.log").read_text()
        run = deployment.run()
        flower.append(run)
        assert devices[VICTIM].until("share", deadline), (tmp_path / "run.log").read_text()
        time.sleep(0.5)  # its answer is on its way; what follows takes seconds
        devices[VICTIM].running.send_signal(signal.SIGSTOP)
        assert devices[0].until("mask", deadline), (tmp_path / "run.log").read_text()
        kill(nodes[VICTIM])
        run.wait(max(deadline - time.monotonic(), 1.0))
    trained = Trained.load(tmp_path / "model.npz")
    assert (trained.release, trained.plan.parties, trained.plan.honest) == (
        "first",
        NODES,
        NODES - 2,
    )  # one may be lost, one collude
    ((said, total),) = rounds(tmp_path / "folder")
    items = json.dumps([f"item{item:03d}" for item in range(CATALOGUE)]).encode()
    each = [row_of(said, deployment.history(seat), items, CATALOGUE) for seat in range(NODES) if seat != VICTIM]
    assert (np.frombuffer(total, "<i8") == sum(each)).all()
    ends = [device.ended(deadline) for device in devices if device is not devices[VICTIM]]
    assert {(end["spent"], len(end["list"])) for end in ends} == {(trained.plan.cost, 5)}
