"""Training as a job: now, or when the calendar says so. A job that was cut off is begun again when the service is.

A job's name is the id of its release, so that to begin again costs nothing further, and what is published is published
once. People are read when it begins: who withdrew or was erased before that is not in it. Releases come by the
calendar, never because somebody came or went: whoever compares two of them cannot tell why.

==========  ===================================  ============================================
state       what it means                        what comes next
==========  ===================================  ============================================
scheduled   it begins when it is due             running
running     it trains; after a restart, again    done, or failed
done        its model is served                  retired
retired     its model was replaced, or is older than a model may be: its file is deleted
failed      it says why; nothing of it is kept   the next one, if there is a calendar
cancelled   somebody called it off in time       the next one, if there is a calendar
==========  ===================================  ============================================
"""

from __future__ import annotations

import logging
import threading
import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, get_args

from discreet.data.records import Records
from discreet.errors import (
    ArtefactError,
    BudgetExceeded,
    Conflict,
    DiscreetError,
    FileNotWritten,
    LedgerError,
    LedgerFull,
    ReleaseConflict,
    ReleaseWaits,
    SettingError,
)
from discreet.governance.artefacts import sweep
from discreet.governance.checks import now, sha256
from discreet.governance.consent import later
from discreet.governance.duties import RETENTION
from discreet.governance.inventory import LONGEST
from discreet.governance.ledger import Account, Ledger
from discreet.governance.matters import Matter, Once
from discreet.governance.publication import resume
from discreet.models.recipe import Kind
from discreet.privacy.accounting import check_epsilon
from discreet.service.checking import Auditor, verify_when_due
from discreet.service.clock import Clock
from discreet.service.retention import forget
from discreet.service.words import refused
from discreet.training.billing import is_published
from discreet.training.fitting import fit

KIND = "job"
SCHEDULED, RUNNING, DONE, FAILED, CANCELLED = "scheduled", "running", "done", "failed", "cancelled"
RETIRED = "retired"
ERASURE, PENDING, IN_PROGRESS, COMPLETED = "erasure", "pending", "in-progress", "completed"
LOOK = 0.2
"""Seconds between two looks at what is due."""
SCRUBBED = 10.0
"""Seconds between two tries to overwrite what was deleted."""
AFTER_TROUBLE = 2.0
"""Seconds after which what failed is tried again."""
WAIT = 60.0
"""Seconds after which a job that could not write is begun again."""
MOST_DAYS = 366


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
        if self.kind not in get_args(Kind):
            raise SettingError(f"a model is one of {', '.join(get_args(Kind))}")
        if self.every_days is not None and not 1 <= self.every_days <= 366:
            raise SettingError("a model is released every 1 to 366 days")


class Jobs:
    """The thread that trains, and deletes what is no longer to be kept.

    Whatever goes wrong with one of its tasks is told in a line of the log, and is no reason to leave another undone.

    Args:
        open_records: opens them, in the thread.
        models: folder for models.
        calendar: of releases.
        published: takes another model, which is served from then on; or None: none is.
        reports: folder for what audits find.

    Attributes:
        clock: of the machine, watched.
    """

    def __init__(
        self,
        open_records: Callable[[], Records],
        models: Path,
        calendar: Calendar,
        published: Callable[[Path | None], None],
        reports: Path,
    ) -> None:
        self._open, self._models, self._calendar, self._published = open_records, models, calendar, published
        self._reports = reports
        self._stop, self._scrubbed, self._bound = threading.Event(), time.monotonic(), False
        self.clock, self._again = Clock(), 0.0
        self._serving: Path | None = Path()  # what is served here while another trains; none, before that was looked at
        by_the_clock = (self._bind, self._retain, self._plan)
        self._settled: str | None = None  # the release that erasures were last held against
        self._auditor = Auditor(reports, calendar.epsilon)
        self._threads = [
            threading.Thread(target=self._work, args=(tasks, name == "jobs"), name=name, daemon=True)
            for name, tasks in (
                (
                    "jobs",
                    (self._begin, *map(self._steadily, by_the_clock), self._train_due, self._steadily(self._retire)),
                ),
                ("checks", (self._steadily(verify_when_due), self._steadily(self._auditor))),
                ("witness", (Records.keep,)),
            )
        ]

    def start(self) -> None:
        """Begin to look for what is due, and to show the witness what was written."""
        with self._open() as records:
            self.clock.held_against(records.journal)
        for thread in self._threads:
            thread.start()

    @property
    def alive(self) -> bool:
        """Whether all threads are at work."""
        return all(thread.is_alive() for thread in self._threads)

    def close(self) -> None:
        """Look no more. Training that is running is left: it begins again at the next start."""
        self._stop.set()
        for thread in self._threads:
            thread.join(timeout=2.0)
        self._auditor.close()

    def _steadily(self, task: Callable[[Records], None]) -> Callable[[Records], None]:
        """Return what does a task while the clock can be believed."""
        return lambda records: task(records) if self.clock.steady() else None

    def _work(self, tasks: Sequence[Callable[[Records], None]], alone: bool = False) -> None:
        while not self._stop.is_set():
            try:
                with self._open() as records:
                    if alone:
                        self._claim(records)
                    sound = True
                    while sound and not self._stop.is_set():
                        records.keep()  # or nothing is begun: it could not be put on record
                        sound = all([self._done(task, records) for task in tasks])  # noqa: C419 - all are done
                        self._stop.wait(LOOK)
            except DiscreetError as error:  # the database or the witness is away; it is opened again, later
                logging.getLogger("discreet").warning("jobs: %s", error)
            self._stop.wait(AFTER_TROUBLE)

    def _claim(self, records: Records) -> None:
        """Be the one that trains, or two services would train each other's jobs, each in its own folder.

        Raises:
            LedgerError: another does. What it released is served here, if its file is here; and nothing else.
        """
        try:
            records.database.claim()
        except LedgerError:
            self._follow(records)
            raise

    def _follow(self, records: Records) -> None:
        """Serve what another released, if the file is here, and nothing else: another may know who was erased since."""
        try:
            path = released(records, self._models)
        except ArtefactError:  # it is in the folder of the other, or not yet in this one
            path = None
        if path != self._serving:
            self._published(path)
            self._serving = path

    def _done(self, task: Callable[[Records], None], records: Records) -> bool:
        try:
            task(records)
        except Exception as error:  # noqa: BLE001 - nothing unforeseen may end the thread that deletes
            said = str(error) if isinstance(error, DiscreetError) else type(error).__name__
            logging.getLogger("discreet").warning("jobs: %s", said)
            return False
        return True

    def _begin(self, records: Records) -> None:
        records.duties.begin(records.inventory.controller.officer[:100])

    def _bind(self, records: Records) -> None:
        """End consents to other words than those in force, once: words change before a start alone."""
        for _ in () if self._bound else records.consents.ended():
            if self._stop.wait(LOOK) or not self.clock.steady():  # others write meanwhile; the rest is ended later
                return
        self._bound = True

    def _retain(self, records: Records) -> None:
        if time.monotonic() > self._scrubbed + SCRUBBED:  # an erasure could not, if somebody was reading
            records.database.scrub()
            self._scrubbed = time.monotonic()
        if any(duty.name == RETENTION for duty in records.duties.late()):
            people = 0
            for done in records.vault.retain():
                people = done
                if not self.clock.steady():
                    return
            records.access.tidy()
            forgotten = 0
            for few in forget(records, self._reports):
                forgotten += few
                if self._stop.wait(LOOK):  # others write meanwhile; the rest is forgotten after the next start
                    return
            said = f"{people} people looked through; {forgotten} matters and reports that had ended were forgotten"
            records.duties.done(RETENTION, by="discreet", found=said)

    def _plan(self, records: Records) -> None:
        own = [
            job for job in records.matters.all(KIND) if job.state in {SCHEDULED, RUNNING} and job.body.get("calendar")
        ]
        if self._calendar.every_days is not None:
            due = later(now(), self._calendar.every_days)
            far = [job for job in own if job.state == SCHEDULED and str(job.due) > due]
            for job in far:  # by a clock that was wrong, or by another calendar
                call_off(records, job.name, by="discreet")
            if len(far) == len(own):
                schedule(records, self._calendar, due, by="discreet", calendar_own=True)

    def _train_due(self, records: Records) -> None:
        if time.monotonic() < self._again:
            return
        interrupted = [job for job in records.matters.all(KIND) if job.state == RUNNING]
        waiting = [*interrupted, *records.matters.due(KIND, SCHEDULED)]
        own = [job for job in waiting if self.clock.steady() or job.body.get("now")]
        for job in own[: max(1, len(interrupted))]:
            self._train(records, job)

    def _train(self, records: Records, job: Matter) -> None:
        if job.state == SCHEDULED:
            job = records.matters.move(KIND, job.name, [SCHEDULED], RUNNING, by="discreet", body={"began": now()})
        try:
            with records.book() as book:
                if is_published(
                    book, job.name
                ):  # by an attempt that was cut off then: of the people whom that one read
                    resume(book, job.name, self._models, self._file(job).name)
                else:
                    job = _reading(records, job)
                    self._fit(records, book, job)
            self._published(self._file(job))
        except ReleaseConflict:
            self._begin_anew(records, job)
        except (ReleaseWaits, FileNotWritten, LedgerFull, OSError) as error:  # charged once, it waits for room
            self._again = time.monotonic() + WAIT
            why = f"{job.name} waits, and is begun again within {WAIT:.0f} s: {error}"
            raise LedgerError(why) from error
        except BudgetExceeded as error:
            self._fail(records, job, refused(str(error), records.inventory.owners.budgets))
        except Exception as error:  # noqa: BLE001 - a job that cannot be done is not begun again and again
            why = str(error) if isinstance(error, DiscreetError) else f"a defect: {type(error).__name__}"
            self._fail(records, job, why)
        else:
            told = {"ended": now(), "row": records.journal.head().seq, "sha256": sha256(self._file(job).read_bytes())}
            records.matters.move(KIND, job.name, [RUNNING], DONE, by="discreet", body=told)

    def _retire(self, records: Records) -> None:
        """Delete the models that were replaced, and the one that is older than a model may be.

        Then, and not before, those erasures are completed that the one that is left has learnt nothing from.
        """
        done, oldest = _served(records), later(now(), -records.inventory.minimisation.models_days)
        while done and (len(done) > 1 or str(done[0].body["read"]) < oldest):
            old = done.pop(0)
            if not done:
                self._published(None)
            self._discard(old)
            records.matters.move(KIND, old.name, [DONE], RETIRED, by="discreet", body={"retired": now()})
        if done and done[0].name != self._settled:
            _complete(records, done[0].name, done[0].body["read_row"])
            self._settled = done[0].name
        elif not done and not any(job.state == RUNNING for job in records.matters.all(KIND)):
            _complete(records, None, records.journal.head().seq)

    def _fail(self, records: Records, job: Matter, why: str) -> None:
        """Give a job up: what it made is served by nobody, and stays nowhere."""
        self._discard(job)
        records.matters.move(KIND, job.name, [RUNNING], FAILED, by="discreet", body={"ended": now(), "why": why})

    def _discard(self, job: Matter) -> None:
        self._file(job).unlink(missing_ok=True)
        sweep(self._models, job.name)

    def _file(self, job: Matter) -> Path:
        return self._models / f"{job.name}.npz"

    def _fit(self, records: Records, book: Ledger, job: Matter) -> None:
        """Train and publish."""
        purpose = str(job.body["purpose"])
        histories, levels = records.vault.opened_for(purpose)
        fit(
            histories,
            epsilon=float(job.body["epsilon"]),
            ledger=book,
            kind=job.body["model"],
            purpose=purpose,
            levels=levels,
            release=job.name,
            out=self._file(job),
        )

    def _begin_anew(self, records: Records, job: Matter) -> None:
        """Give up a job whose people changed after it was charged: a release is of one group, so another is charged."""
        with records.book() as book:
            book.abandon(job.name)
        self._fail(
            records,
            job,
            "it was cut off, and people came or went meanwhile: it stays charged, and another job is charged anew",
        )
        calendar = Calendar(
            epsilon=float(job.body["epsilon"]), kind=job.body["model"], purpose=str(job.body["purpose"])
        )
        schedule(records, calendar, now(), by="discreet")


def _reading(records: Records, job: Matter) -> Matter:
    """Note that people are read now for a job: whom the journal says before this row are gone are not among them."""
    with records.matters.together():
        told = {"read": now(), "read_row": records.journal.head().seq + 1}  # this step's own
        return records.matters.move(KIND, job.name, [RUNNING], RUNNING, by="discreet", body=told)


def _complete(records: Records, release: str | None, read_at: int) -> None:
    """Note of each erasure that the journal had before the people of a release were read: nothing was learnt of them.

    Args:
        records: to note it in.
        release: that is served; None: there is no model any more.
        read_at: how long the journal was then.
    """
    for each in records.matters.due(ERASURE, PENDING, time=later(now(), LONGEST)):
        if int(each.body["after"]) <= read_at:
            told = {"release": release, "ended": now()}
            records.matters.move(ERASURE, each.name, [PENDING], COMPLETED, by="discreet", body=told)


class Gone(NamedTuple):
    """An erasure: its receipt, when it was, how many events (None: they did not open), the row that tells of it; and
    when the models of before are gone at the latest."""

    receipt_id: str
    at: str
    events: int | None
    journal_row: int | None
    due: str


def erase(records: Records, pseudonym: bytes, *, by: str) -> Gone:
    """Erase somebody; the receipt is followed until a release has learnt nothing from them.

    Nobody is erased without a receipt. Of whom nothing is held it is not known whether they were erased before: the
    model may have learnt from them all the same.
    """
    name = str(uuid.uuid4())
    with records.database.transaction():
        erased = records.vault.erase(pseudonym, by=by)
        at, events, row = (now(), 0, None) if erased is None else (erased.at, erased.events, erased.journal_row)
        gone = Gone(name, at, events, row, later(at, records.inventory.minimisation.models_days))
        told = {"at": at, "row": row, "after": records.journal.head().seq}
        records.matters.open(ERASURE, PENDING, told, by=by, due=gone.due, name=name)
    records.database.scrub()
    return gone


def erasure(records: Records, receipt_id: str) -> Matter | None:
    """Return how far an erasure is, if there is one.

    It is in progress, rather than pending, while a job runs for which people were read after it, by the rows of the
    journal.
    """
    with records.database.snapshot():
        found = records.matters.find(ERASURE, receipt_id)
        if found is None or found.state != PENDING:
            return found
        running = [job for job in records.matters.all(KIND) if job.state == RUNNING]
    after = any(int(job.body.get("read_row", -1)) > int(found.body["after"]) for job in running)
    return found._replace(state=IN_PROGRESS) if after else found


def schedule(
    records: Records, calendar: Calendar, due: str, *, by: str, calendar_own: bool = False, once: Once | None = None
) -> Matter:
    """Have a model trained when a time has come; asked for by the same request again, it is the same job.

    Raises:
        PurposeNotAllowed: the inventory does not allow for it.
        SettingError: that would be in more than a year.
    """
    if due > later(now(), MOST_DAYS):
        raise SettingError("a job begins within a year")
    records.inventory.read_for(calendar.purpose)
    body: dict[str, Any] = {"epsilon": calendar.epsilon, "model": calendar.kind, "purpose": calendar.purpose}
    body |= {"calendar": True} if calendar_own else {}
    body |= {"now": True} if due <= now() and not calendar_own else {}  # it does not wait for a clock
    name = f"{records.inventory.name[:100]}-{once.name if once else uuid.uuid4().hex[:12]}"
    if once and records.matters.find(KIND, name) is None:
        account = Account(records.inventory.name, calendar.purpose)
        if any(each.release == name for each in Ledger(records.database).releases(account)):
            raise Conflict("a job was asked for by this Idempotency-Key, and is forgotten; give another")
    return records.matters.open(KIND, SCHEDULED, body, by=by, due=due, name=name, once=once)


def call_off(records: Records, name: str, *, by: str) -> Matter:
    """Call off a job that has not begun. Raises Conflict if it has."""
    return records.matters.move(KIND, name, [SCHEDULED], CANCELLED, by=by, body={"ended": now()})


def next_release(records: Records) -> Matter | None:
    """Return the job of the next model that is due, or None if none is: its name is that of the release."""
    return records.matters.next(KIND, SCHEDULED)


def effective_from(records: Records, purpose: str) -> str | None:
    """Return the release from which on a change of a consent shows, if the next one is trained for its purpose."""
    job = next_release(records)
    return job.name if job is not None and job.body["purpose"] == purpose else None


def released(records: Records, models: Path) -> Path | None:
    """Return the file of the model that was released last, if one was.

    Raises:
        ArtefactError: the file is gone, or is not what was released: another may know who was erased since.
    """
    done = _served(records)
    if not done:
        return None
    path = models / f"{done[-1].name}.npz"
    try:
        is_it = sha256(path.read_bytes()) == done[-1].body["sha256"]
    except OSError:
        is_it = False
    if not is_it:
        raise ArtefactError(f"{path} is gone, or is not what was released; put it back, or wait for the next release")
    return path


def _served(records: Records) -> list[Matter]:
    """Return the jobs whose models are there, the one that was released last at the end."""
    done = [job for job in records.matters.all(KIND) if job.state == DONE]
    return sorted(done, key=lambda job: int(job.body["row"]))
