"""How fast the parts are: noise, ledger, training, start-up, and what travels to a device.

    python benchmarks/speed.py                                   # MovieLens-100K
    python benchmarks/speed.py shop=ratings.parquet

Each figure is the median of several runs after a warm-up, with the extremes; CPU time is of the process, all threads.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from importlib.metadata import distributions
from pathlib import Path

from quality import machine, opened

from discreet import Account, Ledger, Trained
from discreet.data.interactions import Histories
from discreet.evaluation.tradeoff import fit_unbilled
from discreet.governance.witness import Witness
from discreet.inference.on_device import OnDevice
from discreet.privacy.mechanisms.gaussian import draw
from discreet.randomness import NoiseSource

RUNS = 5
Clock = Callable[[], float]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", nargs="?", help="NAME=FILE of interactions; MovieLens-100K if none is given")
    arguments = parser.parse_args()
    print(machine())
    noise()
    with tempfile.TemporaryDirectory() as folder:
        ledger(Path(folder))
        heads(Path(folder))
    training(opened(arguments.data))
    start_up()


def timed(action: Callable[[], object], clock: Clock = time.perf_counter) -> list[float]:
    """Return seconds of each run after one that is not counted."""
    action()
    seconds = []
    for _ in range(RUNS):
        started = clock()
        action()
        seconds.append(clock() - started)
    return seconds


def show(what: str, values: list[float], unit: str) -> None:
    """Print median, least and most."""
    print(f"{what}: {statistics.median(values):,.3g} {unit} ({min(values):,.3g} to {max(values):,.3g}, {RUNS} runs)")


def noise() -> None:
    """Draw ten million rounded Gaussians, ChaCha20 included."""
    count = 10_000_000
    show("noise", [count / s / 1e6 for s in timed(lambda: draw(count, NoiseSource()))], "million draws/s, one thread")


def ledger(folder: Path) -> None:
    """Reserve durably (WAL, synchronous=FULL), one at a time."""
    account, count = Account("speed", "measure"), 400
    names = iter(range(1_000_000))
    with Ledger(folder / "ledger.db") as book:
        book.open_budget(account, epsilon=30.0, delta=1e-6)

        def reserve() -> None:
            for _ in range(count):
                book.reserve(account, cost=1, release=f"r{next(names)}", spec="0" * 64)

        show("ledger", [count / s for s in timed(reserve)], "durable reservations/s")


def heads(folder: Path) -> None:
    """Grow a journal to a million rows; hold it against its witness, as at each start; and cover one more row."""
    file, witness = folder / "long.db", folder / "heads"
    with Ledger(file) as book:
        for rows in (100_000, 1_000_000):
            with book._db.transaction():
                for _ in range(rows - 1 - book.journal.head().seq):
                    book.journal.append("collect", batch="0" * 64)
            kept = Witness(witness)
            kept.keep(book.journal)
            show(f"witness, {rows:,} rows", timed(lambda: Witness(witness).check(book.journal)), "s to open")
            covered = timed(partial(_one_more, book, kept))
            show(f"witness, {rows:,} rows", [1000 * s for s in covered], "ms to write a row and cover it")


def _one_more(book: Ledger, kept: Witness) -> None:
    with book._db.transaction():
        book.journal.append("collect", batch="0" * 64)
    kept.keep(book.journal)


def training(histories: Histories) -> None:
    """Train the default model at epsilon 1, and list for a thousand people on the server and on the device."""
    seconds = timed(lambda: fit_unbilled(histories, 1.0), time.process_time)
    show(f"training {histories.dataset}, {len(histories):,} people, epsilon 1, compiled", seconds, "s of CPU time")
    trained = fit_unbilled(histories, 1.0)
    device = OnDevice.here(trained, 20)
    print(f"on the device: {len(device.answer(device.ask([])[0]).model or b''):,} bytes once, ", end="")
    print(f"whole file {len(trained.to_bytes()):,}; {agreement(trained, histories):.2%} of the server's top 20")


def agreement(trained: Trained, histories: Histories) -> float:
    """Return the share of the server's top 20 that the device lists too, over up to 1,000 people."""
    device = OnDevice.here(trained, 20)
    shared = listed = 0
    for row in range(min(1_000, len(histories))):
        history = [histories.catalogue.ids[item] for item in histories.matrix[[row]].indices]
        here = set(trained.recommend(history, 20))
        request, kept = device.ask(history)
        shared += len(here & set(device.read(device.answer(request), kept)))
        listed += len(here)
    return shared / listed


def start_up() -> None:
    """Start the interpreter and import, or print the help."""
    for what, code in {
        "import discreet": "import discreet",
        "discreet --help": "import sys; sys.argv=['discreet', '--help']; from discreet.cli import main; main()",
    }.items():
        command = [sys.executable, "-c", code]
        show(what, timed(partial(subprocess.run, command, check=True, capture_output=True)), "s")
    print(f"installed: {len(list(distributions()))} packages in this environment")


if __name__ == "__main__":
    main()
