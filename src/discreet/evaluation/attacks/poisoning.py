"""Pushing an item with accounts that one person makes: what it takes, and what bounds it.

Each account has the target and a few items drawn from the most popular ones (the *bandwagon* attack of Mobasher et al.
2007), so that lists of people with popular items name the target. Damage is how many people's lists come to hold it.

What bounds it is not noise but the bound on each account's row: a sum moves by no more than accounts x bound, whatever
the accounts do. Without privacy no row is bounded, and a long history weighs as much as it is long. Where k accounts
take part, group privacy bounds the chance of every event besides: k times mu (Dong, Roth, Su 2022, theorem 2).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from discreet.data.interactions import Rows
from discreet.errors import SettingError
from discreet.evaluation.attacks.figures import Figure, Service
from discreet.evaluation.audit.people import rows, stacked
from discreet.evaluation.ranking import top
from discreet.models.trained import Trained
from discreet.training.populations import Work

SHARES = (0.0, 0.01, 0.05, 0.2)
"""Accounts that are tried, in people of the data."""

LISTED, MOST_ASKED = 10, 500
FILLERS, POPULAR, LONG = 5, 50, 30
"""Popular items of an account, of how many; and of an account that is made to weigh much."""

TARGETS = 0.2, 0.5
"""Targets are taken from between these shares of the catalogue, by popularity: known to some, recommended to few."""


def poisoning(service: Service, *, shares: tuple[float, ...] = SHARES, targets: int = 5) -> list[Figure]:
    """Return the share of people whose list of ten holds the target, for each number of accounts, and the bound.

    Accounts take the places of people who are left out, so that everything public stays as it is.

    Args:
        service: what is attacked.
        shares: accounts to try, as shares of the people, below a half.
        targets: items, each pushed in a run of its own.

    Raises:
        SettingError: a share is out of its range.
    """
    if not all(0 <= share < 0.5 for share in shares):
        raise SettingError("accounts are from none to half as many as people")
    matrix, random = service.histories.matrix, service.random
    accounts = [round(share * matrix.shape[0]) for share in shares]
    order = np.argsort(-matrix.sum(axis=0), kind="stable")
    among = order[int(TARGETS[0] * len(order)) : max(int(TARGETS[1] * len(order)), targets + 1)]
    chosen = random.permutation(among)[:targets]
    places = random.permutation(np.flatnonzero(service.lengths > 0))
    asked = matrix[places[max(accounts) :][:MOST_ASKED]]
    figures = []
    for count in accounts:
        stay = np.setdiff1d(np.arange(matrix.shape[0]), places[:count])
        exposed = [
            exposure(service.released(stacked(matrix[stay], sybils(order, int(item), count, random))), asked, int(item))
            for item in chosen
        ]
        figures.append(service.of_values("poisoning", f"{count} accounts: lists of ten with the target", exposed, 0.0))
    return [*figures, *_shifts(service, order, int(chosen[0]), max(1, *accounts))]


def sybils(order: NDArray[np.int64], target: int, count: int, random: np.random.Generator) -> Rows:
    """Return the histories of accounts that all push the target beside some of the first items of ``order``."""
    popular = order[order != target][: min(POPULAR, len(order) // 2)]
    return rows([np.append(random.permutation(popular)[:FILLERS], target) for _ in range(count)], len(order))


def exposure(trained: Trained, asked: Rows, target: int) -> float:
    """Return the share of lists of ten that hold the target, of whoever does not have it yet."""
    others = asked[np.flatnonzero(asked[:, [target]].toarray()[:, 0] == 0)]
    scores = trained.scores(others)
    scores[others.nonzero()] = -np.inf
    listed = top(scores, min(LISTED, scores.shape[1]))
    return float((listed == target).any(axis=1).mean())


def _shifts(service: Service, order: NDArray[np.int64], target: int, count: int) -> list[Figure]:
    """Return the longest shift of a sum per account, of equal accounts with long histories.

    In bounds, of which it is at most 1. Without noise there is no bound: then it is in lengths of the row of a person
    with a single item.
    """
    watched, long = service.transcript(service.histories.matrix), np.append(order[order != target][:LONG], target)
    forged = rows([long] * count, len(order))
    single, unit = rows([[target]], len(order)), []
    for state, released in zip(watched.states, watched.released, strict=True):
        work = Work(watched.model, state, released.bound)
        shift = np.sqrt((work(forged).total.astype(np.float64) ** 2).sum()) / count
        whole = float(np.sqrt(work(single).squared_norms.max())) if service.epsilon == np.inf else released.bound
        unit.append(shift / max(whole, 1.0))
    of = "rows of one item" if service.epsilon == np.inf else "bounds, at most 1"
    return [service.of_values("poisoning", f"largest shift of a sum per account, in {of}", [max(unit)])]
