"""Recommendations that keep a secret: a recommender system whose privacy is proven, measured and explained.

data = discreet.read_interactions("ratings.parquet")
model = discreet.fit(data, epsilon=1.0, ledger="ledger.db")
model.recommend(history=[...], n=10); print(model.guarantee)
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from discreet.data.datasets import fetch
    from discreet.data.importing import import_interactions
    from discreet.data.intake import read_interactions, read_levels
    from discreet.data.interactions import Interactions
    from discreet.data.store import write_interactions
    from discreet.errors import BudgetExceeded, DiscreetError
    from discreet.evaluation.tradeoff import tradeoff
    from discreet.governance.ledger import Account, Ledger
    from discreet.models.slate import Slate
    from discreet.models.trained import Trained
    from discreet.privacy.guarantee import Guarantee
    from discreet.training.fitting import fit

__version__ = "0.1.0"

__all__ = [
    "Account",
    "BudgetExceeded",
    "DiscreetError",
    "Guarantee",
    "Interactions",
    "Ledger",
    "Slate",
    "Trained",
    "fetch",
    "fit",
    "import_interactions",
    "read_interactions",
    "read_levels",
    "tradeoff",
    "write_interactions",
]

_HOMES = {
    "Account": "governance.ledger",
    "BudgetExceeded": "errors",
    "DiscreetError": "errors",
    "Guarantee": "privacy.guarantee",
    "Interactions": "data.interactions",
    "Ledger": "governance.ledger",
    "Slate": "models.slate",
    "Trained": "models.trained",
    "fetch": "data.datasets",
    "fit": "training.fitting",
    "import_interactions": "data.importing",
    "read_interactions": "data.intake",
    "read_levels": "data.intake",
    "tradeoff": "evaluation.tradeoff",
    "write_interactions": "data.store",
}


def __getattr__(name: str) -> object:
    """Import a name of the front door when it is first used: ``import discreet`` itself loads no library."""
    if name not in _HOMES:
        raise AttributeError(f"module 'discreet' has no attribute {name!r}")
    return getattr(import_module(f"discreet.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
