"""Gate B: in integers, does one person move a sum by no more than is charged for it? No false alarms.

Neighbours are drawn at random, extremes among them, and both go the product's whole way: blocks, kernels, door, adder.
What is added up is noted just before the noise; what is charged, as it is charged. Held for every kind of model, in
every round, under both adjacencies:

- the squared distance of the neighbours' sums is at most the price of the round;
- it is that person's row alone, as their own device would make it;
- that row is as long as was reported to the door, and within the bound;
- everybody is counted once, wherever blocks are cut.

And for every adder: sums of integers near the end of their range are exact.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

from discreet.data.interactions import Rows
from discreet.evaluation.audit.canaries import ADDERS
from discreet.evaluation.audit.findings import Check, Claim, Finding
from discreet.evaluation.audit.people import KINDS, crowd, opened, planned, rows, stacked
from discreet.models.base import Model, State
from discreet.models.base import rows as device_rows
from discreet.models.recipe import Kind
from discreet.privacy.adjacency import Adjacency
from discreet.privacy.clipping import Summed
from discreet.privacy.disclosure import Add, disclose
from discreet.privacy.plan import Plan
from discreet.training.populations import Here

PEOPLE, ITEMS = 9, 24
CROWD = 2_000
"""People whose released sums the rounds are built on: enough for models to go past their counts."""

KEPT = {"kept": 16, "scouted": 8}
"""Settings of models that leave items out: here too, some are left out."""

BLOCK = 4
"""People in a block: few, so that a person in two of them would show."""

NEIGHBOURS = 24
"""Pairs of data sets a round, a bound and an adjacency."""

CLAIM = Claim(8.0, 1e-6)
"""Whose plan is run, beside others: any will do, since prices are held against what they pay for."""

FACTORS = (1, 16)
"""By how much the plan's bounds are multiplied: rounding shows most where they are small."""

VECTORS = 20
LARGEST = 1 << 60


def checks() -> list[Check]:
    """Return one check for each kind of model and each adder."""
    kinds = [Check("B", kind, None, 0.0, partial(_measure_kind, kind)) for kind in KINDS]
    return kinds + [Check("B", name, None, 0.0, partial(_measure_adder, add)) for name, add in ADDERS.items()]


@dataclass
class Noted:
    """What passed through the door on one disclosure: the sum before its noise, its price, and the lengths told."""

    total: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))
    price: int = 0
    lengths: list[int] = field(default_factory=list)

    def spend(self, units: int) -> None:
        """Note a price."""
        self.price += units

    def add(self, vectors: Iterable[NDArray[np.int64]]) -> NDArray[np.int64]:
        """Add up, and note the sum."""
        self.total = ADDERS["add_up"](vectors)
        return self.total.copy()

    def listening(self, blocks: Iterable[Summed]) -> Iterator[Summed]:
        """Note the lengths that are reported with each block."""
        for block in blocks:
            self.lengths += block.squared_norms.tolist()
            yield block


def _measure_kind(kind: Kind, alpha: float, scale: int) -> Finding:
    del alpha, scale  # nothing here is left to chance
    random = np.random.default_rng()
    model, plan = planned(kind, CROWD, ITEMS, CLAIM.epsilon, CLAIM.delta)
    model = replace(model, **{name: value for name, value in KEPT.items() if hasattr(model, name)})
    trials = 0
    for state, number in _states(model, plan, random):
        for wide in _plans(plan):
            for fault in _faults(model, state, wide, number, random):
                trials += 1
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


def _plans(plan: Plan) -> Iterator[Plan]:
    """Yield the plan under each adjacency, and with larger bounds."""
    for adjacency in Adjacency:
        for factor in FACTORS:
            yield replace(plan, adjacency=adjacency, bounds=tuple(factor * bound for bound in plan.bounds))


def _faults(model: Model, state: State, plan: Plan, number: int, random: np.random.Generator) -> Iterator[str | None]:
    """Yield what is wrong with each of some pairs of neighbours: None where nothing is."""
    for _ in range(NEIGHBOURS):
        others = crowd(PEOPLE - 1, ITEMS, ITEMS, random)
        place = int(random.integers(PEOPLE))
        histories = _somebody(random), _instead(plan.adjacency, random)
        yield _fault(model, state, plan, number, place, [_with(others, each, place) for each in histories])


def _fault(model: Model, state: State, plan: Plan, number: int, place: int, worlds: list[Rows]) -> str | None:
    """Return what is wrong with two data sets that differ in the row at ``place``."""
    notes = [_noted(model, state, plan, number, world) for world in worlds]
    made = [device_rows(model, world[[place]], state, plan.bounds[number]).toarray()[0] for world in worlds]
    moved, price = notes[0].total - notes[1].total, min(note.price for note in notes)
    promises = {
        "somebody is counted twice, or not at all": all(len(note.lengths) == PEOPLE for note in notes),
        f"neighbours ({plan.adjacency.name}) are {_ratio(moved, price)} of what is charged apart": (
            _square(moved) <= price
        ),
        "a person changes the sum by more than their row": bool((moved == made[0] - made[1]).all()),
        "a row is longer than its bound": all(_square(row) <= plan.bounds[number] ** 2 for row in made),
        "a row is not as long as was reported": [_square(row) for row in made]
        == [note.lengths[place] for note in notes],
    }
    return next((fault for fault, kept in promises.items() if not kept), None)


def _noted(model: Model, state: State, plan: Plan, number: int, people: Rows) -> Noted:
    noted = Noted()
    blocks = Here(opened(people), block=BLOCK).map(partial(model.summed, state=state, bound=plan.bounds[number]))
    disclose(noted.listening(blocks), plan, number, spend=noted.spend, add=noted.add)
    return noted


def _somebody(random: np.random.Generator) -> NDArray[np.int64]:
    """Return a history of any length, everything and single items more often than chance would have them."""
    length = int(random.choice([1, 2, ITEMS, int(random.integers(1, ITEMS + 1))]))
    return random.permutation(ITEMS)[:length]


def _instead(adjacency: Adjacency, random: np.random.Generator) -> NDArray[np.int64]:
    """Return what stands in somebody's place in the other world."""
    return _somebody(random) if adjacency is Adjacency.REPLACE_PERSON else np.zeros(0, np.int64)


def _with(others: Rows, history: NDArray[np.int64], place: int) -> Rows:
    return stacked(others[:place], rows([history], ITEMS), others[place:])


def _square(vector: NDArray[np.int64]) -> int:
    return sum(int(q) ** 2 for q in vector[vector != 0])


def _ratio(moved: NDArray[np.int64], price: int) -> str:
    return f"{(_square(moved) / max(price, 1)) ** 0.5:.3f}"


def _measure_adder(add: Add, alpha: float, scale: int) -> Finding:
    del alpha, scale
    random = np.random.default_rng()
    vectors = random.integers(-LARGEST, LARGEST, (VECTORS, ITEMS))
    vectors[1::2] = random.integers(-9, 9, vectors[::2].shape) - vectors[::2]  # sums stay small, their parts do not
    exact = [sum(map(int, column)) for column in vectors.T]
    kept = add(iter(vectors)).tolist() == exact
    detail = "sums are exact" if kept else "a sum is not the sum of its parts"
    return Finding(kept, vectors.size, 0.0, detail, {})
