"""What a search for the right epsilon costs, and the search itself: private, and billed like any other release.

People are parted in two by public chance. Those of the one part train a model at each epsilon of a public grid, with
noise, as ``fit`` would. Those of the other are measured: each adds one bounded row, their gains over popularity, to a
single sum that leaves through the door. Nobody is in both parts, so what the search costs anybody is what their own
part paid: all the trainings, or the one measurement, which gets a budget of the same size.

The models are thrown away, and only the sum is published. A model without noise is never trained here: how well it
does would depend on each person it was trained on without any bound. So shares are of the gain at the largest epsilon
of the grid. Popularity is ranked by the counts that this model released: nothing further is paid for it.

Proof: ``search.md``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from itertools import pairwise
from math import isqrt
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from discreet.data.interactions import Histories
from discreet.data.splitting import Split, hold_out_apart
from discreet.documents import fingerprint
from discreet.errors import PrivacyError, PurposeNotAllowed, SettingError
from discreet.evaluation.gains import Gains, gain_rows, means_of
from discreet.evaluation.ranking import BLOCK, hits_of, recall
from discreet.evaluation.tradeoff import PURPOSE
from discreet.governance.checks import check_name
from discreet.governance.ledger import Account, Ledger, Reservation
from discreet.models.base import Model
from discreet.models.popularity import Popularity
from discreet.models.recipe import Kind, recipe
from discreet.models.trained import Trained
from discreet.privacy.accounting import cap
from discreet.privacy.disclosure import disclose
from discreet.privacy.guarantee import Guarantee
from discreet.privacy.plan import Plan
from discreet.privacy.records import Weights, weights_of
from discreet.randomness import NoiseSource
from discreet.training.billing import (
    agreed_delta,
    check_free,
    checked_target,
    is_published,
    opened_ledger,
    released_once,
)
from discreet.training.populations import Here
from discreet.training.rounds import Progress, train

GRID = (0.5, 1.0, 2.0, 4.0, 8.0)
MOST_TRIED = 12
MEASURED_SHARE = 0.2
MOST_MEASURED = 5_000
LENGTH = 20
"""Of the lists that are measured."""


@dataclass(frozen=True)
class Search:
    """What will be trained and measured: all of it public, and fixed before any history is read.

    Attributes:
        people: in the data set.
        items: in the catalogue.
        delta: at which epsilons are read.
        epsilons: to try.
        kind: of model.
        seed: of the parting in two.
        weights: of the sensitive categories that the catalogue declares.
        tagged: whether the catalogue has tags.

    Raises:
        SettingError: there are fewer than two epsilons, or more than twelve, or they do not ascend, or one is out of
            range; or there are too few people to part.
    """

    people: int
    items: int
    delta: float
    epsilons: tuple[float, ...] = GRID
    kind: Kind = "auto"
    seed: int = 0
    tagged: bool = False
    weights: Weights = ()

    def __post_init__(self) -> None:
        if not 2 <= len(self.epsilons) <= MOST_TRIED or any(low >= high for low, high in pairwise(self.epsilons)):
            raise SettingError(f"a search tries 2 to {MOST_TRIED} epsilons, ascending; give other ones")
        if self.people < 2:
            raise SettingError("a search needs people to train on and others to measure; there are too few")
        if self.seed < 0:
            raise SettingError("seed must not be negative")

    @cached_property
    def trainings(self) -> tuple[tuple[Model, Plan], ...]:
        """Model and plan at each epsilon, as the recipe has them for so many people."""
        people = self.people - measured_of(self.people)
        units = [cap(epsilon, self.delta) for epsilon in self.epsilons]
        return tuple(
            recipe(people, self.items, each, delta=self.delta, kind=self.kind, tagged=self.tagged, weights=self.weights)
            for each in units
        )

    @property
    def cost(self) -> int:
        """Units of the search: what all the trainings cost those that they are trained on."""
        return sum(plan.cost for _, plan in self.trainings)

    @property
    def measurement(self) -> Plan:
        """The plan of the one sum over those who are measured; it costs no more than the trainings."""
        return Plan(bounds=(isqrt(self.cost),), delta=self.delta)

    def guarantee(self, *, secure: bool = True, catalogue_declared: bool = False) -> Guarantee:
        """Return what the search promises everybody, whichever part they are in."""
        return Guarantee(units=self.cost, delta=self.delta, secure=secure, catalogue_declared=catalogue_declared)

    @property
    def spec(self) -> str:
        """SHA-256 (hex) of everything that decides what is computed."""
        trainings = [
            {"model": model.name, "settings": asdict(model), "plan": plan.to_dict()} for model, plan in self.trainings
        ]
        return fingerprint({"search": asdict(self), "trainings": trainings, "measurement": self.measurement.to_dict()})


def search_gains(
    histories: Histories,
    *,
    ledger: Ledger | str | Path,
    epsilons: Iterable[float] = GRID,
    kind: Kind = "auto",
    seed: int = 0,
    release: str | None = None,
    out: str | Path | None = None,
    progress: Progress | None = None,
    reserved: Callable[[str], None] | None = None,
    insecure_test_seed: int | None = None,
) -> Gains:
    """Return gains over popularity at each of ``epsilons``; ask the answer for ``smallest(keep)``.

    The whole price is charged to the budget of the data set for measuring quality before anything is computed.

    Args:
        histories: opened for measuring quality.
        ledger: where it is billed, or the path of its file. The budget must be open.
        epsilons: to try; the last, the largest, is what the others are compared with, and most of the price.
        kind: of model.
        seed: of the parting in two; public.
        release: id of this release; by default a new one. Give it to repeat a search that was interrupted, or to read
            one that was made.
        out: where to publish what came out (JSON); must not exist, unless it is this release's.
        progress: told the trainings done and planned.
        reserved: told the id of the release as soon as it is charged.
        insecure_test_seed: for tests; nothing is promised then.

    Raises:
        SettingError: an argument is out of range; nothing was charged.
        PurposeNotAllowed: the histories were opened for something else.
        AccountMissing, BudgetExceeded, ReleaseConflict, LedgerError: by the ledger; nothing was charged.
    """
    if histories.purpose != PURPOSE:
        raise PurposeNotAllowed(f"these histories were opened for {histories.purpose!r}, not for {PURPOSE!r}")
    target, account = checked_target(out), Account(histories.dataset, PURPOSE)
    if release is not None:
        check_name("release", release)
    source = None if insecure_test_seed is None else NoiseSource(insecure_test_seed=insecure_test_seed)
    with opened_ledger(ledger) as book:
        if not is_published(book, release):
            check_free(target)
        delta = agreed_delta(book, account, None, len(histories))
        catalogue = histories.catalogue
        weights = weights_of(catalogue.sensitive, None)
        search = Search(len(histories), len(catalogue), delta, tuple(epsilons), kind, seed, catalogue.tagged, weights)

        def make(people: Histories, reservation: Reservation) -> bytes:
            return _searched(search, people, reservation, progress, source).to_bytes()

        content = released_once(
            book,
            account,
            histories,
            make,
            cost=search.cost,
            spec=search.spec,
            release=release,
            target=target,
            reserved=reserved,
        )
        return Gains.from_bytes(content)


def measured_of(people: int) -> int:
    """Return how many of so many people are measured; the others are trained on."""
    return min(MOST_MEASURED, max(1, round(MEASURED_SHARE * people)))


def _searched(
    search: Search, people: Histories, reservation: Reservation, progress: Progress | None, source: NoiseSource | None
) -> Gains:
    if len(people) < 2:
        raise PrivacyError("fewer than two people have budget left to be parted; nothing was released")
    split, models = hold_out_apart(people, measured_of(len(people)), search.seed), []
    for number, (model, plan) in enumerate(search.trainings):
        models.append(train(model, Here(split.train), plan, spend=reservation.draw, source=source))
        if progress:
            progress(number + 1, len(search.trainings))
    k, apart, plan = len(models), reservation.apart(), search.measurement
    released = disclose(_rows(models, split, plan.bounds[0]), plan, 0, spend=apart.draw, source=source)
    measured = split.held.shape[0]
    return Gains(
        dataset=people.dataset,
        kind=search.kind,
        epsilons=search.epsilons,
        **means_of(released, k, measured),
        trained_on=len(split.train),
        measured=measured,
        guarantee=search.guarantee(secure=released.secure, catalogue_declared=people.catalogue_is_declared),
        release=reservation.release,
    )


def _rows(models: Sequence[Trained], split: Split, bound: int) -> Iterator[csr_array]:
    """Yield the measured people's rows, block by block; nothing is computed before the first is asked for."""
    for start in range(0, split.held.shape[0], BLOCK):
        known, held = split.fold_in[start : start + BLOCK], split.held[start : start + BLOCK]
        yield gain_rows(_gains(models, known, held), bound)


def _gains(models: Sequence[Trained], known: csr_array, held: csr_array) -> NDArray[np.float64]:
    """Return recall@20 of each model less that of popularity, [people, models]; 0 for those with nothing held back."""
    last = models[-1]
    floor = Popularity(items=len(last.catalogue)).scores(known, last.state)
    sizes = np.maximum(np.diff(held.indptr), 1)
    by_popularity, *by_models = (
        recall(hits_of(scores, known, held, LENGTH), sizes)
        for scores in (floor, *(model.scores(known) for model in models))
    )
    return np.column_stack(by_models) - by_popularity[:, None]
