"""The door: books first, believes no model, never wraps, and adds the noise that the plan priced."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.sparse import csr_array

from discreet.documents import fingerprint
from discreet.errors import BoundExceeded, PrivacyError, SettingError
from discreet.privacy import disclosure
from discreet.privacy.accounting import UNITS_PER_MU2, cap
from discreet.privacy.adjacency import Adjacency
from discreet.privacy.clipping import MAX_BOUND, Summed, add_rows, check_bound
from discreet.privacy.disclosure import Kept, add_up, disclose
from discreet.privacy.guarantee import Guarantee
from discreet.privacy.mechanisms.gaussian import STANDARD_DEVIATION
from discreet.privacy.plan import Plan
from discreet.randomness import NoiseSource

PLAN = Plan(bounds=(5, 1_000), delta=1e-6)


class Till:
    """Books units, or refuses."""

    def __init__(self, left: int = 1 << 40) -> None:
        self.left, self.booked = left, list[int]()

    def __call__(self, units: int) -> None:
        if units > self.left:
            raise SettingError("refused")
        self.left -= units
        self.booked.append(units)


def block(rows: list[list[int]]) -> csr_array:
    return csr_array(np.array(rows, dtype=np.int64))


class TestDisclose:
    def test_the_price_is_booked_before_anything_is_computed(self) -> None:
        events: list[str] = []

        def people() -> Iterator[csr_array]:
            events.append("computed")
            yield block([[3, 4]])

        def book(units: int) -> None:
            events.append(f"booked {units}")

        disclose(people(), PLAN, 0, spend=book)
        assert events == ["booked 25", "computed"]

    def test_a_refusal_computes_nothing(self) -> None:
        computed: list[int] = []

        def people() -> Iterator[csr_array]:
            computed.append(1)
            yield block([[3, 4]])

        with pytest.raises(SettingError, match="refused"):
            disclose(people(), PLAN, 1, spend=Till(left=999_999))
        assert computed == []

    def test_the_sum_and_the_noise(self) -> None:
        """The mean of 40,000 equal coordinates, within 7 deviations of the mean: false alarm below 1e-11."""
        rows = csr_array(np.full((3, 40_000), 1, np.int64))
        got = disclose([rows, rows], PLAN, 1, spend=Till())
        assert abs(got.total.mean() - 6) < 7 * STANDARD_DEVIATION / 200
        assert got.total.std() == pytest.approx(STANDARD_DEVIATION, rel=0.03)
        assert (got.bound, got.deviation, got.secure) == (1_000, STANDARD_DEVIATION, True)
        assert got.sigma == STANDARD_DEVIATION / 1_000
        assert got.values == pytest.approx(got.total / 1_000)

    def test_each_release_has_fresh_noise(self) -> None:
        one, other = (disclose([block([[0] * 8])], PLAN, 0, spend=Till()).total for _ in range(2))
        assert not np.array_equal(one, other)

    def test_a_test_seed_shows(self) -> None:
        got = disclose([block([[1, 2]])], PLAN, 0, spend=Till(), source=NoiseSource(insecure_test_seed=0))
        assert not got.secure

    def test_without_noise_nothing_is_booked_and_the_sum_is_exact(self) -> None:
        plan = Plan.without_noise(1, delta=1e-6)
        got = disclose([block([[3, 4], [1, 0]])], plan, 0, spend=Till(left=-1))
        assert got.total.tolist() == [4, 4]
        assert got.sigma == 0

    def test_one_long_row_refuses_the_whole_block_and_stays_paid(self) -> None:
        till = Till()
        with pytest.raises(BoundExceeded, match="nothing was released") as caught:
            disclose([block([[3, 4], [3, 5]])], PLAN, 0, spend=till)
        assert till.booked == [25]
        assert "5" not in str(caught.value).replace("bound of 5", "")

    def test_a_kernel_that_reports_a_long_row_is_refused(self) -> None:
        with pytest.raises(BoundExceeded):
            disclose([Summed(np.zeros(2, np.int64), np.array([26]))], PLAN, 0, spend=Till())

    def test_nobody_is_no_data_set(self) -> None:
        with pytest.raises(PrivacyError, match="nobody"):
            disclose([], PLAN, 0, spend=Till())

    def test_more_people_than_the_sum_has_room_for(self, monkeypatch: pytest.MonkeyPatch) -> None:
        assert disclosure.HEADROOM + 2**16 < 2**63  # the sum, and the noise on it, fit int64
        monkeypatch.setattr(disclosure, "HEADROOM", 1 << 34)
        plan = Plan(bounds=(MAX_BOUND,), delta=1e-6)
        for people in (64, 65, 1_000):
            crowd = Summed(np.zeros(1, np.int64), np.zeros(people, np.int64))
            with pytest.raises(PrivacyError, match=f"{people:,} people .* could overflow"):
                disclose([crowd], plan, 0, spend=Till(left=1 << 60))
        parts = [Summed(np.zeros(1, np.int64), np.zeros(people, np.int64)) for people in (60, 3, 1)]
        with pytest.raises(PrivacyError, match=r"64 people .* could overflow"):
            disclose(parts, plan, 0, spend=Till(left=1 << 60))
        disclose(parts[:2], plan, 0, spend=Till(left=1 << 60))

    def test_blocks_of_different_widths_are_no_sum(self) -> None:
        """One number would be added to every coordinate: a contribution sqrt(dims) times too long."""
        with pytest.raises(TypeError, match="cannot be one sum"):
            disclose([block([[0] * 50]), block([[5]])], PLAN, 0, spend=Till())

    def test_who_adds_is_an_argument(self) -> None:
        seen: list[int] = []

        def add(vectors: Iterable[NDArray[np.int64]]) -> NDArray[np.int64]:
            total = add_up(vectors)
            seen.append(int(total.sum()))
            return total

        disclose([block([[3, 4]]), block([[0, 5]])], PLAN, 0, spend=Till(), add=add)
        assert seen == [12]


rows_of_one = st.lists(st.integers(-(2**40), 2**40), min_size=1, max_size=30)


class TestBound:
    @given(rows_of_one, st.integers(1, MAX_BOUND))
    @settings(max_examples=300)
    def test_exactly_the_rows_within_the_bound_pass(self, row: list[int], bound: int) -> None:
        fits = sum(q * q for q in row) <= bound * bound
        if fits:
            summed = add_rows(block([row]), bound)
            assert summed.squared_norms.tolist() == [sum(q * q for q in row)]
            assert summed.total.tolist() == row
        else:
            with pytest.raises(BoundExceeded):
                add_rows(block([row]), bound)

    def test_a_row_cannot_hide_behind_overflow(self) -> None:
        """2^8 entries of 2^28 have a squared length of 2^64, which int64 calls 0."""
        with pytest.raises(BoundExceeded):
            add_rows(block([[MAX_BOUND] * 256]), MAX_BOUND)
        with pytest.raises(BoundExceeded):
            add_rows(block([[-(2**63)]]), MAX_BOUND)

    def test_one_more_than_the_bound_is_too_much(self) -> None:
        check_bound(Summed(np.zeros(1, np.int64), np.array([25])), 5)
        with pytest.raises(BoundExceeded):
            check_bound(Summed(np.zeros(1, np.int64), np.array([26])), 5)
        with pytest.raises(BoundExceeded):
            check_bound(Summed(np.zeros(1, np.int64), np.array([-1])), 5)

    def test_a_coordinate_that_comes_twice_is_refused_whatever_the_cache_says(self) -> None:
        """Ten entries of 10 on one coordinate are one of 100: ten times the length that their squares add up to."""
        rows = csr_array((np.full(10, 10), np.zeros(10, np.int64), [0, 10]), shape=(1, 5))
        rows.has_canonical_format = True
        with pytest.raises(TypeError, match="canonical"):
            add_rows(rows, 100)

    @pytest.mark.parametrize("kind", ["bsr", "coo", "csc", "dia", "dok", "lil"])
    def test_columns_are_not_rows(self, kind: str) -> None:
        rows: Any = csr_array(np.diag([1_000] * 3))
        with pytest.raises(TypeError, match="csr"):
            add_rows(rows.asformat(kind), 1_000)

    def test_a_block_of_nobody_adds_nothing(self) -> None:
        summed = add_rows(csr_array((0, 3), dtype=np.int64), 5)
        assert (summed.total.tolist(), summed.squared_norms.tolist()) == ([0, 0, 0], [])

    @given(st.integers(1, MAX_BOUND // 5), st.integers(0, 3))
    def test_floats_refuse_no_row_that_is_exactly_as_long_as_the_bound(self, part: int, nothing: int) -> None:
        row = [3 * part, *[0] * nothing, -4 * part]
        assert add_rows(block([row]), 5 * part).squared_norms.tolist() == [(5 * part) ** 2]
        with pytest.raises(BoundExceeded):
            add_rows(block([[*row, 1]]), 5 * part)

    @pytest.mark.parametrize("place", [-1, 5])
    def test_a_coordinate_out_of_range_is_refused(self, place: int) -> None:
        rows = csr_array((np.array([1]), np.array([0]), [0, 1]), shape=(1, 5))
        rows.indices[0] = place
        with pytest.raises(TypeError, match="out of range"):
            add_rows(rows, 100)

    @pytest.mark.parametrize(
        "summed",
        [
            Summed(np.array([[5], [7]]), np.array([1])),
            Summed(np.array([5, 7]), np.array([[1]])),
            Summed(np.array([5, 7]), np.array([1], np.int32)),
            Summed(np.array([5, 7], np.int32), np.array([1])),
            Summed(np.array([5, 7], np.uint64), np.array([1])),
            Summed(np.array([5, 7], np.float64), np.array([1])),
            Summed(np.array([5, 7]), np.array([1], np.uint64)),
            Summed(np.array([5, 7]), np.array([1], np.float64)),
            Summed(np.array([5, 7]), np.array(1)),
            Summed(np.array(5), np.array([1])),
        ],
    )
    def test_only_vectors_of_int64_pass(self, summed: Summed) -> None:
        with pytest.raises(TypeError, match="int64 vectors"):
            check_bound(summed, 100)

    @pytest.mark.parametrize("kind", [np.float64, np.float32, np.int32, np.int8, np.uint64, np.bool_])
    def test_nothing_but_int64_enters(self, kind: type) -> None:
        """Squares of narrower integers would wrap, and floats are not exact."""
        with pytest.raises(TypeError, match="int64"):
            add_rows(csr_array(np.ones((1, 2), kind)), 5)

    @given(st.lists(st.lists(st.integers(-9, 9), min_size=4, max_size=4), min_size=2, max_size=8))
    def test_leaving_a_person_out_moves_the_sum_by_their_row(self, rows: list[list[int]]) -> None:
        whole, without = add_rows(block(rows), 18), add_rows(block(rows[1:]), 18)
        assert (whole.total - without.total).tolist() == rows[0]


class TestPlan:
    @given(st.floats(0.1, 20), st.lists(st.floats(0.05, 1), min_size=1, max_size=6), st.sampled_from(Adjacency))
    @settings(deadline=None)
    def test_a_shared_budget_is_never_overspent_and_hardly_wasted(
        self, epsilon: float, shares: list[float], adjacency: Adjacency
    ) -> None:
        units = cap(epsilon, 1e-6)
        plan = Plan.sharing(units, shares, delta=1e-6, adjacency=adjacency)
        assert plan.cost <= units
        assert plan.cost > units - 4 * sum(adjacency.moves**2 * (bound + 1) for bound in plan.bounds)

    @pytest.mark.parametrize("adjacency", Adjacency)
    def test_a_budget_that_floats_round_up_is_not_overspent(self, adjacency: Adjacency) -> None:
        """2^54 - 1 is 2^54 as a float, whose root is whole."""
        units = 2**54 - 1
        plan = Plan.sharing(units, [1.0], delta=1e-6, adjacency=adjacency)
        assert units - 2**30 < plan.cost <= units

    @pytest.mark.parametrize("weight", [-1, 9])
    def test_weights_out_of_range(self, weight: int) -> None:
        with pytest.raises(SettingError, match="0 to 8 sixteenths"):
            Plan(bounds=(5,), delta=1e-6, weights=(("health", weight),))

    def test_replacing_a_person_costs_four_times_as_much(self) -> None:
        add, replace, choice = (Plan(bounds=(10,), delta=1e-6, adjacency=each) for each in Adjacency)
        assert (add.price(0), replace.price(0), choice.price(0)) == (100, 400, 100)

    def test_a_plan_survives_storage_and_its_fingerprint_tells_plans_apart(self) -> None:
        assert Plan.from_dict(PLAN.to_dict()) == PLAN
        other = Plan(bounds=(5, 1_001), delta=1e-6)
        assert fingerprint(PLAN.to_dict()) != fingerprint(other.to_dict())
        assert fingerprint(PLAN.to_dict()) == fingerprint(dict(reversed(PLAN.to_dict().items())))

    @pytest.mark.parametrize("bounds", [(), (0,), (5, MAX_BOUND + 1), (-3,), (1.5,)])
    def test_bounds_out_of_range(self, bounds: Any) -> None:
        with pytest.raises(SettingError, match="round"):
            Plan(bounds=bounds, delta=1e-6)

    def test_what_is_not_a_plan(self) -> None:
        for change in ({"grid_bits": 16}, {"bounds": None}, {"adjacency": "none"}, {"delta": 2}):
            with pytest.raises(SettingError):
                Plan.from_dict(PLAN.to_dict() | change)
        with pytest.raises(SettingError, match="too small"):
            Plan.sharing(1, [1, 1], delta=1e-6)
        with pytest.raises(SettingError, match="no price"):
            Plan.without_noise(1, delta=1e-6).price(0)


class TestGuarantee:
    def test_it_says_what_the_plan_cost(self) -> None:
        plan = Plan.sharing(cap(2.0, 1e-5), [1, 2], delta=1e-5)
        promise = Guarantee.of(plan)
        assert 1.99 < promise.epsilon <= 2.0
        assert "at most 60 times out of 100; a coin flip gets 50" in str(promise)
        assert promise.units == plan.cost
        assert promise.mu**2 == pytest.approx(plan.cost / UNITS_PER_MU2)

    def test_what_was_made_without_noise_promises_nothing(self) -> None:
        promise = Guarantee.of(Plan.without_noise(2, delta=1e-6))
        assert (promise.epsilon, promise.odds) == (float("inf"), 1.0)
        assert "NOT PRIVATE" in str(promise)
        assert promise.to_dict()["epsilon"] is None

    def test_what_was_made_with_a_test_seed_promises_nothing(self) -> None:
        promise = Guarantee.of(PLAN, secure=False)
        assert not promise.private
        assert promise.epsilon == float("inf")
        assert "unsafe_noise" in str(promise)

    @pytest.mark.parametrize(
        ("adjacency", "window", "unit", "sentence", "neighbours"),
        [
            (
                Adjacency.ADD_OR_REMOVE_PERSON,
                None,
                "person",
                "this model could tell whether you were in it at most 51",
                "one person's whole history and an empty one in its place",
            ),
            (
                Adjacency.REPLACE_PERSON,
                "2024",
                "person-year",
                "this model could tell whether anything you did in 2024 was in it at most 51",
                "one person's history of 2024 and any other in its place",
            ),
            (
                Adjacency.ADD_OR_REMOVE_INTERACTION,
                None,
                "interaction",
                "this list could tell whether a single choice of yours is in it at most 51",
                "one person's choice of one item, made or not made",
            ),
            (
                Adjacency.ADD_OR_REMOVE_INTERACTION,
                "2024-05",
                "interaction-month",
                "this list could tell whether a single choice of yours is in it at most 51",
                "one person's choice of one item, made or not made in 2024-05",
            ),
        ],
    )
    def test_it_says_who_is_protected_and_in_what(
        self, adjacency: Adjacency, window: str | None, unit: str, sentence: str, neighbours: str
    ) -> None:
        promise = Guarantee.of(Plan(bounds=(16,), delta=1e-6, adjacency=adjacency), window=window)
        assert (promise.unit, promise.neighbours) == (unit, neighbours)
        assert sentence in promise.sentence
        assert f"between {neighbours}" in str(promise)
        told = " / ".join(promise.not_protected)
        assert (f"outside {window}" in told) == (window is not None)
        assert ("k times less" in told) == (adjacency is Adjacency.ADD_OR_REMOVE_INTERACTION)
        assert Guarantee.from_dict(promise.to_dict()) == promise

    def test_a_window_that_is_none(self) -> None:
        with pytest.raises(SettingError, match="year, month or day"):
            Guarantee.of(PLAN, window="last week")

    def test_it_survives_storage_and_believes_no_stored_epsilon(self) -> None:
        promise = Guarantee.of(PLAN)
        assert Guarantee.from_dict(promise.to_dict() | {"epsilon": 1e-9, "sentence": "trust me"}) == promise
        with pytest.raises(SettingError):
            Guarantee.from_dict({"units": "many"})

    @pytest.mark.parametrize(
        ("name", "value"),
        [
            *(("units", value) for value in (-1, 1 << 53, 10**400, float("inf"), "many")),
            *(("delta", value) for value in (0.0, 1.0, -1e-6, float("nan"), 10**400)),
            ("adjacency", "nobody"),
            ("levels", {"\ud800": {"units": 1}}),
            ("records", {"health": {"units": -1}}),
        ],
    )
    def test_a_stored_one_is_what_one_can_be(self, name: str, value: object) -> None:
        with pytest.raises(SettingError):
            Guarantee.from_dict(Guarantee.of(PLAN).to_dict() | {name: value})


@dataclass(frozen=True)
class Elsewhere:
    people: int

    def __len__(self) -> int:
        return self.people


class Asks:
    """Whoever adds up what people elsewhere send, as often as told; one that draws noise when asked to."""

    honest = 4

    def __init__(self, draws: int = 0) -> None:
        self.draws = draws

    def __call__(
        self, people: Elsewhere, plan: Plan, number: int, noise: Callable[[int], NDArray[np.int64]]
    ) -> NDArray[np.int64]:
        assert (people.people, plan.rounds, number) == (5, 2, 1)
        total = np.array([3, -4, 5])
        for _ in range(self.draws):
            total = total + 0 * noise(3)
        return total


class TestPeopleElsewhere:
    SHARES = replace(PLAN, bounds=(10, 1_000), noise="shares", parties=5, honest=4)
    TWO = replace(PLAN, bounds=(10, 1_000), noise="two-servers")

    @pytest.mark.parametrize(("plan", "draws"), [(SHARES, 0), (TWO, 1)])
    def test_their_sum_is_paid_for_first_and_is_what_comes_out(self, plan: Plan, draws: int) -> None:
        paid: list[int] = []
        got = disclose(Elsewhere(5), plan, 1, spend=paid.append, add=Asks(draws))
        assert (paid, got.total.tolist(), got.bound) == ([plan.price(1)], [3, -4, 5], 1_000)
        assert (got.deviation, got.secure) == (plan.deviation, True)
        assert not disclose(
            Elsewhere(5), plan, 1, spend=Till(), add=Asks(draws), source=NoiseSource(insecure_test_seed=1)
        ).secure

    @pytest.mark.parametrize(("plan", "draws"), [(SHARES, 1), (TWO, 0), (TWO, 2)])
    def test_noise_where_the_plan_does_not_have_it(self, plan: Plan, draws: int) -> None:
        with pytest.raises(PrivacyError, match="did not add noise where the plan has it"):
            disclose(Elsewhere(5), plan, 1, spend=Till(), add=Asks(draws))

    @pytest.mark.parametrize("plan", [SHARES, TWO])
    def test_a_sum_that_was_known_before_the_run_was_cut_off(self, plan: Plan) -> None:
        """Its noise is in it; drawing more would make it another sum."""

        class Before(Asks):
            def __call__(self, *_: object) -> Kept:  # type: ignore[override]
                return Kept(np.array([1, 2]))

        assert disclose(Elsewhere(5), plan, 1, spend=Till(), add=Before()).total.tolist() == [1, 2]

    def test_noise_of_the_door_alone_would_come_too_late(self) -> None:
        with pytest.raises(PrivacyError, match="in shares, or two servers do"):
            disclose(Elsewhere(5), replace(PLAN, bounds=(10, 1_000)), 1, spend=Till(), add=Asks())

    def test_an_adder_that_may_be_left_with_too_few_shares(self) -> None:
        with pytest.raises(PrivacyError, match="5 honest shares are needed"):
            disclose(Elsewhere(5), replace(self.SHARES, honest=5), 1, spend=Till(), add=Asks())

    def test_more_people_than_a_sum_has_room_for(self) -> None:
        with pytest.raises(PrivacyError, match="could overflow the sum"):
            disclose(Elsewhere(1 << 60), self.SHARES, 1, spend=Till(), add=Asks())
