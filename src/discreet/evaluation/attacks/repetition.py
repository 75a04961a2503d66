"""Asking again and again. Lists are a function of the released model and the history: asking twice tells nothing new.

The counter-demonstration: if, instead, each answer had noise of its own, its mean over many answers would be as good as
no noise. So there is no noise per query here, and there must not be.
"""

from __future__ import annotations

import math

import numpy as np

from discreet.errors import SettingError
from discreet.evaluation.attacks.figures import Figure, Service
from discreet.privacy.accounting import cap, default_delta, mu_of
from discreet.privacy.mechanisms.gaussian import STANDARD_DEVIATION, draw
from discreet.randomness import NoiseSource

CALLS = (1, 10, 100, 1_000)
PER_QUERY = 0.2
"""Epsilon of one answer of the counter-demonstration."""


def repeated_questions(service: Service, *, people: int = 20, times: int = 10) -> list[Figure]:
    """Return how many different lists each person got who asked several times: 1.

    Raises:
        SettingError: nobody has a history.
    """
    able = service.random.permutation(np.flatnonzero(service.lengths))[:people]
    if not able.size:
        raise SettingError("nobody has a history to ask with")
    trained, matrix = service.released(service.histories.matrix), service.histories.matrix
    ids = service.histories.catalogue.ids
    asked = [[ids[item] for item in matrix[[person]].indices] for person in able]
    different = [len({trained.recommend(history).items for _ in range(times)}) for history in asked]
    return [service.of_values("repetition", f"different lists in {times} answers", different, 1.0)]


def averaged_noise(service: Service, *, trials: int = 400) -> list[Figure]:
    """Return how often membership would be told from the mean of answers, each with fresh noise of epsilon 0.2."""
    mu = mu_of(cap(PER_QUERY, default_delta(len(service.histories))))
    inside, figures = service.random.random(trials) < 0.5, []
    for calls in CALLS:
        noise = draw(trials * calls, NoiseSource()).reshape(trials, calls).mean(axis=1) / STANDARD_DEVIATION
        right = int(((noise + mu * inside > mu / 2) == inside).sum())
        what = (
            f"if {calls} answers had noise of eps {PER_QUERY:g} each: right guesses, of at most {_best(mu, calls):.2f}"
        )
        figures.append(service.of_share("repetition", what, right, trials, 0.5))
    return figures


def _best(mu: float, calls: int) -> float:
    """Return Phi(mu sqrt(calls) / 2): what composition says."""
    return 0.5 * math.erfc(-mu * math.sqrt(calls) / 2 / math.sqrt(2))
