"""A federated run from a budget to a published model: the same ``train``, with devices as its people.

The price is charged to the coordinator's ledger as any other release is, before anybody is asked; each device keeps its
own book besides. A run that was ended by whatever it was goes on under its release id, in its folder, at no further
charge: sums that were known stay what they were.
"""

from __future__ import annotations

import asyncio
import ipaddress
from collections.abc import Coroutine
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import uvicorn
from fastapi import FastAPI

from discreet.errors import SettingError
from discreet.governance.ledger import Ledger
from discreet.models.base import Model
from discreet.models.broadcast import bits_for
from discreet.models.recipe import Kind
from discreet.models.trained import Trained
from discreet.privacy.disclosure import Spend
from discreet.privacy.plan import Plan
from discreet.protocols.keys import public_bytes
from discreet.protocols.sharing import SharedTerms
from discreet.service.federated import coordinator
from discreet.service.halves import Second
from discreet.service.rounds import Noise, Rounds, Vector
from discreet.training.federation import Federation as Parties
from discreet.training.federation import billed
from discreet.training.populations import Asked
from discreet.training.rounds import Progress, train
from discreet.training.spool import Spool


@dataclass(frozen=True)
class Address:
    """Where a server listens.

    Attributes:
        host: of this machine.
        port: of it.
        certificate: PEM, with its chain.
        key: PEM.

    Raises:
        SettingError: it would be reached from elsewhere without TLS.
    """

    host: str = "127.0.0.1"
    port: int = 8443
    certificate: Path | None = None
    key: Path | None = None

    def __post_init__(self) -> None:
        if (self.certificate is None) != (self.key is None):
            raise SettingError("a certificate and its key go together")
        if self.certificate is None and not _is_loopback(self.host):
            raise SettingError(f"without TLS nothing listens on {self.host}; give a certificate and its key")

    def serving(self, app: FastAPI) -> uvicorn.Server:
        """Return a server of an application; ``serve`` runs it."""
        files = {"ssl_certfile": str(self.certificate), "ssl_keyfile": str(self.key)} if self.certificate else {}
        config = uvicorn.Config(
            app,
            self.host,
            self.port,
            log_level="warning",
            access_log=False,
            timeout_graceful_shutdown=2,
            **files,  # type: ignore[arg-type]
        )
        return uvicorn.Server(config)


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

    def _noised(self, plan: Plan) -> Plan:
        return replace(plan, noise="two-servers") if self.second else super()._noised(plan)


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

    def __call__(self, asked: Asked, plan: Plan, number: int, noise: Noise) -> Vector:
        """Return the sum of a round. Raises what ``Rounds`` does."""
        session = self._session(asked, plan, number, noise)
        total: Vector = asyncio.run_coroutine_threadsafe(session, self._loop).result()
        return total

    def _session(self, asked: Asked, plan: Plan, number: int, noise: Noise) -> Coroutine[Any, Any, Vector]:
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
        return asyncio.run(_run(federation, model, plan, spend, folder, address, progress))

    return billed(federation, epsilon=epsilon, ledger=ledger, release=release, out=out, kind=kind, learn=learn)


async def _run(
    federation: Federation,
    model: Model,
    plan: Plan,
    spend: Spend,
    folder: Path,
    address: Address,
    progress: Progress | None,
) -> Trained:
    spool = Spool(folder / "spool.db")
    rounds = Rounds(federation.roster, spool, federation.patience)
    server = address.serving(coordinator(rounds, federation.items))
    serving = asyncio.create_task(server.serve())
    gathered = Gathered(federation, rounds, asyncio.get_running_loop())
    result = None
    try:
        trained = await asyncio.to_thread(
            train, model, federation.devices, plan, spend=spend, add=gathered, progress=progress
        )
        result = federation.released(trained)
        return trained
    finally:
        rounds.finish(result)
        await asyncio.sleep(federation.linger)
        server.should_exit = True
        await serving
        spool.close()


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
