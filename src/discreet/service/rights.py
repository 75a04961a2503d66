"""What is done for one person who asks for it: over HTTP for themselves, or at the desk, which says so (``by``).

What is answered is the same, whichever way they came: what happened now, and what is still to come, and when.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from discreet.data.records import Records
from discreet.data.vault import Corrected
from discreet.errors import AccountMissing
from discreet.governance.checks import now
from discreet.governance.consent import PERSON, RECORD
from discreet.governance.grants import OPENED
from discreet.governance.ledger import Account, Ledger
from discreet.privacy.accounting import cap
from discreet.privacy.guarantee import Guarantee
from discreet.privacy.levels import OFFERED, QUARTERS, Level
from discreet.service import words
from discreet.service.http import Refused
from discreet.service.jobs import DONE, KIND, RUNNING, Gone, effective_from, next_release


def due(records: Records) -> str | None:
    """Return when the next model is due, or None if none is."""
    job = next_release(records)
    return job and job.due


def is_paid(records: Records, trained: str) -> bool:
    """Whether the budget allows for the next model that is planned; or for any more, if none is."""
    job = next_release(records)
    try:
        state = Ledger(records.database).account(Account(records.inventory.name, trained))
    except AccountMissing:
        return False
    if job is None:
        return state.left > 0
    ends = state.until is not None and str(job.due) >= state.until
    return not ends and state.left >= cap(float(job.body["epsilon"]), state.delta)


def shown(records: Records, trained: str, pseudonym: bytes, purpose: str) -> dict[str, Any]:
    """Return what is answered to somebody who changed a consent: what it means, and from when on.

    Args:
        records: in which they did.
        trained: the purpose that models are trained for.
        pseudonym: of the person.
        purpose: whose consent they changed.
    """
    stands, time = records.consents.all_as(pseudonym), now()
    permitted, said = stands[purpose].permits(time), list[str]()
    if purpose == trained:
        level = stands[purpose].level if permitted else Level.OFF
        said.append(words.moved(level, due(records), paid=is_paid(records, trained)))
    elif permitted:
        said.append(words.LISTED)
    if not permitted:
        wholly = not any(each.keeps(time) for each in stands.values())
        said.append(words.left(records.inventory.minimisation.logs_days, wholly=wholly))
    return {"next_release": due(records), "said": " ".join(said)}


def levelled(records: Records, trained: str, pseudonym: bytes, changed: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Return what is answered to somebody who set a level, by the receipts of what it changed."""
    if trained in changed:
        return shown(records, trained, pseudonym, trained)
    return {"next_release": due(records), "said": words.UNTRAINED if changed else words.UNCHANGED}


def chosen(found: dict[str, Any]) -> str:
    """Return what somebody chose, of `all_of`, as CSV: item_id, title, timestamp."""
    lines = io.StringIO(newline="")
    writer = csv.DictWriter(lines, ["item_id", "title", "timestamp"])
    writer.writeheader()
    writer.writerows({name: _plain(value) for name, value in event.items()} for event in found["events"])
    return lines.getvalue()


def correct(
    records: Records,
    pseudonym: bytes,
    *,
    remove: Sequence[str],
    change: Sequence[tuple[str, float]],
    add: Sequence[tuple[str, float | None]],
    by: str = PERSON,
) -> tuple[Corrected, str]:
    """Correct what is held of somebody, all of it or nothing; return what was done, and say it. As `Vault.correct`.

    Raises:
        Refused: times are not declared, and the inventory refuses what is not.
        DataError, ConsentMissing: it cannot be done.
    """
    declared = records.inventory
    timed = change or any(time is not None for _, time in add)
    if timed and declared.step is None and declared.minimisation.undeclared == "refuse":
        raise Refused(422, "undeclared", "times are not declared in the inventory; leave them out")
    done = records.vault.correct(pseudonym, remove=remove, change=change, add=add, by=by)
    said = f"{done.removed} of what was held are taken out, the times of {done.changed} are changed, "
    return done, said + f"{done.added} are added. Released models keep what they learnt."


def choose(records: Records, pseudonym: bytes, level: Level, **told: Any) -> dict[str, dict[str, Any]]:
    """Set the level of all consents of somebody that stand; return each receipt. Takes what `change_as` takes."""
    time = now()
    with records.matters.together():
        return {
            purpose: records.consents.change_as(
                pseudonym, purpose, level=level, effective=effective_from(records, purpose), **told
            )
            for purpose, standing in records.consents.all_as(pseudonym).items()
            if standing.permits(time)
        }


def end(records: Records, pseudonym: bytes, **told: Any) -> None:
    """End all consents of somebody, who objects to everything. Takes what `withdraw_as` takes."""
    with records.matters.together():
        for each in records.inventory.purposes:
            records.consents.withdraw_as(pseudonym, each.name, effective=effective_from(records, each.name), **told)


def gone(records: Records, done: Gone, promise: Guarantee | None) -> str:
    """Say what an erasure deleted, and until when what is left is left.

    Args:
        records: in which it was.
        done: what it did.
        promise: of the model that is served, if one is.
    """
    price = None if promise is None else words.Price.of(promise)
    within = None if price is None else f"the odds of {price.odds(Level.LIGHT)} in 100"
    if within is None and any(job.state in {DONE, RUNNING} for job in records.matters.all(KIND)):
        within = "what is promised of it"  # one that does not open here, or is being made of whom was read before
    backups = records.inventory.minimisation.backups_days
    return words.erased(done.events, done.receipt_id, done.due, backups, done.at, within)


def standings(records: Records, pseudonym: bytes) -> dict[str, Any]:
    """Return where each consent of somebody stands, and what they are asked."""
    found, time = records.consents.all_as(pseudonym), now()
    told: dict[str, Any] = {}
    for purpose in records.inventory.purposes:
        stands = found[purpose.name]
        told[purpose.name] = {
            "says": purpose.says,
            "notice": {"link": purpose.notice, "version": purpose.notice_version},
            "recipients": list(purpose.recipients),
            "state": str(stands.state),
            "level": str(stands.level),
            "until": stands.until,
            "permits": stands.permits(time),
            "asked_anew": stands.asked_anew,
        }
        if stands.asked_anew:
            told[purpose.name]["changed"] = records.consents.changed(pseudonym, purpose.name)
    return told


def all_of(records: Records, pseudonym: bytes) -> dict[str, Any]:
    """Return all that is held of somebody, when staff looked or may, and what else they may know (GDPR 15)."""
    items, events = records.vault.items, records.vault.own(pseudonym)
    names = {code: ident for ident, code in items.codes.items()}
    places = items.places(events["code"]).tolist()
    title = items.catalogue.title if items.catalogue is not None else str
    return {
        "consents": standings(records, pseudonym),
        "records": records.consents.documents.of(pseudonym, RECORD),
        "keys": [key._asdict() for key in records.access.of(pseudonym)],
        "grants_of_staff": records.grants.about(pseudonym),
        "opened_by_staff": records.consents.documents.of(pseudonym, OPENED),
        "events": [
            {
                "item_id": names[code],
                "title": title(place) if place >= 0 else "",
                "timestamp": datetime.fromtimestamp(seconds, UTC).isoformat(),
            }
            for code, seconds, place in zip(events["code"].tolist(), events["time"].tolist(), places, strict=True)
        ],
        **_declared(records),
    }


def _declared(records: Records) -> dict[str, Any]:
    """Return what holds for everybody: who answers, what for, who is given it, for how long, and what one may do."""
    declared = records.inventory
    stored = declared.to_dict()
    return {
        "controller": {name: value for name, value in stored["controller"].items() if value},
        "purposes": [
            {name: purpose[name] for name in ("name", "use", "says", "basis", "notice", "notice_version", "recipients")}
            | {"valid_days": purpose["valid_days"]}
            | {"reads": [field["name"] for field in stored["fields"] if purpose["name"] in field["purposes"]]}
            for purpose in stored["purposes"]
        ],
        "fields": [
            {name: field[name] for name in ("name", "category", "necessity", "sensitivity", "coarsened", "purposes")}
            for field in stored["fields"]
        ],
        "processing": {name: value for name, value in stored["processing"].items() if value},
        "source": words.SOURCE,
        "retention_days": declared.retention_days,
        "records_days": declared.minimisation.logs_days,
        "history": declared.minimisation.history,
        "rights": words.RIGHTS,
        "authority": {name: value for name, value in (stored["authority"] or {}).items() if value},
        "logic": words.LOGIC,
        "levels": {str(Level.OFF): "no model learns from you"}
        | {
            str(
                level
            ): f"you shape a model by at most {level.value}/{QUARTERS} of what somebody can at most, and of its "
            f"budget at most {level.value**2}/{QUARTERS**2} is used of you"
            for level in OFFERED
        },
    }


def _plain(cell: str) -> str:
    """Return a cell that no spreadsheet takes for a formula."""
    return f"'{cell}" if cell.startswith(("=", "+", "-", "@", "\t", "\r")) else cell
