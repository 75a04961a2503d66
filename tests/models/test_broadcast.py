"""What devices are told: all of it data, read with suspicion, and computed with the lines that train in one place."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from federations import ITEMS, LISTED, PEOPLE, Federation
from hypothesis import given, settings
from hypothesis import strategies as st

from discreet.errors import BoundExceeded, DiscreetError, ProtocolError, SettingError, TermsRefused
from discreet.evaluation.audit.people import planned
from discreet.models.base import rows
from discreet.models.broadcast import MOST, Broadcast, Known
from discreet.models.queries import RANKERS
from discreet.models.recipe import Kind

DIGEST = hashlib.sha256(LISTED).digest()


@pytest.fixture(scope="module", params=list(RANKERS))
def federation(request: pytest.FixtureRequest) -> Federation:
    return Federation.of(request.param)


def read(content: bytes) -> Known:
    return Broadcast.from_bytes(content, MOST).read(DIGEST, ITEMS)


class TestReading:
    def test_every_round_of_every_kind_comes_back_and_its_rows_are_those_of_central_training(
        self, federation: Federation
    ) -> None:
        for number, bound in enumerate(federation.plan.bounds):
            known = read(federation.broadcast(number))
            assert (known.model, known.plan, known.number, known.people) == (
                *(federation.model, federation.plan),
                *(number, PEOPLE),
            )
            mine = [known.row(federation.people[[seat]].indices, bound) for seat in range(PEOPLE)]
            assert (np.stack(mine) == rows(federation.model, federation.people, federation.states[number], bound)).all()
            assert (np.sum(mine, axis=0) == federation.central(number)).all()

    def test_the_released_model_makes_the_lists_of_the_trained_one(self, federation: Federation) -> None:
        stored = federation.states[-1] | {"round": federation.states[-1]["round"].reshape(1)}  # as a file has it
        federation = replace(federation, states=(*federation.states[:-1], stored))
        known = read(federation.broadcast(federation.plan.rounds))
        wanted = federation.model.scores(federation.people, federation.states[-1])
        made = np.stack([known.scores(federation.people[[seat]].indices) for seat in range(PEOPLE)])
        assert np.allclose(made, wanted, rtol=1e-5, atol=1e-5)

    def test_passes_are_no_larger_than_kept_times_rank(self) -> None:
        """What is sent in a pass: one value for each kept item and direction, and no more."""
        subspace = Federation.of("subspace")
        for state, number in zip(subspace.states[1:-1], range(1, subspace.plan.rounds), strict=True):
            row = read(subspace.broadcast(number)).row(np.array([1, 2]), subspace.plan.bounds[number])
            assert row.size == len(state["kept"]) * state["basis"].shape[1]

    def test_sums_that_devices_do_not_compute(self) -> None:
        model, plan = planned("als", PEOPLE, ITEMS, 8.0, 1e-5)
        with pytest.raises(SettingError, match="popularity, subspace, gram, lengths, evaluation; not of als"):
            Broadcast.of(model, plan, 0, PEOPLE, DIGEST, model.start())

    def test_another_catalogue(self, federation: Federation) -> None:
        with pytest.raises(TermsRefused, match="another catalogue"):
            Broadcast.from_bytes(federation.broadcast()).read(bytes(32), ITEMS)
        with pytest.raises(ProtocolError):
            Broadcast.from_bytes(federation.broadcast()).read(DIGEST, ITEMS + 1)


class TestLies:
    @pytest.mark.parametrize(
        ("field", "value"),
        [
            ("kind", "als"),
            ("kind", ["subspace"]),
            ("number", -1),
            ("number", 99),
            ("number", True),
            ("people", 0),
            ("plan", {}),
            ("settings", {"items": ITEMS}),
            ("arrays", {}),
            ("arrays", {"basis": ["|O", [1]]}),
        ],
    )
    def test_a_header_that_cannot_be_right(self, field: str, value: object) -> None:
        said = Broadcast.from_bytes(Federation.of().broadcast(1), MOST)
        header = json.loads(said.header) | {field: value}
        with pytest.raises(ProtocolError, match="cannot be read here"):
            replace(said, header=json.dumps(header).encode()).read(DIGEST, ITEMS)

    def test_what_would_tell_histories_apart_by_a_refusal(self) -> None:
        """Rows that are not scaled, and integers that wrap, are longer for some histories than for others."""
        gram = Federation.of("gram")
        with pytest.raises(ProtocolError):
            replace(gram, model=replace(gram.model, private=False)).read_back(1)
        subspace = Federation.of("subspace")
        for much in (1 << 20, 1 << 21):
            v = np.full(len(subspace.states[1]["kept"]), much)
            state = subspace.states[1] | {"direction": v}
            with pytest.raises(ProtocolError):
                replace(subspace, states=(state, state)).read_back(1)

    @pytest.mark.parametrize(
        ("name", "array"),
        [
            ("basis", np.zeros((4, 2_000))),
            ("round", np.array(2)),
            ("kept", np.array([3, 1], np.int64)),
            ("kept", np.array([0, ITEMS], np.int64)),
            ("basis", np.zeros((1, 1))),
            ("weights", np.array([np.nan])),
            ("direction", np.array([1 << 40])),
        ],
    )
    def test_arrays_that_would_lead_a_kernel_astray(self, name: str, array: np.ndarray) -> None:
        federation = Federation.of()
        state = federation.states[1] | {name: array}
        said = Broadcast.of(federation.model, federation.plan, 1, PEOPLE, DIGEST, state)
        with pytest.raises(ProtocolError):
            said.read(DIGEST, ITEMS)

    def test_a_row_is_measured_by_its_own_device(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Whatever was told, and whatever a kernel says of a row's length."""
        known = read(Federation.of("popularity").broadcast())
        real = type(known.model).summed
        monkeypatch.setattr(
            type(known.model), "summed", lambda model, people, state, bound: real(model, people, state, 2 * bound)
        )
        with pytest.raises(BoundExceeded):
            known.row(np.array([1, 2, 3]), 4_000)
        for much in (1 << 31, 1 << 62):  # squares beyond int64
            monkeypatch.setattr(
                type(known.model),
                "summed",
                lambda model, people, state, bound, much=much: replace(
                    real(model, people, state, bound), total=np.full(ITEMS, much)
                ),
            )
            with pytest.raises(BoundExceeded):
                known.row(np.array([1, 2, 3]), 4_000)

    @settings(max_examples=300, deadline=None)
    @given(place=st.integers(0, 5_000), byte=st.integers(0, 255), cut=st.booleans())
    def test_a_changed_byte_is_refused_or_read_never_worse(self, place: int, byte: int, cut: bool) -> None:
        content = bytearray(FIXED)
        place %= len(content)
        content[place] = byte
        told = bytes(content[:place]) if cut else bytes(content)
        try:
            read(told).row(np.array([0, 5, 9]), 3_000)
        except DiscreetError:
            pass
        except RuntimeWarning:  # NumPy's, where numbers are beyond all bounds: the row is refused after it
            pass


FIXED = Federation.of().broadcast(1)

ROWS = """
import hashlib, json, sys
from pathlib import Path
for name in ("numba", "scipy", "rfc8785", "dp_accounting", "polars", "pyarrow", "matplotlib", "rich", "typer"):
    sys.modules[name] = None
import numpy as np
from discreet.models.broadcast import MOST, Broadcast
folder = Path(sys.argv[1])
told = json.loads((folder / "people.json").read_text())
for number, bound in enumerate(told["bounds"]):
    broadcast = Broadcast.from_bytes((folder / f"{number}").read_bytes(), MOST)
    known = broadcast.read(bytes.fromhex(told["digest"]), told["items"])
    rows = np.stack([known.row(np.array(person), bound) for person in told["people"]])
    np.save(folder / f"{number}.npy", rows)
"""


@pytest.mark.parametrize("kind", list(RANKERS))
def test_interpreted_with_numpy_alone_every_row_is_bit_for_bit_the_same(kind: Kind, tmp_path: Path) -> None:
    """A device has no compiler; its rows are those that compiled kernels make on a server."""
    federation = Federation.of(kind)
    bounds = [64 * bound for bound in federation.plan.bounds]  # fine grids show the last bits of floats
    told = {
        "bounds": bounds,
        "items": ITEMS,
        "digest": DIGEST.hex(),
        "people": [federation.people[[seat]].indices.tolist() for seat in range(PEOPLE)],
    }
    (tmp_path / "people.json").write_text(json.dumps(told))
    for number in range(len(bounds)):
        (tmp_path / str(number)).write_bytes(federation.broadcast(number))
    subprocess.run([sys.executable, "-c", ROWS, tmp_path], check=True, env=os.environ | {"NUMBA_DISABLE_JIT": "1"})
    for number, bound in enumerate(bounds):
        wanted = rows(federation.model, federation.people, federation.states[number], bound)
        assert (np.load(tmp_path / f"{number}.npy") == wanted).all()
