"""Values out of JSON: of their type, or refused; whatever is let through can be written again."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import pytest
import rfc8785
from hypothesis import given
from hypothesis import strategies as st

from discreet.documents import MOST, document, fields_of

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters()) | st.just("\ud800"),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)


@dataclass(frozen=True)
class Sample:
    word: str
    whole: int
    number: float
    sure: bool
    perhaps: str | None
    rows: tuple[tuple[float, ...], ...]


GOOD: dict[str, Any] = {
    "word": "a", "whole": 3, "number": 1, "sure": True, "perhaps": None, "rows": [[1, 2.5], []], "more": "ignored",
}  # fmt: skip


def test_each_is_of_its_type() -> None:
    read = Sample(**fields_of(Sample, GOOD))
    assert read == Sample("a", 3, 1.0, sure=True, perhaps=None, rows=((1.0, 2.5), ()))
    assert type(read.number) is float


OF_ANOTHER_TYPE: dict[str, tuple[Any, ...]] = {
    "word": (1, None, "\ud800", ["a"]),
    "whole": (1.0, True, "1", MOST, -MOST, 10**400),
    "number": (float("nan"), float("inf"), "1", True, 10**400, None),
    "sure": (1, 0, None, "true"),
    "perhaps": (1, ["a"]),
    "rows": ([1], [["1"]], {}, "12", None),
}


@pytest.mark.parametrize(
    ("name", "value"), [(name, value) for name, values in OF_ANOTHER_TYPE.items() for value in values]
)
def test_another_type_is_refused_by_name(name: str, value: object) -> None:
    with pytest.raises(ValueError, match=f"^{name} is not what it should be$"):
        fields_of(Sample, GOOD | {name: value})


def test_what_is_missing_is_named() -> None:
    for name in Sample.__annotations__:
        with pytest.raises(ValueError, match=f"^{name} is missing$"):
            fields_of(Sample, {key: value for key, value in GOOD.items() if key != name})


@given(st.sampled_from(list(Sample.__annotations__)), JSON)
def test_what_is_let_through_can_be_written(name: str, value: object) -> None:
    try:
        read = Sample(**fields_of(Sample, GOOD | {name: value}))
    except ValueError:
        return
    assert fields_of(Sample, document(rfc8785.dumps(asdict(read)))) == asdict(read)


@pytest.mark.parametrize("content", [b"", b"[]", b"1", b"{", b"\xff", b"[" * 100_000, b'{"a":' * 100_000, b"9" * 5_000])
def test_no_document(content: bytes) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - of any kind
        document(content)
