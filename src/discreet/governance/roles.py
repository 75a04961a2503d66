"""Who may do what: a matrix, in which what is not written is not allowed.

A permission is what one route or command needs. Some take two people: one asks, another with the same permission
agrees (``motions``). A person's own data is theirs: the staff reads a history by a grant, which is opened by two, says
why, ends within a day, and is shown to the person afterwards. An application that signs people in acts for them, with
an operator's key: it makes their keys, each of which is on record, and shown to the person. A key can be narrowed to
some of what its role allows: one that only asks for lists makes no key, and changes nobody's mind.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum

from discreet.errors import NotAllowed


class Role(Enum):
    """What somebody is in this system."""

    OWNER = "owner"
    PRIVACY_OFFICER = "privacy-officer"
    OPERATOR = "operator"
    ANALYST = "analyst"
    AUDITOR = "auditor"
    PERSON = "person"

    def __str__(self) -> str:
        return self.value


class Permission(Enum):
    """What can be allowed."""

    OWN = "own data: consent, level, access, export, correction, objection, erasure, lists, receipts"
    SEND_EVENTS = "send events of people"
    ASK_FOR_PEOPLE = "ask for lists on behalf of people who use an application"
    SIGN_PEOPLE_IN = "make keys for people whom an application has signed in, who do with them what is theirs"
    SET_ITEMS = "change the catalogue"
    SEE_ITEMS = "see the catalogue, similar items, and lists that are not personal"
    SEE_BUDGETS = "see budgets, releases and guarantees"
    OPEN_BUDGET = "open a budget"
    RAISE_CAP = "raise the cap of a budget"
    TRAIN = "start a job, or set the calendar"
    SEE_JOBS = "see jobs"
    SEE_GOVERNANCE = "see the inventory, duties, incidents and grants"
    SEE_JOURNAL = "read the journal, and have rows proven"
    OPEN_GRANT = "open a re-identification grant"
    USE_GRANT = "read what a grant names"
    SET_POLICY = "change the inventory or the policy"
    RECORD_INCIDENT = "record an incident, or go on with it"
    DO_DUTY = "record that a duty was done"
    SET_ACCESS = "make and take away keys of the staff and of applications"
    MAKE_DECIDER = "make keys of owners and privacy officers, who decide by two"
    SEE_METRICS = "see the metrics"

    def __str__(self) -> str:
        return self.name.lower().replace("_", "-")


P = Permission
_SEEN_BY_STAFF = {P.SEE_ITEMS, P.SEE_BUDGETS, P.SEE_JOBS}

MATRIX: Mapping[Role, frozenset[Permission]] = {
    Role.OWNER: frozenset(
        {*_SEEN_BY_STAFF, P.SEE_GOVERNANCE, P.SEE_JOURNAL, P.SEE_METRICS}
        | {P.SET_ACCESS, P.MAKE_DECIDER, P.SET_POLICY, P.OPEN_BUDGET, P.RAISE_CAP, P.RECORD_INCIDENT}
    ),
    Role.PRIVACY_OFFICER: frozenset(
        {*_SEEN_BY_STAFF, P.SEE_GOVERNANCE, P.SEE_JOURNAL, P.SEE_METRICS}
        | {
            P.MAKE_DECIDER,
            P.SET_POLICY,
            P.OPEN_BUDGET,
            P.RAISE_CAP,
            P.OPEN_GRANT,
            P.USE_GRANT,
            P.RECORD_INCIDENT,
            P.DO_DUTY,
        }
    ),
    Role.OPERATOR: frozenset(
        {*_SEEN_BY_STAFF, P.SEE_METRICS, P.SEND_EVENTS, P.ASK_FOR_PEOPLE, P.SIGN_PEOPLE_IN}
        | {P.SET_ITEMS, P.TRAIN, P.RECORD_INCIDENT}
    ),
    Role.ANALYST: frozenset(_SEEN_BY_STAFF),
    Role.AUDITOR: frozenset({*_SEEN_BY_STAFF, P.SEE_GOVERNANCE, P.SEE_JOURNAL, P.DO_DUTY}),
    Role.PERSON: frozenset({P.OWN, P.SEE_ITEMS}),
}

APPLICATION = frozenset({P.SEND_EVENTS, P.ASK_FOR_PEOPLE, P.SIGN_PEOPLE_IN, P.SEE_ITEMS})
"""What an application needs whose people sign in there: its operator's key can be narrowed to it."""

BY_TWO = frozenset({P.RAISE_CAP, P.OPEN_GRANT, P.SET_POLICY, P.MAKE_DECIDER})
"""What somebody asks for and another agrees to."""

DECIDING = (Role.OWNER, Role.PRIVACY_OFFICER)
"""Who takes part in what takes two. Once there were two of them, it takes two to make another: nobody makes themselves
the second, not after they took the other's key away either."""


def table() -> list[dict[str, str | bool]]:
    """Return the matrix as rows, each role by each permission: whether it is allowed, and whether it takes two."""
    return [
        {
            "role": str(role),
            "permission": str(permission),
            "says": permission.value,
            "allowed": allowed(role, permission),
            "by_two": permission in BY_TWO,
        }
        for role in Role
        for permission in Permission
    ]


def casbin() -> str:
    """Return what is allowed as policies of Casbin, for ``p = sub, act, eft``: what is not there is denied."""
    return "".join(f"p, {row['role']}, {row['permission']}, allow\n" for row in table() if row["allowed"])


def allowed(role: Role, permission: Permission) -> bool:
    """Tell whether a role has a permission."""
    return permission in MATRIX.get(role, frozenset())


def check_allowed(role: Role, permission: Permission) -> None:
    """Refuse what a role may not do.

    Raises:
        NotAllowed: names the role and the permission.
    """
    if not allowed(role, permission):
        raise NotAllowed(f"{role} may not {permission.value}; ask somebody whose role allows it ({permission})")
