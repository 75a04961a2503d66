"""``discreet evaluate``, ``tradeoff``, ``recommend``, ``explain`` and ``card``."""

from __future__ import annotations

import math
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from discreet.cli.data import DEFAULT_LEDGER, LedgerPlace
from discreet.cli.output import Json, progress, say, say_json, screen, table

if TYPE_CHECKING:
    from collections.abc import Sequence

    from discreet.data.interactions import Histories
    from discreet.evaluation.audit.shadow import ShadowAudit
    from discreet.evaluation.coverage import Bias, Reach, Survey
    from discreet.evaluation.ranking import Estimate, Protocol
    from discreet.evaluation.tradeoff import Row
    from discreet.models.explanation import Explanation, Rank
    from discreet.models.recipe import Kind
    from discreet.models.slate import Slate
    from discreet.models.trained import Trained

LEAST_HISTORY = 5
"""Items that someone must have to be measured."""

MOST_REASONS = 3
"""Items of the history that are named beside a rank; --json has all."""

MOST_DIRECTIONS = 10
"""That are shown; --json has all."""

Data = Annotated[Path, typer.Argument(help="An imported data set, or any CSV, TSV or Parquet file.")]
ModelFile = Annotated[Path, typer.Argument(help="A model file.")]
KindOption = Annotated[
    str, typer.Option("--model", help="auto, popularity, subspace, gram, ials, als, als-adaptive or sgd.")
]
ProtocolOption = Annotated[str, typer.Option("--protocol", help="strong or leave-one-out.")]
Seeds = Annotated[int, typer.Option("--seeds", help="How many splits.")]


def evaluate(
    data: Data,
    epsilon: Annotated[float, typer.Option("--epsilon", help="Budget to measure at, in nats.")] = 1.0,
    model: KindOption = "auto",
    protocol: ProtocolOption = "strong",
    seeds: Seeds = 3,
    file: Annotated[
        Path | None, typer.Option("--file", help="Measure this model instead, on people it has not seen.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Measure lists on held-out people. The figures are exact, not private: for whoever may see the data."""
    histories = opened(data)
    if file is None:
        _show_rows(_rows(histories, [epsilon], [model], seeds, protocol), as_json)
        return
    trained, found = _measured(file, histories, protocol)
    if as_json:
        say_json({"model": str(file), "quality": found})
    else:
        shown = table(f"{trained!r} on people of {histories.dataset}", "metric", "mean")
        for name, value in found.items():
            shown.add_row(name, f"{value:.4f}")
        screen.print(shown)


def tradeoff(
    data: Data,
    epsilon: Annotated[list[float] | None, typer.Option("--epsilon", help="May be repeated.")] = None,
    model: Annotated[list[str] | None, typer.Option("--model", help="May be repeated.")] = None,
    protocol: Annotated[
        str | None, typer.Option("--protocol", help="strong (what is meant without it) or leave-one-out.")
    ] = None,
    seeds: Annotated[int | None, typer.Option("--seeds", help="How many splits; 3 if not given.")] = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="Draw the curve here (.svg or .png); with --keep, publish it (.json).")
    ] = None,
    keep: Annotated[
        str | None,
        typer.Option("--keep", help="Share of the gain, such as 75%: find the smallest epsilon, privately and billed."),
    ] = None,
    price: Annotated[
        bool, typer.Option("--price", help="With --keep: say what the search would cost, and stop.")
    ] = False,
    release: Annotated[
        str | None, typer.Option("--release", help="With --keep: id of a search that was cut off, or is published.")
    ] = None,
    ledger: LedgerPlace = DEFAULT_LEDGER,
    as_json: Json = False,
) -> None:
    """Show quality against epsilon, as a table and a chart. Measures on held-out people; publishes no model.

    The figures are exact, for whoever may see the data, but with --keep: then they are private, and the search is
    billed to the data set's budget for measure-quality.
    """
    if keep is not None:
        _check_search(protocol, seeds)
        _searched(
            data, keep, price, ledger, {"epsilons": epsilon, "kinds": model, "release": release, "out": out}, as_json
        )
        return
    _check_curve(price, release)
    rows = _curve(data, epsilon, model, seeds, protocol, out)
    _show_rows(rows, as_json)
    if out and not as_json:
        say(f"chart: {out}")


def _check_search(protocol: str | None, seeds: int | None) -> None:
    from discreet.errors import SettingError

    if protocol not in {None, "strong"} or seeds is not None:
        raise SettingError("--keep measures once, on people held out: leave out --protocol and --seeds")


def _check_curve(price: bool, release: str | None) -> None:
    from discreet.errors import SettingError

    if price or release is not None:
        raise SettingError("--price and --release are of a search: give --keep too")


def _searched(data: Path, keep: str, price: bool, ledger: str, asked: dict[str, Any], as_json: bool) -> None:
    from discreet.cli.search import keep_share, share_of, show_price

    share, histories = share_of(keep), opened(data)
    if price:
        show_price(histories, ledger, asked["epsilons"], asked["kinds"], as_json)
    else:
        keep_share(histories, share, ledger, asked, as_json)


def _curve(
    data: Path,
    epsilons: Sequence[float] | None,
    kinds: Sequence[str] | None,
    seeds: int | None,
    protocol: str | None,
    out: Path | None,
) -> list[Row]:
    from discreet.evaluation.charts import chart_format, draw_tradeoff
    from discreet.training.billing import check_place

    if out:
        chart_format(out)
        check_place(out)
    tried = epsilons or [0.5, 1.0, 2.0, 5.0, 10.0, math.inf]
    many = 3 if seeds is None else seeds
    rows = _rows(opened(data), tried, kinds or ["popularity", "auto"], many, protocol or "strong")
    if out:
        draw_tradeoff(rows, out, metric=next(iter(rows[0].quality)))
    return rows


def recommend(
    file: ModelFile,
    history: Annotated[
        str, typer.Option("--history", help="Item ids, separated by commas or lines; - reads standard input.")
    ] = "",
    n: Annotated[int, typer.Option("--n", help="Length of the list.")] = 10,
    on_device: Annotated[
        bool, typer.Option("--on-device", help="Make the list from the compact model, as a device would.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Make a list for a history. The history is used for this and forgotten."""
    from discreet.inference.on_device import OnDevice
    from discreet.inference.plain import Plain
    from discreet.models.trained import Trained

    items = items_of(history)
    trained = Trained.load(file)
    slate: Slate
    if on_device:
        device = OnDevice.here(trained, n)
        request, kept = device.ask(items)
        slate = device.read(device.answer(request), kept)
    else:
        plain = Plain(trained, n)
        sent, _ = plain.ask(items)
        slate = plain.read(plain.answer(sent), None)
    if as_json:
        say_json({"items": slate.to_dicts(), "unknown": slate.unknown, "private": trained.guarantee.private})
    else:
        show_slate(slate, f"For a history of {len(items)}")
        if slate.unknown:
            say(f"{slate.unknown} of the history's items are not in the catalogue and were left out of account")
        say(trained.guarantee.sentence, "dim" if trained.guarantee.private else "bold red")


def explain(
    file: ModelFile,
    history: Annotated[
        str | None,
        typer.Option("--history", help="Item ids, separated by commas or lines; - reads standard input."),
    ] = None,
    n: Annotated[int, typer.Option("--n", help="Length of the list.")] = 10,
    beside: Annotated[
        Path | None, typer.Option("--beside", help="Data to measure popularity bias on, without privacy.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Say what privacy did: to a list, given a history; else to the model. Costs nothing.

    With a history: which of its items drove each rank, and where the rank would be under other noise. The explanation
    quotes the history, which is used for this and forgotten.

    Without: which directions stood out of the noise, and how much of the catalogue can be recommended at all. Both
    touch nobody's data. With --beside, also how much of what is recommended is popular, against the same model
    without privacy: for whoever may see the data.
    """
    from discreet.errors import SettingError
    from discreet.models.trained import Trained

    if history is not None and beside is not None:
        raise SettingError("--history explains a list and --beside a model: give one of them")
    trained = Trained.load(file)
    if history is None:
        _explain_model(trained, beside, as_json)
    else:
        _explain_list(trained, items_of(history), n, as_json)


def _explain_list(trained: Trained, items: list[str], n: int, as_json: bool) -> None:
    from discreet.models.explanation import DRAWS, explain

    with progress() as bars:
        bar = bars.add_task("drawing other noise", total=DRAWS)
        found = explain(trained, items, n, progress=lambda done: bars.update(bar, completed=done))
    if as_json:
        say_json(found.to_dict() | {"private": trained.guarantee.private})
        return
    _show_explanation(found, f"For a history of {len(items)}")
    if found.unknown:
        say(f"{found.unknown} of the history's items are not in the catalogue and were left out of account")
    if found.silent:
        say(f"{found.silent} of the history's items add nothing here: this model has no personal scores for them")
    say(_on_ranges(found, trained.guarantee.private), "dim")
    rules = {rank.rule for rank in found}
    if "leave-one-out" in rules:
        say(
            "because of: what the score loses without the item; a model that solves for a person does not add up", "dim"
        )


def _explain_model(trained: Trained, beside: Path | None, as_json: bool) -> None:
    from discreet.evaluation.coverage import bias, survey

    with progress() as bars:
        bar = bars.add_task("trying public histories", total=None)
        found = survey(trained, progress=lambda done, whole: bars.update(bar, completed=done, total=whole))
        measured = None
        if beside is not None:
            bars.add_task("training without noise, making lists", total=None)
            measured = bias(trained, opened(beside))
    if as_json:
        say_json(found.to_dict() | {"bias": measured and measured.to_dict(), "private": trained.guarantee.private})
        return
    _show_directions(found, trained.guarantee.private)
    _show_reach(found.reach)
    if measured is not None:
        _show_bias(measured)


def _show_directions(found: Survey, private: bool) -> None:
    if found.directions is None:
        say(
            "directions: this kind of model has none that could be told from noise" if private else "no noise was added"
        )
        return
    say(f"{len(found.directions)} of at most {found.sought} directions stood out of the noise")
    if not found.directions:
        return
    shown = table("The strongest directions", "strength", "one end", "other end")
    shown.columns[1].justify = shown.columns[2].justify = "left"
    for direction in found.directions[:MOST_DIRECTIONS]:
        shown.add_row(f"{direction.strength:.1f}", "; ".join(direction.one), "; ".join(direction.other))
    screen.print(shown)
    say("strength: noise alone would reach 1", "dim")


def _show_reach(reach: Reach) -> None:
    shown = table(f"Items that are in the best {reach.depth} of some history", "history", "share of the catalogue")
    shown.add_row("empty", f"{reach.by_default:.1%}")
    shown.add_row("of up to one item, all of them", f"{reach.by_one:.1%}")
    shown.add_row(f"and of two, {reach.pairs:,} of them", f"{reach.by_two:.1%}")
    screen.print(shown)
    say(f"{reach.personal:.1%} of the catalogue have personal scores; the rest ranks by count, behind them", "dim")


def _show_bias(measured: Bias) -> None:
    shown = table(
        f"What {measured.people:,} people are recommended, by popularity", "most popular", "this model", "without noise"
    )
    for share, ours, theirs in zip(measured.popular, measured.released, measured.open, strict=True):
        shown.add_row(f"{share:.0%} of items", f"{ours:.1%}", f"{theirs:.1%}")
    screen.print(shown)
    say("This table's figures are exact, NOT PRIVATE: for whoever may see the data.", "bold red")


def _show_explanation(found: Explanation, title: str) -> None:
    if not len(found):
        say(f"{title}: the list is empty, since no item is left that is not in the history")
        return
    shown = table(title, "rank", "title", "under other noise", "because of")
    shown.columns[1].justify = shown.columns[3].justify = "left"
    for rank in found:
        between = "" if rank.between is None else "{}-{}".format(*rank.between)
        shown.add_row(str(rank.rank), rank.title, between, _because(rank))
    screen.print(shown)


def _because(rank: Rank) -> str:
    if rank.rule == "count":
        return "how many people know it; nothing in the history"
    named = [f"{reason.title} {reason.share:+.0%}" for reason in rank.reasons[:MOST_REASONS]]
    more = len(rank.reasons) - len(named)
    return "; ".join(named) + (f"; {more} more" if more else "")


def _on_ranges(found: Explanation, private: bool) -> str:
    if found.draws:
        return (
            "under other noise: where a repetition of the training would put the item, meant to hold in "
            f"{found.level:.0%} of cases; from {found.draws} draws of the known noise; how well: docs/explain.md"
        )
    return "under other noise: not known for this kind of model" if private else "no noise was added"


def card(
    file: ModelFile,
    audit: Annotated[Path | None, typer.Option("--audit", help="What `audit-model` found of this very file.")] = None,
    as_json: Json = False,
) -> None:
    """Print a model's card: what it is, what it promises, what it does not, and what attacks on it found."""
    from discreet.models.card import card, card_markdown
    from discreet.models.trained import Trained

    document = card(Trained.load(file), audit=None if audit is None else audit_of(file, audit).to_dict())
    if as_json:
        say_json(document)
    else:
        say(card_markdown(document))


def place_of_audit(file: Path) -> Path:
    """Return where the audit of a model file is, if it is beside it."""
    stem = file.name.removesuffix(".npz")
    return file.with_name(f"{stem}.audit.json")


def audit_of(file: Path, audit: Path) -> ShadowAudit:
    """Return what an audit found of this very model file."""
    from discreet.errors import ArtefactError
    from discreet.evaluation.audit.shadow import ShadowAudit
    from discreet.governance.checks import sha256

    try:
        found = ShadowAudit.from_bytes(audit.read_bytes())
    except OSError as error:
        raise ArtefactError(f"cannot read the audit {audit}: {error.strerror}") from None
    if found.model != sha256(file.read_bytes()):
        raise ArtefactError(f"{audit} is of another model file than {file}; audit this one")
    return found


def show_slate(slate: Slate, title: str) -> None:
    """Print a list."""
    if not len(slate):
        say(f"{title}: the list is empty, since no item is left that is not in the history")
        return
    shown = table(title, "rank", "item", "title")
    shown.columns[2].justify = "left"
    for row in slate.to_dicts():
        shown.add_row(str(row["rank"]), str(row["item_id"]), row["title"])
    screen.print(shown)


def tradeoff_table(rows: Sequence[Row], metric: str, title: str) -> Any:
    """Return a table of one metric: a line a kind of model, a column an epsilon."""
    epsilons = list(dict.fromkeys(row.epsilon for row in rows))
    shown = table(title, metric, *[f"eps {value:g}" if math.isfinite(value) else "not private" for value in epsilons])
    shown.columns[0].no_wrap = True
    for kind in dict.fromkeys(row.kind for row in rows):
        found = {row.epsilon: row.quality[metric] for row in rows if row.kind == kind}
        cells = [_cell(found[value]) if value in found else "" for value in epsilons]
        shown.add_row("recipe's choice" if kind == "auto" else kind, *cells)
    odds = {row.epsilon: row.odds for row in rows}
    shown.add_section()
    shown.add_row("guessed of 100", *[f"{math.ceil(100 * odds[value] - 1e-9)}" for value in epsilons])
    return shown


def _cell(estimate: Estimate) -> str:
    return f"{estimate.mean:.3f}" + (f" ±{estimate.error:.3f}" if estimate.seeds > 1 else "")


def opened(data: Path) -> Histories:
    """Return the histories of a file, opened for measuring quality."""
    from discreet.data.intake import read_interactions
    from discreet.evaluation.tradeoff import PURPOSE as MEASURE

    return read_interactions(data).opened_for(MEASURE)


def items_of(history: str) -> list[str]:
    """Return the items that were typed, or come by standard input."""
    text = _typed() if history == "-" else history
    return [part.strip() for part in re.split(r"[,\r\n]", text) if part.strip()]


def _typed() -> str:
    from discreet.errors import DataError, SettingError

    if vars(sys)["stdin"] is None:
        raise SettingError("standard input is closed: give the items after --history")
    try:
        return sys.stdin.read()
    except UnicodeDecodeError:
        raise DataError("standard input: is not UTF-8") from None
    except (OSError, ValueError):
        raise SettingError("standard input cannot be read: give the items after --history") from None


def _measured(file: Path, histories: Histories, protocol: str) -> tuple[Trained, dict[str, float]]:
    """Measure a model file on everybody who has enough items: none of them was in its data, says the caller."""
    import numpy as np

    from discreet.data.splitting import hold_out_people, leave_one_out
    from discreet.errors import SettingError
    from discreet.evaluation.ranking import measure
    from discreet.models.trained import Trained

    trained = Trained.load(file)
    if trained.catalogue.ids != histories.catalogue.ids:
        raise SettingError(f"{file} knows another catalogue than {histories.dataset}: give both the same with --items")
    known_as = _protocol(protocol)
    if known_as == "leave-one-out":
        return trained, measure(trained.scores, leave_one_out(histories, seed=0), known_as)
    able = int((np.diff(histories.matrix.indptr) >= LEAST_HISTORY).sum())
    split = hold_out_people(histories, min(able, len(histories) - 1), seed=0, least=LEAST_HISTORY)
    return trained, measure(trained.scores, split, known_as)


def _protocol(name: str) -> Protocol:
    from discreet.errors import SettingError
    from discreet.evaluation.ranking import METRICS

    if name not in METRICS:
        raise SettingError(f"unknown protocol {name!r}: choose {' or '.join(METRICS)}")
    return name


def _rows(
    histories: Histories, epsilons: Sequence[float], kinds: Sequence[str], seeds: int, protocol: str
) -> list[Row]:
    from discreet.evaluation.tradeoff import steps, tradeoff

    known_as = _protocol(protocol)
    chosen = cast("Sequence[Kind]", kinds)
    with progress() as bars:
        bar = bars.add_task("measuring", total=steps(epsilons, chosen, seeds))
        return tradeoff(
            histories,
            epsilons=epsilons,
            kinds=chosen,
            seeds=seeds,
            protocol=known_as,
            progress=lambda what: bars.update(bar, advance=1, description=what),
        )


def _show_rows(rows: Sequence[Row], as_json: bool) -> None:
    if as_json:
        say_json({"rows": [row.to_dict() for row in rows], "figures_are_private": False})
        return
    for metric in rows[0].quality:
        screen.print(tradeoff_table(rows, metric, f"{metric}, mean over {rows[0].quality[metric].seeds} splits"))
    say("± is the standard error of the mean. The figures are exact: for whoever may see the data.", "dim")
