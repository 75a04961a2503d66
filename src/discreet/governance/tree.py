"""A tree over the journal's rows: short proofs that a row is in it, and that nothing before was changed.

The tree of RFC 6962, with the algorithms of RFC 9162. Its leaves are the hashes of the journal's chain: each is a hash
of a row, with the prefix 0x00 of a leaf. Whoever holds a head (number of rows, and root) can be shown

- that a row is one of them, by about log2(n) hashes (``inclusion``);
- that a later head has the same rows, in the same order, and then more (``consistency``).

Guarantee: unless SHA-256 has a collision, no proof of a row that is not there, and none of a history that was changed,
is taken as one (RFC 9162, sections 2.1.3 and 2.1.4). What is not told is what rows there are behind an older head, nor
that the newest head is the one that is shown: for that, heads are signed and kept elsewhere (``heads``).

=========================  ========================================================
edge case                  behaviour
=========================  ========================================================
no rows                    the root is SHA-256 of nothing; there is nothing to prove
one row                    the root is the row's hash; the proof is empty
consistent with no rows    always, by an empty proof
consistent with itself     by an empty proof, if the roots are equal
a proof too long or short  False, as for any other that does not fit
=========================  ========================================================
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from functools import reduce

NODE = b"\x01"
EMPTY = hashlib.sha256(b"").digest()


class Frontier:
    """A tree that grows leaf by leaf, of which the roots of its whole subtrees alone are held: about log2(n) hashes."""

    def __init__(self, leaves: Iterable[bytes] = ()) -> None:
        self.size = 0
        self._peaks: list[bytes] = []
        self.grow(leaves)

    def grow(self, leaves: Iterable[bytes]) -> None:
        """Add leaves' hashes at the end."""
        for leaf in leaves:
            self.size += 1
            whole, rest = leaf, self.size
            while not rest & 1:
                whole, rest = _node(self._peaks.pop(), whole), rest >> 1
            self._peaks.append(whole)

    def root(self) -> bytes:
        """Return the root, 32 bytes, over all that was added (RFC 9162, section 2.1.1)."""
        return reduce(lambda right, left: _node(left, right), reversed(self._peaks)) if self._peaks else EMPTY

    def copy(self) -> Frontier:
        """Return another one, of the same leaves."""
        other = Frontier()
        other.size, other._peaks = self.size, list(self._peaks)
        return other


def root(leaves: Iterable[bytes]) -> bytes:
    """Return the root, 32 bytes, over leaves' hashes."""
    return Frontier(leaves).root()


def inclusion(leaves: Sequence[bytes], index: int) -> list[bytes]:
    """Return the proof that leaf ``index``, below their number, is one of the leaves (section 2.1.3.1)."""
    level, path = list(leaves), []
    while len(level) > 1:
        if index ^ 1 < len(level):
            path.append(level[index ^ 1])
        level, index = _above(level), index >> 1
    return path


def consistency(leaves: Sequence[bytes], before: int) -> list[bytes]:
    """Return the proof that the tree over the first ``before`` leaves grew into this one (2.1.4.1)."""
    if not 0 < before < len(leaves):
        return []
    path: list[bytes] = []
    size, whole = before, True
    rest = list(leaves)
    while size != len(rest):
        half = 1 << (len(rest) - 1).bit_length() - 1
        if size <= half:
            path.append(root(rest[half:]))
            rest = rest[:half]
        else:
            path.append(root(rest[:half]))
            rest, size, whole = rest[half:], size - half, False
    return [*([] if whole else [root(rest)]), *reversed(path)]


def includes(leaf: bytes, index: int, size: int, proof: Sequence[bytes], head: bytes) -> bool:
    """Tell whether a proof shows that ``leaf`` is number ``index`` of ``size`` leaves under a root (2.1.3.2)."""
    if not 0 <= index < size:
        return False
    place, last, found = index, size - 1, leaf
    for sibling in proof:
        if last == 0:
            return False
        if place & 1 or place == last:
            found = _node(sibling, found)
            while not place & 1 and place:
                place, last = place >> 1, last >> 1
        else:
            found = _node(found, sibling)
        place, last = place >> 1, last >> 1
    return last == 0 and found == head


def consistent(before: int, old: bytes, size: int, new: bytes, proof: Sequence[bytes]) -> bool:
    """Tell whether a proof shows that ``size`` leaves under ``new`` begin with ``before`` under ``old`` (2.1.4.2)."""
    if before == size:
        return not proof and old == new
    if before == 0:
        return not proof and old == EMPTY and size > 0
    if not 0 < before < size or not proof:
        return False
    path = list(proof) if before & (before - 1) else [old, *proof]
    place, last = before - 1, size - 1
    while place & 1:
        place, last = place >> 1, last >> 1
    one = two = path[0]
    for sibling in path[1:]:
        if last == 0:
            return False
        if place & 1 or place == last:
            one, two = _node(sibling, one), _node(sibling, two)
            while not place & 1 and place:
                place, last = place >> 1, last >> 1
        else:
            two = _node(two, sibling)
        place, last = place >> 1, last >> 1
    return last == 0 and one == old and two == new


def _above(level: list[bytes]) -> list[bytes]:
    above = [_node(left, right) for left, right in zip(level[::2], level[1::2], strict=False)]
    return above if len(level) % 2 == 0 else [*above, level[-1]]


def _node(left: bytes, right: bytes) -> bytes:
    return hashlib.sha256(NODE + left + right).digest()
