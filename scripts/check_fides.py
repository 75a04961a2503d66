"""Is the manifest that `discreet people inventory --format fides` writes one that Fides takes? Asks its own package.

    python scripts/check_fides.py                       # of the example
    python scripts/check_fides.py FOLDER-OR-FILE ...    # of these inventories

The package keeps pydantic below the version that others need, so it is installed into an environment of its own, in a
temporary folder, at the version that `vocabulary.json` has its keys from. It passes if each manifest is read as YAML,
has no field that the package does not know, is taken by its models, and names no key that its taxonomy lacks.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import venv
from collections.abc import Iterator
from pathlib import Path
from typing import Any

GOVERNANCE = Path(__file__).parents[1] / "src/discreet/governance"
WITHIN = "--within"
PATIENCE = 600.0
"""Seconds for the installation."""


def main(places: list[str]) -> int:
    """Write manifests, and have them examined in an environment that has the package; return its exit code."""
    version = json.loads((GOVERNANCE / "vocabulary.json").read_text())["version"]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        files = []
        for number, place in enumerate(places or [str(GOVERNANCE / "inventory.toml")]):
            files.append(folder / f"manifest-{number}.yml")
            command = [sys.executable, "-m", "discreet", "people", "inventory", place, "--format", "fides"]
            files[-1].write_bytes(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
        venv.create(folder / "with-fides", with_pip=True)
        python = folder / "with-fides/bin/python"
        pip = [str(python), "-m", "pip", "--disable-pip-version-check", "--quiet", "install", f"fideslang=={version}"]
        subprocess.run(pip, check=True, timeout=PATIENCE)
        return subprocess.run([python, __file__, WITHIN, *files], check=False, timeout=PATIENCE).returncode


def examine(files: list[str]) -> int:
    """Hold manifests against the package, which is installed here; print what is wrong; return 1 if something is."""
    from importlib.metadata import version

    from fideslang.default_taxonomy import DEFAULT_TAXONOMY  # type: ignore[import-not-found]
    from fideslang.manifests import ingest_manifests  # type: ignore[import-not-found]
    from fideslang.parse import load_manifests_into_taxonomy  # type: ignore[import-not-found]

    known = {
        each.fides_key
        for kind in ("data_category", "data_use", "data_subject")
        for each in getattr(DEFAULT_TAXONOMY, kind)
    }
    wrong: list[str] = []
    declarations = fields = 0
    for file in files:
        stored = ingest_manifests(file)
        taken = load_manifests_into_taxonomy(stored)  # ends the process if the models do not take it
        wrong += [f"{each} is no field that is known" for each in unknown(stored, taken)]
        for system in taken.system:
            for each in system.privacy_declarations:
                declarations += 1
                keys = {each.data_use, *each.data_categories, *each.data_subjects, *each.shared_categories}
                wrong += [f"{key} is no key of the taxonomy" for key in sorted(keys - known)]
            references = {*system.dataset_references} - {each.fides_key for each in taken.dataset}
            wrong += [f"{key} is no data set of the manifest" for key in sorted(references)]
        for dataset in taken.dataset:
            for field in (field for collection in dataset.collections for field in collection.fields):
                fields += 1
                wrong += [f"{key} is no key of the taxonomy" for key in sorted({*field.data_categories} - known)]
    for said in wrong:
        print(said)
    print(
        f"{'FAILED' if wrong else 'passed'}: fideslang {version('fideslang')}: {len(files)} manifests, "
        f"{declarations} privacy declarations, {fields} fields, {len(wrong)} problems"
    )
    return 1 if wrong else 0


def unknown(stored: Any, taken: Any, where: str = "") -> Iterator[str]:
    """Yield the fields of what was stored that the models let fall without a word."""
    if isinstance(stored, list):
        for one, other in zip(stored, taken, strict=True):
            yield from unknown(one, other, where)
    elif isinstance(stored, dict) and hasattr(taken, "model_fields_set"):
        for name, value in stored.items():
            if name in type(taken).model_fields:
                yield from unknown(value, getattr(taken, name), f"{where}.{name}")
            else:
                yield f"{where}.{name}"


if __name__ == "__main__":
    asked = sys.argv[1:]
    sys.exit(examine(asked[1:]) if asked[:1] == [WITHIN] else main(asked))
