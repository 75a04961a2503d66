"""Two services on one database: one of them trains and deletes, and the other does when that one has ended."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import pytest
from servers import Server
from services import new_settings, running, seed

from discreet.governance.roles import Role


def test_the_second_trains_nothing_until_the_first_has_ended(
    server: Server, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    place = server.new()
    folders = [tmp_path / "one", tmp_path / "other"]
    for folder in folders:
        folder.mkdir()
    first, second = (replace(new_settings(folder), place=place) for folder in folders)
    second = replace(second, wrapping=first.wrapping)
    with running(first) as one:
        seed(one)
        with running(second) as other:
            for _ in range(3):
                assert other.trained()["state"] == "done"
            assert [*second.models.iterdir()] == []
            assert len([*first.models.iterdir()]) == 1
            assert "is served by another process, which trains and deletes" in caplog.text
            assert other.as_(Role.ANALYST, "GET", "/api/v1/items").status_code == 200
            assert other.ask("GET", "/api/v1/health/ready").status_code == 503  # it is in the first's folder
    with running(first) as one, running(replace(second, models=first.models)) as other:  # one folder of models
        served = other.as_(Role.ANALYST, "GET", "/api/v1/privacy/guarantee").json()["release"]
        anew = one.trained()["name"]
        assert anew != served
        end = time.monotonic() + 30
        while other.as_(Role.ANALYST, "GET", "/api/v1/privacy/guarantee").json().get("release") != anew:
            assert time.monotonic() < end  # it goes on with a model that was deleted, and may know who was erased
            time.sleep(0.1)
    with running(replace(second, models=first.models)) as other:
        assert other.trained()["state"] == "done"
        assert other.ask("GET", "/api/v1/health/ready").status_code == 200
