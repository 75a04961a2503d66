"""The documents say what is: commands, links, names, the two commands of the README."""

from __future__ import annotations

import importlib.util
import re
import tomllib
from pathlib import Path
from types import ModuleType

import pytest

import discreet
from discreet import errors

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md"))]


def script(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, ROOT / f"scripts/{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_page_of_commands_is_what_the_commands_say() -> None:
    made = script("write_cli_docs").page()
    assert (ROOT / "docs/cli.md").read_text() == made, "run scripts/write_cli_docs.py"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_link_leads_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+?)(?:#[^)]*)?\)", page.read_text()):
        assert "://" not in target, f"{page.name} links outside: {target}"
        assert (page.parent / target).exists(), f"{page.name}: {target}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_file_that_is_named_exists(page: Path) -> None:
    for name in re.findall(r"`((?:[a-z_]+/)+[a-z_]+\.(?:py|md))`", page.read_text()):
        assert (ROOT / name).exists() or (ROOT / "src/discreet" / name).exists(), f"{page.name}: {name}"


def test_every_command_line_in_the_readme_is_one() -> None:
    commands = (ROOT / "docs/cli.md").read_text()
    lines = re.findall(r"^    discreet (.+)$", (ROOT / "README.md").read_text(), re.MULTILINE)
    assert len(lines) >= 7
    for line in lines:
        words = line.split()
        path = " ".join(words[:2]) if words[0] in {"data", "budget", "ledger"} else words[0]
        (section,) = re.findall(rf"## discreet {path}\n\n```\n(.*?)```", commands, re.DOTALL)
        for option in re.findall(r"--[a-z-]+", line):
            assert option in section, f"{path} has no {option}"


def test_the_two_commands_of_the_readme_are_targets_and_ci_runs_them() -> None:
    makefile, ci = (ROOT / "Makefile").read_text(), (ROOT / ".ci/run").read_text()
    for target in ("demo", "test", "coverage", "check", "audit"):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE)
    assert re.search(r"^make check$", ci, re.MULTILINE)
    assert re.search(r"^check: lint types coverage others audit$", makefile, re.MULTILINE)
    assert "pip install" not in ci


def test_coverage_is_of_every_room_that_promises() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["coverage"]
    rooms = {room for room in ("governance", "privacy", "protocols") if (ROOT / "src/discreet" / room).exists()}
    assert set(settings["run"]["source_pkgs"]) == {f"discreet.{room}" for room in rooms | {"randomness"}}
    assert settings["run"]["branch"]
    assert settings["report"]["fail_under"] == 100


def test_the_tree_of_errors_is_drawn_as_it_is() -> None:
    drawn = re.findall(r"[├└]── (\w+)", errors.__doc__ or "")
    real = [name for name, value in vars(errors).items() if isinstance(value, type) and name != "DiscreetError"]
    assert sorted(drawn) == sorted(real)
    for name in drawn:
        depth = re.search(rf"^(.*)[├└]── {name}\b", errors.__doc__ or "", re.MULTILINE)
        assert depth is not None
        assert (len(depth[1]) == 0) == (errors.DiscreetError in getattr(errors, name).__bases__)


def test_the_version_is_one() -> None:
    assert tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"] == discreet.__version__


PIN = r"[a-z0-9][\w.-]*(?:\[[\w,-]+\])?=="


def test_pins_have_hashes_and_name_no_address() -> None:
    for lock in ("requirements.lock", "requirements-dev.lock", "requirements-harden.lock"):
        text = (ROOT / lock).read_text()
        packages = re.findall(rf"^{PIN}.*$", text, re.MULTILINE)
        assert len(packages) > 20
        assert all("\\" in package or "--hash" in package for package in packages)
        assert "://" not in text
        assert "index" not in text.replace("--index", "index")
    pins = [
        {
            re.sub(r"\[.*?\]", "", pin)  # of one package a larger lock may want more extras
            for pin in re.findall(rf"^{PIN}.*$", (ROOT / f"requirements{end}.lock").read_text(), re.MULTILINE)
        }
        for end in ("", "-dev", "-harden")
    ]
    assert pins[0] < pins[1] < pins[2], "what is tested is what users install"
    runtime = re.findall(rf"^{PIN}", (ROOT / "requirements.lock").read_text(), re.MULTILINE)
    assert len(runtime) <= 67
