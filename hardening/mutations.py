"""How inputs are changed: within their container, so that a checksum, a hash or a bracket does not stop all of them.

A mutation takes bytes and a generator of random numbers, and returns other bytes. Each is drawn from the generator
alone, so a seed repeats it.
"""

from __future__ import annotations

import copy
import hashlib
import io
import json
import random
import struct
from collections.abc import Callable
from typing import Any

import numpy as np

Mutation = Callable[[bytes, random.Random], bytes]

STRANGE: tuple[Any, ...] = (
    None,
    True,
    False,
    -1,
    0,
    1,
    2,
    255,
    2**31,
    2**53 + 1,
    2**63,
    -(2**63) - 1,
    10**400,
    0.5,
    -0.0,
    1e-320,
    1e308,
    float("nan"),
    float("inf"),
    "",
    "0",
    "1e999",
    "none",
    "a\nb",
    "\x00",
    "\ud800",
    "\u202e",
    "é" * 300,
    [],
    {},
    [[]],
    [None],
    {"": None},
    [1, "1"],
    [0] * 100,
)
WORDS = (
    b'"',
    b",",
    b"\n",
    b"\r\n",
    b"\t",
    b"\x00",
    b"|",
    b";",
    b"\xff",
    b"\xef\xbb\xbf",
    b"1e999",
    b"-0",
    b"NaN",
    b"[",
    b"{",
)
DTYPES = ("<f4", "<f8", ">f8", "<f2", "<i8", "<i4", "|i1", "|u1", "|b1", "<c16", "<U3", "|S5", "<M8[s]", "|V4", "<u8")


def raw(content: bytes, draw: random.Random) -> bytes:
    """Flip, insert, take out, repeat, cut."""
    changed = bytearray(content)
    for _ in range(draw.choice((1, 1, 1, 2, 4, 16))):
        at = draw.randrange(len(changed) + 1)
        end = min(len(changed), at + draw.choice((1, 1, 2, 4, 8, 64)))
        match draw.randrange(6):
            case 0 if at < len(changed):
                changed[at] ^= 1 << draw.randrange(8)
            case 1 if at < len(changed):
                changed[at] = draw.randrange(256)
            case 2:
                changed[at:at] = draw.choice(WORDS)
            case 3:
                del changed[at:end]
            case 4:
                changed[at:at] = changed[at:end] * draw.choice((1, 2, 50))
            case _:
                word = draw.choice((0, 1, 2**31 - 1, 2**32 - 1, draw.randrange(2**32)))
                changed[at : at + 4] = word.to_bytes(4, draw.choice(("little", "big")))
    return bytes(changed)


def document(content: bytes, draw: random.Random) -> bytes:
    """Change a JSON document in a place of its tree; what is none is changed as bytes."""
    if draw.randrange(8) == 0:
        return raw(content, draw)
    try:
        tree = json.loads(content)
    except (ValueError, RecursionError):
        return raw(content, draw)
    for _ in range(draw.choice((1, 1, 2, 4))):
        tree = _planted(tree, draw)
    try:
        return json.dumps(tree).encode()
    except (ValueError, RecursionError):
        return raw(content, draw)


def _planted(tree: Any, draw: random.Random) -> Any:
    """Put something strange at a random place, or take out, repeat or move what is there."""
    if not isinstance(tree, dict | list) or not tree or draw.randrange(8) == 0:
        return _strange(tree, draw)
    places: list[Any] = list(tree) if isinstance(tree, dict) else list(range(len(tree)))
    place = draw.choice(places)
    match draw.randrange(12):
        case 0:
            del tree[place]
        case 1 if isinstance(tree, list):
            tree.insert(place, copy.deepcopy(tree[draw.randrange(len(tree))]))
        case 1 if isinstance(tree, dict):
            tree[str(_strange(place, draw))] = tree.pop(place)
        case 2:
            tree[place] = copy.deepcopy(tree[draw.choice(places)])
        case _:
            tree[place] = _planted(tree[place], draw)
    return tree


def _strange(value: Any, draw: random.Random) -> Any:
    if isinstance(value, str) and draw.randrange(2):
        return raw(value.encode("utf-8", "surrogatepass"), draw).decode(errors="replace")
    if isinstance(value, int | float) and draw.randrange(2):
        return draw.choice((value + 1, -value, value * 2, str(value)))
    return copy.deepcopy(draw.choice(STRANGE))  # or the next change would be of the one that is kept


def settings(content: bytes, draw: random.Random) -> bytes:
    """Change a value, a name or the order of lines of a TOML file; as bytes, now and then."""
    lines = content.split(b"\n")
    if draw.randrange(5) == 0:
        return raw(content, draw)
    for _ in range(draw.randrange(1, 4)):
        at = draw.randrange(len(lines))
        name, divided, value = lines[at].partition(b" = ")
        if divided and draw.randrange(3):
            strange = json.dumps(draw.choice(STRANGE)).encode()
            deep = draw.choice((1, 10, 2_000))
            value = draw.choice(
                (strange, b"[" * deep + value + b"]" * deep, value[:-1] * 40 + value[-1:], b"2027-01-01")
            )
            lines[at] = name * draw.choice((1, 1, 1, 200)) + divided + value
        else:
            lines.insert(draw.randrange(len(lines) + 1), lines[at] if draw.randrange(2) else lines.pop(at))
    return b"\n".join(lines)


def lines_of_documents(content: bytes, draw: random.Random) -> bytes:
    """Change one of several JSON documents, one a line, or their order."""
    lines = content.splitlines() or [b""]
    at, other = draw.randrange(len(lines)), draw.randrange(len(lines))
    match draw.randrange(8):
        case 0:
            del lines[at]
        case 1:
            lines.insert(other, lines[at])
        case 2:
            lines[at], lines[other] = lines[other], lines[at]
        case _:
            lines[at] = document(lines[at], draw).replace(b"\n", b" ")
    return b"\n".join(lines)


def table(content: bytes, draw: random.Random) -> bytes:
    """Change a cell, a row or a column of a text file, its separator or its ends of lines."""
    if draw.randrange(4) == 0:
        return raw(content, draw)
    separator = b"\t" if b"\t" in content.split(b"\n", 1)[0] else b","
    rows = [line.split(separator) for line in content.split(b"\n")]
    row, other = draw.choice(rows), draw.choice(rows)
    cell = draw.randrange(len(row))
    match draw.randrange(10):
        case 0:
            row[cell:cell] = other
        case 1:
            del row[cell]
        case 2:
            rows.insert(draw.randrange(len(rows)), other)
        case 3:
            rows.remove(row)
        case 4:
            separator = draw.choice((b",", b"\t", b";", b"|", b"\r"))
        case 5:
            row[cell] = draw.choice(other) if other else b""
        case 6:
            row[cell] = b'"' + row[cell] + draw.choice((b'"', b"", b'""', b'"x'))
        case 7:
            row[cell] = json.dumps(draw.choice(STRANGE)).encode()
        case _:
            row[cell] = raw(row[cell], draw)
    return b"\n".join(separator.join(row) for row in rows)


def archive(content: bytes, draw: random.Random) -> bytes:
    """Change the parts of a model file, and seal it anew; what is none is changed as bytes."""
    if draw.randrange(8) == 0:
        return raw(content, draw)
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as file:
            parts = {name: file[name] for name in file.files}
        header = parts.pop("header").tobytes()
        for _ in range(draw.choice((1, 1, 2))):
            header = _changed(header, parts, draw)
        return sealed(header, parts)
    except Exception:  # noqa: BLE001 - whatever a damaged archive makes of itself, its bytes can be changed
        return raw(content, draw)


def _changed(header: bytes, parts: dict[str, Any], draw: random.Random) -> bytes:
    names = [name for name in parts if name != "seal"]
    if draw.randrange(2) or not names:
        return document(header, draw)
    name = draw.choice(names)
    array = parts[name]
    match draw.randrange(8):
        case 0:
            del parts[name]
        case 1:
            parts[name] = parts[draw.choice(names)]
        case 2:
            parts[name] = array.reshape(-1)[: draw.randrange(array.size + 1)]
        case 3:
            parts[name] = array[..., None] if draw.randrange(2) else array.T
        case 4:
            parts[name] = np.zeros(
                draw.choice(((), (0,), (1,), (0, 3), (3, 0), (7, 7), array.shape)), draw.choice(DTYPES)
            )
        case 5:
            parts[name] = array.astype(draw.choice(DTYPES[:9]))
        case 6:
            parts[f"state.{draw.choice(('extra', 'encoder', 'kept', 'counts.scale', 'weights', 'evidence'))}"] = array
        case _:
            flat = array.copy()
            if flat.size and flat.dtype.kind in "fiu":
                strange = [0, -1, 2**31 - 1, 127, *([np.nan, np.inf, 1e308] if flat.dtype.kind == "f" else [])]
                with np.errstate(all="ignore"):
                    flat.reshape(-1)[draw.randrange(flat.size)] = np.array(draw.choice(strange)).astype(flat.dtype)
            parts[name] = flat
    return header


def sealed(header: bytes, parts: dict[str, Any]) -> bytes:
    """Return a model file whose hashes fit what it holds, as somebody who means harm would write it."""
    arrays = {name: array for name, array in parts.items() if name != "seal"}
    try:
        told = json.loads(header)
        if isinstance(told, dict):
            told["arrays"] = {name: _digest(array) for name, array in arrays.items()}
            header = json.dumps(told).encode()
    except (ValueError, RecursionError):
        pass  # an unreadable header is sealed as it is
    seal = np.frombuffer(hashlib.sha256(header).digest(), np.uint8)
    file = io.BytesIO()
    np.savez(file, allow_pickle=False, **{"header": np.frombuffer(header, np.uint8), "seal": seal} | arrays)
    return file.getvalue()


def _digest(array: Any) -> str:
    return hashlib.sha256(f"{array.dtype.str} {array.shape} ".encode() + array.tobytes()).hexdigest()


EDIT = struct.Struct("<IB")
"""An edit of a file that is given: where, and how many bytes follow."""


def edited(template: bytes, content: bytes) -> bytes:
    """Return the template with the edits that ``content`` lists; a place beyond the end counts from the start."""
    changed, at = bytearray(template), 0
    while at + EDIT.size < len(content):
        place, many = EDIT.unpack_from(content, at)
        piece = content[at + EDIT.size : at + EDIT.size + 1 + many % 32]
        place %= len(changed)
        changed[place : place + len(piece)] = piece
        at += EDIT.size + 1 + many % 32
    return bytes(changed)


def edits(content: bytes, draw: random.Random) -> bytes:
    """Change a list of edits, or add one."""
    if content and draw.randrange(3) == 0:
        return raw(content, draw)
    many = draw.choice((0, 0, 1, 3, 7))
    page, within = draw.randrange(64) * 4096, draw.choice((draw.randrange(120), draw.randrange(4096)))
    piece = bytes(draw.choice((0, 1, 255, 127, draw.randrange(256))) for _ in range(many + 1))
    return content[-200:] * draw.randrange(2) + EDIT.pack(page + within, many) + piece
