"""Lists of an encrypted query, and what devices are told of a model."""

from __future__ import annotations

import contextlib
import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from discreet.data.interactions import Histories
from discreet.errors import ArtefactError, ProtocolError, SettingError
from discreet.evaluation.tradeoff import fit_unbilled
from discreet.inference import encrypted, shared
from discreet.inference.outline import Outline
from discreet.inference.plain import Plain
from discreet.models.recipe import Kind
from discreet.models.trained import Trained
from discreet.protocols.encryption import EncryptedQuestion
from discreet.testing import check_recommender

pytest.importorskip("seal", reason="needs seal-python: pip install 'discreet[encrypted]'")

from discreet.engines.seal import Seal

SCHEME = Seal()


@pytest.fixture(scope="module")
def trained(histories: Histories) -> Trained:
    return fit_unbilled(histories, 10.0, "subspace")


@pytest.fixture(scope="module")
def server(trained: Trained) -> encrypted.Server:
    return encrypted.Server(trained, SCHEME)


@pytest.fixture(scope="module")
def both(server: encrypted.Server) -> encrypted.Encrypted:
    return encrypted.Encrypted(encrypted.Device(server.outline, SCHEME), server)


class TestEncrypted:
    @pytest.mark.parametrize(("kind", "epsilon"), [("subspace", 10.0), ("subspace", math.inf), ("gram", 10.0)])
    def test_keeps_the_contract(self, kind: Kind, epsilon: float, histories: Histories) -> None:
        model = fit_unbilled(histories, epsilon, kind)
        asked: list[list[str | int]] = [
            [histories.catalogue.ids[at] for at in histories.matrix[[row]].indices] for row in range(30)
        ]
        asked += [asked[0][::-1], [], ["nothing"], list(histories.catalogue.ids)]
        check_recommender(encrypted.Encrypted.here(model, SCHEME, 20), Plain(model, 20), asked)

    def test_keys_are_made_anew(self, trained: Trained, monkeypatch: pytest.MonkeyPatch) -> None:
        """And a question that was asked under the one before is answered, and read."""
        monkeypatch.setattr(encrypted, "QUESTIONS", 2)
        made = encrypted.Encrypted.here(trained, SCHEME)
        asked = [made.ask([100]) for _ in range(5)]
        keys = [EncryptedQuestion.from_bytes(request.question).key for request, _ in asked]
        assert [keys.index(key) for key in keys] == [0, 0, 2, 2, 4]
        assert len({made.read(made.answer(request), kept).items for request, kept in reversed(asked)}) == 1

    def test_what_the_server_is_told_has_one_length(self, both: encrypted.Encrypted) -> None:
        histories: list[list[str | int]] = [[], ["nothing"], [100], list(range(100, 130))]
        assert len({len(both.ask(history)[0].question) for history in histories}) == 1

    def test_queries_that_are_too_wide_are_refused(self, histories: Histories, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(encrypted, "MOST_WIDTH", 3)
        with pytest.raises(SettingError, match="too long under encryption; at most 3"):
            encrypted.Server(fit_unbilled(histories, 10.0, "gram"), SCHEME)

    def test_other_kinds_are_refused(self, histories: Histories) -> None:
        with pytest.raises(SettingError, match="no matrix times a history"):
            encrypted.Server(fit_unbilled(histories, 4.0, "popularity"), SCHEME)

    def test_nothing_shows_a_history(self, both: encrypted.Encrypted) -> None:
        request, kept = both.ask([100, 131])
        assert repr(request) == "Request()"
        assert repr(kept) == "Kept(side=Encryption())"


class TestOutline:
    def test_comes_back_as_it_went(self, server: encrypted.Server, trained: Trained) -> None:
        for outline in (server.outline, shared.Server(trained).outline):
            content = outline.to_bytes()
            back = Outline.from_bytes(content)
            assert back.to_bytes() == content
            assert back.known([100, "nothing"])[2] == outline.known([100, "nothing"])[2] == 1
            assert repr(back) == "Outline()"

    def test_a_device_lists_from_bytes(self, server: encrypted.Server, both: encrypted.Encrypted) -> None:
        """The very list of one that was given the outline as it is."""
        device = encrypted.Device(Outline.from_bytes(server.outline.to_bytes()), SCHEME)
        lists = []
        for way in (encrypted.Encrypted(device, server), both):
            request, kept = way.ask([100, 101])
            lists.append(way.read(way.answer(request), kept).items)
        assert lists[0] == lists[1]

    def test_of_another_way_is_refused(self, server: encrypted.Server, trained: Trained) -> None:
        with pytest.raises(ProtocolError, match="another way"):
            shared.Device(server.outline)
        with pytest.raises(ProtocolError, match="that of `encrypted`"):
            encrypted.Device(shared.Server(trained).outline, SCHEME)

    def test_parts_that_do_not_fit_the_terms_are_refused(self, server: encrypted.Server, trained: Trained) -> None:
        outline = server.outline
        wider = replace(outline, scales=np.append(outline.scales, 1.0))
        with pytest.raises(ProtocolError, match="do not fit together"):
            encrypted.Device(wider, SCHEME)
        with pytest.raises(ProtocolError, match="do not fit together"):
            encrypted.Device(replace(outline, source=None), SCHEME)
        two = shared.Server(trained).outline
        with pytest.raises(ProtocolError, match="do not fit together"):
            shared.Device(replace(two, scales=np.append(two.scales, 1.0)))

    def test_every_cut_and_some_flips_are_found_out(self, server: encrypted.Server) -> None:
        content = server.outline.to_bytes()
        for end in range(0, len(content), 97):
            with pytest.raises(ArtefactError):
                Outline.from_bytes(content[:end])
        for at in np.random.default_rng(0).integers(0, len(content), 200):
            spoilt = bytearray(content)
            spoilt[at] ^= 1 << int(at) % 8
            with contextlib.suppress(ArtefactError):
                assert Outline.from_bytes(bytes(spoilt)).to_bytes() == content  # it was in what zip does not read

    @pytest.mark.parametrize(
        "changes",
        [
            {"kept": np.array([0, 0])},
            {"kept": np.array([1, 0])},
            {"kept": np.array([-1, 0])},
            {"kept": np.array([0, 10**6])},
            {"kept": np.array([], np.int64)},
            {"kept": np.array([0], np.int32)},
            {"kept": np.array([[0]])},
            {"counts": np.zeros(3, np.float32)},
            {"counts": np.zeros(40)},
            {"scales": np.array([math.nan])},
            {"scales": np.array(1.0)},
            {"source": np.zeros((1, 1), np.int16)},
        ],
        ids=str,
    )
    def test_whoever_wrote_it_it_is_looked_at(self, changes: dict[str, Any], server: encrypted.Server) -> None:
        with pytest.raises(ArtefactError, match="do not fit together"):
            Outline.from_bytes(replace(server.outline, **changes).to_bytes())
