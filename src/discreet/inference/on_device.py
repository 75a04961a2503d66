"""The server sees that someone asked, and which model they already have. The list is made on the device.

A released model is public, so a device may have all of it. It asks with the version that it holds (or none), gets a
newer one if there is one, and scores its own history. Matrices travel as int8 with one scale an item.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from discreet.errors import ArtefactError
from discreet.inference.base import History
from discreet.models.base import State
from discreet.models.slate import Slate
from discreet.models.trained import Trained

SCALE = ".scale"


@dataclass(frozen=True)
class Request:
    """All that leaves the device.

    Attributes:
        version: of the model that the device holds, or None.
    """

    version: str | None


@dataclass(frozen=True)
class Reply:
    """What the server sends.

    Attributes:
        version: of the current model.
        model: its compact form, or None if the device has it.
    """

    version: str
    model: bytes | None = field(repr=False)


class Server:
    """The answering side: the same for everybody, so it can be a file on any web server.

    Args:
        trained: the released model.
    """

    def __init__(self, trained: Trained) -> None:
        self._model = compact(trained)
        self.version = hashlib.sha256(self._model).hexdigest()

    def answer(self, request: Request) -> Reply:
        """Send the current model unless the device has it."""
        return Reply(self.version, None if request.version == self.version else self._model)


class Device:
    """The person's side. Keeps the model; the history stays in the call.

    Args:
        n: length of the list.
    """

    def __init__(self, n: int = 10) -> None:
        self.n = n
        self._version: str | None = None
        self._trained: Trained | None = None

    def ask(self, history: History) -> tuple[Request, History]:
        """Send the version of the model that is held; keep the history."""
        return Request(self._version), history

    def read(self, reply: Reply, kept: History) -> Slate:
        """Take the model, if one came, and make the list.

        Raises:
            ArtefactError: the model is not the version that was announced, or none came and none is held; a model
                that was held before still is.
        """
        if reply.model is not None:
            if hashlib.sha256(reply.model).hexdigest() != reply.version:
                raise ArtefactError("the model that came is not the version that was announced; ask again")
            self._trained, self._version = expanded(reply.model), reply.version
        if self._trained is None or self._version != reply.version:
            raise ArtefactError("the server sent no model and this device holds another; ask again without a version")
        return self._trained.recommend(kept, self.n)


class OnDevice:
    """Both sides in one process.

    Args:
        trained: the released model.
        n: length of the list.
    """

    def __init__(self, trained: Trained, n: int = 10) -> None:
        self.server, self.device = Server(trained), Device(n)

    def ask(self, history: History) -> tuple[Request, History]:
        """See ``Device.ask``."""
        return self.device.ask(history)

    def answer(self, request: Request) -> Reply:
        """See ``Server.answer``."""
        return self.server.answer(request)

    def read(self, reply: Reply, kept: History) -> Slate:
        """See ``Device.read``."""
        return self.device.read(reply, kept)


def compact(trained: Trained) -> bytes:
    """Return the model file with its matrices as int8."""
    small: State = {}
    for name, array in trained.state.items():
        if array.dtype.kind == "f" and array.ndim == 2:
            small[name], small[name + SCALE] = quantised(array)
        else:
            small[name] = array.astype(np.float32) if array.dtype.kind == "f" else array
    return replace(trained, state=small).to_bytes()


def expanded(content: bytes) -> Trained:
    """Return a model that can recommend, from its compact form.

    Raises:
        ArtefactError: if it is damaged, or something else.
    """
    trained = Trained.from_bytes(content)
    state = {name: array for name, array in trained.state.items() if not name.endswith(SCALE)}
    for name in trained.state.keys() - state.keys():
        matrix = name.removesuffix(SCALE)
        state[matrix] = state[matrix].astype(np.float32) * trained.state[name][:, None]
    return replace(trained, state=state)


def quantised(matrix: NDArray[np.floating]) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """Return int8 [rows, columns] and one float32 scale a row, whose product is near ``matrix``."""
    scale = np.maximum(np.abs(matrix).max(axis=1, initial=0.0), 1e-30) / 127.0
    return np.rint(matrix / scale[:, None]).astype(np.int8), scale.astype(np.float32)
