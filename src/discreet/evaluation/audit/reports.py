"""An audit as JUnit XML and as SARIF: what pipelines read.

Sources: the JUnit schema as Jenkins and GitLab read it; SARIF 2.1.0 (OASIS).
"""

from __future__ import annotations

import json
from typing import Any
from xml.etree import ElementTree as ET

from discreet.evaluation.audit.findings import EXAMINED, GATES, Audit, Outcome

SARIF_SCHEMA = "https://json.schemastore.org/sarif-2.1.0.json"


def junit(audit: Audit) -> bytes:
    """Return one test suite, with a test case for each check; a gate that tried nothing is an error."""
    failures, errors = len(audit.failed), len(audit.without_trial)
    counts = {"tests": len(audit.outcomes) + errors, "failures": failures, "errors": errors}
    suites = ET.Element("testsuites")
    suite = ET.SubElement(
        suites, "testsuite", {"name": "discreet audit", "time": f"{audit.seconds:.1f}"} | _texts(counts)
    )
    for outcome in audit.outcomes:
        _add_case(suite, outcome)
    for gate in audit.without_trial:
        case = ET.SubElement(suite, "testcase", {"classname": f"audit.{gate}", "name": GATES[gate]})
        ET.SubElement(case, "error", {"message": "ran no trial"})
    ET.indent(suites)
    content: bytes = ET.tostring(suites, encoding="utf-8", xml_declaration=True)
    return content


def sarif(audit: Audit) -> bytes:
    """Return one run, with a rule for each gate and a result for each check that failed and each gate without trial."""
    driver = {
        "name": "discreet audit",
        "rules": [{"id": gate, "name": name, "shortDescription": {"text": name}} for gate, name in GATES.items()],
    }
    failed = [_result(outcome.check.gate, _message(outcome)) for outcome in audit.failed]
    idle = [_result(gate, f"gate {gate} ({GATES[gate]}) ran no trial") for gate in audit.without_trial]
    document = {
        "$schema": SARIF_SCHEMA,
        "version": "2.1.0",
        "runs": [{"tool": {"driver": driver}, "results": failed + idle}],
    }
    return json.dumps(document, indent=2).encode()


def _add_case(suite: ET.Element, outcome: Outcome) -> None:
    check = outcome.check
    case = ET.SubElement(suite, "testcase", {"classname": f"audit.{check.gate}", "name": check.name})
    if not outcome.passed:
        ET.SubElement(case, "failure", {"message": outcome.findings[-1].detail}).text = _message(outcome)
    ET.SubElement(case, "system-out").text = json.dumps(outcome.to_dict())


def _result(gate: str, message: str) -> dict[str, Any]:
    place = {"physicalLocation": {"artifactLocation": {"uri": EXAMINED[gate]}, "region": {"startLine": 1}}}
    return {"ruleId": gate, "level": "error", "message": {"text": message}, "locations": [place]}


def _message(outcome: Outcome) -> str:
    """Return all findings in a line: a failure and what confirmed it."""
    return f"{outcome.check.name}: " + "; then, to confirm: ".join(finding.detail for finding in outcome.findings)


def _texts(counts: dict[str, int]) -> dict[str, str]:
    return {name: str(count) for name, count in counts.items()}
