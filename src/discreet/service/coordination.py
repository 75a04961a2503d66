"""A federated run from a budget to a published model: the same ``train``, with devices as its people.

The price is charged to the coordinator's ledger as any other release is, before anybody is asked; each device keeps its
own book besides. A run that was ended by whatever it was goes on under its release id, in its folder, at no further
charge: sums that were known stay what they were.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Coroutine
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import rfc8785
import uvicorn
from fastapi import FastAPI

from discreet.documents import document
from discreet.errors import DiscreetError
from discreet.governance.ledger import Ledger
from discreet.models.base import Model, State
from discreet.models.broadcast import bits_for
from discreet.models.recipe import Kind
from discreet.models.trained import Trained
from discreet.privacy.accounting import cap
from discreet.privacy.disclosure import Disclosed, Kept, Spend, disclose
from discreet.privacy.guarantee import Guarantee
from discreet.privacy.plan import Plan
from discreet.protocols.keys import public_bytes
from discreet.protocols.sharing import SharedTerms
from discreet.service.federated import coordinator
from discreet.service.halves import Second
from discreet.service.listening import Address
from discreet.service.rounds import Noise, Rounds, Vector
from discreet.training.federation import Bill, billed, delta_of, released_once
from discreet.training.federation import Federation as Parties
from discreet.training.populations import Asked, Work
from discreet.training.rounds import Progress, train
from discreet.training.spool import Spool

Result = TypeVar("Result")


@dataclass(frozen=True, eq=False)
class Federation(Parties):
    """Who takes part in a run, on what conditions, and how long devices are waited for.

    Attributes:
        second: set, if this is the second of two servers.
        patience: seconds that a stage stays open for those who have not spoken.
        linger: seconds for which the released model is handed out before the server ends.
    """

    second: Second | None = None
    patience: float = 30.0
    linger: float = 10.0

    @property
    def honest(self) -> int:
        """Fewest vectors in a sum whose noise is counted on: none where two servers add it."""
        return 0 if self.second else super().honest

    def apart(self, asked: Asked, plan: Plan, said: bytes, second: Second) -> SharedTerms:
        """Return terms of a new session of two servers, of what was ``said``."""
        sizes = bits_for(plan, asked.people), self.dims(asked)
        return SharedTerms(*self._about(said), second.first, public_bytes(second.key), *sizes, self.survivors)

    def noised(self, plan: Plan) -> Plan:
        """Return a plan whose noise is where this federation has it."""
        return replace(plan, noise="two-servers") if self.second else super().noised(plan)


class Gathered:
    """Adds up what devices send: what ``train`` is given as ``add``.

    Args:
        federation: who takes part.
        rounds: what devices talk to.
        loop: on which they live.
    """

    def __init__(self, federation: Federation, rounds: Rounds, loop: asyncio.AbstractEventLoop) -> None:
        self._federation, self._rounds, self._loop = federation, rounds, loop

    @property
    def honest(self) -> int:
        """Fewest honest devices in a sum."""
        return self._federation.honest

    def __call__(self, asked: Asked, plan: Plan, number: int, noise: Noise) -> Vector | Kept:
        """Return the sum of a round. Raises what ``Rounds`` does."""
        session = self._session(asked, plan, number, noise)
        total: Vector | Kept = asyncio.run_coroutine_threadsafe(session, self._loop).result()
        return total

    def _session(self, asked: Asked, plan: Plan, number: int, noise: Noise) -> Coroutine[Any, Any, Vector | Kept]:
        federation = self._federation
        said, second = federation.broadcast(asked, plan, number), federation.second
        if second:
            return self._rounds.apart(number, federation.apart(asked, plan, said, second), said, second, noise)
        return self._rounds.secure(number, federation.terms(asked, plan, said), said)


def coordinate(
    federation: Federation,
    *,
    epsilon: float,
    ledger: Ledger,
    release: str,
    folder: Path,
    out: Path,
    address: Address,
    kind: Kind = "auto",
    progress: Progress | None = None,
) -> Trained:
    """Train with devices, and publish the model once.

    Args:
        federation: who takes part.
        epsilon: of the run, in nats, at the budget's delta.
        ledger: where the coordinator bills the run. The budget must be open.
        release: id of the run; the same again goes on where it stood.
        folder: of the run, for what devices said.
        out: where to publish the model file.
        address: where devices find this.
        kind: of model.
        progress: told the rounds done and planned.

    Raises:
        SettingError: an argument is out of range; nothing was charged.
        AccountMissing, BudgetExceeded, ReleaseConflict, LedgerError: by the ledger; nothing was charged.
        TooFewLeft: too many devices were lost; nothing was released, what was charged stays charged.
    """

    def learn(model: Model, plan: Plan, spend: Spend) -> Trained:
        def work(add: Gathered) -> Trained:
            return train(model, federation.devices, plan, spend=spend, add=add, progress=progress)

        return asyncio.run(_serving(federation, spool, address.serving, listening, work, federation.released))

    with closing(address.bound()) as listening, closing(Spool(folder / "spool.db")) as spool:
        bill = Bill(ledger, release, spool, out)
        return billed(federation, bill, epsilon=epsilon, kind=kind, learn=learn)


def ask(
    federation: Federation,
    question: Model,
    state: State,
    *,
    epsilon: float,
    ledger: Ledger,
    release: str,
    folder: Path,
    out: Path,
    address: Address,
) -> dict[str, Any]:
    """Ask devices a question, and publish the answer once (JSON): counts, noise, guarantee.

    Args:
        federation: who takes part.
        question: of ``models.queries``.
        state: what it needs: for a measure, a released model's.
        epsilon: of the answer, in nats, at the budget's delta.
        ledger: where it is billed. The budget must be open.
        release: id; the same again goes on where it stood.
        folder: of the run.
        out: where to publish.
        address: where devices find this.

    Raises:
        As ``coordinate``.
    """
    delta = delta_of(federation, ledger)
    plan = federation.noised(Plan.sharing(cap(epsilon, delta), (1.0,), delta=delta))
    people = len(federation.roster)

    def make(spend: Spend) -> bytes:
        def work(add: Gathered) -> Disclosed:
            asked = Asked(Work(question, state, plan.bounds[0]), people)
            return disclose(asked, plan, 0, spend=spend, add=add)

        released = asyncio.run(_serving(federation, spool, address.serving, listening, work, lambda _: None))
        guarantee = Guarantee.of(plan, secure=released.secure, catalogue_declared=True)
        answer = {"question": question.name, "settings": asdict(question), "counts": released.values.tolist()}
        about = {"noise": released.sigma, "people": people, "dataset": federation.dataset, "release": release}
        return rfc8785.dumps(answer | about | {"guarantee": guarantee.to_dict()})

    with closing(address.bound()) as listening, closing(Spool(folder / "spool.db")) as spool:
        return document(released_once(federation, question, plan, Bill(ledger, release, spool, out), make))


async def _serving(
    federation: Federation,
    spool: Spool,
    server_of: Callable[[FastAPI], uvicorn.Server],
    listening: socket.socket,
    work: Callable[[Gathered], Result],
    told: Callable[[Result], bytes | None],
) -> Result:
    """Let devices in while work is done in a thread; then tell them what came out, for a while."""
    rounds = Rounds(federation.roster, spool, federation.patience)
    server = server_of(coordinator(rounds, federation.items))
    serving = asyncio.create_task(server.serve(sockets=[listening]))
    try:
        done = await asyncio.to_thread(work, Gathered(federation, rounds, asyncio.get_running_loop()))
        rounds.finish(told(done))
        await asyncio.sleep(federation.linger)
        return done
    except DiscreetError:
        rounds.finish(None)
        await asyncio.sleep(min(federation.linger, 1.0))  # so that devices hear it
        raise
    finally:
        server.should_exit = True
        await serving
