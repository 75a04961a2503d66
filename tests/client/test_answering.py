"""A device at a socket says what a device says, each stage once, and nothing to whoever asks out of turn."""

from __future__ import annotations

import os
import signal
import socket
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from federations import PEOPLE, PLENTY, Federation

from discreet.client import answering as room
from discreet.client.answering import Answering, Said, Told, ask, listening, serve
from discreet.client.device import Allowance
from discreet.errors import EngineLost, SettingError
from discreet.models.broadcast import Announcement
from discreet.protocols.secagg.server import Server
from discreet.protocols.secagg.terms import Policy, Stage, Terms

FEDERATION = Federation.of("popularity")


class Devices:
    """All devices of a federation, and a session of theirs."""

    def __init__(self, folder: Path, allowance: Allowance | None = None) -> None:
        self.told: list[dict[str, Any]] = []
        self.kept: list[bytes] = []
        self.terms = FEDERATION.terms()
        self.each = [
            Answering(FEDERATION.device(seat, folder, allowance=allowance), seat, self.told.append, self.kept.append)
            for seat in range(PEOPLE)
        ]

    def announced(self, terms: Terms | None = None) -> Told:
        terms = terms or self.terms
        content = Announcement(terms.to_bytes(), FEDERATION.broadcast()).to_bytes()
        return Told(terms.session, Stage.ADVERTISE, content)

    def say(self, seat: int, told: Told) -> bytes:
        said = Said.from_bytes(self.each[seat].answer(told.to_bytes()), 1 << 28)
        assert said.seat == seat
        return said.content

    def cohort(self) -> dict[int, bytes]:
        """Return what each seat is sent after ADVERTISE."""
        server = Server(FEDERATION.roster, self.terms)
        for seat in range(PEOPLE):
            server.take(seat, self.say(seat, self.announced()))
        return {seat: message.to_bytes() for seat, message in server.close().items()}


@pytest.fixture
def devices(tmp_path: Path) -> Devices:
    return Devices(tmp_path)


class TestTurns:
    def test_a_stage_is_said_once(self, devices: Devices) -> None:
        told = Told(devices.terms.session, Stage.SHARE, devices.cohort()[0])
        assert devices.say(0, told)
        devices.told.clear()
        assert devices.say(0, told) == b""
        assert devices.say(0, devices.announced()) == b""
        assert [each["why"] for each in devices.told] == ["ProtocolError", "TermsRefused"]
        assert repr(devices.each[0]) == "Answering(Part(MASK))"  # and its part goes on

    def test_whoever_asks_out_of_turn_hears_nothing_and_ends_nothing(self, devices: Devices) -> None:
        right = Told(devices.terms.session, Stage.SHARE, devices.cohort()[0])
        for wrong in (
            replace(right, session=bytes(32)),
            replace(right, stage=Stage.MASK),
            replace(right, stage=99),
            replace(devices.announced(), session=bytes(32)),
            replace(devices.announced(), content=b"junk"),
        ):
            assert devices.say(0, wrong) == b""
        assert devices.say(0, right)

    def test_a_message_that_breaks_the_protocol_ends_its_part(self, devices: Devices) -> None:
        right = Told(devices.terms.session, Stage.SHARE, devices.cohort()[0])
        assert devices.say(0, replace(right, content=b"junk")) == b""
        assert devices.say(0, right) == b""

    def test_a_new_session_takes_the_place_of_one_that_was_left(self, devices: Devices) -> None:
        devices.cohort()
        other = FEDERATION.terms()
        assert devices.say(0, devices.announced(other))
        assert devices.say(0, Told(devices.terms.session, Stage.SHARE, b"")) == b""

    def test_why_it_takes_no_part_is_told_at_home_alone(self, tmp_path: Path) -> None:
        devices = Devices(tmp_path, Allowance(policy=Policy(cohort=PEOPLE, survivors=PEOPLE)))
        assert devices.say(0, devices.announced()) == b""
        assert devices.told == [{"session": "", "left": devices.told[0]["left"], "why": "TermsRefused"}]

    def test_the_released_model_is_kept(self, devices: Devices) -> None:
        assert devices.say(0, Told(b"", Stage.DONE, b"model")) == b""
        assert devices.kept == [b"model"]
        assert not devices.told


@pytest.fixture
def served(devices: Devices, tmp_path: Path) -> Iterator[Path]:
    path = tmp_path / "socket"
    with listening(path) as door:

        def answer() -> None:
            with suppress(OSError):  # when the test ends it
                serve(devices.each[0], door)

        thread = threading.Thread(target=answer, daemon=True)
        thread.start()
        yield path
        door.shutdown(socket.SHUT_RDWR)
        thread.join(10)


class TestSocket:
    def test_it_answers_this_user_and_group(self, devices: Devices, served: Path) -> None:
        assert ask(served, devices.announced(), 10).content
        assert stat.S_IMODE(served.stat().st_mode) == 0o660

    @pytest.mark.parametrize("sent", [b"", b"\0", bytes(8), b"\xff" * 8, (9).to_bytes(8, "big") + b"short"])
    def test_junk_is_left(self, sent: bytes, devices: Devices, served: Path) -> None:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(str(served))
            connection.sendall(sent)
            connection.shutdown(socket.SHUT_WR)
            assert connection.recv(1) == b""
        assert ask(served, devices.announced(), 10).content

    def test_whoever_is_slow_is_left(self, devices: Devices, served: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(room, "PATIENCE", 0.1)
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(str(served))
            assert ask(served, devices.announced(), 10).content

    def test_nobody_there(self, devices: Devices, tmp_path: Path) -> None:
        with pytest.raises(EngineLost, match=r"no device answers at its socket \(FileNotFoundError\)"):
            ask(tmp_path / "none", devices.announced(), 1)

    def test_places_where_no_device_can_answer(self, served: Path, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("somebody's")
        for path in (served, tmp_path / "file", tmp_path / "none" / "socket", tmp_path / ("long" * 50)):
            with pytest.raises(SettingError, match="no device can answer there"):
                listening(path)
        assert (tmp_path / "file").read_text() == "somebody's"


def test_as_a_program_it_is_killed_and_started_again(tmp_path: Path) -> None:
    """The socket that it left behind is taken over."""
    identity, place = FEDERATION.identities[0], tmp_path / "socket"
    for name, content in {
        "key": identity.private_bytes_raw().hex(),
        "roster": "\n".join(key.hex() for key in FEDERATION.roster),
        "items": "\n".join(map(str, reversed(range(3)))),
        "history": "1",
    }.items():
        (tmp_path / name).write_text(content)
    command = [sys.executable, "-m", "discreet.client", "answer", "--socket", str(place), "--units", str(PLENTY)]
    files = [("identity", "key"), ("roster", "roster"), ("items", "items"), ("history", "history"), ("book", "book")]
    command += [word for name, file in files for word in (f"--{name}", str(tmp_path / file))]
    for _ in range(2):
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as device:
            assert device.stdout
            assert str(place) in device.stdout.readline()
            assert ask(place, Told(b"", Stage.DONE, b"no model"), 10) == Said(0, b"")
            assert "ProtocolError" in device.stdout.readline()
            os.kill(device.pid, signal.SIGKILL)
