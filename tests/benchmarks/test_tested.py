"""The page of what tests the product: figures come from results alone, and one block is made anew at a time."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import tested
from tested import EVIDENCE, Evidence

ROOT = Path(__file__).parents[2]


@pytest.fixture
def page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A page of two commands, of which one fails."""
    evidence = {
        "first": Evidence("The first", "About it.", """python -c print('{"runs":12345,"share":0.98765}')"""),
        "second": Evidence("The second", "About that.", """python -c print('{"ok":false}');exit(3)"""),
    }
    monkeypatch.setattr(tested, "EVIDENCE", evidence)
    monkeypatch.setattr(tested, "MEASURED", tmp_path / "measured")
    monkeypatch.setattr(tested, "PAGE", tmp_path / "page.md")
    monkeypatch.setattr(tested, "commit", lambda: "abc1234")
    return tmp_path / "page.md"


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr("sys.argv", ["tested.py", *arguments])
    return tested.main()


def test_blocks_hold_what_was_printed(page: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert run(monkeypatch, "first") == 0
    text = page.read_text()
    assert "## The first (first)\n\nAbout it.\n\n    python -c" in text
    assert re.search(r"^\d{4}-\d\d-\d\d, abc1234, exit code 0$", text, re.MULTILINE)
    assert re.findall(r"^(\w+) +(\S+)$", text.partition("exit code 0")[2], re.MULTILINE) == [
        ("runs", "12,345"),
        ("share", "0.9877"),
    ]


def test_one_block_is_made_anew_at_a_time(page: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert run(monkeypatch) == 1  # the second fails, and is on the page all the same
    assert "exit code 3" in page.read_text()
    (page.parent / "measured/first.json").write_text(
        json.dumps({"day": "2030-01-01", "commit": "def", "exit code": 0, "figures": {"runs": 7}})
    )
    assert run(monkeypatch, "second") == 1
    assert "12,345" in page.read_text()
    assert run(monkeypatch, "--stored") == 0
    text = page.read_text()
    assert "12,345" not in text
    assert text.index("2030-01-01") < text.index("## The second (second)")
    assert text.count("## ") == 2


def test_names_that_are_none(page: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        run(monkeypatch, "third")
    assert "nothing here is called third" in capsys.readouterr().err


def test_figures_within_figures() -> None:
    figures = {"groups": {"noise": {"run": 3, "survivors": ["a", "b"]}}, "sampled": True, "spec": "1.6"}
    assert [row.split("  ")[0] for row in tested.rows(figures)] == [
        "groups noise run", "groups noise survivors", "sampled", "spec",
    ]  # fmt: skip
    assert [row.split()[-1] for row in tested.rows(figures)] == ["3", "2", "yes", "1.6"]


def test_tests_and_coverage_are_read_from_their_reports(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tested, "MEASURED", tmp_path)
    (tmp_path / "tests.xml").write_text(
        '<testsuites><testsuite tests="9" failures="1" errors="2" skipped="3"/></testsuites>'
    )
    totals = {
        "num_statements": 40,
        "num_branches": 8,
        "missing_lines": 1,
        "missing_branches": 2,
        "percent_covered": 93.75,
    }
    (tmp_path / "lines.json").write_text(json.dumps({"files": {"a.py": {}, "b.py": {}}, "totals": totals}))
    assert tested.counted("") == {"tests": 9, "failures": 1, "errors": 2, "skipped": 3}
    assert tested.covered("") == {"modules": 2, "statements": 40, "branches": 8, "missed": 3, "per cent": 93.75}


def test_mutants_are_counted_by_module() -> None:
    modules = {"a/b": {"run": 5, "killed": 3, "equivalent": 1}, "a/c": {"run": 2, "killed": 2, "equivalent": 0}}
    group = {"run": 7, "killed": 5, "equivalent": 1, "score": 5 / 6, "low": 0.4, "high": 0.99, "modules": modules}
    figures = tested.noticed("told before\n" + json.dumps({"seed": 3, "groups": {"room": group | {"survivors": []}}}))
    assert figures == {
        "seed": 3, "run": 7, "killed": 5, "equivalent": 1, "score": 5 / 6, "low": 0.4, "high": 0.99,
        "a/b": "3 of 4", "a/c": "2 of 2",
    }  # fmt: skip


def test_what_bandit_found_is_counted() -> None:
    severities = {"SEVERITY.HIGH": 0, "SEVERITY.MEDIUM": 1, "SEVERITY.LOW": 2}
    report = json.dumps({"metrics": {"_totals": {**severities, "loc": 90, "nosec": 4}}})
    assert tested.found_by_bandit(report) == {"high": 0, "medium": 1, "low": 2, "lines": 90, "suppressed": 4}


def test_checks_of_an_audit_are_counted() -> None:
    outcomes = [
        {"gate": "A", "passed": True, "findings": [{"trials": 5}]},
        {"gate": "C", "passed": False, "findings": [{"trials": 7}, {"trials": 20}]},
    ]
    found = tested.gates(json.dumps({"outcomes": outcomes}))
    assert found == {"gates": 2, "checks": 2, "failed": 1, "trials": 32}


def test_the_page_has_a_block_for_each_command_that_was_run_and_no_other() -> None:
    text = tested.PAGE.read_text()
    titles = re.findall(r"^## .*", text, re.MULTILINE)
    assert titles
    assert titles == [tested.title_of(name) for name in EVIDENCE if tested.title_of(name) in titles]
    run = [evidence.command for name, evidence in EVIDENCE.items() if tested.title_of(name) in titles]
    assert re.findall(r"^    (\S.*)", text, re.MULTILINE) == run


def test_commands_are_of_this_repository() -> None:
    for evidence in EVIDENCE.values():
        program, first, *_ = evidence.command.split()
        assert program in {"bandit", "discreet", "pytest"} or (program == "python" and (ROOT / first).exists())
