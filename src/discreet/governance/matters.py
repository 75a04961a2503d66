"""What goes on and is on record: jobs, incidents, grants, motions, duties. Each is in a state, and each step is told.

A matter is a name, a state, perhaps a time by which something is due, and a body: JSON without anything about a person
but what its kind says. Every step is a row of the journal, with the hash of the body as it then was, and of all that
stood before: what was changed otherwise is for `verify` to name, also if steps were taken since. Two who take a step at
once: one does, the other is told that it was done (`Conflict`).
"""

from __future__ import annotations

import secrets
from collections.abc import Collection, Mapping
from contextlib import AbstractContextManager
from typing import Any, NamedTuple

import rfc8785
from sqlalchemy import bindparam, delete, insert, select

from discreet.documents import document
from discreet.errors import Conflict, SettingError
from discreet.governance import schema
from discreet.governance.checks import check_name, now, sha256
from discreet.governance.database import Database
from discreet.governance.journal import Journal
from discreet.governance.tables import digest_of

MOST_BODY = 1 << 16
"""Bytes."""
ASKED_AS = "asked"
"""Where a body has what was asked for, as `Once` has it."""

_m = schema.matter.c
_ROW = (_m.name, _m.state, _m.due, _m.body)
_ONE = select(*_ROW).where(_m.kind == bindparam("kind"), _m.name == bindparam("name"))
_ALL = select(*_ROW).where(_m.kind == bindparam("kind")).order_by(_m.due, _m.name)
_DUE = (
    select(*_ROW)
    .where(_m.kind == bindparam("kind"), _m.state == bindparam("state"), _m.due <= bindparam("time"))
    .order_by(_m.due, _m.name)
)
_FIRST = (
    select(*_ROW)
    .where(_m.kind == bindparam("kind"), _m.state == bindparam("state"), _m.due.is_not(None))
    .order_by(_m.due, _m.name)
    .limit(1)
)
_ADD = insert(schema.matter)
_TAKE = delete(schema.matter).where(_m.kind == bindparam("of"), _m.name == bindparam("which"))


class Matter(NamedTuple):
    """One of them.

    Attributes:
        kind: job, incident, grant, motion, duty.
        name: of it.
        state: as its kind has them.
        due: when something is, ISO 8601 (UTC).
        body: all else.
    """

    kind: str
    name: str
    state: str
    due: str | None
    body: Mapping[str, Any]

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON values, but for what a request is known by again."""
        told = {name: value for name, value in self.body.items() if name != ASKED_AS}
        return {"name": self.name, "state": self.state, "due": self.due, **told}


class Once(NamedTuple):
    """By what something that is asked for again is known: hex digits, under a key of the service.

    Attributes:
        name: of who asks, and of what they call it.
        asked: what they ask for.
    """

    name: str
    asked: str


class Matters:
    """All that goes on."""

    def __init__(self, database: Database, journal: Journal) -> None:
        self._db, self._journal = database, journal

    def together(self) -> AbstractContextManager[None]:
        """Take the steps of a block, and whatever else it does in this database, or none of them."""
        return self._db.transaction()

    def open(
        self,
        kind: str,
        state: str,
        body: Mapping[str, Any],
        *,
        by: str,
        due: str | None = None,
        name: str | None = None,
        once: Once | None = None,
    ) -> Matter:
        """Begin a matter; or return it as it is now, if it was begun by the same request.

        Args:
            kind: of it.
            state: that it begins in.
            body: JSON values.
            by: who begins it: the owner of a key, or ``discreet``.
            due: when something is.
            name: by default a new one.
            once: by what the request is known again; None: it is another each time.

        Raises:
            Conflict: there is one of this name, or something else was asked for by it.
            SettingError: the body is too long, or no JSON; or the name is none.
        """
        if name is not None:
            check_name(kind, name)
        told = body if once is None else {**body, ASKED_AS: once.asked}
        made = Matter(kind, name or (secrets.token_hex(8) if once is None else once.name), state, due, told)
        with self._db.transaction():
            found = self.find(kind, made.name)
            if found is not None:
                if once is not None and found.body.get(ASKED_AS) == once.asked:
                    return found
                raise Conflict(f"there is {_a(kind)} of this name already; give another Idempotency-Key, or none")
            self._put(made, by, None)
        return made

    def move(
        self,
        kind: str,
        name: str,
        states: Collection[str],
        to: str,
        *,
        by: str,
        body: Mapping[str, Any] | None = None,
        due: str | None = None,
    ) -> Matter:
        """Take a step.

        Args:
            kind: of the matter.
            name: of it.
            states: one of which it has to be in.
            to: the state that it is in then.
            by: who takes the step.
            body: what changes in it.
            due: when something is then; None: as before.

        Raises:
            SettingError: there is none of this name.
            Conflict: it is in another state.
        """
        with self._db.transaction():
            found = self.one(kind, name)
            if found.state not in states:
                raise Conflict(
                    f"this {kind} is {found.state}; what was asked can be done while it is {' or '.join(states)}"
                )
            made = found._replace(state=to, due=due or found.due, body={**found.body, **(body or {})})
            self._db.execute(_TAKE, of=kind, which=name)
            self._put(made, by, found)
        return made

    def forget(self, matter: Matter, *, by: str) -> bool:
        """Delete a matter that has ended (`replay.ENDED`), on record; return whether it was still as it is here."""
        with self._db.transaction():
            if self.find(matter.kind, matter.name) != matter:
                return False
            self._db.execute(_TAKE, of=matter.kind, which=matter.name)
            self._journal.append("forget", of=matter.kind, name=matter.name, by=by, was=_digest(matter))
        return True

    def one(self, kind: str, name: str) -> Matter:
        """Return one. Raises SettingError if there is none."""
        found = self.find(kind, name)
        if found is None:
            raise SettingError(f"there is no {kind} of this name")
        return found

    def find(self, kind: str, name: str) -> Matter | None:
        """Return one, if there is one."""
        row = self._db.one(_ONE, kind=kind, name=name) if name.isprintable() else None  # what a database can be asked
        return None if row is None else _matter(kind, row)

    def all(self, kind: str) -> list[Matter]:
        """Return all of a kind, by when they are due."""
        return [_matter(kind, row) for row in self._db.each(_ALL, kind=kind)]

    def due(self, kind: str, state: str, time: str | None = None) -> list[Matter]:
        """Return those in a state that are due by a time, by default now."""
        return [_matter(kind, row) for row in self._db.each(_DUE, kind=kind, state=state, time=time or now())]

    def next(self, kind: str, state: str) -> Matter | None:
        """Return the one of those in a state that is due first, if there is one."""
        row = self._db.one(_FIRST, kind=kind, state=state)
        return None if row is None else _matter(kind, row)

    def _put(self, matter: Matter, by: str, before: Matter | None) -> None:
        try:
            body = rfc8785.dumps(dict(matter.body))
            document(body)  # it can be read again
        except (rfc8785.CanonicalizationError, ValueError, RecursionError) as error:
            raise SettingError(f"what is said of {_a(matter.kind)} holds what cannot be written down") from error
        if len(body) > MOST_BODY:
            raise SettingError(f"what is said of {_a(matter.kind)} has at most {MOST_BODY:,} bytes")
        stored = {"kind": matter.kind, "name": matter.name, "state": matter.state, "due": matter.due}
        self._db.execute(_ADD, body=body.decode(), **stored)
        told = {"name": matter.name, "state": matter.state, "due": matter.due, "body": sha256(body)}
        self._journal.append(matter.kind, by=by, was=before and _digest(before), **told)


def _digest(matter: Matter) -> str:
    return digest_of((matter.state, matter.due, sha256(rfc8785.dumps(dict(matter.body)))))


def _matter(kind: str, row: tuple[Any, ...]) -> Matter:
    name, state, due, body = row
    return Matter(kind, name, state, due, document(body.encode()))


def _a(kind: str) -> str:
    return f"an {kind}" if kind[0] in "aeiou" else f"a {kind}"
