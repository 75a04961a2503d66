"""Who is protected, and in what: which two data sets must not be told apart."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import Enum

from discreet.errors import SettingError

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
LAST = datetime(9999, 1, 1, tzinfo=UTC)


class Adjacency(Enum):
    """Two data sets are neighbours if they differ in one of these ways.

    The number of people is public in both: a model and its card tell it. So to remove a person is to put an empty
    history in the place of theirs, which adds a row of zeros to every sum. Where single choices are protected, each
    is a row of its own; whoever made k of them is protected k times less (in mu^2).
    """

    ADD_OR_REMOVE_PERSON = "one person's whole history and an empty one in its place"
    REPLACE_PERSON = "one person's whole history and any other in its place"
    ADD_OR_REMOVE_INTERACTION = "one person's choice of one item, made or not made"

    @property
    def moves(self) -> int:
        """How many bounds the sum of bounded vectors can move between neighbours: one row goes, or goes and comes."""
        return 2 if self is Adjacency.REPLACE_PERSON else 1


@dataclass(frozen=True)
class Window:
    """A part of the calendar (UTC) within which people are protected: ``2024``, ``2024-05`` or ``2024-05-17``.

    With a window, two data sets are neighbours if they differ in what one person did within it.

    Raises:
        SettingError: it is no year, month or day from 1970 to 9998.
    """

    text: str

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[0-9]{4}(-[0-9]{2}){0,2}", self.text) or self._first() is None:
            raise SettingError(
                f"a window is a year, month or day such as 2024, 2024-05 or 2024-05-17, got {self.text!r}"
            )

    def __str__(self) -> str:
        return self.text

    @property
    def unit(self) -> str:
        """What is protected: ``person-year``, ``person-month`` or ``person-day``."""
        return ("person-year", "person-month", "person-day")[self.text.count("-")]

    @property
    def seconds(self) -> tuple[float, float]:
        """When it begins, and when it is over, in seconds since 1970."""
        first = self._first() or EPOCH
        step = {"person-year": 366, "person-month": 31, "person-day": 1}[self.unit]
        within = first + timedelta(days=step)  # at the end, or shortly after it
        if self.unit != "person-day":
            within = within.replace(day=1)
        if self.unit == "person-year":
            within = within.replace(month=1)
        return (first - EPOCH).total_seconds(), (within - EPOCH).total_seconds()

    def _first(self) -> datetime | None:
        numbers = [*map(int, self.text.split("-")), 1, 1][:3]
        try:
            first = datetime(numbers[0], numbers[1], numbers[2], tzinfo=UTC)
        except ValueError:
            return None
        return first if EPOCH <= first < LAST else None
