"""What only a process of its own shows: exit codes, what is loaded, colours, and defects of ours."""

import math
import os
import subprocess
import sys
from pathlib import Path

import pytest

from discreet.data.intake import read_interactions
from discreet.data.interactions import Interactions
from discreet.data.store import write_interactions
from discreet.governance.ledger import Account, Ledger
from discreet.training.fitting import fit

MAIN = "from discreet.cli import main; main()"
HEAVY = (
    "numpy",
    "numba",
    "scipy",
    "polars",
    "dp_accounting",
    "matplotlib",
    "cryptography",
    "sqlite3",
    "pyarrow",
    "sqlalchemy",
    "alembic",
)


def discreet(folder: Path, *arguments: str, code: str = MAIN, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", code, *arguments],
        cwd=folder,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture
def folder(tmp_path: Path, data: Interactions, account: Account) -> Path:
    write_interactions(data, tmp_path / "tastes.parquet")
    with Ledger(tmp_path / "ledger.db") as ledger:
        ledger.open_budget(account, epsilon=1.0, delta=1e-5)
    return tmp_path


@pytest.mark.parametrize(
    ("code", "arguments"),
    [
        (0, "budget show"),
        (1, "recommend missing.npz"),
        (2, "train"),
        (3, "train tastes.parquet --epsilon 1 --out m.npz --purpose ads --json"),
        (4, "train tastes.parquet --epsilon 2 --out m.npz --json"),
    ],
)
def test_exit_codes(code: int, arguments: str, folder: Path) -> None:
    done = discreet(folder, *arguments.split())
    assert done.returncode == code
    assert "Traceback" not in done.stderr
    assert "person-" not in done.stderr
    assert done.stderr.count("\n") == 1 or code in {0, 2}
    assert (done.stdout == "") is (code != 0)


@pytest.mark.parametrize("command", ["", "train", "data import", "budget open", "journal verify", "audit", "demo"])
def test_help_loads_no_heavy_library(command: str, tmp_path: Path) -> None:
    tell = f"import atexit, sys; atexit.register(lambda: print([name for name in {HEAVY!r} if name in sys.modules]))"
    done = discreet(tmp_path, *command.split(), "--help", code=f"{tell}\n{MAIN}")
    assert done.returncode == 0
    assert done.stdout.splitlines()[-1] == "[]"


def test_a_defect_is_one_line_without_a_trace(folder: Path) -> None:
    defect = "import discreet.models.trained as room\ndef load(path): raise RuntimeError('person-017 liked it')\n"
    done = discreet(folder, "recommend", "m.npz", code=f"{defect}room.Trained.load = load\n{MAIN}")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.count("\n") == 1
    assert done.stderr.startswith("error: this is a defect of discreet, please report it: RuntimeError")
    assert "person-" not in done.stderr


def test_trains_in_a_terminal_with_bars(folder: Path) -> None:
    done = discreet(folder, "train", "tastes.parquet", "--epsilon", "1", "--out", "m.npz", FORCE_COLOR="1")
    assert done.returncode == 0
    assert "training" in done.stderr
    assert "Traceback" not in done.stderr


def test_colours_only_where_wanted(folder: Path) -> None:
    assert "\x1b[" in discreet(folder, "budget", "show", FORCE_COLOR="1", TERM="xterm").stdout
    for environment in ({"NO_COLOR": "1", "FORCE_COLOR": "1", "TERM": "xterm"}, {}):
        shown = discreet(folder, "budget", "show", **environment)
        assert shown.returncode == 0
        assert "\x1b[3" not in shown.stdout
        assert "tastes" in shown.stdout


def test_json_is_json_even_with_colours(folder: Path) -> None:
    done = discreet(folder, "budget", "show", "--json", FORCE_COLOR="1", TERM="xterm")
    assert "\x1b" not in done.stdout
    assert done.stdout.startswith("{")


def test_prints_where_letters_are_ascii(folder: Path) -> None:
    done = discreet(folder, "tradeoff", "tastes.parquet", "--model", "popularity", PYTHONIOENCODING="ascii")
    assert (done.returncode, done.stderr) == (0, "")
    assert "popularity" in done.stdout


def test_stops_when_asked_to(folder: Path) -> None:
    interrupt = "import os, signal\n"
    interrupt += "import discreet.training.fitting as fitting\n"
    interrupt += "fitting.train = lambda *_, **__: os.kill(os.getpid(), signal.SIGINT)\n"
    done = discreet(
        folder, "train", "tastes.parquet", "--epsilon", "1", "--out", "m.npz", "--json", code=interrupt + MAIN
    )
    assert done.returncode == 130
    assert done.stderr.splitlines()[-1] == "interrupted"
    assert "is charged: repeat with --release tastes-" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (folder / "m.npz").exists()


def test_stops_while_it_is_still_loading(folder: Path) -> None:
    early = """
import os, signal, sys
class Early:
    def find_spec(self, name, *_):
        if name == "typer":
            os.kill(os.getpid(), signal.SIGINT)
sys.meta_path.insert(0, Early())
"""
    done = discreet(folder, "budget", "show", code=early + MAIN)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "interrupted\n")


def redirected(folder: Path, arguments: str, where: str) -> subprocess.CompletedProcess[str]:
    line = f"{sys.executable} -W error -c '{MAIN}' {arguments} {where}"
    return subprocess.run(["sh", "-c", line], cwd=folder, capture_output=True, text=True, check=False)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
@pytest.mark.parametrize(
    "arguments", ["budget show", "budget show --json", "--help", "budget show --help", "--version"]
)
def test_output_that_cannot_be_written(arguments: str, folder: Path) -> None:
    for where in (">/dev/full", ">&-"):
        done = redirected(folder, arguments, where)
        assert done.stderr.startswith("error: standard output cannot be written: ")
        assert done.stderr.count("\n") == 1
        assert done.returncode == 1


@pytest.mark.parametrize("arguments", ["budget show", "--help"])
def test_a_pipe_that_nobody_reads(arguments: str, folder: Path) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "wb") as nobody:
        command = [sys.executable, "-W", "error", "-c", MAIN, *arguments.split()]
        ended = subprocess.run(command, cwd=folder, stdout=nobody, stderr=subprocess.PIPE, text=True, check=False)
    assert (ended.returncode, ended.stderr) == (141, "")


def test_closed_standard_input(folder: Path) -> None:
    fit(read_interactions(folder / "tastes.parquet"), epsilon=math.inf, out=folder / "m.npz")
    done = redirected(folder, "recommend m.npz --history -", "<&-")
    assert done.returncode == 1
    assert done.stderr == "error: standard input is closed: give the items after --history\n"


def test_a_closed_standard_error_stops_nothing(folder: Path) -> None:
    done = redirected(folder, "train tastes.parquet --epsilon 1 --out m.npz", "2>/dev/full")
    assert (done.returncode, (folder / "m.npz").exists()) == (0, True)


def test_a_narrow_screen_breaks_no_name(folder: Path) -> None:
    name = "a-name-of-a-data-set-that-is-long-but-not-unheard-of"
    with Ledger(folder / "ledger.db") as ledger:
        ledger.open_budget(Account(name, "train-recommender"), epsilon=1.0, delta=1e-6, until="2999-01-01")
    lines = discreet(folder, "budget", "show", COLUMNS="80").stdout.splitlines()
    assert f"{name}/train-recommender" in lines
    assert any(line.rstrip().endswith(" 2999-01-01T00:00:00Z") for line in lines)
    assert max(map(len, lines)) <= 80
    wide = discreet(folder, "budget", "show", COLUMNS="200").stdout
    assert any(f"{name}/train-recommender " in line and "2999-01-01" in line for line in wide.splitlines())
