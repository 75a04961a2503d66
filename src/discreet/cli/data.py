"""``discreet data``: from a file of choices to a checked data set with a purpose."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from discreet.cli.output import Json, progress, say, say_charged, say_json, screen, table

if TYPE_CHECKING:
    from collections.abc import Sequence

    from discreet.data.interactions import Interactions
    from discreet.evaluation.favourites import Cohorts

app = typer.Typer(no_args_is_help=True)

Source = Annotated[Path, typer.Argument(help="A CSV, TSV or Parquet file, one row an interaction.")]
User = Annotated[str, typer.Option("--user", help="Name of the column of people.")]
Item = Annotated[str, typer.Option("--item", help="Name of the column of items.")]
Items = Annotated[
    Path | None, typer.Option("--items", help="File with item_id[, title, sensitive, tags]: the public catalogue.")
]

Within = Annotated[
    str | None, typer.Option("--window", help="Year, month or day (2024-05): only what people chose in it.")
]
LEDGER = "DISCREET_LEDGER"
"""Names, in the environment, where the ledger lies: a URL may hold a password, which others see in a command."""
LedgerPlace = Annotated[
    str, typer.Option("--ledger", envvar=LEDGER, help="The ledger: a file, or postgresql+psycopg://USER@HOST/DATABASE.")
]
DEFAULT_LEDGER = "ledger.db"


@app.command()
def fetch(
    dataset: Annotated[str, typer.Argument(help="Name of a public data set.")] = "movielens-100k",
    source: Annotated[Path | None, typer.Option("--from", help="Read this file instead of downloading.")] = None,
    cache: Annotated[Path | None, typer.Option("--cache", help="Folder to keep it in.")] = None,
    as_json: Json = False,
) -> None:
    """Obtain a public data set, check it, and keep it in the cache."""
    from discreet.data.datasets import TERMS, fetch

    check_cache(cache)
    path = fetch(dataset, source=source, cache=cache, progress=None if as_json else say)
    if as_json:
        say_json({"dataset": path.stem, "path": str(path)})
    else:
        say(f"{path.stem}: {path}")
        if source is None:
            say(TERMS, style="dim")


@app.command()
def check(
    source: Source,
    user: User = "user_id",
    item: Item = "item_id",
    items: Items = None,
    as_json: Json = False,
) -> None:
    """Read a file as an import would, and say what is in it. Changes nothing."""
    from discreet.data.intake import read_interactions

    _show(read_interactions(source, user=user, item=item, catalogue=items), as_json)


@app.command("import")
def import_(
    source: Source,
    out: Annotated[Path, typer.Option("--out", help="Where to write the checked data (.parquet).")],
    name: Annotated[str | None, typer.Option("--name", help="Name of the data set and of its budgets.")] = None,
    purpose: Annotated[
        list[str] | None, typer.Option("--purpose", help="What the data may be used for; may be repeated.")
    ] = None,
    user: User = "user_id",
    item: Item = "item_id",
    items: Items = None,
    window: Within = None,
    as_json: Json = False,
) -> None:
    """Check a file of any size and write it as a data set: only what models use, with its name and its purposes."""
    from discreet.data.importing import import_interactions

    _check_new(out)
    chosen: dict[str, Any] = {"name": name, "user": user, "item": item, "purposes": purpose or None, "catalogue": items}
    chosen["window"] = window
    with progress() as bars:
        bar = bars.add_task("reading", total=None)

        def step(what: str, done: int, total: int | None) -> None:
            bars.update(bar, description=what, completed=done, total=total)

        data = import_interactions(source, out, **chosen, progress=step)
    _show(data, as_json)
    if not as_json:
        say(f"written to {out}")


@app.command()
def synthesize(
    out: Annotated[Path, typer.Option("--out", help="Where to write the data set (.parquet).")],
    people: Annotated[int, typer.Option("--people", help="How many.")] = 7_000,
    items: Annotated[int, typer.Option("--items", help="How many.")] = 20_000,
    interactions: Annotated[int, typer.Option("--interactions", help="About how many.")] = 1_000_000,
    seed: Annotated[int, typer.Option("--seed", help="Public.")] = 0,
    as_json: Json = False,
) -> None:
    """Make a data set of people who do not exist, of any size, for measuring speed and nothing else."""
    from discreet.data.synthetic import write_synthetic

    _check_new(out)
    with progress() as bars:
        bar = bars.add_task("drawing people", total=people)
        asked = {"people": people, "items": items, "interactions": interactions, "seed": seed}
        data = write_synthetic(out, **asked, progress=lambda done, _: bars.update(bar, completed=done))
    _show(data, as_json)
    if not as_json:
        say(f"written to {out}: synthetic, for the purpose {', '.join(data.purposes)} alone")


@app.command()
def lengths(
    data: Annotated[Path, typer.Argument(help="An imported data set, or any CSV, TSV or Parquet file.")],
    epsilon: Annotated[float, typer.Option("--epsilon", help="Price in nats.")] = 0.1,
    purpose: Annotated[str, typer.Option("--purpose", help="Whose budget pays.")] = "train-recommender",
    ledger: LedgerPlace = DEFAULT_LEDGER,
    out: Annotated[Path | None, typer.Option("--out", help="Where to publish it (.json); must not exist.")] = None,
    release: Annotated[
        str | None, typer.Option("--release", help="Id of a run that was cut off: repeats it at no further charge.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Release how long people's histories are: a private histogram, billed. It describes; no model needs it."""
    from discreet.data.intake import read_interactions
    from discreet.evaluation.lengths import release_lengths
    from discreet.governance.ledger import Ledger

    histories = read_interactions(data).streamed_for(purpose)
    with Ledger(ledger, create=False) as book:
        found = release_lengths(histories, ledger=book, epsilon=epsilon, release=release, out=out, reserved=say_charged)
    if as_json:
        say_json(found.to_dict())
        return
    shown = table(f"Lengths of histories in {found.dataset}, ±{found.noise:,.0f} on each count", "items", "people")
    for low, high, count in zip((0, *found.edges), found.edges, found.counts, strict=False):
        shown.add_row(f"{low + 1:,}" if high == low + 1 else f"{low + 1:,} to {high:,}", f"{count:,.0f}")
    screen.print(shown)
    say(f"half of the people have at most {found.quantile(0.5):,} items, nine in ten at most {found.quantile(0.9):,}")
    say(f"{found.guarantee.claim}; billed to {found.dataset}/{purpose}", "dim")


@app.command()
def trending(
    data: Annotated[Path, typer.Argument(help="An imported data set, or any CSV, TSV or Parquet file.")],
    epsilon: Annotated[float, typer.Option("--epsilon", help="Price in nats, of each single choice.")] = 0.5,
    n: Annotated[int, typer.Option("--n", min=1, help="Length of the list.")] = 10,
    purpose: Annotated[str, typer.Option("--purpose", help="Whose budget pays.")] = "trending",
    window: Within = None,
    ledger: LedgerPlace = DEFAULT_LEDGER,
    out: Annotated[Path | None, typer.Option("--out", help="Where to publish it (.json); must not exist.")] = None,
    release: Annotated[
        str | None, typer.Option("--release", help="Id of a run that was cut off: repeats it at no further charge.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Release what is chosen most: private counts, each single choice protected. Needs a budget --by-interaction."""
    from discreet.data.intake import read_interactions
    from discreet.evaluation.trending import release_trending
    from discreet.governance.ledger import Ledger

    source = read_interactions(data, window=window)
    with Ledger(ledger, create=False) as book:
        asked: dict[str, Any] = {"epsilon": epsilon, "purpose": purpose, "window": window}
        asked |= {"release": release, "out": out}
        found = release_trending(source, ledger=book, **asked, reserved=say_charged)
    if as_json:
        say_json(found.to_dict() | {"top": [each._asdict() for each in found.top(n)]})
        return
    shown = table(f"Trending in {found.dataset}, ±{found.noise:,.0f} on each count", "item", "people")
    for each in found.top(n):
        shown.add_row(each.title, f"{each.about:,.0f}")
    screen.print(shown)
    say(str(found.guarantee), "dim")


@app.command()
def favourites(
    data: Annotated[Path, typer.Argument(help="An imported data set, or any CSV, TSV or Parquet file.")],
    epsilon: Annotated[float, typer.Option("--epsilon", help="Price in nats, of each person with all they did.")] = 0.5,
    n: Annotated[int, typer.Option("--n", min=1, help="Length of a list.")] = 10,
    cohorts: Annotated[
        Path | None, typer.Option("--cohorts", help="CSV, TSV or Parquet of user_id and cohort: a list for each.")
    ] = None,
    names: Annotated[
        list[str] | None, typer.Option("--cohort", help="A cohort that there is, declared public; may be repeated.")
    ] = None,
    purpose: Annotated[str, typer.Option("--purpose", help="Whose budget pays.")] = "favourites",
    window: Within = None,
    ledger: LedgerPlace = DEFAULT_LEDGER,
    out: Annotated[Path | None, typer.Option("--out", help="Where to publish it (.json); must not exist.")] = None,
    release: Annotated[
        str | None, typer.Option("--release", help="Id of a run that was cut off: repeats it at no further charge.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Release what most people chose, of all or of each cohort: lists without counts, whole people protected."""
    from discreet.data.intake import read_interactions
    from discreet.evaluation.favourites import release_favourites
    from discreet.governance.ledger import Ledger

    of, source = cohorts_of(cohorts, names or []), read_interactions(data, window=window)
    with Ledger(ledger, create=False) as book:
        asked: dict[str, Any] = {"epsilon": epsilon, "n": n, "cohorts": of, "purpose": purpose, "window": window}
        asked |= {"release": release, "out": out}
        found = release_favourites(source, ledger=book, **asked, reserved=say_charged)
    if as_json:
        say_json(found.to_dict())
        return
    shown = table(f"Favourites in {found.dataset}: each within {found.within:,.0f} people of the best", *found.cohorts)
    for row in zip(*found.titles().values(), strict=True):
        shown.add_row(*row)
    screen.print(shown)
    say(str(found.guarantee), "dim")


def cohorts_of(path: Path | None, names: Sequence[str]) -> Cohorts | None:
    """Return who is in which cohort, as a file says, of those that are declared; None if neither is given.

    Raises:
        SettingError: there is a file and no name, or the other way round.
        DataError: the file lacks a column, or puts somebody in two cohorts.
    """
    from discreet.data.tables import table_of
    from discreet.errors import DataError, SettingError
    from discreet.evaluation.favourites import Cohorts

    if (path is None) != (not names):
        raise SettingError("--cohorts says who is in which, and --cohort, once for each, which there are; give both")
    if path is None:
        return None
    found, wanted = table_of(path), ["user_id", "cohort"]
    if not set(wanted) <= set(found.names):
        raise DataError(f"{path}: cohorts need the columns user_id and cohort; {found.listing(wanted)}")
    rows = [(str(person), str(cohort)) for person, cohort in found.columns(wanted).rows() if cohort is not None]
    of = dict(rows)
    if len(of) < len({*rows}):
        raise DataError(f"{path}: somebody is in two cohorts; a person moves one list alone")
    return Cohorts(tuple(names), of)


def _check_new(out: Path) -> None:
    from discreet.errors import SettingError

    if there(out):
        raise SettingError(f"{out} exists already; data sets are never overwritten, give another name")


def check_cache(cache: Path | None) -> None:
    """Refuse a cache that is, or lies below, a file: before anything is downloaded."""
    from discreet.errors import SettingError

    if cache is None:
        return
    nearest = next((folder for folder in (cache, *cache.parents) if there(folder)), cache)
    if there(nearest) and not nearest.is_dir():
        raise SettingError(f"{nearest} is a file, so downloads cannot be kept in it; name a folder with --cache")


def there(path: Path) -> bool:
    """Return whether there is such a file or folder.

    Raises:
        SettingError: there can be none, since its name is too long or the like.
    """
    from discreet.errors import SettingError

    try:
        path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else "it holds a null character"
        raise SettingError(f"a path cannot be used: {why}; give another name") from None
    return True


def _show(data: Interactions, as_json: bool) -> None:
    facts = {"name": data.name, "purposes": sorted(data.purposes)} | data.describe()
    if as_json:
        say_json(facts)
        return
    shown = table(f"{data.name}: fit for import", "", "")
    for key, value in facts.items():
        shown.add_row(key.replace("_", " "), _cell(value))
    screen.print(shown)


def _cell(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:.4f}"
    return ", ".join(map(str, value)) or "none" if isinstance(value, list | tuple) else str(value)
