"""Queries encrypted by SEAL: scores are exact, also at the limits of noise; nothing a stranger sends does harm."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.stats import chi2

from discreet.errors import EngineLost, ProtocolError, SettingError
from discreet.protocols.encryption import EncryptedQuestion, Encryption, EvaluationKey, Evaluator, Keyring

seal_python = pytest.importorskip("seal", reason="needs seal-python: pip install 'discreet[encrypted]'")

from discreet.engines import seal  # noqa: E402 - after it is known that there is one

SCHEME = seal.Seal()
FALSE_ALARM = 1e-6


def longest_query(server: Evaluator, along: NDArray[Any]) -> NDArray[np.int64]:
    """Return the longest query along a direction that is not refused."""
    length = (SCHEME.limit - 1) / np.sqrt(server.terms.longest)
    query: NDArray[np.int64] = np.trunc(along / np.linalg.norm(along) * length).astype(np.int64)
    return query


def asked(server: Evaluator, keys: Keyring, query: NDArray[np.int64]) -> NDArray[np.int64]:
    encryption = Encryption(keys, query)
    return encryption.read(server.answer(encryption.question))


def ready(matrix: NDArray[np.int16]) -> tuple[Evaluator, Keyring]:
    server = Evaluator(matrix, SCHEME)
    keys = Keyring(server.terms, SCHEME)
    server.take(keys.message)
    return server, keys


@settings(max_examples=20, deadline=None)
@given(data=st.data(), width=st.integers(1, 70), rows=st.integers(1, 50))
def test_scores_are_exact(data: st.DataObject, width: int, rows: int) -> None:
    random = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    matrix = random.integers(-511, 512, (rows, width)).astype(np.int16)
    if not matrix.any():
        matrix[0, 0] = 1
    server, keys = ready(matrix)
    query = longest_query(server, random.normal(size=width) + 1e-9)
    assert (asked(server, keys, query) == matrix.astype(np.int64) @ query).all()


@pytest.mark.parametrize("width", [64, 256])
@pytest.mark.parametrize("fill", [511, 32767, None])
def test_the_noise_of_the_longest_sums_leaves_scores_exact(width: int, fill: int | None) -> None:
    """Noise does not depend on what is computed; matrices of one number, and at random, over two blocks, ten keys."""
    random = np.random.default_rng(0)
    matrix = random.choice([-511, 511], (4200, width)) if fill is None else np.full((4200, width), fill)
    server = Evaluator(matrix.astype(np.int16), SCHEME)
    for _ in range(10):
        keys = Keyring(server.terms, SCHEME)
        server.take(keys.message)
        query = longest_query(server, random.choice([-1, 1], width))
        assert (asked(server, keys, query) == matrix @ query).all()


def test_zeros_give_zeros() -> None:
    server, keys = ready(np.eye(3, dtype=np.int16))
    assert asked(server, keys, np.zeros(3, np.int64)).tolist() == [0, 0, 0]
    with pytest.raises(SettingError, match="scores are all 0"):
        Evaluator(np.zeros((3, 3), np.int16), SCHEME)


def test_without_the_binding_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(seal, "find_spec", lambda _: None)
    with pytest.raises(SettingError, match="not installed"):
        seal.Seal()


def test_a_version_that_writes_otherwise_is_found_out() -> None:
    wire = SCHEME._wire
    with pytest.raises(SettingError, match="writes otherwise"):
        wire.query.packed(b"\0" + wire.query.content[1:])


def test_parameters_have_128_bits() -> None:
    """SEAL's own table: it refuses a larger modulus at this degree."""
    context = SCHEME._wire.context
    assert context.parameters_set()
    assert context.key_context_data().total_coeff_modulus_bit_count() == sum(seal.MODULUS_BITS) == 109
    parameters = seal_python.EncryptionParameters(seal_python.scheme_type.bfv)
    parameters.set_poly_modulus_degree(seal.DEGREE)
    parameters.set_coeff_modulus(seal_python.CoeffModulus.Create(seal.DEGREE, [36, 37, 37]))
    parameters.set_plain_modulus(seal_python.PlainModulus.Batching(seal.DEGREE, seal.PLAIN_BITS))
    assert not seal_python.SEALContext(parameters).parameters_set()


def test_the_right_keys_read_it_and_others_do_not() -> None:
    matrix = np.random.default_rng(1).integers(-511, 512, (300, 8)).astype(np.int16)
    server, keys = ready(matrix)
    query = longest_query(server, np.arange(1, 9))
    encryption = Encryption(keys, query)
    answer = server.answer(encryption.question)
    encryption._keys = Keyring(server.terms, SCHEME)
    scores = encryption.read(answer)
    assert (scores == matrix.astype(np.int64) @ query).mean() < 0.01


def evenness(ciphertext: bytes) -> float:
    """Return the probability of bits 24 to 31 of coefficients at least as uneven."""
    cells = np.bincount(np.frombuffer(ciphertext, np.uint8, 4 * 4 * seal.DEGREE)[3::4], minlength=256)
    expected = cells.sum() / 256
    return float(chi2.sf(((cells - expected) ** 2 / expected).sum(), 255))


@pytest.mark.parametrize("value", [0, 100])
def test_a_query_looks_even_whatever_it_is(value: int) -> None:
    """Chi-squared, 255 degrees of freedom; false alarm: 1e-6, two of them. It sees zeros, and a bit of 32 lost."""
    secret = SCHEME.secret()
    query = secret.encrypt(np.full(64, value))
    assert evenness(query) > FALSE_ALARM
    assert query != secret.encrypt(np.full(64, value))
    assert evenness(bytes(len(query))) < FALSE_ALARM
    spoilt = np.frombuffer(query, "<u4", 4 * seal.DEGREE) & np.uint32(0x7FFFFFFF)
    assert evenness(spoilt.astype("<u4").tobytes()) < FALSE_ALARM


class TestStrangers:
    MATRIX = np.random.default_rng(2).integers(-511, 512, (50, 4)).astype(np.int16)

    @pytest.mark.parametrize("content", [b"\xff", b"\0"], ids=["beyond the modulus", "zeros"])
    def test_numbers_that_are_no_query_are_refused(self, content: bytes) -> None:
        server, keys = ready(self.MATRIX)
        question = EncryptedQuestion.from_bytes(Encryption(keys, np.ones(4, np.int64)).question)
        with pytest.raises(ProtocolError, match="no ciphertext"):
            server.answer(replace(question, query=content * SCHEME.query_size).to_bytes())

    def test_numbers_that_are_no_key(self) -> None:
        server, keys = ready(self.MATRIX)
        question = EncryptedQuestion.from_bytes(Encryption(keys, np.ones(4, np.int64)).question)
        spoilt = EvaluationKey(server.terms.digest, b"\xff" * SCHEME.key_size)
        server.take(spoilt.to_bytes())
        with pytest.raises(ProtocolError, match="no ciphertext"):
            server.answer(replace(question, key=spoilt.digest).to_bytes())

    @settings(max_examples=15, deadline=None)
    @given(noise=st.binary(min_size=32, max_size=32).filter(any))
    def test_any_numbers_below_the_moduli_get_an_answer_of_the_same_length(self, noise: bytes) -> None:
        """Whoever makes them up gets nonsense, and the server lives."""
        server, keys = ready(self.MATRIX)
        encryption = Encryption(keys, np.ones(4, np.int64))
        answer = server.answer(encryption.question)
        question = EncryptedQuestion.from_bytes(encryption.question)
        drawn = np.frombuffer(noise * (SCHEME.query_size // 5 // 8), "<u4")
        made_up = drawn.tobytes() + bytes(SCHEME.query_size - 4 * len(drawn))
        assert len(server.answer(replace(question, query=made_up).to_bytes())) == len(answer)

    def test_a_lying_server_is_read_as_some_scores(self) -> None:
        """What it sends is decrypted whatever it is, so that nothing that follows tells it how."""
        server, keys = ready(self.MATRIX)
        encryption = Encryption(keys, np.ones(4, np.int64))
        content = server.answer(encryption.question)
        spoilt = encryption.read(content[: -SCHEME.block_size] + os.urandom(SCHEME.block_size))
        assert spoilt.shape == (50,)


AFAR = np.random.default_rng(3).integers(-511, 512, (50, 4)).astype(np.int16)


@pytest.fixture(scope="module")
def workers() -> Iterator[seal.Workers]:
    with seal.Workers(2) as workers:
        yield workers


@pytest.fixture(scope="module")
def server(workers: seal.Workers) -> Evaluator:
    return Evaluator(AFAR, seal.Seal(workers))


class TestWorkers:
    QUERY = np.array([1, -2, 3, 4])

    def test_two_at_once_each_get_their_own(self, server: Evaluator) -> None:
        found: dict[int, NDArray[np.int64]] = {}

        def ask(factor: int) -> None:
            keys = Keyring(server.terms, SCHEME)
            server.take(keys.message)
            found[factor] = asked(server, keys, factor * self.QUERY)

        threads = [threading.Thread(target=ask, args=(factor,)) for factor in (1, 2, 3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        for factor in (1, 2, 3):
            assert (found[factor] == AFAR.astype(np.int64) @ (factor * self.QUERY)).all()

    def test_what_is_no_ciphertext_is_refused_from_afar(self, server: Evaluator) -> None:
        keys = Keyring(server.terms, SCHEME)
        server.take(keys.message)
        question = EncryptedQuestion.from_bytes(Encryption(keys, self.QUERY).question)
        with pytest.raises(ProtocolError, match="no ciphertext"):
            server.answer(replace(question, query=b"\xff" * SCHEME.query_size).to_bytes())

    def test_one_that_is_killed_is_replaced(self, server: Evaluator, workers: seal.Workers) -> None:
        keys = Keyring(server.terms, SCHEME)
        server.take(keys.message)
        assert workers._pool is not None
        for process in list((workers._pool._processes or {}).values()):
            with contextlib.suppress(ProcessLookupError):  # the pool ends the others as soon as it misses one
                os.kill(process.pid or 0, signal.SIGKILL)
            process.join(10)
        with pytest.raises(EngineLost, match="ask again"):
            asked(server, keys, self.QUERY)
        assert (asked(server, keys, self.QUERY) == AFAR.astype(np.int64) @ self.QUERY).all()

    def test_one_that_is_too_slow_is_given_up(self) -> None:
        with seal.Workers(1, deadline=60.0) as workers:
            server = Evaluator(AFAR, seal.Seal(workers))
            keys = Keyring(server.terms, SCHEME)
            server.take(keys.message)
            assert workers._pool is not None
            (process,) = (workers._pool._processes or {}).values()
            os.kill(process.pid or 0, signal.SIGSTOP)
            workers._deadline = 0.5
            with pytest.raises(EngineLost, match="too slow"):
                asked(server, keys, self.QUERY)
            process.join(10)
            assert process.exitcode == -signal.SIGKILL

    @pytest.mark.parametrize("settings", [(0, 1.0), (1, 0.0)])
    def test_settings_out_of_range(self, settings: tuple[int, float]) -> None:
        with pytest.raises(SettingError):
            seal.Workers(*settings)
