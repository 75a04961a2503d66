"""Servers that make lists, seen from a device: the same calls as within one process, over HTTPS."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from discreet.client.wire import Denied, Wire
from discreet.errors import ProtocolError, SettingError
from discreet.inference import encrypted, garbled, mpc, on_device, retrieved, shared
from discreet.inference.on_device import Reply, Request
from discreet.inference.outline import Outline
from discreet.protocols.encryption import KeyWanted
from discreet.service.lists import ROOT, WAYS

KEY_WANTED = 428


@dataclass(frozen=True)
class Afar:
    """A server that answers in one of the ways.

    Attributes:
        wire: to it.
        way: see ``lists``.

    Every call raises EngineLost if it cannot be reached, and ProtocolError if it refuses or answers nonsense.
    """

    wire: Wire
    way: str

    def outline(self) -> Outline:
        """Fetch what a device has to know of the model. Raises ArtefactError if it is damaged."""
        found = self.wire.newer(f"{ROOT}/{self.way}/outline", None)
        if found is None:
            raise ProtocolError("the server sent no outline")
        return Outline.from_bytes(found[1])

    def answer(self, request: bytes) -> bytes:
        """Ask. Raises KeyWanted if the server does not hold the key of an encrypted question."""
        try:
            return self.wire.post(f"{ROOT}/{self.way}", request)
        except Denied as error:
            if error.status == KEY_WANTED:
                raise KeyWanted(str(error)) from None
            raise

    def row(self, request: bytes) -> bytes:
        """Ask for rows of the encoder."""
        return self.wire.post(f"{ROOT}/{self.way}/rows", request)

    def key(self, content: bytes) -> None:
        """Send an evaluation key."""
        self.wire.put(f"{ROOT}/{self.way}/key", content)


@dataclass(frozen=True)
class BothAfar:
    """Two servers that garble: what is asked of both is asked at once, since each waits for the other.

    Attributes:
        first: it garbles.
        second: it evaluates.
    """

    first: Afar
    second: Afar

    def answer(self, request: tuple[bytes, bytes]) -> tuple[bytes, bytes]:
        """Ask both."""
        return retrieved.of_both((self.first.answer, self.second.answer), request)

    def rows(self) -> tuple[retrieved.Answer, retrieved.Answer]:
        """How each answers questions for rows."""
        return self.first.row, self.second.row


@dataclass(frozen=True)
class ModelAfar:
    """A server that hands a released model out.

    Attributes:
        wire: to it.
        way: ``on_device``, or ``noisy``.
    """

    wire: Wire
    way: str = "on_device"

    def answer(self, request: Request) -> Reply:
        """Fetch the model, unless the one that is held is the current one."""
        held = None if request.version is None else f'"{request.version}"'
        found = self.wire.newer(f"{ROOT}/{self.way}/model", held)
        if found is None:
            return Reply(request.version or "", None)
        return Reply(found[0].strip('"'), found[1])


def reached(way: str, wires: Sequence[Wire], n: int) -> Any:
    """Return a Recommender by servers elsewhere (``retrieved`` reads pages, not lists); devices' outlines are fetched.

    Args:
        way: of ``WAYS``, or ``mpc``.
        wires: to one server, or to the first and the second, or to three.
        n: length of a list, or how many pages are asked for at once.

    Raises:
        SettingError: there is no such way, or it needs another number of servers.
        EngineLost, ProtocolError, ArtefactError: as ``Afar`` does.
    """
    servers = [Afar(wire, way) for wire in wires]
    if way in {"shared", "retrieved", "garbled"}:
        if len(servers) != 2:
            raise SettingError(f"{way} needs two servers, of two who do not tell each other; {len(servers)} are named")
        first, second = servers
        if way == "shared":
            return shared.Shared(shared.Device(first.outline(), n), (first, second))
        if way == "garbled":
            return garbled.Garbled(garbled.Device(first.outline(), n), BothAfar(first, second))
        return retrieved.Retrieved(retrieved.Reader.of(first.outline(), n), (first.answer, second.answer))
    if way == "mpc":
        if len(servers) != 3:
            raise SettingError(f"mpc needs three servers, no two of whom tell each other; {len(servers)} are named")
        one, two, three = servers
        return mpc.Mpc(mpc.Device(one.outline(), n), (one, two, three))
    if len(servers) != 1:
        raise SettingError(f"{way} needs one server; {len(servers)} are named")
    if way in {"on_device", "noisy"}:
        return on_device.OnDevice(on_device.Device(n), ModelAfar(wires[0], way))
    if way == "encrypted":
        from discreet.engines.seal import Seal

        scheme = Seal()
        return encrypted.Encrypted(encrypted.Device(servers[0].outline(), scheme, n), servers[0])
    raise SettingError(f"there is no way {way!r}; there are {', '.join((*WAYS, 'mpc'))}")
