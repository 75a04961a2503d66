"""What a selection by garbled circuits costs both servers, in CPU time and in bytes; every list is compared.

    python benchmarks/garbled.py --out docs

Both servers run one after the other in this process, on made-up factors of 64 numbers. Writes garbled-measured.md into
the folder ``--out``. Fails if a list is wrong.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from pages import printed
from quality import machine

from discreet.inference.garbled import MOST
from discreet.inference.outline import finest, quantised
from discreet.inference.shared import PRODUCT
from discreet.protocols.oblivious import Evaluator, Garbler, Selection, Selector

CASES = ((1_000, 1), (4_000, 1), (1_000, 10), (4_000, 20))
WIDTH, EXCLUDED, RUNS = 64, 50, 9
MESSAGES = ("point", "points", "columns", "circuit", "questions", "difference", "labels", "answers")

HEAD = """# Garbled circuits, measured

Written by `benchmarks/garbled.py`: what it printed. CPU time, the median of {runs} runs and their range, on a processor
that others may be using: hence the load. *Before* is what can be done before there is a question; *then* is from the
question to the answers, scores included.

    python benchmarks/garbled.py
"""

Made = TypeVar("Made")


@dataclass
class Run:
    """CPU seconds of each part, and bytes of each message."""

    seconds: dict[str, float] = field(default_factory=dict)
    sizes: dict[str, int] = field(default_factory=dict)

    def timed(self, part: str, work: Callable[[], Made]) -> Made:
        start = time.process_time()
        made = work()
        self.seconds[part] = self.seconds.get(part, 0.0) + time.process_time() - start
        return made

    def sent(self, name: str, content: bytes) -> bytes:
        self.sizes[name] = self.sizes.get(name, 0) + len(content)
        return content


def main() -> None:
    printed(__doc__, "garbled-measured.md", HEAD.format(runs=RUNS), measured())


def measured() -> Iterator[str]:
    """Yield a line a case, of times and then of bytes."""
    yield f"{machine()}; load before: {os.getloadavg()[0]:.1f}"
    yield ""
    parts = ("garbler before", "evaluator before", "garbler then", "evaluator then")
    yield f"{'CPU ms':<20}{'AND gates':>10}" + "".join(f"{part:>20}" for part in (*parts, "all"))
    sizes = {}
    for rows, count in CASES:
        matrix, query, excluded = made_up(rows)
        selectors = Selector(matrix, count, 0, PRODUCT), Selector(matrix, count, 1, PRODUCT)
        selected(selectors, matrix, query, excluded)  # compiles
        runs = [selected(selectors, matrix, query, excluded) for _ in range(RUNS)]
        name, sizes[rows, count] = f"{count} of {rows:,}", runs[0].sizes
        shown = [spread([run.seconds[part] for run in runs]) for part in parts]
        shown.append(spread([sum(run.seconds.values()) for run in runs]))
        yield f"{name:<20}{selectors[0].terms.gates:>10,}" + "".join(f"{each:>20}" for each in shown)
    yield ""
    yield f"{'bytes':<20}" + "".join(f"{name:>12}" for name in (*MESSAGES, "all"))
    for (rows, count), sent in sizes.items():
        told = [sent[name] for name in MESSAGES]
        yield f"{f'{count} of {rows:,}':<20}" + "".join(f"{size:>12,}" for size in (*told, sum(told)))


def selected(
    selectors: tuple[Selector, Selector], matrix: NDArray[np.int16], query: NDArray[np.int64], excluded: list[int]
) -> Run:
    """Run a whole selection, and check its list."""
    run, terms = Run(), selectors[0].terms
    evaluator = run.timed("evaluator before", lambda: Evaluator(terms))
    garbler = run.timed("garbler before", lambda: Garbler(terms, evaluator.garbling))
    point = run.sent("point", run.timed("evaluator before", evaluator.point))
    points = run.sent("points", run.timed("garbler before", lambda: garbler.points(point)))
    columns = run.sent("columns", run.timed("evaluator before", lambda: evaluator.columns(points)))
    circuit = run.sent("circuit", run.timed("garbler before", lambda: garbler.circuit(columns)))
    run.timed("evaluator before", lambda: evaluator.keep(circuit))
    client = Selection(terms, query, excluded)
    of_garbler, of_evaluator = (run.sent("questions", question) for question in client.questions)
    first = run.timed("garbler then", lambda: selectors[0].share(of_garbler))
    second = run.timed("evaluator then", lambda: selectors[1].share(of_evaluator))
    difference = run.sent("difference", run.timed("evaluator then", lambda: evaluator.difference(second)))
    labels, masks = run.timed("garbler then", lambda: garbler.labels(first, difference))
    run.sent("labels", labels)
    answer = run.timed("evaluator then", lambda: evaluator.answer(labels))
    listed = client.read((run.sent("answers", masks), run.sent("answers", answer)))
    scores = matrix.astype(np.int64) @ query
    scores[excluded] = scores.min() - 1
    if list(listed) != np.argsort(-scores, kind="stable")[: terms.count].tolist():
        raise RuntimeError("a list is wrong")
    return run


def made_up(rows: int) -> tuple[NDArray[np.int16], NDArray[np.int64], list[int]]:
    """Return a matrix, a query that is as fine as can be, and rows that are excluded."""
    random = np.random.default_rng(rows)
    matrix, _ = quantised(random.standard_normal((rows, WIDTH)) * np.arange(1, WIDTH + 1) ** -0.5, MOST)
    terms = Selector(matrix, 1, 0).terms
    query, _ = finest(random.standard_normal(WIDTH), terms.longest, math.sqrt(terms.REACH))
    return matrix, query, random.choice(rows, EXCLUDED, replace=False).tolist()


def spread(seconds: list[float]) -> str:
    """Return the median and the range, in ms."""
    return f"{1e3 * np.median(seconds):.0f} ({1e3 * min(seconds):.0f}-{1e3 * max(seconds):.0f})"


if __name__ == "__main__":
    main()
