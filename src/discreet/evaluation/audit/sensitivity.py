"""Gate B: in integers, does one person move a sum by no more than is charged for it? No false alarms.

Neighbours are drawn at random, extremes among them, and both go the whole way of ``train``: blocks, kernels, door.
What is added up is noted just before the noise; what is charged, as it is charged. Held for every kind of model, in
every round, under both adjacencies:

- the squared distance of the neighbours' sums is at most the price of the round; among people who chose levels, the
  price of that person's level; where neighbours differ in a sensitive category alone, that of its weight;
- the difference is that person's row alone, as their own device would make it;
- that row is within the bound, and no longer than was reported to the door;
- everybody is counted once, wherever blocks are cut.

And for every adder: sums of integers near the end of their range are exact.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from typing import cast

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from discreet.data.catalogue import SENSITIVE
from discreet.data.interactions import Rows
from discreet.evaluation.audit.canaries import ADDERS, PARTIES, Adder
from discreet.evaluation.audit.findings import Check, Claim, Finding
from discreet.evaluation.audit.people import KINDS, crowd, opened, planned, rows, stacked
from discreet.evaluation.transcripts import Watched
from discreet.models.base import Model, State
from discreet.models.base import rows as device_rows
from discreet.models.recipe import Kind
from discreet.privacy.adjacency import Adjacency
from discreet.privacy.clipping import MAX_BOUND
from discreet.privacy.disclosure import Disclosed, add_up, disclose
from discreet.privacy.levels import OFFERED, Level
from discreet.privacy.plan import Plan
from discreet.privacy.records import MOST_WEIGHT
from discreet.training.participants import Participants, Usage
from discreet.training.populations import Here
from discreet.training.rounds import train

PEOPLE, ITEMS = 9, 24
CROWD = 2_000
"""People whose released sums the rounds are built on: enough for models to go past their counts."""

KEPT = {"kept": 16, "scouted": 8}
"""Settings of models that leave items out: here too, some are left out."""

BLOCK = 4
"""People in a block: few, so that a person in two of them would show."""

NEIGHBOURS = 12
"""Pairs of data sets a round, for each way in which they can differ."""

CATEGORY = SENSITIVE[0]
SECRET = np.arange(ITEMS) % 3 == 0
"""Which items are of a sensitive category."""

CATEGORIES = tuple(CATEGORY if secret else "" for secret in SECRET)

CLAIM = Claim(8.0, 1e-6)
"""Whose plan is run, beside others: any will do, since prices are held against what they pay for."""

FACTORS = (1, 16)
"""By how much the plan's bounds are multiplied: rounding shows most where they are small."""


def checks() -> list[Check]:
    """Return one check for each kind of model and each adder."""
    kinds = [Check("B", kind, None, 0.0, partial(_measure_kind, kind)) for kind in KINDS]
    return kinds + [Check("B", name, None, 0.0, partial(_measure_adder, adder)) for name, adder in ADDERS.items()]


@dataclass
class Noted:
    """What passed through the door in a round: the sum before its noise, its price, and the lengths told, squared."""

    total: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))
    price: int = 0
    lengths: list[int] = field(default_factory=list)

    def spend(self, units: int) -> None:
        """Note a price."""
        self.price += units

    def add(self, vectors: Iterable[NDArray[np.int64]]) -> NDArray[np.int64]:
        """Add up, and note the sum."""
        self.total = add_up(vectors)
        return self.total.copy()

    def use(self, units: NDArray[np.int64]) -> None:
        """Note what some people used up."""
        self.lengths += units.tolist()


@dataclass(frozen=True, eq=False)
class OneRound(Watched):
    """A model that is asked for the sum that comes after ``state``, and for nothing more."""

    state: State = field(default_factory=dict)

    @property
    def rounds(self) -> int:
        """One."""
        return 1

    def start(self, tags: csr_array | None = None) -> State:
        """Return what is known by then."""
        del tags
        return self.state

    def step(self, state: State, released: Disclosed) -> State:
        """Learn nothing."""
        del released
        return state


@dataclass(frozen=True, eq=False)
class Pair:
    """Two neighbours, and what their sums may differ by.

    Attributes:
        what: how they differ, for people.
        plan: of one round.
        worlds: each [people, items]; one person's row differs.
        place: of that row.
        quarters: of the bound that each person gives, or None.
        limit: of the squared distance, in units; None: what is charged.
    """

    what: str
    plan: Plan
    worlds: tuple[Rows, Rows]
    place: int
    quarters: NDArray[np.int64] | None = None
    limit: int | None = None

    @property
    def bound(self) -> int:
        """Of the row in question, in grid units."""
        level = Level.LIGHT if self.quarters is None else Level(int(self.quarters[self.place]))
        return level.of(self.plan.bounds[0])


def _measure_kind(kind: Kind, alpha: float, scale: int) -> Finding:
    del alpha, scale  # nothing here is left to chance
    random = np.random.default_rng()
    model, plan = planned(kind, CROWD, ITEMS, CLAIM.epsilon, CLAIM.delta)
    model = replace(model, **{name: value for name, value in KEPT.items() if hasattr(model, name)})
    trials = 0
    for state, number in _states(model, plan, random):
        for pair in _pairs(replace(plan, bounds=(plan.bounds[number],)), random):
            trials += 1
            fault = _fault(model, state, pair)
            if fault:
                return Finding(False, trials, 0.0, f"round {number}, {fault}", {})
    return Finding(True, trials, 0.0, "neighbours are within their price", {})


def _states(model: Model, plan: Plan, random: np.random.Generator) -> Iterator[tuple[State, int]]:
    """Yield the state before each round of a run on some crowd."""
    people, state = opened(crowd(CROWD, ITEMS, ITEMS // 2, random)), model.start()
    for number, bound in enumerate(plan.bounds):
        yield state, number
        blocks = Here(people).map(partial(model.summed, state=state, bound=bound))
        state = model.step(state, disclose(blocks, plan, number, spend=lambda _: None))


def _pairs(plan: Plan, random: np.random.Generator) -> Iterator[Pair]:
    """Yield neighbours under each adjacency of people: as they are, at levels, and in a sensitive category."""
    for _ in range(NEIGHBOURS):
        for adjacency in (Adjacency.ADD_OR_REMOVE_PERSON, Adjacency.REPLACE_PERSON):
            for factor in FACTORS:
                yield _plain(replace(plan, adjacency=adjacency, bounds=(factor * plan.bounds[0],)), random)
            yield _levelled(replace(plan, adjacency=adjacency, levels=OFFERED), random)
        weight = int(random.integers(MOST_WEIGHT + 1))
        yield _sensitive(replace(plan, weights=((CATEGORY, weight),)), random)


def _plain(plan: Plan, random: np.random.Generator) -> Pair:
    """Return neighbours that differ in a whole history."""
    instead = _somebody(random) if plan.adjacency is Adjacency.REPLACE_PERSON else np.zeros(0, np.int64)
    place, worlds = _worlds(_somebody(random), instead, random)
    return Pair(plan.adjacency.name, plan, worlds, place)


def _levelled(plan: Plan, random: np.random.Generator) -> Pair:
    """Return the same among people who chose levels: the person in question pays for their own alone."""
    plain, quarters = _plain(plan, random), random.choice([level.value for level in OFFERED], PEOPLE)
    level = Level(int(quarters[plain.place]))
    return replace(plain, what=f"{plain.what}, {level}", quarters=quarters, limit=plan.price(0, level))


def _sensitive(plan: Plan, random: np.random.Generator) -> Pair:
    """Return neighbours that differ in what somebody did in a category."""
    history, instead = _somebody(random), _somebody(random)
    same = history[~SECRET[history]]
    place, worlds = _worlds(history, np.concatenate([same, instead[SECRET[instead]]]), random)
    return Pair(f"{plan.weights[0][1]}/16 {CATEGORY}", plan, worlds, place, limit=plan.record_cost(CATEGORY))


def _worlds(
    history: NDArray[np.int64], instead: NDArray[np.int64], random: np.random.Generator
) -> tuple[int, tuple[Rows, Rows]]:
    others, place = crowd(PEOPLE - 1, ITEMS, ITEMS, random), int(random.integers(PEOPLE))
    return place, (_with(others, history, place), _with(others, instead, place))


def _fault(model: Model, state: State, pair: Pair) -> str | None:
    """Return what is wrong with two data sets that differ in one row."""
    notes = [_noted(model, state, pair, world) for world in pair.worlds]
    moved, charged = notes[0].total - notes[1].total, min(note.price for note in notes)
    limit = charged if pair.limit is None else min(charged, pair.limit)
    promises = {
        "somebody is counted twice, or not at all": all(len(note.lengths) == PEOPLE for note in notes),
        f"neighbours ({pair.what}) are {_ratio(moved, limit)} of what is charged apart": _square(moved) <= limit,
    }
    if not pair.plan.weights:  # a row of layers is not what its device makes of the whole history
        made = [device_rows(model, world[[pair.place]], state, pair.bound).toarray()[0] for world in pair.worlds]
        told = [_in_order(pair, note)[pair.place] for note in notes]
        promises |= {
            "a person changes the sum by more than their row": bool((moved == made[0] - made[1]).all()),
            "a row is longer than its bound": all(_square(row) <= pair.bound**2 for row in made),
            "a row is longer than was reported": all(map(int.__le__, map(_square, made), told)),
        }
    return next((fault for fault, kept in promises.items() if not kept), None)


def _noted(model: Model, state: State, pair: Pair, people: Rows) -> Noted:
    """Train for one round, and note what passed through the door."""
    noted, taking = Noted(), Participants(opened(people, CATEGORIES), pair.quarters)
    population = taking.population(partial(Here, block=BLOCK))
    one = OneRound(model, state=state)
    train(one, population, pair.plan, spend=noted.spend, add=noted.add, used=noted.use)
    return noted


def _in_order(pair: Pair, noted: Noted) -> list[int]:
    """Return the lengths told, in the order of people; all 0 if they are not of everybody."""
    usage = Usage(PEOPLE)
    if len(noted.lengths) == PEOPLE:
        usage(np.array(noted.lengths))
    ordered: list[int] = Participants(opened(pair.worlds[0]), pair.quarters).in_order(usage).tolist()
    return ordered


def _somebody(random: np.random.Generator) -> NDArray[np.int64]:
    """Return a history of any length, everything and single items more often than chance would have them."""
    length = int(random.choice([1, 2, ITEMS, int(random.integers(1, ITEMS + 1))]))
    return random.permutation(ITEMS)[:length]


def _with(others: Rows, history: NDArray[np.int64], place: int) -> Rows:
    return stacked(others[:place], rows([history], ITEMS), others[place:])


def _square(vector: NDArray[np.int64]) -> int:
    return sum(int(q) ** 2 for q in vector[vector != 0])


def _ratio(moved: NDArray[np.int64], price: int) -> str:
    return f"{(_square(moved) / max(price, 1)) ** 0.5:.3f}"


def _measure_adder(adder: Adder, alpha: float, scale: int) -> Finding:
    del alpha, scale
    random, widest = np.random.default_rng(), Plan(bounds=(MAX_BOUND,), delta=1e-6)
    arranged, add, _ = adder.arrange(widest, PARTIES)
    noise = [lambda dims: np.zeros(dims, np.int64)] if arranged.noise == "two-servers" else []
    vectors = random.integers(-adder.largest, adder.largest, (PARTIES, ITEMS))
    vectors[1::2] = random.integers(-9, 9, vectors[::2].shape) - vectors[::2]  # sums stay small, their parts do not
    exact = [sum(map(int, column)) for column in vectors.T]
    kept = cast("Callable[..., NDArray[np.int64]]", add)(iter(vectors), *noise).tolist() == exact
    detail = "sums are exact" if kept else "a sum is not the sum of its parts"
    return Finding(kept, vectors.size, 0.0, detail, {})
