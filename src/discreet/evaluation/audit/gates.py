"""The audit: every gate, every kind of model, every adder, every claim; what fails is confirmed once.

Chances of a false alarm add up over all checks (Bonferroni) and stay within ``FALSE_ALARMS`` however many claims there
are: the checks that could be wrong by chance share it evenly.
"""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed

from discreet.errors import SettingError
from discreet.evaluation.audit import accountant, canaries, lists, neighbours, noise, sensitivity
from discreet.evaluation.audit.findings import GATES, Audit, Check, Claim, Outcome
from discreet.evaluation.audit.people import KINDS

FALSE_ALARMS = 1e-3
"""Of a whole audit, at most."""

LONGEST_FIRST = "CDFBEA"
"""Gates in the order in which their checks are begun."""

Progress = Callable[[int, int, str], None]
"""Told the checks done and planned, and the name of the one that was done last."""


def planned_checks(
    claims: Sequence[Claim], gates: Sequence[str] = tuple(GATES), kinds: Sequence[str] = KINDS
) -> list[Check]:
    """Return the checks of an audit.

    Args:
        claims: to hold the product to.
        gates: letters.
        kinds: of models.

    Raises:
        SettingError: there is no such gate or kind, or no claim.
    """
    _check_choice("gate", gates, GATES)
    _check_choice("model", kinds, KINDS)
    if not claims:
        raise SettingError("an audit needs a claim to hold the product to, such as eps=1,delta=1e-6")
    alpha = (FALSE_ALARMS - len(noise.checks()) * noise.ALPHA) / (
        len(claims) * (1 + len(KINDS) * (len(canaries.ADDERS) + 1))
    )
    made = [*noise.checks(), *sensitivity.checks(), *accountant.checks()]
    for claim in claims:
        made += [canaries.check(kind, claim, alpha, adder) for kind in KINDS for adder in canaries.ADDERS]
        made += [neighbours.check(claim, alpha)]
        made += [lists.check(kind, claim, alpha) for kind in KINDS]
    wanted = [check for check in made if check.gate in gates and _is_of(check, kinds)]
    return sorted(wanted, key=lambda check: check.gate)


def audit(
    claims: Sequence[Claim],
    *,
    gates: Sequence[str] = tuple(GATES),
    kinds: Sequence[str] = KINDS,
    processes: int = 1,
    progress: Progress | None = None,
) -> Audit:
    """Run the gates.

    Args:
        claims: to hold the product to, each for every kind of model.
        gates: letters; by default all.
        kinds: of models; by default all that the recipe knows.
        processes: that share the checks; with 1, this one makes them all.
        progress: told after each check.

    Raises:
        SettingError: there is no such gate or kind, or no claim.
    """
    checks, began = planned_checks(claims, gates, kinds), time.monotonic()
    outcomes: dict[int, Outcome] = {}
    for number, outcome in _outcomes(checks, processes):
        outcomes[number] = outcome
        if progress:
            progress(len(outcomes), len(checks), outcome.check.name)
    made = tuple(outcomes[number] for number in sorted(outcomes))
    return Audit(made, tuple(sorted(set(gates))), time.monotonic() - began)


def _outcomes(checks: Sequence[Check], processes: int) -> Iterator[tuple[int, Outcome]]:
    """Yield the number and the outcome of each check, as they are made; the longest are begun first."""
    order = sorted(range(len(checks)), key=lambda number: LONGEST_FIRST.find(checks[number].gate))
    if processes == 1:
        yield from ((number, checks[number].run()) for number in order)
        return
    # Started anew, not forked: threads and compiled kernels do not survive a fork.
    with ProcessPoolExecutor(processes, mp_context=multiprocessing.get_context("spawn")) as pool:
        running = {pool.submit(checks[number].run): number for number in order}
        for done in as_completed(running):
            yield running[done], done.result()


def _is_of(check: Check, kinds: Sequence[str]) -> bool:
    """Tell whether a check examines one of the kinds, or no kind at all."""
    kind = check.subject.partition(",")[0]
    return kind not in KINDS or kind in kinds or check.gate == "D"


def _check_choice(what: str, chosen: Sequence[str], known: Sequence[str] | dict[str, str]) -> None:
    for each in chosen:
        if each not in known:
            raise SettingError(f"unknown {what} {each!r}: choose {', '.join(known)}")
