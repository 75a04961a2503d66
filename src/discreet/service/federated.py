"""Federated training over HTTP: sessions as resources, for a coordinator and for the first of two servers.

========================================================  =========================================================
``GET  /federated/v1/items``                              the list of items (JSON)
``GET  /federated/v1/rounds/next?after=SESSION``          terms and what is asked, of the session that is open
``PUT  /federated/v1/rounds/SESSION/STAGE/SEAT``          a seat's message of a stage; the same twice counts once
``GET  /federated/v1/rounds/SESSION/STAGE/SEAT``          what the seat is sent when the stage is over
``GET  /federated/v1/model``                              the released model
``PUT  /federated/v1/halves/SESSION``                     two servers: the second opens a session with the first
``PUT  /federated/v1/halves/SESSION/seats/SEAT``          a seat's message to the first
``GET  /federated/v1/halves/SESSION/held``                to the second: whose messages there are (JSON)
``PUT  /federated/v1/halves/SESSION/total``               the second: whose to add up (JSON)
``GET  /federated/v1/halves/SESSION/total``               to the second: this half of the sum
========================================================  =========================================================

Questions that have no answer yet are kept waiting, and then answered with 204. Every request but for what is public is
signed by its seat (Ed25519, over method, path and the body's digest), which is known before any of the body is read.
Messages are bounded before they are parsed. What else holds: ``service/http``.
"""

from __future__ import annotations

from fastapi import FastAPI, Request, Response

from discreet.client.wire import LONG_POLL
from discreet.errors import TermsRefused, TooFewLeft
from discreet.protocols.keys import Roster
from discreet.protocols.messages import SHORT
from discreet.protocols.secagg.terms import Stage
from discreet.service.halves import First
from discreet.service.http import Refused, Statuses, answer, application, signed_body
from discreet.service.rounds import Rounds
from discreet.training.spool import NotKnown, NotNow, TooLate

ROOT = "/federated/v1"
WAIT = LONG_POLL - 5
"""Seconds that a question is kept waiting."""

STATUSES: Statuses = {
    NotKnown: (404, "no-such-session"),
    NotNow: (503, "not-now"),
    TooLate: (410, "too-late"),
    TooFewLeft: (409, "too-few-left"),
    TermsRefused: (403, "terms-refused"),
}


def coordinator(rounds: Rounds, items: bytes) -> FastAPI:
    """Return the application of a coordinator.

    Args:
        rounds: what is going on.
        items: the list of items, JSON.
    """
    app = application("discreet coordinator", STATUSES, once=True)

    @app.get(f"{ROOT}/items")
    async def listed() -> Response:
        return Response(items, media_type="application/json")

    @app.get(f"{ROOT}/rounds/next")
    async def following(after: str = "") -> Response:
        return answer(await rounds.next(after, WAIT))

    @app.put(ROOT + "/rounds/{session}/{stage}/{seat}")
    async def say(session: str, stage: str, seat: int, request: Request) -> Response:
        content = await signed_body(request, rounds.most(session), _key_of(rounds.roster, seat))
        rounds.take(session, _stage(stage), seat, content)
        return answer(None)

    @app.get(ROOT + "/rounds/{session}/{stage}/{seat}")
    async def hear(session: str, stage: str, seat: int, request: Request) -> Response:
        await signed_body(request, 0, _key_of(rounds.roster, seat))
        return answer(await rounds.reply(session, _stage(stage), seat, WAIT))

    @app.get(f"{ROOT}/model")
    async def released() -> Response:
        if rounds.result is None:
            raise NotKnown("no model is released yet")
        return answer(rounds.result)

    return app


def first_server(first: First) -> FastAPI:
    """Return the application of the first of two servers."""
    app = application("discreet first server", STATUSES, once=True)

    @app.put(ROOT + "/halves/{session}")
    async def begin(session: str, request: Request) -> Response:
        first.begin(session, await signed_body(request, SHORT, first.second))
        return answer(None)

    @app.put(ROOT + "/halves/{session}/seats/{seat}")
    async def say(session: str, seat: int, request: Request) -> Response:
        content = await signed_body(request, first.most(session), _key_of(first.roster, seat))
        first.take(session, seat, content)
        return answer(None)

    @app.get(ROOT + "/halves/{session}/held")
    async def held(session: str, request: Request) -> Response:
        await signed_body(request, 0, first.second)
        return answer(first.held(session))

    @app.put(ROOT + "/halves/{session}/total")
    async def add(session: str, request: Request) -> Response:
        first.add(session, await signed_body(request, SHORT, first.second))
        return answer(None)

    @app.get(ROOT + "/halves/{session}/total")
    async def total(session: str, request: Request) -> Response:
        await signed_body(request, 0, first.second)
        return answer(first.total(session))

    return app


def _key_of(roster: Roster, seat: int) -> bytes:
    if not 0 <= seat < len(roster):
        raise Refused(401, "not-signed", "there is no such seat")
    return roster[seat]


def _stage(name: str) -> Stage:
    try:
        return Stage[name.upper()]
    except KeyError:
        raise NotKnown("there is no such stage") from None
