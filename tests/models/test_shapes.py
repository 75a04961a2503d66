"""The arrays of a model file fit one another and its catalogue, or nothing is computed with them."""

import hashlib
import io
import json
from collections.abc import Callable
from typing import Any

import mutations
import numpy as np
import pytest
import targets

from discreet.errors import ArtefactError
from discreet.models.shapes import check_state
from discreet.models.sheet import Sheet
from discreet.models.trained import KINDS, Trained

KEPT = ("subspace", "gram", "ials", "als", "sgd")


def stored(kind: str, target: str = "model") -> tuple[bytes, dict[str, Any]]:
    content = (targets.CORPUS / target / kind).read_bytes()
    with np.load(io.BytesIO(content), allow_pickle=False) as file:
        parts = {name: file[name] for name in file.files}
    return parts.pop("header").tobytes(), parts


@pytest.mark.parametrize("kind", KINDS)
def test_what_was_written_fits(kind: str) -> None:
    header, parts = stored(kind)
    assert Trained.from_bytes(mutations.sealed(header, parts)).model.name == kind
    header, parts = stored(kind, "device")
    assert Sheet.from_bytes(mutations.sealed(header, parts)).rule


@pytest.mark.parametrize("kind", KINDS)
def test_every_array_is_missed(kind: str) -> None:
    state = Trained.from_bytes((targets.CORPUS / "model" / kind).read_bytes()).state
    optional = {"emphasis", "plain", "last", "evidence", "evidence.tags", "kept"}  # without kept others have no place
    for name in state.keys() - optional:
        with pytest.raises(ArtefactError, match=f"array {name} is missing"):
            check_state(kind, {other: array for other, array in state.items() if other != name}, 12)
    with pytest.raises(ArtefactError, match="has no place in it"):
        check_state(kind, state | {"extra": state["counts"]}, 12)


@pytest.mark.parametrize("kind", KEPT)
@pytest.mark.parametrize(
    "change",
    [
        lambda kept: kept - 1,
        lambda kept: kept + 1,
        lambda kept: kept[::-1],
        np.zeros_like,
        lambda kept: kept.astype(np.float64),
        lambda kept: kept[:0],
        lambda kept: kept[None],
    ],
)
def test_positions_are_of_the_catalogue(kind: str, change: Callable[[Any], Any]) -> None:
    """A kernel does not look at bounds: these would be read from memory that is not the model's."""
    header, parts = stored(kind)
    with pytest.raises(ArtefactError, match="array kept holds"):
        Trained.from_bytes(mutations.sealed(header, parts | {"state.kept": change(parts["state.kept"])}))


@pytest.mark.parametrize("kind", KEPT)
def test_a_shorter_matrix(kind: str) -> None:
    header, parts = stored(kind)
    for name, array in parts.items():
        if array.ndim == 2:
            with pytest.raises(ArtefactError, match="of a shape that does not fit"):
                Trained.from_bytes(mutations.sealed(header, parts | {name: array[:-1]}))


@pytest.mark.parametrize("wrong", [np.nan, np.inf, 1e16])
def test_numbers_that_could_not_be_there(wrong: float) -> None:
    header, parts = stored("als")
    counts = parts["state.counts"].copy()
    counts[3] = wrong
    with pytest.raises(ArtefactError, match="array counts holds what is no number"):
        Trained.from_bytes(mutations.sealed(header, parts | {"state.counts": counts}))


@pytest.mark.parametrize(
    ("setting", "value"),
    [("items", 11), ("kept", 12.5), ("kept", "12"), ("people", 10**400), ("reg", None), ("sweeps", 3)],
)
def test_settings_of_another_model(setting: str, value: object) -> None:
    header, parts = stored("als")
    told = json.loads(header)
    told["settings"][setting] = value
    with pytest.raises(ArtefactError, match="cannot be read by this version"):
        Trained.from_bytes(mutations.sealed(json.dumps(told).encode(), parts))


def test_what_a_refusal_quotes_is_one_short_line() -> None:
    header, parts = stored("als")
    for format_ in ("a\nb", "x" * 5_000, 10**400):
        told = json.loads(header) | {"format": format_}
        with pytest.raises(ArtefactError) as refused:
            Trained.from_bytes(mutations.sealed(json.dumps(told).encode(), parts))
        assert str(refused.value).isprintable()
        assert len(str(refused.value)) < 300


def test_numbers_that_no_solver_can_solve(monkeypatch: pytest.MonkeyPatch) -> None:
    trained = Trained.from_bytes((targets.CORPUS / "model" / "als").read_bytes())

    def fail(*_: object) -> None:
        raise np.linalg.LinAlgError("Singular matrix")

    monkeypatch.setattr(type(trained.model), "scores", fail)
    with pytest.raises(ArtefactError, match="cannot be computed with"):
        trained.recommend([101])


def test_the_corpus_is_small() -> None:
    sizes = [path.stat().st_size for path in targets.CORPUS.rglob("*") if path.is_file()]
    assert max(sizes) <= 32_768
    assert len({hashlib.sha256(path.read_bytes()).digest() for path in targets.TARGETS["model"].corpus}) == len(KINDS)
