"""Both databases, where a test asks for a place."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture
def place(tmp_path: Path) -> str | Path:
    return tmp_path / "system.db"
