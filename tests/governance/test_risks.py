"""The register of risks: what is computed is not typed, what is misspelt is refused, what nobody looks at is late."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from discreet.errors import DataError, SettingError
from discreet.governance.checks import now
from discreet.governance.inventory import Inventory, example
from discreet.governance.risks import ADVERSARIES, CHANNELS, STATUSES, THREATS, TOUCHPOINTS, Risk

ROOT = Path(__file__).parents[2]
TEXT = example("books")
RISK = Inventory.from_toml(TEXT.encode()).risks[0]
BEFORE = """
[[risk]]
title = "a released model tells that somebody took part"
linddun = "identifying"
likelihood = 2
severity = 3
controls = "differential privacy at a cap, audits every 30 days"
owner = "A. Rivera"
"""


def with_risks(risks: str) -> Inventory:
    return Inventory.from_toml((TEXT[: TEXT.index("# What may go wrong")] + risks).encode())


def test_what_was_a_risk_before_is_one() -> None:
    (found,) = with_risks(BEFORE).risks
    assert found == Risk(
        title="a released model tells that somebody took part",
        linddun=("identifying",),
        likelihood=2,
        severity=3,
        controls=("differential privacy at a cap, audits every 30 days",),
        owner="A. Rivera",
    )
    assert (found.status, found.residual, found.inherent) == ("open", None, 3)
    assert found.told("2026-11-26T00:00:00Z")["levels"] == {
        "likelihood": "Low",
        "severity": "Moderate",
        "inherent": "Moderate",
    }
    assert with_risks(BEFORE * 2).risks == (found, found)  # without an id nothing refers to them
    (silent,) = with_risks(BEFORE.replace('"differential privacy at a cap, audits every 30 days"', '""')).risks
    assert silent == replace(found, controls=())


def test_the_register_is_no_part_of_what_a_person_is_asked() -> None:
    assert with_risks(BEFORE).terms == with_risks("").terms == Inventory.from_toml(TEXT.encode()).terms


@pytest.mark.parametrize(
    ("likelihood", "severity", "inherent"),
    [
        *((1, 1, 1), (3, 1, 1), (2, 2, 2), (5, 1, 2), (2, 3, 3), (3, 3, 3), (2, 5, 4), (4, 4, 4), (5, 4, 5), (5, 5, 5)),
        *((4, 1, 2), (4, 2, 3), (4, 3, 4)),  # as DPV's matrix of five by five has them
    ],
)
def test_what_it_is_before_anything_is_done_is_computed(likelihood: int, severity: int, inherent: int) -> None:
    assert replace(RISK, likelihood=likelihood, severity=severity).inherent == inherent
    assert replace(RISK, likelihood=severity, severity=likelihood).inherent == inherent


def test_each_word_of_the_lists_is_taken() -> None:
    declared = Inventory.from_toml(TEXT.encode())
    lists: tuple[tuple[str, list[Any]], ...] = (
        ("linddun", [(threat,) for threat in THREATS]),
        ("touchpoint", ["", *TOUCHPOINTS]),
        ("leakage_channel", ["", *CHANNELS]),
        ("adversary", ["", *ADVERSARIES]),
        ("status", [status for status in STATUSES if status != "accepted"]),
        ("residual", [None, *range(1, RISK.inherent + 1)]),
        ("data_categories", [(), ("user.behavior.media_consumption", "user.name")]),
        ("budgets", [(), ("recommend", "train-recommender")]),
    )
    for name, known in lists:
        for value in known:
            changed = replace(RISK, **{name: value})
            assert replace(declared, risks=(changed,)).risks == (changed,)
    accepted = replace(RISK, status="accepted", accepted_by="A. Rivera", accepted_until="2030-01-01")
    assert replace(declared, risks=(accepted,)).risks == (accepted,)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"linddun": ()}, "linddun of lists tell.*none is given"),
        ({"title": "lists tell\nothers"}, "title of lists tell\nothers holds what is empty, or does not print"),
        ({"controls": ("a\x00",)}, "controls of lists tell.*does not print"),
        ({"linddun": ("linking", "guessing")}, "linddun of lists tell.*'guessing' is none of"),
        ({"likelihood": 6}, "likelihood of lists tell.* is 1 to 5, not 6"),
        ({"severity": 0}, "severity of lists tell.* is 1 to 5, not 0"),
        ({"residual": 0}, "residual of lists tell.* is 1 to 3, not 0"),
        ({"residual": 4}, "residual of lists tell.* is 1 to 3, not 4"),
        ({"data_categories": ("user.films",)}, "data_categories of lists tell.*'user.films' is none of"),
        ({"budgets": ("sell",)}, "budgets of lists tell.*'sell' is none of recommend, train-recommender"),
        ({"touchpoint": "cellar"}, "touchpoint of"),
        ({"leakage_channel": "gossip"}, "leakage_channel of"),
        ({"adversary": "aliens"}, "adversary of"),
        ({"status": "forgotten"}, "status of"),
        ({"status": "accepted"}, "accepted_by and accepted_until of"),
        ({"status": "accepted", "accepted_by": "A. Rivera"}, "accepted_by and accepted_until of"),
        ({"accepted_until": "2030-01-01"}, "accepted_by and accepted_until of"),
        ({"accepted_by": "A. Rivera", "accepted_until": "2030-01-01"}, "accepted_by and accepted_until of"),
        ({"created": "someday"}, "created of lists tell.* must be a date or time"),
        ({"reviewed": "2026-13-01"}, "reviewed of lists tell.* must be a date or time"),
        ({"status": "accepted", "accepted_by": "A", "accepted_until": "soon"}, "accepted_until of .* must be a date"),
        ({"evidence": ("",)}, "evidence of lists tell.* holds what is empty"),
        ({"dpia_ref": "a\nb"}, "dpia_ref of lists tell.* holds what is empty, or does not print"),
    ],
)
def test_what_is_no_risk(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(SettingError, match=said):
        replace(Inventory.from_toml(TEXT.encode()), risks=(replace(RISK, **changes),))


def test_an_id_is_of_one() -> None:
    with pytest.raises(SettingError, match="each id of a risk is there once"):
        Inventory.from_toml(TEXT.replace('"R02"', '"R01"').encode())


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("likelihood = 2", "likelihood = 2\ninherent = 1", r"unknown key 'inherent' in \[risk\]"),
        ('linddun = "identifying"', "linddun = 3", "linddun is not what it should be"),
        ('owner = "A. Rivera"', "", "owner is missing"),
    ],
)
def test_what_cannot_be_read(old: str, new: str, said: str) -> None:
    with pytest.raises(DataError, match=said):
        with_risks(BEFORE.replace(old, new))
    with pytest.raises(DataError, match=r"\[risk\] is missing"):
        Inventory.from_toml(
            TEXT[: TEXT.index("# What may go wrong")].replace("format = 1", "format = 1\nrisk = [3]").encode()
        )


@pytest.mark.parametrize(
    ("changes", "late"),
    [
        ({"created": "", "reviewed": ""}, True),
        ({"created": "2029-05-10", "owner": ""}, True),
        ({"created": "2029-05-10", "controls": ()}, True),
        ({"created": "2029-05-10", "title": "", "status": "closed"}, False),
        ({"created": "2029-05-10", "reviewed": "2099-01-01"}, True),  # it is still to be looked at
        ({"created": "2029-05-09"}, True),
        ({"created": "2029-05-10"}, False),
        ({"created": "2020-01-01", "reviewed": "2029-05-10"}, False),
        ({"created": "2020-01-01", "reviewed": "2029-05-10T01:59:59+02:00"}, True),
        ({"created": "2020-01-01", "status": "closed"}, False),
        ({"status": "accepted", "accepted_until": "2030-05-10T00:00:01Z"}, False),
        ({"status": "accepted", "accepted_until": "2030-05-10"}, True),
    ],
)
def test_what_is_late(changes: dict[str, Any], late: bool) -> None:
    time = "2030-05-10T00:00:00Z"
    risk = replace(RISK, **{"created": "2030-01-01", **changes})
    assert risk.is_late(time) is late
    assert risk.told(time)["late"] is late


def test_the_example_is_written_down_when_it_is_made_and_its_evidence_is_there() -> None:
    risks = Inventory.from_toml(TEXT.encode()).risks
    assert len(risks) >= 10
    assert {risk.created for risk in risks} == {RISK.created}
    assert not any(risk.is_late(now()) for risk in risks)
    assert all(risk.controls and risk.evidence and risk.data_categories and risk.residual for risk in risks)
    for evidence in (each for risk in risks for each in risk.evidence):
        path, _, parts = evidence.partition(": ")
        content = (ROOT / path).read_text()
        for part in filter(None, re.split(r", | and |gates ", parts)):
            assert (f"| {part} " in content) if len(part) == 1 else (part in content.lower()), evidence
