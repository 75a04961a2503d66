"""The service over HTTP: what each role gets, what a person can do with their own, and what stays after a restart."""

from __future__ import annotations

import csv
import http.client
import io
import json
import math
import re
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

import jsonschema
import pytest
import requests
from prometheus_client.parser import text_string_to_metric_families
from servers import Server, Unavailable
from servers import running as server_running
from services import ITEMS, PEOPLE, PURPOSES, Running, new_settings, running, seed

from discreet.errors import LedgerError
from discreet.governance.checks import now
from discreet.governance.consent import later
from discreet.governance.ledger import Ledger
from discreet.governance.roles import Permission, Role
from discreet.privacy.guarantee import hundred
from discreet.service.api.door import Bucket
from discreet.service.api.house import Settings
from discreet.service.http import METHODS
from discreet.service.jobs import Calendar, schedule

_TEXT = {"type": "string", "minLength": 1}
_PURPOSE = {"purpose": _TEXT, "purposeCategory": {"type": "array", "items": _TEXT, "minItems": 1}, "consentType": _TEXT}
_PURPOSE |= {"piiCategory": {"type": "array", "items": _TEXT, "minItems": 1}, "primaryPurpose": {"type": "boolean"}}
_PURPOSE |= {"termination": _TEXT, "thirdPartyDisclosure": {"const": False}}
_PARTY = {"piiController": _TEXT, "contact": _TEXT, "address": {"type": "object"}, "email": _TEXT, "phone": _TEXT}
_SERVICE = {
    "service": _TEXT,
    "purposes": {"type": "array", "items": {"required": [*_PURPOSE], "properties": _PURPOSE}, "minItems": 1},
}
_RECEIPT = {
    "version": {"const": "KI-CR-v1.1.0"},
    "jurisdiction": _TEXT,
    "consentTimestamp": {"type": "integer", "minimum": 1_600_000_000, "maximum": 10_000_000_000},
    "collectionMethod": _TEXT,
    "consentReceiptID": {"type": "string", "pattern": "^[0-9a-f-]{36}$"},
    "language": _TEXT,
    "piiPrincipalId": _TEXT,
    "piiControllers": {
        "type": "array",
        "items": {"required": [*_PARTY], "properties": _PARTY},
        "minItems": 1,
    },
    "policyUrl": {"type": "string", "pattern": "^https?://"},
    "services": {"type": "array", "items": {"required": [*_SERVICE], "properties": _SERVICE}, "minItems": 1},
    "sensitive": {"type": "boolean"},
    "spiCat": {"type": "array", "items": _TEXT},
}
KANTARA = {"type": "object", "required": [*_RECEIPT], "properties": _RECEIPT}
"""What the specification of receipts demands."""


@pytest.fixture(scope="module")
def settings(another: Callable[[], Settings]) -> Settings:
    return another()


@pytest.fixture(scope="module")
def shop(settings: Settings) -> Iterator[Running]:
    """One with a catalogue, people who agreed, and a model."""
    with running(settings) as found:
        seed(found)
        yield found


@pytest.fixture(scope="module")
def ended(another: Callable[[], Settings]) -> Settings:
    """How one was run that has people and a model, and was stopped: no other runs on its database."""
    settings = another()
    with running(settings) as found:
        seed(found)
    return settings


# Keys


@pytest.mark.parametrize("key", [None, "", "discreet_x_y", "discreet", "\u00e9", "discreet__", "x" * 5_000])
def test_without_a_valid_key_there_is_one_answer(shop: Running, key: str | None) -> None:
    headers = {} if key is None else {"Authorization": f"Bearer {key}".encode()}
    found = requests.get(f"{shop.url}/api/v1/me/access", headers=headers, timeout=10)
    assert found.status_code == 401
    assert found.headers["www-authenticate"] == "Bearer"
    assert found.json()["type"] == "urn:discreet:not-known"


def test_whoever_has_no_key_may_ask_so_often_from_an_address(shop: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shop.app.state.strangers, "_most", 3)
    paths = [f"/api/v1/erasures/{'0' * 36}", "/api/v1/me/access", "/.well-known/gpc.json"]
    assert [shop.ask("GET", path).status_code for path in paths] == [404, 401, 200]
    for path in [*paths, "/api/v1/health/live", f"/api/v1/erasures/{'0' * 36}/proof"]:
        refused = shop.ask("GET", path)
        assert (refused.status_code, refused.json()["type"]) == (429, "urn:discreet:too-often")
    assert shop.ask("POST", "/api/v1/sessions", json={"name": "x", "password": "y"}).status_code == 429
    assert shop.as_(Role.ANALYST, "GET", "/api/v1/items").status_code == 200


@pytest.mark.parametrize(
    ("method", "path", "headers", "content", "status"),
    [
        ("POST", "/api/v1/events", {"Content-Type": "application/json"}, b"{bad", 422),
        ("POST", "/api/v1/events", {"Authorization": "Bearer discreet_x_y"}, b"x" * 70_000, 401),
        ("POST", "/api/v1/events", {"Authorization": "Bearer discreet_x_y"}, b"{}", 401),
        ("POST", "/api/v1/events", {}, b"x" * (9 << 20), 413),
        ("POST", "/api/v1/events", {"Transfer-Encoding": "chunked"}, b"", 411),
        ("GET", "/api/v1/nothing", {}, None, 404),
        ("DELETE", "/api/v1/health/live", {}, None, 405),
        ("GET", "/api/v1/openapi.json", {}, None, 200),
        ("POST", "/api/v1/sessions", {}, b"{}", 422),
    ],
)
def test_whoever_has_no_key_is_counted_once_wherever_they_are_refused(
    shop: Running,
    monkeypatch: pytest.MonkeyPatch,
    method: str,
    path: str,
    headers: dict[str, str],
    content: bytes | None,
    status: int,
) -> None:
    monkeypatch.setitem(shop.app.state._state, "strangers", Bucket(3))
    found = [shop.ask(method, path, headers=headers, data=content).status_code for _ in range(4)]
    assert found == [status, status, status, 429]
    assert shop.as_(Role.ANALYST, "GET", "/api/v1/items").status_code == 200
    assert shop.as_(Role.ANALYST, "GET", "/api/v1/nothing").status_code == 404
    bad = shop.as_(Role.OPERATOR, "POST", "/api/v1/events", data=b"{bad", headers={"Content-Type": "application/json"})
    assert bad.status_code == 422


@pytest.mark.parametrize(
    ("more", "status"),
    [
        (r'"note": "\ud800"', 200),
        (r'"note": [{"\ud800": ["\udfff"]}]', 200),
        ('"note": NaN', 200),
        (f'"note": {"[" * 500}{"]" * 500}', 200),
        (r'"\ud800": 1', 422),
        (f'"note": {"[" * 30_000}{"]" * 30_000}', 400),
    ],
)
def test_what_is_not_declared_may_be_anything_in_events(shop: Running, more: str, status: int) -> None:
    body = f'{{"events": [{{"user_id": "person-1", "item_id": "i1", {more}}}]}}'
    headers = {"Content-Type": "application/json", "Idempotency-Key": f"anything-{len(more)}-{status}"}
    found = [shop.as_(Role.OPERATOR, "POST", "/api/v1/events", data=body, headers=headers) for _ in range(2)]
    assert [each.status_code for each in found] == [status] * 2
    if status == 200:
        assert found[0].json() == found[1].json()
        assert found[0].json()["unread"] == ["note"]


def test_a_database_that_is_away_is_no_defect_of_whoever_asks(shop: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    async def away(key: str) -> None:
        raise LedgerError("the database is away")

    monkeypatch.setattr(shop.house.known, "visitor", away)
    found = shop.as_(Role.ANALYST, "GET", "/api/v1/items")
    assert (found.status_code, found.json()["type"]) == (503, "urn:discreet:not-now")


def test_what_an_address_takes_is_told(shop: Running) -> None:
    found = shop.as_(Role.ANALYST, "PATCH", "/api/v1/me/consents/recommend")
    assert (found.status_code, found.headers["allow"]) == (405, "DELETE, PUT")
    assert found.json()["title"] == "this is not done at this address, which takes DELETE, PUT"


@pytest.mark.parametrize(
    ("role", "path", "told", "said"),
    [
        (Role.OPERATOR, "/api/v1/jobs", {"due": "soon"}, "a time must be"),
        (Role.OPERATOR, "/api/v1/incidents", {"told": {}, "detected_at": "lately"}, "detected_at must be"),
        (Role.OPERATOR, "/api/v1/incidents", {"told": {"occurred_from": "x"}}, "occurred_from must be"),
    ],
)
def test_a_time_that_is_none_is_named(shop: Running, role: Role, path: str, told: dict[str, Any], said: str) -> None:
    found = shop.as_(role, "POST", path, json=told)
    assert found.status_code == 422
    assert found.json()["title"].startswith(said)


def test_a_defect_is_told_without_what_it_quotes(
    shop: Running, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("somebody@example.org chose something")

    monkeypatch.setattr("discreet.service.api.staff.told_of", broken)
    found = shop.as_(Role.ANALYST, "GET", "/api/v1/privacy/guarantee")
    assert (found.status_code, found.json()["type"]) == (500, "urn:discreet:defect")
    assert "a defect: RuntimeError at test_api.py" in caplog.text
    assert "somebody" not in caplog.text + found.text


@pytest.mark.parametrize("name", ["a/b", "/", "a/key", "../x", "%2F", "a?b#c"])
def test_ids_are_whatever_prints(shop: Running, name: str) -> None:
    key, quoted = shop.agreed(quote(name, safe="")), quote(name, safe="")
    assert shop.send((name, "i2")).json()["kept"] == 1
    assert [each["item_id"] for each in shop.ask("GET", "/api/v1/me/access", key).json()["events"]] == ["i2"]
    found = shop.as_(Role.OPERATOR, "GET", f"/api/v1/recommend/{quoted}")
    assert found.headers["privacy-mode"] == "personalised"


def test_keys_are_made_shown_once_and_taken_away(shop: Running) -> None:
    made = shop.as_(Role.OWNER, "POST", "/api/v1/access", json={"role": "analyst", "owner": "C. Ito"}).json()["key"]
    assert shop.ask("GET", "/api/v1/items", made).status_code == 200
    listed = shop.as_(Role.OWNER, "GET", "/api/v1/access").text
    assert made.split("_", 2)[2] not in listed
    name = made.split("_")[1]
    assert name in listed
    assert shop.as_(Role.OWNER, "DELETE", f"/api/v1/access/{name}").status_code == 204
    assert shop.ask("GET", "/api/v1/items", made).status_code == 401


def test_a_key_is_narrowed(shop: Running) -> None:
    wanted = {"role": "operator", "owner": "an app", "only": ["ask-for-people", "send-events"]}
    key = shop.as_(Role.OWNER, "POST", "/api/v1/access", json=wanted).json()["key"]
    assert shop.ask("GET", "/api/v1/recommend/person-1", key).status_code == 200
    refused = shop.ask("POST", "/api/v1/people/person-1/key", key)
    assert refused.status_code == 403
    assert "with a key that is narrowed" in refused.json()["title"]
    assert shop.ask("GET", "/api/v1/items", key).status_code == 403
    for only, status in (([], 422), (["own"], 422), (["everything"], 422)):
        assert shop.as_(Role.OWNER, "POST", "/api/v1/access", json=wanted | {"only": only}).status_code == status
    with shop.settings.records() as records:
        alone = records.access.make(Role.OWNER, "B. Okafor", only=[Permission.SEE_BUDGETS, Permission.RAISE_CAP])
    motion = {"motion": {"permission": "raise-cap", "purpose": "train-recommender", "epsilon": 25}}
    refused = shop.ask("POST", "/api/v1/motions", alone, json=motion)
    assert (refused.status_code, refused.json()["type"]) == (403, "urn:discreet:not-allowed")


def test_the_staff_signs_in_with_a_password_and_not_too_often(shop: Running) -> None:
    account = {"name": "c.ito", "role": "auditor", "password": "correct horse battery"}
    assert shop.as_(Role.OWNER, "POST", "/api/v1/accounts", json=account).status_code == 201
    assert shop.as_(Role.OWNER, "POST", "/api/v1/accounts", json=account).status_code == 422
    deciding = account | {"name": "another", "role": "owner"}
    assert shop.as_(Role.OWNER, "POST", "/api/v1/accounts", json=deciding).status_code == 403
    told = {"name": "c.ito", "password": account["password"]}
    key = shop.ask("POST", "/api/v1/sessions", json=told).json()["key"]
    assert shop.ask("GET", "/api/v1/inventory", key).status_code == 200
    wrong = [shop.ask("POST", "/api/v1/sessions", json=told | {"password": "guess"}) for _ in range(10)]
    assert {each.status_code for each in wrong[:8]} == {403}
    assert wrong[-1].status_code == 429
    unknown = shop.ask("POST", "/api/v1/sessions", json={"name": "nobody", "password": "guess"})
    assert unknown.json()["title"] == wrong[0].json()["title"]
    assert account["password"] not in shop.as_(Role.OWNER, "GET", "/api/v1/access").text


# Lists


def test_a_personal_list_is_of_the_model_and_of_what_one_permits(shop: Running) -> None:
    found = shop.as_(Role.OPERATOR, "GET", "/api/v1/recommend/person-1?n=5")
    assert found.headers["privacy-mode"] == "personalised"
    assert found.headers["cache-control"] == "no-store"
    listed = found.json()
    assert [each["rank"] for each in listed["items"]] == [1, 2, 3, 4, 5]
    assert all({*each} == {"rank", "item_id", "title"} for each in listed["items"])
    known = {ITEMS[(1 + step) % len(ITEMS)] for step in range(4)}
    assert known.isdisjoint(each["item_id"] for each in listed["items"])
    assert listed["items"][0]["title"] == listed["items"][0]["item_id"].upper()


def test_every_list_says_of_which_kind_and_model_it_is(shop: Running) -> None:
    model = shop.as_(Role.ANALYST, "GET", "/api/v1/privacy/guarantee").json()["release"]
    session = {"json": {"items": [ITEMS[0]]}}
    me = shop.person("person-1")
    lists = [
        ("personalised", shop.as_(Role.OPERATOR, "POST", "/api/v1/session/recommend", **session)),
        ("non-personalised", shop.as_(Role.OPERATOR, "POST", "/api/v1/session/recommend", json={"items": []})),
        ("non-personalised", shop.as_(Role.OPERATOR, "GET", "/api/v1/non-personalized/popular")),
        ("non-personalised", shop.as_(Role.OPERATOR, "GET", f"/api/v1/item-to-item/similar/{ITEMS[0]}")),
        ("personalised", shop.ask("GET", "/api/v1/me/recommendations", me)),
        ("personalised", shop.ask("GET", "/api/v1/me/explained", me)),
        ("non-personalised", shop.ask("GET", "/api/v1/me/explained", shop.person("chose nothing"))),
    ]
    for mode, found in lists:
        assert (found.headers["Privacy-Mode"], found.headers["Model-Id"]) == (mode, model)
        assert found.json()["model"] == model


def test_whoever_is_not_known_or_does_not_permit_it_gets_what_everybody_gets(shop: Running) -> None:
    popular = shop.as_(Role.ANALYST, "GET", "/api/v1/non-personalized/popular").json()["items"]
    shop.person("has a key, agreed to nothing")
    withdrawn = shop.agreed("withdraws")
    shop.send(("withdraws", ITEMS[0]))
    assert shop.ask("GET", "/api/v1/me/recommendations", withdrawn).json()["mode"] == "personalised"
    assert shop.ask("DELETE", "/api/v1/me/consents/recommend", withdrawn).status_code == 200
    for name in ("never heard of", "has a key, agreed to nothing", "withdraws"):
        found = shop.as_(Role.OPERATOR, "GET", f"/api/v1/recommend/{name}")
        assert found.json()["items"] == popular
        assert found.headers["privacy-mode"] == "non-personalised"
    own = shop.ask("GET", "/api/v1/me/recommendations", withdrawn).json()
    assert (own["items"], own["mode"]) == (popular, "non-personalised")


def test_sessions_and_similar_items_store_nothing(shop: Running) -> None:
    before = shop.house.settings.records
    with before() as records:
        rows = records.journal.head().seq
    found = shop.as_(Role.OPERATOR, "POST", "/api/v1/session/recommend", json={"items": ITEMS[:2], "n": 3}).json()
    assert len(found["items"]) == 3
    similar = shop.as_(Role.ANALYST, "GET", f"/api/v1/item-to-item/similar/{ITEMS[0]}?n=3").json()
    assert ITEMS[0] not in {each["item_id"] for each in similar["items"]}
    assert shop.as_(Role.ANALYST, "GET", "/api/v1/item-to-item/similar/none").status_code == 404
    with before() as records:
        assert records.journal.head().seq == rows


def test_what_drove_a_list_is_told_to_its_person(shop: Running) -> None:
    key = shop.person("person-2")
    found = shop.ask("GET", "/api/v1/me/explained?n=3", key).json()
    assert len(found["items"]) == 3
    assert {"rank", "between", "stays", "reasons"} <= {*found["items"][0]}


def test_items(shop: Running) -> None:
    assert shop.as_(Role.ANALYST, "GET", f"/api/v1/item/{ITEMS[3]}").json()["tags"] == ["t"]
    assert shop.as_(Role.ANALYST, "GET", "/api/v1/item/none").status_code == 404
    page = shop.as_(Role.ANALYST, "GET", f"/api/v1/items?n=2&after={sorted(ITEMS)[1]}").json()["items"]
    assert [each["item_id"] for each in page] == sorted(ITEMS)[2:4]
    twice = {"items": [{"item_id": "i0"}, {"item_id": "i0"}]}
    assert shop.as_(Role.OPERATOR, "PUT", "/api/v1/items", json=twice).status_code == 422


# Events


def test_events_are_minimised_and_count_once(shop: Running) -> None:
    shop.agreed("sender")
    event = {"user_id": "sender", "item_id": "i1", "address": "9 Secret Lane", "timestamp": 1_790_000_000}
    ask = {"json": {"events": [event]}, "headers": {"Idempotency-Key": "one"}}
    first = shop.as_(Role.OPERATOR, "POST", "/api/v1/events", **ask)
    assert first.json() == {
        "batch": "one",
        "kept": 1,
        "people": 1,
        "without_consent": 0,
        "too_old": 0,
        "unread": ["address"],
    }
    assert shop.as_(Role.OPERATOR, "POST", "/api/v1/events", **ask).json() == first.json()
    other = {**ask, "json": {"events": [event | {"item_id": "i2"}]}}
    conflict = shop.as_(Role.OPERATOR, "POST", "/api/v1/events", **other)
    assert (conflict.status_code, conflict.json()["type"]) == (409, "urn:discreet:conflict")
    held = shop.ask("GET", "/api/v1/me/access", shop.person("sender")).json()
    assert [each["item_id"] for each in held["events"]] == ["i1"]
    assert held["events"][0]["timestamp"].endswith("T00:00:00+00:00")
    assert "9 Secret Lane" not in json.dumps(held)


def test_events_of_whoever_agreed_to_nothing_are_not_kept(shop: Running) -> None:
    told = shop.send(("a stranger", "i1")).json()
    assert (told["kept"], told["without_consent"]) == (0, 1)


@pytest.mark.parametrize(
    ("content", "status"),
    [
        (b"{", 422),
        (b"[]", 422),
        (b'{"events": []}', 422),
        (b'{"events": [{"user_id": "a"}]}', 422),
        (b'{"events": [{"user_id": "a", "item_id": "none"}]}', 422),
        (b'{"events": [{"user_id": "a", "item_id": "i1", "timestamp": -1}]}', 422),
        (b'{"events": [{"user_id": "a", "item_id": "i1", "timestamp": NaN}]}', 422),
        (b'{"events": [{"user_id": "", "item_id": "i1"}]}', 422),
        (b'{"events": [{"user_id": "a\\u0000", "item_id": "i1"}]}', 422),
        (b"\xff\xfe", 422),
        (b"[" * 100_000, 400),
    ],
)
def test_events_that_are_none(shop: Running, content: bytes, status: int) -> None:
    headers = {"Content-Type": "application/json"}
    found = shop.as_(Role.OPERATOR, "POST", "/api/v1/events", data=content, headers=headers)
    assert found.status_code == status
    assert found.json()["status"] == status


def test_bodies_are_bounded_before_they_are_read(shop: Running) -> None:
    huge = shop.as_(Role.OPERATOR, "POST", "/api/v1/events", data=b"x" * (9 << 20))
    assert huge.status_code == 413
    chunked = shop.as_(Role.OPERATOR, "POST", "/api/v1/events", data=iter([b"x"]))
    assert chunked.status_code == 411


# What a person does with their own


def test_consent_is_given_withdrawn_and_on_record(shop: Running) -> None:
    key = shop.person("ann")
    given = shop.ask(
        "PUT",
        "/api/v1/me/consents/train-recommender",
        key,
        json={"level": "strong"},
        headers={"Sec-GPC": "1", "Content-Language": "pt-BR"},
    ).json()
    record = given["record"]
    assert record["event"]["event_state"] == "ConsentGiven"
    assert (record["language"], record["discreet"]["gpc_at_event"], record["discreet"]["privacy_level"]) == (
        "pt-BR",
        True,
        "strong",
    )
    standing = shop.ask("GET", "/api/v1/me/consents", key).json()
    assert standing["train-recommender"]["permits"]
    assert not standing["recommend"]["permits"]
    assert "with you at strong" in given["said"]
    changed = shop.ask("PUT", "/api/v1/me/level", key, json={"level": "off"}).json()
    assert [*changed["changed"]] == ["train-recommender"]
    assert "trained without you" in changed["said"]
    taken = shop.ask("DELETE", "/api/v1/me/consents/train-recommender", key).json()
    assert taken["record"]["event"]["event_state"] == "ConsentWithdrawn"
    assert "trained without you" in taken["said"]
    assert "We show what is popular" in taken["said"]
    receipts = shop.ask("GET", "/api/v1/me/receipts", key).json()["receipts"]
    assert receipts[-1] == {name: taken[name] for name in ("receipt_id", "schema_version", "journal_row", "record")}
    records = shop.records_of(key)
    assert [each["event"]["event_state"] for each in records] == [
        "ConsentGiven",
        "ConsentGiven",
        "ConsentWithdrawn",
    ]
    refused = shop.ask("PUT", "/api/v1/me/consents/sell", key)
    assert (refused.status_code, refused.json()["type"]) == (403, "urn:discreet:purpose-not-allowed")
    assert shop.ask("PUT", "/api/v1/me/level", key, json={"level": "none"}).status_code == 422
    listed = shop.person("lists only")
    assert "You agree to nothing" in shop.ask("PUT", "/api/v1/me/level", listed, json={"level": "light"}).json()["said"]
    shop.ask("PUT", "/api/v1/me/consents/recommend", listed)
    said = shop.ask("PUT", "/api/v1/me/level", listed, json={"level": "strong"}).json()["said"]
    assert said.startswith("Models are not trained with you, as before")
    assert shop.ask("GET", "/.well-known/gpc.json").json()["gpc"] is True


def test_what_is_exported_is_no_formula(shop: Running) -> None:
    listed = {"items": [{"item_id": "=1+1", "title": "=HYPERLINK(1)"}, {"item_id": "-1", "title": "@x"}]}
    assert shop.as_(Role.OPERATOR, "PUT", "/api/v1/items", json=listed).status_code == 200
    key = shop.agreed("formulas")
    shop.send(("formulas", "=1+1"), ("formulas", "-1"))
    rows = list(csv.DictReader(io.StringIO(shop.ask("GET", "/api/v1/me/export?format=csv", key).text)))
    assert {row["item_id"]: row["title"] for row in rows} == {"'=1+1": "'=HYPERLINK(1)", "'-1": "'@x"}
    assert {each["item_id"] for each in shop.ask("GET", "/api/v1/me/export", key).json()["events"]} == {"=1+1", "-1"}


def test_access_export_correction_and_objection(shop: Running) -> None:
    key = shop.agreed("bob")
    shop.send(("bob", "i1"), ("bob", "i2"))
    told = shop.ask("GET", "/api/v1/me/access", key).json()
    assert {each["item_id"] for each in told["events"]} == {"i1", "i2"}
    assert told["controller"]["name"] == "Example Ltd"
    exported = shop.ask("GET", "/api/v1/me/export", key)
    assert exported.json() == told
    rows = list(csv.DictReader(io.StringIO(shop.ask("GET", "/api/v1/me/export?format=csv", key).text)))
    assert {row["item_id"]: row["title"] for row in rows} == {"i1": "I1", "i2": "I2"}
    wrong = {"remove": ["i2"], "add": [{"item_id": "none"}]}
    assert shop.ask("POST", "/api/v1/me/correct", key, json=wrong).status_code == 422
    right = {"remove": ["i2"], "change": [{"item_id": "i1", "timestamp": 1_790_000_000}], "add": [{"item_id": "i3"}]}
    corrected = shop.ask("POST", "/api/v1/me/correct", key, json=right).json()
    assert corrected["said"].startswith("1 of what was held")
    assert (corrected["removed"], corrected["changed"], corrected["added"]) == (1, 1, 1)
    held = {each["item_id"]: each["timestamp"] for each in shop.ask("GET", "/api/v1/me/access", key).json()["events"]}
    assert {*held} == {"i1", "i3"}
    assert held["i1"] == "2026-09-21T00:00:00+00:00"
    shop.ask("POST", "/api/v1/me/object", key)
    standing = shop.ask("GET", "/api/v1/me/consents", key).json()
    assert not any(each["permits"] for each in standing.values())
    added = shop.ask("POST", "/api/v1/me/correct", key, json={"add": [{"item_id": "i4"}]})
    assert (added.status_code, added.json()["type"]) == (403, "urn:discreet:consent-missing")


def test_times_that_are_not_declared_are_refused_in_a_correction_if_the_inventory_says_so(tmp_path: Path) -> None:
    settings, items = new_settings(tmp_path), [{"item_id": each} for each in ("i1", "i2", "i3")]
    declared = replace(settings.inventory, fields=settings.inventory.fields[:1])
    for undeclared, status, missing in (("refuse", 422, "i2"), ("drop", 200, "i3")):
        minimisation = replace(declared.minimisation, undeclared=undeclared)
        with running(replace(settings, inventory=replace(declared, minimisation=minimisation))) as found:
            found.as_(Role.OPERATOR, "PUT", "/api/v1/items", json={"items": items})
            key = found.agreed("ann")
            timed = {"add": [{"item_id": "i1", "timestamp": 1_790_000_000}]}
            assert found.ask("POST", "/api/v1/me/correct", key, json=timed).status_code == status
            untimed = {"add": [{"item_id": missing}]}
            assert found.ask("POST", "/api/v1/me/correct", key, json=untimed).json()["added"] == 1


def test_access_tells_what_one_has_a_right_to_know(shop: Running) -> None:
    told = shop.ask("GET", "/api/v1/me/access", shop.agreed("curious")).json()
    purposes = {each["name"]: each for each in told["purposes"]}
    assert purposes["train-recommender"]["reads"] == ["item_id"]
    assert purposes["recommend"]["recipients"] == []
    assert {each["name"]: each["category"] for each in told["fields"]}["item_id"].startswith("user.behavior")
    assert told["authority"]["name"] == "Example Data Protection Authority"
    assert {"access", "correct", "erase", "object", "complain", "restrict"} <= {*told["rights"]}
    assert [*told["levels"]] == ["off", "strong", "balanced", "light"]
    assert "1/4" in told["levels"]["strong"]
    assert "1/16" in told["levels"]["strong"]
    assert (told["retention_days"], told["records_days"]) == (730, 90)
    assert told["source"]
    assert told["logic"]
    assert told["processing"]["jurisdiction"] == "EU"
    assert all(told["controller"].values())


def test_somebody_is_asked_refuses_or_answers_later(shop: Running) -> None:
    key, path = shop.person("undecided"), "/api/v1/me/consents/recommend"
    asked = shop.ask("POST", f"{path}/asked", key).json()["record"]["event"]
    assert (asked["event_state"], asked["entity_id"]) == ("ConsentRequested", "controller")
    for answer, state in (("later", "ConsentRequestDeferred"), ("refuse", "ConsentRefused"), ("agree", "ConsentGiven")):
        event = shop.ask("PUT", path, key, json={"answer": answer}).json()["record"]["event"]
        assert (event["event_state"], event["entity_id"]) == (state, "person")
    stands = shop.ask("POST", f"{path}/asked", key)
    assert (stands.status_code, stands.json()["type"]) == (409, "urn:discreet:conflict")
    assert shop.ask("PUT", path, key, json={"answer": "perhaps"}).status_code == 422
    assert shop.ask("PUT", "/api/v1/me/level", key, json={"answer": "refuse"}).status_code == 422


def test_another_level_does_not_renew_a_consent(shop: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patched:
        patched.setattr("discreet.governance.consent.now", lambda: "2026-11-01T00:00:00Z")
        key = shop.agreed("changes levels")
    (until,) = {each["until"] for each in shop.ask("GET", "/api/v1/me/consents", key).json().values()}
    assert until < later(now(), 730)
    changed = shop.ask("PUT", "/api/v1/me/level", key, json={"level": "strong"}).json()["changed"]
    assert {each["record"]["event"]["event_state"] for each in changed.values()} == {"ConsentGiven"}
    stands = shop.ask("GET", "/api/v1/me/consents", key).json()
    assert {(each["until"], each["level"]) for each in stands.values()} == {(until, "strong")}


@pytest.mark.parametrize(
    ("sent", "means"),
    [
        *((each, True) for each in ("1", "1, 1", "1,0", "0 , 1")),
        *((each, False) for each in ("0", "", "01", "true", "1;1", "11")),
    ],
)
def test_what_counts_as_the_browsers_signal(shop: Running, sent: str, means: bool) -> None:
    key, headers = shop.person("has agreed to nothing"), {"Sec-GPC": sent}
    found = shop.ask("GET", "/api/v1/me/consents", key, headers=headers).json()
    assert ("gpc" in found) is means
    if means:
        assert found["gpc"] == {"signal": True, "means": "Nothing of yours is given to others."}


def test_several_headers_of_the_signal_are_one(shop: Running) -> None:
    key, host = shop.person("has agreed to nothing"), shop.url.removeprefix("http://")
    for values, means in (((b"0", b"1"), True), ((b"1", b"1"), True), ((b"0", b"0"), False)):
        line = http.client.HTTPConnection(host, timeout=20)
        line.putrequest("GET", "/api/v1/me/privacy")
        line.putheader("Authorization", f"Bearer {key}")
        for value in values:
            line.putheader("Sec-GPC", value)
        line.endheaders()
        assert ("gpc" in json.load(line.getresponse())) is means
        line.close()


def test_the_signal_is_prompted_for_and_noted_once(shop: Running) -> None:
    key, signal = shop.agreed("careful"), {"headers": {"Sec-GPC": "1"}}

    def states() -> list[tuple[str, bool, str]]:
        records = shop.records_of(key)
        return [(each["purpose"], each["discreet"]["gpc_at_event"], each["event"]["entity_id"]) for each in records[2:]]

    assert "gpc" not in shop.ask("GET", "/api/v1/me/consents", key).json()
    assert states() == []
    for path in ("/api/v1/me/recommendations", "/api/v1/me/consents", "/api/v1/me/privacy", "/api/v1/me/access"):
        found = shop.ask("GET", path, key, **signal).json()
        if path.endswith(("consents", "privacy")):
            assert "recommend, train-recommender" in found["gpc"]["prompt"]
        assert states() == [("recommend", True, "discreet"), ("train-recommender", True, "discreet")]
    stands = shop.ask("GET", "/api/v1/me/consents", key).json()
    assert all(each["permits"] for each in stands.values())


def test_receipts_in_the_form_of_kantara(shop: Running) -> None:
    key = shop.agreed("collects receipts")
    found = shop.ask("GET", "/api/v1/me/receipts?format=kantara", key).json()["receipts"]
    assert len(found) == 2
    for receipt in found:
        jsonschema.validate(receipt, KANTARA)
    records = shop.records_of(key)
    assert [each["consentReceiptID"] for each in found] == [each["record_id"] for each in records]
    ends = [each["services"][0]["purposes"][0]["termination"] for each in found]
    assert [f"/consents/{each['purpose']}, as easily" in end for each, end in zip(records, ends, strict=True)] == [
        True
    ] * 2
    shop.ask("DELETE", "/api/v1/me/consents/recommend", key)
    shop.ask("PUT", "/api/v1/me/level", key, json={"level": "off"})
    (stands,) = shop.ask("GET", "/api/v1/me/receipts?format=kantara", key).json()["receipts"]
    after = shop.records_of(key)
    assert stands["consentReceiptID"] == after[-1]["record_id"]
    assert len(after) == 4
    at = datetime.fromtimestamp(found[0]["consentTimestamp"], UTC).isoformat()
    assert at.replace("+00:00", "Z") == records[0]["event"]["event_time"]
    assert "publicKey" not in found[0]  # without a witness the journal is signed by nobody
    assert shop.ask("GET", "/api/v1/me/receipts?format=xml", key).status_code == 422


@pytest.mark.parametrize("database", ["sqlite", "postgresql"])
def test_after_the_words_changed_everybody_is_asked_anew(
    database: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    settings = new_settings(tmp_path)
    if database == "postgresql":
        settings = replace(settings, place=request.getfixturevalue("server").new())
    with running(settings) as found:
        seed(found)
        key = found.person("person-1")
        assert found.ask("GET", "/api/v1/me/recommendations", key).json()["mode"] == "personalised"
    purposes = tuple(replace(purpose, says=f"{purpose.says} Anew.") for purpose in settings.inventory.purposes)
    with running(replace(settings, inventory=replace(settings.inventory, purposes=purposes))) as found:
        assert found.ask("GET", "/api/v1/me/recommendations", key).json()["mode"] == "non-personalised"
        assert found.send(("person-1", "i9")).json()["kept"] == 0
        assert "nobody who agreed" in found.trained()["why"]
        for _ in range(200):
            stands = found.ask("GET", "/api/v1/me/consents", key).json()
            if {each["state"] for each in stands.values()} == {"ConsentInvalidated"}:
                break
            time.sleep(0.05)
        assert all(each["asked_anew"] and not each["permits"] for each in stands.values())
        assert all(each["says"].endswith(" Anew.") for each in stands.values())
        assert all(each["changed"] == ["purpose_description"] for each in stands.values())
        given = found.ask("PUT", "/api/v1/me/consents/recommend", key).json()
        assert given["record"]["event"]["event_state"] == "ConsentGiven"
        assert found.ask("GET", "/api/v1/me/recommendations", key).json()["mode"] == "personalised"
        stands = found.ask("GET", "/api/v1/me/consents", key).json()
        assert (stands["recommend"]["permits"], stands["recommend"]["asked_anew"]) == (True, False)
        assert stands["train-recommender"]["asked_anew"]
        for name in ("person-2", "person-3"):
            found.ask("PUT", "/api/v1/me/consents/train-recommender", found.person(name))
        with settings.records() as records:
            ended = [e.facts for e in records.journal.rows() if e.facts.get("state") == "ConsentInvalidated"]
        assert len(ended) == 2 * len(PEOPLE)
        assert {each["by"] for each in ended} == {"discreet"}
    with Ledger(settings.place) as book:
        assert book.verify().ok


def test_erasure_now_and_from_the_next_release(
    shop: Running, settings: Settings, request: pytest.FixtureRequest
) -> None:
    name = "somebody who wants to be forgotten"
    key = shop.agreed(name)
    shop.send((name, "i3"))
    receipt = shop.ask("POST", "/api/v1/me/erase", key).json()
    assert receipt["events"] == 1
    assert "still to come" in receipt["said"].lower()
    assert shop.ask("GET", "/api/v1/me/access", key).status_code == 401
    status = shop.ask("GET", f"/api/v1/erasures/{receipt['receipt_id']}").json()
    assert status["state"] == "pending"
    assert shop.ask("GET", f"/api/v1/erasures/{'0' * 36}").status_code == 404
    job = shop.trained()
    assert job["state"] == "done"
    for _ in range(100):  # once the model of before is deleted
        done = shop.ask("GET", f"/api/v1/erasures/{receipt['receipt_id']}").json()
        if done["state"] == "completed":
            break
        time.sleep(0.05)
    assert (done["state"], done["release"]) == ("completed", job["name"])
    folders = [settings.models.parent]
    if not isinstance(settings.place, Path):
        server: Server = request.getfixturevalue("server")
        folders.append(server.folder)
    for path in (path for folder in folders for path in folder.rglob("*") if path.is_file()):
        assert name.encode() not in path.read_bytes(), path.name


def test_nobody_who_is_erased_is_made_anew_by_what_was_on_its_way(shop: Running) -> None:
    for turn in range(5):
        name = f"undead-{turn}"
        key = shop.agreed(name)
        answers: list[int] = []

        def ask(method: str, path: str, key: str = key, answers: list[int] = answers) -> None:
            answers.append(shop.ask(method, path, key).status_code)

        asked = [("PUT", "/api/v1/me/consents/recommend")] * 4 + [("POST", "/api/v1/me/erase")]
        asked += [("PUT", "/api/v1/me/consents/train-recommender"), ("POST", "/api/v1/me/object")] * 2
        threads = [threading.Thread(target=ask, args=each) for each in asked]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
        assert {*answers} <= {200, 401}
        with shop.settings.records() as records:
            assert not records.holders.holds(records.holders.pseudonym(name))
        assert shop.send((name, "i1")).json()["kept"] == 0


def test_whoever_is_not_held_can_be_erased_and_their_key_ends(shop: Running) -> None:
    key = shop.person("agreed to nothing")
    receipt = shop.ask("POST", "/api/v1/me/erase", key).json()
    assert receipt["events"] == 0
    assert shop.ask("GET", "/api/v1/me/access", key).status_code == 401
    assert shop.ask("GET", f"/api/v1/erasures/{receipt['receipt_id']}").json()["state"] == "pending"
    assert shop.ask("GET", f"/api/v1/erasures/{receipt['receipt_id']}/proof").status_code == 404


def test_somebody_is_erased_while_others_are_read(shop: Running) -> None:
    key = shop.agreed("impatient")
    with shop.settings.records() as records, records.database.snapshot():
        assert records.journal.head().seq > 0
        assert shop.ask("POST", "/api/v1/me/erase", key).status_code == 200


def test_keys_that_were_made_for_a_person_are_shown_to_them(shop: Running) -> None:
    key = shop.agreed("watched")
    shop.person("watched")
    told = shop.ask("GET", "/api/v1/me/access", key).json()["keys"]
    assert [each["owner"] for each in told] == [told[0]["owner"]] * 2
    assert told[0]["owner"] != ""


def test_the_journal_does_not_tell_what_somebody_chose(shop: Running) -> None:
    shop.agreed("quiet")
    event = {"user_id": "quiet", "item_id": "i5", "somebody@example.org likes": "this"}
    assert shop.as_(Role.OPERATOR, "POST", "/api/v1/events", json={"events": [event]}).json()["kept"] == 1
    with shop.settings.records() as records:
        last = [entry.facts for entry in records.journal.rows() if entry.kind == "collect"][-1]
    counts = {"events": "1", "people": "1", "without_consent": "0", "unreadable": "0", "too_old": "0", "unread": "1"}
    assert last == counts


def test_long_bodies_are_read_from_whoever_has_a_key_alone(shop: Running) -> None:
    body = b'{"events": [' + b" " * (1 << 17) + b"]}"
    headers = {"Content-Type": "application/json"}
    assert shop.ask("POST", "/api/v1/events", data=body, headers=headers).status_code == 401
    assert shop.as_(Role.OPERATOR, "POST", "/api/v1/events", data=body, headers=headers).status_code == 422


def test_a_body_that_does_not_come_is_not_waited_for(shop: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    import socket

    monkeypatch.setattr("discreet.service.api.app.LONGEST_BODY", 0.2)
    host, port = shop.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=20) as line:
        line.sendall(b"POST /api/v1/sessions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n")
        line.sendall(b"Content-Length: 100\r\n\r\n{")
        assert line.recv(100)[:12] in {b"HTTP/1.1 400", b"HTTP/1.1 408"}


def test_what_is_promised_and_used(shop: Running) -> None:
    told = shop.ask("GET", "/api/v1/me/privacy", shop.person("person-3")).json()
    assert told["spent_units"] > 0
    promise, said = told["model"]["guarantee"], told["said"]
    assert {*said} == {"level", "joining", "not_covered", "theft", "budget"}
    assert f"at most {hundred(promise['odds'])} times out of 100" in said["level"]
    assert re.match(r"\d+% of your limit is used\.", said["budget"])
    assert told["label"]["used to train the shared model"] == "yes, at light"
    assert [*told["levels"]] == ["off", "strong", "balanced", "light"]
    key = shop.agreed("after the model", json={"level": "strong"})  # of which it cannot know: nor does who asks
    for used in ("yes, at strong", "no"):
        late = shop.ask("GET", "/api/v1/me/privacy", key).json()
        assert "Models already trained keep what they learned" in late["said"]["change"]
        assert late["label"]["odds"] == f"at most {hundred(promise['odds'])} in 100"
        after = "from the next release on; the model that is served may know more"
        assert late["label"]["used to train the shared model"] == f"{used}, {after}"
        assert shop.ask("DELETE", "/api/v1/me/consents/train-recommender", key).status_code == 200
    stranger = shop.ask("GET", "/api/v1/me/privacy", shop.person("nobody yet")).json()
    assert stranger["said"]["level"].startswith("Off. What you choose shapes no model")
    assert stranger["label"]["used to train the shared model"] == "no"
    assert told["model"]["guarantee"]["private"]
    assert "own history" in told["model"]["main_parameters"]
    assert told["model"]["release"] == shop.as_(Role.ANALYST, "GET", "/api/v1/privacy/guarantee").json()["release"]


# Training, budgets, metrics


def test_a_job_that_the_budget_does_not_allow_fails_and_says_why(shop: Running) -> None:
    assert shop.as_(Role.OPERATOR, "POST", "/api/v1/jobs", json={"epsilon": 1.1}).status_code == 422  # by one alone
    with shop.settings.records() as records:
        name = schedule(records, replace(shop.settings.calendar, epsilon=30), now(), by="a test").name
    for _ in range(200):
        job = shop.as_(Role.ANALYST, "GET", f"/api/v1/jobs/{name}").json()
        if job["state"] == "failed":
            break
        time.sleep(0.05)
    assert "left" in job["why"]
    assert f"ask {shop.settings.inventory.owners.budgets} for more" in job["why"]
    assert shop.as_(Role.ANALYST, "GET", "/api/v1/jobs/none").status_code == 404
    assert name in shop.as_(Role.ANALYST, "GET", "/api/v1/jobs").text


def test_a_job_that_has_not_begun_is_called_off(shop: Running) -> None:
    name = shop.as_(Role.OPERATOR, "POST", "/api/v1/jobs", json={"due": later(now(), 1)}).json()["name"]
    assert shop.as_(Role.ANALYST, "DELETE", f"/api/v1/jobs/{name}").status_code == 403
    assert shop.as_(Role.OPERATOR, "DELETE", f"/api/v1/jobs/{name}").json()["state"] == "cancelled"
    assert shop.as_(Role.OPERATOR, "DELETE", f"/api/v1/jobs/{name}").status_code == 409
    assert shop.as_(Role.OPERATOR, "DELETE", "/api/v1/jobs/none").status_code == 404


def test_budgets_and_releases_are_told(shop: Running) -> None:
    (budget,) = shop.as_(Role.AUDITOR, "GET", "/api/v1/privacy/budget").json()["budgets"]
    assert 0 < budget["spent"] < budget["cap"]
    assert any(each["artefact"] for each in shop.as_(Role.AUDITOR, "GET", "/api/v1/releases").json()["releases"])
    raised = {"purpose": "train-recommender", "epsilon": 25, "delta": 1e-4}
    assert shop.as_(Role.OWNER, "POST", "/api/v1/privacy/budget", json=raised).status_code == 409
    loose = raised | {"delta": 0.5}
    assert "publishing one person whole" in shop.as_(Role.OWNER, "POST", "/api/v1/privacy/budget", json=loose).text


def test_metrics_tell_of_no_person(shop: Running) -> None:
    shop.as_(Role.OPERATOR, "GET", "/api/v1/recommend/person-1")
    key = shop.agreed("person-1")
    for method, path in (
        ("GET", f"/api/v1/item/{ITEMS[0]}"),
        ("GET", "/api/v1/nothing/person-1"),
        ("GET", f"/api/v1/me/receipts/{shop.records_of(key)[0]['record_id']}/proof?of=person-1"),
        ("GET", f"/api/v1/jobs/{shop.as_(Role.ANALYST, 'GET', '/api/v1/jobs').json()['jobs'][0]['name']}"),
        ("PERSON-1", "/api/v1/items"),
        ("DELETE", f"/api/v1/access/{key.split('_')[1]}"),
    ):
        shop.as_(Role.OPERATOR, method, path, headers={"User-Agent": "person-1", "Idempotency-Key": "person-1"})
    text = shop.as_(Role.OPERATOR, "GET", "/metrics").text
    assert 'route="/api/v1/recommend/{user_id:path}"' in text
    assert {found.name for found in text_string_to_metric_families(text)} == {
        *("discreet_requests", "discreet_requests_created", "discreet_request_seconds"),
        *("discreet_request_seconds_created", "discreet_ready"),
    }
    samples = [sample for found in text_string_to_metric_families(text) for sample in found.samples]
    values: dict[str, set[str]] = {}
    for sample in samples:
        for name, value in sample.labels.items():
            values.setdefault(name, set()).add(value)
    assert {*values} == {"route", "method", "status", "le"}
    documented = {*shop.ask("GET", "/api/v1/openapi.json").json()["paths"], "/api/v1/openapi.json", "none"}
    assert {value.replace(":path}", "}") for value in values["route"]} <= documented
    assert values["method"] <= {*METHODS, "other"}
    assert all(re.fullmatch(r"[1-5]\d\d", value) for value in values["status"])
    assert all(math.isfinite(float(value)) or value == "+Inf" for value in values["le"])


def test_a_key_may_ask_so_often(ended: Settings) -> None:
    with running(replace(ended, per_minute=5)) as found:
        answers = [found.as_(Role.ANALYST, "GET", "/api/v1/items") for _ in range(8)]
        assert [each.status_code for each in answers] == [200] * 5 + [429] * 3
        assert 0 < int(answers[-1].headers["retry-after"]) <= 60
        assert found.as_(Role.AUDITOR, "GET", "/api/v1/items").status_code == 200


def test_a_job_that_was_cut_off_goes_on_after_a_restart_at_no_further_charge(ended: Settings) -> None:
    from discreet.service.jobs import KIND, RUNNING

    with ended.records() as records:
        job = schedule(records, ended.calendar, "2026-01-01", by="a test")
        began = {"began": "2026-01-01T00:00:00Z"}
        records.matters.move(KIND, job.name, ["scheduled"], RUNNING, by="a test", body=began)
    with running(ended) as found:
        for _ in range(400):
            if found.as_(Role.OPERATOR, "GET", f"/api/v1/jobs/{job.name}").json()["state"] == "done":
                break
            time.sleep(0.05)
        assert found.ask("GET", "/api/v1/health/ready").json()["model"] == job.name
    with Ledger(ended.place) as book:
        assert sum(each.release == job.name for each in book.releases()) == 1
        assert book.verify(artefacts=ended.models).ok


def test_a_job_whose_people_changed_after_it_was_charged_is_charged_anew(ended: Settings) -> None:
    from discreet.governance.ledger import Account
    from discreet.service.jobs import KIND, RUNNING

    with ended.records() as records:
        job = schedule(records, ended.calendar, "2026-01-01", by="a test")
        began = {"began": "2026-01-01T00:00:00Z"}
        records.matters.move(KIND, job.name, ["scheduled"], RUNNING, by="a test", body=began)
        before = {each.name for each in records.matters.all(KIND)}
        with records.book() as book:
            book.reserve(Account("shop", "train-recommender"), cost=9, release=job.name, spec="0" * 64, people=["ann"])
    with running(ended) as found:
        for _ in range(400):
            jobs = found.as_(Role.OPERATOR, "GET", "/api/v1/jobs").json()["jobs"]
            mine = next(each for each in jobs if each["name"] == job.name)
            anew = [each["name"] for each in jobs if each["name"] not in before and each["state"] == "done"]
            if mine["state"] == "failed" and anew:
                break
            time.sleep(0.05)
        assert "stays charged" in mine["why"]
        assert found.ask("GET", "/api/v1/health/ready").json()["model"] in anew


def test_nothing_is_acknowledged_into_a_file_that_is_gone(tmp_path: Path) -> None:
    settings = new_settings(tmp_path)
    assert isinstance(settings.place, Path)
    with running(settings) as found:
        key = found.agreed("ann")
        settings.place.rename(tmp_path / "elsewhere")
        refused = found.ask("POST", "/api/v1/me/erase", key)
        assert (refused.status_code, refused.json()["type"]) == (503, "urn:discreet:not-now")
        assert "put it back" in refused.json()["title"]
        assert found.ask("GET", "/api/v1/health/ready").status_code == 503
        (tmp_path / "elsewhere").rename(settings.place)
        assert found.ask("POST", "/api/v1/me/erase", key).status_code == 200


def test_a_server_of_the_database_that_comes_back_is_gone_on_with(tmp_path: Path) -> None:
    try:
        with server_running() as server, running(replace(new_settings(tmp_path), place=server.url())) as found:
            listed = {"items": [{"item_id": item} for item in ITEMS]}
            assert found.as_(Role.OPERATOR, "PUT", "/api/v1/items", json=listed).status_code == 200
            key = found.agreed("ann")
            server.kill()
            assert {found.send(("ann", "i1")).status_code for _ in range(3)} == {503}
            server.start()
            asked = ("GET", "/api/v1/me/access", key), ("PUT", "/api/v1/me/consents/recommend", key)
            for each in asked:  # whoever comes first finds the old connection broken
                assert 200 in {found.ask(*each).status_code for _ in range(2)}
            assert found.send(("ann", "i1")).json()["kept"] == 1
            with found.settings.records() as records:
                assert len(records.vault.own(records.holders.pseudonym("ann"))) == 1
    except Unavailable as reason:
        pytest.skip(str(reason))


def test_consent_and_erasure_do_not_wait_for_a_model(ended: Settings) -> None:
    from discreet.service.jobs import released

    with ended.records() as records:
        path = released(records, ended.models)
    assert path is not None
    content = path.read_bytes()
    path.write_bytes(b"nonsense")
    try:
        with running(ended) as found:
            assert found.ask("GET", "/api/v1/health/ready").status_code == 503
            key = found.agreed("early")
            assert found.ask("POST", "/api/v1/me/erase", key).status_code == 200
    finally:
        path.write_bytes(content)


def test_what_goes_wrong_in_one_task_leaves_no_other_undone(
    ended: Settings, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    from discreet.service import jobs as module

    monkeypatch.setattr(module, "AFTER_TROUBLE", 0.0)
    turns: list[str] = []
    jobs = module.Jobs(ended.records, ended.models, ended.calendar, print, ended.reports)

    def fails(records: object) -> None:
        del records
        turns.append("fails")
        raise MemoryError

    def works(records: object) -> None:
        del records
        turns.append("works")
        if len(turns) >= 4:
            jobs._stop.set()

    jobs._work((fails, works))
    assert turns == ["fails", "works", "fails", "works"]
    assert "MemoryError" in caplog.text


def test_consents_to_other_words_are_ended_once_and_a_stop_waits_for_none_of_it(tmp_path: Path) -> None:
    from discreet.service.jobs import Jobs

    settings = new_settings(tmp_path)
    with settings.records() as records:
        for purpose in PURPOSES:
            records.consents.give("ann", purpose)
    purposes = tuple(replace(purpose, notice_version="2") for purpose in settings.inventory.purposes)
    settings = replace(settings, inventory=replace(settings.inventory, purposes=purposes))
    jobs = Jobs(settings.records, settings.models, settings.calendar, print, settings.reports)
    with settings.records() as records:

        def states() -> list[str]:
            return [str(records.consents.standing("ann", purpose).state) for purpose in PURPOSES]

        jobs._stop.set()
        jobs._bind(records)
        assert states() == ["ConsentInvalidated", "ConsentGiven"]
        jobs._stop.clear()
        jobs._bind(records)
        assert states() == ["ConsentInvalidated"] * 2
        rows = records.journal.head().seq
        jobs._bind(records)
        assert records.journal.head().seq == rows


def test_the_calendar_sets_the_next_release(ended: Settings) -> None:
    with running(replace(ended, calendar=Calendar(every_days=7))) as found:
        for _ in range(100):
            due = [
                job
                for job in found.as_(Role.ANALYST, "GET", "/api/v1/jobs").json()["jobs"]
                if job["state"] == "scheduled"
            ]
            if due:
                break
            time.sleep(0.05)
        key = found.agreed("cleo")
        shows = []
        for purpose in PURPOSES:  # what lists are made for shows at once
            told = found.ask("DELETE", f"/api/v1/me/consents/{purpose}", key).json()
            assert told["next_release"] == due[0]["due"]
            shows.append((purpose, told["record"]["discreet"]["model_effective_from"]))
        assert shows == [("recommend", None), ("train-recommender", due[0]["name"])]
        privacy = found.ask("GET", "/api/v1/me/privacy", key).json()
        assert privacy["next_release"] == due[0]["due"]
