"""People who do not exist: three hundred with one of two tastes, over sixty items."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import settings
from servers import Server, Unavailable, running

from discreet.data.intake import read_interactions
from discreet.data.interactions import Histories, Interactions
from discreet.governance.ledger import Account, Ledger

settings.register_profile("discreet", deadline=None)  # the first call of a kernel compiles it
settings.load_profile("discreet")

TRAIN, MEASURE = "train-recommender", "measure-quality"
PEOPLE, ITEMS = 300, 60


@pytest.fixture(scope="session")
def columns() -> dict[str, list[int] | list[str]]:
    """Who chose what: even people mostly the lower half of the items, odd people the upper half."""
    rng = np.random.default_rng(7)
    users: list[str] = []
    items: list[int] = []
    times: list[int] = []
    for person in range(PEOPLE):
        taste = np.where(np.arange(ITEMS) // (ITEMS // 2) == person % 2, 9.0, 1.0)
        weights = taste / (1 + np.arange(ITEMS) % (ITEMS // 2))
        chosen = rng.choice(ITEMS, rng.integers(6, 20), replace=False, p=weights / weights.sum())
        users += [f"person-{person:03}"] * len(chosen)
        items += [100 + int(item) for item in chosen]
        times += rng.integers(0, 10**6, len(chosen)).tolist()
    return {"user_id": users, "item_id": items, "timestamp": times}


@pytest.fixture(scope="session")
def data(columns: dict[str, list[int] | list[str]]) -> Interactions:
    return read_interactions(columns, name="tastes", purposes=[TRAIN, MEASURE])


@pytest.fixture(scope="session")
def histories(data: Interactions) -> Histories:
    return data.opened_for(TRAIN)


@pytest.fixture(scope="session")
def described(histories: Histories) -> Histories:
    """The same, with a catalogue that says which half an item is of."""
    tags = tuple(("lower" if item < ITEMS // 2 else "upper",) for item in range(ITEMS))
    return replace(histories, catalogue=replace(histories.catalogue, tags=tags))


@pytest.fixture(scope="session")
def server() -> Iterator[Server]:
    """One that does not wait for its disk: what has to outlive a power cut is asked of another."""
    try:
        with running(fsync="off", full_page_writes="off") as server:
            yield server
    except Unavailable as reason:
        pytest.skip(str(reason))


@pytest.fixture
def csv_file(tmp_path: Path, columns: dict[str, list[int] | list[str]]) -> Path:
    path = tmp_path / "tastes.csv"
    rows = zip(*columns.values(), strict=True)
    lines = [",".join(columns), *(",".join(map(str, row)) for row in rows)]
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.fixture
def account() -> Account:
    return Account("tastes", TRAIN)


@pytest.fixture
def book(tmp_path: Path, account: Account) -> Iterator[Ledger]:
    """A ledger with a budget of epsilon 8 at delta 1e-5."""
    with Ledger(tmp_path / "ledger.db") as ledger:
        ledger.open_budget(account, epsilon=8.0, delta=1e-5)
        yield ledger
