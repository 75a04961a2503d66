"""The inventory in forms that others read: each says what is declared, and of nothing else that it is so."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from discreet.errors import DataError
from discreet.governance.accounts import Account, AccountState
from discreet.governance.inventory import BASES, Inventory, example, vocabulary
from discreet.governance.manifests import LAWFUL, MEASURES, NOT_STATED, Report, assessment, fides, record

TEXT = example("shop")
OPTIONAL = re.compile(
    r"\[(authority|processing)\].*?(?=\n\[)|\[\[risk\]\].*?(?=\n\[|\Z)|(email|url|phone) = .*?\n", re.DOTALL
)
BARE = OPTIONAL.sub("", TEXT)
"""Without all that may be left out."""


def declared(text: str = TEXT, **replaced: str) -> Inventory:
    for old, new in replaced.items():
        text = text.replace(f"{old} = ", f"{new}\n{old} = ", 1)
    return Inventory.from_toml(text.encode())


def budget(until: str | None = None) -> AccountState:
    account, units = Account("shop", "train-recommender"), {"cap": 900, "spent": 30, "left": 870, "releases": 3}
    return AccountState(account, 20.0, 1e-4, **units, epsilon_spent=1.2345, person_cap=None, until=until)


def report(**told: Any) -> bytes:
    outcomes = [{"subject": "release", "passed": True}, {"subject": "canaries\nof a model", "passed": False}]
    return json.dumps({"passed": False, "false_alarms": 0.001, "outcomes": outcomes} | told).encode()


def test_a_manifest_says_what_is_declared() -> None:
    made = fides(declared())
    (system,), (dataset,) = made["system"], made["dataset"]
    assert (system["fides_key"], system["legal_name"], system["uses_profiling"]) == ("shop", "Example Ltd", True)
    assert system["meta"] == {"dataset": "B. Okafor", "budgets": "A. Rivera", "models": "C. Ito"}
    assert (system["description"], system["privacy_policy"]) == ("recommendations", "https://example.org/privacy")
    assert system["dpa_location"] == "https://example.org/assessment"
    assert system["dataset_references"] == [dataset["fides_key"]]
    lists, training = system["privacy_declarations"]
    assert (lists["data_use"], training["data_use"]) == ("personalize.content.profiling", "train_ai_system")
    assert training["data_categories"] == ["user.behavior.media_consumption"]
    assert (training["retention_period"], training["legal_basis_for_processing"]) == ("730 days", "Consent")
    assert not training["data_shared_with_third_parties"]
    assert "third_parties" not in training
    (collection,) = dataset["collections"]
    assert [field["name"] for field in collection["fields"]] == ["item_id", "timestamp"]
    assert collection["data_subjects"] == ["customer"]
    assert json.loads(json.dumps(made)) == made


def test_the_keys_of_a_manifest_are_of_the_vocabulary() -> None:
    words = vocabulary()
    for each in fides(declared())["system"][0]["privacy_declarations"]:
        assert each["data_use"] in words["uses"]
        assert {*each["data_categories"]} <= {*words["categories"]}
        assert {*each["data_subjects"]} <= {*words["subjects"]}


def test_of_what_is_not_declared_a_manifest_says_nothing() -> None:
    (system,) = fides(declared(BARE))["system"]
    assert not {"description", "dpa_location", "requires_data_protection_assessments"} & {*system}
    assert all("impact_assessment_location" not in each for each in system["privacy_declarations"])
    two = TEXT.replace('notice = "https://example.org/privacy"', 'notice = "https://example.org/other"', 1)
    assert "privacy_policy" not in fides(declared(two))["system"][0]  # no one page is that of all purposes
    desk = TEXT.replace('notice = "https://example.org/privacy"', 'notice = "at the desk"')
    assert "privacy_policy" not in fides(declared(desk))["system"][0]


def test_recipients_and_special_data_are_in_a_manifest_and_names_are_keys() -> None:
    text = TEXT.replace('use = "train_ai_system"', 'use = "train_ai_system"\nrecipients = ["Ads Ltd", "More"]')
    text = text.replace('sensitivity = "personal"', 'sensitivity = "special"', 1).replace('"shop"', '"my shop: films"')
    (system,) = fides(declared(text))["system"]
    assert (system["fides_key"], system["name"]) == ("my_shop__films", "my shop: films")
    training = system["privacy_declarations"][1]
    assert training["data_shared_with_third_parties"]
    assert (training["third_parties"], training["shared_categories"]) == ("Ads Ltd, More", training["data_categories"])
    assert training["processes_special_category_data"]


def test_a_record_has_all_that_the_law_asks_for() -> None:
    page = record(declared())
    assert [line[4] for line in page.splitlines() if line.startswith("## (")] == list("abcdefg")
    for said in (
        "controller: Example Ltd, privacy@example.org, 1 Example Street, Example",
        "data protection officer: A. Rivera, privacy@example.org",
        "train-recommender: Let what you chose, blurred",
        "lawful by consent, GDPR 6(1)(a)",
        "people: customer",
        "timestamp: user.behavior.media_consumption, personal, for recommend;",
        "recommend: none declared",
        "places of processing: EU",
        "events: 730 days",
        f"copies of the database: {NOT_STATED}",
        MEASURES[0],
    ):
        assert said in page
    kept = declared(TEXT, models_days="backups_days = 30")
    assert "copies of the database: 30 days" in record(kept)


def test_what_is_not_declared_is_not_stated() -> None:
    page = record(declared(BARE)) + assessment(declared(BARE), None, None)
    for what in ("places of processing", "restrictions", "transfers, and their safeguards", "jurisdiction", "services"):
        assert f"- {what}: {NOT_STATED}" in page
    for what in (
        "authority",
        "register of risks",
        "last audit",
        "budgets of differential privacy",
        "earlier assessment",
    ):
        assert f"- {what}: {NOT_STATED}" in page
    assert page.count("to be completed") == 6
    assert f"- answers for models: {NOT_STATED}" in record(declared(TEXT.replace('models = "C. Ito"', 'models = " "')))


def test_an_assessment_is_a_draft_of_inventory_risks_budgets_and_audit() -> None:
    found = Report.read("audit-1.json", report())
    page = assessment(declared(), [budget(), budget(until="2027-01-01T00:00:00Z")], found)
    assert page.startswith("# DRAFT of ")
    assert [line[4] for line in page.splitlines() if line.startswith("## (")] == list("abcd")
    for said in (
        *(f"- title: {risk.title}; linddun: {', '.join(risk.linddun)}; likelihood:" for risk in declared().risks),
        f"inherent, of 5: {declared().risks[0].inherent}",
        f"accepted by: {NOT_STATED}",
        "budget shop/train-recommender: epsilon 20 at delta 0.0001, by person, without an end; spent by 3 releases: "
        "epsilon 1.23",
        "until 2027-01-01T00:00:00Z",
        f"last audit, audit-1.json (SHA-256 {found.sha256}): 2 checks, NOT PASSED; refuted: canaries of a model; the "
        "chance of a false alarm is 0.001 at most",
        "timestamp: optional for recommend, rounded down to the day",
        "authority: Example Data Protection Authority",
    ):
        assert said in page
    assert "budgets of differential privacy: none is open" in assessment(declared(), [], None)
    passed = Report.read("audit-2.json", report(passed=True, outcomes=[]))
    assert "0 checks, none was refuted" in assessment(declared(), [], passed)


@pytest.mark.parametrize(
    "content",
    [
        *(b"", b"[]", b"{}", b"\xff", b"[" * 100_000, report(passed=1), report(outcomes=[1]), report(outcomes=None)),
        *(report(outcomes=[{}]), report(outcomes=[{"subject": "x", "passed": "yes"}]), report(false_alarms="few")),
    ],
)
def test_what_is_no_report_is_not_taken_for_one(content: bytes) -> None:
    with pytest.raises(DataError, match=r"audit-1\.json is no report"):
        Report.read("audit-1.json", content)


def test_each_reason_why_a_purpose_is_lawful_has_its_words() -> None:
    assert {*LAWFUL} == {*BASES}
