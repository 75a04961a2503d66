"""What a sum without noise tells: masks hide who sent which vector, not what the vectors add up to.

The server of a federation sees, in a round of ``als``, one sum over a cohort: each person adds their factor u, of
length 1, times w = 1/sqrt(k), to the rows of the k items that they have. Both attacks know the model, its state and the
plan, which are public, and nothing of anybody's history. The state was learnt from everybody without noise, so that
nothing but the noise on the sum makes the difference; and the whole epsilon is spent on this one sum.

*Linkage*: a row that one person alone has added to is a multiple of their factor, so rows that are parallel are one
person's. They are a history without a name, and whoever knows a few of its items knows whose it is (Narayanan and
Shmatikov: Robust de-anonymization of large sparse datasets, 2008). What counts as parallel follows from how rows are
rounded; nothing is tuned. Rows of two items that the same several people have are parallel too; but one person's row is
as long as 1/sqrt(k) of a whole one, k being a whole number no less than the number of such rows, and theirs as a rule
is not. Rows to which several have added are left alone, so this is the least that a sum tells.

*Update*: which items somebody has, from what one round shows of their vector. In the clear it is read off (Chai, Wang,
Chen, Yang: Secure federated matrix factorization, 2021). Each trial is a person's history, and the same with one item
taken out: the score of the first is above that of the second by chance half of the time, however popular the item is.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.spatial import KDTree

from discreet.data.interactions import Histories, Rows
from discreet.errors import SettingError
from discreet.evaluation.attacks.figures import Figure, Service
from discreet.evaluation.audit.people import rows
from discreet.evaluation.audit.statistics import auc
from discreet.models.als import INWARD, Als
from discreet.models.base import State
from discreet.privacy.accounting import cap, check_epsilon, default_delta
from discreet.privacy.clipping import Summed
from discreet.privacy.disclosure import disclose
from discreet.privacy.plan import Plan
from discreet.protocols.keys import KEY_BYTES
from discreet.protocols.ring import MOST_BITS, Ring

COHORTS = (20, 100, 500, 1_000)
"""How many people a sum is over."""

CHUNK = 256
"""Rows that are compared with all others at a time."""

Table = NDArray[np.int64]
"""A sum, or one vector, as the rows of items: int64 [kept, d]."""


@dataclass(frozen=True, eq=False)
class Sweep:
    """A round of ``als`` that is about to begin.

    Attributes:
        model: which everybody knows.
        state: as it is now; public.
    """

    model: Als
    state: State

    @classmethod
    def last_of(cls, histories: Histories) -> Sweep:
        """Return the last round of a training on everybody, without noise, in which every item has a factor.

        Raises:
            PurposeNotAllowed: the histories were not opened for measuring quality.
        """
        watched = Service(histories, math.inf, "als").transcript(histories.matrix)
        return cls(cast("Als", watched.model), watched.states[-1])

    def summed(self, people: Rows, plan: Plan) -> Summed:
        """Return what people add to the sum; of one person, their vector."""
        return self.model.summed(people, self.state, plan.bounds[0])

    def table(self, vector: NDArray[np.int64]) -> Table:
        """Return the rows of the items; what all share, u u', is left out."""
        kept, d = self.state["factors"].shape
        return vector[: kept * d].reshape(kept, d)

    def whole(self, plan: Plan) -> float:
        """Return the length, in grid units, of the row of an item that is all that its person has."""
        return plan.bounds[0] * INWARD / math.sqrt(1 + self.model.curvature**2 + self.model.item_curvature**2)


@dataclass(frozen=True)
class Linked:
    """What linkage came to in one cohort.

    Attributes:
        share: of the cohort's choices, that were linked to others of the same person, and to those alone.
        precision: share of linked rows that are so; NaN if none was linked.
        nearest: of rows that are one person's alone, and not their only one, the share whose most parallel row is
            theirs too; NaN if there is none.
        chance: the same of any other row that is not 0.
    """

    share: float
    precision: float
    nearest: float
    chance: float


def leak(
    histories: Histories,
    *,
    cohorts: Sequence[int] = (20, 100),
    epsilon: float = 1.0,
    draws: int = 5,
    trials: int = 50,
    seed: int = 0,
) -> list[Figure]:
    """Return what both attacks find without noise, and then at ``epsilon``; one training serves all.

    Args:
        histories: opened for measuring quality.
        cohorts: people of a sum; those that are more than there are people with a history are left out. Updates are
            added to the smallest.
        epsilon: of one sum, in nats.
        draws: cohorts of each size.
        trials: of each of the runs on updates.
        seed: of the attacker's choices; noise has none.

    Raises:
        PurposeNotAllowed: the histories were opened for something else.
        SettingError: there are fewer people than the smallest cohort; or epsilon is out of its range.
    """
    check_epsilon(epsilon)
    sweep, figures = Sweep.last_of(histories), []
    for service in [Service(histories, value, "als", seed) for value in (math.inf, epsilon)]:
        figures += linkage(service, cohorts=cohorts, draws=draws, sweep=sweep)
        figures += update(service, people=min(cohorts), trials=trials, sweep=sweep)
    return figures


def linkage(
    service: Service, *, cohorts: Sequence[int] = COHORTS, draws: int = 5, sweep: Sweep | None = None
) -> list[Figure]:
    """Return how much of a cohort's choices is linked, person by person, from their sum alone.

    Args:
        service: what is attacked; its kind of model does not matter.
        cohorts: people of a sum; those that are more than there are people with a history are left out.
        draws: cohorts of each size.
        sweep: what is attacked, if it is there already.

    Raises:
        SettingError: there are fewer people than the smallest cohort.
    """
    sweep, plan, random = sweep or Sweep.last_of(service.histories), one_sum(service), service.random
    able = np.flatnonzero(service.lengths)
    if min(cohorts) > len(able):
        raise SettingError(f"linkage needs {min(cohorts)} people with a history, there are {len(able)}")
    figures: list[Figure] = []
    for size in sorted(size for size in cohorts if size <= len(able)):
        drawn = [service.histories.matrix[random.permutation(able)[:size]] for _ in range(draws)]
        figures += _figures(service, size, [_tried(sweep, plan, people) for people in drawn])
    return figures


def one_sum(service: Service) -> Plan:
    """Return the plan of one sum that has the whole epsilon of the service, or no noise."""
    delta = default_delta(len(service.histories))
    if service.epsilon == math.inf:
        return Plan.without_noise(1, delta=delta)
    return Plan.sharing(cap(service.epsilon, delta), (1.0,), delta=delta)


def _figures(service: Service, size: int, tries: Sequence[Linked]) -> Iterator[Figure]:
    """Yield means over the cohorts; of the precision, over those in which anything was linked."""
    precisions = [each.precision for each in tries if not math.isnan(each.precision)]
    told = [each for each in tries if not math.isnan(each.nearest)]
    yield service.of_values("linkage", f"sum of {size}: choices linked to a person", [each.share for each in tries])
    if precisions:
        yield service.of_values("linkage", f"sum of {size}: of linked rows, right", precisions)
    if told:
        what, chance = f"sum of {size}: most parallel row is the same person's", np.mean([each.chance for each in told])
        yield service.of_values("linkage", what, [each.nearest for each in told], float(chance))


def _tried(sweep: Sweep, plan: Plan, people: Rows) -> Linked:
    """Attack one cohort's sum; who has what is looked at only to count what is right."""
    table = sweep.table(_released(plan, sweep.summed(people, plan)))
    groups = linked(table, sweep.whole(plan))
    owners = _owners(people[:, sweep.state["kept"]])
    found = np.flatnonzero(groups >= 0)
    right = _of_one(groups[found], owners[found])
    precision = float(right.mean()) if found.size else math.nan
    return Linked(float(right.sum()) / people.nnz, precision, *_nearest(table, owners))


def _released(plan: Plan, *blocks: Summed) -> NDArray[np.int64]:
    return disclose(iter(blocks), plan, 0, spend=_nobody).total


def linked(table: Table, whole: float) -> NDArray[np.int64]:
    """Return which rows of a sum are one person's, by the sum alone: the number of a group, or -1, int64 [kept].

    A person's row is c u, each coordinate rounded toward zero: less than 1 off, and the row less than sqrt(d). So it is
    off in direction by less than asin(sqrt(d) / length), and two rows of one person are apart by no more than both.
    That misses none, and in d dimensions few others are so near. Left alone are rows whose length fits no whole number
    of items, or more than one; those that no other is parallel to; and those of which there are more than items.

    Args:
        table: the sum.
        whole: length of the row of an item that is all that its person has.
    """
    lengths, off = np.linalg.norm(table, axis=1), math.sqrt(table.shape[1])
    able = np.flatnonzero(lengths > off)
    items, most = np.ceil((whole / (lengths[able] + off)) ** 2), np.floor((whole / (lengths[able] - off)) ** 2)
    able, items = able[items == most], items[items == most]
    groups = np.full(len(table), -1)
    if able.size == 0:
        return groups
    directions, astray = table[able] / lengths[able, None], np.arcsin(off / lengths[able])
    pairs = KDTree(directions).query_pairs(2 * astray.max(), output_type="ndarray")
    apart = np.linalg.norm(directions[pairs[:, 0]] - directions[pairs[:, 1]], axis=1)
    one, other = pairs[apart <= astray[pairs].sum(axis=1)].T
    near = coo_array((np.ones(one.size, np.int8), (one, other)), shape=(able.size, able.size))
    _, labels = connected_components(near, directed=False)
    sizes = np.bincount(labels)[labels]
    together = (sizes > 1) & (sizes <= items)
    groups[able[together]] = labels[together]
    return groups


def _owners(people: Rows) -> NDArray[np.int64]:
    """Return who alone has each item, -1 where nobody or several do."""
    entries, owners = people.tocoo(), np.full(people.shape[1], -1)
    owners[entries.col] = entries.row
    owners[np.bincount(entries.col, minlength=people.shape[1]) != 1] = -1
    return owners


def _of_one(groups: NDArray[np.int64], owners: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Return which rows are in a group whose rows are all of one person alone."""
    number = int(groups.max(initial=-1)) + 1
    lowest, highest = np.full(number, np.iinfo(np.int64).max), np.full(number, -1)
    np.minimum.at(lowest, groups, owners)
    np.maximum.at(highest, groups, owners)
    right: NDArray[np.bool_] = (lowest >= 0) & (lowest == highest)
    return right[groups]


def _nearest(table: Table, owners: NDArray[np.int64]) -> tuple[float, float]:
    """Return how often the row most parallel to a row of one person is theirs, and how often any other row is.

    An attacker who takes noise into account has to guess: this guess is made at any noise, and needs no tolerance.
    """
    lengths = np.linalg.norm(table, axis=1)
    rows_of_one = np.bincount(owners[owners >= 0], minlength=1)
    asked = np.flatnonzero((owners >= 0) & (lengths > 0))
    asked = asked[rows_of_one[owners[asked]] > 1]
    if asked.size == 0:
        return math.nan, math.nan
    directions, right = table / np.maximum(lengths, 1)[:, None], 0
    for start in range(0, asked.size, CHUNK):
        part = asked[start : start + CHUNK]
        cosines = directions[part] @ directions.T
        cosines[np.arange(part.size), part] = -np.inf
        right += int((owners[cosines.argmax(axis=1)] == owners[part]).sum())
    chance = (rows_of_one[owners[asked]] - 1).mean() / max(1, np.count_nonzero(lengths) - 1)
    return right / asked.size, float(chance)


def update(
    service: Service, *, people: int = 20, runs: int = 8, trials: int = 100, sweep: Sweep | None = None
) -> list[Figure]:
    """Return how well it is told whether somebody has an item: AUC, by what is seen of their vector.

    Without noise the vector is seen in the clear; with it or without it under a mask of ``protocols.ring``, and in the
    sum with others: by whoever knows nothing else, and by whoever knows the others' vectors and what the person's own
    would be with the item and without it, which is all but the answer.

    Args:
        service: what is attacked; its kind of model does not matter.
        people: of a sum.
        runs: each of which gives an AUC.
        trials: of each run.
        sweep: what is attacked, if it is there already.

    Raises:
        SettingError: there are too few people with two items.
    """
    sweep, plan, random = sweep or Sweep.last_of(service.histories), one_sum(service), service.random
    able = np.flatnonzero(service.lengths >= 2)
    if people < 2 or len(able) < people:
        raise SettingError(f"an update needs a cohort of 2 or more with two items each, not {people} of {len(able)}")
    found: dict[str, list[float]] = {}
    for _ in range(runs):
        drawn = [service.histories.matrix[random.permutation(able)[:people]] for _ in range(trials)]
        pairs = [_both_sides(sweep, plan, cohort, random) for cohort in drawn]
        for view in pairs[0][0]:
            having, lacking = (np.array([scores[view] for scores in side]) for side in zip(*pairs, strict=True))
            found.setdefault(view, []).append(auc(having, lacking))
    return [service.of_values("update", f"{view}: item held, AUC", aucs, 0.5) for view, aucs in found.items()]


def _both_sides(
    sweep: Sweep, plan: Plan, cohort: Rows, random: np.random.Generator
) -> tuple[dict[str, float], dict[str, float]]:
    """Return, by view, the scores of an item of the first of a cohort: as it is, and if they did not have it."""
    history, items = cohort[[0]].indices.astype(np.int64), cohort.shape[1]
    item = random.choice(history)
    row = int(np.searchsorted(sweep.state["kept"], item))
    having, lacking = (sweep.summed(rows([each], items), plan) for each in (history, history[history != item]))
    others, middle = sweep.summed(cohort[1:], plan), (having.total + lacking.total) / 2
    sides = []
    for own in (having, lacking):
        released = _released(plan, others, own)
        seen = {"masked vector": _masked(own.total), f"sum of {cohort.shape[0]}": released}
        seen |= {} if plan.private else {"vector in the clear": own.total}
        scores = {view: float(np.linalg.norm(sweep.table(vector)[row])) for view, vector in seen.items()}
        # The likelihood ratio of Gaussian noise, up to a factor that is the same in all trials.
        ratio = float((released - others.total - middle) @ (having.total - lacking.total))
        sides.append(scores | {f"sum of {cohort.shape[0]}, knowing all else": ratio})
    return sides[0], sides[1]


def _masked(vector: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return what the server receives: the vector under a mask whose key, here as there, is used once."""
    ring = Ring(MOST_BITS, vector.size)
    residues = ring.lower(vector)
    ring.mask(residues, [os.urandom(KEY_BYTES)], [])
    return ring.lift(residues)


def _nobody(units: int) -> None:
    """Bill nobody: the sums are thrown away."""
