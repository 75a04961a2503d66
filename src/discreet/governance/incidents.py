"""What went wrong: incidents, with the states of DPV 2.3 and the clock of GDPR Article 33.

An authority is to be told within 72 hours of when an incident was detected, unless it is unlikely to put anybody at
risk: then it says why. The clock runs from detection, not from when somebody wrote it down, and a conclusion does not
stop it: what was told late, or of which nobody was told and nobody says why not, stays late. Whoever writes down less
than was lost can go on and correct it. How many people it concerns is told in steps, not exactly.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from discreet.errors import SettingError
from discreet.governance.checks import instant, now, stamp
from discreet.governance.matters import Matter, Matters, Once

KIND = "incident"
HOURS = 72
STATES = (
    *("IncidentSuspected", "IncidentNearMiss", "IncidentOngoing", "IncidentHalted", "IncidentMitigated"),
    *("IncidentTerminated", "IncidentConcluded", "IncidentStatusUnknown"),
)
INVESTIGATIONS = (
    *("IncidentInvestigationNotStarted", "IncidentInvestigationPreliminary"),
    *("IncidentInvestigationOngoing", "IncidentInvestigationCompleted"),
)
CONCLUDED = "IncidentConcluded"
SUBJECTS = ("none", "1-10", "11-100", "101-1000", "more than 1000", "not known")
CHOICES = {"subjects": SUBJECTS, "investigation_status": INVESTIGATIONS}
TIMES = ("occurred_from", "occurred_to", "notified_authority_at", "notified_subjects_at")
WHY_NOT = "authority_not_notified_because"
TEXTS = (
    *("description", "data_categories", "components", "budgets_affected", "likely_consequences", "measures"),
    WHY_NOT,
)
LAST = 100
"""Steps that an incident shows. The journal has all."""
LONGEST = 4_000


class Incidents:
    """The register."""

    def __init__(self, matters: Matters) -> None:
        self._matters = matters

    def record(
        self, told: Mapping[str, Any], *, by: str, detected: str | None = None, once: Once | None = None
    ) -> Matter:
        """Write an incident down.

        Args:
            told: what is known: of ``TEXTS``, ``TIMES``, ``investigation_status``, ``subjects`` and ``owner``.
            by: who reports it.
            detected: when, ISO 8601; by default now.
            once: by what the request is known again.

        Raises:
            SettingError: something in it is none of these, or not what it should be; or the future was detected.
        """
        at = now() if detected is None else instant(detected, "detected_at")
        if at > now():
            raise SettingError("an incident was detected before now")
        body = {"detected_at": at, "reported_by": by, "investigation_status": INVESTIGATIONS[0], **_checked(told)}
        body["log"] = [{"at": now(), "by": by, "state": STATES[0], "told": sorted(told)}]
        due = stamp(datetime.fromisoformat(at).astimezone(UTC) + timedelta(hours=HOURS))
        return self._matters.open(KIND, STATES[0], body | {"notify_authority_by": due}, by=by, due=due, once=once)

    def go_on(self, name: str, state: str, told: Mapping[str, Any], *, by: str) -> Matter:
        """Note what is known now. A concluded incident stays as it is.

        Raises:
            SettingError: as `record`; or the state is none; or it would be concluded while neither an authority was
                told nor is said why none needs to be.
            Conflict: it is concluded.
        """
        if state not in STATES:
            raise SettingError(f"an incident is one of {', '.join(STATES)}")
        going, found = [each for each in STATES if each != CONCLUDED], _checked(told)
        with self._matters.together():
            before = self._matters.one(KIND, name).body
            known = {**before, **found}
            if state == CONCLUDED and not known.get("notified_authority_at") and not known.get(WHY_NOT):
                raise SettingError(f"an incident is concluded with notified_authority_at, or with {WHY_NOT}")
            step = {"at": now(), "by": by, "state": state, "told": sorted(found)}
            body = {**found, "log": [*before["log"], step][-LAST:]}
            return self._matters.move(KIND, name, going, state, by=by, body=body)

    def late(self) -> list[Matter]:
        """Return those of which an authority was told after 72 hours, or was not told then and nobody says why."""
        return [each for each in self._matters.all(KIND) if _is_late(each)]


def _is_late(incident: Matter) -> bool:
    told, due = incident.body.get("notified_authority_at"), str(incident.due)
    return told > due if told else due <= now() and not incident.body.get(WHY_NOT)


def _checked(told: Mapping[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in told.items():
        if name in TIMES:
            if not isinstance(value, str) or (time := instant(value, name)) > now():
                raise SettingError(f"{name} of an incident is a time, ISO 8601, that is past")
            found[name] = time
        elif name in TEXTS or name == "owner":
            if not isinstance(value, str) or not 0 < len(value) <= LONGEST:
                raise SettingError(f"{name} of an incident is a text of up to {LONGEST:,} characters")
            found[name] = value
        elif value in CHOICES.get(name, ()):
            found[name] = value
        else:
            raise SettingError("an incident has another field, or a field another value; see the register's fields")
    return found
