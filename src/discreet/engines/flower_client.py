"""What a SuperNode runs for each message: it hands the message to this node's device, and its answer back.

It knows the path of a socket (``--node-config 'socket="..."'``), and nothing of a history, a key or a session.
"""

from __future__ import annotations

from pathlib import Path

from flwr.app import ConfigRecord, Context, Message, RecordDict
from flwr.clientapp import ClientApp

from discreet.client.answering import Told, ask
from discreet.engines.flower import MESSAGE, RECORD, check_quiet
from discreet.errors import SettingError
from discreet.models.broadcast import MOST

PATIENCE = 600.0
"""Seconds for a device to answer: a stage is ended by the server, this only ends what it forgot."""

app = ClientApp()


@app.query(MESSAGE.partition(".")[2])  # type: ignore[untyped-decorator]
def carry(message: Message, context: Context) -> Message:
    """Return a device's answer.

    Raises:
        SettingError: Flower would report to its makers, or this node was not told where its device is.
        EngineLost: no device answers.
        ProtocolError: what came is no message of ours.
    """
    check_quiet()
    path = context.node_config.get("socket")
    if not isinstance(path, str):
        raise SettingError("this node does not know its device: start its SuperNode with --node-config 'socket=...'")
    told = Told.from_bytes(message.content[RECORD]["told"], MOST)
    said = ask(Path(path), told, PATIENCE)
    return Message(RecordDict({RECORD: ConfigRecord({"seat": said.seat, "said": said.content})}), reply_to=message)
