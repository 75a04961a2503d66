"""What takes two, who looked, what went wrong, what fell due, and proofs of the record: over HTTP."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import pytest
import requests
import rfc8785
from services import Running, new_settings, running, seed

from discreet.errors import LedgerCorrupted, ProofRefused
from discreet.governance.checks import sha256
from discreet.governance.heads import proof_from_bytes
from discreet.governance.inventory import example
from discreet.governance.roles import Role
from discreet.service.api.house import Settings

OFFICER, OWNER, AUDITOR = Role.PRIVACY_OFFICER, Role.OWNER, Role.AUDITOR


@pytest.fixture(scope="module")
def shop(another: Callable[[], Settings], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """One with a witness, and a second officer."""
    with running(replace(another(), witness=tmp_path_factory.mktemp("elsewhere") / "witness")) as found:
        seed(found)
        yield found


@pytest.fixture(scope="module")
def other(shop: Running) -> str:
    """The key of another privacy officer."""
    motion = {"permission": "make-decider", "role": "privacy-officer", "owner": "B. Okafor"}
    name = shop.as_(OWNER, "POST", "/api/v1/motions", json={"motion": motion}).json()["name"]
    made = shop.as_(OFFICER, "POST", f"/api/v1/motions/{name}/agree").json()
    assert made["key"].split("_")[1] == made["key_name"]
    assert made["key"].split("_", 2)[2] not in shop.as_(AUDITOR, "GET", "/api/v1/motions").text
    return str(made["key"])


def asked(shop: Running, motion: Mapping[str, object], role: Role = OFFICER) -> str:
    made = shop.as_(role, "POST", "/api/v1/motions", json={"motion": motion})
    assert made.status_code == 201, made.text
    return str(made.json()["name"])


def test_a_look_at_somebody_takes_two_and_is_told_to_them(shop: Running, other: str) -> None:
    person = shop.agreed("looked-at")
    shop.send(("looked-at", "i1"))
    motion = {"permission": "open-grant", "user_id": "looked-at", "reason": "court order", "fields": ["events"]}
    name = asked(shop, motion)
    assert "looked-at" not in shop.as_(AUDITOR, "GET", "/api/v1/motions").text
    alone = shop.as_(OFFICER, "POST", f"/api/v1/motions/{name}/agree")
    assert (alone.status_code, alone.json()["type"]) == (403, "urn:discreet:not-allowed")
    assert shop.as_(OWNER, "POST", f"/api/v1/motions/{name}/agree").status_code == 403  # an owner may not look
    grant = shop.ask("POST", f"/api/v1/motions/{name}/agree", other).json()["grant"]
    assert shop.ask("POST", f"/api/v1/motions/{name}/agree", other).status_code == 409
    mine = shop.ask("GET", "/api/v1/me/access", person).json()  # before anybody looked
    assert ([each["name"] for each in mine["grants_of_staff"]], mine["opened_by_staff"]) == ([grant], [])
    assert "B. Okafor" not in json.dumps(mine["grants_of_staff"])
    seen = shop.as_(OFFICER, "GET", f"/api/v1/grants/{grant}/people/looked-at").json()
    assert [each["item_id"] for each in seen["events"]] == ["i1"]
    assert "consents" not in seen
    assert shop.as_(OFFICER, "GET", f"/api/v1/grants/{grant}/people/person-1").status_code == 403
    told = shop.ask("GET", "/api/v1/me/access", person).json()["opened_by_staff"]
    assert [each["reason"] for each in told] == ["court order"]
    listed = shop.as_(AUDITOR, "GET", "/api/v1/grants").json()["grants"]
    assert grant in {each["name"] for each in listed}
    assert all("who" not in each for each in listed)
    (found,) = (each for each in listed if each["name"] == grant)
    assert (found["requester"], found["approver"]) == ("the privacy-officer of a test", "B. Okafor")
    assert found["notify_subject_at"] == found["opens_at"]
    closed = shop.as_(OFFICER, "POST", f"/api/v1/grants/{grant}/close", json={"outcome": "it was theirs"}).json()
    assert (closed["state"], closed["outcome"], "who" in closed) == ("closed", "it was theirs", False)
    assert shop.as_(OFFICER, "GET", f"/api/v1/grants/{grant}/people/looked-at").status_code == 403
    strangers = motion | {"user_id": "never heard of"}
    made = [shop.as_(OFFICER, "POST", "/api/v1/motions", json={"motion": each}) for each in (strangers, motion)]
    assert [each.status_code for each in made] == [201, 201]  # asking tells nothing of who is known
    assert all("who" not in each.json()["what"] for each in made)


def test_nobody_makes_themselves_the_second(shop: Running, other: str) -> None:
    del other
    for role in ("owner", "privacy-officer"):
        made = shop.as_(OWNER, "POST", "/api/v1/access", json={"role": role, "owner": "somebody else"})
        assert (made.status_code, made.json()["type"]) == (403, "urn:discreet:not-allowed")
    assert shop.as_(OWNER, "POST", "/api/v1/access", json={"role": "analyst", "owner": "any"}).status_code == 201


def test_the_inventory_is_changed_by_two_and_holds_from_the_next_start(shop: Running, other: str) -> None:
    wanted = example("shop").replace("retention_days = 730", "retention_days = 90")
    name = asked(shop, {"permission": "set-policy", "inventory": wanted}, OWNER)
    agreed = shop.ask("POST", f"/api/v1/motions/{name}/agree", other).json()
    assert (agreed["state"], agreed["holds_from"]) == ("agreed", "the next start")
    for text in ("format = 1", example("shop").replace('"recommend"', '"suggest"')):
        bad = {"motion": {"permission": "set-policy", "inventory": text}}
        assert shop.as_(OWNER, "POST", "/api/v1/motions", json=bad).status_code == 422
    refused = asked(shop, {"permission": "set-policy", "inventory": wanted}, OWNER)
    assert shop.as_(OWNER, "POST", f"/api/v1/motions/{refused}/refuse").json()["state"] == "refused"
    assert shop.as_(OFFICER, "POST", "/api/v1/motions/none/agree").status_code == 404


def test_a_cap_is_raised_by_two(shop: Running, other: str) -> None:
    name = asked(shop, {"permission": "raise-cap", "purpose": "train-recommender", "epsilon": 25})
    (before,) = shop.as_(AUDITOR, "GET", "/api/v1/privacy/budget").json()["budgets"]
    assert shop.ask("POST", f"/api/v1/motions/{name}/agree", other).status_code == 200
    (after,) = shop.as_(AUDITOR, "GET", "/api/v1/privacy/budget").json()["budgets"]
    assert after["cap"] > before["cap"]
    assert after["spent"] == before["spent"]


def test_incidents_have_a_clock(shop: Running) -> None:
    known = {"description": "a list went to somebody else", "subjects_count": "1-10", "data_categories": ["user.name"]}
    told = {"told": known, "detected_at": "2026-01-01"}
    made = shop.as_(Role.OPERATOR, "POST", "/api/v1/incidents", json=told)
    assert made.status_code == 201
    assert made.json()["notify_authority_by"] == "2026-01-04T00:00:00Z"
    name = made.json()["name"]
    (listed,) = shop.as_(AUDITOR, "GET", "/api/v1/incidents").json()["incidents"]
    assert listed["late"]
    going = {"state": "IncidentMitigated", "told": {"notified_authority_at": "2026-01-02"}}
    assert (
        shop.as_(Role.OPERATOR, "POST", f"/api/v1/incidents/{name}", json=going).json()["state"] == "IncidentMitigated"
    )
    (listed,) = shop.as_(AUDITOR, "GET", "/api/v1/incidents").json()["incidents"]
    assert not listed["late"]
    assert [step["state"] for step in listed["log_entries"]] == ["IncidentSuspected", "IncidentMitigated"]
    films = {"state": "IncidentHalted", "told": {"data_categories": ["films"]}}
    for wrong in ({"state": "Over", "told": {}}, {"state": "IncidentHalted", "told": {"mood": "bad"}}, films):
        assert shop.as_(Role.OPERATOR, "POST", f"/api/v1/incidents/{name}", json=wrong).status_code == 422
    assert shop.as_(Role.OPERATOR, "POST", "/api/v1/incidents/none", json=going).status_code == 404


def test_duties_fall_due_and_retention_is_done_by_itself(shop: Running) -> None:
    duties = {each["name"]: each for each in shop.as_(AUDITOR, "GET", "/api/v1/duties").json()["duties"]}
    assert {"retention", "audit", "verify-journal"} <= {*duties}
    assert duties["retention"]["done_by"] == "discreet"
    assert not duties["retention"]["late"]
    reviewed = {"found": "it is what we collect"}
    done = shop.as_(AUDITOR, "POST", "/api/v1/duties/review-inventory/done", json=reviewed).json()
    assert done["due"] >= duties["review-inventory"]["due"]
    assert done["done"] is not None
    for name in ("retention", "audit", "verify-journal"):
        assert shop.as_(AUDITOR, "POST", f"/api/v1/duties/{name}/done", json=reviewed).status_code == 409
    found = {"found": "all well", "evidence": "0" * 64}
    assert shop.as_(AUDITOR, "POST", "/api/v1/duties/none/done", json=found).status_code == 404
    assert shop.as_(AUDITOR, "POST", "/api/v1/duties/audit/done", json={"found": ""}).status_code == 422


def test_the_inventory_and_the_journal_are_shown_to_those_who_may(shop: Running) -> None:
    assert shop.as_(AUDITOR, "GET", "/api/v1/inventory").json()["name"] == "shop"
    rows = shop.as_(AUDITOR, "GET", "/api/v1/journal?after=0&n=5").json()["rows"]
    assert [row["row"] for row in rows] == [1, 2, 3, 4, 5]
    assert shop.as_(Role.ANALYST, "GET", "/api/v1/journal").status_code == 403
    assert "person-1" not in json.dumps(shop.as_(AUDITOR, "GET", "/api/v1/journal?n=1000").json())


def test_the_register_of_risks_says_what_is_late(
    another: Callable[[], Settings],
) -> None:
    settings = another()
    first, *others = settings.inventory.risks
    declared = replace(
        settings.inventory,
        risks=(replace(first, status="accepted", accepted_by="A. Rivera", accepted_until="2026-01-01"), *others),
    )
    with running(replace(settings, inventory=declared)) as found:
        told = found.as_(AUDITOR, "GET", "/api/v1/risks").json()["risks"]
        assert [each["id"] for each in told if each["late"]] == [first.id]
        assert (told[0]["inherent"], told[0]["levels"]["inherent"], told[0]["accepted_by"]) == (
            3,
            "Moderate",
            "A. Rivera",
        )
        assert len(told) == len(declared.risks)
        assert found.as_(Role.ANALYST, "GET", "/api/v1/risks").status_code == 403


def test_rows_are_proven_to_whoever_asks_and_an_erasure_to_whoever_has_its_receipt(shop: Running) -> None:
    head = shop.as_(AUDITOR, "GET", "/api/v1/journal/head").json()
    key = shop.agreed("erased")
    for each in shop.ask("GET", "/api/v1/me/receipts", key).json()["receipts"]:
        proof = proof_from_bytes(shop.ask("GET", f"/api/v1/me/receipts/{each['receipt_id']}/proof", key).content)
        proof.check(head["key"])
        assert sha256(rfc8785.dumps(each["record"])) in proof.told()
        assert (
            shop.ask("GET", f"/api/v1/me/receipts/{each['receipt_id']}/proof", shop.person("other")).status_code == 404
        )
    receipt = shop.ask("POST", "/api/v1/me/erase", key).json()
    proof = proof_from_bytes(shop.ask("GET", f"/api/v1/erasures/{receipt['receipt_id']}/proof").content)
    proof.check(head["key"])
    assert '"kind":"erase"' in proof.told()
    assert "erased" not in proof.told().replace('"erase"', "")
    with pytest.raises(ProofRefused):
        proof.check("0" * 64)
    row = proof_from_bytes(shop.as_(AUDITOR, "GET", "/api/v1/journal/rows/3/proof").content)
    row.check(head["key"])
    grown = proof_from_bytes(shop.as_(AUDITOR, "POST", "/api/v1/journal/consistency", json=head).content)
    grown.check(head["key"])
    forged = head | {"root": "0" * 64}
    assert shop.as_(AUDITOR, "POST", "/api/v1/journal/consistency", json=forged).status_code == 422
    assert shop.as_(AUDITOR, "GET", "/api/v1/journal/rows/99999999/proof").status_code == 404
    assert shop.ask("GET", f"/api/v1/erasures/{'0' * 36}/proof").status_code == 404


@pytest.mark.parametrize(
    ("role", "another_role", "path", "body", "other"),
    [
        (Role.OPERATOR, None, "jobs", {"due": "2027-06-01T00:00:00Z"}, {"due": "2027-06-02T00:00:00Z"}),
        (OFFICER, Role.OWNER, "incidents", {"told": {"description": "a"}}, {"told": {"description": "b"}}),
        (
            Role.OWNER,
            OFFICER,
            "motions",
            {"motion": {"permission": "raise-cap", "purpose": "train-recommender", "epsilon": 25}},
            {"motion": {"permission": "raise-cap", "purpose": "train-recommender", "epsilon": 26}},
        ),
    ],
)
def test_what_is_asked_for_again_is_done_once(
    shop: Running, role: Role, another_role: Role | None, path: str, body: dict[str, Any], other: dict[str, Any]
) -> None:
    def ask(key: str, told: dict[str, Any], by: Role = role) -> requests.Response:
        return shop.as_(by, "POST", f"/api/v1/{path}", json=told, headers={"Idempotency-Key": key})

    first = ask("once", body)
    assert first.status_code < 300
    assert "asked" not in first.json()
    with ThreadPoolExecutor(4) as pool:
        again = [each.result() for each in [pool.submit(ask, "once", body) for _ in range(4)]]
    assert {each.json()["name"] for each in again} == {first.json()["name"]}
    assert ask("once", other).status_code == 409
    names = {ask("twice", body).json()["name"], first.json()["name"]}
    assert len(names) == 2
    if another_role is not None:  # what another calls by the same name is another
        assert ask("once", body, another_role).json()["name"] not in names
    for name in names:
        if path == "jobs":
            assert shop.as_(role, "DELETE", f"/api/v1/jobs/{name}").status_code == 200


@pytest.mark.parametrize("how", ["key", "account"])
def test_nobody_makes_themselves_the_second_by_removing_the_second(
    tmp_path_factory: pytest.TempPathFactory, how: str
) -> None:
    with running(new_settings(tmp_path_factory.mktemp("service"))) as found:
        officer = found.keys[OFFICER].split("_")[1]
        assert found.as_(OWNER, "DELETE", f"/api/v1/access/{officer}").status_code == 204
        assert found.as_(OFFICER, "GET", "/api/v1/inventory").status_code == 401
        wanted = {"role": "privacy-officer"}
        path, more = (
            ("access", {"owner": "fake"}) if how == "key" else ("accounts", {"name": "f", "password": "x" * 12})
        )
        refused = found.as_(OWNER, "POST", f"/api/v1/{path}", json=wanted | more)
        assert (refused.status_code, refused.json()["type"]) == (403, "urn:discreet:not-allowed")
        assert "discreet people key" in refused.json()["title"]
        assert found.as_(OWNER, "POST", "/api/v1/access", json={"role": "auditor", "owner": "C"}).status_code == 201


def test_without_a_witness_nothing_is_signed(tmp_path_factory: pytest.TempPathFactory) -> None:
    with running(new_settings(tmp_path_factory.mktemp("service"))) as found:
        assert found.as_(AUDITOR, "GET", "/api/v1/journal/head").status_code == 409


def test_a_database_that_was_rolled_back_is_refused_at_the_start(tmp_path_factory: pytest.TempPathFactory) -> None:
    folder, elsewhere = tmp_path_factory.mktemp("service"), tmp_path_factory.mktemp("elsewhere")
    settings = replace(new_settings(folder), witness=elsewhere / "witness")
    with running(settings) as found:
        found.agreed("ann")
    copies = {path: path.read_bytes() for path in folder.glob("discreet.db*")}
    with running(settings) as found:
        found.ask("POST", "/api/v1/me/erase", found.person("ann"))
    for path in folder.glob("discreet.db*"):
        path.unlink()
    for path, content in copies.items():
        path.write_bytes(content)
    with pytest.raises(LedgerCorrupted, match="rolled back"), running(settings):
        pass
