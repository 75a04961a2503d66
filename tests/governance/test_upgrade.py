"""A ledger of version 2 is brought to this version, whole or not at all."""

import gzip
import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from alembic import command
from sqlalchemy import text

from discreet.errors import LedgerCorrupted, LedgerError
from discreet.governance import schema, sqlite, tables
from discreet.governance import upgrade as module
from discreet.governance.journal import Journal
from discreet.governance.ledger import Account, Ledger
from discreet.governance.tables import opened
from discreet.governance.upgrade import upgrade
from discreet.governance.witness import Witness

TRAIN = Account("movies", "train")
TERMS: dict[str, Any] = {"cost": 1, "spec": "0" * 64}


@pytest.fixture
def older(place: str | Path) -> str | Path:
    """A ledger as version 2 made it, with a budget and two releases."""
    run = command.upgrade
    with pytest.MonkeyPatch.context() as then:
        then.setattr(command, "upgrade", lambda config, _: run(config, "2"))
        then.setattr(schema, "VERSION", 2)
        then.setattr(schema, "OLDER", ())
        then.setattr(sqlite, "VERSION", 2)
        then.setattr(Journal, "append", _without_version(Journal.append))
        with Ledger(place) as book:
            book.open_budget(TRAIN, epsilon=2.0, delta=1e-6, person_epsilon=1.0)
            for name in "ab":
                book.reserve(TRAIN, release=name, **TERMS, people=["ann", "bob"])
            book.commit("a", "1" * 64)
    return place


def _without_version(append: Callable[..., int]) -> Callable[..., int]:
    def told(journal: Journal, kind: str, **facts: Any) -> int:
        facts.pop("version", None)
        return append(journal, kind, **facts)

    return told


def version(place: str | Path) -> str:
    with closing(opened(place, 5, may_create=False, may_be_older=True)) as database:
        return str(database.version())


def bodies(place: str | Path) -> list[object]:
    with closing(opened(place, 5, may_create=False, may_be_older=True)) as database:
        return list(database.each(text("SELECT seq, body, hash FROM journal ORDER BY seq")))


def test_it_is_never_done_by_itself(older: str | Path) -> None:
    for create in (True, False):
        with pytest.raises(LedgerError, match="of version 2, and this is version 3; keep a copy and run `discreet"):
            Ledger(older, create=create)
    assert version(older) == "2"


def test_all_in_it_stays(older: str | Path) -> None:
    before = bodies(older)
    assert upgrade(older) == "2"
    assert bodies(older)[:-1] == before
    with Ledger(older, create=False) as book:
        last = [*book.journal.rows()][-1]
        assert (last.kind, last.facts["from"], last.facts["version"]) == ("upgrade", "2", "3")
        assert book.verify().ok
        assert book.account(TRAIN).spent == 2
        assert [made.state for made in book.releases()] == ["committed", "reserved"]
        book.reserve(TRAIN, release="c", **TERMS, people=["ann"])
        assert book.raise_cap(TRAIN, epsilon=3.0, by=["ann", "bob"]).epsilon == 3.0
        book.reserve(TRAIN, release="d", **TERMS, people=["ann"])
        assert book.verify().ok
    head = bodies(older)
    assert upgrade(older) == "3"  # again: nothing is done
    assert bodies(older) == head


def test_it_is_made_as_a_new_one_is(older: str | Path, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    upgrade(older)
    new = tmp_path / "new.db" if isinstance(older, Path) else request.getfixturevalue("server").new()
    with Ledger(older, create=False) as one, Ledger(new) as other:
        name = str(older).rpartition("search_path%3D")[2] if isinstance(older, str) else "-"
        named = str(new).rpartition("search_path%3D")[2] if isinstance(new, str) else "-"
        assert [rule.replace(name, named) for rule in one._db.rules()] == other._db.rules()


def test_a_file_from_before_there_were_migrations(tmp_path: Path) -> None:
    """Row 0 of its journal pins the rules in the words of that time."""
    path = tmp_path / "ledger.db"
    path.write_bytes(gzip.decompress((Path(__file__).parent / "version_2.db.gz").read_bytes()))
    assert upgrade(path) == "2"
    with Ledger(path, create=False) as ledger:
        assert ledger.verify().ok
        ledger.reserve(TRAIN, cost=1, release="new", spec="0" * 64, people=["ann"])
        ledger.raise_cap(TRAIN, epsilon=9.0, by=["ann", "bob"])
        assert ledger.verify().ok


def test_a_rule_that_was_taken_away_is_not_passed_over(older: str | Path) -> None:
    with closing(opened(older, 5, may_create=False, may_be_older=True)) as database:
        on = "" if isinstance(older, Path) else " ON account"
        database.execute(text(f"DROP TRIGGER account_stays{on}"))
    with pytest.raises(LedgerCorrupted, match="are not those it was made with"):
        upgrade(older)
    assert version(older) == "2"


def test_a_rule_that_is_taken_away_later_is_missed(older: str | Path) -> None:
    upgrade(older)
    with Ledger(older, create=False) as book:
        on = "" if isinstance(older, Path) else " ON account"
        book._db.execute(text(f"DROP TRIGGER account_stays{on}"))
        with pytest.raises(LedgerCorrupted, match="are not those it was made with") as missed:
            book.reserve(TRAIN, release="c", **TERMS, people=["ann"])
        upgraded = book.journal.head().seq
        assert missed.value.row == upgraded
        assert [problem.row for problem in book.verify().problems] == [upgraded]


def test_a_key_that_changes_with_the_version(older: str | Path) -> None:
    upgrade(older)
    with closing(opened(older, 5, may_create=False)) as database:
        pins = tables.pins(database)
    with Ledger(older, create=False) as book, mock.patch("discreet.governance.replay.VERSION", 4):
        with book._db.transaction():
            row = book.journal.append(
                "upgrade", **{"from": "3", "version": "4", "rules": pins["rules"], "secrets": "0" * 64}
            )
        assert [(problem.row, problem.what) for problem in book.verify().problems] == [
            (row, "changes the key of the pseudonyms")
        ]


def test_an_error_on_the_way_leaves_it_as_it_was(older: str | Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = bodies(older)
    with closing(opened(older, 5, may_create=False, may_be_older=True)) as database:
        database.execute(text("CREATE TABLE keyring (note TEXT)"))
        rules = database.rules()
    monkeypatch.setattr(module, "check_pins", lambda *_: None)
    with pytest.raises(LedgerError, match="could not be upgraded and is as it was"):
        upgrade(older)
    with closing(opened(older, 5, may_create=False, may_be_older=True)) as database:
        assert (str(database.version()), database.rules()) == ("2", rules)
    assert bodies(older) == before


DIES = """
import os, sys
from discreet.governance import journal, upgrade
def die(*_, **__):
    os.kill(os.getpid(), 9)
journal.Journal.append = die
upgrade.upgrade(sys.argv[1])
"""


def test_whoever_is_killed_in_the_middle_leaves_it_whole(older: str | Path) -> None:
    before = bodies(older)
    done = subprocess.run([sys.executable, "-c", DIES, str(older)], check=False, timeout=60, env=os.environ)
    assert done.returncode == -signal.SIGKILL
    assert (version(older), bodies(older)) == ("2", before)
    assert upgrade(older) == "2"
    with Ledger(older, create=False) as book:
        assert book.verify().ok


def test_others_are_not_upgraded(tmp_path: Path) -> None:
    with pytest.raises(LedgerError, match="there is no ledger"):
        upgrade(tmp_path / "none.db")
    with closing(sqlite3.connect(tmp_path / "other.db")) as shell:
        shell.execute("CREATE TABLE account (note)")
    with pytest.raises(LedgerError, match=r"is not a ledger of version 3 \(found version 0\)"):
        upgrade(tmp_path / "other.db")


def test_what_a_witness_has_seen_is_held_to_and_it_sees_the_upgrade(
    older: str | Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    witness = tmp_path / "elsewhere" / "heads"
    witness.parent.mkdir()
    with closing(opened(older, 5.0, may_create=False, may_be_older=True)) as database:
        Witness(witness).keep(Journal(database))
    with pytest.raises(LedgerError, match="witness"):
        upgrade(older)
    monkeypatch.setenv("DISCREET_WITNESS", str(witness))
    assert upgrade(older) == "2"
    with Ledger(older, create=False) as ledger:
        assert ledger.verify().ok
        assert ledger.journal.linked(ledger.journal.head().seq).kind == "upgrade"
