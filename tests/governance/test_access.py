"""Keys, passwords and sessions: what opens, what does not, and what is told of it."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from sqlalchemy import text
from systems import System, system

from discreet.errors import NotAllowed, SettingError
from discreet.governance import access as module
from discreet.governance.access import LONGEST_DAYS, MOST_OF_A_PERSON, SESSION_HOURS, Access, Visitor
from discreet.governance.checks import stamp
from discreet.governance.ledger import Ledger
from discreet.governance.roles import MATRIX, Permission, Role

pytest.importorskip("argon2")
GOOD = "correct horse battery staple"


@pytest.fixture
def shop(place: str | Path) -> Iterator[System]:
    with system(place) as made:
        yield made
        assert Ledger(made.database).verify().ok


@pytest.fixture
def access(shop: System) -> Access:
    return shop.access


def signed_in(access: Access, name: str, password: str) -> str:
    verifier = access.verifier(name)
    module.check_password(verifier, password)
    return access.sign_in(name, verifier)


def at(monkeypatch: pytest.MonkeyPatch, **later: float) -> None:
    time = stamp(datetime.now(UTC) + timedelta(**later))
    monkeypatch.setattr(module, "now", lambda: time)


def test_a_key_opens_until_it_ends(shop: System, access: Access, monkeypatch: pytest.MonkeyPatch) -> None:
    key = access.make(Role.OPERATOR, "ann", days=2)
    name = key.split("_")[1]
    assert access.visitor(key) == Visitor(name, Role.OPERATOR, "ann")
    assert len(access) == 1
    (told,) = access.all()
    assert (told.name, told.role, told.owner) == (name, "operator", "ann")
    stored = str(shop.database.one(text("SELECT * FROM access")))
    assert key.split("_", 2)[2] not in stored + str([*shop.journal.rows()])
    at(monkeypatch, days=1.9)
    assert access.visitor(key)
    at(monkeypatch, days=2, seconds=1)
    assert access.visitor(key) is None
    access.tidy()
    assert len(access) == 0


def test_what_opens_nothing(access: Access) -> None:
    key = access.make(Role.OWNER, "ann")
    prefix, name, secret = key.split("_", 2)
    other = access.make(Role.OWNER, "bob").split("_", 2)[2]
    for wrong in (
        *("", "_", "__", "discreet", "discreet_", f"discreet_{name}", f"discreet_{name}_", secret),
        *(f"{prefix}_{name}_{other}", f"{prefix}_none_{secret}", f"other_{name}_{secret}", key + "x", key[:-1]),
        *(
            f"{prefix}_{name}_\ud800",
            f"{prefix}_a\x00b_{secret}",
            f"{prefix}_\ud800_{secret}",
            key.upper(),
            "é" * 9_000,
        ),
    ):
        assert access.visitor(wrong) is None
    assert access.visitor(key)


def test_a_persons_key_is_theirs_on_record_and_shown_to_them(shop: System, access: Access) -> None:
    shop.agree("ann")
    key = access.make(Role.PERSON, "shop", pseudonym=shop.who("ann"), days=0.1)
    visitor = access.visitor(key)
    assert visitor is not None
    assert (visitor.role, visitor.pseudonym) == (Role.PERSON, shop.who("ann"))
    last = shop.journal.linked(shop.journal.head().seq).facts
    assert (last["role"], last["owner"]) == ("person", "shop")
    assert shop.who("ann").hex() not in str(last)
    assert [each.owner for each in access.of(shop.who("ann"))] == ["shop"]
    assert access.of(shop.who("bob")) == []
    assert access.stands(key.split("_")[1])
    access.take(key.split("_")[1])
    assert not access.stands(key.split("_")[1])


@pytest.mark.parametrize(
    ("role", "pseudonym", "owner", "days"),
    [
        (Role.PERSON, None, "a", 1),
        (Role.OWNER, bytes(16), "a", 1),
        (Role.OWNER, None, "", 1),
        (Role.OWNER, None, "a\nb", 1),
        (Role.OWNER, None, "a", 0),
        (Role.OWNER, None, "a", LONGEST_DAYS + 0.1),
        (Role.OWNER, None, "a", float("nan")),
    ],
)
def test_keys_that_are_not_made(access: Access, role: Role, pseudonym: bytes | None, owner: str, days: float) -> None:
    with pytest.raises(SettingError):
        access.make(role, owner, pseudonym=pseudonym, days=days)
    assert len(access) == 0


def test_keys_for_people_end_with_the_key_that_made_them(shop: System, access: Access) -> None:
    app, other = (access.make(Role.OPERATOR, "shop").split("_")[1] for _ in range(2))
    mine, theirs = (access.make(Role.PERSON, who, pseudonym=shop.who("ann")) for who in (app, other))
    access.take(app)
    assert access.visitor(mine) is None
    assert access.visitor(theirs)


def test_a_key_is_narrowed_to_some_of_what_its_role_allows(access: Access) -> None:
    few = [Permission.SEND_EVENTS, Permission.ASK_FOR_PEOPLE]
    visitor = access.visitor(access.make(Role.OPERATOR, "shop", only=few))
    assert visitor is not None
    assert {permission for permission in Permission if visitor.may(permission)} == {*few}
    assert [key.only for key in access.all()] == ["ask-for-people send-events"]
    whole = access.visitor(access.make(Role.OPERATOR, "shop"))
    assert whole is not None
    assert {permission for permission in Permission if whole.may(permission)} == MATRIX[Role.OPERATOR]
    for wrong in ([], [Permission.OWN], [*few, Permission.SET_POLICY]):
        with pytest.raises(SettingError, match="is narrowed to some of what its role, operator, allows"):
            access.make(Role.OPERATOR, "shop", only=wrong)


def test_whoever_decides_with_a_narrowed_key_does_not(access: Access) -> None:
    access.make(Role.OWNER, "ann", only=[Permission.SEE_BUDGETS])
    assert access.deciders() == set()


@pytest.mark.parametrize(
    "change",
    [
        "role = 'owner'",
        "owner = 'eve'",
        "until = '2999-01-01T00:00:00Z'",
        "until = NULL",
        "narrowed = NULL",
        "verifier = 'sha256:{digest}'",
        "pseudonym = NULL, role = 'owner'",
        "name = 'x'",
    ],
)
def test_whoever_writes_into_the_database_makes_no_key(shop: System, access: Access, change: str) -> None:
    own = access.make(Role.PERSON, "shop", pseudonym=shop.who("ann"), only=[Permission.OWN])
    _, name, secret = own.split("_", 2)
    digest = sha256(b"mine").hexdigest()
    with shop.database.transaction():
        shop.database.execute(text(f"UPDATE access SET {change.format(digest=digest)}"))  # noqa: S608 - of a test
        for key in (own, f"discreet_{name}_mine", f"discreet_x_{secret}"):
            assert access.visitor(key) is None
        assert not access.stands(name)
        assert access.deciders() == set()
        shop.database.execute(text("DELETE FROM access"))
        shop.journal.append("access", key=name, role=None)


def test_a_person_has_so_many_keys_at_once(shop: System, access: Access) -> None:
    for _ in range(MOST_OF_A_PERSON):
        last = access.make(Role.PERSON, "shop", pseudonym=shop.who("ann"), days=1)
    first = access.of(shop.who("ann"))[0].name
    assert len(access.of(shop.who("ann"))) == MOST_OF_A_PERSON
    anew = access.make(Role.PERSON, "shop", pseudonym=shop.who("ann"))  # nobody is kept from their rights by it
    assert len(access.of(shop.who("ann"))) == MOST_OF_A_PERSON
    assert not access.stands(first)
    assert access.visitor(last)
    assert access.visitor(anew)


def test_a_persons_key_ends_no_later_than_the_one_that_made_it(
    shop: System, access: Access, monkeypatch: pytest.MonkeyPatch
) -> None:
    maker = access.make(Role.OPERATOR, "shop", days=2)
    made = access.make(Role.PERSON, maker.split("_")[1], pseudonym=shop.who("ann"), days=30)
    short = access.make(Role.PERSON, maker.split("_")[1], pseudonym=shop.who("ann"), days=1)
    (ends,) = [key.until for key in access.all() if key.role == "operator"]
    assert max(str(key.until) for key in access.of(shop.who("ann"))) == ends
    at(monkeypatch, days=1, seconds=1)
    assert access.visitor(made)
    assert access.visitor(short) is None
    at(monkeypatch, days=2, seconds=1)
    assert access.visitor(maker) is None
    assert access.visitor(made) is None


def test_a_session_ends_within_hours(shop: System, access: Access, monkeypatch: pytest.MonkeyPatch) -> None:
    access.sign_up("ann", Role.AUDITOR, GOOD)
    assert GOOD not in str(shop.database.one(text("SELECT * FROM access")))
    session = signed_in(access, "ann", GOOD)
    visitor = access.visitor(session)
    assert visitor is not None
    assert visitor.role is Role.AUDITOR
    assert [key.owner for key in access.all()] == ["ann", "ann"]
    at(monkeypatch, hours=SESSION_HOURS, seconds=-30)
    assert access.visitor(session)
    at(monkeypatch, hours=SESSION_HOURS, seconds=1)
    assert access.visitor(session) is None
    assert signed_in(access, "ann", GOOD)
    at(monkeypatch, days=LONGEST_DAYS, seconds=1)
    with pytest.raises(NotAllowed):
        signed_in(access, "ann", GOOD)


def test_no_name_and_no_password_is_told_from_another(shop: System, access: Access) -> None:
    """Each try is one verification of Argon2, whatever is wrong."""
    access.sign_up("ann", Role.OWNER, GOOD)
    key = access.make(Role.OWNER, "bob").split("_")[1]
    said, spent = set(), []
    for name, password in (
        *(("ann", "wrong"), ("ann", ""), ("nobody", GOOD), (key, GOOD), ("", GOOD), ("a\x00b", GOOD)),
        *(("\ud800", GOOD), ("ann", "\ud800"), ("ann", "x" * 100_000), ("ann", GOOD + "\x00")),
    ):
        hasher = module._hasher()
        with mock.patch.object(module, "_hasher") as watched:
            watched.return_value.verify.side_effect = hasher.verify
            watched.return_value.hash.side_effect = hasher.hash
            with pytest.raises(NotAllowed) as refused:
                signed_in(access, name, password)
        said.add(str(refused.value))
        spent.append(watched.return_value.verify.call_count)
    assert said == {"this name and this password do not go together"}
    assert set(spent) == {1}
    assert [entry.kind for entry in shop.journal.rows()].count("access") == 2  # nobody was given a session


def test_a_hash_of_nobody_takes_as_long() -> None:
    assert module.nobody().split("$")[:4] == module._hasher().hash(GOOD).split("$")[:4]


def test_a_damaged_verifier_lets_nobody_in(shop: System, access: Access) -> None:
    access.sign_up("ann", Role.OWNER, GOOD)
    shop.database.execute(text("UPDATE access SET verifier = '$argon2id$none'"))
    with pytest.raises(NotAllowed, match="do not go together"):
        signed_in(access, "ann", GOOD)
    with pytest.raises(NotAllowed, match="do not go together"):
        access.sign_in("ann", "$argon2id$another")  # the password was changed meanwhile
    (problem,) = Ledger(shop.database).verify().problems
    assert problem.what == "the key or account ann is not what the journal tells"
    access.take("ann")


@pytest.mark.parametrize(
    ("name", "role", "password"),
    [
        ("ann", Role.PERSON, GOOD),
        ("ann", Role.OWNER, "x" * 11),
        ("ann", Role.OWNER, "x" * 1_001),
        ("", Role.OWNER, GOOD),
        ("an_n", Role.OWNER, GOOD),
        ("an n", Role.OWNER, GOOD),
        ("an\x00n", Role.OWNER, GOOD),
        ("taken", Role.OWNER, GOOD),
    ],
)
def test_accounts_that_are_not_made(access: Access, name: str, role: Role, password: str) -> None:
    access.sign_up("taken", Role.ANALYST, GOOD)
    with pytest.raises(SettingError):
        access.sign_up(name, role, password)
    assert [(key.name, key.role) for key in access.all()] == [("taken", "analyst")]


@pytest.mark.parametrize("password", ["x" * 12, "x" * 1_000, "\ud800" * 12, "пароль-пароль", "\x00" * 12])
def test_whatever_is_typed_is_a_password(access: Access, password: str) -> None:
    access.sign_up("ann", Role.OWNER, password)
    assert signed_in(access, "ann", password)
    with pytest.raises(NotAllowed):  # its beginning is all the same, and it is not it
        signed_in(access, "ann", password + "x")


def test_who_is_taken_away_is_signed_out(shop: System, access: Access) -> None:
    shop.agree("cid")
    access.sign_up("ann", Role.OWNER, GOOD)
    session, kept = signed_in(access, "ann", GOOD), access.make(Role.OPERATOR, "ann", days=30)
    theirs = access.make(Role.PERSON, "ann", pseudonym=shop.who("cid"), days=0.1)
    access.take("ann")
    assert access.visitor(session) is None
    with pytest.raises(NotAllowed):
        signed_in(access, "ann", GOOD)
    assert access.visitor(kept)  # an application's goes on until it is taken away itself
    assert access.visitor(theirs) is None  # what was made for people is gone with whom they trusted
    access.take(kept.split("_")[1])
    assert access.visitor(kept) is None
    rows = shop.journal.head()
    for nothing in ("ann", "none", "a\x00b"):
        access.take(nothing)
    assert shop.journal.head() == rows
    told: list[Any] = [entry.facts["role"] for entry in shop.journal.rows() if entry.kind == "access"]
    assert told == ["owner", "owner", "operator", "person", None, None, None, None]  # an account, a session, two keys


def test_who_decides_by_two_is_told_by_owner(access: Access, monkeypatch: pytest.MonkeyPatch) -> None:
    access.make(Role.OWNER, "ann", days=1)
    access.make(Role.PRIVACY_OFFICER, "ann", days=2)
    access.make(Role.PRIVACY_OFFICER, "bob", days=3)
    access.make(Role.OPERATOR, "cleo")
    assert access.deciders() == {"ann", "bob"}
    at(monkeypatch, days=2.5)
    assert access.deciders() == {"bob"}
