"""Who may what, over HTTP: every operation of the OpenAPI document, with each role's key, with narrowed ones, and none.

What a route needs is written out here a second time; one that is missing fails. Where something is allowed the request
is of no use, or about nothing that is there, so that little is done.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from services import ITEMS, PEOPLE, Running, running, seed

from discreet.governance.inventory import example
from discreet.governance.roles import BY_TWO, MATRIX, Permission, Role
from discreet.service.api.house import Settings

P = Permission

ANY: frozenset[Permission] = frozenset(P)

ROUTES: dict[tuple[str, str], Permission | frozenset[Permission] | None] = {
    ("GET", "/api/v1/me/consents"): P.OWN,
    ("PUT", "/api/v1/me/consents/{purpose}"): P.OWN,
    ("DELETE", "/api/v1/me/consents/{purpose}"): P.OWN,
    ("POST", "/api/v1/me/consents/{purpose}/asked"): P.OWN,
    ("PUT", "/api/v1/me/level"): P.OWN,
    ("GET", "/api/v1/me/access"): P.OWN,
    ("GET", "/api/v1/me/export"): P.OWN,
    ("POST", "/api/v1/me/correct"): P.OWN,
    ("POST", "/api/v1/me/object"): P.OWN,
    ("POST", "/api/v1/me/erase"): P.OWN,
    ("GET", "/api/v1/me/receipts"): P.OWN,
    ("GET", "/api/v1/me/receipts/{receipt_id}/proof"): P.OWN,
    ("GET", "/api/v1/me/privacy"): P.OWN,
    ("GET", "/api/v1/me/recommendations"): P.OWN,
    ("GET", "/api/v1/me/explained"): P.OWN,
    ("POST", "/api/v1/events"): P.SEND_EVENTS,
    ("GET", "/api/v1/recommend/{user_id}"): P.ASK_FOR_PEOPLE,
    ("POST", "/api/v1/session/recommend"): P.ASK_FOR_PEOPLE,
    ("POST", "/api/v1/people/{user_id}/key"): P.SIGN_PEOPLE_IN,
    ("PUT", "/api/v1/items"): P.SET_ITEMS,
    ("GET", "/api/v1/items"): P.SEE_ITEMS,
    ("GET", "/api/v1/item/{item_id}"): P.SEE_ITEMS,
    ("GET", "/api/v1/item-to-item/similar/{item_id}"): P.SEE_ITEMS,
    ("GET", "/api/v1/non-personalized/popular"): P.SEE_ITEMS,
    ("GET", "/api/v1/privacy/guarantee"): P.SEE_ITEMS,
    ("GET", "/api/v1/privacy/budget"): P.SEE_BUDGETS,
    ("GET", "/api/v1/releases"): P.SEE_BUDGETS,
    ("POST", "/api/v1/privacy/budget"): P.OPEN_BUDGET,
    ("POST", "/api/v1/jobs"): P.TRAIN,
    ("DELETE", "/api/v1/jobs/{name}"): P.TRAIN,
    ("GET", "/api/v1/jobs"): P.SEE_JOBS,
    ("GET", "/api/v1/jobs/{name}"): P.SEE_JOBS,
    ("GET", "/api/v1/access"): P.SET_ACCESS,
    ("POST", "/api/v1/access"): P.SET_ACCESS,
    ("DELETE", "/api/v1/access/{name}"): P.SET_ACCESS,
    ("POST", "/api/v1/accounts"): P.SET_ACCESS,
    ("GET", "/api/v1/roles"): P.SEE_GOVERNANCE,
    ("GET", "/api/v1/motions"): P.SEE_GOVERNANCE,
    ("GET", "/api/v1/grants"): P.SEE_GOVERNANCE,
    ("GET", "/api/v1/incidents"): P.SEE_GOVERNANCE,
    ("GET", "/api/v1/duties"): P.SEE_GOVERNANCE,
    ("GET", "/api/v1/inventory"): P.SEE_GOVERNANCE,
    ("GET", "/api/v1/risks"): P.SEE_GOVERNANCE,
    ("POST", "/api/v1/motions"): P.SEE_BUDGETS,  # and what `MOTIONS` says
    ("POST", "/api/v1/motions/{name}/agree"): P.SEE_BUDGETS,
    ("POST", "/api/v1/motions/{name}/refuse"): P.SEE_BUDGETS,
    ("GET", "/api/v1/grants/{name}/people/{user_id}"): P.USE_GRANT,
    ("POST", "/api/v1/grants/{name}/close"): P.USE_GRANT,
    ("POST", "/api/v1/incidents"): P.RECORD_INCIDENT,
    ("POST", "/api/v1/incidents/{name}"): P.RECORD_INCIDENT,
    ("POST", "/api/v1/duties/{name}/done"): P.DO_DUTY,
    ("GET", "/api/v1/journal"): P.SEE_JOURNAL,
    ("GET", "/api/v1/journal/head"): P.SEE_JOURNAL,
    ("GET", "/api/v1/journal/rows/{row}/proof"): P.SEE_JOURNAL,
    ("POST", "/api/v1/journal/consistency"): P.SEE_JOURNAL,
    ("GET", "/metrics"): P.SEE_METRICS,
    ("POST", "/api/v1/sessions"): None,
    ("GET", "/api/v1/erasures/{receipt_id}"): None,
    ("GET", "/api/v1/erasures/{receipt_id}/proof"): None,
    ("GET", "/api/v1/health/live"): None,
    ("GET", "/api/v1/health/ready"): None,
    ("GET", "/.well-known/gpc.json"): None,
    ("DELETE", "/api/v1/sessions"): ANY,  # last: it ends the key
}
"""What each operation needs; `ANY`: a key; None: not even that."""

MOTIONS: dict[Permission, dict[str, Any]] = {
    P.RAISE_CAP: {"purpose": "train-recommender", "epsilon": 25},
    P.OPEN_GRANT: {"user_id": PEOPLE[0], "reason": "safety", "fields": ["events"]},
    P.SET_POLICY: {"inventory": example("shop")},
    P.MAKE_DECIDER: {"role": "owner", "owner": "D. Sato"},
}
"""What is asked for that takes two, by what it needs."""

PARTS = {"purpose": "recommend", "receipt_id": "0" * 36, "user_id": PEOPLE[0], "item_id": ITEMS[0]}
PARTS |= {"name": "none", "row": "0"}

NARROWED = {
    "application": (Role.OPERATOR, [P.SEND_EVENTS, P.ASK_FOR_PEOPLE]),
    "decider": (Role.OWNER, [P.SEE_BUDGETS, *sorted(BY_TWO & MATRIX[Role.OWNER], key=str)]),
}
VISITORS = [*map(str, Role), *NARROWED, "nobody"]


@pytest.fixture(scope="module")
def shop(another: Callable[[], Settings]) -> Iterator[Running]:
    with running(another()) as found:
        seed(found)
        yield found


def key_of(shop: Running, visitor: str) -> str | None:
    """Return a new key, since what is asked for with it may end it."""
    if visitor == "nobody":
        return None
    if visitor == str(Role.PERSON):
        return shop.agreed("a visitor")
    role, only = NARROWED[visitor] if visitor in NARROWED else (Role(visitor), None)
    with shop.settings.records() as records:
        return records.access.make(role, "a visitor", only=only)


def may(visitor: str) -> frozenset[Permission]:
    if visitor == "nobody":
        return frozenset()
    if visitor in NARROWED:
        return frozenset(NARROWED[visitor][1])
    return MATRIX[Role(visitor)]


def documented(shop: Running) -> set[tuple[str, str]]:
    paths = shop.ask("GET", "/api/v1/openapi.json").json()["paths"]
    return {(method.upper(), path) for path, operations in paths.items() for method in operations}


def check(found: Any, visitor: str, *, is_allowed: bool) -> str | None:
    """Return what is wrong with an answer, if something is."""
    kind = found.json().get("type") if "problem+json" in found.headers["content-type"] else None
    expected = None if is_allowed else (401, "not-known") if visitor == "nobody" else (403, "not-allowed")
    if expected is None:
        return f"refused: {found.text}" if found.status_code in {401, 403} or found.status_code >= 500 else None
    wrong = (found.status_code, kind) != (expected[0], f"urn:discreet:{expected[1]}")
    return f"{found.status_code} {kind}, not {expected}" if wrong else None


def test_every_operation_is_in_the_table_and_every_permission_is_needed(shop: Running) -> None:
    assert documented(shop) == {*ROUTES}
    assert {each for each in ROUTES.values() if isinstance(each, Permission)} | {*MOTIONS} == {*Permission}
    assert {*MOTIONS} == BY_TWO


@pytest.mark.parametrize("visitor", VISITORS)
def test_each_key_opens_what_the_matrix_says_and_nothing_else(shop: Running, visitor: str) -> None:
    key, wrong = key_of(shop, visitor), []
    for (method, path), permission in ROUTES.items():
        key = key_of(shop, visitor) if visitor == str(Role.PERSON) else key
        told = {} if method in {"GET", "DELETE"} else {"json": {"nonsense": 1}}
        where = path.format(**PARTS) + ("?hours=0" if path.endswith("/key") else "")
        needed = permission if isinstance(permission, frozenset) else {permission}
        is_allowed = None in needed or bool(needed & may(visitor))
        if "/motions" in path and method == "POST" and visitor in NARROWED:
            is_allowed = False  # nothing that takes two is decided with a narrowed key
        problem = check(shop.ask(method, where, key, **told), visitor, is_allowed=is_allowed)
        wrong += [f"{method} {path}: {problem}"] if problem else []
    assert not wrong


@pytest.mark.parametrize("visitor", VISITORS)
@pytest.mark.parametrize("permission", MOTIONS, ids=str)
def test_what_takes_two_is_asked_for_by_whoever_may(shop: Running, permission: Permission, visitor: str) -> None:
    motion = {"permission": str(permission)} | MOTIONS[permission]
    found = shop.ask("POST", "/api/v1/motions", key_of(shop, visitor), json={"motion": motion})
    is_allowed = visitor not in NARROWED and permission in may(visitor)
    assert check(found, visitor, is_allowed=is_allowed) is None


def test_the_matrix_is_told_and_so_it_is_to_auditors(shop: Running) -> None:
    told = shop.as_(Role.AUDITOR, "GET", "/api/v1/roles").json()["matrix"]
    assert len(told) == len(Role) * len(Permission)
    assert {(each["role"], each["permission"]) for each in told if each["allowed"]} == {
        (str(role), str(permission)) for role in Role for permission in MATRIX[role]
    }
    assert {each["permission"] for each in told if each["by_two"]} == {str(each) for each in BY_TWO}
    found = shop.as_(Role.AUDITOR, "GET", "/api/v1/roles?format=casbin")
    assert found.headers["content-type"].startswith("text/csv")
    rows = list(csv.reader(found.text.splitlines(), skipinitialspace=True))
    assert all((row[0], row[3]) == ("p", "allow") for row in rows)
    assert [(row[1], row[2]) for row in rows] == [(e["role"], e["permission"]) for e in told if e["allowed"]]
    assert shop.as_(Role.AUDITOR, "GET", "/api/v1/roles?format=xml").status_code == 422
