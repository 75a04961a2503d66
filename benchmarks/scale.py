"""Training on more people than memory holds: time and memory by size, beside a non-private ALS.

    python benchmarks/scale.py                                   # 1, 2, 5, 10 and 20 million interactions
    python benchmarks/scale.py --millions 1 5 20 100 --out docs  # and write docs/scale-measured.md and docs/scale.svg

People are synthetic: 7,000 a million interactions, over 20,000 items. Each line is a process of its own, from start to
end: imports, reading, checks, the ledger, the model file. CPU time is of all threads; memory is the largest resident
set. The peer is `implicit` (alternating least squares, 64 factors, 15 iterations), where it is installed; it is given
its matrix ready made.
"""

from __future__ import annotations

import argparse
import math
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path

import numpy as np
import scipy.sparse
from quality import machine

from discreet.data.intake import read_interactions
from discreet.data.synthetic import PURPOSE, write_synthetic
from discreet.training.fitting import fit
from discreet.training.populations import Here

PEOPLE, ITEMS = 7_000, 20_000
FACTORS, ITERATIONS = 64, 15
EPSILON = 1.0
MOST_FOR_PEER = 20
HEADER = f"{'':<10}{'millions':>9}{'CPU s':>10}{'wall s':>10}{'peak MB':>10}{'M/CPU s':>10}"
HEAD = """# Scale, measured

Written by `benchmarks/scale.py`: what it printed, on people who do not exist. What it means: [scale.md](scale.md).
"""


@dataclass(frozen=True)
class Figures:
    """What one process took: CPU and wall seconds, and the most memory, MB."""

    what: str
    interactions: int
    cpu: float
    wall: float
    peak: float

    def __str__(self) -> str:
        size = self.interactions / 1e6
        return (
            f"{self.what:<10}{size:>9.1f}{self.cpu:>10.1f}{self.wall:>10.1f}{self.peak:>10,.0f}{size / self.cpu:>10.2f}"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--millions", type=int, nargs="+", default=[1, 2, 5, 10, 20], help="of interactions")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1, help="of each process")
    parser.add_argument("--folder", type=Path, help="keeps the synthetic data for the next run")
    parser.add_argument("--out", type=Path, help="folder for scale-measured.md and scale.svg")
    parser.add_argument("--step", nargs=2, metavar=("NAME", "FILE"), help="what a process of its own does")
    arguments = parser.parse_args()
    if arguments.step:
        name, file = arguments.step
        STEPS[name](Path(file), arguments.threads)
        return
    lines: list[str] = []
    figures: list[Figures] = []
    with folder(arguments.folder) as place:
        for line in measured(arguments.millions, place, arguments.threads, figures):
            print(line, flush=True)
            lines.append(line)
    if arguments.out:
        sizes = " ".join(map(str, arguments.millions))
        command = f"    python benchmarks/scale.py --millions {sizes} --threads {arguments.threads}"
        picture = "\n![CPU time and memory by interactions](scale.svg)\n"
        page = "\n".join([HEAD, command, "\n```", *lines, "```", picture])
        (arguments.out / "scale-measured.md").write_text(page)
        draw(figures, arguments.out / "scale.svg")


@contextmanager
def folder(kept: Path | None) -> Iterator[Path]:
    """Yield a folder for the data: one to keep, or one that goes away."""
    with tempfile.TemporaryDirectory() as scratch:
        yield kept or Path(scratch)


def measured(millions: Sequence[int], place: Path, threads: int, figures: list[Figures]) -> Iterator[str]:
    """Measure each size; yield lines, and add to ``figures``."""
    yield machine()
    yield f"{threads} thread{'s'[: threads != 1]}; model: the recipe's at epsilon {EPSILON:g}\n"
    yield HEADER
    for size in millions:
        file = place / f"synthetic-{size}.parquet"
        if not file.exists():
            yield str(run("generate", size * 10**6, file, threads))
        if size == millions[0]:
            run("train", 0, file, threads)  # kernels are compiled once on a machine, not once a run
        figures.append(run("train", read_interactions(file).count, file, threads))
        yield str(figures[-1])
        if size <= MOST_FOR_PEER and find_spec("implicit"):
            figures.append(beside(figures[-1], file, threads))
            yield str(figures[-1])
            yield compared(*figures[-2:])
    if not find_spec("implicit"):
        yield "implicit is not installed: nothing to compare with (pip install implicit)"
    yield "\n" + growth([found for found in figures if found.what == "train"])


def run(step: str, interactions: int, file: Path, threads: int) -> Figures:
    """Do one step in a fresh process, and wait for what it took."""
    settings = dict.fromkeys(("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "POLARS_MAX_THREADS"), str(threads))
    if step == "implicit":
        settings["OPENBLAS_NUM_THREADS"] = "1"  # as its authors ask: it has threads of its own
    command = [sys.executable, __file__, "--threads", str(threads), "--step", step, str(file)]
    started = time.perf_counter()
    process = subprocess.Popen(command, env=os.environ | settings)
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{step} failed on {file.name}")
    wall = time.perf_counter() - started
    return Figures(step, interactions, used.ru_utime + used.ru_stime, wall, used.ru_maxrss / 1e3)


def beside(ours: Figures, file: Path, threads: int) -> Figures:
    """Train the peer on the same pairs, read from its own kind of file."""
    matrix = file.with_suffix(".npz")
    run("convert", ours.interactions, file, threads)
    theirs = run("implicit", ours.interactions, matrix, threads)
    matrix.unlink()
    return theirs


def compared(ours: Figures, theirs: Figures) -> str:
    """Say how many times faster and smaller."""
    return (
        f"          implicit {version('implicit')} takes {theirs.cpu / ours.cpu:.1f} times the CPU time, "
        f"{theirs.wall / ours.wall:.1f} times the wall time, {theirs.peak / ours.peak:.1f} times the memory"
    )


def growth(found: Sequence[Figures]) -> str:
    """Say how CPU time grows from size to size: 1 is linear."""
    exponents = [
        f"{math.log(b.cpu / a.cpu) / math.log(b.interactions / a.interactions):.2f}"
        f" ({a.interactions / 1e6:.0f} to {b.interactions / 1e6:.0f} million)"
        for a, b in pairwise(found)
    ]
    return f"CPU time grows as interactions to the power of: {', '.join(exponents) or 'one size tells nothing'}"


def generate(file: Path, threads: int) -> None:
    """Draw as many millions as the file's name says."""
    del threads
    millions = int(file.stem.rpartition("-")[2])
    write_synthetic(file, people=PEOPLE * millions, items=ITEMS, interactions=millions * 10**6)


def train(file: Path, threads: int) -> None:
    """Train as anybody would: billed, and published to a file."""
    with tempfile.TemporaryDirectory() as scratch:
        fit(
            read_interactions(file),
            epsilon=EPSILON,
            ledger=Path(scratch) / "ledger.db",
            purpose=PURPOSE,
            out=Path(scratch) / "model.npz",
            population=partial(Here, threads=threads),
        )


def convert(file: Path, threads: int) -> None:
    """Write the pairs as the matrix that the peer trains on."""
    del threads
    matrix = read_interactions(file).opened_for(PURPOSE).matrix
    scipy.sparse.save_npz(file.with_suffix(".npz"), scipy.sparse.csr_matrix(matrix), compressed=False)


def implicit(file: Path, threads: int) -> None:
    """Train the peer."""
    from implicit.cpu.als import AlternatingLeastSquares

    matrix = scipy.sparse.load_npz(file).astype(np.float32)
    model = AlternatingLeastSquares(factors=FACTORS, iterations=ITERATIONS, num_threads=threads, random_state=0)
    model.fit(matrix, show_progress=False)


STEPS = {"generate": generate, "train": train, "convert": convert, "implicit": implicit}


def draw(figures: Sequence[Figures], target: Path) -> None:
    """Draw CPU time and memory against interactions, both axes linear."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.2, 3.6), layout="constrained")
    for axes, name, unit in zip(
        figure.subplots(1, 2), ("cpu", "peak"), ("CPU seconds", "peak memory, MB"), strict=True
    ):
        for what, colour, label in (("train", "#0b6e4f", "discreet, eps 1"), ("implicit", "#a23b3b", "implicit ALS")):
            rows = [found for found in figures if found.what == what]
            if rows:
                sizes = [found.interactions / 1e6 for found in rows]
                axes.plot(sizes, [getattr(found, name) for found in rows], color=colour, marker="o", label=label)
        axes.set(xlabel="million interactions", ylabel=unit, xlim=(0, None), ylim=(0, None))
        axes.grid(alpha=0.25)
        axes.legend(frameon=False, fontsize=9)
    figure.savefig(target, metadata={"Date": None})


if __name__ == "__main__":
    main()
