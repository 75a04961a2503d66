"""What comes from others, judged on reports that were made up: a pass needs that everything was looked up."""

from __future__ import annotations

import json
from typing import Any

import pytest
import supply

INSTALLED = [("numpy", "2.4.6"), ("typing-extensions", "4.16.0")]


def report(*dependencies: dict[str, Any]) -> str:
    return json.dumps({"dependencies": dependencies, "fixes": []})


def sound(name: str, version: str) -> dict[str, Any]:
    return {"name": name, "version": version, "vulns": []}


def skipped(name: str) -> dict[str, Any]:
    return {"name": name, "skip_reason": f"Dependency not found and could not be audited: {name}"}


NUMPY, TYPING = sound("numpy", "2.4.6"), sound("typing_extensions", "4.16.0")


class TestAdvisories:
    def test_all_looked_up_and_sound(self) -> None:
        verdict = supply.audited(report(NUMPY, TYPING), INSTALLED)
        assert verdict.passed
        assert verdict.line == "2 of 2 packages were looked up, 0 known vulnerabilities"
        assert verdict.figures == {"installed": 2, "audited": 2, "flaws": 0}

    def test_a_vulnerable_one_is_named(self) -> None:
        flawed = NUMPY | {"vulns": [{"id": "PYSEC-1", "fix_versions": []}, {"id": "PYSEC-2", "fix_versions": ["3"]}]}
        verdict = supply.audited(report(flawed, TYPING), INSTALLED)
        assert not verdict.passed
        assert verdict.found == ["numpy 2.4.6: PYSEC-1", "numpy 2.4.6: PYSEC-2"]

    def test_nothing_looked_up_is_no_pass(self) -> None:
        verdict = supply.audited(report(skipped("numpy"), skipped("typing-extensions")), INSTALLED)
        assert not verdict.passed
        assert verdict.line == "0 of 2 packages were looked up, 0 known vulnerabilities"

    @pytest.mark.parametrize("others", [[], [skipped("typing-extensions")], [sound("typing-extensions", "4.15.0")]])
    def test_one_that_was_not_looked_up_is_named(self, others: list[dict[str, Any]]) -> None:
        verdict = supply.audited(report(NUMPY, *others), INSTALLED)
        assert not verdict.passed
        assert verdict.line.startswith("1 of 2 packages")
        assert verdict.found == ["not looked up: typing-extensions 4.16.0"]

    @pytest.mark.parametrize("text", ["", "No known vulnerabilities found", "[]", "{}", "3", '{"dependencies": [3]}'])
    def test_what_is_no_report_is_no_pass(self, text: str) -> None:
        verdict = supply.audited(text, INSTALLED)
        assert not verdict.passed
        assert "no report" in verdict.line

    def test_nothing_installed_is_no_pass(self) -> None:
        assert not supply.audited(report(NUMPY), []).passed


def package(name: str, expression: str = "UNKNOWN", classifier: str = "UNKNOWN", text: str = "UNKNOWN") -> Any:
    return {"Name": name, "License-Expression": expression, "License-Classifier": classifier, "License-Metadata": text}


class TestLicences:
    @pytest.mark.parametrize(
        "licence",
        [
            "MIT",
            "BSD-3-Clause AND 0BSD AND MIT",
            "Apache-2.0 OR GPL-3.0-only",
            "BSD-2-Clause AND Apache-2.0 WITH LLVM-exception",
            "(MIT)",
            "MIT License; BSD License",
        ],
    )
    def test_that_are_allowed(self, licence: str) -> None:
        assert supply.allowed(licence)

    @pytest.mark.parametrize(
        "licence",
        [
            "",
            "UNKNOWN",
            "GPL-3.0-or-later",
            "MIT AND LGPL-2.1-only",
            "AGPL-3.0-only OR SSPL-1.0",
            "MIT AND (Apache-2.0 OR GPL-2.0-only)",
            "MIT License; GNU General Public License v3 (GPLv3)",
            "Apache-2.0 WITH Commons-Clause",
            "Proprietary",
        ],
    )
    def test_that_are_not(self, licence: str) -> None:
        assert not supply.allowed(licence)

    def test_are_read_where_they_are_stated(self) -> None:
        whole = "BSD License\n\nRedistribution and use ..."
        assert supply.stated_licence(package("a", "MIT", "GPL", "GPL")) == "MIT"
        assert supply.stated_licence(package("a", classifier="BSD License", text=whole)) == "BSD License"
        assert supply.stated_licence(package("a", text="Apache 2.0")) == "Apache 2.0"
        assert not supply.stated_licence(package("a", text=whole))
        assert not supply.stated_licence(package("a"))

    def test_each_package_must_state_one_that_is_allowed(self) -> None:
        listed = [package("Typing_Extensions", "PSF-2.0"), package("b", "GPL-3.0-only"), package("c")]
        verdict = supply.licensed(listed, ["typing-extensions", "b", "c", "d"])
        assert not verdict.passed
        assert verdict.found == ["b: GPL-3.0-only", "c: states no licence", "d: is not installed"]
        assert supply.licensed(listed, ["typing-extensions"]).passed
        assert not supply.licensed(listed, []).passed

    def test_exceptions_are_named_with_their_reasons(self) -> None:
        verdict = supply.licensed([package("pathspec", "MPL-2.0")], ["pathspec"])
        assert verdict.passed
        assert verdict.found == [f"pathspec: {supply.EXCEPTIONS['pathspec']}"]
        assert not supply.licensed([], ["pathspec"]).passed


def bill(*components: tuple[str, str], hashed: bool = True) -> bytes:
    references = [{"type": "distribution", "hashes": [{"alg": "SHA-256", "content": "00"}] if hashed else []}]
    listed = [{"name": name, "version": version, "externalReferences": references} for name, version in components]
    return json.dumps({"specVersion": "1.6", "components": listed}).encode()


class TestComponents:
    def test_one_for_each_pin(self) -> None:
        made = bill(("numpy", "2.4.6"), ("typing_extensions", "4.16.0"))
        assert supply.listed_components([made, made], INSTALLED).passed

    @pytest.mark.parametrize(
        ("made", "wrong"),
        [
            ([bill(INSTALLED[0])], "not listed: typing-extensions 4.16.0"),
            ([bill(*INSTALLED, ("more", "1"))], "not pinned: more 1"),
            ([bill(*INSTALLED, hashed=False)], "no hash: numpy"),
            ([bill(*INSTALLED), bill(*INSTALLED) + b" "], "made twice, it differs"),
        ],
    )
    def test_what_is_wrong_is_named(self, made: list[bytes], wrong: str) -> None:
        verdict = supply.listed_components(made, INSTALLED)
        assert not verdict.passed
        assert wrong in verdict.found


LOCK = """alpha==1.0 \\
    --hash=sha256:00
Beta_b==2.0 ; sys_platform == 'plan9' \\
    --hash=sha256:00
gamma[a,b-c]==3.0 ; python_version >= '3' \\
    --hash=sha256:00
"""


def test_pins_are_those_of_this_machine() -> None:
    assert supply.pins(LOCK) == [("alpha", "1.0"), ("gamma", "3.0")]
    assert supply.pins(LOCK, here=False) == [("alpha", "1.0"), ("beta-b", "2.0"), ("gamma", "3.0")]


def test_everything_holds_what_users_install() -> None:
    """What is audited is the largest of the locks."""
    everything = supply.pins(supply.EVERYTHING.read_text(), here=False)
    assert set(supply.pins(supply.RUNTIME.read_text(), here=False)) <= set(everything)


@pytest.mark.parametrize("passed", [True, False])
def test_the_exit_code_is_the_verdict(passed: bool, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    verdict = supply.Verdict(passed, "told", {"packages": 3}, ["a detail"])
    monkeypatch.setattr(supply, "licences", lambda _: verdict)
    monkeypatch.setattr("sys.argv", ["supply.py", "licences"])
    assert supply.main() == int(not passed)
    assert capsys.readouterr().out == f"{'pass' if passed else 'FAIL'} licences: told\n  a detail\n"
    monkeypatch.setattr("sys.argv", ["supply.py", "licences", "--json"])
    assert supply.main() == int(not passed)
    assert json.loads(capsys.readouterr().out) == {"licences": {"passed": passed, "packages": 3}}
