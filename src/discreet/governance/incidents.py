"""What went wrong: incidents, with the states of DPV 2.3 and the clock of GDPR Article 33.

An authority is to be told within 72 hours of when an incident was detected, unless it is unlikely to put anybody at
risk: then it says why. The clock runs from detection, not from when somebody wrote it down, and a conclusion does not
stop it: what was told late, or of which nobody was told and nobody says why not, stays late. Whoever writes down less
than was lost can go on and correct it. How many people it concerns is told in steps, not exactly; what of
theirs, by keys of the vocabulary that the inventory has, too.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from difflib import get_close_matches
from typing import Any

from discreet.errors import SettingError
from discreet.governance.checks import instant, now, stamp
from discreet.governance.inventory import vocabulary
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
CHOICES = {"subjects_count": SUBJECTS, "investigation_status": INVESTIGATIONS}
TIMES = ("occurred_from", "occurred_to", "notified_authority_at", "notified_subjects_at")
WHY_NOT = "authority_not_notified_because"
TEXTS = (
    *("description", "components", "budgets_affected", "likely_consequences", "measures", "owner"),
    WHY_NOT,
)
CATEGORIES = "data_categories"
EXAMPLE = "user.behavior.media_consumption"
LOG = "log_entries"
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
            told: what is known: of ``TEXTS``, ``TIMES``, ``CHOICES`` and ``CATEGORIES``, of which there are several.
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
        body[LOG] = [{"at": now(), "by": by, "state": STATES[0], "told": sorted(told)}]
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
            body = {**found, LOG: [*steps(before), step][-LAST:]}
            return self._matters.move(KIND, name, going, state, by=by, body=body)

    def late(self) -> list[Matter]:
        """Return those of which an authority was told after 72 hours, or was not told then and nobody says why."""
        return [each for each in self._matters.all(KIND) if _is_late(each)]


def steps(body: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Return the last steps that were taken with an incident, as its body has them."""
    found: list[Mapping[str, Any]] = body.get(LOG) or body["log"]  # as it was called once
    return found


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
        elif name == CATEGORIES:
            found[name] = _categories(value)
        elif name in TEXTS:
            if not isinstance(value, str) or not 0 < len(value) <= LONGEST:
                raise SettingError(f"{name} of an incident is a text of up to {LONGEST:,} characters")
            found[name] = value
        elif value in CHOICES.get(name, ()):
            found[name] = value
        else:
            raise SettingError("an incident has another field, or a field another value; see the register's fields")
    return found


def _categories(value: object) -> list[str]:
    """Return keys of the vocabulary, each once. Raises SettingError with those that are nearest to what is none."""
    known = vocabulary()["categories"]
    given = value if isinstance(value, list) else []
    wrong = [each for each in given if not (isinstance(each, str) and each in known)]
    if not given or wrong:
        near = [key for each in wrong for key in get_close_matches(str(each), known, 3, 0.3)] or [EXAMPLE]
        said = f"{CATEGORIES} of an incident are keys of the vocabulary, such as {', '.join(dict.fromkeys(near))}"
        raise SettingError(f"{said}; `discreet people inventory` shows those of yours")
    return sorted({*given})
