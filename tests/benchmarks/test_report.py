"""The page of figures: sections are made anew one by one, and no path gets onto it."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import report

OLD = f"""# Measured figures

{report.COMMAND}quality.py --held-out 140 --seeds 9

```
old quality
```

{report.COMMAND}speed.py

```
old speed
```
"""


@pytest.fixture
def page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "benchmarks.md"
    path.write_text(OLD)
    monkeypatch.setattr(report, "PAGE", path)
    monkeypatch.setattr(
        report, "made", lambda command: f"{report.COMMAND}{command[0]}.py\n\n```\nnew {command[0]}\n```\n"
    )
    return path


def test_another_data_set_is_added_to_a_section(page: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page.write_text(OLD.replace("--held-out 140 --seeds 9", "books=... --held-out 7"))
    monkeypatch.setattr(sys, "argv", ["report.py", "shop=/data/a.parquet:9", "--only", "quality"])
    report.main()
    text = page.read_text()
    assert "old quality" in text
    assert text.count("new quality") == 3
    assert "old speed" in text


def test_only_the_sections_that_were_asked_for_are_made_anew(page: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["report.py", "--only", "speed"])
    report.main()
    text = page.read_text()
    assert "old quality" in text
    assert "new speed" in text
    assert "old speed" not in text


def test_without_a_choice_the_page_is_written_anew_in_order(page: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["report.py", "shop=/data/a.parquet:9", "--gowalla", "/data/g.parquet"])
    report.main()
    text = page.read_text()
    assert "old" not in text.partition(report.COMMAND)[2]
    places = [text.index(f"new {section}") for section in report.SECTIONS]
    assert places == sorted(places)
    assert text.count("new quality") == 3


def test_where_data_lies_is_not_shown() -> None:
    shown = [report.without_place(argument) for argument in ("shop=/data/a.parquet", "/data/b.parquet", "--ncf", "140")]
    assert shown == ["shop=...", "b.parquet", "--ncf", "140"]
