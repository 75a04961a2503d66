"""Lists of several organisations: what comes of their points, and what each is told."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from discreet.data.catalogue import Catalogue
from discreet.data.interactions import Histories
from discreet.errors import ProtocolError, SettingError, TooFewLeft
from discreet.evaluation.tradeoff import fit_unbilled
from discreet.inference.ensemble import BITS, POINTS, SMOOTHING, Asker, Ensemble, Member, agreement, points
from discreet.inference.plain import Plain
from discreet.models.recipe import Kind
from discreet.models.slate import Slate, best
from discreet.models.trained import Trained
from discreet.protocols.keys import public_bytes
from discreet.testing import check_recommender

KINDS: tuple[Kind, ...] = ("popularity", "subspace", "gram", "ials", "als", "sgd")


@pytest.fixture(scope="module")
def models(histories: Histories) -> list[Trained]:
    """One of each kind, learnt from different people."""
    people = np.arange(len(histories.people_ids))
    return [
        fit_unbilled(histories.take(people[people % len(KINDS) != at]), math.inf, kind) for at, kind in enumerate(KINDS)
    ]


@pytest.fixture(scope="module")
def asked(histories: Histories) -> list[Sequence[str | int]]:
    rows = [[histories.catalogue.ids[at] for at in histories.matrix[[row]].indices] for row in range(60)]
    return [*rows, [], ["nothing"], rows[0][::-1], rows[1] * 2, histories.catalogue.ids]


@dataclass(frozen=True)
class Adding:
    """The same ensemble by somebody who sees all points."""

    models: Sequence[Trained]
    weights: Sequence[int]
    n: int

    def ask(self, history: Sequence[str | int]) -> tuple[tuple[str | int, ...], None]:
        return tuple(history), None

    def answer(self, request: tuple[str | int, ...]) -> Slate:
        catalogue = self.models[0].catalogue
        known, unknown = catalogue.positions(request)
        total = np.zeros(len(catalogue), np.int64)
        for weight, model in zip(self.weights, self.models, strict=True):
            listed = model.recommend(request, len(catalogue)).items
            for rank, item in enumerate(listed, start=1):
                total[catalogue.positions([item])[0]] += weight * (POINTS // (SMOOTHING + rank))
        return best(total.astype(float), catalogue, self.n, exclude=known, unknown=unknown)

    def read(self, reply: Slate, kept: None) -> Slate:
        del kept
        return reply


class TestEnsemble:
    @pytest.mark.parametrize("weights", [(1, 1, 1, 1, 1, 1), (1, 2, 3, 4, 50, 6)])
    def test_keeps_the_contract(
        self, weights: tuple[int, ...], models: list[Trained], asked: list[Sequence[str | int]]
    ) -> None:
        """Beside the sum in the clear, of which every list is exactly what comes."""
        check_recommender(Ensemble(models, weights, 20), Adding(models, weights, 20), asked, agreement=1.0)

    @pytest.mark.parametrize("at", range(len(KINDS)), ids=KINDS)
    def test_of_one_model_it_gives_the_models_own_lists(
        self, at: int, models: list[Trained], asked: list[Sequence[str | int]]
    ) -> None:
        check_recommender(Ensemble([models[at]] * 3, n=20), Plain(models[at], 20), asked, agreement=1.0)

    def test_a_heavy_weight_decides(self, models: list[Trained]) -> None:
        """And so says what the heavy one's list is: why organisations agree on weights, not the asker."""
        made = Ensemble(models[:3], (1, 1, 1_000))
        request, kept = made.ask([100, 101])
        assert made.read(made.answer(request), kept).items[:3] == models[2].recommend([100, 101], 3).items

    def test_two_organisations_hide_nothing(self, models: list[Trained]) -> None:
        for few in (0, 1, 2):
            with pytest.raises(SettingError, match=f"{few} organisations hide nothing"):
                Ensemble(models[:few])

    def test_weights_that_could_wrap_are_refused(self, models: list[Trained]) -> None:
        most = ((1 << (BITS - 1)) - 1) // (POINTS // (SMOOTHING + 1))
        Ensemble(models[:3], (1, 1, most - 2))
        with pytest.raises(ProtocolError, match="may not fit"):
            Ensemble(models[:3], (1, 1, most - 1))

    def test_one_that_does_not_answer(self, models: list[Trained]) -> None:
        made = Ensemble(models[:3])
        request, kept = made.ask([100])
        replies = made.answer(request)
        with pytest.raises(TooFewLeft, match=r"\[1\]"):
            made.read({seat: reply for seat, reply in replies.items() if seat != 1}, kept)

    def test_a_sitting_is_answered_once(self, models: list[Trained]) -> None:
        """Not even with another history: the difference would be one organisation's."""
        made = Ensemble(models[:3])
        (sitting, history), _ = made.ask([100])
        made.members[0].answer(sitting, history)
        with pytest.raises(ProtocolError, match="no open nonce"):
            made.members[0].answer(sitting, [101])

    def test_what_travels_is_as_long_whatever_the_history(self, models: list[Trained]) -> None:
        """But for the history itself, which organisations see."""
        made = Ensemble(models[:3])
        requests = [made.ask(history)[0] for history in ([], ["nothing"], [100, 101, 102])]
        assert len({len(sitting) for sitting, _ in requests}) == 1
        assert len({len(reply) for request in requests for reply in made.answer(request).values()}) == 1

    def test_an_organisation_may_score_the_history_that_it_holds(self, models: list[Trained]) -> None:
        """The one that was sent, or another: the sum is of what each scored."""
        made = Ensemble(models[:3])
        (sitting, _), kept = made.ask([100])
        held: list[list[str | int]] = [[100, 120], [], [131]]
        replies = {member.seat: member.answer(sitting, own) for member, own in zip(made.members, held, strict=True)}
        catalogue = models[0].catalogue
        total = sum(points(model, catalogue.positions(own)[0]) for model, own in zip(models, held, strict=False))
        expected = best(np.asarray(total, float), catalogue, 10, exclude=catalogue.positions([100])[0])
        assert made.read(replies, kept) == expected

    def test_nothing_shows_a_history_or_a_model(self, models: list[Trained]) -> None:
        made = Ensemble(models[:3])
        assert repr(made.ask([101])[1]) == "Kept(side=Summing())"
        assert [repr(member) for member in made.members] == ["Member(0)", "Member(1)", "Member(2)"]


class TestAgreement:
    KEYS = tuple(X25519PrivateKey.generate() for _ in range(3))

    def test_is_about_one_catalogue_and_one_rule(self, models: list[Trained]) -> None:
        """Titles do not matter, nor whether ids are numbers or their digits; an id does."""
        catalogue = models[0].catalogue
        keys = list(map(public_bytes, self.KEYS))
        terms = agreement(catalogue, keys, [1, 1, 1])
        Asker(terms, replace(catalogue, titles=tuple(f"t{item}" for item in catalogue.ids)))
        Asker(terms, Catalogue(tuple(map(str, catalogue.ids))))
        other = Catalogue(tuple(int(item) + 1 for item in catalogue.ids))
        for refused in (
            lambda: Asker(terms, other),
            lambda: Member(models[0], agreement(other, keys, [1] * 3), self.KEYS[0]),
        ):
            with pytest.raises(SettingError, match="another catalogue"):
                refused()
        with pytest.raises(SettingError, match="none of the organisations"):
            Member(models[0], terms, X25519PrivateKey.generate())

    def test_points_are_distinct_at_the_head_and_never_more_than_agreed(self, models: list[Trained]) -> None:
        given = points(models[1], np.array([3]))
        terms = agreement(models[1].catalogue, list(map(public_bytes, self.KEYS)), [1, 1, 1])
        assert given.max() == terms.most == POINTS // (SMOOTHING + 1)
        assert given[3] == given.min()
        assert len(set(given.tolist())) == len(given)
        head = POINTS // (SMOOTHING + np.arange(1, 8_002))
        assert (np.diff(head) < 0).all()
