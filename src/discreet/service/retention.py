"""What the service forgets of itself: matters that have ended, and reports of audits, ``logs_days`` after.

Each is told in the journal, by which `verify` knows that it is not gone otherwise; the journal itself stays. What has
not ended is never forgotten, however old it is, nor are duties, policies and jobs whose model is served.

==========================  =======================================================================================
kind                        counted from
==========================  =======================================================================================
motion                      when it lapses, or would have
grant                       when it was closed, or its time was over and nobody said what came of it
incident                    its conclusion
job                         when its model was deleted; or it failed, or was called off
erasure                     when it was completed
report of an audit          its making
==========================  =======================================================================================

=================================  ===============================================================================
edge case                          behaviour
=================================  ===============================================================================
another matter names it            it stays until that is forgotten: a grant of a motion, the job of an erasure, a
                                   report that the duty or an incident names
somebody takes a step meanwhile    it stays
it is cut off                      what was forgotten is, and is told of; the rest is with the next retention
cut off before a file is deleted   the file is told of a second time
a file cannot be deleted           likewise, with the next retention; a line in the log says so
=================================  ===============================================================================
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

from discreet.data.records import Records
from discreet.governance import duties, grants, incidents, motions
from discreet.governance.checks import now, sha256
from discreet.governance.consent import SERVICE, later
from discreet.governance.matters import Matter
from discreet.governance.replay import ENDED

FEW = 50
"""Matters that are forgotten in one transaction."""
NAMING = {grants.KIND: (motions.KIND, "grant"), "job": ("erasure", "release")}
"""Which kind of matter names those of another, and under what: those that name are forgotten before."""
ORDER = (*(kind for kind in ENDED if kind not in NAMING), *NAMING)


def forget(records: Records, reports: Path) -> Iterator[int]:
    """Forget what has ended long enough ago; yield how much, after each transaction.

    Args:
        records: of the service.
        reports: folder of what audits found.
    """
    before = later(now(), -records.inventory.minimisation.logs_days)
    records.motions.lapse()
    for kind in ORDER:
        old = _old(records, kind, before)
        for start in range(0, len(old), FEW):
            with records.matters.together():
                gone = sum(records.matters.forget(each, by=SERVICE) for each in old[start : start + FEW])
            yield gone
    yield from _forget_reports(records, reports, before)


def _old(records: Records, kind: str, before: str) -> list[Matter]:
    """Return the matters of a kind that ended before a time, and that no other names."""
    naming, under = NAMING.get(kind, ("", ""))
    named = {each.body.get(under) for each in records.matters.all(naming)}
    found = [each for each in records.matters.all(kind) if each.state in ENDED[kind] and _ended(each) < before]
    return [each for each in found if each.name not in named]


def _ended(matter: Matter) -> str:
    """Return when the last step of a matter was taken that has ended; or by when it was due, if it does not say."""
    body = matter.body
    if matter.kind == incidents.KIND:
        return str(incidents.steps(body)[-1]["at"])
    return str(body.get("retired") or body.get("closed_at") or body.get("ended") or matter.due)


def _forget_reports(records: Records, reports: Path, before: str) -> Iterator[int]:
    audit = records.matters.find(duties.KIND, duties.AUDIT)
    named = [str(audit.body.get("found")) if audit else ""]
    named += [str(each.body.get("description")) for each in records.matters.all(incidents.KIND)]
    for path in sorted(reports.glob("audit-*.json")):
        if path.name < report_of(before) and not any(path.name in said for said in named):
            try:
                digest = sha256(path.read_bytes())
                with records.matters.together():
                    records.journal.append("forget-report", name=path.name, sha256=digest)
                path.unlink()
            except OSError as error:  # it is tried again with the next retention
                logging.getLogger("discreet").warning("%s cannot be deleted: %s", path, error.strerror)
            else:
                yield 1


def report_of(time: str) -> str:
    """Return how the report of an audit that ended at a time is called."""
    return f"audit-{time.replace(':', '')}.json"
