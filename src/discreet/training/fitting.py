"""From a data set and a budget to a published model: recipe, reservation, rounds, commit."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from numbers import Real
from pathlib import Path

from discreet.data.interactions import Histories, Interactions, Opened
from discreet.data.stored import StoredHistories
from discreet.documents import fingerprint
from discreet.errors import PurposeNotAllowed, SettingError
from discreet.files import write_bytes
from discreet.governance.checks import check_name
from discreet.governance.ledger import Account, Ledger, Reservation
from discreet.governance.places import file_of
from discreet.models.base import Model
from discreet.models.recipe import Kind, recipe
from discreet.models.trained import Trained
from discreet.privacy.accounting import cap, check_delta, check_epsilon, default_delta
from discreet.privacy.adjacency import Window
from discreet.privacy.levels import OFFERED, Levels
from discreet.privacy.plan import Plan
from discreet.privacy.records import Weights, weights_of
from discreet.randomness import NoiseSource
from discreet.training.billing import (
    agreed_delta,
    check_free,
    checked_target,
    exists,
    is_published,
    opened_ledger,
    released_once,
)
from discreet.training.participants import Participants, Usage
from discreet.training.populations import Here, Population
from discreet.training.rounds import Progress, train

PURPOSE = "train-recommender"


def fit(
    data: Interactions | Opened,
    *,
    epsilon: float,
    ledger: Ledger | str | Path | None = None,
    delta: float | None = None,
    kind: Kind = "auto",
    purpose: str = PURPOSE,
    window: str | None = None,
    levels: Levels | None = None,
    sensitive: Mapping[str, float] | None = None,
    release: str | None = None,
    out: str | Path | None = None,
    population: Callable[[Opened], Population] = Here,
    progress: Progress | None = None,
    reserved: Callable[[str], None] | None = None,
    insecure_test_seed: int | None = None,
) -> Trained:
    """Train a recommender on ``data`` for a price, and publish it once.

    The whole price is charged before anything is computed, and is never given back. A run that was killed can be
    repeated under its release id, with fresh noise and at no further charge; nothing of the first attempt was visible.

    Args:
        data: checked interactions, opened for ``purpose`` here; or histories that were opened for it. Those of an
            imported file stay there, and are read block by block in each round.
        epsilon: of this training run, in nats; ``math.inf`` adds no noise, bills nothing, and promises nothing.
        ledger: where the run is billed, or the path of its file. A file that is not there yet is made, and a budget of
            exactly this epsilon opened in it; in a ledger that exists, and in one on a server (by URL), the budget must
            have been opened before.
        delta: by default that of the budget, or for a new one min(1e-5, people^-1.1).
        kind: of model; by default the recipe's.
        purpose: must be one that the data was collected for.
        window: a year, month or day (UTC), such as ``2024-05``, that all of ``data`` lies in; read it with the same.
            What a person did in it is what is protected, and the budget is one of its own: whoever is active in twelve
            windows is in twelve models, and pays twelve times. The guarantee says so.
        levels: what each person chose to give. ``epsilon`` is then the price for ``light``, the most that anybody pays;
            whoever chose ``off`` takes no part. By default everybody gives the whole bound.
        sensitive: weights of categories of items, 0 to 1/2 in steps of 1/16; by default 1/8 for each that the catalogue
            declares. The smaller, the less shows whether somebody did anything of that category.
        release: id of this release; by default a new one. Give it to repeat a run that was interrupted.
        out: where to publish the model file; must not exist.
        population: who computes what people add: by default this process, with two threads. The sums are the same,
            bit by bit, whoever does.
        progress: told the rounds done and planned.
        reserved: told the id of the release as soon as it is charged; from then on a run that fails can be repeated
            under it.
        insecure_test_seed: for tests; the model then promises nothing and says ``unsafe_noise``.

    Raises:
        SettingError: an argument is out of range; nothing was charged.
        PurposeNotAllowed: the data was not collected for this.
        AccountMissing, BudgetExceeded, ReleaseConflict, LedgerError: by the ledger; nothing was charged.
    """
    price, asked_delta = _number("epsilon", epsilon), None if delta is None else _number("delta", delta)
    histories = _opened_for(data, _text("purpose", purpose))
    if asked_delta is not None:
        check_delta(asked_delta, len(histories))
    _text("kind", kind)
    if not isinstance(levels, Levels | None):
        raise SettingError(f"levels must be Levels, not {type(levels).__name__}: see discreet.read_levels")
    within = None if window is None else _checked_window(data, _text("window", window))
    if release is not None:
        check_name("release", _text("release", release))
    target = checked_target(out)
    if price == math.inf:
        _check_whole(levels, sensitive)
        return _without_promise(population(histories), kind, asked_delta, target, progress)
    check_epsilon(price)
    taking, weights = Participants.of(histories, levels), weights_of(histories.catalogue.sensitive, sensitive)
    account, billed = Account(histories.dataset, purpose, within), _checked_ledger(ledger)
    file = None if isinstance(billed, Ledger) else file_of(billed)
    if file is not None and not exists(file):
        check_free(target)
        _open_first(file, account, taking, price, asked_delta, kind, weights)
    source = None if insecure_test_seed is None else NoiseSource(insecure_test_seed=insecure_test_seed)
    with opened_ledger(billed) as book:
        agreed = agreed_delta(book, account, asked_delta, len(taking.histories))
        if not is_published(book, release):
            check_free(target)
        model, plan = _planned(taking, price, agreed, kind, weights)

        def make(people: Opened, reservation: Reservation) -> bytes:
            admitted, usage = taking.admitted(people, reservation.admitted), Usage(len(people))
            trained = train(
                model,
                admitted.population(population),
                plan,
                spend=reservation.draw,
                used=usage,
                progress=progress,
                source=source,
            )
            reservation.use(admitted.in_order(usage))
            guarantee = replace(trained.guarantee, window=window)
            return replace(trained.billed_as(reservation.release), guarantee=guarantee).to_bytes()

        content = released_once(
            book,
            account,
            taking.histories,
            make,
            cost=plan.cost,
            spec=fingerprint({"model": model.name, "settings": asdict(model), "plan": plan.to_dict()}),
            release=release,
            target=target,
            reserved=reserved,
            prices=taking.prices(plan),
        )
        return Trained.from_bytes(content)


def _number(what: str, value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, Real):
        raise SettingError(f"{what} must be a number, not {type(value).__name__}")
    try:
        return float(value)
    except OverflowError:
        raise SettingError(f"{what} must be a number of ordinary size") from None


def _text(what: str, value: object) -> str:
    if not isinstance(value, str):
        raise SettingError(f"{what} must be text, not {type(value).__name__}")
    return value


def _checked_ledger(ledger: object) -> Ledger | str | Path:
    if ledger is None:
        raise SettingError("a private fit is billed: give ledger='ledger.db', or epsilon=math.inf for no privacy")
    if not isinstance(ledger, Ledger | str | Path):
        raise SettingError(f"ledger must be a Ledger, the path of its file or a URL, not {type(ledger).__name__}")
    return ledger


def _opened_for(data: object, purpose: str) -> Opened:
    if isinstance(data, Interactions):
        return data.streamed_for(purpose)
    if not isinstance(data, Histories | StoredHistories):
        raise SettingError(f"data must be what discreet.read_interactions returns, not {type(data).__name__}")
    if data.purpose != purpose:
        raise PurposeNotAllowed(
            f"these histories were opened for {data.purpose!r}, not for {purpose!r}; open them anew"
        )
    return data


def _checked_window(data: object, window: str) -> Window:
    within = Window(window)
    if not isinstance(data, Interactions):
        raise SettingError("a window is held against the interactions: give what discreet.read_interactions returns")
    data.check_window(within)
    return within


def _check_whole(levels: Levels | None, sensitive: Mapping[str, float] | None) -> None:
    if levels is not None or sensitive is not None:
        raise SettingError("without noise no level and no category is protected: leave out levels and sensitive")


def _planned(
    taking: Participants[Opened], epsilon: float, delta: float, kind: Kind, weights: Weights
) -> tuple[Model, Plan]:
    catalogue, units = taking.histories.catalogue, cap(epsilon, delta)
    model, plan = recipe(
        *(taking.whole, len(catalogue), units), delta=delta, kind=kind, tagged=catalogue.tagged, weights=weights
    )
    return model, replace(plan, levels=() if taking.quarters is None else OFFERED)


def _open_first(
    ledger: Path,
    account: Account,
    taking: Participants[Opened],
    epsilon: float,
    delta: float | None,
    kind: Kind,
    weights: Weights,
) -> None:
    """Make a ledger with a budget of exactly one run, unless that run could not be made: then no file is left."""
    agreed = delta or default_delta(len(taking.histories))
    _planned(taking, epsilon, agreed, kind, weights)
    with Ledger(ledger) as book:
        book.open_budget(account, epsilon=epsilon, delta=agreed)


def _without_promise(
    people: Population, kind: Kind, delta: float | None, target: Path | None, progress: Progress | None
) -> Trained:
    check_free(target)
    some_delta = delta or default_delta(len(people))  # nothing is promised at it
    catalogue = people.catalogue
    model, plan = recipe(len(people), len(catalogue), None, delta=some_delta, kind=kind, tagged=catalogue.tagged)
    trained = train(model, people, plan, spend=_nothing, progress=progress)
    if target:
        check_free(target)  # again: another run may have taken the name meanwhile
        write_bytes(target, trained.to_bytes())
    return trained


def _nothing(units: int) -> None:
    """Book nothing: a run without noise has no price."""
