"""What registries and evaluators are told: valid, complete, the guarantee's numbers, and nothing that must not be."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest

from discreet.data.interactions import Interactions
from discreet.errors import SettingError
from discreet.evaluation.audit.shadow import audit_model
from discreet.models.checklist import LAYERS, checklist, checklist_document, checklist_markdown
from discreet.models.deployment import TEMPLATE, UNFILLED, Deployment, registry_record
from discreet.models.trained import Trained
from discreet.privacy.levels import Levels
from discreet.training.fitting import fit

ROOT = Path(__file__).parents[2]
SCHEMA = json.loads(Path(__file__).with_name("registry_schema.json").read_text())
FILLED = TEMPLATE.replace(UNFILLED, "A. Rivera")
STATED = Deployment.from_bytes(FILLED.encode())
DIGEST = "0" * 64


@pytest.fixture(scope="module")
def trained(data: Interactions, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    return fit(data, epsilon=8.0, ledger=tmp_path_factory.mktemp("disclosed") / "l.db")


@pytest.fixture(scope="module")
def audit(trained: Trained, data: Interactions) -> dict[str, Any]:
    return audit_model(trained, data).to_dict()


def check(record: dict[str, Any]) -> None:
    jsonschema.Draft202012Validator(SCHEMA, format_checker=jsonschema.FormatChecker()).validate(record)


def test_a_record_is_valid_complete_and_has_the_guarantees_numbers(trained: Trained, audit: dict[str, Any]) -> None:
    record = json.loads(json.dumps(registry_record(trained, DIGEST, STATED, audit), allow_nan=False))
    check(record)
    deployment = record["deployment"]
    asked = SCHEMA["properties"]["deployment"]["properties"]
    for part, values in deployment.items():
        assert set(asked[part]["properties"]) - set(values) <= {"evidence_sources"}, "tier 3 is all that is asked"
    loss = deployment["privacy_loss"]
    assert loss["privacy_parameters"] == {"epsilon": trained.guarantee.epsilon, "delta": trained.guarantee.delta}
    assert loss["number_of_privacy_units"] == trained.people
    text = json.dumps(record)
    for told in (DIGEST, trained.release, f"{audit['epsilon_gaussian']:.2f} assuming Gaussian", "a person's own list"):
        assert str(told) in text


def test_a_wrong_record_would_not_be_valid(trained: Trained) -> None:
    record = registry_record(trained, DIGEST, STATED)
    for part, name, value in (
        ("basic", "publication_date", "1/1/2026"),
        ("basic", "surprise", "x"),
        ("deployment_model", "model_name", "Trusted"),
        ("privacy_loss", "number_of_privacy_units", "many"),
    ):
        changed = json.loads(json.dumps(record))
        changed["deployment"][part][name] = value
        with pytest.raises(jsonschema.ValidationError):
            check(changed)


def test_levels_and_windows_are_told(data: Interactions, tmp_path: Path) -> None:
    levelled = fit(data, epsilon=8.0, ledger=tmp_path / "l.db", levels=Levels({}))
    record = registry_record(levelled, DIGEST, STATED)
    check(record)
    assert "Level strong" in record["deployment"]["privacy_loss"]["privacy_parameters_details"]
    monthly = replace(levelled, guarantee=replace(levelled.guarantee, window="2024-05"))
    assert registry_record(monthly, DIGEST, STATED)["deployment"]["privacy_loss"]["privacy_unit"] == "person-month"
    assert {each.question: each.status for each in checklist(monthly)}["Unit of privacy"] == "part"


def test_what_must_not_be_published_is_not_disclosed(data: Interactions, trained: Trained) -> None:
    with pytest.raises(SettingError, match="promises nothing"):
        registry_record(fit(data, epsilon=math.inf), DIGEST, STATED)
    with pytest.raises(SettingError, match="billed to nobody"):
        registry_record(replace(trained, release=None), DIGEST, STATED)


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ('region = "EU"', "region = 5", "region is text"),
        ('region = "EU"', 'region = " "', "say something of region"),
        ('region = "EU"', "", "lacks region"),
        ('region = "EU"', 'region = "EU"\nhobby = "x"', "nobody asked for: 'hobby'"),
        ('"Technology" ', '"Sports" ', "sector is one of"),
        ('type = "Industry"', 'type = "Club"', "type is one of"),
        ('type = "Industry"', "", "curators are tables"),
        ('"2026-01-31"', '"2026-31-01"', "published is a date"),
        ('"2026-01-31"', '"20260131"', "published is a date"),
        ('"shop-recommender"', '"a/b"', "slug is"),
        ('authors = ["A. Rivera"]', f'authors = ["{UNFILLED}"]', "still are those of the example"),
        ('authors = ["A. Rivera"]', "authors = []", "authors"),
        ('authors = ["A. Rivera"]', "authors = [1]", "list of names"),
        ('slug = "', "slug = ", "not TOML"),
        ('slug = "', "a = " + "[" * 10_000, "not TOML"),
        ('slug = "', "#" * (1 << 20) + '\nslug = "', "too large"),
    ],
)
def test_statements_that_are_refused(tmp_path: Path, old: str, new: str, says: str) -> None:
    assert old in FILLED
    path = tmp_path / "about.toml"
    path.write_text(FILLED.replace(old, new))
    with pytest.raises(SettingError, match=says) as refused:
        Deployment.read(path)
    assert "about.toml" in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("content", [b"\xff", b"", b"[[curators]]", b"slug = 1979-05-27"])
def test_bytes_that_are_no_statement(content: bytes) -> None:
    with pytest.raises(SettingError):
        Deployment.from_bytes(content)
    with pytest.raises(SettingError, match="cannot read"):
        Deployment.read("nowhere.toml")


def test_all_layers_are_answered_and_all_evidence_exists(trained: Trained, audit: dict[str, Any]) -> None:
    answers = checklist(trained, audit)
    assert [layer for layer in LAYERS if any(each.layer == layer for each in answers)] == list(LAYERS)
    for each in answers:
        assert each.evidence
        for place in each.evidence:
            file = ROOT / (place if place.startswith("docs/") else f"src/discreet/{place}")
            assert place.startswith("card: ") or file.is_file(), place
    document = json.loads(json.dumps(checklist_document(answers), allow_nan=False))
    assert sum(document["counts"].values()) == len(answers)
    page = checklist_markdown(answers)
    assert all(f"## {title}" in page for title in LAYERS.values())
    assert page.count("\n| ") == len(answers) + 3


def status(trained: Trained, audit: dict[str, Any] | None = None) -> dict[str, str]:
    return {each.question: each.status for each in checklist(trained, audit)}


def test_answers_follow_the_model(data: Interactions, trained: Trained, audit: dict[str, Any]) -> None:
    assert status(trained)["Attacked"] == "open"
    assert status(trained, audit)["Attacked"] == "shown"
    assert status(trained, audit | {"passed": False})["Attacked"] == "open"
    assert status(replace(trained, release=None))["Composition, and budgets"] == "open"
    open_model = status(fit(data, epsilon=math.inf))
    assert open_model["Parameters"] == open_model["Contributions are bounded"] == "open"
    assert "What they mean" not in open_model
    known = replace(trained, guarantee=replace(trained.guarantee, secure=False))
    assert status(known)["Randomness"] == status(known)["Parameters"] == "open"
    declared = replace(trained, guarantee=replace(trained.guarantee, catalogue_declared=True))
    assert status(declared)["Published without noise"] == "shown"
    assert status(trained)["Published without noise"] == "part"


def test_a_line_in_a_name_does_not_break_the_table(trained: Trained) -> None:
    answers = checklist(replace(trained, purpose="a|b"))
    (line,) = [line for line in checklist_markdown(answers).splitlines() if "a\\|b" in line]
    assert line.startswith("| Purpose")
    assert np.sum([part == "|" for part in line.replace("\\|", "")]) == 5
