"""Every way to recommend, through the same three steps; and what each tells the answering side."""

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import pytest

from discreet.data.interactions import Histories
from discreet.errors import ArtefactError, SettingError
from discreet.evaluation.tradeoff import fit_unbilled
from discreet.inference.on_device import Device, OnDevice, Reply, Request, Server, sheet_of
from discreet.inference.plain import Plain
from discreet.inference.shared import Shared
from discreet.models.recipe import Kind
from discreet.models.slate import Slate
from discreet.models.trained import Trained
from discreet.testing import ContractBroken, check_recommender

KINDS: tuple[Kind, ...] = ("popularity", "subspace", "gram", "ials", "als", "als-adaptive", "sgd")
WAYS: dict[str, Callable[[Trained, int], Any]] = {"plain": Plain, "on_device": OnDevice.here, "shared": Shared.here}


@pytest.fixture(scope="module")
def trained(histories: Histories) -> Trained:
    return fit_unbilled(histories, 4.0, "subspace")


@pytest.fixture(scope="module", params=KINDS)
def kind(request: pytest.FixtureRequest) -> Kind:
    chosen: Kind = request.param
    return chosen


def slate(recommender: Any, history: Sequence[str | int]) -> Slate:
    request, kept = recommender.ask(history)
    read: Slate = recommender.read(recommender.answer(request), kept)
    return read


@pytest.mark.parametrize("way", WAYS)
class TestEachWay:
    def test_gives_the_models_own_list(self, way: str, trained: Trained) -> None:
        recommender = WAYS[way](trained, 7)
        for history in ([100, 101], [140], [100, 131, 102]):
            made = slate(recommender, history)
            wanted = trained.recommend(history, 7).items
            assert made.items == wanted if way != "on_device" else len({*made} & {*wanted}) >= 6  # a byte a number
            assert made.titles == tuple(str(item) for item in made.items)
            assert len(made) == len(set(made)) == 7
            assert not set(made) & set(history)

    def test_history_of_unknown_items_gets_what_everybody_likes(self, way: str, trained: Trained) -> None:
        made = slate(WAYS[way](trained, 5), [1, "nothing", 1])
        assert made.unknown == 2
        assert made.items == trained.recommend([], 5).items

    def test_ids_typed_as_text_are_the_same_ids(self, way: str, trained: Trained) -> None:
        assert slate(WAYS[way](trained, 5), ["100", "101"]).items == slate(WAYS[way](trained, 5), [100, 101]).items

    def test_empty_history(self, way: str, trained: Trained) -> None:
        made = slate(WAYS[way](trained, 5), [])
        assert (len(made), made.unknown) == (5, 0)

    @pytest.mark.parametrize("n", [0, -1])
    def test_no_list_is_shorter_than_one(self, way: str, trained: Trained, n: int) -> None:
        with pytest.raises(SettingError, match="n must be at least 1"):
            slate(WAYS[way](trained, n), [100])

    def test_longer_than_the_catalogue(self, way: str, trained: Trained) -> None:
        assert len(slate(WAYS[way](trained, 10_000), [100, 101])) == len(trained.catalogue) - 2

    def test_history_of_everything_leaves_nothing(self, way: str, trained: Trained) -> None:
        assert len(slate(WAYS[way](trained, 10), trained.catalogue.ids)) == 0

    def test_one_string_is_no_history(self, way: str, trained: Trained) -> None:
        with pytest.raises(SettingError, match="strings or whole numbers"):
            slate(WAYS[way](trained, 3), [2.5])  # type: ignore[list-item]

    def test_keeps_the_contract(self, way: str, trained: Trained, histories: Histories) -> None:
        asked = [[histories.catalogue.ids[at] for at in histories.matrix[[row]].indices] for row in range(60)]
        odd: list[Sequence[str | int]] = [[], ["nothing"], asked[0][::-1], asked[1] * 2, histories.catalogue.ids]
        check_recommender(WAYS[way](trained, 20), Plain(trained, 20), [*asked, *odd])


@dataclass(frozen=True)
class Spoilt(Plain):
    """Plain, but for what is done to the list."""

    spoil: Callable[[Slate], Slate] = lambda slate: slate

    def read(self, reply: Slate, kept: None) -> Slate:
        return self.spoil(super().read(reply, kept))


class TestTheContract:
    @pytest.mark.parametrize(
        ("promise", "spoil"),
        [
            ("as long", lambda slate: replace(slate, items=slate.items[1:])),
            ("listed once", lambda slate: replace(slate, items=slate.items[:1] * 5)),
            ("known is not", lambda slate: replace(slate, items=(100, *slate.items[1:]))),
            ("unknown items", lambda slate: replace(slate, unknown=7)),
            ("do not rise", lambda slate: replace(slate, scores=slate.scores[::-1])),
            ("titles are", lambda slate: replace(slate, titles=slate.titles[::-1])),
            ("on the plain one", lambda slate: replace(slate, items=tuple(range(5)))),
        ],
    )
    def test_a_broken_promise_is_named(self, promise: str, spoil: Callable[[Slate], Slate], trained: Trained) -> None:
        with pytest.raises(ContractBroken, match=promise):
            check_recommender(Spoilt(trained, 5, spoil), Plain(trained, 5), [[100, 101]])

    def test_another_list_each_time(self, trained: Trained) -> None:
        turns = itertools.count()

        def spoil(slate: Slate) -> Slate:
            return replace(slate, items=(*slate.items[:4], next(turns)))

        with pytest.raises(ContractBroken, match="the same list"):
            check_recommender(Spoilt(trained, 5, spoil), Plain(trained, 5), [[100, 101]])


class TestOnDevice:
    def test_sends_nothing_of_the_history(self, trained: Trained) -> None:
        assert [field.name for field in fields(Request)] == ["version"]
        device = OnDevice.here(trained)
        assert device.ask([100, 101])[0] == device.ask([])[0] == Request(None)
        slate(device, [100])
        assert device.ask([140])[0] == Request(Server(trained).version)

    def test_asks_for_the_model_once(self, trained: Trained) -> None:
        server, device = Server(trained), Device()
        request, kept = device.ask([100])
        reply = server.answer(request)
        first = device.read(reply, kept)
        again, kept = device.ask([100])
        assert server.answer(again) == Reply(server.version, None)
        assert device.read(server.answer(again), kept).items == first.items
        assert repr(reply) == f"Reply(version={server.version!r})"

    def test_takes_a_newer_model(self, trained: Trained, histories: Histories) -> None:
        device, newer = Device(), Server(fit_unbilled(histories, 2.0, "popularity"))
        for server in (Server(trained), newer):
            request, kept = device.ask([100])
            device.read(server.answer(request), kept)
        assert device.ask([])[0] == Request(newer.version)

    def test_refuses_what_was_not_announced_and_keeps_what_it_has(self, trained: Trained) -> None:
        server, device = Server(trained), Device()
        reply = server.answer(Request(None))
        assert reply.model is not None
        before = device.read(reply, [100])
        for wrong in (
            replace(reply, version="0" * 64),
            replace(reply, model=reply.model[:-1]),
            replace(reply, model=b""),
            Reply("0" * 64, None),
        ):
            with pytest.raises(ArtefactError, match="again"):
                device.read(wrong, [100])
            with pytest.raises(ArtefactError, match="again"):
                Device().read(wrong, [100])
        assert device.ask([])[0] == Request(server.version)
        assert device.read(Reply(server.version, None), [100]).items == before.items

    def test_refuses_no_model_when_it_has_none(self, trained: Trained) -> None:
        with pytest.raises(ArtefactError, match="sent no model"):
            Device().read(Reply(Server(trained).version, None), [100])

    @pytest.mark.parametrize("epsilon", [1.0, 10.0, math.inf])
    def test_a_device_lists_what_the_model_lists(self, kind: Kind, epsilon: float, histories: Histories) -> None:
        whole = fit_unbilled(histories, epsilon, kind)
        asked: list[list[str | int]] = [
            [histories.catalogue.ids[at] for at in histories.matrix[[row]].indices] for row in range(100)
        ]
        check_recommender(OnDevice.here(whole, 20), Plain(whole, 20), [*asked, [], ["nothing"], [*whole.catalogue.ids]])
        assert sheet_of(whole).promise == whole.guarantee.sentence

    def test_a_change_is_sent_to_whoever_holds_the_model_before(self, trained: Trained, histories: Histories) -> None:
        counts = trained.state["counts"].copy()
        counts[3] += 1
        newer = replace(trained, state=trained.state | {"counts": counts})
        device, before = Device(), Server(trained)
        device.read(before.answer(Request(None)), [100])
        for previous in ([trained], [fit_unbilled(histories, 4.0, "gram"), trained]):
            held, server = Device(held=device.held), Server(newer, previous)
            reply = server.answer(held.ask([])[0])
            assert reply.model is not None
            assert len(reply.model) < len(server.model) / 2
            listed = held.read(reply, [100])
            assert held.version == server.version
            assert listed.items == slate(OnDevice.here(newer), [100]).items
        with pytest.raises(ArtefactError):  # of another model than the one held
            Device(held=Server(fit_unbilled(histories, 2.0, "popularity")).model).read(reply, [100])

    def test_a_model_that_is_kept_needs_no_server(self, trained: Trained) -> None:
        device = Device(held=Server(trained).model)
        request, kept = device.ask([100])
        assert Server(trained).answer(request).model is None
        assert device.read(Server(trained).answer(request), kept).items == slate(OnDevice.here(trained), [100]).items
