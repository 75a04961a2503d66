"""Quality against epsilon, beside floors, anchors and ceilings, in one run.

    python benchmarks/quality.py                                   # MovieLens-100K
    python benchmarks/quality.py shop=ratings.parquet --held-out 1000   # any data set, and what to call it

Strong generalisation: people held out, 80 % of each history folded in, the rest to be found in the whole catalogue.
User-level guarantee (add or remove one person), delta = min(1e-5, n^-1.1), every row counted as an interaction.
"""

from __future__ import annotations

import argparse
import math
import os
import platform
import time
from collections.abc import Sequence
from functools import partial

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from discreet import fetch, read_interactions
from discreet.data.interactions import Histories
from discreet.evaluation.ranking import METRICS, Protocol
from discreet.evaluation.tradeoff import PURPOSE, Row, tradeoff
from discreet.models.recipe import Kind

EPSILONS = (0.5, 1.0, 2.0, 5.0, 10.0)
PRIVATE: tuple[Kind, ...] = ("popularity", "als", "gram", "auto")
CEILINGS: tuple[Kind, ...] = ("popularity", "auto", "gram")
LABELS = {"auto": "recipe", "als": "DPALS", "gram": "gram/EASE"}

console = Console(width=140, highlight=False)


def machine() -> str:
    """Return what the figures were measured on."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return f"{platform.machine()}, {os.cpu_count()} cores, {memory:.0f} GiB, Python {platform.python_version()}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", nargs="*", help="NAME=FILE of interactions; MovieLens-100K if none is given")
    parser.add_argument("--held-out", type=int, default=140, help="people held out of each split")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--protocol", choices=tuple(METRICS), default="strong")
    parser.add_argument("--model", action="append", help="kinds of model instead of all; may be repeated")
    arguments = parser.parse_args()
    console.print(f"{machine()}; {arguments.seeds} splits; ± standard error of the mean over splits")
    for name in arguments.data or [None]:
        histories = opened(name)
        report(histories, arguments.held_out, arguments.seeds, arguments.protocol, arguments.model)


def opened(argument: str | None) -> Histories:
    """Return the histories of NAME=FILE, or of MovieLens-100K, opened for measuring."""
    if argument is None:
        data = read_interactions(fetch())
    else:
        name, _, path = argument.rpartition("=")
        data = read_interactions(path, name=name or None, purposes=[PURPOSE])
    console.print(f"\n{data.name}: {data.people:,} people, {data.items:,} items, {data.count:,} interactions")
    return data.opened_for(PURPOSE)


def report(histories: Histories, held_out: int, seeds: int, protocol: Protocol, kinds: Sequence[Kind] | None) -> None:
    """Print one table a metric, and what the fits took."""
    started = time.process_time()
    run = partial(tradeoff, histories, seeds=seeds, protocol=protocol, held_out=held_out)
    rows = run(epsilons=EPSILONS, kinds=kinds or PRIVATE) + run(epsilons=[math.inf], kinds=kinds or CEILINGS)
    for metric in METRICS[protocol]:
        console.print(table(rows, metric))
    console.print(f"{time.process_time() - started:.0f} s of CPU time for all fits and measurements")


def table(rows: Sequence[Row], metric: str) -> Table:
    """Return a line a kind of model, a column an epsilon."""
    made = Table(title=metric, title_justify="left", title_style="bold", box=SIMPLE_HEAD, pad_edge=False)
    for heading in ("model", *[f"eps {epsilon:g}" for epsilon in EPSILONS], "no privacy"):
        made.add_column(heading, no_wrap=True)
    for kind in dict.fromkeys(row.kind for row in rows):
        cells = {row.epsilon: row for row in rows if row.kind == kind}
        made.add_row(LABELS.get(kind, kind), *[cell(cells.get(value), metric) for value in (*EPSILONS, math.inf)])
    return made


def cell(row: Row | None, metric: str) -> str:
    """Return mean, standard error and, where the recipe chose, what it chose."""
    if row is None:
        return ""
    value = row.quality[metric]
    return f"{value.mean:.4f} ±{value.error:.3f}" + (f" {row.model[:3]}" if row.kind == "auto" else "")


if __name__ == "__main__":
    main()
