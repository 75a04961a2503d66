"""A ledger in a PostgreSQL database, on one connection, with what a file promises."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from itertools import count
from typing import TYPE_CHECKING, Any

from sqlalchemy import URL, make_url
from sqlalchemy.dialects.postgresql import psycopg as dialect
from sqlalchemy.exc import SQLAlchemyError

from discreet.errors import LedgerError, LedgerFull, SettingError
from discreet.governance.database import Database, Row
from discreet.governance.schema import METADATA

if TYPE_CHECKING:
    from psycopg import Connection

LONGEST_STATEMENT = 60
"""Seconds, beyond the deadline: a server that takes longer over one statement is told to stop."""

_BATCH = 1_000

# Whoever writes holds the lock of this ledger: that of its journal's own number or, while there is none, this one.
_LOCK = "SELECT pg_advisory_xact_lock(COALESCE(to_regclass('journal')::oid::bigint, -2))"

_CLAIM = "SELECT pg_try_advisory_lock(-3 - to_regclass('journal')::oid::bigint)"

# What a server may have been set to otherwise. Acknowledged without the first, rows are lost when the power goes; with
# fewer digits an epsilon is not the one that was stored; with other quotes the rules are not told as they were.
_SESSION = (
    "SELECT set_config('synchronous_commit', 'on', false), set_config('lock_timeout', %(lock)s, false), "
    "set_config('statement_timeout', %(statement)s, false), set_config('extra_float_digits', '1', false), "
    "set_config('quote_all_identifiers', 'off', false)"
)

_ENCODING = "SELECT pg_encoding_to_char(encoding) FROM pg_database WHERE datname = current_database()"
# Asked of the catalogue itself: to_regclass may answer from before the lock was had.
_IS_MADE = "SELECT COUNT(*) > 0 FROM pg_class WHERE relname = 'ledger_version' AND pg_table_is_visible(oid)"
_VERSION = "SELECT COALESCE(MIN(version_num), 'none') FROM ledger_version"

# Beside each definition what it does not tell: whether it is in force.
_RULES = """
WITH held AS (
    SELECT relation.* FROM unnest(%(tables)s::text[]) AS name
    JOIN pg_class AS relation ON relation.oid = to_regclass(name)
)
SELECT concat_ws(' ', 'table', relname, relkind, relpersistence, relrowsecurity, relhassubclass) AS line FROM held
UNION ALL SELECT concat_ws(' ', 'column', relname, attname, format_type(atttypid, atttypmod), attnotnull,
    attcollation::regcollation, attidentity, attgenerated, pg_get_expr(adbin, adrelid))
    FROM held JOIN pg_attribute ON attrelid = held.oid LEFT JOIN pg_attrdef ON adrelid = attrelid AND adnum = attnum
    WHERE attnum > 0 AND NOT attisdropped
UNION ALL SELECT concat_ws(' ', 'constraint', relname, conname, convalidated, pg_get_constraintdef(pg_constraint.oid))
    FROM held JOIN pg_constraint ON conrelid = held.oid WHERE contype <> 'n'
UNION ALL SELECT concat_ws(' ', 'index', relname, indisvalid, pg_get_indexdef(indexrelid))
    FROM held JOIN pg_index ON indrelid = held.oid
UNION ALL SELECT concat_ws(' ', 'trigger', relname, tgenabled, tgtype,
    CASE WHEN tgisinternal THEN tgfoid::regproc::text ELSE pg_get_triggerdef(pg_trigger.oid) END)
    FROM held JOIN pg_trigger ON tgrelid = held.oid
UNION ALL SELECT DISTINCT concat_ws(' ', 'function', pg_get_functiondef(tgfoid))
    FROM held JOIN pg_trigger ON tgrelid = held.oid WHERE NOT tgisinternal
UNION ALL SELECT concat_ws(' ', 'rule', relname, ev_enabled, pg_get_ruledef(pg_rewrite.oid))
    FROM held JOIN pg_rewrite ON ev_class = held.oid
"""


class PostgreSQL(Database):
    """One connection to a server, made at once and never made anew by itself.

    Writers take turns by a lock that ends with their transaction, and then see all that was committed before. Readers
    have a snapshot.

    Args:
        url: ``postgresql+psycopg://user:password@host/database``; never repeated in a message.
        deadline: seconds to wait for other processes that are writing, and for the server to answer.
        populate: writes the first rows of a new ledger, in the transaction that makes its tables; None to make none.
        may_be_older: give True to bring it to this version.

    Raises:
        SettingError: the URL is none, or psycopg is not installed.
        LedgerError: the server cannot be reached or refuses; the database holds no ledger and none is to be made, or
            one of another version, or another program's tables; it is left untouched.
    """

    DIALECT, SHOWS_CAUSE = dialect.dialect(), False  # type: ignore[no-untyped-call]

    def __init__(
        self, url: str, deadline: float, populate: Callable[[Database], None] | None, *, may_be_older: bool = False
    ) -> None:
        address = _address(url)
        name = f"database {address.database or address.username} at {address.host or 'a local socket'}"
        super().__init__(name, f"the server of {name}")
        self.deadline, self._cursors = deadline, count()
        self._connection = self._connected(address)
        try:
            self._prepare(populate)
            self._check_version(self.version(), may_be_older=may_be_older)
        except BaseException:
            self._connection.close()
            raise

    def _connected(self, address: URL) -> Connection[Row]:
        try:
            import psycopg
        except ImportError:
            raise SettingError("a ledger on a server needs psycopg: pip install 'discreet[postgresql]'") from None
        _, asked = self.DIALECT.create_connect_args(address)  # type: ignore[no-untyped-call]
        patience = max(2, math.ceil(self.deadline))
        unheard = {"connect_timeout": patience, "tcp_user_timeout": 1000 * (patience + LONGEST_STATEMENT)}
        options: dict[str, Any] = unheard | asked | {"autocommit": True, "client_encoding": "utf8"}
        try:
            return psycopg.connect(**options)
        except (psycopg.Error, UnicodeError, TypeError, ValueError):
            raise LedgerError(
                f"{self.name} cannot be reached; check the URL, the password, and that the server takes connections"
            ) from None

    def _prepare(self, populate: Callable[[Database], None] | None) -> None:
        wait = max(1, math.ceil(1000 * self.deadline))
        limits = {"lock": f"{wait}ms", "statement": f"{wait + 1000 * LONGEST_STATEMENT}ms"}
        with self._translated():
            self._run(_SESSION, limits)
            encoding = self._told(_ENCODING)
        if encoding != "UTF8":
            raise LedgerError(f"{self.name} keeps text as {encoding}; make a database whose encoding is UTF8")
        if populate is not None and not self._is_made():
            self._make(populate)
        if not self._is_made():
            raise LedgerError(f"there is no ledger in {self.name}; open a budget first, with `discreet budget open`")

    def _is_made(self) -> bool:
        with self._translated():
            return bool(self._told(_IS_MADE))

    def _told(self, words: str) -> Any:
        (value,) = self._run(words).fetchone()
        return value

    def _make(self, populate: Callable[[Database], None]) -> None:
        try:
            with self.migrating() as migrate, self.transaction():
                if not self._is_made():  # or another process was here first
                    migrate()
                    populate(self)
        except SQLAlchemyError:
            raise LedgerError(
                f"no ledger can be made in {self.name}; give it a database of its own, and the right to make tables"
            ) from None

    def version(self) -> object:
        """Return what the table of the version holds."""
        with self._translated():
            return self._told(_VERSION)

    @contextmanager
    def migrating(self) -> Iterator[Callable[[], None]]:
        """Yield what runs the migrations that are due."""
        from discreet.governance.migrations import migrating

        with migrating(self._connection, "postgresql+psycopg") as upgrade:
            yield upgrade

    def rules(self) -> list[str]:
        """Return the definitions of the ledger's tables, of what guards them, and whether that is in force."""
        with self._translated():
            return sorted(row[0] for row in self._run(_RULES, {"tables": list(METADATA.tables)}))

    def scrub(self) -> None:
        """Do nothing: rows that were deleted stay in pages until the server vacuums them, and in its archives."""

    def damage(self) -> Iterator[str]:
        """Yield nothing: the server checks its pages when it reads them, and a replay reads every row."""
        yield from ()

    def _run(self, words: str, values: Mapping[str, object] | None = None) -> Any:
        return self._connection.execute(words, values)

    def _streamed(self, words: str, values: dict[str, object]) -> Iterator[Row]:
        if not self._is_within():  # cursors end with their transaction
            yield from self._run(words, values)
            return
        with self._connection.cursor(name=f"each_{next(self._cursors)}", scrollable=False) as cursor:
            cursor.itersize = _BATCH
            yield from cursor.execute(words, values)

    def claim(self) -> None:
        """As `Database.claim`. A connection that breaks gives it up."""
        with self._translated():
            (claimed,) = self._run(_CLAIM).fetchone()
        if not claimed:
            raise LedgerError(f"{self.name} is served by another process, which trains and deletes; stop one of them")

    def _begin(self) -> None:
        self._run("BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE")  # each statement sees what came before the lock
        self._run(_LOCK)

    def _begin_reading(self) -> None:
        self._run("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")

    def _is_within(self) -> bool:
        from psycopg.pq import TransactionStatus

        return self._connection.info.transaction_status in {TransactionStatus.INTRANS, TransactionStatus.INERROR}

    def _close(self) -> None:
        self._connection.close()

    def _failures(self) -> tuple[type[Exception], ...]:
        import psycopg

        return (psycopg.Error,)

    def _translation(self, error: Exception) -> LedgerError:
        match getattr(error, "sqlstate", None) or "":
            case "55P03" | "57014" | "40001" | "40P01":  # lock not available, cancelled, serialization, deadlock
                return self._busy(self.deadline)
            case "53100":
                return LedgerFull(self._full())
            case "42501" | "25006":  # no such right; a server that only reads
                return LedgerError(f"{self.name} may not be written by this user, or on this server")
            case state if state.startswith(("53", "58")):  # resources; the system's own errors
                return LedgerError(self._full())
            case state if state.startswith(("23", "P0001")):
                return self._against_the_rules()
            case state if state.startswith("42"):
                return self._incomplete()
            case state if state.startswith(("22", "XX")) or state == "25P02":  # that, some statements ago
                return self._damaged()
            case _ if self._is_lost():
                return LedgerError(
                    f"the connection to {self.name} was lost; open it anew and do the same again: a release is charged "
                    "once, however often it is asked for"
                )
            case _:
                return self._unusable()

    def _is_lost(self) -> bool:
        return self._connection.broken


def _address(url: str) -> URL:
    try:
        address = make_url(url)
    except (SQLAlchemyError, ValueError):
        raise SettingError("the URL of the ledger cannot be read: postgresql+psycopg://user@host/database") from None
    return address.set(drivername="postgresql+psycopg")
