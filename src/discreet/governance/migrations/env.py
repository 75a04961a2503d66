"""Run by Alembic, on the connection that it was given and within the transaction that is open there."""

from alembic import context
from sqlalchemy import Connection

from discreet.governance.migrations import VERSION_TABLE
from discreet.governance.schema import METADATA

connection: Connection = context.config.attributes["connection"]
if not connection.in_transaction():  # or this is the second of two steps
    connection.begin()  # of SQLAlchemy's own book-keeping alone: the transaction is the caller's, who ends it
context.configure(connection=connection, target_metadata=METADATA, version_table=VERSION_TABLE)
context.run_migrations()
