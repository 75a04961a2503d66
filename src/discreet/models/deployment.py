"""What a public registry is told of a published model: read off the model, and off what its publisher states.

The record has the fields of the OpenDP Deployments Registry (opendp/deployments-registry-data, schema of 2026), tier 3:
all that it asks. Numbers are the guarantee's; the publisher states what no program can know, in a TOML file.
"""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass, fields
from datetime import date
from pathlib import Path
from typing import Any

import discreet
from discreet.errors import SettingError
from discreet.models.card import audit_lines
from discreet.models.trained import Trained

CURATORS = ("Government", "Industry", "Nonprofit")
SECTORS = ("Technology", "Healthcare", "Education", "Government", "Energy", "Finance")
RELEASES = ("One release", "Many releases")
SOURCES = ("Static", "Dynamic")
CHOICES = {"sector": SECTORS, "release": RELEASES, "source": SOURCES}
MOST_BYTES = 1 << 20

_NOISE = {
    "rounded-gaussian": "round(2^12 N(0, 1))",
    "shares": "a discrete Gaussian from each party, of which the honest ones together have a variance of 2^24 + 8",
    "two-servers": "round(2^12 N(0, 1)) from each of two servers",
}
UNFILLED = "Name of whoever fills this in"

TEMPLATE = """\
# What a registry asks of whoever publishes a model, and no program can know.
slug = "shop-recommender"            # letters, digits and _ or -; part of an address
name = "Recommendations of the shop"
description = "Lists of items that people may like, made from a model learnt with differential privacy."
intended_use = "Personal recommendations within the shop."
region = "EU"                        # whose data, and whose law
sector = "Technology"                # Technology, Healthcare, Education, Government, Energy or Finance
published = "2026-01-31"             # year-month-day
release = "Many releases"            # or "One release"
source = "Dynamic"                   # or "Static": whether new data comes in
authors = ["Name of whoever fills this in"]
trust = "Who may see the histories, who may see the model, and why they are trusted."
tuning = "How epsilon and the kind of model were chosen, and whether looking at data for that was billed."
justification = "Why these choices protect the people concerned well enough."
utility = "How good the lists are; left out, nothing is said."

[[curators]]
name = "Shop Ltd"
type = "Industry"                    # Government, Industry or Nonprofit
"""


@dataclass(frozen=True, kw_only=True)
class Deployment:
    """What a publisher states of a model.

    Attributes:
        slug: letters, digits, ``_`` and ``-``.
        name: of the product.
        description: of it, in brief.
        intended_use: in brief.
        region: whose data, and whose law.
        sector: one of ``SECTORS``.
        published: ISO 8601 date.
        release: one of ``RELEASES``.
        source: one of ``SOURCES``.
        authors: of the record.
        trust: who sees what, and why they are trusted.
        tuning: how settings were chosen, and whether that was billed.
        justification: why so.
        curators: who publishes the product: name and one of ``CURATORS``.
        utility: how good it is, or nothing.

    Raises:
        SettingError: a field is empty, or none of its choices.
    """

    slug: str
    name: str
    description: str
    intended_use: str
    region: str
    sector: str
    published: str
    release: str
    source: str
    authors: tuple[str, ...]
    trust: str
    tuning: str
    justification: str
    curators: tuple[tuple[str, str], ...]
    utility: str = ""

    def __post_init__(self) -> None:
        empty = [each.name for each in fields(self) if each.name != "utility" and not getattr(self, each.name)]
        if empty:
            raise SettingError(f"a statement for a registry has to say something of {', '.join(empty)}")
        for name, choices in CHOICES.items():
            _check_choice(name, getattr(self, name), choices)
        for _, kind in self.curators:
            _check_choice("a curator's type", kind, CURATORS)
        if UNFILLED in self.authors:
            raise SettingError("authors still are those of the example: fill in what is asked")
        if not re.fullmatch(r"[A-Za-z0-9_-]{1,100}", self.slug):
            raise SettingError("slug is up to 100 letters, digits, _ and -")
        if not _is_date(self.published):
            raise SettingError("published is a date such as 2026-01-31")

    @classmethod
    def read(cls, path: str | Path) -> Deployment:
        """Read a TOML file such as ``TEMPLATE``.

        Raises:
            SettingError: it cannot be read, lacks something, or has what nobody asked for.
        """
        try:
            content = Path(path).read_bytes()
        except OSError as error:
            raise SettingError(f"cannot read {path}: {error.strerror}") from None
        try:
            return cls.from_bytes(content)
        except SettingError as error:
            raise SettingError(f"{path}: {error}; `discreet disclose --template` prints an example") from None

    @classmethod
    def from_bytes(cls, content: bytes) -> Deployment:
        """Read the content of such a file.

        Raises:
            SettingError: as :meth:`read`.
        """
        if len(content) > MOST_BYTES:
            raise SettingError("is too large for a statement")
        try:
            stated = tomllib.loads(content.decode())
        except (ValueError, RecursionError) as error:
            raise SettingError(f"is not TOML in UTF-8 ({type(error).__name__})") from None
        known = {each.name for each in fields(cls)}
        strange = sorted(stated.keys() - known)
        if strange:
            raise SettingError(
                f"has fields that nobody asked for: {', '.join(repr(name[:40]) for name in strange[:5])}"
            )
        if known - stated.keys() - {"utility"}:
            raise SettingError(f"lacks {', '.join(sorted(known - stated.keys() - {'utility'}))}")
        return cls(**{name: _field(name, value) for name, value in stated.items()})


def registry_record(
    trained: Trained, digest: str, deployment: Deployment, audit: dict[str, Any] | None = None
) -> dict[str, Any]:
    """Return a record of the OpenDP Deployments Registry.

    Args:
        trained: a private model that was billed.
        digest: SHA-256 (hex) of its file.
        deployment: what its publisher states.
        audit: what attacks on a shadow of it found, as ``ShadowAudit.to_dict`` has it.

    Raises:
        SettingError: the model promises nothing, or was billed to nobody: it must not be published.
    """
    if not trained.guarantee.private:
        raise SettingError("the model promises nothing: there is nothing to disclose")
    if trained.unbilled:
        raise SettingError("the model was billed to nobody, so it must not be published")
    return {
        "url_slug": deployment.slug,
        "deployment": {
            "basic": _basic(deployment),
            "dp_variant": _variant(trained),
            "privacy_loss": _loss(trained),
            "deployment_model": _model(trained, deployment),
            "implementation": _implementation(trained, digest, deployment, audit),
            "administrative": {"status": "Draft", "registry_authors": list(deployment.authors), "tier": 3},
        },
    }


def _basic(deployment: Deployment) -> dict[str, Any]:
    curators = [{"data_curator_name": name, "data_curator_type": kind} for name, kind in deployment.curators]
    return {
        "name": deployment.name,
        "data_curators": curators,
        "description": deployment.description,
        "intended_use": deployment.intended_use,
        "data_product_type": "Machine learning model",
        "data_product_region": deployment.region,
        "data_product_sector": deployment.sector,
        "publication_date": deployment.published,
    }


def _variant(trained: Trained) -> dict[str, str]:
    return {
        "variant_name": "Approximate DP",
        "data_domain": (
            f"Histories of {trained.dataset}: of each person, which of {len(trained.catalogue):,} items of a catalogue "
            "they chose. Nothing else about a person is read."
        ),
        "unprotected_quantities": "; ".join(trained.guarantee.not_protected),
    }


def _loss(trained: Trained) -> dict[str, Any]:
    promise = trained.guarantee
    return {
        "privacy_unit": promise.unit,
        "privacy_unit_details": (
            f"Data sets are adjacent if they differ in {promise.neighbours}. Each person adds one integer vector to "
            f"each of {trained.plan.rounds} sums; its length is held, in integers, to the bound that was priced."
        ),
        "number_of_privacy_units": trained.people,
        "privacy_parameters": {"epsilon": promise.epsilon, "delta": promise.delta},
        "privacy_parameters_details": " ".join(
            (f"{promise.claim}.", promise.sentence, *promise.record_sentences, *promise.finer_claims)
        ),
    }


def _model(trained: Trained, deployment: Deployment) -> dict[str, str]:
    return {
        "model_name": "Central" if trained.guarantee.noise == "rounded-gaussian" else "Federated",
        "model_name_details": trained.guarantee.to_dict()["trust_model"],
        "trust_assumptions": deployment.trust,
        "actors": (
            f"People whose histories are read ({trained.guarantee.trust}); whoever sees the model or lists made "
            "from it, against whom the promise holds, whatever else they know."
        ),
        "release_type": deployment.release,
        "release_type_details": (
            f"This is release {trained.release}. All releases of a data set and purpose are billed to one budget, "
            "which is never reset; a run that would exceed it is refused."
        ),
        "data_source_type": deployment.source,
        "data_source_type_details": f"Data set {trained.dataset}, read for {trained.purpose}.",
        "access_type": "Non-interactive",
        "access_type_details": "Lists are made from the released model and the history of whoever asks.",
    }


def _implementation(
    trained: Trained, digest: str, deployment: Deployment, audit: dict[str, Any] | None
) -> dict[str, str]:
    plan = trained.plan
    measured = " ".join(audit_lines(audit)) if audit else "This release was not audited."
    return {
        "preprocessing_and_hyperparameter_tuning": (
            f"{deployment.tuning} Settings of the model follow from public numbers alone: people, items, budget."
        ),
        "mechanisms": (
            f"discreet {discreet.__version__}: the Gaussian mechanism in integers, {_NOISE[trained.guarantee.noise]}, "
            "on each coordinate of integer sums, from a table of 128 bits under a ChaCha20 key drawn for each attempt; "
            "no floating point between a person's vector and the released sum. Proofs stand beside the code. Timing of "
            "the training is not protected."
        ),
        "composition": (
            f"{plan.rounds} releases of one plan, composed adaptively as Gaussian differential privacy: squares of mu "
            f"add up, to {trained.guarantee.units:,} units of 2^-24. Releases are added up the same way in a ledger, "
            "before anything is computed."
        ),
        "post_processing": f"A {trained.model.name} model is computed from the sums, and lists from the model.",
        "justification": deployment.justification,
        "utility": deployment.utility or "Not stated.",
        "additional_information": f"Model file: SHA-256 {digest}. Measured attacks: {measured}",
    }


def _field(name: str, value: Any) -> Any:
    if name == "authors":
        if not isinstance(value, list) or not all(isinstance(author, str) for author in value):
            raise SettingError("authors is a list of names")
        return tuple(value)
    if name == "curators":
        if not isinstance(value, list) or not all(_is_curator(curator) for curator in value):
            raise SettingError("curators are tables, each with a name and a type")
        return tuple((curator["name"], curator["type"]) for curator in value)
    if not isinstance(value, str):
        raise SettingError(f"{name} is text")
    return value.strip()


def _is_curator(value: Any) -> bool:
    return (
        isinstance(value, dict)
        and value.keys() == {"name", "type"}
        and all(isinstance(each, str) and each for each in value.values())
    )


def _is_date(text: str) -> bool:
    try:
        return date.fromisoformat(text).isoformat() == text
    except ValueError:
        return False


def _check_choice(name: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise SettingError(f"{name} is one of {', '.join(choices)}")
