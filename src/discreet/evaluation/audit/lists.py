"""Gate F: membership, through lists alone.

The attacker knows everybody else, and how the product is trained; they see the recommendations that a model gives for
histories of their choice, in order, and nothing more. They train shadow models with and without the person, learn from
those which ranks give the person away, choose a threshold, and then say "in" or "out" of models that they have not
seen. What is right of that, beyond chance, bounds mu from below by Clopper and Pearson.

A release that is noisy where it is watched and exact where it is used would pass every other gate.
"""

from __future__ import annotations

from functools import partial

import numpy as np
from numpy.typing import NDArray

from discreet.data.interactions import Rows
from discreet.evaluation.audit.findings import Check, Claim, Finding
from discreet.evaluation.audit.neighbours import judged
from discreet.evaluation.audit.people import opened, planned, ring, rows, stacked
from discreet.evaluation.audit.statistics import Rates
from discreet.models.recipe import Kind
from discreet.models.trained import Trained
from discreet.training.populations import Here
from discreet.training.rounds import train

PEOPLE, ITEMS, LENGTH = 33, 16, 3
"""Everybody else has a few items, no item more often than others: there one more person shows most."""

PERSON = (3, 6, 9, 12)
PILOT, RUNS = 40, 120
"""Shadow models of each world to learn from, and models of each world to be guessed."""


def check(kind: Kind, claim: Claim, alpha: float) -> Check:
    """Return the check of one kind of model, at one claim."""
    return Check("F", kind, claim, alpha, partial(_measure, kind, claim))


def _measure(kind: Kind, claim: Claim, alpha: float, scale: int) -> Finding:
    others = ring(PEOPLE - 1, ITEMS, LENGTH)
    worlds = [stacked(others, rows([history], ITEMS)) for history in (PERSON, ())]
    pilot = [_ranks(kind, claim, world, PILOT) for world in worlds]
    direction = pilot[0].mean(axis=0) - pilot[1].mean(axis=0)
    threshold = float(sum(np.median(ranks @ direction) for ranks in pilot)) / 2
    inside, outside = [_ranks(kind, claim, world, scale * RUNS) @ direction for world in worlds]
    return judged(Rates.of(inside, outside, threshold), claim, alpha)


def _ranks(kind: Kind, claim: Claim, people: Rows, count: int) -> NDArray[np.float64]:
    """Return the ranks of all items in all lists of each of ``count`` models, float64 [count, questions x items]."""
    model, plan = planned(kind, PEOPLE, ITEMS, claim.epsilon, claim.delta)
    world = Here(opened(people), threads=1)
    trained = (train(model, world, plan, spend=lambda _: None) for _ in range(count))
    return np.stack([_asked(each) for each in trained])


def _asked(trained: Trained) -> NDArray[np.float64]:
    questions = [(), *[(item,) for item in PERSON], PERSON]
    lists = [trained.recommend(question, ITEMS, exclude_seen=False).items for question in questions]
    return np.concatenate([np.argsort(np.array(items, np.int64)) for items in lists]).astype(np.float64)
