"""The first of two servers: what it does, and how the second reaches it.

It adds up the keys of masks, adds noise of its own, and tells its half once. It trusts the second with the list of
seats alone: roster, second server and fewest vectors are its own.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from discreet.client.wire import Wire
from discreet.errors import ProtocolError, TermsRefused
from discreet.privacy.mechanisms.gaussian import draw
from discreet.protocols.keys import Roster
from discreet.protocols.sharing import Half, HalfSum, SharedTerms
from discreet.randomness import NoiseSource
from discreet.training.spool import NotKnown

ROOT = "/federated/v1/halves"


class First:
    """The first server. One session at a time; what was said in an earlier one is forgotten.

    Args:
        roster: pinned.
        key: this server's, which masks are sealed for.
        second: signing key (Ed25519) of the second server, pinned.
        survivors: fewest vectors in a sum, whatever the terms say.
    """

    def __init__(self, roster: Roster, key: X25519PrivateKey, second: bytes, survivors: int) -> None:
        self.roster, self.second = roster, second
        self._key, self._survivors = key, survivors
        self._name, self._asked = "", b""
        self._half: Half | None = None
        self._told: bytes | None = None

    def __repr__(self) -> str:
        return f"First({self._half})"

    def begin(self, name: str, content: bytes) -> None:
        """Open a session; the same one again changes nothing.

        Raises:
            TermsRefused: sums could be too small, or the terms are of other servers or another roster.
            ProtocolError: they are none.
        """
        terms = SharedTerms.from_bytes(content)
        if terms.session.hex() != name or terms.survivors < self._survivors:
            raise TermsRefused(f"sums of at least {self._survivors} are asked for here, under the session's own name")
        if name != self._name:
            self._half = Half(terms, self._key, self.roster)
            self._name, self._told = name, None

    def most(self, name: str) -> int:
        """Return how many bytes a message may have."""
        return self._of(name).most

    def take(self, name: str, seat: int, content: bytes) -> None:
        """Take a seat's message; a second one changes nothing.

        Raises:
            NotKnown: there is no such session.
            ProtocolError: it cannot be right.
        """
        half = self._of(name)
        if seat in half.expected:
            half.take(seat, content)

    def held(self, name: str) -> bytes:
        """Return the seats of which there is a message, JSON."""
        return json.dumps(sorted(self._of(name).held)).encode()

    def add(self, name: str, content: bytes) -> None:
        """Add up, with noise, for a list of seats (JSON): once.

        Raises:
            NotKnown: there is no such session.
            TooFewLeft: they are fewer than the terms ask for.
            ProtocolError: another list was added up before, or somebody's message is missing.
        """
        half = self._of(name)
        if self._told is None:
            half.add(seats_of(content))
            self._told = half.total(lambda dims: draw(dims, NoiseSource())).to_bytes()
            self._asked = content
        elif self._asked != content:
            raise ProtocolError("a half is told once, of one list of seats")

    def total(self, name: str) -> bytes | None:
        """Return this half of the sum; None if it was not added up yet."""
        self._of(name)
        return self._told

    def _of(self, name: str) -> Half:
        if self._half is None or name != self._name:
            raise NotKnown("there is no such session, or it is over")
        return self._half


@dataclass(frozen=True)
class Second:
    """What the second server has of itself and of the first.

    Attributes:
        key: its own, which shows that the two are two.
        first: X25519 key of the first server, pinned.
        wire: to the first, signed by the second.
    """

    key: X25519PrivateKey
    first: bytes
    wire: Wire

    def begin(self, terms: SharedTerms) -> None:
        """Open a session at the first server. Raises what ``Wire`` does."""
        self.wire.put(f"{ROOT}/{terms.session.hex()}", terms.to_bytes())

    def held(self, terms: SharedTerms) -> frozenset[int]:
        """Return the seats of which the first has a message. Raises what ``Wire`` does.

        Raises:
            ProtocolError: the answer is none.
        """
        return frozenset(seats_of(self.wire.wait(f"{ROOT}/{terms.session.hex()}/held")))

    def total(self, terms: SharedTerms, seats: Iterable[int]) -> HalfSum:
        """Return the first's half of the sum over these seats, its noise in it. Raises what ``Wire`` does."""
        path = f"{ROOT}/{terms.session.hex()}/total"
        self.wire.put(path, json.dumps(sorted(seats)).encode())
        return HalfSum.from_bytes(self.wire.wait(path), terms.ring.size + 256)


def seats_of(content: bytes) -> list[int]:
    """Return a list of seats out of JSON.

    Raises:
        ProtocolError: it is none.
    """
    try:
        seats = json.loads(content)
    except (ValueError, RecursionError):
        seats = None
    if not isinstance(seats, list) or not all(type(seat) is int for seat in seats):
        raise ProtocolError("a list of seats is due")
    return seats
