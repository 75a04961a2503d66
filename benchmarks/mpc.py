"""What a list by three servers that see nothing costs each of them, and how far lists agree with the plain ones.

    DISCREET_SPU_PYTHON=spu/bin/python python benchmarks/mpc.py

The factors and histories of ``inference.py``; all three servers and the device are on this machine, so their wall time
is what they share of its cores, and no network is between them. Bytes are what went over the loopback interface, by
the number of servers: on a busy machine, also other processes' bytes.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from pages import printed
from quality import machine

from discreet.engines.spu import Parties
from discreet.evaluation.advice import histories, made_up
from discreet.inference.mpc import Mpc
from discreet.protocols.ranking import SEATS
from inference import LISTED, PEOPLE, SIZES, WIDTH, spread

SENT = Path("/sys/class/net/lo/statistics/tx_bytes")


HEAD = """# Lists of three servers, measured

Written by `benchmarks/mpc.py`: what it printed. Medians of {people} questions and their range, made-up factors of
{width} numbers, lists of {listed}. All three servers and the device are on this machine, and no network is between
them. Bytes of a server are what went over the loopback interface, by three: on a busy machine, also other processes'.
*Agree*: the mean share of a list that is on the model's own. What it is: [mpc](mpc.md).

    DISCREET_SPU_PYTHON=spu/bin/python python benchmarks/mpc.py
"""


def main() -> None:
    printed(__doc__, "mpc-measured.md", HEAD.format(people=PEOPLE, width=WIDTH, listed=LISTED), table())


def table() -> Iterator[str]:
    """Yield a line a size."""
    yield f"{machine()}; load before: {os.getloadavg()[0]:.1f}"
    yield ""
    names = ("start s", "wall ms", "CPU ms a server", "MB sent by a server", "MB held", "kB up", "kB down", "agree")
    yield f"{'items':>8}{names[0]:>9}{names[1]:>24}{names[2]:>24}{names[3]:>24}" + "".join(f"{n:>9}" for n in names[4:])
    yield from map(measured, SIZES)


def measured(items: int) -> str:
    """Return a line of the table: a question for each history, after one that does not count."""
    trained, people = made_up(items, WIDTH), histories(items, PEOPLE)
    with Parties() as parties:
        begun = time.perf_counter()
        way = Mpc.here(trained, parties, LISTED)
        started = time.perf_counter() - begun
        walls, cpus, sent, shares = [], [], [], []
        for history in [people[0], *people]:
            bytes_before, cpu_before, begun = int(SENT.read_text()), cpu(parties.pids), time.perf_counter()
            request, kept = way.ask(history)
            reply = way.answer(request)
            listed = way.read(reply, kept)
            walls.append(1e3 * (time.perf_counter() - begun))
            cpus.append(1e3 * (cpu(parties.pids) - cpu_before) / SEATS)
            sent.append((int(SENT.read_text()) - bytes_before) / 1e6 / SEATS)
            shares.append(len({*listed} & {*trained.recommend(history, LISTED)}) / LISTED)
        held = max(map(peak, parties.pids))
    up, down = (sum(map(len, each)) / 1e3 for each in (request, reply))
    figures = f"{started:>9.1f}{spread(tuple(walls[1:])):>24}{spread(tuple(cpus[1:])):>24}{spread(tuple(sent[1:])):>24}"
    return f"{items:>8,}{figures}{held:>9.0f}{up:>9.1f}{down:>9.1f}{np.mean(shares[1:]):>9.4f}"


def cpu(pids: list[int]) -> float:
    """Return CPU seconds that processes have used, with all threads."""
    return sum(int(told.split()[0]) / 1e9 for told in tasks(pids))


def tasks(pids: list[int]) -> Iterator[str]:
    """Yield what Linux tells of each thread's time."""
    for pid in pids:
        for thread in Path(f"/proc/{pid}/task").iterdir():
            yield (thread / "schedstat").read_text()


def peak(pid: int) -> float:
    """Return the most memory that a process has held so far, in MB."""
    (line,) = [line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmHWM")]
    return int(line.split()[1]) / 1e3


if __name__ == "__main__":
    main()
