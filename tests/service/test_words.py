"""What people are told: true of the numbers that it is computed from, and in words that promise no more."""

from __future__ import annotations

import re
from typing import Any

import pytest

from discreet.governance.inventory import Inventory, example
from discreet.privacy.accounting import cap, epsilon_of, odds_of
from discreet.privacy.guarantee import Guarantee, hundred
from discreet.privacy.levels import OFFERED, Level
from discreet.service import words
from discreet.service.words import Means, Price

DELTA = 1e-6
NEVER = re.compile(
    r"anonym|100% private|cannot be identified|bank-grade|noise budget|only you\b|guarantee", re.IGNORECASE
)
"""What promises too much, or something else."""


def price(epsilon: float) -> Price:
    return Price.planned(cap(epsilon, DELTA), DELTA)


def every_sentence() -> list[str]:
    """Return one of each kind."""
    one, means = price(1.0), Means(10, 100, 10**9, None)
    said = [words.card(level, one) for level in Level]
    said += [words.theft(None), words.theft(50), words.unprotected("Example Ltd")]
    said += [
        words.moved(level, due, paid=paid)
        for paid in (True, False)
        for level in Level
        for due in (None, "2026-11-27T00:00:00Z")
    ]
    said += [words.left(180, wholly=wholly) for wholly in (True, False)]
    said += [words.budget(means, level, one, 7, "2026-11-27T00:00:00Z") for level in Level]
    said += [
        words.erased(n, "R", "2026-12-01T00:00:00Z", 30, "2026-11-01T00:00:00Z", "the odds of 55 in 100")
        for n in (None, 2)
    ]
    said += [words.refused("too dear", "A. Rivera"), words.LOGIC, words.SOURCE, words.LISTED]
    said += [*words.SIGNAL.values(), *words.RIGHTS.values(), str(words.joining(Level.LIGHT, one)), words.prompt(["a"])]
    return said


def test_nothing_is_said_that_promises_too_much() -> None:
    for sentence in every_sentence():
        assert not NEVER.search(sentence), sentence
        assert "{" not in sentence


def test_the_example_promises_no_more_either() -> None:
    for purpose in Inventory.from_toml(example("shop").encode()).purposes:
        assert not NEVER.search(purpose.says)


@pytest.mark.parametrize("epsilon", [0.1, 0.5, 1.0, 2.0, 4.0, 8.0])
def test_a_card_tells_the_odds_of_the_gaussian_rounded_up(epsilon: float) -> None:
    told = price(epsilon)
    odds = [int(re.findall(r"at most (\d+) times", words.card(level, told))[0]) for level in OFFERED]
    assert odds == sorted(odds)
    for level, of_hundred in zip(OFFERED, odds, strict=True):
        exact = 100 * odds_of(told.units[level])
        assert exact <= of_hundred < exact + 1
    assert "shapes no model that is made from now on" in words.card(Level.OFF, told)


def test_the_odds_of_the_table_in_the_literature() -> None:
    """mu = 1 is 69.146 of 100; at epsilon 1 and delta 1e-6 it is 54.7, where epsilon alone would say 73.1."""
    assert price(1.0).odds(Level.LIGHT) == 55
    assert price(8.0).odds(Level.LIGHT) == 78
    assert price(1.0).odds(Level.OFF) == 50


def test_an_estimate_is_raised_by_no_more_than_bayes_rule_allows() -> None:
    said = words.joining(Level.LIGHT, price(1.0))
    assert said is not None
    assert said.endswith("to at most 2.7 in 100.")
    assert words.joining(Level.LIGHT, price(2.0)) is not None
    assert words.joining(Level.LIGHT, price(2.2)) is None
    assert words.joining(Level.STRONG, price(4.0)) is not None  # at a sixteenth of the price
    assert words.joining(Level.OFF, price(1.0)) is None


def test_a_price_is_read_off_what_a_model_promises() -> None:
    units = cap(1.0, DELTA)
    promise = Guarantee(units=units, delta=DELTA, levels=(("strong", units // 16), ("light", units)))
    told = Price.of(promise)
    assert told is not None
    assert told.units == {Level.STRONG: units // 16, Level.BALANCED: units, Level.LIGHT: units}
    assert Price.of(Guarantee(units=None, delta=DELTA)) is None
    assert Price.of(Guarantee(units=units, delta=DELTA, secure=False)) is None


def test_how_long_a_budget_lasts() -> None:
    one, due = price(1.0), "2026-11-27T00:00:00Z"
    each = one.units[Level.LIGHT]

    def told(
        held: int, limit: int, left: int, level: Level = Level.LIGHT, days: int | None = 7, until: str | None = None
    ) -> str:
        return words.budget(Means(held, limit * each, left * each, until), level, one, days, due)

    assert told(3 * each, 10, 100).startswith("30% of your limit is used.")
    assert "lasts until 15 January 2027." in told(3 * each, 10, 100)  # seven more, a week each
    assert "lasts until 11 December 2026." in told(3 * each, 10, 2)  # two more, then nobody is trained on
    assert "lasts until 6 December 2026." in told(3 * each, 10, 9, until="2026-12-06T00:00:00Z")
    assert "At the usual pace" not in told(3 * each, 10, 100, days=None)
    assert "until two people" in told(3 * each, 10, 100, days=None)
    for one_own, decided in ((True, False), (False, True)):
        means = Means(9 * each, 10 * each, 100 * each, None, own=one_own)
        assert ("until two people decide" in words.budget(means, Level.LIGHT, one, 7, due)) is decided
    assert "lasts until" in told(0, 10**6, 10**6, days=365)  # and that is no further than a calendar goes
    for used_up in (told(10 * each, 10, 100), told(3 * each, 10, 0), told(14 * each, 10, 100)):
        assert "It is used up" in used_up
        assert "At the usual pace" not in used_up
    assert told(14 * each, 10, 100).startswith("100% of")  # other purposes may have used more
    assert told(3 * each, 10, 0, Level.OFF).endswith("At off no more of it is used.")
    assert "32% of" in told(31 * each // 10 + 1, 10, 100)  # never too little
    composed = epsilon_of(4 * each, DELTA)
    assert f"at most {hundred(odds_of(4 * each))} times out of 100 (epsilon {words._up(composed, 2)})" in told(
        4 * each, 10, 9
    )
    assert float(words._up(composed, 2)) >= composed


def test_what_is_said_of_a_change_and_of_an_end() -> None:
    assert words.moved(Level.STRONG, "2026-11-27T09:00:00Z").startswith(
        "From 27 November 2026 on the model is trained with you at strong"
    )
    assert "From the next release on the model is trained without you" in words.moved(Level.OFF, None)
    assert "after 180 days" in words.left(180, wholly=True)
    assert "popular" not in words.left(180, wholly=False)
    said = words.erased(3, "abc", "2027-02-01T00:00:00Z", 30, "2026-11-01T00:00:00Z", "the odds of 55 in 100")
    for part in ("3 events", "by 1 December 2026", "55 in 100", "on 1 February 2027 at the latest", "Receipt abc."):
        assert part in said
    bare = words.erased(None, "abc", "2027-02-01T00:00:00Z", None, "2026-11-01T00:00:00Z", None)
    assert "all events" in bare
    assert "when they end" in bare
    assert "Model: there is none." in bare


def test_what_costs_more_is_what_is_told_before_somebody_agrees() -> None:
    cheap, dear = price(0.3), price(4.0)
    for one, other in ((cheap, dear), (dear, cheap), (None, dear), (dear, None)):
        found = words.dearer(one, other)
        assert found is not None
        assert found.units == dear.units
    assert words.dearer(None, None) is None


def test_without_budget_no_date_is_told() -> None:
    said = words.moved(Level.LIGHT, "2026-12-03T00:00:00Z", paid=False)
    assert "no budget" in said
    assert "December" not in said
    left = words.moved(Level.OFF, "2026-12-03T00:00:00Z", paid=False)
    assert left.startswith("From the next release on the model is trained without you.")


def test_the_label_answers_what_people_ask() -> None:
    def rows(level: Level = Level.STRONG, odds: int | None = 53, pending: bool = False, **more: Any) -> dict[str, str]:
        told: dict[str, Any] = {
            "together": 50,
            "paid": True,
            "controller": "Example Ltd",
            "recipients": ["B Ltd"],
            "retention_days": 730,
            "looks": 2,
            "unit": "person",
            "until": "2027-01-01T00:00:00Z",
            "measured": "1 June 2026: nothing",
            "due": None,
        }
        return words.label(level=level, odds=odds, pending=pending, **told | more)

    found = rows()
    assert found["used to train the shared model"] == "yes, at strong"
    assert found["odds"] == "at most 53 in 100"
    assert rows(together=66)["odds"] == "at most 66 in 100"  # of all releases, of which the unit and period speak
    assert rows(paid=False)["used to train the shared model"] == "yes, at strong, once there is budget again"
    assert found["shared with other companies"] == "B Ltd"
    assert found["times staff opened your data"] == "2"
    assert found["unit and period"] == "person; all releases until 1 January 2027"
    off = rows(Level.OFF, 50, recipients=[], until=None, measured=None)
    assert off["used to train the shared model"] == off["shared with other companies"] == "no"
    assert off["odds"] == "at most 50 in 100"
    assert off["last measured attack"] == "none yet"
    assert off["unit and period"] == "person; all releases"
    assert rows(odds=None)["a leak of the published model reveals you"] == "there is none yet"
    left = rows(Level.OFF, 55, pending=True, due="2026-12-03T00:00:00Z")["used to train the shared model"]
    assert left == "no, from 3 December 2026 on; the model that is served may know more"
    assert "from the next release on" in rows(pending=True)["used to train the shared model"]
