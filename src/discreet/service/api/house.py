"""What the service holds while it runs: the desks, the released model, and the calendar of the next."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

from discreet.data.records import Records
from discreet.errors import DiscreetError
from discreet.governance.access import Visitor, nobody
from discreet.governance.inventory import Inventory
from discreet.governance.keys import Wrapping
from discreet.governance.policy import note_two
from discreet.models.card import MAIN_PARAMETERS
from discreet.models.trained import Trained
from discreet.privacy.guarantee import Guarantee
from discreet.service.desk import Desk, Intake, Line
from discreet.service.jobs import Calendar, Jobs, released

MOST_PASSWORDS = 8
"""That may wait to be looked at."""
MOST_KNOWN = 4_096
"""Keys that are remembered for a second."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How the service runs.

    Attributes:
        place: of the database.
        models: folder of the models that were released.
        reports: folder of what audits found.
        wrapping: the master key, or what has it.
        inventory: what is declared.
        witness: file of signed heads of the journal; best on another volume than the database.
        calendar: when models are trained, and for how much.
        per_minute: requests that a key may make.
        grid: seconds; personal lists leave at a multiple of it after they were asked for, so that how long one took
            tells little about whose it is.
    """

    place: str | Path
    models: Path
    reports: Path
    wrapping: Wrapping = field(repr=False)
    inventory: Inventory
    witness: Path | None = None
    calendar: Calendar = field(default_factory=Calendar)
    per_minute: int = 60_000
    grid: float = 0.005

    def records(self) -> Records:
        """Open the records. Raises as ``Records`` does."""
        return Records(self.place, self.wrapping, self.inventory, witness=self.witness)


class House:
    """The service at work.

    Raises:
        LedgerError, SealBroken: the records cannot be opened.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings, self.inventory = settings, settings.inventory
        self.reading, self.writing = Desk(settings.records), Desk(settings.records, writes=True)
        self.intake, self.passwords = Intake(self.writing), Line(MOST_PASSWORDS)
        self.passwords.now(nobody)  # or who signs in first waits longer, if nobody knows them
        self.known = Known(self.reading)
        self._model: Trained | None = None
        with settings.records() as records:
            note_two(records.matters, records.access.deciders())  # or one of them was made at the desk
            try:
                self.take(released(records, settings.models))
            except DiscreetError as error:  # consent, erasure and intake do not wait for a model
                logging.getLogger("discreet").warning("the released model cannot be served: %s", error)
        self.jobs = Jobs(settings.records, settings.models, settings.calendar, self.take, settings.reports)
        self.jobs.start()

    def take(self, path: Path | None) -> None:
        """Make lists with this model from now on, or with none. Raises ArtefactError if it is none."""
        self._model = None if path is None else Trained.load(path)

    @property
    def ready(self) -> bool:
        """Whether there is a model to make lists with."""
        return self._model is not None

    @property
    def promise(self) -> Guarantee | None:
        """What the model promises that is served, if there is one."""
        model = self._model
        return None if model is None else model.guarantee

    @property
    def model(self) -> Trained:
        """The model that was released last.

        Raises:
            Unready: none was yet.
        """
        model = self._model
        if model is None:
            raise Unready("no model was released yet; ask again when one was")
        return model

    def close(self) -> None:
        """Finish what is begun. A job that is running is begun again at the next start, at no further charge."""
        self.jobs.close()
        self.reading.close()
        self.writing.close()
        self.passwords.close()


class Known:
    """Whose keys were looked up within the last second, so that who asks often is not looked up each time.

    A key that is taken away by another process opens for a second more; by this one, not at all (`forget`).
    """

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._found: dict[bytes, tuple[Visitor, float]] = {}

    async def visitor(self, key: str) -> Visitor | None:
        """Return whose key this is, or None."""
        digest, now = sha256(key.encode(errors="replace")).digest(), time.monotonic()
        visitor, until = self._found.get(digest, (None, now))
        if now < until:
            return visitor
        found = await self._desk.do(lambda records: records.access.visitor(key))
        if found is not None:
            if len(self._found) >= MOST_KNOWN:
                self._found.clear()
            self._found[digest] = found, now + 1.0
        return found

    def forget(self) -> None:
        """Look everybody up again: some key was taken away."""
        self._found.clear()


class Unready(DiscreetError):
    """Nothing to make lists with was released yet."""


def told_of(model: Trained) -> dict[str, Any]:
    """Return what is told of a model: everything but its numbers."""
    told = {"release": model.release, "kind": model.model.name, "main_parameters": MAIN_PARAMETERS}
    return told | {"guarantee": model.guarantee.to_dict()}
