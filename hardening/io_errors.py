"""Let each call on a file fail in turn, once or from then on, as on a full or a failing disk; see what is left.

    python hardening/io_errors.py
    python hardening/io_errors.py --every 10    # one call in ten

The work is run again for every call that it makes, and that call fails. What is asked for: an error that the product
raises on purpose, nothing half done, everything that was acknowledged still there, nothing charged twice, an older file
untouched, and that the same work goes through once the disk is well again.
"""

from __future__ import annotations

import argparse
import errno
import io
import json
import os
import random
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import power_cuts
import vfs

from discreet.data.importing import import_interactions
from discreet.data.intake import read_interactions
from discreet.errors import DiscreetError
from discreet.files import write_bytes
from discreet.governance.ledger import Ledger
from discreet.governance.publication import publish

IOERR_READ, IOERR_FSYNC = vfs.IOERR | 1 << 8, vfs.IOERR | 4 << 8
CODES = {vfs.IOERR: errno.EIO, vfs.FULL: errno.ENOSPC, IOERR_READ: errno.EIO, IOERR_FSYNC: errno.EDQUOT}
"""SQLite's codes, and what the system says in place of them to Python."""


class Failing:
    """A disk on which one call fails (0: none), and with ``lasting`` each one from then on."""

    def __init__(self, at: int, code: int, *, lasting: bool) -> None:
        self.calls, self.failed = 0, False
        self._at, self._code, self._lasting = at, code, lasting

    def fail_at(self, at: int) -> None:
        """Let this call fail, counted from the first."""
        self._at = at

    def refuses(self, call: str, path: str) -> int:
        """Return the code, if it is this one's turn."""
        del call, path
        self.calls += 1
        if self.calls == self._at or (self._lasting and self.failed):
            self.failed = True
            return self._code
        return vfs.OK

    def opened(self, path: str, created: bool) -> None:
        """Nothing is kept."""

    def wrote(self, path: str, at: int, content: bytes) -> None:
        """Nothing is kept."""

    def truncated(self, path: str, size: int) -> None:
        """Nothing is kept."""

    def synced(self, path: str) -> None:
        """Nothing is kept."""

    def deleted(self, path: str, synced: bool) -> None:
        """Nothing is kept."""

    def _ask(self, call: str) -> None:
        if self.refuses(call, ""):
            raise OSError(CODES[self._code], os.strerror(CODES[self._code]))

    @contextmanager
    def plugged_in(self, *, sqlite: bool) -> Iterator[None]:
        """Be the disk of what the block does."""
        with ExitStack() as stack:
            if sqlite:
                stack.enter_context(vfs.observed(self))
            for name in ("open", "fsync", "link", "replace", "unlink", "mkdir"):
                stack.enter_context(mock.patch.object(os, name, self._asking(name, getattr(os, name))))
            stack.enter_context(mock.patch.object(os, "fdopen", self._fdopen))
            yield

    def _asking(self, name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def asking(*args: Any, **options: Any) -> Any:
            self._ask(name)
            return real(*args, **options)

        return asking

    def _fdopen(self, descriptor: int, *_: Any, **__: Any) -> io.BufferedWriter:
        failing = self

        class Watched(io.BufferedWriter):
            def write(self, content: Any) -> int:
                failing._ask("write")
                return super().write(content)

        return Watched(io.FileIO(descriptor, "wb"))


@dataclass(frozen=True)
class Scene:
    """Work, and how to tell whether what it left is sound.

    Attributes:
        name: of it.
        prepare: fills the folder first.
        work: does it, from wherever an earlier attempt has left it; tells ``acknowledge`` of each step that is done.
        sound: returns what is wrong, given what was acknowledged; None if nothing is.
        sqlite: whether SQLite's calls fail too.
    """

    name: str
    prepare: Callable[[Path], None]
    work: Callable[[Path, Callable[[str], None]], None]
    sound: Callable[[Path, set[str]], str | None]
    sqlite: bool = True


PEOPLE = ["ann", "bob", "cid"]
RESERVED = {"kept": 500, "dropped": 40}
PAYLOAD = bytes(range(256)) * 40


def _spend(folder: Path, acknowledge: Callable[[str], None]) -> None:
    with Ledger(folder / "ledger.db") as ledger:
        for account in (power_cuts.FILMS, power_cuts.BOOKS):
            power_cuts.open_budget(ledger, account)
            acknowledge(str(account))
        states = {state.release: state.state for state in ledger.releases()}
        for name, cost in RESERVED.items():
            if states.get(name) != "abandoned":
                ledger.reserve(power_cuts.BOOKS, release=name, cost=cost, spec=power_cuts.SPEC, people=PEOPLE)
            acknowledge(name)
        if states.get("dropped") != "abandoned":
            ledger.abandon("dropped")
        acknowledge("abandoned")
        publish(ledger, "kept", PAYLOAD, folder, "model")
        acknowledge("published")


def _spent(folder: Path, acknowledged: set[str]) -> str | None:
    path = folder / "ledger.db"
    if not path.exists():
        return "the ledger is gone" if acknowledged else None
    with Ledger(path, create=False) as ledger:
        found = ledger.verify(artefacts=folder if "published" in acknowledged else None)
        if not found.ok:
            return f"does not verify: {found.problems[0].what}"
        states = {state.release: state for state in ledger.releases()}
        accounts = {str(state.account): state.spent for state in ledger.accounts()}
    missing = acknowledged - {*states, *accounts, "abandoned", "published"}
    if missing:
        return "something acknowledged is gone"
    if accounts.get(str(power_cuts.BOOKS), 0) != sum(state.cost for state in states.values()):
        return "what is spent is not the sum of the releases"
    if "abandoned" in acknowledged and states["dropped"].state != "abandoned":
        return "an acknowledged end is gone"
    model = folder / "model"
    if model.exists() and model.read_bytes() != PAYLOAD:
        return "a published file is half written"
    return "an acknowledged publication is gone" if "published" in acknowledged and not model.exists() else None


def _with_ledger(folder: Path) -> None:
    for name, content in power_cuts.template().items():
        (folder / name).write_bytes(content)


OLDER = {"user_id": ["old"], "item_id": [1]}
ROWS = "user_id,item_id,timestamp\n" + "".join(f"p{number % 7},{number},{number}\n" for number in range(50))


def _with_older(folder: Path) -> None:
    (folder / "events.csv").write_text(ROWS)
    import_interactions(OLDER, folder / "data.parquet", name="older")


def _import(folder: Path, acknowledge: Callable[[str], None]) -> None:
    import_interactions(folder / "events.csv", folder / "data.parquet", name="newer")
    acknowledge("newer")


def _imported(folder: Path, acknowledged: set[str]) -> str | None:
    # Where nothing can be taken away, what was set aside stays, hidden.
    if sorted(path.name for path in folder.glob("[!.]*")) != ["data.parquet", "events.csv"]:
        return "something is left lying about"
    data = read_interactions(folder / "data.parquet")
    rows = data.opened_for("train-recommender")
    if (data.name, len(rows)) not in {("older", 1), ("newer", 7)}:
        return "neither the older file nor the newer one"
    return "an acknowledged import is gone" if acknowledged and data.name != "newer" else None


def _write(folder: Path, acknowledge: Callable[[str], None]) -> None:
    write_bytes(folder / "model", PAYLOAD)
    acknowledge("written")


def _written(folder: Path, acknowledged: set[str]) -> str | None:
    found = (folder / "model").read_bytes()
    if found not in {PAYLOAD, b"older"} or len(list(folder.glob("[!.]*"))) > 1:  # hidden ones: as above
        return "neither the older file nor the newer one, or something beside"
    return "an acknowledged file is gone" if acknowledged and found != PAYLOAD else None


def _older(folder: Path) -> None:
    (folder / "model").write_bytes(b"older")


SCENES = (
    Scene("making a ledger, and spending", lambda _: None, _spend, _spent),
    Scene("spending", _with_ledger, _spend, _spent),
    Scene("importing", _with_older, _import, _imported, sqlite=False),
    Scene("writing a file", _older, _write, _written, sqlite=False),
)


def failed_once(scene: Scene, folder: Path, disk: Failing) -> str | None:
    """Run a scene on a disk that fails, and again on a well one; return what is wrong, or None."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    _copy(scene, folder)
    done: set[str] = set()
    try:
        with disk.plugged_in(sqlite=scene.sqlite):
            scene.work(folder, done.add)
    except DiscreetError as error:
        if not str(error).isprintable():
            return "an error of more than one line"
    except OSError as error:
        return f"an error that is not typed: {type(error).__name__}"
    wrong = scene.sound(folder, done)
    if wrong is None:
        scene.work(folder, done.add)
        wrong = scene.sound(folder, done)
    return wrong


_prepared: dict[str, dict[str, bytes]] = {}


def _copy(scene: Scene, folder: Path) -> None:
    if scene.name not in _prepared:
        with tempfile.TemporaryDirectory() as first:
            scene.prepare(Path(first))
            _prepared[scene.name] = {path.name: path.read_bytes() for path in Path(first).iterdir()}
    for name, content in _prepared[scene.name].items():
        (folder / name).write_bytes(content)


def campaign(every: int = 1, seed: int = 1) -> tuple[int, Counter[str]]:
    """Let calls fail, one in ``every``; return how many did, and how often what was wrong afterwards."""
    draw, failed, found = random.Random(seed), 0, Counter[str]()
    memory = Path("/dev/shm")  # noqa: S108 - a disk would only make this slower
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None) as scratch:
        folder = Path(scratch).resolve() / "work"
        for scene in SCENES:
            healthy = Failing(0, vfs.OK, lasting=False)
            wrong = failed_once(scene, folder, healthy)
            assert wrong is None, f"{scene.name} on a disk that is well: {wrong}"
            for code in CODES:
                for lasting in (False, True):
                    for at in range(draw.randrange(1, every + 1), healthy.calls + 1, every):
                        disk = Failing(at, code, lasting=lasting)
                        wrong = failed_once(scene, folder, disk)
                        failed += disk.failed
                        if wrong is not None:
                            found[f"{scene.name}: {wrong}"] += 1
    return failed, found


def main() -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--every", type=int, default=1, help="one call in so many")
    parser.add_argument("--json", action="store_true", help="one JSON object at the end")
    asked = parser.parse_args()
    began = time.monotonic()
    failed, found = campaign(asked.every)
    seconds = round(time.monotonic() - began, 1)
    for what, times in found.most_common():
        sys.stderr.write(f"{times:,} times: {what}\n")
    if asked.json:
        print(json.dumps({"failed_calls": failed, "broken": found.total(), "seconds": seconds}))
    else:
        print(f"I/O errors: {failed:,} failed calls, {found.total():,} broken promises")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
