"""Lists and pages by two servers: what each is told, and what comes of what they say."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from discreet.data.catalogue import Catalogue
from discreet.data.interactions import Histories
from discreet.errors import ProtocolError, SettingError
from discreet.evaluation.tradeoff import fit_unbilled
from discreet.inference import retrieved, shared
from discreet.inference.outline import finest, quantised
from discreet.inference.plain import Plain
from discreet.inference.retrieved import FOLD, Retrieved, padded, unpadded
from discreet.inference.shared import AT_ONCE, MOST, Device, Server, Shared
from discreet.models.recipe import Kind
from discreet.models.trained import Trained
from discreet.protocols.retrieval import folded
from discreet.protocols.scoring import LIMIT, Scorer, Scoring
from discreet.protocols.two_servers import Question
from discreet.testing import check_recommender

SHARED: tuple[Kind, ...] = ("subspace", "gram")


@pytest.fixture(scope="module")
def trained(histories: Histories) -> Trained:
    return fit_unbilled(histories, 10.0, "subspace")


@pytest.fixture(scope="module")
def asked(histories: Histories) -> list[list[str | int]]:
    return [[histories.catalogue.ids[at] for at in histories.matrix[[row]].indices] for row in range(100)]


class TestShared:
    @pytest.mark.parametrize("kind", SHARED)
    @pytest.mark.parametrize("epsilon", [1.0, 10.0, math.inf])
    def test_keeps_the_contract(
        self, kind: Kind, epsilon: float, histories: Histories, asked: list[list[str | int]]
    ) -> None:
        model = fit_unbilled(histories, epsilon, kind)
        if kind == "subspace" and "encoder" not in model.state:
            with pytest.raises(SettingError, match="score on the device"):
                Shared.here(model)
            return
        check_recommender(Shared.here(model, 20), Plain(model, 20), [*asked, [], ["nothing"]])

    @pytest.mark.parametrize("kind", ["popularity", "ials", "als"])
    def test_other_kinds_are_refused(self, kind: Kind, histories: Histories) -> None:
        with pytest.raises(SettingError, match=f"this {kind} model are no matrix times a history"):
            Shared.here(fit_unbilled(histories, 4.0, kind))

    @given(data=st.data())
    def test_no_score_wraps_and_the_query_is_as_fine_as_can_be(self, data: st.DataObject) -> None:
        """On every matrix, along every row, the longest; scores are off by what two roundings are."""
        rows, width = data.draw(st.integers(1, 4)), data.draw(st.integers(1, 5))
        cells = st.lists(st.floats(-(2.0**20), 2.0**20, width=32), min_size=rows * width, max_size=rows * width)
        matrix = np.array(data.draw(cells)).reshape(rows, width)
        steps, scales = quantised(matrix, MOST)
        scorer = Scorer(steps)
        for row in matrix:
            query, step = finest(row * scales, scorer.terms.longest, LIMIT**0.5)
            scores = steps.astype(np.int64) @ query
            assert np.abs(scores).max() < 2**31
            Scoring(scorer.terms, query)
            rounded = 0.5 * np.abs(row) @ scales + 0.5 * step * np.abs(steps.astype(int)).sum(axis=1)
            assert (np.abs(scores * step - matrix @ row) <= (1 + 1e-6) * rounded + 1e-90).all()

    @given(data=st.data())
    def test_both_products_are_one(self, data: st.DataObject) -> None:
        rows, width = data.draw(st.integers(1, 9)), data.draw(st.integers(1, 9))
        cells = st.lists(st.integers(-32768, 32767), min_size=rows * width, max_size=rows * width)
        matrix = np.array(data.draw(cells), np.int16).reshape(rows, width)
        numbers = data.draw(st.lists(st.integers(0, 2**32 - 1), min_size=width, max_size=width))
        share = np.array(numbers, np.uint32)
        for product in {shared._product, getattr(shared._product, "py_func", shared._product)}:
            assert (product(matrix, share) == matrix.astype(np.uint32) @ share).all()

    def test_what_a_server_is_told_has_one_length(self, trained: Trained, asked: list[list[str | int]]) -> None:
        """Whatever the history is, also if there is none, or nothing of it is known."""
        shared = Shared.here(trained)
        histories: list[list[str | int]] = [[], ["nothing"], *asked[:9]]
        lengths = {len(each) for history in histories for each in shared.ask(history)[0]}
        assert len(lengths) == 1

    def test_rows_are_fetched_once_and_padded(self, trained: Trained) -> None:
        server = Server(trained)
        device = Device(server.outline)
        with pytest.raises(ProtocolError, match="fetch what is wanted first"):
            device.ask([100, 101])
        (places,) = device.wanted([100, 101, 101, "nothing"])
        assert len(places) == AT_ONCE
        assert len(set(places)) == 2
        retrieval = device.fetch(places)
        first, second = map(server.row, retrieval.questions)
        with pytest.raises(ProtocolError):
            device.learn(places, retrieval, (first, first))
        device.learn(places, retrieval, (first, second))
        assert device.wanted([101]) == []
        assert [len(each) for each in device.wanted(list(trained.catalogue.ids))] == [AT_ONCE] * 4
        questions, kept = device.ask([100, 101])
        replies = server.answer(questions[0]), server.answer(questions[1])
        assert device.read(replies, kept).items == trained.recommend([100, 101]).items

    def test_a_model_without_rows(self, histories: Histories) -> None:
        shared = Shared.here(fit_unbilled(histories, 10.0, "gram"))
        assert shared.device.wanted([100]) == []
        with pytest.raises(SettingError, match="no rows to fetch"):
            shared.device.fetch([0])
        with pytest.raises(ProtocolError, match="no rows to fetch"):
            shared.servers[0].row(b"")

    def test_another_model_on_one_of_the_servers_is_found_out(self, trained: Trained, histories: Histories) -> None:
        other, device = Server(fit_unbilled(histories, 20.0, "subspace")), Device(Server(trained).outline)
        with pytest.raises(ProtocolError, match="another table"):
            other.answer(device.ask([])[0][1])
        with pytest.raises(ProtocolError, match="another table"):
            other.row(device.fetch(device.wanted([100])[0]).questions[1])

    def test_nothing_shows_a_history(self, trained: Trained) -> None:
        shared = Shared.here(trained)
        (_, kept) = shared.ask([100, 131])
        shown = repr(kept) + repr(shared.device.outline)
        assert "Scoring()" in shown
        assert "1" not in shown


class TestChosenQueries:
    """What a person learns: as many questions as a query is wide give the matrix away; ranks and quotas limit it."""

    WIDTH = 64
    FACTORS = np.random.default_rng(5).normal(0, 300, (300, WIDTH)).round().astype(np.int16)

    def scores(self, queries: Sequence[NDArray[np.int64]]) -> NDArray[np.float64]:
        """Return what a client of both servers reads, [rows, queries]."""
        scorer, read = Scorer(self.FACTORS), []
        for query in queries:
            scoring = Scoring(scorer.terms, query)
            first, second = map(scorer.answer, scoring.questions)
            read.append(scoring.read((first, second)))
        return np.stack(read, axis=1).astype(float)

    def queries(self) -> NDArray[np.int64]:
        return np.random.default_rng(6).integers(-9, 10, (self.WIDTH, self.WIDTH))

    def test_raw_scores_of_64_queries_give_all_factors(self) -> None:
        queries = self.queries()
        found = np.linalg.solve(queries.astype(float), self.scores(list(queries)).T).T
        assert (found.round() == self.FACTORS).all()

    def test_a_quota_below_the_width_leaves_a_direction_open(self) -> None:
        queries = self.queries()[:-1]
        found = np.linalg.lstsq(queries.astype(float), self.scores(list(queries)).T, rcond=None)[0].T
        unseen = np.linalg.svd(queries.astype(float))[2][-1]
        assert np.abs(found @ unseen).max() < 1e-6 < np.abs(self.FACTORS @ unseen).max() / 100

    def test_ranks_of_64_queries_do_not_but_ranks_of_everything_come_near(self) -> None:
        """The best queries for ranks are unit vectors. Not one factor is found; without its scale, nearly, all are."""
        ranks = self.ranks(self.scores(list(np.eye(self.WIDTH, dtype=np.int64))))
        found, error = self.scaled(ranks - ranks.mean(axis=0))
        assert not (found.round() == self.FACTORS).all(axis=1).any()
        assert 0.1 < error < 0.5

    def test_lists_of_20_say_little_of_most_items(self) -> None:
        ranks = self.ranks(self.scores(list(np.eye(self.WIDTH, dtype=np.int64))))
        listed = np.maximum(ranks - (len(ranks) - 20), 0)
        assert self.scaled(listed - listed.mean(axis=0))[1] > 0.8

    def ranks(self, scores: NDArray[np.float64]) -> NDArray[np.float64]:
        return scores.argsort(axis=0).argsort(axis=0).astype(float)

    def scaled(self, guess: NDArray[np.float64]) -> tuple[NDArray[np.float64], float]:
        """Return a guess under the scale that an attacker could not know, and how far it is off, of the whole."""
        found = guess * (guess * self.FACTORS).sum() / (guess * guess).sum()
        return found, float(np.linalg.norm(found - self.FACTORS) / np.linalg.norm(self.FACTORS))

    def test_lists_are_handed_on_without_scores(self, trained: Trained) -> None:
        made = Shared.here(trained)
        request, kept = made.ask([100])
        assert all("score" not in row for row in made.read(made.answer(request), kept).to_dicts())


class TestRetrieved:
    CATALOGUE = Catalogue((100, 101, 102, 107))
    PAGES = (b"first", b"", bytes(20), os.urandom(9))

    def test_pages_come_in_the_order_asked_for(self) -> None:
        library = Retrieved.here(self.CATALOGUE, self.PAGES, at_once=5)
        request, kept = library.ask([107, "100", 101, 107])
        read = library.read(library.answer(request), kept)
        assert read == (self.PAGES[3], b"first", b"", self.PAGES[3])

    def test_what_is_asked_is_as_long_whatever_is_wanted(self) -> None:
        library = Retrieved.here(self.CATALOGUE, self.PAGES, at_once=3)
        requests = [library.ask(wanted)[0] for wanted in ([], [100], [100, 101, 107])]
        assert len({len(each) for request in requests for each in request}) == 1
        assert {len(Question.from_bytes(each[0]).parts) for each in requests} == {3}
        request, kept = library.ask([])
        assert library.read(library.answer(request), kept) == ()

    @pytest.mark.parametrize(("why", "wanted"), [("no page", [5]), ("2 pages are asked for at once", [100, 101, 102])])
    def test_refusals(self, why: str, wanted: list[str | int]) -> None:
        with pytest.raises(SettingError, match=why):
            Retrieved.here(self.CATALOGUE, self.PAGES, at_once=2).ask(wanted)

    def test_a_spoilt_length_reads_as_some_page(self) -> None:
        assert unpadded(b"\xff\xff\xff\xffab") == b"ab"
        assert unpadded(padded(b"ab", 30)) == b"ab"

    def test_nothing_shows_what_is_wanted(self) -> None:
        library = Retrieved.here(self.CATALOGUE, self.PAGES)
        assert repr(library.ask([107])[1]) == "Kept(retrieval=Retrieval(), wanted=1)"
        assert repr(library.reader) == "Reader(terms=RetrievalTerms(), at_once=1)"

    @given(data=st.data())
    def test_both_folds_are_one(self, data: st.DataObject) -> None:
        rows, words = data.draw(st.integers(1, 40)), data.draw(st.integers(1, 4))
        table = np.frombuffer(data.draw(st.binary(min_size=8 * rows * words, max_size=8 * rows * words)), np.uint64)
        chosen = data.draw(st.binary(min_size=(rows + 7) // 8, max_size=(rows + 7) // 8))
        sets = np.frombuffer(chosen, np.uint8)
        for each in {FOLD, retrieved._folded, getattr(retrieved._folded, "py_func", folded)}:
            assert (each(table.reshape(rows, words), sets) == folded(table.reshape(rows, words), sets)).all()
