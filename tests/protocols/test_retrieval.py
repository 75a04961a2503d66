"""Records fetched from two servers: the right ones, each server alone sees noise, and tables that differ are told."""

from __future__ import annotations

import json
import os
import secrets
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom

from discreet.errors import ProtocolError, SettingError
from discreet.protocols.retrieval import MOST_AT_ONCE, Retrieval, RetrievalTerms, Retriever
from discreet.protocols.two_servers import Answer, Question

RECORDS = [os.urandom(11) for _ in range(21)]
RETRIEVER = Retriever(RECORDS)
VECTORS = json.loads((Path(__file__).parent / "vectors/retrieval.json").read_text())
FALSE_ALARM = 1e-6


def fetched(retriever: Retriever, client: Retrieval) -> list[bytes]:
    first, second = client.questions
    return list(client.read((retriever.answer(first), retriever.answer(second))))


@given(data=st.data())
def test_records_come_as_they_are(data: st.DataObject) -> None:
    count, size = data.draw(st.integers(1, 40)), data.draw(st.integers(1, 20))
    records = data.draw(st.lists(st.binary(min_size=size, max_size=size), min_size=count, max_size=count))
    wanted = data.draw(st.lists(st.integers(0, count - 1), min_size=1, max_size=MOST_AT_ONCE))
    retriever = Retriever(records)
    assert fetched(retriever, Retrieval(retriever.terms, wanted)) == [records[position] for position in wanted]


@pytest.mark.parametrize("positions", [[], [0] * 65])
def test_none_or_too_many_are_refused(positions: list[int]) -> None:
    with pytest.raises(SettingError, match="1 to 64 records"):
        Retrieval(RETRIEVER.terms, positions)


@pytest.mark.parametrize("position", [-1, 21])
def test_a_record_that_is_not_there_is_refused(position: int) -> None:
    with pytest.raises(SettingError, match="out of the table of 21"):
        Retrieval(RETRIEVER.terms, [0, position])


def test_other_tables_are_refused() -> None:
    with pytest.raises(SettingError, match="one size"):
        Retriever([b"a", b"bc"])
    with pytest.raises(ProtocolError, match="a table has"):
        Retriever([])


@pytest.mark.parametrize(
    "changes", [{"table": b""}, {"records": 0}, {"records": 2**24 + 1}, {"size": 0}, {"size": 2**17}]
)
def test_terms_of_no_table_are_refused(changes: dict[str, Any]) -> None:
    assert RetrievalTerms.from_bytes(RETRIEVER.terms.to_bytes()) == RETRIEVER.terms
    with pytest.raises(ProtocolError, match="a table has"):
        replace(RETRIEVER.terms, **changes)


def drawn(seat: int, position: int, times: int) -> np.ndarray[Any, Any]:
    """Return how often each record was in the set that a server saw."""
    counts = np.zeros(21, int)
    for _ in range(times):
        part = Question.from_bytes(Retrieval(RETRIEVER.terms, [position]).questions[seat]).parts[0]
        counts += np.unpackbits(np.frombuffer(part, np.uint8), count=21, bitorder="little")
    return counts


def oddness(counts: np.ndarray[Any, Any], times: int) -> float:
    """Return the probability of a count at least as far from a half, by Bonferroni over the records."""
    far = np.abs(counts - times / 2).max()
    return float(2 * len(counts) * binom.sf(times / 2 + far - 1, times, 0.5))


@pytest.mark.parametrize("position", [0, 13])
@pytest.mark.parametrize("seat", [0, 1])
def test_each_record_is_in_half_of_the_sets_whatever_is_wanted(seat: int, position: int) -> None:
    """Binomial, two-sided, over 21 records; false alarm: 1e-6 each, four of them."""
    assert oddness(drawn(seat, position, 3_000), 3_000) > FALSE_ALARM


def test_the_test_of_sets_can_fail() -> None:
    """It sees the wanted record always in, never in, and in six of ten sets."""
    even = np.full(21, 1_500)
    assert oddness(even, 3_000) > FALSE_ALARM
    for often in (3_000, 0, 1_800):
        counts = even.copy()
        counts[13] = often
        assert oddness(counts, 3_000) < FALSE_ALARM


def test_both_sets_differ_by_the_record_alone() -> None:
    first, second = (Question.from_bytes(each).parts for each in Retrieval(RETRIEVER.terms, [3, 20]).questions)
    for one, other, position in zip(first, second, (3, 20), strict=True):
        assert int.from_bytes(one, "little") ^ int.from_bytes(other, "little") == 1 << position
    assert first[0] != first[1]


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector["name"])
def test_vectors(vector: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    retriever = Retriever([bytes.fromhex(record) for record in vector["records"]])
    assert retriever.terms.to_bytes().hex() == vector["terms"]
    tokens = iter([bytes.fromhex(each) for each in [*vector["sets"], vector["session"]]])
    monkeypatch.setattr(secrets, "token_bytes", lambda _: next(tokens))
    client = Retrieval(retriever.terms, vector["positions"])
    assert [question.hex() for question in client.questions] == vector["questions"]
    answers = [retriever.answer(question) for question in client.questions]
    assert [answer.hex() for answer in answers] == vector["answers"]
    wanted = [vector["records"][position] for position in vector["positions"]]
    assert [record.hex() for record in client.read((answers[0], answers[1]))] == wanted


def test_a_server_with_another_table_is_found_out() -> None:
    """Another record, another order, another cut of the same bytes."""
    question = Retrieval(RETRIEVER.terms, [3]).questions[0]
    whole = b"".join(RECORDS)
    cut = [whole[start : start + 7] for start in range(0, len(whole), 7)]
    for records in ([*RECORDS[:-1], bytes(11)], RECORDS[::-1], cut):
        with pytest.raises(ProtocolError, match=r"another table|at most|parts of"):
            Retriever(records).answer(question)


def test_questions_that_are_none_are_refused() -> None:
    question = Retrieval(RETRIEVER.terms, [3, 4]).questions[0]
    for end in range(len(question)):
        with pytest.raises(ProtocolError):
            RETRIEVER.answer(question[:end])
    with pytest.raises(ProtocolError, match=f"at most {RETRIEVER.most}"):
        RETRIEVER.answer(question + bytes(RETRIEVER.most))
    many = replace(Question.from_bytes(question), parts=(bytes(3),) * 65)
    with pytest.raises(ProtocolError, match="at most"):
        RETRIEVER.answer(many.to_bytes())


def test_answers_that_are_none_are_refused_by_blame() -> None:
    client, earlier = Retrieval(RETRIEVER.terms, [3, 4]), Retrieval(RETRIEVER.terms, [3, 4])
    first, second = map(RETRIEVER.answer, client.questions)
    for wrong in (
        replace(Answer.from_bytes(second), parts=(bytes(11),)).to_bytes(),
        RETRIEVER.answer(earlier.questions[1]),
        first,
        second[:-1],
        second + b"\0",
    ):
        with pytest.raises(ProtocolError) as refused:
            client.read((first, wrong))
        assert refused.value.blame == 1
    assert client.read((first, second)) == (RECORDS[3], RECORDS[4])
    with pytest.raises(ProtocolError, match="read once"):
        client.read((first, second))


def test_spoilt_records_are_read_as_they_are() -> None:
    """Or a server that spoils one would learn from the complaint whether it was read."""
    client = Retrieval(RETRIEVER.terms, [3])
    first, second = map(RETRIEVER.answer, client.questions)
    spoilt = replace(Answer.from_bytes(second), parts=(os.urandom(11),)).to_bytes()
    assert len(client.read((first, spoilt))[0]) == 11


def test_nothing_shows_what_is_wanted() -> None:
    client = Retrieval(RETRIEVER.terms, [13])
    shown = (repr(client), repr(client._exchange), repr(RETRIEVER), repr(RETRIEVER.terms))
    assert shown == ("Retrieval()", "Exchange()", "Retriever(21 records)", "RetrievalTerms()")
