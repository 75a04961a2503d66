"""A proof knows when it is stale: it names what it was checked against, by the sha256 of its source.

Named are functions, methods and constants of the module beside it, or ``module:name`` of another.

After a change, read the proof again beside the code, mend one or the other, then sign it:

    python tests/test_proofs.py --sign src/discreet/models/subspace.md
"""

from __future__ import annotations

import ast
import hashlib
import re
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

SOURCE = Path(__file__).parents[1] / "src"
PROOFS = sorted(path for path in SOURCE.rglob("*.md"))
FENCE = "+++\n"


def front_matter(proof: Path) -> dict[str, Any]:
    _, matter, _ = proof.read_text().split(FENCE, 2)
    return tomllib.loads(matter)


def sources(module: Path) -> dict[str, str]:
    """Return the source of each function, method and constant, decorators included, by its qualified name."""
    text = module.read_text()
    found: dict[str, str] = {}

    def visit(body: list[ast.stmt], prefix: str) -> None:
        for node in body:
            if isinstance(node, ast.ClassDef):
                visit(node.body, f"{prefix}{node.name}.")
            elif isinstance(node, ast.FunctionDef):
                first = min([node.lineno, *[decorator.lineno for decorator in node.decorator_list]])
                found[prefix + node.name] = "\n".join(text.splitlines()[first - 1 : node.end_lineno])
            elif isinstance(node, ast.Assign | ast.AnnAssign):
                target = node.targets[0] if isinstance(node, ast.Assign) else node.target
                found[prefix + ast.unparse(target)] = ast.unparse(node)

    visit(ast.parse(text).body, "")
    return found


def current(proof: Path, name: str) -> str:
    """Return the digest of what a proof calls ``name``, as it is now."""
    module, _, inner = name.rpartition(":")
    path = SOURCE.joinpath(*module.split(".")).with_suffix(".py") if module else proof.with_suffix(".py")
    return digest(sources(path)[inner])


def digest(source: str) -> str:
    return hashlib.sha256(source.encode()).hexdigest()


@pytest.mark.parametrize("proof", PROOFS, ids=lambda proof: proof.stem)
def test_a_proof_was_checked_against_the_code_that_runs(proof: Path) -> None:
    matter = front_matter(proof)
    module = proof.with_suffix(".py")
    assert matter["module"] == ".".join(module.relative_to(SOURCE).with_suffix("").parts)
    stale = [name for name, checked in matter["checked"].items() if current(proof, name) != checked]
    assert not stale, f"{proof.name} was not read again after {', '.join(stale)} changed; see {Path(__file__).name}"


def test_every_mechanism_and_every_sensitivity_claim_has_a_proof() -> None:
    claims = {path.with_suffix(".md") for path in (SOURCE / "discreet/privacy/mechanisms").glob("[!_]*.py")}
    models = (path for path in (SOURCE / "discreet/models").glob("*.py") if path.stem != "base")
    claims |= {path.with_suffix(".md") for path in models if "def summed" in path.read_text()}
    rules = ("accounting", "clipping", "disclosure", "levels", "records")
    claims |= {SOURCE / f"discreet/privacy/{name}.md" for name in rules}
    claims |= {SOURCE / f"discreet/evaluation/{name}.md" for name in ("favourites", "lengths", "search", "trending")}
    known = [
        *("encryption", "ensemble", "garbling", "intersection", "oblivious", "ranking", "retrieval", "scoring"),
        *("secagg/client", "sharing", "simple_pir", "transfers"),
    ]
    claims |= {SOURCE / f"discreet/protocols/{name}.md" for name in known}
    claims.add(SOURCE / "discreet/client/device.md")
    assert claims == set(PROOFS)


def test_a_proof_covers_every_kernel_that_touches_histories() -> None:
    for proof in PROOFS:
        if proof.parent.name == "models":
            reading = {
                name
                for name, source in sources(proof.with_suffix(".py")).items()
                if "@compiled" in source and "np.int64" in source and "people:" not in source
            }
            assert reading <= set(front_matter(proof)["checked"]), proof.name


def test_a_changed_function_makes_its_proof_stale(tmp_path: Path) -> None:
    module = tmp_path / "module.py"
    module.write_text("def bound(x):\n    return min(x, 1)\n")
    before = digest(sources(module)["bound"])
    module.write_text("def bound(x):\n    return min(x, 2)\n")
    assert digest(sources(module)["bound"]) != before


def test_a_changed_constant_makes_its_proof_stale(tmp_path: Path) -> None:
    module = tmp_path / "module.py"
    module.write_text("LIMIT = 1 << 24\n")
    before = digest(sources(module)["LIMIT"])
    module.write_text("LIMIT = 1 << 25\n")
    assert digest(sources(module)["LIMIT"]) != before


def sign(proof: Path) -> None:
    """Write the current digests into a proof that was read again."""
    head, matter, text = proof.read_text().split(FENCE, 2)
    for name in front_matter(proof)["checked"]:
        entry = re.compile(rf'^("?{re.escape(name)}"?) = "\w*"$', re.MULTILINE)
        matter = entry.sub(rf'\1 = "{current(proof, name)}"', matter)
    proof.write_text(FENCE.join([head, matter, text]))


if __name__ == "__main__":
    for path in sys.argv[sys.argv.index("--sign") + 1 :]:
        sign(Path(path))
