"""The accountant's judge, against mpmath."""

from __future__ import annotations

from decimal import Decimal

import mpmath
import pytest

from discreet.errors import SettingError
from discreet.evaluation.audit.closed_form import delta_of, mu_of_claim, mu_of_square
from discreet.evaluation.audit.findings import Claim
from discreet.privacy.accounting import UNITS_PER_MU2, cap, mu_of


@pytest.mark.parametrize("mu", ["0.001", "0.2367", "1.5", "6", "30"])
@pytest.mark.parametrize("epsilon", [0.0, 0.01, 1.0, 8.0, 30.0])
def test_delta_is_mpmaths(epsilon: float, mu: str) -> None:
    ours = delta_of(epsilon, Decimal(mu))
    with mpmath.workprec(2_000):
        half, ratio = mpmath.mpf(mu) / 2, mpmath.mpf(epsilon) / mpmath.mpf(mu)
        theirs = mpmath.ncdf(half - ratio) - mpmath.exp(epsilon) * mpmath.ncdf(-half - ratio)
        assert abs(mpmath.mpf(str(ours)) - theirs) <= mpmath.mpf(10) ** -30 * (theirs + mpmath.mpf(10) ** -30)


@pytest.mark.parametrize("epsilon", [0.05, 1.0, 8.0, 25.0])
@pytest.mark.parametrize("delta", [1e-9, 1e-6, 1e-3])
def test_a_claim_is_the_accountants_cap_but_for_a_unit(epsilon: float, delta: float) -> None:
    units = cap(epsilon, delta)
    assert mu_of(units) <= mu_of_claim(epsilon, delta) <= mu_of(units + 2) * (1 + 1e-9)


def test_mu_of_a_square() -> None:
    assert float(mu_of_square(4 * UNITS_PER_MU2, UNITS_PER_MU2)) == 2


def test_claims_are_read() -> None:
    claim = Claim.parse("eps=1,delta=1e-6")
    assert (claim, str(claim)) == (Claim(1.0, 1e-6), "eps=1,delta=1e-06")
    assert claim.mu == pytest.approx(0.2367, abs=1e-4)


@pytest.mark.parametrize(
    "text", ["", "1", "eps=1", "eps=x,delta=1e-6", "eps=-1,delta=1e-6", "eps=1,delta=2", "eps=nan,delta=0.1"]
)
def test_other_claims_are_refused(text: str) -> None:
    with pytest.raises(SettingError, match="eps=1,delta=1e-6"):
        Claim.parse(text)
