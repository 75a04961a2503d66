"""Questions that are no recommender: their rows keep the bound, and what is counted is what is asked."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from math import isqrt
from pathlib import Path

import numpy as np
import pytest
from federations import ITEMS, LISTED, PEOPLE, Federation, secure_sum

from discreet.client import device as room
from discreet.errors import SettingError
from discreet.evaluation.audit.people import rows as as_rows
from discreet.models.base import Model, rows
from discreet.models.broadcast import MOST, Broadcast
from discreet.models.queries import RANKERS, Hits, LengthCounts
from discreet.privacy.disclosure import Disclosed
from discreet.protocols.secagg.server import Server

FEDERATIONS = {kind: Federation.of(kind) for kind in ("popularity", "subspace", "gram")}


def hits(kind: str, **settings: int) -> Hits:
    return Hits(items=ITEMS, of=kind, settings=json.dumps(asdict(FEDERATIONS[kind].model)), **settings)


def asking(kind: str, question: Model) -> Federation:
    """The same people, asked a question of the released model."""
    federation = FEDERATIONS[kind]
    plan = replace(federation.plan, bounds=(40_000,))
    state = federation.states[-1] if question.name == "evaluation" else question.start()
    return replace(federation, model=question, plan=plan, states=(state,))


@pytest.mark.parametrize("kind", list(RANKERS))
class TestHits:
    def test_what_is_found_is_what_is_listed_without_it(self, kind: str) -> None:
        """Against the lists themselves."""
        federation, question, bound = FEDERATIONS[kind], hits(kind, n=10, seed=3), 999
        state, found, each = federation.states[-1], 0, isqrt(999**2 // 2)
        for seat in range(PEOPLE):
            known = federation.people[[seat]].indices
            hidden = known[(3 + int(known.sum())) % len(known)]
            without = federation.people[[seat]].toarray()
            without[0, hidden] = 0
            scores = federation.model.scores(type(federation.people)(without), state)[0].astype(float)
            scores[without[0] > 0] = -np.inf
            found += len(known) > 1 and hidden in np.argsort(-scores, kind="stable")[:10]
        able = int((np.diff(federation.people.indptr) > 1).sum())
        assert question.summed(federation.people, state, bound).total.tolist() == [each * found, each * able]
        assert 0 < found < able

    def test_rows_keep_the_bound_and_their_lengths_are_exact(self, kind: str) -> None:
        federation, question = FEDERATIONS[kind], hits(kind)
        for bound in (1, 2, 1_000, 1 << 28):
            made = rows(question, federation.people, federation.states[-1], bound).toarray()
            summed = question.summed(federation.people, federation.states[-1], bound)
            assert (summed.squared_norms == (made**2).sum(axis=1)).all()
            assert (summed.total == made.sum(axis=0)).all()
            assert int(summed.squared_norms.max()) <= bound * bound

    @pytest.mark.parametrize("what", ["lengths", "evaluation"])
    def test_devices_answer_as_everybody_in_one_place_would(
        self, kind: str, what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        no_noise = "discreet.privacy.mechanisms.discrete_gaussian.draw"
        monkeypatch.setattr(no_noise, lambda count, *_: np.zeros(count, np.int64))
        asked = asking(kind, LengthCounts(items=ITEMS) if what == "lengths" else hits(kind, n=10))
        terms, said = asked.terms(), asked.broadcast()
        parts = {seat: asked.device(seat, tmp_path).join(terms.to_bytes(), said) for seat in range(PEOPLE)}
        total = secure_sum(Server(asked.roster, terms), parts)
        assert (total == asked.central(0)).all()
        assert total.sum() > 0


class TestQuestions:
    def test_whoever_has_one_item_adds_nothing(self) -> None:
        federation = FEDERATIONS["popularity"]
        one = as_rows([[5]], ITEMS)
        summed = hits("popularity").summed(one, federation.states[-1], 100)
        assert (summed.total.tolist(), summed.squared_norms.tolist()) == ([0, 0], [0])

    @pytest.mark.parametrize("kind", [*RANKERS, "lengths", "evaluation"])
    def test_the_row_of_nobody_is_zero(self, kind: str) -> None:
        """An empty history in somebody's place is what the adjacency compares with."""
        questions: dict[str, Model] = {"lengths": LengthCounts(items=ITEMS), "evaluation": hits("gram")}
        question = questions.get(kind)
        federation = FEDERATIONS.get(kind, FEDERATIONS["gram"])
        states = federation.states[:-1] if question is None else (federation.states[-1],)
        for state in states:
            asked: Model = federation.model if question is None else question
            summed = asked.summed(as_rows([[]], ITEMS), state, 1_000)
            assert not summed.total.any()
            assert not summed.squared_norms.any()

    def test_an_answer_is_kept_in_people(self) -> None:
        question = LengthCounts(items=ITEMS)
        state = question.step(question.start(), Disclosed(np.array([200, 300]), 100, 0.0, True))
        assert state["answer"].tolist() == [2.0, 3.0]
        with pytest.raises(SettingError, match="a question makes no lists"):
            question.scores(FEDERATIONS["gram"].people, state)

    @pytest.mark.parametrize(
        ("of", "settings"),
        [("als", "{}"), ("gram", ""), ("gram", "{}"), ("gram", "[" * 100_000), ("popularity", '{"items": 3}')],
    )
    def test_models_that_devices_cannot_measure(self, of: str, settings: str) -> None:
        with pytest.raises(SettingError):
            Hits(items=ITEMS, of=of, settings=settings)

    def test_a_broadcast_of_a_question_comes_back(self) -> None:
        asked = asking("subspace", hits("subspace"))
        known = Broadcast.from_bytes(asked.broadcast(), MOST).read(room.Items(LISTED).digest, ITEMS)
        assert known.model == asked.model
