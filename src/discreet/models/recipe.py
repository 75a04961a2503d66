"""Which model, which settings and which plan: from public numbers alone.

The recipe reads how many people there are, how many items, whether the catalogue has tags, and the budget. It never
looks at a history, so choosing costs nothing. What matters is ``strength = people * mu``: a sum over n people stands
out of noise in proportion to it.

==========  ====================================================================================================
choice      rule
==========  ====================================================================================================
model       ``popularity`` below a strength of ``LEAST_STRENGTH``; ``gram`` from ``GRAM_STRENGTH`` times the number of
            items, unless its matrix would be too large; else ``subspace``
kept        0.17 strength^0.7 items^0.3, at least 300: the noise edge of a pass grows with its square root
rank        16, 24, 32, 64 as the strength passes 2,000, 4,500 and 8,000, at most an eighth of kept; twice in the scout
budget      an eighth for the counts, more if the strength is below 1,600; of the rest a tenth for the scout, whose
            items are a twentieth of the strength, at least 100; what is left is divided evenly among three passes
with tags   kept 0.2 strength^0.4 items^0.6, at least 300, since tags say something of items that few people chose; two
            passes after the scout below a strength of 4,500
==========  ====================================================================================================
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Literal, get_args

from discreet.errors import SettingError
from discreet.models.als import Als
from discreet.models.base import Model
from discreet.models.gram import Gram
from discreet.models.ials import Ials
from discreet.models.popularity import Popularity
from discreet.models.sgd import Sgd
from discreet.models.subspace import Subspace
from discreet.privacy.accounting import GRID_BITS, mu_of
from discreet.privacy.plan import OPEN_BOUND, Plan
from discreet.privacy.records import Weights

Kind = Literal["auto", "popularity", "subspace", "gram", "ials", "als", "als-adaptive", "sgd"]

LEAST_STRENGTH = 200.0
KEPT_SHARE, OF_STRENGTH, OF_ITEMS = 0.17, 0.7, 0.3
LEAST_KEPT = 300
TAGGED_SHARE, TAGGED_OF_STRENGTH, TAGGED_OF_ITEMS = 0.2, 0.4, 0.6
"""The same with tags."""

TAGGED_PASSES = ((4_500, 3), (0, 2))
"""From which strength on, and how many passes, with tags."""

RANKS = ((8_000, 64), (4_500, 32), (2_000, 24))
"""From which strength on, and what."""

LEAST_RANK = 16
KEPT_PER_RANK = 8
SCOUTED_SHARE, LEAST_SCOUTED = 0.05, 100
SCOUT_SHARE = 0.1
"""Of what the passes get, for the first."""

SHARED = 0.2
"""Of a history's squared length, what everybody shares; typical, and only used to place a rounding."""

GRAM_STRENGTH = 12.0
"""Strength per item from which a whole Gram matrix stands out of its noise better than passes do."""

GRAM_KEPT = 4_000
"""Largest Gram matrix: it has to be inverted."""

GRAM_STRAINED = 1_200
"""The same where noise is strong, and more items are more of it."""

RIVAL_KEPT_SHARE = 0.2
RIVAL_KEPT_PER_RANK = 16
ADAPTIVE = 0.25
"""How rare items are weighed up in ``als-adaptive``."""

IALS_RANK = 64
"""Of iALS without noise."""

IALS_HISTORY = 4_096
"""Longest history that counts in full in iALS without noise; a row is at most about twice the root of its length."""

IALS_STRENGTH = 10_000.0
"""From which strength on a third sweep is worth its noise."""

EASE_RIDGE = 400.0
"""Of EASE without noise, on plain counts."""


def recipe(
    people: int,
    items: int,
    units: int | None,
    *,
    delta: float,
    kind: Kind = "auto",
    tagged: bool = False,
    weights: Weights = (),
) -> tuple[Model, Plan]:
    """Return the model and the plan for a budget.

    Args:
        people: how many take part; public.
        items: size of the catalogue; public.
        units: the budget in ledger units of mu^2; None for a run without noise.
        delta: at which the promise is read as an epsilon.
        kind: ``auto`` follows the rule; a name insists.
        tagged: whether the catalogue has tags; public.
        weights: of the sensitive categories that the catalogue declares; public. Without noise they do not matter.

    Raises:
        SettingError: if the kind is unknown, or there are no people, no items or too small a budget.
    """
    if people < 1 or items < 1:
        raise SettingError("a recommender needs at least one person and one item")
    model, shares = _chosen(kind, people, items, None if units is None else mu_of(units), tagged=tagged)
    if units is None:
        return model, Plan.without_noise(model.rounds, delta=delta)
    return model, replace(Plan.sharing(units, shares, delta=delta), weights=weights)


def _chosen(kind: Kind, people: int, items: int, mu: float | None, *, tagged: bool) -> tuple[Model, tuple[float, ...]]:
    strength = people * mu if mu is not None else math.inf
    if kind == "auto":
        kind = _automatic(items, strength)
    if kind == "popularity":
        return Popularity(items=items), (1.0,)
    if kind == "subspace":
        return _subspace(people, items, mu, tagged=tagged)
    if kind == "gram":
        return _gram(people, items, mu)
    rival_kept = int(min(items, max(LEAST_KEPT, RIVAL_KEPT_SHARE * min(strength, 1e12))))
    if kind == "ials":
        return _ials(people, items, rival_kept, strength)
    if kind in {"als", "als-adaptive"}:
        return _als(people, items, rival_kept, strength, rarity=ADAPTIVE if kind == "als-adaptive" else 0.0)
    if kind == "sgd":
        return _sgd(people, items, rival_kept, strength)
    raise SettingError(f"unknown model {kind!r}: choose {', '.join(get_args(Kind))}")


def _automatic(items: int, strength: float) -> Kind:
    if strength < LEAST_STRENGTH:
        return "popularity"
    return "gram" if strength >= GRAM_STRENGTH * items and items <= GRAM_KEPT else "subspace"


def _subspace(people: int, items: int, mu: float | None, *, tagged: bool) -> tuple[Model, tuple[float, ...]]:
    strength = people * mu if mu is not None else math.inf
    kept = _kept_of_tagged(items, strength) if tagged else _kept(items, strength)
    rank = next((rank for least, rank in RANKS if strength >= least), LEAST_RANK)
    rank = max(2, min(rank, kept // KEPT_PER_RANK))
    # People's own differences stand against a direction too, with singular values of about sqrt(people / rank); without
    # noise they are all that does.
    ridge = (0.25 if mu is not None else 2.0) * (people / rank) ** 0.5
    counts = min(0.4, max(0.125, 200 / strength))
    passes = next(passes for least, passes in TAGGED_PASSES if strength >= least) if tagged else Subspace.passes
    a_pass = (1 - counts) * (1 - SCOUT_SHARE) / passes
    shares = (counts, (1 - counts) * SCOUT_SHARE, *[a_pass] * passes)
    bound = mu * 2**GRID_BITS * a_pass**0.5 if mu is not None else OPEN_BOUND
    direction = max(2.0, (SHARED * kept * bound**2 / rank) ** 0.25)
    scouted = int(min(kept, max(LEAST_SCOUTED, SCOUTED_SHARE * min(strength, 1e12))))
    sizes = {"people": people, "items": items, "kept": kept, "scouted": scouted, "rank": rank, "passes": passes}
    return Subspace(**sizes, mu=mu, direction=direction, ridge=ridge), shares


def _kept(items: int, strength: float) -> int:
    if strength == math.inf:
        return items
    return int(min(items, max(LEAST_KEPT, KEPT_SHARE * strength**OF_STRENGTH * items**OF_ITEMS)))


def _kept_of_tagged(items: int, strength: float) -> int:
    if strength == math.inf:
        return items
    share = TAGGED_SHARE * strength**TAGGED_OF_STRENGTH * items**TAGGED_OF_ITEMS
    return int(min(items, max(LEAST_KEPT, share)))


def _gram(people: int, items: int, mu: float | None) -> tuple[Model, tuple[float, ...]]:
    if mu is None:
        return Gram(people=people, items=items, kept=items, private=False, ridge=EASE_RIDGE), (0.1, 0.9)
    strength = people * mu
    bearable = strength >= GRAM_STRENGTH * items
    kept = min(items, GRAM_KEPT) if bearable else min(_kept(items, strength), GRAM_STRAINED)
    return Gram(people=people, items=items, kept=kept), (0.1, 0.9)


def _ials(people: int, items: int, kept: int, strength: float) -> tuple[Model, tuple[float, ...]]:
    if strength == math.inf:
        size, longest = max(2, min(IALS_RANK, items // RIVAL_KEPT_PER_RANK)), 4.0 * min(items, IALS_HISTORY) ** 0.5
        model = Ials(people=people, items=items, kept=items, embedding_size=size, private=False, longest=longest)
    else:
        size, sweeps = _rival_rank(kept, strength), 2 if strength < IALS_STRENGTH else 3
        model = Ials(people=people, items=items, kept=kept, embedding_size=size, sweeps=sweeps)
    return model, (0.1, *[0.9 / model.sweeps] * model.sweeps)


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
