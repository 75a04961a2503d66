"""The weighted sum of scores: exact, each answer alone is noise, and no organisation answers twice under one mask."""

from __future__ import annotations

import json
import secrets
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.stats import chi2

from discreet.errors import ProtocolError, SettingError, TooFewLeft
from discreet.protocols.ensemble import (
    HEAD_BYTES,
    MOST_OPEN,
    PURPOSE,
    Agreement,
    MaskedScores,
    Organisation,
    Sitting,
    Summing,
    longest,
)
from discreet.protocols.keys import agreed, public_bytes
from discreet.protocols.ring import Ring

VECTORS = json.loads((Path(__file__).parent / "vectors/ensemble.json").read_text())
FALSE_ALARM = 1e-6
KEYS = [X25519PrivateKey.generate() for _ in range(5)]
SCORES = np.array([3, -7, 0, 100])


def agreement(count: int = 3, **changes: Any) -> Agreement:
    fitting: dict[str, Any] = {
        "context": bytes(32),
        "organisations": tuple(map(public_bytes, KEYS[:count])),
        "weights": tuple(range(1, count + 1)),
    }
    return Agreement(**fitting | {"most": 100, "dims": 4, "bits": 20} | changes)


def organisations(terms: Agreement) -> list[Organisation]:
    return [Organisation(terms, key) for key in KEYS[: len(terms.organisations)]]


def answers(
    terms: Agreement, members: Sequence[Organisation], scores: Sequence[NDArray[np.int64]]
) -> tuple[Summing, dict[int, bytes]]:
    summing = Summing(terms, [member.open() for member in members])
    return summing, {
        member.seat: member.answer(summing.sitting, own) for member, own in zip(members, scores, strict=True)
    }


@given(data=st.data())
def test_the_sum_is_exact(data: st.DataObject) -> None:
    count, dims = data.draw(st.integers(3, 5)), data.draw(st.integers(1, 6))
    weights = data.draw(st.lists(st.integers(1, 50), min_size=count, max_size=count))
    bits = data.draw(st.integers(16, 32))
    most = data.draw(st.integers(1, ((1 << (bits - 1)) - 1) // sum(weights)))
    terms = agreement(count, weights=tuple(weights), most=most, dims=dims, bits=bits)
    rows = st.lists(st.integers(-most, most), min_size=dims, max_size=dims)
    scores = [np.array(data.draw(rows)) for _ in range(count)]
    summing, sent = answers(terms, organisations(terms), scores)
    expected = sum(weight * own for weight, own in zip(weights, scores, strict=True))
    assert (summing.read(sent) == expected).all()


def test_the_largest_sum_that_there_may_be_does_not_wrap() -> None:
    """Of 16 bits, with the weights 1, 2 and 4: 32767; a sum of one more is refused by the agreement."""
    terms = agreement(weights=(1, 2, 4), most=32767 // 7, bits=16)
    for sign in (1, -1):
        scores = np.full(4, sign * terms.most)
        summing, sent = answers(terms, organisations(terms), [scores] * 3)
        assert summing.read(sent).tolist() == [sign * 7 * terms.most] * 4
    with pytest.raises(ProtocolError, match="may not fit into 16 bits"):
        replace(terms, weights=(1, 1, 2), most=32768 // 4)


@pytest.mark.parametrize(
    ("why", "changes"),
    [
        ("keys of 32 bytes", {"context": b""}),
        ("keys of 32 bytes", {"organisations": (bytes(31), bytes(32), b"\1" * 32)}),
        ("two hide nothing", {"organisations": (bytes(32), b"\1" * 32), "weights": (1, 1)}),
        ("two hide nothing", {"organisations": (bytes(32), b"\1" * 32, bytes(32))}),
        ("two hide nothing", {"organisations": tuple(map(bytes, np.ones((1025, 32), np.uint8)))}),
        ("weight of at least 1", {"weights": (1, 1)}),
        ("weight of at least 1", {"weights": (1, 0, 1)}),
        ("weight of at least 1", {"most": 0}),
        ("16 to 32 bits", {"bits": 15}),
        ("1 to", {"dims": 0}),
    ],
)
def test_agreements_that_hide_nothing(why: str, changes: dict[str, Any]) -> None:
    assert Agreement.from_bytes(agreement().to_bytes()) == agreement()
    with pytest.raises(ProtocolError, match=why):
        agreement(**changes)


def masked(answer: bytes, ring: Ring) -> NDArray[np.uint32]:
    return ring.unpack(MaskedScores.from_bytes(answer).content)


def evenness(values: NDArray[np.uint32]) -> float:
    """Return the probability of cells at least as uneven, of the highest and of the lowest four of twenty bits."""
    cells = np.concatenate([np.bincount(values >> 16, minlength=16), np.bincount(values & 15, minlength=16)])
    expected = len(values) / 16
    return float(chi2.sf(((cells - expected) ** 2 / expected).sum(), 30))


class TestWhatTheAskerSees:
    DIMS = 40_000

    def seen(self, score: int) -> tuple[Agreement, bytes, dict[int, bytes]]:
        terms = agreement(dims=self.DIMS)
        summing, sent = answers(terms, organisations(terms), [np.full(self.DIMS, score)] * 3)
        return terms, Sitting.from_bytes(summing.sitting).digest, sent

    @pytest.mark.parametrize("score", [0, 100])
    def test_each_answer_and_each_two_of_three_are_even(self, score: int) -> None:
        """Chi-squared, 30 degrees of freedom; false alarm: 1e-6 each, twelve of them."""
        terms, _, sent = self.seen(score)
        alone = [masked(sent[seat], terms.ring) for seat in range(3)]
        pairs = [(alone[i] + alone[j]) & np.uint32(2**20 - 1) for i, j in ((0, 1), (0, 2), (1, 2))]
        assert all(evenness(values) > FALSE_ALARM for values in (*alone, *pairs))

    def test_the_test_of_evenness_can_fail(self) -> None:
        """On all three together, which is the sum; and on answers whose masks are known."""
        terms, transcript, sent = self.seen(100)
        first, second, third = (masked(sent[seat], terms.ring) for seat in range(3))
        assert evenness((first + second + third) & np.uint32(2**20 - 1)) < FALSE_ALARM
        assert evenness(self.without(terms, transcript, sent, 0, (1, 2))) < FALSE_ALARM

    def test_together_with_one_of_three_it_sees_the_sum_of_two(self) -> None:
        """With the key of one, the others' answers are still even; with the keys of two, the third's are plain."""
        terms, transcript, sent = self.seen(100)
        for victim, known in ((0, (1,)), (0, (2,)), (1, (0,)), (2, (1,))):
            assert evenness(self.without(terms, transcript, sent, victim, known)) > FALSE_ALARM
        assert (self.without(terms, transcript, sent, 1, (0, 2)) == 200).all()

    def without(
        self, terms: Agreement, transcript: bytes, sent: dict[int, bytes], victim: int, known: Sequence[int]
    ) -> NDArray[np.uint32]:
        """Return a victim's answer less the masks that it shares with those whose keys are known."""
        left = masked(sent[victim], terms.ring)
        for seat in known:
            key = agreed(KEYS[seat], terms.organisations[victim], transcript, PURPOSE)
            assert key is not None
            terms.ring.mask(left, [key] if seat < victim else [], [key] if seat > victim else [])
        return left

    def test_masks_are_new_in_each_sitting(self) -> None:
        """False alarm: 1e-6."""
        terms, members = agreement(dims=self.DIMS), organisations(agreement(dims=self.DIMS))
        scores = [np.zeros(self.DIMS, np.int64)] * 3
        first, second = (masked(answers(terms, members, scores)[1][0], terms.ring) for _ in range(2))
        assert evenness((first - second) & np.uint32(2**20 - 1)) > FALSE_ALARM

    def test_two_answers_under_one_mask_would_tell_the_difference(self) -> None:
        """What a nonce that is open twice would cost: it is put back here, which no call does."""
        terms, (member, *others) = agreement(), organisations(agreement())
        summing = Summing(terms, [each.open() for each in (member, *others)])
        remembered = dict(member._open)
        one = masked(member.answer(summing.sitting, SCORES), terms.ring)
        member._open = remembered
        other = masked(member.answer(summing.sitting, np.zeros(4, np.int64)), terms.ring)
        assert (terms.ring.lift(one - other) == SCORES).all()


class TestOrganisation:
    def test_answers_a_sitting_once(self) -> None:
        """Nor a replayed one, nor another with the same nonce; nor after it lost its memory."""
        terms, members = agreement(), organisations(agreement())
        nonces = [member.open() for member in members]
        sitting = Summing(terms, nonces).sitting
        members[1].answer(sitting, SCORES)
        for again in (sitting, Summing(terms, [nonces[0], nonces[1], bytes(32)]).sitting):
            with pytest.raises(ProtocolError, match="no open nonce"):
                members[1].answer(again, SCORES)
        with pytest.raises(ProtocolError, match="no open nonce"):
            organisations(terms)[0].answer(sitting, SCORES)

    def test_sittings_are_answered_in_any_order(self) -> None:
        terms, members = agreement(), organisations(agreement())
        summings = [Summing(terms, [member.open() for member in members]) for _ in range(3)]
        for summing in reversed(summings):
            sent = {member.seat: member.answer(summing.sitting, SCORES) for member in members}
            assert (summing.read(sent) == 6 * SCORES).all()

    def test_anothers_nonce_at_its_seat_is_refused(self) -> None:
        terms, members = agreement(), organisations(agreement())
        first, second, third = (member.open() for member in members)
        with pytest.raises(ProtocolError, match="no open nonce"):
            members[0].answer(Summing(terms, [second, first, third]).sitting, SCORES)

    def test_remembers_a_bounded_number_of_nonces(self) -> None:
        terms, members = agreement(), organisations(agreement())
        first, second = members[0].open(), members[0].open()
        for _ in range(MOST_OPEN - 1):
            members[0].open()
        with pytest.raises(ProtocolError, match="too old"):
            members[0].answer(Summing(terms, [first, bytes(32), bytes(32)]).sitting, SCORES)
        members[0].answer(Summing(terms, [second, bytes(32), bytes(32)]).sitting, SCORES)

    def test_what_is_forgotten_is_not_answered(self) -> None:
        terms, members = agreement(), organisations(agreement())
        first, second = members[0].open(), members[0].open()
        for _ in range(2):
            members[0].forget(first)
        with pytest.raises(ProtocolError, match="too old"):
            members[0].answer(Summing(terms, [first, bytes(32), bytes(32)]).sitting, SCORES)
        members[0].answer(Summing(terms, [second, bytes(32), bytes(32)]).sitting, SCORES)

    @pytest.mark.parametrize(
        ("why", "scores"),
        [
            ("4 int64 scores", np.zeros(3, np.int64)),
            ("4 int64 scores", np.zeros(4, np.int32)),
            ("4 int64 scores", np.zeros((1, 4), np.int64)),
            ("from zero that was agreed", np.array([0, 0, 101, 0])),
            ("from zero that was agreed", np.array([0, 0, -101, 0])),
            ("from zero that was agreed", np.array([-(2**63), 0, 0, 0])),
        ],
    )
    def test_scores_that_were_not_agreed(self, why: str, scores: Any) -> None:
        """Nothing was told, so the sitting stays open."""
        terms, members = agreement(), organisations(agreement())
        sitting = Summing(terms, [member.open() for member in members]).sitting
        with pytest.raises(SettingError, match=why) as refused:
            members[0].answer(sitting, scores)
        assert "101" not in str(refused.value)
        members[0].answer(sitting, SCORES)

    def test_other_sittings_are_refused_and_leave_it_open(self) -> None:
        terms, members = agreement(), organisations(agreement())
        summing = Summing(terms, [member.open() for member in members])
        sound = Sitting.from_bytes(summing.sitting)
        cases = [
            ("another agreement", replace(sound, agreement=agreement(weights=(1, 2, 4)).digest)),
            ("3 nonces", replace(sound, nonces=sound.nonces[:2])),
            ("3 nonces", replace(sound, nonces=(*sound.nonces[:2], bytes(31)))),
            ("3 nonces", replace(sound, nonces=(*sound.nonces[:2], bytes(15), bytes(13)))),
            ("no open nonce", replace(sound, nonces=(bytes(32), *sound.nonces[1:]))),
        ]
        for why, spoilt in cases:
            with pytest.raises(ProtocolError, match=why):
                members[0].answer(spoilt.to_bytes(), SCORES)
        assert len(summing.sitting) == longest(terms)
        with pytest.raises(ProtocolError, match=f"at most {longest(terms)}"):
            members[0].answer(summing.sitting + b"\0", SCORES)
        for end in range(len(summing.sitting)):
            with pytest.raises(ProtocolError):
                members[0].answer(summing.sitting[:end], SCORES)
        members[0].answer(summing.sitting, SCORES)

    @given(content=st.binary(max_size=200))
    def test_noise_is_refused(self, content: bytes) -> None:
        with pytest.raises(ProtocolError):
            Organisation(agreement(), KEYS[0]).answer(content, SCORES)

    def test_only_who_agreed_takes_part(self) -> None:
        with pytest.raises(SettingError, match="none of the organisations"):
            Organisation(agreement(), KEYS[4])

    def test_a_key_that_is_none_is_found_by_blame(self) -> None:
        terms = agreement(organisations=(public_bytes(KEYS[0]), public_bytes(KEYS[1]), bytes(32)))
        member = Organisation(terms, KEYS[0])
        with pytest.raises(ProtocolError, match="key that is none") as refused:
            member.answer(Summing(terms, [member.open(), bytes(32), bytes(32)]).sitting, SCORES)
        assert refused.value.blame == 2


class TestSum:
    def test_is_read_once(self) -> None:
        summing, sent = answers(agreement(), organisations(agreement()), [SCORES] * 3)
        summing.read(sent)
        with pytest.raises(ProtocolError, match="read once"):
            summing.read(sent)

    def test_without_one_of_them_there_is_none(self) -> None:
        summing, sent = answers(agreement(), organisations(agreement()), [SCORES] * 3)
        with pytest.raises(TooFewLeft, match=r"at seats \[0, 2\]"):
            summing.read({1: sent[1]})
        assert (summing.read(sent) == 6 * SCORES).all()

    @pytest.mark.parametrize("count", [2, 4])
    def test_other_numbers_of_nonces_are_refused(self, count: int) -> None:
        with pytest.raises(ProtocolError, match="3 nonces"):
            Summing(agreement(), [bytes(32)] * count)

    @pytest.mark.parametrize("seat", [0, 2])
    @pytest.mark.parametrize(
        ("why", "changes"),
        [
            ("another sitting", {"sitting": bytes(32)}),
            ("another organisation", {"seat": 1}),
            ("of 12 bytes was expected", {"content": bytes(11)}),
            ("at most 62", {"content": bytes(13)}),
        ],
    )
    def test_wrong_fields_are_refused_by_blame(self, seat: int, why: str, changes: dict[str, Any]) -> None:
        summing, sent = answers(agreement(), organisations(agreement()), [SCORES] * 3)
        spoilt = replace(MaskedScores.from_bytes(sent[seat]), **changes).to_bytes()
        with pytest.raises(ProtocolError, match=why) as refused:
            summing.read(sent | {seat: spoilt})
        assert refused.value.blame == seat
        assert len(sent[seat]) == HEAD_BYTES + agreement().ring.size
        assert (summing.read(sent) == 6 * SCORES).all()

    def test_a_lying_organisation_shifts_the_sum(self) -> None:
        """Nobody can tell: what is not claimed."""
        terms = agreement()
        summing, sent = answers(terms, organisations(terms), [SCORES] * 3)
        answer = MaskedScores.from_bytes(sent[1])
        shifted = terms.ring.pack((terms.ring.unpack(answer.content) + np.uint32(5)) & np.uint32(2**20 - 1))
        assert (summing.read(sent | {1: replace(answer, content=shifted).to_bytes()}) == 6 * SCORES + 5).all()


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector["name"])
def test_vectors(vector: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    keys = [X25519PrivateKey.from_private_bytes(bytes.fromhex(key)) for key in vector["keys"]]
    terms = Agreement.from_bytes(bytes.fromhex(vector["agreement"]))
    drawn = iter([bytes.fromhex(nonce) for nonce in vector["nonces"]])
    monkeypatch.setattr(secrets, "token_bytes", lambda _: next(drawn))
    members = [Organisation(terms, key) for key in keys]
    summing, sent = answers(terms, members, [np.array(own) for own in vector["scores"]])
    assert summing.sitting.hex() == vector["sitting"]
    assert [sent[seat].hex() for seat in range(len(keys))] == vector["answers"]
    assert summing.read(sent).tolist() == vector["sum"]


def test_nothing_shows_scores_or_keys() -> None:
    terms, members = agreement(), organisations(agreement())
    summing, sent = answers(terms, members, [SCORES] * 3)
    messages = (terms, Sitting.from_bytes(summing.sitting), MaskedScores.from_bytes(sent[0]))
    shown = tuple(map(repr, (members[2], summing, *messages)))
    assert shown == ("Organisation(2)", "Summing()", "Agreement()", "Sitting()", "MaskedScores()")
