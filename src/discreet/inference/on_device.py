"""The server sees that someone asked, and which model they already have. The list is made on the device.

A released model is public, so a device may have all of it. It asks with the version that it holds (or none), gets a
newer one if there is one, and scores its own history. Matrices travel as int8 with one scale an item,
factors as two int8: see ``quantised``.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field, replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from discreet.errors import ArtefactError
from discreet.inference.base import History
from discreet.models.base import EVIDENCE, FINE, SCALE, State
from discreet.models.slate import Slate
from discreet.models.trained import Trained

FINER = 254
"""Steps of the finer int8 in one of the coarse: what is left of a coarse step is at most a half, 127 of these."""
NARROW = 256
"""Columns of the widest matrix that travels with a finer int8."""


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


class Answering(Protocol):
    """The server, wherever it is."""

    def answer(self, request: Request) -> Reply:
        """Send the current model unless the device has it."""


class OnDevice:
    """A device, and a server.

    Args:
        device: of the person.
        server: where models come from.
    """

    def __init__(self, device: Device, server: Answering) -> None:
        self.device, self.server = device, server

    @classmethod
    def here(cls, trained: Trained, n: int = 10) -> OnDevice:
        """Return both in one process."""
        return cls(Device(n), Server(trained))

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
    """Return the model file with its matrices as int8, without what lists do not need."""
    small: State = {}
    for name, array in trained.state.items():
        if name.startswith(EVIDENCE):
            continue
        if array.dtype.kind == "f" and array.ndim == 2:
            small |= {name + part: values for part, values in quantised(array).items()}
        else:
            small[name] = array.astype(np.float32) if array.dtype.kind == "f" else array
    return replace(trained, state=small).to_bytes()


def expanded(content: bytes) -> Trained:
    """Return a model that can recommend, from its compact form.

    Raises:
        ArtefactError: if it is damaged, or something else.
    """
    trained = Trained.from_bytes(content)
    state = {name: array for name, array in trained.state.items() if not name.endswith((SCALE, FINE))}
    for name in [name.removesuffix(SCALE) for name in trained.state if name.endswith(SCALE)]:
        matrix, scale = state[name].astype(np.float32), trained.state[name + SCALE]
        if name + FINE in trained.state:
            matrix += trained.state[name + FINE].astype(np.float32) / FINER
        state[name] = matrix * scale[:, None]
    return replace(trained, state=state)


def quantised(matrix: NDArray[np.floating]) -> dict[str, NDArray[np.int8] | NDArray[np.float32]]:
    """Return parts of a matrix [rows, columns]: int8, one float32 scale a row, and of a narrow matrix a finer int8.

    The matrix is near ``(coarse + fine / 254) * scale``. A score is a sum over the columns: over many of them the
    rounding of the first int8 averages out, over the few of a factor it would reorder one item in a hundred.
    """
    scale = np.maximum(np.abs(matrix).max(axis=1, initial=0.0), 1e-30) / 127.0
    steps = matrix / scale[:, None]
    coarse = np.rint(steps)
    parts = {"": coarse.astype(np.int8), SCALE: scale.astype(np.float32)}
    if matrix.shape[1] <= NARROW:
        parts[FINE] = np.rint((steps - coarse) * FINER).astype(np.int8)
    return parts
