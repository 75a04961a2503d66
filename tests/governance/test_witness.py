"""The witness: what was rolled back is found out, on both databases, and what the witness itself may look like."""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from servers import Server
from systems import inventory

import discreet.errors
from discreet.data.records import Records
from discreet.errors import (
    BudgetExceeded,
    DataError,
    FileNotWritten,
    LedgerCorrupted,
    LedgerError,
    SettingError,
)
from discreet.governance import witness as witness_module
from discreet.governance.heads import SignedHead
from discreet.governance.journal import Journal
from discreet.governance.keyfiles import make_key
from discreet.governance.keys import Master, new_key
from discreet.governance.ledger import Account, Ledger
from discreet.governance.places import NAMED
from discreet.governance.tables import opened
from discreet.governance.tree import Frontier, root
from discreet.governance.witness import Witness, configured

TRAIN = Account("movies", "train")
SPEC = "0" * 64
CAP = 3_372_288

ROLLED_BACK = "rolled back"


# --- What the processes do: each is a fresh interpreter that runs this very file


def work(place: Path, heads: Path, mark: str) -> None:
    """Reserve twenty releases."""
    with Ledger(place, witness=heads) as ledger:
        for number in range(20):
            ledger.reserve(TRAIN, cost=1, release=f"{mark}-{number}", spec=SPEC)


def die(place: Path, heads: Path, at: str) -> None:
    """Reserve, and be killed once that is committed: before the witness is written, or on its way."""

    def kill(*_: object, **__: object) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    with Ledger(place, witness=heads) as ledger:
        if at == "keep":
            Witness.keep = kill  # type: ignore[method-assign,assignment]
        elif at == "key":
            witness_module.make_key = kill  # type: ignore[assignment,attr-defined]
        elif at == "tell":
            witness_module._tell = kill
        else:
            SignedHead.to_bytes = kill  # type: ignore[method-assign,assignment]
        ledger.reserve(TRAIN, cost=1, release="last", spec=SPEC)


def start(task: str, place: Path, heads: Path, argument: str) -> subprocess.Popen[bytes]:
    roots = os.pathsep.join([str(Path(discreet.errors.__file__).parents[1]), *filter(None, sys.path)])
    return subprocess.Popen(
        [sys.executable, "-W", "error", __file__, task, place, heads, argument], env=os.environ | {"PYTHONPATH": roots}
    )


# --- What must be true


@pytest.fixture
def heads(tmp_path: Path) -> Path:
    (tmp_path / "elsewhere").mkdir()
    return tmp_path / "elsewhere" / "heads"


@pytest.fixture
def book(place: str | Path, heads: Path) -> Ledger:
    """Rows: 0 create, 1 open, 2 head, 3 to 5 reserve."""
    with Ledger(place, deadline=5, witness=heads) as ledger:
        ledger.open_budget(TRAIN, epsilon=2.0, delta=1e-6)
        for number in range(3):
            ledger.reserve(TRAIN, cost=1, release=f"r{number}", spec=SPEC)
    return ledger


def sizes(heads: Path) -> list[int]:
    return [SignedHead.from_bytes(line).size for line in heads.read_bytes().splitlines()]


def open_(place: str | Path, heads: Path | None) -> None:
    Ledger(place, deadline=5, create=False, witness=heads).close()


def reserve(place: str | Path, heads: Path | None, release: str = "new") -> None:
    with Ledger(place, deadline=5, create=False, witness=heads) as ledger:
        ledger.reserve(TRAIN, cost=1, release=release, spec=SPEC)


def cut(request: pytest.FixtureRequest, place: str | Path, rows: str) -> None:
    """Take rows off as an administrator can who puts the guards back."""
    doomed = f"DELETE FROM journal WHERE {rows}"  # noqa: S608 - of this file alone
    if isinstance(place, Path):
        with closing(sqlite3.connect(place)) as shell, shell:
            (rule,) = shell.execute("SELECT sql FROM sqlite_schema WHERE name = 'journal_is_not_cut'").fetchone()
            for statement in ("DROP TRIGGER journal_is_not_cut", doomed, rule):
                shell.execute(statement)
        return
    server: Server = request.getfixturevalue("server")
    for statement in ("ALTER TABLE journal DISABLE TRIGGER ALL", doomed, "ALTER TABLE journal ENABLE TRIGGER ALL"):
        server.run(statement, place)


def test_each_change_is_covered_before_it_is_acknowledged(place: str | Path, heads: Path) -> None:
    with Ledger(place, deadline=5, witness=heads) as ledger:
        acts: list[Callable[[], object]] = [
            lambda: ledger.open_budget(TRAIN, epsilon=2.0, delta=1e-6, person_epsilon=1.0),
            lambda: ledger.limit_person("movies", "ann", epsilon=0.5, delta=1e-6),
            lambda: ledger.reserve(TRAIN, cost=1, release="a", spec=SPEC, people=["ann"]),
            lambda: ledger.commit("a", SPEC),
            lambda: ledger.reserve(TRAIN, cost=1, release="b", spec=SPEC, people=["ann"]),
            lambda: ledger.abandon("b"),
            lambda: ledger.set_pace(TRAIN, None),
        ]
        for act in acts:
            act()
            newest = sizes(heads)[-1]
            assert newest == ledger.journal.head().seq + 1
        with pytest.raises(BudgetExceeded):
            ledger.reserve(TRAIN, cost=10 * CAP, release="c", spec=SPEC, people=["ann"])
        assert sizes(heads)[-1] == newest  # nothing was spent: the next head covers the refusal
        kinds = [entry.kind for entry in ledger.journal.rows()]
        assert kinds == ["create", "open", "head", "limit", "reserve", "commit", "reserve", "abandon", "refuse"]
        assert ledger.verify().ok
    assert sizes(heads) == [2, 3, 4, 5, 6, 7, 8]
    assert [path.stat().st_mode & 0o777 for path in sorted(heads.parent.iterdir())] == [0o600, 0o600]


def test_what_grew_beside_the_witness_is_taken_up(book: Ledger, place: str | Path, heads: Path) -> None:
    kept = heads.read_bytes()
    reserve(place, heads)
    heads.write_bytes(kept)  # as if the process had died before the last head
    reserve(place, heads, "newer")
    assert sizes(heads) == [2, 3, 4, 5, 6, 8]
    with Ledger(place, witness=heads) as ledger:
        assert ledger.verify().ok


def test_rows_taken_off_are_found_out(
    request: pytest.FixtureRequest, book: Ledger, place: str | Path, heads: Path
) -> None:
    cut(request, place, "seq >= 4")
    with pytest.raises(
        LedgerCorrupted, match="has seen 6 rows, of which the journal has 4: the database was rolled"
    ) as e:
        open_(place, heads)
    assert e.value.row == 4
    with Ledger(place, deadline=5, create=False) as ledger, pytest.raises(LedgerCorrupted, match=ROLLED_BACK) as e:
        Witness(heads).compare(ledger.journal)
    assert e.value.row == 4


def test_rows_that_came_instead_are_found_out(
    request: pytest.FixtureRequest, book: Ledger, place: str | Path, heads: Path
) -> None:
    cut(request, place, "seq >= 4")
    with closing(opened(place, 5, may_create=False)) as database, database.transaction():
        for _ in range(4):
            Journal(database).append("collect")
    with pytest.raises(LedgerCorrupted, match="other rows: the journal was changed") as e:
        open_(place, heads)
    assert e.value.row == 0  # somewhere from there on; `verify` knows better
    with Ledger(place, deadline=5, create=False) as ledger, pytest.raises(LedgerCorrupted, match="other rows") as e:
        Witness(heads).compare(ledger.journal)
    assert e.value.row == 4


@pytest.mark.parametrize("instead", [0, 3])
def test_a_rollback_below_an_open_ledger_is_found_out(
    request: pytest.FixtureRequest, book: Ledger, place: str | Path, heads: Path, instead: int
) -> None:
    with Ledger(place, deadline=5, witness=heads) as ledger:
        cut(request, place, "seq >= 4")
        with ledger._db.transaction():
            for _ in range(instead):
                ledger.journal.append("collect")
        with pytest.raises(LedgerCorrupted, match=ROLLED_BACK):
            ledger._witness.keep(ledger.journal)  # type: ignore[union-attr]
    assert sizes(heads)[-1] == 6


def test_an_older_copy_of_the_file_is_refused(book: Ledger, path: Path, heads: Path) -> None:
    older = path.with_name("older.db")
    shutil.copy(path, older)
    reserve(path, heads)
    for leftover in ("-wal", "-shm"):
        path.with_name(f"{path.name}{leftover}").unlink(missing_ok=True)
    shutil.copy(older, path)
    with pytest.raises(LedgerCorrupted, match=ROLLED_BACK):
        reserve(path, heads)
    with Ledger(path) as ledger:  # to look at it needs no witness
        assert ledger.account(TRAIN).spent == 3
        assert ledger.verify().ok


def test_a_database_that_is_gone_is_not_made_anew(book: Ledger, path: Path, heads: Path) -> None:
    path.unlink()
    with pytest.raises(LedgerError, match="restore what was there"):
        Ledger(path, witness=heads)
    assert not path.exists()


def test_a_witness_of_another_journal(book: Ledger, path: Path, heads: Path, tmp_path: Path) -> None:
    Ledger(tmp_path / "other.db").close()
    with pytest.raises(LedgerCorrupted, match="is of another journal"):
        open_(tmp_path / "other.db", heads)


def test_without_its_witness_nothing_is_written(book: Ledger, place: str | Path, heads: Path) -> None:
    with Ledger(place, deadline=5) as ledger:
        before = ledger.journal.head()
        for _ in range(2):
            with pytest.raises(LedgerError, match="kept in a witness; name it, with --witness or DISCREET_WITNESS"):
                ledger.reserve(TRAIN, cost=1, release="new", spec=SPEC)
        assert ledger.journal.head() == before


def test_a_witness_that_another_process_began(place: str | Path, heads: Path, ledger: Ledger) -> None:
    ledger.reserve(TRAIN, cost=1, release="before", spec=SPEC)
    reserve(place, heads)
    with pytest.raises(LedgerError, match="kept in a witness"):
        ledger.reserve(TRAIN, cost=1, release="after", spec=SPEC)


@pytest.mark.parametrize("left", ["nothing", "an empty file", "a torn line"])
def test_a_witness_that_is_gone(book: Ledger, place: str | Path, heads: Path, left: str) -> None:
    first = heads.read_bytes().splitlines()[0]
    heads.unlink()
    if left != "nothing":
        heads.write_bytes(first[:100] if left == "a torn line" else b"")
    with pytest.raises(LedgerCorrupted, match="gone or empty, and the journal tells of it: put it back"):
        open_(place, heads)
    with closing(opened(place, 5, may_create=False)) as database:
        journal = Journal(database)
        with pytest.raises(LedgerCorrupted, match="gone or empty"):
            Witness(heads).keep(journal)
        with pytest.raises(LedgerCorrupted, match="gone or empty"):
            Witness(heads).compare(journal)
        Witness(heads).keep(journal, anew=True)
        with pytest.raises(SettingError, match="has heads"):
            Witness(heads).keep(journal, anew=True)
    assert sizes(heads) == [7]
    reserve(place, heads)
    with Ledger(place, witness=heads) as ledger:
        assert [entry.kind for entry in ledger.journal.rows()][-2:] == ["head", "reserve"]
        assert ledger.verify().ok


def test_another_key_is_told_of(book: Ledger, place: str | Path, heads: Path) -> None:
    kept = {path: path.read_bytes() for path in heads.parent.iterdir()}
    key = Path(f"{heads}.key")
    for path in kept:
        path.unlink()
    with closing(opened(place, 5, may_create=False)) as database:
        Witness(heads).keep(Journal(database), anew=True)
    for path, content in kept.items():
        path.write_bytes(content)
    with pytest.raises(LedgerCorrupted, match="not the one that the journal tells of"):
        open_(place, heads)
    key.unlink()
    make_key(key, Ed25519PrivateKey)
    with pytest.raises(LedgerCorrupted, match="its key did not sign"):
        open_(place, heads)
    key.unlink()
    with pytest.raises(DataError, match="cannot be read as a key"):
        open_(place, heads)


@pytest.mark.parametrize("torn", [b"", b"{", b"\0" * 300, b"\0" * 100 + b'"}\n'])
def test_a_torn_last_line_is_passed_over(book: Ledger, path: Path, heads: Path, torn: bytes) -> None:
    with heads.open("ab") as file:
        file.write(torn)
    open_(path, heads)
    with Ledger(path, witness=heads) as ledger:
        assert ledger.verify().ok
    reserve(path, heads)
    assert sizes(heads) == [2, 3, 4, 5, 6, 7]


def test_a_witness_that_was_changed(book: Ledger, path: Path, heads: Path) -> None:
    lines = heads.read_bytes().splitlines(keepends=True)
    other = lines[-1].replace(b'"size":6', b'"size":5')
    for content, said in (
        (b"".join(lines) + b"nonsense\n", "damaged (its last line)"),
        (b"".join(lines[:-1]) + other, "its key did not sign"),
        (b"x" * 5000, "damaged (its end)"),
    ):
        heads.write_bytes(content)
        with pytest.raises(LedgerCorrupted) as refused:
            open_(path, heads)
        assert said in str(refused.value)
    for content, said in (
        (b"nonsense\n" + b"".join(lines), "damaged (line 1)"),
        (b"".join([*lines, lines[0], lines[-1]]), "damaged (line 6)"),
        (lines[0].replace(b"2", b"3") + b"".join(lines), "line 1"),
    ):
        heads.write_bytes(content)
        with Ledger(path, witness=heads) as ledger:  # the last line is whole
            problems = ledger.verify().problems
        assert len(problems) == 1
        assert said in problems[0].what or "did not sign" in problems[0].what


def test_a_witness_that_loses_heads_below_an_open_ledger(book: Ledger, path: Path, heads: Path) -> None:
    with Ledger(path, witness=heads) as ledger:
        ledger.reserve(TRAIN, cost=1, release="new", spec=SPEC)
        lines = heads.read_bytes().splitlines(keepends=True)
        heads.write_bytes(b"".join(lines[:3]))
        with pytest.raises(LedgerCorrupted, match="has lost heads"):
            ledger.reserve(TRAIN, cost=1, release="newer", spec=SPEC)


def test_where_it_cannot_lie(path: Path, tmp_path: Path) -> None:
    with pytest.raises(LedgerError, match="no such folder"):
        Ledger(path, witness=tmp_path / "none" / "heads")
    assert not path.exists()
    with pytest.raises(LedgerError, match="cannot be read: Is a directory"):
        Ledger(path, witness=tmp_path)


def test_a_full_disk_of_the_witness(book: Ledger, path: Path, heads: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with Ledger(path, witness=heads) as ledger:
        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", full)
            with pytest.raises(LedgerError, match="release new is charged and waits, repeat it with --release new"):
                ledger.reserve(TRAIN, cost=1, release="new", spec=SPEC)
            with pytest.raises(FileNotWritten, match="No space left on device; mend that and run the same again"):
                ledger.commit("r0", SPEC)
        ledger.reserve(TRAIN, cost=1, release="new", spec=SPEC)
        assert ledger.commit("r0", SPEC) == SPEC
        assert ledger.account(TRAIN).spent == 4
        assert sizes(heads)[-1] == ledger.journal.head().seq + 1
        assert ledger.verify().ok


def test_one_at_a_time(book: Ledger, path: Path, heads: Path) -> None:
    with Ledger(path, deadline=0.02, witness=heads) as ledger, heads.open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(LedgerError, match=r"kept busy for 0\.02 s; try again"):
            ledger.commit("r0", SPEC)
        fcntl.flock(file, fcntl.LOCK_UN)
        assert ledger.commit("r0", SPEC) == SPEC


def test_what_may_be_undone_is_not_signed(book: Ledger, place: str | Path, heads: Path) -> None:
    with Ledger(place, deadline=5, create=False) as ledger:
        transaction, refused = ledger._db.transaction(), pytest.raises(LedgerError, match="within a transaction")
        with transaction, refused:
            Witness(heads).keep(ledger.journal)


def test_the_environment_names_it(place: str | Path, heads: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert configured(None) is None
    monkeypatch.setenv(NAMED, str(heads))
    with Ledger(place, deadline=5) as ledger:
        ledger.open_budget(TRAIN, epsilon=2.0, delta=1e-6)
    assert sizes(heads) == [2, 3]
    found = configured(heads.parent / "other")
    assert found is not None
    assert found.path.name == "other"


def test_records_are_not_opened_when_rolled_back(
    request: pytest.FixtureRequest, book: Ledger, place: str | Path, heads: Path
) -> None:
    wrapping, declared = Master([new_key()]), inventory()
    with pytest.raises(LedgerError, match="kept in a witness"):
        Records(place, wrapping, declared)
    with Records(place, wrapping, declared, witness=heads) as records:
        assert records.witness is not None
        with records.database.transaction():
            records.journal.append("collect")
        head = records.witness.keep(records.journal)
        assert head.size == records.journal.head().seq + 1
        assert records.witness.keep(records.journal) == head
    cut(request, place, f"seq >= {head.size - 1}")
    with pytest.raises(LedgerCorrupted, match=ROLLED_BACK):
        Records(place, wrapping, declared, witness=heads)


@pytest.mark.parametrize("at", ["keep", "key", "line", "tell"])
@pytest.mark.parametrize("used", [False, True])
def test_killed_between_commit_and_witness(path: Path, heads: Path, at: str, used: bool) -> None:
    with Ledger(path, witness=heads if used else None) as ledger:
        ledger.open_budget(TRAIN, epsilon=2.0, delta=1e-6)
    died = not (used and at in {"key", "tell"})
    assert start("die", path, heads, at).wait() == (-signal.SIGKILL if died else 0)
    with Ledger(path, witness=heads) as ledger:
        assert ledger.account(TRAIN).spent == 1
        ledger.reserve(TRAIN, cost=1, release="last", spec=SPEC)  # the same again: no further charge
        assert ledger.account(TRAIN).spent == 1
        assert sizes(heads)[-1] == ledger.journal.head().seq + 1
        assert [entry.kind for entry in ledger.journal.rows()].count("head") == 1
        assert ledger.verify().ok


def test_two_processes_append(path: Path, heads: Path) -> None:
    with Ledger(path) as ledger:
        ledger.open_budget(TRAIN, epsilon=2.0, delta=1e-6)
    workers = [start("work", path, heads, str(number)) for number in range(2)]
    assert [worker.wait() for worker in workers] == [0, 0]
    found = sizes(heads)
    assert found == sorted(set(found))
    with Ledger(path, witness=heads) as ledger:
        assert ledger.account(TRAIN).spent == 40
        assert found[-1] == ledger.journal.head().seq + 1 == 43
        assert ledger.verify().ok


def test_a_frontier_is_the_tree() -> None:
    leaves = [bytes([number]) * 32 for number in range(20)]
    grown = Frontier()
    for number, leaf in enumerate(leaves):
        copy = grown.copy()
        grown.grow([leaf])
        assert (copy.size, grown.size) == (number, number + 1)
        assert grown.root() == root(leaves[: number + 1])
        assert copy.root() == root(leaves[:number])


def test_a_witness_that_is_not_used_yet(place: str | Path, heads: Path) -> None:
    with Ledger(place, deadline=5, witness=heads) as ledger:
        assert ledger.verify().ok
    assert not heads.exists()


TASKS = {"work": work, "die": die}

if __name__ == "__main__":
    TASKS[sys.argv[1]](Path(sys.argv[2]), Path(sys.argv[3]), sys.argv[4])
