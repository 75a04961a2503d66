"""The only door: every number about people leaves through ``disclose``.

Order, which is part of the guarantee:

1. the price of the round is booked; a refusal ends here, before anything about people was computed;
2. people's integer rows are made, block by block, their exact lengths held against the plan's bound, and added;
3. noise is drawn under a fresh key and added, integer to integer; or the largest are picked with it;
4. what comes out is public: all that follows is post-processing and costs nothing.

Proof: ``disclosure.md``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, cast

import numpy as np
from numpy.typing import NDArray

from discreet.errors import PrivacyError
from discreet.privacy.clipping import Summed, add_choices, add_rows, check_bound
from discreet.privacy.mechanisms import discrete_gaussian, selection
from discreet.privacy.mechanisms.discrete_gaussian import share_of
from discreet.privacy.mechanisms.gaussian import add_noise, draw
from discreet.privacy.plan import Plan
from discreet.randomness import NoiseSource

if TYPE_CHECKING:  # a device computes its sums with NumPy alone
    from scipy.sparse import csr_array

Spend = Callable[[int], None]
"""Books units of mu^2, or raises and books nothing."""

Used = Callable[[NDArray[np.int64]], None]
"""Told what a block of people, in order, used up in a round: units, int64 [people]. Each may learn their own alone."""

Add = Callable[[Iterable[NDArray[np.int64]]], NDArray[np.int64]]
"""Adds int64 vectors up: in the clear, or so that only the sum is seen."""

AddApart = Callable[[Iterable[NDArray[np.int64]], Callable[[int], NDArray[np.int64]]], NDArray[np.int64]]
"""Adds up by two who each see half; each asks once for noise of its own, int64 of so many coordinates, and adds it."""


class Afar(Protocol):
    """People who are elsewhere. Each bounds their own row, which nobody else sees, and most add noise of their own."""

    def __len__(self) -> int:
        """How many may take part; public."""


@dataclass(frozen=True, eq=False)
class Kept:
    """A sum that was known before a run was cut off: its noise is in it, and it is the same sum again.

    Attributes:
        total: int64 [dims].
    """

    total: NDArray[np.int64]


AddAfar = Callable[[Any, Plan, int, Callable[[int], NDArray[np.int64]]], NDArray[np.int64] | Kept]
"""Asks people who are elsewhere, of a plan, for a round; with two servers, asks once for noise of its own, too."""

HEADROOM = 1 << 62

MOST_DRAWS = 1 << 30
"""Draws of honest shares in one sum: what the sampler's error is proven for."""


@dataclass(frozen=True, eq=False)
class Disclosed:
    """What came through the door. Public.

    Attributes:
        total: int64 [dims], in grid units, noise included; of a selection, int64 [groups * picks]: positions within the
            group, in the order in which they were picked.
        bound: S, the length in grid units of a whole contribution; divide by it, once. Of a selection, 1.
        deviation: standard deviation of the noise on each coordinate, in grid units; 0 where none was added, less where
            parties with their shares were lost.
        secure: False if the noise came from a test seed.
    """

    total: NDArray[np.int64]
    bound: int
    deviation: float
    secure: bool

    @property
    def values(self) -> NDArray[np.float64]:
        """The sum in whole contributions, float64 [dims]."""
        return self.total / self.bound

    @property
    def sigma(self) -> float:
        """Standard deviation of the noise on ``values``."""
        return self.deviation / self.bound


def add_up(vectors: Iterable[NDArray[np.int64]]) -> NDArray[np.int64]:
    """Add int64 vectors up in the clear, one at a time."""
    iterator = iter(vectors)
    total = next(iterator).copy()
    for vector in iterator:
        total += vector
    return total


def disclose(
    contributions: Iterable[csr_array | Summed] | Afar,
    plan: Plan,
    number: int,
    *,
    spend: Spend,
    add: Add | AddApart | AddAfar = add_up,
    used: Used | None = None,
    source: NoiseSource | None = None,
) -> Disclosed:
    """Return the noisy sum of round ``number`` of ``plan``.

    Args:
        contributions: blocks of people, each person in exactly one of them, as int64 rows [people, dims] or as what a
            fused kernel made of them. Must be lazy: nothing about people may be computed before the price is booked.
            A block that says a level is held to the part of the bound that the level has. Where noise comes in shares,
            a block is a party. Or people who are elsewhere, of whom ``add`` asks.
        plan: what runs and what is priced.
        number: the round, from 0.
        spend: books the price or raises. Not called for a plan without noise.
        add: who adds up.
        used: told, block by block, what each person used up of the price: the exact square of their row's length.
        source: noise for a test; by default a fresh, secret one.

    Returns:
        The sum over all people, with noise on each coordinate as the plan says; or what was picked.

    Raises:
        BudgetExceeded: by ``spend``; nothing was computed.
        BoundExceeded: a row is longer than the bound; the price stays booked, nothing is released.
        PrivacyError: there are more people than the sum has room for, or none at all; or another number of parties
            than the plan's.
    """
    if plan.private:
        spend(plan.price(number))
    secure = source is None or source.secure
    if not isinstance(contributions, Iterable):
        total = _added_afar(cast("AddAfar", add), contributions, plan, number, source)
        return Disclosed(total, plan.bounds[number], plan.deviation, secure)
    vectors = _within_bounds(contributions, plan, number, used)
    match plan.noise:
        case "none":
            total, secure = cast("Add", add)(vectors), True
        case "shares":
            total = _added_with_shares(cast("Add", add), vectors, plan, source)
        case "two-servers":
            total = _added_apart(cast("AddApart", add), vectors, source)
        case "selection":
            total = _picked(cast("Add", add)(vectors), plan, number, source)
        case _:
            total = add_noise(cast("Add", add)(vectors), source or NoiseSource())
    bound = 1 if plan.noise == "selection" else plan.bounds[number]
    return Disclosed(total, bound, plan.deviation, secure)


def _picked(counts: NDArray[np.int64], plan: Plan, number: int, source: NoiseSource | None) -> NDArray[np.int64]:
    """Pick in each group of counts, of whom each person moves those of one."""
    drawn = source or NoiseSource()
    groups = counts.reshape(plan.groups, -1)
    return np.concatenate([selection.pick(group, plan.bounds[number], plan.picks, drawn) for group in groups])


def _added_with_shares(
    add: Add, vectors: Iterator[NDArray[np.int64]], plan: Plan, source: NoiseSource | None
) -> NDArray[np.int64]:
    """Add up vectors, each with its party's share of the noise on it; all parties of the plan must have come."""
    parties, variance = 0, share_of(plan.honest)
    if getattr(add, "honest", plan.honest) < plan.honest:  # an adder that may lose parties says how many stay
        raise PrivacyError(f"{plan.honest} honest shares are needed; this way of adding up may be left with fewer")

    def shared() -> Iterator[NDArray[np.int64]]:
        nonlocal parties
        for vector in vectors:
            parties += 1
            if vector.size * plan.honest > MOST_DRAWS:
                raise PrivacyError(f"{plan.honest:,} shares of {vector.size:,} values: more than is proven")
            yield vector + discrete_gaussian.draw(vector.size, variance, source or NoiseSource())

    total = add(shared())
    if parties != plan.parties or next(vectors, None) is not None:
        raise PrivacyError(f"noise is shared among {plan.parties} parties, {parties} came; nothing was released")
    return total


def _added_apart(add: AddApart, vectors: Iterator[NDArray[np.int64]], source: NoiseSource | None) -> NDArray[np.int64]:
    """Add up by two, each of which must have asked for noise on every coordinate."""
    drawn: list[int] = []

    def noise(dims: int) -> NDArray[np.int64]:
        drawn.append(dims)
        return draw(dims, source or NoiseSource())

    total = add(vectors, noise)
    if drawn != [total.size] * 2 or next(vectors, None) is not None:
        raise PrivacyError("the two that add up did not each add noise to all of it; nothing was released")
    return total


def _added_afar(add: AddAfar, people: Afar, plan: Plan, number: int, source: NoiseSource | None) -> NDArray[np.int64]:
    """Add up what people elsewhere send, with noise in it before anybody here sees a sum."""
    if plan.noise not in {"shares", "two-servers"}:
        raise PrivacyError("people who are elsewhere add noise in shares, or two servers do; plan for one of these")
    if getattr(add, "honest", 0) < plan.honest:
        raise PrivacyError(f"{plan.honest} honest shares are needed; this way of adding up may be left with fewer")
    _check_headroom(len(people), plan.bounds[number])
    drawn: list[int] = []

    def noise(dims: int) -> NDArray[np.int64]:
        drawn.append(dims)
        return draw(dims, source or NoiseSource())

    total = add(people, plan, number, noise)
    if isinstance(total, Kept):
        return total.total
    if drawn != ([total.size] if plan.noise == "two-servers" else []):
        raise PrivacyError("who adds up did not add noise where the plan has it; nothing was released")
    return total


def _check_headroom(people: int, bound: int) -> None:
    if people * bound >= HEADROOM:
        raise PrivacyError(f"{people:,} people at a bound of {bound} could overflow the sum; use a coarser grid")


def _within_bounds(
    blocks: Iterable[csr_array | Summed], plan: Plan, number: int, used: Used | None
) -> Iterator[NDArray[np.int64]]:
    people, width, bound = 0, -1, plan.bounds[number]
    for block in blocks:
        summed = _summed(block, plan, bound)
        width = summed.total.size if width < 0 else width
        if summed.total.size != width:  # numpy would broadcast one number over all coordinates
            raise TypeError(f"blocks of {width} and of {summed.total.size} coordinates cannot be one sum")
        people += summed.squared_norms.size
        _check_headroom(people, bound)
        if used:
            used(_used(summed, plan, number))
        yield summed.total
    if people == 0:
        raise PrivacyError("there is nobody to learn from; nothing was released")


def _summed(block: csr_array | Summed, plan: Plan, bound: int) -> Summed:
    """Return a block added up, each row of it within what the plan allows."""
    if plan.noise == "selection":
        if isinstance(block, Summed):
            raise TypeError("a selection is made of rows: of a sum nobody could tell how far a person moves a count")
        return add_choices(block, plan.groups)
    summed = block if isinstance(block, Summed) else add_rows(block, bound)
    check_bound(summed, summed.level.of(bound))
    return summed


def _used(summed: Summed, plan: Plan, number: int) -> NDArray[np.int64]:
    """Return what each of a block used up: a row that is taken out moves the sum by its length, no more."""
    if plan.noise == "selection":
        return plan.price(number) * summed.squared_norms
    if plan.adjacency.moves == 1:
        return summed.squared_norms
    return np.full_like(summed.squared_norms, plan.price(number, summed.level))
