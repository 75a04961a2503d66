"""Write the keys of the taxonomy with which inventories name data, uses and people.

    python -m venv /tmp/taxonomy && /tmp/taxonomy/bin/pip install fideslang==3.1.4
    /tmp/taxonomy/bin/python scripts/write_vocabulary.py src/discreet/governance/vocabulary.json

In an environment of its own: the package keeps pydantic below the version that others need.
"""

from __future__ import annotations

import json
import sys
from importlib.metadata import version
from pathlib import Path

ABOUT = {
    "source": "Fides taxonomy (fideslang), Ethyca Inc. and contributors",
    "licence": "CC BY 4.0, https://creativecommons.org/licenses/by/4.0/",
    "changes": "keys and names alone",
}


def main() -> None:
    """Write the file that is named."""
    from fideslang.default_taxonomy import DEFAULT_TAXONOMY as TAXONOMY  # type: ignore[import-not-found]

    kinds = {
        "categories": TAXONOMY.data_category,
        "uses": TAXONOMY.data_use,
        "subjects": TAXONOMY.data_subject,
    }
    keys = {
        kind: {each.fides_key: each.name for each in sorted(entries, key=lambda e: e.fides_key)}
        for kind, entries in kinds.items()
    }
    content = ABOUT | {"version": version("fideslang")} | keys
    Path(sys.argv[1]).write_text(json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    main()
