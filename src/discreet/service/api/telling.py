"""What one person is told of what is promised to them: the words of `words`, with the numbers of what runs here."""

from __future__ import annotations

from typing import Any

from discreet.data.records import Records
from discreet.governance.checks import now
from discreet.governance.duties import AUDIT
from discreet.governance.duties import KIND as DUTY
from discreet.governance.grants import OPENED
from discreet.governance.ledger import Account, Ledger
from discreet.privacy.accounting import cap, odds_of
from discreet.privacy.guarantee import hundred
from discreet.privacy.levels import OFFERED, Level
from discreet.service import words
from discreet.service.api.house import House, told_of
from discreet.service.jobs import KIND
from discreet.service.rights import due, is_paid


def promised(records: Records, house: House, pseudonym: bytes) -> dict[str, Any]:
    """Return what is promised to somebody: sentences, a label, and the numbers that they are of."""
    declared, calendar, model = records.inventory, house.settings.calendar, house.model if house.ready else None
    stands = records.consents.all_as(pseudonym).get(calendar.purpose)
    level = stands.level if stands is not None and stands.permits(now()) else Level.OFF
    pending = model is not None and _is_pending(records, pseudonym, str(model.release), calendar.purpose)
    served, planned, spending = words.Price.of(model.guarantee) if model else None, None, None
    odds = served and served.odds(Level.LIGHT if pending or level is Level.OFF else level)  # it may have learnt at that
    account, who, next_due = Account(declared.name, calendar.purpose), declared.controller.name, due(records)
    paid, book = is_paid(records, calendar.purpose), Ledger(records.database)
    person = book.person(declared.name, records.holders.id_of_account(pseudonym))
    budgets = {each.account: each for each in book.accounts() if each.account.dataset == declared.name}
    budget = budgets.get(account)
    if budget is not None:
        planned = words.Price.planned(cap(calendar.epsilon, budget.delta), budget.delta)
        limit = sum(each.cap for each in budgets.values()) if person.cap is None else person.cap
        means = words.Means(person.held, limit, budget.left, budget.until, person.cap is not None)
        spending = words.budget(means, level, planned, calendar.every_days, next_due)
        paid = paid and (level is Level.OFF or limit - person.held >= planned.units[level])
    price = words.dearer(served, planned)
    said = {
        "level": price and words.card(level, price),
        "change": words.moved(level, next_due, paid=paid) if pending or not (paid or level is Level.OFF) else None,
        "joining": price and words.joining(level, price),
        "not_covered": words.unprotected(who),
        "theft": words.theft(odds),
        "budget": spending,
    }
    return {
        "said": {name: sentence for name, sentence in said.items() if sentence},
        "label": words.label(
            level=level,
            odds=odds,
            together=hundred(odds_of(person.held)),
            due=next_due,
            pending=pending,
            paid=paid,
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
        "next_release": next_due,
    }


def _is_pending(records: Records, pseudonym: bytes, release: str, purpose: str) -> bool:
    """Whether what somebody said of training last was said after people were read for the model that is served."""
    job, last = records.matters.find(KIND, release), records.consents.last(pseudonym, purpose)
    return last is not None and (job is None or str(last["event"]["event_time"]) >= str(job.body["read"]))


def _measured(records: Records) -> str | None:
    """Return what the last audit of this installation found, and when."""
    duty = records.matters.find(DUTY, AUDIT)
    if duty is None or not duty.body["done"]:
        return None
    return f"{words.day(str(duty.body['done']))}: {str(duty.body['found']).partition(';')[0]}"
