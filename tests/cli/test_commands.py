"""Every command: what it prints, where, and how it ends. In this process, through ``main`` itself."""

import gzip
import json
import sqlite3
import sys
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from io import BytesIO, TextIOWrapper
from pathlib import Path
from typing import Any

import pytest

import discreet
from discreet.cli import main
from discreet.cli.output import say, screen, table
from discreet.training import fitting

COMMANDS = (
    "",
    "data",
    "data fetch",
    "data check",
    "data import",
    "data lengths",
    "data synthesize",
    "train",
    "evaluate",
    "tradeoff",
    "recommend",
    "explain",
    "card",
    "budget",
    "budget open",
    "budget pace",
    "budget show",
    "journal",
    "journal verify",
    "ledger",
    "ledger upgrade",
    "audit",
    "demo",
)
LEFT = {"tastes.parquet", "ledger.db", "model.npz", "model-card.json", "model-card.md", "tradeoff.svg"}


@dataclass
class Done:
    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


Run = Callable[..., Done]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Run:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)

    def command(*arguments: object) -> Done:
        monkeypatch.setattr(sys, "argv", ["discreet", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main()
        printed = capsys.readouterr()
        return Done(int(ended.value.code or 0), printed.out, printed.err)

    return command


@pytest.fixture
def imported(run: Run, csv_file: Path) -> Path:
    purposes = ("--purpose", "train-recommender", "--purpose", "measure-quality")
    assert run("data", "import", csv_file, "--out", "tastes.parquet", *purposes).code == 0
    return csv_file.parent / "tastes.parquet"


@pytest.fixture
def model(run: Run, imported: Path) -> Path:
    assert run("budget", "open", imported, "--epsilon", 4).code == 0
    assert run("train", imported, "--epsilon", 2, "--out", "model.npz").code == 0
    return imported.parent / "model.npz"


def assert_refused(done: Done, code: int, says: str) -> None:
    """One line on standard error, nothing else, nobody's id."""
    assert done.code == code
    assert done.err.startswith("error: ")
    assert says in done.err
    assert done.err.count("\n") == 1
    assert "Traceback" not in done.err
    assert "person-" not in done.err + done.out


@pytest.mark.parametrize("command", COMMANDS)
def test_help(command: str, run: Run) -> None:
    done = run(*command.split(), "--help")
    assert (done.code, done.err) == (0, "")
    assert done.out.split()[0] == "Usage:"
    for name in [each.removeprefix(command).strip() for each in COMMANDS if each.startswith(command) and each]:
        assert name.split(" ")[0] in done.out


@pytest.mark.parametrize("command", COMMANDS)
def test_short_help(command: str, run: Run) -> None:
    assert run(*command.split(), "-h") == run(*command.split(), "--help")


class TestScale:
    SMALL = ("--people", 400, "--items", 50, "--interactions", 1_500)

    def test_people_who_do_not_exist(self, run: Run) -> None:
        made = run("data", "synthesize", "--out", "x.parquet", *self.SMALL)
        assert made.code == 0
        assert "synthetic, for the purpose measure-speed alone" in made.out
        facts = run("data", "check", "x.parquet", "--json").json
        assert (facts["people"], facts["items"], facts["synthetic"]) == (400, 50, True)
        assert run("budget", "open", "x.parquet", "--epsilon", 1, "--purpose", "measure-speed").code == 0
        assert_refused(run("evaluate", "x.parquet"), 3, "may not be used for 'measure-quality'")
        done = run("train", "x.parquet", "--epsilon", 1, "--purpose", "measure-speed", "--out", "m.npz", "--json")
        assert done.code == 0
        assert_refused(run("data", "synthesize", "--out", "x.parquet", *self.SMALL), 1, "never overwritten")
        assert_refused(run("data", "synthesize", "--out", "y.parquet", *self.SMALL, "--people", 0), 1, "people")

    def test_an_imported_file_that_is_damaged_is_found_before_anything_is_charged(
        self, run: Run, imported: Path
    ) -> None:
        assert run("budget", "open", imported, "--epsilon", 4).code == 0
        content = bytearray(imported.read_bytes())
        content[60] ^= 0xFF
        imported.write_bytes(content)
        for command in (("train", imported, "--epsilon", 1, "--out", "m.npz"), ("data", "check", imported)):
            assert_refused(run(*command), 1, "import the data again")
        assert run("budget", "show", "--json").json["accounts"][0]["releases"] == 0

    def test_ray_where_it_is_missing(self, run: Run, imported: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        assert run("budget", "open", imported, "--epsilon", 4).code == 0
        monkeypatch.setattr("discreet.engines.ray.find_spec", lambda _: None)
        for option in (("--ray-workers", 2), ("--ray-address", "127.0.0.1:1")):
            done = run("train", imported, "--epsilon", 1, "--out", "m.npz", *option)
            assert_refused(done, 1, "pip install 'discreet[ray]'")
        assert run("budget", "show", "--json").json["releases"] == []


def test_version(run: Run) -> None:
    assert run("--version") == Done(0, f"discreet {discreet.__version__}\n", "")


@pytest.mark.parametrize(
    "arguments",
    [["divine"], ["train"], ["train", "x.csv"], ["recommend", "m", "--n", "many"], ["data", "check"], ["card", "--no"]],
)
def test_usage_errors_exit_2(arguments: Sequence[str], run: Run) -> None:
    done = run(*arguments)
    assert (done.code, done.out) == (2, "")
    assert "Traceback" not in done.err


def test_a_whole_session(run: Run, csv_file: Path, tmp_path: Path) -> None:
    checked = run("data", "check", csv_file, "--json").json
    assert (checked["people"], checked["items"], checked["purposes"]) == (300, 60, ["train-recommender"])
    purposes = ("--purpose", "train-recommender", "--purpose", "measure-quality")
    assert "written to" in run("data", "import", csv_file, "--out", "d.parquet", "--name", "tastes", *purposes).out
    assert "open: tastes/train-recommender, epsilon 4" in run("budget", "open", "d.parquet", "--epsilon", 4).out
    trained = run("train", "d.parquet", "--epsilon", 2, "--out", "model.npz")
    assert trained.err.startswith("release tastes-")
    assert trained.err.count("\n") == 1
    assert "a coin flip gets 50" in " ".join(trained.out.split())
    shown = run("recommend", "model.npz", "--history", "100,101,nothing", "--n", 5)
    assert "1 of the history's items are not in the catalogue" in shown.out
    assert "recall@20" in run("evaluate", "d.parquet", "--epsilon", 2, "--seeds", 1).out
    curve = run("tradeoff", "d.parquet", "--epsilon", 1, "--epsilon", "inf", "--seeds", 2, "--out", "x.svg")
    assert "not private" in curve.out
    assert (tmp_path / "x.svg").stat().st_size > 1000
    refused = run("train", "d.parquet", "--epsilon", 3.9, "--out", "more.npz")
    assert refused.err.startswith("error: budget of tastes/train-recommender: epsilon")
    assert refused.code == 4
    verified = run("journal", "verify", "--artefacts", ".")
    assert "everything fits" in verified.out
    head = verified.out.split()[-1]
    assert run("journal", "verify", "--head", head).code == 0
    (state,) = run("budget", "show", "--json").json["accounts"]
    assert (state["releases"], state["account"]) == (1, "tastes/train-recommender")
    assert not (tmp_path / "more.npz").exists()


class TestJson:
    def test_every_reading_command(self, run: Run, csv_file: Path, imported: Path, model: Path) -> None:
        cache = imported.parent / "cache"
        for arguments in (
            ["data", "fetch", "--from", csv_file, "--cache", cache],
            ["data", "check", csv_file],
            ["data", "import", csv_file, "--out", "again.parquet"],
            ["evaluate", imported, "--seeds", 1],
            ["evaluate", imported, "--file", model],
            ["tradeoff", imported, "--epsilon", "inf", "--epsilon", 1, "--model", "popularity", "--seeds", 1],
            ["recommend", model, "--history", "100"],
            ["explain", model, "--history", "100"],
            ["explain", model, "--beside", imported],
            ["card", model],
            ["train", imported, "--epsilon", "inf", "--out", "open.npz"],
            ["budget", "show"],
            ["journal", "verify"],
        ):
            done = run(*arguments, "--json")
            assert (done.code, done.err) == (0, ""), arguments
            assert done.json is not None

    def test_recommendations(self, run: Run, model: Path) -> None:
        found = run("recommend", model, "--history", " 100, 101,zzz ,", "--n", 3, "--json").json
        assert [row["rank"] for row in found["items"]] == [1, 2, 3]
        assert (found["unknown"], found["private"]) == (1, True)
        assert "score" not in found["items"][0]
        assert run("recommend", model, "--history", "100,101", "--n", 3, "--on-device", "--json").json["unknown"] == 0

    def test_names_are_not_read_as_markup(self, run: Run, tmp_path: Path) -> None:
        (tmp_path / "t.csv").write_text("user_id,item_id\n" + "".join(f"u{n},i{n % 3}\n" for n in range(9)))
        titles = ["[/bold] :smile:", "[red]Red", "plain"]
        (tmp_path / "i.csv").write_text(
            "item_id,title\n" + "".join(f"i{n},{title}\n" for n, title in enumerate(titles))
        )
        assert run("train", "t.csv", "--epsilon", "inf", "--out", "m.npz").code == 0
        assert (
            run("data", "import", "t.csv", "--items", "i.csv", "--name", "[b] :smile:", "--out", "t.parquet").code == 0
        )
        assert run("train", "t.parquet", "--epsilon", "inf", "--out", "n.npz").code == 0
        assert {row["title"] for row in run("recommend", "n.npz", "--json").json["items"]} == set(titles)
        shown = run("recommend", "n.npz")
        assert all(title in shown.out for title in titles)
        assert run("card", "n.npz", "--json").json["dataset"] == "[b] :smile:"
        assert "[b] :smile:" in run("data", "check", "t.parquet").out


class TestExplain:
    def test_a_list(self, run: Run, model: Path) -> None:
        found = run("explain", model, "--history", "100,101,zzz", "--n", 3, "--json").json
        listed = run("recommend", model, "--history", "100,101,zzz", "--n", 3, "--json").json
        assert [row["item_id"] for row in found["items"]] == [row["item_id"] for row in listed["items"]]
        assert (found["unknown"], found["draws"], found["level"], found["private"]) == (1, 39, 0.8, True)
        assert all(row["between"] and "score" not in row for row in found["items"])
        shown = run("explain", model, "--history", "100,101,zzz", "--n", 3)
        assert shown.code == 0
        assert "1 of the history's items are not in the catalogue" in shown.out
        assert "meant to hold in 80% of cases" in shown.out
        assert "zzz" not in shown.out + shown.err

    def test_a_list_by_count(self, run: Run, model: Path) -> None:
        assert "how many people know it" in run("explain", model, "--history", "").out
        everything = ",".join(str(item) for item in range(100, 160))
        assert "the list is empty" in run("explain", model, "--history", everything).out

    def test_a_model_that_does_not_add_up(self, run: Run, imported: Path) -> None:
        assert run("budget", "open", imported, "--epsilon", 1).code == 0
        assert run("train", imported, "--epsilon", 1, "--model", "als", "--out", "a.npz").code == 0
        shown = run("explain", "a.npz", "--history", "100,101").out
        assert "what the score loses without the item" in shown
        assert "not known for this kind of model" in shown
        assert "none that could be told from noise" in run("explain", "a.npz").out

    def test_a_model_without_noise(self, run: Run, imported: Path) -> None:
        run("train", imported, "--epsilon", "inf", "--out", "open.npz")
        assert "no noise was added" in run("explain", "open.npz", "--history", "100").out
        assert "no noise was added" in run("explain", "open.npz").out

    def test_a_model(self, run: Run, imported: Path) -> None:
        assert run("budget", "open", imported, "--epsilon", 6).code == 0
        assert run("train", imported, "--epsilon", 6, "--model", "subspace", "--out", "s.npz").code == 0
        shown = run("explain", "s.npz").out
        assert "directions stood out of the noise" in shown
        assert "of up to one item, all of them" in shown
        assert "NOT PRIVATE" not in shown
        assert "NOT PRIVATE" in run("explain", "s.npz", "--beside", imported).out

    def test_refusals(self, run: Run, imported: Path, model: Path, csv_file: Path) -> None:
        both = run("explain", model, "--history", "100", "--beside", imported)
        assert_refused(both, 1, "give one of them")
        assert_refused(run("explain", model, "--history", "100", "--n", 0), 1, "n must be at least 1")
        assert run("data", "import", csv_file, "--out", "t.parquet", "--name", "t").code == 0
        assert_refused(run("explain", model, "--beside", "t.parquet"), 3, "measure-quality")


class TestTrain:
    def test_not_private_says_so(self, run: Run, csv_file: Path) -> None:
        done = run("train", csv_file, "--epsilon", "inf", "--out", "open.npz")
        assert "NOT PRIVATE" in done.out
        assert not (csv_file.parent / "ledger.db").exists()
        assert "NOT PRIVATE" in run("recommend", "open.npz", "--history", "100").out
        assert "NOT PRIVATE" in run("card", "open.npz").out
        assert run("recommend", "open.npz", "--json").json["private"] is False

    @pytest.mark.parametrize("epsilon", ["0", "-1", "nan", "-inf", "1e9"])
    def test_epsilon_out_of_range(self, epsilon: str, run: Run, imported: Path) -> None:
        run("budget", "open", imported, "--epsilon", 4)
        assert_refused(run("train", imported, f"--epsilon={epsilon}", "--out", "m.npz"), 1, "epsilon must be above 0")
        assert_refused(run("budget", "open", imported, f"--epsilon={epsilon}"), 1, "epsilon must be above 0")

    def test_no_ledger_no_account_and_a_taken_name(self, run: Run, imported: Path, model: Path) -> None:
        assert_refused(run("train", imported, "--epsilon", 1, "--out", "m.npz", "--ledger", "no.db"), 1, "no.db")
        assert not (imported.parent / "no.db").exists()
        run("budget", "open", "others", "--epsilon", 1, "--delta", 1e-6, "--ledger", "others.db")
        missing = run("train", imported, "--epsilon", 1, "--out", "m.npz", "--ledger", "others.db", "--json")
        assert_refused(missing, 1, "no budget is open for tastes/train-recommender")
        assert_refused(run("train", imported, "--epsilon", 1, "--out", model, "--json"), 1, "exists already")
        (state,) = run("budget", "show", "--json").json["accounts"]
        assert state["releases"] == 1

    def test_purposes_and_kinds(self, run: Run, imported: Path, csv_file: Path) -> None:
        run("budget", "open", imported, "--epsilon", 4)
        odd = run("train", imported, "--epsilon", 1, "--out", "m.npz", "--purpose", "ads", "--json")
        assert_refused(odd, 3, "may not be used for 'ads'")
        assert_refused(run("train", imported, "--epsilon", 1, "--out", "m.npz", "--model", "x", "--json"), 1, "unknown")
        assert_refused(run("evaluate", csv_file), 3, "measure-quality")
        assert_refused(run("evaluate", imported, "--protocol", "wish"), 1, "unknown protocol")
        assert_refused(run("tradeoff", imported, "--model", "wish"), 1, "unknown model")
        assert_refused(run("tradeoff", imported, "--seeds", 0), 1, "at least one seed")
        assert_refused(run("tradeoff", imported, "--out", "curve.pdf"), 1, "an .svg or a .png")

    def test_repeating_a_release_costs_nothing(self, run: Run, imported: Path) -> None:
        run("budget", "open", imported, "--epsilon", 1)
        first = run("train", imported, "--epsilon", 1, "--out", "m.npz", "--release", "spring", "--json")
        again = run("train", imported, "--epsilon", 1, "--out", "m.npz", "--release", "spring", "--json")
        assert first.json == again.json
        assert first.json["release"] == "spring"

    def test_an_empty_release_id(self, run: Run, imported: Path) -> None:
        run("budget", "open", imported, "--epsilon", 1)
        assert_refused(run("train", imported, "--epsilon", 1, "--out", "m.npz", "--release", ""), 1, "release")
        assert run("budget", "show", "--json").json["releases"] == []

    def test_refusals_name_no_release(self, run: Run, imported: Path) -> None:
        run("budget", "open", imported, "--epsilon", 1)
        assert_refused(run("train", imported, "--epsilon", 2, "--out", "m.npz"), 4, "asked")

    @pytest.mark.skipif(not Path("/proc/self").is_dir(), reason="needs a folder that nobody can write to")
    def test_a_folder_that_cannot_be_written_to(self, run: Run, imported: Path) -> None:
        run("budget", "open", imported, "--epsilon", 1)
        assert_refused(run("train", imported, "--epsilon", 1, "--out", "/proc/m.npz"), 1, "cannot be written")
        assert_refused(run("tradeoff", imported, "--out", "/proc/x.svg"), 1, "cannot be written")
        assert_refused(run("tradeoff", imported, "--out", "missing/x.svg"), 1, "not a folder")
        assert run("budget", "show", "--json").json["releases"] == []

    def test_a_charged_run_can_be_found_and_repeated(
        self, run: Run, imported: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def interrupt(*_: object, **__: object) -> None:
            raise KeyboardInterrupt

        run("budget", "open", imported, "--epsilon", 1)
        with monkeypatch.context() as patched:
            patched.setattr(fitting, "train", interrupt)
            done = run("train", imported, "--epsilon", 1, "--out", "m.npz", "--json")
        (release,) = run("budget", "show", "--json").json["releases"]
        name = release["release"]
        first, second, last = done.err.splitlines()
        assert (done.code, done.out, last) == (130, "", "interrupted")
        assert first.startswith(f"release {name} is charged")
        assert second == f"release {name} is charged: repeat with --release {name}"
        assert release["state"] == "reserved"
        assert f"charged, not finished: {name} of tastes/train-recommender" in run("budget", "show").out
        assert run("train", imported, "--epsilon", 1, "--out", "m.npz", "--release", name).code == 0
        assert "not finished" not in run("budget", "show").out


class TestEvaluateFile:
    def test_measures_everybody_who_has_enough(self, run: Run, imported: Path, model: Path) -> None:
        strong = run("evaluate", imported, "--file", model, "--json").json["quality"]
        assert strong.keys() == {"recall@20", "recall@50", "ndcg@100"}
        last = run("evaluate", imported, "--file", model, "--protocol", "leave-one-out", "--json").json["quality"]
        assert last.keys() == {"hr@10", "ndcg@10"}

    def test_short_histories_are_left_out(self, run: Run, model: Path, csv_file: Path) -> None:
        csv_file.write_text(csv_file.read_text() + "person-one,100,5\n")
        run("data", "import", csv_file, "--out", "more.parquet", "--purpose", "measure-quality")
        assert run("evaluate", "more.parquet", "--file", model).code == 0

    def test_another_catalogue(self, run: Run, model: Path, tmp_path: Path) -> None:
        (tmp_path / "o.csv").write_text("user_id,item_id\n" + "".join(f"person-{n % 9},{n}\n" for n in range(90)))
        run("data", "import", "o.csv", "--out", "o.parquet", "--purpose", "measure-quality")
        assert_refused(run("evaluate", "o.parquet", "--file", model), 1, "another catalogue")


class TestBadInput:
    @pytest.mark.parametrize(
        ("name", "content", "says"),
        [
            ("a.parquet", b"", "is empty"),
            ("a.parquet", b"PAR1 no", "not a Parquet file"),
            ("a.csv", b"", "is empty"),
            ("a.csv", b"user_id,item_id\n", "no rows"),
            ("a.csv", b"user_id,thing\nperson-1,2\n", "no column 'item_id'"),
            ("a.csv", b"user_id,item_id\nperson-1,caf\xe9\n", "not UTF-8"),
            ("a.csv", b"user_id,item_id,rating\nperson-1,2,-1\n", "rating"),
            ("a.csv", b"user_id,item_id,rating\nperson-1,2,nan\n", "rating"),
            ("a.csv", b"user_id,item_id,rating\nperson-1,2,inf\n", "rating"),
            ("a.csv", b"user_id,item_id,rating\nperson-1,2,good\n", "rating"),
            ("a.csv", b"user_id,item_id\nperson-1\n", "item_id"),
            ("a.csv", b"user_id,item_id\nperson-1,2,3,4\n", "more fields"),
            ("a.xlsx", b"", "must end in"),
        ],
    )
    def test_file_of_interactions(self, name: str, content: bytes, says: str, run: Run, tmp_path: Path) -> None:
        (tmp_path / name).write_bytes(content)
        assert_refused(run("data", "check", name), 1, says)
        assert_refused(run("data", "import", name, "--out", "d.parquet"), 1, says)
        assert_refused(run("train", name, "--epsilon", "inf", "--out", "m.npz"), 1, says)
        assert sorted(path.name for path in tmp_path.iterdir()) == [name]

    def test_missing_file(self, run: Run) -> None:
        assert_refused(run("data", "check", "no.csv"), 1, "no such file")
        assert_refused(run("recommend", "no.npz"), 1, "cannot read the model")
        assert_refused(run("budget", "show"), 1, "no ledger")
        assert_refused(run("journal", "verify"), 1, "no ledger")

    @pytest.mark.parametrize("rows", ["u,i\n", "u,i\nu,j\n", "u,i\nv,i\n", "u,i\n" * 3])
    def test_one_person_or_one_item(self, rows: str, run: Run, tmp_path: Path) -> None:
        (tmp_path / "a.csv").write_text("user_id,item_id\n" + rows)
        assert run("data", "check", "a.csv").code == 0
        assert run("budget", "open", "a.csv", "--epsilon", 1).code == 0
        assert run("train", "a.csv", "--epsilon", 1, "--out", "m.npz").code == 0
        for kind in ("popularity", "subspace", "gram", "ials", "als", "als-adaptive", "sgd"):
            assert run("train", "a.csv", "--epsilon", "inf", "--model", kind, "--out", f"{kind}.npz").code == 0
            assert run("recommend", f"{kind}.npz", "--history", "x").code == 0
            assert run("recommend", f"{kind}.npz", "--history", "i", "--on-device").code == 0

    def test_person_with_ten_thousand_items(self, run: Run, tmp_path: Path) -> None:
        rows = [f"u,{n}\n" for n in range(10_000)] + [f"v{n},{n % 7}\n" for n in range(50)]
        (tmp_path / "a.csv").write_text("user_id,item_id\n" + "".join(rows))
        assert run("budget", "open", "a.csv", "--epsilon", 9).code == 0
        assert run("train", "a.csv", "--epsilon", 3, "--model", "subspace", "--out", "m.npz").code == 0
        assert run("recommend", "m.npz", "--history", "1,2").code == 0

    def test_histories(self, run: Run, model: Path) -> None:
        for history in ("", "nothing,known", ",,,", "100"):
            assert len(run("recommend", model, "--history", history, "--json").json["items"]) == 10
        everything = ",".join(str(item) for item in range(100, 160))
        assert run("recommend", model, "--history", everything, "--json").json["items"] == []
        assert run("recommend", model, "--history", everything).code == 0
        assert len(run("recommend", model, "--history", "100", "--n", 999, "--json").json["items"]) == 59
        for n in (0, -3):
            assert_refused(run("recommend", model, "--n", n), 1, "n must be at least 1")

    def test_history_from_standard_input(self, run: Run, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(sys, "stdin", TextIOWrapper(BytesIO(b"100,101\n"), "utf-8"))
        assert run("recommend", model, "--history", "-", "--json").json["unknown"] == 0
        monkeypatch.setattr(sys, "stdin", TextIOWrapper(BytesIO(b"caf\xe9"), "utf-8"))
        assert_refused(run("recommend", model, "--history", "-"), 1, "not UTF-8")

    def test_history_of_lines(self, run: Run, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(sys, "stdin", TextIOWrapper(BytesIO(b"100\r\n101,102\n\nnothing\n"), "utf-8"))
        assert run("recommend", model, "--history", "-", "--json").json["unknown"] == 1
        monkeypatch.setattr(sys, "stdin", None)
        assert_refused(run("recommend", model, "--history", "-"), 1, "standard input is closed")

    def test_an_empty_list_is_one_line(self, run: Run, model: Path) -> None:
        done = run("recommend", model, "--history", ",".join(str(item) for item in range(100, 160)))
        assert "For a history of 60: the list is empty" in done.out
        assert "rank" not in done.out

    def test_import_never_overwrites(self, run: Run, csv_file: Path, imported: Path) -> None:
        before = imported.read_bytes()
        assert_refused(run("data", "import", csv_file, "--out", imported, "--name", "x"), 1, "exists already")
        assert imported.read_bytes() == before
        assert_refused(run("data", "import", csv_file, "--out", "n" * 300 + ".parquet"), 1, "too long")

    def test_a_cache_that_is_a_file(self, run: Run, csv_file: Path) -> None:
        for command in (["data", "fetch"], ["demo", "--out", "made"]):
            assert_refused(run(*command, "--cache", csv_file), 1, "is a file")
            assert_refused(run(*command, "--cache", csv_file / "below"), 1, "is a file")
        assert "tastes: " in run("data", "fetch", "--from", csv_file, "--cache", "cache").out

    def test_nothing_drives_a_terminal(self, run: Run, capsys: pytest.CaptureFixture[str]) -> None:
        shown = table("\x1b[2Jlist", "title")
        shown.add_row("\x1b]0;owned\x07\u202eplain")
        shown.add_row("文\u3000字")
        screen.print(shown)
        say("\x1b[31mred\nsecond")
        printed = capsys.readouterr().out
        assert not set("\x1b\x07\u202e") & set(printed)
        assert all(text in printed for text in ("�]0;owned��plain", "文 字", "�[2Jlist", "�[31mred\nsecond"))
        failed = run("data", "check", "\x1b[2J.csv")
        assert (failed.code, "\x1b" in failed.err) == (1, False)

    def test_corrupted_model(self, run: Run, model: Path) -> None:
        content = bytearray(model.read_bytes())
        content[len(content) // 2] ^= 1
        model.write_bytes(content)
        for command in (["recommend", model], ["card", model, "--json"], ["recommend", model, "--on-device"]):
            assert_refused(run(*command), 1, "model.npz")
        assert_refused(run("journal", "verify", "--artefacts", "."), 3, "gone or was changed")

    def test_tampered_ledger(self, run: Run, model: Path) -> None:
        with closing(sqlite3.connect(model.parent / "ledger.db")) as tables, tables:
            tables.execute("UPDATE account SET spent = spent + 1")
        assert_refused(run("journal", "verify"), 3, "journal row 2: budget tastes/train-recommender is not what")
        found = run("journal", "verify", "--json")
        assert (found.code, found.json["ok"], found.json["problems"][0]["row"]) == (3, False, 2)

    def test_ledger_that_is_none(self, run: Run, imported: Path) -> None:
        (imported.parent / "ledger.db").write_bytes(b"not a database at all" * 100)
        assert_refused(run("journal", "verify"), 3, "ledger.db")
        assert_refused(run("train", imported, "--epsilon", 1, "--out", "m.npz", "--json"), 3, "ledger.db")

    def test_an_older_ledger(self, run: Run, imported: Path) -> None:
        kept = Path(__file__).parents[1] / "governance/version_2.db.gz"
        (imported.parent / "ledger.db").write_bytes(gzip.decompress(kept.read_bytes()))
        assert_refused(run("budget", "show"), 1, "run `discreet ledger upgrade`")
        assert "upgraded from version 2 to 3" in run("ledger", "upgrade").out
        assert "nothing was done" in run("ledger", "upgrade", imported.parent / "ledger.db").out
        assert run("journal", "verify").code == 0
        assert_refused(run("ledger", "upgrade", "none.db"), 1, "there is no ledger")

    def test_budgets(self, run: Run, imported: Path) -> None:
        assert_refused(run("budget", "open", "tastes", "--epsilon", 1), 1, "give --delta")
        assert_refused(run("budget", "open", imported, "--epsilon", 1, "--delta", 0.01), 1, "1/300")
        assert_refused(run("budget", "open", imported, "--epsilon", 1, "--until", "someday"), 1, "until")
        assert_refused(run("journal", "verify", "--head", "x"), 1, "SEQ:HASH")
        for name in ("n" * 300, "tstes.parquet", "x.csv", "some/tastes"):
            refused = run("budget", "open", name, "--epsilon", 1, "--delta", 1e-6)
            assert_refused(refused, 1, "too long" if len(name) == 300 else "no such file")
        assert_refused(run("budget", "open", imported, "--epsilon", 1, "--purpose", "ads"), 3, "may not be used")
        assert run("budget", "show", "--json").json["accounts"] == []
        assert "no budget is open" in run("budget", "show").out
        run("budget", "open", imported, "--epsilon", 1)
        assert run("budget", "open", imported, "--epsilon", 1).code == 0
        assert_refused(run("budget", "open", imported, "--epsilon", 2), 1, "already open")


class TestDemo:
    def test_leaves_what_it_says(self, run: Run, csv_file: Path, tmp_path: Path) -> None:
        done = run("demo", "--from", csv_file, "--out", "made", "--cache", "cache")
        assert (done.code, done.err) == (0, "")
        assert {path.name for path in (tmp_path / "made").iterdir()} > LEFT
        assert "refused: budget of" in done.out
        assert "Recall@20" in done.out
        assert "everything fits" in done.out
        assert "Left in made/:" in done.out
        assert all(name in done.out.splitlines()[-1] for name in LEFT)
        assert "person-" not in done.out
        assert run("journal", "verify", "--ledger", "made/ledger.db", "--artefacts", "made").code == 0
        assert run("recommend", "made/model.npz", "--history", "100").code == 0
        assert run("demo", "--from", csv_file, "--out", "made", "--cache", "cache").code == 0

    @pytest.mark.parametrize("name", ["ledger.db", "notes.txt"])
    def test_never_deletes_what_is_not_its_own(self, name: str, run: Run, csv_file: Path, tmp_path: Path) -> None:
        (tmp_path / "mine").mkdir()
        (tmp_path / "mine" / name).write_bytes(b"mine")
        assert_refused(run("demo", "--from", csv_file, "--out", "mine", "--cache", "cache"), 1, "--out")
        assert (tmp_path / "mine" / name).read_bytes() == b"mine"
        assert_refused(run("demo", "--from", csv_file, "--out", csv_file), 1, "--out")

    def test_too_few_people(self, run: Run, tmp_path: Path) -> None:
        (tmp_path / "few.csv").write_text("user_id,item_id\nperson-1,2\n")
        done = run("demo", "--from", "few.csv", "--out", "made", "--cache", "cache")
        assert done.code == 1
        assert done.err.startswith("error: few.csv: the demo needs at least 10 people with 5 items each")
        assert done.err.count("\n") == 1
        assert not (tmp_path / "made").exists()

    def test_other_data_has_its_own_names(self, run: Run, csv_file: Path, tmp_path: Path) -> None:
        done = run("demo", "--from", csv_file, "--out", "made", "--cache", "cache")
        assert "For an example history" in " ".join(done.out.split())
        assert "Star Wars" not in done.out
        csv_file.rename(tmp_path / "shop.csv")
        assert run("demo", "--from", "shop.csv", "--out", "made", "--cache", "cache").code == 0
        assert [path.name for path in (tmp_path / "made").glob("*.parquet")] == ["shop.parquet"]

    def test_an_earlier_demo_outlives_a_failed_one(self, run: Run, csv_file: Path, tmp_path: Path) -> None:
        assert run("demo", "--from", csv_file, "--out", "made", "--cache", "cache").code == 0
        before = {path.name: path.read_bytes() for path in (tmp_path / "made").iterdir()}
        assert run("demo", "--from", "no.csv", "--out", "made", "--cache", "cache").code == 1
        assert {path.name: path.read_bytes() for path in (tmp_path / "made").iterdir()} == before


class TestKeep:
    SMALL = ("--keep", "75%", "--epsilon", 1, "--epsilon", 4, "--model", "popularity")

    @pytest.fixture
    def budget(self, run: Run, imported: Path) -> Path:
        assert run("budget", "open", imported, "--epsilon", 8, "--purpose", "measure-quality").code == 0
        return imported

    def test_price_is_told_before_a_budget_is_open_and_after(self, run: Run, imported: Path) -> None:
        told = run("tradeoff", imported, *self.SMALL, "--price")
        assert (told.code, told.err) == (0, "")
        assert "of tastes/measure-quality, which has no budget yet" in told.out
        assert not Path("ledger.db").exists()
        assert run("budget", "open", imported, "--epsilon", 8, "--purpose", "measure-quality").code == 0
        facts = run("tradeoff", imported, *self.SMALL, "--price", "--json").json
        assert 0 < facts["units"] < facts["left"]
        assert 4 < facts["epsilon"] < 5
        assert run("budget", "show", "--json").json["accounts"][0]["spent"] == 0

    def test_answer_is_billed_and_published(self, run: Run, budget: Path) -> None:
        done = run("tradeoff", budget, *self.SMALL, "--out", "gains.json")
        assert done.code == 0
        assert "this search costs epsilon 4." in done.err.splitlines()[0]
        assert "at no further charge" in done.err
        assert "The whole search is (4." in done.out
        (account,) = run("budget", "show", "--json").json["accounts"]
        assert account["account"] == "tastes/measure-quality"
        assert account["spent"] == json.loads(Path("gains.json").read_text())["guarantee"]["units"]
        assert run("journal", "verify", "--artefacts", ".").code == 0

    def test_another_share_is_read_off_what_is_published(self, run: Run, budget: Path) -> None:
        asked = ("--out", "gains.json", "--json")
        first = run("tradeoff", budget, *self.SMALL, *asked).json
        release = first["gains"]["release"]
        again = run("tradeoff", budget, "--keep", "0.5", *self.SMALL[2:], *asked, "--release", release)
        assert (again.json["keep"], again.json["gains"]) == (0.5, first["gains"])
        assert run("budget", "show", "--json").json["accounts"][0]["releases"] == 1

    def test_a_budget_that_is_too_small(self, run: Run, imported: Path) -> None:
        assert run("budget", "open", imported, "--epsilon", 2, "--purpose", "measure-quality").code == 0
        done = run("tradeoff", imported, *self.SMALL)
        assert done.code == 4
        first, last = done.err.splitlines()
        assert first.startswith("this search costs")
        assert last.startswith("error: budget of tastes/measure-quality")

    @pytest.mark.usefixtures("model")
    def test_no_budget(self, run: Run, imported: Path) -> None:
        assert_refused(run("tradeoff", imported, *self.SMALL), 1, "--price says what a search costs")

    @pytest.mark.parametrize("keep", ["75", "0", "-10%", "101%", "half", "nan", "%", ""])
    def test_a_share_that_is_none(self, keep: str, run: Run, imported: Path) -> None:
        assert_refused(run("tradeoff", imported, "--keep", keep, "--price"), 1, "such as 75%")

    @pytest.mark.parametrize(
        ("options", "says"),
        [
            (("--keep", "75%", "--seeds", 2), "--seeds"),
            (("--keep", "75%", "--protocol", "leave-one-out"), "--protocol"),
            (("--keep", "75%", "--model", "gram", "--model", "als", "--price"), "--model once"),
            (("--keep", "75%", "--epsilon", 1, "--price"), "2 to 12 epsilons"),
            (("--price",), "give --keep too"),
            (("--release", "spring"), "give --keep too"),
        ],
    )
    def test_options_that_do_not_go_together(
        self, options: tuple[object, ...], says: str, run: Run, imported: Path
    ) -> None:
        assert_refused(run("tradeoff", imported, *options), 1, says)

    def test_nothing_to_keep(self, run: Run, budget: Path) -> None:
        said = run("tradeoff", budget, *self.SMALL)
        assert "No clear gain: even at epsilon 4" in said.out or "keeps 75% of the gain" in said.out


class TestPace:
    @pytest.fixture(autouse=True)
    def budget(self, run: Run, imported: Path) -> Path:
        assert run("budget", "open", imported, "--epsilon", 4).code == 0
        return imported

    def test_is_shown_and_held_to(self, run: Run, imported: Path) -> None:
        set_ = run("budget", "pace", imported, "fixed", "--until", "2999-01-01", "--per-year", 2)
        assert (set_.code, set_.err) == (0, "")
        assert set_.out.startswith("tastes/train-recommender: fixed pace, 2 a year\n  next release, from ")
        assert "at this pace it lasts until 299" in set_.out
        assert set_.out in run("budget", "show").out
        done = run("train", imported, "--epsilon", 2, "--out", "model.npz")
        assert_refused(done, 4, "fixed pace, 2 a year of tastes/train-recommender: epsilon 2 asked")
        assert "wait, or ask for less" in done.err
        assert not Path("model.npz").exists()
        assert run("journal", "verify").code == 0
        assert run("budget", "pace", imported, "off").code == 0
        assert run("train", imported, "--epsilon", 2, "--out", "model.npz").code == 0

    def test_looks_ahead_in_json(self, run: Run) -> None:
        asked = ("budget", "pace", "tastes", "decaying", "--share", "25%", "--epsilon", 0.2, "--json")
        told = run(*asked).json
        assert told["account"] == "tastes/train-recommender"
        assert (told["pace"]["rule"], told["pace"]["per_mille"], told["pace"]["per_year"]) == ("decaying", 250, 12)
        (now,) = run("budget", "show", "--json").json["accounts"]
        (ahead,) = run("budget", "show", "--at", "2999-01-01", "--json").json["accounts"]
        assert now["outlook"]["next_cost"] < ahead["outlook"]["next_cost"] <= now["left"]
        assert now["outlook"]["pace"] == told["pace"]
        assert all(isinstance(now["outlook"][name], int) for name in ("next_cost",))

    def test_of_the_quality_that_a_search_found(self, run: Run, imported: Path) -> None:
        assert run("budget", "open", imported, "--epsilon", 8, "--purpose", "measure-quality").code == 0
        assert run("tradeoff", imported, *TestKeep.SMALL, "--out", "gains.json").code == 0
        gains = json.loads(Path("gains.json").read_text())
        gains |= {"mean": [0.1, 0.2], "products": [[0.02, 0.02], [0.02, 0.05]], "measured": 10_000}
        Path("clear.json").write_text(json.dumps(gains))
        told = run("budget", "pace", imported, "quality", "--gains", "clear.json", "--keep", "75%", "--json").json
        by_hand = run("budget", "pace", imported, "quality", "--epsilon", 2, "--json").json
        assert told["pace"]["price"] == pytest.approx(by_hand["pace"]["price"], rel=1e-6)
        Path("none.json").write_text(json.dumps(gains | {"mean": [0.1, 0.0]}))
        none = run("budget", "pace", imported, "quality", "--gains", "none.json", "--keep", "75%")
        assert_refused(none, 1, "no gain to keep")

    @pytest.mark.parametrize(
        ("options", "says"),
        [
            (("hasty",), "choose fixed, quality, decaying, off"),
            (("fixed",), "needs --until"),
            (("fixed", "--until", "2001-01-01"), "before it begins"),
            (("fixed", "--until", "soon"), "ISO 8601"),
            (("fixed", "--until", "2999-01-01", "--share", "20%"), "--share is no option of the rule fixed"),
            (("fixed", "--until", "2999-01-01", "--per-year", 0), "1 to 8,766 releases a year"),
            (("quality",), "needs --epsilon, or --gains and --keep"),
            (("quality", "--keep", "75%"), "give --gains too"),
            (("quality", "--gains", "gains.json"), "needs --keep"),
            (("quality", "--gains", "gains.json", "--keep", "75%"), "cannot read gains.json"),
            (("quality", "--gains", "gains.json", "--epsilon", 1), "two answers"),
            (("quality", "--epsilon", -1), "epsilon must be above 0"),
            (("decaying", "--epsilon", 1), "needs --share"),
            (("decaying", "--share", "20%"), "needs --epsilon"),
            (("decaying", "--share", "100%", "--epsilon", 1), "between 0.1% and 99.9%"),
            (("decaying", "--share", "a lot", "--epsilon", 1), "--share is a share"),
            (("off", "--epsilon", 1), "--epsilon is no option of the rule off"),
        ],
    )
    def test_bad_options_change_nothing(self, options: tuple[object, ...], says: str, run: Run) -> None:
        before = run("journal", "verify", "--json").json["head"]
        assert_refused(run("budget", "pace", "tastes", *options), 1, says)
        assert run("journal", "verify", "--json").json["head"] == before

    def test_no_budget_and_no_time(self, run: Run) -> None:
        assert_refused(run("budget", "pace", "films", "off"), 1, "no budget is open for films/train-recommender")
        assert_refused(run("budget", "show", "--at", "later"), 1, "ISO 8601")


def test_lengths_are_billed(run: Run, imported: Path) -> None:
    assert_refused(run("data", "lengths", imported), 1, "there is no ledger")
    assert run("budget", "open", imported, "--epsilon", 2).code == 0
    done = run("data", "lengths", imported, "--epsilon", 1, "--out", "lengths.json")
    assert done.code == 0
    assert "at no further charge" in done.err
    assert "half of the people have at most" in done.out
    assert "billed to tastes/train-recommender" in done.out
    assert run("journal", "verify", "--artefacts", ".").code == 0
    told = run("data", "lengths", imported, "--epsilon", 0.1, "--json").json
    assert told["quantiles"].keys() == {"0.1", "0.25", "0.5", "0.75", "0.9", "0.99"}
    assert_refused(run("data", "lengths", imported, "--epsilon", 2), 4, "asked")


class TestWindow:
    MONTH = ("--window", "1970-01")

    def test_has_a_budget_and_a_promise_of_its_own(self, run: Run, csv_file: Path) -> None:
        opened = run("budget", "open", csv_file, "--epsilon", 2, *self.MONTH)
        assert opened.out.startswith("open: tastes/train-recommender/1970-01, epsilon 2")
        done = run("train", csv_file, "--epsilon", 1, "--out", "model.npz", *self.MONTH)
        assert done.code == 0
        assert "whether anything you did in 1970-01 was in it" in done.out
        assert run("card", "model.npz", "--json").json["guarantee"]["unit"] == "person-month"
        (account,) = run("budget", "show", "--json").json["accounts"]
        assert (account["unit"], account["releases"]) == ("person-month", 1)
        assert run("budget", "pace", "tastes", "quality", "--epsilon", 1, *self.MONTH).code == 0
        assert run("journal", "verify").code == 0

    def test_contradictions(self, run: Run, csv_file: Path, imported: Path) -> None:
        assert run("budget", "open", csv_file, "--epsilon", 2, *self.MONTH).code == 0
        assert_refused(run("budget", "open", csv_file, "--epsilon", 2), 1, "keep to one unit")
        assert_refused(run("budget", "open", csv_file, "--epsilon", 2, "--window", "1970"), 1, "keep to one unit")
        rest = ("--epsilon", 1, "--out", "model.npz")
        assert_refused(run("train", csv_file, *rest), 1, "no budget is open for tastes/train-recommender:")
        assert_refused(run("train", csv_file, *rest, "--window", "1970-02"), 1, "holds nothing of 1970-02")
        assert_refused(run("train", imported, *rest, "--window", "1970-02"), 1, "holds more than 1970-02")
        assert_refused(run("train", csv_file, *rest, "--window", "January"), 1, "year, month or day")
