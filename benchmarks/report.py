"""Run the benchmarks and write what they print into docs/benchmarks.md: figures there are never typed.

    python benchmarks/report.py movielens-1m=ratings.parquet:1000 ... --ncf ratings.parquet negatives.parquet
    python benchmarks/report.py movielens-1m=ratings.parquet,items.parquet:1000 --only speed --only peers

Each argument is NAME=FILE:PEOPLE, PEOPLE being how many are held out; or NAME=FILE,ITEMS:PEOPLE with a file of items.
MovieLens-100K comes first, with 140. With ``--only`` whatever else is on the page stays as it is; without it the page
is written anew.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from pages import blocks_of, fenced, write

HERE = Path(__file__).parent
PAGE = HERE.parent / "docs/benchmarks.md"
COMMAND = "    python benchmarks/"
SECTIONS = ("references", "quality", "levels", "explain", "grid", "speed", "peers")
HEAD = """# Measured figures

Written by `benchmarks/report.py`: each block is what the command above it printed. Quality is over the whole catalogue,
on people who took no part in training (or, leave one out, on each person's last item). The splits of one data set
overlap, so intervals over splits are a little too narrow. "gram/EASE" is `gram`; without noise it is EASE. iALS is
`implicit`'s, without privacy, with settings chosen on splits that are not reported; of it and EASE the better is the
ceiling against which the share of the gain is reckoned. "recipe, tags" is the recipe where the catalogue describes its
items, by genre and decade; every other row does without. The data sets are not part of this repository: their terms do
not allow it.
"""

SEEDS_OF_FEW = "9"
"""Splits of MovieLens-100K: with so few people held out, three leave models a tenth apart in the noise."""

Command = tuple[str, ...]
"""A script and its arguments."""


def main() -> None:
    """Write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", nargs="*", help="NAME=FILE[,ITEMS]:PEOPLE")
    parser.add_argument("--only", action="append", choices=SECTIONS, help="sections to make anew; may be repeated")
    parser.add_argument("--ncf", nargs=2, metavar=("INTERACTIONS", "NEGATIVES"), help="as in references.py")
    parser.add_argument("--gowalla", metavar="INTERACTIONS", help="as in references.py")
    arguments = parser.parse_args()
    wanted = arguments.only or SECTIONS
    blocks = blocks_of(PAGE, COMMAND) if arguments.only else {}
    for command in commands(arguments.data, arguments.ncf, arguments.gowalla):
        if command[0] in wanted:
            blocks[line_of(command)] = made(command)
            write(PAGE, HEAD, blocks.values(), lambda block: SECTIONS.index(section_of(block)))


def commands(data: Sequence[str], ncf: Sequence[str] | None, gowalla: str | None) -> list[Command]:
    """Return what there is to run, in the order of the page."""
    others = [argument.rpartition(":")[::2] for argument in data]
    reference = (("--ncf", *ncf) if ncf else ()) + (("--gowalla", gowalla) if gowalla else ())
    listed: list[Command] = [("references", *reference)] if reference else []
    listed.append(("quality", "--held-out", "140", "--seeds", SEEDS_OF_FEW))
    listed += [("quality", name, "--held-out", people) for name, people in others]
    listed.append(("quality", "--protocol", "leave-one-out"))
    listed += [("levels",), *[("levels", name, "--held-out", people) for name, people in others[:1]]]
    listed += [("explain",), *[("explain", name, "--held-out", people) for name, people in others]]
    listed += [("grid", name, "--held-out", people) for name, people in others[:1]]
    listed += [("speed",), *[("speed", name) for name, _ in others[:1]]]
    listed += [("peers",), *[("peers", name) for name, _ in others]]
    return listed


def section_of(block: str) -> str:
    """Return which section a block is of."""
    return block.removeprefix(COMMAND).partition(".py")[0]


def made(command: Command) -> str:
    """Run a benchmark; return its output under the command, without where the data lay."""
    script, *arguments = command
    print(line_of(command).strip(), flush=True)
    run = [sys.executable, str(HERE / f"{script}.py"), *arguments]
    done = subprocess.run(run, capture_output=True, text=True, check=True)
    return f"{line_of(command)}\n\n{fenced(done.stdout.strip().splitlines())}"


def line_of(command: Command) -> str:
    """Return what stands above a block."""
    script, *arguments = command
    return COMMAND + " ".join([f"{script}.py", *map(without_place, arguments)])


def without_place(argument: str) -> str:
    """Return an argument as it may be shown: a file stays what it is called, not where it lies."""
    name, equals, _ = argument.partition("=")
    return name + "=..." if equals else Path(argument).name if "/" in argument else argument


if __name__ == "__main__":
    main()
