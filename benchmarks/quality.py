"""Quality against epsilon, beside floors, anchors and ceilings, in one run.

    python benchmarks/quality.py                                   # MovieLens-100K
    python benchmarks/quality.py shop=ratings.parquet --held-out 1000   # any data set, and what to call it
    python benchmarks/quality.py shop=ratings.parquet,items.parquet     # and what its items' tags are

Strong generalisation: people held out, 80 % of each history folded in, the rest to be found in the whole catalogue.
User-level guarantee (add or remove one person), delta = min(1e-5, n^-1.1), every row counted as an interaction.
"""

from __future__ import annotations

import argparse
import math
import os
import platform
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

import ials
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from discreet import fetch, read_interactions
from discreet.data.catalogue import Catalogue
from discreet.data.datasets import with_decades
from discreet.data.intake import read_catalogue
from discreet.data.interactions import Histories
from discreet.data.splitting import Split
from discreet.evaluation.ranking import METRICS, Estimate, Protocol, gain_kept, measure
from discreet.evaluation.tradeoff import PURPOSE, Row, splits_of, tradeoff
from discreet.models.recipe import Kind

EPSILONS = (0.5, 1.0, 2.0, 5.0, 10.0)
PRIVATE: tuple[Kind, ...] = ("popularity", "als", "als-adaptive", "sgd", "gram", "subspace", "auto")
CEILINGS: tuple[Kind, ...] = ("popularity", "auto", "gram")
LABELS = {
    "auto": "recipe",
    "als": "DPALS",
    "als-adaptive": "DPALS, adaptive",
    "sgd": "DP-SGD",
    "gram": "gram/EASE",
}
TAGGED = "recipe, tags"
IALS = "iALS"
EASE_MOST = 12_000
"""Items above which EASE's dense inverse is left out: then iALS alone is the ceiling."""

Cells = dict[float, dict[str, Estimate]]
Lines = dict[str, Cells]
"""By what is measured, epsilon and metric."""

console = Console(width=140, highlight=False)


def machine() -> str:
    """Return what the figures were measured on."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return f"{platform.machine()}, {os.cpu_count()} cores, {memory:.0f} GiB, Python {platform.python_version()}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "data", nargs="*", help="NAME=FILE of interactions, or NAME=FILE,FILE with one of items; else MovieLens-100K"
    )
    parser.add_argument("--held-out", type=int, default=140, help="people held out of each split")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--protocol", choices=tuple(METRICS), default="strong")
    parser.add_argument("--model", action="append", help="kinds of model instead of all; may be repeated")
    arguments = parser.parse_args()
    console.print(
        f"{machine()}; {arguments.seeds} splits; ± standard error over splits, below it Student's 95 % interval"
    )
    for name in arguments.data or [None]:
        histories = opened(name)
        report(histories, arguments.held_out, arguments.seeds, arguments.protocol, arguments.model)


def opened(argument: str | None) -> Histories:
    """Return the histories of NAME=FILE[,ITEMS], or of MovieLens-100K, opened for measuring."""
    name, _, paths = (argument or f"={fetch()}").rpartition("=")
    path, _, items = paths.partition(",")
    data = read_interactions(path, name=name or None, purposes=[PURPOSE])
    console.print(f"\n{data.name}: {data.people:,} people, {data.items:,} items, {data.count:,} interactions")
    histories = data.opened_for(PURPOSE)
    return described(histories, with_decades(read_catalogue(items))) if items else histories


def described(histories: Histories, items: Catalogue) -> Histories:
    """Return the histories with the tags that ``items`` has of theirs: the columns stay the same."""
    tags_of = dict(zip(items.ids, items.tags or (), strict=True))
    tags = tuple(tags_of.get(item, ()) for item in histories.catalogue.ids)
    return replace(histories, catalogue=replace(histories.catalogue, tags=tags))


def report(histories: Histories, held_out: int, seeds: int, protocol: Protocol, kinds: Sequence[Kind] | None) -> None:
    """Print one table a metric, what share of the gain is kept, and what took how long.

    Tags are left out but in one row: what they are worth is what it is above the row without. Where the recipe takes a
    model that reads no tags, it is the same run.
    """
    clock = Clock()
    splits = splits_of(histories, seeds=seeds, protocol=protocol, held_out=held_out)
    plain = replace(histories, catalogue=replace(histories.catalogue, tags=None))
    run = partial(tradeoff, seeds=seeds, protocol=protocol, held_out=held_out, progress=clock)
    open_ones = [kind for kind in kinds or CEILINGS if kind != "gram" or len(histories.catalogue) <= EASE_MOST]
    rows = run(plain, epsilons=EPSILONS, kinds=kinds or PRIVATE) + run(plain, epsilons=[math.inf], kinds=open_ones)
    lines = lines_of(rows)
    if histories.catalogue.tagged and "auto" in (kinds or PRIVATE):
        reading = [row.epsilon for row in rows if (row.kind, row.model, row.private) == ("auto", "subspace", True)]
        told = lines_of(run(histories, epsilons=reading)) if reading else {}
        lines[TAGGED] = {row.epsilon: row.quality for row in rows if row.kind == "auto" and row.private}
        lines[TAGGED] |= told.get(LABELS["auto"], {})
    if kinds is None:
        clock(IALS)
        lines |= peer(histories.dataset, splits, protocol)
    clock("")
    for metric in METRICS[protocol]:
        console.print(table(metric, lines, partial(figure, metric)))
    if math.inf in lines.get("popularity", {}):
        show_shares(lines, METRICS[protocol][0])
    chosen = {f"{row.epsilon:g}": row.model for row in rows if row.kind == "auto"}
    console.print("the recipe's choice: " + ", ".join(f"{model} at {epsilon}" for epsilon, model in chosen.items()))
    console.print(f"CPU seconds, fits and measurements: {clock}")


class Clock:
    """Adds up CPU seconds by what is being done: told at each start, until the next."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self.doing, self.since = "", time.process_time()

    def __call__(self, doing: str) -> None:
        now = time.process_time()
        if self.doing:
            self.seconds[self.doing] = self.seconds.get(self.doing, 0.0) + now - self.since
        kind, _, epsilon = doing.partition(" at epsilon ")
        self.doing = LABELS.get(kind, kind) + (" without noise" if epsilon.startswith("inf") else "")
        self.since = now

    def __str__(self) -> str:
        return ", ".join(f"{name} {seconds:.0f}" for name, seconds in self.seconds.items())


def lines_of(rows: Sequence[Row]) -> Lines:
    """Return the rows of the trade-off, by kind and epsilon."""
    lines: Lines = {}
    for row in rows:
        lines.setdefault(LABELS.get(row.kind, row.kind), {})[row.epsilon] = row.quality
    return lines


def peer(dataset: str, splits: Sequence[Split], protocol: Protocol) -> Lines:
    """Return iALS without privacy on the same splits; nothing if it is not installed."""
    if not ials.available():
        console.print(ials.MISSING)
        return {}
    settings = ials.TUNED.get(dataset, ials.UNTUNED)
    console.print(f"{IALS}: {settings}" + ("" if dataset in ials.TUNED else "; not tuned for this data set"))
    found = [measure(ials.score_of(split.train.matrix, settings), split, protocol) for split in splits]
    return {IALS: {math.inf: {name: Estimate.over(run[name] for run in found) for name in METRICS[protocol]}}}


def show_shares(lines: Lines, metric: str) -> None:
    """Print which share of the gain over popularity that the best model without privacy makes is kept."""
    open_ones = {name: cells[math.inf][metric] for name, cells in lines.items() if math.inf in cells}
    best = max(open_ones, key=lambda name: open_ones[name].mean)
    kept = partial(gain_kept, floor=open_ones["popularity"], ceiling=open_ones[best])
    console.print(
        f"share of the gain over popularity that is kept, {metric}; 100 % is {best} without privacy", style="bold"
    )
    console.print(table("", lines, lambda quality: percentage(kept(quality[metric]))))


def table(title: str, lines: Lines, cell: Callable[[dict[str, Estimate]], str]) -> Table:
    """Return a row a kind of model, a column an epsilon."""
    made = Table(title=title or None, title_justify="left", title_style="bold", box=SIMPLE_HEAD, pad_edge=False)
    for heading in ("model", *[f"eps {epsilon:g}" for epsilon in EPSILONS], "no privacy"):
        made.add_column(heading, no_wrap=True)
    for name, cells in lines.items():
        made.add_row(name, *[cell(cells[value]) if value in cells else "" for value in (*EPSILONS, math.inf)])
    return made


def figure(metric: str, quality: dict[str, Estimate]) -> str:
    """Return mean, standard error and, below, the 95 % interval."""
    value = quality[metric]
    if value.seeds < 2:
        return f"{value.mean:.4f}"
    low, high = value.interval()
    return f"{value.mean:.4f} ±{value.error:.4f}\n{max(low, 0):.3f} to {high:.3f}"


def percentage(value: Estimate) -> str:
    """Return the mean and the standard error as per cent."""
    return f"{value.mean:.0%}" + (f" ±{value.error:.0%}" if value.seeds > 1 else "")


if __name__ == "__main__":
    main()
