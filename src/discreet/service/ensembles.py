"""Lists by several organisations over HTTP: each member, and whoever asks all of them.

==================================================  ================================================================
``GET  /ensembles/v1/AGREEMENT/SEAT/items``         ids of the catalogue (JSON), which the agreement names by digest
``POST /ensembles/v1/AGREEMENT/SEAT/nonces``        a nonce, for one sitting
``POST /ensembles/v1/AGREEMENT/SEAT/answers``       a sitting and a history: points under masks
==================================================  ================================================================

Every request is signed by one of those who may ask, whose keys each member pins. Agreement and seat are part of what is
signed: a member that is asked cannot ask the others in the asker's name. The history goes to each member as positions
in the catalogue; members use and forget it, and log nothing. What is counted is nonces; one that is not used is
forgotten after a while.
"""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from fastapi import FastAPI, Request, Response

from discreet.client.device import Items
from discreet.client.wire import Wire
from discreet.data.catalogue import Catalogue
from discreet.errors import DataError, EngineLost, ProtocolError, SettingError, TermsRefused, TooFewLeft
from discreet.inference.base import History
from discreet.inference.ensemble import Asker, Member
from discreet.inference.outline import Kept
from discreet.models.slate import Slate
from discreet.protocols.ensemble import Agreement, Summing, longest
from discreet.protocols.keys import Roster
from discreet.protocols.messages import Message
from discreet.service.http import Daily, Statuses, answer, application, signed_body, signer

ROOT = "/ensembles/v1"
LASTING = 600.0
"""Seconds after which a nonce that was not used is forgotten."""
PER_DAY = 100
HEAD_BYTES = 10
"""Of a question: kind and version, and two lengths."""
AT_ONCE = 32
"""Members that are asked at the same time."""
STATUSES: Statuses = {TermsRefused: (403, "terms-refused")}


@dataclass(frozen=True, repr=False)
class Question(Message):
    """What each member is asked.

    Attributes:
        sitting: see ``protocols/ensemble``.
        known: positions of the history's items in the catalogue, ascending.
    """

    KIND = 45

    sitting: bytes
    known: tuple[int, ...]


def ensembles(member: Member, peers: Roster, *, per_day: int = PER_DAY, lasting: float = LASTING) -> FastAPI:
    """Return the application of a member.

    Args:
        member: the organisation.
        peers: signing keys of those who may ask, pinned.
        per_day: sittings for which each of them may open nonces within 24 hours.
        lasting: seconds after which a nonce is forgotten.

    Raises:
        SettingError: the model was made unsafely.
    """
    if member.trained.unsafe_noise:
        raise SettingError("the model's noise came from a test seed; such a model is not served")
    app = application("discreet ensembles", STATUSES, once=True)
    organisation, ids = member.organisation, member.trained.catalogue.ids
    agreement, daily, turns = organisation.agreement, Daily(per_day), asyncio.Semaphore(os.cpu_count() or 1)
    most, listed = HEAD_BYTES + longest(agreement) + 8 * len(ids), json.dumps(ids).encode()

    def check(named: str, seat: int) -> None:
        if (named, seat) != (agreement.digest.hex(), member.seat):
            raise TermsRefused(f"this organisation has seat {member.seat}, of an agreement; another was asked")

    def work(content: bytes) -> bytes:
        question = Question.from_bytes(content, most)
        if not all(position < len(ids) for position in question.known):
            raise ProtocolError("a history holds a position that is not in the catalogue")
        return member.answer(question.sitting, [ids[position] for position in question.known])

    @app.get(ROOT + "/{named}/{seat}/items")
    async def items(named: str, seat: int, request: Request) -> Response:
        await signed_body(request, 0, *peers)
        check(named, seat)
        return Response(listed, media_type="application/json")

    @app.post(ROOT + "/{named}/{seat}/nonces")
    async def opened(named: str, seat: int, request: Request) -> Response:
        peer = signer(request, *peers)
        await signed_body(request, 0, peer)
        check(named, seat)
        daily.take(peer)
        nonce = member.open()
        asyncio.get_running_loop().call_later(lasting, organisation.forget, nonce)
        return answer(nonce)

    @app.post(ROOT + "/{named}/{seat}/answers")
    async def answered(named: str, seat: int, request: Request) -> Response:
        signer(request, *peers)
        check(named, seat)
        content = await signed_body(request, most, *peers)
        async with turns:
            return answer(await asyncio.to_thread(work, content))

    return app


class Ensemble:
    """The organisations, seen by who asks. The history goes to each of them.

    Args:
        agreement: of the organisations.
        wires: to each, in order of seats, signed by who asks.
        n: length of a list.

    Raises:
        SettingError: there are more wires than organisations, or fewer.
        TooFewLeft: an organisation does not answer; names the seat.
        ProtocolError: the first sends another catalogue than was agreed on, or refuses; names the seat.
    """

    def __init__(self, agreement: Agreement, wires: Sequence[Wire], n: int = 10) -> None:
        if len(wires) != len(agreement.organisations):
            count = len(agreement.organisations)
            raise SettingError(f"{count} organisations agreed, {len(wires)} addresses are given; one each, in order")
        self._wires, self._place = wires, f"{ROOT}/{agreement.digest.hex()}"
        content = self._from([0], lambda wire, place: wire.get(f"{place}/items") or b"")[0]
        try:
            self._asker = Asker(agreement, Catalogue(Items(content).ids), n)
        except (DataError, SettingError):
            raise ProtocolError("the organisation at seat 0 has another catalogue than was agreed on", 0) from None

    def ask(self, history: History) -> tuple[bytes, Kept[Summing]]:
        """Have each organisation open a sitting; then see ``inference.ensemble.Asker.ask``."""
        nonces = self._from(self._seats, lambda wire, place: wire.post(f"{place}/nonces", b""))
        sitting, kept = self._asker.ask(history, [nonces[seat] for seat in self._seats])
        return Question(sitting, tuple(kept.known.tolist())).to_bytes(), kept

    def answer(self, request: bytes) -> dict[int, bytes]:
        """Ask each organisation."""
        return self._from(self._seats, lambda wire, place: wire.post(f"{place}/answers", request))

    def read(self, reply: Mapping[int, bytes], kept: Kept[Summing]) -> Slate:
        """See ``inference.ensemble.Asker.read``."""
        return self._asker.read(reply, kept)

    @property
    def _seats(self) -> range:
        return range(len(self._wires))

    def _from(self, seats: Sequence[int], ask: Callable[[Wire, str], bytes]) -> dict[int, bytes]:
        """Return what some organisations say: of all, or of none."""

        def one(seat: int) -> bytes | EngineLost:
            try:
                return ask(self._wires[seat], f"{self._place}/{seat}")
            except EngineLost as error:
                return error
            except ProtocolError as error:
                raise ProtocolError(f"the organisation at seat {seat}: {error}", blame=seat) from None

        with ThreadPoolExecutor(min(len(seats), AT_ONCE)) as pool:
            said = dict(zip(seats, pool.map(one, seats), strict=True))
        answers = {seat: each for seat, each in said.items() if not isinstance(each, EngineLost)}
        missing = {seat: each for seat, each in said.items() if isinstance(each, EngineLost)}
        if missing:
            reason = next(iter(missing.values()))
            raise TooFewLeft(f"no sum without an answer of each organisation; at seats {[*missing]}: {reason}")
        return answers
