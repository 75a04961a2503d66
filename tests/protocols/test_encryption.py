"""Scores for an encrypted query: what passes for a question, an answer, a key, whatever it is encrypted with.

The cryptosystem here is none: queries are hidden from nobody. The real one: tests/engines/test_seal.py.
"""

from __future__ import annotations

import json
import secrets
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from discreet.errors import ProtocolError, SettingError
from discreet.protocols import encryption
from discreet.protocols.encryption import (
    Blocks,
    Compute,
    EncryptedAnswer,
    EncryptedQuestion,
    Encryption,
    EncryptionTerms,
    EvaluationKey,
    Evaluator,
    Keyring,
    KeyWanted,
)


class Open:
    """What it computes is right, and in the clear."""

    name, slots, limit = "none 4", 4, 2**20
    key_size, query_size, block_size = 16, 5 * 8, 4 * 8

    def secret(self) -> OpenSecret:
        return OpenSecret()

    def compute(self, matrix: NDArray[np.int16]) -> Compute:
        def work(key: bytes, query: bytes) -> Blocks:
            scores = matrix.astype(np.int64) @ np.frombuffer(query, np.int64)[: matrix.shape[1]]
            padded = np.pad(scores, (0, -len(scores) % 4))
            return tuple(padded[start : start + 4].tobytes() for start in range(0, len(padded), 4))

        return work

    def memory(self, rows: int, width: int) -> int:
        return 2 * rows * width


class OpenSecret:
    def __init__(self) -> None:
        self.evaluation_key = secrets.token_bytes(16)

    def encrypt(self, query: NDArray[np.int64]) -> bytes:
        return np.pad(query, (0, 5 - len(query))).tobytes()

    def decrypt(self, block: bytes) -> NDArray[np.int64]:
        return np.frombuffer(block, np.int64)


SCHEME = Open()
MATRIX = np.random.default_rng(3).integers(-511, 512, (9, 5)).astype(np.int16)
QUERY = np.array([3, -7, 0, 11, -2])
VECTORS = json.loads((Path(__file__).parent / "vectors/encryption.json").read_text())


@pytest.fixture
def server() -> Evaluator:
    return Evaluator(MATRIX, SCHEME)


@pytest.fixture
def keys(server: Evaluator) -> Keyring:
    made = Keyring(server.terms, SCHEME)
    server.take(made.message)
    return made


@given(data=st.data())
def test_scores_are_exact(data: st.DataObject) -> None:
    rows, width = data.draw(st.integers(1, 9)), data.draw(st.integers(1, 5))
    cells = st.lists(st.integers(-511, 511), min_size=rows * width, max_size=rows * width)
    matrix = np.array(data.draw(cells), np.int16).reshape(rows, width)
    query = np.array(data.draw(st.lists(st.integers(-(2**20), 2**20), min_size=width, max_size=width)))
    server = Evaluator(matrix, SCHEME)
    keys = Keyring(server.terms, SCHEME)
    server.take(keys.message)
    if server.terms.fits(query, SCHEME.limit):
        asked = Encryption(keys, query)
        scores = asked.read(server.answer(asked.question))
        assert (scores == matrix.astype(np.int64) @ query).all()
        assert np.abs(scores).max() < SCHEME.limit
    else:
        with pytest.raises(SettingError, match="might wrap"):
            Encryption(keys, query)


@pytest.mark.parametrize("query", [np.zeros(4, np.int64), np.zeros(5, np.int32), np.zeros((1, 5), np.int64)])
def test_other_queries_are_refused(query: Any, keys: Keyring) -> None:
    with pytest.raises(SettingError, match="5 int64 values"):
        Encryption(keys, query)


@pytest.mark.parametrize("matrix", [MATRIX.astype(np.int32), MATRIX[0]])
def test_other_matrices_are_refused(matrix: Any) -> None:
    with pytest.raises(SettingError, match="int16 of two dimensions"):
        Evaluator(matrix, SCHEME)


@pytest.mark.parametrize("shape", [(0, 5), (5, 0), (1, 257)])
def test_matrices_out_of_range_are_refused(shape: tuple[int, int]) -> None:
    with pytest.raises(ProtocolError, match="1 to 256 columns"):
        Evaluator(np.zeros(shape, np.int16), SCHEME)


@pytest.mark.parametrize("changes", [{"scheme": b""}, {"scheme": b"x" * 101}, {"scheme": b"\xff"}, {"table": b""}])
def test_terms_that_are_none(changes: dict[str, Any], server: Evaluator) -> None:
    assert EncryptionTerms.from_bytes(server.terms.to_bytes()) == server.terms
    with pytest.raises(ProtocolError):
        replace(server.terms, **changes)


def test_another_cryptosystem_is_found_out(server: Evaluator) -> None:
    with pytest.raises(ProtocolError, match="encrypts otherwise than here, with none 4"):
        Keyring(replace(server.terms, scheme=b"none 5"), SCHEME)


def test_sessions_are_new_each_time(keys: Keyring) -> None:
    first, second = (EncryptedQuestion.from_bytes(Encryption(keys, QUERY).question) for _ in range(2))
    assert first.session != second.session
    assert first.key == second.key == keys.digest


def test_nothing_shows_what_it_holds(server: Evaluator, keys: Keyring) -> None:
    assert [repr(each) for each in (keys, Encryption(keys, QUERY), server)] == [
        "Keyring()",
        "Encryption()",
        "Evaluator(9 rows)",
    ]


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector["name"])
def test_vectors(vector: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = iter([bytes.fromhex(vector["key"]), bytes.fromhex(vector["session"])])
    monkeypatch.setattr(secrets, "token_bytes", lambda _: next(drawn))
    server = Evaluator(np.array(vector["matrix"], np.int16), SCHEME)
    keys = Keyring(server.terms, SCHEME)
    server.take(keys.message)
    asked = Encryption(keys, np.array(vector["query"]))
    answer = server.answer(asked.question)
    told = {"terms": server.terms.to_bytes(), "message": keys.message, "question": asked.question, "answer": answer}
    assert {name: content.hex() for name, content in told.items()} == {name: vector[name] for name in told}
    assert asked.read(answer).tolist() == vector["scores"]


class TestKeys:
    def test_are_wanted_before_an_answer_and_after_they_were_forgotten(
        self, server: Evaluator, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The one that was not used for longest goes first."""
        monkeypatch.setattr(encryption, "KEYS_HELD", 2)
        first, second, third = (Keyring(server.terms, SCHEME) for _ in range(3))
        asked = Encryption(first, QUERY)
        with pytest.raises(KeyWanted, match="send it, then the question again"):
            server.answer(asked.question)
        server.take(first.message)
        server.take(second.message)
        server.answer(asked.question)  # so that the second is the one to go
        server.take(third.message)
        asked.read(server.answer(asked.question))
        server.answer(Encryption(third, QUERY).question)
        with pytest.raises(KeyWanted):
            server.answer(Encryption(second, QUERY).question)

    def test_of_other_lengths_or_matrices_are_refused(self, server: Evaluator, keys: Keyring) -> None:
        assert len(keys.message) == server.most_of_key
        with pytest.raises(ProtocolError, match=f"at most {server.most_of_key}"):
            server.take(keys.message + b"\0")
        with pytest.raises(ProtocolError, match="16 bytes"):
            server.take(EvaluationKey(server.terms.digest, bytes(15)).to_bytes())
        with pytest.raises(ProtocolError, match="another table"):
            server.take(EvaluationKey(bytes(32), bytes(16)).to_bytes())
        for end in range(len(keys.message)):
            with pytest.raises(ProtocolError):
                server.take(keys.message[:end])


class TestQuestions:
    def test_lengths_are_known_before(self, server: Evaluator, keys: Keyring) -> None:
        question = Encryption(keys, QUERY).question
        assert len(question) == server.most
        with pytest.raises(ProtocolError, match=f"at most {server.most}"):
            server.answer(question + b"\0")
        for end in range(len(question)):
            with pytest.raises(ProtocolError):
                server.answer(question[:end])

    @given(content=st.binary(max_size=150))
    def test_noise_is_refused(self, content: bytes) -> None:
        with pytest.raises(ProtocolError):
            Evaluator(MATRIX, SCHEME).answer(content)

    @pytest.mark.parametrize(
        ("why", "changes"),
        [
            ("another table", {"terms": bytes(32)}),
            ("a session has 32 bytes", {"session": bytes(31)}),
            ("an encrypted query 40", {"query": bytes(39)}),
            ("key is not held", {"key": bytes(32)}),
        ],
    )
    def test_wrong_fields_are_refused(
        self, why: str, changes: dict[str, Any], server: Evaluator, keys: Keyring
    ) -> None:
        question = EncryptedQuestion.from_bytes(Encryption(keys, QUERY).question)
        with pytest.raises(ProtocolError, match=why):
            server.answer(replace(question, **changes).to_bytes())


class TestAnswers:
    def test_are_read_once(self, server: Evaluator, keys: Keyring) -> None:
        asked = Encryption(keys, QUERY)
        answer = server.answer(asked.question)
        asked.read(answer)
        with pytest.raises(ProtocolError, match="read once"):
            asked.read(answer)

    @pytest.mark.parametrize(
        ("why", "changes"),
        [
            ("another question", {"terms": bytes(32)}),
            ("another question", {"session": bytes(32)}),
            ("3 blocks of 32 bytes", {"blocks": (bytes(32),) * 2}),
            ("3 blocks of 32 bytes", {"blocks": (bytes(32), bytes(32), bytes(31))}),
        ],
    )
    def test_wrong_ones_are_refused_and_the_right_one_still_read(
        self, why: str, changes: dict[str, Any], server: Evaluator, keys: Keyring
    ) -> None:
        asked = Encryption(keys, QUERY)
        answer = server.answer(asked.question)
        with pytest.raises(ProtocolError, match=why):
            asked.read(replace(EncryptedAnswer.from_bytes(answer), **changes).to_bytes())
        assert (asked.read(answer) == MATRIX.astype(np.int64) @ QUERY).all()

    def test_longer_and_shorter_ones_are_refused(self, server: Evaluator, keys: Keyring) -> None:
        asked = Encryption(keys, QUERY)
        answer = server.answer(asked.question)
        with pytest.raises(ProtocolError, match="at most"):
            asked.read(answer + b"\0")
        for end in range(len(answer)):
            with pytest.raises(ProtocolError):
                asked.read(answer[:end])
