"""The inventory in forms that others read: a manifest of Fides, a record of processing activities, a draft of a DPIA.

Nothing in them is made up. What is not declared is ``not stated``; what the law asks besides, and no file can know, is
left to a person, and says so.

=================  ==============================================  =====================================================
form               what it is                                      what it is made of
=================  ==============================================  =====================================================
`fides`            a system and a data set that ``fides`` imports  the inventory; JSON, which is YAML
`record`           a record of processing activities, GDPR 30(1)   the inventory
`assessment`       a draft of a data protection impact             the inventory with its risks, the budgets that are
                   assessment, GDPR 35(7)                          open, what the last audit found
=================  ==============================================  =====================================================
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from typing import Any, NamedTuple

from discreet.documents import document, told
from discreet.errors import DataError
from discreet.governance.accounts import AccountState
from discreet.governance.checks import sha256
from discreet.governance.inventory import Authority, Controller, Inventory, Purpose
from discreet.governance.risks import Risk

NOT_STATED = "not stated"
LAWFUL = {"consent": ("Consent", "consent, GDPR 6(1)(a)")}
"""Of a purpose, as Fides names it and as the law does."""
MEASURES = (
    "What is kept of a person is sealed by AES-256-GCM under a key of their own, which a master key wraps.",
    "The database knows people by HMACs under keys that are wrapped; what is handed out for a purpose has others.",
    "What is not declared is not kept; times are rounded down; of one person the latest events alone stay.",
    "Nobody is read for a purpose that they do not permit: the query decides, and what stands is bound by a MAC.",
    "Models are released under differential privacy, at a budget that is charged before they are.",
    "Roles are denied what is not written; a look at one person, a cap and an inventory take two people.",
    "Each act is a row of a signed journal, which is replayed against the tables every week.",
    "Beyond this machine everything goes over TLS.",
)
"""What the service does by itself (docs/service.md), whatever is declared."""


class Report(NamedTuple):
    """What an audit found.

    Attributes:
        name: of the file.
        sha256: of it, as the duty in the journal has it.
        passed: whether no claim was refuted.
        checks: how many there were.
        refuted: subjects of those that were not passed.
        false_alarms: the chance that at least one true claim is refuted, at most.
    """

    name: str
    sha256: str
    passed: bool
    checks: int
    refuted: tuple[str, ...]
    false_alarms: float

    @classmethod
    def read(cls, name: str, content: bytes) -> Report:
        """Read what ``discreet audit --json`` wrote.

        Raises:
            DataError: it is something else.
        """
        try:
            stored = document(content)
            found = [(told(str, each["subject"]), told(bool, each["passed"])) for each in stored["outcomes"]]
            passed, alarms = told(bool, stored["passed"]), told(float, stored["false_alarms"])
        except (ValueError, TypeError, KeyError):
            raise DataError(f"{name} is no report of `discreet audit --json`; leave it out of the folder") from None
        refuted = tuple(subject for subject, is_passed in found if not is_passed)
        return cls(name, sha256(content), passed, len(found), refuted, alarms)


def fides(declared: Inventory) -> dict[str, Any]:
    """Return a manifest of Fides: what is not declared is left out, and then stands at its default there."""
    key = re.sub(r"[^A-Za-z0-9_.-]", "_", declared.name)
    processing, controller = declared.processing, declared.controller
    system: dict[str, Any] = {
        "fides_key": key,
        "name": declared.name,
        "system_type": "Service",
        "privacy_declarations": [_declaration(declared, purpose, key) for purpose in declared.purposes],
        "dataset_references": [key],
        "processes_personal_data": True,
        "uses_profiling": any(purpose.use.endswith(".profiling") for purpose in declared.purposes),
        "legal_name": controller.name,
        "legal_address": controller.address,
        "dpo": controller.officer,
        "responsibility": ["Controller"],
        "data_security_practices": " ".join(MEASURES),
        "meta": asdict(declared.owners),
    }
    if processing.services:
        system["description"] = ", ".join(processing.services)
    if processing.impact_assessment:
        system |= {"requires_data_protection_assessments": True, "dpa_location": processing.impact_assessment}
    notices = {purpose.notice for purpose in declared.purposes}
    if len(notices) == 1 and min(notices).startswith(("https://", "http://")):
        system["privacy_policy"] = min(notices)
    return {"system": [system], "dataset": [_dataset(declared, key)]}


def _declaration(declared: Inventory, purpose: Purpose, key: str) -> dict[str, Any]:
    read = [field for field in declared.fields if purpose.name in field.purposes]
    categories = _distinct(field.category for field in read)
    made: dict[str, Any] = {
        "name": purpose.name,
        "data_categories": categories,
        "data_use": purpose.use,
        "data_subjects": list(declared.subjects),
        "dataset_references": [key],
        "legal_basis_for_processing": LAWFUL[purpose.basis][0],
        "flexible_legal_basis_for_processing": False,
        "retention_period": f"{declared.retention_days} days",
        "processes_special_category_data": any(field.sensitivity == "special" for field in read),
        "data_shared_with_third_parties": bool(purpose.recipients),
    }
    if purpose.recipients:
        made |= {"third_parties": ", ".join(purpose.recipients), "shared_categories": categories}
    if declared.processing.impact_assessment:
        made["impact_assessment_location"] = declared.processing.impact_assessment
    return made


def _dataset(declared: Inventory, key: str) -> dict[str, Any]:
    fields = [
        {
            "name": field.name,
            "description": f"{field.necessity}, {field.sensitivity}, kept {field.retention_days} days",
            "data_categories": [field.category],
        }
        for field in declared.fields
    ]
    return {
        "fides_key": key,
        "name": declared.name,
        "meta": {"owner": declared.owners.dataset},
        "collections": [{"name": "events", "data_subjects": list(declared.subjects), "fields": fields}],
    }


def record(declared: Inventory) -> str:
    """Return a record of processing activities, GDPR 30(1), in Markdown, by its letters."""
    return _page(
        f"Record of processing activities: {declared.name}",
        "GDPR 30(1), from the inventory. What it does not declare is not stated here, and a person adds it.",
        {
            "(a) Who answers": [
                *_controller(declared),
                f"joint controller: {NOT_STATED}",
                f"representative: {NOT_STATED}",
            ],
            "(b) Purposes": _purposes(declared),
            "(c) People and data": _data(declared),
            "(d) Recipients": _recipients(declared),
            "(e) Transfers to third countries": _transfers(declared),
            "(f) Time limits for erasure": _limits(declared),
            "(g) Measures of security": MEASURES,
        },
    )


def assessment(declared: Inventory, budgets: Sequence[AccountState] | None, report: Report | None) -> str:
    """Return a draft of a data protection impact assessment, GDPR 35(7), in Markdown, for a person to complete.

    Args:
        declared: the inventory.
        budgets: that are open; None: they are not known.
        report: of the last audit, if there is one.
    """
    return _page(
        f"DRAFT of a data protection impact assessment: {declared.name}",
        "GDPR 35(7). A draft: it says what is declared, and assesses nothing. A person completes and signs it.",
        {
            "(a) Description": [
                *_controller(declared),
                *_purposes(declared),
                *_data(declared),
                *(f"recipients, {each}" for each in _recipients(declared)),
                *_transfers(declared),
                f"services: {_said(declared.processing.services)}",
                f"jurisdiction: {_said(declared.processing.jurisdiction)}",
            ],
            "(b) Necessity and proportionality": [
                *(
                    f"{field.name}: {field.necessity} for {', '.join(field.purposes)}"
                    + (f", rounded down to the {field.coarsened}" if field.name == "timestamp" else "")
                    for field in declared.fields
                ),
                f"what is not declared: {declared.minimisation.undeclared}",
                f"events of one person: the latest {declared.minimisation.history:,}",
                *_limits(declared),
                f"codes of conduct, GDPR 35(8): {_said(declared.processing.codes_of_conduct)}",
                f"why less would not do: {NOT_STATED}; to be completed",
            ],
            "(c) Risks to rights and freedoms": [
                *(
                    "; ".join(f"{name.replace('_', ' ')}: {_said(value)}" for name, value in _stated(risk).items())
                    for risk in declared.risks
                ),
                *([] if declared.risks else [f"register of risks: {NOT_STATED}"]),
                f"what else may go wrong: {NOT_STATED}; to be completed",
            ],
            "(d) Measures": [*MEASURES, *_budgets(budgets), *_found(report)],
            "Opinions and decision": [
                f"advice of the officer, GDPR 35(2): {NOT_STATED}; to be completed",
                f"views of the people, GDPR 35(9): {NOT_STATED}; to be completed",
                f"whether the authority is asked, GDPR 36: {NOT_STATED}; to be completed",
                f"authority: {_party(declared.authority)}",
                f"earlier assessment: {_said(declared.processing.impact_assessment)}",
                f"decided by, on: {NOT_STATED}; to be completed",
            ],
        },
    )


def _stated(risk: Risk) -> dict[str, Any]:
    return asdict(risk) | {"inherent, of 5": risk.inherent}


def _controller(declared: Inventory) -> Iterator[str]:
    yield f"controller: {_party(declared.controller)}"
    yield f"data protection officer: {_said(declared.controller.officer)}"
    for what, owner in asdict(declared.owners).items():
        yield f"answers for {what}: {_said(owner)}"


def _purposes(declared: Inventory) -> Iterator[str]:
    for purpose in declared.purposes:
        yield (
            f"{purpose.name}: {_said(purpose.says)} ({purpose.use}; lawful by {LAWFUL[purpose.basis][1]}, renewed "
            f"after {purpose.valid_days} days; notice: {_said(purpose.notice)}, version {_said(purpose.notice_version)}"
            f"; answers for it: {_said(purpose.owner)})"
        )


def _data(declared: Inventory) -> Iterator[str]:
    yield f"people: {', '.join(declared.subjects)}"
    for field in declared.fields:
        yield (
            f"{field.name}: {field.category}, {field.sensitivity}, for {', '.join(field.purposes)}; answers for it: "
            f"{_said(field.owner)}"
        )


def _recipients(declared: Inventory) -> Iterator[str]:
    for purpose in declared.purposes:
        yield f"{purpose.name}: {_said(purpose.recipients, 'none declared')}"


def _transfers(declared: Inventory) -> Iterator[str]:
    yield f"places of processing: {_said(declared.processing.processing_locations)}"
    yield f"restrictions: {_said(declared.processing.geographic_restrictions)}"
    yield f"transfers, and their safeguards: {NOT_STATED}"


def _limits(declared: Inventory) -> Iterator[str]:
    kept = declared.minimisation
    yield f"events: {declared.retention_days} days"
    yield f"records and key of whoever permits nothing: {kept.logs_days} days after the last that was noted"
    yield f"a released model: {kept.models_days} days"
    yield f"copies of the database: {NOT_STATED if kept.backups_days is None else f'{kept.backups_days} days'}"


def _budgets(budgets: Sequence[AccountState] | None) -> Iterator[str]:
    if not budgets:
        yield f"budgets of differential privacy: {NOT_STATED if budgets is None else 'none is open'}"
    for each in budgets or ():
        until = "without an end" if each.until is None else f"until {each.until}"
        yield (
            f"budget {_said(str(each.account))}: epsilon {each.epsilon:g} at delta {each.delta:g}, by {each.unit}, "
            f"{until}; spent by {each.releases} releases: epsilon {each.epsilon_spent:.3g}"
        )


def _found(report: Report | None) -> Iterator[str]:
    if report is None:
        yield f"last audit: {NOT_STATED}"
        return
    refuted = "none was refuted" if report.passed else f"NOT PASSED; refuted: {_said(report.refuted, 'none')}"
    yield (
        f"last audit, {report.name} (SHA-256 {report.sha256}): {report.checks} checks, {refuted}; the chance of a "
        f"false alarm is {report.false_alarms:.2g} at most"
    )


def _party(party: Controller | Authority | None) -> str:
    if party is None:
        return NOT_STATED
    return ", ".join(_said(value) for name, value in asdict(party).items() if value and name != "officer")


def _said(value: Any, otherwise: str = NOT_STATED) -> str:
    """Return what is declared, on one line."""
    text = ", ".join(map(str, value)) if isinstance(value, list | tuple) else "" if value is None else str(value)
    return " ".join(text.split()) or otherwise


def _distinct(values: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(values))


def _page(title: str, about: str, parts: dict[str, Iterable[str]]) -> str:
    lines = [f"# {title}", "", about]
    for name, said in parts.items():
        lines += ["", f"## {name}", "", *(f"- {each}" for each in said)]
    return "\n".join(lines) + "\n"
