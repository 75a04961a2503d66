"""A ledger on a server: what the server refuses, how it fails, and what it was set to."""

import hashlib
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from hypothesis.stateful import run_state_machine_as_test
from machines import LedgerAgainstModel
from servers import Server, running
from sqlalchemy import text

from discreet.errors import BudgetExceeded, LedgerCorrupted, LedgerError, LedgerFull, SettingError
from discreet.governance import postgresql, tables
from discreet.governance.journal import Head
from discreet.governance.ledger import Account, Ledger
from discreet.privacy import accounting

Shell = Callable[[str], list[tuple[Any, ...]]]

psycopg = pytest.importorskip("psycopg", reason="psycopg is not installed: install discreet with the extra postgresql")

DELTA = 1e-6
TRAIN, TRENDS = Account("movies", "train"), Account("movies", "trends")
CAP = accounting.cap(2.0, DELTA)
SPEC = hashlib.sha256(b"plan").hexdigest()
OTHER = hashlib.sha256(b"another").hexdigest()


@pytest.fixture
def url(server: Server) -> str:
    return server.new()


@pytest.fixture
def history(url: str) -> Iterator[Ledger]:
    """Rows: 0 create, 1 open train, 2 open trends, 3 limit, 4 reserve a, 5 commit a, 6 reserve b, 7 abandon b."""
    with Ledger(url, deadline=5) as ledger:
        ledger.open_budget(TRAIN, epsilon=2.0, delta=DELTA)
        ledger.open_budget(TRENDS, epsilon=8.0, delta=DELTA, person_epsilon=1.0)
        ledger.limit_person("movies", "p", epsilon=0.5, delta=DELTA)
        ledger.reserve(TRAIN, cost=9, release="a", spec=SPEC, people=["p", "q"])
        ledger.commit("a", OTHER)
        ledger.reserve(TRENDS, cost=8, release="b", spec=SPEC, people=["q"])
        ledger.abandon("b")
        yield ledger


@pytest.fixture
def shell(server: Server, url: str) -> Shell:
    """An administrator's hands."""
    return lambda statement: server.run(statement, url)


# --- What it refuses, and what is seen of an administrator who does it all the same


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE account SET spent = spent - 1 WHERE spent > 0",
        "UPDATE account SET spent = cap + 1",
        "UPDATE account SET cap = cap - 1",
        "UPDATE account SET epsilon = 0.5 * epsilon",
        "UPDATE account SET until = '2000-01-01T00:00:00Z'",
        "INSERT INTO account SELECT * FROM account ON CONFLICT (name) DO UPDATE SET spent = 0",
        "INSERT INTO account SELECT * FROM account",
        "DELETE FROM account",
        "TRUNCATE account CASCADE",
        "UPDATE release SET cost = 1",
        "UPDATE release SET state = 'reserved', artefact = NULL WHERE name = 'a'",
        "UPDATE release SET rowid = DEFAULT",
        "DELETE FROM release",
        "TRUNCATE release",
        "INSERT INTO release SELECT 'n', account, -1, spec, NULL, NULL, NULL, 'reserved', NULL, NULL FROM release",
        "INSERT INTO release SELECT 'n', account, 1, spec, NULL, cohort, NULL, 'reserved', NULL, NULL FROM release",
        "INSERT INTO release SELECT 'n', account, 1, spec, NULL, NULL, NULL, 'committed', NULL, NULL FROM release",
        "INSERT INTO release SELECT 'n', account, 1, spec, NULL, NULL, NULL, 'refunded', NULL, NULL FROM release",
        "INSERT INTO release SELECT 'n', 'no/account', 1, spec, NULL, NULL, NULL, 'reserved', NULL, NULL FROM release",
        "UPDATE person SET cap = cap + 1",
        "INSERT INTO person VALUES ('movies', '\\x00', 1)",
        "DELETE FROM person",
        "TRUNCATE person",
        "UPDATE cohort SET members = members || members",
        "INSERT INTO cohort VALUES ('d', '')",
        "TRUNCATE cohort CASCADE",
        "INSERT INTO charge VALUES ('d', '\\x00')",
        "DELETE FROM secret",
        "TRUNCATE secret",
        "UPDATE journal SET body = '{}'",
        "DELETE FROM journal",
        "TRUNCATE journal",
        "INSERT INTO journal SELECT seq + 100, body, hash FROM journal LIMIT 1",
        "INSERT INTO journal SELECT -1, body, hash FROM journal LIMIT 1",
        "CREATE TEMPORARY TABLE journal (seq bigint); "
        "SET search_path TO {schema}, pg_temp; INSERT INTO journal SELECT 0, body, hash FROM journal LIMIT 1",
    ],
)
def test_the_database_refuses(history: Ledger, shell: Shell, statement: str) -> None:
    with pytest.raises(psycopg.IntegrityError):
        shell(statement.replace("{schema}", str(shell("SELECT current_schema()")[0][0])))
    assert history.verify().ok


@pytest.mark.parametrize(
    ("statement", "row"),
    [
        ("UPDATE account SET spent = 0 WHERE name = 'movies/train'", 4),
        ("UPDATE account SET epsilon = 3 WHERE name = 'movies/trends'", 6),
        ("UPDATE release SET artefact = spec WHERE name = 'a'", 5),
        ("DELETE FROM release WHERE name = 'b'", 7),
        ("UPDATE person SET cap = cap + 1", 3),
        ("DELETE FROM person", 3),
        ("UPDATE cohort SET members = decode(repeat('00', 32), 'hex') WHERE length(members) = 32", 4),
        ("UPDATE secret SET value = decode(repeat('00', 32), 'hex')", 0),
        ("UPDATE journal SET body = replace(body, '\"9\"', '\"1\"') WHERE seq = 4", 4),
        ("DELETE FROM journal WHERE seq = 5", 5),
        ("INSERT INTO release SELECT 'z', account, 1, spec, NULL, NULL, NULL, 'reserved' FROM release LIMIT 1", None),
        ("DELETE FROM account WHERE name = 'movies/train'", 4),
    ],
)
def test_tampering_is_named(history: Ledger, shell: Shell, statement: str, row: int | None) -> None:
    shell(f"SET session_replication_role = replica; {statement}")  # past all triggers
    found = history.verify()
    assert found.problems[0].row == row


@pytest.mark.parametrize(
    "statement",
    [
        "DROP TRIGGER spending_only_grows ON account",
        "ALTER TABLE account DISABLE TRIGGER spending_only_grows",
        "ALTER TABLE release DISABLE TRIGGER ALL",
        "CREATE OR REPLACE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END'",
        "ALTER TABLE account DROP CONSTRAINT account_check",
        "ALTER TABLE release DROP CONSTRAINT release_account_fkey",
        "ALTER TABLE journal SET UNLOGGED",
        "ALTER TABLE account ADD COLUMN note text",
        "ALTER TABLE account ALTER COLUMN dataset SET DEFAULT 'films'",
        "ALTER TABLE journal ALTER COLUMN body DROP NOT NULL",
        "ALTER TABLE account ENABLE ROW LEVEL SECURITY",
        "DROP INDEX release_of_account",
        "CREATE RULE forget AS ON INSERT TO release DO INSTEAD NOTHING",
        "CREATE TABLE more () INHERITS (release)",
        "CREATE TRIGGER another BEFORE INSERT ON journal FOR EACH ROW EXECUTE FUNCTION refuse_change('no')",
    ],
)
def test_rules_that_were_changed_stop_charging(history: Ledger, shell: Shell, statement: str) -> None:
    shell(statement)
    with pytest.raises(LedgerCorrupted, match="rules of the file") as refused:
        history.reserve(TRAIN, cost=1, release="new", spec=SPEC, people=["q"])
    assert refused.value.row == 0
    assert 0 in {problem.row for problem in history.verify().problems}


def test_other_tables_beside_it_are_none_of_its_rules(history: Ledger, shell: Shell) -> None:
    shell("CREATE TABLE shopping (item text)")
    assert history.verify().ok


def test_a_restored_backup_is_noticed(server: Server) -> None:
    server.run("CREATE DATABASE source")
    with Ledger(server.url("source")) as ledger:
        ledger.open_budget(TRAIN, epsilon=2.0, delta=DELTA)
    server.run("CREATE DATABASE restored TEMPLATE source")
    with Ledger(server.url("source"), create=False) as ledger:
        ledger.reserve(TRAIN, cost=1, release="later", spec=SPEC)
        head = ledger.journal.head()
    with Ledger(server.url("restored"), create=False) as restored:
        assert restored.verify().ok
        assert [problem.row for problem in restored.verify(expected_head=head).problems] == [2]
        assert restored.verify(expected_head=Head(0, restored.journal.hash_of(0) or "")).ok


@pytest.mark.parametrize("table", ["account", "release", "person", "cohort", "charge", "secret"])
def test_a_lost_table_is_typed(history: Ledger, shell: Shell, table: str) -> None:
    shell(f"DROP TABLE {table} CASCADE")
    with pytest.raises(LedgerCorrupted, match=r"lacks a table|is damaged"):
        history.verify()


# --- How it is made and opened


def test_an_empty_database_is_no_ledger_to_read(url: str) -> None:
    with pytest.raises(LedgerError, match=r"there is no ledger in database postgres at a local socket; open a budget"):
        Ledger(url, create=False)
    with Ledger(url) as ledger:
        assert ledger.accounts() == []
    with Ledger(url, create=False) as ledger:
        assert ledger.verify().ok


def test_of_two_that_make_it_at_once_one_does(url: str) -> None:
    problems: list[object] = []

    def make() -> None:
        with Ledger(url) as ledger:
            problems.extend(ledger.verify().problems)
            problems.extend([1] * (ledger.journal.head().seq != 0))

    both = [threading.Thread(target=make) for _ in range(4)]
    for each in both:
        each.start()
    for each in both:
        each.join()
    assert not problems
    with Ledger(url, create=False) as ledger:
        assert ledger.verify().rows == 1


def test_a_failed_making_leaves_nothing(url: str, monkeypatch: pytest.MonkeyPatch, shell: Shell) -> None:
    with monkeypatch.context() as failing:
        failing.setattr(tables, "pins", lambda database: database.one(text("SELECT nonsense")))
        with pytest.raises(LedgerCorrupted):
            Ledger(url)
    assert shell("SELECT count(*) FROM pg_class WHERE relnamespace = current_schema()::regnamespace") == [(0,)]
    with Ledger(url) as ledger:
        assert ledger.verify().ok


def test_another_programs_tables_stay_as_they_are(url: str, shell: Shell) -> None:
    shell("CREATE TABLE account (note text)")
    with pytest.raises(LedgerError, match=r"no ledger can be made in database \w+ at .*; give it a database of"):
        Ledger(url)
    assert shell("SELECT relname FROM pg_class WHERE relnamespace = current_schema()::regnamespace") == [("account",)]


@pytest.mark.parametrize(("statement", "found"), [("UPDATE {} SET version_num = '4'", "4"), ("DELETE FROM {}", "none")])
def test_another_version_is_refused(history: Ledger, url: str, shell: Shell, statement: str, found: str) -> None:
    shell(statement.format("ledger_version"))
    for create in (True, False):
        with pytest.raises(LedgerError, match=rf"is not a ledger of version 3 \(found version {found}\)"):
            Ledger(url, create=create)
    assert history.verify().ok


def test_text_that_is_not_kept_as_utf_8(server: Server) -> None:
    server.run("CREATE DATABASE latin ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0")
    with pytest.raises(LedgerError, match="keeps text as LATIN1"):
        Ledger(server.url("latin"))


def test_without_the_driver_it_says_how_to_get_it(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(SettingError, match=r"discreet\[postgresql\]"):
        Ledger(url)


def test_a_url_that_cannot_be_read() -> None:
    with pytest.raises(SettingError, match="cannot be read"):
        Ledger("postgresql://h:port/d")


def test_no_database_of_that_name(server: Server) -> None:
    with pytest.raises(LedgerError, match="database nowhere at a local socket cannot be reached"):
        Ledger(server.url("nowhere"))


def test_whoever_spends_need_not_own_the_tables(history: Ledger, url: str, shell: Shell) -> None:
    schema = shell("SELECT current_schema()")[0][0]
    shell(f"CREATE ROLE spender LOGIN; GRANT USAGE ON SCHEMA {schema} TO spender")
    as_spender = url.replace("postgres@", "spender@")
    with pytest.raises(LedgerError, match="may not be written by this user"):
        Ledger(as_spender).accounts()
    shell(f"GRANT SELECT, INSERT, UPDATE ON ALL TABLES IN SCHEMA {schema} TO spender")
    with Ledger(as_spender) as ledger:
        ledger.reserve(TRAIN, cost=1, release="c", spec=SPEC, people=["q"])
        assert ledger.verify().ok
        with pytest.raises(LedgerError, match="may not be written by this user"):
            ledger._db.execute(text("ALTER TABLE account DISABLE TRIGGER ALL"))


CARELESS = {
    "synchronous_commit": "off",
    "extra_float_digits": "-15",
    "default_transaction_read_only": "on",
    "quote_all_identifiers": "on",
    "default_transaction_isolation": "'read uncommitted'",
}


def test_what_the_server_was_set_to_does_not_count(server: Server) -> None:
    server.run("CREATE DATABASE careless")
    Ledger(server.url("careless")).close()
    for name, value in CARELESS.items():
        server.run(f"ALTER DATABASE careless SET {name} = {value}")
    with Ledger(server.url("careless"), deadline=0.25) as ledger:
        told = [ledger._db.one(text(f"SHOW {name}")) for name in ("synchronous_commit", "lock_timeout")]
        assert told == [("on",), ("250ms",)]
        assert ledger._db.one(text("SHOW statement_timeout")) == ("60250ms",)
        ledger.open_budget(TRAIN, epsilon=1 / 3, delta=DELTA)
        ledger.reserve(TRAIN, cost=1, release="c", spec=SPEC, people=["q"])
        assert ledger.account(TRAIN).epsilon == 1 / 3
        assert ledger.verify().ok


# --- How it fails


def test_a_writer_waits_no_longer_than_its_deadline(history: Ledger, url: str) -> None:
    with Ledger(url, deadline=0.05) as waiting:
        with history._db.transaction():
            assert waiting.account(TRAIN).spent == 9
            assert waiting.verify().ok
            began = time.monotonic()
            with pytest.raises(LedgerError, match=r"busy by another process for 0.05 s"):
                waiting.reserve(TRAIN, cost=1, release="c", spec=SPEC, people=["q"])
            assert time.monotonic() - began < 4  # and not the other's deadline, nor that of a statement
        assert waiting.reserve(TRAIN, cost=1, release="c", spec=SPEC, people=["q"]).state == "reserved"


def test_a_statement_that_takes_too_long(history: Ledger, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(postgresql, "LONGEST_STATEMENT", 0)
    with Ledger(url, deadline=0.05) as impatient:
        with pytest.raises(LedgerError, match="busy"):
            impatient._db.one(text("SELECT pg_sleep(5)"))
        assert impatient.account(TRAIN).spent == 9


def test_a_snapshot_does_not_move(history: Ledger, url: str) -> None:
    with Ledger(url) as other, history._db.snapshot():
        before = history.journal.head()
        other.reserve(TRAIN, cost=1, release="c", spec=SPEC, people=["q"])
        assert history.journal.head() == before
        with pytest.raises(LedgerError, match="may not be written"):
            history._db.execute(text("DELETE FROM account"))


@pytest.mark.parametrize(
    ("state", "kind", "said"),
    [
        ("53100", LedgerFull, "free space"),
        ("53200", LedgerError, "free space"),
        ("58030", LedgerError, "free space"),
        ("55P03", LedgerError, "busy"),
        ("40001", LedgerError, "busy"),
        ("40P01", LedgerError, "busy"),
        ("42501", LedgerError, "may not be written"),
        ("25006", LedgerError, "may not be written"),
        ("23505", LedgerCorrupted, "rules forbid"),
        ("P0001", LedgerCorrupted, "rules forbid"),
        ("42P01", LedgerCorrupted, "lacks a table"),
        ("22003", LedgerCorrupted, "is damaged"),
        ("XX001", LedgerCorrupted, "is damaged"),
        ("25P02", LedgerCorrupted, "is damaged"),
        ("0A000", LedgerError, "is closed"),
    ],
)
def test_what_the_server_says_is_typed(history: Ledger, state: str, kind: type[LedgerError], said: str) -> None:
    told = f"DO $$ BEGIN RAISE EXCEPTION 'of zaphod' USING ERRCODE = '{state}', DETAIL = 'zaphod'; END $$"
    with pytest.raises(LedgerError, match=said) as typed, history._db.transaction():
        history._db.execute(text(told.replace(":", "\\:")))
    assert type(typed.value) is kind
    assert "zaphod" not in str(typed.value)
    assert typed.value.__suppress_context__
    assert not history._db.in_transaction
    assert history.verify().ok


def cut_off(history: Ledger, shell: Callable[[str], object]) -> None:
    (pid,) = history._db.one(text("SELECT pg_backend_pid()")) or (None,)
    shell(f"SELECT pg_terminate_backend({pid}, 5000)")


def test_a_lost_connection_is_typed(history: Ledger, url: str, shell: Shell) -> None:
    cut_off(history, shell)
    with pytest.raises(LedgerError, match=r"connection to database \w+ at a local socket was lost; open it anew"):
        history.reserve(TRAIN, cost=1, release="c", spec=SPEC, people=["q"])
    with pytest.raises(LedgerError, match="was lost"):
        history.accounts()
    history.close()
    with Ledger(url) as ledger:
        assert ledger.account(TRAIN).spent == 9


def cut_off_within(history: Ledger, shell: Callable[[str], object]) -> None:
    with history._db.transaction():
        history._db.execute(text("UPDATE account SET spent = spent + 5"))
        cut_off(history, shell)


def test_a_connection_lost_on_the_way_leaves_nothing(history: Ledger, url: str, shell: Shell) -> None:
    with pytest.raises(LedgerError, match="was lost"):
        cut_off_within(history, shell)
    with Ledger(url) as ledger:
        assert ledger.account(TRAIN).spent == 9
        assert ledger.verify().ok


def test_rows_come_in_parts(history: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(postgresql, "_BATCH", 2)
    assert history.verify().rows == 8
    assert [entry.seq for entry in history.journal.rows()] == list(range(8))
    with history._db.snapshot():  # one within the other, neither read to its end
        pairs = [(one.seq, other.seq) for one in history.journal.rows() for other in islice(history.journal.rows(), 2)]
    assert pairs == [(one, other) for one in range(8) for other in range(2)]


def test_releases_come_in_the_order_of_reservation(history: Ledger) -> None:
    for name in ("z", "y", "x"):
        history.reserve(TRAIN, cost=1, release=name, spec=SPEC, people=["q"])
    history.commit("z", SPEC)
    assert [state.release for state in history.releases()] == ["a", "b", "z", "y", "x"]


# --- Many at once, and the end of a server


def test_writers_take_turns_and_leave_no_gap(url: str) -> None:
    """More threads than the cap has room for, each with its own connection: the sum is exact, rows are consecutive."""
    price, wanted = CAP // 20, 8
    with Ledger(url) as ledger:
        ledger.open_budget(TRAIN, epsilon=2.0, delta=DELTA)
    granted: list[str] = []

    def spend(mark: int) -> None:
        with Ledger(url, deadline=60) as ledger:
            for number in range(wanted):
                try:
                    ledger.reserve(TRAIN, cost=price, release=f"{mark}-{number}", spec=SPEC)
                except BudgetExceeded:
                    return
                granted.append(f"{mark}-{number}")

    spenders = [threading.Thread(target=spend, args=(mark,)) for mark in range(4)]
    for each in spenders:
        each.start()
    for each in spenders:
        each.join()
    with Ledger(url, create=False) as ledger:
        assert len(granted) == 20
        assert {state.release for state in ledger.releases()} == set(granted)
        assert ledger.account(TRAIN).spent == 20 * price
        assert ledger.verify().ok


def test_without_the_lock_they_would_not(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The test above can fail: two that read the same head write the same row, and one is stopped by the guards."""
    monkeypatch.setattr(postgresql, "_LOCK", "SELECT 1")
    with Ledger(url) as one, Ledger(url) as other:
        one.open_budget(TRAIN, epsilon=2.0, delta=DELTA)
        stopped: list[Exception] = []

        def late() -> None:
            with Ledger(url) as third:
                try:
                    third.reserve(TRAIN, cost=1, release="late", spec=SPEC)
                except LedgerError as error:
                    stopped.append(error)

        with one._db.transaction():
            one.journal.append("note")
            thread = threading.Thread(target=late)
            thread.start()
            while not other._db.one(text("SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock'")):
                time.sleep(0.01)
        thread.join()
        assert [type(each) for each in stopped] == [LedgerCorrupted]
        assert other.account(TRAIN).spent == 0


def test_one_claims_a_database_until_it_is_closed(url: str, server: Server) -> None:
    with Ledger(url) as one, Ledger(url) as other, Ledger(server.new()) as elsewhere:
        for _ in range(2):
            one._db.claim()
        elsewhere._db.claim()
        with pytest.raises(LedgerError, match="is served by another process"):
            other._db.claim()
        one.close()
        for _ in range(500):  # the server ends what was closed in its own time
            with suppress(LedgerError):
                other._db.claim()
                break
            time.sleep(0.01)
        else:
            other._db.claim()


def test_what_was_acknowledged_outlives_the_server() -> None:
    """One that is set to acknowledge first and write later, and is then killed."""
    with running(synchronous_commit="off", wal_writer_delay="10s") as server:
        place = server.url()
        server.run("CREATE TABLE lazily (number int)")
        with Ledger(place) as ledger:
            ledger.open_budget(TRAIN, epsilon=2.0, delta=DELTA)
            for number in range(20):
                ledger.reserve(TRAIN, cost=1, release=f"r{number}", spec=SPEC)
            server.run("INSERT INTO lazily VALUES (1)")
            server.kill()
        server.start()
        with Ledger(place, create=False) as ledger:
            assert len(ledger.releases()) == ledger.account(TRAIN).spent == 20
            assert ledger.verify().ok
        assert server.run("SELECT * FROM lazily") == []  # whoever relies on the server's settings loses it


def test_the_ledger_against_its_model(server: Server) -> None:
    class OnServer(LedgerAgainstModel):
        def new_place(self) -> str:
            return server.new()

    budget = settings(max_examples=8, stateful_step_count=20, deadline=None, database=None)
    run_state_machine_as_test(OnServer, settings=budget)


def test_the_command_line_takes_it_from_the_environment(url: str, tmp_path: Path) -> None:
    main = "from discreet.cli import main; main()"

    def discreet(*arguments: str) -> str:
        done = subprocess.run(
            [sys.executable, "-W", "error", "-c", main, *arguments],
            cwd=tmp_path,
            env=os.environ | {"DISCREET_LEDGER": url, "COLUMNS": "200"},
            capture_output=True,
            text=True,
            check=True,
        )
        return done.stdout

    said = discreet("budget", "open", "movies", "--epsilon", "2", "--delta", "1e-6")
    assert "at a local socket" in said
    assert "postgresql" not in said
    assert "movies/train-recommender" in discreet("budget", "show")
    assert "everything fits" in discreet("journal", "verify")
    assert list(tmp_path.iterdir()) == []
