"""One private sum or selection of counts, billed and published once: what histograms and lists have in common."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from math import isqrt
from pathlib import Path
from typing import Any, TypeVar

from scipy.sparse import csr_array

from discreet.data.interactions import Opened
from discreet.documents import document, fields_of, fingerprint
from discreet.errors import ArtefactError, DataError
from discreet.governance.ledger import Account, Ledger, Reservation
from discreet.privacy.accounting import cap, check_epsilon
from discreet.privacy.adjacency import Adjacency
from discreet.privacy.clipping import Summed
from discreet.privacy.disclosure import Disclosed, disclose
from discreet.privacy.guarantee import Guarantee
from discreet.privacy.plan import Plan
from discreet.randomness import NoiseSource
from discreet.training.billing import (
    agreed_delta,
    check_free,
    checked_target,
    is_published,
    opened_ledger,
    released_once,
)

BLOCK = 4_096

Released = TypeVar("Released")

Rows = Callable[[Opened, int], Iterator[csr_array | Summed]]
"""Turns people's histories into rows of counts within a bound, block by block; lazy."""

Planned = Callable[[int, float, Adjacency], Plan]
"""Plans a release that costs no more than so many units, at a delta."""

Write = Callable[[Disclosed, Guarantee, str, int], bytes]
"""Makes the file of what was released, of its guarantee, its release id, and the number of people."""


def read_release(kind: type[Released], content: bytes, form: int, what: str) -> Released:
    """Read what a release wrote: canonical JSON, of a form.

    Raises:
        ArtefactError: it is something else.
    """
    try:
        stored = document(content)
        if stored.get("format") != form:
            raise ArtefactError(f"not {what} of this version; release it anew")
        return kind(**fields_of(kind, stored))
    except (DataError, ValueError) as error:  # SettingError is a ValueError
        raise ArtefactError(f"not {what} ({type(error).__name__}); release it anew") from None


def in_blocks(count: Callable[[csr_array, int], csr_array | Summed]) -> Rows:
    """Return what applies ``count``, of a block of histories and the bound, to all blocks."""

    def rows(people: Opened, bound: int) -> Iterator[csr_array | Summed]:
        for block in people.blocks(BLOCK):
            yield count(block, bound)

    return rows


def summing(units: int, delta: float, adjacency: Adjacency) -> Plan:
    """Plan one sum with Gaussian noise."""
    return Plan(bounds=(isqrt(units),), delta=delta, adjacency=adjacency)


def release_counts(
    histories: Opened,
    account: Account,
    rows: Rows,
    write: Write,
    *,
    what: dict[str, Any],
    ledger: Ledger | str | Path,
    epsilon: float,
    release: str | None,
    out: str | Path | None,
    reserved: Callable[[str], None] | None,
    insecure_test_seed: int | None,
    planned: Planned = summing,
) -> bytes:
    """Charge an account for one sum over people, make it, and publish it once; or return what was published before.

    Args:
        histories: opened for the account's purpose.
        account: that pays; it must be open. If it is kept by interaction, so is the guarantee.
        rows: of everybody who is admitted; lazy, so nothing is counted before it is paid.
        write: the file's content.
        what: all that decides what is counted, as JSON values.
        ledger: where it is billed, or the path of its file.
        epsilon: price in nats, at the budget's delta.
        release: id of this release, or None for a new one.
        out: where to publish; must not exist.
        reserved: told the id as soon as it is charged.
        insecure_test_seed: for tests; nothing is promised then.
        planned: what is made of the counts: a noisy sum, or a selection.

    Raises:
        SettingError: an argument is out of range; or people have caps, which a count by interaction cannot keep.
        AccountMissing, BudgetExceeded, ReleaseConflict, LedgerError: by the ledger; nothing was charged.
    """
    check_epsilon(epsilon)
    target = checked_target(out)
    source = None if insecure_test_seed is None else NoiseSource(insecure_test_seed=insecure_test_seed)
    adjacency = Adjacency.ADD_OR_REMOVE_INTERACTION if account.by_interaction else Adjacency.ADD_OR_REMOVE_PERSON
    with opened_ledger(ledger) as book:
        if not is_published(book, release):
            check_free(target)
        delta = agreed_delta(book, account, None, len(histories))
        plan = planned(cap(epsilon, delta), delta, adjacency)

        def make(people: Opened, reservation: Reservation) -> bytes:
            released = disclose(rows(people, plan.bounds[0]), plan, 0, spend=reservation.draw, source=source)
            guarantee = Guarantee.of(
                plan,
                secure=released.secure,
                catalogue_declared=people.catalogue_is_declared,
                window=None if account.window is None else str(account.window),
            )
            return write(released, guarantee, reservation.release, len(people))

        spec = fingerprint(what | {"plan": plan.to_dict()})
        return released_once(
            book,
            account,
            histories,
            make,
            cost=plan.cost,
            spec=spec,
            release=release,
            target=target,
            reserved=reserved,
            named=not account.by_interaction,
        )
