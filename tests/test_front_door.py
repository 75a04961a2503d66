"""What a newcomer touches first: the names, the import, the three lines of the README."""

import re
import runpy
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest

import discreet
from discreet.governance.ledger import Ledger

ROOT = Path(__file__).parents[1]
HEAVY = ("numpy", "numba", "scipy", "polars", "dp_accounting", "matplotlib", "cryptography", "sqlalchemy", "alembic")


def test_each_name_can_be_imported_and_there_are_few() -> None:
    assert 1 <= len(discreet.__all__) <= 15
    assert discreet.__all__ == sorted(set(discreet.__all__))
    for name in discreet.__all__:
        assert getattr(discreet, name).__name__ == name
    assert set(discreet.__all__) <= set(dir(discreet))


def import_string(path: str) -> object:
    module, _, name = path.rpartition(".")
    return getattr(sys.modules[module], name)


def test_no_other_name_is_offered() -> None:
    with pytest.raises(AttributeError, match="no attribute 'fitt'"):
        import_string("discreet.fitt")
    offered = {name for name in dir(discreet) if not name.startswith("_")}
    rooms = {path.stem for path in Path(str(discreet.__file__)).parent.iterdir()}
    assert offered - rooms - {"annotations", "import_module", "TYPE_CHECKING"} == set(discreet.__all__) - rooms


@pytest.mark.parametrize("module", ["discreet", "discreet.cli", "discreet.errors"])
def test_import_loads_no_heavy_library(module: str) -> None:
    code = f"import sys, {module}; print(*[name for name in {HEAVY!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


def test_three_lines_of_the_readme_run_as_written(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    columns: dict[str, list[int] | list[str]],
) -> None:
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    (block,) = [code for code in blocks if "discreet.fit(" in code]
    monkeypatch.chdir(tmp_path)
    pl.DataFrame(columns).write_parquet("ratings.parquet")
    script = tmp_path / "readme.py"
    script.write_text(block)
    runpy.run_path(str(script))
    assert "times out of 100; a coin flip gets 50" in capsys.readouterr().out
    with Ledger("ledger.db", create=False) as ledger:
        assert ledger.verify().ok
        assert [release.state for release in ledger.releases()] == ["committed"]
