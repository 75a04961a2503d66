"""A PostgreSQL server of one's own: in a temporary folder, on a socket there, for as long as the tests last."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from itertools import count
from pathlib import Path
from typing import Any

PATIENCE = 60
"""Seconds for a server to start, or to end."""


class Unavailable(Exception):
    """There is no such server here. Says what to do."""


def programs() -> Path:
    """Return the folder of the newest server's programs.

    Raises:
        Unavailable: none is installed, or its driver is not.
    """
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"), key=lambda path: int(path.parts[-3]))
    if not found:
        raise Unavailable("no PostgreSQL server is installed: scripts/postgresql does it on Debian")
    if find_spec("psycopg") is None:
        raise Unavailable("psycopg is not installed: install discreet with the extra postgresql")
    return found[-1].parent


class Server:
    """A server in a folder, which must be made before; it listens to this machine alone, without a password."""

    def __init__(self, folder: Path, settings: dict[str, str]) -> None:
        self.folder = folder
        given = {"listen_addresses": "", "unix_socket_directories": str(folder)} | settings
        self._options = [option for name, value in given.items() for option in ("-c", f"{name}={value}")]
        self._made = count()

    def start(self) -> None:
        """Start it, and wait until it answers."""
        command = [*_as_nobody_great(), programs() / "postgres", "-D", self.folder / "data", *self._options]
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log)
        for _ in range(PATIENCE * 20):
            if self._answers():
                return
            if self._process.poll() is not None:
                break
            time.sleep(0.05)
        self.kill()
        raise RuntimeError((self.folder / "log").read_text())

    def _answers(self) -> bool:
        import psycopg

        try:
            return self.run("SELECT 1") == [(1,)]
        except psycopg.OperationalError:
            return False

    def kill(self) -> None:
        """End it at once: what waits to be written never is."""
        self._process.send_signal(signal.SIGQUIT)
        self._process.wait(PATIENCE)

    def url(self, database: str = "postgres", schema: str = "public") -> str:
        """Return the address of a schema in a database."""
        return f"postgresql+psycopg://postgres@/{database}?host={self.folder}&options=-csearch_path%3D{schema}"

    def new(self) -> str:
        """Return the address of a new, empty schema: to a ledger a database of its own, and far sooner made."""
        schema = f"ledger_{next(self._made)}"
        self.run(f"CREATE SCHEMA {schema}")
        return self.url(schema=schema)

    def run(self, statement: str, url: str | None = None) -> list[tuple[Any, ...]]:
        """Do as an administrator does."""
        import psycopg

        with psycopg.connect((url or self.url()).replace("+psycopg", ""), autocommit=True) as shell:
            cursor = shell.execute(statement)
            return cursor.fetchall() if cursor.description else []


@contextmanager
def running(**settings: str) -> Iterator[Server]:
    """Run a server until the block ends.

    Args:
        settings: of the server, beside where it listens.

    Raises:
        Unavailable: none is installed.
    """
    binaries, folder = programs(), Path(tempfile.mkdtemp(prefix="pg-"))
    try:
        if os.getuid() == 0:  # as whom it refuses to run
            shutil.chown(folder, "postgres", "postgres")
        make = [*_as_nobody_great(), binaries / "initdb", "--pgdata", folder / "data", "--username=postgres"]
        options = ["--auth=trust", "--encoding=UTF8", "--no-locale", "--no-sync"]
        subprocess.run([*make, *options], check=True, stdout=subprocess.DEVNULL, timeout=PATIENCE)
        server = Server(folder, settings)
        server.start()
        try:
            yield server
        finally:
            server.kill()
    finally:
        shutil.rmtree(folder)


def _as_nobody_great() -> list[str | Path]:
    if os.getuid() != 0:
        return []
    user = pwd.getpwnam("postgres")
    return ["setpriv", f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--init-groups", "--"]
