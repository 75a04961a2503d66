"""``discreet demo --serve``: the service on the demo's data, and what to type to try it."""

from __future__ import annotations

import asyncio
import json
import time
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

from discreet.cli.output import progress, say, screen
from discreet.cli.serving import INVENTORY, first_key, occupied, settings_of, until_stopped

if TYPE_CHECKING:
    from discreet.data.interactions import Interactions
    from discreet.data.records import Records
    from discreet.service.api.house import House

SERVICE = "service"
EPSILON, BUDGET, PEOPLE = 2.0, 8.0, 400
PURPOSE, DELTA = "train-recommender", 1e-4
PATIENCE = 300
"""Seconds for the first model."""
_APP, _ME = 'curl -s -H "Authorization: Bearer $APP"', 'curl -s -H "Authorization: Bearer $ME"'
LINES = (
    ("a list for this person, asked for by their application", _APP + " {url}/api/v1/recommend/{person}"),
    ("what is held of me", _ME + " {url}/api/v1/me/access"),
    ("what is promised to me, in words", _ME + " {url}/api/v1/me/privacy"),
    ("where my consents stand", _ME + " {url}/api/v1/me/consents"),
    (
        "be blurred more, from the next release on",
        _ME + ' --json \'{{"level": "strong"}}\' -X PUT {url}/api/v1/me/level',
    ),
    ("no personal lists any more", _ME + " -X DELETE {url}/api/v1/me/consents/recommend"),
    ("the list that everybody gets", _ME + " {url}/api/v1/me/recommendations"),
    ("have it all deleted", _ME + " -X POST {url}/api/v1/me/erase"),
    ("nobody is known by this key any more", _ME + " {url}/api/v1/me/access"),
)


def stay(data: Interactions, folder: Path, port: int) -> None:
    """Seed a service with some of the demo's people, who all agree; train; serve until stopped."""
    from discreet.governance.inventory import example
    from discreet.service.api.house import House
    from discreet.service.jobs import Calendar
    from discreet.service.listening import Address

    say(f"\n8. The service, with {PEOPLE} of these people, who agreed to it", "bold green")
    address = Address(port=port)
    with occupied(folder, address) as listening:
        (folder / INVENTORY).write_text(example(data.name[:100]))
        settings = settings_of(folder, None, None, None, calendar=Calendar(epsilon=EPSILON, every_days=7))
        with settings.records() as records:
            keys = seed(records, data)

        def begun() -> None:
            say(f"The owner's key: {first_key(settings)}", "dim")
            screen.file.flush()
            show(f"http://127.0.0.1:{port}", keys)
            say(json.dumps({"said": "listening", "port": port} | keys))
            screen.file.flush()

        with closing(House(settings)) as house:
            _until_ready(house)
            asyncio.run(until_stopped(house, address, listening, begun))


def seed(records: Records, data: Interactions) -> dict[str, str]:
    """Have people agree and send what they chose; have a model trained; return keys, by who they are for."""
    from discreet.governance.checks import now, sha256
    from discreet.governance.ledger import Account
    from discreet.governance.roles import APPLICATION, Role
    from discreet.service.jobs import Calendar, schedule

    histories = data.opened_for(PURPOSE)
    items = list(map(str, data.catalogue.ids))
    records.vault.set_items(data.catalogue)
    people = [str(person) for person in histories.people_ids[:PEOPLE]]
    with progress() as bars:
        bar = bars.add_task("people agree", total=len(people))
        for row, person in enumerate(people):
            for purpose in records.inventory.purposes:
                records.consents.give(person, purpose.name)
            chosen = histories.matrix[[row]].indices.tolist()
            batch = records.vault.prepared(
                f"demo-{row}", sha256(person.encode()), ((person, items[at], None) for at in chosen)
            )
            records.vault.collect([batch])
            bars.update(bar, advance=1)
    with records.book() as book:
        book.open_budget(Account(records.inventory.name, PURPOSE), epsilon=BUDGET, delta=DELTA)
    schedule(records, Calendar(epsilon=EPSILON), now(), by="demo")
    pseudonym = records.holders.pseudonym(people[0])
    return {
        "person": people[0],
        "person_key": records.access.make(Role.PERSON, "demo", pseudonym=pseudonym, days=1),
        "app_key": records.access.make(Role.OPERATOR, "demo", days=1, only=APPLICATION),
    }


def show(url: str, keys: dict[str, str]) -> None:
    """Show what to type."""
    say("Try it, from another terminal; this person is one of those who rated films:\n")
    say(f"  export APP={keys['app_key']}\n  export ME={keys['person_key']}\n")
    for about, words in LINES:
        say(f"  # {about}", "dim")
        say(f"  {words.format(url=url, person=keys['person'])}")
    say("\nCtrl-C ends it.")


def _until_ready(house: House) -> None:
    end = time.monotonic() + PATIENCE
    while not house.ready and time.monotonic() < end:
        time.sleep(0.1)
