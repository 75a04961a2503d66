"""What is accepted as a name, a number of units, a hash, a moment."""

from datetime import UTC, datetime
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from discreet.errors import SettingError
from discreet.governance.checks import ABSURD, check_deadline, check_name, check_sha256, instant, now, stamp, whole

MOMENTS = st.datetimes(min_value=datetime(1, 1, 1), max_value=datetime(9999, 12, 31, 23, 59, 59))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "1 to 200 characters, got 0"),
        ("x" * 201, "1 to 200 characters, got 201"),
        ("a\nb", "control character"),
        ("a\x00b", "control character"),
        ("a\x7f", "control character"),
        ("\u2028", "control character"),
        ("\udc00", "control character or half a one"),
        ("a/b", "one of /"),
    ],
)
def test_names_that_are_refused(text: str, said: str) -> None:
    with pytest.raises(SettingError, match=said) as refused:
        check_name("dataset", text, forbidden="/")
    assert str(refused.value).isprintable()


@pytest.mark.parametrize("text", ["a", "x" * 200, "films of 2027", "ü", "映画", "a\\b", "..", "'; DROP TABLE account"])
def test_names_that_are_taken(text: str) -> None:
    check_name("dataset", text, forbidden="/")


@pytest.mark.parametrize("text", ["", "0" * 63, "0" * 65, "A" * 64, "g" * 64, "0" * 63 + "\n", "٠" * 64])
def test_hashes_that_are_none(text: str) -> None:
    with pytest.raises(SettingError, match="64 lower-case hex digits"):
        check_sha256("spec", text)


def test_a_hash() -> None:
    check_sha256("spec", "0123456789abcdef" * 4)


@pytest.mark.parametrize("seconds", [-0.001, 1e6 + 1, float("inf"), float("nan")])
def test_deadlines_that_would_not_wait(seconds: float) -> None:
    with pytest.raises(SettingError, match="0 to 1,000,000 seconds"):
        check_deadline(seconds)


@pytest.mark.parametrize("seconds", [0, 0.5, 30, 1e6])
def test_deadlines(seconds: float) -> None:
    assert check_deadline(seconds) == seconds


@pytest.mark.parametrize("units", [5, np.int64(5), np.uint8(5), np.int32(5)])
def test_whole_numbers(units: Any) -> None:
    assert whole("cost", units, least=5) == 5
    assert type(whole("cost", units, least=5)) is int


@pytest.mark.parametrize("units", [5.0, np.float64(5), "5", None, [5], b"5", 5j])
def test_other_numbers(units: Any) -> None:
    with pytest.raises(SettingError, match="integer number of units, got a"):
        whole("cost", units, least=0)


@pytest.mark.parametrize(("units", "least"), [(0, 1), (-1, 0), (4, 5), (1 - ABSURD, 0)])
def test_numbers_too_small(units: int, least: int) -> None:
    with pytest.raises(SettingError, match=f"at least {least} units, got {units}"):
        whole("cost", units, least)


@pytest.mark.parametrize("bits", [256, 50_000])
@pytest.mark.parametrize("sign", [1, -1])
def test_numbers_that_python_would_not_print(bits: int, sign: int) -> None:
    units = sign << bits
    assert abs(units) >= ABSURD
    with pytest.raises(SettingError, match="bits"):
        whole("cost", units, least=1)


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2027-01-01", "2027-01-01T00:00:00Z"),
        ("20270101", "2027-01-01T00:00:00Z"),
        ("2027-01-01T02:00:00+02:00", "2027-01-01T00:00:00Z"),
        ("2027-01-01T00:00:00Z", "2027-01-01T00:00:00Z"),
        ("2027-01-01T00:00:00.999999", "2027-01-01T00:00:00Z"),
        ("2026-12-31T23:00:00-01:00", "2027-01-01T00:00:00Z"),
        ("0999-01-01", "0999-01-01T00:00:00Z"),
    ],
)
def test_moments(text: str, moment: str) -> None:
    assert instant(text) == moment


@pytest.mark.parametrize("text", ["", "soon", "2027", "2027-13-01", "2027-02-30", "0001-01-01T00:00:00+01:00", "\x00"])
def test_moments_that_are_none(text: str) -> None:
    with pytest.raises(SettingError, match="ISO 8601") as refused:
        instant(text)
    assert str(refused.value).isprintable()


@given(one=MOMENTS, other=MOMENTS)
def test_stamps_sort_as_moments_do(one: datetime, other: datetime) -> None:
    one, other = one.replace(microsecond=0, tzinfo=UTC), other.replace(microsecond=0, tzinfo=UTC)
    assert (stamp(one) < stamp(other)) == (one < other)
    assert instant(stamp(one)) == stamp(one)


def test_now_is_a_moment() -> None:
    assert instant(now()) == now()[:19] + "Z"
