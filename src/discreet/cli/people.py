"""``discreet people``: what the staff does with a service's folder, beside what the service does by itself."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from discreet.cli.desk import app as at_desk
from discreet.cli.output import Json, progress, say, say_file, say_json
from discreet.cli.serving import MASTER, REPORTS, ROTATING, Database, Folder, Hook, MasterKey, alone, desk, settings_of

if TYPE_CHECKING:
    from discreet.data.records import Records
    from discreet.governance.accounts import AccountState
    from discreet.governance.inventory import Inventory
    from discreet.governance.manifests import Report

FORMS = ("toml", "json", "fides", "ropa", "dpia")

app = typer.Typer(no_args_is_help=True)
app.add_typer(at_desk)


@app.callback()
def _group() -> None:
    """Take in events and items, serve one person at the desk, make keys, check an inventory, and show its risks."""


@app.command()
def collect(
    folder: Folder,
    events: Annotated[Path, typer.Argument(help="CSV, TSV, Parquet or JSON lines: user_id, item_id, timestamp.")],
    items: Annotated[
        Path | None, typer.Option("--items", help="File with item_id[, title, sensitive, tags]: listed first.")
    ] = None,
    database: Database = None,
    master_key: MasterKey = None,
    key_service: Hook = None,
    as_json: Json = False,
) -> None:
    """Take in a file of events: those of whoever agreed are kept, what is not declared is left out. May be repeated."""
    from discreet.data.bulk import collected
    from discreet.data.intake import read_catalogue

    catalogue = None if items is None else read_catalogue(items)
    told = {"kept": 0, "people_in_batches": 0, "without_consent": 0, "too_old": 0}
    unread: tuple[str, ...] = ()
    with desk(folder, database, master_key, key_service) as records, progress() as bars:
        bar = bars.add_task("events", total=None)
        if catalogue is not None:
            records.vault.set_items(catalogue)
        for batch in collected(records, events):
            told["kept"] += batch.kept
            told["people_in_batches"] += batch.people
            told["without_consent"] += batch.without_consent
            told["too_old"] += batch.too_old
            unread = batch.unread
            bars.update(bar, completed=told["kept"])
    if as_json:
        say_json(told | {"unread": list(unread)})
        return
    say(f"{told['kept']:,} events are kept; people in batches who agreed to nothing: {told['without_consent']:,}")
    if told["too_old"]:
        say(f"not kept, since they are older than the inventory's retention: {told['too_old']:,} events", "dim")
    if unread:
        say(f"not read, since the inventory does not declare them: {', '.join(unread)}", "dim")


@app.command("hand-out")
def hand_out(
    folder: Folder,
    purpose: Annotated[str, typer.Option("--purpose", help="That people have to permit.")],
    out: Annotated[Path, typer.Option("--out", help="CSV of user_id and item_id to write; must not exist.")],
    database: Database = None,
    master_key: MasterKey = None,
    key_service: Hook = None,
) -> None:
    """Write what people chose who permit a purpose, under pseudonyms of that purpose alone. On record.

    If the purpose has recipients, whoever's browser said Global Privacy Control is left out.
    """
    import csv
    import io

    from discreet.errors import SettingError
    from discreet.files import write_bytes

    if out.exists():
        raise SettingError(f"{out} is there already; name another file")
    lines = io.StringIO(newline="")
    writer = csv.writer(lines)
    writer.writerow(["user_id", "item_id"])
    with desk(folder, database, master_key, key_service) as records:
        writer.writerows(records.vault.handed_out(purpose))
    write_bytes(out, lines.getvalue().encode())
    say(f"{out}: for {purpose}, and no other purpose")


@app.command()
def key(
    folder: Folder,
    role: Annotated[str, typer.Option("--role", help="owner, privacy-officer, operator, analyst or auditor.")],
    owner: Annotated[str, typer.Option("--owner", help="Who answers for it, by name.")],
    days: Annotated[int, typer.Option("--days", min=1, max=366, help="After which it ends.")] = 90,
    database: Database = None,
    master_key: MasterKey = None,
    key_service: Hook = None,
) -> None:
    """Make a key of the staff, if one was lost, and show it this once. On record as made at the desk; takes no second.

    Whoever has the folder has the master key, and with it all that a key opens.
    """
    from discreet.errors import SettingError
    from discreet.governance.consent import DESK
    from discreet.governance.roles import Role

    staff = {str(each): each for each in Role if each is not Role.PERSON}
    if role not in staff:
        raise SettingError(f"a key that is made at the desk is one of {', '.join(staff)}, not {role!r}")
    with desk(folder, database, master_key, key_service) as records, records.database.transaction():
        made = records.access.make(staff[role], owner, days=days)
        records.journal.append("desk-key", key=made.split("_")[1], by=DESK)
    say(f"The key of {owner}, {role}, shown this once: {made}", "bold")


@app.command()
def risks(
    folder: Folder,
    database: Database = None,
    master_key: MasterKey = None,
    key_service: Hook = None,
    as_json: Json = False,
) -> None:
    """Show the register of risks in force. Exit code 3 if one is accepted no more, or nobody reviewed it for a year."""
    from discreet.cli.output import screen, table
    from discreet.governance.checks import now

    with desk(folder, database, master_key, key_service) as records:
        found = [risk.told(now()) for risk in records.inventory.risks]
    if as_json:
        say_json({"risks": found})
    else:
        shown = table("Risks", "id", "title", "before", "left", "status", "owner", "")
        for each in found:
            levels, late = each["levels"], "LATE" if each["late"] else ""
            left = levels.get("residual", "")
            shown.add_row(each["id"], each["title"], levels["inherent"], left, each["status"], each["owner"], late)
        screen.print(shown)
    if any(each["late"] for each in found):
        raise typer.Exit(3)


@app.command("rotate-key")
def rotate_key(folder: Folder, database: Database = None, master_key: MasterKey = None) -> None:
    """Make a new master key, wrap all keys anew, and forget the old one: older copies of the database open no more.

    Not beside the service: stop that first. If this is cut off, run it again: until it ends both keys are in the file.
    """
    from discreet.governance.keys import Master

    path = master_key or folder / MASTER
    with alone(folder / ROTATING):  # what another process wraps meanwhile would be lost with the old key
        before = Master.read(path)
        both = before if len(before.keys) > 1 else before.rotated()
        both.write(path)
        settings = settings_of(folder, database, master_key, None, may_make=False)
        with settings.records() as records, progress() as bars:
            bar = bars.add_task("keys", total=len(records.holders))
            for done in records.holders.rotate():
                bars.update(bar, completed=done)
            with records.database.transaction():
                records.journal.append("rotate", people=str(len(records.holders)))
            records.keep()
        both.forgotten().write(path)
    say(f"{path}: a new master key; keep a copy elsewhere, and delete the old one")


@app.command()
def inventory(
    path: Annotated[Path, typer.Argument(help="An inventory.toml; or the folder of a service, for what is in force.")],
    init: Annotated[str | None, typer.Option("--init", help="Write an example of this name there first.")] = None,
    form: Annotated[
        str | None,
        typer.Option(
            "--format",
            help="toml, json; fides: a manifest to import there; ropa: a record of processing activities, GDPR 30; "
            "dpia: the draft of an impact assessment, GDPR 35, of a folder with its budgets and its last audit.",
        ),
    ] = None,
    database: Database = None,
    master_key: MasterKey = None,
    key_service: Hook = None,
    as_json: Json = False,
) -> None:
    """Check an inventory, and show what it says: what is collected, what for, for how long, and whose it is."""
    from discreet.errors import SettingError
    from discreet.files import write_bytes
    from discreet.governance import manifests
    from discreet.governance.inventory import Inventory, example
    from discreet.governance.policy import in_force

    form = "json" if as_json else form
    if form not in {None, *FORMS}:
        raise SettingError(f"--format is one of {', '.join(FORMS)}")
    if init is not None:
        if path.exists():
            raise SettingError(f"{path} is there already; name another file")
        write_bytes(path, example(init).encode())
    if path.is_dir():
        with desk(path, database, master_key, key_service) as records:
            toml, found = str(in_force(records.matters)), records.inventory
            budgets, report = _open(records), _last(path / REPORTS)
    else:
        found, toml, budgets, report = Inventory.read(path), path.read_text(), None, None
    if form == "toml":
        say_file(toml)
    elif form == "json":
        say_json(found.to_dict())
    elif form == "fides":
        say_json(manifests.fides(found))
    elif form == "ropa":
        say(manifests.record(found).rstrip())
    elif form == "dpia":
        say(manifests.assessment(found, budgets, report).rstrip())
    else:
        _show(found)


def _show(found: Inventory) -> None:
    from discreet.cli.output import screen, table

    shown = table(f"{found.name}: {found.controller.name}", "field", "category", "purposes", "kept", "owner")
    for field in found.fields:
        shown.add_row(
            field.name, field.category, ", ".join(field.purposes), f"{field.retention_days} days", field.owner
        )
    screen.print(shown)
    for purpose in found.purposes:
        say(f"{purpose.name} ({purpose.use}, by {purpose.basis}): {purpose.says}")
    say(f"Not declared: {found.minimisation.undeclared}. Of one person at most {found.minimisation.history:,} events.")


def _open(records: Records) -> list[AccountState]:
    """Return the budgets of the data set that have not ended."""
    from discreet.governance.checks import now

    with records.book() as book:
        accounts = [each for each in book.accounts() if each.account.dataset == records.inventory.name]
    return [each for each in accounts if each.until is None or each.until > now()]


def _last(folder: Path) -> Report | None:
    """Return what the last audit of a service found, if its report is there. Their names sort by time."""
    from discreet.errors import DataError
    from discreet.governance.manifests import Report

    path = max(folder.glob("audit-*.json"), default=None)
    if path is None:
        return None
    try:
        return Report.read(path.name, path.read_bytes())
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from None
