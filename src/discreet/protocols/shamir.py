"""Shamir's secret sharing (1979) of 32 bytes, over the integers modulo a fixed prime of 257 bits.

A secret is the constant term of a polynomial of degree t - 1 whose other coefficients are uniform. A share is its value
at the holder's own place x, 1 <= x < 2^32. Any t shares determine the polynomial; any t - 1 are independent of the
secret: for every secret there is exactly one polynomial of that degree through them.

The field is larger than any secret, so shares are of one size whoever holds them, and no secret is reduced.

=======================  ===============================================================
edge case                behaviour
=======================  ===============================================================
t of 1                   every share is the secret: refused by ``secagg``, allowed here
two shares of one place  ProtocolError
fewer than t shares      the caller must count: any number of shares gives some secret
a result above 2^256     ProtocolError: the shares are not of one polynomial, or forged
=======================  ===============================================================
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Mapping

from discreet.errors import ProtocolError, SettingError

PRIME = (1 << 256) + 297
"""The smallest prime above 2^256; a test proves it prime."""

SECRET_BYTES = 32
SHARE_BYTES = 33


def split(secret: bytes, threshold: int, places: Iterable[int]) -> dict[int, bytes]:
    """Return the share of each place, 33 bytes each; any ``threshold`` of them determine the secret of 32 bytes.

    Raises:
        SettingError: the secret has another length, a place is below 1, or there are fewer places than the threshold.
    """
    holders = list(places)
    if len(secret) != SECRET_BYTES or not 1 <= threshold <= len(set(holders)) == len(holders) or min(holders) < 1:
        raise SettingError("a secret of 32 bytes is shared among different places from 1, at least as many as needed")
    coefficients = [secrets.randbelow(PRIME) for _ in range(threshold - 1)] + [int.from_bytes(secret, "big")]
    return {place: _value(coefficients, place).to_bytes(SHARE_BYTES, "big") for place in holders}


def combine(shares: Mapping[int, bytes]) -> bytes:
    """Return the secret of all these shares, by place.

    Raises:
        ProtocolError: a share is no element of the field, or they give no secret.
    """
    values = {place: int.from_bytes(share, "big") for place, share in shares.items()}
    if not values or any(len(share) != SHARE_BYTES for share in shares.values()) or max(values.values()) >= PRIME:
        raise ProtocolError("a share is damaged")
    total = sum(values[place] * weight for place, weight in _weights(list(values)).items()) % PRIME
    if total >> (8 * SECRET_BYTES):
        raise ProtocolError("shares do not fit together")
    return total.to_bytes(SECRET_BYTES, "big")


def _value(coefficients: list[int], place: int) -> int:
    value = 0
    for coefficient in coefficients:  # Horner's rule, the highest first
        value = (value * place + coefficient) % PRIME
    return value


def _weights(places: list[int]) -> dict[int, int]:
    """Return Lagrange's weights at zero: over all others m, the product of m / (m - place); with one inversion."""
    above, below = [], []
    for place in places:
        top, bottom = 1, 1
        for other in places:
            if other != place:
                top = top * other % PRIME
                bottom = bottom * (other - place) % PRIME
        above.append(top)
        below.append(bottom)
    return {place: top * inverse % PRIME for place, top, inverse in zip(places, above, _inverses(below), strict=True)}


def _inverses(values: list[int]) -> list[int]:
    """Return the inverses of all values (Montgomery's trick)."""
    products = [1]
    for value in values:
        products.append(products[-1] * value % PRIME)
    inverse, found = pow(products[-1], -1, PRIME), []
    for value, before in zip(reversed(values), reversed(products[:-1]), strict=True):
        found.append(inverse * before % PRIME)
        inverse = inverse * value % PRIME
    return found[::-1]
