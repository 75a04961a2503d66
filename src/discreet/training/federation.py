"""A federated run, whatever moves its messages: who takes part, what each round asks, and how the run is billed."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from math import ceil
from pathlib import Path

import numpy as np

from discreet.data.catalogue import Catalogue
from discreet.data.interactions import rows_of
from discreet.documents import fingerprint
from discreet.errors import SettingError
from discreet.governance.ledger import Account, Ledger
from discreet.models.base import Model
from discreet.models.broadcast import Broadcast, bits_for
from discreet.models.queries import RANKERS
from discreet.models.recipe import Kind, recipe
from discreet.models.trained import Trained
from discreet.privacy.accounting import cap
from discreet.privacy.disclosure import Spend
from discreet.privacy.plan import COLLUDING, Plan
from discreet.protocols.keys import Roster, roster_digest
from discreet.protocols.secagg.terms import Terms, advised
from discreet.training.aggregation import SHARD
from discreet.training.billing import (
    agreed_delta,
    check_free,
    checked_target,
    is_published,
    published,
    published_before,
)
from discreet.training.populations import Asked, Devices
from discreet.training.spool import Spool

PURPOSE = "train-recommender"

Learn = Callable[[Model, Plan, Spend], Trained]
"""Trains by a plan; told how its rounds draw on what was reserved."""


@dataclass(frozen=True, eq=False)
class Federation:
    """Who takes part in a run, and on what conditions.

    Attributes:
        roster: signing keys of all devices.
        catalogue: public.
        dataset: name of what they hold, for the ledger.
        lost: share of devices that may be lost in a round.
        colluding: share of the roster whose noise is not counted on.
    """

    roster: Roster
    catalogue: Catalogue
    dataset: str
    lost: float = 0.1
    colluding: float = COLLUDING

    def __post_init__(self) -> None:
        if not 0 <= self.lost < 1 or not 0 <= self.colluding < 1:
            raise SettingError("shares of devices that are lost, or collude, lie between 0 and 1")

    @property
    def items(self) -> bytes:
        """The list of items as devices are sent it."""
        return json.dumps(self.catalogue.ids).encode()

    @property
    def digest(self) -> bytes:
        """SHA-256 of the list of items."""
        return hashlib.sha256(self.items).digest()

    @property
    def account(self) -> Account:
        """That pays."""
        return Account(self.dataset, PURPOSE)

    @property
    def devices(self) -> Devices:
        """All of them, as ``train`` is given them."""
        return Devices(self.catalogue, len(self.roster), self.dataset, PURPOSE)

    @property
    def survivors(self) -> int:
        """Fewest vectors in a sum."""
        return len(self.roster) - int(self.lost * len(self.roster))

    @property
    def honest(self) -> int:
        """Fewest vectors in a sum whose noise is counted on."""
        return self.survivors - ceil(self.colluding * len(self.roster))

    def planned(self, epsilon: float, delta: float, kind: Kind = "auto") -> tuple[Model, Plan]:
        """Return the model and the plan of a run.

        Raises:
            SettingError: devices do not compute such a model's sums; or they are too few, or too many for one session.
        """
        sizes = (len(self.roster), len(self.catalogue), cap(epsilon, delta))
        model, plan = recipe(*sizes, delta=delta, kind=kind)
        if kind == "auto" and model.name == "gram":  # its rows are a matrix, which no small device makes
            model, plan = recipe(*sizes, delta=delta, kind="subspace")
        if model.name not in RANKERS:
            names = ", ".join(RANKERS)
            raise SettingError(f"devices compute sums of {names}, not of {model.name}; choose one of these")
        return model, self.noised(plan)

    def broadcast(self, asked: Asked, plan: Plan, number: int) -> bytes:
        """Return what devices are told before a round."""
        work = asked.work
        return Broadcast.of(work.model, plan, number, asked.people, self.digest, work.state).to_bytes()

    def released(self, trained: Trained) -> bytes:
        """Return the released model as devices are told it."""
        plan, people = trained.plan, len(self.roster)
        return Broadcast.of(trained.model, plan, plan.rounds, people, self.digest, trained.state).to_bytes()

    def terms(self, asked: Asked, plan: Plan, said: bytes) -> Terms:
        """Return terms of a new session of secure aggregation, of what was ``said``."""
        sizes = bits_for(plan, asked.people), self.dims(asked)
        return Terms(*self._about(said), *sizes, *advised(len(self.roster), lost=self.lost))

    def dims(self, asked: Asked) -> int:
        """Return how many values a row of what is asked has."""
        work = asked.work
        nobody = rows_of(np.zeros(0, np.int64), np.zeros(0, np.int32), len(self.catalogue))
        return work.model.summed(nobody, work.state, work.bound).total.size

    def noised(self, plan: Plan) -> Plan:
        """Return a plan whose noise is where this federation has it.

        Raises:
            SettingError: devices are too few, or too many for one session.
        """
        if len(self.roster) > SHARD:
            raise SettingError(f"one session has at most {SHARD} devices; with more, let two servers add up")
        advised(len(self.roster), lost=self.lost)
        return replace(plan, noise="shares", parties=len(self.roster), honest=self.honest)

    def _about(self, said: bytes) -> tuple[bytes, bytes, bytes]:
        """Return a new session, and digests of what was said and of the roster."""
        return os.urandom(32), hashlib.sha256(said).digest(), roster_digest(self.roster)


@dataclass(frozen=True, eq=False)
class Bill:
    """Where a run is billed, and what comes of it published.

    Attributes:
        ledger: the budget must be open.
        release: id of the run; the same again goes on with it, and costs nothing more.
        spool: of this run: another one's noise would be another release.
        out: where to publish.
    """

    ledger: Ledger
    release: str
    spool: Spool
    out: Path


def billed(federation: Federation, bill: Bill, *, epsilon: float, kind: Kind, learn: Learn) -> Trained:
    """Charge a run, let it ``learn``, and publish the model once.

    Args:
        federation: who takes part.
        bill: where it is billed and published.
        epsilon: of the run, in nats, at the budget's delta.
        kind: of model.
        learn: trains; a sum that it saw before has to stay what it was.

    Raises:
        SettingError: an argument is out of range; nothing was charged.
        AccountMissing, BudgetExceeded, ReleaseConflict, LedgerError: by the ledger; nothing was charged.
    """
    model, plan = federation.planned(epsilon, delta_of(federation, bill.ledger), kind)

    def make(spend: Spend) -> bytes:
        return learn(model, plan, spend).billed_as(bill.release).to_bytes()

    return Trained.from_bytes(released_once(federation, model, plan, bill, make))


def delta_of(federation: Federation, ledger: Ledger) -> float:
    """Return the delta of the federation's budget.

    Raises:
        AccountMissing: none is open.
    """
    return agreed_delta(ledger, federation.account, None, len(federation.roster))


def released_once(
    federation: Federation, model: Model, plan: Plan, bill: Bill, make: Callable[[Spend], bytes]
) -> bytes:
    """Charge a release, make it and publish it; or return what was published before.

    The ledger's entry names the run's spool and the roster, so that one charge is for one run's noise.

    Args:
        federation: who takes part.
        model: or a question: what is asked.
        plan: what it costs.
        bill: where it is billed and published.
        make: returns the file's content; told how its rounds draw on what was reserved.

    Raises:
        SettingError: nothing can be published there; nothing was charged.
        AccountMissing, BudgetExceeded, ReleaseConflict, LedgerError: by the ledger; nothing was charged.
    """
    target, ledger = checked_target(bill.out), bill.ledger
    if not is_published(ledger, bill.release):
        check_free(target)
    run = {"run": bill.spool.claim(bill.release), "roster": roster_digest(federation.roster).hex()}
    spec = fingerprint(run | {"model": model.name, "settings": asdict(model), "plan": plan.to_dict()})
    reservation = ledger.reserve(federation.account, cost=plan.cost, release=bill.release, spec=spec)
    if reservation.state == "committed":
        return published_before(ledger, reservation, target).read_bytes()
    content = make(reservation.draw)
    path = published(ledger, reservation, content, target)
    return path.read_bytes() if path else content
