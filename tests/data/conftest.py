"""Both databases, where a test asks for a place."""

from __future__ import annotations

from pathlib import Path

import pytest
from servers import Server


@pytest.fixture(params=["sqlite", "postgresql"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> str | Path:
    if request.param == "sqlite":
        return tmp_path / "system.db"
    server: Server = request.getfixturevalue("server")
    return server.new()
