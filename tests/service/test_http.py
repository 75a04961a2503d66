"""Over HTTP: what is refused before it is read, what is signed, and real processes that are killed."""

from __future__ import annotations

import http.client
import json
import logging
import math
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from federations import LISTED, Federation
from hypothesis import given
from hypothesis import strategies as st
from serving import running, up
from starlette.requests import Request

from discreet.cli.federated_demo import Stage
from discreet.cli.processes import free_port, stopping
from discreet.client.wire import Over, Wire
from discreet.errors import EngineLost, ProtocolError, SettingError
from discreet.evaluation.audit.people import crowd, opened
from discreet.models.trained import Trained
from discreet.protocols.keys import public_bytes, request_text
from discreet.service import http as limits
from discreet.service import listening
from discreet.service.certificates import certify_loopback
from discreet.service.federated import coordinator, first_server
from discreet.service.halves import First
from discreet.service.listening import Address
from discreet.service.lists import Offer, lists
from discreet.service.rounds import Rounds
from discreet.training.spool import Spool

FEDERATION = Federation.of("popularity")
ROOT = "/federated/v1"
DEADLINE = 120.0


@pytest.fixture
def served(tmp_path: Path) -> Iterator[tuple[int, Path]]:
    """A coordinator with no session open, over TLS."""
    certificate, key = certify_loopback(tmp_path)
    address = Address(port=free_port(), certificate=certificate, key=key)
    server = address.serving(coordinator(Rounds(FEDERATION.roster, Spool(tmp_path / "spool.db")), LISTED))
    thread = up(server, address)
    yield address.port, certificate
    server.should_exit = True
    thread.join(30)


def asked(port: int, ca: Path, method: str, path: str, headers: dict[str, str] | None = None) -> tuple[int, bytes, str]:
    connection = http.client.HTTPSConnection(
        "127.0.0.1", port, timeout=30, context=ssl.create_default_context(cafile=str(ca))
    )
    connection.request(method, path, None, headers or {})
    answer = connection.getresponse()
    content = answer.read()
    connection.close()
    return answer.status, content, answer.headers.get("content-type", "")


class TestRefusals:
    def test_problems_are_documents_and_say_nothing_of_anybody(self, served: tuple[int, Path]) -> None:
        path = f"{ROOT}/rounds/{'00' * 32}/advertise/0"
        for method, where, status, kind in (
            ("GET", path, 401, "not-signed"),
            ("GET", f"{ROOT}/rounds/x/advertise/99", 401, "not-signed"),
            ("PUT", path, 503, "not-now"),
            ("GET", f"{ROOT}/model", 404, "no-such-session"),
            ("GET", "/nothing", 404, "no-such-resource"),
            ("POST", f"{ROOT}/items", 405, "no-such-resource"),
            ("GET", f"{ROOT}/rounds/x/mask/seat", 404, "no-such-resource"),
        ):
            found, content, form = asked(*served, method, where)
            assert (found, form) == (status, "application/problem+json")
            assert json.loads(content)["type"] == f"urn:discreet:{kind}"

    @pytest.mark.parametrize(
        "sent", ["", "Discreet", "Discreet zz zz", f"Discreet {'00' * 32} {'00' * 64}", "Basic 0 00"]
    )
    def test_signatures_that_are_none(self, sent: str, served: tuple[int, Path]) -> None:
        headers = {"Authorization": sent} if sent else None
        assert asked(*served, "GET", f"{ROOT}/rounds/x/advertise/0", headers)[0] == 401

    def test_nobody_speaks_for_another_seat(self, served: tuple[int, Path]) -> None:
        port, ca = served
        wire = Wire(f"https://127.0.0.1:{port}", FEDERATION.identities[1], 1, ca, patience=2)
        with pytest.raises(ProtocolError, match=r"refused \(401\).*not signed by whom it has to be"):
            wire.get(f"{ROOT}/rounds/x/advertise/0")
        with pytest.raises(EngineLost, match="it answers 503"):  # its own seat may ask, and is to ask again
            wire.get(f"{ROOT}/rounds/x/advertise/1")
        with pytest.raises(Over):
            wire.get(f"{ROOT}/model")

    def test_a_certificate_that_is_not_pinned(self, served: tuple[int, Path], tmp_path: Path) -> None:
        (tmp_path / "other").mkdir()
        other, _ = certify_loopback(tmp_path / "other")
        wire = Wire(f"https://127.0.0.1:{served[0]}", FEDERATION.identities[0], 0, other, patience=2)
        with pytest.raises(EngineLost, match="certificate is not the one that is pinned"):
            wire.get(f"{ROOT}/items")

    def test_nobody_there(self) -> None:
        wire = Wire(f"http://127.0.0.1:{free_port()}", FEDERATION.identities[0], 0, patience=0.5)
        with pytest.raises(EngineLost, match="cannot be reached"):
            wire.get(f"{ROOT}/items")

    @pytest.mark.parametrize(
        "url",
        [
            "",
            "127.0.0.1",
            "ftp://127.0.0.1",
            "http://example.org",
            "http://10.0.0.1:80",
            "https://[",
            "https://a:99999",
        ],
    )
    def test_addresses_that_would_send_in_clear_or_are_none(self, url: str) -> None:
        with pytest.raises(SettingError):
            Wire(url, FEDERATION.identities[0], 0)

    def test_nothing_listens_beyond_this_machine_without_tls(self, tmp_path: Path) -> None:
        for host in ("0.0.0.0", "::", "example.org"):  # noqa: S104 - that it is refused
            with pytest.raises(SettingError, match="without TLS nothing listens"):
                Address(host)
        with pytest.raises(SettingError, match="go together"):
            Address(certificate=tmp_path)
        assert Address("::1").host == "::1"


@pytest.fixture
def first(tmp_path: Path) -> Iterator[tuple[int, Ed25519PrivateKey]]:
    second = Ed25519PrivateKey.generate()
    address = Address(port=free_port())
    app = first_server(First(FEDERATION.roster, X25519PrivateKey.generate(), public_bytes(second), 3))
    server = address.serving(app)
    thread = up(server, address)
    yield address.port, second
    server.should_exit = True
    thread.join(30)


class TestSizes:
    """Bodies are bounded before they are read, whatever their headers say."""

    def test_a_body_that_says_how_large_it_is(self, first: tuple[int, Ed25519PrivateKey]) -> None:
        """Refused, or cut off while it is still being sent: a server that has answered reads no more."""
        port, second = first
        wire = Wire(f"http://127.0.0.1:{port}", second, -1, patience=2)
        with pytest.raises((ProtocolError, EngineLost), match=r"refused \(413\)|BrokenPipe|ConnectionReset"):
            wire.put(f"{ROOT}/halves/{'00' * 32}", bytes(2 << 20))

    def test_a_body_that_does_not(self, first: tuple[int, Ed25519PrivateKey]) -> None:
        """Also of whoever may sign: it is cut off where it is too long, or is not what was signed."""
        port, second = first
        for size, wanted in ((4 << 20, 413), (1 << 16, 401)):
            connection, digest = http.client.HTTPConnection("127.0.0.1", port, timeout=30), bytes(32)
            path = f"{ROOT}/halves/{'00' * 32}"
            signature = second.sign(request_text("PUT", path, digest)).hex()
            headers = {"Transfer-Encoding": "chunked", "Authorization": f"Discreet {digest.hex()} {signature}"}
            parts = (bytes(1 << 16) for _ in range(size >> 16))
            try:
                connection.request("PUT", path, parts, headers, encode_chunked=True)
                status = connection.getresponse().status
            except (BrokenPipeError, ConnectionResetError):  # it hung up while we were still speaking
                status = 413
            connection.close()
            assert status == wanted

    def test_a_body_that_ends_too_early(
        self, first: tuple[int, Ed25519PrivateKey], caplog: pytest.LogCaptureFixture
    ) -> None:
        port, second = first
        logging.getLogger("uvicorn.error").addHandler(caplog.handler)  # whose messages go no further
        path = f"{ROOT}/halves/{'00' * 32}"
        signature = second.sign(request_text("PUT", path, bytes(32))).hex()
        for _ in range(5):
            with socket.create_connection(("127.0.0.1", port)) as connection:
                head = f"PUT {path} HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n"
                connection.sendall(f"{head}Authorization: Discreet {'00' * 32} {signature}\r\n\r\nabc".encode())
        with pytest.raises(ProtocolError, match=r"refused \(400\)"):  # it still answers
            Wire(f"http://127.0.0.1:{port}", second, -1, patience=2).put(path, b"junk")
        assert not [record for record in caplog.records if record.exc_info]

    def test_connections_on_which_nothing_is_asked_are_closed(
        self, first: tuple[int, Ed25519PrivateKey], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("discreet.service.listening.HEAD_SECONDS", 0.5)
        for said in (b"", b"PUT /a HTTP/1.1\r\nHost: "):
            with socket.create_connection(("127.0.0.1", first[0])) as connection:
                connection.settimeout(10)
                connection.sendall(said)
                assert connection.recv(1_000) == b""

    def test_connections_on_which_nothing_is_asked_again_are_closed(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """A byte after an answer stops the clock that a server has for its next request; ours goes on."""
        monkeypatch.setattr("discreet.service.listening.HEAD_SECONDS", 0.5)
        address = Address(port=free_port())
        with running(address.serving(lists(Offer(()))), address):
            for said in (b"", b"G"):
                with socket.create_connection(("127.0.0.1", address.port)) as connection:
                    connection.settimeout(10)
                    connection.sendall(b"GET /lists/v1 HTTP/1.1\r\nHost: x\r\n\r\n")
                    heard = connection.recv(65536)
                    assert heard.startswith(b"HTTP/1.1 200")
                    connection.sendall(said)
                    while heard:
                        heard = connection.recv(65536)

    def test_short_answers_are_not_held_back(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Otherwise each one over TLS waits for some forty milliseconds."""
        seen: list[int] = []
        begun = listening._Impatient.connection_made

        def made(self: Any, transport: Any) -> None:
            begun(self, transport)
            seen.append(transport.get_extra_info("socket").getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))

        monkeypatch.setattr(listening._Impatient, "connection_made", made)
        address = Address(port=free_port())
        with running(address.serving(lists(Offer(()))), address):
            Wire(f"http://127.0.0.1:{address.port}", patience=5).get("/lists/v1")
        assert seen
        assert all(seen)

    def test_terms_that_are_none(self, first: tuple[int, Ed25519PrivateKey]) -> None:
        port, second = first
        wire = Wire(f"http://127.0.0.1:{port}", second, -1, patience=2)
        with pytest.raises(ProtocolError, match=r"refused \(400\)"):
            wire.put(f"{ROOT}/halves/{'00' * 32}", b"junk")
        with pytest.raises(ProtocolError, match=r"refused \(401\)"):
            replace(wire, identity=Ed25519PrivateKey.generate()).put(f"{ROOT}/halves/{'00' * 32}", b"junk")


class TestSenders:
    @pytest.mark.parametrize(
        ("one", "other", "same"),
        [
            ("127.0.0.1", "127.0.0.1", True),
            ("192.0.2.1", "192.0.2.2", False),
            ("2001:db8:1:2::1", "2001:db8:1:2:ffff::9", True),
            ("2001:db8:1:2::1", "2001:db8:1:3::1", False),
            ("fe80::1%lo", "fe80::2", True),
            ("::ffff:192.0.2.1", "::ffff:192.0.2.2", False),
            ("::ffff:192.0.2.1", "192.0.2.1", True),
            ("::1", "127.0.0.1", False),
        ],
    )
    def test_an_address_or_a_64(self, one: str, other: str, same: bool) -> None:
        first, second = (limits.sender(Request({"type": "http", "client": (host, 1)})) for host in (one, other))
        assert (first == second) is same


class Clock:
    """Time that passes when it is told to."""

    def __init__(self) -> None:
        self.now = 1_000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(limits, "time", made)
    return made


def again(daily: limits.Daily, party: int) -> int | None:
    """Count once more; return None, or after how many seconds a party that is refused may again."""
    try:
        daily.take(party.to_bytes(4))
    except limits.Refused as refused:
        return int(refused.headers["Retry-After"])
    return None


class TestDaily:
    @given(
        st.lists(st.tuples(st.integers(0, 3), st.sampled_from([0.0, 1.0, 3_600.0, 40_000.0, 86_400.0])), max_size=60),
        st.integers(1, 4),
    )
    def test_no_more_within_any_24_hours(self, steps: list[tuple[int, float]], most: int) -> None:
        """Against a list of all that was ever done."""
        done: list[tuple[int, float]] = []
        daily, clock = limits.Daily(most), Clock()
        with patch.object(limits, "time", clock):
            for party, passed in steps:
                clock.now += passed
                lately = [at for who, at in done if who == party and at > clock.now - limits.DAY]
                after = again(daily, party)
                if len(lately) < most:
                    assert after is None
                    done.append((party, clock.now))
                else:
                    assert after == math.ceil(lately[0] + limits.DAY - clock.now)

    @given(
        st.lists(st.tuples(st.integers(0, 7), st.sampled_from([0.0, 100.0, 3_601.0, 43_200.0, 86_300.0])), max_size=60),
        st.integers(1, 3),
    )
    def test_whoever_is_refused_stays_so_until_then_however_many_come(
        self, steps: list[tuple[int, float]], most: int
    ) -> None:
        until: dict[int, float] = {}
        daily, clock = limits.Daily(most, counted=3), Clock()
        with patch.object(limits, "time", clock):
            for party, passed in steps:
                clock.now += passed
                after = again(daily, party)
                assert len(daily._done) <= 3
                if clock.now < until.get(party, 0.0):
                    assert after == until[party] - clock.now
                if after is not None:
                    assert 0 < after <= limits.DAY
                    until[party] = clock.now + after

    def test_what_no_longer_counts_is_nothing_also_where_room_is_short(self, clock: Clock) -> None:
        daily = limits.Daily(2, counted=4)
        for party in range(3):
            assert again(daily, party) is None
        clock.now += limits.DAY - 100
        assert again(daily, 3) is None
        clock.now += 200  # the first three count no more, and an hour has not passed since all were looked through
        assert again(daily, 4) is None
        clock.now += limits.HOUR + 1
        assert again(daily, 5) is None

    def test_a_flood_takes_no_more_room_and_frees_nobody(self, clock: Clock) -> None:
        daily = limits.Daily(2, counted=16)
        assert [again(daily, 0), again(daily, 0)] == [None, None]
        for party in range(1, 5_000):
            clock.now += 1.0
            assert again(daily, party) is None  # whoever comes new is answered
            assert again(daily, 0) is not None
            assert len(daily._done) <= 16

    def test_who_did_more_is_remembered_longer(self) -> None:
        daily = limits.Daily(3, counted=16)
        assert [again(daily, 0), again(daily, 0)] == [None, None]
        for party in range(1, 1_000):
            assert again(daily, party) is None
        assert again(daily, 0) is None
        assert again(daily, 0) is not None

    def test_where_all_had_their_share_new_ones_wait_for_the_first(self, clock: Clock) -> None:
        daily = limits.Daily(1, counted=3)
        for party in range(3):
            assert again(daily, party) is None
            clock.now += 10.0
        assert {again(daily, party) for party in range(3, 1_000)} == {int(limits.DAY) - 30}
        assert len(daily._done) == 3
        clock.now += limits.DAY - 30.0
        assert [again(daily, party) for party in (3, 4)] == [None, 10]

    def test_addresses_are_not_kept_for_longer_than_they_count(self, clock: Clock) -> None:
        daily = limits.Daily(5)
        for party in range(100):
            again(daily, party)
        clock.now += limits.DAY + 1
        again(daily, 100)
        assert len(daily._done) == 1

    def test_none_at_all_is_no_limit(self) -> None:
        with pytest.raises(SettingError, match="at least 1 a day"):
            limits.Daily(0)

    def test_room_is_bounded_in_times_too(self) -> None:
        daily = limits.Daily(limits.MOST_TIMES)
        for party in range(20):
            assert again(daily, party) is None
            assert len(daily._done) == 1


@pytest.mark.slow
@pytest.mark.parametrize("way", ["secagg", "two-servers"])
def test_a_coordinator_killed_in_mid_run_goes_on_and_so_do_its_devices(way: str, tmp_path: Path) -> None:
    """kill -9 while devices speak; started again with the same release, it publishes, and devices pay once."""
    histories = opened(crowd(12, 60, 20, np.random.default_rng(5)))
    stage, deadline, port = Stage.set_up(tmp_path, histories, 12), time.monotonic() + DEADLINE, free_port()
    first = free_port() if way == "two-servers" else None
    with stopping([]) as processes:
        if first is not None:
            processes.append(stage.first_server(first))
        killed = stage.coordinator(way, port, first, linger=3, patience=20)
        devices = [stage.device(number, way, port, first) for number in range(12)]
        processes.extend([killed, *devices])
        for said in ("mask", "mask") if first else ("reveal", "share"):  # the first round is over, the second going on
            assert devices[0].until(said, deadline)
        killed.running.kill()
        killed.running.wait()
        assert not (tmp_path / f"{way}.npz").exists()
        again = stage.coordinator(way, port, first, linger=3, patience=20)
        processes.append(again)
        assert again.running.wait(DEADLINE) == 0, (tmp_path / "errors.txt").read_text()
        ends = [device.ended(deadline) for device in devices]
    trained = Trained.load(tmp_path / f"{way}.npz")
    assert {end.get("spent") for end in ends} == {trained.plan.cost}
    assert all(end["model"] and len(end["list"]) == 5 for end in ends)
    assert trained.release == f"demo-{way}"
    assert not trained.unbilled


@pytest.mark.slow
def test_the_demo(tmp_path: Path) -> None:
    """Twelve devices, two of them killed in mid-round; then two servers."""
    table = ["user_id,item_id"] + [f"{person},{item * (person % 3 + 1)}" for person in range(15) for item in range(25)]
    (tmp_path / "people.csv").write_text("\n".join(table))
    command = [sys.executable, "-m", "discreet", "federated", "demo", "--out"]
    arguments = [str(tmp_path / "demo"), "--clients", "12", "--killed", "2", "--from", str(tmp_path / "people.csv")]
    done = subprocess.run(check=False, args=[*command, *arguments], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("killed a device") == 2
    secure, apart = json.loads((tmp_path / "demo/found.json").read_text())
    assert (secure["ended"], secure["killed"]) == (10, 2)
    assert apart["ended"] == 12
    for found in (secure, apart):
        assert found["spent"] == [Trained.load(tmp_path / "demo" / f"{found['way']}.npz").plan.cost]
        assert found["spent"][0] <= found["allowed"][0]
        assert len(found["list"]) == 5
    again = subprocess.run(check=False, args=[*command, str(tmp_path)], capture_output=True, text=True)
    assert again.returncode == 1
    assert "was not made by this demo" in again.stderr
