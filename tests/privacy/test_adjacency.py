"""Windows of the calendar."""

from datetime import UTC, date, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from discreet.errors import SettingError
from discreet.privacy.adjacency import Adjacency, Window

DAY = 86_400.0


def seconds(text: str) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()


@pytest.mark.parametrize(
    ("text", "unit", "first", "end"),
    [
        ("2024", "person-year", "2024-01-01", "2025-01-01"),
        ("2023", "person-year", "2023-01-01", "2024-01-01"),
        ("2024-02", "person-month", "2024-02-01", "2024-03-01"),
        ("2024-12", "person-month", "2024-12-01", "2025-01-01"),
        ("2024-02-29", "person-day", "2024-02-29", "2024-03-01"),
        ("2024-12-31", "person-day", "2024-12-31", "2025-01-01"),
    ],
)
def test_begins_and_ends(text: str, unit: str, first: str, end: str) -> None:
    window = Window(text)
    assert (str(window), window.unit, window.seconds) == (text, unit, (seconds(first), seconds(end)))


@given(st.dates(date(1970, 1, 1), date(9998, 12, 31)))
def test_a_day_is_in_its_month_and_its_month_in_its_year(day: date) -> None:
    year, month, own = (Window(day.isoformat()[:length]).seconds for length in (4, 7, 10))
    assert year[0] <= month[0] <= own[0] == own[1] - DAY < own[1] <= month[1] <= year[1]
    following = (day + timedelta(days=1)).isoformat()
    assert Window(following).seconds[0] == own[1] if following < "9999" else own[1] == year[1]


@pytest.mark.parametrize(
    "text",
    ["", "24", "2024-13", "2024-00", "2023-02-29", "2024-5", "1969-12", "9999", "2024-05-01T00", "May", "２０２４"],
)
def test_no_windows(text: str) -> None:
    with pytest.raises(SettingError, match="year, month or day"):
        Window(text)


def test_moves() -> None:
    assert (Adjacency.ADD_OR_REMOVE_PERSON.moves, Adjacency.REPLACE_PERSON.moves) == (1, 2)
