"""Three servers make a list, and none learns anything of the history, of the model, or of the list.

The model's owner deals it to the three servers, once: each holds a share that is noise to it (``protocols/ranking``). A
device shares out which of the kept items its person knows; the servers compute on shares what the history's factor is,
all scores, and which unknown items are the best; each returns its share of their positions. The person learns the order
of the best, no score, and no more of the model than as many lists as they ask for tell; what a list gives as scores are
its ranks. Servers learn that somebody asked, and when.

That holds as long as no two of the three tell each other, and all do as they are told (semi-honest, honest majority).

Matrices are rounded to integers of one step, the finest of which no score wraps, whatever is known: a history of the
whole catalogue has to fit, so more items leave coarser steps.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from discreet.errors import ProtocolError, SettingError
from discreet.inference.base import History
from discreet.inference.outline import Kept, Outline, factors
from discreet.models.slate import Slate
from discreet.models.trained import Trained
from discreet.protocols.ranking import (
    CELL_LIMIT,
    LARGEST,
    MOST_CELLS,
    Compute,
    Held,
    Ranker,
    Ranking,
    RankingTerms,
    dealt,
)

LISTED = 20
"""How many of the best are found, if nothing else is said: each costs a little more time, for everybody."""
RANKING = "ranking"
"""Terms in an outline."""

Three = tuple[bytes, bytes, bytes]


class Owner:
    """Who has the model, and deals it to the servers, once.

    Args:
        trained: the released model, of kind ``subspace``, or ``gram`` of at most some thousand items.
        listed: length of the longest list, 1 to 100.

    Attributes:
        outline: what devices have to know. Public; it tells what everybody likes, but nothing of the matrices.
        shares: for each server, secret: two of them are the model.

    Raises:
        SettingError: its scores are of another shape, the same for everybody, or the matrix is too large.
    """

    def __init__(self, trained: Trained, listed: int = LISTED) -> None:
        encoder, decoder = factors(trained)
        if decoder.size > MOST_CELLS:
            raise SettingError(f"a matrix of {decoder.size} cells is too large to share; at most {MOST_CELLS}")
        terms, self.shares = dealt(*stepped(encoder, decoder), listed)
        kept, counts = trained.state["kept"], trained.state["counts"]
        self.outline = Outline(trained.catalogue, kept, counts, np.zeros(0), {RANKING: terms.to_bytes()})

    def __repr__(self) -> str:
        return "Owner()"


class Device:
    """The person's side. The history stays in the call.

    Args:
        outline: of the model.
        n: length of the list.

    Raises:
        ProtocolError: the outline is of another way, or damaged.
        SettingError: the servers list fewer.
    """

    def __init__(self, outline: Outline, n: int = 10) -> None:
        if RANKING not in outline.terms:
            raise ProtocolError("this outline is of another way to make lists; ask for that of `mpc`")
        self.outline, self.n = outline, n
        self._terms = RankingTerms.from_bytes(outline.terms[RANKING])
        if self._terms.rows != len(outline.kept):
            raise ProtocolError("the outline's parts do not fit together; ask for it again")
        if n > self._terms.listed < self._terms.rows:
            raise SettingError(f"these servers list {self._terms.listed} items at most, not {n}")

    def ask(self, history: History) -> tuple[Three, Kept[Ranking]]:
        """Share out what is known.

        Raises:
            SettingError: the history holds something other than ids.
        """
        places, known, unknown = self.outline.known(history)
        flags = np.zeros(self._terms.rows, np.bool_)
        flags[places] = True
        ranking = Ranking(self._terms, flags)
        return ranking.questions, Kept(ranking, known, unknown)

    def read(self, reply: Three, kept: Kept[Ranking]) -> Slate:
        """Join the positions, and make the list.

        What is not among them has a score of 0: all of it is known, or the list is full without it.

        Raises:
            ProtocolError: an answer cannot be one to this question, and its seat is named; or they cannot all be right.
            SettingError: the list is to be shorter than one.
        """
        listed = kept.side.read(reply)
        scores = np.zeros(self._terms.rows, np.float32)
        scores[listed] = np.arange(len(listed), 0, -1)
        return self.outline.listed(scores, kept.known, kept.unknown, self.n)


class Engine(Protocol):
    """What the servers compute with, if all three are in one place."""

    def computes(self, shares: tuple[Held, Held, Held]) -> tuple[Compute, Compute, Compute]:
        """Return what each of the servers computes with."""


class Answering(Protocol):
    """One of the three servers, wherever it is."""

    def answer(self, request: bytes) -> bytes:
        """Return its share of the list."""


class Mpc:
    """A device, and three servers that it asks at once.

    Args:
        device: of the person.
        servers: in the order of their seats.
    """

    def __init__(self, device: Device, servers: tuple[Answering, Answering, Answering]) -> None:
        self.device, self.servers = device, servers

    @classmethod
    def here(cls, trained: Trained, engine: Engine, n: int = 10) -> Mpc:
        """Return owner, device and servers in one place, where nothing is secret: to try it out."""
        owner = Owner(trained, max(n, LISTED))
        first, second, third = map(Held, owner.shares)
        one, two, three = map(Ranker, (first, second, third), engine.computes((first, second, third)))
        return cls(Device(owner.outline, n), (one, two, three))

    def ask(self, history: History) -> tuple[Three, Kept[Ranking]]:
        """See ``Device.ask``."""
        return self.device.ask(history)

    def answer(self, request: Three) -> Three:
        """Answer as all three servers."""
        first, second, third = of_all(self.servers, request)
        return first, second, third

    def read(self, reply: Three, kept: Kept[Ranking]) -> Slate:
        """See ``Device.read``."""
        return self.device.read(reply, kept)


def of_all(servers: Sequence[Answering], questions: Sequence[bytes]) -> list[bytes]:
    """Return the answers of servers that are asked at once, as they wait for one another."""
    with ThreadPoolExecutor(len(servers)) as threads:
        return list(threads.map(lambda server, question: server.answer(question), servers, questions))


def stepped(
    encoder: NDArray[np.floating] | None, decoder: NDArray[np.floating]
) -> tuple[NDArray[np.int64] | None, NDArray[np.int64]]:
    """Return matrices in the finest steps of which no score wraps, of one size each.

    Both matrices' columns are first made equally long, which leaves scores as they are: a column counts for as much as
    it can add. Rounding makes a cell longer by a half at most; the last digits are given up for that.
    """
    right, rows = decoder.astype(np.float64), len(decoder)
    half = (LARGEST >> (rows - 1).bit_length()) / 2  # the rest is for what floats round
    if encoder is None:
        largest = _largest(right)
        scale = min((half - len(largest)) / largest.sum(), CELL_LIMIT / 2 / largest.max())
        return None, np.rint(right * scale).astype(np.int64)
    left = encoder.astype(np.float64)
    balance = np.sqrt(_largest(right) / _largest(left))
    left, right = left * balance, right / balance
    sums, largest = np.abs(left).sum(axis=0), _largest(right)
    # Rounded, a sum of a column's f-fold is rows / 2 longer at most, its largest cell 1 / 2: the largest f of which
    # (f sums + rows / 2) @ (f largest + 1 / 2) is the half of what a score may be.
    total, slack = float(sums @ largest), float(sums.sum() + rows * largest.sum()) / 2
    free = half - rows * len(largest) / 4
    cell = max(_largest(left).max(), largest.max())
    scale = min(2 * free / (slack + math.sqrt(slack**2 + 4 * total * free)), CELL_LIMIT / 2 / cell)
    return np.rint(left * scale).astype(np.int64), np.rint(right * scale).astype(np.int64)


def _largest(matrix: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the largest absolute value of each column, and a little where that is nothing."""
    largest: NDArray[np.float64] = np.maximum(np.abs(matrix).max(axis=0), 1e-30)
    return largest
