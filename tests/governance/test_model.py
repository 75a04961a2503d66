"""The ledger against a plain model of it, and the journal against whoever edits it."""

from unittest import mock

import numpy as np
import pytest
from hypothesis import Phase, settings
from hypothesis.stateful import RuleBasedStateMachine, run_state_machine_as_test
from machines import JournalAgainstEditor, LedgerAgainstModel

from discreet.errors import LedgerError
from discreet.governance import journal, verification
from discreet.governance.accounts import AccountRow
from discreet.governance.persons import Persons

TestLedgerAgainstModel = LedgerAgainstModel.TestCase
TestLedgerAgainstModel.settings = settings(max_examples=35, stateful_step_count=30, deadline=None)

TestJournalAgainstEditor = JournalAgainstEditor.TestCase
TestJournalAgainstEditor.settings = settings(max_examples=25, stateful_step_count=20, deadline=None)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("machine", "where", "what", "wrong"),
    [
        (LedgerAgainstModel, Persons, "admit", lambda *_: np.ones(len(_[-1]), np.bool_)),
        (LedgerAgainstModel, AccountRow, "left_at", lambda row, _: row.cap - row.spent),
        (LedgerAgainstModel, Persons, "spent", Persons.held),
        (LedgerAgainstModel, AccountRow, "ended_at", lambda *_: False),
        (JournalAgainstEditor, verification, "_beheaded", lambda *_: []),
        (JournalAgainstEditor, journal, "chained", lambda *_: bytes(32)),
    ],
)
def test_a_fault_is_found(machine: type[RuleBasedStateMachine], where: object, what: str, wrong: object) -> None:
    """A machine that finds nothing in a faulty ledger would find nothing in any."""
    budget = settings(
        max_examples=300,
        stateful_step_count=30,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        derandomize=True,  # or once in a while none of the runs would meet the fault
    )
    with mock.patch.object(where, what, wrong), pytest.raises((AssertionError, LedgerError, ExceptionGroup)):
        run_state_machine_as_test(machine, settings=budget)
