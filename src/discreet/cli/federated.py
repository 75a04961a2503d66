"""``discreet federated``: training where the data stays with many parties."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from discreet.cli.data import LedgerPlace
from discreet.cli.federated_demo import demo
from discreet.cli.models import Data, KindOption, opened
from discreet.cli.output import Json, progress, say, say_json, screen, table

if TYPE_CHECKING:
    from collections.abc import Sequence

    from discreet.evaluation.federation import Federated
    from discreet.models.base import Model, State
    from discreet.models.recipe import Kind
    from discreet.service.halves import Second

app = typer.Typer(no_args_is_help=True)
app.command()(demo)


@app.callback()
def _group() -> None:
    """Train where the data stays with many parties."""


@app.command()
def simulate(
    data: Data,
    clients: Annotated[
        int, typer.Option("--clients", min=1, help="Parties that people are divided among; as many as people: devices.")
    ] = 50,
    epsilon: Annotated[float, typer.Option("--epsilon", help="Of the run, in nats; inf adds no noise.")] = 1.0,
    lost: Annotated[float, typer.Option("--lost", help="Share of parties lost in each sum, 0 to 0.45.")] = 0.1,
    way: Annotated[
        list[str] | None,
        typer.Option("--way", help="central, secagg or two-servers; may be repeated. Without it: all."),
    ] = None,
    model: KindOption = "auto",
    seeds: Annotated[int, typer.Option("--seeds", min=1, help="How many splits.")] = 3,
    held_out: Annotated[int, typer.Option("--held-out", min=1, help="People of each split to measure on.")] = 140,
    as_json: Json = False,
) -> None:
    """Train as a federation would, in this process, and compare with training in one place at the same epsilon.

    Every message of the protocols is made and read. Trains and throws away; nothing is billed or published. The figures
    are exact: for whoever may see the data, which needs to be collected for measure-quality.
    """
    from discreet.evaluation.federation import WAYS, federate

    histories = opened(data)
    with progress() as bars:
        bar = bars.add_task("simulating", total=len(way or WAYS) * seeds)
        found = federate(
            histories,
            epsilon=epsilon,
            parties=clients,
            lost=lost,
            ways=way or WAYS,
            kind=cast("Kind", model),
            seeds=seeds,
            held_out=held_out,
            progress=lambda doing: bars.update(bar, advance=1, description=doing),
        )
    if as_json:
        say_json([each.to_dict() for each in found])
    else:
        promised = f"at epsilon {epsilon:g}" if found[0].private else "without noise: NOT private"
        _show(found, f"{histories.dataset} {promised}")


@app.command()
def key(
    path: Annotated[Path, typer.Argument(help="File for the key; must not exist.")],
    as_json: Json = False,
) -> None:
    """Make a server's key, with which clients and the other server seal and agree; print its public half."""
    from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

    from discreet.governance.keyfiles import make_key

    public = make_key(path, X25519PrivateKey).hex()
    if as_json:
        say_json({"public": public})
    else:
        say(public)


@app.command()
def allowance(
    epsilon: Annotated[float, typer.Option("--epsilon", help="That a device may spend, in nats.")],
    delta: Annotated[float, typer.Option("--delta", help="At which that is read.")] = 1e-5,
    as_json: Json = False,
) -> None:
    """Print how many units of mu^2 an epsilon is: what a device is told that it may spend."""
    from discreet.privacy.accounting import cap

    units = cap(epsilon, delta)
    if as_json:
        say_json({"epsilon": epsilon, "delta": delta, "units": units})
    else:
        say(str(units))


Roster = Annotated[Path, typer.Option("--roster", help="Public keys of all devices, hex, one a line.")]
Host = Annotated[str, typer.Option("--host", help="To listen on; another than this machine's needs TLS.")]
Port = Annotated[int, typer.Option("--port", min=1, max=65_535)]
Certificate = Annotated[Path | None, typer.Option("--certificate", help="PEM, with its chain.")]
TlsKey = Annotated[Path | None, typer.Option("--key", help="Of the certificate, PEM.")]
Survivors = Annotated[int, typer.Option("--survivors", min=3, help="Fewest vectors in a sum.")]
Exchange = Annotated[Path | None, typer.Option("--exchange-key", help="This server's, made by `federated key`.")]


@app.command()
def coordinate(
    roster: Roster,
    items: Annotated[Path, typer.Option("--items", help="Ids of all items, one a line.")],
    dataset: Annotated[str, typer.Option("--dataset", help="Name of what devices hold, as the ledger has it.")],
    ledger: LedgerPlace,
    epsilon: Annotated[float, typer.Option("--epsilon", help="Of the run, in nats.")],
    out: Annotated[Path, typer.Option("--out", help="Model file; must not exist.")],
    folder: Annotated[Path, typer.Option("--folder", help="Of the run: what devices said, until it is used up.")],
    release: Annotated[str, typer.Option("--release", help="Id of the run; the same again goes on with it.")],
    model: KindOption = "auto",
    lost: Annotated[float, typer.Option("--lost", help="Share of devices that may be lost in a round.")] = 0.1,
    colluding: Annotated[float, typer.Option("--colluding", help="Share whose noise is not counted on.")] = 0.1,
    host: Host = "127.0.0.1",
    port: Port = 8443,
    certificate: Certificate = None,
    key: TlsKey = None,
    patience: Annotated[float, typer.Option("--patience", min=0, help="Seconds that a stage stays open.")] = 30.0,
    linger: Annotated[
        float, typer.Option("--linger", min=0, help="Seconds to hand the model out for, at the end.")
    ] = 10.0,
    first: Annotated[str | None, typer.Option("--first", help="Address of the first of two servers.")] = None,
    first_key: Annotated[str | None, typer.Option("--first-key", help="Its public key, pinned.")] = None,
    first_ca: Annotated[Path | None, typer.Option("--first-ca", help="What its certificate is signed by.")] = None,
    identity: Annotated[Path | None, typer.Option("--identity", help="This server's signing key.")] = None,
    exchange: Exchange = None,
    question: Annotated[
        str | None, typer.Option("--ask", help="lengths or evaluation, instead of training; the answer is JSON.")
    ] = None,
    of: Annotated[Path | None, typer.Option("--of", help="Released model that is to be evaluated.")] = None,
    as_json: Json = False,
) -> None:
    """Train with devices over HTTPS, and publish the model: by secure aggregation, or as the second of two servers."""
    from discreet.client.enrolment import read_lines, read_roster
    from discreet.data.catalogue import Catalogue
    from discreet.files import writing
    from discreet.governance.ledger import Ledger
    from discreet.service.coordination import Federation, ask
    from discreet.service.coordination import coordinate as train
    from discreet.service.listening import Address

    federation = Federation(
        read_roster(roster),
        Catalogue(tuple(sorted(read_lines(items)))),
        dataset,
        lost=lost,
        colluding=colluding,
        second=_second(first, first_key, first_ca, identity, exchange),
        patience=patience,
        linger=linger,
    )
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
    address = Address(host, port, certificate, key)
    if question is not None:
        asked = _question(question, of, len(federation.catalogue))
        with Ledger(ledger) as book:
            answer = ask(
                federation,
                *asked,
                epsilon=epsilon,
                ledger=book,
                release=release,
                folder=folder,
                out=out,
                address=address,
            )
        say_json(answer)
        return
    with Ledger(ledger) as book, progress() as bars:
        bar = bars.add_task("rounds", total=None)
        trained = train(
            federation,
            epsilon=epsilon,
            ledger=book,
            release=release,
            folder=folder,
            out=out,
            address=address,
            kind=cast("Kind", model),
            progress=lambda done, planned: bars.update(bar, completed=done, total=planned),
        )
    if as_json:
        say_json({"out": str(out), "release": trained.release, "guarantee": trained.guarantee.to_dict()})
    else:
        say(f"{out}: {trained!r}")


@app.command()
def first_server(
    roster: Roster,
    exchange: Annotated[Path, typer.Option("--exchange-key", help="This server's, made by `federated key`.")],
    second: Annotated[str, typer.Option("--second", help="Signing key of the second server (public, hex), pinned.")],
    survivors: Survivors = 10,
    host: Host = "127.0.0.1",
    port: Port = 8444,
    certificate: Certificate = None,
    key: TlsKey = None,
) -> None:
    """Serve as the first of two servers, until stopped: adds masks up, and noise of its own."""
    import asyncio
    from contextlib import closing

    from discreet.client.enrolment import public_keys, read_roster
    from discreet.governance.keyfiles import exchange_key
    from discreet.service.federated import first_server as app_of
    from discreet.service.halves import First
    from discreet.service.listening import Address

    (pinned,) = public_keys([second], "--second")
    first = First(read_roster(roster), exchange_key(exchange), pinned, survivors)
    address = Address(host, port, certificate, key)
    with closing(address.bound()) as listening:
        asyncio.run(address.serving(app_of(first)).serve(sockets=[listening]))


def _question(name: str, of: Path | None, items: int) -> tuple[Model, State]:
    """Return a question to devices, and what it needs to be known."""
    import json
    from dataclasses import asdict

    from discreet.errors import SettingError
    from discreet.models.queries import Hits, LengthCounts
    from discreet.models.trained import Trained

    if name == "lengths":
        question = LengthCounts(items=items)
        return question, question.start()
    if name != "evaluation" or of is None:
        raise SettingError("devices are asked for lengths, or for an evaluation of a released model: give --of MODEL")
    trained = Trained.load(of)
    settings = json.dumps(asdict(trained.model), sort_keys=True)
    return Hits(items=items, of=trained.model.name, settings=settings), trained.state


def _second(
    address: str | None, first_key: str | None, ca: Path | None, identity: Path | None, exchange: Path | None
) -> Second | None:
    from discreet.client.enrolment import public_keys
    from discreet.client.wire import Wire
    from discreet.errors import SettingError
    from discreet.governance.keyfiles import exchange_key, signing_key
    from discreet.service.halves import Second

    if address is None:
        return None
    if first_key is None or identity is None or exchange is None:
        raise SettingError("as the second of two servers give --first-key, --identity and --exchange-key, too")
    (pinned,) = public_keys([first_key], "--first-key")
    return Second(exchange_key(exchange), pinned, Wire(address, signing_key(identity), -1, ca))


def _show(found: Sequence[Federated], title: str) -> None:
    columns = ("way", "parties", "recall@20", "noise", "ring", "kB up", "x vectors", "CPU s")
    shown = table(title, *columns)
    shown.columns[0].no_wrap = True
    for each in found:
        masked = each.bits > 0
        shown.add_row(
            each.way,
            f"{each.parties:,}",
            f"{each.quality.mean:.3f} ±{each.quality.error:.3f}",
            f"x {each.noise:.2f}",
            f"{each.bits} bits" if masked else "",
            f"{each.up / 1e3:,.0f}" if masked else "",
            f"{each.up / each.packed:.3f}" if masked else "",
            f"{each.seconds:.1f}",
        )
    screen.print(shown)
    say(
        "noise: over that of central training. kB up: sent by each party, and over its packed vectors. CPU: of all.",
        "dim",
    )
