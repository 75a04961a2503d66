"""Adders that see no vector: exact sums, whoever is lost; noise in shares; and the same model as in one place."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.sparse import csr_array
from tests.conftest import TRAIN

from discreet.data.interactions import Interactions
from discreet.errors import PrivacyError, SettingError, TooFewLeft
from discreet.models.broadcast import bits_for
from discreet.models.recipe import recipe
from discreet.models.trained import Trained
from discreet.privacy.accounting import UNITS_PER_MU2, cap
from discreet.privacy.disclosure import add_up, disclose
from discreet.privacy.guarantee import Guarantee
from discreet.privacy.mechanisms.discrete_gaussian import ROUNDING, share_of
from discreet.privacy.plan import Plan
from discreet.randomness import NoiseSource
from discreet.training.aggregation import SecureSum, TwoServers
from discreet.training.populations import Here, Work
from discreet.training.rounds import train

VECTORS = np.random.default_rng(4).integers(-900, 900, (7, 5))


def nobody(units: int) -> None:
    assert units > 0


def without_noise(dims: int) -> NDArray[np.int64]:
    return np.zeros(dims, np.int64)


def shared(plan: Plan, parties: int, honest: int) -> Plan:
    return replace(plan, noise="shares", parties=parties, honest=honest)


class TestSums:
    @pytest.mark.parametrize("shard", [7, 4])
    def test_secure_sums_are_exact(self, shard: int) -> None:
        secure = SecureSum(7, bits=16, shard=shard)
        for _ in range(2):  # an adder is used once a round
            assert (secure(iter(VECTORS)) == VECTORS.sum(axis=0)).all()
        assert secure.traffic.vectors == 14
        assert secure.traffic.up > 14 * 10

    def test_two_servers_are_exact_and_add_two_noises(self) -> None:
        two = TwoServers(7, bits=16)
        assert (two(iter(VECTORS), without_noise) == VECTORS.sum(axis=0)).all()
        assert (two(iter(VECTORS), lambda dims: np.full(dims, 3)) == VECTORS.sum(axis=0) + 6).all()
        assert two.traffic.vectors == 14

    def test_the_lost_are_left_out_and_nobody_else(self) -> None:
        """Powers of two, so that the sum tells who is in it."""
        vectors = np.array([[1 << number] for number in range(20)])
        secure = SecureSum(20, bits=24, lost=0.2, random=np.random.default_rng(1))
        there = {int(secure(iter(vectors))[0]).bit_count() for _ in range(8)}
        assert min(there) >= secure.honest == 16
        assert max(there) <= 20
        assert len(there) > 1

    def test_more_and_fewer_vectors_than_parties(self) -> None:
        with pytest.raises(SettingError, match="more vectors than the 7"):
            SecureSum(7, bits=16)(iter([*VECTORS, VECTORS[0]]))
        with pytest.raises(TooFewLeft):
            TwoServers(8, bits=16)(iter(VECTORS), without_noise)

    @pytest.mark.parametrize(("parties", "lost"), [(2, 0.0), (20, 0.6)])
    def test_parties_too_few_or_lost(self, parties: int, lost: float) -> None:
        with pytest.raises(SettingError, match=r"too few are left|at least 3 clients"):
            SecureSum(parties, bits=20, lost=lost)


class TestRings:
    def test_a_ring_has_room_for_all_people_and_the_noise(self) -> None:
        plan = shared(Plan(bounds=(1_000, 300), delta=1e-6), 20, 16)
        bits = bits_for(plan, 6_000)
        assert 2 ** (bits - 1) > 6_000 * 1_000 + 14 * plan.deviation >= 2 ** (bits - 2)
        assert bits_for(plan, 1) < bits

    def test_where_there_is_none_it_is_refused_before_the_first_round(self) -> None:
        with pytest.raises(SettingError, match="need 34 bits, a ring has 32"):
            bits_for(Plan(bounds=(1_000_000,), delta=1e-6), 8_000)


class TestPlans:
    def test_noise_in_shares_is_enough_for_the_honest(self) -> None:
        plan = shared(Plan(bounds=(1_000,), delta=1e-6), 20, 16)
        assert plan.deviation**2 == pytest.approx(20 * share_of(16))
        assert 16 * share_of(16) >= UNITS_PER_MU2 + ROUNDING
        assert plan.price(0) == 1_000_000
        assert replace(plan, noise="two-servers", parties=0, honest=0).deviation ** 2 == pytest.approx(
            2 * UNITS_PER_MU2
        )

    @pytest.mark.parametrize(
        ("noise", "parties", "honest"),
        [
            ("shares", 0, 0),
            ("shares", 3, 4),
            ("shares", 3, 0),
            ("rounded-gaussian", 3, 3),
            ("two-servers", 2, 2),
            ("none", 1, 1),
        ],
    )
    def test_plans_that_there_are_not(self, noise: str, parties: int, honest: int) -> None:
        with pytest.raises(SettingError, match="noise in shares"):
            Plan(bounds=(5,), delta=1e-6, noise=noise, parties=parties, honest=honest)  # type: ignore[arg-type]

    def test_noise_that_there_is_not(self) -> None:
        with pytest.raises(
            SettingError, match="noise is one of rounded-gaussian, shares, two-servers, selection, none"
        ):
            Plan(bounds=(5,), delta=1e-6, noise="pink")  # type: ignore[arg-type]

    @pytest.mark.parametrize("noise", ["shares", "two-servers"])
    def test_what_a_model_promises_says_whom_to_trust_and_comes_back(self, noise: str) -> None:
        parties = {"shares": (20, 16), "two-servers": (0, 0)}[noise]
        plan = Plan(bounds=(500,), delta=1e-6, noise=noise, parties=parties[0], honest=parties[1])  # type: ignore[arg-type]
        promise = Guarantee.of(plan)
        assert promise.private
        assert promise.units == plan.cost
        assert "the histories themselves" not in " ".join(promise.not_protected)
        assert promise.trust.startswith("distributed: histories stay with 20" if parties[0] else "two servers")
        assert Guarantee.from_dict(promise.to_dict()) == promise
        assert Plan.from_dict(plan.to_dict()) == plan
        assert "runs the training" in Guarantee.of(Plan(bounds=(500,), delta=1e-6)).trust


class TestTheDoor:
    """Each statistic fails by chance in less than one run of a million."""

    @pytest.mark.parametrize(("noise", "deviation"), [("shares", (7 * share_of(7)) ** 0.5), ("two-servers", 2**12.5)])
    def test_the_sum_has_the_noise_that_the_plan_says(self, noise: str, deviation: float) -> None:
        rows = np.zeros((7, 40_000), np.int64)
        rows[:, :3] = 1
        secure = noise == "shares"
        plan = Plan(bounds=(100,), delta=1e-6, noise=noise, parties=7 * secure, honest=7 * secure)  # type: ignore[arg-type]
        add = SecureSum(7, bits=20) if secure else TwoServers(7, bits=20)
        released = disclose(blocks(rows), plan, 0, spend=nobody, add=add)
        assert released.deviation == pytest.approx(deviation)
        assert released.secure
        scaled = (released.total - rows.sum(axis=0)) / deviation
        assert abs(scaled.mean()) < 5 / 200
        assert abs(scaled.var() - 1) < 5 * (2 / 40_000) ** 0.5

    def test_noise_is_on_each_vector_before_it_is_added_up(self) -> None:
        seen: list[NDArray[np.int64]] = []

        def add(vectors: object) -> NDArray[np.int64]:
            seen.extend(vectors)  # type: ignore[arg-type]
            return add_up(seen)

        rows = np.zeros((4, 20_000), np.int64)
        plan = Plan(bounds=(100,), delta=1e-6, noise="shares", parties=4, honest=4)
        disclose(blocks(rows), plan, 0, spend=nobody, add=add)
        for vector in seen:
            assert abs(vector.var() / share_of(4) - 1) < 5 * (2 / 20_000) ** 0.5
        for one, other in ((0, 1), (1, 2), (0, 3)):
            assert abs(np.corrcoef(seen[one], seen[other])[0, 1]) < 5 / 20_000**0.5

    @pytest.mark.parametrize("parties", [3, 8])
    def test_another_number_of_parties_than_the_plans(self, parties: int) -> None:
        plan = Plan(bounds=(100,), delta=1e-6, noise="shares", parties=parties, honest=3)
        with pytest.raises(PrivacyError, match=f"among {parties} parties, 7 came"):
            disclose(blocks(np.zeros((7, 2), np.int64)), plan, 0, spend=nobody)

    def test_more_draws_than_the_sampler_is_proven_for(self) -> None:
        plan = Plan(bounds=(100,), delta=1e-6, noise="shares", parties=1 << 20, honest=1 << 20)
        with pytest.raises(PrivacyError, match="more than is proven"):
            disclose(blocks(np.zeros((1, 1_100), np.int64)), plan, 0, spend=nobody)

    def test_a_seed_shows(self) -> None:
        plan = Plan(bounds=(100,), delta=1e-6, noise="shares", parties=3, honest=3)
        known = [NoiseSource(insecure_test_seed=1) for _ in range(2)]
        nothing = np.zeros((3, 9), np.int64)
        runs = [disclose(blocks(nothing), plan, 0, spend=nobody, source=source) for source in known]
        assert (runs[0].total == runs[1].total).all()
        assert not runs[0].secure

    def test_an_adder_that_may_be_left_with_too_few_shares(self) -> None:
        plan = Plan(bounds=(100,), delta=1e-6, noise="shares", parties=7, honest=7)
        with pytest.raises(PrivacyError, match="may be left with fewer"):
            disclose(blocks(np.zeros((7, 9), np.int64)), plan, 0, spend=nobody, add=SecureSum(7, bits=20, lost=0.2))

    def test_an_adder_that_leaves_parties_or_noise_out(self) -> None:
        rows = np.zeros((3, 9), np.int64)
        shares = Plan(bounds=(100,), delta=1e-6, noise="shares", parties=2, honest=2)
        with pytest.raises(PrivacyError, match="among 2 parties, 2 came"):
            disclose(
                blocks(rows), shares, 0, spend=nobody, add=lambda vectors: next(iter(vectors)) + next(iter(vectors))
            )
        apart = Plan(bounds=(100,), delta=1e-6, noise="two-servers")
        for times in (0, 1, 3):

            def add(vectors: Iterable[Any], noise: Callable[[int], Any], times: int = times) -> NDArray[np.int64]:
                return add_up([*vectors, *(noise(9) for _ in range(times))])

            with pytest.raises(PrivacyError, match="did not each add noise"):
                disclose(blocks(rows), apart, 0, spend=nobody, add=add)

    def test_an_adder_that_adds_no_noise_cannot_be_one_of_two_servers(self) -> None:
        plan = Plan(bounds=(100,), delta=1e-6, noise="two-servers")
        with pytest.raises(TypeError):
            disclose(blocks(np.zeros((3, 9), np.int64)), plan, 0, spend=nobody)


def blocks(rows: NDArray[np.int64]) -> Iterator[csr_array]:
    return (csr_array(rows[[number]]) for number in range(len(rows)))


class TestTraining:
    @pytest.mark.parametrize("kind", ["popularity", "subspace", "gram"])
    def test_before_noise_a_federation_gets_the_same_sums_bit_for_bit(self, data: Interactions, kind: str) -> None:
        histories = data.opened_for(TRAIN)
        model, plan = recipe(len(histories), 60, cap(8.0, 1e-5), delta=1e-5, kind=kind)  # type: ignore[arg-type]
        state = model.start(None)
        for bound in plan.bounds[:1]:
            work = Work(model, state, bound)
            parties = [block.total for block in Here(histories, block=30).map(work)]
            whole = add_up(block.total for block in Here(histories).map(work))
            secure = SecureSum(len(parties), bits_for(plan, len(histories)), lost=0.0)
            assert (secure(iter(parties)) == whole).all()
            two = TwoServers(len(parties), bits_for(plan, len(histories)))
            assert (two(iter(parties), without_noise) == whole).all()

    def test_a_model_is_learnt_and_promises_what_central_training_does(self, data: Interactions) -> None:
        histories = data.opened_for(TRAIN)
        model, plan = recipe(len(histories), 60, cap(8.0, 1e-5), delta=1e-5, kind="popularity")
        secure = SecureSum(10, bits=26, lost=0.2)
        where = shared(plan, 10, secure.honest)
        trained = train(model, Here(histories, block=30), where, spend=nobody, add=secure)
        assert trained.guarantee.epsilon == Guarantee.of(plan).epsilon
        assert Trained.from_bytes(trained.to_bytes()).guarantee == trained.guarantee
        best = trained.recommend([], 5).items
        assert set(best) <= {100 + item for item in (*range(12), *range(30, 42))}
