"""How fast a budget may be spent: the arithmetic, the ledger that holds to it, the journal that tells of it."""

from collections.abc import Callable
from datetime import datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from discreet.errors import AccountMissing, BudgetExceeded, LedgerCorrupted, SettingError
from discreet.governance import ledger as module
from discreet.governance.journal import Entry
from discreet.governance.ledger import Account, Ledger
from discreet.governance.pacing import (
    YEAR,
    Decaying,
    Fixed,
    Outlook,
    Pace,
    Quality,
    Rule,
    at_this_rate,
    later,
    seconds_between,
    slots_until,
)
from discreet.privacy import accounting

DELTA = 1e-6
TRAIN, TRENDS = Account("movies", "train"), Account("movies", "trends")
CAP = accounting.cap(2.0, DELTA)
SPEC = "0" * 64
NEW_YEAR = "2031-01-01T00:00:00Z"

rules = st.one_of(
    st.builds(Fixed, st.integers(1, 400)),
    st.builds(Quality, st.integers(1, 10**6)),
    st.builds(Decaying, st.integers(1, 999), st.integers(1, 10**4)),
)


class TestRules:
    @given(rules, st.integers(0, 10**6), st.integers(0, 300))
    def test_grant_more_with_each_slot_and_never_more_than_there_is(self, rule: Rule, room: int, slots: int) -> None:
        assert 0 <= rule.granted(room, slots) <= rule.granted(room, slots + 1) <= room
        assert rule.granted(room, 0) == 0

    def test_fixed_spends_all_in_equal_parts(self) -> None:
        granted = [Fixed(7).granted(100, slots) for slots in range(9)]
        assert granted == [0, 14, 28, 42, 57, 71, 85, 100, 100]

    def test_quality_grants_whole_prices(self) -> None:
        assert [Quality(30).granted(100, slots) for slots in range(6)] == [0, 30, 60, 90, 100, 100]
        assert Quality(30).lasting(100, used=0, now=0) == 3
        assert Quality(30).lasting(100, used=30, now=0) == 3
        assert Quality(30).lasting(100, used=30, now=5) == 7  # what was not used is still there

    def test_decaying_grants_a_share_of_what_is_left(self) -> None:
        rule = Decaying(250, price=100)
        assert [rule.granted(1_000, slots) for slots in range(4)] == [0, 250, 437, 577]
        assert rule.lasting(1_000, used=0, now=0) == 4  # 250, 187, 140, 105, then 79
        assert rule.granted(1_000, 10**9) < 1_000

    @pytest.mark.parametrize(
        "make",
        [
            lambda: Fixed(0),
            lambda: Fixed(1_000_001),
            lambda: Quality(0),
            lambda: Decaying(0, 1),
            lambda: Decaying(1_000, 1),
            lambda: Decaying(10, 0),
            lambda: Pace(Fixed(1), 0, NEW_YEAR),
            lambda: Pace(Fixed(1), 8_767, NEW_YEAR),
            lambda: Pace(Fixed(1), 12, "soon"),
            lambda: Pace(Fixed(1), 12, NEW_YEAR, -1),
            lambda: slots_until(NEW_YEAR, NEW_YEAR, 12),
            lambda: slots_until(NEW_YEAR, "2030-12-31", 12),
            lambda: slots_until(NEW_YEAR, "2032-01-01", 0),
        ],
    )
    def test_out_of_range(self, make: Callable[[], object]) -> None:
        with pytest.raises(SettingError):
            make()

    def test_floats_are_refused_however_round(self) -> None:
        numbers: Any = 2.0
        with pytest.raises(SettingError, match="float"):
            Quality(numbers)


class TestPace:
    @given(rules, st.integers(1, 8_766), st.integers(0, 10**9), st.integers(0, 10**6), st.integers(0, 10**6))
    def test_more_comes_when_it_is_said_and_not_a_second_before(
        self, rule: Rule, per_year: int, seconds: int, room: int, ahead: int
    ) -> None:
        pace = Pace(rule, per_year, NEW_YEAR, base=5)
        cap, time = 5 + room, str(later(NEW_YEAR, seconds))
        spent = min(cap, pace.allowed(pace.slot(time), cap) + ahead)
        now, more = pace.next_cost(time, cap, spent), pace.more_from(time, cap, spent)
        assert now == 0
        if more is None:
            return
        assert more > time
        assert pace.next_cost(more, cap, spent) > 0
        assert pace.next_cost(str(later(more, -1)), cap, spent) == 0

    @given(rules, st.integers(1, 8_766), st.integers(-1_000, 1_000))
    def test_a_slot_begins_where_it_begins(self, rule: Rule, per_year: int, slot: int) -> None:
        pace = Pace(rule, per_year, NEW_YEAR)
        start = str(pace.start(slot))
        assert pace.slot(start) == slot
        assert pace.slot(str(later(start, -1))) == slot - 1

    def test_twelve_slots_are_a_year(self) -> None:
        pace = Pace(Fixed(12), 12, NEW_YEAR)
        assert seconds_between(NEW_YEAR, str(pace.start(12))) == YEAR
        assert slots_until(NEW_YEAR, str(pace.start(12)), 12) == 12
        assert slots_until(NEW_YEAR, "2032-01-01", 12) == 12
        assert pace.lasts_until(NEW_YEAR, 100, 0) == "2032-01-01T05:49:12Z"

    def test_before_it_begins_nothing_is_granted(self) -> None:
        pace = Pace(Fixed(12), 12, NEW_YEAR)
        assert pace.next_cost("2030-12-31T23:59:59Z", 120, 0) == 0
        assert pace.more_from("2030-06-01T00:00:00Z", 120, 0) == NEW_YEAR
        assert pace.next_cost(NEW_YEAR, 120, 0) == 10

    def test_what_a_slot_leaves_is_there_in_the_next(self) -> None:
        pace = Pace(Fixed(12), 12, NEW_YEAR)
        third = str(pace.start(2))
        assert pace.next_cost(third, 120, spent=0) == 30
        assert pace.next_cost(third, 120, spent=25) == 5

    def test_beyond_the_calendar(self) -> None:
        assert Pace(Fixed(1_000_000), 1, NEW_YEAR).lasts_until(NEW_YEAR, 100, 0) is None

    @given(rules, st.integers(1, 8_766), st.integers(0, 10**9))
    def test_a_row_of_the_journal_tells_all_of_it(self, rule: Rule, per_year: int, base: int) -> None:
        pace = Pace(rule, per_year, NEW_YEAR, base)
        assert Pace.told(dict(pace.facts())) == pace

    @pytest.mark.parametrize(
        "facts",
        [
            {},
            {"rule": "hasty"},
            {"rule": "fixed", "per_year": "12", "begins": NEW_YEAR, "base": "0"},
            {"rule": "fixed", "slots": "x", "per_year": "12", "begins": NEW_YEAR, "base": "0"},
            {"rule": "quality", "price": "0", "per_year": "12", "begins": NEW_YEAR, "base": "0"},
        ],
    )
    def test_a_row_that_tells_of_none(self, facts: dict[str, str]) -> None:
        with pytest.raises(LedgerCorrupted):
            Pace.told(facts)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    def turn(time: str) -> None:
        monkeypatch.setattr(module, "now", lambda: time)

    turn(NEW_YEAR)
    return turn


class TestOutlook:
    def test_without_a_pace_it_lasts_as_long_as_it_did(self, ledger: Ledger, clock: Callable[[str], None]) -> None:
        ledger.open_budget(TRENDS, epsilon=2.0, delta=DELTA, until="2032-01-01")
        for account in (TRAIN, TRENDS):
            ledger.reserve(account, cost=CAP // 4, release=str(account), spec=SPEC)
        clock("2031-01-07T23:59:59Z")
        assert ledger.outlook(TRENDS).lasts_until == "2032-01-01T00:00:00Z"
        clock("2031-01-31T00:00:00Z")
        for at in (None, "2031-04-01"):
            outlook = ledger.outlook(TRENDS, at=at)
            assert outlook.next_cost == CAP - CAP // 4
            assert str(outlook.lasts_until)[:10] == "2031-05-01"
        clock("2031-12-31T00:00:00Z")
        assert ledger.outlook(TRENDS).lasts_until == "2032-01-01T00:00:00Z"

    @pytest.mark.parametrize(("now", "spent"), [("2031-01-31T00:00:00Z", 0), ("2031-01-07T23:59:59Z", 5)])
    def test_too_little_is_known_to_tell(self, now: str, spent: int) -> None:
        assert at_this_rate(NEW_YEAR, now, spent, 75) is None

    def test_a_rate_is_rounded_down_to_the_second(self) -> None:
        """What is left would last ten millionths of a second less than a whole number of them."""
        watched, spent = 7 * 86_400 + 1, 10_000_019
        left = -pow(watched, -1, spent) % spent
        now = later(NEW_YEAR, watched)
        assert now is not None
        assert at_this_rate(NEW_YEAR, now, spent, left) == later(now, (left * watched + 1) // spent - 1)

    def test_a_rate_beyond_the_calendar(self) -> None:
        assert at_this_rate(NEW_YEAR, "2031-01-31T00:00:00Z", 1, CAP) is None

    def test_of_a_budget_that_ends_first(self) -> None:
        pace, until = Pace(Fixed(12), 12, NEW_YEAR), "2031-01-15T00:00:00Z"
        before = Outlook.paced(NEW_YEAR, pace, 120, 10, until)
        assert (before.next_cost, before.more_from, before.lasts_until) == (0, None, until)
        assert Outlook.paced(until, pace, 120, 0, until).next_cost == 0

    def test_of_a_budget_that_is_spent(self) -> None:
        found = Outlook.paced(NEW_YEAR, Pace(Fixed(12), 12, NEW_YEAR), 120, 120, None)
        assert (found.next_cost, found.more_from, found.lasts_until) == (0, None, NEW_YEAR)

    def test_is_json(self) -> None:
        pace = Pace(Decaying(250, 9), 12, NEW_YEAR, 3)
        assert Outlook.paced(NEW_YEAR, pace, 120, 3, None).to_dict()["pace"] == {
            "rule": "decaying",
            "per_mille": 250,
            "price": 9,
            "per_year": 12,
            "begins": NEW_YEAR,
            "base": 3,
        }


class TestLedger:
    def test_holds_to_it(self, ledger: Ledger, clock: Callable[[str], None]) -> None:
        outlook = ledger.set_pace(TRAIN, Fixed(12))
        assert outlook.next_cost == CAP // 12
        ledger.reserve(TRAIN, cost=CAP // 12, release="january", spec=SPEC)
        with pytest.raises(
            BudgetExceeded, match=r"fixed pace, 12 a year of movies/train.*more from 2031-01-31"
        ) as told:
            ledger.reserve(TRAIN, cost=1_000, release="again", spec=SPEC)
        assert (told.value.asked, told.value.left) == (1_000, 0)
        assert ledger.account(TRAIN).spent == CAP // 12
        clock(str(ledger.outlook(TRAIN).more_from))
        ledger.reserve(TRAIN, cost=CAP // 12, release="february", spec=SPEC)
        assert ledger.reserve(TRAIN, cost=CAP // 12, release="january", spec=SPEC).state == "reserved"
        assert ledger.verify().ok

    def test_is_taken_away_on_record(self, ledger: Ledger, clock: Callable[[str], None]) -> None:
        ledger.set_pace(TRAIN, Quality(1_000))
        clock("2031-01-02T00:00:00Z")
        assert ledger.set_pace(TRAIN, None).pace is None
        ledger.reserve(TRAIN, cost=CAP, release="r", spec=SPEC)
        assert [row.facts["rule"] for row in ledger.journal.rows() if row.kind == "pace"] == ["quality", None]
        assert ledger.verify().ok

    @pytest.mark.usefixtures("clock")
    def test_what_was_not_set_is_not_taken_away(self, ledger: Ledger) -> None:
        before = ledger.journal.head()
        assert ledger.set_pace(TRAIN, None).pace is None
        assert ledger.journal.head() == before

    def test_counts_from_what_was_spent_when_it_was_set(self, ledger: Ledger, clock: Callable[[str], None]) -> None:
        ledger.reserve(TRAIN, cost=CAP // 2, release="before", spec=SPEC)
        pace = ledger.set_pace(TRAIN, Fixed(4), per_year=4).pace
        assert pace is not None
        assert pace.base == CAP // 2
        assert ledger.outlook(TRAIN).next_cost == (CAP - CAP // 2) // 4
        clock("2099-01-01T00:00:00Z")
        assert ledger.outlook(TRAIN).next_cost == CAP - CAP // 2

    def test_is_of_one_budget(self, capped: Ledger) -> None:
        capped.set_pace(TRAIN, Quality(1))
        assert capped.outlook(TRENDS).pace is None

    @pytest.mark.usefixtures("clock")
    def test_looks_ahead(self, ledger: Ledger) -> None:
        ledger.set_pace(TRAIN, Fixed(12))
        assert ledger.outlook(TRAIN, at="2031-07-15").next_cost == CAP * 7 // 12
        with pytest.raises(SettingError):
            ledger.outlook(TRAIN, at="someday")

    def test_of_a_budget_that_is_not_there(self, ledger: Ledger) -> None:
        with pytest.raises(AccountMissing):
            ledger.set_pace(Account("a", "b"), Fixed(1))
        with pytest.raises(AccountMissing):
            ledger.outlook(Account("a", "b"))

    @given(st.lists(st.tuples(st.integers(0, 40), st.integers(1, CAP // 4)), max_size=8), rules)
    def test_never_lets_more_through_than_the_rule(self, tries: list[tuple[int, int]], rule: Rule) -> None:
        pace, spent, time = Pace(rule, 365, NEW_YEAR), 0, NEW_YEAR
        for days, cost in tries:
            time = str(later(time, days * 86_400))
            if cost <= pace.next_cost(time, CAP, spent):
                spent += cost
            assert spent <= pace.allowed(pace.slot(time), CAP) <= CAP


class TestVerify:
    @pytest.mark.usefixtures("clock")
    def test_sees_a_release_that_came_too_soon(self, ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
        ledger.set_pace(TRAIN, Fixed(12))
        with monkeypatch.context() as patched:
            patched.setattr(Ledger, "_pace", lambda *_: None)
            ledger.reserve(TRAIN, cost=CAP // 2, release="r", spec=SPEC)
        (problem,) = ledger.verify().problems
        assert "faster than its pace allowed then" in problem.what

    @pytest.mark.parametrize(
        "facts",
        [
            {"name": "movies/train", "rule": "hasty"},
            {"name": "movies/none", **Pace(Fixed(1), 1, NEW_YEAR).facts()},
            {"name": "movies/train", **Pace(Fixed(1), 1, NEW_YEAR, base=7).facts()},
            {"rule": None},
        ],
    )
    def test_sees_a_pace_that_nobody_could_set(self, facts: dict[str, Any], ledger: Ledger) -> None:
        with ledger._db.transaction():
            ledger.journal.append("pace", **facts)
        assert len(ledger.verify().problems) == 1

    def test_a_row_of_another_account_with_its_name_inside_is_not_its_pace(self, ledger: Ledger) -> None:
        odd = Account('x"kind":"pace","name":"movies', "train")
        ledger.open_budget(odd, epsilon=1, delta=DELTA)
        ledger.set_pace(odd, Fixed(3))
        assert ledger.outlook(TRAIN).pace is None
        pace = ledger.outlook(odd).pace
        assert pace is not None
        assert pace.rule == Fixed(3)


def test_an_entry_is_what_the_journal_holds(ledger: Ledger) -> None:
    ledger.set_pace(TRAIN, Decaying(100, 5), begins="2031-01-01")
    *_, last = ledger.journal.rows()
    assert isinstance(last, Entry)
    assert (last.kind, last.facts["per_mille"], last.facts["begins"]) == ("pace", "100", NEW_YEAR)
    assert datetime.fromisoformat(last.at)


def test_a_raised_cap_is_held_to_the_pace_of_its_time(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    """Half of what is left each slot: of more, once there is more."""
    monkeypatch.setattr(module, "now", lambda: NEW_YEAR)
    higher = accounting.cap(3.0, DELTA)
    ledger.set_pace(TRAIN, Decaying(per_mille=500, price=1), per_year=12)
    assert ledger.outlook(TRAIN).next_cost == CAP // 2
    with pytest.raises(BudgetExceeded, match="decaying pace"):
        ledger.reserve(TRAIN, cost=CAP // 2 + 1, release="r", spec=SPEC)
    ledger.raise_cap(TRAIN, epsilon=3.0, by=["ann", "bob"])
    assert ledger.outlook(TRAIN).next_cost == higher // 2
    ledger.reserve(TRAIN, cost=higher // 2, release="r", spec=SPEC)
    with pytest.raises(BudgetExceeded, match="decaying pace"):
        ledger.reserve(TRAIN, cost=1, release="s", spec=SPEC)
    assert ledger.verify().ok


def test_what_a_pace_granted_only_after_a_raise_is_named(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    """As if somebody had moved the row of the raise behind the release that it allowed."""
    monkeypatch.setattr(module, "now", lambda: NEW_YEAR)
    ledger.set_pace(TRAIN, Decaying(per_mille=500, price=1), per_year=12)
    nothing = dict.fromkeys(("asked", "cohort", "prices"))
    with ledger._db.transaction():
        facts = {"account": str(TRAIN), "cost": str(CAP // 2 + 1), "spec": SPEC}
        row = ledger.journal.append("reserve", at=NEW_YEAR, release="r", **facts, **nothing)
    ledger.raise_cap(TRAIN, epsilon=3.0, by=["ann", "bob"])
    assert (row, "spends from budget movies/train faster than its pace allowed then") in {
        (problem.row, problem.what) for problem in ledger.verify().problems
    }
