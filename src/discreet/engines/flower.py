"""Training on Flower: for organisations that run a SuperLink and SuperNodes already.

The SuperLink starts :mod:`discreet.engines.flower_server`, each SuperNode :mod:`discreet.engines.flower_client`, both
installed there with this package: what Flower ships names them and holds no code of its own, ``python -m
discreet.engines.flower FOLDER`` writes it. Flower moves bytes; the protocol is ours (``protocols/secagg``), and
Flower's secure aggregation is not used. On a node the device itself is yet another process, ``python -m discreet.client
answer``, which no Flower process starts: Flower runs each message in a process of its own, so what a session keeps
secret between its messages would otherwise be in Flower's hands.

Flower reports to its makers unless it is told not to; nothing here starts before it is.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from discreet.errors import DiscreetError, ProtocolError, SettingError
from discreet.files import write_bytes
from discreet.models.broadcast import Announcement
from discreet.privacy.plan import Plan
from discreet.protocols.secagg.server import Server
from discreet.protocols.secagg.terms import Stage, Terms
from discreet.training.federation import Federation
from discreet.training.populations import Asked
from discreet.training.spool import Spool

QUIET = {"FLWR_TELEMETRY_ENABLED": "0", "FLWR_DISABLE_UPDATE_CHECK": "1"}
"""Without which Flower's processes report to its makers."""

MESSAGE = "query.discreet"
"""Type of every message."""

RECORD = "discreet"
"""Name of the record that a message holds: ``told``, or in a reply ``seat`` and ``said``."""

Exchange = Callable[[bytes, Stage, Mapping[int, bytes]], Mapping[int, tuple[int, bytes]]]
"""Takes session, stage and what each node is told; returns of each node that answered in time seat and message."""

APP = """[project]
name = "discreet-federated"
version = "1.0.0"
description = "Names what discreet runs on a SuperLink and on its SuperNodes; both have it installed."
license = "Apache-2.0"
dependencies = []

[tool.flwr.app]
publisher = "discreet"

[tool.flwr.app.components]
serverapp = "discreet.engines.flower_server:app"
clientapp = "discreet.engines.flower_client:app"

[tool.flwr.app.config]
roster = ""
items = ""
dataset = ""
ledger = ""
epsilon = 1.0
out = ""
folder = ""
release = ""
model = "auto"
lost = 0.1
colluding = 0.1
patience = 60.0
"""
"""What Flower calls an app: two names, and the settings of a run, as ``discreet federated coordinate`` has them."""


class Gathered:
    """Adds up what devices behind SuperNodes say: what ``train`` is given as ``add``.

    A sum that was known stays what it was, whatever ended the run: it is kept before anything comes of it. A session
    that was cut off is not gone on with, as devices do not take part in one twice; nothing came of it.

    Args:
        federation: who takes part.
        spool: of this run.
        nodes: returns the nodes that are there.
        exchange: moves messages.
    """

    def __init__(
        self, federation: Federation, spool: Spool, nodes: Callable[[], Iterable[int]], exchange: Exchange
    ) -> None:
        self._federation, self._spool = federation, spool
        self._nodes, self._exchange = nodes, exchange

    @property
    def honest(self) -> int:
        """Fewest honest devices in a sum."""
        return self._federation.honest

    def __call__(self, asked: Asked, plan: Plan, number: int, noise: object) -> NDArray[np.int64]:
        """Return the sum of a round, int64 [dims].

        Raises:
            TooFewLeft: too many were lost; nothing was released.
            LedgerError: the spool fails, or is of another run.
        """
        del noise  # devices add their shares of it
        said = self._federation.broadcast(asked, plan, number)
        terms = self._federation.terms(asked, plan, said)
        total = self._spool.begin(number, terms.to_bytes(), said).total
        if total is None:
            total = self._sum(terms, said)
            self._spool.end(number, total)
        return total

    def finish(self, model: bytes) -> None:
        """Send all nodes the released model."""
        self._exchange(b"", Stage.DONE, dict.fromkeys(self._nodes(), model))

    def _sum(self, terms: Terms, said: bytes) -> NDArray[np.int64]:
        server = Server(self._federation.roster, terms)
        seats = self._seats(server, terms, Announcement(terms.to_bytes(), said).to_bytes())
        while server.stage is not Stage.REVEAL:
            sent = server.close()
            told = {node: sent[seat].to_bytes() for node, seat in seats.items() if seat in sent}
            for node, (_, content) in self._exchange(terms.session, server.stage, told).items():
                with suppress(ProtocolError):  # the session goes on without it
                    server.take(seats[node], content)
        return server.unmask()

    def _seats(self, server: Server, terms: Terms, announced: bytes) -> dict[int, int]:
        """Return each node's seat: one that signed this session's keys from there, so nobody speaks for another."""
        seats: dict[int, int] = {}
        told = dict.fromkeys(self._nodes(), announced)
        for node, (seat, content) in self._exchange(terms.session, Stage.ADVERTISE, told).items():
            with suppress(ProtocolError):
                server.take(seat, content)
                seats[node] = seat
        return seats


def check_quiet() -> None:
    """Refuse to run where Flower would report to its makers.

    Raises:
        SettingError: says what to set.
    """
    loud = [f"{name}={value}" for name, value in QUIET.items() if os.environ.get(name) != value]
    if loud:
        raise SettingError(f"Flower would report to its makers: set {' and '.join(loud)} for all of its processes")


def write_app(folder: Path) -> None:
    """Write what Flower calls an app.

    Raises:
        SettingError: there is one already.
        FileNotWritten: it cannot be written.
    """
    target = folder / "pyproject.toml"
    if target.exists():
        raise SettingError(f"{target} is there already; name another folder")
    folder.mkdir(parents=True, exist_ok=True)
    write_bytes(target, APP.encode())


def main(arguments: list[str] | None = None) -> int:
    """Write the app into a folder; return the exit code."""
    parser = argparse.ArgumentParser(
        "python -m discreet.engines.flower", description="Writes what `flwr run` is given."
    )
    parser.add_argument("folder", type=Path, help="for the app; made if it is not there")
    try:
        write_app(parser.parse_args(arguments).folder)
    except DiscreetError as error:
        print(f"discreet: {error}", file=sys.stderr)  # noqa: T201 - a program speaks
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
