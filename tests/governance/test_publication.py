"""Artefacts under their names: once, whole, and only if paid for."""

import hashlib
from pathlib import Path

import pytest

from discreet.errors import (
    LedgerError,
    SettingError,
)
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

    def overtaken(release: str, artefact: str) -> str:
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
    with pytest.raises(LedgerError, match=r"cannot be written: No such file.*release r stays reserved"):
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
