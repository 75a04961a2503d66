"""The inventory in force: the first start puts it there, two people change it, a file alone does not."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from systems import System, system

from discreet.errors import DataError, SettingError
from discreet.governance import policy
from discreet.governance.inventory import example
from discreet.governance.ledger import Ledger
from discreet.service.api.recommending import PURPOSE
from discreet.service.jobs import Calendar


@pytest.fixture
def shop(place: str | Path) -> Iterator[System]:
    with system(place) as made:
        yield made


def test_it_is_put_in_force_changed_and_on_record(shop: System, place: str | Path) -> None:
    first, second = example("shop"), example("shop").replace("retention_days = 730", "retention_days = 90")
    assert policy.in_force(shop.matters) is None
    assert policy.put(shop.matters, first, by="first start").retention_days == 730
    assert policy.in_force(shop.matters) == first
    assert policy.put(shop.matters, second, by="ann, bob").retention_days == 90
    assert policy.in_force(shop.matters) == second
    told = [entry.facts["by"] for entry in shop.journal.rows() if entry.kind == policy.KIND]
    assert told == ["first start", "ann, bob"]
    with Ledger(place) as book:
        assert book.verify().ok


def test_it_is_noted_once_that_two_decide_and_stays(shop: System) -> None:
    for deciders in ([], ["ann"]):
        policy.note_two(shop.matters, deciders)
        assert not policy.takes_two(shop.matters)
    policy.note_two(shop.matters, ["ann", "bob"])
    rows = shop.journal.head()
    for deciders in (["ann", "bob"], ["ann"], []):
        policy.note_two(shop.matters, deciders)
        assert policy.takes_two(shop.matters)
    assert shop.journal.head() == rows


def test_what_is_not_put_in_force(shop: System) -> None:
    policy.put(shop.matters, example("shop"), by="first start")
    with pytest.raises(DataError):
        policy.put(shop.matters, "format = 1", by="ann, bob")
    with pytest.raises(SettingError, match="keeps its name"):
        policy.put(shop.matters, example("books"), by="ann, bob")
    assert set(policy.NEEDED) == {PURPOSE, Calendar().purpose}
    for purpose, other in (policy.NEEDED, policy.NEEDED[::-1]):
        undeclared = example("shop").replace(f'"{purpose}"', '"another"')
        unread = example("shop").replace('["recommend", "train-recommender"]', f'["{other}"]')
        for toml in (undeclared, unread):
            with pytest.raises(SettingError, match=f"needs the purpose {purpose}, and that item_id is read for it"):
                policy.put(shop.matters, toml, by="ann, bob")
    assert policy.in_force(shop.matters) == example("shop")
