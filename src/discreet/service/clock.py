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
================================  ============================================================================
"""

from __future__ import annotations

import logging
import time
from datetime import datetime

LEAP = 300.0
"""Seconds by which it goes otherwise than a clock that nobody can set."""
LONGEST_STILL = 7 * 86_400
"""Seconds without a row of the journal: a service that runs writes some each day."""
DOUBTED = 3_600.0
"""Seconds."""


class Clock:
    """The machine's clock, watched."""

    def __init__(self) -> None:
        self._seen, self._until = (time.time(), time.monotonic()), 0.0

    def held_against(self, last: str) -> None:
        """Doubt it if the journal's last row, ISO 8601, was written long ago, or later than now."""
        if not -LEAP <= self._seen[0] - datetime.fromisoformat(last).timestamp() <= LONGEST_STILL:
            self._doubt(f"the last row of the journal is of {last}")

    def steady(self) -> bool:
        """Look at it; return whether it can be believed."""
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
