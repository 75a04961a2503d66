"""How long people's histories are: a private histogram, one bounded row a person, one release.

It describes a data set, so that somebody can judge it: are there enough people with enough items to learn from? It sets
no bound on what a person adds. Every model here scales each history to length 1, so a long one weighs no more than a
short one, and shortening histories loses quality and gains nothing (``docs/choosing-epsilon.md``).

Proof: ``lengths.md``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import rfc8785
from scipy.sparse import csr_array

from discreet.data.interactions import Opened
from discreet.errors import SettingError
from discreet.evaluation.counting import in_blocks, read_release, release_counts
from discreet.governance.ledger import Account, Ledger
from discreet.models.queries import LengthCounts
from discreet.privacy.clipping import Summed
from discreet.privacy.disclosure import Disclosed
from discreet.privacy.guarantee import Guarantee

FORMAT = 1


@dataclass(frozen=True, kw_only=True)
class Lengths:
    """A histogram of the lengths of histories, as it was released. Public.

    Attributes:
        dataset: of whose people.
        edges: the longest history that each bin holds, ascending; the first bin begins at 0.
        counts: people in each bin; noisy, so perhaps negative.
        noise: standard deviation of the noise on each count.
        people: how many there are; public.
        guarantee: what the release promises.
        release: id in the ledger.
    """

    dataset: str
    edges: tuple[int, ...]
    counts: tuple[float, ...]
    noise: float
    people: int
    guarantee: Guarantee
    release: str

    def __post_init__(self) -> None:
        if not self.edges or len(self.edges) != len(self.counts) or not np.isfinite(self.counts).all():
            raise SettingError("a histogram needs a count for each bin")

    def quantile(self, share: float) -> int:
        """Return a length that at least a share of people, 0 to 1, does not exceed, as far as the noise lets one tell.

        It is the end of a bin, so it may be half as long again as need be.

        Raises:
            SettingError: ``share`` is out of its range.
        """
        if not 0 <= share <= 1:
            raise SettingError(f"a share of people is between 0 and 1, got {share:g}")
        within = np.cumsum(np.maximum(self.counts, 0.0))
        return self.edges[int(np.searchsorted(within, share * within[-1]))]

    def to_dict(self) -> dict[str, Any]:
        """Return fields and what is read from them, as JSON values."""
        quantiles = {f"{share:g}": self.quantile(share) for share in (0.1, 0.25, 0.5, 0.75, 0.9, 0.99)}
        return {"format": FORMAT} | asdict(self) | {"guarantee": self.guarantee.to_dict(), "quantiles": quantiles}

    def to_bytes(self) -> bytes:
        """Return the file's content: canonical JSON (RFC 8785)."""
        return rfc8785.dumps(self.to_dict())

    @classmethod
    def from_bytes(cls, content: bytes) -> Lengths:
        """Read what ``to_bytes`` wrote.

        Raises:
            ArtefactError: it is something else.
        """
        return read_release(cls, content, FORMAT, "a histogram of lengths")


def release_lengths(
    histories: Opened,
    *,
    ledger: Ledger | str | Path,
    epsilon: float = 0.1,
    release: str | None = None,
    out: str | Path | None = None,
    reserved: Callable[[str], None] | None = None,
    insecure_test_seed: int | None = None,
) -> Lengths:
    """Return a private histogram of the lengths of histories.

    It is charged to the budget of the purpose that the histories were opened for, before anything is counted.

    Args:
        histories: opened for the purpose that pays.
        ledger: where it is billed, or the path of its file. The budget must be open.
        epsilon: its price in nats, at the budget's delta.
        release: id of this release; by default a new one. Give it to repeat a run that was interrupted.
        out: where to publish what came out (JSON); must not exist.
        reserved: told the id of the release as soon as it is charged.
        insecure_test_seed: for tests; nothing is promised then.

    Raises:
        SettingError: an argument is out of range; nothing was charged.
        AccountMissing, BudgetExceeded, ReleaseConflict, LedgerError: by the ledger; nothing was charged.
    """
    question = LengthCounts(items=len(histories.catalogue))

    def count(block: csr_array, bound: int) -> Summed:
        return question.summed(block, question.start(), bound)

    def write(released: Disclosed, guarantee: Guarantee, made: str, people: int) -> bytes:
        return Lengths(
            dataset=histories.dataset,
            edges=question.edges,
            counts=tuple(released.values.tolist()),
            noise=released.sigma,
            people=people,
            guarantee=guarantee,
            release=made,
        ).to_bytes()

    content = release_counts(
        histories,
        Account(histories.dataset, histories.purpose),
        in_blocks(count),
        write,
        what={"lengths": list(question.edges)},
        ledger=ledger,
        epsilon=epsilon,
        release=release,
        out=out,
        reserved=reserved,
        insecure_test_seed=insecure_test_seed,
    )
    return Lengths.from_bytes(content)
