"""Lists that two servers find without seeing them: those of the plain way, whatever is known, and once a garbling."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from discreet.data.interactions import Histories
from discreet.errors import ProtocolError, SettingError
from discreet.evaluation.tradeoff import fit_unbilled
from discreet.inference import shared
from discreet.inference.garbled import Device, Garbled, Pair, Server
from discreet.inference.plain import Plain
from discreet.models.recipe import Kind
from discreet.models.trained import Trained
from discreet.protocols.oblivious import Evaluator, Garbler
from discreet.testing import check_recommender


@pytest.fixture(scope="module")
def trained(histories: Histories) -> Trained:
    return fit_unbilled(histories, 10.0, "subspace")


@pytest.fixture(scope="module")
def pair(trained: Trained) -> Pair:
    return Pair(Server(trained, 0, 7), Server(trained, 1, 7))


@pytest.fixture(scope="module")
def garbled(pair: Pair) -> Garbled:
    return Garbled(Device(pair.servers[0].outline, 7), pair)


def listed(way: Garbled, history: list[str | int]) -> tuple[str | int, ...]:
    request, kept = way.ask(history)
    return way.read(way.answer(request), kept).items


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["subspace", "gram"])
@pytest.mark.parametrize("epsilon", [10.0, math.inf])
def test_keeps_the_contract(kind: Kind, epsilon: float, histories: Histories) -> None:
    model = fit_unbilled(histories, epsilon, kind)
    catalogue = histories.catalogue.ids
    asked: list[list[str | int]] = [[catalogue[at] for at in histories.matrix[[row]].indices] for row in range(15)]
    asked += [asked[0][::-1], [], ["nothing"], list(catalogue), list(catalogue[:-3])]
    check_recommender(Garbled.here(model, 20), Plain(model, 20), asked)


@pytest.mark.parametrize("kind", ["popularity", "ials"])
def test_other_kinds_are_refused(kind: Kind, histories: Histories) -> None:
    with pytest.raises(SettingError, match=f"this {kind} model are no matrix times a history"):
        Garbled.here(fit_unbilled(histories, 4.0, kind))


@pytest.mark.parametrize("setting", [{"n": 0}, {"n": 65}, {"candidates": 0}, {"candidates": 16_385}])
def test_other_settings_are_refused(setting: dict[str, int], trained: Trained) -> None:
    with pytest.raises(SettingError, match="1 to 64 items, out of 1 to 16384 candidates"):
        Garbled.here(trained, **setting)


def test_scores_say_nothing(garbled: Garbled, trained: Trained) -> None:
    """They are whole numbers that fall; below zero where fewer are left than the list is long."""
    request, kept = garbled.ask([100, 101])
    assert garbled.read(garbled.answer(request), kept).scores == tuple(range(7, 0, -1))
    few = Garbled.here(trained, 7, candidates=4)
    request, kept = few.ask([])
    assert [score > 0 for score in few.read(few.answer(request), kept).scores] == [True] * 7
    request, kept = few.ask([100])
    scores = few.read(few.answer(request), kept).scores
    assert scores[:3] == (3.0, 2.0, 1.0)
    assert max(scores[3:]) < 0


def test_candidates_are_the_most_frequent(trained: Trained) -> None:
    """In the order of the catalogue. What is none of them follows, by how frequent it is."""
    kept, counts = trained.state["kept"], trained.state["counts"]
    way = Garbled.here(trained, 10, candidates=8)
    candidates = way.device.terms.rows, way.device._candidates.tolist()
    assert candidates == (8, sorted(kept[np.argsort(-counts[kept], kind="stable")[:8]].tolist()))
    ids = {trained.catalogue.ids[at] for at in candidates[1]}
    first = next(iter(ids))
    made = listed(way, [first])
    assert {*made[:7]} == ids - {first}
    wanted = trained.recommend([first], len(trained.catalogue)).items
    assert list(made[:7]) == [item for item in wanted if item in ids]


def test_a_garbling_is_for_one_question(garbled: Garbled, pair: Pair) -> None:
    pair.prepare(2)
    ready = list(pair._ready)
    first = listed(garbled, [100, 101])
    assert listed(garbled, [100, 101]) == first
    assert not pair._ready
    assert listed(garbled, [100, 101]) == first
    request, _ = garbled.ask([100])
    share = pair.servers[1].share(request[1])
    for _, evaluator in ready:
        with pytest.raises(ProtocolError, match="not the time for the difference"):
            evaluator.difference(share)


def test_what_is_no_question_costs_no_garbling(garbled: Garbled, pair: Pair) -> None:
    pair.prepare()
    request, _ = garbled.ask([100])
    for wrong in ((request[0], request[0]), (request[1], request[1]), (request[0], request[1][:-1])):
        with pytest.raises(ProtocolError):
            garbled.answer(wrong)
    assert len(pair._ready) == 1
    garbled.answer(request)
    assert not pair._ready


def test_a_question_has_one_length_whatever_is_known(garbled: Garbled, trained: Trained) -> None:
    histories: list[list[Any]] = [[], ["nothing"], [100], list(trained.catalogue.ids)]
    lengths = {tuple(map(len, garbled.ask(history)[0])) for history in histories}
    assert len(lengths) == 1


def test_another_model_on_one_of_the_servers_is_found_out(trained: Trained, histories: Histories) -> None:
    other = Server(fit_unbilled(histories, 20.0, "subspace"), 1)
    device = Device(Server(trained, 0).outline)
    with pytest.raises(ProtocolError, match="another table"):
        other.share(device.ask([])[0][1])
    evaluator = Evaluator(other.terms)
    garbler = Garbler(Server(trained, 0).terms, evaluator.garbling)
    with pytest.raises(ProtocolError, match="another garbling"):
        garbler.points(evaluator.point())


def test_an_outline_of_another_way_is_refused(trained: Trained, pair: Pair) -> None:
    with pytest.raises(ProtocolError, match="another way"):
        Device(shared.Server(trained).outline)
    fewer = replace(pair.servers[0].outline, kept=trained.state["kept"][:5])
    with pytest.raises(ProtocolError, match="do not fit together"):
        Device(fewer)


def test_nothing_shows_a_history(garbled: Garbled) -> None:
    (_, kept) = garbled.ask([100, 131])
    assert repr(kept) == "Kept(side=Selection())"
    assert repr(garbled.device.outline) == "Outline()"
