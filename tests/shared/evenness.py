"""Whether bytes look uniform."""

from __future__ import annotations

import numpy as np
from scipy.stats import chi2

FALSE_ALARM = 1e-6
"""Probability below which bytes are called uneven: how often uniform ones are."""


def evenness(content: bytes) -> float:
    """Return the probability of bytes at least as uneven: chi-squared, 255 degrees of freedom."""
    cells = np.bincount(np.frombuffer(content, np.uint8), minlength=256)
    expected = len(content) / 256
    return float(chi2.sf(((cells - expected) ** 2 / expected).sum(), 255))
