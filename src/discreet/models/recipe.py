"""Which model, which settings and which plan: from public numbers alone.

The recipe reads how many people there are, how many items, and the budget. It never looks at a history, so choosing
costs nothing. What matters is ``strength = people * mu``: a sum over n people stands out of noise in proportion to it.

==========  ====================================================================================================
choice      rule
==========  ====================================================================================================
model       below a strength of ``LEAST_STRENGTH`` popularity, else ``subspace``
kept        a fifth of the strength, at least 300 items: the noise edge of a pass grows with its square root
rank        16, 32, 64 as the strength passes 2,500 and 20,000, at most an eighth of kept; twice that in the first pass
budget      a tenth for the counts, more if the strength is below 2,000; of the rest 40 % for the first pass
==========  ====================================================================================================
"""

from __future__ import annotations

import math
from typing import Literal, get_args

from discreet.errors import SettingError
from discreet.models.als import Als
from discreet.models.base import Model
from discreet.models.gram import Gram
from discreet.models.popularity import Popularity
from discreet.models.sgd import Sgd
from discreet.models.subspace import Subspace
from discreet.privacy.accounting import GRID_BITS, mu_of
from discreet.privacy.plan import OPEN_BOUND, Plan

Kind = Literal["auto", "popularity", "subspace", "gram", "als", "als-adaptive", "sgd"]

LEAST_STRENGTH = 200.0
KEPT_SHARE = 0.2
FIRST_SHARE = 0.4
"""Of what the passes get, for the first: its basis only has to point the second one."""

LEAST_KEPT = 300
KEPT_PER_RANK = 8
SHARED = 0.2
"""Of a history's squared length, what everybody shares; typical, and only used to place a rounding."""

GRAM_KEPT = 1_200
"""Largest Gram matrix with noise: its rows are dense."""
RIVAL_KEPT_PER_RANK = 16
ADAPTIVE = 0.25
"""How rare items are weighed up in ``als-adaptive``."""

EASE_RIDGE = 400.0
"""Of EASE without noise, on plain counts."""


def recipe(people: int, items: int, units: int | None, *, delta: float, kind: Kind = "auto") -> tuple[Model, Plan]:
    """Return the model and the plan for a budget.

    Args:
        people: how many take part; public.
        items: size of the catalogue; public.
        units: the budget in ledger units of mu^2; None for a run without noise.
        delta: at which the promise is read as an epsilon.
        kind: ``auto`` follows the rule; a name insists.

    Raises:
        SettingError: if the kind is unknown, or there are no people, no items or too small a budget.
    """
    if people < 1 or items < 1:
        raise SettingError("a recommender needs at least one person and one item")
    model, shares = _chosen(kind, people, items, None if units is None else mu_of(units))
    if units is None:
        return model, Plan.without_noise(model.rounds, delta=delta)
    return model, Plan.sharing(units, shares, delta=delta)


def _chosen(kind: Kind, people: int, items: int, mu: float | None) -> tuple[Model, tuple[float, ...]]:
    strength = people * mu if mu is not None else math.inf
    kept = int(min(items, max(LEAST_KEPT, KEPT_SHARE * min(strength, 1e12))))
    if kind == "popularity" or (kind == "auto" and strength < LEAST_STRENGTH):
        return Popularity(items=items), (1.0,)
    if kind in {"auto", "subspace"}:
        return _subspace(people, items, kept, mu)
    if kind == "gram":
        if mu is None:
            return Gram(items=items, kept=items, private=False, ridge=EASE_RIDGE), (0.1, 0.9)
        return Gram(items=items, kept=min(kept, GRAM_KEPT)), (0.1, 0.9)
    if kind in {"als", "als-adaptive"}:
        return _als(people, items, kept, strength, rarity=ADAPTIVE if kind == "als-adaptive" else 0.0)
    if kind == "sgd":
        return _sgd(people, items, kept, strength)
    raise SettingError(f"unknown model {kind!r}: choose {', '.join(get_args(Kind))}")


def _subspace(people: int, items: int, kept: int, mu: float | None) -> tuple[Model, tuple[float, ...]]:
    strength = people * mu if mu is not None else math.inf
    rank = 16 if strength < 2_500 else 32 if strength < 20_000 else 64
    rank = max(2, min(rank, kept // KEPT_PER_RANK))
    # People's own differences stand against a direction too, with singular values of about sqrt(people / rank); without
    # noise they are all that does.
    ridge = (0.25 if mu is not None else 2.0) * (people / rank) ** 0.5
    counts = min(0.4, max(0.1, 200 / strength))
    shares = (counts, (1 - counts) * FIRST_SHARE, (1 - counts) * (1 - FIRST_SHARE))
    bound = mu * 2**GRID_BITS * shares[1] ** 0.5 if mu is not None else OPEN_BOUND
    direction = max(2.0, (SHARED * kept * bound**2 / (2 * rank)) ** 0.25)
    ranks = (2 * rank, rank)
    model = Subspace(people=people, mu=mu, items=items, kept=kept, ranks=ranks, direction=direction, ridge=ridge)
    return model, shares


def _als(people: int, items: int, kept: int, strength: float, rarity: float) -> tuple[Model, tuple[float, ...]]:
    size = _rival_rank(kept, strength)
    sweeps, noise_reg = (2, 2.0) if strength < 6_000 else (3, 1.0)
    model = Als(
        people=people, items=items, kept=kept, embedding_size=size, sweeps=sweeps, noise_reg=noise_reg, rarity=rarity
    )
    return model, (0.1, *[0.9 / sweeps] * sweeps)


def _sgd(people: int, items: int, kept: int, strength: float) -> tuple[Model, tuple[float, ...]]:
    model = Sgd(people=people, items=items, kept=kept, embedding_size=min(24, _rival_rank(kept, strength)))
    return model, (0.1, *[0.9 / model.steps] * model.steps)


def _rival_rank(kept: int, strength: float) -> int:
    rank = 16 if strength < 6_000 else 24 if strength < 20_000 else 32
    return max(2, min(rank, kept // RIVAL_KEPT_PER_RANK))
