"""What protocols between organisations, and records from one server, cost each party, in CPU time and in bytes.

    python benchmarks/silos.py --out docs

Made-up identifiers, scores and records. Writes silos-measured.md into the folder ``--out``. Fails if an intersection, a
sum or a record is not the right one.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import TypeVar

import numpy as np
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from pages import printed
from quality import machine

from discreet.data.catalogue import Catalogue
from discreet.inference.ensemble import agreement
from discreet.inference.hinted import MULTIPLIED
from discreet.protocols.ensemble import Organisation, Summing
from discreet.protocols.intersection import Answerer, Asker, IntersectionTerms
from discreet.protocols.keys import public_bytes
from discreet.protocols.simple_pir import Fetcher, Fetching, Hint

SETS = ((10_000, 10_000), (100_000, 10_000))
ORGANISATIONS, ITEMS = (3, 10), 20_000
TABLES, RECORD = (100_000, 1_048_576), 256
RUNS = 3
QUICK_RUNS = 15

HEAD = """# Between organisations, measured

Written by `benchmarks/silos.py`: what it printed. CPU time of each party, the median and the range of {runs} runs, of
{quick} where a run is less than a second; bytes of whole messages that it sends. Of an ensemble, an organisation's time
is without that of its model. A hint is made, and downloaded, once for each version of a table.

    python benchmarks/silos.py
"""

Made = TypeVar("Made")
Times = tuple[float, ...]


def main() -> None:
    printed(__doc__, "silos-measured.md", HEAD.format(runs=RUNS, quick=QUICK_RUNS), measured())


def measured() -> Iterator[str]:
    """Yield a line a case."""
    yield f"{machine()}; load before: {os.getloadavg()[0]:.1f}"
    yield ""
    yield head("intersection", "asker s", "answerer s", "asker bytes", "answerer bytes")
    for sizes in SETS:
        name = f"{sizes[0]:,} of the asker, {sizes[1]:,}"
        yield line(name, *zip(*[shared(*sizes) for _ in range(RUNS)], strict=True))
    yield ""
    yield head(f"ensemble, {ITEMS:,} items", "organisation ms", "asker ms", "each bytes", "asker bytes")
    for count in ORGANISATIONS:
        yield line(f"{count} organisations", *zip(*[summed(count) for _ in range(QUICK_RUNS)], strict=True))
    yield ""
    yield head(f"one server, {RECORD} bytes each", "server ms", "client ms", "server bytes", "client bytes")
    for records in TABLES:
        yield from fetched(records)


def shared(asking: int, answering: int) -> tuple[float, float, int, int]:
    """Return seconds of both parties, and bytes that they send, where both learn what is in half of the smaller set."""
    half = min(asking, answering) // 2
    ours = [b"person-%d@example.org" % number for number in range(asking)]
    theirs = [b"person-%d@example.org" % (number + asking - half) for number in range(answering)]
    terms = IntersectionTerms(os.urandom(32), bytes(32), b"one", b"other", asking, answering, 1, 0)
    asker, answerer = Asker(terms, ours), Answerer(terms, theirs)
    asking_time, question = timed(asker.ask)
    answering_time, answer = timed(lambda: answerer.answer(question))
    reading_time, found = timed(lambda: asker.read(answer))
    told = asker.tell()
    told_time, also = timed(lambda: answerer.read(told))
    if found != also or found.identifiers != tuple(sorted(set(ours) & set(theirs))) or found.count != half:
        raise RuntimeError("the intersection is wrong")
    return asking_time + reading_time, answering_time + told_time, len(question) + len(told), len(answer)


def summed(count: int) -> tuple[float, float, int, int]:
    """Return milliseconds of one organisation and of the asker, and bytes that each sends."""
    keys = [X25519PrivateKey.generate() for _ in range(count)]
    terms = agreement(Catalogue(tuple(range(ITEMS))), list(map(public_bytes, keys)), range(1, count + 1))
    organisations = [Organisation(terms, key) for key in keys]
    scores = np.random.default_rng(0).integers(0, terms.most, (count, ITEMS), endpoint=True)
    nonces = [each.open() for each in organisations]
    opening, summing = timed(lambda: Summing(terms, nonces))
    answered = [timed(partial(each.answer, summing.sitting, scores[each.seat])) for each in organisations]
    reading, total = timed(lambda: summing.read({seat: content for seat, (_, content) in enumerate(answered)}))
    if not (total == np.arange(1, count + 1) @ scores).all():
        raise RuntimeError("the sum is wrong")
    mean = sum(spent for spent, _ in answered) / count
    sent = len(nonces[0]) + len(answered[0][1])
    return 1e3 * mean, 1e3 * (opening + reading), sent, count * len(summing.sitting)


def fetched(records: int) -> Iterator[str]:
    """Yield a line of one record's cost, and one of the hint."""
    content = os.urandom(records * RECORD)
    table = [content[at : at + RECORD] for at in range(0, len(content), RECORD)]
    making, fetcher = timed(lambda: Fetcher(table, MULTIPLIED))
    hint = Hint(fetcher.terms, fetcher.hint)
    fetcher.answer(Fetching(hint, 0).question)  # compiles
    yield line(
        f"{records:,} records", *zip(*[one(fetcher, hint, table, run) for run in range(QUICK_RUNS)], strict=True)
    )
    yield line("its hint, once", (1e3 * making,), (), (len(fetcher.hint),), (0,))


def one(fetcher: Fetcher, hint: Hint, table: list[bytes], run: int) -> tuple[float, float, int, int]:
    """Return milliseconds of the server and of the client, and bytes that each sends."""
    at = run * len(table) // QUICK_RUNS
    asking, fetching = timed(lambda: Fetching(hint, at))
    serving, answer = timed(lambda: fetcher.answer(fetching.question))
    reading, record = timed(lambda: fetching.read(answer))
    if record != table[at]:
        raise RuntimeError("a record is wrong")
    return 1e3 * serving, 1e3 * (asking + reading), len(answer), len(fetching.question)


def timed(work: Callable[[], Made]) -> tuple[float, Made]:
    """Return CPU seconds, and what was made."""
    start = time.process_time()
    made = work()
    return time.process_time() - start, made


def head(name: str, *columns: str) -> str:
    """Return the head of a table."""
    one, other, sent, also = columns
    return f"{name:<30}{one:>24}{other:>24}{sent:>16}{also:>16}"


def line(name: str, one: Times, other: Times, sent: tuple[int, ...], also: tuple[int, ...]) -> str:
    """Return a line of a table."""
    return f"{name:<30}{spread(one):>24}{spread(other):>24}{max(sent):>16,}{max(also):>16,}"


def spread(values: Times) -> str:
    """Return the median and the range."""
    return f"{np.median(values):.2f} ({min(values):.2f}-{max(values):.2f})" if values else ""


if __name__ == "__main__":
    main()
