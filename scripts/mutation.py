"""Change the product by one operator at a time and count how many of the changes its own tests notice.

    python scripts/mutation.py                              # every mutant of each group: hours
    python scripts/mutation.py --sample 300 --seed 1        # so many of each group, drawn at random
    python scripts/mutation.py --group clipping --list      # with what survives, as it is found
    python scripts/mutation.py --again FILE --json > FILE2  # after tests were added: only what survived before

The mutants are those of cosmic-ray's operators. Each runs in a process of its own, forked from one that has imported
everything but the product, in which a single module is loaded from changed source; nothing on disk is touched. It meets
the tests that passed through the changed line, the quickest first, until one fails or they have taken `PATIENCE`. What
survives and is in `EQUIVALENT`, with a reason, cannot be told from the original; every other survivor counts against
the score.

Left out are mutants of annotations: no module here evaluates them (``from __future__ import annotations``). Machine
code of a module with compiled kernels is made anew for each of its mutants: numba would take the original's from disk.
"""

from __future__ import annotations

import argparse
import ast
import difflib
import importlib
import importlib.machinery
import importlib.util
import json
import multiprocessing
import os
import random
import signal
import sys
import tempfile
import time
import tomllib
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass
from importlib.machinery import ModuleSpec
from itertools import accumulate
from pathlib import Path
from types import CodeType
from typing import Any

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "src/discreet"
EQUIVALENT = ROOT / "scripts/equivalent_mutants.toml"
LEAST = 0.85
"""A group whose score is lower fails."""

PATIENCE = 30.0
"""Seconds of the processor that tests may take, together, to notice a change."""

SLOW = ("test_it_can_be_rebuilt_to_the_bit", "test_crash.py")
"""Tests that start processes, which would load the original; and one of the script that made the noise table."""

PRELOADED = (
    "cryptography.hazmat.primitives.ciphers", "dp_accounting", "hypothesis.stateful", "mpmath", "numba", "polars",
    "pyarrow.parquet", "pytest", "rfc8785", "scipy.sparse", "scipy.stats",
)  # fmt: skip


@dataclass(frozen=True)
class Group:
    """Modules that are changed, and the tests that should notice."""

    modules: tuple[str, ...]
    tests: tuple[str, ...]


GROUPS = {
    "clipping": Group(("privacy/clipping",), ("tests/privacy",)),
    "noise": Group(
        ("privacy/mechanisms/gaussian", "privacy/mechanisms/discrete_gaussian", "privacy/disclosure", "randomness"),
        ("tests/privacy", "tests/test_randomness.py"),
    ),
    "ledger": Group(
        tuple(f"governance/{path.stem}" for path in sorted((PACKAGE / "governance").glob("[a-z]*.py"))),
        ("tests/governance",),
    ),
}


Key = tuple[str, str, str]
"""A module, a line of it as it was, and as it is."""


@dataclass(frozen=True)
class Mutant:
    """A module with one change: what a line was, and what it is."""

    module: str
    line: int
    was: str
    now: str
    source: str

    @property
    def key(self) -> Key:
        """By which a change is known whatever stands above it."""
        return self.module, self.was, self.now


class Changed(importlib.machinery.SourceFileLoader):
    """Loads one module from source that is not the file's, and finds it before anyone else does."""

    def __init__(self, module: str, source: str) -> None:
        super().__init__("discreet." + module.replace("/", "."), str(PACKAGE / f"{module}.py"))
        self._source = source

    def get_code(self, fullname: str) -> CodeType:
        """Compile the changed source; nothing is cached."""
        del fullname
        return compile(self._source, self.path, "exec", dont_inherit=True)

    def find_spec(self, name: str, path: object = None, target: object = None) -> ModuleSpec | None:
        """Return this loader for its module alone."""
        del path, target
        return importlib.util.spec_from_file_location(name, self.path, loader=self) if name == self.name else None


def main() -> int:
    """Run what is asked for; return 1 if a group's score is too low."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--group", action="append", choices=GROUPS, help="one of them; may be repeated")
    parser.add_argument("--sample", type=int, help="mutants of each group, at random; without it, all of them")
    parser.add_argument("--seed", type=int, default=1, help="of the sample")
    parser.add_argument("--list", action="store_true", help="tell each survivor as it is found")
    parser.add_argument("--again", type=Path, help="a result of the same sample: what was noticed then is noticed now")
    parser.add_argument("--json", action="store_true", help="print the whole result as the last line")
    arguments = parser.parse_args()
    os.chdir(ROOT)
    for name in PRELOADED:
        importlib.import_module(name)
    groups = {}
    for name in arguments.group or GROUPS:
        drawn = mutants(GROUPS[name].modules, arguments.sample, f"{arguments.seed}/{name}")
        groups[name] = tried(GROUPS[name], drawn, survived(arguments.again, name), list_all=arguments.list)
        groups[name]["sampled"] = arguments.sample is not None
        print(line_of(name, groups[name]), flush=True)
    if arguments.json:
        result = {"seed": arguments.seed, "least": LEAST, "groups": groups}
        print(json.dumps(result))
    return int(any(group["score"] < LEAST for group in groups.values()))


def survived(result: Path | None, group: str) -> set[Key] | None:
    """Return what survived in an earlier result."""
    if result is None:
        return None
    survivors = json.loads(result.read_text().splitlines()[-1])["groups"][group]["survivors"]
    return {(each["module"], each["was"], each["now"]) for each in survivors}


def tried(group: Group, drawn: Iterable[Mutant], before: set[Key] | None, *, list_all: bool) -> dict[str, Any]:
    """Run the mutants of a group, or those that survived before; return the counts, and what survived."""
    baseline = Baseline(group)
    excused = equivalents()
    modules = {module: dict.fromkeys(("run", "killed", "equivalent"), 0) for module in group.modules}
    survivors = []
    for mutant in drawn:
        counts = modules[mutant.module]
        counts["run"] += 1
        known = before is not None and mutant.key not in before | excused
        if known or baseline.notices(mutant):
            counts["killed"] += 1
        elif mutant.key in excused:
            counts["equivalent"] += 1
        else:
            survivors.append({"module": mutant.module, "line": mutant.line, "was": mutant.was, "now": mutant.now})
            if list_all:
                print(f"  {mutant.module}:{mutant.line}\n  - {mutant.was}\n  + {mutant.now}", flush=True)
    run, killed, equivalent = (sum(counts[what] for counts in modules.values()) for what in modules[group.modules[0]])
    low, high = interval(killed, run - equivalent)
    return {
        "run": run,
        "killed": killed,
        "equivalent": equivalent,
        "score": killed / (run - equivalent),
        "low": low,
        "high": high,
        "modules": modules,
        "survivors": survivors,
    }


def line_of(name: str, result: dict[str, Any]) -> str:
    """Return a group's result on one line."""
    told = result["run"] - result["equivalent"]
    spread = f", 95 % interval {result['low']:.1%} to {result['high']:.1%}" if result["sampled"] else ""
    return (
        f"{name}: {result['killed']} of {told} mutants noticed, {result['score']:.1%}{spread}; "
        f"{result['equivalent']} more are equivalent"
    )


def interval(killed: int, run: int) -> tuple[float, float]:
    """Return Clopper and Pearson's interval for a share, at 95 %."""
    from scipy.stats import binomtest

    found = binomtest(killed, run).proportion_ci(0.95, method="exact")
    return float(found.low), float(found.high)


def equivalents() -> set[Key]:
    """Return the changes that nothing could notice, as module, line before and line after.

    Raises:
        ValueError: a line is not in its module any more, or no reason is given.
    """
    listed = tomllib.loads(EQUIVALENT.read_text())["mutant"]
    for each in listed:
        lines = {line.strip() for line in (PACKAGE / f"{each['module']}.py").read_text().splitlines()}
        if each["was"] not in lines or not each["why"]:
            raise ValueError(f"{EQUIVALENT.name}: {each['module']} has no such line any more: {each['was']}")
    return {(each["module"], each["was"], each["now"]) for each in listed}


def mutants(modules: Sequence[str], sample: int | None, seed: str) -> Iterator[Mutant]:
    """Yield the mutants of some modules, in a random order that the seed decides."""
    from cosmic_ray.commands.init import _all_work_items
    from cosmic_ray.mutating import mutate_code
    from cosmic_ray.plugins import get_operator

    paths = {str(PACKAGE / f"{module}.py"): module for module in modules}
    specs = [item.mutations[0] for item in _all_work_items(map(Path, paths), {})]
    random.Random(seed).shuffle(specs)  # noqa: S311 - a sample that can be drawn again
    seen: set[tuple[str, str]] = set()
    for spec in specs:
        module = paths[str(spec.module_path)]
        original = Path(spec.module_path).read_text()
        try:
            source = mutate_code(original, get_operator(spec.operator_name)(), spec.occurrence)
        except AttributeError:  # cosmic-ray 8.7 cannot replace an exception that is named with its module
            continue
        if source is None or (module, meaning(source)) in seen or meaning(source) == meaning(original):
            continue
        seen.add((module, meaning(source)))
        yield Mutant(module, *change(original, source), source)
        if len(seen) == sample:
            return


def meaning(source: str) -> str:
    """Return what of a module is evaluated: all but comments and annotations. Nothing, if it cannot be compiled."""
    try:
        tree = ast.parse(source)
    except SyntaxError:
        return ""
    for node in ast.walk(tree):
        if isinstance(node, ast.arg):
            node.annotation = None
        elif isinstance(node, ast.FunctionDef):
            node.returns = None
        elif isinstance(node, ast.AnnAssign):
            node.annotation = ast.Constant("")
    return ast.dump(tree)


def change(original: str, source: str) -> tuple[int, str, str]:
    """Return the number of the first line that was changed, what was there, and what is."""
    before, after = original.splitlines(), source.splitlines()
    matcher = difflib.SequenceMatcher(a=before, b=after, autojunk=False)
    spans = [span[1:] for span in matcher.get_opcodes() if span[0] != "equal"]
    was = " / ".join(line.strip() for start, end, _, _ in spans for line in before[start:end])
    now = " / ".join(line.strip() for _, _, start, end in spans for line in after[start:end])
    return spans[0][0] + 1, was, now


class Baseline:
    """The tests of a group as they pass without any change: how long each takes, and which pass through which line.

    Raises:
        RuntimeError: they do not pass; or they pass with a module that cannot be imported, so that no change would run.
    """

    def __init__(self, group: Group) -> None:
        self._tests = group.tests
        with tempfile.TemporaryDirectory() as folder:
            place, told = Path(folder) / "traced.json", Path(folder) / "told.txt"
            if in_a_process(lambda: traced(group.tests, group.modules, place), 3_600, told) != 0:
                raise RuntimeError(f"the tests fail as they are; mend them first\n{told.read_text()[-2_000:]}")
            found = json.loads(place.read_text())
        self._seconds: dict[str, float] = found["seconds"]
        self._through: dict[str, dict[str, list[str]]] = found["through"]
        for module in group.modules:
            if not self.notices(Mutant(module, 0, "", "", 'raise ImportError("planted")')):
                raise RuntimeError(f"{module} is not changed when its source is")

    def notices(self, mutant: Mutant) -> bool:
        """Tell whether a test fails, or does not come to its end, under a change."""
        through = self._through[mutant.module]
        if is_compiled(mutant.module):  # coverage does not see which tests pass through machine code
            chosen = sorted({test for tests in through.values() for test in tests})
        else:
            chosen = through.get(str(mutant.line)) or list(self._seconds)
        chosen.sort(key=self._seconds.__getitem__)
        taken = list(accumulate(self._seconds[test] for test in chosen))
        chosen = chosen[: max(1, sum(seconds <= PATIENCE for seconds in taken))]
        limit = 120 + 20 * taken[len(chosen) - 1]  # of the clock, on a machine that others use, too
        return in_a_process(lambda: changed_run(mutant, self._tests, chosen), limit) != 0


def is_compiled(module: str) -> bool:
    """Tell whether a module has kernels of which numba makes machine code."""
    return "@compiled" in (PACKAGE / f"{module}.py").read_text()


def traced(tests: Sequence[str], modules: Sequence[str], place: Path) -> int:
    """Run all tests; write how long each took, and which lines each passed through."""
    import coverage

    seconds: dict[str, float] = {}
    tracer = coverage.Coverage(
        data_file=None, source_pkgs=["discreet.governance", "discreet.privacy", "discreet.randomness"]
    )

    def quick(items: list[Any]) -> list[Any]:
        return [item for item in items if not any(slow in item.nodeid for slow in SLOW)]

    tracer.start()
    code = run_tests(tests, quick, tracer.switch_context, seconds)
    tracer.stop()
    data = tracer.get_data()
    through = {}
    for module in modules:
        lines = data.contexts_by_lineno(str(PACKAGE / f"{module}.py"))
        through[module] = {str(line): [test for test in lines[line] if test in seconds] for line in lines}
    place.write_text(json.dumps({"seconds": seconds, "through": through}))
    return code


def changed_run(mutant: Mutant, tests: Sequence[str], chosen: Sequence[str]) -> int:
    """Run the chosen tests under a change, in their order, until one fails."""
    import numba

    sys.meta_path.insert(0, Changed(mutant.module, mutant.source))
    rank = {test: place for place, test in enumerate(chosen)}
    with tempfile.TemporaryDirectory() as folder:
        if is_compiled(mutant.module):
            numba.config.CACHE_DIR = folder  # type: ignore[attr-defined]
        return run_tests(
            sorted({test.partition("::")[0] for test in chosen}) or tests,
            lambda items: sorted((item for item in items if item.nodeid in rank), key=lambda item: rank[item.nodeid]),
        )


def run_tests(
    tests: Sequence[str],
    choose: Callable[[list[Any]], list[Any]],
    begins: Callable[[str], object] | None = None,
    seconds: dict[str, float] | None = None,
) -> int:
    """Run pytest here, until a test fails; return its exit code."""
    import pytest

    class Chosen:
        def pytest_collection_modifyitems(self, items: list[Any]) -> None:
            items[:] = choose(items)

        @pytest.hookimpl(wrapper=True)
        def pytest_runtest_protocol(self, item: Any) -> Generator[None, Any, Any]:
            start = time.process_time()
            if begins:
                begins(item.nodeid)
            done = yield
            if seconds is not None:
                seconds[item.nodeid] = time.process_time() - start
            return done

    options = ["-x", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", "-p", "no:pytest_cov", "--hypothesis-seed=0"]
    options += ["-W", "ignore::pytest.PytestAssertRewriteWarning"]  # what was imported before the fork
    return int(pytest.main([*options, *tests], plugins=[Chosen()]))


def in_a_process(run: Callable[[], int], seconds: float, told: Path = Path(os.devnull)) -> int:
    """Run a function in a fork, for so long at most; return its exit code, or a signal's, which is no 0 either."""

    def alone() -> None:
        os.setsid()
        with told.open("w") as output:
            os.dup2(output.fileno(), 1)
            os.dup2(output.fileno(), 2)
        with tempfile.TemporaryDirectory() as folder:
            os.environ["HYPOTHESIS_STORAGE_DIRECTORY"] = folder  # what one mutant failed on is no example for the next
            os.environ["TMPDIR"] = folder
            code = run()
        os._exit(code)

    process = multiprocessing.get_context("fork").Process(target=alone)
    process.start()
    process.join(seconds)
    if process.is_alive() and process.pid:
        os.killpg(process.pid, signal.SIGKILL)
        process.join()
    return process.exitcode or 0


if __name__ == "__main__":
    sys.exit(main())
