"""A file of signed heads outside the database: whoever puts an older copy of the database back is found out by it.

The file holds heads (`heads`), one a line, each on the disk before what it covers is acknowledged; beside it lies the
key that signs them, ``<file>.key``. It may lie on another volume, and should. On first use a row of the journal,
``head``, tells the public key; from then on the journal says itself that there is a witness, so that to delete it does
not switch the check off.

Guarantees
----------
* When a database is opened with its witness, each row that the newest head covers is there, in its place, with its
  hash. (That the rows fit their hashes is for `verify`, and in part for every charge, to tell.)
* When `keep` returns, a head on the disk covers every row that was committed before it was called.
* Where rows tell of a witness, nothing is spent and nobody is served without it.

Not found out: an older copy of the database **and** of the witness, both put back; or a copy from before there was a
witness, with the witness taken away. So let nobody write both: another volume, append-only, or heads copied elsewhere.

=================================  =====================================================================================
edge case                          behaviour
=================================  =====================================================================================
died between a commit and `keep`   the journal is longer than the witness: it goes on, the next head covers it
power cut while a line is written  the last line has no end, or holes of zeros: it is passed over, then written anew
two processes at once              a lock on the file; who comes second finds that a head covers their rows, or adds one
anything else in the file          LedgerCorrupted; lines before the last are looked at by `verify` (`compare`)
the witness, or its key, is gone   refused; `discreet journal head --anew` begins another, which is on record
the disk of the witness is full    FileNotWritten: what was committed stands, and is not acknowledged
=================================  =====================================================================================
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import BinaryIO

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from discreet.errors import ArtefactError, FileNotWritten, LedgerCorrupted, LedgerError, SettingError
from discreet.files import sync_folder
from discreet.governance.database import Database
from discreet.governance.heads import SignedHead
from discreet.governance.journal import Journal
from discreet.governance.keyfiles import make_key, signing_key
from discreet.governance.places import NAMED
from discreet.governance.tables import opened
from discreet.governance.tree import Frontier
from discreet.protocols.keys import public_bytes

_LONGEST_TAIL = 4096  # a line has less than a quarter of that
_PAUSE = 0.005


class Witness:
    """The heads of one journal. One object per thread; any number of processes.

    Args:
        path: of the file. It is made by the first `keep`.
        deadline: seconds to wait for other processes that append.
    """

    def __init__(self, path: Path, deadline: float = 30.0) -> None:
        self.path, self.deadline = path, deadline
        self._key_file = Path(f"{path}.key")
        self._rows, self._last = Frontier(), ""

    def begun(self) -> bool:
        """Tell whether there is a head.

        Raises:
            LedgerCorrupted: the file is damaged.
            LedgerError: it cannot be read.
        """
        with self._reading() as file:
            return file is not None and self._newest(file)[0] is not None

    def check(self, journal: Journal) -> None:
        """Return if the journal has all that the newest head covers, or if there never was a witness.

        Raises:
            LedgerCorrupted: it has not: it was rolled back or changed; or the witness is gone, damaged, or another's.
            LedgerError: the witness cannot be read.
            DataError: its key cannot be read.
        """
        with self._reading() as file:
            newest = None if file is None else self._newest(file)[0]
        with journal.database.snapshot():  # only now: what a head covers was committed before it was written
            if newest is None:
                self._check_never(journal)
            else:
                self._follow(journal, newest, signing_key(self._key_file))

    def keep(self, journal: Journal, *, anew: bool = False) -> SignedHead:
        """Have a head on the disk that covers every committed row; return the newest there is.

        Costs a look at the rows since, a signature and an fsync; nothing of these if another process was faster.

        Args:
            journal: the one that the witness is of.
            anew: begin another witness where one is told of and gone. The row that tells of it is on record.

        Raises:
            FileNotWritten: the disk is full, or fails. What was committed stands.
            LedgerCorrupted: as `check`.
            LedgerError: a transaction is open, whose rows may still be undone; or others kept the file too long.
            SettingError: ``anew``, and there are heads.
        """
        if journal.database.in_transaction:
            raise LedgerError("a head was asked for within a transaction; ask for it when that is committed")
        with self._writing() as file:
            newest, end = self._newest(file)
            if newest is None:
                return self._begin(journal, file, end, anew=anew)
            if anew:
                raise SettingError(f"witness {self.path} has heads; it goes on, or is to be put elsewhere first")
            key = signing_key(self._key_file)
            self._follow(journal, newest, key)
            return self._go_on(journal, file, newest, end, key)

    def compare(self, journal: Journal) -> None:
        """Return if every head there is fits the journal. Not for use within a snapshot, which may be older than heads.

        Raises:
            LedgerCorrupted: one does not; names the first row that may be to blame.
            LedgerError: the witness cannot be read.
            DataError: its key cannot be read.
        """
        with self._reading() as file:
            newest, end = (None, 0) if file is None else self._newest(file)
            if file is None or newest is None:
                self._check_never(journal)
                return
            rows, key = Frontier(), signing_key(self._key_file)
            for number, line in enumerate(_lines(file, end), 1):
                head = self._head(line, f"line {number}")
                if head.size <= rows.size:
                    raise self._damaged(f"line {number}")
                self._check_signed(journal, head, key)
                self._reach(journal, rows, head)

    # Heads and rows

    def _follow(self, journal: Journal, newest: SignedHead, key: Ed25519PrivateKey) -> None:
        """Hold the journal against the newest head, going on from where that was done last."""
        self._check_signed(journal, newest, key)
        if newest.size < self._rows.size:
            raise self._wrong("has lost heads that were in it; put it back", None)
        if self._rows.size and journal.hash_of(self._rows.size - 1) != self._last:
            raise self._rolled_back(journal.head().seq + 1, self._rows.size)
        rows = self._rows.copy()
        self._reach(journal, rows, newest)
        self._settle(journal, rows)

    def _check_signed(self, journal: Journal, head: SignedHead, key: Ed25519PrivateKey) -> None:
        try:
            head.check(public_bytes(key).hex())
        except ArtefactError:
            raise self._wrong("has a head that its key did not sign; put back the one that was written", None) from None
        if head.journal != journal.identity():
            raise self._wrong("is of another journal: the database was replaced; restore it", 0)
        if journal.signer() not in {None, head.key}:
            raise self._wrong("is not the one that the journal tells of; give that one", None)

    def _reach(self, journal: Journal, rows: Frontier, head: SignedHead) -> None:
        before = rows.size
        rows.grow(journal.hashes(before, head.size))
        if rows.size < head.size:
            raise self._rolled_back(rows.size, head.size)
        if rows.root().hex() != head.root:
            raise self._wrong("has a head of other rows: the journal was changed; restore the newest copy", before)

    def _settle(self, journal: Journal, rows: Frontier) -> None:
        self._rows, self._last = rows, journal.hash_of(rows.size - 1) or ""

    def _check_never(self, journal: Journal) -> None:
        if journal.signer() is not None:
            raise self._wrong(
                "is gone or empty, and the journal tells of it: put it back; or, if it is lost, find out whether the "
                "database was rolled back, then begin another with `discreet journal head --anew`",
                None,
            )

    def _begin(self, journal: Journal, file: BinaryIO, end: int, *, anew: bool) -> SignedHead:
        if not anew:
            self._check_never(journal)
        if not self._key_file.exists():
            make_key(self._key_file, Ed25519PrivateKey)
        key = signing_key(self._key_file)
        if anew:
            _tell(journal, key)
        rows = Frontier(journal.hashes())
        first = SignedHead.over(rows, journal.identity(), key)
        end = self._append(file, end, first)  # before the row that tells of it: whoever dies in between can go on
        sync_folder(self.path.parent)
        self._settle(journal, rows)
        return self._go_on(journal, file, first, end, key)

    def _go_on(
        self, journal: Journal, file: BinaryIO, newest: SignedHead, end: int, key: Ed25519PrivateKey
    ) -> SignedHead:
        if journal.signer() is None:
            _tell(journal, key)
        rows = self._rows.copy()
        rows.grow(journal.hashes(rows.size))
        if rows.size == newest.size:
            return newest
        head = SignedHead.over(rows, newest.journal, key)
        self._append(file, end, head)
        self._settle(journal, rows)
        return head

    # The file

    @contextmanager
    def _reading(self) -> Iterator[BinaryIO | None]:
        try:
            file = self.path.open("rb")
        except FileNotFoundError:
            if not self.path.parent.is_dir():  # or a mistyped path would be found out only by the first change
                raise LedgerError(f"witness {self.path}: there is no such folder; make it, or name another") from None
            file = None
        except OSError as error:
            raise LedgerError(f"witness {self.path} cannot be read: {error.strerror}; mend that") from error
        with file or nullcontext():
            yield file

    @contextmanager
    def _writing(self) -> Iterator[BinaryIO]:
        with self._failing(), os.fdopen(os.open(self.path, os.O_RDWR | os.O_CREAT, 0o600), "r+b") as file:
            self._lock(file)
            yield file

    def _lock(self, file: BinaryIO) -> None:
        until = time.monotonic() + self.deadline
        while True:
            with suppress(BlockingIOError):
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return
            if time.monotonic() >= until:
                raise LedgerError(f"witness {self.path} was kept busy for {self.deadline:g} s; try again")
            time.sleep(_PAUSE)

    @contextmanager
    def _failing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise FileNotWritten(
                f"witness {self.path} cannot be written: {error.strerror}; mend that and run the same again: what was "
                "recorded stands, and is not charged twice"
            ) from error

    def _append(self, file: BinaryIO, end: int, head: SignedHead) -> int:
        line = head.to_bytes() + b"\n"
        if file.seek(0, os.SEEK_END) != end:
            file.truncate(end)
            os.fsync(file.fileno())  # or, after another cut, there could be halves of two lines
        file.seek(end)
        file.write(line)
        file.flush()
        os.fsync(file.fileno())
        return end + len(line)

    def _newest(self, file: BinaryIO) -> tuple[SignedHead | None, int]:
        """The head in the last whole line, if there is one, and where the line after it begins."""
        size = file.seek(0, os.SEEK_END)
        begin = max(0, size - _LONGEST_TAIL)
        file.seek(begin)
        *lines, torn = file.read(_LONGEST_TAIL).split(b"\n")
        end = size - len(torn)
        if lines and b"\0" in lines[-1]:
            end -= len(lines.pop()) + 1
        if not lines and begin:
            raise self._damaged("its end")
        return (self._head(lines[-1], "its last line") if lines else None), end

    def _head(self, line: bytes, where: str) -> SignedHead:
        try:
            return SignedHead.from_bytes(line)
        except ArtefactError:
            raise self._damaged(where) from None

    # What is told

    def _rolled_back(self, found: int, size: int) -> LedgerCorrupted:
        return self._wrong(
            f"has seen {size} rows, of which the journal has {found}: the database was rolled back; restore the newest "
            "copy",
            found,
        )

    def _damaged(self, where: str) -> LedgerCorrupted:
        return self._wrong(f"is damaged ({where}); put back the one that was written", None)

    def _wrong(self, what: str, row: int | None) -> LedgerCorrupted:
        return LedgerCorrupted(f"witness {self.path} {what}", row=row)


def configured(path: str | Path | None, deadline: float = 30.0) -> Witness | None:
    """Return the witness at a path, by default the one that ``DISCREET_WITNESS`` names; None if there is neither."""
    named = path or os.environ.get(NAMED)
    return Witness(Path(named), deadline) if named else None


def opened_with(
    witness: Witness | None, place: str | Path, deadline: float, *, may_create: bool
) -> tuple[Database, Journal]:
    """Open a database and its journal, as `opened`, if they hold what their witness has seen.

    Raises:
        LedgerError: as `opened`; nor is a ledger made anew that a witness has seen.
        LedgerCorrupted: as `Witness.check`.
    """
    database = opened(place, deadline, may_create=may_create and not (witness and witness.begun()))
    try:
        journal = Journal(database)
        if witness:
            witness.check(journal)
    except BaseException:
        database.close()
        raise
    return database, journal


def check_unwitnessed(journal: Journal) -> None:
    """Return if a journal tells of no witness.

    Raises:
        LedgerError: it does.
    """
    if journal.signer() is not None:
        raise LedgerError(f"heads of this journal are kept in a witness; name it, with --witness or {NAMED}")


def _tell(journal: Journal, key: Ed25519PrivateKey) -> None:
    with journal.database.transaction():
        journal.append("head", key=public_bytes(key).hex())


def _lines(file: BinaryIO, end: int) -> Iterator[bytes]:
    file.seek(0)
    while file.tell() < end:
        yield file.readline(_LONGEST_TAIL).removesuffix(b"\n")
