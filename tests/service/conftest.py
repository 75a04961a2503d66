"""Services on both databases."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
from servers import Server
from services import new_settings

from discreet.service.api.house import Settings


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def another(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Callable[[], Settings]:
    """Returns how to run another service: in a folder and on a database of its own."""

    def made() -> Settings:
        settings = new_settings(tmp_path_factory.mktemp("service"))
        if request.param == "sqlite":
            return settings
        server: Server = request.getfixturevalue("server")
        return replace(settings, place=server.new())

    return made
