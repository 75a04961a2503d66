"""Run by Alembic, on the connection that it was given and within the transaction that is open there."""

from alembic import context
from sqlalchemy import Connection

from discreet.governance.schema import METADATA

connection: Connection = context.config.attributes["connection"]
connection.begin()  # of SQLAlchemy's own book-keeping alone: the transaction is the caller's, who ends it
# SQLite has the version in the header of the file: Alembic's own note of it goes with the connection.
passing = "temp" if connection.dialect.name == "sqlite" else None
context.configure(
    connection=connection, target_metadata=METADATA, version_table="ledger_version", version_table_schema=passing
)
context.run_migrations()
