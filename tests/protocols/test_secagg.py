"""Secure aggregation: exact whoever is lost, silent below the threshold, and a lie at any stage gains nothing."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from tests.protocols.conftest import CONTEXT, LENIENT, Session, Tamper, identities, terms_of

from discreet.errors import ProtocolError, SettingError, TermsRefused, TooFewLeft
from discreet.protocols import keys
from discreet.protocols.messages import Message
from discreet.protocols.ring import Ring
from discreet.protocols.secagg.client import Client
from discreet.protocols.secagg.server import Server
from discreet.protocols.secagg.terms import (
    Advertisement,
    Cohort,
    Confirmation,
    Confirmations,
    Delivery,
    Graph,
    Masked,
    Policy,
    Revealed,
    Shares,
    Stage,
    Survivors,
    Terms,
    advised,
)

Five = list[Ed25519PrivateKey]
STAGES = list(Stage)


def five_terms(five: Five, dims: int = 3) -> Terms:
    """Five clients, each the neighbour of all; three shares rebuild a secret, three vectors are a sum."""
    return terms_of(tuple(map(keys.public_bytes, five)), 20, dims, 4, 3, 3)


class TestLosses:
    @pytest.mark.parametrize("first", STAGES, ids=lambda stage: f"first-lost-at-{stage.name}")
    def test_every_pattern_on_five_clients_at_every_stage(
        self, five: Five, vectors: NDArray[np.int64], first: Stage
    ) -> None:
        """All 6^5: each client says nothing from some stage on, or is there to the end."""
        terms, outcomes = five_terms(five), set()
        for rest in product(STAGES, repeat=4):
            lost = dict(enumerate((first, *rest)))
            there = [sum(stage > each for stage in lost.values()) for each in STAGES[:-1]]
            session = Session(five, vectors, terms=replace(terms, session=os.urandom(32)))
            if min(there) < 3:
                with pytest.raises(TooFewLeft):
                    session.run(lost)
                outcomes.add("refused")
            else:
                alive = [seat for seat, stage in lost.items() if stage > Stage.MASK]
                assert (session.run(lost) == session.sum_of(alive)).all()
                assert session.server.alive == set(alive)
                assert not session.failed
                outcomes.add("summed")
        assert outcomes == {"refused", "summed"}

    @settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.too_slow])
    @given(seed=st.integers(0, 2**32), count=st.integers(3, 30), share=st.floats(0, 0.3))
    def test_any_number_of_clients(self, seed: int, count: int, share: float) -> None:
        random = np.random.default_rng(seed)
        vectors = random.integers(-500, 500, (count, 4))
        session = Session(identities(count), vectors)
        assert session.terms is not None
        gone = random.random(count) < share
        lost = {seat: STAGES[random.integers(0, 5)] for seat in np.flatnonzero(gone).tolist()}
        there = [sum(lost.get(seat, Stage.DONE) > stage for seat in range(count)) for stage in STAGES[:-1]]
        try:
            total = session.run(lost)
        except TooFewLeft:
            assert min(there) < max(session.terms.survivors, session.terms.threshold)
        else:
            assert (total == session.sum_of(session.server.alive)).all()

    def test_a_sparse_graph(self) -> None:
        """120 clients, 60 neighbours each, sixteen lost before their vector came or after."""
        random = np.random.default_rng(3)
        vectors = random.integers(-500, 500, (120, 4))
        people = identities(120)
        terms = terms_of(tuple(map(keys.public_bytes, people)), 20, 4, *advised(120, lost=0.2, colluding=0.1))
        session = Session(people, vectors, terms=terms)
        lost = {int(seat): STAGES[1 + number % 4] for number, seat in enumerate(random.permutation(120)[:16])}
        assert (session.run(lost) == session.sum_of(session.server.alive)).all()
        assert len(session.server.alive) == 120 - sum(stage <= Stage.MASK for stage in lost.values())


class TestGraphs:
    @given(count=st.integers(3, 140), half=st.integers(1, 40), seed=st.binary(min_size=32, max_size=32))
    @settings(max_examples=60, deadline=None)
    def test_neighbours_are_mutual_equal_in_number_and_set_by_the_cohort(
        self, count: int, half: int, seed: bytes
    ) -> None:
        degree = 2 * half
        terms = Terms(bytes(32), CONTEXT, bytes(32), 20, 1, degree, half + 1, 3)
        digests = {seat: hashlib.sha256(seed + bytes([seat])).digest() for seat in range(count)}
        graph = Graph.of(terms, digests)
        near = {seat: set(graph.neighbours(seat)) for seat in range(count)}
        for seat, others in near.items():
            assert seat not in others
            assert len(others) == min(degree, count - 1)
            assert all(seat in near[other] for other in others)
        assert Graph.of(terms, digests).digest == graph.digest
        assert Graph.of(terms, digests | {0: bytes(32)}).digest != graph.digest

    def test_advice(self) -> None:
        assert advised(3, colluding=0.0) == (2, 2, 3)
        assert advised(50, lost=0.3) == (50, 34, 35)
        assert advised(50, lost=0.3, colluding=0.0) == (50, 26, 35)
        assert advised(1000, lost=0.1) == (60, 39, 900)
        assert advised(100)[0] == 100
        assert advised(101)[0] == 60
        for clients, lost, colluding in (
            *((2, 0.0, 0.0), (10, 0.6, 0.0), (10, -0.1, 0.0), (9, 0.2, 0.9), (9, 0.0, -1.0), (9, float("nan"), 0.0)),
            (600, 0.25, None),  # some neighbourhood of six hundred would often be left with too few
        ):
            with pytest.raises(SettingError):
                advised(clients, lost=lost, colluding=colluding)


class TestWhatIsSeen:
    def test_what_the_server_is_sent_is_uniform_whatever_the_vector(self, five: Five) -> None:
        """Same session size, two very different vectors: residues of both even over 16 cells (1e-6 each)."""
        from scipy.stats import chi2

        dims = 40_000
        for value in (0, 200_000):
            seen: list[bytes] = []

            def note(stage: Stage, seat: int, content: bytes, seen: list[bytes] = seen) -> bytes:
                if stage is Stage.MASK and seat == 0:
                    seen.append(Masked.from_bytes(content, 1 << 20).content)
                return content

            Session(five, np.full((5, dims), value), terms=five_terms(five, dims), bits=20, up=note).run()
            counts = np.bincount(Ring(20, dims).unpack(seen[0]) >> 16, minlength=16)
            assert ((counts - dims / 16) ** 2 / (dims / 16)).sum() < chi2.isf(1e-6, 15)

    def test_nothing_repeats_between_sessions(self, five: Five, vectors: NDArray[np.int64]) -> None:
        """Same people, same vectors: no message of a session is in another, but for who is there."""
        said: list[set[bytes]] = [set(), set()]
        for each in said:

            def note(stage: Stage, seat: int, content: bytes, each: set[bytes] = each) -> bytes:
                each.add(content)
                return content

            Session(five, vectors, terms=five_terms(five), up=note).run()
        assert len(said[0]) == len(said[1]) == 25
        assert not said[0] & said[1]

    def test_no_text_shows_a_key(self, five: Five, vectors: NDArray[np.int64]) -> None:
        session = Session(five, vectors)
        session.run()
        client = Client(five[0], session.roster, LENIENT, five_terms(five), CONTEXT, Ring(20, 3))
        assert repr(client) == "Client(seat 0, ADVERTISE)"
        client.advertise()
        assert str(client) == "Client(seat 0, SHARE)"
        assert repr(session.server) == "Server(DONE, 0 expected)"

    def test_secrets_are_dropped_at_the_end_and_at_the_first_error(
        self, five: Five, vectors: NDArray[np.int64]
    ) -> None:
        session = Session(five, vectors)
        broken = Client(five[0], session.roster, LENIENT, five_terms(five), CONTEXT, Ring(20, 3))
        session.run()
        broken.advertise()
        with pytest.raises(ProtocolError):
            broken.share(b"nonsense")
        for client in (*session.clients.values(), broken):
            assert client.stage is Stage.DONE
            held = {name: value for name, value in vars(client).items() if name not in {"_identity", "_roster"}}
            assert not any(held.get(name) for name in ("_own", "_channel", "_masking", "_channels", "_masks", "_held"))


class TestClientsRefuse:
    """What a client insists on, whatever the server says."""

    def refused(self, five: Five, error: type[ProtocolError], says: str, **changes: Any) -> None:
        roster = tuple(map(keys.public_bytes, five))
        values: dict[str, Any] = {
            "policy": LENIENT,
            "terms": five_terms(five),
            "context": CONTEXT,
            "roster": roster,
            "ring": Ring(20, 3),
        } | changes
        with pytest.raises(error, match=says):
            Client(five[0], values["roster"], values["policy"], values["terms"], values["context"], values["ring"])

    def test_terms(self, five: Five) -> None:
        terms = five_terms(five)
        self.refused(five, TermsRefused, "another model, plan or round", context=bytes(32))
        self.refused(five, TermsRefused, "another roster", terms=replace(terms, roster=bytes(32)))
        others = tuple(map(keys.public_bytes, identities(5)))
        self.refused(five, TermsRefused, "another roster", roster=others)
        self.refused(five, TermsRefused, "sums of at least 4", policy=Policy(4, 4, 2, 0.0))
        for ring in (Ring(21, 3), Ring(20, 4)):
            self.refused(five, TermsRefused, "another model, plan or round", ring=ring)

    def test_policies_that_ask_for_nothing(self) -> None:
        for wrong in ({"survivors": 2}, {"cohort": 6}, {"neighbours": 1}, {"colluding": 1.0}):
            with pytest.raises(SettingError):
                Policy(**wrong)

    def test_a_cohort_below_its_minimum(self, five: Five, vectors: NDArray[np.int64]) -> None:
        session = Session(five, vectors, terms=five_terms(five), policy=Policy(5, 3, 2, 0.0))
        with pytest.raises(TooFewLeft):
            session.run({0: Stage.ADVERTISE})
        assert all("cohort of at least 5" in str(error) for error in session.failed.values())
        assert len(session.failed) == 4

    def test_too_few_neighbours(self) -> None:
        people = identities(9)
        terms = terms_of(tuple(map(keys.public_bytes, people)), 20, 1, 4, 3, 3)
        session = Session(people, np.zeros((9, 1), np.int64), terms=terms, policy=Policy(3, 3, 8, 0.0))
        with pytest.raises(TooFewLeft):
            session.run()
        assert all("at least 8 neighbours" in str(error) for error in session.failed.values())

    def test_each_stage_once_and_in_order(self, five: Five, vectors: NDArray[np.int64]) -> None:
        session = Session(five, vectors)
        client = session.clients[0]
        for call in (client.share, client.confirm, client.reveal):
            with pytest.raises(ProtocolError, match="asked of a client that is at ADVERTISE"):
                call(b"")
        client.advertise()
        with pytest.raises(ProtocolError, match="at SHARE"):
            client.advertise()

    def test_a_vector_that_does_not_fit_ends_its_part_and_nobody_elses(
        self, five: Five, vectors: NDArray[np.int64]
    ) -> None:
        vectors[2, 1] = 1 << 30
        session = Session(five, vectors, terms=five_terms(five))
        with pytest.raises(SettingError, match="wider ring"):
            session.run()
        assert session.clients[2].stage is Stage.DONE


def changed(kind: type[Message], change: Callable[[Any], Message], *seats: int) -> Tamper:
    """Return a server's lie: each message of a kind, to all or some seats, changed."""

    def tamper(stage: Stage, seat: int, content: bytes) -> bytes:
        if stage is not HEARD[kind] or (seats and seat not in seats):
            return content
        return change(kind.from_bytes(content, 1 << 24)).to_bytes()

    return tamper


def forged_key(told: Cohort) -> Cohort:
    """Replace a neighbour's keys by ones that the server knows, consistently; it cannot sign them."""
    fake = Advertisement(bytes([9]) + bytes(31), bytes([9]) + bytes(31), bytes(32), bytes(64))
    first = 1 if told.digests[0] != hashlib.sha256(told.advertisements[0]).digest() else 0
    digests = list(told.digests)
    digests[first] = fake.digest
    return replace(told, digests=tuple(digests), advertisements=(fake.to_bytes(), *told.advertisements[1:]))


HEARD: dict[type[Message], Stage] = {
    Cohort: Stage.SHARE,
    Delivery: Stage.MASK,
    Survivors: Stage.CONFIRM,
    Confirmations: Stage.REVEAL,
}
"""At which stage clients are sent what."""

LIES: list[tuple[str, type[Message], Callable[[Any], Message], str]] = [
    ("a key of a neighbour is the server's", Cohort, forged_key, "not those of the cohort|not signed"),
    (
        "its own keys are others",
        Cohort,
        lambda told: replace(told, digests=(bytes(32),) * 5),
        "not those that it advertised|not those of",
    ),
    ("a seat twice", Cohort, lambda told: replace(told, seats=(told.seats[0], *told.seats[:-1])), "at most once"),
    ("a seat that is none", Cohort, lambda told: replace(told, seats=(*told.seats[:-1], 99)), "at most once"),
    ("digests are short", Cohort, lambda told: replace(told, digests=(b"",) * 5), "32 bytes"),
    ("fewer digests", Cohort, lambda told: replace(told, digests=told.digests[1:]), "at most once"),
    (
        "neighbours are left out",
        Cohort,
        lambda told: replace(told, advertisements=told.advertisements[1:]),
        "not those of the cohort",
    ),
    (
        "a delivery of strangers",
        Delivery,
        lambda told: replace(told, seats=(*told.seats[:-1], 77)),
        "of neighbours alone",
    ),
    (
        "a delivery of itself",
        Delivery,
        lambda told: Delivery((0, 1, 2, 3, 4), (*told.contents, b"")),
        "of neighbours alone",
    ),
    (
        "a neighbour twice",
        Delivery,
        lambda told: replace(told, seats=(told.seats[1], *told.seats[1:])),
        "each neighbour once",
    ),
    (
        "too few deliveries",
        Delivery,
        lambda told: Delivery(told.seats[:1], told.contents[:1]),
        "1 neighbours are left",
    ),
    ("alive and dropped", Survivors, lambda told: replace(told, dropped=told.alive[:1]), "both alive and dropped"),
    ("unordered", Survivors, lambda told: replace(told, alive=told.alive[::-1]), "once each, in order"),
    ("one more dropped", Survivors, lambda told: replace(told, dropped=(9,)), "not those who shared"),
    (
        "one less",
        Survivors,
        lambda told: replace(told, alive=told.alive[:-1]),
        "not those who shared|said not to have come",
    ),
    (
        "all but two dropped",
        Survivors,
        lambda told: Survivors(told.alive[:2], told.alive[2:]),
        "vectors came|said not to have come",
    ),
    (
        "signatures of strangers",
        Confirmations,
        lambda told: replace(told, seats=(*told.seats[:-1], 88)),
        "neighbours that are alive",
    ),
    (
        "a signature twice",
        Confirmations,
        lambda told: replace(told, seats=(told.seats[1], *told.seats[1:])),
        "each neighbour once",
    ),
    (
        "too few signatures",
        Confirmations,
        lambda told: Confirmations(told.seats[:1], told.signatures[:1]),
        "1 neighbours are left",
    ),
    (
        "forged signatures",
        Confirmations,
        lambda told: replace(told, signatures=(bytes(64),) * len(told.seats)),
        "told of other survivors",
    ),
]


class TestLyingServers:
    @pytest.mark.parametrize(("kind", "lie", "says"), [lie[1:] for lie in LIES], ids=[lie[0] for lie in LIES])
    def test_a_lie_ends_with_every_client_that_hears_it(
        self, five: Five, vectors: NDArray[np.int64], kind: type[Message], lie: Any, says: str
    ) -> None:
        session = Session(five, vectors, terms=five_terms(five), down=changed(kind, lie))
        with pytest.raises(TooFewLeft):
            session.run()
        assert session.failed.keys() == set(range(5))
        for error in session.failed.values():
            assert any(part in str(error) for part in says.split("|")), error

    def test_a_few_who_are_cut_off_by_who_is_said_to_be_lost(self) -> None:
        """On a sparse graph a server that chooses who is lost could leave a few whose sum stands alone: they see it."""
        people = identities(140)
        terms = terms_of(tuple(map(keys.public_bytes, people)), 20, 1, 20, 13, 60)
        session = Session(people, np.ones((140, 1), np.int64), terms=terms)

        def cut(stage: Stage, seat: int, content: bytes) -> bytes:
            if stage is not Stage.CONFIRM:
                return content
            ring = vars(session.server)["_graph"].ring
            flanks = set(ring[:10]) | set(ring[21:31])
            told = Survivors.from_bytes(content)
            return Survivors(tuple(each for each in told.alive if each not in flanks), tuple(sorted(flanks))).to_bytes()

        session.down = cut
        with pytest.raises(TooFewLeft):
            session.run()
        assert len(session.failed) == 140
        assert all("cut off" in str(error) or "not to have come" in str(error) for error in session.failed.values())

    def test_a_few_to_whom_nobody_else_is_delivered(self) -> None:
        """The same without a word of the lost: the few hear of one another alone, and are told of many others alive."""
        people = identities(140)
        terms = terms_of(tuple(map(keys.public_bytes, people)), 20, 1, 20, 13, 60)
        session = Session(people, np.ones((140, 1), np.int64), terms=terms)

        def cut(stage: Stage, seat: int, content: bytes) -> bytes:
            ring = vars(session.server)["_graph"].ring if stage > Stage.ADVERTISE else ()
            few = set(ring[10:31])
            if stage is Stage.MASK and seat in few:
                told = Delivery.from_bytes(content)
                kept = [(of, each) for of, each in zip(told.seats, told.contents, strict=True) if of in few]
                return Delivery(tuple(of for of, _ in kept), tuple(each for _, each in kept)).to_bytes()
            if stage is Stage.CONFIRM and seat in few:
                flanks = set(ring[:10]) | set(ring[31:41])
                return Survivors(tuple(sorted(set(range(140)) - flanks)), ()).to_bytes()
            return content

        session.down = cut
        with pytest.raises(TooFewLeft):
            session.run()
        few = set(vars(session.server)["_graph"].ring[10:31])
        assert few <= session.failed.keys()

    @pytest.mark.parametrize("threshold", [3, 4])
    def test_with_two_thirds_asked_for_half_is_refused(
        self, five: Five, vectors: NDArray[np.int64], threshold: int
    ) -> None:
        """With three of five shares one colluding client could sign two lists; with four of five it gains nothing."""
        roster = tuple(map(keys.public_bytes, five))
        terms = terms_of(roster, 20, 3, 4, threshold, 4)
        session = Session(five, vectors, terms=terms, policy=Policy(4, 4, 2))
        if threshold == 4:
            assert (session.run() == session.sum_of(range(5))).all()
        else:
            with pytest.raises(TooFewLeft):
                session.run()
            assert all("threshold of at least 4" in str(error) for error in session.failed.values())

    def test_one_victim_said_to_be_alive_to_some_and_dropped_to_others(self, five: Five) -> None:
        """The attack on a list that nobody signs: with three shares of each kind the victim's vector would be bare.

        Seats 1 and 2 are told that 0 dropped, 3 and 4 that it is alive. Each side signs what it was told; whatever
        signatures the server passes on, seats 1 and 2 have too few of their own list, and reveal nothing.
        """
        said: dict[int, bytes] = {}

        def note(stage: Stage, seat: int, content: bytes) -> bytes:
            if stage is Stage.CONFIRM:
                said[seat] = Confirmation.from_bytes(content).signature
            return content

        session = Session(
            five,
            np.full((5, 3), 7),
            terms=five_terms(five),
            up=note,
            down=changed(Survivors, lambda told: Survivors(told.alive[1:], (0,)), 1, 2),
        )
        assert (session.run() == 35).all()  # of seats 0, 3 and 4 the honest end of the story
        assert session.failed.keys() == {1, 2}
        for victim, others, says in ((1, (2,), "1 neighbours are left"), (2, (1, 3), "told of other survivors")):
            assert session.clients[victim].stage is Stage.REVEAL
            with pytest.raises(ProtocolError, match=says):
                session.clients[victim].reveal(Confirmations(others, tuple(said[seat] for seat in others)).to_bytes())

    def test_split_views_of_the_cohort_do_not_decrypt_each_other(self, five: Five, vectors: NDArray[np.int64]) -> None:
        """To seat 0 the server shows a cohort without seat 4; what 0 seals, nobody with another view can open."""

        def without_last(told: Cohort) -> Cohort:
            return Cohort(told.seats[:-1], told.digests[:-1], told.advertisements[:-1])

        session = Session(five, vectors, terms=five_terms(five), down=changed(Cohort, without_last, 0))
        with pytest.raises(TooFewLeft):
            session.run({4: Stage.SHARE, 3: Stage.SHARE})
        blamed = session.failed[0]
        assert "shares are one for each neighbour" in str(blamed)

    def test_replayed_advertisements_are_of_another_session(self, five: Five, vectors: NDArray[np.int64]) -> None:
        first = Session(five, vectors, terms=five_terms(five))
        stale = first.clients[1].advertise()
        second = Session(five, vectors, terms=five_terms(five))
        with pytest.raises(ProtocolError, match="not signed by its seat for this session") as refused:
            second.server.take(1, stale)
        assert refused.value.blame == 1


class TestLyingClients:
    def test_forged_shares_are_found_out_and_others_are_tried(self, five: Five, vectors: NDArray[np.int64]) -> None:
        def lie(stage: Stage, seat: int, content: bytes) -> bytes:
            if stage is Stage.REVEAL and seat == 1:
                told = Revealed.from_bytes(content)
                return replace(told, shares=tuple(bytes(33) for _ in told.shares)).to_bytes()
            return content

        session = Session(five, vectors, terms=five_terms(five), up=lie)
        assert (session.run({4: Stage.MASK}) == session.sum_of([0, 1, 2, 3])).all()

    def test_where_too_many_lie_nothing_is_released(self, five: Five, vectors: NDArray[np.int64]) -> None:
        def lie(stage: Stage, seat: int, content: bytes) -> bytes:
            if stage is Stage.REVEAL and seat in {1, 2, 3}:
                told = Revealed.from_bytes(content)
                return replace(told, shares=tuple(bytes(33) for _ in told.shares)).to_bytes()
            return content

        for lost in ({}, {4: Stage.MASK}):
            with pytest.raises(ProtocolError, match="forged"):
                Session(five, vectors, terms=five_terms(five), up=lie).run(lost)

    def test_forged_shares_of_a_lost_clients_key(self, five: Five, vectors: NDArray[np.int64]) -> None:
        def lie(stage: Stage, seat: int, content: bytes) -> bytes:
            if stage is Stage.REVEAL and seat in {1, 2, 3}:
                told = Revealed.from_bytes(content)
                told_of = zip(told.seats, told.shares, strict=True)
                forged = [bytes([0, seat]) * 16 + b"x" if of == 4 else share for of, share in told_of]
                return replace(told, shares=tuple(forged)).to_bytes()
            return content

        session = Session(five, vectors, terms=five_terms(five), up=lie)
        with pytest.raises(ProtocolError, match="shares of a lost client's key were forged") as refused:
            session.run({4: Stage.MASK})
        assert refused.value.blame is None  # whose share was forged is not known

    def test_a_key_that_is_none_where_all_neighbours_lie(self, five: Five, vectors: NDArray[np.int64]) -> None:
        """Honest neighbours would have stopped; the server does not break on it."""
        session = Session(five, vectors, terms=five_terms(five))
        session.run()
        told = session.server._advertised
        told[1] = replace(told[1], masking=bytes(32))
        with pytest.raises(ProtocolError, match="keys are none") as refused:
            session.server._mask(X25519PrivateKey.generate(), 0, 1)
        assert refused.value.blame == 1

    def test_shares_out_of_the_field_are_passed_over(self, five: Five, vectors: NDArray[np.int64]) -> None:
        def lie(stage: Stage, seat: int, content: bytes) -> bytes:
            if stage is Stage.REVEAL and seat == 0:
                told = Revealed.from_bytes(content)
                return replace(told, shares=tuple(b"\xff" * 33 for _ in told.shares)).to_bytes()
            return content

        session = Session(five, vectors, terms=five_terms(five), up=lie)
        assert (session.run() == session.sum_of(range(5))).all()

    def test_sealed_nonsense_costs_its_sender_alone(self, five: Five, vectors: NDArray[np.int64]) -> None:
        def lie(stage: Stage, seat: int, content: bytes) -> bytes:
            if stage is Stage.SHARE and seat == 1:
                told = Shares.from_bytes(content)
                return Shares(tuple(bytes(len(each)) for each in told.contents)).to_bytes()
            return content

        session = Session(five, vectors, terms=five_terms(five), up=lie)
        with pytest.raises(TooFewLeft, match="1 shares of a secret came"):
            session.run()
        assert not session.failed

    @pytest.mark.parametrize("stage", STAGES[:-1], ids=lambda stage: stage.name)
    @pytest.mark.parametrize("harm", ["empty", "short", "long", "other", "huge"])
    def test_damaged_messages_cost_their_sender_alone(
        self, five: Five, vectors: NDArray[np.int64], stage: Stage, harm: str
    ) -> None:
        def lie(at: Stage, seat: int, content: bytes) -> bytes:
            if at is not stage or seat != 2:
                return content
            other = bytes([content[0], content[1] % 10 + 1]) + content[2:]
            return {
                "empty": b"",
                "short": content[:-1],
                "long": content + b"x",
                "other": other,
                "huge": bytes(1 << 21),
            }[harm]

        session = Session(five, vectors, terms=five_terms(five), up=lie)
        total = session.run()
        assert session.failed.keys() == {2}
        assert session.failed[2].blame == 2
        assert (total == session.sum_of(session.server.alive)).all()

    def test_whoever_speaks_twice_or_out_of_turn(self, five: Five, vectors: NDArray[np.int64]) -> None:
        session = Session(five, vectors, terms=five_terms(five))
        first = session.clients[0].advertise()
        session.server.take(0, first)
        for seat in (0, 5, -1):
            with pytest.raises(ProtocolError, match="nothing is expected"):
                session.server.take(seat, first)

    @pytest.mark.parametrize("shares", [((9,), (bytes(33),)), ((0, 1), (bytes(33),)), ((), (bytes(33),))])
    def test_shares_of_strangers(
        self, five: Five, vectors: NDArray[np.int64], shares: tuple[tuple[int, ...], tuple[bytes, ...]]
    ) -> None:
        def lie(stage: Stage, seat: int, content: bytes) -> bytes:
            return Revealed(*shares).to_bytes() if stage is Stage.REVEAL and seat == 1 else content

        session = Session(five, vectors, terms=five_terms(five), up=lie)
        assert (session.run() == session.sum_of(range(5))).all()
        assert "neighbours that shared" in str(session.failed[1])

    def test_a_vector_of_anything_moves_the_sum_by_itself_alone(self, five: Five, vectors: NDArray[np.int64]) -> None:
        """What the mask hides from the server it hides of liars, too: bounds are the clients' own (``client.md``)."""
        session = Session(five, vectors, terms=five_terms(five))
        honest = session.sum_of(range(5))
        session.vectors = vectors.copy()
        session.vectors[1] += 100_000
        assert (session.run() == honest + 100_000).all()

    @pytest.mark.parametrize("none", [{"masking": bytes(32)}, {"channel": bytes(32)}, {"channel": b"short"}])
    def test_keys_that_are_none_cost_their_sender_alone(
        self, five: Five, vectors: NDArray[np.int64], none: dict[str, bytes]
    ) -> None:
        """The all-zero point has a shared secret of zero with everybody: neighbours that heard of it would all stop."""
        session = Session(five, vectors, terms=five_terms(five), up=self.with_keys(five, none, lambda: session.terms))
        assert (session.run() == session.sum_of([0, 2, 3, 4])).all()
        assert session.failed.keys() == {1}
        assert session.failed[1].blame == 1

    def test_keys_that_are_none_and_come_through_a_server(
        self, five: Five, vectors: NDArray[np.int64], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """It is signed, so its owner is to blame, whoever passed it on."""
        real = keys.agreed

        def lenient(mine: X25519PrivateKey, theirs: bytes, transcript: bytes, purpose: bytes) -> bytes | None:
            return b"taken" if purpose == b"trial" else real(mine, theirs, transcript, purpose)

        monkeypatch.setattr(keys, "agreed", lenient)
        up = self.with_keys(five, {"masking": bytes(32)}, lambda: session.terms)
        session = Session(five, vectors, terms=five_terms(five), up=up)
        with pytest.raises(TooFewLeft):
            session.run()
        assert {error.blame for seat, error in session.failed.items() if seat != 1} == {1}

    @staticmethod
    def with_keys(five: Five, none: dict[str, bytes], terms: Callable[[], Terms | None]) -> Tamper:
        """Return a lie of client 1 about its keys, signed as it should be."""

        def lie(stage: Stage, seat: int, content: bytes) -> bytes:
            if stage is Stage.ADVERTISE and seat == 1:
                told, agreed = replace(Advertisement.from_bytes(content), **none), terms()
                assert agreed is not None
                return replace(told, signature=five[1].sign(told.signed(agreed))).to_bytes()
            return content

        return lie


class TestServers:
    def test_another_roster(self, five: Five) -> None:
        with pytest.raises(SettingError, match="another roster"):
            Server(tuple(map(keys.public_bytes, identities(5))), five_terms(five))

    def test_stages_are_closed_in_order(self, five: Five, vectors: NDArray[np.int64]) -> None:
        session = Session(five, vectors, terms=five_terms(five))
        with pytest.raises(ProtocolError, match="nothing to unmask"):
            session.server.unmask()
        session.run()
        for call in (session.server.close, session.server.unmask):
            with pytest.raises(ProtocolError):
                call()
        with pytest.raises(ProtocolError, match="nothing is expected"):
            session.server.take(0, b"")

    def test_how_long_a_message_may_be(self, five: Five, vectors: NDArray[np.int64]) -> None:
        session = Session(five, vectors, terms=five_terms(five))
        assert session.server.most == 1 << 20
        for seat in range(5):
            session.server.take(seat, session.clients[seat].advertise())
        sent = session.server.close()
        for seat in range(5):
            session.server.take(seat, session.clients[seat].share(sent[seat].to_bytes()))
        session.server.close()
        assert session.server.most == Ring(20, 3).size + 16


DERIVED = json.loads((Path(__file__).parent / "vectors/derivation.json").read_text())


@pytest.mark.parametrize("vector", DERIVED, ids=lambda vector: vector["name"])
def test_keys_are_derived_as_they_were(vector: dict[str, str]) -> None:
    """Parties of different versions would not understand each other without a word of warning."""
    secret, transcript, purpose = (bytes.fromhex(vector[name]) for name in ("secret", "transcript", "purpose"))
    assert keys.derived(secret, transcript, purpose).hex() == vector["key"]
