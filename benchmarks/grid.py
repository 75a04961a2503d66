"""How fine the grid of noise and contributions has to be: quality at several p, for the choice of p = 12.

    python benchmarks/grid.py                                   # MovieLens-100K
    python benchmarks/grid.py shop=ratings.parquet --held-out 1000

The table of the real sampler exists for one p alone, so noise is drawn here as rounded floats, good enough to measure
quality and nothing else. The last column, p = 20, stands for no grid at all.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

import numpy as np
from quality import console, machine, opened
from rich.box import SIMPLE_HEAD
from rich.table import Table

from discreet.data.splitting import Split, hold_out_people
from discreet.evaluation.ranking import Estimate, measure
from discreet.models.recipe import recipe
from discreet.privacy.accounting import GRID_BITS, cap, default_delta
from discreet.privacy.disclosure import Disclosed

BITS = (6, 8, 10, 12, 14, 16, 20)
EPSILONS = (1.0, 5.0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", nargs="?", help="NAME=FILE of interactions; MovieLens-100K if none is given")
    parser.add_argument("--held-out", type=int, default=140)
    parser.add_argument("--seeds", type=int, default=6)
    arguments = parser.parse_args()
    histories = opened(arguments.data)
    splits = [hold_out_people(histories, arguments.held_out, seed) for seed in range(arguments.seeds)]
    console.print(f"{machine()}; {arguments.seeds} splits; the same noise at each p; ± standard error")
    table = Table("recall@20", *[f"p = {bits}" for bits in BITS], box=SIMPLE_HEAD, pad_edge=False)
    for epsilon in EPSILONS:
        table.add_row(f"epsilon {epsilon:g}", *[cell(splits, epsilon, bits) for bits in BITS])
    console.print(table)


def cell(splits: Sequence[Split], epsilon: float, bits: int) -> str:
    values = [recall(split, epsilon, bits, seed) for seed, split in enumerate(splits)]
    estimate = Estimate.over(values)
    return f"{estimate.mean:.4f} ±{estimate.error:.4f}"


def recall(split: Split, epsilon: float, bits: int, seed: int) -> float:
    """Train as the product does, with bounds and noise moved to a grid of 2^bits."""
    people, items = split.train.matrix.shape
    delta = default_delta(people)
    tagged = split.train.catalogue.tagged
    model, plan = recipe(people, items, cap(epsilon, delta), delta=delta, tagged=tagged)
    rng = np.random.default_rng(seed)
    state = model.start(split.train.catalogue.tag_matrix)
    for bound in plan.bounds:
        scaled = max(1, round(bound * 2.0 ** (bits - GRID_BITS)))
        total = model.summed(split.train.matrix, state, scaled).total
        noise = np.rint(2.0**bits * rng.standard_normal(total.size)).astype(np.int64)
        state = model.step(state, Disclosed(total + noise, scaled, 2.0**bits, secure=False))
    return measure(lambda rows: model.scores(rows, state), split)["recall@20"]


if __name__ == "__main__":
    main()
