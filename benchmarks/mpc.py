"""What three servers that see nothing send one another for a list, what they hold, and how long they take to start.

    DISCREET_SPU_PYTHON=spu/bin/python python benchmarks/mpc.py

What a list costs each of them, and how far lists agree: ``inference.py``, whose factors and histories these are. All
three are on this machine. Bytes are what went over the loopback interface, by the number of servers: on a busy machine,
also other processes' bytes.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

from pages import printed
from quality import machine

from discreet.engines.spu import Parties
from discreet.evaluation.advice import histories, made_up
from discreet.inference.mpc import Mpc
from discreet.protocols.ranking import SEATS
from inference import LISTED, PEOPLE, SIZES, WIDTH, spread

SENT = Path("/sys/class/net/lo/statistics/tx_bytes")


HEAD = """# Lists of three servers, between them

Written by `benchmarks/mpc.py`: what it printed. Medians of {people} questions and their range, made-up factors of
{width} numbers, lists of {listed}; all three servers are on this machine. Bytes of a server are what went over the
loopback interface, by three: on a busy machine, also other processes'. What a list costs: [private inference,
measured](inference-measured.md). What it is: [mpc](mpc.md).

    DISCREET_SPU_PYTHON=spu/bin/python python benchmarks/mpc.py
"""


def main() -> None:
    printed(__doc__, "mpc-measured.md", HEAD.format(people=PEOPLE, width=WIDTH, listed=LISTED), table())


def table() -> Iterator[str]:
    """Yield a line a size."""
    yield f"{machine()}; load before: {os.getloadavg()[0]:.1f}"
    yield ""
    yield f"{'items':>8}{'start s':>9}{'MB sent by a server':>24}{'MB held':>9}"
    yield from map(measured, SIZES)


def measured(items: int) -> str:
    """Return a line of the table: a question for each history, after one that does not count."""
    trained, people = made_up(items, WIDTH), histories(items, PEOPLE)
    with Parties() as parties:
        begun = time.perf_counter()
        way = Mpc.here(trained, parties, LISTED)
        started, sent = time.perf_counter() - begun, []
        for history in [people[0], *people]:
            before = int(SENT.read_text())
            request, kept = way.ask(history)
            way.read(way.answer(request), kept)
            sent.append((int(SENT.read_text()) - before) / 1e6 / SEATS)
        held = max(map(peak, parties.pids))
    return f"{items:>8,}{started:>9.1f}{spread(tuple(sent[1:])):>24}{held:>9.0f}"


def peak(pid: int) -> float:
    """Return the most memory that a process has held so far, in MB."""
    (line,) = [line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmHWM")]
    return int(line.split()[1]) / 1e3


if __name__ == "__main__":
    main()
