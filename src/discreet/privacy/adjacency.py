"""Who is protected: which two data sets must not be told apart."""

from __future__ import annotations

from enum import Enum


class Adjacency(Enum):
    """Two data sets are neighbours if they differ in one person's whole history, in one of these ways.

    The number of people is public in both: a model and its card tell it. So to remove a person is to put an empty
    history in the place of theirs, which adds a row of zeros to every sum.
    """

    ADD_OR_REMOVE_PERSON = "one person's whole history and an empty one in its place"
    REPLACE_PERSON = "one person's whole history and any other in its place"

    @property
    def moves(self) -> int:
        """How many bounds the sum of bounded vectors can move between neighbours: one row goes, or goes and comes."""
        return {Adjacency.ADD_OR_REMOVE_PERSON: 1, Adjacency.REPLACE_PERSON: 2}[self]
