"""What a SuperLink runs for a whole training run: it coordinates, as ``discreet federated coordinate`` does."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any, cast

from flwr.app import ConfigRecord, Context, Message, RecordDict
from flwr.serverapp import Grid, ServerApp

from discreet.client.answering import Told
from discreet.client.enrolment import read_lines, read_roster
from discreet.data.catalogue import Catalogue
from discreet.engines.flower import MESSAGE, RECORD, Gathered, check_quiet
from discreet.governance.ledger import Ledger
from discreet.models.base import Model
from discreet.models.recipe import Kind
from discreet.models.trained import Trained
from discreet.privacy.disclosure import Spend
from discreet.privacy.plan import Plan
from discreet.protocols.secagg.terms import Stage
from discreet.training.federation import Bill, Federation, billed
from discreet.training.rounds import train
from discreet.training.spool import Spool

app = ServerApp()


@app.main()  # type: ignore[untyped-decorator]
def main(grid: Grid, context: Context) -> None:
    """Train with the devices behind a SuperLink's nodes, publish the model, and send it to them.

    Raises:
        SettingError: Flower would report to its makers, or a setting is out of range; nothing was charged.
        DiscreetError: what ``billed`` and ``Gathered`` raise.
    """
    check_quiet()
    asked: Mapping[str, Any] = context.run_config
    items = Catalogue(tuple(sorted(read_lines(Path(asked["items"])))))
    sizes = {"lost": asked["lost"], "colluding": asked["colluding"]}
    federation = Federation(read_roster(Path(asked["roster"])), items, asked["dataset"], **sizes)
    folder = Path(asked["folder"])
    folder.mkdir(parents=True, exist_ok=True)
    exchange = OverGrid(grid, asked["patience"]).exchange
    with closing(Spool(folder / "spool.db")) as spool, Ledger(asked["ledger"]) as book:
        gathered = Gathered(federation, spool, grid.get_node_ids, exchange)

        def learn(model: Model, plan: Plan, spend: Spend) -> Trained:
            return train(model, federation.devices, plan, spend=spend, add=gathered)

        bill = Bill(book, asked["release"], spool, Path(asked["out"]))
        kind = cast("Kind", asked["model"])
        trained = billed(federation, bill, epsilon=asked["epsilon"], kind=kind, learn=learn)
        gathered.finish(federation.released(trained))


class OverGrid:
    """Messages over Flower's grid.

    Args:
        grid: of this run.
        patience: seconds that a stage stays open for nodes that have not answered.
    """

    def __init__(self, grid: Grid, patience: float) -> None:
        self._grid, self._patience = grid, patience

    def exchange(self, session: bytes, stage: Stage, told: Mapping[int, bytes]) -> dict[int, tuple[int, bytes]]:
        """Tell nodes; return of each that answered in time seat and message. What is no answer is left out."""
        messages = [
            Message(
                RecordDict({RECORD: ConfigRecord({"told": Told(session, stage, content).to_bytes()})}),
                dst_node_id=node,
                message_type=MESSAGE,
                group_id=stage.name,
            )
            for node, content in told.items()
        ]
        heard: dict[int, tuple[int, bytes]] = {}
        for reply in self._grid.send_and_receive(messages, timeout=self._patience):
            record = reply.content.get(RECORD, {}) if reply.has_content() else {}
            seat, said = record.get("seat"), record.get("said")
            if isinstance(seat, int) and isinstance(said, bytes) and reply.metadata.src_node_id in told:
                heard[reply.metadata.src_node_id] = seat, said
        return heard
