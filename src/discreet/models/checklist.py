"""What an evaluator of a differentially private system asks, answered for one model, each answer with its evidence.

The questions follow the subjects of NIST SP 800-226, Guidelines for Evaluating Differential Privacy Guarantees (2025):
its pyramid of three layers, and the hazards that it names. Nothing here is a certificate. An answer is

- ``shown``: it holds, and the evidence says why;
- ``part``: it holds with a limit that the answer names;
- ``open``: it does not hold;
- ``yours``: no program can tell; whoever publishes the model has to answer.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any, Literal

from discreet.models.card import audit_lines
from discreet.models.trained import Trained
from discreet.privacy.adjacency import Adjacency
from discreet.privacy.guarantee import hundred

Layer = Literal["promise", "algorithm", "surroundings"]
Status = Literal["shown", "part", "open", "yours"]

LAYERS: dict[Layer, str] = {
    "promise": "What is promised, and to whom",
    "algorithm": "Whether the algorithm keeps it, and what it costs",
    "surroundings": "What it rests on",
}


@dataclass(frozen=True)
class Answer:
    """One question, answered.

    Attributes:
        layer: of the pyramid, from its top.
        question: in brief.
        status: as above.
        answer: in a sentence or two.
        evidence: files of this project, or fields of the model's card.
    """

    layer: Layer
    question: str
    status: Status
    answer: str
    evidence: tuple[str, ...]


_MECHANISM = {"shares": "privacy/mechanisms/discrete_gaussian.md"}


def checklist(trained: Trained, audit: dict[str, Any] | None = None) -> tuple[Answer, ...]:
    """Return all answers, from the top of the pyramid.

    Args:
        trained: the model.
        audit: what attacks on a shadow of it found, as ``ShadowAudit.to_dict`` has it.
    """
    return (*_promise(trained), *_algorithm(trained, audit), *_surroundings(trained))


def checklist_document(answers: tuple[Answer, ...]) -> dict[str, Any]:
    """Return the answers as JSON values, with how many there are of each kind."""
    counts = {status: sum(each.status == status for each in answers) for status in ("shown", "part", "open", "yours")}
    return {"after": "NIST SP 800-226 (2025)", "counts": counts, "answers": [asdict(each) for each in answers]}


def checklist_markdown(answers: tuple[Answer, ...]) -> str:
    """Return the answers as a page, all three layers: the top of the pyramid says little without the rest."""
    lines = ["# Evaluation of the guarantee", "", "After the subjects of NIST SP 800-226 (2025). No certificate."]
    for layer, title in LAYERS.items():
        lines += ["", f"## {title}", "", "| question | | answer | evidence |", "|---|---|---|---|"]
        lines += [
            "| " + " | ".join(map(_cell, (each.question, each.status, each.answer, ", ".join(each.evidence)))) + " |"
            for each in answers
            if each.layer == layer
        ]
    return "\n".join(lines) + "\n"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def _promise(trained: Trained) -> Iterator[Answer]:
    promise = trained.guarantee
    if not promise.private:
        yield Answer("promise", "Parameters", "open", promise.sentence, ("card: guarantee",))
        return
    yield Answer("promise", "Parameters", "shown", f"{promise.claim}.", ("card: guarantee", "docs/promise.md"))
    odds = f"At most {hundred(promise.odds)} right guesses of 100 on whether somebody is in; a coin flip gets 50."
    yield Answer("promise", "What they mean", "shown", odds, ("card: guarantee", "docs/promise.md"))
    whole = promise.unit == "person"
    unit = "One person's whole history." if whole else f"A {promise.unit}: less than a person's whole history."
    yield Answer("promise", "Unit of privacy", "shown" if whole else "part", unit, ("card: guarantee",))
    adjacent = promise.adjacency == Adjacency.ADD_OR_REMOVE_PERSON.value
    limit = "the number of people is public." if adjacent else "as said."
    neighbours = f"Between {promise.neighbours}; {limit}"
    yield Answer("promise", "Neighbouring data", "shown", neighbours, ("docs/promise.md",))
    finer = " ".join(promise.finer_claims)
    if finer:
        yield Answer("promise", "Not everybody alike", "shown", finer, ("docs/levels.md", "privacy/records.md"))


def _algorithm(trained: Trained, audit: dict[str, Any] | None) -> Iterator[Answer]:
    plan, promise = trained.plan, trained.guarantee
    kept: Status = "shown" if promise.private else "open"
    yield Answer(
        "algorithm",
        "Contributions are bounded",
        kept,
        "Each person's integer row is held to the bound that is priced, one person at a time, in integers.",
        ("privacy/clipping.md", "privacy/disclosure.md"),
    )
    yield Answer(
        "algorithm",
        "Mechanism and proof",
        kept,
        "Gaussian noise, rounded to integers, on integer sums; a test fails when code moves on without its proof.",
        (_MECHANISM.get(promise.noise, "privacy/mechanisms/gaussian.md"), f"models/{trained.model.name}.md"),
    )
    yield Answer(
        "algorithm",
        "Floating point",
        "shown",
        "None between a person's row and the released sum.",
        ("docs/how-it-works.md",),
    )
    secure = "A fresh ChaCha20 key for each attempt, from the operating system."
    known = "The noise came from a test seed that anyone can repeat."
    yield Answer(
        "algorithm",
        "Randomness",
        "shown" if promise.secure else "open",
        secure if promise.secure else known,
        ("privacy/mechanisms/gaussian.md", "docs/audit.md"),
    )
    yield _composition(trained)
    yield Answer(
        "algorithm",
        "Settings and tuning",
        "part",
        "Settings follow from public numbers. That nobody chose epsilon or a model by looking at unbilled figures, no "
        "program can tell.",
        ("docs/how-it-works.md", "docs/known-limits.md"),
    )
    declared = promise.catalogue_declared
    yield Answer(
        "algorithm",
        "Published without noise",
        "shown" if declared else "part",
        "How many people there are, and the catalogue, "
        + ("which was declared." if declared else "which was gathered: that an item exists depends on the histories.")
        + (" Figures of the audit are exact, too." if audit else ""),
        ("card: guarantee", "docs/known-limits.md"),
    )
    yield _tested(audit)
    yield Answer(
        "algorithm",
        "Quality, and for whom",
        "yours",
        f"Measure with `discreet evaluate` and `discreet explain`: noise hides rare items first ({plan.rounds} sums).",
        ("docs/explain.md", "docs/benchmarks.md"),
    )


def _composition(trained: Trained) -> Answer:
    question, evidence = "Composition, and budgets", ("docs/ledger.md", "privacy/accounting.md")
    if trained.unbilled:
        return Answer("algorithm", question, "open", "It was billed to nobody, and must not be published.", evidence)
    if trained.release is None:
        return Answer("algorithm", question, "open", "There is no promise to add up.", evidence)
    text = (
        f"Release {trained.release} was charged before it was computed, to a budget that is never reset. The same "
        "people in other data sets have other budgets."
    )
    return Answer("algorithm", question, "part", text, evidence)


def _tested(audit: dict[str, Any] | None) -> Answer:
    question, evidence = "Attacked", ("docs/audit.md", "docs/audit-measured.md", "docs/attacks-measured.md")
    if audit is None:
        return Answer("algorithm", question, "open", "This release was not audited.", evidence)
    return Answer("algorithm", question, "shown" if audit["passed"] else "open", " ".join(audit_lines(audit)), evidence)


def _surroundings(trained: Trained) -> Iterator[Answer]:
    yield Answer(
        "surroundings",
        "Trust",
        "part",
        f"{trained.guarantee.to_dict()['trust_model'].capitalize()}.",
        ("docs/threat-model.md",),
    )
    yield Answer(
        "surroundings",
        "Purpose",
        "shown",
        f"The data was opened for {trained.purpose}; data is opened for nothing that it was not collected for.",
        ("docs/promise.md",),
    )
    for question, answer in (
        ("Collection and consent", "Which histories were collected, with whose consent, and how long they are kept."),
        ("Access and encryption", "Who can read the histories and the ledger, and how both are stored."),
    ):
        yield Answer("surroundings", question, "yours", answer, ("docs/threat-model.md",))
    yield Answer(
        "surroundings",
        "Side channels",
        "open",
        "Time, memory and caches of the training are not protected; neither is how long an answer takes.",
        ("docs/threat-model.md", "docs/known-limits.md"),
    )
    yield Answer(
        "surroundings",
        "Record of what was spent",
        "part",
        "A journal that `discreet journal verify` replays. Signed heads kept elsewhere find out whoever rewrites "
        "all of it, or puts an older copy back.",
        ("docs/ledger.md",),
    )
