"""What is being chosen now: counts of items, each single choice protected.

A list of what is popular this week names no person, but exact counts tell, to somebody who knows all other choices,
whether one more was made. So they come with noise. The unit is the *interaction*: one person's choice of one item,
made or not made. That is weaker than protecting people with all that they did: whoever made k choices is protected k
times less (in mu^2), which the guarantee says. In return everybody counts fully in each item, however many they know.
The budget is one of its own, kept by interaction (``Account(..., by_interaction=True)``), so that the two units are
never added up.

Proof: ``trending.md``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import rfc8785
from scipy.sparse import csr_array

from discreet.data.catalogue import Catalogue
from discreet.data.interactions import Interactions
from discreet.errors import SettingError
from discreet.evaluation.counting import in_blocks, read_release, release_counts
from discreet.governance.ledger import Account, Ledger
from discreet.models.sheet import Sheet
from discreet.privacy.adjacency import Window
from discreet.privacy.clipping import Summed
from discreet.privacy.disclosure import Disclosed
from discreet.privacy.guarantee import Guarantee

FORMAT = 1
PURPOSE = "trending"


class Trend(NamedTuple):
    """An item, and about how many people chose it: off by a few times ``noise`` at most, as a rule."""

    item: str | int
    title: str
    about: float


@dataclass(frozen=True, kw_only=True)
class Trending:
    """How many people chose each item, as it was released. Public.

    Attributes:
        dataset: of whose people.
        catalogue: the items.
        counts: of people, by item; noisy, so perhaps negative.
        noise: standard deviation of the noise on each count.
        guarantee: what the release promises.
        release: id in the ledger.
    """

    dataset: str
    catalogue: Catalogue
    counts: tuple[float, ...]
    noise: float
    guarantee: Guarantee
    release: str

    def __post_init__(self) -> None:
        if len(self.catalogue) != len(self.counts) or not np.isfinite(self.counts).all():
            raise SettingError("trending counts need one number an item")

    def top(self, n: int = 10) -> list[Trend]:
        """Return the ``n`` items with the largest counts, largest first.

        Raises:
            SettingError: ``n`` is below 1.
        """
        if n < 1:
            raise SettingError(f"a list has at least 1 item, not {n}")
        order = np.argsort(-np.array(self.counts), kind="stable")[:n]
        return [Trend(self.catalogue.ids[at], self.catalogue.title(at), self.counts[at]) for at in order.tolist()]

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as JSON values."""
        told = {"guarantee": self.guarantee.to_dict(), "catalogue": self.catalogue.to_dict()}
        return {"format": FORMAT} | asdict(self) | told

    def to_bytes(self) -> bytes:
        """Return the file's content: canonical JSON (RFC 8785)."""
        return rfc8785.dumps(self.to_dict())

    @classmethod
    def from_bytes(cls, content: bytes) -> Trending:
        """Read what ``to_bytes`` wrote.

        Raises:
            ArtefactError: it is something else.
        """
        return read_release(cls, content, FORMAT, "a list of trending items")


def release_trending(
    data: Interactions,
    *,
    ledger: Ledger | str | Path,
    epsilon: float = 0.5,
    purpose: str = PURPOSE,
    window: str | None = None,
    release: str | None = None,
    out: str | Path | None = None,
    reserved: Callable[[str], None] | None = None,
    insecure_test_seed: int | None = None,
) -> Trending:
    """Return private counts of how many people chose each item.

    Args:
        data: collected for ``purpose``.
        ledger: where it is billed, or the path of its file. A budget by interaction must be open.
        epsilon: its price in nats, at the budget's delta: of each single choice.
        purpose: that pays.
        window: a year, month or day (UTC) that all of ``data`` lies in; the budget is that window's.
        release: id of this release; by default a new one. Give it to repeat a run that was interrupted.
        out: where to publish what came out (JSON); must not exist.
        reserved: told the id of the release as soon as it is charged.
        insecure_test_seed: for tests; nothing is promised then.

    Raises:
        SettingError: an argument is out of range; or people of the data set have caps of their own.
        PurposeNotAllowed: the data was not collected for this.
        AccountMissing, BudgetExceeded, ReleaseConflict, LedgerError: by the ledger; nothing was charged.
    """
    within = None if window is None else Window(window)
    if within:
        data.check_window(within)
    histories, account = data.streamed_for(purpose), Account(data.name, purpose, within, by_interaction=True)

    def write(released: Disclosed, guarantee: Guarantee, made: str, people: int) -> bytes:
        del people  # how many took part is not part of the list
        return Trending(
            dataset=data.name,
            catalogue=data.catalogue,
            counts=tuple(released.values.tolist()),
            noise=released.sigma,
            guarantee=guarantee,
            release=made,
        ).to_bytes()

    content = release_counts(
        histories,
        account,
        in_blocks(choice_rows),
        write,
        what={"trending": len(data.catalogue)},
        ledger=ledger,
        epsilon=epsilon,
        release=release,
        out=out,
        reserved=reserved,
        insecure_test_seed=insecure_test_seed,
    )
    return Trending.from_bytes(content)


def sheet_of(trending: Trending) -> Sheet:
    """Return what a device holds of it, to make lists of what is chosen most."""
    catalogue = replace(trending.catalogue, categories=None, tags=None)
    return Sheet(catalogue, "counts", trending.guarantee.sentence, {"counts": np.array(trending.counts, np.float32)})


def choice_rows(histories: csr_array, bound: int) -> Summed:
    """Return the sum of one row a choice, the bound at the item that was chosen; lengths are int64 [choices]."""
    total = np.bincount(histories.indices, minlength=histories.shape[1]).astype(np.int64) * bound
    return Summed(total, np.full(histories.indices.size, bound * bound, np.int64))
