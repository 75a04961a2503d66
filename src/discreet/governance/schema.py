"""The tables, as statements name them. How they are made, and what guards them, is in `migrations`.

Statements name their columns: an administrator may add some, which is for `verify` to tell.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import (
    BigInteger,
    Column,
    Double,
    ForeignKey,
    Identity,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    func,
)
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql import ColumnElement
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import GenericFunction

VERSION = 3
"""The last of the migrations. SQLite has it in the header of the file, PostgreSQL in a table of its own."""
OLDER = ("2",)
"""What can be brought to this version."""

METADATA = MetaData()
ROW_NUMBER = BigInteger().with_variant(Integer(), "sqlite")  # an INTEGER, to the letter, is SQLite's own row number

journal = Table(
    "journal",
    METADATA,
    Column("seq", ROW_NUMBER, primary_key=True, autoincrement=False),
    Column("body", Text, nullable=False),
    Column("hash", LargeBinary, nullable=False),
)
secret = Table("secret", METADATA, Column("name", Text, primary_key=True), Column("value", LargeBinary, nullable=False))
account = Table(
    "account",
    METADATA,
    Column("name", Text, primary_key=True),
    Column("dataset", Text, nullable=False),
    Column("epsilon", Double, nullable=False),
    Column("delta", Double, nullable=False),
    Column("cap", BigInteger, nullable=False),
    Column("person_cap", BigInteger),
    Column("until", Text),
    Column("spent", BigInteger, nullable=False),
)
cohort = Table(
    "cohort", METADATA, Column("digest", Text, primary_key=True), Column("members", LargeBinary, nullable=False)
)
charge = Table(
    "charge", METADATA, Column("digest", Text, primary_key=True), Column("units", LargeBinary, nullable=False)
)
release = Table(
    "release",
    METADATA,
    Column("name", Text, primary_key=True),
    Column("account", Text, ForeignKey("account.name"), nullable=False),
    Column("cost", BigInteger, nullable=False),
    Column("spec", Text, nullable=False),
    Column("asked", Text),
    Column("cohort", Text, ForeignKey("cohort.digest")),
    Column("prices", Text, ForeignKey("charge.digest")),
    Column("state", Text, nullable=False),
    Column("artefact", Text),
    Column("used", Text, ForeignKey("charge.digest")),
    Index("release_of_account", "account", "cost"),
)
person = Table(
    "person",
    METADATA,
    Column("dataset", Text, primary_key=True),
    Column("pseudonym", LargeBinary, primary_key=True),
    Column("cap", BigInteger, nullable=False),
)

keyring = Table(
    "keyring",
    METADATA,
    Column("name", Text, primary_key=True),
    Column("wrapped", LargeBinary, nullable=False),
    Column("told", BigInteger, nullable=False),
)
holder = Table(
    "holder",
    METADATA,
    Column("pseudonym", LargeBinary, primary_key=True),
    Column("wrapped", LargeBinary, nullable=False),
)
standing = Table(
    "standing",
    METADATA,
    Column("pseudonym", LargeBinary, ForeignKey("holder.pseudonym"), primary_key=True),
    Column("purpose", Text, primary_key=True),
    Column("state", Text, nullable=False),
    Column("quarters", BigInteger, nullable=False),
    Column("until", Text),
    Column("terms", Text, nullable=False),
    Column("seq", BigInteger, nullable=False),
    Column("mac", LargeBinary, nullable=False),
    Index("standing_of_purpose", "purpose", "state"),
)
document = Table(
    "document",
    METADATA,
    Column("pseudonym", LargeBinary, ForeignKey("holder.pseudonym"), primary_key=True),
    Column("seq", BigInteger, primary_key=True),
    Column("kind", Text, nullable=False),
    Column("content", LargeBinary, nullable=False),
)
event = Table(
    "event",
    METADATA,
    Column("seq", ROW_NUMBER, Identity(), primary_key=True),
    Column("pseudonym", LargeBinary, ForeignKey("holder.pseudonym"), nullable=False),
    Column("content", LargeBinary, nullable=False),
    Index("event_of_holder", "pseudonym", "seq"),
)
history = Table(
    "history",
    METADATA,
    Column("pseudonym", LargeBinary, ForeignKey("holder.pseudonym"), primary_key=True),
    Column("content", LargeBinary, nullable=False),
)
batch = Table(
    "batch",
    METADATA,
    Column("name", Text, primary_key=True),
    Column("digest", Text, nullable=False),
    Column("at", Text, nullable=False),
    Column("told", Text, nullable=False),
)
item = Table(
    "item",
    METADATA,
    Column("code", BigInteger, primary_key=True, autoincrement=False),
    Column("id", Text, nullable=False, unique=True),
    Column("facts", Text, nullable=False),
)
matter = Table(
    "matter",
    METADATA,
    Column("kind", Text, primary_key=True),
    Column("name", Text, primary_key=True),
    Column("state", Text, nullable=False),
    Column("due", Text),
    Column("body", Text, nullable=False),
    Index("matter_due", "kind", "state", "due"),
)
access = Table(
    "access",
    METADATA,
    Column("name", Text, primary_key=True),
    Column("verifier", Text, nullable=False),
    Column("role", Text, nullable=False),
    Column("pseudonym", LargeBinary),
    Column("owner", Text, nullable=False),
    Column("made", Text, nullable=False),
    Column("until", Text),
    Column("narrowed", Text),
    Column("mac", LargeBinary, nullable=False),
    Index("access_of_holder", "pseudonym"),
)


# What the two databases say each in its own words. Of a file that somebody edited, any column may hold any type.


class as_bytes(GenericFunction[bytes]):  # noqa: N801 - a function of SQL
    """The bytes of a column, whatever is in it; of a text, in UTF-8."""

    type = LargeBinary()
    inherit_cache = True


class within_text(GenericFunction[int]):  # noqa: N801
    """Where a text stands in another, byte by byte alike: from 1, or 0 if it does not."""

    type = Integer()
    inherit_cache = True


class total(GenericFunction[int]):  # noqa: N801
    """The sum of whole numbers, itself a whole number; nothing of nothing."""

    type = BigInteger()
    inherit_cache = True


def bytes_of(column: ColumnElement[Any]) -> ColumnElement[bytes]:
    """The bytes of a column, none where a rule was broken and nothing is there."""
    return func.coalesce(as_bytes(column), b"")


def _arguments(element: GenericFunction[Any]) -> list[ColumnElement[Any]]:
    return list(element.clauses)


@compiles(as_bytes, "sqlite")
def _bytes_in_sqlite(element: as_bytes, compiler: SQLCompiler, **options: Any) -> str:
    return f"CAST({compiler.process(element.clauses, **options)} AS BLOB)"


@compiles(as_bytes, "postgresql")
def _bytes_in_postgresql(element: as_bytes, compiler: SQLCompiler, **options: Any) -> str:
    (argument,) = _arguments(element)
    column = compiler.process(argument, **options)
    return column if isinstance(argument.type, LargeBinary) else f"convert_to({column}, 'UTF8')"


@compiles(within_text, "sqlite")
def _within_in_sqlite(element: within_text, compiler: SQLCompiler, **options: Any) -> str:
    return f"instr({compiler.process(element.clauses, **options)})"


@compiles(within_text, "postgresql")
def _within_in_postgresql(element: within_text, compiler: SQLCompiler, **options: Any) -> str:
    return f"strpos({compiler.process(element.clauses, **options)})"


@compiles(total, "sqlite")
def _total_in_sqlite(element: total, compiler: SQLCompiler, **options: Any) -> str:
    return f"SUM({compiler.process(element.clauses, **options)})"


@compiles(total, "postgresql")
def _total_in_postgresql(element: total, compiler: SQLCompiler, **options: Any) -> str:
    return f"CAST(SUM({compiler.process(element.clauses, **options)}) AS BIGINT)"
