"""Keys: agreed on, derived, sealed with and signed with. All of it by ``cryptography``.

Every derived key is bound to the transcript (who is there, what is computed) and to what it is for, so no key is ever
used twice: not between sessions, not between pairs, not for two purposes.
"""

from __future__ import annotations

import hashlib

from cryptography.exceptions import InvalidSignature, InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

KEY_BYTES = 32
SIGNATURE_BYTES = 64
SEAL_BYTES = 16
"""That a sealed text is longer than the text."""

Roster = tuple[bytes, ...]
"""Public signing keys (Ed25519, 32 bytes each); a party's seat is its place in it. Pinned: known before any session."""

_NONCE = bytes(12)


def roster_digest(roster: Roster) -> bytes:
    """Return the SHA-256 of a roster."""
    return hashlib.sha256(b"".join(roster)).digest()


def public_bytes(key: X25519PrivateKey | Ed25519PrivateKey) -> bytes:
    """Return the 32 bytes of a public key."""
    return key.public_key().public_bytes_raw()


def derived(secret: bytes, transcript: bytes, purpose: bytes) -> bytes:
    """Return a key of 32 bytes (HKDF with SHA-256, RFC 5869) for one purpose within one transcript."""
    return HKDF(hashes.SHA256(), KEY_BYTES, salt=transcript, info=b"discreet " + purpose).derive(secret)


def agreed(mine: X25519PrivateKey, theirs: bytes, transcript: bytes, purpose: bytes) -> bytes | None:
    """Return the key that two parties share (X25519, RFC 7748), or None if their public key is none."""
    try:
        secret = mine.exchange(X25519PublicKey.from_public_bytes(theirs))
    except ValueError:  # the wrong length, or a point that makes the secret zero
        return None
    return derived(secret, transcript, purpose)


def sealed(key: bytes, text: bytes, about: bytes) -> bytes:
    """Return ``text`` encrypted and authenticated, with ``about`` authenticated too (ChaCha20-Poly1305, RFC 8439).

    The nonce is zero, so a key must seal one text alone.
    """
    return ChaCha20Poly1305(key).encrypt(_NONCE, text, about)


def opened(key: bytes, content: bytes, about: bytes) -> bytes | None:
    """Return the text, or None if it was not sealed with this key about this."""
    try:
        return ChaCha20Poly1305(key).decrypt(_NONCE, content, about)
    except (InvalidTag, ValueError):
        return None


def is_signed(by: bytes, signature: bytes, text: bytes) -> bool:
    """Tell whether ``signature`` of ``text`` is by the holder of this public key (Ed25519, RFC 8032)."""
    try:
        Ed25519PublicKey.from_public_bytes(by).verify(signature, text)
    except (InvalidSignature, ValueError):
        return False
    return True


def request_text(method: str, path: str, digest: bytes) -> bytes:
    """Return what a party signs when it asks something of a server; ``digest`` is the body's SHA-256."""
    return b"discreet request " + f"{method} {path} ".encode() + digest
