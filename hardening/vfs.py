"""SQLite's own file calls, watched and refused: a shim between the library that Python uses and the system.

The library is asked to go through a second VFS, whose calls first come here and then go on to the first one. What is
tested stays what it is: the product's code, Python's module, SQLite's library. Only where that library is linked into
Python's module, rather than loaded, is there no way in.
"""

from __future__ import annotations

import ctypes
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any, Protocol

OK, IOERR = 0, 10
FULL = 13
_CREATE = 0x4  # SQLITE_OPEN_CREATE


class Observer(Protocol):
    """Who is told of each call on a file, and may refuse it."""

    def refuses(self, call: str, path: str) -> int:
        """Return 0 to let a call through, or SQLite's code of the error that it is to end in."""

    def opened(self, path: str, created: bool) -> None:
        """A file was opened, and made if it was not there."""

    def wrote(self, path: str, at: int, content: bytes) -> None:
        """Bytes were handed to the system."""

    def truncated(self, path: str, size: int) -> None:
        """A file was cut."""

    def synced(self, path: str) -> None:
        """The system said that all of a file is on the disk."""

    def deleted(self, path: str, synced: bool) -> None:
        """A name was taken away; with ``synced``, the folder is on the disk."""


class Unavailable(Exception):
    """SQLite's library cannot be reached."""


class _Vfs(ctypes.Structure):
    _fields_ = [
        *(("version", ctypes.c_int), ("file_size", ctypes.c_int), ("longest_path", ctypes.c_int)),
        *(("next", ctypes.c_void_p), ("name", ctypes.c_char_p), ("data", ctypes.c_void_p)),
        *((name, ctypes.c_void_p) for name in ("open", "delete", "access", "full_path")),
        *((f"other_{number}", ctypes.c_void_p) for number in range(12)),
    ]


_CALLS = ("close", "read", "write", "truncate", "sync", "file_size", "lock", "unlock", "is_reserved", "control")
_MORE = ("sector_size", "characteristics", "shm_map", "shm_lock", "shm_barrier", "shm_unmap", "fetch", "unfetch")


class _Methods(ctypes.Structure):
    _fields_ = [("version", ctypes.c_int), *((name, ctypes.c_void_p) for name in (*_CALLS, *_MORE))]


class _File(ctypes.Structure):
    _fields_ = [("methods", ctypes.c_void_p)]


_FILE, _INT, _LONG = ctypes.POINTER(_File), ctypes.c_int, ctypes.c_int64
# A name is passed on as the pointer that it came as: SQLite keeps it, and has more behind the end of the text.
_OPEN = ctypes.CFUNCTYPE(_INT, ctypes.c_void_p, ctypes.c_void_p, _FILE, _INT, ctypes.c_void_p)
_DELETE = ctypes.CFUNCTYPE(_INT, ctypes.c_void_p, ctypes.c_void_p, _INT)
_CLOSE = ctypes.CFUNCTYPE(_INT, _FILE)
_MOVE = ctypes.CFUNCTYPE(_INT, _FILE, ctypes.c_void_p, _INT, _LONG)
_TRUNCATE = ctypes.CFUNCTYPE(_INT, _FILE, _LONG)
_SYNC = ctypes.CFUNCTYPE(_INT, _FILE, _INT)


class _Shim:
    """One for the whole life of the process: SQLite keeps pointers to what is in it."""

    def __init__(self) -> None:
        self.observer: Observer | None = None
        self._library = ctypes.CDLL(_loaded())
        self._library.sqlite3_vfs_find.restype = ctypes.POINTER(_Vfs)
        self._library.sqlite3_vfs_find.argtypes = [ctypes.c_char_p]
        self._library.sqlite3_vfs_register.argtypes = [ctypes.POINTER(_Vfs), _INT]
        self._real = self._library.sqlite3_vfs_find(None)
        self._real_open, self._real_delete = _OPEN(self._real[0].open), _DELETE(self._real[0].delete)
        self._paths: dict[int, str] = {}
        self._kept: list[Any] = []
        self._methods: dict[int, tuple[_Methods, dict[str, Any]]] = {}
        self._vfs = _Vfs.from_buffer_copy(self._real[0])
        self._vfs.name, self._vfs.next = b"watched", None
        self._vfs.open, self._vfs.delete = self._called(_OPEN, self._open), self._called(_DELETE, self._delete)

    def make_default(self, watched: bool) -> None:
        """Have files that are opened from now on go through here, or no longer."""
        vfs = ctypes.pointer(self._vfs) if watched else self._real
        if self._library.sqlite3_vfs_register(vfs, 1) != OK:
            raise Unavailable("SQLite does not take another VFS")

    def _called(self, kind: Any, function: Callable[..., int]) -> int | None:
        call = kind(function)
        self._kept.append(call)
        return ctypes.cast(call, ctypes.c_void_p).value

    def _refusal(self, call: str, path: str | None) -> int:
        return OK if self.observer is None or path is None else self.observer.refuses(call, path)

    def _open(self, _: int, name: int | None, file: Any, flags: int, out: int) -> int:
        path = None if name is None else ctypes.string_at(name).decode()
        refused = self._refusal("open", path)
        if refused:
            file[0].methods = None
            return refused
        missing = path is not None and bool(flags & _CREATE) and not Path(path).exists()
        done = int(self._real_open(ctypes.addressof(self._real[0]), name, file, flags, out))
        if done == OK and path is not None and self.observer is not None:
            self._watch(file, path)
            self.observer.opened(path, missing)
        return done

    def _watch(self, file: Any, path: str) -> None:
        real = file[0].methods
        if real not in self._methods:
            methods = _Methods.from_address(real)
            kinds = {"close": _CLOSE, "read": _MOVE, "write": _MOVE, "truncate": _TRUNCATE, "sync": _SYNC}
            calls = {name: kind(getattr(methods, name)) for name, kind in kinds.items()}
            own = _Methods.from_buffer_copy(methods)
            for name, kind in kinds.items():
                setattr(own, name, self._called(kind, getattr(self, f"_{name}_by")(calls[name])))
            self._methods[real] = own, calls
        file[0].methods = ctypes.addressof(self._methods[real][0])
        self._paths[ctypes.addressof(file[0])] = path

    def _path(self, file: Any) -> str | None:
        return self._paths.get(ctypes.addressof(file[0]))

    def _close_by(self, real: Any) -> Callable[..., int]:
        def close(file: Any) -> int:
            self._paths.pop(ctypes.addressof(file[0]), None)
            return int(real(file))

        return close

    def _read_by(self, real: Any) -> Callable[..., int]:
        def read(file: Any, into: int, many: int, at: int) -> int:
            return self._refusal("read", self._path(file)) or int(real(file, into, many, at))

        return read

    def _write_by(self, real: Any) -> Callable[..., int]:
        def write(file: Any, source: int, many: int, at: int) -> int:
            path = self._path(file)
            done = self._refusal("write", path) or int(real(file, source, many, at))
            if done == OK and path is not None and self.observer is not None:
                self.observer.wrote(path, at, ctypes.string_at(source, many))
            return done

        return write

    def _truncate_by(self, real: Any) -> Callable[..., int]:
        def truncate(file: Any, size: int) -> int:
            path = self._path(file)
            done = self._refusal("truncate", path) or int(real(file, size))
            if done == OK and path is not None and self.observer is not None:
                self.observer.truncated(path, size)
            return done

        return truncate

    def _sync_by(self, real: Any) -> Callable[..., int]:
        def sync(file: Any, flags: int) -> int:
            path = self._path(file)
            done = self._refusal("sync", path)
            if done == OK and path is not None and self.observer is not None:
                self.observer.synced(path)  # what the system would do is left out: the observer is the disk
                return OK
            return done or int(real(file, flags))

        return sync

    def _delete(self, _: int, name: int, sync: int) -> int:
        path = ctypes.string_at(name).decode()
        done = self._refusal("delete", path) or self._real_delete(ctypes.addressof(self._real[0]), name, 0)
        if done == OK and self.observer is not None:
            self.observer.deleted(path, bool(sync))
        return done


def _loaded() -> str:
    """Return the path of the library that Python's module has loaded."""
    with sqlite3.connect(":memory:") as connection:
        connection.execute("SELECT 1")
    connection.close()
    maps = Path("/proc/self/maps")
    mapped = maps.read_text().splitlines() if maps.exists() else []
    for line in mapped:
        if "libsqlite3" in line:
            return line.split(maxsplit=5)[5]
    raise Unavailable("SQLite is linked into Python here, or this is not Linux: its file calls cannot be watched")


@cache
def _shim() -> _Shim:
    return _Shim()


def check_available() -> None:
    """Return if file calls can be watched here.

    Raises:
        Unavailable: SQLite's library cannot be reached.
    """
    _shim()


@contextmanager
def observed(observer: Observer) -> Iterator[None]:
    """Tell ``observer`` of every file that SQLite opens within the block. All of them have to be closed within it.

    Raises:
        Unavailable: SQLite's library cannot be reached.
    """
    shim = _shim()
    shim.observer = observer
    shim.make_default(True)
    try:
        yield
    finally:
        shim.make_default(False)
        shim.observer = None
