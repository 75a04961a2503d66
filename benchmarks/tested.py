"""Run what tests the product and write what it counted into docs/how-it-is-tested.md: figures there are never typed.

    python benchmarks/tested.py                     # all of it: an hour, most of it for mutants
    python benchmarks/tested.py tests bandit        # these alone; the rest of the page stays as it is
    python benchmarks/tested.py --stored            # the page anew, from the results that are in `measured`

A command's result is one JSON object: the last line that it prints, unless `Evidence.read` finds it elsewhere. It is
kept in the folder `measured`, which is not part of the repository, with the day and the commit. Another command is
another line in `EVIDENCE`.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pages import blocks_of, fenced, write

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs/how-it-is-tested.md"
MEASURED = ROOT / "measured"
MARK = "## "
HEAD = """# How it is tested

Written by `benchmarks/tested.py`: each block is what the command above it counted, on the day and at the commit that it
names. A block is made anew with the word in brackets behind its title: `python benchmarks/tested.py tests`.

Among the tests are the proofs', each of which is signed for the code that it was read with (`tests/test_proofs.py`),
bugs that are planted in the product and have to be caught ([audits](audit.md)), and processes that are killed in
mid-sentence (`tests/governance/test_crash.py`). What is *not* known is in [known limits](known-limits.md).
"""

Figures = dict[str, Any]


def last_line(printed: str) -> Figures:
    """Return the object that a command prints last."""
    figures: Figures = json.loads(printed.strip().splitlines()[-1])
    return figures


def counted(_: str) -> Figures:
    """Read what pytest left in the folder of results."""
    (suite,) = re.findall(r"<testsuite [^>]*>", (MEASURED / "tests.xml").read_text())
    told = dict(re.findall(r'(\w+)="(\d+)"', suite))
    return {what: int(told[what]) for what in ("tests", "failures", "errors", "skipped")}


def covered(_: str) -> Figures:
    """Read what coverage left in the folder of results."""
    report = json.loads((MEASURED / "lines.json").read_text())
    totals = report["totals"]
    return {
        "modules": len(report["files"]),
        "statements": totals["num_statements"],
        "branches": totals["num_branches"],
        "missed": totals["missing_lines"] + totals["missing_branches"],
        "per cent": totals["percent_covered"],
    }


def noticed(printed: str) -> Figures:
    """Read the counts of one group of mutants, and of each of its modules."""
    result = last_line(printed)
    (group,) = result["groups"].values()
    counts = {name: group[name] for name in ("run", "killed", "equivalent", "score", "low", "high")}
    rooms = {name: f"{each['killed']} of {each['run'] - each['equivalent']}" for name, each in group["modules"].items()}
    return {"seed": result["seed"]} | counts | rooms


def found_by_bandit(printed: str) -> Figures:
    """Count findings by how severe they are."""
    report = json.loads(printed)
    totals = report["metrics"]["_totals"]
    severities = {name.lower(): int(totals[f"SEVERITY.{name}"]) for name in ("HIGH", "MEDIUM", "LOW")}
    return severities | {"lines": totals["loc"], "suppressed": totals["nosec"]}


def gates(printed: str) -> Figures:
    """Count the checks of an audit, and the trials that they made."""
    audit = json.loads(printed)
    outcomes = audit["outcomes"]
    trials = sum(finding["trials"] for outcome in outcomes for finding in outcome["findings"])
    letters = {outcome["gate"] for outcome in outcomes}
    failed = sum(not outcome["passed"] for outcome in outcomes)
    return {"gates": len(letters), "checks": len(outcomes), "failed": failed, "trials": trials}


@dataclass(frozen=True)
class Evidence:
    """A command that tests something.

    Attributes:
        title: of its block.
        about: what it shows, in a sentence or two.
        command: as it is typed; ``python`` and the tools beside it are those that run this.
        read: finds the figures in what it prints.
    """

    title: str
    about: str
    command: str
    read: Callable[[str], Figures] = last_line


MUTANTS = (
    "One operator, number or decorator of the product is changed at a time; `killed` are changes that a test notices. "
    "The score leaves out those that nothing could notice, which are listed with their reasons in "
    "`scripts/equivalent_mutants.toml`; `low` and `high` are its interval at 95 %, since this is a sample."
)

# Whatever prints a JSON object last is one entry here, in the order of the page.
EVIDENCE = {
    "tests": Evidence("Tests", "Every test of the repository.", "pytest -n 2 --junitxml=measured/tests.xml", counted),
    "coverage": Evidence(
        "Lines and branches that tests pass through",
        "Statements and branches of `privacy`, `protocols`, `governance` and `randomness`, by these rooms' tests. "
        "One that they miss fails `make check`. Compiled kernels are followed as Python, beside their machine code.",
        "pytest -n 2 tests/privacy tests/governance tests/protocols tests/training/test_aggregation.py "
        "tests/test_randomness.py --cov --cov-report=json:measured/lines.json",
        covered,
    ),
    "clipping": Evidence(
        "Mutants of clipping", MUTANTS, "python scripts/mutation.py --group clipping --sample 80 --json", noticed
    ),
    "noise": Evidence(
        "Mutants of noise", MUTANTS, "python scripts/mutation.py --group noise --sample 40 --json", noticed
    ),
    "ledger": Evidence(
        "Mutants of the ledger", MUTANTS, "python scripts/mutation.py --group ledger --sample 80 --json", noticed
    ),
    "fuzz": Evidence(
        "Fuzzing",
        "Inputs to everything that takes bytes from outside ([hardening](hardening.md)); here, so many as fit into "
        "twenty seconds each. `make fuzz` is 10^6 each.",
        "python hardening/fuzz.py all --runs 1000000 --seconds 20 --json",
    ),
    "power-cuts": Evidence(
        "Power cuts",
        "The power goes at a random call of the ledger's own work; what was acknowledged has to be there.",
        "python hardening/power_cuts.py --cuts 10000 --json",
    ),
    "kills": Evidence(
        "Kills",
        "Two processes that take in events, erase people and spend budgets are killed at any moment, 10,000 times. "
        "All that was acknowledged is looked for each hundred, and the journal is replayed with each consent.",
        "python hardening/kills.py --kills 10000 --json",
    ),
    "io-errors": Evidence(
        "I/O errors",
        "Each call on a file fails in turn, once and for good, full disk and broken.",
        "python hardening/io_errors.py --json",
    ),
    "machines": Evidence(
        "State machines",
        "The ledger against a model of it, and the journal against an editor, step by step at random.",
        "python hardening/machines.py --runs 150 --json",
    ),
    "audit": Evidence(
        "Audit",
        "Attacks on the installation, held against what it claims ([audits](audit.md)).",
        "discreet audit --ci --claim eps=1,delta=1e-6 --claim eps=8,delta=1e-6 --json",
        gates,
    ),
    "bandit": Evidence(
        "Known weaknesses of code",
        "What bandit finds. High or medium fails `make check`. Low are processes that the product starts with constant "
        "arguments, seeded generators of what may be known to everyone, and assertions in benchmarks.",
        "bandit --quiet --recursive --exit-zero --format json src scripts benchmarks",
        found_by_bandit,
    ),
    "supply": Evidence(
        "What comes from others",
        "Known vulnerabilities of all that is pinned, licences and the bill of materials (CycloneDX) of what a user "
        "installs. `audited` below `installed` is a failure: without a server of advisories nothing is known.",
        "python scripts/supply.py --json --out measured/components.cdx.json",
    ),
}


def main() -> int:
    """Run what is asked for and write the page; return 1 if a command failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", nargs="*", help=", ".join(EVIDENCE))
    parser.add_argument("--stored", action="store_true", help="run nothing: write the page from what was measured")
    arguments = parser.parse_args()
    if unknown := set(arguments.name) - EVIDENCE.keys():
        parser.error(f"nothing here is called {', '.join(sorted(unknown))}")
    MEASURED.mkdir(exist_ok=True)
    codes = [0]
    for name in arguments.name or EVIDENCE:
        if not arguments.stored:
            codes.append(measure(name))
        if (MEASURED / f"{name}.json").exists():
            put_on_page(name)
    return int(any(codes))


def measure(name: str) -> int:
    """Run a command and keep its figures; return its exit code."""
    evidence = EVIDENCE[name]
    print(evidence.command, flush=True)
    result: Figures = {"day": datetime.now(UTC).date().isoformat(), "commit": commit()}
    program, *arguments = evidence.command.split()
    beside = Path(sys.executable).with_name(program)
    done = subprocess.run(
        [str(beside) if beside.exists() else program, *arguments],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
        check=False,
    )
    result |= {"exit code": done.returncode, "figures": evidence.read(done.stdout)}
    (MEASURED / f"{name}.json").write_text(json.dumps(result, indent=1) + "\n")
    return done.returncode


def commit() -> str:
    """Return what was measured: a commit, and whether files were changed since."""
    head = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.strip()
    others = ["--", ".", f":(exclude){PAGE.relative_to(ROOT)}"]  # the page is being written
    changed = subprocess.run(["git", "diff", "--quiet", "HEAD", *others], cwd=ROOT, check=False).returncode
    return f"{head} and changes" if changed else f"commit {head}"


def put_on_page(name: str) -> None:
    """Write one block of the page from what was measured."""
    evidence, result = EVIDENCE[name], json.loads((MEASURED / f"{name}.json").read_text())
    blocks = blocks_of(PAGE, MARK)
    title = title_of(name)
    when = f"{result['day']}, {result['commit']}, exit code {result['exit code']}"
    printed = fenced([when, "", *rows(result["figures"])])
    about = textwrap.fill(evidence.about, 120)
    blocks[title] = f"{title}\n\n{about}\n\n    {evidence.command}\n\n{printed}"
    order = [title_of(each) for each in EVIDENCE]
    write(
        PAGE, HEAD, [blocks[each] for each in order if each in blocks], lambda block: order.index(block.splitlines()[0])
    )


def title_of(name: str) -> str:
    """Return the first line of a block."""
    return f"{MARK}{EVIDENCE[name].title} ({name})"


def rows(figures: Figures) -> list[str]:
    """Return figures as lines, one each: what is within another is named after it."""
    flat = dict(flattened(figures, ""))
    width = max(map(len, flat))
    return [f"{name:<{width}}  {value:>10}" for name, value in flat.items()]


def flattened(figures: Figures, prefix: str) -> Iterator[tuple[str, str]]:
    """Yield names and values; of a list its length."""
    for name, value in figures.items():
        if isinstance(value, dict):
            yield from flattened(value, f"{prefix}{name} ")
        elif isinstance(value, list):
            yield f"{prefix}{name}", f"{len(value):,}"
        elif isinstance(value, bool):
            yield f"{prefix}{name}", "yes" if value else "no"
        elif isinstance(value, int):
            yield f"{prefix}{name}", f"{value:,}"
        elif isinstance(value, float):
            yield f"{prefix}{name}", f"{value:.4g}"
        else:
            yield f"{prefix}{name}", str(value)


if __name__ == "__main__":
    sys.exit(main())
