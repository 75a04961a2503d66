"""What can be recommended is measured on public histories; what is popular on people's, and only for who may."""

from __future__ import annotations

import math
from itertools import combinations

import numpy as np
import pytest

from discreet.data.intake import read_interactions
from discreet.data.interactions import Histories, Interactions
from discreet.errors import PurposeNotAllowed, SettingError
from discreet.evaluation.coverage import DEPTH, ENDS, PAIRS, bias, survey
from discreet.evaluation.tradeoff import fit_unbilled
from discreet.models.recipe import Kind

MEASURE = "measure-quality"


@pytest.mark.parametrize("kind", ["popularity", "subspace", "gram", "ials", "als"])
def test_what_can_be_reached_is_what_single_histories_reach(kind: Kind, histories: Histories) -> None:
    trained = fit_unbilled(histories, 4.0, kind)
    reach = survey(trained).reach
    lists = [trained.recommend([], DEPTH), *(trained.recommend([item], DEPTH) for item in trained.catalogue.ids)]
    assert reach.by_default == pytest.approx(DEPTH / 60)
    assert reach.by_one == pytest.approx(len({item for slate in lists for item in slate}) / 60)
    assert reach.by_default <= reach.by_one <= reach.by_two <= 1
    assert reach.pairs == (0 if kind == "popularity" else PAIRS)
    assert (reach.personal == 0) == (kind == "popularity")


def test_two_items_reach_what_pairs_reach(histories: Histories) -> None:
    trained = fit_unbilled(histories, 4.0, "subspace")
    ids = [str(item) for item in trained.catalogue.ids]
    tried = [[], *([item] for item in ids), *combinations(ids, 2)]
    reached = {item for history in tried for item in trained.recommend(history, DEPTH)}
    reach = survey(trained).reach
    assert reach.by_one <= reach.by_two <= len(reached) / 60


def test_the_two_tastes_are_the_strongest_direction(histories: Histories) -> None:
    found = survey(fit_unbilled(histories, 8.0, "subspace"))
    assert found.directions
    strongest = found.directions[0]
    assert strongest.strength > 2
    ends = [{int(title) < 130 for title in end} for end in (strongest.one, strongest.other)]
    assert ends in ([{True}, {False}], [{False}, {True}])
    assert len(strongest.one) == ENDS
    assert len(found.directions) <= found.sought


@pytest.mark.parametrize("kind", ["popularity", "als", "subspace"])
def test_where_there_are_no_directions(kind: Kind, histories: Histories) -> None:
    found = survey(fit_unbilled(histories, math.inf if kind == "subspace" else 4.0, kind))
    assert (found.directions, found.sought) == (None, 0)
    assert found.to_dict()["directions"] is None


def test_progress_goes_to_the_end(histories: Histories) -> None:
    told: list[tuple[int, int]] = []
    survey(fit_unbilled(histories, 4.0, "popularity"), progress=lambda done, whole: told.append((done, whole)))
    assert [done for done, _ in told] == sorted({done for done, _ in told})
    assert told[-1][0] == told[-1][1]


def test_bias_is_all_popular_where_counts_are_all_there_is(data: Interactions, histories: Histories) -> None:
    measured = bias(fit_unbilled(histories, 8.0, "popularity"), data.opened_for(MEASURE))
    assert measured.people == len(histories)
    assert list(measured.released) == sorted(measured.released)
    assert all(0 <= share <= 1 for share in (*measured.released, *measured.open))
    assert measured.to_dict()["figures_are_private"] is False


def test_bias_needs_the_purpose_and_the_catalogue(data: Interactions, histories: Histories) -> None:
    trained = fit_unbilled(histories, 4.0, "popularity")
    with pytest.raises(PurposeNotAllowed, match=MEASURE):
        bias(trained, histories)
    others = read_interactions({"user_id": ["a", "b"], "item_id": [1, 2]}, name="others", purposes=[MEASURE])
    with pytest.raises(SettingError, match="another catalogue"):
        bias(trained, others.opened_for(MEASURE))


def test_one_item_is_enough() -> None:
    data = read_interactions({"user_id": ["a", "b"], "item_id": [1, 1]}, name="one", purposes=[MEASURE])
    histories = data.opened_for(MEASURE)
    for kind in ("popularity", "subspace", "gram"):
        trained = fit_unbilled(histories, math.inf, kind)
        assert survey(trained).reach.by_default == 1
        assert np.isfinite(bias(trained, histories).released).all()
