"""Everything this package raises on purpose.

DiscreetError                 exit code 1
├── SettingError              an argument or option is out of its range; also a ValueError
├── DataError                 the input cannot be used; names the file, column or row
│   └── DatasetUnavailable    a named data set could not be obtained; says what to do
├── FileNotWritten            a file could not be written; what stood in its place still does, or the message tells
├── EngineLost                other software that computes for this run went away, or does not answer
├── ArtefactError             a model file is damaged, of another kind, or was made unsafely
│   └── ProofRefused          exit code 3: a proof, or a signed head, does not show what it says
├── ProtocolError             a message of another party cannot be right, or came at the wrong time
│   ├── TooFewLeft            fewer parties are left than the terms ask for; nothing was released
│   └── TermsRefused          exit code 3: what is asked breaks what this party agreed to; it takes no part
├── LedgerError               the ledger cannot do what was asked
│   ├── AccountMissing        no budget was opened for this data set and purpose
│   ├── ReleaseConflict       the release id is taken by another release
│   ├── ReleaseWaits          it is charged, and what came of it could not be written; the same can be run again
│   ├── LedgerFull            the disk that it lies on is full
│   └── LedgerCorrupted       exit code 3: the journal and the tables disagree; names the first row
├── SealBroken                exit code 3: what is stored of a person was changed, or stands in another's place
│   └── KeyMissing            it is wrapped by a key that is not held here
├── Conflict                  the name is taken by something with another content
├── NotAllowed                exit code 3: the role may not do this, or two people are needed
└── PrivacyError              exit code 3: a promise would be broken, so nothing was done
    ├── BudgetExceeded        exit code 4: more was asked than is left
    ├── BoundExceeded         a contribution is longer than the plan allows
    ├── PurposeNotAllowed     the data was not collected for this purpose
    └── ConsentMissing        the person has not agreed to this

A message is one line: what was asked, what stands against it, what to do. It names accounts, columns, rows and
settings; it never holds a person's identifier or anything from a history, because errors are outputs.
"""

from __future__ import annotations


class DiscreetError(Exception):
    """Base of every error that this package raises on purpose."""

    exit_code = 1


class SettingError(DiscreetError, ValueError):
    """An argument or option is out of its range."""


class DataError(DiscreetError):
    """The input cannot be used. The message names the file and the column or row."""


class DatasetUnavailable(DataError):
    """A named data set could not be obtained. The message says what to do."""


class FileNotWritten(DiscreetError):
    """A file could not be written. What stood in its place still does, or the message says that it does not."""


class EngineLost(DiscreetError):
    """Other software that computes for this run went away, or does not answer. Nothing was released."""


class ArtefactError(DiscreetError):
    """A model file is damaged, is of another kind or version, or was made with unsafe noise."""


class ProofRefused(ArtefactError):
    """A proof, or a signed head, does not show what it says."""

    exit_code = 3


class ProtocolError(DiscreetError):
    """A message cannot be right, or came at the wrong time. Whoever finds that stops, and reveals nothing more.

    Attributes:
        blame: seat of the party that is at fault, or None if that is the server or cannot be told.
    """

    def __init__(self, message: str, blame: int | None = None) -> None:
        super().__init__(message)
        self.blame = blame


class TooFewLeft(ProtocolError):
    """Fewer parties are left than the terms ask for. Nothing was released."""


class TermsRefused(ProtocolError):
    """What is asked breaks what this party agreed to. It takes no part."""

    exit_code = 3


class LedgerError(DiscreetError):
    """The ledger cannot do what was asked; nothing was changed."""


class AccountMissing(LedgerError):
    """No budget was opened for this data set and purpose."""


class ReleaseConflict(LedgerError):
    """The release id already names a release with other terms, or one that has ended."""


class ReleaseWaits(LedgerError):
    """A release is charged, and what came of it could not be written. To run the same again costs nothing more."""


class LedgerFull(LedgerError):
    """The disk that the ledger lies on is full; nothing was changed."""


class LedgerCorrupted(LedgerError):
    """The journal, its hash chain and the tables disagree.

    Attributes:
        row: sequence number of the first journal row that does not fit, or None if no single row is to blame.
    """

    exit_code = 3

    def __init__(self, message: str, row: int | None = None) -> None:
        super().__init__(message)
        self.row = row


class SealBroken(DiscreetError):
    """What is stored of a person was changed, or stands in another's place. Nothing of it was used."""

    exit_code = 3


class KeyMissing(SealBroken):
    """It is wrapped by a key that is not held here."""


class Conflict(DiscreetError):
    """The name is taken by something with another content. Nothing was changed."""


class NotAllowed(DiscreetError):
    """The role may not do this, or two people are needed. Nothing was done."""

    exit_code = 3


class PrivacyError(DiscreetError):
    """A privacy promise would be broken, so nothing was done."""

    exit_code = 3


class BudgetExceeded(PrivacyError):
    """More was asked than the account has left; nothing was charged.

    Attributes:
        account: the account, as ``dataset/purpose``.
        asked: what was asked, in integer ledger units of mu^2.
        left: what is left, in the same units.
        until: when the budget period ends (ISO 8601, UTC), or None if the budget has no end.
    """

    exit_code = 4

    def __init__(self, message: str, *, account: str, asked: int, left: int, until: str | None) -> None:
        super().__init__(message)
        self.account, self.asked, self.left, self.until = account, asked, left, until


class BoundExceeded(PrivacyError):
    """A contribution is longer than the plan's bound; the whole sum was refused."""


class PurposeNotAllowed(PrivacyError):
    """The data was not collected for this purpose."""


class ConsentMissing(PrivacyError):
    """The person has not agreed to this."""
