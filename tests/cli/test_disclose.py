"""``discreet disclose``: a registry's record and an evaluator's checklist of a model file."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.conftest import MEASURE, TRAIN

from discreet.cli.commands import run
from discreet.data.interactions import Interactions
from discreet.evaluation.audit.shadow import audit_model
from discreet.models.deployment import TEMPLATE, UNFILLED, Deployment
from discreet.training.fitting import fit

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def disclose(
    data: Interactions, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Run:
    assert data.purposes == {TRAIN, MEASURE}
    monkeypatch.chdir(tmp_path)
    fit(data, epsilon=8.0, ledger="ledger.db", out="model.npz", kind="popularity")
    Path("about.toml").write_text(TEMPLATE.replace(UNFILLED, "A. Rivera"))

    def command(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["discreet", "disclose", *arguments])
        with pytest.raises(SystemExit) as ended:
            run()
        printed = capsys.readouterr()
        return int(ended.value.code or 0), printed.out, printed.err

    return command


def test_the_template_is_a_statement(disclose: Run) -> None:
    code, out, _ = disclose("--template")
    assert code == 0
    filled = out.replace(UNFILLED, "A. Rivera").encode()
    assert Deployment.from_bytes(filled) == Deployment.from_bytes(TEMPLATE.replace(UNFILLED, "A. Rivera").encode())
    assert disclose("--template", "--out", "example.toml")[:2] == (0, "")
    assert Path("example.toml").read_text() == TEMPLATE


def test_a_record_with_the_audit_beside_the_model(disclose: Run, data: Interactions) -> None:
    from discreet.models.trained import Trained

    code, out, _ = disclose("model.npz", "--about", "about.toml")
    assert code == 0
    assert "was not audited" in json.loads(out)["deployment"]["implementation"]["additional_information"]
    Path("model.audit.json").write_bytes(audit_model(Trained.load("model.npz"), data).to_bytes())
    code, out, _ = disclose("model.npz", "--about", "about.toml", "--out", "record.json")
    assert (code, out) == (0, "")
    told = json.loads(Path("record.json").read_text())["deployment"]["implementation"]["additional_information"]
    assert "not refuted by" in told
    code, _, err = disclose("model.npz", "--about", "about.toml", "--out", "record.json")
    assert code == 1
    assert "exists already" in err


def test_a_checklist_as_a_page_and_as_json(disclose: Run) -> None:
    code, out, _ = disclose("model.npz", "--format", "nist")
    assert code == 0
    assert out.startswith("# Evaluation of the guarantee")
    code, out, _ = disclose("model.npz", "--format", "nist", "--json")
    assert json.loads(out)["counts"]["shown"] > 5
    assert disclose("model.npz", "--format", "nist", "--out", "checklist.md")[0] == 0
    assert Path("checklist.md").read_text().startswith("# Evaluation")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ((), "give a model file"),
        (("model.npz",), "--about"),
        (("model.npz", "--format", "nist", "--about", "about.toml"), "leave it out"),
        (("model.npz", "--format", "iso"), "--format is one of"),
        (("model.npz", "--about", "nowhere.toml"), "nowhere.toml"),
        (("model.npz", "--about", "about.toml", "--audit", "nowhere.json"), "nowhere.json"),
        (("about.toml", "--about", "about.toml"), "not a model file"),
        (("nowhere.npz", "--about", "about.toml"), "nowhere.npz"),
    ],
)
def test_refusals_are_one_line(disclose: Run, arguments: tuple[str, ...], says: str) -> None:
    code, out, err = disclose(*arguments)
    assert (code, out) == (1, "")
    assert says in err
    assert err.count("\n") == 1


def test_the_audit_of_another_file_is_refused(disclose: Run, data: Interactions, tmp_path: Path) -> None:
    from discreet.models.trained import Trained

    fit(data, epsilon=8.0, ledger=tmp_path / "other.db", out="other.npz", kind="popularity")
    Path("model.audit.json").write_bytes(audit_model(Trained.load("other.npz"), data).to_bytes())
    code, _, err = disclose("model.npz", "--format", "nist")
    assert code == 1
    assert "another model file" in err
