"""Training as a job: now, or when the calendar says so. A job that was cut off is begun again when the service is.

A job's name is the id of its release, so that to begin again costs nothing further, and what is published is published
once. People are read when it begins: who withdrew or was erased before that is not in it. Releases come by the
calendar, never because somebody came or went: whoever compares two of them cannot tell why.

==========  ===================================  ============================================
state       what it means                        what comes next
==========  ===================================  ============================================
scheduled   it begins when it is due             running
running     it trains; after a restart, again    done, or failed
done        its model is served                  the next one, if there is a calendar
failed      it says why; nothing was published   the next one, if there is a calendar
==========  ===================================  ============================================
"""

from __future__ import annotations

import logging
import threading
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from discreet.data.records import Records
from discreet.errors import DiscreetError, SettingError
from discreet.governance.checks import now, sha256
from discreet.governance.consent import later
from discreet.governance.duties import RETENTION
from discreet.governance.matters import Matter
from discreet.models.recipe import Kind
from discreet.privacy.accounting import check_epsilon
from discreet.training.fitting import fit

KIND = "job"
SCHEDULED, RUNNING, DONE, FAILED = "scheduled", "running", "done", "failed"
ERASURE, PENDING, COMPLETED = "erasure", "pending", "completed"
LOOK = 0.2
"""Seconds between two looks at what is due."""
EACH = 5
"""Looks between two at which the witness sees what was written."""


@dataclass(frozen=True, kw_only=True)
class Calendar:
    """When models are trained.

    Attributes:
        every_days: days between two releases; None: when somebody starts a job.
        epsilon: of each release, at ``light``, in nats.
        kind: of model.
        purpose: that pays, and that people have to permit.
    """

    every_days: int | None = None
    epsilon: float = 1.0
    kind: Kind = "auto"
    purpose: str = "train-recommender"

    def __post_init__(self) -> None:
        check_epsilon(self.epsilon)
        if self.every_days is not None and not 1 <= self.every_days <= 366:
            raise SettingError("a model is released every 1 to 366 days")


class Jobs:
    """The thread that trains.

    Args:
        open_records: opens them, in the thread.
        models: folder for models.
        calendar: of releases.
        published: takes another model: what is done is served.
    """

    def __init__(
        self, open_records: Callable[[], Records], models: Path, calendar: Calendar, published: Callable[[Path], None]
    ) -> None:
        self._open, self._models, self._calendar, self._published = open_records, models, calendar, published
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._work, name="jobs", daemon=True)

    def start(self) -> None:
        """Begin to look for what is due."""
        self._thread.start()

    def close(self) -> None:
        """Look no more. Training that is running is left: it begins again at the next start."""
        self._stop.set()
        self._thread.join(timeout=1.0)

    def _work(self) -> None:
        with self._open() as records:
            turn, seen = 0, None
            records.duties.begin(records.inventory.controller.officer[:100])
            while not self._stop.is_set():
                try:
                    self._look(records)
                except DiscreetError as error:
                    logging.getLogger("discreet").warning("jobs: %s", error)
                self._stop.wait(LOOK)
                turn += 1
                if turn % EACH == 0 and (head := records.journal.head()) != seen:
                    records.keep()
                    seen = head
            records.keep()

    def _look(self, records: Records) -> None:
        scheduled = [job for job in records.matters.all(KIND) if job.state == SCHEDULED]
        if not scheduled and self._calendar.every_days is not None:
            schedule(records, self._calendar, later(now(), self._calendar.every_days), by="discreet")
        if any(duty.name == RETENTION for duty in records.duties.late()):
            people = max(records.vault.retain(), default=0)
            records.duties.done(RETENTION, by="discreet", found=f"{people} people looked through")
        interrupted = [job for job in records.matters.all(KIND) if job.state == RUNNING]
        for job in interrupted or records.matters.due(KIND, SCHEDULED)[:1]:
            self._train(records, job)

    def _train(self, records: Records, job: Matter) -> None:
        if job.state == SCHEDULED:
            job = records.matters.move(KIND, job.name, [SCHEDULED], RUNNING, by="discreet", body={"began": now()})
        path = self._models / f"{job.name}.npz"
        try:
            if not path.exists():
                self._fit(records, job, path)
            self._published(path)
            told = {"ended": now(), "sha256": sha256(path.read_bytes())}
            records.matters.move(KIND, job.name, [RUNNING], DONE, by="discreet", body=told)
            _complete(records, job)
        except DiscreetError as error:
            said = {"ended": now(), "why": str(error)}
            records.matters.move(KIND, job.name, [RUNNING], FAILED, by="discreet", body=said)

    def _fit(self, records: Records, job: Matter, path: Path) -> None:
        purpose = str(job.body["purpose"])
        histories, levels = records.vault.opened_for(purpose)
        with records.book() as book:
            fit(
                histories,
                epsilon=float(job.body["epsilon"]),
                ledger=book,
                kind=job.body["model"],
                purpose=purpose,
                levels=levels,
                release=job.name,
                out=path,
            )


def _complete(records: Records, job: Matter) -> None:
    """Note of each erasure that was before the people of a job were read: nothing released now was learnt from them."""
    for each in records.matters.all(ERASURE):
        if each.state == PENDING and str(each.body["at"]) <= str(job.body["began"]):
            records.matters.move(ERASURE, each.name, [PENDING], COMPLETED, by="discreet", body={"release": job.name})


def schedule(records: Records, calendar: Calendar, due: str, *, by: str) -> Matter:
    """Have a model trained when a time has come. Raises PurposeNotAllowed if the inventory does not allow for it."""
    records.inventory.read_for(calendar.purpose)
    body: dict[str, Any] = {"epsilon": calendar.epsilon, "model": calendar.kind, "purpose": calendar.purpose}
    name = f"{records.inventory.name[:100]}-{uuid.uuid4().hex[:12]}"
    return records.matters.open(KIND, SCHEDULED, body, by=by, due=due, name=name)


def next_release(records: Records) -> str | None:
    """Return when the next model is due, or None if none is."""
    return records.matters.next(KIND, SCHEDULED)


def released(records: Records, models: Path) -> Path | None:
    """Return the file of the model that was released last, if one was."""
    done = [job for job in records.matters.all(KIND) if job.state == DONE]
    if not done:
        return None
    newest = max(done, key=lambda job: (str(job.body["ended"]), job.due or ""))
    return models / f"{newest.name}.npz"
