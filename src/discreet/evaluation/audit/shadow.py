"""One model's own audit: its settings and its plan, run again on its data with canaries planted.

A shadow run is what made the model, but for its noise and for some people who do not exist; it is thrown away, so that
no canary ever enters a model that is served. The canaries know few items each, of those that the model counted most (or
their rows would be empty), and any two share at most one. What is published beside the model's claim are lower bounds
on epsilon from this run (see ``canaries``), and how well canaries could be told from the lists alone.

It takes the histories: whoever runs it may see them. Nothing about a person is in what comes out, but the bounds are
exact figures of this data, not private ones. Where people chose levels, canaries do, too, and each level is held to its
own part of the claim.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from typing import Any

import numpy as np
import rfc8785
from numpy.typing import NDArray

import discreet
from discreet.data.interactions import Histories, Interactions, Opened, Rows, rows_of
from discreet.documents import document, fields_of
from discreet.errors import ArtefactError, PurposeNotAllowed, SettingError
from discreet.evaluation.audit.canaries import SIZE, judged, seen
from discreet.evaluation.audit.findings import Claim
from discreet.evaluation.audit.people import only, transversal
from discreet.evaluation.audit.statistics import auc
from discreet.evaluation.tradeoff import PURPOSE
from discreet.evaluation.transcripts import Watched
from discreet.governance.checks import sha256
from discreet.models.popularity import most_popular
from discreet.models.trained import Trained
from discreet.privacy.accounting import epsilon_of, mu_of
from discreet.privacy.adjacency import Window
from discreet.privacy.levels import OFFERED, Level, Levels
from discreet.training.participants import Participants
from discreet.training.populations import Here, Levelled, Population
from discreet.training.rounds import Progress, layers_for, train

FORMAT = 2
ALPHA = 1e-3
"""Chance that a correct model fails its own audit."""
MOST, LEAST = 2_000, 100
"""Canaries: one for each person, within these."""


@dataclass(frozen=True, kw_only=True)
class OfLevel:
    """What was found of those at one level.

    Attributes:
        level: its name.
        canaries: how many had a row at all.
        mu_bound: lower bound on mu, which decides; all levels together are wrong with a chance of ``ALPHA``.
        mu_claim: claimed for the level.
    """

    level: str
    canaries: int
    mu_bound: float
    mu_claim: float

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> OfLevel:
        """Read the fields.

        Raises:
            ValueError: one is missing, or of another type.
        """
        return cls(**fields_of(cls, values))


@dataclass(frozen=True, kw_only=True)
class ShadowAudit:
    """What attacks on a shadow run of a model found, beside what the model promises. Holds nothing of a person.

    Attributes:
        release: the model's id in the ledger, or None.
        model: SHA-256 (hex) of the model file.
        epsilon: claimed, at ``delta``.
        delta: of the claim.
        canaries: how many of them had a row at all.
        mu_bound: lower bound on mu that decides, wrong with a chance of ``ALPHA``.
        mu_claim: claimed.
        epsilon_gaussian: lower bound at 95 %, if the noise is Gaussian; of all three, None is beyond all promises.
        epsilon_mu_gdp: lower bound at 95 %, if the mechanism is mu-GDP.
        epsilon_nothing: lower bound at 95 %, assuming nothing.
        auc_knowing: of pairs of a canary that is in and one that is not, how many whoever knows everybody else orders
            right; a coin flip gets 0.5.
        auc_lists: the same of whoever sees the lists alone.
        made: when (ISO 8601, UTC).
        version: of this package.
        levels: the same for each level; the figures above are those of ``light`` then. None if all give alike.
    """

    release: str | None
    model: str
    epsilon: float
    delta: float
    canaries: int
    mu_bound: float
    mu_claim: float
    epsilon_gaussian: float | None
    epsilon_mu_gdp: float | None
    epsilon_nothing: float | None
    auc_knowing: float
    auc_lists: float
    made: str
    version: str
    levels: tuple[OfLevel, ...] = ()

    @property
    def passed(self) -> bool:
        """Whether no claim was refuted."""
        return self.mu_bound <= self.mu_claim and all(each.mu_bound <= each.mu_claim for each in self.levels)

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as JSON values."""
        values = asdict(self) | {"levels": [asdict(level) for level in self.levels]}
        return {"format": FORMAT, "passed": self.passed, "private": False} | values

    def to_bytes(self) -> bytes:
        """Return the file's content: canonical JSON (RFC 8785)."""
        return rfc8785.dumps(self.to_dict())

    @classmethod
    def from_bytes(cls, content: bytes) -> ShadowAudit:
        """Read what ``to_bytes`` wrote.

        Raises:
            ArtefactError: it is something else.
        """
        try:
            stored = document(content)
            if stored.get("format") != FORMAT:
                raise ArtefactError("an audit of another version; audit the model anew")
            return cls(**fields_of(cls, stored))
        except ValueError as error:
            raise ArtefactError(f"not an audit of a model ({type(error).__name__}); audit it anew") from None


def audit_model(
    trained: Trained,
    data: Interactions | Opened,
    *,
    levels: Levels | None = None,
    population: Callable[[Opened], Population] = Here,
    progress: Progress | None = None,
) -> ShadowAudit:
    """Return what attacks on a shadow run find. It takes about three times as long as the training did.

    Args:
        trained: a private model.
        data: that it was learnt from, of its window; or histories of it, opened for ``measure-quality``.
        levels: that people chose; whoever is at ``off`` stays out of the shadow, as out of the model.
        population: who computes what people add.
        progress: told the shadow's rounds done and planned.

    Raises:
        SettingError: the model promises nothing; these are other data than it was learnt from; or its catalogue has
            no room for canaries.
        PurposeNotAllowed: the data was not collected for measuring.
    """
    histories = _opened(trained, data)
    people = Participants.of(histories, levels)
    if len(people.histories) != trained.people:
        raise SettingError(
            f"the model was learnt from {trained.people:,} people, these are {len(people.histories):,}: give the "
            "levels that were chosen; where people's own budgets left some out, it cannot be audited"
        )
    planted = canaries_of(trained, min(MOST, max(LEAST, len(people.histories))))
    random, plan = np.random.default_rng(), trained.plan
    inside = random.random(planted.shape[0]) < 0.5
    quarters = random.choice([level.value for level in OFFERED], len(inside)) if plan.levels else None
    crowd = people.population(population)
    canaries = Participants(_strangers(histories, only(planted, inside)), quarters).population(Here)
    watched = Watched(trained.model)
    everybody = Levelled([(Level.LIGHT, crowd), (Level.LIGHT, canaries)])
    shadow = train(watched, everybody, plan, spend=_unbilled, progress=progress)
    layers = layers_for(histories.catalogue, plan.weights)
    groups = seen(watched, plan, crowd, planted, inside, layers, quarters)
    if any(group.inside.all() or not group.inside.any() for group in groups.values()):
        raise SettingError("too few canaries have a row in this model; there is nothing to be found")
    claims = {level: plan.cost_at(level) for level in groups}
    judgements = {
        level: judged(group, Claim(epsilon_of(claims[level], plan.delta), plan.delta), ALPHA / len(groups))
        for level, group in groups.items()
    }
    whole, figures = groups[Level.LIGHT], judgements[Level.LIGHT].figures
    return ShadowAudit(
        release=trained.release,
        model=sha256(trained.to_bytes()),
        epsilon=trained.guarantee.epsilon,
        delta=plan.delta,
        canaries=sum(each.trials for each in judgements.values()),
        mu_bound=figures["mu_bound"],
        mu_claim=trained.guarantee.mu,
        epsilon_gaussian=_finite(figures["epsilon_95_z_gdp"]),
        epsilon_mu_gdp=_finite(figures["epsilon_95_f_dp"]),
        epsilon_nothing=_finite(figures["epsilon_95_steinke"]),
        auc_knowing=auc(whole.knowing[whole.inside], whole.knowing[~whole.inside]),
        auc_lists=_auc_of_lists(replace(shadow, model=trained.model), planted, inside),
        made=datetime.now(UTC).replace(tzinfo=None).isoformat(timespec="seconds") + "Z",
        version=discreet.__version__,
        levels=tuple(
            OfLevel(
                level=str(level),
                canaries=each.trials,
                mu_bound=each.figures["mu_bound"],
                mu_claim=mu_of(claims[level]),
            )
            for level, each in judgements.items()
            if plan.levels
        ),
    )


def canaries_of(trained: Trained, many: int) -> Rows:
    """Return canaries, [many, items], of the items that the model counted most; any two share at most one.

    Raises:
        SettingError: the catalogue is too small for so many; then there are as many as it has room for, if at all.
    """
    items = len(trained.catalogue)
    while many >= LEAST // 2 and transversal(many, SIZE)[1] * SIZE > items:
        many //= 2
    if many < LEAST // 2:
        raise SettingError(f"a catalogue of {items} items has no room for canaries")
    drawn, _ = transversal(many, SIZE)
    popular = most_popular(trained.state["counts"].astype(np.float64), drawn.shape[1])
    chosen = np.sort(popular[drawn.indices].reshape(many, SIZE), axis=1)
    return rows_of(np.full(many, SIZE), chosen.ravel().astype(np.int32), items)


def _auc_of_lists(shadow: Trained, planted: Rows, inside: NDArray[np.bool_]) -> float:
    """Order canaries by where the last item of each is in the list that its other items get."""
    known = planted.indices.reshape(-1, SIZE)
    folded = rows_of(np.full(len(known), SIZE - 1), known[:, :-1].ravel(), planted.shape[1])
    scores = shadow.scores(folded)
    mine = np.take_along_axis(scores, known[:, -1:], axis=1)
    worse = -(scores > mine).sum(axis=1).astype(np.float64)
    return auc(worse[inside], worse[~inside])


def _finite(bound: float) -> float | None:
    return bound if math.isfinite(bound) else None


def _strangers(histories: Opened, planted: Rows) -> Histories:
    """Return people of the same data set who are not in it."""
    people = tuple(range(planted.shape[0]))
    declared = histories.catalogue_is_declared
    return Histories(planted, people, None, histories.catalogue, histories.dataset, histories.purpose, declared)


def _opened(trained: Trained, data: Interactions | Opened) -> Opened:
    if not trained.guarantee.private:
        raise SettingError("the model promises nothing, so there is no claim to audit")
    if isinstance(data, Interactions):
        if trained.guarantee.window is not None:
            data.check_window(Window(trained.guarantee.window))
        data = data.streamed_for(PURPOSE)
    elif trained.guarantee.window is not None:
        raise SettingError("a window is held against the interactions: give what discreet.read_interactions returns")
    if data.purpose != PURPOSE:
        raise PurposeNotAllowed(f"these histories were opened for {data.purpose!r}, not for {PURPOSE!r}")
    if trained.dataset != data.dataset or trained.catalogue != data.catalogue:
        raise SettingError(f"the model was learnt from {trained.dataset!r} and its catalogue: audit it on that data")
    return data


def _unbilled(units: int) -> None:
    """Book nothing: the run is thrown away."""
