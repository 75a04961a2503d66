"""A device that answers at a socket on its own machine, for messages that somebody else's program carries.

Whoever carries them runs in another process, and had better run as another user: what a session keeps secret between
its messages is in this process's memory and nowhere else, as are history and keys. Whoever reaches the socket may ask
what any coordinator may, and is trusted no more: the device checks it all, books before it speaks, and says a stage
once. If this process ends, its part in a session ends with it; it was booked, so it is not begun again.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from discreet.client.device import Device, Part
from discreet.client.taking_part import Tell
from discreet.errors import DiscreetError, EngineLost, ProtocolError, SettingError
from discreet.models.broadcast import MOST, Announcement
from discreet.protocols.messages import Message
from discreet.protocols.secagg.terms import Stage, Terms

PATIENCE = 10.0
"""Seconds without a byte after which a device gives up whoever asks."""

SIZE_BYTES = 8
"""Of the length before each message at a socket, big-endian."""


@dataclass(frozen=True, repr=False)
class Told(Message):
    """What a coordinator sends a device, and where it belongs.

    Attributes:
        session: of the terms; empty with the released model.
        stage: that is asked for; ``DONE`` with the released model.
        content: an `Announcement` for ``ADVERTISE``, then what the protocol's server sends; a `Broadcast` at the end.
    """

    KIND = 22

    session: bytes
    stage: int
    content: bytes


@dataclass(frozen=True, repr=False)
class Said(Message):
    """What a device answers.

    Attributes:
        seat: of the device in the roster.
        content: its message of the stage; empty if it has none, and nobody is told why.
    """

    KIND = 23

    seat: int
    content: bytes


class Answering:
    """A device's part in one session at a time, message by message.

    Args:
        device: that takes part.
        seat: of it.
        tell: told what is done, and what is refused.
        keep: given the released model, as it came.
    """

    def __init__(self, device: Device, seat: int, tell: Tell, keep: Callable[[bytes], object]) -> None:
        self._device, self._seat, self._tell, self._keep = device, seat, tell, keep
        self._session = b""
        self._part: Part | None = None

    def __repr__(self) -> str:
        return f"Answering({self._part!r})"

    def answer(self, content: bytes) -> bytes:
        """Return a `Said` to a `Told`. A refusal ends this device's part if the protocol says so."""
        said = b""
        try:
            said = self._said(Told.from_bytes(content, MOST))
        except DiscreetError as error:
            self._tell({"session": self._session.hex()[:8], "left": str(error), "why": type(error).__name__})
        return Said(self._seat, said).to_bytes()

    def _said(self, told: Told) -> bytes:
        if told.stage == Stage.DONE:
            self._keep(told.content)
            return b""
        if told.stage == Stage.ADVERTISE:
            self._join(Announcement.from_bytes(told.content, MOST), told.session)
        if self._part is None or told.session != self._session or told.stage != self._part.stage:
            raise ProtocolError("what is asked is no part of the session, or of the stage, that this device is in")
        stage = self._part.stage
        said = self._part.say(b"" if stage is Stage.ADVERTISE else told.content)
        self._tell({"session": self._session.hex()[:8], "said": stage.name.lower()})
        return said

    def _join(self, announced: Announcement, session: bytes) -> None:
        if Terms.from_bytes(announced.terms).session != session:
            raise ProtocolError("the terms are of another session than the message")
        self._part = self._device.join(announced.terms, announced.broadcast)  # what there was before is forgotten
        self._session = session


def listening(path: Path) -> socket.socket:
    """Return a socket at ``path``, for this user and this group alone.

    Raises:
        SettingError: a device answers there, or something else is there, or nothing can be.
    """
    door = socket.socket(socket.AF_UNIX)
    try:
        if path.is_socket() and not _answers(path):
            path.unlink()  # of a device that was killed
        door.bind(str(path))
        path.chmod(0o660)  # before it listens, so nobody else is let in meanwhile
        door.listen()
    except OSError as error:
        door.close()
        raise SettingError(f"{path}: no device can answer there ({error.strerror or error}); name another") from None
    return door


def serve(answering: Answering, door: socket.socket) -> None:
    """Answer, one after the other, for good."""
    while True:
        connection, _ = door.accept()
        with suppress(OSError), connection, connection.makefile("rb") as file:  # who asked is gone, or too slow
            connection.settimeout(PATIENCE)
            _send(connection, answering.answer(_received(file)))


def ask(path: Path, told: Told, patience: float) -> Said:
    """Return what the device at ``path`` says.

    Args:
        path: of its socket.
        told: to it.
        patience: seconds for it to answer.

    Raises:
        EngineLost: no device answers there.
        ProtocolError: its answer is none.
    """
    try:
        with socket.socket(socket.AF_UNIX) as connection, connection.makefile("rb") as file:
            connection.settimeout(patience)
            connection.connect(str(path))
            _send(connection, told.to_bytes())
            return Said.from_bytes(_received(file), MOST)
    except OSError as error:
        raise EngineLost(f"no device answers at its socket ({type(error).__name__}); start it there") from None


def _answers(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as connection:
        try:
            connection.connect(os.fspath(path))
        except ConnectionRefusedError:
            return False
    return True


def _send(connection: socket.socket, content: bytes) -> None:
    connection.sendall(len(content).to_bytes(SIZE_BYTES, "big") + content)


def _received(file: BinaryIO) -> bytes:
    size = int.from_bytes(file.read(SIZE_BYTES), "big")
    if not 0 < size <= MOST:
        raise ConnectionError("a message has no length, or too much of it")
    content = file.read(size)
    if len(content) < size:
        raise ConnectionError("a message ends too early")
    return content
