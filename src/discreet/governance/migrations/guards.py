"""What keeps rows as they are: triggers, the last line of defence. The ledger never comes near them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op


class Guards(ABC):
    """How one of the two databases is told. Each trigger has a name, and what is said when it refuses."""

    def changes(self, name: str, table: str, said: str, *, fixed: Sequence[str] = (), never: str = "") -> None:
        """Let no row change; or, if columns are named, only in others, and never as ``never`` says of OLD and NEW."""
        against = [*([never] if never else []), *(self._differs(column) for column in self._numbered(fixed))]
        self._refuse(name, f"BEFORE UPDATE ON {table}", said, " OR ".join(against))

    @abstractmethod
    def prepare(self) -> None:
        """Make what the triggers call."""

    @abstractmethod
    def lift(self, name: str, table: str) -> None:
        """Take a trigger away, for another in its place."""

    @abstractmethod
    def stays(self, name: str, table: str, said: str = "stays") -> None:
        """Let no row go."""

    @abstractmethod
    def once(self, name: str, table: str, *key: str) -> None:
        """Let no row take another's place."""

    @abstractmethod
    def grows(self, name: str, table: str, said: str) -> None:
        """Let rows be added at the end alone, numbered by ``seq`` from 0."""

    @abstractmethod
    def of_type(self, types: str, *columns: str) -> list[sa.CheckConstraint]:
        """Hold columns to what they are for."""

    @abstractmethod
    def number(self) -> list[sa.Column[int]]:
        """Return the column ``rowid``, in the order in which rows were added, unless there is one in any case."""

    @abstractmethod
    def _refuse(self, name: str, event: str, said: str, when: str) -> None: ...

    @abstractmethod
    def _differs(self, column: str) -> str: ...

    @abstractmethod
    def _numbered(self, columns: Sequence[str]) -> list[str]: ...


class InFile(Guards):
    """SQLite's.

    Those before an insert stop INSERT OR REPLACE, and those on row numbers UPDATE OR REPLACE: both take rows away past
    the triggers on deletion.
    """

    def prepare(self) -> None:
        """Nothing is called."""

    def lift(self, name: str, table: str) -> None:
        """Take a trigger away."""
        del table  # its names are the file's
        op.execute(f"DROP TRIGGER {name}")

    def stays(self, name: str, table: str, said: str = "stays") -> None:
        """Let no row go."""
        self._refuse(name, f"BEFORE DELETE ON {table}", said, "")

    def once(self, name: str, table: str, *key: str) -> None:
        """Let no row take another's place."""
        same = " AND ".join(f"{column} = NEW.{column}" for column in key)
        taken = f"EXISTS (SELECT 1 FROM {table} WHERE {same} OR rowid = NEW.rowid)"  # noqa: S608  # nosec B608
        self._refuse(name, f"BEFORE INSERT ON {table}", "once", taken)

    def grows(self, name: str, table: str, said: str) -> None:
        """Let rows be added at the end alone, numbered by ``seq`` from 0."""
        end = f"(SELECT COALESCE(MAX(seq) + 1, 0) FROM {table})"  # noqa: S608  # nosec B608
        self._refuse(name, f"BEFORE INSERT ON {table}", said, f"NEW.seq IS NOT {end}")

    def of_type(self, types: str, *columns: str) -> list[sa.CheckConstraint]:
        """Hold columns to what they are for: SQLite itself stores anything anywhere."""
        return [sa.CheckConstraint(f"typeof({column}) IN ({types})") for column in columns]

    def number(self) -> list[sa.Column[int]]:
        """Every row has its number in any case."""
        return []

    def _refuse(self, name: str, event: str, said: str, when: str) -> None:
        condition = f"WHEN {when} " if when else ""
        op.execute(f"CREATE TRIGGER {name} {event} {condition}BEGIN SELECT RAISE(ABORT, '{said}'); END")

    def _differs(self, column: str) -> str:
        return f"NEW.{column} IS NOT OLD.{column}"

    def _numbered(self, columns: Sequence[str]) -> list[str]:
        return ["rowid", *columns] if columns else []
