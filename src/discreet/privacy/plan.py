"""A plan: all that decides what a training run costs, in one frozen value.

What runs (``disclose``) and what is priced (``price``) are read from the same fields, so they cannot drift apart.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import isqrt, sqrt
from typing import Any, Literal, get_args

from discreet.errors import SettingError
from discreet.privacy.accounting import GRID_BITS, UNITS_PER_MU2, check_delta
from discreet.privacy.adjacency import Adjacency
from discreet.privacy.clipping import MAX_BOUND
from discreet.privacy.levels import Level
from discreet.privacy.mechanisms import selection
from discreet.privacy.mechanisms.discrete_gaussian import MOST_PARTIES, share_of
from discreet.privacy.mechanisms.gaussian import STANDARD_DEVIATION
from discreet.privacy.records import MOST_WEIGHT, Weights, reach

Noise = Literal["rounded-gaussian", "shares", "two-servers", "selection", "none"]

COLLUDING = 0.1
"""Share of devices whose share of the noise is not counted on, unless somebody says otherwise."""

OPEN_BOUND = 1 << 26
"""Grid of a run without noise: fine enough that rounding does not show."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """A fixed sequence of noisy sums.

    All fields are public: they may depend on the number of people and items and on the budget, never on histories.

    Attributes:
        bounds: S of each round, in grid units: the L2 length that one person's integer row may have. Of a selection,
            its rate: see ``mechanisms/selection``.
        delta: at which the promise is read as an epsilon.
        adjacency: who is protected.
        levels: that people chose among; none: everybody gives the whole bound.
        weights: of sensitive categories, in sixteenths of the bound; see ``records``.
        noise: who adds it. ``rounded-gaussian``: the door, ``round(2^12 N(0, 1))`` to each coordinate of the sum;
            ``shares``: each party its share, before anybody sees its vector; ``two-servers``: each of two, enough
            alone; ``selection``: no number leaves, but which are the largest; ``none`` is not private.
        parties: with ``shares``, how many add one.
        honest: how many shares are enough: of so many honest parties there must be one in each sum.
        picks: of a selection, how many are picked in each group.
        groups: of a selection, how many lists there are; a person moves the counts of one of them alone.

    Formal guarantee: with noise, the whole run is mu-GDP with ``mu^2 = cost * 2^-24``, composed adaptively; for whoever
    chose a level, with ``cost_at(level)``; for what somebody did in a category, with ``record_cost(category)``.

    Raises:
        SettingError: if a bound is not in [1, 2^28], or leaves a level nothing; there is no round; or delta is not in
            (0, 1).
    """

    bounds: tuple[int, ...]
    delta: float
    adjacency: Adjacency = Adjacency.ADD_OR_REMOVE_PERSON
    noise: Noise = "rounded-gaussian"
    levels: tuple[Level, ...] = ()
    weights: Weights = ()
    parties: int = 0
    honest: int = 0
    picks: int = 0
    groups: int = 1

    def __post_init__(self) -> None:
        if not self.bounds or not all(type(bound) is int and 1 <= bound <= MAX_BOUND for bound in self.bounds):
            raise SettingError(f"a plan needs at least one round, each with a bound from 1 to {MAX_BOUND}")
        if any(level.of(min(self.bounds)) < 1 for level in self.levels):
            raise SettingError("the budget is too small to be divided among levels; ask for more, or leave them out")
        if any(not 0 <= weight <= MOST_WEIGHT for _, weight in self.weights):
            raise SettingError(f"weights of categories are 0 to {MOST_WEIGHT} sixteenths")
        check_parties(self.noise, self.parties, self.honest)
        self._check_selection()
        check_delta(self.delta)

    def _check_selection(self) -> None:
        if self.noise != "selection":
            if self.picks or self.groups != 1:
                raise SettingError("picks and groups are of a selection")
            return
        if self.levels or self.weights or self.groups < 1:
            raise SettingError("a selection has at least one group, and neither levels nor weights: all count as one")
        for bound in self.bounds:
            selection.price_of(self.adjacency.moves * bound, self.picks)

    @classmethod
    def sharing(
        cls,
        units: int,
        shares: Sequence[float],
        *,
        delta: float,
        adjacency: Adjacency = Adjacency.ADD_OR_REMOVE_PERSON,
    ) -> Plan:
        """Divide a budget of ``units`` among rounds in proportion to ``shares`` (each > 0). Never costs more."""
        whole = sum(shares)
        bounds = tuple(isqrt(int(units * share / whole)) // adjacency.moves for share in shares)
        if min(bounds) < 1:
            raise SettingError(f"the budget of {units} units is too small for {len(shares)} rounds; ask for more")
        plan = cls(bounds=bounds, delta=delta, adjacency=adjacency)
        while plan.cost > units:  # the floats above may be a unit too generous
            plan = cls(bounds=(plan.bounds[0] - 1, *plan.bounds[1:]), delta=delta, adjacency=adjacency)
        return plan

    @classmethod
    def without_noise(cls, rounds: int, *, delta: float) -> Plan:
        """Return the same machinery with no noise: not private, priceless, marked so wherever it shows."""
        return cls(bounds=(OPEN_BOUND,) * rounds, delta=delta, noise="none")

    @classmethod
    def selecting(cls, units: int, picks: int, groups: int, *, delta: float, adjacency: Adjacency) -> Plan:
        """Pick as surely as a budget of ``units`` allows, ``picks`` in each of ``groups``. Never costs more."""
        rate = selection.rate_of(units, picks) // adjacency.moves
        return cls(bounds=(rate,), delta=delta, adjacency=adjacency, noise="selection", picks=picks, groups=groups)

    @property
    def rounds(self) -> int:
        """How many sums are released."""
        return len(self.bounds)

    @property
    def private(self) -> bool:
        """Whether noise is added."""
        return self.noise != "none"

    @property
    def deviation(self) -> float:
        """Standard deviation of the noise on each coordinate of a sum, in grid units; less where parties are lost."""
        match self.noise:
            case "none" | "selection":
                return 0.0
            case "shares":
                return sqrt(self.parties * share_of(self.honest))
            case "two-servers":
                return sqrt(2 * UNITS_PER_MU2)
            case _:
                return STANDARD_DEVIATION

    def price(self, number: int, level: Level = Level.LIGHT) -> int:
        """Return the units that round ``number`` costs each person of a level: (moves * S)^2, or a selection's."""
        if not self.private:
            raise SettingError("a release without noise has no price and is not booked")
        reach = self.adjacency.moves * level.of(self.bounds[number])
        return selection.price_of(reach, self.picks) if self.noise == "selection" else reach**2

    @property
    def cost(self) -> int:
        """Units of the whole run, for whoever gives the most."""
        return self.cost_at(Level.LIGHT)

    def cost_at(self, level: Level) -> int:
        """Units of the whole run, for a person of a level."""
        return sum(self.price(number, level) for number in range(self.rounds))

    def record_cost(self, category: str) -> int:
        """Units of the whole run, for all that one person did in a sensitive category."""
        weight = dict(self.weights)[category]
        return sum(reach(weight, bound) ** 2 for bound in self.bounds)

    def to_dict(self) -> dict[str, Any]:
        """Return the plan as JSON values."""
        shared = {"parties": self.parties, "honest": self.honest} if self.noise == "shares" else {}
        if self.noise == "selection":
            shared = {"picks": self.picks, "groups": self.groups}
        return shared | {
            "bounds": list(self.bounds),
            "delta": self.delta,
            "adjacency": self.adjacency.value,
            "noise": self.noise,
            "levels": [str(level) for level in self.levels],
            "weights": dict(self.weights),
            "grid_bits": GRID_BITS,
        }

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Plan:
        """Read what ``to_dict`` wrote.

        Raises:
            SettingError: if it is a plan on another grid, or not a plan.
        """
        try:
            if values["grid_bits"] != GRID_BITS:
                raise SettingError(f"the plan was made on a grid of {values['grid_bits']} bits, not {GRID_BITS}")
            bounds = tuple(int(bound) for bound in values["bounds"])
            return cls(
                bounds=bounds,
                delta=float(values["delta"]),
                adjacency=Adjacency(values["adjacency"]),
                noise=values["noise"],
                parties=int(values.get("parties", 0)),
                honest=int(values.get("honest", 0)),
                picks=int(values.get("picks", 0)),
                groups=int(values.get("groups", 1)),
                levels=tuple(map(Level.named, values["levels"])),
                weights=tuple(sorted((str(name), int(weight)) for name, weight in values["weights"].items())),
            )
        except (ArithmeticError, AttributeError, KeyError, TypeError, ValueError) as error:
            raise SettingError(f"not a plan: {error}") from None


def check_parties(noise: str, parties: int, honest: int) -> None:
    """Refuse what is no way of adding noise.

    Raises:
        SettingError: noise in shares has no parties, too many, or fewer than have to be honest; other noise has any.
    """
    if noise not in get_args(Noise):
        raise SettingError(f"noise is one of {', '.join(get_args(Noise))}")
    right = 0 < honest <= parties <= MOST_PARTIES if noise == "shares" else parties == honest == 0
    if not right:
        raise SettingError(f"noise in shares, and no other, has up to {MOST_PARTIES:,} parties, honest ones among them")
