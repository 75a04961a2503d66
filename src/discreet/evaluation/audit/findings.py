"""What the gates say: claims, findings, verdicts."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

from discreet.errors import DiscreetError, SettingError
from discreet.evaluation.audit.closed_form import mu_of_claim
from discreet.privacy.accounting import check_delta, check_epsilon

CONFIRMATION_ALPHA = 1e-6
CONFIRMATION_SCALE = 4
"""Of the one run that follows a failure: how much larger it is, and how sure it has to be. Fixed beforehand."""

GATES = {
    "A": "noise",
    "B": "sensitivity",
    "C": "canaries",
    "D": "neighbours",
    "E": "accountant",
    "F": "lists",
}
"""Letter and name of each gate; ``docs/audit.md`` says what each does."""

EXAMINED = {
    "A": "src/discreet/privacy/mechanisms/gaussian.py",
    "B": "src/discreet/privacy/clipping.py",
    "C": "src/discreet/privacy/disclosure.py",
    "D": "src/discreet/training/rounds.py",
    "E": "src/discreet/privacy/accounting.py",
    "F": "src/discreet/models/trained.py",
}
"""Where to begin to look when a gate fails."""


@dataclass(frozen=True)
class Claim:
    """A promise to hold the product to.

    Raises:
        SettingError: epsilon or delta is out of its range.
    """

    epsilon: float
    delta: float

    def __post_init__(self) -> None:
        check_epsilon(self.epsilon)
        check_delta(self.delta)

    def __str__(self) -> str:
        return f"eps={self.epsilon:g},delta={self.delta:g}"

    @cached_property
    def mu(self) -> float:
        """The largest mu of Gaussian differential privacy that keeps the claim; not by the product's accountant."""
        return mu_of_claim(self.epsilon, self.delta)

    @classmethod
    def parse(cls, text: str) -> Claim:
        """Read ``eps=1,delta=1e-6``.

        Raises:
            SettingError: it is something else.
        """
        found = re.fullmatch(r"\s*eps=([^,=]+),\s*delta=([^,=]+)", text)
        try:
            return cls(*map(float, found.groups())) if found else cls(math.nan, math.nan)
        except SettingError as error:
            raise SettingError(f"a claim is written as eps=1,delta=1e-6, got {text!r}: {error}") from None
        except ValueError:
            raise SettingError(f"a claim is written as eps=1,delta=1e-6, got {text!r}") from None


@dataclass(frozen=True)
class Finding:
    """What one run of one check found.

    Attributes:
        passed: whether the claim was not refuted.
        trials: how much was tried; 0 means that nothing can be concluded.
        alpha: chance of refuting a true claim; 0 where that cannot happen.
        detail: in one line, of synthetic people alone.
        figures: bounds and estimates, by name.
    """

    passed: bool
    trials: int
    alpha: float
    detail: str
    figures: dict[str, float]


@dataclass(frozen=True)
class Check:
    """One thing that a gate holds the product to.

    Attributes:
        gate: letter.
        subject: what is examined.
        claim: that it is held to, where that matters.
        alpha: chance of a false alarm in the first run; 0 where there can be none.
        measure: runs it, given alpha and how many times its usual size.
    """

    gate: str
    subject: str
    claim: Claim | None
    alpha: float
    measure: Callable[[float, int], Finding]

    @property
    def name(self) -> str:
        """For people: the gate's letter and name, the subject, the claim."""
        return " ".join(part for part in (self.gate, GATES[self.gate], self.subject, str(self.claim or "")) if part)

    def run(self) -> Outcome:
        """Run it; after a failure that may be chance once more, larger and surer, and let that decide. Never again."""
        first = self._found(self.alpha, 1)
        if first.passed or self.alpha == 0:
            return Outcome(self, (first,))
        return Outcome(self, (first, self._found(CONFIRMATION_ALPHA, CONFIRMATION_SCALE)))

    def _found(self, alpha: float, scale: int) -> Finding:
        """Measure. A product that refuses to run, or breaks down, has failed too: a correct one does neither here."""
        try:
            return self.measure(alpha, scale)
        except SettingError as error:  # a claim that cannot be made, such as one too small for a model's rounds
            return Finding(True, 0, alpha, f"not tried: {error}", {})
        except (ArithmeticError, DiscreetError, TypeError, ValueError) as error:
            return Finding(False, 1, alpha, f"the product did not run: {type(error).__name__}: {error}", {})


@dataclass(frozen=True)
class Outcome:
    """A check and its findings: one, or a failure and its confirmation run. Both are kept."""

    check: Check
    findings: tuple[Finding, ...]

    @property
    def passed(self) -> bool:
        """Whether the last finding did."""
        return self.findings[-1].passed

    @property
    def trials(self) -> int:
        """Of all findings."""
        return sum(finding.trials for finding in self.findings)

    def to_dict(self) -> dict[str, Any]:
        """Return JSON values; an infinite figure becomes None."""
        check = self.check
        return {
            "gate": check.gate,
            "name": GATES[check.gate],
            "subject": check.subject,
            "claim": None if check.claim is None else asdict(check.claim) | {"mu": check.claim.mu},
            "passed": self.passed,
            "findings": [_finite(asdict(finding)) for finding in self.findings],
        }


@dataclass(frozen=True)
class Audit:
    """All outcomes of one audit.

    Attributes:
        outcomes: in the order in which they were made.
        asked: letters of the gates that had to run.
        seconds: that it took.
    """

    outcomes: tuple[Outcome, ...]
    asked: tuple[str, ...]
    seconds: float

    @property
    def failed(self) -> tuple[Outcome, ...]:
        """The checks that refuted the product, twice where the first could have been chance."""
        return tuple(outcome for outcome in self.outcomes if not outcome.passed)

    @property
    def without_trial(self) -> tuple[str, ...]:
        """The gates that tried nothing: a check without a trial, or a gate without a check."""
        idle = {outcome.check.gate for outcome in self.outcomes if outcome.trials == 0}
        return tuple(gate for gate in self.asked if gate in idle or gate not in self._gates)

    @property
    def _gates(self) -> set[str]:
        return {outcome.check.gate for outcome in self.outcomes}

    @property
    def exit_code(self) -> int:
        """3 if a gate failed, 2 if one ran no trial, else 0."""
        return 3 if self.failed else 2 if self.without_trial else 0

    @property
    def false_alarms(self) -> float:
        """Bound on the chance that a correct product fails: the sum of the first runs' alphas (Bonferroni)."""
        return false_alarms([outcome.check for outcome in self.outcomes])

    def to_dict(self) -> dict[str, Any]:
        """Return JSON values."""
        return {
            "passed": self.exit_code == 0,
            "exit_code": self.exit_code,
            "seconds": round(self.seconds, 1),
            "false_alarms": self.false_alarms,
            "without_trial": list(self.without_trial),
            "outcomes": [outcome.to_dict() for outcome in self.outcomes],
        }


def false_alarms(checks: Sequence[Check]) -> float:
    """Return the sum of the alphas of some checks."""
    return math.fsum(check.alpha for check in checks)


def _finite(values: dict[str, Any]) -> dict[str, Any]:
    figures = values["figures"].items()
    return values | {"figures": {name: value if math.isfinite(value) else None for name, value in figures}}
