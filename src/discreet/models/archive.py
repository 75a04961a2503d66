"""Named arrays and a header in one file: a NumPy archive without pickles.

The header is JSON, and holds the sha256 of each array; the seal is the sha256 of the header. The same content
is the same bytes.
"""

from __future__ import annotations

import hashlib
import io
import json
import lzma
import struct
import tokenize
import zipfile
import zlib
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from discreet.errors import ArtefactError

HEADER, SEAL = "header", "seal"
Dumps = Callable[[Any], bytes]
MOST_MEMBERS = 64

DAMAGE = (
    *(AttributeError, EOFError, KeyError, MemoryError, OSError, RuntimeError, TypeError, ValueError, Warning),
    *(lzma.LZMAError, struct.error, tokenize.TokenError, zipfile.BadZipFile, zlib.error),
)
"""What the readers of zip and NumPy files raise at a wrong byte: each of these was seen, or is in their source."""


def packed(header: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]], dumps: Dumps | None = None) -> bytes:
    """Return a file's content.

    Args:
        header: what JSON can hold, with a ``format``.
        arrays: by name.
        dumps: what writes the header; None for canonical JSON (RFC 8785).
    """
    if dumps is None:
        import rfc8785

        dumps = rfc8785.dumps
    whole = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    said = dumps({**header, "arrays": {name: _digest(array) for name, array in whole.items()}})
    buffer = io.BytesIO()
    np.savez(buffer, allow_pickle=False, **({HEADER: np.frombuffer(said, np.uint8), SEAL: _seal(said)} | whole))
    return buffer.getvalue()


def unpacked(content: bytes, what: str, of: int, then: str) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
    """Return the header and the arrays.

    Args:
        content: what ``packed`` wrote.
        what: it is, for messages.
        of: the format that is read.
        then: what to do about one that cannot be.

    Raises:
        ArtefactError: it is damaged, or something else.
    """
    try:
        _check_members(content, what, then)
        with np.load(io.BytesIO(content), allow_pickle=False) as archive:
            parts = {name: archive[name] for name in archive.files}
        header, seal = parts.pop(HEADER).tobytes(), parts.pop(SEAL)
        document = json.loads(header)
        intact = bool(np.array_equal(seal, _seal(header)))
        intact = intact and document["arrays"] == {name: _digest(array) for name, array in parts.items()}
        version = document["format"]
    except DAMAGE as error:
        raise ArtefactError(f"not a {what}, or damaged ({type(error).__name__}); {then}") from None
    if not intact:
        raise ArtefactError(f"the {what} was changed after it was written; {then}")
    if version != of:
        raise ArtefactError(f"the {what} is of another format; this version of discreet reads {of}")
    return document, parts


def sorted_json(document: Any) -> bytes:
    """Return JSON that is the same for the same document, by Python alone; there must be no floats in it."""
    return json.dumps(document, sort_keys=True, ensure_ascii=False, separators=(",", ":")).encode()


def _digest(array: NDArray[Any]) -> str:
    kind = f"{array.dtype.str} {array.shape} ".encode()
    return hashlib.sha256(kind + array.tobytes()).hexdigest()


def _seal(header: bytes) -> NDArray[np.uint8]:
    return np.frombuffer(hashlib.sha256(header).digest(), np.uint8)


def _check_members(content: bytes, what: str, then: str) -> None:
    """Refuse an archive that would unpack to more than itself: ours are stored as they are."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        members = archive.infolist()
    plain = all(each.compress_type == zipfile.ZIP_STORED and each.filename.endswith(".npy") for each in members)
    if not plain or len(members) > MOST_MEMBERS or sum(each.file_size for each in members) > len(content):
        raise ArtefactError(f"not a {what}: it holds packed or strange parts; {then}")
