"""Does the record hold? The journal replayed, and compared with everything else that is there."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from discreet.errors import DataError, LedgerCorrupted
from discreet.governance.agreements import Agreements
from discreet.governance.artefacts import hashes
from discreet.governance.charges import Charges
from discreet.governance.database import Database
from discreet.governance.journal import Head, Journal
from discreet.governance.keys import Wrapping
from discreet.governance.persons import Persons
from discreet.governance.replay import Problem, Replay
from discreet.governance.tables import everything
from discreet.governance.witness import Witness


@dataclass(frozen=True, slots=True)
class Verification:
    """What `Ledger.verify` found.

    Attributes:
        rows: of the journal that were read.
        problems: in the order of rows.
        head: of the journal.
        consents: how they were held against it: each opened, or counted, without a master key; None: none are told.
    """

    rows: int
    problems: list[Problem]
    head: Head
    consents: Literal["opened", "counted"] | None

    @property
    def ok(self) -> bool:
        """Whether everything fits."""
        return not self.problems

    def require(self) -> None:
        """Return if everything fits.

        Raises:
            LedgerCorrupted: names the first row that does not fit.
        """
        if self.problems:
            first = self.problems[0]
            where = "the tables" if first.row is None else f"journal row {first.row}"
            raise LedgerCorrupted(f"{where}: {first.what}; do not spend from this ledger, find out why", row=first.row)


def verify(
    journal: Journal,
    expected_head: Head | None,
    artefacts: Path | None,
    witness: Witness | None,
    wrapping: Wrapping | None = None,
) -> Verification:
    """Replay the journal from row 0; compare it with the tables, heads kept elsewhere, and a folder of artefacts.

    With the master key each person's consents are opened and compared; without it they are counted.

    Raises:
        LedgerCorrupted: the file is too damaged to be read at all.
        KeyMissing: the keys of persons are wrapped by another master key.
        LedgerError: the folder of artefacts, or the witness, cannot be read.
    """
    database = journal.database
    agreements = Agreements()
    replay = Replay(Persons(database).cohort, Charges(database).of, agreements.events)
    with database.snapshot():
        problems = _history(journal, replay, agreements, wrapping)
        problems += _beheaded(journal, expected_head) + _damage(database)
        head = journal.head()
    problems += _unwitnessed(journal, witness)
    if artefacts is not None:
        problems += replay.without_artefact(hashes(artefacts))
    problems.sort(key=lambda problem: math.inf if problem.row is None else problem.row)
    consents: Literal["opened", "counted"] = "counted" if wrapping is None else "opened"
    return Verification(replay.rows, problems, head, consents if agreements else None)


def _history(journal: Journal, replay: Replay, agreements: Agreements, wrapping: Wrapping | None) -> list[Problem]:
    database = journal.database
    try:
        for entry in journal.rows():
            replay.apply(entry)
    except LedgerCorrupted as misfit:  # from that row on the journal is no witness, so nothing is compared with it
        return [*replay.problems, Problem(misfit.row, str(misfit))]
    consents = agreements.counted(database) if wrapping is None else agreements.opened(database, wrapping)
    ring = agreements.ring(database, wrapping)
    return [*replay.problems, *replay.differences(everything(database)), *ring, *consents]


def _beheaded(journal: Journal, expected: Head | None) -> list[Problem]:
    found = None if expected is None else journal.hash_of(expected.seq)
    if expected is None or found == expected.hash.lower():
        return []
    if found is None:
        last = journal.head().seq
        what = f"the journal ends at row {last}, its head of row {expected.seq} was kept elsewhere"
        return [Problem(last + 1, what)]
    return [Problem(expected.seq, f"row {expected.seq} is not the one whose hash was kept elsewhere")]


def _unwitnessed(journal: Journal, witness: Witness | None) -> list[Problem]:
    try:
        if witness is not None:
            witness.compare(journal)
    except (LedgerCorrupted, DataError) as misfit:
        return [Problem(getattr(misfit, "row", None), str(misfit))]
    return []


def _damage(database: Database) -> list[Problem]:
    return [Problem(None, what) for what in database.damage()]
