"""What the gates are worth: how often they raise a false alarm, how surely they find an error, and what they measured.

    python benchmarks/audit.py             # about five minutes
    python benchmarks/audit.py --out docs  # and write docs/audit-measured.md

False alarms are counted on the decisions of whole audits of a mechanism that is exactly at its claim, simulated from
the laws of the statistics. Power is of the checks as they run, confirmation run included, with an error planted in the
product; that of canaries, neighbours and lists is simulated as false alarms are, since a run takes seconds.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from pathlib import Path
from unittest import mock

import numpy as np
from quality import machine
from scipy.stats import norm

from discreet.evaluation.audit import accountant, gates, neighbours, noise, sensitivity
from discreet.evaluation.audit.canaries import canaries_for
from discreet.evaluation.audit.findings import Audit, Check, Claim, Finding, Outcome
from discreet.evaluation.audit.lists import RUNS
from discreet.evaluation.audit.neighbours import runs_for
from discreet.evaluation.audit.statistics import Overlap, Rates, gap_bound
from discreet.privacy.accounting import epsilon_of
from discreet.privacy.mechanisms import gaussian
from discreet.privacy.plan import Plan

CLAIMS = (Claim(1.0, 1e-6), Claim(8.0, 1e-6))
RANDOM = np.random.default_rng()
ERRORS = {"half": 2.0, "5 % too small": 1 / 0.95, "a hundredth": 100.0}
"""What noise would have to be to make mu larger than claimed, by these factors."""

HEAD = """# Audits, measured

Written by `benchmarks/audit.py`: what it printed. What it means: [audit.md](audit.md).

    python benchmarks/audit.py
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--audits", type=int, default=10_000, help="to simulate")
    parser.add_argument("--runs", type=int, default=20, help="of each check with an error planted in the product")
    parser.add_argument("--out", type=Path, help="folder for audit-measured.md")
    arguments = parser.parse_args()
    lines: list[str] = []
    for line in measured(arguments.audits, arguments.runs):
        print(line, flush=True)
        lines.append(line)
    if arguments.out:
        (arguments.out / "audit-measured.md").write_text("\n".join([HEAD, "```", *lines, "```\n"]))


def measured(audits: int, runs: int) -> Iterator[str]:
    yield machine()
    yield from told(gates.audit(CLAIMS, processes=2))
    first, confirmed = false_alarms(audits)
    yield f"\nFalse alarms in {audits:,} simulated audits of a mechanism exactly at its claims"
    yield f"first runs that failed: {first}; of them confirmed: {confirmed}"
    passed = [noise.measure_residual(noise.ALPHA, 1) for _ in range(runs)]
    yield f"gate A on the product, {runs} times: {sum(not each.passed for each in passed)} failed"
    yield f"\nPower: share of {runs} runs (A, B, E), or of 1,000 simulated ones (C, D, F), that end in a failure"
    yield f"{'':<34}" + "".join(f"{error:>16}" for error in ERRORS)
    for name, power in powers(runs).items():
        yield f"{name:<34}" + "".join(f"{power(factor):>16.1%}" for factor in ERRORS.values())


def told(found: Audit) -> Iterator[str]:
    """Yield what one audit found of each model."""
    yield f"{len(found.outcomes)} checks in {found.seconds:.0f} s, of which {len(found.failed)} failed;"
    yield f"a correct product fails with a chance of at most {found.false_alarms:.1e}\n"
    yield "Canaries: mu claimed, by their rows, as estimated; epsilon at least, at 95 %, assuming what is named"
    heads = f"{'claim':<20}{'model, adder':<28}{'claimed':>8}{'rows':>7}{'seen':>7}"
    yield heads + f"{'Gaussian':>10}{'mu-GDP':>8}{'nothing':>9}"
    for outcome in found.outcomes:
        if outcome.check.gate == "C":
            yield _row(outcome)
    yield "\nLists and neighbours: what an attacker was shown to gain, at least, at 95 %"
    yield f"{'claim':<20}{'check':<16}{'runs':>8}{'mu':>8}{'epsilon':>9}{'advantage':>11}"
    for outcome in found.outcomes:
        if outcome.check.gate in {"D", "F"}:
            figures = outcome.findings[-1].figures
            name = f"{outcome.check.gate} {outcome.check.subject}"
            shown = f"{figures['mu_95']:>8.3f}{figures['epsilon_95']:>9.3f}{figures['advantage_95']:>11.3f}"
            yield f"{outcome.check.claim!s:<20}{name:<16}{outcome.trials:>8,}{shown}"


def _row(outcome: Outcome) -> str:
    figures = outcome.findings[-1].figures
    mus = f"{figures['mu_claim']:>11.3f}{figures['mu_of_rows']:>7.3f}{figures['mu_estimate']:>7.3f}"
    bounds = (
        f"{figures['epsilon_95_z_gdp']:>10.2f}{figures['epsilon_95_f_dp']:>8.2f}{figures['epsilon_95_steinke']:>9.2f}"
    )
    return f"{outcome.check.claim!s:<20}{outcome.check.subject:<28}{mus}{bounds}"


def false_alarms(audits: int) -> tuple[int, int]:
    """Return how many of some audits had a first run that failed, and how many a confirmed failure."""
    checks = [check for check in gates.planned_checks(CLAIMS) if check.gate in SIMULATED]
    outcomes = [[simulated(check, 1.0).run() for check in checks] for _ in range(audits)]
    first = sum(any(not outcome.findings[0].passed for outcome in audit) for audit in outcomes)
    return first, sum(any(not outcome.passed for outcome in audit) for audit in outcomes)


def powers(runs: int) -> dict[str, Callable[[float], float]]:
    """Return the power of each check as a function of the factor by which mu is larger than claimed."""
    planted = {
        "A residual": lambda factor: _share(noise.checks()[0], runs, lambda: _less_noise(factor)),
        "B popularity": lambda factor: _share(sensitivity.checks()[0], runs, lambda: _lower_price(factor)),
        "E compositions": lambda factor: _share(accountant.checks()[0], runs, lambda: _lower_epsilon(factor)),
    }
    checks = {f"{each.gate} {each.claim}": each for each in gates.planned_checks(CLAIMS) if each.gate in SIMULATED}
    return planted | {
        name: lambda factor, check=check: float(
            np.mean([not simulated(check, factor).run().passed for _ in range(1_000)])
        )
        for name, check in checks.items()
    }


def simulated(check: Check, factor: float) -> Check:
    """Return a check that draws what it would see, of a mechanism whose mu is ``factor`` times what is claimed."""
    assert check.claim is not None
    mu, claim, draw = factor * check.claim.mu, check.claim, SIMULATED[check.gate]
    return Check(check.gate, check.subject, claim, check.alpha, lambda alpha, scale: draw(claim, mu, alpha, scale))


def _canaries(claim: Claim, mu: float, alpha: float, scale: int) -> Finding:
    inside = RANDOM.random(scale * canaries_for(claim.mu, alpha)) < 0.5
    scores = RANDOM.standard_normal(inside.size) + mu * inside
    bound = gap_bound(scores, inside, Overlap.none(inside), alpha)[1]
    return Finding(bound <= claim.mu, inside.size, alpha, "", {})


def _runs(claim: Claim, mu: float, alpha: float, runs: int) -> Finding:
    missed, false = RANDOM.binomial(runs, norm.cdf(-mu / 2), 2)
    return neighbours.judged(Rates(int(missed), runs, int(false), runs), claim, alpha)


SIMULATED: dict[str, Callable[[Claim, float, float, int], Finding]] = {
    "C": _canaries,
    "D": lambda claim, mu, alpha, scale: _runs(claim, mu, alpha, scale * runs_for(claim.mu, alpha)),
    "F": lambda claim, mu, alpha, scale: _runs(claim, mu, alpha, scale * RUNS),
}


def _share(check: Check, runs: int, planted: Callable[[], mock._patch[object]]) -> float:
    """Return how often a check fails with an error planted in the product."""
    with planted():
        return float(np.mean([not check.run().passed for _ in range(runs)]))


def _less_noise(factor: float) -> mock._patch[object]:
    real = gaussian.draw
    return mock.patch.object(
        gaussian, "draw", lambda count, source: np.rint(real(count, source) / factor).astype(np.int64)
    )


def _lower_price(factor: float) -> mock._patch[object]:
    real = Plan.price
    return mock.patch.object(Plan, "price", lambda plan, number, *level: int(real(plan, number, *level) / factor**2))


def _lower_epsilon(factor: float) -> mock._patch[object]:
    """Read epsilon off a mu that is too small by a factor."""
    return mock.patch(
        "discreet.privacy.guarantee.epsilon_of", lambda units, delta: epsilon_of(int(units / factor**2), delta)
    )


if __name__ == "__main__":
    main()
