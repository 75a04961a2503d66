"""Signed heads and proofs: what holds, and that nothing holds which was changed anywhere."""

from __future__ import annotations

import json
from copy import deepcopy
from dataclasses import asdict, replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import text

from discreet.errors import ArtefactError, LedgerCorrupted, ProofRefused, SettingError
from discreet.governance.heads import (
    VERSION,
    Consistency,
    Inclusion,
    Proof,
    SignedHead,
    proof_from_bytes,
    proof_to_bytes,
    sign,
)
from discreet.governance.journal import GENESIS, Journal, chained
from discreet.governance.ledger import Account, Ledger
from discreet.governance.tree import Frontier, consistency, inclusion, root
from discreet.protocols.keys import public_bytes

KEY = Ed25519PrivateKey.from_private_bytes(b"k" * 32)
PUBLIC = public_bytes(KEY).hex()
OTHER = Ed25519PrivateKey.from_private_bytes(b"o" * 32)
SPEC = "0" * 64
BODIES = [b'{"number":%d}' % number for number in range(11)]


@cache
def leaves() -> tuple[bytes, ...]:
    made, before = [], GENESIS
    for seq, body in enumerate(BODIES):
        before = chained(before, seq, body)
        made.append(before)
    return tuple(made)


def head_of(size: int, key: Ed25519PrivateKey = KEY) -> SignedHead:
    return SignedHead.over(Frontier(leaves()[:size]), leaves()[0].hex(), key)


def of_row(row: int, size: int) -> Inclusion:
    path = tuple(map(bytes.hex, inclusion(leaves()[:size], row)))
    before = leaves()[row - 1] if row else GENESIS
    return Inclusion(row, BODIES[row].decode(), before.hex(), path, head_of(size))


def of_growth(before: int, size: int) -> Consistency:
    return Consistency(head_of(before), tuple(map(bytes.hex, consistency(leaves()[:size], before))), head_of(size))


@pytest.fixture
def grown(ledger: Ledger) -> Journal:
    for number in range(6):
        ledger.reserve(Account("movies", "train"), cost=1, release=f"r{number}", spec=SPEC)
    return ledger.journal


def test_a_head_is_of_all_rows_and_signed(grown: Journal) -> None:
    head = sign(grown, KEY)
    assert (head.size, head.journal, head.key) == (8, grown.hash_of(0), PUBLIC)
    assert head.root == root([entry.hash for entry in grown.rows()]).hex()
    head.check(PUBLIC)
    assert SignedHead.from_bytes(head.to_bytes()) == head


def test_every_row_and_every_growth_of_a_journal_is_proven(grown: Journal) -> None:
    head = sign(grown, KEY)
    for entry in grown.rows():
        proof = proof_from_bytes(proof_to_bytes(Inclusion.of(grown, entry.seq, head)))
        proof.check(PUBLIC)
        assert isinstance(proof, Inclusion)
        assert json.loads(proof.body)["kind"] == entry.kind
        assert proof.told().startswith(f"row {entry.seq} is in the journal")
    for size in range(1, head.size + 1):
        old = SignedHead.over(Frontier(grown.hashes(0, size)), grown.identity(), KEY)
        proof = proof_from_bytes(proof_to_bytes(Consistency.of(grown, old, head)))
        proof.check(PUBLIC)
        assert proof.told().startswith(f"the {size} rows")


def test_nothing_is_proven_that_is_not_so(grown: Journal) -> None:
    head = sign(grown, KEY)
    for row in (-1, head.size):
        with pytest.raises(SettingError, match="rows 0 to 7"):
            Inclusion.of(grown, row, head)
    with pytest.raises(ProofRefused):  # of another journal
        Inclusion.of(grown, 3, head_of(5))
    with pytest.raises(ProofRefused):
        Consistency.of(grown, head_of(5), head)
    longer = replace(head, size=head.size + 1)
    with pytest.raises(ProofRefused):
        Consistency.of(grown, longer, head)
    for wrong in ("00" * 32, PUBLIC.upper(), "no key"):
        with pytest.raises(ProofRefused, match="another key"):
            head.check(wrong)
    invalid = "02" + "00" * 31  # no point of the curve
    with pytest.raises(ProofRefused, match="changed after it was signed"):
        replace(head, key=invalid).check(invalid)


def test_a_row_without_hash_or_a_missing_one_is_damage(grown: Journal, path: Path) -> None:
    grown.database.execute(text("DROP TRIGGER journal_is_not_cut"))
    with grown.database.transaction():
        grown.database.execute(text("DELETE FROM journal WHERE seq = 4"))
    with pytest.raises(LedgerCorrupted, match="row 4 is missing"):
        sign(grown, KEY)
    with grown.database.transaction():
        grown.database.execute(text("DELETE FROM journal"))
    with pytest.raises(LedgerCorrupted, match="no rows"):
        sign(grown, KEY)


def test_a_body_that_is_no_text_is_not_proven(grown: Journal, path: Path) -> None:
    last = grown.head()
    body = b'\xff{"kind":"x"}'
    digest = chained(bytes.fromhex(last.hash), last.seq + 1, body)
    grown.database._run(
        "INSERT INTO journal VALUES (:seq, CAST(:body AS TEXT), :hash)",
        {"seq": last.seq + 1, "body": body, "hash": digest},
    )
    with pytest.raises(ProofRefused):
        Inclusion.of(grown, last.seq + 1, sign(grown, KEY))


PROOFS: list[Proof] = [
    of_row(4, 11),
    of_row(0, 1),
    of_row(10, 11),
    of_growth(5, 11),
    of_growth(8, 11),
    of_growth(11, 11),
]


@pytest.mark.parametrize("proof", PROOFS)
def test_what_the_changes_begin_with_holds(proof: Proof) -> None:
    proof.check(PUBLIC)
    assert proof_from_bytes(proof_to_bytes(proof)) == proof


def places(values: Any, at: tuple[str | int, ...] = ()) -> list[tuple[str | int, ...]]:
    """Every place in a document where something stands."""
    inner = values.items() if isinstance(values, dict) else enumerate(values) if isinstance(values, list) else ()
    return [at, *(place for key, value in inner for place in places(value, (*at, key)))]


def changed(values: Any, place: tuple[str | int, ...], new: Any) -> Any:
    tree = deepcopy(values)
    spot = tree
    for key in place[:-1]:
        spot = spot[key]
    if new is None:
        del spot[place[-1]]
    else:
        spot[place[-1]] = new
    return tree


@given(st.sampled_from(PROOFS), st.data())
def test_no_changed_proof_holds(proof: Proof, data: st.DataObject) -> None:
    values = json.loads(proof_to_bytes(proof))
    place = data.draw(st.sampled_from([each for each in places(values) if each]))
    old = values
    for key in place:
        old = old[key]
    hexes = st.text("0123456789abcdef", min_size=64, max_size=64)
    news = st.one_of(
        st.none(),
        st.integers(),
        st.booleans(),
        st.floats(allow_nan=False),
        st.text(),
        hexes,
        st.lists(hexes, max_size=5),
        st.sampled_from([asdict(head_of(7)), asdict(head_of(4, OTHER)), old]).map(
            lambda each: each.upper() if isinstance(each, str) else each
        ),
    )
    new = data.draw(news)
    tree = changed(values, place, new)
    if json.dumps(tree) == json.dumps(values):
        return
    with pytest.raises(ArtefactError) as refused:
        proof_from_bytes(json.dumps(tree).encode()).check(PUBLIC)
    assert str(refused.value).isprintable()


@given(st.sampled_from(PROOFS), st.data())
def test_no_flipped_bit_of_a_proof_is_passed_over(proof: Proof, data: st.DataObject) -> None:
    content = bytearray(proof_to_bytes(proof))
    at = data.draw(st.integers(0, len(content) - 2))
    content[at] ^= 1 << data.draw(st.integers(0, 7))
    with pytest.raises(ArtefactError):
        proof_from_bytes(bytes(content)).check(PUBLIC)


@given(st.sampled_from(["size", "root", "at", "journal", "signature"]), st.data())
def test_no_changed_head_is_signed(field: str, data: st.DataObject) -> None:
    head = head_of(9)
    hexes = st.text("0123456789abcdef", min_size=64, max_size=64)
    new = data.draw(
        {
            "size": st.integers(1, 2**53 - 1),
            "at": st.datetimes().map(lambda time: time.replace(microsecond=0).isoformat() + "Z"),
            "signature": st.tuples(hexes, hexes).map("".join),
        }.get(field, hexes)
    )
    other = SignedHead(**asdict(head) | {field: new})
    if other != head:
        with pytest.raises(ProofRefused, match="changed after"):
            other.check(PUBLIC)


@pytest.mark.parametrize(
    "change",
    [
        {"size": 0},
        {"size": -1},
        {"size": True},
        {"size": 2**53},
        {"at": "2024-05-01"},
        {"at": "soon"},
        {"root": "0" * 63},
        {"key": "G" * 64},
        {"signature": "0" * 126},
        {"signature": "G" * 128},
        {"more": 1},
    ],
)
def test_what_is_no_head_is_not_read(change: dict[str, Any]) -> None:
    for content in (json.dumps(asdict(head_of(3)) | change).encode(), b"", b"[]", b"\xff", b"[" * 100_000):
        with pytest.raises(ArtefactError, match="signed head of version 1"):
            SignedHead.from_bytes(content)


@pytest.mark.parametrize(
    "change", [{"version": 2}, {"version": True}, {"version": 1.0}, {"proof": "other"}, {"proof": ["x"]}, {"row": -1}]
)
def test_what_is_no_proof_is_not_read(change: dict[str, Any]) -> None:
    values = json.loads(proof_to_bytes(PROOFS[0]))
    assert values["version"] == VERSION
    with pytest.raises(ArtefactError):
        proof_from_bytes(json.dumps(values | change).encode()).check(PUBLIC)


def test_another_journal_of_the_same_signer_is_not_taken_for_it() -> None:
    old, new = head_of(5), head_of(9)
    elsewhere = SignedHead.over(Frontier(leaves()[:5]), "ab" * 32, KEY)
    path = tuple(map(bytes.hex, consistency(leaves()[:9], 5)))
    Consistency(old, path, new).check(PUBLIC)
    with pytest.raises(ProofRefused, match="not shown"):
        Consistency(elsewhere, path, new).check(PUBLIC)
