"""The OpenAPI document, held to: no request, allowed or not, is answered by something that it does not name."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from services import Running, running, seed

from discreet.governance.roles import Role
from discreet.service.api.house import Settings

CHECKS = "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance"
REQUESTS = 9
"""Of each operation, in each of its ways."""


ASKED = [
    *(("sqlite", role) for role in (None, Role.OWNER, Role.OPERATOR, Role.AUDITOR)),
    *(("postgresql", role) for role in (Role.OWNER, Role.PRIVACY_OFFICER, Role.ANALYST, Role.PERSON)),
]
"""On which database, with whose key: none, each role, and on both databases whoever may do most."""


@pytest.fixture(scope="module")
def shop(another: Callable[[], Settings]) -> Iterator[Running]:
    with running(another()) as found:
        seed(found)
        yield found


@pytest.mark.parametrize(("another", "role"), ASKED, ids=str, indirect=["another"])
def test_nothing_is_answered_that_is_not_documented(shop: Running, role: Role | None, tmp_path: Path) -> None:
    key = shop.agreed("a visitor") if role is Role.PERSON else shop.keys[role] if role else "none"
    for ends in ("--exclude-operation-id-regex", "--include-operation-id-regex"):  # what ends the key comes last
        command = [
            *(sys.executable, "-m", "schemathesis.cli", "run", f"{shop.url}/api/v1/openapi.json"),
            *("--checks", CHECKS, "--max-examples", str(REQUESTS), "--seed", "7", "--phases", "coverage,fuzzing"),
            *(ends, "^(sign_out|erase)_", "-H", f"Authorization: Bearer {key}", "--no-color", "--max-failures", "5"),
        ]
        told = subprocess.run(command, check=False, capture_output=True, text=True, timeout=300, cwd=tmp_path)
        assert told.returncode == 0, told.stdout[-6_000:] + told.stderr[-2_000:]
        if ends.startswith("--exclude") and role is not None:
            assert shop.ask("GET", "/api/v1/items", key).status_code != 401  # or most of it was asked by a stranger
