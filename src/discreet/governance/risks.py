"""The register of risks: what may go wrong, where, by whom, what is done about it, and what shows that this helps.

It is part of the inventory, so that two people change it. Threats are LINDDUN's, steps those of the Data Privacy
Vocabulary (DPV), ``VeryLow`` to ``VeryHigh``. What a risk is before anything is done about it is computed of likelihood
and severity; what is left of it is somebody's judgement.

=====================================  =================================================================
edge case                              behaviour
=====================================  =================================================================
never reviewed                         late a year after it was written down
nobody says when it was written down   late: nothing shows that anybody looked at it within a year
accepted until a time that has passed  late, whenever it was reviewed
closed                                 never late
=====================================  =================================================================
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Any

from discreet.governance.checks import instant, stamp

THREATS = (
    *("linking", "identifying", "non-repudiation", "detecting", "data disclosure"),
    *("unawareness and unintervenability", "non-compliance"),
)
TOUCHPOINTS = (
    *("collection", "storage", "feature build", "training", "tuning", "model artefact", "federated update"),
    *("serving API", "cache", "logs and metrics", "experiment readout", "dashboard", "export", "support staff"),
)
CHANNELS = (
    *("membership", "attribute", "reconstruction", "neighbour lists", "model extraction", "timing"),
    *("small counts", "linkage", "residual after deletion"),
)
ADVERSARIES = ("API client", "other user", "insider", "curious server", "colluding clients", "thief of artefact")
OPEN, MITIGATED, ACCEPTED, CLOSED = "open", "mitigated", "accepted", "closed"
STATUSES = (OPEN, MITIGATED, ACCEPTED, CLOSED)
STEPS = ("VeryLow", "Low", "Moderate", "High", "VeryHigh")
"""What 1 to 5 are called."""
MOST = (3, 5, 9, 16)
"""The largest products of likelihood and severity of which a risk is still 1, 2, 3, 4."""
REVIEWED_DAYS = 365


@dataclass(frozen=True, kw_only=True)
class Risk:
    """Something that may go wrong, and what is done about it. What has a default may be left out.

    Attributes:
        title: in a few words.
        linddun: of ``THREATS``.
        likelihood: 1 to 5, before anything is done about it.
        severity: likewise.
        controls: what is done, by short names.
        owner: who answers for it.
        id: by which others refer to it.
        data_categories: of the vocabulary.
        touchpoint: where, of ``TOUCHPOINTS``.
        leakage_channel: how, of ``CHANNELS``.
        adversary: by whom, of ``ADVERSARIES``.
        evidence: which audits, tests or pages measure what the controls do.
        residual: 1 to 5: what is left with them, at most what there is without.
        status: of ``STATUSES``.
        accepted_by: who takes it as it is; of one that is accepted, and of no other.
        accepted_until: a date or time (ISO 8601) until which; likewise.
        components: of the system that it is in.
        budgets: purposes whose budget bounds it.
        dpia_ref: where the impact assessment speaks of it.
        created: when it was written down: a date or time (ISO 8601).
        reviewed: when somebody last looked at it; likewise.
    """

    title: str
    linddun: tuple[str, ...]
    likelihood: int
    severity: int
    controls: tuple[str, ...]
    owner: str
    id: str = ""
    data_categories: tuple[str, ...] = ()
    touchpoint: str = ""
    leakage_channel: str = ""
    adversary: str = ""
    evidence: tuple[str, ...] = ()
    residual: int | None = None
    status: str = OPEN
    accepted_by: str = ""
    accepted_until: str = ""
    components: tuple[str, ...] = ()
    budgets: tuple[str, ...] = ()
    dpia_ref: str = ""
    created: str = ""
    reviewed: str = ""

    @property
    def inherent(self) -> int:
        """What it is before anything is done about it: 1 to 5."""
        return 1 + sum(self.likelihood * self.severity > most for most in MOST)

    def is_late(self, time: str) -> bool:
        """Whether it is accepted no more at a time, or nobody reviewed it within a year before, or it lacks a title, an
        owner or controls. Both ISO 8601, UTC."""
        if self.status == CLOSED:
            return False
        if not (self.title and self.owner and self.controls):
            return True
        if self.status == ACCEPTED and instant(self.accepted_until) <= time:
            return True
        looked = self.reviewed or self.created
        if not looked or instant(looked) > time:  # it is still to be looked at
            return True
        return instant(looked) < stamp(datetime.fromisoformat(time) - timedelta(days=REVIEWED_DAYS))

    def told(self, time: str) -> dict[str, Any]:
        """Return it as JSON values, with what is computed of it, in DPV's words too, and whether it is late."""
        steps = {"likelihood": self.likelihood, "severity": self.severity}
        steps |= {"inherent": self.inherent} | ({} if self.residual is None else {"residual": self.residual})
        words = {name: STEPS[step - 1] for name, step in steps.items()}
        stored: dict[str, Any] = json.loads(json.dumps(asdict(self)))  # tuples become lists
        return stored | {"inherent": self.inherent, "levels": words, "late": self.is_late(time)}
