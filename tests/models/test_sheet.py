"""What a device holds of a model: made of little, read with suspicion, changed by differences."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from discreet.data.catalogue import Catalogue
from discreet.data.interactions import Histories
from discreet.errors import ArtefactError, SettingError
from discreet.evaluation.tradeoff import fit_unbilled
from discreet.inference.on_device import sheet_of
from discreet.models import archive
from discreet.models.recipe import Kind
from discreet.models.sheet import IDS, Sheet, patch, patched, quantised, turned

RULES: dict[Kind, str] = {
    "popularity": "counts",
    "gram": "weights",
    "subspace": "factors",
    "ials": "solved",
    "als": "solved",
    "sgd": "solved",
}


@pytest.fixture(scope="module")
def sheets(histories: Histories) -> dict[str, Sheet]:
    found = {rule: sheet_of(fit_unbilled(histories, 10.0, kind)) for kind, rule in RULES.items()}
    coded = found["factors"]
    source, scale = quantised(np.random.default_rng(1).normal(size=coded.arrays["matrix"].shape))
    without = {name: array for name, array in coded.arrays.items() if name not in {"ratio", "turn"}}
    return found | {"coded": Sheet(coded.catalogue, "coded", "", without | {"source": source, "source_scale": scale})}


def test_each_kind_has_its_rule_and_comes_back_as_it_went(sheets: dict[str, Sheet]) -> None:
    assert set(sheets) == {*RULES.values(), "coded"}
    for rule, sheet in sheets.items():
        content = sheet.to_bytes()
        back = Sheet.from_bytes(content)
        assert back.rule == sheet.rule == rule
        assert back.to_bytes() == content
        assert back.recommend([100, 101], 9).items == sheet.recommend([100, 101], 9).items


def test_matrices_travel_in_one_byte_a_number(sheets: dict[str, Sheet]) -> None:
    for rule, sheet in sheets.items():
        for name in {"matrix", "source"} & sheet.arrays.keys():
            assert sheet.arrays[name].dtype.itemsize == (2 if rule == "solved" else 1)


def test_an_encoder_that_is_no_turned_decoder_travels_too(sheets: dict[str, Sheet]) -> None:
    """And is what the list is made with."""
    coded = sheets["coded"]
    arrays, places = coded.arrays, np.array([3, 5])
    source = (arrays["source"] * arrays["source_scale"][:, None])[places].sum(axis=0)
    wanted = (arrays["matrix"] * arrays["scale"][:, None]) @ source
    assert np.allclose(coded._scores(places), wanted, rtol=1e-4, atol=1e-4)
    random = np.random.default_rng(0)
    assert turned(random.normal(size=(50, 4)), random.normal(size=(50, 4))) is None


@given(seed=st.integers(0, 2**32), rows=st.integers(100, 200), width=st.integers(1, 6))
def test_an_encoder_that_is_one_is_found(seed: int, rows: int, width: int) -> None:
    random = np.random.default_rng(seed)
    decoder, root = random.normal(size=(rows, width)), random.normal(size=(width, width))
    turn = root @ root.T + np.eye(width)  # as a model's is: symmetric, positive
    ratio = random.uniform(0.5, 2.0, rows)
    encoder = ratio[:, None] * (decoder @ turn)
    found = turned(encoder, decoder)
    assert found is not None
    assert np.allclose(found[0][:, None] * (decoder @ found[1]), encoder, atol=2e-3 * np.abs(encoder).max())


@pytest.mark.parametrize("kind", [np.int8, np.int16])
def test_quantised_is_near(kind: Any) -> None:
    matrix = np.random.default_rng(1).standard_normal((40, 9)) * np.geomspace(1e-9, 1e9, 40)[:, None]
    matrix[7] = 0.0
    steps, scale = quantised(matrix, kind)
    assert (np.abs(steps * scale[:, None].astype(float) - matrix) <= 0.51 * scale[:, None]).all()


class TestChanges:
    def test_between_any_two_that_are_alike(self, sheets: dict[str, Sheet]) -> None:
        for sheet in sheets.values():
            counts = sheet.arrays["counts"].copy()
            counts[2] += 1
            newer = replace(sheet, arrays=sheet.arrays | {"counts": counts})
            change = patch(sheet.to_bytes(), newer.to_bytes())
            assert 0 < len(change) < len(newer.to_bytes())
            assert patched(sheet.to_bytes(), change) == newer.to_bytes()

    def test_of_nothing(self, sheets: dict[str, Sheet]) -> None:
        same = sheets["factors"].to_bytes()
        assert patched(same, patch(same, same)) == same

    def test_of_shapes_and_of_the_catalogue(self, sheets: dict[str, Sheet]) -> None:
        old = sheets["factors"]
        narrow = {"matrix": old.arrays["matrix"][:, :2], "turn": old.arrays["turn"][:2, :2]}
        titled = replace(old.catalogue, titles=tuple(f"title {item}" for item in old.catalogue.ids))
        newer = Sheet(titled, "factors", "another", old.arrays | narrow)
        change = patch(old.to_bytes(), newer.to_bytes())
        if change:
            assert patched(old.to_bytes(), change) == newer.to_bytes()

    def test_that_are_no_shorter_are_none(self, sheets: dict[str, Sheet]) -> None:
        small = {"kept": np.arange(3, dtype=np.int32), "counts": np.arange(3, dtype=np.float32)}
        other = Sheet(Catalogue((1, 2, 3)), "counts", "", small)
        assert patch(sheets["counts"].to_bytes(), other.to_bytes()) == b""

    def test_to_another_model_are_refused(self, sheets: dict[str, Sheet]) -> None:
        change = patch(sheets["factors"].to_bytes(), sheets["factors"].to_bytes())
        with pytest.raises(ArtefactError, match="another model"):
            patched(sheets["counts"].to_bytes(), change)

    def test_every_cut_is_refused(self, sheets: dict[str, Sheet]) -> None:
        sheet = sheets["factors"]
        newer = replace(sheet, arrays=sheet.arrays | {"counts": sheet.arrays["counts"] + 1})
        change = patch(sheet.to_bytes(), newer.to_bytes())
        for end in range(0, len(change), 41):
            with pytest.raises(ArtefactError):
                patched(sheet.to_bytes(), change[:end])

    def test_that_unpack_to_more_than_they_should_are_refused(self, sheets: dict[str, Sheet]) -> None:
        import zlib

        old = sheets["counts"].to_bytes()
        header, arrays = archive.unpacked(patch(old, old), "change", 1, "")
        bomb = np.frombuffer(zlib.compress(bytes(1 << 26)), np.uint8)
        with pytest.raises(ArtefactError, match="does not fit"):
            patched(old, archive.packed(header, arrays | {"xor.counts": bomb}))
        with pytest.raises(ArtefactError, match="does not fit"):
            patched(old, archive.packed(header, arrays | {"xor.counts": bomb[:9]}))
        with pytest.raises(ArtefactError, match="does not fit"):
            patched(old, archive.packed(header | {"names": ["nothing"]}, arrays))


@pytest.mark.parametrize(
    "change",
    [
        {"kept": np.array([0, 0], np.int32)},
        {"kept": np.array([0, 10**6], np.int32)},
        {"kept": np.array([-1], np.int32)},
        {"kept": np.array([[0]], np.int32)},
        {"kept": np.array([], np.int32)},
        {"kept": np.array([0, 1])},
        {"counts": np.zeros(3, np.float32)},
        {"counts": np.full(60, np.nan, np.float32)},
        {"turn": np.zeros((1, 1), np.float32)},
        {"ratio": np.full(60, np.inf, np.float16)},
        {"extra": np.zeros(1)},
    ],
    ids=str,
)
def test_whoever_wrote_it_it_is_looked_at(change: dict[str, Any], sheets: dict[str, Sheet]) -> None:
    sheet = sheets["factors"]
    with pytest.raises(ArtefactError, match="do not fit together"):
        Sheet.from_bytes(replace(sheet, arrays=sheet.arrays | change).to_bytes())


def test_rules_that_are_none_or_need_something_else(sheets: dict[str, Sheet]) -> None:
    for rule in ("telepathy", "weights", "solved"):
        with pytest.raises(ArtefactError, match="do not fit together"):
            Sheet.from_bytes(replace(sheets["factors"], rule=rule).to_bytes())
    solved = sheets["solved"]
    for ridge in (0.0, -1.0, np.nan):
        spoilt = replace(solved, arrays=solved.arrays | {"ridge": np.array([ridge])})
        with pytest.raises(ArtefactError, match="do not fit together"):
            Sheet.from_bytes(spoilt.to_bytes())
    matrix = np.zeros((60, 2), np.int8)
    spoilt = replace(sheets["weights"], arrays=sheets["weights"].arrays | {"matrix": matrix})
    with pytest.raises(ArtefactError, match="do not fit together"):
        Sheet.from_bytes(spoilt.to_bytes())


@pytest.mark.parametrize(
    "ids", [np.arange(60.0), np.arange(60), np.arange(60, dtype=np.int32)[None], np.zeros(60, "c8")]
)
def test_ids_are_whole_numbers(ids: Any, sheets: dict[str, Sheet]) -> None:
    header, arrays = archive.unpacked(sheets["counts"].to_bytes(), "model", 1, "")
    assert IDS in arrays
    with pytest.raises(ArtefactError, match="do not fit together"):
        Sheet.from_bytes(archive.packed(header, arrays | {IDS: ids}))


def test_lists_have_a_length(sheets: dict[str, Sheet]) -> None:
    with pytest.raises(SettingError, match="at least 1"):
        sheets["factors"].recommend([], 0)


SMALL = """
import json, sys
for name in ("numba", "scipy", "rfc8785", "cryptography", "nacl", "polars", "pyarrow", "dp_accounting", "rich"):
    sys.modules[name] = None
from discreet.inference.on_device import Device, Reply, version_of
content = sys.stdin.buffer.read()
device = Device(5)
device.ask([100, 101])
made = device.read(Reply(version_of(content), content), [100, 101])
loaded = {name.partition(".")[0] for name, module in sys.modules.items() if module is not None}
print(json.dumps([list(made.items), sorted(loaded - set(sys.stdlib_module_names))]))
"""


def test_a_device_needs_numpy_alone(sheets: dict[str, Sheet]) -> None:
    for sheet in sheets.values():
        done = subprocess.run([sys.executable, "-c", SMALL], check=True, input=sheet.to_bytes(), capture_output=True)
        items, loaded = json.loads(done.stdout)
        assert items == list(sheet.recommend([100, 101], 5).items)
        assert {name for name in loaded if not name.startswith("_")} - {"sitecustomize"} == {"numpy", "discreet"}
