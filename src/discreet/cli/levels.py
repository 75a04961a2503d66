"""How levels and sensitive categories are given on the command line."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from collections.abc import Sequence

    from discreet.privacy.levels import Levels

LevelsOption = Annotated[
    Path | None, typer.Option("--levels", help="File of user_id and level: off, strong, balanced or light.")
]
OthersOption = Annotated[
    str | None, typer.Option("--others", help="Level of whoever is not in the file; balanced if not given.")
]
SensitiveOption = Annotated[
    list[str] | None,
    typer.Option("--sensitive", help="CATEGORY=WEIGHT, 0 to 0.5 in sixteenths; 0.125 if not given. May be repeated."),
]


def chosen_levels(file: Path | None, others: str | None) -> Levels | None:
    """Return the levels of a file; of everybody, if only ``others`` is given; None if neither is."""
    from discreet.data.intake import read_levels
    from discreet.privacy.levels import Level, Levels

    if file is None:
        return None if others is None else Levels({}, Level.named(others))
    return read_levels(file) if others is None else read_levels(file, others=others)


def asked_weights(asked: Sequence[str] | None) -> dict[str, float] | None:
    """Return weights by category, of texts such as ``health=0.125``; None of none."""
    from discreet.errors import SettingError

    weights: dict[str, float] = {}
    for text in asked or ():
        name, _, weight = (part.strip() for part in text.partition("="))
        if name in weights:
            raise SettingError(f"--sensitive gives {name} two weights: give one")
        try:
            weights[name] = float(weight)
        except ValueError:
            raise SettingError(f"--sensitive takes CATEGORY=WEIGHT, such as health=0.125, not {text!r}") from None
    return weights or None
