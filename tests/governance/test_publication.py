"""Artefacts under their names: once, whole, and only if paid for."""

import errno
import hashlib
import os
from pathlib import Path

import pytest

from discreet.errors import FileNotWritten, LedgerError, LedgerFull, ReleaseConflict, SettingError
from discreet.files import write_bytes
from discreet.governance import publication as module
from discreet.governance.artefacts import candidate
from discreet.governance.ledger import Account, Ledger
from discreet.governance.publication import publish, resume
from discreet.privacy import accounting

DELTA = 1e-6
TRAIN = Account("movies", "train")
TRENDS = Account("movies", "trends")
CAP = accounting.cap(2.0, DELTA)
PERSON_CAP = accounting.cap(1.0, DELTA)
SPEC = hashlib.sha256(b"plan").hexdigest()
OTHER = hashlib.sha256(b"another").hexdigest()


def test_publish_once(ledger: Ledger, tmp_path: Path) -> None:
    ledger.reserve(TRAIN, cost=7, release="r", spec=SPEC)
    with pytest.raises(LedgerError, match="no artefact yet"):
        resume(ledger, "r", tmp_path, "model")
    assert publish(ledger, "r", b"first", tmp_path, "model").read_bytes() == b"first"
    assert publish(ledger, "r", b"second", tmp_path, "model").read_bytes() == b"first"
    assert resume(ledger, "r", tmp_path, "model").read_bytes() == b"first"
    assert not list(tmp_path.glob(".candidate*"))
    assert ledger.verify(artefacts=tmp_path).ok


def test_loser_publishes_the_winner(ledger: Ledger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ledger.reserve(TRAIN, cost=7, release="r", spec=SPEC)
    commit = ledger.commit

    def overtaken(release: str, artefact: str, used: None) -> str:
        monkeypatch.setattr(ledger, "commit", commit)
        publish(ledger, "r", b"winner", tmp_path, "model")
        return commit(release, artefact)

    monkeypatch.setattr(ledger, "commit", overtaken)
    assert publish(ledger, "r", b"loser", tmp_path, "model").read_bytes() == b"winner"
    assert sorted(path.name for path in tmp_path.iterdir() if "ledger" not in path.name) == ["model"]


def test_other_files_are_never_overwritten(ledger: Ledger, tmp_path: Path) -> None:
    ledger.reserve(TRAIN, cost=7, release="r", spec=SPEC)
    (tmp_path / "model").write_bytes(b"a stranger")
    with pytest.raises(LedgerError, match="taken by another file"):
        publish(ledger, "r", b"mine", tmp_path, "model")
    assert ledger.artefact("r") is None
    assert (tmp_path / "model").read_bytes() == b"a stranger"
    for name in ("", ".hidden", "a/b", "..", "a\\b"):
        with pytest.raises(SettingError):
            publish(ledger, "r", b"mine", tmp_path, name)
    with pytest.raises(LedgerError, match=r"cannot be written: No such file.*release r is charged and waits"):
        publish(ledger, "r", b"mine", tmp_path / "missing", "model")
    assert publish(ledger, "r", b"mine", tmp_path, "mine").read_bytes() == b"mine"


def test_lost_or_changed_artefacts_are_noticed(ledger: Ledger, tmp_path: Path) -> None:
    ledger.reserve(TRAIN, cost=7, release="r", spec=SPEC)
    target = publish(ledger, "r", b"mine", tmp_path, "model")
    target.write_bytes(b"yours")
    assert [problem.row for problem in ledger.verify(artefacts=tmp_path).problems] == [3]
    with pytest.raises(LedgerError, match="not the artefact"):
        resume(ledger, "r", tmp_path, "model")
    target.unlink()
    with pytest.raises(LedgerError, match="another name, or is gone"):
        resume(ledger, "r", tmp_path, "model")
    with pytest.raises(LedgerError, match="folder of artefacts"):
        ledger.verify(artefacts=tmp_path / "missing")


def leftovers(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if "candidate" in path.name)


def test_nothing_is_left_of_an_abandoned_release(ledger: Ledger, tmp_path: Path) -> None:
    ledger.reserve(TRAIN, cost=7, release="r", spec=SPEC)
    candidate(tmp_path, "r", OTHER).write_bytes(b"an attempt that was cut off")
    ledger.abandon("r")
    with pytest.raises(ReleaseConflict, match="too late: it is abandoned"):
        publish(ledger, "r", b"mine", tmp_path, "model")
    assert leftovers(tmp_path) == []
    assert not (tmp_path / "model").exists()


def test_an_unknown_release_writes_nothing(ledger: Ledger, tmp_path: Path) -> None:
    with pytest.raises(ReleaseConflict, match="never reserved"):
        publish(ledger, "r", b"x", tmp_path, "model")
    with pytest.raises(ReleaseConflict, match="never reserved"):
        resume(ledger, "r", tmp_path, "model")
    assert not [path for path in tmp_path.iterdir() if not path.name.startswith("ledger.db")]


def test_halves_of_candidates_are_swept(ledger: Ledger, tmp_path: Path) -> None:
    for release in ("r", "s"):
        ledger.reserve(TRAIN, cost=7, release=release, spec=SPEC)
        place = candidate(tmp_path, release, OTHER)
        place.write_bytes(b"lost")
        place.with_name(f".{place.name}.abcd").write_bytes(b"ha")
    publish(ledger, "r", b"mine", tmp_path, "model")
    assert len(leftovers(tmp_path)) == 2  # those of s, which may still be under way
    publish(ledger, "s", b"mine", tmp_path, "other")
    assert leftovers(tmp_path) == []


def test_a_candidate_swept_up_while_it_is_written(
    ledger: Ledger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger.reserve(TRAIN, cost=7, release="r", spec=SPEC)
    write = write_bytes

    def overtaken(place: Path, payload: bytes) -> None:
        monkeypatch.setattr(module, "write_bytes", write)
        publish(ledger, "r", b"winner", tmp_path, "model")
        raise FileNotWritten(f"{place}: cannot be written: No such file or directory; nothing was changed")

    monkeypatch.setattr(module, "write_bytes", overtaken)
    assert publish(ledger, "r", b"loser", tmp_path, "model").read_bytes() == b"winner"
    assert leftovers(tmp_path) == []


def test_two_releases_of_one_content(ledger: Ledger, tmp_path: Path) -> None:
    for release in ("r", "s"):
        ledger.reserve(TRAIN, cost=7, release=release, spec=SPEC)
        publish(ledger, release, b"same", tmp_path, f"model-{release}")
    assert (tmp_path / "model-r").read_bytes() == (tmp_path / "model-s").read_bytes() == b"same"
    assert ledger.artefact("r") == ledger.artefact("s")
    assert ledger.verify(artefacts=tmp_path).ok


def test_one_release_has_one_name(ledger: Ledger, tmp_path: Path) -> None:
    ledger.reserve(TRAIN, cost=7, release="r", spec=SPEC)
    publish(ledger, "r", b"mine", tmp_path, "model")
    with pytest.raises(LedgerError, match=f"another name, or is gone; .* SHA-256 is {ledger.artefact('r')}"):
        publish(ledger, "r", b"mine", tmp_path, "second name")
    assert not (tmp_path / "second name").exists()


def test_the_very_file_may_stand_there_already(ledger: Ledger, tmp_path: Path) -> None:
    ledger.reserve(TRAIN, cost=7, release="r", spec=SPEC)
    (tmp_path / "model").write_bytes(b"mine")
    assert publish(ledger, "r", b"mine", tmp_path, "model").read_bytes() == b"mine"
    assert ledger.artefact("r") == hashlib.sha256(b"mine").hexdigest()


@pytest.mark.parametrize("kind", ["folder", "link to nowhere"])
def test_other_things_in_the_place(ledger: Ledger, tmp_path: Path, kind: str) -> None:
    ledger.reserve(TRAIN, cost=7, release="r", spec=SPEC)
    place = tmp_path / "model"
    if kind == "folder":
        place.mkdir()
    else:
        place.symlink_to(tmp_path / "nowhere")
    with pytest.raises(LedgerError):
        publish(ledger, "r", b"mine", tmp_path, "model")
    assert not (tmp_path / "nowhere").exists()
    assert publish(ledger, "r", b"mine", tmp_path, "free").read_bytes() == b"mine"


def test_published_files_are_their_owners_alone(ledger: Ledger, tmp_path: Path) -> None:
    ledger.reserve(TRAIN, cost=7, release="r", spec=SPEC)
    assert publish(ledger, "r", b"mine", tmp_path, "model").stat().st_mode & 0o777 == 0o600


def test_a_disk_that_fails_after_the_commit(ledger: Ledger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise OSError(5, "Input/output error")

    ledger.reserve(TRAIN, cost=7, release="r", spec=SPEC)
    with monkeypatch.context() as failing:
        failing.setattr(os, "link", broken)
        with pytest.raises(LedgerError, match=r"cannot be written: .*release r is charged and waits"):
            publish(ledger, "r", b"mine", tmp_path, "model")
    assert ledger.artefact("r") is not None
    assert publish(ledger, "r", b"computed anew", tmp_path, "model").read_bytes() == b"mine"


def test_a_busy_ledger_at_the_commit(ledger: Ledger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def busy(*_: object) -> str:
        raise LedgerError("ledger.db was kept busy")

    ledger.reserve(TRAIN, cost=7, release="r", spec=SPEC)
    with monkeypatch.context() as waiting:
        waiting.setattr(ledger, "commit", busy)
        with pytest.raises(LedgerError, match="kept busy"):
            publish(ledger, "r", b"first", tmp_path, "model")
    assert not (tmp_path / "model").exists()
    assert publish(ledger, "r", b"second", tmp_path, "model").read_bytes() == b"second"
    assert leftovers(tmp_path) == []


@pytest.mark.parametrize("at", ["file", "commit", "link"])
def test_a_full_disk_is_one_clear_sentence(
    ledger: Ledger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: str
) -> None:
    def no_space(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    def no_row(*_: object) -> None:
        raise LedgerFull("could not be written")

    ledger.reserve(TRAIN, cost=7, release="r", spec=SPEC)
    with monkeypatch.context() as failing:
        match at:
            case "file":
                failing.setattr(os, "fsync", no_space)
            case "commit":
                failing.setattr(ledger, "commit", no_row)
            case _:
                failing.setattr(os, "link", no_space)
        with pytest.raises(LedgerError) as refused:
            publish(ledger, "r", b"mine", tmp_path, "model")
    full = ledger.place if at == "commit" else tmp_path
    assert str(refused.value) == (
        f"the disk of {full} is full; release r is charged and waits: free space, then run the same command "
        "with --release r"
    )
    assert publish(ledger, "r", b"mine", tmp_path, "model").exists()
