"""What comes from others: is it known to be vulnerable, may it be used, and what is it?

    python scripts/supply.py                       # all three; exit code 1 if one fails
    python scripts/supply.py advisories            # needs a server of advisories
    python scripts/supply.py licences
    python scripts/supply.py components --out measured/components.cdx.json

- *advisories*: pip-audit on every pin of `requirements-harden.lock`, which holds those of the other two. It passes if
  none is vulnerable **and every one was looked up**: pip-audit by itself passes where it could look up nothing.
- *licences*: pip-licenses on every pin of `requirements.lock` that is for this machine. It passes if each licence is in
  `ALLOWED`, or its package in `EXCEPTIONS`; a licence that nobody stated is not allowed.
- *components*: a CycloneDX bill of materials of `requirements.lock`, checked against its schema by the tool, made twice
  and the same both times, with one component for each pin.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
RUNTIME, EVERYTHING = ROOT / "requirements.lock", ROOT / "requirements-harden.lock"

ALLOWED = {
    *("0BSD", "Apache-2.0", "Apache-2.0 WITH LLVM-exception", "BSD-2-Clause", "BSD-3-Clause", "CC0-1.0", "ISC", "MIT"),
    *("MIT-0", "MIT-CMU", "PSF-2.0", "Zlib"),
    # As classifiers and free text say it:
    *("Apache 2.0", "Apache Software License", "BSD License", "ISC License (ISCL)", "MIT License"),
    "Python Software Foundation License",
}
"""Licences that ask for no more than Apache-2.0 does of whoever passes the product on."""

EXCEPTIONS = {
    "pathspec": "MPL-2.0, for its own files alone; it builds the wheel and is no part of it",
}


@dataclass(frozen=True)
class Verdict:
    """Whether a check passed, in one line; its figures; and what was found, a line each."""

    passed: bool
    line: str
    figures: dict[str, int]
    found: Sequence[str] = field(default=())


def main() -> int:
    """Run the checks that are asked for; return 1 if one of them fails."""
    checks = {"advisories": advisories, "licences": licences, "components": components}
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("check", nargs="*", help=", ".join(checks))
    parser.add_argument("--out", type=Path, help="where to write the bill of materials")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of lines")
    arguments = parser.parse_args()
    if unknown := set(arguments.check) - checks.keys():
        parser.error(f"there is no check {', '.join(sorted(unknown))}")
    wanted = [name for name in checks if name in arguments.check or not arguments.check]
    verdicts = {name: checks[name](arguments.out) for name in wanted}
    if arguments.json:
        told = {name: {"passed": verdict.passed} | verdict.figures for name, verdict in verdicts.items()}
        print(json.dumps(told))
    for name, verdict in verdicts.items():
        lines = [
            f"{'pass' if verdict.passed else 'FAIL'} {name}: {verdict.line}",
            *(f"  {each}" for each in verdict.found),
        ]
        print("\n".join(lines), file=sys.stderr if arguments.json else sys.stdout)
    return int(not all(verdict.passed for verdict in verdicts.values()))


def pins(lock: str, *, here: bool = True) -> list[tuple[str, str]]:
    """Return name and version of each pin of a lock file, or of those that this machine installs."""
    lines = re.findall(r"^[A-Za-z0-9][\w.-]*(?:\[[\w,-]+\])?==.*$", lock, re.MULTILINE)
    listed = [Requirement(line.rstrip("\\ ")) for line in lines]
    wanted = [pin for pin in listed if not here or pin.marker is None or pin.marker.evaluate()]
    return [(canonicalize_name(pin.name), str(pin.specifier).removeprefix("==")) for pin in wanted]


def advisories(out: Path | None = None) -> Verdict:
    """Ask for known vulnerabilities of everything that is pinned."""
    del out
    audit = [*("-r", str(EVERYTHING)), "--disable-pip", *("--format", "json"), *("--progress-spinner", "off")]
    done = subprocess.run([sys.executable, "-m", "pip_audit", *audit], capture_output=True, text=True, check=False)
    verdict = audited(done.stdout, pins(EVERYTHING.read_text()))
    said = [f"pip-audit itself says: {line}" for line in done.stderr.strip().splitlines()[-1:]]
    return replace(verdict, found=[*verdict.found, *(() if verdict.passed else said)])


def audited(report: str, installed: Sequence[tuple[str, str]]) -> Verdict:
    """Judge what pip-audit reported of the packages that are installed: each must have been looked up and be sound."""
    try:
        listed = json.loads(report)["dependencies"]
        looked_up = {(canonicalize_name(each["name"]), each["version"]) for each in listed if "vulns" in each}
        flaws = [
            f"{each['name']} {each['version']}: {flaw['id']}" for each in listed for flaw in each.get("vulns") or ()
        ]
    except (ValueError, KeyError, TypeError, AttributeError):
        return Verdict(False, "what pip-audit wrote is no report", dict.fromkeys(("installed", "audited", "flaws"), 0))
    missed = [f"not looked up: {name} {version}" for name, version in installed if (name, version) not in looked_up]
    count = len(installed) - len(missed)
    line = f"{count} of {len(installed)} packages were looked up, {len(flaws)} known vulnerabilities"
    figures = {"installed": len(installed), "audited": count, "flaws": len(flaws)}
    few = missed if count else ()  # where nothing could be looked up one line says it all
    return Verdict(bool(installed) and not missed and not flaws, line, figures, [*flaws, *few])


def licences(out: Path | None = None) -> Verdict:
    """Read the licences of what the product is installed with."""
    del out
    wanted = [name for name, _ in pins(RUNTIME.read_text())]
    options = [*("--from", "all"), *("--format", "json"), "--packages", *wanted]
    done = subprocess.run([sys.executable, "-m", "piplicenses", *options], capture_output=True, text=True, check=True)
    return licensed(json.loads(done.stdout), wanted)


def licensed(listed: Sequence[Mapping[str, str]], wanted: Sequence[str]) -> Verdict:
    """Judge the licences that pip-licenses found of the packages that were wanted."""
    stated: dict[str, str] = {canonicalize_name(each["Name"]): stated_licence(each) for each in listed}
    found, excepted = [], []
    for name in wanted:
        licence = stated.get(name)
        if licence is not None and allowed(licence):
            continue
        if licence is not None and name in EXCEPTIONS:
            excepted.append(f"{name}: {EXCEPTIONS[name]}")
        else:
            found.append(f"{name}: {'is not installed' if licence is None else licence or 'states no licence'}")
    figures = {"packages": len(wanted), "excepted": len(excepted), "refused": len(found)}
    line = f"of {len(wanted)} packages {len(found)} have a licence that is not allowed, {len(excepted)} by exception"
    return Verdict(bool(wanted) and not found, line, figures, [*found, *excepted])


def stated_licence(each: Mapping[str, str]) -> str:
    """Return the licence that a package states: its expression, else its classifier, else a short text; or nothing."""
    for kind in ("License-Expression", "License-Classifier", "License-Metadata"):
        text = each.get(kind, "").strip()
        if text and text != "UNKNOWN" and "\n" not in text:
            return text
    return ""


def allowed(licence: str) -> bool:
    """Tell whether a licence asks for no more: one of those to choose from; else each that is named, to be safe."""
    if licence in ALLOWED:
        return True
    choice = " OR " in licence and " AND " not in licence
    names = [name.strip("() ") for name in re.split(r" AND | OR |; ", licence)]
    return (any if choice else all)(name in ALLOWED for name in names)


def components(out: Path | None = None) -> Verdict:
    """Make the bill of materials, twice."""
    with tempfile.TemporaryDirectory() as folder:
        made = [bill(Path(folder) / f"{turn}.json") for turn in range(2)]
    verdict = listed_components(made, pins(RUNTIME.read_text(), here=False))
    if out and verdict.passed:
        out.parent.mkdir(exist_ok=True)
        out.write_bytes(made[0])
    return verdict


def bill(place: Path) -> bytes:
    """Return a bill of materials as the tool makes it; it checks it against the schema."""
    options = ["--pyproject", str(ROOT / "pyproject.toml"), "--output-reproducible", "--validate", *("--of", "JSON")]
    command = [sys.executable, "-m", "cyclonedx_py", "requirements", str(RUNTIME), *options, *("-o", str(place))]
    subprocess.run(command, capture_output=True, check=True)
    return place.read_bytes()


def listed_components(made: Sequence[bytes], pinned: Sequence[tuple[str, str]]) -> Verdict:
    """Judge bills of materials that should be the same: a component for each pin, with the hashes of its files."""
    document: dict[str, Any] = json.loads(made[0])
    listed = {(canonicalize_name(each["name"]), each["version"]): each for each in document["components"]}
    wrong = [f"not listed: {name} {version}" for name, version in pinned if (name, version) not in listed]
    wrong += [f"not pinned: {name} {version}" for name, version in listed if (name, version) not in set(pinned)]
    wrong += [f"no hash: {each['name']}" for each in listed.values() if not hashes(each)]
    wrong += ["made twice, it differs"] if len(set(made)) > 1 else []
    line = f"{len(listed)} components of {len(pinned)} pins, CycloneDX {document['specVersion']}"
    return Verdict(bool(pinned) and not wrong, line, {"pins": len(pinned), "components": len(listed)}, wrong)


def hashes(component: Mapping[str, Any]) -> list[str]:
    """Return the hashes of a component's files."""
    references = component.get("externalReferences", ())
    return [found["content"] for reference in references for found in reference.get("hashes", ())]


if __name__ == "__main__":
    sys.exit(main())
