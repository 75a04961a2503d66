"""What keeps rows as they are: triggers, the last line of defence. The ledger never comes near them.

In a file those before an insert stop INSERT OR REPLACE, and those on row numbers UPDATE OR REPLACE: both take rows away
past the triggers on deletion. On a server there is no such thing, but TRUNCATE.
"""

from __future__ import annotations

from collections.abc import Sequence

from alembic import op

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


def is_file() -> bool:
    """Whether the tables lie in a file, not on a server."""
    return op.get_bind().dialect.name == "sqlite"


def functions() -> None:
    """Make what the triggers of a server call."""
    if not is_file():
        op.execute(REFUSAL)
        op.execute(GROWTH)


def stays(name: str, table: str, said: str = "stays") -> None:
    """Let no row go."""
    _refuse(name, f"BEFORE DELETE ON {table}", said)
    if not is_file():
        op.execute(
            f"CREATE TRIGGER {name}_whole BEFORE TRUNCATE ON {table} FOR EACH STATEMENT "
            f"EXECUTE FUNCTION refuse_change('{said}')"
        )


def changes(name: str, table: str, said: str, *, fixed: Sequence[str] = (), never: str | None = None) -> None:
    """Let no row change; or, if columns are named, only in others, and never as `never` says of OLD and NEW."""
    differs = "IS NOT" if is_file() else "IS DISTINCT FROM"
    row = ["rowid"] if is_file() and fixed else []
    against = [*([never] if never else []), *(f"NEW.{column} {differs} OLD.{column}" for column in [*row, *fixed])]
    _refuse(name, f"BEFORE UPDATE ON {table}", said, " OR ".join(against))


def once(name: str, table: str, *key: str) -> None:
    """Let no row take another's place. On a server its key sees to that."""
    if is_file():
        same = " AND ".join(f"{column} = NEW.{column}" for column in key)
        taken = f"EXISTS (SELECT 1 FROM {table} WHERE {same} OR rowid = NEW.rowid)"  # noqa: S608 - names of ours
        _refuse(name, f"BEFORE INSERT ON {table}", "once", taken)


def grows(name: str, table: str, said: str) -> None:
    """Let rows be added at the end alone, numbered by ``seq`` from 0."""
    if is_file():
        end = f"(SELECT COALESCE(MAX(seq) + 1, 0) FROM {table})"  # noqa: S608 - a name of ours
        _refuse(name, f"BEFORE INSERT ON {table}", said, f"NEW.seq IS NOT {end}")
    else:
        op.execute(
            f"CREATE TRIGGER {name} BEFORE INSERT ON {table} FOR EACH ROW EXECUTE FUNCTION refuse_gaps('{said}')"
        )


def _refuse(name: str, event: str, said: str, when: str = "") -> None:
    if is_file():
        condition = f"WHEN {when} " if when else ""
        op.execute(f"CREATE TRIGGER {name} {event} {condition}BEGIN SELECT RAISE(ABORT, '{said}'); END")
    else:
        condition = f"WHEN ({when}) " if when else ""
        op.execute(f"CREATE TRIGGER {name} {event} FOR EACH ROW {condition}EXECUTE FUNCTION refuse_change('{said}')")
