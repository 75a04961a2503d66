"""Rankings by three servers: right, each server alone sees noise, and whatever is no answer is told from one."""

from __future__ import annotations

import json
import secrets
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from rankings import InTheClear, farthest, opened, split
from scipy.stats import chi2

from discreet.errors import ProtocolError, SettingError
from discreet.protocols.ranking import (
    CELL_LIMIT,
    LARGEST,
    MOST_CELLS,
    MOST_ROWS,
    SEATS,
    Held,
    ModelShare,
    Ranker,
    Ranking,
    RankingAnswer,
    RankingQuestion,
    RankingTerms,
    dealt,
    joined,
    reach,
    shared,
)
from discreet.protocols.ranking import KNOWN as BEHIND

ENCODER, DECODER = np.random.default_rng(3).integers(-9, 10, (2, 12, 4))
KNOWN = np.arange(12) % 5 == 1
TERMS, SHARES = dealt(ENCODER, DECODER, 5)
VECTORS = json.loads((Path(__file__).parent / "vectors/ranking.json").read_text())
FALSE_ALARM = 1e-6


def ready(shares: tuple[bytes, bytes, bytes]) -> tuple[Ranker, Ranker, Ranker]:
    first, second, third = map(Held, shares)
    one, two, three = map(Ranker, (first, second, third), InTheClear().computes((first, second, third)))
    return one, two, three


RANKERS = ready(SHARES)


def answered(rankers: tuple[Ranker, ...], ranking: Ranking) -> tuple[bytes, bytes, bytes]:
    with ThreadPoolExecutor(SEATS) as threads:
        first, second, third = threads.map(lambda ranker, asked: ranker.answer(asked), rankers, ranking.questions)
    return first, second, third


def unable(session: bytes, share: NDArray[np.uint64]) -> NDArray[np.uint64]:
    raise AssertionError("nothing may be computed")


def returned(share: NDArray[np.uint64], *_: object) -> NDArray[np.uint64]:
    return share


class TestRanked:
    @settings(max_examples=30)
    @given(data=st.data(), rows=st.integers(1, 9), width=st.integers(0, 3), listed=st.integers(1, 9))
    def test_the_best_that_are_not_known_come_first_in_order(
        self, data: st.DataObject, rows: int, width: int, listed: int
    ) -> None:
        """Cells are few and small: ties are common, and are in the order of the rows."""
        cells = st.lists(st.integers(-2, 2), min_size=2 * rows * (width or rows), max_size=2 * rows * (width or rows))
        encoder, decoder = np.array(data.draw(cells)).reshape(2, rows, width or rows)
        known = np.array(data.draw(st.lists(st.booleans(), min_size=rows, max_size=rows)))
        terms, shares = dealt(encoder if width else None, decoder, listed)
        found = Ranking(terms, known)
        positions = found.read(answered(ready(shares), found))
        query = known.astype(np.int64) @ encoder if width else known.astype(np.int64)
        scores = decoder @ query
        assert positions.tolist() == sorted(range(rows), key=lambda row: (known[row], -scores[row], row))[:listed]

    @pytest.mark.parametrize("rows", [2, 3, 9])
    def test_the_largest_scores_that_there_may_be_do_not_wrap(self, rows: int) -> None:
        """Keys of both signs are as far from one another as they may be, and fit into 63 bits and a sign."""
        encoder, decoder = farthest(rows)
        terms, shares = dealt(encoder, decoder, rows)
        assert terms.limit - rows * int(encoder[0, 0]) <= reach(encoder, decoder) < terms.limit
        for known in (np.ones(rows, np.bool_), np.arange(rows) > 0):
            ranking = Ranking(terms, known)
            wanted = sorted(range(rows), key=lambda row, known=known: (known[row], row % 2, row))  # type: ignore[misc]
            assert ranking.read(answered(ready(shares), ranking)).tolist() == wanted
        keys = (decoder @ encoder.sum(axis=0)).astype(object) * 2**terms.tie
        assert max(keys) + rows - (min(keys) - BEHIND) < 2**63

    def test_a_model_that_could_wrap_is_not_dealt(self) -> None:
        """The limit itself, one below it, and numbers whose absolute value is none."""
        rows = 1 << 10
        limit = LARGEST >> 10
        fits = np.zeros((rows, 2), np.int64)
        fits[:, 0], fits[:2, 1] = 1, 1
        encoder = fits.copy()
        encoder[:, 0], encoder[:, 1] = (limit - 1) // rows // 1024, 0
        decoder = np.full((rows, 2), 1024)
        assert reach(encoder, decoder) < limit
        dealt(encoder, decoder, 5)
        encoder[0, 0] += (limit - reach(encoder, decoder)) // 1024
        assert reach(encoder, decoder) >= limit
        with pytest.raises(SettingError, match="might wrap"):
            dealt(encoder, decoder, 5)
        for cell in (CELL_LIMIT, -CELL_LIMIT, -(2**63)):
            with pytest.raises(SettingError, match="might wrap"):
                dealt(None, np.array([[cell, 5], [0, 0]]), 1)
            with pytest.raises(SettingError, match="might wrap"):
                dealt(np.array([[cell, 5]]), np.ones((1, 2), np.int64), 1)
        dealt(None, np.array([[1 - CELL_LIMIT]]), 1)

    @given(data=st.data(), rows=st.integers(1, 6), width=st.integers(0, 3))
    def test_no_score_is_above_its_reach(self, data: st.DataObject, rows: int, width: int) -> None:
        count = 2 * rows * (width or rows)
        cells = data.draw(st.lists(st.integers(-99, 99), min_size=count, max_size=count))
        encoder, decoder = np.array(cells).reshape(2, rows, width or rows)
        flags = (np.arange(1 << rows)[:, None] >> np.arange(rows)) & 1
        scores = (flags @ encoder if width else flags) @ decoder.T
        assert np.abs(scores).max() <= reach(encoder if width else None, decoder)

    @pytest.mark.parametrize(
        ("why", "encoder", "decoder"),
        [
            ("same shape", ENCODER, DECODER[:3]),
            ("same shape", ENCODER.astype(np.int32), DECODER),
            ("same shape", None, DECODER[0]),
            ("is square", None, DECODER),
        ],
    )
    def test_other_matrices_are_refused(self, why: str, encoder: Any, decoder: Any) -> None:
        with pytest.raises(SettingError, match=why):
            dealt(encoder, decoder, 5)

    @pytest.mark.parametrize("known", [KNOWN.astype(np.int64), KNOWN[:5], np.zeros((1, 12), np.bool_)])
    def test_other_queries_are_refused(self, known: Any) -> None:
        with pytest.raises(SettingError, match="12 truth values"):
            Ranking(TERMS, known)


def evenness(numbers: NDArray[np.uint64]) -> float:
    """Return the probability of bytes at least as uneven."""
    cells = np.bincount(np.frombuffer(np.ascontiguousarray(numbers).tobytes(), np.uint8), minlength=256)
    expected = cells.sum() / 256
    return float(chi2.sf(((cells - expected) ** 2 / expected).sum(), 255))


class TestNoise:
    @pytest.mark.parametrize("value", [0, 1, 2**64 - 1])
    def test_what_one_server_has_looks_even_whatever_it_is_of(self, value: int) -> None:
        """Chi-squared, 255 degrees of freedom; false alarm: 1e-6, nine of them a value. All three seats' sum fails."""
        message = ModelShare(b"", 0, b"", b"")
        numbers = np.full(20_000, value, np.uint64)
        shares = [
            joined(replace(message, seat=seat, first=first, second=second), len(numbers))
            for seat, (first, second) in enumerate(shared(numbers))
        ]
        assert (opened(shares) == numbers).all()
        for share in shares:
            for seen in (share[:, 0], share[:, 1], share[:, 0] - share[:, 1]):
                assert evenness(seen) > FALSE_ALARM
        assert evenness(opened(shares)) < FALSE_ALARM
        assert evenness(shares[0][:, 0] & np.uint64(2**64 - 2)) < FALSE_ALARM  # one bit of 64 lost

    def test_nothing_is_drawn_twice(self) -> None:
        """32 bytes each: a session and two keys, or a dealing and two keys."""
        seen: set[bytes] = set()
        for _ in range(50):
            question = RankingQuestion.from_bytes(Ranking(TERMS, KNOWN).questions[0], 1_000)
            share = ModelShare.from_bytes(dealt(ENCODER, DECODER, 5)[1][0])
            seen |= {question.session, question.first, question.second, share.first, share.second}
            seen.add(RankingTerms.from_bytes(share.terms).dealing)
        assert len(seen) == 300

    def test_lengths_are_the_same_whatever_is_known(self) -> None:
        known = [np.zeros(12, np.bool_), np.ones(12, np.bool_), KNOWN]
        assert len({tuple(map(len, Ranking(TERMS, each).questions)) for each in known}) == 1
        assert all(len(each) <= RANKERS[0].most for each in Ranking(TERMS, KNOWN).questions)

    def test_nothing_shows_what_is_known(self) -> None:
        shown = [Ranking(TERMS, KNOWN), Held(SHARES[1]), RANKERS[0], ModelShare.from_bytes(SHARES[0])]
        assert list(map(repr, shown)) == ["Ranking()", "Held()", "Ranker(12 rows)", "ModelShare()"]


class TestShares:
    @pytest.mark.parametrize("seat", range(SEATS))
    def test_of_four_numbers_a_key_is_still_told_from_them(self, seat: int) -> None:
        """Both have 32 bytes; the seat says which it is."""
        terms, shares = dealt(np.full((4, 2), 3), np.full((4, 2), -2), 1)
        assert Held(shares[seat]).share().shape == (17, 2)
        known = np.array([True, False, True, False])
        ranking = Ranking(terms, known)
        assert ranking.read(answered(ready(shares), ranking)).tolist() == [1]

    @pytest.mark.parametrize(
        "changes",
        [{"seat": 3}, {"seat": 1}, {"first": bytes(31)}, {"second": b""}, {"terms": b""}, {"terms": TERMS.digest}],
    )
    def test_no_share_of_a_model(self, changes: dict[str, Any]) -> None:
        with pytest.raises(ProtocolError):
            Held(replace(ModelShare.from_bytes(SHARES[0]), **changes).to_bytes())

    @pytest.mark.parametrize(
        "changes",
        [
            {"dealing": b""},
            {"rows": 0},
            {"listed": 0},
            {"listed": 13},
            {"rows": MOST_ROWS + 1},
            {"rows": 200, "listed": 101},
            {"width": MOST_CELLS},
            {"width": 2**63},
            {"rows": 6_000, "width": 0},
        ],
    )
    def test_no_terms(self, changes: dict[str, Any]) -> None:
        assert RankingTerms.from_bytes(TERMS.to_bytes()) == TERMS
        with pytest.raises(ProtocolError):
            replace(TERMS, **changes)


class TestQuestions:
    @pytest.mark.parametrize(
        ("why", "changes"),
        [
            ("another model", {"terms": bytes(32)}),
            ("a session has 32 bytes", {"session": b"short"}),
            ("question of its own", {"seat": 1}),
            ("question of its own", {"seat": 2**64 - 1}),
            ("12 numbers, were expected", {"first": bytes(31)}),
            ("12 numbers, were expected", {"second": bytes(96)}),
        ],
    )
    def test_what_is_no_question_is_not_computed(self, why: str, changes: dict[str, Any]) -> None:
        ranker = Ranker(Held(SHARES[0]), unable)
        question = RankingQuestion.from_bytes(Ranking(TERMS, KNOWN).questions[0])
        with pytest.raises(ProtocolError, match=why):
            ranker.answer(replace(question, **changes).to_bytes())

    def test_longer_ones_are_not_read(self) -> None:
        with pytest.raises(ProtocolError, match="at most"):
            Ranker(Held(SHARES[0]), unable).answer(bytes(RANKERS[0].most + 1))

    @given(content=st.binary(max_size=300))
    def test_noise_is_refused(self, content: bytes) -> None:
        with pytest.raises(ProtocolError):
            Ranker(Held(SHARES[1]), unable).answer(content)

    def test_shares_of_another_dealing_are_found_out(self) -> None:
        other = Ranker(Held(dealt(ENCODER, DECODER, 5)[1][0]), unable)
        with pytest.raises(ProtocolError, match="another model"):
            other.answer(Ranking(TERMS, KNOWN).questions[0])


class TestAnswers:
    def spoilt(self, at: int, **changes: Any) -> ProtocolError:
        """Return what a client says to answers of which one was changed."""
        ranking = Ranking(TERMS, KNOWN)
        answers = list(answered(RANKERS, ranking))
        answers[at] = replace(RankingAnswer.from_bytes(answers[at]), **changes).to_bytes()
        with pytest.raises(ProtocolError) as caught:
            ranking.read((answers[0], answers[1], answers[2]))
        return caught.value

    @pytest.mark.parametrize("seat", range(SEATS))
    @pytest.mark.parametrize(
        "changes",
        [
            {"terms": bytes(32)},
            {"session": bytes(32)},
            {"seat": 3},
            {"first": b""},
            {"second": bytes(32)},
            {"first": bytes(10_000)},
        ],
    )
    def test_who_sent_no_answer_is_named(self, seat: int, changes: dict[str, Any]) -> None:
        assert self.spoilt(seat, **changes).blame == seat

    @pytest.mark.parametrize("which", ["first", "second"])
    def test_thirds_that_differ_are_found_out(self, which: str) -> None:
        error = self.spoilt(1, **{which: bytes(40)})
        assert "do not fit each other" in str(error)
        assert error.blame is None

    @pytest.mark.parametrize(
        "listed",
        [
            [256 * 12, 257, 514, 771, 1028],  # a position beyond the rows
            [0, 257, 514, 771, 771],  # a rank twice
            [0, 256 + 1, 256 + 2, 768 + 3, 1024 + 4],  # a position twice
            [1, 258, 515, 772, 1029],  # no rank 0
            [2**64 - 256, 257, 514, 771, 1028],
        ],
    )
    def test_what_is_no_list_is_found_out(self, listed: list[int]) -> None:
        ranking = Ranking(TERMS, KNOWN)
        first, second, third = (
            Ranker(Held(content), partial(returned, share)).answer(question)
            for content, question, share in zip(
                SHARES, ranking.questions, split(np.array(listed, np.uint64)), strict=True
            )
        )
        with pytest.raises(ProtocolError, match="are no list"):
            ranking.read((first, second, third))

    def test_they_are_read_once(self) -> None:
        ranking = Ranking(TERMS, KNOWN)
        answers = answered(RANKERS, ranking)
        with pytest.raises(ProtocolError):
            ranking.read((answers[1], answers[0], answers[2]))
        ranking.read(answers)
        with pytest.raises(ProtocolError, match="read once"):
            ranking.read(answers)

    def test_another_questions_are_refused(self) -> None:
        answers = answered(RANKERS, Ranking(TERMS, KNOWN))
        with pytest.raises(ProtocolError, match="another question"):
            Ranking(TERMS, KNOWN).read(answers)


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector["name"])
def test_vectors(vector: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = iter([bytes.fromhex(each) for each in vector["drawn"]])
    monkeypatch.setattr(secrets, "token_bytes", lambda _: next(drawn))
    encoder = None if vector["encoder"] is None else np.array(vector["encoder"])
    terms, shares = dealt(encoder, np.array(vector["decoder"]), vector["listed"])
    assert terms.to_bytes().hex() == vector["terms"]
    assert [each.hex() for each in shares] == vector["shares"]
    ranking = Ranking(terms, np.array(vector["known"]))
    assert [each.hex() for each in ranking.questions] == vector["questions"]
    monkeypatch.undo()
    assert ranking.read(answered(ready(shares), ranking)).tolist() == vector["positions"]
