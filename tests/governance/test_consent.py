"""Consent: what permits, what does not, and what is on record of it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import update
from systems import RECOMMEND, TRAIN, System, inventory, system

from discreet.errors import PurposeNotAllowed, SettingError
from discreet.governance import consent, schema
from discreet.governance.checks import sha256
from discreet.governance.consent import MOST_SAID, SCHEMA_VERSION, State
from discreet.governance.ledger import Ledger
from discreet.privacy.levels import Level

# Fields that ISO/IEC TS 27560:2023 demands of a record, by section.
HEADER = {"schema_version", "record_id", "pii_principal_id"}
PROCESSING = {
    *("privacy_notice", "language", "purpose", "lawful_basis", "pii_information", "pii_controllers"),
    *("collection_method", "processing_method", "storage_locations", "retention_period"),
    *("recipient_third_parties", "withdrawal_method", "privacy_rights"),
}
PARTY = {"party_id", "party_name", "party_address", "party_contact", "party_type"}
EVENT = {"event_time", "validity_duration", "entity_id", "event_type", "event_state"}


@pytest.fixture
def shop(place: str | Path) -> Iterator[System]:
    with system(place) as made:
        yield made


def test_two_states_permit_and_no_other() -> None:
    assert [str(state) for state in State if state.permits] == ["ConsentGiven", "RenewedConsentGiven"]
    assert len(State) == 10


def test_a_receipt_has_what_the_standard_demands(shop: System) -> None:
    receipt = shop.consents.give("ann", TRAIN, level=Level.STRONG, language="pt-BR", effective="2027-01-01T00:00:00Z")
    record = receipt["record"]
    assert {"receipt_id", "schema_version", "record"} <= {*receipt}
    assert receipt["schema_version"] == record["schema_version"] == SCHEMA_VERSION
    assert {*record} >= HEADER | PROCESSING | {"event", "discreet"}
    assert {*record["pii_controllers"][0]} >= PARTY
    assert {*record["event"]} == EVENT
    assert [each["pii_attribute_id"] for each in record["pii_information"]] == ["item_id"]
    assert record["discreet"] == {
        "level": "strong",
        "gpc_at_event": False,
        "model_effective_from": "2027-01-01T00:00:00Z",
        "prev_record": None,
    }
    assert "ann" not in json.dumps(receipt)
    assert shop.consents.records("ann") == [record]
    entry = shop.journal.linked(receipt["journal_row"])
    import rfc8785

    assert entry.facts["record"] == sha256(rfc8785.dumps(record))
    assert entry.facts["who"] == shop.holders.token(shop.who("ann"))


def test_it_is_given_renewed_withdrawn_and_given_again(shop: System) -> None:
    def said() -> str:
        return str(shop.consents.standing("ann", TRAIN).state)

    assert said() == "ConsentUnknown"
    assert not shop.consents.permits("ann", TRAIN)
    for step, state, permits in (
        (shop.consents.give, "ConsentGiven", True),
        (shop.consents.give, "RenewedConsentGiven", True),
        (shop.consents.withdraw, "ConsentWithdrawn", False),
        (shop.consents.withdraw, "ConsentWithdrawn", False),
        (shop.consents.give, "ConsentGiven", True),
        (shop.consents.refuse, "ConsentRefused", False),
    ):
        step("ann", TRAIN)
        assert said() == state
        assert shop.consents.permits("ann", TRAIN) is permits
    assert [record["discreet"]["prev_record"] for record in shop.consents.records("ann")] == [None, 0, 1, 2, 3, 4]
    assert shop.consents.standing("ann", RECOMMEND) == consent.NEVER
    assert {name: each.state for name, each in shop.consents.all_as(shop.who("ann")).items()} == {
        RECOMMEND: State.UNKNOWN,
        TRAIN: State.REFUSED,
    }


def test_any_of_several_purposes_is_enough(shop: System) -> None:
    who, time = shop.who("ann"), "2026-01-01T00:00:00Z"
    assert not shop.consents.agrees(who, (RECOMMEND, TRAIN), time)
    shop.consents.give("ann", TRAIN)
    assert shop.consents.agrees(who, (RECOMMEND, TRAIN), time)
    assert not shop.consents.agrees(who, (RECOMMEND,), time)
    assert not shop.consents.agrees(who, (RECOMMEND, TRAIN), "2099-01-01T00:00:00Z")


def test_it_runs_out(shop: System, monkeypatch: pytest.MonkeyPatch, place: str | Path) -> None:
    shop.consents.give("ann", TRAIN)
    shop.consents.give("bob", TRAIN)
    until = max(str(shop.consents.standing(name, TRAIN).until) for name in ("ann", "bob"))
    monkeypatch.setattr(consent, "now", lambda: until)
    assert not shop.consents.permits("ann", TRAIN)
    assert shop.consents.expired(most=1) == 1
    assert shop.consents.expired() == 1
    assert shop.consents.expired() == 0
    assert shop.consents.standing("ann", TRAIN).state is State.EXPIRED
    assert shop.consents.records("ann")[-1]["event"]["entity_id"] == "discreet"
    shop.consents.give("ann", TRAIN)
    assert shop.consents.standing("ann", TRAIN).state is State.RENEWED
    with Ledger(place) as book:
        assert book.verify().ok


@pytest.mark.parametrize("change", ["its end", "the key"])
def test_one_that_was_changed_does_not_run_out(shop: System, change: str) -> None:
    """Whoever writes into the database does not have the service write that somebody's consent ended."""
    shop.consents.give("ann", TRAIN)
    who, past = shop.who("ann"), {"until": "2020-01-01T00:00:00Z"}
    shop.database.execute(update(schema.standing).where(schema.standing.c.pseudonym == who).values(**past))
    if change == "the key":
        shop.database.execute(update(schema.holder).where(schema.holder.c.pseudonym == who).values(wrapped=b"other"))
    rows = shop.journal.head()
    assert shop.consents.expired() == 0
    assert shop.journal.head() == rows


@pytest.mark.parametrize(("gpc", "level"), [("no-sharing", Level.LIGHT), ("strong", Level.STRONG), ("off", Level.OFF)])
def test_the_browsers_signal_is_noted_and_kept(place: str | Path, gpc: str, level: Level) -> None:
    with system(place, declared=inventory(gpc=gpc)) as shop:
        record = shop.consents.give("ann", TRAIN, level=Level.LIGHT, gpc=True)["record"]
        assert record["discreet"]["gpc_at_event"]
        assert record["recipient_third_parties"] == []
        assert shop.consents.standing("ann", TRAIN).level is level
        shop.consents.give("bob", TRAIN, level=Level.LIGHT)
        assert shop.consents.standing("bob", TRAIN).level is Level.LIGHT


def test_refusals(shop: System) -> None:
    with pytest.raises(PurposeNotAllowed):
        shop.consents.give("ann", "sell")
    for language in ("", "e", "en_GB", "naïf", "e" * 40):
        with pytest.raises(SettingError, match="BCP 47"):
            shop.consents.give("ann", TRAIN, language=language)
    with pytest.raises(SettingError, match="characters that print"):
        shop.consents.give("", TRAIN)
    assert len(shop.holders) == 0


def test_what_repeats_itself_is_stopped(shop: System, monkeypatch: pytest.MonkeyPatch) -> None:
    assert MOST_SAID > 100
    monkeypatch.setattr(consent, "MOST_SAID", 2)
    shop.consents.give("ann", TRAIN)
    shop.consents.give("ann", TRAIN)
    with pytest.raises(SettingError, match="more than 2 documents"):
        shop.consents.give("ann", TRAIN)
    shop.consents.withdraw("ann", TRAIN)
    assert not shop.consents.permits("ann", TRAIN)
    shop.consents.refuse("ann", TRAIN)


def test_what_is_handed_out_for_two_purposes_does_not_join(shop: System) -> None:
    people = [shop.who(f"p{number}") for number in range(50)]
    sets = [{shop.holders.id_for(purpose, who) for who in people} for purpose in (RECOMMEND, TRAIN)]
    sets.append({shop.holders.id_of_account(who) for who in people})
    assert all(len(each) == 50 for each in sets)
    assert not sets[0] & sets[1]
    assert not (sets[0] | sets[1]) & sets[2]
