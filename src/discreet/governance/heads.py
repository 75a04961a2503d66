"""Signed heads of the journal, and proofs by them that need no database.

A head tells how many rows a journal has and the root of the tree over them (`tree`), signed (Ed25519, RFC 8032).
Whoever holds one, and the public key, got on another way than the head itself, can be shown with a file alone

- that a row is in the journal: `Inclusion` has the row's own text, from which its hash is computed anew;
- that nothing which an older head covers was changed or taken out since: `Consistency`.

Guarantee: unless SHA-256 has a collision or an Ed25519 signature can be forged, no proof holds of a row that was not
among those that were signed, nor of a history that was changed. Not told: whether what a row says is true; whether the
signer shows others another journal (compare heads); and nothing by whoever holds the private key, which signs anything.

What is signed is the canonical JSON (RFC 8785) of all fields but the signature, after a prefix that no other use of the
key begins with.

=============================  ====================================================================================
edge case                      behaviour
=============================  ====================================================================================
a field more, less, or other   ArtefactError: a file is read as this version writes it, or not at all
a proof that does not hold     ProofRefused, whatever in it was changed
the first row                  follows 32 zero bytes, and is what the head calls the journal
a head of the same size        consistent, by an empty path, if the roots are equal
=============================  ====================================================================================
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, ClassVar, Self, TypeVar

import rfc8785
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from discreet.documents import document, fields_of
from discreet.errors import ArtefactError, ProofRefused, SettingError
from discreet.governance.checks import check_sha256, instant, now
from discreet.governance.journal import Journal, chained
from discreet.governance.tree import Frontier, consistency, consistent, includes, inclusion
from discreet.protocols.keys import SIGNATURE_BYTES, public_bytes

VERSION = 1
_PREFIX = b"discreet: signed head of a journal, version 1\0"

AnyRead = TypeVar("AnyRead")


@dataclass(frozen=True, slots=True)
class SignedHead:
    """How far a journal had grown.

    Attributes:
        size: number of rows, from 1.
        root: of the tree over them, hex.
        at: when it was signed (ISO 8601, UTC), by the signer's clock.
        journal: hash of row 0, hex: no two journals have the same.
        key: the public key, hex.
        signature: hex.
    """

    size: int
    root: str
    at: str
    journal: str
    key: str
    signature: str

    def __post_init__(self) -> None:
        for name in ("root", "journal", "key"):
            check_sha256(name, getattr(self, name))
        if self.size < 1 or instant(self.at) != self.at or not _is_hex(self.signature, SIGNATURE_BYTES):
            raise ValueError("not a head")

    @classmethod
    def over(cls, rows: Frontier, journal: str, key: Ed25519PrivateKey) -> Self:
        """Sign the head of a journal with these rows."""
        blank = cls(rows.size, rows.root().hex(), now(), journal, public_bytes(key).hex(), "00" * SIGNATURE_BYTES)
        return replace(blank, signature=key.sign(blank._signed()).hex())

    def check(self, key: str) -> None:
        """Return if this was signed by whoever holds a key.

        Args:
            key: the public key, hex, that was got on another way.

        Raises:
            ProofRefused: it was not.
        """
        try:
            if key != self.key:
                raise ProofRefused("the head is signed with another key than the one given; find out whose it is")
            Ed25519PublicKey.from_public_bytes(bytes.fromhex(key)).verify(bytes.fromhex(self.signature), self._signed())
        except (InvalidSignature, ValueError):
            raise ProofRefused("the head was changed after it was signed; do not trust what it tells") from None

    def _signed(self) -> bytes:
        return _PREFIX + rfc8785.dumps({name: value for name, value in asdict(self).items() if name != "signature"})

    def to_bytes(self) -> bytes:
        """Return it as canonical JSON, one line without its end."""
        return rfc8785.dumps(asdict(self))

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Self:
        """Return the head in a JSON object.

        Raises:
            ValueError: it holds something else, or more.
        """
        return cls(**_exactly(cls, values))

    @classmethod
    def from_bytes(cls, content: bytes) -> Self:
        """Return the head in a JSON document.

        Raises:
            ArtefactError: it holds something else, or more.
        """
        return _read("a signed head", lambda: cls.from_dict(document(content)))


def sign(journal: Journal, key: Ed25519PrivateKey) -> SignedHead:
    """Return a head over all rows there are. Hashes alone are read; that rows fit them is for `verify`.

    Raises:
        LedgerCorrupted: a row is missing, or there is none.
    """
    return SignedHead.over(Frontier(journal.hashes()), journal.identity(), key)


@dataclass(frozen=True, slots=True)
class Inclusion:
    """That a row is in a journal.

    Attributes:
        row: its number, from 0.
        body: its text, as it is hashed (in UTF-8).
        before: hash of the row before it, hex.
        path: hashes from the row up to the root, hex.
        head: that the row is under.
    """

    KIND: ClassVar[str] = "inclusion"

    row: int
    body: str
    before: str
    path: tuple[str, ...]
    head: SignedHead

    def __post_init__(self) -> None:
        for each in (self.before, *self.path):
            check_sha256("a hash", each)

    @classmethod
    def of(cls, journal: Journal, row: int, head: SignedHead) -> Self:
        """Prove that a row is under a head of this journal.

        Raises:
            SettingError: the head has no such row.
            LedgerCorrupted: the row is damaged.
            ProofRefused: the head is not one of this journal as it stands.
        """
        if not 0 <= row < head.size:
            raise SettingError(f"there is no row {row}: the journal has rows 0 to {head.size - 1}; name one of these")
        path = inclusion(list(journal.hashes(0, head.size)), row)
        before, body = journal.stored(row)
        made = cls(row, body.decode(errors="backslashreplace"), before.hex(), tuple(map(bytes.hex, path)), head)
        made.check(head.key)
        return made

    def check(self, key: str) -> None:
        """Return if the row is under the head, and the head was signed by a key.

        Raises:
            ProofRefused: it is not.
        """
        self.head.check(key)
        path = [bytes.fromhex(each) for each in self.path]
        if not 0 <= self.row < self.head.size or not includes(
            self._leaf(), self.row, self.head.size, path, bytes.fromhex(self.head.root)
        ):
            raise ProofRefused(f"the proof does not show that row {self.row} is in the journal; do not trust it")

    def _leaf(self) -> bytes:
        return chained(bytes.fromhex(self.before), self.row, self.body.encode())

    def told(self) -> str:
        """Return in words what is proven."""
        return f"row {self.row} is in the journal, as of {self.head.at}: {self.body}"


@dataclass(frozen=True, slots=True)
class Consistency:
    """That a journal has grown, and nothing else was done to it.

    Attributes:
        old: what somebody kept.
        path: hashes that both roots are made of, hex.
        head: the later one.
    """

    KIND: ClassVar[str] = "consistency"

    old: SignedHead
    path: tuple[str, ...]
    head: SignedHead

    def __post_init__(self) -> None:
        for each in self.path:
            check_sha256("a hash", each)

    @classmethod
    def of(cls, journal: Journal, old: SignedHead, head: SignedHead) -> Self:
        """Prove that a journal's head has all that an older one had.

        Raises:
            LedgerCorrupted: a row is missing.
            ProofRefused: it has not: the older head is of another journal, or the journal was changed or rolled back.
        """
        path = consistency(list(journal.hashes(0, head.size)), old.size)
        made = cls(old, tuple(map(bytes.hex, path)), head)
        made.check(head.key)
        return made

    def check(self, key: str) -> None:
        """Return if the later head has all rows of the older, and a key signed both.

        Raises:
            ProofRefused: it has not, or it did not.
        """
        for each in (self.old, self.head):
            each.check(key)
        roots = bytes.fromhex(self.old.root), bytes.fromhex(self.head.root)
        path = [bytes.fromhex(each) for each in self.path]
        if self.old.journal != self.head.journal or not consistent(
            self.old.size, roots[0], self.head.size, roots[1], path
        ):
            raise ProofRefused(
                f"the head of {self.head.size} rows is not shown to have the {self.old.size} rows of the older one; "
                "do not trust it"
            )

    def told(self) -> str:
        """Return in words what is proven."""
        return f"the {self.old.size} rows of {self.old.at} are the first of the {self.head.size} rows of {self.head.at}"


Proof = Inclusion | Consistency
_KINDS: dict[str, type[Proof]] = {Inclusion.KIND: Inclusion, Consistency.KIND: Consistency}


def proof_to_bytes(proof: Proof) -> bytes:
    """Return a proof as canonical JSON, one line."""
    return rfc8785.dumps({"proof": proof.KIND, "version": VERSION, **asdict(proof)}) + b"\n"


def proof_from_bytes(content: bytes) -> Proof:
    """Return the proof in a JSON document. Whether it holds is for its `check` to tell.

    Raises:
        ArtefactError: it holds something else, or more, or a proof of another version.
    """

    def read() -> Proof:
        values = document(content)
        kind, version = values.pop("proof", None), values.pop("version", None)
        if version != VERSION or type(version) is not int or not isinstance(kind, str) or kind not in _KINDS:
            raise ValueError("not a proof of this version")
        return _KINDS[kind](**_exactly(_KINDS[kind], values))

    return _read("a proof", read)


def _exactly(kind: type, values: dict[str, Any]) -> dict[str, Any]:
    if values.keys() != {each.name for each in fields(kind)}:
        raise ValueError("fields are missing, or there are others")
    return fields_of(kind, values)


def _read(what: str, read: Callable[[], AnyRead]) -> AnyRead:
    try:
        return read()
    except ValueError:  # SettingError is one
        raise ArtefactError(f"this is not {what} of version {VERSION}, or it is damaged; get it anew") from None


def _is_hex(text: str, length: int) -> bool:
    return len(text) == 2 * length and set(text) <= set("0123456789abcdef")
