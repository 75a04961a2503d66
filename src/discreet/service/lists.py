"""Lists over HTTP, made without their makers seeing a history: the answering side of each way.

==========================================  =======================================================================
``GET  /lists/v1``                          which ways there are (JSON)
``GET  /lists/v1/on_device/model``          the released model, with an entity tag; 304 to whoever has it, 226 and what
                                            changed (RFC 3229) to whoever has the one before and accepts that
``GET  /lists/v1/WAY/outline``              what a device has to know of it, likewise
``POST /lists/v1/shared``                   half a question to one of two servers: half of the scores
``POST /lists/v1/shared/rows``              half a question for rows of the encoder
``POST /lists/v1/retrieved``                half a question for pages: half of the pages
``POST /lists/v1/encrypted``                an encrypted question: encrypted scores; 428 if its key is not held
``PUT  /lists/v1/encrypted/key``            a device's evaluation key
``POST /lists/v1/garbled``, ``/rows``       half a question to each of two servers that garble: see ``garblings``
==========================================  =======================================================================

Questions are bounded before they are read, and held for no longer than it takes to answer them; nothing about them is
logged. As many are computed at a time as there are cores; the others wait, and after a while are told to come again.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import threading
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

from fastapi import FastAPI, Request, Response

from discreet.client.wire import BINARY, CHANGE, Wire
from discreet.errors import EngineLost, SettingError
from discreet.inference import encrypted, garbled, on_device, retrieved, shared
from discreet.inference.garbled import CANDIDATES
from discreet.inference.outline import Outline
from discreet.models.trained import Trained
from discreet.protocols.encryption import KeyWanted, Scheme
from discreet.protocols.oblivious import EVALUATOR, GARBLER
from discreet.service.garblings import STEPS, EvaluatorHouse, GarblerHouse
from discreet.service.http import Refused, Statuses, answer, application, body, signed_body

ROOT = "/lists/v1"
WAYS = ("on_device", "shared", "retrieved", "encrypted", "garbled")
WAITING = 10.0
"""Seconds that a question waits for its turn."""
STATUSES: Statuses = {KeyWanted: (428, "key-wanted"), EngineLost: (503, "not-now")}


Work = Callable[[bytes], bytes | None]
Waiting = Callable[[bytes], Coroutine[Any, Any, bytes]]


@dataclass(frozen=True)
class Page:
    """Something public, and its entity tag: quoted, of the SHA-256."""

    content: bytes = field(repr=False)
    tag: str

    @classmethod
    def of(cls, content: bytes) -> Page:
        """Tag some content."""
        return cls(content, f'"{hashlib.sha256(content).hexdigest()}"')


@dataclass(frozen=True)
class Question:
    """What may be asked at an address.

    Attributes:
        most: bytes that it may have.
        work: what answers it; None: nothing is said to it. If it waits for somebody, it is a coroutine.
        by: key of who may ask it, and signs it; None: anybody.
    """

    most: int
    work: Work | Waiting
    by: bytes | None = None


@dataclass(frozen=True)
class Seat:
    """Which of the two servers of ``garbled`` this is.

    Attributes:
        n: length of the lists.
        candidates: how many items are selected from; the same on both servers.
        peer: the first server's: public key of the second.
        wire: the second server's: to the first, signed.
    """

    n: int = 10
    candidates: int = CANDIDATES
    peer: bytes | None = None
    wire: Wire | None = field(default=None, repr=False)


@dataclass(frozen=True)
class Offer:
    """What a server offers of a model: pages and questions, by their path after the root.

    Attributes:
        ways: that it answers in.
        pages: public, the same for everybody.
        questions: each answered by itself.
        changes: to the model that devices hold, by the entity tag of the one before.
    """

    ways: tuple[str, ...]
    pages: Mapping[str, Page]
    questions: Mapping[str, Question]
    changes: Mapping[str, bytes] = field(default_factory=dict, repr=False)

    @classmethod
    def of(
        cls,
        trained: Trained,
        ways: tuple[str, ...],
        *,
        previous: Sequence[Trained] = (),
        pages: Sequence[bytes] = (),
        scheme: Scheme | None = None,
        seat: Seat | None = None,
    ) -> Offer:
        """Prepare a released model.

        Args:
            trained: the model.
            ways: of ``WAYS``.
            previous: models that devices may still hold.
            pages: of each item of the catalogue, for those who retrieve them.
            scheme: what queries are encrypted with.
            seat: of this server of two that garble.

        Raises:
            SettingError: a way is none, or not one for this kind of model, or the model was made unsafely.
        """
        if trained.unsafe_noise:
            raise SettingError("the model's noise came from a test seed; such a model is not served")
        public: dict[str, Page] = {}
        questions: dict[str, Question] = {}
        changes: dict[str, bytes] = {}
        for way in ways:
            match way:
                case "on_device":
                    device = on_device.Server(trained, previous)
                    public["on_device/model"] = Page.of(device.model)
                    changes = {f'"{held}"': change for held, change in device.changes.items() if change}
                case "shared":
                    server = shared.Server(trained)
                    _warmed(server)
                    public["shared/outline"] = _page(server.outline)
                    questions["shared"] = Question(server.most, server.answer)
                    questions["shared/rows"] = Question(server.most_of_rows, server.row)
                case "retrieved":
                    library = retrieved.Library(pages)
                    public["retrieved/outline"] = _page(library.outline(trained.catalogue))
                    questions["retrieved"] = Question(library.most, library.answer)
                case "encrypted":
                    if scheme is None:
                        raise SettingError("encrypted queries need a cryptosystem")
                    one = encrypted.Server(trained, scheme)
                    public["encrypted/outline"] = _page(one.outline)
                    questions["encrypted"] = Question(one.evaluator.most, one.answer)
                    questions["encrypted/key"] = Question(one.evaluator.most_of_key, one.key)
                case "garbled":
                    if seat is None or (seat.peer is None) == (seat.wire is None):
                        raise SettingError("of two servers that garble, the first knows the second's key, or the way")
                    garbling, asked = _garbling(trained, seat)
                    public["garbled/outline"] = _page(garbling.outline)
                    questions["garbled/rows"] = Question(garbling.most_of_rows, garbling.row)
                    questions |= asked
                case _:
                    raise SettingError(f"there is no way {way!r}; there are {', '.join(WAYS)}")
        return cls(ways, public, questions, changes)


def lists(offer: Offer) -> FastAPI:
    """Return the application of a server that makes lists."""
    app = application("discreet lists", STATUSES)
    said = json.dumps({"ways": offer.ways}).encode()
    turns = asyncio.Semaphore(os.cpu_count() or 1)

    @app.get(ROOT)
    async def ways() -> Response:
        return Response(said, media_type="application/json")

    @app.get(ROOT + "/{path:path}")
    async def page(path: str, request: Request) -> Response:
        found = offer.pages.get(path)
        if found is None:
            raise Refused(404, "no-such-resource", "there is nothing of this kind at this address")
        held = request.headers.get("if-none-match", "")
        if found.tag in held:
            return Response(status_code=304, headers={"ETag": found.tag})
        if CHANGE in request.headers.get("a-im", "") and path == "on_device/model" and held in offer.changes:
            headers = {"ETag": found.tag, "IM": CHANGE}
            return Response(offer.changes[held], 226, headers, media_type=BINARY)
        told = answer(found.content)
        told.headers["ETag"] = found.tag
        return told

    @app.put(ROOT + "/{path:path}")
    @app.post(ROOT + "/{path:path}")
    async def question(path: str, request: Request) -> Response:
        asked = offer.questions.get(path)
        if asked is None:
            raise Refused(404, "no-such-resource", "there is nothing of this kind at this address")
        content = await (body(request, asked.most) if asked.by is None else signed_body(request, asked.most, asked.by))
        if asyncio.iscoroutinefunction(asked.work):
            return answer(await cast("Waiting", asked.work)(content))
        try:
            async with asyncio.timeout(WAITING):
                await turns.acquire()
        except TimeoutError:
            raise Refused(503, "not-now", "too many ask at once; ask again") from None
        try:
            return answer(await asyncio.to_thread(cast("Work", asked.work), content))
        finally:
            turns.release()

    return app


def _garbling(trained: Trained, seat: Seat) -> tuple[garbled.Server, dict[str, Question]]:
    """Return one of the two servers that garble, and what it is asked."""
    number = GARBLER if seat.wire is None else EVALUATOR
    server = garbled.Server(trained, number, seat.n, seat.candidates)
    if seat.wire is not None:
        evaluator = EvaluatorHouse(server, seat.wire)
        threading.Thread(target=evaluator.prepare, daemon=True).start()
        return server, {"garbled": Question(server.most, evaluator.answer)}
    garbler = GarblerHouse(server)
    asked = {"point": garbler.point, "columns": garbler.columns, "difference": garbler.difference}
    between = {
        f"garbled/{name}": Question(server.terms.passed_size(STEPS[name]), work, seat.peer)
        for name, work in asked.items()
    }
    return server, {"garbled": Question(server.most, garbler.ask), **between}


def _warmed(server: shared.Server) -> None:
    """Ask a server something: kernels are compiled at their first use."""
    both = shared.Shared(shared.Device(server.outline), (server, server))
    both.answer(both.ask(server.outline.catalogue.ids[:1])[0])


def _page(outline: Outline) -> Page:
    return Page.of(outline.to_bytes())
