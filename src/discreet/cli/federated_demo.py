"""``discreet federated demo``: a coordinator and twenty devices, each a process of its own, on this machine."""

from __future__ import annotations

import json
import shutil
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from discreet.cli.demo import obtained, step
from discreet.cli.output import say, screen, table
from discreet.cli.processes import Process, free_port, start, stopping

if TYPE_CHECKING:
    from discreet.data.interactions import Histories, Interactions

EPSILON, DELTA = 8.0, 1e-5
SHORTEST, SHOWN = 20, 5
LEAKING = (20, 100)
"""Sizes of the cohorts whose sums are attacked on the last screen."""

LOST = 0.2
"""Share of devices that may be lost in a round."""

DEADLINE = 300.0
"""Seconds after which the demo gives up on what it started."""

MARK = ".made-by-discreet-federated-demo"


@dataclass(frozen=True)
class Stage:
    """A folder with all that a federation on this machine needs.

    Attributes:
        folder: of the federation; each device has one of its own in it.
        devices: how many there are.
    """

    folder: Path
    devices: int

    @classmethod
    def set_up(cls, folder: Path, histories: Histories, devices: int) -> Stage:
        """Give each of some people a device: its key, its history, and nothing of anybody else's."""
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
        from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

        from discreet.governance.keyfiles import make_key
        from discreet.governance.ledger import Account, Ledger
        from discreet.service.certificates import certify_loopback

        ids, roster = histories.catalogue.ids, []
        for number in range(devices):
            home = folder / f"device-{number + 1:02d}"
            home.mkdir()
            known = histories.matrix[[number]].indices
            (home / "history.txt").write_text("\n".join(str(ids[place]) for place in known))
            roster.append(make_key(home / "signing.key", Ed25519PrivateKey).hex())
        (folder / "roster.txt").write_text("\n".join(roster))
        (folder / "items.txt").write_text("\n".join(map(str, ids)))
        for server in ("first", "second"):
            (folder / f"{server}.txt").write_text(make_key(folder / f"{server}.key", X25519PrivateKey).hex())
        (folder / "second-signing.txt").write_text(make_key(folder / "second-signing.key", Ed25519PrivateKey).hex())
        certify_loopback(folder)
        with Ledger(folder / "ledger.db") as book:
            for way in ("secagg", "two-servers"):
                book.open_budget(Account(f"demo-{way}", "train-recommender"), epsilon=EPSILON, delta=DELTA)
        return cls(folder, devices)

    def coordinator(self, way: str, port: int, first: int | None, *, linger: float, patience: float) -> Process:
        """Start a coordinator; with ``first``, the port of the first of two servers."""
        folder, arguments = self.folder, list[str]()
        if first is not None:
            arguments += ["--first", f"https://127.0.0.1:{first}", "--first-key", self._told("first")]
            arguments += ["--first-ca", str(folder / "certificate.pem")]
            arguments += [
                "--identity",
                str(folder / "second-signing.key"),
                "--exchange-key",
                str(folder / "second.key"),
            ]
        return start(
            [
                *("discreet", "federated", "coordinate", "--roster", folder / "roster.txt"),
                *("--items", folder / "items.txt", "--dataset", f"demo-{way}", "--ledger", folder / "ledger.db"),
                *("--epsilon", str(EPSILON), "--model", "subspace", "--lost", str(LOST), "--port", str(port)),
                *("--out", folder / f"{way}.npz", "--folder", folder / way, "--release", f"demo-{way}"),
                *("--patience", str(patience), "--linger", str(linger), *self._tls, *arguments),
            ],
            folder / "errors.txt",
        )

    def first_server(self, port: int) -> Process:
        """Start the first of two servers."""
        return start(
            [
                *("discreet", "federated", "first-server", "--roster", self.folder / "roster.txt"),
                *("--exchange-key", self.folder / "first.key", "--second", self._told("second-signing")),
                *("--port", str(port), *self._tls),
            ],
            self.folder / "errors.txt",
        )

    def device(self, number: int, way: str, port: int, first: int | None, *, units: int | None = None) -> Process:
        """Start the device of a person."""
        from discreet.privacy.accounting import cap

        home, arguments = self.folder / f"device-{number + 1:02d}", list[str]()
        if first is not None:
            servers = f"{self._told('first')},{self._told('second')}"
            arguments = ["--first", f"https://127.0.0.1:{first}", "--servers", servers]
        return start(
            [
                *("discreet.client", "take-part", "--url", f"https://127.0.0.1:{port}"),
                *("--ca", self.folder / "certificate.pem", "--identity", home / "signing.key"),
                *("--roster", self.folder / "roster.txt", "--history", home / "history.txt"),
                *("--book", home / f"{way}.db", "--units", str(units or cap(EPSILON, DELTA)), "-n", str(SHOWN)),
                *arguments,
            ],
            home / "errors.txt",
        )

    @property
    def _tls(self) -> tuple[str | Path, ...]:
        return "--certificate", self.folder / "certificate.pem", "--key", self.folder / "certificate.key"

    def _told(self, name: str) -> str:
        return (self.folder / f"{name}.txt").read_text()


def demo(
    out: Annotated[Path, typer.Option("--out", help="Folder to leave everything in.")] = Path(
        "discreet-federated-demo"
    ),
    clients: Annotated[int, typer.Option("--clients", min=12, max=60, help="How many devices.")] = 20,
    killed: Annotated[
        int, typer.Option("--killed", min=0, help="How many of them are killed in the second round.")
    ] = 3,
    source: Annotated[Path | None, typer.Option("--from", help="ml-100k.zip or another file.")] = None,
    cache: Annotated[Path | None, typer.Option("--cache", help="Folder to keep downloads in.")] = None,
) -> None:
    """Train with devices that are processes here, some of them killed in mid-round; then the same with two servers.

    So few people teach a model little: the demo shows what each party sees and spends. For quality: federated simulate.
    """
    from discreet.errors import SettingError
    from discreet.files import write_bytes

    if killed > int(LOST * clients):
        raise SettingError(f"of {clients} devices {int(LOST * clients)} may be lost in a round; kill no more")
    _prepare(out)
    data = obtained(source, cache)
    stage = Stage.set_up(out, _people(data, clients), clients)
    found = [_run(stage, way, killed if way == "secagg" else 0) for way in ("secagg", "two-servers")]
    write_bytes(out / "found.json", json.dumps(found, indent=1).encode())
    for each in found:
        _show(each)
    if data.people >= LEAKING[-1]:
        _show_leaks(data)


def _prepare(out: Path) -> None:
    from discreet.errors import SettingError
    from discreet.files import writing

    if out.exists() and not (out / MARK).exists() and (not out.is_dir() or any(out.iterdir())):
        raise SettingError(f"{out} was not made by this demo, which would delete it; name another with --out")
    with writing(out):
        shutil.rmtree(out, ignore_errors=True)
        out.mkdir(parents=True)
        (out / MARK).write_text("Made by `discreet federated demo`, which may delete this folder.\n")


def _people(data: Interactions, devices: int) -> Histories:
    """Return the histories of as many people as there are devices."""
    import numpy as np

    from discreet.errors import SettingError
    from discreet.training.fitting import PURPOSE

    histories = data.opened_for(PURPOSE)
    able = np.flatnonzero(np.diff(histories.matrix.indptr) >= SHORTEST)
    if len(able) < devices:
        raise SettingError(f"the demo needs {devices} people with {SHORTEST} items each; give it more data with --from")
    return histories.take(able[:devices])


def _run(stage: Stage, way: str, killed: int) -> dict[str, Any]:
    """Run a federation to its end; return what came out."""
    from discreet.errors import EngineLost

    step(
        f"{stage.devices} devices and {'one server' if way == 'secagg' else 'two servers'}, over HTTPS on this machine"
    )
    deadline, port = time.monotonic() + DEADLINE, free_port()
    first = free_port() if way == "two-servers" else None
    with stopping([]) as processes:
        if first is not None:
            processes.append(stage.first_server(first))
        coordinator = stage.coordinator(way, port, first, linger=5, patience=8)
        devices = [stage.device(number, way, port, first) for number in range(stage.devices)]
        processes.extend([coordinator, *devices])
        for device in devices[:killed]:
            device.until("reveal", deadline)  # the first round is over
            device.until("share", deadline)
            device.running.kill()
            say(f"killed a device in mid-round (process {device.running.pid})")
        try:
            released = coordinator.running.wait(max(deadline - time.monotonic(), 1.0)) == 0
        except subprocess.TimeoutExpired:
            raise EngineLost(f"the demo took longer than {DEADLINE:g} s; see {stage.folder / 'errors.txt'}") from None
        if not released:
            raise EngineLost(f"no model was released; see {stage.folder / 'errors.txt'}")
        ends = [device.ended(deadline) for device in devices[killed:]]
    done = [end for end in ends if end.get("model")]
    return {
        "way": way,
        "devices": stage.devices,
        "killed": killed,
        "ended": len(done),
        "spent": sorted({end["spent"] for end in done}),
        "allowed": sorted({end["of"] for end in done}),
        "peak_memory": max((end["peak_memory"] or 0 for end in done), default=0),
        "rounds": [sum(1 for each in device.said if each.get("said") == "mask") for device in devices],
        "list": done[0]["list"] if done else [],
    }


def _show(found: dict[str, Any]) -> None:
    shown, spending = table(found["way"], "", ""), (found["spent"], found["allowed"])
    rows = {
        "devices, killed in mid-round": f"{found['devices']}, {found['killed']}",
        "devices that took it and made a list": found["ended"],
        "rounds that each took part in": ", ".join(map(str, sorted(set(found["rounds"])))),
        "units that each spent, of those allowed": " of ".join(f"{max(each, default=0):,}" for each in spending),
        "memory of a device, at most": f"{found['peak_memory'] / 1e6:.0f} MB",
        "a list, made on its device": ", ".join(map(str, found["list"])),
    }
    for name, value in rows.items():
        shown.add_row(name, str(value))
    screen.print(shown)


def _show_leaks(data: Interactions) -> None:
    """Say what noise is for: what a server reads off sums without it, and with it."""
    import math

    from discreet.evaluation.attacks.linkage import leak
    from discreet.evaluation.tradeoff import PURPOSE

    step(f"What a server reads off such sums of {data.name}, without noise and with it")
    columns: dict[str, dict[bool, float]] = {}
    for figure in leak(data.opened_for(PURPOSE), cohorts=LEAKING, trials=20):
        columns.setdefault(figure.what, {})[math.isinf(figure.epsilon)] = figure.value
    shown = table("", "", "no noise", "epsilon 1")
    for what, found in columns.items():
        shown.add_row(what, *(f"{found[quiet]:.2f}" if quiet in found else "" for quiet in (True, False)))
    screen.print(shown)
    say("AUC: chance is 0.5. So noise inside the sum is not optional: see docs/federated.md.", "dim")
