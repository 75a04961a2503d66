"""Lists over HTTPS: every way keeps the contract, what is refused, and servers that die, lie or are busy."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any, ClassVar, cast

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from fastapi import Response
from rankings import InTheClear
from serving import running

from discreet.cli.processes import free_port, start, stopping
from discreet.client.wire import Denied, Over, TooOften, Wire
from discreet.data.importing import import_interactions
from discreet.data.interactions import Histories
from discreet.engines.spu import HOW, PYTHON
from discreet.errors import ArtefactError, EngineLost, ProtocolError, SettingError
from discreet.evaluation.advice import made_up
from discreet.evaluation.tradeoff import fit_unbilled
from discreet.governance.ledger import Account, Ledger
from discreet.inference import garbled, shared
from discreet.inference.encrypted import Device as Encrypting
from discreet.inference.encrypted import Encrypted
from discreet.inference.garbled import Device as Garbling
from discreet.inference.mpc import Owner
from discreet.inference.outline import Outline, quantised
from discreet.inference.plain import Plain
from discreet.inference.shared import Device, Shared
from discreet.models.recipe import Kind
from discreet.models.trained import Trained
from discreet.protocols import encryption
from discreet.protocols.encryption import EvaluationKey, KeyWanted
from discreet.protocols.keys import public_bytes
from discreet.protocols.ranking import Held, Ranker
from discreet.protocols.scoring import Scoring, ScoringTerms
from discreet.service import lists as service
from discreet.service.afar import Afar, BothAfar, reached
from discreet.service.certificates import certify_loopback
from discreet.service.garblings import EvaluatorHouse
from discreet.service.http import Daily, application
from discreet.service.listening import Address
from discreet.service.lists import ROOT, Given, Offer, Page, Question, Seat, lists, ranked
from discreet.testing import check_recommender

ENCRYPTED = pytest.param("encrypted", marks=pytest.mark.skipif(not find_spec("seal"), reason="needs seal-python"))
LISTED = [pytest.param("on_device"), pytest.param("shared"), pytest.param("garbled"), ENCRYPTED]
SERVERS = {"on_device": 1, "shared": 2, "retrieved": 2, "encrypted": 1, "garbled": 2}


@dataclass(frozen=True)
class Served:
    """Two servers of one model, over TLS."""

    trained: Trained
    ports: tuple[int, int]
    ca: Path

    def wires(self, way: str, patience: float = 20.0) -> list[Wire]:
        return [Wire(f"https://127.0.0.1:{port}", ca=self.ca, patience=patience) for port in self.ports[: SERVERS[way]]]


@pytest.fixture(scope="module")
def trained(histories: Histories) -> Trained:
    return fit_unbilled(histories, 10.0, "subspace")


@pytest.fixture(scope="module")
def served(trained: Trained, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """The first offers every way, the second all that need two servers."""
    certificate, key = certify_loopback(tmp_path_factory.mktemp("tls"))
    first, second = (Address(port=free_port(), certificate=certificate, key=key) for _ in range(2))
    pages, scheme = [f"about {item}".encode() for item in trained.catalogue.ids], None
    one: tuple[str, ...] = ("on_device", "shared", "retrieved", "garbled")
    if find_spec("seal"):
        from discreet.engines.seal import Seal

        one, scheme = (*one, "encrypted"), Seal()
    identity = Ed25519PrivateKey.generate()
    wire = Wire(f"https://127.0.0.1:{first.port}", identity, ca=certificate, patience=5.0)
    garbler = Offer.of(one, Given(trained, (), pages, scheme, Seat(20, peer=public_bytes(identity))))
    with running(first.serving(lists(garbler)), first):
        ways = ("shared", "retrieved", "garbled")
        evaluator = Offer.of(ways, Given(trained, (), pages, seat=Seat(20, wire=wire)))
        with running(second.serving(lists(evaluator)), second):
            yield Served(trained, (first.port, second.port), certificate)


class TestEachWay:
    @pytest.mark.parametrize("way", LISTED)
    def test_keeps_the_contract_over_https(self, way: str, served: Served, histories: Histories) -> None:
        ids = histories.catalogue.ids
        asked: list[list[str | int]] = [[ids[at] for at in histories.matrix[[row]].indices] for row in range(12)]
        asked += [asked[0][::-1], [], ["nothing"], list(ids)]
        check_recommender(reached(way, served.wires(way), 20), Plain(served.trained, 20), asked)

    def test_pages(self, served: Served) -> None:
        reader = reached("retrieved", served.wires("retrieved"), 3)
        request, kept = reader.ask([107, 100])
        assert reader.read(reader.answer(request), kept) == (b"about 107", b"about 100")

    def test_pages_of_one_server(self, trained: Trained) -> None:
        pages, address = [f"about {item}".encode() for item in trained.catalogue.ids], Address(port=free_port())
        with pytest.raises(SettingError, match="better downloaded"):
            Offer.of(("hinted",), Given(trained, (), pages))
        offer = Offer.of(("hinted",), Given(trained, (), pages, least=0))
        with running(address.serving(lists(offer)), address):
            reader = reached("hinted", [Wire(f"http://127.0.0.1:{address.port}", patience=10)], 2)
            request, kept = reader.ask([107])
            assert len(request) == 2
            assert reader.read(reader.answer(request), kept) == (b"about 107",)

    @pytest.mark.parametrize("way", LISTED)
    def test_four_at_once_each_get_their_own(self, way: str, served: Served) -> None:
        found: dict[int, Any] = {}

        def ask(item: int) -> None:
            recommender = reached(way, served.wires(way), 5)
            for _ in range(3):
                request, kept = recommender.ask([item])
                found[item] = recommender.read(recommender.answer(request), kept).items

        threads = [threading.Thread(target=ask, args=(item,)) for item in (100, 101, 130, 131)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        for item in (100, 101, 130, 131):
            assert len({*found[item]} & {*served.trained.recommend([item], 5).items}) >= 4

    def test_a_model_is_sent_once(self, served: Served) -> None:
        (wire,) = served.wires("on_device")
        tag, content = wire.newer(f"{ROOT}/on_device/model", None) or ("", b"")
        assert len(content) > 1000
        assert wire.newer(f"{ROOT}/on_device/model", tag) is None
        assert wire.newer(f"{ROOT}/on_device/model", '"another"') == (tag, content)

    @pytest.mark.parametrize(
        ("way", "count", "why"),
        [
            ("shared", 1, "two servers"),
            ("retrieved", 1, "two servers"),
            ("on_device", 2, "needs one server; 2"),
            ("telepathy", 1, "no way 'telepathy'"),
        ],
    )
    def test_what_cannot_be_asked_for(self, way: str, count: int, why: str, served: Served) -> None:
        with pytest.raises(SettingError, match=why):
            reached(way, served.wires("shared")[:count], 5)


class TestOffers:
    def test_a_model_that_was_made_unsafely_is_not_served(self, trained: Trained) -> None:
        unsafe = replace(trained, guarantee=replace(trained.guarantee, secure=False))
        with pytest.raises(SettingError, match="test seed"):
            Offer.of(("on_device",), Given(unsafe))

    @pytest.mark.parametrize(
        ("way", "why"),
        [
            ("telepathy", "no way"),
            ("encrypted", "need a cryptosystem"),
            ("garbled", "first knows the second's key"),
        ],
    )
    def test_ways_that_cannot_be_offered(self, way: str, why: str, trained: Trained) -> None:
        with pytest.raises(SettingError, match=why):
            Offer.of((way,), Given(trained))


def asked(served: Served, method: str, path: str, content: bytes | None = None) -> tuple[int, dict[str, Any]]:
    """Ask the first server; return its status and its problem document."""
    import ssl

    context = ssl.create_default_context(cafile=str(served.ca))
    with closing(http.client.HTTPSConnection("127.0.0.1", served.ports[0], timeout=30, context=context)) as connection:
        connection.request(method, path, content)
        answer = connection.getresponse()
        told = answer.read()
        problem = answer.headers.get_content_type() == "application/problem+json"
        return answer.status, json.loads(told) if problem else {}


class TestRefusals:
    @pytest.mark.parametrize(
        ("method", "path", "content", "status", "kind"),
        [
            ("GET", "/lists/v1/nothing", None, 404, "no-such-resource"),
            ("GET", "/", None, 404, "no-such-resource"),
            ("POST", "/lists/v1/nothing", b"x", 404, "no-such-resource"),
            ("DELETE", "/lists/v1/shared", None, 405, "no-such-resource"),
            ("POST", "/lists/v1/shared", b"", 400, "message-refused"),
            ("POST", "/lists/v1/shared", b"junk", 400, "message-refused"),
            ("POST", "/lists/v1/shared/rows", b"junk", 400, "message-refused"),
            ("POST", "/lists/v1/retrieved", b"junk", 400, "message-refused"),
            ("POST", "/lists/v1/shared", bytes(10_000), 413, "too-large"),
        ],
    )
    def test_are_problem_documents(
        self, method: str, path: str, content: bytes | None, status: int, kind: str, served: Served
    ) -> None:
        found, problem = asked(served, method, path, content)
        assert (found, problem["type"]) == (status, f"urn:discreet:{kind}")

    @pytest.mark.skipif(not find_spec("seal"), reason="needs seal-python")
    def test_a_key_that_is_not_held_is_wanted(self, served: Served) -> None:
        from discreet.engines.seal import Seal

        server = Afar(served.wires("encrypted")[0], "encrypted")
        device = Encrypting(server.outline(), Seal())
        with pytest.raises(KeyWanted):
            server.answer(device.ask([100])[0].question)
        with pytest.raises(Denied, match="400"):
            server.answer(b"junk")

    def test_what_another_model_is_asked_is_refused(self, served: Served, histories: Histories) -> None:
        """A device that was told of one model alone, and a server of another."""
        other = shared_server(fit_unbilled(histories, 20.0, "subspace"))
        address = Address(port=free_port())
        with running(address.serving(lists(other)), address):
            first, second = served.wires("shared")[0], Wire(f"http://127.0.0.1:{address.port}", patience=5)
            servers = Afar(first, "shared"), Afar(second, "shared")
            with pytest.raises(Denied, match="another table"):
                Shared(Device(servers[0].outline(), 5), servers).ask([100])

    def test_an_answer_that_is_replayed_is_refused(self, served: Served) -> None:
        first, second = (Afar(wire, "shared") for wire in served.wires("shared"))
        device = Device(first.outline(), 5)
        (one, other), _ = device.ask([])
        (again, _), kept = device.ask([])
        with pytest.raises(ProtocolError, match="another question"):
            device.read((first.answer(one), second.answer(other)), kept)
        with pytest.raises(ProtocolError, match="of the other server"):
            device.read((first.answer(again), first.answer(again)), kept)

    def test_nothing_of_a_question_is_logged(self, served: Served, capfd: pytest.CaptureFixture[str]) -> None:
        recommender = reached("shared", served.wires("shared"), 5)
        request, kept = recommender.ask([100, 131])
        recommender.read(recommender.answer(request), kept)
        asked(served, "POST", "/lists/v1/shared", b"junk")
        told = capfd.readouterr()
        assert told.out + told.err == ""


class TestGarblings:
    def test_only_the_second_server_is_spoken_with(self, served: Served) -> None:
        for path in ("point", "columns", "difference"):
            found, problem = asked(served, "POST", f"/lists/v1/garbled/{path}", b"x")
            assert (found, problem["type"]) == (401, "urn:discreet:not-signed")

    def test_half_a_question_is_nothing(self, served: Served) -> None:
        """The second asks for no more than is there, and the first tells nothing that was not computed."""
        wires = [replace(wire, patience=0.0) for wire in served.wires("garbled")]
        way = reached("garbled", wires, 5)
        request, kept = way.ask([100])
        with pytest.raises(Denied, match="send it that first"):
            way.servers.second.answer(request[1])
        with pytest.raises(Denied, match="was not computed"):
            way.servers.first.answer(request[0])
        assert len(way.read(way.answer(request), kept)) == 5

    def test_a_question_is_computed_once_and_told_once(self, served: Served) -> None:
        """Two garblings of one question would be two answers of which a person reads a half of each."""
        wires = [replace(wire, patience=0.0) for wire in served.wires("garbled")]
        way = reached("garbled", wires, 5)
        request, kept = way.ask([100])
        wires[0].put(f"{ROOT}/garbled/half", request[0])
        wires[0].put(f"{ROOT}/garbled/half", request[0])
        second = way.servers.second.answer(request[1])
        for _ in range(2):
            with pytest.raises(Denied, match="send it that first"):
                way.servers.second.answer(request[1])
        with pytest.raises(Denied, match="asked once"):
            wires[0].put(f"{ROOT}/garbled/half", request[0])
        first = way.servers.first.answer(request[0])
        with pytest.raises(Denied, match="told already"):
            way.servers.first.answer(request[0])
        made = way.read((first, second), kept).items
        assert len({*made} & {*served.trained.recommend([100], 5).items}) >= 4

    def test_an_answer_is_told_to_whoever_has_the_question(self, served: Served) -> None:
        """The second server knows the session; the first's half of the list would tell it the list."""
        wires = [replace(wire, patience=0.0) for wire in served.wires("garbled")]
        way = reached("garbled", wires, 5)
        request, kept = way.ask([100])
        wires[0].put(f"{ROOT}/garbled/half", request[0])
        second = way.servers.second.answer(request[1])
        forged = request[0][:-1] + bytes([request[0][-1] ^ 1])
        with pytest.raises(Denied, match="was not computed"):
            way.servers.first.answer(forged)
        assert len(way.read((way.servers.first.answer(request[0]), second), kept)) == 5

    def test_a_flood_of_halves_stops_nobody(self, served: Served) -> None:
        wires = [replace(wire, patience=0.0) for wire in served.wires("garbled")]
        way = reached("garbled", wires, 5)
        for _ in range(30):
            request, _ = way.ask([])
            wires[0].put(f"{ROOT}/garbled/half", request[0])
            with pytest.raises(Denied, match="send it that first"):
                way.servers.second.answer(way.ask([])[0][1])
        request, kept = way.ask([100])
        assert len(way.read(way.answer(request), kept)) == 5

    def test_a_first_server_that_began_anew_knows_no_garblings_and_gets_new_ones(self, trained: Trained) -> None:
        identity, address = Ed25519PrivateKey.generate(), Address(port=free_port())
        first = Offer.of(("garbled",), Given(trained, seat=Seat(5, peer=public_bytes(identity))))
        house = EvaluatorHouse(
            garbled.Server(trained, 1, 5), Wire(f"http://127.0.0.1:{address.port}", identity, patience=2.0)
        )
        wire = Wire(f"http://127.0.0.1:{address.port}", patience=2.0)
        for _ in range(2):  # the second time, the ready garblings are of the server before
            with running(address.serving(lists(first)), address):
                device = Garbling(house.server.outline, 5)
                way = garbled.Garbled(device, BothAfar(Afar(wire, "garbled"), cast("Afar", house)))
                for places in device.wanted([100]):
                    fetching = device.fetch(places)
                    one, other = fetching.questions
                    device.learn(places, fetching, (house.server.row(one), house.server.row(other)))
                request, kept = device.ask([100])
                assert len(way.read(way.answer(request), kept)) == 5
                house.prepare()
            first = Offer.of(("garbled",), Given(trained, seat=Seat(5, peer=public_bytes(identity))))

    def test_a_second_server_that_is_cut_off_says_so(self, trained: Trained) -> None:
        gone = Wire(f"http://127.0.0.1:{free_port()}", Ed25519PrivateKey.generate(), patience=0.2)
        address = Address(port=free_port())
        offer = Offer.of(("garbled",), Given(trained, seat=Seat(wire=gone)))
        with running(address.serving(lists(offer)), address):
            wire = Wire(f"http://127.0.0.1:{address.port}", patience=0.0)
            second = Afar(wire, "garbled")
            device = Garbling(second.outline(), 5)
            with pytest.raises(EngineLost, match="503"):  # as the other server's is
                second.answer(device.ask([])[0][1])


def shared_server(trained: Trained) -> Offer:
    return Offer.of(("shared",), Given(trained))


@contextmanager
def limited(offer: Offer, per_day: int | None, host: str = "127.0.0.1") -> Iterator[Address]:
    address = Address(host, free_port())
    with running(address.serving(lists(offer, per_day)), address):
        yield address


def told(port: int, source: str, headers: dict[str, str] | None = None, path: str = "x") -> tuple[int, str, str]:
    """Ask from an address of this machine; return the status, when to come again, and of which kind a problem is."""
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=30, source_address=(source, 0))) as connection:
        connection.request("POST", f"{ROOT}/{path}", b"x", headers or {})
        answer = connection.getresponse()
        content = answer.read()
        return answer.status, answer.getheader("Retry-After", ""), json.loads(content)["type"] if content else ""


class TestQuotas:
    ECHO: ClassVar[Offer] = Offer(
        (), {"x": Page.of(b"page")}, {"x": Question(9, lambda _: None), "long": Question(9, lambda _: None)}
    )

    def test_each_address_has_its_own_until_the_server_starts_anew(self) -> None:
        for _ in range(2):
            with limited(self.ECHO, 2) as there:
                for source in ("127.0.0.1", "127.0.0.2"):
                    assert [told(there.port, source)[0] for _ in range(2)] == [204, 204]
                    status, after, kind = told(there.port, source)
                    assert (status, kind) == (429, "urn:discreet:too-often")
                    assert 0 < int(after) <= 86_400
                assert told(there.port, "127.0.0.3")[0] == 204

    def test_an_address_that_a_header_names_is_not_believed(self) -> None:
        with limited(self.ECHO, 1) as there:
            found = [told(there.port, "127.0.0.1", {"X-Forwarded-For": f"192.0.2.{one}"})[0] for one in range(3)]
        assert found == [204, 429, 429]

    def test_pages_do_not_count_and_what_is_refused_does(self) -> None:
        with limited(self.ECHO, 2) as there:
            wire = Wire(f"http://127.0.0.1:{there.port}", patience=5)
            for _ in range(5):
                assert wire.get(f"{ROOT}/x") == b"page"
                assert told(there.port, "127.0.0.1", path="nothing")[0] == 404
            for _ in range(2):
                with pytest.raises(Denied, match="413"):
                    wire.post(f"{ROOT}/long", bytes(10))
            with pytest.raises(TooOften):
                wire.post(f"{ROOT}/x", b"x")
            assert wire.get(f"{ROOT}/x") == b"page"

    def test_a_body_is_not_read(self) -> None:
        with limited(self.ECHO, 1) as there:
            assert told(there.port, "127.0.0.1")[0] == 204
            with socket.create_connection(("127.0.0.1", there.port), timeout=30) as connection:
                head = f"POST {ROOT}/x HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n"
                connection.sendall(head.encode())
                assert connection.recv(65_536).startswith(b"HTTP/1.1 429")

    def test_addresses_of_one_network_count_as_one(self) -> None:
        """All that loopback has of IPv6 is one address; which others are of its /64, ``test_http`` tells."""
        with limited(self.ECHO, 1, "::1") as there:
            wire = Wire(f"http://[::1]:{there.port}", patience=5)
            wire.post(f"{ROOT}/x", b"x")
            with pytest.raises(TooOften):
                wire.post(f"{ROOT}/x", b"x")

    def test_a_device_says_so_in_a_line_and_does_not_try_again(self) -> None:
        with limited(self.ECHO, 1) as there:
            asked: list[str] = []

            class Counted(Wire):
                def _once(self, method: str, path: str, content: bytes, headers: Any) -> tuple[int, bytes, str]:
                    asked.append(path)
                    return super()._once(method, path, content, headers)

            wire = Counted(f"http://127.0.0.1:{there.port}", patience=60)
            wire.post(f"{ROOT}/x", b"x")
            with pytest.raises(TooOften, match=r"^the server refused \(429\): .* too often; ask again in 1,4"):
                wire.post(f"{ROOT}/x", b"x")
            assert len(asked) == 2

    @pytest.mark.parametrize("when", ["", "Fri, 31 Dec 1999 23:59:59 GMT", "-1", "9999999"])
    def test_a_server_that_does_not_say_when(self, when: str) -> None:
        app = application("another", {})

        @app.post("/{path:path}")
        async def say(path: str) -> Response:
            del path
            return Response(b"no", 429, {"Retry-After": when})

        address = Address(port=free_port())
        with running(address.serving(app), address), pytest.raises(TooOften, match=r"ask again later$"):
            Wire(f"http://127.0.0.1:{address.port}", patience=5).post("/x", b"x")

    def test_chosen_questions_end_at_the_limit(self) -> None:
        """64 give a matrix of 64 columns; of 20 the servers give, what is left open is most of it."""
        offer, wanted = Offer.of(("shared",), Given(made_up(300, 64))), 64
        queries = np.random.default_rng(6).integers(-9, 10, (wanted, 64))
        for per_day, most in ((None, wanted), (20, 20)):
            with limited(offer, per_day) as one, limited(offer, per_day) as other:
                wires = [Wire(f"http://127.0.0.1:{each.port}", patience=5) for each in (one, other)]
                terms = ScoringTerms.from_bytes(Afar(wires[0], "shared").outline().terms[shared.SCORING])
                read: list[Any] = []
                with ExitStack() as refused:
                    if per_day is not None:
                        refused.enter_context(pytest.raises(TooOften))
                    for query in queries:
                        asked = Scoring(terms, query)
                        first, second = (
                            wire.post(f"{ROOT}/shared", part) for wire, part in zip(wires, asked.questions, strict=True)
                        )
                        read.append(asked.read((first, second)))
            assert len(read) == most
            found = np.linalg.lstsq(queries[:most].astype(float), np.stack(read).astype(float), rcond=None)[0]
            error = np.linalg.norm(found - self.matrix()) / np.linalg.norm(self.matrix())
            assert error < 1e-6 if per_day is None else error > 0.5

    def matrix(self) -> Any:
        return quantised(made_up(300, 64).state["decoder"], shared.MOST)[0].T.astype(float)

    def test_a_person_can_have_as_many_lists_as_the_documents_say(
        self, trained: Trained, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """`shared`: one a list, and one for sixteen new rows; `garbled`: two to the first. The peer is not counted."""
        identity, first, second = Ed25519PrivateKey.generate(), Address(port=free_port()), Address(port=free_port())
        counted: dict[int, int] = {}

        def take(daily: Daily, party: bytes) -> None:
            assert party == bytes([127, 0, 0, 1])
            counted[id(daily)] = counted.get(id(daily), 0) + 1

        monkeypatch.setattr(Daily, "take", take)
        ways, wire = ("shared", "garbled"), Wire(f"http://127.0.0.1:{first.port}", identity, patience=5)
        one = Offer.of(ways, Given(trained, seat=Seat(5, peer=public_bytes(identity))))
        with running(first.serving(lists(one, 1)), first):
            other = Offer.of(ways, Given(trained, seat=Seat(5, wire=wire)))
            with running(second.serving(lists(other, 1)), second):
                wires = [Wire(f"http://127.0.0.1:{each.port}", patience=5) for each in (first, second)]
                for way, each in (("shared", [1, 1]), ("garbled", [1, 2])):
                    recommender = reached(way, wires, 5)
                    for more in (1, 0):
                        counted.clear()
                        request, kept = recommender.ask([100])
                        assert len(recommender.read(recommender.answer(request), kept)) == 5
                        assert sorted(counted.values()) == [number + more for number in each]


@pytest.mark.skipif(not find_spec("seal"), reason="needs seal-python")
class TestFloodsOfKeys:
    """A server cannot tell a key from noise of the same length before it is asked with it: it holds so many."""

    def test_the_one_not_used_for_longest_goes_and_a_device_sends_its_own_again(
        self, trained: Trained, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        from discreet.engines.seal import Seal

        monkeypatch.setattr(encryption, "KEYS_HELD", 8)
        offer = Offer.of(("encrypted",), Given(trained, scheme=Seal()))
        evaluator = cast("Any", offer.questions["encrypted"].work).__self__.evaluator
        with limited(offer, None) as there:
            server = Afar(Wire(f"http://127.0.0.1:{there.port}", patience=5), "encrypted")
            device = Encrypting(server.outline(), Seal(), 5)
            request, kept = device.ask([100])
            server.key(request.key)
            for number in range(1, 25):
                server.key(EvaluationKey(evaluator.terms.digest, os.urandom(Seal.key_size)).to_bytes())
                assert len(evaluator._keys) == min(number + 1, 8)
                if number % 7 == 0:  # whoever asks now and then is not in the flood's way
                    device.read(server.answer(request.question), kept)
                    request, kept = device.ask([100])
            for _ in range(8):
                server.key(EvaluationKey(evaluator.terms.digest, os.urandom(Seal.key_size)).to_bytes())
            with pytest.raises(KeyWanted):
                server.answer(request.question)
            device.read(Encrypted(device, server).answer(request), kept)
            assert len(evaluator._keys) == 8

    def test_an_address_sends_no_more_of_them_than_it_may_ask(self, trained: Trained) -> None:
        """The first list under a key is three questions: without the key, the key, with it; the second is one."""
        from discreet.engines.seal import Seal

        with limited(Offer.of(("encrypted",), Given(trained, scheme=Seal())), 4) as there:
            way = reached("encrypted", [Wire(f"http://127.0.0.1:{there.port}", patience=5)], 5)
            for _ in range(2):
                request, kept = way.ask([100])
                assert len(way.read(way.answer(request), kept)) == 5
            with pytest.raises(TooOften):
                way.server.key(request.key)


class TestLyingOutlines:
    """One server that makes an outline up must not see from what follows whether an item is known."""

    HISTORIES: ClassVar[list[list[str | int]]] = [[], [100], [131], [100, 131]]

    @pytest.mark.parametrize("kind", ["subspace", "gram"])
    @pytest.mark.parametrize("longest", [0, 1, 2**40, 2**61, 2**63])
    @pytest.mark.parametrize("scale", [1.0, 1e-300, 1e100])
    def test_whether_a_question_is_sent_depends_on_no_history(
        self, kind: Kind, longest: int, scale: float, histories: Histories
    ) -> None:
        outline = shared.Server(fit_unbilled(histories, 10.0, kind)).outline
        terms = replace(ScoringTerms.from_bytes(outline.terms[shared.SCORING]), longest=longest)
        told = {**outline.terms, shared.SCORING: terms.to_bytes()}
        false = replace(outline, terms=told, scales=outline.scales * scale)
        sent = []
        for history in self.HISTORIES:
            device = Device(false, 5)
            device._rows = {place: np.full(terms.width, 9, np.int16) for place in range(len(outline.kept))}
            try:
                device.ask(history)
                sent.append(True)
            except SettingError:
                sent.append(False)
        assert len(set(sent)) == 1

    def test_scales_that_could_overflow_are_refused(self, trained: Trained) -> None:
        outline = shared.Server(trained).outline
        with pytest.raises(ArtefactError, match="do not fit together"):
            Outline.from_bytes(replace(outline, scales=outline.scales * 0 + 1.7e308).to_bytes())

    def test_fewer_items_than_rows_are_refused(self, trained: Trained) -> None:
        outline = shared.Server(trained).outline
        with pytest.raises(ProtocolError, match="do not fit together"):
            Device(replace(outline, kept=outline.kept[:1]), 5)

    def test_two_servers_have_to_tell_the_same(self, trained: Trained, served: Served) -> None:
        """An id that one of them renamed would say by a refusal, or a fetch, whether it is known."""
        renamed = replace(trained, catalogue=replace(trained.catalogue, ids=(*trained.catalogue.ids[:-1], 9999)))
        address = Address(port=free_port())
        pages = [b"x"] * len(trained.catalogue)
        offer = Offer.of(("shared", "retrieved"), Given(renamed, (), pages))
        with running(address.serving(lists(offer)), address):
            wires = [served.wires("shared")[0], Wire(f"http://127.0.0.1:{address.port}", patience=5)]
            for way in ("shared", "retrieved"):
                with pytest.raises(ProtocolError, match="tell of different models"):
                    reached(way, wires, 5)


class TestTrouble:
    """Nothing waits for ever, whatever the other side does."""

    def test_a_server_that_is_busy_says_so_and_recovers(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(service, "WAITING", 0.2)
        held, entered = threading.Event(), threading.Semaphore(0)

        def slow(content: bytes) -> bytes:
            entered.release()
            held.wait(30)
            return content

        address = Address(port=free_port())
        server = address.serving(lists(Offer(("x",), {}, {"x": Question(9, slow)})))
        wire = Wire(f"http://127.0.0.1:{address.port}", patience=0.0)
        with running(server, address):
            cores = os.cpu_count() or 1
            threads = [threading.Thread(target=wire.post, args=(f"{ROOT}/x", b"x")) for _ in range(cores)]
            for thread in threads:
                thread.start()
            for _ in threads:
                assert entered.acquire(timeout=10)
            with pytest.raises(EngineLost, match="503"):
                wire.post(f"{ROOT}/x", b"y")
            held.set()
            for thread in threads:
                thread.join(30)
            assert wire.post(f"{ROOT}/x", b"y") == b"y"

    def test_a_server_that_says_nothing(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("discreet.client.wire.LONG_POLL", -9.5)  # half a second for an answer
        with socket.create_server(("127.0.0.1", 0)) as silent:
            wire = Wire(f"http://127.0.0.1:{silent.getsockname()[1]}", patience=1.0)
            begun = time.monotonic()
            with pytest.raises(EngineLost, match="cannot be reached"):
                wire.post(f"{ROOT}/shared", b"x")
            assert time.monotonic() - begun < 30

    def test_a_server_that_is_not_there(self, served: Served) -> None:
        gone = Wire(f"http://127.0.0.1:{free_port()}", patience=0.3)
        recommender = reached("shared", served.wires("shared"), 5)
        alone = Shared(recommender.device, (recommender.servers[0], Afar(gone, "shared")))
        with pytest.raises(EngineLost, match="cannot be reached"):
            alone.ask([100])

    def test_answers_that_are_nonsense(self) -> None:
        """Of a server that lies: typed errors, whatever it says."""
        nonsense = {"on_device/model", "shared/outline", "encrypted/outline", "retrieved/outline"}
        offer = Offer((), {path: Page.of(b"nonsense") for path in nonsense}, {})
        address = Address(port=free_port())
        with running(address.serving(lists(offer)), address):
            wire = Wire(f"http://127.0.0.1:{address.port}", patience=2)
            for way in ("shared", "retrieved"):
                with pytest.raises(ArtefactError, match="not a device's outline"):
                    reached(way, [wire, wire], 5)
            model = reached("on_device", [wire], 5)
            request, kept = model.ask([100])
            with pytest.raises(ArtefactError):
                model.read(model.answer(request), kept)
            with pytest.raises(Over):
                Afar(wire, "telepathy").outline()

    def test_more_than_an_answer_may_have_is_not_read(self) -> None:
        offer = Offer((), {"shared/outline": Page.of(bytes(5000))}, {})
        address = Address(port=free_port())
        with running(address.serving(lists(offer)), address):
            wire = Wire(f"http://127.0.0.1:{address.port}", patience=2, most=4000)
            with pytest.raises(ProtocolError, match="more than a message may have"):
                Afar(wire, "shared").outline()


@pytest.fixture(scope="module")
def model(trained: Trained, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model") / "model.npz"
    path.write_bytes(trained.to_bytes())
    return path


@pytest.mark.slow
class TestProcesses:
    def test_a_server_that_is_killed_in_mid_exchange(self, model: Path, trained: Trained, tmp_path: Path) -> None:
        """kill -9 between its half of the rows and its half of the scores; started again, it answers."""
        arguments = ["discreet", "inference", "serve", model, "--way", "shared", "--port"]
        ports = [free_port(), free_port()]
        with stopping([start([*arguments, str(port)], tmp_path / "errors.txt") for port in ports]) as processes:
            deadline = time.monotonic() + 120
            assert all(process.until("listening", deadline) for process in processes)
            wires = [Wire(f"http://127.0.0.1:{port}", patience=1.0) for port in ports]
            recommender = reached("shared", wires, 5)
            request, kept = recommender.ask([100])
            processes[1].running.send_signal(signal.SIGKILL)
            processes[1].running.wait(30)
            with pytest.raises(EngineLost, match="cannot be reached"):
                recommender.answer(request)
            processes.append(start([*arguments, str(ports[1])], tmp_path / "errors.txt"))
            assert processes[-1].until("listening", deadline)
            assert recommender.read(recommender.answer(request), kept).items == trained.recommend([100], 5).items

    @pytest.mark.skipif(not find_spec("seal"), reason="needs seal-python")
    def test_workers_end_with_a_server_that_is_killed(self, model: Path, tmp_path: Path) -> None:
        arguments = ["discreet", "inference", "serve", model, "--way", "encrypted", "--port", str(free_port())]
        with stopping([start(arguments, tmp_path / "errors.txt")]) as (server,):
            assert server.until("listening", time.monotonic() + 120)
            children = Path(f"/proc/{server.running.pid}/task/{server.running.pid}/children").read_text().split()
            assert len(children) >= 2
            server.running.kill()
            deadline = time.monotonic() + 30
            while any(_lives(int(child)) for child in children):
                assert time.monotonic() < deadline
                time.sleep(0.05)

    def test_a_limit_by_the_command(self, model: Path, tmp_path: Path) -> None:
        port = free_port()
        serve = ["discreet", "inference", "serve", model, "--way", "retrieved", "--daily", "1", "--port", port]
        ask = [sys.executable, "-m", "discreet", "inference", "ask", "--way", "retrieved", "--history", "100"]
        ask += ["--n", "1"] + 2 * ["--server", f"http://127.0.0.1:{port}"]  # one plays both: each list is two questions
        with stopping([start(serve, tmp_path / "errors.txt")]) as (server,):
            assert server.until("listening", time.monotonic() + 120)
            done = subprocess.run(ask, check=False, capture_output=True, text=True, timeout=120)
            assert done.returncode == 1
            assert done.stderr.count("\n") == 1
            assert "asked too often; ask again in 1,4" in done.stderr

    def test_asking_by_the_command(self, model: Path, trained: Trained, tmp_path: Path) -> None:
        certificate, key = certify_loopback(tmp_path)
        ports = [free_port(), free_port()]
        tls = ["--certificate", certificate, "--key", key]
        ways = ["--way", "shared", "--way", "retrieved"]
        servers = [
            start(["discreet", "inference", "serve", model, *ways, *tls, "--port", str(port)], tmp_path / "errors.txt")
            for port in ports
        ]
        with stopping(servers) as processes:
            assert all(process.until("listening", time.monotonic() + 120) for process in processes)
            ask = [sys.executable, "-m", "discreet", "inference", "ask", "--ca", str(certificate)]
            ask += [part for port in ports for part in ("--server", f"https://127.0.0.1:{port}")]
            ask += ["--history", "100,101", "--n", "3", "--json"]
            listed = subprocess.run([*ask, "--way", "shared"], check=True, capture_output=True, text=True, timeout=120)
            items = [row["item_id"] for row in json.loads(listed.stdout)["items"]]
            assert items == list(trained.recommend([100, 101], 3).items)
            pages = subprocess.run(
                [*ask, "--way", "retrieved"], check=True, capture_output=True, text=True, timeout=120
            )
            assert json.loads(pages.stdout) == {"pages": ["100", "101"]}

    def test_the_demo(self, model: Path) -> None:
        command = [sys.executable, "-m", "discreet", "inference", "demo", str(model), "--json"]
        done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=300)
        found = json.loads(done.stdout)
        assert {each["way"] for each in found} >= {"on_device", "shared"}
        assert all(each["agree"] >= 9 for each in found)
        assert all(each["up"] + each["down"] > 0 for each in found if each["way"] != "on_device")


def _lives(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


class TestPages:
    """What `inference serve --pages` reads."""

    def test_of_a_file_in_the_order_of_the_catalogue(self, trained: Trained, tmp_path: Path) -> None:
        from discreet.cli.inference import _pages

        (tmp_path / "pages.csv").write_text("page,item_id\nwhat it is,101\n")
        found = _pages(trained, tmp_path / "pages.csv")
        assert found[:3] == [b"", b"what it is", b""]
        assert _pages(trained, None)[1] == b"101"

    def test_of_a_file_without_them(self, trained: Trained, tmp_path: Path) -> None:
        from discreet.cli.inference import _pages
        from discreet.errors import DataError

        (tmp_path / "pages.csv").write_text("text,item_id\nx,101\n")
        with pytest.raises(DataError, match="need the columns item_id and page"):
            _pages(trained, tmp_path / "pages.csv")


def test_lists_of_live_data_over_http_by_the_command(
    columns: dict[str, list[int] | list[str]], model: Path, tmp_path: Path
) -> None:
    """One release however often it is asked for; another state of the file is another one."""
    data = tmp_path / "tastes.parquet"
    import_interactions(columns, data, name="tastes", purposes=["trending"])
    account = Account("tastes", "trending", by_interaction=True)
    with Ledger(tmp_path / "ledger.db") as ledger:
        ledger.open_budget(account, epsilon=1.0, delta=1e-5)
    port = free_port()
    arguments = ["discreet", "inference", "serve", model, "--way", "noisy", "--live", data, "--port", str(port)]
    kept = ["--ledger", tmp_path / "ledger.db", "--folder", tmp_path / "live", "--epsilon", "0.2"]
    with stopping([start([*arguments, *kept], tmp_path / "errors.txt")]) as (server,):
        assert server.until("listening", time.monotonic() + 120)
        wire = Wire(f"http://127.0.0.1:{port}", patience=10)
        found = set()
        for _ in range(30):
            way = reached("noisy", [wire], 10)
            request, kept_history = way.ask([100])
            found.add(way.read(way.answer(request), kept_history).scores)
        assert len(found) == 1
        with Ledger(tmp_path / "ledger.db") as ledger:
            once = ledger.account(account).spent
        fewer = {name: values[:-20] for name, values in columns.items()}
        import_interactions(fewer, tmp_path / "newer.parquet", name="tastes", purposes=["trending"])
        (tmp_path / "newer.parquet").replace(data)
        request, kept_history = way.ask([100])
        assert way.read(way.answer(request), kept_history).scores not in found
        with Ledger(tmp_path / "ledger.db") as ledger:
            assert ledger.account(account).spent == 2 * once > 0


class TestThree:
    """Three servers that compute on shares: over HTTP, and, where SPU is, as processes."""

    def test_keeps_the_contract_over_http(self, trained: Trained, histories: Histories) -> None:
        owner = Owner(trained)
        first, second, third = map(Held, owner.shares)
        computes = InTheClear().computes((first, second, third))
        addresses = [Address(port=free_port()) for _ in range(3)]
        with ExitStack() as stack:
            for held, compute, address in zip((first, second, third), computes, addresses, strict=True):
                app = lists(ranked(owner.outline, Ranker(held, compute)))
                stack.enter_context(running(address.serving(app), address))
            wires = [Wire(f"http://127.0.0.1:{address.port}", patience=10) for address in addresses]
            ids = histories.catalogue.ids
            asked: list[list[str | int]] = [[ids[at] for at in histories.matrix[[row]].indices] for row in range(6)]
            check_recommender(reached("mpc", wires, 20), Plain(trained, 20), [*asked, [], ["nothing"], [*ids]])
            with pytest.raises(SettingError, match="needs three servers, no two of whom"):
                reached("mpc", wires[:2], 20)
            with pytest.raises(Denied, match="each server a question of its own"):
                wires[0].post(f"{ROOT}/mpc", reached("mpc", wires, 20).ask([])[0][1])

    def test_a_model_is_dealt_once(self, model: Path, tmp_path: Path) -> None:
        command = [sys.executable, "-m", "discreet", "inference", "deal", str(model), "--out", str(tmp_path / "dealt")]
        assert subprocess.run(command, check=False, capture_output=True, timeout=60).returncode == 0
        assert (tmp_path / "dealt").stat().st_mode & 0o077 == 0
        again = subprocess.run(command, check=False, capture_output=True, text=True, timeout=60)
        assert again.returncode == 1
        assert "exists already" in again.stderr

    @pytest.mark.slow
    @pytest.mark.skipif(not os.environ.get(PYTHON), reason=f"SPU has an environment of its own: {HOW}")
    def test_as_three_operators_would(self, model: Path, trained: Trained, tmp_path: Path) -> None:
        dealt, linked = tmp_path / "dealt", [free_port() for _ in range(3)]
        deal = [sys.executable, "-m", "discreet", "inference", "deal", str(model), "--out", str(dealt)]
        subprocess.run(deal, check=True, timeout=60)
        parties = [part for port in linked for part in ("--party", f"127.0.0.1:{port}")]
        ports = [free_port() for _ in range(3)]
        arguments = ["--outline", dealt / "outline.npz", *parties, "--link", "test", "--daily", "1"]
        servers = [
            start(
                ["discreet", "inference", "party", dealt / f"seat-{seat}.share", *arguments, "--port", port],
                tmp_path / "errors.txt",
            )
            for seat, port in enumerate(ports)
        ]
        with stopping(servers) as processes:
            assert all(process.until("listening", time.monotonic() + 120) for process in processes)
            way = reached("mpc", [Wire(f"http://127.0.0.1:{port}", patience=20) for port in ports], 10)
            request, kept = way.ask([100, 101])
            made = way.read(way.answer(request), kept)
            assert len({*made} & {*trained.recommend([100, 101], 10)}) >= 9
            with pytest.raises(TooOften):
                way.answer(way.ask([100])[0])
