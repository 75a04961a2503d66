"""What a service does by itself: models are deleted in time, its record is replayed, its promises are attacked."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from services import PEOPLE, PURPOSES, Running, running, seed
from sqlalchemy import update

from discreet.data.catalogue import Catalogue
from discreet.data.records import Records
from discreet.errors import ArtefactError
from discreet.governance import duties, schema
from discreet.governance.checks import now
from discreet.governance.consent import later
from discreet.governance.duties import AUDIT, JOURNAL
from discreet.governance.ledger import Account, Ledger
from discreet.governance.matters import Matter
from discreet.governance.roles import Role
from discreet.privacy.levels import Level
from discreet.service import checking, jobs
from discreet.service.api.house import Settings
from discreet.service.checking import Auditor
from discreet.service.jobs import Calendar, Jobs
from discreet.training.fitting import fit


def until(true: Callable[[], bool]) -> None:
    end = time.monotonic() + 30
    while not true():
        assert time.monotonic() < end
        time.sleep(0.05)


@pytest.fixture(scope="module")
def shop(another: Callable[[], Settings]) -> Iterator[Running]:
    with running(another()) as found:
        seed(found)
        yield found


def erasure(shop: Running, person: str) -> str:
    receipt = shop.ask("POST", "/api/v1/me/erase", shop.person(person)).json()
    assert receipt["events"] > 0
    return f"/api/v1/erasures/{receipt['receipt_id']}"


def test_a_model_that_is_replaced_is_deleted(shop: Running) -> None:
    (first,) = shop.settings.models.glob("*.npz")
    followed = erasure(shop, PEOPLE[0])
    second = shop.trained()["name"]
    until(lambda: not first.exists())
    assert [path.stem for path in shop.settings.models.glob("*.npz")] == [second]
    until(lambda: shop.as_(Role.ANALYST, "GET", f"/api/v1/jobs/{first.stem}").json()["state"] == "retired")
    until(lambda: bool(shop.ask("GET", followed).json().get("release") == second))
    with shop.settings.records() as records:
        assert records.verified(shop.settings.models).ok
        elsewhere = (shop.settings.models / f"{second}.npz").rename(shop.settings.models.parent / "elsewhere")
        (problem,) = records.verified(shop.settings.models).problems  # one that is served is still to be there
        elsewhere.rename(shop.settings.models / f"{second}.npz")
    assert second in problem.what


def test_a_model_is_not_served_for_ever(shop: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    followed = erasure(shop, PEOPLE[1])
    told = shop.ask("GET", followed).json()
    assert told["state"] == "pending"
    assert told["due"] == later(told["at"], 90)
    assert shop.ask("GET", "/api/v1/health/ready").status_code == 200
    monkeypatch.setattr(jobs, "now", lambda: later(now(), 91))
    until(lambda: shop.ask("GET", "/api/v1/health/ready").status_code == 503)
    until(lambda: bool(shop.ask("GET", followed).json()["state"] == "completed"))
    assert shop.ask("GET", followed).json()["release"] is None
    assert not list(shop.settings.models.iterdir())
    monkeypatch.undo()
    assert shop.trained()["state"] == "done"
    assert shop.ask("GET", "/api/v1/health/ready").status_code == 200


def test_an_erasure_is_in_progress_while_a_job_that_began_after_it_runs(
    shop: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    def state(followed: str) -> str:
        return str(shop.ask("GET", followed).json()["state"])

    begun, go_on = threading.Event(), threading.Event()

    def waiting(*told: Any, **named: Any) -> Any:
        begun.set()
        assert go_on.wait(30)
        return fit(*told, **named)

    monkeypatch.setattr("discreet.service.jobs.fit", waiting)
    before = erasure(shop, PEOPLE[2])
    assert state(before) == "pending"
    name = shop.as_(Role.OPERATOR, "POST", "/api/v1/jobs", json={}).json()["name"]
    try:
        assert begun.wait(30)
        meanwhile = erasure(shop, PEOPLE[3])
        assert (state(before), state(meanwhile)) == ("in-progress", "pending")
    finally:
        go_on.set()
    seen = {state(before)}

    def completed() -> bool:
        seen.add(state(before))
        return "completed" in seen

    until(completed)
    assert seen <= {"in-progress", "completed"}
    assert shop.ask("GET", before).json()["release"] == name
    assert state(meanwhile) == "pending"


class Crash(BaseException):
    """The end of the process."""


def people_of(records: Records) -> list[str]:
    """Have people agree and choose, and open a budget."""
    names = [f"p{number}" for number in range(12)]
    records.vault.set_items(Catalogue(tuple("abcdef")))
    for number, name in enumerate(names):
        for purpose in PURPOSES:
            records.consents.give(name, purpose, level=Level.LIGHT)
        chosen(records, name, number)
    with records.book() as book:
        book.open_budget(Account(records.inventory.name, PURPOSES[1]), epsilon=20, delta=1e-4)
    return names


def chosen(records: Records, name: str, number: int) -> None:
    batch = f"{name}-{records.journal.head().seq}"
    records.vault.collect([records.vault.prepared(batch, batch, [(name, "abcdef"[number % 6], None)])])


CUTS: dict[str, tuple[object, str]] = {
    "before it is charged": (jobs, "fit"),
    "commit": (Ledger, "commit"),
    "link": (os, "link"),
    "told": (jobs, "sha256"),
}


@pytest.mark.parametrize("change", ["nobody", "somebody leaves", "somebody is erased and comes back"])
@pytest.mark.parametrize("where", [*CUTS, "served"])
def test_a_job_that_is_cut_off_anywhere(
    records: Records, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str, change: str
) -> None:
    """It ends; no other job waits for it; nothing but what is served is kept; no erasure is completed by what knew."""

    def crash(*_: object, **__: object) -> None:
        raise Crash

    first, *_ = people_of(records)
    served: list[Path | None] = []
    calendar = Calendar(kind="popularity")
    job = jobs.schedule(records, calendar, now(), by="ann")
    with monkeypatch.context() as patched:
        if where in CUTS:
            patched.setattr(*CUTS[where], crash)
        worker = Jobs(lambda: records, tmp_path, calendar, crash if where == "served" else served.append, tmp_path)
        with pytest.raises(Crash):
            worker._train_due(records)
    receipt = ""
    if change == "somebody leaves":
        records.consents.withdraw(first, PURPOSES[1])
    if change == "somebody is erased and comes back":
        receipt = jobs.erase(records, records.holders.pseudonym(first), by="person").receipt_id
        for purpose in PURPOSES:
            records.consents.give(first, purpose, level=Level.LIGHT)
        chosen(records, first, 0)
    worker = Jobs(lambda: records, tmp_path, calendar, served.append, tmp_path)
    for _ in range(3):
        worker._train_due(records)
        worker._retire(records)
    states = {each.name: each.state for each in records.matters.all(jobs.KIND)}
    given_up = change == "somebody leaves" and where == "commit"
    assert sorted(states.values()) == (["done", "failed"] if given_up else ["done"])
    (last,) = (name for name, state in states.items() if state == "done")
    assert (last == job.name) is not given_up
    assert [path.name for path in tmp_path.iterdir()] == [f"{last}.npz"]
    assert served[-1] == tmp_path / f"{last}.npz"
    assert records.verified(tmp_path).ok
    if receipt:
        found = jobs.erasure(records, receipt)
        assert found is not None
        assert found.state == ("pending" if where in {"link", "served", "told"} else "completed")
        jobs.schedule(records, calendar, now(), by="ann")
        worker._train_due(records)
        worker._retire(records)
        found = jobs.erasure(records, receipt)
        assert found is not None
        assert found.state == "completed"


def test_a_job_whose_file_was_damaged_leaves_nothing(records: Records, tmp_path: Path) -> None:
    people_of(records)
    calendar = Calendar(kind="popularity")
    job = jobs.schedule(records, calendar, now(), by="ann")

    def crash(path: Path | None) -> None:
        raise Crash

    with pytest.raises(Crash):
        Jobs(lambda: records, tmp_path, calendar, crash, tmp_path)._train_due(records)
    (tmp_path / f"{job.name}.npz").write_bytes(b"nonsense")
    Jobs(lambda: records, tmp_path, calendar, lambda _: None, tmp_path)._train_due(records)
    assert records.matters.one(jobs.KIND, job.name).state == "failed"
    assert [*tmp_path.iterdir()] == []
    assert records.verified(tmp_path).ok


def test_who_is_erased_again_waits_as_before(records: Records, tmp_path: Path) -> None:
    """The model that learnt from them is served all the same."""
    first, *_ = people_of(records)
    calendar, served = Calendar(kind="popularity"), list[Path | None]()
    worker = Jobs(lambda: records, tmp_path, calendar, served.append, tmp_path)
    jobs.schedule(records, calendar, now(), by="ann")
    worker._train_due(records)
    receipts = [jobs.erase(records, records.holders.pseudonym(first), by="person").receipt_id for _ in range(2)]

    def states() -> list[str]:
        worker._retire(records)
        return [found.state for each in receipts if (found := jobs.erasure(records, each)) is not None]

    assert states() == ["pending"] * 2
    jobs.schedule(records, calendar, now(), by="ann")
    worker._train_due(records)
    assert states() == ["completed"] * 2
    assert jobs.erasure(records, "0" * 36) is None


def found_of(records: Records, name: str) -> Matter:
    return records.matters.one(duties.KIND, name)


def fall_due(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(duties, "now", lambda: later(now(), 31))


@pytest.fixture
def records(another: Callable[[], Settings]) -> Iterator[Records]:
    with another().records() as made:
        made.duties.begin("ann")
        yield made


def test_the_journal_is_replayed_when_that_is_due(records: Records, monkeypatch: pytest.MonkeyPatch) -> None:
    checking.verify_when_due(records)
    assert found_of(records, JOURNAL).body["done"] is None
    fall_due(monkeypatch)
    rows = records.journal.head()
    checking.verify_when_due(records)
    done = found_of(records, JOURNAL).body
    assert (done["done_by"], done["evidence"]) == ("discreet", rows.hash)
    assert done["found"] == f"{rows.seq + 1} rows, 0 problems"
    assert records.incidents.late() == records.matters.all("incident") == []


def test_a_record_that_does_not_fit_is_an_incident(records: Records, monkeypatch: pytest.MonkeyPatch) -> None:
    fall_due(monkeypatch)
    records.database.execute(update(schema.matter).where(schema.matter.c.name == AUDIT).values(state="forgotten"))
    checking.verify_when_due(records)
    assert ", 1 problems; the first: row" in found_of(records, JOURNAL).body["found"]
    (incident,) = records.matters.all("incident")
    assert "does not fit" in incident.body["description"]


class Pretended(Auditor):
    """One that runs another program."""

    program = "raise SystemExit(0)"

    def command(self) -> tuple[str, ...]:
        return (sys.executable, "-c", self.program)


def audited(records: Records, reports: Path, program: str) -> Pretended:
    auditor = Pretended(reports, 0.5)
    auditor.program = program
    auditor(records)
    until(lambda: _ended(auditor))
    auditor(records)
    return auditor


def _ended(auditor: Auditor) -> bool:
    return auditor._running is not None and auditor._running.poll() is not None


@pytest.mark.parametrize(("code", "said"), [(0, "no promise was refuted"), (3, "A PROMISE WAS REFUTED")])
def test_an_audit_that_is_due_is_run_and_noted(
    records: Records, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int, said: str
) -> None:
    fall_due(monkeypatch)
    audited(records, tmp_path / "audits", f"print('{{}}'); raise SystemExit({code})")
    (report,) = (tmp_path / "audits").iterdir()
    done = found_of(records, AUDIT).body
    assert said in done["found"]
    assert done["found"].startswith("eps=0.5,delta=1e-06: ")
    assert done["evidence"] == sha256(report.read_bytes()).hexdigest()
    incidents = records.matters.all("incident")
    assert [said in each.body["description"] for each in incidents] == [True] * (code == 3)


def test_an_audit_that_cannot_be_run_stays_due(
    records: Records, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    fall_due(monkeypatch)
    auditor = audited(records, tmp_path / "audits", "raise SystemExit(1)")
    assert "could not be run: exit code 1" in caplog.text
    assert found_of(records, AUDIT).body["done"] is None
    auditor(records)  # not at once
    assert auditor._running is None


def test_an_audit_that_hangs_or_outlives_the_service_is_ended(
    records: Records, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fall_due(monkeypatch)
    auditor = Pretended(tmp_path / "audits", 0.5)
    auditor.program = "import time; time.sleep(600)"
    auditor(records)
    process = auditor._running
    assert process is not None
    auditor(records)
    assert process.poll() is None
    auditor._until = 0.0
    auditor(records)
    assert process.poll() is not None
    auditor.close()


@pytest.mark.parametrize("fault", ["folder", "command"])
def test_an_audit_that_cannot_be_begun_is_tried_again_later(
    records: Records, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, fault: str
) -> None:
    fall_due(monkeypatch)
    auditor, reports = Auditor(tmp_path / "audits", 0.5), tmp_path / "audits"
    if fault == "folder":
        reports.write_text("a file")
    monkeypatch.setattr(auditor, "command", lambda: ("there is no such command",))
    for _ in range(3):
        auditor(records)
    assert caplog.text.count("the audit could not be begun") == 1
    assert {"folder": "audits: File exists", "command": "no such command: No such file"}[fault] in caplog.text
    assert found_of(records, AUDIT).body["done"] is None
    reports.unlink() if fault == "folder" else reports.rmdir()  # where nothing was left
    monkeypatch.setattr(auditor, "command", lambda: (sys.executable, "-c", "raise SystemExit(0)"))
    auditor._again = 0.0
    auditor(records)
    until(lambda: _ended(auditor))
    auditor(records)
    assert found_of(records, AUDIT).body["done"] is not None


def test_an_audit_ends_with_the_service_however_that_ends(tmp_path: Path) -> None:
    """An audit of the command line that would take minutes, begun by a process that is killed."""
    program = f"""
import time
from pathlib import Path
from discreet.service.checking import Auditor
auditor = Auditor(Path({str(tmp_path)!r}), 1.0)
auditor._begin()
print(auditor._running.pid, flush=True)
time.sleep(600)
"""
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as service:
        assert service.stdout is not None
        audit = int(service.stdout.readline())
        try:
            until(lambda: os.getpriority(os.PRIO_PROCESS, audit) == 19)  # it is at work
        finally:
            service.kill()
    until(lambda: not _is_at_work(audit))
    assert list(tmp_path.iterdir()) == []


def _is_at_work(process: int) -> bool:
    try:
        return (
            Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
        )  # whoever is to look after it may be slow
    except FileNotFoundError:
        return False


def test_the_audit_is_the_one_of_the_command_line(tmp_path: Path) -> None:
    """Of which each part is tested by itself; here that it is asked for with options that there are."""
    command = [*Auditor(tmp_path, 1.0).command(), "--help"]
    assert "synthetic people" in subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout


def test_a_model_that_cannot_be_served_is_not_kept(shop: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    (served,) = shop.settings.models.glob("*.npz")

    def refuse(path: Path | None) -> None:
        raise ArtefactError(f"{path} is none")

    with monkeypatch.context() as patched:
        patched.setattr(shop.house.jobs, "_published", refuse)
        job = shop.trained()
        assert job["state"] == "failed"
    until(lambda: not (shop.settings.models / f"{job['name']}.npz").exists())
    assert [*shop.settings.models.glob("*.npz")] == [served]
    with shop.settings.records() as records:
        assert records.verified(shop.settings.models).ok


def test_nothing_is_completed_while_a_model_that_was_replaced_is_still_there(
    shop: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    followed, unlink = erasure(shop, PEOPLE[4]), Path.unlink

    def fails(path: Path, missing_ok: bool = False) -> None:
        if path.suffix == ".npz":
            raise PermissionError(path.name)
        unlink(path, missing_ok)

    monkeypatch.setattr(Path, "unlink", fails)
    second = shop.trained()["name"]
    time.sleep(1)
    assert len([*shop.settings.models.glob("*.npz")]) == 2
    assert shop.ask("GET", followed).json()["state"] == "pending"
    monkeypatch.undo()
    until(lambda: bool(shop.ask("GET", followed).json()["state"] == "completed"))
    assert [path.stem for path in shop.settings.models.glob("*.npz")] == [second]
