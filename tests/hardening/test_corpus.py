"""Inputs that were searched for, or once broke something, fed to every parser; and some more, changed on the spot."""

import random
from pathlib import Path

import fuzz
import mutations
import pytest
import targets

from discreet.errors import ArtefactError, DataError, DiscreetError

NAMES = sorted(targets.TARGETS)


def test_every_target_has_a_corpus() -> None:
    folders = {path.name for path in targets.CORPUS.iterdir() if path.is_dir()}
    assert folders == set(NAMES)
    assert all(target.corpus for target in targets.TARGETS.values())


@pytest.mark.parametrize(
    ("name", "path"),
    [(name, path) for name in NAMES for path in targets.TARGETS[name].corpus],
    ids=lambda each: str(getattr(each, "name", each)),
)
def test_what_is_kept(name: str, path: Path) -> None:
    targets.TARGETS[name].run(path.read_bytes())


@pytest.mark.parametrize("name", NAMES)
def test_a_hundred_changes(name: str) -> None:
    target = targets.TARGETS[name]
    seeds = [path.read_bytes() for path in target.corpus]
    for seed in range(100):
        draw = random.Random(seed)
        target.run(target.mutate(draw.choice(seeds), draw))


@pytest.mark.parametrize(
    "name",
    [
        *("model", "gains", "csv", "parquet", "ledger", "journal", "proof", "witness", "catalogue", "levels"),
        *("collected", "lines", "sent", "receipt", "inventory", "master"),
    ],
)
def test_what_the_product_wrote_is_accepted(name: str) -> None:
    target = targets.TARGETS[name]
    assert any(target.run(path.read_bytes()) for path in target.corpus)


def test_changes_reach_behind_the_seal() -> None:
    """Or a search would only ever see that a hash does not fit."""
    target, reasons = targets.TARGETS["model"], set()
    content = target.corpus[0].read_bytes()
    for seed in range(60):
        try:
            target.feed(mutations.archive(content, random.Random(seed)))
        except DiscreetError as refused:
            reasons.add(str(refused).split(";")[0])
    assert len([reason for reason in reasons if "damaged" not in reason and "changed after" not in reason]) > 5


@pytest.mark.parametrize(
    "wrong",
    [
        DataError("two\nlines"),
        DataError("x" * 3_000),
        DataError(f"column 'a', {targets.PERSON}"),
        ValueError("untyped"),
    ],
)
def test_the_property_can_fail(wrong: Exception) -> None:
    def feed(_: bytes) -> None:
        raise wrong

    with pytest.raises((AssertionError, ValueError)):
        targets.Target("broken", feed, mutations.raw).run(b"")


def test_a_refusal_is_no_failure() -> None:
    def feed(_: bytes) -> None:
        raise ArtefactError("not a model; retrain it")

    assert not targets.Target("strict", feed, mutations.raw).run(b"")


def test_mutations_are_repeated_by_their_seed() -> None:
    for target in targets.TARGETS.values():
        content = target.corpus[0].read_bytes()
        first, second = (target.mutate(content, random.Random(5)) for _ in range(2))
        assert first == second


def test_what_is_printed_of_a_search() -> None:
    assert str(fuzz.Outcome("model", 1_000, 2.0, broken=False)) == "fuzz: model: 1,000 inputs, 500/s, nothing broke"
