"""``discreet serve``, ``discreet people`` and the demo that stays up: as processes, as somebody new would."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import requests
from serving_people import free_port, key_in, started

from discreet.cli.serving import ROTATING, RUNNING, alone, settings_of
from discreet.errors import DiscreetError, SettingError
from discreet.governance.checks import now
from discreet.governance.consent import later
from discreet.governance.inventory import example
from discreet.governance.ledger import Account, Ledger
from discreet.governance.roles import Role

ROOT = Path(__file__).parents[2]
DISCREET = [sys.executable, "-m", "discreet"]


def discreet(*words: str, code: int = 0) -> str:
    found = subprocess.run([*DISCREET, *words], check=False, capture_output=True, text=True, timeout=120)
    assert found.returncode == code, found.stdout + found.stderr
    return found.stdout if code == 0 else found.stderr


def ask(port: int, key: str, method: str, path: str, **told: Any) -> requests.Response:
    headers = {"Authorization": f"Bearer {key}"}
    return requests.request(method, f"http://127.0.0.1:{port}/api/v1{path}", headers=headers, timeout=20, **told)


def test_the_first_start_makes_what_is_missing_and_shows_a_key_once(tmp_path: Path) -> None:
    folder, port = tmp_path / "service", free_port()
    serve = [*DISCREET, "serve", str(folder), "--port", str(port)]
    with started(*serve) as (process, told):
        owner = key_in(told)
        assert (folder / "master.key").stat().st_mode & 0o777 == 0o600
        assert ask(port, owner, "GET", "/inventory").json()["name"] == "shop"
        made = ask(port, owner, "POST", "/access", json={"role": "operator", "owner": "an app"}).json()["key"]
        process.kill()  # without a chance to do anything
        process.wait(10)
    with started(*serve) as (process, told):
        assert "owner's key" not in "".join(told)
        assert ask(port, made, "PUT", "/items", json={"items": [{"item_id": "a"}]}).json() == {"listed": 1}
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0
    inventory = folder / "inventory.toml"
    inventory.write_text(inventory.read_text().replace("retention_days = 730", "retention_days = 30"))
    with started(*serve) as (_, told):
        assert "not what is in force" in " ".join("".join(told).split())
        fields = ask(port, owner, "GET", "/inventory").json()["fields"]
        assert {field["retention_days"] for field in fields} == {730}


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"format = 1\nname = \n", "line 2"),
        (b"\xff", "not TOML"),
        (b"format = 1", "not of type str"),
        (None, "No such file"),
    ],
)
def test_what_is_in_force_holds_whatever_became_of_the_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], content: bytes | None, why: str
) -> None:
    inventory = tmp_path / "inventory.toml"
    settings = settings_of(tmp_path, None, None, None)
    assert "not what is in force" not in capsys.readouterr().err
    if content is None:
        inventory.unlink()
    else:
        inventory.write_bytes(content)
    assert settings_of(tmp_path, None, None, None).inventory == settings.inventory
    said = " ".join(capsys.readouterr().err.split())
    assert "not what is in force" in said
    assert why in said
    assert inventory.exists() == (content is not None)
    assert discreet("incident", "list", str(tmp_path), "--json") == '{\n  "incidents": []\n}\n'


def test_the_first_start_needs_an_inventory_that_the_service_can_work_with(tmp_path: Path) -> None:
    inventory = tmp_path / "inventory.toml"
    settings_of(tmp_path / "other", None, None, None)
    good = (tmp_path / "other" / "inventory.toml").read_text()
    for content, why in (
        ("format = 1\nname = \n", "line 2"),
        (good.replace('"recommend"', '"lists"'), "needs the purpose recommend"),
    ):
        inventory.write_text(content)
        with pytest.raises(DiscreetError, match=why):
            settings_of(tmp_path, None, None, None)
        with pytest.raises(SettingError, match="never started there"):
            settings_of(tmp_path, None, None, None, may_make=False)
    inventory.write_text(good)
    assert settings_of(tmp_path, None, None, None).inventory.name == "shop"


def test_a_port_in_use_leaves_nothing_behind(tmp_path: Path) -> None:
    import socket

    with socket.create_server(("127.0.0.1", 0)) as held:
        port = str(held.getsockname()[1])
        assert "cannot listen" in discreet("serve", str(tmp_path / "service"), "--port", port, code=1)
    assert not (tmp_path / "service").exists()


@pytest.mark.parametrize("how", ["model", "signal"])
def test_the_owners_key_is_made_when_it_can_be_shown(tmp_path: Path, how: str) -> None:
    """A start that fails before, or is told to stop while the key is made, loses none."""
    folder, port = tmp_path / "service", str(free_port())
    broken = {
        "model": "house.House.__init__ = lambda *_: (_ for _ in ()).throw(DataError('the house cannot be opened'))",
        "signal": "made = access.Access.make\n"
        "access.Access.make = lambda *told, **more: (made(*told, **more), os.kill(os.getpid(), signal.SIGTERM))[0]",
    }[how]
    program = f"""
import os, signal
from discreet.errors import DataError
from discreet.governance import access
from discreet.service.api import house
{broken}
from discreet.cli import main
main()
"""
    told = subprocess.run(
        [sys.executable, "-c", program, "serve", str(folder), "--port", port],
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
    )
    with settings_of(folder, None, None, None).records() as records:
        made = [key.role for key in records.access.all()]
    if how == "model":
        assert (told.returncode, made) == (1, [])
    else:
        assert (told.returncode, made) == (0, ["owner"])
        assert key_in([told.stdout])


def test_a_key_that_was_lost_is_made_at_the_desk(tmp_path: Path) -> None:
    folder = tmp_path / "service"
    words = ["people", "key", str(folder), "--owner", "ann"]
    assert "no folder of a service" in discreet(*words, "--role", "owner", code=1)
    settings_of(folder, None, None, None)
    assert "is one of owner" in discreet(*words, "--role", "person", code=1)
    made = key_in([discreet(*words, "--role", "owner", "--days", "3")])
    with settings_of(folder, None, None, None).records() as records:
        visitor = records.access.visitor(made)
        assert visitor is not None
        assert (visitor.role, visitor.owner) == (Role.OWNER, "ann")
        told = [(row.kind, row.facts["key"]) for row in records.journal.rows() if row.kind == "desk-key"]
        assert told == [("desk-key", visitor.name)]
        assert records.verified().ok
    with alone(folder / ROTATING):
        assert "in use by another process" in discreet(*words, "--role", "owner", code=1)


def test_risks_in_force_are_shown_and_late_ones_end_with_3(tmp_path: Path) -> None:
    assert "no folder of a service" in discreet("people", "risks", str(tmp_path / "none"), code=1)
    folder = tmp_path / "service"
    settings_of(folder, None, None, None)
    told = json.loads(discreet("people", "risks", str(folder), "--json"))["risks"]
    assert not any(risk["late"] for risk in told)
    assert told[0]["title"].split()[0] in discreet("people", "risks", str(folder))
    late = tmp_path / "late"
    late.mkdir()
    (late / "inventory.toml").write_text(re.sub('created = ".*"', 'reviewed = "2020-01-01"', example("shop"), count=1))
    settings_of(late, None, None, None)
    found = subprocess.run([*DISCREET, "people", "risks", str(late)], check=False, capture_output=True, text=True)
    assert (found.returncode, found.stdout.count("LATE")) == (3, 1)
    words = [*DISCREET, "people", "risks", str(late), "--json"]
    found = subprocess.run(words, check=False, capture_output=True, text=True)
    assert (found.returncode, [risk["late"] for risk in json.loads(found.stdout)["risks"]].count(True)) == (3, 1)


def test_the_demo_takes_the_folder_as_the_service_does(tmp_path: Path) -> None:
    folder = tmp_path / "service"
    stay = "from pathlib import Path; from discreet.cli import serving_demo"
    demo = [sys.executable, "-c", f"{stay}; serving_demo.stay(None, Path({str(folder)!r}), 0)"]
    folder.mkdir()
    for lock in (RUNNING, ROTATING):
        with alone(folder / lock):
            ended = subprocess.run(demo, check=False, capture_output=True, text=True, timeout=60)
            assert f"in use by another process: {lock}" in ended.stderr


def test_it_listens_on_this_machine_alone_unless_there_is_tls(tmp_path: Path) -> None:
    said = discreet("serve", str(tmp_path / "service"), "--host", "192.0.2.1", code=1)
    assert "without TLS nothing listens" in said
    assert not (tmp_path / "service").exists()


def test_a_master_key_that_others_can_read_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "service"
    with started(*DISCREET, "serve", str(folder), "--port", str(free_port())):
        pass
    (folder / "master.key").chmod(0o644)
    assert "set it to 0600" in discreet("serve", str(folder), "--port", str(free_port()), code=1)
    (folder / "master.key").unlink()
    assert "No such file or directory" in discreet("serve", str(folder), "--port", str(free_port()), code=1)
    assert not (folder / "master.key").exists()  # another would open nothing


def test_events_are_taken_in_and_the_master_key_is_rotated(tmp_path: Path) -> None:
    folder = tmp_path / "service"
    (tmp_path / "items.csv").write_text("item_id,title\na,A\nb,B\n")
    (tmp_path / "events.csv").write_text("user_id,item_id,shoe_size\nann,a,40\nbob,b,41\n")
    collect = ["people", "collect", str(folder), str(tmp_path / "events.csv")]
    assert "no folder of a service" in discreet(*collect, code=1)
    assert not folder.exists()
    settings_of(folder, None, None, None)
    told = json.loads(discreet(*collect, "--items", str(tmp_path / "items.csv"), "--json"))
    assert told == {"kept": 0, "people_in_batches": 0, "without_consent": 2, "too_old": 0, "unread": ["shoe_size"]}
    assert "do not" not in discreet(*collect)
    before = (folder / "master.key").read_text()
    assert "a new master key" in discreet("people", "rotate-key", str(folder)).replace("\n", " ")
    after = (folder / "master.key").read_text()
    assert len(after.split()) == 1
    assert before != after
    discreet(*collect)
    (folder / "master.key").write_text(before)
    assert "not in the file given" in discreet(*collect, code=3)


def test_what_is_handed_out_is_written_once(tmp_path: Path) -> None:
    folder, out = tmp_path / "service", str(tmp_path / "out.csv")
    words = ["people", "hand-out", str(folder), "--purpose", "train-recommender", "--out", out]
    assert "no folder of a service" in discreet(*words, code=1)
    assert not folder.exists()
    settings_of(folder, None, None, None)
    with alone(folder / ROTATING):
        assert "in use by another process: rotating.lock" in discreet(*words, code=1)
    assert "no other purpose" in discreet(*words)
    assert Path(out).read_text().strip() == "user_id,item_id"
    assert "there already" in discreet(*words, code=1)


def test_keys_are_not_rotated_under_a_running_service(tmp_path: Path) -> None:
    folder = tmp_path / "service"
    with started(*DISCREET, "serve", str(folder), "--port", str(free_port())):
        before = (folder / "master.key").read_text()
        assert "in use by another process" in discreet("people", "rotate-key", str(folder), code=1)
        assert (folder / "master.key").read_text() == before
        assert "in use by another process" in discreet("serve", str(folder), "--port", str(free_port()), code=1)
        assert folder.stat().st_mode & 0o777 == 0o700
    discreet("people", "rotate-key", str(folder))


def seeded(folder: Path) -> None:
    """Make a service with one person."""
    from discreet.data.catalogue import Catalogue

    with settings_of(folder, None, None, None).records() as records:
        records.vault.set_items(Catalogue(("a", "b", "c=d", "e=f"), titles=("A", "B", "C", "E")))
        for purpose in records.inventory.purposes:
            records.consents.give("ann", purpose.name)
        batch = records.vault.prepared("one", "0" * 64, [("ann", "a", None)])
        records.vault.collect([batch])
        with records.book() as book:
            book.open_budget(Account(records.inventory.name, "train-recommender"), epsilon=8.0, delta=1e-4)
        records.keep()


REVOKE = ["revoke", "--purpose", "train-recommender", "--because", "she is eleven"]
DESK = (
    *(["access"], ["consents"], ["export", "--out", "never.json"], ["correct", "--remove", "a"]),
    *(["withdraw", "recommend"], REVOKE, ["level", "off"], ["object"], ["erase", "--yes"]),
)


def test_a_person_is_served_at_the_desk_on_record_and_finds_it(tmp_path: Path) -> None:
    folder = str(tmp_path / "service")
    seeded(tmp_path / "service")
    told = json.loads(discreet("people", "access", folder, "ann", "--json"))
    assert [each["item_id"] for each in told["events"]] == ["a"]
    (looked,) = told["opened_by_staff"]
    assert (looked["by"], looked["fields"]) == ("controller's desk", ["consents", "events"])
    shown = discreet("people", "access", folder, "ann")
    assert "1 events, 2 records of consents, 0 keys" in shown
    assert "ConsentGiven" in shown
    assert json.loads(discreet("people", "consents", folder, "ann", "--json"))["recommend"]["permits"]
    assert "withdrawn, journal row" in discreet("people", "withdraw", folder, "ann", "recommend")
    assert "may not be used for 'sell'" in discreet("people", "withdraw", folder, "ann", "sell", code=3)
    shown = discreet("people", "consents", folder, "ann")
    assert "ConsentWithdrawn" in shown
    records = json.loads(discreet("people", "access", folder, "ann", "--json"))["records"]
    assert records[-1]["event"]["entity_id"] == "controller's desk"
    assert records[-1]["event"]["event_state"] == "ConsentWithdrawn"
    assert "revoked, journal row" in discreet("people", REVOKE[0], folder, "ann", *REVOKE[1:])
    assert "nothing to end" in discreet("people", REVOKE[0], folder, "ann", *REVOKE[1:], code=1)
    revoked = json.loads(discreet("people", "access", folder, "ann", "--json"))["records"][-1]
    assert revoked["event"]["event_state"] == "ConsentRevoked"
    assert revoked["discreet"]["because"] == "she is eleven"
    assert "say --yes" in discreet("people", "erase", folder, "ann", code=1)
    erased = discreet("people", "erase", folder, "ann", "--yes")
    assert erased.startswith("Deleted now: 1 events, consents")
    assert "Model: there is none. Receipt " in erased
    for command, *more in DESK:
        assert "nothing is held of this person" in discreet("people", command, folder, "ann", *more, code=1)
    with Ledger(Path(folder) / "discreet.db", witness=Path(folder) / "witness") as book:
        assert book.verify().ok


def test_what_is_held_is_taken_along_from_the_desk(tmp_path: Path) -> None:
    folder, out = str(tmp_path / "service"), tmp_path / "out"
    seeded(tmp_path / "service")
    words = ["people", "export", folder, "ann", "--out", str(out)]
    assert "one of json, csv" in discreet(*words, "--format", "xml", code=1)
    assert "hand it to them" in discreet(*words, "--format", "csv")
    (event,) = csv.DictReader(io.StringIO(out.read_text()))
    assert (event["item_id"], event["title"]) == ("a", "A")
    assert "there already" in discreet(*words, code=1)
    out.unlink()
    discreet(*words)
    told = json.loads(out.read_text())
    assert [each["item_id"] for each in told["events"]] == ["a"]
    assert [each["by"] for each in told["opened_by_staff"]] == ["controller's desk"] * 2
    assert {"rights", "purposes", "logic"} <= {*told}


def test_what_is_not_so_is_corrected_at_the_desk(tmp_path: Path) -> None:
    folder = str(tmp_path / "service")
    seeded(tmp_path / "service")
    words = ["people", "correct", folder, "ann"]
    assert "nothing is to be corrected" in discreet(*words, code=1)
    assert "must be a date or time" in discreet(*words, "--change", "a=lately", code=1)
    assert "is not held" in discreet(*words, "--change", "b=2026-01-05", "--remove", "a", code=1)
    day = later(now(), -9)[:10]
    assert "2 are added" in discreet(*words, "--remove", "a", "--add", "b", "--add", f"c=d={day}")
    assert "the times of 1 are changed" in discreet(*words, "--change", f"b={day}T23:00:00")
    discreet(*words, "--add", "e=f=")
    told = json.loads(discreet("people", "access", folder, "ann", "--json"))
    assert {each["item_id"]: each["timestamp"][:10] for each in told["events"]} == {
        "b": day,
        "c=d": day,
        "e=f": now()[:10],
    }
    with settings_of(tmp_path / "service", None, None, None).records() as records:
        facts = [row.facts for row in records.journal.rows() if row.kind == "correct"]
        assert [each["by"] for each in facts] == ["controller's desk"] * 3
        assert records.verified().ok


def test_a_level_is_set_and_everything_objected_to_at_the_desk(tmp_path: Path) -> None:
    folder = str(tmp_path / "service")
    seeded(tmp_path / "service")
    assert "no level is called" in discreet("people", "level", folder, "ann", "weak", code=1)
    said = discreet("people", "level", folder, "ann", "strong")
    assert "recommend is at strong" in said
    assert "the model is trained with you at strong" in said
    told = json.loads(discreet("people", "consents", folder, "ann", "--json"))
    assert {each["level"] for each in told.values()} == {"strong"}
    said = discreet("people", "object", folder, "ann")
    assert "the model is trained without you" in said
    assert "You can come back at any time" in said
    told = json.loads(discreet("people", "access", folder, "ann", "--json"))
    assert {each["state"] for each in told["consents"].values()} == {"ConsentWithdrawn"}
    assert {each["event"]["entity_id"] for each in told["records"][2:]} == {"controller's desk"}
    assert "You agree to nothing that this could change" in discreet("people", "level", folder, "ann", "light")


def test_an_erasure_at_the_desk_tells_of_the_model_that_is_served(tmp_path: Path) -> None:
    from discreet.service import jobs

    seeded(tmp_path / "service")
    settings = settings_of(tmp_path / "service", None, None, None)
    with settings.records() as records:
        for number in range(40):
            for purpose in records.inventory.purposes:
                records.consents.give(f"p{number}", purpose.name)
        batch = records.vault.prepared("two", "1" * 64, [(f"p{number}", "a", None) for number in range(40)])
        records.vault.collect([batch])
        job = jobs.schedule(records, settings.calendar, now(), by="ann").name
        records.keep()
    trainer = jobs.Jobs(settings.records, settings.models, settings.calendar, lambda _: None, settings.reports)
    trainer.start()
    try:
        for _ in range(600):
            with settings.records() as records:
                if records.matters.one(jobs.KIND, job).state == jobs.DONE:
                    break
            time.sleep(0.1)
    finally:
        trainer.close()
    folder = str(tmp_path / "service")
    assert "if it learnt from you it still does, within the odds of" in discreet(
        "people", "erase", folder, "p1", "--yes"
    )
    (settings.models / f"{job}.npz").write_bytes(b"no model")
    said = discreet("people", "erase", folder, "p2", "--yes")
    assert "within what is promised of it" in said  # whatever is served


def test_the_desk_does_not_go_together_with_a_rotation_and_makes_no_service(tmp_path: Path) -> None:
    folder = tmp_path / "service"
    assert "holds no discreet.db" in discreet("people", "consents", str(folder), "ann", code=1)
    assert not folder.exists()
    seeded(folder)
    with alone(folder / ROTATING):
        for command, *more in DESK:
            said = discreet("people", command, str(folder), "ann", *more, code=1)
            assert "in use by another process: rotating.lock" in said
    with started(*DISCREET, "serve", str(folder), "--port", str(free_port())):
        assert "Deleted now: 1 events" in discreet("people", "erase", str(folder), "ann", "--yes")


def test_a_demo_that_is_still_up_is_not_deleted_by_the_next(tmp_path: Path) -> None:
    from discreet.cli.demo import _prepare
    from discreet.cli.serving_demo import SERVICE
    from discreet.data.intake import read_interactions

    data, folder = read_interactions({"user_id": [1], "item_id": [1]}, name="films"), tmp_path / SERVICE
    seeded(folder)
    with alone(folder / RUNNING), pytest.raises(SettingError, match=r"in use by another process: running\.lock"):
        _prepare(tmp_path, data)
    assert (folder / "master.key").exists()
    _prepare(tmp_path, data)
    assert not folder.exists()


def test_whoever_is_asked_anew_is_shown_so_at_the_desk(tmp_path: Path) -> None:
    from discreet.governance.matters import Matters
    from discreet.governance.policy import in_force, put
    from discreet.governance.witness import configured, opened_with

    folder = tmp_path / "service"
    seeded(folder)
    database, journal = opened_with(configured(folder / "witness"), folder / "discreet.db", 30.0, may_create=False)
    matters = Matters(database, journal)
    put(matters, str(in_force(matters)).replace('notice_version = "1"', 'notice_version = "2"', 1), by="ann, bob")
    database.close()
    assert "no, asked anew" in discreet("people", "consents", str(folder), "ann")
    told = json.loads(discreet("people", "consents", str(folder), "ann", "--json"))
    assert (told["recommend"]["changed"], told["recommend"]["notice"]["version"]) == (["privacy_notice"], "2")
    assert told["train-recommender"]["permits"]


def test_an_inventory_is_written_checked_and_shown(tmp_path: Path) -> None:
    path = tmp_path / "inventory.toml"
    assert "books" in discreet("people", "inventory", str(path), "--init", "books")
    assert json.loads(discreet("people", "inventory", str(path), "--json"))["name"] == "books"
    assert "there already" in discreet("people", "inventory", str(path), "--init", "books", code=1)
    path.write_text(path.read_text().replace("history", "histroy"))
    assert "unknown key 'histroy'" in discreet("people", "inventory", str(path), code=1)


def test_what_is_in_force_is_written_for_others_to_read(tmp_path: Path) -> None:
    folder = tmp_path / "service"
    seeded(folder)
    words = ["people", "inventory", str(folder)]
    with settings_of(folder, None, None, None).records() as records, records.book() as book:
        for purpose, until in (("train-recommender", None), ("recommend", later(now(), 1))):
            book.open_budget(Account(records.inventory.name, purpose), epsilon=8.0, delta=1e-4, until=until)
        book.open_budget(Account("another", "p"), epsilon=8.0, delta=1e-4)
        records.keep()
    assert discreet(*words, "--format", "toml") == (folder / "inventory.toml").read_text()
    assert json.loads(discreet(*words, "--format", "json")) == json.loads(discreet(*words, "--json"))
    assert json.loads(discreet(*words, "--format", "fides"))["system"][0]["fides_key"] == "shop"
    assert discreet(*words, "--format", "ropa").startswith("# Record of processing activities: shop")
    page = discreet(*words, "--format", "dpia")
    assert page.count("- budget shop/") == 2
    assert "last audit: not stated" in page
    assert "is one of toml, json" in discreet(*words, "--format", "pdf", code=1)
    (folder / "audits").mkdir()
    for number in (1, 2):
        told = {"passed": True, "false_alarms": 0.0, "outcomes": [{"subject": "x", "passed": True}] * number}
        (folder / f"audits/audit-2026-01-0{number}T000000Z.json").write_text(json.dumps(told))
    assert "last audit, audit-2026-01-02T000000Z.json" in discreet(*words, "--format", "dpia")
    (folder / "audits/audit-2026-01-03T000000Z.json").mkdir()
    assert "cannot be read: Is a directory" in discreet(*words, "--format", "dpia", code=1)
    page = discreet("people", "inventory", str(folder / "inventory.toml"), "--format", "dpia")
    assert "budgets of differential privacy: not stated" in page


def test_keys_can_be_wrapped_by_somebody_elses_service(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mykms.py").write_text(
        "from discreet.governance.keys import Master\ndef make():\n    return Master([b'k' * 32])\n"
    )
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")
    (tmp_path / "events.csv").write_text("user_id,item_id\nann,a\n")
    (tmp_path / "items.csv").write_text("item_id\na\n")
    words = [
        "people",
        "collect",
        str(tmp_path / "s"),
        str(tmp_path / "events.csv"),
        "--items",
        str(tmp_path / "items.csv"),
    ]
    with started(*DISCREET, "serve", str(tmp_path / "s"), "--port", str(free_port()), "--key-service", "mykms:make"):
        pass
    discreet(*words, "--key-service", "mykms:make")
    assert not (tmp_path / "s" / "master.key").exists()
    assert "no such function" in discreet(*words, "--key-service", "mykms:none", code=1)


def test_what_the_demo_shows_can_be_typed(tmp_path: Path) -> None:
    """The lines that ``discreet demo --serve`` prints, run by a shell, on made-up people."""
    if shutil.which("curl") is None:
        pytest.skip("curl is not installed")
    port = free_port()
    program = f"""
from pathlib import Path
import numpy as np
from discreet.cli.serving_demo import stay
from discreet.data.intake import read_interactions
draw = np.random.default_rng(0)
rows = [(person, int(item)) for person in range(1, 61) for item in draw.choice(30, 8, replace=False)]
people, items = zip(*rows)
data = read_interactions({{"user_id": list(people), "item_id": list(items)}}, name="films")
stay(data, Path({str(tmp_path / "service")!r}), {port})
"""
    with started(sys.executable, "-c", program) as (_, told):
        text = "".join(told)
        keys = dict(re.findall(r"export (APP|ME)=(\S+)", text))
        lines = re.findall(r"^  (curl .*(?:\n(?!  #|\n| *Ctrl).*)*)", text, re.MULTILINE)
        assert len(lines) == 9
        for page in ("README.md", "docs/service.md"):
            shown = re.findall(r"^    (curl .*?)(?: +#.*)?$", (ROOT / page).read_text(), re.MULTILINE)
            assert all(
                any(what in line for line in shown) for what in ("/recommend/", "/consents/", "/level", "/erase")
            )
            assert {line.replace("8440", str(port)) for line in shown} <= {" ".join(line.split()) for line in lines}
        answers = []
        for line in lines:
            made = subprocess.run(
                ["/bin/sh", "-c", " ".join(line.split("\n"))],
                check=True,
                capture_output=True,
                text=True,
                timeout=30,
                env=os.environ | keys,
            )
            answers.append(json.loads(made.stdout))
    listed, held, promised, consents, changed, withdrawn, same, erased, nobody = answers
    assert listed["mode"] == "personalised"
    assert len(held["events"]) == 8
    assert "A coin flip gets 50." in promised["said"]["level"]
    assert consents["recommend"]["permits"]
    assert changed["level"] == "strong"
    assert withdrawn["record"]["event"]["event_state"] == "ConsentWithdrawn"
    assert same["mode"] == "non-personalised"
    assert "Deleted now: 8 events" in erased["said"]
    assert nobody["status"] == 401


def test_a_service_that_is_killed_loses_nothing_it_acknowledged(tmp_path: Path) -> None:
    folder, port = tmp_path / "service", free_port()
    serve = [*DISCREET, "serve", str(folder), "--port", str(port)]
    with started(*serve) as (process, told):
        owner = key_in(told)
        app = ask(port, owner, "POST", "/access", json={"role": "operator", "owner": "an app"}).json()["key"]
        ask(port, app, "PUT", "/items", json={"items": [{"item_id": f"i{number}"} for number in range(50)]})
        person = ask(port, app, "POST", "/people/ann/key").json()["key"]
        ask(port, person, "PUT", "/me/consents/recommend")
        for number in range(20):
            event = {"user_id": "ann", "item_id": f"i{number}"}
            assert ask(port, app, "POST", "/events", json={"events": [event]}).json()["kept"] == 1
        process.kill()
        process.wait(10)
    with started(*serve):
        assert len(ask(port, person, "GET", "/me/access").json()["events"]) == 20
