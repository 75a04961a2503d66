"""A selection: the list is right, each party sees noise, and whatever is out of order, mixed or spoilt is told."""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from operator import itemgetter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from evenness import FALSE_ALARM, evenness
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.stats import binom

from discreet.errors import ProtocolError, SettingError
from discreet.protocols.oblivious import (
    EXCLUSION,
    MOST_ROWS,
    Evaluator,
    Garbler,
    Passed,
    Selection,
    SelectionTerms,
    Selector,
    Share,
    Step,
)
from discreet.protocols.scoring import Scorer, Scoring
from discreet.protocols.two_servers import Answer, Question

MATRIX = np.random.default_rng(3).integers(-3000, 3000, (21, 5)).astype(np.int16)
QUERY = np.array([3, -7, 0, 11, -2])
COUNT = 4
SELECTORS = Selector(MATRIX, COUNT, 0), Selector(MATRIX, COUNT, 1)
TERMS = SELECTORS[0].terms
VECTORS = json.loads((Path(__file__).parent / "vectors/oblivious.json").read_text())

Tamper = Callable[[str, bytes], bytes]


def carried(_: str, content: bytes) -> bytes:
    """Change nothing."""
    return content


@dataclass
class Run:
    """One garbling between two servers, whose messages are carried by hand, and kept."""

    terms: SelectionTerms = TERMS
    tamper: Tamper = carried
    sent: dict[str, bytes] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.evaluator = Evaluator(self.terms)
        self.garbler = Garbler(self.terms, self.evaluator.garbling)

    def prepare(self) -> Run:
        point = self._sent("point", self.evaluator.point())
        points = self._sent("points", self.garbler.points(point))
        columns = self._sent("columns", self.evaluator.columns(points))
        self.evaluator.keep(self._sent("circuit", self.garbler.circuit(columns)))
        return self

    def answer(self, first: Share, second: Share) -> tuple[bytes, bytes]:
        difference = self._sent("difference", self.evaluator.difference(second))
        labels, masks = self.garbler.labels(first, difference)
        return masks, self.evaluator.answer(self._sent("labels", labels))

    def _sent(self, name: str, content: bytes) -> bytes:
        self.sent[name] = self.tamper(name, content)
        return self.sent[name]


def shares(client: Selection, selectors: tuple[Selector, Selector] = SELECTORS) -> tuple[Share, Share]:
    first, second = (each.share(question) for each, question in zip(selectors, client.questions, strict=True))
    return first, second


def listed(matrix: NDArray[np.int16], count: int, query: NDArray[np.int64], excluded: Sequence[int] = ()) -> list[int]:
    selectors = Selector(matrix, count, 0), Selector(matrix, count, 1)
    client = Selection(selectors[0].terms, query, excluded)
    return list(client.read(Run(selectors[0].terms).prepare().answer(*shares(client, selectors))))


def wanted(matrix: NDArray[np.int16], count: int, query: NDArray[np.int64], excluded: Sequence[int] = ()) -> list[int]:
    order = np.argsort(-(matrix.astype(np.int64) @ query), kind="stable").tolist()
    return [row for row in order if row not in excluded][:count]


@settings(max_examples=40)
@given(data=st.data())
def test_lists_are_those_of_a_stable_sort(data: st.DataObject) -> None:
    """Of small numbers, so that many scores are equal, and of large ones, of both signs; whatever is excluded."""
    rows, width = data.draw(st.integers(1, 40)), data.draw(st.integers(1, 3))
    count, largest = data.draw(st.integers(1, min(rows, 9))), data.draw(st.sampled_from([1, 32767]))
    cells = st.lists(st.integers(-largest, largest), min_size=rows * width, max_size=rows * width)
    matrix = np.array(data.draw(cells), np.int16).reshape(rows, width)
    query = np.array(data.draw(st.lists(st.integers(-5000, 5000), min_size=width, max_size=width)))
    excluded = data.draw(st.lists(st.integers(0, rows - 1), max_size=rows))
    assert listed(matrix, count, query, excluded) == wanted(matrix, count, query, excluded)


def test_known_answers() -> None:
    matrix = np.array([[3], [-2], [7], [7], [0], [-100], [7], [1]], np.int16)
    assert listed(matrix, 1, np.array([1])) == [2]
    assert listed(matrix, 5, np.array([1])) == [2, 3, 6, 0, 7]
    assert listed(matrix, 5, np.array([1]), [3, 3, 0]) == [2, 6, 7, 4, 1]
    assert listed(matrix, 3, np.array([-1]), [5]) == [1, 4, 7]
    assert listed(matrix, 3, np.array([0])) == [0, 1, 2]
    assert listed(matrix, 8, np.array([1]), [0, 1, 2, 3, 4, 5]) == [6, 7]
    assert listed(matrix, 8, np.array([1]), range(8)) == []


def test_the_largest_scores_that_there_may_be_do_not_wrap() -> None:
    """The highest one, excluded, comes behind the lowest one that is not; one step further is refused."""
    matrix = np.array([[1], [-1]], np.int16)
    most = np.array([2**29 - 1])
    assert listed(matrix, 1, most) == [0]
    assert listed(matrix, 1, most, [0]) == [1]
    assert listed(matrix, 1, -most, [1]) == [0]
    assert EXCLUSION == -(2**30)
    with pytest.raises(SettingError, match="might wrap"):
        Selection(Selector(matrix, 1, 0).terms, np.array([2**29]))


class TestTerms:
    def test_come_back(self) -> None:
        assert SelectionTerms.from_bytes(TERMS.to_bytes()) == TERMS
        assert SELECTORS[0].terms == SELECTORS[1].terms
        assert TERMS.gates > 21 * 31

    @pytest.mark.parametrize("changes", [{"table": b""}, {"rows": 0}, {"width": 0}])
    def test_of_no_matrix_are_refused(self, changes: dict[str, Any]) -> None:
        with pytest.raises(ProtocolError, match="a matrix has"):
            replace(TERMS, **changes)

    @pytest.mark.parametrize(
        "changes", [{"rows": MOST_ROWS + 1}, {"count": 0}, {"count": 65, "rows": 99}, {"count": 22}]
    )
    def test_of_other_counts_are_refused(self, changes: dict[str, Any]) -> None:
        with pytest.raises(ProtocolError, match="rows are told"):
            replace(TERMS, **changes)
        with pytest.raises(ProtocolError, match="rows are told"):
            Selector(MATRIX, 0, 0)

    def test_there_are_two_seats(self) -> None:
        with pytest.raises(SettingError, match="two servers"):
            Selector(MATRIX, COUNT, 2)


class TestClient:
    @pytest.mark.parametrize("query", [np.zeros(4, np.int64), np.zeros(5, np.int32)])
    def test_other_queries_are_refused(self, query: Any) -> None:
        with pytest.raises(SettingError, match="5 int64 values"):
            Selection(TERMS, query)

    @pytest.mark.parametrize("position", [-1, 21])
    def test_a_row_that_is_not_there_is_refused(self, position: int) -> None:
        with pytest.raises(SettingError, match="out of the table of 21"):
            Selection(TERMS, QUERY, [0, position])

    def test_answers_are_read_once(self) -> None:
        client = Selection(TERMS, QUERY)
        answers = Run().prepare().answer(*shares(client))
        client.read(answers)
        with pytest.raises(ProtocolError, match="read once"):
            client.read(answers)

    @pytest.mark.parametrize("seat", [0, 1])
    @pytest.mark.parametrize(
        ("why", "changes"),
        [
            ("another table", {"terms": bytes(32)}),
            ("another question", {"session": bytes(32)}),
            ("two servers", {"seat": 7}),
            ("parts of 3 bytes", {"parts": (bytes(2),)}),
        ],
    )
    def test_wrong_answers_are_refused_by_blame(self, seat: int, why: str, changes: dict[str, Any]) -> None:
        client = Selection(TERMS, QUERY)
        answers = list(Run().prepare().answer(*shares(client)))
        sound, answers[seat] = answers[seat], replace(Answer.from_bytes(answers[seat]), **changes).to_bytes()
        with pytest.raises(ProtocolError, match=why) as refused:
            client.read((answers[0], answers[1]))
        assert refused.value.blame == seat
        for end in range(len(sound)):
            answers[seat] = sound[:end]
            with pytest.raises(ProtocolError):
                client.read((answers[0], answers[1]))
        answers[seat] = sound
        assert list(client.read((answers[0], answers[1]))) == wanted(MATRIX, COUNT, QUERY)

    @given(spoilt=st.binary(min_size=3, max_size=3), seat=st.integers(0, 1))
    @example(spoilt=b"\xff\xff\xff", seat=0)
    def test_what_answers_hold_is_never_refused(self, spoilt: bytes, seat: int) -> None:
        client = Selection(TERMS, QUERY, [4])
        session = Question.from_bytes(client.questions[0]).session
        parts = [(spoilt,), (bytes(3),)]
        answers = [Answer(TERMS.digest, session, at, parts[at ^ seat]).to_bytes() for at in (0, 1)]
        read = client.read((answers[0], answers[1]))
        assert len(set(read)) == len(read) <= COUNT
        assert set(read) <= set(range(21)) - {4}


class TestQuestions:
    def test_lengths_are_known_before(self) -> None:
        for excluded in ([], [0], list(range(21))):
            client = Selection(TERMS, QUERY, excluded)
            assert [len(each) for each in client.questions] == [each.most for each in SELECTORS]
        assert [each.most for each in SELECTORS] == [90 + 20 + 32, 90 + 20 + 4 * 21]

    @pytest.mark.parametrize("seat", [0, 1])
    def test_others_are_refused(self, seat: int) -> None:
        questions, selector = Selection(TERMS, QUERY).questions, SELECTORS[seat]
        for end in range(len(questions[seat])):
            with pytest.raises(ProtocolError):
                selector.share(questions[seat][:end])
        with pytest.raises(ProtocolError, match="at most"):
            selector.share(questions[seat] + b"\0")
        with pytest.raises(ProtocolError, match="a question is for the other server"):
            selector.share(replace(Question.from_bytes(questions[seat]), seat=1 - seat).to_bytes())
        with pytest.raises(ProtocolError, match="another table"):
            Selector(MATRIX, COUNT + 1, seat).share(questions[seat])
        with pytest.raises(ProtocolError, match="another table"):
            selector.share(Scoring(Scorer(MATRIX).terms, QUERY).questions[seat])

    def test_shares_add_up(self) -> None:
        first, second = shares(Selection(TERMS, QUERY, [2, 5]))
        scores = MATRIX.astype(np.int64) @ QUERY
        scores[[2, 5]] += EXCLUSION
        assert ((first.scores + second.scores).astype(np.int32) == scores).all()


class TestSteps:
    def test_a_garbling_is_used_once(self) -> None:
        run, client = Run().prepare(), Selection(TERMS, QUERY)
        first, second = shares(client)
        run.answer(first, second)
        with pytest.raises(ProtocolError, match="not the time for the difference"):
            run.evaluator.difference(second)
        with pytest.raises(ProtocolError, match="not the time for the labels"):
            run.garbler.labels(first, run.sent["difference"])
        with pytest.raises(ProtocolError, match="not the time for the answer"):
            run.evaluator.answer(run.sent["labels"])

    def test_each_step_has_its_time(self) -> None:
        first, second = shares(Selection(TERMS, QUERY))
        early: list[tuple[str, Callable[[Run], Any]]] = [
            ("the columns", lambda run: run.evaluator.columns(b"")),
            ("the circuit", lambda run: run.evaluator.keep(b"")),
            ("the difference", lambda run: run.evaluator.difference(second)),
            ("the answer", lambda run: run.evaluator.answer(b"")),
            ("the circuit", lambda run: run.garbler.circuit(b"")),
            ("the labels", lambda run: run.garbler.labels(first, b"")),
        ]
        for name, step in early:
            run = Run()
            with pytest.raises(ProtocolError, match=f"not the time for {name}"):
                step(run)
            with pytest.raises(ProtocolError, match="none after an error"):
                run.prepare()
        run = Run().prepare()
        with pytest.raises(ProtocolError, match="not the time for the point"):
            run.evaluator.point()
        with pytest.raises(ProtocolError, match="not the time for the points"):
            run.garbler.points(run.sent["point"])

    def test_an_error_ends_both_the_garbling_and_the_labels(self) -> None:
        """Whoever asks again with a sound message is refused: two labels of one wire would give all away."""
        run, client = Run().prepare(), Selection(TERMS, QUERY)
        first, second = shares(client)
        difference = run.evaluator.difference(second)
        with pytest.raises(ProtocolError):
            run.garbler.labels(first, difference[:-1])
        with pytest.raises(ProtocolError, match="none after an error"):
            run.garbler.labels(first, difference)

    def test_a_garbling_is_known_by_32_bytes(self) -> None:
        with pytest.raises(ProtocolError, match="32 bytes"):
            Garbler(TERMS, b"short")


def changed(changes: dict[str, Any], content: bytes) -> bytes:
    return replace(Passed.from_bytes(content), **changes).to_bytes()


STEPS = ("point", "points", "columns", "circuit", "difference", "labels")


class TestMessages:
    """Of each step: whatever is wrong about it is told by who gets it, and nothing else is raised."""

    def refused(self, name: str, change: Callable[[bytes], bytes], why: str | None = None) -> None:
        run = Run(tamper=lambda step, content: change(content) if step == name else content)
        with pytest.raises(ProtocolError, match=why):
            run.prepare().answer(*shares(Selection(TERMS, QUERY)))

    @pytest.mark.parametrize("name", STEPS)
    def test_other_heads_are_refused(self, name: str) -> None:
        other = bytes(31) + b"\1"
        wrong: list[dict[str, Any]] = [
            {"terms": other},
            {"garbling": other},
            {"session": other},
            {"step": 9},
            {"terms": b""},
        ]
        for changes in wrong:
            self.refused(name, partial(changed, changes))

    @pytest.mark.parametrize("name", STEPS)
    def test_other_lengths_are_refused(self, name: str) -> None:
        self.refused(name, lambda content: content + b"\0", "at most")
        for end in (1, 60, 121, 122, -1):
            self.refused(name, itemgetter(slice(end)))

        def shorter(content: bytes) -> bytes:
            passed = Passed.from_bytes(content)
            return replace(passed, content=passed.content[:-1]).to_bytes()

        self.refused(name, shorter, "bytes were expected of the other server")

    @pytest.mark.parametrize("name", STEPS)
    def test_those_of_another_garbling_are_refused(self, name: str) -> None:
        """Replayed from a run that was sound, of the same terms."""
        earlier = Run().prepare()
        earlier.answer(*shares(Selection(TERMS, QUERY)))
        self.refused(name, lambda _: earlier.sent[name], "another garbling, question or step")

    @pytest.mark.parametrize("name", STEPS)
    def test_those_of_another_kind_are_refused(self, name: str) -> None:
        self.refused(name, lambda _: Selection(TERMS, QUERY).questions[0], "kind Passed")
        self.refused(name, lambda _: b"", "kind Passed")

    def test_what_is_no_point_is_refused(self) -> None:
        def zeros(content: bytes) -> bytes:
            passed = Passed.from_bytes(content)
            return replace(passed, content=bytes(len(passed.content))).to_bytes()

        for name in ("point", "points"):
            self.refused(name, zeros, "point of the group")

    @pytest.mark.parametrize("name", ["columns", "circuit", "difference", "labels"])
    def test_spoilt_contents_give_a_list_and_no_error(self, name: str) -> None:
        def spoilt(step: str, content: bytes) -> bytes:
            if step != name:
                return content
            passed = Passed.from_bytes(content)
            return replace(passed, content=secrets.token_bytes(len(passed.content))).to_bytes()

        client = Selection(TERMS, QUERY, [4])
        read = client.read(Run(tamper=spoilt).prepare().answer(*shares(client)))
        assert len(set(read)) == len(read) <= COUNT
        assert set(read) <= set(range(21)) - {4}

    def test_steps_have_numbers_of_their_own(self) -> None:
        run = Run().prepare()
        run.answer(*shares(Selection(TERMS, QUERY)))
        assert [Passed.from_bytes(run.sent[name]).step for name in STEPS] == list(Step)


class TestSessions:
    def test_questions_of_two_sessions_are_refused_before_labels(self) -> None:
        run = Run().prepare()
        first, second = shares(Selection(TERMS, QUERY))[0], shares(Selection(TERMS, QUERY))[1]
        with pytest.raises(ProtocolError, match="another garbling, question or step"):
            run.answer(first, second)

    def test_shares_of_other_terms_or_seats_are_refused(self) -> None:
        first, second = shares(Selection(TERMS, QUERY))
        fewer = Selector(MATRIX, COUNT + 1, 1)
        other = fewer.share(Selection(fewer.terms, QUERY).questions[1])
        short = replace(second, scores=second.scores[:-1])
        for wrong in (first, other, short):
            with pytest.raises(ProtocolError, match="a share is of other terms"):
                Run().prepare().evaluator.difference(wrong)
        run = Run().prepare()
        difference = run.evaluator.difference(second)
        with pytest.raises(ProtocolError, match="a share is of other terms"):
            run.garbler.labels(second, difference)

    def test_the_same_question_again_gets_other_answers_and_the_same_list(self) -> None:
        client = Selection(TERMS, QUERY)
        both = [Run().prepare().answer(*shares(client)) for _ in range(8)]
        assert len({answers[0] for answers in both}) > 1
        added = {bytes(a ^ b for a, b in zip(*pair, strict=True)) for pair in both}
        assert len(added) == 1


WIDE = Selector(np.ones((1_000, 64), np.int16), 1, 0), Selector(np.ones((1_000, 64), np.int16), 1, 1)
HEAD = 122


@pytest.mark.parametrize("value", [0, 100])
@pytest.mark.parametrize("excluded", [(), range(1_000)])
def test_what_each_server_sees_is_even_whatever_is_asked(value: int, excluded: Sequence[int]) -> None:
    """Chi-squared, 255 degrees of freedom; false alarm: 1e-6 each, twenty-eight of them."""
    seen: dict[str, bytes] = {}
    for _ in range(8):
        client = Selection(WIDE[0].terms, np.full(64, value), excluded)
        run = Run(WIDE[0].terms).prepare()
        first, second = shares(client, WIDE)
        run.answer(first, second)
        asked = {f"question {seat}": Question.from_bytes(client.questions[seat]).parts[0] for seat in (0, 1)}
        told = {name: run.sent[name][HEAD:] for name in ("columns", "circuit", "difference", "labels")}
        scores = {"garbler's input": (first.scores + np.frombuffer(told["difference"], "<u4")).tobytes()}
        for name, content in (asked | told | scores).items():
            seen[name] = seen.get(name, b"") + content
    assert len(seen) == 7
    assert {name: evenness(content) > FALSE_ALARM for name, content in seen.items()} == dict.fromkeys(seen, True)


def test_the_test_of_evenness_can_fail() -> None:
    """It sees exclusions in the clear, their share without a mask, and a share of which bits are set too often."""
    noise = np.frombuffer(secrets.token_bytes(8_000), "<u4")
    assert evenness(noise.tobytes()) > FALSE_ALARM
    assert evenness(np.full(2_000, EXCLUSION, np.int32).tobytes()) < FALSE_ALARM
    assert evenness((noise & 0xFFFF).tobytes()) < FALSE_ALARM
    assert evenness((noise | noise >> 1).tobytes()) < FALSE_ALARM


def oddness(ones: NDArray[np.int64], times: int) -> float:
    """Return the probability of a count at least as far from a half, by Bonferroni over the bits."""
    far = np.abs(ones - times / 2).max()
    return float(2 * ones.size * binom.sf(times / 2 + far - 1, times, 0.5))


@pytest.mark.slow
def test_each_answer_alone_is_even() -> None:
    """Of both servers, the same question 80 times, two lists. Binomial; false alarm: 1e-6 each, two of them."""
    matrix = np.array([[1], [2], [3]], np.int16)
    selectors = Selector(matrix, 1, 0), Selector(matrix, 1, 1)
    for query, best in ((np.array([1]), 2), (np.array([-1]), 0)):
        ones = np.zeros((2, 2), int)
        for _ in range(80):
            client = Selection(selectors[0].terms, query)
            answers = Run(selectors[0].terms).prepare().answer(*shares(client, selectors))
            for seat, answer in enumerate(answers):
                part = np.frombuffer(Answer.from_bytes(answer).parts[0], np.uint8)
                ones[seat] += np.unpackbits(part, count=2, bitorder="little")
            assert client.read(answers) == (best,)
        assert oddness(ones, 80) > FALSE_ALARM


def test_the_test_of_answers_can_fail() -> None:
    """It sees a bit that is always the same, and one that is set, or not, in four of five."""
    even = np.full((2, 2), 40)
    assert oddness(even, 80) > FALSE_ALARM
    for ones in (0, 16, 64, 80):
        odd = even.copy()
        odd[1, 0] = ones
        assert oddness(odd, 80) < FALSE_ALARM


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector["name"])
def test_vectors(vector: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = iter(map(bytes.fromhex, vector["drawn"]))
    monkeypatch.setattr(secrets, "token_bytes", lambda _: next(drawn))
    matrix = np.array(vector["matrix"], np.int16)
    selectors = Selector(matrix, vector["count"], 0), Selector(matrix, vector["count"], 1)
    assert selectors[0].terms.to_bytes().hex() == vector["terms"]
    run = Run(selectors[0].terms).prepare()
    client = Selection(selectors[0].terms, np.array(vector["query"]), vector["excluded"])
    answers = run.answer(*shares(client, selectors))
    assert [each.hex() for each in client.questions] == vector["questions"]
    assert {name: content.hex() for name, content in run.sent.items()} == vector["sent"]
    assert [each.hex() for each in answers] == vector["answers"]
    assert list(client.read(answers)) == vector["list"]


def test_nothing_shows_what_is_asked() -> None:
    client, run = Selection(TERMS, QUERY, [3]), Run().prepare()
    share = shares(client)[0]
    shown = [repr(each) for each in (client, share, run.garbler, run.evaluator, SELECTORS[0], TERMS)]
    assert shown == ["Selection()", "Share()", "Garbler()", "Evaluator()", "Selector(21 rows)", "SelectionTerms()"]
    assert repr(Passed.from_bytes(run.sent["point"])) == "Passed()"
