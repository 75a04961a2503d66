"""Garbled gates: right by the book, and whoever evaluates sees noise."""

from __future__ import annotations

import json
import secrets
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from evenness import FALSE_ALARM, evenness
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from discreet.errors import ProtocolError
from discreet.protocols import garbling
from discreet.protocols.circuits import chosen, gates_of
from discreet.protocols.garbling import Evaluation, Garbling, Hash, Labels, colours, garbled_bytes, times

VECTORS = json.loads((Path(__file__).parent / "vectors/garbling.json").read_text())


def drawn(*shape: int) -> Labels:
    size = int(np.prod(shape))
    return np.frombuffer(secrets.token_bytes(16 * size), "<u8").reshape(*shape, 2)


def new_delta() -> Labels:
    delta: Labels = drawn(1)[0] | np.array([1, 0], "<u8")
    return delta


def moved(labels: Labels, bits: NDArray[Any], delta: Labels) -> Labels:
    return labels ^ times(bits, np.stack([np.zeros_like(delta), delta]))


def wires(values: NDArray[np.int64], bits: int) -> NDArray[np.bool_]:
    return (values[None] >> np.arange(bits)[:, None] & 1).astype(bool)


class Book:
    """Half gates as in the paper (figure 2), one at a time, on Python's integers."""

    def __init__(self, key: bytes, delta: int) -> None:
        self._cipher, self.delta = Cipher(algorithms.AES(key), modes.ECB()), delta  # noqa: S305

    def permuted(self, block: int) -> int:
        encryptor = self._cipher.encryptor()
        return int.from_bytes(encryptor.update(block.to_bytes(16, "little")) + encryptor.finalize(), "little")

    def hashed(self, label: int, tweak: int) -> int:
        once = self.permuted(label)
        return self.permuted(once ^ tweak) ^ once

    def garbled(self, a: int, b: int, number: int) -> tuple[int, int, int]:
        j, k = 2 * number, 2 * number + 1
        of_a, of_b = a & 1, b & 1
        first = self.hashed(a, j) ^ self.hashed(a ^ self.delta, j) ^ of_b * self.delta
        made = self.hashed(a, j) ^ of_a * first
        second = self.hashed(b, k) ^ self.hashed(b ^ self.delta, k) ^ a
        return first, second, made ^ self.hashed(b, k) ^ of_b * (second ^ a)

    def evaluated(self, a: int, b: int, first: int, second: int, number: int) -> int:
        half = self.hashed(a, 2 * number) ^ (a & 1) * first
        return half ^ self.hashed(b, 2 * number + 1) ^ (b & 1) * (second ^ a)


def integers(labels: Labels) -> list[int]:
    return [int(low) | int(high) << 64 for low, high in labels.reshape(-1, 2)]


class TestHash:
    def test_is_aes_of_the_standard(self) -> None:
        """FIPS 197, appendix C.1: once for the block, and once more for what the tweak makes of it."""
        key, block = bytes(range(16)), bytes.fromhex("00112233445566778899aabbccddeeff")
        once = bytes.fromhex("69c4e0d86a7b0430d8cdb78070b4c55a")
        made = Hash(key)(np.frombuffer(block, "<u8"), np.array(258, np.uint64))
        tweaked = bytes([once[0] ^ 2, once[1] ^ 1]) + once[2:]
        encryptor = Cipher(algorithms.AES(key), modes.ECB()).encryptor()  # noqa: S305
        assert made.tobytes() == bytes(a ^ b for a, b in zip(encryptor.update(tweaked), once, strict=True))

    def test_tweaks_are_broadcast(self) -> None:
        labels, hashed = drawn(3, 4), Hash(bytes(16))
        made = hashed(labels, np.arange(4, dtype=np.uint64))
        for row, column in np.ndindex(3, 4):
            assert (made[row, column] == hashed(labels[row, column], np.array(column, np.uint64))).all()


@pytest.mark.parametrize("size", [1, 7, 9])
def test_gates_are_those_of_the_book(size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tables, labels for 0, and what is evaluated of them, for all four inputs; chunks are cut within."""
    monkeypatch.setattr(garbling, "CHUNK", 4)
    delta, x, y = new_delta(), drawn(size), drawn(size)
    garbler = Garbling(delta, size)
    made, content = garbler.both(x, y), garbler.content
    book = Book(content[:16], integers(delta)[0])
    tables = np.frombuffer(content[16:], "<u8").reshape(2, size, 2)
    firsts, seconds = integers(tables[0]), integers(tables[1])
    for number, (a, b) in enumerate(zip(integers(x), integers(y), strict=True)):
        assert book.garbled(a, b, number) == (firsts[number], seconds[number], integers(made)[number])
    for bits in np.ndindex(2, 2):
        of_x, of_y = (np.full(size, bit) for bit in bits)
        held = moved(x, of_x, delta), moved(y, of_y, delta)
        evaluated = Evaluation(content, size).both(*held)
        assert (evaluated == moved(made, of_x & of_y, delta)).all()
        for number, (a, b) in enumerate(zip(*map(integers, held), strict=True)):
            found = book.evaluated(a, b, firsts[number], seconds[number], number)
            assert found == integers(evaluated)[number]


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector["name"])
def test_vectors(vector: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """One sum and selection, garbled with a known key: content and labels are what they were."""
    monkeypatch.setattr(secrets, "token_bytes", lambda _: bytes.fromhex(vector["key"]))
    delta = np.frombuffer(bytes.fromhex(vector["delta"]), "<u8")
    shape = (vector["bits"], vector["rows"], 2)
    x, y = (np.frombuffer(bytes.fromhex(vector[name]), "<u8").reshape(shape) for name in ("x", "y"))
    gates = gates_of(*shape[:2], vector["count"])
    garbler = Garbling(delta, gates)
    made = chosen(garbler, x, y, vector["count"])
    assert garbler.content.hex() == vector["content"]
    assert made.tobytes().hex() == vector["made"]
    first, second = np.array(vector["first"]), np.array(vector["second"])
    held = moved(x, wires(first, shape[0]), delta), moved(y, wires(second, shape[0]), delta)
    evaluated = chosen(Evaluation(garbler.content, gates), *held, vector["count"])
    assert evaluated.tobytes().hex() == vector["evaluated"]
    bits = colours(made) ^ colours(evaluated)
    assert ((1 << np.arange(len(bits))) @ bits).tolist() == vector["positions"]


@given(data=st.data())
def test_a_circuit_says_what_it_says_in_the_clear(data: st.DataObject) -> None:
    rows = data.draw(st.integers(1, 20))
    count = data.draw(st.integers(1, rows))
    scores = np.array(data.draw(st.lists(st.integers(-9, 9), min_size=rows, max_size=rows)))
    first = np.array(data.draw(st.lists(st.integers(0, 255), min_size=rows, max_size=rows)))
    delta, x, y, gates = new_delta(), drawn(8, rows), drawn(8, rows), gates_of(8, rows, count)
    garbler = Garbling(delta, gates)
    made = chosen(garbler, x, y, count)
    held = moved(x, wires(first, 8), delta), moved(y, wires(scores - first, 8), delta)
    evaluated = chosen(Evaluation(garbler.content, gates), *held, count)
    bits = colours(made) ^ colours(evaluated)
    assert (evaluated == moved(made, bits, delta)).all()
    assert ((1 << np.arange(len(bits))) @ bits).tolist() == np.argsort(-scores, kind="stable")[:count].tolist()


@pytest.mark.parametrize("change", [-1, 1])
def test_another_size_is_refused(change: int) -> None:
    with pytest.raises(ProtocolError, match="a garbled circuit has 336 bytes"):
        Evaluation(bytes(garbled_bytes(10) + change), 10)


def test_wrong_labels_and_tables_give_nonsense_and_no_error() -> None:
    """A bit of a label, or all of the tables: nothing that comes out is a label of the wire."""
    delta, x, y = new_delta(), drawn(8), drawn(8)
    garbler = Garbling(delta, 8)
    made, content = garbler.both(x, y), garbler.content
    wrong = Evaluation(content, 8).both(x ^ np.array([0, 1], "<u8"), y)
    spoilt = Evaluation(content[:16] + bytes(256), 8).both(x | np.array([1, 0], "<u8"), y | np.array([1, 0], "<u8"))
    for labels in (wrong, spoilt):
        assert not ((labels == made) | (labels == made ^ delta)).all(axis=-1).any()


@pytest.mark.parametrize("bit", [0, 1])
def test_what_the_evaluator_sees_is_even_whatever_the_bits(bit: int) -> None:
    """Tables, labels that come out, and their colours. Chi-squared; false alarm: 1e-6 each, six of them."""
    delta, x, y = new_delta(), drawn(20_000), drawn(20_000)
    garbler = Garbling(delta, 20_000)
    garbler.both(x, y)
    bits = np.full(20_000, bit)
    made = Evaluation(garbler.content, 20_000).both(moved(x, bits, delta), moved(y, bits, delta))
    assert evenness(garbler.content[16:]) > FALSE_ALARM
    assert evenness(made.tobytes()) > FALSE_ALARM
    assert evenness(np.packbits(colours(made)).tobytes()) > FALSE_ALARM


def test_the_test_of_evenness_can_fail() -> None:
    """It sees labels under one delta of zeros, and bytes whose lowest bit is set one time in twenty too often."""
    delta, x, y = np.array([1, 0], "<u8"), drawn(20_000), drawn(20_000)
    assert evenness(x.tobytes()) > FALSE_ALARM
    assert evenness((x ^ moved(x, colours(y), delta)).tobytes()) < FALSE_ALARM
    noise = np.frombuffer(secrets.token_bytes(640_000), np.uint8)
    often = np.frombuffer(secrets.token_bytes(640_000), np.uint8) < 26
    assert evenness((noise | often).tobytes()) < FALSE_ALARM


def test_keys_are_new_each_time_and_nothing_shows() -> None:
    first, second = (Garbling(new_delta(), 1) for _ in range(2))
    assert first.content[:16] != second.content[:16]
    assert repr(first) == "Garbling()"
    assert repr(Evaluation(first.content, 1)) == "Evaluation()"
