"""A budget for films, one more with personal caps, and an administrator's hands."""

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
from servers import Server

from discreet.governance.ledger import Account, Ledger

DELTA = 1e-6


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run what uses a ledger on both databases, but what looks into its file on that alone."""
    if "place" in metafunc.fixturenames:
        on = ("sqlite",) if "path" in metafunc.fixturenames else ("sqlite", "postgresql")
        metafunc.parametrize("place", on, indirect=True)


@pytest.fixture
def place(request: pytest.FixtureRequest, tmp_path: Path) -> str | Path:
    """Where there is no ledger yet."""
    if request.param == "sqlite":
        return tmp_path / "ledger.db"
    server: Server = request.getfixturevalue("server")
    return server.new()


@pytest.fixture
def path(place: str | Path) -> Path:
    assert isinstance(place, Path)
    return place


@pytest.fixture
def ledger(place: str | Path) -> Iterator[Ledger]:
    with Ledger(place, deadline=5) as opened:
        opened.open_budget(Account("movies", "train"), epsilon=2.0, delta=DELTA)
        yield opened


@pytest.fixture
def capped(ledger: Ledger) -> Ledger:
    ledger.open_budget(Account("movies", "trends"), epsilon=8.0, delta=DELTA, person_epsilon=1.0)
    return ledger


@pytest.fixture
def forge(path: Path) -> Callable[..., None]:
    """Edit the file as an administrator could who leaves the rules as they were."""

    def edit(*statements: str) -> None:
        with closing(sqlite3.connect(path)) as shell, shell:
            shell.execute("PRAGMA ignore_check_constraints = ON")
            rules = shell.execute("SELECT name, sql FROM sqlite_schema WHERE type = 'trigger'").fetchall()
            for name, _ in rules:
                shell.execute(f"DROP TRIGGER {name}")
            for statement in statements:
                shell.execute(statement)
            for _, sql in rules:
                shell.execute(sql)

    return edit
