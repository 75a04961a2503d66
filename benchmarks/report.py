"""Run the benchmarks and write what they print into docs/benchmarks.md: figures there are never typed.

    python benchmarks/report.py movielens-1m=ratings.parquet:1000 ...

Each argument is NAME=FILE:PEOPLE, PEOPLE being how many are held out. MovieLens-100K comes first, with 140.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
PAGE = HERE.parent / "docs/benchmarks.md"
HEAD = """# Measured figures

Written by `benchmarks/report.py`: each block is what the command above it printed. Quality is over the whole catalogue,
on people who took no part in training (or, leave one out, on each person's last item). "gram/EASE" is `gram`; without
noise it is EASE. Behind the recipe's figures stands what it chose: pop(ularity) or sub(space). The data sets are not
part of this repository: their terms do not allow it.
"""


def main() -> None:
    """Write the page."""
    others = [argument.rpartition(":") for argument in sys.argv[1:]]
    sections = [HEAD, section("quality.py", "--held-out", "140")]
    sections += [section("quality.py", data, "--held-out", people) for data, _, people in others]
    sections.append(section("quality.py", "--protocol", "leave-one-out"))
    sections += [section("grid.py", data, "--held-out", people) for data, _, people in others[:1]]
    sections += [section("speed.py", *data) for data in ([], [others[0][0]] if others else [])]
    PAGE.write_text("\n".join(sections))


def section(script: str, *arguments: str) -> str:
    """Run a benchmark; return its output under the command, without where the data lay."""
    shown = " ".join(argument.partition("=")[0] + "=..." if "=" in argument else argument for argument in arguments)
    print(f"{script} {shown}", flush=True)
    done = subprocess.run([sys.executable, str(HERE / script), *arguments], capture_output=True, text=True, check=True)
    return f"    python benchmarks/{script} {shown}\n\n```\n{done.stdout.strip()}\n```\n"


if __name__ == "__main__":
    main()
