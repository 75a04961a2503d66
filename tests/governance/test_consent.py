"""Consent: what permits, what does not, and what is on record of it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import bindparam, delete, select, update
from systems import RECOMMEND, TRAIN, System, inventory, system

from discreet.errors import Conflict, ConsentMissing, PurposeNotAllowed, SealBroken, SettingError
from discreet.governance import consent, grants, schema
from discreet.governance.checks import now, sha256
from discreet.governance.consent import ANSWER_DAYS, MOST_SAID, SCHEMA_VERSION, State, later
from discreet.governance.inventory import Inventory, Processing
from discreet.governance.keys import Master, new_key
from discreet.governance.ledger import Account, Ledger
from discreet.privacy.accounting import epsilon_of
from discreet.privacy.levels import Level

# Fields that ISO/IEC TS 27560:2023 demands of a record, by section.
HEADER = {"schema_version", "record_id", "pii_principal_id"}
PROCESSING = {
    *("privacy_notice", "language", "purpose", "lawful_basis", "pii_information", "pii_controllers"),
    *("collection_method", "processing_method", "storage_locations", "retention_period"),
    *("recipient_third_parties", "withdrawal_method", "privacy_rights"),
}
PARTY = {"party_id", "party_name", "party_address", "party_contact", "party_type", "party_role"}
EVENT = {"event_time", "validity_duration", "entity_id", "event_type", "event_state"}


@pytest.fixture
def shop(place: str | Path) -> Iterator[System]:
    with system(place) as made:
        yield made


def test_two_states_permit_and_no_other() -> None:
    assert [str(state) for state in State if state.permits] == ["ConsentGiven", "RenewedConsentGiven"]
    assert len(State) == 10


def test_a_receipt_has_what_the_standard_demands(shop: System) -> None:
    receipt = shop.consents.give("ann", TRAIN, level=Level.STRONG, language="pt-BR", effective="shop-0123")
    record = receipt["record"]
    assert {"receipt_id", "schema_version", "record"} <= {*receipt}
    assert receipt["schema_version"] == record["schema_version"] == SCHEMA_VERSION
    assert {*record} >= HEADER | PROCESSING | {"event", "discreet"}
    assert {*record["pii_controllers"][0]} >= PARTY
    assert {*record["event"]} == EVENT
    assert [each["pii_attribute_id"] for each in record["pii_information"]] == ["item_id"]
    assert record["discreet"] == {
        "privacy_level": "strong",
        "epsilon_cap": None,
        "delta": None,
        "unit": None,
        "period": None,
        "gpc_at_event": False,
        "model_effective_from": "shop-0123",
        "prev_record_id": None,
        "journal_row": receipt["journal_row"],
    }
    assert record["privacy_rights"] == [
        *("A7-3", "A13", "A14", "A15", "A16", "A17", "A18", "A19", "A20", "A21", "A22", "A77")
    ]
    assert record["processing_method"].endswith(".")
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
    records = shop.consents.records("ann")
    ids = [record["record_id"] for record in records]
    assert len({*ids}) == 6
    assert [record["discreet"]["prev_record_id"] for record in records] == [None, *ids[:-1]]
    assert shop.consents.standing("ann", RECOMMEND) == consent.NEVER
    assert {name: each.state for name, each in shop.consents.all_as(shop.who("ann")).items()} == {
        RECOMMEND: State.UNKNOWN,
        TRAIN: State.REFUSED,
    }


def test_the_controller_ends_a_consent_and_says_why(shop: System) -> None:
    shop.agree("ann")
    given = shop.consents.records("ann")[-1]
    ended = shop.consents.revoke_as(shop.who("ann"), TRAIN, "she is eleven", effective="2027-01-01T00:00:00Z")
    record = shop.consents.records("ann")[-1]
    assert record == ended["record"]
    assert (record["event"]["event_state"], record["event"]["entity_id"]) == ("ConsentRevoked", "controller's desk")
    assert record["event"]["validity_duration"] is None
    assert record["discreet"]["because"] == "she is eleven"
    assert record["discreet"]["model_effective_from"] == "2027-01-01T00:00:00Z"
    assert record["discreet"]["prev_record_id"] == given["record_id"]
    assert not shop.consents.permits("ann", TRAIN)
    assert shop.consents.permits("ann", RECOMMEND)
    told = shop.journal.linked(ended["journal_row"]).facts
    assert (told["state"], told["by"]) == ("ConsentRevoked", "controller's desk")
    assert "eleven" not in json.dumps(told)
    with pytest.raises(Conflict, match="nothing to end"):
        shop.consents.revoke_as(shop.who("ann"), TRAIN, "twice")
    assert shop.verified().ok
    assert shop.consents.give("ann", TRAIN)["record"]["event"]["event_state"] == "ConsentGiven"
    assert "because" not in shop.consents.records("ann")[-1]["discreet"]


def test_what_waits_for_an_answer_is_ended_too(place: str | Path) -> None:
    master = Master([new_key()])
    with system(place, master) as shop:
        shop.agree("ann")
    with system(place, master, reworded()) as shop:
        assert list(shop.consents.ended()) == [1]
        shop.consents.revoke_as(shop.who("ann"), TRAIN, "the law says so")
        assert not shop.consents.standing("ann", TRAIN).keeps(now())
        assert shop.verified().ok


@pytest.mark.parametrize("because", ["", "x" * 1_001, "a\nb", "\ud800"])
def test_a_reason_that_is_none(shop: System, because: str) -> None:
    shop.agree("ann")
    rows = shop.journal.head()
    with pytest.raises(SettingError, match="say why in a line"):
        shop.consents.revoke_as(shop.who("ann"), TRAIN, because)
    for person in ("bob", "cleo"):
        with pytest.raises(Conflict):
            shop.consents.revoke_as(shop.who(person), TRAIN, "a reason")
    with pytest.raises(PurposeNotAllowed):
        shop.consents.revoke_as(shop.who("ann"), "sell", "a reason")
    assert shop.journal.head() == rows
    assert shop.consents.permits("ann", TRAIN)


def test_any_of_several_purposes_is_enough(shop: System) -> None:
    who, time = shop.who("ann"), "2026-01-01T00:00:00Z"
    assert not shop.consents.agrees(who, (RECOMMEND, TRAIN), time)
    shop.consents.give("ann", TRAIN)
    assert shop.consents.agrees(who, (RECOMMEND, TRAIN), time)
    assert not shop.consents.agrees(who, (RECOMMEND,), time)
    assert not shop.consents.agrees(who, (RECOMMEND, TRAIN), "2099-01-01T00:00:00Z")


def test_of_what_was_changed_nothing_is_believed_but_what_permits_still_does(shop: System) -> None:
    shop.agree("ann")
    who, time = shop.who("ann"), now()
    changed = schema.standing.c.purpose == TRAIN
    shop.database.execute(update(schema.standing).where(changed).values(quarters=4))
    assert shop.consents.agrees(who, (RECOMMEND, TRAIN), time)
    for asked in (shop.consents.agrees, shop.consents.keeps):
        with pytest.raises(SealBroken, match="was changed"):
            asked(who, (TRAIN,), time)
    assert not shop.consents.has_left(who, time, 0)
    with pytest.raises(SealBroken, match="was changed"):
        shop.consents.has_left(who, later(time, 9_999), 0)


@pytest.mark.parametrize("looked", [False, True])
def test_whoever_permits_nothing_has_left_when_nothing_was_noted_for_so_long(
    shop: System, monkeypatch: pytest.MonkeyPatch, looked: bool
) -> None:
    who, time = shop.who("ann"), "2026-01-01T00:00:00Z"
    monkeypatch.setattr(consent, "now", lambda: time)
    shop.consents.give("ann", TRAIN)
    assert not shop.consents.has_left(who, later(time, 99), 5)
    shop.consents.withdraw("ann", TRAIN)
    last = time
    if looked:
        last = later(time, 7)
        monkeypatch.setattr(grants, "now", lambda: last)
        shop.grants.desk(who, ["consents"])
    assert not shop.consents.has_left(who, later(last, 5), 5)
    assert shop.consents.has_left(who, later(last, 5).replace("00Z", "01Z"), 5)
    shop.database.execute(delete(schema.document))
    with pytest.raises(SealBroken, match="is gone"):
        shop.consents.has_left(who, later(last, 6), 5)


def test_of_nobody_who_is_held_nothing_was_noted_last(shop: System) -> None:
    with pytest.raises(SealBroken, match="is gone"):
        shop.consents.documents.latest(shop.who("ann"))


def test_it_runs_out(shop: System, monkeypatch: pytest.MonkeyPatch, place: str | Path) -> None:
    shop.consents.give("ann", TRAIN)
    shop.consents.give("bob", TRAIN)
    until = max(str(shop.consents.standing(name, TRAIN).until) for name in ("ann", "bob"))
    monkeypatch.setattr(consent, "now", lambda: until)
    assert not shop.consents.permits("ann", TRAIN)
    assert list(shop.consents.ended(most=1)) == [1, 1]
    assert list(shop.consents.ended()) == []
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
    assert sum(shop.consents.ended()) == 0
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


def test_what_gives_less_is_never_one_too_many(shop: System, monkeypatch: pytest.MonkeyPatch) -> None:
    who = shop.who("ann")
    shop.consents.give("ann", TRAIN, level=Level.LIGHT)
    monkeypatch.setattr(consent, "MOST_SAID", 1)

    def to(level: Level, **told: Any) -> None:
        shop.consents.change_as(who, TRAIN, level=level, **told)

    to(Level.BALANCED)
    for level in (Level.BALANCED, Level.LIGHT):
        for told in ({}, {"gpc": True}) if level is Level.LIGHT else ({},):
            with pytest.raises(SettingError, match="more than 1 documents"):
                to(level, **told)
    to(Level.BALANCED, gpc=True)
    with pytest.raises(SettingError, match="more than 1 documents"):
        to(Level.BALANCED, gpc=True)  # it was noted
    to(Level.OFF)
    assert shop.consents.standing("ann", TRAIN).level is Level.OFF
    shop.consents.withdraw("ann", TRAIN)
    with pytest.raises(SettingError, match="more than 1 documents"):
        shop.consents.give("ann", TRAIN, level=Level.OFF)


def test_what_is_handed_out_for_two_purposes_does_not_join(shop: System) -> None:
    people = [shop.who(f"p{number}") for number in range(50)]
    sets = [{shop.holders.id_for(purpose, who) for who in people} for purpose in (RECOMMEND, TRAIN)]
    sets.append({shop.holders.id_of_account(who) for who in people})
    assert all(len(each) == 50 for each in sets)
    assert not sets[0] & sets[1]
    assert not (sets[0] | sets[1]) & sets[2]


# Bound to what was agreed to


def reworded(**changes: Any) -> Inventory:
    """Return the example, with another sentence, or other changes, of training."""
    declared, changes = inventory(), changes or {"says": "Sell what you chose."}
    return replace(
        declared,
        purposes=tuple(
            replace(purpose, **changes) if purpose.name == TRAIN else purpose for purpose in declared.purposes
        ),
    )


def test_whoever_agreed_to_other_words_is_asked_anew(place: str | Path) -> None:
    master = Master([new_key()])
    with system(place, master) as shop:
        shop.agree("ann", "bob")
        shop.send(("ann", "a"), ("bob", "b"))
        until = str(shop.consents.standing("ann", TRAIN).until)
    with system(place, master, reworded()) as shop:
        who, stands = shop.who("ann"), shop.consents.standing("ann", TRAIN)
        assert (stands.state, stands.current, stands.asked_anew) == (State.GIVEN, False, True)
        assert not shop.consents.permits("ann", TRAIN)  # before anything was written, too
        assert shop.consents.permits("ann", RECOMMEND)
        assert shop.consents.changed(who, TRAIN) == ["purpose_description"]
        assert list(shop.consents.ended(most=2)) == [2]
        stands = shop.consents.standing("ann", TRAIN)
        assert (stands.state, stands.asked_anew) == (State.INVALIDATED, True)
        assert now() < str(stands.until) <= later(now(), ANSWER_DAYS) < until
        record = shop.consents.records("ann")[-1]
        assert record["event"]["entity_id"] == "discreet"
        assert record["event"]["validity_duration"] is None
        assert record["purpose_description"] == "Sell what you chose."
        assert shop.consents.changed(who, TRAIN) == ["purpose_description"]
        shop.consents.give("ann", TRAIN)
        assert shop.consents.standing("ann", TRAIN).state is State.GIVEN
        assert shop.consents.permits("ann", TRAIN)
        assert shop.consents.changed(who, TRAIN) == []
        assert not shop.consents.permits("bob", TRAIN)
    with Ledger(place) as book:
        assert book.verify().ok


def test_what_a_record_of_before_does_not_say_is_no_change(place: str | Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def before(*told: Any) -> dict[str, str]:
        return {name: value for name, value in party(*told).items() if name != "party_role"}

    master, party = Master([new_key()]), consent._party
    with system(place, master) as shop, monkeypatch.context() as patched:
        patched.setattr(consent, "_party", before)
        patched.setattr(consent, "RIGHTS", ("access", "withdraw"))
        patched.setattr(consent, "METHOD", "see purpose_type")
        assert "party_role" not in shop.consents.give("ann", TRAIN)["record"]["pii_controllers"][0]
    with system(place, master) as shop:
        assert shop.consents.changed(shop.who("ann"), TRAIN) == []
        assert shop.consents.permits("ann", TRAIN)
    with system(place, master, reworded()) as shop:
        assert shop.consents.changed(shop.who("ann"), TRAIN) == ["purpose_description"]
    other = replace(inventory(), controller=replace(inventory().controller, contact="another@example.org"))
    with system(place, master, other) as shop:
        assert shop.consents.changed(shop.who("ann"), TRAIN) == ["pii_controllers"]


def test_to_agree_again_before_it_is_written_is_a_new_consent(place: str | Path) -> None:
    master = Master([new_key()])
    with system(place, master) as shop:
        shop.agree("ann")
    with system(place, master, reworded()) as shop:
        assert shop.consents.give("ann", TRAIN)["record"]["event"]["event_state"] == "ConsentGiven"
        assert shop.consents.give("ann", TRAIN)["record"]["event"]["event_state"] == "RenewedConsentGiven"
        assert list(shop.consents.ended()) == []


def test_what_was_asked_for_decides_and_its_order_does_not() -> None:
    declared = inventory()
    turned = replace(declared, purposes=declared.purposes[::-1], fields=declared.fields[::-1])
    assert turned.terms == declared.terms
    assert replace(declared, risks=()).terms == declared.terms
    others = [
        *(reworded(**{name: "https://x"}) for name in ("says", "notice", "notice_version")),
        *(reworded(recipients=("B Ltd",)), reworded(use="personalize.content.profiling")),
        *(replace(declared, controller=replace(declared.controller, **{name: "x"})) for name in ("name", "contact")),
        replace(declared, fields=tuple(replace(field, retention_days=1) for field in declared.fields)),
        replace(declared, fields=tuple(replace(field, sensitivity="special") for field in declared.fields)),
        replace(declared, fields=tuple(replace(each, purposes=(RECOMMEND, TRAIN)) for each in declared.fields)),
    ]
    assert len({each.terms[TRAIN] for each in (declared, *others)}) == len(others) + 1


def test_a_purpose_that_is_declared_no_more_is_left_as_it_is(place: str | Path) -> None:
    master, declared = Master([new_key()]), inventory()
    with system(place, master) as shop:
        shop.agree("ann")
    fields = tuple(replace(field, purposes=(RECOMMEND,)) for field in declared.fields)
    with system(place, master, replace(declared, purposes=declared.purposes[:1], fields=fields, risks=())) as shop:
        assert list(shop.consents.ended()) == []
        assert not shop.consents.agrees(shop.who("ann"), (TRAIN,), now())
        assert shop.consents.changed(shop.who("nobody"), RECOMMEND) == []


def test_somebody_is_asked_and_answers_later_or_refuses(shop: System) -> None:
    who = shop.who("ann")
    for asked, state, by in ((True, State.REQUESTED, "controller"), (False, State.DEFERRED, "person")):
        event = shop.consents.wait_as(who, TRAIN, asked=asked)["record"]["event"]
        assert (event["event_state"], event["entity_id"]) == (str(state), by)
        stands = shop.consents.standing("ann", TRAIN)
        assert (stands.state, stands.until, stands.asked_anew) == (state, None, False)
        assert not stands.keeps(now())
    shop.consents.give("ann", TRAIN)
    with pytest.raises(Conflict, match="withdraw it first"):
        shop.consents.wait_as(who, TRAIN, asked=True)
    assert shop.consents.permits("ann", TRAIN)
    shop.consents.refuse_as(who, TRAIN)
    assert shop.consents.standing("ann", TRAIN).state is State.REFUSED


def test_to_put_it_off_does_not_put_off_what_is_deleted(place: str | Path) -> None:
    master = Master([new_key()])
    with system(place, master) as shop:
        shop.agree("ann")
    with system(place, master, reworded()) as shop:
        assert list(shop.consents.ended()) == [1]
        until = shop.consents.standing("ann", TRAIN).until
        shop.consents.wait_as(shop.who("ann"), TRAIN, asked=False)
        stands = shop.consents.standing("ann", TRAIN)
        assert (stands.state, stands.until, stands.asked_anew) == (State.DEFERRED, until, True)
        assert stands.keeps(now())
        assert not stands.keeps(str(until))


def test_somebody_whose_key_does_not_open_is_in_nobody_elses_way(place: str | Path) -> None:
    master, people = Master([new_key()]), ["ann", "bob", "cleo"]
    with system(place, master) as shop:
        shop.agree(*people)
    with system(place, master, reworded()) as shop:
        broken, other, _ = people = sorted(people, key=shop.who)
        spoilt = update(schema.holder).where(schema.holder.c.pseudonym == bindparam("who"))
        anothers = select(schema.holder.c.wrapped).where(schema.holder.c.pseudonym == bindparam("who"))
        row = shop.database.one(anothers, who=shop.who(other))
        assert row is not None
        shop.database.execute(spoilt.values(wrapped=bindparam("bad")), who=shop.who(broken), bad=row[0])
        assert list(shop.consents.ended(most=1)) == [0, 1, 1]
        assert {shop.consents.standing(name, TRAIN).state for name in people[1:]} == {State.INVALIDATED}
        with pytest.raises(SealBroken):
            shop.consents.permits(broken, TRAIN)


# Changes of what stands


def test_another_level_keeps_state_and_end(shop: System, monkeypatch: pytest.MonkeyPatch) -> None:
    for state in (State.GIVEN, State.RENEWED):
        shop.consents.give("ann", TRAIN)
        until = str(shop.consents.standing("ann", TRAIN).until)
        at = later(until, -2)
        with monkeypatch.context() as patched:
            patched.setattr(consent, "now", lambda at=at: at)
            record = shop.consents.change_as(shop.who("ann"), TRAIN, level=Level.STRONG)["record"]
        stands = shop.consents.standing("ann", TRAIN)
        assert (stands.state, stands.level, stands.until) == (state, Level.STRONG, until)
        assert record["event"]["event_state"] == str(state)
        assert record["event"]["validity_duration"] == "P2D"
    with pytest.raises(ConsentMissing, match="agree to it first"):
        shop.consents.change_as(shop.who("bob"), TRAIN, level=Level.STRONG)
    assert consent._lasting("2026-01-01T00:00:00Z", "2026-01-02T00:00:05Z") == "P1DT5S"


def test_another_level_does_not_undo_the_signal(place: str | Path) -> None:
    with system(
        place, declared=replace(reworded(recipients=("B Ltd",)), minimisation=inventory(gpc="strong").minimisation)
    ) as shop:
        who = shop.who("ann")
        given = shop.consents.give("ann", TRAIN, level=Level.LIGHT, language="pt")["record"]
        assert given["recipient_third_parties"] == ["B Ltd"]
        assert shop.consents.unsignalled(who) == {TRAIN: "pt"}
        noted = shop.consents.change_as(who, TRAIN, gpc=True)["record"]
        assert (noted["recipient_third_parties"], noted["discreet"]["privacy_level"]) == ([], "strong")
        assert shop.consents.unsignalled(who) == {}
        raised = shop.consents.change_as(who, TRAIN, level=Level.LIGHT)["record"]
        assert raised["discreet"]["gpc_at_event"]
        assert raised["recipient_third_parties"] == []
        assert shop.consents.standing("ann", TRAIN).level is Level.STRONG
        shop.consents.give("ann", TRAIN, level=Level.LIGHT)
        assert shop.consents.standing("ann", TRAIN).level is Level.LIGHT


def test_a_record_that_does_not_open_keeps_nobody_from_withdrawing(place: str | Path) -> None:
    with system(place, declared=inventory(gpc="off")) as shop:
        shop.consents.give("ann", TRAIN)
        spoilt = update(schema.document).where(schema.document.c.pseudonym == bindparam("who"))
        shop.database.execute(spoilt.values(content=bindparam("bad")), who=shop.who("ann"), bad=bytes(40))
        assert shop.consents.unsignalled(shop.who("ann")) == {}
        changed = shop.consents.change_as(shop.who("ann"), TRAIN, level=Level.LIGHT)["record"]["discreet"]
        assert (changed["gpc_at_event"], changed["privacy_level"], changed["prev_record_id"]) == (True, "off", None)
        shop.consents.withdraw("ann", TRAIN)
        assert not shop.consents.permits("ann", TRAIN)


# What a record tells


def test_a_record_tells_what_the_budget_promises_at_the_level(shop: System, place: str | Path) -> None:
    with Ledger(place) as book:
        account = book.open_budget(Account("shop", TRAIN), epsilon=2.0, delta=1e-4)

    def told(level: Level) -> dict[str, Any]:
        found: dict[str, Any] = shop.consents.give("ann", TRAIN, level=level)["record"]["discreet"]
        return found

    found = {level: told(level) for level in Level}
    assert found[Level.LIGHT]["epsilon_cap"] == pytest.approx(2.0, rel=1e-3)
    assert found[Level.LIGHT]["epsilon_cap"] <= 2.0
    assert found[Level.OFF]["epsilon_cap"] == 0.0
    assert found[Level.STRONG]["epsilon_cap"] == pytest.approx(epsilon_of(account.cap // 16, 1e-4), rel=1e-3)
    assert [found[level]["epsilon_cap"] for level in Level] == sorted(found[level]["epsilon_cap"] for level in Level)
    assert {(each["delta"], each["unit"], each["period"]) for each in found.values()} == {
        (1e-4, "person", "all releases")
    }
    assert shop.consents.give("ann", RECOMMEND)["record"]["discreet"]["epsilon_cap"] is None


def test_personal_caps_and_ends_are_told_too(shop: System, place: str | Path) -> None:
    with Ledger(place) as book:
        account = Account("shop", TRAIN)
        book.open_budget(account, epsilon=8.0, delta=1e-4, person_epsilon=1.0, until="2099-01-01T00:00:00Z")
    told = shop.consents.give("ann", TRAIN, level=Level.LIGHT)["record"]["discreet"]
    assert told["epsilon_cap"] == pytest.approx(1.0, rel=1e-3)
    assert told["period"] == "all releases until 2099-01-01T00:00:00Z"


def test_a_record_has_what_the_inventory_states_and_nothing_else(place: str | Path) -> None:
    stated = {
        *("processing_locations", "geographic_restrictions", "jurisdiction", "services", "codes_of_conduct"),
        *("impact_assessment", "authority_party"),
    }
    reached = {"party_email", "party_url", "party_phone"}
    master, declared = Master([new_key()]), inventory()
    with system(place, master) as shop:
        record = shop.consents.give("ann", TRAIN)["record"]
        assert {*record} >= stated
        assert record["processing_locations"] == ["EU"]
        assert record["storage_locations"] == ["EU"]
        assert record["authority_party"]["party_type"] == "SupervisoryAuthority"
        assert record["authority_party"]["party_role"] == "DataProtectionAuthority"
        assert record["pii_controllers"][0]["party_role"] == "DataController"
        assert {*record["authority_party"]} == PARTY | {"party_url"}
        assert {*record["pii_controllers"][0]} == PARTY | reached | {"party_officer"}
    bare = replace(declared, controller=replace(declared.controller, email="", url="", phone=""))
    bare = replace(bare, processing=Processing(), authority=None)
    with system(place, master, bare) as shop:
        record = shop.consents.give("ann", TRAIN)["record"]
        assert not {*record} & stated
        assert record["storage_locations"] == ["shop"]
        assert not {*record["pii_controllers"][0]} & reached
