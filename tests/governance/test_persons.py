"""Persons: membership, admission and tallies against plain sets and dictionaries."""

import hashlib
from collections.abc import Iterator
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import insert, text

from discreet.errors import BudgetExceeded, LedgerCorrupted, ReleaseConflict, SettingError
from discreet.governance import schema
from discreet.governance.charges import Charges
from discreet.governance.ledger import Account, Ledger
from discreet.governance.persons import Crowd, Persons, Tally, as_crowd, digest, within
from discreet.governance.releases import ReleaseRow
from discreet.governance.tables import opened
from discreet.privacy import accounting

DELTA = 1e-6
SPEC = hashlib.sha256(b"plan").hexdigest()
PERSON_CAP = accounting.cap(1.0, DELTA)

# Few values in few places: neighbours, shared prefixes and trailing zeros, which numpy's S types would drop.
PSEUDONYMS = st.builds(
    lambda first, last: bytes([first]) + bytes(14) + bytes([last]),
    st.sampled_from([0, 1, 127, 128, 255]),
    st.sampled_from([0, 1, 128, 255]),
)
CROWDS = st.lists(PSEUDONYMS, min_size=1, max_size=12)


@pytest.fixture
def persons(ledger: Ledger, place: str | Path) -> Iterator[Persons]:
    with closing(opened(place, 1, may_create=False)) as database:
        yield Persons(database)


def crowd_of(pseudonyms: list[bytes]) -> Crowd:
    return as_crowd(b"".join(pseudonyms))


def members_of(pseudonyms: list[bytes]) -> Crowd:
    return np.unique(crowd_of(pseudonyms))


@given(members=CROWDS, crowd=CROWDS)
def test_within_is_membership(members: list[bytes], crowd: list[bytes]) -> None:
    found = within(members_of(members), crowd_of(crowd))
    assert found.tolist() == [each in set(members) for each in crowd]


@given(crowd=CROWDS)
def test_nobody_is_within_nobody(crowd: list[bytes]) -> None:
    assert not within(as_crowd(b""), crowd_of(crowd)).any()


@given(one=CROWDS, other=CROWDS)
def test_digests_tell_sets_apart(one: list[bytes], other: list[bytes]) -> None:
    assert (digest(members_of(one)) == digest(members_of(other))) == (set(one) == set(other))
    assert digest(None) is None


class PlainTally:
    """What `Tally` says, in dictionaries."""

    def __init__(self) -> None:
        self.general: int | None = None
        self.own: dict[bytes, int] = {}
        self.everybody = 0
        self.spent: dict[bytes, int] = {}

    def fits(self, person: bytes) -> bool:
        caps = [cap for cap in (self.general, self.own.get(person)) if cap is not None]
        return all(self.spent.get(person, 0) + self.everybody <= cap for cap in caps)

    def spend(self, cost: int, members: set[bytes] | None) -> bool:
        if members is None:
            self.everybody += cost
            return self.general is None and not self.own
        for person in members:
            self.spent[person] = self.spent.get(person, 0) + cost
        return all(self.fits(person) for person in members)


EVENTS = st.one_of(
    st.tuples(st.just("general"), st.integers(1, 12), st.none()),
    st.tuples(st.just("own"), st.integers(0, 12), PSEUDONYMS),
    st.tuples(st.just("spend"), st.integers(1, 5), st.one_of(st.none(), CROWDS)),
)


@given(events=st.lists(EVENTS, max_size=12))
def test_tally_is_plain_sums(events: list[tuple[str, int, Any]]) -> None:
    tally, plain = Tally(), PlainTally()
    for kind, units, who in events:
        if kind == "general":
            tally.cap_everybody(units)
            plain.general = min(units, units if plain.general is None else plain.general)
        elif kind == "own":
            before = [cap for cap in (plain.general, plain.own.get(who)) if cap is not None]
            assert tally.cap_one(who, units) == all(units <= cap for cap in before)
            plain.own[who] = units
        else:
            members = None if who is None else members_of(who)
            assert tally.spend(units, members) == plain.spend(units, None if who is None else set(who))


def test_a_budget_without_a_personal_cap_lifts_none() -> None:
    tally = Tally()
    tally.cap_everybody(None)
    assert tally.spend(10**12, None)
    tally.cap_everybody(7)
    tally.cap_everybody(None)
    assert not tally.spend(1, None)


@pytest.mark.parametrize(("over", "fits"), [(0, True), (1, False)])
def test_tally_at_the_cap_and_one_over(over: int, fits: bool) -> None:
    tally, members = Tally(), as_crowd(bytes(16))
    tally.cap_everybody(100)
    assert tally.spend(99, members)
    assert tally.spend(1 + over, members) is fits


# --- Admission, against a plain model through the ledger's own door

PEOPLE: list[str | int] = ["ann", "bob", "cyd", 1, "1"]
STEPS = st.lists(
    st.tuples(
        st.lists(st.sampled_from(PEOPLE), min_size=1, max_size=6),
        st.sampled_from([1, PERSON_CAP // 3, PERSON_CAP // 2, PERSON_CAP - 1, PERSON_CAP]),
        st.sampled_from([None, 0.3, 0.7]),
    ),
    min_size=1,
    max_size=5,
)


@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=STEPS)
def test_admission_is_what_a_dictionary_says(ledger: Ledger, steps: list[Any]) -> None:
    dataset = f"data {len(ledger.accounts())}"  # a new one for each example
    account = Account(dataset, "train")
    ledger.open_budget(account, epsilon=accounting.MAX_EPSILON, delta=DELTA, person_epsilon=1.0)
    left = dict.fromkeys(map(str, PEOPLE), PERSON_CAP)
    for number, (people, cost, limit) in enumerate(steps):
        if limit is not None and not ledger.person(dataset, people[0]).spent:
            ledger.limit_person(dataset, people[0], epsilon=0.3, delta=DELTA)
            left[str(people[0])] = accounting.cap(0.3, DELTA)
        expected = [left[str(person)] >= cost for person in people]
        if any(expected):
            made = ledger.reserve(account, cost=cost, release=f"{dataset}-{number}", spec=SPEC, people=people)
            assert made.admitted is not None
            assert made.admitted.tolist() == expected
            for person in {str(person) for person, able in zip(people, expected, strict=True) if able}:
                left[person] -= cost
    assert ledger.verify().ok


# --- Ids


def test_pseudonyms_are_kept_apart(persons: Persons) -> None:
    ids: list[str | int] = ["1", "01", -1, "i1", "s1", "", "a", "A", "a\x00", "é", "e\u0301", 2**70, "\udcff"]
    crowd = persons.crowd("movies", ids)
    assert len({bytes(each) for each in crowd}) == len(ids)
    assert persons.crowd("movies", ids).tobytes() == crowd.tobytes()
    assert persons.crowd("music", ids).tobytes() != crowd.tobytes()


def test_a_number_and_its_text_are_one_person(persons: Persons) -> None:
    numbers, texts = persons.crowd("movies", [1, -7, 2**70]), persons.crowd("movies", ["1", "-7", str(2**70)])
    assert numbers.tobytes() == texts.tobytes()


@pytest.mark.parametrize("dtype", [np.int8, np.int32, np.int64, np.uint64])
def test_integers_of_any_width_are_one_person(persons: Persons, dtype: type) -> None:
    assert persons.crowd("movies", np.array([7], dtype)).tobytes() == persons.crowd("movies", [7]).tobytes()


def test_text_of_any_kind_is_one_person(persons: Persons) -> None:
    plain = persons.crowd("movies", ["ann"]).tobytes()
    assert persons.crowd("movies", np.array(["ann"])).tobytes() == plain
    assert persons.crowd("movies", np.array(["ann"], dtype=object)).tobytes() == plain
    assert persons.crowd("movies", ("ann",)).tobytes() == plain


@pytest.mark.parametrize(
    ("people", "said"),
    [
        ("zaphod", "one text, whose letters"),
        (b"zaphod", "one text, whose letters"),
        ([], "nobody was named"),
        (np.zeros((2, 2), np.int64), "array of 2 dimensions"),
        (np.array(3), "array of 0 dimensions"),
        (np.array([1.0]), "number 0 .* of type float"),
        (np.array([True]), "number 0 .* of type bool"),
        (["ann", None], "number 1 .* of type NoneType"),
        (["ann", b"zaphod"], "number 1 .* of type bytes"),
        (["ann", ("zaphod",)], "number 1 .* of type tuple"),
        ([10**5000], "at most 4,096 bits; number 0"),
    ],
)
def test_ids_that_are_none(persons: Persons, people: Any, said: str) -> None:
    with pytest.raises(SettingError, match=said) as refused:
        persons.crowd("movies", people)
    assert "zaphod" not in str(refused.value)


@pytest.mark.parametrize("dataset", ["", "a/b", "a\x00b", "\udcff", "x" * 201])
def test_data_sets_that_are_none(ledger: Ledger, dataset: str) -> None:
    with pytest.raises(SettingError):
        ledger.person(dataset, "ann")
    with pytest.raises(SettingError):
        ledger.limit_person(dataset, "ann", epsilon=1.0, delta=DELTA)


# --- Forged cohorts


def pseudonyms(*texts: str) -> bytes:
    """Return pseudonyms of two halves, such as ``a1``."""
    return b"".join(text[0].encode() * 8 + text[1].encode() * 8 for text in texts)


@pytest.mark.parametrize(
    "members",
    [
        b"",
        b"x" * 15,
        b"b" * 16 + b"a" * 16,
        b"a" * 32,
        pseudonyms("a1", "a3", "a2"),
        pseudonyms("a1", "c1", "b1"),
        pseudonyms("a2", "b1", "b1"),
        pseudonyms("b1", "a2", "b3"),
    ],
)
def test_a_cohort_that_cannot_be_searched_is_refused(
    ledger: Ledger, persons: Persons, path: Path, members: bytes
) -> None:
    key = hashlib.sha256(members).hexdigest()
    ledger._db._run("PRAGMA ignore_check_constraints = ON")
    ledger._db.execute(insert(schema.cohort), digest=key, members=members)
    with pytest.raises(LedgerCorrupted, match="cohort"):
        persons.cohort(key)


def test_cohorts_that_can_be_searched(ledger: Ledger, persons: Persons) -> None:
    for members in (pseudonyms("a1"), pseudonyms("a1", "a2", "a3", "b0"), pseudonyms("a9", "b1", "c0")):
        persons.keep(as_crowd(members))
        assert persons.cohort(hashlib.sha256(members).hexdigest()).tobytes() == members


def test_a_cohort_comes_back(ledger: Ledger, persons: Persons) -> None:
    members = np.unique(persons.crowd("movies", range(50)))
    persons.keep(members)
    persons.keep(members)
    key = digest(members)
    assert key is not None
    assert persons.cohort(key).tobytes() == members.tobytes()


def test_a_pseudonym_cut_off_is_named() -> None:
    with pytest.raises(LedgerCorrupted, match="pseudonym"):
        as_crowd(bytes(17))


def test_a_key_that_is_gone(ledger: Ledger, forge: Any) -> None:
    forge("DELETE FROM secret")
    with pytest.raises(LedgerCorrupted, match="key of the pseudonyms is gone") as gone:
        ledger.person("movies", "ann")
    assert gone.value.row == 0
    assert [problem.row for problem in ledger.verify().problems] == [0]


# --- Prices and what was used of them


@pytest.fixture
def levelled(ledger: Ledger) -> Ledger:
    ledger.open_budget(Account("levels", "train"), epsilon=8.0, delta=DELTA, person_epsilon=1.0)
    return ledger


def test_each_is_held_for_their_own_price(levelled: Ledger) -> None:
    account, third = Account("levels", "train"), PERSON_CAP // 3
    for number in range(3):
        prices = np.array([third, 4 * third, third], np.int64)
        made = levelled.reserve(
            account, cost=4 * third, release=f"r{number}", spec=SPEC, people=["a", "b", "c"], prices=prices
        )
        assert made.admitted is not None
        assert made.admitted.tolist() == [True, False, True]  # b's price is above what a person may spend
    assert [levelled.person("levels", each).spent for each in "abc"] == [3 * third, 0, 3 * third]
    with pytest.raises(BudgetExceeded, match="none of the people"):
        levelled.reserve(account, cost=third, release="more", spec=SPEC, people=["a"], prices=np.array([third]))
    assert levelled.account(account).spent == 12 * third  # the account pays what whoever gives the most pays
    assert levelled.verify().ok


def test_what_was_used_is_told_and_admits_nobody(levelled: Ledger) -> None:
    account = Account("levels", "train")
    made = levelled.reserve(account, cost=PERSON_CAP, release="r", spec=SPEC, people=["b", "a"])
    made.use(np.array([5, 7]))
    levelled.commit("r", SPEC, made.used)
    assert [levelled.person("levels", each) for each in "ab"] == [
        (7, PERSON_CAP, PERSON_CAP),
        (5, PERSON_CAP, PERSON_CAP),
    ]
    with pytest.raises(BudgetExceeded):  # or it could be seen from outside that somebody used little
        levelled.reserve(account, cost=1, release="s", spec=SPEC, people=["a"])
    assert levelled.verify().ok


def test_a_reservation_is_repeated_at_its_prices_alone(levelled: Ledger) -> None:
    account = Account("levels", "train")
    reserve = partial(levelled.reserve, account, cost=8, release="r", spec=SPEC)
    first = reserve(people=["a", "b"], prices=np.array([2, 8]))
    again = reserve(people=["b", "a"], prices=np.array([8, 2]))
    assert first.state == again.state == "reserved"
    for prices in (None, np.array([2, 2]), np.array([2, 7])):
        with pytest.raises(ReleaseConflict):
            reserve(people=["a", "b"], prices=prices)
    assert levelled.account(account).spent == 8


@pytest.mark.parametrize(
    ("people", "prices", "refused"),
    [
        (None, [1], "say of whom"),
        (["a", "a"], [1, 1], "more than once"),
        (["a", "b"], [1], "one int64"),
        (["a"], [0], "out of its range"),
        (["a"], [9], "out of its range"),
        (["a"], [1.0], "one int64"),
    ],
)
def test_prices_that_are_none(levelled: Ledger, people: list[str] | None, prices: list[int], refused: str) -> None:
    account = Account("levels", "train")
    with pytest.raises(SettingError, match=refused):
        levelled.reserve(account, cost=8, release="r", spec=SPEC, people=people, prices=np.array(prices))
    assert levelled.account(account).spent == 0


@pytest.mark.parametrize("used", [[9, 1], [-1, 1], [3, 1], [1], [1.0, 1.0]])
def test_more_than_what_is_held_is_not_settled(levelled: Ledger, used: list[int]) -> None:
    account = Account("levels", "train")
    levelled.reserve(account, cost=8, release="r", spec=SPEC, people=["a", "b"], prices=np.array([2, 2]))
    with pytest.raises(SettingError):
        levelled.commit("r", SPEC, np.array(used))
    assert levelled.releases()[0].state == "reserved"


@pytest.mark.parametrize("shape", [(), (0,), (1,), (3,), (2, 1), (1, 2)])
def test_what_was_used_is_one_number_a_person(levelled: Ledger, shape: tuple[int, ...]) -> None:
    made = levelled.reserve(Account("levels", "train"), cost=8, release="r", spec=SPEC, people=["a", "b"])
    with pytest.raises(SettingError, match="one number of units is needed for each of the people"):
        made.use(np.zeros(shape, np.int64))
    assert made.used is None


def test_nothing_is_settled_of_unnamed_people(ledger: Ledger) -> None:
    account = Account("unnamed", "train")
    ledger.open_budget(account, epsilon=8.0, delta=DELTA)
    made = ledger.reserve(account, cost=8, release="r", spec=SPEC)
    with pytest.raises(SettingError):
        made.use(np.array([1]))
    with pytest.raises(SettingError, match="without naming people"):
        ledger.commit("r", SPEC, np.array([1]))


def test_a_forged_settlement_is_named(levelled: Ledger) -> None:
    account = Account("levels", "train")
    made = levelled.reserve(account, cost=8, release="r", spec=SPEC, people=["a", "b"], prices=np.array([2, 2]))
    made.use(np.array([1, 2]))
    too_much = Charges(levelled._db)
    with levelled._db.transaction():
        digest_of = too_much.keep(np.array([3, 3]))
        ended = text("UPDATE release SET state = 'committed', artefact = :artefact, used = :used")
        levelled._db.execute(ended, artefact=SPEC, used=digest_of)
        row = levelled.journal.append("commit", release="r", artefact=SPEC, used=digest_of)
    problems = levelled.verify().problems
    assert [problem.row for problem in problems] == [row]
    assert "above what somebody is held for" in problems[0].what


@pytest.mark.parametrize("prices", [[2, 9], [2], [2, 2, 2]])
def test_forged_prices_are_named(levelled: Ledger, prices: list[int]) -> None:
    levelled.reserve(Account("levels", "train"), cost=8, release="r", spec=SPEC, people=["a", "b"])
    row = levelled.journal.head().seq + 1
    with levelled._db.transaction():
        members = Persons(levelled._db).crowd("levels", ["a", "c"])
        cohort = digest(np.unique(members))
        Persons(levelled._db).keep(np.unique(members))
        told = {"account": "levels/train", "cost": "8", "spec": SPEC, "asked": cohort, "cohort": cohort}
        held = Charges(levelled._db).keep(np.array(prices))
        levelled._db.execute(text("UPDATE account SET spent = spent + 8 WHERE name = 'levels/train'"))
        forged = ReleaseRow("s", "levels/train", 8, SPEC, cohort, cohort, held)
        levelled._db.execute(insert(schema.release), **forged._asdict())
        levelled.journal.append("reserve", release="s", **told, prices=held)
    problems = levelled.verify().problems
    assert [problem.row for problem in problems] == [row]
    assert problems[0].what == "holds somebody of s for more than it costs, or names prices of other people"


def test_prices_of_other_people_are_damage(levelled: Ledger) -> None:
    """Whoever asks for what they are held for is not told what belongs to somebody else."""
    account = Account("levels", "train")
    levelled.reserve(account, cost=8, release="r", spec=SPEC, people=["a", "b"], prices=np.array([2, 3]))
    on = " ON release" if levelled._db.DIALECT.name == "postgresql" else ""
    dropped = text(f"DROP TRIGGER release_ends_once{on}")
    with levelled._db.transaction():
        levelled._db.execute(dropped)
        other = Charges(levelled._db).keep(np.array([2]))
        levelled._db.execute(text("UPDATE release SET prices = :prices"), prices=other)
    with pytest.raises(LedgerCorrupted, match="does not fit its cohort"):
        levelled.person("levels", "a")


@pytest.mark.parametrize("units", [-1, 1 << 53])
def test_units_that_are_none_are_damage(levelled: Ledger, units: int) -> None:
    charges = Charges(levelled._db)
    kept = charges.keep(np.array([1, (1 << 53) - 1, 0]))
    assert charges.of(kept).tolist() == [1, (1 << 53) - 1, 0]
    with pytest.raises(LedgerCorrupted, match="is damaged"):
        charges.of(charges.keep(np.array([1, units])))


def test_groups_that_share_nobody_draw_apart(levelled: Ledger) -> None:
    made = levelled.reserve(Account("levels", "train"), cost=8, release="r", spec=SPEC, people=["a", "b"])
    made.draw(5)
    made.use(np.array([1, 2]))
    apart = made.apart()
    apart.draw(8)
    assert (made.drawn, apart.drawn, apart.used) == (5, 8, None)
    assert (apart.release, apart.cost, apart.order is made.order) == ("r", 8, True)
    with pytest.raises(BudgetExceeded, match="3 of its reservation left"):
        made.draw(4)


def test_the_journal_does_not_let_anybody_try_out_what_was_used(levelled: Ledger) -> None:
    """A digest of a list of which all but one number is known would tell that one."""
    account = Account("levels", "train")
    made = levelled.reserve(account, cost=8, release="r", spec=SPEC, people=["a", "b"], prices=np.array([2, 2]))
    made.use(np.array([1, 2]))
    levelled.commit("r", SPEC, made.used)
    written = "".join(str(entry.facts) for entry in levelled.journal.rows())
    for units in ([1, 2], [2, 1], [2, 2]):
        content = np.array(units).astype("<i8").tobytes()
        assert hashlib.sha256(content).hexdigest() not in written
    assert levelled.verify().ok
