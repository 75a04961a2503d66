"""A model file is what was written, or it is refused: nothing in between, whatever happened to its bytes."""

import hashlib
import io
import math
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import rfc8785
from hypothesis import given
from hypothesis import strategies as st

from discreet.data.interactions import Histories
from discreet.errors import ArtefactError
from discreet.evaluation.tradeoff import fit_unbilled
from discreet.models.card import card, card_markdown
from discreet.models.recipe import Kind
from discreet.models.subspace import TAGS
from discreet.models.trained import Trained
from discreet.privacy.adjacency import Adjacency

KINDS: tuple[Kind, ...] = ("popularity", "subspace", "gram", "ials", "als", "als-adaptive", "sgd")


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


def test_keeps_what_the_catalogue_says_of_items(histories: Histories) -> None:
    items = len(histories.catalogue)
    described = replace(histories.catalogue, categories=("",) * (items - 1) + ("health",), tags=(("x", "y"),) * items)
    trained = fit_unbilled(replace(histories, catalogue=described), 6.0, "subspace")
    again = Trained.from_bytes(trained.to_bytes())
    assert again.catalogue == described
    assert again.to_bytes() == trained.to_bytes()
    assert TAGS in again.state


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


def sealed(content: bytes, was: bytes, wanted: bytes) -> bytes:
    """Return the file with another header and a seal that fits it: what somebody who means harm would write."""
    with np.load(io.BytesIO(content)) as archive:
        parts = {name: archive[name] for name in archive.files}
    assert was in parts["header"].tobytes()
    header = parts["header"].tobytes().replace(was, wanted)
    seal = np.frombuffer(hashlib.sha256(header).digest(), np.uint8)
    file = io.BytesIO()
    np.savez(file, allow_pickle=False, **parts | {"header": np.frombuffer(header, np.uint8), "seal": seal})
    return file.getvalue()


FROM, INTO = (each.value.encode() for each in (Adjacency.ADD_OR_REMOVE_PERSON, Adjacency.REPLACE_PERSON))


def test_a_promise_that_its_plan_does_not_give(content: bytes) -> None:
    plan, promise = Trained.from_bytes(content).plan, Trained.from_bytes(content).guarantee
    units, delta = b'"units":%d' % plan.cost, b'"delta":%s' % rfc8785.dumps(plan.delta)
    assert Trained.from_bytes(sealed(content, units, units)).guarantee == promise
    for was, wanted in (
        (units, b'"units":1'),
        (units, b'"units":null'),
        (b'"catalogue_declared":false,' + delta, b'"catalogue_declared":false,"delta":1e-9'),
        (b'"guarantee":{"adjacency":"%s' % FROM, b'"guarantee":{"adjacency":"%s' % INTO),
    ):
        with pytest.raises(ArtefactError, match="not that of its plan"):
            Trained.from_bytes(sealed(content, was, wanted))


@pytest.mark.parametrize("how", ["packed", "named", "many", "lying"])
def test_archives_that_would_unpack_to_more_than_they_are(how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED if how == "packed" else zipfile.ZIP_STORED) as archive:
        if how == "packed":
            with archive.open("header.npy", "w", force_zip64=True) as member:
                for _ in range(200):
                    member.write(bytes(1 << 20))
        elif how == "many":
            for number in range(65):
                archive.writestr(f"{number}.npy", b"")
        else:
            archive.writestr("header.txt" if how == "named" else "header.npy", bytes(100))
    bomb = file.getvalue()
    if how == "lying":
        at = bomb.index(b"PK\x01\x02") + 24
        bomb = bomb[:at] + (1 << 30).to_bytes(4, "little") + bomb[at + 4 :]
    assert len(bomb) < 1 << 20
    monkeypatch.setattr(np, "load", None)  # to be called would be a TypeError, and reported as one
    with pytest.raises(ArtefactError, match="packed or strange"):
        Trained.from_bytes(bomb)


def test_not_billed_is_said(histories: Histories, content: bytes) -> None:
    trained = Trained.from_bytes(content)
    assert "NOT BILLED" in repr(trained)
    assert card(trained)["billing"] == "not billed: made outside a ledger"
    assert "# Model (not billed: made outside a ledger)" in card_markdown(card(trained))
    billed = trained.billed_as("spring")
    assert "BILLED" not in repr(billed)
    assert card(billed)["billing"] == "billed"
    assert card_markdown(card(billed)).startswith("# Model spring\n")
    assert "BILLED" not in repr(fit_unbilled(histories, math.inf))
    assert card(fit_unbilled(histories, math.inf))["billing"] == "nothing to bill"
