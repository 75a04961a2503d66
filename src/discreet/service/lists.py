"""Lists over HTTP, made without their makers seeing a history: the answering side of each way.

==========================================  =======================================================================
``GET  /lists/v1``                          which ways there are (JSON)
``GET  /lists/v1/on_device/model``          the released model, with an entity tag; 304 to whoever has it, 226 and what
                                            changed (RFC 3229) to whoever has the one before and accepts that
``GET  /lists/v1/WAY/outline``              what a device has to know of it, likewise
``GET  /lists/v1/noisy/model``              what is released of live data: the same for everybody, until it changes
``POST /lists/v1/shared``                   half a question to one of two servers: half of the scores
``POST /lists/v1/shared/rows``              half a question for rows of the encoder
``POST /lists/v1/retrieved``                half a question for pages: half of the pages
``GET  /lists/v1/hinted/hint``              what one server's pages are fetched with: see ``inference/hinted``
``POST /lists/v1/hinted``                   a question for one page
``POST /lists/v1/encrypted``                an encrypted question: encrypted scores; 428 if its key is not held
``PUT  /lists/v1/encrypted/key``            a device's evaluation key
``POST /lists/v1/mpc``                      a share of a question to each of three servers
``POST /lists/v1/garbled``, ``/rows``       half a question to each of two servers that garble: see ``garblings``
==========================================  =======================================================================

Questions are bounded before they are read, and held for no longer than it takes to answer them; nothing about them is
logged. As many are computed at a time as there are cores; the others wait, and after a while are told to come again.

How many questions an address may ask within 24 hours can be limited (429 then, before a body is read): over all ways
together, keys and rows and halves included, whatever comes of each, as what is refused costs this server, too. What
does not count: pages, and what the other server of two signs. Addresses and times are kept in memory alone.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import threading
from collections.abc import Callable, Coroutine, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, cast

from fastapi import FastAPI, Request, Response

from discreet.client.wire import BINARY, CHANGE, Wire
from discreet.errors import BudgetExceeded, EngineLost, SettingError
from discreet.inference import encrypted, garbled, hinted, on_device, retrieved, shared
from discreet.inference.garbled import CANDIDATES
from discreet.inference.hinted import LEAST_TABLE
from discreet.inference.noisy import Noisy
from discreet.inference.outline import Outline
from discreet.models.trained import Trained
from discreet.protocols.encryption import KeyWanted, Scheme
from discreet.protocols.oblivious import EVALUATOR, GARBLER
from discreet.protocols.ranking import Ranker
from discreet.protocols.two_servers import SESSION_BYTES
from discreet.service.garblings import STEPS, EvaluatorHouse, GarblerHouse
from discreet.service.http import Daily, Refused, Statuses, answer, application, body, sender, signed_body

ROOT = "/lists/v1"
MODEL, LIVE = "on_device/model", "noisy/model"
MOST_RANKED = 8
"""Questions that one of three servers works on at a time, with the others."""
WAITING = 10.0
"""Seconds that a question waits for its turn."""
STATUSES: Statuses = {
    KeyWanted: (428, "key-wanted"),
    EngineLost: (503, "not-now"),
    BudgetExceeded: (409, "budget-exhausted"),
}


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
class Given:
    """What ways to make lists are offered with.

    Attributes:
        trained: the released model.
        previous: models that devices may still hold.
        pages: of each item of the catalogue, for those who retrieve them.
        scheme: what queries are encrypted with.
        seat: of this server of two that garble.
        live: what lists of live data come from.
        least: bytes of all pages below which ``hinted`` is refused.
    """

    trained: Trained
    previous: Sequence[Trained] = ()
    pages: Sequence[bytes] = ()
    scheme: Scheme | None = None
    seat: Seat | None = None
    live: Noisy | None = None
    least: int = LEAST_TABLE


@dataclass(frozen=True)
class Offer:
    """What a server offers: pages and questions, by their path after the root.

    Attributes:
        ways: that it answers in.
        pages: public, the same for everybody.
        questions: each answered by itself.
        changes: to the model that devices hold, by the entity tag of the one before.
        live: what lists of live data come from.
    """

    ways: tuple[str, ...]
    pages: Mapping[str, Page] = field(default_factory=dict)
    questions: Mapping[str, Question] = field(default_factory=dict)
    changes: Mapping[str, bytes] = field(default_factory=dict, repr=False)
    live: Noisy | None = field(default=None, repr=False)

    @classmethod
    def of(cls, ways: tuple[str, ...], given: Given) -> Offer:
        """Prepare ways to make lists.

        Args:
            ways: of ``WAYS``.
            given: what with.

        Raises:
            SettingError: a way is none, or not one for this kind of model, or lacks something; or the model was made
                unsafely.
        """
        if given.trained.unsafe_noise:
            raise SettingError("the model's noise came from a test seed; such a model is not served")
        whole = cls(ways)
        for way in ways:
            if way not in _OFFERS:
                raise SettingError(f"there is no way {way!r}; there are {', '.join(WAYS)}")
            part = _OFFERS[way](given)
            pages, questions = {**whole.pages, **part.pages}, {**whole.questions, **part.questions}
            whole = cls(ways, pages, questions, {**whole.changes, **part.changes}, part.live or whole.live)
        return whole


def lists(offer: Offer, per_day: int | None = None) -> FastAPI:
    """Return the application of a server that makes lists.

    Args:
        offer: pages and questions.
        per_day: questions that one address may ask within 24 hours, 1 or more; None: any number.
    """
    app, daily = application("discreet lists", STATUSES), None if per_day is None else Daily(per_day)
    said = json.dumps({"ways": offer.ways}).encode()
    turns = asyncio.Semaphore(os.cpu_count() or 1)

    @app.get(ROOT)
    async def ways() -> Response:
        return Response(said, media_type="application/json")

    @app.get(ROOT + "/{path:path}")
    async def page(path: str, request: Request) -> Response:
        found = offer.pages.get(path)
        if path == LIVE and offer.live is not None:
            found = Page.of(await asyncio.to_thread(offer.live.current))
        if found is None:
            raise _nothing()
        changes = offer.changes if path == MODEL and CHANGE in request.headers.get("a-im", "") else {}
        return _sent(found, request.headers.get("if-none-match", ""), changes)

    @app.put(ROOT + "/{path:path}")
    @app.post(ROOT + "/{path:path}")
    async def question(path: str, request: Request) -> Response:
        asked = offer.questions.get(path)
        if asked is None:
            raise _nothing()
        content = await _heard(asked, request, daily)
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


async def _heard(asked: Question, request: Request, daily: Daily | None) -> bytes:
    """Return a question: signed by whom it has to be; or anybody's, counted before it is read."""
    if asked.by is not None:
        return await signed_body(request, asked.most, asked.by)
    if daily is not None:
        daily.take(sender(request))
    return await body(request, asked.most)


def _nothing() -> Refused:
    return Refused(404, "no-such-resource", "there is nothing of this kind at this address")


def _sent(page: Page, held: str, changes: Mapping[str, bytes]) -> Response:
    """Return a page, what changed in it, or that it is the one that is held."""
    if page.tag in held:
        return Response(status_code=304, headers={"ETag": page.tag})
    if held in changes:
        return Response(changes[held], 226, {"ETag": page.tag, "IM": CHANGE}, media_type=BINARY)
    told = answer(page.content)
    told.headers["ETag"] = page.tag
    return told


def _on_device(given: Given) -> Offer:
    server = on_device.Server(given.trained, given.previous)
    changes = {f'"{held}"': change for held, change in server.changes.items() if change}
    return Offer((), {MODEL: Page.of(server.model)}, {}, changes)


def _shared(given: Given) -> Offer:
    server = shared.Server(given.trained)
    both = shared.Shared(shared.Device(server.outline), (server, server))
    both.answer(both.ask(server.outline.catalogue.ids[:1])[0])  # kernels are compiled at their first use
    asked = {"shared": Question(server.most, server.answer), "shared/rows": Question(server.most_of_rows, server.row)}
    return Offer((), {"shared/outline": _page(server.outline)}, asked)


def _retrieved(given: Given) -> Offer:
    library = retrieved.Library(given.pages)
    outline = _page(library.outline(given.trained.catalogue))
    return Offer((), {"retrieved/outline": outline}, {"retrieved": Question(library.most, library.answer)})


def _hinted(given: Given) -> Offer:
    library = hinted.HintedLibrary(given.pages, given.least)
    pages = {"hinted/outline": _page(library.outline(given.trained.catalogue)), "hinted/hint": Page.of(library.hint)}
    return Offer((), pages, {"hinted": Question(library.most, library.answer)})


def _encrypted(given: Given) -> Offer:
    if given.scheme is None:
        raise SettingError("encrypted queries need a cryptosystem")
    server = encrypted.Server(given.trained, given.scheme)
    asked = {
        "encrypted": Question(server.evaluator.most, server.answer),
        "encrypted/key": Question(server.evaluator.most_of_key, server.key),
    }
    return Offer((), {"encrypted/outline": _page(server.outline)}, asked)


def _garbled(given: Given) -> Offer:
    seat = given.seat
    if seat is None or (seat.peer is None) == (seat.wire is None):
        raise SettingError("of two servers that garble, the first knows the second's key, or the second the way")
    server = garbled.Server(given.trained, GARBLER if seat.wire is None else EVALUATOR, seat.n, seat.candidates)
    asked = {"garbled/rows": Question(server.most_of_rows, server.row)}
    if seat.wire is not None:
        evaluator = EvaluatorHouse(server, seat.wire)
        threading.Thread(target=evaluator.prepare, daemon=True).start()
        asked["garbled"] = Question(server.most, evaluator.answer)
    else:
        garbler = GarblerHouse(server)
        asked["garbled"] = Question(server.most, garbler.answer)
        asked["garbled/half"] = Question(server.most, garbler.hold)
        asked["garbled/here"] = Question(SESSION_BYTES, garbler.here, seat.peer)
        for name, work in (("point", garbler.point), ("columns", garbler.columns), ("difference", garbler.difference)):
            asked[f"garbled/{name}"] = Question(server.terms.passed_size(STEPS[name]), work, seat.peer)
    return Offer((), {"garbled/outline": _page(server.outline)}, asked)


def _noisy(given: Given) -> Offer:
    if given.live is None:
        raise SettingError("lists of live data need a data set")
    return Offer((), live=given.live)


_OFFERS: dict[str, Callable[[Given], Offer]] = {
    "on_device": _on_device,
    "shared": _shared,
    "retrieved": _retrieved,
    "hinted": _hinted,
    "encrypted": _encrypted,
    "garbled": _garbled,
    "noisy": _noisy,
}
WAYS = tuple(_OFFERS)


def ranked(outline: Outline, ranker: Ranker) -> Offer:
    """Return what one of three servers offers that compute on shares; it waits for the others."""
    threads = ThreadPoolExecutor(MOST_RANKED)

    async def work(content: bytes) -> bytes:
        return await asyncio.get_running_loop().run_in_executor(threads, ranker.answer, content)

    return Offer(("mpc",), {"mpc/outline": _page(outline)}, {"mpc": Question(ranker.most, work)})


def _page(outline: Outline) -> Page:
    return Page.of(outline.to_bytes())
