"""Attacks on a service through its own doors: what its lists tell of others, and how long they take.

Each can succeed: where releases have no noise, or where lists leave when they are ready.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import mannwhitneyu
from services import Running, new_settings, running

from discreet.data.intake import read_interactions
from discreet.data.interactions import Histories, Rows
from discreet.evaluation.attacks.figures import Service
from discreet.evaluation.attacks.temporal import DEPTH, temporal_inference
from discreet.governance.ledger import Account
from discreet.governance.roles import Role
from discreet.models.slate import Slate
from discreet.models.trained import Trained
from discreet.service import jobs
from discreet.service.api.house import House
from discreet.service.jobs import Calendar
from discreet.training.fitting import fit

PEOPLE, ITEMS, EACH = 120, 100, 30
MEASURE = "measure-quality"
GRAM = Calendar(epsilon=1.0, kind="gram")
NAMES = [f"i{item:03}" for item in range(ITEMS)]


@dataclass
class Watcher:
    """Somebody who sees people choose, waits for releases, and reads what is said to be related to an item."""

    shop: Running
    keys: list[str]
    held: list[set[int]] = field(default_factory=lambda: [set() for _ in range(PEOPLE)])

    def choose(self, matrix: Rows) -> None:
        """Have people hold these rows, through their own doors."""
        events: list[dict[str, str]] = []
        for person, key in enumerate(self.keys):
            wanted = {*matrix[[person]].indices.tolist()}
            events += [{"user_id": f"p{person}", "item_id": NAMES[item]} for item in wanted - self.held[person]]
            if gone := [NAMES[item] for item in self.held[person] - wanted]:
                assert self.shop.ask("POST", "/api/v1/me/correct", key, json={"remove": gone}).status_code == 200
            self.held[person] = wanted
        if events:
            sent = self.shop.as_(Role.OPERATOR, "POST", "/api/v1/events", json={"events": events})
            assert sent.json()["kept"] == len(events)

    def related(self, asked: NDArray[np.int64]) -> NDArray[np.float32]:
        """Return what is shown: minus ranks, of all items."""
        found = np.full((len(asked), ITEMS), -np.inf, np.float32)
        for row, item in enumerate(asked.tolist()):
            path = f"/api/v1/item-to-item/similar/{NAMES[item]}?n={DEPTH}"
            for place in self.shop.as_(Role.ANALYST, "GET", path).json()["items"]:
                found[row, NAMES.index(place["item_id"])] = -place["rank"]
        return found

    def __call__(self, matrix: Rows, asked: NDArray[np.int64]) -> NDArray[np.float32]:
        """Return what is shown after the next release."""
        self.choose(matrix)
        job = self.shop.trained()
        assert job["state"] == "done", job
        return self.related(asked)


@pytest.fixture(scope="module")
def attacked() -> Service:
    """People with 30 of 100 items of an even popularity: each has pairs of items that few others have."""
    random = np.random.default_rng(3)
    chosen = [random.permutation(ITEMS)[:EACH] for _ in range(PEOPLE)]
    columns = {"user_id": np.repeat(np.arange(PEOPLE), EACH).tolist(), "item_id": np.concatenate(chosen).tolist()}
    return Service(read_interactions(columns, purposes=[MEASURE]).opened_for(MEASURE), 1.0)


@pytest.fixture(scope="module")
def watcher(attacked: Service, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watcher]:
    with running(replace(new_settings(tmp_path_factory.mktemp("attacked")), calendar=GRAM)) as shop:
        items = [{"item_id": name} for name in NAMES]
        assert shop.as_(Role.OPERATOR, "PUT", "/api/v1/items", json={"items": items}).status_code == 200
        keys = [shop.agreed(f"p{person}", json={"level": "light"}) for person in range(PEOPLE)]
        with shop.settings.records() as records, records.book() as book:
            book.open_budget(Account(records.inventory.name, "train-recommender"), epsilon=30, delta=1e-6)
        found = Watcher(shop, keys)
        found.choose(attacked.histories.matrix)
        yield found


def without_noise(histories: Histories, *, kind: Any, release: str, out: Path, **promised: object) -> None:
    """Train as no job does."""
    del promised
    out.write_bytes(fit(histories, epsilon=math.inf, kind=kind).billed_as(release).to_bytes())


def test_watching_related_items_over_releases(
    attacked: Service, watcher: Watcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A guess is right with a chance of 5 / 80: of twelve, six or more are right with a chance below 5e-5."""
    (private,) = temporal_inference(attacked, trials=12, lists=watcher)
    assert private.value < 6 / 12
    monkeypatch.setattr(jobs, "fit", without_noise)
    (plain,) = temporal_inference(attacked, trials=6, lists=watcher)
    assert plain.value > 4 / 6


def test_between_releases_nothing_that_somebody_does_shows_to_others(attacked: Service, watcher: Watcher) -> None:
    """Not a byte of it: choosing, correcting, withdrawing, coming back."""

    def seen() -> list[str]:
        paths = [f"item-to-item/similar/{name}?n=100" for name in NAMES[:20]]
        paths += ["non-personalized/popular?n=100", "recommend/p7", "items", "privacy/guarantee"]
        found = [watcher.shop.as_(Role.OPERATOR, "GET", f"/api/v1/{path}") for path in paths]
        assert {each.status_code for each in found} == {200}
        return [each.text for each in found]

    assert watcher.shop.trained()["state"] == "done"
    before = seen()
    matrix, (one, *_) = attacked.histories.matrix, watcher.keys
    empty = matrix.copy()
    empty.data[: empty.indptr[1]] = 0
    empty.eliminate_zeros()
    watcher.choose(empty)
    assert seen() == before
    for purpose in ("recommend", "train-recommender"):
        assert watcher.shop.ask("DELETE", f"/api/v1/me/consents/{purpose}", one).status_code == 200
    assert seen() == before
    for purpose in ("recommend", "train-recommender"):
        assert (
            watcher.shop.ask("PUT", f"/api/v1/me/consents/{purpose}", one, json={"level": "light"}).status_code == 200
        )
    watcher.choose(matrix)
    assert seen() == before
    assert watcher.shop.trained()["state"] == "done"
    assert seen() != before


def test_two_releases_of_the_same_people_have_noise_of_their_own(
    watcher: Watcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Reused noise cancels out: two releases would then tell a deleted person's whole history (`differencing`)."""
    releases: dict[str, dict[str, NDArray[Any]]] = {}
    take = House.take

    def kept(house: House, path: Path | None) -> None:
        assert path is not None
        releases[path.stem] = dict(np.load(path))  # it is deleted when the next one is served
        take(house, path)

    monkeypatch.setattr(watcher.shop.house.jobs, "_published", partial(kept, watcher.shop.house))
    names = [watcher.shop.trained()["name"] for _ in range(2)]
    first, second = (releases[name] for name in names)
    for name in ("state.counts", "state.evidence"):  # what carries the noise
        assert first[name].size >= ITEMS
        assert np.mean(first[name] == second[name]) < 0.5, name
    with watcher.shop.settings.records() as records, records.book() as book:
        charged = [each for each in book.releases() if each.release in names]
    assert len(charged) == 2
    assert all(each.cost > 0 for each in charged)


@pytest.mark.parametrize(("grid", "least", "most"), [(0.05, 0.2, 0.8), (0.0, 0.8, 1.0)])
def test_how_long_a_list_takes(
    watcher: Watcher, monkeypatch: pytest.MonkeyPatch, grid: float, least: float, most: float
) -> None:
    """Which of two takes longer to make, guessed from an answer of each, where lists wait for their grid or not.

    A share of .5 of 40 by 40 pairs is outside .2 to .8 with a chance below 1e-5 (Mann and Whitney).
    """
    settings = watcher.shop.house.settings
    monkeypatch.setattr(watcher.shop.house, "settings", replace(settings, grid=grid))
    quick = Trained.recommend

    def slow_for_long_ones(trained: Trained, history: Sequence[str], *told: Any) -> Slate:
        time.sleep(0.01 if history else 0.0)
        return quick(trained, history, *told)

    monkeypatch.setattr(Trained, "recommend", slow_for_long_ones)

    def seconds(person: str) -> float:
        begun = time.perf_counter()
        assert watcher.shop.as_(Role.OPERATOR, "GET", f"/api/v1/recommend/{person}").status_code == 200
        return time.perf_counter() - begun

    longer, shorter = np.array([[seconds("p7"), seconds("nobody")] for _ in range(40)]).T
    assert least <= mannwhitneyu(longer, shorter).statistic / 40**2 <= most
