"""Lists by three servers that see nothing: as the plain ones, by servers that compute in the clear."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rankings import InTheClear

from discreet.data.interactions import Histories
from discreet.errors import ProtocolError, SettingError
from discreet.evaluation.tradeoff import fit_unbilled
from discreet.inference import mpc, shared
from discreet.inference.mpc import Device, Mpc, Owner, stepped
from discreet.inference.outline import Outline
from discreet.inference.plain import Plain
from discreet.models.recipe import Kind
from discreet.models.trained import Trained
from discreet.protocols.ranking import CELL_LIMIT, LARGEST, dealt, reach
from discreet.testing import check_recommender


@pytest.fixture(scope="module")
def trained(histories: Histories) -> Trained:
    return fit_unbilled(histories, 10.0, "subspace")


class TestMpc:
    @pytest.mark.parametrize(("kind", "epsilon"), [("subspace", 10.0), ("subspace", math.inf), ("gram", 10.0)])
    @pytest.mark.parametrize("n", [1, 20, 70])
    def test_keeps_the_contract(self, n: int, kind: Kind, epsilon: float, histories: Histories) -> None:
        """Also if there are more places in the list than items, which then come in the order of everybody's taste."""
        model = fit_unbilled(histories, epsilon, kind)
        asked: list[list[str | int]] = [
            [histories.catalogue.ids[at] for at in histories.matrix[[row]].indices] for row in range(30)
        ]
        asked += [asked[0][::-1], [], ["nothing"], list(histories.catalogue.ids), list(histories.catalogue.ids[:55])]
        check_recommender(Mpc.here(model, InTheClear(), n), Plain(model, n), asked)

    @pytest.mark.parametrize("kind", ["popularity", "ials", "als"])
    def test_other_kinds_are_refused(self, kind: Kind, histories: Histories) -> None:
        with pytest.raises(SettingError, match=f"this {kind} model are no matrix times a history"):
            Owner(fit_unbilled(histories, 4.0, kind))

    def test_a_matrix_that_is_too_large_is_refused(self, trained: Trained, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(mpc, "MOST_CELLS", 10)
        with pytest.raises(SettingError, match="too large to share; at most 10"):
            Owner(trained)

    def test_what_servers_are_told_has_one_length(self, trained: Trained) -> None:
        device = Device(Owner(trained).outline)
        histories: list[list[str | int]] = [[], ["nothing"], [100], list(range(100, 130))]
        assert len({tuple(map(len, device.ask(history)[0])) for history in histories}) == 1

    def test_a_device_lists_from_bytes(self, trained: Trained) -> None:
        made = Mpc.here(trained, InTheClear())
        afar = Mpc(Device(Outline.from_bytes(made.device.outline.to_bytes())), made.servers)
        request, kept = afar.ask([100, 101])
        assert afar.read(afar.answer(request), kept).items == trained.recommend([100, 101]).items

    def test_what_a_device_holds_tells_nothing_of_the_matrices(self, trained: Trained) -> None:
        """But who is popular, and which items have scores: the same for two models that differ in the rest."""
        turned = replace(trained, state=dict(trained.state) | {"decoder": trained.state["decoder"][::-1].copy()})
        one, two = (Owner(each).outline for each in (trained, turned))
        assert replace(one, terms={}).to_bytes() == replace(two, terms={}).to_bytes()
        assert one.source is None
        assert len(one.scales) == 0

    def test_scores_are_ranks(self, trained: Trained) -> None:
        made = Mpc.here(trained, InTheClear(), 5)
        request, kept = made.ask([100])
        assert made.read(made.answer(request), kept).scores == (20.0, 19.0, 18.0, 17.0, 16.0)

    def test_outlines_of_another_way_or_damaged(self, trained: Trained) -> None:
        outline = Owner(trained).outline
        with pytest.raises(ProtocolError, match="that of `mpc`"):
            Device(shared.Server(trained).outline)
        with pytest.raises(ProtocolError, match="do not fit together"):
            Device(replace(outline, kept=outline.kept[1:]))
        with pytest.raises(ProtocolError, match="another way"):
            shared.Device(outline)

    def test_a_list_is_no_longer_than_the_servers_make_it(self, trained: Trained) -> None:
        outline = Owner(trained, 7).outline
        Device(outline, 7)
        with pytest.raises(SettingError, match="list 7 items at most, not 8"):
            Device(outline, 8)

    @pytest.mark.parametrize("listed", [0, 101])
    def test_owners_list_one_to_a_hundred(self, listed: int, trained: Trained) -> None:
        large = replace(trained, state=dict(trained.state))
        if listed:
            repeated = {name: np.repeat(trained.state[name], 2, axis=0) for name in ("encoder", "decoder")}
            large = replace(trained, state=dict(trained.state) | repeated)
        with pytest.raises(ProtocolError, match="are listed"):
            Owner(large, listed)

    def test_nothing_shows_a_history_or_a_share(self, trained: Trained) -> None:
        made = Mpc.here(trained, InTheClear())
        assert repr(made.ask([100, 131])[1]) == "Kept(side=Ranking())"
        assert repr(Owner(trained)) == "Owner()"


class TestSteps:
    @given(data=st.data(), rows=st.integers(1, 30), width=st.integers(0, 4), power=st.integers(-12, 12))
    def test_no_score_wraps_and_little_room_is_left(
        self, data: st.DataObject, rows: int, width: int, power: int
    ) -> None:
        """Whatever numbers a matrix is of: at least a quarter of what a score may be is used, or of a cell."""
        random = np.random.default_rng(data.draw(st.integers(0, 2**32)))
        encoder, decoder = 10.0**power * random.standard_t(1.5, (2, rows, width or rows)).astype(np.float32)
        decoder *= data.draw(st.sampled_from([0.0, 1e-3, 1.0]))
        left, right = stepped(encoder if width else None, decoder)
        dealt(left, right, 1)
        limit = LARGEST >> (rows - 1).bit_length()
        largest = max(int(np.abs(each).max()) for each in (left, right) if each is not None)
        assert 4 * reach(left, right) >= limit or 4 * largest >= CELL_LIMIT or not decoder.any()

    def test_scores_keep_their_proportions(self) -> None:
        random = np.random.default_rng(1)
        encoder, decoder = random.normal(size=(2, 2_000, 8)) * np.logspace(-3, 3, 8)
        left, right = stepped(encoder, decoder * np.logspace(2, -2, 8))
        assert left is not None
        assert left.shape == right.shape == (2_000, 8)
        known = random.random((5, 2_000)) < 0.01
        real = known @ encoder @ (decoder * np.logspace(2, -2, 8)).T
        found = (known @ left @ right.T).astype(float)
        scale = (found * real).sum() / (real * real).sum()
        assert np.abs(found / scale - real).max() < 1e-3 * np.abs(real).max()
