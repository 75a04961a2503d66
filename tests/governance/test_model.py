"""The ledger against a plain model of it, and the journal against whoever edits it."""

from hypothesis import settings
from machines import JournalAgainstEditor, LedgerAgainstModel

TestLedgerAgainstModel = LedgerAgainstModel.TestCase
TestLedgerAgainstModel.settings = settings(max_examples=35, stateful_step_count=30, deadline=None)

TestJournalAgainstEditor = JournalAgainstEditor.TestCase
TestJournalAgainstEditor.settings = settings(max_examples=25, stateful_step_count=20, deadline=None)
