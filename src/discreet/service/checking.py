"""What a service checks of itself when that falls due: whether its record holds, and whether what it promises does.

The audit is a process of its own with the lowest priority, since it takes minutes; it ends when this one does, however
that comes, since the pipe to its standard input ends then. What is found is noted with the duty, an audit's report by
its SHA-256; a record that does not fit, and a promise that was refuted, are an incident besides, which the staff goes
on with.

==================================  ===========================================================================
edge case                           behaviour
==================================  ===========================================================================
the service stops, or is killed     the audit is ended; the duty stays due, and is begun again at the next start
the audit cannot be run, or hangs   a line in the log, and another try within an hour; the duty stays late
the same is found again             another incident: the one before may have been concluded
==================================  ===========================================================================
"""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO

from discreet.data.records import Records
from discreet.files import write_bytes
from discreet.governance.checks import now, sha256
from discreet.governance.duties import AUDIT, JOURNAL
from discreet.service.retention import report_of

CLAIM_DELTA = 1e-6
LONGEST = 3_600.0
"""Seconds that an audit may take, and after which one that failed is tried again."""
LONGEST_SAID = 1_000
"""Characters of what was found."""
PASSED, REFUTED = 0, 3
"""Exit codes of ``discreet audit``."""


def verify_when_due(records: Records) -> None:
    """Replay the journal against everything else, if that is due."""
    if not _is_due(records, JOURNAL):
        return
    found = records.verified()
    said = f"{found.rows:,} rows, {len(found.problems)} problems"
    if found.problems:
        said += f"; the first: row {found.problems[0].row}: {found.problems[0].what}"
        _report(records, f"the journal was replayed and does not fit: {said}"[:LONGEST_SAID], "journal, database")
    records.duties.done(JOURNAL, by="discreet", found=said[:LONGEST_SAID], evidence=found.head.hash)


class Auditor:
    """Attacks this installation, in a process of its own, when that is due.

    Args:
        reports: folder for what was found.
        epsilon: of a release: what is claimed.
    """

    def __init__(self, reports: Path, epsilon: float) -> None:
        self._reports, self._claim = reports, f"eps={epsilon:g},delta={CLAIM_DELTA:g}"
        self._running: subprocess.Popen[bytes] | None = None
        self._found: IO[bytes] | None = None
        self._until, self._again = 0.0, 0.0

    def __call__(self, records: Records) -> None:
        """Begin an audit, if one is due; note what was found, if one has ended."""
        if self._running is None:
            if time.monotonic() >= self._again and _is_due(records, AUDIT):
                self._begin()
        elif self._running.poll() is not None:
            self._note(records, *self._ended(self._running))
        elif time.monotonic() > self._until:
            self.close()
            logging.getLogger("discreet").warning("the audit took more than %.0f s, and was ended", LONGEST)

    def _begin(self) -> None:
        try:
            self._reports.mkdir(exist_ok=True, mode=0o700)
            with TemporaryFile(dir=self._reports) as file:  # without a name: no other audit writes there
                self._running = subprocess.Popen(  # noqa: S603 - constant arguments
                    self.command(), stdin=subprocess.PIPE, stdout=file, stderr=subprocess.DEVNULL
                )
                self._found = os.fdopen(os.dup(file.fileno()), "rb")
        except OSError as error:
            self._again = time.monotonic() + LONGEST
            said = "the audit could not be begun: %s: %s"
            logging.getLogger("discreet").warning(said, error.filename or self._reports, error.strerror)
        self._until = time.monotonic() + LONGEST

    def command(self) -> Sequence[str]:
        """Return how an audit is run."""
        audit = (sys.executable, "-m", "discreet", "audit", "--ci", "--claim", self._claim, "--processes", "1")
        return (*audit, "--json", "--aside")

    def _ended(self, audit: subprocess.Popen[bytes]) -> tuple[int, bytes]:
        """Return the exit code of an audit that has ended, and what it wrote; another is begun within an hour."""
        assert audit.stdin  # noqa: S101 - a pipe, since it was begun with one
        assert self._found  # noqa: S101
        audit.stdin.close()
        with self._found as file:
            file.seek(0)
            content = file.read()
        self._running, self._again = None, time.monotonic() + LONGEST
        return audit.returncode, content

    def _note(self, records: Records, code: int, content: bytes) -> None:
        if code not in {PASSED, REFUTED}:
            logging.getLogger("discreet").warning("the audit could not be run: exit code %d", code)
            return
        report = self._reports / report_of(now())
        write_bytes(report, content)
        said = (
            f"{self._claim}: {'no promise was refuted' if code == PASSED else 'A PROMISE WAS REFUTED'}; {report.name}"
        )
        if code == REFUTED:
            _report(records, f"an audit of this installation refuted what it promises: {said}", "privacy, training")
        records.duties.done(AUDIT, by="discreet", found=said, evidence=sha256(content))

    def close(self) -> None:
        """End an audit that runs."""
        if self._running is not None:
            self._running.kill()
            self._running.wait()
            self._ended(self._running)


def _is_due(records: Records, name: str) -> bool:
    return any(duty.name == name for duty in records.duties.late())


def _report(records: Records, description: str, components: str) -> None:
    told = {"description": description, "components": components, "subjects_count": "not known"}
    records.incidents.record(told, by="discreet")
