"""What has ended is forgotten when it is old, on record; what has not, or is named by another, stays."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from services import running
from sqlalchemy import delete, insert, select

from discreet.data.records import Records
from discreet.errors import Conflict
from discreet.governance import motions, schema
from discreet.governance.checks import now, sha256
from discreet.governance.consent import later
from discreet.governance.duties import AUDIT, RETENTION
from discreet.governance.incidents import WHY_NOT
from discreet.governance.ledger import Account
from discreet.governance.matters import Matter
from discreet.governance.motions import Member
from discreet.governance.replay import ENDED
from discreet.governance.roles import Permission, Role
from discreet.service import jobs, retention
from discreet.service.api.house import Settings
from discreet.service.jobs import Calendar, Jobs

DAYS = 90
"""Of the example: ``logs_days``."""
LONG_AGO = "2020-01-01T00:00:00Z"
m = schema.matter.c


@pytest.fixture
def records(another: Callable[[], Settings]) -> Iterator[Records]:
    with another().records() as made:
        assert made.inventory.minimisation.logs_days == DAYS
        yield made
        assert made.verified().ok


def left(records: Records) -> set[tuple[str, str]]:
    """Return what there is of the kinds that are forgotten."""
    return {(kind, each.name) for kind in ENDED for each in records.matters.all(kind)}


def forgotten(records: Records, days: float, reports: Path = Path("nowhere")) -> int:
    """Forget what is forgotten so many days from now; return how much."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(retention, "now", lambda: later(now(), int(days)))
        patched.setattr(motions, "now", lambda: later(now(), int(days)))
        return sum(retention.forget(records, reports))


def motion(records: Records, become: str | None = None) -> Matter:
    made = records.motions.ask(Permission.RAISE_CAP, {"name": "x"}, Member("ann", Role.OWNER))
    if become == "refused":
        return records.motions.refuse(made.name, Member("ann", Role.OWNER))
    if become == "agreed":
        return records.motions.agree(made.name, Member("bob", Role.OWNER), lambda _: {})
    return made


def incident(records: Records, *, over: bool, **told: Any) -> Matter:
    made = records.incidents.record(told, by="ann")
    return records.incidents.go_on(made.name, "IncidentConcluded", {WHY_NOT: "no"}, by="ann") if over else made


def matter(records: Records, kind: str, state: str, **body: str) -> Matter:
    return records.matters.open(kind, state, body, by="ann", due=now())


ENDING: dict[str, tuple[Callable[[Records], Matter], int]] = {
    "a motion that was refused": (lambda records: motion(records, "refused"), motions.DAYS),
    "a motion that was agreed to": (lambda records: motion(records, "agreed"), motions.DAYS),
    "a motion that lapsed, and nobody noted it": (motion, motions.DAYS),
    "a grant of which nobody said what came": (
        lambda records: records.grants.open("0" * 32, "safety", ["events"], 1e-6, by=["ann", "bob"]),
        0,
    ),
    "a grant that was closed": (
        lambda records: records.grants.close(
            records.grants.open("0" * 32, "safety", ["events"], 24, by=["ann", "bob"]).name, "nothing", by="ann"
        ),
        0,
    ),
    "an incident that is concluded": (lambda records: incident(records, over=True), 0),
    "a job that failed": (lambda records: matter(records, "job", "failed", ended=now()), 0),
    "a job that was called off": (lambda records: matter(records, "job", "cancelled"), 0),
    "a job whose model is deleted": (
        lambda records: matter(records, "job", "retired", ended=LONG_AGO, retired=now()),
        0,
    ),
    "an erasure that is completed": (lambda records: matter(records, "erasure", "completed", ended=now()), 0),
    "an erasure of before": (lambda records: matter(records, "erasure", "completed"), 0),
}


@pytest.mark.parametrize("what", ENDING)
def test_what_has_ended_is_forgotten_when_it_is_old(records: Records, what: str) -> None:
    made, more = ENDING[what][0](records), ENDING[what][1]
    assert forgotten(records, DAYS + more - 1) == 0
    assert left(records) == {(made.kind, made.name)}
    rows = records.journal.head().seq
    assert forgotten(records, DAYS + more + 1) == 1
    assert left(records) == set()
    told = [entry.facts for entry in records.journal.rows() if entry.kind == "forget" and entry.seq > rows]
    assert [(each["of"], each["name"], each["by"]) for each in told] == [(made.kind, made.name, "discreet")]
    assert forgotten(records, DAYS + more + 1) == 0


STAYING: dict[str, Callable[[Records], Matter]] = {
    "an incident that is not concluded": lambda records: incident(records, over=False),
    "a job that waits": lambda records: matter(records, "job", "scheduled"),
    "a job that runs": lambda records: matter(records, "job", "running"),
    "a job whose model is served": lambda records: matter(records, "job", "done", ended=LONG_AGO),
    "an erasure that is not completed": lambda records: matter(records, "erasure", "pending"),
}


@pytest.mark.parametrize("what", STAYING)
def test_what_has_not_ended_stays_however_old(records: Records, what: str) -> None:
    made = STAYING[what](records)
    assert forgotten(records, 3_000) == 0
    assert left(records) == {(made.kind, made.name)}


def test_duties_and_policies_stay(records: Records) -> None:
    records.duties.begin("ann")
    matter(records, "policy", "in-force")
    before = [records.matters.all(kind) for kind in ("duty", "policy", "setting")]
    assert forgotten(records, 3_000) == 0
    assert [records.matters.all(kind) for kind in ("duty", "policy", "setting")] == before


def test_what_another_names_is_forgotten_after_it(records: Records) -> None:
    made = matter(records, "job", "retired", retired=LONG_AGO)
    erased = matter(records, "erasure", "completed", release=made.name, ended=now())
    grant = records.grants.close(
        records.grants.open("0" * 32, "safety", ["events"], 1, by=["ann", "bob"]).name, "nothing", by="ann"
    )
    asked = records.motions.ask(Permission.RAISE_CAP, {"name": "x"}, Member("ann", Role.OWNER))
    records.motions.agree(asked.name, Member("bob", Role.OWNER), lambda _: {"grant": grant.name})
    assert forgotten(records, DAYS - 1) == 0
    assert forgotten(records, DAYS + 1) == 2  # the motion's time is not over; its grant stays
    assert left(records) == {("motion", asked.name), ("grant", grant.name)}
    assert forgotten(records, DAYS + motions.DAYS + 1) == 2
    assert left(records) == set()
    assert erased.name not in str(left(records))


def test_a_step_that_is_taken_meanwhile_keeps_it(records: Records) -> None:
    made = matter(records, "job", "failed", ended=LONG_AGO)
    moved = records.matters.move("job", made.name, ["failed"], "failed", by="ann", body={"why": "now it is known"})
    rows = records.journal.head()
    assert not records.matters.forget(made, by="discreet")
    assert records.matters.one("job", made.name) == moved
    assert records.journal.head() == rows


def test_others_write_between_few_and_few(records: Records, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retention, "FEW", 3)
    for _ in range(7):
        matter(records, "job", "failed", ended=LONG_AGO)
    found = []
    for few in retention.forget(records, Path("nowhere")):
        found.append((few, len(records.matters.all("job"))))
        matter(records, "incident", "IncidentSuspected")
    assert found == [(3, 4), (3, 1), (1, 0)]


def test_what_a_matter_was_called_may_be_called_so_again(records: Records) -> None:
    for _ in range(2):
        records.matters.open("job", "failed", {"ended": LONG_AGO}, by="ann", due=now(), name="again")
        assert forgotten(records, 0) == 1
    records.matters.open("job", "scheduled", {}, by="ann", due=now(), name="again")


def test_reports_of_audits_are_forgotten_but_those_that_are_named(records: Records, tmp_path: Path) -> None:
    records.duties.begin("ann")
    times = [later(now(), -days) for days in (4 * DAYS, 3 * DAYS, 2 * DAYS, DAYS - 1)]
    files = [tmp_path / retention.report_of(time) for time in times]
    for path in files:
        path.write_text(path.name)
    (tmp_path / "notes.txt").write_text("of somebody else")
    records.duties.done(AUDIT, by="discreet", found=f"no promise was refuted; {files[1].name}")
    incident(records, over=False, description=f"refuted: {files[2].name}")
    assert forgotten(records, 0, tmp_path) == 1
    assert {path.name for path in tmp_path.iterdir()} == {"notes.txt", *(path.name for path in files[1:])}
    (told,) = (entry.facts for entry in records.journal.rows() if entry.kind == "forget-report")
    assert told == {"name": files[0].name, "sha256": sha256(files[0].name.encode())}
    assert forgotten(records, 0, tmp_path) == 0


def test_the_service_forgets_with_its_retention(another: Callable[[], Settings], tmp_path: Path) -> None:
    with another().records() as records:
        records.duties.begin("ann")
        for _ in range(2):
            matter(records, "job", "failed", ended=LONG_AGO)
        worker = Jobs(lambda: records, tmp_path, Calendar(), lambda _: None, tmp_path)
        worker._stop.set()  # it is to stop: what is begun is gone on with after the next start
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(retention, "FEW", 1)
            worker._retain(records)
        assert len(records.matters.all("job")) == 1
        assert [duty.name for duty in records.duties.late()] == [RETENTION]
        worker._stop = threading.Event()
        worker._retain(records)
        assert records.matters.all("job") == []
        assert not records.duties.late()
        found = records.matters.one("duty", RETENTION).body["found"]
        assert found == "0 people looked through; 1 matters and reports that had ended were forgotten"
        assert records.verified().ok


def test_what_is_called_off_and_what_is_completed_say_when(another: Callable[[], Settings]) -> None:
    with running(another()) as found:
        body = {"due": later(now(), 300)}
        made = found.as_(Role.OPERATOR, "POST", "/api/v1/jobs", json=body).json()
        assert found.as_(Role.OPERATOR, "DELETE", f"/api/v1/jobs/{made['name']}").json()["ended"] <= now()
        with found.settings.records() as records:
            gone = jobs.erase(records, records.holders.pseudonym("zoe"), by="person")
            jobs._complete(records, None, records.journal.head().seq)
            done = records.matters.one("erasure", gone.receipt_id)
        assert done.state == "completed"
        assert done.body["ended"] <= now() < str(done.due)


FORGED = "forgets a matter of kind"


@pytest.mark.parametrize("what", STAYING)
def test_what_has_not_ended_is_not_forgotten_by_whoever_writes_a_row(
    another: Callable[[], Settings], what: str
) -> None:
    with another().records() as records:
        made = STAYING[what](records)
        assert records.matters.forget(made, by="eve")  # as whoever has the database could
        (problem,) = records.verified().problems
        row = records.journal.head().seq
        assert (problem.row, problem.what) == (row, f"{FORGED} {made.kind} that has not ended")


def test_forgotten_otherwise_than_it_is_told(another: Callable[[], Settings]) -> None:
    with another().records() as records:

        def row(**facts: str | None) -> int:
            with records.database.transaction():
                return records.journal.append("forget", by="eve", **facts)

        def gone(name: str) -> None:
            records.database.execute(delete(schema.matter).where((m.kind == "job") & (m.name == name)))

        made, twice, kept, silent = [matter(records, "job", "failed", ended=LONG_AGO) for _ in range(4)]
        grant = records.grants.open("0" * 32, "safety", ["events"], 24, by=["ann", "bob"])
        policy = matter(records, "policy", "in-force")
        held = records.database.one(select(schema.matter).where(m.name == kept.name))
        assert held is not None
        assert records.matters.forget(made, by="discreet")
        assert records.verified().ok
        wrong, again = (row(of="job", name=each.name, was="0" * 64) for each in (twice, made))
        gone(twice.name)
        odd = row(of="job", was=None)
        assert records.matters.forget(grant, by="eve")
        assert records.matters.forget(policy, by="eve")
        last = records.journal.head().seq
        assert records.matters.forget(kept, by="discreet")
        records.database.execute(insert(schema.matter).values(**dict(zip(m.keys(), held, strict=True))))
        gone(silent.name)
        problems = [(problem.row, problem.what) for problem in records.verified().problems]
        (begun,) = (entry.seq for entry in records.journal.rows() if entry.facts.get("name") == silent.name)
    assert problems == [
        (begun, "a matter of kind job is gone from the tables"),
        (wrong, f"{FORGED} job that was not as the rows before tell"),
        (again, f"{FORGED} job that was not as the rows before tell"),
        (odd, "is not an event of this version"),
        (last - 1, f"{FORGED} grant that has not ended"),
        (last, f"{FORGED} policy that has not ended"),
        (None, "a matter of kind job is in the tables, no row tells of it"),
    ]


def test_a_key_of_a_job_that_is_forgotten_is_used_for_no_other(records: Records) -> None:
    once, calendar = records.once("ann", "nightly", b"{}"), Calendar()
    made = jobs.schedule(records, calendar, later(now(), 1), by="ann", once=once)
    assert jobs.schedule(records, calendar, later(now(), 1), by="ann", once=once) == made
    account = Account(records.inventory.name, calendar.purpose)
    with records.book() as book:
        book.open_budget(account, epsilon=8.0, delta=1e-4)
        book.reserve(account, cost=1, release=made.name, spec="0" * 64)
        book.abandon(made.name)
    jobs.call_off(records, made.name, by="ann")
    assert forgotten(records, DAYS + 2) == 1
    with pytest.raises(Conflict, match="is forgotten; give another"):
        jobs.schedule(records, calendar, later(now(), 1), by="ann", once=once)
    assert jobs.schedule(records, calendar, later(now(), 1), by="ann", once=records.once("ann", "x", b"{}"))
