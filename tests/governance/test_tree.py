"""Proofs over a tree of rows: the published example, every pair of sizes, and whatever was changed."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from discreet.governance.tree import EMPTY, consistency, consistent, includes, inclusion, root

MOST = 40
# The example of Certificate Transparency's own tests: eight leaves, and the roots of the first 1 to 8 of them.
EXAMPLE = ["", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f"]
ROOTS = [
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]
LEAVES = [hashlib.sha256(b"\x00%d" % number).digest() for number in range(MOST)]


def test_the_published_roots() -> None:
    leaves = [hashlib.sha256(b"\x00" + bytes.fromhex(text)).digest() for text in EXAMPLE]
    assert [root(leaves[: size + 1]).hex() for size in range(8)] == ROOTS
    assert root([]) == EMPTY


def test_every_row_of_every_size_is_proven() -> None:
    for size in range(1, MOST + 1):
        head = root(LEAVES[:size])
        for index in range(size):
            proof = inclusion(LEAVES[:size], index)
            assert includes(LEAVES[index], index, size, proof, head)
            assert len(proof) <= size.bit_length()


def test_every_size_is_consistent_with_every_later_one() -> None:
    for size in range(MOST + 1):
        for before in range(size + 1):
            proof = consistency(LEAVES[:size], before)
            assert consistent(before, root(LEAVES[:before]), size, root(LEAVES[:size]), proof), (before, size)


@given(st.integers(1, MOST), st.data())
def test_another_row_place_size_or_proof_is_not_taken(size: int, data: st.DataObject) -> None:
    index = data.draw(st.integers(0, size - 1))
    head, proof = root(LEAVES[:size]), inclusion(LEAVES[:size], index)
    leaf = LEAVES[index]
    other = bytes(32)
    assert not includes(other, index, size, proof, head)
    assert not includes(leaf, index, size, proof, other)
    assert not includes(leaf, index, size, [*proof, other], head)
    assert not any(includes(leaf, place, size, proof, head) for place in (-1, size, size + 1))
    assert not any(includes(leaf, place, size, proof, head) for place in range(size) if place != index)
    if proof:
        at = data.draw(st.integers(0, len(proof) - 1))
        assert not includes(leaf, index, size, [*proof[:at], other, *proof[at + 1 :]], head)
        assert not includes(leaf, index, size, proof[:-1], head)


@given(st.integers(1, MOST), st.data())
def test_a_changed_history_is_not_consistent(size: int, data: st.DataObject) -> None:
    before = data.draw(st.integers(1, size))
    changed = data.draw(st.integers(0, before - 1))
    later = [bytes(32) if at == changed else leaf for at, leaf in enumerate(LEAVES[:size])]
    old = root(LEAVES[:before])
    assert not consistent(before, old, size, root(later), consistency(later, before))
    assert not consistent(before, old, size, root(LEAVES[:size]), [*consistency(LEAVES[:size], before), bytes(32)])
    assert not consistent(size + 1, root(LEAVES[: size + 1]), size, root(LEAVES[:size]), [])


@pytest.mark.parametrize(("before", "size"), [(0, 5), (5, 5), (3, 7), (4, 8)])
def test_proofs_that_are_too_short(before: int, size: int) -> None:
    old, new = root(LEAVES[:before]), root(LEAVES[:size])
    assert not consistent(before, bytes(32), size, new, consistency(LEAVES[:size], before))
    if 0 < before < size:
        assert not consistent(before, old, size, new, consistency(LEAVES[:size], before)[:-1])
        assert not consistent(before, old, size, new, [])
    assert not consistent(0, EMPTY, 0, old if before else bytes(32), [])
