"""A device that takes part in a run, from its first session to the released model."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from discreet.client.device import Allowance, Device, Items
from discreet.client.spending import Spending
from discreet.client.wire import Over, Wire
from discreet.errors import DiscreetError, ProtocolError
from discreet.models.broadcast import MOST, Announcement
from discreet.protocols.keys import Roster
from discreet.protocols.secagg.terms import Stage, Terms
from discreet.protocols.sharing import SharedTerms

ROOT = "/federated/v1"

Tell = Callable[[dict[str, Any]], object]
"""Told what this device does, as JSON values: stages and refusals, nothing of a history and no message."""


@dataclass(frozen=True)
class Person:
    """Whose device it is.

    Attributes:
        identity: signing key.
        roster: pinned.
        history: item ids.
        allowance: what they allow.
        spending: what they spent.
    """

    identity: Ed25519PrivateKey
    roster: Roster
    history: Iterable[str | int]
    allowance: Allowance
    spending: Spending

    def device(self, items: Items) -> Device:
        """Return the device, once the items are known."""
        return Device(self.identity, self.roster, items, self.history, self.allowance, self.spending)


def take_part(
    person: Person, coordinator: Wire, tell: Tell, *, first: Wire | None = None
) -> tuple[Items, bytes | None]:
    """Take part in every session until the run is over; return the items and the released model, if there is one.

    Args:
        person: whose device it is.
        coordinator: a way to the coordinator.
        tell: told what is done.
        first: a way to the first of two servers, where there are two.

    Raises:
        EngineLost: the coordinator cannot be reached.
        ProtocolError: the coordinator refuses, or what it lists is none.
    """
    items = Items(coordinator.wait(f"{ROOT}/items"))
    device, after = person.device(items), ""
    while True:
        try:
            announced = coordinator.wait(f"{ROOT}/rounds/next?after={after}")
        except Over:
            break
        announcement = Announcement.from_bytes(announced, MOST)
        terms = _terms_of(announcement)
        if terms.session.hex() == after:  # no honest coordinator announces it twice
            time.sleep(1.0)
        after = terms.session.hex()
        try:
            if isinstance(terms, Terms):
                _secure(device, announcement, coordinator, f"{ROOT}/rounds/{after}", tell)
            else:
                _apart(device, announcement, coordinator, first, after, tell)
        except DiscreetError as error:  # this device's part is over; the next session may be another matter
            tell({"session": after[:8], "left": str(error), "why": type(error).__name__})
    try:
        return items, coordinator.get(f"{ROOT}/model")
    except Over:
        return items, None


def _secure(device: Device, announcement: Announcement, wire: Wire, path: str, tell: Tell) -> None:
    part, content = device.join(announcement.terms, announcement.broadcast), b""
    for stage in list(Stage)[:-1]:
        place = f"{path}/{stage.name.lower()}/{wire.seat}"
        wire.put(place, part.say(content))
        tell({"session": path.rpartition("/")[2][:8], "said": stage.name.lower()})
        if stage is not Stage.REVEAL:
            content = wire.wait(place)


def _terms_of(announcement: Announcement) -> Terms | SharedTerms:
    kind = Terms if announcement.terms[1:2] == bytes([Terms.KIND]) else SharedTerms
    return kind.from_bytes(announcement.terms)


def _apart(
    device: Device, announcement: Announcement, wire: Wire, first: Wire | None, session: str, tell: Tell
) -> None:
    if first is None:
        raise ProtocolError("two servers add up, and no address of the first is known here")
    to_first, to_second = device.give(announcement.terms, announcement.broadcast)
    first.put(f"{ROOT}/halves/{session}/seats/{wire.seat}", to_first)
    wire.put(f"{ROOT}/rounds/{session}/mask/{wire.seat}", to_second)
    tell({"session": session[:8], "said": "mask"})
