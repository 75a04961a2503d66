"""One server computes all scores of a query that it cannot read; nobody has to be trusted not to tell.

A device encrypts the query, the server computes on the ciphertext (``protocols/encryption``), the device decrypts the
scores. It holds an outline (``inference/outline``) and, if the query is a factor, the encoder: its rows are handed out
whole, since there is no second server to fetch them from unseen. The decoder stays with the server.

Keys are made on the device, serve ``QUESTIONS`` questions, and are made anew: the server sees which questions are under
one key. It learns nothing else of a history than that somebody asked. The person learns every score.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from discreet.errors import ProtocolError, SettingError
from discreet.inference.base import History
from discreet.inference.outline import Kept, Outline, factors, finest, quantised
from discreet.models.slate import Slate
from discreet.models.trained import Trained
from discreet.protocols.encryption import (
    MOST_WIDTH,
    Encryption,
    EncryptionTerms,
    Evaluator,
    Keyring,
    KeyWanted,
    Scheme,
)

MOST = 511
"""Largest absolute value of the matrix: ten bits, so that as many are left for the query."""
ROWS_MOST = 32767
"""The same of an encoder's rows, which are computed with on the device alone."""
QUESTIONS = 100
"""That are asked under one key: making one costs little, sending it more than a question."""
ENCRYPTION = "encryption"
"""Terms in an outline."""


@dataclass(frozen=True)
class Request:
    """What a device sends.

    Attributes:
        question: each time.
        key: once the server says that it does not hold it.
    """

    question: bytes = field(repr=False)
    key: bytes = field(repr=False)


class Server:
    """The answering side.

    Args:
        trained: the released model, of kind ``subspace`` or ``gram``.
        scheme: what queries are encrypted with.

    Raises:
        SettingError: its scores are of another shape, the same for everybody, or of queries that are too wide.
    """

    def __init__(self, trained: Trained, scheme: Scheme) -> None:
        encoder, decoder = factors(trained)
        if decoder.shape[1] > MOST_WIDTH:
            raise SettingError(
                f"a query of {decoder.shape[1]} numbers takes too long under encryption; at most {MOST_WIDTH}"
            )
        matrix, scales = quantised(decoder, MOST)
        source = None
        if encoder is not None:
            source, steps = quantised(encoder, ROWS_MOST)
            scales = scales * steps
        self.evaluator = Evaluator(matrix, scheme)
        state, terms = trained.state, {ENCRYPTION: self.evaluator.terms.to_bytes()}
        self.outline = Outline(trained.catalogue, state["kept"], state["counts"], scales, terms, source)

    def key(self, content: bytes) -> None:
        """See ``Evaluator.take``."""
        self.evaluator.take(content)

    def answer(self, request: bytes) -> bytes:
        """See ``Evaluator.answer``."""
        return self.evaluator.answer(request)


class Device:
    """The person's side. Keeps its keys; the history stays in the call.

    Args:
        outline: of the model.
        scheme: what queries are encrypted with.
        n: length of the list.

    Raises:
        ProtocolError: the outline is of another way or cryptosystem, or damaged.
    """

    def __init__(self, outline: Outline, scheme: Scheme, n: int = 10) -> None:
        if ENCRYPTION not in outline.terms:
            raise ProtocolError("this outline is of another way to make lists; ask for that of `encrypted`")
        self.outline, self.n, self._scheme = outline, n, scheme
        self._terms = EncryptionTerms.from_bytes(outline.terms[ENCRYPTION])
        rows = self._terms.width if outline.source is None else len(outline.kept)
        if (self._terms.rows, self._terms.width, rows) != (len(outline.kept), len(outline.scales), len(outline.kept)):
            raise ProtocolError("the outline's parts do not fit together; ask for it again")
        self._keys, self._left = Keyring(self._terms, scheme), QUESTIONS

    def ask(self, history: History) -> tuple[Request, Kept[Encryption]]:
        """Encrypt the query.

        Raises:
            SettingError: the history holds something other than ids.
        """
        places, known, unknown = self.outline.known(history)
        if self._left == 0:
            self._keys, self._left = Keyring(self._terms, self._scheme), QUESTIONS
        query, step = finest(self._source(places) * self.outline.scales, self._terms.longest, self._scheme.limit)
        encryption, self._left = Encryption(self._keys, query), self._left - 1
        return Request(encryption.question, self._keys.message), Kept(encryption, known, unknown, step)

    def read(self, reply: bytes, kept: Kept[Encryption]) -> Slate:
        """Decrypt the scores, and make the list.

        Raises:
            ProtocolError: it cannot be the answer to this question.
            SettingError: the list is to be shorter than one.
        """
        among_kept = (kept.side.read(reply) * kept.step).astype(np.float32)
        return self.outline.listed(among_kept, kept.known, kept.unknown, self.n)

    def _source(self, places: list[int]) -> NDArray[np.float64]:
        if self.outline.source is not None:
            total: NDArray[np.float64] = self.outline.source[places].sum(axis=0, dtype=np.float64)
            return total
        source = np.zeros(self._terms.width)
        source[places] = 1.0
        return source


class Answering(Protocol):
    """The server, wherever it is."""

    def answer(self, request: bytes) -> bytes:
        """Return the encrypted scores. Raises KeyWanted."""

    def key(self, content: bytes) -> None:
        """Hold a device's evaluation key."""


class Encrypted:
    """A device, and a server.

    Args:
        device: of the person.
        server: whom it asks.
    """

    def __init__(self, device: Device, server: Answering) -> None:
        self.device, self.server = device, server

    @classmethod
    def here(cls, trained: Trained, scheme: Scheme, n: int = 10) -> Encrypted:
        """Return both in one process."""
        server = Server(trained, scheme)
        return cls(Device(server.outline, scheme, n), server)

    def ask(self, history: History) -> tuple[Request, Kept[Encryption]]:
        """See ``Device.ask``."""
        return self.device.ask(history)

    def answer(self, request: Request) -> bytes:
        """Return the server's answer, after sending it the key, if that is wanted, once."""
        try:
            return self.server.answer(request.question)
        except KeyWanted:
            self.server.key(request.key)
            return self.server.answer(request.question)

    def read(self, reply: bytes, kept: Kept[Encryption]) -> Slate:
        """See ``Device.read``."""
        return self.device.read(reply, kept)
