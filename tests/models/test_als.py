"""DPALS: what the weights of a row are, and that they keep the row as long as it may be."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from scipy.sparse import csr_array

from discreet.data.interactions import Rows
from discreet.errors import SettingError
from discreet.models.als import Als, emphasised, positive, typical_root, unpacked
from discreet.models.base import State, rows
from discreet.privacy.disclosure import Disclosed

ITEMS = 30
BOUND = 1 << 20


def released(values: list[float], sigma: float = 0.0) -> Disclosed:
    return Disclosed(np.rint(np.array(values) * BOUND).astype(np.int64), BOUND, sigma * BOUND, secure=True)


def after_counts(model: Als) -> State:
    return model.step(model.start(), released([float(1_000 // (1 + item)) for item in range(ITEMS)]))


def histories() -> Rows:
    taken = np.random.default_rng(0).random((40, ITEMS)) < 0.3
    taken[:, 0] = True
    return csr_array(taken.astype(np.int8))


@pytest.mark.parametrize("rarity", [0.0, 0.25, 1.0])
def test_rows_use_nearly_the_whole_bound_whatever_the_weights(rarity: float) -> None:
    model = Als(people=40, items=ITEMS, kept=ITEMS, embedding_size=4, rarity=rarity)
    lengths = np.sqrt(model.summed(histories(), after_counts(model), BOUND).squared_norms)
    assert lengths.min() > 0.999 * BOUND
    assert lengths.max() <= BOUND


@pytest.mark.parametrize("rarity", [0.0, 0.5])
def test_an_item_weighs_as_its_count_says(rarity: float) -> None:
    model = Als(people=40, items=ITEMS, kept=ITEMS, embedding_size=4, rarity=rarity)
    taken: Rows = csr_array(np.isin(np.arange(ITEMS), [0, 9])[None].astype(np.int8))
    row = rows(model, taken, after_counts(model), BOUND).toarray()[0][: 4 * ITEMS].reshape(ITEMS, 4)
    often, seldom = np.linalg.norm(row[0]), np.linalg.norm(row[9])
    assert seldom / often == pytest.approx(10.0**rarity, rel=1e-3)


def test_emphasis_is_one_in_the_mean_square_over_histories() -> None:
    counts = np.array([900.0, 90.0, 9.0])
    assert emphasised(counts, 0.0).tolist() == [1.0, 1.0, 1.0]
    weights = emphasised(counts, 0.5)
    assert weights[2] / weights[0] == pytest.approx(10.0)
    assert (counts * weights**2).sum() == pytest.approx(counts.sum())


def test_a_typical_history_is_read_off_the_counts() -> None:
    assert typical_root(released([30.0, 10.0]), 10) == pytest.approx(4.0)
    assert typical_root(released([3.0, -1.0]), 10) == 1.0


def test_triangles_come_back_as_matrices_without_what_noise_made_negative() -> None:
    whole = np.array([[2.0, -1.0], [-1.0, 3.0]])
    packed = np.array([[2.0, -np.sqrt(2), 3.0]])
    assert unpacked(packed, 2)[0] == pytest.approx(whole)
    assert positive(whole[None])[0] == pytest.approx(whole)
    assert np.linalg.eigvalsh(positive(np.diag([1.0, -5.0])[None])).min() >= 0.0


@pytest.mark.parametrize("settings", [{"rarity": -0.1}, {"rarity": 1.1}, {"people": 0}, {"reg": 0.0}])
def test_settings_that_the_proof_excludes_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(SettingError, match=next(iter(settings))):
        replace(Als(people=9, items=9, kept=9), **settings)
