"""Between organisations over HTTPS: what is found, who may ask and how often, and what dies, lies or is replayed."""

from __future__ import annotations

import gc
import hashlib
import http.client
import json
import math
import os
import re
import secrets
import shlex
import signal
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from fastapi import FastAPI, Response
from serving import running

from discreet.cli.processes import Process, free_port, start, stopping
from discreet.client.wire import Denied, Over, TooOften, Wire
from discreet.data.catalogue import Catalogue
from discreet.data.interactions import Histories
from discreet.errors import EngineLost, FileNotWritten, ProtocolError, SettingError, TooFewLeft
from discreet.evaluation.tradeoff import fit_unbilled
from discreet.inference import ensemble as alone
from discreet.inference.ensemble import Member, agreement
from discreet.models.recipe import Kind
from discreet.models.trained import Trained
from discreet.protocols.ensemble import Agreement
from discreet.protocols.intersection import HEAD_BYTES, Answerer, Asker, Found, IntersectionTerms
from discreet.protocols.keys import public_bytes, request_text
from discreet.service import ensembles as members
from discreet.service import http as limits
from discreet.service import intersections as service
from discreet.service.certificates import certify_loopback
from discreet.service.ensembles import Ensemble, Question, ensembles
from discreet.service.http import application
from discreet.service.intersections import intersect, intersections
from discreet.service.listening import Address
from discreet.testing import check_recommender

BANK, OTHER = Ed25519PrivateKey.generate(), Ed25519PrivateKey.generate()
OURS = [b"ada@x", b"bob@x", b"eve@x", b"\xff\x00"]
THEIRS = [b"eve@x", b"\xff\x00", b"zoe@x"]
SHARED = (b"eve@x", b"\xff\x00")
ROOT = "/intersections/v1"


def terms(**changes: Any) -> IntersectionTerms:
    agreed: dict[str, Any] = {"purpose": bytes(32), "asker": b"bank", "answerer": b"shop", "both": 0, "counted": 0}
    return IntersectionTerms(
        **{"session": secrets.token_bytes(32)} | agreed | {"asker_size": 6, "answerer_size": 5} | changes
    )


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return certify_loopback(tmp_path_factory.mktemp("tls"))


@contextmanager
def listening(app: FastAPI, tls: tuple[Path, Path]) -> Iterator[str]:
    address = Address(port=free_port(), certificate=tls[0], key=tls[1])
    with running(address.serving(app), address):
        yield f"https://127.0.0.1:{address.port}"


@dataclass
class Shop:
    """The organisation that answers, and what it has learnt."""

    url: str
    ca: Path
    learnt: list[Found | None]

    def wire(self, identity: Ed25519PrivateKey | None = BANK, patience: float = 5.0) -> Wire:
        return Wire(self.url, identity, ca=self.ca, patience=patience)


@contextmanager
def shop(tls: tuple[Path, Path], agreed: IntersectionTerms | None = None, **settings: Any) -> Iterator[Shop]:
    learnt: list[Found | None] = []
    settings = {"learn": learnt.append} | settings
    with listening(intersections(agreed or terms(), THEIRS, public_bytes(BANK), **settings), tls) as url:
        yield Shop(url, tls[0], learnt)


@pytest.fixture(scope="module")
def standing(tls: tuple[Path, Path]) -> Iterator[Shop]:
    """One that many tests ask; the terms tell both."""
    with shop(tls, terms(both=1), per_day=1_000) as made:
        yield made


def signed(method: str, path: str, content: bytes, digest: bytes | None = None) -> dict[str, str]:
    digest = digest or hashlib.sha256(content).digest()
    return {"Authorization": f"Discreet {digest.hex()} {BANK.sign(request_text(method, path, digest)).hex()}"}


def asked(
    url: str, ca: Path, method: str, path: str, content: bytes | None = None, headers: dict[str, str] | None = None
) -> tuple[int, str]:
    """Ask; return the status, and of what kind the problem is."""
    context = ssl.create_default_context(cafile=str(ca))
    host, port = url.removeprefix("https://").split(":")
    with closing(http.client.HTTPSConnection(host, int(port), timeout=30, context=context)) as connection:
        connection.request(method, path, content, headers or {})
        answer = connection.getresponse()
        told = answer.read()
        problem = answer.headers.get_content_type() == "application/problem+json"
        return answer.status, json.loads(told)["type"].removeprefix("urn:discreet:") if problem else ""


class TestIntersections:
    @pytest.mark.parametrize(("both", "counted"), [(0, 0), (0, 1), (1, 0), (1, 1)])
    def test_each_learns_what_the_terms_say(self, both: int, counted: int, tls: tuple[Path, Path]) -> None:
        agreed = terms(both=both, counted=counted)
        with shop(tls, agreed) as there:
            found = intersect(agreed, OURS, there.wire())
        wanted = Found(2, None if counted else SHARED)
        assert found == wanted
        assert there.learnt == [wanted if both else None]

    def test_several_at_once_each_get_their_own(self, standing: Shop) -> None:
        found: dict[bytes, Found] = {}

        def ask(own: bytes) -> None:
            found[own] = intersect(terms(both=1), [own, b"nobody"], standing.wire())

        threads = [threading.Thread(target=ask, args=(own,)) for own in [*THEIRS, b"a stranger"]]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert {own: each.identifiers for own, each in found.items()} == {
            **{own: (own,) for own in THEIRS},
            b"a stranger": (),
        }

    def test_a_long_computation_is_waited_for(self, standing: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
        """Not for ever; the other side goes on, and the answer may still be fetched."""
        monkeypatch.setattr(service, "WAIT", 0.05)
        held, agreed = threading.Event(), terms(both=1)

        class Slow(Answerer):
            def answer(self, question: bytes) -> bytes:
                held.wait(30)
                return super().answer(question)

        monkeypatch.setattr(service, "Answerer", Slow)
        with pytest.raises(EngineLost, match="no answer within 0 seconds"):
            intersect(agreed, OURS, standing.wire(), longest=0.0)
        held.set()
        assert standing.wire().wait(f"{ROOT}/{agreed.session.hex()}/answer")

    def test_what_a_session_could_not_go_on_with_is_refused_at_the_start(self) -> None:
        with pytest.raises(SettingError, match="more than the 2"):
            intersections(terms(answerer_size=2), THEIRS, public_bytes(BANK))
        with pytest.raises(SettingError, match="twice"):
            intersections(terms(), [b"x", b"x"], public_bytes(BANK))

    def test_nothing_is_logged(
        self, tls: tuple[Path, Path], capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
    ) -> None:
        agreed = terms()
        place = f"{ROOT}/{agreed.session.hex()}"
        question = f"{place}/question"
        said = signed("PUT", question, b"eve@x")
        with shop(tls, lasting=1.0) as there:
            intersect(terms(), OURS, there.wire())
            with pytest.raises(Over):
                there.wire().put(question, b"eve@x")
            there.wire().put(place, agreed.to_bytes())
            until = time.monotonic() + 30  # nobody asks what came of it, until it is forgotten
            while asked(there.url, there.ca, "PUT", question, b"eve@x", said)[0] == 204:
                assert time.monotonic() < until
                time.sleep(0.05)
            gc.collect()
            asked(there.url, there.ca, "PUT", f"{ROOT}/eve@x", b"eve@x")
        told = capfd.readouterr()
        assert told.out + told.err == ""
        assert not caplog.records

    def test_of_a_defect_a_line_is_logged_that_quotes_nobody(
        self, tls: tuple[Path, Path], capfd: pytest.CaptureFixture[str]
    ) -> None:
        """Which shows, too, that the test above sees what is logged."""
        app = application("broken", {})

        @app.get("/{path:path}")
        async def fail(path: str) -> Response:
            raise RuntimeError(path)

        with listening(app, tls) as url:
            assert asked(url, tls[0], "GET", "/eve@x")[0] == 500
        told = capfd.readouterr().err
        assert "a request failed: RuntimeError at test_between.py:" in told
        assert "eve" not in told
        assert "Traceback" not in told


class TestWhoMayAsk:
    def test_another_organisation_may_not(self, standing: Shop) -> None:
        with pytest.raises(Denied, match="401") as denied:
            intersect(terms(both=1), OURS, standing.wire(OTHER))
        assert denied.value.status == 401

    @pytest.mark.parametrize(
        ("method", "path"), [("PUT", ""), ("PUT", "/question"), ("GET", "/answer"), ("PUT", "/end")]
    )
    def test_every_request_is_signed(self, method: str, path: str, standing: Shop) -> None:
        """Otherwise nobody learns whether there is such a session."""
        place = f"{ROOT}/{'0' * 64}{path}"
        for headers in (
            {},
            {"Authorization": "Discreet"},
            {"Authorization": "Discreet x y"},
            {"Authorization": f"Discreet {'0' * 64} {'0' * 128}"},
            {"Authorization": signed(method, place, b"")["Authorization"].replace("Discreet", "Basic")},
            signed(method, place + "x", b""),
            signed("POST", place, b""),
        ):
            assert asked(standing.url, standing.ca, method, place, None, headers) == (401, "not-signed")

    def test_another_body_than_was_signed(self, standing: Shop) -> None:
        agreed = terms(both=1)
        place = f"{ROOT}/{agreed.session.hex()}"
        found = asked(standing.url, standing.ca, "PUT", place, agreed.to_bytes(), signed("PUT", place, b"another"))
        assert found == (401, "not-signed")

    @pytest.mark.parametrize(
        "changes",
        [
            {"purpose": bytes(31) + b"\1"},
            {"asker": b"another bank"},
            {"answerer": b"another shop"},
            {"asker_size": 7},
            {"answerer_size": 4},
            {"both": 0},
            {"counted": 1},
        ],
    )
    def test_other_terms_are_refused(self, changes: dict[str, Any], standing: Shop) -> None:
        with pytest.raises(Denied, match="another purpose, other names or sizes") as denied:
            intersect(terms(**{"both": 1} | changes), OURS, standing.wire())
        assert denied.value.status == 403

    def test_a_session_has_its_own_name(self, standing: Shop) -> None:
        with pytest.raises(Denied, match="403"):
            standing.wire().put(f"{ROOT}/{'0' * 64}", terms(both=1).to_bytes())

    def test_so_many_sessions_a_day(self, tls: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
        """Also if they were never ended; what is refused by its terms is not one of them."""
        with shop(tls, per_day=2) as there:
            with pytest.raises(Denied, match="403"):
                intersect(terms(counted=1), OURS, there.wire())
            kept = terms()
            for _ in range(3):  # three times the same is one
                there.wire().put(f"{ROOT}/{kept.session.hex()}", kept.to_bytes())
            intersect(terms(), OURS, there.wire())
            with pytest.raises(TooOften, match="asked too often; ask again in 1,440 minutes") as denied:
                intersect(terms(), OURS, there.wire())
            assert denied.value.status == 429
            assert intersect(kept, OURS, there.wire()).count == 2
            monkeypatch.setattr(limits, "DAY", 0.0)
            assert intersect(terms(), OURS, there.wire()).count == 2


class TestSteps:
    """Of a session of its own each, step by step."""

    @pytest.fixture
    def begun(self, standing: Shop) -> tuple[Wire, str, Asker]:
        agreed = terms(both=1)
        place = f"{ROOT}/{agreed.session.hex()}"
        standing.wire().put(place, agreed.to_bytes())
        return standing.wire(), place, Asker(agreed, OURS)

    def test_the_same_twice_counts_once(self, begun: tuple[Wire, str, Asker], standing: Shop) -> None:
        wire, place, asker = begun
        before, question = len(standing.learnt), asker.ask()
        for _ in range(2):
            wire.put(f"{place}/question", question)
        answers = [wire.wait(f"{place}/answer") for _ in range(2)]
        assert answers[0] == answers[1]
        wire.put(f"{place}/question", question)
        asker.read(answers[0])
        told = asker.tell()
        for _ in range(2):
            wire.put(f"{place}/end", told)
        assert standing.learnt[before:] == [Found(2, SHARED)]

    def test_what_is_over_stays_over(self, begun: tuple[Wire, str, Asker], standing: Shop) -> None:
        wire, place, asker = begun
        question = asker.ask()
        wire.put(f"{place}/question", question)
        asker.read(wire.wait(f"{place}/answer"))
        told = asker.tell()
        wire.put(f"{place}/end", told)
        content = replace(terms(both=1), session=bytes.fromhex(place.removeprefix(f"{ROOT}/"))).to_bytes()
        for step, again in (("", content), ("/question", question), ("/end", told[:-1])):
            with pytest.raises(Over):
                wire.put(place + step, again)
        with pytest.raises(Over):
            wire.get(f"{place}/answer")
        assert asked(standing.url, standing.ca, "PUT", place, content, signed("PUT", place, content)) == (410, "over")

    def test_another_question_is_refused(self, begun: tuple[Wire, str, Asker]) -> None:
        """The first one is answered all the same."""
        wire, place, asker = begun
        wire.put(f"{place}/question", asker.ask())
        other = replace(terms(both=1), session=bytes.fromhex(place.removeprefix(f"{ROOT}/")))
        with pytest.raises(Denied, match="one message of each step"):
            wire.put(f"{place}/question", Asker(other, [b"guess"]).ask())
        assert asker.read(wire.wait(f"{place}/answer")).identifiers == SHARED

    def test_out_of_turn(self, begun: tuple[Wire, str, Asker]) -> None:
        wire, place, _ = begun
        with pytest.raises(Denied, match="nothing was asked"):
            wire.get(f"{place}/answer")
        with pytest.raises(Denied, match="step by step"):
            wire.put(f"{place}/end", b"told")

    @pytest.mark.parametrize("content", [b"", b"junk", bytes(HEAD_BYTES + 6 * 32)])
    def test_what_is_no_question(self, content: bytes, begun: tuple[Wire, str, Asker]) -> None:
        wire, place, _ = begun
        wire.put(f"{place}/question", content)
        for _ in range(2):
            with pytest.raises(Denied, match="400"):
                wire.wait(f"{place}/answer")

    def test_a_point_that_is_none(self, begun: tuple[Wire, str, Asker]) -> None:
        wire, place, asker = begun
        wire.put(f"{place}/question", asker.ask()[:-36] + b"\xff" * 32 + bytes(4))
        with pytest.raises(Denied, match="not in the group"):
            wire.wait(f"{place}/answer")

    def test_of_another_session(self, begun: tuple[Wire, str, Asker]) -> None:
        wire, place, _ = begun
        wire.put(f"{place}/question", Asker(terms(both=1), OURS).ask())
        with pytest.raises(Denied, match="another session"):
            wire.wait(f"{place}/answer")

    @pytest.mark.parametrize(("step", "most"), [("question", HEAD_BYTES + 6 * 32), ("end", HEAD_BYTES + 5 * 32)])
    def test_more_than_the_terms_announce_is_not_read(
        self, step: str, most: int, begun: tuple[Wire, str, Asker], standing: Shop
    ) -> None:
        _, place, _ = begun
        place, content = f"{place}/{step}", bytes(most + 1)
        said = signed("PUT", place, content)
        assert asked(standing.url, standing.ca, "PUT", place, content, said) == (413, "too-large")
        told = said | {"Content-Length": str(1 << 30)}
        assert asked(standing.url, standing.ca, "PUT", place, b"", told) == (413, "too-large")

    def test_at_the_end_nothing_is_told_where_the_asker_alone_learns(self, tls: tuple[Path, Path]) -> None:
        agreed = terms()
        place = f"{ROOT}/{agreed.session.hex()}"
        with shop(tls) as there:
            there.wire().put(place, agreed.to_bytes())
            with pytest.raises(Denied, match="413"):
                there.wire().put(f"{place}/end", b"x")

    def test_what_nobody_ends_is_forgotten(self, tls: tuple[Path, Path]) -> None:
        agreed = terms()
        place = f"{ROOT}/{agreed.session.hex()}"
        with shop(tls, lasting=0.3) as there:
            there.wire().put(place, agreed.to_bytes())
            until = time.monotonic() + 30
            while asked(there.url, there.ca, "GET", f"{place}/answer", None, signed("GET", f"{place}/answer", b"")) != (
                410,
                "over",
            ):
                assert time.monotonic() < until
                time.sleep(0.05)
            with pytest.raises(Over):
                there.wire().put(place, agreed.to_bytes())
            with pytest.raises(Over, match="knows this session no more"):
                intersect(agreed, OURS, there.wire())

    def test_what_is_forgotten_is_computed_no_further(
        self, tls: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        agreed, going, ended = terms(), threading.Event(), threading.Event()
        question, place = Asker(agreed, OURS).ask(), f"{ROOT}/{agreed.session.hex()}"

        def slowly(self: Any, function: Callable[[Any], Any], values: Sequence[bytes]) -> list[bytes]:
            going.set()
            try:
                assert list(self._apply(lambda _: time.sleep(0.01), [values] * 10_000)), function
            finally:
                ended.set()
            return []

        with shop(tls, lasting=0.5) as there:
            monkeypatch.setattr("discreet.protocols.intersection._Side._applied", slowly)
            there.wire().put(place, agreed.to_bytes())
            there.wire().put(f"{place}/question", question)
            with pytest.raises(ProtocolError, match="over"):
                there.wire().wait(f"{place}/answer")
            assert going.is_set()
            assert ended.wait(10)

    def test_what_cannot_be_written_there_is_no_end(self, tls: tuple[Path, Path]) -> None:
        def full(found: Found | None) -> None:
            del found
            raise FileNotWritten("out: cannot be written: the disk is full")

        agreed = terms(both=1)
        with shop(tls, agreed, learn=full) as there, pytest.raises(EngineLost, match="500"):
            intersect(agreed, OURS, there.wire(patience=0.3))

    def test_an_answerer_that_lies(self, tls: tuple[Path, Path]) -> None:
        app = application("liar", {})

        @app.put("/{path:path}")
        async def take(path: str) -> Response:
            return Response(path, 204)

        @app.get("/{path:path}")
        async def say(path: str) -> Response:
            return Response(bytes(HEAD_BYTES + (5 + 6) * 32 + ("long" in path)))

        with listening(app, tls) as url:
            with pytest.raises(ProtocolError, match="of kind Points"):
                intersect(terms(), OURS, Wire(url, BANK, ca=tls[0], patience=1))
            with pytest.raises(ProtocolError, match="more than a message may have"):
                intersect(terms(answerer_size=4), OURS, Wire(url, BANK, ca=tls[0], patience=1))


@pytest.fixture(scope="module")
def models(histories: Histories) -> list[Trained]:
    people = np.arange(len(histories.people_ids))
    kinds: tuple[Kind, ...] = ("popularity", "gram", "als")
    return [fit_unbilled(histories.take(people[people % 3 != at]), math.inf, kind) for at, kind in enumerate(kinds)]


KEYS = [X25519PrivateKey.generate() for _ in range(3)]
WEIGHTS = (3, 1, 2)


@pytest.fixture(scope="module")
def agreed(models: list[Trained]) -> Agreement:
    return agreement(models[0].catalogue, list(map(public_bytes, KEYS)), WEIGHTS)


@dataclass
class Together:
    """Three members over TLS."""

    agreed: Agreement
    urls: list[str]
    ca: Path

    def wires(self, identity: Ed25519PrivateKey = BANK, patience: float = 5.0) -> list[Wire]:
        return [Wire(url, identity, ca=self.ca, patience=patience) for url in self.urls]

    def place(self, seat: int) -> str:
        return f"{members.ROOT}/{self.agreed.digest.hex()}/{seat}"


@contextmanager
def together(
    agreed: Agreement, models: Sequence[Trained], tls: tuple[Path, Path], **settings: Any
) -> Iterator[Together]:
    with ExitStack() as stack:
        peers = (public_bytes(BANK), public_bytes(OTHER))
        urls = [
            stack.enter_context(listening(ensembles(Member(model, agreed, key), peers, **settings), tls))
            for model, key in zip(models, KEYS, strict=True)
        ]
        yield Together(agreed, urls, tls[0])


@pytest.fixture(scope="module")
def there(agreed: Agreement, models: list[Trained], tls: tuple[Path, Path]) -> Iterator[Together]:
    with together(agreed, models, tls, per_day=10_000) as made:
        yield made


class TestEnsembles:
    def test_keeps_the_contract_over_https(self, there: Together, models: list[Trained], histories: Histories) -> None:
        ids = histories.catalogue.ids
        asking: list[list[str | int]] = [[ids[at] for at in histories.matrix[[row]].indices] for row in range(8)]
        asking += [asking[0][::-1], [], ["nothing"], list(ids)]
        one_house = alone.Ensemble(models, WEIGHTS, 20)
        check_recommender(Ensemble(there.agreed, there.wires(), 20), one_house, asking, agreement=1.0)

    def test_several_at_once_each_get_their_own(self, there: Together, models: list[Trained]) -> None:
        found: dict[int, Any] = {}

        def listed(asking: Any, item: int) -> Any:
            request, kept = asking.ask([item])
            return asking.read(asking.answer(request), kept).items

        def ask(item: int) -> None:
            identity = BANK if item % 2 else OTHER
            found[item] = listed(Ensemble(there.agreed, there.wires(identity), 5), item)

        threads = [threading.Thread(target=ask, args=(item,)) for item in (100, 101, 130, 131)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert found == {item: listed(alone.Ensemble(models, WEIGHTS, 5), item) for item in (100, 101, 130, 131)}

    @pytest.mark.parametrize("seat", range(3))
    def test_without_one_there_is_no_sum(
        self, seat: int, agreed: Agreement, models: list[Trained], tls: tuple[Path, Path]
    ) -> None:
        """Whether it goes before the sitting is opened or before it answers; nothing is told of the others."""
        nobody = Wire(f"http://127.0.0.1:{free_port()}", BANK, patience=0.2)
        with together(agreed, models, tls) as made:
            wires = made.wires()
            asking = Ensemble(agreed, wires, 5)
            request, _ = asking.ask([100])
            wires[seat] = nobody
            with pytest.raises(TooFewLeft, match=rf"at seats \[{seat}\]: the server cannot be reached"):
                asking.answer(request)
            with pytest.raises(TooFewLeft, match=rf"at seats \[{seat}\]"):
                asking.ask([100])
            if seat == 0:
                with pytest.raises(TooFewLeft, match=r"at seats \[0\]"):
                    Ensemble(agreed, wires, 5)

    def test_who_may_not_ask(self, there: Together) -> None:
        wires = there.wires()
        wires[2] = replace(wires[2], identity=Ed25519PrivateKey.generate())
        with pytest.raises(ProtocolError, match=r"at seat 2: the server refused \(401\)") as refused:
            Ensemble(there.agreed, wires).ask([100])
        assert refused.value.blame == 2
        for method, what in (("GET", "items"), ("POST", "nonces"), ("POST", "answers")):
            found = asked(there.urls[0], there.ca, method, f"{there.place(0)}/{what}", None)
            assert found == (401, "not-signed")

    def test_in_another_order(self, there: Together) -> None:
        wires = there.wires()
        with pytest.raises(ProtocolError, match=r"has seat 2, of an agreement; another was asked"):
            Ensemble(there.agreed, [wires[0], wires[2], wires[1]]).ask([100])
        with pytest.raises(SettingError, match="3 organisations agreed, 2 addresses"):
            Ensemble(there.agreed, wires[:2])

    def test_under_another_agreement(self, there: Together, models: list[Trained]) -> None:
        other = agreement(models[0].catalogue, list(map(public_bytes, KEYS)), (1, 1, 1_000))
        with pytest.raises(ProtocolError, match=r"at seat 0.*refused \(403\)") as refused:
            Ensemble(other, there.wires())
        assert refused.value.blame == 0

    def test_a_member_that_is_asked_cannot_ask_the_others_in_the_askers_name(self, there: Together) -> None:
        """What was signed for one seat is no question to another."""
        for what in ("nonces", "answers"):
            said = signed("POST", f"{there.place(0)}/{what}", b"")
            assert asked(there.urls[1], there.ca, "POST", f"{there.place(1)}/{what}", None, said)[0] == 401
            assert asked(there.urls[1], there.ca, "POST", f"{there.place(0)}/{what}", None, said)[0] == 403

    def test_a_sitting_is_answered_once(self, there: Together) -> None:
        asking = Ensemble(there.agreed, there.wires(), 5)
        request, kept = asking.ask([100])
        reply = asking.answer(request)
        with pytest.raises(ProtocolError, match="no open nonce"):
            asking.answer(request)
        other, _ = asking.ask([100])
        with pytest.raises(ProtocolError, match="another sitting") as refused:
            asking.read(reply | {1: asking.answer(other)[1]}, kept)
        assert refused.value.blame == 1

    @pytest.mark.parametrize("known", [(60,), (2**64 - 1,)])
    def test_positions_that_are_none(self, known: tuple[int, ...], there: Together) -> None:
        asking = Ensemble(there.agreed, there.wires(), 5)
        request, _ = asking.ask([])
        question = Question(Question.from_bytes(request).sitting, known)
        with pytest.raises(ProtocolError, match="not in the catalogue"):
            asking.answer(question.to_bytes())
        assert len(asking.answer(request)) == 3  # its nonces are open still

    def test_the_longest_history_fits_and_nothing_longer(self, there: Together) -> None:
        asking = Ensemble(there.agreed, there.wires(), 5)
        request, _ = asking.ask(list(range(100, 160)))
        place = f"{there.place(0)}/answers"
        longer = request + b"\0"
        found = asked(there.urls[0], there.ca, "POST", place, longer, signed("POST", place, longer))
        assert found == (413, "too-large")
        assert len(asking.answer(request)) == 3
        with pytest.raises(ProtocolError, match="400"):
            asking.answer(b"junk")

    def test_so_many_a_day_for_each(self, agreed: Agreement, models: list[Trained], tls: tuple[Path, Path]) -> None:
        with together(agreed, models, tls, per_day=2) as made:
            asking = Ensemble(agreed, made.wires(), 5)
            for _ in range(2):
                asking.ask([100])
            with pytest.raises(ProtocolError, match=r"at seat 0.*refused \(429\)"):
                asking.ask([100])
            Ensemble(agreed, made.wires(OTHER), 5).ask([100])

    def test_a_nonce_that_is_not_used_is_forgotten(
        self, agreed: Agreement, models: list[Trained], tls: tuple[Path, Path]
    ) -> None:
        with together(agreed, models, tls, lasting=0.0) as made:
            asking = Ensemble(agreed, made.wires(), 5)
            request, _ = asking.ask([100])
            time.sleep(0.2)
            with pytest.raises(ProtocolError, match="no open nonce"):
                asking.answer(request)

    @pytest.mark.parametrize("ids", [b"junk", b"[]", b'["a"]', b"[2, 1]"])
    def test_a_first_that_lies_about_the_catalogue(self, ids: bytes, agreed: Agreement, tls: tuple[Path, Path]) -> None:
        app = application("liar", {})

        @app.get("/{path:path}")
        async def say(path: str) -> Response:
            del path
            return Response(ids)

        with listening(app, tls) as url:
            wires = [Wire(url, BANK, ca=tls[0], patience=1)] * 3
            with pytest.raises(ProtocolError, match="seat 0 has another catalogue") as refused:
                Ensemble(agreed, wires)
        assert refused.value.blame == 0

    def test_a_model_that_was_made_unsafely_is_not_served(self, agreed: Agreement, models: list[Trained]) -> None:
        unsafe = replace(models[0], guarantee=replace(models[0].guarantee, secure=False))
        with pytest.raises(SettingError, match="test seed"):
            ensembles(Member(unsafe, agreed, KEYS[0]), (public_bytes(BANK),))

    def test_nothing_is_logged(
        self, agreed: Agreement, models: list[Trained], tls: tuple[Path, Path], capfd: pytest.CaptureFixture[str]
    ) -> None:
        with together(agreed, models, tls) as made:
            asking = Ensemble(agreed, made.wires(), 5)
            request, kept = asking.ask([100, 131])
            asking.read(asking.answer(request), kept)
            with pytest.raises(ProtocolError):
                asking.answer(request)
        told = capfd.readouterr()
        assert told.out + told.err == ""


@pytest.fixture
def command(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run a command of ``discreet between`` in a folder, to its end."""

    def run(*arguments: object, code: int = 0) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [sys.executable, "-m", "discreet", "between", *map(str, arguments)],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == code, done.stderr
        return done

    return run


Command = Callable[..., subprocess.CompletedProcess[str]]


def up(process: Process) -> dict[str, Any]:
    assert process.until("listening", time.monotonic() + 120)
    return process.said[-1]


@pytest.mark.slow
class TestProcesses:
    PURPOSE = "which customers both have"

    @pytest.fixture
    def bank(self, command: Command, tmp_path: Path) -> str:
        """Its public key; both sides' files are there."""
        certify_loopback(tmp_path)
        (tmp_path / "bank.txt").write_bytes(b"\n".join(OURS))
        (tmp_path / "shop.txt").write_bytes(b"\r\n".join(THEIRS) + b"\r\n\r\n")
        return command("key", "bank.key").stdout.strip()

    def answering(self, tmp_path: Path, bank: str, port: int, *more: object) -> Process:
        arguments = ["--ids", tmp_path / "shop.txt", "--purpose", self.PURPOSE, "--name", "shop", "--size", 5]
        arguments += ["--peer-name", "bank", "--peer-size", 6, "--peer", bank, "--port", port]
        arguments += ["--certificate", tmp_path / "certificate.pem", "--key", tmp_path / "certificate.key", *more]
        return start(["discreet", "between", "answer", *arguments], tmp_path / "errors.txt")

    def asking(self, tmp_path: Path, port: int) -> list[object]:
        arguments: list[object] = ["intersect", "--ids", "bank.txt", "--purpose", self.PURPOSE, "--name", "bank"]
        arguments += ["--size", 6, "--peer-name", "shop", "--peer-size", 5, "--identity", "bank.key", "--patience", 1]
        return [*arguments, "--url", f"https://127.0.0.1:{port}", "--ca", tmp_path / "certificate.pem"]

    def test_both_learn_and_the_answerer_stops(self, bank: str, command: Command, tmp_path: Path) -> None:
        port = free_port()
        with stopping([self.answering(tmp_path, bank, port, "--once", "--both", "--out", tmp_path / "theirs")]) as (
            there,
        ):
            up(there)
            done = command(*self.asking(tmp_path, port), "--both", "--out", "ours")
            assert there.ended(time.monotonic() + 30) == {"said": "over", "count": 2}
            assert there.running.wait(30) == 0
        assert (tmp_path / "ours").read_bytes() == (tmp_path / "theirs").read_bytes() == b"eve@x\n\xff\x00\n"
        assert (tmp_path / "ours").stat().st_mode & 0o777 == 0o600
        assert done.stdout == ""
        assert (tmp_path / "errors.txt").read_bytes() == b""

    def test_what_is_printed_and_what_is_refused(self, bank: str, command: Command, tmp_path: Path) -> None:
        port = free_port()
        ask = self.asking(tmp_path, port)
        with stopping([self.answering(tmp_path, bank, port)]) as (there,):
            up(there)
            assert json.loads(command(*ask, "--json").stdout) == {"count": 2, "identifiers": ["eve@x", "\\xff\x00"]}
            told = command(*ask)
            assert told.stdout.splitlines()[0] == "eve@x"
            assert told.stderr == "2 identifiers are shared\n"
            for more, why in (
                (["--count-only"], "403"),
                (["--both"], "403"),
                (["--purpose", "another"], "403"),
                (["--peer-size", 6], "403"),
                (["--size", 2], "4 identifiers are more than the 2"),
                (["--peer-name", "bank"], "two names"),
                (["--count-only", "--out", "x"], "leave --out away"),
                (["--out", "nowhere/x"], "nowhere is not a folder"),
                (["--ids", "nowhere"], "nowhere: cannot be read"),
            ):
                error = command(*ask, *more, code=1).stderr
                assert why in error
                assert error.count("\n") == 1
            command("key", "other.key")
            assert "401" in command(*ask, "--identity", "other.key", code=1).stderr
        assert (tmp_path / "errors.txt").read_bytes() == b""

    def test_an_answerer_that_is_killed_in_mid_session(self, bank: str, command: Command, tmp_path: Path) -> None:
        """kill -9 between question and answer; started again, it knows nothing of the session, and a new one works."""
        port = free_port()
        identity = Ed25519PrivateKey.from_private_bytes(bytes.fromhex((tmp_path / "bank.key").read_text()))
        about = hashlib.sha256(self.PURPOSE.encode()).digest()
        session = terms(purpose=about)
        wire = Wire(f"https://127.0.0.1:{port}", identity, ca=tmp_path / "certificate.pem", patience=1.0)
        place = f"{ROOT}/{session.session.hex()}"
        with stopping([self.answering(tmp_path, bank, port)]) as processes:
            up(processes[0])
            wire.put(place, session.to_bytes())
            asker = Asker(session, OURS)
            wire.put(f"{place}/question", asker.ask())
            processes[0].running.send_signal(signal.SIGKILL)
            processes[0].running.wait(30)
            begun = time.monotonic()
            with pytest.raises(EngineLost, match="cannot be reached"):
                wire.wait(f"{place}/answer")
            assert time.monotonic() - begun < 60
            processes.append(self.answering(tmp_path, bank, port))
            up(processes[1])
            with pytest.raises(Over):
                wire.wait(f"{place}/answer")
            assert json.loads(command(*self.asking(tmp_path, port), "--json").stdout)["count"] == 2

    def test_an_answerer_that_is_interrupted_in_mid_session(self, bank: str, tmp_path: Path) -> None:
        """It does not go on multiplying, and says one word."""
        port, count = free_port(), 200_000
        (tmp_path / "shop.txt").write_text("\n".join(map(str, range(count))))
        identity = Ed25519PrivateKey.from_private_bytes(bytes.fromhex((tmp_path / "bank.key").read_text()))
        session = terms(purpose=hashlib.sha256(self.PURPOSE.encode()).digest(), answerer_size=count)
        wire = Wire(f"https://127.0.0.1:{port}", identity, ca=tmp_path / "certificate.pem", patience=1.0)
        place = f"{ROOT}/{session.session.hex()}"
        with stopping([self.answering(tmp_path, bank, port, "--size", count)]) as (there,):
            up(there)
            wire.put(place, session.to_bytes())
            wire.put(f"{place}/question", Asker(session, OURS).ask())
            interrupt = threading.Timer(1.0, there.running.send_signal, [signal.SIGINT])
            interrupt.start()
            with pytest.raises(EngineLost, match="cannot be reached"):
                wire.wait(f"{place}/answer")
            assert there.running.wait(10) == 130
        assert (tmp_path / "errors.txt").read_text() == "interrupted\n"

    def test_what_cannot_be_answered_for(self, bank: str, command: Command) -> None:
        answer = ["answer", "--ids", "shop.txt", "--purpose", "x", "--name", "shop", "--peer-name", "bank"]
        answer += ["--peer", bank, "--port", str(free_port()), "--peer-size", "6"]
        for more, why in (
            (["--size", 2], "3 identifiers are more than the 2"),
            (["--size", 5, "--both"], "then give --out"),
            (["--size", 5, "--out", "x"], "then give --out"),
            (["--size", 5, "--peer", "00"], "public keys of 32 bytes"),
            (["--size", 5, "--host", "0.0.0.0"], "without TLS nothing listens"),  # noqa: S104 - that it is refused
        ):
            error = command(*answer, *more, code=1).stderr
            assert why in error
            assert error.count("\n") == 1

    def test_an_ensemble(self, bank: str, command: Command, models: list[Trained], tmp_path: Path) -> None:
        """Three members as processes; without one of them there is no list, and which one is said."""
        certificate, key = tmp_path / "certificate.pem", tmp_path / "certificate.key"
        publics = [command("key", "--exchange", f"{seat}.key").stdout.strip() for seat in range(3)]
        for seat, model in enumerate(models):
            (tmp_path / f"{seat}.npz").write_bytes(model.to_bytes())
        named = [part for each in publics for part in ("--key", each)]
        weights = [part for each in WEIGHTS for part in ("--weight", each)]
        written = command("agree", "0.npz", *named, *weights, "--out", "agreement", "--json")
        digest = json.loads(written.stdout)["agreement"]
        ports, tls = [free_port() for _ in range(3)], ["--certificate", certificate, "--key", key]

        def member(seat: int) -> Process:
            keys = ["--exchange-key", tmp_path / f"{seat}.key", "--peer", bank, "--port", ports[seat]]
            arguments = [tmp_path / f"{seat}.npz", "--agreement", tmp_path / "agreement", *keys, *tls]
            return start(["discreet", "between", "member", *arguments], tmp_path / "errors.txt")

        ask: list[object] = ["ask", "--agreement", "agreement", "--identity", "bank.key", "--ca", certificate]
        ask += ["--history", "100,101,nothing", "--n", 5, "--patience", 1]
        ask += [part for port in ports for part in ("--url", f"https://127.0.0.1:{port}")]
        one_house = alone.Ensemble(models, WEIGHTS, 5)
        request, kept = one_house.ask([100, 101])
        wanted = [*one_house.read(one_house.answer(request), kept).items]
        with stopping([member(seat) for seat in range(3)]) as processes:
            for seat, process in enumerate(processes):
                said = up(process)
                assert (said["seat"], said["agreement"], said["weights"]) == (seat, digest, [*WEIGHTS])
            made = json.loads(command(*ask, "--json").stdout)
            assert ([row["item_id"] for row in made["items"]], made["unknown"]) == (wanted, 1)
            processes[2].running.kill()
            processes[2].running.wait(30)
            error = command(*ask, code=1).stderr
            assert "at seats [2]" in error
            assert error.count("\n") == 1
            processes.append(member(2))
            up(processes[3])
            assert str(wanted[0]) in command(*ask).stdout
        assert (tmp_path / "errors.txt").read_bytes() == b""
        (tmp_path / "junk").write_bytes(os.urandom(99))
        assert "is no agreement" in command(*ask, "--agreement", "junk", code=1).stderr
        assert "cannot be read" in command(*ask, "--agreement", "nowhere", code=1).stderr
        member_of = ["member", "0.npz", "--agreement", "agreement", "--peer", bank]
        assert "of none of the organisations" in command(*member_of, "--exchange-key", "bank.key", code=1).stderr
        other = agreement(Catalogue((1, 2, 3)), list(map(bytes.fromhex, publics)), WEIGHTS)
        (tmp_path / "other").write_bytes(other.to_bytes())
        error = command(*member_of, "--exchange-key", "0.key", "--agreement", "other", code=1).stderr
        assert "another catalogue" in error


def typed() -> dict[str, list[list[str]]]:
    """Return what the page says to type, by command."""
    page = (Path(__file__).parents[2] / "docs/between-organisations.md").read_text()
    found: dict[str, list[list[str]]] = {}
    for line in re.findall(r"^    discreet between (.+)$", page.replace("\\\n", ""), re.MULTILINE):
        name, *arguments = shlex.split(line, comments=True)
        found.setdefault(name, []).append(arguments)
    return found


@pytest.mark.slow
def test_what_the_page_says_to_type(command: Command, models: list[Trained], tmp_path: Path) -> None:
    """As it stands there, but for host names and ports."""
    houses, lines = ("clinic", "shop", "library"), typed()
    ports = {house: free_port() for house in houses}
    known: dict[str, str] = {}
    for house, model in zip(houses, models, strict=True):
        certificate, key = certify_loopback(tmp_path)
        certificate.rename(tmp_path / f"{house}.pem")
        key.rename(tmp_path / f"{house}-tls.key")
        (tmp_path / f"{house}.npz").write_bytes(model.to_bytes())
    (tmp_path / "bank.txt").write_text("\n".join(map(str, range(1_000))))
    (tmp_path / "shop.txt").write_text("\n".join(map(str, range(900, 2_900))))

    def here(arguments: Sequence[str], house: str = "clinic") -> list[str]:
        named = [known.get(each, each).replace("0.0.0.0", "127.0.0.1") for each in arguments]  # noqa: S104
        named = [re.sub(r"^clinic(?=[.-])", house, each) for each in named]
        return [re.sub(r"(\w+)\.example:\d+", lambda at: f"127.0.0.1:{ports[at[1]]}", each) for each in named]

    def serve(name: str, house: str) -> Process:
        arguments = [*here(lines[name][0], house), "--port", str(ports[house])]
        placed = [str(tmp_path / each) if (tmp_path / each).exists() else each for each in arguments]
        return start(["discreet", "between", name, *placed], tmp_path / "errors.txt")

    for file, name in (("bank.key", "BANK"), ("asker.key", "ASKER")):
        (made,) = [each for each in lines["key"] if file in each]
        known[name] = command("key", *made).stdout.strip()
    (exchange,) = [each for each in lines["key"] if "--exchange" in each]
    for house in houses:
        known[house.upper()] = command("key", *[each.replace("clinic", house) for each in exchange]).stdout.strip()
    (intersect_line,), (ask_line,), (agree_line,) = lines["intersect"], lines["ask"], lines["agree"]
    with stopping([serve("answer", "shop")]) as (there,):
        up(there)
        command("intersect", *here(intersect_line))
    assert set((tmp_path / "shared.txt").read_text().split()) == set(map(str, range(900, 1_000)))
    command("agree", *[known.get(each, each) for each in agree_line])
    with stopping([serve("member", house) for house in houses]) as members_there:
        assert [up(each)["seat"] for each in members_there] == [0, 1, 2]
        assert len(json.loads(command("ask", *here(ask_line), "--json").stdout)["items"]) == 10
