"""Imports only go down the stairs, wherever in a file they stand; rooms on one step never import each other."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

PACKAGE = Path(__file__).parents[1] / "src/discreet"
STAIRS = (
    {"testing", "__main__"},
    {"cli"},
    {"service"},
    {"engines"},
    {"evaluation"},
    {"training", "inference", "client"},
    {"models"},
    {"data"},
    {"governance"},
    {"privacy", "protocols"},
    {"randomness"},
    {"files", "compiled", "documents"},
    {"errors"},
)
STEP = {room: step for step, rooms in enumerate(STAIRS) for room in rooms}


def imports(path: Path) -> Iterator[str]:
    """Yield the rooms that a file imports, at its head or within functions."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative imports hide the room"
            yield from [name for name in [room_of(node.module or "")] if name]
        elif isinstance(node, ast.Import):
            yield from [name for alias in node.names if (name := room_of(alias.name))]


def room_of(module: str) -> str:
    parts = module.split(".")
    return parts[1] if parts[0] == "discreet" and len(parts) > 1 else ""


def home_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def breaks(home: str, imported: str) -> bool:
    return imported != home and STEP[imported] <= STEP[home]


def test_every_import_goes_down() -> None:
    files = [path for path in PACKAGE.rglob("*.py") if path.parent != PACKAGE or path.stem != "__init__"]
    assert len(files) > 30
    found = [
        f"{path.relative_to(PACKAGE)} imports {room}"
        for path in files
        for room in imports(path)
        if breaks(home_of(path), room)
    ]
    assert not found


def test_every_room_has_a_step() -> None:
    rooms = {
        path.name.removesuffix(".py")
        for path in PACKAGE.iterdir()
        if path.suffix == ".py" or (path / "__init__.py").exists()
    }
    assert rooms - {"__init__"} <= set(STEP)


def test_the_rule_can_fail() -> None:
    assert breaks("privacy", "governance")
    assert breaks("inference", "training")
    assert not breaks("training", "governance")
