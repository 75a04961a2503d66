"""Budgets: whose they are, how they stand, and the words in which one is refused."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple, Self

from discreet.errors import BudgetExceeded, LedgerCorrupted, LedgerError, SettingError
from discreet.governance.checks import check_name, instant, is_units
from discreet.governance.pacing import Pace
from discreet.privacy import accounting
from discreet.privacy.adjacency import Window

BY_INTERACTION = "interaction"


@dataclass(frozen=True, slots=True)
class Account:
    """Whose budget: one data set, used for one purpose; of all times, or of what people did in one window.

    What it buys is what each person loses; or, if it is kept by interaction, what each single choice does. Prints as
    ``dataset/purpose``, ``dataset/purpose/2024-05``, ``dataset/purpose/2024-05/interaction``.

    Raises:
        SettingError: a name is empty, longer than 200 characters, or holds ``/`` or a control character.
    """

    dataset: str
    purpose: str
    window: Window | None = None
    by_interaction: bool = False

    def __post_init__(self) -> None:
        check_name("dataset", self.dataset, forbidden="/")
        check_name("purpose", self.purpose, forbidden="/")

    def __str__(self) -> str:
        parts = (self.dataset, self.purpose, *((str(self.window),) if self.window else ()))
        return "/".join((*parts, BY_INTERACTION) if self.by_interaction else parts)

    @classmethod
    def named(cls, name: str) -> Account:
        """Return the account that prints so.

        Raises:
            SettingError: none does.
        """
        dataset, _, rest = name.partition("/")
        purpose, *finer = rest.split("/")
        by_interaction = finer[-1:] == [BY_INTERACTION]
        window = "/".join(finer[:-1] if by_interaction else finer)
        return cls(dataset, purpose, Window(window) if window else None, by_interaction)

    @property
    def unit(self) -> str:
        """What is protected by it: a ``person``, a ``person-month`` and the like, an ``interaction``."""
        unit = self.window.unit if self.window else "person"
        return unit.replace("person", "interaction") if self.by_interaction else unit


@dataclass(frozen=True, slots=True)
class AccountState:
    """A budget as it stands. ``cap``, ``spent``, ``left`` and ``person_cap`` are units; epsilons are at ``delta``.

    ``left`` is 0 once ``until`` (ISO 8601, UTC; None: no end) has come. ``releases`` counts them in every state.
    """

    account: Account
    epsilon: float
    delta: float
    cap: int
    spent: int
    left: int
    epsilon_spent: float
    person_cap: int | None
    until: str | None
    releases: int

    @property
    def unit(self) -> str:
        """Who is protected by it."""
        return self.account.unit

    def to_dict(self) -> dict[str, Any]:
        """Return the same as plain values for JSON, the account as text."""
        told = {"account": str(self.account), "unit": self.unit}
        return {name: getattr(self, name) for name in self.__slots__} | told


class PersonState(NamedTuple):
    """How one person stands in a data set, over all purposes. In units; theirs alone.

    Attributes:
        spent: on them.
        held: what they are held for, and admitted by: the prices of their levels. Never less than ``spent``.
        cap: what they are held for at most; None: only the budgets bound it.
    """

    spent: int
    held: int
    cap: int | None


class AccountRow(NamedTuple):
    """A budget, as its table holds it."""

    name: str
    dataset: str
    epsilon: float
    delta: float
    cap: int
    person_cap: int | None
    until: str | None
    spent: int

    @classmethod
    def stored(cls, row: tuple[Any, ...]) -> Self:
        """Return a row of the table.

        Raises:
            LedgerCorrupted: it holds what no budget can.
        """
        found = cls(*row)
        if not found._is_sound():
            raise LedgerCorrupted("a budget in the tables holds what no budget can; run `discreet journal verify`")
        return found

    @classmethod
    def opened(cls, facts: dict[str, Any]) -> Self:
        """Return a budget as the journal tells of its opening: whole numbers are text there."""
        person_cap = None if facts["person_cap"] is None else int(facts["person_cap"])
        numbers = {"cap": int(facts["cap"]), "person_cap": person_cap, "spent": int(facts["spent"])}
        return cls(**facts | numbers)

    def raised(self, facts: dict[str, Any]) -> Self:
        """Return the budget as a row of the journal raises it."""
        return self._replace(epsilon=facts["epsilon"], cap=int(facts["cap"]))

    def _is_sound(self) -> bool:
        try:
            account = self.account
            ends = self.until is None or instant(self.until) == self.until
        except (SettingError, TypeError, AttributeError):  # not even text
            return False
        units = is_units(self.cap) and is_units(self.spent) and self.spent <= self.cap
        person = self.person_cap is None or is_units(self.person_cap)
        numbers = isinstance(self.epsilon, float) and isinstance(self.delta, float)
        rates = numbers and 0 < self.epsilon < math.inf and 0 < self.delta < 1
        return str(account) == self.name and account.dataset == self.dataset and ends and units and person and rates

    @property
    def account(self) -> Account:
        """Whose budget it is."""
        return Account.named(self.name)

    def contradicts(self, other: AccountRow) -> bool:
        """Whether one act would fall within both: of the same data set and purpose, they have other units."""
        mine, its = self.account, other.account
        return (mine.dataset, mine.purpose) == (its.dataset, its.purpose) and mine.unit != its.unit

    @property
    def terms(self) -> tuple[object, ...]:
        """All that was agreed on."""
        return self[:-1]

    def left_at(self, time: str) -> int:
        """Return the units left at a time: none from the first second of ``until`` on."""
        return 0 if self.ended_at(time) else self.cap - self.spent

    def ended_at(self, time: str) -> bool:
        """Tell whether it has ended."""
        return self.until is not None and time >= self.until

    def state(self, time: str, releases: int) -> AccountState:
        """Return the budget as it stands at a time."""
        return AccountState(
            self.account,
            self.epsilon,
            self.delta,
            self.cap,
            self.spent,
            self.left_at(time),
            accounting.epsilon_of(self.spent, self.delta),
            self.person_cap,
            self.until,
            releases,
        )

    def __str__(self) -> str:
        person = "no cap a person" if self.person_cap is None else f"{self.person_cap:,} units a person"
        end = "no end" if self.until is None else f"until {_day(self.until)}"
        return f"epsilon {self.epsilon:g} at delta {self.delta:g}, {person}, {end}"


def refusal(row: AccountRow, asked: int, left: int) -> BudgetExceeded:
    """Return the error of a budget that has less left than was asked."""
    end = "" if row.until is None else f" until {_day(row.until)}"
    price = f"epsilon {_epsilon(asked, row.delta, math.ceil)} asked, {_epsilon(left, row.delta, math.floor)} left{end}"
    ended = row.until is not None and left < row.cap - row.spent
    advice = "it has ended: a new period is a new grant" if ended else "ask for less"
    message = f"budget of {row.name}: {price} (units: {asked:,} asked, {left:,} left); {advice}"
    return BudgetExceeded(message, account=row.name, asked=asked, left=left, until=row.until)


def too_fast(row: AccountRow, pace: Pace, asked: int, time: str) -> BudgetExceeded:
    """Return the error of a release that the budget has, but its pace does not allow yet."""
    allowed, more = pace.next_cost(time, row.cap, row.spent), pace.more_from(time, row.cap, row.spent)
    price = f"epsilon {_epsilon(asked, row.delta, math.ceil)} asked, {_epsilon(allowed, row.delta, math.floor)} allowed"
    advice = "ask for less" if more is None else f"more from {more} on: wait, or ask for less"
    message = f"{pace} of {row.name}: {price} now (units: {asked:,} asked, {allowed:,} allowed); {advice}"
    return BudgetExceeded(message, account=row.name, asked=asked, left=allowed, until=row.until)


def nobody_admitted(row: AccountRow, asked: int) -> BudgetExceeded:
    """Return the error of people of whom nobody has enough left; it tells nothing of anybody's budget."""
    message = (
        f"budget of {row.name}: epsilon {_epsilon(asked, row.delta, math.ceil)} asked ({asked:,} units), none of "
        "the people given has that much left under their own cap; ask for less"
    )
    return BudgetExceeded(message, account=row.name, asked=asked, left=0, until=row.until)


def off_record(refused: BudgetExceeded, reason: LedgerError) -> BudgetExceeded:
    """Return the same refusal, saying that the journal does not hold it."""
    message = f"{refused}; this refusal could not be put on record: {reason}"
    return BudgetExceeded(message, account=refused.account, asked=refused.asked, left=refused.left, until=refused.until)


def _epsilon(units: int, delta: float, rounded: Callable[[float], int]) -> str:
    """Two decimals, rounded against the spender: up what is asked, down what is left."""
    # mu = 20 is far above any epsilon that is allowed; far beyond it the solver has nothing to hold on to.
    epsilon = accounting.epsilon_of(units, delta) if units < 400 * accounting.UNITS_PER_MU2 else math.inf
    if epsilon > accounting.MAX_EPSILON:
        return f"above {accounting.MAX_EPSILON:,.0f}"
    return f"{rounded(100 * epsilon) / 100:g}"


def _day(time: str) -> str:
    return time.removesuffix("T00:00:00Z")
