"""The loop of every trainer here, central or federated: it fits on a page, and it cannot see a person.

A model says what a block of people adds to a sum and how a noisy sum makes it better. A population knows where the
histories are. The plan says what each round may cost. Everything about people passes through ``disclose``.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from discreet.data.catalogue import Catalogue
from discreet.errors import SettingError
from discreet.models.base import Model, State
from discreet.models.trained import Trained
from discreet.privacy.disclosure import Add, AddAfar, AddApart, Spend, Used, add_up, disclose
from discreet.privacy.guarantee import Guarantee
from discreet.privacy.plan import Plan
from discreet.privacy.records import Weights, layers_of
from discreet.randomness import NoiseSource
from discreet.training.populations import Devices, Layers, Population, Work

Progress = Callable[[int, int], None]
"""Told the rounds done and the rounds planned."""


def train(
    model: Model,
    population: Population | Devices,
    plan: Plan,
    *,
    spend: Spend,
    add: Add | AddApart | AddAfar = add_up,
    used: Used | None = None,
    progress: Progress | None = None,
    source: NoiseSource | None = None,
) -> Trained:
    """Return the model after all rounds of the plan, with what it promises.

    Args:
        model: what to learn.
        population: whose histories, and where they are.
        plan: bounds and noise of each round; as many rounds as the model asks for.
        spend: books the price of a round before it is computed, or raises.
        add: who adds up.
        used: told in each round what people used up, in the order in which the population has them.
        progress: called after each round.
        source: noise for tests; by default each round draws its own, fresh and secret.

    Raises:
        SettingError: the plan was not made for this model.
        BudgetExceeded: by ``spend``; rounds already released stay paid, nothing is returned.
        BoundExceeded: if the model broke the plan's bound.
    """
    if plan.rounds != model.rounds:
        raise SettingError(f"the plan has {plan.rounds} rounds, the model asks for {model.rounds}; plan for the model")
    state, secure = model.start(population.catalogue.tag_matrix), True
    layers = layers_for(population.catalogue, plan.weights)
    for number, bound in enumerate(plan.bounds):
        contributions = population.map(Work(model, _read_only(state), bound, layers))
        released = disclose(contributions, plan, number, spend=spend, add=add, used=used, source=source)
        state, secure = model.step(state, released), secure and released.secure
        if progress:
            progress(number + 1, plan.rounds)
    guarantee = Guarantee.of(plan, secure=secure, catalogue_declared=population.catalogue_declared)
    whence = (population.catalogue, population.dataset, population.purpose, len(population))
    return Trained(model, state, plan, guarantee, *whence)


def layers_for(catalogue: Catalogue, weights: Weights) -> Layers:
    """Return the layers that sensitive categories call for, each with the items that it does not see; none for none."""
    if not weights:
        return ()
    categories = np.array(catalogue.categories or [""] * len(catalogue))
    return tuple((layer, np.isin(categories, sorted(layer.unseen))) for layer in layers_of(weights))


def _read_only(state: State) -> State:
    """Return a copy that a model cannot carry anything about people out in."""
    copies = {name: np.array(array) for name, array in state.items()}
    for array in copies.values():
        array.flags.writeable = False
    return copies
