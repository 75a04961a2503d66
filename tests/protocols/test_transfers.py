"""Transfers: labels differ by what they should, each side sees noise of the other's secret, and points are checked."""

from __future__ import annotations

import json
import secrets
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from evenness import FALSE_ALARM, evenness
from hypothesis import given
from hypothesis import strategies as st
from nacl import bindings as group
from numpy.typing import NDArray

from discreet.errors import ProtocolError, SettingError
from discreet.protocols.garbling import Labels
from discreet.protocols.transfers import Receiver, Sender, column_bytes, transposed
from discreet.protocols.two_servers import Steps

CONTEXT = b"what they are for"
VECTORS = json.loads((Path(__file__).parent / "vectors/transfers.json").read_text())

IDENTITY = bytes([1]) + bytes(31)
SMALL = bytes(32)
"""A point of order 4."""
OFF_CURVE = bytes([2]) + bytes(31)


def mixed_order() -> bytes:
    """Return a point of the curve, of eight times the group's order or less, that is not in the group."""
    return group.crypto_core_ed25519_add(new_point(), SMALL)


def new_point() -> bytes:
    scalar = group.crypto_core_ed25519_scalar_reduce(secrets.token_bytes(64))
    return group.crypto_scalarmult_ed25519_base_noclamp(scalar)


def transferred(choices: NDArray[np.uint8]) -> tuple[Labels, Labels, Labels, bytes, bytes]:
    """Return delta, both sides' labels, points and columns."""
    count = 8 * len(choices)
    receiver, sender = Receiver(CONTEXT, count), Sender(CONTEXT, count)
    points = sender.points(receiver.point())
    columns, held = receiver.columns(points, choices)
    return sender.delta, sender.labels(columns), held, points, columns


def noise(size: int) -> NDArray[np.uint8]:
    return np.frombuffer(secrets.token_bytes(size), np.uint8)


@given(content=st.binary(min_size=1, max_size=40))
def test_labels_differ_by_delta_where_the_bit_is_set(content: bytes) -> None:
    choices = np.frombuffer(content, np.uint8)
    delta, labels, held, _, _ = transferred(choices)
    bits = np.unpackbits(choices, bitorder="little")
    assert delta[0] & 1 == 1
    assert (held == labels ^ bits[:, None] * delta).all()
    assert len(np.unique(held, axis=0)) == len(held)


@given(data=st.data())
def test_rows_are_those_of_the_matrix(data: st.DataObject) -> None:
    size = data.draw(st.integers(1, 9))
    columns = np.frombuffer(data.draw(st.binary(min_size=128 * size, max_size=128 * size)), np.uint8).reshape(128, size)
    rows = np.packbits(np.unpackbits(columns, axis=1, bitorder="little").T, axis=1, bitorder="little")
    assert transposed(columns).tobytes() == rows.tobytes()


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector["name"])
def test_vectors(vector: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = iter(map(bytes.fromhex, vector["drawn"]))
    monkeypatch.setattr(secrets, "token_bytes", lambda _: next(drawn))
    context, choices = bytes.fromhex(vector["context"]), np.frombuffer(bytes.fromhex(vector["choices"]), np.uint8)
    receiver, sender = Receiver(context, 8 * len(choices)), Sender(context, 8 * len(choices))
    point = receiver.point()
    points = sender.points(point)
    columns, held = receiver.columns(points, choices)
    assert (point.hex(), points.hex(), columns.hex()) == (vector["point"], vector["points"], vector["columns"])
    assert held.tobytes().hex() == vector["held"]
    assert sender.labels(columns).tobytes().hex() == vector["labels"]


class TestOrder:
    def test_of_two_at_once_one_is_refused(self) -> None:
        steps = Steps("this", "that")
        with steps.step("this"), pytest.raises(ProtocolError, match="not the time for this"), steps.step("this"):
            pass
        with steps.step("that"):
            pass

    def test_each_step_comes_once(self) -> None:
        receiver, sender = Receiver(CONTEXT, 8), Sender(CONTEXT, 8)
        points = sender.points(receiver.point())
        columns, _ = receiver.columns(points, noise(1))
        sender.labels(columns)
        with pytest.raises(ProtocolError, match="not the time for the point"):
            receiver.point()
        with pytest.raises(ProtocolError, match="not the time for the columns"):
            receiver.columns(points, noise(1))
        with pytest.raises(ProtocolError, match="not the time for the points"):
            sender.points(new_point())
        with pytest.raises(ProtocolError, match="not the time for the labels"):
            sender.labels(columns)

    def test_none_comes_early(self) -> None:
        with pytest.raises(ProtocolError, match="not the time for the columns"):
            Receiver(CONTEXT, 8).columns(b"", noise(1))
        with pytest.raises(ProtocolError, match="not the time for the labels"):
            Sender(CONTEXT, 8).labels(bytes(column_bytes(8)))

    def test_none_comes_after_an_error(self) -> None:
        receiver, sender = Receiver(CONTEXT, 8), Sender(CONTEXT, 8)
        point = receiver.point()
        with pytest.raises(ProtocolError, match="point of the group"):
            sender.points(IDENTITY)
        with pytest.raises(ProtocolError, match="none after an error"):
            sender.points(point)
        with pytest.raises(ProtocolError, match="128 points"):
            receiver.columns(b"", noise(1))
        with pytest.raises(ProtocolError, match="none after an error"):
            receiver.columns(Sender(CONTEXT, 8).points(point), noise(1))


@pytest.mark.parametrize(
    "make", [lambda: IDENTITY, lambda: SMALL, lambda: OFF_CURVE, mixed_order, lambda: b"", lambda: bytes(33)]
)
def test_what_is_no_point_of_the_group_is_refused(make: Any) -> None:
    point = make()
    with pytest.raises(ProtocolError, match="point of the group"):
        Sender(CONTEXT, 8).points(point)
    if len(point) == 32:
        receiver, sender = Receiver(CONTEXT, 8), Sender(CONTEXT, 8)
        points = sender.points(receiver.point())
        with pytest.raises(ProtocolError, match="point of the group"):
            receiver.columns(points[:-32] + point, noise(1))


def test_points_of_the_point_itself_do_not_fail() -> None:
    """The key for a bit of 1 is then of the identity, a point like any other."""
    receiver = Receiver(CONTEXT, 8)
    columns, held = receiver.columns(128 * receiver.point(), noise(1))
    assert len(columns) == column_bytes(8)
    assert held.shape == (8, 2)


@pytest.mark.parametrize("count", [0, -8, 7, 12])
def test_other_counts_are_refused(count: int) -> None:
    for side in (Receiver, Sender):
        with pytest.raises(SettingError, match="multiples of eight"):
            side(CONTEXT, count)


@pytest.mark.parametrize("choices", [np.zeros(2, np.uint8), np.zeros(1, bool)])
def test_other_bits_are_refused(choices: Any) -> None:
    receiver = Receiver(CONTEXT, 8)
    points = Sender(CONTEXT, 8).points(receiver.point())
    with pytest.raises(SettingError, match="for each of 8 transfers"):
        receiver.columns(points, choices)


@pytest.mark.parametrize("change", [-1, 1])
def test_other_sizes_are_refused(change: int) -> None:
    sender = Sender(CONTEXT, 8)
    sender.points(new_point())
    with pytest.raises(ProtocolError, match="columns of 128 bytes"):
        sender.labels(bytes(column_bytes(8) + change))


def test_another_context_gives_other_labels() -> None:
    receiver, sender = Receiver(CONTEXT, 64), Sender(b"another", 64)
    columns, held = receiver.columns(sender.points(receiver.point()), noise(8))
    labels = sender.labels(columns)
    assert not ((held == labels) | (held == labels ^ sender.delta)).all(axis=1).any()


@pytest.mark.parametrize("value", [0, 255])
def test_what_the_sender_sees_is_even_whatever_the_bits(value: int) -> None:
    """Columns, and its labels. Chi-squared, 255 degrees of freedom; false alarm: 1e-6 each, four of them."""
    _, labels, _, _, columns = transferred(np.full(1_000, value, np.uint8))
    assert evenness(columns) > FALSE_ALARM
    assert evenness(labels.tobytes()) > FALSE_ALARM


@pytest.mark.parametrize("bit", [0, 1])
def test_points_are_even_whatever_the_bit(bit: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The lowest byte of 128 points, 40 times. Chi-squared, 255 degrees of freedom; false alarm: 1e-6, two of them."""
    delta = bytes([255 * bit]) * 16
    made = []
    for _ in range(40):
        with monkeypatch.context() as patched:
            patched.setattr(secrets, "token_bytes", lambda _: delta)
            sender = Sender(CONTEXT, 8)
        made.append(np.frombuffer(sender.points(new_point()), np.uint8)[::32])
    assert evenness(np.concatenate(made).tobytes()) > FALSE_ALARM


def test_the_test_of_evenness_can_fail() -> None:
    """It sees columns without one of both streams' noise, and points of a few scalars."""
    assert evenness(noise(128_000).tobytes()) > FALSE_ALARM
    assert evenness((noise(128_000) & noise(128_000)).tobytes()) < FALSE_ALARM
    few = np.frombuffer(b"".join(new_point() for _ in range(40)), np.uint8)[::32]
    assert evenness(np.tile(few, 128).tobytes()) < FALSE_ALARM


def test_everything_is_new_each_time_and_nothing_shows() -> None:
    first, second = (transferred(np.zeros(2, np.uint8)) for _ in range(2))
    assert all(np.asarray(a != b).any() for a, b in zip(first, second, strict=True))
    assert repr(Receiver(CONTEXT, 8)) == "Receiver()"
    assert repr(Sender(CONTEXT, 8)) == "Sender()"
