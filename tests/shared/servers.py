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
    """A running server. As on any, ``synchronous_commit`` may be off; the ledger is to see to that itself."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._made = count()

    def url(self, database: str) -> str:
        """Return the address of a database."""
        return f"postgresql+psycopg://postgres@/{database}?host={self.folder}"

    def new(self) -> str:
        """Return the address of a new, empty database."""
        database = f"ledger_{next(self._made)}"
        self.run(f"CREATE DATABASE {database}", "postgres")
        return self.url(database)

    def run(self, statement: str, database: str) -> list[tuple[Any, ...]]:
        """Do as an administrator does."""
        import psycopg

        with psycopg.connect(host=str(self.folder), user="postgres", dbname=database, autocommit=True) as shell:
            cursor = shell.execute(statement)
            return cursor.fetchall() if cursor.description else []


@contextmanager
def running(**settings: str) -> Iterator[Server]:
    """Run a server until the block ends.

    Args:
        settings: of the server, beside those of a server that listens to this machine's user alone.

    Raises:
        Unavailable: none is installed.
    """
    binaries, folder = programs(), Path(tempfile.mkdtemp(prefix="pg-"))
    try:
        if os.getuid() == 0:  # as whom it refuses to run
            shutil.chown(folder, "postgres", "postgres")
        made: list[str | Path] = [
            binaries / "initdb",
            "--pgdata",
            folder / "data",
            "--username=postgres",
            "--auth=trust",
        ]
        subprocess.run(
            [*_as_nobody_great(), *made, "--encoding=UTF8", "--no-locale", "--no-sync"],
            check=True,
            stdout=subprocess.DEVNULL,
        )
        given = {"listen_addresses": "", "unix_socket_directories": str(folder)} | settings
        options = [option for name, value in given.items() for option in ("-c", f"{name}={value}")]
        with (folder / "log").open("wb") as log:
            server = subprocess.Popen(
                [*_as_nobody_great(), binaries / "postgres", "-D", folder / "data", *options], stdout=log, stderr=log
            )
        try:
            yield _awaited(Server(folder), server)
        finally:
            server.send_signal(signal.SIGQUIT)  # at once, for nothing of it is kept
            server.wait(PATIENCE)
    finally:
        shutil.rmtree(folder)


def _awaited(server: Server, process: subprocess.Popen[bytes]) -> Server:
    import psycopg

    for _ in range(PATIENCE * 20):
        try:
            server.run("SELECT 1", "postgres")
        except psycopg.OperationalError:
            if process.poll() is not None:
                break
            time.sleep(0.05)
        else:
            return server
    raise RuntimeError((server.folder / "log").read_text())


def _as_nobody_great() -> list[str]:
    if os.getuid() != 0:
        return []
    user = pwd.getpwnam("postgres")
    return ["setpriv", f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--init-groups", "--"]
