"""Receipts in the older form: what is shared, sensitive or not stated is said so."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from systems import TRAIN, inventory, system

from discreet.governance.inventory import Processing
from discreet.governance.receipts import UNSTATED, kantara


@pytest.fixture
def record(place: str | Path) -> Iterator[dict[str, Any]]:
    """Of a consent to give something sensitive to others, by a controller of whom little is stated."""
    declared = inventory()
    shared = tuple(replace(purpose, recipients=("B Ltd", "C Ltd")) for purpose in declared.purposes)
    special = tuple(replace(field, sensitivity="special") for field in declared.fields)
    bare = replace(declared.controller, email="", url="", phone="")
    declared = replace(declared, purposes=shared, fields=special, controller=bare, processing=Processing())
    with system(place, declared=declared) as shop:
        yield shop.consents.give("ann", TRAIN)["record"]


def test_what_is_shared_and_sensitive_is_said(record: dict[str, Any]) -> None:
    receipt = kantara(record, "ab" * 32)
    ((purpose,),) = [service["purposes"] for service in receipt["services"]]
    assert (purpose["thirdPartyDisclosure"], purpose["thirdPartyName"]) == (True, "B Ltd, C Ltd")
    assert (receipt["sensitive"], receipt["spiCat"]) == (True, purpose["piiCategory"])
    assert receipt["publicKey"] == "ab" * 32
    assert purpose["termination"].endswith("or after P365D")


def test_what_is_not_stated_is_said_to_be_so(record: dict[str, Any]) -> None:
    receipt = kantara(record)
    (controller,) = receipt["piiControllers"]
    assert {receipt["jurisdiction"], controller["email"], controller["phone"]} == {UNSTATED}
    assert "piiControllerUrl" not in controller
    assert receipt["services"][0]["service"] == TRAIN
    assert "publicKey" not in receipt
