"""What keeps rows as they are on a server."""

from __future__ import annotations

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

from discreet.governance.migrations.guards import Guards

REFUSAL = """
CREATE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN RAISE EXCEPTION '%', TG_ARGV[0] USING ERRCODE = 'integrity_constraint_violation'; END $$
"""

# The table is named in full: whoever writes could have a temporary one of the same name.
GROWTH = """
CREATE FUNCTION refuse_gaps() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE due bigint;
BEGIN
    EXECUTE format('SELECT COALESCE(MAX(seq) + 1, 0) FROM %I.%I', TG_TABLE_SCHEMA, TG_TABLE_NAME) INTO due;
    IF NEW.seq IS DISTINCT FROM due THEN
        RAISE EXCEPTION '%', TG_ARGV[0] USING ERRCODE = 'integrity_constraint_violation';
    END IF;
    RETURN NEW;
END $$
"""


class OnServer(Guards):
    """PostgreSQL's."""

    def prepare(self) -> None:
        """Make what the triggers call."""
        op.execute(REFUSAL)
        op.execute(GROWTH)

    def lift(self, name: str, table: str) -> None:
        """Take a trigger away."""
        op.execute(f"DROP TRIGGER {name} ON {table}")

    def stays(self, name: str, table: str, said: str = "stays") -> None:
        """Let no row go, nor all at once."""
        self._refuse(name, f"BEFORE DELETE ON {table}", said, "")
        whole = f"CREATE TRIGGER {name}_whole BEFORE TRUNCATE ON {table} FOR EACH STATEMENT"
        op.execute(f"{whole} EXECUTE FUNCTION refuse_change('{said}')")

    def once(self, name: str, table: str, *key: str) -> None:
        """Its key sees to that: ON CONFLICT is an update."""

    def grows(self, name: str, table: str, said: str) -> None:
        """Let rows be added at the end alone, numbered by ``seq`` from 0."""
        each = f"CREATE TRIGGER {name} BEFORE INSERT ON {table} FOR EACH ROW"
        op.execute(f"{each} EXECUTE FUNCTION refuse_gaps('{said}')")

    def of_type(self, types: str, *columns: str) -> list[sa.CheckConstraint]:
        """The columns' own types see to that."""
        del types, columns
        return []

    def number(self) -> list[sa.Column[int]]:
        """Count the rows."""
        return [sa.Column("rowid", sa.BigInteger, sa.Identity(always=True), nullable=False)]

    def _refuse(self, name: str, event: str, said: str, when: str) -> None:
        condition = f"WHEN ({when}) " if when else ""
        op.execute(f"CREATE TRIGGER {name} {event} FOR EACH ROW {condition}EXECUTE FUNCTION refuse_change('{said}')")

    def _differs(self, column: str) -> str:
        return f"NEW.{column} IS DISTINCT FROM OLD.{column}"

    def _numbered(self, columns: Sequence[str]) -> list[str]:
        return list(columns)
