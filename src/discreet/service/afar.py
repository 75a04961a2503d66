"""Servers that make lists, seen from a device: the same calls as within one process, over HTTPS."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from discreet.client.wire import Denied, Wire
from discreet.errors import ProtocolError, SettingError
from discreet.inference import encrypted, garbled, hinted, mpc, on_device, retrieved, shared
from discreet.inference.on_device import Reply, Request
from discreet.inference.outline import Outline
from discreet.protocols.encryption import KeyWanted
from discreet.service.lists import ROOT

KEY_WANTED = 428
MOST_HINT = 1 << 30
"""Bytes of a hint."""


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
    """Two servers that garble: the first holds its half of a question until the second has asked for it.

    Attributes:
        first: it garbles.
        second: it evaluates.
    """

    first: Afar
    second: Afar

    def answer(self, request: tuple[bytes, bytes]) -> tuple[bytes, bytes]:
        """Give the first its half; ask the second; ask the first."""
        self.first.wire.put(f"{ROOT}/garbled/half", request[0])
        second = self.second.answer(request[1])
        return self.first.answer(request[0]), second

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
    """Return a Recommender by servers elsewhere (pages are read, not lists); what devices have to know is fetched.

    Args:
        way: of ``REACHED``.
        wires: to one server, or to the first and the second, or to three.
        n: length of a list, or how many pages are asked for at once.

    Raises:
        SettingError: there is no such way, or it needs another number of servers.
        EngineLost, ProtocolError, ArtefactError: as ``Afar`` does.
    """
    if way not in REACHED:
        raise SettingError(f"there is no way {way!r}; there are {', '.join(REACHED)}")
    count, make = REACHED[way]
    if len(wires) != count:
        apart = "" if count == 1 else ", no two of whom tell each other"
        raise SettingError(f"{way} needs {NUMBERS[count]}{apart}; {len(wires)} are named")
    return make([Afar(wire, way) for wire in wires], n)


def _on_device(servers: Sequence[Afar], n: int) -> Any:
    return on_device.OnDevice(on_device.Device(n), ModelAfar(servers[0].wire, servers[0].way))


def outline_of_all(servers: Sequence[Afar]) -> Outline:
    """Fetch the outline of each, which have to be one: a single server could make one up that asks of some alone.

    Raises:
        ProtocolError: they are not.
    """
    first, *others = (server.outline() for server in servers)
    if any(other.to_bytes() != first.to_bytes() for other in others):
        raise ProtocolError("the servers tell of different models; they have to hold the same")
    return first


def _shared(servers: Sequence[Afar], n: int) -> Any:
    return shared.Shared(shared.Device(outline_of_all(servers), n), (servers[0], servers[1]))


def _retrieved(servers: Sequence[Afar], n: int) -> Any:
    reader = retrieved.Reader.of(outline_of_all(servers), n)
    return retrieved.Retrieved(reader, (servers[0].answer, servers[1].answer))


def _hinted(servers: Sequence[Afar], n: int) -> Any:
    (server,) = servers
    hint = replace(server.wire, most=MOST_HINT).get(f"{ROOT}/hinted/hint")
    return hinted.Hinted(hinted.HintedReader.of(server.outline(), hint or b"", n), server.answer)


def _encrypted(servers: Sequence[Afar], n: int) -> Any:
    from discreet.engines.seal import Seal

    return encrypted.Encrypted(encrypted.Device(servers[0].outline(), Seal(), n), servers[0])


def _garbled(servers: Sequence[Afar], n: int) -> Any:
    return garbled.Garbled(garbled.Device(outline_of_all(servers), n), BothAfar(servers[0], servers[1]))


def _mpc(servers: Sequence[Afar], n: int) -> Any:
    return mpc.Mpc(mpc.Device(outline_of_all(servers), n), (servers[0], servers[1], servers[2]))


REACHED: dict[str, tuple[int, Callable[[Sequence[Afar], int], Any]]] = {
    "on_device": (1, _on_device),
    "shared": (2, _shared),
    "retrieved": (2, _retrieved),
    "hinted": (1, _hinted),
    "encrypted": (1, _encrypted),
    "garbled": (2, _garbled),
    "noisy": (1, _on_device),
    "mpc": (3, _mpc),
}
"""Ways, how many servers each needs, and what reaches them."""
NUMBERS = {1: "one server", 2: "two servers", 3: "three servers"}
