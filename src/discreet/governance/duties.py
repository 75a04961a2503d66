"""What falls due again and again: audits, retention, reviews. Each has an owner, and is done on record.

A duty that is not done is late, and says so until it is. A service that runs does the first three by itself.
"""

from __future__ import annotations

from discreet.errors import Conflict, SettingError
from discreet.governance.checks import now
from discreet.governance.consent import SERVICE, later
from discreet.governance.matters import Matter, Matters

KIND, OPEN = "duty", "open"
RETENTION, AUDIT, JOURNAL = "retention", "audit", "verify-journal"
FIRST = {
    RETENTION: (1, "delete what is too old, and what nobody may read any more"),
    AUDIT: (30, "attack this installation on people who do not exist: `discreet audit --ci`"),
    JOURNAL: (7, "replay the journal against the tables and the witness: `discreet journal verify`"),
    "review-inventory": (180, "hold the inventory against what is collected, and why"),
    "rotate-master-key": (365, "make a new master key, wrap all keys anew, and forget the old one"),
}
"""What every service begins with: days, and what is to be done."""


class Duties:
    """The list of them."""

    def __init__(self, matters: Matters) -> None:
        self._matters = matters

    def begin(self, owner: str) -> None:
        """Write the first duties down, those that are not there yet; each is due after its days, retention now."""
        with self._matters.together():  # two services may begin at once
            for name, (days, says) in FIRST.items():
                if self._matters.find(KIND, name) is None:
                    due = now() if name == RETENTION else later(now(), days)
                    body = {"every_days": days, "says": says, "owner": owner, "done": None}
                    self._matters.open(KIND, OPEN, body, by="discreet", due=due, name=name)

    def done(self, name: str, *, by: str, found: str, evidence: str | None = None) -> Matter:
        """Note that a duty was done; it is due again after its days.

        Args:
            name: of the duty.
            by: who did it.
            found: what was found.
            evidence: SHA-256 (hex) of what shows it, where there is such a thing.

        Raises:
            SettingError: there is no such duty, or what was found is not said, or too long.
            Conflict: the service does this duty by itself, and somebody else says that they did.
        """
        if name in (RETENTION, AUDIT, JOURNAL) and by != SERVICE:
            raise Conflict(f"{name} is done by the service itself; what you found besides is an incident, or nothing")
        if not 0 < len(found) <= 1_000:
            raise SettingError("what was found is told in 1 to 1,000 characters")
        duty, time = self._matters.one(KIND, name), now()
        told = {"done": time, "done_by": by, "found": found, "evidence": evidence}
        return self._matters.move(
            KIND, name, [OPEN], OPEN, by=by, due=later(time, int(duty.body["every_days"])), body=told
        )

    def late(self) -> list[Matter]:
        """Return those that are due; or that were put off for longer than their days, by a clock that was wrong."""
        time = now()
        return [
            duty
            for duty in self._matters.all(KIND)
            if duty.state == OPEN and not time < str(duty.due) <= later(time, int(duty.body["every_days"]))
        ]
