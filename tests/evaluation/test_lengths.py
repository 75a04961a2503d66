"""The private histogram of how long histories are."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.sparse import csr_array

from discreet.data.interactions import Histories
from discreet.errors import AccountMissing, ArtefactError, BudgetExceeded, ReleaseConflict, SettingError
from discreet.evaluation.lengths import Lengths, release_lengths
from discreet.governance.ledger import Account, Ledger
from discreet.models.base import rows
from discreet.models.queries import LengthCounts
from discreet.privacy.accounting import cap
from discreet.privacy.guarantee import Guarantee


def histogram(**changed: Any) -> Lengths:
    fields: dict[str, Any] = {
        "dataset": "tastes",
        "edges": (1, 2, 3, 4),
        "counts": (-3.0, 5.0, 0.0, 5.0),
        "noise": 1.0,
        "people": 10,
        "guarantee": Guarantee(units=9, delta=1e-6),
        "release": "spring",
    }
    return Lengths(**fields | changed)


class TestRows:
    @given(st.integers(1, 5_000), st.data())
    def test_one_bin_a_person_and_the_bound_in_it(self, items: int, data: st.DataObject) -> None:
        question = LengthCounts(items=items)
        lengths = np.array(data.draw(st.lists(st.integers(1, items), min_size=1, max_size=9)))
        ends = np.append(0, lengths.cumsum())
        indices = np.concatenate([np.arange(length) for length in lengths])
        people = csr_array((np.ones(len(indices)), indices, ends), (len(lengths), items))
        made = rows(question, people, question.start(), 1_000)
        assert (question.summed(people, question.start(), 1_000).total == made.sum(axis=0)).all()
        assert (made.toarray().sum(axis=1) == 1_000).all()
        for length, place in zip(lengths, made.toarray().argmax(axis=1), strict=True):
            assert length <= question.edges[place]
            assert place == 0 or length > question.edges[place - 1]

    @pytest.mark.parametrize(
        ("items", "edges"), [(1, (1,)), (2, (1, 2)), (7, (1, 2, 3, 4, 6, 7)), (12, (1, 2, 3, 4, 6, 8, 12))]
    )
    def test_edges(self, items: int, edges: tuple[int, ...]) -> None:
        assert LengthCounts(items=items).edges == edges


class TestRelease:
    def test_is_billed_to_the_purpose_and_near_the_truth(
        self, histories: Histories, book: Ledger, account: Account, tmp_path: Path
    ) -> None:
        (tmp_path / "found").mkdir()
        found = release_lengths(histories, ledger=book, epsilon=2.0, out=tmp_path / "found" / "lengths.json")
        assert book.account(account).spent == found.guarantee.units
        assert (
            0 < cap(2.0, 1e-5) - book.account(account).spent < 20_000
        )  # the bound is whole, its square is not the cap
        lengths = np.diff(histories.matrix.indptr)
        truth = np.histogram(lengths, bins=[0, *(np.array(found.edges) + 0.5)])[0]
        assert np.abs(np.array(found.counts) - truth).max() < 6 * found.noise
        assert found.edges[-1] == 60
        assert found.guarantee.private
        assert book.verify(artefacts=tmp_path / "found").ok
        assert found.people == 300

    def test_read_again_at_no_charge(
        self, histories: Histories, book: Ledger, account: Account, tmp_path: Path
    ) -> None:
        asked: dict[str, Any] = {"ledger": book, "release": "spring", "out": tmp_path / "lengths.json"}
        found = release_lengths(histories, **asked)
        spent = book.account(account).spent
        assert release_lengths(histories, **asked) == found
        assert book.account(account).spent == spent
        with pytest.raises(ReleaseConflict):
            release_lengths(histories, **asked | {"epsilon": 0.2})

    def test_of_a_seed_promises_nothing(self, histories: Histories, book: Ledger) -> None:
        assert not release_lengths(histories, ledger=book, insecure_test_seed=1).guarantee.private

    @pytest.mark.parametrize(
        ("change", "error"),
        [
            ({"epsilon": 0.0}, SettingError),
            ({"epsilon": float("inf")}, SettingError),
            ({"epsilon": 9.0}, BudgetExceeded),
            ({"out": "missing/lengths.json"}, SettingError),
        ],
    )
    def test_refused_at_no_charge(
        self, change: dict[str, Any], error: type[Exception], histories: Histories, book: Ledger, account: Account
    ) -> None:
        with pytest.raises(error):
            release_lengths(histories, ledger=book, **change)
        assert book.account(account).spent == 0

    def test_needs_a_budget(self, histories: Histories, tmp_path: Path) -> None:
        with Ledger(tmp_path / "empty.db") as ledger, pytest.raises(AccountMissing):
            release_lengths(histories, ledger=ledger)


class TestLengths:
    def test_quantiles_are_ends_of_bins(self) -> None:
        found = histogram()
        assert [found.quantile(share) for share in (0.0, 0.5, 0.51, 1.0)] == [1, 2, 4, 4]
        assert histogram(counts=(-1.0, -1.0, -1.0, -1.0)).quantile(0.5) == 1
        for share in (-0.1, 1.1, float("nan")):
            with pytest.raises(SettingError):
                found.quantile(share)

    def test_is_read_back(self) -> None:
        assert Lengths.from_bytes(histogram().to_bytes()) == histogram()

    @pytest.mark.parametrize(
        "change", [{"format": 2}, {"counts": [1.0]}, {"counts": ["x"] * 4}, {"edges": []}, {"guarantee": {}}]
    )
    def test_something_else(self, change: dict[str, Any]) -> None:
        with pytest.raises(ArtefactError, match="anew"):
            Lengths.from_bytes(json.dumps(histogram().to_dict() | change).encode())
