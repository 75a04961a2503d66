"""The coordinator's rounds: who is late, who says a thing twice, who is killed, and what is on record then."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Coroutine
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar, cast

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from federations import PEOPLE, Federation
from numpy.typing import NDArray

from discreet.client.device import Allowance, Part
from discreet.errors import EngineLost, LedgerError, ProtocolError, TermsRefused, TooFewLeft
from discreet.models.broadcast import MOST, Announcement, Broadcast
from discreet.privacy.disclosure import Kept
from discreet.protocols.keys import public_bytes, roster_digest
from discreet.protocols.secagg.terms import Stage, Terms
from discreet.protocols.sharing import HalfSum, SharedTerms
from discreet.service.halves import First, seats_of
from discreet.service.rounds import Rounds
from discreet.training.spool import NotKnown, NotNow, Spool, TooLate

FEDERATION = Federation.of("popularity")
SOON = 5.0
Result = TypeVar("Result")


@pytest.fixture(autouse=True)
def no_noise(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "discreet.privacy.mechanisms.discrete_gaussian.draw", lambda count, *_: np.zeros(count, np.int64)
    )


def run(what: Coroutine[Any, Any, Result]) -> Result:
    return asyncio.run(asyncio.wait_for(what, 60))


def rounds_in(folder: Path, patience: float = SOON) -> Rounds:
    return Rounds(FEDERATION.roster, Spool(folder / "spool.db"), patience)


def beginning(rounds: Rounds, terms: Terms) -> asyncio.Task[Any]:
    return asyncio.ensure_future(rounds.secure(0, terms, FEDERATION.broadcast()))


async def announced(rounds: Rounds) -> tuple[str, Announcement]:
    content = await rounds.next("", SOON)
    assert content
    announcement = Announcement.from_bytes(content, MOST)
    return Terms.from_bytes(announcement.terms).session.hex(), announcement


async def through(rounds: Rounds, name: str, seat: int, part: Part, last: Stage = Stage.REVEAL) -> None:
    """Take part, up to a stage."""
    content = b""
    for stage in list(Stage)[: last + 1]:
        said = part.say(content)
        rounds.take(name, stage, seat, said)
        rounds.take(name, stage, seat, said)  # twice counts once
        if stage is not Stage.REVEAL:
            reply = None
            while reply is None:
                reply = await rounds.reply(name, stage, seat, SOON)
            content = reply


class TestSecure:
    def test_a_round_from_announcement_to_sum(self, tmp_path: Path) -> None:
        async def play() -> Any:
            rounds = rounds_in(tmp_path)
            task = beginning(rounds, FEDERATION.terms())
            name, said = await announced(rounds)
            assert await rounds.next(name, 0.01) is None
            parts = [FEDERATION.device(seat, tmp_path).join(said.terms, said.broadcast) for seat in range(PEOPLE)]
            await asyncio.gather(*[through(rounds, name, seat, part) for seat, part in enumerate(parts)])
            total = await task
            with pytest.raises(NotNow):
                rounds.take(name, Stage.REVEAL, 0, b"")
            rounds.finish(None)
            with pytest.raises(NotKnown):
                rounds.take(name, Stage.REVEAL, 0, b"")
            again = await rounds.secure(0, FEDERATION.terms(), FEDERATION.broadcast())  # as after a restart
            assert isinstance(again, Kept)
            assert (again.total == total).all()
            rounds._spool.close()
            return total

        assert (run(play()) == FEDERATION.central(0)).all()
        assert list(Spool(tmp_path / "spool.db").kept(0)) == []

    def test_whoever_is_late_is_left_out_and_not_waited_for_again(self, tmp_path: Path) -> None:
        async def play() -> None:
            rounds = rounds_in(tmp_path, patience=1.5)
            task = beginning(rounds, FEDERATION.terms())
            name, said = await announced(rounds)
            parts = [FEDERATION.device(seat, tmp_path).join(said.terms, said.broadcast) for seat in range(PEOPLE)]
            late = parts[-1].say()
            await asyncio.gather(*[through(rounds, name, seat, part) for seat, part in enumerate(parts[:-1])])
            with pytest.raises(ProtocolError):
                rounds.take(name, Stage.ADVERTISE, PEOPLE - 1, late)
            assert np.array_equal(await task, FEDERATION.central(0) - row_of(PEOPLE - 1))
            asyncio.get_running_loop().call_later(30.0, task.cancel)
            second = asyncio.ensure_future(rounds.secure(2, FEDERATION.terms(), FEDERATION.broadcast()))
            name = (await announced(rounds))[0]
            said = (await announced(rounds))[1]
            rounds.patience = 60.0  # were the late one waited for, the test would not end
            parts = [FEDERATION.device(seat, tmp_path).join(said.terms, said.broadcast) for seat in range(PEOPLE - 1)]
            await asyncio.gather(*[through(rounds, name, seat, part) for seat, part in enumerate(parts)])
            assert np.array_equal(cast("Any", await second), FEDERATION.central(0) - row_of(PEOPLE - 1))

        run(play())

    def test_a_message_of_a_stage_that_is_over_or_another_than_before(self, tmp_path: Path) -> None:
        async def play() -> None:
            rounds = rounds_in(tmp_path, patience=0.3)
            task = beginning(rounds, FEDERATION.terms())
            name, said = await announced(rounds)
            parts = [FEDERATION.device(seat, tmp_path).join(said.terms, said.broadcast) for seat in range(PEOPLE)]
            first = parts[0].say()
            rounds.take(name, Stage.ADVERTISE, 0, first)
            with pytest.raises(ProtocolError, match="nothing is expected of seat 0"):
                rounds.take(name, Stage.ADVERTISE, 0, first[:-1] + b"x")
            with pytest.raises(TooLate, match="MASK is not what is said now"):
                rounds.take(name, Stage.MASK, 1, b"")
            with pytest.raises(ProtocolError, match="Advertisement"):
                rounds.take(name, Stage.ADVERTISE, 1, b"junk")
            with pytest.raises(TooFewLeft, match="1 clients are left at ADVERTISE"):
                await task
            with pytest.raises(NotNow):
                await rounds.reply(name, Stage.ADVERTISE, 0, 0.1)

        run(play())

    def test_the_end_of_a_run_is_told_to_whoever_waits(self, tmp_path: Path) -> None:
        async def play() -> None:
            rounds = rounds_in(tmp_path)
            waiting = asyncio.ensure_future(rounds.next("", 60))
            await asyncio.sleep(0.05)
            rounds.finish(None)
            with pytest.raises(TooLate, match="the run is over"):
                await waiting

        run(play())


@pytest.mark.parametrize("last", list(Stage)[:-1])
def test_a_coordinator_that_is_killed_goes_on_where_it_stood(last: Stage, tmp_path: Path) -> None:
    """Half of the devices have spoken in a stage when it goes; they do not notice but that they have to ask again."""

    async def before() -> list[tuple[Part, bytes]]:
        rounds = rounds_in(tmp_path)
        task = beginning(rounds, FEDERATION.terms())
        name, said = await announced(rounds)
        parts = [FEDERATION.device(seat, tmp_path).join(said.terms, said.broadcast) for seat in range(PEOPLE)]
        heard = [b""] * PEOPLE
        for stage in list(Stage)[:last]:
            for seat, part in enumerate(parts):
                rounds.take(name, stage, seat, part.say(heard[seat]))
            for seat in range(PEOPLE):
                reply = await rounds.reply(name, stage, seat, SOON)
                assert reply is not None
                heard[seat] = reply
        words = [part.say(content) for part, content in zip(parts, heard, strict=True)]
        for seat in range(PEOPLE // 2):
            rounds.take(name, last, seat, words[seat])
        task.cancel()
        rounds._spool.close()  # as a kill does: nothing is tidied up but by what is on the disk
        return list(zip(parts, words, strict=True))

    async def after(parts: list[tuple[Part, bytes]]) -> Any:
        rounds = rounds_in(tmp_path)
        task = beginning(rounds, FEDERATION.terms())  # with terms of its own, which those on the disk replace
        name, _ = await announced(rounds)
        for seat, (_, words) in enumerate(parts):
            rounds.take(name, last, seat, words)  # those who had spoken say the same again
        await asyncio.gather(*[on(rounds, name, seat, part) for seat, (part, _) in enumerate(parts)])
        return await task

    async def on(rounds: Rounds, name: str, seat: int, part: Part) -> None:
        for stage in list(Stage)[last + 1 : -1]:
            content = await rounds.reply(name, Stage(stage - 1), seat, SOON)
            assert content is not None
            rounds.take(name, stage, seat, part.say(content))

    assert (run(after(run(before()))) == FEDERATION.central(0)).all()


def row_of(seat: int) -> NDArray[np.int64]:
    model, bound = FEDERATION.model, FEDERATION.plan.bounds[0]
    return model.summed(FEDERATION.people[[seat]], FEDERATION.states[0], bound).total


def test_a_spool_of_another_run(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "spool.db")
    asked = Broadcast.of(FEDERATION.model, FEDERATION.plan, 0, PEOPLE, bytes(32), FEDERATION.states[0])
    spool.begin(0, b"terms", asked.to_bytes())
    assert spool.begin(0, b"other terms", asked.to_bytes()).terms == b"terms"
    other = replace(asked, arrays=(np.array(1).tobytes(),)).to_bytes()  # a float's last bit, say, after a restart
    assert spool.begin(0, b"terms", other).broadcast == asked.to_bytes()
    for otherwise in (replace(asked, catalogue=bytes(31) + b"1"), replace(asked, header=asked.header + b" ")):
        with pytest.raises(LedgerError, match="is of another run"):
            spool.begin(0, b"terms", otherwise.to_bytes())
    with pytest.raises(LedgerError, match="cannot be read or written"):
        Spool(tmp_path / "spool.db")  # one run, one process
    spool.close()
    (tmp_path / "spool.db").write_bytes(b"nothing of the kind" * 100)
    with pytest.raises(LedgerError, match="cannot be read or written"):
        Spool(tmp_path / "spool.db")


def without(dims: int) -> NDArray[np.int64]:
    return np.zeros(dims, np.int64)


class Near:
    """A way from the second server to the first, without a wire."""

    def __init__(self, first: First, key: X25519PrivateKey, public: bytes) -> None:
        self.there, self.key, self.first = first, key, public

    def begin(self, terms: SharedTerms) -> None:
        self.there.begin(terms.session.hex(), terms.to_bytes())

    def held(self, terms: SharedTerms) -> frozenset[int]:
        return frozenset(seats_of(self.there.held(terms.session.hex())))

    def total(self, terms: SharedTerms, seats: frozenset[int]) -> HalfSum:
        content = str(sorted(seats)).encode()
        self.there.add(terms.session.hex(), content)
        self.there.add(terms.session.hex(), content)  # asked again, as after a restart
        told = self.there.total(terms.session.hex())
        assert told is not None
        return HalfSum.from_bytes(told, 1 << 20)


class TestTwoServers:
    def apart(self) -> tuple[Federation, list[X25519PrivateKey], SharedTerms]:
        federation = replace(FEDERATION, plan=replace(FEDERATION.plan, noise="two-servers", parties=0, honest=0))
        servers, secure = [X25519PrivateKey.generate() for _ in range(2)], federation.terms()
        public = [public_bytes(key) for key in servers]
        about = (os.urandom(32), secure.context, roster_digest(federation.roster))
        return federation, servers, SharedTerms(*about, public[0], public[1], secure.bits, secure.dims, PEOPLE - 2)

    def test_a_round_with_one_who_told_one_server_alone(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Nobody's vector is in the sum but of those of whom both have a message."""
        monkeypatch.setattr("discreet.service.halves.draw", lambda dims, _: np.full(dims, 1_000))
        federation, servers, terms = self.apart()
        first = First(federation.roster, servers[0], bytes(32), survivors=3)

        async def play() -> Any:
            rounds = rounds_in(tmp_path, patience=1.0)
            near: Any = Near(first, servers[1], terms.first)
            said = federation.broadcast()
            task = asyncio.ensure_future(rounds.apart(0, terms, said, near, lambda dims: np.full(dims, 10)))
            await rounds.next("", SOON)
            for seat in range(PEOPLE):
                allowance = Allowance(servers=(terms.first, terms.second))
                to_first, to_second = federation.device(seat, tmp_path, allowance=allowance).give(
                    terms.to_bytes(), said
                )
                if seat != 1:
                    first.take(terms.session.hex(), seat, to_first)
                if seat != 2:
                    rounds.take(terms.session.hex(), Stage.MASK, seat, to_second)
            return await task

        assert (run(play()) == federation.central(0) - row_of(1) - row_of(2) + 1_010).all()

    def test_the_first_has_conditions_of_its_own(self) -> None:
        federation, servers, terms = self.apart()
        first, name = First(federation.roster, servers[0], bytes(32), survivors=PEOPLE - 1), terms.session.hex()
        with pytest.raises(TermsRefused, match="sums of at least 11"):
            first.begin(name, terms.to_bytes())
        with pytest.raises(NotKnown):
            first.held(name)
        first = First(federation.roster, servers[0], bytes(32), survivors=3)
        first.begin(name, terms.to_bytes())
        assert first.total(name) is None
        with pytest.raises(ProtocolError, match="no message of some"):
            first.add(name, b"[0, 1, 2]")
        for content in (b"", b"{}", b"[1.5]", b"[true]", b"[" * 100_000):
            with pytest.raises(ProtocolError, match="a list of seats is due"):
                first.add(name, content)
        with pytest.raises(TermsRefused, match="under the session's own name"):
            first.begin("00" * 32, terms.to_bytes())

    def test_a_second_server_that_is_killed_after_the_first_told_goes_on(self, tmp_path: Path) -> None:
        """The first adds up one list, once: after a restart the second asks for that list again, whoever came since."""
        federation, servers, terms = self.apart()
        first = First(federation.roster, servers[0], bytes(32), survivors=3)
        said = federation.broadcast()

        class Dies(Near):
            def total(self, terms: SharedTerms, seats: frozenset[int]) -> HalfSum:
                super().total(terms, seats)
                raise EngineLost("killed")

        async def play(near: Any, seats: range) -> Any:
            rounds = rounds_in(tmp_path, patience=0.3)
            task = asyncio.ensure_future(rounds.apart(0, terms, said, near, without))
            try:
                await rounds.next("", SOON)
                for seat in seats:
                    allowance = Allowance(servers=(terms.first, terms.second))
                    device = federation.device(seat, tmp_path, allowance=allowance)
                    to_first, to_second = device.give(terms.to_bytes(), said)
                    first.take(terms.session.hex(), seat, to_first)
                    rounds.take(terms.session.hex(), Stage.MASK, seat, to_second)
                return await task
            finally:
                rounds._spool.close()

        with pytest.raises(EngineLost):
            run(play(Dies(first, servers[1], terms.first), range(PEOPLE - 1)))
        total = run(play(Near(first, servers[1], terms.first), range(0)))
        noise = total - (federation.central(0) - row_of(PEOPLE - 1))
        assert 0 < np.abs(noise).max() < 10 * 4_096  # the first server's, which is what it was
        again = run(rounds_in(tmp_path).apart(0, terms, said, Any, without))  # type: ignore[arg-type]
        assert isinstance(again, Kept)
        assert (again.total == total).all()


def test_a_message_that_cannot_be_kept_ends_the_session(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else a restart would go on without what the server has seen."""

    async def play() -> None:
        rounds = rounds_in(tmp_path)
        task = beginning(rounds, FEDERATION.terms())
        name, said = await announced(rounds)
        part = FEDERATION.device(0, tmp_path).join(said.terms, said.broadcast)

        def full(*_: object) -> None:
            raise LedgerError("the disk is full")

        monkeypatch.setattr(rounds._spool, "keep", full)
        with pytest.raises(LedgerError):
            rounds.take(name, Stage.ADVERTISE, 0, part.say())
        with pytest.raises(LedgerError, match="disk is full"):
            await task

    run(play())


def test_a_spool_is_of_one_release(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "spool.db")
    assert spool.claim("spring") == spool.claim("spring")
    with pytest.raises(LedgerError, match="is of release spring"):
        spool.claim("autumn")
    assert Spool(tmp_path / "other.db").claim("spring") != spool.claim("spring")
