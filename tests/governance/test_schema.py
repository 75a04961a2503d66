"""The tables as statements name them are those that the migrations make, on either database."""

from importlib.resources import files
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import StaticPool, create_engine, text
from sqlalchemy.dialects import sqlite
from sqlalchemy.dialects.postgresql import psycopg

from discreet.governance import schema
from discreet.governance.ledger import Ledger


def test_what_is_named_is_what_is_made(place: str | Path) -> None:
    with Ledger(place) as ledger:
        database = ledger._db
        address = f"{database.DIALECT.name}{'+psycopg' if isinstance(place, str) else ''}://"
        engine = create_engine(address, creator=lambda: database._connection, poolclass=StaticPool)  # type: ignore[attr-defined]
        with engine.connect() as connection:

            def ours(name: str | None, kind: str, _: object) -> bool:
                return (kind, name) not in {("table", "ledger_version"), ("column", "rowid")}

            options = {"include_name": ours, "compare_type": True}
            assert compare_metadata(MigrationContext.configure(connection, opts=options), schema.METADATA) == []
            database.execute(text("ALTER TABLE account ADD COLUMN note TEXT"))  # and it can fail
            assert len(compare_metadata(MigrationContext.configure(connection, opts=options), schema.METADATA)) == 1


def test_the_last_migration_is_the_version() -> None:
    config = Config()
    config.set_main_option("script_location", str(files("discreet.governance.migrations")))
    assert ScriptDirectory.from_config(config).get_heads() == [str(schema.VERSION)]


@pytest.mark.parametrize(
    ("function", "in_file", "on_server"),
    [
        (schema.as_bytes(schema.journal.c.body), "CAST(journal.body AS BLOB)", "convert_to(journal.body, 'UTF8')"),
        (schema.as_bytes(schema.journal.c.hash), "CAST(journal.hash AS BLOB)", "journal.hash"),
        (schema.total(schema.release.c.cost), "SUM(release.cost)", "CAST(SUM(release.cost) AS BIGINT)"),
        (
            schema.within_text(schema.journal.c.body, schema.secret.c.name),
            "instr(journal.body, secret.name)",
            "strpos(journal.body, secret.name)",
        ),
    ],
)
def test_each_database_is_told_in_its_own_words(function: schema.as_bytes, in_file: str, on_server: str) -> None:
    assert str(function.compile(dialect=sqlite.dialect())) == in_file
    assert str(function.compile(dialect=psycopg.dialect())) == on_server  # type: ignore[no-untyped-call]
