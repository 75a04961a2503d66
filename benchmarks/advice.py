"""The table of `discreet advise`, measured on this machine, as a page.

    DISCREET_SPU_PYTHON=spu/bin/python python benchmarks/advice.py --out docs

Writes advice-measured.md into the folder ``--out``. Without SPU's Python ``mpc`` is not measured, and says so.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from quality import machine

from discreet.engines.seal import Seal
from discreet.engines.spu import PYTHON, Parties
from discreet.evaluation.advice import Cost, Option, advise, measure

ITEMS, DIM = 100_000, 64
NETWORK: dict[str, Any] = {"bandwidth": 5e6, "rtt": 0.04, "latency": 0.3, "trust": "three-servers"}

HEAD = f"""# Which way to make lists, as `discreet advise` has it

Written by `benchmarks/advice.py`. {ITEMS:,} items, factors of {DIM} numbers, a device with 5 Mbit and a round trip of
40 ms, a list within 300 ms; up to three servers of which no two tell each other. Work is measured here, in one process,
the network is arithmetic; of `mpc`, round trips between servers are an upper estimate. As processes over HTTPS:
[measured](inference-measured.md). What the ways are: [private inference](private-inference.md).
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, help="folder for advice-measured.md")
    arguments = parser.parse_args()
    with ExitStack() as stack:
        engine = stack.enter_context(Parties()) if os.environ.get(PYTHON) else None
        costs = measure(ITEMS, DIM, Seal(), engine)
    page = "\n".join([HEAD, *lines(costs), ""])
    print(page)
    if arguments.out:
        (arguments.out / "advice-measured.md").write_text(page)


def lines(costs: dict[str, Cost]) -> Iterator[str]:
    """Yield the page's table and advice."""
    advice = {model: advise(costs, **NETWORK, model=model) for model in ("public", "secret")}
    yield f"{machine()}; load: {os.getloadavg()[0]:.1f}"
    yield ""
    yield (
        "| way | ms | server ms | kB up | kB down | MB once | MB server | MB device "
        "| servers learn | the person learns | assumes | maturity |"
    )
    yield "|---|" + "---:|" * 7 + "---|" * 4
    for option in advice["public"].options:
        yield row(option)
    for model, found in advice.items():
        yield ""
        yield f"A {model} model: **{found.way}**; {found.reason}."


def row(option: Option) -> str:
    """Return a way's line."""
    cost, nature = option.cost, option.nature
    figures = ["not measured here"] + [""] * 6
    if cost is not None and option.latency is not None:
        figures = [f"{1e3 * option.latency:,.0f}", f"{cost.server_ms:,.1f}"]
        figures += [f"{size / 1e3:,.1f}" for size in (cost.up, cost.down)]
        figures += [f"{size / 1e6:,.1f}" for size in (cost.once, cost.server_memory, cost.device_memory)]
    told = [nature.server_learns, nature.person_learns, nature.assumption, nature.maturity]
    return "| " + " | ".join([f"`{option.way}`", *figures, *told]) + " |"


if __name__ == "__main__":
    main()
