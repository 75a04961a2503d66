"""What the parties of secure aggregation say: terms, messages, a client's policy, and who is whose neighbour."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from enum import IntEnum
from math import sqrt

from discreet.errors import ProtocolError, SettingError, TermsRefused
from discreet.protocols.messages import LEAST, Message, SumTerms

FULL, SPARSE = 100, 60
"""Clients up to which everybody is everybody's neighbour, and how many neighbours each has above."""

COLLUDING, SPARSE_COLLUDING = 1 / 3, 0.1
"""Share of a client and its neighbours that may be the server's: on a full graph, and on a sparse one."""

MARGIN = 3.0
"""Standard deviations of how many of a neighbourhood are lost that a threshold leaves room for."""


class Stage(IntEnum):
    """What a party does next."""

    ADVERTISE = 0
    SHARE = 1
    MASK = 2
    CONFIRM = 3
    REVEAL = 4
    DONE = 5


@dataclass(frozen=True, repr=False)
class Terms(SumTerms):
    """What is summed, of whom, and how many must stay.

    Attributes:
        session: 32 bytes, new for each sum.
        context: SHA-256 of all that decides what each client computes: model, state, plan and round.
        roster: SHA-256 of the roster's keys, end to end.
        bits: of the ring.
        dims: of the vectors.
        degree: how many neighbours each has, an even number; everybody else, if those are fewer.
        threshold: how many shares rebuild a secret; each client and its neighbours hold one, and it is more than half.
        survivors: fewest vectors that may be summed.
    """

    KIND = 1

    session: bytes
    context: bytes
    roster: bytes
    bits: int
    dims: int
    degree: int
    threshold: int
    survivors: int

    def __post_init__(self) -> None:
        self._check(self.session, self.context, self.roster)
        if not self.threshold <= self.degree + 1 < 2 * self.threshold or self.degree % 2:
            raise ProtocolError("a threshold is more than half of a client and an even number of neighbours")


@dataclass(frozen=True, repr=False)
class Advertisement(Message):
    """A client takes part: keys for this session alone.

    Attributes:
        channel: X25519 public key, for sealing.
        masking: X25519 public key, for masks with neighbours; its private key is shared among them.
        commitment: SHA-256 of the secret of the own mask, so that a forged share of it is found out.
        signature: Ed25519, of the terms' digest and the three.
    """

    KIND = 2

    channel: bytes
    masking: bytes
    commitment: bytes
    signature: bytes

    def signed(self, terms: Terms) -> bytes:
        """Return what the signature is of."""
        return b"discreet takes part" + terms.digest + self.channel + self.masking + self.commitment


@dataclass(frozen=True, repr=False)
class Cohort(Message):
    """Who takes part.

    Attributes:
        seats: ascending.
        digests: of each one's advertisement.
        advertisements: of the receiver's neighbours, in the order of their seats.
    """

    KIND = 3

    seats: tuple[int, ...]
    digests: tuple[bytes, ...]
    advertisements: tuple[bytes, ...]


@dataclass(frozen=True, repr=False)
class Shares(Message):
    """A client's secrets, a share of each for every neighbour, sealed, in the order of their seats."""

    KIND = 4

    contents: tuple[bytes, ...]


@dataclass(frozen=True, repr=False)
class Delivery(Message):
    """Which of the receiver's neighbours shared, ascending, and what each sealed for it."""

    KIND = 5

    seats: tuple[int, ...]
    contents: tuple[bytes, ...]


@dataclass(frozen=True, repr=False)
class Masked(Message):
    """A packed vector under all its masks. Nothing else: no count, no metric, no weight in clear."""

    KIND = 6

    content: bytes


@dataclass(frozen=True, repr=False)
class Survivors(Message):
    """Whose vectors came, and who shared secrets but sent none; seats, ascending."""

    KIND = 7

    alive: tuple[int, ...]
    dropped: tuple[int, ...]

    def signed(self, graph: Graph) -> bytes:
        """Return what a confirmation is a signature of."""
        return b"discreet survivors" + graph.digest + self.digest


@dataclass(frozen=True, repr=False)
class Confirmation(Message):
    """A client's signature of the survivors that it was told of."""

    KIND = 8

    signature: bytes


@dataclass(frozen=True, repr=False)
class Confirmations(Message):
    """Signatures of the receiver's neighbours, in the order of their seats."""

    KIND = 9

    seats: tuple[int, ...]
    signatures: tuple[bytes, ...]


@dataclass(frozen=True, repr=False)
class Revealed(Message):
    """For neighbours that shared: a share of one of their two secrets, in the order of their seats."""

    KIND = 10

    seats: tuple[int, ...]
    shares: tuple[bytes, ...]


@dataclass(frozen=True)
class Policy:
    """What a client insists on, whoever asks.

    Attributes:
        cohort: fewest clients that take part.
        survivors: fewest vectors in a sum.
        neighbours: fewest neighbours, unless everybody is one.
        colluding: largest share of a client and its neighbours that may be the server's, on a full graph; it sets the
            least threshold (`least_threshold`).
        sparse_colluding: the same on a sparse graph.

    Raises:
        SettingError: it would ask for nothing.
    """

    cohort: int = 10
    survivors: int = 7
    neighbours: int = 20
    colluding: float = COLLUDING
    sparse_colluding: float = SPARSE_COLLUDING

    def __post_init__(self) -> None:
        shares = (self.colluding, self.sparse_colluding)
        if (
            not LEAST <= self.survivors <= self.cohort
            or self.neighbours < 2
            or not all(0 <= each < 1 for each in shares)
        ):
            raise SettingError(f"a policy asks for at least {LEAST} survivors of a cohort that is no smaller")

    def check(self, terms: Terms) -> None:
        """Hold terms against the policy.

        Raises:
            TermsRefused: they ask for less protection than it does.
        """
        if terms.survivors < self.survivors:
            raise TermsRefused(
                f"sums of at least {self.survivors} are asked for here, the terms allow {terms.survivors}"
            )

    def check_cohort(self, terms: Terms, graph: Graph) -> None:
        """Hold a cohort against the policy.

        Raises:
            TermsRefused: it is too small.
        """
        if len(graph.seats) < self.cohort:
            raise TermsRefused(f"a cohort of at least {self.cohort} is asked for here, {len(graph.seats)} take part")
        if graph.degree < min(self.neighbours, len(graph.seats) - 1):
            raise TermsRefused(
                f"at least {self.neighbours} neighbours are asked for here, the terms give {graph.degree}"
            )
        colluding = self.colluding if graph.full else self.sparse_colluding
        least = least_threshold(graph.degree, full=graph.full, colluding=colluding)
        if terms.threshold < least:
            raise TermsRefused(f"a threshold of at least {least} is asked for here, the terms have {terms.threshold}")


@dataclass(frozen=True, repr=False)
class Graph:
    """Who takes part, and who is whose neighbour: the nearest on a ring in an order that nobody chose.

    The order is by SHA-256 of the cohort's digest and the seat, so the server sets it only by setting the cohort, which
    its members sign. Harary's graph: of equal degree, and connected unless half the degree in a row are lost, twice.

    Attributes:
        seats: of those who take part, ascending.
        digest: SHA-256 of the terms and of all advertisements. Everything that follows is bound to it.
        ring: the seats in their order; everybody's neighbour is everybody if ``degree`` reaches all.
        places: of each seat on the ring.
        degree: neighbours of each.
    """

    seats: tuple[int, ...]
    digest: bytes
    ring: tuple[int, ...]
    places: Mapping[int, int]
    degree: int

    @classmethod
    def of(cls, terms: Terms, digests: Mapping[int, bytes]) -> Graph:
        """Return the graph of a cohort.

        Args:
            terms: of the session.
            digests: of the advertisement of each seat that takes part.
        """
        seats = tuple(sorted(digests))
        parts = [terms.digest, *[seat.to_bytes(8, "big") + digests[seat] for seat in seats]]
        digest = hashlib.sha256(b"".join(parts)).digest()
        ring = tuple(sorted(seats, key=lambda seat: hashlib.sha256(digest + seat.to_bytes(8, "big")).digest()))
        places = {seat: place for place, seat in enumerate(ring)}
        return cls(seats, digest, ring, places, min(terms.degree, len(seats) - 1))

    @property
    def full(self) -> bool:
        """Whether everybody is everybody's neighbour."""
        return self.degree == len(self.seats) - 1

    def holds_together(self, alive: Collection[int]) -> bool:
        """Tell whether nobody is cut off, whoever chose who is lost: of any half degree in a row half are alive.

        Whoever is alive then has neighbours that are alive on both sides, and those have, round the ring; also without
        any ``degree // 4 - 1`` of each half degree in a row, should they collude.
        """
        if self.full:
            return True
        reach = self.degree // 2
        there = [seat in alive for seat in self.ring]
        inside = sum(there[:reach])
        for place, left in enumerate(there):
            if inside < max(1, self.degree // 4):
                return False
            inside += there[(place + reach) % len(there)] - left
        return True

    def neighbours(self, seat: int) -> tuple[int, ...]:
        """Return a seat's neighbours, ascending."""
        if self.full:
            return tuple(other for other in self.seats if other != seat)
        place, reach = self.places[seat], self.degree // 2
        steps = (step for step in range(-reach, reach + 1) if step)
        return tuple(sorted(self.ring[(place + step) % len(self.ring)] for step in steps))


def least_threshold(degree: int, *, full: bool, colluding: float) -> int:
    """Return the fewest shares that may rebuild a secret, so that claims 2 and 2b of ``client.md`` hold.

    Args:
        degree: neighbours of each.
        full: whether everybody is one.
        colluding: share of a client and its neighbours that may be the server's.
    """
    holders = degree + 1
    one_secret = int(holders * (1 + colluding) / 2) + 1
    return one_secret if full else max(one_secret, degree // 2 + 3 + int(colluding * holders))


def advised(clients: int, *, lost: float = 0.1, colluding: float | None = None) -> tuple[int, int, int]:
    """Return degree, threshold and fewest survivors for a cohort: a full graph up to 100 clients, a sparse one above.

    Args:
        clients: of the cohort.
        lost: share of them that may be lost.
        colluding: share of a client and its neighbours that may be the server's; by default what `Policy` asks for.

    Raises:
        SettingError: so many may be lost or collude that a secret could not be kept, or often not be rebuilt.
    """
    full = clients <= FULL
    share = (COLLUDING if full else SPARSE_COLLUDING) if colluding is None else colluding
    if clients < LEAST or not 0 <= lost < 1 or not 0 <= share < 1:
        raise SettingError(f"a cohort has at least {LEAST} clients, and shares of them lie between 0 and 1")
    reached = clients - 1 if full else SPARSE
    degree, holders = reached + reached % 2, reached + 1
    threshold = max(least_threshold(reached, full=full, colluding=share), degree // 2 + 1)
    survivors = clients - int(lost * clients)
    spread = 0.0 if full else MARGIN * sqrt(holders * lost * (1 - lost))
    if threshold > holders - int(lost * holders) - spread or survivors < LEAST:
        raise SettingError(f"of {clients} clients, {lost:.0%} lost and {share:.0%} colluding, too few are left")
    return degree, threshold, survivors
