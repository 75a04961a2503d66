"""Bugs planted in the product as it runs, each caught by a gate that is named for it. A gate that catches none goes.

Every bug is one that privacy libraries have had, or the like. It is planted by patching the product, never the gate;
the gate then runs alone, as in an audit, its confirmation run included. The same checks pass on the product as it is.

False alarms: a check that is held to pass here fails by chance with at most 1e-6 (its confirmation decides). A planted
bug escapes by chance with less than that: each is many deviations from what is claimed, or is found without chance.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from math import isqrt
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import dp_accounting
import numpy as np
import pytest
from numpy.typing import NDArray

from discreet import randomness
from discreet.data.interactions import Histories, Rows
from discreet.evaluation.audit.findings import GATES, Claim, Outcome
from discreet.evaluation.audit.gates import planned_checks
from discreet.models import als, gram, popularity
from discreet.models.base import State
from discreet.privacy import clipping, disclosure
from discreet.privacy.adjacency import Adjacency
from discreet.privacy.clipping import Summed
from discreet.privacy.disclosure import Disclosed
from discreet.privacy.levels import Level
from discreet.privacy.mechanisms import discrete_gaussian, gaussian
from discreet.privacy.plan import Plan
from discreet.protocols import sharing
from discreet.randomness import NoiseSource
from discreet.training import populations
from discreet.training.populations import Work

Patch = pytest.MonkeyPatch
PAGE = Path(__file__).parents[2] / "docs/audit.md"
CLAIM = Claim(8.0, 1e-6)
MUTANTS: dict[str, Mutant] = {}


@dataclass(frozen=True)
class Mutant:
    """A bug, and the check that has to catch it: gate, beginning of the subject, a pattern of what it says."""

    gate: str
    subject: str
    says: str
    plant: Callable[[Patch, Path], None]


def caught_by(gate: str, subject: str, says: str) -> Callable[[Callable[[Patch, Path], None]], None]:
    """Register a bug under its function's name."""

    def register(plant: Callable[[Patch, Path], None]) -> None:
        MUTANTS[plant.__name__] = Mutant(gate, subject, says, plant)

    return register


def run(gate: str, subject: str) -> Outcome:
    checks = planned_checks([CLAIM], gates=[gate])
    (check,) = [check for check in checks if check.subject in {subject, f"{subject}, add_up"}]
    return check.run()


# --- noise ---


def change_noise(patch: Patch, change: Callable[[NDArray[np.int64]], NDArray[np.int64]]) -> None:
    real = gaussian.draw
    patch.setattr(gaussian, "draw", lambda count, source: change(real(count, source)))


@caught_by("A", "residual", "variance")
def noise_halved(patch: Patch, folder: Path) -> None:
    change_noise(patch, lambda noise: noise // 2)


@caught_by("A", "residual", "variance")
def noise_a_twentieth_too_small(patch: Patch, folder: Path) -> None:
    change_noise(patch, lambda noise: np.rint(0.95 * noise).astype(np.int64))


@caught_by("A", "residual", "no noise is missing")
def noise_missing_on_a_twentieth_of_the_coordinates(patch: Patch, folder: Path) -> None:
    change_noise(patch, lambda noise: np.where(np.random.default_rng().random(noise.size) < 0.05, 0, noise))


@caught_by("A", "residual", "repeated")
def noise_reused_between_releases(patch: Patch, folder: Path) -> None:
    """The key is drawn once, not for each release."""
    key = os.urandom(randomness.KEY_BYTES)
    patch.setattr(randomness, "os", SimpleNamespace(urandom=lambda count: key[:count], getpid=os.getpid))


@caught_by("A", "shares", "variance")
def share_sized_for_twice_the_parties(patch: Patch, folder: Path) -> None:
    real = discrete_gaussian.share_of
    patch.setattr(disclosure, "share_of", lambda honest: real(2 * honest))


@caught_by("A", "shares", "variance")
def one_share_for_all_parties(patch: Patch, folder: Path) -> None:
    """Everybody's is the same draw: together they are too much, and whoever knows one knows all."""
    source = NoiseSource(insecure_test_seed=int.from_bytes(os.urandom(4), "big"))
    known = discrete_gaussian.draw(200_000, 16, source)

    def drawn(count: int, variance: int, _: NoiseSource) -> NDArray[np.int64]:
        return known[:count] * isqrt(variance) // 4

    patch.setattr(discrete_gaussian, "draw", drawn)


AT_START = """
import os
from types import SimpleNamespace

import numpy as np

from discreet import randomness

drawn = {generator}
randomness.os = SimpleNamespace(urandom=drawn.bytes, getpid=os.getpid)
"""


def plant_in_processes(patch: Patch, folder: Path, generator: str) -> None:
    """Patch every process that is started from now on: Python imports this module before all others."""
    (folder / "sitecustomize.py").write_text(AT_START.format(generator=generator))
    patch.setenv("PYTHONPATH", str(folder))


@caught_by("A", "processes", "fork")
def key_from_a_generator_that_crosses_a_fork(patch: Patch, folder: Path) -> None:
    plant_in_processes(patch, folder, "np.random.default_rng()")


@caught_by("A", "processes", "of start 0 and parent of start 1")
def key_from_a_constant_seed(patch: Patch, folder: Path) -> None:
    plant_in_processes(patch, folder, "np.random.default_rng(42)")


# --- bounds ---


def trust_rows(patch: Patch) -> None:
    """Forget every check of a row's length."""

    for room in (clipping, disclosure):
        patch.setattr(room, "check_bound", lambda *_: None)


def weigh_counts(patch: Patch, weight: Callable[[int, int], int]) -> None:
    """Give each item of a history of k items a weight of its own, from the bound and k."""

    def wrong(sizes: NDArray[np.int64], bound: int) -> NDArray[np.int64]:
        return np.array([weight(bound, size) for size in sizes.tolist()], np.int64)

    patch.setattr(popularity, "steps_of", wrong)


@caught_by("B", "popularity", "apart|longer than its bound")
def clip_forgotten(patch: Patch, folder: Path) -> None:
    trust_rows(patch)
    weigh_counts(patch, lambda bound, _: bound)


@caught_by("B", "popularity", "apart|longer than its bound")
def cap_ignored_for_a_group_of_people(patch: Patch, folder: Path) -> None:
    """Whoever has more than twelve items is treated as if they had twelve."""
    trust_rows(patch)
    weigh_counts(patch, lambda bound, size: isqrt(bound**2 // min(max(size, 1), 12)))


@caught_by("B", "popularity", "strong")
def cap_ignored_for_one_level(patch: Patch, folder: Path) -> None:
    """Whoever chose strong gives as much as everybody, and is held to no less."""
    real = Work.__call__

    def careless(work: Work, people: Rows) -> Summed:
        return real(replace(work, level=Level.LIGHT) if work.level is Level.STRONG else work, people)

    patch.setattr(Work, "__call__", careless)


@caught_by("B", "popularity", "health")
def sensitive_category_in_every_layer(patch: Patch, folder: Path) -> None:
    patch.setattr(populations, "without", lambda histories, _: histories)


@caught_by("B", "popularity", "apart|longer than its bound")
def rounded_to_nearest_rather_than_toward_zero(patch: Patch, folder: Path) -> None:
    trust_rows(patch)
    weigh_counts(patch, lambda bound, size: round(bound / max(size, 1) ** 0.5))


@caught_by("C", "gram, two-servers", "mu >=")
def noise_of_one_server_forgotten(patch: Patch, folder: Path) -> None:
    """What is released has noise, all of which the other server knows."""
    real, told = sharing.Half.total, []

    def total(half: sharing.Half, noise: Callable[[int], NDArray[np.int64]]) -> sharing.HalfSum:
        told.append(half)
        return real(half, noise if len(told) % 2 else lambda dims: 0 * noise(dims))

    patch.setattr(sharing.Half, "total", total)


@caught_by("C", "gram", "mu >=")
def sensitivity_halved(patch: Patch, folder: Path) -> None:
    """The model is given twice the bound that is priced."""
    trust_rows(patch)
    real = gram.Gram.summed
    patch.setattr(gram.Gram, "summed", lambda model, people, state, bound: real(model, people, state, 2 * bound))


@caught_by("C", "als", "mu >=")
def clip_forgotten_in_one_model_alone(patch: Patch, folder: Path) -> None:
    trust_rows(patch)
    real = als.Als.summed

    def unclipped(model: als.Als, people: Rows, state: State, bound: int) -> Summed:
        return real(model, people, state, bound if "factors" not in state else 3 * bound)

    patch.setattr(als.Als, "summed", unclipped)


@caught_by("B", "gram", "apart")
def lengths_not_those_of_the_rows(patch: Patch, folder: Path) -> None:
    """A fused kernel reports half of the lengths that it adds."""
    real = gram.Gram.summed

    def modest(model: gram.Gram, people: Rows, state: State, bound: int) -> Summed:
        summed = real(model, people, state, bound)
        return Summed(2 * summed.total, summed.squared_norms)

    patch.setattr(gram.Gram, "summed", modest)


@caught_by("B", "popularity", "apart|longer than its bound")
def price_of_the_wrong_adjacency(patch: Patch, folder: Path) -> None:
    """To replace a person is charged as to remove one."""
    patch.setattr(Adjacency, "moves", property(lambda _: 1))


@caught_by("B", "popularity", "apart|longer than its bound")
def price_smaller_than_the_bound(patch: Patch, folder: Path) -> None:
    real = Plan.price
    patch.setattr(Plan, "price", lambda plan, number, *level: real(plan, number, *level) // 2)


# --- sums ---


@caught_by("B", "add_up", "not the sum")
def sum_rounded_to_floats(patch: Patch, folder: Path) -> None:
    def in_floats(vectors: Iterable[NDArray[np.int64]]) -> NDArray[np.int64]:
        total: Any = 0.0
        for vector in vectors:
            total = total + vector.astype("float64")
        rounded: NDArray[np.int64] = total.astype("int64")
        return rounded

    patch.setattr(disclosure.add_up, "__code__", in_floats.__code__)


@caught_by("B", "popularity", "counted twice")
def person_counted_twice(patch: Patch, folder: Path) -> None:
    """Each block begins with the last person of the one before."""

    def overlapping(histories: Histories, most: int) -> Iterator[Rows]:
        return (histories.matrix[max(0, at - 1) : at + most] for at in range(0, len(histories), most))

    patch.setattr(Histories, "blocks", overlapping)


@caught_by("C", "popularity", "mu >=")
def sum_used_as_a_mean(patch: Patch, folder: Path) -> None:
    """The noise is that of a mean over a hundred people; what is released is their sum."""
    change_noise(patch, lambda noise: noise // 100)


@caught_by("C", "als", "mu >=")
def noise_forgotten_after_the_first_round(patch: Patch, folder: Path) -> None:
    real = disclosure.disclose

    def leaking(contributions: Iterable[Summed], plan: Plan, number: int, **how: Any) -> Disclosed:
        exact: list[NDArray[np.int64]] = []

        def add(vectors: Iterable[NDArray[np.int64]]) -> NDArray[np.int64]:
            exact.append(disclosure.add_up(vectors))
            return exact[0]

        released = real(contributions, plan, number, **how | {"add": add})
        return replace(released, total=exact[0].copy()) if number else released

    patch.setattr("discreet.training.rounds.disclose", leaking)


@caught_by("D", "popularity", "mu >=")
def mean_of_several_releases_for_one_price(patch: Patch, folder: Path) -> None:
    real = disclosure.disclose

    def repeated(contributions: Iterable[Summed], plan: Plan, number: int, **how: Any) -> Disclosed:
        blocks = list(contributions)
        first = real(blocks, plan, number, **how)
        more = [real(blocks, plan, number, **how | {"spend": lambda _: None}).total for _ in range(8)]
        return replace(first, total=np.rint(np.mean([first.total, *more], axis=0)).astype(np.int64))

    patch.setattr("discreet.training.rounds.disclose", repeated)


@caught_by("F", "popularity", "mu >=")
def lists_made_from_sums_without_noise(patch: Patch, folder: Path) -> None:
    """What is released is noisy; what the model ranks by is not."""
    summed, step, kept = popularity.Popularity.summed, popularity.Popularity.step, []

    def remembering(model: popularity.Popularity, people: Rows, state: State, bound: int) -> Summed:
        kept.append(summed(model, people, state, bound))
        return kept[-1]

    def exact(model: popularity.Popularity, state: State, released: Disclosed) -> State:
        total = sum(block.total for block in kept)
        kept.clear()
        return step(model, state, replace(released, total=np.asarray(total)))

    patch.setattr(popularity.Popularity, "summed", remembering)
    patch.setattr(popularity.Popularity, "step", exact)


# --- the accountant ---


@caught_by("E", "compositions", "below the closed form")
def epsilon_a_twentieth_too_low(patch: Patch, folder: Path) -> None:
    real = dp_accounting.get_epsilon_gaussian
    patch.setattr(dp_accounting, "get_epsilon_gaussian", lambda deviation, delta: 0.95 * real(deviation, delta))


@caught_by("E", "compositions", "")
def delta_taken_for_both_sides(patch: Patch, folder: Path) -> None:
    """Each conversion is made at twice the delta."""
    for name in ("get_epsilon_gaussian", "get_sigma_gaussian"):
        real = getattr(dp_accounting, name)
        patch.setattr(dp_accounting, name, lambda given, delta, real=real: real(given, 2 * delta))


@caught_by("E", "compositions", "level")
def level_charged_for_less_than_it_gives(patch: Patch, folder: Path) -> None:
    """The part of the bound that a level has is taken off once more."""
    real = Plan.cost_at
    patch.setattr(Plan, "cost_at", lambda plan, level: real(plan, level) * level.value // 4)


@caught_by("E", "compositions", "says")
def rounds_that_are_not_added_up(patch: Patch, folder: Path) -> None:
    patch.setattr(Plan, "cost", property(lambda plan: max(plan.price(number) for number in range(plan.rounds))))


# --- the tests ---


@pytest.mark.parametrize("name", MUTANTS)
def test_a_planted_bug_is_caught(name: str, monkeypatch: Patch, tmp_path: Path) -> None:
    mutant = MUTANTS[name]
    mutant.plant(monkeypatch, tmp_path)
    outcome = run(mutant.gate, mutant.subject)
    assert not outcome.passed
    assert all(re.search(mutant.says, finding.detail) for finding in outcome.findings)
    assert len(outcome.findings) == (1 if mutant.gate in "BE" else 2)


@pytest.mark.parametrize(("gate", "subject"), sorted({(each.gate, each.subject) for each in MUTANTS.values()}))
def test_the_same_check_passes_without_the_bug(gate: str, subject: str) -> None:
    outcome = run(gate, subject)
    assert outcome.passed, outcome.findings
    assert outcome.trials > 0


def test_every_gate_catches_a_bug_and_there_are_enough_of_them() -> None:
    assert {mutant.gate for mutant in MUTANTS.values()} == set(GATES)
    assert len(MUTANTS) >= 12


def test_the_page_names_each_bug_and_its_gate() -> None:
    rows = re.findall(r"^\| ([a-z ]+) \| ([A-F]) \w+, (.+) \|$", PAGE.read_text(), re.MULTILINE)
    assert rows == [(name.replace("_", " "), each.gate, each.subject) for name, each in MUTANTS.items()]
