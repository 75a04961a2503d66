"""The audit as a whole: what is planned, how a failure is confirmed, what pipelines are told."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any
from xml.etree import ElementTree as ET

import numpy as np
import pytest
from scipy.sparse import csr_array

from discreet.errors import BoundExceeded, SettingError
from discreet.evaluation.audit import canaries, neighbours, reports, sensitivity
from discreet.evaluation.audit.findings import (
    CONFIRMATION_ALPHA,
    CONFIRMATION_SCALE,
    GATES,
    Audit,
    Check,
    Claim,
    Finding,
    Outcome,
    false_alarms,
)
from discreet.evaluation.audit.gates import FALSE_ALARMS, LONGEST_FIRST, audit, planned_checks
from discreet.evaluation.audit.people import KINDS, planned
from discreet.evaluation.transcripts import Watched
from discreet.models.recipe import Kind
from discreet.models.trained import Trained
from discreet.training.rounds import train

CLAIMS = [Claim(1.0, 1e-6), Claim(8.0, 1e-6)]


def finding(*, passed: bool, trials: int = 10, alpha: float = 1e-4) -> Finding:
    return Finding(passed, trials, alpha, "as told", {"mu_bound": float("inf")})


def check(measure: Callable[[float, int], Finding], *, gate: str = "C", alpha: float = 1e-4) -> Check:
    return Check(gate, "gram, add_up", CLAIMS[0], alpha, measure)


def outcome(*, passed: bool) -> Outcome:
    return Outcome(check(lambda *_: finding(passed=passed)), (finding(passed=passed),))


def made(*outcomes: Outcome, asked: tuple[str, ...] = ("C",)) -> Audit:
    return Audit(outcomes, asked, 1.0)


class TestPlan:
    @pytest.mark.parametrize("claims", [CLAIMS[:1], CLAIMS, CLAIMS * 4])
    def test_false_alarms_add_up_to_what_is_stated_at_most(self, claims: list[Claim]) -> None:
        assert 0.9 * FALSE_ALARMS < false_alarms(planned_checks(claims)) <= FALSE_ALARMS * (1 + 1e-9)

    def test_every_gate_runs_and_every_model_at_every_claim_with_every_adder(self) -> None:
        checks = planned_checks(CLAIMS)
        assert {check.gate for check in checks} == set(GATES) == set(LONGEST_FIRST)
        subjects = [(check.subject, check.claim) for check in checks if check.gate == "C"]
        assert subjects == [
            (f"{kind}, {adder}", claim) for claim in CLAIMS for kind in KINDS for adder in canaries.ADDERS
        ]
        assert [check.subject for check in checks if check.gate == "F"] == [*KINDS] * 2

    def test_a_part_can_be_asked_for(self) -> None:
        checks = planned_checks(CLAIMS, gates=["B", "C"], kinds=["gram"])
        assert {check.subject for check in checks} == {
            "gram",
            *canaries.ADDERS,
            *(f"gram, {adder}" for adder in canaries.ADDERS),
        }

    def test_what_does_not_exist_is_refused(self) -> None:
        with pytest.raises(SettingError, match="gate 'G'"):
            planned_checks(CLAIMS, gates=["G"])
        with pytest.raises(SettingError, match="model 'auto'"):
            planned_checks(CLAIMS, kinds=["auto"])
        with pytest.raises(SettingError, match="needs a claim"):
            planned_checks([])

    def test_more_canaries_and_runs_where_less_is_claimed(self) -> None:
        assert canaries.canaries_for(0.1, 1e-4) > canaries.canaries_for(0.24, 1e-4) > canaries.LEAST
        assert canaries.canaries_for(4.0, 1e-4) == canaries.LEAST
        assert neighbours.runs_for(0.1, 1e-4) > neighbours.runs_for(0.24, 1e-4) > neighbours.LEAST


class TestConfirmation:
    def test_a_failure_is_confirmed_once_larger_and_surer_and_both_are_kept(self) -> None:
        asked: list[tuple[float, int]] = []

        def failing(alpha: float, scale: int) -> Finding:
            asked.append((alpha, scale))
            return finding(passed=False)

        outcome = check(failing).run()
        assert asked == [(1e-4, 1), (CONFIRMATION_ALPHA, CONFIRMATION_SCALE)]
        assert (outcome.passed, len(outcome.findings), outcome.trials) == (False, 2, 20)

    def test_the_confirmation_decides_and_the_failure_stays_on_record(self) -> None:
        outcome = check(lambda _, scale: finding(passed=scale > 1)).run()
        assert outcome.passed
        assert [each.passed for each in outcome.findings] == [False, True]

    def test_what_passes_is_not_run_again(self) -> None:
        assert len(check(lambda *_: finding(passed=True)).run().findings) == 1

    def test_what_is_not_chance_is_not_run_again(self) -> None:
        assert len(check(lambda *_: finding(passed=False), alpha=0.0).run().findings) == 1

    def test_a_product_that_refuses_has_failed(self) -> None:
        def refusing(alpha: float, scale: int) -> Finding:
            raise BoundExceeded("too long")

        outcome = check(refusing).run()
        assert not outcome.passed
        assert "too long" in outcome.findings[0].detail


class TestVerdict:
    def test_exit_codes(self) -> None:
        good, bad = outcome(passed=True), outcome(passed=False)
        idle = Outcome(good.check, (finding(passed=True, trials=0),))
        assert made(good).exit_code == 0
        assert made(good, bad).exit_code == 3
        assert made(idle).exit_code == 2
        assert made(idle, bad).exit_code == 3
        assert made(good, asked=("B", "C")).without_trial == ("B",)

    def test_the_sum_of_alphas_is_told(self) -> None:
        good = outcome(passed=True)
        assert made(good, good).false_alarms == pytest.approx(2e-4)

    def test_processes_make_the_same_checks_in_the_same_order(self) -> None:
        told: list[tuple[int, int, str]] = []
        found = audit(
            CLAIMS[1:], gates=["B"], kinds=["popularity"], processes=2, progress=lambda *step: told.append(step)
        )
        assert [outcome.check.subject for outcome in found.outcomes] == ["popularity", *canaries.ADDERS]
        assert found.exit_code == 0
        assert [step[:2] for step in told] == [(1, 4), (2, 4), (3, 4), (4, 4)]


class TestReports:
    def test_junit(self) -> None:
        bad = Outcome(check(lambda *_: finding(passed=False)), (finding(passed=False), finding(passed=False)))
        good = Outcome(bad.check, (finding(passed=True),))
        suite = ET.fromstring(reports.junit(made(good, bad, asked=("A", "C"))))[0]
        assert suite.attrib["tests"] == "3"
        assert suite.attrib["failures"] == "1"
        assert suite.attrib["errors"] == "1"
        assert len(suite.findall("testcase")) == 3
        (failure,) = suite.iter("failure")
        assert "to confirm" in (failure.text or "")
        assert json.loads(next(suite.iter("system-out")).text or "")["findings"][0]["figures"]["mu_bound"] is None

    def test_sarif_has_what_failed_and_nothing_else(self) -> None:
        good, bad = outcome(passed=True), outcome(passed=False)
        (run,) = json.loads(reports.sarif(made(good, bad, asked=("A", "C"))))["runs"]
        assert [(result["ruleId"], result["level"]) for result in run["results"]] == [("C", "error"), ("A", "error")]
        assert {rule["id"] for rule in run["tool"]["driver"]["rules"]} == set(GATES)
        assert all(result["locations"] for result in run["results"])

    def test_json_has_no_infinity(self) -> None:
        json.dumps(made(outcome(passed=True)).to_dict(), allow_nan=False)


class TestCanaries:
    def test_whoever_leaves_no_trace_is_no_trial(self) -> None:
        made_rows = np.array([[3.0, 0.0], [0.0, 0.0], [0.0, 4.0]])
        seen = canaries.scored(csr_array(made_rows), np.array([3.0, 0.0]), np.array([True, True, False]), 2.0)
        assert seen.inside.tolist() == [True, False]
        assert seen.knowing.tolist() == [1.5, 0.0]
        assert seen.longest == 2.0

    @pytest.mark.parametrize(("kind", "learnt"), [("subspace", "basis"), ("sgd", "factors")])
    def test_models_go_past_their_counts(self, kind: Kind, learnt: str, monkeypatch: pytest.MonkeyPatch) -> None:
        """Or gates would examine the first round again and again."""
        watched: list[Watched] = []

        def training(model: Watched, *rest: Any, **how: Any) -> Trained:
            watched.append(model)
            return train(model, *rest, **how)

        monkeypatch.setattr(canaries, "train", training)
        for claim in CLAIMS:
            canaries.watch(kind, claim, 1_000, canaries.ADDERS["add_up"])
        assert all(learnt in each.states[1] for each in watched)
        assert len(watched) == 2

    @pytest.mark.parametrize("kind", ["subspace", "als"])
    def test_neighbours_are_too(self, kind: Kind) -> None:
        model, plan = planned(kind, sensitivity.CROWD, sensitivity.ITEMS, 8.0, 1e-6)
        last = [*sensitivity._states(model, plan, np.random.default_rng())][-1][0]
        assert "basis" in last or "factors" in last
