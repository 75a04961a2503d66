"""A federated run, whatever moves its messages: who takes part, what each round asks, and how the run is billed."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np

from discreet.data.interactions import Catalogue, rows_of
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
from discreet.privacy.plan import Plan
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
    colluding: float = 0.0

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
        return self.survivors - int(self.colluding * len(self.roster))

    def planned(self, epsilon: float, delta: float, kind: Kind = "auto") -> tuple[Model, Plan]:
        """Return the model and the plan of a run.

        Raises:
            SettingError: devices do not compute such a model's sums; or they are too few, or too many for one session.
        """
        model, plan = recipe(len(self.roster), len(self.catalogue), cap(epsilon, delta), delta=delta, kind=kind)
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


def billed(
    federation: Federation, *, epsilon: float, ledger: Ledger, release: str, out: Path, kind: Kind, learn: Learn
) -> Trained:
    """Charge a run, let it ``learn``, and publish the model once.

    Args:
        federation: who takes part.
        epsilon: of the run, in nats, at the budget's delta.
        ledger: where the run is billed. The budget must be open.
        release: id of the run; the same again costs nothing more.
        out: where to publish the model file.
        kind: of model.
        learn: trains; a sum that it saw before has to stay what it was.

    Raises:
        SettingError: an argument is out of range; nothing was charged.
        AccountMissing, BudgetExceeded, ReleaseConflict, LedgerError: by the ledger; nothing was charged.
    """
    model, plan = federation.planned(epsilon, delta_of(federation, ledger), kind)

    def make(spend: Spend) -> bytes:
        return learn(model, plan, spend).billed_as(release).to_bytes()

    content = released_once(federation, model, plan, ledger=ledger, release=release, out=out, make=make)
    return Trained.from_bytes(content)


def delta_of(federation: Federation, ledger: Ledger) -> float:
    """Return the delta of the federation's budget.

    Raises:
        AccountMissing: none is open.
    """
    return agreed_delta(ledger, federation.account, None, len(federation.roster))


def released_once(
    federation: Federation,
    model: Model,
    plan: Plan,
    *,
    ledger: Ledger,
    release: str,
    out: Path,
    make: Callable[[Spend], bytes],
) -> bytes:
    """Charge a release, make it and publish it; or return what was published before.

    Args:
        federation: who takes part.
        model: or a question: what is asked.
        plan: what it costs.
        ledger: where it is billed. The budget must be open.
        release: id; the same again costs nothing more.
        out: where to publish.
        make: returns the file's content; told how its rounds draw on what was reserved.

    Raises:
        SettingError: nothing can be published there; nothing was charged.
        AccountMissing, BudgetExceeded, ReleaseConflict, LedgerError: by the ledger; nothing was charged.
    """
    target = checked_target(out)
    if not is_published(ledger, release):
        check_free(target)
    spec = fingerprint({"model": model.name, "settings": asdict(model), "plan": plan.to_dict()})
    reservation = ledger.reserve(federation.account, cost=plan.cost, release=release, spec=spec)
    if reservation.state == "committed":
        return published_before(ledger, reservation, target).read_bytes()
    content = make(reservation.draw)
    path = published(ledger, reservation, content, target)
    return path.read_bytes() if path else content
