"""A disk that is full or fails at any call: a typed error, nothing half done, what was acknowledged still there."""

from pathlib import Path
from unittest import mock

import io_errors
import power_cuts
import pytest
import vfs

from discreet.errors import FileNotWritten, LedgerError
from discreet.files import write_bytes
from discreet.governance.ledger import Ledger
from discreet.governance.sqlite import SQLite

try:
    vfs.check_available()
except vfs.Unavailable as reason:
    pytest.skip(str(reason), allow_module_level=True)


@pytest.mark.slow
def test_one_call_in_twenty() -> None:
    failed, broken = io_errors.campaign(every=20)
    assert failed > 80
    assert not broken


def test_a_ledger_is_never_made_without_its_last_rows(tmp_path: Path) -> None:
    """Closing moves what was written into the file, and says nothing if that fails: nothing may rest on it."""
    with mock.patch.object(SQLite, "settle", return_value=None):
        made = [_made(tmp_path / str(at), at) for at in range(200, 240)]
    assert "broken" in made
    made = [_made(tmp_path / f"again {at}", at) for at in (*range(90, 120), *range(200, 240))]
    assert "broken" not in made
    assert {"refused", "whole"} == set(made)


@pytest.mark.parametrize("code", io_errors.CODES)
def test_the_same_connection_goes_on_after_an_error(tmp_path: Path, code: int) -> None:
    refused = 0
    for at in range(1, 12):
        folder = (tmp_path / f"{code}-{at}").resolve()
        folder.mkdir()
        for name, content in power_cuts.template().items():
            (folder / name).write_bytes(content)
        disk = io_errors.Failing(0, code, lasting=False)
        with disk.plugged_in(sqlite=True), Ledger(folder / "ledger.db") as ledger:
            disk.fail_at(disk.calls + at)
            try:
                ledger.reserve(power_cuts.FILMS, cost=7, release="r", spec=power_cuts.SPEC)
                assert ledger.account(power_cuts.FILMS).spent == 7
            except LedgerError:
                refused += 1
                assert ledger.account(power_cuts.FILMS).spent == 0
            ledger.reserve(power_cuts.FILMS, cost=7, release="r", spec=power_cuts.SPEC)
            assert ledger.account(power_cuts.FILMS).spent == 7
            assert ledger.verify().ok
    assert refused


def _made(folder: Path, at: int) -> str:
    folder.mkdir()
    path = folder.resolve() / "ledger.db"
    disk = io_errors.Failing(at, vfs.FULL, lasting=False)
    try:
        with disk.plugged_in(sqlite=True), Ledger(path):
            pass
    except LedgerError:
        pass
    if not path.exists():
        return "refused"
    try:
        with Ledger(path, create=False) as ledger:
            return "whole" if ledger.verify().ok else "broken"
    except LedgerError:
        return "broken"


def test_says_when_a_file_is_there_but_may_not_stay(tmp_path: Path) -> None:
    with (
        mock.patch("discreet.files.sync_folder", side_effect=OSError(5, "Input/output error")),
        pytest.raises(FileNotWritten, match="was written, but may be gone after a power cut: Input/output error"),
    ):
        write_bytes(tmp_path / "model", b"newer")
    assert (tmp_path / "model").read_bytes() == b"newer"
