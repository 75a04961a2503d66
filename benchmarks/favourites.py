"""How well lists of what most people chose are found, whole people protected: picked, or read off noisy counts.

    python benchmarks/favourites.py --out docs

On MovieLens-100K, at several prices. Writes favourites-measured.md into the folder ``--out``.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from pages import printed
from quality import machine, opened

from discreet.data.interactions import Rows
from discreet.evaluation.counting import summing
from discreet.evaluation.favourites import behind_at_most, cohort_rows
from discreet.models.popularity import Popularity
from discreet.privacy.accounting import cap, default_delta
from discreet.privacy.adjacency import Adjacency
from discreet.privacy.disclosure import disclose
from discreet.privacy.plan import Plan

UNIT = Adjacency.ADD_OR_REMOVE_PERSON
EPSILONS, LISTED, RUNS = (0.25, 0.5, 1.0, 2.0, 4.0), 10, 200

HEAD = """# Favourites, measured

Written by `benchmarks/favourites.py`: what it printed. Lists of {n} for all people of MovieLens-100K, {runs} a row,
whole people protected, at the same price. *Picked*: `discreet data favourites`. *Counts*: the same budget spent on
noisy counts, in which each person has a vector of length 1, as in the first round of a model; the largest are listed.
*Hits*: the share of the true {n} that is listed, mean and 5th percentile. *Short*: by how much fewer people chose what
is listed than the true {n}. *Within*: what the command says of how far behind a pick may be, in people. Randomness is
secret, so a run differs from another. What it is: [levels](levels.md).

    python benchmarks/favourites.py
"""


def main() -> None:
    printed(__doc__, "favourites-measured.md", HEAD.format(n=LISTED, runs=RUNS), table())


def table() -> Iterator[str]:
    """Yield a line a price."""
    histories = opened(None)
    matrix, delta = histories.matrix, default_delta(len(histories))
    counts = np.asarray(matrix.sum(axis=0)).ravel().astype(np.int64)
    yield f"{machine()}; {matrix.shape[0]:,} people, {matrix.shape[1]:,} items, delta {delta:.1e}"
    yield ""
    yield f"{'epsilon':>8}{'picked: hits':>20}{'short':>8}{'within':>8}{'counts: hits':>20}{'short':>8}"
    for epsilon in EPSILONS:
        units = cap(epsilon, delta)
        plan = Plan.selecting(units, LISTED, 1, delta=delta, adjacency=UNIT)
        one = told(counts, [picked(matrix, plan) for _ in range(RUNS)])
        two = told(counts, [largest(matrix, summing(units, delta, UNIT)) for _ in range(RUNS)])
        within = behind_at_most(plan, matrix.shape[1])
        yield f"{epsilon:>8g}{one[0]:>20}{one[1]:>8}{within:>8,.0f}{two[0]:>20}{two[1]:>8}"


def picked(matrix: Rows, plan: Plan) -> NDArray[np.int64]:
    """Return a list that is picked."""
    rows = cohort_rows(matrix, np.zeros(matrix.shape[0], np.int64), 1)
    return disclose([rows], plan, 0, spend=unbilled).total


def largest(matrix: Rows, plan: Plan) -> NDArray[np.int64]:
    """Return the largest of noisy counts."""
    model = Popularity(items=matrix.shape[1])
    released = disclose([model.summed(matrix, model.start(), plan.bounds[0])], plan, 0, spend=unbilled)
    return np.argsort(-released.total, kind="stable")[:LISTED]


def told(counts: NDArray[np.int64], lists: list[NDArray[np.int64]]) -> tuple[str, str]:
    """Return hits, and how far short, of lists."""
    best = np.argsort(-counts, kind="stable")[:LISTED]
    hits = [len({*best.tolist()} & {*found.tolist()}) / LISTED for found in lists]
    short = np.mean([1 - counts[found].sum() / counts[best].sum() for found in lists])
    return f"{np.mean(hits):.3f} ({np.quantile(hits, 0.05):.2f})", f"{short:.1%}"


def unbilled(units: int) -> None:
    """Take no notice: this is public data."""


if __name__ == "__main__":
    main()
