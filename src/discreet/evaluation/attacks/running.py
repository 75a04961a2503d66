"""All attacks by name, on a service and on the same without noise."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence

from discreet.data.interactions import Histories
from discreet.errors import SettingError
from discreet.evaluation.attacks.attributes import attribute_inference
from discreet.evaluation.attacks.differencing import differencing
from discreet.evaluation.attacks.extraction import extraction
from discreet.evaluation.attacks.figures import Figure, Service
from discreet.evaluation.attacks.linkage import linkage, update
from discreet.evaluation.attacks.membership import through_lists, white_box
from discreet.evaluation.attacks.poisoning import poisoning
from discreet.evaluation.attacks.repetition import averaged_noise, repeated_questions
from discreet.evaluation.attacks.temporal import temporal_inference
from discreet.evaluation.attacks.timing import timing
from discreet.models.recipe import Kind
from discreet.privacy.accounting import check_epsilon

Attack = Callable[[Service], list[Figure]]
Progress = Callable[[str], None]

ATTRIBUTES = "attributes"
ATTACKS: dict[str, Attack] = {
    "white-box": white_box,
    "membership": through_lists,
    "temporal": lambda service: temporal_inference(service, trials=20),
    "differencing": lambda service: differencing(service) + differencing(service, trials=2, reused=True),
    "poisoning": poisoning,
    "repetition": lambda service: repeated_questions(service) + averaged_noise(service),
    "timing": timing,
    "extraction": extraction,
    "linkage": linkage,
    "update": update,
}
"""Those that need nothing but histories; ``attributes`` needs to be told one of people."""


def attacked(
    histories: Histories,
    *,
    epsilon: float,
    names: Sequence[str] | None = None,
    kind: Kind = "auto",
    seed: int = 0,
    attribute: Mapping[str | int, str] | None = None,
    progress: Progress | None = None,
) -> list[Figure]:
    """Return what each attack achieves at ``epsilon``, and without noise.

    Args:
        histories: opened for measuring quality.
        epsilon: of each release.
        names: of ``ATTACKS``, or ``attributes``; by default all that can be made.
        kind: of model.
        seed: of the attacker's choices.
        attribute: of people, by id; for ``attributes``.
        progress: told what is done next.

    Raises:
        SettingError: an attack is not known, or lacks what it needs: people, long histories, an attribute.
        PurposeNotAllowed: the histories were opened for something else.
    """
    check_epsilon(epsilon)
    chosen = _chosen(names, attribute)
    services = [Service(histories, value, kind, seed) for value in (epsilon, math.inf)]
    return [figure for name in chosen for figure in _figures(name, chosen[name], services, progress)]


def _chosen(names: Sequence[str] | None, attribute: Mapping[str | int, str] | None) -> dict[str, Attack]:
    able = dict(ATTACKS)
    if attribute is not None:
        able[ATTRIBUTES] = lambda service: attribute_inference(service, attribute)
    for name in names or ():
        if name == ATTRIBUTES and attribute is None:
            raise SettingError("attributes have to be given: a file of people and what is to be inferred of them")
        if name not in able:
            raise SettingError(f"unknown attack {name!r}: choose {', '.join([*ATTACKS, ATTRIBUTES])}")
    return {name: able[name] for name in names or able}


def _figures(name: str, attack: Attack, services: Sequence[Service], progress: Progress | None) -> Iterator[Figure]:
    for service in services:
        if progress:
            progress(f"{name}, " + (f"epsilon {service.epsilon:g}" if math.isfinite(service.epsilon) else "no noise"))
        yield from attack(service)
