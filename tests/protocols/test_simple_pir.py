"""Records from one server: read right but for errors that are proven to be small, by questions that look like noise."""

from __future__ import annotations

import json
import math
import secrets
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import mpmath
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.stats import chi2

from discreet.errors import ProtocolError, SettingError
from discreet.protocols import simple_pir
from discreet.protocols.simple_pir import (
    CHUNK,
    FAILURE,
    HEAD_BYTES,
    SECRET,
    SHIFT,
    Fetcher,
    Fetching,
    Hint,
    TableTerms,
    Vector,
    errors,
    multiplied,
    public_rows,
    rounds_right,
    thresholds,
)
from discreet.randomness import NoiseSource

RECORDS = tuple(bytes(record) for record in np.random.default_rng(5).integers(0, 256, (50, 3), np.uint8))
FETCHER = Fetcher(RECORDS)
HINT = Hint(FETCHER.terms, FETCHER.hint)
VECTORS = json.loads((Path(__file__).parent / "vectors/simple_pir.json").read_text())
FALSE_ALARM = 1e-6
SIGMA = 6.4


def fetched(fetcher: Fetcher, hint: Hint, position: int) -> bytes:
    fetching = Fetching(hint, position)
    return fetching.read(fetcher.answer(fetching.question))


@given(data=st.data())
def test_records_are_read_right(data: st.DataObject) -> None:
    """Of random tables, and of those of the lowest and of the highest bytes alone. False alarm: 2^-128 a record."""
    count, size = data.draw(st.integers(1, 40)), data.draw(st.integers(1, 9))
    record = st.one_of(st.binary(min_size=size, max_size=size), st.sampled_from([bytes(size), b"\xff" * size]))
    records = data.draw(st.lists(record, min_size=count, max_size=count))
    fetcher = Fetcher(records)
    position = data.draw(st.integers(0, count - 1))
    assert fetched(fetcher, Hint(fetcher.terms, fetcher.hint), position) == records[position]


@pytest.mark.parametrize("value", [0, 127, 128, 255])
def test_every_value_is_read_right_beside_many_of_the_same(value: int) -> None:
    """A thousand columns of one value, so that errors add up as far as they may."""
    records = [bytes([value]) * 300] * 1_000
    fetcher = Fetcher([*records, b"\1" * 300])
    assert fetcher.terms.columns == 1_001
    hint = Hint(fetcher.terms, fetcher.hint)
    assert fetched(fetcher, hint, len(records)) == b"\1" * 300
    assert fetched(fetcher, hint, 7) == records[7]


def test_chunks_of_the_public_matrix_are_put_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(simple_pir, "CHUNK", 5)
    assert FETCHER.terms.columns == 13
    assert Fetcher(RECORDS).terms == FETCHER.terms
    assert [fetched(FETCHER, HINT, position) for position in range(50)] == [*RECORDS]


@given(records=st.integers(1, 10**6), size=st.integers(1, 2000))
def test_a_table_is_about_square_and_holds_all_records(records: int, size: int) -> None:
    terms = TableTerms(bytes(32), bytes(32), records, size)
    assert terms.stacked * terms.columns >= records > terms.stacked * (terms.columns - 1)
    assert terms.rows == terms.stacked * size
    if records >= 4 * size:
        assert 0.4 < terms.rows / terms.columns < 2.5


class TestErrors:
    DRAWS = 200_000

    def evenness(self, values: NDArray[np.int32]) -> float:
        """Return the probability of values at least as far from the discrete Gaussian, -20 to 20 and beyond."""
        cells = np.arange(-400, 401)
        weights = np.exp(-(cells**2) / (2 * SIGMA**2))
        inside = np.abs(cells) <= 20
        expected = np.append(weights[inside], [weights[cells < -20].sum(), weights[cells > 20].sum()])
        expected *= len(values) / weights.sum()
        counted = np.array(
            [(values == each).sum() for each in range(-20, 21)] + [(values < -20).sum(), (values > 20).sum()]
        )
        return float(chi2.sf(((counted - expected) ** 2 / expected).sum(), 42))

    def test_are_a_discrete_gaussian(self) -> None:
        """Chi-squared, 42 degrees of freedom; false alarm: 1e-6."""
        assert self.evenness(errors(self.DRAWS, NoiseSource()).view(np.int32)) > FALSE_ALARM

    def test_the_test_of_errors_can_fail(self) -> None:
        """It sees a sigma that is off by a fiftieth, a mean that is off by a third, and zeros drawn twice as often."""
        sound = errors(self.DRAWS, NoiseSource(insecure_test_seed=1)).view(np.int32)
        rng = np.random.default_rng(1)
        assert self.evenness(sound) > FALSE_ALARM
        assert self.evenness(np.rint(rng.normal(0, SIGMA * 1.02, self.DRAWS)).astype(np.int32)) < FALSE_ALARM
        assert self.evenness(sound + (rng.random(self.DRAWS) < 0.33).astype(np.int32)) < FALSE_ALARM
        assert self.evenness(np.where(rng.random(self.DRAWS) < 0.06, 0, sound).astype(np.int32)) < FALSE_ALARM

    def test_thresholds_are_those_of_mpmath(self) -> None:
        """All 128 bits of each, but for the last."""
        with mpmath.workprec(400):
            weight = [mpmath.exp(-mpmath.mpf(25) * k * k / 2048) for k in range(400)]
            whole = weight[0] + 2 * mpmath.fsum(weight[1:])
            for k, (high, low) in enumerate(thresholds()):
                inside = (weight[0] + 2 * mpmath.fsum(weight[1 : k + 1])) / whole
                assert abs((int(high) << 64 | int(low)) - int(mpmath.floor(inside * 2**128))) <= 1

    def test_beyond_the_last_threshold_there_is_nothing_to_draw(self) -> None:
        beyond = 2 * sum(math.exp(-(k**2) / (2 * SIGMA**2)) for k in range(len(thresholds()), 400))
        assert 0 < beyond < 2.0**-150
        assert thresholds()[-1] == (np.uint64(2**64 - 1), np.uint64(2**64 - 1))

    @pytest.mark.parametrize("k", [0, 1, 40, 94])
    @pytest.mark.parametrize("sign", [0, 1])
    def test_at_a_threshold_the_next_value_begins(self, k: int, sign: int) -> None:
        """Decided by the second word where the first is that of the threshold."""
        high, low = map(int, thresholds()[k])
        at = -(-low // 2) * 2  # the lowest bit is the sign's

        def drawn(one: int, other: int) -> int:
            class Source(NoiseSource):
                def words(self, count: int) -> NDArray[np.uint64]:
                    assert count == 2
                    return np.array([one, other | sign], np.uint64)

            return int(errors(1, Source()).view(np.int32)[0]) * (-1 if sign else 1)

        if at < 2**64:
            reached = sum(threshold <= (high, at) for threshold in thresholds_as_ints())
            assert drawn(high, at) == reached >= k + 1
        below = (high << 64 | low) - 2
        assert drawn(below >> 64, below & (2**64 - 2)) <= k
        assert drawn(high - 1, 0) <= k

    def test_all_draws_are_new(self) -> None:
        first, second = (errors(1_000, NoiseSource()) for _ in range(2))
        assert (first != second).any()


@cache
def thresholds_as_ints() -> tuple[tuple[int, int], ...]:
    return tuple((int(high), int(low)) for high, low in thresholds())


class TestRounding:
    @given(rows=st.integers(1, 2**24), columns=st.integers(1, 2**20))
    def test_the_bound_is_that_of_a_subgaussian_sum(self, rows: int, columns: int) -> None:
        """In whole numbers never weaker than with logarithms, and stronger by three bits at most."""
        exponent = (2.0**23) ** 2 / (2 * SIGMA**2 * columns * 128.0**2)
        wrong = math.log2(2 * rows) - exponent / math.log(2)
        if rounds_right(rows, columns):
            assert wrong <= -FAILURE
        else:
            assert wrong > -FAILURE - 3

    def test_tables_that_are_too_wide_are_refused(self) -> None:
        """Of 2^37 bytes they are narrow enough, of 2^38 not; columns stay below the 2^20 that sigma is good for."""
        narrow = TableTerms(bytes(32), bytes(32), 2**21, 2**16)
        assert narrow.columns == -(-(2**21) // 5)
        with pytest.raises(ProtocolError, match="524288 columns are too many"):
            replace(narrow, records=2**22)
        assert not rounds_right(1, 2**20)

    def test_a_value_turns_at_half_a_step(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """One error, at a column of the largest value, -128: as large as it may be, and then one larger."""
        fetcher = Fetcher([b"\0", b"\x80"])
        hint = Hint(fetcher.terms, fetcher.hint)
        half = 1 << (SHIFT - 1)
        for error, right in ((0, True), (half // 128, True), (-(half // 128) + 1, True), (-(half // 128), False)):
            column = np.array([error, 0]).astype(np.int64).astype(np.uint32)
            monkeypatch.setattr(simple_pir, "errors", lambda _count, _source, column=column: column.copy())
            assert (fetched(fetcher, hint, 1) == b"\x80") == right


@pytest.mark.parametrize(
    "changes",
    [{"table": b""}, {"hint": bytes(31)}, {"records": 0}, {"records": 2**30 + 1}, {"size": 0}, {"size": 2**16 + 1}],
)
def test_terms_of_no_table_are_refused(changes: dict[str, Any]) -> None:
    assert TableTerms.from_bytes(FETCHER.terms.to_bytes()) == FETCHER.terms
    with pytest.raises(ProtocolError):
        replace(FETCHER.terms, **changes)


@pytest.mark.parametrize("records", [[], [b""]])
def test_tables_that_are_none(records: list[bytes]) -> None:
    with pytest.raises(ProtocolError, match="a table has"):
        Fetcher(records)
    with pytest.raises(SettingError, match="of one size"):
        Fetcher([b"a", b"bc"])


@pytest.mark.parametrize("position", [-1, 50])
def test_positions_that_there_are_none_of(position: int) -> None:
    with pytest.raises(SettingError, match="out of the table of 50") as refused:
        Fetching(HINT, position)
    assert "51" not in str(refused.value)


class TestHint:
    def test_is_the_table_times_the_public_matrix(self) -> None:
        matrix = np.concatenate([rows for _, rows in public_rows(FETCHER.terms.table, FETCHER.terms.columns)])
        assert (FETCHER._matrix.astype(np.int64) @ matrix.astype(np.int64) % 2**32 == HINT.matrix).all()
        assert HINT.matrix.shape == (FETCHER.terms.rows, SECRET)

    def test_of_another_table_or_spoilt_is_refused(self) -> None:
        other = Fetcher([*RECORDS[1:], RECORDS[0]])
        flipped = bytes([FETCHER.hint[0] ^ 1]) + FETCHER.hint[1:]
        for hint in (other.hint, flipped, FETCHER.hint[:-1], FETCHER.hint + b"\0", b""):
            with pytest.raises(ProtocolError, match="not that of the terms"):
                Hint(FETCHER.terms, hint)

    def test_of_a_wrong_matrix_would_read_wrong(self) -> None:
        """What the digest of the hint is for."""
        spoilt = TableTerms(FETCHER.terms.table, FETCHER.terms.hint, 50, 3)
        hint = Hint(spoilt, FETCHER.hint)
        hint.matrix = hint.matrix + np.uint32(1)
        assert fetched(FETCHER, hint, 7) != RECORDS[7]

    def test_public_rows_are_of_the_table_alone(self) -> None:
        one, again, other = (next(public_rows(table, 5))[1] for table in (bytes(32), bytes(32), b"\1" * 32))
        assert (one == again).all()
        assert (one != other).any()
        chunks = list(public_rows(bytes(32), CHUNK + 5))
        assert [(start, rows.shape) for start, rows in chunks] == [(0, (CHUNK, SECRET)), (CHUNK, (5, SECRET))]
        assert (chunks[0][1][:5] == one).all()


def evenness(values: NDArray[np.uint32]) -> float:
    """Return the probability of cells at least as uneven, of the highest and of the lowest four bits."""
    cells = np.concatenate([np.bincount(values >> 28, minlength=16), np.bincount(values & 15, minlength=16)])
    expected = len(values) / 16
    return float(chi2.sf(((cells - expected) ** 2 / expected).sum(), 30))


class TestQuestions:
    def asked(self, position: int) -> NDArray[np.uint32]:
        question = Vector.from_bytes(Fetching(HINT, position).question)
        return np.frombuffer(question.values, "<u4")

    @pytest.mark.parametrize("position", [0, 49])
    def test_are_even_whatever_is_wanted(self, position: int) -> None:
        """Many questions, each under a secret of its own; chi-squared, 30 degrees of freedom, false alarm: 1e-6."""
        assert evenness(np.concatenate([self.asked(position) for _ in range(2_000)])) > FALSE_ALARM

    def test_the_test_of_evenness_can_fail(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """On questions under the secret zero: they are errors, and a one at the wanted column."""
        monkeypatch.setattr(secrets, "token_bytes", bytes)
        assert evenness(np.concatenate([self.asked(0) for _ in range(200)])) < FALSE_ALARM
        assert self.asked(49).view(np.int32).argmax() == 49 // FETCHER.terms.stacked

    def test_secrets_are_new_each_time(self) -> None:
        assert (self.asked(3) != self.asked(3)).mean() > 0.9

    def test_a_question_hides_its_column_in_errors_alone(self) -> None:
        """Whoever has the secret sees it: what is left are errors, and 2^24 at the column of the record."""
        drawn = secrets.token_bytes(4 * SECRET)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(secrets, "token_bytes", lambda size: drawn[:size])
            asked = self.asked(49)
        (_, matrix), *_ = public_rows(FETCHER.terms.table, FETCHER.terms.columns)
        left = (asked - matrix @ np.frombuffer(drawn, "<u4")).view(np.int32)
        column = 49 // FETCHER.terms.stacked
        assert left.argmax() == column
        assert np.abs(np.delete(left, column)).max() <= len(thresholds())
        assert np.abs(np.delete(left, column)).max() > 0

    def test_lengths_are_known_before(self) -> None:
        question = Fetching(HINT, 0).question
        assert len(question) == FETCHER.most == HEAD_BYTES + 4 * FETCHER.terms.columns
        with pytest.raises(ProtocolError, match=f"at most {FETCHER.most}"):
            FETCHER.answer(question + b"\0")
        for end in range(len(question)):
            with pytest.raises(ProtocolError):
                FETCHER.answer(question[:end])

    @given(content=st.binary(max_size=150))
    def test_noise_is_refused(self, content: bytes) -> None:
        with pytest.raises(ProtocolError):
            FETCHER.answer(content)

    @pytest.mark.parametrize(
        ("why", "changes"),
        [
            ("another table", {"terms": bytes(32)}),
            ("step 1", {"step": 2}),
            ("step 1", {"session": bytes(31)}),
            ("values was expected", {"values": bytes(4)}),
            ("values was expected", {"values": b""}),
        ],
    )
    def test_wrong_fields_are_refused(self, why: str, changes: dict[str, Any]) -> None:
        question = Vector.from_bytes(Fetching(HINT, 0).question)
        with pytest.raises(ProtocolError, match=why):
            FETCHER.answer(replace(question, **changes).to_bytes())

    def test_a_server_with_another_table_is_found_out(self) -> None:
        with pytest.raises(ProtocolError, match="another table"):
            Fetcher([*RECORDS[:-1], b"new"]).answer(Fetching(HINT, 0).question)

    def test_a_question_that_is_replayed_gets_the_same_answer(self) -> None:
        question = Fetching(HINT, 0).question
        assert FETCHER.answer(question) == FETCHER.answer(question)


class TestAnswers:
    def test_are_read_once(self) -> None:
        fetching = Fetching(HINT, 9)
        answer = FETCHER.answer(fetching.question)
        assert fetching.read(answer) == RECORDS[9]
        with pytest.raises(ProtocolError, match="read once"):
            fetching.read(answer)

    @pytest.mark.parametrize(
        ("why", "changes"),
        [
            ("another table", {"terms": bytes(32)}),
            ("another question", {"session": bytes(32)}),
            ("step 2", {"step": 1}),
            ("values was expected", {"values": bytes(8)}),
        ],
    )
    def test_wrong_fields_are_refused(self, why: str, changes: dict[str, Any]) -> None:
        fetching = Fetching(HINT, 9)
        answer = FETCHER.answer(fetching.question)
        with pytest.raises(ProtocolError, match=why):
            fetching.read(replace(Vector.from_bytes(answer), **changes).to_bytes())
        assert fetching.read(answer) == RECORDS[9]

    def test_of_another_question_or_truncated_or_too_long(self) -> None:
        fetching, other = Fetching(HINT, 9), Fetching(HINT, 9)
        answer = FETCHER.answer(fetching.question)
        for wrong in (FETCHER.answer(other.question), fetching.question, answer + b"\0", b""):
            with pytest.raises(ProtocolError):
                fetching.read(wrong)
        for end in range(len(answer)):
            with pytest.raises(ProtocolError):
                fetching.read(answer[:end])

    def test_spoilt_values_are_read_as_they_are(self) -> None:
        """Nothing raises, whatever they are: a server that spoils some must not see which were wanted."""
        for values in (bytes, lambda size: b"\xff" * size, secrets.token_bytes):
            fetching = Fetching(HINT, 9)
            answer = Vector.from_bytes(FETCHER.answer(fetching.question))
            spoilt = replace(answer, values=values(len(answer.values))).to_bytes()
            assert len(fetching.read(spoilt)) == 3


@given(data=st.data())
def test_products_wrap_as_they_should(data: st.DataObject) -> None:
    rows, columns, width = (data.draw(st.integers(1, 5)) for _ in range(3))
    cells = st.lists(st.integers(-128, 127), min_size=rows * columns, max_size=rows * columns)
    matrix = np.array(data.draw(cells), np.int8).reshape(rows, columns)
    numbers = st.lists(st.integers(0, 2**32 - 1), min_size=columns * width, max_size=columns * width)
    right = np.array(data.draw(numbers), np.uint32).reshape(columns, width)
    expected = matrix.astype(object) @ right.astype(object) % 2**32
    assert (multiplied(matrix, right) == expected.astype(np.uint32)).all()


def test_slabs_of_rows_are_put_together() -> None:
    matrix = np.ones((5, (1 << 22) // 2), np.int8)
    assert multiplied(matrix, np.ones((matrix.shape[1], 1), np.uint32)).tolist() == [[1 << 21]] * 5


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector["name"])
def test_vectors(vector: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """The secret repeats eight bytes, errors come from a test seed. Of the hint, the digest is in the terms."""
    fetcher = Fetcher([bytes.fromhex(record) for record in vector["records"]])
    assert fetcher.terms.to_bytes().hex() == vector["terms"]
    block = bytes.fromhex(vector["drawn"])
    monkeypatch.setattr(secrets, "token_bytes", lambda size: block * (size // len(block)))
    monkeypatch.setattr(simple_pir, "NoiseSource", lambda: NoiseSource(insecure_test_seed=vector["errors"]))
    fetching = Fetching(Hint(fetcher.terms, fetcher.hint), vector["position"])
    assert fetching.question.hex() == vector["question"]
    answer = fetcher.answer(fetching.question)
    assert answer.hex() == vector["answer"]
    assert fetching.read(answer).hex() == vector["records"][vector["position"]]


def test_nothing_shows_a_position() -> None:
    fetching = Fetching(HINT, 9)
    shown = tuple(map(repr, (fetching, Vector.from_bytes(fetching.question), FETCHER, HINT, FETCHER.terms)))
    assert shown == ("Fetching()", "Vector()", "Fetcher(50 records)", "Hint(12 rows)", "TableTerms()")
