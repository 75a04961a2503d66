"""The server sees that someone asked, and which model they already have. The list is made on the device.

A released model is public, so a device may have all of it (``models/sheet``). It asks with the version that it holds
(or none), gets a newer one if there is one, or what changed, and scores its own history.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Protocol, cast

import numpy as np

from discreet.errors import ArtefactError
from discreet.inference.base import History
from discreet.models.sheet import Sheet, patch, patched, quantised, turned
from discreet.models.slate import Slate

if TYPE_CHECKING:  # a device has neither
    from discreet.models.als import Als
    from discreet.models.base import State
    from discreet.models.trained import Trained


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
        model: it, or a change to the one that the device holds, or None if that is the current one.
    """

    version: str
    model: bytes | None = field(repr=False)


class Server:
    """The answering side: the same for everybody, so it can be files on any web server.

    Args:
        trained: the released model.
        previous: those before it, for whose holders there are changes.
    """

    def __init__(self, trained: Trained, previous: Sequence[Trained] = ()) -> None:
        self.model = sheet_of(trained).to_bytes()
        self.version = version_of(self.model)
        held = [sheet_of(each).to_bytes() for each in previous]
        self.changes = {version_of(each): patch(each, self.model) for each in held if each != self.model}

    def answer(self, request: Request) -> Reply:
        """Send the current model unless the device has it; a change, if that is shorter."""
        if request.version == self.version:
            return Reply(self.version, None)
        return Reply(self.version, self.changes.get(request.version or "") or self.model)


class Device:
    """The person's side. Keeps the model; the history stays in the call.

    Args:
        n: length of the list.
        held: a model that was kept from an earlier time; later the one that is held.
        cohort: that the person is of, where there are lists for each of several.

    Raises:
        ArtefactError: what was kept is damaged.
    """

    def __init__(self, n: int = 10, held: bytes | None = None, cohort: str | None = None) -> None:
        self.n, self.cohort = n, cohort
        self.held, self.version = held, None if held is None else version_of(held)
        self._sheet = None if held is None else Sheet.from_bytes(held)

    def ask(self, history: History) -> tuple[Request, History]:
        """Send the version of the model that is held; keep the history."""
        return Request(self.version), history

    def read(self, reply: Reply, kept: History) -> Slate:
        """Take the model, or the change to the one held, if one came, and make the list.

        Raises:
            ArtefactError: the model is not the version that was announced, or none came and none is held; a model
                that was held before still is.
            SettingError: there is a list for each of several cohorts, and the device's is none of them.
        """
        if reply.model is not None:
            content = reply.model
            if version_of(content) != reply.version and self.held is not None:
                content = patched(self.held, content)
            if version_of(content) != reply.version:
                raise ArtefactError("the model that came is not the version that was announced; ask again")
            self._sheet, self.held, self.version = Sheet.from_bytes(content), content, reply.version
        if self._sheet is None or self.version != reply.version:
            raise ArtefactError("the server sent no model and this device holds another; ask again without a version")
        return self._sheet.recommend(kept, self.n, self.cohort)


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


def sheet_of(trained: Trained) -> Sheet:
    """Return what a device holds of a model: see ``models/sheet``."""
    state, model = trained.state, trained.model
    arrays: State = {"counts": state["counts"].astype(np.float32)}
    if "kept" in state and len(state["kept"]) < len(trained.catalogue):
        arrays["kept"] = state["kept"].astype(np.int32)
    catalogue, promise = replace(trained.catalogue, categories=None, tags=None), trained.guarantee.sentence
    if model.name == "gram":
        arrays["matrix"], arrays["scale"] = quantised(state["weights"])
        return Sheet(catalogue, "weights", promise, arrays)
    if "decoder" in state:
        arrays["matrix"], arrays["scale"] = quantised(state["decoder"])
        derived = turned(state["encoder"], state["decoder"])
        if derived is not None:
            return Sheet(catalogue, "factors", promise, arrays | dict(zip(("ratio", "turn"), derived, strict=True)))
        arrays["source"], arrays["source_scale"] = quantised(state["encoder"])
        return Sheet(catalogue, "coded", promise, arrays)
    if "factors" in state:
        arrays["matrix"], arrays["scale"] = quantised(state["factors"], np.int16)
        unobserved, ridge = cast("Als", model).solving(state)
        arrays |= {"unobserved": np.array([unobserved], np.float64), "ridge": np.array([ridge], np.float64)}
        return Sheet(catalogue, "solved", promise, arrays)
    return Sheet(catalogue, "counts", promise, arrays)


def version_of(content: bytes) -> str:
    """Return the name of a sheet: the SHA-256 of its bytes."""
    return hashlib.sha256(content).hexdigest()
