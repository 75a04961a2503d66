"""A federation in one process against training in one place, at the same epsilon: quality, noise, bytes, CPU time.

    python benchmarks/federated.py shop=ratings.parquet:50 shop=ratings.parquet:0 --epsilon 1 2 5 --out docs

Each argument is NAME=FILE:PARTIES; 0 parties: everybody is one, and only two servers are tried. Writes
federated-measured.md into the folder ``--out``.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path

from quality import machine

from discreet import read_interactions
from discreet.evaluation.federation import WAYS, Federated, federate
from discreet.evaluation.tradeoff import PURPOSE

HELD_OUT, SPLITS, LOST = 1_000, 3, 0.1
"""People held out of each split, or 15 % if those are fewer; splits; and the share of parties lost in each sum."""

HEAD = """# Federated training, measured

Written by `benchmarks/federated.py`: what it printed. Recall@20 of people held out, mean and standard error over
{splits} splits; each way at the same epsilon, no colluders, {lost:.0%} of parties lost in each sum. Noise and bytes:
over central training, and over packed vectors. CPU time of all parties and servers of one run.

    python benchmarks/federated.py {arguments}
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", nargs="+", help="NAME=FILE:PARTIES")
    parser.add_argument("--epsilon", nargs="+", type=float, default=[1.0, 2.0, 5.0])
    parser.add_argument("--out", type=Path, help="folder for federated-measured.md")
    arguments = parser.parse_args()
    lines = []
    for line in measured(arguments.data, arguments.epsilon):
        print(line, flush=True)
        lines.append(line)
    if arguments.out:
        shown = " ".join(f"{name.partition('=')[0]}=...:{name.rpartition(':')[2]}" for name in arguments.data)
        head = HEAD.format(splits=SPLITS, lost=LOST, arguments=shown)
        (arguments.out / "federated-measured.md").write_text("\n".join([head, "```", *lines, "```\n"]))


def measured(data: Sequence[str], epsilons: Sequence[float]) -> Iterator[str]:
    """Yield a table for each data set and number of parties."""
    yield machine()
    for argument in data:
        name, _, rest = argument.partition("=")
        path, _, parties = rest.rpartition(":")
        histories = read_interactions(path, name=name, purposes=[PURPOSE]).opened_for(PURPOSE)
        held_out = min(HELD_OUT, int(0.15 * len(histories)))
        devices = int(parties) == 0
        many = len(histories) - held_out if devices else int(parties)
        who = "each person a party" if devices else f"{many:,} parties"
        yield f"\n{name}: {len(histories):,} people, {len(histories.catalogue):,} items, {who}"
        columns = f"{'noise':>8}{'ring':>6}{'kB up':>8}{'x packed':>10}{'CPU s':>8}"
        yield f"{'epsilon':<9}{'way':<13}{'recall@20':>16}{columns}"
        for epsilon in epsilons:
            ways = [way for way in WAYS if way != "secagg" or not devices]
            asked = {"epsilon": epsilon, "parties": many, "seeds": SPLITS, "held_out": held_out}
            for found in federate(histories, ways=ways, lost=0.0 if devices else LOST, **asked):  # type: ignore[arg-type]
                yield row(epsilon, found)


def row(epsilon: float, found: Federated) -> str:
    """Return a line of the table."""
    quality = f"{found.quality.mean:.4f} ±{found.quality.error:.4f}"
    masked = f"{found.bits:>6}{found.up / 1e3:>8,.0f}{found.up / found.packed:>10.3f}" if found.bits else " " * 24
    return f"{epsilon:<9g}{found.way:<13}{quality:>16}{found.noise:>8.2f}{masked}{found.seconds:>8.1f}"


if __name__ == "__main__":
    main()
