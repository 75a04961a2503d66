"""Messages come back as what they were; anything else is refused, and no text shows what they hold."""

from __future__ import annotations

import contextlib
import json
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from discreet.errors import ProtocolError
from discreet.protocols import (
    encryption,
    ensemble,
    intersection,
    oblivious,
    ranking,
    retrieval,
    scoring,
    sharing,
    simple_pir,
    two_servers,
)
from discreet.protocols.keys import request_text
from discreet.protocols.messages import VERSION, Message
from discreet.protocols.secagg import terms

KINDS: list[type[Message]] = [
    each
    for room in (
        *(terms, sharing, scoring, retrieval, two_servers, oblivious),
        *(encryption, intersection, ensemble, simple_pir, ranking),
    )
    for each in vars(room).values()
    if isinstance(each, type)
    and issubclass(each, Message)
    and hasattr(each, "KIND")
    and each.__module__ == room.__name__
]
CHECKED = {
    terms.Terms,
    sharing.SharedTerms,
    scoring.ScoringTerms,
    retrieval.RetrievalTerms,
    oblivious.SelectionTerms,
    encryption.EncryptionTerms,
    intersection.IntersectionTerms,
    ensemble.Agreement,
    simple_pir.TableTerms,
    ranking.RankingTerms,
}
PLAIN = [kind for kind in KINDS if kind not in CHECKED]
VALUES: dict[str, st.SearchStrategy[Any]] = {
    "int": st.integers(0, 2**64 - 1),
    "bytes": st.binary(max_size=40),
    "tuple[int, ...]": st.lists(st.integers(0, 2**64 - 1), max_size=5).map(tuple),
    "tuple[bytes, ...]": st.lists(st.binary(max_size=9), max_size=5).map(tuple),
}
VECTORS = json.loads((Path(__file__).parent / "vectors/messages.json").read_text())


def test_there_are_all_of_them_each_with_a_kind_of_its_own() -> None:
    assert sorted(kind.KIND for kind in KINDS) == [*range(1, 19), 24, 25, *range(30, 45)]


@given(data=st.data(), kind=st.sampled_from(PLAIN))
def test_each_comes_back(data: st.DataObject, kind: type[Message]) -> None:
    message = kind(*[data.draw(VALUES[str(each.type)]) for each in fields(kind)])
    content = message.to_bytes()
    assert kind.from_bytes(content) == message
    with pytest.raises(ProtocolError, match="too many"):
        kind.from_bytes(content + b"\0")
    for end in range(len(content)):
        with pytest.raises(ProtocolError):
            kind.from_bytes(content[:end])
    assert repr(message) == f"{kind.__name__}()"


@given(content=st.binary(max_size=80), kind=st.sampled_from(KINDS))
def test_noise_is_refused_or_read_whole(content: bytes, kind: type[Message]) -> None:
    with contextlib.suppress(ProtocolError):
        head = bytes([VERSION, kind.KIND])
        assert kind.from_bytes(head + content).to_bytes() == head + content


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector["kind"])
def test_vectors(vector: dict[str, Any]) -> None:
    """What travels today is what travelled when these were written: versions do not drift."""
    (kind,) = [kind for kind in KINDS if kind.__name__ == vector["kind"]]
    message = kind.from_bytes(bytes.fromhex(vector["bytes"]))
    assert message.digest.hex() == vector["sha256"]
    assert message.to_bytes().hex() == vector["bytes"]


def test_lengths_are_held_before_anything_is_read() -> None:
    masked = terms.Masked(bytes(100))
    with pytest.raises(ProtocolError, match="at most 50"):
        terms.Masked.from_bytes(masked.to_bytes(), 50)
    endless = bytes([VERSION, terms.Shares.KIND]) + b"\xff\xff\xff\xff"
    with pytest.raises(ProtocolError, match="too early"):
        terms.Shares.from_bytes(endless)
    with pytest.raises(ProtocolError, match="too early"):
        terms.Survivors.from_bytes(bytes([VERSION, terms.Survivors.KIND]) + b"\xff\xff\xff\xff")


def test_other_kinds_and_versions_are_refused() -> None:
    content = terms.Masked(b"x").to_bytes()
    with pytest.raises(ProtocolError, match="Confirmation"):
        terms.Confirmation.from_bytes(content)
    with pytest.raises(ProtocolError, match="version 1"):
        terms.Masked.from_bytes(b"\2" + content[1:])
    with pytest.raises(ProtocolError):
        terms.Masked.from_bytes(b"")


def plain(**changes: Any) -> terms.Terms:
    fitting: dict[str, Any] = {name: bytes(32) for name in ("session", "context", "roster")}
    return terms.Terms(**fitting | {"bits": 20, "dims": 5, "degree": 4, "threshold": 3, "survivors": 3} | changes)


@pytest.mark.parametrize(
    "changes",
    [
        {"session": b""},
        {"roster": bytes(31)},
        {"bits": 15},
        {"dims": 0},
        {"degree": 3},
        {"degree": 6},
        {"threshold": 6},
        {"threshold": 2},
        {"survivors": 2},
    ],
)
def test_terms_that_protect_nobody(changes: dict[str, Any]) -> None:
    assert terms.Terms.from_bytes(plain().to_bytes()) == plain()
    with pytest.raises(ProtocolError):
        plain(**changes)


def test_what_is_signed_of_a_request_tells_all_of_it() -> None:
    asked = [("PUT", "/a", b"x"), ("GET", "/a", b"x"), ("PUT", "/b", b"x"), ("PUT", "/a", b"y")]
    assert len({request_text(*each) for each in asked}) == len(asked)
