"""``discreet inference demo``: two servers, each a process of its own, and a list by each way to make one."""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from discreet.cli.models import ModelFile, show_slate
from discreet.cli.output import Json, say, say_json, screen, table
from discreet.cli.processes import Process, free_port, start, stopping

if TYPE_CHECKING:
    from collections.abc import Sequence

    from discreet.client.wire import Wire
    from discreet.models.slate import Slate
    from discreet.models.trained import Trained

STARTING = 120.0
"""Seconds that servers have to start."""
KNOWN = 5
"""Items of the history that is made up: those that most people have."""
LISTED = 10
SETTLING, IDLE = 50, 0.005
"""Tenths of a second to wait, and CPU seconds in one that are nothing."""
CPU_CLOCK = 2
"""Of a process, in Linux's numbers of clocks."""
TWO = ("shared", "garbled")
"""Ways that need two servers."""

LEARNS = {
    "on_device": "that somebody asked; the model is public",
    "shared": "that somebody asked, and of how many new items; nothing else, if the two do not tell each other",
    "garbled": "that somebody asked, and of how many new items; nothing else, if the two do not tell each other",
    "encrypted": "that somebody asked, and which questions are under one key",
}


@dataclass
class Servers:
    """Servers of one model that run on this machine.

    Attributes:
        processes: in turn.
        ports: of theirs.
        certificate: of all of them.
    """

    processes: list[Process]
    ports: list[int]
    certificate: Path

    def ready(self) -> None:
        """Wait until they listen.

        Raises:
            EngineLost: one did not start.
        """
        from discreet.errors import EngineLost

        deadline = time.monotonic() + STARTING
        if not all(process.until("listening", deadline) for process in self.processes):
            log = (self.certificate.parent / "errors.txt").read_text().strip()
            raise EngineLost(f"a server did not start: {log.splitlines()[-1] if log else 'no reason given'}")

    def settle(self) -> None:
        """Wait until they have nothing left to do, for a while: garblings are made ahead of questions."""
        for _ in range(SETTLING):
            before = sum(self.cpu())
            time.sleep(0.1)
            if sum(self.cpu()) - before < IDLE:
                return

    def cpu(self) -> tuple[float, ...]:
        """Return CPU seconds that each has used so far, with its workers; 0 where the system does not tell."""
        return tuple(_cpu(process.running.pid) for process in self.processes)

    def wires(self, count: int) -> tuple[list[Wire], Traffic]:
        """Return ways to the first of them, and what will travel on these."""
        traffic = Traffic()
        return [traffic.wire(f"https://127.0.0.1:{port}", self.certificate) for port in self.ports[:count]], traffic


@dataclass
class Traffic:
    """Bytes of bodies, up and down, by any of some ways to servers."""

    up: list[int] = field(default_factory=list)
    down: list[int] = field(default_factory=list)

    def wire(self, url: str, ca: Path) -> Wire:
        """Return a way to a server that is counted here."""
        from discreet.client.wire import Wire

        traffic = self

        class Counted(Wire):
            def _once(self, method: str, path: str, content: bytes, headers: Any) -> tuple[int, bytes, str]:
                status, body, tag = super()._once(method, path, content, headers)
                traffic.up.append(len(content))
                traffic.down.append(len(body))
                return status, body, tag

        return Counted(url, ca=ca)

    def taken(self) -> tuple[int, int]:
        """Return bytes up and down since this was asked last."""
        found = sum(self.up), sum(self.down)
        self.up.clear()
        self.down.clear()
        return found


def serving(
    folder: Path,
    model: Path,
    ways: Sequence[Sequence[str]],
    processes: list[Process],
    more: Sequence[str] = (),
    n: int = LISTED,
) -> Servers:
    """Start a server for each of ``ways``: what it offers. The second is the second of all ways that need two.

    Args:
        folder: for their certificate, keys and complaints.
        model: file.
        ways: of each server.
        processes: where they are added.
        more: arguments of all of them.
        n: length of the lists of ``garbled``.
    """
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    from discreet.governance.keyfiles import make_key
    from discreet.service.certificates import certify_loopback

    certificate, key = certify_loopback(folder)
    second = make_key(folder / "second.key", Ed25519PrivateKey).hex()
    servers = Servers([], [free_port() for _ in ways], certificate)
    for offered, port in zip(ways, servers.ports, strict=True):
        options = [part for way in offered for part in ("--way", way)]
        tls: list[str | Path] = ["--certificate", certificate, "--key", key]
        if port == servers.ports[0]:
            tls += ["--second", second]
        else:
            first = f"https://127.0.0.1:{servers.ports[0]}"
            tls += ["--first", first, "--first-ca", certificate, "--identity", folder / "second.key"]
        where = ["discreet", "inference", "serve", model, "--port", str(port), "--workers", "1", "--n", str(n)]
        arguments = [*where, *options, *tls, *more]
        servers.processes.append(start(arguments, folder / "errors.txt"))
        processes.append(servers.processes[-1])
    servers.ready()
    servers.settle()
    return servers


def demo(file: ModelFile, as_json: Json = False) -> None:
    """Make one list in each way, by servers that are processes on this machine, and say what each of them saw.

    The history is made up: the items that most people have. `make demo` leaves a model in discreet-demo/model.npz.
    """
    from importlib.util import find_spec

    from discreet.errors import SettingError
    from discreet.inference.outline import factors
    from discreet.inference.plain import Plain
    from discreet.models.trained import Trained
    from discreet.service.afar import reached

    trained = Trained.load(file)
    try:
        factors(trained)
        offered = ["on_device", "shared", "garbled", *(["encrypted"] if find_spec("seal") else [])]
    except SettingError:  # scores of another shape
        offered = ["on_device"]
    history = list(trained.recommend([], KNOWN).items)
    wanted, found = trained.recommend(history, LISTED), []
    with TemporaryDirectory() as folder, stopping([]) as processes:
        second = [way for way in TWO if way in offered] or offered
        servers = serving(Path(folder), file.resolve(), [offered, second], processes)
        for way in offered:
            wires, traffic = servers.wires(2 if way in TWO else 1)
            recommender = reached(way, wires, LISTED)
            for number in ("first", "then"):
                servers.settle()
                before, begun = servers.cpu(), time.perf_counter()
                request, kept = recommender.ask(history)
                made: Slate = recommender.read(recommender.answer(request), kept)
                spent = [after - since for after, since in zip(servers.cpu(), before, strict=True)]
                up, down = traffic.taken()
                found.append(
                    {
                        "way": way,
                        "time": number,
                        "agree": len({*made} & {*wanted}),
                        "up": up,
                        "down": down,
                        "server_ms": 1e3 * max(spent),
                        "wall_ms": 1e3 * (time.perf_counter() - begun),
                        "learns": LEARNS[way],
                    }
                )
    if as_json:
        say_json(found)
        return
    show_slate(Plain(trained, LISTED).answer(tuple(history)), f"For a history of {len(history)}")
    _show(found, trained)


def _show(found: Sequence[dict[str, Any]], trained: Trained) -> None:
    columns = ("way", "", "same", "kB up", "kB down", "server ms", "ms in all")
    shown = table(f"The same list, {len(trained.catalogue):,} items, over HTTPS", *columns)
    for each in found:
        numbers = (each["up"] / 1e3, each["down"] / 1e3, each["server_ms"], each["wall_ms"])
        told = [f"{value:,.1f}" for value in numbers]
        shown.add_row(each["way"], each["time"], f"{each['agree']} of {LISTED}", *told)
    screen.print(shown)
    for way in dict.fromkeys(each["way"] for each in found):
        say(f"{way}: a server learns {LEARNS[way]}")
    say("Which to use: docs/private-inference.md", "dim")


def _cpu(pid: int) -> float:
    """Return CPU seconds of a process, threads that ended included, and of its children; 0 where Linux is not."""
    try:
        total = time.clock_gettime((~pid << 3) | CPU_CLOCK)
    except OSError:
        return 0.0
    for thread in Path(f"/proc/{pid}/task").glob("*"):
        with suppress(OSError):
            total += sum(_cpu(int(child)) for child in (thread / "children").read_text().split())
    return total
