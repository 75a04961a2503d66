"""``discreet people``, for somebody who comes to the controller instead of the service: what they could do there.

Each is on record as done by the desk, and the person finds it beside what is held of them. What they are told is what
the service would tell them.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from discreet.cli.output import Json, say, say_json
from discreet.cli.serving import MODELS, Database, Folder, Hook, MasterKey, desk

if TYPE_CHECKING:
    from discreet.data.records import Records
    from discreet.privacy.guarantee import Guarantee

FORMS = ("json", "csv")

Person = Annotated[str, typer.Argument(help="Their id, as the application knows them.")]
Out = Annotated[Path, typer.Option("--out", help="File to write; must not exist.")]

app = typer.Typer()


@app.command()
def access(
    folder: Folder,
    person: Person,
    database: Database = None,
    master_key: MasterKey = None,
    key_service: Hook = None,
    as_json: Json = False,
) -> None:
    """Show all that is held of somebody who asks for it at the desk. On record, and the person finds it there."""
    from discreet.cli.output import screen, table
    from discreet.service.rights import all_of

    with desk(folder, database, master_key, key_service) as records:
        who = records.holders.pseudonym(person)
        records.grants.desk(who, ["consents", "events"])
        found = all_of(records, who)
    if as_json:
        say_json(found)
        return
    say(f"{len(found['events']):,} events, {len(found['records']):,} records of consents, {len(found['keys'])} keys")
    shown = table("What is held", "item", "title", "when")
    for event in found["events"]:
        shown.add_row(event["item_id"], event["title"], event["timestamp"])
    screen.print(shown)
    _show_consents(found["consents"])
    say("All of it, with what the person has a right to know besides: --json", "dim")


@app.command()
def consents(
    folder: Folder,
    person: Person,
    database: Database = None,
    master_key: MasterKey = None,
    key_service: Hook = None,
    as_json: Json = False,
) -> None:
    """Show where somebody's consents stand. On record, and the person finds it there."""
    from discreet.service.rights import standings

    with desk(folder, database, master_key, key_service) as records:
        who = records.holders.pseudonym(person)
        records.grants.desk(who, ["consents"])
        found = standings(records, who)
    if as_json:
        say_json(found)
        return
    _show_consents(found)


@app.command()
def export(
    folder: Folder,
    person: Person,
    out: Out,
    form: Annotated[str, typer.Option("--format", help="json: all that is held; csv: what they chose.")] = "json",
    database: Database = None,
    master_key: MasterKey = None,
    key_service: Hook = None,
) -> None:
    """Write all that is held of somebody, for them to take along. On record, and the person finds it there."""
    import json

    from discreet.errors import SettingError
    from discreet.files import write_bytes
    from discreet.service.rights import all_of, chosen

    if form not in FORMS:
        raise SettingError(f"--format is one of {', '.join(FORMS)}")
    if out.exists():
        raise SettingError(f"{out} is there already; name another file")
    with desk(folder, database, master_key, key_service) as records:
        who = records.holders.pseudonym(person)
        records.grants.desk(who, ["consents", "events"])
        found = all_of(records, who)
    write_bytes(out, (json.dumps(found, indent=1) if form == "json" else chosen(found)).encode())
    say(f"{out}: hand it to them alone, and delete it here")


@app.command()
def correct(
    folder: Folder,
    person: Person,
    remove: Annotated[list[str] | None, typer.Option("--remove", help="ITEM that is not so; may be repeated.")] = None,
    change: Annotated[
        list[str] | None, typer.Option("--change", help="ITEM=TIME: when it was in truth; may be repeated.")
    ] = None,
    add: Annotated[
        list[str] | None,
        typer.Option(
            "--add", help="ITEM or ITEM=TIME that is missing; the last = divides, ITEM= is one without a time."
        ),
    ] = None,
    database: Database = None,
    master_key: MasterKey = None,
    key_service: Hook = None,
) -> None:
    """Correct what is held of somebody who says at the desk that it is not so: all or nothing. Times are ISO 8601."""
    from discreet.errors import SettingError
    from discreet.governance.consent import DESK
    from discreet.service import rights

    changed = [(item, _seconds(time)) for item, _, time in (each.rpartition("=") for each in change or [])]
    added = [
        (item if divided else each, _seconds(time) if divided and time else None)
        for each, (item, divided, time) in ((each, each.rpartition("=")) for each in add or [])
    ]
    if not (remove or changed or added):
        raise SettingError("nothing is to be corrected: give --remove, --change or --add")
    with desk(folder, database, master_key, key_service) as records:
        who = records.holders.pseudonym(person)
        records.grants.desk(who, ["events"])  # that an item cannot be corrected tells what is held
        _, said = rights.correct(records, who, remove=remove or [], change=changed, add=added, by=DESK)
    say(said)


@app.command()
def withdraw(
    folder: Folder,
    person: Person,
    purpose: Annotated[str, typer.Argument(help="That the inventory declares.")],
    database: Database = None,
    master_key: MasterKey = None,
    key_service: Hook = None,
) -> None:
    """Withdraw a consent for somebody who says so at the desk: nothing is read for the purpose from now on."""
    from discreet.governance.consent import DESK
    from discreet.service.jobs import effective_from

    with desk(folder, database, master_key, key_service) as records:
        who = records.holders.pseudonym(person)
        records.grants.check_held(who)
        told = records.consents.withdraw_as(who, purpose, effective=effective_from(records, purpose), by=DESK)
        said = _said(records, who, purpose)
    say(f"withdrawn, journal row {told['journal_row']}")
    say(said)


@app.command()
def revoke(
    folder: Folder,
    person: Person,
    purpose: Annotated[str, typer.Option("--purpose", help="That the inventory declares.")],
    because: Annotated[str, typer.Option("--because", help="Why, in a line: the person finds it in the record.")],
    database: Database = None,
    master_key: MasterKey = None,
    key_service: Hook = None,
) -> None:
    """End a consent that the controller may not rely on, of a minor, say: nothing is read for the purpose from now on.

    On record as done by the desk, not by the person, who finds it among their records with the reason.
    """
    from discreet.service.jobs import effective_from

    with desk(folder, database, master_key, key_service) as records:
        who = records.holders.pseudonym(person)
        records.grants.check_held(who)
        told = records.consents.revoke_as(who, purpose, because, effective=effective_from(records, purpose))
        said = _said(records, who, purpose)
    say(f"revoked, journal row {told['journal_row']}")
    say(said)


@app.command()
def level(
    folder: Folder,
    person: Person,
    chosen: Annotated[str, typer.Argument(metavar="{level}", help="off, strong, balanced or light.")],
    database: Database = None,
    master_key: MasterKey = None,
    key_service: Hook = None,
) -> None:
    """Set how strongly what somebody did is blurred, of all that they agreed to, if they say so at the desk."""
    from discreet.governance.consent import DESK
    from discreet.privacy.levels import Level
    from discreet.service import rights
    from discreet.service.jobs import Calendar

    wanted = Level.named(chosen)
    with desk(folder, database, master_key, key_service) as records:
        who = records.holders.pseudonym(person)
        records.grants.check_held(who)
        changed = rights.choose(records, who, wanted, by=DESK)
        said = rights.levelled(records, Calendar().purpose, who, changed)["said"]
    for purpose, receipt in changed.items():
        say(f"{purpose} is at {receipt['record']['discreet']['privacy_level']}")
    say(said)


@app.command("object")
def objects(
    folder: Folder,
    person: Person,
    database: Database = None,
    master_key: MasterKey = None,
    key_service: Hook = None,
) -> None:
    """End all consents of somebody who objects at the desk to everything. What is held goes with the next retention."""
    from discreet.governance.consent import DESK
    from discreet.service import rights

    with desk(folder, database, master_key, key_service) as records:
        who = records.holders.pseudonym(person)
        records.grants.check_held(who)
        rights.end(records, who, by=DESK)
        said = _said(records, who)
    say("all consents are withdrawn")
    say(said)


@app.command()
def erase(
    folder: Folder,
    person: Person,
    yes: Annotated[bool, typer.Option("--yes", help="It cannot be undone.")] = False,
    database: Database = None,
    master_key: MasterKey = None,
    key_service: Hook = None,
) -> None:
    """Delete all that is held of somebody who asks for it at the desk, and the key that opens it."""
    from discreet.errors import SettingError
    from discreet.governance.consent import DESK
    from discreet.service import jobs, rights

    if not yes:
        raise SettingError("nothing was deleted: an erasure cannot be undone; say --yes")
    with desk(folder, database, master_key, key_service) as records:
        who = records.holders.pseudonym(person)
        records.grants.check_held(who)
        promise = _promise(records, folder / MODELS)
        said = rights.gone(records, jobs.erase(records, who, by=DESK), promise)
    say(said)
    say("That is the receipt: GET /api/v1/erasures/RECEIPT says when a release has learnt nothing from them.", "dim")


def _show_consents(found: dict[str, Any]) -> None:
    from discreet.cli.output import screen, table

    shown = table("Consents", "purpose", "state", "level", "until", "may be read")
    for name, each in found.items():
        may = "yes" if each["permits"] else "no, asked anew" if each["asked_anew"] else "no"
        shown.add_row(name, each["state"], each["level"], each["until"] or "", may)
    screen.print(shown)


def _said(records: Records, who: bytes, purpose: str | None = None) -> str:
    """Return what somebody is told whose consent was changed: to a purpose, or to all."""
    from discreet.service.jobs import Calendar
    from discreet.service.rights import shown

    trained = Calendar().purpose
    return str(shown(records, trained, who, purpose or trained)["said"])


def _promise(records: Records, models: Path) -> Guarantee | None:
    """Return what the model that is served promises, if one is that opens: no erasure waits for a model."""
    from contextlib import suppress

    from discreet.errors import DiscreetError
    from discreet.models.trained import Trained
    from discreet.service.jobs import released

    with suppress(DiscreetError):
        path = released(records, models)
        return None if path is None else Trained.load(path).guarantee
    return None


def _seconds(time: str) -> float:
    """Return the seconds since 1970 of a time, ISO 8601. Raises SettingError if it is none."""
    from datetime import datetime

    from discreet.governance.checks import instant

    return datetime.fromisoformat(instant(time)).timestamp()
