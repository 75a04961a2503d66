"""What goes wrong around the service: a witness that cannot be written, a full disk, a clock that leaps, a flood."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import datetime, timedelta
from hashlib import sha256
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import quote

import pytest
from servers import Server
from services import ITEMS, PEOPLE, PURPOSES, Running, running, seed

from discreet.errors import FileNotWritten, LedgerError
from discreet.governance.checks import now
from discreet.governance.consent import Consents, later
from discreet.governance.duties import JOURNAL, RETENTION
from discreet.governance.ledger import Account
from discreet.governance.roles import Role
from discreet.governance.witness import Witness
from discreet.service import clock, desk, jobs, rights
from discreet.service.api.house import House, Settings
from discreet.service.clock import Clock
from discreet.service.jobs import Calendar, Jobs


def until(true: Callable[[], bool], seconds: float = 30.0) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end
        time.sleep(0.02)


@pytest.fixture(scope="module")
def shop(another: Callable[[], Settings]) -> Iterator[Running]:
    settings = another()
    with running(replace(settings, witness=settings.models.parent / "witness")) as found:
        seed(found)
        yield found


# A witness that cannot be written


def test_while_nothing_can_be_put_on_record_nothing_is_changed(shop: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    key, other = shop.agreed("on record"), shop.agreed("off record")
    monkeypatch.setattr(desk, "UNSEEN", 0.2)

    def full(*_: object, **__: object) -> None:
        raise FileNotWritten("witness cannot be written: No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(Witness, "keep", full)
        receipt = shop.ask("POST", "/api/v1/me/erase", key)  # done before it is found out: nobody loses a receipt
        assert receipt.status_code == 200
        assert shop.ask("GET", "/api/v1/me/access", key).status_code == 401
        assert shop.ask("GET", f"/api/v1/erasures/{receipt.json()['receipt_id']}").json()["state"] == "pending"
        refused = shop.ask("DELETE", "/api/v1/me/consents/recommend", other)
        assert (refused.status_code, refused.json()["title"]) == (
            503,
            "nothing was changed, since it cannot be put on record; ask again",
        )
        assert shop.ask("GET", "/api/v1/me/consents", other).json()["recommend"]["permits"]
        assert shop.ask("GET", "/api/v1/health/ready").status_code == 503
        time.sleep(0.3)
        assert shop.send(("off record", ITEMS[0])).status_code == 503
        assert shop.as_(Role.OPERATOR, "GET", "/api/v1/recommend/person-3").status_code == 200
        with shop.settings.records() as records:  # nor does what is due by itself begin
            due = jobs.schedule(records, shop.settings.calendar, now(), by="a test").name
        time.sleep(1)
        assert shop.as_(Role.ANALYST, "GET", f"/api/v1/jobs/{due}").json()["state"] == "scheduled"
    until(lambda: bool(shop.as_(Role.ANALYST, "GET", f"/api/v1/jobs/{due}").json()["state"] == "done"))
    assert shop.ask("GET", "/api/v1/health/ready").status_code == 200
    assert shop.ask("DELETE", "/api/v1/me/consents/recommend", other).status_code == 200
    assert shop.ask("GET", "/api/v1/me/access", other).json()["events"] == []


# A full disk


def test_a_job_that_finds_no_room_waits_and_is_charged_once(shop: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    def spent() -> int:
        (budget,) = shop.as_(Role.ANALYST, "GET", "/api/v1/privacy/budget").json()["budgets"]
        return int(budget["spent"])

    def full(*_: object, **__: object) -> None:
        raise FileNotWritten("models: No space left on device")

    before, cost = spent(), shop.as_(Role.ANALYST, "GET", "/api/v1/releases").json()["releases"][-1]["cost"]
    monkeypatch.setattr(jobs, "WAIT", 0.2)
    with monkeypatch.context() as patched:
        patched.setattr("discreet.governance.publication.candidate", full)
        name = shop.as_(Role.OPERATOR, "POST", "/api/v1/jobs", json={}).json()["name"]
        until(lambda: spent() == before + cost)
        time.sleep(1)
        assert shop.as_(Role.ANALYST, "GET", f"/api/v1/jobs/{name}").json()["state"] == "running"
    until(lambda: bool(shop.as_(Role.ANALYST, "GET", f"/api/v1/jobs/{name}").json()["state"] == "done"))
    assert spent() == before + cost


# A clock that leaps


class Fake:
    """A clock of the wall, and one that nobody can set."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.wall, self.steady = 1_800_000_000.0, 1_000.0
        monkeypatch.setattr("discreet.service.clock.time", self)

    def time(self) -> float:
        return self.wall

    def monotonic(self) -> float:
        return self.steady

    def passes(self, seconds: float, leap: float = 0.0) -> None:
        self.wall, self.steady = self.wall + seconds + leap, self.steady + seconds


@pytest.mark.parametrize("leap", [400 * 86_400.0, -400 * 86_400.0, 301.0, -301.0])
def test_after_a_leap_the_clock_is_doubted_for_an_hour(monkeypatch: pytest.MonkeyPatch, leap: float) -> None:
    fake = Fake(monkeypatch)
    watched = Clock()
    fake.passes(10)
    assert watched.steady()
    fake.passes(1, leap)
    assert not watched.steady()
    fake.passes(clock.DOUBTED - 60)
    assert not watched.steady()
    fake.passes(1, -leap)  # set right: doubted for an hour from then
    assert not watched.steady()
    fake.passes(clock.DOUBTED - 1)
    assert not watched.steady()
    fake.passes(2)
    assert watched.steady()


def test_what_clocks_do_is_no_leap(monkeypatch: pytest.MonkeyPatch) -> None:
    fake = Fake(monkeypatch)
    watched = Clock()
    for _ in range(1_000):
        fake.passes(3_600, 0.5)
        assert watched.steady()
    fake.passes(0.2, 299)
    assert watched.steady()


class Written:
    """A journal with rows of these ages, in seconds before now."""

    def __init__(self, ages: Sequence[float]) -> None:
        self.at = [time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(1_800_000_000 - age)) for age in ages]

    def head(self) -> Any:
        return SimpleNamespace(seq=len(self.at) - 1)

    def linked(self, row: int) -> Any:
        return SimpleNamespace(at=self.at[row])


DAY = 86_400.0


@pytest.mark.parametrize(
    ("ages", "doubted"),
    [
        ((0.5 * DAY,), False),
        ((60, 0), False),  # it was just made
        ((9 * DAY, 6.9 * DAY), False),
        ((7.1 * DAY,), True),
        ((400 * DAY, 399 * DAY), True),
        ((400 * DAY, 600, 5, 0), True),  # it was started by this clock before, and wrote something then
        ((400 * DAY, 3_000, *range(2_000, 0, -1)), True),
        ((400 * DAY, 3_700, 5), False),  # for more than an hour by now: somebody left it so
        ((DAY, -0.1 * DAY), True),  # it was set back
    ],
)
def test_the_clock_is_held_against_the_journal(
    monkeypatch: pytest.MonkeyPatch, ages: Sequence[float], doubted: bool
) -> None:
    Fake(monkeypatch)
    watched = Clock()
    watched.held_against(Written(ages))  # type: ignore[arg-type]
    assert watched.steady() is not doubted


def test_while_the_clock_is_doubted_nothing_is_deleted_and_what_is_asked_for_is_done(
    shop: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = shop.agreed("keeps")
    shop.send(("keeps", ITEMS[0]))
    watched = shop.house.jobs.clock
    watched._doubt("a test")
    try:
        with monkeypatch.context() as patched:
            far = later(now(), 900)
            for module in ("consent", "duties", "access", "matters"):
                patched.setattr(f"discreet.governance.{module}.now", lambda: far)
            patched.setattr("discreet.service.jobs.now", lambda: far)
            time.sleep(1.5)
        assert shop.ask("GET", "/api/v1/me/access", key).json()["events"]
        with shop.settings.records() as records:  # one of the calendar is not begun, and keeps no other from it
            own = jobs.schedule(records, shop.settings.calendar, now(), by="discreet", calendar_own=True).name
        assert shop.trained()["state"] == "done"
        assert shop.as_(Role.ANALYST, "GET", f"/api/v1/jobs/{own}").json()["state"] == "scheduled"
        old = {"events": [{"user_id": "keeps", "item_id": ITEMS[1], "timestamp": 1_000_000_000}]}
        told = shop.as_(Role.OPERATOR, "POST", "/api/v1/events", json=old).json()
        assert (told["kept"], told["too_old"]) == (1, 0)  # by which clock? retention sees to it
        with monkeypatch.context() as patched:
            patched.setattr("discreet.data.vault.datetime", Later)
            assert shop.ask("POST", "/api/v1/me/correct", key, json={"remove": [ITEMS[5]]}).status_code == 200
        assert len(shop.ask("GET", "/api/v1/me/access", key).json()["events"]) == 2
    finally:
        watched._until = 0.0
    until(lambda: shop.as_(Role.ANALYST, "GET", f"/api/v1/jobs/{own}").json()["state"] in {"done", "retired"})


class Later(datetime):
    """A clock that is ten years ahead."""

    @classmethod
    def now(cls, tz: Any = None) -> Any:
        return datetime.now(tz) + timedelta(days=3_650)


def test_what_a_wrong_clock_put_off_is_late(shop: Running) -> None:
    with shop.settings.records() as records:
        records.matters.move("duty", RETENTION, ["open"], "open", by="discreet", due=later(now(), 2))
        records.matters.move("duty", JOURNAL, ["open"], "open", by="discreet", due=later(now(), 900))
        records.matters.move("duty", "rotate-master-key", ["open"], "open", by="discreet", due=later(now(), 364))
        assert {RETENTION, JOURNAL} >= {duty.name for duty in records.duties.late()} - {"audit"}
    until(lambda: _due(shop, RETENTION) <= later(now(), 1))
    until(lambda: _due(shop, JOURNAL) <= later(now(), 7))


def _due(shop: Running, name: str) -> str:
    duties = shop.as_(Role.AUDITOR, "GET", "/api/v1/duties").json()["duties"]
    return next(str(duty["due"]) for duty in duties if duty["name"] == name)


def test_a_release_that_a_wrong_clock_put_off_is_planned_anew(shop: Running, tmp_path: Path) -> None:
    calendar = Calendar(every_days=7)
    with shop.settings.records() as records:
        far = jobs.schedule(records, calendar, later(now(), 300), by="discreet", calendar_own=True)
        worker = Jobs(lambda: records, tmp_path, calendar, lambda _: None, tmp_path)
        worker._plan(records)
        found = {job.name: job for job in records.matters.all(jobs.KIND)}
        assert found[far.name].state == jobs.CANCELLED
        (planned,) = (job for job in found.values() if job.state == jobs.SCHEDULED)
        assert planned.due is not None
        assert planned.due <= later(now(), 7)
        worker._plan(records)
        assert records.matters.next(jobs.KIND, jobs.SCHEDULED) == planned
        records.matters.move(jobs.KIND, planned.name, [jobs.SCHEDULED], jobs.CANCELLED, by="a test")


# A flood, and what is no address


def test_whoever_signs_in_keeps_nobody_from_writing(shop: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    go_on, tried = threading.Event(), threading.Semaphore(0)

    def slow(verifier: str, password: str) -> None:
        del verifier, password
        tried.release()
        go_on.wait(30)

    monkeypatch.setattr("discreet.service.api.staff.check_password", slow)
    key = shop.agreed("writes")
    with ThreadPoolExecutor(12) as pool:
        told = [
            pool.submit(shop.ask, "POST", "/api/v1/sessions", json={"name": f"n{number}", "password": "x"})
            for number in range(12)
        ]
        assert tried.acquire(timeout=10)
        begun = time.monotonic()
        assert shop.send(("writes", ITEMS[0])).status_code == 200
        assert shop.ask("DELETE", "/api/v1/me/consents/recommend", key).status_code == 200
        assert time.monotonic() - begun < 20  # the flood waits for as long as it is let
        until(lambda: sum(each.done() for each in told) == 4)
        go_on.set()
        statuses = sorted(each.result().status_code for each in told)
    assert statuses == [403] * 8 + [503] * 4


def test_passwords_are_tried_so_often_from_an_address(shop: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("discreet.service.api.staff.check_password", lambda *_: None)
    shop.app.state.signing_from._left.clear()
    told = [
        shop.ask("POST", "/api/v1/sessions", json={"name": f"m{number}", "password": "x"}).status_code
        for number in range(61)
    ]
    assert told == [403] * 60 + [429]
    shop.app.state.signing_from._left.clear()


@pytest.mark.parametrize("path", ["/api/v1/recommend/J%F6rg", "/api/v1/recommend/%ff", "/api/v1/items?after=%E4"])
def test_what_is_not_utf_8_is_nobody(shop: Running, path: str) -> None:
    assert shop.as_(Role.OPERATOR, "GET", path).status_code == 400
    assert shop.as_(Role.OPERATOR, "POST", "/api/v1/people/J%E4rg/key").status_code == 400
    assert shop.as_(Role.OPERATOR, "GET", f"/api/v1/recommend/{quote('Jörg')}").status_code == 200


def test_a_field_whose_name_does_not_print_is_refused(shop: Running) -> None:
    body = '{"events":[{"user_id":"person-1","item_id":"%s","%s":1}]}'
    headers = {"Content-Type": "application/json"}
    for name in ("\\ud800", "\\u0000", "a\\nb"):
        told = shop.as_(Role.OPERATOR, "POST", "/api/v1/events", data=body % (ITEMS[0], name), headers=headers)
        assert told.status_code == 422, name
    odd = body.replace('"%s":1', '"x":"\\ud800"') % ITEMS[0]
    assert shop.as_(Role.OPERATOR, "POST", "/api/v1/events", data=odd, headers=headers).status_code == 200


# What is kept of batches, keys and files


def test_what_was_sent_of_somebody_can_neither_be_read_nor_guessed_afterwards(
    shop: Running, request: pytest.FixtureRequest
) -> None:
    name = "guessed@example.org"
    key = shop.agreed(name)
    body = f'{{"events": [{{"user_id": "{name}", "item_id": "{ITEMS[1]}", "diagnosis of {name}": 1}}]}}'
    headers = {"Content-Type": "application/json", "Idempotency-Key": f"{name}-1"}
    told = [shop.as_(Role.OPERATOR, "POST", "/api/v1/events", data=body, headers=headers).json() for _ in range(2)]
    assert told[0] == told[1]
    assert told[0]["unread"] == [f"diagnosis of {name}"]
    assert shop.ask("POST", "/api/v1/me/erase", key).status_code == 200
    folders = [shop.settings.models.parent]
    if not isinstance(shop.settings.place, Path):
        server: Server = request.getfixturevalue("server")
        folders.append(server.folder)
    guesses = [name.encode(), sha256(body.encode()).hexdigest().encode(), sha256(body.encode()).digest()]
    for path in (path for folder in folders for path in folder.rglob("*") if path.is_file()):
        content = path.read_bytes()
        assert not [guess for guess in guesses if guess in content], path.name


def test_a_persons_key_ends_with_the_one_that_made_it_and_a_session_when_it_is_left(shop: Running) -> None:
    with shop.settings.records() as records:
        maker = records.access.make(Role.OPERATOR, "brief", days=2 / 86_400)
    made = shop.ask("POST", "/api/v1/people/person-5/key?hours=700", maker).json()["key"]
    assert shop.ask("GET", "/api/v1/me/consents", made).status_code == 200
    until(lambda: shop.ask("GET", "/api/v1/items", maker).status_code == 401)
    until(lambda: shop.ask("GET", "/api/v1/me/consents", made).status_code == 401)
    key = shop.person("leaves")
    assert shop.ask("DELETE", "/api/v1/sessions", key).status_code == 204
    assert shop.ask("GET", "/api/v1/me/consents", key).status_code == 401
    assert shop.ask("DELETE", "/api/v1/sessions", key).status_code == 401


@pytest.mark.parametrize("path", ["object", "level"])
def test_what_concerns_several_purposes_is_one_step(shop: Running, monkeypatch: pytest.MonkeyPatch, path: str) -> None:
    key = shop.agreed(f"all or nothing, {path}")
    write, times = Consents._write, []

    def fails_later(self: Consents, *told: object, **named: object) -> object:
        times.append(1)
        if len(times) == len(PURPOSES):
            raise LedgerError("the disk is full; nothing was changed")
        return write(self, *told, **named)  # type: ignore[arg-type]

    before = shop.ask("GET", "/api/v1/me/consents", key).json()
    with monkeypatch.context() as patched:
        patched.setattr(Consents, "_write", fails_later)
        method, body = ("POST", None) if path == "object" else ("PUT", {"level": "strong"})
        assert shop.ask(method, f"/api/v1/me/{path}", key, json=body).status_code == 503
    assert shop.ask("GET", "/api/v1/me/consents", key).json() == before


def test_a_model_that_is_not_the_one_that_was_released_is_not_served(another: Callable[[], Settings]) -> None:
    settings = another()
    with running(settings) as found:
        seed(found)
        (first,) = settings.models.glob("*.npz")
        old = first.read_bytes()
        assert found.ask("POST", "/api/v1/me/erase", found.person(PEOPLE[0])).status_code == 200
        second = settings.models / f"{found.trained()['name']}.npz"
        until(lambda: not first.exists())
    released = second.read_bytes()
    for changed in (old, released[:-1], None):
        second.unlink(missing_ok=True)
        if changed is not None:
            second.write_bytes(changed)
        house = House(settings)
        try:
            assert not house.ready
        finally:
            house.close()
    second.write_bytes(released)
    house = House(settings)
    try:
        assert house.ready
    finally:
        house.close()


def test_a_leap_in_the_middle_of_retention_ends_it(shop: Running, tmp_path: Path) -> None:
    with shop.settings.records() as records:
        worker = Jobs(lambda: records, tmp_path, Calendar(), lambda _: None, tmp_path)
        records.matters.move("duty", RETENTION, ["open"], "open", by="discreet", due=now())
        before = records.matters.one("duty", RETENTION)

        def leaps() -> Iterator[int]:
            yield 0
            worker.clock._doubt("a test")
            yield 1_000
            raise AssertionError("it went on")

        records.vault.retain = leaps  # type: ignore[method-assign]
        worker._retain(records)
        assert records.matters.one("duty", RETENTION).due == before.due


@pytest.mark.parametrize(("ends", "paid"), [(1, False), (5, True), (None, True)])
def test_a_budget_that_ends_before_the_next_model_pays_for_none(
    another: Callable[[], Settings], ends: float | None, paid: bool
) -> None:
    settings, trained = another(), PURPOSES[1]
    with settings.records() as records:
        assert not rights.is_paid(records, trained)  # none is open
        with records.book() as book:
            until = None if ends is None else later(now(), int(ends))
            book.open_budget(Account(records.inventory.name, trained), epsilon=2.0, delta=1e-4, until=until)
        assert rights.is_paid(records, trained)
        jobs.schedule(records, Calendar(epsilon=1.0), later(now(), 3), by="ann")
        assert rights.is_paid(records, trained) is paid
        dear = jobs.schedule(records, Calendar(epsilon=4.0), later(now(), 2), by="ann")
        assert not rights.is_paid(records, trained)
        jobs.call_off(records, dear.name, by="ann")


def test_a_model_that_cannot_be_read_keeps_nobody_from_starting(another: Callable[[], Settings]) -> None:
    settings = another()
    with running(settings) as found:
        seed(found)
        (path,) = settings.models.glob("*.npz")
    path.unlink()
    path.mkdir()  # what is opened and cannot be read
    house = House(settings)
    try:
        assert not house.ready
        assert house.promise is None
    finally:
        house.close()
