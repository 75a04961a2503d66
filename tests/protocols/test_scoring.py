"""Scores by two servers: exact, each alone sees noise, and whatever is no answer is told from one."""

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
from scipy.stats import chi2

from discreet.errors import ProtocolError, SettingError
from discreet.protocols.scoring import LIMIT, Scorer, Scoring, ScoringTerms
from discreet.protocols.two_servers import Answer, Question, longest

MATRIX = np.random.default_rng(3).integers(-32768, 32768, (9, 5)).astype(np.int16)
QUERY = np.array([3, -7, 0, 11, -2])
SCORER = Scorer(MATRIX)
VECTORS = json.loads((Path(__file__).parent / "vectors/scoring.json").read_text())
FALSE_ALARM = 1e-6


def asked(scorer: Scorer, scoring: Scoring) -> NDArray[np.int64]:
    first, second = scoring.questions
    return scoring.read((scorer.answer(first), scorer.answer(second)))


def test_another_product_is_used() -> None:
    """On the matrix as it was given; answers are the same."""
    seen = []

    def product(matrix: NDArray[np.int16], share: NDArray[np.uint32]) -> NDArray[np.uint32]:
        seen.append(matrix.dtype)
        return matrix.astype(np.uint32) @ share

    question = Scoring(SCORER.terms, QUERY).questions[0]
    assert Scorer(MATRIX, product).answer(question) == SCORER.answer(question)
    assert seen == [np.int16]


@given(data=st.data())
def test_scores_are_exact(data: st.DataObject) -> None:
    rows, width = data.draw(st.integers(1, 6)), data.draw(st.integers(1, 6))
    cells = st.lists(st.integers(-32768, 32767), min_size=rows * width, max_size=rows * width)
    matrix = np.array(data.draw(cells), np.int16).reshape(rows, width)
    query = np.array(data.draw(st.lists(st.integers(-(2**31), 2**31), min_size=width, max_size=width)))
    scorer = Scorer(matrix)
    if scorer.terms.fits(query):
        assert (asked(scorer, Scoring(scorer.terms, query)) == matrix.astype(np.int64) @ query).all()
    else:
        with pytest.raises(SettingError, match="might wrap"):
            Scoring(scorer.terms, query)


def test_the_largest_score_that_there_may_be_does_not_wrap() -> None:
    """A query along the longest row, as long as it may be; one step longer is refused."""
    for sign in (1, -1):
        scorer = Scorer(np.array([[1, 0]], np.int16))
        most = np.array([sign * (2**31 - 1), 0])
        assert asked(scorer, Scoring(scorer.terms, most)).tolist() == [sign * (2**31 - 1)]
        with pytest.raises(SettingError, match="might wrap"):
            Scoring(scorer.terms, np.array([sign * 2**31, 0]))
    assert asked(Scorer(np.zeros((2, 2), np.int16)), Scoring(Scorer(np.zeros((2, 2), np.int16)).terms, most)).any() == 0
    assert LIMIT == (2**31) ** 2


@pytest.mark.parametrize("query", [np.zeros(4, np.int64), np.zeros(5, np.int32), np.zeros((1, 5), np.int64)])
def test_other_queries_are_refused(query: Any) -> None:
    with pytest.raises(SettingError, match="5 int64 values"):
        Scoring(SCORER.terms, query)


@pytest.mark.parametrize("matrix", [MATRIX.astype(np.int32), MATRIX[0]])
def test_other_matrices_are_refused(matrix: Any) -> None:
    with pytest.raises(SettingError, match="int16 of two dimensions"):
        Scorer(matrix)


@pytest.mark.parametrize("changes", [{"table": b""}, {"rows": 0}, {"rows": 2**24 + 1}, {"width": 0}, {"width": 2**15}])
def test_terms_of_no_matrix_are_refused(changes: dict[str, Any]) -> None:
    assert ScoringTerms.from_bytes(SCORER.terms.to_bytes()) == SCORER.terms
    with pytest.raises(ProtocolError, match="a matrix has"):
        replace(SCORER.terms, **changes)
    with pytest.raises(ProtocolError, match="a matrix has"):
        Scorer(np.zeros((0, 5), np.int16))


def shares(seat: int, query: NDArray[np.int64], terms: ScoringTerms) -> NDArray[np.uint32]:
    """Return what a server sees of a query, in one of many exchanges."""
    part = Question.from_bytes(Scoring(terms, query).questions[seat]).parts[0]
    return np.frombuffer(part, "<u4")


def evenness(values: NDArray[np.uint32]) -> float:
    """Return the probability of cells at least as uneven, of the highest and of the lowest four bits."""
    cells = np.concatenate([np.bincount(values >> 28, minlength=16), np.bincount(values & 15, minlength=16)])
    expected = len(values) / 16
    return float(chi2.sf(((cells - expected) ** 2 / expected).sum(), 30))


@pytest.mark.parametrize("value", [0, 20_000])
@pytest.mark.parametrize("seat", [0, 1])
def test_what_each_server_sees_is_even_whatever_the_query(seat: int, value: int) -> None:
    """Chi-squared, 30 degrees of freedom; false alarm: 1e-6 each, four of them."""
    scorer = Scorer(np.ones((1, 10_000), np.int16))
    seen = np.concatenate([shares(seat, np.full(10_000, value), scorer.terms) for _ in range(4)])
    assert evenness(seen) > FALSE_ALARM


def test_the_test_of_evenness_can_fail() -> None:
    """It sees a query in the clear, a mask of 31 bits, and one whose lowest bit is set one time in twenty too often."""
    uniform = np.random.default_rng(0).integers(0, 2**32, 40_000, dtype=np.uint32)
    assert evenness(uniform) > FALSE_ALARM
    assert evenness(np.full(40_000, 20_000, np.uint32)) < FALSE_ALARM
    assert evenness(uniform >> np.uint32(1)) < FALSE_ALARM
    assert evenness(uniform | (uniform >> np.uint32(8)) % np.uint32(10) // np.uint32(9)) < FALSE_ALARM


def test_shares_are_new_each_time() -> None:
    first, second = (Question.from_bytes(Scoring(SCORER.terms, QUERY).questions[0]) for _ in range(2))
    assert first.parts != second.parts
    assert first.session != second.session


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector["name"])
def test_vectors(vector: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    scorer = Scorer(np.array(vector["matrix"], np.int16))
    assert scorer.terms.to_bytes().hex() == vector["terms"]
    drawn = iter([bytes.fromhex(vector["mask"]), bytes.fromhex(vector["session"])])
    monkeypatch.setattr(secrets, "token_bytes", lambda _: next(drawn))
    client = Scoring(scorer.terms, np.array(vector["query"]))
    assert [question.hex() for question in client.questions] == vector["questions"]
    answers = [scorer.answer(question) for question in client.questions]
    assert [answer.hex() for answer in answers] == vector["answers"]
    assert client.read((answers[0], answers[1])).tolist() == vector["scores"]


class TestQuestions:
    def test_lengths_are_known_before(self) -> None:
        question = Scoring(SCORER.terms, QUERY).questions[0]
        assert len(question) == SCORER.most == longest(1, 20)
        with pytest.raises(ProtocolError, match=f"at most {SCORER.most}"):
            SCORER.answer(question + b"\0")

    def test_every_truncation_is_refused(self) -> None:
        question = Scoring(SCORER.terms, QUERY).questions[0]
        for end in range(len(question)):
            with pytest.raises(ProtocolError):
                SCORER.answer(question[:end])

    @given(content=st.binary(max_size=150))
    def test_noise_is_refused(self, content: bytes) -> None:
        with pytest.raises(ProtocolError):
            SCORER.answer(content)

    @pytest.mark.parametrize(
        ("why", "changes"),
        [
            ("another table", {"terms": bytes(32)}),
            ("a session has 32 bytes", {"session": bytes(31)}),
            ("two servers", {"seat": 2}),
            ("parts of 20 bytes", {"parts": ()}),
            ("parts of 20 bytes", {"parts": (bytes(19),)}),
            ("parts of 20 bytes", {"parts": (bytes(7), bytes(7))}),
        ],
    )
    def test_wrong_fields_are_refused(self, why: str, changes: dict[str, Any]) -> None:
        question = Question.from_bytes(Scoring(SCORER.terms, QUERY).questions[0])
        with pytest.raises(ProtocolError, match=why):
            SCORER.answer(replace(question, **changes).to_bytes())

    def test_a_server_with_another_matrix_is_found_out(self) -> None:
        other = MATRIX.copy()
        other[8, 4] ^= 1
        with pytest.raises(ProtocolError, match="another table"):
            Scorer(other).answer(Scoring(SCORER.terms, QUERY).questions[1])

    def test_a_question_that_is_replayed_gets_the_same_answer(self) -> None:
        question = Scoring(SCORER.terms, QUERY).questions[0]
        assert SCORER.answer(question) == SCORER.answer(question)


class TestAnswers:
    def test_are_read_once(self) -> None:
        client = Scoring(SCORER.terms, QUERY)
        first, second = map(SCORER.answer, client.questions)
        client.read((first, second))
        with pytest.raises(ProtocolError, match="read once"):
            client.read((first, second))

    @pytest.mark.parametrize("seat", [0, 1])
    @pytest.mark.parametrize(
        ("why", "changes"),
        [
            ("another table", {"terms": bytes(32)}),
            ("another question", {"session": bytes(32)}),
            ("two servers", {"seat": 7}),
            ("parts of 36 bytes", {"parts": (bytes(35),)}),
        ],
    )
    def test_wrong_fields_are_refused_by_blame(self, seat: int, why: str, changes: dict[str, Any]) -> None:
        client = Scoring(SCORER.terms, QUERY)
        answers = [SCORER.answer(question) for question in client.questions]
        sound = answers[seat]
        answers[seat] = replace(Answer.from_bytes(sound), **changes).to_bytes()
        with pytest.raises(ProtocolError, match=why) as refused:
            client.read((answers[0], answers[1]))
        assert refused.value.blame == seat
        answers[seat] = sound
        assert (client.read((answers[0], answers[1])) == MATRIX.astype(int) @ QUERY).all()

    def test_of_one_server_twice_or_of_another_question_are_refused(self) -> None:
        client, earlier = Scoring(SCORER.terms, QUERY), Scoring(SCORER.terms, QUERY)
        first, second = map(SCORER.answer, client.questions)
        for pair, blame in (((first, first), 1), ((second, second), 0), ((second, first), 0)):
            with pytest.raises(ProtocolError, match="the other server") as refused:
                client.read(pair)
            assert refused.value.blame == blame
        with pytest.raises(ProtocolError, match="another question"):
            client.read((first, SCORER.answer(earlier.questions[1])))
        with pytest.raises(ProtocolError, match="kind Answer"):
            client.read((first, client.questions[1]))

    def test_too_long_or_truncated(self) -> None:
        client = Scoring(SCORER.terms, QUERY)
        first, second = map(SCORER.answer, client.questions)
        with pytest.raises(ProtocolError, match="at most"):
            client.read((first + b"\0", second))
        for end in range(len(second)):
            with pytest.raises(ProtocolError):
                client.read((first, second[:end]))


def test_nothing_shows_a_query() -> None:
    client = Scoring(SCORER.terms, QUERY)
    question = Question.from_bytes(client.questions[0])
    shown = (repr(client), repr(client._exchange), repr(question), repr(SCORER), repr(SCORER.terms))
    assert shown == ("Scoring()", "Exchange()", "Question()", "Scorer(9 rows)", "ScoringTerms()")
