"""The counter of mutants: changed source is what runs, what cannot be told apart is left out, and nothing else is."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import mutation
import pytest

LEVELS = (mutation.PACKAGE / "privacy/levels.py").read_text()


def test_a_module_is_loaded_from_changed_source() -> None:
    changed = mutation.Changed("privacy/levels", LEVELS.replace("QUARTERS = 4", "QUARTERS = 5"))
    assert changed.find_spec("discreet.privacy.plan") is None
    spec = changed.find_spec("discreet.privacy.levels")
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    changed.exec_module(module)
    assert module.QUARTERS == 5


class TestMeaning:
    source = (
        "class A:\n    x: int | None = 3\n\n    def f(self, y: int | str = 1) -> int | None:\n        return y + 1\n"
    )

    @pytest.mark.parametrize("was", ["x: int | None", "y: int | str", "-> int | None"])
    def test_annotations_are_not_evaluated(self, was: str) -> None:
        assert mutation.meaning(self.source.replace(was, was.replace("|", "&"))) == mutation.meaning(self.source)

    @pytest.mark.parametrize(("was", "now"), [("= 3", "= 4"), ("str = 1", "str = 2"), ("y + 1", "y - 1")])
    def test_everything_else_is(self, was: str, now: str) -> None:
        assert mutation.meaning(self.source.replace(was, now)) != mutation.meaning(self.source)

    def test_what_cannot_be_compiled_has_none(self) -> None:
        assert not mutation.meaning("def f(:")


@pytest.mark.parametrize(
    ("original", "source", "found"),
    [
        ("a\n  b + 1\nc\n", "a\n  b - 1\nc\n", (2, "b + 1", "b - 1")),
        ("@cache\ndef f(): ...\n", "def f(): ...\n", (1, "@cache", "")),
        ("for i in (\n  x\n):\n", "for i in []:\n", (1, "for i in ( / x / ):", "for i in []:")),
    ],
)
def test_a_change_is_told_by_its_lines(original: str, source: str, found: tuple[int, str, str]) -> None:
    assert mutation.change(original, source) == found


def test_every_equivalent_change_is_of_a_line_that_is_there_and_has_a_reason() -> None:
    assert {module for module, _, _ in mutation.equivalents()} <= {
        module for group in mutation.GROUPS.values() for module in group.modules
    }


@pytest.mark.parametrize(("was", "why"), [("QUARTERS = 3", "no such line"), ("QUARTERS = 4", "")])
def test_an_excuse_that_does_not_hold(was: str, why: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    listed = tmp_path / "listed.toml"
    listed.write_text(f'[[mutant]]\nmodule = "privacy/levels"\nwas = "{was}"\nnow = "QUARTERS = 5"\nwhy = "{why}"\n')
    monkeypatch.setattr(mutation, "EQUIVALENT", listed)
    with pytest.raises(ValueError, match="no such line any more"):
        mutation.equivalents()


def test_the_interval_is_exact() -> None:
    assert mutation.interval(50, 50) == pytest.approx((0.025 ** (1 / 50), 1.0))
    low, high = mutation.interval(45, 50)
    assert low < 0.9 < high


def test_rooms_are_whole() -> None:
    """A module that is added to the ledger is changed, too."""
    names = {f"governance/{path.stem}" for path in (mutation.PACKAGE / "governance").glob("*.py")}
    assert set(mutation.GROUPS["ledger"].modules) == names - {"governance/__init__"}


RUN = """
import time
import mutation

def endless():
    time.sleep(60)
    return 0

print([mutation.in_a_process(run, seconds) for run, seconds in ((lambda: 0, 60), (lambda: 5, 60), (lambda: 1 / 0, 60))])
print(mutation.in_a_process(endless, 0.2) != 0)
baseline = mutation.Baseline(mutation.Group(("privacy/levels",), ("tests/privacy/test_levels.py",)))
source = (mutation.PACKAGE / "privacy/levels.py").read_text()
for was, now in (("self.value //", "self.value %"), ("self.value //", "self.value  //"), ("value}\\n", "value }\\n")):
    changed = source.replace(was, now)
    line = source[: source.index(was)].count(chr(10)) + 1 if was in source else 1
    print(baseline.notices(mutation.Mutant("privacy/levels", line, was, now, changed)))
"""


def test_changes_run_and_are_noticed() -> None:
    """One that matters, and two that do not: on a line that tests pass through, and on one that none does."""
    run = [sys.executable, "-c", RUN]
    paths = [str(mutation.ROOT / "scripts"), *sys.path]
    done = subprocess.run(
        run, cwd=mutation.ROOT, env={"PYTHONPATH": ":".join(paths)}, capture_output=True, text=True, check=True
    )
    assert done.stdout.split("\n")[:-1] == ["[0, 5, 1]", "True", "True", "False", "False"]
