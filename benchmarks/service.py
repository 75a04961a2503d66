"""What the service does: lists and events over HTTP, and people by the million in its database.

    python benchmarks/service.py --out docs                  # about ten minutes
    python benchmarks/service.py --soak 600 --out docs       # and ten more: does its memory stay flat

Servers are processes (``discreet serve``), asked over HTTP on this machine by this process. Writes service-measured.md
into the folder ``--out``.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from pages import fenced
from quality import machine
from sqlalchemy import insert

from discreet.cli.serving import settings_of
from discreet.data.catalogue import Catalogue
from discreet.data.records import Records
from discreet.data.vault import EVENT
from discreet.governance import schema
from discreet.governance.checks import now
from discreet.governance.consent import BOUND, bound
from discreet.governance.ledger import Account
from discreet.governance.roles import Role
from discreet.service.jobs import Calendar, erase, schedule

ITEMS, PEOPLE, EACH = 3_700, 2_000, 60
RATE, SECONDS, ROUNDS, CONNECTIONS = 300, 20, 3, 32
BATCH, SENDERS = 10, 32
MILLION, ERASED = 1_000_000, 500
PURPOSES = ("recommend", "train-recommender")
HEAD = """# The service, measured

Written by `benchmarks/service.py`: what it printed. The service is a process (`discreet serve`, one worker, SQLite),
asked over HTTP by another process on the same machine, which shares its cores. *Lists*: {rate} requests a second, sent
when they are due whether or not the ones before were answered, lists of 20 of {items:,} items; personal lists wait for
a grid of 5 ms. *Events*: batches of {batch}, each durable when it is acknowledged, by {senders} connections as fast as
they are answered. *A million people*: rows written at once, then read and erased by the service's own code. What it
is: [the service](service.md).

    python benchmarks/service.py --soak 600
"""


@dataclass
class Server:
    """A running service: its process, its port, and a key of an application."""

    process: subprocess.Popen[str]
    port: int
    key: str

    def cpu(self) -> float:
        """Return seconds of CPU that it used, with all threads."""
        return time.clock_gettime((~self.process.pid << 3) | 2)

    def resident(self) -> float:
        """Return MB that it holds."""
        pages = int(Path(f"/proc/{self.process.pid}/statm").read_text().split()[1])
        return pages * resource.getpagesize() / 1e6


@contextmanager
def serving(folder: Path, port: int) -> Iterator[Server]:
    """Run a service with a model, until the block ends."""
    key = seeded(folder)
    command = [
        sys.executable,
        "-m",
        "discreet",
        "serve",
        str(folder),
        "--port",
        str(port),
        "--per-minute",
        "1000000000",
    ]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            for line in process.stdout or ():
                if line.startswith("{"):
                    break
            server = Server(process, port, key)
            asyncio.run(until_ready(server))
            yield server
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(30)


def seeded(folder: Path) -> str:
    """Have people agree and choose; have a model trained at the start; return a key of an application."""
    draw = np.random.default_rng(0)
    weights = 1 / np.arange(1, ITEMS + 1)
    names = [f"i{number:05}" for number in range(ITEMS)]
    with settings_of(folder, None, None, None).records() as records:
        records.vault.set_items(Catalogue(tuple(names)))
        for number in range(PEOPLE):
            records.consents.give(f"p{number}", PURPOSES[number % 2])
            records.consents.give(f"p{number}", PURPOSES[1 - number % 2])
            chosen = draw.choice(ITEMS, EACH, replace=False, p=weights / weights.sum())
            rows = ((f"p{number}", names[at], None) for at in chosen.tolist())
            records.vault.collect([records.vault.prepared(f"b{number}", f"{number:064x}", rows)])
        with records.book() as book:
            book.open_budget(Account(records.inventory.name, PURPOSES[1]), epsilon=20.0, delta=1e-5)
        schedule(records, Calendar(epsilon=10.0, kind="gram"), now(), by="benchmark")
        return records.access.make(Role.OPERATOR, "benchmark")


async def until_ready(server: Server) -> None:
    """Wait for the first model."""
    for _ in range(600):
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        status, _ = await asked(reader, writer, b"GET /api/v1/health/ready HTTP/1.1\r\nHost: x\r\n\r\n")
        writer.close()
        if status == 200:
            return
        await asyncio.sleep(0.2)
    raise TimeoutError("no model came")


async def asked(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, request: bytes) -> tuple[int, bytes]:
    """Send a request; return status and body."""
    writer.write(request)
    head = await reader.readuntil(b"\r\n\r\n")
    length = next(int(line[15:]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
    return int(head.split(b" ", 2)[1]), await reader.readexactly(length)


async def lists(server: Server, rate: int, seconds: int) -> list[float]:
    """Ask for lists, so many a second, each when it is due; return ms from when it was due until it was read."""
    taken: list[float] = []
    due: asyncio.Queue[float | None] = asyncio.Queue()
    people = itertools.cycle(range(PEOPLE))

    async def connection() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        while (at := await due.get()) is not None:
            path = f"/api/v1/recommend/p{next(people)}?n=20"
            status, _ = await asked(reader, writer, request("GET", path, server.key))
            if status != 200:
                raise RuntimeError(f"a list was answered by {status}")
            taken.append(1e3 * (time.monotonic() - at))
        writer.close()

    connections = [asyncio.create_task(connection()) for _ in range(CONNECTIONS)]
    begun = time.monotonic()
    for number in range(rate * seconds):
        at = begun + number / rate
        await asyncio.sleep(max(0.0, at - time.monotonic()))
        due.put_nowait(at)
    for _ in connections:
        due.put_nowait(None)
    await asyncio.gather(*connections)
    return taken


async def batches(server: Server, seconds: float) -> float:
    """Send batches of events as fast as they are acknowledged; return how many a second."""
    numbers, end = itertools.count(), time.monotonic() + seconds
    begun, sent = time.monotonic(), 0

    async def connection() -> None:
        nonlocal sent
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        while time.monotonic() < end:
            first = next(numbers)
            events = [
                {"user_id": f"p{(first + at) % PEOPLE}", "item_id": f"i{(first * 7 + at) % ITEMS:05}"}
                for at in range(BATCH)
            ]
            body = json.dumps({"events": events}).encode()
            status, _ = await asked(reader, writer, request("POST", "/api/v1/events", server.key, body))
            if status != 200:
                raise RuntimeError(f"a batch was answered by {status}")
            sent += 1
        writer.close()

    await asyncio.gather(*(connection() for _ in range(SENDERS)))
    return sent / (time.monotonic() - begun)


def request(method: str, path: str, key: str, body: bytes = b"") -> bytes:
    """Return the bytes of a request."""
    more = f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n" if body else ""
    return f"{method} {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {key}\r\n{more}\r\n".encode() + body


def over_http(folder: Path, soak: int) -> Iterator[str]:
    """Yield what the service does as a process."""
    with serving(folder, 8_473) as server:
        asyncio.run(lists(server, RATE, 3))  # what is loaded at the first request
        yield f"{'lists':<10}{'asked /s':>9}{'CPU ms each':>13}{'p50 ms':>9}{'p90 ms':>9}{'p99 ms':>9}{'most ms':>9}"
        for _ in range(ROUNDS):
            before = server.cpu()
            taken = asyncio.run(lists(server, RATE, SECONDS))
            each = 1e3 * (server.cpu() - before) / len(taken)
            p50, p90, p99 = np.quantile(taken, [0.5, 0.9, 0.99])
            yield f"{'':<10}{RATE:>9}{each:>13.2f}{p50:>9.1f}{p90:>9.1f}{p99:>9.1f}{max(taken):>9.1f}"
        yield ""
        for _ in range(ROUNDS):
            before = server.cpu()
            rate = asyncio.run(batches(server, SECONDS / 2))
            used = (server.cpu() - before) / (SECONDS / 2)
            yield f"events: {rate:,.0f} durable batches of {BATCH} a second; {used:.0%} of a core"
        if soak:
            yield ""
            yield from soaked(server, soak)


def soaked(server: Server, seconds: int) -> Iterator[str]:
    """Yield the memory of the service while it is asked for lists."""
    begun, held = time.monotonic(), [server.resident()]
    yield f"memory after {0:>4} s of {RATE // 3} lists a second: {held[0]:,.0f} MB"
    while time.monotonic() - begun < seconds:
        asyncio.run(lists(server, RATE // 3, min(60, seconds)))
        held.append(server.resident())
        yield f"memory after {time.monotonic() - begun:>4.0f} s of {RATE // 3} lists a second: {held[-1]:,.0f} MB"
    yield f"memory grew by {held[-1] / held[1] - 1:.1%} after the first minute"


def people(folder: Path) -> Iterator[str]:
    """Yield how long it takes to erase one of a million, and to open all of them for training."""
    settings = settings_of(folder, None, None, None)
    with settings.records() as records:
        begun = time.monotonic()
        filled(records)
        size = sum(path.stat().st_size for path in folder.glob("discreet.db*")) / 1e9
        yield f"{MILLION:,} people of 20 events each: {size:.2f} GB, written in {time.monotonic() - begun:,.0f} s"
        for _ in range(2):
            begun, cpu = time.monotonic(), time.process_time()
            histories, _ = records.vault.opened_for(PURPOSES[1])
            wall, cpu = time.monotonic() - begun, time.process_time() - cpu
            yield f"opened for training: {wall:.1f} s, {cpu:.1f} s of CPU, {len(histories):,} people"
            del histories
        taken = []
        for number in range(ERASED):
            begun = time.monotonic()
            if not erase(records, records.holders.pseudonym(f"p{number * 31}"), by="a benchmark").events:
                raise RuntimeError("nobody was there to be erased")
            taken.append(1e3 * (time.monotonic() - begun))
        p50, p99 = np.quantile(taken, [0.5, 0.99])
        yield f"erasing one of them: p50 {p50:.1f} ms, p99 {p99:.1f} ms, most {max(taken):.1f} ms ({ERASED} people)"
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
        yield f"memory at most: {peak:.1f} GB"


def filled(records: Records) -> None:
    """Write people as intake would have, but all in one transaction."""
    draw = np.random.default_rng(1)
    records.vault.set_items(Catalogue(tuple(f"i{number:05}" for number in range(ITEMS))))
    keep, stand = insert(schema.history), insert(schema.standing)
    today = int(time.time()) // 86_400 * 86_400
    stands = {"purpose": PURPOSES[1], "state": "ConsentGiven", "quarters": 4, "until": None, "seq": 0}
    stands["terms"] = records.inventory.terms[PURPOSES[1]]
    told = [stands[column.name] for column in BOUND]
    with records.database.transaction():
        for number in range(MILLION):
            pseudonym = records.holders.pseudonym(f"p{number}")
            events = np.zeros(20, EVENT)
            events["code"] = draw.integers(0, ITEMS // 20, 20) + np.arange(20) * (ITEMS // 20)
            events["time"] = today
            seal = records.holders.hold(pseudonym)
            records.database.execute(
                keep, pseudonym=pseudonym, content=seal.seal(events.tobytes(), b"history\0" + pseudonym)
            )
            records.database.execute(stand, pseudonym=pseudonym, mac=bound(seal, told), **stands)


def main() -> None:
    """Print, and write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, help="folder for service-measured.md")
    parser.add_argument("--soak", type=int, default=0, help="seconds to go on asking, to see whether memory grows")
    arguments = parser.parse_args()
    found = []
    with TemporaryDirectory() as one, TemporaryDirectory() as other:
        head = iter([f"{machine()}; load before: {os.getloadavg()[0]:.1f}", ""])
        for line in itertools.chain(head, people(Path(other)), iter([""]), over_http(Path(one), arguments.soak)):
            print(line, flush=True)
            found.append(line)
    if arguments.out:
        told = HEAD.format(rate=RATE, items=ITEMS, batch=BATCH, senders=SENDERS)
        (arguments.out / "service-measured.md").write_text(f"{told}\n{fenced(found)}")


if __name__ == "__main__":
    main()
