"""``discreet serve``: the service of people's data and lists, from one folder."""

from __future__ import annotations

import asyncio
import fcntl
import importlib
import json
import os
import signal
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from discreet.cli.output import note, say, screen
from discreet.governance.places import NAMED

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from discreet.data.records import Records
    from discreet.governance.inventory import Inventory
    from discreet.governance.keys import Wrapping
    from discreet.service.api.house import House, Settings
    from discreet.service.listening import Address

PORT = 8440
INVENTORY, MASTER, DATABASE, MODELS, WITNESS = "inventory.toml", "master.key", "discreet.db", "models", "witness"
REPORTS = "audits"

RUNNING, ROTATING = "running.lock", "rotating.lock"

Folder = Annotated[Path, typer.Argument(help="Of the service: inventory.toml, master.key, models and the database.")]
Database = Annotated[
    str | None,
    typer.Option("--database", envvar="DISCREET_DATABASE", help="URL of a PostgreSQL database, not discreet.db there."),
]
MasterKey = Annotated[
    Path | None, typer.Option("--master-key", help="File of the master key, mode 0600; else master.key there.")
]
Hook = Annotated[
    str | None,
    typer.Option("--key-service", help="module:function that returns what wraps keys, instead of a master key here."),
]


def serve(
    folder: Folder,
    database: Database = None,
    master_key: MasterKey = None,
    key_service: Hook = None,
    every_days: Annotated[
        int,
        typer.Option("--every-days", min=0, max=366, help="Train a model every so many days; 0: when it is asked for."),
    ] = 7,
    epsilon: Annotated[float, typer.Option("--epsilon", help="Of each release, at level light, in nats.")] = 1.0,
    kind: Annotated[str, typer.Option("--kind", help="Of model, as `discreet train` has them.")] = "auto",
    per_minute: Annotated[
        int, typer.Option("--per-minute", min=1, help="Requests that a key may make in a minute.")
    ] = 60_000,
    host: Annotated[
        str, typer.Option("--host", help="To listen on; another than this machine's needs TLS.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", min=1, max=65_535)] = PORT,
    certificate: Annotated[Path | None, typer.Option("--certificate", help="PEM, with its chain.")] = None,
    key: Annotated[Path | None, typer.Option("--key", help="Of the certificate, PEM.")] = None,
) -> None:
    """Serve lists under consent, until stopped. The first start makes what is missing, and prints the owner's key."""
    from discreet.service.api.house import House
    from discreet.service.jobs import Calendar
    from discreet.service.listening import Address

    address = Address(host, port, certificate, key)
    calendar = Calendar(every_days=every_days or None, epsilon=epsilon, kind=kind)  # type: ignore[arg-type]
    settings = settings_of(folder, database, master_key, key_service, calendar=calendar, per_minute=per_minute)
    with closing(address.bound()) as listening, alone(folder / RUNNING), held(folder / ROTATING):
        owner = first_key(settings)
        with closing(House(settings)) as house:
            if owner is not None:
                say(f"The owner's key, shown this once: {owner}", "bold")
            say(json.dumps({"said": "listening", "port": port}))
            screen.file.flush()
            asyncio.run(until_stopped(house, address, listening))


@contextmanager
def alone(path: Path) -> Iterator[None]:
    """Let nobody else do within the block what is done once at a time in this folder.

    Raises:
        SettingError: somebody does it.
    """
    with _locked(path, fcntl.LOCK_EX):
        yield


@contextmanager
def held(path: Path) -> Iterator[None]:
    """Let nobody be `alone` with it within the block. Raises SettingError if somebody is."""
    with _locked(path, fcntl.LOCK_SH):
        yield


@contextmanager
def _locked(path: Path, how: int) -> Iterator[None]:
    from discreet.errors import SettingError
    from discreet.files import writing

    with writing(path):
        file = path.open("ab")
    with file:
        try:
            fcntl.flock(file, how | fcntl.LOCK_NB)
        except BlockingIOError:
            raise SettingError(f"{path.parent} is in use by another process: {path.name}; stop it first") from None
        yield


@contextmanager
def desk(folder: Path, database: str | None, master_key: Path | None, key_service: str | None) -> Iterator[Records]:
    """Open the records of a service that is there; what was done is acknowledged when the witness has seen it.

    Raises:
        SettingError: there is none in this folder; a misspelt one is not made into one.
    """
    from discreet.errors import SettingError

    if not (folder / INVENTORY).exists():
        raise SettingError(f"{folder} is no folder of a service: it holds no {INVENTORY}")
    with held(folder / ROTATING), settings_of(folder, database, master_key, key_service).records() as records:
        yield records
        records.keep()


def settings_of(
    folder: Path, database: str | None, master_key: Path | None, key_service: str | None, **more: Any
) -> Settings:
    """Return how to run the service of a folder; make what is missing there.

    Raises:
        DataError: the inventory or the master key cannot be used; or the hook is none.
        FileNotWritten: the folder cannot be written.
    """
    from discreet.files import writing
    from discreet.governance.inventory import example
    from discreet.service.api.house import Settings

    inventory = folder / INVENTORY
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        (folder / MODELS).mkdir(exist_ok=True, mode=0o700)
        if not inventory.exists():
            inventory.write_text(example("shop"))
    wrapping = hooked(key_service) if key_service else _master(master_key or folder / MASTER)
    place: str | Path = database or folder / DATABASE
    witness = None if os.environ.get(NAMED) else folder / WITNESS
    declared = _in_force(place, inventory, witness)
    return Settings(
        place=place,
        models=folder / MODELS,
        reports=folder / REPORTS,
        wrapping=wrapping,
        inventory=declared,
        witness=witness,
        **more,
    )


def _in_force(place: str | Path, path: Path, witness: Path | None) -> Inventory:
    """Return the inventory that holds: at the first start the file's, from then on what two people agreed to."""
    from discreet.governance import policy
    from discreet.governance.inventory import Inventory
    from discreet.governance.matters import Matters
    from discreet.governance.witness import configured, opened_with

    proposed = Inventory.read(path)
    database, journal = opened_with(configured(witness), place, 30.0, may_create=True)
    with closing(database):
        matters = Matters(database, journal)
        held = policy.in_force(matters)
        if held is None:
            return policy.put(matters, path.read_text(), by="first start")
    declared = Inventory.from_toml(held.encode())
    if declared != proposed:
        note(f"{path} is not what is in force: two people put it in force, by POST /api/v1/motions")
    return declared


def first_key(settings: Settings) -> str | None:
    """Return an owner's key, if there is none that opens: whoever starts the service has all that it has."""
    from discreet.governance.checks import now
    from discreet.governance.roles import Role

    with settings.records() as records:
        held = {key.role for key in records.access.all() if key.until is None or key.until > now()}
        return None if str(Role.OWNER) in held else records.access.make(Role.OWNER, "owner", days=366)


async def until_stopped(house: House, address: Address, listening: Any) -> None:
    """Serve until the process is told to stop; what is begun is answered."""
    from discreet.service.api.app import service

    server = address.serving(service(house))

    def stop() -> None:
        server.should_exit = True

    for each in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(each, stop)
    await server.serve(sockets=[listening])


def _master(path: Path) -> Wrapping:
    from discreet.governance.keys import Master, new_key

    if not path.exists():
        Master([new_key()]).write(path)
        note(f"A master key was made: {path}. Keep a copy elsewhere: without it nothing that is held opens.")
    return Master.read(path)


def hooked(name: str) -> Wrapping:
    """Return what a module's function makes to wrap keys. Raises DataError if there is no such function."""
    from discreet.errors import DataError

    module, _, function = name.partition(":")
    try:
        make: Callable[[], Wrapping] = getattr(importlib.import_module(module), function)
        return make()
    except (ImportError, AttributeError, TypeError, ValueError) as error:
        raise DataError(
            f"--key-service {name}: no such function ({type(error).__name__}); give module:function"
        ) from None
