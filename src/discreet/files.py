"""Files that are whole or not there: written beside their place, made durable, then moved there in one step."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from discreet.errors import FileNotWritten


def replace_file(target: Path, write: Callable[[BinaryIO], object]) -> None:
    """Let ``write`` fill a temporary file (mode 0600), make it durable, and put it in ``target``'s place in one step.

    Raises:
        FileNotWritten: the folder is missing, full, or cannot be written to; nothing was changed. Or, and then it says
            so, the new file is in its place, but the disk does not promise to keep it there.
    """
    with writing(target), _scratch(target) as (file, scratch):
        write(file)
        file.flush()
        os.fsync(file.fileno())
        scratch.replace(target)
    try:
        sync_folder(target.parent)
    except OSError as error:
        raise FileNotWritten(
            f"{target}: was written, but may be gone after a power cut: {error.strerror}; mend that and write it again"
        ) from error


def write_bytes(target: Path, content: bytes) -> None:
    """Write ``content``, whole or not at all.

    Raises:
        FileNotWritten: as ``replace_file``.
    """
    replace_file(target, lambda file: file.write(content))


@contextmanager
def writing(target: Path) -> Iterator[None]:
    """Turn a failure to write into one line.

    Raises:
        FileNotWritten: whatever the system had against it.
    """
    try:
        yield
    except OSError as error:
        raise FileNotWritten(f"{target}: cannot be written: {error.strerror}; nothing was changed") from error


def sync_folder(folder: Path) -> None:
    """Wait until the names in ``folder`` are on the disk; a file's own fsync does not see to that."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def _scratch(target: Path) -> Iterator[tuple[BinaryIO, Path]]:
    handle, name = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent)  # made with mode 0600
    try:
        with os.fdopen(handle, "wb") as file:
            yield file, Path(name)
    finally:
        Path(name).unlink(missing_ok=True)
