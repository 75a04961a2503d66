"""``discreet journal``, in this process, through ``main`` itself."""

import json
import os
import shutil
import sqlite3
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from servers import Server

from discreet.cli import main
from discreet.data.records import Records
from discreet.governance.inventory import Inventory, example
from discreet.governance.keys import Master, new_key
from discreet.governance.places import NAMED

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run a command in an empty folder; return its exit code, and what it printed."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(NAMED, "")  # so that it is put back, whatever a command sets it to

    def command(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["discreet", *map(str, arguments)])
        try:
            main()
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else 0
        else:
            code = 0
        return code, *capsys.readouterr()

    return command


@pytest.fixture
def witnessed(run: Run) -> Run:
    Path("kept").mkdir()
    opened = run("--witness", "kept/heads", "budget", "open", "films", "--epsilon", 2, "--delta", 1e-6)
    assert opened[0] == 0
    return run  # what was named stays in the environment, as of this process


def test_a_ledger_that_was_rolled_back_is_refused(witnessed: Run) -> None:
    shutil.copy("ledger.db", "older.db")
    assert witnessed("budget", "open", "books", "--epsilon", 2, "--delta", 1e-6)[0] == 0
    code, out, _ = witnessed("journal", "verify")
    assert (code, "so does every head in kept/heads" in out) == (0, True)
    shutil.copy("older.db", "ledger.db")
    for words in (
        ["budget", "show"],
        ["budget", "open", "games", "--epsilon", 2, "--delta", 1e-6],
        ["journal", "head"],
    ):
        code, _, err = witnessed(*words)
        assert (code, "has seen 4 rows, of which the journal has 3: the database was rolled back" in err) == (3, True)
    code, out, err = witnessed("journal", "verify", "--json")
    found = json.loads(out)
    assert (code, err, found["ok"], found["problems"][0]["row"]) == (3, "", False, 3)
    assert witnessed("journal", "verify")[2].startswith("error: journal row 3: witness kept/heads has seen 4 rows")
    assert witnessed("journal", "show")[0] == 0  # to look is allowed


def test_without_a_witness(run: Run, monkeypatch: pytest.MonkeyPatch, witnessed: Run) -> None:
    monkeypatch.setenv(NAMED, "")
    code, out, _ = run("journal", "verify")
    assert (code, "no witness was named" in out) == (0, True)
    assert json.loads(run("journal", "verify", "--json")[1])["witness"] is None
    code, _, err = run("journal", "head")
    assert (code, "name its file, by `discreet --witness FILE`" in err) == (1, True)
    code, _, err = run("budget", "open", "books", "--epsilon", 2, "--delta", 1e-6)
    assert (code, "heads of this journal are kept in a witness" in err) == (1, True)


def test_a_lost_witness_is_begun_anew(witnessed: Run) -> None:
    Path("kept/heads").unlink()
    assert witnessed("journal", "head")[0] == 3
    code, out, _ = witnessed("journal", "head", "--anew", "--json")
    assert (code, json.loads(out)["size"]) == (0, 4)
    assert witnessed("journal", "head", "--anew")[0] == 1
    assert [json.loads(line)["kind"] for line in witnessed("journal", "show", "--json")[1].splitlines()] == [
        *("create", "open", "head", "head")
    ]


def test_heads_and_proofs(witnessed: Run) -> None:
    code, out, _ = witnessed("journal", "head", "--json")
    head: dict[str, Any] = json.loads(out)
    assert (code, head["size"]) == (0, 3)
    Path("head.json").write_text(out)
    assert witnessed("journal", "head")[1].splitlines()[0].startswith("3 rows, as of ")
    code, out, _ = witnessed("journal", "prove", 1)
    assert (code, '"kind":"open"' in out, "journal check proof.json --key " + head["key"] in out) == (0, True, True)
    witnessed("budget", "open", "books", "--epsilon", 2, "--delta", 1e-6)
    code, out, _ = witnessed("journal", "prove", "--since", "head.json", "--out", "grown.json", "--json")
    assert (code, json.loads(out)) == (
        0, {"proof": "consistency", "out": "grown.json", "size": 4, "key": head["key"]}
    )  # fmt: skip
    Path("ledger.db").unlink()  # to check needs no database
    code, out, _ = witnessed("journal", "check", "grown.json", "--key", head["key"])
    assert (code, out.startswith("holds: the 3 rows of ")) == (0, True)
    code, out, _ = witnessed("journal", "check", "proof.json", "--key", head["key"], "--json")
    assert (code, json.loads(out)["proof"]) == (0, "inclusion")
    assert witnessed("journal", "check", "proof.json", "--key", "0" * 64)[0] == 3
    Path("proof.json").write_text(Path("proof.json").read_text().replace("films", "filme"))
    code, _, err = witnessed("journal", "check", "proof.json", "--key", head["key"])
    assert (code, "does not show that row 1 is in the journal" in err) == (3, True)


def test_what_cannot_be_proven_or_checked(witnessed: Run) -> None:
    Path("head.json").write_text("{}")
    for words, said in (
        (["prove"], "one of the two"),
        (["prove", 1, "--since", "head.json"], "one of the two"),
        (["prove", 3], "rows 0 to 2"),
        (["prove", "--since", "head.json"], "not a signed head"),
        (["prove", "--since", "none.json"], "cannot be read"),
        (["check", "head.json", "--key", "0" * 64], "not a proof"),
        (["check", "head.json", "--key", "x"], "key must be"),
        (["head", "--ledger", "none.db"], "there is no ledger"),
    ):
        code, _, err = witnessed("journal", *words)
        assert (code, said in err) == (1, True), err
    assert not Path("proof.json").exists()


def test_rows_are_shown(witnessed: Run) -> None:
    lines = witnessed("journal", "show")[1].splitlines()
    assert [line.split()[::2][:2] for line in lines] == [["0", "create"], ["1", "open"], ["2", "head"]]
    assert "name=films/train-recommender" in lines[1]
    assert "None" not in lines[1]
    assert witnessed("journal", "show", "--kind", "open")[1].splitlines() == lines[1:2]
    assert witnessed("journal", "show", "--since", 2)[1].splitlines() == lines[2:]
    (row,) = witnessed("journal", "show", "--since", 1, "--kind", "open", "--json")[1].splitlines()
    assert json.loads(row)["facts"]["dataset"] == "films"


def agreed(folder: str, master: Master, person: str) -> None:
    inventory = Inventory.from_toml(example("shop").encode())
    with Records(Path(folder) / "discreet.db", master, inventory) as records:
        records.consents.give(person, "recommend")


def test_consents_are_opened_with_the_master_key_and_counted_without(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    master = Master([new_key()])
    Path("shop").mkdir()
    agreed("shop", master, "ann")
    verify = ["journal", "verify", "--ledger", "shop/discreet.db"]
    code, out, err = run(*verify)
    assert (code, "everything fits" in out, "Consents were counted" in err) == (0, True, True)
    assert json.loads(run(*verify, "--json")[1])["consents"] == "counted"
    master.write(Path("elsewhere.key"))
    code, out, err = run(*verify, "--master-key", "elsewhere.key")
    assert (code, "everything fits" in out, err) == (0, True, "")
    Path("elsewhere.key").rename("shop/master.key")
    assert json.loads(run(*verify, "--json")[1])["consents"] == "opened"
    monkeypatch.setattr(os, "access", lambda *_: False)  # as somebody who audits, and may not read it
    assert json.loads(run(*verify, "--json")[1])["consents"] == "counted"


def test_a_consent_that_was_prolonged_is_named(run: Run) -> None:
    master = Master([new_key()])
    Path("shop").mkdir()
    agreed("shop", master, "ann")
    master.write(Path("shop/master.key"))
    with closing(sqlite3.connect("shop/discreet.db")) as shell, shell:
        shell.execute("UPDATE standing SET until = '2999-01-01T00:00:00Z'")
    verify = ["journal", "verify", "--ledger", "shop/discreet.db"]
    code, _, err = run(*verify)
    assert (code, "journal row 7: a consent to recommend is not what the journal tells" in err) == (3, True)
    code, out, _ = run(*verify, "--json")
    assert (code, json.loads(out)["problems"][0]["row"]) == (3, 7)


def test_another_master_key_and_a_key_service(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("shop").mkdir()
    agreed("shop", Master([b"k" * 32]), "ann")
    Master([new_key()]).write(Path("shop/master.key"))
    verify = ["journal", "verify", "--ledger", "shop/discreet.db"]
    code, _, err = run(*verify)
    assert (code, "not in the file given" in err) == (3, True)
    code, _, err = run(*verify, "--master-key", "none.key")
    assert (code, "none.key: cannot be read" in err) == (1, True)
    Path("mykms.py").write_text(
        "from discreet.governance.keys import Master\ndef make():\n    return Master([b'k' * 32])\n"
    )
    monkeypatch.syspath_prepend(".")
    assert json.loads(run(*verify, "--key-service", "mykms:make", "--json")[1])["consents"] == "opened"


def test_a_database_on_a_server_has_no_key_beside_it(run: Run, server: Server) -> None:
    place, master = server.new(), Master([new_key()])
    with Records(place, master, Inventory.from_toml(example("shop").encode())) as records:
        records.consents.give("ann", "recommend")
    master.write(Path("master.key"))
    assert json.loads(run("journal", "verify", "--ledger", place, "--json")[1])["consents"] == "counted"
    found = run("journal", "verify", "--ledger", place, "--master-key", "master.key", "--json")
    assert json.loads(found[1])["consents"] == "opened"
