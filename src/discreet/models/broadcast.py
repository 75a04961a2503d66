"""What a coordinator tells every device: a model's settings, the plan, and what is known so far. Data, never code.

A device finds the kind of model in `SUMS`, which is all that can be asked of it, and computes its row with the very
lines that train in one place (``Model.summed`` of one person). What was told decides all that it computes, so its
digest is the context that a device's protocol is bound to. After the last round it is the released model.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import NDArray

from discreet.documents import document, fields_of
from discreet.errors import ArtefactError, ProtocolError, SettingError, TermsRefused
from discreet.models.base import EVIDENCE, Model, State, round_number
from discreet.models.gram import Gram
from discreet.models.popularity import Popularity
from discreet.models.queries import RANKERS, Hits, LengthCounts
from discreet.models.shapes import check_asked, check_state
from discreet.models.subspace import Subspace
from discreet.privacy.clipping import Summed, check_bound
from discreet.privacy.plan import Plan
from discreet.protocols.keys import KEY_BYTES
from discreet.protocols.messages import Message
from discreet.protocols.ring import LEAST_BITS, MOST_BITS, Ring

if TYPE_CHECKING:
    from scipy.sparse import csr_array

SUMS: Mapping[str, type[Popularity | Subspace | Gram | LengthCounts | Hits]] = {
    **RANKERS,
    "lengths": LengthCounts,
    "evaluation": Hits,
}
"""All that can be asked of a device: counts, passes of a subspace, a block of a Gram matrix; a histogram, a measure."""

MOST = 1 << 26
"""Bytes that a broadcast may have."""

DEVIATIONS = 14
"""Of the noise, that a ring has room for: beyond lies less than 2^-140."""

_TYPES = frozenset({"<f4", "<f8", "<i8", "|i1", "|b1"})


@dataclass(frozen=True, eq=False)
class OneRow:
    """One person as a block of people: the part of a sparse matrix that kernels read.

    Attributes:
        indices: int32, positions of the person's items, ascending and unique.
        items: size of the catalogue.
    """

    indices: NDArray[np.int32]
    items: int

    @property
    def indptr(self) -> NDArray[np.int32]:
        """Where the row begins and ends."""
        return np.array([0, len(self.indices)], np.int32)

    @property
    def shape(self) -> tuple[int, int]:
        """One person, all items."""
        return 1, self.items


@dataclass(frozen=True, eq=False)
class Known:
    """What a broadcast says, read and checked.

    Attributes:
        model: settings.
        plan: of the whole run.
        number: the round that is asked for; ``plan.rounds`` if there is none left.
        people: how many may take part.
        state: what is known so far.
    """

    model: Model
    plan: Plan
    number: int
    people: int
    state: State

    def row(self, positions: NDArray[np.integer], bound: int) -> NDArray[np.int64]:
        """Return one person's row for the round that is asked for, int64 [dims].

        Whoever asks is not trusted: the row is measured here, exactly, whatever the kernel says of its length.

        Args:
            positions: of the person's items in the catalogue, ascending and unique.
            bound: that this person gives, in grid units.

        Raises:
            BoundExceeded: what was told would make it longer.
        """
        one = cast("csr_array", OneRow(np.asarray(positions, np.int32), self.model.items))
        total = self.model.summed(one, self.state, bound).total
        check_bound(Summed(total, np.array([_square_of(total, bound)])), bound)
        return total

    def scores(self, positions: NDArray[np.integer]) -> NDArray[np.float32]:
        """Return one person's scores after the last round, float32 [items]."""
        history = np.zeros((1, self.model.items), np.float32)
        history[0, positions] = 1
        scores: NDArray[np.float32] = self.model.scores(cast("csr_array", history), self.state)[0]
        return scores

    @property
    def dims(self) -> int:
        """How many values a row has: whoever asks decides, and no history."""
        nobody = cast("csr_array", OneRow(np.zeros(0, np.int32), self.model.items))
        return int(self.model.summed(nobody, self.state, self.plan.bounds[self.number]).total.size)

    def ring(self, dims: int) -> Ring:
        """Return the ring that a sum of ``dims`` values needs.

        Raises:
            SettingError: no ring has room for it.
        """
        return Ring(bits_for(self.plan, self.people), dims)


@dataclass(frozen=True, repr=False)
class Broadcast(Message):
    """See the head of this module.

    Attributes:
        header: JSON: kind, settings, plan, number, people, and of each array its name, type and shape.
        catalogue: SHA-256 of the list of items.
        arrays: bytes of each.
    """

    KIND = 20

    header: bytes
    catalogue: bytes
    arrays: tuple[bytes, ...]

    @classmethod
    def of(cls, model: Model, plan: Plan, number: int, people: int, catalogue: bytes, state: State) -> Broadcast:
        """Return what a round asks for; with ``number`` of ``plan.rounds``, the released model.

        Raises:
            SettingError: devices do not compute this kind of sum.
        """
        if model.name not in SUMS:
            raise SettingError(f"devices compute sums of {', '.join(SUMS)}; not of {model.name}")
        needed = _needed(model, state, over=number == plan.rounds)
        header = {
            "kind": model.name,
            "settings": asdict(model),
            "plan": plan.to_dict(),
            "number": number,
            "people": people,
            "arrays": {name: [array.dtype.newbyteorder("<").str, array.shape] for name, array in needed.items()},
        }
        arrays = tuple(array.astype(array.dtype.newbyteorder("<")).tobytes() for array in needed.values())
        return cls(json.dumps(header, sort_keys=True).encode(), catalogue, arrays)

    def read(self, catalogue: bytes, items: int) -> Known:
        """Return what is asked.

        Args:
            catalogue: SHA-256 of the list of items that is known here.
            items: how many those are.

        Raises:
            TermsRefused: it is of another catalogue.
            ProtocolError: it cannot be right.
        """
        if len(catalogue) != KEY_BYTES or self.catalogue != catalogue:
            raise TermsRefused("what is asked is of another catalogue than the one that is known here")
        try:
            told = document(self.header)
            kind, number, people = told["kind"], told["number"], told["people"]
            plan = Plan.from_dict(told["plan"])
            model = SUMS[kind](**fields_of(SUMS[kind], told["settings"]))
            if not (type(number) is type(people) is int and 0 <= number <= plan.rounds and people > 0):
                raise ValueError("no such round")
            if model.items != items or model.rounds != plan.rounds or not getattr(model, "private", True):
                raise ValueError("settings that do not fit")
            state = self._state(told["arrays"])
            _check(model, number, plan, state)
        except (ArtefactError, ArithmeticError, AttributeError, KeyError, MemoryError, TypeError, ValueError) as error:
            raise ProtocolError(f"a broadcast cannot be read here ({type(error).__name__})") from None
        return Known(model, plan, number, people, state)

    def _state(self, listed: Mapping[str, Any]) -> State:
        state: State = {}
        for (name, (kind, shape)), content in zip(sorted(listed.items()), self.arrays, strict=True):
            if kind not in _TYPES:
                raise ValueError("an array of no known type")
            state[name] = np.frombuffer(content, kind).reshape(shape)
        return state


@dataclass(frozen=True, repr=False)
class Announcement(Message):
    """A session begins: its terms, of either protocol, and what is asked."""

    KIND = 21

    terms: bytes
    broadcast: bytes


def bits_for(plan: Plan, people: int) -> int:
    """Return the bits of a ring that has room for every sum of a plan, noise included.

    Raises:
        SettingError: none has; to be found out before the first round.
    """
    largest = people * max(plan.bounds) + int(DEVIATIONS * plan.deviation) + 1
    bits = max(LEAST_BITS, largest.bit_length() + 1)
    if bits > MOST_BITS:
        raise SettingError(f"sums of {people:,} people need {bits} bits, a ring has {MOST_BITS}; ask for less epsilon")
    return bits


def _check(model: Model, number: int, plan: Plan, state: State) -> None:
    """Refuse what a device could not compute with."""
    if isinstance(model, Hits):
        check_state(model.of, state, model.items)
    elif number == plan.rounds:
        check_state(model.name, state, model.items)
    else:
        check_asked(model.name, state, model.items)
    if not isinstance(model, Hits) and round_number(state) != number:
        raise ValueError("what is known is of another round")


def _needed(model: Model, state: State, *, over: bool) -> State:
    """Return the arrays that a device needs, in the order of their names: for its next row, or for its lists."""
    if over or isinstance(model, Hits):
        names = {name for name in state if not name.startswith(EVIDENCE)} - {"last", "plain"}
    else:
        names = {"round"} | ({"kept"} if model.name == "gram" and "kept" in state else set())
        names |= {"kept", "weights", "direction", "basis"} if "basis" in state else set()
    return {name: np.asarray(state[name]) for name in sorted(names)}


def _square_of(row: NDArray[np.int64], bound: int) -> int:
    """Return the exact squared length of a row; where it is far beyond the bound, something that is too long."""
    rough = float((row.astype(np.float64) ** 2).sum())
    return int((row * row).sum()) if rough <= 2.0 * bound**2 else bound**2 + 1
