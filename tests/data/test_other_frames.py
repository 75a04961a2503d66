"""Frames of other libraries, which this package reads but does not need."""

from __future__ import annotations

from typing import Any

import pytest

from discreet.data.intake import read_interactions
from discreet.errors import DataError

pandas: Any = pytest.importorskip("pandas")
pyarrow: Any = pytest.importorskip("pyarrow")

TABLE = {"user_id": ["ann", "bob"], "item_id": [10, 9]}
FRAMES = {
    "pandas": lambda: pandas.DataFrame(TABLE),
    "pandas, categories": lambda: pandas.DataFrame(TABLE).astype({"user_id": "category"}),
    "pandas, another column that is strange": lambda: pandas.DataFrame(TABLE | {"note": [object(), 1]}),
    "arrow": lambda: pyarrow.table(TABLE),
}


@pytest.mark.parametrize("kind", FRAMES)
def test_is_read(kind: str) -> None:
    histories = read_interactions(FRAMES[kind]()).opened_for("train-recommender")
    assert histories.people_ids == ("ann", "bob")
    assert histories.catalogue.ids == (9, 10)
    assert histories.matrix.toarray().tolist() == [[0, 1], [1, 0]]


@pytest.mark.parametrize("ids", [["ann", 2], [object(), object()], [1.5, 2.0], [1, None], [True, False]])
def test_pandas_columns_that_are_no_ids(ids: list[object]) -> None:
    with pytest.raises(DataError, match="'user_id'") as caught:
        read_interactions(pandas.DataFrame({"user_id": ids, "item_id": [1, 2]}))
    assert "ann" not in str(caught.value)
