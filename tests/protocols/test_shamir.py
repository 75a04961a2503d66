"""Shares: any t give the secret, t - 1 give nothing, and what is damaged is refused."""

from __future__ import annotations

import json
import secrets
from itertools import combinations
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from discreet.errors import ProtocolError, SettingError
from discreet.protocols.shamir import PRIME, SHARE_BYTES, combine, split

VECTORS = json.loads((Path(__file__).parent / "vectors/shamir.json").read_text())


def test_the_prime_is_one() -> None:
    """Miller and Rabin with 64 random bases: a composite passes with a chance below 2^-128."""
    odd, twos = PRIME - 1, 0
    while odd % 2 == 0:
        odd, twos = odd // 2, twos + 1
    for _ in range(64):
        power = pow(secrets.randbelow(PRIME - 3) + 2, odd, PRIME)
        chain = [power]
        for _ in range(twos - 1):
            chain.append(chain[-1] ** 2 % PRIME)
        assert power == 1 or PRIME - 1 in chain


@given(secret=st.binary(min_size=32, max_size=32), threshold=st.integers(1, 6), spare=st.integers(0, 4))
def test_any_t_shares_give_the_secret(secret: bytes, threshold: int, spare: int) -> None:
    shares = split(secret, threshold, range(1, threshold + spare + 1))
    assert all(len(share) == SHARE_BYTES for share in shares.values())
    for chosen in combinations(shares, threshold):
        assert combine({place: shares[place] for place in chosen}) == secret
    assert combine(shares) == secret


def test_fewer_shares_fit_every_secret() -> None:
    """For any other secret there is a last share with which two given ones yield it: two say nothing."""
    shares = split(b"\1" * 32, 3, [1, 2, 3])
    for other in (0, 1, 1 << 255, (1 << 256) - 1):
        # value at 3 of the parabola through (0, other), (1, s1), (2, s2): other - 3 s1 + 3 s2
        values = [int.from_bytes(shares[place], "big") for place in (1, 2)]
        last = (other - 3 * values[0] + 3 * values[1]) % PRIME
        forged = {1: shares[1], 2: shares[2], 3: last.to_bytes(SHARE_BYTES, "big")}
        assert combine(forged) == other.to_bytes(32, "big")


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector["name"])
def test_vectors(vector: dict[str, object]) -> None:
    shares = {int(place): bytes.fromhex(share) for place, share in dict(vector["shares"]).items()}  # type: ignore[call-overload]
    assert combine(shares).hex() == vector["secret"]


@pytest.mark.parametrize(
    "shares",
    [
        {},
        {1: b""},
        {1: bytes(32)},
        {1: bytes(34)},
        {1: PRIME.to_bytes(33, "big")},
        {1: (PRIME - 1).to_bytes(33, "big")},
        {1: b"\xff" * 33, 2: bytes(33)},
    ],
)
def test_damaged_shares(shares: dict[int, bytes]) -> None:
    with pytest.raises(ProtocolError):
        combine(shares)


@pytest.mark.parametrize(
    ("secret", "threshold", "places"),
    [
        (b"", 1, [1]),
        (bytes(33), 1, [1]),
        (bytes(32), 0, [1]),
        (bytes(32), 3, [1, 2]),
        (bytes(32), 2, [1, 1]),
        (bytes(32), 1, [0]),
    ],
)
def test_what_cannot_be_shared(secret: bytes, threshold: int, places: list[int]) -> None:
    with pytest.raises(SettingError):
        split(secret, threshold, places)
