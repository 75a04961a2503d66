"""What two organisations share: found exactly, and nothing that travels can be tested against a guess."""

from __future__ import annotations

import hashlib
import json
import secrets
from collections.abc import Callable, Collection, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from nacl.bindings import (
    crypto_core_ed25519_add,
    crypto_core_ed25519_from_uniform,
    crypto_core_ed25519_is_valid_point,
)
from scipy.stats import chi2

from discreet.errors import ProtocolError, SettingError
from discreet.protocols import intersection
from discreet.protocols.intersection import (
    CHUNK,
    HASH_BYTES,
    HEAD_BYTES,
    POINT_BYTES,
    Answerer,
    Asker,
    Found,
    IntersectionTerms,
    Points,
    blinded,
    multiplied,
    point_of,
)

VECTORS = json.loads((Path(__file__).parent / "vectors/intersection.json").read_text())
FALSE_ALARM = 1e-6
PRIME = 2**255 - 19
ORDER = 2**252 + 27742317777372353535851937790883648493
ONE = (1).to_bytes(32, "little")
OURS, THEIRS = [b"ann@example.org", b"bob@example.org", b"cy"], [b"bob@example.org", b"dee", b"cy", b"eve"]


def terms(**changes: Any) -> IntersectionTerms:
    fitting: dict[str, Any] = {"session": bytes(32), "purpose": bytes(32), "asker": b"shop", "answerer": b"bank"}
    return IntersectionTerms(**fitting | {"asker_size": 6, "answerer_size": 5, "both": 1, "counted": 0} | changes)


TERMS = terms()


def run(
    agreed: IntersectionTerms, ours: Collection[bytes], theirs: Collection[bytes]
) -> tuple[Found, Found | None, list[bytes]]:
    """Return what the asker learns, what the answerer learns, and all that travelled."""
    asker, answerer = Asker(agreed, ours), Answerer(agreed, theirs)
    sent = [asker.ask()]
    sent.append(answerer.answer(sent[0]))
    found = asker.read(sent[1])
    if not agreed.both:
        return found, None, sent
    sent.append(asker.tell())
    return found, answerer.read(sent[2]), sent


SETS = st.sets(st.one_of(st.binary(max_size=3), st.sampled_from(OURS)), max_size=6)


@given(ours=SETS, theirs=SETS, both=st.integers(0, 1), counted=st.integers(0, 1), spare=st.integers(0, 2))
def test_both_find_what_is_in_both_sets(
    ours: set[bytes], theirs: set[bytes], both: int, counted: int, spare: int
) -> None:
    sizes = {"asker_size": max(len(ours), 1) + spare, "answerer_size": max(len(theirs), 1)}
    agreed = terms(**sizes, both=both, counted=counted)
    shared = ours & theirs
    expected = Found(len(shared), None if counted else tuple(sorted(shared)))
    found, told, sent = run(agreed, ours, theirs)
    assert found == expected
    assert told == (expected if both else None)
    assert len(sent) == 2 + both


@pytest.mark.parametrize("counted", [0, 1])
def test_all_equal_and_more_than_a_chunk(counted: int) -> None:
    many = [b"%d" % number for number in range(CHUNK + 3)]
    agreed = terms(asker_size=len(many), answerer_size=len(many), counted=counted, both=0)
    assert run(agreed, many, many[::-1])[0].count == len(many)


def test_both_parties_have_them_in_one_order() -> None:
    found, told, _ = run(TERMS, OURS, THEIRS)
    assert found == told == Found(2, (b"bob@example.org", b"cy"))


def test_workers_of_an_executor_may_multiply() -> None:
    """What they are handed can be sent to a process, and results come in order."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        asker, answerer = Asker(TERMS, OURS, pool.map), Answerer(TERMS, THEIRS, pool.map)
        assert asker.read(answerer.answer(asker.ask())).count == 2
        with pytest.raises(ProtocolError, match="not in the group") as refused:
            Answerer(terms(asker_size=1), [], pool.map).answer(
                Points(terms(asker_size=1).digest, 1, ONE, b"").to_bytes()
            )
    assert refused.value.blame == 0


@pytest.mark.parametrize("side", [Asker, Answerer])
def test_sets_that_cannot_be_asked_with(side: Callable[..., Any]) -> None:
    with pytest.raises(SettingError, match="more than the"):
        side(TERMS, [b"%d" % number for number in range(7)])
    with pytest.raises(SettingError, match="there twice") as refused:
        side(TERMS, [b"ann", b"bob", b"ann"])
    assert "ann" not in str(refused.value)


@pytest.mark.parametrize(
    "changes",
    [
        {"session": bytes(31)},
        {"purpose": b""},
        {"asker": b""},
        {"answerer": bytes(65)},
        {"answerer": b"shop"},
        {"asker_size": 0},
        {"answerer_size": 2**22 + 1},
        {"both": 2},
        {"counted": 2},
    ],
)
def test_terms_that_are_none(changes: dict[str, Any]) -> None:
    assert IntersectionTerms.from_bytes(TERMS.to_bytes()) == TERMS
    with pytest.raises(ProtocolError):
        terms(**changes)


def points_in(sent: Iterable[bytes]) -> set[bytes]:
    messages = [Points.from_bytes(each) for each in sent]
    contents = [content for each in messages for content in (each.once, each.twice)]
    return {content[at : at + 32] for content in contents for at in range(0, len(content), 32)}


class TestWhatTravels:
    """The attack on hashed identifiers: guess, hash, compare."""

    GUESSES = (*OURS, *THEIRS, b"nobody@example.org")

    def guessed(self, sent: list[bytes]) -> set[bytes]:
        """Return the identifiers that a reader of all messages finds, who knows the terms, but no number."""
        seen = points_in(sent)
        plain = {guess: blinded(TERMS.digest, ONE, [guess])[0] for guess in self.GUESSES}
        hashed = {guess: hashlib.sha256(guess).digest() for guess in self.GUESSES}
        return {guess for guess in self.GUESSES if plain[guess] in seen or hashed[guess] in seen}

    def test_a_dictionary_finds_nothing(self) -> None:
        assert self.guessed(run(TERMS, OURS, THEIRS)[2]) == set()

    def test_it_would_find_all_if_points_were_not_multiplied(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(intersection, "crypto_core_ed25519_scalar_reduce", lambda _: ONE)
        assert self.guessed(run(TERMS, OURS, THEIRS)[2]) == {*OURS, *THEIRS}

    def test_one_partys_number_does_not_open_the_others_set(self) -> None:
        """The asker's attack on the answerer: its own number tells which of its own are shared, and no other."""
        asker, answerer = Asker(TERMS, OURS), Answerer(TERMS, THEIRS)
        seen = points_in([answerer.answer(asker.ask())])
        for scalar in (ONE, asker._scalar):
            assert not seen & set(blinded(TERMS.digest, scalar, self.GUESSES))
        assert set(blinded(TERMS.digest, answerer._scalar, THEIRS)) <= seen

    def test_nothing_is_the_same_in_two_sessions(self) -> None:
        """Also under the same terms: numbers are drawn anew. With other terms, points differ before that."""
        assert not points_in(run(TERMS, OURS, THEIRS)[2]) & points_in(run(TERMS, OURS, THEIRS)[2])
        other = terms(session=bytes(31) + b"\1")
        assert not set(blinded(TERMS.digest, ONE, OURS)) & set(blinded(other.digest, ONE, OURS))

    def test_lengths_are_those_of_the_terms(self) -> None:
        for ours, theirs in (([], []), (OURS, THEIRS)):
            lengths = [len(each) for each in run(TERMS, ours, theirs)[2]]
            assert lengths == [HEAD_BYTES + POINT_BYTES * count for count in (6, 11, 5)]

    def test_the_order_tells_nothing(self) -> None:
        """What is sent first is ascending, whatever the order of identifiers; so is what goes back to be counted."""
        asker, answerer = Asker(TERMS, OURS), Answerer(terms(counted=1), THEIRS)
        once = points_in_order(Points.from_bytes(asker.ask()).once)
        assert once == sorted(once)
        question = replace(Points.from_bytes(Asker(TERMS, OURS).ask()), terms=terms(counted=1).digest)
        answer = Points.from_bytes(answerer.answer(question.to_bytes()))
        for content in (answer.once, answer.twice):
            assert points_in_order(content) == sorted(points_in_order(content))

    def test_the_order_of_counted_points_would_tell(self) -> None:
        """Those of an answer that is not counted stand in the asker's order: this is how it knows its own."""
        asker, answerer = Asker(TERMS, OURS), Answerer(TERMS, THEIRS)
        question = asker.ask()
        answer = Points.from_bytes(answerer.answer(question))
        once = points_in_order(Points.from_bytes(question).once)
        assert points_in_order(answer.twice) == multiplied(answerer._scalar, once)

    def test_nothing_shows_an_identifier(self) -> None:
        asker, answerer = Asker(TERMS, OURS), Answerer(TERMS, THEIRS)
        message = Points.from_bytes(asker.ask())
        shown = tuple(map(repr, (asker, answerer, message, TERMS, Found(1, (b"ann",)))))
        assert shown == ("Asker()", "Answerer()", "Points()", "IntersectionTerms()", "Found()")


def points_in_order(content: bytes) -> list[bytes]:
    return [content[at : at + 32] for at in range(0, len(content), 32)]


class TestPoints:
    COUNT = 4_000

    def evenness(self, points: Sequence[bytes]) -> float:
        """Return the probability of cells at least as uneven, of y's lowest four bits and of the sign of x."""
        first = np.frombuffer(b"".join(points), np.uint8).reshape(-1, 32)
        cells = np.concatenate(
            [np.bincount(first[:, 0] & 15, minlength=16), np.bincount(first[:, 31] >> 7, minlength=2)]
        )
        expected = len(points) / np.repeat([16, 2], [16, 2])
        return float(chi2.sf(((cells - expected) ** 2 / expected).sum(), 16))

    def test_of_identifiers_and_of_padding_are_even_alike(self) -> None:
        """Chi-squared, 16 degrees of freedom; false alarm: 1e-6 each, two of them."""
        identifiers = [b"%d" % number for number in range(self.COUNT)]
        asker = Asker(terms(asker_size=self.COUNT), [])
        assert self.evenness(blinded(TERMS.digest, asker._scalar, identifiers)) > FALSE_ALARM
        assert self.evenness(points_in_order(Points.from_bytes(asker.ask()).once)) > FALSE_ALARM

    def test_the_test_of_evenness_can_fail(self) -> None:
        """On numbers in place of points, and on points of which those with one sign are left out a time in three."""
        assert self.evenness([number.to_bytes(32, "little") for number in range(self.COUNT)]) < FALSE_ALARM
        even = [point_of(secrets.token_bytes(HASH_BYTES)) for _ in range(self.COUNT)]
        assert self.evenness([point for point in even if point[31] < 128 or point[1] % 3]) < FALSE_ALARM
        assert self.evenness([point for point in even if point[31] < 128]) < FALSE_ALARM

    def test_a_point_is_the_sum_of_two_maps_into_the_group(self) -> None:
        uniform = secrets.token_bytes(HASH_BYTES)
        one, other = (crypto_core_ed25519_from_uniform(half) for half in (uniform[:32], uniform[32:]))
        assert point_of(uniform) == crypto_core_ed25519_add(one, other)
        assert crypto_core_ed25519_is_valid_point(point_of(uniform))

    @given(identifiers=st.lists(st.binary(max_size=40), max_size=4, unique=True))
    def test_the_order_of_numbers_is_all_one(self, identifiers: list[bytes]) -> None:
        mine, yours = secrets.token_bytes(31) + b"\0", secrets.token_bytes(31) + b"\0"
        one = multiplied(mine, blinded(TERMS.digest, yours, identifiers))
        assert one == multiplied(yours, blinded(TERMS.digest, mine, identifiers))
        assert len(set(one)) == len(identifiers)


LOW = {
    "neutral": ONE,
    "of order 2": (PRIME - 1).to_bytes(32, "little"),
    "of order 4": bytes(32),
    "of order 8": bytes.fromhex("26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05"),
}
SOUND = point_of(bytes(range(64)))
BAD = LOW | {
    "out of the group by order 2": crypto_core_ed25519_add(SOUND, LOW["of order 2"]),
    "out of the group by order 4": crypto_core_ed25519_add(SOUND, LOW["of order 4"]),
    "out of the group by order 8": crypto_core_ed25519_add(SOUND, LOW["of order 8"]),
    "not on the curve": (2).to_bytes(32, "little"),
    "not canonical": (PRIME + 1).to_bytes(32, "little"),
    "not canonical, sign of zero": (1 + 2**255).to_bytes(32, "little"),
}


class TestMalice:
    @pytest.mark.parametrize("name", BAD)
    @pytest.mark.parametrize("seat", [0, 1])
    def test_a_point_that_is_none_is_refused_by_blame(self, name: str, seat: int) -> None:
        """Whatever this party's number is: also one that the order of the point divides. The session is over."""
        asker, answerer = Asker(TERMS, OURS), Answerer(TERMS, THEIRS)
        question = asker.ask()
        content = answerer.answer(question) if seat else question
        message = Points.from_bytes(content)
        spoilt = sorted([BAD[name], *points_in_order(message.once)[1:]])
        bad = replace(message, once=b"".join(spoilt)).to_bytes()
        victims: list[tuple[Any, Callable[[bytes], Any]]] = []
        for scalar in (None, (8).to_bytes(32, "little"), ((ORDER + 1) // 2).to_bytes(32, "little")):
            victim: Any = asker if seat else Answerer(TERMS, THEIRS)
            if seat and scalar is not None:
                victim = Asker(TERMS, OURS)
                victim.ask()
            victim._scalar = scalar or victim._scalar
            victims.append((victim, victim.read if seat else victim.answer))
        for _, take in victims:
            with pytest.raises(ProtocolError, match="not in the group") as refused:
                take(bad)
            assert refused.value.blame == seat
            with pytest.raises(ProtocolError, match="ends at an error"):
                take(content)

    def test_points_that_come_back_and_are_none_equal_none(self) -> None:
        asker, answerer = Asker(TERMS, OURS), Answerer(TERMS, THEIRS)
        message = Points.from_bytes(answerer.answer(asker.ask()))
        bad = list(BAD.values())[:6]
        assert asker.read(replace(message, twice=b"".join(bad)).to_bytes()).count == 0

    def test_shared_padding_is_no_identifier(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Not even if both drew the same."""
        monkeypatch.setattr(secrets, "token_bytes", lambda size: bytes(range(7, 7 + size)))
        found, told, _ = run(terms(asker_size=4, answerer_size=5), OURS, THEIRS)
        assert found == told == Found(2, (b"bob@example.org", b"cy"))

    @pytest.mark.parametrize(
        ("why", "changes"),
        [
            ("another session", {"terms": bytes(32)}),
            ("another step", {"step": 1}),
            ("5 points of 32", {"once": b""}),
            ("5 points of 32", {"once": bytes(159)}),
            ("6 points of 32", {"twice": bytes(191)}),
            ("once each", {"once": SOUND * 5}),
            ("once each", {"twice": SOUND * 6}),
            ("ascending", {"once": b"".join(sorted(BAD.values(), reverse=True)[:5])}),
        ],
    )
    def test_wrong_fields_are_refused_by_blame(self, why: str, changes: dict[str, Any]) -> None:
        asker, answerer = Asker(TERMS, OURS), Answerer(TERMS, THEIRS)
        message = Points.from_bytes(answerer.answer(asker.ask()))
        with pytest.raises(ProtocolError, match=why) as refused:
            asker.read(replace(message, **changes).to_bytes())
        assert refused.value.blame == 1

    def test_counted_points_come_back_ascending(self) -> None:
        agreed = terms(counted=1)
        asker, answerer = Asker(agreed, OURS), Answerer(agreed, THEIRS)
        message = Points.from_bytes(answerer.answer(asker.ask()))
        turned = b"".join(points_in_order(message.twice)[::-1])
        with pytest.raises(ProtocolError, match="ascending"):
            asker.read(replace(message, twice=turned).to_bytes())

    def test_messages_are_as_long_as_the_terms_say(self) -> None:
        asker = Asker(TERMS, OURS)
        question = asker.ask()
        with pytest.raises(ProtocolError, match=f"at most {len(question)}"):
            Answerer(TERMS, THEIRS).answer(question + b"\0")
        for end in range(len(question)):
            with pytest.raises(ProtocolError):
                Answerer(TERMS, THEIRS).answer(question[:end])

    @given(content=st.binary(max_size=300))
    def test_noise_is_refused(self, content: bytes) -> None:
        with pytest.raises(ProtocolError) as refused:
            Answerer(TERMS, []).answer(content)
        assert refused.value.blame == 0


class TestSteps:
    def test_sessions_do_not_mix(self) -> None:
        other = terms(session=bytes(31) + b"\1")
        with pytest.raises(ProtocolError, match="another session"):
            Answerer(other, THEIRS).answer(Asker(TERMS, OURS).ask())

    def test_parties_that_understood_other_terms_stop(self) -> None:
        for changes in ({"counted": 1}, {"both": 0}, {"purpose": bytes(31) + b"\1"}, {"asker": b"mill"}):
            with pytest.raises(ProtocolError, match="another session"):
                Answerer(terms(**changes), THEIRS).answer(Asker(TERMS, OURS).ask())

    def test_an_answer_to_an_earlier_question_finds_nothing(self) -> None:
        """Under the same terms, which callers do not use twice: numbers differ."""
        asker, answerer = Asker(TERMS, OURS), Answerer(TERMS, THEIRS)
        asker.ask()
        assert asker.read(answerer.answer(Asker(TERMS, OURS).ask())).count == 0

    def test_every_other_order_is_refused(self) -> None:
        asker, answerer = Asker(TERMS, OURS), Answerer(TERMS, THEIRS)
        with pytest.raises(ProtocolError, match="step by step"):
            asker.read(b"")
        with pytest.raises(ProtocolError, match="step by step"):
            asker.tell()
        with pytest.raises(ProtocolError, match="step by step"):
            answerer.read(b"")
        question = asker.ask()
        answer = answerer.answer(question)
        for again in (asker.ask, asker.tell, lambda: answerer.answer(question)):
            with pytest.raises(ProtocolError, match="step by step"):
                again()
        asker.read(answer)
        with pytest.raises(ProtocolError, match="step by step"):
            asker.read(answer)
        told = asker.tell()
        answerer.read(told)
        for last in (asker.tell, lambda: answerer.read(told)):
            with pytest.raises(ProtocolError, match="step by step"):
                last()

    def test_the_answerer_is_told_only_if_the_terms_say_so(self) -> None:
        agreed = terms(both=0)
        asker, answerer = Asker(agreed, OURS), Answerer(agreed, THEIRS)
        asker.read(answerer.answer(asker.ask()))
        for refused in (asker.tell, lambda: answerer.read(b"")):
            with pytest.raises(ProtocolError, match="the asker alone"):
                refused()

    def test_a_last_message_that_is_spoilt(self) -> None:
        asker, answerer = Asker(TERMS, OURS), Answerer(TERMS, THEIRS)
        asker.read(answerer.answer(asker.ask()))
        told = asker.tell()
        with pytest.raises(ProtocolError) as refused:
            answerer.read(told[:-1])
        assert refused.value.blame == 0
        with pytest.raises(ProtocolError, match="ends at an error"):
            answerer.read(told)


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector["name"])
def test_vectors(vector: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    agreed = IntersectionTerms.from_bytes(bytes.fromhex(vector["terms"]))
    drawn = iter([bytes.fromhex(each) for each in vector["drawn"]])
    monkeypatch.setattr(secrets, "token_bytes", lambda _: next(drawn))
    found, told, sent = run(agreed, *([text.encode() for text in vector[side]] for side in ("asker", "answerer")))
    assert [message.hex() for message in sent] == vector["messages"]
    assert found.count == vector["count"]
    assert [each.decode() for each in found.identifiers or ()] == vector["shared"]
    assert told == (found if agreed.both else None)
    assert next(drawn, None) is None
