"""The inventory that is in force: it is in the database, on record, and changed by two people.

The file beside the service is what the first start begins with, and what a change is proposed with. A file that was
edited alone changes nothing: whoever runs the service cannot widen by themselves what is collected, or what for.
"""

from __future__ import annotations

from collections.abc import Collection

from discreet.errors import PurposeNotAllowed, SettingError
from discreet.governance.inventory import Inventory
from discreet.governance.matters import Matters

KIND, NAME, TWO, IN_FORCE = "policy", "inventory", "two-decide", "in-force"
NEEDED = ("recommend", "train-recommender")
"""Purposes that the service reads for: what makes lists, and what trains."""


def in_force(matters: Matters) -> str | None:
    """Return the inventory that holds, as TOML, or None before there is one."""
    found = matters.find(KIND, NAME)
    return None if found is None else str(found.body["toml"])


def note_two(matters: Matters, deciders: Collection[str]) -> None:
    """Note that there are two who decide, once there are: from then on it takes two to make another.

    So it stays when one of them leaves, or is made to: whoever is left does not make themselves the second.
    """
    with matters.together():  # two may note it at once
        if len(deciders) > 1 and not takes_two(matters):
            matters.open(KIND, IN_FORCE, {}, by="discreet", name=TWO)


def takes_two(matters: Matters) -> bool:
    """Whether there were ever two who decide."""
    return matters.find(KIND, TWO) is not None


def put(matters: Matters, toml: str, *, by: str) -> Inventory:
    """Put an inventory in force; it holds from the next start.

    Raises:
        DataError, SettingError: it is none; or lacks what the service needs; or it is of another data set.
    """
    declared, before = usable(toml), in_force(matters)
    if before is None:
        matters.open(KIND, IN_FORCE, {"toml": toml}, by=by, name=NAME)
        return declared
    if Inventory.from_toml(before.encode()).name != declared.name:
        raise SettingError("the data set keeps its name: budgets are kept by it")
    matters.move(KIND, NAME, [IN_FORCE], IN_FORCE, by=by, body={"toml": toml})
    return declared


def usable(toml: str) -> Inventory:
    """Return an inventory that the service can work by.

    Raises:
        DataError, SettingError: it is none; or a purpose is missing that the service reads items for.
    """
    declared = Inventory.from_toml(toml.encode())
    for purpose in NEEDED:
        try:
            declared.read_for(purpose)
        except PurposeNotAllowed:
            said = f"inventory: the service needs the purpose {purpose}, and that item_id is read for it; declare both"
            raise SettingError(said) from None
    return declared
