"""The server sees the history, makes the list and forgets the history. What most services do."""

from __future__ import annotations

from dataclasses import dataclass

from discreet.inference.base import History
from discreet.models.slate import Slate
from discreet.models.trained import Trained


@dataclass(frozen=True)
class Plain:
    """The answering side learns the history and the list.

    Attributes:
        trained: the released model.
        n: length of the list.
    """

    trained: Trained
    n: int = 10

    def ask(self, history: History) -> tuple[tuple[str | int, ...], None]:
        """Send the history."""
        return tuple(history), None

    def answer(self, request: tuple[str | int, ...]) -> Slate:
        """Make the list."""
        return self.trained.recommend(request, self.n)

    def read(self, reply: Slate, kept: None) -> Slate:
        """Take the list as it is."""
        del kept
        return reply
