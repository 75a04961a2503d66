"""A trained model: parameters, the plan they were paid with, the promise. The one thing inference is given.

The file (``archive``) holds the arrays by name, and everything else in its header. It is the same bytes for the same
model, so its sha256 names it in the ledger.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from discreet.data.catalogue import Catalogue
from discreet.documents import fields_of
from discreet.errors import ArtefactError, DiscreetError, SettingError
from discreet.models.als import Als
from discreet.models.archive import packed, unpacked
from discreet.models.base import Model, State
from discreet.models.explanation import DRAWS, Explanation, explain
from discreet.models.gram import Gram
from discreet.models.ials import Ials
from discreet.models.popularity import Popularity
from discreet.models.sgd import Sgd
from discreet.models.shapes import check_state
from discreet.models.slate import Slate, best
from discreet.models.subspace import Subspace
from discreet.privacy.guarantee import Guarantee
from discreet.privacy.plan import Plan

FORMAT = 2
KINDS: dict[str, type[Popularity | Subspace | Gram | Ials | Als | Sgd]] = {
    "popularity": Popularity,
    "subspace": Subspace,
    "gram": Gram,
    "ials": Ials,
    "als": Als,
    "sgd": Sgd,
}
"""The models that a file may name. Nothing is ever imported by a name that a file holds."""

LONGEST_REASON = 200


@dataclass(frozen=True, eq=False)
class Trained:
    """A model that can recommend, and its promise.

    Attributes:
        model: settings.
        state: released parameters.
        plan: what ran and what it cost.
        guarantee: what it promises.
        catalogue: what the columns mean.
        dataset: what it was learnt from.
        purpose: what for.
        people: how many took part; public.
        release: id of the release in the ledger, or None if it was not billed.
    """

    model: Model
    state: State
    plan: Plan
    guarantee: Guarantee
    catalogue: Catalogue
    dataset: str
    purpose: str
    people: int
    release: str | None = None

    def __repr__(self) -> str:
        promise = f"epsilon={self.guarantee.epsilon:.3g}" if self.guarantee.private else "not private"
        billed = ", NOT BILLED" if self.unbilled else ""
        return (
            f"Trained({self.model.name}, {promise}, {len(self.catalogue)} items, learnt from {self.dataset!r}{billed})"
        )

    @property
    def unbilled(self) -> bool:
        """Whether there was a price that no ledger was charged: such a model must not be published."""
        return self.release is None and self.guarantee.private

    @property
    def unsafe_noise(self) -> bool:
        """Whether the noise came from a test seed; such a model must not be served."""
        return not self.guarantee.secure

    def recommend(self, history: Iterable[str | int], n: int = 10, *, exclude_seen: bool = True) -> Slate:
        """Return a list for someone with this history, who need not have been in the data.

        The history is used here and forgotten. Items that the catalogue does not know are left out of account and
        counted; an empty history gets what everybody likes.

        Args:
            history: item ids.
            n: how many to list, at least 1; fewer come back if there are not as many.
            exclude_seen: leave out the history's own items.

        Raises:
            SettingError: if ``n`` is below 1 or the history holds something other than ids.
            ArtefactError: if the model's numbers cannot be computed with.
        """
        if not isinstance(history, Iterable):
            raise SettingError(f"a history is a list of item ids, not {type(history).__name__}")
        known, unknown = self.catalogue.positions(history)
        row = csr_array((np.ones(len(known), np.int8), known, [0, len(known)]), shape=(1, len(self.catalogue)))
        exclude = known if exclude_seen else known[:0]
        return best(self.scores(row)[0], self.catalogue, n, exclude=exclude, unknown=unknown)

    def explain(self, history: Iterable[str | int], n: int = 10, *, draws: int = DRAWS) -> Explanation:
        """Return the same list with what drove each rank, and how sure each rank is given the known noise.

        Read off the released model: costs nothing. The history is used here and forgotten, but the explanation quotes
        it. See ``models/explanation.py`` for what is exact and what is estimated.

        Args:
            history: item ids.
            n: how many to list, at least 1.
            draws: of other noise; 0 leaves the ranges out.

        Raises:
            SettingError: if ``n`` is below 1, ``draws`` below 0, or the history holds something other than ids.
        """
        with _computing():
            return explain(self, history, n, draws=draws)

    def scores(self, histories: csr_array) -> NDArray[np.float32]:
        """Return float32 [people, items] for histories [people, items]."""
        with _computing():
            return self.model.scores(histories, self.state)

    def billed_as(self, release: str) -> Trained:
        """Return the same model under its ledger id."""
        return replace(self, release=release)

    def to_bytes(self) -> bytes:
        """Return the file's content; the same bytes for the same model."""
        return packed(self._header(), {f"state.{name}": array for name, array in self.state.items()})

    @classmethod
    def from_bytes(cls, content: bytes) -> Trained:
        """Read what ``to_bytes`` wrote.

        Raises:
            ArtefactError: if it is damaged, or something else.
        """
        header, arrays = unpacked(content, "model file", FORMAT, "restore or retrain it")
        try:
            plan, catalogue = Plan.from_dict(header["plan"]), Catalogue.from_dict(header["catalogue"])
            model = _model(header["model"], header["settings"], plan, catalogue)
            state = {name.removeprefix("state."): array for name, array in arrays.items()}
            check_state(model.name, state, len(catalogue))
            guarantee = _backed(Guarantee.from_dict(header["guarantee"]), plan, catalogue)
            about = fields_of(_About, header)
        except (KeyError, TypeError, ValueError, DiscreetError) as error:
            raise ArtefactError(f"the model file cannot be read by this version of discreet: {_told(error)}") from None
        return cls(model, state, plan, guarantee, catalogue, **about)

    @classmethod
    def load(cls, path: str | Path) -> Trained:
        """Read a model file.

        Raises:
            ArtefactError: if it is missing, damaged, or something else.
        """
        try:
            content = Path(path).read_bytes()
        except OSError as error:
            raise ArtefactError(f"cannot read the model {path}: {error.strerror}") from None
        try:
            return cls.from_bytes(content)
        except ArtefactError as error:
            raise ArtefactError(f"{path}: {error}") from None

    def _header(self) -> dict[str, Any]:
        return {
            "format": FORMAT,
            "model": self.model.name,
            "settings": asdict(self.model),
            "plan": self.plan.to_dict(),
            "guarantee": self.guarantee.to_dict(),
            "unsafe_noise": self.unsafe_noise,
            "catalogue": self.catalogue.to_dict(),
            "dataset": self.dataset,
            "purpose": self.purpose,
            "people": self.people,
            "release": self.release,
        }


@contextmanager
def _computing() -> Iterator[None]:
    """Turn what no solver can solve into one line: each number may be sound, and all of them together nonsense."""
    try:
        yield
    except np.linalg.LinAlgError:
        raise ArtefactError("the model holds numbers that cannot be computed with; retrain it") from None


def _backed(guarantee: Guarantee, plan: Plan, catalogue: Catalogue) -> Guarantee:
    """Return the guarantee if it is what the plan gives: a file is not believed when it promises more."""
    if {name for name, _ in plan.weights} - catalogue.sensitive:
        raise ArtefactError("it promises something of a category that no item is of; retrain it")
    if guarantee != Guarantee.of(plan, **_claimed(guarantee)):
        raise ArtefactError("its promise is not that of its plan; retrain it")
    return guarantee


def _claimed(guarantee: Guarantee) -> dict[str, Any]:
    """Return what no plan tells."""
    names = ("secure", "catalogue_declared", "window")
    return {name: getattr(guarantee, name) for name in names}


@dataclass(frozen=True)
class _About:
    """What a header says of a model in words and numbers."""

    dataset: str
    purpose: str
    people: int
    release: str | None


def _model(kind: str, settings: dict[str, Any], plan: Plan, catalogue: Catalogue) -> Model:
    found = KINDS[kind](**fields_of(KINDS[kind], settings))
    if len(settings) != len(fields(found)) or found.items != len(catalogue) or found.rounds != plan.rounds:
        raise ArtefactError("its settings do not fit its plan or its catalogue; retrain it")
    return found


def _told(error: Exception) -> str:
    """Return what an error says, if that is a line: it may quote what the file holds."""
    said = str(error)
    return said if said.isprintable() and len(said) <= LONGEST_REASON else type(error).__name__
