"""``discreet incident``: the register of what went wrong, at the desk of a service's folder."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from discreet.cli.output import Json, say, say_json, screen, table
from discreet.cli.serving import Database, Folder, Hook, MasterKey, desk

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from discreet.data.records import Records

app = typer.Typer(no_args_is_help=True)

By = Annotated[str, typer.Option("--by", help="Who says so, by name.")]
Name = Annotated[str, typer.Argument(help="Of the incident, as `list` shows it.")]
Facts = Annotated[
    list[str] | None,
    typer.Option("--set", help="field=value, as the register has them, such as subjects_count=1-10; may be repeated."),
]


@app.callback()
def _group() -> None:
    """Write incidents down, go on with them, and see which authority was not told in time."""


@app.command("list")
def listed(
    folder: Folder,
    database: Database = None,
    master_key: MasterKey = None,
    key_service: Hook = None,
    as_json: Json = False,
) -> None:
    """Show the register. Exit code 3 if an authority was told late, or was not told in time and nobody says why."""
    from discreet.governance.incidents import KIND

    with desk(folder, database, master_key, key_service) as records:
        found, late = records.matters.all(KIND), {each.name for each in records.incidents.late()}
    if as_json:
        say_json({"incidents": [each.to_dict() | {"late": each.name in late} for each in found]})
    else:
        shown = table("Incidents", "name", "state", "detected", "authority by", "told", "")
        for each in found:
            told = str(each.body.get("notified_authority_at", "no"))
            detected = str(each.body["detected_at"])
            shown.add_row(each.name, each.state, detected, each.due, told, "LATE" if each.name in late else "")
        screen.print(shown)
    if late:
        raise typer.Exit(3)


@app.command("open")
def opened(
    folder: Folder,
    description: Annotated[str, typer.Argument(help="What is known, without names of people.")],
    by: By,
    detected: Annotated[str | None, typer.Option("--detected", help="ISO 8601; now if not given.")] = None,
    facts: Facts = None,
    database: Database = None,
    master_key: MasterKey = None,
    key_service: Hook = None,
) -> None:
    """Write an incident down. The clock of 72 hours runs from when it was detected."""
    told = {"description": description} | _told(facts)
    with desk(folder, database, master_key, key_service) as records:
        made = records.incidents.record(told, by=by, detected=detected)
    say(f"{made.name}: an authority is to be told by {made.due}, unless it is unlikely to put anybody at risk")


@app.command()
def update(
    folder: Folder,
    name: Name,
    state: Annotated[str, typer.Argument(help="Of DPV, such as IncidentMitigated.")],
    by: By,
    facts: Facts = None,
    database: Database = None,
    master_key: MasterKey = None,
    key_service: Hook = None,
) -> None:
    """Note what is known now."""
    with desk(folder, database, master_key, key_service) as records:
        _go_on(records, name, state, _told(facts), by)


@app.command()
def close(
    folder: Folder,
    name: Name,
    by: By,
    told: Annotated[str | None, typer.Option("--authority-told", help="When, ISO 8601.")] = None,
    why_not: Annotated[str | None, typer.Option("--authority-not-told", help="Why none has to be told.")] = None,
    database: Database = None,
    master_key: MasterKey = None,
    key_service: Hook = None,
) -> None:
    """Conclude an incident: an authority was told, or it is said why none has to be."""
    from discreet.governance.incidents import CONCLUDED, WHY_NOT

    given = {"notified_authority_at": told, WHY_NOT: why_not}
    with desk(folder, database, master_key, key_service) as records:
        _go_on(records, name, CONCLUDED, {field: value for field, value in given.items() if value is not None}, by)


def _go_on(records: Records, name: str, state: str, told: Mapping[str, Any], by: str) -> None:
    made = records.incidents.go_on(name, state, told, by=by)
    say(f"{made.name}: {made.state}")


def _told(facts: Sequence[str] | None) -> dict[str, Any]:
    from discreet.errors import SettingError
    from discreet.governance.incidents import CATEGORIES

    pairs = [fact.partition("=") for fact in facts or ()]
    if not all(between for _, between, _ in pairs):
        raise SettingError("--set takes field=value")
    return {field: value.split(",") if field == CATEGORIES else value for field, _, value in pairs}
