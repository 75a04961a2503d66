"""Why a list is as it is: what each item of the history added, and how sure each rank is, given the known noise.

Both are read off the released model, so they cost nothing, and touch nobody's data but the history that is asked about.

*What drove a rank.* Where scores are sums over the history (``Explainable``), what an item adds is exact: it all adds
up to the score. Elsewhere (``als``, ``sgd``: a person's factor is solved for) what an item adds is what the score
loses without it, also exact, but these do not add up.

*How sure a rank is.* The noise that fell on the sums is known in distribution. Other noise is drawn, by public
randomness, ``draws`` times; lists are made anew; a range of ranks leaves out as many of them on either side as its
level says. What is drawn is what a repetition could have released given what was: noise for the repetition, and as much
for what this release did not tell. How often the ranges hold is measured: ``docs/explain.md``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from discreet.errors import SettingError
from discreet.models.base import Explainable, State
from discreet.models.slate import Slate, best
from discreet.privacy.plan import Plan
from discreet.randomness import public_generator

if TYPE_CHECKING:
    from discreet.models.trained import Trained

DRAWS = 39
"""Of other noise: with 39, leaving out 4 on either side leaves exactly 80 % of the 40 places between them."""

LEVEL = 0.8
SEED = 0

Rule = Literal["sum", "count", "leave-one-out"]
Progress = Callable[[int], None]
"""Told how many draws are done."""


@dataclass(frozen=True)
class Reason:
    """An item of the history.

    Attributes:
        item: its id.
        title: what to show.
        adds: to the score; may be negative.
        share: of all that the history's items add, absolute values throughout; in [-1, 1].
    """

    item: str | int
    title: str
    adds: float
    share: float


@dataclass(frozen=True)
class Rank:
    """A place in a list, and why.

    Attributes:
        rank: from 1.
        item: its id.
        title: what to show.
        score: of the model.
        rule: ``sum``: the reasons add up to the score. ``count``: the item is where it is because of how many people
            know it; there are no reasons. ``leave-one-out``: a reason is what the score loses without it.
        reasons: items of the history, the strongest first, those that add nothing left out.
        between: lowest and highest rank under other noise, at ``Explanation.level``; None if that is not known. The
            rank itself may lie outside: noise may have favoured the item.
        stays: share of the draws in which the item is in a list of this length; None if that is not known.
    """

    rank: int
    item: str | int
    title: str
    score: float
    rule: Rule
    reasons: tuple[Reason, ...]
    between: tuple[int, int] | None
    stays: float | None


@dataclass(frozen=True)
class Explanation:
    """A list for one person, and why it is as it is. It is that person's: it quotes their history.

    Attributes:
        ranks: best first.
        unknown: how many items of the history are not in the catalogue and were left out of account.
        silent: how many of the others add nothing to any of these scores: too few people know them.
        draws: of other noise; 0 if the model's noise cannot be redrawn, or there was none.
        level: share of repetitions that each range is meant to hold.
    """

    ranks: tuple[Rank, ...]
    unknown: int
    silent: int
    draws: int
    level: float

    def __iter__(self) -> Iterator[Rank]:
        return iter(self.ranks)

    def __len__(self) -> int:
        return len(self.ranks)

    def to_dict(self, *, scores: bool = False) -> dict[str, Any]:
        """Return JSON values; scores and what adds up to them only if asked for, since they tell more of the model."""
        return {
            "items": [_rank_dict(rank, scores) for rank in self.ranks],
            "unknown": self.unknown,
            "silent": self.silent,
            "draws": self.draws,
            "level": self.level if self.draws else None,
        }


def explain(
    trained: Trained, history: Iterable[str | int], n: int, *, draws: int = DRAWS, progress: Progress | None = None
) -> Explanation:
    """Return the list that ``trained.recommend`` makes for ``history``, explained. See ``Trained.explain``."""
    if draws < 0:
        raise SettingError(f"draws must be at least 0, got {draws}")
    known, unknown = trained.catalogue.positions(history)
    row = one_history(known, len(trained.catalogue))
    slate = best(trained.scores(row)[0], trained.catalogue, n, exclude=known, unknown=unknown)
    listed = np.array([trained.catalogue.positions([item])[0][0] for item in slate], np.int64)
    ranks = other_ranks(trained, row, listed[None], draws, progress=progress)
    rule, adds = _adds(trained, known, listed)
    explained = tuple(
        _rank(trained, slate, place, rule, (known, adds[:, place]), None if ranks is None else ranks[:, 0, place])
        for place in range(len(slate))
    )
    silent = int((adds == 0).all(axis=1).sum())
    return Explanation(explained, unknown, silent, 0 if ranks is None else len(ranks), LEVEL)


def other_ranks(
    trained: Trained,
    histories: csr_array,
    listed: NDArray[np.int64],
    draws: int = DRAWS,
    *,
    progress: Progress | None = None,
) -> NDArray[np.int64] | None:
    """Return the ranks that items would have under other noise, int64 [draws, people, n]; None if that is not known.

    Args:
        trained: the released model.
        histories: [people, items], ones.
        listed: positions [people, n] of the items that are asked about, none of them in the history.
        draws: of other noise, by public randomness: the same every time.
        progress: told after each.
    """
    model, random = trained.model, public_generator(SEED)
    sigmas = noise_of(trained.plan)
    if not isinstance(model, Explainable) or draws < 1:
        return None
    found: list[NDArray[np.int64]] = []
    for number in range(draws):
        state: State | None = model.redrawn(trained.state, sigmas, random)
        if state is None:
            return None
        found.append(ranks_of(model.scores(histories, state), histories, listed))
        if progress:
            progress(number + 1)
    return np.stack(found)


def ranks_of(scores: NDArray[np.float32], histories: csr_array, listed: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the rank from 1 of each listed item [people, n] among what is not in the history, ties in catalogue order.

    Args:
        scores: float32 [people, items].
        histories: [people, items].
        listed: positions [people, n].
    """
    ranked = scores.copy()
    ranked[histories.nonzero()] = -np.inf
    ranks = np.empty(listed.shape, np.int64)
    for person, items in enumerate(listed):
        own, place = ranked[person, items][:, None], items[:, None]
        before = (ranked[person] > own) | ((ranked[person] == own) & (np.arange(ranked.shape[1]) < place))
        ranks[person] = 1 + before.sum(axis=1)
    return ranks


def ranges_of(ranks: NDArray[np.int64], level: float = LEVEL) -> NDArray[np.int64]:
    """Return lowest and highest [2, ...] of ranks [draws, ...] that leave out as little as ``level`` allows.

    With d draws that are exchangeable with a repetition, the repetition lies between the k-th of either side with a
    chance of at least 1 - 2 k / (d + 1).
    """
    draws = len(ranks)
    cut = max(1, int((1 - level) / 2 * (draws + 1) + 1e-9))
    ordered = np.sort(ranks, axis=0)
    return np.stack([ordered[cut - 1], ordered[draws - cut]])


def noise_of(plan: Plan) -> tuple[float, ...]:
    """Return the standard deviation of each round's noise, in whole contributions; zeros where there is none."""
    return tuple(plan.deviation / bound for bound in plan.bounds)


def one_history(known: NDArray[np.int64], items: int) -> csr_array:
    """Return [1, items] for the positions of a history."""
    return csr_array((np.ones(len(known), np.int8), known, [0, len(known)]), shape=(1, items))


def _adds(trained: Trained, known: NDArray[np.int64], listed: NDArray[np.int64]) -> tuple[Rule, NDArray[np.float64]]:
    if isinstance(trained.model, Explainable):
        return "sum", trained.model.adds(trained.state, known, listed)
    items = len(trained.catalogue)
    whole = trained.scores(one_history(known, items))[0, listed].astype(np.float64)
    without = [trained.scores(one_history(np.delete(known, place), items))[0, listed] for place in range(len(known))]
    return "leave-one-out", np.array([whole - scores for scores in without]).reshape(len(known), len(listed))


def _rank(
    trained: Trained,
    slate: Slate,
    place: int,
    rule: Rule,
    added: tuple[NDArray[np.int64], NDArray[np.float64]],
    ranks: NDArray[np.int64] | None,
) -> Rank:
    reasons = _reasons(trained, *added)
    between = None if ranks is None else ranges_of(ranks)
    return Rank(
        rank=place + 1,
        item=slate.items[place],
        title=slate.titles[place],
        score=slate.scores[place],
        rule=rule if reasons else "count",
        reasons=reasons,
        between=None if between is None else (int(between[0]), int(between[1])),
        stays=None if ranks is None else float((ranks <= len(slate)).mean()),
    )


def _reasons(trained: Trained, known: NDArray[np.int64], adds: NDArray[np.float64]) -> tuple[Reason, ...]:
    whole = float(np.abs(adds).sum())
    return tuple(
        Reason(
            trained.catalogue.ids[known[each]],
            trained.catalogue.title(int(known[each])),
            float(adds[each]),
            float(adds[each]) / whole,
        )
        for each in np.argsort(-np.abs(adds), kind="stable")
        if adds[each]
    )


def _rank_dict(rank: Rank, scores: bool) -> dict[str, Any]:
    known = {
        "rank": rank.rank,
        "item_id": rank.item,
        "title": rank.title,
        "between": None if rank.between is None else list(rank.between),
        "stays": rank.stays,
        "rule": rank.rule,
        "reasons": [
            {"item_id": each.item, "title": each.title, "share": each.share} | ({"adds": each.adds} if scores else {})
            for each in rank.reasons
        ],
    }
    return known | ({"score": rank.score} if scores else {})
