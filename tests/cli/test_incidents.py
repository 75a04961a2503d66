"""The register of incidents, at the desk of a service's folder."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from discreet.cli.commands import app
from discreet.cli.serving import settings_of
from discreet.errors import SettingError

RUNNER = CliRunner()


def discreet(*words: str, code: int = 0) -> str:
    made = RUNNER.invoke(app, ["incident", *words])
    assert made.exit_code == code, made.output
    return made.output


@pytest.fixture
def folder(tmp_path: Path) -> str:
    settings_of(tmp_path, None, None, None)
    return str(tmp_path)


def incidents(folder: str, code: int = 0) -> list[dict[str, object]]:
    found: list[dict[str, object]] = json.loads(discreet("list", folder, "--json", code=code))["incidents"]
    return found


def test_an_incident_from_its_beginning_to_its_end(folder: str) -> None:
    assert incidents(folder) == []
    facts = ["--detected", "2026-01-01", "--set", "subjects_count=1-10", "--by", "ann"]
    facts += ["--set", "data_categories=user.name,user.contact.email"]
    said = discreet("open", folder, "a list went to somebody else", *facts)
    name = said.partition(":")[0]
    assert "by 2026-01-04T00:00:00Z" in " ".join(said.split())
    (found,) = incidents(folder, code=3)
    assert (found["late"], found["subjects_count"], found["reported_by"]) == (True, "1-10", "ann")
    assert found["data_categories"] == ["user.contact.email", "user.name"]
    assert "LATE" in discreet("list", folder, code=3)
    update = ["update", folder, name, "IncidentMitigated", "--by", "bob"]
    assert "IncidentMitigated" in discreet(*update, "--set", "measures=the key was taken away")
    close = ["close", folder, name, "--by", "bob"]
    with pytest.raises(SettingError, match="is concluded with"):
        RUNNER.invoke(app, ["incident", *close], catch_exceptions=False)
    assert "IncidentConcluded" in discreet(*close, "--authority-not-told", "it was encrypted")
    (found,) = incidents(folder)
    assert (found["state"], found["late"]) == ("IncidentConcluded", False)
    assert name in discreet("list", folder)


def test_one_of_which_an_authority_was_told(folder: str) -> None:
    name = discreet("open", folder, "a disk is gone", "--detected", "2026-01-01", "--by", "ann").partition(":")[0]
    discreet("close", folder, name, "--by", "ann", "--authority-told", "2026-01-02T10:00:00Z")
    assert incidents(folder)[0]["notified_authority_at"] == "2026-01-02T10:00:00Z"


@pytest.mark.parametrize(
    "words",
    [
        ["open", "x", "--by", "ann", "--set", "subjects_count"],
        ["open", "x", "--by", "ann", "--set", "mood=bad"],
        ["open", "x", "--by", "ann", "--set", "data_categories=films"],
        ["update", "none", "IncidentHalted", "--by", "ann"],
    ],
)
def test_what_cannot_be_noted(folder: str, words: list[str]) -> None:
    with pytest.raises(SettingError):
        RUNNER.invoke(app, ["incident", words[0], folder, *words[1:]], catch_exceptions=False)
    assert incidents(folder) == []


def test_a_folder_that_is_none_is_not_made(tmp_path: Path) -> None:
    with pytest.raises(SettingError, match="is no folder of a service"):
        RUNNER.invoke(app, ["incident", "list", str(tmp_path / "misspelt")], catch_exceptions=False)
    assert list(tmp_path.iterdir()) == []
