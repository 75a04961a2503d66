"""The items there are: public, whoever chose them. Read by devices too: NumPy is all that it imports."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import chain, pairwise
from numbers import Integral
from typing import TYPE_CHECKING, TypeAlias, cast

import numpy as np
from numpy.typing import NDArray

from discreet.errors import DataError, SettingError

if TYPE_CHECKING:
    from discreet.data.interactions import Rows

Ids: TypeAlias = tuple[str, ...] | tuple[int, ...]

CONTROL = r"[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]"
"""What would break a line, or turn the order of what is shown on it: in no id, no title and no tag."""

SENSITIVE = ("health", "religion", "sexuality", "politics", "minors")
"""What an item's category can be: choosing such an item may say of a person what is theirs to keep."""


@dataclass(frozen=True)
class Catalogue:
    """The items there are: public, and the order of every model's columns.

    Attributes:
        ids: the caller's own ids, all strings or all integers, ascending, unique, at least one.
        titles: one title an item, or None. An empty title means that the item has none.
        categories: one of ``SENSITIVE`` an item, or None. An empty category means that the item is in none.
        tags: public descriptions of each item, such as genres, ascending and unique within it; or None.

    Raises:
        DataError: the ids are mixed, unsorted, repeated or absent; one of the others differs from them in number; a
            category is not among ``SENSITIVE``; an item's tags are empty, unsorted or repeated; or something holds a
            control character.
    """

    ids: Ids
    titles: tuple[str, ...] | None = None
    categories: tuple[str, ...] | None = None
    tags: tuple[tuple[str, ...], ...] | None = None

    def __post_init__(self) -> None:
        """Refuse ids that could not be the columns of a matrix."""
        if not self.ids:
            raise DataError("the catalogue holds no items")
        if not _of_one_kind(self.ids):
            raise DataError("the catalogue's ids must be all strings or all whole numbers")
        if not ascending(self.ids):
            raise DataError("the catalogue's ids must be ascending and unique")
        for what, column in self._columns.items():
            if len(column) != len(self.ids):
                raise DataError(f"the catalogue has {len(self.ids)} ids but {len(column)} {what}")
        if not {"", *SENSITIVE}.issuperset(self.categories or ()):
            raise DataError(f"the catalogue's categories must be empty or one of: {', '.join(SENSITIVE)}")
        if not all(map(_are_tags, self.tags or ())):
            raise DataError("the catalogue's tags must be ascending and unique within an item, and none of them empty")
        tags = tuple(chain.from_iterable(self.tags or ()))
        for what, texts in (("ids", self.ids), ("titles", self.titles or ()), ("tags", tags)):
            if re.search(f"{CONTROL}|[\ud800-\udfff]", "".join(map(str, texts))):
                raise DataError(f"the catalogue's {what} hold a control character, or half a one; leave it out")

    def __len__(self) -> int:
        """How many items there are."""
        return len(self.ids)

    def __repr__(self) -> str:
        """The number of items, not the items: a catalogue may be long."""
        return f"Catalogue({', with '.join([f'{len(self)} items', *self._columns])})"

    @property
    def tagged(self) -> bool:
        """Whether any item has a tag."""
        return any(self.tags or ())

    @property
    def tag_matrix(self) -> Rows | None:
        """Which item has which tag: int8 ones, CSR [items, tags], tags in alphabetical order; None if there is none."""
        from scipy.sparse import csr_array

        if not self.tags or not self.tagged:
            return None
        places = {tag: place for place, tag in enumerate(sorted(set(chain.from_iterable(self.tags))))}
        indices = np.array([places[tag] for tags in self.tags for tag in tags], dtype=np.int32)
        ends = np.cumsum([0, *[len(tags) for tags in self.tags]]).astype(np.int32)
        return csr_array((np.ones(len(indices), np.int8), indices, ends), shape=(len(self), len(places)))

    @property
    def _columns(self) -> dict[str, tuple[str, ...] | tuple[tuple[str, ...], ...]]:
        """What there is beside the ids, by name."""
        columns = {"titles": self.titles, "categories": self.categories, "tags": self.tags}
        return {what: column for what, column in columns.items() if column is not None}

    @property
    def sensitive(self) -> frozenset[str]:
        """The categories that some item is in."""
        return frozenset(self.categories or ()) - {""}

    @cached_property
    def _places(self) -> dict[str, int]:
        return {str(item): place for place, item in enumerate(self.ids)}

    def positions(self, history: Iterable[str | int]) -> tuple[NDArray[np.int64], int]:
        """Find a history's items in the catalogue.

        A whole number and its decimal string are the same id, so a history typed on a command line works.

        Returns:
            The positions, int64, ascending and unique, and how many distinct items are not in the catalogue.

        Raises:
            SettingError: the history is one string, or holds something other than strings and whole numbers.
        """
        if isinstance(history, str | bytes):
            raise SettingError("a history is a list of item ids, not one string")
        if not _can_be_iterated(history):
            raise SettingError(f"a history is a list of item ids, not {type(history).__name__}")
        wanted = {_id_text(item) for item in history}
        known = [self._places[text] for text in wanted if text in self._places]
        return np.sort(np.array(known, dtype=np.int64)), len(wanted) - len(known)

    def title(self, position: int) -> str:
        """The title of the item at ``position``, or its id as a string when it has none."""
        return (self.titles[position] if self.titles else "") or str(self.ids[position])

    def to_dict(self) -> dict[str, list[str] | list[int] | list[list[str]] | None]:
        """The catalogue as plain lists, for JSON."""
        return {
            "ids": [*self.ids],
            "titles": None if self.titles is None else [*self.titles],
            "categories": None if self.categories is None else [*self.categories],
            "tags": None if self.tags is None else [[*tags] for tags in self.tags],
        }

    @classmethod
    def from_dict(cls, stored: object) -> Catalogue:
        """Read back what :meth:`to_dict` wrote.

        Raises:
            DataError: ``stored`` has another shape.
        """
        if not isinstance(stored, Mapping) or set(stored) != {"ids", "titles", "categories", "tags"}:
            raise DataError("a stored catalogue must have exactly 'ids', 'titles', 'categories' and 'tags'")
        titles, categories = (_stored_texts(stored[what], what) for what in ("titles", "categories"))
        return cls(_stored_ids(stored["ids"]), titles, categories, _stored_tags(stored["tags"]))


def _of_one_kind(ids: Iterable[object]) -> bool:
    return {type(item) for item in ids} in ({int}, {str})


def ascending(ids: tuple[str | int, ...]) -> bool:
    """Whether each of the ids, all of one kind, is above the one before."""
    same = cast("tuple[str, ...]", ids)  # what can be compared as strings can be as integers
    return all(a < b for a, b in pairwise(same))


def _are_tags(tags: tuple[str, ...]) -> bool:
    return ascending(tags) and "" not in tags


def _can_be_iterated(given: object) -> bool:
    return hasattr(given, "__iter__")


def _id_text(item: object) -> str:
    if isinstance(item, str):
        return item
    if isinstance(item, bool) or not isinstance(item, Integral):
        raise SettingError(f"ids in a history must be strings or whole numbers, not {type(item).__name__}")
    return str(int(item))


def _stored_ids(stored: object) -> Ids:
    ids = stored if isinstance(stored, list) else []
    if all(isinstance(item, str) for item in ids):
        return tuple(str(item) for item in ids)
    if _of_one_kind(ids):
        return tuple(int(item) for item in ids)
    raise DataError("a stored catalogue's ids must be all strings or all whole numbers")


def _stored_texts(stored: object, what: str) -> tuple[str, ...] | None:
    if stored is None:
        return None
    if isinstance(stored, list) and all(isinstance(text, str) for text in stored):
        return tuple(stored)
    raise DataError(f"a stored catalogue's {what} must be strings, or null")


def _stored_tags(stored: object) -> tuple[tuple[str, ...], ...] | None:
    if stored is None:
        return None
    each = [_stored_texts(tags, "tags") for tags in stored] if isinstance(stored, list) else [None]
    if None in each:
        raise DataError("a stored catalogue's tags must be lists of strings, or null")
    return tuple(tags or () for tags in each)
