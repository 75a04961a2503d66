"""From a data set and a budget to a published model: recipe, reservation, rounds, commit."""

from __future__ import annotations

import hashlib
import math
import tempfile
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from numbers import Real
from pathlib import Path

import numpy as np

from discreet.data.interactions import Histories, Interactions, Opened
from discreet.data.stored import StoredHistories
from discreet.errors import AccountMissing, LedgerError, PurposeNotAllowed, ReleaseConflict, SettingError
from discreet.files import write_bytes, writing
from discreet.governance.checks import check_name
from discreet.governance.ledger import Account, Ledger, Reservation
from discreet.governance.publication import publish, resume
from discreet.models.base import Model
from discreet.models.recipe import Kind, recipe
from discreet.models.trained import Trained
from discreet.privacy.accounting import cap, check_delta, check_epsilon, default_delta
from discreet.privacy.plan import Plan, fingerprint
from discreet.randomness import NoiseSource
from discreet.training.populations import Here, Population
from discreet.training.rounds import Progress, train

PURPOSE = "train-recommender"
LONGEST_STEM = 180
"""Of a release's own id: a data set's name may be as long as an id may be."""


def fit(
    data: Interactions | Opened,
    *,
    epsilon: float,
    ledger: Ledger | str | Path | None = None,
    delta: float | None = None,
    kind: Kind = "auto",
    purpose: str = PURPOSE,
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
            exactly this epsilon opened in it; in a ledger that exists the budget must have been opened before.
        delta: by default that of the budget, or for a new one min(1e-5, people^-1.1).
        kind: of model; by default the recipe's.
        purpose: must be one that the data was collected for.
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
    if release is not None:
        check_name("release", _text("release", release))
    target = _checked_target(out)
    if price == math.inf:
        return _without_promise(population(histories), kind, asked_delta, target, progress)
    check_epsilon(price)
    account, book_or_path = Account(histories.dataset, purpose), _checked_ledger(ledger)
    if not isinstance(book_or_path, Ledger) and not _exists(book_or_path):
        _check_free(target)
        _open_first(book_or_path, account, histories, price, asked_delta, kind)
    source = None if insecure_test_seed is None else NoiseSource(insecure_test_seed=insecure_test_seed)
    with _opened_ledger(book_or_path) as book:
        agreed_delta = _agreed_delta(book, account, asked_delta, len(histories))
        if not _is_published(book, release):
            _check_free(target)
        model, plan = _planned(histories, price, agreed_delta, kind)
        reservation = _reserve(book, account, histories, release, model, plan)
        if reserved:
            reserved(reservation.release)
        if reservation.state == "committed":
            return _published_before(book, reservation, target)
        people = population(_admitted(histories, reservation))
        trained = train(model, people, plan, spend=reservation.draw, progress=progress, source=source)
        return _published(book, trained.billed_as(reservation.release), target)


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


def _checked_ledger(ledger: object) -> Ledger | Path:
    if ledger is None:
        raise SettingError("a private fit is billed: give ledger='ledger.db', or epsilon=math.inf for no privacy")
    if not isinstance(ledger, Ledger | str | Path):
        raise SettingError(f"ledger must be a Ledger or the path of its file, not {type(ledger).__name__}")
    return ledger if isinstance(ledger, Ledger) else Path(ledger)


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


def _reserve(
    book: Ledger, account: Account, histories: Opened, release: str | None, model: Model, plan: Plan
) -> Reservation:
    return book.reserve(
        account,
        cost=plan.cost,
        release=release or f"{histories.dataset[:LONGEST_STEM]}-{uuid.uuid4().hex[:12]}",
        spec=fingerprint({"model": model.name, "settings": asdict(model), "plan": plan.to_dict()}),
        people=histories.people_ids,
    )


def _planned(histories: Opened, epsilon: float, delta: float, kind: Kind) -> tuple[Model, Plan]:
    return recipe(len(histories), len(histories.catalogue), cap(epsilon, delta), delta=delta, kind=kind)


def _open_first(
    ledger: Path, account: Account, histories: Opened, epsilon: float, delta: float | None, kind: Kind
) -> None:
    """Make a ledger with a budget of exactly one run, unless that run could not be made: then no file is left."""
    agreed = delta or default_delta(len(histories))
    _planned(histories, epsilon, agreed, kind)
    with Ledger(ledger) as book:
        book.open_budget(account, epsilon=epsilon, delta=agreed)


@contextmanager
def _opened_ledger(ledger: Ledger | str | Path) -> Iterator[Ledger]:
    """Yield the ledger; close it if it was opened here."""
    if isinstance(ledger, Ledger):
        yield ledger
        return
    with Ledger(ledger) as book:
        yield book


def _agreed_delta(book: Ledger, account: Account, delta: float | None, people: int) -> float:
    """Return the budget's delta, if the caller asks for no other and it protects this many people."""
    found = [state.delta for state in book.accounts() if state.account == account]
    if not found:
        raise AccountMissing(f"no budget is open for {account}: open one with `discreet budget open`")
    if delta is not None and delta != found[0]:
        raise SettingError(f"the budget of {account} is kept at delta {found[0]:g}, {delta:g} was asked; leave it out")
    check_delta(found[0], people)
    return found[0]


def _without_promise(
    people: Population, kind: Kind, delta: float | None, target: Path | None, progress: Progress | None
) -> Trained:
    _check_free(target)
    some_delta = delta or default_delta(len(people))  # nothing is promised at it
    model, plan = recipe(len(people), len(people.catalogue), None, delta=some_delta, kind=kind)
    trained = train(model, people, plan, spend=_nothing, progress=progress)
    if target:
        _check_free(target)  # again: another run may have taken the name meanwhile
        write_bytes(target, trained.to_bytes())
    return trained


def _nothing(units: int) -> None:
    """Book nothing: a run without noise has no price."""


def _admitted(histories: Opened, reservation: Reservation) -> Opened:
    """Leave out the people whose own budget does not reach."""
    if reservation.admitted is None or reservation.admitted.all():
        return histories
    return histories.take(np.flatnonzero(reservation.admitted))


def _published(book: Ledger, trained: Trained, target: Path | None) -> Trained:
    payload = trained.to_bytes()
    release = str(trained.release)
    if target:
        try:
            return Trained.load(publish(book, release, payload, target.parent, target.name))
        except LedgerError:
            if not _is_taken(target, book.artefact(release)):
                raise
            raise LedgerError(
                f"{target} was taken by another file meanwhile; release {release} is charged: repeat it at no further "
                f"charge with --release {release} --out OTHER"
            ) from None
    if book.commit(release, _sha256(payload)) != _sha256(payload):
        raise ReleaseConflict(f"release {release} was made by another process at the same time; this one is discarded")
    return trained


def _is_taken(target: Path, artefact: str | None) -> bool:
    return target.is_file() and _sha256(target.read_bytes()) != artefact


def _published_before(book: Ledger, reservation: Reservation, target: Path | None) -> Trained:
    """Return what an earlier attempt committed, finishing its publication if it was cut off."""
    if target is None:
        raise ReleaseConflict(
            f"release {reservation.release} is made already; load its model file, or name a new release"
        )
    return Trained.load(resume(book, reservation.release, target.parent, target.name))


def _checked_target(out: object) -> Path | None:
    if out is None:
        return None
    if not isinstance(out, str | Path):
        raise SettingError(f"out must be a path, not {type(out).__name__}")
    target = Path(out)
    check_name("model file", target.name, forbidden="/\\")  # as publication does, but before anything is charged
    if target.name.startswith("."):
        raise SettingError(f"file name {target.name} would be hidden; give one that does not begin with a dot")
    check_place(target)
    return target


def check_place(target: Path) -> None:
    """Refuse a path where no file could be written: worth asking before anything is charged or measured.

    Raises:
        SettingError: there is no such folder.
        FileNotWritten: the folder cannot be written to.
    """
    if not _exists(target.parent) or not target.parent.is_dir():
        raise SettingError(f"{target.parent} is not a folder; make it, or write elsewhere")
    with writing(target), tempfile.TemporaryFile(dir=target.parent):
        pass


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except OSError as error:
        raise SettingError(f"a path cannot be used: {error.strerror}; give another name") from None


def _is_published(book: Ledger, release: str | None) -> bool:
    return release is not None and any(made.release == release and made.artefact for made in book.releases())


def _check_free(target: Path | None) -> None:
    """Refuse before anything is charged, or a budget would be spent on a model that has no place."""
    if target is not None and _exists(target):
        raise SettingError(f"{target} exists already; models are never overwritten, give another name")


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
