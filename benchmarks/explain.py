"""How often the ranges of ranks hold: the same people, trained again with fresh noise.

    python benchmarks/explain.py                                   # MovieLens-100K
    python benchmarks/explain.py shop=ratings.parquet --held-out 1000   # any data set, and what to call it

For people who took no part in training, the ten best items get the range that is meant to hold 80 % of repetitions.
Then the model is made again, from the counts on, with fresh noise, and the items' ranks are looked up.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from quality import console, machine, opened
from rich.box import SIMPLE_HEAD
from rich.table import Table
from scipy.sparse import csr_array

from discreet.data.interactions import Histories
from discreet.data.splitting import hold_out_people
from discreet.evaluation.tradeoff import fit_unbilled
from discreet.models.explanation import DRAWS, LEVEL, other_ranks, ranges_of, ranks_of
from discreet.models.recipe import Kind
from discreet.models.trained import Trained

EPSILONS = (1.0, 5.0)
KINDS: tuple[Kind, ...] = ("popularity", "subspace", "gram")
DEPTH, PEOPLE = 10, 60
GRAM_MOST = 4_000
"""Items above which ``gram`` is left out: inverting its matrix for every draw takes hours."""


@dataclass(frozen=True)
class Held:
    """What was said, and what happened.

    Attributes:
        within: share of ranks of repetitions that are in the range.
        better: share that are better than it.
        worse: share that are worse.
        width: median of highest less lowest rank.
        said: share of draws in which an item stays in the list.
        stayed: share of repetitions in which it did.
        personal: whether the model was more than counts.
    """

    within: float
    better: float
    worse: float
    width: float
    said: float
    stayed: float
    personal: bool


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", nargs="*", help="NAME=FILE of interactions; MovieLens-100K if none is given")
    parser.add_argument("--held-out", type=int, default=140, help="people held out of each split")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--repetitions", type=int, default=3, help="of each training")
    parser.add_argument("--epsilon", type=float, action="append", help="instead of all; may be repeated")
    arguments = parser.parse_args()
    console.print(
        f"{machine()}; {arguments.seeds} splits, {arguments.repetitions} trainings each, {DRAWS} draws of other noise; "
        f"ranges that are meant to hold {LEVEL:.0%}"
    )
    for name in arguments.data or [None]:
        histories = opened(name)
        splits = [hold_out_people(histories, arguments.held_out, seed) for seed in range(arguments.seeds)]
        table = Table(
            *("model", "epsilon", "within", "better", "worse", "width", "stays, said", "stayed"), box=SIMPLE_HEAD
        )
        for kind in KINDS:
            if kind == "gram" and len(histories.catalogue) > GRAM_MOST:
                continue
            for epsilon in arguments.epsilon or EPSILONS:
                found = [
                    repeated(split.train, split.fold_in[:PEOPLE], kind, epsilon, arguments.repetitions)
                    for split in splits
                ]
                table.add_row(kind, f"{epsilon:g}", *cells(found))
        console.print(table)
    console.print("within, better, worse: ranks of repetitions against the range; better and worse are outside it.")
    console.print("width: median of highest less lowest rank. (counts): no split's model was more than counts.")


def cells(found: Sequence[Held]) -> list[str]:
    """Return a line of the table: means over splits."""
    shares = [
        f"{np.mean([getattr(held, name) for held in found]):.1%}"
        for name in ("within", "better", "worse", "said", "stayed")
    ]
    width = f"{np.mean([held.width for held in found]):.1f}"
    counts = "" if any(held.personal for held in found) else " (counts)"
    return [shares[0] + counts, *shares[1:3], width, *shares[3:]]


def repeated(histories: Histories, known: csr_array, kind: Kind, epsilon: float, times: int) -> Held:
    """Train ``times``; hold each training's ranges against all the others' ranks."""
    runs = [fit_unbilled(histories, epsilon, kind) for _ in range(times)]
    pairs = [(run, [other for other in runs if other is not run]) for run in runs]
    found = [held_against(run, others, known) for run, others in pairs]
    means = {name: float(np.mean([held[name] for held in found])) for name in found[0]}
    return Held(**means, personal=any("encoder" in run.state or "weights" in run.state for run in runs))


def held_against(run: Trained, others: Sequence[Trained], known: csr_array) -> dict[str, float]:
    """Return the shares of ``Held`` for one training and its repetitions."""
    listed = best_of(run, known)
    drawn = other_ranks(run, known, listed)
    assert drawn is not None
    low, high = ranges_of(drawn)
    real = np.stack([ranks_of(other.scores(known), known, listed) for other in others])
    return {
        "within": float(((real >= low) & (real <= high)).mean()),
        "better": float((real < low).mean()),
        "worse": float((real > high).mean()),
        "width": float(np.median(high - low)),
        "said": float((drawn <= DEPTH).mean()),
        "stayed": float((real <= DEPTH).mean()),
    }


def best_of(run: Trained, known: csr_array) -> NDArray[np.int64]:
    """Return the ten best items of each person that they do not know, [people, 10]."""
    scores = run.scores(known)
    scores[known.nonzero()] = -np.inf
    return np.argsort(-scores, axis=1, kind="stable")[:, :DEPTH]


if __name__ == "__main__":
    main()
