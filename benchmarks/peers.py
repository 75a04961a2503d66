"""CPU seconds, wall time and peak memory beside `implicit` ALS: same data, same cores, each in a process of its own.

    python benchmarks/peers.py                                   # MovieLens-100K
    python benchmarks/peers.py shop=ratings.parquet --threads 2

Each process reads the data, fits once to compile and to warm up, then several times on the clock: the median is shown,
with the extremes. Memory is the largest resident size from start to end, the data included, and beside it that of a
process which reads the data alone. The default model has at most 64 directions, so implicit has 64 factors, and its own
default of 15 sweeps. One of the two is private.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass

import ials
from quality import console, machine, opened
from rich.box import SIMPLE_HEAD
from rich.table import Table

from discreet.data.interactions import Histories
from discreet.models.recipe import recipe
from discreet.privacy.accounting import cap, default_delta
from discreet.training.populations import Here
from discreet.training.rounds import train

RUNS = 3
PEER = ials.Settings(64, 50, 10)
EPSILON = 1.0
POOLS = ("NUMBA_NUM_THREADS", "OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "POLARS_MAX_THREADS")
SUBJECTS = ("data alone", "discreet, epsilon 1", "implicit ALS, no privacy")


@dataclass(frozen=True)
class Result:
    """What one process found: seconds of each fit, its peak memory in MB, and what it says of the data."""

    data: str
    wall: list[float]
    cpu: list[float]
    peak: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", nargs="?", help="NAME=FILE of interactions; MovieLens-100K if none is given")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--alone", choices=SUBJECTS, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.alone:
        print(json.dumps(asdict(measured(arguments.alone, arguments.data, arguments.threads))))
    else:
        compare(arguments.data, arguments.threads)


def compare(data: str | None, threads: int) -> None:
    """Print a line a subject, each measured in a fresh process pinned to ``threads`` cores."""
    console.print(f"{machine()}; pinned to cores: {threads}, threads: {threads}; median of {RUNS} (least to most)")
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:threads])  # the processes below inherit it
    subjects = SUBJECTS if ials.available() else SUBJECTS[:2]
    if not ials.available():
        console.print(ials.MISSING)
    found = {subject: apart(subject, data, threads) for subject in subjects}
    console.print(found[SUBJECTS[0]].data)
    table = Table("", "CPU s", "wall s", "peak memory, MB", box=SIMPLE_HEAD, pad_edge=False)
    for subject, result in found.items():
        table.add_row(subject, spread(result.cpu), spread(result.wall), f"{result.peak:,.0f}")
    console.print(table)
    if len(found) == len(SUBJECTS):
        ours, theirs = (statistics.median(found[subject].cpu) for subject in SUBJECTS[1:])
        console.print(f"CPU time: {ours / theirs:.2f} of implicit's")


def apart(subject: str, data: str | None, threads: int) -> Result:
    """Return what a process of its own measured."""
    command = [sys.executable, __file__, "--alone", subject, "--threads", str(threads), *([data] if data else [])]
    environment = os.environ | dict.fromkeys(POOLS, str(threads))
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    return Result(**json.loads(done.stdout.strip().splitlines()[-1]))


def measured(subject: str, data: str | None, threads: int) -> Result:
    """Return seconds of each fit, and the peak of this process."""
    histories = opened(data)
    fits: dict[str, Callable[[], object]] = {
        SUBJECTS[1]: lambda: fit(histories, threads),
        SUBJECTS[2]: lambda: ials.fitted(histories.matrix, PEER, threads=threads),
    }
    wall, cpu = timed(fits[subject]) if subject in fits else ([], [])
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    described = f"{histories.dataset}: {len(histories):,} people, {len(histories.catalogue):,} items, "
    return Result(f"{described}{histories.matrix.nnz:,} interactions", wall, cpu, peak)


def fit(histories: Histories, threads: int) -> None:
    """Train the default model, billed to nobody."""
    people, items = histories.matrix.shape
    delta = default_delta(people)
    model, plan = recipe(people, items, cap(EPSILON, delta), delta=delta, tagged=histories.catalogue.tagged)
    train(model, Here(histories, threads=threads), plan, spend=unbilled)


def unbilled(units: int) -> None:
    """Bill nobody: the model is thrown away."""


def timed(action: Callable[[], object]) -> tuple[list[float], list[float]]:
    """Return wall and CPU seconds of each run after one that is not counted."""
    action()
    wall, cpu = [], []
    for _ in range(RUNS):
        clocks = time.perf_counter(), time.process_time()
        action()
        wall.append(time.perf_counter() - clocks[0])
        cpu.append(time.process_time() - clocks[1])
    return wall, cpu


def spread(seconds: Sequence[float]) -> str:
    """Return median, least and most."""
    if not seconds:
        return ""
    return f"{statistics.median(seconds):.2f} ({min(seconds):.2f} to {max(seconds):.2f})"


if __name__ == "__main__":
    main()
