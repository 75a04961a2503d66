"""What each way to make a list costs servers and devices, in CPU time and bytes, and how far lists agree.

    DISCREET_SPU_PYTHON=spu/bin/python python benchmarks/inference.py --out docs

Servers are processes, asked over HTTPS. Made-up factors of 64 numbers, in a spectrum that falls; histories of 5 to 60
items. Writes inference-measured.md into the folder ``--out``. Fails if a score is not exact, a page or a record is not
the one that was asked for.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from pages import printed
from quality import machine

from discreet.cli.inference_demo import STARTING, Servers, serving
from discreet.cli.processes import free_port, start, stopping
from discreet.data.importing import import_interactions
from discreet.engines.spu import PYTHON
from discreet.evaluation.advice import histories, made_up
from discreet.governance.ledger import Account, Ledger
from discreet.inference import outline, retrieved, shared
from discreet.models.trained import Trained
from discreet.protocols.ranking import SEATS
from discreet.protocols.retrieval import Fold, Retrieval, Retriever, folded
from discreet.protocols.scoring import LIMIT, Product, Scorer, Scoring
from discreet.service.afar import reached
from discreet.service.certificates import certify_loopback

SIZES = (4_000, 20_000, 100_000)
WIDTH, PEOPLE, LISTED, RECORD = 64, 60, 20, 256
RUNS, EPSILON = 15, 0.1
OFFERED = (("on_device", "shared", "retrieved", "garbled", "encrypted"), ("shared", "retrieved", "garbled"))
COUNTS = {"on_device": 1, "shared": 2, "garbled": 2, "encrypted": 1}

HEAD = """# Private inference, measured

Written by `benchmarks/inference.py`: what it printed. Servers are processes, asked over HTTPS on this machine, one
question at a time. *Server ms*: CPU time of the busiest server, all of it: HTTP, TLS, worker processes, and, of
`garbled`, the garbling that is made for the next question. *Device ms*: CPU time of the process that asks, TLS
included. *All ms*: until the list is there. Medians of {runs} and their range; made-up factors of {width} numbers.
Bytes are of bodies, of all servers together; *first* includes what a device has to know of the model. *Agree*: the mean
share of a list of {listed} that is on the model's own; `garbled` finds lists among the 4,000 most frequent items, and
is held against the best of these; `noisy`, one release at epsilon {epsilon}, made when its server starts, is held
against the list of exact counts, which fall as the model's do: fewer than ten an item. `mpc`: servers with SPU's
processes beside them. Large tables are read as fast as memory is, which others may be using: hence the load. What the
figures mean: [private inference](private-inference.md).

    DISCREET_SPU_PYTHON=spu/bin/python python benchmarks/inference.py
"""

Made = TypeVar("Made")
Times = tuple[float, ...]
Asked = tuple[tuple[float, float, float], Any]


def main() -> None:
    head = HEAD.format(runs=RUNS, width=WIDTH, listed=LISTED, epsilon=EPSILON)
    printed(__doc__, "inference-measured.md", head, measured())


def measured() -> Iterator[str]:
    """Yield a line a case."""
    yield f"{machine()}; load before: {os.getloadavg()[0]:.1f}"
    yield ""
    yield f"{'lists':<18}{'items':>8}{'server ms':>22}{'device ms':>22}{'all ms':>22}{'up':>10}{'down':>11}{'agree':>8}"
    for items in SIZES:
        with TemporaryDirectory() as name, stopping([]) as processes:
            trained, folder = made_up(items, WIDTH), Path(name)
            (folder / "model.npz").write_bytes(trained.to_bytes())
            pages = written_pages(folder / "pages.csv", items)
            more = ["--pages", str(folder / "pages.csv")]
            servers = serving(folder, folder / "model.npz", OFFERED, processes, more, LISTED)
            yield from ways(trained, servers)
            yield page(servers, pages, items)
            memory = ", ".join(f"{resident(process.running.pid) / 1e6:,.0f} MB" for process in processes)
            yield f"{'servers hold':<18}{items:>8,}  {memory}: all ways so far at once, workers beside"
        yield from noisy(items)
        if os.environ.get(PYTHON):
            yield from mpc(items)
    if not os.environ.get(PYTHON):
        yield f"mpc is left out: {PYTHON} names no Python that has SPU"
    yield ""
    yield f"{'scores alone':<18}{'items':>8}{'server ms':>20}{'device ms':>20}{'up':>10}{'down':>12}"
    for items in SIZES:
        for name, product in (("compiled", shared.PRODUCT), ("NumPy alone", None)):
            yield kernel(name, items, *scores(items, product))
    yield ""
    yield f"{'256 bytes':<18}{'records':>8}{'server ms':>20}{'device ms':>20}{'up':>10}{'down':>12}"
    for items in SIZES:
        for name, fold in (("one, compiled", retrieved.FOLD), ("one, NumPy alone", folded)):
            yield kernel(name, items, *record(items, fold))


def ways(trained: Trained, servers: Servers) -> Iterator[str]:
    """Yield the lines of each way that needs the model alone."""
    candidates = {*np.argsort(-trained.state["counts"], kind="stable")[:4_000].tolist()}
    for way, count in COUNTS.items():
        right = partial(wanted, trained, within=candidates if way == "garbled" else None)
        yield from of_way(way, servers, count, len(trained.catalogue), right)


def noisy(items: int) -> Iterator[str]:
    """Yield the lines of lists of live data; each item has a choice, and most choices are of few items."""
    with TemporaryDirectory() as name, stopping([]) as processes:
        folder, trained = Path(name), made_up(items, WIDTH)
        (folder / "model.npz").write_bytes(trained.to_bytes())
        order = np.argsort(-chosen(folder / "live.parquet", trained), kind="stable").tolist()
        with Ledger(folder / "ledger.db") as ledger:
            ledger.open_budget(Account("live", "trending", by_interaction=True), epsilon=1.0, delta=1e-6)
        live = {"live": "live.parquet", "ledger": "ledger.db", "folder": "live"}
        more = [part for option, path in live.items() for part in (f"--{option}", str(folder / path))]
        servers = serving(folder, folder / "model.npz", [["noisy"]], processes, [*more, "--epsilon", str(EPSILON)])

        def exact(history: list[int]) -> list[int]:
            return [item for item in order[: LISTED + len(history)] if item not in history][:LISTED]

        yield from of_way("noisy", servers, 1, items, exact)


def chosen(path: Path, trained: Trained) -> NDArray[np.int64]:
    """Write who chose what; return how many chose each item."""
    items, random = len(trained.catalogue), np.random.default_rng(4)
    often = trained.state["counts"].astype(float)
    drawn = random.choice(items, 9 * items, p=often / often.sum())
    people = random.integers(0, items // 4, 10 * items)
    pairs = np.unique(np.stack([people, np.concatenate([np.arange(items), drawn])]), axis=1)
    columns = {"user_id": pairs[0].tolist(), "item_id": pairs[1].tolist()}
    import_interactions(columns, path, name="live", purposes=["trending"])
    return np.bincount(pairs[1], minlength=items)


def mpc(items: int) -> Iterator[str]:
    """Yield the lines of lists by three servers, each with SPU's process beside it."""
    with TemporaryDirectory() as name, stopping([]) as processes:
        folder, trained = Path(name), made_up(items, WIDTH)
        model, dealt, log = folder / "model.npz", folder / "dealt", folder / "errors.txt"
        model.write_bytes(trained.to_bytes())
        dealing = start(["discreet", "inference", "deal", model, "--out", dealt, "--n", LISTED], log)
        dealing.ended(time.monotonic() + STARTING)
        certificate, key = certify_loopback(folder)
        linked = [part for _ in range(SEATS) for part in ("--party", f"127.0.0.1:{free_port()}")]
        servers = Servers(processes, [free_port() for _ in range(SEATS)], certificate)
        for seat, port in enumerate(servers.ports):
            held = [dealt / f"seat-{seat}.share", "--outline", dealt / "outline.npz", "--link", "measured", *linked]
            where = ["--port", port, "--certificate", certificate, "--key", key]
            processes.append(start(["discreet", "inference", "party", *held, *where], log))
        servers.ready()
        yield from of_way("mpc", servers, SEATS, items, partial(wanted, trained))


def of_way(
    way: str, servers: Servers, count: int, items: int, right: Callable[[list[int]], list[int]]
) -> Iterator[str]:
    """Yield a line for the first list of a way, and one for those that follow.

    Args:
        way: its name.
        servers: the first ``count`` of these are asked.
        count: of servers.
        items: of the model.
        right: the list that there is to be for a history.
    """
    people = histories(items, PEOPLE)
    wires, traffic = servers.wires(count)
    recommender = reached(way, wires, LISTED)
    known = traffic.taken()
    first = asked(recommender, people[0], servers)
    sent = traffic.taken()
    yield line(f"{way}, first", items, [first], (known[0] + sent[0], known[1] + sent[1]))
    again = [asked(recommender, people[0], servers) for _ in range(RUNS)]
    up, down = traffic.taken()
    shares = []
    for history in people:
        request, kept = recommender.ask(history)
        made = recommender.read(recommender.answer(request), kept)
        shares.append(len({*made} & {*right(history)}) / LISTED)
    yield line(way, items, again, (up // RUNS, down // RUNS), float(np.mean(shares)))


def wanted(trained: Trained, history: list[int], within: set[int] | None = None) -> list[int]:
    """Return the model's own list, of some items alone if they are given."""
    length = LISTED if within is None else len(trained.catalogue)
    ranked = [int(item) for item in trained.recommend(history, length)]
    return [item for item in ranked if within is None or item in within][:LISTED]


def asked(recommender: Any, history: list[int], servers: Servers) -> Asked:
    """Ask once; return ms of the busiest server, of the device, and in all, and what was read."""
    before, own, begun = servers.cpu(), time.process_time(), time.perf_counter()
    request, kept = recommender.ask(history)
    made = recommender.read(recommender.answer(request), kept)
    whole, device = time.perf_counter() - begun, time.process_time() - own
    servers.settle()  # what a server does after it has answered is its work, too
    server = max(after - since for after, since in zip(servers.cpu(), before, strict=True))
    return (1e3 * server, 1e3 * device, 1e3 * whole), made


def page(servers: Servers, pages: list[str], items: int) -> str:
    """Return the line of one page that is fetched unseen."""
    wires, traffic = servers.wires(2)
    reader, found = reached("retrieved", wires, 1), []
    traffic.taken()
    for at in np.random.default_rng(2).integers(0, items, RUNS).tolist():
        found.append(asked(reader, [at], servers))
        if found[-1][1] != (pages[at].encode(),):
            raise RuntimeError("a page is wrong")
    up, down = traffic.taken()
    return line("retrieved, a page", items, found, (up // RUNS, down // RUNS))


def written_pages(path: Path, items: int) -> list[str]:
    """Write pages that make records of 256 bytes."""
    content = os.urandom(items * 126).hex()
    pages = [content[start : start + 252] for start in range(0, len(content), 252)]
    path.write_text("item_id,page\n" + "\n".join(f"{at},{text}" for at, text in enumerate(pages)))
    return pages


def resident(pid: int) -> int:
    """Return the bytes of memory that a process has."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE")


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


def timed(work: Callable[[], Made]) -> tuple[Times, Made]:
    """Return CPU times in ms, after a first run that does not count, and what was made."""
    made, times = work(), []
    for _ in range(RUNS):
        start = time.process_time()
        made = work()
        times.append(1e3 * (time.process_time() - start))
    return tuple(times), made


def line(name: str, items: int, found: list[Asked], sizes: tuple[int, int], agree: float | None = None) -> str:
    """Return a line of the table of lists."""
    columns = "".join(f"{spread(each):>22}" for each in zip(*(times for times, _ in found), strict=True))
    told = "" if agree is None else f"{agree:>8.4f}"
    return f"{name:<18}{items:>8,}{columns}{sizes[0]:>10,}{sizes[1]:>11,}{told}"


def kernel(name: str, items: int, server: Times, device: Times, up: int, down: int) -> str:
    """Return a line of the tables of parts."""
    return f"{name:<18}{items:>8,}{spread(server):>20}{spread(device):>20}{up:>10,}{down:>12,}"


def spread(values: Times) -> str:
    """Return the median and the range."""
    if len(values) == 1:
        return f"{values[0]:.1f}"
    return f"{np.median(values):.1f} ({min(values):.1f}-{max(values):.1f})"


if __name__ == "__main__":
    main()
