"""Around every release: which ledger, at which delta, who is admitted, and where the result is put, once."""

from __future__ import annotations

import tempfile
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar, cast

import numpy as np

from discreet.data.interactions import Opened
from discreet.errors import AccountMissing, LedgerError, ReleaseConflict, SettingError
from discreet.files import writing
from discreet.governance.charges import Units
from discreet.governance.checks import check_name, sha256
from discreet.governance.ledger import Account, Ledger, Reservation
from discreet.governance.publication import publish, resume
from discreet.privacy.accounting import check_delta

AnyOpened = TypeVar("AnyOpened", bound=Opened)

LONGEST_STEM = 180
"""Of a release's own id: a data set's name may be as long as an id may be."""


@contextmanager
def opened_ledger(ledger: Ledger | str | Path) -> Iterator[Ledger]:
    """Yield the ledger; close it if it was opened here."""
    if isinstance(ledger, Ledger):
        yield ledger
        return
    with Ledger(ledger) as book:
        yield book


def agreed_delta(book: Ledger, account: Account, delta: float | None, people: int) -> float:
    """Return the budget's delta, if the caller asks for no other and it protects this many people.

    Raises:
        AccountMissing: no such budget is open.
        SettingError: another delta was asked, or it is too large for so many people.
    """
    found = [state.delta for state in book.accounts() if state.account == account]
    if not found:
        raise AccountMissing(f"no budget is open for {account}: open one with `discreet budget open`")
    if delta is not None and delta != found[0]:
        raise SettingError(f"the budget of {account} is kept at delta {found[0]:g}, {delta:g} was asked; leave it out")
    check_delta(found[0], people)
    return found[0]


def release_id(dataset: str) -> str:
    """Return a new id, which names the data set and nobody."""
    return f"{dataset[:LONGEST_STEM]}-{uuid.uuid4().hex[:12]}"


def is_published(book: Ledger, release: str | None) -> bool:
    """Tell whether a release has an artefact already."""
    return release is not None and any(made.release == release and made.artefact for made in book.releases())


def admitted(histories: AnyOpened, reservation: Reservation) -> AnyOpened:
    """Leave out the people whose own budget does not reach."""
    if reservation.admitted is None or reservation.admitted.all():
        return histories
    return cast("AnyOpened", histories.take(np.flatnonzero(reservation.admitted)))


def released_once(
    book: Ledger,
    account: Account,
    histories: AnyOpened,
    make: Callable[[AnyOpened, Reservation], bytes],
    *,
    cost: int,
    spec: str,
    release: str | None,
    target: Path | None,
    reserved: Callable[[str], None] | None,
    prices: Units | None = None,
    named: bool = True,
) -> bytes:
    """Charge a release, make it of the people who are admitted, and publish it; or return what was published before.

    Args:
        book: the ledger.
        account: that pays.
        histories: everybody.
        make: computes the content, drawing on the reservation.
        cost: units.
        spec: SHA-256 (hex) of all that decides what is computed.
        release: id, or None for a new one.
        target: where to publish.
        reserved: told the id as soon as it is charged.
        prices: what each is held for, in units, if that is not ``cost`` for all.
        named: whether people are named to the ledger; not where the price is of each of their choices.

    Raises:
        AccountMissing, BudgetExceeded, ReleaseConflict, LedgerError: by the ledger.
    """
    reservation = book.reserve(
        account,
        cost=cost,
        release=release or release_id(histories.dataset),
        spec=spec,
        people=histories.people_ids if named else None,
        prices=prices,
    )
    if reserved:
        reserved(reservation.release)
    if reservation.state == "committed":
        return published_before(book, reservation, target).read_bytes()
    content = make(admitted(histories, reservation), reservation)
    path = published(book, reservation, content, target)
    return path.read_bytes() if path else content


def published(book: Ledger, reservation: Reservation, payload: bytes, target: Path | None) -> Path | None:
    """Bind ``payload`` to a release and put it at ``target``, once; without a target it is bound alone.

    What people used is settled by the same step.

    Returns:
        The target. It holds what another process committed to the release, if that came first.

    Raises:
        LedgerError: the target was taken meanwhile; the release stays charged and can be repeated.
        ReleaseConflict: another process was first, and there is no target to read its result from.
    """
    release, used = reservation.release, reservation.used
    if target:
        try:
            return publish(book, release, payload, target.parent, target.name, used)
        except LedgerError:
            if not _is_taken(target, book.artefact(release)):
                raise
            raise LedgerError(
                f"{target} was taken by another file meanwhile; release {release} is charged: repeat it at no further "
                f"charge with --release {release} --out OTHER"
            ) from None
    if book.commit(release, sha256(payload), used) != sha256(payload):
        raise ReleaseConflict(f"release {release} was made by another process at the same time; this one is discarded")
    return None


def _is_taken(target: Path, artefact: str | None) -> bool:
    return target.is_file() and sha256(target.read_bytes()) != artefact


def published_before(book: Ledger, reservation: Reservation, target: Path | None) -> Path:
    """Return where the result of an earlier attempt is, finishing its publication if that was cut off.

    Raises:
        ReleaseConflict: it was made without a file.
    """
    if target is None:
        raise ReleaseConflict(f"release {reservation.release} is made already; load its file, or name a new release")
    return resume(book, reservation.release, target.parent, target.name)


def checked_target(out: object) -> Path | None:
    """Return where a result is to be published, if a file can be written there.

    Raises:
        SettingError: it is no path, or has no folder, or would be hidden.
        FileNotWritten: the folder cannot be written to.
    """
    if out is None:
        return None
    if not isinstance(out, str | Path):
        raise SettingError(f"out must be a path, not {type(out).__name__}")
    target = Path(out)
    check_name("file", target.name, forbidden="/\\")  # as publication does, but before anything is charged
    if target.name.startswith("."):
        raise SettingError(f"file name {target.name} would be hidden; give one that does not begin with a dot")
    check_place(target)
    return target


def check_place(target: Path) -> None:
    """Refuse a path where no file could be written: worth asking before anything is charged or measured.

    Raises:
        SettingError: there is no such folder.
        FileNotWritten: the folder cannot be written to.
    """
    if not exists(target.parent) or not target.parent.is_dir():
        raise SettingError(f"{target.parent} is not a folder; make it, or write elsewhere")
    with writing(target), tempfile.TemporaryFile(dir=target.parent):
        pass


def check_free(target: Path | None) -> None:
    """Refuse before anything is charged, or a budget would be spent on a result that has no place.

    Raises:
        SettingError: something is there already.
    """
    if target is not None and exists(target):
        raise SettingError(f"{target} exists already; results are never overwritten, give another name")


def exists(path: Path) -> bool:
    """Tell whether something is there.

    Raises:
        SettingError: nothing can be there, since the name is too long or the like.
    """
    try:
        return path.exists()
    except OSError as error:
        raise SettingError(f"a path cannot be used: {error.strerror}; give another name") from None
