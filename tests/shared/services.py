"""A service that runs in this process and is asked over HTTP; and one with people, items and a model."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import requests
from fastapi import FastAPI

from discreet.governance.inventory import Inventory, example
from discreet.governance.keys import Master, new_key
from discreet.governance.roles import Role
from discreet.service.api.app import service
from discreet.service.api.house import House, Settings
from discreet.service.jobs import Calendar
from discreet.service.listening import Address

ITEMS = [f"i{number}" for number in range(12)]
PEOPLE = [f"person-{number}" for number in range(40)]
PURPOSES = ("recommend", "train-recommender")
STAFF = [role for role in Role if role is not Role.PERSON]


@dataclass
class Running:
    """A service, and keys to it."""

    settings: Settings
    url: str
    house: House
    app: FastAPI
    keys: dict[Role, str] = field(default_factory=dict)

    def ask(self, method: str, path: str, key: str | None = None, **told: Any) -> requests.Response:
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        headers |= told.pop("headers", {})
        return requests.request(method, self.url + path, headers=headers, timeout=30, **told)

    def as_(self, role: Role, method: str, path: str, **told: Any) -> requests.Response:
        return self.ask(method, path, self.keys[role], **told)

    def person(self, name: str) -> str:
        made = self.as_(Role.OPERATOR, "POST", f"/api/v1/people/{name}/key")
        assert made.status_code == 201
        return str(made.json()["key"])

    def agreed(self, name: str, **told: Any) -> str:
        key = self.person(name)
        for purpose in PURPOSES:
            assert self.ask("PUT", f"/api/v1/me/consents/{purpose}", key, **told).status_code == 200
        return key

    def records_of(self, key: str) -> list[dict[str, Any]]:
        return [each["record"] for each in self.ask("GET", "/api/v1/me/receipts", key).json()["receipts"]]

    def send(self, *rows: tuple[str, str], **told: Any) -> requests.Response:
        events = [{"user_id": person, "item_id": item} for person, item in rows]
        return self.as_(Role.OPERATOR, "POST", "/api/v1/events", json={"events": events}, **told)

    def trained(self) -> dict[str, Any]:
        name = self.as_(Role.OPERATOR, "POST", "/api/v1/jobs", json={}).json()["name"]
        end = time.monotonic() + 60
        while time.monotonic() < end:
            job: dict[str, Any] = self.as_(Role.OPERATOR, "GET", f"/api/v1/jobs/{name}").json()
            if job["state"] in {"done", "failed"}:
                return job
            time.sleep(0.05)
        raise AssertionError("the job does not end")


@contextmanager
def running(settings: Settings) -> Iterator[Running]:
    address = Address(port=0)
    house = House(settings)
    listening = address.bound()
    app = service(house)
    server = address.serving(app)
    thread = threading.Thread(target=lambda: asyncio.run(server.serve(sockets=[listening])))
    thread.start()
    found = Running(settings, f"http://127.0.0.1:{listening.getsockname()[1]}", house, app)
    with settings.records() as records:
        found.keys = {role: records.access.make(role, f"the {role} of a test") for role in STAFF}
    try:
        yield found
    finally:
        server.should_exit = True
        thread.join(30)
        house.close()
        listening.close()
    with settings.records() as records, records.book() as book:  # whatever was asked of it, the record holds
        problems = book.verify(wrapping=settings.wrapping).problems
        assert not problems, problems


def new_settings(folder: Path) -> Settings:
    """Return how to run one in a folder."""
    (folder / "models").mkdir()
    return Settings(
        place=folder / "discreet.db",
        models=folder / "models",
        reports=folder / "audits",
        wrapping=Master([new_key()]),
        inventory=Inventory.from_toml(example("shop").encode()),
        calendar=Calendar(epsilon=1.0),
    )


def seed(found: Running) -> None:
    """List items, have people agree and send what they chose, open a budget, train."""
    assert found.ask("GET", "/api/v1/health/ready").status_code == 503
    listed = {"items": [{"item_id": item, "title": item.upper(), "tags": ["t"]} for item in ITEMS]}
    assert found.as_(Role.OPERATOR, "PUT", "/api/v1/items", json=listed).json() == {"listed": len(ITEMS)}
    for name in PEOPLE:
        found.agreed(name, json={"level": "light"})
    rows = [(name, ITEMS[(at + step) % len(ITEMS)]) for at, name in enumerate(PEOPLE) for step in range(4)]
    assert found.send(*rows).json()["kept"] == len(rows)
    budget = {"purpose": "train-recommender", "epsilon": 20, "delta": 1e-4}
    assert found.as_(Role.OWNER, "POST", "/api/v1/privacy/budget", json=budget).status_code == 200
    assert found.trained()["state"] == "done"
    assert found.ask("GET", "/api/v1/health/ready").status_code == 200
