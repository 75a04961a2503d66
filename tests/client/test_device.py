"""A device does what its person allows, books it before it speaks, and is no larger than it may be."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from federations import ITEMS, LISTED, PEOPLE, PLENTY, Federation, secure_sum

from discreet.client import device as room
from discreet.client.device import Allowance, Items
from discreet.client.spending import Spending
from discreet.errors import (
    BoundExceeded,
    BudgetExceeded,
    DataError,
    LedgerError,
    ProtocolError,
    SettingError,
    TermsRefused,
)
from discreet.privacy.levels import Level
from discreet.privacy.mechanisms.discrete_gaussian import share_of
from discreet.protocols.keys import public_bytes, roster_digest
from discreet.protocols.secagg.server import Server
from discreet.protocols.secagg.terms import Policy
from discreet.protocols.sharing import Half, SharedTerms, joined

FEDERATION = Federation.of()


@pytest.fixture
def no_noise(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "discreet.privacy.mechanisms.discrete_gaussian.draw", lambda count, *_: np.zeros(count, np.int64)
    )


def spent(folder: Path, seat: int = 0) -> int:
    return Spending(folder / f"{seat}.db", PLENTY).spent


class TestSums:
    @pytest.mark.usefixtures("no_noise")
    @pytest.mark.parametrize("number", range(FEDERATION.plan.rounds))
    def test_before_noise_devices_add_up_to_what_central_training_does(self, number: int, tmp_path: Path) -> None:
        terms, said = FEDERATION.terms(number), FEDERATION.broadcast(number)
        parts = {seat: FEDERATION.device(seat, tmp_path).join(terms.to_bytes(), said) for seat in range(PEOPLE)}
        total = secure_sum(Server(FEDERATION.roster, terms), parts)
        assert (total == FEDERATION.central(number)).all()

    def test_each_adds_its_share_of_the_noise(self, tmp_path: Path) -> None:
        """All but the sum's noise is known, so its variance shows; wrong by chance in one of a million runs."""
        terms, said = FEDERATION.terms(), FEDERATION.broadcast()
        parts = {seat: FEDERATION.device(seat, tmp_path).join(terms.to_bytes(), said) for seat in range(PEOPLE)}
        noise = secure_sum(Server(FEDERATION.roster, terms), parts) - FEDERATION.central(0)
        wanted = PEOPLE * share_of(FEDERATION.plan.honest)
        assert abs((noise.astype(float) ** 2).mean() / wanted - 1) < 5 * (2 / noise.size) ** 0.5

    def test_two_servers(self, tmp_path: Path) -> None:
        federation = replace(FEDERATION, plan=replace(FEDERATION.plan, noise="two-servers", parties=0, honest=0))
        servers, said = [X25519PrivateKey.generate() for _ in range(2)], federation.broadcast()
        first, second = map(public_bytes, servers)
        secure = federation.terms()
        about = (secure.session, secure.context, roster_digest(federation.roster))
        terms = SharedTerms(*about, first, second, secure.bits, secure.dims, PEOPLE)
        halves = [Half(terms, key, federation.roster) for key in servers]
        for seat in range(PEOPLE):
            device = federation.device(seat, tmp_path, allowance=Allowance(servers=(first, second)))
            for half, content in zip(halves, device.give(terms.to_bytes(), said), strict=True):
                half.take(seat, content)
                half.add([seat])
            with pytest.raises(TermsRefused, match="took part in this session before"):
                device.give(terms.to_bytes(), said)
        total = joined(terms, *[half.total(lambda dims: np.zeros(dims, np.int64)) for half in halves])
        assert (total == federation.central(0)).all()
        other = federation.device(0, tmp_path / "..", allowance=Allowance(servers=(second, first)))
        with pytest.raises(TermsRefused, match="other servers than the two that are pinned"):
            other.give(terms.to_bytes(), said)
        with pytest.raises(TermsRefused, match="adds its own share"):
            federation.device(0, tmp_path).join(secure.to_bytes(), said)
        with pytest.raises(TermsRefused, match="with two servers each adds noise"):
            other.give(terms.to_bytes(), FEDERATION.broadcast())


class TestRefusals:
    @pytest.mark.parametrize(
        ("why", "allowance"),
        [
            ("a cohort of at least 13", Allowance(policy=Policy(cohort=13, survivors=7), colluding=0.0)),
            ("sums of at least 12", Allowance(policy=Policy(cohort=12, survivors=12), colluding=0.0)),
            ("counts on 11 shares of noise, this device on 8", Allowance(colluding=0.25)),
        ],
    )
    def test_less_protection_than_its_person_asks_for(self, why: str, allowance: Allowance, tmp_path: Path) -> None:
        terms, said = FEDERATION.terms(), FEDERATION.broadcast()
        devices = {seat: FEDERATION.device(seat, tmp_path, allowance=allowance) for seat in range(PEOPLE)}

        def take_part() -> None:
            parts = {seat: device.join(terms.to_bytes(), said) for seat, device in devices.items()}
            secure_sum(Server(FEDERATION.roster, terms), parts)

        with pytest.raises(TermsRefused, match=why):
            take_part()

    def test_another_hash_than_what_it_computes(self, tmp_path: Path) -> None:
        """The terms are those of round 0, what is asked is round 1; or the other way round."""
        for number in (0, 1):
            with pytest.raises(TermsRefused, match="another model, plan or round"):
                FEDERATION.device(0, tmp_path).join(
                    FEDERATION.terms(number).to_bytes(), FEDERATION.broadcast(1 - number)
                )
        assert spent(tmp_path) == 0

    def test_a_plan_that_asks_for_more_than_its_person_allowed(self, tmp_path: Path) -> None:
        """The whole run has to fit in, not the first round alone."""
        price, whole = FEDERATION.plan.price(0), FEDERATION.plan.cost
        with pytest.raises(BudgetExceeded, match=f"{whole:,} units are asked of this device, {whole - 1:,} are left"):
            FEDERATION.device(0, tmp_path, cap=whole - 1).join(FEDERATION.terms().to_bytes(), FEDERATION.broadcast())
        assert spent(tmp_path) == 0
        FEDERATION.device(0, tmp_path, cap=whole).join(FEDERATION.terms().to_bytes(), FEDERATION.broadcast())
        assert spent(tmp_path) == price

    def test_the_same_round_asked_for_again_and_again_ends_at_the_cap(self, tmp_path: Path) -> None:
        """A new session each time: each costs its price, until there is nothing left for the rest of a run."""
        price, cap = FEDERATION.plan.price(0), FEDERATION.plan.cost + 1
        device, times = FEDERATION.device(0, tmp_path, cap=cap), 0
        with suppress(BudgetExceeded):
            while times < 1_000:
                device.join(FEDERATION.terms().to_bytes(), FEDERATION.broadcast())
                times += 1
        assert spent(tmp_path) == times * price <= cap
        assert 0 < times < 1_000

    def test_a_session_twice(self, tmp_path: Path) -> None:
        """Also by another process on the same book, after the first was killed."""
        terms, said = FEDERATION.terms().to_bytes(), FEDERATION.broadcast()
        FEDERATION.device(0, tmp_path).join(terms, said)
        with pytest.raises(TermsRefused, match="took part in this session before"):
            FEDERATION.device(0, tmp_path).join(terms, said)
        assert spent(tmp_path) == FEDERATION.plan.price(0)

    def test_a_stronger_level_gives_and_spends_less(self, tmp_path: Path) -> None:
        allowance = Allowance(level=Level.STRONG, colluding=0.0)
        FEDERATION.device(0, tmp_path, allowance=allowance).join(FEDERATION.terms().to_bytes(), FEDERATION.broadcast())
        assert spent(tmp_path) == FEDERATION.plan.price(0, Level.STRONG) <= FEDERATION.plan.price(0) / 15

    def test_categories_with_weights(self, tmp_path: Path) -> None:
        """A device does not know categories, so it could not keep a promise about them."""
        weighted = replace(FEDERATION, plan=replace(FEDERATION.plan, weights=(("health", 2),)))
        with pytest.raises(TermsRefused, match="gives categories weights"):
            weighted.device(0, tmp_path).join(FEDERATION.terms().to_bytes(), weighted.broadcast())

    def test_no_more_noise_drawn_than_is_proven(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(room, "MOST_DRAWS", 100)
        with pytest.raises(TermsRefused, match="more draws of noise"):
            FEDERATION.device(0, tmp_path).join(FEDERATION.terms().to_bytes(), FEDERATION.broadcast())

    def test_more_values_than_it_makes_and_a_bound_that_leaves_nothing(self, tmp_path: Path) -> None:
        small = Allowance(values=10, colluding=0.0)
        with pytest.raises(TermsRefused, match="rows of 60 values are asked for, this device makes 10"):
            FEDERATION.device(0, tmp_path, allowance=small).join(FEDERATION.terms().to_bytes(), FEDERATION.broadcast())
        tiny = replace(FEDERATION, plan=replace(FEDERATION.plan, bounds=(3,) * FEDERATION.plan.rounds))
        strong = Allowance(level=Level.STRONG, colluding=0.0)
        with pytest.raises(TermsRefused, match="leaves nothing of what this person gives"):
            FEDERATION.device(0, tmp_path, allowance=strong).join(tiny.terms().to_bytes(), tiny.broadcast())
        assert spent(tmp_path) == 0

    @pytest.mark.parametrize(
        "settings",
        [{"colluding": 1.0}, {"colluding": -0.1}, {"colluding": float("nan")}, {"slot": -1.0}, {"values": 0}],
    )
    def test_allowances_that_are_none(self, settings: dict[str, float]) -> None:
        with pytest.raises(SettingError):
            Allowance(**settings)  # type: ignore[arg-type]

    @pytest.mark.parametrize("error", [BoundExceeded("too long"), MemoryError(), np.linalg.LinAlgError()])
    def test_whatever_goes_wrong_with_a_history_does_not_show(
        self, error: Exception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A refusal here would tell, one question at a time, what is in it: so the row is zeros, and all goes on."""
        terms, said = FEDERATION.terms(), FEDERATION.broadcast()
        parts = {seat: FEDERATION.device(seat, tmp_path).join(terms.to_bytes(), said) for seat in range(PEOPLE)}

        def fails(*_: object) -> None:
            raise error

        monkeypatch.setattr("discreet.models.broadcast.Known.row", fails)
        no_noise = "discreet.privacy.mechanisms.discrete_gaussian.draw"
        monkeypatch.setattr(no_noise, lambda count, *_: np.zeros(count, np.int64))
        assert not secure_sum(Server(FEDERATION.roster, terms), parts).any()

    def test_nothing_of_a_history_is_computed_before_it_is_booked(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Neither for a refusal nor for one whose time could be measured: not even where its length would show."""
        monkeypatch.setattr("discreet.models.broadcast.Known.row", lambda *_: pytest.fail("a row was made"))
        FEDERATION.device(0, tmp_path).join(FEDERATION.terms().to_bytes(), FEDERATION.broadcast())
        with pytest.raises(BudgetExceeded):
            FEDERATION.device(0, tmp_path, cap=1).join(FEDERATION.terms().to_bytes(), FEDERATION.broadcast())

    def test_vectors_take_whole_slots(self) -> None:
        start = time.monotonic()
        with room._slots(0.2):
            time.sleep(0.25)
        assert time.monotonic() - start >= 0.4

    def test_a_sum_after_the_last_round_and_a_list_before_it(self, tmp_path: Path) -> None:
        over = FEDERATION.broadcast(FEDERATION.plan.rounds)
        device = FEDERATION.device(0, tmp_path)
        with pytest.raises(ProtocolError, match="after the last round"):
            device.join(FEDERATION.terms().to_bytes(), over)
        with pytest.raises(ProtocolError, match="still being learnt"):
            device.rank(FEDERATION.broadcast(), 5)

    @pytest.mark.parametrize("content", [b"", b"{}", b"[]", b"[1.5]", b"[[", b"[" * 100_000])
    def test_items_that_are_none(self, content: bytes) -> None:
        with pytest.raises(DataError, match="no list of ids"):
            Items(content)


class TestLists:
    def test_lists_are_made_here_without_what_is_known(self, tmp_path: Path) -> None:
        device = FEDERATION.device(0, tmp_path)
        listed = device.rank(FEDERATION.broadcast(FEDERATION.plan.rounds), ITEMS)
        known = set(FEDERATION.people[[0]].indices.tolist())
        assert set(listed) == set(range(ITEMS)) - known
        assert device.rank(FEDERATION.broadcast(FEDERATION.plan.rounds), 3) == listed[:3]

    def test_items_that_are_not_listed_are_left_out(self) -> None:
        assert Items(LISTED).positions(["3", 1, 1, "a", 10**9]).tolist() == [1, 3]


class TestBook:
    def test_a_file_that_is_none(self, tmp_path: Path) -> None:
        (tmp_path / "book").write_bytes(b"not a database" * 100)
        with pytest.raises(LedgerError, match="cannot be read or booked"):
            Spending(tmp_path / "book", 1)

    def test_two_processes_with_one_book_do_not_spend_more_than_its_cap(self, tmp_path: Path) -> None:
        """Each tries two hundred sessions at once; together they book as many as there is room for."""
        code = (
            "import sys, os; from pathlib import Path; from discreet.client.spending import Spending\n"
            "from discreet.errors import BudgetExceeded\n"
            "book, done = Spending(Path(sys.argv[1]), 100), 0\n"
            "for _ in range(200):\n"
            "    try: book.book(os.urandom(32), b'run', 1, 0); done += 1\n"
            "    except BudgetExceeded: pass\n"
            "print(done)"
        )
        path = tmp_path / "book"
        Spending(path, 100)
        both = [subprocess.Popen([sys.executable, "-c", code, path], stdout=subprocess.PIPE) for _ in range(2)]
        assert sum(int(process.communicate(timeout=60)[0]) for process in both) == 100
        assert Spending(path, 100).spent == 100


def test_nothing_shows_a_person(tmp_path: Path) -> None:
    device = FEDERATION.device(0, tmp_path)
    part = device.join(FEDERATION.terms().to_bytes(), FEDERATION.broadcast())
    assert (repr(device), repr(part), repr(Spending(tmp_path / "0.db", 1))) == (
        "Device()",
        "Part(ADVERTISE)",
        "Spending()",
    )


SMALL = """
import json, sys
for name in ("numba", "scipy", "rfc8785", "dp_accounting", "polars", "pyarrow", "matplotlib", "rich", "fastapi"):
    sys.modules[name] = None
import discreet.client.__main__
loaded = {name.partition(".")[0] for name, module in sys.modules.items() if module is not None}
print(json.dumps(sorted(loaded - set(sys.stdlib_module_names))))
"""


def test_a_device_imports_numpy_and_cryptography_alone() -> None:
    told = subprocess.run([sys.executable, "-c", SMALL], check=True, capture_output=True, text=True).stdout
    loaded = {name for name in json.loads(told) if not name.startswith("_")} - {"sitecustomize"}
    assert loaded == {"numpy", "cryptography", "discreet"}
