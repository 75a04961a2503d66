"""What attacks achieve with and without privacy.

    python benchmarks/attacks.py shop=ratings.parquet shop2=ratings.parquet,people.parquet --out docs

    python benchmarks/attacks.py --sums shop=ratings.parquet --out docs

Each argument is NAME=FILE of interactions, or NAME=FILE,PEOPLE with a file of people that has the columns user_id,
gender and age. Writes attacks-measured.md into the folder ``--out``. What without noise takes long is tried less often:
there every trial comes out the same. What a federation's sums tell is measured on the data sets of ``--sums``, and goes
to sums-measured.md.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import polars as pl
from quality import machine

from discreet import read_interactions
from discreet.data.interactions import Histories
from discreet.evaluation.attacks.attributes import attribute_inference
from discreet.evaluation.attacks.differencing import differencing
from discreet.evaluation.attacks.extraction import extraction
from discreet.evaluation.attacks.figures import Figure, Service
from discreet.evaluation.attacks.linkage import Sweep, linkage, update
from discreet.evaluation.attacks.membership import through_lists, white_box
from discreet.evaluation.attacks.poisoning import poisoning
from discreet.evaluation.attacks.repetition import averaged_noise, repeated_questions
from discreet.evaluation.attacks.running import Attack
from discreet.evaluation.attacks.temporal import cosines, temporal_inference
from discreet.evaluation.attacks.timing import timing
from discreet.evaluation.tradeoff import PURPOSE

EPSILONS = (math.inf, 8.0, 1.0)
YOUNG = 35
"""Age from which somebody is of the older of two bands."""

HEAD = """# Attacks, measured

Written by `benchmarks/attacks.py`: what it printed. What it means: [attacks.md](attacks.md). Intervals are at 95 %:
Clopper and Pearson's of shares, Student's of means over runs or people, normal ones of balanced accuracy.

    python benchmarks/attacks.py {arguments}
"""

HEAD_OF_SUMS = """# What sums tell, measured

Written by `benchmarks/attacks.py`: what it printed. What it means: [federated.md](federated.md). Intervals are
Student's, at 95 %: over cohorts (linkage), over runs of a hundred trials (update).

    python benchmarks/attacks.py --sums {arguments}
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", nargs="*", help="NAME=FILE or NAME=FILE,PEOPLE")
    parser.add_argument("--sums", nargs="*", default=[], help="NAME=FILE: what a federation's sums tell")
    parser.add_argument("--seed", type=int, default=0, help="of the attackers' choices; noise has none")
    parser.add_argument("--out", type=Path, help="folder for the pages")
    arguments = parser.parse_args()
    if arguments.data:
        write(
            HEAD, measured(arguments.data, arguments.seed, table), arguments.data, arguments.out, "attacks-measured.md"
        )
    if arguments.sums:
        lines = measured(arguments.sums, arguments.seed, table_of_sums)
        write(HEAD_OF_SUMS, lines, arguments.sums, arguments.out, "sums-measured.md")


def write(head: str, lines: Iterator[str], data: list[str], out: Path | None, page: str) -> None:
    """Print lines as they come; then write the page."""
    printed: list[str] = []
    for each in lines:
        print(each, flush=True)
        printed.append(each)
    if out:
        shown = " ".join(name.partition("=")[0] + "=..." for name in data)
        (out / page).write_text("\n".join([head.format(arguments=shown), "```", *printed, "```\n"]))


def measured(data: list[str], seed: int, made: Callable[[Histories, str, int], Iterator[str]]) -> Iterator[str]:
    """Yield a table for each data set."""
    yield f"{machine()}; seed {seed} of the attackers' choices, noise is fresh"
    for argument in data:
        name, _, paths = argument.partition("=")
        path, _, people = paths.partition(",")
        histories = read_interactions(path, name=name, purposes=[PURPOSE]).opened_for(PURPOSE)
        people_and_items = f"{len(histories):,} people, {len(histories.catalogue):,} items"
        yield f"\n{name}: {people_and_items}, {histories.matrix.nnz:,} choices"
        yield f"{'epsilon':<8}{'attack':<13}{'what':<77}{'found':>6}{'95 %':>16}{'chance':>8}{'trials':>7}"
        yield from made(histories, people, seed)


def table(histories: Histories, people: str, seed: int) -> Iterator[str]:
    """Yield a line a figure."""
    start = time.process_time()
    for epsilon in EPSILONS:
        service = Service(histories, epsilon, seed=seed)
        for attack in [*attacks(epsilon), *attribute_attacks(people)]:
            yield from map(line, attack(service))
    yield f"CPU seconds: {time.process_time() - start:.0f}"


def table_of_sums(histories: Histories, people: str, seed: int) -> Iterator[str]:
    """Yield a line a figure."""
    del people
    start, sweep = time.process_time(), Sweep.last_of(histories)
    for epsilon in EPSILONS:
        service = Service(histories, epsilon, seed=seed)
        yield from map(line, linkage(service, draws=20, sweep=sweep))
        yield from map(line, update(service, runs=16, sweep=sweep))
    yield f"CPU seconds: {time.process_time() - start:.0f}"


def attacks(epsilon: float) -> Iterator[Attack]:
    """Yield what is done at an epsilon."""
    private = math.isfinite(epsilon)
    yield partial(white_box, runs=8 if private else 2, asked=100 if private else 20)
    yield partial(through_lists, runs=16 if private else 8)
    yield partial(temporal_inference, trials=200 if private else 20)
    if private:
        yield partial(temporal_inference, trials=40, moving=10)
    else:
        for moving in (0, 10, 100):
            yield partial(exact_cosines, moving=moving)
    yield partial(differencing, trials=40 if private else 3)
    if private:
        yield partial(differencing, trials=5, reused=True)
    yield partial(poisoning, targets=5 if private else 3)
    yield repeated_questions
    if private:
        yield averaged_noise
    yield timing
    yield extraction


def exact_cosines(service: Service, moving: int) -> list[Figure]:
    """Return what the attack finds on exact item-item cosines, as in the paper."""
    figures = temporal_inference(service, trials=60, moving=moving, lists=cosines)
    return [Figure(**(vars(figure) | {"what": f"cosines, {figure.what}"})) for figure in figures]


def attribute_attacks(people: str) -> Iterator[Attack]:
    """Yield one for gender and one for age, if there is a file of people."""
    if people:
        frame = pl.read_parquet(people)
        ids = frame["user_id"].to_list()
        yield partial(
            attribute_inference, attribute=dict(zip(ids, frame["gender"].to_list(), strict=True)), name="gender"
        )
        bands = ["older" if age >= YOUNG else "younger" for age in frame["age"].to_list()]
        yield partial(attribute_inference, attribute=dict(zip(ids, bands, strict=True)), name="age")


def line(figure: Figure) -> str:
    """Return a line of the table."""
    epsilon = f"{figure.epsilon:g}" if math.isfinite(figure.epsilon) else "none"
    interval = f"{figure.low:.3f} to {figure.high:.3f}" if math.isfinite(figure.low) else ""
    chance = f"{figure.chance:.3f}" if math.isfinite(figure.chance) else ""
    shown = f"{epsilon:<8}{figure.attack:<13}{figure.what:<77}"
    return f"{shown}{figure.value:>6.3f}{interval:>16}{chance:>8}{figure.trials:>7}"


if __name__ == "__main__":
    main()
