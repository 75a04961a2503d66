"""What a trained model promises, as a value that can be printed, compared and stored."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from operator import itemgetter
from typing import Any

from discreet.errors import SettingError
from discreet.privacy.accounting import check_delta, epsilon_of, mu_of, odds_of
from discreet.privacy.adjacency import Adjacency, Window
from discreet.privacy.plan import Noise, Plan, check_parties

Costs = tuple[tuple[str, int], ...]
"""Names, each with units of mu^2."""

MOST_UNITS = 1 << 53
"""Far above any price; canonical JSON tells smaller ones exactly."""

NOT_PROTECTED = (
    "how many people took part (treated as public)",
    "a person's own list, from whoever sees it",
)
HISTORIES = "the histories themselves, from whoever runs the training"


@dataclass(frozen=True, kw_only=True)
class Guarantee:
    """The promise of one trained model.

    Attributes:
        units: what the run cost each person, in ledger units of mu^2; None if no noise was added.
        delta: at which ``epsilon`` is read.
        adjacency: who is protected, in words.
        secure: False if the noise came from a test seed; then nothing is promised.
        catalogue_declared: whether the list of items was declared public, or taken from the histories.
        window: part of the calendar within which people are protected, such as ``2024-05``; None: at all times.
        levels: that people chose among, each with what the run cost whoever chose it, in units; none if all cost alike.
        records: sensitive categories, each with what the run cost of what one person did in it, in units.
        noise: who added it, as the plan says.
        parties: with noise in shares, how many there were.
        honest: how many of them had to be honest.
    """

    units: int | None
    delta: float
    adjacency: str = Adjacency.ADD_OR_REMOVE_PERSON.value
    secure: bool = True
    catalogue_declared: bool = False
    window: str | None = None
    levels: Costs = ()
    records: Costs = ()
    noise: Noise = "rounded-gaussian"
    parties: int = 0
    honest: int = 0

    def __post_init__(self) -> None:
        if self.window is not None:
            Window(self.window)
        check_parties(self.noise, self.parties, self.honest)

    @classmethod
    def of(
        cls, plan: Plan, *, secure: bool = True, catalogue_declared: bool = False, window: str | None = None
    ) -> Guarantee:
        """Read the promise off the plan that ran."""
        levels = plan.levels if plan.private else ()
        weights = plan.weights if plan.private else ()
        return cls(
            units=plan.cost if plan.private else None,
            levels=tuple((str(level), plan.cost_at(level)) for level in levels),
            records=tuple((category, plan.record_cost(category)) for category, _ in weights),
            delta=plan.delta,
            adjacency=plan.adjacency.value,
            secure=secure,
            catalogue_declared=catalogue_declared,
            window=window,
            noise=plan.noise if plan.private else "rounded-gaussian",
            parties=plan.parties,
            honest=plan.honest,
        )

    @property
    def trust(self) -> str:
        """Who has to be trusted, in words."""
        match self.noise:
            case "shares":
                return (
                    f"distributed: histories stay with {self.parties:,} parties, each of which adds a share of the "
                    f"noise; enough while {self.honest:,} honest ones are in each sum"
                )
            case "two-servers":
                return "two servers: histories stay with those they are of; enough while the two do not tell each other"
            case _:
                return "central: whoever runs the training sees the histories"

    @property
    def unit(self) -> str:
        """What is protected: a ``person`` with their history, a ``person-month`` and the like, an ``interaction``."""
        unit = "person" if self.window is None else Window(self.window).unit
        return unit.replace("person", "interaction") if self._by_interaction else unit

    @property
    def _by_interaction(self) -> bool:
        return self.adjacency == Adjacency.ADD_OR_REMOVE_INTERACTION.value

    @property
    def private(self) -> bool:
        """Whether anything is promised."""
        return self.units is not None and self.secure

    @property
    def epsilon(self) -> float:
        """Epsilon at ``delta``, in nats, never too low; infinite if nothing is promised."""
        return epsilon_of(self.units, self.delta) if self.units is not None and self.secure else math.inf

    @property
    def mu(self) -> float:
        """mu of Gaussian differential privacy; infinite if nothing is promised."""
        return mu_of(self.units) if self.units is not None and self.secure else math.inf

    @property
    def odds(self) -> float:
        """Best chance, with even odds before, of guessing right whether a person was in the data."""
        return odds_of(self.units) if self.units is not None and self.secure else 1.0

    @property
    def sentence(self) -> str:
        """The promise in plain words."""
        if not self.secure:
            return "NO PROMISE: the noise came from a test seed that anyone can repeat (unsafe_noise)."
        if self.units is None:
            return "NOT PRIVATE: no noise was added. Someone studying this model may learn what a person did."
        by_level = "; ".join(f"{hundred(odds_of(units))} for {level}" for level, units in self.levels[:-1])
        return (
            f"Someone studying this {self._studied} could tell whether {self._subject} in it "
            f"at most {hundred(self.odds)} times out of 100{f' ({by_level})' if by_level else ''}; a coin flip gets 50."
        )

    @property
    def record_sentences(self) -> tuple[str, ...]:
        """The promise about each sensitive category, in plain words."""
        return tuple(
            f"Whether you did anything of {category}: at most {hundred(odds_of(units))} times out of 100."
            for category, units in self.records
        )

    def __str__(self) -> str:
        if not self.private:
            return self.sentence
        lines = (self.sentence, *self.record_sentences, f"{self.claim}.", *self.finer_claims)
        return "\n".join((*lines, f"Not protected: {'; '.join(self.not_protected)}."))

    @property
    def finer_claims(self) -> tuple[str, ...]:
        """The exact numbers of each level, and of each sensitive category."""
        return tuple(
            f"{what} {name}: ({epsilon_of(units, self.delta):.4g}, {self.delta:.3g})-DP, mu = {mu_of(units):.4f}."
            for what, costs in (("Level", self.levels), ("All records of", self.records))
            for name, units in costs
        )

    @property
    def claim(self) -> str:
        """The exact numbers, and between what."""
        return f"({self.epsilon:.4g}, {self.delta:.3g})-DP, mu = {self.mu:.4f}, between {self.neighbours}"

    @property
    def neighbours(self) -> str:
        """The two worlds, in words."""
        if self.window is None:
            return self.adjacency
        if self._by_interaction:
            return f"{self.adjacency} in {self.window}"
        return self.adjacency.replace("one person's whole history", f"one person's history of {self.window}")

    @property
    def _studied(self) -> str:
        return "list" if self._by_interaction or self.noise == "selection" else "model"

    @property
    def _subject(self) -> str:
        if self._by_interaction:
            return "a single choice of yours is"
        return "you were" if self.window is None else f"anything you did in {self.window} was"

    @property
    def not_protected(self) -> tuple[str, ...]:
        """What the promise does not cover."""
        source = "declared public" if self.catalogue_declared else "gathered from the histories, treated as public"
        outside = f"what you did outside {self.window}: each window is paid for by itself, twelve of them twelve times"
        many = "whoever made many choices: k of them are protected k times less, in mu^2"
        chosen = "how many people chose each level (treated as public)"
        told = ((outside, self.window is not None), (many, self._by_interaction), (chosen, bool(self.levels)))
        central = self.noise in {"rounded-gaussian", "selection"}
        seen = HISTORIES if central else "who takes part, and when, from those who add up"
        return (f"the list of item ids ({source})", *(what for what, so in told if so), *NOT_PROTECTED, seen)

    def to_dict(self) -> dict[str, Any]:
        """Return fields and what is read from them, as JSON values."""
        derived = {
            "private": self.private,
            "epsilon": self.epsilon if self.private else None,
            "mu": self.mu if self.private else None,
            "odds": self.odds if self.private else None,
            "unit": self.unit,
            "neighbours": self.neighbours,
            "trust_model": self.trust,
            "sentence": self.sentence,
            "record_sentences": list(self.record_sentences),
            "not_protected": list(self.not_protected),
        }
        finer = {"levels": self._finer(self.levels), "records": self._finer(self.records)}
        return asdict(self) | derived | finer

    def _finer(self, costs: Costs) -> dict[str, dict[str, float]]:
        return {
            name: {
                "units": units,
                "epsilon": epsilon_of(units, self.delta),
                "mu": mu_of(units),
                "odds": odds_of(units),
            }
            for name, units in costs
        }

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Guarantee:
        """Read what ``to_dict`` wrote; what is derived is computed anew.

        Raises:
            SettingError: if it is not a guarantee.
        """
        try:
            return cls(
                units=None if values["units"] is None else _units(values["units"]),
                delta=_delta(values["delta"]),
                adjacency=Adjacency(values["adjacency"]).value,
                secure=bool(values["secure"]),
                catalogue_declared=bool(values["catalogue_declared"]),
                window=values.get("window"),
                levels=tuple(sorted(_costs(values["levels"]), key=itemgetter(1))),  # the strongest costs the least
                records=_costs(values["records"]),
                noise=values.get("noise", "rounded-gaussian"),
                parties=int(values.get("parties", 0)),
                honest=int(values.get("honest", 0)),
            )
        except (ArithmeticError, AttributeError, KeyError, TypeError, ValueError) as error:
            raise SettingError(f"not a guarantee: {error}") from None


def hundred(odds: float) -> int:
    """Return odds as times out of 100, rounded up."""
    return math.ceil(100 * odds - 1e-9)


def _costs(stored: dict[str, dict[str, Any]]) -> Costs:
    costs = sorted((str(name), _units(cost["units"])) for name, cost in stored.items())
    "".join(name for name, _ in costs).encode()  # half a character is a ValueError
    return tuple(costs)


def _units(stored: Any) -> int:
    units = int(stored)
    if not 0 <= units < MOST_UNITS:
        raise ValueError("no such price")
    return units


def _delta(stored: Any) -> float:
    delta = float(stored)
    check_delta(delta)
    return delta
