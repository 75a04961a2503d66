"""What a device does in a session: it checks, books, computes, adds its share of the noise, and says what is due.

No input or output but its own ledger; who calls it moves the messages (``wire``, or another transport). Whether it
takes part is decided by what is asked, its person's conditions and its book, and by nothing that is in the history.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from math import ceil

import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from numpy.typing import NDArray

from discreet.client.spending import Spending
from discreet.errors import DataError, ProtocolError, SettingError, TermsRefused
from discreet.models.broadcast import MOST, Broadcast, Known
from discreet.privacy.disclosure import MOST_DRAWS
from discreet.privacy.levels import Level
from discreet.privacy.mechanisms import discrete_gaussian
from discreet.privacy.mechanisms.discrete_gaussian import share_of
from discreet.privacy.plan import COLLUDING, Plan
from discreet.protocols.keys import Roster
from discreet.protocols.secagg.client import Client
from discreet.protocols.secagg.terms import Policy, Stage, Terms
from discreet.protocols.sharing import SharedTerms, check_terms, shared
from discreet.randomness import NoiseSource

LONGEST_SLOT = 60.0


@dataclass(frozen=True)
class Allowance:
    """What a person allows, whoever asks.

    Attributes:
        level: what they give of each bound.
        policy: what they insist on in secure aggregation.
        colluding: share of the roster whose noise they do not count on, 0 to 1.
        servers: X25519 keys of the two servers, pinned; without them this device takes no part with two.
        survivors: fewest vectors in a sum of two servers.
        values: most that a row may have: memory and time grow with them.
        slot: seconds, of which a vector takes a whole number, so that its time does not tell how long a history is.

    Raises:
        SettingError: a number is out of its range.
    """

    level: Level = Level.LIGHT
    policy: Policy = field(default_factory=Policy)
    colluding: float = COLLUDING
    servers: tuple[bytes, bytes] | None = None
    survivors: int = 10
    values: int = 1 << 22
    slot: float = 1.0

    def __post_init__(self) -> None:
        if not 0 <= self.colluding < 1 or not self.values >= 1 or not 0 <= self.slot < LONGEST_SLOT:
            raise SettingError(
                "colluding is a share, and a row has a value at least; a slot is short, and not negative"
            )

    def counted_on(self, survivors: int, people: int) -> int:
        """Return of how many of ``people`` the noise is counted on, if so many survive."""
        return survivors - ceil(self.colluding * people)


class Items:
    """The list of items, public: what the columns of every model mean.

    Args:
        content: JSON, a list of ids, as it came.

    Raises:
        DataError: it is none.
    """

    def __init__(self, content: bytes) -> None:
        self.digest = hashlib.sha256(content).digest()
        try:
            ids = json.loads(content)
        except (ValueError, RecursionError):
            ids = None
        if not isinstance(ids, list) or not ids or not all(isinstance(each, str | int) for each in ids):
            raise DataError("the list of items is no list of ids; ask for it again")
        self.ids = tuple(ids)
        self._places = {str(item): place for place, item in enumerate(ids)}

    def __len__(self) -> int:
        return len(self.ids)

    def positions(self, history: Iterable[str | int]) -> NDArray[np.int64]:
        """Return where a history's items stand, ascending and unique; those that are not listed are left out."""
        found = {self._places[str(item)] for item in history if str(item) in self._places}
        return np.array(sorted(found), np.int64)


class Device:
    """One person's device. Its text shows nothing of them.

    Args:
        identity: signing key, whose public half is in the roster.
        roster: pinned.
        items: as the coordinator lists them.
        history: item ids; it stays here.
        allowance: what the person allows.
        spending: this device's own ledger.
    """

    def __init__(
        self,
        identity: Ed25519PrivateKey,
        roster: Roster,
        items: Items,
        history: Iterable[str | int],
        allowance: Allowance,
        spending: Spending,
    ) -> None:
        self._identity, self._roster, self._items = identity, roster, items
        self._positions = items.positions(history)
        self._allowance, self._spending = allowance, spending

    def __repr__(self) -> str:
        return "Device()"

    def join(self, terms: bytes, broadcast: bytes) -> Part:
        """Take part in a session of secure aggregation: its price is booked, nothing is said yet.

        Raises:
            TermsRefused: what is asked breaks what the person allows, or is not what the terms say.
            BudgetExceeded: it costs more than is left.
            ProtocolError: a message cannot be right.
        """
        agreed, known = Terms.from_bytes(terms), self._read(broadcast)
        if known.plan.noise != "shares":
            raise TermsRefused("this device adds its own share of the noise; the plan leaves that to others")
        counted_on = self._allowance.counted_on(agreed.survivors, len(self._roster))
        if known.plan.honest > counted_on:
            raise TermsRefused(f"the plan counts on {known.plan.honest} shares of noise, this device on {counted_on}")
        dims = self._dims(known)
        if dims * known.plan.honest > MOST_DRAWS:
            raise TermsRefused("the plan asks for more draws of noise than its guarantee is proven for")
        context, ring = hashlib.sha256(broadcast).digest(), known.ring(dims)
        client = Client(self._identity, self._roster, self._allowance.policy, agreed, context, ring)
        self._book(agreed.session, known)
        return Part(client, lambda: self._row(known, dims), share_of(known.plan.honest), self._allowance.slot)

    def give(self, terms: bytes, broadcast: bytes) -> tuple[bytes, bytes]:
        """Take part in a session of two servers: return what is said to the first and to the second.

        Raises:
            TermsRefused, BudgetExceeded, ProtocolError: as for ``join``.
        """
        agreed, known = SharedTerms.from_bytes(terms), self._read(broadcast)
        if known.plan.noise != "two-servers":
            raise TermsRefused("with two servers each adds noise that is enough alone; the plan does not say so")
        if self._allowance.servers != (agreed.first, agreed.second):
            raise TermsRefused("the terms name other servers than the two that are pinned here")
        dims, context = self._dims(known), hashlib.sha256(broadcast).digest()
        ring, survivors = known.ring(dims), self._allowance.survivors
        check_terms(agreed, context, ring, survivors)
        self._book(agreed.session, known)
        with _slots(self._allowance.slot):
            return shared(self._identity, agreed, context, ring, survivors, self._row(known, dims))

    def rank(self, broadcast: bytes, n: int) -> tuple[str | int, ...]:
        """Return the ``n`` best items of the released model for the history that is here, without those in it.

        Raises:
            ProtocolError: it is no released model.
        """
        known = self._read(broadcast)
        if known.number != known.plan.rounds:
            raise ProtocolError("lists are made with a model that is released; this one is still being learnt")
        scores = known.scores(self._positions).astype(np.float64)
        scores[self._positions] = -np.inf
        best = np.argsort(-scores, kind="stable")[: max(n, 0)]
        return tuple(self._items.ids[place] for place in best if np.isfinite(scores[place]))

    def _read(self, broadcast: bytes) -> Known:
        known = Broadcast.from_bytes(broadcast, MOST).read(self._items.digest, len(self._items))
        if known.plan.weights:
            raise TermsRefused("the plan gives categories weights of their own, which this device does not know")
        return known

    def _dims(self, known: Known) -> int:
        """Return how many values a row has, if this device makes such rows at all."""
        if known.number == known.plan.rounds:
            raise ProtocolError("a sum is asked for after the last round")
        if self._bound(known) < 1:
            raise TermsRefused("the plan's bound leaves nothing of what this person gives")
        dims = known.dims
        if dims > self._allowance.values:
            raise TermsRefused(f"rows of {dims:,} values are asked for, this device makes {self._allowance.values:,}")
        return dims

    def _bound(self, known: Known) -> int:
        return self._allowance.level.of(known.plan.bounds[known.number])

    def _row(self, known: Known, dims: int) -> NDArray[np.int64]:
        """Return the person's row: zeros where there can be none, since a refusal now would tell of the history."""
        try:
            with np.errstate(all="ignore"):
                row = known.row(self._positions, self._bound(known))
        except Exception:  # noqa: BLE001 - whatever it is, it came of a history
            return np.zeros(dims, np.int64)
        return row if row.size == dims else np.zeros(dims, np.int64)

    def _book(self, session: bytes, known: Known) -> None:
        plan, level = known.plan, self._allowance.level
        self._spending.book(session, _run_of(known), plan.price(known.number, level), plan.cost_at(level))


class Part:
    """A device's part in one session.

    Args:
        client: of the protocol.
        row: makes the person's row.
        variance: of this device's share of the noise.
        slot: seconds, of which the vector takes a whole number.
    """

    def __init__(self, client: Client, row: Callable[[], NDArray[np.int64]], variance: int, slot: float) -> None:
        self._client, self._row, self._variance, self._slot = client, row, variance, slot

    def __repr__(self) -> str:
        return f"Part({self.stage.name})"

    @property
    def stage(self) -> Stage:
        """What this device says next."""
        return self._client.stage

    def say(self, content: bytes = b"") -> bytes:
        """Take what the server sent, nothing at first; return what this device says.

        Raises:
            ProtocolError, TermsRefused, TooFewLeft: by the protocol; this device's part is over.
        """
        match self.stage:
            case Stage.ADVERTISE:
                return self._client.advertise()
            case Stage.SHARE:
                return self._client.share(content)
            case Stage.MASK:
                with _slots(self._slot):
                    row = self._row()
                    noise = discrete_gaussian.draw(row.size, self._variance, NoiseSource())
                    return self._client.mask(content, row + noise)
            case Stage.CONFIRM:
                return self._client.confirm(content)
            case _:
                return self._client.reveal(content)


@contextmanager
def _slots(slot: float) -> Iterator[None]:
    """Let what is done take a whole number of slots."""
    start = time.monotonic()
    yield
    if slot:
        taken = time.monotonic() - start
        time.sleep(ceil(taken / slot) * slot - taken)


def _run_of(known: Known) -> bytes:
    plan: Plan = known.plan
    text = json.dumps([known.model.name, asdict(known.model), plan.to_dict(), known.people], sort_keys=True)
    return hashlib.sha256(text.encode()).digest()
