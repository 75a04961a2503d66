"""What is collected, what for, for how long, and whose it is: a file, ``inventory.toml``, that the code obeys.

A field that is not declared is not stored. A purpose that a field is not declared for does not read it. Data types,
uses and people are named by the keys of a public taxonomy (``vocabulary.json`` says whose it is), so that tools of
others understand the file. Unknown keys are refused: what is misspelt would otherwise not hold.
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping
from dataclasses import MISSING, asdict, dataclass, fields
from functools import cache, cached_property
from importlib.resources import files
from pathlib import Path
from typing import Any, TypeVar

import rfc8785

from discreet.documents import fields_of, told
from discreet.errors import DataError, PurposeNotAllowed, SettingError
from discreet.governance.checks import check_name, instant, now, sha256
from discreet.governance.risks import ACCEPTED, ADVERSARIES, CHANNELS, STATUSES, THREATS, TOUCHPOINTS, Risk

FORMAT = 1
STORED = ("item_id", "timestamp")
"""What there is of an event beside whose it is. That somebody chose something is kept, not how much they liked it."""
MOST_SHOWN = 100
"""Characters of what the file says that a message repeats."""
BASES = ("consent",)
"""Why a purpose is lawful. Nothing is read here for any other reason than that the person agreed to it."""
NECESSITY = ("required", "optional")
SENSITIVITY = ("personal", "sensitive", "special")
SIGNALS = ("no-sharing", "strong", "off")
STEPS = {"second": 1, "hour": 3_600, "day": 86_400, "month": 30 * 86_400}
"""Seconds that a timestamp is rounded down to; a month is thirty days here."""
RESERVED = "gpc"
"""What answers about purposes say beside them, so that no purpose is called it."""
WRITTEN = "2026-01-01"
"""When the example says that its risks were written down."""
LONGEST = 10 * 366
MOST_HISTORY = 100_000

Kind = TypeVar("Kind")


@dataclass(frozen=True, kw_only=True)
class Controller:
    """Who answers for it all.

    Attributes:
        name: of the organisation.
        contact: where people write to, an address of e-mail or a page.
        address: postal.
        officer: who protects people's data there, and how they are reached.
        email: if there is one for this.
        url: likewise.
        phone: likewise.
    """

    name: str
    contact: str
    address: str
    officer: str
    email: str = ""
    url: str = ""
    phone: str = ""


@dataclass(frozen=True, kw_only=True)
class Authority:
    """Where people complain.

    Attributes:
        name: of the supervisory authority.
        contact: how it is reached.
        address: postal.
        email: if it has one.
        url: likewise.
        phone: likewise.
    """

    name: str
    contact: str
    address: str
    email: str = ""
    url: str = ""
    phone: str = ""


@dataclass(frozen=True, kw_only=True)
class Processing:
    """Where it happens, and by which rules. All of it may be left out; named as ISO/IEC TS 27560 names it in a record.

    Attributes:
        processing_locations: where data is processed: countries, or places.
        storage_locations: where it is kept; if nothing is said, the data set is named.
        geographic_restrictions: what it does not leave.
        jurisdiction: whose law holds.
        services: for which the data is processed, as people know them.
        codes_of_conduct: that are followed: pages.
        impact_assessment: of data protection: a page.
    """

    processing_locations: tuple[str, ...] = ()
    storage_locations: tuple[str, ...] = ()
    geographic_restrictions: tuple[str, ...] = ()
    jurisdiction: str = ""
    services: tuple[str, ...] = ()
    codes_of_conduct: tuple[str, ...] = ()
    impact_assessment: str = ""


@dataclass(frozen=True, kw_only=True)
class Purpose:
    """What data is used for.

    Attributes:
        name: as accounts and consents name it.
        use: of the vocabulary.
        basis: why that is lawful; of ``BASES``.
        says: it, in a sentence to the person.
        notice: where the privacy notice is.
        notice_version: of it.
        owner: who answers for it.
        recipients: other organisations that are given something; none, as a rule.
        valid_days: after which a consent to it has to be renewed.
    """

    name: str
    use: str
    basis: str
    says: str
    notice: str
    notice_version: str
    owner: str
    recipients: tuple[str, ...] = ()
    valid_days: int = 365


@dataclass(frozen=True, kw_only=True)
class Field:
    """Something that is known of an event.

    Attributes:
        name: of the column.
        category: of the vocabulary.
        purposes: that it may be read for.
        necessity: whether the purposes need it; of ``NECESSITY``.
        sensitivity: of ``SENSITIVITY``.
        retention_days: after which it is deleted. An event is kept whole or not at all, so all fields say the same.
        owner: who answers for it.
        coarsened: of a timestamp: to what it is rounded down, of ``STEPS``.
    """

    name: str
    category: str
    purposes: tuple[str, ...]
    necessity: str
    sensitivity: str
    retention_days: int
    owner: str
    coarsened: str = "day"


@dataclass(frozen=True, kw_only=True)
class Owners:
    """Who answers for what is made of the data.

    Attributes:
        dataset: all of it.
        budgets: what may be spent.
        models: what is released.
    """

    dataset: str
    budgets: str
    models: str


@dataclass(frozen=True, kw_only=True)
class Minimisation:
    """What is left out.

    Attributes:
        undeclared: ``drop`` a field that is not declared, or ``refuse`` the whole batch.
        history: events of one person that are kept: the latest.
        logs_days: after which what was told of batches is deleted, and what has ended of the service's own matters;
            and, of whoever permits nothing, everything, if nothing was noted of them for so long.
        models_days: that a model is served for at most, from when people were read for it; then it is deleted, whether
            or not there is another.
        backups_days: after which copies of the database, and of the master key of its time, are gone; None: not said.
        gpc: what a person's signal of Global Privacy Control means beyond that nothing is given to others, which it
            always does: ``no-sharing``, nothing else; or that they are trained on at ``strong`` at most, or ``off``.
    """

    undeclared: str
    history: int
    logs_days: int
    models_days: int = 90
    backups_days: int | None = None
    gpc: str = "no-sharing"


@dataclass(frozen=True, kw_only=True)
class Inventory:
    """All of it.

    Attributes:
        name: of the data set: half of the name of each account.
        subjects: whose data it is; of the vocabulary.
        controller: who answers.
        purposes: by their order in the file.
        fields: likewise.
        minimisation: what is left out.
        owners: of the data set, of budgets, of models.
        risks: the register.
        processing: where it happens, and by which rules.
        authority: where people complain, if it is named.
    """

    name: str
    subjects: tuple[str, ...]
    controller: Controller
    purposes: tuple[Purpose, ...]
    fields: tuple[Field, ...]
    minimisation: Minimisation
    owners: Owners
    risks: tuple[Risk, ...] = ()
    processing: Processing = Processing()
    authority: Authority | None = None

    def __post_init__(self) -> None:
        """Refuse what the code could not obey.

        Raises:
            SettingError: names the entry.
        """
        check_name("data set", self.name, forbidden="/")
        words = vocabulary()
        _one_of("subjects", self.subjects, words["subjects"])
        _distinct("purpose", [purpose.name for purpose in self.purposes])
        for purpose in self.purposes:
            check_name("purpose", purpose.name, forbidden="/")
            if purpose.name == RESERVED:
                raise SettingError(f"inventory: a purpose cannot be called {RESERVED}; name it otherwise")
            _one_of(f"use of {purpose.name}", (purpose.use,), words["uses"])
            _one_of(f"basis of {purpose.name}", (purpose.basis,), BASES)
            _within(f"valid_days of {purpose.name}", purpose.valid_days, LONGEST)
        _distinct("field", [field.name for field in self.fields])
        for field in self.fields:
            self._check_field(field, words["categories"])
        for risk in self.risks:
            self._check_risk(risk, words["categories"])
        if numbered := [risk.id for risk in self.risks if risk.id]:
            _distinct("id of a risk", numbered)
        _reachable("controller", self.controller)
        if self.authority is not None:
            _reachable("authority", self.authority)
        self._check_processing()
        _one_of("gpc", (self.minimisation.gpc,), SIGNALS)
        _one_of("undeclared", (self.minimisation.undeclared,), ("drop", "refuse"))
        _within("history", self.minimisation.history, MOST_HISTORY)
        _within("logs_days", self.minimisation.logs_days, LONGEST)
        _within("models_days", self.minimisation.models_days, LONGEST)
        if self.minimisation.backups_days is not None:
            _within("backups_days", self.minimisation.backups_days, LONGEST)
        if "item_id" not in {field.name for field in self.fields}:
            raise SettingError("inventory: item_id is not declared, and without it there is nothing to learn")
        self._check_kept()

    def _check_kept(self) -> None:
        if len({field.retention_days for field in self.fields}) > 1:
            raise SettingError("inventory: an event is kept whole or not at all: give all fields one retention_days")
        if self.step is not None and self.step > self.retention_days * STEPS["day"]:
            raise SettingError("inventory: times are rounded down by more than they are kept for; keep them longer")

    def _check_processing(self) -> None:
        _prints(asdict(self.processing))
        for page in filter(None, (*self.processing.codes_of_conduct, self.processing.impact_assessment)):
            _a_page("codes_of_conduct or impact_assessment", page)

    def _check_field(self, field: Field, categories: Mapping[str, str]) -> None:
        _one_of("name of a field", (field.name,), STORED)
        _one_of(f"category of {field.name}", (field.category,), categories)
        _one_of(f"purposes of {field.name}", field.purposes, [purpose.name for purpose in self.purposes])
        _one_of(f"necessity of {field.name}", (field.necessity,), NECESSITY)
        _one_of(f"sensitivity of {field.name}", (field.sensitivity,), SENSITIVITY)
        _within(f"retention_days of {field.name}", field.retention_days, LONGEST)
        _one_of(f"coarsened of {field.name}", (field.coarsened,), STEPS)

    def _check_risk(self, risk: Risk, categories: Mapping[str, str]) -> None:
        what = f"of {risk.title}"
        texts = ("id", "title", "controls", "owner", "evidence", "accepted_by", "components", "dpia_ref")
        _prints({f"{name} {what}": getattr(risk, name) for name in texts})
        _one_of(f"linddun {what}", risk.linddun, THREATS)
        _within(f"likelihood {what}", risk.likelihood, 5)
        _within(f"severity {what}", risk.severity, 5)
        if risk.residual is not None:
            _within(f"residual {what}", risk.residual, risk.inherent)
        _one_of(f"status {what}", (risk.status,), STATUSES)
        for name, given, known in (
            ("data_categories", risk.data_categories, categories),
            ("budgets", risk.budgets, [purpose.name for purpose in self.purposes]),
            ("touchpoint", risk.touchpoint, TOUCHPOINTS),
            ("leakage_channel", risk.leakage_channel, CHANNELS),
            ("adversary", risk.adversary, ADVERSARIES),
        ):
            if given:
                _one_of(f"{name} {what}", (given,) if isinstance(given, str) else given, known)
        accepted = (risk.status == ACCEPTED, bool(risk.accepted_by), bool(risk.accepted_until))
        if len({*accepted}) > 1:
            raise SettingError(
                f"inventory: accepted_by and accepted_until {what} go with status accepted, and it with both"
            )
        for name in ("accepted_until", "created", "reviewed"):
            if date := getattr(risk, name):
                instant(date, f"inventory: {name} {what}")

    def purpose(self, name: str) -> Purpose:
        """Return a purpose.

        Raises:
            PurposeNotAllowed: it is not declared.
        """
        for purpose in self.purposes:
            if purpose.name == name:
                return purpose
        declared = ", ".join(purpose.name for purpose in self.purposes)
        raise PurposeNotAllowed(f"{self.name} may not be used for {name!r}: the inventory declares {declared}")

    @cached_property
    def terms(self) -> Mapping[str, str]:
        """What a consent to each purpose is bound to: SHA-256 (hex) of what the person is asked, by purpose.

        That is what the data is used for, in which words, why that is lawful, the notice, who else is given it, which
        fields are read, how long it is kept and who answers for it. Of another order of entries it is the same.
        """
        return {purpose.name: sha256(rfc8785.dumps(self._asked(purpose))) for purpose in self.purposes}

    def _asked(self, purpose: Purpose) -> dict[str, Any]:
        read = sorted((field for field in self.fields if purpose.name in field.purposes), key=lambda field: field.name)
        return {
            "use": purpose.use,
            "says": purpose.says,
            "notice": purpose.notice,
            "notice_version": purpose.notice_version,
            "basis": purpose.basis,
            "recipients": sorted(purpose.recipients),
            "fields": [[field.name, field.category, field.sensitivity] for field in read],
            "retention_days": self.retention_days,
            "controller": [self.controller.name, self.controller.contact],
        }

    def read_for(self, purpose: str) -> tuple[str, ...]:
        """Return the fields that a purpose may read.

        Raises:
            PurposeNotAllowed: the purpose is not declared, or may not read which items there are.
        """
        self.purpose(purpose)
        found = tuple(field.name for field in self.fields if purpose in field.purposes)
        if "item_id" not in found:
            raise PurposeNotAllowed(f"the inventory does not let {purpose} read item_id, so it reads nothing")
        return found

    @property
    def retention_days(self) -> int:
        """After how many days an event is deleted."""
        return self.fields[0].retention_days

    @property
    def step(self) -> int | None:
        """Seconds that timestamps are rounded down to; None: they are not declared, so not kept."""
        return next((STEPS[field.coarsened] for field in self.fields if field.name == "timestamp"), None)

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON values."""
        stored: dict[str, Any] = json.loads(json.dumps(asdict(self)))  # tuples become lists
        return {"format": FORMAT} | stored

    @classmethod
    def from_toml(cls, content: bytes, where: str = "inventory.toml") -> Inventory:
        """Read the file.

        Raises:
            DataError: it is not TOML, lacks a key, or has one that is not known; says which, and where.
            SettingError: a value cannot be obeyed.
        """
        try:
            stored = tomllib.loads(content.decode())
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise DataError(f"{where} is not TOML: {_short(error)}") from None
        except RecursionError:
            raise DataError(f"{where} is nested too deeply to be read") from None
        try:
            return cls._of(stored)
        except SettingError:
            raise
        except ValueError as error:
            raise DataError(f"{where}: {error}") from None

    @classmethod
    def _of(cls, stored: dict[str, Any]) -> Inventory:
        if stored.pop("format", None) != FORMAT:
            raise ValueError(f"format = {FORMAT} is missing, or it is of another version")
        found = cls(
            name=told(str, stored.pop("name", None)),
            subjects=told(tuple[str, ...], stored.pop("subjects", None)),
            controller=_entry(Controller, stored.pop("controller", None)),
            purposes=tuple(_entry(Purpose, each) for each in _several(stored.pop("purpose", []))),
            fields=tuple(_entry(Field, each) for each in _several(stored.pop("field", []))),
            minimisation=_entry(Minimisation, stored.pop("minimisation", None)),
            owners=_entry(Owners, stored.pop("owners", None)),
            risks=tuple(_risk(each) for each in _several(stored.pop("risk", []))),
            processing=_entry(Processing, stored.pop("processing", {})),
            authority=_entry(Authority, stored.pop("authority")) if "authority" in stored else None,
        )
        if stored:
            raise ValueError(f"unknown key {_short(min(stored))!r}")
        return found

    @classmethod
    def read(cls, path: Path) -> Inventory:
        """Read a file. Raises as ``from_toml``, and DataError if there is none."""
        try:
            content = path.read_bytes()
        except OSError as error:
            raise DataError(
                f"{path}: cannot be read: {error.strerror}; `discreet people inventory FILE --init NAME` writes one"
            ) from None
        return cls.from_toml(content, str(path))


@cache
def vocabulary() -> Mapping[str, Mapping[str, str]]:
    """Return the keys of the taxonomy and their names: ``categories``, ``uses``, ``subjects``."""
    stored = json.loads(files(__package__).joinpath("vocabulary.json").read_text())
    return {kind: stored[kind] for kind in ("categories", "uses", "subjects")}


def example(name: str) -> str:
    """Return an inventory to begin with, which is valid as it stands; its risks are written down today."""
    text = files(__package__).joinpath("inventory.toml").read_text()
    return text.replace("shop", name, 1).replace(WRITTEN, now()[:10])


def _entry(kind: type[Kind], stored: Any) -> Kind:
    """Return a dataclass of JSON values, of which none is unknown; those that have a default may be missing."""
    if not isinstance(stored, dict):
        raise ValueError(f"[{kind.__name__.lower()}] is missing")
    known = fields(kind)  # type: ignore[arg-type]
    unknown = {*stored} - {each.name for each in known}
    if unknown:
        raise ValueError(f"unknown key {_short(min(unknown))!r} in [{kind.__name__.lower()}]")
    defaults = {each.name: each.default for each in known if each.default is not MISSING}
    told_of = {name: list(value) if isinstance(value, tuple) else value for name, value in (defaults | stored).items()}
    return kind(**fields_of(kind, told_of))


def _risk(stored: Any) -> Risk:
    """Return a risk; of what may be several, one alone may stand without brackets."""
    if isinstance(stored, dict):
        alone = {name: stored[name] for name in ("linddun", "controls") if isinstance(stored.get(name), str)}
        stored = stored | {name: [one] if one else [] for name, one in alone.items()}
    return _entry(Risk, stored)


def _several(stored: Any) -> list[Any]:
    if not isinstance(stored, list):
        raise ValueError("purposes and fields are tables of their own: [[purpose]], [[field]]")
    return stored


def _prints(stated: Mapping[str, Any]) -> None:
    """Refuse a text that does not print, and a list that holds one or what is empty; each may be left out."""
    for name, value in stated.items():
        for each in (value,) if isinstance(value, str) else value:
            if value and not (each and each.isprintable()):
                raise SettingError(f"inventory: {name} holds what is empty, or does not print; leave it out")


def _reachable(who: str, party: Controller | Authority) -> None:
    """Refuse what cannot be an address of e-mail, a page or a number; each may be left out."""
    if party.email and "@" not in party.email.strip("@"):
        raise SettingError(f"inventory: email of the {who} is no address of e-mail")
    if party.url:
        _a_page(f"url of the {who}", party.url)
    if party.phone and not any(sign.isdigit() for sign in party.phone):
        raise SettingError(f"inventory: phone of the {who} holds no digit")


def _a_page(what: str, page: str) -> None:
    if not page.startswith(("https://", "http://")):
        raise SettingError(f"inventory: {what} is a page: https://...")


def _short(said: object) -> str:
    """Return the beginning of what a file says, so that a message stays on one line."""
    text = "".join(sign if sign.isprintable() else " " for sign in str(said)[: MOST_SHOWN + 1])
    return text if len(text) <= MOST_SHOWN else f"{text[:MOST_SHOWN]}..."


def _within(what: str, number: int, most: int) -> None:
    if not 1 <= number <= most:
        raise SettingError(f"inventory: {_short(what)} is 1 to {most:,}, not {number}")


def _one_of(what: str, given: tuple[str, ...], known: Any) -> None:
    if not given:
        raise SettingError(f"inventory: {_short(what)}: none is given")
    for each in given:
        if each not in known:
            near = ", ".join(sorted(known)[:8])
            more = " ..." if len(known) > 8 else ""
            raise SettingError(f"inventory: {_short(what)}: {_short(each)!r} is none of {near}{more}")


def _distinct(what: str, names: list[str]) -> None:
    if not names or len({*names}) < len(names):
        raise SettingError(f"inventory: each {what} is there once, and there is at least one")
