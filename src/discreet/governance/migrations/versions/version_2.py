"""Budgets, releases, people and the journal."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from discreet.governance.migrations.guards import Guards, InFile
from discreet.governance.migrations.postgresql import OnServer

revision, down_revision = "2", None

ROW_NUMBER = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Make the tables, and what guards them."""
    guards = InFile() if op.get_bind().dialect.name == "sqlite" else OnServer()
    guards.prepare()
    for part in (_journal, _secret, _accounts, _cohorts, _releases, _people):
        part(guards)


def _journal(guards: Guards) -> None:
    op.create_table(
        "journal",
        sa.Column("seq", ROW_NUMBER, primary_key=True, autoincrement=False),
        sa.Column("body", sa.Text, nullable=False),
        sa.Column("hash", sa.LargeBinary, nullable=False),
        sa.CheckConstraint("length(hash) = 32"),
    )
    guards.changes("journal_is_not_edited", "journal", "append only")
    guards.stays("journal_is_not_cut", "journal", "append only")
    guards.grows("journal_grows_at_its_end", "journal", "append only")


def _secret(guards: Guards) -> None:
    op.create_table(
        "secret",
        sa.Column("name", sa.Text, primary_key=True),
        sa.Column("value", sa.LargeBinary, nullable=False),
    )
    guards.changes("secret_is_fixed", "secret", "fixed")
    guards.stays("secret_stays", "secret")
    guards.once("secret_is_made_once", "secret", "name")


def _accounts(guards: Guards) -> None:
    op.create_table(
        "account",
        sa.Column("name", sa.Text, primary_key=True),
        sa.Column("dataset", sa.Text, nullable=False),
        sa.Column("epsilon", sa.Double, nullable=False),
        sa.Column("delta", sa.Double, nullable=False),
        sa.Column("cap", sa.BigInteger, nullable=False),
        sa.Column("person_cap", sa.BigInteger),
        sa.Column("until", sa.Text),
        sa.Column("spent", sa.BigInteger, nullable=False, server_default="0"),
        sa.CheckConstraint("person_cap > 0"),
        sa.CheckConstraint("spent BETWEEN 0 AND cap"),
        *guards.of_type("'integer'", "cap", "spent"),
        *guards.of_type("'integer', 'null'", "person_cap"),
    )
    terms = ("name", "dataset", "epsilon", "delta", "cap", "person_cap", "until")
    guards.changes("spending_only_grows", "account", "no refund", fixed=terms, never="NEW.spent < OLD.spent")
    guards.stays("account_stays", "account")
    guards.once("account_opens_once", "account", "name")


def _cohorts(guards: Guards) -> None:
    op.create_table(
        "cohort",
        sa.Column("digest", sa.Text, primary_key=True),
        sa.Column("members", sa.LargeBinary, nullable=False),
        sa.CheckConstraint("length(members) > 0 AND length(members) % 16 = 0"),
        *guards.of_type("'blob'", "members"),
    )
    op.create_table(
        "charge",
        sa.Column("digest", sa.Text, primary_key=True),
        sa.Column("units", sa.LargeBinary, nullable=False),
        sa.CheckConstraint("length(units) % 8 = 0"),
        *guards.of_type("'blob'", "units"),
    )
    for table in ("cohort", "charge"):
        guards.changes(f"{table}_is_fixed", table, "fixed")
        guards.stays(f"{table}_stays", table)
        guards.once(f"{table}_is_kept_once", table, "digest")


def _releases(guards: Guards) -> None:
    op.create_table(
        "release",
        sa.Column("name", sa.Text, primary_key=True),
        sa.Column("account", sa.Text, sa.ForeignKey("account.name"), nullable=False),
        sa.Column("cost", sa.BigInteger, nullable=False),
        sa.Column("spec", sa.Text, nullable=False),
        sa.Column("asked", sa.Text),
        sa.Column("cohort", sa.Text, sa.ForeignKey("cohort.digest")),
        sa.Column("prices", sa.Text, sa.ForeignKey("charge.digest")),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("artefact", sa.Text),
        sa.Column("used", sa.Text, sa.ForeignKey("charge.digest")),
        *guards.number(),
        sa.CheckConstraint("cost > 0"),
        sa.CheckConstraint("state IN ('reserved', 'committed', 'abandoned')"),
        sa.CheckConstraint("(asked IS NULL) = (cohort IS NULL)"),
        sa.CheckConstraint("(state = 'committed') = (artefact IS NOT NULL)"),
        sa.CheckConstraint("cohort IS NOT NULL OR prices IS NULL AND used IS NULL"),
        sa.CheckConstraint("state = 'committed' OR used IS NULL"),
        *guards.of_type("'integer'", "cost"),
    )
    op.create_index("release_of_account", "release", ["account", "cost"])
    terms = ("name", "account", "cost", "spec", "asked", "cohort", "prices")
    guards.changes("release_ends_once", "release", "final", fixed=terms, never="OLD.state <> 'reserved'")
    guards.stays("release_stays", "release")
    guards.once("release_is_reserved_once", "release", "name")


def _people(guards: Guards) -> None:
    op.create_table(
        "person",
        sa.Column("dataset", sa.Text, primary_key=True),
        sa.Column("pseudonym", sa.LargeBinary, primary_key=True),
        sa.Column("cap", sa.BigInteger, nullable=False),
        sa.CheckConstraint("length(pseudonym) = 16"),
        sa.CheckConstraint("cap >= 0"),
        *guards.of_type("'blob'", "pseudonym"),
        *guards.of_type("'integer'", "cap"),
    )
    key = ("dataset", "pseudonym")
    guards.changes("person_cap_only_falls", "person", "no raise", fixed=key, never="NEW.cap > OLD.cap")
    guards.stays("person_stays", "person")
    guards.once("person_is_limited_once", "person", *key)
