"""A disk that loses power: what was synced stays, of the rest any part does.

It watches a folder: SQLite's calls through `vfs`, and Python's own through the functions of `os` that the product
writes files with. For each file it keeps what is surely on the disk, and what was handed to the system since; for each
name, the file that it surely leads to, and what was done to it since. A cut ends every call from then on, and leaves:

* of a file, any of the writes since its last sync, each torn into sectors of 512 bytes of which any are there;
* of a name, any beginning of what was done to it since its folder was synced (SQLite's first sync of a new log is also
  one of the folder; that is how its library works).

Not in it: a disk that says it has synced and has not, and sectors that are written half.
"""

from __future__ import annotations

import errno
import os
import random
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest import mock

import vfs

SECTOR = 512


class PowerCut(OSError):
    """The call did not come back; whoever sees this is dead."""

    def __init__(self) -> None:
        super().__init__(errno.EIO, "the power was cut")


@dataclass
class Inode:
    """A file: what is surely on the disk, and what was handed to the system since, in order.

    A file that Python writes is ``plain``: its calls are not watched, so what is pending is all of its content.
    """

    durable: bytearray = field(default_factory=bytearray)
    pending: list[tuple[int, bytes | None]] = field(default_factory=list)
    plain: bool = False
    path: str = ""

    def sync(self) -> None:
        """Take all that is pending for durable."""
        if self.plain:
            self.durable = bytearray(Path(self.path).read_bytes())
        for at, content in self.pending:
            _apply(self.durable, at, content)
        self.pending.clear()

    def left(self, draw: random.Random) -> bytes:
        """Return what may be found after a cut."""
        found, mode = bytearray(self.durable), draw.random()
        pending = self._of_plain(draw) if self.plain else self.pending
        for at, content in pending:
            if mode < 0.2:  # nothing of it; above 0.9, all of it
                continue
            if content is None:
                if mode > 0.9 or draw.random() < 0.5:
                    _apply(found, at, None)
                continue
            for piece_at, piece in _sectors(at, content):
                if mode > 0.9 or draw.random() < 0.5:
                    _apply(found, piece_at, piece)
        return bytes(found)

    def _of_plain(self, draw: random.Random) -> list[tuple[int, bytes | None]]:
        path = Path(self.path)
        now = path.read_bytes() if path.exists() else bytes(self.durable)
        return [] if now == self.durable else [(0, now), (draw.randrange(len(now) + 1), None)]


def _apply(found: bytearray, at: int, content: bytes | None) -> None:
    """Write at a place, or cut there; what lies between is zeros."""
    if len(found) < at:
        found.extend(bytes(at - len(found)))
    if content is None:
        del found[at:]
    else:
        found[at : at + len(content)] = content


def _sectors(at: int, content: bytes) -> Iterator[tuple[int, bytes]]:
    first = 0
    while first < len(content):
        end = min(len(content), (at + first) // SECTOR * SECTOR + SECTOR - at)
        yield at + first, content[first:end]
        first = end


class Disk:
    """The disk under one folder, which loses power at a given one of its calls (0: never)."""

    def __init__(self, folder: Path, draw: random.Random, cut_at: int = 0) -> None:
        self.folder, self.calls, self.cut_at = folder, 0, cut_at
        self.after: dict[str, bytes] | None = None
        self._draw = draw
        self._names: dict[str, Inode] = {}
        self._durable: dict[str, Inode] = {}
        self._changes: dict[str, list[Inode | None]] = {}
        for path in folder.iterdir():
            inode = self._names[path.name] = Inode(bytearray(path.read_bytes()), path=str(path))
            self._durable[path.name] = inode

    @property
    def dead(self) -> bool:
        """Whether the power was cut."""
        return self.after is not None

    def cut(self) -> None:
        """Cut the power, unless it is."""
        if self.after is None:
            self.after = {}
            for name in sorted({*self._durable, *self._changes}):
                history = [self._durable.get(name), *self._changes.get(name, [])]
                inode = self._draw.choice((history[0], history[-1], self._draw.choice(history)))
                if inode is not None:
                    self.after[name] = inode.left(self._draw)

    def _call(self) -> None:
        self.calls += 1
        if self.calls == self.cut_at:
            self.cut()
        if self.dead:
            raise PowerCut

    def _is_watched(self, path: Any) -> bool:
        return isinstance(path, str | Path) and Path(path).parent == self.folder

    def _led(self, name: str, inode: Inode | None) -> None:
        """Take note that a name leads elsewhere."""
        self._changes.setdefault(name, []).append(inode)
        if inode is None:
            self._names.pop(name, None)
        else:
            self._names[name] = inode

    def _sync_names(self, *names: str) -> None:
        for name in names or tuple(self._changes):
            for inode in self._changes.pop(name, [])[-1:]:
                if inode is None:
                    self._durable.pop(name, None)
                else:
                    self._durable[name] = inode

    # SQLite's calls

    def refuses(self, call: str, path: str) -> int:
        """Let a call through while there is power."""
        if not self._is_watched(path) or call in {"read", "open"}:
            return vfs.IOERR if self.dead else vfs.OK
        try:
            self._call()
        except PowerCut:
            return vfs.IOERR
        return vfs.OK

    def opened(self, path: str, created: bool) -> None:
        """A new log is a name that is not on the disk yet."""
        if created and self._is_watched(path):
            self._led(Path(path).name, Inode(path=path))

    def _file(self, path: str) -> Inode | None:
        inode = self._names.get(Path(path).name) if self._is_watched(path) else None
        if inode is not None:
            inode.plain = False
        return inode

    def wrote(self, path: str, at: int, content: bytes) -> None:
        """Keep a write until its file is synced."""
        inode = self._file(path)
        if inode is not None:
            inode.pending.append((at, content))

    def truncated(self, path: str, size: int) -> None:
        """Keep a cut of a file until it is synced."""
        inode = self._file(path)
        if inode is not None:
            inode.pending.append((size, None))

    def synced(self, path: str) -> None:
        """A file is on the disk; of a log, its name too."""
        inode = self._file(path)
        if inode is not None:
            inode.sync()
            if path.endswith(("-wal", "-journal")):
                self._sync_names(Path(path).name)

    def deleted(self, path: str, synced: bool) -> None:
        """A name is gone, and may come back."""
        if self._is_watched(path) and Path(path).name in self._names:
            self._led(Path(path).name, None)
            if synced:
                self._sync_names()

    # Python's calls

    @contextmanager
    def plugged_in(self) -> Iterator[None]:
        """Be the disk of what the block does. SQLite's connections have to be closed within it.

        Raises:
            Unavailable: SQLite's library cannot be reached.
        """
        with ExitStack() as stack:
            stack.enter_context(vfs.observed(self))
            for name, watched in self._watched().items():
                stack.enter_context(mock.patch.object(os, name, watched(getattr(os, name))))
            yield

    def _watched(self) -> dict[str, Callable[[Callable[..., Any]], Callable[..., Any]]]:
        return {
            "open": self._open,
            "fsync": self._fsync,
            "link": self._link,
            "replace": self._replace,
            "rename": self._replace,
            "unlink": self._unlink,
        }

    def _open(self, real: Callable[..., int]) -> Callable[..., int]:
        def watched(path: Any, flags: int, *args: Any, **options: Any) -> int:
            made = flags & os.O_CREAT and self._is_watched(path)
            if made:
                self._call()
            descriptor = real(path, flags, *args, **options)
            if made and Path(path).name not in self._names:
                self._led(Path(path).name, Inode(plain=True, path=str(path)))
            return descriptor

        return watched

    def _fsync(self, _: Callable[..., None]) -> Callable[..., None]:
        def watched(descriptor: int) -> None:
            path = Path(f"/proc/self/fd/{descriptor}").readlink()
            if path == self.folder:
                self._call()
                self._sync_names()
            elif self._is_watched(path):
                self._call()
                self._names[path.name].sync()

        return watched

    def _link(self, real: Callable[..., None]) -> Callable[..., None]:
        def watched(source: Any, target: Any, **options: Any) -> None:
            if self._is_watched(target):
                self._call()
            real(source, target, **options)
            if self._is_watched(target):
                self._led(Path(target).name, self._names[Path(source).name])

        return watched

    def _replace(self, real: Callable[..., None]) -> Callable[..., None]:
        def watched(source: Any, target: Any, **options: Any) -> None:
            if self._is_watched(target):
                self._call()
            real(source, target, **options)
            if self._is_watched(target):
                inode = self._names[Path(source).name]
                inode.path = str(target)
                self._led(Path(target).name, inode)
                self._led(Path(source).name, None)

        return watched

    def _unlink(self, real: Callable[..., None]) -> Callable[..., None]:
        def watched(path: Any, **options: Any) -> None:
            if self._is_watched(path):
                self._call()
            real(path, **options)
            if self._is_watched(path) and Path(path).name in self._names:
                self._led(Path(path).name, None)

        return watched
