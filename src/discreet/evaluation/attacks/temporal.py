"""Watching related items change: Calandrino, Kilzer, Narayanan, Felten, Shmatikov, "You might also like" (2011).

The attacker knows some items of a person (*auxiliary*) and watches what each is said to be related to: the best
``DEPTH`` items for a history of that item alone. Between two releases the person takes up a few new items. An item that
rises on many of the lists at once is guessed to be one of them. Others move in the meantime, too.

The worst case for the person is that nobody else moves, and that the attacker knows many of their items. Chance is what
the same guesses would find of people who did not move: an item that is on many lists is also on many people's.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from discreet.data.interactions import Rows
from discreet.errors import SettingError
from discreet.evaluation.attacks.figures import Figure, Service
from discreet.evaluation.audit.people import rows
from discreet.evaluation.ranking import top

DEPTH = 50
SHAPES = ((20, 5), (8, 2), (4, 1))
"""Auxiliary and new items: as in the paper, or, where too few people have so many, fewer."""

FALLING = 0.25
"""What a fall on one list takes off the score, against a rise: it is weak evidence that others moved."""

CONTROLS = 100
"""People who did not move, of whom the same is guessed: popular items rise, and are many people's."""

Related = Callable[[Rows, NDArray[np.int64]], NDArray[np.float32]]
"""What a release says of each of some items: scores of all, float32 [asked, items]."""


def temporal_inference(
    service: Service, *, trials: int = 60, moving: int = 0, lists: Related | None = None
) -> list[Figure]:
    """Return how often the item that rose most is one of the person's new ones.

    Args:
        service: what is attacked; each release is a training of its own.
        trials: people attacked, each with two releases.
        moving: others who take up as many new items between the releases.
        lists: of another recommender; by default, the service's.

    Raises:
        SettingError: too few people have enough items.
    """
    known, new = _shape(service, trials)
    random = service.random
    able = random.permutation(np.flatnonzero(service.lengths >= known + new))[:trials]
    asked = lists or service_lists(service)
    found = [_found(service, int(person), (known, new, moving), random, asked) for person in able]
    what = f"{known} items known, {new} new, {moving} others move: best guess right"
    right, chance = sum(right for right, _ in found), float(np.mean([chance for _, chance in found]))
    return [service.of_share("temporal", what, right, len(found), chance)]


def _shape(service: Service, trials: int) -> tuple[int, int]:
    for known, new in SHAPES:
        if (service.lengths >= known + new).sum() >= max(trials, 1):
            return known, new
    raise SettingError(f"temporal inference needs {trials} people with {sum(SHAPES[-1])} items each, or fewer trials")


def service_lists(service: Service) -> Related:
    """Return what a service shows as related to an item: its list for whoever has that item alone."""

    def related(matrix: Rows, asked: NDArray[np.int64]) -> NDArray[np.float32]:
        return service.released(matrix).scores(rows([[item] for item in asked], matrix.shape[1]))

    return related


def cosines(matrix: Rows, asked: NDArray[np.int64]) -> NDArray[np.float32]:
    """Return exact item-item cosines, what the paper attacked: for showing what happens without privacy."""
    plain = matrix.astype(np.float32)
    together = (plain[:, asked].T @ plain).toarray()
    counts = np.maximum(plain.sum(axis=0), 1)
    related: NDArray[np.float32] = (together / np.sqrt(counts[asked, None] * counts)).astype(np.float32)
    return related


def _found(
    service: Service, person: int, sizes: tuple[int, int, int], random: np.random.Generator, lists: Related
) -> tuple[bool, float]:
    """Return whether the guess is one of the person's new items, and how often it would be one of somebody else's."""
    after, (known, new, moving) = service.histories.matrix, sizes
    own = random.permutation(after[[person]].indices).astype(np.int64)
    added, auxiliary = own[:new], own[new : new + known]
    others = np.setdiff1d(random.permutation(np.flatnonzero(service.lengths > new))[:moving], [person])
    taken = {int(other): random.permutation(after[[other]].indices)[:new] for other in others}
    before = without(after, taken | {person: added})
    ranks = [_ranks(lists(matrix, auxiliary), auxiliary) for matrix in (before, after)]
    score = (ranks[1] < ranks[0]).sum(axis=0) - FALLING * (ranks[1] > ranks[0]).sum(axis=0)
    score[auxiliary] = -np.inf
    guess = int(np.argmax(score + 1e-6 * random.random(len(score))))
    controls = np.setdiff1d(random.permutation(np.flatnonzero(service.lengths >= known + new))[:CONTROLS], [person])
    chances = [_chance(after[[other]].indices, auxiliary, guess, new) for other in controls]
    return guess in added, float(np.mean(chances))


def _chance(items: NDArray[np.int32], auxiliary: NDArray[np.int64], guess: int, new: int) -> float:
    """Return how likely the guess is among ``new`` items of somebody who did not move, drawn as the person's were."""
    left = np.setdiff1d(items, auxiliary)
    return float(guess in left) * min(1.0, new / max(1, len(left)))


def without(matrix: Rows, taken: dict[int, NDArray[np.int64]]) -> Rows:
    """Return the rows less some items of some people."""
    changed = matrix.copy()
    for person, items in taken.items():
        start, end = matrix.indptr[person : person + 2]
        changed.data[start:end][np.isin(matrix.indices[start:end], items)] = 0
    changed.eliminate_zeros()
    return changed


def _ranks(scores: NDArray[np.float32], asked: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return each item's place on each list, from 0; ``DEPTH`` where it is on none."""
    scores = scores.copy()
    scores[np.arange(len(asked)), asked] = -np.inf
    ranks = np.full(scores.shape, DEPTH)
    best = top(scores, min(DEPTH, scores.shape[1]))
    np.put_along_axis(ranks, best, np.arange(best.shape[1])[None], axis=1)
    return ranks
