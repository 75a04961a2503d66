"""Values out of JSON, each held to the type that its field is declared with.

A file may hold anything: a number where a list is due, a whole number of four hundred digits, NaN, half a character.
What is let through here can be computed with, and written again as canonical JSON.
"""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import fields
from types import NoneType, UnionType
from typing import Any, get_args, get_origin, get_type_hints

MOST = 1 << 53
"""The largest whole number that canonical JSON tells exactly."""


def document(content: bytes) -> dict[str, Any]:
    """Return the JSON object that ``content`` holds.

    Raises:
        ValueError: it holds none, or not in UTF-8, or nested too deeply to be read.
    """
    try:
        found = json.loads(content)
    except RecursionError:
        raise ValueError("nested too deeply") from None
    if not isinstance(found, dict):
        raise ValueError("not an object")
    return found


def fields_of(kind: type, values: object) -> dict[str, Any]:
    """Return the arguments of a dataclass out of JSON values; what is no field of it is left out.

    Raises:
        ValueError: a field is missing, or not of its type; names the field.
    """
    if not isinstance(values, dict):
        raise ValueError("not an object")
    hints = get_type_hints(kind)
    found = {}
    for name in (each.name for each in fields(kind)):
        if name not in values:
            raise ValueError(f"{name} is missing")
        try:
            found[name] = told(hints[name], values[name])
        except ValueError:
            raise ValueError(f"{name} is not what it should be") from None
    return found


def told(kind: Any, value: object) -> Any:
    """Return a JSON value as a bool, int, float, str, None or tuple of such, or by ``from_dict`` of its class.

    Raises:
        ValueError: it is none.
    """
    if get_origin(kind) is UnionType:
        (only,) = (each for each in get_args(kind) if each is not NoneType)
        return None if value is None else told(only, value)
    if get_origin(kind) is tuple:
        return tuple(told(get_args(kind)[0], each) for each in _a(list, value))
    if hasattr(kind, "from_dict"):
        return kind.from_dict(_a(dict, value))
    if kind is float:
        return _number(value)
    return _whole(value) if kind is int else _text(value) if kind is str else _a(kind, value)


def _a(kind: type, value: object) -> Any:
    if type(value) is not kind:
        raise ValueError(f"not of type {kind.__name__}")
    return value


def _whole(value: object) -> int:
    number: int = _a(int, value)
    if abs(number) >= MOST:
        raise ValueError("too large")
    return number


def _number(value: object) -> float:
    number = float(_whole(value)) if type(value) is int else _a(float, value)
    if not math.isfinite(number):
        raise ValueError("not finite")
    return float(number)


def _text(value: object) -> str:
    text: str = _a(str, value)
    text.encode()  # half a character is a UnicodeEncodeError, which is a ValueError
    return text


def fingerprint(values: dict[str, Any]) -> str:
    """Return the sha256 (hex) of a JSON document in canonical form (RFC 8785): what a ledger entry refers to."""
    import rfc8785  # here alone, so that a device can read documents without it

    return hashlib.sha256(rfc8785.dumps(values)).hexdigest()
