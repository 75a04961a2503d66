"""Two servers: the sum is exact, each alone sees noise, and one that lies gains nothing."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from numpy.typing import NDArray
from tests.protocols.conftest import CONTEXT

from discreet.errors import ProtocolError, SettingError, TermsRefused, TooFewLeft
from discreet.protocols.keys import public_bytes, roster_digest
from discreet.protocols.ring import Ring
from discreet.protocols.sharing import Half, Sealed, SharedTerms, Shifted, joined, shared

Parties = tuple[SharedTerms, Half, Half]

PEOPLE = [Ed25519PrivateKey.generate() for _ in range(8)]
ROSTER = tuple(map(public_bytes, PEOPLE))


def none(dims: int) -> NDArray[np.int64]:
    return np.zeros(dims, np.int64)


def made(dims: int = 4, bits: int = 20, survivors: int = 3) -> Parties:
    first, second = X25519PrivateKey.generate(), X25519PrivateKey.generate()
    servers = public_bytes(first), public_bytes(second)
    terms = SharedTerms(os.urandom(32), CONTEXT, roster_digest(ROSTER), *servers, bits, dims, survivors)
    return terms, Half(terms, first, ROSTER), Half(terms, second, ROSTER)


def said(terms: SharedTerms, vector: NDArray[np.int64], seat: int = 0, survivors: int = 3) -> tuple[bytes, bytes]:
    return shared(PEOPLE[seat], terms, CONTEXT, terms.ring, survivors, vector)


def sent(parties: Parties, vectors: NDArray[np.int64]) -> None:
    terms, first, second = parties
    for seat, vector in enumerate(vectors):
        for half, content in zip((first, second), said(terms, vector, seat), strict=True):
            half.take(seat, content)


VECTORS = np.random.default_rng(2).integers(-9_000, 9_000, (6, 4))


def test_the_sum_is_exact_and_has_both_noises() -> None:
    terms, first, second = parties = made()
    sent(parties, VECTORS)
    for half in (first, second):
        half.add([0, 1])
        half.add(half.held)
    total = joined(terms, first.total(lambda dims: np.full(dims, -5)), second.total(lambda dims: np.full(dims, 7)))
    assert (total == VECTORS.sum(axis=0) + 2).all()


def test_whose_message_one_server_lacks_is_left_out() -> None:
    terms, first, second = parties = made()
    assert sorted(first.expected) == list(range(8))
    sent(parties, VECTORS)
    extra, _ = said(terms, VECTORS[0], 7)
    first.take(7, extra)
    assert sorted(first.expected) == [6]
    assert sorted(second.expected) == [6, 7]
    common = first.held & second.held
    assert len(common) == 6
    for half in (first, second):
        half.add(common)
    assert sorted(first.expected) == [6]
    assert (joined(terms, first.total(none), second.total(none)) == VECTORS.sum(axis=0)).all()
    assert not first.expected
    with pytest.raises(ProtocolError, match="no message"):
        made()[1].add([0])


def test_each_half_is_even_over_the_ring_whatever_the_vectors() -> None:
    """Chi-squared over 16 cells, two halves, two inputs: by chance in four of a million runs."""
    from scipy.stats import chi2

    dims = 40_000
    for value in (0, 100_000):
        terms, first, second = parties = made(dims)
        sent(parties, np.full((3, dims), value))
        for half in (first, second):
            half.add(half.held)
            counts = np.bincount(terms.ring.unpack(half.total(none).content) >> 16, minlength=16)
            assert ((counts - dims / 16) ** 2 / (dims / 16)).sum() < chi2.isf(1e-6, 15)


def test_halves_of_different_lists_are_refused() -> None:
    terms, first, second = parties = made()
    sent(parties, VECTORS)
    first.add(first.held)
    second.add(sorted(second.held)[:5])
    one, other = first.total(none), second.total(none)
    with pytest.raises(ProtocolError, match="not halves of one sum"):
        joined(terms, one, other)
    with pytest.raises(ProtocolError, match="not halves of one sum"):
        joined(replace(terms, session=bytes(32)), one, one)


def test_a_half_is_told_once_and_not_of_too_few() -> None:
    _, first, second = parties = made()
    sent(parties, VECTORS)
    first.add(first.held)
    first.total(none)
    for call in (lambda: first.total(none), lambda: first.add([]), lambda: first.take(7, b"")):
        with pytest.raises(ProtocolError):
            call()
    second.add([0, 1])
    with pytest.raises(TooFewLeft, match="2 clients are left, 3 are needed"):
        second.total(none)
    with pytest.raises(ProtocolError, match="told once"):
        second.total(none)


def test_what_clients_refuse() -> None:
    terms, _, _ = made()
    with pytest.raises(TermsRefused, match="another model, plan or round"):
        shared(PEOPLE[0], terms, bytes(32), terms.ring, 3, VECTORS[0])
    with pytest.raises(TermsRefused, match="another model, plan or round"):
        shared(PEOPLE[0], terms, CONTEXT, Ring(21, 4), 3, VECTORS[0])
    with pytest.raises(TermsRefused, match="sums of at least 9"):
        said(terms, VECTORS[0], survivors=9)
    with pytest.raises(SettingError, match="wider ring"):
        said(terms, np.full(4, 1 << 20))
    with pytest.raises(ProtocolError, match="key is none"):
        said(replace(terms, first=bytes(32)), VECTORS[0])


@pytest.mark.parametrize("changes", [{"session": b""}, {"bits": 9}, {"dims": 0}, {"survivors": 2}, {"first": b"x"}])
def test_terms_that_there_are_not(changes: dict[str, Any]) -> None:
    terms = made()[0]
    assert SharedTerms.from_bytes(terms.to_bytes()) == terms
    with pytest.raises(ProtocolError):
        replace(terms, **changes)
    with pytest.raises(ProtocolError, match="one server"):
        replace(terms, second=terms.first)


def test_servers_that_are_not_named() -> None:
    with pytest.raises(TermsRefused, match="other servers"):
        Half(made()[0], X25519PrivateKey.generate(), ROSTER)
    key = X25519PrivateKey.generate()
    with pytest.raises(TermsRefused, match="another roster"):
        Half(replace(made()[0], first=public_bytes(key)), key, ROSTER[1:])


def test_a_message_counts_once_and_under_its_own_name() -> None:
    """Replayed under other names somebody's vector would count several times under the same noise."""
    terms, first, second = made()
    for half, content in zip((first, second), said(terms, VECTORS[0]), strict=True):
        for seat in (1, 2, 7):
            with pytest.raises(ProtocolError, match="not signed by its seat") as refused:
                half.take(seat, content)
            assert refused.value.blame == seat
        for seat in (-1, 8):
            with pytest.raises(ProtocolError):
                half.take(seat, content)
        half.take(0, content)
        with pytest.raises(ProtocolError, match="came before"):
            half.take(0, content)


def signed(terms: SharedTerms, message: Sealed | Shifted) -> bytes:
    return replace(message, signature=PEOPLE[0].sign(message.signed(terms))).to_bytes()


def test_damaged_replayed_and_foreign_messages() -> None:
    terms, first, second = made()
    sealed, shifted = said(terms, VECTORS[0])
    other = made()[0]
    foreign, _ = said(other, VECTORS[0])
    told = Sealed.from_bytes(sealed)
    for content in (
        *(b"", sealed[:-1], sealed + b"x", foreign, shifted),
        *(
            signed(terms, replace(told, **changes))
            for changes in (
                {"ephemeral": bytes(32)},
                {"ephemeral": b""},
                {"content": told.content[:-1] + bytes([told.content[-1] ^ 1])},
            )
        ),
        replace(told, signature=bytes(64)).to_bytes(),
    ):
        with pytest.raises(ProtocolError):
            first.take(0, content)
    for content in (b"", shifted[:-1], sealed, signed(terms, Shifted(b"short", b"")), bytes(1000)):
        with pytest.raises(ProtocolError):
            second.take(0, content)
    assert not first.held | second.held
    first.take(0, sealed)
    with pytest.raises(ProtocolError, match="came before"):
        first.take(0, sealed)
    first.add([0])
    with pytest.raises(ProtocolError, match="came before"):
        first.take(0, sealed)
    assert (repr(first), repr(second)) == ("Half(first, 0 held, 1 added)", "Half(second, 0 held, 0 added)")
    assert first.most > second.most
