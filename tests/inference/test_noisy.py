"""Lists of live data: one release for each state of it, however often and by how many it is asked for."""

from __future__ import annotations

import math
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from discreet.data.intake import read_interactions
from discreet.data.interactions import Interactions
from discreet.errors import BudgetExceeded
from discreet.evaluation.favourites import Cohorts, release_favourites
from discreet.evaluation.favourites import sheet_of as favourites_sheet
from discreet.evaluation.trending import release_trending, sheet_of
from discreet.governance.ledger import Account, Ledger
from discreet.inference.noisy import Noisy
from discreet.inference.on_device import Device, OnDevice, Request
from discreet.models.sheet import Sheet
from discreet.privacy.accounting import mu_of
from discreet.privacy.mechanisms.selection import rate_of

TRENDS = Account("tastes", "trending", by_interaction=True)
EPSILON = 0.5


@pytest.fixture
def choices(columns: dict[str, list[int] | list[str]]) -> Interactions:
    return read_interactions(columns, name="tastes", purposes=["trending"])


@pytest.fixture
def book(tmp_path: Path) -> Iterator[Ledger]:
    with Ledger(tmp_path / "ledger.db") as ledger:
        ledger.open_budget(TRENDS, epsilon=1.0, delta=1e-5)
        yield ledger


class Live:
    """Data that can change, and what is released of it."""

    def __init__(self, choices: Interactions, folder: Path) -> None:
        self.choices, self.folder, self.epoch, self.calls = choices, folder, "monday", 0

    def release(self, epoch: str) -> Sheet:
        self.calls += 1
        out = self.folder / f"{epoch}.json"
        asked: dict[str, Any] = {"ledger": self.folder / "ledger.db", "epsilon": EPSILON, "out": out}
        return sheet_of(release_trending(self.choices, release=f"live-{epoch}", **asked))

    def server(self) -> Noisy:
        return Noisy(self.release, lambda: self.epoch)


@pytest.fixture
def live(choices: Interactions, book: Ledger, tmp_path: Path) -> Live:
    return Live(choices, tmp_path)


def spent(book: Ledger) -> int:
    return book.account(TRENDS).spent


def test_a_thousand_calls_show_one_draw_and_cost_one_release(live: Live, book: Ledger) -> None:
    server = live.server()
    replies = {server.answer(Request(None)).model for _ in range(1000)}
    assert len(replies) == live.calls == 1
    once = spent(book)
    assert once > 0
    server.answer(Request(None))
    assert spent(book) == once
    again = live.server()  # after a restart, too: the release id is the epoch's
    assert {again.answer(Request(None)).model} == replies
    assert spent(book) == once


def test_another_state_of_the_data_is_another_release(live: Live, book: Ledger) -> None:
    server = live.server()
    first, once = server.answer(Request(None)), spent(book)
    live.epoch = "tuesday"
    second = server.answer(Request(first.version))
    assert second.version != first.version
    assert spent(book) == 2 * once


def test_where_the_budget_ends_the_last_list_stays(live: Live, book: Ledger) -> None:
    server = live.server()
    seen = []
    for epoch in ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday"):
        live.epoch = epoch
        seen.append(server.answer(Request(None)).version)
    assert len(set(seen)) > 1
    assert seen[-1] == seen[-2]
    assert spent(book) <= book.account(TRENDS).cap
    live.epoch = "sunday"
    with pytest.raises(BudgetExceeded):
        live.server().answer(Request(None))


def test_two_at_once_make_one_release(live: Live, book: Ledger) -> None:
    server = live.server()
    found: list[str] = []
    threads = [threading.Thread(target=lambda: found.append(server.answer(Request(None)).version)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert len(found) == 8
    assert len(set(found)) == live.calls == 1


def test_a_device_leaves_out_what_its_person_knows(live: Live, choices: Interactions) -> None:
    way = OnDevice(Device(10), live.server())
    listed = way.read(way.answer(way.ask([])[0]), [])
    request, kept = way.ask(listed.items[:3])
    assert request == Request(way.device.version)
    assert way.read(way.answer(request), kept).items[:7] == listed.items[3:]


def test_for_single_choices_noise_of_a_selection_would_be_larger() -> None:
    """What the docstring says: at one price, Gumbel noise for the ten best against Gaussian noise on all counts."""
    units, k = 10**6, 10
    gaussian = 1 / mu_of(units)
    gumbel = math.pi / math.sqrt(6) / (rate_of(units, k) / 2**16)
    assert gumbel / gaussian == pytest.approx(0.80 * math.sqrt(k), rel=0.01)


def test_favourites_are_one_release_of_lists_for_all_cohorts(
    columns: dict[str, list[int] | list[str]], tmp_path: Path
) -> None:
    people = sorted({str(person) for person in columns["user_id"]})
    cohorts = Cohorts(("even", "odd"), {person: ("even", "odd")[at % 2] for at, person in enumerate(people)})
    choices = read_interactions(columns, name="tastes", purposes=["favourites"])
    with Ledger(tmp_path / "ledger.db") as book:
        book.open_budget(Account("tastes", "favourites"), epsilon=1.0, delta=1e-5)
        server = Noisy(
            lambda epoch: favourites_sheet(
                release_favourites(choices, ledger=book, epsilon=0.5, cohorts=cohorts, release=f"live-{epoch}")
            ),
            lambda: "monday",
        )
        assert len({server.answer(Request(None)).model for _ in range(1000)}) == 1
        spent = book.account(Account("tastes", "favourites")).spent
    assert spent > 0
    for cohort in cohorts.names:
        device = OnDevice(Device(10, cohort=cohort), server)
        listed = device.read(device.answer(device.ask([])[0]), [])
        assert len(listed) == 10
        assert device.read(device.answer(device.ask(listed.items[:4])[0]), listed.items[:4]).items == listed.items[4:]


def test_what_is_released_is_a_sheet_of_counts(live: Live) -> None:
    found = Sheet.from_bytes(live.server().current())
    assert found.rule == "counts"
    assert found.promise.startswith("Someone studying")
