"""Envelope keys: what opens, where, and what does not after a key is gone."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from discreet.errors import DataError, FileNotWritten, KeyMissing, SealBroken, SettingError
from discreet.governance.keys import OVERHEAD, Master, Seal, new_key


@given(st.binary(max_size=300), st.binary(max_size=40), st.data())
def test_opens_in_its_own_place_and_unchanged_alone(content: bytes, context: bytes, data: st.DataObject) -> None:
    seal = Seal(new_key())
    sealed = seal.seal(content, context)
    assert len(sealed) == len(content) + OVERHEAD
    assert seal.open(sealed, context) == content
    assert seal.seal(content, context) != sealed
    at = data.draw(st.integers(0, len(sealed) - 1))
    changed = bytes(byte ^ (place == at) for place, byte in enumerate(sealed))
    for other, where in ((changed, context), (sealed, context + b"x"), (sealed[:5], context), (b"", context)):
        with pytest.raises(SealBroken):
            seal.open(other, where)
    with pytest.raises(SealBroken):
        Seal(new_key()).open(sealed, context)


def test_a_rotated_master_opens_the_old_and_wraps_by_the_new() -> None:
    old = Master([new_key()])
    key = new_key()
    wrapped = old.wrap(key, b"person")
    both = old.rotated()
    assert both.unwrap(wrapped, b"person") == key
    assert both.current != old.current
    anew = both.wrap(key, b"person")
    assert anew.startswith(both.current)
    alone = both.forgotten()
    assert alone.unwrap(anew, b"person") == key
    with pytest.raises(KeyMissing, match="not in the file given"):
        alone.unwrap(wrapped, b"person")
    with pytest.raises(SealBroken):
        both.unwrap(anew, b"somebody else")
    assert key.hex() not in repr(both)
    assert both.keys[0].hex() not in repr(both)


def test_the_file_is_its_owners_alone(tmp_path: Path) -> None:
    path, master = tmp_path / "master.key", Master([new_key()]).rotated()
    master.write(path)
    assert path.stat().st_mode & 0o777 == 0o600
    assert Master.read(path) == master
    path.chmod(0o640)
    with pytest.raises(SettingError, match="mode 0640"):
        Master.read(path)


@pytest.mark.parametrize("content", [b"", b"ab", b"zz" * 32, b"\xff" * 64, b"aa" * 31])
def test_files_that_hold_no_key(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "master.key"
    path.touch(0o600)
    path.write_bytes(content)
    with pytest.raises(DataError, match="64 hex digits"):
        Master.read(path)
    with pytest.raises(DataError, match="cannot be read"):
        Master.read(tmp_path / "other")
    with pytest.raises(FileNotWritten):
        Master([os.urandom(32)]).write(tmp_path / "none" / "master.key")
