"""A federation in one process: the same training, with the data at many parties, against training in one place.

Every message of the protocols is made and read, so bytes and CPU time are theirs; nobody is elsewhere. Nothing is
billed or published: models are thrown away, and the figures are exact, for whoever may see the data.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from discreet.data.interactions import Histories
from discreet.data.splitting import Split, hold_out_people
from discreet.errors import PurposeNotAllowed, SettingError
from discreet.evaluation.ranking import Estimate, measure
from discreet.evaluation.tradeoff import PURPOSE, planned_for
from discreet.models.broadcast import bits_for
from discreet.models.recipe import Kind
from discreet.privacy.disclosure import Add, AddApart, add_up
from discreet.privacy.plan import Plan
from discreet.training.aggregation import SecureSum, Traffic, TwoServers, fitted
from discreet.training.populations import Here
from discreet.training.rounds import train

WAYS = ("central", "secagg", "two-servers")
METRIC = "recall@20"

Progress = Callable[[str], None]


@dataclass(frozen=True)
class Federated:
    """One way of training, measured.

    Attributes:
        way: one of ``WAYS``.
        parties: who hold the data.
        quality: recall@20 of people held out, over splits.
        noise: deviation of the noise on each sum, over that of central training; 0 where there is none.
        bits: of the ring; 0 where nothing is masked.
        values: of all sums of a run together; of this and what follows, the mean over splits.
        up: bytes that each party sent, in a whole run.
        packed: the same, if it had sent nothing but its packed vectors.
        seconds: CPU time of a run, all parties and servers together.
    """

    way: str
    parties: int
    quality: Estimate
    noise: float
    bits: int
    values: float
    up: float
    packed: float
    seconds: float

    @property
    def private(self) -> bool:
        """Whether noise was added: exact sums of few people tell what each did, however they are added up."""
        return self.noise > 0

    def to_dict(self) -> dict[str, Any]:
        """Return JSON values."""
        quality = {"mean": self.quality.mean, "standard_error": self.quality.error, "seeds": self.quality.seeds}
        return vars(self) | {"private": self.private, "quality": {METRIC: quality}}


def federate(
    histories: Histories,
    *,
    epsilon: float,
    parties: int,
    lost: float = 0.0,
    ways: Sequence[str] = WAYS,
    kind: Kind = "auto",
    seeds: int = 3,
    held_out: int = 140,
    progress: Progress | None = None,
) -> list[Federated]:
    """Return what each way of training achieves at the same epsilon, and what it costs.

    Args:
        histories: opened for measuring quality.
        epsilon: of the run, in nats; infinity adds no noise, and is not private.
        parties: among whom people are divided, in order: silos; or, if there are as many as people, devices.
        lost: share of parties that are lost in each sum, at stages drawn at random (secure aggregation).
        ways: of ``WAYS``.
        kind: of model.
        seeds: how many splits.
        held_out: people of each split to measure on.
        progress: told what is done next.

    Raises:
        SettingError: there is no such way; there are fewer people than parties; sums would not fit a ring.
        PurposeNotAllowed: the histories were opened for something else.
        TooFewLeft: more parties were lost than a session survives.
    """
    if histories.purpose != PURPOSE:
        raise PurposeNotAllowed(f"these histories were opened for {histories.purpose!r}, not for {PURPOSE!r}")
    if not ways or set(ways) - set(WAYS):
        raise SettingError(f"ways of training are {', '.join(WAYS)}")
    if not 0 <= lost < 1 or seeds < 1:
        raise SettingError("a federation is simulated on one split or more, some parties staying")
    splits = [hold_out_people(histories, held_out, seed) for seed in range(seeds)]
    if not 1 <= parties <= min(len(split.train) for split in splits):
        raise SettingError(f"{parties:,} parties need as many people, beside those held out")
    return [_together(list(_runs(way, splits, epsilon, parties, lost, kind, progress))) for way in ways]


def arranged(
    way: str, plan: Plan, people: int, parties: int, lost: float = 0.0
) -> tuple[Plan, Add | AddApart, Traffic, int]:
    """Return a plan with its noise where a way has it, who adds, what will have been sent, and the bits of the ring.

    Raises:
        SettingError: sums would not fit a ring; or too many parties may be lost.
    """
    if way == "central":
        return plan, add_up, Traffic(), 0
    if not plan.private:
        return _without_noise(way, fitted(plan, people), people, parties, lost)
    if way == "two-servers":
        apart = replace(plan, noise="two-servers")
        two = TwoServers(parties, bits_for(apart, people))
        return apart, two, two.traffic, two.bits
    secure = SecureSum(parties, bits=0, lost=lost)
    shared = replace(plan, noise="shares", parties=parties, honest=secure.honest)
    secure.bits = bits_for(shared, people)
    return shared, secure, secure.traffic, secure.bits


def _without_noise(way: str, plan: Plan, people: int, parties: int, lost: float) -> tuple[Plan, Add, Traffic, int]:
    bits = bits_for(plan, people)
    if way == "two-servers":
        two = TwoServers(parties, bits)
        return plan, lambda vectors: two(vectors, lambda dims: np.zeros(dims, np.int64)), two.traffic, bits
    secure = SecureSum(parties, bits, lost)
    return plan, secure, secure.traffic, bits


def _together(runs: Sequence[Federated]) -> Federated:
    """Return what the splits of one way came to."""
    return replace(
        runs[-1],
        quality=Estimate.over([value for run in runs for value in run.quality.values]),
        values=_mean([run.values for run in runs]),
        up=_mean([run.up for run in runs]),
        packed=_mean([run.packed for run in runs]),
        seconds=_mean([run.seconds for run in runs]),
    )


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def _runs(
    way: str,
    splits: Sequence[Split],
    epsilon: float,
    parties: int,
    lost: float,
    kind: Kind,
    progress: Progress | None,
) -> Iterator[Federated]:
    for number, split in enumerate(splits):
        if progress:
            progress(f"{way}, split {number + 1} of {len(splits)}")
        model, plan = planned_for(split.train, epsilon, kind)
        block = -(-len(split.train) // parties)
        there = -(-len(split.train) // block)  # the last parties may have nobody
        where, add, traffic, bits = arranged(way, plan, len(split.train), there, lost)
        values: list[int] = []
        start = time.process_time()
        trained = train(model, Here(split.train, block), where, spend=_nobody, add=_noting(add, values))
        seconds = time.process_time() - start
        packed, noise = sum(values) * bits / 8, where.deviation / plan.deviation if plan.private else 0.0
        quality = Estimate.over([measure(trained.scores, split)[METRIC]])
        yield Federated(way, there, quality, noise, bits, sum(values), traffic.up / there, packed, seconds)


def _noting(add: Add | AddApart, values: list[int]) -> Callable[..., Any]:
    """Return the same adder, which notes how long its vectors are."""

    def noted(*arguments: Any) -> Any:
        total = add(*arguments)
        values.append(total.size)
        return total

    return noted


def _nobody(units: int) -> None:
    """Bill nobody: the model is thrown away."""
