"""People's keys, consents, documents and events; the catalogue; who has access; what goes on. Caps can be raised."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from discreet.governance.migrations.guards import Guards, InFile
from discreet.governance.migrations.postgresql import OnServer

revision, down_revision = "3", "2"

ROW_NUMBER = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
ITS_HOLDER = "holder.pseudonym"


def upgrade() -> None:
    """Make the tables. Rows about people can be deleted: that is what they are promised."""
    _caps(InFile() if op.get_bind().dialect.name == "sqlite" else OnServer())
    _keys()
    _people()
    _events()
    _service()


def _caps(guards: Guards) -> None:
    fixed = ("name", "dataset", "delta", "person_cap", "until")
    falls = " OR ".join(f"NEW.{column} < OLD.{column}" for column in ("spent", "cap", "epsilon"))
    guards.lift("spending_only_grows", "account")
    guards.changes("spending_only_grows", "account", "no refund", fixed=fixed, never=falls)


def _keys() -> None:
    op.create_table(
        "keyring",
        sa.Column("name", sa.Text, primary_key=True),
        sa.Column("wrapped", sa.LargeBinary, nullable=False),
        sa.Column("told", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "holder",
        sa.Column("pseudonym", sa.LargeBinary, primary_key=True),
        sa.Column("wrapped", sa.LargeBinary, nullable=False),
        sa.CheckConstraint("length(pseudonym) = 16"),
    )


def _people() -> None:
    op.create_table(
        "standing",
        sa.Column("pseudonym", sa.LargeBinary, sa.ForeignKey(ITS_HOLDER), primary_key=True),
        sa.Column("purpose", sa.Text, primary_key=True),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("quarters", sa.BigInteger, nullable=False),
        sa.Column("until", sa.Text),
        sa.Column("terms", sa.Text, nullable=False),
        sa.Column("seq", sa.BigInteger, nullable=False),
        sa.Column("mac", sa.LargeBinary, nullable=False),
        sa.CheckConstraint("quarters BETWEEN 0 AND 4"),
    )
    op.create_index("standing_of_purpose", "standing", ["purpose", "state"])
    op.create_table(
        "document",
        sa.Column("pseudonym", sa.LargeBinary, sa.ForeignKey(ITS_HOLDER), primary_key=True),
        sa.Column("seq", sa.BigInteger, primary_key=True),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("content", sa.LargeBinary, nullable=False),
    )


def _events() -> None:
    op.create_table(
        "event",
        sa.Column("seq", ROW_NUMBER, sa.Identity(), primary_key=True),
        sa.Column("pseudonym", sa.LargeBinary, sa.ForeignKey(ITS_HOLDER), nullable=False),
        sa.Column("content", sa.LargeBinary, nullable=False),
    )
    op.create_index("event_of_holder", "event", ["pseudonym", "seq"])
    op.create_table(
        "history",
        sa.Column("pseudonym", sa.LargeBinary, sa.ForeignKey(ITS_HOLDER), primary_key=True),
        sa.Column("content", sa.LargeBinary, nullable=False),
    )
    op.create_table(
        "batch",
        sa.Column("name", sa.Text, primary_key=True),
        sa.Column("digest", sa.Text, nullable=False),
        sa.Column("at", sa.Text, nullable=False),
        sa.Column("told", sa.Text, nullable=False),
    )
    op.create_table(
        "item",
        sa.Column("code", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("id", sa.Text, nullable=False, unique=True),
        sa.Column("facts", sa.Text, nullable=False),
    )


def _service() -> None:
    op.create_table(
        "matter",
        sa.Column("kind", sa.Text, primary_key=True),
        sa.Column("name", sa.Text, primary_key=True),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("due", sa.Text),
        sa.Column("body", sa.Text, nullable=False),
    )
    op.create_index("matter_due", "matter", ["kind", "state", "due"])
    op.create_table(
        "access",
        sa.Column("name", sa.Text, primary_key=True),
        sa.Column("verifier", sa.Text, nullable=False),
        sa.Column("role", sa.Text, nullable=False),
        sa.Column("pseudonym", sa.LargeBinary),
        sa.Column("owner", sa.Text, nullable=False),
        sa.Column("made", sa.Text, nullable=False),
        sa.Column("until", sa.Text),
        sa.Column("narrowed", sa.Text),
        sa.Column("mac", sa.LargeBinary, nullable=False),
    )
    op.create_index("access_of_holder", "access", ["pseudonym"])
