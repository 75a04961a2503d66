"""``discreet demo``: the whole way on real people's ratings, in a minute."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from discreet.cli import serving_demo
from discreet.cli.audit import show_audit
from discreet.cli.budgets import show_budgets
from discreet.cli.data import check_cache, there
from discreet.cli.models import show_slate, tradeoff_table
from discreet.cli.output import progress, say, screen
from discreet.cli.serving import PORT, RUNNING, alone
from discreet.cli.serving_demo import SERVICE

if TYPE_CHECKING:
    from discreet.data.interactions import Interactions
    from discreet.data.splitting import Split
    from discreet.evaluation.audit.shadow import ShadowAudit
    from discreet.evaluation.tradeoff import Row
    from discreet.governance.ledger import Ledger
    from discreet.models.trained import Trained

BUDGET, PRICE, TOO_MUCH = 2.0, 1.0, 1.9
EPSILONS = (0.5, 1.0, 2.0, 5.0, 10.0, math.inf)
HELD_OUT, SEEDS = 140, 3
LEAST_PEOPLE, LEAST_HISTORY = 10, 5
EXAMPLE = (50, 181, 172, 174, 210, 176)
"""Star Wars, Return of the Jedi, The Empire Strikes Back, two of Indiana Jones, Aliens: nobody's history."""

MARK = ".made-by-discreet-demo"
"""Without it a folder is somebody's own, and its ledger is not ours to delete."""

MOVIES = "movielens-100k"
MADE = (f"{MOVIES}.parquet", "ledger.db", "ledger.db-wal", "ledger.db-shm", "model.npz", "model-card.json")
MADE_TOO = ("model.audit.json", "model-card.md", "model-checklist.md", "tradeoff.svg", "tradeoff.json")


def demo(
    out: Annotated[Path, typer.Option("--out", help="Folder to leave everything in.")] = Path("discreet-demo"),
    source: Annotated[
        Path | None, typer.Option("--from", help="ml-100k.zip or another file, instead of downloading.")
    ] = None,
    cache: Annotated[Path | None, typer.Option("--cache", help="Folder to keep downloads in.")] = None,
    serve: Annotated[bool, typer.Option("--serve", help="Stay up with the service, on this machine alone.")] = False,
    port: Annotated[int, typer.Option("--port", min=1, max=65_535, help="Of the service.")] = PORT,
) -> None:
    """Fetch, check, open a budget, train, be refused, measure, attack, recommend: the whole way, in a minute."""
    from discreet.data.splitting import hold_out_people
    from discreet.governance.ledger import Account, Ledger
    from discreet.privacy.accounting import default_delta
    from discreet.training.fitting import PURPOSE

    _check_folder(out)
    data = obtained(source, cache)
    held_out = _held_out(data, source)
    _prepare(out, data)
    _imported(data, out)
    split = hold_out_people(data.opened_for(PURPOSE), held_out, seed=0)
    account = Account(data.name, PURPOSE)
    with Ledger(out / "ledger.db") as book:
        step(f"3. A budget: epsilon {BUDGET:g} for {account}, never reset")
        book.open_budget(account, epsilon=BUDGET, delta=default_delta(len(split.train)))
        trained = _trained(split, book, out)
        _refused(split, book)
        quality = _measured(trained, split)
        found = _audited(data, trained, held_out, out)
        rows = _curve(data, out, held_out)
        _cards(trained, quality, found, out)
        _last_screen(rows, trained, book, out)
    if serve:
        serving_demo.stay(data, out / SERVICE, port)


def _check_folder(out: Path) -> None:
    from discreet.errors import SettingError

    if not there(out):
        return
    if not out.is_dir() or any(path.name not in _known(out) for path in out.iterdir()):
        raise SettingError(f"{out} holds something that is not this demo's; name another folder with --out")
    if any(out.iterdir()) and not (out / MARK).exists():
        raise SettingError(f"{out} was not made by this demo, which would delete its ledger; name another with --out")


def _known(out: Path) -> set[str]:
    """Return the names that an earlier demo may have left: the last line of its mark is that of its data."""
    mark = out / MARK
    told = mark.read_text(errors="replace").splitlines()[1:2] if mark.is_file() else []
    return {MARK, SERVICE, *MADE, *MADE_TOO, *[name for name in told if name.endswith(".parquet") and "/" not in name]}


def _prepare(out: Path, data: Interactions) -> None:
    from discreet.files import write_bytes, writing

    with writing(out / MARK):
        out.mkdir(parents=True, exist_ok=True)
    if (out / SERVICE).is_dir():  # of an earlier demo, which may still be up
        with alone(out / SERVICE / RUNNING):
            shutil.rmtree(out / SERVICE, ignore_errors=True)
    for name in _known(out) - {SERVICE}:
        with writing(out / name):
            (out / name).unlink(missing_ok=True)
    told = f"Made by `discreet demo`, which may delete what it left here.\n{data.name}.parquet\n"
    write_bytes(out / MARK, told.encode())


def obtained(source: Path | None, cache: Path | None) -> Interactions:
    """Return the demo's data: a file, or what is downloaded once."""
    from discreet.data.datasets import TERMS, fetch
    from discreet.data.intake import read_interactions

    check_cache(cache)
    step(f"1. Real people's ratings: {source or 'MovieLens-100K'}")
    data = read_interactions(fetch("movielens-100k", source=source, cache=cache, progress=say))
    if data.name == MOVIES:
        say(TERMS, "dim")
    return data


def _held_out(data: Interactions, source: Path | None) -> int:
    """Return how many people to measure on."""
    import numpy as np

    from discreet.errors import SettingError
    from discreet.evaluation.tradeoff import PURPOSE

    able = int((np.diff(data.opened_for(PURPOSE).matrix.indptr) >= LEAST_HISTORY).sum())
    if able < LEAST_PEOPLE:
        raise SettingError(
            f"{source or data.name}: the demo needs at least {LEAST_PEOPLE} people with {LEAST_HISTORY} items each; "
            "give it more data with --from"
        )
    return min(HELD_OUT, data.people // 5, able)


def _imported(data: Interactions, out: Path) -> None:
    from discreet.data.store import write_interactions

    step("2. Checked and imported")
    write_interactions(data, out / f"{data.name}.parquet")
    say(f"{data.people:,} people, {data.items:,} items, {data.count:,} interactions; may be used for:")
    say(f"  {', '.join(sorted(data.purposes))}")


def _trained(split: Split, book: Ledger, out: Path) -> Trained:
    from discreet.training.fitting import fit

    step(f"4. Train on {len(split.train):,} of them for epsilon {PRICE:g}; the others are kept for measuring")
    with progress() as bars:
        bar = bars.add_task("training", total=None)
        trained = fit(
            split.train,
            epsilon=PRICE,
            ledger=book,
            out=out / "model.npz",
            progress=lambda done, total: bars.update(bar, completed=done, total=total),
        )
    say(f"{trained.model.name} model, published as {out / 'model.npz'}")
    return trained


def _refused(split: Split, book: Ledger) -> None:
    from discreet.errors import BudgetExceeded, PrivacyError
    from discreet.training.fitting import fit

    step(f"5. Once more, for epsilon {TOO_MUCH:g}: more than is left")
    try:
        fit(split.train, epsilon=TOO_MUCH, ledger=book)
    except BudgetExceeded as refusal:
        say(f"refused: {refusal}", "yellow")
    else:
        raise PrivacyError("the ledger let an overspend pass; do not use this installation")


def _measured(trained: Trained, split: Split) -> dict[str, float]:
    from discreet.evaluation.ranking import measure

    step(f"6. Measure on the {split.fold_in.shape[0]} people who were held out")
    found = measure(trained.scores, split)
    say(", ".join(f"{name} {value:.3f}" for name, value in found.items()))
    return found


def _audited(data: Interactions, trained: Trained, held_out: int, out: Path) -> ShadowAudit:
    from discreet.data.splitting import hold_out_people
    from discreet.evaluation.audit.shadow import audit_model
    from discreet.evaluation.tradeoff import PURPOSE
    from discreet.files import write_bytes

    step("7. Attack a shadow of the model: the same settings and people, and some who do not exist")
    same = hold_out_people(data.opened_for(PURPOSE), held_out, seed=0).train
    found = audit_model(trained, same)
    write_bytes(out / "model.audit.json", found.to_bytes())
    show_audit(found)
    return found


def _curve(data: Interactions, out: Path, held_out: int) -> list[Row]:
    from discreet.evaluation.charts import draw_tradeoff
    from discreet.evaluation.tradeoff import PURPOSE, steps, tradeoff
    from discreet.files import write_bytes

    histories = data.opened_for(PURPOSE)
    with progress() as bars:
        bar = bars.add_task("measuring", total=steps(EPSILONS, ("popularity", "auto"), SEEDS) + SEEDS)

        def tell(what: str) -> None:
            bars.update(bar, advance=1, description=what)

        rows = tradeoff(
            histories,
            epsilons=EPSILONS,
            kinds=("popularity", "auto"),
            seeds=SEEDS,
            held_out=held_out,
            progress=tell,
        )
        ceiling = tradeoff(
            histories, epsilons=(math.inf,), kinds=("gram",), seeds=SEEDS, held_out=held_out, progress=tell
        )
    draw_tradeoff([*rows, *ceiling], out / "tradeoff.svg")
    document = json.dumps([row.to_dict() for row in [*rows, *ceiling]], indent=2)
    write_bytes(out / "tradeoff.json", document.encode())
    return [*rows, *ceiling]


def _cards(trained: Trained, quality: dict[str, float], found: ShadowAudit, out: Path) -> None:
    from discreet.files import write_bytes
    from discreet.models.card import card, card_markdown
    from discreet.models.checklist import checklist, checklist_markdown

    document = card(trained, quality=quality, audit=found.to_dict())
    write_bytes(out / "model-checklist.md", checklist_markdown(checklist(trained, found.to_dict())).encode())
    write_bytes(out / "model-card.json", json.dumps(document, indent=2).encode())
    write_bytes(out / "model-card.md", card_markdown(document).encode())


def _last_screen(rows: list[Row], trained: Trained, book: Ledger, out: Path) -> None:
    screen.rule("discreet", style="green")
    screen.print(tradeoff_table(rows, "recall@20", "Privacy and quality: Recall@20 on held-out people, 3 splits"))
    say("gram without noise is EASE, the ceiling. ± is the standard error. Figures are exact, not private.\n", "dim")
    say(str(trained.guarantee) + "\n", "bold")
    show_budgets(book.accounts())
    found = book.verify(artefacts=out)
    found.require()
    say(f"ledger: {found.rows} journal rows replayed, everything fits\n")
    _example(trained)
    left = sorted(path.name for path in out.iterdir() if path.name != MARK and ".db-" not in path.name)
    say(f"Left in {out}/: {', '.join(left)}")


def _example(trained: Trained) -> None:
    if trained.dataset == MOVIES:
        show_slate(trained.recommend(EXAMPLE, 10), "For someone who watched Star Wars, Indiana Jones and Aliens")
    else:
        liked = trained.recommend([], len(EXAMPLE)).items
        show_slate(trained.recommend(liked, 10), "For an example history")


def step(text: str) -> None:
    """Say what comes next."""
    say(f"\n{text}", "bold green")
