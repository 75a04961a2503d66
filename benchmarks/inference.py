"""What each way to make a list costs the server and the device, in CPU time and bytes, and how far lists agree.

    python benchmarks/inference.py --out docs

Made-up factors of 64 numbers, in a spectrum that falls; 60 histories of 5 to 60 items. Writes inference-measured.md
into the folder ``--out``. Fails if a score is not exact, or a record is not the one that was asked for.
"""

from __future__ import annotations

import argparse
import math
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from quality import machine

from discreet.data.catalogue import Catalogue
from discreet.inference import on_device, outline, plain, retrieved, shared
from discreet.models.subspace import Subspace
from discreet.models.trained import Trained
from discreet.privacy.guarantee import Guarantee
from discreet.privacy.plan import Plan
from discreet.protocols.retrieval import Fold, Retrieval, Retriever, folded
from discreet.protocols.scoring import LIMIT, Product, Scorer, Scoring

SIZES = (4_000, 20_000, 100_000)
WIDTH, PEOPLE, LISTED, RECORD = 64, 60, 20, 256
RUNS = 15

HEAD = """# Private inference, measured

Written by `benchmarks/inference.py`: what it printed. CPU time of one thread, the median of {runs} runs and their
range; made-up factors of {width} numbers. Bytes are of whole messages; of `plain`, of ids as text. Both of two servers
do the same: time and bytes are of one of them. Large tables are read as fast as memory is, which others may be using:
hence the load. *Agree*: the mean share of a list of {listed} that is on the one of
`plain`. What the figures mean: [private inference](private-inference.md).

    python benchmarks/inference.py
"""

Made = TypeVar("Made")
Times = tuple[float, ...]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, help="folder for inference-measured.md")
    arguments = parser.parse_args()
    lines = []
    for line in measured():
        print(line, flush=True)
        lines.append(line)
    if arguments.out:
        page = "\n".join([HEAD.format(runs=RUNS, width=WIDTH, listed=LISTED), "```", *lines, "```\n"])
        (arguments.out / "inference-measured.md").write_text(page)


def measured() -> Iterator[str]:
    """Yield a line a case."""
    yield f"{machine()}; load before: {os.getloadavg()[0]:.1f}"
    yield ""
    yield f"{'lists':<22}{'items':>8}{'server ms':>20}{'device ms':>20}{'up':>10}{'down':>12}{'agree':>8}"
    for items in SIZES:
        trained = made_up(items)
        people = histories(items)
        yield from (line(name, items, *figures) for name, figures in ways(trained, people))
    yield ""
    yield f"{'scores alone':<22}{'items':>8}{'server ms':>20}{'device ms':>20}{'up':>10}{'down':>12}"
    for items in SIZES:
        for name, product in (("compiled", shared.PRODUCT), ("NumPy alone", None)):
            yield line(name, items, *scores(items, product))
    yield ""
    yield f"{'records of 256 bytes':<22}{'records':>8}{'server ms':>20}{'device ms':>20}{'up':>10}{'down':>12}"
    for items in SIZES:
        for name, fold in (("one, compiled", retrieved.FOLD), ("one, NumPy alone", folded)):
            yield line(name, items, *record(items, fold))


def ways(trained: Trained, people: list[list[int]]) -> Iterator[tuple[str, tuple[Any, ...]]]:
    """Yield each way to make lists, with times of server and device, bytes up and down, and agreement."""
    wanted = [trained.recommend(history, LISTED).items for history in people]
    server_times, _ = timed(lambda: trained.recommend(people[0], LISTED))
    agree = agreement(plain.Plain(trained, LISTED), people, wanted)
    yield "plain", (server_times, (), len(",".join(map(str, people[0]))), len(",".join(map(str, wanted[0]))), agree)
    device = on_device.OnDevice.here(trained, LISTED)
    _, (request, kept) = timed(lambda: device.ask(people[0]))
    server_times, reply = timed(lambda: device.answer(request))
    device.read(reply, kept)
    held = on_device.Reply(reply.version, None)
    device_times, _ = timed(lambda: device.read(held, kept))
    model = len(reply.model or b"")
    yield "on_device, first time", ((), (), 0, model, None)
    yield "on_device, then", (server_times, device_times, 64, 64, agreement(device, people, wanted))
    yield from two_servers(trained, people, wanted)


def two_servers(
    trained: Trained, people: list[list[int]], wanted: list[tuple[str | int, ...]]
) -> Iterator[tuple[str, tuple[Any, ...]]]:
    both = shared.Shared.here(trained, LISTED)
    (places, *_) = both.device.wanted(people[0])
    fetching, retrieval = timed(lambda: both.device.fetch(places))
    server_times, row = timed(lambda: both.servers[0].row(retrieval.questions[0]))
    yield "shared, 16 rows once", (server_times, fetching, len(retrieval.questions[0]), len(row), None)
    agree = agreement(both, people, wanted)
    asking, (request, kept) = timed(lambda: both.ask(people[0]))
    server_times, first = timed(lambda: both.servers[0].answer(request[0]))
    start = time.process_time()
    both.read((first, both.servers[0].answer(request[1])), kept)
    reading = 1e3 * (time.process_time() - start) - float(np.median(server_times))
    device_times = tuple(each + reading for each in asking)
    yield "shared, a list", (server_times, device_times, len(request[0]), len(first), agree)


def scores(items: int, product: Product | None) -> tuple[Times, Times, int, int]:
    """Return what the scores of one query cost: times of a server and of the device, bytes up and down."""
    random = np.random.default_rng(3)
    matrix, _ = outline.quantised(random.standard_normal((items, WIDTH)), shared.MOST)
    scorer = Scorer(matrix, product)
    query, _ = outline.finest(random.standard_normal(WIDTH), scorer.terms.longest, math.sqrt(LIMIT))
    device_times, scoring = timed(lambda: Scoring(scorer.terms, query))
    server_times, first = timed(lambda: scorer.answer(scoring.questions[0]))
    if not (scoring.read((first, scorer.answer(scoring.questions[1]))) == matrix.astype(np.int64) @ query).all():
        raise RuntimeError("a score is wrong")
    return server_times, device_times, len(scoring.questions[0]), len(first)


def record(items: int, fold: Fold) -> tuple[Times, Times, int, int]:
    """Return what one record of a table costs: times of a server and of the device, bytes up and down."""
    content = os.urandom(items * RECORD)
    retriever = Retriever([content[start : start + RECORD] for start in range(0, len(content), RECORD)], fold)
    at = items // 3
    device_times, retrieval = timed(lambda: Retrieval(retriever.terms, [at]))
    server_times, first = timed(lambda: retriever.answer(retrieval.questions[0]))
    if retrieval.read((first, retriever.answer(retrieval.questions[1])))[0] != content[at * RECORD :][:RECORD]:
        raise RuntimeError("a record is wrong")
    return server_times, device_times, len(retrieval.questions[0]), len(first)


def agreement(way: Any, people: list[list[int]], wanted: list[tuple[str | int, ...]]) -> float:
    """Return the mean share of a list that is wanted."""
    shares = []
    for history, listed in zip(people, wanted, strict=True):
        request, kept = way.ask(history)
        shares.append(len({*way.read(way.answer(request), kept)} & {*listed}) / LISTED)
    return float(np.mean(shares))


def timed(work: Callable[[], Made]) -> tuple[Times, Made]:
    """Return CPU times in ms, after a first run that does not count, and what was made."""
    made, times = work(), []
    for _ in range(RUNS):
        start = time.process_time()
        made = work()
        times.append(1e3 * (time.process_time() - start))
    return tuple(times), made


def line(name: str, items: int, server: Times, device: Times, up: int, down: int, agree: float | None = None) -> str:
    """Return a line of the table."""
    told = "" if agree is None else f"{agree:>8.4f}"
    return f"{name:<22}{items:>8,}{spread(server):>20}{spread(device):>20}{up:>10,}{down:>12,}{told}"


def spread(values: Times) -> str:
    """Return the median and the range."""
    return f"{np.median(values):.2f} ({min(values):.2f}-{max(values):.2f})" if values else ""


def made_up(items: int) -> Trained:
    """Return a model with factors like those of a catalogue: a spectrum that falls, rows of uneven length."""
    random = np.random.default_rng(items)
    spectrum = np.arange(1, WIDTH + 1) ** -0.5
    lengths = random.uniform(0.5, 2.0, (items, 1))
    decoder = random.standard_normal((items, WIDTH)) * spectrum * lengths
    encoder = decoder * random.uniform(0.5, 2.0, (items, 1)) * spectrum
    model = Subspace(people=items, mu=None, items=items, kept=items, scouted=items, rank=WIDTH - 1)
    state: dict[str, NDArray[Any]] = {
        "round": np.array(model.rounds),
        "counts": random.pareto(1.0, items).astype(np.float32),
        "precision": np.array(1.0),
        "kept": np.arange(items),
        "encoder": encoder.astype(np.float32),
        "decoder": decoder.astype(np.float32),
    }
    plan = Plan(bounds=(1 << 14,) * model.rounds, delta=1e-6, noise="none")
    catalogue = Catalogue(tuple(range(items)))
    return Trained(model, state, plan, Guarantee.of(plan), catalogue, "made up", "measure-quality", items)


def histories(items: int) -> list[list[int]]:
    """Return distinct items of each person."""
    random = np.random.default_rng(1)
    return [random.choice(items, random.integers(5, 61), replace=False).tolist() for _ in range(PEOPLE)]


if __name__ == "__main__":
    main()
