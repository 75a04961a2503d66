"""What was acknowledged survives a power cut; and where it would not, this would have told."""

import os
import random
from collections.abc import Callable
from pathlib import Path
from unittest import mock

import power_cuts
import pytest
import vfs
from power import Disk, Inode

from discreet import files
from discreet.errors import FileNotWritten
from discreet.governance import publication

try:
    vfs.check_available()
except vfs.Unavailable as reason:
    pytest.skip(str(reason), allow_module_level=True)


@pytest.mark.slow
def test_five_hundred_cuts() -> None:
    acknowledged, broken = power_cuts.campaign(500, seed=1)
    assert acknowledged > 500
    assert not broken


@pytest.mark.parametrize("level", ["NORMAL", "OFF"])
def test_a_ledger_that_does_not_wait_for_the_disk_loses_what_it_acknowledged(level: str) -> None:
    _, broken = power_cuts.campaign(40, seed=1, level=level)
    assert broken["an acknowledged release is gone"]


@pytest.mark.parametrize(
    ("module", "step", "instead", "found"),
    [
        (os, "fsync", lambda _: None, "is gone"),
        (publication, "sync_folder", lambda _: None, "an acknowledged publication is gone"),
    ],
)
def test_files_that_are_not_waited_for_are_lost(
    module: object, step: str, instead: Callable[[object], None], found: str
) -> None:
    def patched(disk: Disk, real: Callable[..., None]) -> Callable[..., None]:
        return instead

    with mock.patch.object(Disk, "_fsync", patched) if step == "fsync" else mock.patch.object(module, step, instead):
        _, broken = power_cuts.campaign(150, seed=1)
    assert any(found in what for what in broken), broken


def test_unsynced_writes_are_torn_at_sectors_and_synced_ones_stay() -> None:
    seen = set()
    for seed in range(200):
        inode = Inode(bytearray(b"a" * 1_024))
        inode.pending.append((256, b"b" * 1_024))
        left = inode.left(random.Random(seed))
        pieces = (left[256:512], left[512:1_024], left[1_024:])
        assert left[:256] == b"a" * 256
        assert all(set(piece) in ({97}, {98}, {0}, set()) for piece in pieces)
        seen.add(tuple(98 in piece for piece in pieces))
        inode.sync()
        assert inode.left(random.Random(seed)) == b"a" * 256 + b"b" * 1_024
    assert len(seen) == 8


def test_a_file_is_the_older_or_the_newer_one_wherever_the_cut_falls(tmp_path: Path) -> None:
    found = [
        _left_by_a_cut(tmp_path.resolve() / f"{cut_at}-{seed}", cut_at, seed) for cut_at in CUTS for seed in range(12)
    ]
    assert set(found) == {b"older", b"newer"}
    assert set(found[:36]) == {b"older"}  # before its name was changed
    assert len(set(found[36:])) == 2  # after that and before its folder was synced


CUTS = (1, 2, 3, 4, 5)
"""Opening, syncing and renaming it, looking for what is left of it, syncing its folder."""


def _left_by_a_cut(folder: Path, cut_at: int, seed: int) -> bytes:
    folder.mkdir()
    (folder / "model").write_bytes(b"older")
    disk = Disk(folder, random.Random(seed), cut_at)
    with disk.plugged_in(), pytest.raises(FileNotWritten):
        files.write_bytes(folder / "model", b"newer")
    assert disk.after is not None
    return disk.after["model"]


def test_what_was_acknowledged_is_the_newer_one(tmp_path: Path) -> None:
    for seed in range(20):
        folder = tmp_path.resolve() / str(seed)
        folder.mkdir()
        (folder / "model").write_bytes(b"older")
        disk = Disk(folder, random.Random(seed))
        with disk.plugged_in():
            files.write_bytes(folder / "model", b"newer")
        disk.cut()
        assert disk.after is not None
        assert disk.after["model"] == b"newer"


def test_a_template_needs_nothing_beside_it() -> None:
    assert set(power_cuts.template()) == {"ledger.db"}
