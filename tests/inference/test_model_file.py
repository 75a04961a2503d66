"""A model file is what was written, or it is refused: nothing in between, whatever happened to its bytes."""

import io
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from discreet.data.interactions import Histories
from discreet.errors import ArtefactError
from discreet.evaluation.tradeoff import fit_unbilled
from discreet.models.recipe import Kind
from discreet.models.trained import Trained

KINDS: tuple[Kind, ...] = ("popularity", "subspace", "gram", "als")


@pytest.fixture(scope="module")
def content(histories: Histories) -> bytes:
    return fit_unbilled(histories, 4.0, "subspace").to_bytes()


def assert_refused_or_same(content: bytes, damaged: bytes) -> None:
    try:
        read = Trained.from_bytes(damaged)
    except ArtefactError:
        return
    assert read.to_bytes() == content


@pytest.mark.parametrize("kind", KINDS)
def test_comes_back_as_it_went(kind: Kind, histories: Histories) -> None:
    trained = fit_unbilled(histories, 4.0, kind)
    again = Trained.from_bytes(trained.to_bytes())
    assert again.to_bytes() == trained.to_bytes()
    assert again.guarantee == trained.guarantee
    assert again.recommend([100, 101]).items == trained.recommend([100, 101]).items
    assert repr(again) == repr(trained)


def test_every_flip_in_the_zip_structures(content: bytes) -> None:
    """The bytes that no checksum covers: each local header, and the directory at the end."""
    directory = content.index(b"PK\x01\x02")
    for at in [*range(120), *range(directory, len(content))]:
        for bit in (0, 3, 6):
            damaged = bytearray(content)
            damaged[at] ^= 1 << bit
            assert_refused_or_same(content, bytes(damaged))


@given(st.data())
def test_any_flip(content: bytes, data: st.DataObject) -> None:
    at, change = data.draw(st.integers(0, len(content) - 1)), data.draw(st.integers(1, 255))
    assert_refused_or_same(content, content[:at] + bytes([content[at] ^ change]) + content[at + 1 :])


@given(st.data())
def test_any_truncation(content: bytes, data: st.DataObject) -> None:
    at = data.draw(st.integers(0, len(content) - 1))
    assert_refused_or_same(content, content[:at])
    assert_refused_or_same(content, content[at + 1 :])


@given(st.binary(max_size=200))
def test_anything_else(content: bytes) -> None:
    with pytest.raises(ArtefactError):
        Trained.from_bytes(content)


@pytest.mark.parametrize("seed", range(4))
def test_two_hundred_flips(content: bytes, seed: int) -> None:
    rng = np.random.default_rng(seed)
    for at, bit in zip(rng.integers(0, len(content), 50), rng.integers(0, 8, 50), strict=True):
        damaged = bytearray(content)
        damaged[at] ^= 1 << bit
        assert_refused_or_same(content, bytes(damaged))


def test_says_which_file(tmp_path: Path, content: bytes) -> None:
    for name, bytes_ in {"missing": None, "empty": b"", "half": content[: len(content) // 2]}.items():
        if bytes_ is not None:
            (tmp_path / name).write_bytes(bytes_)
        with pytest.raises(ArtefactError, match=name):
            Trained.load(tmp_path / name)
    with pytest.raises(ArtefactError, match="cannot read"):
        Trained.load(tmp_path)


def test_refuses_pickles(tmp_path: Path) -> None:
    np.savez(tmp_path / "evil.npz", header=np.array([{"a": 1}], dtype=object), seal=np.zeros(32))
    with pytest.raises(ArtefactError):
        Trained.load(tmp_path / "evil.npz")


def test_another_promise_cannot_be_put_into_a_good_archive(tmp_path: Path, content: bytes) -> None:
    with np.load(io.BytesIO(content)) as archive:
        parts = {name: archive[name] for name in archive.files}
    for was, wanted in ((b'"secure":true', b'"secure":null'), (b'"people":300', b'"people":999')):
        header = parts["header"].tobytes()
        assert was in header
        changed = parts | {"header": np.frombuffer(header.replace(was, wanted), np.uint8)}
        np.savez(tmp_path / "changed.npz", allow_pickle=False, **changed)
        with pytest.raises(ArtefactError, match="changed after it was written"):
            Trained.load(tmp_path / "changed.npz")
    np.savez(tmp_path / "changed.npz", allow_pickle=False, **parts | {"state.counts": parts["state.counts"] + 1})
    with pytest.raises(ArtefactError, match="changed after it was written"):
        Trained.load(tmp_path / "changed.npz")
