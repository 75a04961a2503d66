"""``discreet audit``: exit codes, and the files that it writes. The gates themselves run in other tests."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest

from discreet.cli import main
from discreet.evaluation.audit import gates
from discreet.evaluation.audit.findings import Audit, Check, Claim, Finding, Outcome

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Run:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)

    def command(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["discreet", "audit", *arguments])
        with pytest.raises(SystemExit) as ended:
            main()
        printed = capsys.readouterr()
        return int(ended.value.code or 0), printed.out, printed.err

    return command


@pytest.fixture
def found(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What the gates are made to say; filled with what they were asked."""
    told: dict[str, Any] = {"findings": [Finding(True, 10, 1e-4, "mu >= 0.1", {"epsilon_95_z_gdp": 0.5})]}

    def audit(claims: Sequence[Claim], **asked: Any) -> Audit:
        told.update(asked, claims=claims)
        asked["progress"](1, 1, "done")
        check = Check("C", "gram, add_up", claims[0], 1e-4, lambda *_: told["findings"][0])
        return Audit((Outcome(check, tuple(told["findings"])),), told.get("ran", ("C",)), 1.0)

    monkeypatch.setattr(gates, "audit", audit)
    return told


def test_a_product_that_keeps_its_claims(run: Run, found: dict[str, Any]) -> None:
    code, out, _ = run("--ci", "--claim", "eps=2,delta=1e-6")
    assert code == 0
    assert found["claims"] == [Claim(2.0, 1e-6)]
    assert "Held against eps=2,delta=1e-06" in out
    assert "0 of 1 checks failed" in out
    assert "0.50" in out


def test_without_a_claim_it_is_held_against_two(run: Run, found: dict[str, Any]) -> None:
    assert run()[0] == 0
    assert found["claims"] == [Claim(1.0, 1e-6), Claim(8.0, 1e-6)]
    assert set(found["gates"]) == set("ABCDEF")


def test_one_that_does_not_ends_in_3_and_tells_both_runs(run: Run, found: dict[str, Any]) -> None:
    found["findings"] = [Finding(False, 10, 1e-4, "mu >= 0.4", {}), Finding(False, 40, 1e-6, "mu >= 0.45", {})]
    code, out, _ = run("--junit", "junit.xml", "--sarif", "found.sarif")
    assert code == 3
    assert out.count("FAIL") == 2
    assert "to confirm" in out
    assert ET.parse("junit.xml").getroot()[0].attrib["failures"] == "1"
    assert len(json.loads(Path("found.sarif").read_text())["runs"][0]["results"]) == 1


def test_a_gate_without_a_trial_ends_in_2(run: Run, found: dict[str, Any]) -> None:
    found["ran"] = ("B", "C")
    code, out, _ = run()
    assert code == 2
    assert "gate B ran no trial" in out


def test_json(run: Run, found: dict[str, Any]) -> None:
    found["findings"] = [Finding(True, 10, 1e-4, "told", {"mu_bound": float("inf")})]
    code, out, _ = run("--json")
    document = json.loads(out)
    assert (code, document["exit_code"], document["passed"]) == (0, 0, True)
    assert document["outcomes"][0]["findings"][0]["figures"] == {"mu_bound": None}


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--claim", "eps=1"], "eps=1,delta=1e-6"),
        (["--gate", "G"], "unknown gate 'G'"),
        (["--model", "best"], "unknown model 'best'"),
        (["--ci", "--gate", "A"], "leave out --gate"),
        (["--ci", "--model", "gram"], "leave out --gate"),
        (["--junit", "missing/junit.xml"], "is not a folder"),
    ],
)
def test_what_cannot_be_asked(run: Run, arguments: list[str], says: str) -> None:
    code, out, err = run(*arguments)
    assert (code, out) == (1, "")
    assert says in err
    assert err.count("\n") == 1


def test_gates_that_are_quick_run_as_they_are(run: Run) -> None:
    """Gate B has no false alarms."""
    code, out, _ = run("--gate", "B", "--model", "popularity", "--processes", "1", "--json")
    assert code == 0
    assert [outcome["subject"] for outcome in json.loads(out)["outcomes"]] == [
        "popularity",
        "add_up",
        "secagg",
        "two-servers",
    ]
