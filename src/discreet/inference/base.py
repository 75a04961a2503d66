"""The shape of every way to recommend: two sides that talk in messages."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, TypeVar

from discreet.models.slate import Slate

Request = TypeVar("Request")
Reply = TypeVar("Reply")
Kept = TypeVar("Kept")

History = Sequence[str | int]


class Recommender(Protocol[Request, Reply, Kept]):
    """A way to make a list. What the answering side learns is what ``ask`` sends, and nothing else."""

    def ask(self, history: History) -> tuple[Request, Kept]:
        """On the person's side: the message to send, and what to keep until the reply."""

    def answer(self, request: Request) -> Reply:
        """On the server's side."""

    def read(self, reply: Reply, kept: Kept) -> Slate:
        """On the person's side: the list."""
