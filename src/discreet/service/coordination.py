"""A federated run from a budget to a published model: the same ``train``, with devices as its people.

The price is charged to the coordinator's ledger as any other release is, before anybody is asked; each device keeps its
own book besides. A run that was ended by whatever it was goes on under its release id, in its folder, at no further
charge: sums that were known stay what they were.
"""

from __future__ import annotations

import asyncio
import hashlib
import ipaddress
import json
import os
import socket
import ssl
from collections.abc import Callable, Coroutine, Iterator
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import rfc8785
import uvicorn
from fastapi import FastAPI
from numpy.typing import NDArray

from discreet.data.interactions import Catalogue, rows_of
from discreet.documents import document, fingerprint
from discreet.errors import DiscreetError, SettingError
from discreet.governance.ledger import Account, Ledger
from discreet.models.base import Model, State
from discreet.models.broadcast import Broadcast, bits_for
from discreet.models.queries import RANKERS
from discreet.models.recipe import Kind, recipe
from discreet.models.trained import Trained
from discreet.privacy.accounting import cap
from discreet.privacy.disclosure import Disclosed, Spend, disclose
from discreet.privacy.guarantee import Guarantee
from discreet.privacy.plan import Plan
from discreet.protocols.keys import Roster, public_bytes, roster_digest
from discreet.protocols.secagg.terms import Terms, advised
from discreet.protocols.sharing import SharedTerms
from discreet.service.federated import coordinator
from discreet.service.halves import Second
from discreet.service.rounds import Noise, Rounds, Vector
from discreet.service.spool import Spool
from discreet.training.aggregation import SHARD
from discreet.training.billing import (
    agreed_delta,
    check_free,
    checked_target,
    is_published,
    published,
    published_before,
)
from discreet.training.populations import Asked, Devices, Work
from discreet.training.rounds import Progress, train

PURPOSE = "train-recommender"

Result = TypeVar("Result")


class _Server(uvicorn.Server):
    """A server that leaves signals to whoever started it."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Capture none."""
        yield


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

    def bound(self) -> socket.socket:
        """Take the address, before anything is charged or asked.

        Raises:
            SettingError: it is in use or not of this machine, or the certificate cannot be used.
        """
        try:
            if self.certificate and self.key:
                ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(self.certificate, self.key)
        except (OSError, ssl.SSLError) as error:
            raise SettingError(f"the certificate or its key cannot be used ({type(error).__name__})") from None
        try:
            family = socket.AF_INET6 if ":" in self.host else socket.AF_INET
            return socket.create_server((self.host, self.port), family=family)
        except OSError as error:
            raise SettingError(f"cannot listen on {self.host}, port {self.port}: {error.strerror}") from None

    def serving(self, app: FastAPI) -> uvicorn.Server:
        """Return a server of an application; ``serve`` runs it on the socket that was bound."""
        files = {"ssl_certfile": str(self.certificate), "ssl_keyfile": str(self.key)} if self.certificate else {}
        config = uvicorn.Config(
            app,
            log_level="warning",
            access_log=False,
            lifespan="off",
            timeout_graceful_shutdown=2,
            **files,  # type: ignore[arg-type]
        )
        return _Server(config)


@dataclass(frozen=True, eq=False)
class Federation:
    """Who takes part in a run, and on what conditions.

    Attributes:
        roster: signing keys of all devices.
        catalogue: public.
        dataset: name of what they hold, for the ledger.
        lost: share of devices that may be lost in a round.
        colluding: share of the roster whose noise is not counted on.
        second: set, if this is the second of two servers.
        patience: seconds that a stage stays open for those who have not spoken.
        linger: seconds for which the released model is handed out before the server ends.
    """

    roster: Roster
    catalogue: Catalogue
    dataset: str
    lost: float = 0.1
    colluding: float = 0.0
    second: Second | None = None
    patience: float = 30.0
    linger: float = 10.0

    @property
    def items(self) -> bytes:
        """The list of items as devices are sent it."""
        return json.dumps(self.catalogue.ids).encode()

    @property
    def digest(self) -> bytes:
        """SHA-256 of the list of items."""
        return hashlib.sha256(self.items).digest()

    @property
    def survivors(self) -> int:
        """Fewest vectors in a sum."""
        return len(self.roster) - int(self.lost * len(self.roster))

    def planned(self, epsilon: float, delta: float, kind: Kind = "auto") -> tuple[Model, Plan]:
        """Return the model and the plan of a run.

        Raises:
            SettingError: devices do not compute such a model's sums; or they are too few, or too many for one session.
        """
        model, plan = recipe(len(self.roster), len(self.catalogue), cap(epsilon, delta), delta=delta, kind=kind)
        if model.name not in RANKERS:
            raise SettingError(
                f"devices compute sums of {', '.join(RANKERS)}, not of {model.name}; choose one of these"
            )
        return model, self.sharing(plan)

    def sharing(self, plan: Plan) -> Plan:
        """Return a plan whose noise is where this federation has it.

        Raises:
            SettingError: devices are too few, or too many for one session.
        """
        if self.second:
            return replace(plan, noise="two-servers")
        if len(self.roster) > SHARD:
            raise SettingError(f"one session has at most {SHARD} devices; with more, let two servers add up")
        *_, survivors = advised(len(self.roster), lost=self.lost)
        honest = survivors - int(self.colluding * len(self.roster))
        return replace(plan, noise="shares", parties=len(self.roster), honest=honest)


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
        if self._federation.second:
            return 0
        return self._federation.survivors - int(self._federation.colluding * len(self._federation.roster))

    def __call__(self, asked: Asked, plan: Plan, number: int, noise: Noise) -> Vector:
        """Return the sum of a round. Raises what ``Rounds`` does."""
        work = asked.work
        said = Broadcast.of(work.model, plan, number, asked.people, self._federation.digest, work.state).to_bytes()
        session = self._session(asked, plan, number, said, noise)
        total: Vector = asyncio.run_coroutine_threadsafe(session, self._loop).result()
        return total

    def _session(
        self, asked: Asked, plan: Plan, number: int, said: bytes, noise: Noise
    ) -> Coroutine[Any, Any, NDArray[np.int64]]:
        federation, work = self._federation, asked.work
        nobody = rows_of(np.zeros(0, np.int64), np.zeros(0, np.int32), len(federation.catalogue))
        dims = work.model.summed(nobody, work.state, work.bound).total.size
        about = (os.urandom(32), hashlib.sha256(said).digest(), roster_digest(federation.roster))
        bits = bits_for(plan, asked.people)
        if federation.second:
            keys = (federation.second.first, public_bytes(federation.second.key))
            apart = SharedTerms(*about, *keys, bits, dims, federation.survivors)
            return self._rounds.apart(number, apart, said, federation.second, noise)
        terms = Terms(*about, bits, dims, *advised(len(federation.roster), lost=federation.lost))
        return self._rounds.secure(number, terms, said)


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
    account = Account(federation.dataset, PURPOSE)
    model, plan = federation.planned(epsilon, agreed_delta(ledger, account, None, len(federation.roster)), kind)
    devices = Devices(federation.catalogue, len(federation.roster), federation.dataset, PURPOSE)

    def make(spend: Spend) -> bytes:
        def work(add: Gathered) -> Trained:
            return train(model, devices, plan, spend=spend, add=add, progress=progress)

        def told(trained: Trained) -> bytes:
            return Broadcast.of(model, plan, plan.rounds, len(devices), federation.digest, trained.state).to_bytes()

        trained = asyncio.run(_serving(federation, spool, address.serving, listening, work, told))
        return trained.billed_as(release).to_bytes()

    with closing(address.bound()) as listening, closing(Spool(folder / "spool.db")) as spool:
        return Trained.from_bytes(_released(ledger, account, model, plan, release, out, make))


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
    account = Account(federation.dataset, PURPOSE)
    delta = agreed_delta(ledger, account, None, len(federation.roster))
    plan = federation.sharing(Plan.sharing(cap(epsilon, delta), (1.0,), delta=delta))
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
        return document(_released(ledger, account, question, plan, release, out, make))


def _released(
    ledger: Ledger,
    account: Account,
    model: Model,
    plan: Plan,
    release: str,
    out: Path,
    make: Callable[[Spend], bytes],
) -> bytes:
    """Charge a release, make it and publish it; or return what was published before."""
    target = checked_target(out)
    if not is_published(ledger, release):
        check_free(target)
    spec = fingerprint({"model": model.name, "settings": asdict(model), "plan": plan.to_dict()})
    reservation = ledger.reserve(account, cost=plan.cost, release=release, spec=spec)
    if reservation.state == "committed":
        return published_before(ledger, reservation, out).read_bytes()
    content = make(reservation.draw)
    path = published(ledger, reservation, content, out)
    return path.read_bytes() if path else content


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


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
