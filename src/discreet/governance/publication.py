"""An artefact under its name: once, whole, and only if it was paid for."""

from __future__ import annotations

import errno
import os
from contextlib import suppress
from pathlib import Path

from discreet.errors import FileNotWritten, LedgerError, LedgerFull, ReleaseConflict, ReleaseWaits, SettingError
from discreet.files import sync_folder, write_bytes
from discreet.governance.artefacts import candidate, content, sweep
from discreet.governance.charges import Units
from discreet.governance.checks import check_name, sha256
from discreet.governance.ledger import Ledger


def publish(ledger: Ledger, release: str, payload: bytes, folder: Path, name: str, used: Units | None = None) -> Path:
    """Bind ``payload`` to a reserved release and put it at ``folder / name``, once. Return that path.

    With ``used`` the release is settled, see `Ledger.commit`.

    May be repeated after a crash at any point, also by several processes at once: the first payload that was committed
    is what is published, whatever the later ones bring. No other file is overwritten.

    Raises:
        SettingError: ``name`` is not a plain file name.
        ReleaseConflict: the release was never reserved, or was abandoned; nothing is left of the payload.
        LedgerError: another file stands at that path (nothing was committed); or the disk is full or fails (the
            release stays as it was: try again, at no further charge).
    """
    target = _target(folder, name)
    artefact = sha256(payload)
    before = content(target)  # looked at before the ledger, or the winner's own file could be taken for a stranger
    if ledger.artefact(release) is None:
        if before not in {None, artefact}:
            raise LedgerError(f"{name} is taken by another file; publish {release} under another name")
        _bind(ledger, release, payload, candidate(folder, release, artefact), used)
    return resume(ledger, release, folder, name)


def _bind(ledger: Ledger, release: str, payload: bytes, place: Path, used: Units | None) -> None:
    try:
        write_bytes(place, payload)
        ledger.commit(release, sha256(payload), used)
    except FileNotWritten as failure:
        if ledger.artefact(release) is None:  # or else another attempt has committed, and swept this one up
            raise _waits(release, str(place.parent), failure.__cause__) from failure
    except ReleaseConflict:
        sweep(place.parent, release)  # abandoned: nothing may come of it
        raise
    except LedgerFull as failure:
        raise _waits(release, ledger.place, failure) from failure


def _waits(release: str, place: str, cause: BaseException | None) -> ReleaseWaits:
    """What stopped the publication of a release that is paid for."""
    if _is_full(cause):
        what, advice = f"the disk of {place} is full", "free space"
    else:
        reason = f": {cause.strerror}" if isinstance(cause, OSError) else ""
        what, advice = f"{place} cannot be written{reason}", "mend that"
    return ReleaseWaits(
        f"{what}; release {release} is charged and waits: {advice}, then run the same command with --release {release}"
    )


def _is_full(cause: BaseException | None) -> bool:
    if isinstance(cause, OSError):
        return cause.errno in {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
    return isinstance(cause, LedgerFull)


def resume(ledger: Ledger, release: str, folder: Path, name: str) -> Path:
    """Finish the publication of a committed release. Does nothing if it is finished. Return the path.

    Raises:
        SettingError: ``name`` is not a plain file name.
        ReleaseConflict: the release was never reserved.
        LedgerError: it is not committed; its candidate is gone; another file stands at that path; the disk fails.
    """
    target, winner = _target(folder, name), ledger.artefact(release)
    if winner is None:
        raise LedgerError(f"release {release} has no artefact yet; compute it again and publish that")
    try:
        with suppress(FileExistsError, FileNotFoundError):  # done already, here or by another process: see below
            os.link(candidate(folder, release, winner), target)  # atomic, and never overwrites
        _check_published(target, winner, release)
        sync_folder(folder)
        sweep(folder, release)
        sync_folder(folder)
    except OSError as error:
        raise _waits(release, str(folder), error) from error
    return target


def _check_published(target: Path, winner: str, release: str) -> None:
    found = content(target)
    if found is None:
        raise LedgerError(
            f"the artefact of release {release} is not in {target.parent} as {target.name}, nor waiting there: it has "
            f"another name, or is gone; look for the file whose SHA-256 is {winner}"
        )
    if found != winner:
        raise LedgerError(f"{target.name} is not the artefact of release {release}; publish under another name")


def _target(folder: Path, name: str) -> Path:
    check_name("file", name, forbidden="/\\")
    if name.startswith("."):
        raise SettingError(f"file name {name} would be hidden; give one that does not begin with a dot")
    return folder / name
