"""The inventory: what it declares is what the code obeys; what it misspells is refused."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path

import pytest

from discreet.errors import DataError, PurposeNotAllowed, SettingError
from discreet.governance.inventory import Inventory, example, vocabulary


@pytest.fixture
def text() -> str:
    return example("books")


def test_the_example_is_valid_as_it_stands(text: str, tmp_path: Path) -> None:
    path = tmp_path / "inventory.toml"
    path.write_text(text)
    found = Inventory.read(path)
    assert found.name == "books"
    assert [purpose.name for purpose in found.purposes] == ["recommend", "train-recommender"]
    assert found.read_for("recommend") == ("item_id", "timestamp")
    assert found.read_for("train-recommender") == ("item_id",)
    assert (found.step, found.retention_days) == (86_400, 730)
    assert found.purpose("recommend").recipients == ()
    assert found.to_dict()["fields"][1]["coarsened"] == "day"
    with pytest.raises(PurposeNotAllowed, match="declares recommend, train-recommender"):
        found.read_for("sell")


def test_without_timestamps_none_are_kept(text: str) -> None:
    start, end = text.index('[[field]]\nname = "timestamp"'), text.index("[minimisation]")
    assert Inventory.from_toml((text[:start] + text[end:]).encode()).step is None


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('"customer"', '"clients"', "'clients' is none of"),
        ('subjects = ["customer"]', "subjects = []", "none is given"),
        ('"train_ai_system"', '"train"', "use of train-recommender: 'train' is none of"),
        ('basis = "consent"\nsays = "Make', 'basis = "wish"\nsays = "Make', "basis of recommend"),
        ('name = "train-recommender"', 'name = "recommend"', "each purpose is there once"),
        ('name = "timestamp"', 'name = "item_id"', "each field is there once"),
        ('name = "timestamp"', 'name = "address"', "name of a field: 'address' is none of item_id, timestamp"),
        ('name = "item_id"', 'name = "timestamp"', "each field"),
        ('purposes = ["recommend"]', 'purposes = ["sell"]', "purposes of timestamp: 'sell'"),
        ('necessity = "optional"', 'necessity = "maybe"', "necessity of timestamp"),
        ('coarsened = "day"', 'coarsened = "week"', "coarsened of timestamp"),
        ("history = 1000", "history = 0", "history is 1 to 100,000, not 0"),
        ("logs_days = 90", "logs_days = 99999", "logs_days is 1 to"),
        ("logs_days = 90", "logs_days = 90\nbackups_days = 0", "backups_days is 1 to"),
        ("retention_days = 730\n", "retention_days = 30\n", "one retention_days"),
        ('undeclared = "drop"', 'undeclared = "keep"', "undeclared: 'keep'"),
        ('name = "books"', 'name = "a/b"', "holds one of /"),
        ('name = "recommend"', 'name = "a/b"', "holds one of /"),
        ('name = "recommend"', 'name = "gpc"', "a purpose cannot be called gpc"),
        ('email = "privacy@example.org"', 'email = "@"', "email of the controller"),
        ('url = "https://example.org"', 'url = "example.org"', "url of the controller is a page"),
        ('phone = "+00 0000 0000"', 'phone = "none"', "phone of the controller holds no digit"),
        ('url = "https://authority.example"', 'url = "authority"', "url of the authority is a page"),
        ('services = ["recommendations"]', 'services = [""]', "services holds what is empty"),
        ('jurisdiction = "EU"', 'jurisdiction = "E\\tU"', "jurisdiction holds what is empty, or does not print"),
        ('"https://example.org/code"', '"code"', "codes_of_conduct or impact_assessment is a page"),
        ('"https://example.org/assessment"', '"assessment"', "codes_of_conduct or impact_assessment is a page"),
    ],
)
def test_values_that_could_not_be_obeyed(text: str, old: str, new: str, said: str) -> None:
    assert old in text
    with pytest.raises(SettingError, match=said):
        Inventory.from_toml(text.replace(old, new, 1).encode())


@pytest.mark.parametrize(("days", "refused"), [(29, True), (30, False)])
def test_times_are_not_rounded_down_by_more_than_they_are_kept_for(text: str, days: int, refused: bool) -> None:
    coarse = text.replace("retention_days = 730", f"retention_days = {days}").replace('"day"', '"month"')
    with pytest.raises(SettingError, match="rounded down by more") if refused else nullcontext():
        assert Inventory.from_toml(coarse.encode()).retention_days == days


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("format = 1", "format = 2", "another version"),
        ("format = 1", "format =", "is not TOML"),
        ("history = 1000", "histroy = 1000", r"unknown key 'histroy' in \[minimisation\]"),
        ("history = 1000", "", "history is missing"),
        ("history = 1000", 'history = "many"', "history is not what it should be"),
        ('name = "books"', "name = 7", "not of type str"),
        ("format = 1", "format = 1\nretention = 5", "unknown key 'retention'"),
        ("[controller]", "[comptroller]", r"\[controller\] is missing"),
        ("[owners]", "[holders]", r"\[owners\] is missing"),
        ("jurisdiction =", "jurisdicton =", r"unknown key 'jurisdicton' in \[processing\]"),
        ("phone =", "fax =", r"unknown key 'fax' in \[controller\]"),
        ('contact = "complaints@authority.example"', "", "contact is missing"),
        ('["recommendations"]', '"recommendations"', "services is not what it should be"),
        ("format = 1", "format = 1\npurpose = 3", "is not TOML"),
        ("[[field]]", "[field]", "is not TOML"),
    ],
)
def test_files_that_are_none(text: str, old: str, new: str, said: str) -> None:
    with pytest.raises(DataError, match=said):
        Inventory.from_toml(text.replace(old, new, 1).encode())


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('linddun = "identifying"', f'linddun = "{"x" * 5_000}"'),
        ('title = "a released', f'title = "{"x" * 5_000}'),
        ('title = "a released', 'title = "a\\nreleased\\u202e'),
        ('subjects = ["customer"]', f'subjects = ["{"x" * 5_000}"]'),
        ("format = 1", f"format = 1\n{'x' * 5_000} = 1"),
        ("history = 1000", f'history = 1000\n"{"x" * 5_000}" = 1'),
        ("format = 1", f"format = 1\nx = {{{'x' * 5_000} = 1, {'x' * 5_000} = 2}}"),
        ("format = 1", f"format = 1\nx = {'[' * 5_000}{']' * 5_000}"),
        ("format = 1", f"format = 1\nx = {{{'y.' * 2_000}y = 1}}"),
    ],
)
def test_whatever_a_file_says_a_refusal_is_a_line(text: str, old: str, new: str) -> None:
    content = text.replace(old, new, 1).replace("likelihood = 2", "likelihood = 9", 1)
    with pytest.raises((DataError, SettingError)) as refused:
        Inventory.from_toml(content.encode())
    assert str(refused.value).isprintable()
    assert len(str(refused.value)) < 500


def test_what_may_be_left_out(text: str) -> None:
    start, end = text.index("[authority]"), text.index("[owners]")
    without = "\n".join(
        line for line in (text[:start] + text[end:]).splitlines() if not line.startswith(("email", "url", "phone"))
    )
    found = Inventory.from_toml(without.encode())
    assert found.authority is None
    assert not any(vars(found.processing).values())
    assert (found.controller.email, found.controller.url, found.controller.phone) == ("", "", "")
    assert found.terms == Inventory.from_toml(text.encode()).terms


def test_one_table_where_there_may_be_several(text: str) -> None:
    start, end = text.index('[[field]]\nname = "timestamp"'), text.index("[minimisation]")
    with pytest.raises(DataError, match="tables of their own"):
        Inventory.from_toml((text[:start] + text[end:]).replace("[[field]]", "[field]").encode())


def test_bytes_and_paths_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="is not TOML"):
        Inventory.from_toml(b"\xff")
    with pytest.raises(DataError, match="`discreet people inventory FILE --init NAME` writes one"):
        Inventory.read(tmp_path / "none.toml")


def test_an_inventory_without_items_or_purposes(text: str) -> None:
    first, second = text.index("[[field]]"), text.index('[[field]]\nname = "timestamp"')
    with pytest.raises(SettingError, match="item_id is not declared"):
        Inventory.from_toml((text[:first] + text[second:]).encode())
    hidden = text.replace('purposes = ["recommend", "train-recommender"]', 'purposes = ["recommend"]')
    with pytest.raises(PurposeNotAllowed, match="does not let train-recommender read item_id"):
        Inventory.from_toml(hidden.encode()).read_for("train-recommender")


def test_the_vocabulary_says_whose_it_is() -> None:
    import json
    from importlib.resources import files

    stored = json.loads(files("discreet.governance").joinpath("vocabulary.json").read_text())
    assert "CC BY 4.0" in stored["licence"]
    assert "Fides" in stored["source"]
    assert vocabulary()["categories"]["user.behavior.media_consumption"]
