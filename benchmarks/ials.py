"""iALS without privacy, by `implicit`: the ceiling where EASE's matrix would not fit, and the peer for speed.

A person is folded in by solving for their factor alone, so the same protocol holds as for every other model. Settings
were chosen on splits 100 and 101 of each data set, which are not reported.
"""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.sparse import csr_array, csr_matrix

if TYPE_CHECKING:
    from discreet.evaluation.ranking import Score

MISSING = "implicit is not installed: no iALS rows (pip install implicit)"


@dataclass(frozen=True)
class Settings:
    """Of implicit's ALS: each interaction weighs ``alpha``, everything else 1; ``reg`` is absolute."""

    rank: int
    reg: float
    alpha: float
    sweeps: int = 15

    def __str__(self) -> str:
        return f"rank {self.rank}, reg {self.reg:g}, alpha {self.alpha:g}, {self.sweeps} sweeps"


UNTUNED = Settings(64, 50, 10)
TUNED = {
    "movielens-100k": Settings(128, 20, 3),
    "movielens-1m": Settings(256, 50, 5),
    "gowalla": Settings(256, 60, 40),
    "msweb": Settings(16, 300, 30),
    "steam": Settings(128, 100, 20),
}


def available() -> bool:
    """Tell whether ``implicit`` can be imported."""
    return importlib.util.find_spec("implicit") is not None


def fitted(histories: csr_array, settings: Settings, *, threads: int = 0) -> Any:
    """Return implicit's model of ``histories`` [people, items]; ``threads`` 0 means all cores."""
    from implicit.als import AlternatingLeastSquares

    model = AlternatingLeastSquares(
        factors=settings.rank,
        regularization=settings.reg,
        alpha=settings.alpha,
        iterations=settings.sweeps,
        num_threads=threads,
        random_state=0,
        dtype=np.float32,
    )
    model.fit(_matrix(histories), show_progress=False)
    return model


def score_of(histories: csr_array, settings: Settings, *, threads: int = 0) -> Score:
    """Return what folds histories in, after a fit on ``histories``."""
    model = fitted(histories, settings, threads=threads)

    def score(known: csr_array) -> np.ndarray:
        people = model.recalculate_user(np.arange(known.shape[0]), _matrix(known))
        return np.asarray(people @ model.item_factors.T, np.float32)

    return score


def _matrix(histories: csr_array) -> csr_matrix:
    """Return the type that implicit knows."""
    parts = (histories.data.astype(np.float32), histories.indices, histories.indptr)
    return csr_matrix(parts, shape=histories.shape)
