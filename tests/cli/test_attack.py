"""``discreet attack``: what it prints, and what it refuses."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from discreet.cli import main

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], csv_file: Path, tmp_path: Path) -> Run:
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)
    monkeypatch.chdir(tmp_path)
    imported = tmp_path / "tastes.parquet"
    purposes = ["--purpose", "train-recommender", "--purpose", "measure-quality"]
    commands = ["discreet", "data", "import", str(csv_file), "--out", str(imported), *purposes]
    monkeypatch.setattr(sys, "argv", commands)
    with pytest.raises(SystemExit) as ended:
        main()
    assert not ended.value.code, capsys.readouterr().err

    def command(*arguments: str) -> tuple[int, str, str]:
        capsys.readouterr()
        monkeypatch.setattr(sys, "argv", ["discreet", "attack", str(imported), *arguments])
        with pytest.raises(SystemExit) as ended:
            main()
        printed = capsys.readouterr()
        return int(ended.value.code or 0), printed.out, printed.err

    return command


def test_json_has_both_with_and_without_noise(run: Run) -> None:
    code, out, _ = run("--attack", "repetition", "--epsilon", "2", "--json")
    figures = json.loads(out)
    assert code == 0
    assert {figure["epsilon"] for figure in figures} == {2.0, None}


def test_table_and_attributes(run: Run) -> None:
    people = [f"person-{number:03},{number % 2}" for number in range(300)]
    Path("people.csv").write_text("\n".join(["user_id,taste", *people]) + "\n")
    code, out, _ = run("--attack", "attributes", "--people", "people.csv", "--attribute", "taste")
    assert code == 0
    assert "Attacks on tastes" in out
    assert "none" in out


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--attack", "guess"], "unknown attack 'guess'"),
        (["--attack", "attributes"], "have to be given"),
        (["--epsilon", "0"], "epsilon must be above 0"),
    ],
)
def test_what_cannot_be_asked(run: Run, arguments: list[str], says: str) -> None:
    code, out, err = run(*arguments)
    assert (code, out) == (1, "")
    assert says in err
    assert err.count("\n") == 1


def test_a_person_named_twice_is_refused_without_naming_them(run: Run) -> None:
    Path("people.csv").write_text("user_id,gender\nperson-001,F\nperson-001,M\n")
    code, _, err = run("--attack", "attributes", "--people", "people.csv")
    assert code == 1
    assert "names a person twice" in err
    assert "person-001" not in err
