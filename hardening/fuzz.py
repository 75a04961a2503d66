"""Feed a parser a great many inputs, guided by what they reach in it. Ends at the first that breaks the property.

    python hardening/fuzz.py all --runs 1000000
    python hardening/fuzz.py model --runs 10000 --json

A search begins with the corpus and changes inputs within their container (`mutations.py`); the property is that of
`targets.py`, and that no input takes more than ten seconds or two gigabytes. What broke something is left in the
folder `found`; once it is mended, it belongs to the corpus.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import re
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path

HERE = Path(__file__).parent
KERNELS = [
    "discreet.privacy.mechanisms.gaussian",
    *(f"discreet.models.{name}" for name in ("als", "gram", "ials", "sgd", "subspace")),
]
"""Compiled in parts: what is instrumented cannot be."""
SECONDS, MEGABYTES, LONGEST = 10, 2_048, 65_536


@dataclass(frozen=True)
class Outcome:
    """What a search came to: inputs that were fed, seconds that took, and whether one of them broke the property."""

    target: str
    inputs: int
    seconds: float
    broken: bool

    def __str__(self) -> str:
        rate = self.inputs / max(self.seconds, 1e-9)
        found = "something broke" if self.broken else "nothing broke"
        return f"fuzz: {self.target}: {self.inputs:,} inputs, {rate:,.0f}/s, {found}"


def search(name: str) -> None:
    """Search, in this process, which ends with it."""
    import atheris

    with atheris.instrument_imports(include=["discreet"], exclude=KERNELS, enable_loader_override=False):
        import targets
    target = targets.TARGETS[name]

    def mutate(content: bytes, longest: int, seed: int) -> bytes:
        draw = random.Random(seed)
        changed = atheris.Mutate(content, longest) if draw.randrange(4) == 0 else target.mutate(content, draw)
        return bytes(changed)[:longest]

    atheris.Setup([sys.argv[0], *sys.argv[3:]], target.run, custom_mutator=mutate)
    atheris.Fuzz()


def searched(name: str, runs: int, seed: int, seconds: int) -> Outcome:
    """Search in a process of its own."""
    found = Path("found")
    found.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as kept:
        limits = [
            f"-timeout={SECONDS}",
            f"-rss_limit_mb={MEGABYTES}",
            f"-max_len={LONGEST}",
            f"-max_total_time={seconds}",
        ]
        where = [f"-artifact_prefix={found}/{name}-", kept, str(HERE / "corpus" / name)]
        command = [sys.executable, __file__, "--search", name, f"-runs={runs}", f"-seed={seed}", *limits, *where]
        began = time.monotonic()
        environment = os.environ | {"POLARS_MAX_THREADS": "1", "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
        made = subprocess.run(command, env=environment, check=False, capture_output=True, text=True, errors="replace")
        took = time.monotonic() - began
    counts = re.findall(r"^(?:#|Done )(\d+)", made.stderr, re.MULTILINE)
    broken = made.returncode != 0
    if broken:
        lines = (made.stdout + made.stderr).splitlines()
        sys.stderr.write("\n".join(line for line in lines if not line.startswith(("#", "INFO", "WARNING"))) + "\n")
    return Outcome(name, int(counts[-1]) if counts else 0, round(took, 1), broken)


def main() -> int:
    """Run the command."""
    if sys.argv[1:2] == ["--search"]:
        search(sys.argv[2])
    names = sorted(each.name for each in (HERE / "corpus").iterdir() if each.is_dir())
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("target", nargs="+", choices=["all", *names])
    parser.add_argument("--runs", type=int, default=1_000_000, help="inputs for each target")
    parser.add_argument("--seconds", type=int, default=0, help="stop a target after so long; 0: never")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", action="store_true", help="one JSON object at the end")
    asked = parser.parse_args()
    outcomes = []
    for name in names if "all" in asked.target else asked.target:
        outcomes.append(searched(name, asked.runs, asked.seed, asked.seconds))
        sys.stderr.write(f"{outcomes[-1]}\n")
    inputs, broken = sum(each.inputs for each in outcomes), sum(each.broken for each in outcomes)
    if asked.json:
        print(json.dumps({"inputs": inputs, "broken": broken, "targets": [asdict(each) for each in outcomes]}))
    else:
        print(f"fuzz: {len(outcomes)} parsers, {inputs:,} inputs, {broken} broken")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
