"""Devices that are asked a question over HTTP: the answer is billed and published once."""

from __future__ import annotations

import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from federations import ITEMS, PEOPLE, PLENTY
from federations import Federation as People

from discreet.cli.processes import free_port
from discreet.client.device import Allowance
from discreet.client.spending import Spending
from discreet.client.taking_part import Person, take_part
from discreet.client.wire import Wire
from discreet.data.catalogue import Catalogue
from discreet.errors import ReleaseConflict
from discreet.governance.ledger import Ledger
from discreet.models.queries import LengthCounts
from discreet.service.coordination import Federation, ask
from discreet.service.listening import Address

PEOPLE_THERE = People.of("popularity")
QUESTION = LengthCounts(items=ITEMS)


def device(seat: int, folder: Path, port: int) -> None:
    history = PEOPLE_THERE.people[[seat]].indices.tolist()
    spending = Spending(folder / f"{seat}.db", PLENTY)
    identity = PEOPLE_THERE.identities[seat]
    person = Person(identity, PEOPLE_THERE.roster, history, Allowance(slot=0.0), spending)
    take_part(person, Wire(f"http://127.0.0.1:{port}", identity, seat, patience=20), lambda _: None)


def test_an_answer_is_of_those_who_were_asked_and_costs_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    no_noise = "discreet.privacy.mechanisms.discrete_gaussian.draw"
    monkeypatch.setattr(no_noise, lambda count, *_: np.zeros(count, np.int64))
    federation = Federation(PEOPLE_THERE.roster, Catalogue(tuple(range(ITEMS))), "shop", patience=20, linger=1)
    terms = {"epsilon": 2.0, "release": "spring", "folder": tmp_path, "out": tmp_path / "answer.json"}
    address = Address(port=free_port())
    devices = [threading.Thread(target=device, args=(seat, tmp_path, address.port)) for seat in range(PEOPLE)]
    with Ledger(tmp_path / "ledger.db") as book:
        book.open_budget(federation.account, epsilon=4.0, delta=1e-5)
        for each in devices:
            each.start()
        answer = ask(federation, QUESTION, QUESTION.start(), ledger=book, address=address, **terms)  # type: ignore[arg-type]
        for each in devices:
            each.join(60)
        spent = book.account(federation.account).spent
        again = ask(federation, QUESTION, QUESTION.start(), ledger=book, address=address, **terms)  # type: ignore[arg-type]
        assert again == answer  # with nobody there: it is what was published
        assert book.account(federation.account).spent == spent == answer["guarantee"]["units"]
        other = replace(QUESTION, items=ITEMS - 1)
        with pytest.raises(ReleaseConflict):
            ask(federation, other, other.start(), ledger=book, address=address, **terms)  # type: ignore[arg-type]
    lengths = np.diff(PEOPLE_THERE.people.indptr)
    wanted = np.bincount(np.searchsorted(QUESTION.edges, lengths), minlength=len(QUESTION.edges))
    assert np.allclose(answer["counts"], wanted)
    assert answer["noise"] > 0
    assert {Spending(tmp_path / f"{seat}.db", PLENTY).spent for seat in range(PEOPLE)} == {spent}
