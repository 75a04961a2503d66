"""One model's own audit: its settings and its plan, run again on its data with canaries planted.

A shadow run is what made the model, but for its noise and for some people who do not exist; it is thrown away, so that
no canary ever enters a model that is served. The canaries know few items each, of those that the model counted most (or
their rows would be empty), and any two share at most one. What is published beside the model's claim are lower bounds
on epsilon from this run (see ``canaries``), and how well canaries could be told from the lists alone.

It takes the histories: whoever runs it may see them. Nothing about a person is in what comes out, but the bounds are
exact figures of this data, not private ones.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from typing import Any

import numpy as np
import rfc8785
from numpy.typing import NDArray
from scipy.stats import rankdata

import discreet
from discreet.data.interactions import Histories, Rows, rows_of
from discreet.documents import document, fields_of
from discreet.errors import ArtefactError, SettingError
from discreet.evaluation.audit.canaries import SIZE, judged, seen
from discreet.evaluation.audit.findings import Claim
from discreet.evaluation.audit.people import only, stacked, transversal
from discreet.evaluation.transcripts import Watched
from discreet.models.popularity import most_popular
from discreet.models.trained import Trained
from discreet.training.populations import Here
from discreet.training.rounds import layers_for, train

FORMAT = 1
ALPHA = 1e-3
"""Chance that a correct model fails its own audit."""
MOST, LEAST = 2_000, 100
"""Canaries: one for each person, within these."""


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
        epsilon_gaussian: lower bound at 95 %, if the noise is Gaussian.
        epsilon_mu_gdp: lower bound at 95 %, if the mechanism is mu-GDP.
        epsilon_nothing: lower bound at 95 %, assuming nothing.
        auc_knowing: of pairs of a canary that is in and one that is not, how many whoever knows everybody else orders
            right; a coin flip gets 0.5.
        auc_lists: the same of whoever sees the lists alone.
        made: when (ISO 8601, UTC).
        version: of this package.
    """

    release: str | None
    model: str
    epsilon: float
    delta: float
    canaries: int
    mu_bound: float
    mu_claim: float
    epsilon_gaussian: float
    epsilon_mu_gdp: float
    epsilon_nothing: float
    auc_knowing: float
    auc_lists: float
    made: str
    version: str

    @property
    def passed(self) -> bool:
        """Whether the claim was not refuted."""
        return self.mu_bound <= self.mu_claim

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as JSON values."""
        return {"format": FORMAT, "passed": self.passed} | asdict(self)

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


def audit_model(trained: Trained, digest: str, histories: Histories) -> ShadowAudit:
    """Return what attacks on a shadow run find.

    Args:
        trained: a private model.
        digest: SHA-256 (hex) of its file.
        histories: of the data set that it was learnt from, opened for measuring.

    Raises:
        SettingError: the model promises nothing; or these are other data than it was learnt from.
    """
    _check(trained, histories)
    random, base = np.random.default_rng(), histories.matrix
    planted = canaries_of(trained, min(MOST, max(LEAST, base.shape[0])))
    inside = random.random(planted.shape[0]) < 0.5
    watched, plan = Watched(trained.model), trained.plan
    shadow = train(watched, Here(_with(histories, only(planted, inside))), plan, spend=_unbilled)
    found = seen(watched, plan, base, planted, inside, layers_for(histories.catalogue, plan.weights))
    if found.inside.all() or not found.inside.any():
        raise SettingError("no canary has a row in this model; there is nothing to be found")
    guarantee = trained.guarantee
    finding = judged(found, Claim(guarantee.epsilon, guarantee.delta), ALPHA)
    figures = finding.figures
    return ShadowAudit(
        release=trained.release,
        model=digest,
        epsilon=guarantee.epsilon,
        delta=guarantee.delta,
        canaries=finding.trials,
        mu_bound=figures["mu_bound"],
        mu_claim=guarantee.mu,
        epsilon_gaussian=figures["epsilon_95_z_gdp"],
        epsilon_mu_gdp=figures["epsilon_95_f_dp"],
        epsilon_nothing=figures["epsilon_95_steinke"],
        auc_knowing=auc(found.knowing, found.inside),
        auc_lists=auc(_from_lists(replace(shadow, model=trained.model), planted), inside),
        made=datetime.now(UTC).replace(tzinfo=None).isoformat(timespec="seconds") + "Z",
        version=discreet.__version__,
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


def auc(scores: NDArray[np.float64], inside: NDArray[np.bool_]) -> float:
    """Return of how many pairs, one inside and one not, the first has the higher score; of equal ones half."""
    many = int(inside.sum())
    ranks = rankdata(scores)[inside].sum() - many * (many + 1) / 2
    return float(ranks / (many * (len(inside) - many)))


def _from_lists(shadow: Trained, planted: Rows) -> NDArray[np.float64]:
    """Score each canary by where its last item is in the list that its other items get: higher is better."""
    known = planted.indices.reshape(-1, SIZE)
    folded = rows_of(np.full(len(known), SIZE - 1), known[:, :-1].ravel(), planted.shape[1])
    scores = shadow.scores(folded)
    mine = np.take_along_axis(scores, known[:, -1:], axis=1)
    better: NDArray[np.float64] = (scores > mine).sum(axis=1).astype(np.float64)
    return -better


def _with(histories: Histories, planted: Rows) -> Histories:
    people = tuple(range(histories.matrix.shape[0] + planted.shape[0]))
    return replace(histories, matrix=stacked(histories.matrix, planted), people_ids=people, last=None)


def _check(trained: Trained, histories: Histories) -> None:
    if not trained.guarantee.private:
        raise SettingError("the model promises nothing, so there is no claim to audit")
    if trained.dataset != histories.dataset or trained.catalogue != histories.catalogue:
        raise SettingError(f"the model was learnt from {trained.dataset!r} and its catalogue: audit it on that data")


def _unbilled(units: int) -> None:
    """Book nothing: the run is thrown away."""
