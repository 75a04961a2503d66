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
    from socket import socket

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
    with occupied(folder, address) as listening:
        settings = settings_of(folder, database, master_key, key_service, calendar=calendar, per_minute=per_minute)

        def begun() -> None:
            owner = first_key(settings)
            if owner is not None:
                say(f"The owner's key, shown this once: {owner}", "bold")
                screen.file.flush()
            say(json.dumps({"said": "listening", "port": port}))
            screen.file.flush()

        with closing(House(settings)) as house:
            asyncio.run(until_stopped(house, address, listening, begun))


@contextmanager
def occupied(folder: Path, address: Address) -> Iterator[socket]:
    """Take an address, then a folder, in which nobody else serves or rotates keys within the block; make it if need be.

    Raises:
        SettingError: the address cannot be had, and nothing was made; or somebody is at work in the folder.
        FileNotWritten: the folder cannot be made.
    """
    from discreet.files import writing

    with closing(address.bound()) as listening:
        with writing(folder):
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        with alone(folder / RUNNING), held(folder / ROTATING):
            yield listening


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

    if not folder.is_dir() or not (database or (folder / DATABASE).exists()):
        raise SettingError(f"{folder} is no folder of a service: it holds no {DATABASE}; `discreet serve` makes one")
    with held(folder / ROTATING):
        settings = settings_of(folder, database, master_key, key_service, may_make=False)
        with settings.records() as records:
            yield records
            records.keep()


def settings_of(
    folder: Path,
    database: str | None,
    master_key: Path | None,
    key_service: str | None,
    *,
    may_make: bool = True,
    **more: Any,
) -> Settings:
    """Return how to run the service of a folder.

    Args:
        folder: of the service.
        database: URL, if it is not the file in the folder.
        master_key: file, if it is not the one in the folder.
        key_service: what wraps keys instead.
        may_make: make what is missing: folder, inventory, master key, database.
        more: of ``Settings``.

    Raises:
        DataError: the master key cannot be used, or the inventory at the first start; or the hook is none.
        SettingError: the inventory at the first start lacks what the service needs; or nothing may be made, and no
            service was started here before.
        FileNotWritten: the folder cannot be written.
    """
    from discreet.files import writing
    from discreet.service.api.house import Settings

    if may_make:
        with writing(folder):
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            (folder / MODELS).mkdir(exist_ok=True, mode=0o700)
    place: str | Path = database or folder / DATABASE
    witness = None if os.environ.get(NAMED) else folder / WITNESS
    declared, sealed = _in_force(place, folder / INVENTORY, witness, may_make=may_make)
    master = master_key or folder / MASTER
    wrapping = hooked(key_service) if key_service else _master(master, may_make=may_make and not sealed)
    return Settings(
        place=place,
        models=folder / MODELS,
        reports=folder / REPORTS,
        wrapping=wrapping,
        inventory=declared,
        witness=witness,
        **more,
    )


def _in_force(place: str | Path, path: Path, witness: Path | None, *, may_make: bool) -> tuple[Inventory, bool]:
    """Return the inventory that holds: at the first start the file's, from then on what two people agreed to; and
    whether there are keys that a master key wraps."""
    from discreet.errors import DiscreetError, SettingError
    from discreet.governance import policy
    from discreet.governance.holders import ring_of
    from discreet.governance.inventory import Inventory
    from discreet.governance.matters import Matters
    from discreet.governance.witness import configured, opened_with

    database, journal = opened_with(configured(witness), place, 30.0, may_create=may_make)
    with closing(database):
        matters = Matters(database, journal)
        held, sealed = policy.in_force(matters), any(True for _ in ring_of(database, None))
        if held is None and may_make:
            return policy.put(matters, _first_inventory(path), by="first start"), sealed
    if held is None:
        raise SettingError(f"no inventory is in force in {path.parent}: `discreet serve` was never started there")
    declared = Inventory.from_toml(held.encode())
    try:
        differs = Inventory.read(path) != declared
        why = "it says something else"
    except DiscreetError as error:  # what is in force does not hang on a file that anybody may have edited
        differs, why = True, str(error)
    if differs:
        note(f"{path} is not what is in force, which holds ({why}); two people change it, by POST /api/v1/motions")
    return declared, sealed


def _first_inventory(path: Path) -> str:
    from discreet.files import writing
    from discreet.governance.inventory import Inventory, example

    if not path.exists():
        with writing(path):
            path.write_text(example("shop"))
    Inventory.read(path)
    return path.read_text()


def first_key(settings: Settings) -> str | None:
    """Return an owner's key, if there is none that opens: whoever starts the service has all that it has."""
    from discreet.governance.checks import now
    from discreet.governance.roles import Role

    with settings.records() as records:
        held = {key.role for key in records.access.all() if key.until is None or key.until > now()}
        if str(Role.OWNER) in held:
            return None
        made = records.access.make(Role.OWNER, "owner", days=366)
        records.keep()
        return made


async def until_stopped(house: House, address: Address, listening: socket, begun: Callable[[], None]) -> None:
    """Serve until the process is told to stop; what is begun is answered.

    Args:
        house: the service.
        address: where it listens.
        listening: the socket.
        begun: is called when a signal to stop no longer cuts anything off: what it makes it can show.
    """
    from discreet.service.api.app import service

    server = address.serving(service(house))

    def stop() -> None:
        server.should_exit = True

    for each in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(each, stop)
    begun()
    await server.serve(sockets=[listening])


def _master(path: Path, *, may_make: bool) -> Wrapping:
    from discreet.governance.keys import Master, new_key

    if may_make and not path.exists():
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
