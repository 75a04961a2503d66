"""Whether the machine's clock goes as clocks do. While it does not, nothing is deleted and nothing ended by it.

A clock that leaps ahead for a moment would have everybody's events deleted for their age, and what falls due put off
for years. So after a leap what acts by the clock waits for an hour, in which somebody can set it right; what people and
staff ask for is done all the same. Who leaves it wrong for longer is believed.

================================  ============================================================================
edge case                         behaviour
================================  ============================================================================
it leaps, ahead or back           it is doubted for an hour, and a line in the log says so
it leaps back again               for an hour from then
it is corrected by and by         by less than five minutes between two looks: nothing
the machine slept                 as a leap: it did not count the time
the service stood still for long  longer than a week, by the journal: as a leap, since it may be one
it is started anew meanwhile      it is doubted anew: rows of the last hour may be of the same clock
================================  ============================================================================
"""

from __future__ import annotations

import logging
import time
from bisect import bisect_right
from datetime import datetime
from threading import Lock

from discreet.governance.journal import Journal

LEAP = 300.0
"""Seconds by which it goes otherwise than a clock that nobody can set."""
LONGEST_STILL = 7 * 86_400
"""Seconds without a row of the journal: a service that runs writes some each day."""
DOUBTED = 3_600.0
"""Seconds."""


class Clock:
    """The machine's clock, watched, by any thread."""

    def __init__(self) -> None:
        self._seen, self._until, self._lock = (time.time(), time.monotonic()), 0.0, Lock()

    def held_against(self, journal: Journal) -> None:
        """Doubt it if the journal's last row is of later than now, or the last that is not of this hour of long ago.

        What was written within the hour tells nothing: it may have been by the clock that is doubted.
        """
        last, wall = journal.head().seq, self._seen[0]
        older = bisect_right(range(last + 1), wall - DOUBTED, key=lambda row: _written(journal, row))
        for row in (max(0, older - 1), last):
            if not -LEAP <= wall - _written(journal, row) <= LONGEST_STILL:
                self._doubt(f"row {row} of the journal is of {journal.linked(row).at}")

    def steady(self) -> bool:
        """Look at it; return whether it can be believed."""
        with self._lock:
            before, self._seen = self._seen, (time.time(), time.monotonic())
            leap = (self._seen[0] - before[0]) - (self._seen[1] - before[1])
            if abs(leap) > LEAP:
                self._doubt(f"it leapt by {leap:,.0f} s")
            return self._seen[1] >= self._until

    def _doubt(self, why: str) -> None:
        self._until = self._seen[1] + DOUBTED
        said = (
            "the clock is doubted: %s; nothing is deleted or ended by it for %.0f minutes: set it right, if it is wrong"
        )
        logging.getLogger("discreet").warning(said, why, DOUBTED / 60)


def _written(journal: Journal, row: int) -> float:
    """Return when a row was written, in seconds since 1970."""
    return datetime.fromisoformat(journal.linked(row).at).timestamp()
