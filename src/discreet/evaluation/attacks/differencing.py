"""What a deletion gives away: two releases, before and after one person's history is taken out.

The attacker has all that both runs released, and takes one from the other: the rest is the person's row, and noise.
Counts are read item by item; a Gram matrix by the leading eigenvector of the difference. They name as many items as the
person has. *Chance* is what the same guesses find of other people, so that popular items count for nothing.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.sparse.linalg import eigsh

from discreet.data.interactions import Rows
from discreet.errors import SettingError
from discreet.evaluation.attacks.figures import Figure, Service
from discreet.evaluation.audit.people import only
from discreet.evaluation.transcripts import Watched
from discreet.models.gram import Gram
from discreet.randomness import NoiseSource

LEAST_ITEMS, CONTROLS = 4, 100

Evidence = NDArray[np.float64]
"""By item, larger where the person rather has it, float64 [items]."""


def differencing(service: Service, *, trials: int = 20, reused: bool = False) -> list[Figure]:
    """Return which share of a deleted person's items are found.

    Args:
        service: what is attacked.
        trials: people, each with two releases.
        reused: make both releases with the same noise, as a key derived from a release's name would.

    Raises:
        SettingError: too few people have four items.
    """
    random, matrix = service.random, service.histories.matrix
    typical = max(LEAST_ITEMS, np.median(service.lengths))
    able = random.permutation(np.flatnonzero(service.lengths >= typical))
    if len(able) < trials + 2:
        raise SettingError(f"differencing needs more than {trials + 1} people with {typical:.0f} items each")
    found: dict[str, list[tuple[float, float]]] = {}
    for number, person in enumerate(able[:trials]):
        controls = able[trials : trials + CONTROLS]
        for name, evidence in _differences(service, int(person), number if reused else None).items():
            found.setdefault(name, []).append(_found(matrix, evidence, int(person), controls))
    how = ", noise used twice" if reused else ""
    return [
        service.of_values("differencing", f"{name}{how}: items found", [own for own, _ in pairs], _mean(pairs))
        for name, pairs in found.items()
    ]


def _mean(pairs: list[tuple[float, float]]) -> float:
    return float(np.mean([chance for _, chance in pairs]))


def _differences(service: Service, person: int, seed: int | None) -> dict[str, Evidence]:
    stay = np.arange(len(service.histories)) != person
    sources = [None if seed is None else NoiseSource(insecure_test_seed=seed) for _ in range(2)]
    matrices = (service.histories.matrix, only(service.histories.matrix, stay))
    before, after = (service.transcript(matrix, source) for matrix, source in zip(matrices, sources, strict=True))
    counts = before.released[0].values - after.released[0].values
    found = {"counts": counts}
    if isinstance(before.model, Gram):
        found["Gram matrix"] = _leading(before, after)
    return found


def _leading(before: Watched, after: Watched) -> Evidence:
    """Return the weights of the items in the leading eigenvector of the difference of both Gram matrices."""
    kept = np.intersect1d(before.states[1]["kept"], after.states[1]["kept"])
    places = [np.searchsorted(run.states[1]["kept"], kept) for run in (before, after)]
    difference = _square(before, places[0]) - _square(after, places[1])
    start = np.ones(len(kept))  # fixed, so that the guess depends on what was released alone
    _, vector = eigsh(difference, k=1, which="LA", v0=start)
    evidence = np.full(before.model.items, -np.inf)
    evidence[kept] = np.abs(vector[:, 0])
    return evidence


def _square(run: Watched, places: NDArray[np.int64]) -> NDArray[np.float64]:
    size, values = len(run.states[1]["kept"]), run.released[1].values
    matrix = np.zeros((size, size))
    matrix[np.triu_indices(size)] = values
    matrix += np.triu(matrix, 1).T
    return matrix[np.ix_(places, places)]


def _found(matrix: Rows, evidence: Evidence, person: int, controls: NDArray[np.int64]) -> tuple[float, float]:
    """Return the share of guesses that are right of the person, and of others on average."""
    own = matrix[[person]].indices
    guessed = np.argsort(-evidence, kind="stable")[: len(own)]
    mask = np.zeros(matrix.shape[1])
    mask[guessed] = 1.0
    others = (matrix[controls] @ mask) / np.minimum(np.diff(matrix[controls].indptr), len(own))
    return float(mask[own].mean()), float(others.mean())
