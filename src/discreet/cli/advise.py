"""``discreet advise``: which way to make lists privately, measured on this machine."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated

import typer

from discreet.cli.output import Json, progress, say, say_json, screen, table

if TYPE_CHECKING:
    from discreet.evaluation.advice import Advice

UNITS = {"bit": 1.0, "kbit": 1e3, "mbit": 1e6, "gbit": 1e9, "s": 1.0, "ms": 1e-3}


def advise(
    items: Annotated[int, typer.Option("--items", help="In the catalogue.")] = 100_000,
    dim: Annotated[int, typer.Option("--dim", help="Of factors.")] = 64,
    bandwidth: Annotated[
        str, typer.Option("--bandwidth", help="Of a device: kbit, Mbit or Gbit (a second).")
    ] = "5Mbit",
    rtt: Annotated[str, typer.Option("--rtt", help="A round trip: ms or s.")] = "40ms",
    latency: Annotated[str, typer.Option("--latency", help="That a list may have: ms or s.")] = "300ms",
    trust: Annotated[
        str, typer.Option("--trust", help="nobody, two-servers, three-servers or the-server (which then sees all).")
    ] = "two-servers",
    model: Annotated[
        str, typer.Option("--model", help="public, or secret: a person must not get it by asking.")
    ] = "public",
    as_json: Json = False,
) -> None:
    """Measure each way to make lists on this machine, and say which to use. `mpc` needs DISCREET_SPU_PYTHON."""
    import os
    from contextlib import ExitStack
    from importlib.util import find_spec

    from discreet.engines.spu import PYTHON, Parties
    from discreet.evaluation.advice import advise as choose
    from discreet.evaluation.advice import measure

    scheme = None
    if find_spec("seal"):
        from discreet.engines.seal import Seal

        scheme = Seal()
    asked = {"bandwidth": amount(bandwidth, "bit"), "rtt": amount(rtt, "s"), "latency": amount(latency, "s")}
    with ExitStack() as stack, progress() as bars:
        engine = stack.enter_context(Parties()) if os.environ.get(PYTHON) else None
        bar = bars.add_task("measuring", total=4 + (scheme is not None) + (engine is not None))
        costs = measure(items, dim, scheme, engine, lambda way: bars.update(bar, advance=1, description=way))
    advice = choose(costs, **asked, trust=trust, model=model)
    if as_json:
        say_json(advice.to_dict())
    else:
        show(advice, f"{items:,} items of {dim} numbers, {bandwidth}, {rtt}")


def amount(text: str, unit: str) -> float:
    """Return how much a text like 5Mbit or 40ms says, in ``unit``: bit (a second) or s.

    Raises:
        SettingError: it says something else.
    """
    from discreet.errors import SettingError

    found = re.fullmatch(r"(\d{1,12}(?:\.\d{1,12})?)\s*([kmg]?bit|m?s)", text.strip().lower())
    if found is None or not found[2].endswith(unit):
        raise SettingError(f"give {'a bandwidth like 5Mbit' if unit == 'bit' else 'a time like 40ms'}, not {text!r}")
    return float(found[1]) * UNITS[found[2]]


def show(advice: Advice, title: str) -> None:
    """Print a table of all ways, and the advice."""
    shown = table(title, "way", "ms", "server ms", "kB up", "kB down", "MB once", "MB server", "")
    for each in advice.options:
        cost, told = each.cost, [""] * 6
        if cost is not None and each.latency is not None:
            told = [f"{1e3 * each.latency:,.0f}", f"{cost.server_ms:,.1f}"]
            told += [f"{size / 1e3:,.1f}" for size in (cost.up, cost.down)]
            told += [f"{size / 1e6:,.1f}" for size in (cost.once, cost.server_memory)]
        shown.add_row(each.way, *told, "use" if each.way == advice.way else "no" if each.against else "")
    screen.print(shown)
    for each in advice.options:
        nature, no = each.nature, f" NOT HERE: {each.against}." if each.against else ""
        say(
            f"{each.way}: servers learn {nature.server_learns}; the person, {nature.person_learns}. "
            f"Assumes: {nature.assumption}. {nature.maturity}.{no}"
        )
    say(f"{'use ' + advice.way if advice.way else 'none'}: {advice.reason}", "bold")
