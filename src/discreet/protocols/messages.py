"""What parties send one another: frozen values, and the bytes they travel as.

Bytes are a version, a kind, and the fields in order, each a whole number of eight bytes, or content after its length of
four bytes, or a list of either after its number of four. A reader is told how long a message may be before it reads any
of it; what is left over, or missing, or of another kind, is refused. ``repr`` shows a message's kind alone: a log may
hold it.
"""

from __future__ import annotations

import hashlib
import struct
from dataclasses import dataclass, fields
from typing import Any, ClassVar, TypeVar

from discreet.errors import ProtocolError
from discreet.protocols.keys import KEY_BYTES
from discreet.protocols.ring import Ring, announced

VERSION = 1
SHORT = 1 << 20
"""Bytes of a message that has no limit of its own."""

LEAST = 3
"""Clients below which a sum is nobody's secret: two know each other's part."""

AnyMessage = TypeVar("AnyMessage", bound="Message")


@dataclass(frozen=True, repr=False)
class Message:
    """Something that one party sends another. Fields are int, bytes, or tuples of either."""

    KIND: ClassVar[int]

    def __repr__(self) -> str:
        return f"{type(self).__name__}()"

    def to_bytes(self) -> bytes:
        """Return the message as bytes."""
        parts = [bytes([VERSION, self.KIND])]
        for each in fields(self):
            value = getattr(self, each.name)
            if isinstance(value, tuple):
                parts.append(struct.pack(">I", len(value)))
                parts += [_packed(item) for item in value]
            else:
                parts.append(_packed(value))
        return b"".join(parts)

    @classmethod
    def from_bytes(cls: type[AnyMessage], content: bytes, most: int = SHORT) -> AnyMessage:
        """Read what ``to_bytes`` wrote.

        Args:
            content: of one message.
            most: bytes that it may have.

        Raises:
            ProtocolError: it is longer, damaged, or of another kind or version.
        """
        if len(content) > most:
            raise ProtocolError(f"a message of {len(content)} bytes came, where at most {most} were expected")
        if content[:2] != bytes([VERSION, cls.KIND]):
            raise ProtocolError(f"expected a message of kind {cls.__name__}, version {VERSION}")
        reader = _Reader(content)
        values = [_READ[str(each.type)](reader) for each in fields(cls)]
        if reader.left:
            raise ProtocolError(f"{cls.__name__}: {reader.left} bytes too many")
        return cls(*values)

    @property
    def digest(self) -> bytes:
        """SHA-256 of the bytes."""
        return hashlib.sha256(self.to_bytes()).digest()


class SumTerms(Message):
    """What terms of every sum have; whoever announces them lists these fields among its own."""

    bits: int
    dims: int
    survivors: int

    @property
    def ring(self) -> Ring:
        """What vectors are summed in."""
        return announced(self.bits, self.dims)

    def _check(self, *digests: bytes) -> None:
        if any(len(digest) != KEY_BYTES for digest in digests):
            raise ProtocolError("terms hold digests and keys of 32 bytes")
        if self.survivors < LEAST:
            raise ProtocolError(f"a sum of fewer than {LEAST} vectors hides none of them")
        announced(self.bits, self.dims)


class _Reader:
    def __init__(self, content: bytes) -> None:
        self._content, self._at = content, 2

    @property
    def left(self) -> int:
        return len(self._content) - self._at

    def take(self, size: int) -> bytes:
        if size > self.left:
            raise ProtocolError("a message ends too early")
        self._at += size
        return self._content[self._at - size : self._at]

    def number(self) -> int:
        return int(struct.unpack(">Q", self.take(8))[0])

    def content(self) -> bytes:
        return self.take(self._size())

    def numbers(self) -> tuple[int, ...]:
        size = self._size()
        return struct.unpack(f">{size}Q", self.take(8 * size))

    def contents(self) -> tuple[bytes, ...]:
        size = self._size()
        if size * 4 > self.left:
            raise ProtocolError("a message ends too early")
        return tuple(self.content() for _ in range(size))

    def _size(self) -> int:
        return int(struct.unpack(">I", self.take(4))[0])


_READ: dict[str, Any] = {
    "int": _Reader.number,
    "bytes": _Reader.content,
    "tuple[int, ...]": _Reader.numbers,
    "tuple[bytes, ...]": _Reader.contents,
}


def _packed(value: int | bytes) -> bytes:
    return struct.pack(">Q", value) if isinstance(value, int) else struct.pack(">I", len(value)) + value
