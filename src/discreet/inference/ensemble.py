"""Several organisations, each with a model of its own, make one list, and none shows its scores to anybody.

Their models may be of different kinds and learnt from different people, over one catalogue. For a question each ranks
all items and gives each a number of points; the asker learns the weighted sum of the points (``protocols/ensemble``),
and makes the list. There are three organisations at least.

Points are reciprocal ranks, 2^26 / (60 + rank) rounded down (Cormack, Clarke and Buettcher 2009), what is known ranked
last. Scores of different models have no common scale: standardised, they need figures about each catalogue that would
have to be released, and a model could outvote the others by one outlier. Ranks need nothing, are bounded, and tell less
of a model than its scores do. Points differ between the first 8,000 ranks; beyond, some are shared.

Each organisation learns the history that it scores: the one that it is sent, or the one that it holds of the person,
which is for whoever serves to find. The asker learns the sum for all items. Organisations learn nothing of each other,
unless one of them asks: see the proof beside the protocol.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from numpy.typing import NDArray
from scipy.sparse import csr_array

from discreet.data.catalogue import Catalogue
from discreet.documents import fingerprint
from discreet.errors import SettingError
from discreet.inference.base import History
from discreet.inference.outline import Kept
from discreet.models.slate import Slate, best
from discreet.models.trained import Trained
from discreet.protocols.ensemble import Agreement, Organisation, Summing
from discreet.protocols.keys import public_bytes
from discreet.protocols.messages import LEAST

POINTS = 1 << 26
SMOOTHING = 60
"""Added to every rank, so that the first does not outweigh the second two to one."""
BITS = 32


class Member:
    """One of the organisations.

    Args:
        trained: its model.
        agreement: as it agreed to it.
        key: its own.

    Raises:
        SettingError: the agreement is about another catalogue, or the key is of none that agreed.
    """

    def __init__(self, trained: Trained, agreement: Agreement, key: X25519PrivateKey) -> None:
        _check(agreement, trained.catalogue)
        self.trained, self.organisation = trained, Organisation(agreement, key)

    def __repr__(self) -> str:
        return f"Member({self.seat})"

    @property
    def seat(self) -> int:
        """Its place among the organisations."""
        return self.organisation.seat

    def open(self) -> bytes:
        """See ``Organisation.open``."""
        return self.organisation.open()

    def answer(self, sitting: bytes, history: History) -> bytes:
        """Score a history, and mask the points.

        Raises:
            ProtocolError: the sitting is of another agreement, or was answered.
            SettingError: the history holds something other than ids.
        """
        known, _ = self.trained.catalogue.positions(history)
        return self.organisation.answer(sitting, points(self.trained, known))


class Asker:
    """The side that learns the sum, and nothing else of the models.

    Args:
        agreement: of the organisations.
        catalogue: that it is about.
        n: length of the list.

    Raises:
        SettingError: the agreement is about another catalogue.
    """

    def __init__(self, agreement: Agreement, catalogue: Catalogue, n: int = 10) -> None:
        _check(agreement, catalogue)
        self.agreement, self.catalogue, self.n = agreement, catalogue, n

    def ask(self, history: History, nonces: Sequence[bytes]) -> tuple[bytes, Kept[Summing]]:
        """Return the sitting, which goes to every organisation, beside the history or the person's name with it.

        Args:
            history: what is not to be listed.
            nonces: of the organisations, in order of seats.

        Raises:
            SettingError: the history holds something other than ids.
            ProtocolError: there is not one nonce of each.
        """
        known, unknown = self.catalogue.positions(history)
        summing = Summing(self.agreement, nonces)
        return summing.sitting, Kept(summing, known, unknown)

    def read(self, reply: Mapping[int, bytes], kept: Kept[Summing]) -> Slate:
        """Add the points up, and make the list.

        Raises:
            ProtocolError: an answer cannot be one in this sitting; names the seat.
            TooFewLeft: not all have answered.
            SettingError: the list is to be shorter than one.
        """
        total = kept.side.read(reply).astype(np.float64)
        return best(total, self.catalogue, self.n, exclude=kept.known, unknown=kept.unknown)


class Ensemble:
    """All sides in one process, which sends the history to each organisation.

    Args:
        models: of the organisations, over one catalogue.
        weights: of each; None for one vote each.
        n: length of the list.

    Raises:
        SettingError: they are fewer than three, or over different catalogues.
        ProtocolError: the weights are none.
    """

    def __init__(self, models: Sequence[Trained], weights: Sequence[int] | None = None, n: int = 10) -> None:
        if len(models) < LEAST:
            raise SettingError(f"{len(models)} organisations hide nothing from one another; {LEAST} do at least")
        keys, catalogue = [X25519PrivateKey.generate() for _ in models], models[0].catalogue
        terms = agreement(catalogue, list(map(public_bytes, keys)), weights or [1] * len(models))
        self.members = tuple(Member(model, terms, key) for model, key in zip(models, keys, strict=True))
        self.asker = Asker(terms, catalogue, n)

    def ask(self, history: History) -> tuple[tuple[bytes, tuple[str | int, ...]], Kept[Summing]]:
        """Have the organisations open a sitting; then see ``Asker.ask``."""
        sitting, kept = self.asker.ask(history, [member.open() for member in self.members])
        return (sitting, tuple(history)), kept

    def answer(self, request: tuple[bytes, tuple[str | int, ...]]) -> dict[int, bytes]:
        """Answer as every organisation."""
        return {member.seat: member.answer(*request) for member in self.members}

    def read(self, reply: Mapping[int, bytes], kept: Kept[Summing]) -> Slate:
        """See ``Asker.read``."""
        return self.asker.read(reply, kept)


def agreement(catalogue: Catalogue, keys: Sequence[bytes], weights: Sequence[int]) -> Agreement:
    """Return what organisations agree on.

    Args:
        catalogue: of all of them.
        keys: X25519 public keys of the organisations.
        weights: of each, whole numbers of at least 1.

    Raises:
        ProtocolError: they are fewer than three, or the catalogue is empty, or weights are none, or too large.
    """
    most = POINTS // (SMOOTHING + 1)
    return Agreement(_context(catalogue), tuple(keys), tuple(weights), most, len(catalogue), BITS)


def points(trained: Trained, known: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return what a model gives each item, int64 [items]; ties in the catalogue's order.

    Args:
        trained: the model.
        known: positions of the history's items, ascending.
    """
    row = csr_array((np.ones(len(known), np.int8), known, [0, len(known)]), shape=(1, len(trained.catalogue)))
    scores = trained.scores(row)[0].astype(np.float64)
    scores[known] = -np.inf
    ranks = np.empty(len(scores), np.int64)
    ranks[np.argsort(-scores, kind="stable")] = np.arange(1, len(scores) + 1)
    return POINTS // (SMOOTHING + ranks)


def _context(catalogue: Catalogue) -> bytes:
    """Return the SHA-256 of what points mean: for which items, and by which rule."""
    rule = {"ids": [str(item) for item in catalogue.ids], "points": POINTS, "smoothing": SMOOTHING}
    return bytes.fromhex(fingerprint(rule))


def _check(terms: Agreement, catalogue: Catalogue) -> None:
    if terms.context != _context(catalogue):
        raise SettingError("the organisations agreed on another catalogue, or on other points")
