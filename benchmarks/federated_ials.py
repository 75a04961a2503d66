"""Federated iALS against iALS in one place, sweep by sweep, without noise; then with noise, beside other models.

    python benchmarks/federated_ials.py movielens-1m=ratings.parquet --epsilon 2 8 20 --out docs

Both start from the same factors and have the same ridge, so what differs is the step: preconditioned on 2 d + 1 numbers
an item, or solved exactly on d (d + 3) / 2. Printed: mean over splits and standard error. Writes
federated-ials-measured.md into the folder ``--out``.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pages import fenced
from quality import machine
from scipy.sparse import csr_array

from discreet import read_interactions
from discreet.data.splitting import Split
from discreet.evaluation.ranking import Estimate, measure
from discreet.evaluation.tradeoff import PURPOSE, planned_for, splits_of, tradeoff
from discreet.models.als import solve_people
from discreet.models.base import State
from discreet.models.ials import Ials
from discreet.models.recipe import Kind
from discreet.privacy.disclosure import disclose
from discreet.training.populations import Here, Work

METRIC = "recall@20"
KINDS: tuple[Kind, ...] = ("ials", "als", "subspace", "popularity")


HEAD = """# Federated iALS, measured

Written by `benchmarks/federated_ials.py`: what it printed. What it means: [federated training](federated.md).

"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", nargs="+", help="NAME=FILE")
    parser.add_argument("--epsilon", nargs="*", type=float, default=[])
    parser.add_argument("--seeds", type=int, default=3, help="how many splits")
    parser.add_argument("--held-out", type=int, default=1_000)
    parser.add_argument("--out", type=Path, help="folder for federated-ials-measured.md")
    arguments = parser.parse_args()
    lines = []
    for line in measured(arguments):
        print(line, flush=True)
        lines.append(line)
    if arguments.out:
        (arguments.out / "federated-ials-measured.md").write_text(HEAD + fenced(lines))


def measured(arguments: argparse.Namespace) -> Iterator[str]:
    """Yield what was found of each data set."""
    asked = {"seeds": arguments.seeds, "held_out": arguments.held_out}
    yield f"{machine()}; {arguments.seeds} splits, {arguments.held_out:,} people held out of each"
    for argument in arguments.data:
        name, _, path = argument.partition("=")
        histories = read_interactions(path, name=name, purposes=[PURPOSE]).opened_for(PURPOSE)
        yield f"\n{name}: {len(histories):,} people, {len(histories.catalogue):,} items; {METRIC}"
        found = [list(swept(split)) for split in splits_of(histories, **asked)]
        for sweep, pairs in enumerate(zip(*found, strict=True), 1):
            ours, theirs = (Estimate.over(values) for values in zip(*pairs, strict=True))
            yield f"without noise, {sweep} sweeps: ials {shown(ours)}, exact {shown(theirs)}"
        for row in tradeoff(histories, epsilons=arguments.epsilon, kinds=KINDS, **asked) if arguments.epsilon else []:
            yield f"epsilon {row.epsilon:g}, {row.kind}: {shown(row.quality[METRIC])}"


def shown(found: Estimate) -> str:
    return f"{found.mean:.4f} ±{found.error:.4f}"


def swept(split: Split) -> Iterator[tuple[float, float]]:
    """Yield the quality of both after each sweep."""
    model, plan = planned_for(split.train, math.inf, "ials")
    if not isinstance(model, Ials):
        raise TypeError("asked for iALS")
    state = exact = model.start()
    for number, bound in enumerate(plan.bounds):
        released = disclose(Here(split.train).map(Work(model, state, bound)), plan, number, spend=lambda _: None)
        exact = swept_exactly(model, split.train.matrix, exact) if number else model.step(state, released)
        state = model.step(state, released)
        if number:
            yield quality(model, state, split), quality(model, exact, split)


def quality(model: Ials, state: State, split: Split) -> float:
    return measure(lambda known: model.scores(known, state), split)[METRIC]


def swept_exactly(model: Ials, matrix: csr_array, state: State) -> State:
    """Return the state after people, then items, have solved for their factors; everything is kept."""
    share = float(state["typical"])
    ridge, unobserved = model.reg * share, model.unobserved * share
    people = solved(matrix, state["factors"], unobserved, ridge * matrix.shape[1])
    return state | {"factors": solved(csr_array(matrix.T.tocsr()), people, unobserved, ridge * matrix.shape[0])}


def solved(known: csr_array, factors: NDArray[np.float64], unobserved: float, ridge: float) -> NDArray[np.float64]:
    """Return a factor for each row of ``known`` [rows, columns], from those of the columns."""
    found = np.zeros((known.shape[0], factors.shape[1]))
    common = unobserved * factors.T @ factors
    solve_people(known.indptr, known.indices, np.arange(known.shape[1]), factors, common, ridge, found)
    return found


if __name__ == "__main__":
    main()
