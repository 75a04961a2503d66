"""What the staff does: budgets, jobs, keys, and the journal. ``/api/v1``."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Path, Query, Request, Response
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field

from discreet.data.records import Records
from discreet.errors import Conflict, NotAllowed, SettingError
from discreet.governance import policy, roles
from discreet.governance.access import LONGEST_PASSWORD, SHORTEST_PASSWORD, Visitor, check_password
from discreet.governance.checks import instant, now
from discreet.governance.ledger import Account
from discreet.governance.roles import DECIDING, Permission, Role
from discreet.privacy.accounting import check_delta
from discreet.service.api.door import PROBLEMS, Here, Named, may, not_known, stranger, unknown, visitor_of
from discreet.service.api.house import House, told_of
from discreet.service.api.recommending import Id
from discreet.service.http import sender
from discreet.service.jobs import KIND, call_off, schedule

Epsilon = Annotated[float, Field(gt=0, le=30)]
PermissionName = Annotated[str, Field(pattern=f"^({'|'.join(map(str, Permission))})$")]
Name = Annotated[str, Path(pattern=r"^[A-Za-z0-9._-]{1,200}$")]

router = APIRouter(prefix="/api/v1", tags=["staff"], responses=PROBLEMS)


class Budget(BaseModel):
    """A budget to open."""

    model_config = ConfigDict(extra="forbid")
    purpose: Annotated[str, Field(min_length=1, max_length=100)]
    epsilon: Epsilon
    delta: Annotated[float, Field(gt=0, lt=1)]
    person_epsilon: Epsilon | None = None


class Job(BaseModel):
    """A training job."""

    model_config = ConfigDict(extra="forbid")
    epsilon: Epsilon | None = None
    due: Annotated[str, Field(max_length=40)] | None = None


class NewKey(BaseModel):
    """A key to make."""

    model_config = ConfigDict(extra="forbid")
    role: Literal["owner", "privacy-officer", "operator", "analyst", "auditor"]
    owner: Annotated[str, Field(min_length=1, max_length=100, pattern=r"^[^\x00-\x1f\x7f]+$")]
    days: Annotated[float, Field(gt=0, le=366)] = 90
    only: Annotated[list[PermissionName], Field(min_length=1, max_length=len(Permission))] | None = None


class NewAccount(BaseModel):
    """An account of the staff, to sign in with."""

    model_config = ConfigDict(extra="forbid")
    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9.-]{1,100}$")]
    role: Literal["owner", "privacy-officer", "operator", "analyst", "auditor"]
    password: Annotated[str, Field(min_length=SHORTEST_PASSWORD, max_length=LONGEST_PASSWORD)]


class SignIn(BaseModel):
    """Who somebody says they are."""

    model_config = ConfigDict(extra="forbid")
    name: Annotated[str, Field(min_length=1, max_length=100)]
    password: Annotated[str, Field(min_length=1, max_length=LONGEST_PASSWORD)]


@router.get("/privacy/budget")
async def budgets(
    staff: Annotated[Visitor, Depends(may(Permission.SEE_BUDGETS))], house: Here
) -> dict[str, list[dict[str, Any]]]:
    """The budgets as they stand."""
    del staff

    def told(records: Records) -> list[dict[str, Any]]:
        with records.book() as book:
            return [state.to_dict() for state in book.accounts()]

    return {"budgets": await house.reading.do(told)}


@router.post("/privacy/budget")
async def open_budget(
    staff: Annotated[Visitor, Depends(may(Permission.OPEN_BUDGET))], house: Here, wanted: Budget
) -> dict[str, Any]:
    """Open a budget of a purpose that the inventory declares. With the terms it has already, nothing happens."""
    del staff

    def opened(records: Records) -> dict[str, Any]:
        records.inventory.purpose(wanted.purpose)
        check_delta(wanted.delta, len(records.holders))
        account, each = Account(records.inventory.name, wanted.purpose), wanted.person_epsilon
        with records.book() as book:
            if any(state.account == account and state.epsilon != wanted.epsilon for state in book.accounts()):
                raise Conflict("this budget is open with another cap; two people raise it: POST /api/v1/motions")
            found = book.open_budget(account, epsilon=wanted.epsilon, delta=wanted.delta, person_epsilon=each)
        return found.to_dict()

    return await house.writing.do(opened)


@router.get("/privacy/guarantee")
async def guarantee(anybody: Annotated[Visitor, Depends(may(Permission.SEE_ITEMS))], house: Here) -> dict[str, Any]:
    """What the released model promises."""
    del anybody
    return told_of(house.model)


@router.get("/releases")
async def releases(
    staff: Annotated[Visitor, Depends(may(Permission.SEE_BUDGETS))], house: Here
) -> dict[str, list[dict[str, Any]]]:
    """What was released, and what it cost."""
    del staff

    def told(records: Records) -> list[dict[str, Any]]:
        with records.book() as book:
            return [
                {"release": each.release, "account": str(each.account), "cost": each.cost, "state": each.state}
                | {"artefact": each.artefact}
                for each in book.releases()
            ]

    return {"releases": await house.reading.do(told)}


@router.get("/jobs")
async def jobs(
    staff: Annotated[Visitor, Depends(may(Permission.SEE_JOBS))], house: Here
) -> dict[str, list[dict[str, Any]]]:
    """What trains, what is due, and what became of what was."""
    del staff
    found = await house.reading.do(lambda records: [job.to_dict() for job in records.matters.all(KIND)])
    return {"jobs": found}


@router.post("/jobs", status_code=202)
async def start(
    staff: Annotated[Visitor, Depends(may(Permission.TRAIN))], house: Here, job: Job, key: Named = None
) -> dict[str, Any]:
    """Train a model, now or when a time has come, for at most what one of the calendar costs.

    Nobody's coming or going is a reason to. With an ``Idempotency-Key`` it is trained once.
    """
    calendar = house.settings.calendar
    if job.epsilon is not None and job.epsilon > calendar.epsilon:
        raise SettingError(
            f"a release is of epsilon {calendar.epsilon:g} at most here; `discreet serve --epsilon` sets it"
        )
    wanted = calendar if job.epsilon is None else replace(calendar, epsilon=job.epsilon)
    due = now() if job.due is None else instant(job.due)
    asked = job.model_dump_json().encode()

    def made(records: Records) -> dict[str, Any]:
        return schedule(records, wanted, due, by=staff.name, once=records.once(staff.name, key, asked)).to_dict()

    return await house.writing.do(made)


@router.get("/jobs/{name}")
async def job(staff: Annotated[Visitor, Depends(may(Permission.SEE_JOBS))], house: Here, name: Name) -> dict[str, Any]:
    """One job."""
    del staff
    found = await house.reading.do(lambda records: records.matters.find(KIND, name))
    if found is None:
        raise unknown()
    return found.to_dict()


@router.delete("/jobs/{name}")
async def cancel(staff: Annotated[Visitor, Depends(may(Permission.TRAIN))], house: Here, name: Name) -> dict[str, Any]:
    """Call off a job that has not begun. The calendar sets another in its place, in its own time."""

    def cancelled(records: Records) -> dict[str, Any]:
        if records.matters.find(KIND, name) is None:
            raise unknown()
        return call_off(records, name, by=staff.name).to_dict()

    return await house.writing.do(cancelled)


@router.get("/roles", response_class=Response)
async def matrix(
    staff: Annotated[Visitor, Depends(may(Permission.SEE_GOVERNANCE))],
    form: Annotated[Literal["json", "casbin"], Query(alias="format")] = "json",
) -> Response:
    """Who may what: each role by each permission; ``casbin``: what is allowed, as its policies (CSV)."""
    del staff
    if form == "casbin":
        return Response(roles.casbin(), media_type="text/csv")
    return JSONResponse({"matrix": roles.table()})


@router.get("/access")
async def keys(
    owner: Annotated[Visitor, Depends(may(Permission.SET_ACCESS))], house: Here
) -> dict[str, list[dict[str, Any]]]:
    """The keys of the staff and of applications, without what opens anything."""
    del owner
    found = await house.reading.do(lambda records: [key._asdict() for key in records.access.all()])
    return {"keys": [key for key in found if key["role"] != str(Role.PERSON)]}


@router.post("/access", status_code=201)
async def make_key(
    owner: Annotated[Visitor, Depends(may(Permission.SET_ACCESS))], house: Here, wanted: NewKey
) -> dict[str, str]:
    """Make a key. It is told this once. Of an owner or a privacy officer alone while there never were two of them.

    ``only`` narrows it to some of what its role allows: an application needs no more than ``ask-for-people``,
    ``send-events`` and, if it signs people in, ``sign-people-in``.
    """
    del owner

    def made(records: Records) -> str:
        _check_second(records, wanted.role)
        only = None if wanted.only is None else [each for each in Permission if str(each) in wanted.only]
        key = records.access.make(Role(wanted.role), wanted.owner, days=wanted.days, only=only)
        _note_two(records)
        return key

    return {"key": await house.writing.do(made)}


@router.post("/accounts", status_code=201)
async def sign_up(
    owner: Annotated[Visitor, Depends(may(Permission.SET_ACCESS))], house: Here, wanted: NewAccount
) -> dict[str, str]:
    """Let somebody of the staff sign in with a password (Argon2id). Of those who decide by two, as keys are made."""
    del owner

    def made(records: Records) -> dict[str, str]:
        _check_second(records, wanted.role)
        records.access.sign_up(wanted.name, Role(wanted.role), wanted.password)
        _note_two(records)
        return {"name": wanted.name, "role": wanted.role}

    return await house.writing.do(made)


@router.post("/sessions", status_code=201)
async def sign_in(house: Here, request: Request, who: SignIn) -> dict[str, str]:
    """Sign in: a key that ends within hours. A name can be tried so often a minute, whoever tries."""
    await stranger(request)
    request.app.state.signing.take(who.name)
    request.app.state.signing_from.take(sender(request).hex())
    verifier = await house.reading.do(lambda records: records.access.verifier(who.name))
    await house.passwords.do(lambda: check_password(verifier, who.password))
    return {"key": await house.writing.do(lambda records: records.access.sign_in(who.name, verifier))}


@router.delete("/sessions", status_code=204)
async def sign_out(house: Here, request: Request) -> None:
    """Sign out: the key that this is asked with ends, and those for people that it made."""
    visitor = await visitor_of(request)
    if visitor is None:
        raise not_known()
    request.app.state.bucket.take(visitor.name)
    await _taken(house, visitor.name)


@router.delete("/access/{name}", status_code=204)
async def take_key(owner: Annotated[Visitor, Depends(may(Permission.SET_ACCESS))], house: Here, name: Name) -> None:
    """Take a key away, and the keys for people that it made. What took two people goes on to take two."""
    del owner
    await _taken(house, name)


@router.post("/people/{user_id:path}/key", status_code=201)
async def key_of_person(
    application: Annotated[Visitor, Depends(may(Permission.SIGN_PEOPLE_IN))],
    house: Here,
    user_id: Id,
    hours: Annotated[float, Query(gt=0, le=24 * 30)] = 24,
) -> dict[str, str]:
    """Make a key for somebody whom the application has signed in: with it they ask for what is theirs."""

    def make(records: Records) -> str:
        pseudonym = records.holders.pseudonym(user_id)
        return records.access.make(Role.PERSON, application.name, pseudonym=pseudonym, days=hours / 24)

    return {"key": await house.writing.do(make)}


async def _taken(house: House, name: str) -> None:
    def take(records: Records) -> None:
        _note_two(records)
        records.access.take(name)

    await house.writing.do(take)
    house.known.forget()


def _check_second(records: Records, role: str) -> None:
    """Refuse to make somebody who decides by two, once there were two of them."""
    _note_two(records)
    if Role(role) in DECIDING and policy.takes_two(records.matters):
        raise NotAllowed(
            f"another {role} takes two people: POST /api/v1/motions with make-decider; if there is but one left, "
            "`discreet people key` makes one at the desk"
        )


def _note_two(records: Records) -> None:
    policy.note_two(records.matters, records.access.deciders())
