"""Where a ledger lies: a path is a path, a URL is a URL, and no password is repeated."""

from pathlib import Path

import pytest

from discreet.errors import LedgerError, SettingError
from discreet.governance.ledger import Ledger
from discreet.governance.places import file_of

SECRET = "hunter2"  # noqa: S105 - of nobody


@pytest.mark.parametrize("given", ["ledger.db", "a/b.db", "/x y.db", "postgresql.db", "c:d", Path("ledger.db")])
def test_paths(given: str | Path) -> None:
    assert file_of(given) == Path(given)


@pytest.mark.parametrize(
    "url", ["postgresql://h/d", "postgresql+psycopg://u:p@h:5432/d", "PostgreSQL://h/d", "postgresql:///d?host=/run"]
)
def test_urls(url: str) -> None:
    assert file_of(url) is None


@pytest.mark.parametrize(
    "given",
    [
        f"mysql://u:{SECRET}@h/d",
        f"postgres://u:{SECRET}@h/d",
        f"postgresql+asyncpg://u:{SECRET}@h/d",
        f"sqlite:///{SECRET}.db",
        Path(f"postgresql://u:{SECRET}@h/d"),
    ],
)
def test_other_urls_are_refused(given: str | Path) -> None:
    with pytest.raises(SettingError) as refused:
        Ledger(given)
    assert SECRET not in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    "url",
    [
        f"postgresql+psycopg://u:{SECRET}@127.0.0.1:1/d",
        f"postgresql+psycopg://u:{SECRET}@/d?host=/nowhere",
        f"postgresql+psycopg://u@/d?host=/nowhere&password={SECRET}",
        f"postgresql+psycopg://u:{SECRET}@h:port/d",
        f"postgresql+psycopg://u@/d?nonsense={SECRET}",
        f"postgresql+psycopg://u:{SECRET}@\udcff/d",
    ],
)
def test_servers_that_are_not_there(url: str) -> None:
    with pytest.raises((LedgerError, SettingError)) as refused:
        Ledger(url, deadline=1)
    shown: BaseException | None = refused.value
    while shown is not None:  # all that a traceback would print
        assert SECRET not in f"{shown}{shown!r}"
        shown = shown.__cause__ or (None if shown.__suppress_context__ else shown.__context__)
