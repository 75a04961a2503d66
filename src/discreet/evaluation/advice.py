"""Which way to make lists privately: measured on this machine, priced for a network, held against what may be assumed.

The work of each way is done for a made-up model of the size that is asked about, in this process; a network is added by
arithmetic: round trips, and bytes over the bandwidth. So times are those of an idle server and one person.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from discreet.data.catalogue import Catalogue
from discreet.errors import SettingError
from discreet.inference import encrypted, garbled, mpc, on_device, shared
from discreet.inference.mpc import Engine
from discreet.models.subspace import Subspace
from discreet.models.trained import Trained
from discreet.privacy.guarantee import Guarantee
from discreet.privacy.plan import Plan
from discreet.protocols.encryption import MOST_WIDTH, Scheme
from discreet.protocols.oblivious import Step

RUNS = 5
LISTED = 20
KNOWN = 30
"""Items of the history that is asked with."""
TRUSTS = ("nobody", "two-servers", "three-servers", "the-server")
"""What may be assumed, each beside the ones before: nothing of servers; that two do not tell each other; that two of
three do not; that the one who serves forgets."""
MODELS = ("public", "secret")
MOST_ITEMS = 1 << 20
MPC_ROUNDS = 100
"""Messages of three servers to one another, one after the other: of SPU's 80 to 160 for lists (upper bounds)."""

Made = TypeVar("Made")


@dataclass(frozen=True)
class Nature:
    """What a way is, whatever it costs.

    Attributes:
        assumes: of ``TRUSTS``, what has to be.
        server_learns: of a history.
        person_learns: of the model.
        gives_model_away: whether a person can get the whole of it by asking.
        assumption: in words.
        maturity: of the code.
    """

    assumes: str
    server_learns: str
    person_learns: str
    gives_model_away: bool
    assumption: str
    maturity: str


_FETCHES = "that somebody asked, and of how many new items, in sixteens"
NATURES: Mapping[str, Nature] = {
    "on_device": Nature("nobody", "that somebody asked", "the model", True, "nothing", "Stable"),
    "encrypted": Nature(
        "nobody",
        "that somebody asked, and which questions are under one key",
        "every score",
        True,
        "lattices: ring learning with errors",
        "New; SEAL inside",
    ),
    "shared": Nature("two-servers", _FETCHES, "every score", True, "two servers do not tell each other", "New"),
    "garbled": Nature(
        "two-servers",
        _FETCHES,
        "the list alone",
        False,
        "two servers do not tell each other, and follow the protocol",
        "Experimental, unaudited; among 4,000 candidates",
    ),
    "mpc": Nature(
        "three-servers",
        "that somebody asked; nor do servers see the model",
        "the list alone",
        False,
        "of three servers two are honest, and all follow the protocol",
        "Experimental; SPU inside",
    ),
    "plain": Nature("the-server", "the history and the list", "the list alone", False, "it forgets both", "Stable"),
}
"""Ways to make lists, from the fewest assumptions to the most."""


@dataclass(frozen=True)
class Cost:
    """What a list costs.

    Attributes:
        server_ms: of the busiest server, CPU; of ``mpc``, wall time of all three on this machine.
        device_ms: CPU.
        up: bytes from the device, to all servers.
        down: bytes to it.
        rounds: round trips, of the device or between servers, one after the other.
        between: bytes that servers send each other; 0 for ``mpc``, where they are not counted.
        once: bytes that travel before the first list, per model or per key.
        server_memory: bytes that a server holds of the model.
        device_memory: bytes that a device holds of it.
    """

    server_ms: float
    device_ms: float
    up: int
    down: int
    rounds: int
    between: int
    once: int
    server_memory: int
    device_memory: int

    def latency(self, bandwidth: float, rtt: float) -> float:
        """Return the seconds until a list is there, on a network of so many bits a second and seconds a round trip."""
        return (self.server_ms + self.device_ms) / 1e3 + self.rounds * rtt + 8 * (self.up + self.down) / bandwidth


@dataclass(frozen=True)
class Option:
    """A way, and what it comes to here.

    Attributes:
        way: its name.
        nature: what it is.
        cost: None if it was not measured here.
        latency: seconds, or None.
        against: why it is not for whoever asks; empty if it is.
    """

    way: str
    nature: Nature
    cost: Cost | None
    latency: float | None
    against: str

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as JSON values."""
        return asdict(self)


@dataclass(frozen=True)
class Advice:
    """All ways, and the one to take.

    Attributes:
        options: in the order of ``NATURES``.
        way: the one to take, or None if none will do.
        reason: in a sentence.
    """

    options: tuple[Option, ...]
    way: str | None
    reason: str

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as JSON values."""
        return {"way": self.way, "reason": self.reason, "options": [each.to_dict() for each in self.options]}


def advise(
    costs: Mapping[str, Cost], *, bandwidth: float, rtt: float, latency: float, trust: str, model: str
) -> Advice:
    """Choose a way.

    Of those whose assumptions hold and that keep the model as secret as it has to be, the one that assumes least among
    those that are fast enough; if none is, the fastest.

    Args:
        costs: as measured; a way that is not among them is told, and not chosen.
        bandwidth: bits a second.
        rtt: seconds of a round trip.
        latency: seconds that a list may take.
        trust: of ``TRUSTS``.
        model: of ``MODELS``.

    Raises:
        SettingError: an argument is out of its range.
    """
    if trust not in TRUSTS or model not in MODELS:
        raise SettingError(f"trust is one of {', '.join(TRUSTS)}, the model one of {', '.join(MODELS)}")
    if not all(0 < value < float("inf") for value in (bandwidth, latency)) or not 0 <= rtt < float("inf"):
        raise SettingError("bandwidth and latency are above 0, and a round trip is not below it")
    options = []
    for way, nature in NATURES.items():
        cost = costs.get(way)
        seconds = None if cost is None else cost.latency(bandwidth, rtt)
        against = ""
        if TRUSTS.index(nature.assumes) > TRUSTS.index(trust):
            against = f"needs more trust: {nature.assumption}"
        elif model == "secret" and nature.gives_model_away:
            against = f"it gives the model away: a person learns {nature.person_learns}"
        elif cost is None:
            against = "not measured here"
        options.append(Option(way, nature, cost, seconds, against))
    able = [each for each in options if not each.against]
    fast = [each for each in able if each.latency is not None and each.latency <= latency]
    if fast:
        chosen = fast[0]
        reason = f"{chosen.way} assumes least of those that are fast enough: {chosen.nature.assumption}"
    elif able:
        chosen = min(able, key=lambda each: each.latency or 0.0)
        reason = f"none is as fast as {latency * 1e3:,.0f} ms; {chosen.way} is the fastest of those that may be used"
    else:
        return Advice(tuple(options), None, "none may be used: allow for more trust, or for a model that is public")
    return Advice(tuple(options), chosen.way, reason)


def measure(
    items: int,
    dim: int,
    scheme: Scheme | None = None,
    engine: Engine | None = None,
    progress: Callable[[str], None] = lambda _: None,
) -> dict[str, Cost]:
    """Measure each way that can be measured on this machine, for a made-up model.

    Args:
        items: 100 to 2^20.
        dim: of factors, 2 to 256.
        scheme: what queries are encrypted with; None leaves ``encrypted`` out.
        engine: what three servers compute with; None leaves ``mpc`` out.
        progress: told the name of each way before it is measured.

    Raises:
        SettingError: a size is out of its range.
        EngineLost: the engine was lost.
    """
    if not 100 <= items <= MOST_ITEMS or not 2 <= dim <= MOST_WIDTH:
        raise SettingError(f"items are 100 to {MOST_ITEMS:,}, dimensions 2 to {MOST_WIDTH}")
    trained = made_up(items, dim)
    history = histories(items, 1, KNOWN)[0]
    works: dict[str, Callable[[], Cost]] = {
        "plain": lambda: _plain(trained, history),
        "on_device": lambda: _on_device(trained, history),
        "shared": lambda: _shared(trained, history),
        "garbled": lambda: _garbled(trained, history),
    }
    if scheme is not None:
        works["encrypted"] = lambda: _encrypted(trained, history, scheme)
    if engine is not None:
        works["mpc"] = lambda: _mpc(trained, history, engine)
    found = {}
    for way, work in works.items():
        progress(way)
        found[way] = work()
    return found


def made_up(items: int, dim: int) -> Trained:
    """Return a model with factors like those of a catalogue: a spectrum that falls, rows of uneven length."""
    random = np.random.default_rng(items)
    spectrum = np.arange(1, dim + 1) ** -0.5
    lengths = random.uniform(0.5, 2.0, (items, 1))
    decoder = random.standard_normal((items, dim)) * spectrum * lengths
    encoder = decoder * random.uniform(0.5, 2.0, (items, 1)) * spectrum
    model = Subspace(people=items, mu=None, items=items, kept=items, scouted=items, rank=dim - 1)
    state: dict[str, NDArray[Any]] = {
        "round": np.array(model.rounds),
        "counts": random.pareto(1.0, items).astype(np.float32),
        "precision": np.array(1.0),
        "kept": np.arange(items),
        "encoder": encoder.astype(np.float32),
        "decoder": decoder.astype(np.float32),
    }
    plan = Plan(bounds=(1 << 14,) * model.rounds, delta=1e-6, noise="none")
    catalogue = Catalogue(tuple(range(items)))
    return Trained(model, state, plan, Guarantee.of(plan), catalogue, "made up", "measure-quality", items)


def histories(items: int, people: int, longest: int = 60) -> list[list[int]]:
    """Return distinct items of each of some people."""
    random = np.random.default_rng(1)
    lengths = random.integers(min(5, longest), longest + 1, people)
    return [random.choice(items, int(length), replace=False).tolist() for length in lengths]


def _plain(trained: Trained, history: Sequence[int]) -> Cost:
    server, made = _timed(lambda: trained.recommend(history, LISTED))
    up, down = (len(",".join(map(str, what))) for what in (history, made.items))
    return Cost(server, 0.0, up, down, 1, 0, 0, _size(trained), 0)


def _on_device(trained: Trained, history: Sequence[int]) -> Cost:
    server = on_device.Server(trained)
    device = on_device.Device(LISTED, server.model)
    request, kept = device.ask(history)
    reply = server.answer(request)
    spent, _ = _timed(lambda: device.read(reply, kept))
    size = len(server.model)
    return Cost(0.0, spent, 0, 0, 0, 0, size, size, size)  # no list needs a server


def _shared(trained: Trained, history: Sequence[int]) -> Cost:
    server = shared.Server(trained)
    both = shared.Shared(shared.Device(server.outline, LISTED), (server, server))
    places, *_ = both.device.wanted(history)
    question = both.device.fetch(places).questions[0]
    once = len(server.outline.to_bytes()) + 2 * (len(question) + len(server.row(question)))
    asking, (request, kept) = _timed(lambda: both.ask(history))
    spent, first = _timed(lambda: server.answer(request[0]))
    begun = time.process_time()
    both.read((first, server.answer(request[1])), kept)
    reading = max(1e3 * (time.process_time() - begun) - spent, 0.0)
    matrix = trained.state["decoder"]
    memory = 4 * matrix.size  # both matrices, int16
    up, down, outline = sum(map(len, request)), 2 * len(first), len(server.outline.to_bytes())
    return Cost(spent, asking + reading, up, down, 1, 0, once, memory, outline)


def _garbled(trained: Trained, history: Sequence[int]) -> Cost:
    pair = garbled.Pair(garbled.Server(trained, 0, LISTED), garbled.Server(trained, 1, LISTED))
    terms, outline = pair.servers[0].terms, pair.servers[0].outline
    device = garbled.Device(outline, LISTED)
    way = garbled.Garbled(device, pair)
    asking, (request, kept) = _timed(lambda: way.ask(history))
    pair.prepare(RUNS + 1)
    both, answers = _timed(lambda: pair.answer(request))
    begun = time.process_time()
    device.read(answers, kept)
    reading = 1e3 * (time.process_time() - begun)
    memory = 4 * trained.state["decoder"].size + terms.passed_size(Step.CIRCUIT)
    up, down, size = sum(map(len, request)), sum(map(len, answers)), len(outline.to_bytes())
    between = sum(map(terms.passed_size, Step))
    # Of what both did nearly all is the evaluation: that is the second server's.
    return Cost(both, asking + reading, up, down, 2, between, size, memory, size)


def _encrypted(trained: Trained, history: Sequence[int], scheme: Scheme) -> Cost:
    server = encrypted.Server(trained, scheme)
    device = encrypted.Device(server.outline, scheme, LISTED)
    asking, (request, kept) = _timed(lambda: device.ask(history))
    server.key(request.key)
    spent, reply = _timed(lambda: server.answer(request.question))
    begun = time.process_time()
    device.read(reply, kept)
    reading = 1e3 * (time.process_time() - begun)
    outline = len(server.outline.to_bytes())
    memory = scheme.memory(*trained.state["decoder"].shape)
    once = outline + len(request.key)
    return Cost(spent, asking + reading, len(request.question), len(reply), 1, 0, once, memory, outline)


def _mpc(trained: Trained, history: Sequence[int], engine: Engine) -> Cost:
    way = mpc.Mpc.here(trained, engine, LISTED)
    asking, (request, kept) = _timed(lambda: way.ask(history))
    reply, times = way.answer(request), []
    for _ in range(RUNS):
        request, kept = way.ask(history)
        begun = time.perf_counter()  # what is computed is computed by other processes
        reply = way.answer(request)
        times.append(1e3 * (time.perf_counter() - begun))
    begun = time.process_time()
    way.read(reply, kept)
    reading = 1e3 * (time.process_time() - begun)
    outline, matrices = len(way.device.outline.to_bytes()), 2 * 2 * 8 * trained.state["decoder"].size
    up, down = sum(map(len, request)), sum(map(len, reply))
    spent = float(np.median(times))
    return Cost(spent, asking + reading, up, down, MPC_ROUNDS, 0, outline, matrices, outline)


def _timed(work: Callable[[], Made]) -> tuple[float, Made]:
    """Return the median CPU time in ms, after a first run that does not count, and what was made last."""
    made, times = work(), []
    for _ in range(RUNS):
        begun = time.process_time()
        made = work()
        times.append(1e3 * (time.process_time() - begun))
    return float(np.median(times)), made


def _size(trained: Trained) -> int:
    return sum(array.nbytes for array in trained.state.values())
