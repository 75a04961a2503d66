"""Gain over popularity by epsilon, as a private search released it, and what can be read off that for nothing.

A measured person's gains are how much more of what was held back the lists of each model find than lists by popularity
do: recall@20 minus recall@20, a number in [-1, 1] for each epsilon. Their row in the sum holds the gains, and products
of them, from which the spread over people is told without another release.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import rfc8785
from numpy.typing import NDArray
from scipy.optimize import isotonic_regression
from scipy.sparse import csr_array

from discreet.documents import document, fields_of
from discreet.errors import ArtefactError, SettingError
from discreet.privacy.disclosure import Disclosed
from discreet.privacy.guarantee import Guarantee

FORMAT = 1
SPREAD = 0.2
"""Of a row's squared length, what goes to the products."""

INWARD = 1.0 - 1e-9
"""Rows are scaled a little short of the bound, so that floating point cannot carry them past it."""

SURE = 1.96
"""Standard errors on either side, in 95 of 100 cases."""

MOST_BYTES = 1 << 20
LARGEST = 1e9
"""Of any number: gains are within 1, and the noise on a sum of one person's is below this."""


@dataclass(frozen=True)
class Answer:
    """The smallest epsilon that keeps a share of the gain.

    Attributes:
        keep: the share asked for.
        epsilon: in nats, between two that were tried where the share is reached between them; None if the models find
            nothing that popularity does not, so that there is no gain to keep.
        low: lower end of where it lies in 95 of 100 cases; None as above.
        high: upper end.
    """

    keep: float
    epsilon: float | None
    low: float | None
    high: float | None


@dataclass(frozen=True, kw_only=True)
class Gains:
    """What a search released. Public.

    Attributes:
        dataset: whose people were measured.
        kind: of model.
        epsilons: that were tried, ascending, at least two; gains are compared with that of the last.
        mean: gain over popularity in recall@20, mean over the measured people, one an epsilon; noisy.
        products: mean over people of the product of two gains, [epsilons][epsilons], symmetric; noisy.
        noise: standard deviation of the noise on each of ``mean``.
        product_noise: the same of the diagonal of ``products``.
        trained_on: people that models were trained on.
        measured: other people, that they were measured on.
        guarantee: what the whole search promises each of them.
        release: id in the ledger.
    """

    dataset: str
    kind: str
    epsilons: tuple[float, ...]
    mean: tuple[float, ...]
    products: tuple[tuple[float, ...], ...]
    noise: float
    product_noise: float
    trained_on: int
    measured: int
    guarantee: Guarantee
    release: str

    def __post_init__(self) -> None:
        count = len(self.epsilons)
        shapes = len(self.mean) == len(self.products) == count and all(len(row) == count for row in self.products)
        numbers = (*self.mean, *(value for row in self.products for value in row), self.noise, self.product_noise)
        if count < 2 or not shapes or self.measured < 1:
            raise SettingError("gains need two epsilons or more, a number for each, and somebody measured")
        if not all(before < after for before, after in pairwise((0.0, *self.epsilons))):
            raise SettingError("the epsilons of gains ascend from above 0")
        if not all(abs(number) <= LARGEST for number in numbers) or min(self.noise, self.product_noise) < 0:
            raise SettingError("gains hold a number that none can be")

    @property
    def reference(self) -> float:
        """The largest epsilon that was tried: shares are of its gain, for one without noise cannot be released."""
        return self.epsilons[-1]

    @property
    def covariance(self) -> NDArray[np.float64]:
        """Covariance of ``mean``, [epsilons, epsilons]: of whom it fell on to be measured, and of the noise.

        It errs on the wide side: the standard deviation of the noise on the spread itself is added to the spread.
        Not in it: that each model was trained once, and other noise would have made another.
        """
        mean = np.array(self.mean)
        values, vectors = np.linalg.eigh(np.array(self.products) - np.outer(mean, mean))
        spread = (vectors * np.maximum(values, 0.0)) @ vectors.T
        own = self.product_noise / self.measured + self.noise**2
        covariance: NDArray[np.float64] = spread / self.measured + own * np.eye(len(mean))
        return covariance

    @property
    def is_gain(self) -> bool:
        """Whether the models clearly find more than popularity does at the largest epsilon."""
        return self.mean[-1] > SURE * math.sqrt(self.covariance[-1, -1])

    @property
    def shares(self) -> NDArray[np.float64]:
        """Share of the last epsilon's gain that each keeps; the last is 1. NaN where there is no gain."""
        return np.array(self.mean) / self.mean[-1] if self.is_gain else np.full(len(self.mean), np.nan)

    @property
    def errors(self) -> NDArray[np.float64]:
        """Standard errors of ``shares``, by the delta method for a ratio of two means; the last is 0. NaN as above."""
        shares, covariance = self.shares, self.covariance
        variance = np.diag(covariance) - 2 * shares * covariance[:, -1] + shares**2 * covariance[-1, -1]
        errors: NDArray[np.float64] = np.sqrt(np.maximum(variance, 0.0)) / abs(self.mean[-1] or math.inf)
        if self.is_gain:
            errors[-1] = 0.0
        return errors

    def smallest(self, keep: float) -> Answer:
        """Return the smallest epsilon that keeps a share ``keep``, above 0 and at most 1, of the gain.

        Costs nothing: it reads what is public already. Shares are taken to grow with epsilon (where noise has it
        otherwise, neighbours are averaged), and linearly in its logarithm between two that were tried.

        Raises:
            SettingError: ``keep`` is out of its range.
        """
        if not 0 < keep <= 1:
            raise SettingError(f"the share to keep is above 0 and at most 1, or 100%, got {keep:g}")
        if not self.is_gain:
            return Answer(keep, None, None, None)
        shares, reach = self.shares, SURE * self.errors
        found = [self._reached(curve, keep) for curve in (shares, shares + reach, shares - reach)]
        return Answer(keep, *found)

    def _reached(self, shares: NDArray[np.float64], keep: float) -> float:
        growing = isotonic_regression(shares).x
        place = int(np.argmax(growing >= keep)) if growing[-1] >= keep else len(growing) - 1
        if place == 0 or growing[place] < keep:
            return self.epsilons[place]
        logs = np.log(self.epsilons[place - 1 : place + 1])
        return float(np.exp(np.interp(keep, growing[place - 1 : place + 1], logs)))

    def to_dict(self) -> dict[str, Any]:
        """Return fields and what is read from them, as JSON values."""
        guarantee = {"guarantee": self.guarantee.to_dict()}
        shares = [None if math.isnan(share) else share for share in self.shares.tolist()]
        errors = [None if math.isnan(error) else error for error in self.errors.tolist()]
        return {"format": FORMAT} | asdict(self) | guarantee | {"shares": shares, "standard_errors": errors}

    def to_bytes(self) -> bytes:
        """Return the file's content: canonical JSON (RFC 8785)."""
        return rfc8785.dumps(self.to_dict())

    @classmethod
    def from_bytes(cls, content: bytes) -> Gains:
        """Read what ``to_bytes`` wrote; what is derived is computed anew.

        Raises:
            ArtefactError: it is something else.
        """
        try:
            stored = document(content)
            if stored.get("format") != FORMAT:
                raise ArtefactError("gains of another version; search anew")
            return cls(**fields_of(cls, stored))
        except ValueError as error:  # SettingError is one
            raise ArtefactError(f"not what a search released ({type(error).__name__}); search anew") from None

    @classmethod
    def load(cls, path: Path) -> Gains:
        """Read a file.

        Raises:
            ArtefactError: it is missing, or something else.
        """
        try:
            with path.open("rb") as file:
                return cls.from_bytes(file.read(MOST_BYTES))
        except OSError as error:
            raise ArtefactError(f"cannot read {path}: {error.strerror}") from None
        except ArtefactError as error:
            raise ArtefactError(f"{path}: {error}") from None


def gain_rows(gains: NDArray[np.float64], bound: int) -> csr_array:
    """Return people's rows: their k gains, then the upper triangle of the products of two of them.

    Args:
        gains: float64 [people, k], each in [-1, 1].
        bound: S, in grid units.

    Returns:
        int64 [people, k + k (k + 1) / 2], each row of length at most S. Proof: ``search.md``.
    """
    k = gains.shape[1]
    first, second = np.triu_indices(k)
    products = gains[:, first] * gains[:, second] * np.where(first == second, 1.0, np.sqrt(2.0))
    parts = np.hstack([np.sqrt((1 - SPREAD) / k) * gains, np.sqrt(SPREAD) / k * products])
    return csr_array(np.trunc(INWARD * bound * parts).astype(np.int64))


def means_of(released: Disclosed, k: int, people: int) -> dict[str, Any]:
    """Return ``mean``, ``products`` and the noise on both, from the noisy sum of ``gain_rows`` of so many people."""
    sums, packed = np.split(released.values / people, [k])
    products = np.zeros((k, k))
    first, second = np.triu_indices(k)
    scale = k / math.sqrt(SPREAD)
    products[first, second] = packed * scale / np.where(first == second, 1.0, np.sqrt(2.0))
    products[second, first] = products[first, second]
    unit = math.sqrt(k / (1 - SPREAD))
    return {
        "mean": tuple((sums * unit).tolist()),
        "products": tuple(map(tuple, products.tolist())),
        "noise": released.sigma * unit / people,
        "product_noise": released.sigma * scale / people,
    }
