"""The model card: what a model is, what it promises, what it does not, as JSON values and as Markdown."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from discreet.models.trained import Trained

MAIN_PARAMETERS = (
    "The items in a person's own history, and patterns of items that many people share, learnt with noise. "
    "Nothing else about a person is used."
)
"""What decides a list, in plain words (Digital Services Act, Article 27)."""


def card(
    trained: Trained, *, quality: dict[str, float] | None = None, audit: dict[str, Any] | None = None
) -> dict[str, Any]:
    """Return the card as JSON values.

    Args:
        trained: the model.
        quality: measured figures, if the card is for eyes that may see them: they are exact, not private.
        audit: what attacks on a shadow of this model found, as ``ShadowAudit.to_dict`` has it.
    """
    return {
        "release": trained.release,
        "billing": _billing(trained),
        "dataset": trained.dataset,
        "purpose": trained.purpose,
        "people": trained.people,
        "items": len(trained.catalogue),
        "model": {"kind": trained.model.name, "settings": asdict(trained.model)},
        "main_parameters": MAIN_PARAMETERS,
        "guarantee": trained.guarantee.to_dict(),
        "plan": trained.plan.to_dict(),
        "unsafe_noise": trained.unsafe_noise,
        "audit": audit,
        "quality": quality,
        "quality_is_private": False,
    }


def card_markdown(document: dict[str, Any]) -> str:
    """Return the card as a page."""
    promise = document["guarantee"]
    lines = [
        f"# Model {document['release'] or '(' + document['billing'] + ')'}",
        "",
        f"> {promise['sentence']}",
        "",
        f"{document['model']['kind']} on {document['dataset']}, for {document['purpose']}: "
        f"{document['people']:,} people, {document['items']:,} items.",
        "",
        "## What is promised",
        "",
        *_promise(promise),
        "",
        "## What is not",
        "",
        *[f"- {line}" for line in promise["not_protected"]],
        "",
        "## What decides a list",
        "",
        document["main_parameters"],
        "",
        "## Measured attacks",
        "",
        *(audit_lines(document["audit"]) if document["audit"] else ["None yet: this release was not audited."]),
        *_quality(document["quality"]),
    ]
    return "\n".join(lines) + "\n"


def audit_lines(audit: dict[str, Any]) -> list[str]:
    """Return what an audit found, in words."""
    verdict = "not refuted" if audit["passed"] else "REFUTED: do not use this model"
    bounds = ", ".join(
        f"{'beyond all promises' if audit[name] is None else format(audit[name], '.2f')} assuming {what}"
        for name, what in (
            ("epsilon_gaussian", "Gaussian noise"),
            ("epsilon_mu_gdp", "mu-GDP"),
            ("epsilon_nothing", "nothing"),
        )
    )
    claim = f"epsilon {audit['epsilon']:.4g} at delta {audit['delta']:.3g}"
    knowing, lists = (f"{100 * audit[name]:.0f}" for name in ("auc_knowing", "auc_lists"))
    return [
        f"Claim: {claim}, {verdict} by {audit['canaries']:,} canaries.",
        f"Epsilon is at least (95 %): {bounds}. One such bound in twenty is too high by chance.",
        *[
            f"At {level['level']}, mu is at least {level['mu_bound']:.2f} by {level['canaries']:,} canaries; "
            f"{level['mu_claim']:.2f} is claimed."
            for level in audit["levels"]
        ],
        f"Of 100 pairs, one in and one not, whoever knows everybody else tells {knowing} apart, and {lists} from lists "
        "alone; a coin flip gets 50.",
        f"A shadow run of {audit['made']}, version {audit['version']}, of the model file {audit['model'][:16]}. Its "
        "figures are exact, and not covered by the promise.",
    ]


def _billing(trained: Trained) -> str:
    if trained.unbilled:
        return "not billed: made outside a ledger"
    return "nothing to bill" if trained.release is None else "billed"


def _promise(promise: dict[str, Any]) -> list[str]:
    if not promise["private"]:
        return ["Nothing."]
    return [
        "| | |",
        "|---|---|",
        f"| epsilon, delta | {promise['epsilon']:.4g}, {promise['delta']:.3g} |",
        f"| mu (Gaussian differential privacy) | {promise['mu']:.4f} |",
        f"| unit | a {promise['unit']}: between {promise['neighbours']} |",
        f"| trust | {promise['trust_model']} |",
        f"| ledger units of mu^2 | {promise['units']:,} |",
        *_finer("level", promise["levels"]),
        *_finer("all that somebody did of", promise["records"]),
    ]


def _finer(what: str, costs: dict[str, dict[str, float]]) -> list[str]:
    numbers = "epsilon {epsilon:.4g}, mu {mu:.4f}, odds {odds:.3f}"
    return [f"| {what} {name} | {numbers.format(**cost)} |" for name, cost in costs.items()]


def _quality(quality: dict[str, float] | None) -> list[str]:
    if not quality:
        return []
    rows = [f"| {name} | {value:.4f} |" for name, value in quality.items()]
    note = "Exact means over people who were held out: for whoever may see the data, not covered by the promise."
    return ["", "## Quality", "", note, "", "| metric | value |", "|---|---|", *rows]
