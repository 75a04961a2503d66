"""Three servers that compute a ranking in the clear, as they are to compute it on shares."""

from __future__ import annotations

import secrets
import threading
from collections.abc import Sequence
from functools import partial

import numpy as np
from numpy.typing import NDArray

from discreet.protocols.ranking import KNOWN, LARGEST, RANKS, SEATS, Compute, Held, Share

WAITING = 30.0


def words(
    known: NDArray[np.int64], encoder: NDArray[np.int64] | None, decoder: NDArray[np.int64], listed: int
) -> NDArray[np.uint64]:
    """Return what the list's shares add up to, [listed], in no order: with Python's integers, which never wrap."""
    rows, x = len(decoder), known.astype(object)
    query = x if encoder is None else x @ encoder.astype(object)
    tie = (rows - 1).bit_length()
    keys = (decoder.astype(object) @ query) * 2**tie + np.arange(rows - 1, -1, -1).astype(object) - x * KNOWN
    order = sorted(range(rows), key=lambda row: -keys[row])[:listed]
    return np.array([RANKS * row + rank for rank, row in enumerate(order)], np.uint64)[::-1]


def opened(shares: Sequence[Share]) -> NDArray[np.uint64]:
    """Return what three shares are of; each third is there twice."""
    for seat in range(SEATS):
        assert (shares[seat][:, 1] == shares[(seat + 1) % SEATS][:, 0]).all()
    total: NDArray[np.uint64] = shares[0][:, 0] + shares[1][:, 0] + shares[2][:, 0]
    return total


def split(numbers: NDArray[np.uint64]) -> list[Share]:
    """Return three shares of numbers."""
    first, second = (np.frombuffer(secrets.token_bytes(8 * len(numbers)), np.uint64) for _ in range(2))
    thirds = first, second, numbers - first - second
    return [np.stack([thirds[seat], thirds[(seat + 1) % SEATS]], axis=1) for seat in range(SEATS)]


def farthest(rows: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return encoder and decoder [rows, 1] whose scores are as large as they may be, of odd rows below 0."""
    cell = 1 << 25
    most = (LARGEST // 2 ** (rows - 1).bit_length() - 1) // (rows * cell)
    return np.full((rows, 1), cell), np.where(np.arange(rows) % 2, -most, most)[:, None]


class InTheClear:
    """An engine: the three wait for one another, and one of them opens everything."""

    def __init__(self) -> None:
        self._asked: dict[bytes, dict[int, Share]] = {}
        self._made: dict[bytes, list[Share]] = {}
        self._changed = threading.Condition()

    def computes(self, shares: tuple[Held, Held, Held]) -> tuple[Compute, Compute, Compute]:
        self._terms = shares[0].terms
        rows, width = self._terms.rows, self._terms.width
        numbers = opened([each.share() for each in shares]).astype(np.int64)
        assert numbers[-1] == 1
        if width:
            self._encoder: NDArray[np.int64] | None = numbers[: rows * width].reshape(rows, width)
            self._decoder = numbers[rows * width : -1].reshape(rows, width)
        else:
            self._encoder, self._decoder = None, numbers[:-1].reshape(rows, rows)
        return partial(self._computed, 0), partial(self._computed, 1), partial(self._computed, 2)

    def _computed(self, seat: int, session: bytes, share: Share) -> Share:
        with self._changed:
            asked = self._asked.setdefault(session, {})
            asked[seat] = share
            if len(asked) == SEATS:
                known = opened([asked[each] for each in range(SEATS)]).astype(np.int64)
                self._made[session] = split(words(known, self._encoder, self._decoder, self._terms.listed))
                self._changed.notify_all()
            assert self._changed.wait_for(lambda: session in self._made, WAITING)
            return self._made[session][seat]
