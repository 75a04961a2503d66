"""Which way to make lists: what is measured, and what follows from it."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from discreet.cli.advise import amount
from discreet.cli.commands import app
from discreet.errors import SettingError
from discreet.evaluation import advice
from discreet.evaluation.advice import MODELS, NATURES, TRUSTS, Cost, advise, measure

CHEAP = Cost(1.0, 1.0, 1_000, 1_000, 1, 0, 0, 0, 0)
COSTS = dict.fromkeys(NATURES, CHEAP)
NETWORK: dict[str, Any] = {"bandwidth": 5e6, "rtt": 0.04, "latency": 0.3}


def test_latency_adds_up() -> None:
    """Work, two round trips, and two kilobytes at eight kilobits a second."""
    cost = Cost(30.0, 20.0, 500, 500, 2, 0, 0, 0, 0)
    assert cost.latency(8_000.0, 0.1) == pytest.approx(0.05 + 0.2 + 1.0)


@pytest.mark.parametrize(
    ("trust", "model", "way"),
    [
        ("nobody", "public", "on_device"),
        ("two-servers", "public", "on_device"),
        ("nobody", "secret", None),
        ("two-servers", "secret", "garbled"),
        ("three-servers", "secret", "garbled"),
        ("the-server", "secret", "garbled"),
    ],
)
def test_what_assumes_least_is_chosen(trust: str, model: str, way: str | None) -> None:
    found = advise(COSTS, **NETWORK, trust=trust, model=model)
    assert found.way == way
    assert found.reason
    assert [each.way for each in found.options] == list(NATURES)


def test_what_is_too_slow_is_not_and_of_none_fast_enough_the_fastest_is() -> None:
    slow = replace(CHEAP, server_ms=10_000.0)
    found = advise(COSTS | {"garbled": slow}, **NETWORK, trust="three-servers", model="secret")
    assert found.way == "mpc"
    found = advise(
        {"garbled": slow, "mpc": replace(slow, server_ms=9_000.0)}, **NETWORK, trust="three-servers", model="secret"
    )
    assert found.way == "mpc"
    assert "none is as fast as 300 ms" in found.reason


def test_what_was_not_measured_is_told_and_not_chosen() -> None:
    found = advise({}, **NETWORK, trust="the-server", model="public")
    assert found.way is None
    assert {each.against for each in found.options} == {"not measured here"}


@given(
    trust=st.sampled_from(TRUSTS),
    model=st.sampled_from(MODELS),
    times=st.lists(st.floats(0, 1e4), min_size=len(NATURES), max_size=len(NATURES)),
)
def test_no_advice_breaks_a_condition(trust: str, model: str, times: list[float]) -> None:
    costs = {way: replace(CHEAP, server_ms=each) for way, each in zip(NATURES, times, strict=True)}
    found = advise(costs, **NETWORK, trust=trust, model=model)
    if found.way is not None:
        nature = NATURES[found.way]
        assert TRUSTS.index(nature.assumes) <= TRUSTS.index(trust)
        assert model == "public" or not nature.gives_model_away


@pytest.mark.parametrize(
    "changes",
    [{"trust": "everybody"}, {"model": "none"}, {"bandwidth": 0.0}, {"latency": float("nan")}, {"rtt": -1.0}],
    ids=str,
)
def test_what_cannot_be_asked(changes: dict[str, Any]) -> None:
    with pytest.raises(SettingError):
        advise(COSTS, **{**NETWORK, "trust": "nobody", "model": "public", **changes})


@pytest.mark.parametrize(("items", "dim"), [(99, 8), (1 << 21, 8), (1_000, 1), (1_000, 257)])
def test_sizes_that_cannot_be_measured(items: int, dim: int) -> None:
    with pytest.raises(SettingError, match="items are 100"):
        measure(items, dim)


def test_each_way_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(advice, "RUNS", 1)
    told: list[str] = []
    costs = measure(500, 8, progress=told.append)
    assert list(costs) == told == ["plain", "on_device", "shared", "garbled"]
    assert costs["on_device"].up == costs["on_device"].rounds == 0
    assert costs["shared"].down > costs["garbled"].down
    assert costs["garbled"].between > 1_000_000
    assert all(cost.server_ms + cost.device_ms > 0 for cost in costs.values())


@pytest.mark.parametrize(
    ("text", "unit", "wanted"),
    [("5Mbit", "bit", 5e6), ("1.5 Gbit", "bit", 1.5e9), ("300ms", "s", 0.3), ("2s", "s", 2.0), ("64kbit", "bit", 64e3)],
)
def test_amounts(text: str, unit: str, wanted: float) -> None:
    assert amount(text, unit) == pytest.approx(wanted)


@pytest.mark.parametrize(("text", "unit"), [("5", "bit"), ("5Mbit", "s"), ("300ms", "bit"), ("-1s", "s"), ("", "s")])
def test_amounts_that_are_none(text: str, unit: str) -> None:
    with pytest.raises(SettingError, match="like"):
        amount(text, unit)


def test_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(advice, "RUNS", 1)
    asked = ["advise", "--items", "500", "--dim", "8"]
    told = CliRunner().invoke(app, [*asked, "--json"])
    assert json.loads(told.stdout)["way"] == "on_device"
    shown = CliRunner().invoke(app, asked).stdout
    assert "use on_device: on_device assumes least" in shown
