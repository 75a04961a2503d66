"""What levels of protection promise, what attackers achieve against each, and what they cost in quality.

    python benchmarks/levels.py                                   # MovieLens-100K
    python benchmarks/levels.py shop=ratings.parquet --held-out 1000   # any data set, and what to call it

The same data under several choices of level: everybody the same, a third each, and few at light among many at strong.
What is promised at a level is the same in all of them; what a half-informed attacker achieves is not.
"""

from __future__ import annotations

import argparse

from quality import console, machine, opened
from rich.box import SIMPLE_HEAD
from rich.table import Table

from discreet.data.interactions import Histories
from discreet.evaluation.ranking import Estimate
from discreet.evaluation.risk import risk_by_level
from discreet.privacy.levels import OFFERED, Level, Levels

EPSILONS = (1.0, 4.0)
FEW = 10
"""Of so many people, one is at light where few are."""


def main() -> None:
    """Print a table for each epsilon."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", nargs="?", help="NAME=FILE of interactions; MovieLens-100K if none is given")
    parser.add_argument("--held-out", type=int, default=280, help="people held out of each run")
    parser.add_argument("--seeds", type=int, default=8)
    arguments = parser.parse_args()
    console.print(f"{machine()}; {arguments.seeds} runs; ± Student's 95 % interval over runs")
    histories = opened(arguments.data)
    for epsilon in EPSILONS:
        show(histories, epsilon, arguments.held_out, arguments.seeds)


def choices(people: tuple[str | int, ...]) -> dict[str, Levels]:
    """Return who chooses what, by what it is called."""
    same = {f"everybody {level}": Levels({}, level) for level in reversed(OFFERED)}
    thirds = Levels({person: OFFERED[number % 3] for number, person in enumerate(people)})
    few = Levels(dict.fromkeys(people[::FEW], Level.LIGHT), Level.STRONG)
    return {**same, "a third each": thirds, f"one of {FEW} light, others strong": few}


def show(histories: Histories, epsilon: float, held_out: int, seeds: int) -> None:
    """Print what every choice comes to at one epsilon of light."""
    shown = Table(
        title=f"epsilon {epsilon:g} at light: times of 100, and recall@20", box=SIMPLE_HEAD, title_justify="left"
    )
    shown.add_column("choice")
    for name in ("level", "people", "epsilon", "promised: at most", "informed", "half-informed", "recall@20"):
        shown.add_column(name, justify="right")
    for choice, levels in choices(histories.people_ids).items():
        for each in risk_by_level(histories, levels, epsilon=epsilon, seeds=seeds, held_out=held_out):
            measured = (figure(each.informed, 100), figure(each.half_informed, 100), figure(each.quality, 1))
            promised = (f"{each.people:,}", f"{each.epsilon:.2f}", f"{100 * each.odds:.1f}")
            shown.add_row(choice, each.level, *promised, *measured)
    console.print(shown)


def figure(estimate: Estimate, scale: int) -> str:
    """Return the mean and half of its interval."""
    _, high = estimate.interval()
    digits = 1 if scale > 1 else 3
    return f"{scale * estimate.mean:.{digits}f} ±{scale * (high - estimate.mean):.{digits}f}"


if __name__ == "__main__":
    main()
