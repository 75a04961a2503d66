"""Every role by every permission, written out here a second time: a change of the matrix is a change of this table."""

from __future__ import annotations

import pytest

from discreet.errors import NotAllowed
from discreet.governance.roles import BY_TWO, MATRIX, Permission, Role, allowed, casbin, check_allowed, table

P = Permission

# owner, privacy-officer, operator, analyst, auditor, person
TABLE = {
    "own": "-----x",
    "send-events": "--x---",
    "ask-for-people": "--x---",
    "sign-people-in": "--x---",
    "set-items": "--x---",
    "see-items": "xxxxxx",
    "see-budgets": "xxxxx-",
    "open-budget": "xx----",
    "raise-cap": "xx----",
    "train": "--x---",
    "see-jobs": "xxxxx-",
    "see-governance": "xx--x-",
    "see-journal": "xx--x-",
    "open-grant": "-x----",
    "use-grant": "-x----",
    "set-policy": "xx----",
    "record-incident": "xxx---",
    "do-duty": "-x--x-",
    "set-access": "x-----",
    "make-decider": "xx----",
    "see-metrics": "xxx---",
}


@pytest.mark.parametrize("permission", Permission, ids=str)
@pytest.mark.parametrize("role", Role, ids=str)
def test_the_matrix(role: Role, permission: Permission) -> None:
    written = TABLE[str(permission)][list(Role).index(role)] == "x"
    assert allowed(role, permission) is written
    if written:
        check_allowed(role, permission)
    else:
        with pytest.raises(NotAllowed, match=f"^{role} may not "):
            check_allowed(role, permission)


def test_nothing_else_is_written() -> None:
    assert {*TABLE} == {str(permission) for permission in Permission}
    assert {*MATRIX} == {*Role}
    assert Permission.OWN not in frozenset().union(*(MATRIX[role] for role in Role if role is not Role.PERSON))


def test_what_takes_two_can_be_asked_by_more_than_one_role_or_officer() -> None:
    assert {P.RAISE_CAP, P.OPEN_GRANT, P.SET_POLICY, P.MAKE_DECIDER} == BY_TWO
    assert all(any(allowed(role, permission) for role in Role) for permission in BY_TWO)


def test_the_matrix_is_written_for_auditors() -> None:
    written = {
        (role, name) for name, marks in TABLE.items() for role, mark in zip(Role, marks, strict=True) if mark == "x"
    }
    rows = table()
    assert [(row["role"], row["permission"]) for row in rows] == [(str(role), str(each)) for role in Role for each in P]
    assert {(Role(str(row["role"])), row["permission"]) for row in rows if row["allowed"]} == written
    assert {row["permission"] for row in rows if row["by_two"]} == {str(each) for each in BY_TWO}
    lines = casbin().splitlines()
    assert len(lines) == len(written)
    assert {tuple(line.split(", ")) for line in lines} == {("p", str(role), name, "allow") for role, name in written}
