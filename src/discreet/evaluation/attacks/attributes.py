"""What a person is, guessed from what they were recommended, or from what they did: gender, age band.

The attacker knows the attribute of some people and what they see of them, and learns to tell it: a ridge regression on
the classes (Weinsberg et al., BlurMe, 2012, infer gender from ratings so). They see of each other person

- their *list*: items recommended to them, and nothing else;
- their *history*, folded into the released model: the factors, or scores, that it gives them;
- their history alone: what needs no model.

Differential privacy does not stop any of this, and does not promise to: a list is made from a person's own history, and
says much of what the history says. It does promise that having taken part makes no difference; so the same attack is
made on people who were not in.

Measured is balanced accuracy, the mean over classes of how often people of the class are guessed right: whoever always
guesses the most frequent class is right by the base rate, and gets one over the number of classes.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray
from scipy.sparse.linalg import svds

from discreet.data.interactions import Rows
from discreet.data.splitting import hold_out_people
from discreet.errors import SettingError
from discreet.evaluation.attacks.figures import Figure, Service, recalls
from discreet.evaluation.ranking import top
from discreet.models.trained import Trained

LISTED = 20
"""Items on a list."""

HELD_OUT_SHARE, MOST_HELD_OUT, TAUGHT_SHARE = 0.2, 1_000, 0.6
LEAST_PEOPLE = 50
"""With a known attribute."""

RIDGES = (0.3, 3.0, 30.0, 300.0)
MOST_FEATURES = 1_000
"""The most frequent items that are looked at."""

FACTORS = 64
"""Directions in which what a model says of people is summed up, the strongest ones."""

Labels = NDArray[np.int64]
Seen = NDArray[np.float64]
"""What is seen of each person, float64 [people, features]."""


def attribute_inference(
    service: Service, attribute: Mapping[str | int, str], *, name: str = "attribute"
) -> list[Figure]:
    """Return the balanced accuracy from each view; chance is that of guessing the most frequent class.

    Args:
        service: what is attacked.
        attribute: of people, by id; whoever is not there is left out of account.
        name: what to call it.

    Raises:
        SettingError: of too few people an attribute is known, or they are all of one.
    """
    known = np.array([person in attribute for person in service.histories.people_ids])
    histories = service.histories.take(np.flatnonzero(known & (service.lengths > 0)))
    if len(histories) < LEAST_PEOPLE:
        raise SettingError(f"the attribute must be known of {LEAST_PEOPLE} people at least, not of {len(histories)}")
    names = [attribute[person] for person in histories.people_ids]
    _, labels = np.unique(names, return_inverse=True)
    if labels.max() == 0:
        raise SettingError("the attribute is the same for all: there is nothing to infer")
    out = hold_out_people(histories, min(MOST_HELD_OUT, int(HELD_OUT_SHARE * len(histories))), service.seed, least=2)
    inside = np.setdiff1d(np.arange(len(histories)), out.measured)
    trained = Service(out.train, service.epsilon, service.kind, service.seed).released(out.train.matrix)
    order = service.random.permutation(len(inside))
    taught, asked = np.split(inside[order], [int(TAUGHT_SHARE * len(inside))])
    figures = []
    for view, seen in _views(trained, histories.matrix).items():
        for who, people in (("who were in", asked), ("who were not", out.measured)):
            guessed = _guessed(seen, labels, taught, people)
            figures.append(service.of_classes("attributes", f"{name} from {view}, {who}", guessed, labels[people]))
    return figures


def _views(trained: Trained, matrix: Rows) -> dict[str, Seen]:
    scores = trained.scores(matrix)
    unseen = scores.copy()
    unseen[matrix.nonzero()] = -np.inf
    lists = np.zeros(scores.shape)
    np.put_along_axis(lists, top(unseen, min(LISTED, scores.shape[1])), 1.0, axis=1)
    history = _frequent(matrix.toarray().astype(np.float64))
    history *= np.sqrt(LISTED / np.maximum(np.diff(matrix.indptr), 1))[:, None]  # as long as a list
    factors = _factors(scores.astype(np.float64))
    return {"the list": _frequent(lists), "history and model": factors, "the history": history}


def _frequent(seen: Seen) -> Seen:
    return seen[:, np.argsort(-seen.sum(axis=0), kind="stable")[:MOST_FEATURES]]


def _factors(scores: Seen) -> Seen:
    """Return where people stand along the strongest directions of their scores, each scaled alike."""
    scaled = scores - scores.mean(axis=1, keepdims=True)
    scaled /= scaled.std(axis=1, keepdims=True) + 1e-12
    scaled -= scaled.mean(axis=0)
    size = min(FACTORS, min(scaled.shape) - 1)
    left, _, _ = svds(scaled, k=size, v0=np.ones(min(scaled.shape)))
    factors: Seen = left * np.sqrt(len(scaled))
    return factors


def _guessed(seen: Seen, labels: Labels, taught: Labels, asked: Labels) -> Labels:
    """Return the class of each person asked, by the ridge that does best on a fifth of those taught."""
    cut = len(taught) * 4 // 5
    learn, tune = taught[:cut], taught[cut:]
    weights = _regressed(seen[learn], labels[learn], int(labels.max()) + 1)
    best = max(RIDGES, key=lambda ridge: recalls(_classes(seen[tune], weights[ridge]), labels[tune])[0].mean())
    return _classes(seen[asked], weights[best])


def _regressed(seen: Seen, labels: Labels, classes: int) -> dict[float, Seen]:
    """Return weights [features + 1, classes] for each ridge, the last row being what is added to all.

    Every class weighs the same, however few people are of it.
    """
    weight = len(labels) / (classes * np.maximum(np.bincount(labels, minlength=classes), 1))[labels]
    mean, wanted = np.average(seen, axis=0, weights=weight), np.eye(classes)[labels] - 1 / classes
    centred = (seen - mean) * np.sqrt(weight)[:, None]
    values, vectors = np.linalg.eigh(centred.T @ centred)
    along = vectors.T @ (centred.T @ (wanted * np.sqrt(weight)[:, None]))
    found = {}
    for ridge in RIDGES:
        weights = vectors @ (along / (np.maximum(values, 0) + ridge)[:, None])
        found[ridge] = np.vstack([weights, -mean @ weights])
    return found


def _classes(seen: Seen, weights: Seen) -> Labels:
    classes: Labels = np.argmax(seen @ weights[:-1] + weights[-1], axis=1)
    return classes
