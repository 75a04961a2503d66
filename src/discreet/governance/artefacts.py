"""Files on disk, known by their hash: what was published, and candidates that wait for it."""

from __future__ import annotations

import hashlib
from pathlib import Path

from discreet.errors import LedgerError
from discreet.governance.checks import sha256


def content(path: Path) -> str | None:
    """Return the SHA-256 (hex) of a file, or None if there is none.

    Raises:
        LedgerError: there is something that cannot be read.
    """
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise LedgerError(f"{path.name} cannot be read; check the folder and its permissions") from error


def hashes(folder: Path) -> set[str]:
    """Return the SHA-256 (hex) of every file in a folder.

    Raises:
        LedgerError: the folder, or a file in it, cannot be read.
    """
    try:
        files = [path for path in folder.iterdir() if path.is_file()]
    except OSError as error:
        raise LedgerError(f"the folder of artefacts {folder} cannot be read; check the path") from error
    return {found for path in files if (found := content(path)) is not None}


def candidate(folder: Path, release: str, artefact: str) -> Path:
    """Return where an artefact waits for its release to be committed."""
    return folder / f"{_prefix(release)}{artefact}"


def sweep(folder: Path, release: str) -> None:
    """Remove the candidates of a release, and halves of candidates: released numbers that nobody paid for."""
    for pattern in (f"{_prefix(release)}*", f".{_prefix(release)}*"):  # `replace_file` writes behind another dot
        for leftover in folder.glob(pattern):
            leftover.unlink(missing_ok=True)


def _prefix(release: str) -> str:
    # Two releases may have the same content, and each sweeps up only its own candidates.
    return f".candidate-{sha256(release.encode())[:16]}-"
