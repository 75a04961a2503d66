"""Who is protected: which two data sets must not be told apart."""

from __future__ import annotations

from enum import Enum


class Adjacency(Enum):
    """Two data sets are neighbours if they differ in one person's whole history, in one of these ways."""

    ADD_OR_REMOVE_PERSON = "add or remove one person"
    REPLACE_PERSON = "replace one person by another"

    @property
    def moves(self) -> int:
        """How many bounds the sum of bounded vectors can move between neighbours: one row goes, or goes and comes."""
        return {Adjacency.ADD_OR_REMOVE_PERSON: 1, Adjacency.REPLACE_PERSON: 2}[self]
