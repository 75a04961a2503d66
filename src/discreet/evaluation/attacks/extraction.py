"""Rebuilding the model from its answers (Tramer et al., Stealing machine learning models via prediction APIs, 2016).

A linear model's scores for one item are its weights for it, so a question an item rebuilds it. That breaks no promise:
the released model is public by design, it is what differential privacy protects people in. Whoever wants to keep it to
themselves for other reasons gives out ranks, not scores, and few of them; here is what these are worth.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from discreet.data.interactions import Rows
from discreet.evaluation.attacks.figures import Figure, Service
from discreet.evaluation.audit.people import rows
from discreet.evaluation.ranking import top
from discreet.models.trained import Trained

SHARES = (0.01, 0.1, 0.5, 1.0)
"""Of the catalogue, that is asked about item by item, the most popular first."""

LISTED, SHORT, MOST_ASKED = 10, 100, 200

Table = NDArray[np.float64]
"""What is known of the model: by item of a history, what it adds to all others, float64 [items, items]."""


def extraction(service: Service) -> list[Figure]:
    """Return how much of people's lists of ten a rebuilt model names, by how many questions were asked."""
    matrix = service.histories.matrix
    trained = service.released(matrix)
    asked = matrix[service.random.permutation(np.flatnonzero(service.lengths >= 2))[:MOST_ASKED]]
    order = np.argsort(-matrix.sum(axis=0), kind="stable")
    truth, items = _listed(trained.scores(asked), asked), len(order)
    popular = float(np.mean(_agreement(np.tile(_of_nobody(trained, items), (asked.shape[0], 1)), asked, truth)))
    answers, figures = _answers(trained, items), []
    for share in SHARES:
        count = max(1, round(share * items))
        for shown, table in answers.items():
            known = np.zeros_like(table)
            known[order[:count]] = table[order[:count]]
            agreed = _agreement(np.asarray(asked @ known), asked, truth)
            what = f"{count} questions, {shown}: items of a list of ten named"
            figures.append(service.of_values("extraction", what, agreed, popular))
    return figures


def _answers(trained: Trained, items: int) -> dict[str, Table]:
    scores = trained.scores(rows([[item] for item in range(items)], items)).astype(np.float64)
    # An item that the model does not know gets what everybody likes: that is no weight of its own.
    scores[(scores == _of_nobody(trained, items)).all(axis=1)] = 0.0
    places = np.argsort(np.argsort(-scores, axis=1, kind="stable"), axis=1)
    short = np.maximum(0.0, 1 - places / min(SHORT, items))
    short[~scores.any(axis=1)] = 0.0
    return {"scores of all items": scores, f"ranks of the best {min(SHORT, items)}": short}


def _of_nobody(trained: Trained, items: int) -> NDArray[np.float32]:
    """Return the scores for an empty history, float32 [1, items]."""
    return trained.scores(rows([()], items))


def _listed(scores: NDArray[np.float32] | Table, asked: Rows) -> NDArray[np.int64]:
    ranked = scores.astype(np.float32)
    ranked[asked.nonzero()] = -np.inf
    return top(ranked, min(LISTED, ranked.shape[1]))


def _agreement(scores: NDArray[np.float32] | Table, asked: Rows, truth: NDArray[np.int64]) -> list[float]:
    guessed = _listed(scores, asked)
    return [float(np.isin(own, real).mean()) for own, real in zip(guessed, truth, strict=True)]
