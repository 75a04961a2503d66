"""What the time of an answer tells: how long the history is, and whether somebody was in.

Measured within the process, with nothing in between: the most that somebody could see. The least of several answers is
taken, which is what an attacker with patience would do. Whoever asks sends the history, so its length is a secret only
from those who watch. Nothing here pads answers: see ``docs/known-limits.md``.
"""

from __future__ import annotations

import time

import numpy as np
from scipy.stats import spearmanr

from discreet.data.splitting import hold_out_people
from discreet.errors import SettingError
from discreet.evaluation.attacks.figures import Figure, Service
from discreet.evaluation.audit.statistics import auc
from discreet.models.trained import Trained

LEAST_PEOPLE, LEAST_ITEMS = 10, 5
"""Whoever is held out has five items: so has whoever they are compared with, or lengths would tell them apart."""


def timing(service: Service, *, people: int = 100, answers: int = 5, runs: int = 3) -> list[Figure]:
    """Return the rank correlation of latency and length of history, and how well latency tells membership.

    Args:
        service: what is attacked.
        people: who were in, and as many who were not.
        answers: of which the quickest counts.
        runs: models, each with other people held out.

    Raises:
        SettingError: fewer than ten people, or too few in the data.
    """
    if people < LEAST_PEOPLE:
        raise SettingError(f"timing needs at least {LEAST_PEOPLE} people, not {people}")
    correlations, aucs, longer = [], [], []
    for seed in range(runs):
        split = hold_out_people(service.histories, people, seed)
        trained = Service(split.train, service.epsilon, service.kind).released(split.train.matrix)
        able = np.flatnonzero(np.diff(split.train.matrix.indptr) >= LEAST_ITEMS)
        members = np.random.default_rng(seed).permutation(able)[:people]
        rows = [split.train.matrix[[row]].indices for row in members]
        rows += [service.histories.matrix[[row]].indices for row in split.measured]
        order = np.random.default_rng(seed).permutation(len(rows))  # whoever is asked first must not be slower
        seconds, lengths = np.empty(len(rows)), np.array([len(row) for row in rows])
        for place in order:
            seconds[place] = _latency(trained, rows[place], answers)
        correlations.append(float(spearmanr(seconds, lengths).statistic))
        aucs.append(auc(seconds[:people], seconds[people:]))
        middle = np.median(lengths)
        longer.append(float(((seconds > np.median(seconds)) == (lengths > middle)).mean()))
    return [
        service.of_values("timing", "latency and length of history: rank correlation", correlations, 0.0),
        service.of_values("timing", "latency: longer or shorter than most, right", longer, 0.5),
        service.of_values("timing", "latency: membership, AUC", aucs, 0.5),
    ]


def _latency(trained: Trained, row: np.ndarray[tuple[int], np.dtype[np.int32]], answers: int) -> float:
    history = [trained.catalogue.ids[item] for item in row]
    seconds = []
    for _ in range(answers):
        start = time.perf_counter()
        trained.recommend(history)
        seconds.append(time.perf_counter() - start)
    return min(seconds)
