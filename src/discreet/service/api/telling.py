"""What one person is told of what is promised to them: the words of `words`, with the numbers of what runs here."""

from __future__ import annotations

from typing import Any

from discreet.data.records import Records
from discreet.governance.accounts import AccountState, PersonState
from discreet.governance.checks import now
from discreet.governance.duties import AUDIT
from discreet.governance.duties import KIND as DUTY
from discreet.governance.grants import OPENED
from discreet.governance.ledger import Account
from discreet.privacy.accounting import cap
from discreet.privacy.levels import OFFERED, Level
from discreet.service import words
from discreet.service.api.house import House, told_of
from discreet.service.rights import due


def promised(records: Records, house: House, pseudonym: bytes) -> dict[str, Any]:
    """Return what is promised to somebody: sentences, a label, and the numbers that they are of."""
    declared, calendar = records.inventory, house.settings.calendar
    account = Account(declared.name, calendar.purpose)
    with records.book() as book:
        person = book.person(declared.name, records.holders.id_of_account(pseudonym))
        open_now = [each for each in book.accounts() if each.account == account]
    budget, model = (open_now[0] if open_now else None), (house.model if house.ready else None)
    price = _price(house, budget)
    stands = records.consents.all_as(pseudonym).get(calendar.purpose)
    level = stands.level if stands is not None and stands.permits(now()) else Level.OFF
    who = declared.controller.name
    said = {
        "level": words.card(level, price) if price else None,
        "joining": words.joining(level, price) if price else None,
        "not_covered": words.unprotected(who),
        "theft": words.theft(level, price),
        "budget": _budget(records, house, budget, person, level, price),
    }
    return {
        "said": {name: sentence for name, sentence in said.items() if sentence},
        "label": words.label(
            level=level,
            price=price,
            controller=who,
            recipients=sorted({each for purpose in declared.purposes for each in purpose.recipients}),
            retention_days=declared.retention_days,
            looks=len(records.consents.documents.of(pseudonym, OPENED)),
            unit=account.unit,
            until=budget.until if budget else None,
            measured=_measured(records),
        ),
        "levels": {str(each): words.card(each, price) for each in (Level.OFF, *OFFERED)} if price else {},
        "spent_units": person.spent,
        "model": told_of(model) if model else None,
        "next_release": due(records),
    }


def _price(house: House, budget: AccountState | None) -> words.Price | None:
    """Return what a model costs whoever takes part: the one that is served or, while there is none, the next."""
    found = words.Price.of(house.model.guarantee) if house.ready else None
    if found is None and budget is not None:
        return words.Price.planned(cap(house.settings.calendar.epsilon, budget.delta), budget.delta)
    return found


def _budget(
    records: Records,
    house: House,
    budget: AccountState | None,
    person: PersonState,
    level: Level,
    price: words.Price | None,
) -> str | None:
    if budget is None or price is None:
        return None
    limit = budget.cap if person.cap is None else person.cap
    means = words.Means(person.spent, person.held, limit, budget.left, price.units[Level.LIGHT])
    return words.budget(means, level, price, budget.delta, house.settings.calendar.every_days, due(records))


def _measured(records: Records) -> str | None:
    """Return what the last audit of this installation found, and when."""
    duty = records.matters.find(DUTY, AUDIT)
    if duty is None or not duty.body["done"]:
        return None
    return f"{words.day(str(duty.body['done']))}: {str(duty.body['found']).partition(';')[0]}"
