"""A federated run's bill: one charge is for one run's noise."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from discreet.data.catalogue import Catalogue
from discreet.errors import EngineLost, LedgerError, ReleaseConflict, SettingError
from discreet.governance.ledger import Ledger
from discreet.models.base import Model
from discreet.models.trained import Trained
from discreet.privacy.disclosure import Spend
from discreet.privacy.plan import Plan
from discreet.training.federation import Bill, Federation, billed
from discreet.training.spool import Spool

FEDERATION = Federation(tuple(bytes([seat]) * 32 for seat in range(20)), Catalogue(tuple(range(50))), "shop", lost=0.2)


@pytest.fixture
def book(tmp_path: Path) -> Iterator[Ledger]:
    with Ledger(tmp_path / "ledger.db") as ledger:
        ledger.open_budget(FEDERATION.account, epsilon=8.0, delta=1e-5)
        yield ledger


def dies(model: Model, plan: Plan, spend: Spend) -> Trained:
    """Some sums were seen by now."""
    spend(plan.price(0))
    raise EngineLost("killed")


def attempt(book: Ledger, folder: Path, release: str = "spring", federation: Federation = FEDERATION) -> None:
    folder.mkdir(exist_ok=True)
    with closing(Spool(folder / "spool.db")) as spool:
        billed(federation, Bill(book, release, spool, folder / "model.npz"), epsilon=8.0, kind="auto", learn=dies)


def test_a_run_goes_on_in_its_folder_and_in_no_other(book: Ledger, tmp_path: Path) -> None:
    """Another folder would ask for the same sums anew, with other noise, and no further charge."""
    for _ in range(2):
        with pytest.raises(EngineLost):
            attempt(book, tmp_path / "one")
    spent = book.account(FEDERATION.account).spent
    with pytest.raises(ReleaseConflict):
        attempt(book, tmp_path / "two")
    with pytest.raises(LedgerError, match="is of release spring"):
        attempt(book, tmp_path / "one", release="autumn")
    with pytest.raises(ReleaseConflict):
        attempt(
            book,
            tmp_path / "one",
            federation=Federation(FEDERATION.roster[::-1], FEDERATION.catalogue, "shop", lost=0.2),
        )
    assert book.account(FEDERATION.account).spent == spent


def test_noise_is_counted_on_of_those_who_stay_and_do_not_collude() -> None:
    model, plan = FEDERATION.planned(8.0, 1e-5)
    assert (model.name, plan.parties, plan.honest) == ("popularity", 20, 20 - 4 - 2)
    odd = Federation(FEDERATION.roster, FEDERATION.catalogue, "shop", lost=0.2, colluding=0.06)
    assert odd.honest == 20 - 4 - 2  # 1.2 devices are two


def test_what_devices_make_no_rows_of_is_not_chosen_for_them() -> None:
    many = Federation(tuple(seat.to_bytes(32, "big") for seat in range(500)), Catalogue(tuple(range(20))), "shop")
    assert many.planned(8.0, 1e-5)[0].name == "subspace"
    with pytest.raises(SettingError, match="not of als"):
        many.planned(8.0, 1e-5, "als")


@pytest.mark.parametrize("share", [-0.1, 1.0, float("nan")])
@pytest.mark.parametrize("name", ["lost", "colluding"])
def test_shares_that_are_none(name: str, share: float) -> None:
    with pytest.raises(SettingError):
        Federation(FEDERATION.roster, FEDERATION.catalogue, "shop", **{name: share})
