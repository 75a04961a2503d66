"""What most people have chosen: lists of items, whole people protected, for everybody or for each of several cohorts.

``trending`` tells counts and protects single choices. Here a person is protected with all that they did, and no count
is told: of each cohort's counts some are picked at random, the larger the surer (``privacy/mechanisms/selection``). A
list costs the same however long people's histories are, so everybody counts fully in each of their items.

A cohort is a set of people, such as those of a region; nobody is in two. Which there are is declared, hence public; who
is in which is not, and is protected like the history: all lists together cost what one does, since a person moves the
counts of one cohort alone. Whoever is in none of those that were declared counts nowhere.

Proof: ``favourites.md``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import rfc8785
from numpy.typing import NDArray
from scipy.sparse import csr_array

from discreet.data.catalogue import Catalogue
from discreet.data.interactions import Interactions, Opened
from discreet.errors import SettingError
from discreet.evaluation.counting import BLOCK, read_release, release_counts
from discreet.governance.ledger import Account, Ledger
from discreet.models.sheet import Sheet
from discreet.privacy.adjacency import Adjacency, Window
from discreet.privacy.disclosure import Disclosed
from discreet.privacy.guarantee import Guarantee
from discreet.privacy.mechanisms import selection
from discreet.privacy.plan import Plan

FORMAT = 1
PURPOSE = "favourites"
EVERYBODY = "everybody"
DOUBT = 0.05
"""Chance that a pick is further behind than ``within`` says."""


@dataclass(frozen=True)
class Cohorts:
    """Sets of people, nobody in two.

    Attributes:
        names: declared, public.
        of: the cohort of each person, by the text of their id; secret.
    """

    names: tuple[str, ...]
    of: Mapping[str, str] = field(repr=False)

    def __post_init__(self) -> None:
        if not self.names or len({*self.names}) < len(self.names) or not all(self.names):
            raise SettingError("cohorts have names, none of them twice")


@dataclass(frozen=True, kw_only=True)
class Favourites:
    """Lists of items, as they were released. Public.

    Attributes:
        dataset: of whose people.
        catalogue: the items that are on a list.
        cohorts: whose lists they are.
        lists: of each cohort: positions in the catalogue, as they were picked; about the most chosen first.
        within: with a chance of 95 %, each item of a list was chosen by no more than so many people fewer than the best
            of those that it does not name before.
        guarantee: what the release promises.
        release: id in the ledger.
    """

    dataset: str
    catalogue: Catalogue
    cohorts: tuple[str, ...]
    lists: tuple[tuple[int, ...], ...]
    within: float
    guarantee: Guarantee
    release: str

    def __post_init__(self) -> None:
        lengths = {len(items) for items in self.lists}
        if not len(self.lists) == len(self.cohorts) == len({*self.cohorts}) or len(lengths) != 1 or 0 in lengths:
            raise SettingError("each cohort has a list, all of the same length")
        for each in self.lists:
            if not 0 <= min(each) <= max(each) < len(self.catalogue) or len({*each}) < len(each):
                raise SettingError("favourites are items of the catalogue, none of them twice in a list")
        if not math.isfinite(self.within):
            raise SettingError("how far behind a pick may be is a number")

    def titles(self) -> dict[str, list[str]]:
        """Return each cohort's list, as it is shown."""
        return {name: [*map(self.catalogue.title, each)] for name, each in zip(self.cohorts, self.lists, strict=True)}

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as JSON values."""
        told = {"guarantee": self.guarantee.to_dict(), "catalogue": self.catalogue.to_dict()}
        return {"format": FORMAT} | asdict(self) | told

    def to_bytes(self) -> bytes:
        """Return the file's content: canonical JSON (RFC 8785)."""
        return rfc8785.dumps(self.to_dict())

    @classmethod
    def from_bytes(cls, content: bytes) -> Favourites:
        """Read what ``to_bytes`` wrote.

        Raises:
            ArtefactError: it is something else.
        """
        return read_release(cls, content, FORMAT, "a list of favourites")


def release_favourites(
    data: Interactions,
    *,
    ledger: Ledger | str | Path,
    epsilon: float = 0.5,
    n: int = 10,
    cohorts: Cohorts | None = None,
    purpose: str = PURPOSE,
    window: str | None = None,
    release: str | None = None,
    out: str | Path | None = None,
    reserved: Callable[[str], None] | None = None,
    insecure_test_seed: int | None = None,
) -> Favourites:
    """Return lists of what most people of each cohort have chosen.

    Args:
        data: collected for ``purpose``.
        ledger: where it is billed, or the path of its file. A budget of people must be open.
        epsilon: its price in nats, at the budget's delta: of each person with all that they did.
        n: length of a list.
        cohorts: whose lists; None: one list, of everybody.
        purpose: that pays.
        window: a year, month or day (UTC) that all of ``data`` lies in; the budget is that window's.
        release: id of this release; by default a new one. Give it to repeat a run that was interrupted.
        out: where to publish what came out (JSON); must not exist.
        reserved: told the id of the release as soon as it is charged.
        insecure_test_seed: for tests; nothing is promised then.

    Raises:
        SettingError: an argument is out of range, such as a list that is longer than the catalogue.
        PurposeNotAllowed: the data was not collected for this.
        AccountMissing, BudgetExceeded, ReleaseConflict, LedgerError: by the ledger; nothing was charged.
    """
    if not 1 <= n <= min(len(data.catalogue), selection.MOST_PICKS):
        raise SettingError(f"a list has 1 to {min(len(data.catalogue), selection.MOST_PICKS):,} items, not {n}")
    within = None if window is None else Window(window)
    if within:
        data.check_window(within)
    histories = data.streamed_for(purpose)
    names = (EVERYBODY,) if cohorts is None else cohorts.names
    plans: list[Plan] = []

    def planned(units: int, delta: float, adjacency: Adjacency) -> Plan:
        plans.append(Plan.selecting(units, n, len(names), delta=delta, adjacency=adjacency))
        return plans[-1]

    def rows(people: Opened, bound: int) -> Iterator[csr_array]:
        del bound
        at = None if cohorts is None else _placed(people.people_ids, cohorts)
        done = 0
        for block in people.blocks(BLOCK):
            people_of = np.zeros(block.shape[0], np.int64) if at is None else at[done : done + block.shape[0]]
            yield cohort_rows(block, people_of, len(names))
            done += block.shape[0]

    def write(released: Disclosed, guarantee: Guarantee, made: str, people: int) -> bytes:
        del people  # how many took part is not part of the lists
        listed, places = np.unique(released.total, return_inverse=True)
        return Favourites(
            dataset=data.name,
            catalogue=_of(data.catalogue, listed),
            cohorts=names,
            lists=tuple(map(tuple, places.reshape(len(names), n).tolist())),
            within=behind_at_most(plans[-1], len(data.catalogue)),
            guarantee=guarantee,
            release=made,
        ).to_bytes()

    content = release_counts(
        histories,
        Account(data.name, purpose, within),
        rows,
        write,
        what={"favourites": len(data.catalogue), "cohorts": list(names)},
        ledger=ledger,
        epsilon=epsilon,
        release=release,
        out=out,
        reserved=reserved,
        insecure_test_seed=insecure_test_seed,
        planned=planned,
    )
    return Favourites.from_bytes(content)


def cohort_rows(histories: csr_array, at: NDArray[np.int64], cohorts: int) -> csr_array:
    """Return a one for each choice, among the coordinates of the person's cohort, int64 [people, cohorts * items].

    Args:
        histories: [people, items], ones.
        at: the cohort of each person, int64 [people]; -1: none, and an empty row.
        cohorts: how many there are.
    """
    lengths, items = np.diff(histories.indptr), histories.shape[1]
    counted = np.repeat(at >= 0, lengths)
    indices = histories.indices[counted].astype(np.int64) + np.repeat(at, lengths)[counted] * items
    starts = np.concatenate([[0], np.cumsum(np.where(at >= 0, lengths, 0))])
    shape = (histories.shape[0], cohorts * items)
    return csr_array((np.ones(indices.size, np.int64), indices, starts), shape=shape)


def behind_at_most(plan: Plan, items: int) -> float:
    """Return by how many people a pick is behind the best that was left, at most, in all lists but for ``DOUBT``.

    A pick of n is more than (ln n + t) / r behind with a chance of at most exp(-t) (McSherry and Talwar 2007, theorem
    3.11 in Dwork and Roth 2014).
    """
    picks = plan.picks * plan.groups
    return (math.log(items) + math.log(picks / DOUBT)) / (plan.bounds[0] / (1 << selection.RATE_BITS))


def sheet_of(favourites: Favourites) -> Sheet:
    """Return what a device holds of them: it takes its own cohort's list, and leaves out what its person knows."""
    picks = np.array(favourites.lists, np.int32)
    return Sheet(favourites.catalogue, "picks", favourites.guarantee.sentence, {"picks": picks}, favourites.cohorts)


def _of(catalogue: Catalogue, listed: NDArray[np.int64]) -> Catalogue:
    """Return some of the items."""
    titles = None if catalogue.titles is None else tuple(catalogue.titles[at] for at in listed)
    return Catalogue(tuple(catalogue.ids[at] for at in listed), titles)


def _placed(people: tuple[str | int, ...], cohorts: Cohorts) -> NDArray[np.int64]:
    """Return the cohort of each person, -1 where it is none of those that were declared."""
    place = {name: at for at, name in enumerate(cohorts.names)}
    return np.array([place.get(cohorts.of.get(str(person), ""), -1) for person in people], np.int64)
