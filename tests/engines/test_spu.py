"""Parties that compute on shares: right, whoever asks at once, and whoever dies; and without SPU, it says so."""

from __future__ import annotations

import json
import math
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from rankings import farthest, opened, split

from discreet.data.interactions import Histories
from discreet.engines import spu, spu_party
from discreet.engines.spu import HOW, PYTHON, Parties, Party, Place, found
from discreet.errors import EngineLost, ProtocolError, SettingError
from discreet.evaluation.tradeoff import fit_unbilled
from discreet.inference.mpc import Mpc, of_all
from discreet.inference.plain import Plain
from discreet.models.recipe import Kind
from discreet.protocols import ranking
from discreet.protocols.ranking import SEATS, Held, Ranker, Ranking, RankingTerms, dealt
from discreet.testing import check_recommender

needs_spu = pytest.mark.skipif(not os.environ.get(PYTHON), reason=f"SPU has an environment of its own: {HOW}")

RANDOM = np.random.default_rng(4)
ROWS = 40
ENCODER, DECODER = RANDOM.integers(-9, 10, (2, ROWS, 3))
TERMS, SHARES = dealt(ENCODER, DECODER, 6)
SESSION = bytes(range(32))


def held(shares: tuple[bytes, bytes, bytes] = SHARES) -> tuple[Held, Held, Held]:
    first, second, third = map(Held, shares)
    return first, second, third


def share() -> NDArray[np.uint64]:
    return np.zeros((ROWS, 2), np.uint64)


def has_ended(pid: int, seconds: float = 20.0) -> bool:
    """Tell whether a process that may not be ours ends in time; one that nobody waited for counts."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        try:
            if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
                return True
        except FileNotFoundError:
            return True
        time.sleep(0.02)
    return False


@pytest.fixture
def pretending(tmp_path: Path) -> Callable[[str], Path]:
    """Return a Python that runs a pretender instead of what it is told to."""

    def of(behaviour: str) -> Path:
        path = tmp_path / behaviour.replace(" ", "-")
        script = Path(__file__).with_name("pretending.py")
        path.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{script}" "{behaviour}" "$3"\n')
        path.chmod(0o755)
        return path

    return of


class TestWithoutSpu:
    @pytest.mark.parametrize("python", [None, "", "/nowhere/python", "/usr", "/etc/passwd"])
    def test_without_an_environment_it_says_how_to_make_one(
        self, python: str | None, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.delenv(PYTHON, raising=False)
        with pytest.raises(SettingError, match=r"python3.11 -m venv spu; spu/bin/pip install spu==0\.9\.5"):
            Parties(python)

    def test_the_environment_may_be_named_by_a_variable(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv(PYTHON, sys.executable)
        assert found() == Path(sys.executable)
        assert found("/bin/sh") == Path("/bin/sh")

    def test_a_python_that_has_no_spu_is_found_out(self) -> None:
        """The party itself runs in any Python; this one has another NumPy."""
        with Parties(sys.executable) as parties, pytest.raises(SettingError, match=r"not installed there: python3\.11"):
            parties.computes(held())

    def test_both_sides_mean_the_same(self) -> None:
        """The party imports nothing of this package; it says again what it needs."""
        said = (spu_party.VERSION, spu_party.SESSION, spu_party.KNOWN, spu_party.RANKS)
        assert said == (spu.VERSION, ranking.SESSION_BYTES, ranking.KNOWN, ranking.RANKS)
        imported = [line for line in spu.PARTY.read_text().splitlines() if re.match(r"\s*(from|import) ", line)]
        assert not [line for line in imported if "discreet" in line]

    def test_what_cannot_be_run_is_found_out(self, tmp_path: Path) -> None:
        (tmp_path / "python").write_text("this is no program")
        (tmp_path / "python").chmod(0o755)
        with Parties(tmp_path / "python") as parties, pytest.raises(SettingError, match="cannot be run"):
            parties.computes(held())

    @pytest.mark.parametrize("seconds", [0.0, -1.0, math.inf, math.nan])
    def test_deadlines_out_of_range(self, seconds: float) -> None:
        for deadlines in ({"starting": seconds}, {"deadline": seconds}):
            with pytest.raises(SettingError, match="seconds above 0"):
                Parties(sys.executable, **deadlines)

    def test_shares_that_do_not_belong_together(self) -> None:
        first, second, third = held()
        other = Held(dealt(ENCODER, DECODER, 6)[1][2])
        for shares in ((first, second, other), (second, first, third), (first, first, third)):
            with pytest.raises(ProtocolError, match="of one dealing"):
                Parties(sys.executable).computes(shares)

    @pytest.mark.parametrize("address", ["10.0.0.3:3", "0.0.0.0:3", "localhost:3", "127.0.0.1.example.org:3"])
    def test_parties_speak_over_the_loopback_interface_alone(self, address: str) -> None:
        with pytest.raises(SettingError, match="through a tunnel"):
            Place(("127.0.0.1:1", "127.0.0.1:2", address), "a")

    @pytest.mark.parametrize(
        "behaviour", ["silent", "dies", "longer", "other length", "other kind", "cut short", "other session"]
    )
    def test_a_party_that_gives_no_answer_is_given_up_with_the_others(
        self, behaviour: str, pretending: Callable[[str], Path]
    ) -> None:
        """Within the deadline; all three end, and the next question starts others."""
        with Parties(pretending(behaviour), deadline=0.5) as parties:
            compute = parties.computes(held())[1]
            pids = parties.pids
            with pytest.raises(EngineLost, match="lost or too slow; ask again") as caught:
                compute(SESSION, share())
            assert SESSION.hex() not in str(caught.value)
            assert all(map(has_ended, pids))
            with pytest.raises(EngineLost):
                compute(b"x" * 32, share())
            assert set(parties.pids).isdisjoint(pids)
            last = parties.pids
        assert parties.pids == []
        assert all(map(has_ended, last))

    def test_a_question_stays_with_those_who_were_asked_it_first(self, pretending: Callable[[str], Path]) -> None:
        """Or the second seat of a question, asked just after a loss, would wait for a first one in vain."""
        with Parties(pretending("zeros")) as parties:
            first, second, _ = parties.computes(held())
            first(SESSION, share())
            pids = parties.pids
            os.kill(pids[2], signal.SIGKILL)
            assert has_ended(pids[2])
            second(SESSION, share())
            parties._parties[1].close()
            with pytest.raises(EngineLost, match="ask again"):
                second(SESSION, share())
            assert parties.pids == pids
            second(bytes(32), share())
            assert set(parties.pids).isdisjoint(pids)

    def test_sessions_are_forgotten(self, pretending: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(spu, "REMEMBERED", 2)
        with Parties(pretending("zeros")) as parties:
            compute = parties.computes(held())[0]
            for number in range(5):
                compute(bytes([number]) * 32, share())
            assert list(parties._sessions) == [bytes([3]) * 32, bytes([4]) * 32]

    def test_a_question_that_comes_late_costs_nobody_else_anything(self, pretending: Callable[[str], Path]) -> None:
        with Parties(pretending("late")) as parties:
            compute = parties.computes(held())[2]
            pids = parties.pids
            for _ in range(2):
                with pytest.raises(EngineLost, match="not all three servers were asked in time; ask again"):
                    compute(SESSION, share())
            assert parties.pids == pids

    @pytest.mark.parametrize(("behaviour", "why"), [("never ready", "did not start in time"), ("fails", "ask again")])
    def test_one_that_does_not_start(self, behaviour: str, why: str, pretending: Callable[[str], Path]) -> None:
        with Parties(pretending(behaviour), starting=0.5) as parties:
            with pytest.raises(EngineLost, match=why):
                parties.computes(held())
            assert parties.pids == []

    def test_too_many_at_once_and_twice_the_same_are_refused(
        self, pretending: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(spu, "MOST_WAITING", 1)
        place = Place(("127.0.0.1:1", "127.0.0.1:2", "127.0.0.1:3"), "a")
        party = Party(pretending("silent"), held()[0], place)
        party.ready()
        with ThreadPoolExecutor(1) as threads:
            first = threads.submit(party.compute, SESSION, share())
            while not party._asked:
                time.sleep(0.01)
            with pytest.raises(ProtocolError, match="asked already"):
                party.compute(SESSION, share())
            with pytest.raises(EngineLost, match="too many ask at once"):
                party.compute(bytes(32), share())
            party.close()
            with pytest.raises(EngineLost, match="ask again"):
                first.result(10)
        assert not party.lives
        party.close()
        with pytest.raises(EngineLost, match="ask again"):
            party.compute(SESSION, share())

    def test_an_answer_is_read_as_it_came(self, pretending: Callable[[str], Path]) -> None:
        with Parties(pretending("zeros")) as parties:
            compute = parties.computes(held())[0]
            assert compute(SESSION, share()).tolist() == [[0, 0]] * 6
            assert repr(parties._parties) == "[Party(), Party(), Party()]"


@pytest.fixture(scope="module")
def parties() -> Iterator[Parties]:
    with Parties(deadline=20.0) as parties:
        yield parties


@pytest.fixture(scope="module")
def rankers(parties: Parties) -> tuple[Ranker, ...]:
    shares = held()
    return tuple(map(Ranker, shares, parties.computes(shares)))


def asked(rankers: tuple[Ranker, ...], terms: RankingTerms, known: NDArray[np.bool_]) -> list[int]:
    asking = Ranking(terms, known)
    first, second, third = of_all(rankers, asking.questions)
    return list(map(int, asking.read((first, second, third))))


def wanted(known: NDArray[np.bool_], encoder: Any = ENCODER, decoder: Any = DECODER, listed: int = 6) -> list[int]:
    scores = decoder @ (known.astype(np.int64) @ encoder)
    return sorted(range(len(decoder)), key=lambda row: (known[row], -scores[row], row))[:listed]


@needs_spu
@pytest.mark.slow
class TestParties:
    """SPU's own three processes. They are started anew where a test says so."""

    def test_ranks_are_right(self, rankers: tuple[Ranker, ...]) -> None:
        """Whatever is known, among it nothing and everything; a few of these have ties."""
        known = [RANDOM.random(ROWS) < part for part in (0.1, 0.5, 0.9)]
        for each in (*known, np.zeros(ROWS, np.bool_), np.ones(ROWS, np.bool_)):
            assert asked(rankers, TERMS, each) == wanted(each)

    def test_many_at_once_each_get_their_own(self, rankers: tuple[Ranker, ...]) -> None:
        """In whatever order they reach the three."""
        known = [RANDOM.random(ROWS) < 0.3 for _ in range(5)]
        with ThreadPoolExecutor(len(known)) as threads:
            assert list(threads.map(lambda each: asked(rankers, TERMS, each), known)) == list(map(wanted, known))

    def test_a_question_to_one_or_two_alone_is_not_computed(
        self, rankers: tuple[Ranker, ...], parties: Parties
    ) -> None:
        pids, known = parties.pids, np.arange(ROWS) % 3 == 0
        for seats in ((0,), (0, 2)):
            asking = Ranking(TERMS, known)
            with ThreadPoolExecutor(2) as threads:
                waiting = [threads.submit(rankers[seat].answer, asking.questions[seat]) for seat in seats]
                for each in waiting:
                    with pytest.raises(EngineLost, match="not all three"):
                        each.result(30)
        assert asked(rankers, TERMS, known) == wanted(known)
        assert parties.pids == pids

    @pytest.mark.parametrize("seat", range(SEATS))
    def test_one_that_is_killed_in_the_middle_is_replaced(
        self, seat: int, rankers: tuple[Ranker, ...], parties: Parties
    ) -> None:
        """It is stopped, so that the question is under way, and killed; the error comes at once."""
        known = np.arange(ROWS) % 4 == seat
        assert asked(rankers, TERMS, known) == wanted(known)
        pids = parties.pids
        os.kill(pids[seat], signal.SIGSTOP)
        threading.Timer(0.7, os.kill, (pids[seat], signal.SIGKILL)).start()
        begun = time.monotonic()
        with pytest.raises(EngineLost, match="ask again"):
            asked(rankers, TERMS, known)
        assert time.monotonic() - begun < parties._deadline
        assert all(map(has_ended, pids))
        assert asked(rankers, TERMS, known) == wanted(known)

    def test_one_that_hangs_is_given_up(self, rankers: tuple[Ranker, ...], parties: Parties) -> None:
        known = np.arange(ROWS) < 3
        assert asked(rankers, TERMS, known) == wanted(known)
        for party in parties._parties:
            party._deadline = 1.0
        pids = parties.pids
        os.kill(pids[1], signal.SIGSTOP)
        with pytest.raises(EngineLost, match="too slow"):
            asked(rankers, TERMS, known)
        assert all(map(has_ended, pids))

    @pytest.mark.parametrize("rows", [1, 2, 9])
    def test_the_largest_scores_that_there_may_be_do_not_wrap(self, rows: int) -> None:
        encoder, decoder = farthest(rows)
        terms, shares = dealt(encoder, decoder, rows)
        with Parties() as own:
            rankers = tuple(map(Ranker, held(shares), own.computes(held(shares))))
            for known in (np.ones(rows, np.bool_), np.arange(rows) > 0):
                assert asked(rankers, terms, known) == wanted(known, encoder, decoder, rows)

    @pytest.mark.parametrize(("kind", "epsilon"), [("subspace", 10.0), ("subspace", math.inf), ("gram", 10.0)])
    def test_keeps_the_contract(self, kind: Kind, epsilon: float, histories: Histories) -> None:
        model = fit_unbilled(histories, epsilon, kind)
        people: list[list[str | int]] = [
            [histories.catalogue.ids[at] for at in histories.matrix[[row]].indices] for row in range(30)
        ]
        people += [people[0][::-1], [], ["nothing"], list(histories.catalogue.ids)]
        with Parties() as own:
            check_recommender(Mpc.here(model, own, 20), Plain(model, 20), people)

    def test_they_end_when_whoever_started_them_is_killed(self) -> None:
        program = (
            "import time; from test_spu import Parties, held; parties = Parties(); parties.computes(held()); "
            "print(*parties.pids, flush=True); time.sleep(60)"
        )
        paths = os.pathsep.join([*sys.path, str(Path(__file__).parent)])
        command = [sys.executable, "-c", program]
        with subprocess.Popen(
            command, stdout=subprocess.PIPE, text=True, env=os.environ | {"PYTHONPATH": paths}
        ) as parent:
            assert parent.stdout
            pids = list(map(int, parent.stdout.readline().split()))
            assert len(pids) == SEATS
            parent.kill()
        assert all(map(has_ended, pids))


@needs_spu
@pytest.mark.slow
def test_three_that_are_started_apart() -> None:
    """As three operators would."""
    place = Place(spu._free_addresses(), "ours")
    with ExitStack() as stack:
        parties = [Party(found(), each, place) for each in held()]
        for party in parties:
            stack.callback(party.close)
        for party in parties:
            party.ready()
        rankers = tuple(map(Ranker, held(), [each.compute for each in parties]))
        known = np.arange(ROWS) % 7 == 0
        assert asked(rankers, TERMS, known) == wanted(known)


FORMAT = """
import json, sys
import numpy as np, spu
from spu import libspu
sys.path.insert(0, sys.argv[1])
from spu_party import Shares
io = spu.Io(3, libspu.RuntimeConfig(protocol=libspu.ProtocolKind.ABY3, field=libspu.FieldType.FM64))
told, shares = json.load(sys.stdin), Shares(libspu)
ours = [shares.packed(bytearray.fromhex(each), told["shape"]) for each in told["shares"]]
theirs = io.make_shares(np.array(told["numbers"]).reshape(told["shape"]), libspu.Visibility.VIS_SECRET)
assert [each.meta for each in ours] == [each.meta for each in theirs]
said = {"read": io.reconstruct(ours).ravel().tolist(), "made": [shares.unpacked(each, 96).hex() for each in theirs]}
print(json.dumps(said))
"""


@needs_spu
@pytest.mark.slow
def test_spu_reads_what_we_share_and_we_read_what_it_shares() -> None:
    """Byte for byte, with SPU's own Io."""
    numbers = np.array([0, 1, -1, 2**62, -(2**63), 12345])
    ours = [each.tobytes().hex() for each in split(numbers.astype(np.uint64))]
    told = json.dumps({"numbers": numbers.tolist(), "shape": [2, 3], "shares": ours})
    command = [str(found()), "-c", FORMAT, str(spu.PARTY.parent)]
    done = subprocess.run(command, input=told, capture_output=True, text=True, timeout=120, check=True)
    said = json.loads(done.stdout.splitlines()[-1])
    assert said["read"] == numbers.tolist()
    made = [np.frombuffer(bytes.fromhex(each), "<u8").reshape(-1, 2) for each in said["made"]]
    assert opened(made).astype(np.int64).tolist() == numbers.tolist()
