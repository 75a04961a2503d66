"""A federation in one process: ways are comparable, costs are counted, and nonsense is refused before anything runs."""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path
from typing import Any

import pytest
from tests.conftest import MEASURE, TRAIN

from discreet.cli.commands import run
from discreet.data.intake import read_interactions
from discreet.data.interactions import Histories, Interactions
from discreet.data.store import write_interactions
from discreet.errors import PurposeNotAllowed, SettingError
from discreet.evaluation.federation import WAYS, federate


@pytest.fixture(scope="module")
def measured(data: Interactions) -> Histories:
    return data.opened_for(MEASURE)


def test_all_ways_at_the_same_epsilon(measured: Histories) -> None:
    told: list[str] = []
    found = federate(measured, epsilon=8.0, parties=10, lost=0.2, seeds=2, held_out=40, progress=told.append)
    central, secure, two = found
    assert [each.way for each in found] == list(WAYS)
    assert len(told) == 6
    assert (central.noise, central.bits, central.up) == (1.0, 0, 0.0)
    assert secure.noise == pytest.approx((10 / 8) ** 0.5, rel=1e-4)
    assert two.noise == pytest.approx(2**0.5)
    for each in (secure, two):
        assert each.packed == pytest.approx(each.values * each.bits / 8)
        assert 0.5 < each.values / central.values < 2  # which items are kept depends on the noise
        assert each.up > each.packed
    assert json.loads(json.dumps([each.to_dict() for each in found], allow_nan=False))[1]["parties"] == 10
    for each in found:
        assert each.quality.seeds == 2
        assert each.quality.mean > 0.2


@pytest.mark.parametrize(
    "changes",
    [
        {"ways": []},
        {"ways": ["gossip"]},
        {"seeds": 0},
        {"parties": 0},
        {"parties": 261},
        {"parties": 2, "ways": ["secagg"]},
        {"lost": 0.9, "ways": ["secagg"]},
    ],
)
def test_what_cannot_be_simulated(measured: Histories, changes: dict[str, Any]) -> None:
    asked: dict[str, Any] = {"epsilon": 1.0, "parties": 10, "seeds": 1, "held_out": 40}
    with pytest.raises(SettingError):
        federate(measured, **asked | changes)


@pytest.mark.parametrize("lost", [0.0, 0.2])
def test_without_noise_nothing_is_promised_and_masks_cost_no_quality(measured: Histories, lost: float) -> None:
    asked: dict[str, Any] = {"epsilon": math.inf, "kind": "ials", "parties": 10, "seeds": 1, "held_out": 40}
    central, secure, two = federate(measured, lost=lost, **asked)
    for each in (central, secure, two):
        assert (each.noise, each.private, each.to_dict()["private"]) == (0.0, False, False)
        assert each.values == central.values
        assert each.quality.mean == pytest.approx(central.quality.mean, abs=0.03 if lost == 0 else 0.15)
    assert (secure.bits, two.bits) == (32, 32)


def test_another_purpose(data: Interactions) -> None:
    with pytest.raises(PurposeNotAllowed):
        federate(data.opened_for(TRAIN), epsilon=1.0, parties=10)


def test_on_the_command_line(csv_file: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    monkeypatch.chdir(csv_file.parent)
    write_interactions(read_interactions(csv_file, name="tastes", purposes=(TRAIN, MEASURE)), "tastes.parquet")

    def simulate(*words: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["discreet", "federated", "simulate", *words])
        with pytest.raises(SystemExit) as ended:
            run()
        printed = capsys.readouterr()
        return int(ended.value.code or 0), printed.out, printed.err

    asked = ("tastes.parquet", "--clients", "10", "--seeds", "1", "--held-out", "40")
    code, out, _ = simulate(*asked)
    assert code == 0
    assert all(way in out for way in WAYS)
    code, out, _ = simulate(*asked, "--way", "two-servers", "--json")
    assert [each["way"] for each in json.loads(out)] == ["two-servers"]
    code, out, _ = simulate(*asked, "--way", "central", "--epsilon", "inf")
    assert "NOT private" in out
    code, _, err = simulate(*asked, "--way", "gossip")
    assert (code, err.count("\n")) == (1, 1)
