"""What takes two people: one asks, another agrees, and only then it happens.

Both need the permission, and they are two owners of keys, not two keys of one. What was asked is written down before
anybody agrees, and its hash is in the journal: what is agreed to is what was asked. A motion that nobody agrees to
lapses after a week.

=========  =============================  ==================
state      what it means                  what comes next
=========  =============================  ==================
asked      somebody asked for it          agreed, refused, lapsed
agreed     another agreed; it was done
refused    another refused
lapsed     nobody said anything in time
=========  =============================  ==================
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from discreet.errors import Conflict, NotAllowed, SettingError
from discreet.governance.checks import now
from discreet.governance.consent import later
from discreet.governance.matters import Matter, Matters, Once
from discreet.governance.roles import BY_TWO, Permission, Role, check_allowed

KIND, ASKED, AGREED, REFUSED, LAPSED = "motion", "asked", "agreed", "refused", "lapsed"
DAYS = 7


class Member(NamedTuple):
    """Somebody of the staff: the owner of a key, and their role."""

    owner: str
    role: Role


class Motions:
    """What was asked for, and what became of it."""

    def __init__(self, matters: Matters) -> None:
        self._matters = matters

    def ask(self, permission: Permission, what: Mapping[str, Any], by: Member, once: Once | None = None) -> Matter:
        """Ask for something that takes two.

        Args:
            permission: of ``BY_TWO``, that both need.
            what: is to be done, as JSON values; nothing in it is about a person by name.
            by: who asks.
            once: by what the request is known again.

        Raises:
            NotAllowed: their role does not allow for it.
            SettingError: this is done by one.
        """
        if permission not in BY_TWO:
            raise SettingError(f"{permission} does not take two people; do it")
        check_allowed(by.role, permission)
        body = {"permission": str(permission), "asked_by": by.owner, "what": dict(what)}
        return self._matters.open(KIND, ASKED, body, by=by.owner, due=later(now(), DAYS), once=once)

    def agree(self, name: str, by: Member, do: Callable[[Matter], Mapping[str, Any]]) -> Matter:
        """Agree, and have it done.

        Args:
            name: of the motion.
            by: who agrees.
            do: what was asked for, in one transaction with the agreement: it is done once or, if it raises, not at all.
                What it returns is noted.

        Raises:
            NotAllowed: their role does not allow for it, or it is they who asked.
            Conflict: it is not asked any more.
        """
        self._lapse(name)
        with self._matters.together():  # or two who agree at once would have it done twice
            motion = self._asked(name, by)
            if motion.body["asked_by"] == by.owner:
                raise NotAllowed("who asked cannot agree: this takes two people")
            body = {**do(motion), **motion.body, "agreed_by": by.owner}
            return self._matters.move(KIND, name, [ASKED], AGREED, by=by.owner, body=body)

    def refuse(self, name: str, by: Member) -> Matter:
        """Refuse. Whoever asked may take it back so. Raises as `agree`."""
        self._lapse(name)
        with self._matters.together():
            self._asked(name, by)
            return self._matters.move(KIND, name, [ASKED], REFUSED, by=by.owner, body={"refused_by": by.owner})

    def lapse(self) -> None:
        """Note of all that nobody agreed to in time that they have lapsed."""
        for motion in self._matters.due(KIND, ASKED, now()):
            self._lapse(motion.name)

    def _lapse(self, name: str) -> None:
        with self._matters.together():
            if _is_late(self._matters.one(KIND, name)):
                self._matters.move(KIND, name, [ASKED], LAPSED, by="discreet")

    def _asked(self, name: str, by: Member) -> Matter:
        motion = self._matters.one(KIND, name)
        if motion.state != ASKED or _is_late(motion):
            raise Conflict(f"this motion is {LAPSED if _is_late(motion) else motion.state}; ask anew")
        check_allowed(by.role, Permission[motion.body["permission"].upper().replace("-", "_")])
        return motion


def _is_late(motion: Matter) -> bool:
    return motion.state == ASKED and motion.due is not None and motion.due <= now()
