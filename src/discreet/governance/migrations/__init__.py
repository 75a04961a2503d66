"""How the tables came to be, version by version: Alembic's folder, which is part of the package."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.resources import as_file, files
from typing import Any

from sqlalchemy import StaticPool, create_engine

VERSION_TABLE = "ledger_version"
_ALEMBIC = threading.Lock()  # which keeps in globals what it is at


@contextmanager
def migrating(driver: Any, dialect: str) -> Iterator[Callable[..., None]]:
    """Yield what brings a database to the last version, on the driver's own connection and in its open transaction.

    Where the version is not in a table of the database, tell which one that has; of a new one, none.

    SQLAlchemy asks a server who it is before that, and undoes what is left open after it: so the caller begins within
    the block, and has committed, or not, at its end.
    """
    from alembic import command
    from alembic.config import Config

    engine = create_engine(f"{dialect}://", creator=lambda: driver, poolclass=StaticPool, pool_reset_on_return=None)
    with as_file(files(__name__)) as folder, engine.connect() as connection:
        config = Config()
        config.set_main_option("script_location", str(folder).replace("%", "%%"))
        config.attributes["connection"] = connection

        def upgrade(found: object = None) -> None:
            with _ALEMBIC:
                if found is not None:
                    command.stamp(config, str(found))
                command.upgrade(config, "head")
                if dialect == "sqlite":  # which has it in the header of the file
                    connection.exec_driver_sql(f"DROP TABLE {VERSION_TABLE}")

        yield upgrade
