"""Staff that looks at one person's data: for a reason, by two people, for a day at most, and the person is told.

A grant is about somebody whom the journal knows by the token of their key: it does not say who that is, and when they
are erased nobody can tell any more. The person finds a grant among what is held of them from when it is opened, used or
not. Each use is a row of the journal and a document of the person's own, which they find there, too.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import rfc8785

from discreet.errors import NotAllowed, SettingError
from discreet.governance.checks import now, sha256, stamp
from discreet.governance.consent import DESK, Documents
from discreet.governance.database import Database
from discreet.governance.holders import Holders, token_of
from discreet.governance.journal import Journal
from discreet.governance.matters import Matter, Matters

KIND, OPEN, CLOSED = "grant", "open", "closed"
OPENED = "opened"
"""Documents of a person: that somebody looked."""
REASONS = ("court order", "the person's own request", "abuse investigation", "safety")
FIELDS = ("consents", "events")
MOST_HOURS = 24
STAFF = ("requester", "approver", "outcome")
"""What staff alone are told: who asked for a grant, who agreed, and what they wrote of it, which may name somebody."""


class Grants:
    """The register of grants."""

    def __init__(
        self, database: Database, journal: Journal, matters: Matters, holders: Holders, documents: Documents
    ) -> None:
        self._db, self._journal, self._matters = database, journal, matters
        self._holders, self._documents = holders, documents

    def subject(self, person: str) -> str:
        """Return how a grant names somebody; of whoever is not held, what names nobody: asking tells nothing."""
        pseudonym = self._holders.pseudonym(person)
        return self._holders.token(pseudonym) if self._holders.holds(pseudonym) else secrets.token_hex(16)

    def open(self, subject: str, reason: str, fields: Sequence[str], hours: float, *, by: Sequence[str]) -> Matter:
        """Open a grant, which two agreed to.

        Raises:
            SettingError: the reason or a field is none, or it would be open for longer than a day.
            NotAllowed: these are not two people.
        """
        if reason not in REASONS:
            raise SettingError(f"a reason to look at somebody's data is one of {', '.join(REASONS)}")
        if not fields or not all(each in FIELDS for each in fields):
            raise SettingError(f"a grant is for some of {', '.join(FIELDS)}")
        if not isinstance(hours, int | float) or not 0 < hours <= MOST_HOURS:
            raise SettingError(f"a grant ends within {MOST_HOURS} hours")
        if len({*by}) < 2:
            raise NotAllowed("a grant takes two people")
        closes = stamp(datetime.now(UTC) + timedelta(hours=hours))
        body = {"who": subject, "reason": reason, "fields": sorted({*fields}), "by": list(by), "opens_at": now()}
        return self._matters.open(KIND, OPEN, body | {"closes_at": closes}, by=by[-1], due=closes)

    def use(self, name: str, person: str, *, by: str) -> tuple[bytes, list[str]]:
        """Note that somebody looks, and return whom they may look at, and at what.

        Raises:
            SettingError: there is no such grant.
            NotAllowed: it is of two others, or over, or about somebody else.
        """
        pseudonym = self._holders.pseudonym(person)
        with self._db.transaction():
            grant = self._matters.one(KIND, name)
            if by not in grant.body["by"]:  # first: to others it does not tell whom it is about
                raise NotAllowed("this grant is of two others")
            if grant.state != OPEN or grant.due is None or grant.due <= now():
                raise NotAllowed("this grant is over; two people can open another")
            if not self._holders.holds(pseudonym) or self._holders.token(pseudonym) != grant.body["who"]:
                raise NotAllowed("this grant is about somebody else")
            told = {"at": now(), "reason": grant.body["reason"], "fields": grant.body["fields"], "grant": name}
            self._journal.append("look", name=name, by=by, **self._noted(pseudonym, told))
        return pseudonym, list(grant.body["fields"])

    def desk(self, pseudonym: bytes, fields: Sequence[str]) -> None:
        """Note, for the journal and for the person, that whoever has the folder looks for them, as they asked.

        Raises:
            SettingError: nothing is held of this person.
        """
        with self._db.transaction():
            self.check_held(pseudonym)
            told = {"at": now(), "reason": REASONS[1], "fields": list(fields), "by": DESK}
            self._journal.append("desk", fields=", ".join(fields), **self._noted(pseudonym, told))

    def about(self, pseudonym: bytes) -> list[dict[str, Any]]:
        """Return the grants about somebody, as they are told of them: without the names of staff."""
        if not self._holders.holds(pseudonym):
            return []
        token = self._holders.token(pseudonym)
        found = [shown(each) for each in self._matters.all(KIND) if each.body["who"] == token]
        return [{name: value for name, value in each.items() if name not in STAFF} for each in found]

    def _noted(self, pseudonym: bytes, told: dict[str, Any]) -> dict[str, str]:
        """Keep for a person that somebody looks; return what the journal tells of it: whose it is, and its hash."""
        seal = self._holders.hold(pseudonym)
        self._documents.keep(pseudonym, OPENED, told, seal)
        return {"who": token_of(seal), "record": sha256(rfc8785.dumps(told))}

    def check_held(self, pseudonym: bytes) -> None:
        """Raise SettingError if nothing is held of a person: what is done at the desk makes nobody known."""
        if not self._holders.holds(pseudonym):
            raise SettingError("nothing is held of this person")

    def close(self, name: str, outcome: str, *, by: str) -> Matter:
        """Say what came of a grant: its end, if its time is not over.

        Raises:
            SettingError: there is no such grant.
            Conflict: it was said before.
        """
        return self._matters.move(KIND, name, [OPEN], CLOSED, by=by, body={"outcome": outcome, "closed_at": now()})


def shown(grant: Matter) -> dict[str, Any]:
    """Return a grant as JSON values, with whose it is and from when the person finds it, without whom it is about."""
    told = {name: value for name, value in grant.to_dict().items() if name not in {"who", "by"}}
    requester, *_, approver = grant.body["by"]
    return told | {"requester": requester, "approver": approver, "notify_subject_at": grant.body["opens_at"]}
