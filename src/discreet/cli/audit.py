"""``discreet audit``: the gates, as a table for people, and as files for pipelines."""

from __future__ import annotations

import os
import sys
import threading
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from discreet.cli.levels import LevelsOption, OthersOption, chosen_levels
from discreet.cli.models import Data, ModelFile
from discreet.cli.output import Json, progress, say, say_json, screen, table

if TYPE_CHECKING:
    from collections.abc import Sequence

    from discreet.data.interactions import Interactions
    from discreet.evaluation.audit.findings import Audit, Claim, Outcome
    from discreet.evaluation.audit.shadow import ShadowAudit
    from discreet.models.trained import Trained
    from discreet.privacy.levels import Levels

DEFAULT_CLAIMS = ("eps=1,delta=1e-6", "eps=8,delta=1e-6")


def audit(
    claim: Annotated[
        list[str] | None, typer.Option("--claim", help="eps=1,delta=1e-6; may be repeated. Without it: eps 1 and 8.")
    ] = None,
    ci: Annotated[bool, typer.Option("--ci", help="Every gate and model must run: a part alone is refused.")] = False,
    gate: Annotated[list[str] | None, typer.Option("--gate", help="A to F; may be repeated.")] = None,
    model: Annotated[list[str] | None, typer.Option("--model", help="Kind of model; may be repeated.")] = None,
    processes: Annotated[
        int | None, typer.Option("--processes", min=1, help="That share the work; by default one a core, at most two.")
    ] = None,
    junit: Annotated[Path | None, typer.Option("--junit", help="Write the outcome here as JUnit XML.")] = None,
    sarif: Annotated[Path | None, typer.Option("--sarif", help="Write what failed here as SARIF.")] = None,
    aside: Annotated[
        bool, typer.Option("--aside", help="At the lowest priority, and for no longer than standard input is open.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Attack this very installation on synthetic people, and hold what comes out against what it claims.

    Exit code 3 if a gate fails, 2 if a gate ran no trial. A failure that could be chance is confirmed by one larger
    run, whose result decides; both are reported. Never seeded.
    """
    claims = _claims(claim)
    _check_whole(ci, gate, model)
    if aside:
        _give_way()
    for file in (junit, sarif):
        _check_place(file)
    made = _made(claims, gate, model, processes or min(2, os.cpu_count() or 1))
    _write(made, junit, sarif)
    if as_json:
        say_json(made.to_dict())
    else:
        _show(made, claims)
    if made.exit_code:
        raise typer.Exit(made.exit_code)


def audit_model(
    file: ModelFile,
    data: Data,
    out: Annotated[
        Path | None, typer.Option("--out", help="Publish what was found here (.json); must not exist.")
    ] = None,
    levels: LevelsOption = None,
    others: OthersOption = None,
    as_json: Json = False,
) -> None:
    """Attack a shadow of one model: the same settings and plan, run again on its data with people who do not exist.

    The shadow is thrown away; the model itself is not touched. Show what was found with `card MODEL --audit FILE`. Exit
    code 3 if the model's claim is refuted.
    """
    from discreet.data.intake import read_interactions
    from discreet.models.trained import Trained
    from discreet.training.billing import check_free, checked_target

    target = checked_target(out)
    check_free(target)
    trained = Trained.load(file)
    interactions = read_interactions(data, window=trained.guarantee.window)
    found = audited(trained, interactions, chosen_levels(levels, others), target)
    if as_json:
        say_json(found.to_dict())
    else:
        show_audit(found)
    if not found.passed:
        raise typer.Exit(3)


def audited(trained: Trained, data: Interactions, levels: Levels | None, target: Path | None) -> ShadowAudit:
    """Attack a shadow of a model, with a bar, and publish what was found."""
    from discreet.evaluation.audit.shadow import audit_model
    from discreet.files import write_bytes

    with progress() as bars:
        bar = bars.add_task("training a shadow to attack", total=None)

        def step(done: int, total: int) -> None:
            bars.update(bar, completed=done, total=total)

        found = audit_model(trained, data, levels=levels, progress=step)
    if target:
        write_bytes(target, found.to_bytes())
    return found


def show_audit(found: ShadowAudit) -> None:
    """Print what was found, in words."""
    from discreet.models.card import audit_lines

    for line in audit_lines(found.to_dict()):
        say(line, None if found.passed else "bold red")


def _claims(texts: Sequence[str] | None) -> list[Claim]:
    from discreet.evaluation.audit.findings import Claim

    return [Claim.parse(text) for text in texts or DEFAULT_CLAIMS]


def _check_whole(ci: bool, gates: Sequence[str] | None, kinds: Sequence[str] | None) -> None:
    from discreet.errors import SettingError

    if ci and (gates or kinds):
        raise SettingError("--ci runs every gate on every model: leave out --gate and --model")


def _give_way() -> None:
    """Let everything else go first, and end with whoever holds the other end of standard input, however they end."""

    def watch() -> None:
        with suppress(OSError):
            while os.read(sys.stdin.fileno(), 1 << 10):
                pass
        os._exit(1)

    os.nice(19)
    threading.Thread(target=watch, daemon=True).start()


def _check_place(file: Path | None) -> None:
    from discreet.training.billing import check_place

    if file is not None:
        check_place(file)


def _made(claims: list[Claim], gates: Sequence[str] | None, kinds: Sequence[str] | None, processes: int) -> Audit:
    from discreet.evaluation.audit import gates as room
    from discreet.evaluation.audit.findings import GATES
    from discreet.evaluation.audit.people import KINDS

    chosen = tuple(gates) if gates else tuple(GATES)
    with progress() as bars:
        bar = bars.add_task("attacking", total=None)

        def step(done: int, total: int, name: str) -> None:
            bars.update(bar, completed=done, total=total, description=name)

        return room.audit(claims, gates=chosen, kinds=tuple(kinds or KINDS), processes=processes, progress=step)


def _write(made: Audit, junit: Path | None, sarif: Path | None) -> None:
    from discreet.evaluation.audit import reports
    from discreet.files import write_bytes

    if junit:
        write_bytes(junit, reports.junit(made))
    if sarif:
        write_bytes(sarif, reports.sarif(made))


def _show(made: Audit, claims: Sequence[Claim]) -> None:
    for claim in (None, *claims):
        outcomes = [outcome for outcome in made.outcomes if outcome.check.claim == claim]
        if outcomes:
            _show_outcomes(f"Held against {claim}" if claim else "Held against the proofs", outcomes)
    _show_bounds([outcome for outcome in made.outcomes if outcome.check.gate == "C"])
    for gate in made.without_trial:
        say(f"gate {gate} ran no trial: nothing is known", "bold red")
    verdict = f"{len(made.failed)} of {len(made.outcomes)} checks failed, in {made.seconds:.0f} s"
    say(f"{verdict}; a correct product fails with a chance of at most {made.false_alarms:.1e}")


def _show_outcomes(title: str, outcomes: Sequence[Outcome]) -> None:
    shown = table(title, "gate", "", "trials", "found")
    for outcome in outcomes:
        name = f"{outcome.check.gate} {outcome.check.subject}"
        for number, finding in enumerate(outcome.findings):
            verdict = "none" if not finding.trials else "pass" if finding.passed else "FAIL"
            shown.add_row("  to confirm" if number else name, verdict, f"{finding.trials:,}", finding.detail)
    screen.print(shown)


def _show_bounds(outcomes: Sequence[Outcome]) -> None:
    """Print what the canaries prove of epsilon at 95 % confidence, with ever fewer assumptions."""
    if not outcomes:
        return
    columns = ("claim", "Gaussian noise", "mu-GDP", "nothing")
    shown = table("Epsilon at least, each figure right in 19 of 20 audits, assuming", "canaries", *columns)
    for outcome in outcomes:
        figures = outcome.findings[-1].figures
        bounds = [figures.get(f"epsilon_95_{name}", 0.0) for name in ("z_gdp", "f_dp", "steinke")]
        shown.add_row(outcome.check.subject, str(outcome.check.claim), *[f"{bound:.2f}" for bound in bounds])
    screen.print(shown)
