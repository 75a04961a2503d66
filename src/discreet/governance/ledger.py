"""Budgets, and what was spent from them: in integers, durable, never given back.

The protocol of a release::

    RESERVE   charge the whole price, in one durable transaction
    compute   with a fresh noise key; each round draws on the reservation
    write     the candidate under its hash; fsync file and folder
    COMMIT    the first hash wins; whoever comes later is told the winner
    publish   link the winner's candidate to its name

A process may die between any two of these lines. Before COMMIT nothing was visible, so the same release id is reserved
again, at no further charge, and computed anew. After COMMIT only the winner can be published: `resume` does it.

Formal guarantees
-----------------
* The costs of an account's releases, in whatever state, never sum to more than its cap: spending is charged before
  anything is computed, and no call lowers it. A cap is raised by two people, on record, and never lowered; each release
  is held against the cap of its time.
* Where persons have caps, the costs of the releases of a data set that a person was admitted to never sum to more than
  that person's cap at the time of admission, across all purposes (but those of budgets that are kept by interaction,
  which are refused once anybody has a cap). Whoever has too little left is not admitted; the
  others are. Source: Feldman and Zrnic 2021, individual privacy filters; for Gaussian releases Koskela, Tobaben and
  Honkela 2023. Who is admitted depends on what each is *held* for: the price of their level, which no data enters. What
  each has *spent* is settled when a release is committed, to what their rows used; it is no more, and is theirs alone.
* An account that has a pace spends no faster than it says (`pacing`).
* Each of these changes is a row of the journal, written in the same transaction. With a witness, a call that changes
  something returns once a signed head that covers it is on the disk (`witness`); a refusal is covered by the next one.

Persons are held only as pseudonyms: HMAC-SHA256, 16 bytes, under a random key of this ledger.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import bindparam, func, insert, literal_column, select, update

from discreet.errors import (
    AccountMissing,
    BudgetExceeded,
    FileNotWritten,
    LedgerCorrupted,
    LedgerError,
    NotAllowed,
    ReleaseConflict,
    ReleaseWaits,
    SettingError,
)
from discreet.governance import schema
from discreet.governance.accounts import (
    Account,
    AccountRow,
    AccountState,
    PersonState,
    nobody_admitted,
    off_record,
    refusal,
    too_fast,
)
from discreet.governance.charges import Charges, Units, checked_units
from discreet.governance.checks import check_deadline, check_name, check_sha256, instant, now, whole
from discreet.governance.database import Database
from discreet.governance.journal import Head, Journal
from discreet.governance.keys import Wrapping
from discreet.governance.pacing import Outlook, Pace, Rule, at_this_rate, earliest
from discreet.governance.persons import Crowd, People, Persons, digest, within
from discreet.governance.releases import ReleaseRow, ReleaseState, Reservation
from discreet.governance.standing import check_standing
from discreet.governance.tables import ACCOUNTS, RELEASES
from discreet.governance.verification import Verification, verify
from discreet.governance.witness import check_unwitnessed, configured, opened_with
from discreet.privacy import accounting

__all__ = ["Account", "AccountState", "Ledger", "Reservation"]

_OF_DATASET = schema.account.c.dataset == bindparam("dataset")
_ACCOUNT = ACCOUNTS.where(schema.account.c.name == bindparam("name"))
_ACCOUNTS_BY_NAME = ACCOUNTS.order_by(schema.account.c.name)
_ACCOUNTS_OF_DATASET = ACCOUNTS.where(_OF_DATASET)
_ANY_OF_DATASET = select(schema.account.c.name).where(_OF_DATASET).limit(1)
_OPEN = insert(schema.account)
_SPEND = (
    update(schema.account)
    .where(schema.account.c.name == bindparam("account"))
    .values(spent=schema.account.c.spent + bindparam("cost"))
)
_RAISE = (
    update(schema.account)
    .where(schema.account.c.name == bindparam("account"))
    .values(epsilon=bindparam("to"), cap=bindparam("most"))
)
_RELEASE = RELEASES.where(schema.release.c.name == bindparam("name"))
_COUNT = select(func.count()).where(schema.release.c.account == bindparam("account"))
_RELEASES_IN_ORDER = (
    select(schema.release, func.length(schema.cohort.c.members) / 16)
    .join_from(schema.release, schema.cohort, isouter=True)
    .order_by(literal_column("release.rowid"))
)
_RELEASES_OF_ACCOUNT = _RELEASES_IN_ORDER.where(schema.release.c.account == bindparam("account"))
_RESERVE = insert(schema.release)
_END = (
    update(schema.release)
    .where(schema.release.c.name == bindparam("release"))
    .values(state=bindparam("state"), artefact=bindparam("artefact"), used=bindparam("used"))
)


class Ledger:
    """Budgets in one SQLite file, or one PostgreSQL database. Any number of objects may share it, one per thread.

    Args:
        place: the file; it is made, with mode 0600, if missing and ``create``. Or the URL of a database,
            ``postgresql+psycopg://user:password@host/database``, whose tables are made likewise; the database is not.
            Or a database that is open: what is done is then a part of its open transaction; to close one closes both.
        create: give False to read: then a missing ledger is an error, and a file on read-only media is no hindrance.
        deadline: seconds to wait for other processes that are writing, 0 to 1,000,000.
        witness: file of signed heads outside the database (`witness`), by default what ``DISCREET_WITNESS`` names. With
            one, a ledger that was rolled back is not opened, and no change is acknowledged before a head covers it.

    Attributes:
        name: what it is called in messages; without the password of a URL.
        place: where the disk is that it fills: a folder, or a server.

    Raises:
        SettingError: the deadline is out of its range, or the place is another URL.
        LedgerError: the ledger is missing, busy, unwritable, or of another version; it is left untouched.
        LedgerCorrupted: the file is damaged or is not an SQLite file, or lacks what its witness has seen, or the
            witness is gone; it is left untouched.
    """

    def __init__(
        self,
        place: str | Path | Database,
        *,
        create: bool = True,
        deadline: float = 30.0,
        witness: str | Path | None = None,
    ) -> None:
        patience = check_deadline(deadline)
        if isinstance(place, Database):  # whoever opened it has the witness see what was done
            self._witness, self._db, self.journal = None, place, Journal(place)
        else:
            self._witness = configured(witness, patience)
            self._db, self.journal = opened_with(self._witness, place, patience, may_create=create)
        self._joined = isinstance(place, Database)
        self.name, self.place = self._db.name, self._db.place
        self._persons = Persons(self._db)
        self._charges = Charges(self._db)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the file or the connection."""
        self._db.close()

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """Do all of the block or none of it; at its end it is committed, and a head in the witness covers it.

        Raises:
            FileNotWritten: it is committed, but the witness could not be written.
            LedgerError: nothing was done: the journal tells of a witness, and there is none here.
        """
        with self._db.transaction():
            if self._witness is None and not self._joined:
                check_unwitnessed(self.journal)
            yield
        if self._witness is not None:
            self._witness.keep(self.journal)

    # Budgets

    def open_budget(
        self,
        account: Account,
        *,
        epsilon: float,
        delta: float,
        person_epsilon: float | None = None,
        until: str | None = None,
    ) -> AccountState:
        """Open a budget of ``epsilon`` at ``delta``. With the terms it has already, nothing happens.

        Args:
            account: data set and purpose.
            epsilon: nats, above 0 and at most 30; becomes the cap in units.
            delta: in (0, 1).
            person_epsilon: the cap of each person, at the same delta, over all purposes of the data set. If the
                budgets of a data set differ in it, the lowest holds.
            until: the end, ISO 8601 (UTC unless it says otherwise; a date is its first instant). None: no end.

        Raises:
            SettingError: a number is out of its range; ``until`` is not a time, or is past.
            LedgerError: the budget is open on other terms (`raise_cap`; there is no resetting or reopening); or another
                budget of the data set and purpose has another unit, so that one act would be in two windows.
        """
        cap = accounting.cap(epsilon, delta)
        person_cap = None if person_epsilon is None else accounting.cap(person_epsilon, delta)
        end = None if until is None else instant(until, "until")
        asked = AccountRow(str(account), account.dataset, float(epsilon), float(delta), cap, person_cap, end, 0)
        with self._writing():
            found = self._account(asked.name)
            if found is None:
                self._check_unit(asked)
                self._open(asked)
            elif found.terms != asked.terms:
                raise LedgerError(
                    f"budget of {account} is already open with {found}; {asked} was asked; "
                    "a cap is raised by two people: one asks with POST /api/v1/motions, and another agrees"
                )
        return self.account(account)

    def _check_unit(self, asked: AccountRow) -> None:
        """Refuse windows that contradict each other: whole people beside months, or years beside months."""
        for row in self._db.each(_ACCOUNTS_OF_DATASET, dataset=asked.dataset):
            other = AccountRow.stored(row)
            if asked.contradicts(other):
                raise LedgerError(
                    f"{asked.name} and {other.name} protect in different units, and one act would fall within both; "
                    "keep to one unit for a purpose"
                )

    def _open(self, asked: AccountRow) -> None:
        time = now()
        if asked.left_at(time) == 0:
            raise SettingError(f"budget of {asked.name} would end before it begins, on {asked.until}; give a later end")
        self._db.execute(_OPEN, **asked._asdict())
        person_cap = None if asked.person_cap is None else str(asked.person_cap)
        facts = asked._asdict() | {"cap": str(asked.cap), "person_cap": person_cap, "spent": "0"}
        self.journal.append("open", at=time, **facts)

    def raise_cap(self, account: Account, *, epsilon: float, by: Sequence[str]) -> AccountState:
        """Raise the cap of a budget to ``epsilon`` at the budget's own delta. If it is that already, nothing happens.

        Caps of persons, an end and a pace stay as they are: a pace that grants equal parts goes on with the parts that
        it had until it is set anew.

        Args:
            account: the budget.
            epsilon: nats, at most 30; its units are above the cap.
            by: two people, who asked and who agreed. That they are two is for the caller to know (`motions`).

        Raises:
            NotAllowed: these are not two names.
            SettingError: a number is out of its range, or a name is none.
            AccountMissing: the budget was never opened.
            LedgerError: the cap would fall; or the budget has ended, which is not revived.
            LedgerCorrupted: the budget and the journal do not agree; nothing is raised.
        """
        if len(by) != 2 or by[0] == by[1]:
            raise NotAllowed("raising a cap takes two people; have another one agree")
        for name in by:
            check_name("person", name)
        with self._writing():
            row = self._open_account(account)
            cap = accounting.cap(epsilon, row.delta)
            if cap != row.cap:
                self._raise(row, float(epsilon), cap, by)
        return self.account(account)

    def _raise(self, row: AccountRow, epsilon: float, cap: int, by: Sequence[str]) -> None:
        time = now()
        if cap < row.cap:
            raise LedgerError(
                f"budget of {row.name} has a cap of epsilon {row.epsilon:g}, which never falls; ask for more"
            )
        if row.ended_at(time):
            raise LedgerError(
                f"budget of {row.name} has ended, on {row.until}: more would not revive it; open another one"
            )
        check_standing(self._db, self.journal, row)
        self._db.execute(_RAISE, account=row.name, to=epsilon, most=cap)
        people = {"asked_by": by[0], "agreed_by": by[1]}
        self.journal.append("raise", at=time, name=row.name, epsilon=epsilon, was=str(row.cap), cap=str(cap), **people)

    def account(self, account: Account) -> AccountState:
        """Return one budget as it stands.

        Raises:
            AccountMissing: it was never opened.
        """
        with self._db.snapshot():
            return self._state(self._open_account(account))

    def accounts(self) -> list[AccountState]:
        """Return every budget as it stands, by name."""
        with self._db.snapshot():
            rows = list(self._db.each(_ACCOUNTS_BY_NAME))
            return [self._state(AccountRow.stored(row)) for row in rows]

    def _state(self, row: AccountRow) -> AccountState:
        count = self._db.one(_COUNT, account=row.name)
        return row.state(now(), 0 if count is None else count[0])

    def releases(self, account: Account | None = None) -> list[ReleaseState]:
        """Return the releases of one account, or of all, in the order of reservation."""
        if account is None:
            rows = self._db.each(_RELEASES_IN_ORDER)
        else:
            rows = self._db.each(_RELEASES_OF_ACCOUNT, account=str(account))
        return [ReleaseRow.stored(row[:-1]).standing(row[-1]) for row in rows]

    # Paces

    def set_pace(
        self, account: Account, rule: Rule | None, *, per_year: int = 12, begins: str | None = None
    ) -> Outlook:
        """Hold a budget to a pace from now on, in place of any that it had; None takes the pace away.

        A pace is a resolution, not a cap: it can be changed. Each change is a row of the journal, and every reservation
        is held, when it is made and in each verification, against the pace of its time.

        Args:
            account: the budget.
            rule: what a slot grants.
            per_year: slots a year.
            begins: when the first slot begins, ISO 8601; by default now. Before that nothing may be spent.

        Raises:
            SettingError: a number or the time is out of its range.
            AccountMissing: the budget was never opened.
        """
        with self._writing():
            row, time = self._open_account(account), now()
            pace = None if rule is None else Pace(rule, per_year, begins or time, row.spent)
            if pace or self._pace(row.name):
                facts = {"rule": None} if pace is None else pace.facts()
                self.journal.append("pace", at=time, name=row.name, **facts)
        return self.outlook(account)

    def outlook(self, account: Account, *, at: str | None = None) -> Outlook:
        """Return what a budget allows at a time, by default now, with what is spent by now.

        Raises:
            SettingError: ``at`` is not a time.
            AccountMissing: the budget was never opened.
        """
        time = now() if at is None else instant(at, "at")
        with self._db.snapshot():
            row = self._open_account(account)
            pace, opened = self._pace(row.name), self._opened(row.name)
        if pace is None:
            lasts = at_this_rate(opened, now(), row.spent, row.cap - row.spent)
            return Outlook(time, None, row.left_at(time), None, earliest(lasts, row.until))
        return Outlook.paced(time, pace, row.cap, row.spent, row.until)

    def _pace(self, name: str) -> Pace | None:
        row = self.journal.last_pace(name)
        return None if row is None else Pace.told(self.journal.linked(row).facts)

    def _opened(self, name: str) -> str:
        row = self.journal.opening(name)
        if row is None:
            raise LedgerCorrupted(f"no row of the journal opens budget {name}; run `discreet journal verify`")
        return self.journal.linked(row).at

    # People

    def limit_person(self, dataset: str, person: str | int, *, epsilon: float, delta: float) -> None:
        """Give one person a smaller cap of their own in a data set, over all purposes. It can only be lowered.

        A cap below what was spent is allowed: that person takes part in nothing further.

        Raises:
            SettingError: a number is out of its range, or the person is neither text nor an integer.
            AccountMissing: the data set has no budget.
            LedgerError: the cap would be higher than it is.
        """
        cap = accounting.cap(epsilon, delta)
        pseudonym = self._persons.crowd(dataset, [person]).tobytes()
        with self._writing():
            if self._db.one(_ANY_OF_DATASET, dataset=dataset) is None:
                raise AccountMissing(f"no budget is open for data set {dataset}; open one with `discreet budget open`")
            held = self._persons.cap_of(dataset, pseudonym)
            if held is not None and cap > held:
                raise LedgerError(f"a person's cap in {dataset} can only be lowered; ask for a smaller epsilon")
            if cap != held:
                self._persons.limit(dataset, pseudonym, cap)
                self.journal.append("limit", dataset=dataset, pseudonym=pseudonym.hex(), cap=str(cap))

    def person(self, dataset: str, person: str | int) -> PersonState:
        """Return how one person stands in a data set. This is that person's own data: show it to nobody else.

        Of a release that is settled there is spent what the person's rows used, exactly; of others what they are held
        for. Releases that were reserved without naming people count for everybody.
        """
        crowd = self._persons.crowd(dataset, [person])
        with self._db.snapshot():
            spent, held = (int(of(dataset, crowd)[0]) for of in (self._persons.spent, self._persons.held))
            return PersonState(spent, held, self._persons.cap_of(dataset, crowd.tobytes()))

    # Releases

    def reserve(
        self,
        account: Account,
        *,
        cost: int,
        release: str,
        spec: str,
        people: People | None = None,
        prices: Units | None = None,
    ) -> Reservation:
        """Charge the whole price of a release, durably, or refuse and charge nothing.

        Repeating a reservation with the same terms returns it and charges nothing more: after a crash, compute again
        with fresh noise (state ``reserved``) or load what was made (state ``committed``).

        Args:
            account: the budget to charge.
            cost: the plan's full bound, in units, above 0: what a person who contributes most would lose.
            release: the caller's id of this release; names nobody.
            spec: SHA-256 (hex) of the canonical plan.
            people: whose data is used, in the caller's order. May be left out if no person of the data set has a cap.
            prices: what each of them is held for, int64 [people], 1 to ``cost`` units; by default ``cost``. They may
                depend on levels that people chose, and on nothing that people did.

        Raises:
            SettingError: an argument is out of its range; people have caps and were not given; or prices were given of
                nobody, or of somebody twice.
            AccountMissing: the budget was never opened.
            ReleaseConflict: the id names a release with other terms, or one that was abandoned.
            LedgerCorrupted: the budget, the sum of its releases and the journal do not agree; nothing is charged. What
                each person is held for is compared by `verify` alone.
            LedgerError: it is charged, and the witness could not be written: repeat it, at no further charge.
            BudgetExceeded: the account has less left, or has ended; its pace allows less now; or nobody has that much
                left. ``left`` is then
                the account's, or 0 where persons' caps decided, which tells nothing of anybody's. The refusal is
                journalled.
        """
        check_name("release", release)
        check_sha256("spec", spec)
        cost = whole("cost of a release", cost, least=1)
        crowd = None if people is None else self._persons.crowd(account.dataset, people)
        members, costs = _priced(crowd, cost, prices)
        asked = ReleaseRow(release, str(account), cost, spec, digest(members), None)
        try:
            with self._writing():
                row = self._reserved(asked, members, costs) or self._charge(account, asked, members, costs)
                admitted = self._admitted(row, crowd)
        except BudgetExceeded as refused:
            raise self._recorded(asked, refused) from None
        except FileNotWritten as reason:
            raise ReleaseWaits(
                f"release {release} is charged and waits, repeat it with --release {release}: {reason}"
            ) from reason
        order = None if crowd is None or admitted is None else np.argsort(crowd[admitted])
        return Reservation(release, account, cost, spec, row.state, row.artefact, admitted, order)

    def _reserved(self, asked: ReleaseRow, members: Crowd | None, costs: int | Units) -> ReleaseRow | None:
        """The reservation that is asked for again, or None if it is new."""
        found = self._release(asked.name)
        if found is None:
            return None
        if found.state == "abandoned":
            raise ReleaseConflict(f"release {asked.name} was abandoned; reserve under a new release id")
        if found.terms != asked.terms or not self._has_prices(found, members, costs):
            raise ReleaseConflict(
                f"release {asked.name} is already reserved with another account, cost, plan or group of people; "
                "reserve under a new release id"
            )
        return found

    def _has_prices(self, found: ReleaseRow, members: Crowd | None, costs: int | Units) -> bool:
        if found.prices is None or isinstance(costs, int) or members is None or found.cohort is None:
            return found.prices is None and isinstance(costs, int)
        admitted = within(self._persons.cohort(found.cohort), members)
        return np.array_equal(self._charges.of(found.prices), costs[admitted])

    def _charge(self, account: Account, asked: ReleaseRow, members: Crowd | None, costs: int | Units) -> ReleaseRow:
        row, time = self._open_account(account), now()
        check_standing(self._db, self.journal, row)
        left = row.left_at(time)
        if asked.cost > left:
            raise refusal(row, asked.cost, left)
        pace = self._pace(row.name)
        if pace and asked.cost > pace.next_cost(time, row.cap, row.spent):
            raise too_fast(row, pace, asked.cost, time)
        paid = self._admit(row, asked, members, costs)
        self._db.execute(_SPEND, account=row.name, cost=paid.cost)
        self._db.execute(_RESERVE, **paid._asdict())
        facts = {"account": paid.account, "cost": str(paid.cost), "spec": paid.spec, "prices": paid.prices}
        self.journal.append("reserve", at=time, release=paid.name, **facts, asked=paid.asked, cohort=paid.cohort)
        return paid

    def _admit(self, row: AccountRow, asked: ReleaseRow, members: Crowd | None, costs: int | Units) -> ReleaseRow:
        if members is None:
            if self._persons.capped(row.dataset):
                raise SettingError(
                    f"people of {row.dataset} have caps, which a release that names nobody cannot keep: name them"
                )
            return asked
        able = self._persons.admit(row.dataset, costs, members)
        if not able.any():
            raise nobody_admitted(row, asked.cost if isinstance(costs, int) else int(costs.min()))
        self._persons.keep(members[able])
        prices = None if isinstance(costs, int) else self._charges.keep(costs[able])
        return asked._replace(cohort=digest(members[able]), prices=prices)

    def _admitted(self, row: ReleaseRow, crowd: Crowd | None) -> NDArray[np.bool_] | None:
        return None if crowd is None or row.cohort is None else within(self._persons.cohort(row.cohort), crowd)

    def _recorded(self, asked: ReleaseRow, refused: BudgetExceeded) -> BudgetExceeded:
        """Journal a refusal; if that fails, return one that says so: what was asked is refused all the same."""
        facts = {"account": asked.account, "cost": str(asked.cost), "left": str(refused.left)}
        try:
            with self._db.transaction():
                self.journal.append("refuse", release=asked.name, **facts)
        except LedgerError as reason:
            return off_record(refused, reason)
        return refused

    def commit(self, release: str, artefact: str, used: Units | None = None) -> str:
        """Bind a reserved release to one artefact, SHA-256 (hex); return the hash that it is bound to.

        The first commit wins: a later one changes nothing and is given the winner's hash.

        Args:
            release: its id.
            artefact: SHA-256 (hex) of what was made.
            used: what each of the cohort used of what they are held for, in units, int64 [cohort], in its order
                (`Reservation.use`). Without it what they are held for is what they have spent.

        Raises:
            SettingError: ``artefact`` is not a SHA-256 in hex; or somebody used more than they are held for.
            ReleaseConflict: the release was never reserved, or was abandoned.
        """
        check_sha256("artefact", artefact)
        with self._writing():
            row = self._known(release)
            if row.artefact is not None:
                return row.artefact
            settled = None if used is None else self._settle(row, used)
            self._end(row, "committed", artefact, settled)
            self.journal.append("commit", release=release, artefact=artefact, used=settled)
        return artefact

    def _settle(self, row: ReleaseRow, used: Units) -> str:
        if row.cohort is None:
            raise SettingError(f"release {row.name} was reserved without naming people: nothing can be settled")
        people = len(self._persons.cohort(row.cohort))
        most = row.cost if row.prices is None else self._charges.of(row.prices)
        return self._charges.keep(checked_units("used", used, people, 0, most))

    def abandon(self, release: str) -> None:
        """End a reserved release without an artefact. What it cost stays charged: noise may have been drawn.

        Raises:
            ReleaseConflict: the release was never reserved, or has ended.
        """
        with self._writing():
            self._end(self._known(release), "abandoned", None)
            self.journal.append("abandon", release=release)

    def artefact(self, release: str) -> str | None:
        """Return the hash that a release is bound to, or None while it is only reserved.

        Raises:
            ReleaseConflict: the release was never reserved.
        """
        return self._known(release).artefact

    def _end(self, row: ReleaseRow, state: str, artefact: str | None, used: str | None = None) -> None:
        if row.state != "reserved":
            raise ReleaseConflict(
                f"release {row.name} is {state} too late: it is {row.state}; reserve a new release id"
            )
        self._db.execute(_END, release=row.name, state=state, artefact=artefact, used=used)

    def _known(self, release: str) -> ReleaseRow:
        check_name("release", release)
        found = self._release(release)
        if found is None:
            raise ReleaseConflict(f"release {release} was never reserved; reserve it before it is made")
        return found

    def _release(self, name: str) -> ReleaseRow | None:
        row = self._db.one(_RELEASE, name=name)
        return None if row is None else ReleaseRow.stored(row)

    def _account(self, name: str) -> AccountRow | None:
        row = self._db.one(_ACCOUNT, name=name)
        return None if row is None else AccountRow.stored(row)

    def _open_account(self, account: Account) -> AccountRow:
        found = self._account(str(account))
        if found is None:
            raise AccountMissing(f"no budget is open for {account}; open one with `discreet budget open`")
        return found

    def verify(
        self,
        expected_head: Head | None = None,
        artefacts: Path | None = None,
        wrapping: Wrapping | None = None,
    ) -> Verification:
        """Replay the journal from row 0 and compare it with everything the file holds, and with its witness.

        Args:
            expected_head: a head that was kept elsewhere; the journal must still contain it.
            artefacts: a folder that must hold the artefact of every committed release.
            wrapping: the master key, or what has it, where people are held: opens what they agreed to.

        Raises:
            LedgerCorrupted: the file is too damaged to be read at all.
            KeyMissing: the keys of people are wrapped by another master key.
            LedgerError: the folder of artefacts cannot be read.
        """
        return verify(self.journal, expected_head, artefacts, self._witness, wrapping)


def _priced(crowd: Crowd | None, cost: int, prices: Units | None) -> tuple[Crowd | None, int | Units]:
    """Return the crowd, sorted, nobody twice; and what all of them, or each of them in that order, are held for."""
    if crowd is None:
        if prices is not None:
            raise SettingError("prices are of people: say of whom, with people=")
        return None, cost
    members, places = np.unique(crowd, return_index=True)
    if prices is None:
        return members, cost
    if len(members) < len(crowd):
        raise SettingError("prices: the same person is there more than once; give each person one price")
    return members, checked_units("prices", prices, len(crowd), 1, cost)[places]
